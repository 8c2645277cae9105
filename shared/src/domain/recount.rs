//! The books of a client held against each other: whatever two records must agree on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::invoice::Invoice;
use crate::domain::ledger::{Balances, Posting};
use crate::domain::money::Currency;

/// What is open of an invoice, as its open side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSide {
    /// The invoice.
    pub invoice_id: u64,
    /// In what.
    pub currency: Currency,
    /// What is left to pay.
    pub open_minor: i64,
}

/// All that is kept of a client's money.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// The whole journal.
    pub postings: Vec<Posting>,
    /// Balances, in every currency that something was posted in.
    pub balances: Vec<(Currency, Balances)>,
    /// Every invoice.
    pub invoices: Vec<Invoice>,
    /// The open sides.
    pub open: Vec<OpenSide>,
    /// Places of the series that have no invoice, or not yet, by currency.
    pub waiting: BTreeMap<Currency, BTreeSet<u64>>,
}

/// Where two records do not agree, one value each, for people to read. None is as it should be.
#[must_use]
pub fn differences(client_id: u64, books: &Books) -> Vec<Value> {
    let mut found = Found {
        client_id,
        differences: Vec::new(),
    };
    let mut counted: BTreeMap<Currency, Balances> = BTreeMap::new();
    for posting in &books.postings {
        counted.entry(posting.currency).or_default().apply(posting);
        let sum_minor: i64 = posting.amounts_minor.values().sum();
        let what = || json!({ "posting": posting.id });
        found.compare(posting.currency, "sum of a posting", what, &sum_minor, &0);
    }
    let mut currencies: BTreeSet<Currency> = counted.keys().copied().collect();
    currencies.extend(books.balances.iter().map(|(currency, _)| *currency));
    currencies.extend(books.invoices.iter().map(|invoice| invoice.currency));
    currencies.extend(books.open.iter().map(|open| open.currency));
    for currency in currencies {
        of_currency(&mut found, books, currency, counted.remove(&currency));
    }
    of_invoices(&mut found, books);
    found.differences
}

/// Balances against the journal, and both against invoices, open sides and the series of numbers.
fn of_currency(found: &mut Found, books: &Books, currency: Currency, counted: Option<Balances>) {
    let stored = books.balances.iter().find(|(of, _)| *of == currency);
    let stored = stored.map(|(_, balances)| balances);
    let places = stored.map_or(0, |stored| stored.invoices);
    let counted = Balances {
        invoices: places,
        ..counted.unwrap_or_default()
    };
    found.compare(
        currency,
        "balances",
        || json!(null),
        &stored.cloned().unwrap_or_default(),
        &counted,
    );

    let invoices = || {
        books
            .invoices
            .iter()
            .filter(|invoice| invoice.currency == currency)
    };
    let invoiced_minor: i64 = invoices().map(|invoice| invoice.amount_minor).sum();
    found.compare(
        currency,
        "sum of the invoices",
        || json!(null),
        &invoiced_minor,
        &counted.revenue_minor,
    );
    let open = books.open.iter().filter(|open| open.currency == currency);
    let open_minor: i64 = open.map(|open| open.open_minor).sum();
    found.compare(
        currency,
        "sum of what is open",
        || json!(null),
        &open_minor,
        &-counted.receivable_minor,
    );
    let beside = counted.credit_minor.min(open_minor).max(0);
    found.compare(currency, "credit beside debt", || json!(null), &beside, &0);

    let numbers = invoices().filter_map(|invoice| place(&invoice.number));
    let mut numbers: Vec<u64> = numbers
        .chain(books.waiting.get(&currency).into_iter().flatten().copied())
        .collect();
    numbers.sort_unstable();
    let series: Vec<u64> = (1..=places).collect();
    if numbers != series {
        let given: BTreeSet<u64> = numbers.iter().copied().collect();
        let missing: Vec<u64> = series
            .iter()
            .filter(|n| !given.contains(n))
            .take(10)
            .copied()
            .collect();
        let twice: Vec<u64> = numbers
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .take(10)
            .collect();
        let highest = numbers.last().copied().unwrap_or_default();
        let what = || json!({ "missing": missing, "twice": twice });
        found.tell(currency, "series of invoices", what(), &places, &highest);
    }
}

/// Each invoice against its lines, its open side, and what postings took off it.
fn of_invoices(found: &mut Found, books: &Books) {
    let mut taken_off: BTreeMap<u64, i64> = BTreeMap::new();
    for posting in &books.postings {
        for taken in &posting.taken_off {
            *taken_off.entry(taken.invoice_id).or_default() += taken.amount_minor;
        }
    }
    let mut open: BTreeMap<u64, &OpenSide> = books
        .open
        .iter()
        .map(|open| (open.invoice_id, open))
        .collect();
    for invoice in &books.invoices {
        let id = || json!({ "invoice_id": invoice.invoice_id });
        let currency = invoice.currency;
        let lines_minor: i64 = invoice.lines.iter().map(|line| line.amount_minor).sum();
        found.compare(
            currency,
            "amount of an invoice",
            id,
            &invoice.amount_minor,
            &lines_minor,
        );
        let side = open
            .remove(&invoice.invoice_id)
            .map_or(0, |open| open.open_minor);
        found.compare(
            currency,
            "what is open of an invoice",
            id,
            &side,
            &invoice.open_minor(),
        );
        let lowered_minor = invoice.paid_minor + invoice.credited_minor;
        let posted_minor = taken_off.remove(&invoice.invoice_id).unwrap_or_default();
        found.compare(
            currency,
            "what was taken off an invoice",
            id,
            &lowered_minor,
            &posted_minor,
        );
        // An earlier version did not note on an invoice what was paid of it.
        let is_noted = lowered_minor != 0 && invoice.amount_minor > 0;
        if is_noted && invoice.paid_at.is_some() {
            found.compare(
                currency,
                "what a paid invoice was over",
                id,
                &invoice.amount_minor,
                &lowered_minor,
            );
        }
    }
    for (invoice_id, side) in open {
        let what = json!({ "invoice_id": invoice_id });
        found.tell(
            side.currency,
            "open side without an invoice",
            what,
            &side.open_minor,
            &0,
        );
    }
    for (invoice_id, posted_minor) in taken_off {
        let currency = books.postings.iter().find(|posting| {
            posting
                .taken_off
                .iter()
                .any(|taken| taken.invoice_id == invoice_id)
        });
        if let Some(posting) = currency {
            let what = json!({ "invoice_id": invoice_id });
            found.tell(
                posting.currency,
                "payment of an invoice that is missing",
                what,
                &0,
                &posted_minor,
            );
        }
    }
}

/// An invoice's place in its series, from its number.
#[must_use]
pub fn place(number: &str) -> Option<u64> {
    number.rsplit('-').next()?.parse().ok()
}

struct Found {
    client_id: u64,
    differences: Vec<Value>,
}

impl Found {
    fn compare<T: Serialize + PartialEq>(
        &mut self,
        currency: Currency,
        of: &str,
        what: impl FnOnce() -> Value,
        stored: &T,
        counted: &T,
    ) {
        if stored != counted {
            self.tell(currency, of, what(), stored, counted);
        }
    }

    fn tell<T: Serialize>(
        &mut self,
        currency: Currency,
        of: &str,
        what: Value,
        stored: &T,
        counted: &T,
    ) {
        let mut difference = json!({
            "client_id": self.client_id,
            "currency": currency,
            "of": of,
            "stored": stored,
            "counted": counted,
        });
        if !what.is_null() {
            difference["which"] = what;
        }
        self.differences.push(difference);
    }
}
