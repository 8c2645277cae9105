//! One of two clusters is switched off, and on again: only its own accounts notice, and nothing is lost.

use functions::ACTIONS;
use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::examples::Example;
use tests::usage::AccountSamples;
use tests::{Reply, TestAccount, TestApp};
use wharfage::domain::client::ClientId;
use wharfage::domain::history::Actor;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn advance_to(app: &TestApp, text: &str) {
    app.stack.advance_to(at(text)).await.expect("advanced");
}

async fn collected_until(app: &TestApp, location: &str) -> Option<Timestamp> {
    let database = &app.context().database;
    database.collected_until(location).await.expect("collected")
}

async fn order_at(app: &TestApp, location: &str, bucket_name: &str) -> TestAccount {
    let order = json!({ "plan_id": 2, "bucket_name": bucket_name, "location": location });
    app.order_with("client", order).await
}

#[track_caller]
fn assert_comes_later(action: &str, reply: Reply) {
    assert!(reply.retry_after.is_some(), "{action}: {:#}", reply.body);
    reply.refused(503);
}

/// What may be done with one account at its cluster, in an order in which all of it can succeed.
fn asking(account: &TestAccount, client_id: ClientId) -> Vec<(&'static str, &'static str, Value)> {
    let own = |more: Value| {
        let mut parameters = more;
        parameters["s3uid"] = account.s3uid.as_str().into();
        parameters
    };
    let of = json!({ "id": client_id });
    let in_bucket = json!({ "bucket_name": account.bucket_name });
    let second = json!({ "bucket_name": format!("{}-2", account.bucket_name) });
    let mut file = in_bucket.clone();
    file["filename"] = "a".into();
    vec![
        ("client", "get_buckets", own(json!({}))),
        ("client", "get_buckets_rmq", own(json!({}))),
        ("client", "get_files", own(in_bucket)),
        ("client", "delete_file", own(file)),
        ("client", "create_bucket", own(second.clone())),
        ("client", "delete_bucket", own(second)),
        ("client", "rotate_key", own(json!({}))),
        ("client", "rotate_key", own(json!({ "confirm": 1 }))),
        ("admin", "update_traffic_info", own(of.clone())),
        ("admin", "suspend_account", own(of.clone())),
        ("admin", "resume_account", own(of)),
    ]
}

#[tokio::test]
async fn what_is_done_with_its_accounts_comes_later_and_with_others_goes_on() {
    let app = TestApp::start().await;
    let client_id = app.client_id("client");
    let here = order_at(&app, "NL", "in-nl").await;
    let there = order_at(&app, "DE", "in-de").await;
    app.stack.clusters()["DE"].stop().await;
    for (who, action, parameters) in asking(&there, client_id) {
        let reply = app.call(who, action, parameters).await;
        assert_comes_later(action, reply);
    }
    for (who, action, parameters) in asking(&here, client_id) {
        let reply = app.call(who, action, parameters).await;
        assert_eq!(reply.status, 200, "{action}: {:#}", reply.body);
    }
    for action in ["create_order", "create_account"] {
        let bucket_name = format!("new-{}", action.replace('_', "-"));
        let order = json!({ "plan_id": 2, "bucket_name": bucket_name, "location": "DE" });
        assert_comes_later(action, app.call("client", action, order).await);
        order_at(&app, "NL", &bucket_name).await;
    }
    // Everything that was refused can be had once it is back; some of it was begun.
    let cluster = &app.stack.clusters()["DE"];
    cluster.start(&cluster.admin_token).expect("started");
    for (who, action, parameters) in asking(&there, client_id) {
        let reply = app.call(who, action, parameters).await;
        assert_eq!(reply.status, 200, "{action}: {:#}", reply.body);
    }
}

#[tokio::test]
async fn every_action_that_needs_it_comes_later_and_every_other_works() {
    let app = TestApp::start().await;
    app.top_up("client", "for many orders", 1_000_000).await;
    let mut calls = Vec::new();
    for action in ACTIONS {
        for location in ["NL", "DE"] {
            let name = format!("{}-{location}", action.name.replace('_', "-")).to_lowercase();
            let example = Example::of(action);
            let call = example.prepare_at(&app, &name, Some(location)).await;
            calls.push((action.name, location, example.needs_the_cluster, call));
        }
    }
    app.stack.drain().await.expect("the queues empty");
    let cluster = &app.stack.clusters()["DE"];
    cluster.stop().await;
    let mut later = Vec::new();
    for (action, location, needs_the_cluster, call) in calls {
        let reply = app.call(call.who, action, call.full()).await;
        if location == "DE" && needs_the_cluster {
            assert_comes_later(action, reply);
            later.push((action, call));
        } else {
            assert_eq!(reply.status, 200, "{action} {location}: {:#}", reply.body);
        }
    }
    assert!(!later.is_empty());
    cluster.start(&cluster.admin_token).expect("started");
    // An order that came to nothing is undone at its cluster too.
    app.let_pass(SignedDuration::from_secs(61));
    app.stack.run_job("resume_orders").await.expect("resumed");
    for (action, call) in later {
        let reply = app.call(call.who, action, call.full()).await;
        assert_eq!(reply.status, 200, "{action}: {:#}", reply.body);
    }
}

