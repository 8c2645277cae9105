//! Many orders and closings of one client at once: none is lost, none fails for the others' sake, and the numbers have no gaps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use jiff::civil::date;
use serde_json::json;
use tests::TestApp;
use wharfage::domain::billing::BillingWork;

/// DynamoDB as it is where others write the same balances all the time: so many writes of them are turned away first.
#[derive(Debug)]
struct Crowded {
    services: SharedHttpConnector,
    turned_away: Arc<AtomicUsize>,
    at_most: usize,
}

impl HttpConnector for Crowded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let answer = match target.rsplit('.').next() {
            _ if !String::from_utf8_lossy(body).contains("BALANCES#") => None,
            Some("TransactWriteItems") => Some(json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "Transaction cancelled",
                "CancellationReasons": [{ "Code": "TransactionConflict" }],
            })),
            Some("UpdateItem") => Some(json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
                "message": "Transaction is ongoing for the item",
            })),
            _ => None,
        };
        match answer {
            Some(answer) if self.turned_away.fetch_add(1, Ordering::SeqCst) < self.at_most => {
                let status = 400u16.try_into().expect("a status");
                let answer = HttpResponse::new(status, SdkBody::from(answer.to_string()));
                HttpConnectorFuture::ready(Ok(answer))
            }
            _ => self.services.call(request),
        }
    }
}

async fn order_where_it_is_crowded(at_most: usize) -> (TestApp, tests::Reply, usize) {
    let app = TestApp::start_idle(&[]).await;
    let turned_away = Arc::new(AtomicUsize::new(0));
    let connector = SharedHttpConnector::new(Crowded {
        services: app.tap.connector(),
        turned_away: Arc::clone(&turned_away),
        at_most,
    });
    let context = app.context_over(connector);
    let order = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
    let reply = app.call_in(&context, "client", "create_order", order).await;
    let writes = turned_away.load(Ordering::SeqCst);
    (app, reply, writes)
}

#[tokio::test]
async fn an_order_goes_through_although_others_write_the_same_balances() {
    let (app, reply, writes) = order_where_it_is_crowded(2).await;
    reply.ok();
    // Two more than it takes.
    assert_eq!(writes, 2 + 3);
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn an_order_that_is_turned_away_is_told_before_anything_was_begun() {
    let (app, reply, _) = order_where_it_is_crowded(usize::MAX).await;
    assert_eq!(reply.retry_after, Some(1));
    assert_eq!(
        reply.refused(429),
        "s3/create_order: too many orders of this customer at once, try again"
    );
    assert_eq!(app.client("client").await.accounts, 0);
    assert_eq!(app.balances("client").await.held_minor, 0);
    let orders = app
        .context()
        .database
        .abandoned_orders(app.now() + jiff::SignedDuration::from_hours(1), 10)
        .await;
    assert!(orders.expect("DynamoDB answers").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_orders_of_one_client_at_once_all_become_accounts() {
    let app = TestApp::start_idle(&[]).await;
    app.top_up("client", "for much", 10_000_000).await;
    let orders = (0..96).map(|number| {
        let order = json!({ "plan_id": 2, "bucket_name": format!("at-once-{number}") });
        app.call("client", "create_order", order)
    });
    for reply in futures::future::join_all(orders).await {
        reply.ok();
    }
    assert_numbers_have_no_gap(&app, 96).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_periods_of_one_client_are_closed_at_once() {
    let app = TestApp::start_idle(&[]).await;
    app.top_up("client", "for much", 10_000_000).await;
    let mut accounts = Vec::new();
    for number in 0..48 {
        accounts.push(app.order("client", &format!("closing-{number}")).await);
    }
    let then = "2026-02-15T01:30:00Z".parse().expect("a time");
    app.stack.clock().move_to(then).expect("moved");
    let closings = accounts.iter().map(|account| async {
        let work = BillingWork::Close {
            s3uid: account.s3uid.clone(),
            commits_on: date(2026, 2, 15),
        };
        let body = serde_json::to_string(&work).expect("a message");
        app.handle_directly("billing", &body).await
    });
    for closed in futures::future::join_all(closings).await {
        closed.expect("none is in the other's way");
    }
    assert_numbers_have_no_gap(&app, 96).await;
}

async fn assert_numbers_have_no_gap(app: &TestApp, count: usize) {
    app.assert_ledger_is_sound("client").await;
    let invoices = app
        .context()
        .database
        .invoices(app.client_id("client"))
        .await;
    let invoices = invoices.expect("DynamoDB answers");
    let numbers: BTreeSet<String> = invoices.iter().map(|i| i.number.clone()).collect();
    let series: BTreeSet<String> = (1..=count).map(|n| format!("1-EUR-{n:04}")).collect();
    assert_eq!(numbers, series);
    assert_eq!(invoices.len(), count);
}
