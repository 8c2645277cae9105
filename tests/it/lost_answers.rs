//! What a record says and what a cluster does agree in the end, whichever of the cluster's answers are lost, and however late it does what
//! it was asked for.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tests::tap::Loss;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{Account, S3Uid, Status, Suspension};
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::ClientId;

use crate::add_credit::{open_account, spend_all};
use crate::billing_crashes::{chase_all, end, wait_until};

/// More changes than any of this asks a cluster for.
const FAR_TOO_MANY_CHANGES: usize = 60;
/// Longer than anything that was asked of a cluster can still take effect.
const ALL_IS_QUIET: SignedDuration = SignedDuration::from_secs(181);
/// Longer than a clean-up may be silent.
const SILENCE_AND_MORE: SignedDuration = SignedDuration::from_mins(11);

/// Answers are lost: one, and what is asked for again is answered; or all from one on. The cluster has done what it was asked for, or does
/// it when the caller has long given up.
const LOSSES: [Loss; 4] = [
    loss(1, false),
    loss(usize::MAX, false),
    loss(1, true),
    loss(usize::MAX, true),
];

const fn loss(count: usize, is_late: bool) -> Loss {
    Loss {
        from: 0,
        count,
        is_late,
    }
}

async fn start() -> TestApp {
    let many = "100000";
    let app = TestApp::start_idle(&[
        ("FreeAccountsPerClient", many),
        ("AccountsPerClient", many),
        ("CreditLimit", many),
    ])
    .await;
    app.top_up("client", "for many orders", 100_000_000).await;
    app
}

/// Time passes, and the jobs run that bring everything to an end.
async fn bring_to_an_end(app: &TestApp) {
    let far_off = app.now() + SignedDuration::from_hours(24);
    let tasks = app.context().database.silent_tasks(far_off, 1).await;
    let span = match tasks.expect("tasks").is_empty() {
        true => ALL_IS_QUIET,
        false => SILENCE_AND_MORE,
    };
    for _ in 0..2 {
        app.let_pass(span);
        for job in ["resume_orders", "resume_tasks"] {
            app.run_directly(job).await.expect("the job succeeds");
        }
        app.stack.drain().await.expect("the queues empty");
    }
}

async fn stored(app: &TestApp, s3uid: &S3Uid) -> Option<Account> {
    let account = app.context().database.account(s3uid).await;
    account.expect("DynamoDB answers")
}

/// Fails the test unless the clusters have the users, buckets, keys and limits that the records say.
async fn assert_agrees(app: &TestApp, when: &str) {
    let database = &app.context().database;
    let mut users = BTreeSet::new();
    for who in ["client", "client2"] {
        let listed = database.client_accounts(app.client_id(who)).await;
        for listed in listed.expect("accounts") {
            let account = stored(app, &listed.s3uid).await.expect("the account");
            assert_agrees_on(app, &account, when).await;
            users.insert(account.s3uid.to_string());
        }
    }
    let found = app.cluster_users("NL").await;
    assert_eq!(found, users, "{when}: users without accounts, or none");
}

async fn assert_agrees_on(app: &TestApp, account: &Account, when: &str) {
    let s3uid = &account.s3uid;
    assert_eq!(account.unsettled, None, "{when}: {s3uid} is still marked");
    let (status, user) = app
        .admin(&account.location, "GET", &format!("users/{s3uid}"), None)
        .await;
    assert_eq!(status, 200, "{when}: the user of {s3uid} is gone");
    let is_stopped = account.are_keys_stopped();
    assert_eq!(user["suspended"], is_stopped, "{when}: {account:?}");
    let keys: BTreeSet<&str> = std::iter::once(account.access_key.as_str())
        .chain(
            account
                .next_key
                .as_ref()
                .map(|next| next.access_key.as_str()),
        )
        .collect();
    let found = user["access_keys"].as_array().expect("keys").iter();
    let found: BTreeSet<&str> = found.filter_map(Value::as_str).collect();
    assert_eq!(found, keys, "{when}: {account:?}");
    let plan = app
        .context()
        .database
        .plan_version(account.plan_id, account.plan_version)
        .await;
    let plan = plan.expect("DynamoDB answers").expect("the plan");
    let limit = json!(plan.storage_limit_bytes());
    assert_eq!(user["quota_bytes"], limit, "{when}: {account:?}");
    let names = app.context().database.account_buckets(s3uid).await;
    let names: BTreeSet<String> = names
        .expect("names")
        .into_iter()
        .map(|row| String::from(row.bucket_name))
        .collect();
    let buckets = app.cluster_buckets(&account.location, s3uid).await;
    assert_eq!(buckets, Some(names), "{when}: {s3uid}");
    // The present key opens what it should.
    let secret = app
        .context()
        .vault
        .decrypt(s3uid, &account.secret_key_ciphertext)
        .await
        .expect("the key can be read");
    let s3 = app.s3_with(
        &account.location,
        &account.access_key,
        secret.expose_secret(),
    );
    let works = s3.list_buckets().send().await.is_ok();
    assert_eq!(works, !is_stopped, "{when}: {account:?}");
}

