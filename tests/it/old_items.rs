//! What the version before wrote is read and carried on. The items stand here as that version wrote them, and are to stay so: they are what
//! an installation that is updated has in its tables.

use base64::Engine as _;
use functions::rebuild::{Whose, rebuild};
use jiff::civil::{Date, date};
use jiff::{SignedDuration, ToSpan};
use secrecy::SecretString;
use serde_json::{Value, json};
use tests::{TestAccount, TestApp};
use wharfage::domain::account::{Account, AccountId, S3Uid, Status, Suspension, TerminationReason};
use wharfage::domain::client::ClientId;
use wharfage::domain::credential::hash;
use wharfage::domain::event::Kind;
use wharfage::domain::invoice::InvoiceStatus;
use wharfage::domain::order::State;
use wharfage::domain::period::{date_of, start_of};
use wharfage::segments::SegmentKey;

use crate::billing_crashes::{assert_cluster_agrees, history, stored};
use crate::debts::{drain, run_the_day};

/// When the version before was replaced.
const UPDATED: &str = "2026-02-20T12:00:00Z";

/// The order that was going forward, and the one that was being undone.
const FORWARD: &str = "oldforwardorder00000";
const UNDOING: &str = "oldundoingorder00000";

/// An installation as the version before left it: a client of it, all its money, and its accounts.
struct Old {
    app: TestApp,
    /// Renewed on 15 February, by an invoice that is open.
    active: TestAccount,
    /// Suspended on 12 February for the invoice of 15 January.
    suspended: TestAccount,
    /// Cancelled: it ends on 25 February, and its data goes on 27 March.
    cancelling: TestAccount,
}

async fn start() -> Old {
    let app = TestApp::start_idle(&[]).await;
    let mut accounts = Vec::new();
    for bucket_name in ["old-active", "old-suspended", "old-cancelling"] {
        accounts.push(app.order("client", bucket_name).await);
    }
    let [active, suspended, cancelling] = accounts.try_into().expect("three accounts");
    for sk in app.sort_keys("LEDGER_TABLE", "CLIENT#1").await {
        app.delete_item("LEDGER_TABLE", &("CLIENT#1".into(), sk))
            .await;
    }
    let clusters = &app.context().clusters;
    let provider = &clusters.of("NL").expect("NL").provider;
    let stopped = provider.set_suspended(&suspended.s3uid, true).await;
    stopped.expect("the cluster stops its keys");
    app.stack
        .clock()
        .move_to(UPDATED.parse().expect("a time"))
        .expect("moved");
    let old = Old {
        app,
        active,
        suspended,
        cancelling,
    };
    old.put_client_and_plan().await;
    old.put_accounts().await;
    old.put_books().await;
    old.put_orders().await;
    let mut app = old.app;
    app.log_in().await;
    Old { app, ..old }
}

impl Old {
    async fn put_client_and_plan(&self) {
        let app = &self.app;
        // Five accounts: two of them on order.
        let client = json!({
            "pk": "CLIENT#1", "sk": "CLIENT", "client_id": 1, "email": "client@example.com", "role": "client", "billing": "whmcs",
            "currency": "EUR", "tags": [], "accounts": 5, "free_accounts": 0,
        });
        app.put_json("CLIENTS_TABLE", &client).await;
        let sequences = json!({
            "pk": "SEQUENCES", "sk": "SEQUENCES", "client_id": 3, "plan_id": 4, "account_id": 5, "invoice_id": 10,
        });
        app.put_json("CLIENTS_TABLE", &sequences).await;
        let prices = json!({ "monthly": "15", "storage_overage_per_gb_month": "0.01", "traffic_overage_per_gb": "0.5" });
        for (pk, sk) in [
            ("PLAN#2", "VERSION#000000000001"),
            ("PLANS", "PLAN#000000000002"),
        ] {
            let plan = json!({
                "pk": pk, "sk": sk, "id": 2, "version": 1, "name": "Standard S3", "active": true, "quota_gb": 5000,
                "storage_limit_gb": null, "storage_type": "Standard", "locations": ["NL", "DE"], "included_traffic_gb": 1000,
                "prices": { "EUR": prices }, "location_prices": {},
            });
            app.put_json("PLANS_TABLE", &plan).await;
        }
        let state = json!({ "pk": "BILLING", "sk": "STATE", "closed_before": "2026-02-20" });
        app.put_json("USAGE_TABLE", &state).await;
    }

    async fn put_accounts(&self) {
        let active = json!({
            "status": "active", "ordered_on": "2026-01-15", "next_commit_date": "2026-03-15", "cancellation_date": null,
            "termination_date": null, "suspension": null,
        });
        self.put_account(&self.active, &active, "2026-02-15").await;
        let suspended = json!({
            "status": "suspended", "ordered_on": "2026-01-15", "next_commit_date": "2026-03-15", "cancellation_date": null,
            "termination_date": null, "suspension": "unpaid",
        });
        self.put_account(&self.suspended, &suspended, "2026-02-15")
            .await;
        let cancelling = json!({
            "status": "cancelling", "ordered_on": "2026-01-25", "next_commit_date": "2026-02-25", "cancellation_date": "2026-02-25",
            "termination_date": "2026-03-27", "suspension": null,
        });
        self.put_account(&self.cancelling, &cancelling, "2026-01-25")
            .await;
    }

    async fn put_account(&self, account: &TestAccount, service: &Value, period_from: &str) {
        put_account(&self.app, account, 1, service, period_from).await;
    }

