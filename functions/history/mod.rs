//! `history`: who did what, newest first.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::HistoryPage;
use wharfage::domain::history::{Entity, Entry};
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{ACCOUNT, account_of, authenticate, s3uid, token};

crate::s3_action!(
    "history",
    takes [
        ACCOUNT,
        &["client_id", "actor_id", "limit", "offset", "next_token"],
    ]
);

const DEFAULT_LIMIT: u64 = 50;
const LARGEST_LIMIT: u64 = 500;
/// Skipping costs as much as reading: whoever goes further goes by `next_token`.
const LARGEST_OFFSET: u64 = 10_000;

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let parameters = &call.parameters;
    let id = parameters.number(&["id"], ID)?;
    let account_id = parameters.number(&["account_id"], ID)?;
    let s3uid = s3uid(call)?;
    let client_id = parameters.number(&["client_id"], ID)?;
    let limit = parameters
        .number(&["limit"], 1..=LARGEST_LIMIT)?
        .unwrap_or(DEFAULT_LIMIT);
    let offset = parameters
        .number(&["offset"], 0..=LARGEST_OFFSET)?
        .unwrap_or(0);
    let next = match parameters.text(&["next_token"])? {
        Some(text) => Some(decode(&text)?),
        None => None,
    };
    let actor_id = parameters.number(&["actor_id"], ID)?;
    let caller = authenticate(context, call).await?;
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (limit, offset) = (size(limit), size(offset));
    if let Some(actor_id) = actor_id {
        caller.must_be_admin()?;
        if ["client_id", "s3uid", "account_id", "id"]
            .into_iter()
            .any(|name| parameters.is_given(name))
        {
            let rule = "goes with no other name of what to show the history of";
            return Err(Rejection::invalid("actor_id", rule).into());
        }
        let database = &context.database;
        let page = database
            .history_by(actor_id, limit, offset, next.as_deref())
            .await?;
        return Ok(answer(page));
    }
    let account;
    let entity = match (&s3uid, account_id, id) {
        (Some(s3uid), _, _) => {
            // Terminated accounts are gone, their history is not.
            account = context
                .database
                .account(s3uid)
                .await?
                .filter(|account| caller.is_admin() || account.client_id == caller.client_id)
                .ok_or_else(Rejection::account_not_found)?;
            Entity::Account(&account.s3uid)
        }
        // As everywhere: beside `account_id`, an admin's `id` names the client whose account it is, if it is there.
        (None, Some(account_id), _) => {
            let client_id = caller.client_named(call)?;
            account = account_of(context, client_id, account_id)
                .await?
                .ok_or_else(Rejection::account_not_found)?;
            Entity::Account(&account.s3uid)
        }
        (None, None, _) if let Some(client_id) = client_id => {
            if client_id != caller.client_id {
                caller.must_be_admin()?;
            }
            Entity::Client(client_id)
        }
        (None, None, Some(id)) if caller.is_admin() => {
            context
                .database
                .plan(id)
                .await?
                .ok_or_else(|| Rejection::not_found("S3 plan not found"))?;
            Entity::Plan(id)
        }
        (None, None, Some(id)) => {
            account = context
                .database
                .account_by_number(caller.client_id, id)
                .await?
                .ok_or_else(Rejection::account_not_found)?;
            Entity::Account(&account.s3uid)
        }
        (None, None, None) => Entity::Client(caller.client_id),
    };
    let page = context
        .database
        .history(&entity, limit, offset, next.as_deref())
        .await?;
    Ok(answer(page))
}

fn answer(page: HistoryPage) -> Answer {
    let mut answer = json!({ "history": page.entries.iter().map(wire).collect::<Vec<Value>>() });
    if let Some(next) = page.next {
        answer["next_token"] = URL_SAFE_NO_PAD.encode(next).into();
    }
    Answer::ok(answer)
}

fn decode(text: &str) -> Result<String, Rejection> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Rejection::invalid("next_token", "is not one that history gave"))
}

fn wire(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "date": format!("{:.0}", entry.at),
        "action": entry.action,
        "actor": entry.actor.name,
        "role": entry.actor.role,
        "ip": entry.actor.ip,
        "entity": entry.entity_kind,
        "entity_id": entry.entity_id,
        "details": entry.details,
    })
}
