//! `get_buckets_rmq`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, NO_S3UID, masked};
use tests::examples::Example;

const ACTION: &str = "get_buckets_rmq";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(prepare.with_account(json!({}))),
        |scene| scene.on_accounts(json!({})),
    )
    .needs_the_cluster()
    .waits_for_a_worker()
);

#[tokio::test]
async fn get_buckets_rmq_lists_as_get_buckets_does_in_its_own_shape() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 1_024_000).await;
    let parameters = json!({ "s3uid": account.s3uid });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    let bucket = &body["message"][0];
    assert_eq!(
        (&bucket["name"], &bucket["usage"]),
        (&json!("my-bucket"), &json!(1_024_000))
    );
    assert_eq!(bucket["created"], "2026-01-15T10:30:00Z");
    let mut stable = body.clone();
    stable["metering"]["total_traffic_period_gb"] = "[gb]".into();
    assert_json_snapshot!("success", masked(&app, &stable));

    let mut same = app.call("client", "get_buckets", parameters).await.ok();
    let created = same["message"][0]["creation_date"].take();
    assert_eq!(created, bucket["created"]);
    for name in [
        "usage_storage",
        "quota",
        "access_key",
        "secret_key",
        "endpoint",
    ] {
        assert_eq!(same[name], body[name], "{name}");
    }
    let by_admin = json!({ "account_id": account.id, "id": app.client_id("client") });
    assert_eq!(
        app.call("admin", ACTION, by_admin).await.ok()["message"],
        body["message"]
    );
}

#[tokio::test]
async fn get_buckets_rmq_answers_later_through_a_callback_too() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await;
    assert_eq!(reply.status, 202);
    assert_eq!(
        (&reply.body["result"], &reply.body["action"]),
        (&json!("OK"), &json!(ACTION))
    );
    app.stack.drain().await.expect("the queues are emptied");
    let done = app
        .check(reply.body["callback"].as_str().expect("a key"))
        .await
        .ok();
    assert_eq!(
        done["scope"]["message"][0]["created"],
        "2026-01-15T10:30:00Z"
    );
}

#[tokio::test]
async fn get_buckets_rmq_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call("client", ACTION, json!({ "s3uid": NO_S3UID }))
        .await;
    assert_eq!(
        reply.refused(404),
        "s3/get_buckets_rmq: S3 account not found for this customer"
    );
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
