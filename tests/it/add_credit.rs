//! `add_credit`.

use insta::assert_json_snapshot;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tests::contract::{Contract, text};
use tests::examples::{Example, GoodCall};
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{S3Uid, Suspension};
use wharfage::domain::client::ClientId;

const ACTION: &str = "add_credit";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let id = prepare.app.client_id("client");
            let parameters = json!({ "id": id, "amount": 1, "reference": prepare.name });
            Box::pin(async { GoodCall::by_admin(parameters) })
        },
        |scene| scene.on_clients_for_admins(json!({ "amount": 1, "reference": "x" })),
    )
    .on_own(|scene| json!({ "id": scene.own_client_id, "amount": 1, "reference": "x" }))
);

async fn add(app: &TestApp, amount: Value, reference: &str) -> Value {
    let parameters =
        json!({ "id": app.client_id("client"), "amount": amount, "reference": reference });
    app.call("admin", ACTION, parameters).await.ok()
}

/// Takes all that the client has.
pub async fn spend_all(app: &TestApp) {
    let credit_minor = app.balances("client").await.credit_minor;
    app.top_up("client", "spent", -credit_minor).await;
}

/// An account with an open invoice: nothing could be paid.
pub async fn open_account(app: &TestApp, plan_id: u64, bucket_name: &str) -> TestAccount {
    let parameters = json!({ "plan_id": plan_id, "bucket_name": bucket_name });
    let body = app.call("client", "create_account", parameters).await.ok();
    TestAccount {
        s3uid: S3Uid(body["s3uid"].as_str().expect("a text").to_owned()),
        id: body["id"].as_u64().expect("a number"),
        location: body["location"].as_str().expect("a text").to_owned(),
        bucket_name: bucket_name.to_owned(),
    }
}

async fn status(app: &TestApp, account: &TestAccount) -> Value {
    let parameters = json!({ "s3uid": account.s3uid });
    let list = app.call("client", "list_invoices", parameters).await.ok();
    list["invoices"][0]["status"].clone()
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[tokio::test]
async fn add_credit_adds_once_per_reference() {
    let app = TestApp::start().await;
    let body = add(&app, json!("12.34"), "payment 1").await;
    assert_json_snapshot!("success", body);
    assert_eq!(body["credit"], 212.34);
    // The same again, however it is written.
    for amount in [json!("12.34"), json!(12.34), json!("12.340")] {
        assert_eq!(add(&app, amount, "payment 1").await, body);
    }
    let mut other = json!({ "id": app.client_id("client"), "reference": "payment 1" });
    for (amount, currency) in [("12.35", "EUR"), ("12.34", "USD"), ("0.01", "EUR")] {
        other["amount"] = amount.into();
        other["currency"] = currency.into();
        let reply = app.call("admin", ACTION, other.clone()).await;
        let what = if currency == "EUR" {
            "the reference was used with another amount"
        } else {
            "the reference was used with another currency"
        };
        let wanted = text(ACTION, what);
        assert_eq!(reply.refused(422), wanted, "{amount} {currency}");
    }
    assert_eq!(add(&app, json!("12.34"), "  payment 1 ").await, body);
    // At once, too.
    let calls = (0..5).map(|_| add(&app, json!(1), "payment 2"));
    for body in futures::future::join_all(calls).await {
        assert_eq!(body["credit"], 213.34);
    }
    // One payment is one client's, unless two of them have the same reference.
    let mut theirs =
        json!({ "id": app.client_id("client2"), "amount": 1, "reference": "payment 1" });
    for scope in [None, Some("all")] {
        if let Some(scope) = scope {
            theirs["reference_scope"] = scope.into();
        }
        let reply = app.call("admin", ACTION, theirs.clone()).await;
        let wanted = "the reference was used for another customer: send reference_scope=client if both payments have it";
        assert_eq!(reply.refused(422), text(ACTION, wanted));
    }
    theirs["reference_scope"] = "client".into();
    app.call("admin", ACTION, theirs.clone()).await.ok();
    let theirs = app.call("admin", ACTION, theirs).await.ok();
    assert_eq!(
        (&theirs["credit"], &theirs["currency"]),
        (&json!(201.0), &json!("USD"))
    );
    assert_eq!(app.balances("client").await.credit_minor, 21_334);
    app.assert_ledger_is_sound("client").await;

    let history = app.call("client", "history", json!({})).await.ok();
    let entries = history["history"].as_array().expect("a list");
    let first: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["action"] == ACTION && entry["details"]["reference"] == "payment 1")
        .collect();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["details"]["amount_minor"], 1_234);
}

