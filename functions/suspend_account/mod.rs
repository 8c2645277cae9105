//! `suspend_account`: stops an account's keys; its data is kept. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, caller_and_account};

use crate::{services, suspension};

crate::s3_action!("suspend_account", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let (caller, account) = caller_and_account(context, call).await?;
    caller.must_be_admin()?;
    let account = suspension::suspend_by_staff(context, &account.s3uid, caller.actor())
        .await?
        .ok_or_else(|| Rejection::conflict("S3 account is being deleted"))?;
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, "service": services::wire(&account.service) }),
    ))
}
