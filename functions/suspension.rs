//! Keys that stop and work again, limits, and the ends of services: what the record says, brought to the cluster.
//!
//! The record is written first, and with it the account's mark ([`Unsettled`]): from then on its cluster will do what it says, whoever
//! dies and whichever answer is lost. Then the cluster is told, and the mark goes. It stays when the cluster cannot be told, when the
//! outcome of a call is unknown, and when two were telling the cluster at once: then `resume_tasks` finds it once nothing of that can
//! take effect any more, and has the cluster told again.

use futures::future::BoxFuture;
use serde_json::{Value, json};
use wharfage::cluster::doubt::watched;
use wharfage::cluster::{ClusterError, Keys, StorageProvider};
use wharfage::context::Context;
use wharfage::database::Started;
use wharfage::domain::account::{Account, Parts, Service, Status, Suspension, Unsettled};
use wharfage::domain::event::Kind;
use wharfage::domain::history::Actor;
use wharfage::domain::period::date_of;
use wharfage::domain::task::{Task, Work};
use wharfage::error::{Error, Fault, Rejection};
use wharfage::telemetry::{self, Figure};

use crate::billing::TRIES;

/// Why a cluster does not do yet what a record says. The record stands, and the cluster is told again.
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
    parts: Parts,
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
    parts: Parts,
) -> BoxFuture<'_, Result<Account, Stopped>> {
    Box::pin(settle_marked(context, account, parts, false))
}

async fn settle_marked(
    context: &Context,
    mut account: Account,
    parts: Parts,
    mut is_own: bool,
) -> Result<Account, Stopped> {
    for _ in 0..TRIES {
        let own = account.unsettled.clone().filter(|_| is_own);
        if let Some(unsettled) = &own {
            let (told, is_certain) = watched(tell(context, &account, unsettled, parts)).await;
            told?;
            let is_settled = is_certain && !unsettled.is_contested && parts.cover(unsettled.parts);
            if is_settled
                && context
                    .database
                    .clear_unsettled(&account.s3uid, unsettled)
                    .await?
            {
                account.unsettled = None;
                return Ok(account);
            }
        } else {
            let marked = account.unsettled_in(parts, context.now());
            if context.database.mark_unsettled(&account, &marked).await? {
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
    let s3uid = &account.s3uid;
    Err(Fault::retryable(
        "telling a cluster what the record says",
        format!("account {s3uid} keeps changing"),
    )
    .into())
}

/// What a record says of these parts.
fn said(account: &Account, parts: Parts) -> impl PartialEq {
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
async fn tell(
    context: &Context,
    account: &Account,
    unsettled: &Unsettled,
    parts: Parts,
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
    for access_key in &unsettled.removed_keys {
        provider.remove_key(&account.s3uid, access_key).await?;
    }
    Ok(())
}

/// Takes up an account that has been marked for a while: its cluster is told everything that its record says.
pub(crate) async fn take_up(context: &Context, s3uid: &str) -> Result<(), Fault> {
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
    match settle_again(context, account, Parts::ALL).await {
        // The mark stands, and is found again: no message has to wait for the cluster.
        Err(Stopped::Cluster(error @ ClusterError::Unavailable(_))) => {
            telemetry::add(Figure::ClusterUnavailable, 1);
            tracing::warn!(s3uid, %error, "a cluster has yet to be told what the record says");
            Ok(())
        }
        settled => settled.map(|_| ()).map_err(Fault::from),
    }
}

/// Stops an account's keys. The account as it is then; none when it is going anyway.
pub(crate) async fn suspend(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<Option<Account>, Fault> {
    Ok(stop_keys(context, s3uid, reason, actor).await?)
}

/// Lets an account's keys work again, if they were stopped for that reason. The account as it is then; none when they were not.
pub(crate) async fn resume(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<Option<Account>, Fault> {
    Ok(release_keys(context, s3uid, reason, actor).await?)
}

/// As [`suspend`], for whoever is told what stands in the way.
pub(crate) async fn stop_keys(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<Option<Account>, Stopped> {
    let detail = json!({ "reason": reason });
    let decide = |service: &Service| service.suspend(reason).ok();
    change(
        context,
        s3uid,
        "suspend_account",
        Kind::AccountSuspended,
        actor,
        detail,
        decide,
    )
    .await
}

/// As [`resume`], for whoever is told what stands in the way.
pub(crate) async fn release_keys(
    context: &Context,
    s3uid: &str,
    reason: Suspension,
    actor: Actor,
) -> Result<Option<Account>, Stopped> {
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
        decide,
    )
    .await
}

/// Changes a service, and then whether the keys work. What is recorded already is told to the cluster again.
async fn change(
    context: &Context,
    s3uid: &str,
    action: &str,
    kind: Kind,
    actor: Actor,
    detail: Value,
    decide: impl Fn(&Service) -> Option<Service>,
) -> Result<Option<Account>, Stopped> {
    for _ in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(None);
        };
        let Some(service) = decide(&account.service) else {
            if account.unsettled.is_some() && account.is_visible() {
                settle_again(context, account, Parts::SUSPENSION).await?;
            }
            return Ok(None);
        };
        let settled = if service == account.service {
            settle_again(context, account, Parts::SUSPENSION)
        } else {
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
            let account = account.with_service(&service, entry.at);
            settle(context, account, Parts::SUSPENSION)
        };
        return Ok(Some(settled.await?));
    }
    Err(Fault::retryable(
        "changing an account",
        format!("account {s3uid} keeps changing"),
    )
    .into())
}

/// Has the cluster stop an account's keys or let them work, as the account's record says, if it may not do so yet. The account as it is
/// then; none when it is gone.
pub(crate) async fn conform(context: &Context, s3uid: &str) -> Result<Option<Account>, Fault> {
    let account = context.database.account(s3uid).await?;
    let Some(account) = account.filter(Account::is_visible) else {
        return Ok(None);
    };
    if account.unsettled.is_none() {
        return Ok(Some(account));
    }
    Ok(Some(
        settle_again(context, account, Parts::SUSPENSION).await?,
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
    for _ in 0..TRIES {
        let Some(account) = context.database.account(s3uid).await? else {
            return Ok(());
        };
        telemetry::set_client(account.client_id);
        let is_due = account.service.ends_on().is_some_and(|date| date <= today);
        match account.service.status {
            Status::Cancelling if is_due => {
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
                    let account = account.with_service(&service, entry.at);
                    settle(context, account, Parts::SUSPENSION).await?;
                    return Ok(());
                }
            }
            Status::Terminating if is_due => return terminate(context, s3uid).await,
            _ => {
                conform(context, s3uid).await?;
                return Ok(());
            }
        }
    }
    Err(Fault::retryable(
        "ending a service",
        format!("account {s3uid} keeps changing"),
    ))
}
