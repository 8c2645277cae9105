//! `end_access`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall, Preparation};
use tests::tap::Moment;
use tests::{Reply, TestApp};
use wharfage::domain::client::{ClientId, Role};

const ACTION: &str = "end_access";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(with_a_key_and_a_session(prepare)),
        |scene| scene.on_clients_for_admins(json!({})),
    )
    .on_own(|scene| json!({ "id": scene.own_client_id }))
);

async fn with_a_key_and_a_session(prepare: &Preparation<'_>) -> GoodCall {
    let app = prepare.app;
    let email = format!("{}@example.com", prepare.name);
    let client = json!({ "email": email, "currency": "EUR" });
    let client = app.call("admin", "create_client", client).await.ok();
    let parameters = json!({ "id": client["client"]["client_id"] });
    let key = app.call("admin", "create_api_key", parameters.clone());
    let key = json!({ "key": key.await.ok()["api_key"] });
    assert_eq!(app.auth("login", key).await.status, 200);
    GoodCall::by_admin(parameters)
}

/// Somebody with a key, and a session that was opened with it.
struct Person {
    id: u64,
    api_key: String,
    api_key_id: String,
    token: String,
}

impl Person {
    async fn call(&self, app: &TestApp, action: &str, mut parameters: Value) -> Reply {
        parameters["token"] = self.token.as_str().into();
        app.post_form(&format!("/s3/{action}"), &parameters).await
    }

    /// On this very task, so that it can be stalled or cut.
    async fn call_directly(&self, app: &TestApp, action: &str, parameters: Value) -> Reply {
        app.call_as(&self.token, action, parameters).await
    }

    async fn is_in(&self, app: &TestApp) -> bool {
        let info = app.auth("info", json!({ "token": self.token })).await;
        info.status == 200
    }

    async fn can_log_in(&self, app: &TestApp) -> bool {
        let login = app.auth("login", json!({ "key": self.api_key })).await;
        login.status == 200
    }
}

async fn log_in(app: &TestApp, api_key: &str) -> String {
    let login = app.auth("login", json!({ "key": api_key })).await;
    assert_eq!(login.status, 200, "{:#}", login.body);
    let token = login.body["result"]["token"].as_str();
    token.expect("a token").to_owned()
}

/// A key that `maker` makes for a client.
async fn key_by(app: &TestApp, maker: &str, id: u64) -> Person {
    let parameters = json!({ "token": maker, "id": id });
    let key = app.post_form("/s3/create_api_key", &parameters).await.ok();
    let api_key = key["api_key"].as_str().expect("a key").to_owned();
    let api_key_id = key["api_key_id"].as_str().expect("an id").to_owned();
    let token = log_in(app, &api_key).await;
    Person {
        id,
        api_key,
        api_key_id,
        token,
    }
}

/// A client that `maker` makes, with a key of `maker`'s.
async fn client_by(app: &TestApp, maker: &str, name: &str, role: &str) -> Person {
    let parameters = json!({
        "token": maker, "email": format!("{name}@example.com"), "currency": "EUR", "role": role,
    });
    let made = app.post_form("/s3/create_client", &parameters).await.ok();
    let id = made["client"]["client_id"].as_u64().expect("a number");
    key_by(app, maker, id).await
}

fn ids(list: &Value, name: &str) -> Vec<Value> {
    let list = list.as_array().expect("a list").iter();
    let mut ids: Vec<Value> = list.map(|row| row[name].clone()).collect();
    ids.sort_by_key(ToString::to_string);
    ids
}

