//! `change_plan`.

use std::sync::Arc;

use insta::assert_json_snapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall, Preparation};
use tests::tap::Moment;
use tests::usage::SetDay;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::Account;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::plan::PlanId;
use wharfage::domain::usage::{Day, Moved, Stored};

const ACTION: &str = "change_plan";
/// 250 of the 744 hours of the period that begins on 15 January are over: the running one is the first on the new plan.
pub(crate) const CHANGE: &str = "2026-01-25T10:30:00Z";
pub(crate) const CLOSING: &str = "2026-02-15T01:00:00Z";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(larger_plan(prepare)),
        |scene| {
            [
                json!({ "plan_id": 1 }),
                json!({ "plan_id": 1, "when": "now" }),
            ]
            .map(|rest| scene.on_accounts(rest))
            .concat()
        },
    )
    .on_own(|scene| json!({ "s3uid": scene.own.s3uid, "plan_id": 1 }))
    .needs_the_cluster()
);

async fn larger_plan(prepare: &Preparation<'_>) -> GoodCall {
    let plan = json!({ "name": "Larger", "quota": 9000, "storage_limit": 9000, "monthly_eur": 20 });
    let plan = prepare.app.call("admin", "create_plan", plan).await.ok();
    let change = json!({ "plan_id": plan["plan"]["id"], "when": "now" });
    prepare.with_account_for_admin(change).await
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Moves the clock alone: no schedule runs.
pub(crate) async fn wait_until(app: &mut TestApp, text: &str) {
    app.stack.clock().move_to(at(text)).expect("moved");
    app.log_in().await;
}

/// A plan twice as dear as plan 2, with other limits and overage.
pub(crate) async fn large(app: &TestApp, more: Value) -> u64 {
    let mut parameters = json!({
        "name": "Large S3",
        "quota": 6000,
        "storage_limit": 7000,
        "bandwidth_limit": 744,
        "monthly_eur": 31,
        "traffic_overage_price_eur": "0.4",
        "storage_overage_price_eur": "0.2",
    });
    for (name, value) in more.as_object().expect("parameters") {
        parameters[name] = value.clone();
    }
    let body = app.call("admin", "create_plan", parameters).await.ok();
    body["plan"]["id"].as_u64().expect("a number")
}

fn parameters(app: &TestApp, account: &TestAccount, plan_id: u64, when: &str) -> Value {
    json!({
        "s3uid": account.s3uid,
        "id": app.client_id("client"),
        "plan_id": plan_id,
        "when": when,
    })
}

pub(crate) async fn change(
    app: &TestApp,
    account: &TestAccount,
    plan_id: u64,
    when: &str,
) -> Value {
    let parameters = parameters(app, account, plan_id, when);
    app.call("admin", ACTION, parameters).await.ok()
}

async fn refused(app: &TestApp, account: &TestAccount, plan_id: u64, when: &str) -> (u16, String) {
    let before = app.world().await;
    let parameters = parameters(app, account, plan_id, when);
    let reply = app.call("admin", ACTION, parameters).await;
    app.world().await.assert_unchanged_since(&before, ACTION);
    let status = reply.status;
    let text = reply.refused(status);
    (
        status,
        text.strip_prefix("s3/change_plan: ")
            .expect("the action's name")
            .into(),
    )
}

async fn kept(app: &TestApp, account: &TestAccount) -> Account {
    let account = app.context().database.account(&account.s3uid).await;
    account.expect("DynamoDB answers").expect("it is there")
}

/// What the cluster lets an account store.
async fn limit(app: &TestApp, account: &TestAccount) -> Value {
    let path = format!("users/{}", account.s3uid);
    let (_, user) = app.admin(&account.location, "GET", &path, None).await;
    user["quota_bytes"].clone()
}

pub(crate) async fn close(app: &TestApp, account: &TestAccount) {
    close_on(app, account, "2026-02-15").await;
}

async fn close_on(app: &TestApp, account: &TestAccount, date: &str) {
    let work = json!({ "work": "close", "s3uid": account.s3uid, "commits_on": date });
    app.handle_directly("billing", &work.to_string())
        .await
        .expect("closed");
}

/// The account's latest invoice, as the wire shows it.
pub(crate) async fn latest_invoice(app: &TestApp, account: &TestAccount) -> Value {
    let own = json!({ "s3uid": account.s3uid });
    let list = app.call("client", "list_invoices", own).await.ok();
    let invoice = json!({ "invoice_id": list["invoices"][0]["invoice_id"] });
    let body = app.call("client", "get_invoice", invoice).await.ok();
    masked(app, &body["invoice"])
}

async fn history(app: &TestApp, account: &TestAccount, action: &str) -> Vec<Value> {
    let own = json!({ "s3uid": account.s3uid });
    let body = app.call("client", "history", own).await.ok();
    let entries = body["history"].as_array().expect("a list").iter();
    entries
        .filter(|entry| entry["action"] == action)
        .map(|entry| entry["details"].clone())
        .collect()
}

async fn events(app: &TestApp, kind: Kind) -> Vec<Event> {
    let events = app.context().database.unsent_events(1_000).await;
    let mut events = events.expect("DynamoDB answers");
    events.retain(|event| event.kind == kind);
    events
}

/// Stored gigabytes from hours of days on, and gigabytes sent in hours, in place of what is collected.
pub(crate) async fn use_storage(
    app: &TestApp,
    account: &TestAccount,
    stored: &[(&str, u8, u64)],
    sent: &[(&str, u8, u64)],
) {
    app.leave_out_of_collection(&account.s3uid).await;
    let mut days = std::collections::BTreeMap::<&str, Day>::new();
    for (date, hour, gb) in stored {
        let bytes = gb * GB_BYTES;
        let stored = &mut days.entry(date).or_default().stored;
        stored.push(Stored { hour: *hour, bytes });
    }
    for (date, hour, gb) in sent {
        days.entry(date).or_default().moved.push(Moved {
            hour: *hour,
            bytes_sent: gb * GB_BYTES,
            bytes_received: 0,
            requests: 1,
        });
    }
    for (date, day) in days {
        let date = date.parse().expect("a date");
        let set = app.context().database.set_day(&account.s3uid, date, &day);
        set.await.expect("written");
    }
}

#[tokio::test]
async fn change_plan_takes_effect_with_the_next_period() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = large(&app, json!({})).await;
    let other_id = large(&app, json!({ "name": "Other S3" })).await;
    let body = change(&app, &account, large_id, "next_commit").await;
    assert_json_snapshot!("next_commit", masked(&app, &body));
    let before = app.world().await;
    assert_eq!(change(&app, &account, large_id, "next_commit").await, body);
    app.world()
        .await
        .assert_unchanged_since(&before, "a repeat");

    // Replaced, withdrawn, and asked for again, by what is the default.
    let other = change(&app, &account, other_id, "next_commit").await;
    assert_eq!(other["next_plan_id"], other_id);
    let none = change(&app, &account, 2, "next_commit").await;
    assert_eq!(none["next_plan_id"], Value::Null);
    assert_eq!(kept(&app, &account).await.plan_changes, Default::default());
    let by_default = json!({
        "account_id": account.id, "id": app.client_id("client"), "plan_id": large_id,
    });
    assert_eq!(app.call("admin", ACTION, by_default).await.ok(), body);
    assert_eq!(history(&app, &account, ACTION).await.len(), 4);

    // Nothing has changed yet but what is to come.
    let now = kept(&app, &account).await;
    assert_eq!((now.plan_id, now.quota_gb), (PlanId(2), 5000));
    assert_eq!(limit(&app, &account).await, Value::Null);

    // The old period by the old plan, the next one by the new plan's version of that time.
    let dearer = json!({ "plan_id": large_id, "monthly_eur": 32 });
    app.call("admin", "update_plan", dearer).await.ok();
    use_storage(&app, &account, &[("2026-01-15", 0, 5_500)], &[]).await;
    wait_until(&mut app, CLOSING).await;
    close(&app, &account).await;
    close(&app, &account).await;
    assert_json_snapshot!("next_commit_invoice", latest_invoice(&app, &account).await);
    let now = kept(&app, &account).await;
    assert_eq!(
        (now.plan_id, now.plan_version, now.quota_gb),
        (PlanId(large_id), 2, 6000)
    );
    assert_eq!(now.plan_changes, Default::default());
    assert_eq!(limit(&app, &account).await, 7_000 * GB_BYTES);
    for (plan_id, count) in [(2, 0), (large_id, 1)] {
        let list = app
            .call("admin", "get_users", json!({ "plan_id": plan_id }))
            .await
            .ok();
        assert_eq!(list["s3_users"].as_array().expect("a list").len(), count);
    }
    let told = events(&app, Kind::AccountPlanChanged).await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].detail,
        json!({ "plan_id": large_id, "plan_version": 2, "previous_plan_id": 2 })
    );
    let closed = &history(&app, &account, "period_closed").await[0];
    assert_eq!(
        (&closed["plan_id"], &closed["previous_plan_id"]),
        (&json!(large_id), &json!(2))
    );
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn change_plan_now_divides_the_period() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = large(&app, json!({})).await;
    let other_id = large(&app, json!({ "name": "Other S3" })).await;
    // 5,100 GB stored and, from noon of the day of the change on, 6,100 GB; 500 GB sent in the hour before the change, 700 GB in its own.
    use_storage(
        &app,
        &account,
        &[("2026-01-15", 0, 5_100), ("2026-01-25", 12, 6_100)],
        &[("2026-01-25", 9, 500), ("2026-01-25", 10, 700)],
    )
    .await;
    wait_until(&mut app, CHANGE).await;
    change(&app, &account, other_id, "next_commit").await;
    let body = change(&app, &account, large_id, "now").await;
    assert_json_snapshot!("now", masked(&app, &body));
    assert_json_snapshot!("now_invoice", latest_invoice(&app, &account).await);
    assert_eq!(limit(&app, &account).await, 7_000 * GB_BYTES);
    let now = kept(&app, &account).await;
    assert_eq!((now.plan_id, now.quota_gb), (PlanId(large_id), 6000));
    assert_eq!(now.service.next_commit_date.to_string(), "2026-02-15");
    assert_eq!(now.plan_changes.next_plan_id, None);
    assert_eq!(events(&app, Kind::AccountPlanChanged).await.len(), 1);

    // Again: the same answer, and nothing is written.
    let before = app.world().await;
    assert_eq!(change(&app, &account, large_id, "now").await, body);
    app.world()
        .await
        .assert_unchanged_since(&before, "a repeat");

    wait_until(&mut app, CLOSING).await;
    close(&app, &account).await;
    assert_json_snapshot!("now_closing", latest_invoice(&app, &account).await);
    assert_eq!(kept(&app, &account).await.plan_changes, Default::default());
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn change_plan_now_to_a_cheaper_plan_gives_credit_back() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let before = app.balances("client").await.credit_minor;
    let small = json!({ "name": "Small S3", "monthly_eur": 5, "quota": 10 });
    let small_id = large(&app, small).await;
    wait_until(&mut app, CHANGE).await;
    let body = change(&app, &account, small_id, "now").await;
    // 494 of 744 hours, at 15.00 and at 5.00.
    assert_eq!(body["amount"], -6.64);
    assert_eq!(
        app.balances("client").await.credit_minor,
        before + 996 - 332
    );
    // There and back within the hour: as if it had not been.
    change(&app, &account, 2, "now").await;
    assert_eq!(app.balances("client").await.credit_minor, before);
    let now = kept(&app, &account).await;
    assert_eq!(
        (now.plan_id, now.plan_changes.earlier.len()),
        (PlanId(2), 0)
    );
    assert_eq!(limit(&app, &account).await, Value::Null);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn change_plan_now_to_a_cheaper_plan_pays_what_is_owed() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    // Nearly all credit is spent, so that the next invoice is left open.
    let balances = app.balances("client").await;
    app.top_up("client", "spent", 200 - balances.credit_minor)
        .await;
    let owed = json!({ "plan_id": 2, "bucket_name": "owed" });
    app.call("client", "create_account", owed).await.ok();
    let open = async |app: &TestApp| {
        let invoices = app
            .context()
            .database
            .open_invoices(app.client_id("client"));
        invoices.await.expect("invoices").len()
    };
    assert_eq!(open(&app).await, 1);
    let dear_id = large(&app, json!({ "monthly_eur": 0, "name": "Gift" })).await;
    wait_until(&mut app, "2026-01-15T13:00:00Z").await;
    app.top_up("client", "not enough by itself", 100).await;
    let body = change(&app, &account, dear_id, "now").await;
    assert!(
        body["amount"].as_f64().expect("an amount") < -14.0,
        "{body}"
    );
    app.stack.drain().await.expect("the queues are emptied");
    assert_eq!(open(&app).await, 0);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn a_plan_that_comes_to_cost_nothing_is_counted_from_the_next_period_on() {
    let mut app = TestApp::start_idle(&[("FreeAccountsPerClient", "1")]).await;
    let first = app.order("client", "first").await;
    let second = app.order("client", "second").await;
    let free = async |app: &TestApp| app.client("client").await.free_accounts;
    let monthly = async |app: &TestApp, price: u64| {
        let parameters = json!({
            "plan_id": 2,
            "monthly_eur": price,
            "price[NL][EUR]": "",
        });
        app.call("admin", "update_plan", parameters).await.ok();
    };
    monthly(&app, 0).await;
    assert_eq!(free(&app).await, 0);
    wait_until(&mut app, CLOSING).await;
    // More than a client may order are kept.
    for account in [&first, &second] {
        close(&app, account).await;
    }
    assert_eq!(free(&app).await, 2);
    let refused = json!({ "plan_id": 1, "bucket_name": "third" });
    let refused = app
        .call("client", "create_order", refused)
        .await
        .refused(403);
    assert_eq!(
        refused,
        text("create_order", "the limit of free S3 accounts is reached")
    );
    monthly(&app, 15).await;
    wait_until(&mut app, "2026-03-15T01:00:00Z").await;
    for account in [&first, &second] {
        close_on(&app, account, "2026-03-15").await;
    }
    assert_eq!(free(&app).await, 0);
}

