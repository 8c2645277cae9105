//! What the actions on files share.

use wharfage::cluster::files::Counter;
use wharfage::cluster::{Cluster, ClusterError, Keys};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::bucket_name::BucketName;
use wharfage::domain::period::hour_of;
use wharfage::domain::usage::OwnCalls;
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::segments::shard_of;

use crate::services::suspended;

/// An account's own keys.
pub(crate) async fn keys_of(context: &Context, account: &Account) -> Result<Keys, Fault> {
    Ok(Keys {
        access_key: account.access_key.clone(),
        secret_key: context
            .vault
            .decrypt(&account.s3uid, &account.secret_key_ciphertext)
            .await?,
    })
}

/// Notes what calls of ours have moved in an account's bucket, in the hour of their end, as clusters do: it is not the client's traffic. Who
/// dies before leaves it with the client.
pub(crate) async fn note_own_calls(
    context: &Context,
    account: &Account,
    cluster: &Cluster,
    bucket_name: &BucketName,
    counter: &Counter,
) -> Result<(), Fault> {
    let own = counter.counted();
    if own == OwnCalls::default() || !cluster.capabilities().traffic {
        return Ok(());
    }
    let now = context.now();
    let shard = shard_of(account.id, context.rules.usage_shard_accounts);
    context
        .database
        .add_own_calls(
            &account.location,
            shard,
            hour_of(now),
            &account.s3uid,
            bucket_name,
            own,
            now,
        )
        .await
}

/// What the storage refuses, passed on in its words. A bucket that is not there and one that is another account's look alike, as all
/// that is another's does.
pub(crate) fn refusal(account: &Account, doing: &str, error: ClusterError) -> Error {
    let ClusterError::Refused { code, message } = error else {
        return error.into();
    };
    let words = if code == "NoSuchBucket" {
        "Access Denied"
    } else {
        message.trim_end_matches('.')
    };
    let text = format!("{doing} error: {words}.");
    match code.as_str() {
        "InvalidArgument" | "KeyTooLongError" | "InvalidURI" => {
            Rejection::new(Reason::ParameterInvalid, text)
        }
        _ => Rejection::new(suspended(account).unwrap_or(Reason::AccessDenied), text),
    }
    .into()
}
