//! Credit and debts: what is open is paid by whatever comes in, the oldest first and the last in part; owing has a limit; and data goes
//! only on the day that was told, out of a suspension.

use jiff::ToSpan;
use jiff::civil::{Date, date};
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{Account, S3Uid, Status, Suspension, TerminationReason};
use wharfage::domain::client::ClientId;
use wharfage::domain::event::Kind;
use wharfage::domain::invoice::InvoiceStatus;
use wharfage::domain::period::{date_of, start_of};

use crate::add_credit::open_account;
use crate::billing_crashes::{history, stored};

async fn start(parameters: &[(&str, &str)]) -> TestApp {
    let app = TestApp::start_idle(parameters).await;
    app.spend_all_credit("client").await;
    app
}

/// Runs what is due on the day that it is.
pub async fn run_the_day(app: &TestApp) {
    app.collected_until_now("NL").await;
    for job in ["close_periods", "chase_invoices", "end_services"] {
        app.run_directly(job).await.expect("it is run");
        drain(app).await;
    }
}

pub async fn drain(app: &TestApp) {
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(drained.failed, 0);
}

/// Goes on to noon of a day, runs what is due on each day on the way, and logs in again.
async fn on(app: &mut TestApp, day: Date) {
    while date_of(app.now()) < day {
        let tomorrow = date_of(app.now()).tomorrow().expect("a day");
        let noon = start_of(tomorrow) + 12.hours();
        app.stack.clock().move_to(noon).expect("moved");
        run_the_day(app).await;
    }
    app.log_in().await;
}

async fn add(app: &TestApp, amount: &str, reference: &str) -> Value {
    let client_id = app.client_id("client");
    let payment = json!({ "id": client_id, "amount": amount, "reference": reference });
    app.call("admin", "add_credit", payment).await.ok()
}

async fn staff(app: &TestApp, action: &str, account: &TestAccount, more: Value) -> Value {
    let mut parameters = json!({ "id": app.client_id("client"), "s3uid": account.s3uid });
    let fields = parameters.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    app.call("admin", action, parameters).await.ok()
}

async fn service(app: &TestApp, account: &TestAccount) -> Value {
    let list = app.call("client", "get_users", json!({ "s3uid": account.s3uid }));
    list.await.ok()["s3_users"][0]["service"].clone()
}

async fn open_amounts(app: &TestApp) -> Vec<i64> {
    let open = app
        .context()
        .database
        .open_invoices(app.client_id("client"));
    let open = open.await.expect("DynamoDB answers");
    open.iter().map(|open| open.open_minor()).collect()
}

fn state(account: &Account) -> (Status, Option<Suspension>) {
    (account.service.status(), account.service.suspension())
}

/// Plan 2 costs 15.00 a month, due 14 days after it is invoiced, suspended 14 days later, purged 30 days after that.
#[tokio::test]
async fn an_account_that_staff_resumed_is_suspended_and_told_again_before_its_data_goes() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "given-time").await;
    on(&mut app, date(2026, 2, 12)).await;
    let shown = service(&app, &account).await;
    assert_eq!(shown["termination_date"], "2026-03-14");
    assert_eq!(shown["termination_reason"], "unpaid");
    on(&mut app, date(2026, 2, 13)).await;
    let resumed = staff(
        &app,
        "resume_account",
        &account,
        json!({ "until": "2026-03-01" }),
    )
    .await;
    assert_eq!(resumed["service"]["status"], "active");
    assert_eq!(resumed["service"]["termination_date"], Value::Null);
    assert_eq!(resumed["service"]["resumed_until"], "2026-03-01");

    on(&mut app, date(2026, 2, 28)).await;
    assert_eq!(
        state(&stored(&app, &account.s3uid).await),
        (Status::Active, None)
    );
    on(&mut app, date(2026, 3, 1)).await;
    let again = stored(&app, &account.s3uid).await;
    assert_eq!(state(&again), (Status::Suspended, Some(Suspension::Unpaid)));
    let told = (date(2026, 3, 31), TerminationReason::Unpaid);
    assert_eq!(again.service.termination(), Some(told));
    on(&mut app, date(2026, 3, 30)).await;
    assert_eq!(
        stored(&app, &account.s3uid).await.service.status(),
        Status::Suspended
    );
    on(&mut app, date(2026, 3, 31)).await;
    let gone = stored(&app, &account.s3uid).await;
    assert_eq!(gone.service.status(), Status::Terminated);
    assert_eq!(history(&app, &account.s3uid, "suspend_account").await, 2);
    assert_eq!(history(&app, &account.s3uid, "delete_account").await, 1);
}

