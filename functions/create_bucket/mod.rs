//! `create_bucket`: makes a further bucket for an account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::cluster::ClusterError;
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::BucketName;

use crate::buckets::bucket_row;
use crate::services::check_in_use;

crate::action! {
    /// Creates another bucket for an account.
    "create_bucket" of Everybody, about Account,
        refuses [BucketNameTaken, StorageRefused, StorageUnavailable],
        refuses like crate::services::NOT_IN_USE
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The bucket's name, unique at its location.
    bucket_name: BucketName,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The name of the bucket.
    bucket_name: String,
}

/// Takes the name, then makes the bucket. Both may be repeated, so a retry after a crash completes what was begun; a name whose bucket
/// was never made is given back when the account's buckets are next looked at.
async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let (account, BucketName(bucket_name)) = (call.about, call.parameters.bucket_name);
    check_in_use(&account)?;
    let row = bucket_row(&account, &bucket_name);
    if !context.database.take_bucket_name(&row).await?.is_yes() {
        return Err(Rejection::bucket_name_taken().into());
    }
    let provider = &context.clusters.of(&account.location)?.provider;
    if let Err(error) = provider.create_bucket(&account.s3uid, &bucket_name).await {
        // Refused, so there is no bucket; a cluster that cannot answer may have made it.
        if matches!(error, ClusterError::Refused { .. }) {
            context.database.give_bucket_name_back(&row).await?;
        }
        return Err(if error.is("BucketAlreadyExists") {
            Rejection::bucket_name_taken().into()
        } else {
            error.into()
        });
    }
    let entry = call.caller.entry(
        context,
        &account,
        NAME,
        json!({ "bucket_name": bucket_name }),
    );
    context.database.put_history(&entry).await?;
    Ok(Answered {
        s3uid: account.s3uid,
        bucket_name: bucket_name.into(),
    })
}
