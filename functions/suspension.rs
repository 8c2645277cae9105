//! Applies the record to the cluster: keys that stop and work again, and limits. Nothing else stops keys.
//!
//! The record is written first, together with the account's mark ([`Unsettled`]). From then on the cluster converges to it, whichever
//! process dies and whichever answer is lost. Then the record is applied to the cluster, and the mark is removed. The mark stays if the
//! cluster cannot be reached, if the outcome of a call is unknown, or if two processes applied changes at once. Then `resume_tasks` finds
//! it, once none of these calls can take effect any more, and has the record applied again.

use futures::future::BoxFuture;
use jiff::civil::Date;
use serde_json::{Value, json};
use wharfage::cluster::doubt::watched;
use wharfage::cluster::{ClusterError, Keys, StorageProvider};
use wharfage::context::Context;
use wharfage::domain::account::{
    Account, ClusterScope, S3Uid, Service, Status, Suspension, TerminationReason, Unsettled,
};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::period::date_of;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::telemetry::{self, Figure};
use wharfage::tries::Tries;

use crate::billing::TRIES;
use crate::metering::traffic_event;

/// Why something that takes a cluster was not done. What is recorded stands, and the cluster is asked again.
pub(crate) enum Stopped {
    /// The cluster did not do it.
    Cluster(ClusterError),
    /// Something else.
    Fault(Fault),
}

impl From<ClusterError> for Stopped {
    fn from(error: ClusterError) -> Stopped {
        Stopped::Cluster(error)
    }
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Stopped {
        Stopped::Fault(fault)
    }
}

impl From<Stopped> for Fault {
    fn from(stopped: Stopped) -> Fault {
        match stopped {
            Stopped::Cluster(error) => error.into_fault("telling a cluster what the record says"),
            Stopped::Fault(fault) => fault,
        }
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Error {
        match stopped {
            Stopped::Cluster(error @ ClusterError::Unavailable(_)) => match error.into() {
                Error::Rejection(rejection) => Rejection {
                    text: "the storage cannot answer now: the change is recorded, and made there as soon as it can".into(),
                    ..rejection
                }
                .into(),
                fault => fault,
            },
            Stopped::Cluster(error) => error.into(),
            Stopped::Fault(fault) => fault.into(),
        }
    }
}

/// Has an account's cluster do what its record says of these parts, until nobody has changed them meanwhile. The account as it is then.
/// `account` is as its caller has just written it, with a mark of its own or without; as it was read, see [`settle_again`].
pub(crate) fn settle(
    context: &Context,
    account: Account,
    parts: ClusterScope,
) -> BoxFuture<'_, Result<Account, Stopped>> {
    let unsettled = account.unsettled.as_ref();
    let is_own = unsettled.is_some_and(|unsettled| unsettled.revision == account.revision);
    // Boxed, as it stands in the middle of many a long piece of work.
    Box::pin(settle_marked(context, account, parts, is_own))
}

/// The same for an account as it was read: it is marked first, whoever else may have marked it.
pub(crate) fn settle_again(
    context: &Context,
    account: Account,
    parts: ClusterScope,
) -> BoxFuture<'_, Result<Account, Stopped>> {
    Box::pin(settle_marked(context, account, parts, false))
}

async fn settle_marked(
    context: &Context,
    mut account: Account,
    parts: ClusterScope,
    mut is_own: bool,
) -> Result<Account, Stopped> {
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            let whose = format_args!("account {}", account.s3uid);
            Fault::keeps_changing("telling a cluster what the record says", whose)
        })?;
        let own = account.unsettled.clone().filter(|_| is_own);
        if let Some(unsettled) = &own {
            let (told, is_certain) =
                watched(update_cluster(context, &account, unsettled, parts)).await;
            told?;
            let is_settled = is_certain && !unsettled.is_contested && parts.cover(unsettled.parts);
            if is_settled
                && context
                    .database
                    .clear_unsettled(&account.s3uid, unsettled)
                    .await?
                    .is_yes()
            {
                account.unsettled = None;
                return Ok(account);
            }
        } else {
            let marked = account.unsettled_in(parts, context.now());
            if context
                .database
                .mark_unsettled(&account, &marked)
                .await?
                .is_yes()
            {
                (account, is_own) = (marked, true);
                continue;
            }
        }
        let now = context.database.account(&account.s3uid).await?;
        let Some(now) = now.filter(Account::is_visible) else {
            return Ok(account);
        };
        if own.is_some() && said(&account, parts) == said(&now, parts) {
            // The mark stays, or is another's, who knows of this one.
            return Ok(now);
        }
        (account, is_own) = (now, false);
    }
}

