//! Requeues clean-ups that have been silent for a while, because their message was lost or failed for good. Also finds accounts whose
//! cluster may not match their record yet, because a process died or a call got no answer.

use jiff::SignedDuration;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::DueAccount;
use wharfage::domain::account::Unsettled;
use wharfage::domain::billing::BillingWork;
use wharfage::error::Fault;

use crate::billing::hand_over;

crate::job!("resume_tasks");

/// Longer than a step takes and than a message waits to be tried again.
const SILENCE: SignedDuration = SignedDuration::from_mins(10);
/// Tasks sent in one run; the next run goes on.
const AT_MOST: i32 = 100;

async fn run(context: &Context) -> Result<Value, Fault> {
    let now = context.now();
    let mut sent = 0u32;
    for task in context
        .database
        .silent_tasks(now - SILENCE, AT_MOST)
        .await?
    {
        context.queue.send(&task).await?;
        context.database.touch_task(&task.task_id, now).await?;
        sent += 1;
    }
    let quiet_since = Unsettled::quiet_since(now);
    let find = |limit, after| {
        let database = &context.database;
        database.unsettled_accounts(quiet_since, limit, after)
    };
    let conform = |account: DueAccount| {
        let s3uid = account.s3uid;
        (account.location, BillingWork::UpdateCluster { s3uid })
    };
    let unsettled = hand_over(context, find, conform).await?;
    Ok(json!({ "sent": sent, "unsettled": unsettled }))
}
