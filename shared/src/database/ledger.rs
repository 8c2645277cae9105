//! The ledger and the invoices.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, ReturnValue, Update};
use backon::Retryable;
use futures::future::try_join_all;
use futures::try_join;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::billing::OpenInvoice;
use super::transaction::{Conflict, Transaction, Written, collisions};
use super::{
    Database, attribute, found, item, keys, number_value, page, read, string, written_if_held,
};
use crate::config::Tables;
use crate::domain::client::ClientId;
use crate::domain::event::Event;
use crate::domain::history::Entry;
use crate::domain::invoice::{Invoice, InvoiceId};
use crate::domain::ledger::{Balances, LedgerAccount, Posting};
use crate::domain::money::Currency;
use crate::error::Fault;
use crate::tries::Tries;

/// How often a place is taken again because somebody else issued the same invoice in between.
const PLACE_TRIES: usize = 5;
/// Invoices looked at before a place is used. More than are issued at once for one client.
const NEWEST: usize = 25;

impl Database {
    /// A client's balances; all zero where nothing was ever posted.
    pub async fn balances(
        &self,
        client_id: ClientId,
        currency: Currency,
    ) -> Result<Balances, Fault> {
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
    pub async fn all_balances(
        &self,
        client_id: ClientId,
    ) -> Result<Vec<(Currency, Balances)>, Fault> {
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
    pub async fn posting(
        &self,
        client_id: ClientId,
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
    pub async fn invoice_page(
        &self,
        client_id: ClientId,
        before: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<Invoice>, Fault> {
        let table = &self.tables.ledger;
        let last = before.map_or(u64::MAX, |before| before.0.saturating_sub(1));
        let last = InvoiceId(last.min(999_999_999_999));
        let query = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :client AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":client", string(keys::client(client_id)))
            .expression_attribute_values(":first", string(keys::invoice(InvoiceId(0))))
            .expression_attribute_values(":last", string(keys::invoice(last)))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        Ok(page(table, query).await?.0)
    }

    /// A page of everybody's invoices in some currencies, newest first, beginning below the number `before`; and the number below which the
    /// next page begins.
    pub async fn anybodys_invoice_page(
        &self,
        currencies: &[Currency],
        before: Option<InvoiceId>,
        limit: usize,
    ) -> Result<(Vec<Invoice>, Option<InvoiceId>), Fault> {
        let before = before.unwrap_or(InvoiceId(i64::MAX as u64));
        let looks = currencies.iter().map(|currency| async move {
            let query = self
                .by_currency(*currency, "invoice_id < :number", before)
                .scan_index_forward(false)
                .limit(i32::try_from(limit * MOST_ROWS_OF_AN_INVOICE + 1).unwrap_or(i32::MAX));
            page::<InvoiceRow>(&self.tables.ledger, query).await
        });
        let looks = try_join_all(looks).await?;
        // A currency that was not read to its end is complete above the last number read of it.
        let floor = looks
            .iter()
            .filter(|(_, next)| next.is_some())
            .filter_map(|(rows, _)| rows.last().map(|row| row.invoice_id))
            .max();
        let mut rows: Vec<InvoiceRow> = looks.into_iter().flat_map(|(rows, _)| rows).collect();
        rows.retain(|row| row.is_invoice() && floor.is_none_or(|floor| row.invoice_id > floor));
        rows.sort_by_key(|row| Reverse(row.invoice_id));
        let mut next = floor.map(|InvoiceId(floor)| InvoiceId(floor + 1));
        if rows.len() > limit {
            rows.truncate(limit);
            next = rows.last().map(|row| row.invoice_id);
        }
        let keys = rows.into_iter().map(|row| (row.pk, row.sk)).collect();
        let table = &self.tables.ledger;
        let found = self.get_many(table, keys).await?.into_iter();
        let mut invoices: Vec<Invoice> = found
            .map(|row| read(table, row))
            .collect::<Result<_, _>>()?;
        invoices.sort_by_key(|invoice| Reverse(invoice.invoice_id));
        Ok((invoices, next))
    }

    /// An invoice by its number, in one of some currencies, whosever it is.
    pub async fn anybodys_invoice(
        &self,
        currencies: &[Currency],
        invoice_id: InvoiceId,
    ) -> Result<Option<Invoice>, Fault> {
        let looks = currencies.iter().map(|currency| async move {
            let query = self.by_currency(*currency, "invoice_id = :number", invoice_id);
            page::<InvoiceRow>(&self.tables.ledger, query).await
        });
        let looks = try_join_all(looks).await?;
        let mut rows = looks.into_iter().flat_map(|(rows, _)| rows);
        match rows.find(InvoiceRow::is_invoice) {
            Some(row) => self.get(&self.tables.ledger, row.pk, Some(row.sk)).await,
            None => Ok(None),
        }
    }

    fn by_currency(
        &self,
        currency: Currency,
        numbers: &str,
        invoice_id: InvoiceId,
    ) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.tables.ledger)
            .index_name("by_currency")
            .key_condition_expression(format!("currency = :currency AND {numbers}"))
            .expression_attribute_values(":currency", string(currency.to_string()))
            .expression_attribute_values(":number", number_value(invoice_id))
    }

    /// Posts what came in, pays open invoices with it, and writes history and events; the conflicts when this posting was made before, or
    /// the invoices or the balances are not what they were any more.
    pub async fn post(
        &self,
        posting: &Posting,
        lowered: &[Lowered<'_>],
        guard: Guard,
        entries: &[Entry],
        events: &[Event],
    ) -> Result<Written, Fault> {
        let transaction = self.posting_of(posting, lowered, guard, entries, events)?;
        transaction.commit().await
    }

    /// Posts a payment, as [`Database::post`] does, and has its reference stand for this client alone, so that one payment is not noted for
    /// two: another's is [`Conflict::ReferenceUsed`]. With no `reference` to keep, it may stand for others too. With a currency, only as
    /// long as the client is billed in it: else it is [`Conflict::CurrencyChanged`].
    pub async fn post_payment(
        &self,
        posting: &Posting,
        (reference, billed_in): (Option<&str>, Option<Currency>),
        lowered: &[Lowered<'_>],
        guard: Guard,
        entries: &[Entry],
        events: &[Event],
    ) -> Result<Written, Fault> {
        let mut transaction = self.posting_of(posting, lowered, guard, entries, events)?;
        if let Some(reference) = reference {
            transaction.put(
                Put::builder()
                    .table_name(&self.tables.ledger)
                    .item("pk", string(keys::reference(reference)))
                    .item("sk", string(keys::REFERENCE))
                    .item("client_id", number_value(posting.client_id))
                    .condition_expression("attribute_not_exists(pk) OR client_id = :client")
                    .expression_attribute_values(":client", number_value(posting.client_id)),
                Conflict::ReferenceUsed,
            );
        }
        if let Some(currency) = billed_in {
            transaction.check(
                ConditionCheck::builder()
                    .table_name(&self.tables.clients)
                    .key("pk", string(keys::client(posting.client_id)))
                    .key("sk", string(keys::CLIENT))
                    .condition_expression("currency = :currency")
                    .expression_attribute_values(":currency", attribute(currency)?),
                Conflict::CurrencyChanged,
            );
        }
        transaction.commit().await
    }

    fn posting_of(
        &self,
        posting: &Posting,
        lowered: &[Lowered<'_>],
        guard: Guard,
        entries: &[Entry],
        events: &[Event],
    ) -> Result<Transaction<'_>, Fault> {
        let mut transaction = self.transaction();
        transaction.posting(&self.tables, posting, guard, None)?;
        for lowered in lowered {
            transaction.lower(&self.tables, lowered, posting.at)?;
        }
        for entry in entries {
            transaction.history(&self.tables.history, entry)?;
        }
        transaction.events(&self.tables.events, events)?;
        Ok(transaction)
    }

    /// Gives a place in a client's series of invoices to what causes one: the same place to the same cause, until its invoice is issued.
    /// How many come before it. A place that was given back comes first, so that the series has no gaps. A number that an invoice has
    /// already is not given again, though somebody may have set the counter back.
    pub async fn take_place(
        &self,
        client_id: ClientId,
        currency: Currency,
        cause: &str,
        now: Timestamp,
    ) -> Result<Place, Fault> {
        let mut tries = Tries::of(PLACE_TRIES);
        loop {
            tries.once_more(|| {
                Fault::retryable(
                    "taking a place in a series",
                    "somebody else takes it again and again",
                )
            })?;
            let (place, newest) = try_join!(
                self.place_of(client_id, currency, cause, now),
                self.invoice_page(client_id, None, NEWEST),
            )?;
            // It has one already, unless its invoice was issued in this moment.
            let Some(place) = place else {
                continue;
            };
            let Some(highest) = self.used_up_to(client_id, currency, &place, newest).await? else {
                return Ok(place);
            };
            if !self.leave_place(client_id, currency, &place).await? {
                // Its own invoice was issued meanwhile: the caller's transaction says so.
                return Ok(place);
            }
            self.raise_series(client_id, currency, highest).await?;
        }
    }

    /// The place that a cause has, or is given now. `None` when it is to be asked for again.
    async fn place_of(
        &self,
        client_id: ClientId,
        currency: Currency,
        cause: &str,
        now: Timestamp,
    ) -> Result<Option<Place>, Fault> {
        let place = |taken: &Taken| Place {
            cause: cause.to_owned(),
            number: taken.number,
        };
        let Some(series) = self.place_given(client_id, currency, cause, now).await? else {
            let series = self.series(client_id, currency).await?;
            return Ok(series.taken.get(cause).map(place));
        };
        if let Some(own) = series.taken.get(cause)
            && series.has_beside(cause, own.number)
        {
            self.leave_place(client_id, currency, &place(own)).await?;
            let highest = series.highest();
            self.raise_series(client_id, currency, highest).await?;
            return Ok(None);
        }
        let place = self.exchanged(client_id, currency, cause, &series).await?;
        Ok(Some(place))
    }

    /// The highest number that an invoice has, when one has the number of this place: the counter was set back. `newest` are the client's
    /// newest invoices.
    async fn used_up_to(
        &self,
        client_id: ClientId,
        currency: Currency,
        place: &Place,
        newest: Vec<Invoice>,
    ) -> Result<Option<u64>, Fault> {
        let numbers_of = |invoices: Vec<Invoice>| -> BTreeSet<u64> {
            let of_currency = invoices.iter().filter(|i| i.currency == currency);
            of_currency.filter_map(Invoice::place).collect()
        };
        let is_all = newest.len() < NEWEST;
        let mut numbers = numbers_of(newest);
        // Others that were given their places later may have been issued before.
        let is_among_them =
            numbers.first() < Some(&place.number) && !numbers.contains(&place.number);
        if numbers.last() < Some(&place.number) || is_among_them {
            return Ok(None);
        }
        if !is_all {
            numbers = numbers_of(self.invoices(client_id).await?);
        }
        let is_used = numbers.contains(&place.number);
        Ok(numbers.last().copied().filter(|_| is_used))
    }

    /// Takes a number away from a cause, for good. `false` when it has it no more.
    async fn leave_place(
        &self,
        client_id: ClientId,
        currency: Currency,
        place: &Place,
    ) -> Result<bool, Fault> {
        let update = self
            .balances_update(client_id, currency)
            .update_expression("REMOVE #taken, #since")
            .condition_expression("#taken = :number")
            .expression_attribute_names("#taken", keys::place_taken(&place.cause))
            .expression_attribute_names("#since", keys::place_taken_since(&place.cause))
            .expression_attribute_values(":number", number_value(place.number));
        Ok(self.update_balances(update).await?.is_some())
    }

    /// Gives the next place to a cause that has none: the series as it is then. `None` when it has one.
    async fn place_given(
        &self,
        client_id: ClientId,
        currency: Currency,
        cause: &str,
        now: Timestamp,
    ) -> Result<Option<Series>, Fault> {
        let table = &self.tables.ledger;
        let update = self
            .balances_update(client_id, currency)
            .update_expression("SET #taken = if_not_exists(invoices, :zero) + :one, invoices = if_not_exists(invoices, :zero) + :one, #since = :now")
            .condition_expression("attribute_not_exists(#taken)")
            .expression_attribute_names("#taken", keys::place_taken(cause))
            .expression_attribute_names("#since", keys::place_taken_since(cause))
            .expression_attribute_values(":zero", number_value(0))
            .expression_attribute_values(":one", number_value(1))
            .expression_attribute_values(":now", attribute(now)?)
            .return_values(ReturnValue::AllNew);
        match self.update_balances(update).await? {
            Some(updated) => {
                let row = read(table, updated.attributes.unwrap_or_default())?;
                Ok(Some(Series::of(&row)))
            }
            None => Ok(None),
        }
    }

    /// The place just given to a cause, or one that was given back before in exchange for it.
    async fn exchanged(
        &self,
        client_id: ClientId,
        currency: Currency,
        cause: &str,
        series: &Series,
    ) -> Result<Place, Fault> {
        let place = |number: u64| Place {
            cause: cause.to_owned(),
            number,
        };
        let taken = series.taken.get(cause).map(|taken| taken.number);
        let own = taken
            .ok_or_else(|| Fault::permanent("taking a place in a series", "none was given"))?;
        let Some(returned) = series.returned.first().copied() else {
            return Ok(place(own));
        };
        // If nobody has one after it, the place just given is as if it had not been.
        let update = self
            .balances_update(client_id, currency)
            .update_expression(
                "SET #taken = :returned, invoices = invoices - :one REMOVE #returned",
            )
            .condition_expression(
                "attribute_exists(#returned) AND #taken = :own AND invoices = :own",
            )
            .expression_attribute_names("#taken", keys::place_taken(cause))
            .expression_attribute_names("#returned", keys::place_returned(returned))
            .expression_attribute_values(":own", number_value(own))
            .expression_attribute_values(":one", number_value(1))
            .expression_attribute_values(":returned", number_value(returned));
        if self.update_balances(update).await?.is_some() {
            return Ok(place(returned));
        }
        let update = self
            .balances_update(client_id, currency)
            .update_expression("SET #taken = :returned, #own = :own REMOVE #returned")
            .condition_expression("attribute_exists(#returned) AND #taken = :own")
            .expression_attribute_names("#taken", keys::place_taken(cause))
            .expression_attribute_names("#own", keys::place_returned(own))
            .expression_attribute_names("#returned", keys::place_returned(returned))
            .expression_attribute_values(":own", number_value(own))
            .expression_attribute_values(":returned", number_value(returned));
        Ok(match self.update_balances(update).await? {
            Some(_) => place(returned),
            None => place(own),
        })
    }

    /// Takes a place back from a cause that came to nothing; the next one gets it. Nothing is done when its invoice was issued.
    pub async fn return_place(
        &self,
        client_id: ClientId,
        currency: Currency,
        place: &Place,
    ) -> Result<(), Fault> {
        // The last one given is as if it had not been.
        let update = self
            .balances_update(client_id, currency)
            .update_expression("SET invoices = invoices - :one REMOVE #taken, #since")
            .condition_expression("#taken = :number AND invoices = :number")
            .expression_attribute_names("#taken", keys::place_taken(&place.cause))
            .expression_attribute_names("#since", keys::place_taken_since(&place.cause))
            .expression_attribute_values(":number", number_value(place.number))
            .expression_attribute_values(":one", number_value(1));
        if self.update_balances(update).await?.is_some() {
            return Ok(());
        }
        let update = self
            .balances_update(client_id, currency)
            .update_expression("SET #returned = :number REMOVE #taken, #since")
            .condition_expression("#taken = :number")
            .expression_attribute_names("#taken", keys::place_taken(&place.cause))
            .expression_attribute_names("#since", keys::place_taken_since(&place.cause))
            .expression_attribute_names("#returned", keys::place_returned(place.number))
            .expression_attribute_values(":number", number_value(place.number));
        self.update_balances(update).await?;
        Ok(())
    }

    /// The places of a client's series that have no invoice, or not yet.
    pub async fn series(&self, client_id: ClientId, currency: Currency) -> Result<Series, Fault> {
        let row: Option<BTreeMap<String, Value>> = self
            .get(
                &self.tables.ledger,
                keys::client(client_id),
                Some(keys::balances(currency)),
            )
            .await?;
        Ok(Series::of(&row.unwrap_or_default()))
    }

    /// Sets the counter of a client's series to the highest number given, if it is below it.
    pub async fn raise_series(
        &self,
        client_id: ClientId,
        currency: Currency,
        highest: u64,
    ) -> Result<(), Fault> {
        let update = self
            .balances_update(client_id, currency)
            .update_expression("SET invoices = :highest")
            .condition_expression("attribute_not_exists(invoices) OR invoices < :highest")
            .expression_attribute_values(":highest", number_value(highest));
        self.update_balances(update).await?;
        Ok(())
    }

    /// Updates a client's balances if a condition holds, however many transactions write them at the same time; `None` when it does not.
    async fn update_balances(
        &self,
        update: UpdateItemFluentBuilder,
    ) -> Result<Option<UpdateItemOutput>, Fault> {
        let attempt = || async { update.clone().send().await };
        let sent = attempt.retry(collisions()).when(|error| {
            let error = error.as_service_error();
            error.and_then(ProvideErrorMetadata::code) == Some("TransactionConflictException")
        });
        written_if_held("UpdateItem", &self.tables.ledger, sent.await)
    }

    fn balances_update(&self, client_id: ClientId, currency: Currency) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.tables.ledger)
            .key("pk", string(keys::client(client_id)))
            .key("sk", string(keys::balances(currency)))
    }

    /// A client's whole journal, in no order that matters.
    pub async fn postings(&self, client_id: ClientId) -> Result<Vec<Posting>, Fault> {
        self.ledger_rows(client_id, keys::POSTINGS).await
    }

    /// A client's invoices, oldest first.
    pub async fn invoices(&self, client_id: ClientId) -> Result<Vec<Invoice>, Fault> {
        self.ledger_rows(client_id, keys::INVOICES).await
    }

    pub(super) async fn ledger_rows<T: serde::de::DeserializeOwned>(
        &self,
        client_id: ClientId,
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

/// How many rows have the number of one invoice: itself, its open side, the period that it closes.
const MOST_ROWS_OF_AN_INVOICE: usize = 3;

/// A row of the index by currency: an invoice's, or another that names it.
#[derive(Deserialize)]
struct InvoiceRow {
    pk: String,
    sk: String,
    invoice_id: InvoiceId,
}

impl InvoiceRow {
    fn is_invoice(&self) -> bool {
        self.sk == keys::invoice(self.invoice_id)
    }
}

/// A place in a client's series of invoices, taken for an invoice to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What causes the invoice.
    pub cause: String,
    /// The number in the series, from 1.
    pub number: u64,
}

/// The places of a client's series of invoices that are taken and not used, and those given back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// By cause.
    pub taken: BTreeMap<String, Taken>,
    /// Lowest first.
    pub returned: BTreeSet<u64>,
}

/// A place that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The number in the series, from 1.
    pub number: u64,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl Series {
    /// Whether a number is another's than this cause's, or was given back.
    fn has_beside(&self, cause: &str, number: u64) -> bool {
        let mut others = self.taken.iter().filter(|(of, _)| *of != cause);
        self.returned.contains(&number) || others.any(|(_, taken)| taken.number == number)
    }

    /// The highest number in it.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let taken = self.taken.values().map(|taken| taken.number);
        taken
            .chain(self.returned.last().copied())
            .max()
            .unwrap_or_default()
    }

