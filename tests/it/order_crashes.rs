//! An order ends whole or not at all, wherever the process that works on it dies and whatever cannot be reached.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::{Reply, TestApp};
use wharfage::domain::account::Status;
use wharfage::domain::client::Client;
use wharfage::domain::history::Entity;
use wharfage::domain::ledger::Balances;
use wharfage::domain::order::Order;

/// Longer than the lease on an order.
const LEASE_AND_MORE: SignedDuration = SignedDuration::from_secs(61);
/// More calls than any of this makes.
const FAR_TOO_MANY_CALLS: usize = 60;

/// What is bought, and what is to come of it.
#[derive(Clone, Copy)]
struct Kind {
    action: &'static str,
    plan_id: u64,
    /// What leaves the credit when the account is there.
    paid_minor: i64,
    /// What is owed then.
    owed_minor: i64,
}

const PAID: Kind = Kind {
    action: "create_order",
    plan_id: 2,
    paid_minor: 1_500,
    owed_minor: 0,
};
const INVOICED: Kind = Kind {
    action: "create_account",
    plan_id: 2,
    paid_minor: 0,
    owed_minor: 1_500,
};
const FREE: Kind = Kind {
    action: "create_order",
    plan_id: 1,
    paid_minor: 0,
    owed_minor: 0,
};

/// Which calls cannot be made.
type Cut = fn(&str) -> bool;

/// How an order ended. There is no third way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Nothing,
}

/// What the client had before the order.
struct Before {
    balances: Balances,
    invoices: usize,
    client: Client,
    users: BTreeSet<String>,
    bucket_owner: Option<String>,
}

/// One order to be made, and made again.
struct Attempt<'a> {
    app: &'a TestApp,
    kind: Kind,
    bucket_name: String,
    before: Before,
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