#[tokio::test]
async fn change_plan_to_and_from_what_is_free_counts_it() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let second = app.order("client", "other-bucket").await;
    let third = app.order("client", "third-bucket").await;
    let free = async |app: &TestApp| app.client("client").await.free_accounts;
    change(&app, &third, 1, "next_commit").await;
    change(&app, &account, 1, "now").await;
    assert!(kept(&app, &account).await.is_free);
    assert_eq!(limit(&app, &account).await, 5 * GB_BYTES);
    assert_eq!(free(&app).await, 1);
    let reached = (403, "the limit of free S3 accounts is reached".to_owned());
    assert_eq!(refused(&app, &second, 1, "now").await, reached);
    assert_eq!(refused(&app, &second, 1, "next_commit").await, reached);
    change(&app, &account, 2, "now").await;
    assert!(!kept(&app, &account).await.is_free);
    assert_eq!(free(&app).await, 0);
    change(&app, &second, 1, "now").await;

    // By the time the third one's period ends, the client has its free account: it stays where it is.
    wait_until(&mut app, CLOSING).await;
    close(&app, &third).await;
    assert_eq!(free(&app).await, 1);
    let now = kept(&app, &third).await;
    assert_eq!((now.plan_id, now.is_free), (PlanId(2), false));
    assert_eq!(now.plan_changes, Default::default());
    let closed = &history(&app, &third, "period_closed").await[0];
    assert_eq!(
        (&closed["refused_plan_id"], &closed["refused"]),
        (&json!(1), &json!(reached.1))
    );
    assert_eq!(latest_invoice(&app, &third).await["amount"], 15.0);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn change_plan_to_what_is_not_sold_any_more_keeps_the_plan() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = large(&app, json!({})).await;
    change(&app, &account, large_id, "next_commit").await;
    for ended in [
        json!({ "plan_id": large_id, "active": 0 }),
        json!({ "plan_id": 2, "monthly_eur": 16, "price[NL][EUR]": 16 }),
    ] {
        app.call("admin", "update_plan", ended).await.ok();
    }
    wait_until(&mut app, CLOSING).await;
    close(&app, &account).await;
    let now = kept(&app, &account).await;
    assert_eq!((now.plan_id, now.plan_version), (PlanId(2), 2));
    let invoice = latest_invoice(&app, &account).await;
    assert_eq!(invoice["amount"], 16.0);
    let closed = &history(&app, &account, "period_closed").await[0];
    assert_eq!(closed["refused_plan_id"], large_id);
    assert_eq!(closed["refused"], "the plan is not active");
    assert!(events(&app, Kind::AccountPlanChanged).await.is_empty());
}

