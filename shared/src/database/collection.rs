//! How far the collection of usage has come, per location: the hours under way, and the time before which every hour is complete.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::transaction::Written;
use super::{
    Database, attribute, fault, found, item, keys, number_value, read, string, written,
    written_if_held,
};
use crate::domain::account::{AccountId, S3Uid};
use crate::error::Fault;
use crate::tries::Tries;

/// How often settling begins again because somebody else settled meanwhile.
const SETTLE_TRIES: usize = 5;

/// How far a location's collection has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Every hour that ends by this time was collected in full.
    pub complete_until: Timestamp,
    /// The hours under way, oldest first.
    pub hours: Vec<HourUnderWay>,
}

/// An hour of a location whose collection has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourUnderWay {
    /// Its start, UTC.
    pub hour: Timestamp,
    /// Its shards are those from 0 up to here.
    pub shards: u64,
    /// Those collected.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub done: BTreeSet<u64>,
}

impl HourUnderWay {
    /// The shards still to be collected.
    pub fn missing(&self) -> impl Iterator<Item = u64> {
        (0..self.shards).filter(|shard| !self.done.contains(shard))
    }

    /// Whether all shards were collected.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing().next().is_none()
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    complete_until: Timestamp,
}

#[derive(Deserialize)]
struct Sequences {
    #[serde(default)]
    account_id: u64,
}

impl Database {
    /// The highest account number given so far; 0 before the first.
    pub async fn last_account_id(&self) -> Result<AccountId, Fault> {
        let sequences: Option<Sequences> = self
            .get(
                &self.tables.clients,
                keys::SEQUENCES.into(),
                Some(keys::SEQUENCES.into()),
            )
            .await?;
        Ok(AccountId(
            sequences.map_or(0, |sequences| sequences.account_id),
        ))
    }

    /// Every hour of a location that ends by this time was collected in full. `None` when nothing was collected there yet.
    pub async fn collected_until(&self, location: &str) -> Result<Option<Timestamp>, Fault> {
        let state: Option<State> = self
            .get(
                &self.tables.usage,
                keys::collection(location),
                Some(keys::COLLECTION_STATE.into()),
            )
            .await?;
        Ok(state.map(|state| state.complete_until))
    }

