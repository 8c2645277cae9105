//! Hours of usage: collected once, whatever happens on the way.

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::usage::{AccountSamples, SetDay};
use tests::{TestAccount, TestApp};
use wharfage::domain::account::AccountId;
use wharfage::domain::usage::{Day, Moved, Sample, Stored, Usage, days_of};
use wharfage::segments::SegmentKey;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn advance_to(app: &TestApp, text: &str) {
    let advanced = app.stack.advance_to(at(text)).await.expect("advanced");
    assert_eq!(advanced.drained.failed, 0);
}

/// Moves the clock alone: no schedule runs.
fn wait_until(app: &TestApp, text: &str) {
    app.stack.clock().move_to(at(text)).expect("moved");
}

async fn day(app: &TestApp, account: &TestAccount) -> Day {
    let today = date(2026, 1, 15);
    let days = app
        .context()
        .database
        .days(&account.s3uid, today, today)
        .await
        .expect("days");
    days.get(&today).cloned().unwrap_or_default()
}

async fn samples(app: &TestApp, account: &TestAccount) -> Vec<Sample> {
    let day = at("2026-01-15T00:00:00Z");
    app.context()
        .segments
        .account_samples(&account.location, 0, &account.s3uid, day, day + HOUR * 24)
        .await
        .expect("samples")
}

async fn collected_until(app: &TestApp, location: &str) -> Option<Timestamp> {
    app.context()
        .database
        .collected_until(location)
        .await
        .expect("collected")
}

fn message(location: &str, hour: &str) -> String {
    let key = SegmentKey {
        location: location.into(),
        hour: at(hour),
        shard: 0,
    };
    serde_json::to_string(&key).expect("a message")
}

async fn handle(app: &TestApp, hour: &str) {
    app.handle_directly("usage_shards", &message("NL", hour))
        .await
        .expect("handled");
}

async fn get(s3: &aws_sdk_s3::Client, bucket: &str, key: &str) -> u64 {
    let object = s3
        .get_object()
        .bucket(bucket)
        .key(key)
        .send()
        .await
        .expect("an object");
    object
        .body
        .collect()
        .await
        .expect("its bytes")
        .into_bytes()
        .len() as u64
}

