//! EventBridge: publishing events.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde_json::json;

use crate::domain::event::Event;
use crate::error::Fault;
use crate::outside::{OnFirstUse, Outside};

/// The most events that EventBridge takes at once.
pub const BATCH: usize = 10;

/// The bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: OnFirstUse<Client>,
    name: String,
}

impl Bus {
    pub(crate) fn new(outside: &Outside<'_>) -> Bus {
        let sdk = outside.aws(outside.config.endpoints.eventbridge.as_ref());
        Bus {
            client: OnFirstUse::new(move || Client::new(&sdk)),
            name: outside.config.event_bus_name.clone(),
        }
    }

    /// Sends at most [`BATCH`] events, and says of each whether it was taken.
    ///
    /// # Errors
    /// When EventBridge cannot answer.
    pub async fn send(&self, events: &[Event]) -> Result<Vec<bool>, Fault> {
        let entries = events.iter().map(|event| {
            let detail = json!({
                "event_id": event.event_id,
                "client_id": event.client_id,
                "s3uid": event.s3uid,
                "detail": event.detail,
            });
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source("wharfage")
                .detail_type(event.kind.to_string())
                .time(DateTime::from_secs(event.at.as_second()))
                .detail(detail.to_string())
                .build()
        });
        let sent = self
            .client
            .put_events()
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|e| {
                Fault::retryable("EventBridge PutEvents", DisplayErrorContext(e).to_string())
            })?;
        Ok(sent
            .entries
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.error_code.is_none())
            .collect())
    }
}
