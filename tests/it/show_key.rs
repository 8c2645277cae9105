//! `show_key`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::Example;

const ACTION: &str = "show_key";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(prepare.with_account(json!({ "s3_key": "secret_key" }))),
    |scene| {
        ["secret_key", "access_key"]
            .map(|s3_key| scene.on_accounts(json!({ "s3_key": s3_key })))
            .concat()
    },
));

#[tokio::test]
async fn show_key_reveals_the_key_asked_for_and_notes_it() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let show = async |s3_key: &str| {
        let parameters = json!({ "s3uid": account.s3uid, "s3_key": s3_key });
        app.call("client", ACTION, parameters).await.ok()
    };
    let access_key = show("access_key").await;
    let secret_key = show("secret_key").await;
    assert_json_snapshot!("access_key", masked(&app, &access_key));
    assert_json_snapshot!("secret_key", masked(&app, &secret_key));

    // They are the account's own: they work, and get_buckets shows the same.
    let [access_key, secret_key] = [&access_key["access_key"], &secret_key["secret_key"]]
        .map(|key| key.as_str().expect("a text"));
    let s3 = app.s3_with("NL", access_key, secret_key);
    app.put(&s3, "my-bucket", "x", 1).await;
    let list = app
        .call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(
        (&list["access_key"], &list["secret_key"]),
        (&json!(access_key), &json!(secret_key))
    );

    // The alias of s3_key, the account by its number, an admin who names the client.
    let parameters = json!({ "account_id": account.id, "key_type": "access_key" });
    assert_eq!(
        app.call("client", ACTION, parameters).await.ok()["access_key"],
        access_key
    );
    let parameters =
        json!({ "s3uid": account.s3uid, "id": app.client_id("client"), "s3_key": "secret_key" });
    assert_eq!(
        app.call("admin", ACTION, parameters).await.ok()["secret_key"],
        secret_key
    );

    // Who saw which key stands in history; the keys do not.
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let seen: Vec<_> = history["history"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["action"] == ACTION)
        .map(|entry| (entry["role"].clone(), entry["details"]["s3_key"].clone()))
        .collect();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen.iter().filter(|(role, _)| role == "admin").count(), 1);
    assert_eq!(
        seen.iter()
            .filter(|(_, s3_key)| s3_key == "secret_key")
            .count(),
        2
    );
    assert!(!history.to_string().contains(secret_key));
}

#[tokio::test]
async fn show_key_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "s3_key": "secret_key" }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid", "s3_key"]).await;
    contract.takes_a_line("s3_key").await;
    let values = [
        json!("x"),
        json!("Secret_key"),
        json!("secret_key "),
        json!("access_key,secret_key"),
    ];
    contract
        .refuses("s3_key", "must be access_key or secret_key", &values)
        .await;
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn show_key_says_nothing_of_a_fault_but_where_to_find_it() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "s3_key": "secret_key" });
    let call = app.call_directly("client", ACTION, parameters);
    let reply = app.tap.without(|name| name.starts_with("KMS"), call).await;
    assert_eq!(reply.retry_after, Some(5));
    // Called past the HTTP API, so there is no request id.
    let wanted = text(ACTION, "internal error, request unknown");
    assert_eq!(reply.refused(503), wanted);
}
