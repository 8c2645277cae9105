//! Accounts that cost nothing: a month's allowances are used once, however often one is removed and another opened.

use functions::replay::{Replayed, Which, replay};
use jiff::SignedDuration;
use jiff::civil::date;
use serde_json::{Value, json};
use tests::{TestAccount, TestApp};
use wharfage::domain::event::Kind;
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::usage::Sample;
use wharfage::segments::SegmentKey;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// What the quota of 10 GB includes in a period of 31 days, stored in one hour.
pub(crate) const ALL_STORED: u64 = 7_440 * GB_BYTES;
pub(crate) const ALL_SENT: u64 = 5 * GB_BYTES;

fn key(hour: &str) -> SegmentKey {
    SegmentKey {
        location: "NL".into(),
        hour: hour.parse().expect("a time"),
        shard: 0,
    }
}

/// An account, what it had stored in an hour, and what it sent.
pub(crate) type Report<'a> = (&'a TestAccount, u64, u64);

/// An hour is collected: what a cluster would say of these accounts.
pub(crate) async fn report(app: &TestApp, hour: &str, accounts: &[Report<'_>]) {
    let end = key(hour).hour + HOUR;
    if app.now() < end {
        app.stack.clock().move_to(end + HOUR / 12).expect("moved");
    }
    let samples = accounts.iter().map(|(account, stored, sent)| Sample {
        s3uid: account.s3uid.clone(),
        bucket_name: account.bucket_name.clone(),
        hour: key(hour).hour,
        stored_bytes: Some(*stored),
        bytes_sent: Some(*sent),
        requests: Some(2),
        ..Sample::default()
    });
    let segments = &app.context().segments;
    let written = segments.put(&key(hour), samples.collect(), end).await;
    written.expect("written");
    let message = serde_json::to_string(&key(hour)).expect("a message");
    let handled = app.handle_directly("usage_shards", &message).await;
    handled.expect("handled");
}

pub(crate) async fn plan(app: &TestApp, traffic_price: u64, storage_price: &str) -> Value {
    let parameters = json!({
        "name": "Trial",
        "quota": 10,
        "bandwidth_limit": 5,
        "monthly_eur": 0,
        "monthly_usd": 0,
        "traffic_overage_price_eur": traffic_price,
        "traffic_overage_price_usd": traffic_price,
        "storage_overage_price_eur": storage_price,
        "storage_overage_price_usd": storage_price,
    });
    let plan = app.call("admin", "create_plan", parameters).await.ok();
    plan["plan"]["id"].clone()
}

pub(crate) async fn order(
    app: &TestApp,
    who: &str,
    plan_id: &Value,
    bucket_name: &str,
) -> TestAccount {
    let order = json!({ "plan_id": plan_id, "bucket_name": bucket_name });
    app.order_with(who, order).await
}

pub(crate) async fn remove(app: &TestApp, who: &str, account: &TestAccount) {
    let parameters = json!({ "s3uid": account.s3uid });
    app.call(who, "delete_account", parameters).await.ok();
    app.stack.drain().await.expect("drained");
}

/// Closes an account's first period and makes it again from its segments. What it comes to.
async fn closed(app: &TestApp, account: &TestAccount) -> Replayed {
    let kept = app.context().database.account(&account.s3uid).await;
    let commits_on = kept.expect("DynamoDB").expect("the account").commits_on;
    let commits_on = commits_on.expect("a period to close");
    let work = json!({ "work": "close", "s3uid": account.s3uid, "commits_on": commits_on });
    let handled = app.handle_directly("billing", &work.to_string()).await;
    handled.expect("closed");
    let which = Which::Account {
        s3uid: account.s3uid.clone(),
        from: None,
    };
    let mut all = Vec::new();
    let replayed = replay(app.context(), &which, |one| all.push(one)).await;
    replayed.expect("replayed");
    let replayed = all.pop().expect("a period");
    assert_eq!(replayed.differences, [], "{replayed}");
    replayed
}

pub(crate) async fn move_on(app: &mut TestApp, time: &str) {
    let time = time.parse().expect("a time");
    app.stack.clock().move_to(time).expect("moved");
    app.log_in().await;
}

#[tokio::test]
async fn an_account_opened_anew_pays_what_is_above_one_allowance() {
    let mut app = TestApp::start_idle(&[]).await;
    // A hundredth for a GB-hour.
    let plan_id = plan(&app, 1, "7.44").await;
    let first = order(&app, "client", &plan_id, "first").await;
    move_on(&mut app, "2026-01-15T11:30:00Z").await;
    remove(&app, "client", &first).await;
    let second = order(&app, "client", &plan_id, "second").await;
    // What the first one used is told when the second one is there.
    report(&app, "2026-01-15T10:00:00Z", &[(&first, ALL_STORED, 0)]).await;
    report(
        &app,
        "2026-01-15T11:00:00Z",
        &[(&first, 0, ALL_SENT), (&second, ALL_STORED / 2, GB_BYTES)],
    )
    .await;
    report(
        &app,
        "2026-01-15T12:00:00Z",
        &[(&second, ALL_STORED / 2, 4 * GB_BYTES)],
    )
    .await;
    remove(&app, "client", &second).await;
    let third = order(&app, "client", &plan_id, "third").await;
    let other = order(&app, "client2", &plan_id, "other").await;
    let hour = [
        (&second, 0, 0),
        (&third, ALL_STORED, ALL_SENT),
        (&other, ALL_STORED, ALL_SENT),
    ];
    report(&app, "2026-01-15T13:00:00Z", &hour).await;
    let hour = [(&third, 0, 0), (&other, 0, 0)];
    report(&app, "2026-01-15T14:00:00Z", &hour).await;
    move_on(&mut app, "2026-02-15T01:00:00Z").await;
    for (account, amount_minor) in [(&third, 7_940), (&first, 0), (&second, 7_940), (&other, 0)] {
        let replayed = closed(&app, account).await;
        assert_eq!(replayed.amount_minor, amount_minor, "{replayed}");
    }
    let invoices = app
        .context()
        .database
        .invoices(app.client_id("client"))
        .await;
    let invoices = invoices.expect("invoices");
    let last = &invoices.last().expect("an invoice").lines;
    let basis = serde_json::to_value(&last[1].basis).expect("JSON");
    assert!(
        basis.to_string().contains("\"included_bytes\":0"),
        "{basis}"
    );
}

#[tokio::test]
async fn what_was_left_is_left_and_the_next_month_is_another() {
    let mut app = TestApp::start_idle(&[]).await;
    let plan_id = plan(&app, 1, "7.44").await;
    let first = order(&app, "client", &plan_id, "first").await;
    report(&app, "2026-01-15T10:00:00Z", &[(&first, 0, 2 * GB_BYTES)]).await;
    remove(&app, "client", &first).await;
    let second = order(&app, "client", &plan_id, "second").await;
    // 3 GB are left of January's; what is sent in February is not taken from them.
    report(&app, "2026-01-15T12:00:00Z", &[(&second, 0, 4 * GB_BYTES)]).await;
    move_on(&mut app, "2026-02-01T00:10:00Z").await;
    report(&app, "2026-02-01T00:00:00Z", &[(&second, 0, GB_BYTES)]).await;
    app.log_in().await;
    remove(&app, "client", &second).await;
    move_on(&mut app, "2026-03-01T00:10:00Z").await;
    let third = order(&app, "client", &plan_id, "third").await;
    report(&app, "2026-03-01T00:00:00Z", &[(&third, 0, 5 * GB_BYTES)]).await;
    move_on(&mut app, "2026-04-01T01:00:00Z").await;
    for (account, amount_minor) in [(&first, 0), (&second, 100), (&third, 0)] {
        let replayed = closed(&app, account).await;
        assert_eq!(replayed.amount_minor, amount_minor, "{replayed}");
    }
}

#[tokio::test]
async fn a_traffic_limit_is_reached_by_what_was_sent_before_too() {
    let app = TestApp::start_idle(&[]).await;
    let plan_id = plan(&app, 0, "0").await;
    let first = order(&app, "client", &plan_id, "first").await;
    report(&app, "2026-01-15T10:00:00Z", &[(&first, 0, 4 * GB_BYTES)]).await;
    remove(&app, "client", &first).await;
    let second = order(&app, "client", &plan_id, "second").await;
    report(&app, "2026-01-15T11:00:00Z", &[(&second, 0, GB_BYTES - 1)]).await;
    let told = async || {
        let events = app.context().database.unsent_events(1_000).await;
        let mut events = events.expect("DynamoDB answers");
        events.retain(|event| event.kind == Kind::TrafficLimitReached);
        let told = events.into_iter();
        told.map(|event| (event.s3uid, event.detail["limit_bytes"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(told().await, []);
    report(&app, "2026-01-15T12:00:00Z", &[(&second, 0, 1)]).await;
    assert_eq!(told().await, [(Some(second.s3uid), json!(GB_BYTES))]);
}

#[tokio::test]
async fn a_client_who_ends_free_accounts_again_and_again_waits_for_the_next_month() {
    let mut app = TestApp::start_idle(&[]).await;
    let plan_id = plan(&app, 0, "0").await;
    for number in 0..10 {
        let account = order(&app, "client", &plan_id, &format!("bucket-{number}")).await;
        remove(&app, "client", &account).await;
    }
    let another = json!({ "plan_id": plan_id, "bucket_name": "another" });
    let refused = app.call("client", "create_order", another.clone()).await;
    let text = refused.refused(403).to_string();
    assert!(
        text.contains("another can be ordered from 2026-02-01 on"),
        "{text}"
    );
    // Nobody else waits, nor what is paid for.
    order(&app, "client2", &plan_id, "others").await;
    app.order("client", "paid").await;
    move_on(&mut app, "2026-02-01T00:00:00Z").await;
    let account = order(&app, "client", &plan_id, "another").await;
    let kept = app.context().database.account(&account.s3uid).await;
    let kept = kept.expect("DynamoDB").expect("the account");
    assert_eq!(kept.service.ordered_on, date(2026, 2, 1));
}
