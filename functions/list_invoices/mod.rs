//! `list_invoices`: a client's invoices, newest first.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::invoice::InvoiceStatus;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{ACCOUNT, account_of, authenticate, s3uid, token};

use crate::invoices;

crate::s3_action!("list_invoices", takes [ACCOUNT, &["status", "limit", "next_token"]]);

const DEFAULT_LIMIT: u64 = 50;
const LARGEST_LIMIT: u64 = 500;

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let parameters = &call.parameters;
    let mut s3uid = s3uid(call)?;
    let account_id = parameters.number(&["account_id"], ID)?;
    let limit = parameters
        .number(&["limit"], 1..=LARGEST_LIMIT)?
        .unwrap_or(DEFAULT_LIMIT);
    let before = parameters.number(&["next_token"], ID)?;
    let status: Option<InvoiceStatus> = parameters
        .text(&["status"])?
        .map(|status| {
            status
                .parse()
                .map_err(|_| Rejection::invalid("status", "must be open or paid"))
        })
        .transpose()?;
    let caller = authenticate(context, call).await?;
    let mut client_id = caller.client_named(call)?;
    // An account is some client's: staff need not know whose.
    if s3uid.is_none()
        && let Some(id) = account_id
    {
        let account = account_of(context, client_id, id).await?;
        let account = account.ok_or_else(Rejection::account_not_found)?;
        client_id = Some(account.client_id);
        s3uid = Some(account.s3uid);
    } else if let (Some(s3uid), None) = (&s3uid, client_id) {
        let account = context.database.account(s3uid).await?;
        client_id = Some(account.ok_or_else(Rejection::account_not_found)?.client_id);
    }
    // A page is what was looked at: one with a filter may be short, an absent next_token alone is the end.
    let database = &context.database;
    let (page, next) = match client_id {
        Some(client_id) => {
            let page = database.invoice_page(client_id, before, limit).await?;
            let is_full = page.len() as u64 == limit;
            let last = page.last().map(|invoice| invoice.invoice_id);
            (page, last.filter(|_| is_full))
        }
        None => {
            let currencies = invoices::currencies(context).await?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let page = database.anybodys_invoice_page(&currencies, before, limit);
            page.await?
        }
    };
    let invoices: Vec<Value> = page
        .iter()
        .filter(|invoice| s3uid.as_ref().is_none_or(|s3uid| *s3uid == invoice.s3uid))
        .filter(|invoice| status.is_none_or(|status| status == invoice.status()))
        .map(|invoice| invoices::summary(invoice).into())
        .collect();
    let mut answer = json!({ "invoices": invoices });
    if let Some(next) = next {
        answer["next_token"] = next.to_string().into();
    }
    Ok(Answer::ok(answer))
}
