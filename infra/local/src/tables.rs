//! Makes the tables that the template declares.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification,
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
    for definition in attribute_definitions(table)? {
        request = request.attribute_definitions(definition);
    }
    for index in &table.indexes {
        request = request.global_secondary_indexes(secondary_index(index)?);
    }
    request
        .send()
        .await
        .map_err(|error| service(&format!("CreateTable {}", table.name), error))?;
    active(client, table).await?;
    expire(client, table).await
}

fn attribute_definitions(table: &Table) -> Result<Vec<AttributeDefinition>, Error> {
    let definitions = table.attributes.iter().map(|(name, kind)| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::from(kind.as_str()))
            .build()
            .map_err(|error| Error::template(&table.name, error))
    });
    definitions.collect()
}

/// Waits until a table and its indexes can be used.
async fn active(client: &Client, table: &Table) -> Result<(), Error> {
    for _ in 0..POLLS {
        let description = describe(client, table).await?;
        if description.as_ref().is_some_and(is_active) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::service(
        format!("DescribeTable {}", table.name),
        "the table does not become active",
    ))
}

/// Adds an index that the template has got since the table was made.
async fn add_index(client: &Client, table: &Table, index: &Index) -> Result<(), Error> {
    let wanted = secondary_index(index)?;
    let create = CreateGlobalSecondaryIndexAction::builder()
        .index_name(wanted.index_name)
        .set_key_schema(Some(wanted.key_schema))
        .set_projection(wanted.projection)
        .build()
        .map_err(|error| Error::template(&index.index_name, error))?;
    // Those of other indexes that are still to come would be refused.
    let is_key = |name: &str| {
        let mut keys = index.key_schema.iter().chain(&table.key);
        keys.any(|part| part.attribute_name == name)
    };
    let mut request = client.update_table().table_name(&table.name);
    for definition in attribute_definitions(table)? {
        if is_key(&definition.attribute_name) {
            request = request.attribute_definitions(definition);
        }
    }
    request
        .global_secondary_index_updates(
            GlobalSecondaryIndexUpdate::builder().create(create).build(),
        )
        .send()
        .await
        .map_err(|error| service(&format!("UpdateTable {}", table.name), error))?;
    active(client, table).await
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

/// A kept table gets the indexes that the template has got since. Any other change of the template is an error, not a surprise later.
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
        let mut same = kept
            .iter()
            .filter(|kept| kept.index_name.as_ref() == Some(&index.index_name));
        match same.next() {
            None => add_index(client, table, index).await?,
            Some(kept) if kept.key_schema.as_ref() == Some(&wanted) => {}
            Some(_) => return changed(format!("its index {}", index.index_name)),
        }
    }
    let expires = client
        .describe_time_to_live()
        .table_name(&table.name)
        .send()
        .await
        .map_err(|error| service(&format!("DescribeTimeToLive {}", table.name), error))?;
    let expires = expires.time_to_live_description;
    match expires.and_then(|expires| expires.attribute_name) {
        Some(attribute) if table.expiry_attribute.as_ref() != Some(&attribute) => {
            changed(format!("its expiry by {attribute}"))
        }
        Some(_) => Ok(()),
        None => expire(client, table).await,
    }
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
