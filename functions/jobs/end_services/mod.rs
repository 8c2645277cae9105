//! Finds the accounts whose termination has a step due: on the cancellation date, and on the termination date.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::DueAccount;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

use crate::billing::hand_over;

crate::job!("end_services");

async fn run(context: &Context) -> Result<Value, Fault> {
    let today = date_of(context.now());
    let find = |limit, after| context.database.ending_accounts(today, limit, after);
    let end = |account: DueAccount| {
        let s3uid = account.s3uid;
        (account.location, BillingWork::End { s3uid })
    };
    Ok(json!({ "sent": hand_over(context, find, end).await? }))
}
