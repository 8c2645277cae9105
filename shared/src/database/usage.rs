//! Days of accounts, as made from the segments. They are set, not added to: collecting twice changes nothing.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, Put};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::listing::Listing;
use super::transaction::{Conflict, Written};
use super::{
    AccountOrder, Database, Page, attribute, fault, found, item, keys, number_value, read, string,
    written,
};
use crate::domain::account::{Account, AccountId, Group, S3Uid, Service};
use crate::domain::bucket_name::BucketName;
use crate::domain::event::Event;
use crate::domain::history::Entry;
use crate::domain::usage::{Day, OwnCalls, TrafficHour};
use crate::error::Fault;

/// Longer than any hour waits for its segment, which has it from then on.
const OWN_CALLS_KEPT: SignedDuration = SignedDuration::from_hours(100 * 24);

/// That something was told.
#[derive(Serialize, Deserialize)]
struct EmittedEvent {
    event_id: String,
    /// The plan's, where it was a traffic limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct OwnRow {
    sk: String,
    bytes_sent: u64,
    requests: u64,
}

impl OwnRow {
    fn calls(&self) -> OwnCalls {
        OwnCalls {
            bytes_sent: self.bytes_sent,
            requests: self.requests,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    date: Date,
    day: Day,
}

/// An account's totals for a calendar month, as far as collected, where the rankings find them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthUsage {
    /// Whose.
    pub s3uid: S3Uid,
    /// The account's number: settles ties.
    pub id: AccountId,
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// The most that was stored at any hour.
    pub peak_stored_bytes: u64,
    /// The ranking it stands in; absent for an account that stands in no listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    month_group: Option<String>,
}

impl MonthUsage {
    /// The totals of the month that `date` is in, for an account of a listing group.
    #[must_use]
    pub fn new(
        s3uid: &S3Uid,
        id: AccountId,
        group: Option<&Group>,
        date: Date,
        (bytes_sent, peak_stored_bytes): (u64, u64),
    ) -> MonthUsage {
        MonthUsage {
            s3uid: s3uid.to_owned(),
            id,
            bytes_sent,
            peak_stored_bytes,
            month_group: group.map(|group| keys::month_group(&group.key(), date)),
        }
    }
}

impl MonthUsage {
    /// Whether it stands in the ranking of this listing group, or in none where there is no group.
    #[must_use]
    pub fn stands_in(&self, group: Option<&Group>, date: Date) -> bool {
        self.month_group == group.map(|group| keys::month_group(&group.key(), date))
    }
}

/// What is stored of an account for a day and the month it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountUsage {
    /// The day.
    pub day: Option<Day>,
    /// The month.
    pub month: Option<MonthUsage>,
}

impl Database {
    /// What is stored of these accounts for a day and its month, by account; accounts with neither are absent.
    pub async fn usage_on(
        &self,
        s3uids: &[&S3Uid],
        date: Date,
    ) -> Result<HashMap<S3Uid, AccountUsage>, Fault> {
        let table = &self.tables.usage;
        let keys: Vec<(String, String)> = s3uids
            .iter()
            .flat_map(|s3uid| {
                let pk = keys::account(s3uid);
                [(pk.clone(), keys::day(date)), (pk, keys::month(date))]
            })
            .collect();
        let by_pk: HashMap<String, &S3Uid> = s3uids
            .iter()
            .map(|s3uid| (keys::account(s3uid), *s3uid))
            .collect();
        let mut found: HashMap<S3Uid, AccountUsage> = HashMap::new();
        for row in self.get_many(table, keys).await? {
            let named = |pk: &AttributeValue| by_pk.get(pk.as_s().ok()?).copied();
            let Some(s3uid) = row.get("pk").and_then(named) else {
                continue;
            };
            let usage = found.entry(s3uid.clone()).or_default();
            if row.contains_key("day") {
                let row: Row = read(table, row)?;
                usage.day = Some(row.day);
            } else {
                usage.month = Some(read(table, row)?);
            }
        }
        Ok(found)
    }

    /// Sets a day of an account that is still as it was read: `before`. `No` when somebody else set it since.
    pub async fn replace_day(
        &self,
        s3uid: &S3Uid,
        date: Date,
        before: Option<&Day>,
        day: &Day,
    ) -> Result<Written, Fault> {
        let table = &self.tables.usage;
        let row = Row {
            date,
            day: day.clone(),
        };
        let put = self.client.put_item().table_name(table).set_item(Some(item(
            keys::account(s3uid),
            Some(keys::day(date)),
            &row,
        )?));
        let put = match before {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(before) => put
                .condition_expression("#day = :before")
                .expression_attribute_names("#day", "day")
                .expression_attribute_values(":before", attribute(before)?),
        };
        let sent = put.send().await;
        written("PutItem", table, sent)
    }

