//! Open invoices: paid from credit, or chased. Every piece of work may be done twice, by two at once, or be left half done: what decides
//! is the one transaction at its end.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::json;
use wharfage::context::Context;
use wharfage::database::{Conflict, OpenInvoice};
use wharfage::domain::account::Suspension;
use wharfage::domain::dunning::{NextStep, Step};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::ledger::Posting;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

use crate::suspension::{conform, removal, resume, suspend};

/// Pays a client's open invoices from its credit, the one due first first, as far as credit goes; then lifts the suspension of accounts
/// that owe nothing overdue any more, `suspended` among them. What stands in the way of lifting one is the answer: the others are lifted
/// all the same.
pub(crate) async fn settle(
    context: &Context,
    client_id: u64,
    suspended: Option<&str>,
) -> Result<Result<(), Fault>, Fault> {
    let open = context.database.open_invoices(client_id).await?;
    let mut paid = Vec::new();
    let mut unpaid = Vec::new();
    let mut lifted = Ok(());
    for invoice in open {
        // An older invoice that cannot be paid keeps its place: a younger, smaller one does not overtake it.
        let is_blocked = unpaid
            .iter()
            .any(|other: &OpenInvoice| other.currency == invoice.currency);
        if !is_blocked && pay(context, &invoice).await? {
            paid.push(invoice);
        } else {
            unpaid.push(invoice);
        }
    }
    // Suspended accounts are looked for, too: whoever paid for one may have died before lifting its suspension.
    let accounts = context.database.client_accounts(client_id).await?;
    let known = accounts
        .iter()
        .filter(|account| account.service.suspension == Some(Suspension::Unpaid))
        .map(|account| account.s3uid.as_str());
    let candidates: BTreeSet<&str> = paid
        .iter()
        .map(|invoice| invoice.s3uid.as_str())
        .chain(known)
        .chain(suspended)
        .collect();
    for s3uid in candidates {
        let still_owes = unpaid
            .iter()
            .any(|other| other.s3uid == s3uid && other.due_on <= date_of(context.now()));
        if !still_owes {
            let resumed = resume(context, s3uid, Suspension::Unpaid, Actor::system("billing"));
            if let Err(fault) = resumed.await {
                lifted = Err(fault);
            }
        }
    }
    Ok(lifted)
}

/// Pays one open invoice from credit; `false` when credit does not suffice.
async fn pay(context: &Context, open: &OpenInvoice) -> Result<bool, Fault> {
    let now = context.now();
    let posting = Posting::settle(
        open.invoice_id,
        open.client_id,
        open.currency,
        now,
        open.amount_minor,
    );
    let detail = json!({ "invoice_id": open.invoice_id, "amount_minor": open.amount_minor, "currency": open.currency });
    let event = context.account_event(Kind::PaymentReceived, open.client_id, &open.s3uid, detail);
    match context
        .database
        .pay_invoice(open, &posting, now, &[event])
        .await?
    {
        Ok(()) => Ok(true),
        // Paid before, by another copy of this work, whatever credit there is now: what follows a payment may still be to do.
        Err(conflicts) => Ok(conflicts.contains(&Conflict::Changed)),
    }
}

/// Takes the next step of chasing an open invoice, if its day has come: pays it when there is credit by now, else reminds, suspends or
/// terminates.
pub(crate) async fn chase(
    context: &Context,
    client_id: u64,
    due_on: Date,
    invoice_id: u64,
) -> Result<(), Fault> {
    // A cluster that keeps another account of the client suspended does not keep this invoice from its step.
    let lifted = settle(context, client_id, None).await?;
    step_of_chasing(context, client_id, due_on, invoice_id).await?;
    lifted
}

async fn step_of_chasing(
    context: &Context,
    client_id: u64,
    due_on: Date,
    invoice_id: u64,
) -> Result<(), Fault> {
    let today = date_of(context.now());
    let database = &context.database;
    let Some(open) = database.open_invoice(client_id, due_on, invoice_id).await? else {
        // Whoever was about to suspend the account may have died, with its keys stopped and nothing recorded, before it was paid for.
        if let Some(invoice) = database.invoice(client_id, invoice_id).await? {
            conform(context, &invoice.s3uid).await?;
        }
        return Ok(());
    };
    let dunning = &context.rules.dunning;
    let due = dunning.next(open.due_on, open.steps, open.suspended_on);
    let Some(NextStep { step, on, taken }) = due else {
        return Ok(());
    };
    if on > today || open.act_on.is_none_or(|date| date > today) {
        return Ok(());
    }
    if step == Step::Suspend {
        let actor = Actor::system("billing");
        suspend(context, &open.s3uid, Suspension::Unpaid, actor).await?;
    }
    let suspended_on = open.suspended_on;
    let suspended_on = suspended_on.or((step == Step::Suspend).then_some(today));
    let next = dunning.next(open.due_on, taken, suspended_on);
    let advanced = OpenInvoice {
        steps: taken,
        act_on: next.map(|next| next.on),
        suspended_on,
        ..open.clone()
    };
    let detail = json!({
        "invoice_id": open.invoice_id,
        "amount_minor": open.amount_minor,
        "currency": open.currency,
        "due_on": open.due_on,
        "step": step,
        "next_step": next.map(|next| json!({ "step": next.step, "on": next.on })),
    });
    let event = context.account_event(Kind::InvoiceReminder, client_id, &open.s3uid, detail);
    let events = [event];
    // Nothing undoes a termination, so it begins in the transaction that sees that the invoice is still open.
    let task = (step == Step::Terminate).then(|| removal(context, &open.s3uid, Some("unpaid")));
    let mut recorded = database
        .record_dunning_step(&open, &advanced, &events, task.as_ref())
        .await?;
    match (&recorded, &task) {
        (Ok(()), Some(task)) => context.queue.send(task).await?,
        // The account goes already.
        (Err(conflicts), Some(_)) if *conflicts == [Conflict::UnderWay] => {
            recorded = database
                .record_dunning_step(&open, &advanced, &events, None)
                .await?;
        }
        _ => {}
    }
    if recorded.is_err() {
        // It was paid meanwhile, maybe before the account was suspended for it. The index may not show that yet.
        settle(context, client_id, Some(&open.s3uid)).await??;
    }
    Ok(())
}