async fn user(app: &TestApp, account: &TestAccount) -> Value {
    let list = app
        .call("admin", "get_users", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    list["s3_users"][0].clone()
}

fn stored(hour: u8, bytes: u64) -> Stored {
    Stored { hour, bytes }
}

#[tokio::test]
async fn samples_tell_the_account_s_number_and_its_client_also_after_a_segment_that_does_not() {
    let app = TestApp::start_idle(&[]).await;
    app.order("client", "first-bucket").await;
    let account = app.order("client2", "my-bucket").await;
    let record = app.context().database.account(&account.s3uid);
    let id = record.await.expect("an answer").expect("the account").id;
    // As an earlier version wrote it.
    let former = SegmentKey {
        location: "NL".into(),
        hour: at("2026-01-15T10:00:00Z"),
        shard: 0,
    };
    let sample = Sample {
        s3uid: account.s3uid.clone(),
        bucket_name: "my-bucket".into(),
        hour: former.hour,
        stored_bytes: Some(0),
        ..Sample::default()
    };
    wait_until(&app, "2026-01-15T11:00:00Z");
    let segments = &app.context().segments;
    let written = segments.put(&former, vec![sample], app.now()).await;
    written.expect("written");
    // Ordered after the hour from which the others are known.
    wait_until(&app, "2026-01-15T12:30:00Z");
    let late = app.order("client", "late-bucket").await;
    wait_until(&app, "2026-01-15T13:05:00Z");
    for hour in ["11", "12"] {
        handle(&app, &format!("2026-01-15T{hour}:00:00Z")).await;
    }
    let whose = |samples: Vec<Sample>| -> Vec<_> {
        samples
            .iter()
            .map(|sample| (sample.account_id, sample.client_id))
            .collect()
    };
    let known = (Some(id), Some(app.client_id("client2")));
    assert_eq!(
        whose(samples(&app, &account).await),
        [(None, None), known, known]
    );
    let client = Some(app.client_id("client"));
    let [(Some(late_id), whose_late)] = whose(samples(&app, &late).await)[..] else {
        panic!("one hour with its account's number");
    };
    assert!(late_id > id);
    assert_eq!(whose_late, client);
}

#[tokio::test]
async fn an_hour_whose_collector_died_before_saying_so_is_settled_by_the_next_run() {
    let app = TestApp::start_idle(&[]).await;
    app.order("client", "my-bucket").await;
    wait_until(&app, "2026-01-15T11:05:00Z");
    app.run_directly("collect_usage").await.expect("asked for");
    // The only shard was collected, and whoever did it died.
    app.context()
        .database
        .shard_collected("NL", at("2026-01-15T10:00:00Z"), 0)
        .await
        .expect("recorded");
    let ten = at("2026-01-15T10:00:00Z");
    assert_eq!(collected_until(&app, "NL").await, Some(ten));
    app.run_directly("collect_usage").await.expect("settled");
    assert_eq!(collected_until(&app, "NL").await, Some(ten + HOUR));
}

#[tokio::test]
async fn an_hour_is_what_was_moved_over_s3() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let idle = app.order("client2", "idle-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 3_000).await;
    let mut sent = get(&s3, "my-bucket", "a").await + get(&s3, "my-bucket", "a").await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    assert_eq!(
        collected_until(&app, "NL").await,
        Some(at("2026-01-15T11:00:00Z"))
    );
    assert_eq!(
        collected_until(&app, "DE").await,
        Some(at("2026-01-15T11:00:00Z"))
    );
    let first = Moved {
        hour: 10,
        bytes_sent: sent,
        bytes_received: 3_000,
        requests: 3,
    };
    assert_eq!(
        day(&app, &account).await,
        Day {
            stored: vec![stored(10, 3_000)],
            moved: vec![first]
        }
    );
    assert_eq!(
        day(&app, &idle).await,
        Day {
            stored: vec![stored(10, 0)],
            moved: vec![]
        }
    );
    // The hour that runs is collected when it has ended.
    app.put(&s3, "my-bucket", "b", 500).await;
    sent += get(&s3, "my-bucket", "b").await;
    advance_to(&app, "2026-01-15T13:05:00Z").await;
    let second = Moved {
        hour: 11,
        bytes_sent: 500,
        bytes_received: 500,
        requests: 2,
    };
    let expected = Day {
        stored: vec![stored(10, 3_000), stored(11, 3_500)],
        moved: vec![first, second],
    };
    assert_eq!(day(&app, &account).await, expected);
    // The days are what the segments say.
    let samples = samples(&app, &account).await;
    assert_eq!(samples.len(), 3);
    assert_eq!(days_of(&samples)[&date(2026, 1, 15)], expected);
    let user = user(&app, &account).await;
    let gb = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    assert_eq!(user["traffic"], gb(sent));
    assert_eq!(user["storage_usage"], gb(3_500));
    assert_eq!(user["total_storage_peak_gb"], gb(3_500));
    assert_eq!(user["buckets"], 1);
}

#[tokio::test]
async fn collecting_twice_late_and_out_of_order_changes_nothing() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 100).await;
    wait_until(&app, "2026-01-15T11:10:00Z");
    app.put(&s3, "my-bucket", "b", 20).await;
    wait_until(&app, "2026-01-15T12:10:00Z");
    get(&s3, "my-bucket", "b").await;
    wait_until(&app, "2026-01-15T13:05:00Z");
    // 12 in time, 11 and 10 too late to tell what was stored; the last one first, and everything twice.
    for hour in ["12", "10", "12", "11", "10", "11"] {
        handle(&app, &format!("2026-01-15T{hour}:00:00Z")).await;
    }
    let moved = |hour, bytes_sent, bytes_received, requests| Moved {
        hour,
        bytes_sent,
        bytes_received,
        requests,
    };
    let expected = Day {
        stored: vec![stored(12, 120)],
        moved: vec![
            moved(10, 0, 100, 1),
            moved(11, 0, 20, 1),
            moved(12, 20, 0, 1),
        ],
    };
    assert_eq!(day(&app, &account).await, expected);
    // What moved after its hour was collected belongs to another hour; what a later look says of this one, does not count.
    wait_until(&app, "2026-01-15T14:05:00Z");
    app.put(&s3, "my-bucket", "c", 1).await;
    handle(&app, "2026-01-15T13:00:00Z").await;
    handle(&app, "2026-01-15T12:00:00Z").await;
    let later = day(&app, &account).await;
    assert_eq!(later.moved, expected.moved);
    assert_eq!(later.stored, [stored(12, 120), stored(13, 121)]);
}

