//! `history`: who did what, newest first.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharfage::context::Context;
use wharfage::database::HistoryPage;
use wharfage::domain::account::AccountId;
use wharfage::domain::client::ClientId;
use wharfage::domain::history::{Entity, Entry};
use wharfage::domain::plan::PlanId;
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::account_of;
use wharfage::http::values::{Id, Limit, Offset, S3Uid, Second, Whole};

crate::action! {
    /// Returns the history of an account, a plan or a client, or of what an administrator did, newest first.
    ///
    /// The last page has no `next_token`.
    "history" of Everybody, about (), with place,
        refuses [AccountNotFound, PlanNotFound, AdministratorsOnly]
}

/// What it takes. Without a name of what, it is the caller's own.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// For administrators, a plan; with `account_id`, the client who owns the account. For clients, one of their accounts.
    id: Option<Id>,
    /// The account, by its number.
    account_id: Option<Id>,
    /// The account, by its permanent name; it may be terminated.
    s3uid: Option<S3Uid>,
    /// The client.
    client_id: Option<Id>,
    /// Entries per page.
    #[serde(default)]
    limit: Limit<50, 500>,
    /// Entries to skip. Skipping costs as much as reading: prefer `next_token`.
    #[serde(default)]
    offset: Offset<10_000>,
    /// The `next_token` of the page before.
    next_token: Option<String>,
    /// For administrators: the actor. It excludes all other filters.
    actor_id: Option<Id>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The entries.
    history: Vec<EntryShown>,
    /// Pass it with the same parameters to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// What somebody did.
#[derive(Debug, Serialize, JsonSchema)]
struct EntryShown {
    /// Its identifier; entries sort by it.
    id: String,
    /// When.
    date: Second,
    /// What was done.
    action: String,
    /// Who did it: an email, or a part of the system.
    actor: String,
    /// In which role: `client`, `admin` or `system`.
    role: String,
    /// From which address.
    ip: Option<String>,
    /// To what kind of thing: `account`, `plan` or `client`.
    entity: String,
    /// To which of them.
    entity_id: String,
    /// What else there is to say.
    details: Value,
}

impl From<&Entry> for EntryShown {
    fn from(entry: &Entry) -> EntryShown {
        EntryShown {
            id: entry.id.clone(),
            date: Second(entry.at),
            action: entry.action.clone(),
            actor: entry.actor.name.clone(),
            role: entry.actor.role.clone(),
            ip: entry.actor.ip.clone(),
            entity: entry.entity_kind.clone(),
            entity_id: entry.entity_id.clone(),
            details: entry.details.clone(),
        }
    }
}

/// Where a page ended.
type Place = Option<String>;

async fn place(_: &Context, asked: &Asked) -> Result<Place, Error> {
    Ok(asked.next_token.as_deref().map(decode).transpose()?)
}

async fn handle(context: &Context, call: Call<'_, Asked>, next: Place) -> Result<Answered, Error> {
    let (caller, asked) = (call.caller, call.parameters);
    let number = |id: Option<Id>| id.map(|Whole(id)| id);
    let (id, account_id, client_id) = (
        number(asked.id),
        number(asked.account_id).map(AccountId),
        number(asked.client_id).map(ClientId),
    );
    let s3uid = asked.s3uid.map(|S3Uid(s3uid)| s3uid);
    let (limit, offset) = (asked.limit.items(), asked.offset.items());
    let actor_id = number(asked.actor_id).map(ClientId);
    if let Some(actor_id) = actor_id {
        caller.must_be_admin()?;
        if ["client_id", "s3uid", "account_id", "id"]
            .into_iter()
            .any(|name| call.raw.parameters.is_given(name))
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
            let client_id = caller.client_of(id.map(ClientId))?;
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
                .plan(PlanId(id))
                .await?
                .ok_or_else(Rejection::plan_not_found)?;
            Entity::Plan(PlanId(id))
        }
        (None, None, Some(id)) => {
            account = context
                .database
                .account_by_number(caller.client_id, AccountId(id))
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

fn answer(page: HistoryPage) -> Answered {
    Answered {
        history: page.entries.iter().map(EntryShown::from).collect(),
        next_token: page.next.map(|next| URL_SAFE_NO_PAD.encode(next)),
    }
}

fn decode(text: &str) -> Result<String, Rejection> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Rejection::invalid("next_token", "is not one that history gave"))
}
