//! Accounts, the names of their buckets, and the listings.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, Update};
use futures::future::try_join_all;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::billing::DueAccount;
use super::keys::{OPEN, sortable};
use super::ledger::Issue;
use super::listing::Listing;
use super::transaction::{Conflict, Transaction, Written};
use super::{
    Database, Item, attribute, fault, found, item, keys, number_value, page, read, string, written,
    written_if_held,
};
use crate::domain::account::{Account, AccountId, Group, S3Uid, Service, Unsettled};
use crate::domain::allowance::FreeAccount;
use crate::domain::bucket_name::BucketName;
use crate::domain::client::ClientId;
use crate::domain::event::Event;
use crate::domain::history::Entry;
use crate::domain::period::date_of;
use crate::domain::quota::QuotaLevel;
use crate::error::Fault;

/// Whose a bucket name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    /// Where.
    pub location: String,
    /// The name.
    pub bucket_name: BucketName,
    /// The account's s3uid.
    pub bucket_owner: S3Uid,
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

impl Database {
    /// An account by its name, whatever its status.
    pub async fn account(&self, s3uid: &S3Uid) -> Result<Option<Account>, Fault> {
        self.get(
            &self.tables.accounts,
            keys::account(s3uid),
            Some(keys::ACCOUNT.into()),
        )
        .await
    }

