//! `revoke_api_key`.

use insta::assert_json_snapshot;
use lambda_http::RequestExt;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, text};
use tests::examples::{Example, GoodCall, Preparation, Scene};
use tests::tap::Moment;
use wharfage::domain::credential::hash;
use wharfage::runtime::Entry;

const ACTION: &str = "revoke_api_key";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(with_a_session(prepare)),
        |scene| {
            let key = scene.app.stack.seeded().api_key("client2");
            Scene::for_admins(
                json!({ "api_key_id": hash(key) }),
                json!({ "api_key_id": hash("nobody's") }),
            )
        },
    )
    .on_own(|scene| {
        let key = scene.app.stack.seeded().api_key("client");
        json!({ "api_key_id": hash(key) })
    })
);

async fn with_a_session(prepare: &Preparation<'_>) -> GoodCall {
    let app = prepare.app;
    let parameters = json!({ "id": app.client_id("client") });
    let key = app.call("admin", "create_api_key", parameters).await.ok();
    let login = app.auth("login", json!({ "key": key["api_key"] })).await;
    assert_eq!(login.status, 200);
    GoodCall::by_admin(json!({ "api_key_id": key["api_key_id"] }))
}

async fn new_key(app: &TestApp) -> Value {
    let parameters = json!({ "id": app.client_id("client"), "name": "to be revoked" });
    app.call("admin", "create_api_key", parameters).await.ok()
}

#[tokio::test]
async fn revoke_api_key_ends_the_key_and_its_sessions_at_once() {
    let app = TestApp::start().await;
    let key = new_key(&app).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let login = app.auth("login", json!({ "key": key["api_key"] })).await;
        tokens.push(login.body["result"]["token"].clone());
    }
    let list = async |token: &Value| {
        app.post_json("/s3/list_plans", &json!({ "token": token }))
            .await
    };
    for token in &tokens {
        list(token).await.ok();
    }
    let parameters = json!({ "api_key_id": key["api_key_id"] });
    let mut body = app.call("admin", ACTION, parameters.clone()).await.ok();
    assert_eq!(body["api_key_id"], key["api_key_id"]);
    body["api_key_id"] = "[SHA-256 of the key]".into();
    assert_json_snapshot!("success", body);
    for token in &tokens {
        let refused = list(token).await.refused(401);
        assert_eq!(refused, text("list_plans", "invalid token"));
        let info = app.auth("info", json!({ "token": token })).await;
        assert_eq!(info.status, 401);
    }
    let login = app.auth("login", json!({ "key": key["api_key"] })).await;
    assert_eq!(login.status, 401);
    // The client's other key and its sessions live on.
    app.call("client", "list_plans", json!({})).await.ok();
    let other = app.stack.seeded().api_key("client");
    assert_eq!(app.auth("login", json!({ "key": other })).await.status, 200);

    let reply = app.call("admin", ACTION, parameters).await;
    assert_eq!(reply.refused(404), text(ACTION, "API key not found"));
    let history = app.call("client", "history", json!({})).await.ok();
    let entries = history["history"].as_array().expect("a list");
    let revoked: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["action"] == ACTION)
        .collect();
    assert_eq!(revoked.len(), 1);
    assert_eq!(
        revoked[0]["details"],
        json!({ "api_key_id": key["api_key_id"], "name": "to be revoked" })
    );
}

