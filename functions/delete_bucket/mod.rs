//! `delete_bucket`: removes a bucket; one with something in it is emptied through the clean-up queue first.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::task::Work;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, BUCKET, account_name, caller_and_account, token};

use crate::asking::ask;
use crate::provisioning::bucket_row;
use crate::services::check_in_use;

crate::s3_action!("delete_bucket", takes [ACCOUNT, BUCKET]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let bucket_name = call.parameters.required_text(&["bucket_name", "bucket"])?;
    let (caller, account) = caller_and_account(context, call).await?;
    check_in_use(&account)?;
    let row = bucket_row(&account, &bucket_name);
    let provider = &context.clusters.of(&account.location)?.provider;
    let entry = |is_deleted: bool| {
        let details = json!({ "bucket_name": bucket_name, "was_empty": is_deleted });
        caller.entry(context, &account, NAME, details)
    };
    let gone = || Answer::ok(json!({ "s3uid": account.s3uid, "bucket_name": bucket_name }));
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
            Ok(gone())
        }
        Err(error) if error.is("NoSuchBucket") => {
            // The name is still the account's when whoever removed the bucket, or was to make it, died: then this request ends that.
            if context
                .database
                .record_bucket_removal(&row, &entry(true))
                .await?
                .is_yes()
            {
                return Ok(gone());
            }
            Err(Rejection::not_found("S3 bucket not found for this account").into())
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
            Ok(Answer::ok(json!({
                "s3uid": account.s3uid,
                "bucket_name": bucket_name,
                "callback": callback_key,
            })))
        }
        Err(error) => Err(error.into()),
    }
}