#[tokio::test]
async fn two_hours_at_once_both_count() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    for hour in ["11", "12", "13", "14"] {
        app.put(&s3, "my-bucket", hour, 10).await;
        wait_until(&app, &format!("2026-01-15T{hour}:05:00Z"));
    }
    let hours = ["10", "11", "12", "13"].map(|hour| format!("2026-01-15T{hour}:00:00Z"));
    let runs = hours
        .iter()
        .flat_map(|hour| [handle(&app, hour), handle(&app, hour)]);
    futures::future::join_all(runs).await;
    let day = day(&app, &account).await;
    assert_eq!(
        day.moved
            .iter()
            .map(|moved| moved.bytes_received)
            .collect::<Vec<_>>(),
        [10, 10, 10, 10]
    );
    assert_eq!(day.stored, [stored(13, 40)]);
    assert_eq!(
        user(&app, &account).await["storage_usage"],
        40.0 / f64::from(1 << 30)
    );
}

#[tokio::test]
async fn an_unchanged_account_costs_no_call() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 100).await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    wait_until(&app, "2026-01-15T12:05:00Z");
    let at_noon = message("NL", "2026-01-15T12:00:00Z");
    let message = message("NL", "2026-01-15T11:00:00Z");
    let calls =
        |calls: Vec<tests::tap::Noted>| calls.into_iter().map(|call| call.name).collect::<Vec<_>>();
    let (result, quiet) = app
        .tap
        .scope(app.handle_directly("usage_shards", &message))
        .await;
    result.expect("handled");
    let mut quiet = calls(quiet);
    quiet.sort();
    // What is asked for is the shard's; the hour before is in memory.
    let mut expected = vec![
        "DynamoDB Query",
        "S3 GET",
        "cluster POST stats",
        "cluster POST usage",
        "S3 PUT",
        // The cluster's secret, which was an hour old.
        "SecretsManager GetSecretValue",
        "DynamoDB UpdateItem",
    ];
    expected.sort_unstable();
    assert_eq!(quiet, expected);
    // Again: the segment is in memory by now.
    let (result, again) = app
        .tap
        .scope(app.handle_directly("usage_shards", &message))
        .await;
    result.expect("handled");
    let writes = ["DynamoDB PutItem", "S3 PUT", "cluster POST stats"];
    assert!(
        calls(again)
            .iter()
            .all(|call| !writes.contains(&call.as_str()))
    );
    assert_eq!(day(&app, &account).await.stored, [stored(10, 100)]);

    // One that did change costs its days, twice, its figures, its month and its day, and an hour with traffic what of it was our own.
    // Hours 00 to 09 were never collected: they are asked for, each in vain.
    app.put(&s3, "my-bucket", "b", 1).await;
    wait_until(&app, "2026-01-15T13:05:00Z");
    let message = at_noon;
    let run = app.handle_directly("usage_shards", &message);
    let (result, changed) = app.tap.scope(run).await;
    result.expect("handled");
    let mut changed = calls(changed);
    changed.sort();
    expected.extend(["S3 GET"; 10]);
    expected.extend(["DynamoDB BatchGetItem"; 2]);
    expected.extend(["DynamoDB Query"; 3]);
    expected.extend([
        "DynamoDB UpdateItem",
        "DynamoDB PutItem",
        "DynamoDB PutItem",
    ]);
    expected.sort_unstable();
    assert_eq!(changed, expected);
}