/// Does `work` on something new for each of the changes that it asks a cluster for, and for each way in which its answer is lost; then
/// `afterwards` happens, and only then what was still to take effect does. In the end records and clusters agree, and `check` holds.
async fn whichever_answer_is_lost<S>(
    app: &TestApp,
    new: impl AsyncFn(usize) -> S,
    work: impl AsyncFn(&S),
    afterwards: impl AsyncFn(&S),
    check: impl AsyncFn(&S, &str),
) {
    let mut subjects = 0..;
    for loss in LOSSES {
        for from in 0.. {
            assert!(from < FAR_TOO_MANY_CHANGES, "no end");
            let loss = Loss { from, ..loss };
            let subject = new(subjects.next().unwrap_or_default()).await;
            let when = format!("{loss:?}");
            let ((), was_lost, late) = app.tap.losing(loss, work(&subject)).await;
            afterwards(&subject).await;
            app.tap.make_late(late).await;
            bring_to_an_end(app).await;
            check(&subject, &when).await;
            if !was_lost {
                assert!(from > 0, "no change was asked for");
                break;
            }
        }
    }
    assert_agrees(app, "in the end").await;
}

async fn nothing<S>(_: &S) {}

fn by_admin(app: &TestApp, account: &TestAccount) -> Value {
    json!({ "s3uid": account.s3uid, "id": app.client_id("client") })
}

/// Calls an action whose answer may be that the storage cannot answer, and nothing worse.
async fn call(app: &TestApp, who: &str, action: &str, parameters: Value) {
    let reply = app.call_directly(who, action, parameters).await;
    assert!(
        [200, 503].contains(&reply.status),
        "{action}: {:#}",
        reply.body
    );
    assert_eq!(reply.retry_after.is_some(), reply.status == 503, "{action}");
}

async fn handle(app: &TestApp, work: &BillingWork) {
    let body = serde_json::to_string(work).expect("a message");
    if let Err(fault) = app.handle_directly("billing", &body).await {
        assert!(fault.retryable, "{fault}");
    }
}

/// Fails the test unless the account's keys are stopped as its record says, for this reason.
async fn assert_is(app: &TestApp, account: &TestAccount, wanted: Option<Suspension>, when: &str) {
    let account = stored(app, &account.s3uid).await.expect("the account");
    assert_eq!(account.service.suspension(), wanted, "{when}");
    assert_agrees_on(app, &account, when).await;
}

#[tokio::test]
async fn of_suspending_and_resuming() {
    let app = start().await;
    let stopped = Some(Suspension::Administrator);
    for (first, then, in_the_end) in [
        ("suspend_account", None, stopped),
        ("suspend_account", Some("resume_account"), None),
        ("suspend_account", Some("suspend_account"), stopped),
        ("resume_account", None, None),
        ("resume_account", Some("suspend_account"), stopped),
    ] {
        whichever_answer_is_lost(
            &app,
            async |number: usize| {
                let name = format!("{first}-{}-{number}", then.unwrap_or("none"));
                let account = app.order("client", &name.replace('_', "-")).await;
                if first == "resume_account" {
                    let parameters = by_admin(&app, &account);
                    app.call("admin", "suspend_account", parameters).await.ok();
                }
                account
            },
            async |account| call(&app, "admin", first, by_admin(&app, account)).await,
            async |account| {
                if let Some(then) = then {
                    call(&app, "admin", then, by_admin(&app, account)).await;
                }
            },
            async |account, when| {
                let when = format!("{first}, {then:?}: {when}");
                assert_is(&app, account, in_the_end, &when).await;
            },
        )
        .await;
    }
}

