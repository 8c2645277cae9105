//! Keys that stop and work again, limits, and the ends of services: what the record says, brought to the cluster.

use jiff::civil::Date;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::{Conflict, Started};
use wharfage::domain::account::{Account, Due, Service, Status, Suspension, TerminationReason};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::period::date_of;
use wharfage::domain::task::{Task, Work};
use wharfage::error::{Error, Fault};
use wharfage::telemetry;

use crate::billing::TRIES;
use crate::chasing;

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

/// Stops an account's keys for a member of staff. The account as it is then; none when it is going anyway.
pub(crate) async fn suspend_by_staff(
    context: &Context,
    s3uid: &str,
    actor: Actor,
) -> Result<Option<Account>, Fault> {
    let decide = |service: &Service| service.suspend_by_staff().ok();
    let describe = |_: &Service| {
        let detail = json!({ "reason": Suspension::Administrator });
        (Kind::AccountSuspended, detail)
    };
    change(context, s3uid, "suspend_account", actor, decide, describe).await
}

/// Stops an account's keys because an invoice is overdue, and tells the day on which its data goes. The account as it is then; none when
/// it is going anyway.
pub(crate) async fn suspend_unpaid(
    context: &Context,
    s3uid: &str,
) -> Result<Option<Account>, Fault> {
    let purge_on = context.rules.dunning.purge_on(date_of(context.now()));
    let decide = |service: &Service| service.suspend_unpaid(purge_on).ok();
    let describe = |service: &Service| {
        let detail = json!({
            "reason": Suspension::Unpaid,
            "termination_date": service.termination().map(|(date, _)| date),
            "termination_reason": service.termination().map(|(_, reason)| reason),
        });
        (Kind::AccountSuspended, detail)
    };
    let actor = Actor::system("billing");
    change(context, s3uid, "suspend_account", actor, decide, describe).await
}

/// Undoes what an overdue invoice did to an account, now that nothing is overdue: its keys work again unless something else stops them, and
/// its data does not go for that any more. The account as it is then; none when there was nothing to undo.
pub(crate) async fn lift_unpaid(context: &Context, s3uid: &str) -> Result<Option<Account>, Fault> {
    let decide = |service: &Service| service.is_unpaid().then(|| service.paid());
    let describe = |service: &Service| {
        let is_stopped = service.suspension.is_some() || service.status == Status::Terminating;
        let kind = match is_stopped {
            true => Kind::AccountChanged,
            false => Kind::AccountResumed,
        };
        (kind, json!({ "reason": Suspension::Unpaid }))
    };
    let actor = Actor::system("billing");
    change(context, s3uid, "resume_account", actor, decide, describe).await
}

/// Lets an account's keys work again for a member of staff, whoever stopped them. `until` is the day on which it is suspended again if an
/// invoice is still overdue. The account as it is then; none when its keys were not stopped, or it is going.
pub(crate) async fn resume_by_staff(
    context: &Context,
    s3uid: &str,
    until: Option<Date>,
    actor: Actor,
) -> Result<Option<Account>, Fault> {
    let decide = |service: &Service| {
        let until = until.filter(|_| service.is_unpaid());
        service.resume(until).ok()
    };
    let describe = |service: &Service| {
        let detail = json!({ "until": service.resumed_until });
        (Kind::AccountResumed, detail)
    };
    change(context, s3uid, "resume_account", actor, decide, describe).await
}

/// Changes a service and whether the keys work. The cluster comes first: should this die in between, whoever does it again finds it
/// still to be done. Of several at once each sees to it, last of all, that the cluster does what the record says.
async fn change(
    context: &Context,
    s3uid: &str,
    action: &str,
    actor: Actor,
    decide: impl Fn(&Service) -> Option<Service>,
    describe: impl Fn(&Service) -> (Kind, Value),
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
        let after = Account {
            service,
            ..account.clone()
        };
        let provider = &context.clusters.of(&account.location)?.provider;
        match provider
            .set_suspended(s3uid, after.are_keys_stopped())
            .await
        {
            // It is being removed.
            Err(error) if after.is_going() && error.is("NoSuchUser") => {}
            done => done.map_err(|error| error.into_fault("changing an account's suspension"))?,
        }
        if after.service != account.service {
            let (kind, detail) = describe(&after.service);
            let entry = context.account_entry(
                account.client_id,
                s3uid,
                action,
                actor.clone(),
                detail.clone(),
            );
            let event = context.account_event(kind, account.client_id, s3uid, detail);
            if !context
                .database
                .change_service(&account, &after.service, &entry, &[event])
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

/// Begins the purge of an account whose service has ended.
async fn terminate(context: &Context, s3uid: &str) -> Result<(), Fault> {
    let work = Work::RemoveAccount {
        s3uid: s3uid.into(),
        reason: None,
    };
    let task = Task::new(work, Actor::system("billing"), context.now());
    // The record stands: should the message not get out, the job that looks for silent tasks sends it.
    match context.database.start_task(task, None).await? {
        Started::New(task) => context.queue.send(&task).await,
        Started::Joined(_) => Ok(()),
    }
}

/// Takes the step of an account whose day has come: its keys stop on the cancellation date; it is suspended again when the time that staff
/// gave is over; its data goes on the day that was told, of an unpaid account only while something is overdue.
pub(crate) async fn end_service(context: &Context, s3uid: &str) -> Result<(), Fault> {
    let today = date_of(context.now());
    for attempt in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(());
        };
        telemetry::set_client(account.client_id);
        let due = account.service.due().filter(|(date, _)| *date <= today);
        let is_done = match due.map(|(_, due)| due) {
            Some(Due::End) => end(context, &account).await?,
            Some(Due::Suspension) => time_is_over(context, &account).await?,
            Some(Due::Purge(TerminationReason::Unpaid)) => purge_unpaid(context, &account).await?,
            Some(Due::Purge(_)) => {
                terminate(context, s3uid).await?;
                true
            }
            None => {
                if attempt > 0 {
                    conform(context, s3uid).await?;
                }
                true
            }
        };
        if is_done {
            return Ok(());
        }
    }
    Err(Fault::retryable(
        "ending a service",
        format!("account {s3uid} keeps changing"),
    ))
}

