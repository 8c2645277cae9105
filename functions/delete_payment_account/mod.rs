//! `delete_payment_account`: cancels the service at the end of the paid period.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::period::date_of;
use wharfage::error::Error;
use wharfage::http::subject::Call;

use crate::services::{self, AccountService as Answered};

crate::action! {
    /// Cancels the service at the end of the paid period.
    "delete_payment_account" of Everybody, about Account,
        refuses [AccountCancelled, AccountTerminating, ChangedMeanwhile]
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let today = date_of(context.now());
    services::change(context, call, NAME, |service| {
        service.cancel(today, context.rules.retention_days)
    })
    .await
}
