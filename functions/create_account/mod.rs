//! `create_account`: orders an S3 account and leaves its invoice open.

use wharfage::context::Context;
use wharfage::domain::order::Payment;
use wharfage::error::Error;
use wharfage::http::Call;
use wharfage::http::envelope::Answer;

use crate::provisioning;

crate::s3_action!("create_account", speaks as "create_order", takes [provisioning::NAMES]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    provisioning::place(context, call, NAME, Payment::Invoice).await
}
