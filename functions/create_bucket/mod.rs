//! `create_bucket`: makes a further bucket for an account.

use serde_json::json;
use wharfage::cluster::ClusterError;
use wharfage::context::Context;
use wharfage::domain::bucket_name;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, BUCKET, account_name, caller_and_account, token};

use crate::provisioning::{bucket_row, name_taken};
use crate::services::check_in_use;

crate::s3_action!("create_bucket", takes [ACCOUNT, BUCKET]);

/// Takes the name, then makes the bucket. Both may be repeated, so a retry after a crash completes what was begun; a name whose bucket
/// was never made is given back when the account's buckets are next looked at.
async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let bucket_name = call.parameters.required_text(&["bucket_name", "bucket"])?;
    bucket_name::check(&bucket_name).map_err(|rule| Rejection::invalid("bucket_name", rule))?;
    let (caller, account) = caller_and_account(context, call).await?;
    check_in_use(&account)?;
    let row = bucket_row(&account, &bucket_name);
    if !context.database.take_bucket_name(&row).await?.is_yes() {
        return Err(name_taken().into());
    }
    let provider = &context.clusters.of(&account.location)?.provider;
    if let Err(error) = provider.create_bucket(&account.s3uid, &bucket_name).await {
        // Refused, so there is no bucket; a cluster that cannot answer may have made it.
        if matches!(error, ClusterError::Refused { .. }) {
            context.database.give_bucket_name_back(&row).await?;
        }
        return Err(if error.is("BucketAlreadyExists") {
            name_taken().into()
        } else {
            error.into()
        });
    }
    let entry = caller.entry(
        context,
        &account,
        NAME,
        json!({ "bucket_name": bucket_name }),
    );
    context.database.put_history(&entry).await?;
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, "bucket_name": bucket_name }),
    ))
}
