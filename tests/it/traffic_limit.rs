//! A plan that includes traffic and sells no more: whoever has used it up is told so, once a period.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
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
async fn told(app: &TestApp) -> Vec<(String, Value)> {
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
