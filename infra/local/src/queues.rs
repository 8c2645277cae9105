//! The template's queues: made, polled and emptied as Lambda's event source mappings do it.
//!
//! SQS's fair queues deliver messages of groups with few messages in flight first. Here the poller does that with the messages it holds,
//! and starts functions in that order.

mod fair;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName, QueueAttributeName,
};
use embedded::sqs::Depth;
use futures::future::try_join_all;
use lambda_http::aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::fair::Fair;
use crate::error::Error;
use crate::invoke::Crash;
use crate::runner::Runner;
use crate::template::{Queue, REGION};
use crate::wiring::Source;

/// How long a poller's question stays open when a queue is empty.
const LONG_POLL_SECONDS: i32 = 10;
/// How long a poller waits after SQS failed it.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Messages that wait in a poller's hands, at most.
const IN_HANDS: usize = 10_000;
/// What SQS takes in one call.
const BATCH_MESSAGES: usize = 10;
/// How often an emptied queue is looked at again while messages of it are being handled.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// How long a message may be hidden in the hands of nobody here before it is left alone.
const DRAIN_GRACE: Duration = Duration::from_millis(200);
/// How long draining goes on without a message being handled: longer than the longest function.
const DRAIN_PATIENCE: Duration = Duration::from_secs(90);
/// Messages handled by one drain, at most: a handler that always sends another would never end.
const DRAIN_MAX_MESSAGES: usize = 100_000;

/// What draining the queues did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Deliveries that succeeded.
    pub handled: usize,
    /// Deliveries that failed; a message can fail several times before it succeeds or is set aside.
    pub failed: usize,
}

/// Makes the queues and returns their URLs by logical id.
///
/// # Errors
/// When SQS refuses.
pub(crate) async fn create(
    client: &Client,
    queues: &[Queue],
) -> Result<BTreeMap<String, String>, Error> {
    // A dead-letter queue has to be there before the queue that names it.
    let (last, first): (Vec<&Queue>, Vec<&Queue>) =
        queues.iter().partition(|queue| queue.redrive.is_some());
    let mut urls = BTreeMap::new();
    for group in [first, last] {
        urls.extend(try_join_all(group.into_iter().map(|queue| create_one(client, queue))).await?);
    }
    Ok(urls)
}

async fn create_one(client: &Client, queue: &Queue) -> Result<(String, String), Error> {
    let mut request = client.create_queue().queue_name(&queue.name);
    for (name, value) in [
        (QueueAttributeName::VisibilityTimeout, queue.visibility),
        (QueueAttributeName::MessageRetentionPeriod, queue.retention),
        (QueueAttributeName::DelaySeconds, queue.delay),
    ] {
        request = request.attributes(name, value.as_secs().to_string());
    }
    if let Some(redrive) = &queue.redrive {
        let policy = serde_json::json!({
            "deadLetterTargetArn": redrive.dead_letter_arn,
            "maxReceiveCount": redrive.max_receive_count,
        });
        request = request.attributes(QueueAttributeName::RedrivePolicy, policy.to_string());
    }
    let answer = request.send().await.map_err(|error| {
        Error::service(
            format!("CreateQueue {}", queue.name),
            DisplayErrorContext(error),
        )
    })?;
    let url = answer
        .queue_url
        .ok_or_else(|| Error::service(format!("CreateQueue {}", queue.name), "no URL"))?;
    Ok((queue.id.clone(), url))
}

/// A queue that starts a function.
struct Mapping {
    source: Source,
    url: String,
    /// How long a message is hidden once received.
    visibility: Duration,
    /// Messages that pollers hold at the moment.
    held: AtomicUsize,
    /// Messages that failed and are hidden, by receipt handle.
    parked: Mutex<Vec<String>>,
}

impl Mapping {
    fn park(&self, receipts: impl IntoIterator<Item = String>) {
        self.parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(receipts);
    }

