//! `s3.php`: the single endpoint, as published clients use it.

use std::cell::RefCell;

use http::Request;
use jiff::ToSpan;
use lambda_http::Body;
use serde_json::{Value, json};
use tests::contract::{NO_S3UID, NO_TOKEN};
use tests::{Reply, TestApp};

/// A client of the kind that is published: it logs in by itself, sends everything to `s3.php`, and logs in again when its token is
/// refused.
struct PublishedClient<'a> {
    app: &'a TestApp,
    who: &'static str,
    as_json: bool,
    token: RefCell<String>,
    logins: RefCell<usize>,
}

impl PublishedClient<'_> {
    fn new<'a>(app: &'a TestApp, who: &'static str, as_json: bool) -> PublishedClient<'a> {
        let (token, logins) = (RefCell::default(), RefCell::default());
        PublishedClient {
            app,
            who,
            as_json,
            token,
            logins,
        }
    }

    async fn send(&self, path: &str, parameters: &Value) -> Reply {
        if self.as_json {
            self.app.post_json(path, parameters).await
        } else {
            self.app.post_form(path, parameters).await
        }
    }

    async fn call(&self, action: &str, parameters: Value) -> Reply {
        let mut whole = json!({ "action": action, "token": *self.token.borrow() });
        whole
            .as_object_mut()
            .expect("an object")
            .extend(parameters.as_object().expect("an object").clone());
        let reply = self.send("/s3.php", &whole).await;
        if reply.status != 401 {
            return reply;
        }
        let login = json!({ "action": "login", "key": self.app.stack.seeded().api_key(self.who), "ttl": 3600 });
        let session = self.send("/auth.php", &login).await.body;
        let token = session["result"]["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        *self.token.borrow_mut() = token;
        *self.logins.borrow_mut() += 1;
        whole["token"] = self.token.borrow().as_str().into();
        self.send("/s3.php", &whole).await
    }
}

