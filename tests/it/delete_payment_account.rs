//! `delete_payment_account`.

use insta::assert_json_snapshot;
use jiff::ToSpan;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::Example;

const ACTION: &str = "delete_payment_account";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(prepare.with_account(json!({}))),
    |scene| scene.on_accounts(json!({})),
));

#[tokio::test]
async fn delete_payment_account_ends_the_service_with_the_paid_period() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    let service = &body["service"];
    assert_eq!(service["status"], "cancelling");
    // Ordered on 15 January: paid until 15 February, kept for 30 days more.
    assert_eq!(service["cancellation_date"], "2026-02-15");
    assert_eq!(service["termination_date"], "2026-03-17");
    for name in ["cancellation", "termination"] {
        let midnight: jiff::Timestamp = format!(
            "{}T00:00:00Z",
            service[format!("{name}_date")].as_str().expect("a date")
        )
        .parse()
        .expect("a time");
        assert_eq!(service[format!("{name}_unix_date")], midnight.as_second());
    }
    let users = app
        .call("client", "get_users", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(users["s3_users"][0]["service"], *service);
    // Until then it is in use.
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 1).await;
    let new = json!({ "s3uid": account.s3uid, "bucket_name": "new-bucket" });
    app.call("client", "create_bucket", new).await.ok();

    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "S3 account is already being cancelled")
    );
}

#[tokio::test]
async fn delete_payment_account_keeps_the_data_as_long_as_the_operator_says() {
    let app = TestApp::with(&[("RetentionDays", "0")]).start().await;
    let account = app.order("client", "my-bucket").await;
    app.stack.advance(1.second()).await.expect("time passes");
    // By an admin who names the client, and the account by its number.
    let parameters = json!({ "account_id": account.id, "id": app.client_id("client") });
    let body = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(body["s3uid"], account.s3uid.as_str());
    assert_eq!(
        body["service"]["termination_date"],
        body["service"]["cancellation_date"]
    );
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let newest = &history["history"][0];
    assert_eq!(
        (&newest["action"], &newest["role"]),
        (&json!(ACTION), &json!("admin"))
    );
    assert_eq!(newest["details"]["service"], body["service"]);
}

#[tokio::test]
async fn delete_payment_account_counts_from_the_day_of_the_order() {
    let app = TestApp::start().await;
    app.stack.advance(16.days()).await.expect("time passes");
    let token = {
        let key = app.stack.seeded().api_key("client");
        app.auth("login", json!({ "key": key })).await.body["result"]["token"].clone()
    };
    // 31 January: a month later is the last of February.
    let order = json!({ "token": token, "plan_id": 1, "bucket_name": "my-bucket" });
    let ordered = app.post_form("/s3/create_account", &order).await.ok();
    let parameters = json!({ "token": token, "s3uid": ordered["s3uid"] });
    let body = app
        .post_form("/s3/delete_payment_account", &parameters)
        .await
        .ok();
    assert_eq!(body["service"]["cancellation_date"], "2026-02-28");
    assert_eq!(body["service"]["termination_date"], "2026-03-30");
}

#[tokio::test]
async fn delete_payment_account_refuses_accounts_that_are_going() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_account", parameters.clone())
        .await
        .ok();
    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "S3 account is being deleted")
    );
}

#[tokio::test]
async fn delete_payment_account_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid"]).await;
    contract.refuses_bad_tokens().await;
}
