//! Periods closed, invoices paid or chased, services ended.

use jiff::{SignedDuration, ToSpan};
use serde_json::json;
use tests::TestApp;
use wharfage::domain::account::{S3Uid, Status, Suspension};
use wharfage::domain::client::ClientId;
use wharfage::domain::money::Currency;

fn eur() -> Currency {
    Currency::from_code("EUR").expect("EUR")
}

#[tokio::test]
async fn a_month_is_renewed_from_credit_on_its_commit_date() {
    let app = TestApp::start().await;
    let account = app.order("client", "renewed").await;
    app.stack
        .advance_to("2026-02-15T06:00:00Z".parse().expect("time"))
        .await
        .expect("advance");
    let invoices = app.invoices("client").await;
    assert_eq!(invoices.len(), 2);
    assert_eq!(invoices[1].amount_minor, 1500);
    assert_eq!(invoices[1].lines[0].from.to_string(), "2026-02-15");
    assert_eq!(invoices[1].lines[0].to.to_string(), "2026-03-15");
    assert!(invoices[1].paid_at.is_some());
    let stored = app
        .context()
        .database
        .account(&account.s3uid)
        .await
        .expect("account")
        .expect("account");
    assert_eq!(stored.service.next_commit_date.to_string(), "2026-03-15");
    let balances = app
        .context()
        .database
        .balances(ClientId(1), eur())
        .await
        .expect("balances");
    assert_eq!(
        (
            balances.credit_minor,
            balances.revenue_minor,
            balances.sum_minor()
        ),
        (17_000, 3_000, 0)
    );
}

#[tokio::test]
async fn an_unpaid_account_is_reminded_suspended_paid_and_resumed() {
    let mut app = TestApp::start().await;
    app.spend_all_credit("client").await;
    let body = app
        .call(
            "client",
            "create_account",
            json!({ "plan_id": 2, "bucket_name": "unpaid" }),
        )
        .await
        .ok();
    let s3uid = S3Uid(body["s3uid"].as_str().expect("s3uid").to_owned());
    let context = std::sync::Arc::clone(app.context());
    let database = &context.database;
    // Issued on 15 January, due on the 29th, suspended 14 days after that.
    app.stack
        .advance_to("2026-02-12T12:00:00Z".parse().expect("time"))
        .await
        .expect("advance");
    let account = database
        .account(&s3uid)
        .await
        .expect("account")
        .expect("account");
    assert_eq!(account.service.status(), Status::Suspended);
    assert_eq!(account.service.suspension(), Some(Suspension::Unpaid));
    app.log_in().await;
    let refused = app
        .call(
            "client",
            "create_bucket",
            json!({ "s3uid": s3uid, "bucket_name": "more" }),
        )
        .await;
    assert_eq!(
        refused.refused(403),
        "s3/create_bucket: S3 account is suspended: an invoice is overdue"
    );
    let reminders = app
        .stack
        .events()
        .iter()
        .filter(|e| e["detail-type"] == "invoice.reminder")
        .count();
    assert_eq!(reminders, 4, "{:#?}", app.stack.events());
    // Paid late.
    app.top_up("client", "late", 5_000).await;
    app.stack.advance(1.day()).await.expect("advance");
    let work = json!({ "work": "settle", "client_id": 1 }).to_string();
    app.handle_directly("billing", &work).await.expect("settle");
    let account = database
        .account(&s3uid)
        .await
        .expect("account")
        .expect("account");
    assert_eq!(
        (account.service.status(), account.service.suspension()),
        (Status::Active, None)
    );
    assert!(
        database
            .open_invoices(ClientId(1))
            .await
            .expect("open")
            .is_empty()
    );
}

#[tokio::test]
async fn a_cancelled_account_ends_on_its_dates() {
    let mut app = TestApp::start().await;
    let account = app.order("client", "cancelled").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "cancelled", "a", 10).await;
    app.call(
        "client",
        "delete_payment_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    app.stack
        .advance_to("2026-02-15T02:00:00Z".parse().expect("time"))
        .await
        .expect("advance");
    let refused = s3.get_object().bucket("cancelled").key("a").send().await;
    assert!(refused.is_err(), "the keys still work");
    app.log_in().await;
    let reply = app
        .call(
            "client",
            "cancel_payment_account_deletion",
            json!({ "s3uid": account.s3uid }),
        )
        .await;
    assert_eq!(
        reply.refused(409),
        "s3/cancel_payment_account_deletion: S3 account is being deleted"
    );
    app.stack
        .advance_to("2026-03-17T06:00:00Z".parse().expect("time"))
        .await
        .expect("advance");
    let stored = app
        .context()
        .database
        .account(&account.s3uid)
        .await
        .expect("account")
        .expect("account");
    assert_eq!(stored.service.status(), Status::Terminated);
    assert_eq!(stored.commits_on, None);
    assert_eq!(app.invoices("client").await.len(), 1);
}

#[tokio::test]
async fn accounts_that_cannot_end_keep_no_others_waiting() {
    let app = TestApp::start_idle(&[]).await;
    // Due since long ago and first in the index again in every run, as where a location does not answer: more than one query finds.
    for number in 0..1_000 {
        let s3uid = format!("stuck{number}");
        let ending = [
            ("pk", s3uid.as_str()),
            ("sk", "account"),
            ("ending", "1"),
            ("ends_on", "2025-01-01"),
            ("s3uid", s3uid.as_str()),
            ("location", "NL"),
        ];
        app.put_item("ACCOUNTS_TABLE", &ending).await;
    }
    let other = app.order("client", "cancelled").await;
    let s3uid = json!({ "s3uid": other.s3uid });
    app.call("client", "delete_payment_account", s3uid)
        .await
        .ok();
    app.let_pass(SignedDuration::from_hours(24 * 31));
    let sent = app.run_directly("end_services").await.expect("a run");
    assert_eq!(sent["sent"], 1_001);
}
