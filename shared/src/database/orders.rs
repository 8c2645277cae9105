//! Orders and idempotency keys.

use aws_sdk_dynamodb::types::{Delete, ReturnValue, Update};
use jiff::Timestamp;

use super::accounts::{BucketRow, account_item, bucket_delete, new_bucket_put};
use super::keys::{OPEN, sortable};
use super::ledger::{Guard, Issue};
use super::transaction::{Conflict, Written};
use super::{
    Database, Item, attribute, item, keys, number_value, page, read, string, written,
    written_if_held,
};
use crate::config::Rules;
use crate::domain::account::Account;
use crate::domain::client::ClientId;
use crate::domain::event::Event;
use crate::domain::history::Entry;
use crate::domain::ledger::{Cause, Posting};
use crate::domain::order::{IdempotencyRecord, Order, Payment, Refusal, State};
use crate::error::Fault;

/// An idempotency key is kept for a day.
const IDEMPOTENCY_SECONDS: i64 = 24 * 3600;

impl Database {
    /// An order by its identifier.
    pub async fn order(&self, order_id: &str) -> Result<Option<Order>, Fault> {
        self.get(&self.tables.orders, keys::order(order_id), None)
            .await
    }

    /// What an idempotency key was used for within the last day.
    pub async fn idempotency_record(
        &self,
        client_id: ClientId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<IdempotencyRecord>, Fault> {
        #[derive(serde::Deserialize)]
        struct Row {
            #[serde(flatten)]
            record: IdempotencyRecord,
            expires_at_epoch: i64,
        }
        let row: Option<Row> = self
            .get(&self.tables.orders, keys::idempotency(client_id, key), None)
            .await?;
        Ok(row
            .filter(|row| row.expires_at_epoch > now.as_second())
            .map(|row| row.record))
    }

    /// Begins an order: records it, reserves the bucket name, counts the account against the client's limits, holds the price, and
    /// keeps the idempotency key. All of it or nothing.
    pub async fn begin_order(
        &self,
        order: &Order,
        fingerprint: &str,
        rules: &Rules,
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        transaction.insert(&self.tables.orders, order_item(order)?, Conflict::Changed);
        transaction.put(
            new_bucket_put(&self.tables.accounts, &bucket_row(order))?,
            Conflict::BucketNameTaken,
        );
        let mut count = self
            .account_count(order.client_id, order.payment == Payment::Free, 1)
            .expression_attribute_values(":limit", number_value(rules.accounts_per_client));
        // An account is billed in what its client is billed in: that changes only while there is none.
        count = count.expression_attribute_values(":currency", attribute(order.currency)?);
        let mut condition = "accounts < :limit AND currency = :currency".to_owned();
        if order.payment == Payment::Free {
            condition.push_str(" AND free_accounts < :free_limit");
            count = count.expression_attribute_values(
                ":free_limit",
                number_value(rules.free_accounts_per_client),
            );
        }
        transaction.update(
            count.condition_expression(condition),
            Conflict::TooManyAccounts,
        );
        if order.payment == Payment::Credit {
            // Whoever owes something has no credit to spend: it pays what is owed first.
            let guard = Guard {
                receivable_minor: Some(0),
                ..Guard::default()
            };
            transaction.posting(&self.tables, &hold_of(order), guard, None)?;
        }
        if let Some(key) = &order.idempotency_key {
            let record = IdempotencyRecord {
                order_id: order.order_id.clone(),
                fingerprint: fingerprint.to_owned(),
            };
            let mut row = item(keys::idempotency(order.client_id, key), None, &record)?;
            row.insert(
                "expires_at_epoch".into(),
                number_value(order.created_at.as_second() + IDEMPOTENCY_SECONDS),
            );
            transaction.put(
                aws_sdk_dynamodb::types::Put::builder()
                    .table_name(&self.tables.orders)
                    .set_item(Some(row))
                    .condition_expression("attribute_not_exists(pk) OR expires_at_epoch <= :now")
                    .expression_attribute_values(
                        ":now",
                        number_value(order.created_at.as_second()),
                    ),
                Conflict::IdempotencyKeyUsed,
            );
        }
        transaction.commit_unless_crowded().await
    }

    /// Takes an open order up, for `lease_seconds`, unless somebody else has it.
    pub async fn take_order_up(
        &self,
        order_id: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Order>, Fault> {
        let table = &self.tables.orders;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::order(order_id)))
            .update_expression("SET lease_until = :until, updated_at = :until ADD attempts :one")
            .condition_expression("attribute_exists(#open) AND updated_at <= :now")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":until", string(sortable(lease_until)))
            .expression_attribute_values(":now", string(sortable(now)))
            .expression_attribute_values(":one", number_value(1))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let updated = written_if_held("UpdateItem", table, sent)?;
        updated
            .and_then(|updated| updated.attributes)
            .map(|row| read(table, row))
            .transpose()
    }

    /// Turns an order back: from now on it is being undone. `No` when it has ended already.
    pub async fn turn_order_back(
        &self,
        order: &Order,
        refusal: &Refusal,
    ) -> Result<Written, Fault> {
        let table = &self.tables.orders;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::order(&order.order_id)))
            .update_expression("SET #state = :undoing, refusal = :refusal")
            .condition_expression("#state = :forward")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":undoing", attribute(State::Undoing)?)
            .expression_attribute_values(":forward", attribute(State::Forward)?)
            .expression_attribute_values(":refusal", attribute(refusal)?)
            .send()
            .await;
        written("UpdateItem", table, sent)
    }

    /// Fulfils an order: the account begins, the money moves, the invoice is issued, history is written. All of it, once; the
    /// conflicts when the order has ended already or the client's invoice series has moved on.
    pub async fn fulfil_order(
        &self,
        order: &Order,
        account: &Account,
        issue: Option<Issue<'_>>,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let ended = self
            .end_order(order, State::Forward, State::Fulfilled)?
            .expression_attribute_values(":answer", attribute(&order.answer)?)
            .update_expression("SET #state = :to, answer = :answer REMOVE #open");
        transaction.update(ended, Conflict::Changed);
        transaction.insert(
            &self.tables.accounts,
            account_item(account)?,
            Conflict::Changed,
        );
        if account.is_free {
            transaction.update(self.free_account_update(account, None)?, Conflict::Changed);
        }
        if let Some(issue) = issue {
            transaction.issue(&self.tables, issue)?;
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// Ends an order that came to nothing: what its beginning took is given back. `No` when it has ended already. Where something may
    /// still be made of it at the cluster, it is found again at `look_again_at`.
    pub async fn finish_undoing(
        &self,
        order: &Order,
        release: Option<&Posting>,
        look_again_at: Option<Timestamp>,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let mut ended = Update::builder()
            .table_name(&self.tables.orders)
            .key("pk", string(keys::order(&order.order_id)))
            .condition_expression("#state = :from")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":from", attribute(State::Undoing)?)
            .expression_attribute_values(":to", attribute(State::Undone)?);
        ended = match look_again_at {
            Some(at) => ended
                .update_expression("SET #state = :to, lease_until = :at, updated_at = :at")
                .expression_attribute_values(":at", string(sortable(at))),
            None => ended
                .update_expression("SET #state = :to REMOVE #open")
                .expression_attribute_names("#open", "open"),
        };
        transaction.update(ended, Conflict::Changed);
        transaction.delete(
            bucket_delete(&self.tables.accounts, &bucket_row(order)),
            Conflict::Changed,
        );
        transaction.update(
            self.account_count(order.client_id, order.payment == Payment::Free, -1),
            Conflict::Changed,
        );
        if let Some(posting) = release {
            transaction.posting(&self.tables, posting, Guard::default(), None)?;
        }
        // A failed order answers no retry: the next try is a new one. A key that has run out may be another order's by now.
        let is_kept = entry.at.as_second() < order.created_at.as_second() + IDEMPOTENCY_SECONDS;
        if let Some(key) = order.idempotency_key.as_ref().filter(|_| is_kept) {
            transaction.delete(
                Delete::builder()
                    .table_name(&self.tables.orders)
                    .key("pk", string(keys::idempotency(order.client_id, key))),
                Conflict::Changed,
            );
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// Forgets an order that came to nothing, and of which nothing can come any more.
    pub async fn leave_order(&self, order_id: &str) -> Result<(), Fault> {
        let table = &self.tables.orders;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::order(order_id)))
            .update_expression("REMOVE #open")
            .condition_expression("#state = :undone")
            .expression_attribute_names("#open", "open")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":undone", attribute(State::Undone)?)
            .send()
            .await;
        written_if_held("UpdateItem", table, sent)?;
        Ok(())
    }

    fn end_order(
        &self,
        order: &Order,
        from: State,
        to: State,
    ) -> Result<aws_sdk_dynamodb::types::builders::UpdateBuilder, Fault> {
        Ok(Update::builder()
            .table_name(&self.tables.orders)
            .key("pk", string(keys::order(&order.order_id)))
            .condition_expression("#state = :from")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":from", attribute(from)?)
            .expression_attribute_values(":to", attribute(to)?))
    }

    /// Open orders that nobody has a lease on at `now`, and undone ones that are to be looked at again, oldest first, at most `limit`.
    pub async fn abandoned_orders(&self, now: Timestamp, limit: i32) -> Result<Vec<Order>, Fault> {
        let table = &self.tables.orders;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("open_orders")
            .key_condition_expression("#open = :open AND updated_at <= :now")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", string(OPEN))
            .expression_attribute_values(":now", string(sortable(now)))
            .limit(limit);
        Ok(page(table, query).await?.0)
    }
}

/// What an order's beginning holds.
fn hold_of(order: &Order) -> Posting {
    let payer = (order.client_id, order.currency);
    Posting::new(
        Cause::Hold(&order.order_id),
        payer,
        order.created_at,
        order.amount_minor,
        Vec::new(),
    )
}

fn bucket_row(order: &Order) -> BucketRow {
    BucketRow {
        location: order.location.clone(),
        bucket_name: order.bucket_name.clone(),
        bucket_owner: order.s3uid.clone(),
    }
}

fn order_item(order: &Order) -> Result<Item, Fault> {
    let mut row = item(keys::order(&order.order_id), None, order)?;
    row.insert("open".into(), string(OPEN));
    row.insert("updated_at".into(), string(sortable(order.lease_until)));
    Ok(row)
}
