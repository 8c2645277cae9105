//! The outbox of events.

use aws_sdk_dynamodb::types::AttributeValue;

use super::keys::{OPEN, sortable};
use super::transaction::{Conflict, Transaction};
use super::{Database, Item, fault, item, keys, number_value, page, string, written_if_held};
use crate::domain::event::Event;
use crate::error::Fault;

/// A sent event is kept for a week.
const KEPT_SECONDS: i64 = 7 * 24 * 3600;

impl Database {
    /// Events not sent yet, oldest first, at most `limit`.
    pub async fn unsent_events(&self, limit: i32) -> Result<Vec<Event>, Fault> {
        let table = &self.tables.events;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("unsent_events")
            .key_condition_expression("#open = :open")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", string(OPEN))
            .limit(limit);
        Ok(page(table, query).await?.0)
    }

    /// Notes that an event was sent. Repeating it changes nothing that matters.
    pub async fn mark_event_sent(&self, event: &Event) -> Result<(), Fault> {
        let table = &self.tables.events;
        self.client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::event(&event.event_id)))
            .update_expression("SET expires_at_epoch = :expires REMOVE #open")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(
                ":expires",
                number_value(event.at.as_second() + KEPT_SECONDS),
            )
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        Ok(())
    }

    /// Puts an event into the outbox by itself, if it is not there, sent or not.
    pub async fn put_event(&self, event: &Event) -> Result<(), Fault> {
        let table = &self.tables.events;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(event_item(event)?))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        written_if_held("PutItem", table, sent)?;
        Ok(())
    }
}

fn event_item(event: &Event) -> Result<Item, Fault> {
    let mut row = item(keys::event(&event.event_id), None, event)?;
    row.insert("open".into(), string(OPEN));
    row.insert("at".into(), AttributeValue::S(sortable(event.at)));
    Ok(row)
}

impl Transaction<'_> {
    /// Adds events to what is written.
    pub(super) fn events(&mut self, table: &str, events: &[Event]) -> Result<(), Fault> {
        for event in events {
            self.insert(table, event_item(event)?, Conflict::Changed);
        }
        Ok(())
    }
}
