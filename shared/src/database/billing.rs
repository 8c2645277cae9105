//! Periods, open invoices, and the dates on which something is due.

use aws_sdk_dynamodb::types::{ConditionCheck, Update};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::accounts::{newly_unsettled, service_update, terms, was_told, with_terms};
use super::keys::OPEN;
use super::ledger::Issue;
use super::transaction::{Conflict, Written};
use super::{Database, Item, attribute, fault, item, keys, number_value, page, string};
use crate::domain::account::{Account, S3Uid, Service};
use crate::domain::client::ClientId;
use crate::domain::closing::{ClosedPeriod, ClosingOutcome};
use crate::domain::event::Event;
use crate::domain::history::Entry;
use crate::domain::invoice::{Invoice, InvoiceId};
use crate::domain::money::Currency;
use crate::domain::task::Task;
use crate::error::Fault;

/// An invoice that is to be paid, and how far it has been chased. It goes when the invoice is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInvoice {
    /// The invoice.
    pub invoice_id: InvoiceId,
    /// Who owes it.
    pub client_id: ClientId,
    /// For which account.
    pub s3uid: S3Uid,
    /// In what.
    pub currency: Currency,
    /// How much it is over.
    pub amount_minor: i64,
    /// What is left to pay, once something was taken off; read it by [`OpenInvoice::open_minor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_minor: Option<i64>,
    /// How often something was taken off.
    #[serde(default)]
    pub parts: u32,
    /// When it is due.
    pub due_on: Date,
    /// Steps taken so far, see [`crate::domain::dunning::Calendar`].
    pub steps: u32,
    /// The day of the next step; absent when all were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_on: Option<Date>,
}

impl OpenInvoice {
    /// An invoice just issued.
    #[must_use]
    pub fn new(invoice: &Invoice, act_on: Option<Date>) -> OpenInvoice {
        OpenInvoice {
            invoice_id: invoice.invoice_id,
            client_id: invoice.client_id,
            s3uid: invoice.s3uid.clone(),
            currency: invoice.currency,
            amount_minor: invoice.amount_minor,
            open_minor: Some(invoice.open_minor()),
            parts: 0,
            due_on: invoice.due_on,
            steps: 0,
            act_on,
        }
    }

    /// What is left to pay.
    #[must_use]
    pub fn open_minor(&self) -> i64 {
        self.open_minor.unwrap_or(self.amount_minor)
    }

    pub(super) fn to_item(&self) -> Result<Item, Fault> {
        let sk = keys::open_invoice(self.due_on, self.invoice_id);
        let mut row = item(keys::client(self.client_id), Some(sk), self)?;
        if self.act_on.is_some() {
            row.insert("open".into(), string(OPEN));
        }
        Ok(row)
    }
}

/// An account that something is due for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DueAccount {
    /// Which.
    pub s3uid: S3Uid,
    /// Where.
    pub location: String,
}

