//! Invoices as they are issued.

use jiff::Timestamp;
use jiff::ToSpan;
use serde_json::json;
use wharfage::context::Context;
use wharfage::database::{Issue, OpenInvoice};
use wharfage::domain::account::Account;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::invoice::{Invoice, InvoiceStatus};
use wharfage::domain::ledger::Posting;
use wharfage::domain::money::Currency;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

/// The number of a client's next invoice: its series has no gaps.
pub(crate) fn number(client_id: u64, currency: Currency, invoices_before: u64) -> String {
    format!("{client_id}-{currency}-{:04}", invoices_before + 1)
}

/// The open side of an invoice just issued.
pub(crate) fn open_side(context: &Context, invoice: &Invoice) -> OpenInvoice {
    let first = context.rules.dunning.next(invoice.due_on, 0, None);
    OpenInvoice::new(invoice, first.map(|next| next.on))
}

/// What the world is told of an invoice just issued.
pub(crate) fn issue_events(context: &Context, invoice: &Invoice) -> Vec<Event> {
    let detail = json!({
        "invoice_id": invoice.invoice_id,
        "number": invoice.number,
        "amount_minor": invoice.amount_minor,
        "currency": invoice.currency,
        "due_on": invoice.due_on,
        "status": invoice.status(),
    });
    let event =
        |kind| context.account_event(kind, invoice.client_id, &invoice.s3uid, detail.clone());
    let mut events = vec![event(Kind::InvoiceIssued)];
    if invoice.status() == InvoiceStatus::Paid && invoice.amount_minor > 0 {
        events.push(event(Kind::PaymentReceived));
    }
    events
}

/// An invoice to be issued now, and how it is posted: paid from credit where credit suffices, else left open; a negative one is a
/// credit note.
pub(crate) struct Draft {
    pub invoice: Invoice,
    posting: Posting,
    invoices_before: u64,
    open: Option<OpenInvoice>,
}

impl Draft {
    pub(crate) fn issue(&self) -> Issue<'_> {
        Issue {
            invoice: &self.invoice,
            posting: &self.posting,
            invoices_before: self.invoices_before,
            open: self.open.as_ref(),
        }
    }
}

/// Drafts an invoice on an account. `None` when there is nothing to charge.
///
/// # Errors
/// When DynamoDB cannot answer.
pub(crate) async fn draft(
    context: &Context,
    account: &Account,
    currency: Currency,
    lines: Vec<wharfage::domain::invoice::Line>,
    invoice_id: u64,
    now: Timestamp,
) -> Result<Option<Draft>, Fault> {
    let amount_minor: i64 = lines.iter().map(|line| line.amount_minor).sum();
    if lines.is_empty() {
        return Ok(None);
    }
    let client_id = account.client_id;
    let balances = context.database.balances(client_id, currency).await?;
    let is_paid = balances.credit_minor >= amount_minor;
    let posting = if amount_minor < 0 {
        Posting::refund(invoice_id, client_id, currency, now, -amount_minor)
    } else if is_paid {
        Posting::pay(invoice_id, client_id, currency, now, amount_minor)
    } else {
        Posting::owe(invoice_id, client_id, currency, now, amount_minor)
    };
    let due_days = if is_paid {
        0
    } else {
        context.rules.invoice_due_days
    };
    let invoice = Invoice {
        invoice_id,
        number: number(client_id, currency, balances.invoices),
        client_id,
        s3uid: account.s3uid.clone(),
        currency,
        amount_minor,
        lines,
        issued_at: now,
        due_on: date_of(now).saturating_add(i64::from(due_days).days()),
        paid_at: is_paid.then_some(now),
    };
    let open = (!is_paid).then(|| open_side(context, &invoice));
    Ok(Some(Draft {
        invoice,
        posting,
        invoices_before: balances.invoices,
        open,
    }))
}