#[tokio::test]
async fn of_rotating_keys() {
    let app = start().await;
    for confirm in [0, 1] {
        whichever_answer_is_lost(
            &app,
            async |number: usize| {
                let account = app
                    .order("client", &format!("keys-{confirm}-{number}"))
                    .await;
                if confirm == 1 {
                    let begin = json!({ "s3uid": account.s3uid });
                    app.call("client", "rotate_key", begin).await.ok();
                }
                account
            },
            async |account| {
                let parameters = json!({ "s3uid": account.s3uid, "confirm": confirm });
                call(&app, "client", "rotate_key", parameters).await;
            },
            // Each is asked for again, and answered as the first time.
            async |account| {
                let parameters = json!({ "s3uid": account.s3uid, "confirm": confirm });
                app.call("client", "rotate_key", parameters).await.ok();
            },
            async |account, when| {
                let kept = stored(&app, &account.s3uid).await.expect("the account");
                assert_eq!(kept.next_key.is_some(), confirm == 0, "{when}");
                assert_agrees_on(&app, &kept, when).await;
            },
        )
        .await;
    }
}

#[tokio::test]
async fn of_a_change_of_plan() {
    let app = start().await;
    let large = json!({
        "name": "Large S3", "quota": 6000, "storage_limit": 7000, "monthly_eur": 31,
        "traffic_overage_price_eur": "0.4", "storage_overage_price_eur": "0.2",
    });
    let body = app.call("admin", "create_plan", large).await.ok();
    let plan_id = body["plan"]["id"].clone();
    whichever_answer_is_lost(
        &app,
        async |number: usize| app.order("client", &format!("plan-{number}")).await,
        async |account| {
            let mut parameters = by_admin(&app, account);
            parameters["plan_id"] = plan_id.clone();
            parameters["when"] = "now".into();
            call(&app, "admin", "change_plan", parameters).await;
        },
        nothing,
        async |account, when| {
            let kept = stored(&app, &account.s3uid).await.expect("the account");
            assert_eq!(json!(kept.plan_id), plan_id, "{when}");
            assert_agrees_on(&app, &kept, when).await;
        },
    )
    .await;
}

#[tokio::test]
async fn of_a_plan_that_comes_with_the_next_period() {
    let app = start().await;
    let large = json!({
        "name": "Large S3", "quota": 6000, "storage_limit": 7000, "monthly_eur": 31,
        "traffic_overage_price_eur": "0.4", "storage_overage_price_eur": "0.2",
    });
    let body = app.call("admin", "create_plan", large).await.ok();
    let plan_id = body["plan"]["id"].clone();
    let mut accounts = Vec::new();
    for number in 0..16 {
        let account = app.order("client", &format!("next-{number}")).await;
        let mut parameters = by_admin(&app, &account);
        parameters["plan_id"] = plan_id.clone();
        app.call("admin", "change_plan", parameters).await.ok();
        accounts.push(account);
    }
    wait_until(&app, "2026-02-15T00:30:00Z");
    whichever_answer_is_lost(
        &app,
        async |number: usize| accounts[number].clone(),
        async |account| {
            let close = BillingWork::Close {
                s3uid: account.s3uid.clone(),
                commits_on: jiff::civil::date(2026, 2, 15),
            };
            handle(&app, &close).await;
        },
        nothing,
        async |account, when| {
            let kept = stored(&app, &account.s3uid).await.expect("the account");
            assert_eq!(json!(kept.plan_id), plan_id, "{when}");
            assert_agrees_on(&app, &kept, when).await;
        },
    )
    .await;
}

#[tokio::test]
async fn of_the_end_of_a_service() {
    let app = start().await;
    let mut accounts = Vec::new();
    for number in 0..16 {
        let account = app.order("client", &format!("ending-{number}")).await;
        let own = json!({ "s3uid": account.s3uid });
        app.call("client", "delete_payment_account", own).await.ok();
        accounts.push(account);
    }
    wait_until(&app, "2026-02-15T00:30:00Z");
    whichever_answer_is_lost(
        &app,
        async |number: usize| accounts[number].clone(),
        async |account| handle(&app, &end(account)).await,
        nothing,
        async |account, when| {
            let kept = stored(&app, &account.s3uid).await.expect("the account");
            assert_eq!(kept.service.status(), Status::Terminating, "{when}");
            assert_agrees_on(&app, &kept, when).await;
        },
    )
    .await;
}

