//! `list_invoices`: a client's invoices, newest first.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::invoice::InvoiceStatus;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate, s3uid, token};

use crate::invoices;

crate::s3_action!("list_invoices");

const DEFAULT_LIMIT: u64 = 50;
const LARGEST_LIMIT: u64 = 500;

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let parameters = &call.parameters;
    let s3uid = s3uid(call)?;
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
    let client_id = caller.acts_for(call)?;
    // A page is what was looked at: one with a filter may be short, an absent next_token alone is the end.
    let page = context
        .database
        .invoice_page(client_id, before, limit)
        .await?;
    let next_token = (page.len() as u64 == limit)
        .then(|| page.last().map(|invoice| invoice.invoice_id.to_string()))
        .flatten();
    let invoices: Vec<Value> = page
        .iter()
        .filter(|invoice| s3uid.as_ref().is_none_or(|s3uid| *s3uid == invoice.s3uid))
        .filter(|invoice| status.is_none_or(|status| status == invoice.status()))
        .map(|invoice| invoices::summary(invoice).into())
        .collect();
    let mut answer = json!({ "invoices": invoices });
    if let Some(next_token) = next_token {
        answer["next_token"] = next_token.into();
    }
    Ok(Answer::ok(answer))
}
