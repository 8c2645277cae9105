//! A plan that includes traffic and sells no more: whoever has used it up is told so, once a period.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{S3Uid, Status, Suspension};
use wharfage::domain::event::Kind;
use wharfage::domain::usage::{OwnCalls, Sample};
use wharfage::segments::SegmentKey;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const GB: u64 = 1 << 30;

async fn account(app: &TestApp, traffic_price: u64) -> TestAccount {
    let parameters = json!({
        "name": format!("traffic at {traffic_price}"),
        "quota": 10,
        "bandwidth_limit": 5,
        "monthly_eur": 1,
        "traffic_overage_price_eur": traffic_price,
    });
    let plan = app.call("admin", "create_plan", parameters).await.ok();
    let bucket_name = format!("bucket-{traffic_price}");
    let order = json!({ "plan_id": plan["plan"]["id"], "bucket_name": bucket_name });
    app.order_with("client", order).await
}

fn key(hour: &str) -> SegmentKey {
    SegmentKey {
        location: "NL".into(),
        hour: hour.parse().expect("a time"),
        shard: 0,
    }
}

/// What the cluster counted for each account in an hour; some of it for calls of Wharfage's own.
async fn report(app: &TestApp, hour: &str, accounts: &[&TestAccount], sent: u64, own: u64) {
    let end = key(hour).hour + HOUR;
    app.stack.clock().move_to(end + HOUR / 12).expect("moved");
    let samples = accounts.iter().map(|account| Sample {
        s3uid: account.s3uid.clone(),
        bucket_name: account.bucket_name.clone(),
        hour: key(hour).hour,
        stored_bytes: Some(0),
        bytes_sent: Some(sent),
        requests: Some(2),
        own: Some(OwnCalls {
            bytes_sent: own,
            requests: 1,
        }),
        ..Sample::default()
    });
    let segments = &app.context().segments;
    let written = segments.put(&key(hour), samples.collect(), end).await;
    written.expect("written");
}

fn message(hour: &str) -> String {
    serde_json::to_string(&key(hour)).expect("a message")
}

/// Whose limit was told, and at how many bytes.
async fn told(app: &TestApp) -> Vec<(S3Uid, Value)> {
    let events = app.context().database.unsent_events(1_000).await;
    let mut events = events.expect("DynamoDB answers");
    events.retain(|event| event.kind == Kind::TrafficLimitReached);
    events.sort_by_key(|event| event.at);
    let told = events.into_iter();
    told.map(|event| {
        (
            event.s3uid.expect("an account"),
            event.detail["bytes_sent"].clone(),
        )
    })
    .collect()
}

#[tokio::test]
async fn a_limit_that_is_reached_is_told_once_a_period() {
    let app = TestApp::start_idle(&[]).await;
    let (limited, paying) = (account(&app, 0).await, account(&app, 1).await);
    let (day, next_period) = ("2026-01-15", "2026-02-15");
    for (date, hour, sent, own, count) in [
        (day, 11, 4 * GB, 0, 0),
        // Wharfage's own calls use nothing up.
        (day, 12, 2 * GB, GB + 1, 0),
        (day, 13, 1, 0, 1),
        (day, 14, GB, 0, 1),
        (next_period, 1, 4 * GB, 0, 1),
        (next_period, 2, 2 * GB, 0, 2),
    ] {
        let hour = format!("{date}T{hour:02}:00:00Z");
        report(&app, &hour, &[&limited, &paying], sent, own).await;
        for _ in 0..2 {
            let handled = app.handle_directly("usage_shards", &message(&hour)).await;
            handled.expect("handled");
        }
        assert_eq!(told(&app).await.len(), count, "{hour}");
    }
    let expected = [5 * GB, 6 * GB].map(|sent| (limited.s3uid.clone(), json!(sent)));
    assert_eq!(told(&app).await, expected);
}

#[tokio::test]
async fn a_worker_that_dies_anywhere_leaves_a_limit_told_once() {
    let hour = "2026-01-15T11:00:00Z";
    let app = TestApp::start_idle(&[]).await;
    let limited = account(&app, 0).await;
    report(&app, hour, &[&limited], 5 * GB, 0).await;
    let body = message(hour);
    let mut index = 0;
    loop {
        let run = app.handle_directly("usage_shards", &body);
        if let Some(result) = app.tap.crash_at(index, Moment::After, run).await {
            result.expect("handled");
            break;
        }
        index += 1;
    }
    assert!(index > 3, "{index}");
    assert_eq!(told(&app).await.len(), 1);
}