impl Attempt<'_> {
    async fn new<'a>(app: &'a TestApp, kind: Kind, bucket_name: &str) -> Attempt<'a> {
        let client_id = app.client_id("client");
        // Whoever has credit is owed nothing by, and whoever owes something has none to spend.
        let cause = format!("before {bucket_name}");
        if kind.owed_minor > 0 {
            let credit_minor = app.balances("client").await.credit_minor;
            app.top_up("client", &cause, -credit_minor).await;
        } else {
            app.top_up("client", &cause, 10_000_000).await;
            let settle = json!({ "work": "settle", "client_id": client_id }).to_string();
            app.handle_directly("billing", &settle)
                .await
                .expect("it is settled");
        }
        Attempt {
            app,
            kind,
            before: Before {
                balances: app.balances("client").await,
                invoices: app
                    .context()
                    .database
                    .invoices(client_id)
                    .await
                    .expect("invoices")
                    .len(),
                client: app.client("client").await,
                users: app.cluster_users("NL").await,
                bucket_owner: app.cluster_bucket_owner("NL", bucket_name).await,
            },
            bucket_name: bucket_name.to_owned(),
        }
    }

    fn key(&self) -> String {
        format!("key of {}", self.bucket_name)
    }

    async fn request(&self) -> Reply {
        let parameters = json!({
            "plan_id": self.kind.plan_id,
            "bucket_name": self.bucket_name,
            "idempotency_key": self.key(),
        });
        self.app
            .call_directly("client", self.kind.action, parameters)
            .await
    }

    async fn has_open_order(&self) -> bool {
        let later = self.app.now() + SignedDuration::from_hours(24 * 365);
        let open = self
            .app
            .context()
            .database
            .abandoned_orders(later, 10)
            .await;
        // One that came to nothing is looked at once more, later.
        open.expect("orders").iter().any(Order::is_open)
    }

    /// The lease passes, and the job that looks for abandoned orders runs.
    async fn recover(&self) -> Value {
        self.app.let_pass(LEASE_AND_MORE);
        self.app
            .run_directly("resume_orders")
            .await
            .expect("the job succeeds")
    }

    /// How it ended; fails the test when it ended in anything between.
    async fn end(&self, when: &str) -> End {
        let (app, database, before) = (self.app, &self.app.context().database, &self.before);
        let client_id = app.client_id("client");
        assert!(
            !self.has_open_order().await,
            "{when}: the order is still open"
        );
        let balances = app.balances("client").await;
        let invoices = database.invoices(client_id).await.expect("invoices");
        let client = app.client("client").await;
        let users = app.cluster_users("NL").await;
        let names = database
            .bucket_owners(&["NL".into()], &self.bucket_name.as_str().into())
            .await;
        let names = names.expect("bucket names");
        let used = database
            .idempotency_record(client_id, &self.key(), app.now())
            .await;
        let used = used.expect("the idempotency key");

        let Some(name) = names.first() else {
            assert_eq!(users, before.users, "{when}: a user is left");
            assert_eq!(
                app.cluster_bucket_owner("NL", &self.bucket_name).await,
                before.bucket_owner,
                "{when}: a bucket is left"
            );
            assert_eq!(balances, before.balances, "{when}: money is not back");
            assert_eq!(
                invoices.len(),
                before.invoices,
                "{when}: an invoice is left"
            );
            assert_eq!(
                client, before.client,
                "{when}: the account is still counted"
            );
            assert_eq!(used, None, "{when}: the idempotency key is not free");
            return End::Nothing;
        };

        let s3uid = &name.bucket_owner;
        let account = database.account(s3uid).await.expect("an answer");
        let account =
            account.unwrap_or_else(|| panic!("{when}: the name is taken, and no account is there"));
        assert_eq!(account.service.status(), Status::Active, "{when}");
        assert_eq!(account.client_id, client_id, "{when}");
        let mut with_new_user = before.users.clone();
        with_new_user.insert(s3uid.to_string());
        assert_eq!(users, with_new_user, "{when}");
        assert_eq!(
            app.cluster_buckets("NL", s3uid).await,
            Some(BTreeSet::from([self.bucket_name.clone()])),
            "{when}"
        );
        let keys_work = {
            let secret = app
                .context()
                .vault
                .decrypt(s3uid, &account.secret_key_ciphertext)
                .await;
            let secret = secret.expect("the secret key can be read");
            let s3 = app.s3_with(
                "NL",
                &account.access_key,
                secrecy::ExposeSecret::expose_secret(&secret),
            );
            s3.head_bucket()
                .bucket(&self.bucket_name)
                .send()
                .await
                .is_ok()
        };
        assert!(keys_work, "{when}: the keys do not work");
        let is_charged = i64::from(self.kind.paid_minor + self.kind.owed_minor > 0);
        let expected = Balances {
            credit_minor: before.balances.credit_minor - self.kind.paid_minor,
            receivable_minor: before.balances.receivable_minor - self.kind.owed_minor,
            revenue_minor: before.balances.revenue_minor
                + self.kind.paid_minor
                + self.kind.owed_minor,
            invoices: before.balances.invoices + is_charged.unsigned_abs(),
            ..before.balances.clone()
        };
        assert_eq!(balances, expected, "{when}: not charged once");
        let own: Vec<_> = invoices
            .iter()
            .filter(|invoice| &invoice.s3uid == s3uid)
            .collect();
        assert_eq!(own.len() as i64, is_charged, "{when}: {own:?}");
        assert_eq!(invoices.len(), before.invoices + own.len(), "{when}");
        for invoice in own {
            assert_eq!(
                invoice.amount_minor,
                self.kind.paid_minor + self.kind.owed_minor,
                "{when}"
            );
            assert_eq!(
                invoice.paid_at.is_some(),
                self.kind.paid_minor > 0,
                "{when}"
            );
        }
        let expected = Client {
            accounts: before.client.accounts + 1,
            free_accounts: before.client.free_accounts + u32::from(is_charged == 0),
            ..before.client.clone()
        };
        assert_eq!(client, expected, "{when}");
        let history = database
            .history(&Entity::Account(s3uid), 10, 0, None)
            .await
            .expect("history");
        let actions: Vec<&str> = history
            .entries
            .iter()
            .map(|entry| entry.action.as_str())
            .collect();
        assert_eq!(actions, [self.kind.action], "{when}");
        assert!(used.is_some(), "{when}: the idempotency key is forgotten");
        End::Whole
    }
}

