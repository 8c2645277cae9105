//! Asks clusters what callers are waiting for.

use serde_json::to_value;
use wharfage::cluster::ClusterError;
use wharfage::context::Context;
use wharfage::domain::task::{Answer, Message, Work};
use wharfage::error::Fault;
use wharfage::telemetry;

use crate::bucket_lists::BucketList;
use crate::metering::{LookError, look};

crate::worker!("storage_tasks");

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
        None => refused("S3 account not found for this customer"),
        Some(account) => match look(context, &account).await {
            Ok(seen) => Answer::Done {
                result: to_value(BucketList::new(&seen))
                    .map_err(|e| Fault::permanent("writing a task's answer", e))?,
            },
            Err(LookError::Cluster(ClusterError::Refused { message, .. })) => refused(&message),
            // Its caller still waits, and is better told than kept waiting.
            Err(LookError::Cluster(error)) => {
                let fault = error.into_fault("listing buckets");
                tracing::error!(s3uid, error = %fault, "a bucket list could not be made");
                Answer::Unavailable
            }
            Err(LookError::Fault(fault)) => return Err(fault),
        },
    };
    context
        .database
        .answer_task(&task.task_id, task.requested_at, &answer, context.now())
        .await
}

fn refused(text: &str) -> Answer {
    Answer::Refused { text: text.into() }
}
