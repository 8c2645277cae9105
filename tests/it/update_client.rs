//! `update_client`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, text};
use tests::examples::{Example, GoodCall};
use tests::tap::Moment;

use crate::create_client::refuses_bad_fields;

const ACTION: &str = "update_client";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let email = format!("{}@example.com", prepare.name);
            let id = prepare.app.client_id("client");
            let parameters = json!({ "id": id, "email": email, "billing": "moved" });
            Box::pin(async { GoodCall::by_admin(parameters) })
        },
        |scene| scene.on_clients_for_admins(json!({ "billing": "mine" })),
    )
    .on_own(|scene| json!({ "id": scene.own_client_id, "role": "admin" }))
);

/// The accounts that an admin finds so.
async fn found(app: &TestApp, filter: Value) -> Vec<Value> {
    let users = app.call("admin", "get_users", filter).await.ok();
    let rows = users["s3_users"].as_array().expect("a list");
    rows.iter().map(|row| row["s3uid"].clone()).collect()
}

#[tokio::test]
async fn update_client_takes_its_accounts_along() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let other = app.order("client2", "others-bucket").await;
    let id = app.client_id("client");
    let parameters = json!({ "id": id, "billing": "resellers", "email": "Moved@example.com" });
    let body = app.call("admin", ACTION, parameters).await.ok();
    assert_json_snapshot!("success", body);
    app.stack.drain().await.expect("the queues empty");
    let own = [json!(account.s3uid)];
    assert_eq!(found(&app, json!({ "billing": "resellers" })).await, own);
    assert_eq!(
        found(&app, json!({ "billing": "whmcs" })).await,
        [Value::Null; 0]
    );
    assert_eq!(
        found(&app, json!({ "billing": "direct" })).await,
        [json!(other.s3uid)]
    );
    assert_eq!(
        found(&app, json!({ "email": "moved@example.com" })).await,
        own
    );
    let old = json!({ "email": "client@example.com" });
    let reply = app.call("admin", "get_users", old).await;
    assert_eq!(reply.refused(404), text("get_users", "customer not found"));
    // What is ordered later belongs there too.
    let later = app.order("client", "later").await;
    let group = found(&app, json!({ "billing": "resellers" })).await;
    assert!(
        group.contains(&json!(later.s3uid)) && group.len() == 2,
        "{group:?}"
    );

    // The old email is free, the new one is taken.
    let taken = json!({ "email": "moved@example.com", "currency": "EUR" });
    app.call("admin", "create_client", taken).await.refused(409);
    let free = json!({ "email": "client@example.com", "currency": "EUR" });
    app.call("admin", "create_client", free).await.ok();
    let history = app.call("client", "history", json!({})).await.ok();
    let entries = history["history"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["action"] == ACTION);
    assert_eq!(entry.expect("the change")["details"], body["client"]);
}

#[tokio::test]
async fn update_client_leaves_what_is_not_named() {
    let app = TestApp::start().await;
    app.spend_all_credit("client").await;
    let id = app.client_id("client");
    let change = async |parameters: Value| {
        let mut all = parameters;
        all["id"] = id.0.into();
        app.call("admin", ACTION, all).await.ok()["client"].clone()
    };
    let before = change(json!({})).await;
    assert_eq!(before["email"], "client@example.com");
    let tagged = change(json!({ "tags": "s3_test,vip" })).await;
    assert_eq!(tagged["tags"], json!(["s3_test", "vip"]));
    let plans = app.call("client", "list_plans", json!({})).await.ok();
    assert_eq!(plans["plans"].as_array().expect("a list").len(), 4);
    let changed = change(json!({ "currency": "usd", "role": "admin" })).await;
    assert_eq!(
        (&changed["currency"], &changed["role"], &changed["tags"]),
        (&json!("USD"), &json!("admin"), &tagged["tags"])
    );
    let key = app.stack.seeded().api_key("client");
    let login = app.auth("login", json!({ "key": key })).await;
    assert_eq!(login.body["result"]["role"], "admin");
    // Given and empty, tags go.
    let back = change(json!({ "currency": "EUR", "role": "client", "tags": "" })).await;
    assert_eq!(back, before);
}

#[tokio::test]
async fn update_client_again_takes_along_what_a_crash_left() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "id": app.client_id("client"), "billing": "resellers" });
    // Where the call dies at any of its calls, the next one does the rest.
    for (index, billing) in (0_usize..).zip(["a", "b", "c", "d", "e", "f"]) {
        let mut parameters = parameters.clone();
        parameters["billing"] = billing.into();
        let call = app.call_directly("admin", ACTION, parameters.clone());
        let whole = app.tap.crash_at(index, Moment::Before, call).await;
        app.call("admin", ACTION, parameters).await.ok();
        app.stack.drain().await.expect("the queues empty");
        let group = found(&app, json!({ "billing": billing })).await;
        assert_eq!(group, [json!(account.s3uid)], "died before call {index}");
        if whole.is_some() {
            return;
        }
    }
    panic!("more calls than thought");
}