#[tokio::test]
async fn a_worker_that_dies_anywhere_leaves_nothing_half() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    let mut hour = at("2026-01-15T10:00:00Z");
    let mut received = 0;
    let mut crashes = 0;
    let mut crash = Some(0);
    while let Some(index) = crash {
        for moment in [Moment::Before, Moment::After] {
            app.put(&s3, "my-bucket", &format!("{hour}{index}"), 10)
                .await;
            received += 10;
            hour += HOUR;
            app.stack
                .clock()
                .move_to(hour + SignedDuration::from_mins(5))
                .expect("moved");
            app.run_directly("collect_usage").await.expect("sent");
            let message = message("NL", &(hour - HOUR).to_string());
            let run = app.handle_directly("usage_shards", &message);
            match app.tap.crash_at(index, moment, run).await {
                Some(result) => {
                    result.expect("handled");
                    crash = None;
                }
                None => crashes += 1,
            }
            app.stack.drain().await.expect("drained");
            assert_eq!(
                collected_until(&app, "NL").await,
                Some(hour),
                "{index} {moment:?}"
            );
            let days = app
                .context()
                .database
                .days(&account.s3uid, date(2026, 1, 15), date(2026, 12, 31))
                .await;
            let days = days.expect("days");
            let usage = Usage::of(0, &days, date(2026, 1, 15), hour);
            assert_eq!(
                (usage.bytes_received, usage.stored_bytes),
                (received, received),
                "{index} {moment:?}"
            );
            let found = app.context().database.account(&account.s3uid).await;
            let found = found.expect("DynamoDB").expect("the account");
            assert_eq!(found.stored_bytes, received, "{index} {moment:?}");
        }
        crash = crash.map(|index| index + 1);
    }
    assert!(crashes > 30, "{crashes}");
}

#[tokio::test]
async fn the_job_may_die_anywhere_and_come_twice() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let mut hour = at("2026-01-15T10:00:00Z");
    let mut index = 0;
    loop {
        hour += HOUR;
        app.stack
            .clock()
            .move_to(hour + SignedDuration::from_mins(5))
            .expect("moved");
        let run = app.run_directly("collect_usage");
        let ended = app.tap.crash_at(index, Moment::After, run).await;
        app.run_directly("collect_usage").await.expect("sent");
        app.run_directly("collect_usage").await.expect("sent");
        app.stack.drain().await.expect("drained");
        assert_eq!(collected_until(&app, "NL").await, Some(hour), "{index}");
        assert_eq!(collected_until(&app, "DE").await, Some(hour), "{index}");
        let under_way = app
            .context()
            .database
            .collection("NL")
            .await
            .expect("collection")
            .expect("a collection");
        assert_eq!(under_way.hours, []);
        if ended.is_some() {
            break;
        }
        index += 1;
    }
    assert!(index > 5, "{index}");
    assert_eq!(day(&app, &account).await.stored, [stored(10, 0)]);
}

#[tokio::test]
async fn hours_that_were_missed_are_found_later() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    app.put(&s3, "my-bucket", "a", 100).await;
    // Nothing runs for three hours and a half.
    wait_until(&app, "2026-01-15T14:40:00Z");
    app.stack.run_job("collect_usage").await.expect("sent");
    app.stack.drain().await.expect("drained");
    assert_eq!(
        collected_until(&app, "NL").await,
        Some(at("2026-01-15T14:00:00Z"))
    );
    let day = day(&app, &account).await;
    assert_eq!(
        day.moved,
        [Moved {
            hour: 11,
            bytes_sent: 0,
            bytes_received: 100,
            requests: 1
        }]
    );
    // What was stored at 11 and 12 nobody can tell any more: the bytes before are carried.
    assert_eq!(day.stored, [stored(10, 0), stored(13, 100)]);
    let unknown = samples(&app, &account)
        .await
        .into_iter()
        .filter(|sample| sample.stored_bytes.is_none());
    assert_eq!(unknown.count(), 2);
}

