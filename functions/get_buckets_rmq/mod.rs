//! `get_buckets_rmq`: as `get_buckets`, in the shape that older clients read.

use wharfage::context::Context;
use wharfage::error::Error;
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::ACCOUNT;

use crate::bucket_lists;

crate::s3_action!("get_buckets_rmq", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    bucket_lists::handle(context, call, NAME).await
}
