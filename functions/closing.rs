//! Closing of periods: reads everything, rates it, issues the invoice and begins the next period, in one transaction.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::account::{Account, ClusterScope, S3Uid, Suspension};
use wharfage::domain::allowance::OpenedAnew;
use wharfage::domain::client::Client;
use wharfage::domain::closing::{ClosedPeriod, ClosingOutcome, PlanSpan, close, is_next_charged};
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::history::Actor;
use wharfage::domain::money::Currency;
use wharfage::domain::period::start_of;
use wharfage::domain::plan::Plan;
use wharfage::domain::plan_change::{PlanChanges, Refused, is_free_for, renewed_on};
use wharfage::domain::usage::Usage;
use wharfage::error::Fault;
use wharfage::telemetry;
use wharfage::tries::Tries;

use crate::allowance::opened_anew;
use crate::billing::TRIES;
use crate::invoicing::{Bill, Draft, draft, draw_id, issue_events};
use crate::metering::quota_event;
use crate::suspension;

/// An account's running or latest period with all that its closing takes.
pub(crate) struct OpenPeriod {
    /// Its first day.
    pub from: Date,
    /// Its end.
    pub to: Date,
    /// What was used in it.
    pub usage: Usage,
    /// The same, by the plans that it was on.
    pub parts: Vec<PlanSpan>,
    /// What was used of its allowances before it, where the account took another's place.
    pub opened_anew: Option<OpenedAnew>,
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

impl OpenPeriod {
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
) -> Result<OpenPeriod, Fault> {
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
    let opened_anew = match from == account.service.ordered_on {
        true => {
            let later = |since| Usage::part(stored_before_bytes, &days, from, since, until);
            opened_anew(context, account, until, later).await?
        }
        false => None,
    };
    Ok(OpenPeriod {
        from,
        to,
        opened_anew,
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
) -> Vec<PlanSpan> {
    let mut since = start_of(from);
    let plans = earlier.into_iter().chain([(last, start_of(to))]);
    plans
        .map(|(plan, until)| {
            let part = PlanSpan {
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
    s3uid: &S3Uid,
    commits_on: Date,
) -> Result<(), Fault> {
    let mut invoice_id = None;
    let mut lost: Option<Draft> = None;
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            Fault::keeps_changing("closing a period", format_args!("account {s3uid}"))
        })?;
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(());
        };
        telemetry::set_client(account.client_id);
        if account.commits_on != Some(commits_on) {
            // Somebody else was quicker, and maybe before this took a place for the same invoice.
            if let Some(draft) = lost {
                draft.give_up(context).await?;
            }
            return Ok(());
        }
        let period = period(context, &account, start_of(commits_on)).await?;
        let (sold, refused) = period.renewed_on(context, &account);
        let dates = (period.from, period.to);
        let is_next_charged = is_next_charged(&account, sold, context.rules.charge_suspended);
        let closing = close(
            &account,
            dates,
            &period.parts,
            period.opened_anew.as_ref(),
            sold,
            is_next_charged,
            period.currency,
        )
        .map_err(|e| Fault::permanent(format!("closing a period of {s3uid}"), e))?;
        let id = draw_id(context, &closing.lines, &mut invoice_id).await?;
        let now = context.now();
        let cause = format!("{s3uid}:{}", period.from);
        let bill = Bill::on(&account, period.currency, closing.lines.clone(), id, cause);
        let draft = draft(context, bill, now).await?;
        let (after, due) = match closing.is_renewed {
            true => renewed(&account, &period, &closing, sold, now)?,
            false => (account.clone(), ClusterScope::default()),
        };
        if after.plan_id != account.plan_id {
            context.database.put_group(&after.group()).await?;
        }
        let mut details = closing_details(&period, &closing, draft.as_ref());
        if after.plan_id != account.plan_id {
            details["plan_id"] = json!(after.plan_id);
            details["previous_plan_id"] = json!(account.plan_id);
        }
        if let (true, Some(refused)) = (closing.is_renewed, refused) {
            details["refused_plan_id"] = json!(account.plan_changes.next_plan_id);
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
            is_uncharged: account.service.uncharged_from == Some(period.from),
            is_next_uncharged: closing.is_renewed && !is_next_charged,
            used_before: period.opened_anew.map(|opened_anew| opened_anew.before),
            invoice_id: draft.as_ref().map(|draft| draft.invoice.invoice_id),
        };
        let lowered = draft.as_ref().map(Draft::lowered).unwrap_or_default();
        let issue = draft.as_ref().map(|draft| draft.issue(&lowered));
        let closed = context
            .database
            .close_period(
                &account, &terms, &closing, &after, free_limit, issue, &entry, &events,
            )
            .await?;
        if closed.is_yes() {
            if after.unsettled != account.unsettled
                && let Err(stopped) = suspension::settle(context, after, due).await
            {
                // The period is closed, and the account marked: its cluster is told again.
                let error = Fault::from(stopped);
                tracing::warn!(s3uid = s3uid.as_str(), %error, "the cluster has yet to hear of a new period");
            }
            return Ok(());
        }
        lost = draft;
    }
}

/// An account whose period is renewed on a plan, and what of it its cluster is to be told.
fn renewed(
    account: &Account,
    period: &OpenPeriod,
    closing: &ClosingOutcome,
    sold: &Plan,
    now: Timestamp,
) -> Result<(Account, ClusterScope), Fault> {
    let is_free = is_free_for(sold, &account.location, period.currency)
        .map_err(|e| Fault::permanent(format!("closing a period of {}", account.s3uid), e))?;
    let mut after = account.on_plan(sold, is_free, PlanChanges::default());
    after.service = closing.service.clone();
    Ok(marked(account, after, (&period.rated_by, sold), now))
}

/// An account as it is `after` it went from one plan to another, marked where its cluster is to be told of that, and of what.
pub(crate) fn marked(
    account: &Account,
    after: Account,
    (old, new): (&Plan, &Plan),
    now: Timestamp,
) -> (Account, ClusterScope) {
    // After an earlier change within the period, whoever made it may have died before the cluster heard of it.
    let is_limit_due = account.plan_changes.latest.is_some()
        || new.storage_limit_bytes() != old.storage_limit_bytes();
    let due = ClusterScope {
        storage_limit: is_limit_due,
        suspension: after.are_keys_stopped() != account.are_keys_stopped(),
        keys: false,
    };
    match due == ClusterScope::default() {
        true => (after, due),
        false => (after.unsettled_in(due, now), due),
    }
}

fn closing_details(period: &OpenPeriod, closing: &ClosingOutcome, draft: Option<&Draft>) -> Value {
    json!({
        "period_from": period.from,
        "period_to": period.to,
        "invoice_id": draft.map(|draft| draft.invoice.invoice_id),
        "amount_minor": closing.amount_minor(),
        "currency": period.currency,
        "is_renewed": closing.is_renewed,
    })
}

/// What the world is told of an account that goes on as `after`: of another plan, of a quota that moved past what is stored, and
/// of keys that work again because there is traffic.
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
    if account.are_keys_stopped() && !after.are_keys_stopped() {
        let detail = json!({ "reason": Suspension::Traffic });
        let (client_id, s3uid) = (account.client_id, &account.s3uid);
        events.push(context.account_event(Kind::AccountResumed, client_id, s3uid, detail));
    }
    events
}
