//! Asks clusters what callers are waiting for.
//!
//! A question has two queues, each with workers of its own. In the first it may keep a worker for [`PATIENCE`] only; what its cluster has
//! not answered by then is asked again from the second. So a location that is slow, or does not answer, holds up the questions to slow
//! locations, whoever asks how much, and no other.

use std::time::Duration;

use serde_json::{Value, to_value};
use wharfage::cluster::ClusterError;
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::task::{Answer, Message, Work};
use wharfage::error::Fault;
use wharfage::telemetry;

use crate::bucket_lists::BucketList;
use crate::metering::{LiveUsage, LiveUsageError, read_live_usage};

crate::worker!("storage_tasks");

/// Of a list, as JSON. DynamoDB takes items of 400 KB, and the same list is no larger there.
const LIST_LIMIT_BYTES: usize = 300 * 1024;

/// How long a cluster may take while others wait: far more than one that is well.
const PATIENCE: Duration = Duration::from_secs(2);

async fn handle(context: &Context, body: &str) -> Result<(), Fault> {
    let message: Message =
        serde_json::from_str(body).map_err(|e| Fault::permanent("reading a queue message", e))?;
    let Some(task) = context.database.task(&message.task_id).await? else {
        return Ok(());
    };
    telemetry::set_account(task.work.s3uid());
    if task.answer_for(task.requested_at).is_some() {
        return Ok(());
    }
    let Work::ListBuckets { s3uid } = &task.work else {
        return Err(Fault::permanent(
            "reading a queue message",
            "the task is not for this queue",
        ));
    };
    let answer = match context.database.account(s3uid).await? {
        None => refused_answer("S3 account not found for this customer"),
        Some(account) => match read_before(context, &account, message.is_slow).await {
            None => {
                let task = task.at(&account.location, account.client_id);
                return context.queue.send_slow(&task).await;
            }
            Some(Ok(seen)) => done(
                to_value(BucketList::new(&seen))
                    .map_err(|e| Fault::permanent("writing a task's answer", e))?,
            ),
            Some(Err(LiveUsageError::Cluster(ClusterError::Refused { message, .. }))) => {
                refused_answer(&message)
            }
            // Its caller still waits, and is better told than kept waiting.
            Some(Err(LiveUsageError::Cluster(error))) => {
                let fault = error.into_fault("listing buckets");
                tracing::error!(s3uid = s3uid.as_str(), error = %fault, "a bucket list could not be made");
                Answer::Unavailable
            }
            Some(Err(LiveUsageError::Fault(fault))) => return Err(fault),
        },
    };
    context
        .database
        .answer_task(&task.task_id, task.requested_at, &answer, context.now())
        .await
}

/// What the cluster says; none where it takes too long to keep a worker from others. Whatever a look did may be done again.
async fn read_before(
    context: &Context,
    account: &Account,
    is_slow: bool,
) -> Option<Result<LiveUsage, LiveUsageError>> {
    let reading = read_live_usage(context, account);
    if is_slow {
        return Some(reading.await);
    }
    tokio::time::timeout(PATIENCE, reading).await.ok()
}

/// A list as an answer, if the task's record has room for it: a caller would wait for ever for one that cannot be written.
fn done(result: Value) -> Answer {
    if result.to_string().len() > LIST_LIMIT_BYTES {
        return refused_answer("the S3 account has too many buckets to list");
    }
    Answer::Done { result }
}

fn refused_answer(text: &str) -> Answer {
    Answer::Refused { text: text.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_that_does_not_fit_into_the_record_is_refused() {
        let list = |buckets: usize| {
            let bucket = json!({ "name": "b".repeat(63), "stored_bytes": u64::MAX });
            done(vec![bucket; buckets].into())
        };
        assert!(matches!(list(1_000), Answer::Done { .. }));
        assert!(matches!(list(10_000), Answer::Refused { .. }));
    }
}
