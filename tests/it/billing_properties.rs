//! However the messages of the billing queue arrive, and whoever dies or comes twice on the way, the invoices, the balances and the
//! accounts are in the end those of a run in which each came once and in order.

use std::cell::Cell;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::date;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use tests::tap::Moment;
use tests::usage::SetDay;
use tests::{TestAccount, TestApp, property};
use wharfage::domain::account::{S3Uid, Service};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::ledger::Balances;
use wharfage::domain::usage::{Day, Stored};

use crate::billing_crashes::assert_cluster_agrees;

/// When something is due: the first invoices, the commit dates, and days of the dunning calendar.
const INSTANTS: [&str; 6] = [
    "2026-02-02T01:00:00Z",
    "2026-02-15T01:00:00Z",
    "2026-03-03T01:00:00Z",
    "2026-03-15T01:00:00Z",
    "2026-03-31T01:00:00Z",
    "2026-04-14T01:00:00Z",
];
/// Of the plan that the accounts are on.
const QUOTA_GB: u64 = 5_000;

#[derive(Debug, Clone)]
struct Ordered {
    /// Paid from credit at once, or with an open invoice.
    is_paid: bool,
    is_cancelled: bool,
    overage_gb: u64,
}

/// What becomes of a message.
#[derive(Debug, Clone)]
enum Fate {
    Handled,
    ByTwoAtOnce,
    Dies(usize, bool),
}

#[derive(Debug, Clone)]
struct Case {
    accounts: Vec<Ordered>,
    /// Credit that comes in at each instant, in minor units.
    top_ups_minor: Vec<i64>,
    /// Which of the messages that there could be come at each instant; some never do.
    arrivals: Vec<Vec<(Index, Fate)>>,
}

fn cases() -> impl Strategy<Value = Case> {
    let ordered = (any::<bool>(), prop::bool::weighted(0.25), 0u64..4).prop_map(
        |(is_paid, is_cancelled, k)| Ordered {
            is_paid,
            is_cancelled,
            overage_gb: k * 137,
        },
    );
    let fate = prop_oneof![
        2 => Just(Fate::Handled),
        1 => Just(Fate::ByTwoAtOnce),
        3 => (0usize..20, any::<bool>()).prop_map(|(index, is_after)| Fate::Dies(index, is_after)),
    ];
    let arrivals = prop::collection::vec((any::<Index>(), fate), 0..10);
    (
        prop::collection::vec(ordered, 2..4),
        prop::collection::vec(0i64..2_500, INSTANTS.len()),
        prop::collection::vec(arrivals, INSTANTS.len()),
    )
        .prop_map(|(accounts, top_ups_minor, arrivals)| Case {
            accounts,
            top_ups_minor,
            arrivals,
        })
}

async fn start(case: &Case) -> (TestApp, Vec<TestAccount>) {
    let never = [("TerminationDays", "3650"), ("RetentionDays", "3650")];
    let app = TestApp::start_idle(&never).await;
    let mut accounts = Vec::new();
    for (number, ordered) in case.accounts.iter().enumerate() {
        let action = match ordered.is_paid {
            true => "create_order",
            false => "create_account",
        };
        let order = json!({ "plan_id": 2, "bucket_name": format!("bucket-{number}") });
        let made = app.call("client", action, order).await.ok();
        let s3uid = S3Uid(made["s3uid"].as_str().expect("a text").to_owned());
        app.leave_out_of_collection(&s3uid).await;
        let day = Day {
            stored: vec![Stored {
                hour: 0,
                bytes: (QUOTA_GB + ordered.overage_gb) * GB_BYTES,
            }],
            moved: vec![],
        };
        let set = app
            .context()
            .database
            .set_day(&s3uid, date(2026, 1, 15), &day);
        set.await.expect("written");
        if ordered.is_cancelled {
            let own = json!({ "s3uid": s3uid });
            let cancel = app.call("client", "delete_payment_account", own);
            cancel.await.ok();
        }
        accounts.push(TestAccount {
            s3uid,
            id: made["id"].as_u64().expect("a number"),
            location: "NL".into(),
            bucket_name: format!("bucket-{number}"),
        });
    }
    // Not much is left, so that it matters who is paid first.
    let left = app.balances("client").await.credit_minor;
    app.top_up("client", "spent", 1_000 - left).await;
    (app, accounts)
}

async fn wait_until(app: &TestApp, text: &str) {
    let then: Timestamp = text.parse().expect("a time");
    app.stack.clock().move_to(then).expect("moved");
    app.collected_until_now("NL").await;
}

async fn handle(app: &TestApp, work: &BillingWork) -> Result<(), wharfage::error::Fault> {
    let body = serde_json::to_string(work).expect("a message");
    app.handle_directly("billing", &body).await
}

/// What is due is done, each piece once and in order.
async fn run_jobs(app: &TestApp) {
    // A period can be closed once the one before it is.
    for _ in 0..4 {
        for job in ["close_periods", "end_services", "chase_invoices"] {
            app.run_directly(job).await.expect("it is run");
            let drained = app.stack.drain().await.expect("the queues empty");
            assert_eq!(drained.failed, 0);
        }
    }
}

