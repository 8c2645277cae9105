//! `get_invoice`: one invoice, each line with the figures it was computed from.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate, token};

use crate::invoices;

crate::s3_action!("get_invoice");

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let invoice_id = call.parameters.required_number(&["invoice_id"], ID)?;
    let caller = authenticate(context, call).await?;
    let client_id = caller.acts_for(call)?;
    let invoice = context
        .database
        .invoice(client_id, invoice_id)
        .await?
        .ok_or_else(|| Rejection::not_found("invoice not found"))?;
    let lines: Vec<Value> = invoice
        .lines
        .iter()
        .map(|line| invoices::line(line, invoice.currency))
        .collect();
    let mut fields = invoices::summary(&invoice);
    fields.insert("lines".into(), lines.into());
    Ok(Answer::ok(json!({ "invoice": fields })))
}
