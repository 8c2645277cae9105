//! `get_invoice`: one invoice, each line with the figures it was computed from.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate, token};

use crate::invoices;

crate::s3_action!("get_invoice", takes[&["id", "invoice_id"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let invoice_id = call.parameters.required_number(&["invoice_id"], ID)?;
    let caller = authenticate(context, call).await?;
    let not_found = || Rejection::not_found("invoice not found");
    let database = &context.database;
    // A number is unique: staff need not know whose invoice it is.
    let invoice = match caller.client_named(call) {
        Ok(Some(client_id)) => database.invoice(client_id, invoice_id).await?,
        Ok(None) => {
            let currencies = invoices::currencies(context).await?;
            database.anybodys_invoice(&currencies, invoice_id).await?
        }
        // Another client's: that there is one is nobody else's business.
        Err(rejection) if rejection == Rejection::account_not_found() => None,
        Err(rejection) => return Err(rejection.into()),
    };
    let invoice = invoice.ok_or_else(not_found)?;
    let lines: Vec<Value> = invoice
        .lines
        .iter()
        .map(|line| invoices::line(line, invoice.currency))
        .collect();
    let mut fields = invoices::summary(&invoice);
    fields.insert("lines".into(), lines.into());
    Ok(Answer::ok(json!({ "invoice": fields })))
}
