//! The recount sees whatever two records of a client's money do not agree on, and mends what can be mended without knowing better.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use jiff::civil::date;
use serde_json::{Value, json};
use tests::TestApp;
use wharfage::database::{Guard, Written};
use wharfage::domain::client::ClientId;
use wharfage::domain::event::Kind;
use wharfage::domain::ledger::{Cause, Posting};
use wharfage::domain::money::Currency;
use wharfage::domain::period::start_of;
use wharfage::telemetry::Invocation;

use crate::add_credit::open_account;
use crate::billing_crashes::at_every_call;
use crate::debts::{drain, run_the_day};

const CLIENT: &str = "CLIENT#1";

fn eur() -> Currency {
    Currency::from_code("EUR").expect("EUR")
}

/// A client with an invoice that was paid at once, one paid later, one paid in part, open ones, a credit note, and closed periods.
async fn sound() -> TestApp {
    let mut app = TestApp::start_idle(&[("CreditLimit", "100000")]).await;
    app.order("client", "paid-at-once").await;
    app.spend_all_credit("client").await;
    open_account(&app, 2, "paid-later").await;
    let lowered = open_account(&app, 2, "lowered").await;
    let payment = json!({ "id": 1, "amount": "20.00", "reference": "a part" });
    app.call("admin", "add_credit", payment).await.ok();
    let change = json!({ "id": 1, "s3uid": lowered.s3uid, "plan_id": 1, "when": "now" });
    app.let_pass(SignedDuration::from_hours(24));
    app.log_in().await;
    app.call("admin", "change_plan", change).await.ok();
    drain(&app).await;
    for day in [date(2026, 2, 15), date(2026, 2, 16)] {
        let noon = start_of(day) + SignedDuration::from_hours(12);
        app.stack.clock().move_to(noon).expect("moved");
        run_the_day(&app).await;
    }
    app.log_in().await;
    let part = json!({ "id": 1, "amount": "5.00", "reference": "another part" });
    app.call("admin", "add_credit", part).await.ok();
    drain(&app).await;
    assert_eq!(told(&app).await, BTreeSet::new());
    app
}

/// Recounts, and says what does not agree.
async fn told(app: &TestApp) -> BTreeSet<String> {
    let invocation = Invocation::begin("billing", None, None);
    let body = json!({ "work": "recount", "from": 1, "to": 3 }).to_string();
    let recount = invocation.run(app.handle_directly("billing", &body));
    recount.await.expect("it is recounted");
    let figures = invocation.document("test", app.now(), std::time::Duration::from_millis(5));
    let events = app.context().database.unsent_events(10_000).await;
    let events = events.expect("DynamoDB answers");
    let events = events
        .iter()
        .filter(|event| event.kind == Kind::LedgerDifference);
    let mut of = BTreeSet::new();
    let mut count = 0;
    for event in events {
        assert_eq!(event.client_id, ClientId(1));
        count += 1;
        of.insert(event.detail["of"].as_str().expect("a text").to_owned());
        let sent = app.context().database.mark_event_sent(event).await;
        sent.expect("noted");
    }
    assert_eq!(figures["LedgerDifferences"], count, "{of:?}");
    of
}

async fn key(app: &TestApp, prefix: &str) -> (String, String) {
    let keys = app.sort_keys("LEDGER_TABLE", CLIENT).await;
    let found = keys.into_iter().find(|sk| sk.starts_with(prefix));
    (
        CLIENT.into(),
        found.unwrap_or_else(|| panic!("no {prefix}")),
    )
}

async fn change(app: &TestApp, prefix: &str, update: &str) {
    let key = key(app, prefix).await;
    app.update_item("LEDGER_TABLE", &key, update).await;
}

async fn delete(app: &TestApp, prefix: &str) {
    let key = key(app, prefix).await;
    app.delete_item("LEDGER_TABLE", &key).await;
}

