//! `get_buckets`: an account's buckets with their usage, asked of the cluster through the task queue.

use wharfage::context::Context;
use wharfage::error::Error;
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::ACCOUNT;

use crate::bucket_lists;
use crate::delete_account::bare_not_found;

crate::s3_action!("get_buckets", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    bucket_lists::handle(context, call, NAME)
        .await
        .map_err(bare_not_found)
}