    /// One of a client's accounts by its number.
    pub async fn account_by_number(
        &self,
        client_id: ClientId,
        id: AccountId,
    ) -> Result<Option<Account>, Fault> {
        let table = &self.tables.accounts;
        let found = self
            .client
            .query()
            .table_name(table)
            .index_name("by_client")
            .key_condition_expression("listed_for = :client AND id = :id")
            .expression_attribute_values(":client", number_value(client_id))
            .expression_attribute_values(":id", number_value(id))
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
    pub async fn anybodys_account_by_number(
        &self,
        id: AccountId,
    ) -> Result<Option<Account>, Fault> {
        let table = &self.tables.accounts;
        let groups = self.groups().await?;
        let looks = groups.iter().map(|group| {
            self.client
                .query()
                .table_name(table)
                .index_name("by_group")
                .key_condition_expression("group_key = :group AND id = :id")
                .expression_attribute_values(":group", string(group.key()))
                .expression_attribute_values(":id", number_value(id))
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
    pub async fn client_accounts(&self, client_id: ClientId) -> Result<Vec<Account>, Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_client")
            .key_condition_expression("listed_for = :client")
            .expression_attribute_values(":client", number_value(client_id));
        found(table, query).await
    }

    /// The groups that have or had accounts.
    pub async fn groups(&self) -> Result<Vec<Group>, Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :groups")
            .expression_attribute_values(":groups", string(keys::GROUPS));
        found(table, query).await
    }

    /// Makes a group known to the listings. Repeating it changes nothing.
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
    pub async fn group_accounts(
        &self,
        groups: &[Group],
        page: Page,
    ) -> Result<Vec<Account>, Fault> {
        let group_keys: Vec<String> = groups.iter().map(Group::key).collect();
        let listing = Listing {
            table: &self.tables.accounts,
            index: page.order.index(),
            key_attribute: "group_key",
            rank: match page.order {
                AccountOrder::Number => |account: &Account| (account.id.0, account.id),
                AccountOrder::Traffic => |account| (account.period_bytes_sent, account.id),
                AccountOrder::PeakStorage => {
                    |account| (account.period_peak_stored_bytes, account.id)
                }
            },
        };
        self.merged(&listing, &group_keys, None, page).await
    }

    /// A page of the accounts of some groups by number, from the one after a number.
    pub async fn group_accounts_after(
        &self,
        groups: &[Group],
        after: Option<AccountId>,
        page: Page,
    ) -> Result<Vec<Account>, Fault> {
        let group_keys: Vec<String> = groups.iter().map(Group::key).collect();
        let listing = Listing {
            table: &self.tables.accounts,
            index: AccountOrder::Number.index(),
            key_attribute: "group_key",
            rank: |account: &Account| (account.id.0, account.id),
        };
        let after = after.map(|after| ("id", after));
        self.merged(&listing, &group_keys, after, page).await
    }

    /// These accounts, as far as they exist, by name.
    pub async fn accounts(&self, s3uids: &[&S3Uid]) -> Result<HashMap<S3Uid, Account>, Fault> {
        let table = &self.tables.accounts;
        let keys = s3uids
            .iter()
            .map(|s3uid| (keys::account(s3uid), keys::ACCOUNT.to_owned()))
            .collect();
        self.get_many(table, keys)
            .await?
            .into_iter()
            .map(|row| {
                let account: Account = read(table, row)?;
                Ok((account.s3uid.clone(), account))
            })
            .collect()
    }

    /// The owners of a bucket name, at each of the given locations where it is taken.
    pub async fn bucket_owners(
        &self,
        locations: &[String],
        bucket_name: &BucketName,
    ) -> Result<Vec<BucketRow>, Fault> {
        let table = &self.tables.accounts;
        let keys = locations
            .iter()
            .map(|location| (keys::bucket(location, bucket_name), keys::BUCKET.to_owned()))
            .collect();
        self.get_many(table, keys)
            .await?
            .into_iter()
            .map(|row| read(table, row))
            .collect()
    }

    /// The bucket names an account has, as far as this system knows.
    pub async fn account_buckets(&self, s3uid: &S3Uid) -> Result<Vec<BucketRow>, Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("buckets_by_account")
            .key_condition_expression("bucket_owner = :owner")
            .expression_attribute_values(":owner", string(s3uid.as_str()));
        found(table, query).await
    }

    /// Takes a bucket name for an account; `No` when another has it. Repeating it changes nothing.
    pub async fn take_bucket_name(&self, row: &BucketRow) -> Result<Written, Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(bucket_item(row)?))
            .condition_expression("attribute_not_exists(pk) OR bucket_owner = :owner")
            .expression_attribute_values(":owner", string(row.bucket_owner.as_str()))
            .send()
            .await;
        written("PutItem", table, sent)
    }

    /// Gives an account's bucket name back. Repeating it changes nothing, nor does it touch a name that is another's by now.
    pub async fn give_bucket_name_back(&self, row: &BucketRow) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .delete_item()
            .table_name(table)
            .key("pk", string(keys::bucket(&row.location, &row.bucket_name)))
            .key("sk", string(keys::BUCKET))
            .condition_expression("bucket_owner = :owner")
            .expression_attribute_values(":owner", string(row.bucket_owner.as_str()))
            .send()
            .await;
        written_if_held("DeleteItem", table, sent)?;
        Ok(())
    }

    /// Gives an account's bucket name back, with its history entry; `No` when the account does not have the name, so that the
    /// same removal is recorded once.
    pub async fn record_bucket_removal(
        &self,
        row: &BucketRow,
        entry: &Entry,
    ) -> Result<Written, Fault> {
        let table = &self.tables.accounts;
        let mut transaction = self.transaction();
        transaction.delete(
            bucket_delete(table, row).condition_expression("bucket_owner = :owner"),
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        transaction.commit().await
    }

    /// Changes an account's service, with its history entry and events, at the entry's time; `No` when somebody else changed the
    /// account since it was read. The account is then as [`Account::with_service`] has it: where its keys are to stop or to work again,
    /// the cluster is still to be told.
    pub async fn change_service(
        &self,
        account: &Account,
        service: &Service,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        self.service_change(&mut transaction, account, service, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// The writes of a change of service, but for its events.
    pub(super) fn service_change(
        &self,
        transaction: &mut Transaction<'_>,
        account: &Account,
        service: &Service,
        entry: &Entry,
    ) -> Result<(), Fault> {
        let after = account.with_service(service, entry.at);
        transaction.update(
            service_update(
                &self.tables.accounts,
                account,
                service,
                account.commits_on,
                "",
                newly_unsettled(account, &after),
            )?,
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)
    }

    /// Marks an account as one whose cluster is to be told, as `after` has the mark; `No` when somebody else changed the account since
    /// it was read.
    pub async fn mark_unsettled(
        &self,
        account: &Account,
        after: &Account,
    ) -> Result<Written, Fault> {
        let table = &self.tables.accounts;
        let Some(unsettled) = &after.unsettled else {
            return Ok(Written::Yes);
        };
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::account(&account.s3uid)))
            .key("sk", string(keys::ACCOUNT))
            .update_expression(format!("SET {UNSETTLED}, revision = :next"))
            .condition_expression("revision = :revision")
            .expression_attribute_values(":unsettled", attribute(unsettled)?)
            .expression_attribute_values(":open", string(OPEN))
            .expression_attribute_values(":unsettled_at", string(sortable(unsettled.at)))
            .expression_attribute_values(":revision", number_value(account.revision))
            .expression_attribute_values(":next", number_value(after.revision))
            .send()
            .await;
        written("UpdateItem", table, sent)
    }

    /// Takes an account's mark away; `No` when somebody else has set another since.
    pub async fn clear_unsettled(
        &self,
        s3uid: &S3Uid,
        unsettled: &Unsettled,
    ) -> Result<Written, Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::account(s3uid)))
            .key("sk", string(keys::ACCOUNT))
            .update_expression("REMOVE unsettled, is_unsettled, unsettled_at")
            .condition_expression("unsettled.revision = :revision")
            .expression_attribute_values(":revision", number_value(unsettled.revision))
            .send()
            .await;
        written("UpdateItem", table, sent)
    }

    /// A page of the accounts that were marked at `before` or earlier and still are, the one marked first first, and where the next
    /// begins.
    pub async fn unsettled_accounts(
        &self,
        before: Timestamp,
        limit: i32,
        after: Option<Item>,
    ) -> Result<(Vec<DueAccount>, Option<Item>), Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_unsettled")
            .key_condition_expression("is_unsettled = :open AND unsettled_at <= :before")
            .expression_attribute_values(":open", string(OPEN))
            .expression_attribute_values(":before", string(sortable(before)))
            .set_exclusive_start_key(after)
            .limit(limit);
        page(table, query).await
    }

    /// Notes a second key of an account, with the history entry, and marks the account as `after` is; `No` when somebody else changed
    /// the account since it was read.
    pub async fn set_next_key(
        &self,
        account: &Account,
        after: &Account,
        entry: &Entry,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let update = account_update(&self.tables.accounts, account)
            .update_expression(format!(
                "SET next_key = :key, revision = :next, {UNSETTLED}"
            ))
            .expression_attribute_values(":key", attribute(&after.next_key)?);
        transaction.update(
            with_unsettled(update, after.unsettled.as_ref())?,
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        transaction.commit().await
    }

    /// The second key takes the first one's place, as [`Account::with_key_confirmed`] has it; `No` when somebody else changed the
    /// account since it was read.
    pub async fn take_next_key(
        &self,
        account: &Account,
        after: &Account,
        entry: &Entry,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let update = account_update(&self.tables.accounts, account)
            .update_expression(format!("SET access_key = :access, secret_key_ciphertext = :secret, key_confirmed_at = :confirmed_at, revision = :next, {UNSETTLED} REMOVE next_key"))
            .expression_attribute_values(":access", string(&after.access_key))
            .expression_attribute_values(":secret", string(&after.secret_key_ciphertext))
            .expression_attribute_values(":confirmed_at", attribute(after.key_confirmed_at)?);
        transaction.update(
            with_unsettled(update, after.unsettled.as_ref())?,
            Conflict::Changed,
        );
        transaction.history(&self.tables.history, entry)?;
        transaction.commit().await
    }

    /// Moves an account to another listing group, with its client's email and billing group; `No` when somebody else changed it.
    pub async fn regroup_account(
        &self,
        account: &Account,
        email: &str,
        group: &Group,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        transaction.update(
            account_update(&self.tables.accounts, account)
                .update_expression(
                    "SET email = :email, billing = :billing, group_key = :group, revision = :next",
                )
                .expression_attribute_values(":email", string(email))
                .expression_attribute_values(":billing", string(&group.billing))
                .expression_attribute_values(":group", string(group.key())),
            Conflict::Changed,
        );
        transaction.commit().await
    }

    /// Puts an account on the plan that `after` says, with the service that comes of it, or notes its next one, with the invoice, history entry and events of it; the
    /// conflicts when somebody else changed the account since it was read, or its client has as many accounts that cost nothing as it may
    /// have.
    pub async fn change_plan(
        &self,
        account: &Account,
        after: &Account,
        free_limit: u32,
        issue: Option<Issue<'_>>,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let unsettled = newly_unsettled(account, after);
        let mut set = format!("SET revision = :next, {}", terms(account, after));
        if unsettled.is_some() {
            set = format!("{set}, {UNSETTLED}");
        }
        let mut update = account_update(&self.tables.accounts, account);
        if after.service != account.service {
            set.push_str(", service = :service");
            update = update.expression_attribute_values(":service", attribute(&after.service)?);
        }
        let update = update.update_expression(set);
        let update = with_unsettled(with_terms(update, account, after)?, unsettled)?;
        transaction.update(update, Conflict::Changed);
        self.move_free_count(&mut transaction, account, after, free_limit);
        if let Some(issue) = issue {
            transaction.issue(&self.tables, issue)?;
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// Counts an account among its client's free ones, or no longer, when it goes from one kind of plan to the other.
    pub(super) fn move_free_count(
        &self,
        transaction: &mut Transaction<'_>,
        account: &Account,
        after: &Account,
        free_limit: u32,
    ) {
        if account.is_free == after.is_free {
            return;
        }
        let count = Update::builder()
            .table_name(&self.tables.clients)
            .key("pk", string(keys::client(account.client_id)))
            .key("sk", string(keys::CLIENT))
            .update_expression("ADD free_accounts :by");
        let count = match after.is_free {
            true => count
                .condition_expression("free_accounts < :limit")
                .expression_attribute_values(":by", number_value(1))
                .expression_attribute_values(":limit", number_value(free_limit)),
            false => count.expression_attribute_values(":by", number_value(-1)),
        };
        transaction.update(count, Conflict::TooManyAccounts);
    }

    /// Ends an account's life: it leaves the listings and its client's count, and its keys are forgotten. Its last period is still to be
    /// closed. `No` when that was done before.
    pub async fn terminate_account(
        &self,
        account: &Account,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let table = &self.tables.accounts;
        let service = account.service.terminate();
        let mut transaction = self.transaction();
        transaction.update(
            account_update(table, account)
                .update_expression(
                    "SET service = :service, revision = :next, secret_key_ciphertext = :none, buckets = :zero, stored_bytes = :zero, metered_until = :ended REMOVE listed_for, group_key, ending, ends_on, next_key, unsettled, is_unsettled, unsettled_at",
                )
                .expression_attribute_values(":service", attribute(&service)?)
                .expression_attribute_values(":none", string(""))
                // What it moved in its last hour is still to be collected.
                .expression_attribute_values(":ended", attribute(entry.at)?)
                .expression_attribute_values(":zero", number_value(0)),
            Conflict::Changed,
        );
        transaction.update(
            self.account_count(account.client_id, account.is_free, -1),
            Conflict::Changed,
        );
        if account.is_free {
            let ended = self.free_account_update(account, Some(entry.at))?;
            transaction.update(ended, Conflict::Changed);
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// Notes that an account which costs nothing began, or ended, in a month.
    pub(super) fn free_account_update(
        &self,
        account: &Account,
        ended_at: Option<Timestamp>,
    ) -> Result<UpdateBuilder, Fault> {
        let ordered_on = account.service.ordered_on;
        let month = ended_at.map_or(ordered_on, date_of);
        let mut set = "SET s3uid = :s3uid, id = :id, ordered_on = :ordered_on, opened_at = :opened"
            .to_owned();
        let mut update = Update::builder()
            .table_name(&self.tables.clients)
            .key("pk", string(keys::client(account.client_id)))
            .key("sk", string(keys::free_account(month, account.id)))
            .expression_attribute_values(":s3uid", string(account.s3uid.as_str()))
            .expression_attribute_values(":id", number_value(account.id))
            .expression_attribute_values(":ordered_on", attribute(ordered_on)?)
            .expression_attribute_values(":opened", attribute(account.created_at)?);
        if let Some(ended_at) = ended_at {
            set.push_str(", ended_at = :ended");
            update = update.expression_attribute_values(":ended", attribute(ended_at)?);
        }
        Ok(update.update_expression(set))
    }

    /// A client's accounts that cost nothing and were ordered or ended in the month that a day is in.
    pub async fn free_accounts(
        &self,
        client_id: ClientId,
        date: Date,
    ) -> Result<Vec<FreeAccount>, Fault> {
        let table = &self.tables.clients;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :client AND begins_with(sk, :month)")
            .expression_attribute_values(":client", string(keys::client(client_id)))
            .expression_attribute_values(":month", string(keys::free_accounts(date)))
            .consistent_read(true);
        found(table, query).await
    }

    /// Changes how many accounts a client has.
    pub(super) fn account_count(
        &self,
        client_id: ClientId,
        is_free: bool,
        by: i32,
    ) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.tables.clients)
            .key("pk", string(keys::client(client_id)))
            .key("sk", string(keys::CLIENT))
            .update_expression("ADD accounts :by, free_accounts :free")
            .expression_attribute_values(":by", number_value(by))
            .expression_attribute_values(":free", number_value(if is_free { by } else { 0 }))
    }

    /// Sets what was last seen of an account's usage. Nothing is written for an account that is gone.
    pub async fn set_account_figures(&self, account: &Account) -> Result<(), Fault> {
        let table = &self.tables.accounts;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::account(&account.s3uid)))
            .key("sk", string(keys::ACCOUNT))
            .update_expression(FIGURES)
            .condition_expression("attribute_exists(listed_for)")
            .expression_attribute_values(":buckets", number_value(account.buckets))
            .expression_attribute_values(":stored", number_value(account.stored_bytes))
            .expression_attribute_values(":from", string(account.period_from.to_string()))
            .expression_attribute_values(":sent", number_value(account.period_bytes_sent))
            .expression_attribute_values(":peak", number_value(account.period_peak_stored_bytes))
            .send()
            .await;
        written_if_held("UpdateItem", table, sent)?;
        Ok(())
    }

    /// Sets what was last seen of an account's usage, with the quota level that `after` says and the event that tells of it; `No` when
    /// another level was told since `account` was read, its quota is another, or it is gone.
    pub async fn tell_quota_level(
        &self,
        account: &Account,
        after: &Account,
        event: &Event,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        transaction.update(
            Update::builder()
                .table_name(&self.tables.accounts)
                .key("pk", string(keys::account(&account.s3uid)))
                .key("sk", string(keys::ACCOUNT))
                .update_expression(format!("{FIGURES}, quota_told = :told"))
                .condition_expression(format!(
                    "attribute_exists(listed_for) AND quota_gb = :quota AND {}",
                    was_told(account)
                ))
                .expression_attribute_values(":buckets", number_value(after.buckets))
                .expression_attribute_values(":stored", number_value(after.stored_bytes))
                .expression_attribute_values(":from", string(after.period_from.to_string()))
                .expression_attribute_values(":sent", number_value(after.period_bytes_sent))
                .expression_attribute_values(":peak", number_value(after.period_peak_stored_bytes))
                .expression_attribute_values(":quota", number_value(account.quota_gb))
                .expression_attribute_values(":was_told", attribute(account.quota_told)?)
                .expression_attribute_values(":told", attribute(after.quota_told)?),
            Conflict::Changed,
        );
        transaction.events(&self.tables.events, std::slice::from_ref(event))?;
        transaction.commit().await
    }
}