/// A plan whose keys stop when its 5 GB are sent.
async fn stopping_plan(app: &TestApp, name: &str, limit_gb: u64) -> Value {
    let parameters = json!({
        "name": name,
        "quota": 10,
        "bandwidth_limit": limit_gb,
        "monthly_eur": 1,
        "stop_at_bandwidth_limit": 1,
    });
    let plan = app.call("admin", "create_plan", parameters).await.ok();
    plan["plan"]["id"].clone()
}

async fn stopping(app: &TestApp) -> TestAccount {
    let plan_id = stopping_plan(app, "Stopping", 5).await;
    let order = json!({ "plan_id": plan_id, "bucket_name": "my-bucket" });
    app.order_with("client", order).await
}

async fn collect(app: &TestApp, hour: &str, account: &TestAccount, sent: u64) {
    report(app, hour, &[account], sent, 0).await;
    let handled = app.handle_directly("usage_shards", &message(hour)).await;
    handled.expect("handled");
}

/// Why the record says that the keys are stopped. The cluster does as it says.
async fn suspension(app: &TestApp, account: &TestAccount) -> Option<Suspension> {
    let kept = app.context().database.account(&account.s3uid).await;
    let kept = kept.expect("DynamoDB answers").expect("the account");
    let path = format!("users/{}", account.s3uid);
    let (_, user) = app.admin("NL", "GET", &path, None).await;
    assert_eq!(user["suspended"], kept.are_keys_stopped());
    let is_stopped = kept.service.suspension().is_some();
    assert_eq!(kept.service.status() == Status::Suspended, is_stopped);
    kept.service.suspension()
}

async fn close(app: &mut TestApp, account: &TestAccount, on: &str) {
    let time = format!("{on}T01:05:00Z").parse().expect("a time");
    app.stack.clock().move_to(time).expect("moved");
    app.log_in().await;
    let work = json!({ "work": "close", "s3uid": account.s3uid, "commits_on": on });
    let handled = app.handle_directly("billing", &work.to_string()).await;
    handled.expect("closed");
}

async fn kinds(app: &TestApp) -> Vec<(Kind, Value)> {
    let events = app.context().database.unsent_events(1_000).await;
    let mut events = events.expect("DynamoDB answers");
    let kinds = [Kind::AccountSuspended, Kind::AccountResumed];
    events.retain(|event| kinds.contains(&event.kind));
    events.sort_by_key(|event| event.at);
    let told = events.into_iter();
    told.map(|event| (event.kind, event.detail["reason"].clone()))
        .collect()
}

#[tokio::test]
async fn keys_that_stop_at_the_limit_work_again_with_the_next_period() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = stopping(&app).await;
    collect(&app, "2026-01-15T11:00:00Z", &account, 5 * GB - 1).await;
    assert_eq!(suspension(&app, &account).await, None);
    collect(&app, "2026-01-15T12:00:00Z", &account, 1).await;
    assert_eq!(suspension(&app, &account).await, Some(Suspension::Traffic));
    let bucket = json!({ "s3uid": account.s3uid, "bucket_name": "another" });
    let refused = app.call("client", "create_bucket", bucket.clone()).await;
    let text = refused.refused(403).to_string();
    assert!(
        text.contains("the traffic of its period is used up"),
        "{text}"
    );
    let users = app.call("client", "get_users", json!({})).await.ok();
    assert!(users.to_string().contains("\"traffic\""), "{users}");
    close(&mut app, &account, "2026-02-15").await;
    assert_eq!(suspension(&app, &account).await, None);
    app.call("client", "create_bucket", bucket).await.ok();
    assert_eq!(told(&app).await.len(), 1);
    let reason = json!("traffic");
    let expected = [
        (Kind::AccountSuspended, reason.clone()),
        (Kind::AccountResumed, reason),
    ];
    assert_eq!(kinds(&app).await, expected);
    // And stop again in it.
    collect(&app, "2026-02-15T02:00:00Z", &account, 5 * GB).await;
    assert_eq!(suspension(&app, &account).await, Some(Suspension::Traffic));
}

#[tokio::test]
async fn a_closing_that_is_late_lifts_nothing_of_the_period_that_has_begun() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = stopping(&app).await;
    collect(&app, "2026-02-15T00:00:00Z", &account, 5 * GB).await;
    assert_eq!(suspension(&app, &account).await, Some(Suspension::Traffic));
    close(&mut app, &account, "2026-02-15").await;
    assert_eq!(suspension(&app, &account).await, Some(Suspension::Traffic));
    close(&mut app, &account, "2026-03-15").await;
    assert_eq!(suspension(&app, &account).await, None);
}

