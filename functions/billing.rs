//! Periods closed, invoices paid or chased, services ended. Every piece of work may be done twice, by two at once, or be left half done:
//! what decides is the one transaction at its end.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::{Conflict, Issue, OpenInvoice, Started};
use wharfage::domain::account::{Account, Group, Service, Status, Suspension};
use wharfage::domain::closing::{Closing, close};
use wharfage::domain::dunning::Step;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::history::Actor;
use wharfage::domain::invoice::{Invoice, InvoiceStatus};
use wharfage::domain::ledger::Posting;
use wharfage::domain::money::Currency;
use wharfage::domain::period::{date_of, start_of};
use wharfage::domain::plan::Plan;
use wharfage::domain::task::{Task, Work};
use wharfage::domain::usage::Usage;
use wharfage::error::Fault;

/// How often a transaction is tried again because somebody else was quicker.
const TRIES: usize = 10;

/// The number of a client's next invoice: its series has no gaps.
pub(crate) fn number(client_id: u64, currency: Currency, invoices_before: u64) -> String {
    format!("{client_id}-{currency}-{:04}", invoices_before + 1)
}

/// The open side of an invoice just issued.
pub(crate) fn open_side(context: &Context, invoice: &Invoice) -> OpenInvoice {
    let first = context.rules.dunning.next(invoice.due_on, 0);
    OpenInvoice::new(invoice, first.map(|(date, _)| date))
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
    invoice: Invoice,
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

/// An account's running or latest period with all that its closing takes.
pub(crate) struct Period {
    /// Its first day.
    pub from: Date,
    /// Its end.
    pub to: Date,
    /// What was used in it.
    pub usage: Usage,
    /// The plan in the version that the period was sold in.
    pub rated_by: Plan,
    /// The plan as it is sold now.
    pub sold_now: Plan,
    /// What the client is billed in.
    pub currency: Currency,
}

/// Reads the period of an account that ends on its next commit date; its usage until `until`.
///
/// # Errors
/// When DynamoDB cannot answer, or something that must be there is missing.
pub(crate) async fn period(
    context: &Context,
    account: &Account,
    until: Timestamp,
) -> Result<Period, Fault> {
    let to = account.service.next_commit_date;
    let from = account.service.period_start(to.yesterday().unwrap_or(to));
    let missing = |what: &str| {
        Fault::permanent(
            "reading a period",
            format!("{what} of account {} is missing", account.s3uid),
        )
    };
    let (days, stored_before_bytes, rated_by, sold_now, client) = futures::try_join!(
        context.database.days(&account.s3uid, from, to),
        context.database.stored_before(&account.s3uid, from),
        context
            .database
            .plan_version(account.plan_id, account.plan_version),
        context.database.plan(account.plan_id),
        context.database.client(account.client_id),
    )?;
    Ok(Period {
        from,
        to,
        usage: Usage::of(stored_before_bytes, &days, from, until.min(start_of(to))),
        rated_by: rated_by.ok_or_else(|| missing("the plan"))?,
        sold_now: sold_now.ok_or_else(|| missing("the plan"))?,
        currency: client.ok_or_else(|| missing("the client"))?.currency,
    })
}

/// Closes the period of an account that ends on `commits_on`.
pub(crate) async fn close_period(
    context: &Context,
    s3uid: &str,
    commits_on: Date,
) -> Result<(), Fault> {
    let mut invoice_id = None;
    for _ in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(());
        };
        if account.commits_on != Some(commits_on) {
            return Ok(());
        }
        let period = period(context, &account, start_of(commits_on)).await?;
        let closing = close(
            &account,
            period.from,
            period.to,
            &period.usage,
            &period.rated_by,
            &period.sold_now,
            period.currency,
        )
        .map_err(|e| Fault::permanent(format!("closing a period of {s3uid}"), e))?;
        let id = match invoice_id {
            Some(id) => id,
            None if closing.lines.is_empty() => 0,
            None => context.database.next_invoice_id().await?,
        };
        invoice_id = (id != 0).then_some(id);
        let now = context.now();
        let draft = draft(
            context,
            &account,
            period.currency,
            closing.lines.clone(),
            id,
            now,
        )
        .await?;
        let sold = if closing.plan_version == period.sold_now.version {
            &period.sold_now
        } else {
            &period.rated_by
        };
        if closing.is_renewed && sold.storage_limit_bytes() != period.rated_by.storage_limit_bytes()
        {
            let provider = &context.clusters.of(&account.location)?.provider;
            provider
                .set_storage_limit(s3uid, sold.storage_limit_bytes())
                .await
                .map_err(|error| error.into_fault("setting a storage limit"))?;
        }
        let (entry, events) = closing_record(context, &account, &period, &closing, draft.as_ref());
        let issue = draft.as_ref().map(Draft::issue);
        let closed = context
            .database
            .close_period(
                &account,
                period.from,
                &closing,
                sold.quota_gb,
                issue,
                &entry,
                &events,
            )
            .await?;
        if closed.is_ok() {
            return Ok(());
        }
    }
    Err(Fault::retryable(
        "closing a period",
        format!("account {s3uid} keeps changing"),
    ))
}

