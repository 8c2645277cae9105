//! `cancel_payment_account_deletion`: revokes a cancellation that has not taken effect.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::period::date_of;
use wharfage::error::Error;
use wharfage::http::subject::Call;

use crate::services::{self, AccountService as Answered};

crate::action! {
    /// Withdraws a cancellation that has not taken effect.
    "cancel_payment_account_deletion" of Everybody, about Account,
        refuses [AccountNotCancelled, AccountTerminating, ChangedMeanwhile]
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let today = date_of(context.now());
    services::change(context, call, NAME, |service| service.undo_cancel(today)).await
}
