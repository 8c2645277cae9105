//! The ledger and the invoices.

use aws_sdk_dynamodb::types::{Put, Update};

use super::billing::Issue;
use super::transaction::{Conflict, Transaction};
use super::{Database, found, item, keys, number, page, string};
use crate::config::Tables;
use crate::domain::event::Event;
use crate::domain::history::Entry;
use crate::domain::invoice::Invoice;
use crate::domain::ledger::{Balances, LedgerAccount, Posting};
use crate::domain::money::Currency;
use crate::error::Fault;

/// How posting a payment went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It stands now.
    Now,
    /// It was posted before.
    Before,
    /// Nothing was posted: its reference is of another client's payment.
    ReferenceUsed,
}

impl Database {
    /// A client's balances; all zero where nothing was ever posted.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn balances(&self, client_id: u64, currency: Currency) -> Result<Balances, Fault> {
        let balances = self
            .get(
                &self.tables.ledger,
                keys::client(client_id),
                Some(keys::balances(currency)),
            )
            .await?;
        Ok(balances.unwrap_or_default())
    }

    /// A client's balances in every currency that anything was posted in.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn all_balances(&self, client_id: u64) -> Result<Vec<(Currency, Balances)>, Fault> {
        #[derive(serde::Deserialize)]
        struct Row {
            sk: String,
            #[serde(flatten)]
            balances: Balances,
        }
        let rows: Vec<Row> = self.ledger_rows(client_id, keys::BALANCES).await?;
        rows.into_iter()
            .map(|row| {
                let currency = row
                    .sk
                    .strip_prefix(keys::BALANCES)
                    .and_then(Currency::from_code);
                let currency =
                    currency.ok_or_else(|| Fault::permanent("reading balances", row.sk.clone()))?;
                Ok((currency, row.balances))
            })
            .collect()
    }

    /// A posting by its id.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn posting(
        &self,
        client_id: u64,
        posting_id: &str,
    ) -> Result<Option<Posting>, Fault> {
        self.get(
            &self.tables.ledger,
            keys::client(client_id),
            Some(keys::posting(posting_id)),
        )
        .await
    }

    /// A page of a client's invoices, newest first, beginning below the number `before`.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn invoice_page(
        &self,
        client_id: u64,
        before: Option<u64>,
        limit: u64,
    ) -> Result<Vec<Invoice>, Fault> {
        let table = &self.tables.ledger;
        let last = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :client AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":client", string(keys::client(client_id)))
            .expression_attribute_values(":first", string(keys::invoice(0)))
            .expression_attribute_values(":last", string(keys::invoice(last.min(999_999_999_999))))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        Ok(page(table, query).await?.0)
    }

    /// Posts, with a history entry and events; `false` when this posting was made before.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn post(
        &self,
        posting: &Posting,
        entry: Option<&Entry>,
        events: &[Event],
    ) -> Result<bool, Fault> {
        let mut transaction = self.transaction();
        transaction.posting(&self.tables, posting, None)?;
        if let Some(entry) = entry {
            transaction.history(&self.tables.history, entry)?;
        }
        transaction.events(&self.tables.events, events)?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Posts a payment that came in, as [`Database::post`] does, and has its reference stand for this client alone: one payment cannot
    /// be noted for two. With no `reference` to keep, it may stand for others too.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn post_payment(
        &self,
        posting: &Posting,
        entry: &Entry,
        event: &Event,
        reference: Option<&str>,
    ) -> Result<Posted, Fault> {
        let mut transaction = self.transaction();
        transaction.posting(&self.tables, posting, None)?;
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, std::slice::from_ref(event))?;
        if let Some(reference) = reference {
            transaction.put(
                Put::builder()
                    .table_name(&self.tables.ledger)
                    .item("pk", string(keys::reference(reference)))
                    .item("sk", string(keys::REFERENCE))
                    .item("client_id", number(posting.client_id))
                    .condition_expression("attribute_not_exists(pk) OR client_id = :client")
                    .expression_attribute_values(":client", number(posting.client_id)),
                Conflict::ReferenceUsed,
            );
        }
        Ok(match transaction.commit().await? {
            Ok(()) => Posted::Now,
            Err(conflicts) if conflicts.contains(&Conflict::ReferenceUsed) => Posted::ReferenceUsed,
            Err(_) => Posted::Before,
        })
    }

    /// A client's whole journal, in no order that matters.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn postings(&self, client_id: u64) -> Result<Vec<Posting>, Fault> {
        self.ledger_rows(client_id, "POSTING#").await
    }

    /// A client's invoices, oldest first.
    ///
    /// # Errors
    /// When DynamoDB cannot answer.
    pub async fn invoices(&self, client_id: u64) -> Result<Vec<Invoice>, Fault> {
        self.ledger_rows(client_id, "INVOICE#").await
    }

    pub(super) async fn ledger_rows<T: serde::de::DeserializeOwned>(
        &self,
        client_id: u64,
        prefix: &str,
    ) -> Result<Vec<T>, Fault> {
        let table = &self.tables.ledger;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :client AND begins_with(sk, :prefix)")
            .expression_attribute_values(":client", string(keys::client(client_id)))
            .expression_attribute_values(":prefix", string(prefix))
            .consistent_read(true);
        found(table, query).await
    }
}

