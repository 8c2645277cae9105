//! The whole of the product over a real Garage: from an order to the last byte.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::clusters::{Garage, Subject, code};
use tests::usage::AccountSamples;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::Status;
use wharfage::domain::period::hour_of;
use wharfage::random::Random;

/// A bucket name that no other run has.
fn new_name(name: &str) -> String {
    format!("{}-{name}", Random::from_os().access_key().to_lowercase())
}

async fn plan(app: &TestApp) -> Value {
    let plans = app.call("client", "list_plans", json!({})).await.ok();
    let plans = plans["plans"].as_array().expect("a list").clone();
    let here = |plan: &&Value| plan["name"] == "Standard S3, traffic included";
    plans.iter().find(here).expect("a plan for NL")["id"].clone()
}

async fn order(app: &TestApp) -> TestAccount {
    let order = json!({ "plan_id": plan(app).await, "bucket_name": new_name("first") });
    app.order_with("client", order).await
}

#[tokio::test]
#[ignore = "needs a Garage: tests/clusters/start-garage"]
async fn an_account_lives_and_ends_on_garage() {
    let app = Garage::from_env().app(&[], true).await;
    let account = order(&app).await;
    let own = json!({ "s3uid": account.s3uid });
    let with = |mut more: Value| {
        more["s3uid"] = account.s3uid.as_str().into();
        more
    };
    let s3 = app.s3("client", &account).await;
    app.put(&s3, &account.bucket_name, "a/b c+d", 70_000).await;
    let second = new_name("second");
    let bucket = with(json!({ "bucket_name": second }));
    app.call("client", "create_bucket", bucket).await.ok();
    app.put(&s3, &second, "x", 5).await;
    let buckets = app.call("client", "get_buckets", own.clone()).await.ok();
    assert_eq!(buckets["usage_storage"], 70_005);
    let files = with(json!({ "bucket_name": account.bucket_name }));
    let files = app.call("client", "get_files", files).await.ok();
    assert_eq!(files["files"]["files"][0]["key"], "a/b c+d", "{files:#}");
    let file = with(json!({ "bucket_name": second, "filename": "x" }));
    app.call("client", "delete_file", file).await.ok();

    // Buckets made past the product would have no limit, and a name that the next key does not see.
    let made = s3.create_bucket().bucket(new_name("third")).send().await;
    assert_eq!(code(made), "AccessDenied");

    // A second key, beside the first and then in its place.
    let keys = app.call("client", "rotate_key", own.clone()).await.ok();
    let [access_key, secret_key] =
        ["access_key", "secret_key"].map(|name| keys[name].as_str().expect("a key"));
    let new = app.s3_with("NL", access_key, secret_key);
    app.put(&new, &second, "y", 5).await;
    app.put(&s3, &second, "z", 5).await;
    let confirm = with(json!({ "confirm": 1 }));
    app.call("client", "rotate_key", confirm).await.ok();
    let put = s3.put_object().bucket(&second).key("late");
    assert_eq!(code(put.send().await), "AccessDenied");
    app.put(&new, &second, "z", 7).await;

    // An hour: what was stored is told, and what moved is not.
    let hour = hour_of(app.now());
    app.stack.run_job("collect_usage").await.expect("begun");
    let end = hour + SignedDuration::from_mins(66);
    app.stack.advance_to(end).await.expect("advanced");
    let samples = app.context().segments.account_samples(
        "NL",
        0,
        &account.s3uid,
        hour,
        hour + SignedDuration::from_hours(1),
    );
    let samples = samples.await.expect("samples");
    let stored: u64 = samples
        .iter()
        .filter_map(|sample| sample.stored_bytes)
        .sum();
    assert_eq!(stored, 70_000 + 5 + 7);
    assert!(samples.iter().all(|sample| sample.bytes_sent.is_none()));
    let usage = app.call("client", "get_usage", own.clone()).await.ok();
    assert_eq!(usage["usage"][0]["bytes_sent"], Value::Null);

    // Suspended and resumed.
    let named = with(json!({ "id": app.client_id("client") }));
    app.call("admin", "suspend_account", named.clone())
        .await
        .ok();
    let get = new.get_object().bucket(&second).key("z");
    assert_eq!(code(get.clone().send().await), "AccessDenied");
    app.call("admin", "resume_account", named).await.ok();
    get.send().await.expect("it opens again");

    // To the last byte.
    let deleted = app.call("client", "delete_account", own).await.ok();
    let callback = deleted["callback"].as_str().expect("a key");
    app.stack.drain().await.expect("drained");
    assert_eq!(app.check(callback).await.body["result"], "OK");
    let ended = app.context().database.account(&account.s3uid).await;
    let ended = ended.expect("an answer").expect("an account");
    assert_eq!(ended.service.status(), Status::Terminated);
    let provider = &app.context().clusters.get("NL").expect("NL").provider;
    let gone = provider.buckets(&account.s3uid).await;
    assert!(gone.expect_err("gone").is("NoSuchUser"));
    let put = new.put_object().bucket(&second).key("late");
    assert_eq!(code(put.send().await), "AccessDenied");
}

#[tokio::test]
#[ignore = "needs a Garage: tests/clusters/start-garage"]
async fn between_two_looks_each_bucket_can_take_what_was_left_and_no_more() {
    let subject = Subject::garage().await;
    let cluster = subject.provider();
    let (s3uid, keys) = subject.user("user", Some(10_000)).await;
    let (one, two) = (subject.bucket_name("one"), subject.bucket_name("two"));
    for bucket_name in [&one, &two] {
        let made = cluster.create_bucket(&s3uid, bucket_name).await;
        made.expect("made");
    }
    let s3 = subject.s3(&keys);
    let put = |bucket: &str, key: &str, bytes: usize| {
        let body = vec![b'x'; bytes].into();
        s3.put_object().bucket(bucket).key(key).body(body).send()
    };
    // Garage counts what came in right after it came in.
    let full = async |bucket: &str| {
        for number in 0..100 {
            if put(bucket, &format!("drop-{number}"), 1).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{bucket} takes more than its share");
    };
    let stored = async || -> u64 {
        let buckets = cluster.buckets(&s3uid).await.expect("a look");
        buckets.iter().map(|bucket| bucket.stored_bytes).sum()
    };
    put(&one, "a", 4_000).await.expect("below the limit");
    while stored().await != 4_000 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stored().await;
    // 6,000 are left: two buckets come to at most 6,000 above.
    put(&one, "b", 6_000).await.expect("all that is left");
    full(&one).await;
    put(&two, "b", 6_000).await.expect("all that was left");
    full(&two).await;
    let all = stored().await;
    assert!((16_000..16_100).contains(&all), "{all}");
    // From that look on nothing comes in until the account is below its limit.
    s3.delete_object()
        .bucket(&one)
        .key("b")
        .send()
        .await
        .expect("deleted");
    assert_eq!(code(put(&one, "d", 2_000).await), "AccessDenied");
}

#[tokio::test]
#[ignore = "needs a Garage: tests/clusters/start-garage"]
async fn plans_that_charge_for_traffic_are_not_sold_on_garage() {
    let app = Garage::from_env().app(&[], false).await;
    let plan = json!({
        "name": "Metered", "quota": 1, "monthly_eur": 1, "locations": "NL",
        "traffic_overage_price_eur": "0.1",
    });
    let refused = app.call("admin", "create_plan", plan).await.refused(400);
    assert!(
        refused.contains("offered at NL, which counts no traffic"),
        "{refused}"
    );
}
