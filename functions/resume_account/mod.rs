//! `resume_account`: lets an account's keys work again, whoever stopped them. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::caller_and_account;

use crate::{services, suspension};

crate::s3_action!("resume_account");

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let (caller, account) = caller_and_account(context, call).await?;
    caller.must_be_admin()?;
    let reason = account
        .service
        .suspension
        .ok_or_else(|| Rejection::conflict("S3 account is not suspended"))?;
    let account = suspension::resume(context, &account.s3uid, reason, caller.actor())
        .await?
        .ok_or_else(|| Rejection::conflict("S3 account is not suspended, or being deleted"))?;
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, "service": services::wire(&account.service) }),
    ))
}