#[tokio::test]
async fn staff_let_an_account_without_traffic_work_until_its_period_ends() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = stopping(&app).await;
    collect(&app, "2026-01-15T11:00:00Z", &account, 5 * GB).await;
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let call = async |action: &str| app.call("admin", action, by_admin.clone()).await.ok();
    let resumed = call("resume_account").await;
    assert_eq!(resumed["service"]["resumed_until"], Value::Null);
    collect(&app, "2026-01-15T12:00:00Z", &account, 5 * GB).await;
    assert_eq!(suspension(&app, &account).await, None);
    close(&mut app, &account, "2026-02-15").await;
    collect(&app, "2026-02-15T02:00:00Z", &account, 5 * GB).await;
    assert_eq!(suspension(&app, &account).await, Some(Suspension::Traffic));
    // What staff stopped is not lifted by a period that begins.
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let suspended = app.call("admin", "suspend_account", by_admin).await.ok();
    assert_eq!(suspended["service"]["suspension"], "administrator");
    close(&mut app, &account, "2026-03-15").await;
    let administrator = Some(Suspension::Administrator);
    assert_eq!(suspension(&app, &account).await, administrator);
}

#[tokio::test]
async fn a_plan_that_allows_more_lets_the_keys_work_and_stops_them_at_its_own_limit() {
    let app = TestApp::start_idle(&[]).await;
    let account = stopping(&app).await;
    collect(&app, "2026-01-15T11:00:00Z", &account, 6 * GB).await;
    for (name, limit_gb, suspended) in [
        ("Smaller", 6, Some(Suspension::Traffic)),
        ("Larger", 8, None),
    ] {
        let plan_id = stopping_plan(&app, name, limit_gb).await;
        let change = json!({
            "s3uid": account.s3uid,
            "id": app.client_id("client"),
            "plan_id": plan_id,
            "when": "now",
        });
        for _ in 0..2 {
            app.call("admin", "change_plan", change.clone()).await.ok();
            assert_eq!(suspension(&app, &account).await, suspended, "{name}");
        }
    }
    collect(&app, "2026-01-15T12:00:00Z", &account, GB).await;
    assert_eq!(suspension(&app, &account).await, None);
    collect(&app, "2026-01-15T13:00:00Z", &account, GB).await;
    assert_eq!(suspension(&app, &account).await, Some(Suspension::Traffic));
    assert_eq!(told(&app).await.len(), 2);
}

#[tokio::test]
async fn a_worker_that_dies_anywhere_leaves_keys_that_are_stopped_once() {
    let hour = "2026-01-15T11:00:00Z";
    let mut index = 0;
    loop {
        let app = TestApp::start_idle(&[]).await;
        let account = stopping(&app).await;
        report(&app, hour, &[&account], 5 * GB, 0).await;
        let body = message(hour);
        let run = app.handle_directly("usage_shards", &body);
        let result = app.tap.crash_at(index, Moment::After, run).await;
        let is_done = result.is_some();
        app.handle_directly("usage_shards", &body)
            .await
            .expect("handled");
        // Whoever died before the cluster knew has left the mark.
        let later = app.now() + SignedDuration::from_mins(10);
        app.stack.clock().move_to(later).expect("moved");
        app.run_directly("resume_tasks").await.expect("run");
        app.stack.drain().await.expect("drained");
        assert_eq!(
            suspension(&app, &account).await,
            Some(Suspension::Traffic),
            "{index}"
        );
        assert_eq!(
            (told(&app).await.len(), kinds(&app).await.len()),
            (1, 1),
            "{index}"
        );
        if is_done {
            break;
        }
        index += 1;
    }
    assert!(index > 5, "{index}");
}

#[tokio::test]
async fn a_plan_stops_at_a_limit_only_where_it_has_one() {
    let app = TestApp::start_idle(&[]).await;
    for (limit_gb, price) in [(0, 0), (5, 1)] {
        let parameters = json!({
            "name": "Stopping",
            "quota": 10,
            "bandwidth_limit": limit_gb,
            "monthly_eur": 1,
            "traffic_overage_price_eur": price,
            "stop_at_bandwidth_limit": 1,
        });
        let reply = app.call("admin", "create_plan", parameters).await;
        let text = reply.refused(400).to_string();
        assert!(text.contains("stop_at_bandwidth_limit"), "{text}");
    }
    let plan_id = stopping_plan(&app, "Stopping", 5).await;
    let off = json!({ "plan_id": plan_id, "stop_at_bandwidth_limit": 0 });
    let plan = app.call("admin", "update_plan", off).await.ok();
    assert_eq!(plan["plan"]["stop_at_bandwidth_limit"], 0);
}
