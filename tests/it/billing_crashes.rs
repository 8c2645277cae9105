//! Billing comes to the same wherever a process that works on it dies, and whatever else happens at the same time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::usage::SetDay;
use tests::{Reply, TestAccount, TestApp};
use wharfage::database::OpenInvoice;
use wharfage::domain::account::{Account, S3Uid, Status, Suspension};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::ClientId;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::history::Entity;
use wharfage::domain::invoice::{Invoice, InvoiceId};
use wharfage::domain::usage::{Day, Moved, Stored};
use wharfage::error::Fault;

use crate::add_credit::{open_account, spend_all};

/// More calls than any of this makes.
const FAR_TOO_MANY_CALLS: usize = 40;
/// Longer than a task is silent before it is taken up again.
const SILENCE_AND_MORE: SignedDuration = SignedDuration::from_mins(11);

/// What befalls a piece of work at one of its calls.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It ends there.
    Dies(Moment),
    /// It stands still there while other things happen, and then goes on.
    IsOvertaken,
}

const FATES: [Fate; 3] = [
    Fate::Dies(Moment::Before),
    Fate::Dies(Moment::After),
    Fate::IsOvertaken,
];

/// Does `work` on something new for each fate at each of its calls: there `meanwhile` happens, and afterwards the work is delivered
/// again. At last it is done by two at once. Returns how many calls it makes when nothing befalls it.
pub(crate) async fn at_every_call<S>(
    app: &TestApp,
    new: impl AsyncFn(usize) -> S,
    work: impl AsyncFn(&S) -> Result<(), Fault>,
    meanwhile: impl AsyncFn(&S),
    check: impl AsyncFn(&S, &str),
) -> usize {
    let mut subjects = 0..;
    let mut calls = usize::MAX;
    for fate in FATES {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS, "no end");
            let subject = new(subjects.next().unwrap_or_default()).await;
            let when = format!("{fate:?} at call {index}");
            let ended = match fate {
                Fate::Dies(moment) => app.tap.crash_at(index, moment, work(&subject)).await,
                Fate::IsOvertaken => {
                    let stalled = app.tap.stall_at(index, Moment::Before, work(&subject));
                    match stalled.await {
                        Ok(ended) => {
                            meanwhile(&subject).await;
                            Some(ended)
                        }
                        Err(stalled) => {
                            meanwhile(&subject).await;
                            if let Err(fault) = stalled.go_on().await {
                                assert!(fault.retryable, "{when}: {fault}");
                            }
                            None
                        }
                    }
                }
            };
            if matches!(fate, Fate::Dies(_)) {
                meanwhile(&subject).await;
            }
            let is_whole = ended.is_some();
            if let Some(Err(fault)) = ended {
                panic!("{when}: {fault}");
            }
            if let Err(fault) = work(&subject).await {
                panic!("{when}, delivered again: {fault}");
            }
            check(&subject, &when).await;
            if is_whole {
                calls = calls.min(index);
                break;
            }
        }
    }
    let subject = new(subjects.next().unwrap_or_default()).await;
    let (one, other) = futures::join!(work(&subject), work(&subject));
    for fault in [one, other].into_iter().filter_map(Result::err) {
        assert!(fault.retryable, "two at once: {fault}");
    }
    meanwhile(&subject).await;
    work(&subject).await.expect("it is done");
    check(&subject, "two at once").await;
    calls
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Moves the clock alone: no schedule runs.
pub(crate) fn wait_until(app: &TestApp, text: &str) {
    app.stack.clock().move_to(at(text)).expect("moved");
}

async fn start() -> TestApp {
    let app = TestApp::start_idle(&[("CreditLimit", "1000000")]).await;
    app.top_up("client", "for much", 10_000_000).await;
    app
}

pub(crate) async fn billing(app: &TestApp, work: &BillingWork) -> Result<(), Fault> {
    let body = serde_json::to_string(work).expect("a message");
    app.handle_directly("billing", &body).await
}

async fn paid_accounts(app: &TestApp, count: usize) -> Vec<TestAccount> {
    let mut accounts = Vec::new();
    for index in 0..count {
        accounts.push(app.order("client", &format!("bucket-{index}")).await);
    }
    accounts
}

/// Accounts whose first invoice is open, and its open side. Nothing can be paid from credit.
pub(crate) async fn unpaid_accounts(
    app: &TestApp,
    count: usize,
) -> Vec<(TestAccount, OpenInvoice)> {
    spend_all(app).await;
    let mut accounts = Vec::new();
    for index in 0..count {
        accounts.push(open_account(app, 2, &format!("bucket-{index}")).await);
    }
    let open = app.open_invoices("client").await;
    accounts
        .into_iter()
        .map(|account| {
            let open = open.iter().find(|open| open.s3uid == account.s3uid);
            (account, open.expect("an open invoice").clone())
        })
        .collect()
}