fn closing_record(
    context: &Context,
    account: &Account,
    period: &Period,
    closing: &Closing,
    draft: Option<&Draft>,
) -> (wharfage::domain::history::Entry, Vec<Event>) {
    let details = json!({
        "period_from": period.from,
        "period_to": period.to,
        "invoice_id": draft.map(|draft| draft.invoice.invoice_id),
        "amount_minor": closing.amount_minor(),
        "currency": period.currency,
        "is_renewed": closing.is_renewed,
    });
    let entry = context.account_entry(
        account.client_id,
        &account.s3uid,
        "period_closed",
        Actor::system("billing"),
        details,
    );
    (
        entry,
        draft
            .map(|draft| issue_events(context, &draft.invoice))
            .unwrap_or_default(),
    )
}

/// Pays a client's open invoices from its credit, the one due first first, as far as credit goes; then lifts the suspension of accounts
/// that owe nothing overdue any more.
pub(crate) async fn settle(context: &Context, client_id: u64) -> Result<u32, Fault> {
    let open = context.database.open_invoices(client_id).await?;
    let mut paid = Vec::new();
    let mut unpaid = Vec::new();
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
    let suspended = accounts
        .iter()
        .filter(|account| account.service.suspension == Some(Suspension::Unpaid))
        .map(|account| account.s3uid.as_str());
    let candidates: BTreeSet<&str> = paid
        .iter()
        .map(|invoice| invoice.s3uid.as_str())
        .chain(suspended)
        .collect();
    for s3uid in candidates {
        let still_owes = unpaid
            .iter()
            .any(|other| other.s3uid == s3uid && other.due_on <= date_of(context.now()));
        if !still_owes {
            resume(context, s3uid, Suspension::Unpaid, Actor::system("billing")).await?;
        }
    }
    Ok(u32::try_from(paid.len()).unwrap_or(u32::MAX))
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
        // Paid before, by another copy of this work: what follows a payment may still be to do.
        Err(conflicts) => Ok(!conflicts.contains(&Conflict::NotEnoughCredit)),
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
    settle(context, client_id).await?;
    let today = date_of(context.now());
    let Some(open) = context
        .database
        .open_invoice(client_id, due_on, invoice_id)
        .await?
    else {
        return Ok(());
    };
    let Some((date, step)) = context.rules.dunning.next(open.due_on, open.steps) else {
        return Ok(());
    };
    if date > today {
        return Ok(());
    }
    match step {
        Step::Remind => {}
        Step::Suspend => {
            suspend(
                context,
                &open.s3uid,
                Suspension::Unpaid,
                Actor::system("billing"),
            )
            .await?;
        }
        Step::Terminate => terminate(context, &open.s3uid).await?,
    }
    let next = context.rules.dunning.next(open.due_on, open.steps + 1);
    let detail = json!({
        "invoice_id": open.invoice_id,
        "amount_minor": open.amount_minor,
        "currency": open.currency,
        "due_on": open.due_on,
        "step": step,
        "next_step": next.map(|(date, step)| json!({ "step": step, "on": date })),
    });
    let event = context.account_event(Kind::InvoiceReminder, client_id, &open.s3uid, detail);
    context
        .database
        .record_dunning_step(&open, next.map(|(date, _)| date), &[event])
        .await?;
    Ok(())
}

/// Stops an account's keys. `false` when it is going anyway.
pub(crate) async fn suspend(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<bool, Fault> {
    let detail = json!({ "reason": reason });
    let decide = |service: &Service| service.suspend(reason).ok();
    change(
        context,
        s3uid,
        "suspend_account",
        Kind::AccountSuspended,
        actor,
        detail,
        true,
        decide,
    )
    .await
}

/// Lets an account's keys work again, if they were stopped for that reason. `false` when they were not.
pub(crate) async fn resume(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<bool, Fault> {
    let detail = json!({ "reason": reason });
    let decide = |service: &Service| match service.suspension {
        Some(suspension) if suspension == reason => service.resume().ok(),
        _ => None,
    };
    change(
        context,
        s3uid,
        "resume_account",
        Kind::AccountResumed,
        actor,
        detail,
        false,
        decide,
    )
    .await
}

/// Changes a service and whether the keys work. The cluster comes first: it may be told again, and what is recorded is true.
#[allow(
    clippy::too_many_arguments,
    reason = "suspending and resuming are one thing with two names"
)]
async fn change(
    context: &Context,
    s3uid: &str,
    action: &str,
    kind: Kind,
    actor: Actor,
    detail: Value,
    is_suspended: bool,
    decide: impl Fn(&Service) -> Option<Service>,
) -> Result<bool, Fault> {
    for _ in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(false);
        };
        let Some(service) = decide(&account.service) else {
            return Ok(false);
        };
        let provider = &context.clusters.of(&account.location)?.provider;
        provider
            .set_suspended(s3uid, is_suspended)
            .await
            .map_err(|error| error.into_fault("changing an account's suspension"))?;
        if service == account.service {
            return Ok(true);
        }
        let entry = context.account_entry(
            account.client_id,
            s3uid,
            action,
            actor.clone(),
            detail.clone(),
        );
        let event = context.account_event(kind, account.client_id, s3uid, detail.clone());
        if context
            .database
            .change_service(&account, &service, &entry, &[event])
            .await?
        {
            return Ok(true);
        }
    }
    Err(Fault::retryable(
        "changing an account",
        format!("account {s3uid} keeps changing"),
    ))
}

