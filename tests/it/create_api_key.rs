//! `create_api_key`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall};
use wharfage::domain::credential::hash;

const ACTION: &str = "create_api_key";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let parameters = json!({ "id": prepare.app.client_id("client") });
            Box::pin(async { GoodCall::by_admin(parameters) })
        },
        |scene| scene.on_clients_for_admins(json!({})),
    )
    .on_own(|scene| json!({ "id": scene.own_client_id }))
);

#[tokio::test]
async fn create_api_key_makes_a_key_that_logs_in() {
    let app = TestApp::start().await;
    let id = app.client_id("client");
    let parameters = json!({ "id": id, "name": "for the panel" });
    let body = app.call("admin", ACTION, parameters.clone()).await.ok();
    let key = body["api_key"].as_str().expect("a text");
    assert_eq!(body["api_key_id"], hash(key));
    let mut shown = masked(&app, &body);
    shown["api_key_id"] = "[SHA-256 of the key]".into();
    assert_json_snapshot!("success", shown);

    let login = app.auth("login", json!({ "key": key })).await;
    assert_eq!(login.body["result"]["customer_id"], id.0);
    assert_eq!(login.body["result"]["role"], "client");
    // A further one: the keys before go on working.
    let second = app.call("admin", ACTION, json!({ "id": id })).await.ok();
    assert_eq!(second["name"], "API key");
    assert_ne!(second["api_key"], body["api_key"]);
    for key in [key, app.stack.seeded().api_key("client")] {
        assert_eq!(app.auth("login", json!({ "key": key })).await.status, 200);
    }
    // History has that it was made, and not the key.
    let history = app.call("client", "history", json!({})).await.ok();
    let entries = history["history"].as_array().expect("a list");
    let made = entries
        .iter()
        .find(|entry| entry["details"]["api_key_id"] == body["api_key_id"])
        .expect("its making");
    assert_eq!(
        (&made["action"], &made["role"]),
        (&json!(ACTION), &json!("admin"))
    );
    assert_eq!(made["details"]["name"], "for the panel");
    assert!(!history.to_string().contains(key));
}

#[tokio::test]
async fn create_api_key_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "id": app.client_id("client") }),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract.refuses_missing(&["id"]).await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    contract.takes_a_line("name").await;
    let reply = app.call("admin", ACTION, json!({ "id": 888_888 })).await;
    assert_eq!(reply.refused(404), text(ACTION, "customer not found"));
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}
