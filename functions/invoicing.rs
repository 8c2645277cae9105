//! Issuing invoices: open, paid at once from credit if nothing older is open, or as credit notes.

use jiff::{Timestamp, ToSpan};
use serde_json::json;
use wharfage::context::Context;
use wharfage::database::{Guard, Issue, Lowered, OpenInvoice, Place};
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::client::ClientId;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::invoice::{Invoice, InvoiceId, Line, TakenOff};
use wharfage::domain::ledger::{Cause, Posting};
use wharfage::domain::money::Currency;
use wharfage::domain::period::date_of;
use wharfage::domain::settling::{AtIssue, at_issue};
use wharfage::error::Fault;

use crate::payments::{distribute, lowered, pay_open};

/// How often what is open is paid first before an invoice is issued. More is of no use: then the records disagree, which the recount tells.
const MOST_SETTLEMENTS: usize = 3;
/// What the world is told of an invoice just issued.
pub(crate) fn issue_events(context: &Context, invoice: &Invoice) -> Vec<Event> {
    let event =
        |kind, detail| context.account_event(kind, invoice.client_id, &invoice.s3uid, detail);
    let detail = json!({
        "invoice_id": invoice.invoice_id,
        "number": invoice.number,
        "amount_minor": invoice.amount_minor,
        "open_minor": invoice.open_minor(),
        "currency": invoice.currency,
        "due_on": invoice.due_on,
        "status": invoice.status(),
    });
    let mut events = vec![event(Kind::InvoiceIssued, detail)];
    if invoice.paid_minor > 0 {
        let detail = json!({
            "invoice_id": invoice.invoice_id,
            "amount_minor": invoice.paid_minor,
            "open_minor": invoice.open_minor(),
            "currency": invoice.currency,
        });
        events.push(event(Kind::PaymentReceived, detail));
    }
    events
}

/// What an invoice is made of.
pub(crate) struct Bill {
    /// Who pays.
    pub client_id: ClientId,
    /// For which account.
    pub s3uid: S3Uid,
    /// In what.
    pub currency: Currency,
    /// What is charged, or given back.
    pub lines: Vec<Line>,
    /// Its identifier.
    pub invoice_id: InvoiceId,
    /// What causes it: whoever issues it again for the same cause has the same place in the series.
    pub cause: String,
}

impl Bill {
    /// A bill on an account.
    pub(crate) fn on(
        account: &Account,
        currency: Currency,
        lines: Vec<Line>,
        invoice_id: InvoiceId,
        cause: String,
    ) -> Bill {
        Bill {
            client_id: account.client_id,
            s3uid: account.s3uid.clone(),
            currency,
            lines,
            invoice_id,
            cause,
        }
    }
}

/// An invoice to be issued now, with all that its transaction writes.
pub(crate) struct Draft {
    pub invoice: Invoice,
    posting: Posting,
    place: Place,
    open: Option<OpenInvoice>,
    lowered: Vec<(OpenInvoice, TakenOff)>,
    guard: Guard,
    /// What the client owed without it.
    pub owed_minor: i64,
}

impl Draft {
    /// What it takes off open invoices, for [`Draft::issue`].
    pub(crate) fn lowered(&self) -> Vec<Lowered<'_>> {
        lowered(&self.lowered, true)
    }

    /// What its transaction writes.
    pub(crate) fn issue<'a>(&'a self, lowered: &'a [Lowered<'a>]) -> Issue<'a> {
        Issue {
            invoice: &self.invoice,
            posting: &self.posting,
            place: &self.place,
            open: self.open.as_ref(),
            lowered,
            guard: self.guard,
        }
    }

    /// Gives its place in the series back: it is not issued.
    pub(crate) async fn give_up(&self, context: &Context) -> Result<(), Fault> {
        let (client_id, currency) = (self.invoice.client_id, self.invoice.currency);
        context
            .database
            .return_place(client_id, currency, &self.place)
            .await
    }

    /// The same, refused by the ledger should the client owe more than `limit_minor` by it.
    pub(crate) fn within(mut self, limit_minor: i64) -> Draft {
        if let Some(open) = &self.open {
            let room = limit_minor.saturating_sub(open.open_minor());
            self.guard.least_receivable_minor = Some(room.saturating_neg());
        }
        self
    }
}

