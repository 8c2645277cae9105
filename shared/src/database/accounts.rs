//! Accounts, the names of their buckets, and the listings.

use std::collections::{HashMap, VecDeque};

use aws_sdk_dynamodb::types::{AttributeValue, Delete, KeysAndAttributes, Put, Update};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::transaction::Conflict;
use super::{Database, Item, attribute, fault, item, keys, number, read, string};
use crate::domain::account::{Account, Group, Service, Status};
use crate::domain::history::Entry;
use crate::error::Fault;

/// Whose a bucket name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    /// Where.
    pub location: String,
    /// The name.
    pub bucket_name: String,
    /// The account's s3uid.
    pub bucket_owner: String,
}

/// What a listing is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOrder {
    /// The account's number.
    Number,
    /// Bytes sent in the running period.
    Traffic,
    /// The most bytes stored in the running period.
    PeakStorage,
}

impl AccountOrder {
    fn index(self) -> &'static str {
        match self {
            AccountOrder::Number => "by_group",
            AccountOrder::Traffic => "by_group_traffic",
            AccountOrder::PeakStorage => "by_group_storage",
        }
    }

    /// What two accounts are compared by; the number settles ties.
    #[must_use]
    pub fn rank(self, account: &Account) -> (u64, u64) {
        match self {
            AccountOrder::Number => (account.id, account.id),
            AccountOrder::Traffic => (account.period_bytes_sent, account.id),
            AccountOrder::PeakStorage => (account.period_peak_stored_bytes, account.id),
        }
    }
}

/// Which rows of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// In what order.
    pub order: AccountOrder,
    /// Greatest first.
    pub descending: bool,
    /// Rows to skip.
    pub offset: usize,
    /// Rows to return, at most.
    pub limit: usize,
}

/// One group's accounts, read page by page as the merge needs them.
struct Cursor<'a> {
    group_key: &'a str,
    read_ahead: VecDeque<Account>,
    next: Option<Item>,
    is_finished: bool,
}

