//! The functions as processes of their own: started, kept, timed out and refused as Lambda does; and killed with SIGKILL in the
//! middle of every kind of work: nothing is lost, and nothing is done twice.

use std::process::Command;

use functions::FUNCTIONS;
use jiff::civil::date;
use jiff::{SignedDuration, ToSpan};
use lambda_http::Body;
use local::{Data, Options, Stack};
use serde_json::{Value, json};
use tests::proxy::Proxy;
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
use wharfage::database::OpenInvoice;
use wharfage::domain::account::{S3Uid, Status, Suspension};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::ledger::Balances;

use crate::billing_crashes::{
    CHASED, assert_cluster_agrees, cancelled_accounts, chase, chase_all, end, history, stored,
    unpaid_accounts, wait_until,
};

/// More calls than any of this makes.
const FAR_TOO_MANY_CALLS: usize = 60;
const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

/// Does `work` with the function's process killed at one call; `false` when the work made fewer calls.
async fn killed_at(
    app: &TestApp,
    proxy: &Proxy,
    function: &str,
    index: usize,
    moment: Moment,
    work: impl Future<Output = ()>,
) -> bool {
    proxy.stop_at(index, moment);
    let kill = async {
        proxy.stopped().await;
        let pids = app.stack.busy_processes(function);
        assert!(!pids.is_empty(), "{function} is not at work");
        for pid in pids {
            let pid = pid.to_string();
            let killed = Command::new("kill").args(["-KILL", &pid]).status();
            assert!(killed.expect("kill runs").success());
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = work => {}
        () = kill => {}
    }
    !proxy.let_pass()
}

/// The process ids of a function's instances that wait for their next request, in order.
fn kept(app: &TestApp, function: &str) -> Vec<u32> {
    let mut pids = app.stack.idle_processes(function);
    pids.sort_unstable();
    pids
}

/// How the binary ends that is started with these arguments and this environment alone, and what it prints.
fn by_hand(arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(tests::binary())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("it runs");
    assert_eq!(output.stdout, b"");
    let printed = String::from_utf8(output.stderr).expect("text");
    (output.status.success(), printed)
}

#[test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
fn a_binary_that_is_not_told_which_function_it_is_names_them_all() {
    let names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    let names = names.join(", ");
    let nobody = "neither an argument nor _HANDLER names a function";
    let told = format!("{nobody}; the functions are {names}\n");
    assert_eq!(by_hand(&[], &[]), (false, told));
    let told = format!("there is no function \"list_plan\"; the functions are {names}\n");
    assert_eq!(by_hand(&["list_plan"], &[]), (false, told.clone()));
    let from_lambda = [("_HANDLER", "list_plan")];
    assert_eq!(by_hand(&[], &from_lambda), (false, told));
    // An argument comes first. That one is there, and misses its environment.
    let told = "environment variable STACK_NAME is not set\n";
    let ended = by_hand(&["list_plans"], &from_lambda);
    assert_eq!(ended, (false, told.into()));
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_process_has_one_request_at_a_time_and_is_kept_for_the_next() {
    const FUNCTION: &str = "get_available_locations";
    let app = TestApp::with(&[])
        .processes(&Proxy::default())
        .start()
        .await;
    let ask = async || {
        app.call("client", FUNCTION, json!({})).await.ok();
    };
    // Three logged in, one after the other.
    assert_eq!(kept(&app, "auth_php").len(), 1);
    assert!(kept(&app, FUNCTION).is_empty());
    tokio::join!(ask(), ask());
    let two = kept(&app, FUNCTION);
    assert_eq!(two.len(), 2);
    for _ in 0..4 {
        ask().await;
        assert_eq!(kept(&app, FUNCTION), two);
    }
    tokio::join!(ask(), ask(), ask());
    let three = kept(&app, FUNCTION);
    assert_eq!(three.len(), 3);
    assert!(
        two.iter().all(|pid| three.contains(pid)),
        "{two:?} {three:?}"
    );
    assert!(app.stack.busy_processes(FUNCTION).is_empty());
}

fn runs(pid: u32) -> bool {
    let asked = Command::new("kill").args(["-0", &pid.to_string()]).output();
    asked.expect("kill runs").status.success()
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_process_that_takes_too_long_is_killed_and_the_next_request_has_a_new_one() {
    let mut template = include_str!("../../infra/template.yaml").to_owned();
    for (from, to) in [
        (
            "Handler: list_plans\n",
            "Handler: list_plans\n      Timeout: 5\n",
        ),
        (
            // Of those that feed themselves, only the clean-up takes so long.
            "Timeout: 60\n      # It sends to a queue that starts it.",
            "Timeout: 5\n      # It sends to a queue that starts it.",
        ),
        (
            "Path: /s3/get_available_locations\n            Method: ANY\n            TimeoutInMillis: 30000\n",
            "Path: /s3/get_available_locations\n            Method: ANY\n            TimeoutInMillis: 3000\n",
        ),
    ] {
        assert!(template.contains(from), "{from}");
        template = template.replace(from, to);
    }
    let proxy = Proxy::default();
    let app = TestApp::with(&[])
        .processes(&proxy)
        .template(template.leak())
        .start()
        .await;

    let ask = || app.call("client", "list_plans", json!({}));
    ask().await.ok();
    let warm = kept(&app, "list_plans");
    proxy.stop_at(0, Moment::Before);
    let reply = ask().await;
    assert!(!proxy.let_pass());
    assert_eq!(reply.status, 500);
    assert_eq!(reply.body, json!({ "message": "Internal Server Error" }));
    assert!(warm.iter().all(|pid| !runs(*pid)), "{warm:?}");
    assert!(kept(&app, "list_plans").is_empty());
    ask().await.ok();
    let new = kept(&app, "list_plans");
    assert!(new.len() == 1 && new != warm, "{new:?} {warm:?}");

    // A route that waits for less ends the waiting, and not the function.
    let ask = || app.call("client", "get_available_locations", json!({}));
    ask().await.ok();
    let warm = kept(&app, "get_available_locations");
    proxy.stop_at(0, Moment::Before);
    let reply = ask().await;
    assert!(!proxy.let_pass());
    assert_eq!(reply.status, 503);
    assert_eq!(app.stack.busy_processes("get_available_locations"), warm);

    // A message is in the queue again.
    let account = filled(&app, "slowly-cleaned").await;
    let s3uid = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_account", s3uid).await.ok();
    proxy.stop_at(0, Moment::After);
    let drained = app.stack.drain().await.expect("drained");
    assert!(!proxy.let_pass());
    assert_eq!(drained.failed, 1, "{drained:?}");
    assert_eq!(kept(&app, "cleanup").len(), 1);
    let account = app.context().database.account(&account.s3uid).await;
    let service = account.expect("an answer").expect("the account").service;
    assert_eq!(service.status(), Status::Terminated);
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn what_keeps_a_process_from_starting_is_told_without_a_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = "a-secret-of-the-role";
    let stack = Stack::start(Options {
        data: Data::Dir(directory.path().to_owned()),
        processes: Some(tests::binary()),
        adjust_environment: Some(Box::new(|environment| {
            environment.insert("AWS_SECRET_ACCESS_KEY".into(), secret.into());
            environment.remove("USAGE_BUCKET");
        })),
        ..Options::default()
    });
    let stack = stack.await.expect("the stack itself starts");
    let told = "did not start: Runtime.ConfigInvalid: environment variable USAGE_BUCKET is not set";
    // Each time anew.
    for _ in 0..2 {
        let error = stack.run_job("resume_tasks").await.expect_err("refused");
        assert_eq!(error.to_string(), format!("resume_tasks: {told}"));
        assert!(stack.idle_processes("resume_tasks").is_empty());
    }
    let request = tests::form_request("/s3/get_available_locations", &json!({}));
    let response = stack.invoke_http(request).await;
    assert_eq!(response.status(), 500);
    let body = Body::Text(json!({ "message": "Internal Server Error" }).to_string());
    assert_eq!(response.body(), &body);
    let log = directory.path().join("logs/resume_tasks.log");
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(
        log.contains("USAGE_BUCKET") && !log.contains(secret),
        "{log}"
    );
}

/// The lines of a function's log.
fn lines(app: &TestApp, function: &str) -> Vec<Value> {
    let log = app.stack.log(function);
    assert!(!log.is_empty(), "{function} logged nothing");
    let read = |line| {
        serde_json::from_str(line).unwrap_or_else(|_| panic!("{function}: not JSON: {line}"))
    };
    log.lines().map(read).collect()
}

/// What the spans around a line say, the innermost first.
fn said<'a>(line: &'a Value, field: &str) -> Option<&'a Value> {
    let spans = line["spans"].as_array()?;
    spans.iter().rev().find_map(|span| span.get(field))
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn log_lines_say_what_they_belong_to_and_no_secret() {
    let parameters = [("LogLevel", "debug"), ("BucketListWaitMs", "0")];
    let app = TestApp::with(&parameters)
        .processes(&Proxy::default())
        .start()
        .await;
    let account = app.order("client", "logged").await;
    let s3uid = json!({ "s3uid": account.s3uid });
    let mut key = s3uid.clone();
    key["s3_key"] = "secret_key".into();
    let key = app.call("client", "show_key", key).await.ok();
    let list = app.call("client", "get_buckets", s3uid.clone()).await;
    drain(&app).await;
    let list = app.check(list.body["callback"].as_str().expect("a key"));
    list.await.ok();
    let rotated = app.call("client", "rotate_key", s3uid.clone()).await.ok();
    let client_id = app.client_id("client");
    let whose = json!({ "id": client_id });
    let api_key = app.call("admin", "create_api_key", whose).await.ok();
    app.let_pass(SignedDuration::from_hours(1));
    app.stack.run_job("collect_usage").await.expect("asked");
    let work = [BillingWork::Close {
        s3uid: account.s3uid.clone(),
        commits_on: date(2026, 2, 15),
    }];
    app.context().queue.send_billing(&work).await.expect("sent");
    app.call("client", "delete_account", s3uid).await.ok();
    drain(&app).await;

    // What an action has its worker do is a part of its trace, and of an invocation with an id.
    let traces: Vec<Value> = lines(&app, "delete_account")
        .into_iter()
        .filter_map(|line| line.get("TraceId").cloned())
        .collect();
    assert_eq!(traces.len(), 1, "{traces:?}");
    for (function, expected) in [
        (
            "cleanup",
            json!({ "trace_id": traces[0], "s3uid": account.s3uid }),
        ),
        (
            "usage_shards",
            json!({ "location": "NL", "hour": "2026-01-15T10:00:00Z", "shard": 0 }),
        ),
        (
            "billing",
            json!({ "client_id": client_id, "s3uid": account.s3uid }),
        ),
        ("collect_usage", json!({ "function": "collect_usage" })),
    ] {
        let lines = lines(&app, function);
        let belong = |line: &&Value| {
            let expected = expected.as_object().expect("fields");
            expected
                .iter()
                .all(|(field, value)| said(line, field) == Some(value))
        };
        assert!(lines.iter().any(|line| belong(&line)), "{function}");
        let mut of_invocations = lines.iter().filter(|line| said(line, "function").is_some());
        assert!(
            of_invocations.all(|line| said(line, "request_id").is_some_and(Value::is_string)),
            "{function}"
        );
    }

    let mut secrets: Vec<&str> = ["admin", "client", "client2"]
        .into_iter()
        .flat_map(|who| [app.token(who), app.stack.seeded().api_key(who)])
        .collect();
    for cluster in app.stack.clusters().values() {
        secrets.push(&cluster.admin_token);
    }
    for (shown, field) in [
        (&key, "secret_key"),
        (&rotated, "secret_key"),
        (&api_key, "api_key"),
    ] {
        secrets.push(shown[field].as_str().expect("a key"));
    }
    for function in functions::FUNCTIONS {
        let log = app.stack.log(function.name);
        for secret in &secrets {
            // Not the text, which would stand in this test's own output.
            assert!(!log.contains(secret), "{} logged a secret", function.name);
        }
    }
}

async fn start(proxy: &Proxy) -> TestApp {
    let parameters = [
        ("FreeAccountsPerClient", "100000"),
        ("AccountsPerClient", "100000"),
        ("CreditLimit", "100000"),
        ("CleanupStepEntries", "4"),
    ];
    let app = TestApp::with(&parameters).processes(proxy).start().await;
    app.top_up("client", "for many orders", 100_000_000).await;
    app
}

/// How many invoices the client has.
async fn invoices(app: &TestApp) -> usize {
    let invoices = app.context().database.invoices(app.client_id("client"));
    invoices.await.expect("DynamoDB answers").len()
}

async fn drain(app: &TestApp) {
    app.stack.drain().await.expect("drained");
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn an_order_is_made_once_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    let mut kills = 0;
    'calls: for index in 0..FAR_TOO_MANY_CALLS {
        for moment in MOMENTS {
            let bucket_name = format!("killed-{index}-{}", kills);
            let before = app.balances("client").await;
            let users = app.cluster_users("NL").await.len();
            let parameters = json!({
                "plan_id": 2, "bucket_name": bucket_name, "idempotency_key": bucket_name,
            });
            let order = async {
                app.call("client", "create_order", parameters.clone()).await;
            };
            let was_killed = killed_at(&app, &proxy, "create_order", index, moment, order).await;
            app.let_pass(SignedDuration::from_secs(61));
            app.stack.run_job("resume_orders").await.expect("resumed");
            // Whoever got no answer asks again, and has one account, bought once.
            let again = app.call("client", "create_order", parameters).await.ok();
            assert_eq!(again["bucket_name"], bucket_name.as_str());
            let after = app.balances("client").await;
            assert_eq!(
                before.credit_minor - after.credit_minor,
                1_500,
                "{index} {moment:?}"
            );
            assert_eq!(after.invoices, before.invoices + 1, "{index} {moment:?}");
            assert_eq!(
                app.cluster_users("NL").await.len(),
                users + 1,
                "{index} {moment:?}"
            );
            if !was_killed {
                break 'calls;
            }
            kills += 1;
        }
    }
    app.assert_ledger_is_sound("client").await;
    assert!(kills > 15, "{}", kills);
}

async fn filled(app: &TestApp, bucket_name: &str) -> TestAccount {
    let account = app.order("client", bucket_name).await;
    let s3 = app.s3("client", &account).await;
    for key in 0..6 {
        app.put(&s3, bucket_name, &format!("file {key}"), 10).await;
    }
    account
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_clean_up_ends_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    let mut kills = 0;
    'calls: for index in 0..FAR_TOO_MANY_CALLS {
        for moment in MOMENTS {
            let account = filled(&app, &format!("cleaned-{kills}")).await;
            let s3uid = json!({ "s3uid": account.s3uid });
            app.call("client", "delete_account", s3uid).await.ok();
            let work = drain(&app);
            let was_killed = killed_at(&app, &proxy, "cleanup", index, moment, work).await;
            // What a killed process was to send on is found by the job.
            app.let_pass(SignedDuration::from_mins(11));
            app.stack.run_job("resume_tasks").await.expect("resumed");
            drain(&app).await;
            let kept = app.context().database.account(&account.s3uid).await;
            let status = kept
                .expect("an answer")
                .expect("the account")
                .service
                .status();
            assert_eq!(status, Status::Terminated, "{index} {moment:?}");
            assert_eq!(app.cluster_buckets("NL", &account.s3uid).await, None);
            if !was_killed {
                break 'calls;
            }
            kills += 1;
        }
    }
    assert!(kills > 10, "{kills}");
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn an_hour_is_metered_once_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    let account = app.order("client", "metered").await;
    let s3 = app.s3("client", &account).await;
    let (mut kills, mut hours) = (0, 0);
    'calls: for index in 0..FAR_TOO_MANY_CALLS {
        for moment in MOMENTS {
            app.put(&s3, "metered", &format!("file {hours}"), 100).await;
            hours += 1;
            app.let_pass(SignedDuration::from_hours(1));
            app.stack.run_job("collect_usage").await.expect("asked");
            let work = drain(&app);
            let was_killed = killed_at(&app, &proxy, "usage_shards", index, moment, work).await;
            app.stack
                .run_job("collect_usage")
                .await
                .expect("asked again");
            drain(&app).await;
            let (received, stored) = metered(&app, &account).await;
            assert_eq!(
                (received, stored),
                (100 * hours, 100 * hours),
                "{index} {moment:?}"
            );
            if !was_killed {
                break 'calls;
            }
            kills += 1;
        }
    }
    assert!(kills > 10, "{kills}");
}

