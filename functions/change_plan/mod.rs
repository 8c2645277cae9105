//! `change_plan`: moves an account to another plan, with its next period or now (see [`wharfage::domain::plan_change`]). For admins.
//!
//! One transaction decides, on condition that the account is unchanged since it was read. The storage limit is applied to the cluster
//! afterwards. If that fails, repeating the request applies it and gets the same answer, and so does the closing of the period.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, ClusterScope, S3Uid};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::Client;
use wharfage::domain::invoice::InvoiceId;
use wharfage::domain::money::{Currency, to_major};
use wharfage::domain::period::{hour_of, start_of};
use wharfage::domain::plan::{Plan, PlanId};
use wharfage::domain::plan_change::{
    LatestChange, PlanChanges, Refused, check, earlier_after, is_free_for, prorated_lines,
};
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::Caller;
use wharfage::http::values::{Id, Number, Second};
use wharfage::tries::Tries;

use crate::closing;
use crate::invoicing::{self, Bill, Draft};
use crate::plans::check_counted;
use crate::services::{not_allowed, read_again};
use crate::suspension;

crate::action! {
    /// Changes an account's plan, now or with its next period.
    ///
    /// Naming the current plan withdraws a scheduled change.
    "change_plan" of Administrators, about Account,
        refuses [PlanNotFound, PlanNotAvailable, PlanTooSmall, SamePlan, TooManyPlanChanges, AmountTooLarge, PeriodClosing, FreeAccountLimitReached, AccountCancelled, AccountTerminating, ChangedMeanwhile, StorageRefused, StorageUnavailable]
}

/// How often it is decided again because somebody else was quicker.
const TRIES: usize = 5;
/// Seconds after which to ask again while an ended period waits for its closing.
const RETRY_AFTER_SECONDS: u32 = 600;

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The plan.
    plan_id: Id,
    /// When the change takes effect.
    #[schemars(extend("default" = "next_commit"))]
    when: Option<When>,
}

/// When a change of plan takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum When {
    /// From the next period on.
    NextCommit,
    /// From the start of the running hour on.
    Now,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// When the change takes effect.
    when: When,
    /// The account's current plan.
    plan_id: PlanId,
    /// The scheduled plan of the next period, if it differs.
    next_plan_id: Option<PlanId>,
    /// When the change takes effect.
    effective_from: Second,
    #[serde(flatten)]
    money: Option<Money>,
}

/// What a change of plan at once comes to.
#[derive(Debug, Serialize, JsonSchema)]
struct Money {
    /// The invoice or credit note; null if nothing is charged or credited.
    invoice_id: Option<InvoiceId>,
    /// Its amount; negative for a credit note.
    amount: Number,
    /// The currency of the amount.
    currency: Currency,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let (caller, mut account) = (call.caller, call.about);
    let plan_id = PlanId(call.parameters.plan_id.0);
    let mut invoice_id = None;
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| Rejection::changed_meanwhile("S3 account is being changed"))?;
        let answer = match call.parameters.when {
            Some(When::Now) => now(context, &caller, &account, plan_id, &mut invoice_id).await?,
            None | Some(When::NextCommit) => {
                with_next_period(context, &caller, &account, plan_id).await?
            }
        };
        if let Some(answer) = answer {
            return Ok(answer);
        }
        account = read_again(context, &caller, &account.s3uid).await?;
    }
}

