//! `cancel_payment_account_deletion`: undoes a cancelling that has not taken effect.

use wharfage::context::Context;
use wharfage::domain::period::date_of;
use wharfage::error::Error;
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::ACCOUNT;

use crate::services;

crate::s3_action!("cancel_payment_account_deletion", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let today = date_of(context.now());
    services::change(context, call, NAME, |service| service.undo_cancel(today)).await
}
