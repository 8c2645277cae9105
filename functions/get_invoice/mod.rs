//! `get_invoice`: one invoice, each line with the figures it was computed from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::client::ClientId;
use wharfage::domain::invoice::InvoiceId;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{Id, Whole};

use crate::invoices::{self, InvoiceShown, LineShown};

crate::action! {
    /// Returns an invoice with its lines and the figures behind each.
    "get_invoice" of Everybody, about (),
        refuses [InvoiceNotFound, AccountNotFound]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The invoice.
    invoice_id: Id,
    /// The client who owns the invoice. Optional for administrators.
    id: Option<Id>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The invoice.
    invoice: WholeInvoice,
}

/// An invoice with its lines.
#[derive(Debug, Serialize, JsonSchema)]
struct WholeInvoice {
    #[serde(flatten)]
    summary: InvoiceShown,
    /// What it is made of.
    lines: Vec<LineShown>,
}

async fn handle(context: &Context, call: Call<'_, Asked>) -> Result<Answered, Error> {
    let Whole(invoice_id) = call.parameters.invoice_id;
    let invoice_id = InvoiceId(invoice_id);
    let database = &context.database;
    // A number is unique: staff need not know whose invoice it is.
    let invoice = match call
        .caller
        .client_of(call.parameters.id.map(|Whole(id)| ClientId(id)))
    {
        Ok(Some(client_id)) => database.invoice(client_id, invoice_id).await?,
        Ok(None) => {
            let currencies = invoices::currencies(context).await?;
            database.anybodys_invoice(&currencies, invoice_id).await?
        }
        // Another client's: that there is one is nobody else's business.
        Err(_) => None,
    };
    let invoice =
        invoice.ok_or_else(|| Rejection::new(Reason::InvoiceNotFound, "invoice not found"))?;
    let lines = invoice
        .lines
        .iter()
        .map(|line| LineShown::new(line, invoice.currency));
    Ok(Answered {
        invoice: WholeInvoice {
            summary: InvoiceShown::from(&invoice),
            lines: lines.collect(),
        },
    })
}
