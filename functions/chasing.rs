//! Dunning: open invoices are paid from credit, or reminded of. Every piece of work may run twice, concurrently, or stop halfway: the
//! transaction at its end decides.
//!
//! What an overdue invoice does to its account depends on the current debt, the account's current state, and the announced dates (see
//! [`wharfage::domain::dunning`]). The data of an unpaid account is purged on the announced day, as a step of the account and not of an
//! invoice (see `ending.rs`).

use jiff::civil::Date;
use serde_json::json;
use wharfage::context::Context;
use wharfage::database::OpenInvoice;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::client::ClientId;
use wharfage::domain::dunning::{NextStep, Step, is_overdue};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::invoice::InvoiceId;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

use crate::payments::{PaidPart, pay_open};
use crate::suspension;

/// Pays a client's open invoices from its credit as far as it goes; then lifts the suspension of accounts that owe nothing overdue any
/// more. What was paid, and what stands in the way of lifting one: the others are lifted all the same.
pub(crate) async fn settle(
    context: &Context,
    client_id: ClientId,
) -> Result<(Vec<PaidPart>, Result<(), Fault>), Fault> {
    let paid = pay_open(context, client_id).await?;
    let lifted = lift_what_is_paid(context, client_id, None).await?;
    Ok((paid, lifted))
}

/// Lifts the suspension of a client's accounts that owe nothing overdue any more, `also` among them: the index of the client's accounts
/// may not show it yet.
pub(crate) async fn lift_what_is_paid(
    context: &Context,
    client_id: ClientId,
    also: Option<&S3Uid>,
) -> Result<Result<(), Fault>, Fault> {
    let accounts = context.database.client_accounts(client_id).await?;
    let mut unpaid: Vec<&S3Uid> = accounts
        .iter()
        .filter(|account| account.service.is_unpaid() || account.service.resumed_until.is_some())
        .map(|account| &account.s3uid)
        .collect();
    unpaid.extend(also.filter(|also| !unpaid.contains(also)));
    let mut lifted = Ok(());
    if unpaid.is_empty() {
        return Ok(lifted);
    }
    let open = context.database.open_invoices(client_id).await?;
    for s3uid in unpaid {
        if owes(context, &open, s3uid).is_some() {
            continue;
        }
        // What is overdue and not suspended for yet is what the time was given for, too.
        let is_overdue = has_overdue(context, &open, s3uid);
        if let Err(fault) = suspension::lift_unpaid(context, s3uid, is_overdue).await {
            lifted = Err(fault);
        }
    }
    Ok(lifted)
}

/// What an account is suspended and purged for: the first of its overdue invoices whose day of suspension has come, if what is overdue is not
/// too little for that. An invoice whose own day has not come does not keep an account suspended that was suspended for others.
pub(crate) fn owes<'a>(
    context: &Context,
    open: &'a [OpenInvoice],
    s3uid: &S3Uid,
) -> Option<&'a OpenInvoice> {
    let today = date_of(context.now());
    let dunning = &context.rules.dunning;
    overdue(context, open, s3uid)
        .into_iter()
        .find(|open| dunning.is_suspension_due(open.due_on, today))
}

/// Whether anything of an account is overdue that is not too little to suspend it for.
pub(crate) fn has_overdue(context: &Context, open: &[OpenInvoice], s3uid: &S3Uid) -> bool {
    !overdue(context, open, s3uid).is_empty()
}

/// The overdue invoices of an account, the one due first first, but for those in a currency in which little is overdue.
fn overdue<'a>(context: &Context, open: &'a [OpenInvoice], s3uid: &S3Uid) -> Vec<&'a OpenInvoice> {
    let today = date_of(context.now());
    let dunning = &context.rules.dunning;
    // An operator may suspend on the due date itself.
    let is_late = |due_on| is_overdue(due_on, today) || dunning.is_suspension_due(due_on, today);
    let overdue = || {
        open.iter()
            .filter(|open| open.s3uid == *s3uid && is_late(open.due_on))
    };
    let is_enough = |first: &&OpenInvoice| {
        let of_currency = overdue().filter(|open| open.currency == first.currency);
        let owed_minor: i64 = of_currency.map(OpenInvoice::open_minor).sum();
        owed_minor > 0 && owed_minor >= context.rules.small_debt.in_minor(first.currency)
    };
    overdue().filter(is_enough).collect()
}