#[tokio::test]
async fn a_cluster_that_was_down_is_caught_up_with() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    app.put(&s3, "my-bucket", "a", 100).await;
    for hour in ["11", "12"] {
        let end = at(&format!("2026-01-15T{hour}:05:00Z")) + HOUR;
        app.stack.clock().move_to(end).expect("moved");
        let message = message("NL", &format!("2026-01-15T{hour}:00:00Z"));
        let run = async {
            app.run_directly("collect_usage").await.expect("sent");
            app.handle_directly("usage_shards", &message).await
        };
        let failed = app
            .tap
            .without(|name| name.starts_with("cluster"), run)
            .await;
        assert!(failed.expect_err("the cluster is down").retryable);
        assert_eq!(
            collected_until(&app, "NL").await,
            Some(at("2026-01-15T11:00:00Z"))
        );
    }
    advance_to(&app, "2026-01-15T14:05:00Z").await;
    assert_eq!(
        collected_until(&app, "NL").await,
        Some(at("2026-01-15T14:00:00Z"))
    );
    let day = day(&app, &account).await;
    assert_eq!(
        day.moved,
        [Moved {
            hour: 11,
            bytes_sent: 0,
            bytes_received: 100,
            requests: 1
        }]
    );
    // 12 was caught up with in time to tell what was stored, 11 was not.
    assert_eq!(day.stored, [stored(10, 0), stored(12, 100)]);
}

#[tokio::test]
async fn what_the_cluster_forgets_stays_collected() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 100).await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    let before = day(&app, &account).await;
    let cluster = &app.stack.clusters()["NL"];
    let trim = http::Request::builder()
        .method("DELETE")
        .uri(format!(
            "{}/_admin/v1/usage?before=2026-01-15T11:00:00Z",
            cluster.admin_endpoint
        ))
        .header("authorization", format!("Bearer {}", cluster.admin_token))
        .body(aws_sdk_s3::primitives::SdkBody::empty())
        .expect("a request");
    let request = aws_smithy_runtime_api::client::orchestrator::HttpRequest::try_from(trim)
        .expect("a request");
    use aws_smithy_runtime_api::client::http::HttpConnector;
    let answer = app.tap.connector().call(request).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 204);
    handle(&app, "2026-01-15T10:00:00Z").await;
    assert_eq!(day(&app, &account).await, before);
    // A day that was lost is made again from the segments.
    let database = &app.context().database;
    database
        .set_day(&account.s3uid, date(2026, 1, 15), &Day::default())
        .await
        .expect("set");
    handle(&app, "2026-01-15T10:00:00Z").await;
    assert_eq!(day(&app, &account).await, before);
    advance_to(&app, "2026-01-15T12:05:00Z").await;
    assert_eq!(day(&app, &account).await, before);
}

#[tokio::test]
async fn accounts_are_metered_from_their_first_hour_to_their_last() {
    let app = TestApp::start_idle(&[]).await;
    let early = app.order("client", "early-bucket").await;
    let s3 = app.s3("client", &early).await;
    app.put(&s3, "early-bucket", "a", 100).await;
    wait_until(&app, "2026-01-15T11:02:00Z");
    let late = app.order("client", "late-bucket").await;
    advance_to(&app, "2026-01-15T11:20:00Z").await;
    assert_eq!(samples(&app, &late).await, []);
    // What moves in the hour of its end counts, though the account is gone when the hour is collected.
    get(&s3, "early-bucket", "a").await;
    app.call("client", "delete_account", json!({ "s3uid": early.s3uid }))
        .await
        .ok();
    app.stack.drain().await.expect("drained");
    advance_to(&app, "2026-01-15T14:05:00Z").await;
    let early_day = day(&app, &early).await;
    assert_eq!(
        early_day
            .moved
            .last()
            .map(|moved| (moved.hour, moved.bytes_sent)),
        Some((11, 100))
    );
    assert_eq!(early_day.stored.last(), Some(&stored(11, 0)));
    assert_eq!(
        samples(&app, &early).await.last().map(|sample| sample.hour),
        Some(at("2026-01-15T11:00:00Z"))
    );
    let metered = app
        .context()
        .database
        .metered_accounts("NL", 0, 999)
        .await
        .expect("accounts");
    assert_eq!(
        metered
            .iter()
            .map(|account| &account.s3uid)
            .collect::<Vec<_>>(),
        [&late.s3uid]
    );
}