#[tokio::test]
async fn staff_who_do_not_say_until_when_give_as_long_as_an_invoice_has() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "given-time").await;
    on(&mut app, date(2026, 2, 13)).await;
    let resumed = staff(&app, "resume_account", &account, json!({})).await;
    assert_eq!(resumed["service"]["resumed_until"], "2026-02-27");
    let past =
        json!({ "id": app.client_id("client"), "s3uid": account.s3uid, "until": "2026-02-13" });
    let refused = app.call("admin", "resume_account", past).await;
    assert_eq!(
        refused.refused(400),
        "s3/resume_account: invalid parameter until: must be a day after today, and at most a year ahead"
    );
}

#[tokio::test]
async fn a_cancelled_account_is_told_the_nearer_day_when_it_is_suspended_for_debts() {
    let mut app = start(&[]).await;
    on(&mut app, date(2026, 4, 30)).await;
    let account = open_account(&app, 2, "cancelled").await;
    let cancelled = app
        .call(
            "client",
            "delete_payment_account",
            json!({ "s3uid": account.s3uid }),
        )
        .await
        .ok();
    assert_eq!(cancelled["service"]["termination_date"], "2026-06-29");
    assert_eq!(cancelled["service"]["termination_reason"], "cancelled");
    on(&mut app, date(2026, 5, 27)).await;
    let before = stored(&app, &account.s3uid).await.service;
    assert_eq!(
        before.termination(),
        Some((date(2026, 6, 29), TerminationReason::Cancelled))
    );
    // Suspended on the 28th: from now on, and not before, an earlier day is told.
    on(&mut app, date(2026, 5, 28)).await;
    let told = service(&app, &account).await;
    assert_eq!(told["termination_date"], "2026-06-27");
    assert_eq!(told["termination_reason"], "unpaid");
    on(&mut app, date(2026, 6, 26)).await;
    assert_eq!(
        stored(&app, &account.s3uid).await.service.status(),
        Status::Terminating
    );
    on(&mut app, date(2026, 6, 27)).await;
    assert_eq!(
        stored(&app, &account.s3uid).await.service.status(),
        Status::Terminated
    );
    assert_eq!(history(&app, &account.s3uid, "delete_account").await, 1);
}

#[tokio::test]
async fn a_cancelled_account_that_pays_keeps_the_day_of_its_cancellation() {
    let mut app = start(&[]).await;
    on(&mut app, date(2026, 4, 30)).await;
    let account = open_account(&app, 2, "cancelled").await;
    let own = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_payment_account", own).await.ok();
    on(&mut app, date(2026, 6, 10)).await;
    assert_eq!(
        service(&app, &account).await["termination_date"],
        "2026-06-27"
    );
    add(&app, "15.00", "late").await;
    drain(&app).await;
    let paid = service(&app, &account).await;
    assert_eq!(paid["termination_date"], "2026-06-29");
    assert_eq!(paid["termination_reason"], "cancelled");
    on(&mut app, date(2026, 6, 28)).await;
    assert_eq!(
        stored(&app, &account.s3uid).await.service.status(),
        Status::Terminating
    );
    on(&mut app, date(2026, 6, 29)).await;
    assert_eq!(
        stored(&app, &account.s3uid).await.service.status(),
        Status::Terminated
    );
}