/// Bytes received in all, and bytes stored now, as the days say.
async fn metered(app: &TestApp, account: &TestAccount) -> (u64, u64) {
    let database = &app.context().database;
    let days = database
        .days(&account.s3uid, date(2026, 1, 15), date(2026, 2, 15))
        .await
        .expect("days");
    let received = days.values().flat_map(|day| &day.moved);
    let stored = days
        .values()
        .filter_map(|day| day.stored.last())
        .next_back();
    (
        received.map(|moved| moved.bytes_received).sum(),
        stored.map_or(0, |stored| stored.bytes),
    )
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_period_is_closed_once_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    let mut accounts = Vec::new();
    for number in 0..FAR_TOO_MANY_CALLS / 2 {
        accounts.push(app.order("client", &format!("closed-{number}")).await);
    }
    app.let_pass(SignedDuration::from_hours(24 * 31));
    let mut kills = 0;
    let mut is_over = false;
    for account in &accounts {
        let before = app.balances("client").await;
        let work = [BillingWork::Close {
            s3uid: account.s3uid.clone(),
            commits_on: date(2026, 2, 15),
        }];
        app.context().queue.send_billing(&work).await.expect("sent");
        let (index, moment) = (kills / 2, MOMENTS[kills % 2]);
        let was_killed = killed_at(&app, &proxy, "billing", index, moment, drain(&app)).await;
        drain(&app).await;
        let after = app.balances("client").await;
        assert_eq!(
            before.credit_minor - after.credit_minor,
            1_500,
            "{index} {moment:?}"
        );
        assert_eq!(after.invoices, before.invoices + 1, "{index} {moment:?}");
        let kept = app.context().database.account(&account.s3uid).await;
        let service = kept.expect("an answer").expect("the account").service;
        assert_eq!(service.next_commit_date, date(2026, 3, 15));
        if !was_killed {
            is_over = true;
            break;
        }
        kills += 1;
    }
    assert!(is_over && kills > 10, "{kills}");
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_payment_counts_once_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let mut app = start(&proxy).await;
    let all = app.balances("client").await.credit_minor;
    app.top_up("client", "spent elsewhere", -all).await;
    let mut left = 80;
    for number in 0..left {
        let bucket_name = format!("owed-{number}");
        let parameters = json!({ "plan_id": 2, "bucket_name": bucket_name });
        app.call("client", "create_account", parameters).await.ok();
    }
    // Due after 14 days, suspended 14 days later; three reminders come before.
    app.let_pass(SignedDuration::from_hours(24 * 30));
    app.log_in().await;
    for _ in 0..4 {
        app.stack.run_job("chase_invoices").await.expect("chased");
        drain(&app).await;
    }
    assert_eq!(suspended(&app).await, left);
    let mut kills = 0;
    // The action, and the worker that pays what is open with the new credit.
    for function in ["add_credit", "billing"] {
        'calls: for index in 0..FAR_TOO_MANY_CALLS {
            for moment in MOMENTS {
                let when = format!("{function} {index} {moment:?}");
                let parameters = json!({
                    "id": app.client_id("client"), "amount": "15.00", "reference": when,
                });
                let pay = app.call("admin", "add_credit", parameters.clone());
                let was_killed = if function == "add_credit" {
                    killed_at(&app, &proxy, function, index, moment, discard(pay)).await
                } else {
                    pay.await.ok();
                    killed_at(&app, &proxy, function, index, moment, drain(&app)).await
                };
                // Whoever got no answer tells of the same payment again.
                app.call("admin", "add_credit", parameters.clone())
                    .await
                    .ok();
                drain(&app).await;
                if was_killed && function == "billing" {
                    // The cluster may still have to be told that the keys work.
                    app.let_pass(SignedDuration::from_mins(4));
                    app.log_in().await;
                    app.stack.run_job("resume_tasks").await.expect("a run");
                    drain(&app).await;
                }
                left -= 1;
                assert_eq!(app.balances("client").await.credit_minor, 0, "{when}");
                assert_eq!(suspended(&app).await, left, "{when}");
                if !was_killed {
                    break 'calls;
                }
                kills += 1;
            }
        }
    }
    assert!(kills > 10, "{kills}");
    app.assert_ledger_is_sound("client").await;
}