pub(crate) async fn stored(app: &TestApp, s3uid: &S3Uid) -> Account {
    let account = app.context().database.account(s3uid).await;
    account.expect("DynamoDB answers").expect("the account")
}

pub(crate) async fn invoices_of(app: &TestApp, s3uid: &S3Uid) -> Vec<Invoice> {
    let invoices = app.context().database.invoices(ClientId(1)).await;
    let mut invoices = invoices.expect("DynamoDB answers");
    invoices.retain(|invoice| invoice.s3uid == *s3uid);
    invoices
}

pub(crate) async fn history(app: &TestApp, s3uid: &S3Uid, action: &str) -> usize {
    let entity = Entity::Account(s3uid);
    let page = app.context().database.history(&entity, 100, 0, None).await;
    let entries = page.expect("DynamoDB answers").entries;
    entries
        .iter()
        .filter(|entry| entry.action == action)
        .count()
}

/// What is to be told and was not yet.
pub(crate) async fn outbox(app: &TestApp) -> Vec<Event> {
    let events = app.context().database.unsent_events(100_000).await;
    events.expect("DynamoDB answers")
}

pub(crate) fn told(events: &[Event], kind: Kind, s3uid: &S3Uid) -> usize {
    let events = events.iter().filter(|event| event.kind == kind);
    events.filter(|e| e.s3uid.as_ref() == Some(s3uid)).count()
}

/// Fails the test unless the cluster does what the account's record says.
pub(crate) async fn assert_cluster_agrees(app: &TestApp, s3uid: &S3Uid, when: &str) {
    let account = stored(app, s3uid).await;
    let path = format!("users/{s3uid}");
    let (status, user) = app.admin(&account.location, "GET", &path, None).await;
    let service = &account.service;
    if service.status() == Status::Terminated {
        assert_eq!(status, 404, "{when}: the user is still there");
        return;
    }
    assert_eq!(status, 200, "{when}: the user is gone");
    let is_stopped = service.suspension().is_some() || service.status() == Status::Terminating;
    assert_eq!(user["suspended"], is_stopped, "{when}: {service:?}");
    let is_suspended = service.status() == Status::Suspended;
    if !matches!(service.status(), Status::Cancelling | Status::Terminating) {
        assert_eq!(service.suspension().is_some(), is_suspended, "{when}");
    }
}

/// Fails the test unless the client's postings, balances, invoices, open invoices and events all say the same.
async fn assert_books_are_right(app: &TestApp, events: &[Event], when: &str) {
    app.assert_ledger_is_sound("client").await;
    let database = &app.context().database;
    let invoices = database.invoices(ClientId(1)).await.expect("invoices");
    let open = database
        .open_invoices(ClientId(1))
        .await
        .expect("open invoices");
    let balances = app.balances("client").await;

    let numbers: BTreeSet<String> = invoices.iter().map(|i| i.number.clone()).collect();
    let series = 1..=invoices.len();
    let series: BTreeSet<String> = series.map(|n| format!("1-EUR-{n:04}")).collect();
    assert_eq!(numbers, series, "{when}: a gap in the numbers");

    let invoiced: i64 = invoices.iter().map(|invoice| invoice.amount_minor).sum();
    assert_eq!(invoiced, balances.revenue_minor, "{when}: invoices");
    let owed: i64 = open.iter().map(OpenInvoice::open_minor).sum();
    assert_eq!(owed, -balances.receivable_minor, "{when}: open invoices");
    assert_eq!(balances.held_minor, 0, "{when}");
    assert!(balances.credit_minor >= 0, "{when}");

    let open: BTreeMap<InvoiceId, &OpenInvoice> = open.iter().map(|o| (o.invoice_id, o)).collect();
    let mut charged = BTreeSet::new();
    for invoice in &invoices {
        let id = invoice.invoice_id;
        let sum: i64 = invoice.lines.iter().map(|line| line.amount_minor).sum();
        assert_eq!(sum, invoice.amount_minor, "{when}");
        let is_open = open.contains_key(&id);
        assert_eq!(invoice.paid_at.is_none(), is_open, "{when}: {invoice:?}");
        for line in &invoice.lines {
            let component = std::mem::discriminant(&line.basis);
            let place = format!("{} {} {component:?}", invoice.s3uid, line.from);
            assert!(charged.insert(place), "{when}: charged twice: {line:?}");
        }
        let count = |kind: Kind| {
            let events = events.iter().filter(|event| event.kind == kind);
            events.filter(|e| e.detail["invoice_id"] == id.0).count()
        };
        assert_eq!(count(Kind::InvoiceIssued), 1, "{when}: {invoice:?}");
        let payments = usize::from(!is_open);
        assert_eq!(count(Kind::PaymentReceived), payments, "{when}");
    }
}