    fn take_parked(&self) -> Vec<String> {
        std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An invocation's place among those at a time; given back when it ends, however it does.
struct Place {
    groups: Vec<String>,
    ended: UnboundedSender<Vec<String>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody listens any more when the stack has stopped.
        let _ = self.ended.send(std::mem::take(&mut self.groups));
    }
}

/// A message's group. One that has none is a group of its own.
fn group(message: &Message) -> String {
    let attributes = message.attributes.as_ref();
    let group = attributes
        .and_then(|all| all.get(&MessageSystemAttributeName::MessageGroupId))
        .or(message.message_id.as_ref());
    group.cloned().unwrap_or_default()
}

/// The queues that start functions.
pub(crate) struct Queues {
    client: Client,
    sqs: Weak<embedded::sqs::Server>,
    runner: Runner,
    mappings: Vec<Arc<Mapping>>,
}

impl Queues {
    /// Joins the functions to the queues at their URLs (by logical id, as [`create`] returned them).
    pub(crate) fn new(
        client: Client,
        sqs: Weak<embedded::sqs::Server>,
        runner: Runner,
        sources: Vec<Source>,
        queues: &[Queue],
        urls: &BTreeMap<String, String>,
    ) -> Result<Queues, Error> {
        let mut mappings = Vec::with_capacity(sources.len());
        for source in sources {
            let (url, visibility) = queues
                .iter()
                .find(|queue| queue.arn() == source.trigger.queue_arn)
                .and_then(|queue| Some((urls.get(&queue.id)?.clone(), queue.visibility)))
                .ok_or_else(|| {
                    Error::template(
                        source.function,
                        format!("there is no queue {}", source.trigger.queue_arn),
                    )
                })?;
            mappings.push(Arc::new(Mapping {
                source,
                url,
                visibility,
                held: AtomicUsize::new(0),
                parked: Mutex::default(),
            }));
        }
        Ok(Queues {
            client,
            sqs,
            runner,
            mappings,
        })
    }

    /// Polls every queue until `stop`, and ends once what was begun by then has ended.
    pub(crate) async fn poll(self: Arc<Self>, stop: CancellationToken) {
        let pollers = self
            .mappings
            .iter()
            .map(|mapping| Arc::clone(&self).poll_one(Arc::clone(mapping), stop.clone()));
        futures::future::join_all(pollers).await;
    }

    async fn poll_one(self: Arc<Self>, mapping: Arc<Mapping>, stop: CancellationToken) {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let (concurrency, batch_size) = {
            let trigger = &mapping.source.trigger;
            let batch_size = usize::try_from(trigger.batch_size).unwrap_or(1);
            (trigger.concurrency, batch_size)
        };
        let mut waiting: Fair<Message> = Fair::default();
        let mut running = 0;
        let mut receiving = Box::pin(self.receive(&mapping, BATCH_MESSAGES, LONG_POLL_SECONDS));
        // A third of the time that a message is hidden: one that waits never comes back, and whoever begins one has most of it left.
        let mut hide_again =
            tokio::time::interval(mapping.visibility.max(Duration::from_secs(3)) / 3);
        loop {
            while running < concurrency && waiting.waiting() > 0 {
                let batch = std::iter::from_fn(|| waiting.next()).take(batch_size);
                let (groups, messages) = batch.unzip();
                let place = Place {
                    groups,
                    ended: ended.clone(),
                };
                let queues = Arc::clone(&self);
                let mapping = Arc::clone(&mapping);
                running += 1;
                tokio::spawn(async move {
                    queues.handle(&mapping, messages).await;
                    drop(place);
                });
            }
            tokio::select! {
                () = stop.cancelled() => break,
                received = &mut receiving, if waiting.waiting() < IN_HANDS => {
                    match received {
                        Ok(messages) => {
                            for message in messages {
                                waiting.push(group(&message), message);
                            }
                        }
                        Err(error) => {
                            tracing::warn!(function = mapping.source.function, %error, "polling failed");
                            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                        }
                    }
                    receiving = Box::pin(self.receive(&mapping, BATCH_MESSAGES, LONG_POLL_SECONDS));
                }
                Some(groups) = ends.recv() => {
                    running -= 1;
                    for group in groups {
                        waiting.ended(group);
                    }
                }
                _ = hide_again.tick(), if waiting.waiting() > 0 => {
                    self.hide(&mapping, waiting.iter()).await;
                }
            }
        }
        while running > 0 && ends.recv().await.is_some() {
            running -= 1;
        }
    }