/// What a record says of these parts.
fn said(account: &Account, parts: ClusterScope) -> impl PartialEq {
    let next = account.next_key.as_ref().map(|next| &next.access_key);
    (
        parts.suspension.then(|| account.are_keys_stopped()),
        parts
            .storage_limit
            .then_some((account.plan_id, account.plan_version)),
        parts
            .keys
            .then(|| (account.access_key.clone(), next.cloned())),
    )
}

/// Tells an account's cluster what the record says of these parts. What one of them meets does not keep the others from being told.
async fn update_cluster(
    context: &Context,
    account: &Account,
    unsettled: &Unsettled,
    parts: ClusterScope,
) -> Result<(), Stopped> {
    let provider = context.clusters.of(&account.location)?.provider.as_ref();
    let s3uid = &account.s3uid;
    let is_stopped = account.are_keys_stopped();
    let suspension = async {
        match parts.suspension {
            true => provider.set_suspended(s3uid, is_stopped).await,
            false => Ok(()),
        }
        .map_err(Stopped::from)
    };
    let rest = async {
        let keys = async {
            match parts.keys {
                true => tell_keys(context, provider, account, unsettled).await,
                false => Ok(()),
            }
        };
        let limit = async {
            match parts.storage_limit {
                true => tell_storage_limit(context, provider, account).await,
                false => Ok(()),
            }
        };
        let (keys, limit) = (keys.await, limit.await);
        keys.and(limit)
    };
    // Keys stop first, and work again last.
    let told: Result<(), Stopped> = if is_stopped {
        let suspension = suspension.await;
        suspension.and(rest.await)
    } else {
        let rest = rest.await;
        rest.and(suspension.await)
    };
    match told {
        // It is being removed.
        Err(Stopped::Cluster(error)) if account.is_going() && error.is("NoSuchUser") => Ok(()),
        told => told,
    }
}

async fn tell_storage_limit(
    context: &Context,
    provider: &dyn StorageProvider,
    account: &Account,
) -> Result<(), Stopped> {
    let plan = context
        .database
        .plan_version(account.plan_id, account.plan_version)
        .await?
        .ok_or_else(|| Fault::permanent("setting a storage limit", "the plan is missing"))?;
    provider
        .set_storage_limit(&account.s3uid, plan.storage_limit_bytes())
        .await?;
    Ok(())
}

/// The key that is to take the present one's place is there, and those before it are not. The present one was there before them, if it
/// did not take their place itself.
async fn tell_keys(
    context: &Context,
    provider: &dyn StorageProvider,
    account: &Account,
    unsettled: &Unsettled,
) -> Result<(), Stopped> {
    let present = (&account.access_key, &account.secret_key_ciphertext);
    let present = (!unsettled.removed_keys.is_empty()).then_some(present);
    let next = account.next_key.as_ref();
    let next = next.map(|next| (&next.access_key, &next.secret_key_ciphertext));
    for (access_key, ciphertext) in present.into_iter().chain(next) {
        let keys = Keys {
            access_key: access_key.clone(),
            secret_key: context.vault.decrypt(&account.s3uid, ciphertext).await?,
        };
        provider.add_key(&account.s3uid, &keys).await?;
    }
    // However late another one tells what he read before: no key that was ever removed is given to an account again, so what he removes is
    // never one that it has by now.
    for access_key in account.keys_to_remove() {
        provider.remove_key(&account.s3uid, access_key).await?;
    }
    Ok(())
}