#[tokio::test]
async fn change_plan_refuses_what_cannot_be_had() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = large(&app, json!({})).await;
    let elsewhere = large(&app, json!({ "locations": "DE" })).await;
    let dollars = json!({ "name": "Dollars", "quota": 1, "monthly_usd": 1 });
    let dollars = app.call("admin", "create_plan", dollars).await.ok()["plan"]["id"]
        .as_u64()
        .expect("a number");
    let tiny = large(&app, json!({ "quota": 1, "storage_limit": 1 })).await;
    let full = Account {
        stored_bytes: GB_BYTES + 1,
        ..kept(&app, &account).await
    };
    let figures = app.context().database.set_account_figures(&full);
    figures.await.expect("written");
    for (plan_id, status, wanted) in [
        (444, 404, "S3 plan not found"),
        (4, 409, "the plan is not active"),
        (elsewhere, 409, "the plan is not offered in NL"),
        (dollars, 409, "the plan is not sold in EUR"),
        (
            3,
            409,
            "the plan is for storage of type Cold, the S3 account is on Standard",
        ),
        (
            tiny,
            409,
            "the S3 account stores 1073741825 bytes, the plan allows 1073741824",
        ),
    ] {
        for when in ["now", "next_commit"] {
            let told = refused(&app, &account, plan_id, when).await;
            assert_eq!(told, (status, wanted.to_owned()), "{plan_id} {when}");
        }
    }
    let same = (409, "S3 account is on this plan already".to_owned());
    assert_eq!(refused(&app, &account, 2, "now").await, same);

    wait_until(&mut app, CLOSING).await;
    let waits = (
        409,
        "the period that has ended is still to be closed, try again later".to_owned(),
    );
    assert_eq!(refused(&app, &account, large_id, "now").await, waits);
    close(&app, &account).await;

    let own = json!({ "s3uid": account.s3uid });
    for (action, wanted) in [
        (
            "delete_payment_account",
            "S3 account is already being cancelled",
        ),
        ("delete_account", "S3 account is being deleted"),
    ] {
        app.call("client", action, own.clone()).await.ok();
        for when in ["now", "next_commit"] {
            let told = refused(&app, &account, large_id, when).await;
            assert_eq!(told, (409, wanted.to_owned()));
        }
    }
}

