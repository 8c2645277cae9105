//! API keys and sessions.

use aws_sdk_dynamodb::types::{AttributeValue, Delete};

use super::transaction::Conflict;
use super::{Database, fault, item, keys, number, string};
use crate::domain::credential::{ApiKey, Session};
use crate::domain::history::Entry;
use crate::error::Fault;

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

    /// Ends all sessions that were opened with an API key.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn delete_sessions_of(&self, api_key_hash: &str) -> Result<(), Fault> {
        let table = &self.tables.credentials;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .index_name("by_api_key")
            .key_condition_expression("api_key_hash = :hash")
            .expression_attribute_values(":hash", string(api_key_hash))
            .into_paginator()
            .items()
            .send();
        while let Some(row) = rows.next().await {
            let row = row.map_err(|e| fault("Query", table, e))?;
            if let Some(pk) = row.get("pk").and_then(|pk| pk.as_s().ok()) {
                self.delete_credential(pk.clone()).await?;
            }
        }
        Ok(())
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