#[tokio::test]
async fn a_cent_that_is_left_is_reminded_of_and_suspends_nobody() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "nearly-paid").await;
    let answer = add(&app, "14.99", "nearly").await;
    assert_eq!(answer["credit"], 0.0);
    assert_eq!(answer["paid"][0]["amount"], 14.99);
    assert_eq!(answer["paid"][0]["open"], 0.01);
    assert_eq!(open_amounts(&app).await, [1]);
    // The next month is owed too and would suspend it: it is paid, after the cent.
    on(&mut app, date(2026, 2, 14)).await;
    assert_eq!(
        state(&stored(&app, &account.s3uid).await),
        (Status::Active, None)
    );
    add(&app, "14.99", "the next month").await;
    on(&mut app, date(2026, 5, 1)).await;
    let listed = stored(&app, &account.s3uid).await;
    assert_ne!(listed.service.status(), Status::Terminated);
    assert!(history(&app, &account.s3uid, "invoice_reminder").await >= 12);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn a_change_to_a_free_plan_gives_back_only_what_was_paid() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "downgraded").await;
    app.let_pass(jiff::SignedDuration::from_hours(1));
    staff(
        &app,
        "change_plan",
        &account,
        json!({ "plan_id": 1, "when": "now" }),
    )
    .await;
    let balances = app.balances("client").await;
    assert_eq!(balances.credit_minor, 0, "nothing was paid");
    let open = open_amounts(&app).await;
    assert_eq!(open.len(), 1);
    assert!((1..100).contains(&open[0]), "{open:?}");
    on(&mut app, date(2026, 4, 1)).await;
    assert_eq!(
        state(&stored(&app, &account.s3uid).await),
        (Status::Active, None)
    );
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn a_credit_note_lowers_what_is_open_and_nobody_buys_with_what_he_never_paid() {
    let app = start(&[]).await;
    let prices = json!({ "name": "Twenty", "quota": 10, "monthly_eur": 20, "monthly_usd": 20, "monthly_rub": 2000 });
    let twenty = app.call("admin", "create_plan", prices).await.ok()["plan"]["id"].clone();
    let prices = json!({ "name": "Ten", "quota": 10, "monthly_eur": 10, "monthly_usd": 10, "monthly_rub": 1000 });
    let ten = app.call("admin", "create_plan", prices).await.ok()["plan"]["id"].clone();
    let account = open_account(&app, twenty.as_u64().expect("a number"), "lowered").await;
    app.let_pass(jiff::SignedDuration::from_hours(1));
    let changed = staff(
        &app,
        "change_plan",
        &account,
        json!({ "plan_id": ten, "when": "now" }),
    )
    .await;
    let given_back = -changed["amount"].as_f64().expect("a number");
    assert!((9.0..10.0).contains(&given_back), "{changed}");
    assert_eq!(app.balances("client").await.credit_minor, 0);
    let owed: i64 = open_amounts(&app).await.iter().sum();
    assert_eq!(owed, 2_000 - (given_back * 100.0).round() as i64);
    let order = json!({ "plan_id": ten, "bucket_name": "not-for-that" });
    let refused = app.call("client", "create_order", order).await;
    let text = refused.refused(402);
    assert!(text.contains("open invoices to be paid first"), "{text}");
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn credit_pays_the_older_invoice_before_a_renewal() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "older-first").await;
    // Its first invoice is overdue when ten come in, and the second is issued on 15 February.
    on(&mut app, date(2026, 2, 10)).await;
    add(&app, "10.00", "some of it").await;
    on(&mut app, date(2026, 2, 16)).await;
    assert_eq!(open_amounts(&app).await, [500, 1_500]);
    // The rest of the old one, and some of the new one.
    let answer = add(&app, "7.00", "more").await;
    assert_eq!(answer["credit"], 0.0);
    assert_eq!(answer["owed"], 13.0);
    let parts: Vec<(f64, f64)> = answer["paid"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|part| {
            (
                part["amount"].as_f64().expect("a number"),
                part["open"].as_f64().expect("a number"),
            )
        })
        .collect();
    assert_eq!(parts, [(5.0, 0.0), (2.0, 13.0)]);
    let again = add(&app, "7.00", "more").await;
    assert_eq!(again["paid"], answer["paid"], "asked again");
    assert_eq!(open_amounts(&app).await, [1_300]);
    drain(&app).await;
    assert_eq!(
        state(&stored(&app, &account.s3uid).await),
        (Status::Active, None)
    );
    let invoices = app.invoices("client").await;
    let status: Vec<InvoiceStatus> = invoices.iter().map(|invoice| invoice.status()).collect();
    assert_eq!(status, [InvoiceStatus::Paid, InvoiceStatus::Open]);
    assert_eq!(history(&app, &account.s3uid, "invoice_paid").await, 3);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn nobody_orders_on_account_beyond_the_credit_limit_or_with_something_overdue() {
    let mut app = start(&[("CreditLimit", "100")]).await;
    for number in 0..6 {
        open_account(&app, 2, &format!("owed-{number}")).await;
    }
    let seventh = json!({ "plan_id": 2, "bucket_name": "too-many" });
    let refused = app.call("client", "create_account", seventh.clone()).await;
    assert_eq!(
        refused.refused(402),
        "s3/create_order: the credit limit does not allow it: 90.00 EUR owed and 15.00 more by this order, the limit is 100.00"
    );
    // Staff may allow more to one client.
    let more = json!({ "id": app.client_id("client"), "credit_limit": "105" });
    let shown = app.call("admin", "update_client", more).await.ok();
    assert_eq!(shown["client"]["credit_limit"], 105.0);
    app.call("client", "create_account", seventh).await.ok();
    // Paid but for one that is overdue: there is room in the limit, but not for whoever does not pay in time.
    add(&app, "90.00", "six of seven").await;
    on(&mut app, date(2026, 1, 30)).await;
    let late = json!({ "plan_id": 2, "bucket_name": "too-late" });
    let refused = app.call("client", "create_account", late).await;
    let text = refused.refused(402);
    assert!(
        text.starts_with("s3/create_order: an invoice is overdue: 15.00 EUR of invoice "),
        "{text}"
    );
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn orders_on_account_at_once_do_not_pass_the_credit_limit_together() {
    let app = start(&[("CreditLimit", "40")]).await;
    let orders = (0..8).map(|number| {
        let order = json!({ "plan_id": 2, "bucket_name": format!("at-once-{number}") });
        app.call("client", "create_account", order)
    });
    let replies = futures::future::join_all(orders).await;
    let mut taken = 0;
    for reply in replies {
        match reply.status {
            200 => taken += 1,
            402 => {}
            other => panic!("{other}: {}", reply.body),
        }
    }
    assert_eq!(taken, 2);
    assert_eq!(open_amounts(&app).await, [1_500, 1_500]);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn money_in_another_currency_than_the_clients_is_taken_only_for_what_is_open_in_it() {
    let app = start(&[]).await;
    let client_id = app.client_id("client");
    let dollars =
        json!({ "id": client_id, "amount": "5", "currency": "USD", "reference": "a slip" });
    let refused = app.call("admin", "add_credit", dollars).await;
    assert_eq!(
        refused.refused(409),
        "s3/add_credit: the customer is billed in EUR: in USD no more is taken than is open, 0.00"
    );
    let slip =
        json!({ "id": client_id, "amount": "10000000000", "reference": "a slip of the hand" });
    let refused = app.call("admin", "add_credit", slip).await;
    assert_eq!(
        refused.refused(400),
        "s3/add_credit: invalid parameter amount: must be at most 1000000.00 at once"
    );
    // A currency is changed at zero credit and zero debt.
    add(&app, "25.00", "left").await;
    let change = json!({ "id": client_id, "currency": "USD" });
    let refused = app.call("admin", "update_client", change).await;
    assert_eq!(
        refused.refused(409),
        "s3/update_client: the currency can be changed only while the customer has neither credit nor debts"
    );
}

#[tokio::test]
async fn a_period_that_begins_suspended_by_staff_is_charged_as_the_parameter_and_the_plan_say() {
    for (parameter, of_plan, is_charged) in [
        ("yes", "", true),
        ("no", "", false),
        ("no", "1", true),
        ("yes", "0", false),
    ] {
        let mut app = TestApp::start_idle(&[("ChargeSuspended", parameter)]).await;
        let prices = json!({ "name": "Ten", "quota": 10, "monthly_eur": 10, "monthly_usd": 10, "monthly_rub": 1000, "charge_suspended": of_plan });
        let ten = app.call("admin", "create_plan", prices).await.ok()["plan"]["id"].clone();
        let order = json!({ "plan_id": ten, "bucket_name": "stopped" });
        let account = app.order_with("client", order).await;
        staff(&app, "suspend_account", &account, json!({})).await;
        on(&mut app, date(2026, 2, 16)).await;
        staff(&app, "resume_account", &account, json!({})).await;
        on(&mut app, date(2026, 3, 16)).await;
        let invoices = app.invoices("client").await;
        // The order, the month that began suspended, the month after it was resumed.
        let expected = if is_charged { 3 } else { 2 };
        assert_eq!(invoices.len(), expected, "{parameter} {of_plan:?}");
        app.assert_ledger_is_sound("client").await;
    }
}

#[tokio::test]
async fn debts_of_an_account_that_is_gone_are_paid_first_and_keep_no_other_for_ever() {
    let mut app = TestApp::start_idle(&[]).await;
    let living = app.order("client", "living").await;
    app.spend_all_credit("client").await;
    let purged = open_account(&app, 2, "purged").await;
    on(&mut app, date(2026, 3, 14)).await;
    let gone = stored(&app, &purged.s3uid).await;
    assert_eq!(gone.service.status(), Status::Terminated);
    // Its first month and its second, and the second of the one that lives, which is suspended for it a day later.
    assert_eq!(open_amounts(&app).await, [1_500, 1_500, 1_500]);
    on(&mut app, date(2026, 3, 16)).await;
    let state_of = async |app: &TestApp| state(&stored(app, &living.s3uid).await);
    let unpaid = (Status::Suspended, Some(Suspension::Unpaid));
    assert_eq!(state_of(&app).await, unpaid);
    assert_eq!(open_amounts(&app).await.len(), 4, "and its third");
    let order = json!({ "plan_id": 2, "bucket_name": "not-yet" });
    let refused = app.call("client", "create_account", order.clone()).await;
    refused.refused(402);

    // Part by part, whoever is named by the parts.
    let invoices = app.invoices("client").await;
    let whose = |invoice_id: &Value| {
        let invoice = invoices.iter().find(|i| invoice_id == i.invoice_id.0);
        invoice.expect("the invoice").s3uid.clone()
    };
    let first = add(&app, "20.00", "the first part").await;
    let parts = first["paid"].as_array().expect("a list");
    assert_eq!(whose(&parts[0]["invoice_id"]), purged.s3uid);
    assert_eq!(
        (&parts[0]["open"], &parts[1]["open"]),
        (&json!(0.0), &json!(10.0))
    );
    drain(&app).await;
    assert_eq!(state_of(&app).await, unpaid);
    let second = add(&app, "25.00", "the second part").await;
    let parts = second["paid"].as_array().expect("a list");
    let paid: std::collections::BTreeSet<S3Uid> = parts
        .iter()
        .map(|part| whose(&part["invoice_id"]))
        .collect();
    let both = [living.s3uid.clone(), purged.s3uid.clone()];
    assert_eq!(paid, both.into());
    drain(&app).await;
    assert_eq!(state_of(&app).await, (Status::Active, None));
    assert_eq!(open_amounts(&app).await, [1_500], "what is not due yet");

    // Nothing of the one that is gone is left, and the other goes on.
    app.call("client", "create_account", order).await.ok();
    add(&app, "100.00", "for long").await;
    on(&mut app, date(2026, 5, 20)).await;
    assert_eq!(state_of(&app).await, (Status::Active, None));
    let gone = json!({ "work": "recount", "from": 1, "to": 3 }).to_string();
    app.handle_directly("billing", &gone)
        .await
        .expect("recounted");
    let events = app.context().database.unsent_events(10_000).await;
    let events = events.expect("DynamoDB answers");
    let differences = events
        .iter()
        .filter(|event| event.kind == Kind::LedgerDifference);
    assert_eq!(differences.count(), 0);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn what_is_left_of_a_purged_account_is_reminded_of_to_the_end_and_no_more() {
    let mut app = start(&[]).await;
    let purged = open_account(&app, 2, "purged").await;
    on(&mut app, date(2026, 3, 14)).await;
    assert_eq!(
        stored(&app, &purged.s3uid).await.service.status(),
        Status::Terminated
    );
    on(&mut app, date(2026, 4, 10)).await;
    let open = app.context().database.open_invoices(ClientId(1)).await;
    let open = open.expect("DynamoDB answers");
    assert_eq!(open.len(), 2, "no month is charged after its end");
    assert!(open.iter().all(|open| open.act_on.is_none()), "{open:?}");
    assert_eq!(history(&app, &purged.s3uid, "delete_account").await, 1);
    assert_eq!(history(&app, &purged.s3uid, "suspend_account").await, 1);
    // Paid a year later, it stays what it is.
    add(&app, "30.00", "late").await;
    drain(&app).await;
    assert!(open_amounts(&app).await.is_empty());
    assert_eq!(
        stored(&app, &purged.s3uid).await.service.status(),
        Status::Terminated
    );
    app.assert_ledger_is_sound("client").await;
}

/// Time that staff gave lasts until its day, whatever else they do with the account meanwhile.
#[tokio::test]
async fn time_that_was_given_is_not_lost_when_staff_suspend_and_resume_again() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "given-time").await;
    on(&mut app, date(2026, 2, 12)).await;
    staff(
        &app,
        "resume_account",
        &account,
        json!({ "until": "2026-02-20" }),
    )
    .await;
    staff(&app, "suspend_account", &account, json!({})).await;
    let resumed = staff(
        &app,
        "resume_account",
        &account,
        json!({ "until": "2026-02-22" }),
    )
    .await;
    assert_eq!(resumed["service"]["resumed_until"], "2026-02-22");
    on(&mut app, date(2026, 2, 21)).await;
    assert_eq!(
        state(&stored(&app, &account.s3uid).await),
        (Status::Active, None)
    );
    on(&mut app, date(2026, 2, 22)).await;
    let again = stored(&app, &account.s3uid).await;
    assert_eq!(state(&again), (Status::Suspended, Some(Suspension::Unpaid)));
    let told = (date(2026, 3, 24), TerminationReason::Unpaid);
    assert_eq!(again.service.termination(), Some(told));
}

#[tokio::test]
async fn an_account_is_given_time_before_it_is_suspended_and_another_day_later() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "given-time").await;
    on(&mut app, date(2026, 2, 5)).await;
    let given = staff(
        &app,
        "resume_account",
        &account,
        json!({ "until": "2026-02-25" }),
    )
    .await;
    assert_eq!(given["service"]["resumed_until"], "2026-02-25");
    on(&mut app, date(2026, 2, 13)).await;
    assert_eq!(
        state(&stored(&app, &account.s3uid).await),
        (Status::Active, None)
    );
    let sooner = staff(
        &app,
        "resume_account",
        &account,
        json!({ "until": "2026-02-16" }),
    )
    .await;
    assert_eq!(sooner["service"]["resumed_until"], "2026-02-16");
    on(&mut app, date(2026, 2, 16)).await;
    let suspended = stored(&app, &account.s3uid).await;
    assert_eq!(
        state(&suspended),
        (Status::Suspended, Some(Suspension::Unpaid))
    );
}