impl Database {
    /// An account by its name, whatever its status.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn account(&self, s3uid: &str) -> Result<Option<Account>, Fault> {
        self.get(
            &self.tables.accounts,
            keys::account(s3uid),
            Some(keys::ACCOUNT.into()),
        )
        .await
    }

    /// One of a client's accounts by its number.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn account_by_number(
        &self,
        client_id: u64,
        id: u64,
    ) -> Result<Option<Account>, Fault> {
        let table = &self.tables.accounts;
        let found = self
            .client
            .query()
            .table_name(table)
            .index_name("by_client")
            .key_condition_expression("listed_for = :client AND id = :id")
            .expression_attribute_values(":client", number(client_id))
            .expression_attribute_values(":id", number(id))
            .send()
            .await
            .map_err(|e| fault("Query", table, e))?;
        found
            .items
            .unwrap_or_default()
            .pop()
            .map(|row| read(table, row))
            .transpose()
    }

    /// An account by its number, whosever it is. One look per group: for administrators.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn anybodys_account_by_number(&self, id: u64) -> Result<Option<Account>, Fault> {
        let table = &self.tables.accounts;
        let groups = self.groups().await?;
        let looks = groups.iter().map(|group| {
            self.client
                .query()
                .table_name(table)
                .index_name("by_group")
                .key_condition_expression("group_key = :group AND id = :id")
                .expression_attribute_values(":group", string(group.key()))
                .expression_attribute_values(":id", number(id))
                .send()
        });
        let found = try_join_all(looks)
            .await
            .map_err(|e| fault("Query", table, e))?;
        found
            .into_iter()
            .flat_map(|answer| answer.items.unwrap_or_default())
            .next()
            .map(|row| read(table, row))
            .transpose()
    }

    /// All of a client's accounts, by number. A client has a bounded number of them, see `ACCOUNTS_PER_CLIENT`.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn client_accounts(&self, client_id: u64) -> Result<Vec<Account>, Fault> {
        let table = &self.tables.accounts;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .index_name("by_client")
            .key_condition_expression("listed_for = :client")
            .expression_attribute_values(":client", number(client_id))
            .into_paginator()
            .items()
            .send();
        let mut accounts = Vec::new();
        while let Some(row) = rows.next().await {
            accounts.push(read(table, row.map_err(|e| fault("Query", table, e))?)?);
        }
        Ok(accounts)
    }

    /// The groups that have or had accounts.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn groups(&self) -> Result<Vec<Group>, Fault> {
        let table = &self.tables.accounts;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :groups")
            .expression_attribute_values(":groups", string(keys::GROUPS))
            .into_paginator()
            .items()
            .send();
        let mut groups = Vec::new();
        while let Some(row) = rows.next().await {
            groups.push(read(table, row.map_err(|e| fault("Query", table, e))?)?);
        }
        Ok(groups)
    }

    /// Makes a group known to the listings. Repeating it changes nothing.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn put_group(&self, group: &Group) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        self.client
            .put_item()
            .table_name(table)
            .set_item(Some(item(keys::GROUPS.into(), Some(group.key()), group)?))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// A page of the accounts of some groups. Each group is read in the page's order from an index, and the groups are merged: the
    /// cost depends on the number of groups and on `offset + limit`, not on the number of accounts.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn group_accounts(
        &self,
        groups: &[Group],
        page: Page,
    ) -> Result<Vec<Account>, Fault> {
        let group_keys: Vec<String> = groups.iter().map(Group::key).collect();
        let wanted = page.offset + page.limit;
        let read_ahead = (wanted / groups.len().max(1) + 1)
            .clamp(20, 1_000)
            .min(wanted.max(1));
        let mut cursors: Vec<Cursor<'_>> = group_keys
            .iter()
            .map(|group_key| Cursor {
                group_key,
                read_ahead: VecDeque::new(),
                next: None,
                is_finished: false,
            })
            .collect();
        try_join_all(
            cursors
                .iter_mut()
                .map(|cursor| self.read_ahead(cursor, page, read_ahead)),
        )
        .await?;
        let mut rows = Vec::with_capacity(page.limit);
        for position in 0..wanted {
            let head = cursors
                .iter()
                .enumerate()
                .filter_map(|(index, cursor)| {
                    cursor
                        .read_ahead
                        .front()
                        .map(|account| (page.order.rank(account), index))
                })
                .reduce(|best, other| {
                    let other_first = if page.descending {
                        other.0 > best.0
                    } else {
                        other.0 < best.0
                    };
                    if other_first { other } else { best }
                });
            let Some((_, index)) = head else { break };
            let cursor = &mut cursors[index];
            let account = cursor.read_ahead.pop_front();
            if position >= page.offset {
                rows.extend(account);
            }
            if cursor.read_ahead.is_empty() && !cursor.is_finished {
                self.read_ahead(cursor, page, read_ahead).await?;
            }
        }
        Ok(rows)
    }

    async fn read_ahead(
        &self,
        cursor: &mut Cursor<'_>,
        page: Page,
        limit: usize,
    ) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        let answer = self
            .client
            .query()
            .table_name(table)
            .index_name(page.order.index())
            .key_condition_expression("group_key = :group")
            .expression_attribute_values(":group", string(cursor.group_key))
            .scan_index_forward(!page.descending)
            .set_exclusive_start_key(cursor.next.take())
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|e| fault("Query", table, e))?;
        for row in answer.items.unwrap_or_default() {
            cursor.read_ahead.push_back(read(table, row)?);
        }
        cursor.is_finished = answer.last_evaluated_key.is_none();
        cursor.next = answer.last_evaluated_key;
        Ok(())
    }

    /// The owners of a bucket name, at each of the given locations where it is taken.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn bucket_owners(
        &self,
        locations: &[String],
        bucket_name: &str,
    ) -> Result<Vec<BucketRow>, Fault> {
        let table = &self.tables.accounts;
        let mut wanted: Option<KeysAndAttributes> = None;
        for location in locations {
            let key = HashMap::from([
                ("pk".to_owned(), string(keys::bucket(location, bucket_name))),
                ("sk".to_owned(), string(keys::BUCKET)),
            ]);
            let so_far = wanted.map(|w| w.keys).unwrap_or_default();
            wanted = Some(
                KeysAndAttributes::builder()
                    .set_keys(Some(so_far.into_iter().chain([key]).collect()))
                    .build()
                    .map_err(|e| Fault::permanent("building BatchGetItem", e))?,
            );
        }
        let mut rows = Vec::new();
        while let Some(request) = wanted.take() {
            let answer = self
                .client
                .batch_get_item()
                .request_items(table, request)
                .send()
                .await
                .map_err(|e| fault("BatchGetItem", table, e))?;
            for row in answer
                .responses
                .unwrap_or_default()
                .remove(table)
                .unwrap_or_default()
            {
                rows.push(read(table, row)?);
            }
            wanted = answer
                .unprocessed_keys
                .and_then(|mut keys| keys.remove(table))
                .filter(|keys| !keys.keys.is_empty());
        }
        Ok(rows)
    }

    /// The bucket names an account has, as far as this system knows.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn account_buckets(&self, s3uid: &str) -> Result<Vec<BucketRow>, Fault> {
        let table = &self.tables.accounts;
        let mut rows = self
            .client
            .query()
            .table_name(table)
            .index_name("buckets_by_account")
            .key_condition_expression("bucket_owner = :owner")
            .expression_attribute_values(":owner", string(s3uid))
            .into_paginator()
            .items()
            .send();
        let mut buckets = Vec::new();
        while let Some(row) = rows.next().await {
            buckets.push(read(table, row.map_err(|e| fault("Query", table, e))?)?);
        }
        Ok(buckets)
    }

    /// Takes a bucket name for an account; `false` when another has it. Repeating it changes nothing.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn take_bucket_name(&self, row: &BucketRow) -> Result<bool, Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(bucket_item(row)?))
            .condition_expression("attribute_not_exists(pk) OR bucket_owner = :owner")
            .expression_attribute_values(":owner", string(&row.bucket_owner))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(e) => Err(fault("PutItem", table, e)),
        }
    }

    /// Gives an account's bucket name back. Repeating it changes nothing, nor does it touch a name that is another's by now.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn give_bucket_name_back(&self, row: &BucketRow) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .delete_item()
            .table_name(table)
            .key("pk", string(keys::bucket(&row.location, &row.bucket_name)))
            .key("sk", string(keys::BUCKET))
            .condition_expression("bucket_owner = :owner")
            .expression_attribute_values(":owner", string(&row.bucket_owner))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(e) => Err(fault("DeleteItem", table, e)),
        }
    }

    /// Gives an account's bucket name back, with its history entry; `false` when the account does not have the name, so that the
    /// same removal is recorded once.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn record_bucket_removal(
        &self,
        row: &BucketRow,
        entry: &Entry,
    ) -> Result<bool, Fault> {
        let table = &self.tables.accounts;
        let mut transaction = self.transaction();
        transaction.delete(
            bucket_delete(table, row).condition_expression("bucket_owner = :owner"),
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Changes an account's service, with its history entry; `false` when somebody else changed the account since it was read.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn change_service(
        &self,
        account: &Account,
        service: &Service,
        entry: &Entry,
    ) -> Result<bool, Fault> {
        let table = &self.tables.accounts;
        let mut transaction = self.transaction();
        transaction.update(
            account_update(table, account)
                .update_expression("SET service = :service, revision = :next")
                .expression_attribute_values(":service", attribute(service)?),
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Ends an account's life: it leaves the listings and its client's count, and its keys are forgotten. `false` when that was done
    /// before.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn terminate_account(&self, account: &Account, entry: &Entry) -> Result<bool, Fault> {
        let table = &self.tables.accounts;
        let service = Service {
            status: Status::Terminated,
            ..account.service.clone()
        };
        let mut transaction = self.transaction();
        transaction.update(
            account_update(table, account)
                .update_expression(
                    "SET service = :service, revision = :next, secret_key_ciphertext = :none, buckets = :zero, stored_bytes = :zero REMOVE listed_for, group_key",
                )
                .expression_attribute_values(":service", attribute(&service)?)
                .expression_attribute_values(":none", string(""))
                .expression_attribute_values(":zero", number(0)),
            Conflict::Changed,
        );
        transaction.update(
            self.account_count(account.client_id, account.is_free, -1),
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Changes how many accounts a client has.
    pub(super) fn account_count(
        &self,
        client_id: u64,
        is_free: bool,
        by: i32,
    ) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        Update::builder()
            .table_name(&self.tables.clients)
            .key("pk", string(keys::client(client_id)))
            .key("sk", string(keys::CLIENT))
            .update_expression("ADD accounts :by, free_accounts :free")
            .expression_attribute_values(":by", number(by))
            .expression_attribute_values(":free", number(if is_free { by } else { 0 }))
    }

    /// Sets what was last seen of an account's usage. Nothing is written for an account that is gone.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn set_account_figures(&self, account: &Account) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::account(&account.s3uid)))
            .key("sk", string(keys::ACCOUNT))
            .update_expression(
                "SET buckets = :buckets, stored_bytes = :stored, period_from = :from, period_bytes_sent = :sent, period_peak_stored_bytes = :peak",
            )
            .condition_expression("attribute_exists(listed_for)")
            .expression_attribute_values(":buckets", number(account.buckets))
            .expression_attribute_values(":stored", number(account.stored_bytes))
            .expression_attribute_values(":from", string(account.period_from.to_string()))
            .expression_attribute_values(":sent", number(account.period_bytes_sent))
            .expression_attribute_values(":peak", number(account.period_peak_stored_bytes))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(e) => Err(fault("UpdateItem", table, e)),
        }
    }
}