/// The id of an invoice of these lines. It is drawn at the first try, and kept in `drawn` for further ones; nothing to charge takes none.
pub(crate) async fn draw_id(
    context: &Context,
    lines: &[Line],
    drawn: &mut Option<InvoiceId>,
) -> Result<InvoiceId, Fault> {
    if drawn.is_none() && !lines.is_empty() {
        *drawn = Some(context.database.next_invoice_id().await?);
    }
    Ok(drawn.unwrap_or(InvoiceId(0)))
}

/// Drafts an invoice. `None` when there is nothing to charge.
pub(crate) async fn draft(
    context: &Context,
    bill: Bill,
    now: Timestamp,
) -> Result<Option<Draft>, Fault> {
    if bill.lines.is_empty() {
        return Ok(None);
    }
    let (invoice, place) = numbered(context, bill, now).await?;
    Ok(Some(match invoice.amount_minor < 0 {
        true => credit_note(context, invoice, place).await?,
        false => charge(context, invoice, place).await?,
    }))
}

/// An invoice that charges something: open, and paid as far as credit goes where nothing older is open.
async fn charge(context: &Context, mut invoice: Invoice, place: Place) -> Result<Draft, Fault> {
    let (client_id, currency) = (invoice.client_id, invoice.currency);
    let (now, amount_minor) = (invoice.issued_at, invoice.amount_minor);
    let mut settlements = 0;
    let (paid_minor, owed_minor, guard) = loop {
        let balances = context.database.balances(client_id, currency).await?;
        match at_issue(&balances, amount_minor) {
            AtIssue::SettleFirst if settlements < MOST_SETTLEMENTS => {
                pay_open(context, client_id).await?;
                settlements += 1;
            }
            AtIssue::SettleFirst => break (0, -balances.receivable_minor, Guard::default()),
            AtIssue::Paid(paid_minor) if paid_minor == amount_minor => {
                let is_owed_nothing = (amount_minor > 0).then_some(0);
                let guard = Guard {
                    receivable_minor: is_owed_nothing,
                    ..Guard::default()
                };
                break (paid_minor, 0, guard);
            }
            AtIssue::Paid(paid_minor) => {
                let guard = Guard {
                    credit_minor: Some(paid_minor),
                    receivable_minor: Some(0),
                    ..Guard::default()
                };
                break (paid_minor, 0, guard);
            }
            AtIssue::Open => {
                let guard = Guard {
                    credit_minor: Some(balances.credit_minor),
                    ..Guard::default()
                };
                break (0, -balances.receivable_minor, guard);
            }
        }
    };
    invoice.paid_minor = paid_minor;
    if paid_minor == amount_minor {
        invoice.paid_at = Some(now);
    } else {
        let due_days = i64::from(context.rules.invoice_due_days);
        invoice.due_on = date_of(now).saturating_add(due_days.days());
    }
    let open = invoice.paid_at.is_none().then(|| {
        let first = context.rules.dunning.next(invoice.due_on, 0);
        OpenInvoice::new(&invoice, first.map(|next| next.on))
    });
    let cause = match paid_minor == amount_minor {
        true => Cause::Pay(invoice.invoice_id),
        false => Cause::Owe(invoice.invoice_id),
    };
    let paid = TakenOff {
        invoice_id: invoice.invoice_id,
        amount_minor: paid_minor,
    };
    let is_paid_for = paid_minor > 0 || paid_minor == amount_minor;
    let taken_off = is_paid_for.then_some(paid).into_iter().collect();
    let posting = Posting::new(cause, (client_id, currency), now, amount_minor, taken_off);
    Ok(Draft {
        invoice,
        posting,
        place,
        open,
        lowered: Vec::new(),
        guard,
        owed_minor,
    })
}

