//! `suspend_account`: stops an account's keys; its data is kept. For admins.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;

use crate::services::AccountService as Answered;
use crate::suspension;

crate::action! {
    /// Suspends an account: its keys stop working, its data is kept.
    "suspend_account" of Administrators, about Account,
        refuses [AccountTerminating, StorageRefused, StorageUnavailable]
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let account = suspension::suspend_by_staff(context, &call.about.s3uid, call.caller.actor())
        .await?
        .ok_or_else(|| Rejection::new(Reason::AccountTerminating, "S3 account is being deleted"))?;
    Ok(Answered::new(&account, &account.service))
}
