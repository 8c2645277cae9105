//! API keys and sessions.

use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::transaction::{Conflict, Transaction};
use super::{Database, fault, found, item, keys, number, string};
use crate::domain::client::{Client, Role};
use crate::domain::credential::{ApiKey, Session};
use crate::domain::history::Entry;
use crate::error::Fault;

/// Sessions ended at once.
const DELETED_AT_ONCE: usize = 16;

impl Database {
    /// An API key by its hash.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>, Fault> {
        self.get(&self.tables.credentials, keys::api_key(hash), None)
            .await
    }

    /// Keeps an API key, by its hash.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn put_api_key(&self, hash: &str, api_key: &ApiKey) -> Result<(), Fault> {
        let table = &self.tables.credentials;
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(item(keys::api_key(hash), None, api_key)?))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// Forgets an API key, with its history entry; `false` when somebody else did before.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn delete_api_key(&self, hash: &str, entry: &Entry) -> Result<bool, Fault> {
        let mut transaction = self.transaction();
        transaction.delete(
            Delete::builder()
                .table_name(&self.tables.credentials)
                .key("pk", string(keys::api_key(hash)))
                .condition_expression("attribute_exists(pk)"),
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Ends all sessions that were opened with an API key. They are found by an index, which may be a moment behind.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn delete_sessions_of(&self, api_key_hash: &str) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Row {
            pk: String,
        }
        let table = &self.tables.credentials;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_api_key")
            .key_condition_expression("api_key_hash = :hash")
            .expression_attribute_values(":hash", string(api_key_hash));
        let sessions: Vec<Row> = found(table, query).await?;
        stream::iter(sessions)
            .map(|session| self.delete_credential(session.pk))
            .buffer_unordered(DELETED_AT_ONCE)
            .try_collect()
            .await
    }

    async fn delete_credential(&self, pk: String) -> Result<(), Fault> {
        let table = &self.tables.credentials;
        self.client
            .delete_item()
            .table_name(table)
            .key("pk", AttributeValue::S(pk))
            .send()
            .await
            .map_err(|e| fault("DeleteItem", table, e))?;
        Ok(())
    }

    /// Whether a client is no administrator any more, though sessions of its may say so.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn is_demoted(&self, client_id: u64) -> Result<bool, Fault> {
        let row: Option<IgnoredAny> = self
            .get(&self.tables.credentials, keys::demoted(client_id), None)
            .await?;
        Ok(row.is_some())
    }

    /// A session by its token's hash, expired or not.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn session(&self, token_hash: &str) -> Result<Option<Session>, Fault> {
        self.get(&self.tables.credentials, keys::token(token_hash), None)
            .await
    }

    /// Opens a session. DynamoDB forgets it some time after it has expired.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn put_session(&self, token_hash: &str, session: &Session) -> Result<(), Fault> {
        let table = &self.tables.credentials;
        let mut row = item(keys::token(token_hash), None, session)?;
        row.insert(
            "expires_at_epoch".into(),
            number(session.expires_at.as_second()),
        );
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(row))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn delete_session(&self, token_hash: &str) -> Result<(), Fault> {
        self.delete_credential(keys::token(token_hash)).await
    }
}

impl Transaction<'_> {
    /// Notes that a client is no administrator any more, or is one again. A session keeps the role that it was opened with, and this is
    /// what an administrator's is held against.
    pub(super) fn change_of_role(&mut self, table: &str, client: &Client) {
        let pk = string(keys::demoted(client.client_id));
        match client.role {
            Role::Client => self.put(
                Put::builder().table_name(table).item("pk", pk),
                Conflict::Changed,
            ),
            Role::Admin => self.delete(
                Delete::builder().table_name(table).key("pk", pk),
                Conflict::Changed,
            ),
        }
    }
}