#[tokio::test]
async fn s3_php_serves_a_published_client_s_whole_session() {
    for as_json in [false, true] {
        let app = TestApp::start().await;
        let client = PublishedClient::new(&app, "client", as_json);
        let plans = client.call("list_plans", json!({})).await.ok();
        assert_eq!(plans["plans"][1]["id"], 2);
        let locations = client.call("get_available_locations", json!({})).await.ok();
        assert_eq!(locations["locations"].as_array().map(Vec::len), Some(2));
        let ordered = client
            .call(
                "create_order",
                json!({ "plan_id": 2, "bucket": "my-bucket", "location": "NL" }),
            )
            .await
            .ok();
        let account_id = ordered["id"].clone();
        let users = client.call("get_users", json!({})).await.ok();
        assert_eq!(users["s3_users"][0]["id"], account_id);

        // The aliases: account_id, bucket, key_type, limit, file.
        client
            .call(
                "create_bucket",
                json!({ "account_id": account_id, "bucket": "second-bucket" }),
            )
            .await
            .ok();
        let shown = client
            .call(
                "show_key",
                json!({ "account_id": account_id, "key_type": "access_key" }),
            )
            .await
            .ok();
        let access_key = shown["access_key"].as_str().expect("a key").to_owned();
        let shown = client
            .call(
                "show_key",
                json!({ "account_id": account_id, "key_type": "secret_key" }),
            )
            .await
            .ok();
        let s3 = app.s3_with(
            "NL",
            &access_key,
            shown["secret_key"].as_str().expect("a key"),
        );
        for key in ["a", "b", "c"] {
            app.put(&s3, "my-bucket", key, 1).await;
        }
        let files = client
            .call(
                "get_files",
                json!({ "account_id": account_id, "bucket": "my-bucket", "limit": 2 }),
            )
            .await
            .ok();
        assert_eq!(files["files"]["files"].as_array().map(Vec::len), Some(2));
        client
            .call(
                "delete_file",
                json!({ "account_id": account_id, "bucket": "my-bucket", "file": "b" }),
            )
            .await
            .ok();

        // Its token runs out on the way, and it does not notice.
        assert_eq!(*client.logins.borrow(), 1);
        app.stack
            .advance(3601.seconds())
            .await
            .expect("time passes");
        let list = client
            .call("get_buckets", json!({ "account_id": account_id }))
            .await
            .ok();
        assert_eq!(list["usage_storage"], 2);
        assert_eq!(*client.logins.borrow(), 2);
        client
            .call("get_buckets_rmq", json!({ "account_id": account_id }))
            .await
            .ok();

        client
            .call(
                "delete_bucket",
                json!({ "account_id": account_id, "bucket": "second-bucket" }),
            )
            .await
            .ok();
        client
            .call(
                "delete_payment_account",
                json!({ "account_id": account_id }),
            )
            .await
            .ok();
        client
            .call(
                "cancel_payment_account_deletion",
                json!({ "account_id": account_id }),
            )
            .await
            .ok();
        let history = client
            .call("history", json!({ "account_id": account_id }))
            .await
            .ok();
        assert!(
            history["history"]
                .as_array()
                .is_some_and(|entries| entries.len() >= 9)
        );
        let deleted = client
            .call("delete_account", json!({ "account_id": account_id }))
            .await
            .ok();
        app.stack.drain().await.expect("the queues are emptied");
        app.check(deleted["callback"].as_str().expect("a key"))
            .await
            .ok();
        let second = client
            .call(
                "create_account",
                json!({ "plan_id": 1, "bucket": "my-bucket" }),
            )
            .await
            .ok();
        let admin = PublishedClient::new(&app, "admin", as_json);
        let collected = json!({ "account_id": second["id"], "id": app.client_id("client") });
        admin.call("update_traffic_info", collected).await.ok();
        // Every action was asked for.
        assert_eq!((*client.logins.borrow(), *admin.logins.borrow()), (2, 1));
    }
}

#[tokio::test]
async fn s3_php_answers_and_refuses_as_the_actions_own_routes_do() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let token = app.token("client");
    let parameters = [
        json!({}),
        json!({ "token": NO_TOKEN }),
        json!({ "token": token }),
        json!({ "token": token, "s3uid": NO_S3UID, "bucket_name": "my-bucket", "filename": "x", "s3_key": "x", "plan_id": 99 }),
        json!({ "token": token, "s3uid": "x", "plan_id": "x" }),
    ];
    for action in functions::ACTIONS {
        for parameters in &parameters {
            let own = app
                .post_form(&format!("/s3/{}", action.name), parameters)
                .await;
            let mut named = parameters.clone();
            named["action"] = action.name.into();
            assert_eq!(
                app.post_form("/s3.php", &named).await,
                own,
                "{} {parameters}",
                action.name
            );
            assert_eq!(
                app.post_json("/s3.php", &named).await,
                own,
                "{} {parameters}",
                action.name
            );
            // The own route takes the action's name as well, if it is the right one.
            assert_eq!(
                app.post_form(&format!("/s3/{}", action.name), &named).await,
                own
            );
            named["action"] = "xyz".into();
            let reply = app.post_form(&format!("/s3/{}", action.name), &named).await;
            let wanted = format!(
                "s3/{}: invalid parameter action: is not the one the path names",
                action.speaks_as
            );
            assert_eq!(reply.refused(400), wanted);
        }
    }
    let reading = [
        (
            "get_files",
            json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" }),
        ),
        (
            "show_key",
            json!({ "s3uid": account.s3uid, "s3_key": "secret_key" }),
        ),
        ("get_users", json!({ "s3uid": account.s3uid })),
    ];
    for (action, mut parameters) in reading {
        let own = app.call("client", action, parameters.clone()).await.ok();
        parameters["token"] = token.into();
        parameters["action"] = action.into();
        assert_eq!(app.post_form("/s3.php", &parameters).await.ok(), own);
    }
}