/// Storage and traffic above what plan 2 includes, from 20 January on: 118.23 with the price of the next month.
fn much_used() -> Day {
    Day {
        stored: vec![Stored {
            hour: 0,
            bytes: 6_000 * GB_BYTES,
        }],
        moved: vec![Moved {
            hour: 3,
            bytes_sent: 1_200 * GB_BYTES,
            bytes_received: 1,
            requests: 2,
        }],
    }
}

const CLOSING_MINOR: i64 = 323 + 10_000 + 1_500;

async fn use_much(app: &TestApp, account: &TestAccount) {
    app.context()
        .database
        .set_day(&account.s3uid, date(2026, 1, 20), &much_used())
        .await
        .expect("the day is set");
}

async fn a_period_is_closed_once(is_paid: bool) {
    let app = start().await;
    let accounts = paid_accounts(&app, 56).await;
    for account in &accounts {
        use_much(&app, account).await;
    }
    if !is_paid {
        spend_all(&app).await;
    }
    wait_until(&app, "2026-02-15T01:30:00Z");
    let close = async |account: &TestAccount| {
        let work = BillingWork::Close {
            s3uid: account.s3uid.clone(),
            commits_on: date(2026, 2, 15),
        };
        billing(&app, &work).await
    };
    let check = async |account: &TestAccount, when: &str| {
        let invoices = invoices_of(&app, &account.s3uid).await;
        assert_eq!(invoices.len(), 2, "{when}");
        let closing = &invoices[1];
        assert_eq!(closing.amount_minor, CLOSING_MINOR, "{when}: {closing:?}");
        assert_eq!(closing.lines.len(), 3, "{when}");
        assert_eq!(closing.paid_at.is_some(), is_paid, "{when}");
        let account = stored(&app, &account.s3uid).await;
        assert_eq!(account.commits_on, Some(date(2026, 3, 15)), "{when}");
        assert_eq!(account.service.next_commit_date, date(2026, 3, 15));
        let entries = history(&app, &account.s3uid, "period_closed").await;
        assert_eq!(entries, 1, "{when}");
        assert_books_are_right(&app, &outbox(&app).await, when).await;
    };
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        close,
        async |account| close(account).await.expect("it is closed"),
        check,
    )
    .await;
    assert!(calls >= 9, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn a_period_is_closed_and_paid_from_credit_once() {
    a_period_is_closed_once(true).await;
}

#[tokio::test]
async fn a_period_is_closed_and_left_open_once() {
    a_period_is_closed_once(false).await;
}

pub(crate) fn chase(open: &OpenInvoice) -> BillingWork {
    BillingWork::Chase {
        client_id: open.client_id,
        due_on: open.due_on,
        invoice_id: open.invoice_id,
    }
}

/// The days on which an invoice of 15 January is chased, and what is done then.
pub(crate) const CHASED: [(&str, Status); 5] = [
    ("2026-01-29T00:30:00Z", Status::Active),
    ("2026-02-01T00:30:00Z", Status::Active),
    ("2026-02-05T00:30:00Z", Status::Active),
    ("2026-02-12T00:30:00Z", Status::Suspended),
    ("2026-03-14T00:30:00Z", Status::Terminated),
];

/// Takes the first steps of chasing these invoices, each on its day.
pub(crate) async fn chase_all(
    app: &TestApp,
    accounts: &[(TestAccount, OpenInvoice)],
    steps: usize,
) {
    for (day, _) in &CHASED[..steps] {
        wait_until(app, day);
        for (_, open) in accounts {
            billing(app, &chase(open)).await.expect("it is chased");
        }
    }
}

async fn take_up_silent_tasks(app: &TestApp) {
    app.let_pass(SILENCE_AND_MORE);
    app.run_directly("resume_tasks").await.expect("it is run");
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(drained.failed, 0);
}

async fn a_step_of_chasing_is_taken_once(step: usize, accounts: usize) {
    let app = start().await;
    let accounts = unpaid_accounts(&app, accounts).await;
    chase_all(&app, &accounts, step).await;
    let (day, status) = CHASED[step];
    wait_until(&app, day);
    // The account goes by a step of its own.
    let is_last = step + 1 == CHASED.len();
    let work = async |(account, open): &(TestAccount, OpenInvoice)| match is_last {
        true => billing(&app, &end(account)).await,
        false => billing(&app, &chase(open)).await,
    };
    let steps = (step + 1).min(CHASED.len() - 1);
    let check = async |(account, open): &(TestAccount, OpenInvoice), when: &str| {
        let s3uid = &account.s3uid;
        if status == Status::Terminated {
            take_up_silent_tasks(&app).await;
        }
        let left = app
            .context()
            .database
            .open_invoice(ClientId(1), open.due_on, open.invoice_id);
        let left = left.await.expect("DynamoDB answers").expect("it is open");
        assert_eq!(left.steps as usize, steps, "{when}");
        let is_suspended = step >= 3;
        assert_eq!(left.act_on.is_none(), is_suspended, "{when}");
        let events = &outbox(&app).await;
        let reminders = told(events, Kind::InvoiceReminder, s3uid);
        assert_eq!(reminders, steps, "{when}");
        let entries = history(&app, s3uid, "invoice_reminder").await;
        assert_eq!(entries, steps, "{when}");
        let account = stored(&app, s3uid).await;
        assert_eq!(account.service.status(), status, "{when}");
        let suspended = told(events, Kind::AccountSuspended, s3uid);
        assert_eq!(suspended, usize::from(is_suspended), "{when}");
        let entries = history(&app, s3uid, "suspend_account").await;
        assert_eq!(entries, usize::from(is_suspended), "{when}");
        let terminated = told(events, Kind::AccountTerminated, s3uid);
        assert_eq!(terminated, usize::from(is_last), "{when}");
        assert_cluster_agrees(&app, s3uid, when).await;
        assert_books_are_right(&app, events, when).await;
    };
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        work,
        async |subject| work(subject).await.expect("it is chased"),
        check,
    )
    .await;
    assert!(calls >= 5, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn a_reminder_is_sent_once() {
    a_step_of_chasing_is_taken_once(0, 40).await;
}

#[tokio::test]
async fn an_unpaid_account_is_suspended_once() {
    a_step_of_chasing_is_taken_once(3, 76).await;
}

#[tokio::test]
async fn an_unpaid_account_is_terminated_once() {
    a_step_of_chasing_is_taken_once(4, 48).await;
}

async fn top_up_for_one(app: &TestApp, account: &TestAccount) {
    app.top_up("client", account.s3uid.as_str(), 1_500).await;
}

async fn settle(app: &TestApp) -> Result<(), Fault> {
    billing(
        app,
        &BillingWork::Settle {
            client_id: ClientId(1),
        },
    )
    .await
}

async fn assert_paid_and_in_use(app: &TestApp, account: &TestAccount, when: &str) -> Vec<Event> {
    let s3uid = &account.s3uid;
    let invoices = invoices_of(app, s3uid).await;
    assert_eq!(invoices.len(), 1, "{when}");
    assert!(invoices[0].paid_at.is_some(), "{when}: it is not paid");
    let service = stored(app, s3uid).await.service;
    let state = (service.status(), service.suspension());
    assert_eq!(state, (Status::Active, None), "{when}");
    assert_cluster_agrees(app, s3uid, when).await;
    assert_eq!(app.balances("client").await.credit_minor, 0, "{when}");
    let events = outbox(app).await;
    assert_books_are_right(app, &events, when).await;
    events
}

#[tokio::test]
async fn a_payment_lifts_a_suspension_once() {
    let app = start().await;
    let accounts = unpaid_accounts(&app, 96).await;
    chase_all(&app, &accounts, 4).await;
    let new = async |index: usize| {
        let (account, _) = accounts[index].clone();
        top_up_for_one(&app, &account).await;
        account
    };
    let check = async |account: &TestAccount, when: &str| {
        take_up_silent_tasks(&app).await;
        let events = assert_paid_and_in_use(&app, account, when).await;
        let entries = history(&app, &account.s3uid, "resume_account").await;
        assert_eq!(entries, 1, "{when}");
        let resumed = told(&events, Kind::AccountResumed, &account.s3uid);
        assert_eq!(resumed, 1, "{when}");
    };
    let calls = at_every_call(
        &app,
        new,
        async |_| settle(&app).await,
        async |_| settle(&app).await.expect("it is settled"),
        check,
    )
    .await;
    assert!(calls >= 7, "{calls} calls are too few to have been all");
    let (last, _) = accounts.last().expect("accounts");
    let last = stored(&app, &last.s3uid).await;
    assert_eq!(last.service.suspension(), Some(Suspension::Unpaid));
}

#[tokio::test]
async fn an_account_that_is_paid_for_while_it_is_being_suspended_is_in_use() {
    let app = start().await;
    let accounts = unpaid_accounts(&app, 76).await;
    chase_all(&app, &accounts, 3).await;
    wait_until(&app, CHASED[3].0);
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        async |(_, open)| billing(&app, &chase(open)).await,
        async |(account, _)| {
            top_up_for_one(&app, account).await;
            settle(&app).await.expect("it is settled");
        },
        async |(account, _), when| {
            assert_paid_and_in_use(&app, account, when).await;
        },
    )
    .await;
    assert!(calls >= 8, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn an_account_that_is_paid_for_before_its_termination_is_not_terminated() {
    let app = start().await;
    let accounts = unpaid_accounts(&app, 48).await;
    chase_all(&app, &accounts, 4).await;
    wait_until(&app, CHASED[4].0);
    let database = &app.context().database;
    let goes = std::cell::Cell::new(false);
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        async |(account, _)| billing(&app, &end(account)).await,
        async |(account, _)| {
            let task_id = format!("remove_account:{}", account.s3uid);
            let task = database.task(&task_id).await.expect("DynamoDB answers");
            goes.set(task.is_some());
            top_up_for_one(&app, account).await;
            settle(&app).await.expect("it is settled");
        },
        async |(account, _), when| {
            take_up_silent_tasks(&app).await;
            if !goes.get() {
                assert_paid_and_in_use(&app, account, when).await;
                return;
            }
            let service = stored(&app, &account.s3uid).await.service;
            assert_eq!(service.status(), Status::Terminated, "{when}");
            assert_cluster_agrees(&app, &account.s3uid, when).await;
            assert_books_are_right(&app, &outbox(&app).await, when).await;
        },
    )
    .await;
    assert!(calls >= 6, "{calls} calls are too few to have been all");
}

fn suspend_request(app: &TestApp, account: &TestAccount) -> Value {
    json!({ "s3uid": account.s3uid, "id": app.client_id("client") })
}

/// An action's answer where another copy of it may have been quicker.
pub(crate) fn done_or_refused(reply: Reply) -> Result<(), Fault> {
    match reply.status {
        200 | 409 => Ok(()),
        _ => Err(Fault::permanent(
            "calling an action",
            reply.body.to_string(),
        )),
    }
}

async fn act(app: &TestApp, action: &str, account: &TestAccount) -> Result<(), Fault> {
    let parameters = suspend_request(app, account);
    done_or_refused(app.call_directly("admin", action, parameters).await)
}

#[tokio::test]
async fn what_an_administrator_stops_is_stopped_once_and_resumed_once() {
    let app = start().await;
    let accounts = paid_accounts(&app, 33).await;
    for (action, kind, is_stopped) in [
        ("suspend_account", Kind::AccountSuspended, true),
        ("resume_account", Kind::AccountResumed, false),
    ] {
        let calls = at_every_call(
            &app,
            async |index: usize| accounts[index].clone(),
            async |account| act(&app, action, account).await,
            async |account| act(&app, action, account).await.expect("it is done"),
            async |account, when| {
                let when = &format!("{action}: {when}");
                let service = stored(&app, &account.s3uid).await.service;
                assert_eq!(service.suspension().is_some(), is_stopped, "{when}");
                assert_cluster_agrees(&app, &account.s3uid, when).await;
                let entries = history(&app, &account.s3uid, action).await;
                assert_eq!(entries, 1, "{when}");
                let events = outbox(&app).await;
                assert_eq!(told(&events, kind, &account.s3uid), 1, "{when}");
            },
        )
        .await;
        assert!(calls >= 6, "{calls} calls are too few to have been all");
        for account in accounts.iter().filter(|_| is_stopped) {
            act(&app, action, account).await.expect("it is done");
        }
    }
}

#[tokio::test]
async fn a_payment_does_not_lift_the_suspension_of_an_administrator_who_comes_in_between() {
    let app = start().await;
    let accounts = unpaid_accounts(&app, 72).await;
    chase_all(&app, &accounts, 4).await;
    let mut app = app;
    app.log_in().await;
    let app = app;
    let calls = at_every_call(
        &app,
        async |index| {
            let (account, _) = accounts[index].clone();
            top_up_for_one(&app, &account).await;
            account
        },
        async |_| settle(&app).await,
        async |account| {
            act(&app, "suspend_account", account)
                .await
                .expect("it is done");
        },
        async |account, when| {
            let service = stored(&app, &account.s3uid).await.service;
            assert_eq!(
                service.suspension(),
                Some(Suspension::Administrator),
                "{when}"
            );
            assert_cluster_agrees(&app, &account.s3uid, when).await;
            assert_books_are_right(&app, &outbox(&app).await, when).await;
        },
    )
    .await;
    assert!(calls >= 7, "{calls} calls are too few to have been all");
}

pub(crate) async fn cancelled_accounts(app: &TestApp, count: usize) -> Vec<TestAccount> {
    let accounts = paid_accounts(app, count).await;
    for account in &accounts {
        let parameters = json!({ "s3uid": account.s3uid });
        app.call("client", "delete_payment_account", parameters)
            .await
            .ok();
    }
    accounts
}

pub(crate) fn end(account: &TestAccount) -> BillingWork {
    BillingWork::End {
        s3uid: account.s3uid.clone(),
    }
}

#[tokio::test]
async fn a_cancelled_account_ends_once_and_is_purged_once() {
    let app = start().await;
    let accounts = cancelled_accounts(&app, 24).await;
    let work = async |account: &TestAccount| billing(&app, &end(account)).await;
    let again = async |account: &TestAccount| work(account).await.expect("it is done");
    // Before its day nothing happens.
    wait_until(&app, "2026-02-14T23:59:59Z");
    again(&accounts[0]).await;
    let early = stored(&app, &accounts[0].s3uid).await.service.status();
    assert_eq!(early, Status::Cancelling);

    wait_until(&app, "2026-02-15T00:30:00Z");
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        work,
        again,
        async |account, when| {
            let s3uid = &account.s3uid;
            let service = stored(&app, s3uid).await.service;
            assert_eq!(service.status(), Status::Terminating, "{when}");
            assert_eq!(
                service.due().map(|(on, _)| on),
                Some(date(2026, 3, 17)),
                "{when}"
            );
            assert_cluster_agrees(&app, s3uid, when).await;
            assert_eq!(history(&app, s3uid, "service_ended").await, 1, "{when}");
            let events = outbox(&app).await;
            let changes = told(&events, Kind::AccountChanged, s3uid);
            assert_eq!(changes, 2, "{when}: cancelled, and ended");
        },
    )
    .await;
    assert!(calls >= 3, "{calls} calls are too few to have been all");
    for account in &accounts {
        again(account).await;
    }

    wait_until(&app, "2026-03-17T00:30:00Z");
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        work,
        again,
        async |account, when| {
            take_up_silent_tasks(&app).await;
            let s3uid = &account.s3uid;
            let account = stored(&app, s3uid).await;
            assert_eq!(account.service.status(), Status::Terminated, "{when}");
            let item = app.account_item(s3uid).await;
            assert_eq!(item.get("ending"), None, "{when}");
            assert_cluster_agrees(&app, s3uid, when).await;
            let events = outbox(&app).await;
            assert_eq!(told(&events, Kind::AccountTerminated, s3uid), 1, "{when}");
            assert_eq!(history(&app, s3uid, "account_terminated").await, 1);
            assert_books_are_right(&app, &events, when).await;
        },
    )
    .await;
    assert!(calls >= 3, "{calls} calls are too few to have been all");
    let gone = accounts.len() - app.client("client").await.accounts as usize;
    assert_eq!(gone, 3 * calls + 4);
}

