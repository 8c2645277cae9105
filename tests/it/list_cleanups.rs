//! `list_cleanups`, and what a clean-up says that an object under lock stops.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ObjectLockMode;
use insta::assert_json_snapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall, Preparation, Scene};
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{S3Uid, Status};

const ACTION: &str = "list_cleanups";
/// Longer than a task may be silent.
const SILENCE_AND_MORE: SignedDuration = SignedDuration::from_mins(11);

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(one_cleanup(prepare)),
        |_| Scene::for_admins(json!({}), json!({ "limit": 1 })),
    )
    .on_own(|_| json!({}))
);

async fn one_cleanup(prepare: &Preparation<'_>) -> GoodCall {
    let delete = prepare.with_account(json!({})).await;
    let deleted = prepare
        .app
        .call(delete.who, "delete_account", delete.parameters);
    deleted.await.ok();
    GoodCall::by_admin(json!({}))
}

/// Makes a bucket with these many objects, one of them locked until an instant.
async fn bucket_with_a_lock(
    app: &TestApp,
    account: &TestAccount,
    bucket_name: &str,
    objects: usize,
    until: Timestamp,
) {
    let s3 = app.s3("client", account).await;
    let bucket = s3.create_bucket().bucket(bucket_name);
    let bucket = bucket.object_lock_enabled_for_bucket(true);
    bucket.send().await.expect("the bucket is made");
    for number in 0..objects {
        app.put(&s3, bucket_name, &format!("object {number}"), 10)
            .await;
    }
    let locked = s3.put_object().bucket(bucket_name).key("locked");
    let locked = locked
        .object_lock_mode(ObjectLockMode::Compliance)
        .object_lock_retain_until_date(DateTime::from_secs(until.as_second()))
        .body(vec![b'x'; 7].into());
    locked.send().await.expect("the upload succeeds");
}

async fn cleanups(app: &TestApp, parameters: Value) -> Value {
    let mut body = app.call("admin", ACTION, parameters).await.ok();
    body["cleanups"].take()
}

async fn try_again(app: &TestApp) {
    app.let_pass(SILENCE_AND_MORE);
    app.run_directly("resume_tasks").await.expect("it is run");
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(
        drained.failed, 0,
        "what is known to be locked fails no message"
    );
}

#[tokio::test]
async fn a_locked_object_stops_the_removal_of_its_account_and_says_until_when() {
    let mut app = TestApp::start_idle(&[("CleanupStepEntries", "20")]).await;
    let account = app.order("client", "a-plain-bucket").await;
    let s3 = app.s3("client", &account).await;
    for number in 0..5 {
        app.put(&s3, "a-plain-bucket", &format!("{number}"), 10)
            .await;
    }
    let until: Timestamp = "2026-03-01T00:00:00Z".parse().expect("a time");
    bucket_with_a_lock(&app, &account, "b-locked-bucket", 30, until).await;
    // And one behind it.
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "c-plain-bucket" });
    app.call("client", "create_bucket", parameters).await.ok();
    app.put(&s3, "c-plain-bucket", "x", 10).await;

    let delete = json!({ "s3uid": account.s3uid });
    let deleted = app.call("client", "delete_account", delete).await.ok();
    let callback = deleted["callback"].as_str().expect("a key").to_owned();
    let rows = cleanups(&app, json!({})).await;
    assert_eq!(rows[0]["obstacle"], Value::Null);
    assert_eq!(cleanups(&app, json!({ "blocked": 1 })).await, json!([]));
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(drained.failed, 0);

    // All that is not locked is gone, and counted.
    let left = app.cluster_buckets("NL", &account.s3uid).await;
    assert_eq!(left, Some(["b-locked-bucket".to_owned()].into()));
    let mut rows = cleanups(&app, json!({ "blocked": 1 })).await;
    let task_id = rows[0]["task_id"].take();
    assert_eq!(task_id, format!("remove_account:{}", account.s3uid));
    assert_json_snapshot!("blocked", masked(&app, &rows));
    let mut body = app.call("admin", ACTION, json!({})).await.ok();
    body["cleanups"][0]["task_id"] = "remove_account:[s3uid]".into();
    assert_json_snapshot!("success", masked(&app, &body));
    let row = &rows[0];
    assert_eq!(row["s3uid"], account.s3uid.as_str());
    assert_eq!(
        (&row["entries_removed"], &row["bytes_removed"]),
        (&json!(36), &json!(360))
    );
    let obstacle = row["obstacle"].clone();
    let waiting = app.check(&callback).await;
    assert_eq!(
        waiting.body,
        json!({ "result": "Not ready", "obstacle": obstacle })
    );
    try_again(&app).await;
    try_again(&app).await;
    let again = cleanups(&app, json!({})).await;
    assert_eq!(again[0]["obstacle"], obstacle);
    assert_ne!(again[0]["last_tried"], row["last_tried"]);
    assert_eq!(again[0]["entries_removed"], 36);
    // History tells of it once.
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let told: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["action"] == "cleanup_blocked")
        .collect();
    assert_eq!(told.len(), 1);
    assert_json_snapshot!("history", masked(&app, &told[0]["details"]));

    app.let_pass(SignedDuration::from_hours(24 * 50));
    app.log_in().await;
    try_again(&app).await;
    let kept = app.context().database.account(&account.s3uid).await;
    let kept = kept.expect("DynamoDB answers").expect("the account");
    assert_eq!(kept.service.status(), Status::Terminated);
    assert_eq!(cleanups(&app, json!({})).await, json!([]));
}

