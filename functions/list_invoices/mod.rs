//! `list_invoices`: a client's invoices, newest first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::account::AccountId;
use wharfage::domain::client::ClientId;
use wharfage::domain::invoice::{InvoiceId, InvoiceStatus};
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::account_of;
use wharfage::http::values::{Id, Limit, PageToken, S3Uid, Whole};

use crate::invoices::{self, InvoiceShown};

crate::action! {
    /// Lists a client's invoices, newest first.
    ///
    /// With a filter, a page may be short or empty. The last page has no `next_token`.
    "list_invoices" of Everybody, about (),
        refuses [AccountNotFound]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// Filter: the account, by its permanent name.
    s3uid: Option<S3Uid>,
    /// Filter: the account, by its number.
    account_id: Option<Id>,
    /// Invoices examined per page.
    #[serde(default)]
    limit: Limit<50, 500>,
    /// The `next_token` of the page before.
    next_token: Option<PageToken>,
    /// Filter: the status.
    status: Option<InvoiceStatus>,
    /// The client. Without it, administrators see every client's.
    id: Option<Id>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The invoices.
    invoices: Vec<InvoiceShown>,
    /// Pass it with the same parameters to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

async fn handle(context: &Context, call: Call<'_, Asked>) -> Result<Answered, Error> {
    let asked = call.parameters;
    let number = |id: Option<Id>| id.map(|Whole(id)| id);
    let mut s3uid = asked.s3uid.map(|S3Uid(s3uid)| s3uid);
    let account_id = number(asked.account_id).map(AccountId);
    let (Limit(limit), status) = (asked.limit, asked.status);
    let before = asked
        .next_token
        .map(|PageToken(number)| number)
        .map(InvoiceId);
    let mut client_id = call.caller.client_of(number(asked.id).map(ClientId))?;
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
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // A page is what was looked at: one with a filter may be short, an absent next_token alone is the end.
    let database = &context.database;
    let (page, next) = match client_id {
        Some(client_id) => {
            let page = database.invoice_page(client_id, before, limit).await?;
            let is_full = page.len() == limit;
            let last = page.last().map(|invoice| invoice.invoice_id);
            (page, last.filter(|_| is_full))
        }
        None => {
            let currencies = invoices::currencies(context).await?;
            let page = database.anybodys_invoice_page(&currencies, before, limit);
            page.await?
        }
    };
    let invoices = page
        .iter()
        .filter(|invoice| s3uid.as_ref().is_none_or(|s3uid| *s3uid == invoice.s3uid))
        .filter(|invoice| status.is_none_or(|status| status == invoice.status()))
        .map(InvoiceShown::from);
    Ok(Answered {
        invoices: invoices.collect(),
        next_token: next.map(|next| next.to_string()),
    })
}
