//! Totals per account and day. They are set, not added to: collecting twice changes nothing.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;

use super::{Database, fault, keys, number, read, string};
use crate::domain::usage::Totals;
use crate::error::Fault;

#[derive(Deserialize)]
struct Row {
    date: Date,
    #[serde(flatten)]
    totals: Totals,
}

impl Database {
    /// Sets a day's totals.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn set_day(&self, s3uid: &str, date: Date, totals: &Totals) -> Result<(), Fault> {
        let table = &self.tables.usage;
        self.client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::account(s3uid)))
            .key("sk", string(keys::day(date)))
            .update_expression(
                "SET #date = :date, bytes_sent = :sent, bytes_received = :received, requests = :requests, peak_stored_bytes = :peak",
            )
            .expression_attribute_names("#date", "date")
            .expression_attribute_values(":date", string(date.to_string()))
            .expression_attribute_values(":sent", number(totals.bytes_sent))
            .expression_attribute_values(":received", number(totals.bytes_received))
            .expression_attribute_values(":requests", number(totals.requests))
            .expression_attribute_values(":peak", number(totals.peak_stored_bytes))
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        Ok(())
    }

    /// An account's days from `from` to `to`, both included.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn days(
        &self,
        s3uid: &str,
        from: Date,
        to: Date,
    ) -> Result<BTreeMap<Date, Totals>, Fault> {
        let table = &self.tables.usage;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :account AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":account", string(keys::account(s3uid)))
            .expression_attribute_values(":from", string(keys::day(from)))
            .expression_attribute_values(":to", string(keys::day(to)))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut days = BTreeMap::new();
        while let Some(row) = rows.next().await {
            let row: Row = read(table, row.map_err(|e| fault("Query", table, e))?)?;
            days.insert(row.date, row.totals);
        }
        Ok(days)
    }
}
