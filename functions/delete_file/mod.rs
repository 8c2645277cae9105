//! `delete_file`: deletes an object, with the account's own keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::cluster::files::Counter;
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::error::Error;
use wharfage::http::subject::Call;
use wharfage::http::values::{BucketName, ObjectKey};

use crate::files;

crate::action! {
    /// Deletes a file with the account's own keys.
    "delete_file" of Everybody, about Account,
        refuses [AccessDenied, AccountSuspended, AccountSuspendedUnpaid, AccountSuspendedTraffic, StorageRefused, StorageUnavailable]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The name of the bucket.
    bucket_name: BucketName,
    /// The key of the object.
    filename: ObjectKey,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The name of the bucket.
    bucket_name: String,
    /// The key of the object.
    filename: String,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let (caller, account) = (call.caller, call.about);
    let BucketName(bucket_name) = call.parameters.bucket_name;
    let ObjectKey(filename) = call.parameters.filename;
    let keys = files::keys_of(context, &account).await?;
    let cluster = context.clusters.of(&account.location)?;
    let counter = Counter::default();
    let deleted = context
        .clusters
        .files()
        .delete(cluster, &keys, &bucket_name, &filename, &counter)
        .await;
    let noting = files::note_own_calls(context, &account, cluster, &bucket_name, &counter);
    deleted.map_err(|error| files::refusal(&account, "Delete S3 file", error))?;
    let details = json!({ "bucket_name": bucket_name, "filename": filename });
    let entry = caller.entry(context, &account, NAME, details);
    futures::try_join!(context.database.put_history(&entry), noting)?;
    Ok(Answered {
        s3uid: account.s3uid,
        bucket_name: bucket_name.into(),
        filename,
    })
}