#[tokio::test]
async fn a_bucket_emptied_at_midnight_is_not_charged_on() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 100).await;
    advance_to(&app, "2026-01-16T00:30:00Z").await;
    s3.delete_object()
        .bucket("my-bucket")
        .key("a")
        .send()
        .await
        .expect("deleted");
    advance_to(&app, "2026-01-16T02:05:00Z").await;
    let days = app
        .context()
        .database
        .days(&account.s3uid, date(2026, 1, 15), date(2026, 1, 16))
        .await
        .expect("days");
    let usage = Usage::of(0, &days, date(2026, 1, 15), at("2026-01-16T10:00:00Z"));
    assert_eq!((usage.stored_bytes, usage.stored_byte_hours), (0, 100 * 14));
}

#[tokio::test]
async fn many_shards_make_an_hour() {
    let app = TestApp::start_idle(&[("UsageShardAccounts", "2")]).await;
    let mut accounts = Vec::new();
    for index in 0..5 {
        let parameters = json!({ "plan_id": 2, "bucket_name": format!("bucket-{index}"), "location": (["NL", "DE"][index % 2]) });
        accounts.push(
            app.order_with(["client", "client2"][index % 2], parameters)
                .await,
        );
    }
    advance_to(&app, "2026-01-15T12:05:00Z").await;
    for account in &accounts {
        assert_eq!(day(&app, account).await.stored, [stored(10, 0)]);
        let shard = wharfage::segments::shard_of(AccountId(account.id), 2);
        let key = SegmentKey {
            location: account.location.clone(),
            hour: at("2026-01-15T11:00:00Z"),
            shard,
        };
        let segment = app
            .context()
            .segments
            .get(&key)
            .await
            .expect("S3")
            .expect("a segment");
        assert!(segment.iter().any(|sample| sample.s3uid == account.s3uid));
    }
    assert_eq!(
        collected_until(&app, "NL").await,
        Some(at("2026-01-15T12:00:00Z"))
    );
}

async fn ranking(app: &TestApp, parameters: Value) -> Vec<(u64, f64, f64)> {
    let list = app.call("admin", "get_users", parameters).await.ok();
    let rows = list["s3_users"].as_array().expect("rows").iter();
    rows.map(|row| {
        let figure = |name: &str| row[name].as_f64().expect("a figure") * f64::from(1 << 30);
        (
            row["id"].as_u64().expect("id"),
            figure("total_traffic_period_gb"),
            figure("total_storage_peak_gb"),
        )
    })
    .collect()
}