#[tokio::test]
async fn keys_stay_stopped_though_an_administrator_resumes_an_account_while_it_ends() {
    let mut app = start().await;
    let accounts = cancelled_accounts(&app, 36).await;
    for account in &accounts {
        act(&app, "suspend_account", account)
            .await
            .expect("it is done");
    }
    wait_until(&app, "2026-02-15T00:30:00Z");
    app.log_in().await;
    let ended = async |account: &TestAccount, when: &str| {
        let service = stored(&app, &account.s3uid).await.service;
        assert_eq!(service.status(), Status::Terminating, "{when}");
        assert_cluster_agrees(&app, &account.s3uid, when).await;
    };
    at_every_call(
        &app,
        async |index: usize| accounts[index].clone(),
        async |account| billing(&app, &end(account)).await,
        async |account| act(&app, "resume_account", account).await.expect("done"),
        ended,
    )
    .await;
    let mut rest = accounts.iter();
    for account in rest.by_ref() {
        if stored(&app, &account.s3uid).await.service.status() == Status::Cancelling {
            break;
        }
    }
    let rest: Vec<TestAccount> = rest.cloned().collect();
    for index in 0.. {
        let Some(account) = rest.get(index) else {
            panic!("too few accounts");
        };
        let resume = act(&app, "resume_account", account);
        let stalled = match app.tap.stall_at(index, Moment::Before, resume).await {
            Ok(_) => break,
            Err(stalled) => stalled,
        };
        billing(&app, &end(account)).await.expect("it ends");
        stalled.go_on().await.expect("done or refused");
        ended(account, &format!("resuming stood still at call {index}")).await;
    }
}