    /// Hides messages that wait here for the whole time once more.
    async fn hide(&self, mapping: &Mapping, messages: impl Iterator<Item = &Message>) {
        let seconds = i32::try_from(mapping.visibility.as_secs()).unwrap_or(i32::MAX);
        let receipts: Vec<&str> = messages
            .filter_map(|message| message.receipt_handle.as_deref())
            .collect();
        for receipts in receipts.chunks(BATCH_MESSAGES) {
            let entries = receipts.iter().enumerate().map(|(index, receipt)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(*receipt)
                    .visibility_timeout(seconds)
                    .build()
            });
            let sent = self
                .client
                .change_message_visibility_batch()
                .queue_url(&mapping.url)
                .set_entries(entries.collect::<Result<_, _>>().ok())
                .send();
            if let Err(error) = sent.await {
                // They come again, as they may at any time.
                let error = DisplayErrorContext(error);
                tracing::warn!(function = mapping.source.function, %error, "messages could not be held");
            }
        }
    }

    /// Runs messages until the queues are empty. A message that fails is tried again at once, until its queue sets it
    /// aside. Messages with a delay are left to come when they are due.
    pub(crate) async fn drain(&self) -> Result<Drained, Error> {
        let mut drained = Drained::default();
        let mut quiet_since = Instant::now();
        let mut left_before = 0;
        loop {
            let mut left = None;
            let mut left_in_all = 0;
            let mut progress = false;
            for mapping in &self.mappings {
                self.unpark(mapping).await?;
                let Depth { visible, hidden } = self.depth(mapping).await?;
                let held = mapping.held.load(Ordering::SeqCst);
                // A message on its way to a poller is hidden, and held only once it is there.
                left_in_all += visible + held;
                let awaited = held > 0 || (hidden > 0 && quiet_since.elapsed() < DRAIN_GRACE);
                if visible == 0 && !awaited {
                    continue;
                }
                left = Some((mapping, visible.max(held)));
                if visible == 0 {
                    continue;
                }
                let batch_size = usize::try_from(mapping.source.trigger.batch_size).unwrap_or(1);
                let messages = self.receive(mapping, batch_size, 0).await?;
                if messages.is_empty() {
                    continue;
                }
                let done = self.handle(mapping, messages).await;
                drained.handled += done.handled;
                drained.failed += done.failed;
                progress = true;
            }
            let Some((mapping, left)) = left else {
                return Ok(drained);
            };
            // Pollers handle messages too.
            if progress || left_in_all < left_before {
                quiet_since = Instant::now();
            } else {
                tokio::time::sleep(DRAIN_POLL).await;
            }
            left_before = left_in_all;
            let waited = quiet_since.elapsed();
            if waited > DRAIN_PATIENCE || drained.handled + drained.failed > DRAIN_MAX_MESSAGES {
                return Err(Error::NotDrained {
                    queue: mapping.source.function.to_owned(),
                    left,
                    waited_seconds: waited.as_secs(),
                });
            }
        }
    }

    async fn depth(&self, mapping: &Mapping) -> Result<Depth, Error> {
        let what = || format!("counting the messages for {}", mapping.source.function);
        let sqs = self.sqs.upgrade();
        let sqs = sqs.ok_or_else(|| Error::service(what(), "SQS has stopped"))?;
        let depth = sqs.depth(&mapping.url).await;
        depth.map_err(|error| Error::service(what(), error))
    }

    async fn receive(
        &self,
        mapping: &Mapping,
        at_most: usize,
        wait_seconds: i32,
    ) -> Result<Vec<Message>, Error> {
        let messages = self
            .client
            .receive_message()
            .queue_url(&mapping.url)
            .max_number_of_messages(i32::try_from(at_most).unwrap_or(1))
            .wait_time_seconds(wait_seconds)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .map_err(|error| service(mapping, "ReceiveMessage", error))?
            .messages
            .unwrap_or_default();
        mapping.held.fetch_add(messages.len(), Ordering::SeqCst);
        Ok(messages)
    }

