//! Whoever crosses a threshold of the quota is told, once.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::tap::{Moment, Noted};
use tests::{TestAccount, TestApp};
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::plan::PlanId;
use wharfage::domain::quota::QuotaLevel;
use wharfage::domain::usage::Sample;
use wharfage::segments::SegmentKey;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn at(hour: i64) -> Timestamp {
    let midnight: Timestamp = "2026-01-15T00:00:00Z".parse().expect("a time");
    midnight + HOUR * i32::try_from(hour).expect("an hour")
}

/// An account that may store ten gigabytes, and its plan.
async fn account(app: &TestApp) -> (TestAccount, u64) {
    let plan_id = plan(app, 10).await;
    let parameters = json!({ "plan_id": plan_id, "bucket_name": "my-bucket" });
    (app.order_with("client", parameters).await, plan_id)
}

async fn plan(app: &TestApp, quota_gb: u64) -> u64 {
    let parameters = json!({
        "name": format!("{quota_gb} GB"),
        "quota": quota_gb,
        "monthly_eur": 1,
        "storage_overage_price_eur": 1,
    });
    let body = app.call("admin", "create_plan", parameters).await.ok();
    body["plan"]["id"].as_u64().expect("a number")
}

fn key(hour: i64) -> SegmentKey {
    SegmentKey {
        location: "NL".into(),
        hour: at(hour),
        shard: 0,
    }
}

fn message(hour: i64) -> String {
    serde_json::to_string(&key(hour)).expect("a message")
}

/// What the cluster reported of an hour, from the hour after on.
async fn report(app: &TestApp, account: &TestAccount, hour: i64, stored_bytes: Option<u64>) {
    let then = at(hour) + HOUR + SignedDuration::from_mins(5);
    if then > app.now() {
        app.stack.clock().move_to(then).expect("moved");
    }
    let sample = Sample {
        s3uid: account.s3uid.clone(),
        bucket_name: account.bucket_name.clone(),
        hour: at(hour),
        stored_bytes,
        objects: stored_bytes.map(|_| 1),
        noncurrent_bytes: stored_bytes.map(|_| 0),
        multipart_bytes: stored_bytes.map(|_| 0),
        bytes_sent: Some(0),
        bytes_received: Some(0),
        requests: Some(0),
        ..Sample::default()
    };
    let segments = &app.context().segments;
    segments
        .put(&key(hour), vec![sample], app.now())
        .await
        .expect("written");
}

async fn handle(app: &TestApp, hour: i64) {
    app.handle_directly("usage_shards", &message(hour))
        .await
        .expect("handled");
}

/// What was told so far, in order: the level and the bytes stored.
async fn told(app: &TestApp) -> Vec<(QuotaLevel, u64)> {
    let events = app.context().database.unsent_events(1_000).await;
    let mut events: Vec<Event> = events.expect("DynamoDB answers");
    events.retain(|event| event.kind == Kind::QuotaThreshold);
    events.sort_by_key(|event| event.at);
    let level = |detail: &Value| serde_json::from_value(detail["level"].clone()).expect("a level");
    events
        .iter()
        .map(|event| {
            let stored_bytes = event.detail["stored_bytes"].as_u64().expect("bytes");
            (level(&event.detail), stored_bytes)
        })
        .collect()
}

fn names(noted: Vec<Noted>) -> Vec<String> {
    noted.into_iter().map(|call| call.name).collect()
}

#[tokio::test]
async fn quota_thresholds_are_told_once_however_often_an_hour_is_collected() {
    let app = TestApp::start_idle(&[]).await;
    let (account, plan_id) = account(&app).await;
    let hours = [7, 8, 9, 10, 9, 10, 8, 7, 12];
    for (hour, gb) in (10..).zip(hours) {
        report(&app, &account, hour, Some(gb * GB_BYTES)).await;
        for _ in 0..2 {
            handle(&app, hour).await;
        }
    }
    let expected = [
        (QuotaLevel::From80, 8 * GB_BYTES),
        (QuotaLevel::From100, 10 * GB_BYTES),
        (QuotaLevel::Below80, 7 * GB_BYTES),
        (QuotaLevel::From100, 12 * GB_BYTES),
    ];
    assert_eq!(told(&app).await, expected);
    app.run_directly("publish_events").await.expect("sent");
    let sent = app.stack.events();
    let sent: Vec<&Value> = sent
        .iter()
        .filter(|event| event["detail-type"] == "quota.threshold")
        .collect();
    assert_eq!(sent.len(), 4);
    let text = sent[0].to_string();
    assert!(text.contains(account.s3uid.as_str()), "{text}");
    let stored = app.context().database.account(&account.s3uid).await;
    let stored = stored.expect("DynamoDB").expect("the account");
    assert_eq!(
        (stored.plan_id, stored.quota_told, stored.stored_bytes),
        (PlanId(plan_id), QuotaLevel::From100, 12 * GB_BYTES)
    );
}

