//! Reconciliation of a client's books: whatever two records must agree on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::client::ClientId;
use crate::domain::closing::ClosedPeriod;
use crate::domain::invoice::{Invoice, InvoiceId};
use crate::domain::ledger::{Balances, LedgerAccount, Posting};
use crate::domain::money::Currency;

/// What is open of an invoice, as its open side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSide {
    /// The invoice.
    pub invoice_id: InvoiceId,
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
    /// Every closed period.
    pub periods: Vec<ClosedPeriod>,
    /// Of the orders that something is held for, see [`outstanding_holds`], those under way.
    pub orders: BTreeSet<String>,
    /// Places of the series that have no invoice, or not yet, by currency.
    pub waiting: BTreeMap<Currency, BTreeSet<u64>>,
}

/// Where two records do not agree, one value each, for people to read. None is as it should be.
#[must_use]
pub fn differences(client_id: ClientId, books: &Books) -> Vec<Value> {
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
    of_causes(&mut found, books);
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

    let numbers = invoices().filter_map(Invoice::place);
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
    let mut taken_off: BTreeMap<InvoiceId, i64> = BTreeMap::new();
    for posting in &books.postings {
        for taken in &posting.taken_off {
            *taken_off.entry(taken.invoice_id).or_default() += taken.amount_minor;
        }
    }
    let mut open: BTreeMap<InvoiceId, &OpenSide> = books
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

/// What orders hold that have neither been paid with it nor given it back, by order.
#[must_use]
pub fn outstanding_holds(postings: &[Posting]) -> BTreeMap<&str, &Posting> {
    let of = |prefix: &'static str| {
        postings
            .iter()
            .filter_map(move |posting| Some((posting.id.strip_prefix(prefix)?, posting)))
    };
    let mut holds: BTreeMap<&str, &Posting> = of("hold:").collect();
    for (order_id, _) in of("capture:").chain(of("release:")) {
        holds.remove(order_id);
    }
    holds
}

/// Closed periods against their invoices, and what is held against the orders under way.
fn of_causes(found: &mut Found, books: &Books) {
    let ids: BTreeSet<InvoiceId> = books.invoices.iter().map(|i| i.invoice_id).collect();
    for period in &books.periods {
        let Some(invoice_id) = period.invoice_id.filter(|id| !ids.contains(id)) else {
            continue;
        };
        let what = json!({ "s3uid": period.s3uid, "period_from": period.from });
        found.tell(
            period.currency,
            "invoice of a closed period",
            what,
            &Some(invoice_id),
            &None,
        );
    }
    for (order_id, hold) in outstanding_holds(&books.postings) {
        if !books.orders.contains(order_id) {
            let held_minor = hold.amounts_minor.get(&LedgerAccount::Held);
            let held_minor = held_minor.copied().unwrap_or_default();
            let what = json!({ "order_id": order_id });
            found.tell(
                hold.currency,
                "hold without an order under way",
                what,
                &held_minor,
                &0,
            );
        }
    }
}

struct Found {
    client_id: ClientId,
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::date;

    use super::*;
    use crate::domain::account::S3Uid;
    use crate::domain::closing::PlanVersion;
    use crate::domain::invoice::{Basis, Line, TakenOff};
    use crate::domain::ledger::Cause;
    use crate::domain::plan::PlanId;

    fn eur() -> Currency {
        Currency::from_code("EUR").expect("EUR")
    }

    fn invoice(invoice_id: u64, amount_minor: i64, lowered: [i64; 2]) -> Invoice {
        let [paid_minor, credited_minor] = lowered;
        let is_paid = amount_minor < 0 || paid_minor + credited_minor == amount_minor;
        let line = Line {
            text: "Standard S3, NL".into(),
            from: date(2026, 1, 15),
            to: date(2026, 2, 15),
            amount_minor,
            plan_id: PlanId(1),
            plan_version: 1,
            basis: Basis::Recurring,
        };
        Invoice {
            invoice_id: InvoiceId(invoice_id),
            number: format!("1-EUR-{invoice_id:04}"),
            client_id: ClientId(1),
            s3uid: S3Uid("a".into()),
            currency: eur(),
            amount_minor,
            lines: vec![line],
            issued_at: Timestamp::UNIX_EPOCH,
            due_on: date(2026, 1, 29),
            paid_at: is_paid.then_some(Timestamp::UNIX_EPOCH),
            paid_minor,
            credited_minor,
            taken_off: Vec::new(),
        }
    }

    fn post(cause: Cause<'_>, amount_minor: i64, taken_off: Vec<TakenOff>) -> Posting {
        let at = Timestamp::UNIX_EPOCH;
        Posting::new(cause, (ClientId(1), eur()), at, amount_minor, taken_off)
    }

