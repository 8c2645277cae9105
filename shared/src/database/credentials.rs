//! API keys and sessions.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Database, fault, item, keys, number};
use crate::domain::credential::{ApiKey, Session};
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
        let table = &self.tables.credentials;
        self.client
            .delete_item()
            .table_name(table)
            .key("pk", AttributeValue::S(keys::token(token_hash)))
            .send()
            .await
            .map_err(|e| fault("DeleteItem", table, e))?;
        Ok(())
    }
}