/// Orders that die at every call, each of them then handed to `afterwards`, which sees it to its end.
async fn die_at_every_call(kind: Kind, afterwards: impl AsyncFn(&Attempt<'_>, &str) -> End) {
    let app = start().await;
    for moment in [Moment::Before, Moment::After] {
        let mut ends = Vec::new();
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let attempt = Attempt::new(
                &app,
                kind,
                &format!("bucket-{moment:?}-{index}").to_lowercase(),
            )
            .await;
            let when = format!(
                "{} of plan {}, killed {moment:?} call {index}",
                kind.action, kind.plan_id
            );
            match app.tap.crash_at(index, moment, attempt.request()).await {
                Some(reply) => {
                    reply.ok();
                    assert_eq!(attempt.end("not killed").await, End::Whole);
                    break;
                }
                None => ends.push(afterwards(&attempt, &when).await),
            }
        }
        assert!(
            ends.len() >= 8,
            "{} calls are too few to have been all",
            ends.len()
        );
    }
    app.assert_ledger_is_sound("client").await;
}

async fn the_job_finishes_what_was_begun(kind: Kind) {
    die_at_every_call(kind, async |attempt, when| {
        let was_begun = attempt.has_open_order().await;
        let ended_already =
            !was_begun && attempt.app.client("client").await != attempt.before.client;
        attempt.recover().await;
        let end = attempt.end(when).await;
        let expected = if was_begun || ended_already {
            End::Whole
        } else {
            End::Nothing
        };
        assert_eq!(end, expected, "{when}");
        end
    })
    .await;
}

#[tokio::test]
async fn a_paid_order_killed_anywhere_is_finished_by_the_job_or_never_was() {
    the_job_finishes_what_was_begun(PAID).await;
}

#[tokio::test]
async fn an_invoiced_order_killed_anywhere_is_finished_by_the_job_or_never_was() {
    the_job_finishes_what_was_begun(INVOICED).await;
}

#[tokio::test]
async fn a_free_order_killed_anywhere_is_finished_by_the_job_or_never_was() {
    the_job_finishes_what_was_begun(FREE).await;
}

async fn the_client_finishes_what_was_begun(kind: Kind) {
    die_at_every_call(kind, async |attempt, when| {
        let was_open = attempt.has_open_order().await;
        // At once: an order under way is not begun a second time.
        let again = attempt.request().await;
        if was_open {
            assert_eq!(again.retry_after, Some(5), "{when}");
            let text = again.refused(409);
            assert!(text.ends_with("is still under way"), "{when}: {text}");
            attempt.app.let_pass(LEASE_AND_MORE);
            attempt.request().await.ok();
        } else {
            again.ok();
        }
        let end = attempt.end(when).await;
        assert_eq!(end, End::Whole, "{when}");
        let first = attempt.request().await.ok();
        assert_eq!(
            attempt.request().await.ok(),
            first,
            "{when}: another answer"
        );
        assert_eq!(attempt.end(when).await, End::Whole);
        end
    })
    .await;
}

#[tokio::test]
async fn a_paid_order_killed_anywhere_is_finished_by_a_retry_with_its_idempotency_key() {
    the_client_finishes_what_was_begun(PAID).await;
}

#[tokio::test]
async fn a_free_order_killed_anywhere_is_finished_by_a_retry_with_its_idempotency_key() {
    the_client_finishes_what_was_begun(FREE).await;
}

/// Makes the cluster refuse a bucket: somebody made it there, past the product.
async fn take_at_the_cluster(app: &TestApp, bucket_name: &str) {
    let user = json!({
        "display_name": "somebody",
        "access_key": "AKIASOMEBODYELSE1234",
        "secret_key": "a-secret-key-of-somebody-else-0123456789",
        "quota_bytes": null,
    });
    let (status, body) = app.admin("NL", "PUT", "users/somebody", Some(&user)).await;
    assert!(status < 300, "{body}");
    let (status, body) = app
        .admin(
            "NL",
            "PUT",
            &format!("users/somebody/buckets/{bucket_name}"),
            None,
        )
        .await;
    assert!(status < 300, "{body}");
}

