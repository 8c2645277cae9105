//! The whole of the product over a real Ceph RGW: from an order to the last byte, and through the gateway's absence.
//!
//! RGW counts traffic in its own hours, which are those of the clock on the wall. So these systems begin in the present; an hour is
//! collected by moving their clock past its end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use tests::clusters::{Rgw, Subject, code};
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{S3Uid, Status};
use wharfage::domain::period::hour_of;
use wharfage::random::Random;

/// Requests at once.
const AT_ONCE: usize = 16;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Longer than the lease on an order.
const LEASE_AND_MORE: SignedDuration = SignedDuration::from_secs(61);
/// Longer than a task is left silent.
const SILENCE_AND_MORE: SignedDuration = SignedDuration::from_mins(11);

/// A bucket name that no other run has.
fn new_name(name: &str) -> String {
    format!("{}-{name}", Random::from_os().access_key().to_lowercase())
}

/// Objects of the account that is deleted with all of them: 20,000 are the full measure.
#[allow(
    clippy::disallowed_methods,
    reason = "how much a run tests is set from outside"
)]
fn many_objects() -> usize {
    std::env::var("WHARFAGE_TEST_OBJECTS").map_or(20_000, |text| text.parse().expect("a number"))
}

async fn get(s3: &aws_sdk_s3::Client, bucket: &str, key: &str) -> u64 {
    let object = s3.get_object().bucket(bucket).key(key).send().await;
    let body = object.expect("an object").body.collect().await;
    body.expect("its bytes").into_bytes().len() as u64
}

/// What RGW itself has counted under a user: bytes sent, bytes received, requests.
fn counted(rgw: &Rgw, s3uid: &S3Uid) -> (u64, u64, u64) {
    let usage = rgw.tool(&[
        "usage",
        "show",
        "--uid",
        s3uid.as_str(),
        "--show-log-entries=false",
    ]);
    let usage = usage.expect("the tool answers");
    let total = &usage["summary"][0]["total"];
    let figure = |name: &str| total[name].as_u64().unwrap_or(0);
    (
        figure("bytes_sent"),
        figure("bytes_received"),
        figure("ops"),
    )
}

/// The same, once nothing has been added for longer than RGW takes to write it.
async fn counted_in_the_end(rgw: &Rgw, s3uid: &S3Uid) -> (u64, u64, u64) {
    let mut before = counted(rgw, s3uid);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let now = counted(rgw, s3uid);
        if now == before {
            return now;
        }
        before = now;
    }
    panic!("RGW keeps counting")
}

/// What was collected of an account's traffic on all days: bytes sent, bytes received, requests.
async fn collected(app: &TestApp, account: &TestAccount) -> (u64, u64, u64) {
    let (from, to) = ("2020-01-01", "2099-01-01");
    let [from, to] = [from, to].map(|date| date.parse().expect("a date"));
    let days = app.context().database.days(&account.s3uid, from, to).await;
    let days = days.expect("DynamoDB answers");
    days.values()
        .flat_map(|day| &day.moved)
        .fold((0, 0, 0), |(sent, received, requests), moved| {
            (
                sent + moved.bytes_sent,
                received + moved.bytes_received,
                requests + moved.requests,
            )
        })
}

async fn collected_until(app: &TestApp) -> Timestamp {
    let until = app.context().database.collected_until("NL").await;
    until.expect("DynamoDB answers").expect("a first hour")
}

/// A system over this RGW, working by itself or not, that collects hours from now on.
async fn start(rgw: &Rgw, parameters: &[(&str, &str)], background: bool) -> TestApp {
    let app = rgw.app(parameters, background).await;
    app.stack
        .run_job("collect_usage")
        .await
        .expect("the job succeeds");
    app
}

/// Moves time past the end of the running hour, so that it is collected.
async fn end_the_hour(app: &TestApp) {
    let end = hour_of(app.now()) + SignedDuration::from_mins(66);
    app.stack.advance_to(end).await.expect("advanced");
}

/// Bytes that RGW says are in a bucket.
fn stored(rgw: &Rgw, bucket_name: &str) -> Option<u64> {
    let stats = rgw.tool(&["bucket", "stats", "--bucket", bucket_name])?;
    let categories = stats["usage"].as_object().expect("an object");
    Some(
        categories
            .values()
            .map(|category| category["size"].as_u64().unwrap_or(0))
            .sum(),
    )
}