#[tokio::test]
async fn what_was_begun_is_ended_and_the_hours_are_caught_up_with() {
    let app = TestApp::start_idle(&[]).await;
    let here = order_at(&app, "NL", "in-nl").await;
    let there = order_at(&app, "DE", "in-de").await;
    let going = order_at(&app, "DE", "going").await;
    let s3 = app.s3("client", &there).await;
    app.put(&s3, "in-de", "before", 1_000).await;
    advance_to(&app, "2026-01-15T11:05:00Z").await;
    let s3_here = app.s3("client", &here).await;
    app.put(&s3_here, "in-nl", "a", 300).await;
    app.put(&s3, "in-de", "last", 2_000).await;

    let cluster = &app.stack.clusters()["DE"];
    cluster.stop().await;
    // An order comes to nothing; a clean-up is taken on, and waits.
    let order = json!({ "plan_id": 2, "bucket_name": "wanted", "location": "DE" });
    let reply = app.call("client", "create_order", order.clone()).await;
    assert_comes_later("create_order", reply);
    let delete = json!({ "s3uid": going.s3uid });
    let deleted = app.call("client", "delete_account", delete).await.ok();
    let callback = deleted["callback"].as_str().expect("a key").to_owned();
    // And one at the other cluster, asked for after it, does not.
    let gone = order_at(&app, "NL", "gone").await;
    let delete = json!({ "s3uid": gone.s3uid });
    let deleted = app.call("client", "delete_account", delete).await.ok();
    let gone_callback = deleted["callback"].as_str().expect("a key").to_owned();

    advance_to(&app, "2026-01-15T13:05:00Z").await;
    assert_eq!(app.check(&callback).await.body["result"], "Not ready");
    assert_eq!(app.check(&gone_callback).await.body["result"], "OK");
    assert_eq!(
        collected_until(&app, "NL").await,
        Some(at("2026-01-15T13:00:00Z"))
    );
    assert_eq!(
        collected_until(&app, "DE").await,
        Some(at("2026-01-15T11:00:00Z"))
    );

    cluster.start(&cluster.admin_token).expect("started");
    advance_to(&app, "2026-01-15T14:30:00Z").await;
    assert_eq!(
        collected_until(&app, "DE").await,
        Some(at("2026-01-15T14:00:00Z"))
    );
    assert_eq!(app.check(&callback).await.body["result"], "OK");
    assert_eq!(
        app.cluster_users("DE").await,
        [there.s3uid.to_string()].into(),
        "an order or a clean-up left something"
    );
    // What moved before it went down was collected after it came back.
    let date = at("2026-01-15T00:00:00Z");
    let samples = app
        .context()
        .segments
        .account_samples("DE", 0, &there.s3uid, date, date + HOUR * 24)
        .await
        .expect("samples");
    let received: Vec<(Timestamp, Option<u64>, Option<u64>)> = samples
        .iter()
        .filter(|sample| sample.bucket_name == "in-de")
        .map(|sample| (sample.hour, sample.bytes_received, sample.stored_bytes))
        .collect();
    let hour = |hour: i64| date + HOUR * i32::try_from(hour).expect("an hour");
    assert_eq!(received[0], (hour(10), Some(1_000), Some(1_000)));
    assert_eq!(received[1], (hour(11), Some(2_000), None));
    assert_eq!(received.last(), Some(&(hour(13), Some(0), Some(3_000))));
    // The name that the order let go of can be had.
    app.call("client", "create_order", order).await.ok();
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn its_messages_do_not_hold_up_those_of_others() {
    let app = TestApp::start_idle(&[]).await;
    let here = order_at(&app, "NL", "in-nl").await;
    let there = order_at(&app, "DE", "in-de").await;
    for account in [&here, &there] {
        suspend_for_want_of_payment(&app, account).await;
    }
    app.stack.clusters()["DE"].stop().await;
    // The client owes nothing: both are to work again, and one of them can.
    let settle = json!({ "work": "settle", "client_id": app.client_id("client") }).to_string();
    let fault = app.handle_directly("billing", &settle).await;
    assert!(fault.expect_err("one of them waits").retryable);
    for account in [&here, &there] {
        assert_eq!(status(&app, account).await, "active");
    }
    assert!(!is_stopped_at_its_cluster(&app, &here).await);
    let cluster = &app.stack.clusters()["DE"];
    cluster.start(&cluster.admin_token).expect("started");
    assert!(is_stopped_at_its_cluster(&app, &there).await);
    // The record says that both work: that is brought to the other cluster as soon as it can be told.
    app.let_pass(SignedDuration::from_mins(4));
    app.run_directly("resume_tasks").await.expect("it is run");
    app.stack.drain().await.expect("the queues empty");
    assert!(!is_stopped_at_its_cluster(&app, &there).await);
}

async fn is_stopped_at_its_cluster(app: &TestApp, account: &TestAccount) -> bool {
    let path = format!("users/{}", account.s3uid);
    let (_, user) = app.admin(&account.location, "GET", &path, None).await;
    user["suspended"] == true
}

async fn suspend_for_want_of_payment(app: &TestApp, account: &TestAccount) {
    let context = app.context();
    let cluster = context.clusters.get(&account.location).expect("a cluster");
    let suspended = cluster.provider.set_suspended(&account.s3uid, true).await;
    suspended.expect("suspended");
    let stored = context.database.account(&account.s3uid).await;
    let stored = stored.expect("an answer").expect("an account");
    let service = stored.service.suspend_unpaid(date(2026, 3, 14));
    let service = service.expect("it can be suspended");
    let actor = Actor::system("test");
    let entry = context.account_entry(ClientId(1), &account.s3uid, "suspended", actor, json!({}));
    let change = context
        .database
        .change_service(&stored, &service, &entry, &[]);
    assert!(change.await.expect("an answer").is_yes());
}

async fn status(app: &TestApp, account: &TestAccount) -> String {
    let database = &app.context().database;
    let account = database.account(&account.s3uid).await.expect("an answer");
    let service = account.expect("an account").service;
    json!(service.status()).as_str().expect("a text").to_owned()
}