/// An account's mark, and its place among the marked ones: its values are added by [`with_unsettled`].
const UNSETTLED: &str =
    "unsettled = :unsettled, is_unsettled = :open, unsettled_at = :unsettled_at";

/// The mark that `after` has and `account` has not.
pub(super) fn newly_unsettled<'a>(account: &Account, after: &'a Account) -> Option<&'a Unsettled> {
    let unsettled = after.unsettled.as_ref();
    unsettled.filter(|_| after.unsettled != account.unsettled)
}

/// Adds the values of [`UNSETTLED`] to an update.
fn with_unsettled(
    update: UpdateBuilder,
    unsettled: Option<&Unsettled>,
) -> Result<UpdateBuilder, Fault> {
    let Some(unsettled) = unsettled else {
        return Ok(update);
    };
    Ok(update
        .expression_attribute_values(":unsettled", attribute(unsettled)?)
        .expression_attribute_values(":open", string(OPEN))
        .expression_attribute_values(":unsettled_at", string(sortable(unsettled.at))))
}

/// What was last seen of an account's usage.
const FIGURES: &str = "SET buckets = :buckets, stored_bytes = :stored, period_from = :from, period_bytes_sent = :sent, period_peak_stored_bytes = :peak";

/// The condition that the quota level told last is `:was_told`.
pub(super) fn was_told(account: &Account) -> &'static str {
    match account.quota_told {
        QuotaLevel::Below80 => "(attribute_not_exists(quota_told) OR quota_told = :was_told)",
        QuotaLevel::From80 | QuotaLevel::From100 => "quota_told = :was_told",
    }
}