    /// Begins a location's collection with the hour that starts at `from`, unless it was begun before; answers how far it has come.
    pub async fn begin_collection(
        &self,
        location: &str,
        from: Timestamp,
    ) -> Result<Collection, Fault> {
        if let Some(begun) = self.collection(location).await? {
            return Ok(begun);
        }
        let table = &self.tables.usage;
        let state = State {
            complete_until: from,
        };
        let row = item(
            keys::collection(location),
            Some(keys::COLLECTION_STATE.into()),
            &state,
        )?;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(row))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        let begun = match written_if_held("PutItem", table, sent)? {
            Some(_) => None,
            None => self.collection(location).await?,
        };
        Ok(begun.unwrap_or(Collection {
            complete_until: from,
            hours: Vec::new(),
        }))
    }

    /// How far a location's collection has come. `None` when it has not begun.
    pub async fn collection(&self, location: &str) -> Result<Option<Collection>, Fault> {
        let table = &self.tables.usage;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :collection")
            .expression_attribute_values(":collection", string(keys::collection(location)))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let (mut state, mut hours): (Option<State>, _) = (None, Vec::new());
        while let Some(row) = rows.next().await {
            let row = row.map_err(|e| fault("Query", table, e))?;
            match row.get("sk").and_then(|sk| sk.as_s().ok()) {
                Some(sk) if sk == keys::COLLECTION_STATE => state = Some(read(table, row)?),
                _ => hours.push(read(table, row)?),
            }
        }
        Ok(state.map(|state| Collection {
            complete_until: state.complete_until,
            hours,
        }))
    }

    /// Begins an hour, unless it is under way.
    pub async fn begin_hour(&self, location: &str, hour: &HourUnderWay) -> Result<(), Fault> {
        let table = &self.tables.usage;
        let row = item(
            keys::collection(location),
            Some(keys::collection_hour(hour.hour)),
            hour,
        )?;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(row))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        written_if_held("PutItem", table, sent)?;
        Ok(())
    }

    /// Records a shard of an hour as collected. `None` when the hour was complete before.
    pub async fn shard_collected(
        &self,
        location: &str,
        hour: Timestamp,
        shard: u64,
    ) -> Result<Option<HourUnderWay>, Fault> {
        let table = &self.tables.usage;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::collection(location)))
            .key("sk", string(keys::collection_hour(hour)))
            .update_expression("ADD done :shard")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":shard", AttributeValue::Ns(vec![shard.to_string()]))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let updated = written_if_held("UpdateItem", table, sent)?;
        updated
            .and_then(|updated| updated.attributes)
            .map(|row| read(table, row))
            .transpose()
    }

    /// Moves the time a location is complete until over the hours that have become so, and forgets their records. Whoever calls it, and
    /// however often, it never moves over an hour that is not complete, nor back. It begins with what the caller has `seen`, and reads
    /// again when that has changed.
    pub async fn settle_hours(
        &self,
        location: &str,
        seen: Option<Collection>,
    ) -> Result<Option<Timestamp>, Fault> {
        let mut seen = seen;
        let mut tries = Tries::of(SETTLE_TRIES);
        loop {
            tries.once_more(|| Fault::retryable("settling hours", "others keep settling them"))?;
            let known = match seen.take() {
                Some(known) => Some(known),
                None => self.collection(location).await?,
            };
            let Some(Collection {
                complete_until: before,
                hours,
            }) = known
            else {
                return Ok(None);
            };
            let mut until = before;
            for hour in hours.iter().filter(|hour| hour.hour >= before) {
                if hour.hour != until || !hour.is_complete() {
                    break;
                }
                until = hour.hour + SignedDuration::from_hours(1);
            }
            if until > before
                && !self
                    .move_collected_until(location, before, until)
                    .await?
                    .is_yes()
            {
                continue;
            }
            let settled = hours.iter().filter(|hour| hour.hour < until);
            try_join_all(settled.map(|hour| self.forget_hour(location, hour.hour))).await?;
            return Ok(Some(until));
        }
    }

    /// Moves the time a location is complete until over hours in which nobody was there; nothing, when somebody else has moved it.
    pub async fn pass_hours(
        &self,
        location: &str,
        before: Timestamp,
        until: Timestamp,
    ) -> Result<(), Fault> {
        let _moved_before = self.move_collected_until(location, before, until).await?;
        Ok(())
    }

    /// `No` when somebody else moved it first.
    async fn move_collected_until(
        &self,
        location: &str,
        before: Timestamp,
        until: Timestamp,
    ) -> Result<Written, Fault> {
        let table = &self.tables.usage;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::collection(location)))
            .key("sk", string(keys::COLLECTION_STATE))
            .update_expression("SET complete_until = :until")
            .condition_expression("complete_until = :before")
            .expression_attribute_values(":before", attribute(before)?)
            .expression_attribute_values(":until", attribute(until)?)
            .send()
            .await;
        written("UpdateItem", table, sent)
    }

    async fn forget_hour(&self, location: &str, hour: Timestamp) -> Result<(), Fault> {
        let table = &self.tables.usage;
        self.client
            .delete_item()
            .table_name(table)
            .key("pk", string(keys::collection(location)))
            .key("sk", string(keys::collection_hour(hour)))
            .send()
            .await
            .map_err(|e| fault("DeleteItem", table, e))?;
        Ok(())
    }
}

/// Accounts whose usage is collected: what the index has of them. None of it changes with their figures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MeteredAccount {
    /// Its name.
    pub s3uid: S3Uid,
    /// Its number.
    pub id: AccountId,
    /// When the change takes effect.
    pub created_at: Timestamp,
    /// Until when; absent while it lives.
    #[serde(default)]
    pub metered_until: Option<Timestamp>,
}

impl Database {
    /// The accounts of a location with numbers from `from` to `to`, both included, whose usage is to be collected.
    pub async fn metered_accounts(
        &self,
        location: &str,
        from: u64,
        to: u64,
    ) -> Result<Vec<MeteredAccount>, Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_location")
            .key_condition_expression("metered_at = :location AND id BETWEEN :from AND :to")
            .expression_attribute_values(":location", string(location))
            .expression_attribute_values(":from", number_value(from))
            .expression_attribute_values(":to", number_value(to));
        found(table, query).await
    }

    /// Whether usage of any account of a location is to be collected.
    pub async fn is_anybody_metered(&self, location: &str) -> Result<bool, Fault> {
        let table = &self.tables.accounts;
        let found = self
            .client
            .query()
            .table_name(table)
            .index_name("by_location")
            .key_condition_expression("metered_at = :location")
            .expression_attribute_values(":location", string(location))
            .limit(1)
            .send()
            .await
            .map_err(|e| fault("Query", table, e))?;
        Ok(!found.items().is_empty())
    }

    /// Takes an account that has ended out of the collection.
    pub async fn stop_metering(&self, s3uid: &S3Uid) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::account(s3uid)))
            .key("sk", string(keys::ACCOUNT))
            .update_expression("REMOVE metered_at")
            .condition_expression("attribute_exists(metered_until)")
            .send()
            .await;
        written_if_held("UpdateItem", table, sent)?;
        Ok(())
    }
}
