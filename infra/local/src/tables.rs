//! Makes the tables that the template declares.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
    TimeToLiveSpecification,
};
use futures::future::try_join_all;

use crate::error::Error;
use crate::template::{Index, KeyPart, Table};

/// How often a table that is being made is looked at again.
const POLL: Duration = Duration::from_millis(2);
/// How often at most.
const POLLS: usize = 2500;

/// Makes the tables that are not there yet, all at once.
///
/// # Errors
/// When DynamoDB refuses, or a kept table has other keys than the template's.
pub(crate) async fn create(client: &Client, tables: &[Table]) -> Result<(), Error> {
    let existing = client
        .list_tables()
        .send()
        .await
        .map_err(|error| service("ListTables", error))?
        .table_names
        .unwrap_or_default();
    try_join_all(tables.iter().map(|table| async {
        if existing.contains(&table.name) {
            check(client, table).await
        } else {
            create_one(client, table).await
        }
    }))
    .await?;
    Ok(())
}

async fn create_one(client: &Client, table: &Table) -> Result<(), Error> {
    let mut request = client
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(key_schema(&table.key)?));
    for (name, kind) in &table.attributes {
        request = request.attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::from(kind.as_str()))
                .build()
                .map_err(|error| Error::template(&table.name, error))?,
        );
    }
    for index in &table.indexes {
        request = request.global_secondary_indexes(secondary_index(index)?);
    }
    request
        .send()
        .await
        .map_err(|error| service(&format!("CreateTable {}", table.name), error))?;
    for _ in 0..POLLS {
        if describe(client, table)
            .await?
            .as_ref()
            .is_some_and(is_active)
        {
            return expire(client, table).await;
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::service(
        format!("CreateTable {}", table.name),
        "the table does not become active",
    ))
}

fn is_active(description: &TableDescription) -> bool {
    description.table_status == Some(TableStatus::Active)
        && description
            .global_secondary_indexes
            .iter()
            .flatten()
            .all(|index| index.index_status == Some(IndexStatus::Active))
}

async fn describe(client: &Client, table: &Table) -> Result<Option<TableDescription>, Error> {
    client
        .describe_table()
        .table_name(&table.name)
        .send()
        .await
        .map(|answer| answer.table)
        .map_err(|error| service(&format!("DescribeTable {}", table.name), error))
}

async fn expire(client: &Client, table: &Table) -> Result<(), Error> {
    let Some(attribute) = &table.expiry_attribute else {
        return Ok(());
    };
    let specification = TimeToLiveSpecification::builder()
        .attribute_name(attribute)
        .enabled(true)
        .build()
        .map_err(|error| Error::template(&table.name, error))?;
    client
        .update_time_to_live()
        .table_name(&table.name)
        .time_to_live_specification(specification)
        .send()
        .await
        .map(|_| ())
        .map_err(|error| service(&format!("UpdateTimeToLive {}", table.name), error))
}

/// A kept table is used as it is; one that the template has since changed is an error, not a surprise later.
async fn check(client: &Client, table: &Table) -> Result<(), Error> {
    let changed = |what: String| {
        Err(Error::service(
            format!("the kept table {}", table.name),
            format!("{what} is not as in the template any more: start with another --data-dir"),
        ))
    };
    let Some(description) = describe(client, table).await? else {
        return changed("the table".into());
    };
    if description.key_schema != Some(key_schema(&table.key)?) {
        return changed("its key".into());
    }
    let kept = description.global_secondary_indexes.unwrap_or_default();
    for index in &table.indexes {
        let wanted = key_schema(&index.key_schema)?;
        let same = kept.iter().any(|kept| {
            kept.index_name.as_ref() == Some(&index.index_name)
                && kept.key_schema.as_ref() == Some(&wanted)
        });
        if !same {
            return changed(format!("its index {}", index.index_name));
        }
    }
    Ok(())
}

fn key_schema(parts: &[KeyPart]) -> Result<Vec<KeySchemaElement>, Error> {
    parts
        .iter()
        .map(|part| {
            KeySchemaElement::builder()
                .attribute_name(&part.attribute_name)
                .key_type(KeyType::from(part.key_type.as_str()))
                .build()
                .map_err(|error| Error::template("KeySchema", error))
        })
        .collect()
}

fn secondary_index(index: &Index) -> Result<GlobalSecondaryIndex, Error> {
    let attributes = &index.projection.non_key_attributes;
    let projection = Projection::builder()
        .projection_type(ProjectionType::from(
            index.projection.projection_type.as_str(),
        ))
        .set_non_key_attributes((!attributes.is_empty()).then(|| attributes.clone()))
        .build();
    GlobalSecondaryIndex::builder()
        .index_name(&index.index_name)
        .set_key_schema(Some(key_schema(&index.key_schema)?))
        .projection(projection)
        .build()
        .map_err(|error| Error::template(&index.index_name, error))
}

fn service(what: &str, error: impl std::error::Error) -> Error {
    Error::service(what, DisplayErrorContext(error))
}