/// Begins the purge of an account, with its data.
pub(crate) async fn terminate(context: &Context, s3uid: &str) -> Result<(), Fault> {
    let work = Work::RemoveAccount {
        s3uid: s3uid.into(),
    };
    let task = Task::new(work, Actor::system("billing"), context.now());
    // The record stands: should the message not get out, the job that looks for silent tasks sends it.
    match context.database.start_task(task, None).await? {
        Started::New(task) => context.queue.send(&task).await,
        Started::Joined(_) => Ok(()),
    }
}

/// Takes the next step of an account's end, if its day has come: its keys stop on the cancellation date, its data goes on the
/// termination date.
pub(crate) async fn end_service(context: &Context, s3uid: &str) -> Result<(), Fault> {
    let today = date_of(context.now());
    for _ in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(());
        };
        let is_due = account.service.ends_on().is_some_and(|date| date <= today);
        match account.service.status {
            Status::Cancelling if is_due => {
                let provider = &context.clusters.of(&account.location)?.provider;
                provider
                    .set_suspended(s3uid, true)
                    .await
                    .map_err(|error| error.into_fault("ending a service"))?;
                let service = account.service.end();
                let detail = json!({ "termination_date": service.termination_date });
                let actor = Actor::system("end_services");
                let entry = context.account_entry(
                    account.client_id,
                    s3uid,
                    "service_ended",
                    actor,
                    detail.clone(),
                );
                let event =
                    context.account_event(Kind::AccountChanged, account.client_id, s3uid, detail);
                if context
                    .database
                    .change_service(&account, &service, &entry, &[event])
                    .await?
                {
                    return Ok(());
                }
            }
            Status::Terminating if is_due => return terminate(context, s3uid).await,
            _ => return Ok(()),
        }
    }
    Err(Fault::retryable(
        "ending a service",
        format!("account {s3uid} keeps changing"),
    ))
}

/// Brings a client's accounts to its email and its billing group.
pub(crate) async fn regroup(context: &Context, client_id: u64) -> Result<(), Fault> {
    let Some(client) = context.database.client(client_id).await? else {
        return Ok(());
    };
    for listed in context.database.client_accounts(client_id).await? {
        let Some(account) = context.database.account(&listed.s3uid).await? else {
            continue;
        };
        let is_right = account.email == client.email && account.billing == client.billing;
        if is_right || account.group_key.is_none() {
            continue;
        }
        let group = Group {
            plan_id: account.plan_id,
            storage_type: account.storage_type.clone(),
            location: account.location.clone(),
            billing: client.billing.clone(),
        };
        context.database.put_group(&group).await?;
        if !context
            .database
            .regroup_account(&account, &client.email, &group)
            .await?
        {
            return Err(Fault::retryable(
                "regrouping accounts",
                "somebody else is changing one",
            ));
        }
    }
    Ok(())
}

/// Recounts a client's balances from its postings. The differences, by currency; none is as it should be.
pub(crate) async fn recount(context: &Context, client_id: u64) -> Result<Vec<Value>, Fault> {
    let (postings, balances) = futures::try_join!(
        context.database.postings(client_id),
        context.database.all_balances(client_id)
    )?;
    let mut counted: std::collections::BTreeMap<Currency, wharfage::domain::ledger::Balances> =
        std::collections::BTreeMap::new();
    for posting in &postings {
        counted.entry(posting.currency).or_default().apply(posting);
    }
    let mut differences = Vec::new();
    for (currency, stored) in &balances {
        let mut sum = counted.remove(currency).unwrap_or_default();
        sum.invoices = stored.invoices;
        if sum != *stored || stored.sum_minor() != 0 {
            differences.push(json!({ "client_id": client_id, "currency": currency, "stored": stored, "counted": sum }));
        }
    }
    for (currency, sum) in counted {
        differences.push(
            json!({ "client_id": client_id, "currency": currency, "stored": null, "counted": sum }),
        );
    }
    for difference in &differences {
        tracing::error!(%difference, "a ledger balance is not what its postings add up to");
        let event = Event {
            event_id: context.random.id(),
            at: context.now(),
            kind: Kind::LedgerDifference,
            client_id,
            s3uid: None,
            detail: difference.clone(),
        };
        context.database.put_event(&event).await?;
    }
    Ok(differences)
}
