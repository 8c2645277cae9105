//! What is paid in part, given back, given time for, or refused for debts comes to the same wherever a process that works on it dies, and
//! whatever else happens at the same time.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use jiff::civil::date;
use serde_json::json;
use tests::tap::Moment;
use tests::{Reply, TestAccount, TestApp};
use wharfage::database::OpenInvoice;
use wharfage::domain::account::{Status, Suspension, TerminationReason};
use wharfage::domain::client::ClientId;
use wharfage::domain::event::Kind;
use wharfage::domain::ledger::Posting;
use wharfage::domain::order::State;
use wharfage::domain::plan::PlanId;
use wharfage::error::Fault;

use crate::add_credit::open_account;
use crate::billing_crashes::{
    assert_cluster_agrees, at_every_call, billing, chase, chase_all, done_or_refused, end, history,
    invoices_of, outbox, stored, told, unpaid_accounts, wait_until,
};
use crate::debts::drain;

async fn start(parameters: &[(&str, &str)]) -> TestApp {
    let app = TestApp::start_idle(parameters).await;
    app.spend_all_credit("client").await;
    app
}

async fn pay(app: &TestApp, amount: &str, reference: &str) -> Reply {
    let payment = json!({ "id": 1, "amount": amount, "reference": reference });
    app.call_directly("admin", "add_credit", payment).await
}

async fn postings(app: &TestApp) -> Vec<Posting> {
    let postings = app.context().database.postings(ClientId(1)).await;
    postings.expect("DynamoDB answers")
}

/// Fails the test unless the books are right, and invoices and places waiting for one make up the whole series.
async fn assert_sound(app: &TestApp, when: &str) {
    app.assert_ledger_is_sound("client").await;
    let database = &app.context().database;
    let currency = app.client("client").await.currency;
    let series = database
        .series(ClientId(1), currency)
        .await
        .expect("the series");
    let invoices = database.invoices(ClientId(1)).await.expect("invoices");
    let given = invoices.iter().filter_map(|invoice| invoice.place());
    let waiting = series.taken.values().map(|taken| taken.number);
    let numbers: BTreeSet<u64> = given.chain(waiting).chain(series.returned).collect();
    let places = app.balances("client").await.invoices;
    assert_eq!(numbers, (1..=places).collect(), "{when}");
}

/// 20.00 pay one invoice of 15.00 and some of the next; now and then 7.00 come in between.
#[tokio::test]
async fn a_payment_pays_several_invoices_once_and_the_last_in_part() {
    let app = start(&[("CreditLimit", "100000")]).await;
    let accounts = 110;
    for number in 0..accounts {
        open_account(&app, 2, &format!("bucket-{number}")).await;
    }
    let calls = at_every_call(
        &app,
        async |index: usize| index,
        async |index| done_or_refused(pay(&app, "20.00", &format!("twenty {index}")).await),
        async |index| {
            pay(&app, "7.00", &format!("seven {index}")).await.ok();
        },
        async |index, when| {
            drain(&app).await;
            let postings = postings(&app).await;
            let of = |id: String| {
                let found = postings.iter().filter(move |posting| posting.id == id);
                found
                    .flat_map(|p| &p.taken_off)
                    .map(|taken| taken.amount_minor)
                    .sum::<i64>()
            };
            assert_eq!(of(format!("top_up:twenty {index}")), 2_000, "{when}");
            assert_eq!(of(format!("top_up:seven {index}")), 700, "{when}");
            let balances = app.balances("client").await;
            assert_eq!(balances.credit_minor, 0, "{when}");
            // Each payment is told once, by the event and in history.
            let parts: usize = postings.iter().map(|posting| posting.taken_off.len()).sum();
            let events = outbox(&app).await;
            let payments = events.iter().filter(|e| e.kind == Kind::PaymentReceived);
            assert_eq!(payments.count(), parts, "{when}");
            // The oldest first: nothing is touched behind the one that is open in part.
            let open = app.context().database.open_invoices(ClientId(1)).await;
            let open = open.expect("DynamoDB answers");
            let behind = &open[1..];
            assert!(
                behind.iter().all(|open| open.open_minor() == 1_500),
                "{when}"
            );
            assert_sound(&app, when).await;
        },
    )
    .await;
    assert!(calls >= 6, "{calls} calls are too few to have been all");
}