#[track_caller]
fn assert_told(told: &BTreeSet<String>, expected: &[&str]) {
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(told, expected);
}

const SERIES: &str = "series of invoices";
const OPEN_OF: &str = "what is open of an invoice";
const OPEN_SUM: &str = "sum of what is open";
const TAKEN_OFF: &str = "what was taken off an invoice";

#[tokio::test]
async fn an_open_side_that_is_gone_or_lower_is_told() {
    let app = sound().await;
    change(&app, "OPEN#", "SET open_minor = open_minor - :one").await;
    assert_told(&told(&app).await, &[OPEN_SUM, OPEN_OF]);
    delete(&app, "OPEN#").await;
    assert_told(&told(&app).await, &[OPEN_SUM, OPEN_OF]);
}

#[tokio::test]
async fn an_invoice_that_is_another_or_gone_is_told() {
    let app = sound().await;
    change(
        &app,
        "INVOICE#000000000001",
        "SET amount_minor = amount_minor + :one",
    )
    .await;
    let expected = [
        "amount of an invoice",
        "sum of the invoices",
        "what a paid invoice was over",
    ];
    assert_told(&told(&app).await, &expected);

    let app = sound().await;
    delete(&app, "INVOICE#000000000001").await;
    let expected = [
        "payment of an invoice that is missing",
        SERIES,
        "sum of the invoices",
    ];
    assert_told(&told(&app).await, &expected);
}

#[tokio::test]
async fn an_invoice_of_a_closed_period_that_is_gone_is_told() {
    let app = sound().await;
    let periods = app
        .context()
        .database
        .closed_periods(ClientId(1), None)
        .await;
    let periods = periods.expect("DynamoDB answers");
    let invoice_id = periods.iter().find_map(|period| period.invoice_id);
    let invoice_id = invoice_id.expect("an invoice of a period");
    delete(&app, &format!("INVOICE#{invoice_id:012}")).await;
    let told = told(&app).await;
    assert!(told.contains("invoice of a closed period"), "{told:?}");
    assert!(told.contains(SERIES), "{told:?}");
}

#[tokio::test]
async fn a_part_that_nobody_paid_is_told() {
    let app = sound().await;
    let open = key(&app, "OPEN#").await.1;
    let invoice = open.rsplit('#').next().expect("a number");
    let update = "SET paid_minor = paid_minor + :one";
    change(&app, &format!("INVOICE#{invoice}"), update).await;
    assert_told(&told(&app).await, &[OPEN_OF, TAKEN_OFF]);
    // Of a paid one, too.
    let app = sound().await;
    change(&app, "INVOICE#000000000001", update).await;
    assert_told(
        &told(&app).await,
        &["what a paid invoice was over", TAKEN_OFF],
    );
}

#[tokio::test]
async fn a_posting_that_is_gone_is_told() {
    for (prefix, others) in [
        (
            "POSTING#owe:",
            &[OPEN_SUM, "sum of the invoices"] as &[&str],
        ),
        (
            "POSTING#capture:",
            &[
                "hold without an order under way",
                "sum of the invoices",
                TAKEN_OFF,
            ],
        ),
        ("POSTING#top_up:a part", &[OPEN_SUM, TAKEN_OFF]),
        ("POSTING#refund:", &["sum of the invoices", TAKEN_OFF]),
    ] {
        let app = sound().await;
        delete(&app, prefix).await;
        let told = told(&app).await;
        assert!(told.contains("balances"), "{prefix}: {told:?}");
        for other in others {
            assert!(told.contains(*other), "{prefix}: {other} in {told:?}");
        }
    }
}

#[tokio::test]
async fn books_of_a_client_that_is_gone_are_told() {
    let app = sound().await;
    app.delete_item("CLIENTS_TABLE", &(CLIENT.into(), "CLIENT".into()))
        .await;
    assert_told(&told(&app).await, &["books of a client that is not there"]);
}