#[tokio::test]
async fn s3_php_takes_the_reference_s_name_of_a_parameter_before_its_alias() {
    let app = TestApp::start().await;
    let one = app.order("client", "one-bucket").await;
    let two = app.order("client", "two-bucket").await;
    let both = json!({ "s3uid": one.s3uid, "account_id": two.id });
    let and = |more: Value| {
        let mut all = both.clone();
        let fields = all.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        all
    };
    let keys = and(json!({ "s3_key": "access_key", "key_type": "secret_key" }));
    let shown = app.call("client", "show_key", keys).await.ok();
    assert_eq!(shown["s3uid"], one.s3uid.as_str());
    assert!(shown["access_key"].is_string() && shown.get("secret_key").is_none());
    let s3 = app.s3("client", &one).await;
    for key in ["alias", "own"] {
        app.put(&s3, "one-bucket", key, 1).await;
    }
    let buckets = json!({ "bucket_name": "one-bucket", "bucket": "two-bucket" });
    let mut listed = and(buckets.clone());
    listed["max_keys"] = 1.into();
    listed["limit"] = 2.into();
    let files = app.call("client", "get_files", listed).await.ok();
    assert_eq!(files["files"]["files"].as_array().map(Vec::len), Some(1));
    let mut file = and(buckets);
    file["filename"] = "own".into();
    file["file"] = "alias".into();
    let deleted = app.call("client", "delete_file", file).await.ok();
    assert_eq!(
        (&deleted["bucket_name"], &deleted["filename"]),
        (&json!("one-bucket"), &json!("own"))
    );
    // One that is there but empty gives way to the alias.
    let empty =
        json!({ "s3uid": "", "account_id": two.id, "s3_key": "", "key_type": "access_key" });
    assert_eq!(
        app.call("client", "show_key", empty).await.ok()["s3uid"],
        two.s3uid.as_str()
    );
}

#[tokio::test]
async fn s3_php_refuses_what_names_no_action_and_other_paths() {
    let app = TestApp::start().await;
    let token = app.token("client");
    for none in [
        json!({}),
        json!({ "token": token }),
        json!({ "action": "", "token": token }),
        json!({ "action": null }),
    ] {
        assert_eq!(
            app.post_json("/s3.php", &none).await.refused(400),
            "s3: missing parameter action"
        );
    }
    for unknown in [
        "login",
        "check",
        "get_user",
        "Get_users",
        "get_users ",
        "s3/get_users",
        "é",
        "storage_tasks",
        "resume_orders",
    ] {
        let reply = app
            .post_form("/s3.php", &json!({ "action": unknown, "token": token }))
            .await;
        assert_eq!(reply.refused(400), "s3: unknown action", "{unknown}");
    }
    for odd in [
        json!(["get_users"]),
        json!({ "a": "get_users" }),
        json!(true),
    ] {
        let reply = app.post_json("/s3.php", &json!({ "action": odd })).await;
        assert_eq!(
            reply.refused(400),
            "s3: invalid parameter action: must be a text"
        );
    }
    for path in [
        "/",
        "/s3",
        "/s3/",
        "/s3.php/",
        "/S3.PHP",
        "/s3/get_user",
        "/s3/get_users/",
        "/s3/storage_tasks",
        "/index.php",
        "/auth",
        "/%2e%2e/s3.php",
    ] {
        let reply = app
            .post_form(path, &json!({ "action": "list_plans", "token": token }))
            .await;
        assert_eq!(reply.refused(404), "not found", "{path}");
    }
    // It may stand in the address, and is held to the same there.
    let request = Request::post(format!("/s3.php?action=login&token={token}"))
        .body(Body::Empty)
        .expect("a request");
    assert_eq!(app.send(request).await.refused(400), "s3: unknown action");
}
