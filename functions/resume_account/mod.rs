//! `resume_account`: lets an account's keys work again, whoever stopped them. For admins.
//!
//! An unpaid account is given time: on the day `until` it is suspended again if something is still overdue.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, Parts};
use wharfage::domain::period::date_of;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::caller_and_account;

use crate::{services, suspension};

crate::s3_action!("resume_account");

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let today = date_of(context.now());
    let until = call.parameters.date("until")?;
    if until.is_some_and(|until| until <= today) {
        return Err(Rejection::invalid("until", "must be a day after today").into());
    }
    let (caller, account) = caller_and_account(context, call).await?;
    caller.must_be_admin()?;
    if account.service.suspension.is_none() {
        return not_suspended(context, account).await;
    }
    let until = until.unwrap_or_else(|| context.rules.dunning.given_until(today));
    let account = suspension::resume_by_staff(context, &account.s3uid, Some(until), caller.actor())
        .await?
        .ok_or_else(|| Rejection::conflict("S3 account is not suspended, or being deleted"))?;
    Ok(answer(&account))
}

/// The record says that the keys work. Whoever resumed the account may not have heard the answer, or its keys may be stopped all the same
/// for a reason that nobody recorded: its cluster is told in any case.
async fn not_suspended(context: &Context, account: Account) -> Result<Answer, Error> {
    let refused = Rejection::conflict("S3 account is not suspended");
    if account.are_keys_stopped() {
        return Err(refused.into());
    }
    let is_under_way = account.unsettled.is_some();
    let account = suspension::settle_again(context, account, Parts::SUSPENSION).await?;
    match is_under_way && !account.are_keys_stopped() {
        true => Ok(answer(&account)),
        false => Err(refused.into()),
    }
}

fn answer(account: &Account) -> Answer {
    Answer::ok(json!({ "s3uid": account.s3uid, "service": services::wire(&account.service) }))
}
