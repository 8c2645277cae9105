//! Periods closed, invoices paid or chased, services ended. Every piece of work may be done twice, by two at once, or be left half done:
//! what decides is the one transaction at its end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::{Conflict, Issue, OpenInvoice, Started};
use wharfage::domain::account::{Account, Group, Service, Status, Suspension};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::Client;
use wharfage::domain::closing::{ClosedPeriod, Closing, Part, close};
use wharfage::domain::credential::hash;
use wharfage::domain::dunning::{NextStep, Step};
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::history::Actor;
use wharfage::domain::invoice::{Invoice, InvoiceStatus};
use wharfage::domain::ledger::{Balances, Posting};
use wharfage::domain::money::Currency;
use wharfage::domain::period::{date_of, start_of};
use wharfage::domain::plan::Plan;
use wharfage::domain::plan_change::{PlanChanges, Refused, is_free_for, renewed_on};
use wharfage::domain::task::{Task, Work};
use wharfage::domain::usage::Usage;
use wharfage::error::{Error, Fault};
use wharfage::telemetry::{self, Figure};

use crate::metering::quota_event;

/// Rows found by one query.
pub(crate) const PAGE: i32 = 1_000;
/// Rows handed over in one run; the next run goes on. Far more than can wait for a location that does not answer: they come first again
/// and again, and must not keep the others waiting.
pub(crate) const AT_MOST: usize = 50_000;

/// Hands what is due to the billing queue, page after page. `find` is given how many to find and where to begin, and says where the next
/// page begins. How many were handed over.
///
/// # Errors
/// When what is due cannot be found, or the queue cannot take it.
pub(crate) async fn hand_over<T, C, F>(
    context: &Context,
    find: impl Fn(i32, Option<C>) -> F,
    work: impl Fn(T) -> BillingWork,
) -> Result<usize, Fault>
where
    F: Future<Output = Result<(Vec<T>, Option<C>), Fault>>,
{
    let (mut sent, mut after) = (0, None);
    loop {
        let (due, next) = find(PAGE, after).await?;
        let work: Vec<BillingWork> = due.into_iter().map(&work).collect();
        context.queue.send_billing(&work).await?;
        sent += work.len();
        after = next;
        if after.is_none() || sent >= AT_MOST {
            return Ok(sent);
        }
    }
}

/// How often a transaction is tried again because somebody else was quicker.
const TRIES: usize = 10;

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

/// An account's running or latest period with all that its closing takes.
pub(crate) struct Period {
    /// Its first day.
    pub from: Date,
    /// Its end.
    pub to: Date,
    /// What was used in it.
    pub usage: Usage,
    /// The same, by the plans that it was on.
    pub parts: Vec<Part>,
    /// The account's plan in the version that it has.
    pub rated_by: Plan,
    /// The plan as it is sold now.
    pub sold_now: Plan,
    /// The plan that was asked for from the next period on, as it is sold now.
    pub next: Option<Plan>,
    /// Who pays.
    pub client: Client,
    /// What the client is billed in.
    pub currency: Currency,
}