#[tokio::test]
async fn time_that_was_given_ends_with_the_debt_that_it_was_given_for() {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "given-time").await;
    let until =
        json!({ "id": app.client_id("client"), "s3uid": account.s3uid, "until": "2026-02-20" });
    let refused = app.call("admin", "resume_account", until).await;
    assert_eq!(
        refused.refused(409),
        "s3/resume_account: nothing is overdue on the S3 account: until is for one that is not paid for"
    );
    on(&mut app, date(2026, 2, 13)).await;
    staff(
        &app,
        "resume_account",
        &account,
        json!({ "until": "2026-03-30" }),
    )
    .await;
    add(&app, "15.00", "all of it").await;
    drain(&app).await;
    assert_eq!(
        stored(&app, &account.s3uid).await.service.resumed_until,
        None
    );
    // The next invoice is due on 1 March, and has its own days.
    on(&mut app, date(2026, 3, 15)).await;
    let suspended = stored(&app, &account.s3uid).await;
    assert_eq!(
        state(&suspended),
        (Status::Suspended, Some(Suspension::Unpaid))
    );
}

#[tokio::test]
async fn whoever_pays_what_the_account_was_suspended_for_is_in_use_until_the_next_invoice_s_own_day()
 {
    let mut app = start(&[]).await;
    let account = open_account(&app, 2, "two-invoices").await;
    // Suspended on 12 February; the second invoice is due on 1 March, and suspends on the 15th.
    on(&mut app, date(2026, 3, 2)).await;
    let suspended = stored(&app, &account.s3uid).await;
    assert_eq!(
        state(&suspended),
        (Status::Suspended, Some(Suspension::Unpaid))
    );
    add(&app, "15.00", "the first").await;
    drain(&app).await;
    let paid = stored(&app, &account.s3uid).await;
    assert_eq!(state(&paid), (Status::Active, None));
    assert_eq!(paid.service.termination(), None);
    on(&mut app, date(2026, 3, 15)).await;
    let again = stored(&app, &account.s3uid).await;
    assert_eq!(state(&again), (Status::Suspended, Some(Suspension::Unpaid)));
    let told = (date(2026, 4, 14), TerminationReason::Unpaid);
    assert_eq!(again.service.termination(), Some(told));
}