/// A credit note: it lowers what is open of the account's invoices, the latest first, since that one charged what is given back; then the
/// client's others. Only what was paid becomes credit.
async fn credit_note(
    context: &Context,
    mut invoice: Invoice,
    place: Place,
) -> Result<Draft, Fault> {
    let (client_id, currency) = (invoice.client_id, invoice.currency);
    let (open, balances) = futures::try_join!(
        context.database.open_invoices(client_id),
        context.database.balances(client_id, currency),
    )?;
    let open = open.into_iter().filter(|open| open.currency == currency);
    let (mut corrected, others): (Vec<_>, Vec<_>) =
        open.partition(|open| open.s3uid == invoice.s3uid);
    corrected.sort_by_key(|open| std::cmp::Reverse(open.invoice_id));
    corrected.extend(others);
    let owed_minor: i64 = corrected.iter().map(OpenInvoice::open_minor).sum();
    let (lowered, left) = distribute(-invoice.amount_minor, corrected);
    let taken_off: Vec<TakenOff> = lowered.iter().map(|(_, taken)| *taken).collect();
    invoice.paid_at = Some(invoice.issued_at);
    invoice.taken_off.clone_from(&taken_off);
    // What becomes credit must not stand beside a debt that came since; a ledger that disagrees with the open invoices holds nobody up.
    let is_exact = left > 0 && balances.receivable_minor == -owed_minor;
    let guard = Guard {
        receivable_minor: is_exact.then_some(balances.receivable_minor),
        ..Guard::default()
    };
    let payer = (client_id, currency);
    let cause = Cause::Refund(invoice.invoice_id);
    let back_minor = -invoice.amount_minor;
    let posting = Posting::new(cause, payer, invoice.issued_at, back_minor, taken_off);
    Ok(Draft {
        invoice,
        posting,
        place,
        open: None,
        lowered,
        guard,
        owed_minor,
    })
}

/// The invoice of an order, paid with what was held for it.
pub(crate) async fn captured(
    context: &Context,
    bill: Bill,
    order_id: &str,
    now: Timestamp,
) -> Result<Draft, Fault> {
    let amount_minor: i64 = bill.lines.iter().map(|line| line.amount_minor).sum();
    let (invoice, place) = numbered(context, bill, now).await?;
    let payer = (invoice.client_id, invoice.currency);
    let invoice = Invoice {
        paid_minor: amount_minor,
        paid_at: Some(now),
        ..invoice
    };
    let paid = TakenOff {
        invoice_id: invoice.invoice_id,
        amount_minor,
    };
    let cause = Cause::Capture(order_id);
    let posting = Posting::new(cause, payer, now, amount_minor, vec![paid]);
    Ok(Draft {
        invoice,
        posting,
        place,
        open: None,
        lowered: Vec::new(),
        guard: Guard::default(),
        owed_minor: 0,
    })
}

/// A bill as an invoice with its place in the client's series, nothing of it paid yet.
async fn numbered(
    context: &Context,
    bill: Bill,
    now: Timestamp,
) -> Result<(Invoice, Place), Fault> {
    let (client_id, currency) = (bill.client_id, bill.currency);
    let place = context
        .database
        .take_place(client_id, currency, &bill.cause, now)
        .await?;
    let invoice = Invoice {
        invoice_id: bill.invoice_id,
        // A client's series in a currency has no gaps.
        number: format!("{client_id}-{currency}-{:04}", place.number),
        client_id,
        s3uid: bill.s3uid,
        currency,
        amount_minor: bill.lines.iter().map(|line| line.amount_minor).sum(),
        lines: bill.lines,
        issued_at: now,
        due_on: date_of(now),
        paid_at: None,
        paid_minor: 0,
        credited_minor: 0,
        taken_off: Vec::new(),
    };
    Ok((invoice, place))
}
