//! `create_client`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, text};
use tests::examples::{Example, GoodCall, Scene};

const ACTION: &str = "create_client";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let email = format!("{}@example.com", prepare.name);
            let parameters = json!({ "email": email, "currency": "EUR" });
            Box::pin(async { GoodCall::by_admin(parameters) })
        },
        |_| {
            let with = |email: &str| json!({ "email": email, "currency": "EUR" });
            Scene::for_admins(with("client2@example.com"), with("nobody@example.com"))
        },
    )
    .on_own(|_| json!({ "email": "mine@example.com", "currency": "EUR" }))
);

#[tokio::test]
async fn create_client_makes_a_client_that_can_be_given_a_key() {
    let app = TestApp::start().await;
    let parameters = json!({
        "email": "New.Client@Example.com",
        "currency": "usd",
        "billing": "resellers",
        "tags": "vip, s3_test,",
    });
    let body = app.call("admin", ACTION, parameters).await.ok();
    assert_json_snapshot!("success", body);
    let client_id = body["client"]["client_id"].as_u64().expect("a number");
    assert!(client_id > 3, "{client_id}");

    let key = app
        .call("admin", "create_api_key", json!({ "id": client_id }))
        .await
        .ok();
    let login = app.auth("login", json!({ "key": key["api_key"] })).await;
    let session = &login.body["result"];
    assert_eq!(session["customer_id"], client_id);
    assert_eq!(session["role"], "client");
    assert_eq!(session["email"], "new.client@example.com");
    // It may order what its tag shows, once it has credit.
    let order = json!({ "token": session["token"], "plan_id": 4, "bucket_name": "a-first" });
    let refused = app.post_json("/s3/create_order", &order).await;
    assert_eq!(refused.status, 402, "{:#}", refused.body);
    let credit = json!({ "id": client_id, "amount": 20, "reference": "first" });
    app.call("admin", "add_credit", credit).await.ok();
    app.post_json("/s3/create_order", &order).await.ok();
    // What became of it is its own to see.
    let history = app
        .post_json("/s3/history", &json!({ "token": session["token"] }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let made = entries
        .iter()
        .find(|entry| entry["action"] == ACTION)
        .expect("its making");
    assert_eq!(made["details"], body["client"]);

    let plain = json!({ "email": "plain@example.com", "currency": "EUR" });
    let plain = app.call("admin", ACTION, plain).await.ok();
    assert_eq!(plain["client"]["billing"], "direct");
    assert_eq!(plain["client"]["role"], "client");
    assert_eq!(plain["client"]["tags"], json!([]));
    assert_ne!(plain["client"]["client_id"], client_id);
}

#[tokio::test]
async fn create_client_refuses_an_email_that_is_taken() {
    let app = TestApp::start().await;
    let before = app.world().await;
    for email in ["client@example.com", "CLIENT@example.com"] {
        let parameters = json!({ "email": email, "currency": "EUR" });
        let reply = app.call("admin", ACTION, parameters).await;
        let wanted = text(ACTION, "another client has this email");
        assert_eq!(reply.refused(409), wanted);
    }
    app.world().await.assert_unchanged_since(&before, ACTION);

    // Of several at once, one gets it.
    let parameters = json!({ "email": "one@example.com", "currency": "EUR" });
    let calls = (0..4).map(|_| app.call("admin", ACTION, parameters.clone()));
    let mut made = 0;
    for reply in futures::future::join_all(calls).await {
        if reply.status == 200 {
            made += 1;
        } else {
            let wanted = text(ACTION, "another client has this email");
            assert_eq!(reply.refused(409), wanted);
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn create_client_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "email": "new@example.com", "currency": "EUR" }),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract.refuses_missing(&["email", "currency"]).await;
    refuses_bad_fields(&contract).await;
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}

/// What no client may be given, by whichever action.
pub async fn refuses_bad_fields(contract: &Contract<'_>) {
    for name in ["email", "currency", "billing", "role", "tags"] {
        contract.takes_a_line(name).await;
    }
    let values = [
        json!("x"),
        json!("@example.com"),
        json!("a@b"),
        json!("a b@example.com"),
        json!("a@b@example.com"),
        json!(format!("{}@example.com", "a".repeat(243))),
        json!(7),
    ];
    contract
        .refuses("email", "must be an email address", &values)
        .await;
    let values = ["EURO", "E", "XYZ", "978", "€", "EU R"].map(Value::from);
    contract
        .refuses("currency", "must be an ISO 4217 currency", &values)
        .await;
    let rule = "may hold up to 64 of A-Z, a-z, 0-9, hyphen, underscore and dot";
    let values = ["a b", "a#b", "é", "a/b", &"a".repeat(65)].map(Value::from);
    contract.refuses("billing", rule, &values).await;
    let values = ["root", "Admin", "administrator", "1"].map(Value::from);
    contract
        .refuses("role", "must be client or admin", &values)
        .await;
    let many: Vec<String> = (0..21).map(|number| number.to_string()).collect();
    contract
        .refuses(
            "tags",
            "must be at most 20, with commas between",
            &[many.join(",").into()],
        )
        .await;
}