    /// Sets an account's totals for the month that `date` is in.
    pub async fn set_month(&self, date: Date, month: &MonthUsage) -> Result<(), Fault> {
        let table = &self.tables.usage;
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(item(
                keys::account(&month.s3uid),
                Some(keys::month(date)),
                month,
            )?))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// An account's totals for the months that the days from `from` to `to` are in, by the month's first day.
    pub async fn months(
        &self,
        s3uid: &S3Uid,
        from: Date,
        to: Date,
    ) -> Result<BTreeMap<Date, MonthUsage>, Fault> {
        let table = &self.tables.usage;
        let mut dates: Vec<Date> = Vec::new();
        let mut month = from.first_of_month();
        while month <= to {
            dates.push(month);
            month = month.saturating_add(1.month());
        }
        let keys = dates
            .iter()
            .map(|date| (keys::account(s3uid), keys::month(*date)))
            .collect();
        let mut months = BTreeMap::new();
        for row in self.get_many(table, keys).await? {
            let sk = row.get("sk").and_then(|sk| sk.as_s().ok());
            let date = dates
                .iter()
                .find(|date| sk == Some(&keys::month(**date)))
                .copied();
            if let Some(date) = date {
                months.insert(date, read(table, row)?);
            }
        }
        Ok(months)
    }

    /// A page of the accounts of some groups, ranked by their totals for the month that `date` is in. The page's order is one of traffic
    /// and peak storage: numbers have their own listing.
    pub async fn month_ranking(
        &self,
        groups: &[Group],
        date: Date,
        page: Page,
    ) -> Result<Vec<MonthUsage>, Fault> {
        let month_groups: Vec<String> = groups
            .iter()
            .map(|group| keys::month_group(&group.key(), date))
            .collect();
        let is_by_storage = page.order == AccountOrder::PeakStorage;
        let listing = Listing {
            table: &self.tables.usage,
            index: if is_by_storage {
                "by_month_storage"
            } else {
                "by_month_traffic"
            },
            key_attribute: "month_group",
            rank: if is_by_storage {
                |month: &MonthUsage| (month.peak_stored_bytes, month.id)
            } else {
                |month| (month.bytes_sent, month.id)
            },
        };
        self.merged(&listing, &month_groups, None, page).await
    }

    /// Takes an account out of the rankings of all months.
    pub async fn leave_rankings(&self, s3uid: &S3Uid) -> Result<(), Fault> {
        let table = &self.tables.usage;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :account AND begins_with(sk, :months)")
            .filter_expression("attribute_exists(month_group)")
            .expression_attribute_values(":account", string(keys::account(s3uid)))
            .expression_attribute_values(":months", string(keys::MONTHS))
            .projection_expression("pk, sk")
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        while let Some(row) = rows.next().await {
            let key = row.map_err(|e| fault("Query", table, e))?;
            self.client
                .update_item()
                .table_name(table)
                .set_key(Some(key))
                .update_expression("REMOVE month_group")
                .send()
                .await
                .map_err(|e| fault("UpdateItem", table, e))?;
        }
        Ok(())
    }

    /// Whether it was told in the period that begins on `period_from` that an account's traffic reached its limit, this one or a larger.
    pub async fn is_traffic_limit_told(
        &self,
        s3uid: &S3Uid,
        period_from: Date,
        limit_bytes: u64,
    ) -> Result<bool, Fault> {
        let (pk, sk) = (keys::account(s3uid), keys::traffic_limit(period_from));
        let known: Option<EmittedEvent> = self.get(&self.tables.usage, pk, Some(sk)).await?;
        // Where no limit is noted, there was one a period.
        Ok(known.is_some_and(|told| told.limit_bytes.is_none_or(|told| told >= limit_bytes)))
    }