#[tokio::test]
async fn get_users_ranks_accounts_over_a_month() {
    let mut app = TestApp::start_idle(&[]).await;
    let mut accounts = Vec::new();
    for (index, bytes) in [100usize, 300, 200, 0].into_iter().enumerate() {
        let bucket = format!("bucket-{index}");
        let who = ["client", "client2"][index % 2];
        let account = app
            .order_with(
                who,
                json!({ "plan_id": ([2, 3][index / 2]), "bucket_name": bucket }),
            )
            .await;
        let s3 = app.s3(who, &account).await;
        if bytes > 0 {
            app.put(&s3, &bucket, "a", bytes).await;
            for _ in 0..=index {
                get(&s3, &bucket, "a").await;
            }
        }
        accounts.push(account);
    }
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    let ids: Vec<u64> = accounts.iter().map(|account| account.id).collect();
    let by = |order: &str, extra: Value| {
        let mut parameters =
            json!({ "order": order, "order_by": "DESC", "period_from": "2026-01-01" });
        for (name, value) in extra.as_object().expect("parameters") {
            parameters[name] = value.clone();
        }
        parameters
    };
    let traffic = "total_traffic_period_gb";
    let storage = "total_storage_peak_gb";
    let all = [
        (ids[1], 600.0, 300.0),
        (ids[2], 600.0, 200.0),
        (ids[0], 100.0, 100.0),
        (ids[3], 0.0, 0.0),
    ];
    let rows = ranking(&app, by(storage, json!({}))).await;
    assert_eq!(rows, all);
    // Until today, or until the month's end: the same.
    for to in ["2026-01-15", "2026-01-31"] {
        assert_eq!(
            ranking(&app, by(storage, json!({ "period_to": to }))).await,
            all
        );
    }
    assert_eq!(
        ranking(&app, by(storage, json!({ "limit": 2, "offset": 1 }))).await,
        all[1..3]
    );
    assert_eq!(
        ranking(&app, by(storage, json!({ "plan_id": 3 }))).await,
        [all[1], all[3]]
    );
    let ascending = ranking(
        &app,
        json!({ "order": traffic, "order_by": "ASC", "period_from": "2026-01-01" }),
    )
    .await;
    assert_eq!((ascending[0].0, ascending[1].0), (ids[3], ids[0]));

    // The next month begins with what is stored, and the last one stays as it was.
    wait_until(&app, "2026-02-01T01:05:00Z");
    app.stack
        .run_job("collect_usage")
        .await
        .expect("the latest hour is sent, and some of the others");
    app.stack.drain().await.expect("drained");
    app.log_in().await;
    let january = json!({ "period_to": "2026-01-31" });
    assert_eq!(ranking(&app, by(storage, january.clone())).await, all);
    let mut february = by(storage, json!({}));
    february["period_from"] = "2026-02-01".into();
    let rows = ranking(&app, february).await;
    assert_eq!(
        rows.iter()
            .map(|row| (row.0, row.1, row.2))
            .collect::<Vec<_>>(),
        [
            (ids[1], 0.0, 300.0),
            (ids[2], 0.0, 200.0),
            (ids[0], 0.0, 100.0),
            (ids[3], 0.0, 0.0),
        ]
    );
    // The rankings say what the days say.
    for (id, sent, peak) in all {
        let mut parameters = by(storage, january.clone());
        parameters["s3uid"] = accounts
            .iter()
            .find(|account| account.id == id)
            .expect("account")
            .s3uid
            .as_str()
            .into();
        assert_eq!(ranking(&app, parameters).await, [(id, sent, peak)]);
    }
    // An account that is gone stands in none.
    app.call(
        "client2",
        "delete_account",
        json!({ "s3uid": accounts[1].s3uid }),
    )
    .await
    .ok();
    app.stack.drain().await.expect("drained");
    assert_eq!(
        ranking(&app, by(storage, january)).await,
        [all[1], all[2], all[3]]
    );

    let refused = app
        .call(
            "admin",
            "get_users",
            by(storage, json!({ "period_from": "2026-01-02" })),
        )
        .await
        .refused(400);
    assert!(refused.contains("a whole calendar month"), "{refused}");
}

#[tokio::test]
async fn the_first_hour_of_a_quiet_day_costs_one_write_and_no_look_at_the_days() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 100).await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    // Whose the accounts are is known from the hour before.
    wait_until(&app, "2026-01-16T00:05:00Z");
    handle(&app, "2026-01-15T23:00:00Z").await;
    let midnight = message("NL", "2026-01-16T00:00:00Z");
    wait_until(&app, "2026-01-16T01:05:00Z");
    let run = app.handle_directly("usage_shards", &midnight);
    let (result, calls) = app.tap.scope(run).await;
    result.expect("handled");
    let mut calls: Vec<String> = calls.into_iter().map(|call| call.name).collect();
    calls.retain(|call| call.starts_with("DynamoDB"));
    calls.sort();
    let expected = [
        "DynamoDB BatchGetItem",
        "DynamoDB BatchGetItem",
        "DynamoDB PutItem",
        "DynamoDB Query",
        "DynamoDB UpdateItem",
    ];
    assert_eq!(calls, expected);
    let tomorrow = date(2026, 1, 16);
    let days = app
        .context()
        .database
        .days(&account.s3uid, tomorrow, tomorrow);
    let days = days.await.expect("days");
    assert_eq!(days[&tomorrow].stored, [stored(0, 100)]);
    // One with traffic does look, even if no more is stored.
    get(&s3, "my-bucket", "a").await;
    wait_until(&app, "2026-01-16T02:05:00Z");
    handle(&app, "2026-01-16T01:00:00Z").await;
    assert_eq!(
        user(&app, &account).await["traffic"],
        100.0 / f64::from(1 << 30)
    );
}