#[tokio::test]
async fn end_access_ends_a_client_s_sessions_keys_and_what_it_made() {
    let app = TestApp::start_idle(&[]).await;
    let gone = client_by(&app, app.token("admin"), "gone", "admin").await;
    let second = client_by(&app, &gone.token, "second", "admin").await;
    let customer = client_by(&app, &gone.token, "customer", "client").await;
    let others = key_by(&app, &gone.token, app.client_id("client").0).await;
    let own = key_by(&app, &gone.token, gone.id).await;
    let unharmed = key_by(&app, app.token("admin"), app.client_id("client").0).await;

    let body = app
        .call("admin", ACTION, json!({ "id": gone.id }))
        .await
        .ok();
    let ended = [&gone, &second, &customer, &others, &own];
    let mut wanted: Vec<Value> = ended.iter().map(|key| json!(key.api_key_id)).collect();
    wanted.sort_by_key(ToString::to_string);
    assert_eq!(ids(&body["api_keys"], "api_key_id"), wanted);
    assert_eq!(body["complete"], true);
    assert_eq!(body["administrators"][0]["role"], "admin");
    for person in ended {
        assert!(!person.is_in(&app).await && !person.can_log_in(&app).await);
    }
    assert!(unharmed.is_in(&app).await && unharmed.can_log_in(&app).await);
    let mut shown = masked(&app, &body);
    shown["api_keys"] = "[the keys]".into();
    assert_json_snapshot!("success", shown);

    // Again, there is nothing left; a new key lets him in as what he still is.
    let again = app
        .call("admin", ACTION, json!({ "id": gone.id }))
        .await
        .ok();
    assert_eq!(
        (&again["api_keys"], &again["complete"]),
        (&json!([]), &json!(true))
    );
    let back = key_by(&app, app.token("admin"), gone.id).await;
    back.call(
        &app,
        "add_credit",
        json!({ "id": 888_888, "amount": 1, "reference": "x" }),
    )
    .await
    .refused(404);
    assert!(!gone.is_in(&app).await);

    // What happened stands where it belongs, and with who did it.
    let history = app.call("client", "history", json!({})).await.ok();
    let mut entries = history["history"].as_array().expect("a list").iter();
    let entry = entries.find(|entry| entry["action"] == "revoke_api_key");
    assert_eq!(
        entry.expect("one of its keys was revoked")["details"],
        json!({ "api_key_id": others.api_key_id, "name": "API key", "end_access": gone.id })
    );
}

#[tokio::test]
async fn end_access_with_demote_leaves_neither_the_client_nor_those_it_made_administrators() {
    let app = TestApp::start_idle(&[]).await;
    let gone = client_by(&app, app.token("admin"), "gone", "admin").await;
    let made = client_by(&app, &gone.token, "made", "admin").await;
    let promotion = json!({ "id": app.client_id("client2"), "role": "admin" });
    gone.call(&app, "update_client", promotion).await.ok();
    // One whose key somebody else made: his session ends with the role.
    let key = key_by(&app, app.token("admin"), made.id).await;
    let parameters = json!({ "id": gone.id, "demote": 1 });
    let body = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(body["role"], "client");
    assert_eq!(
        ids(&body["administrators"], "client_id"),
        [json!(app.client_id("client2")), json!(made.id)]
    );
    assert_eq!(ids(&body["administrators"], "role"), ["client", "client"]);
    assert!(!key.is_in(&app).await);
    let login = app.auth("login", json!({ "key": key.api_key })).await;
    assert_eq!(login.body["result"]["role"], "client");
}

#[tokio::test]
async fn a_dismissed_administrator_s_old_session_is_over_also_when_he_is_promoted_again() {
    let app = TestApp::start_idle(&[]).await;
    let person = client_by(&app, app.token("admin"), "person", "admin").await;
    for role in ["client", "admin"] {
        let parameters = json!({ "id": person.id, "role": role });
        app.call("admin", "update_client", parameters).await.ok();
        assert!(!person.is_in(&app).await, "{role}");
    }
    let again = log_in(&app, &person.api_key).await;
    assert_eq!(
        app.auth("info", json!({ "token": again })).await.status,
        200
    );
}