async fn a_change_of_plan_gives_back_once(paid: Option<&str>) {
    let app = start(&[("CreditLimit", "100000"), ("FreeAccountsPerClient", "1000")]).await;
    let new = async |index: usize| {
        let account = open_account(&app, 2, &format!("bucket-{index}")).await;
        if let Some(amount) = paid {
            pay(&app, amount, account.s3uid.as_str()).await.ok();
        }
        account
    };
    // At the whole hour, as if none of the period was used: everything is given back but an hour.
    let change = async |account: &TestAccount| {
        let parameters = json!({ "id": 1, "s3uid": account.s3uid, "plan_id": 1, "when": "now" });
        done_or_refused(app.call_directly("admin", "change_plan", parameters).await)
    };
    app.let_pass(SignedDuration::from_hours(2));
    let calls = at_every_call(
        &app,
        new,
        change,
        async |account| change(account).await.expect("it is changed"),
        async |account: &TestAccount, when: &str| {
            drain(&app).await;
            let invoices = invoices_of(&app, &account.s3uid).await;
            assert_eq!(invoices.len(), 2, "{when}: {invoices:?}");
            let (first, note) = (&invoices[0], &invoices[1]);
            let given_back = -note.amount_minor;
            assert!((1_400..=1_500).contains(&given_back), "{when}: {note:?}");
            let note_off: i64 = note.taken_off.iter().map(|taken| taken.amount_minor).sum();
            let was_open = 1_500 - first.paid_minor;
            // What was open goes first; of what was paid for it the rest is credit, and pays others.
            let refunds = postings(&app).await;
            let refunds = refunds
                .iter()
                .filter(|p| p.id == format!("refund:{}", note.invoice_id));
            assert_eq!(refunds.count(), 1, "{when}");
            assert!(first.credited_minor <= was_open, "{when}: {first:?}");
            assert!(note_off >= first.credited_minor.min(given_back), "{when}");
            assert_eq!(
                first.open_minor(),
                was_open - first.credited_minor,
                "{when}"
            );
            assert_eq!(
                history(&app, &account.s3uid, "change_plan").await,
                1,
                "{when}"
            );
            let after = stored(&app, &account.s3uid).await;
            assert_eq!((after.plan_id, after.is_free), (PlanId(1), true), "{when}");
            let events = outbox(&app).await;
            let changed = told(&events, Kind::AccountPlanChanged, &account.s3uid);
            assert_eq!(changed, 1, "{when}");
            let balances = app.balances("client").await;
            let beside = balances.credit_minor.min(-balances.receivable_minor);
            assert_eq!(beside, 0, "{when}: {balances:?}");
            assert_sound(&app, when).await;
        },
    )
    .await;
    assert!(calls >= 10, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn a_credit_note_over_open_invoices_is_given_once() {
    a_change_of_plan_gives_back_once(None).await;
}

#[tokio::test]
async fn a_credit_note_over_an_invoice_paid_in_part_is_given_once() {
    a_change_of_plan_gives_back_once(Some("9.00")).await;
}

type Unpaid = (TestAccount, OpenInvoice);

/// Accounts that were suspended on 12 February, a day later.
async fn suspended(app: &TestApp, count: usize) -> Vec<Unpaid> {
    let accounts = unpaid_accounts(app, count).await;
    chase_all(app, &accounts, 4).await;
    wait_until(app, "2026-02-13T08:00:00Z");
    accounts
}

async fn resume_until(app: &TestApp, account: &TestAccount, until: &str) -> Result<(), Fault> {
    let time = json!({ "id": 1, "s3uid": account.s3uid, "until": until });
    done_or_refused(app.call_directly("admin", "resume_account", time).await)
}

#[tokio::test]
async fn an_account_is_given_time_once() {
    let mut app = TestApp::start_idle(&[("CreditLimit", "1000000")]).await;
    let accounts = suspended(&app, 60).await;
    app.log_in().await;
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].0.clone(),
        async |account| resume_until(&app, account, "2026-03-01").await,
        async |account| {
            resume_until(&app, account, "2026-03-01")
                .await
                .expect("it is resumed");
        },
        async |account: &TestAccount, when: &str| {
            let service = stored(&app, &account.s3uid).await.service;
            assert_eq!(
                (service.status(), service.suspension()),
                (Status::Active, None),
                "{when}"
            );
            assert_eq!(service.resumed_until, Some(date(2026, 3, 1)), "{when}");
            assert_eq!(service.termination(), None, "{when}");
            assert_eq!(
                history(&app, &account.s3uid, "resume_account").await,
                1,
                "{when}"
            );
            let resumed = told(&outbox(&app).await, Kind::AccountResumed, &account.s3uid);
            assert_eq!(resumed, 1, "{when}");
            assert_cluster_agrees(&app, &account.s3uid, when).await;
        },
    )
    .await;
    assert!(calls >= 5, "{calls} calls are too few to have been all");
}