fn has_user(rgw: &Rgw, s3uid: &S3Uid) -> bool {
    rgw.tool(&["user", "info", "--uid", s3uid.as_str()])
        .is_some()
}

async fn status(app: &TestApp, account: &TestAccount) -> Status {
    let account = app.context().database.account(&account.s3uid).await;
    account
        .expect("DynamoDB answers")
        .expect("the account")
        .service
        .status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Ceph RGW: tests/clusters/start-rgw"]
async fn an_account_is_ordered_used_metered_billed_and_stopped_over_rgw() {
    let rgw = Rgw::from_env();
    let mut app = start(&rgw, &[], true).await;
    let plan = json!({
        "name": "Small", "quota": 1, "storage_limit": 1, "locations": "NL",
        "monthly_eur": "1.00", "traffic_overage_price_eur": "40",
    });
    let plan = app.call("admin", "create_plan", plan).await.ok();
    let bucket = new_name("flow");
    let order = json!({ "plan_id": plan["plan"]["id"], "bucket_name": bucket });
    let account = app.order_with("client", order).await;
    let user = rgw.tool(&["user", "info", "--uid", account.s3uid.as_str()]);
    let user = user.expect("RGW has the user");
    assert_eq!(user["user_quota"]["enabled"], true);
    assert_eq!(user["user_quota"]["max_size"], GIB);
    assert_eq!(user["user_quota"]["check_on_raw"], true);
    assert_eq!(user["keys"].as_array().map(Vec::len), Some(1));
    let taken = json!({ "plan_id": 2, "bucket_name": bucket });
    app.call("client2", "create_order", taken)
        .await
        .refused(409);

    // What is uploaded is what is shown, and what RGW says.
    let s3 = app.s3("client", &account).await;
    app.put(&s3, &bucket, "large/0", (64 * MIB) as usize).await;
    for number in 0..20_usize {
        app.put(&s3, &bucket, &format!("small/{number}"), 100 + number)
            .await;
    }
    let small: u64 = (0..20).map(|number| 100 + number).sum();
    for action in ["get_buckets", "get_buckets_rmq"] {
        let parameters = json!({ "s3uid": account.s3uid });
        let buckets = app.call("client", action, parameters).await.ok();
        assert_eq!(buckets["usage_storage"], 64 * MIB + small);
        assert_eq!(buckets["message"][0]["usage"], 64 * MIB + small);
        assert_eq!(buckets["message"][0]["objects"], 21);
        assert_eq!(buckets["message"][0]["noncurrent_usage"], Value::Null);
    }
    assert_eq!(stored(&rgw, &bucket), Some(64 * MIB + small));

    // The cluster itself refuses what is above the limit: here to the byte.
    for number in 1..15 {
        s3.copy_object()
            .bucket(&bucket)
            .key(format!("large/{number}"))
            .copy_source(format!("{bucket}/large/0"))
            .send()
            .await
            .expect("a copy");
    }
    let rest = GIB - 15 * 64 * MIB - small;
    app.put(&s3, &bucket, "rest", rest as usize).await;
    let one_more = s3
        .put_object()
        .bucket(&bucket)
        .key("more")
        .body(vec![b'x'].into());
    assert_eq!(code(one_more.send().await), "QuotaExceeded");
    let buckets = json!({ "s3uid": account.s3uid });
    let buckets = app.call("client", "get_buckets", buckets).await.ok();
    assert_eq!(buckets["usage_storage"], GIB);

    // Of two keys both work, until one has taken the other's place.
    let parameters = json!({ "s3uid": account.s3uid });
    let next = app.call("client", "rotate_key", parameters).await.ok();
    let [access_key, secret_key] =
        ["access_key", "secret_key"].map(|name| next[name].as_str().expect("a key"));
    let next_s3 = app.s3_with("NL", access_key, secret_key);
    assert_eq!(get(&s3, &bucket, "small/0").await, 100);
    assert_eq!(get(&next_s3, &bucket, "small/0").await, 100);
    let confirm = json!({ "s3uid": account.s3uid, "confirm": 1 });
    app.call("client", "rotate_key", confirm).await.ok();
    let old = s3.get_object().bucket(&bucket).key("small/0").send().await;
    assert_eq!(code(old), "InvalidAccessKeyId");
    let s3 = next_s3;
    assert_eq!(get(&s3, &bucket, "small/0").await, 100);

    // A suspended account's keys open nothing.
    let whose = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    app.call("admin", "suspend_account", whose.clone())
        .await
        .ok();
    let refused = s3.get_object().bucket(&bucket).key("small/0").send().await;
    assert_eq!(code(refused), "UserSuspended");
    app.call("admin", "resume_account", whose).await.ok();

    // Traffic, in its hour.
    for _ in 0..3 {
        assert_eq!(get(&s3, &bucket, "large/0").await, 64 * MIB);
    }
    let counted = counted_in_the_end(&rgw, &account.s3uid).await;
    assert!(counted.0 >= 3 * 64 * MIB, "{counted:?}");
    end_the_hour(&app).await;
    assert_eq!(collected(&app, &account).await, counted);
    app.log_in().await;
    let usage = json!({ "s3uid": account.s3uid });
    let usage = app.call("client", "get_usage", usage).await.ok();
    let rows = usage["usage"].as_array().expect("a list");
    let sent: u64 = rows
        .iter()
        .map(|row| row["bytes_sent"].as_u64().expect("bytes"))
        .sum();
    assert_eq!(sent, counted.0);
    assert_eq!(rows.last().expect("a row")["stored_bytes"], GIB);

    // The month ends: what was sent above nothing included is paid for, to the cent.
    let begun = Instant::now();
    app.stack
        .advance(1.month().hours(2))
        .await
        .expect("advanced");
    println!("a month of {:.1} s", begun.elapsed().as_secs_f64());
    let invoices = app
        .context()
        .database
        .invoices(app.client_id("client"))
        .await;
    let invoices = invoices.expect("DynamoDB answers");
    assert_eq!(invoices.len(), 2);
    let invoice = serde_json::to_value(&invoices[1]).expect("JSON");
    let lines = invoice["lines"].as_array().expect("a list");
    let traffic: Vec<&Value> = lines
        .iter()
        .filter(|line| line["basis"]["component"] == "traffic")
        .collect();
    assert_eq!(traffic.len(), 1, "{lines:#?}");
    assert_eq!(traffic[0]["basis"]["bytes_sent"], counted.0);
    let cents = (counted.0 as f64 * 4_000.0 / GIB as f64).round();
    assert_eq!(traffic[0]["amount_minor"], cents as u64);
    app.assert_ledger_is_sound("client").await;
}

/// A bucket in which old versions are kept.
async fn keep_versions(s3: &aws_sdk_s3::Client, bucket_name: &str) {
    let versioning = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    s3.put_bucket_versioning()
        .bucket(bucket_name)
        .versioning_configuration(versioning)
        .send()
        .await
        .expect("versions are kept");
}

/// Uploads objects of three bytes, several at once.
async fn put_many(app: &TestApp, s3: &aws_sdk_s3::Client, bucket_name: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| async move {
            app.put(s3, bucket_name, &format!("{}/{number}", number % 100), 3)
                .await;
        })
        .await;
}

