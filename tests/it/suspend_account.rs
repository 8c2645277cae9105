//! `suspend_account`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::Example;
use wharfage::domain::account::Suspension;

const ACTION: &str = "suspend_account";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(prepare.with_account_for_admin(json!({}))),
        |scene| scene.on_accounts(json!({})),
    )
    .on_own(|scene| json!({ "s3uid": scene.own.s3uid }))
    .needs_the_cluster()
);

#[tokio::test]
async fn suspend_account_stops_the_keys_and_keeps_the_data() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let other = app.order("client", "other-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "kept", 10).await;
    // The key that is to take the first one's place is stopped with it.
    let next = app
        .call("client", "rotate_key", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let [access_key, secret_key] =
        ["access_key", "secret_key"].map(|name| next[name].as_str().expect("a key"));
    let next_s3 = app.s3_with("NL", access_key, secret_key);
    let parameters = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let body = app.call("admin", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    for s3 in [&s3, &next_s3] {
        let get = s3.get_object().bucket("my-bucket").key("kept").send().await;
        let error = get.expect_err("the keys still work").into_service_error();
        assert_eq!(error.meta().code(), Some("UserSuspended"));
    }
    let refused = app
        .call(
            "client",
            "create_bucket",
            json!({ "s3uid": account.s3uid, "bucket_name": "new-bucket" }),
        )
        .await
        .refused(403);
    assert_eq!(refused, text("create_bucket", "S3 account is suspended"));
    // The client's other account is in use.
    let other_s3 = app.s3("client", &other).await;
    app.put(&other_s3, "other-bucket", "x", 1).await;

    // Again, it changes nothing, but that the cluster is told again: somebody may have changed it there.
    let path = format!("users/{}", account.s3uid);
    let works = json!({ "suspended": false });
    app.admin("NL", "PATCH", &path, Some(&works)).await;
    let by_number = json!({ "account_id": account.id, "id": app.client_id("client") });
    assert_eq!(app.call("admin", ACTION, by_number).await.ok(), body);
    let (_, user) = app.admin("NL", "GET", &path, None).await;
    assert_eq!(user["suspended"], true);

    app.call("admin", "resume_account", parameters).await.ok();
    let object = s3.get_object().bucket("my-bucket").key("kept").send().await;
    assert_eq!(object.expect("an object").content_length(), Some(10));
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let mut suspensions = entries.iter().filter(|entry| entry["action"] == ACTION);
    let entry = suspensions.next().expect("the suspension");
    assert_eq!(suspensions.next(), None);
    assert_eq!(entry["actor"], "admin@example.com");
    assert_eq!(entry["details"], json!({ "reason": "administrator" }));
}

#[tokio::test]
async fn suspend_account_and_cancelling_are_two_things() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let status = async |who: &str, action: &str| {
        let parameters = if who == "admin" { &by_admin } else { &own };
        let body = app.call(who, action, parameters.clone()).await.ok();
        body["service"]["status"].clone()
    };
    assert_eq!(
        status("client", "delete_payment_account").await,
        "cancelling"
    );
    assert_eq!(status("admin", ACTION).await, "cancelling");
    let cancel = "cancel_payment_account_deletion";
    assert_eq!(status("client", cancel).await, "suspended");
    assert_eq!(
        status("client", "delete_payment_account").await,
        "cancelling"
    );
    let stored = app.context().database.account(&account.s3uid).await;
    let service = stored
        .expect("DynamoDB answers")
        .expect("it is there")
        .service;
    assert_eq!(service.suspension(), Some(Suspension::Administrator));
    assert_eq!(status("admin", "resume_account").await, "cancelling");
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 1).await;
    assert_eq!(status("client", cancel).await, "active");
}

#[tokio::test]
async fn suspend_account_refuses_accounts_that_are_going() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_account", own).await.ok();
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let reply = app.call("admin", ACTION, by_admin).await;
    let wanted = text(ACTION, "S3 account is being deleted");
    assert_eq!(reply.refused(409), wanted);
}

#[tokio::test]
async fn suspend_account_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "id": app.client_id("client") }),
    };
    contract.is_for_admins_only().await;
    contract.refuses_missing(&["s3uid"]).await;
    contract.refuses_bad_tokens().await;
    let contract = Contract {
        parameters: json!({ "s3uid": account.s3uid }),
        ..contract
    };
    contract.hides_the_account_from_others(&account).await;
}
