//! However the hours of usage arrive, and whoever dies or comes twice on the way, the totals and the invoices are those of a run in
//! which nothing went wrong.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::{TestAccount, TestApp, property};
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::invoice::{Basis, Invoice};
use wharfage::domain::period::{date_of, hour_of, start_of};
use wharfage::domain::usage::{Day, Stored};
use wharfage::segments::SegmentKey;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Account numbers in a shard.
const SHARD: u64 = 4;
/// Pairs of accounts in a case: two shards of each location.
const PAIRS: usize = 4;
const BUCKETS: usize = 2;
/// Where all goes well, and where it does not.
const ORDERLY: &str = "NL";
const TROUBLED: &str = "DE";

/// What a client does in an hour, in one of its buckets, as far as it can be done.
#[derive(Debug, Clone)]
enum Act {
    Put {
        key: u8,
        bytes: usize,
    },
    Get {
        key: u8,
    },
    Delete {
        key: u8,
    },
    /// Makes the bucket, or removes it if it is empty.
    Turn,
}

/// What becomes of the first message for an hour of a shard, shortly after the hour.
#[derive(Debug, Clone)]
enum First {
    Handled,
    ByTwoAtOnce,
    Dies(usize, bool),
    Lost,
}

#[derive(Debug, Clone)]
struct Hour {
    /// Hours since the one before.
    gap: i64,
    acts: Vec<(usize, usize, Act)>,
    firsts: [First; 2],
}

#[derive(Debug, Clone)]
struct Case {
    hours: Vec<Hour>,
    /// Which messages come again in the end, one beside another or one after another.
    again: Vec<(prop::sample::Index, bool)>,
    /// After which hour the cluster forgets what was collected.
    trimmed_after: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let act = prop_oneof![
        4 => (0u8..3, 1usize..40_000).prop_map(|(key, bytes)| Act::Put { key, bytes }),
        3 => (0u8..3).prop_map(|key| Act::Get { key }),
        2 => (0u8..3).prop_map(|key| Act::Delete { key }),
        1 => Just(Act::Turn),
    ];
    let first = prop_oneof![
        2 => Just(First::Handled),
        1 => Just(First::ByTwoAtOnce),
        3 => (0usize..45, any::<bool>()).prop_map(|(index, is_after)| First::Dies(index, is_after)),
        1 => Just(First::Lost),
    ];
    let acts = prop::collection::vec((0..PAIRS, 0..BUCKETS, act), 0..10);
    let hour = (1i64..6, acts, [first.clone(), first]).prop_map(|(gap, acts, firsts)| Hour {
        gap,
        acts,
        firsts,
    });
    let again = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12);
    (prop::collection::vec(hour, 9..12), again, 0usize..9).prop_map(
        |(hours, again, trimmed_after)| Case {
            hours,
            again,
            trimmed_after,
        },
    )
}

/// An account of each location, with the same plan, in the same shard, that do the same.
struct Pair {
    who: &'static str,
    accounts: [TestAccount; 2],
    s3: [aws_sdk_s3::Client; 2],
    /// What is in the buckets that there are.
    buckets: BTreeMap<String, BTreeSet<u8>>,
}