#[tokio::test]
async fn change_plan_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = large(&app, json!({})).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: parameters(&app, &account, large_id, "next_commit"),
    };
    contract.is_for_admins_only().await;
    contract.refuses_missing(&["s3uid", "plan_id"]).await;
    contract.takes_a_number("plan_id", 1, i64::MAX as u64).await;
    contract.takes_a_line("when").await;
    contract
        .refuses(
            "when",
            "must be next_commit or now",
            &[json!("later"), json!("NOW"), json!(1)],
        )
        .await;
    contract.refuses_bad_tokens().await;
    let contract = Contract {
        parameters: json!({ "s3uid": account.s3uid, "plan_id": large_id }),
        ..contract
    };
    contract.hides_the_account_from_others(&account).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn change_plan_by_several_at_once_is_paid_once() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = large(&app, json!({})).await;
    wait_until(&mut app, CHANGE).await;
    let before = app.balances("client").await;
    let calls = (0..6).map(|_| change(&app, &account, large_id, "now"));
    let bodies = futures::future::join_all(calls).await;
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    let after = app.balances("client").await;
    assert_eq!(after.invoices, before.invoices + 1);
    assert_eq!(after.credit_minor, before.credit_minor + 996 - 2_058);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn change_plan_to_several_plans_at_once_ends_on_one() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let mut limits = Vec::new();
    for number in 1..=4u64 {
        let limit = 10_000 + number;
        let plan = json!({ "monthly_eur": 31 + number, "storage_limit": limit });
        limits.push((large(&app, plan).await, limit, 31 + number));
    }
    wait_until(&mut app, CHANGE).await;
    let before = app.balances("client").await.credit_minor;
    let calls = limits.iter().map(|(plan_id, _, _)| {
        let parameters = parameters(&app, &account, *plan_id, "now");
        app.call("admin", ACTION, parameters)
    });
    for reply in futures::future::join_all(calls).await {
        if reply.status != 200 {
            assert_eq!(reply.retry_after, Some(1));
            let wanted = text(ACTION, "S3 account is being changed, try again");
            assert_eq!(reply.refused(409), wanted);
        }
    }
    let now = kept(&app, &account).await;
    let (_, limit_gb, monthly) = limits
        .iter()
        .find(|(plan_id, _, _)| *plan_id == now.plan_id.0)
        .expect("one of them");
    assert_eq!(limit(&app, &account).await, limit_gb * GB_BYTES);
    // All within an hour: what lies between is given back to the cent.
    let share = |minor: u64| {
        let exact = minor * 494;
        i64::try_from((exact + 372) / 744).expect("little")
    };
    let paid = before - app.balances("client").await.credit_minor;
    assert_eq!(paid, share(monthly * 100) - share(1_500));
    assert_eq!(now.plan_changes.earlier.len(), 1);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn change_plan_may_die_anywhere_and_is_asked_for_again() {
    let mut app = TestApp::start_idle(&[("AccountsPerClient", "1000")]).await;
    app.top_up("client", "for many orders", 1_000_000).await;
    let large_id = large(&app, json!({})).await;
    let mut crashes = 0;
    let mut index = 0;
    loop {
        let mut has_ended = false;
        for moment in [Moment::Before, Moment::After] {
            let account = app
                .order(
                    "client",
                    &format!("bucket-{index}-{moment:?}").to_lowercase(),
                )
                .await;
            let before = app.balances("client").await;
            let asked = parameters(&app, &account, large_id, "now");
            let asking = app.call_directly("admin", ACTION, asked);
            match app.tap.crash_at(index, moment, asking).await {
                Some(reply) => {
                    reply.ok();
                    has_ended = true;
                }
                None => crashes += 1,
            }
            let body = change(&app, &account, large_id, "now").await;
            assert_eq!(body["plan_id"], large_id);
            let after = app.balances("client").await;
            assert_eq!(after.invoices, before.invoices + 1, "{index} {moment:?}");
            assert_eq!(
                limit(&app, &account).await,
                7_000 * GB_BYTES,
                "{index} {moment:?}"
            );
            assert_eq!(history(&app, &account, ACTION).await.len(), 1);
        }
        if has_ended {
            break;
        }
        index += 1;
    }
    assert!(crashes > 20, "{crashes}");
    app.log_in().await;
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn change_plan_that_the_cluster_did_not_hear_of_is_mended_by_the_next_change_or_closing() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let second = app.order("client", "other-bucket").await;
    let large_id = large(&app, json!({})).await;
    let other_id = large(&app, json!({ "name": "Other S3" })).await;
    wait_until(&mut app, CHANGE).await;
    for account in [&account, &second] {
        let asked = parameters(&app, account, large_id, "now");
        let asking = app.call_directly("admin", ACTION, asked);
        let reply = app
            .tap
            .without(|name| name.starts_with("cluster"), asking)
            .await;
        assert_eq!(reply.status, 503);
        assert_eq!(kept(&app, account).await.plan_id, PlanId(large_id));
        assert_eq!(limit(&app, account).await, Value::Null);
    }
    // To a plan of the same limit.
    change(&app, &second, other_id, "now").await;
    assert_eq!(limit(&app, &second).await, 7_000 * GB_BYTES);
    wait_until(&mut app, CLOSING).await;
    close(&app, &account).await;
    assert_eq!(limit(&app, &account).await, 7_000 * GB_BYTES);
}

