//! The ends of services: what an account's day brings, whether it was cancelled, its time is over, or it was not paid for.

use serde_json::json;
use wharfage::context::Context;
use wharfage::database::{Conflict, Started, Written};
use wharfage::domain::account::{
    Account, ClusterScope, Due, S3Uid, Service, Suspension, TerminationReason,
};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::period::date_of;
use wharfage::domain::task::{Task, Work};
use wharfage::error::Fault;
use wharfage::telemetry;
use wharfage::tries::Tries;

use crate::billing::TRIES;
use crate::chasing;
use crate::suspension::{lift_unpaid, settle, settle_if_due, suspend_unpaid};

/// Begins the purge of an account whose service has ended.
async fn terminate(context: &Context, s3uid: &S3Uid) -> Result<(), Fault> {
    let work = Work::RemoveAccount {
        s3uid: s3uid.clone(),
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
pub(crate) async fn end_service(context: &Context, s3uid: &S3Uid) -> Result<(), Fault> {
    let today = date_of(context.now());
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            Fault::keeps_changing("ending a service", format_args!("account {s3uid}"))
        })?;
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
                if account.service.is_unpaid() {
                    // It may have been paid for in the moment in which it was suspended.
                    chasing::lift_what_is_paid(context, account.client_id, Some(s3uid)).await??;
                }
                settle_if_due(context, s3uid).await?;
                true
            }
        };
        if is_done {
            return Ok(());
        }
    }
}

/// Stops the keys of a cancelled account. `false` when somebody else changed it meanwhile.
async fn end(context: &Context, account: &Account) -> Result<bool, Fault> {
    let s3uid = &account.s3uid;
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
        .await?
        .is_yes();
    if is_changed {
        let account = account.with_service(&service, entry.at);
        settle(context, account, ClusterScope::SUSPENSION).await?;
    }
    Ok(is_changed)
}

/// The time that staff gave an account is over: it is suspended again if something is still overdue. `false` when it is to be looked at
/// again: it was suspended, or somebody else changed it meanwhile.
async fn time_is_over(context: &Context, account: &Account) -> Result<bool, Fault> {
    chasing::settle(context, account.client_id).await?.1?;
    let open = context.database.open_invoices(account.client_id).await?;
    if chasing::owes(context, &open, &account.s3uid).is_some() {
        suspend_unpaid(context, &account.s3uid).await?;
        // And is looked at again, for what was paid meanwhile.
        return Ok(false);
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
        .map(|written| written.is_yes())
}

/// Begins the purge of an unpaid account on the day that was told, if something is overdue still. `false` when somebody else changed the
/// account, or something was paid meanwhile.
async fn purge_unpaid(context: &Context, account: &Account) -> Result<bool, Fault> {
    chasing::settle(context, account.client_id).await?.1?;
    let open = context.database.open_invoices(account.client_id).await?;
    let Some(owing) = chasing::owes(context, &open, &account.s3uid) else {
        lift_unpaid(context, &account.s3uid, false).await?;
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
        Written::Yes => {
            context.queue.send(&task).await?;
            Ok(true)
        }
        // Its removal was asked for before.
        Written::No(conflicts) => Ok(conflicts == [Conflict::UnderWay]),
    }
}