    /// An order that was paid, an invoice that is open in part, a credit note that lowered it, an order under way, and a place taken.
    fn sound() -> Books {
        let off = |invoice_id, amount_minor| {
            vec![TakenOff {
                invoice_id,
                amount_minor,
            }]
        };
        let postings = vec![
            post(Cause::TopUp("first"), 1_000, Vec::new()),
            post(Cause::Hold("paid"), 300, Vec::new()),
            post(Cause::Capture("paid"), 300, off(InvoiceId(1), 300)),
            post(Cause::Hold("under way"), 700, Vec::new()),
            post(Cause::Owe(InvoiceId(2)), 500, Vec::new()),
            post(Cause::TopUp("second"), 100, off(InvoiceId(2), 100)),
            post(Cause::Refund(InvoiceId(3)), 50, off(InvoiceId(2), 50)),
        ];
        let mut balances = Balances::default();
        for posting in &postings {
            balances.apply(posting);
        }
        balances.invoices = 4;
        Books {
            postings,
            balances: vec![(eur(), balances)],
            invoices: vec![
                invoice(1, 300, [300, 0]),
                invoice(2, 500, [100, 50]),
                invoice(3, -50, [0, 0]),
            ],
            open: vec![OpenSide {
                invoice_id: InvoiceId(2),
                currency: eur(),
                open_minor: 350,
            }],
            periods: vec![ClosedPeriod {
                used_before: None,
                s3uid: S3Uid("a".into()),
                from: date(2026, 1, 15),
                to: date(2026, 2, 15),
                earlier: Vec::new(),
                rated_by: PlanVersion {
                    plan_id: PlanId(1),
                    version: 1,
                },
                next: None,
                currency: eur(),
                is_uncharged: false,
                is_next_uncharged: false,
                invoice_id: Some(InvoiceId(2)),
            }],
            orders: BTreeSet::from(["under way".to_owned()]),
            waiting: BTreeMap::from([(eur(), BTreeSet::from([4]))]),
        }
    }

    fn of(spoil: impl FnOnce(&mut Books)) -> Vec<String> {
        let mut books = sound();
        spoil(&mut books);
        let found = differences(ClientId(1), &books);
        let texts = found.iter().map(|found| found["of"].as_str());
        texts.map(|of| of.expect("a text").to_owned()).collect()
    }

    #[test]
    fn sound_books_show_no_difference() {
        assert_eq!(differences(ClientId(1), &sound()), Vec::<Value>::new());
        assert_eq!(
            differences(ClientId(1), &Books::default()),
            Vec::<Value>::new()
        );
    }

    #[test]
    fn invoices_that_an_earlier_version_paid_are_sound() {
        let spoiled = of(|books| {
            books.invoices[0].paid_minor = 0;
            books.postings[2].taken_off = Vec::new();
        });
        assert_eq!(spoiled, Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_not_as_it_was_is_found() {
        let balances = of(|books| books.balances[0].1.credit_minor += 1);
        assert_eq!(balances, ["balances"]);
        let none = of(|books| books.balances.clear());
        assert_eq!(none, ["balances", "series of invoices"]);
        let posting = of(|books| books.postings[0].amounts_minor.clear());
        assert_eq!(posting, ["balances"]);
        let open = of(|books| books.open[0].open_minor -= 1);
        assert_eq!(open, ["sum of what is open", "what is open of an invoice"]);
        let open = of(|books| books.open.clear());
        assert_eq!(open, ["sum of what is open", "what is open of an invoice"]);
        let line = of(|books| books.invoices[2].lines[0].amount_minor -= 1);
        assert_eq!(line, ["amount of an invoice"]);
        let paid = of(|books| books.invoices[1].paid_minor -= 1);
        let expected = [
            "what is open of an invoice",
            "what was taken off an invoice",
        ];
        assert_eq!(paid, expected);
        let gone = of(|books| {
            books.invoices.remove(1);
        });
        let expected = [
            "sum of the invoices",
            "series of invoices",
            "open side without an invoice",
            "payment of an invoice that is missing",
            "invoice of a closed period",
        ];
        assert_eq!(gone, expected);
        let set_back = of(|books| books.balances[0].1.invoices = 2);
        assert_eq!(set_back, ["series of invoices"]);
        let unused = of(|books| books.waiting.clear());
        assert_eq!(unused, ["series of invoices"]);
        let twice = of(|books| books.invoices[2].number = "1-EUR-0002".into());
        assert_eq!(twice, ["series of invoices"]);
        let ended = of(|books| books.orders.clear());
        assert_eq!(ended, ["hold without an order under way"]);
        let beside = of(|books| {
            let top_up = post(Cause::TopUp("third"), 9, Vec::new());
            books.balances[0].1.apply(&top_up);
            books.postings.push(top_up);
        });
        assert_eq!(beside, ["credit beside debt"]);
    }

    #[test]
    fn what_is_held_is_outstanding_until_it_is_paid_or_given_back() {
        let postings = [
            post(Cause::Hold("a"), 1, Vec::new()),
            post(Cause::Hold("b"), 2, Vec::new()),
            post(Cause::Hold("c"), 3, Vec::new()),
            post(Cause::Capture("a"), 1, Vec::new()),
            post(Cause::Release("c"), 3, Vec::new()),
        ];
        let holds: Vec<&str> = outstanding_holds(&postings).into_keys().collect();
        assert_eq!(holds, ["b"]);
    }
}