impl Period {
    /// The plan of the next period, and why it is not the one that was asked for.
    pub(crate) fn renewed_on(
        &self,
        context: &Context,
        account: &Account,
    ) -> (&Plan, Option<Refused>) {
        renewed_on(
            account,
            &self.client,
            &self.rated_by,
            &self.sold_now,
            self.next.as_ref(),
            context.rules.free_accounts_per_client,
        )
    }
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
    let database = &context.database;
    let (from, to) = account.service.period();
    let missing = |what: &str| {
        Fault::permanent(
            "reading a period",
            format!("{what} of account {} is missing", account.s3uid),
        )
    };
    let changes = &account.plan_changes;
    let earlier_plans = changes
        .earlier
        .iter()
        .map(|earlier| database.plan_version(earlier.plan_id, earlier.plan_version));
    let next_plan = async {
        match changes.next_plan_id {
            Some(plan_id) => database.plan(plan_id).await,
            None => Ok(None),
        }
    };
    let (days, stored_before_bytes, rated_by, sold_now, client, earlier_plans, next) = futures::try_join!(
        database.days(&account.s3uid, from, to),
        database.stored_before(&account.s3uid, from),
        database.plan_version(account.plan_id, account.plan_version),
        database.plan(account.plan_id),
        database.client(account.client_id),
        futures::future::try_join_all(earlier_plans),
        next_plan,
    )?;
    let rated_by = rated_by.ok_or_else(|| missing("the plan"))?;
    let client = client.ok_or_else(|| missing("the client"))?;
    if changes.next_plan_id.is_some() && next.is_none() {
        return Err(missing("the next plan"));
    }
    let until = until.min(start_of(to));
    let mut earlier = Vec::new();
    for (plan, before) in earlier_plans.into_iter().zip(&changes.earlier) {
        let plan = plan.ok_or_else(|| missing("an earlier plan"))?;
        earlier.push((plan, before.until));
    }
    let parts = parts((from, to), earlier, rated_by.clone(), |since, part_to| {
        Usage::part(stored_before_bytes, &days, from, since, until.min(part_to))
    });
    Ok(Period {
        from,
        to,
        usage: Usage::of(stored_before_bytes, &days, from, until),
        parts,
        rated_by,
        sold_now: sold_now.ok_or_else(|| missing("the plan"))?,
        next,
        currency: client.currency,
        client,
    })
}