impl Pair {
    async fn act(&mut self, app: &TestApp, bucket: usize, act: &Act) {
        let first = self.accounts[0].bucket_name.as_str();
        let name = match bucket {
            0 => first.to_owned(),
            _ => format!("{first}-{bucket}"),
        };
        let keys = self.buckets.get(&name).cloned();
        for s3 in &self.s3 {
            let path = |key: &u8| format!("object-{key}");
            match (act, &keys) {
                (Act::Put { key, bytes }, Some(_)) => {
                    app.put(s3, &name, &path(key), *bytes).await;
                }
                (Act::Get { key }, Some(keys)) if keys.contains(key) => {
                    let object = s3.get_object().bucket(&name).key(path(key)).send().await;
                    let body = object.expect("an object").body.collect().await;
                    body.expect("its bytes");
                }
                (Act::Delete { key }, Some(keys)) if keys.contains(key) => {
                    let deleted = s3.delete_object().bucket(&name).key(path(key));
                    deleted.send().await.expect("deleted");
                }
                (Act::Turn, Some(keys)) if keys.is_empty() => {
                    s3.delete_bucket().bucket(&name).send().await.expect("gone");
                }
                (Act::Turn, None) => {
                    s3.create_bucket().bucket(&name).send().await.expect("made");
                }
                _ => {}
            }
        }
        match (act, keys) {
            (Act::Put { key, .. }, Some(_)) => {
                self.buckets.entry(name).or_default().insert(*key);
            }
            (Act::Delete { key }, Some(_)) => {
                self.buckets.entry(name).or_default().remove(key);
            }
            (Act::Turn, Some(keys)) if keys.is_empty() => {
                self.buckets.remove(&name);
            }
            (Act::Turn, None) => {
                self.buckets.insert(name, BTreeSet::new());
            }
            _ => {}
        }
    }
}

async fn log_in(app: &TestApp, who: &str) -> Value {
    let key = app.stack.seeded().api_key(who);
    let login = app.auth("login", json!({ "key": key })).await;
    login.body["result"]["token"].clone()
}

async fn pairs(app: &TestApp, plan_id: &Value, case: usize) -> Vec<Pair> {
    let database = &app.context().database;
    let mut pairs = Vec::new();
    for index in 0..PAIRS {
        let who = ["client", "client2"][index % 2];
        let token = log_in(app, who).await;
        let mut accounts = Vec::new();
        let mut s3 = Vec::new();
        for location in [ORDERLY, TROUBLED] {
            let parameters = json!({
                "token": token,
                "plan_id": plan_id,
                "bucket_name": format!("case-{case}-{index}"),
                "location": location,
            });
            let ordered = app.post_form("/s3/create_order", &parameters).await.ok();
            let account = TestAccount {
                s3uid: S3Uid(ordered["s3uid"].as_str().expect("a text").to_owned()),
                id: ordered["id"].as_u64().expect("a number"),
                location: location.to_owned(),
                bucket_name: ordered["bucket_name"].as_str().expect("a text").to_owned(),
            };
            let stored = database.account(&account.s3uid).await;
            let stored = stored.expect("DynamoDB answers").expect("the account");
            let secret = app
                .context()
                .vault
                .decrypt(&account.s3uid, &stored.secret_key_ciphertext)
                .await
                .expect("the secret key");
            let secret = secrecy::ExposeSecret::expose_secret(&secret);
            s3.push(app.s3_with(location, &stored.access_key, secret));
            accounts.push(account);
        }
        let first = accounts[0].bucket_name.clone();
        pairs.push(Pair {
            who,
            accounts: accounts.try_into().expect("two accounts"),
            s3: s3.try_into().expect("two clients"),
            buckets: BTreeMap::from([(first, BTreeSet::new())]),
        });
    }
    pairs
}

async fn deliver(app: &TestApp, key: &SegmentKey) -> Result<(), wharfage::error::Fault> {
    let body = serde_json::to_string(key).expect("a message");
    app.handle_directly("usage_shards", &body).await
}

/// Delivers some messages at once, and again those that failed.
async fn deliver_at_once(app: &TestApp, keys: &[SegmentKey]) {
    let ended = futures::future::join_all(keys.iter().map(|key| deliver(app, key))).await;
    for (key, ended) in keys.iter().zip(ended) {
        if let Err(fault) = ended {
            assert!(fault.retryable, "{key}: {fault}");
            deliver(app, key).await.expect("it is collected");
        }
    }
}

async fn first_delivery(app: &TestApp, key: &SegmentKey, first: &First) {
    match first {
        First::Handled => deliver_at_once(app, std::slice::from_ref(key)).await,
        First::ByTwoAtOnce => deliver_at_once(app, &[key.clone(), key.clone()]).await,
        First::Dies(index, is_after) => {
            let moment = [Moment::Before, Moment::After][usize::from(*is_after)];
            let run = deliver(app, key);
            if let Some(ended) = app.tap.crash_at(*index, moment, run).await {
                ended.expect("it is collected");
            }
        }
        First::Lost => {}
    }
}