#[tokio::test]
async fn quota_thresholds_are_those_of_the_latest_hour() {
    let app = TestApp::start_idle(&[]).await;
    let (account, _) = account(&app).await;
    // The latest hour first, then those before it.
    report(&app, &account, 14, Some(5 * GB_BYTES)).await;
    handle(&app, 14).await;
    for (hour, gb) in [(12, 12), (10, 8), (13, 9)] {
        report(&app, &account, hour, Some(gb * GB_BYTES)).await;
        handle(&app, hour).await;
    }
    assert_eq!(told(&app).await, []);
    // One that was collected too late to tell carries what was stored before.
    report(&app, &account, 15, Some(9 * GB_BYTES)).await;
    handle(&app, 15).await;
    report(&app, &account, 16, None).await;
    handle(&app, 16).await;
    handle(&app, 14).await;
    assert_eq!(told(&app).await, [(QuotaLevel::From80, 9 * GB_BYTES)]);
}

#[tokio::test]
async fn quota_thresholds_cost_a_write_only_when_they_are_crossed() {
    let app = TestApp::start_idle(&[]).await;
    let (account, _) = account(&app).await;
    let mut calls = Vec::new();
    for (hour, gb) in [(10, 1), (11, 2), (12, 8), (13, 9)] {
        report(&app, &account, hour, Some(gb * GB_BYTES)).await;
        let message = message(hour);
        let run = app.handle_directly("usage_shards", &message);
        let (handled, noted) = app.tap.scope(run).await;
        handled.expect("handled");
        let mut names = names(noted);
        names.retain(|name| name.starts_with("DynamoDB"));
        names.sort();
        calls.push(names);
    }
    let count = |hour: usize, name: &str| calls[hour].iter().filter(|call| *call == name).count();
    assert_eq!(calls[1], calls[3]);
    assert_eq!(calls[1].len(), calls[2].len());
    assert_eq!(count(1, "DynamoDB TransactWriteItems"), 0);
    assert_eq!(count(2, "DynamoDB TransactWriteItems"), 1);
    assert_eq!(
        count(2, "DynamoDB UpdateItem") + 1,
        count(1, "DynamoDB UpdateItem")
    );
}

#[tokio::test]
async fn quota_thresholds_survive_a_worker_that_dies_anywhere() {
    let app = TestApp::start_idle(&[]).await;
    let (account, _) = account(&app).await;
    let mut hour = 10;
    let mut expected = Vec::new();
    let mut crashes = 0;
    let mut crash = Some(0);
    while let Some(index) = crash {
        for moment in [Moment::Before, Moment::After] {
            let (level, gb) = match expected.len() % 2 {
                0 => (QuotaLevel::From80, 9),
                _ => (QuotaLevel::Below80, 1),
            };
            report(&app, &account, hour, Some(gb * GB_BYTES)).await;
            let message = message(hour);
            let run = app.handle_directly("usage_shards", &message);
            match app.tap.crash_at(index, moment, run).await {
                Some(result) => {
                    result.expect("handled");
                    crash = None;
                }
                None => crashes += 1,
            }
            handle(&app, hour).await;
            expected.push((level, gb * GB_BYTES));
            assert_eq!(told(&app).await, expected, "{index} {moment:?}");
            hour += 1;
        }
        crash = crash.map(|index| index + 1);
    }
    assert!(crashes >= 14, "{crashes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quota_thresholds_are_told_once_by_several_workers() {
    let app = TestApp::start_idle(&[]).await;
    let (account, _) = account(&app).await;
    let mut expected = Vec::new();
    for (hour, gb, level) in [
        (10, 8, QuotaLevel::From80),
        (11, 10, QuotaLevel::From100),
        (12, 0, QuotaLevel::Below80),
    ] {
        report(&app, &account, hour, Some(gb * GB_BYTES)).await;
        futures::future::join_all((0..6).map(|_| handle(&app, hour))).await;
        expected.push((level, gb * GB_BYTES));
        assert_eq!(told(&app).await, expected);
    }
}

#[tokio::test]
async fn quota_thresholds_move_with_the_plan() {
    let app = TestApp::start_idle(&[]).await;
    let (account, _) = account(&app).await;
    let (smaller, none) = (plan(&app, 8).await, plan(&app, 0).await);
    report(&app, &account, 10, Some(7 * GB_BYTES)).await;
    handle(&app, 10).await;
    assert_eq!(told(&app).await, []);
    let change = async |plan_id: u64| {
        let parameters = json!({
            "s3uid": account.s3uid, "id": app.client_id("client"), "plan_id": plan_id, "when": "now",
        });
        app.call("admin", "change_plan", parameters).await.ok();
    };
    change(smaller).await;
    let mut expected = vec![(QuotaLevel::From80, 7 * GB_BYTES)];
    assert_eq!(told(&app).await, expected);
    report(&app, &account, 11, Some(8 * GB_BYTES)).await;
    handle(&app, 11).await;
    expected.push((QuotaLevel::From100, 8 * GB_BYTES));
    assert_eq!(told(&app).await, expected);
    // A plan without a quota has nothing to cross.
    app.stack.clock().move_to(at(13)).expect("moved");
    change(none).await;
    expected.push((QuotaLevel::Below80, 8 * GB_BYTES));
    report(&app, &account, 13, Some(9 * GB_BYTES)).await;
    handle(&app, 13).await;
    assert_eq!(told(&app).await, expected);
}