    /// 9.98 of credit beside debts of three months: the version before paid an invoice in full or not at all.
    async fn put_books(&self) {
        let balances = json!({
            "pk": "CLIENT#1", "sk": "BALANCES#EUR", "credit_minor": 998, "held_minor": 3000, "receivable_minor": -4500,
            "revenue_minor": 8800, "funding_minor": -8298, "invoices": 8,
        });
        self.app.put_json("LEDGER_TABLE", &balances).await;
        let (credit, held, receivable, revenue) = ("credit", "held", "receivable", "revenue");
        let postings = [
            (
                "top_up:paid in",
                "2026-01-15T09:00:00Z",
                ("funding", credit),
                8298,
            ),
            (
                "hold:oldorder1",
                "2026-01-15T10:30:00Z",
                (credit, held),
                1500,
            ),
            (
                "capture:oldorder1",
                "2026-01-15T10:30:01Z",
                (held, revenue),
                1500,
            ),
            ("owe:2", "2026-01-15T10:31:00Z", (receivable, revenue), 1500),
            (
                "hold:oldorder3",
                "2026-01-25T10:30:00Z",
                (credit, held),
                1500,
            ),
            (
                "capture:oldorder3",
                "2026-01-25T10:30:01Z",
                (held, revenue),
                1500,
            ),
            ("refund:4", "2026-02-01T08:00:00Z", (revenue, credit), 200),
            ("owe:5", "2026-02-15T01:10:00Z", (receivable, revenue), 1500),
            ("owe:6", "2026-02-15T01:10:01Z", (receivable, revenue), 1500),
            ("owe:7", "2026-02-15T01:10:02Z", (receivable, revenue), 700),
            (
                "settle:7",
                "2026-02-16T08:00:00Z",
                (credit, receivable),
                700,
            ),
            ("pay:8", "2026-02-17T08:00:00Z", (credit, revenue), 800),
            (
                &format!("hold:{FORWARD}"),
                "2026-02-20T11:50:00Z",
                (credit, held),
                1500,
            ),
            (
                &format!("hold:{UNDOING}"),
                "2026-02-20T11:51:00Z",
                (credit, held),
                1500,
            ),
        ];
        for (id, at, (from, to), amount_minor) in postings {
            let posting = json!({
                "pk": "CLIENT#1", "sk": format!("POSTING#{id}"), "id": id, "client_id": 1, "currency": "EUR", "at": at,
                "amounts_minor": { from: -amount_minor, to: amount_minor },
            });
            self.app.put_json("LEDGER_TABLE", &posting).await;
        }
        self.put_invoices().await;
    }

    async fn put_invoices(&self) {
        let (active, suspended, cancelling) = (
            &self.active.s3uid,
            &self.suspended.s3uid,
            &self.cancelling.s3uid,
        );
        let (january, february) = ("2026-01-15", "2026-02-15");
        let invoices = [
            (
                1,
                1,
                active,
                1500,
                january,
                january,
                Some("2026-01-15T10:30:01Z"),
            ),
            (2, 2, suspended, 1500, january, "2026-01-29", None),
            (
                3,
                3,
                cancelling,
                1500,
                "2026-01-25",
                "2026-01-25",
                Some("2026-01-25T10:30:01Z"),
            ),
            // A credit note.
            (
                4,
                4,
                active,
                -200,
                "2026-02-01",
                "2026-02-01",
                Some("2026-02-01T08:00:00Z"),
            ),
            (5, 5, active, 1500, february, "2026-03-01", None),
            (6, 6, suspended, 1500, february, "2026-03-01", None),
            // Open at first, and paid a day later.
            (
                7,
                7,
                cancelling,
                700,
                february,
                "2026-03-01",
                Some("2026-02-16T08:00:00Z"),
            ),
            (
                8,
                8,
                active,
                800,
                "2026-02-17",
                "2026-02-17",
                Some("2026-02-17T08:00:00Z"),
            ),
        ];
        for (invoice_id, place, s3uid, amount_minor, issued_on, due_on, paid_at) in invoices {
            let line = json!({
                "text": "Standard S3, NL", "from": issued_on, "to": "2026-03-15", "amount_minor": amount_minor, "plan_id": 2,
                "plan_version": 1, "basis": { "component": "recurring" },
            });
            let invoice = json!({
                "pk": "CLIENT#1", "sk": format!("INVOICE#{invoice_id:012}"), "invoice_id": invoice_id,
                "number": format!("1-EUR-{place:04}"), "client_id": 1, "s3uid": s3uid, "currency": "EUR", "amount_minor": amount_minor,
                "lines": [line], "issued_at": format!("{issued_on}T08:00:00Z"), "due_on": due_on, "paid_at": paid_at,
            });
            self.app.put_json("LEDGER_TABLE", &invoice).await;
        }
        // Reminded three times, and the account suspended: the fifth step was to remove the account on 14 March.
        let overdue = json!({
            "pk": "CLIENT#1", "sk": "OPEN#2026-01-29#000000000002", "open": "1", "invoice_id": 2, "client_id": 1, "s3uid": suspended,
            "currency": "EUR", "amount_minor": 1500, "due_on": "2026-01-29", "steps": 4, "act_on": "2026-03-14",
            "suspended_on": "2026-02-12",
        });
        self.app.put_json("LEDGER_TABLE", &overdue).await;
        for (invoice_id, s3uid) in [(5, active), (6, suspended)] {
            let open = json!({
                "pk": "CLIENT#1", "sk": format!("OPEN#2026-03-01#{invoice_id:012}"), "open": "1", "invoice_id": invoice_id,
                "client_id": 1, "s3uid": s3uid, "currency": "EUR", "amount_minor": 1500, "due_on": "2026-03-01", "steps": 0,
                "act_on": "2026-03-01",
            });
            self.app.put_json("LEDGER_TABLE", &open).await;
            let version = json!({ "plan_id": 2, "version": 1 });
            let period = json!({
                "pk": "CLIENT#1", "sk": format!("PERIOD#{s3uid}#2026-01-15"), "s3uid": s3uid, "from": "2026-01-15", "to": "2026-02-15",
                "rated_by": version, "next": version, "currency": "EUR", "invoice_id": invoice_id,
            });
            self.app.put_json("LEDGER_TABLE", &period).await;
        }
    }