/// When the time that staff gave is over, with or without a payment at any moment of that.
async fn time_is_over(is_paid_meanwhile: bool) {
    let mut app = TestApp::start_idle(&[("CreditLimit", "1000000")]).await;
    let accounts = suspended(&app, 76).await;
    app.log_in().await;
    for (account, _) in &accounts {
        resume_until(&app, account, "2026-03-01")
            .await
            .expect("it is resumed");
    }
    wait_until(&app, "2026-03-01T00:30:00Z");
    app.log_in().await;
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].0.clone(),
        async |account| billing(&app, &end(account)).await,
        async |account| match is_paid_meanwhile {
            true => {
                pay(&app, "15.00", account.s3uid.as_str()).await.ok();
                drain(&app).await;
            }
            false => billing(&app, &end(account)).await.expect("it is suspended"),
        },
        async |account: &TestAccount, when: &str| {
            let s3uid = &account.s3uid;
            drain(&app).await;
            let service = stored(&app, s3uid).await.service;
            assert_eq!(service.resumed_until, None, "{when}");
            if is_paid_meanwhile {
                // The payment was for the oldest invoice, which is this account's.
                let state = (
                    service.status(),
                    service.suspension(),
                    service.termination(),
                );
                assert_eq!(state, (Status::Active, None, None), "{when}");
                let item = app.account_item(s3uid).await;
                assert_eq!(item.get("ends_on"), None, "{when}");
            } else {
                assert_eq!(service.status(), Status::Suspended, "{when}");
                assert_eq!(service.suspension(), Some(Suspension::Unpaid), "{when}");
                let day = (date(2026, 3, 31), TerminationReason::Unpaid);
                assert_eq!(service.termination(), Some(day), "{when}");
                assert_eq!(history(&app, s3uid, "suspend_account").await, 2, "{when}");
                let suspended = told(&outbox(&app).await, Kind::AccountSuspended, s3uid);
                assert_eq!(suspended, 2, "{when}");
            }
            assert_cluster_agrees(&app, s3uid, when).await;
            assert_sound(&app, when).await;
        },
    )
    .await;
    assert!(calls >= 6, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn an_account_whose_time_is_over_is_suspended_and_told_once() {
    time_is_over(false).await;
}

#[tokio::test]
async fn an_account_that_is_paid_for_as_its_time_is_over_is_in_use() {
    time_is_over(true).await;
}

/// All but a few cents is paid at any moment of the suspension: too little is owed to suspend anybody.
#[tokio::test]
async fn an_account_that_is_paid_but_for_cents_while_it_is_being_suspended_is_in_use() {
    let mut app = TestApp::start_idle(&[("CreditLimit", "1000000")]).await;
    let accounts = unpaid_accounts(&app, 88).await;
    chase_all(&app, &accounts, 3).await;
    wait_until(&app, "2026-02-12T00:30:00Z");
    app.log_in().await;
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        async |(_, open)| billing(&app, &chase(open)).await,
        async |(account, _)| {
            // A cent more is left of each than of the one before it, whose rest is paid first.
            pay(&app, "14.99", account.s3uid.as_str()).await.ok();
            drain(&app).await;
        },
        async |(account, open), when| {
            let left = app.context().database.open_invoices(ClientId(1)).await;
            let left = left.expect("DynamoDB answers");
            let left = left.iter().find(|left| left.invoice_id == open.invoice_id);
            let left_minor = left.map_or(0, OpenInvoice::open_minor);
            assert!((1..100).contains(&left_minor), "{when}: {left_minor}");
            let service = stored(&app, &account.s3uid).await.service;
            let state = (
                service.status(),
                service.suspension(),
                service.termination(),
            );
            assert_eq!(state, (Status::Active, None, None), "{when}");
            assert_cluster_agrees(&app, &account.s3uid, when).await;
            assert_sound(&app, when).await;
        },
    )
    .await;
    assert!(calls >= 8, "{calls} calls are too few to have been all");
}