#[tokio::test]
async fn what_is_held_for_no_order_is_told() {
    let app = sound().await;
    app.top_up("client", "to be held", 1_500).await;
    let hold = Posting::new(
        Cause::Hold("nobody"),
        (ClientId(1), eur()),
        app.now(),
        1_500,
        Vec::new(),
    );
    let posted = app
        .context()
        .database
        .post(&hold, &[], Guard::default(), &[], &[])
        .await;
    assert_eq!(posted.expect("DynamoDB answers"), Written::Yes);
    assert_told(&told(&app).await, &["hold without an order under way"]);
    let release = Posting::new(
        Cause::Release("nobody"),
        (ClientId(1), eur()),
        app.now(),
        1_500,
        Vec::new(),
    );
    let posted = app
        .context()
        .database
        .post(&release, &[], Guard::default(), &[], &[])
        .await;
    assert_eq!(posted.expect("DynamoDB answers"), Written::Yes);
    assert_told(&told(&app).await, &[]);
}

/// The numbers of a client's invoices, in order. None stands twice.
async fn numbers(app: &TestApp) -> Vec<u64> {
    let invoices = app.context().database.invoices(ClientId(1)).await;
    let invoices = invoices.expect("DynamoDB answers");
    let mut numbers: Vec<u64> = invoices.iter().filter_map(|i| i.place()).collect();
    numbers.sort_unstable();
    let unique: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(unique.len(), numbers.len(), "{numbers:?}");
    numbers
}

async fn set_back(app: &TestApp, by: usize) {
    for _ in 0..by {
        change(app, "BALANCES#", "SET invoices = invoices - :one").await;
    }
}

#[tokio::test]
async fn a_counter_that_was_set_back_gives_no_number_twice() {
    let app = sound().await;
    let before = numbers(&app).await;
    let last = before.len() as u64;
    assert_eq!(before, (1..=last).collect::<Vec<_>>());
    // Before anybody has recounted.
    set_back(&app, 3).await;
    for order in ["next-1", "next-2"] {
        pay_and_order(&app, order).await;
    }
    let after = numbers(&app).await;
    let given = after.len() as u64;
    assert_eq!(given, last + 2);
    assert_eq!(after, (1..=given).collect::<Vec<_>>());
    assert_told(&told(&app).await, &[]);

    // The recount tells, and raises it.
    set_back(&app, 2).await;
    assert_told(&told(&app).await, &[SERIES]);
    assert_eq!(app.balances("client").await.invoices, given);
    assert_told(&told(&app).await, &[]);
}

#[tokio::test]
async fn a_counter_that_was_set_back_far_gives_no_number_twice() {
    let app = TestApp::start_idle(&[("CreditLimit", "100000")]).await;
    app.spend_all_credit("client").await;
    for number in 0..30 {
        open_account(&app, 2, &format!("bucket-{number}")).await;
    }
    set_back(&app, 29).await;
    open_account(&app, 2, "next").await;
    assert_eq!(numbers(&app).await, (1..=31).collect::<Vec<_>>());
    assert_told(&told(&app).await, &[]);
}

#[tokio::test]
async fn a_number_that_somebody_has_is_not_given_to_another_though_the_counter_was_set_back() {
    let app = sound().await;
    let database = &app.context().database;
    let take = async |cause: &str| {
        let place = database
            .take_place(ClientId(1), eur(), cause, app.now())
            .await;
        place.expect("DynamoDB answers").number
    };
    let first = take("one").await;
    set_back(&app, 1).await;
    let second = take("another").await;
    assert_eq!(second, first + 1);
    assert_eq!(take("one").await, first);
    assert_eq!(take("another").await, second);
    assert_told(&told(&app).await, &[]);
}

