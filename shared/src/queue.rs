//! SQS: sending work to queues.
//!
//! Every message carries a group, which makes the queues fair: SQS delivers messages of groups that occupy few workers first. Groups are in
//! the domain, `task::group` and `BillingWork::group`.

use std::collections::HashMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::config::Queues;
use crate::domain::billing::BillingWork;
use crate::domain::task::{Message, Task};
use crate::error::Fault;
use crate::outside::{OnFirstUse, Outside};
use crate::segments::SegmentKey;
use crate::telemetry;

/// What SQS takes in one call.
const BATCH_MESSAGES: usize = 10;
/// Calls at once.
const BATCHES_AT_ONCE: usize = 8;

/// The queues.
#[derive(Debug, Clone)]
pub struct Queue {
    client: OnFirstUse<Client>,
    queues: Queues,
}

impl Queue {
    pub(crate) fn new(outside: &Outside<'_>) -> Queue {
        let sdk = outside.aws(outside.config.endpoints.sqs.as_ref());
        Queue {
            client: OnFirstUse::new(move || Client::new(&sdk)),
            queues: outside.config.queues.clone(),
        }
    }

    /// Hands billing work to its queue.
    ///
    /// # Errors
    /// When SQS cannot answer, or takes only some of it: then all may be sent again.
    pub async fn send_billing(&self, work: &[BillingWork]) -> Result<(), Fault> {
        let work = work.iter().map(|work| (work.group(), work));
        self.send_all(&self.queues.billing, work).await
    }

    /// Hands billing work to its queue, each piece with its group.
    ///
    /// # Errors
    /// When SQS cannot answer, or takes only some of it: then all may be sent again.
    pub async fn send_billing_in(&self, work: &[(String, BillingWork)]) -> Result<(), Fault> {
        let work = work.iter().map(|(group, work)| (group.clone(), work));
        self.send_all(&self.queues.billing, work).await
    }

    /// Hands a task's next step to the queue of its kind.
    ///
    /// # Errors
    /// When SQS cannot answer.
    pub async fn send(&self, task: &Task) -> Result<(), Fault> {
        let queue_url = if task.work.is_cleanup() {
            &self.queues.cleanup
        } else {
            &self.queues.storage_tasks
        };
        self.send_task(queue_url, task, false).await
    }

    /// Hands a question that its cluster takes long to answer to the workers that have the time.
    ///
    /// # Errors
    /// When SQS cannot answer.
    pub async fn send_slow(&self, task: &Task) -> Result<(), Fault> {
        self.send_task(&self.queues.slow_tasks, task, true).await
    }

    async fn send_task(&self, queue_url: &str, task: &Task, is_slow: bool) -> Result<(), Fault> {
        let message = Message {
            task_id: task.task_id.clone(),
            step: task.steps,
            is_slow,
        };
        let group = task.group.as_deref().unwrap_or(task.work.s3uid().as_str());
        let body = serde_json::to_string(&message)
            .map_err(|e| Fault::permanent("writing a message", e))?;
        self.client
            .send_message()
            .queue_url(queue_url)
            .message_body(body)
            .message_group_id(group)
            .set_message_system_attributes(trace()?)
            .send()
            .await
            .map_err(|e| Fault::retryable("SQS SendMessage", DisplayErrorContext(e).to_string()))?;
        Ok(())
    }

    /// Asks for the collection of these segments.
    ///
    /// # Errors
    /// When SQS cannot answer, or does not take all of them. Some may have been sent then; sending them again does no harm.
    pub async fn send_segments(&self, segments: &[SegmentKey]) -> Result<(), Fault> {
        let segments = segments.iter().map(|key| (key.location.clone(), key));
        self.send_all(&self.queues.usage_shards, segments).await
    }

    /// Sends messages, each with its group.
    async fn send_all<'a, T: Serialize + 'a>(
        &self,
        queue_url: &str,
        messages: impl Iterator<Item = (String, &'a T)>,
    ) -> Result<(), Fault> {
        let messages: Vec<(String, &'a T)> = messages.collect();
        let batches: Vec<_> = messages
            .chunks(BATCH_MESSAGES)
            .map(|batch| self.send_batch(queue_url, batch))
            .collect();
        stream::iter(batches)
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect()
            .await
    }

    async fn send_batch<T: Serialize>(
        &self,
        queue_url: &str,
        batch: &[(String, &T)],
    ) -> Result<(), Fault> {
        let trace = trace()?;
        let entries = batch
            .iter()
            .enumerate()
            .map(|(index, (group, message))| {
                let body = serde_json::to_string(message)
                    .map_err(|e| Fault::permanent("writing a message", e))?;
                SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(body)
                    .message_group_id(group)
                    .set_message_system_attributes(trace.clone())
                    .build()
                    .map_err(|e| Fault::permanent("writing a message", e))
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let answer = self
            .client
            .send_message_batch()
            .queue_url(queue_url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|e| {
                Fault::retryable("SQS SendMessageBatch", DisplayErrorContext(e).to_string())
            })?;
        match answer.failed.first() {
            None => Ok(()),
            Some(failed) => Err(Fault::retryable("SQS SendMessageBatch", failed.code())),
        }
    }
}

type SystemAttributes = HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>;

/// The trace that is under way, so that what a message starts belongs to what it was sent by.
fn trace() -> Result<Option<SystemAttributes>, Fault> {
    let Some(header) = telemetry::trace() else {
        return Ok(None);
    };
    let value = MessageSystemAttributeValue::builder()
        .data_type("String")
        .string_value(header)
        .build()
        .map_err(|e| Fault::permanent("writing a message", e))?;
    Ok(Some(HashMap::from([(
        MessageSystemAttributeNameForSends::AwsTraceHeader,
        value,
    )])))
}
