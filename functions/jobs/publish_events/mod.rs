//! Sends the events in the outbox.

use serde_json::{Value, json};
use wharfage::bus::BATCH;
use wharfage::context::Context;
use wharfage::domain::event::Kind;
use wharfage::error::Fault;
use wharfage::telemetry::{self, Figure};

crate::job!("publish_events");

/// Batches sent in one run; the next run goes on.
const AT_MOST: usize = 100;

/// An event is marked as sent after it was: one may be sent twice, none is lost.
async fn run(context: &Context) -> Result<Value, Fault> {
    let (mut sent, mut refused) = (0usize, 0usize);
    for _ in 0..AT_MOST {
        let events = context
            .database
            .unsent_events(i32::try_from(BATCH).unwrap_or(1))
            .await?;
        if events.is_empty() {
            break;
        }
        let taken = context.bus.send(&events).await?;
        for (event, is_taken) in events.iter().zip(&taken) {
            if *is_taken {
                context.database.mark_event_sent(event).await?;
                sent += 1;
                if event.kind == Kind::InvoiceIssued {
                    telemetry::add(Figure::InvoicesIssued, 1);
                }
            } else {
                refused += 1;
            }
        }
        if refused > 0 {
            tracing::warn!(refused, "EventBridge refused events; they are sent again");
            break;
        }
    }
    Ok(json!({ "sent": sent, "refused": refused }))
}
