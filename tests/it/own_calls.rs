//! What Wharfage itself calls with an account's keys is told apart from what its client moves, and nobody pays for it.

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::{TestAccount, TestApp};
use wharfage::domain::usage::{Moved, OwnCalls, RequestClasses, Sample};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const GB: f64 = (1_u64 << 30) as f64;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

pub(crate) async fn collect(app: &TestApp) {
    let next = at("2026-01-15T11:05:00Z");
    let advanced = app.stack.advance_to(next).await.expect("advanced");
    assert_eq!(advanced.drained.failed, 0);
}

async fn moved(app: &TestApp, account: &TestAccount) -> Vec<Moved> {
    let today = date(2026, 1, 15);
    let days = app.context().database.days(&account.s3uid, today, today);
    let days = days.await.expect("days");
    days.get(&today).cloned().unwrap_or_default().moved
}

async fn sample(app: &TestApp, account: &TestAccount) -> Sample {
    let hour = at("2026-01-15T10:00:00Z");
    let segments = &app.context().segments;
    let samples = segments.account_samples(&account.location, 0, &account.s3uid, hour, hour + HOUR);
    let mut samples = samples.await.expect("samples");
    assert_eq!(samples.len(), 1, "{samples:?}");
    samples.remove(0)
}

pub(crate) async fn get_files(app: &TestApp, account: &TestAccount, more: Value) {
    let mut parameters = json!({ "s3uid": account.s3uid, "bucket_name": account.bucket_name });
    for (name, value) in more.as_object().expect("an object") {
        parameters[name] = value.clone();
    }
    app.call("client", "get_files", parameters).await.ok();
}

/// The running period's traffic as an administrator has it looked at now.
async fn look(app: &TestApp, account: &TestAccount) -> f64 {
    let parameters = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let looked = app.call("admin", "update_traffic_info", parameters).await;
    looked.ok()["traffic"].as_f64().expect("a number")
}

#[tokio::test]
async fn an_account_of_which_files_were_only_listed_has_no_traffic() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    get_files(&app, &account, json!({})).await;
    get_files(&app, &account, json!({ "search": "nothing" })).await;
    let file = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "filename": "none" });
    app.call("client", "delete_file", file).await.ok();
    // Neither before the hour is collected nor afterwards.
    assert_eq!(look(&app, &account).await, 0.0);
    collect(&app).await;
    assert_eq!(look(&app, &account).await, 0.0);
    assert_eq!(moved(&app, &account).await, []);

    // What the cluster counted stands in the segment, and beside it what of that was not the client's.
    let sample = sample(&app, &account).await;
    let own = sample.own.expect("own calls");
    assert_eq!(
        (Some(own.bytes_sent), Some(own.requests)),
        (sample.bytes_sent, sample.requests)
    );
    assert!(own.bytes_sent > 0 && own.requests == 3, "{own:?}");
    let classes = RequestClasses {
        list: 2,
        delete: 1,
        ..RequestClasses::default()
    };
    assert_eq!(sample.classes, Some(classes));
}

#[tokio::test]
async fn what_a_client_moves_beside_it_is_counted_to_the_byte() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    for key in ["a", "b"] {
        app.put(&s3, "my-bucket", key, 3_000).await;
        get_files(&app, &account, json!({})).await;
    }
    for _ in 0..2 {
        let get = s3.get_object().bucket("my-bucket").key("a").send().await;
        let body = get.expect("an object").body.collect().await;
        assert_eq!(body.expect("its bytes").into_bytes().len(), 3_000);
        get_files(&app, &account, json!({ "search": "a" })).await;
    }
    assert_eq!(look(&app, &account).await, 6_000.0 / GB);
    collect(&app).await;
    let expected = Moved {
        hour: 10,
        bytes_sent: 6_000,
        bytes_received: 6_000,
        requests: 4,
    };
    assert_eq!(moved(&app, &account).await, [expected]);
    assert_eq!(look(&app, &account).await, 6_000.0 / GB);
    let own = sample(&app, &account).await.own;
    assert_eq!(own.map(|own: OwnCalls| own.requests), Some(4));
}

#[tokio::test]
async fn a_listing_that_is_refused_takes_nothing_from_other_traffic() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.order("client2", "theirs").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 3_000).await;
    let get = s3.get_object().bucket("my-bucket").key("a").send().await;
    get.expect("an object")
        .body
        .collect()
        .await
        .expect("its bytes");
    let other = json!({ "s3uid": account.s3uid, "bucket_name": "theirs" });
    app.call("client", "get_files", other).await.refused(403);
    assert_eq!(look(&app, &account).await, 3_000.0 / GB);
    collect(&app).await;
    assert_eq!(moved(&app, &account).await[0].bytes_sent, 3_000);
    assert_eq!(sample(&app, &account).await.own, None);
}
