//! Open invoices paid from credit, and lowered by credit notes. Every payment may be tried twice, or by two at once: what decides is the one
//! transaction at its end.

use std::collections::BTreeMap;

use serde_json::json;
use wharfage::context::Context;
use wharfage::database::{Guard, Lowered, OpenInvoice, Written};
use wharfage::domain::client::ClientId;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::history::{Actor, Entry};
use wharfage::domain::invoice::{InvoiceId, TakenOff};
use wharfage::domain::ledger::{Cause, Posting};
use wharfage::domain::money::Currency;
use wharfage::domain::settling::allocate;
use wharfage::error::Fault;

use crate::billing::TRIES;

/// Open invoices that one transaction lowers. Each takes two writes, and a transaction has a hundred.
pub(crate) const MOST_LOWERED: usize = 20;

/// Something that was taken off an open invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaidPart {
    pub invoice_id: InvoiceId,
    pub amount_minor: i64,
    /// What is left of the invoice.
    pub open_minor: i64,
    pub currency: Currency,
}

/// What the world is told, and history says, of what was taken off open invoices.
pub(crate) fn payments(
    context: &Context,
    paid: &[(OpenInvoice, TakenOff)],
    actor: &Actor,
) -> (Vec<Entry>, Vec<Event>) {
    paid.iter()
        .map(|(open, taken)| {
            let detail = json!({
                "invoice_id": open.invoice_id,
                "amount_minor": taken.amount_minor,
                "open_minor": open.open_minor() - taken.amount_minor,
                "currency": open.currency,
            });
            let (client_id, s3uid) = (open.client_id, &open.s3uid);
            let entry = context.account_entry(
                client_id,
                s3uid,
                "invoice_paid",
                actor.clone(),
                detail.clone(),
            );
            let event = context.account_event(Kind::PaymentReceived, client_id, s3uid, detail);
            (entry, event)
        })
        .unzip()
}

/// Pays a client's open invoices from its credit, in each currency the one due first first, and the last of them in part. What was paid.
pub(crate) async fn pay_open(
    context: &Context,
    client_id: ClientId,
) -> Result<Vec<PaidPart>, Fault> {
    let mut paid = Vec::new();
    let mut collisions = 0;
    while collisions < TRIES {
        let mut by_currency: BTreeMap<Currency, Vec<OpenInvoice>> = BTreeMap::new();
        for open in context.database.open_invoices(client_id).await? {
            by_currency.entry(open.currency).or_default().push(open);
        }
        let mut is_done = true;
        for (currency, open) in by_currency {
            let balances = context.database.balances(client_id, currency).await?;
            let count = open.len();
            let (touched, left) = distribute(balances.credit_minor, open);
            let Some((first, _)) = touched.first() else {
                continue;
            };
            let cause = Cause::Settle {
                first: first.invoice_id,
                before: first.parts,
            };
            let taken_off: Vec<TakenOff> = touched.iter().map(|(_, taken)| *taken).collect();
            let now = context.now();
            let amount_minor = taken_off.iter().map(|taken| taken.amount_minor).sum();
            let payer = (client_id, currency);
            let posting = Posting::new(cause, payer, now, amount_minor, taken_off);
            let (entries, events) = payments(context, &touched, &Actor::system("billing"));
            let posted = context
                .database
                .post(
                    &posting,
                    &lowered(&touched, false),
                    Guard::default(),
                    &entries,
                    &events,
                )
                .await?;
            match posted {
                Written::Yes => {
                    is_done &= left == 0 || touched.len() == count;
                    paid.extend(touched.iter().map(|(open, taken)| PaidPart {
                        invoice_id: open.invoice_id,
                        amount_minor: taken.amount_minor,
                        open_minor: open.open_minor() - taken.amount_minor,
                        currency,
                    }));
                }
                // Somebody else paid, or the credit is another by now: look again.
                Written::No(_) => {
                    is_done = false;
                    collisions += 1;
                }
            }
        }
        if is_done {
            return Ok(paid);
        }
    }
    Err(Fault::retryable(
        "paying open invoices",
        format!("those of client {client_id} keep changing"),
    ))
}

/// Open invoices with what is taken off each, as the database takes them.
pub(crate) fn lowered(of: &[(OpenInvoice, TakenOff)], is_credited: bool) -> Vec<Lowered<'_>> {
    of.iter()
        .map(|(open, taken)| Lowered {
            open,
            by_minor: taken.amount_minor,
            is_credited,
        })
        .collect()
}

/// Distributes an amount over open invoices, in their order.
pub(crate) fn distribute(
    amount_minor: i64,
    open: Vec<OpenInvoice>,
) -> (Vec<(OpenInvoice, TakenOff)>, i64) {
    let sides = open.iter().map(|open| (open.invoice_id, open.open_minor()));
    let (taken_off, left) = allocate(amount_minor, sides, MOST_LOWERED);
    let touched = open
        .into_iter()
        .filter(|open| open.open_minor() > 0)
        .zip(taken_off);
    (touched.collect(), left)
}