#[tokio::test]
async fn update_client_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "id": app.client_id("client"), "billing": "whmcs", "tags": "x" }),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract.refuses_missing(&["id"]).await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    refuses_bad_fields(&contract).await;
    let absent = json!({ "id": 888_888, "billing": "x" });
    let reply = app.call("admin", ACTION, absent).await;
    assert_eq!(reply.refused(404), text(ACTION, "customer not found"));
    let taken = json!({ "id": app.client_id("client"), "email": "CLIENT2@example.com" });
    let reply = app.call("admin", ACTION, taken).await;
    let wanted = text(ACTION, "another client has this email");
    assert_eq!(reply.refused(409), wanted);
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn update_client_ends_the_sessions_of_who_is_no_administrator_any_more() {
    let app = TestApp::start().await;
    let id = app.client_id("client");
    let role = async |role: &str| {
        let parameters = json!({ "id": id, "role": role });
        app.call("admin", ACTION, parameters).await.ok();
    };
    role("admin").await;
    let key = app.stack.seeded().api_key("client");
    let login = app.auth("login", json!({ "key": key })).await;
    let token = json!({ "token": login.body["result"]["token"] });
    let credit = json!({
        "token": token["token"], "id": id, "amount": 1, "reference": "own", "currency": "EUR",
    });
    app.post_json("/s3/add_credit", &credit).await.ok();
    role("client").await;
    for (action, parameters) in [("add_credit", &credit), ("list_plans", &token)] {
        let reply = app.post_json(&format!("/s3/{action}"), parameters).await;
        assert_eq!(reply.refused(401), text(action, "invalid token"));
    }
    assert_eq!(app.auth("info", token.clone()).await.status, 401);
    // What was a client's session before and after stays one.
    app.call("client", "list_plans", json!({})).await.ok();
    let login = app.auth("login", json!({ "key": key })).await;
    assert_eq!(login.body["result"]["role"], "client");
    role("admin").await;
    assert_eq!(app.auth("info", token).await.status, 401);
}

#[tokio::test]
async fn update_client_leaves_an_administrator_its_own_role() {
    let app = TestApp::start().await;
    let info = app
        .auth("info", json!({ "token": app.token("admin") }))
        .await;
    let own = &info.body["result"]["customer_id"];
    let parameters = json!({ "id": own, "role": "client" });
    let reply = app.call("admin", ACTION, parameters).await;
    let wanted = text(ACTION, "administrators cannot change their own role");
    assert_eq!(reply.refused(409), wanted);
}

#[tokio::test]
async fn update_client_changes_the_currency_only_of_who_has_no_accounts() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "id": app.client_id("client"), "currency": "USD" });
    let change = async || app.call("admin", ACTION, parameters.clone()).await;
    let wanted = "the currency can be changed only while the customer has no S3 accounts";
    assert_eq!(change().await.refused(409), text(ACTION, wanted));
    let s3uid = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_account", s3uid).await.ok();
    app.stack.drain().await.expect("the queues empty");
    let wanted = "the currency can be changed only while the customer has neither credit nor debts";
    assert_eq!(change().await.refused(409), text(ACTION, wanted));
    app.spend_all_credit("client").await;
    assert_eq!(change().await.ok()["client"]["currency"], "USD");
}

#[tokio::test]
async fn an_order_that_a_change_of_currency_overtakes_is_in_the_new_one_or_refused() {
    let mut refused = 0;
    for index in 0.. {
        let app = TestApp::start_idle(&[]).await;
        let id = app.client_id("client");
        app.spend_all_credit("client").await;
        let order = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
        let order = app.call_directly("client", "create_account", order);
        let stalled = app.tap.stall_at(index, Moment::Before, order).await;
        let Err(stalled) = stalled else {
            assert!(refused > 0 && index > 8, "{refused} of {index}");
            return;
        };
        let currency = json!({ "id": id, "currency": "USD" });
        app.call_directly("admin", ACTION, currency).await;
        let reply = stalled.go_on().await;
        if reply.status != 200 {
            refused += 1;
            assert!([402, 409].contains(&reply.status), "{:#}", reply.body);
            continue;
        }
        let client = app.client("client").await;
        let invoices = app.context().database.invoices(id).await;
        let invoices = invoices.expect("invoices");
        assert_eq!(invoices[0].currency, client.currency, "before call {index}");
    }
}
