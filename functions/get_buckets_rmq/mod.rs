//! `get_buckets_rmq`: as `get_buckets`, in the shape that older clients read.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::error::Error;
use wharfage::http::envelope::Outcome;
use wharfage::http::subject::Call;

use crate::bucket_lists::{self, Listed, OlderBucketRow};

crate::action! {
    /// Lists buckets in the format of older clients. Otherwise as `get_buckets`.
    ///
    /// If the cluster takes longer than the installation waits, the answer is a callback key for `eq_callback.php`.
    "get_buckets_rmq" of Everybody, about Account, or later,
        refuses [StorageRefused, StorageUnavailable]
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

/// What it answers.
pub type Answered = Listed<OlderBucketRow>;

async fn handle(
    context: &Context,
    call: Call<'_, Asked, Account>,
) -> Result<Outcome<Answered>, Error> {
    let account = call.about;
    bucket_lists::answer(context, call.caller, account, NAME).await
}