/// An update of an account that nobody else has changed since it was read.
fn account_update(
    table: &str,
    account: &Account,
) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
    Update::builder()
        .table_name(table)
        .key("pk", string(keys::account(&account.s3uid)))
        .key("sk", string(keys::ACCOUNT))
        .condition_expression("revision = :revision")
        .expression_attribute_values(":revision", number(account.revision))
        .expression_attribute_values(":next", number(account.revision + 1))
}

pub(super) fn account_item(account: &Account) -> Result<Item, Fault> {
    item(
        keys::account(&account.s3uid),
        Some(keys::ACCOUNT.into()),
        account,
    )
}

pub(super) fn bucket_item(row: &BucketRow) -> Result<Item, Fault> {
    item(
        keys::bucket(&row.location, &row.bucket_name),
        Some(keys::BUCKET.into()),
        row,
    )
}

/// The taking of a bucket name that must be free.
pub(super) fn new_bucket_put(
    table: &str,
    row: &BucketRow,
) -> Result<aws_sdk_dynamodb::types::builders::PutBuilder, Fault> {
    Ok(Put::builder()
        .table_name(table)
        .set_item(Some(bucket_item(row)?))
        .condition_expression("attribute_not_exists(pk)"))
}

/// The giving back of a bucket name, if it is still the owner's.
pub(super) fn bucket_delete(
    table: &str,
    row: &BucketRow,
) -> aws_sdk_dynamodb::types::builders::DeleteBuilder {
    Delete::builder()
        .table_name(table)
        .key("pk", string(keys::bucket(&row.location, &row.bucket_name)))
        .key("sk", string(keys::BUCKET))
        .condition_expression("attribute_not_exists(pk) OR bucket_owner = :owner")
        .expression_attribute_values(":owner", AttributeValue::S(row.bucket_owner.clone()))
}
