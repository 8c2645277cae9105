//! `update_traffic_info`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::Example;

const ACTION: &str = "update_traffic_info";

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
async fn update_traffic_info_collects_an_account_s_figures_now() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 1 << 20).await;
    app.put(&s3, "my-bucket", "b", 1 << 19).await;
    for _ in 0..3 {
        let object = s3
            .get_object()
            .bucket("my-bucket")
            .key("b")
            .send()
            .await
            .expect("an object");
        object.body.collect().await.expect("its bytes");
    }
    let figures = async || {
        let users = app.call("client", "get_users", json!({})).await.ok();
        let row = &users["s3_users"][0];
        (
            row["traffic"].as_f64().expect("a number"),
            row["storage_usage"].as_f64().expect("a number"),
        )
    };
    assert_eq!(figures().await, (0.0, 0.0));
    let parameters = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let body = app.call("admin", ACTION, parameters.clone()).await.ok();
    let mb = 1.0 / 1024.0;
    let traffic = body["traffic"].as_f64().expect("a number");
    // Three times half a megabyte, and little else: what was uploaded is not sent.
    assert!((1.5 * mb..1.6 * mb).contains(&traffic), "{traffic}");
    assert_eq!(body["storage_usage"], 1.5 * mb);
    assert_eq!(body["metering"]["total_traffic_period_gb"], body["traffic"]);
    assert_eq!(body["metering"]["total_storage_peak_gb"], 1.5 * mb);
    assert_eq!(figures().await, (traffic, 1.5 * mb));
    // Collecting again changes nothing, by the account's number too.
    let parameters = json!({ "account_id": account.id, "id": app.client_id("client") });
    assert_eq!(
        app.call("admin", ACTION, parameters.clone()).await.ok(),
        body
    );

    // The peak outlives what was stored.
    s3.delete_object()
        .bucket("my-bucket")
        .key("a")
        .send()
        .await
        .expect("deleted");
    let mut body = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(body["storage_usage"], 0.5 * mb);
    assert_eq!(body["metering"]["total_storage_peak_gb"], 1.5 * mb);
    body["traffic"] = "[gb]".into();
    body["metering"]["total_traffic_period_gb"] = "[gb]".into();
    assert_json_snapshot!("success", masked(&app, &body));
}

#[tokio::test]
async fn update_traffic_info_is_for_admins_only() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await;
    assert_eq!(
        reply.refused(403),
        text(ACTION, "allowed to administrators only")
    );
}

#[tokio::test]
async fn update_traffic_info_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "id": app.client_id("client") }),
    };
    contract.refuses_missing(&["s3uid"]).await;
    contract.refuses_bad_tokens().await;
    let contract = Contract {
        parameters: json!({ "s3uid": account.s3uid }),
        ..contract
    };
    contract.hides_the_account_from_others(&account).await;
}