#[tokio::test]
async fn an_end_that_has_come_cannot_be_undone() {
    let mut app = start().await;
    let accounts = cancelled_accounts(&app, 1).await;
    let account = &accounts[0];
    wait_until(&app, "2026-02-15T00:25:00Z");
    app.log_in().await;
    // The last period is closed before the job comes that ends the account.
    let close = BillingWork::Close {
        s3uid: account.s3uid.clone(),
        commits_on: date(2026, 2, 15),
    };
    billing(&app, &close).await.expect("it is closed");
    let undo = "cancel_payment_account_deletion";
    let reply = app
        .call("client", undo, json!({ "s3uid": account.s3uid }))
        .await;
    let wanted = format!("s3/{undo}: S3 account is being deleted");
    assert_eq!(reply.refused(409), wanted);
    billing(&app, &end(account)).await.expect("it ends");
    let service = stored(&app, &account.s3uid).await.service;
    assert_eq!(service.status(), Status::Terminating);
}

#[tokio::test]
async fn credit_is_added_once_and_pays_what_is_open() {
    let app = start().await;
    let accounts = unpaid_accounts(&app, 48).await;
    let client_id = app.client_id("client");
    let calls = at_every_call(
        &app,
        async |index: usize| accounts[index].0.clone(),
        async |account| {
            let parameters =
                json!({ "id": client_id, "amount": "15.00", "reference": account.s3uid });
            done_or_refused(app.call_directly("admin", "add_credit", parameters).await)
        },
        async |_| {},
        async |account, when| {
            let drained = app.stack.drain().await.expect("the queues empty");
            assert_eq!(drained.failed, 0, "{when}");
            let events = assert_paid_and_in_use(&app, account, when).await;
            let events = events
                .iter()
                .filter(|event| event.kind == Kind::CreditAdded);
            let events = events.filter(|event| event.detail["reference"] == account.s3uid.as_str());
            assert_eq!(events.count(), 1, "{when}");
            let entity = Entity::Client(client_id);
            let page = app.context().database.history(&entity, 1_000, 0, None);
            let entries = page.await.expect("DynamoDB answers").entries;
            let entries = entries.iter().filter(|e| e.action == "add_credit");
            let entries = entries.filter(|e| e.details["reference"] == account.s3uid.as_str());
            assert_eq!(entries.count(), 1, "{when}");
        },
    )
    .await;
    assert!(calls >= 5, "{calls} calls are too few to have been all");
}

