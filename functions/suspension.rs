//! Keys that stop and work again, limits, and the ends of services: what the record says, brought to the cluster.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::Started;
use wharfage::domain::account::{Account, Service, Status, Suspension};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::period::date_of;
use wharfage::domain::task::{Task, Work};
use wharfage::error::{Error, Fault};
use wharfage::telemetry;

use crate::billing::TRIES;

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
pub(crate) async fn conform(context: &Context, s3uid: &str) -> Result<Option<Account>, Fault> {
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

pub(crate) fn removal(context: &Context, s3uid: &str, reason: Option<&str>) -> Task {
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
