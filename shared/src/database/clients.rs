//! Clients, and the numbers given to accounts and invoices.

use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, Put, ReturnValue, Update};
use serde::Deserialize;

use super::transaction::{Conflict, Transaction, Written};
use super::{
    Database, Item, attribute, fault, item, keys, number_value, read, string, written_if_held,
};
use crate::domain::account::AccountId;
use crate::domain::client::{Client, ClientId, Role};
use crate::domain::credential::{Access, ApiKey};
use crate::domain::history::Entry;
use crate::domain::invoice::InvoiceId;
use crate::domain::plan::PlanId;
use crate::error::Fault;

#[derive(Deserialize)]
struct EmailRow {
    client_id: ClientId,
}

/// Numbers for an order.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Numbers {
    /// For the account.
    pub account_id: AccountId,
    /// For its invoice.
    pub invoice_id: InvoiceId,
}

impl Database {
    /// A client by its number.
    pub async fn client(&self, client_id: ClientId) -> Result<Option<Client>, Fault> {
        self.get(
            &self.tables.clients,
            keys::client(client_id),
            Some(keys::CLIENT.into()),
        )
        .await
    }

    /// A client's number by its email.
    pub async fn client_id_by_email(&self, email: &str) -> Result<Option<ClientId>, Fault> {
        let row: Option<EmailRow> = self
            .get(
                &self.tables.clients,
                keys::email(email),
                Some(keys::EMAIL.into()),
            )
            .await?;
        Ok(row.map(|row| row.client_id))
    }

    /// Adds a client. Its number and its email must be new; else nothing is written and the answer is `No`.
    pub async fn insert_client(
        &self,
        client: &Client,
        entry: Option<&Entry>,
    ) -> Result<Written, Fault> {
        let transaction = self.inserting_client(client, entry)?;
        transaction.commit().await
    }

    /// Makes a client, as [`Database::insert_client`] does; `No` also when the access of its maker, `by`, has ended.
    pub async fn make_client(
        &self,
        client: &Client,
        entry: &Entry,
        by: &Access,
    ) -> Result<Written, Fault> {
        let mut transaction = self.inserting_client(client, Some(entry))?;
        transaction.made_client(&self.tables.clients, by.client_id, client);
        transaction.stands(&self.tables.credentials, by);
        transaction.key_stands(&self.tables.credentials, by);
        transaction.commit().await
    }

