//! DynamoDB. `keys` has every key format; each entity has a file with its reads and its writes.
//!
//! Reads by key are strongly consistent: what one request wrote, the next one sees. Queries on indexes are not, and decide nothing
//! that a conditional write does not check again.

mod accounts;
mod clients;
mod credentials;
mod history;
mod keys;
mod ledger;
mod orders;
mod plans;
mod tasks;
mod transaction;
mod usage;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Tables;
use crate::context::Outside;
use crate::error::Fault;

pub use accounts::{AccountOrder, BucketRow, Page};
pub use history::HistoryPage;
pub use orders::Begun;
pub use tasks::Started;
pub use transaction::Conflict;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The tables.
#[derive(Debug, Clone)]
pub struct Database {
    client: Client,
    tables: Tables,
}

impl Database {
    pub(crate) fn new(outside: &Outside<'_>) -> Database {
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(outside.config.region.clone()))
            .credentials_provider(outside.credentials.clone())
            .http_client(outside.http())
            .sleep_impl(Outside::sleep())
            .retry_config(Outside::retries())
            .timeout_config(Outside::timeouts());
        config.set_endpoint_url(outside.config.endpoints.dynamodb.clone());
        Database {
            client: Client::from_conf(config.build()),
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

fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn string(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}