/// What an account is sold, as text of what is to be set: its values are added by [`with_terms`].
pub(super) fn terms(account: &Account, after: &Account) -> String {
    let mut set = "plan_id = :plan_id, plan_version = :plan_version, quota_gb = :quota, is_free = :is_free, plan_changes = :plan_changes".to_owned();
    if after.is_visible() {
        set.push_str(", group_key = :group");
    }
    if after.quota_told != account.quota_told {
        set.push_str(", quota_told = :told");
    }
    set
}

/// Adds the values of [`terms`], as `after` has them, to an update made by [`account_update`].
pub(super) fn with_terms(
    update: UpdateBuilder,
    account: &Account,
    after: &Account,
) -> Result<UpdateBuilder, Fault> {
    let mut update = update
        .expression_attribute_values(":plan_id", number_value(after.plan_id))
        .expression_attribute_values(":plan_version", number_value(after.plan_version))
        .expression_attribute_values(":quota", number_value(after.quota_gb))
        .expression_attribute_values(":is_free", AttributeValue::Bool(after.is_free))
        .expression_attribute_values(":plan_changes", attribute(&after.plan_changes)?);
    if let Some(group) = after.listed_group() {
        update = update.expression_attribute_values(":group", string(group.key()));
    }
    if after.quota_told != account.quota_told {
        // The worker that collects usage tells of it too, and does not raise the revision.
        update = update
            .condition_expression(format!("revision = :revision AND {}", was_told(account)))
            .expression_attribute_values(":was_told", attribute(account.quota_told)?)
            .expression_attribute_values(":told", attribute(after.quota_told)?);
    }
    Ok(update)
}

