//! Listings over many partitions of an index, merged in order.

use std::collections::VecDeque;

use futures::future::try_join_all;
use serde::de::DeserializeOwned;

use super::{Database, Item, Page, fault, number_value, read, string};
use crate::domain::account::AccountId;
use crate::error::Fault;

/// An index whose partitions are merged.
pub(super) struct Listing<'a, T> {
    pub table: &'a str,
    pub index: &'a str,
    /// The attribute that names a partition.
    pub key_attribute: &'a str,
    /// What rows are compared by: the index's order within a partition, and something that settles ties.
    pub rank: fn(&T) -> (u64, AccountId),
}

/// One partition's rows, read page by page as the merge needs them.
struct Cursor<'a, T> {
    key: &'a str,
    read_ahead: VecDeque<T>,
    next: Option<Item>,
    is_finished: bool,
}

impl Database {
    /// A page of the rows of some partitions. Each is read in the page's order, and they are merged: the cost depends on the number of
    /// partitions and on `offset + limit`, not on the number of rows. With `after`, they begin behind the number that the index is ordered by.
    pub(super) async fn merged<T: DeserializeOwned>(
        &self,
        listing: &Listing<'_, T>,
        keys: &[String],
        after: Option<(&str, AccountId)>,
        page: Page,
    ) -> Result<Vec<T>, Fault> {
        let wanted = page.offset + page.limit;
        let read_ahead = (wanted / keys.len().max(1) + 1)
            .clamp(20, 1_000)
            .min(wanted.max(1));
        let mut cursors: Vec<Cursor<'_, T>> = keys
            .iter()
            .map(|key| Cursor {
                key,
                read_ahead: VecDeque::new(),
                next: None,
                is_finished: false,
            })
            .collect();
        try_join_all(
            cursors
                .iter_mut()
                .map(|cursor| self.read_ahead(listing, cursor, after, page, read_ahead)),
        )
        .await?;
        let mut rows = Vec::with_capacity(page.limit);
        for position in 0..wanted {
            let head = cursors
                .iter()
                .enumerate()
                .filter_map(|(index, cursor)| {
                    cursor
                        .read_ahead
                        .front()
                        .map(|row| ((listing.rank)(row), index))
                })
                .reduce(|best, other| {
                    let other_first = if page.descending {
                        other.0 > best.0
                    } else {
                        other.0 < best.0
                    };
                    if other_first { other } else { best }
                });
            let Some((_, index)) = head else { break };
            let cursor = &mut cursors[index];
            let row = cursor.read_ahead.pop_front();
            if position >= page.offset {
                rows.extend(row);
            }
            if cursor.read_ahead.is_empty() && !cursor.is_finished {
                self.read_ahead(listing, cursor, after, page, read_ahead)
                    .await?;
            }
        }
        Ok(rows)
    }

    async fn read_ahead<T: DeserializeOwned>(
        &self,
        listing: &Listing<'_, T>,
        cursor: &mut Cursor<'_, T>,
        after: Option<(&str, AccountId)>,
        page: Page,
        limit: usize,
    ) -> Result<(), Fault> {
        let query = self.client.query().table_name(listing.table);
        let query = match after {
            None => query.key_condition_expression("#key = :key"),
            Some((name, after)) => query
                .key_condition_expression(match page.descending {
                    true => "#key = :key AND #number < :after",
                    false => "#key = :key AND #number > :after",
                })
                .expression_attribute_names("#number", name)
                .expression_attribute_values(":after", number_value(after)),
        };
        let answer = query
            .index_name(listing.index)
            .expression_attribute_names("#key", listing.key_attribute)
            .expression_attribute_values(":key", string(cursor.key))
            .scan_index_forward(!page.descending)
            .set_exclusive_start_key(cursor.next.take())
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|e| fault("Query", listing.table, e))?;
        for row in answer.items.unwrap_or_default() {
            cursor.read_ahead.push_back(read(listing.table, row)?);
        }
        cursor.is_finished = answer.last_evaluated_key.is_none();
        cursor.next = answer.last_evaluated_key;
        Ok(())
    }
}
