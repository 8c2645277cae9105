//! What several ask for at once, one gets.

use std::collections::BTreeSet;

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::{Reply, TestApp};
use wharfage::domain::account::S3Uid;
use wharfage::domain::history::Entity;

/// How the calls of a race were answered: how many succeeded, and what the others were told.
fn outcome(replies: Vec<Reply>) -> (Vec<Value>, BTreeSet<String>) {
    let (won, lost): (Vec<Reply>, Vec<Reply>) =
        replies.into_iter().partition(|reply| reply.status == 200);
    (
        won.into_iter().map(Reply::ok).collect(),
        lost.into_iter()
            .map(|reply| {
                format!(
                    "{} {}",
                    reply.status,
                    reply.body["message"].as_str().unwrap_or_default()
                )
            })
            .collect(),
    )
}

fn only(text: &str) -> BTreeSet<String> {
    BTreeSet::from([text.to_owned()])
}

/// After a lease has passed and the job has run, no order is open and nothing is held.
async fn assert_settled(app: &TestApp) {
    app.let_pass(SignedDuration::from_secs(61));
    app.run_directly("resume_orders")
        .await
        .expect("the job succeeds");
    for who in ["client", "client2"] {
        app.assert_ledger_is_sound(who).await;
        assert_eq!(app.balances(who).await.held_minor, 0);
        let kept = app
            .context()
            .database
            .client_accounts(app.client_id(who))
            .await
            .expect("accounts");
        assert_eq!(app.client(who).await.accounts as usize, kept.len(), "{who}");
    }
    let mut accounts = BTreeSet::new();
    for who in ["client", "client2"] {
        let own = app
            .context()
            .database
            .client_accounts(app.client_id(who))
            .await
            .expect("accounts");
        accounts.extend(own.into_iter().map(|account| account.s3uid.to_string()));
    }
    assert_eq!(
        app.cluster_users("NL").await,
        accounts,
        "users without accounts, or accounts without users"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_orders_for_one_bucket_name_one_succeeds() {
    let app = TestApp::start_idle(&[]).await;
    app.top_up("client", "for races", 1_000_000).await;
    app.top_up("client2", "for races", 1_000_000).await;
    for (round, orders) in [2, 2, 2, 8, 8].into_iter().enumerate() {
        let bucket_name = format!("wanted-by-{orders}-{round}");
        let calls = (0..orders).map(|number| {
            let who = if number % 2 == 0 { "client" } else { "client2" };
            let action = if number % 3 == 0 {
                "create_account"
            } else {
                "create_order"
            };
            app.call(
                who,
                action,
                json!({ "plan_id": 2, "bucket_name": bucket_name }),
            )
        });
        let (won, lost) = outcome(join_all(calls).await);
        assert_eq!(won.len(), 1, "{lost:?}");
        assert_eq!(
            lost,
            only("409 s3/create_order: bucket name is already taken")
        );
        let owner = app.cluster_bucket_owner("NL", &bucket_name).await;
        assert_eq!(owner.as_deref(), won[0]["s3uid"].as_str());
    }
    assert_settled(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_orders_on_credit_for_one_one_succeeds() {
    let app = TestApp::start_idle(&[]).await;
    // 200.00 at first; leave 29.99, not quite enough for two.
    app.top_up("client", "less", -(20_000 - 2_999)).await;
    for (round, orders) in [2, 8].into_iter().enumerate() {
        let calls = (0..orders).map(|number| {
            let bucket_name = format!("short-{round}-{number}");
            app.call(
                "client",
                "create_order",
                json!({ "plan_id": 2, "bucket_name": bucket_name }),
            )
        });
        let (won, lost) = outcome(join_all(calls).await);
        assert_eq!(won.len(), 1, "{lost:?}");
        let wanted = "402 s3/create_order: not enough credit: 15.00 EUR needed, 14.99 available";
        assert_eq!(lost, only(wanted));
        assert_eq!(app.balances("client").await.credit_minor, 1_499);
        app.top_up("client", &format!("again {round}"), 1_500).await;
    }
    assert_settled(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_free_orders_one_succeeds() {
    let app = TestApp::start_idle(&[]).await;
    let calls = (0..8).map(|number| {
        let bucket_name = format!("free-{number}");
        app.call(
            "client",
            "create_order",
            json!({ "plan_id": 1, "bucket_name": bucket_name }),
        )
    });
    let (won, lost) = outcome(join_all(calls).await);
    assert_eq!(won.len(), 1, "{lost:?}");
    assert_eq!(
        lost,
        only("403 s3/create_order: the limit of free S3 accounts is reached")
    );
    assert_settled(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_orders_with_one_idempotency_key_are_one_order() {
    let app = TestApp::start_idle(&[]).await;
    for round in 0..3 {
        let before = app.balances("client").await;
        let parameters = json!({
            "plan_id": 2,
            "bucket_name": format!("once-{round}"),
            "idempotency_key": format!("key {round}"),
        });
        let calls = (0..8).map(|_| app.call("client", "create_order", parameters.clone()));
        let (mut won, lost) = outcome(join_all(calls).await);
        let under_way = only(
            "409 s3/create_order: the first request with this idempotency key is still under way",
        );
        assert!(lost.is_empty() || lost == under_way, "{lost:?}");
        won.push(app.call("client", "create_order", parameters).await.ok());
        assert!(won.iter().all(|answer| *answer == won[0]), "{won:#?}");
        assert!(won.len() >= 2);
        let after = app.balances("client").await;
        assert_eq!(after.credit_minor, before.credit_minor - 1_500);
        assert_eq!(after.invoices, before.invoices + 1);
        assert_eq!(app.client("client").await.accounts, round + 1);
    }
    assert_settled(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_cancellings_one_succeeds_and_so_with_their_undoing() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "to-and-fro").await;
    let parameters = json!({ "s3uid": account.s3uid });
    for round in 1..=3 {
        for (action, status, refusal) in [
            (
                "delete_payment_account",
                "cancelling",
                "S3 account is already being cancelled",
            ),
            (
                "cancel_payment_account_deletion",
                "active",
                "S3 account is not being cancelled",
            ),
        ] {
            let calls = (0..8).map(|_| app.call("client", action, parameters.clone()));
            let (won, lost) = outcome(join_all(calls).await);
            assert_eq!(won.len(), 1, "{lost:?}");
            assert_eq!(won[0]["service"]["status"], status);
            assert_eq!(lost, only(&format!("409 s3/{action}: {refusal}")));
            assert_eq!(entries(&app, &account.s3uid, action).await, round);
        }
    }
    // Both at once: the account ends in one of the two states, and history tells the same story.
    for _ in 0..5 {
        let had = [
            entries(&app, &account.s3uid, "delete_payment_account").await,
            entries(&app, &account.s3uid, "cancel_payment_account_deletion").await,
        ];
        let calls = (0..8).map(|number| {
            let action = ["delete_payment_account", "cancel_payment_account_deletion"][number % 2];
            app.call("client", action, parameters.clone())
        });
        let (won, _) = outcome(join_all(calls).await);
        let cancelled = entries(&app, &account.s3uid, "delete_payment_account").await - had[0];
        let undone =
            entries(&app, &account.s3uid, "cancel_payment_account_deletion").await - had[1];
        assert_eq!(cancelled + undone, won.len());
        let users = app.call("client", "get_users", json!({})).await.ok();
        let status = users["s3_users"][0]["service"]["status"].as_str();
        assert_eq!(
            status,
            Some(if cancelled > undone {
                "cancelling"
            } else {
                "active"
            })
        );
        if cancelled > undone {
            app.call(
                "client",
                "cancel_payment_account_deletion",
                parameters.clone(),
            )
            .await
            .ok();
        }
    }
    assert_settled(&app).await;
}

async fn entries(app: &TestApp, s3uid: &S3Uid, action: &str) -> usize {
    let history = app
        .context()
        .database
        .history(&Entity::Account(s3uid), 500, 0, None)
        .await;
    let history = history.expect("history");
    history
        .entries
        .iter()
        .filter(|entry| entry.action == action)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_clients_who_make_a_bucket_of_one_name_one_succeeds() {
    let app = TestApp::start_idle(&[]).await;
    let mine = app.order("client", "my-first").await;
    let others = app.order("client2", "others-first").await;
    for round in 0..5 {
        let bucket_name = format!("popular-{round}");
        let calls = [("client", &mine), ("client2", &others)].map(|(who, account)| {
            app.call(
                who,
                "create_bucket",
                json!({ "s3uid": account.s3uid, "bucket_name": bucket_name }),
            )
        });
        let (won, lost) = outcome(join_all(calls).await);
        assert_eq!(won.len(), 1, "{lost:?}");
        assert_eq!(
            lost,
            only("409 s3/create_bucket: bucket name is already taken")
        );
        let winner = won[0]["s3uid"].as_str();
        assert_eq!(
            app.cluster_bucket_owner("NL", &bucket_name)
                .await
                .as_deref(),
            winner
        );
        let names = app
            .context()
            .database
            .bucket_owners(&["NL".into()], &bucket_name.as_str().into())
            .await
            .expect("names");
        assert_eq!(names.len(), 1);
        assert_eq!(Some(names[0].bucket_owner.as_str()), winner);
    }
    assert_settled(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_account_deleted_by_many_at_once_goes_once() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "going").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let calls = (0..8).map(|_| app.call("client", "delete_account", parameters.clone()));
    let (won, lost) = outcome(join_all(calls).await);
    assert_eq!((won.len(), lost), (8, BTreeSet::new()));
    let callbacks: BTreeSet<&str> = won
        .iter()
        .filter_map(|answer| answer["callback"].as_str())
        .collect();
    assert_eq!(callbacks.len(), 8, "every caller has a callback of its own");
    app.stack.drain().await.expect("the queues empty");
    for action in ["delete_account", "account_terminated"] {
        assert_eq!(entries(&app, &account.s3uid, action).await, 1, "{action}");
    }
    for callback in callbacks {
        assert_eq!(
            app.check(callback).await.ok()["scope"]["status"],
            "terminated"
        );
    }
    assert_eq!(app.client("client").await.accounts, 0);
    assert_settled(&app).await;
}