#[tokio::test]
async fn what_was_held_for_an_order_that_came_to_nothing_pays_what_came_to_be_owed() {
    let app = start(&[]).await;
    app.top_up("client", "for one order", 1_500).await;
    let others = app.order("client2", "somebody-elses").await;
    // Whoever places the order dies once its price is held.
    for index in 0.. {
        let order = json!({ "plan_id": 2, "bucket_name": "contested" });
        let order = app.call_directly("client", "create_order", order);
        let ended = app.tap.crash_at(index, Moment::After, order).await;
        assert!(ended.is_none(), "it ended before it had begun");
        if app.balances("client").await.held_minor == 1_500 {
            break;
        }
    }
    let s3 = app.s3("client2", &others).await;
    let taken = s3.create_bucket().bucket("contested").send().await;
    taken.expect("the bucket is made");
    let account = open_account(&app, 2, "owed-meanwhile").await;
    assert_eq!(open_amounts(&app).await, [1_500]);
    app.let_pass(jiff::SignedDuration::from_mins(5));
    app.run_directly("resume_orders").await.expect("it is run");
    assert_eq!(open_amounts(&app).await, [] as [i64; 0]);
    let balances = app.balances("client").await;
    assert_eq!((balances.credit_minor, balances.held_minor), (0, 0));
    assert_eq!(history(&app, &account.s3uid, "invoice_paid").await, 1);
    app.assert_ledger_is_sound("client").await;
}

