//! `eq_callback.php`.

use http::{Method, Request};
use jiff::ToSpan;
use lambda_http::Body;
use serde_json::{Value, json};
use tests::{Reply, TestApp};
use wharfage::domain::task::{Task, Work};

async fn get(app: &TestApp, query: &str) -> Reply {
    let request = Request::get(format!("/eq_callback.php{query}"))
        .body(Body::Empty)
        .expect("a request");
    app.send(request).await
}

async fn callback(app: &TestApp) -> String {
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await;
    reply.body["callback"].as_str().expect("a key").to_owned()
}

#[tokio::test]
async fn eq_callback_answers_once_by_get_as_by_post() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let key = callback(&app).await;
    let query = format!("?action=check&key={key}");
    assert_eq!(
        get(&app, &query).await.body,
        json!({ "result": "Not ready" })
    );
    assert_eq!(app.check(&key).await.body, json!({ "result": "Not ready" }));
    let as_json = json!({ "action": "check", "key": key });
    assert_eq!(
        app.post_json("/eq_callback.php", &as_json).await.body,
        json!({ "result": "Not ready" })
    );
    app.stack.drain().await.expect("the queues are emptied");
    let done = get(&app, &query).await.ok();
    assert_eq!(done["scope"]["action"], "get_buckets");
    assert_eq!(done.as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(get(&app, &query).await.refused(404), "AsyncKey not found");
    assert_eq!(app.check(&key).await.refused(404), "AsyncKey not found");
}

#[tokio::test]
async fn eq_callback_gives_its_answer_to_one_of_many_at_once() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let key = callback(&app).await;
    app.stack.drain().await.expect("the queues are emptied");
    let replies = futures::future::join_all((0..6).map(|_| app.check(&key))).await;
    assert_eq!(
        replies.iter().filter(|reply| reply.status == 200).count(),
        1
    );
    for reply in replies.into_iter().filter(|reply| reply.status != 200) {
        assert_eq!(reply.refused(404), "AsyncKey not found");
    }
}

#[tokio::test]
async fn eq_callback_shows_nothing_of_an_account_that_is_gone() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let listing = app
        .call("client", "get_buckets", parameters.clone())
        .await
        .body;
    app.call("client", "delete_account", parameters).await.ok();
    app.stack.drain().await.expect("the queues are emptied");
    let reply = app
        .check(listing["callback"].as_str().expect("a key"))
        .await;
    assert!(
        !reply.body.to_string().contains("secret_key"),
        "{:#}",
        reply.body
    );
    assert!([404, 409].contains(&reply.status), "{:#}", reply.body);
}

#[tokio::test]
async fn eq_callback_refuses_keys_that_are_none() {
    let app = TestApp::start().await;
    let unknown = "a0".repeat(16);
    assert_eq!(app.check(&unknown).await.refused(404), "AsyncKey not found");
    for key in [
        "x",
        &unknown[1..],
        &format!("{unknown}a"),
        &unknown.to_uppercase(),
        "é0000000000000000000000000000000",
        "../../../../../../../../../../../",
    ] {
        let wanted =
            "eq_callback/check: invalid parameter key: must be 32 characters of a-z and 0-9";
        assert_eq!(app.check(key).await.refused(400), wanted);
    }
    assert_eq!(
        app.check("").await.refused(400),
        "eq_callback/check: missing parameter key"
    );
    for query in ["?action=check", "?action=check&key="] {
        assert_eq!(
            get(&app, query).await.refused(400),
            "eq_callback/check: missing parameter key"
        );
    }
    let wanted = "eq_callback: missing parameter action";
    assert_eq!(get(&app, "").await.refused(400), wanted);
    assert_eq!(
        get(&app, &format!("?key={unknown}")).await.refused(400),
        wanted
    );
    let wanted = "eq_callback: unknown action";
    assert_eq!(get(&app, "?action=login").await.refused(400), wanted);
    let wanted = "eq_callback: a parameter stands twice";
    assert_eq!(
        get(&app, "?action=check&key=a&key=b").await.refused(400),
        wanted
    );
    assert_eq!(
        get(&app, "?action=check&key=%ff").await.refused(400),
        "eq_callback: the parameters are not UTF-8"
    );
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let request = Request::builder()
            .method(method)
            .uri(format!("/eq_callback.php?action=check&key={unknown}"))
            .body(Body::Empty)
            .expect("a request");
        assert_eq!(
            app.send(request).await.refused(405),
            "eq_callback: method not allowed"
        );
    }
}

#[tokio::test]
async fn eq_callback_keys_last_while_their_task_takes() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let body = app
        .call(
            "client",
            "delete_account",
            json!({ "s3uid": account.s3uid }),
        )
        .await
        .ok();
    let key = body["callback"].as_str().expect("a key").to_owned();
    app.stack.drain().await.expect("the queues are emptied");
    app.stack.advance(23.hours()).await.expect("time passes");
    assert_eq!(app.check(&key).await.ok()["scope"]["status"], "terminated");
}

fn key_of(reply: &Reply) -> String {
    reply.body["callback"].as_str().expect("a key").to_owned()
}

#[tokio::test]
async fn eq_callback_keeps_its_keys_as_hashes_and_never_tells_a_secret() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    let full = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 1).await;
    for (action, parameters) in [
        ("get_buckets", &own),
        ("get_buckets_rmq", &own),
        ("delete_bucket", &full),
        ("delete_account", &own),
    ] {
        let key = key_of(&app.call("client", action, parameters.clone()).await);
        let kept = format!("{:?}", app.world().await);
        assert!(!kept.contains(&key), "{action}");
        app.stack.drain().await.expect("the queues are emptied");
        if action.starts_with("get_buckets") {
            let scope = app.check(&key).await.ok()["scope"].clone();
            assert_eq!(scope["secret_key"], Value::Null);
            assert!(
                scope
                    .as_object()
                    .is_some_and(|s| s.contains_key("secret_key"))
            );
        }
    }
}