async fn is_written(app: &TestApp, key: &SegmentKey) -> bool {
    let segment = app.context().segments.get(key).await;
    segment.expect("S3 answers").is_some()
}

fn move_to(app: &TestApp, then: Timestamp) {
    app.stack.clock().move_to(then).expect("moved");
}

async fn account(app: &TestApp, s3uid: &S3Uid) -> Account {
    let account = app.context().database.account(s3uid).await;
    account.expect("DynamoDB answers").expect("the account")
}

async fn days(app: &TestApp, s3uid: &S3Uid) -> BTreeMap<jiff::civil::Date, Day> {
    let days = app
        .context()
        .database
        .days(s3uid, date(2026, 1, 1), date(2036, 1, 1));
    days.await.expect("days")
}

/// Buckets, bytes stored, and of the period: its first day, bytes sent, the most stored.
fn figures(account: &Account) -> (u64, u64, jiff::civil::Date, u64, u64) {
    (
        account.buckets,
        account.stored_bytes,
        account.period_from,
        account.period_bytes_sent,
        account.period_peak_stored_bytes,
    )
}

/// Bytes sent in the month of a day, and the most stored.
async fn month(app: &TestApp, s3uid: &S3Uid, day: jiff::civil::Date) -> Option<(u64, u64)> {
    let usage = app.context().database.usage_on(&[s3uid], day).await;
    let month = usage.expect("usage").remove(s3uid)?.month?;
    Some((month.bytes_sent, month.peak_stored_bytes))
}

/// What a line charges, and what for.
type Charge = (jiff::civil::Date, jiff::civil::Date, i64, Basis);

async fn charges(app: &TestApp, who: &str, s3uid: &S3Uid) -> Vec<Charge> {
    let client_id = app.client_id(who);
    let invoices: Vec<Invoice> = app
        .context()
        .database
        .invoices(client_id)
        .await
        .expect("invoices");
    invoices
        .into_iter()
        .filter(|invoice| invoice.s3uid == *s3uid)
        .flat_map(|invoice| invoice.lines)
        .map(|line| (line.from, line.to, line.amount_minor, line.basis))
        .collect()
}

