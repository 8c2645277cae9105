//! `delete_file`: deletes an object, with the account's own keys.

use serde_json::json;
use wharfage::cluster::files::Counter;
use wharfage::context::Context;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, BUCKET, account_name, caller_and_account, token};

use crate::files;

crate::s3_action!("delete_file", takes [ACCOUNT, BUCKET, &["filename", "file"]]);

/// Longest object key, in bytes of UTF-8 (Amazon S3 User Guide, "Naming Amazon S3 objects").
const KEY_LIMIT_BYTES: usize = 1_024;

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let bucket_name = files::bucket_name(call)?;
    // A key may hold any character, control characters too.
    let filename = call
        .parameters
        .raw_text(&["filename", "file"])?
        .ok_or_else(|| Rejection::missing("filename"))?;
    if filename.len() > KEY_LIMIT_BYTES {
        return Err(Rejection::invalid("filename", "must be at most 1024 bytes long").into());
    }
    if filename.trim().is_empty() {
        // A key as good as any, but the S3 client sends none of spaces alone.
        return Err(Rejection::invalid("filename", "must not be blank").into());
    }
    let (caller, account) = caller_and_account(context, call).await?;
    let keys = files::keys_of(context, &account).await?;
    let cluster = context.clusters.of(&account.location)?;
    let counter = Counter::default();
    let deleted = context
        .clusters
        .files()
        .delete(cluster, &keys, &bucket_name, &filename, &counter)
        .await;
    let noting = files::note_own_calls(context, &account, cluster, &bucket_name, &counter);
    deleted.map_err(|error| files::refusal("Delete S3 file", error))?;
    let details = json!({ "bucket_name": bucket_name, "filename": filename });
    let entry = caller.entry(context, &account, NAME, details);
    futures::try_join!(context.database.put_history(&entry), noting)?;
    Ok(Answer::ok(json!({
        "s3uid": account.s3uid,
        "bucket_name": bucket_name,
        "filename": filename,
    })))
}