/// An order on account that began while there was room in the credit limit, and whose room somebody else took before it was invoiced.
#[tokio::test]
async fn an_order_that_the_credit_limit_refuses_at_its_end_leaves_nothing() {
    let mut app = start(&[("CreditLimit", "20")]).await;
    app.log_in().await;
    let begun = async |index: usize| {
        // Nothing is owed: there is room for one order, and not for two.
        let owed_minor = -app.balances("client").await.receivable_minor;
        if owed_minor > 0 {
            let amount = format!("{}.{:02}", owed_minor / 100, owed_minor % 100);
            pay(&app, &amount, &format!("all {index}")).await.ok();
            drain(&app).await;
        }
        let bucket_name = format!("refused-{index}");
        for call in 4.. {
            let order = json!({ "plan_id": 2, "bucket_name": bucket_name });
            let order = app.call_directly("client", "create_account", order);
            let died = app
                .tap
                .crash_at(call, Moment::Before, order)
                .await
                .is_none();
            assert!(died, "it was whole before it had begun");
            let open = app
                .context()
                .database
                .abandoned_orders(app.now() + LEASE_AND_MORE, 100);
            let open = open.await.expect("DynamoDB answers");
            let open = open
                .into_iter()
                .find(|order| order.bucket_name == bucket_name);
            if let Some(order) = open {
                open_account(&app, 2, &format!("first-{index}")).await;
                let accounts = app.client("client").await.accounts;
                let users = app.cluster_users("NL").await;
                return (order, accounts, users.len());
            }
        }
        unreachable!("an order begins")
    };
    let resume = async || {
        app.let_pass(LEASE_AND_MORE);
        app.run_directly("resume_orders").await.map(|_| ())
    };
    let calls = at_every_call(
        &app,
        begun,
        async |_| resume().await,
        async |_| resume().await.expect("it is resumed"),
        async |(order, accounts, users), when| {
            resume().await.expect("it is resumed");
            let ended = app.context().database.order(&order.order_id).await;
            let ended = ended.expect("DynamoDB answers").expect("the order");
            assert_eq!(ended.state, State::Undone, "{when}");
            let refusal = ended.refusal.expect("a refusal");
            assert_eq!(refusal.status, 402, "{when}: {}", refusal.text);
            let account = app.context().database.account(&order.s3uid).await;
            assert_eq!(account.expect("DynamoDB answers"), None, "{when}");
            assert_eq!(app.client("client").await.accounts, accounts - 1, "{when}");
            let made = app.cluster_users("NL").await;
            assert!(
                !made.contains(order.s3uid.as_str()) && made.len() <= *users,
                "{when}"
            );
            let owner = app.cluster_bucket_owner("NL", &order.bucket_name).await;
            assert_eq!(owner, None, "{when}");
            assert_eq!(
                history(&app, &order.s3uid, "order_undone").await,
                1,
                "{when}"
            );
            assert_eq!(invoices_of(&app, &order.s3uid).await, [], "{when}");
            assert_eq!(
                app.balances("client").await.receivable_minor,
                -1_500,
                "{when}"
            );
            assert_sound(&app, when).await;
            let open = app.context().database.abandoned_orders(app.now(), 100);
            assert_eq!(open.await.expect("DynamoDB answers"), [], "{when}");
        },
    )
    .await;
    assert!(calls >= 8, "{calls} calls are too few to have been all");
    // No place is left behind.
    let currency = app.client("client").await.currency;
    let series = app.context().database.series(ClientId(1), currency).await;
    let series = series.expect("DynamoDB answers");
    assert!(series.taken.is_empty(), "{series:?}");
}

/// Longer than a lease, and than anything takes effect late.
const LEASE_AND_MORE: SignedDuration = SignedDuration::from_mins(4);
