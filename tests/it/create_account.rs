//! `create_account`.

use insta::assert_json_snapshot;
use jiff::SignedDuration;
use jiff::civil::date;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::{Example, GoodCall};
use tests::tap::Moment;
use wharfage::domain::money::Currency;

const ACTION: &str = "create_account";
const LEASE_AND_MORE: SignedDuration = SignedDuration::from_secs(61);

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let order = prepare.order_parameters();
            Box::pin(async { GoodCall::by_client(order) })
        },
        crate::create_order::on_orders,
    )
    .needs_the_cluster()
);

#[tokio::test]
async fn create_account_leaves_its_invoice_open() {
    let app = TestApp::start().await;
    app.spend_all_credit("client").await;
    let parameters = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));

    let client_id = app.client_id("client");
    let database = &app.context().database;
    let currency = Currency::from_code("EUR").expect("EUR");
    let balances = database
        .balances(client_id, currency)
        .await
        .expect("balances");
    assert_eq!((balances.credit_minor, balances.held_minor), (0, 0));
    assert_eq!(
        (balances.receivable_minor, balances.revenue_minor),
        (-1_500, 1_500)
    );
    let postings = database.postings(client_id).await.expect("postings");
    assert!(
        postings
            .iter()
            .all(|posting| posting.amounts_minor.values().sum::<i64>() == 0)
    );
    assert_eq!(balances.sum_minor(), 0);

    let invoices = database.invoices(client_id).await.expect("invoices");
    assert_eq!(invoices.len(), 1);
    assert_eq!(body["invoice_id"], invoices[0].invoice_id.0);
    assert_eq!(
        (invoices[0].amount_minor, invoices[0].paid_at),
        (1_500, None)
    );
    assert_eq!(invoices[0].due_on, date(2026, 1, 29));
    assert_eq!(body["s3uid"], invoices[0].s3uid.as_str());
}

#[tokio::test]
async fn create_account_takes_the_days_until_an_invoice_is_due_from_the_operator() {
    let app = TestApp::with(&[("InvoiceDueDays", "3")]).start().await;
    app.spend_all_credit("client2").await;
    let parameters = json!({ "plan_id": 3, "bucket_name": "my-bucket", "location": "DE" });
    app.call("client2", ACTION, parameters).await.ok();
    let database = &app.context().database;
    let invoices = database
        .invoices(app.client_id("client2"))
        .await
        .expect("invoices");
    assert_eq!(invoices[0].due_on, date(2026, 1, 18));
    assert_eq!(
        (invoices[0].amount_minor, invoices[0].currency.code()),
        (825, "USD")
    );
}

#[tokio::test]
async fn create_account_needs_no_credit_and_no_invoice_for_a_free_plan() {
    let app = TestApp::start().await;
    let free = json!({ "plan_id": 1, "bucket_name": "my-bucket" });
    let body = app.call("client", ACTION, free).await.ok();
    assert_eq!(body["invoice_id"], Value::Null);
    let database = &app.context().database;
    assert!(
        database
            .invoices(app.client_id("client"))
            .await
            .expect("invoices")
            .is_empty()
    );
    // An admin's own account on a paid plan: there is no credit to take it from, and none is needed.
    let paid = json!({ "plan_id": 2, "bucket_name": "other-bucket" });
    let body = app.call("admin", ACTION, paid).await.ok();
    assert!(body["invoice_id"].is_u64());
    let again = json!({ "plan_id": 1, "bucket_name": "third-bucket" });
    let reply = app.call("client", ACTION, again).await;
    assert_eq!(
        reply.refused(403),
        text(ACTION, "the limit of free S3 accounts is reached")
    );
}

/// The reference: "s3/create_order: missing auth token".
#[tokio::test]
async fn create_account_speaks_as_create_order_when_it_refuses() {
    let app = TestApp::start().await;
    let reply = app.post_form("/s3/create_account", &json!({})).await;
    assert_eq!(reply.refused(401), "s3/create_order: missing auth token");
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "plan_id": 99, "bucket_name": "my-bucket" }),
    };
    contract.refuses_bad_tokens().await;
    contract.refuses_missing(&["plan_id", "bucket_name"]).await;
    contract.takes_a_number("plan_id", 1, i64::MAX as u64).await;
    contract.takes_a_line("bucket_name").await;
    contract.takes_a_line("location").await;
    let reply = app
        .call("client", ACTION, contract.parameters.clone())
        .await;
    assert_eq!(reply.refused(404), "s3/create_order: S3 plan not found");
    app.order("client2", "my-bucket").await;
    let taken = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
    let reply = app.call("client", ACTION, taken).await;
    assert_eq!(
        reply.refused(409),
        "s3/create_order: bucket name is already taken"
    );
    let database = &app.context().database;
    assert!(
        database
            .invoices(app.client_id("client"))
            .await
            .expect("invoices")
            .is_empty()
    );
}

#[tokio::test]
async fn create_account_repeats_its_answer_for_a_repeated_idempotency_key() {
    let app = TestApp::start().await;
    let parameters = json!({ "plan_id": 2, "bucket_name": "my-bucket", "idempotency_key": "k" });
    let first = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_eq!(app.call("client", ACTION, parameters).await.ok(), first);
    let database = &app.context().database;
    let invoices = database
        .invoices(app.client_id("client"))
        .await
        .expect("invoices");
    assert_eq!(invoices.len(), 1);
}

#[tokio::test]
async fn create_account_numbers_the_invoices_of_many_orders_at_once_without_gaps() {
    let app = TestApp::start_idle(&[]).await;
    let orders = (0..20).map(|number| {
        let parameters = json!({ "plan_id": 2, "bucket_name": format!("bucket-{number}") });
        app.call("client", ACTION, parameters)
    });
    for reply in futures::future::join_all(orders).await {
        reply.ok();
    }
    let database = &app.context().database;
    let invoices = database
        .invoices(app.client_id("client"))
        .await
        .expect("invoices");
    let mut numbers: Vec<String> = invoices.into_iter().map(|invoice| invoice.number).collect();
    numbers.sort_unstable();
    let wanted: Vec<String> = (1..=20)
        .map(|number| format!("1-EUR-{number:04}"))
        .collect();
    assert_eq!(numbers, wanted);
}

#[tokio::test]
async fn create_account_is_finished_by_a_repetition_with_its_idempotency_key() {
    let app = TestApp::start_idle(&[]).await;
    let parameters = json!({
        "plan_id": 2, "bucket_name": "begun-twice", "idempotency_key": "k-1",
    });
    // It dies once the order stands, before what it is for does.
    for index in 0.. {
        let work = app.call_directly("client", ACTION, parameters.clone());
        let died = app.tap.crash_at(index, Moment::After, work).await.is_none();
        assert!(died, "the order came to its end");
        let later = app.now() + LEASE_AND_MORE;
        let open = app.context().database.abandoned_orders(later, 1).await;
        if !open.expect("orders").is_empty() {
            break;
        }
    }
    app.let_pass(LEASE_AND_MORE);
    let made = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_eq!(made["bucket_name"], "begun-twice");
    assert_eq!(app.call("client", ACTION, parameters).await.ok(), made);
}