/// The parts of a period that was on the `earlier` plans, each until an instant, and then on the `last`, with the usage between two
/// instants.
pub(crate) fn parts(
    (from, to): (Date, Date),
    earlier: Vec<(Plan, Timestamp)>,
    last: Plan,
    usage: impl Fn(Timestamp, Timestamp) -> Usage,
) -> Vec<Part> {
    let mut since = start_of(from);
    let plans = earlier.into_iter().chain([(last, start_of(to))]);
    plans
        .map(|(plan, until)| {
            let part = Part {
                from: since,
                to: until,
                plan,
                usage: usage(since, until),
            };
            since = until;
            part
        })
        .collect()
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
        telemetry::set_client(account.client_id);
        if account.commits_on != Some(commits_on) {
            return Ok(());
        }
        let period = period(context, &account, start_of(commits_on)).await?;
        let (sold, refused) = period.renewed_on(context, &account);
        let dates = (period.from, period.to);
        let closing = close(&account, dates, &period.parts, sold, period.currency)
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
        let mut after = account.clone();
        if closing.is_renewed {
            let is_free = is_free_for(sold, &account.location, period.currency)
                .map_err(|e| Fault::permanent(format!("closing a period of {s3uid}"), e))?;
            after = account.on_plan(sold, is_free, PlanChanges::default());
            if sold.id != account.plan_id {
                context.database.put_group(&after.group()).await?;
            }
            // After a change within the period, whoever made it may have died before the cluster heard of it.
            let is_limit_due = account.plan_changes.latest.is_some()
                || sold.storage_limit_bytes() != period.rated_by.storage_limit_bytes();
            if is_limit_due {
                let provider = &context.clusters.of(&account.location)?.provider;
                provider
                    .set_storage_limit(s3uid, sold.storage_limit_bytes())
                    .await
                    .map_err(|error| error.into_fault("setting a storage limit"))?;
            }
        }
        let mut details = closing_details(&period, &closing, draft.as_ref());
        if after.plan_id != account.plan_id {
            details["plan_id"] = after.plan_id.into();
            details["previous_plan_id"] = account.plan_id.into();
        }
        if let (true, Some(refused)) = (closing.is_renewed, refused) {
            details["refused_plan_id"] = account.plan_changes.next_plan_id.into();
            details["refused"] = refused.to_string().into();
        }
        let entry = context.account_entry(
            account.client_id,
            s3uid,
            "period_closed",
            Actor::system("billing"),
            details,
        );
        let mut events = draft
            .as_ref()
            .map(|draft| issue_events(context, &draft.invoice))
            .unwrap_or_default();
        events.extend(plan_events(context, &account, &after));
        let issue = draft.as_ref().map(Draft::issue);
        // A plan that has come to cost nothing keeps the accounts that are on it, however many.
        let free_limit = match sold.id == account.plan_id {
            true => u32::MAX,
            false => context.rules.free_accounts_per_client,
        };
        let terms = ClosedPeriod {
            s3uid: account.s3uid.clone(),
            from: period.from,
            to: period.to,
            earlier: account.plan_changes.earlier.clone(),
            rated_by: (&period.rated_by).into(),
            next: closing.is_renewed.then_some(sold.into()),
            currency: period.currency,
            invoice_id: draft.as_ref().map(|draft| draft.invoice.invoice_id),
        };
        let closed = context
            .database
            .close_period(
                &account, &terms, &closing, &after, free_limit, issue, &entry, &events,
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

fn closing_details(period: &Period, closing: &Closing, draft: Option<&Draft>) -> Value {
    json!({
        "period_from": period.from,
        "period_to": period.to,
        "invoice_id": draft.map(|draft| draft.invoice.invoice_id),
        "amount_minor": closing.amount_minor(),
        "currency": period.currency,
        "is_renewed": closing.is_renewed,
    })
}

/// What the world is told of an account that goes on as `after`: of another plan, and of a quota that moved past what is stored.
pub(crate) fn plan_events(context: &Context, account: &Account, after: &Account) -> Vec<Event> {
    let mut events = Vec::new();
    if after.plan_id != account.plan_id {
        let detail = json!({
            "plan_id": after.plan_id,
            "plan_version": after.plan_version,
            "previous_plan_id": account.plan_id,
        });
        let (client_id, s3uid) = (account.client_id, &account.s3uid);
        events.push(context.account_event(Kind::AccountPlanChanged, client_id, s3uid, detail));
    }
    if after.quota_told != account.quota_told {
        events.push(quota_event(context, after));
    }
    events
}

/// Tells the cluster what an account may store on its plan, and again as long as the plan is changed meanwhile.
pub(crate) async fn tell_storage_limit(context: &Context, account: &Account) -> Result<(), Error> {
    let mut account = account.clone();
    for _ in 0..TRIES {
        let plan = context
            .database
            .plan_version(account.plan_id, account.plan_version)
            .await?
            .ok_or_else(|| Fault::permanent("setting a storage limit", "the plan is missing"))?;
        let provider = &context.clusters.of(&account.location)?.provider;
        provider
            .set_storage_limit(&account.s3uid, plan.storage_limit_bytes())
            .await?;
        match context.database.account(&account.s3uid).await? {
            Some(now) if (now.plan_id, now.plan_version) != (plan.id, plan.version) => {
                account = now;
            }
            _ => return Ok(()),
        }
    }
    Err(Fault::retryable(
        "setting a storage limit",
        format!("account {} keeps changing", account.s3uid),
    )
    .into())
}

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

/// Stops an account's keys. The account as it is then; none when it is going anyway.
pub(crate) async fn suspend(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<Option<Account>, Fault> {
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

/// Lets an account's keys work again, if they were stopped for that reason. The account as it is then; none when they were not.
pub(crate) async fn resume(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<Option<Account>, Fault> {
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

/// Changes a service and whether the keys work. The cluster comes first: should this die in between, whoever does it again finds it
/// still to be done. Of several at once each sees to it, last of all, that the cluster does what the record says.
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
) -> Result<Option<Account>, Fault> {
    for attempt in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(None);
        };
        let Some(service) = decide(&account.service) else {
            if attempt > 0 {
                conform(context, s3uid).await?;
            }
            return Ok(None);
        };
        let provider = &context.clusters.of(&account.location)?.provider;
        provider
            .set_suspended(s3uid, is_suspended)
            .await
            .map_err(|error| error.into_fault("changing an account's suspension"))?;
        if service != account.service {
            let entry = context.account_entry(
                account.client_id,
                s3uid,
                action,
                actor.clone(),
                detail.clone(),
            );
            let event = context.account_event(kind, account.client_id, s3uid, detail.clone());
            if !context
                .database
                .change_service(&account, &service, &entry, &[event])
                .await?
            {
                continue;
            }
        }
        return conform(context, s3uid).await;
    }
    Err(Fault::retryable(
        "changing an account",
        format!("account {s3uid} keeps changing"),
    ))
}

/// Has the cluster stop an account's keys or let them work, as the account's record says, until the record stays as it was meanwhile.
/// The account as it is then; none when it is gone.
///
/// Everybody who told the cluster something does this afterwards, and also when the record was not to be changed any more: so whoever
/// tells the cluster last tells it what was recorded last.
async fn conform(context: &Context, s3uid: &str) -> Result<Option<Account>, Fault> {
    let mut told = None;
    for _ in 0..TRIES {
        let account = context.database.account(s3uid).await?;
        let Some(account) = account.filter(Account::is_visible) else {
            return Ok(None);
        };
        let is_stopped = account.are_keys_stopped();
        if told == Some(is_stopped) {
            return Ok(Some(account));
        }
        let provider = &context.clusters.of(&account.location)?.provider;
        match provider.set_suspended(s3uid, is_stopped).await {
            // It is being removed.
            Err(error) if account.is_going() && error.is("NoSuchUser") => return Ok(Some(account)),
            done => done.map_err(|error| error.into_fault("changing an account's suspension"))?,
        }
        told = Some(is_stopped);
    }
    Err(Fault::retryable(
        "changing an account's suspension",
        format!("account {s3uid} keeps changing"),
    ))
}

fn removal(context: &Context, s3uid: &str, reason: Option<&str>) -> Task {
    let work = Work::RemoveAccount {
        s3uid: s3uid.into(),
        reason: reason.map(str::to_owned),
    };
    Task::new(work, Actor::system("billing"), context.now())
}

/// Begins the purge of an account, with its data.
async fn terminate(context: &Context, s3uid: &str) -> Result<(), Fault> {
    let task = removal(context, s3uid, None);
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
    for attempt in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(());
        };
        telemetry::set_client(account.client_id);
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
                    conform(context, s3uid).await?;
                    return Ok(());
                }
            }
            Status::Terminating if is_due => return terminate(context, s3uid).await,
            _ => {
                if attempt > 0 {
                    conform(context, s3uid).await?;
                }
                return Ok(());
            }
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

/// Recounts a client's balances from its postings, and tells of the differences, by currency; none is as it should be.
pub(crate) async fn recount(context: &Context, client_id: u64) -> Result<(), Fault> {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let differences = differences(context, client_id).await?;
        if differences != seen {
            // Something may have been posted between the reading of the postings and of the balances: what is wrong stays so.
            seen = differences;
            continue;
        }
        telemetry::add(Figure::LedgerDifferences, differences.len() as u64);
        let now = context.now();
        for difference in differences {
            tracing::error!(%difference, "a ledger balance is not what its postings add up to");
            let event = Event {
                // Told once a day, however often it is found.
                event_id: hash(&format!("{} {difference}", date_of(now))),
                at: now,
                kind: Kind::LedgerDifference,
                client_id,
                s3uid: None,
                detail: difference,
            };
            context.database.put_event(&event).await?;
        }
        return Ok(());
    }
    Err(Fault::retryable(
        "recounting balances",
        format!("those of client {client_id} keep changing"),
    ))
}

async fn differences(context: &Context, client_id: u64) -> Result<Vec<Value>, Fault> {
    let (postings, balances) = futures::try_join!(
        context.database.postings(client_id),
        context.database.all_balances(client_id)
    )?;
    let mut counted: BTreeMap<Currency, Balances> = BTreeMap::new();
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
    Ok(differences)
}