    /// Tells that an account's traffic reached its plan's limit, once in the period that begins on `period_from` and for that limit; and
    /// stops its keys, where `stop` has the account as it was read, its service then, and the history entry of that. `No` when
    /// somebody else told of it, or changed the account since.
    pub async fn tell_traffic_limit(
        &self,
        s3uid: &S3Uid,
        (period_from, limit_bytes): (Date, u64),
        stop: Option<(&Account, &Service, &Entry)>,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let table = &self.tables.usage;
        let (pk, sk) = (keys::account(s3uid), keys::traffic_limit(period_from));
        let event_id = events.first().map(|event| event.event_id.clone());
        let told = EmittedEvent {
            event_id: event_id.unwrap_or_default(),
            limit_bytes: Some(limit_bytes),
        };
        let mut transaction = self.transaction();
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(item(pk, Some(sk), &told)?))
            .condition_expression("attribute_not_exists(pk) OR limit_bytes < :limit")
            .expression_attribute_values(":limit", number_value(limit_bytes));
        transaction.put(put, Conflict::Changed);
        if let Some((account, service, entry)) = stop {
            self.service_change(&mut transaction, account, service, entry)?;
        }
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// Adds to what Wharfage itself called in an account's bucket in an hour. It is added twice where DynamoDB's answer is lost and the SDK
    /// tries again: a listing's few kilobytes then, which are charged to nobody.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is part of the key, or what is added"
    )]
    pub async fn add_own_calls(
        &self,
        location: &str,
        shard: u64,
        hour: Timestamp,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
        own: OwnCalls,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let table = &self.tables.usage;
        let expires = now.saturating_add(OWN_CALLS_KEPT).unwrap_or(now);
        self.client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::own_calls(location, shard)))
            .key("sk", string(keys::own_calls_in(hour, s3uid, bucket_name)))
            .update_expression(
                "SET expires_at_epoch = :expires ADD bytes_sent :bytes, requests :requests",
            )
            .expression_attribute_values(":expires", number_value(expires.as_second()))
            .expression_attribute_values(":bytes", number_value(own.bytes_sent))
            .expression_attribute_values(":requests", number_value(own.requests))
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        Ok(())
    }

    /// What Wharfage itself called in an hour in the buckets of a shard's accounts, by account and bucket.
    pub async fn own_calls(
        &self,
        location: &str,
        shard: u64,
        hour: Timestamp,
    ) -> Result<HashMap<(S3Uid, String), OwnCalls>, Fault> {
        let table = &self.tables.usage;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :shard AND begins_with(sk, :hour)")
            .expression_attribute_values(":shard", string(keys::own_calls(location, shard)))
            .expression_attribute_values(":hour", string(keys::own_calls_of(hour)))
            .consistent_read(true);
        let rows: Vec<OwnRow> = found(table, query).await?;
        let named = rows.into_iter().filter_map(|row| {
            let (_, of) = row.sk.split_once('#')?;
            let (s3uid, bucket_name) = of.split_once('#')?;
            let of = (S3Uid(s3uid.to_owned()), bucket_name.to_owned());
            Some((of, row.calls()))
        });
        Ok(named.collect())
    }

    /// Traffic of a shard's accounts without what Wharfage itself called.
    pub async fn without_own_calls(
        &self,
        location: &str,
        shard: u64,
        traffic: Vec<TrafficHour>,
    ) -> Result<Vec<TrafficHour>, Fault> {
        let table = &self.tables.usage;
        let key_of =
            |moved: &TrafficHour| keys::own_calls_in(moved.hour, &moved.s3uid, &moved.bucket_name);
        let pk = keys::own_calls(location, shard);
        let counted = traffic.iter().filter(|moved| moved.requests > 0);
        let wanted: Vec<(String, String)> =
            counted.map(|moved| (pk.clone(), key_of(moved))).collect();
        let mut own: HashMap<String, OwnCalls> = HashMap::new();
        for row in self.get_many(table, wanted).await? {
            let row: OwnRow = read(table, row)?;
            own.insert(row.sk.clone(), row.calls());
        }
        let traffic = traffic.into_iter().map(|moved| {
            let own = own.get(&key_of(&moved)).copied();
            moved.without(own.unwrap_or_default())
        });
        Ok(traffic.collect())
    }

    /// An account's days from `from` to `to`, both included.
    pub async fn days(
        &self,
        s3uid: &S3Uid,
        from: Date,
        to: Date,
    ) -> Result<BTreeMap<Date, Day>, Fault> {
        let table = &self.tables.usage;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :account AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":account", string(keys::account(s3uid)))
            .expression_attribute_values(":from", string(keys::day(from)))
            .expression_attribute_values(":to", string(keys::day(to)))
            .consistent_read(true);
        let rows: Vec<Row> = found(table, query).await?;
        Ok(rows.into_iter().map(|row| (row.date, row.day)).collect())
    }

    /// What an account had stored at the end of the last day before `date` that tells.
    pub async fn stored_before(&self, s3uid: &S3Uid, date: Date) -> Result<u64, Fault> {
        // Keys of days before the year 0 do not stand in order.
        let before = date.yesterday().ok().filter(|day| *day >= Date::ZERO);
        let Some(before) = before else {
            return Ok(0);
        };
        let table = &self.tables.usage;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :account AND sk BETWEEN :first AND :before")
            .expression_attribute_values(":account", string(keys::account(s3uid)))
            .expression_attribute_values(":first", string(keys::day(Date::ZERO)))
            .expression_attribute_values(":before", string(keys::day(before)))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(4)
            .into_paginator()
            .items()
            .send();
        while let Some(row) = rows.next().await {
            let row: Row = read(table, row.map_err(|e| fault("Query", table, e))?)?;
            if let Some(stored) = row.day.stored.last() {
                return Ok(stored.bytes);
            }
        }
        Ok(0)
    }
}