/// As the version before let it stand.
#[tokio::test]
async fn credit_that_stands_beside_debts_pays_them_before_an_order() {
    for action in ["create_order", "create_account"] {
        let app = start(&[]).await;
        open_account(&app, 2, "owed").await;
        app.top_up("client", "beside it", 4_000).await;
        let order = json!({ "plan_id": 2, "bucket_name": "ordered" });
        app.call("client", action, order).await.ok();
        assert_eq!(open_amounts(&app).await, Vec::<i64>::new(), "{action}");
        assert_eq!(app.balances("client").await.credit_minor, 1_000, "{action}");
        app.assert_ledger_is_sound("client").await;
    }
}

#[tokio::test]
async fn an_operator_may_suspend_on_the_due_date_itself() {
    let mut app = start(&[("SuspensionDays", "0"), ("TerminationDays", "5")]).await;
    let account = open_account(&app, 2, "no-patience").await;
    on(&mut app, date(2026, 1, 29)).await;
    // A run takes one step of an invoice: the reminder came first.
    run_the_day(&app).await;
    let suspended = stored(&app, &account.s3uid).await;
    assert_eq!(
        state(&suspended),
        (Status::Suspended, Some(Suspension::Unpaid))
    );
    let told = (date(2026, 2, 3), TerminationReason::Unpaid);
    assert_eq!(suspended.service.termination(), Some(told));
    add(&app, "15.00", "at once").await;
    drain(&app).await;
    let paid = stored(&app, &account.s3uid).await;
    assert_eq!(state(&paid), (Status::Active, None));
}
