//! `rotate_key`: gives an account a second key, valid beside the first. With `confirm=1` the second replaces the first.

use jiff::SignedDuration;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, ClusterScope, NextKey, NotAllowed, S3Uid};
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::Caller;
use wharfage::http::values::Whole;

use crate::services::{check_in_use, not_allowed};
use crate::suspension::{settle, settle_again};

crate::action! {
    /// Creates a second key, valid alongside the first. With `confirm=1` the second replaces the first.
    "rotate_key" of Everybody, about Account,
        refuses [NoKeyToConfirm, ChangedMeanwhile, StorageRefused, StorageUnavailable],
        refuses like crate::services::NOT_IN_USE
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// 1 to confirm the second key and remove the first.
    confirm: Option<Whole<0, 1>>,
}

/// What it answers.
#[derive(Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The access key of the second key, which is the only one once it is confirmed.
    access_key: String,
    /// Its secret key; null once it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
    /// The access key of the first key, until the second is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_access_key: Option<String>,
    /// 1 if the second key has replaced the first.
    confirmed: u8,
}

/// So long a confirmation that is asked for again is answered as the first time.
const CONFIRMATION_KEPT: SignedDuration = SignedDuration::from_hours(24);

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let is_confirmed = call.parameters.confirm == Some(Whole(1));
    let (caller, account) = (call.caller, call.about);
    if caller.is_admin() {
        // A key that fell into the wrong hands is changed while it is stopped.
        if account.is_going() {
            return Err(not_allowed(&NotAllowed::Terminating).into());
        }
    } else {
        check_in_use(&account)?;
    }
    if is_confirmed {
        confirm(context, &caller, account).await
    } else {
        begin(context, &caller, account).await
    }
}

/// The second key is recorded before the cluster has it, so that a retry makes the same one work rather than a third.
async fn begin(context: &Context, caller: &Caller, account: Account) -> Result<Answered, Error> {
    let entry = |next: &NextKey| {
        let details = json!({ "access_key": next.access_key });
        caller.entry(context, &account, NAME, details)
    };
    let (next, secret_key, settled) = match &account.next_key {
        Some(next) => {
            let secret_key = context
                .vault
                .decrypt(&account.s3uid, &next.secret_key_ciphertext)
                .await?;
            context.database.put_history(&entry(next)).await?;
            let settled = settle_again(context, account.clone(), ClusterScope::KEYS);
            (next.clone(), secret_key, settled)
        }
        None => {
            let secret_key = SecretString::from(context.random.secret_key());
            let next = NextKey {
                access_key: context.random.access_key(),
                secret_key_ciphertext: context.vault.encrypt(&account.s3uid, &secret_key).await?,
            };
            let entry = entry(&next);
            let recorded = Account {
                next_key: Some(next.clone()),
                ..account.unsettled_in(ClusterScope::KEYS, entry.at)
            };
            if !context
                .database
                .set_next_key(&account, &recorded, &entry)
                .await?
                .is_yes()
            {
                return Err(changed().into());
            }
            (
                next,
                secret_key,
                settle(context, recorded, ClusterScope::KEYS),
            )
        }
    };
    settled.await?;
    Ok(Answered {
        s3uid: account.s3uid,
        access_key: next.access_key,
        secret_key: Some(secret_key.expose_secret().to_owned()),
        previous_access_key: Some(account.access_key),
        confirmed: 0,
    })
}

/// Which key is the account's is decided by its record; the cluster loses the old one after that, and at latest when `resume_tasks` finds
/// that it has not.
async fn confirm(context: &Context, caller: &Caller, account: Account) -> Result<Answered, Error> {
    let Some(next) = account.next_key.clone() else {
        return confirmed_before(context, account).await;
    };
    // As long as the cluster may not have it, nothing works but the old one.
    let account = match account.unsettled {
        Some(_) => settle_again(context, account, ClusterScope::KEYS).await?,
        None => account,
    };
    let details =
        json!({ "access_key": next.access_key, "removed_access_key": account.access_key });
    let entry = caller.entry(context, &account, "confirm_key", details);
    // Another of the same may have been quicker, while the cluster was told.
    let Some(recorded) = account.with_key_confirmed(&next.access_key, entry.at) else {
        return overtaken(context, &next, account).await;
    };
    if !context
        .database
        .take_next_key(&account, &recorded, &entry)
        .await?
        .is_yes()
    {
        let now = context.database.account(&account.s3uid).await?;
        let now = now.ok_or_else(changed)?;
        return overtaken(context, &next, now).await;
    }
    let account = settle(context, recorded, ClusterScope::KEYS).await?;
    Ok(confirmed(&account))
}

/// Answers a confirmation that came too late for the record: another of the same may have been quicker.
async fn overtaken(context: &Context, next: &NextKey, now: Account) -> Result<Answered, Error> {
    if now.access_key != next.access_key {
        return Err(changed().into());
    }
    confirmed_before(context, now).await
}

/// Answers a confirmation when no key waits for one: whoever confirms may not have heard the first answer.
async fn confirmed_before(context: &Context, account: Account) -> Result<Answered, Error> {
    let now = context.now();
    let is_recent = account
        .key_confirmed_at
        .is_some_and(|at| now.duration_since(at) < CONFIRMATION_KEPT);
    if !is_recent {
        return Err(
            Rejection::new(Reason::NoKeyToConfirm, "no key is waiting to be confirmed").into(),
        );
    }
    let account = match account.unsettled {
        Some(_) => settle_again(context, account, ClusterScope::KEYS).await?,
        None => account,
    };
    Ok(confirmed(&account))
}

fn confirmed(account: &Account) -> Answered {
    Answered {
        s3uid: account.s3uid.clone(),
        access_key: account.access_key.clone(),
        secret_key: None,
        previous_access_key: None,
        confirmed: 1,
    }
}

fn changed() -> Rejection {
    Rejection::changed_meanwhile("S3 account is being changed")
}