#[tokio::test]
async fn a_locked_object_stops_the_removal_of_its_bucket_and_names_are_kept() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let until = app.now() + SignedDuration::from_hours(1);
    bucket_with_a_lock(&app, &account, "locked-bucket", 3, until).await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "locked-bucket" });
    let body = app.call("client", "delete_bucket", parameters).await.ok();
    let callback = body["callback"].as_str().expect("a key").to_owned();
    app.stack.drain().await.expect("the queues empty");
    let waiting = app.check(&callback).await.body;
    assert_eq!(waiting["result"], "Not ready");
    assert_eq!(waiting["obstacle"]["filename"], "locked");
    app.let_pass(SignedDuration::from_hours(1));
    try_again(&app).await;
    let done = app.check(&callback).await.ok();
    assert_eq!(done["scope"]["entries_removed"], 4);
    assert_eq!(done["scope"]["bytes_removed"], 37);
    assert_eq!(app.cluster_bucket_owner("NL", "locked-bucket").await, None);
}

#[tokio::test]
async fn list_cleanups_goes_on_where_a_page_ended() {
    let app = TestApp::start_idle(&[]).await;
    let mut wanted = Vec::new();
    for number in 0..5 {
        let account = app.order("client", &format!("going-{number}")).await;
        let delete = json!({ "s3uid": account.s3uid });
        app.call("client", "delete_account", delete).await.ok();
        app.let_pass(SignedDuration::from_secs(1));
        wanted.push(account.s3uid);
    }
    let (mut found, mut parameters) = (Vec::new(), json!({ "limit": 2 }));
    loop {
        let body = app.call("admin", ACTION, parameters.clone()).await.ok();
        for row in body["cleanups"].as_array().expect("a list") {
            found.push(S3Uid(row["s3uid"].as_str().expect("a text").to_owned()));
        }
        match body.get("next_token") {
            Some(next) => parameters["next_token"] = next.clone(),
            None => break,
        }
    }
    assert_eq!(found, wanted);
    let reply = app
        .call("admin", ACTION, json!({ "next_token": "none" }))
        .await;
    let rule = "invalid parameter next_token: is not one that list_cleanups gave";
    assert_eq!(reply.refused(400), text(ACTION, rule));
}

#[tokio::test]
async fn list_cleanups_refuses_bad_tokens_and_clients() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({}),
    };
    contract.is_for_admins_only().await;
    contract.refuses_bad_tokens().await;
}
