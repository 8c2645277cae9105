//! SQS: handing tasks over.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::error::DisplayErrorContext;

use crate::config::Queues;
use crate::context::Outside;
use crate::domain::task::{Message, Task};
use crate::error::Fault;

/// The queues.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    queues: Queues,
}

impl Queue {
    pub(crate) fn new(outside: &Outside<'_>) -> Queue {
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(outside.config.region.clone()))
            .credentials_provider(outside.credentials.clone())
            .http_client(outside.http())
            .sleep_impl(Outside::sleep())
            .retry_config(Outside::retries())
            .timeout_config(Outside::timeouts());
        config.set_endpoint_url(outside.config.endpoints.sqs.clone());
        Queue {
            client: Client::from_conf(config.build()),
            queues: outside.config.queues.clone(),
        }
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
        let message = Message {
            task_id: task.task_id.clone(),
            step: task.steps,
        };
        let body = serde_json::to_string(&message)
            .map_err(|e| Fault::permanent("writing a message", e))?;
        self.client
            .send_message()
            .queue_url(queue_url)
            .message_body(body)
            .send()
            .await
            .map_err(|e| Fault::retryable("SQS SendMessage", DisplayErrorContext(e).to_string()))?;
        Ok(())
    }
}
