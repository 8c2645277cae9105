//! History.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::transaction::{Conflict, Transaction};
use super::{Database, Item, fault, item, keys, read, string};
use crate::domain::client::ClientId;
use crate::domain::history::{Entity, Entry};
use crate::error::Fault;

/// Entries, newest first.
#[derive(Debug)]
pub struct HistoryPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The place to go on from, when there is more.
    pub next: Option<String>,
}

impl Database {
    /// Adds an entry.
    pub async fn put_history(&self, entry: &Entry) -> Result<(), Fault> {
        let table = &self.tables.history;
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(history_item(entry)?))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// The entries of an entity, newest first: `limit` of them after skipping `offset`, from where `next` says.
    pub async fn history(
        &self,
        entity: &Entity<'_>,
        limit: usize,
        offset: usize,
        next: Option<&str>,
    ) -> Result<HistoryPage, Fault> {
        // A client's own history is its whole partition; an account's stands in the index.
        let (index, partition_key) = match entity {
            Entity::Account(_) => (Some("by_entity"), "entity"),
            Entity::Plan(_) | Entity::Client(_) => (None, "pk"),
        };
        let partition = (partition_key, keys::entity(entity));
        self.history_page(index, partition, limit, offset, next)
            .await
    }

    /// The entries of what a client did, to whatever it was; otherwise as [`Database::history`].
    pub async fn history_by(
        &self,
        client_id: ClientId,
        limit: usize,
        offset: usize,
        next: Option<&str>,
    ) -> Result<HistoryPage, Fault> {
        let partition = ("acted_by", keys::client(client_id));
        self.history_page(Some("by_actor"), partition, limit, offset, next)
            .await
    }

    async fn history_page(
        &self,
        index: Option<&str>,
        (partition_key, partition): (&str, String),
        limit: usize,
        offset: usize,
        next: Option<&str>,
    ) -> Result<HistoryPage, Fault> {
        let table = &self.tables.history;
        let mut from = next.map(str::to_owned);
        let mut skip = offset;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            // One more than is wanted tells whether there is more.
            let wanted = skip + limit + 1 - entries.len();
            let mut query = self
                .client
                .query()
                .table_name(table)
                .set_index_name(index.map(str::to_owned))
                .expression_attribute_names("#pk", partition_key)
                .expression_attribute_values(":pk", string(&partition))
                .scan_index_forward(false)
                .limit(i32::try_from(wanted.min(1_000)).unwrap_or(1_000));
            query = match &from {
                None => query.key_condition_expression("#pk = :pk"),
                Some(from) => query
                    .key_condition_expression("#pk = :pk AND sk < :from")
                    .expression_attribute_values(":from", string(from)),
            };
            let page = query.send().await.map_err(|e| fault("Query", table, e))?;
            let is_last = page.last_evaluated_key.is_none();
            for row in page.items.unwrap_or_default() {
                let sk = sort_key(&row);
                if skip > 0 {
                    skip -= 1;
                } else if entries.len() < limit {
                    entries.push(read(table, row)?);
                } else {
                    return Ok(HistoryPage {
                        entries,
                        next: from,
                    });
                }
                from = sk;
            }
            if is_last {
                return Ok(HistoryPage {
                    entries,
                    next: None,
                });
            }
        }
    }
}

fn sort_key(row: &Item) -> Option<String> {
    row.get("sk").and_then(|sk| sk.as_s().ok()).cloned()
}

fn history_item(entry: &Entry) -> Result<Item, Fault> {
    let entity_key = keys::entity_named(&entry.entity_kind, &entry.entity_id);
    let pk = match entry.client_id {
        Some(client_id) => keys::client(client_id),
        None => entity_key.clone(),
    };
    let mut row: HashMap<String, AttributeValue> =
        item(pk, Some(keys::history_entry(entry.at, &entry.id)), entry)?;
    row.insert("entity".into(), AttributeValue::S(entity_key));
    if let Some(client_id) = entry.actor.client_id {
        row.insert("acted_by".into(), string(keys::client(client_id)));
    }
    Ok(row)
}

impl Transaction<'_> {
    /// Adds a history entry to what is written.
    pub(super) fn history(&mut self, table: &str, entry: &Entry) -> Result<(), Fault> {
        self.insert(table, history_item(entry)?, Conflict::Changed);
        Ok(())
    }
}