/// Takes the next step of chasing an open invoice, if its day has come: pays it when there is credit by now, else reminds, or suspends its
/// account.
pub(crate) async fn chase(
    context: &Context,
    client_id: ClientId,
    due_on: Date,
    invoice_id: InvoiceId,
) -> Result<(), Fault> {
    // A cluster that keeps another account of the client suspended does not keep this invoice from its step.
    let (_, lifted) = settle(context, client_id).await?;
    step_of_chasing(context, client_id, due_on, invoice_id).await?;
    lifted
}

async fn step_of_chasing(
    context: &Context,
    client_id: ClientId,
    due_on: Date,
    invoice_id: InvoiceId,
) -> Result<(), Fault> {
    let today = date_of(context.now());
    let database = &context.database;
    let Some(open) = database.open_invoice(client_id, due_on, invoice_id).await? else {
        return Ok(());
    };
    if open.act_on.is_none_or(|date| date > today) {
        return Ok(());
    }
    let dunning = &context.rules.dunning;
    let next = dunning.next(open.due_on, open.steps);
    if next.is_some_and(|next| next.on > today) {
        return Ok(());
    }
    // Where there is no step left, an earlier version was to purge the account next: it is suspended first, and the day told.
    let (step, taken) = next.map_or((Step::Suspend, open.steps), |next| (next.step, next.taken));
    let suspended = match step {
        Step::Suspend => suspend_owing(context, &open).await?,
        Step::Remind | Step::Terminate => None,
    };
    let step = match (&suspended, step) {
        (None, Step::Suspend) => Step::Remind,
        (_, step) => step,
    };
    let following = dunning.next(open.due_on, taken);
    let is_suspended = suspended.is_some();
    let told = suspended.and_then(|account| account.service.termination());
    let next_step = match (following, told) {
        (Some(NextStep { step, on, .. }), _) => json!({ "step": step, "on": on }),
        (None, Some((on, _))) => json!({ "step": Step::Terminate, "on": on }),
        (None, None) => json!(null),
    };
    let detail = json!({
        "invoice_id": open.invoice_id,
        "amount_minor": open.amount_minor,
        "open_minor": open.open_minor(),
        "currency": open.currency,
        "due_on": open.due_on,
        "step": step,
        "next_step": next_step,
    });
    let actor = Actor::system("billing");
    let entry = context.account_entry(
        client_id,
        &open.s3uid,
        "invoice_reminder",
        actor,
        detail.clone(),
    );
    let event = context.account_event(Kind::InvoiceReminder, client_id, &open.s3uid, detail);
    let act_on = following.map(|next| next.on);
    let recorded = database
        .record_dunning_step(&open, taken, act_on, &entry, &[event])
        .await?
        .is_yes();
    if !recorded || is_suspended {
        // It was paid meanwhile, or most of it, maybe before the account was suspended for it. The index may not show that yet.
        lift_what_is_paid(context, client_id, Some(&open.s3uid)).await??;
    }
    Ok(())
}

/// Suspends the account of an overdue invoice and tells the day on which its data goes. The account as it is then; none where too little
/// is owed, where staff gave it time, or where it is going anyway.
async fn suspend_owing(context: &Context, open: &OpenInvoice) -> Result<Option<Account>, Fault> {
    let today = date_of(context.now());
    let invoices = context.database.open_invoices(open.client_id).await?;
    if owes(context, &invoices, &open.s3uid).is_none() {
        return Ok(None);
    }
    let account = context.database.account(&open.s3uid).await?;
    let has_time = |account: &Account| {
        account
            .service
            .resumed_until
            .is_some_and(|until| until > today)
    };
    if account.as_ref().is_none_or(has_time) {
        return Ok(None);
    }
    suspension::suspend_unpaid(context, &open.s3uid).await
}
