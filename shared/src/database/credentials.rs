//! API keys and sessions.

use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, Put};
use futures::stream::{self, StreamExt, TryStreamExt};
use futures::try_join;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::transaction::{Conflict, Transaction, Written};
use super::{Database, Item, fault, found, item, keys, number_value, page, read, string};
use crate::domain::client::{Client, ClientId, Role};
use crate::domain::credential::{Access, ApiKey, Session};
use crate::domain::history::Entry;
use crate::error::Fault;

/// How long a session is kept that has expired.
const EXPIRED_SESSIONS_KEPT_SECONDS: i64 = 24 * 60 * 60;
/// Sessions ended at once.
const DELETED_AT_ONCE: usize = 16;

/// An API key that somebody made, or whose end is under way with somebody's access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// Its hash.
    pub api_key_id: String,
    /// Its owner.
    pub client_id: ClientId,
    /// Shown to people.
    pub name: String,
}

impl Database {
    /// An API key by its hash.
    pub async fn api_key(&self, hash: &str) -> Result<Option<ApiKey>, Fault> {
        self.get(&self.tables.credentials, keys::api_key(hash), None)
            .await
    }

    /// Keeps an API key, by its hash.
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

    /// Makes an API key, by its hash, with its history entry; `No` when the access of its maker, `by`, has ended.
    pub async fn make_api_key(
        &self,
        hash: &str,
        api_key: &ApiKey,
        entry: &Entry,
        by: &Access,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let row = item(keys::api_key(hash), None, api_key)?;
        transaction.insert(&self.tables.credentials, row, Conflict::Changed);
        let made = made_key_item(by.client_id, hash, api_key)?;
        transaction.insert(&self.tables.clients, made, Conflict::Changed);
        transaction.history(&self.tables.history, entry)?;
        transaction.stands(&self.tables.credentials, by);
        transaction.key_stands(&self.tables.credentials, by);
        transaction.commit().await
    }

