//! What an action does not take is refused by name; what it says it takes, it reads.

use functions::ACTIONS;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::text;
use tests::examples::{Example, GoodCall};
use wharfage::http::Action;

/// Names of the same thing: where the first is there, the others are not read.
const ALIASES: [&[&str]; 5] = [
    &["s3uid", "account_id"],
    &["bucket_name", "bucket"],
    &["filename", "file"],
    &["s3_key", "key_type"],
    &["max_keys", "limit"],
];

/// For each action a call that would do something.
async fn good_calls(app: &TestApp) -> Vec<(&'static Action, GoodCall)> {
    app.top_up("client", "for many orders", 1_000_000).await;
    let mut calls = Vec::new();
    for action in ACTIONS {
        let name = action.name.replace('_', "-");
        calls.push((*action, Example::of(action).prepare(app, &name).await));
    }
    calls
}

#[tokio::test]
async fn every_action_refuses_by_name_what_it_does_not_take_and_does_nothing() {
    let app = TestApp::start_idle(&[]).await;
    let calls = good_calls(&app).await;
    let before = app.world().await;
    for (action, call) in calls {
        let mut parameters = call.full();
        parameters["no_such_name"] = "a-secret-value".into();
        let refused = text(action.name, "unknown parameter: no_such_name");
        let reply = app.call(call.who, action.name, parameters.clone()).await;
        assert_eq!(reply.refused(400), refused);
        // Empty, and of any form.
        for value in [Value::Null, json!(""), json!([1]), json!({ "a": 1 })] {
            parameters["no_such_name"] = value;
            let reply = app.call(call.who, action.name, parameters.clone()).await;
            assert_eq!(reply.refused(400), refused);
        }
        parameters["action"] = action.name.into();
        parameters["token"] = app.token(call.who).into();
        parameters["no_such_name"] = "1".into();
        for path in [format!("/s3/{}", action.name), "/s3.php".into()] {
            let reply = app.post_form(&path, &parameters).await;
            assert_eq!(reply.refused(400), refused);
        }
    }
    for (path, action, wanted) in [
        (
            "/auth.php",
            "login",
            "auth/login: unknown parameter: colour",
        ),
        ("/auth.php", "info", "auth/info: unknown parameter: colour"),
        (
            "/auth.php",
            "logout",
            "auth/logout: unknown parameter: colour",
        ),
        (
            "/eq_callback.php",
            "check",
            "eq_callback/check: unknown parameter: colour",
        ),
    ] {
        let mut parameters = json!({ "action": action, "colour": "red" });
        if action != "check" && action != "login" {
            parameters["token"] = app.token("client2").into();
        }
        let reply = app.post_json(path, &parameters).await;
        assert_eq!(reply.refused(400), wanted);
    }
    let after = app.world().await;
    after.assert_unchanged_since(&before, "what was refused");
}

/// A name among those that an action takes and does not read would be swallowed. A list is no value of any.
#[tokio::test]
async fn every_action_reads_what_it_says_it_takes() {
    let app = TestApp::start_idle(&[]).await;
    for (action, call) in good_calls(&app).await {
        for taken in action.takes.all() {
            let name = match taken.strip_suffix('*') {
                Some(prefix) => format!("{prefix}eur"),
                None => taken.to_owned(),
            };
            let mut parameters = call.full();
            parameters["token"] = app.token(call.who).into();
            let fields = parameters.as_object_mut().expect("an object");
            for aliases in ALIASES {
                if aliases.contains(&taken) {
                    fields.retain(|name, _| !aliases.contains(&name.as_str()));
                }
            }
            parameters[&name] = json!(["x"]);
            let path = format!("/s3/{}", action.name);
            let reply = app.post_json(&path, &parameters).await;
            let (status, words) = match name.as_str() {
                "token" => (401, "invalid token".to_owned()),
                "price" => (400, format!("invalid parameter {name}: must be an object")),
                _ => (400, format!("invalid parameter {name}: must be a text")),
            };
            assert_eq!(
                (reply.status, reply.body["message"].as_str()),
                (status, Some(text(action.name, &words).as_str())),
                "{} {name}",
                action.name
            );
        }
    }
}

#[tokio::test]
async fn slips_in_what_money_and_reports_hang_on_are_refused_with_what_was_meant() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let before = app.world().await;
    for (action, parameters, slip) in [
        (
            "create_plan",
            json!({ "name": "x", "quota": 1, "monthly_eur": 1, "storage_overage_eur": 1 }),
            "storage_overage_eur (did you mean storage_overage_price_eur?)",
        ),
        (
            "update_plan",
            json!({ "plan_id": 1, "storage_limt": "" }),
            "storage_limt (did you mean storage_limit?)",
        ),
        (
            "change_plan",
            json!({ "s3uid": account.s3uid, "plan_id": 3, "whn": "now" }),
            "whn (did you mean when?)",
        ),
        (
            "list_invoices",
            json!({ "state": "open" }),
            "state (did you mean status?)",
        ),
        (
            "get_users",
            json!({ "stauts": "suspended" }),
            "stauts (did you mean status?)",
        ),
        (
            "update_client",
            json!({ "id": 1, "credit_limt": 1 }),
            "credit_limt (did you mean credit_limit?)",
        ),
        (
            "create_order",
            json!({ "plan_id": 1, "bucket_name": "new-bucket", "idempotencykey": "x" }),
            "idempotencykey (did you mean idempotency_key?)",
        ),
    ] {
        let reply = app.call("admin", action, parameters).await;
        let wanted = text(action, &format!("unknown parameter: {slip}"));
        assert_eq!(reply.refused(400), wanted);
    }
    let after = app.world().await;
    after.assert_unchanged_since(&before, "what was refused");
}

#[tokio::test]
async fn what_may_be_a_secret_in_the_place_of_a_name_is_not_repeated() {
    let app = TestApp::start_idle(&[]).await;
    let key = app.stack.seeded().api_key("client");
    let refused = "unknown parameter, and not one that can be shown";
    // A key without its name; and JSON that is sent as a form.
    let body = format!("action=login&{key}");
    let form = "application/x-www-form-urlencoded";
    let reply = app.post("/auth.php", form, body).await;
    assert_eq!(reply.refused(400), format!("auth/login: {refused}"));
    let body = format!(
        "action=list_plans&{}",
        json!({ "token": app.token("client") })
    );
    let reply = app.post("/s3.php", form, body).await;
    assert_eq!(reply.refused(400), text("list_plans", refused));
}