#[tokio::test]
async fn change_plan_and_a_closing_that_dies_anywhere_are_one() {
    let app = TestApp::start_idle(&[("AccountsPerClient", "1000")]).await;
    app.top_up("client", "for many orders", 1_000_000).await;
    let large_id = large(&app, json!({})).await;
    let mut accounts = Vec::new();
    for number in 0..20 {
        let account = app.order("client", &format!("bucket-{number}")).await;
        change(&app, &account, large_id, "next_commit").await;
        accounts.push(account);
    }
    let context = Arc::clone(app.context());
    app.let_pass(SignedDuration::from_hours(31 * 24));
    let mut has_ended = false;
    for (index, account) in accounts.iter().enumerate() {
        let work = json!({ "work": "close", "s3uid": account.s3uid, "commits_on": "2026-02-15" });
        let work = work.to_string();
        let before = app.balances("client").await;
        let closing = app.handle_directly("billing", &work);
        let closed = app.tap.crash_at(index, Moment::After, closing).await;
        has_ended |= closed.is_some();
        app.handle_directly("billing", &work).await.expect("closed");
        // The period is closed, and the cluster may not have heard of it.
        app.let_pass(SignedDuration::from_mins(4));
        app.run_directly("resume_tasks").await.expect("it is run");
        app.stack.drain().await.expect("the queues empty");
        let stored = context.database.account(&account.s3uid).await;
        let stored = stored.expect("DynamoDB").expect("the account");
        assert_eq!(stored.plan_id, PlanId(large_id), "{index}");
        assert_eq!(limit(&app, account).await, 7_000 * GB_BYTES, "{index}");
        let after = app.balances("client").await;
        assert_eq!(after.invoices, before.invoices + 1, "{index}");
        assert_eq!(after.credit_minor, before.credit_minor - 3_100, "{index}");
    }
    assert!(has_ended, "it was not let come to its end");
    app.assert_ledger_is_sound("client").await;
}