#[tokio::test]
async fn end_access_that_dies_anywhere_is_completed_by_the_next() {
    let app = TestApp::start_idle(&[]).await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < 80, "no end");
            let name = format!("{moment:?}-{index}").to_lowercase();
            let gone = client_by(&app, app.token("admin"), &name, "admin").await;
            let second = client_by(&app, &gone.token, &format!("second-{name}"), "admin").await;
            let others = key_by(&app, &gone.token, app.client_id("client").0).await;
            let parameters = json!({ "id": gone.id, "demote": 1 });
            let call = app.call_directly("admin", ACTION, parameters.clone());
            let is_whole = app.tap.crash_at(index, moment, call).await.is_some();
            let body = app.call("admin", ACTION, parameters).await.ok();
            assert_eq!(body["complete"], true);
            for person in [&gone, &second, &others] {
                assert!(!person.is_in(&app).await, "{moment:?} {index}");
                assert!(!person.can_log_in(&app).await, "{moment:?} {index}");
                let history = json!({ "client_id": person.id, "limit": 500 });
                let history = app.call("admin", "history", history).await.ok();
                let entries = history["history"].as_array().expect("a list").iter();
                let revoked = entries.filter(|entry| {
                    entry["action"] == "revoke_api_key"
                        && entry["details"]["api_key_id"] == person.api_key_id
                });
                assert_eq!(revoked.count(), 1, "{moment:?} {index}");
            }
            assert_eq!(body["administrators"][0]["role"], "client");
            if is_whole {
                assert!(index > 12, "{index} calls are too few to have been all");
                break;
            }
        }
    }
}

/// Whatever he had begun when his access ended: it lets nobody in.
#[tokio::test]
async fn nothing_that_end_access_overtakes_lets_anybody_in() {
    let app = TestApp::start_idle(&[]).await;
    let mut number = 0;
    for action in ["create_api_key", "create_client", "update_client"] {
        for index in 0.. {
            assert!(index < 20, "no end");
            number += 1;
            let gone =
                client_by(&app, app.token("admin"), &format!("gone-{number}"), "admin").await;
            let plain = client_by(&app, app.token("admin"), &format!("x-{number}"), "client").await;
            let email = format!("new-{number}@example.com");
            let parameters = match action {
                "create_api_key" => json!({ "id": plain.id }),
                "create_client" => json!({ "email": email, "currency": "EUR", "role": "admin" }),
                _ => json!({ "id": plain.id, "role": "admin" }),
            };
            let call = gone.call_directly(&app, action, parameters);
            let stalled = app.tap.stall_at(index, Moment::Before, call).await;
            let end = json!({ "id": gone.id, "demote": 1 });
            let ended = app.call("admin", ACTION, end).await.ok();
            let Err(stalled) = stalled else {
                // It was whole before: then it was seen.
                let seen = ended.to_string();
                assert!(seen.contains(&plain.id.to_string()) || action == "create_client");
                break;
            };
            let reply = stalled.go_on().await;
            assert_eq!(
                reply.refused(401),
                text(action, "invalid token"),
                "before call {index}"
            );
            let database = &app.context().database;
            let keys = database
                .api_keys_of(ClientId(plain.id), 10)
                .await
                .expect("keys");
            assert_eq!(keys.len(), 1, "{action} before call {index}");
            let client = database
                .client(ClientId(plain.id))
                .await
                .expect("an answer");
            assert_eq!(client.map(|client| client.role), Some(Role::Client));
            let made = database.client_id_by_email(&email).await;
            assert_eq!(made.expect("an answer"), None);
        }
    }
}

#[tokio::test]
async fn of_two_administrators_who_end_each_other_at_once_one_stays() {
    let app = TestApp::start_idle(&[]).await;
    for index in 0.. {
        assert!(index < 60, "no end");
        let one = client_by(&app, app.token("admin"), &format!("one-{index}"), "admin").await;
        let two = client_by(&app, app.token("admin"), &format!("two-{index}"), "admin").await;
        let call = one.call_directly(&app, ACTION, json!({ "id": two.id, "demote": 1 }));
        let stalled = app.tap.stall_at(index, Moment::Before, call).await;
        let second = two
            .call_directly(&app, ACTION, json!({ "id": one.id, "demote": 1 }))
            .await;
        let is_whole = match stalled {
            Ok(_) => true,
            Err(stalled) => {
                let first = stalled.go_on().await;
                assert!(
                    (first.status == 200) != (second.status == 200),
                    "before call {index}: {:#} {:#}",
                    first.body,
                    second.body
                );
                false
            }
        };
        let (one, two) = (one.is_in(&app).await, two.is_in(&app).await);
        assert!(one != two, "before call {index}: {one} {two}");
        if is_whole {
            return;
        }
    }
}