    async fn put_orders(&self) {
        let orders = [
            (
                FORWARD,
                "oldForwardoldForwardoldForward01",
                "old-forward",
                "forward",
                (4, 9),
                json!(null),
            ),
            (
                UNDOING,
                "oldUndoingoldUndoingoldUndoing01",
                "old-undoing",
                "undoing",
                (5, 10),
                json!({ "status": 409, "text": "bucket name is already taken" }),
            ),
        ];
        for (order_id, s3uid, bucket_name, state, (account_id, invoice_id), refusal) in orders {
            let secret = SecretString::from("oldsecretoldsecretoldsecretoldsecretolds");
            let ciphertext = self
                .app
                .context()
                .vault
                .encrypt(&S3Uid(s3uid.into()), &secret)
                .await;
            let order = json!({
                "pk": format!("ORDER#{order_id}"), "open": "1", "updated_at": "2026-02-20T11:52:00.000000Z", "order_id": order_id,
                "state": state, "action": "create_order",
                "requested_by": { "name": "client@example.com", "role": "client", "ip": "192.0.2.1" }, "client_id": 1,
                "email": "client@example.com", "billing": "whmcs", "plan_id": 2, "plan_version": 1, "plan_name": "Standard S3",
                "storage_type": "Standard", "quota_gb": 5000, "storage_limit_bytes": null, "location": "NL",
                "bucket_name": bucket_name, "payment": "credit", "currency": "EUR", "amount_minor": 1500, "s3uid": s3uid,
                "account_id": account_id, "invoice_id": invoice_id, "access_key": format!("WHOLDORDER{invoice_id:010}"),
                "secret_key_ciphertext": ciphertext.expect("encrypted"), "idempotency_key": null,
                "created_at": "2026-02-20T11:50:00Z", "lease_until": "2026-02-20T11:52:00Z", "attempts": 1, "refusal": refusal,
                "answer": null,
            });
            self.app.put_json("ORDERS_TABLE", &order).await;
            let bucket = json!({
                "pk": format!("BUCKET#NL#{bucket_name}"), "sk": "BUCKET", "location": "NL", "bucket_name": bucket_name,
                "bucket_owner": s3uid,
            });
            self.app.put_json("ACCOUNTS_TABLE", &bucket).await;
        }
    }

    /// Goes on to noon of a day, and runs what is due on each day on the way.
    async fn on(&mut self, day: Date) {
        while date_of(self.app.now()) < day {
            let tomorrow = date_of(self.app.now()).tomorrow().expect("a day");
            let noon = start_of(tomorrow) + 12.hours();
            self.app.stack.clock().move_to(noon).expect("moved");
            run_the_day(&self.app).await;
        }
        self.app.log_in().await;
    }

    async fn add(&self, amount: &str, reference: &str) -> Value {
        let payment = json!({ "id": 1, "amount": amount, "reference": reference });
        let answer = self.app.call("admin", "add_credit", payment).await.ok();
        drain(&self.app).await;
        answer
    }

    async fn recount(&self) {
        let recount = json!({ "work": "recount", "from": 1, "to": 3 }).to_string();
        let recounted = self.app.handle_directly("billing", &recount).await;
        recounted.expect("it is recounted");
        let events = self.app.context().database.unsent_events(1_000).await;
        let events = events.expect("DynamoDB answers");
        let differences = events
            .iter()
            .filter(|event| event.kind == Kind::LedgerDifference);
        let differences: Vec<_> = differences.map(|event| &event.detail).collect();
        assert!(differences.is_empty(), "{differences:#?}");
        self.app.assert_ledger_is_sound("client").await;
    }

    /// What is open, by invoice.
    async fn open(&self) -> Vec<(u64, i64)> {
        let open = self.app.context().database.open_invoices(ClientId(1)).await;
        let open = open.expect("DynamoDB answers");
        open.iter()
            .map(|open| (open.invoice_id.0, open.open_minor()))
            .collect()
    }

    async fn shown(&self, account: &TestAccount) -> Value {
        let own = json!({ "s3uid": account.s3uid });
        let list = self.app.call("client", "get_users", own).await.ok();
        list["s3_users"][0]["service"].clone()
    }

    async fn suspended_account(&self) -> Account {
        stored(&self.app, &self.suspended.s3uid).await
    }
}