/// A change of an account's service and of the index attributes that follow from it, with `more` to set, and the mark that comes with
/// it.
pub(super) fn service_update(
    table: &str,
    account: &Account,
    service: &Service,
    commits_on: Option<Date>,
    more: &str,
    unsettled: Option<&Unsettled>,
) -> Result<UpdateBuilder, Fault> {
    let mut update =
        account_update(table, account).expression_attribute_values(":service", attribute(service)?);
    let mut set = vec!["service = :service", "revision = :next"];
    let mut remove = Vec::new();
    if !more.is_empty() {
        set.push(more);
    }
    if unsettled.is_some() {
        set.push(UNSETTLED);
        update = with_unsettled(update, unsettled)?;
    }
    match service.due() {
        Some((date, _)) => {
            set.extend(["ending = :ending", "ends_on = :ends_on"]);
            update = update
                .expression_attribute_values(":ending", string(OPEN))
                .expression_attribute_values(":ends_on", string(date.to_string()));
        }
        None => remove.extend(["ending", "ends_on"]),
    }
    match commits_on {
        Some(date) => {
            set.push("commits_on = :commits_on");
            update = update.expression_attribute_values(":commits_on", string(date.to_string()));
        }
        None => remove.push("commits_on"),
    }
    let mut expression = format!("SET {}", set.join(", "));
    if !remove.is_empty() {
        expression.push_str(" REMOVE ");
        expression.push_str(&remove.join(", "));
    }
    Ok(update.update_expression(expression))
}