#[tokio::test]
async fn add_credit_notes_one_payment_for_one_of_several_clients_at_once() {
    let app = TestApp::start().await;
    let calls = (0..6).map(|number| {
        let who = if number % 2 == 0 { "client" } else { "client2" };
        let parameters = json!({ "id": app.client_id(who), "amount": 1, "reference": "one" });
        let app = &app;
        async move { (who, app.call("admin", ACTION, parameters).await.status) }
    });
    let answers = futures::future::join_all(calls).await;
    let won: Vec<&str> = answers
        .iter()
        .filter(|(_, status)| *status == 200)
        .map(|(who, _)| *who)
        .collect();
    assert_eq!(won.len(), 3, "{answers:?}");
    assert!(won.iter().all(|who| *who == won[0]), "{answers:?}");
    let credit = async |who| app.balances(who).await.credit_minor;
    assert_eq!(credit("client").await + credit("client2").await, 40_100);
}

#[tokio::test]
async fn add_credit_pays_the_oldest_open_invoice_first() {
    let app = TestApp::start().await;
    spend_all(&app).await;
    let first = open_account(&app, 2, "first").await;
    app.stack.advance(1.hour()).await.expect("time passes");
    let second = open_account(&app, 3, "second").await;
    let paid = async |amount: Value, reference: &str| {
        add(&app, amount, reference).await;
        app.stack.drain().await.expect("the queues empty");
        (status(&app, &first).await, status(&app, &second).await)
    };
    // 15.00, then 8.00: what would do for the younger one is kept for the older one.
    assert_eq!(paid(json!(10), "a").await, (json!("open"), json!("open")));
    assert_eq!(paid(json!(5), "b").await, (json!("paid"), json!("open")));
    assert_eq!(
        paid(json!("7.99"), "c").await,
        (json!("paid"), json!("open"))
    );
    assert_eq!(
        paid(json!("0.02"), "d").await,
        (json!("paid"), json!("paid"))
    );
    assert_eq!(app.balances("client").await.credit_minor, 1);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn add_credit_lifts_the_suspension_of_what_is_paid_by_it() {
    let mut app = TestApp::start().await;
    spend_all(&app).await;
    let account = open_account(&app, 2, "unpaid").await;
    let stopped = open_account(&app, 2, "stopped").await;
    app.stack
        .advance_to(time("2026-02-12T12:00:00Z"))
        .await
        .expect("time passes");
    app.log_in().await;
    let s3 = app.s3("client", &account).await;
    let stopped_s3 = app.s3("client", &stopped).await;
    let put = async |s3: &aws_sdk_s3::Client, bucket_name: &str| {
        let put = s3.put_object().bucket(bucket_name).key("x");
        put.body(vec![b'x'].into()).send().await.is_ok()
    };
    assert!(!put(&s3, "unpaid").await && !put(&stopped_s3, "stopped").await);
    // An administrator's suspension is another matter than money.
    let parameters = json!({ "s3uid": stopped.s3uid, "id": app.client_id("client") });
    app.call("admin", "suspend_account", parameters).await.ok();
    add(&app, json!(30), "late").await;
    app.stack.drain().await.expect("the queues empty");
    assert_eq!(status(&app, &account).await, "paid");
    assert_eq!(status(&app, &stopped).await, "paid");
    assert!(put(&s3, "unpaid").await, "it stays suspended");
    assert!(!put(&stopped_s3, "stopped").await, "payment lifted it");
    let service = async |account: &TestAccount| {
        let parameters = json!({ "s3uid": account.s3uid });
        let users = app.call("client", "get_users", parameters).await.ok();
        users["s3_users"][0]["service"]["status"].clone()
    };
    assert_eq!(service(&account).await, "active");
    assert_eq!(service(&stopped).await, "suspended");
}

#[tokio::test]
async fn a_suspension_is_lifted_though_settling_died_in_the_middle() {
    let mut app = TestApp::start_idle(&[]).await;
    spend_all(&app).await;
    let settle = json!({ "work": "settle", "client_id": app.client_id("client") }).to_string();
    for index in 0.. {
        assert!(index < 20, "no end");
        let account = open_account(&app, 2, &format!("unpaid-{index}")).await;
        app.let_pass(jiff::SignedDuration::from_hours(24 * 30));
        app.log_in().await;
        let open = app.context().database.open_invoices(ClientId(1)).await;
        let open = open.expect("DynamoDB answers").remove(0);
        // Three reminders, then the suspension.
        let chase = json!({
            "work": "chase", "client_id": 1, "due_on": open.due_on, "invoice_id": open.invoice_id,
        });
        for _ in 0..4 {
            app.handle_directly("billing", &chase.to_string())
                .await
                .expect("it is chased");
        }
        let suspension = async || {
            let account = app.context().database.account(&account.s3uid).await;
            let account = account.expect("DynamoDB answers");
            account.expect("the account").service.suspension()
        };
        assert_eq!(suspension().await, Some(Suspension::Unpaid));
        app.top_up("client", &format!("late {index}"), 1_500).await;
        let work = app.handle_directly("billing", &settle);
        let whole = app.tap.crash_at(index, Moment::After, work).await;
        app.handle_directly("billing", &settle)
            .await
            .expect("it is settled");
        assert_eq!(suspension().await, None, "died after call {index}");
        // Whoever died before the cluster was told is found by its mark.
        app.let_pass(jiff::SignedDuration::from_mins(10));
        app.run_directly("resume_tasks").await.expect("it is run");
        app.stack.drain().await.expect("the queues empty");
        let s3 = app.s3("client", &account).await;
        app.put(&s3, &account.bucket_name, "x", 1).await;
        if whole.is_some() {
            break;
        }
    }
}

/// Whichever of the two begins first, and wherever the other one comes in between.
#[tokio::test]
async fn add_credit_and_a_change_of_currency_leave_no_credit_in_another_currency() {
    for is_payment_first in [true, false] {
        let mut refused = 0;
        for index in 0.. {
            assert!(index < 20, "no end");
            let app = TestApp::start_idle(&[]).await;
            let id = app.client_id("client");
            app.spend_all_credit("client").await;
            let payment = json!({ "id": id, "amount": 5, "reference": "x" });
            let pay = async || app.call_directly("admin", ACTION, payment.clone()).await;
            let currency = json!({ "id": id, "currency": "USD" });
            let change = async || {
                let action = "update_client";
                app.call_directly("admin", action, currency.clone()).await
            };
            let (is_whole, paid, changed) = if is_payment_first {
                let stalled = app.tap.stall_at(index, Moment::Before, pay()).await;
                let changed = change().await;
                match stalled {
                    Ok(paid) => (true, paid, changed),
                    Err(stalled) => (false, stalled.go_on().await, changed),
                }
            } else {
                let stalled = app.tap.stall_at(index, Moment::Before, change()).await;
                let paid = pay().await;
                match stalled {
                    Ok(changed) => (true, paid, changed),
                    Err(stalled) => (false, paid, stalled.go_on().await),
                }
            };
            let when = format!("{is_payment_first} {index}");
            assert!([200, 409].contains(&changed.status), "{when}");
            let client = app.client("client").await;
            assert_eq!(changed.status == 200, client.currency.code() == "USD");
            let credit_minor = app.balances("client").await.credit_minor;
            if paid.status == 200 {
                assert_eq!(paid.ok()["currency"], client.currency.code(), "{when}");
                assert_eq!(credit_minor, 500, "{when}");
            } else {
                refused += 1;
                assert!(paid.retry_after.is_some(), "{when}");
                let wanted = "the customer's currency was changed meanwhile, try again";
                assert_eq!(paid.refused(409), text(ACTION, wanted), "{when}");
                assert_eq!(credit_minor, 0, "{when}");
                assert_eq!(pay().await.ok()["currency"], "USD", "{when}");
            }
            if is_whole {
                break;
            }
        }
        assert_eq!(refused > 0, is_payment_first);
    }
}

#[tokio::test]
async fn add_credit_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "id": app.client_id("client"), "amount": "1.00", "reference": "x" }),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract
        .refuses_missing(&["id", "amount", "reference"])
        .await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    for name in ["amount", "reference", "currency"] {
        contract.takes_a_line(name).await;
    }
    let rule = "must be a positive amount in whole minor units of the currency";
    let values = [
        json!(0),
        json!("0.00"),
        json!(-1),
        json!("-0.01"),
        json!("1.001"),
        json!("1,00"),
        json!("1_0"),
        json!("+1"),
        json!("x"),
        json!("1 EUR"),
        json!(1e300),
    ];
    contract.refuses("amount", rule, &values).await;
    let too_much = [
        json!("1000000.01"),
        json!("10000000000"),
        json!("9".repeat(23)),
        json!("9".repeat(40)),
    ];
    contract
        .refuses("amount", "must be at most 1000000.00 at once", &too_much)
        .await;
    let values = ["EURO", "978", "XYZ"].map(Value::from);
    contract
        .refuses("currency", "must be an ISO 4217 currency", &values)
        .await;
    let values = [json!("r".repeat(129)), json!("é".repeat(65))];
    contract
        .refuses("reference", "must be at most 128 bytes long", &values)
        .await;
    contract
        .refuses("reference", "must not be empty", &[json!("  ")])
        .await;
    let values = ["clients", "ALL", "0"].map(Value::from);
    contract
        .refuses("reference_scope", "must be all or client", &values)
        .await;
    let absent = json!({ "id": 888_888, "amount": 1, "reference": "x" });
    let reply = app.call("admin", ACTION, absent).await;
    assert_eq!(reply.refused(404), text(ACTION, "customer not found"));
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}
