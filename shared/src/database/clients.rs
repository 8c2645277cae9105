//! Clients, and the numbers given to accounts and invoices.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use serde::Deserialize;

use super::transaction::Conflict;
use super::{Database, fault, item, keys, number, read};
use crate::domain::client::Client;
use crate::error::Fault;

#[derive(Deserialize)]
struct EmailRow {
    client_id: u64,
}

/// Numbers for an order.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Numbers {
    /// For the account.
    pub account_id: u64,
    /// For its invoice.
    pub invoice_id: u64,
}

impl Database {
    /// A client by its number.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn client(&self, client_id: u64) -> Result<Option<Client>, Fault> {
        self.get(
            &self.tables.clients,
            keys::client(client_id),
            Some(keys::CLIENT.into()),
        )
        .await
    }

    /// A client's number by its email.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn client_id_by_email(&self, email: &str) -> Result<Option<u64>, Fault> {
        let row: Option<EmailRow> = self
            .get(
                &self.tables.clients,
                keys::email(email),
                Some(keys::EMAIL.into()),
            )
            .await?;
        Ok(row.map(|row| row.client_id))
    }

    /// Adds a client. Its number and its email must be new; else nothing is written and the answer is `false`.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn insert_client(&self, client: &Client) -> Result<bool, Fault> {
        let mut transaction = self.transaction();
        let row = item(
            keys::client(client.client_id),
            Some(keys::CLIENT.into()),
            client,
        )?;
        transaction.insert(&self.tables.clients, row, Conflict::Changed);
        let email = std::collections::HashMap::from([
            ("pk".into(), AttributeValue::S(keys::email(&client.email))),
            ("sk".into(), AttributeValue::S(keys::EMAIL.into())),
            ("client_id".into(), number(client.client_id)),
        ]);
        transaction.insert(&self.tables.clients, email, Conflict::Changed);
        Ok(transaction.commit().await?.is_ok())
    }

    /// The next numbers for an account and an invoice. Never given twice; an order that comes to nothing leaves a gap.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn next_numbers(&self) -> Result<Numbers, Fault> {
        let table = &self.tables.clients;
        let updated = self
            .client
            .update_item()
            .table_name(table)
            .key("pk", AttributeValue::S(keys::SEQUENCES.into()))
            .key("sk", AttributeValue::S(keys::SEQUENCES.into()))
            .update_expression("ADD account_id :one, invoice_id :one")
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|e| fault("UpdateItem", table, e))?;
        read(table, updated.attributes.unwrap_or_default())
    }
}