#[tokio::test]
async fn eq_callback_shows_the_account_as_it_was_when_it_was_asked_for() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    let ask = async || {
        let key = key_of(&app.call("client", "get_buckets", own.clone()).await);
        app.stack.drain().await.expect("the queues are emptied");
        app.let_pass(jiff::SignedDuration::from_secs(1));
        key
    };
    let first = ask().await;
    // Another key, another plan, other files, and another question.
    app.call("client", "rotate_key", own.clone()).await.ok();
    let confirmed = json!({ "s3uid": account.s3uid, "confirm": 1 });
    app.call("client", "rotate_key", confirmed).await.ok();
    let plan = json!({ "name": "Larger", "quota": 9000, "storage_limit": 9000, "monthly_eur": 20 });
    let plan = app.call("admin", "create_plan", plan).await.ok();
    let change = json!({
        "s3uid": account.s3uid, "id": app.client_id("client"), "plan_id": plan["plan"]["id"],
        "when": "now",
    });
    app.call("admin", "change_plan", change).await.ok();
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 9).await;
    let second = ask().await;
    let (first, second) = (app.check(&first).await.ok(), app.check(&second).await.ok());
    let (first, second) = (&first["scope"], &second["scope"]);
    assert_eq!(
        (&first["usage_storage"], &first["quota"]),
        (&json!(0), &json!(5000))
    );
    assert_eq!(
        (&second["usage_storage"], &second["quota"]),
        (&json!(9), &json!(9000))
    );
    assert!(first["access_key"].is_string() && first["access_key"] != second["access_key"]);
}

#[tokio::test]
async fn eq_callback_says_so_when_a_question_was_lost_and_asked_anew() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let work = Work::ListBuckets {
        s3uid: account.s3uid.clone(),
    };
    // Recorded, and never sent.
    let actor = wharfage::domain::history::Actor::system("test");
    let task = Task::new(work, actor, app.now());
    let started = app.context().database.start_task(task, None).await;
    started.expect("DynamoDB answers");
    let own = json!({ "s3uid": account.s3uid });
    let lost = key_of(&app.call("client", "get_buckets", own.clone()).await);
    app.let_pass(jiff::SignedDuration::from_secs(61));
    let anew = key_of(&app.call("client", "get_buckets", own).await);
    let wanted = "eq_callback/check: the storage could not answer, send the request again";
    assert_eq!(app.check(&lost).await.refused(503), wanted);
    app.stack.drain().await.expect("the queues are emptied");
    app.check(&anew).await.ok();
}

#[tokio::test]
async fn eq_callback_keys_end_with_the_api_key_of_their_session() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let id = json!({ "id": app.client_id("client") });
    let key = app.call("admin", "create_api_key", id).await.ok();
    let login = app.auth("login", json!({ "key": key["api_key"] })).await;
    let parameters = json!({
        "token": login.body["result"]["token"], "s3uid": account.s3uid,
    });
    let asked = app.post_form("/s3/get_buckets", &parameters).await;
    let others = app
        .call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await;
    let parameters = json!({ "api_key_id": key["api_key_id"] });
    app.call("admin", "revoke_api_key", parameters).await.ok();
    for _ in 0..2 {
        let reply = app.check(&key_of(&asked)).await;
        assert_eq!(reply.refused(404), "AsyncKey not found");
        app.stack.drain().await.expect("the queues are emptied");
    }
    app.check(&key_of(&others)).await.ok();
}

#[tokio::test]
async fn eq_callback_keys_end_with_the_role_of_who_asked() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let role = async |role: &str| {
        let parameters = json!({ "id": app.client_id("client2"), "role": role });
        app.call("admin", "update_client", parameters).await.ok();
    };
    role("admin").await;
    let key = app.stack.seeded().api_key("client2");
    let login = app.auth("login", json!({ "key": key })).await;
    let parameters = json!({
        "token": login.body["result"]["token"], "s3uid": account.s3uid,
        "id": app.client_id("client"),
    });
    let asked = app.post_form("/s3/get_buckets", &parameters).await;
    app.stack.drain().await.expect("the queues are emptied");
    role("client").await;
    role("admin").await;
    let reply = app.check(&key_of(&asked)).await;
    assert_eq!(reply.refused(404), "AsyncKey not found");
}

/// As the version before kept them: in the clear, without a session.
#[tokio::test]
async fn eq_callback_keys_that_were_kept_in_the_clear_are_answered_without_the_secret() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let key = "old0key0old0key0old0key0old0key0";
    let at = app.now().to_string();
    let task_id = format!("list_buckets:{}", account.s3uid);
    let row = [
        ("pk", &*format!("CALLBACK#{key}")),
        ("task_id", &*task_id),
        ("action", "get_buckets"),
        ("requested_at", &*at),
    ];
    app.put_item("TASKS_TABLE", &row).await;
    app.let_pass(jiff::SignedDuration::from_secs(1));
    let own = json!({ "s3uid": account.s3uid });
    app.call("client", "get_buckets", own).await;
    app.stack.drain().await.expect("the queues are emptied");
    let scope = app.check(key).await.ok()["scope"].clone();
    assert_eq!(scope["message"][0]["name"], "my-bucket");
    assert_eq!(scope["secret_key"], Value::Null);
    assert_eq!(app.check(key).await.refused(404), "AsyncKey not found");
}