/// Runs a case and compares; how many charges for usage there were.
async fn run(app: &TestApp, plan_id: &Value, number: usize, case: &Case) -> usize {
    let mut hour = hour_of(app.now()) + HOUR;
    move_to(app, hour - SignedDuration::from_mins(5));
    let mut pairs = pairs(app, plan_id, number).await;
    let ordered_on = date_of(app.now());
    let shards = [0, PAIRS - 1].map(|index| pairs[index].accounts[0].id / SHARD);
    assert_eq!(shards[1], pairs[PAIRS - 1].accounts[1].id / SHARD);
    let mut late = Vec::new();
    let mut messages = Vec::new();
    let mut oldest_missing = None;
    for (index, step) in case.hours.iter().enumerate() {
        hour += HOUR * i32::try_from(step.gap).expect("a small number");
        move_to(app, hour + SignedDuration::from_mins(10));
        for (pair, bucket, act) in &step.acts {
            pairs[*pair].act(app, *bucket, act).await;
        }
        move_to(app, hour + HOUR + SignedDuration::from_mins(5));
        for (shard, first) in shards.iter().zip(&step.firsts) {
            let key = |location: &str| SegmentKey {
                location: location.into(),
                hour,
                shard: *shard,
            };
            let (orderly, troubled) = (key(ORDERLY), key(TROUBLED));
            first_delivery(app, &troubled, first).await;
            // What nobody could tell in time for the one, nobody tells for the other.
            if is_written(app, &troubled).await {
                deliver(app, &orderly).await.expect("it is collected");
            } else {
                late.push(orderly);
                oldest_missing.get_or_insert(hour);
            }
            messages.push(troubled);
        }
        if index == case.trimmed_after {
            let before = oldest_missing.unwrap_or(hour + HOUR);
            for location in [ORDERLY, TROUBLED] {
                let path = format!("usage?before={before}");
                let (status, _) = app.admin(location, "DELETE", &path, None).await;
                assert_eq!(status, 204);
            }
        }
    }
    move_to(app, hour + HOUR * 3);
    for key in &late {
        deliver(app, key).await.expect("it is collected");
    }
    // Everything comes once more, mixed up, some of it several times and at once.
    let mut queue: Vec<SegmentKey> = messages.clone();
    let mut group = Vec::new();
    for (index, is_beside) in &case.again {
        let at = index.index(queue.len());
        let key = queue[at].clone();
        queue.swap(0, at);
        if !is_beside {
            deliver_at_once(app, &std::mem::take(&mut group)).await;
        }
        group.push(key);
    }
    deliver_at_once(app, &group).await;
    for keys in queue.chunks(5) {
        deliver_at_once(app, keys).await;
    }

    let last = date_of(hour);
    for pair in &pairs {
        let [orderly, troubled] = [0, 1].map(|side| &pair.accounts[side].s3uid);
        let expected = days(app, orderly).await;
        assert_eq!(days(app, troubled).await, expected, "days");
        for day in [ordered_on, last] {
            let expected = month(app, orderly, day).await;
            assert_eq!(month(app, troubled, day).await, expected, "month");
        }
        let expected = figures(&account(app, orderly).await);
        assert_eq!(figures(&account(app, troubled).await), expected, "figures");
    }

    let ends_on = account(app, &pairs[0].accounts[0].s3uid).await;
    let ends_on = ends_on.service.next_commit_date;
    move_to(app, start_of(ends_on) + SignedDuration::from_mins(80));
    for location in [ORDERLY, TROUBLED] {
        app.collected_until_now(location).await;
    }
    app.run_directly("close_periods").await.expect("it is run");
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(drained.failed, 0);
    let mut for_usage = 0;
    for pair in &pairs {
        let [orderly, troubled] = [0, 1].map(|side| &pair.accounts[side].s3uid);
        let expected = charges(app, pair.who, orderly).await;
        assert_eq!(charges(app, pair.who, troubled).await, expected);
        let months = expected.iter().filter(|line| line.3 == Basis::Recurring);
        assert_eq!(months.count(), 2, "the first month and the second");
        for_usage += expected.len() - 2;
    }
    for who in ["client", "client2"] {
        app.assert_ledger_is_sound(who).await;
        let invoices = app.context().database.invoices(app.client_id(who)).await;
        let invoices = invoices.expect("invoices");
        let invoiced: i64 = invoices.iter().map(|invoice| invoice.amount_minor).sum();
        assert_eq!(app.balances(who).await.revenue_minor, invoiced);
    }
    for_usage
}

async fn start() -> (TestApp, Value) {
    let shard = SHARD.to_string();
    let app = TestApp::start_idle(&[("UsageShardAccounts", shard.as_str())]).await;
    for who in ["client", "client2"] {
        app.top_up(who, "for much", 1_000_000_000_000).await;
    }
    let mut plan = json!({ "name": "Dear", "quota": 0, "storage_limit": 1, "bandwidth_limit": 0 });
    for code in ["eur", "usd"] {
        plan[format!("monthly_{code}")] = "1.00".into();
        plan[format!("traffic_overage_price_{code}")] = "1000000".into();
        plan[format!("storage_overage_price_{code}")] = "10000000".into();
    }
    let made = app.call("admin", "create_plan", plan).await.ok();
    let plan_id = made["plan"]["id"].clone();
    // So that the accounts of the cases fill whole shards.
    while app
        .context()
        .database
        .last_account_id()
        .await
        .expect("id")
        .0
        % SHARD
        != SHARD - 1
    {
        let name = format!("aside-{}", app.now().as_second());
        app.order("client", &name).await;
        app.let_pass(SignedDuration::from_secs(1));
    }
    (app, plan_id)
}