/// Takes up an account that has been marked for a while: its cluster is told everything that its record says.
pub(crate) async fn take_up(context: &Context, s3uid: &S3Uid) -> Result<(), Fault> {
    let account = context.database.account(s3uid).await?;
    let Some(account) = account.filter(Account::is_visible) else {
        return Ok(());
    };
    telemetry::set_client(account.client_id);
    let unsettled = account.unsettled.as_ref();
    // Whoever is telling it now is not disturbed: that would only make it take longer.
    if !unsettled.is_some_and(|unsettled| unsettled.is_quiet(context.now())) {
        return Ok(());
    }
    match settle_again(context, account, ClusterScope::ALL).await {
        // The mark stands, and is found again: no message has to wait for the cluster.
        Err(Stopped::Cluster(error @ ClusterError::Unavailable(_))) => {
            telemetry::add(Figure::ClusterUnavailable, 1);
            tracing::warn!(s3uid = s3uid.as_str(), %error, "a cluster has yet to be told what the record says");
            Ok(())
        }
        settled => settled.map(|_| ()).map_err(Fault::from),
    }
}

/// Stops an account's keys for a member of staff. The account as it is then; none when it is going anyway.
pub(crate) async fn suspend_by_staff(
    context: &Context,
    s3uid: &S3Uid,
    actor: Actor,
) -> Result<Option<Account>, Stopped> {
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
    s3uid: &S3Uid,
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
    Ok(change(context, s3uid, "suspend_account", actor, decide, describe).await?)
}

/// An account's traffic limit in its running period.
#[derive(Clone, Copy)]
pub(crate) struct TrafficLimit {
    /// The plan's.
    pub plan_bytes: u64,
    /// What of it is the account's: see [`crate::allowance`].
    pub left_bytes: u64,
    /// Whether its keys stop there.
    pub stops: bool,
}

/// Tells that an account has sent all that it may in its running period, as its new figures say, and stops its keys until that ends, where
/// its plan says so. Both once a period, in one transaction: so whom a member of staff lets work again is not stopped again.
pub(crate) async fn traffic_used_up(
    context: &Context,
    figures: &Account,
    limit: TrafficLimit,
) -> Result<(), Fault> {
    let database = &context.database;
    let (s3uid, from) = (&figures.s3uid, figures.period_from);
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            Fault::keeps_changing(
                "telling of a traffic limit",
                format_args!("account {s3uid}"),
            )
        })?;
        if database
            .is_traffic_limit_told(s3uid, from, limit.plan_bytes)
            .await?
        {
            return Ok(());
        }
        let mut events = vec![traffic_event(context, figures, limit.left_bytes)];
        let told = (from, limit.plan_bytes);
        let account = match limit.stops {
            true => database.account(s3uid).await?,
            false => None,
        };
        let service = account
            .as_ref()
            .and_then(|account| account.service.suspend_for_traffic(from).ok());
        let (Some(account), Some(service)) = (account, service) else {
            if database
                .tell_traffic_limit(s3uid, told, None, &events)
                .await?
                .is_yes()
            {
                return Ok(());
            }
            continue;
        };
        let sold = |account: &Account| (account.plan_id, account.plan_version);
        if sold(&account) != sold(figures)
            || account.service.period_start(date_of(context.now())) != from
        {
            // What it may send is another by now: the next hour with traffic decides by that.
            return Ok(());
        }
        let detail = json!({
            "reason": Suspension::Traffic,
            "period_from": from,
            "limit_bytes": limit.left_bytes,
        });
        let client_id = account.client_id;
        if !account.are_keys_stopped() {
            let (kind, detail) = (Kind::AccountSuspended, detail.clone());
            events.push(context.account_event(kind, client_id, s3uid, detail));
        }
        let actor = Actor::system("usage_shards");
        let entry = context.account_entry(client_id, s3uid, "suspend_account", actor, detail);
        let stop = Some((&account, &service, &entry));
        if !database
            .tell_traffic_limit(s3uid, told, stop, &events)
            .await?
            .is_yes()
        {
            continue;
        }
        let account = account.with_service(&service, entry.at);
        if let Err(stopped) = settle(context, account, ClusterScope::SUSPENSION).await {
            // The record stands, and the account is marked: its cluster is told again. Other accounts of the hour do not wait for that.
            let error = Fault::from(stopped);
            tracing::warn!(s3uid = s3uid.as_str(), %error, "a cluster has yet to be told what the record says");
        }
        return Ok(());
    }
}