/// Stops the keys of a cancelled account. `false` when somebody else changed it meanwhile.
async fn end(context: &Context, account: &Account) -> Result<bool, Fault> {
    let s3uid = &account.s3uid;
    let provider = &context.clusters.of(&account.location)?.provider;
    provider
        .set_suspended(s3uid, true)
        .await
        .map_err(|error| error.into_fault("ending a service"))?;
    let service = account.service.end();
    let detail = json!({
        "termination_date": service.termination().map(|(date, _)| date),
        "termination_reason": service.termination().map(|(_, reason)| reason),
    });
    let actor = Actor::system("end_services");
    let client_id = account.client_id;
    let entry = context.account_entry(client_id, s3uid, "service_ended", actor, detail.clone());
    let event = context.account_event(Kind::AccountChanged, client_id, s3uid, detail);
    let is_changed = context
        .database
        .change_service(account, &service, &entry, &[event])
        .await?;
    if is_changed {
        conform(context, s3uid).await?;
    }
    Ok(is_changed)
}

/// The time that staff gave an account is over: it is suspended again if something is still overdue. `false` when somebody else changed it
/// meanwhile.
async fn time_is_over(context: &Context, account: &Account) -> Result<bool, Fault> {
    chasing::settle(context, account.client_id).await?.1?;
    let open = context.database.open_invoices(account.client_id).await?;
    if chasing::owes(context, &open, &account.s3uid).is_some() {
        suspend_unpaid(context, &account.s3uid).await?;
        return Ok(true);
    }
    let service = Service {
        resumed_until: None,
        ..account.service.clone()
    };
    let entry = context.account_entry(
        account.client_id,
        &account.s3uid,
        "resume_account",
        Actor::system("billing"),
        json!({ "reason": Suspension::Unpaid }),
    );
    context
        .database
        .change_service(account, &service, &entry, &[])
        .await
}

/// Begins the purge of an unpaid account on the day that was told, if something is overdue still. `false` when somebody else changed the
/// account, or something was paid meanwhile.
async fn purge_unpaid(context: &Context, account: &Account) -> Result<bool, Fault> {
    chasing::settle(context, account.client_id).await?.1?;
    let open = context.database.open_invoices(account.client_id).await?;
    let Some(owing) = chasing::owes(context, &open, &account.s3uid) else {
        lift_unpaid(context, &account.s3uid).await?;
        return Ok(true);
    };
    let reason = TerminationReason::Unpaid;
    let work = Work::RemoveAccount {
        s3uid: account.s3uid.clone(),
        reason: Some(reason.to_string()),
    };
    let now = context.now();
    let actor = Actor::system("billing");
    let task = Task::new(work, actor.clone(), now);
    let service = account.service.remove(date_of(now), reason);
    let detail = json!({
        "reason": reason,
        "invoice_id": owing.invoice_id,
        "open_minor": owing.open_minor(),
        "currency": owing.currency,
    });
    let (client_id, s3uid) = (account.client_id, &account.s3uid);
    let entry = context.account_entry(client_id, s3uid, "delete_account", actor, detail.clone());
    let event = context.account_event(Kind::AccountChanged, client_id, s3uid, detail);
    let begun = context
        .database
        .remove_unpaid(account, &service, owing, &task, &entry, &[event])
        .await?;
    match begun {
        Ok(()) => {
            context.queue.send(&task).await?;
            Ok(true)
        }
        // Its removal was asked for before.
        Err(conflicts) => Ok(conflicts == [Conflict::UnderWay]),
    }
}
