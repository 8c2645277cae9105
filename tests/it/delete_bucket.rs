//! `delete_bucket`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::Example;
use wharfage::domain::account::S3Uid;

const ACTION: &str = "delete_bucket";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(prepare.with_bucket(json!({}))),
        |scene| scene.on_buckets(json!({}), 404),
    )
    .needs_the_cluster()
);

async fn bucket_names(app: &TestApp, s3uid: &S3Uid) -> Value {
    let list = app
        .call("client", "get_buckets", json!({ "s3uid": s3uid }))
        .await
        .ok();
    list["message"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|bucket| bucket["name"].clone())
        .collect()
}

#[tokio::test]
async fn delete_bucket_removes_an_empty_bucket_at_once() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    assert_eq!(bucket_names(&app, &account.s3uid).await, json!([]));
    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(404),
        text(ACTION, "S3 bucket not found for this account")
    );
    // The name is free again, for anybody.
    app.order("client2", "my-bucket").await;

    // By the account's number and the alias, and by an admin who names the client.
    for (who, parameters) in [
        (
            "client",
            json!({ "account_id": account.id, "bucket": "new-bucket" }),
        ),
        (
            "admin",
            json!({ "s3uid": account.s3uid, "id": app.client_id("client"), "bucket_name": "new-bucket" }),
        ),
    ] {
        let new = json!({ "s3uid": account.s3uid, "bucket_name": "new-bucket" });
        app.call("client", "create_bucket", new).await.ok();
        app.call(who, ACTION, parameters).await.ok();
        assert_eq!(bucket_names(&app, &account.s3uid).await, json!([]));
    }
}

#[tokio::test]
async fn delete_bucket_empties_a_full_bucket_through_its_queue() {
    let app = TestApp::start_idle(&[("CleanupStepEntries", "2")]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    for number in 0..5 {
        app.put(&s3, "my-bucket", &format!("{number}"), 10).await;
    }
    s3.create_multipart_upload()
        .bucket("my-bucket")
        .key("big")
        .send()
        .await
        .expect("an upload begins");
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success_with_callback", masked(&app, &body));
    let callback = body["callback"].as_str().expect("a key").to_owned();
    assert_eq!(
        app.check(&callback).await.body,
        json!({ "result": "Not ready" })
    );
    // Asked again, it is the same clean-up with a key of its own.
    let again = app.call("client", ACTION, parameters.clone()).await.ok();
    let second = again["callback"].as_str().expect("a key").to_owned();
    assert_ne!(second, callback);
    app.stack.drain().await.expect("the queues are emptied");

    let done = app.check(&callback).await.ok();
    assert_json_snapshot!("callback", masked(&app, &done));
    assert_eq!(
        app.check(&callback).await.refused(404),
        "AsyncKey not found"
    );
    assert_eq!(app.check(&second).await.ok()["scope"], done["scope"]);
    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(404),
        text(ACTION, "S3 bucket not found for this account")
    );
    app.order("client2", "my-bucket").await;
}

#[tokio::test]
async fn delete_bucket_leaves_other_accounts_buckets_alone() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let sibling = app.order("client", "sibling-bucket").await;
    let other = app.order("client2", "other-bucket").await;
    for bucket_name in [
        "other-bucket",
        "sibling-bucket",
        "no-bucket",
        "..",
        "a/b",
        "x y%",
        "ü",
    ] {
        let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
        let reply = app.call("client", ACTION, parameters).await;
        assert_eq!(
            reply.refused(404),
            text(ACTION, "S3 bucket not found for this account"),
            "{bucket_name}"
        );
    }
    for (who, account) in [("client2", &other), ("client", &sibling)] {
        let s3 = app.s3(who, account).await;
        app.put(&s3, &account.bucket_name, "still-there", 1).await;
    }
    // The names are still theirs.
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "other-bucket" });
    app.call("client", "create_bucket", parameters)
        .await
        .refused(409);
}

#[tokio::test]
async fn delete_bucket_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "bucket_name": "no-bucket" }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid", "bucket_name"]).await;
    contract.takes_a_line("bucket_name").await;
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn delete_bucket_refuses_accounts_that_are_going() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.call(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "S3 account is being deleted")
    );
}