#[tokio::test]
async fn an_order_that_the_cluster_refuses_and_that_is_killed_anywhere_leaves_nothing() {
    let app = start().await;
    for kind in [PAID, FREE] {
        for moment in [Moment::Before, Moment::After] {
            for index in 0.. {
                assert!(index < FAR_TOO_MANY_CALLS);
                let bucket_name =
                    format!("taken-{}-{moment:?}-{index}", kind.plan_id).to_lowercase();
                take_at_the_cluster(&app, &bucket_name).await;
                let attempt = Attempt::new(&app, kind, &bucket_name).await;
                let when = format!("plan {}, killed {moment:?} call {index}", kind.plan_id);
                let reply = app.tap.crash_at(index, moment, attempt.request()).await;
                attempt.recover().await;
                assert_eq!(attempt.end(&when).await, End::Nothing, "{when}");
                if let Some(reply) = reply {
                    assert_eq!(
                        reply.refused(409),
                        "s3/create_order: bucket name is already taken"
                    );
                    assert!(index >= 12, "{index} calls are too few to have been all");
                    break;
                }
            }
        }
    }
    app.assert_ledger_is_sound("client").await;
}

/// Kills the recovery of an order twice at the same call, for every call it makes, and then lets it be.
async fn kill_the_recovery_at_every_call(
    app: &TestApp,
    kind: Kind,
    index: usize,
    moment: Moment,
    is_taken: bool,
    expected: End,
) -> bool {
    for recovery_moment in [Moment::Before, Moment::After] {
        for recovery_index in 0.. {
            assert!(recovery_index < FAR_TOO_MANY_CALLS);
            let bucket_name =
                format!("r-{is_taken}-{moment:?}-{index}-{recovery_moment:?}-{recovery_index}")
                    .to_lowercase();
            if is_taken {
                take_at_the_cluster(app, &bucket_name).await;
            }
            let attempt = Attempt::new(app, kind, &bucket_name).await;
            let is_dead = app
                .tap
                .crash_at(index, moment, attempt.request())
                .await
                .is_none();
            if !attempt.has_open_order().await {
                // Nothing to recover: never begun, or ended.
                return is_dead;
            }
            let when = format!(
                "killed {moment:?} call {index}, recovery killed twice {recovery_moment:?} call {recovery_index}"
            );
            let mut survived = false;
            for _ in 0..2 {
                app.let_pass(LEASE_AND_MORE);
                let recovery = app.run_directly("resume_orders");
                let summary = app
                    .tap
                    .crash_at(recovery_index, recovery_moment, recovery)
                    .await;
                survived |= summary.is_some();
            }
            attempt.recover().await;
            assert_eq!(attempt.end(&when).await, expected, "{when}");
            if survived && recovery_index > 3 {
                break;
            }
        }
    }
    true
}

#[tokio::test]
async fn a_recovery_forward_killed_twice_anywhere_ends_with_a_whole_account() {
    let app = start().await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            if !kill_the_recovery_at_every_call(&app, PAID, index, moment, false, End::Whole).await
            {
                break;
            }
        }
    }
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn a_recovery_back_killed_twice_anywhere_ends_with_nothing_left() {
    let app = start().await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            if !kill_the_recovery_at_every_call(&app, PAID, index, moment, true, End::Nothing).await
            {
                break;
            }
        }
    }
    app.assert_ledger_is_sound("client").await;
}

/// Stalls an order at every call until everybody thinks it dead and the job has ended it, and then has it go on.
async fn stall_at_every_call(kind: Kind) {
    let app = start().await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let bucket_name = format!("stalled-{moment:?}-{index}").to_lowercase();
            let attempt = Attempt::new(&app, kind, &bucket_name).await;
            let when = format!("plan {}, stalled {moment:?} call {index}", kind.plan_id);
            let stalled = app.tap.stall_at(index, moment, attempt.request()).await;
            let is_over = stalled.is_ok();
            if let Err(stalled) = stalled {
                attempt.recover().await;
                stalled.go_on().await;
            }
            assert_eq!(attempt.end(&when).await, End::Whole, "{when}");
            if is_over {
                break;
            }
        }
    }
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn a_process_that_was_only_slow_does_not_fulfil_an_order_again() {
    for kind in [PAID, INVOICED, FREE] {
        stall_at_every_call(kind).await;
    }
}

