//! `get_buckets`: an account's buckets with their usage, asked of the cluster through the task queue.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::error::Error;
use wharfage::http::envelope::Outcome;
use wharfage::http::subject::{BareAccount, Call};

use crate::bucket_lists::{self, BucketRow, Listed};

crate::action! {
    /// Lists an account's buckets with their usage, as the cluster reports it.
    ///
    /// If the cluster takes longer than the installation waits, the answer is a callback key for `eq_callback.php`.
    "get_buckets" of Everybody, about BareAccount, or later,
        refuses [StorageRefused, StorageUnavailable]
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

/// What it answers.
pub type Answered = Listed<BucketRow>;

async fn handle(
    context: &Context,
    call: Call<'_, Asked, BareAccount>,
) -> Result<Outcome<Answered>, Error> {
    let BareAccount(account) = call.about;
    bucket_lists::answer(context, call.caller, account, NAME).await
}