#[tokio::test]
async fn revoke_api_key_that_dies_anywhere_is_recorded_once_and_leaves_no_session() {
    let app = TestApp::start_idle(&[]).await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < 20, "no end");
            let key = new_key(&app).await;
            let login = app.auth("login", json!({ "key": key["api_key"] })).await;
            let token = login.body["result"]["token"].clone();
            let parameters = json!({ "api_key_id": key["api_key_id"] });
            let revoke = || app.call_directly("admin", ACTION, parameters.clone());
            let ended = app.tap.crash_at(index, moment, revoke()).await;
            let is_whole = ended.is_some();
            ended.map(tests::Reply::ok);
            let again = revoke().await;
            assert!([200, 404].contains(&again.status), "{:#}", again.body);
            let list = json!({ "token": token });
            app.post_json("/s3/list_plans", &list).await.refused(401);
            let login = app.auth("login", json!({ "key": key["api_key"] })).await;
            assert_eq!(login.status, 401);
            let parameters = json!({ "limit": 100 });
            let history = app.call("client", "history", parameters).await.ok();
            let entries = history["history"].as_array().expect("a list").iter();
            let revoked = entries.filter(|entry| {
                entry["action"] == ACTION && entry["details"]["api_key_id"] == key["api_key_id"]
            });
            assert_eq!(revoked.count(), 1, "{moment:?} call {index}");
            if is_whole {
                assert!(index >= 6, "{index} calls are too few to have been all");
                break;
            }
        }
    }
}

#[tokio::test]
async fn revoke_api_key_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let key = new_key(&app).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "api_key_id": key["api_key_id"] }),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract.refuses_missing(&["api_key_id"]).await;
    contract.takes_a_line("api_key_id").await;
    let values = [
        json!("x"),
        key["api_key"].clone(),
        json!("0".repeat(63)),
        json!("0".repeat(65)),
        json!("g".repeat(64)),
        json!("é".repeat(32)),
    ];
    contract
        .refuses("api_key_id", "must be 64 hexadecimal digits", &values)
        .await;
    let absent = json!({ "api_key_id": hash("nobody's") });
    let reply = app.call("admin", ACTION, absent).await;
    assert_eq!(reply.refused(404), text(ACTION, "API key not found"));
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn a_login_that_a_revocation_overtakes_opens_no_session() {
    let app = TestApp::start_idle(&[]).await;
    let Entry::Http(auth_php) = tests::function("auth_php").entry else {
        panic!("it answers requests");
    };
    for index in 0.. {
        let key = new_key(&app).await;
        let login = json!({ "action": "login", "key": key["api_key"] });
        let login = tests::form_request("/auth.php", &login).with_raw_http_path("/auth.php");
        let login = auth_php(app.context(), login);
        let stalled = app.tap.stall_at(index, Moment::Before, login).await;
        let parameters = json!({ "api_key_id": key["api_key_id"] });
        app.call_directly("admin", ACTION, parameters).await.ok();
        let stalled = match stalled {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                assert!(index >= 4, "{index} calls are too few to have been all");
                return;
            }
            Err(stalled) => stalled,
        };
        let response = stalled.go_on().await;
        assert_eq!(response.status(), 401, "before call {index}");
    }
}

#[tokio::test]
async fn a_key_that_is_made_while_its_maker_s_is_revoked_is_not_there() {
    let app = TestApp::start_idle(&[]).await;
    let admin = json!({ "email": "second@example.com", "currency": "EUR", "role": "admin" });
    let admin = app.call("admin", "create_client", admin).await.ok();
    let id = json!({ "id": admin["client"]["client_id"] });
    for index in 0.. {
        let key = app.call("admin", "create_api_key", id.clone()).await.ok();
        let login = app.auth("login", json!({ "key": key["api_key"] })).await;
        let token = login.body["result"]["token"].as_str().expect("a token");
        let parameters = json!({ "id": app.client_id("client2"), "name": "late" });
        let call = app.call_as(token, "create_api_key", parameters);
        let stalled = app.tap.stall_at(index, Moment::Before, call).await;
        let parameters = json!({ "api_key_id": key["api_key_id"] });
        app.call_directly("admin", ACTION, parameters).await.ok();
        let Err(stalled) = stalled else {
            assert!(index >= 4, "{index} calls are too few to have been all");
            return;
        };
        let reply = stalled.go_on().await;
        let wanted = text("create_api_key", "invalid token");
        assert_eq!(reply.refused(401), wanted, "before call {index}");
        let database = &app.context().database;
        let keys = database.api_keys_of(app.client_id("client2"), 10).await;
        assert_eq!(keys.expect("DynamoDB answers").len(), 1);
    }
}