    fn inserting_client(
        &self,
        client: &Client,
        entry: Option<&Entry>,
    ) -> Result<Transaction<'_>, Fault> {
        let mut transaction = self.transaction();
        let row = item(
            keys::client(client.client_id),
            Some(keys::CLIENT.into()),
            client,
        )?;
        transaction.insert(&self.tables.clients, row, Conflict::Changed);
        transaction.insert(&self.tables.clients, email_item(client), Conflict::Changed);
        if let Some(entry) = entry {
            transaction.history(&self.tables.history, entry)?;
        }
        Ok(transaction)
    }

    /// Adds a client with an API key where no client's number was ever given; else nothing is written and the answer is `No`.
    pub async fn insert_first_client(
        &self,
        client: &Client,
        api_key_hash: &str,
        api_key: &ApiKey,
        entry: &Entry,
    ) -> Result<Written, Fault> {
        let mut transaction = self.inserting_client(client, Some(entry))?;
        transaction.update(
            Update::builder()
                .table_name(&self.tables.clients)
                .key("pk", string(keys::SEQUENCES))
                .key("sk", string(keys::SEQUENCES))
                .update_expression("SET client_id = :given")
                .condition_expression("attribute_not_exists(client_id)")
                .expression_attribute_values(":given", number_value(client.client_id)),
            Conflict::Changed,
        );
        let row = item(keys::api_key(api_key_hash), None, api_key)?;
        transaction.insert(&self.tables.credentials, row, Conflict::Changed);
        transaction.commit().await
    }

    /// Changes a client's email, role, billing group, currency, tags and epoch, with the history entry; `No` when somebody else changed
    /// them since `before` was read, or the email is another client's, or the currency of one with accounts would change. An epoch is
    /// raised only while the access of `by` stands, and `successor`, if there is one, is an administrator as it was read: so of two
    /// administrators who end each other at once, one stays.
    pub async fn update_client(
        &self,
        before: &Client,
        client: &Client,
        entry: &Entry,
        by: &Access,
        successor: Option<&Client>,
    ) -> Result<Written, Fault> {
        let table = &self.tables.clients;
        let mut transaction = self.transaction();
        let mut condition = "email = :was_email AND #role = :was_role AND billing = :was_billing AND currency = :was_currency AND tags = :was_tags".to_owned();
        condition.push_str(match before.epoch {
            0 => " AND (attribute_not_exists(epoch) OR epoch = :was_epoch)",
            _ => " AND epoch = :was_epoch",
        });
        let mut update = Update::builder();
        if client.currency != before.currency {
            condition.push_str(" AND accounts = :none");
            update = update.expression_attribute_values(":none", number_value(0));
            transaction.no_balances(&self.tables, client.client_id, before.currency);
        }
        let limit = match client.credit_limit_minor {
            Some(limit_minor) => {
                update = update.expression_attribute_values(":limit", number_value(limit_minor));
                ", credit_limit_minor = :limit"
            }
            None => " REMOVE credit_limit_minor",
        };
        transaction.update(
            update
                .table_name(table)
                .key("pk", string(keys::client(client.client_id)))
                .key("sk", string(keys::CLIENT))
                .update_expression(format!("SET email = :email, #role = :role, billing = :billing, currency = :currency, tags = :tags, epoch = :epoch{limit}"))
                .condition_expression(condition)
                .expression_attribute_names("#role", "role")
                .expression_attribute_values(":email", string(&client.email))
                .expression_attribute_values(":role", attribute(client.role)?)
                .expression_attribute_values(":billing", string(&client.billing))
                .expression_attribute_values(":currency", attribute(client.currency)?)
                .expression_attribute_values(":tags", attribute(&client.tags)?)
                .expression_attribute_values(":epoch", number_value(client.epoch))
                .expression_attribute_values(":was_epoch", number_value(before.epoch))
                .expression_attribute_values(":was_email", string(&before.email))
                .expression_attribute_values(":was_role", attribute(before.role)?)
                .expression_attribute_values(":was_billing", string(&before.billing))
                .expression_attribute_values(":was_currency", attribute(before.currency)?)
                .expression_attribute_values(":was_tags", attribute(&before.tags)?),
            Conflict::Changed,
        );
        if client.role != before.role {
            transaction.change_of_role(&self.tables.credentials, client);
            if client.role == Role::Admin {
                transaction.made_client(table, by.client_id, client);
            }
        }
        if client.epoch != before.epoch {
            transaction.epoch(&self.tables.credentials, client);
            transaction.key_stands(&self.tables.credentials, by);
            // Of its own epoch the client's record says enough.
            if by.client_id != client.client_id {
                transaction.stands(&self.tables.credentials, by);
            }
        }
        if let Some(successor) = successor {
            transaction.stays_admin(table, successor)?;
        }
        if client.email != before.email {
            transaction.insert(table, email_item(client), Conflict::Changed);
            transaction.delete(
                Delete::builder()
                    .table_name(table)
                    .key("pk", string(keys::email(&before.email)))
                    .key("sk", string(keys::EMAIL)),
                Conflict::Changed,
            );
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.commit().await
    }

    /// The next number for a plan.
    pub async fn next_plan_id(&self) -> Result<PlanId, Fault> {
        self.next_number("plan_id").await.map(PlanId)
    }

    /// The next number for an invoice alone.
    pub async fn next_invoice_id(&self) -> Result<InvoiceId, Fault> {
        self.next_number("invoice_id").await.map(InvoiceId)
    }

    /// The next number for a client.
    pub async fn next_client_id(&self) -> Result<ClientId, Fault> {
        self.next_number("client_id").await.map(ClientId)
    }

    async fn next_number(&self, of: &str) -> Result<u64, Fault> {
        let table = &self.tables.clients;
        let updated = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", AttributeValue::S(keys::SEQUENCES.into()))
            .key("sk", AttributeValue::S(keys::SEQUENCES.into()))
            .update_expression("ADD #of :one")
            .expression_attribute_names("#of", of)
            .expression_attribute_values(":one", number_value(1))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        let numbers: std::collections::HashMap<String, u64> =
            read(table, updated.attributes.unwrap_or_default())?;
        numbers
            .get(of)
            .copied()
            .ok_or_else(|| Fault::permanent("counting", format!("{of} was not counted")))
    }

    /// Sees to it that no client is given a number up to `clients` again, nor a plan one up to `plans`.
    pub async fn reserve_numbers(&self, clients: ClientId, plans: PlanId) -> Result<(), Fault> {
        let table = &self.tables.clients;
        let sent = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", string(keys::SEQUENCES))
            .key("sk", string(keys::SEQUENCES))
            .update_expression("SET client_id = :clients, plan_id = :plans")
            .condition_expression("attribute_not_exists(client_id)")
            .expression_attribute_values(":clients", number_value(clients))
            .expression_attribute_values(":plans", number_value(plans))
            .send()
            .await;
        written_if_held("UpdateItem", table, sent)?;
        Ok(())
    }

    /// The highest number given to a client.
    pub async fn last_client_id(&self) -> Result<u64, Fault> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(default)]
            client_id: u64,
        }
        let row: Option<Row> = self
            .get(
                &self.tables.clients,
                keys::SEQUENCES.into(),
                Some(keys::SEQUENCES.into()),
            )
            .await?;
        Ok(row.map_or(0, |row| row.client_id))
    }

    /// The next numbers for an account and an invoice. Never given twice; an order that comes to nothing leaves a gap.
    pub async fn next_numbers(&self) -> Result<Numbers, Fault> {
        let table = &self.tables.clients;
        let updated = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", AttributeValue::S(keys::SEQUENCES.into()))
            .key("sk", AttributeValue::S(keys::SEQUENCES.into()))
            .update_expression("ADD account_id :one, invoice_id :one")
            .expression_attribute_values(":one", number_value(1))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        read(table, updated.attributes.unwrap_or_default())
    }
}