    fn of(row: &BTreeMap<String, Value>) -> Series {
        let mut series = Series::default();
        for (name, value) in row {
            let Some(number) = value.as_u64() else {
                continue;
            };
            if let Some(cause) = keys::cause_of_place(name) {
                let since = row.get(&keys::place_taken_since(cause));
                let since = since
                    .and_then(Value::as_str)
                    .and_then(|since| since.parse().ok());
                series
                    .taken
                    .insert(cause.to_owned(), Taken { number, since });
            } else if keys::is_place_returned(name) {
                series.returned.insert(number);
            }
        }
        series
    }
}

/// What must hold of a client's balances for a posting, besides that neither credit nor what is held falls below zero: what it was decided
/// on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guard {
    /// What there is of credit, to the unit.
    pub credit_minor: Option<i64>,
    /// What `receivable` is, to the unit.
    pub receivable_minor: Option<i64>,
    /// What `receivable` is at least: debts are negative.
    pub least_receivable_minor: Option<i64>,
}

/// An open invoice, and what is taken off it.
#[derive(Debug, Clone, Copy)]
pub struct Lowered<'a> {
    /// As it was read.
    pub open: &'a OpenInvoice,
    /// At most what is open of it.
    pub by_minor: i64,
    /// By a credit note, and not by money.
    pub is_credited: bool,
}