impl Transaction<'_> {
    /// Adds a posting to what is written: the journal entry, and what it does to the balances. Neither credit nor what is held may
    /// fall below zero. With `invoices_before`, the invoice that goes with it takes the next place in the client's series.
    pub(super) fn posting(
        &mut self,
        tables: &Tables,
        posting: &Posting,
        invoices_before: Option<u64>,
    ) -> Result<(), Fault> {
        let entry = item(
            keys::client(posting.client_id),
            Some(keys::posting(&posting.id)),
            posting,
        )?;
        self.insert(&tables.ledger, entry, Conflict::Changed);
        let mut update = Update::builder()
            .table_name(&tables.ledger)
            .key("pk", string(keys::client(posting.client_id)))
            .key("sk", string(keys::balances(posting.currency)));
        let mut additions: Vec<String> = Vec::new();
        let mut conditions: Vec<String> = Vec::new();
        for (index, (ledger_account, amount_minor)) in posting.amounts_minor.iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#a{index}"), format!("{ledger_account}_minor"))
                .expression_attribute_values(format!(":a{index}"), number(amount_minor));
            additions.push(format!("#a{index} :a{index}"));
            let must_stay_positive =
                matches!(ledger_account, LedgerAccount::Credit | LedgerAccount::Held);
            if must_stay_positive && *amount_minor < 0 {
                update = update.expression_attribute_values(
                    format!(":m{index}"),
                    number(amount_minor.unsigned_abs()),
                );
                conditions.push(format!("#a{index} >= :m{index}"));
            }
        }
        if let Some(invoices) = invoices_before {
            additions.push("invoices :one".into());
            update = update.expression_attribute_values(":one", number(1));
            if invoices == 0 {
                conditions.push("attribute_not_exists(invoices)".into());
            } else {
                conditions.push("invoices = :invoices".into());
                update = update.expression_attribute_values(":invoices", number(invoices));
            }
        }
        update = update.update_expression(format!("ADD {}", additions.join(", ")));
        if !conditions.is_empty() {
            update = update.condition_expression(conditions.join(" AND "));
        }
        let takes_credit = posting
            .amounts_minor
            .get(&LedgerAccount::Credit)
            .is_some_and(|amount| *amount < 0);
        self.update(
            update,
            if takes_credit {
                Conflict::NotEnoughCredit
            } else {
                Conflict::Changed
            },
        );
        Ok(())
    }

    /// Adds an invoice to what is written: itself, what it posts, and what is left open of it.
    pub(super) fn issue(&mut self, tables: &Tables, issue: Issue<'_>) -> Result<(), Fault> {
        let invoice = issue.invoice;
        let row = item(
            keys::client(invoice.client_id),
            Some(keys::invoice(invoice.invoice_id)),
            invoice,
        )?;
        self.insert(&tables.ledger, row, Conflict::Changed);
        if let Some(open) = issue.open {
            self.insert(&tables.ledger, open.to_item()?, Conflict::Changed);
        }
        self.posting(tables, issue.posting, Some(issue.invoices_before))
    }
}