    /// Forgets an API key, with its history entry; `No` when somebody else did before.
    pub async fn delete_api_key(
        &self,
        hash: &str,
        api_key: &ApiKey,
        entry: &Entry,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        transaction.forget_api_key(&self.tables.credentials, hash);
        let maker = api_key.made_by.as_ref().and_then(|maker| maker.client_id);
        if let Some(maker) = maker {
            transaction.delete(
                Delete::builder()
                    .table_name(&self.tables.clients)
                    .key("pk", string(keys::client(maker)))
                    .key("sk", string(keys::made_api_key(hash))),
                Conflict::Changed,
            );
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.commit().await
    }

    /// Forgets an API key because the access of a client ends, with its history entry. That its sessions are still to be ended is noted with
    /// that client, until [`Database::forget_made_key`]. Does nothing when the key is gone.
    pub async fn delete_api_key_for(
        &self,
        client_id: ClientId,
        hash: &str,
        api_key: &ApiKey,
        entry: &Entry,
    ) -> Result<(), Fault> {
        let mut transaction = self.transaction();
        transaction.forget_api_key(&self.tables.credentials, hash);
        transaction.put(
            Put::builder()
                .table_name(&self.tables.clients)
                .set_item(Some(made_key_item(client_id, hash, api_key)?)),
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        let _gone_before = transaction.commit().await?;
        Ok(())
    }

    /// Forgets that a client made an API key.
    pub async fn forget_made_key(&self, client_id: ClientId, hash: &str) -> Result<(), Fault> {
        let table = &self.tables.clients;
        self.client
            .delete_item()
            .table_name(table)
            .key("pk", string(keys::client(client_id)))
            .key("sk", string(keys::made_api_key(hash)))
            .send()
            .await
            .map_err(|e| fault("DeleteItem", table, e))?;
        Ok(())
    }

    /// A client's API keys with their hashes, newest first, at most `limit`. They are found by an index, which may be a moment behind.
    pub async fn api_keys_of(
        &self,
        client_id: ClientId,
        limit: i32,
    ) -> Result<Vec<(String, ApiKey)>, Fault> {
        #[derive(Deserialize)]
        struct Row {
            pk: String,
            #[serde(flatten)]
            api_key: ApiKey,
        }
        let table = &self.tables.credentials;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_client")
            .key_condition_expression("client_id = :client")
            .expression_attribute_values(":client", number_value(client_id))
            .scan_index_forward(false)
            .limit(limit);
        let (rows, _): (Vec<Row>, _) = page(table, query).await?;
        let keys = rows.into_iter().filter_map(|row| {
            let hash = row.pk.strip_prefix(keys::API_KEYS)?.to_owned();
            Some((hash, row.api_key))
        });
        Ok(keys.collect())
    }

    /// The API keys that a client made, or whose end is under way with its access, at most `limit`.
    pub async fn keys_made_by(
        &self,
        client_id: ClientId,
        limit: i32,
    ) -> Result<Vec<MadeKey>, Fault> {
        let rows = self.made_by(client_id, keys::MADE_API_KEYS, limit).await?;
        rows.into_iter()
            .map(|row| read(&self.tables.clients, row))
            .collect()
    }

    /// The numbers of the clients that a client made administrators, at most `limit`.
    pub async fn admins_made_by(
        &self,
        client_id: ClientId,
        limit: i32,
    ) -> Result<Vec<ClientId>, Fault> {
        self.clients_under(client_id, keys::MADE_ADMINS, limit)
            .await
    }

    /// The numbers of the other clients that a client made, at most `limit`.
    pub async fn clients_made_by(
        &self,
        client_id: ClientId,
        limit: i32,
    ) -> Result<Vec<ClientId>, Fault> {
        self.clients_under(client_id, keys::MADE_CLIENTS, limit)
            .await
    }

    async fn clients_under(
        &self,
        client_id: ClientId,
        prefix: &str,
        limit: i32,
    ) -> Result<Vec<ClientId>, Fault> {
        #[derive(Deserialize)]
        struct Row {
            client_id: ClientId,
        }
        let rows = self.made_by(client_id, prefix, limit).await?;
        rows.into_iter()
            .map(|row| {
                let row: Row = read(&self.tables.clients, row)?;
                Ok(row.client_id)
            })
            .collect()
    }

    async fn made_by(
        &self,
        client_id: ClientId,
        prefix: &str,
        limit: i32,
    ) -> Result<Vec<Item>, Fault> {
        let table = &self.tables.clients;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :client AND begins_with(sk, :prefix)")
            .expression_attribute_values(":client", string(keys::client(client_id)))
            .expression_attribute_values(":prefix", string(prefix))
            .consistent_read(true)
            .limit(limit);
        let answer = query.send().await.map_err(|e| fault("Query", table, e))?;
        Ok(answer.items.unwrap_or_default())
    }

    /// Ends all sessions that were opened with an API key. They are found by an index, which may be a moment behind.
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

    /// A client's epoch.
    pub async fn epoch(&self, client_id: ClientId) -> Result<u64, Fault> {
        #[derive(Deserialize)]
        struct Row {
            epoch: u64,
        }
        let row: Option<Row> = self
            .get(&self.tables.credentials, keys::epoch(client_id), None)
            .await?;
        Ok(row.map_or(0, |row| row.epoch))
    }

    /// Whether a session is of its client's present epoch.
    pub async fn is_of_this_epoch(&self, session: &Session) -> Result<bool, Fault> {
        if session.epoch.is_some() {
            return Ok(self.epoch(session.client_id).await? == session.access().epoch);
        }
        // Whoever opened it knew of no epochs, and so may whoever demoted its client.
        let (epoch, is_demoted) = try_join!(
            self.epoch(session.client_id),
            self.is_demoted(session.client_id)
        )?;
        Ok(epoch == 0 && !is_demoted)
    }

    /// Whether what a session rests on is still there: its API key, and its client's epoch.
    pub async fn stands(&self, access: &Access) -> Result<bool, Fault> {
        let (api_key, epoch) = try_join!(
            self.api_key(&access.api_key_hash),
            self.epoch(access.client_id)
        )?;
        Ok(api_key.is_some() && epoch == access.epoch)
    }

    /// Whether a client is no administrator any more, though sessions without an epoch may say so.
    async fn is_demoted(&self, client_id: ClientId) -> Result<bool, Fault> {
        let row: Option<IgnoredAny> = self
            .get(&self.tables.credentials, keys::demoted(client_id), None)
            .await?;
        Ok(row.is_some())
    }

    /// A session by its token's hash, expired or not.
    pub async fn session(&self, token_hash: &str) -> Result<Option<Session>, Fault> {
        self.get(&self.tables.credentials, keys::token(token_hash), None)
            .await
    }

    /// Opens a session. DynamoDB forgets it some time after it has expired, and not at once: until then its token is known as one that
    /// has expired.
    pub async fn put_session(&self, token_hash: &str, session: &Session) -> Result<(), Fault> {
        let table = &self.tables.credentials;
        let mut row = item(keys::token(token_hash), None, session)?;
        row.insert(
            "expires_at_epoch".into(),
            number_value(session.expires_at.as_second() + EXPIRED_SESSIONS_KEPT_SECONDS),
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
    pub async fn delete_session(&self, token_hash: &str) -> Result<(), Fault> {
        self.delete_credential(keys::token(token_hash)).await
    }
}

fn made_key_item(client_id: ClientId, hash: &str, api_key: &ApiKey) -> Result<Item, Fault> {
    let made = MadeKey {
        api_key_id: hash.to_owned(),
        client_id: api_key.client_id,
        name: api_key.name.clone(),
    };
    item(
        keys::client(client_id),
        Some(keys::made_api_key(hash)),
        &made,
    )
}

impl Transaction<'_> {
    fn forget_api_key(&mut self, table: &str, hash: &str) {
        self.delete(
            Delete::builder()
                .table_name(table)
                .key("pk", string(keys::api_key(hash)))
                .condition_expression("attribute_exists(pk)"),
            Conflict::Changed,
        );
    }

    /// Only if the epoch is still the one of this access: whoever is dismissed meanwhile must not leave anything behind that lets him in.
    pub(super) fn stands(&mut self, table: &str, access: &Access) {
        let condition = match access.epoch {
            0 => "attribute_not_exists(pk) OR epoch = :epoch",
            _ => "epoch = :epoch",
        };
        self.check(
            ConditionCheck::builder()
                .table_name(table)
                .key("pk", string(keys::epoch(access.client_id)))
                .condition_expression(condition)
                .expression_attribute_values(":epoch", number_value(access.epoch)),
            Conflict::Changed,
        );
    }

    /// Only if the API key of this access is still there.
    pub(super) fn key_stands(&mut self, table: &str, access: &Access) {
        self.check(
            ConditionCheck::builder()
                .table_name(table)
                .key("pk", string(keys::api_key(&access.api_key_hash)))
                .condition_expression("attribute_exists(pk)"),
            Conflict::Changed,
        );
    }

    /// Sets a client's epoch, which ends its administrator's sessions, and what was begun in any session.
    pub(super) fn epoch(&mut self, table: &str, client: &Client) {
        self.put(
            Put::builder()
                .table_name(table)
                .item("pk", string(keys::epoch(client.client_id)))
                .item("epoch", number_value(client.epoch)),
            Conflict::Changed,
        );
    }

    /// Notes that a client is no administrator any more, or is one again. A session without an epoch is
    /// held against this.
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