/// Every message that could be in the queue by now.
async fn messages(app: &TestApp, accounts: &[TestAccount]) -> Vec<BillingWork> {
    let client_id = app.client_id("client");
    let mut messages = vec![
        BillingWork::Settle { client_id },
        BillingWork::Recount {
            from: client_id.0,
            to: client_id.0,
        },
        BillingWork::Regroup { client_id },
    ];
    for account in accounts {
        for commits_on in [date(2026, 2, 15), date(2026, 3, 15)] {
            messages.push(BillingWork::Close {
                s3uid: account.s3uid.clone(),
                commits_on,
            });
        }
        messages.push(BillingWork::End {
            s3uid: account.s3uid.clone(),
        });
    }
    let invoices = app.context().database.invoices(client_id).await;
    for invoice in invoices.expect("invoices") {
        messages.push(BillingWork::Chase {
            client_id,
            due_on: invoice.due_on,
            invoice_id: invoice.invoice_id,
        });
    }
    messages
}

/// A message whose time has not come is not in the queue.
fn is_due(app: &TestApp, work: &BillingWork) -> bool {
    match work {
        BillingWork::Close { commits_on, .. } => {
            wharfage::domain::period::start_of(*commits_on) <= app.now()
        }
        _ => true,
    }
}

async fn arrive(app: &TestApp, work: &BillingWork, fate: &Fate) {
    let told = match fate {
        Fate::Handled => vec![handle(app, work).await],
        Fate::ByTwoAtOnce => {
            let (one, other) = futures::join!(handle(app, work), handle(app, work));
            vec![one, other]
        }
        Fate::Dies(index, is_after) => {
            let moment = if *is_after {
                Moment::After
            } else {
                Moment::Before
            };
            let ended = app.tap.crash_at(*index, moment, handle(app, work)).await;
            ended.into_iter().collect()
        }
    };
    for fault in told.into_iter().filter_map(Result::err) {
        assert!(fault.retryable, "{work:?}: {fault}");
    }
}

/// What it has come to, whoever was paid first.
#[derive(Debug, PartialEq)]
struct End {
    balances: Balances,
    /// Of each account, the invoices in their order, with their lines.
    invoices: BTreeMap<usize, Vec<Vec<(String, i64)>>>,
    services: Vec<Service>,
}

async fn end(app: &TestApp, accounts: &[TestAccount]) -> End {
    run_jobs(app).await;
    app.top_up("client", "for all", 10_000_000).await;
    let client_id = app.client_id("client");
    let settle = BillingWork::Settle { client_id };
    handle(app, &settle).await.expect("all is paid");
    app.assert_ledger_is_sound("client").await;
    let database = &app.context().database;
    let open = database.open_invoices(client_id).await;
    assert!(open.expect("invoices").is_empty());
    let all = database.invoices(client_id).await.expect("invoices");
    let invoiced: i64 = all.iter().map(|invoice| invoice.amount_minor).sum();
    let balances = app.balances("client").await;
    assert_eq!(balances.revenue_minor, invoiced);
    let mut invoices: BTreeMap<usize, Vec<Vec<(String, i64)>>> = BTreeMap::new();
    for invoice in all {
        let mut numbers = accounts.iter();
        let number = numbers.position(|account| account.s3uid == invoice.s3uid);
        let lines = invoice.lines.iter().map(|line| {
            let text = format!("{} {}..{}", line.text, line.from, line.to);
            (text, line.amount_minor)
        });
        let own = invoices.entry(number.expect("an account")).or_default();
        own.push(lines.collect());
    }
    let mut services = Vec::new();
    for account in accounts {
        let stored = database.account(&account.s3uid).await;
        let stored = stored.expect("an answer").expect("the account");
        assert_cluster_agrees(app, &account.s3uid, "in the end").await;
        services.push(stored.service);
    }
    End {
        balances,
        invoices,
        services,
    }
}

async fn run(case: &Case) -> usize {
    let (orderly, own) = start(case).await;
    let (troubled, others) = start(case).await;
    for (number, text) in INSTANTS.iter().enumerate() {
        for app in [&orderly, &troubled] {
            wait_until(app, text).await;
            let cause = format!("top-up {number}");
            app.top_up("client", &cause, case.top_ups_minor[number])
                .await;
        }
        run_jobs(&orderly).await;
        for (index, fate) in &case.arrivals[number] {
            let mut messages = messages(&troubled, &others).await;
            messages.retain(|work| is_due(&troubled, work));
            let work = &messages[index.index(messages.len())];
            arrive(&troubled, work, fate).await;
        }
    }
    let expected = end(&orderly, &own).await;
    assert_eq!(end(&troubled, &others).await, expected);
    expected.invoices.values().map(Vec::len).sum()
}

#[test]
fn invoices_and_balances_do_not_depend_on_how_the_messages_arrive() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let invoices = Cell::new(0);
    property::holds(b"wharfage: how the messages come1", 8, &cases(), |case| {
        invoices.set(invoices.get() + runtime.block_on(run(&case)));
    });
    assert!(invoices.get() > 30, "hardly anything was invoiced");
}
