//! DynamoDB. `keys` has every key format; each entity has a file with its reads and its writes.
//!
//! Reads by key are strongly consistent. Queries on indexes are not, so a conditional write checks again whatever is decided by them.
//!
//! The [`Fault`] of every function here means that DynamoDB cannot answer, or that a stored item cannot be read. A failed condition is no
//! fault: a write answers with [`Written`].

mod accounts;
mod billing;
mod clients;
mod collection;
mod credentials;
mod events;
mod history;
mod keys;
mod ledger;
mod listing;
mod orders;
mod plans;
mod tasks;
mod transaction;
mod usage;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures::future::try_join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Tables;
use crate::error::Fault;
use crate::outside::Outside;

pub use accounts::{AccountOrder, BucketRow, Page};
pub use billing::{DueAccount, OpenInvoice};
pub use collection::{Collection, HourUnderWay, MeteredAccount};
pub use credentials::MadeKey;
pub use history::HistoryPage;
pub use ledger::{Guard, Issue, Lowered, Place, Series, Taken};
pub use tasks::Started;
pub use transaction::{Conflict, Written};
pub use usage::{AccountUsage, MonthUsage};

/// What DynamoDB takes in one call.
const BATCH_KEYS: usize = 100;
/// It may leave some for later, by size or for want of capacity.
const BATCH_TRIES: usize = 20;
const BATCH_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The tables.
#[derive(Debug, Clone)]
pub struct Database {
    client: Client,
    tables: Tables,
}

impl Database {
    pub(crate) fn new(outside: &Outside<'_>) -> Database {
        let sdk = outside.aws(outside.config.endpoints.dynamodb.as_ref());
        Database {
            client: Client::new(&sdk),
            tables: outside.config.tables.clone(),
        }
    }

    /// One item by its key, as `T`.
    async fn get<T: DeserializeOwned>(
        &self,
        table: &str,
        pk: String,
        sk: Option<String>,
    ) -> Result<Option<T>, Fault> {
        let mut get = self
            .client
            .get_item()
            .table_name(table)
            .consistent_read(true)
            .key("pk", AttributeValue::S(pk));
        if let Some(sk) = sk {
            get = get.key("sk", AttributeValue::S(sk));
        }
        let answer = get.send().await.map_err(|e| fault("GetItem", table, e))?;
        answer.item.map(|item| read(table, item)).transpose()
    }
}

impl Database {
    /// The items of these keys that are there, in any order; a hundred keys a call, all calls at once.
    async fn get_many(&self, table: &str, keys: Vec<(String, String)>) -> Result<Vec<Item>, Fault> {
        let calls = keys.chunks(BATCH_KEYS).map(|keys| {
            let keys = keys
                .iter()
                .map(|(pk, sk)| {
                    HashMap::from([("pk".to_owned(), string(pk)), ("sk".to_owned(), string(sk))])
                })
                .collect();
            self.get_batch(table, keys)
        });
        Ok(try_join_all(calls).await?.into_iter().flatten().collect())
    }

    async fn get_batch(&self, table: &str, keys: Vec<Item>) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        let mut wanted = keys;
        for _ in 0..BATCH_TRIES {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(true)
                .build()
                .map_err(|e| Fault::permanent("building BatchGetItem", e))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(table, request)
                .send()
                .await
                .map_err(|e| fault("BatchGetItem", table, e))?;
            items.extend(
                answer
                    .responses
                    .unwrap_or_default()
                    .remove(table)
                    .unwrap_or_default(),
            );
            wanted = answer
                .unprocessed_keys
                .and_then(|mut keys| keys.remove(table))
                .map(|keys| keys.keys)
                .unwrap_or_default();
            if wanted.is_empty() {
                return Ok(items);
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        Err(Fault::retryable(
            format!("DynamoDB BatchGetItem on {table}"),
            "it keeps leaving keys out",
        ))
    }
}

/// How a conditional write of one item went.
fn written<T, E, R>(
    operation: &str,
    table: &str,
    sent: Result<T, SdkError<E, R>>,
) -> Result<Written, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    Ok(match written_if_held(operation, table, sent)? {
        Some(_) => Written::Yes,
        None => Written::No(vec![Conflict::Changed]),
    })
}

/// The answer to a conditional write, where it is of use; `None` when its condition did not hold and so nothing was written.
fn written_if_held<T, E, R>(
    operation: &str,
    table: &str,
    sent: Result<T, SdkError<E, R>>,
) -> Result<Option<T>, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match sent {
        Ok(answer) => Ok(Some(answer)),
        Err(SdkError::ServiceError(refused))
            if refused.err().code() == Some("ConditionalCheckFailedException") =>
        {
            Ok(None)
        }
        Err(error) => Err(fault(operation, table, error)),
    }
}

/// A failed call as a fault: is it worth another try?
fn fault<E, R>(operation: &str, table: &str, error: SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let retryable = match &error {
        SdkError::ServiceError(service) => matches!(
            service.err().code(),
            Some(
                "ThrottlingException"
                    | "ProvisionedThroughputExceededException"
                    | "RequestLimitExceeded"
                    | "InternalServerError"
                    | "ServiceUnavailable"
                    | "TransactionInProgressException"
            )
        ),
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    };
    let what = format!("DynamoDB {operation} on {table}");
    let source = aws_sdk_dynamodb::error::DisplayErrorContext(error).to_string();
    if retryable {
        Fault::retryable(what, source)
    } else {
        Fault::permanent(what, source)
    }
}

/// A page of what a query finds, as `T`, and where the next one begins.
async fn page<T: DeserializeOwned>(
    table: &str,
    query: QueryFluentBuilder,
) -> Result<(Vec<T>, Option<Item>), Fault> {
    let answer = query.send().await.map_err(|e| fault("Query", table, e))?;
    let items = answer.items.unwrap_or_default().into_iter();
    let found = items
        .map(|item| read(table, item))
        .collect::<Result<_, _>>()?;
    Ok((found, answer.last_evaluated_key))
}

/// All that a query finds, page after page, as `T`.
async fn found<T: DeserializeOwned>(
    table: &str,
    query: QueryFluentBuilder,
) -> Result<Vec<T>, Fault> {
    let mut items = query.into_paginator().items().send();
    let mut found = Vec::new();
    while let Some(item) = items.next().await {
        found.push(read(table, item.map_err(|e| fault("Query", table, e))?)?);
    }
    Ok(found)
}

/// A stored item as `T`.
fn read<T: DeserializeOwned>(table: &str, item: Item) -> Result<T, Fault> {
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item)
        .map_err(|error| Fault::permanent(format!("reading an item of {table}"), error))
}

/// `value` as an item under a key.
fn item<T: Serialize>(pk: String, sk: Option<String>, value: &T) -> Result<Item, Fault> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(value)
        .map_err(|error| Fault::permanent(format!("writing item {pk}"), error))?;
    item.insert("pk".into(), AttributeValue::S(pk));
    if let Some(sk) = sk {
        item.insert("sk".into(), AttributeValue::S(sk));
    }
    Ok(item)
}

/// `value` as one attribute.
fn attribute<T: Serialize>(value: T) -> Result<AttributeValue, Fault> {
    serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(value)
        .map_err(|error| Fault::permanent("writing an attribute", error))
}

fn number_value(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn string(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}