/// Has a function's process killed at each of its calls in turn, in the middle of something new each time, and the work done again. How
/// often it was killed.
async fn killed_at_every_call<S>(
    app: &TestApp,
    proxy: &Proxy,
    function: &str,
    new: impl AsyncFn(usize) -> S,
    work: impl AsyncFn(),
    check: impl AsyncFn(&S, &str),
) -> usize {
    let mut kills = 0;
    for index in 0..FAR_TOO_MANY_CALLS {
        for moment in MOMENTS {
            let subject = new(kills).await;
            let was_killed = killed_at(app, proxy, function, index, moment, work()).await;
            work().await;
            check(&subject, &format!("{function} {index} {moment:?}")).await;
            if !was_killed {
                return kills;
            }
            kills += 1;
        }
    }
    panic!("{function} makes calls without end");
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn an_unpaid_account_is_suspended_once_wherever_its_process_is_killed() {
    const REMINDERS: usize = 3;
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    let accounts = unpaid_accounts(&app, 64).await;
    chase_all(&app, &accounts, REMINDERS).await;
    wait_until(&app, CHASED[REMINDERS].0);
    let new = async |index: usize| {
        let (account, open) = &accounts[index];
        let work = [chase(open)];
        app.context().queue.send_billing(&work).await.expect("sent");
        (account, open)
    };
    let check = async |(account, open): &(&TestAccount, &OpenInvoice), when: &str| {
        let s3uid = &account.s3uid;
        let service = stored(&app, s3uid).await.service;
        assert_eq!(service.suspension(), Some(Suspension::Unpaid), "{when}");
        assert_cluster_agrees(&app, s3uid, when).await;
        assert_eq!(history(&app, s3uid, "suspend_account").await, 1, "{when}");
        let database = &app.context().database;
        let left = database.open_invoice(open.client_id, open.due_on, open.invoice_id);
        let left = left.await.expect("an answer").expect("it is open");
        assert_eq!(left.steps as usize, REMINDERS + 1, "{when}");
    };
    let work = async || drain(&app).await;
    let kills = killed_at_every_call(&app, &proxy, "billing", new, work, check).await;
    assert!(kills > 10, "{kills}");
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_cancelled_account_ends_once_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    let accounts = cancelled_accounts(&app, 24).await;
    wait_until(&app, "2026-02-15T00:30:00Z");
    let new = async |index: usize| {
        let work = [end(&accounts[index])];
        app.context().queue.send_billing(&work).await.expect("sent");
        &accounts[index].s3uid
    };
    let check = async |s3uid: &&S3Uid, when: &str| {
        let service = stored(&app, s3uid).await.service;
        assert_eq!(service.status(), Status::Terminating, "{when}");
        assert_cluster_agrees(&app, s3uid, when).await;
        assert_eq!(history(&app, s3uid, "service_ended").await, 1, "{when}");
    };
    let work = async || drain(&app).await;
    let kills = killed_at_every_call(&app, &proxy, "billing", new, work, check).await;
    assert!(kills > 6, "{kills}");
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn a_bucket_list_is_told_wherever_its_process_is_killed() {
    let proxy = Proxy::default();
    let app = TestApp::with(&[("BucketListWaitMs", "0")])
        .processes(&proxy)
        .start()
        .await;
    let account = app.order("client", "listed").await;
    let new = async |_| {
        let parameters = json!({ "s3uid": account.s3uid });
        let reply = app.call("client", "get_buckets", parameters).await;
        assert_eq!(reply.status, 202);
        reply.body["callback"].as_str().expect("a key").to_owned()
    };
    let check = async |callback: &String, when: &str| {
        let list = app.check(callback).await.ok();
        assert_eq!(list["scope"]["message"][0]["name"], "listed", "{when}");
    };
    let work = async || drain(&app).await;
    let kills = killed_at_every_call(&app, &proxy, "storage_tasks", new, work, check).await;
    assert!(kills > 10, "{kills}");
}

#[tokio::test]
#[ignore = "runs functions as processes: cargo test -p tests --test it -- --ignored processes::"]
async fn every_period_is_closed_once_wherever_the_job_s_process_is_killed() {
    let proxy = Proxy::default();
    let app = start(&proxy).await;
    for bucket_name in ["one", "two"] {
        app.order("client", bucket_name).await;
    }
    let run = async || app.stack.run_job("close_periods").await;
    let new = async |index: usize| {
        let months = i64::try_from(index).expect("few") + 1;
        let commits_on = date(2026, 1, 15).saturating_add(months.months());
        let day_before = commits_on.saturating_sub(1.day());
        // So that no run has a month's days to look at.
        wait_until(&app, &format!("{day_before}T12:00:00Z"));
        run().await.expect("a run");
        wait_until(&app, &format!("{commits_on}T00:30:00Z"));
        app.collected_until_now("NL").await;
        (app.balances("client").await, invoices(&app).await)
    };
    let check = async |(before, count): &(Balances, usize), when: &str| {
        drain(&app).await;
        let after = app.balances("client").await;
        assert_eq!(invoices(&app).await, count + 2, "{when}");
        assert_eq!(
            before.credit_minor - after.credit_minor,
            2 * 1_500,
            "{when}"
        );
    };
    let work = async || {
        // A run that is killed fails.
        let _ = run().await;
    };
    let kills = killed_at_every_call(&app, &proxy, "close_periods", new, work, check).await;
    assert!(kills > 6, "{kills}");
    app.assert_ledger_is_sound("client").await;
}

async fn discard(reply: impl Future<Output = tests::Reply>) {
    reply.await;
}

/// How many of the client's accounts are suspended, here and at the cluster.
async fn suspended(app: &TestApp) -> usize {
    let database = &app.context().database;
    let accounts = database.client_accounts(app.client_id("client")).await;
    let mut suspended = 0;
    for account in accounts.expect("accounts") {
        let user = format!("users/{}", account.s3uid);
        let (_, user) = app.admin(&account.location, "GET", &user, None).await;
        let is_suspended = account.service.suspension() == Some(Suspension::Unpaid);
        assert_eq!(user["suspended"], is_suspended, "{user}");
        suspended += usize::from(is_suspended);
    }
    suspended
}
