//! `eq_callback.php`.

use http::{Method, Request};
use jiff::ToSpan;
use lambda_http::Body;
use serde_json::json;
use tests::{Reply, TestApp};

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