#[tokio::test]
async fn an_order_answered_with_503_leaves_nothing_once_the_cluster_is_back() {
    let app = start().await;
    let cuts: [(&str, Cut); 5] = [
        ("everything", |name| name.starts_with("cluster ")),
        ("the user", |name| name == "cluster PUT users"),
        ("the bucket", |name| name == "cluster PUT users/buckets"),
        ("the bucket, and the user's removal", |name| {
            name == "cluster PUT users/buckets" || name == "cluster DELETE users"
        }),
        ("all but the user", |name| {
            name.starts_with("cluster ") && name != "cluster PUT users"
        }),
    ];
    for (number, (what, is_cut)) in cuts.into_iter().enumerate() {
        for kind in [PAID, INVOICED, FREE] {
            let name = format!(
                "cut-{number}-{}-{}",
                kind.action.replace('_', "-"),
                kind.plan_id
            );
            let attempt = Attempt::new(&app, kind, &name).await;
            let reply = app.tap.without(is_cut, attempt.request()).await;
            assert_eq!(reply.retry_after, Some(5), "{what}: {reply:?}");
            let text = reply.refused(503);
            assert_eq!(
                text,
                "s3/create_order: the storage cannot answer now, try again later"
            );
            attempt.recover().await;
            assert_eq!(attempt.end(what).await, End::Nothing, "{what}");
            // The same request is welcome again.
            attempt.request().await.ok();
            assert_eq!(attempt.end(what).await, End::Whole, "{what}");
        }
    }
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn an_order_whose_process_died_waits_for_the_cluster_to_be_back() {
    let app = start().await;
    let attempt = Attempt::new(&app, PAID, "patient-bucket").await;
    // It dies with the cluster: the order has begun, and nobody was told anything.
    for index in 0.. {
        assert!(index < FAR_TOO_MANY_CALLS);
        let died = app
            .tap
            .crash_at(index, Moment::After, attempt.request())
            .await
            .is_none();
        assert!(died, "the order never was open");
        if attempt.has_open_order().await {
            break;
        }
    }
    for _ in 0..3 {
        let summary = app
            .tap
            .without(|name| name.starts_with("cluster "), attempt.recover())
            .await;
        assert_eq!(
            summary,
            json!({ "fulfilled": 0, "undone": 0, "waiting": 1 })
        );
        assert!(attempt.has_open_order().await);
    }
    let summary = attempt.recover().await;
    assert_eq!(
        summary,
        json!({ "fulfilled": 1, "undone": 0, "waiting": 0 })
    );
    assert_eq!(attempt.end("the cluster is back").await, End::Whole);
}

#[tokio::test]
async fn an_order_undone_days_later_leaves_a_key_that_was_used_again() {
    let app = start().await;
    let attempt = Attempt::new(&app, PAID, "slow-cluster").await;
    let is_cut: Cut = |name| name.starts_with("cluster ");
    let reply = app.tap.without(is_cut, attempt.request()).await;
    reply.refused(503);
    // The cluster is away for more than a day; the client takes the key for another order elsewhere.
    app.let_pass(SignedDuration::from_hours(25));
    let key = app.stack.seeded().api_key("client").to_owned();
    let login = app.auth("login", json!({ "key": key })).await;
    let parameters = json!({
        "token": login.body["result"]["token"],
        "plan_id": 2,
        "location": "DE",
        "bucket_name": "quick-cluster",
        "idempotency_key": attempt.key(),
    });
    let first = app.post_form("/s3/create_order", &parameters).await.ok();
    assert_eq!(attempt.recover().await["undone"], 1);
    let again = app.post_form("/s3/create_order", &parameters).await.ok();
    assert_eq!(again, first);
    assert_eq!(app.client("client").await.accounts, 1);
    app.assert_ledger_is_sound("client").await;
}
