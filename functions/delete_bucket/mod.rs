//! `delete_bucket`: removes a bucket. If it is not empty, the clean-up queue empties it first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::bucket_name::BucketName;
use wharfage::domain::task::Work;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;

use crate::asking::ask;
use crate::buckets::bucket_row;
use crate::services::check_in_use;

crate::action! {
    /// Deletes a bucket.
    ///
    /// A bucket that is not empty is emptied first. Then the answer has a callback key for `eq_callback.php`.
    "delete_bucket" of Everybody, about Account,
        refuses [BucketNotFound, StorageRefused, StorageUnavailable],
        refuses like crate::services::NOT_IN_USE
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The bucket's name; names of old buckets that are no longer allowed work too.
    #[schemars(extend("examples" = ["my-first-bucket"]))]
    bucket_name: String,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The name of the bucket.
    bucket_name: String,
    /// The key for `eq_callback.php`, if the bucket has to be emptied first.
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<String>,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let (caller, account) = (call.caller, call.about);
    let bucket_name = BucketName::from(call.parameters.bucket_name);
    check_in_use(&account)?;
    let row = bucket_row(&account, &bucket_name);
    let provider = &context.clusters.of(&account.location)?.provider;
    let entry = |is_deleted: bool| {
        let details = json!({ "bucket_name": bucket_name, "was_empty": is_deleted });
        caller.entry(context, &account, NAME, details)
    };
    let answered = |callback| Answered {
        s3uid: account.s3uid.clone(),
        bucket_name: String::from(&bucket_name),
        callback,
    };
    match provider.delete_bucket(&account.s3uid, &bucket_name).await {
        Ok(()) => {
            let entry = entry(true);
            if !context
                .database
                .record_bucket_removal(&row, &entry)
                .await?
                .is_yes()
            {
                // Made with the account's keys, and never seen here.
                context.database.put_history(&entry).await?;
            }
            Ok(answered(None))
        }
        Err(error) if error.is("NoSuchBucket") => {
            // The name is still the account's when whoever removed the bucket, or was to make it, died: then this request ends that.
            if context
                .database
                .record_bucket_removal(&row, &entry(true))
                .await?
                .is_yes()
            {
                return Ok(answered(None));
            }
            Err(Rejection::new(
                Reason::BucketNotFound,
                "S3 bucket not found for this account",
            )
            .into())
        }
        Err(error) if error.is("BucketNotEmpty") => {
            let work = Work::RemoveBucket {
                s3uid: account.s3uid.clone(),
                bucket_name: bucket_name.clone(),
            };
            let asked = ask(context, &caller, &account, work, Some(&entry(false))).await?;
            let (callback_key, sent) = futures::join!(
                asked.callback_key(context, &caller, NAME),
                asked.send(context)
            );
            let callback_key = callback_key?;
            if let Err(fault) = sent {
                // The record stands: the job that looks for silent tasks sends it.
                tracing::warn!(s3uid = %account.s3uid, error = %fault, "the clean-up has yet to be sent");
            }
            Ok(answered(Some(callback_key)))
        }
        Err(error) => Err(error.into()),
    }
}