async fn delete_many(s3: &aws_sdk_s3::Client, bucket_name: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| async move {
            let key = format!("{}/{number}", number % 100);
            s3.delete_object()
                .bucket(bucket_name)
                .key(key)
                .send()
                .await
                .expect("deleted");
        })
        .await;
}

/// Uploads that nobody completes, each with a part of five bytes.
async fn begin_uploads(s3: &aws_sdk_s3::Client, bucket_name: &str, count: usize) {
    for number in 0..count {
        let key = format!("upload/{number}");
        let upload = s3
            .create_multipart_upload()
            .bucket(bucket_name)
            .key(&key)
            .send()
            .await
            .expect("begun");
        s3.upload_part()
            .bucket(bucket_name)
            .key(&key)
            .upload_id(upload.upload_id().expect("an id"))
            .part_number(1)
            .body(vec![b'x'; 5].into())
            .send()
            .await
            .expect("a part");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Ceph RGW: tests/clusters/start-rgw"]
async fn an_account_with_many_objects_versions_and_uploads_leaves_nothing_in_rgw() {
    let rgw = Rgw::from_env();
    let app = start(&rgw, &[], false).await;
    let (bucket, second) = (new_name("many"), new_name("few"));
    let account = app.order("client", &bucket).await;
    let more = json!({ "s3uid": account.s3uid, "bucket_name": second });
    app.call("client", "create_bucket", more).await.ok();
    let s3 = app.s3("client", &account).await;
    keep_versions(&s3, &bucket).await;
    let objects = many_objects();
    let some = objects / 20;
    let begun = Instant::now();
    put_many(&app, &s3, &bucket, objects).await;
    put_many(&app, &s3, &bucket, some).await;
    delete_many(&s3, &bucket, some).await;
    begin_uploads(&s3, &bucket, 20).await;
    put_many(&app, &s3, &second, 10).await;
    let uploading = begun.elapsed();
    let entries = objects + 2 * some + 20 + 10;
    let bytes = 3 * (objects + some + 10) + 5 * 20;
    let indices: Vec<String> = [&bucket, &second]
        .map(|name| {
            let stats = rgw
                .tool(&["bucket", "stats", "--bucket", name])
                .expect("the bucket");
            stats["id"].as_str().expect("an id").to_owned()
        })
        .to_vec();
    let is_theirs = |object: &String| indices.iter().any(|id| object.contains(id.as_str()));
    assert!(rgw.pool("default.rgw.buckets.index").iter().any(is_theirs));
    assert!(rgw.pool("default.rgw.buckets.data").iter().any(is_theirs));

    let begun = Instant::now();
    let parameters = json!({ "s3uid": account.s3uid });
    let callback = app.call("client", "delete_account", parameters).await.ok();
    let refused = s3.list_objects_v2().bucket(&bucket).send().await;
    assert_eq!(code(refused), "UserSuspended");
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(drained.failed, 0);
    println!(
        "{entries} entries: uploaded in {:.1} s, deleted in {:.1} s",
        uploading.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    let answer = app
        .check(callback["callback"].as_str().expect("a key"))
        .await
        .ok();
    assert_eq!(answer["scope"]["status"], "terminated");
    assert_eq!(answer["scope"]["entries_removed"], entries);
    assert_eq!(answer["scope"]["bytes_removed"], bytes);
    assert_eq!(status(&app, &account).await, Status::Terminated);

    // No user, no keys, no buckets, no index; and of objects only what waits to be collected as garbage.
    assert!(!has_user(&rgw, &account.s3uid));
    let refused = s3.list_buckets().send().await;
    assert_eq!(code(refused), "InvalidAccessKeyId");
    for name in [&bucket, &second] {
        assert_eq!(stored(&rgw, name), None);
    }
    let instances = rgw
        .tool(&["metadata", "list", "bucket.instance"])
        .expect("instances");
    let instances = instances.to_string();
    assert!(!instances.contains(&bucket) && !instances.contains(&second));
    let left: BTreeSet<String> = rgw
        .pool("default.rgw.buckets.index")
        .into_iter()
        .filter(is_theirs)
        .collect();
    assert_eq!(left, BTreeSet::new());
    // The parts of uploads wait for a second, and for the collector.
    tokio::time::sleep(Duration::from_secs(2)).await;
    rgw.tool(&["gc", "process", "--include-all"])
        .expect("garbage is collected");
    let left: BTreeSet<String> = rgw
        .pool("default.rgw.buckets.data")
        .into_iter()
        .filter(is_theirs)
        .collect();
    assert_eq!(left, BTreeSet::new());

    // What was counted stays until it is collected: there is a last invoice. Then it goes too.
    let counted = counted_in_the_end(&rgw, &account.s3uid).await;
    assert!(counted.2 as usize > objects, "{counted:?}");
    end_the_hour(&app).await;
    assert_eq!(collected(&app, &account).await, counted);
    end_the_hour(&app).await;
    end_the_hour(&app).await;
    assert_eq!(self::counted(&rgw, &account.s3uid), (0, 0, 0));
    assert_eq!(collected(&app, &account).await, counted);
    // The names are free.
    app.order("client2", &bucket).await;
}

/// The position of the first call whose name begins so.
async fn first_call(app: &TestApp, begin: &str, work: impl Future<Output = tests::Reply>) -> usize {
    let (reply, calls) = app.tap.scope(work).await;
    reply.ok();
    calls
        .iter()
        .position(|call| call.name.starts_with(begin))
        .expect("such a call")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Ceph RGW: tests/clusters/start-rgw"]
async fn what_the_gateway_interrupts_by_going_away_is_completed_once_when_it_is_back() {
    // One of its own: the others' is not to go away.
    let rgw = Rgw::start();
    let app = start(&rgw, &[("CleanupStepEntries", "50")], false).await;
    // It goes away before an hour is collected. An orderly stop writes out what was counted.
    let idle = app.order("client", "stays").await;
    let idle_s3 = app.s3("client", &idle).await;
    app.put(&idle_s3, "stays", "a", 70_000).await;
    for _ in 0..5 {
        assert_eq!(get(&idle_s3, "stays", "a").await, 70_000);
    }
    rgw.stop_gateway();
    let counted = counted(&rgw, &idle.s3uid);
    assert!(counted.0 >= 5 * 70_000, "{counted:?}");
    let running = hour_of(app.now());
    end_the_hour(&app).await;
    assert_eq!(collected(&app, &idle).await, (0, 0, 0));
    assert!(collected_until(&app).await <= running);
    rgw.start_again();
    for _ in 0..2 {
        end_the_hour(&app).await;
        assert_eq!(collected(&app, &idle).await, counted);
    }
    assert_eq!(collected_until(&app).await, hour_of(app.now()));

    let order = |name: &str| json!({ "plan_id": 2, "bucket_name": name });
    let making = app.call_directly("client", "create_order", order("first-bucket"));
    let user_made = first_call(&app, "cluster PUT user", making).await;

    // The gateway goes away between an order's user and its bucket, and the process goes with it.
    let making = app.call_directly("client", "create_order", order("killed-bucket"));
    let died = app.tap.crash_at(user_made, Moment::After, making).await;
    assert_eq!(died, None);
    rgw.stop_gateway();
    app.let_pass(LEASE_AND_MORE);
    let while_away = app
        .run_directly("resume_orders")
        .await
        .expect("the job succeeds");
    assert_eq!(
        while_away,
        json!({ "fulfilled": 0, "undone": 0, "waiting": 1 })
    );
    // Another order meets a gateway that is not there at all, and is turned back.
    let making = app
        .call_directly("client", "create_order", order("refused-bucket"))
        .await;
    assert_eq!(making.status, 503, "{making:?}");
    // And a third loses it half-way, the process living on.
    rgw.start_again();
    let making = app.call_directly("client", "create_order", order("half-way-bucket"));
    let stalled = app.tap.stall_at(user_made, Moment::After, making).await;
    let stalled = stalled.expect_err("it stands still");
    rgw.stop_gateway();
    let half_way = stalled.go_on().await;
    assert_eq!(half_way.status, 503, "{half_way:?}");
    rgw.start_again();
    for _ in 0..3 {
        app.let_pass(LEASE_AND_MORE);
        app.run_directly("resume_orders")
            .await
            .expect("the job succeeds");
    }
    let users = rgw.tool(&["user", "list"]).expect("users");
    let users = users.as_array().expect("a list").len() - 1;
    let buckets = rgw.tool(&["bucket", "list"]).expect("buckets");
    let buckets: BTreeSet<String> = serde_json::from_value(buckets).expect("names");
    let client = app.client("client").await;
    let balances = app.balances("client").await;
    // Every order ended whole or not at all: as many users as buckets as accounts as payments.
    let whole = ["first-bucket", "killed-bucket", "stays"].map(str::to_owned);
    assert_eq!(buckets, whole.into());
    assert_eq!(users, buckets.len());
    assert_eq!(client.accounts as usize, buckets.len());
    assert_eq!(balances.held_minor, 0);
    assert_eq!(balances.revenue_minor, 1_500 * buckets.len() as i64);
    app.assert_ledger_is_sound("client").await;

    // It goes away in the middle of a clean-up.
    let account = app.order("client", "clean-up").await;
    let s3 = app.s3("client", &account).await;
    keep_versions(&s3, "clean-up").await;
    put_many(&app, &s3, "clean-up", 200).await;
    put_many(&app, &s3, "clean-up", 40).await;
    delete_many(&s3, "clean-up", 10).await;
    begin_uploads(&s3, "clean-up", 10).await;
    let parameters = json!({ "s3uid": account.s3uid });
    let callback = app.call("client", "delete_account", parameters).await.ok();
    let task_id = format!("remove_account:{}", account.s3uid);
    for step in 0..2 {
        let message = json!({ "task_id": task_id, "step": step }).to_string();
        app.handle_directly("cleanup", &message)
            .await
            .expect("a step");
    }
    rgw.stop_gateway();
    let drained = app.stack.drain().await.expect("the queues empty");
    assert!(drained.failed > 0, "{drained:?}");
    assert_ne!(status(&app, &account).await, Status::Terminated);
    rgw.start_again();
    app.let_pass(SILENCE_AND_MORE);
    app.run_directly("resume_tasks")
        .await
        .expect("the job succeeds");
    app.stack.drain().await.expect("the queues empty");
    assert_eq!(status(&app, &account).await, Status::Terminated);
    let answer = app
        .check(callback["callback"].as_str().expect("a key"))
        .await
        .ok();
    assert_eq!(answer["scope"]["entries_removed"], 200 + 40 + 10 + 10);
    assert_eq!(answer["scope"]["bytes_removed"], 3 * 240 + 5 * 10);
    assert!(!has_user(&rgw, &account.s3uid));
    assert_eq!(stored(&rgw, "clean-up"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Ceph RGW: tests/clusters/start-rgw"]
async fn many_accounts_are_metered_in_two_calls() {
    const ACCOUNTS: usize = 300;
    let subject = Subject::rgw().await;
    let cluster = subject.provider();
    let from = hour_of(subject.app.now());
    let subject = &subject;
    let s3uids: Vec<S3Uid> = stream::iter(0..ACCOUNTS)
        .map(|number| async move {
            let (s3uid, keys) = subject.user(&format!("many-{number}"), None).await;
            let s3 = subject.s3(&keys);
            for bucket in ["a", "b"] {
                let bucket_name = subject.bucket_name(&format!("many-{number}-{bucket}"));
                let made = subject.provider().create_bucket(&s3uid, &bucket_name).await;
                made.expect("made");
                for object in 0..2 {
                    subject
                        .app
                        .put(&s3, &bucket_name, &format!("{object}"), 10)
                        .await;
                    get(&s3, &bucket_name, &format!("{object}")).await;
                }
            }
            s3uid
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let to = hour_of(subject.app.now()) + SignedDuration::from_hours(1);
    let names: Vec<&S3Uid> = s3uids.iter().collect();
    let begun = Instant::now();
    let ((buckets, traffic), calls) = subject
        .app
        .tap
        .scope(async {
            futures::try_join!(
                cluster.buckets_of(&names),
                cluster.traffic(&names, from, to)
            )
            .expect("figures")
        })
        .await;
    let together = begun.elapsed();
    assert_eq!(buckets.len(), 2 * ACCOUNTS);
    let sent: u64 = traffic.iter().map(|hour| hour.bytes_sent).sum();
    assert_eq!(sent, (ACCOUNTS * 40) as u64);

    let begun = Instant::now();
    let ((mut one_by_one, sent_one_by_one), single_calls) = subject
        .app
        .tap
        .scope(async {
            let (mut found, mut sent) = (Vec::new(), 0);
            for name in &names {
                let one = [*name];
                let (buckets, traffic) =
                    futures::try_join!(cluster.buckets_of(&one), cluster.traffic(&one, from, to))
                        .expect("figures");
                found.extend(buckets);
                sent += traffic.iter().map(|hour| hour.bytes_sent).sum::<u64>();
            }
            (found, sent)
        })
        .await;
    let alone = begun.elapsed();
    let mut buckets = buckets;
    buckets.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    one_by_one.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    assert_eq!(buckets, one_by_one);
    assert_eq!(sent_one_by_one, sent);
    println!(
        "{ACCOUNTS} accounts: {} calls in {} ms; one call per account: {} calls in {} ms",
        calls.len(),
        together.as_millis(),
        single_calls.len(),
        alone.as_millis()
    );
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(single_calls.len(), 2 * ACCOUNTS);
    for s3uid in &s3uids {
        for bucket in cluster.buckets(s3uid).await.expect("buckets") {
            cluster
                .purge_bucket(s3uid, &bucket.name, 100)
                .await
                .expect("emptied");
            cluster
                .delete_bucket(s3uid, &bucket.name)
                .await
                .expect("deleted");
        }
        cluster.delete_user(s3uid).await.expect("deleted");
        cluster.forget_traffic(s3uid).await.expect("forgotten");
    }
}