impl Transaction<'_> {
    /// Notes who made a client, or an administrator of one.
    fn made_client(&mut self, table: &str, maker: ClientId, client: &Client) {
        let sk = match client.role {
            Role::Client => keys::made_client(client.client_id),
            Role::Admin => keys::made_admin(client.client_id),
        };
        self.put(
            Put::builder()
                .table_name(table)
                .item("pk", string(keys::client(maker)))
                .item("sk", string(sk))
                .item("client_id", number_value(client.client_id)),
            Conflict::Changed,
        );
    }

    /// Only if a client is an administrator, and of the epoch that was read.
    fn stays_admin(&mut self, table: &str, client: &Client) -> Result<(), Fault> {
        let condition = match client.epoch {
            0 => "#role = :admin AND (attribute_not_exists(epoch) OR epoch = :epoch)",
            _ => "#role = :admin AND epoch = :epoch",
        };
        self.check(
            ConditionCheck::builder()
                .table_name(table)
                .key("pk", string(keys::client(client.client_id)))
                .key("sk", string(keys::CLIENT))
                .condition_expression(condition)
                .expression_attribute_names("#role", "role")
                .expression_attribute_values(":admin", attribute(Role::Admin)?)
                .expression_attribute_values(":epoch", number_value(client.epoch)),
            Conflict::Changed,
        );
        Ok(())
    }
}

fn email_item(client: &Client) -> Item {
    Item::from([
        ("pk".to_owned(), string(keys::email(&client.email))),
        ("sk".to_owned(), string(keys::EMAIL)),
        ("client_id".to_owned(), number_value(client.client_id)),
    ])
}