#[test]
fn usage_and_invoices_do_not_depend_on_how_the_hours_arrive() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (app, plan_id) = runtime.block_on(start());
    let number = Cell::new(0);
    let charges = Cell::new(0);
    property::holds(b"wharfage: how the hours arrive 1", 6, &cases(), |case| {
        number.set(number.get() + 1);
        let for_usage = runtime.block_on(run(&app, &plan_id, number.get(), &case));
        charges.set(charges.get() + for_usage);
    });
    assert!(charges.get() > 20, "hardly anything was used");
}

#[tokio::test]
async fn two_days_at_once_both_count() {
    let app = TestApp::start_idle(&[("UsageShardAccounts", "1")]).await;
    app.top_up("client", "for much", 1_000_000).await;
    for index in 0.. {
        assert!(index < 80, "no end");
        let now = app.now();
        let midnight = start_of(date_of(now).tomorrow().expect("a day"));
        move_to(&app, midnight - HOUR * 2);
        let token = log_in(&app, "client").await;
        let parameters =
            json!({ "token": token, "plan_id": 2, "bucket_name": format!("b-{index}") });
        let ordered = app.post_form("/s3/create_order", &parameters).await.ok();
        let s3uid = &S3Uid(ordered["s3uid"].as_str().expect("a text").to_owned());
        let stored = account(&app, s3uid).await;
        let secret = app
            .context()
            .vault
            .decrypt(s3uid, &stored.secret_key_ciphertext);
        let secret = secret.await.expect("the secret key");
        let secret = secrecy::ExposeSecret::expose_secret(&secret);
        let s3 = app.s3_with("NL", &stored.access_key, secret);
        let name = format!("b-{index}");
        let use_it = async |bytes: usize| {
            app.put(&s3, &name, "a", bytes).await;
            let object = s3.get_object().bucket(&name).key("a").send().await;
            let body = object.expect("an object").body.collect().await;
            body.expect("its bytes");
        };
        let key = |hour: Timestamp| SegmentKey {
            location: "NL".into(),
            hour,
            shard: stored.id.0,
        };
        move_to(&app, midnight - HOUR);
        use_it(100).await;
        move_to(&app, midnight + SignedDuration::from_mins(10));
        use_it(20).await;
        move_to(&app, midnight + HOUR + SignedDuration::from_mins(5));
        let (before, after) = (key(midnight - HOUR), key(midnight));
        let run = deliver(&app, &before);
        let stalled = match app.tap.stall_at(index, Moment::Before, run).await {
            Ok(ended) => {
                ended.expect("it is collected");
                assert!(index > 20, "{index}");
                break;
            }
            Err(stalled) => stalled,
        };
        deliver(&app, &after).await.expect("it is collected");
        stalled.go_on().await.expect("it is collected");
        let account = account(&app, s3uid).await;
        let figures = (account.stored_bytes, account.period_bytes_sent);
        assert_eq!(figures, (20, 120), "{index}");
        if date_of(before.hour).month() == date_of(after.hour).month() {
            let month = month(&app, s3uid, date_of(after.hour)).await;
            assert_eq!(month.map(|(sent, _)| sent), Some(120), "{index}");
        }
    }
}

#[tokio::test]
async fn what_an_account_stored_ends_with_it_though_its_last_hour_is_collected_late() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 100).await;
    let key = |hour: &str| SegmentKey {
        location: "NL".into(),
        hour: format!("2026-01-15T{hour}:00:00Z").parse().expect("a time"),
        shard: 0,
    };
    move_to(&app, key("11").hour + SignedDuration::from_mins(5));
    deliver(&app, &key("10")).await.expect("it is collected");
    app.call(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    app.stack.drain().await.expect("the queues empty");
    // Hours late: nobody can tell any more what was stored at 12, but for what was gone by then.
    move_to(&app, key("15").hour);
    deliver(&app, &key("11")).await.expect("it is collected");
    let days = days(&app, &account.s3uid).await;
    let stored = |hour, bytes| Stored { hour, bytes };
    assert_eq!(
        days[&date(2026, 1, 15)].stored,
        [stored(10, 100), stored(11, 0)]
    );
}
