//! `update_traffic_info`: collects one account's figures now. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::figures::gb;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, caller_and_account};

use crate::metering::{look, metering};

crate::s3_action!("update_traffic_info", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let (caller, account) = caller_and_account(context, call).await?;
    if !caller.is_admin() {
        return Err(Rejection::forbidden("allowed to administrators only").into());
    }
    let account = look(context, &account).await?.account;
    Ok(Answer::ok(json!({
        "s3uid": account.s3uid,
        "traffic": gb(account.period_bytes_sent),
        "storage_usage": gb(account.stored_bytes),
        "metering": metering(&account),
    })))
}