/// Notes the plan of the next period, or with the present one that it stays. `None` when somebody else changed the account meanwhile.
async fn with_next_period(
    context: &Context,
    caller: &Caller,
    account: &Account,
    plan_id: PlanId,
) -> Result<Option<Answered>, Error> {
    let next_plan_id = (plan_id != account.plan_id).then_some(plan_id);
    let plan_changes = PlanChanges {
        next_plan_id,
        ..account.plan_changes.clone()
    };
    let answer = Answered {
        s3uid: account.s3uid.clone(),
        when: When::NextCommit,
        plan_id: account.plan_id,
        next_plan_id,
        effective_from: Second(start_of(account.service.next_commit_date)),
        money: None,
    };
    if plan_changes == account.plan_changes {
        return Ok(Some(answer));
    }
    if next_plan_id.is_some() {
        let (plan, client) = plan_and_client(context, account, plan_id).await?;
        check(account, &client, &plan, free_limit(context)).map_err(rejection)?;
    }
    let details = json!({
        "when": "next_commit",
        "plan_id": account.plan_id,
        "next_plan_id": next_plan_id,
        "effective_on": account.service.next_commit_date,
    });
    let entry = caller.entry(context, account, NAME, details);
    let after = Account {
        plan_changes,
        ..account.clone()
    };
    let noted = context
        .database
        .change_plan(account, &after, free_limit(context), None, &entry, &[])
        .await?;
    Ok(noted.is_yes().then_some(answer))
}

/// Changes the plan at the start of the running hour. `None` when somebody else changed the account meanwhile.
async fn now(
    context: &Context,
    caller: &Caller,
    account: &Account,
    plan_id: PlanId,
    invoice_id: &mut Option<InvoiceId>,
) -> Result<Option<Answered>, Error> {
    if plan_id == account.plan_id {
        return asked_again(context, account).await.map(Some);
    }
    let now = context.now();
    let (from, to) = account.service.period();
    if now >= start_of(to) {
        return Err(Rejection::new(
            Reason::PeriodClosing,
            "the period that has ended is still to be closed, try again later",
        )
        .retry_after(RETRY_AFTER_SECONDS)
        .into());
    }
    let old = async {
        let version = context
            .database
            .plan_version(account.plan_id, account.plan_version);
        let missing = || Fault::permanent("changing a plan", "the account's plan is missing");
        Ok(version.await?.ok_or_else(missing)?)
    };
    let ((plan, client), old) =
        futures::try_join!(plan_and_client(context, account, plan_id), old)?;
    let currency = client.currency;
    check(account, &client, &plan, free_limit(context)).map_err(rejection)?;
    let is_free = is_free_for(&plan, &account.location, currency).map_err(rejection)?;

    // Not before the change that was made last, whatever another machine's clock says.
    let last = account.plan_changes.earlier.last();
    let at = hour_of(now)
        .max(start_of(from))
        .max(last.map_or(start_of(from), |last| last.until));
    let earlier = earlier_after(account, from, &plan, at).map_err(rejection)?;
    let lines = match account.service.uncharged_from == Some(from) {
        // Nothing was charged that could be given back, and nothing is.
        true => Vec::new(),
        false => prorated_lines(&account.location, (from, to), at, &old, &plan, currency)
            .map_err(rejection)?,
    };
    let id = invoicing::draw_id(context, &lines, invoice_id).await?;
    let cause = format!("{}@{}", account.s3uid, account.revision);
    let bill = Bill::on(account, currency, lines, id, cause);
    let draft = invoicing::draft(context, bill, now).await?;
    let latest = LatestChange {
        from: at,
        invoice_id: draft.as_ref().map(|draft| draft.invoice.invoice_id),
        amount_minor: draft.as_ref().map_or(0, |draft| draft.invoice.amount_minor),
        currency,
    };
    let plan_changes = PlanChanges {
        next_plan_id: None,
        earlier,
        latest: Some(latest.clone()),
    };
    let mut after = account.on_plan(&plan, is_free, plan_changes);
    if is_traffic_again(account, &plan) {
        after.service = account.service.traffic_again();
    }
    let (after, due) = closing::marked(account, after, (&old, &plan), now);
    context.database.put_group(&after.group()).await?;
    let details = json!({
        "when": "now",
        "plan_id": plan.id,
        "plan_version": plan.version,
        "previous_plan_id": account.plan_id,
        "effective_from": format!("{at:.0}"),
        "invoice_id": latest.invoice_id,
        "amount_minor": latest.amount_minor,
        "currency": currency,
    });
    let entry = caller.entry(context, account, NAME, details);
    let mut events = closing::plan_events(context, account, &after);
    if let Some(draft) = &draft {
        events.extend(invoicing::issue_events(context, &draft.invoice));
    }
    let lowered = draft.as_ref().map(Draft::lowered).unwrap_or_default();
    let issue = draft.as_ref().map(|draft| draft.issue(&lowered));
    let changed = context
        .database
        .change_plan(account, &after, free_limit(context), issue, &entry, &events)
        .await?;
    if !changed.is_yes() {
        if let Some(draft) = &draft {
            draft.give_up(context).await?;
        }
        return Ok(None);
    }
    if due != ClusterScope::default() {
        suspension::settle(context, after.clone(), due).await?;
    }
    spend(context, &after, &latest).await?;
    Ok(Some(answer(&after, &latest)))
}