async fn put_account(
    app: &TestApp,
    account: &TestAccount,
    client_id: u64,
    service: &Value,
    period_from: &str,
) {
    let database = &app.context().database;
    let now = database
        .account_by_number(ClientId(client_id), AccountId(account.id))
        .await;
    let now = now.expect("DynamoDB answers").expect("the account");
    let ends_on = &service["cancellation_date"];
    let mut item = json!({
        "pk": format!("ACCOUNT#{}", account.s3uid), "sk": "ACCOUNT", "s3uid": account.s3uid, "id": account.id, "client_id": client_id,
        "email": now.email, "billing": "whmcs", "plan_id": 2, "plan_version": 1, "is_free": false, "location": "NL",
        "storage_type": "Standard", "quota_gb": 5000, "service": service, "access_key": now.access_key,
        "secret_key_ciphertext": now.secret_key_ciphertext, "created_at": "2026-01-15T10:30:01Z", "buckets": 1, "stored_bytes": 0,
        "period_from": period_from, "period_bytes_sent": 0, "period_peak_stored_bytes": 0, "listed_for": client_id,
        "group_key": "PLAN#2#LOCATION#NL#BILLING#whmcs", "commits_on": service["next_commit_date"], "metered_at": "NL",
        "quota_told": "below80", "revision": 3,
    });
    if !ends_on.is_null() {
        item["ending"] = "1".into();
        item["ends_on"] = ends_on.clone();
    }
    app.put_json("ACCOUNTS_TABLE", &item).await;
}

#[tokio::test]
async fn sound_books_of_the_version_before_are_told_of_no_difference_and_credit_pays_debts() {
    let old = start().await;
    let all = [(2, 1500), (5, 1500), (6, 1500)];
    assert_eq!(old.open().await, all);
    old.recount().await;
    // What stood beside the debts has paid the oldest in part.
    assert_eq!(old.open().await, [(2, 502), (5, 1500), (6, 1500)]);
    let balances = old.app.balances("client").await;
    assert_eq!((balances.credit_minor, balances.held_minor), (0, 3_000));
    // Who was suspended still is, and nothing is told that was not decided.
    let shown = old.shown(&old.suspended).await;
    assert_eq!(shown["status"], "suspended");
    assert_eq!(shown["termination_date"], Value::Null);
    old.recount().await;
}

#[tokio::test]
async fn whoever_the_version_before_suspended_is_told_a_day_before_its_data_goes() {
    let mut old = start().await;
    old.on(date(2026, 3, 13)).await;
    let waiting = old.suspended_account().await.service;
    assert_eq!(waiting.status(), Status::Suspended);
    assert_eq!(waiting.termination(), None);
    // The day on which the version before was to remove it: the day is told, as long after it as the calendar has them apart.
    old.on(date(2026, 3, 14)).await;
    let shown = old.shown(&old.suspended).await;
    assert_eq!(shown["status"], "suspended");
    assert_eq!(shown["termination_date"], "2026-04-13");
    assert_eq!(shown["termination_reason"], "unpaid");
    assert_cluster_agrees(&old.app, &old.suspended.s3uid, "told").await;
    // The other account, whose invoice was never chased, goes its own way.
    old.on(date(2026, 3, 15)).await;
    let active = stored(&old.app, &old.active.s3uid).await.service;
    assert_eq!(active.suspension(), Some(Suspension::Unpaid));
    let told = (date(2026, 4, 14), TerminationReason::Unpaid);
    assert_eq!(active.termination(), Some(told));
    old.on(date(2026, 4, 12)).await;
    let waiting = old.suspended_account().await.service;
    assert_eq!(waiting.status(), Status::Suspended);
    old.on(date(2026, 4, 13)).await;
    let gone = old.suspended_account().await;
    assert_eq!(gone.service.status(), Status::Terminated);
    let s3uid = &old.suspended.s3uid;
    assert_cluster_agrees(&old.app, s3uid, "purged").await;
    assert_eq!(history(&old.app, s3uid, "delete_account").await, 1);
    old.recount().await;
}

#[tokio::test]
async fn whoever_the_version_before_suspended_and_pays_in_time_keeps_its_data() {
    let mut old = start().await;
    old.on(date(2026, 3, 20)).await;
    assert!(
        old.suspended_account()
            .await
            .service
            .termination()
            .is_some()
    );
    old.add("1000.00", "all of it").await;
    let paid = old.suspended_account().await.service;
    assert_eq!((paid.status(), paid.termination()), (Status::Active, None));
    assert_cluster_agrees(&old.app, &old.suspended.s3uid, "paid").await;
    old.on(date(2026, 5, 1)).await;
    let kept = old.suspended_account().await.service;
    assert_eq!(kept.status(), Status::Active);
    old.recount().await;
}

#[tokio::test]
async fn open_invoices_of_the_version_before_are_paid_in_part_and_in_full() {
    let old = start().await;
    let answer = old.add("3.00", "a part").await;
    let part = json!([{ "invoice_id": 2, "amount": 3.0, "open": 12.0 }]);
    assert_eq!(answer["paid"], part);
    // The credit that stood beside it followed.
    assert_eq!(old.open().await, [(2, 202), (5, 1500), (6, 1500)]);
    assert_eq!(
        old.suspended_account().await.service.suspension(),
        Some(Suspension::Unpaid)
    );
    let answer = old.add("20.00", "more").await;
    assert_eq!(answer["owed"], 12.02);
    assert_eq!(old.open().await, [(6, 1202)]);
    // What is left is not due yet.
    let lifted = old.suspended_account().await.service;
    assert_eq!(
        (lifted.status(), lifted.suspension()),
        (Status::Active, None)
    );
    assert_cluster_agrees(&old.app, &old.suspended.s3uid, "lifted").await;
    let answer = old.add("20.00", "the rest").await;
    assert_eq!(
        (&answer["owed"], &answer["credit"]),
        (&json!(0.0), &json!(7.98))
    );
    let invoices = old.app.context().database.invoices(ClientId(1)).await;
    for invoice in invoices.expect("DynamoDB answers") {
        assert_eq!(invoice.status(), InvoiceStatus::Paid, "{invoice:?}");
        let paid = match invoice.invoice_id.0 {
            2 | 5 | 6 => 1_500,
            _ => 0,
        };
        assert_eq!(invoice.paid_minor, paid, "{invoice:?}");
        let shown = json!({ "invoice_id": invoice.invoice_id });
        let shown = old.app.call("client", "get_invoice", shown).await.ok();
        assert_eq!(shown["invoice"]["open"], 0.0, "{shown}");
    }
    old.recount().await;
}