    /// Invokes the function with a batch; deletes what succeeded and parks what failed.
    async fn handle(&self, mapping: &Mapping, messages: Vec<Message>) -> Drained {
        let held = messages.len();
        let failed = self.invoke(mapping, &messages).await;
        let (failed, succeeded): (Vec<&Message>, Vec<&Message>) =
            messages.iter().partition(|message| {
                failed.contains(&message.message_id.as_deref().unwrap_or_default())
            });
        let done = Drained {
            handled: succeeded.len(),
            failed: failed.len(),
        };
        mapping.park(
            failed
                .into_iter()
                .filter_map(|message| message.receipt_handle.clone()),
        );
        if let Err(error) = self.delete(mapping, &succeeded).await {
            // They come again, as they may at any time.
            tracing::warn!(function = mapping.source.function, %error, "messages were not deleted");
        }
        mapping.held.fetch_sub(held, Ordering::SeqCst);
        done
    }

    /// The ids of the messages that failed.
    async fn invoke<'m>(&self, mapping: &Mapping, messages: &'m [Message]) -> Vec<&'m str> {
        let ids = || {
            messages
                .iter()
                .map(|message| message.message_id.as_deref().unwrap_or_default())
        };
        let event = event(mapping, messages);
        let ended = self.runner.handle(&mapping.source, event).await;
        let reported: Vec<String> = match ended {
            Ok(response) => response
                .batch_item_failures
                .into_iter()
                .map(|failure| failure.item_identifier)
                .collect(),
            Err(Crash::Stopped) => return ids().collect(),
            Err(crash) => {
                tracing::error!(function = mapping.source.function, %crash, "a function failed");
                return ids().collect();
            }
        };
        if !mapping.source.trigger.reports_failures {
            // Lambda reads no such report then: the batch counts as done.
            return Vec::new();
        }
        if reported.iter().any(|id| !ids().any(|known| known == id)) {
            // A report of something unknown fails the whole batch, as on Lambda.
            return ids().collect();
        }
        ids()
            .filter(|id| reported.iter().any(|failed| failed == id))
            .collect()
    }

    async fn delete(&self, mapping: &Mapping, messages: &[&Message]) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut request = self.client.delete_message_batch().queue_url(&mapping.url);
        for (index, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(message.receipt_handle.as_deref().unwrap_or_default())
                .build()
                .map_err(|error| Error::service("DeleteMessageBatch", error))?;
            request = request.entries(entry);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| service(mapping, "DeleteMessageBatch", error))?;
        match answer.failed.first() {
            Some(failed) => Err(Error::service("DeleteMessageBatch", failed.code())),
            None => Ok(()),
        }
    }

    /// Makes the messages that failed visible at once.
    async fn unpark(&self, mapping: &Mapping) -> Result<(), Error> {
        for receipt in mapping.take_parked() {
            let changed = self
                .client
                .change_message_visibility()
                .queue_url(&mapping.url)
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .send()
                .await;
            match changed {
                Ok(_) => {}
                // Its time-out passed by itself, and it went to somebody else or was set aside.
                Err(error) if error.as_service_error().is_some() => {}
                Err(error) => return Err(service(mapping, "ChangeMessageVisibility", error)),
            }
        }
        Ok(())
    }
}

fn service(mapping: &Mapping, call: &str, error: impl std::error::Error) -> Error {
    Error::service(
        format!("{call} for {}", mapping.source.function),
        DisplayErrorContext(error),
    )
}

/// The batch as a function is given it.
fn event(mapping: &Mapping, messages: &[Message]) -> SqsEvent {
    let mut event = SqsEvent::default();
    event.records = messages
        .iter()
        .map(|message| {
            let mut record = SqsMessage::default();
            record.message_id = message.message_id.clone();
            record.receipt_handle = message.receipt_handle.clone();
            record.body = message.body.clone();
            record.md5_of_body = message.md5_of_body.clone();
            record.attributes = message
                .attributes
                .iter()
                .flatten()
                .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
                .collect();
            record.event_source = Some("aws:sqs".into());
            record.event_source_arn = Some(mapping.source.trigger.queue_arn.clone());
            record.aws_region = Some(REGION.into());
            record
        })
        .collect();
    event
}