/// Answers a change that was made before: whoever asked may not have heard the answer, nor the cluster its limit.
async fn asked_again(context: &Context, account: &Account) -> Result<Answered, Error> {
    let Some(latest) = &account.plan_changes.latest else {
        return Err(rejection(Refused::SamePlan).into());
    };
    if let Some(unsettled) = &account.unsettled {
        let due = ClusterScope {
            suspension: unsettled.parts.suspension,
            ..ClusterScope::STORAGE_LIMIT
        };
        suspension::settle_again(context, account.clone(), due).await?;
    }
    spend(context, account, latest).await?;
    Ok(answer(account, latest))
}

/// Whether an account whose keys stopped when its period's traffic was used up may send more on a plan.
fn is_traffic_again(account: &Account, plan: &Plan) -> bool {
    let limit_bytes = plan.traffic_limit_bytes();
    let is_more = limit_bytes.is_none_or(|limit_bytes| limit_bytes > account.period_bytes_sent);
    account.service.traffic_spent_in.is_some() && (is_more || !plan.stop_at_bandwidth_limit)
}

/// Has accounts resumed that were suspended for what the credit note of a change took off their invoices; what became credit beside more
/// open invoices than one transaction lowers pays those.
async fn spend(context: &Context, account: &Account, latest: &LatestChange) -> Result<(), Fault> {
    if latest.amount_minor >= 0 {
        return Ok(());
    }
    let client_id = account.client_id;
    let work = BillingWork::Settle { client_id };
    context.queue.send_billing(&[work]).await
}

fn answer(account: &Account, latest: &LatestChange) -> Answered {
    Answered {
        s3uid: account.s3uid.clone(),
        when: When::Now,
        plan_id: account.plan_id,
        next_plan_id: account.plan_changes.next_plan_id,
        effective_from: Second(latest.from),
        money: Some(Money {
            invoice_id: latest.invoice_id,
            amount: Number(to_major(latest.amount_minor, latest.currency)),
            currency: latest.currency,
        }),
    }
}

async fn plan_and_client(
    context: &Context,
    account: &Account,
    plan_id: PlanId,
) -> Result<(Plan, Client), Error> {
    let (plan, client) = futures::try_join!(
        context.database.plan(plan_id),
        context.database.client(account.client_id),
    )?;
    let plan = plan.ok_or_else(Rejection::plan_not_found)?;
    let client = client.ok_or_else(Rejection::client_not_found)?;
    check_counted(context, &plan, &account.location)?;
    Ok((plan, client))
}

fn free_limit(context: &Context) -> u32 {
    context.rules.free_accounts_per_client
}

/// As orders are refused: what the client may not have is forbidden, all else is the present state's doing.
fn rejection(refused: Refused) -> Rejection {
    let reason = match &refused {
        Refused::NotAllowed(refused) => return not_allowed(refused),
        Refused::FreeLimit => Reason::FreeAccountLimitReached,
        Refused::SamePlan => Reason::SamePlan,
        Refused::NotActive
        | Refused::NotOffered(_)
        | Refused::NotSold(_)
        | Refused::StorageType { .. } => Reason::PlanNotAvailable,
        Refused::TooMuchStored { .. } => Reason::PlanTooSmall,
        Refused::TooManyChanges => Reason::TooManyPlanChanges,
        Refused::AmountTooLarge(_) => Reason::AmountTooLarge,
    };
    Rejection::new(reason, refused.to_string())
}