#[tokio::test]
async fn orders_of_the_version_before_are_carried_to_their_ends_and_numbers_go_on() {
    let mut old = start().await;
    old.app.run_directly("resume_orders").await.expect("a run");
    let order = async |order_id: &str| {
        let order = old.app.context().database.order(order_id).await;
        order.expect("DynamoDB answers").expect("the order")
    };
    let forward = order(FORWARD).await;
    assert_eq!(forward.state, State::Fulfilled);
    let made = stored(&old.app, &forward.s3uid).await;
    assert_eq!(made.service.status(), Status::Active);
    assert_cluster_agrees(&old.app, &forward.s3uid, "fulfilled").await;
    let undone = order(UNDOING).await;
    assert_eq!(undone.state, State::Undone);
    assert_eq!(undone.refusal.map(|refusal| refusal.status), Some(409));
    let client = old.app.client("client").await;
    assert_eq!(client.accounts, 4);
    // What was held for it, and what stood beside the debts, pays what is owed.
    let balances = old.app.balances("client").await;
    assert_eq!((balances.credit_minor, balances.held_minor), (0, 0));
    assert_eq!(old.open().await, [(5, 502), (6, 1500)]);
    old.recount().await;
    old.on(date(2026, 3, 21)).await;
    let invoices = old.app.context().database.invoices(ClientId(1)).await;
    let invoices = invoices.expect("DynamoDB answers");
    let numbers: Vec<&str> = invoices.iter().map(|i| i.number.as_str()).collect();
    let series: Vec<String> = (1..=invoices.len())
        .map(|place| format!("1-EUR-{place:04}"))
        .collect();
    assert_eq!(numbers, series);
    assert!(invoices.len() >= 11, "{numbers:?}");
    old.recount().await;
}

#[tokio::test]
async fn accounts_that_the_version_before_cancelled_end_on_their_days_or_go_on() {
    let mut old = start().await;
    let shown = old.shown(&old.cancelling).await;
    assert_eq!(shown["cancellation_date"], "2026-02-25");
    assert_eq!(shown["termination_date"], "2026-03-27");
    assert_eq!(shown["termination_reason"], "cancelled");
    old.on(date(2026, 2, 25)).await;
    let s3uid = old.cancelling.s3uid.clone();
    let ended = stored(&old.app, &s3uid).await;
    assert_eq!(ended.service.status(), Status::Terminating);
    assert_cluster_agrees(&old.app, &s3uid, "ended").await;
    old.on(date(2026, 3, 26)).await;
    let kept = stored(&old.app, &s3uid).await;
    assert_eq!(kept.service.status(), Status::Terminating);
    old.on(date(2026, 3, 27)).await;
    let gone = stored(&old.app, &s3uid).await;
    assert_eq!(gone.service.status(), Status::Terminated);

    let old = start().await;
    let own = json!({ "s3uid": old.cancelling.s3uid });
    let undone = old
        .app
        .call("client", "cancel_payment_account_deletion", own);
    assert_eq!(undone.await.ok()["service"]["status"], "active");
    let goes_on = old.app.account_item(&old.cancelling.s3uid).await;
    assert_eq!(
        (goes_on.get("ending"), goes_on.get("ends_on")),
        (None, None)
    );
}

#[tokio::test]
async fn staff_and_the_client_act_on_what_the_version_before_left() {
    let mut old = start().await;
    let own = json!({ "id": 1, "s3uid": old.suspended.s3uid });
    let resumed = old.app.call("admin", "resume_account", own).await.ok();
    assert_eq!(resumed["service"]["status"], "active");
    assert_eq!(resumed["service"]["resumed_until"], "2026-03-06");
    assert_cluster_agrees(&old.app, &old.suspended.s3uid, "resumed").await;
    // Suspended again when that time is over, and a day is told.
    old.on(date(2026, 3, 6)).await;
    let again = old.suspended_account().await.service;
    let told = (date(2026, 4, 5), TerminationReason::Unpaid);
    assert_eq!(again.termination(), Some(told));
    // The day on which the version before was to remove it moves nothing.
    old.on(date(2026, 3, 14)).await;
    let again = old.suspended_account().await.service;
    assert_eq!(
        (again.status(), again.termination()),
        (Status::Suspended, Some(told))
    );

    let change = json!({ "id": 1, "credit_limit": "100", "tags": "s3_test" });
    let changed = old.app.call("admin", "update_client", change).await.ok();
    assert_eq!(changed["client"]["credit_limit"], 100.0);
    let change = json!({ "plan_id": 2, "charge_suspended": "0" });
    old.app.call("admin", "update_plan", change).await.ok();
    let plans = old.app.call("client", "list_plans", json!({})).await.ok();
    let plans = plans["plans"].as_array().expect("a list");
    assert!(plans.iter().any(|plan| plan["id"] == 2), "{plans:?}");
    let change = json!({ "s3uid": old.active.s3uid, "plan_id": 1, "when": "next_commit", "id": 1 });
    old.app.call("admin", "change_plan", change).await.ok();
}