#[tokio::test]
async fn a_place_that_whoever_took_it_died_with_is_given_to_the_next_invoice() {
    let mut app = sound().await;
    let database = &app.context().database;
    let place = database
        .take_place(ClientId(1), eur(), "died", app.now())
        .await;
    let place = place.expect("DynamoDB answers").number;
    let before = numbers(&app).await;
    assert_eq!(place, before.len() as u64 + 1);
    // It may live still.
    app.let_pass(SignedDuration::from_hours(5));
    assert_told(&told(&app).await, &[]);
    pay_and_order(&app, "after-it").await;
    assert_eq!(numbers(&app).await.last(), Some(&(place + 1)));
    app.let_pass(SignedDuration::from_hours(2));
    assert_told(&told(&app).await, &[]);
    app.log_in().await;
    pay_and_order(&app, "in-its-place").await;
    let all: Vec<u64> = (1..=place + 1).collect();
    assert_eq!(numbers(&app).await, all);
    assert_told(&told(&app).await, &[]);
}

/// Pays all that is owed and orders: whoever owes something overdue orders nothing.
async fn pay_and_order(app: &TestApp, bucket_name: &str) -> Value {
    let database = &app.context().database;
    let owed: i64 = database
        .open_invoices(ClientId(1))
        .await
        .expect("DynamoDB answers")
        .iter()
        .map(|open| open.open_minor())
        .sum();
    let amount = format!("{}.{:02}", owed / 100 + 15, owed % 100);
    let payment = json!({ "id": 1, "amount": amount, "reference": bucket_name });
    app.call("admin", "add_credit", payment).await.ok();
    drain(app).await;
    let order = json!({ "id": 1, "plan_id": 2, "bucket_name": bucket_name });
    app.call("admin", "create_order", order).await.ok()
}

#[tokio::test]
async fn differences_are_told_though_they_keep_credit_from_paying_what_is_open() {
    let app = sound().await;
    let open = key(&app, "OPEN#").await.1;
    let invoice = open.rsplit('#').next().expect("a number");
    delete(&app, &format!("INVOICE#{invoice}")).await;
    app.top_up("client", "credit beside debts", 700).await;
    let told = told(&app).await;
    for of in ["open side without an invoice", "credit beside debt", SERIES] {
        assert!(told.contains(of), "{of}: {told:?}");
    }
}

/// A recount that gives a dead process's place back and raises a counter that was set back, and orders that come in between.
#[tokio::test]
async fn no_number_is_given_twice_or_left_out_however_a_recount_dies() {
    let app = TestApp::start_idle(&[("CreditLimit", "1000000")]).await;
    app.spend_all_credit("client").await;
    open_account(&app, 2, "first").await;
    let database = &app.context().database;
    let orders = std::cell::Cell::new(0);
    let recount = async || {
        let body = json!({ "work": "recount", "from": 1, "to": 1 }).to_string();
        app.handle_directly("billing", &body).await
    };
    let order = async || {
        orders.set(orders.get() + 1);
        open_account(&app, 2, &format!("meanwhile-{}", orders.get())).await;
    };
    let calls = at_every_call(
        &app,
        async |index: usize| {
            let cause = format!("died {index}");
            let long_ago = app.now() - SignedDuration::from_hours(7);
            let place = database
                .take_place(ClientId(1), eur(), &cause, long_ago)
                .await;
            place.expect("DynamoDB answers");
            order().await;
            // As if somebody had put an old copy of the balances' counter back.
            set_back(&app, 1).await;
        },
        async |()| recount().await,
        async |()| order().await,
        async |(), when| {
            recount().await.expect("it is recounted");
            order().await;
            let numbers = numbers(&app).await;
            let all: Vec<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, all, "{when}");
            let series = database
                .series(ClientId(1), eur())
                .await
                .expect("the series");
            assert_eq!(series, Default::default(), "{when}");
            app.assert_ledger_is_sound("client").await;
        },
    )
    .await;
    assert!(calls >= 8, "{calls} calls are too few to have been all");
}