/// An update of an account that nobody else has changed since it was read.
fn account_update(table: &str, account: &Account) -> UpdateBuilder {
    Update::builder()
        .table_name(table)
        .key("pk", string(keys::account(&account.s3uid)))
        .key("sk", string(keys::ACCOUNT))
        .condition_expression("revision = :revision")
        .expression_attribute_values(":revision", number_value(account.revision))
        .expression_attribute_values(":next", number_value(account.revision + 1))
}

/// An account as a row: with the attributes that only indexes read. All follow from it, and who changes it changes them with it.
#[derive(Serialize)]
struct AccountRow<'a> {
    #[serde(flatten)]
    account: &'a Account,
    /// The client whose list it stands in; absent once it is terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed_for: Option<ClientId>,
    /// The listing group it stands in, see [`Group::key`]; absent once it is terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_key: Option<String>,
    /// Present while an end of its service is ahead, see [`Service::due`].
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<&'static str>,
    /// The day of that end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_on: Option<Date>,
    /// The location, as long as its usage is collected: beyond its end, until its last hour is.
    metered_at: &'a str,
}

/// A new account.
pub(super) fn account_item(account: &Account) -> Result<Item, Fault> {
    let due = account.service.due();
    let row = AccountRow {
        account,
        listed_for: account.is_visible().then_some(account.client_id),
        group_key: account.listed_group().map(|group| group.key()),
        ending: due.map(|_| OPEN),
        ends_on: due.map(|(date, _)| date),
        metered_at: &account.location,
    };
    item(
        keys::account(&account.s3uid),
        Some(keys::ACCOUNT.into()),
        &row,
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
        .expression_attribute_values(":owner", AttributeValue::S(row.bucket_owner.to_string()))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::domain::closing::tests::account;

    #[test]
    fn an_account_is_stored_with_what_its_indexes_read_and_read_without() {
        let active = account(date(2026, 1, 15));
        let today = date(2026, 1, 20);
        let cancelled = Account {
            service: active.service.cancel(today, 30).expect("cancelled"),
            ..active.clone()
        };
        let terminated = Account {
            service: cancelled.service.end().terminate(),
            ..active.clone()
        };
        let listed = Some(string("PLAN#2#LOCATION#NL#BILLING#direct"));
        let ends_on = Some(string("2026-02-15"));
        for (account, client, group, ends_on) in [
            (active, Some(number_value(1)), listed.clone(), None),
            (cancelled, Some(number_value(1)), listed, ends_on),
            (terminated, None, None, None),
        ] {
            let item = account_item(&account).expect("an item");
            assert_eq!(item.get("listed_for"), client.as_ref());
            assert_eq!(item.get("group_key"), group.as_ref());
            assert_eq!(item.get("ends_on"), ends_on.as_ref());
            assert_eq!(item.contains_key("ending"), ends_on.is_some());
            assert_eq!(item["metered_at"], string("NL"));
            let again: Account = read("accounts", item).expect("read");
            assert_eq!(again, account);
        }
    }
}