#[tokio::test]
async fn a_credit_note_lowers_what_the_version_before_left_open() {
    let old = start().await;
    let change = json!({ "s3uid": old.active.s3uid, "plan_id": 1, "when": "now", "id": 1 });
    let changed = old.app.call("admin", "change_plan", change).await.ok();
    drain(&old.app).await;
    let given_back = -changed["amount"].as_f64().expect("a number");
    assert!((12.0..13.0).contains(&given_back), "{changed}");
    let left = 1_500 - (given_back * 100.0).round() as i64;
    // And the credit that stood beside the debts pays the oldest.
    assert_eq!(old.open().await, [(2, 502), (5, left), (6, 1500)]);
    old.recount().await;
}

#[tokio::test]
async fn sessions_and_keys_of_the_version_before_go_on_and_end() {
    let app = TestApp::start_idle(&[]).await;
    let key = "0123456789abcdef0123456789abcdef";
    let api_key = json!({
        "pk": format!("API_KEY#{}", hash(key)), "client_id": 3, "name": "old key", "created_at": "2025-12-01T08:00:00Z",
    });
    app.put_json("CREDENTIALS_TABLE", &api_key).await;
    let token = "fedcba9876543210fedcba9876543210";
    let session = json!({
        "pk": format!("TOKEN#{}", hash(token)), "client_id": 3, "role": "admin", "email": "admin@example.com", "fixed_ip": null,
        "expires_at": "2026-01-16T08:00:00Z", "api_key_hash": hash(key), "expires_at_epoch": 1_768_550_400,
    });
    app.put_json("CREDENTIALS_TABLE", &session).await;
    let listed = app.call_as(token, "get_users", json!({})).await;
    listed.ok();
    // What it makes is as good as what a session of today makes.
    let made = json!({ "id": 1, "name": "made in an old session" });
    app.call_as(token, "create_api_key", made).await.ok();
    let login = app.auth("login", json!({ "key": key })).await;
    assert!(login.body["result"]["token"].is_string(), "{}", login.body);
    let revoke = json!({ "api_key_id": hash(key) });
    app.call("admin", "revoke_api_key", revoke).await.ok();
    let refused = app.call_as(token, "get_users", json!({})).await;
    refused.refused(401);
    let refused = app.auth("login", json!({ "key": key })).await;
    assert!(
        refused.body["result"]["token"].is_null(),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn clean_ups_of_the_version_before_are_finished_and_answered() {
    let app = TestApp::start_idle(&[]).await;
    let kept = app.order("client", "kept-account").await;
    let unpaid = app.order("client2", "unpaid-account").await;
    let s3 = app.s3("client", &kept).await;
    for number in 0..5 {
        app.put(&s3, "kept-account", &number.to_string(), 10).await;
    }
    let suspended = json!({
        "status": "suspended", "ordered_on": "2026-01-15", "next_commit_date": "2026-02-15", "cancellation_date": null,
        "termination_date": null, "suspension": "unpaid",
    });
    put_account(&app, &unpaid, 2, &suspended, "2026-01-15").await;
    let bucket_task = format!("remove_bucket:{}:kept-account", kept.s3uid);
    let tasks = [
        (
            bucket_task.clone(),
            json!({ "kind": "remove_bucket", "s3uid": kept.s3uid, "bucket_name": "kept-account" }),
            (1, 10, 100),
        ),
        (
            format!("remove_account:{}", unpaid.s3uid),
            json!({ "kind": "remove_account", "s3uid": unpaid.s3uid, "reason": "unpaid" }),
            (0, 0, 0),
        ),
    ];
    for (task_id, work, (steps, entries, bytes)) in tasks {
        let task = json!({
            "pk": format!("TASK#{task_id}"), "open": "1", "task_id": task_id, "work": work,
            "requested_by": { "name": "billing", "role": "system", "ip": null }, "requested_at": "2026-01-15T10:29:00Z",
            "updated_at": "2026-01-15T10:29:30.000000Z", "steps": steps, "entries_removed": entries, "bytes_removed": bytes,
            "answered_for": null, "answer": null,
        });
        app.put_json("TASKS_TABLE", &task).await;
    }
    let key = "old0key0old0key0old0key0old0key0";
    let callback = json!({
        "pk": format!("CALLBACK#{key}"), "task_id": bucket_task, "action": "delete_bucket", "requested_at": "2026-01-15T10:29:00Z",
        "expires_at_epoch": 1_768_559_340,
    });
    app.put_json("TASKS_TABLE", &callback).await;
    assert_eq!(app.check(key).await.body["result"], "Not ready");
    app.let_pass(SignedDuration::from_mins(11));
    app.run_directly("resume_tasks").await.expect("a run");
    drain(&app).await;
    let scope = app.check(key).await.ok()["scope"].clone();
    assert_eq!(scope["entries_removed"], 15, "{scope}");
    assert_eq!(app.check(key).await.refused(404), "AsyncKey not found");
    let gone = stored(&app, &unpaid.s3uid).await;
    assert_eq!(gone.service.status(), Status::Terminated);
    assert_cluster_agrees(&app, &unpaid.s3uid, "removed").await;
}

/// A segment of 20 February 2026, 09:00, as the version before wrote it: without classes of requests and calls of Wharfage's own.
const OLD_SEGMENT: &str = concat!(
    "UEFSMRUEFUgVPkwVAhUAEgAAKLUv/SAktQAAgCAAAABvbGRTZWdtZW50MDEBAKWLEhUAFQQVFiwVAhUQFQYVBgAAKLUv/SACEQAAAAIVBBUeFTBMFQIVABIAACi1L/0gD3",
    "kAAAsAAABvbGQtc2VnbWVudBUAFQQVFiwVAhUQFQYVBgAAKLUv/SACEQAAAAIVBBUQFSJMFQIVABIAACi1L/0gCEEAAIACR3qcAQAAFQAVBBUWLBUCFRAVBhUGAAAotS/9",
    "IAIRAAAAAhUEFRAVIkwVAhUAEgAAKLUv/SAIQQAA6AMAAAAAAAAVABUQFSIsFQIVEBUGFQYAACi1L/0gCEEAAAIAAAACAQACFQQVEBUiTBUCFQASAAAotS/9IAhBAAACAA",
    "AAAAAAABUAFRAVIiwVAhUQFQYVBgAAKLUv/SAIQQAAAgAAAAIBAAIVBBUQFSJMFQIVABIAACi1L/0gCEEAAAAAAAAAAAAAFQAVEBUiLBUCFRAVBhUGAAAotS/9IAhBAAAC",
    "AAAAAgEAAhUEFRAVIkwVAhUAEgAAKLUv/SAIQQAAAAAAAAAAAAAVABUQFSIsFQIVEBUGFQYAACi1L/0gCEEAAAIAAAACAQACFQQVEBUiTBUCFQASAAAotS/9IAhBAABGAA",
    "AAAAAAABUAFRAVIiwVAhUQFQYVBgAAKLUv/SAIQQAAAgAAAAIBAAIVBBUQFSJMFQIVABIAACi1L/0gCEEAAAQAAAAAAAAAFQAVEBUiLBUCFRAVBhUGAAAotS/9IAhBAAAC",
    "AAAAAgEAAhUEFRAVIkwVAhUAEgAAKLUv/SAIQQAABQAAAAAAAAAVABUQFSIsFQIVEBUGFQYAACi1L/0gCEEAAAIAAAACAQACFQAVAhUULBUCFQAVBhUGAAAotS/9IAEJAA",
    "AAFQQVEBUiTBUCFQASAAAotS/9IAhBAAAA8X16nAEAABUAFQQVFiwVAhUQFQYVBgAAKLUv/SACEQAAAAIZEgIZGCBvbGRTZWdtZW50b2xkU2VnbWVudG9sZFNlZ21lbnQw",
    "MRkYIG9sZFNlZ21lbnRvbGRTZWdtZW50b2xkU2VnbWVudDAxFQIZFgAAGRICGRgLb2xkLXNlZ21lbnQZGAtvbGQtc2VnbWVudBUCGRYAABkSAhkYCIACR3qcAQAAGRgIgA",
    "JHepwBAAAVAhkWAAAZEgIZGAjoAwAAAAAAABkYCOgDAAAAAAAAFQIZFgApJgACABkSAhkYCAIAAAAAAAAAGRgIAgAAAAAAAAAVAhkWACkmAAIAGRICGRgIAAAAAAAAAAAZ",
    "GAgAAAAAAAAAABUCGRYAKSYAAgAZEgIZGAgAAAAAAAAAABkYCAAAAAAAAAAAFQIZFgApJgACABkSAhkYCEYAAAAAAAAAGRgIRgAAAAAAAAAVAhkWACkmAAIAGRICGRgIBA",
    "AAAAAAAAAZGAgEAAAAAAAAABUCGRYAKSYAAgAZEgIZGAgFAAAAAAAAABkYCAUAAAAAAAAAFQIZFgApJgACABkSAhkYAQAZGAEAFQIZFgAAGRICGRgIAPF9epwBAAAZGAgA",
    "8X16nAEAABUCGRYAABkcFmIVOBYAABkWQAAZHBbmARU4FgAAGRYWABkcFtwCFTgWAAAAGRwW0gMVRBYAAAAZHBbUBBVEFgAAABkcFtYFFUQWAAAAGRwW2AYVRBYAAAAZHB",
    "baBxVEFgAAABkcFtwIFUQWAAAAGRwW3gkVRBYAAAAZHBaiChU2FgAAABkcFpYLFTgWAAAAFQIZ3EgGc2FtcGxlFRgAFQwlABgFczN1aWQlAEwcAAAAFQwlABgLYnVja2V0",
    "X25hbWUlAEwcAAAAFQQlABgEaG91ciUSTIwRHBwAAAAAABUEJQIYDHN0b3JlZF9ieXRlcwAVBCUCGAdvYmplY3RzABUEJQIYEG5vbmN1cnJlbnRfYnl0ZXMAFQQlAhgPbX",
    "VsdGlwYXJ0X2J5dGVzABUEJQIYCmJ5dGVzX3NlbnQAFQQlAhgOYnl0ZXNfcmVjZWl2ZWQAFQQlAhgIcmVxdWVzdHMAFQAlABgIaXNfcmVzZXQAFQQlABgMY29sbGVjdGVk",
    "X2F0JRJMjBEcHAAAAAAAFgIZHBnMJgAcFQwZNQAGEBkYBXMzdWlkFQwWAhaKARaSASZiJggcNgAoIG9sZFNlZ21lbnRvbGRTZWdtZW50b2xkU2VnbWVudDAxGCBvbGRTZW",
    "dtZW50b2xkU2VnbWVudG9sZFNlZ21lbnQwMRERABksFQQVABUCABUAFRAVAgA8FkAAABa+EhUaFs4LFZ4BACYAHBUMGTUABhAZGAtidWNrZXRfbmFtZRUMFgIWYBaEASbm",
    "ASaaARw2ACgLb2xkLXNlZ21lbnQYC29sZC1zZWdtZW50EREAGSwVBBUAFQIAFQAVEBUCADwWFgAAFtgSFRwW7AwVSgAmABwVBBk1AAYQGRgEaG91chUMFgIWUhZ2JtwCJp",
    "4CHBgIgAJHepwBAAAYCIACR3qcAQAAFgAoCIACR3qcAQAAGAiAAkd6nAEAABERABksFQQVABUCABUAFRAVAgAAFvQSFRYWtg0VPgAmABwVBBk1AAYQGRgMc3RvcmVkX2J5",
    "dGVzFQwWAhZeFoIBJtIDJpQDHBgI6AMAAAAAAAAYCOgDAAAAAAAAFgAoCOgDAAAAAAAAGAjoAwAAAAAAABERABksFQQVABUCABUAFRAVAgA8OSYAAgAAFooTFRYW9A0VRg",
    "AmABwVBBk1AAYQGRgHb2JqZWN0cxUMFgIWXhaCASbUBCaWBBwYCAIAAAAAAAAAGAgCAAAAAAAAABYAKAgCAAAAAAAAABgIAgAAAAAAAAAREQAZLBUEFQAVAgAVABUQFQIA",
    "PDkmAAIAABagExUWFroOFUYAJgAcFQQZNQAGEBkYEG5vbmN1cnJlbnRfYnl0ZXMVDBYCFl4WggEm1gUmmAUcGAgAAAAAAAAAABgIAAAAAAAAAAAWACgIAAAAAAAAAAAYCA",
    "AAAAAAAAAAEREAGSwVBBUAFQIAFQAVEBUCADw5JgACAAAWthMVFhaADxVGACYAHBUEGTUABhAZGA9tdWx0aXBhcnRfYnl0ZXMVDBYCFl4WggEm2AYmmgYcGAgAAAAAAAAA",
    "ABgIAAAAAAAAAAAWACgIAAAAAAAAAAAYCAAAAAAAAAAAEREAGSwVBBUAFQIAFQAVEBUCADw5JgACAAAWzBMVFhbGDxVGACYAHBUEGTUABhAZGApieXRlc19zZW50FQwWAh",
    "ZeFoIBJtoHJpwHHBgIRgAAAAAAAAAYCEYAAAAAAAAAFgAoCEYAAAAAAAAAGAhGAAAAAAAAABERABksFQQVABUCABUAFRAVAgA8OSYAAgAAFuITFRYWjBAVRgAmABwVBBk1",
    "AAYQGRgOYnl0ZXNfcmVjZWl2ZWQVDBYCFl4WggEm3AgmnggcGAgEAAAAAAAAABgIBAAAAAAAAAAWACgIBAAAAAAAAAAYCAQAAAAAAAAAEREAGSwVBBUAFQIAFQAVEBUCAD",
    "w5JgACAAAW+BMVFhbSEBVGACYAHBUEGTUABhAZGAhyZXF1ZXN0cxUMFgIWXhaCASbeCSagCRwYCAUAAAAAAAAAGAgFAAAAAAAAABYAKAgFAAAAAAAAABgIBQAAAAAAAAAR",
    "EQAZLBUEFQAVAgAVABUQFQIAPDkmAAIAABaOFBUWFpgRFUYAJgAcFQAZJQAGGRgIaXNfcmVzZXQVDBYCFiQWNiaiCjw2ACgBABgBABERABkcFQAVABUCAAAWpBQVFhbeER",
    "UiACYAHBUEGTUABhAZGAxjb2xsZWN0ZWRfYXQVDBYCFlIWdiaWCybYChwYCADxfXqcAQAAGAgA8X16nAEAABYAKAgA8X16nAEAABgIAPF9epwBAAAREQAZLBUEFQAVAgAV",
    "ABUQFQIAABa6FBUWFoASFT4AFsQIFgImCBbGCxQAACgId2hhcmZhZ2UZzBwAABwAABwAABwAABwAABwAABwAABwAABwAABwAABwAABwAAACVBgAAUEFSMQ==",
);

#[tokio::test]
async fn segments_of_the_version_before_are_read_and_count() {
    let old = start().await;
    let app = &old.app;
    let s3uid = S3Uid("oldSegmentoldSegmentoldSegment01".into());
    let service = json!({
        "status": "active", "ordered_on": "2026-01-15", "next_commit_date": "2026-03-15", "cancellation_date": null,
        "termination_date": null, "suspension": null,
    });
    let account = TestAccount {
        s3uid: s3uid.clone(),
        ..old.active.clone()
    };
    put_account(app, &account, 1, &service, "2026-02-15").await;
    let key = SegmentKey {
        location: "NL".into(),
        hour: "2026-02-20T09:00:00Z".parse().expect("a time"),
        shard: 0,
    };
    let file = base64::engine::general_purpose::STANDARD.decode(OLD_SEGMENT);
    app.put_segment(&key.to_string(), file.expect("base64"))
        .await;
    let read = app.context().segments.get(&key).await.expect("read");
    let read = read.expect("a segment");
    let sample = &read[0];
    assert_eq!((sample.bytes_sent, sample.requests), (Some(70), Some(5)));
    assert_eq!((sample.classes, sample.own), (None, None));
    let day = date(2026, 2, 20);
    let whose = Whose::Account(s3uid.clone());
    let rebuilt = rebuild(app.context(), &whose, (day, day), false, |_| {}).await;
    assert_eq!(rebuilt.expect("rebuilt").differing, 1);
    let counted = stored(app, &s3uid).await;
    assert_eq!(
        (counted.stored_bytes, counted.period_bytes_sent),
        (1_000, 70)
    );
}