async fn recount(app: &TestApp) -> Result<(), Fault> {
    billing(app, &BillingWork::Recount { from: 1, to: 3 }).await
}

#[tokio::test]
async fn a_wrong_balance_is_told_of_once_a_day() {
    let app = start().await;
    app.falsify_credit("client", 1).await;
    let calls = at_every_call(
        &app,
        async |_| {
            app.let_pass(SignedDuration::from_hours(24));
            outbox(&app).await.len()
        },
        async |_| recount(&app).await,
        async |_| recount(&app).await.expect("it is recounted"),
        async |before, when| {
            let events = outbox(&app).await;
            assert_eq!(events.len(), before + 1, "{when}");
            let last = events.last().expect("an event");
            assert_eq!(last.kind, Kind::LedgerDifference, "{when}");
            let credit = |of: &str| last.detail[of]["credit_minor"].as_i64().expect("credit");
            assert_eq!(credit("stored"), credit("counted") + 1, "{when}");
            // Found again on the same day, also after it was sent, it is old news.
            let sent = app.context().database.mark_event_sent(last).await;
            sent.expect("noted");
            recount(&app).await.expect("it is recounted");
            assert_eq!(outbox(&app).await.len(), *before, "{when}");
        },
    )
    .await;
    assert!(calls >= 9, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn balances_that_change_while_they_are_recounted_are_right() {
    let app = start().await;
    let top_ups = std::cell::Cell::new(0);
    let calls = at_every_call(
        &app,
        async |_| {},
        async |()| recount(&app).await,
        async |()| {
            top_ups.set(top_ups.get() + 1);
            app.top_up("client", &format!("meanwhile {}", top_ups.get()), 1)
                .await;
        },
        async |(), when| {
            let events = outbox(&app).await;
            assert!(events.is_empty(), "{when}: {events:?}");
        },
    )
    .await;
    assert!(calls >= 6, "{calls} calls are too few to have been all");
}

/// Accounts ordered or cancelled one a day, so that something is due for one a day later on.
async fn one_a_day(app: &mut TestApp, count: usize, action: &str) -> Vec<TestAccount> {
    let mut accounts = Vec::new();
    for index in 0..count {
        if index > 0 {
            app.let_pass(SignedDuration::from_hours(24));
            app.log_in().await;
        }
        let parameters = json!({ "plan_id": 2, "bucket_name": format!("bucket-{index}") });
        let body = app.call("client", action, parameters).await.ok();
        accounts.push(TestAccount {
            s3uid: S3Uid(body["s3uid"].as_str().expect("a text").to_owned()),
            id: body["id"].as_u64().expect("a number"),
            location: "NL".into(),
            bucket_name: format!("bucket-{index}"),
        });
    }
    accounts
}

/// Runs a job for each fate at each of its calls, on one day after another from `first` on, for the account that something is due for on
/// that day.
async fn a_job_finds_everything(
    app: &TestApp,
    job: &str,
    first: &str,
    accounts: &[TestAccount],
    check: impl AsyncFn(&TestAccount, &str),
) -> usize {
    let first = at(first);
    let run = async |_: &TestAccount| app.run_directly(job).await.map(|_| ());
    at_every_call(
        app,
        async |index: usize| {
            let day = first + SignedDuration::from_hours(24 * index as i64);
            app.stack.clock().move_to(day).expect("moved");
            for location in ["NL", "DE"] {
                app.collected_until_now(location).await;
            }
            accounts[index].clone()
        },
        run,
        async |account| run(account).await.expect("it is run"),
        async |account, when| {
            let drained = app.stack.drain().await.expect("the queues empty");
            assert_eq!(drained.failed, 0, "{when}");
            check(account, when).await;
            assert_books_are_right(app, &outbox(app).await, when).await;
        },
    )
    .await
}

#[tokio::test]
async fn no_period_is_forgotten_however_the_job_dies() {
    let mut app = start().await;
    let accounts = one_a_day(&mut app, 28, "create_order").await;
    let calls = a_job_finds_everything(
        &app,
        "close_periods",
        "2026-02-15T01:25:00Z",
        &accounts,
        async |account, when| {
            let invoices = invoices_of(&app, &account.s3uid).await;
            assert_eq!(invoices.len(), 2, "{when}");
            let account = stored(&app, &account.s3uid).await;
            let next = account.service.next_commit_date;
            assert_eq!(next.month(), invoices[1].lines[0].to.month(), "{when}");
            assert_eq!(account.commits_on, Some(next), "{when}");
        },
    )
    .await;
    assert!(calls >= 6, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn no_open_invoice_is_forgotten_however_the_job_dies() {
    let mut app = start().await;
    spend_all(&app).await;
    let accounts = one_a_day(&mut app, 11, "create_account").await;
    let calls = a_job_finds_everything(
        &app,
        "chase_invoices",
        "2026-01-29T00:30:00Z",
        &accounts,
        async |account, when| {
            let events = outbox(&app).await;
            let reminders = told(&events, Kind::InvoiceReminder, &account.s3uid);
            assert_eq!(reminders, 1, "{when}");
        },
    )
    .await;
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn no_end_is_forgotten_however_the_job_dies() {
    let mut app = start().await;
    let accounts = one_a_day(&mut app, 11, "create_order").await;
    for account in &accounts {
        let parameters = json!({ "s3uid": account.s3uid });
        app.call("client", "delete_payment_account", parameters)
            .await
            .ok();
    }
    let calls = a_job_finds_everything(
        &app,
        "end_services",
        "2026-02-15T00:30:00Z",
        &accounts,
        async |account, when| {
            let service = stored(&app, &account.s3uid).await.service;
            assert_eq!(service.status(), Status::Terminating, "{when}");
            assert_cluster_agrees(&app, &account.s3uid, when).await;
        },
    )
    .await;
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn no_client_is_left_out_of_the_recount_however_the_job_dies() {
    let app = start().await;
    app.falsify_credit("client2", -7).await;
    let run = async |_: &usize| app.run_directly("recount_ledger").await.map(|_| ());
    let calls = at_every_call(
        &app,
        async |_| {
            app.let_pass(SignedDuration::from_hours(24));
            outbox(&app).await.len()
        },
        run,
        async |before| run(before).await.expect("it is run"),
        async |before, when| {
            app.stack.drain().await.expect("the queues empty");
            assert_eq!(outbox(&app).await.len(), before + 1, "{when}");
        },
    )
    .await;
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn every_event_is_sent_and_keeps_its_id() {
    let app = start().await;
    let run = async |_: &Vec<String>| app.run_directly("publish_events").await.map(|_| ());
    let calls = at_every_call(
        &app,
        async |index: usize| {
            for number in 0..3 {
                let reference = format!("payment {index} {number}");
                let parameters = json!({ "id": 1, "amount": 1, "reference": reference });
                app.call("admin", "add_credit", parameters).await.ok();
            }
            let events = outbox(&app).await;
            events.into_iter().map(|event| event.event_id).collect()
        },
        run,
        async |ids| run(ids).await.expect("it is run"),
        async |ids: &Vec<String>, when| {
            assert_eq!(ids.len(), 3, "{when}");
            assert!(outbox(&app).await.is_empty(), "{when}");
            let sent = app.stack.events();
            for id in ids {
                let sent: Vec<&Value> = sent
                    .iter()
                    .filter(|event| event["detail"]["event_id"] == **id)
                    .collect();
                assert!(!sent.is_empty(), "{when}: {id} was not sent");
                assert!(sent.iter().all(|event| *event == sent[0]), "{when}");
            }
        },
    )
    .await;
    assert!(calls >= 6, "{calls} calls are too few to have been all");
}

#[tokio::test]
async fn what_the_next_period_used_already_stays_in_its_figures() {
    let app = start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    wait_until(&app, "2026-02-15T00:10:00Z");
    app.put(&s3, "my-bucket", "a", 700).await;
    let object = s3.get_object().bucket("my-bucket").key("a").send().await;
    object
        .expect("an object")
        .body
        .collect()
        .await
        .expect("its bytes");
    wait_until(&app, "2026-02-15T01:05:00Z");
    app.stack.run_job("collect_usage").await.expect("it is run");
    app.stack.drain().await.expect("the queues empty");
    let figures = async || {
        let account = stored(&app, &account.s3uid).await;
        let (sent, peak) = (account.period_bytes_sent, account.period_peak_stored_bytes);
        (account.period_from, sent, peak)
    };
    let before = figures().await;
    assert_eq!(before, (date(2026, 2, 15), 700, 700));
    let close = BillingWork::Close {
        s3uid: account.s3uid.clone(),
        commits_on: date(2026, 2, 15),
    };
    billing(&app, &close).await.expect("it is closed");
    assert_eq!(invoices_of(&app, &account.s3uid).await.len(), 2);
    assert_eq!(figures().await, before);
}