#[tokio::test]
async fn end_access_takes_care_that_an_administrator_does_not_lock_himself_out() {
    let app = TestApp::start_idle(&[]).await;
    let one = client_by(&app, app.token("admin"), "one", "admin").await;
    let call = async |parameters: Value| {
        let mut all = parameters;
        all["id"] = one.id.into();
        one.call(&app, ACTION, all).await
    };
    let before = app.world().await;
    let wanted = "this would end your own access: send confirm=1 and a successor";
    assert_eq!(call(json!({})).await.refused(409), text(ACTION, wanted));
    let reply = call(json!({ "confirm": 1 })).await;
    let wanted = "missing parameter successor";
    assert_eq!(reply.refused(400), text(ACTION, wanted));
    let reply = call(json!({ "confirm": 1, "successor": 1, "demote": 1 })).await;
    let wanted = "administrators cannot change their own role";
    assert_eq!(reply.refused(409), text(ACTION, wanted));
    let no_successor = async |id: u64| {
        let reply = call(json!({ "confirm": 1, "successor": id })).await;
        let wanted =
            "the successor must be another administrator with an API key that you did not make";
        assert_eq!(reply.refused(409), text(ACTION, wanted));
    };
    // Himself, nobody, one who is no administrator.
    for id in [one.id, 888_888, app.client_id("client").0] {
        no_successor(id).await;
    }
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    // One who comes in by his key only.
    let made = client_by(&app, &one.token, "made", "admin").await;
    no_successor(made.id).await;
    key_by(&app, app.token("admin"), made.id).await;
    let body = call(json!({ "confirm": 1, "successor": made.id }))
        .await
        .ok();
    assert_eq!(body["complete"], true);
    assert!(!one.is_in(&app).await && !one.can_log_in(&app).await && !made.is_in(&app).await);
}

#[tokio::test]
async fn end_access_leaves_the_caller_the_key_that_he_is_in_by() {
    let app = TestApp::start_idle(&[]).await;
    let gone = client_by(&app, app.token("admin"), "gone", "admin").await;
    let caller = client_by(&app, &gone.token, "caller", "admin").await;
    let parameters = json!({ "id": gone.id, "demote": 1 });
    let body = caller.call(&app, ACTION, parameters.clone()).await.ok();
    assert_eq!(body["kept_api_key"]["api_key_id"], caller.api_key_id);
    assert_eq!(
        ids(&body["api_keys"], "api_key_id"),
        [json!(gone.api_key_id)]
    );
    assert_eq!(body["administrators"][0]["role"], "admin");
    assert!(caller.is_in(&app).await);
    // With a key of his own he ends that one too.
    let own = key_by(&app, &caller.token, caller.id).await;
    let body = own.call(&app, ACTION, parameters).await.ok();
    assert_eq!(body["kept_api_key"], Value::Null);
    assert_eq!(
        ids(&body["api_keys"], "api_key_id"),
        [json!(caller.api_key_id)]
    );
    assert!(own.is_in(&app).await && !caller.is_in(&app).await);
}

#[tokio::test]
async fn end_access_takes_keys_by_the_hundred() {
    let app = TestApp::start_idle(&[]).await;
    let gone = client_by(&app, app.token("admin"), "gone", "admin").await;
    for _ in 0..105 {
        let key = json!({ "id": app.client_id("client") });
        gone.call(&app, "create_api_key", key).await.ok();
    }
    let end = async || {
        app.call("admin", ACTION, json!({ "id": gone.id }))
            .await
            .ok()
    };
    let (first, second) = (end().await, end().await);
    assert_eq!(
        (&first["complete"], &second["complete"]),
        (&json!(false), &json!(true))
    );
    let counts = [first, second].map(|body| body["api_keys"].as_array().map(Vec::len));
    assert_eq!(counts, [Some(100), Some(6)]);
}

#[tokio::test]
async fn end_access_refuses_bad_tokens_and_parameters() {
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
    let reply = app.call("admin", ACTION, json!({ "id": 888_888 })).await;
    assert_eq!(reply.refused(404), text(ACTION, "customer not found"));
    for name in ["demote", "confirm"] {
        let values = [json!(2), json!("x"), json!(-1)];
        let wanted = "must be a whole number from 0 to 1";
        contract.refuses(name, wanted, &values).await;
    }
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}