/// An invoice as it is issued: with its posting, its place in the client's series, and what is left open of it.
#[derive(Debug, Clone, Copy)]
pub struct Issue<'a> {
    /// The invoice.
    pub invoice: &'a Invoice,
    /// What it posts.
    pub posting: &'a Posting,
    /// Its place in the client's series.
    pub place: &'a Place,
    /// Its open side, unless it is paid at once.
    pub open: Option<&'a OpenInvoice>,
    /// What a credit note takes off which open invoices.
    pub lowered: &'a [Lowered<'a>],
    /// What it was decided on.
    pub guard: Guard,
}

impl Transaction<'_> {
    /// Adds a posting to what is written: the journal entry, and what it does to the balances. Neither credit nor what is held may
    /// fall below zero. With a place in the client's series, the invoice that goes with it has that place from now on.
    pub(super) fn posting(
        &mut self,
        tables: &Tables,
        posting: &Posting,
        guard: Guard,
        place: Option<&Place>,
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
                .expression_attribute_values(format!(":a{index}"), number_value(amount_minor));
            additions.push(format!("#a{index} :a{index}"));
            let must_stay_positive =
                matches!(ledger_account, LedgerAccount::Credit | LedgerAccount::Held);
            if must_stay_positive && *amount_minor < 0 {
                update = update.expression_attribute_values(
                    format!(":m{index}"),
                    number_value(amount_minor.unsigned_abs()),
                );
                conditions.push(format!("#a{index} >= :m{index}"));
            }
        }
        for (name, test, value) in [
            ("credit_minor", "=", guard.credit_minor),
            ("receivable_minor", "=", guard.receivable_minor),
            ("receivable_minor", ">=", guard.least_receivable_minor),
        ] {
            let Some(value) = value else {
                continue;
            };
            let value_name = format!(":g{}", conditions.len());
            let holds_of_zero = if test == "=" { value == 0 } else { value <= 0 };
            conditions.push(match holds_of_zero {
                true => format!("(attribute_not_exists({name}) OR {name} {test} {value_name})"),
                false => format!("{name} {test} {value_name}"),
            });
            update = update.expression_attribute_values(value_name, number_value(value));
        }
        let mut expression = format!("ADD {}", additions.join(", "));
        if let Some(place) = place {
            conditions.push("#taken = :place".into());
            expression.push_str(" REMOVE #taken, #since");
            update = update
                .expression_attribute_names("#taken", keys::place_taken(&place.cause))
                .expression_attribute_names("#since", keys::place_taken_since(&place.cause))
                .expression_attribute_values(":place", number_value(place.number));
        }
        update = update.update_expression(expression);
        if !conditions.is_empty() {
            update = update.condition_expression(conditions.join(" AND "));
        }
        self.update(update, Conflict::Balances);
        Ok(())
    }

    /// Adds the condition that a client has neither credit nor debts in a currency, nor anything held.
    pub(super) fn no_balances(&mut self, tables: &Tables, client_id: ClientId, currency: Currency) {
        let names = ["credit_minor", "held_minor", "receivable_minor"];
        let conditions =
            names.map(|name| format!("(attribute_not_exists({name}) OR {name} = :zero)"));
        let check = ConditionCheck::builder()
            .table_name(&tables.ledger)
            .key("pk", string(keys::client(client_id)))
            .key("sk", string(keys::balances(currency)))
            .condition_expression(conditions.join(" AND "))
            .expression_attribute_values(":zero", number_value(0));
        self.check(check, Conflict::Changed);
    }

    /// Adds to what is written that something is taken off an open invoice.
    pub(super) fn lower(
        &mut self,
        tables: &Tables,
        lowered: &Lowered<'_>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let Lowered {
            open,
            by_minor,
            is_credited,
        } = lowered;
        let left = open.open_minor() - by_minor;
        let row = keys::open_invoice(open.due_on, open.invoice_id);
        // An earlier version took nothing off an invoice but all of it.
        let (condition, was) = match open.open_minor {
            Some(open_minor) => ("open_minor = :was", open_minor),
            None => (
                "attribute_not_exists(open_minor) AND amount_minor = :was",
                open.amount_minor,
            ),
        };
        if left == 0 {
            let delete = Delete::builder()
                .table_name(&tables.ledger)
                .key("pk", string(keys::client(open.client_id)))
                .key("sk", string(row))
                .condition_expression(condition)
                .expression_attribute_values(":was", number_value(was));
            self.delete(delete, Conflict::Changed);
        } else {
            let update = Update::builder()
                .table_name(&tables.ledger)
                .key("pk", string(keys::client(open.client_id)))
                .key("sk", string(row))
                .update_expression("SET open_minor = :left ADD parts :one")
                .condition_expression(condition)
                .expression_attribute_values(":was", number_value(was))
                .expression_attribute_values(":left", number_value(left))
                .expression_attribute_values(":one", number_value(1));
            self.update(update, Conflict::Changed);
        }
        let mut update = Update::builder()
            .table_name(&tables.ledger)
            .key("pk", string(keys::client(open.client_id)))
            .key("sk", string(keys::invoice(open.invoice_id)))
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":by", number_value(by_minor));
        let add = match is_credited {
            true => "ADD credited_minor :by",
            false => "ADD paid_minor :by",
        };
        update = match left {
            0 => update
                .update_expression(format!("SET paid_at = :now {add}"))
                .expression_attribute_values(":now", attribute(now)?),
            _ => update.update_expression(add),
        };
        self.update(update, Conflict::Changed);
        Ok(())
    }

    /// Adds an invoice to what is written: itself, what it posts, what is left open of it, and what a credit note takes off others.
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
        for lowered in issue.lowered {
            self.lower(tables, lowered, invoice.issued_at)?;
        }
        self.posting(tables, issue.posting, issue.guard, Some(issue.place))
    }
}