/// Undoes what an overdue invoice did to an account, now that it is not suspended for any: its keys work again unless something else stops
/// them, and its data does not go for that any more. The time that staff gave is past as well, unless it is given for what `is_overdue`.
/// The account as it is then; none when there was nothing to undo.
pub(crate) async fn lift_unpaid(
    context: &Context,
    s3uid: &S3Uid,
    is_overdue: bool,
) -> Result<Option<Account>, Fault> {
    let decide = |service: &Service| {
        let kept = service.resumed_until.filter(|_| is_overdue);
        let paid = Service {
            resumed_until: kept,
            ..service.paid()
        };
        (paid != *service).then_some(paid)
    };
    let describe = |service: &Service| {
        let is_stopped = service.suspension().is_some() || service.status() == Status::Terminating;
        let kind = match is_stopped {
            true => Kind::AccountChanged,
            false => Kind::AccountResumed,
        };
        (kind, json!({ "reason": Suspension::Unpaid }))
    };
    let actor = Actor::system("billing");
    Ok(change(context, s3uid, "resume_account", actor, decide, describe).await?)
}

/// Gives an account time for a member of staff: it is not suspended for what is overdue until a day. The account as it is then; none when it
/// is going.
pub(crate) async fn give_time(
    context: &Context,
    s3uid: &S3Uid,
    until: Date,
    actor: Actor,
) -> Result<Option<Account>, Stopped> {
    let decide = |service: &Service| service.give_time(until).ok();
    let describe = |service: &Service| {
        let detail = json!({ "until": service.resumed_until });
        (Kind::AccountChanged, detail)
    };
    change(context, s3uid, "resume_account", actor, decide, describe).await
}

/// Lets an account's keys work again for a member of staff, whoever stopped them. `until` is the day on which it is suspended again if an
/// invoice is still overdue. The account as it is then; none when its keys were not stopped, or it is going.
pub(crate) async fn resume_by_staff(
    context: &Context,
    s3uid: &S3Uid,
    until: Option<Date>,
    actor: Actor,
) -> Result<Option<Account>, Stopped> {
    let decide = |service: &Service| service.resume(until).ok();
    let describe = |service: &Service| {
        let detail = json!({ "until": service.resumed_until });
        (Kind::AccountResumed, detail)
    };
    change(context, s3uid, "resume_account", actor, decide, describe).await
}

/// Changes a service, and then whether the keys work. What is recorded already is told to the cluster again.
async fn change(
    context: &Context,
    s3uid: &S3Uid,
    action: &str,
    actor: Actor,
    decide: impl Fn(&Service) -> Option<Service>,
    describe: impl Fn(&Service) -> (Kind, Value),
) -> Result<Option<Account>, Stopped> {
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            Fault::keeps_changing("changing an account", format_args!("account {s3uid}"))
        })?;
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(None);
        };
        let Some(service) = decide(&account.service) else {
            if account.unsettled.is_some() && account.is_visible() {
                settle_again(context, account, ClusterScope::SUSPENSION).await?;
            }
            return Ok(None);
        };
        let settled = if service == account.service {
            settle_again(context, account, ClusterScope::SUSPENSION)
        } else {
            let (kind, detail) = describe(&service);
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
                .change_service(&account, &service, &entry, &[event])
                .await?
                .is_yes()
            {
                continue;
            }
            let account = account.with_service(&service, entry.at);
            settle(context, account, ClusterScope::SUSPENSION)
        };
        return Ok(Some(settled.await?));
    }
}

/// Has the cluster stop an account's keys or let them work, as the account's record says, if it may not do so yet. The account as it is
/// then; none when it is gone.
pub(crate) async fn settle_if_due(
    context: &Context,
    s3uid: &S3Uid,
) -> Result<Option<Account>, Fault> {
    let account = context.database.account(s3uid).await?;
    let Some(account) = account.filter(Account::is_visible) else {
        return Ok(None);
    };
    if account.unsettled.is_none() {
        return Ok(Some(account));
    }
    Ok(Some(
        settle_again(context, account, ClusterScope::SUSPENSION).await?,
    ))
}

/// The service of an account that goes now.
pub(crate) fn stopped(context: &Context, account: &Account) -> Service {
    let today = date_of(context.now());
    account.service.remove(today, TerminationReason::Removed)
}

/// Tells a cluster again that the keys of an account do not work, as its record has said for as long as it is being removed.
pub(crate) async fn stop_again(
    provider: &dyn StorageProvider,
    s3uid: &S3Uid,
) -> Result<(), ClusterError> {
    provider.set_suspended(s3uid, true).await
}
