//! `delete_payment_account`: cancels the service at the end of the paid period.

use wharfage::context::Context;
use wharfage::domain::period::date_of;
use wharfage::error::Error;
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::ACCOUNT;

use crate::services;

crate::s3_action!("delete_payment_account", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let today = date_of(context.now());
    services::change(context, call, NAME, |service| {
        service.cancel(today, context.rules.retention_days)
    })
    .await
}
