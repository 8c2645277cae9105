//! Finds the accounts whose end takes a step: on the cancellation date, and on the termination date.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

crate::job!("end_services");

/// Accounts handed over in one run; the next run goes on.
const AT_MOST: i32 = 1_000;

async fn run(context: &Context) -> Result<Value, Fault> {
    let accounts = context
        .database
        .ending_accounts(date_of(context.now()), AT_MOST)
        .await?;
    let work: Vec<BillingWork> = accounts
        .into_iter()
        .map(|account| BillingWork::End {
            s3uid: account.s3uid,
        })
        .collect();
    context.queue.send_billing(&work).await?;
    Ok(json!({ "sent": work.len() }))
}