impl Database {
    /// A page of the accounts whose period is to be closed on `date`, and where the next begins.
    pub async fn committing_accounts(
        &self,
        date: Date,
        limit: i32,
        after: Option<Item>,
    ) -> Result<(Vec<DueAccount>, Option<Item>), Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_commit_date")
            .key_condition_expression("commits_on = :date")
            .expression_attribute_values(":date", string(date.to_string()))
            .set_exclusive_start_key(after)
            .limit(limit);
        page(table, query).await
    }

    /// A page of the accounts whose end takes a step on `today` or should have before, and where the next begins.
    pub async fn ending_accounts(
        &self,
        today: Date,
        limit: i32,
        after: Option<Item>,
    ) -> Result<(Vec<DueAccount>, Option<Item>), Fault> {
        let table = &self.tables.accounts;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("by_end")
            .key_condition_expression("ending = :open AND ends_on <= :today")
            .expression_attribute_values(":open", string(OPEN))
            .expression_attribute_values(":today", string(today.to_string()))
            .set_exclusive_start_key(after)
            .limit(limit);
        page(table, query).await
    }

    /// A page of the open invoices whose next step is due on `today` or before, and where the next begins.
    pub async fn overdue_invoices(
        &self,
        today: Date,
        limit: i32,
        after: Option<Item>,
    ) -> Result<(Vec<OpenInvoice>, Option<Item>), Fault> {
        let table = &self.tables.ledger;
        let query = self
            .client
            .query()
            .table_name(table)
            .index_name("open_invoices")
            .key_condition_expression("#open = :open AND act_on <= :today")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":open", string(OPEN))
            .expression_attribute_values(":today", string(today.to_string()))
            .set_exclusive_start_key(after)
            .limit(limit);
        page(table, query).await
    }

    /// A client's open invoices, the one due first first.
    pub async fn open_invoices(&self, client_id: ClientId) -> Result<Vec<OpenInvoice>, Fault> {
        self.ledger_rows(client_id, keys::OPEN_INVOICES).await
    }

    /// One open invoice; none when it is paid.
    pub async fn open_invoice(
        &self,
        client_id: ClientId,
        due_on: Date,
        invoice_id: InvoiceId,
    ) -> Result<Option<OpenInvoice>, Fault> {
        let sk = keys::open_invoice(due_on, invoice_id);
        self.get(&self.tables.ledger, keys::client(client_id), Some(sk))
            .await
    }

    /// An invoice of a client.
    pub async fn invoice(
        &self,
        client_id: ClientId,
        invoice_id: InvoiceId,
    ) -> Result<Option<Invoice>, Fault> {
        self.get(
            &self.tables.ledger,
            keys::client(client_id),
            Some(keys::invoice(invoice_id)),
        )
        .await
    }

    /// The day before which every period has been closed.
    pub async fn closed_before(&self) -> Result<Option<Date>, Fault> {
        #[derive(Deserialize)]
        struct Row {
            closed_before: Date,
        }
        let row: Option<Row> = self
            .get(
                &self.tables.usage,
                keys::BILLING.into(),
                Some(keys::STATE.into()),
            )
            .await?;
        Ok(row.map(|row| row.closed_before))
    }

    /// Notes that every period before a day has been closed.
    pub async fn set_closed_before(&self, date: Date) -> Result<(), Fault> {
        let table = &self.tables.usage;
        self.client
            .put_item()
            .table_name(table)
            .item("pk", string(keys::BILLING))
            .item("sk", string(keys::STATE))
            .item("closed_before", string(date.to_string()))
            .send()
            .await
            .map_err(|e| fault("PutItem", table, e))?;
        Ok(())
    }

    /// Closes an account's period: its next one begins on the plan that `after` says, the invoice is issued and posted, events and history
    /// are written, and the terms are noted. All of it, once per account and period; the conflicts otherwise.
    #[allow(clippy::too_many_arguments, reason = "all that one transaction writes")]
    pub async fn close_period(
        &self,
        account: &Account,
        closed: &ClosedPeriod,
        closing: &ClosingOutcome,
        after: &Account,
        free_limit: u32,
        issue: Option<Issue<'_>>,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let commits_on = closing
            .is_renewed
            .then_some(closing.service.next_commit_date);
        let to = account.service.next_commit_date;
        let terms = terms(account, after);
        let begun =
            "period_from = :to, period_bytes_sent = :zero, period_peak_stored_bytes = stored_bytes";
        // Where usage of the next period was collected already, its figures are right.
        let has_figures = account.period_from >= to;
        let more = match has_figures {
            true => terms,
            false => format!("{terms}, {begun}"),
        };
        let update = service_update(
            &self.tables.accounts,
            account,
            &closing.service,
            commits_on,
            &more,
            newly_unsettled(account, after),
        )?;
        let mut update = with_terms(update, account, after)?;
        if !has_figures {
            let mut is_unchanged = "revision = :revision AND period_from < :to".to_owned();
            if after.quota_told != account.quota_told {
                is_unchanged.push_str(" AND ");
                is_unchanged.push_str(was_told(account));
            }
            update = update
                .condition_expression(is_unchanged)
                .expression_attribute_values(":to", string(to.to_string()))
                .expression_attribute_values(":zero", number_value(0));
        }
        transaction.update(update, Conflict::Changed);
        self.move_free_count(&mut transaction, account, after, free_limit);
        // The guard: whatever else goes wrong, no period of an account is invoiced twice.
        let guard = item(
            keys::client(account.client_id),
            Some(keys::closed_period(&account.s3uid, closed.from)),
            closed,
        )?;
        transaction.insert(&self.tables.ledger, guard, Conflict::Changed);
        if let Some(issue) = issue {
            transaction.issue(&self.tables, issue)?;
        }
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// The closed periods of a client's accounts, or of one of them; an account's in their order.
    pub async fn closed_periods(
        &self,
        client_id: ClientId,
        s3uid: Option<&S3Uid>,
    ) -> Result<Vec<ClosedPeriod>, Fault> {
        let prefix = match s3uid {
            Some(s3uid) => keys::closed_periods(s3uid),
            None => keys::CLOSED_PERIODS.to_owned(),
        };
        self.ledger_rows(client_id, &prefix).await
    }

    /// The client's open invoice that is due first.
    pub async fn oldest_open_invoice(
        &self,
        client_id: ClientId,
    ) -> Result<Option<OpenInvoice>, Fault> {
        let table = &self.tables.ledger;
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :client AND begins_with(sk, :prefix)")
            .expression_attribute_values(":client", string(keys::client(client_id)))
            .expression_attribute_values(":prefix", string(keys::OPEN_INVOICES))
            .consistent_read(true)
            .limit(1);
        Ok(page(table, query).await?.0.pop())
    }

    /// Records a step of chasing an open invoice, with its history and events; `No` when that step was recorded before or the invoice
    /// was paid.
    pub async fn record_dunning_step(
        &self,
        open: &OpenInvoice,
        taken: u32,
        act_on: Option<Date>,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut update = Update::builder()
            .table_name(&self.tables.ledger)
            .key("pk", string(keys::client(open.client_id)))
            .key(
                "sk",
                string(keys::open_invoice(open.due_on, open.invoice_id)),
            )
            .condition_expression("steps = :steps AND act_on = :act_on")
            .expression_attribute_values(":steps", number_value(open.steps))
            .expression_attribute_values(":act_on", attribute(open.act_on)?)
            .expression_attribute_values(":taken", number_value(taken));
        update = match act_on {
            Some(date) => update
                .update_expression("SET steps = :taken, act_on = :next")
                .expression_attribute_values(":next", string(date.to_string())),
            None => update
                .update_expression("SET steps = :taken REMOVE act_on, #open")
                .expression_attribute_names("#open", "open"),
        };
        let mut transaction = self.transaction();
        transaction.update(update, Conflict::Changed);
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }

    /// Begins the removal of an account that is not paid for: its service, the task, history and events, in one transaction, if the account
    /// is as it was read and `owing` is still open. The conflicts otherwise; [`Conflict::UnderWay`] when the removal is.
    pub async fn remove_unpaid(
        &self,
        account: &Account,
        service: &Service,
        owing: &OpenInvoice,
        task: &Task,
        entry: &Entry,
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.transaction();
        let after = account.with_service(service, entry.at);
        let update = service_update(
            &self.tables.accounts,
            account,
            service,
            account.commits_on,
            "",
            newly_unsettled(account, &after),
        )?;
        transaction.update(update, Conflict::Changed);
        transaction.check(
            ConditionCheck::builder()
                .table_name(&self.tables.ledger)
                .key("pk", string(keys::client(owing.client_id)))
                .key(
                    "sk",
                    string(keys::open_invoice(owing.due_on, owing.invoice_id)),
                )
                .condition_expression("attribute_exists(pk)"),
            Conflict::Changed,
        );
        transaction.put(self.task_put(task)?, Conflict::UnderWay);
        transaction.history(&self.tables.history, entry)?;
        transaction.events(&self.tables.events, events)?;
        transaction.commit().await
    }
}
