//! `resume_account`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall, Preparation};

use crate::add_credit::{open_account, spend_all};

const ACTION: &str = "resume_account";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(suspended(prepare)),
        |scene| scene.on_accounts(json!({})),
    )
    .on_own(|scene| json!({ "s3uid": scene.own.s3uid }))
    .needs_the_cluster()
);

async fn suspended(prepare: &Preparation<'_>) -> GoodCall {
    let call = prepare.with_account_for_admin(json!({})).await;
    let suspend = prepare
        .app
        .call(call.who, "suspend_account", call.parameters.clone());
    suspend.await.ok();
    call
}

#[tokio::test]
async fn resume_account_lets_the_keys_work_again() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    let parameters = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let refused = text(ACTION, "S3 account is not suspended");
    let reply = app.call("admin", ACTION, parameters.clone()).await;
    assert_eq!(reply.refused(409), refused);
    app.call("admin", "suspend_account", parameters.clone())
        .await
        .ok();
    let stopped = s3.list_objects_v2().bucket("my-bucket").send().await;
    assert!(stopped.is_err(), "the keys still work");
    let body = app.call("admin", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    app.put(&s3, "my-bucket", "x", 1).await;
    // What somebody has stopped at the cluster, and nobody recorded, works again all the same.
    let path = format!("users/{}", account.s3uid);
    let stopped = json!({ "suspended": true });
    app.admin("NL", "PATCH", &path, Some(&stopped)).await;
    let reply = app.call("admin", ACTION, parameters).await;
    assert_eq!(reply.refused(409), refused);
    app.put(&s3, "my-bucket", "y", 1).await;
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let resumed = entries.iter().filter(|entry| entry["action"] == ACTION);
    assert_eq!(resumed.count(), 1);
}

#[tokio::test]
async fn resume_account_lifts_the_suspension_of_an_unpaid_account_too() {
    let mut app = TestApp::start().await;
    spend_all(&app).await;
    let account = open_account(&app, 2, "unpaid").await;
    app.stack
        .advance_to("2026-02-12T12:00:00Z".parse().expect("a time"))
        .await
        .expect("time passes");
    app.log_in().await;
    let parameters = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let body = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(body["service"]["status"], "active");
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "unpaid", "x", 1).await;
}

#[tokio::test]
async fn resume_account_refuses_accounts_that_are_going() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    app.call("admin", "suspend_account", by_admin.clone())
        .await
        .ok();
    app.call("client", "delete_account", own).await.ok();
    let reply = app.call("admin", ACTION, by_admin).await;
    let wanted = text(ACTION, "S3 account is not suspended, or being deleted");
    assert_eq!(reply.refused(409), wanted);
}

#[tokio::test]
async fn resume_account_refuses_bad_tokens_and_parameters() {
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