#[tokio::test]
async fn of_suspending_for_want_of_payment_and_of_the_payment() {
    let app = start().await;
    spend_all(&app).await;
    let mut accounts = Vec::new();
    for number in 0..32 {
        accounts.push(open_account(&app, 2, &format!("unpaid-{number}")).await);
    }
    let open = app.open_invoices("client").await;
    let of = |account: &TestAccount| {
        let open = open.iter().find(|open| open.s3uid == account.s3uid);
        (account.clone(), open.expect("an open invoice").clone())
    };
    let accounts: Vec<_> = accounts.iter().map(of).collect();
    // All but the last step before the suspension.
    chase_all(&app, &accounts, 3).await;
    wait_until(&app, "2026-02-12T12:00:00Z");
    whichever_answer_is_lost(
        &app,
        async |number: usize| accounts[number].clone(),
        async |(_, open)| {
            let chase = BillingWork::Chase {
                client_id: ClientId(1),
                due_on: open.due_on,
                invoice_id: open.invoice_id,
            };
            handle(&app, &chase).await;
        },
        // Whoever pays before the cluster has heard of it is not locked out.
        async |(account, _)| {
            app.top_up("client", account.s3uid.as_str(), 1_500).await;
            handle(
                &app,
                &BillingWork::Settle {
                    client_id: ClientId(1),
                },
            )
            .await;
        },
        async |(account, _), when| assert_is(&app, account, None, when).await,
    )
    .await;
}

#[tokio::test]
async fn of_deleting_an_account() {
    let app = start().await;
    for was_suspended in [false, true] {
        whichever_answer_is_lost(
            &app,
            async |number: usize| {
                let account = app
                    .order("client", &format!("deleted-{was_suspended}-{number}"))
                    .await;
                if was_suspended {
                    let parameters = by_admin(&app, &account);
                    app.call("admin", "suspend_account", parameters).await.ok();
                }
                account
            },
            async |account| {
                let own = json!({ "s3uid": account.s3uid });
                call(&app, "client", "delete_account", own).await;
                // The first steps of its removal.
                for step in 0..2 {
                    let task_id = format!("remove_account:{}", account.s3uid);
                    let message = json!({ "task_id": task_id, "step": step }).to_string();
                    if let Err(fault) = app.handle_directly("cleanup", &message).await {
                        assert!(fault.retryable, "{fault}");
                    }
                }
            },
            nothing,
            async |account, when| {
                let kept = stored(&app, &account.s3uid).await.expect("the account");
                assert_eq!(kept.service.status(), Status::Terminated, "{when}");
                assert_eq!(kept.unsettled, None, "{when}");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn of_orders() {
    let app = start().await;
    for action in ["create_order", "create_account"] {
        whichever_answer_is_lost(
            &app,
            async |number: usize| format!("{action}-{number}").replace('_', "-"),
            async |bucket_name: &String| {
                let order = json!({ "plan_id": 2, "bucket_name": bucket_name });
                call(&app, "client", action, order).await;
            },
            nothing,
            async |bucket_name, when| {
                let owner = app.cluster_bucket_owner("NL", bucket_name).await;
                let names = app
                    .context()
                    .database
                    .bucket_owners(&["NL".into()], &bucket_name.as_str().into())
                    .await;
                let names = names.expect("names");
                let name = names.first().map(|name| name.bucket_owner.to_string());
                assert_eq!(owner, name, "{action}: {when}");
            },
        )
        .await;
    }
    app.assert_ledger_is_sound("client").await;
    assert_eq!(app.balances("client").await.held_minor, 0);
}

#[tokio::test]
async fn of_making_and_removing_buckets() {
    let app = start().await;
    let account = app.order("client", "buckets").await;
    for action in ["create_bucket", "delete_bucket"] {
        whichever_answer_is_lost(
            &app,
            async |number: usize| {
                let bucket_name = format!("{action}-{number}").replace('_', "-");
                let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
                if action == "delete_bucket" {
                    let made = parameters.clone();
                    app.call("client", "create_bucket", made).await.ok();
                }
                parameters
            },
            async |parameters| call(&app, "client", action, parameters.clone()).await,
            // Asked for again, it is done, or was.
            async |parameters| {
                let reply = app.call("client", action, parameters.clone()).await;
                assert!([200, 404].contains(&reply.status), "{:#}", reply.body);
            },
            async |_, _| {},
        )
        .await;
    }
}
