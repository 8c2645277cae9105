//! `preview_invoice`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked};
use tests::examples::Example;
use tests::usage::SetDay;
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::usage::{Day, Moved, Stored};

use crate::free_allowances::{ALL_SENT, ALL_STORED};
use crate::{change_plan, free_allowances, own_calls};

const ACTION: &str = "preview_invoice";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(prepare.with_account(json!({}))),
    |scene| scene.on_accounts(json!({})),
));

#[tokio::test]
async fn preview_invoice_is_the_next_price_and_what_was_used_so_far() {
    let mut app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    // What is set here is to stay: nothing is collected for this account.
    app.leave_out_of_collection(&account.s3uid).await;
    let parameters = json!({ "s3uid": account.s3uid });
    let fresh = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_eq!(fresh["amount"], 15.0);
    assert_eq!(fresh["lines"].as_array().expect("a list").len(), 1);
    assert_eq!(fresh["as_of"], "2026-01-15");

    let day = Day {
        stored: vec![Stored {
            hour: 0,
            bytes: 7_500 << 30,
        }],
        moved: vec![Moved {
            hour: 5,
            bytes_sent: 1_100 << 30,
            bytes_received: 7,
            requests: 3,
        }],
    };
    let ordered_on = "2026-01-15".parse().expect("a date");
    let database = &app.context().database;
    database
        .set_day(&account.s3uid, ordered_on, &day)
        .await
        .expect("written");
    app.stack
        .advance_to("2026-01-20T00:00:00Z".parse().expect("a time"))
        .await
        .expect("time passes");
    app.log_in().await;
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    let by_admin = json!({ "account_id": account.id, "id": app.client_id("client") });
    assert_eq!(app.call("admin", ACTION, by_admin).await.ok(), body);
    // Looking makes no invoice.
    let list = app.call("client", "list_invoices", json!({})).await.ok();
    assert_eq!(list["invoices"].as_array().expect("a list").len(), 1);

    // At its end the period comes to what was shown last.
    app.stack
        .advance_to("2026-02-14T23:59:59Z".parse().expect("a time"))
        .await
        .expect("time passes");
    app.log_in().await;
    let last = app.call("client", ACTION, parameters).await.ok();
    app.stack
        .advance_to("2026-02-15T06:00:00Z".parse().expect("a time"))
        .await
        .expect("time passes");
    app.log_in().await;
    let list = app.call("client", "list_invoices", json!({})).await.ok();
    let invoice = json!({ "invoice_id": list["invoices"][0]["invoice_id"] });
    let invoice = app.call("client", "get_invoice", invoice).await.ok();
    assert_eq!(invoice["invoice"]["amount"], last["amount"]);
    assert_eq!(invoice["invoice"]["lines"], last["lines"]);
}

#[tokio::test]
async fn preview_invoice_of_what_is_cancelled_has_no_next_price() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_payment_account", parameters.clone())
        .await
        .ok();
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_eq!((&body["amount"], &body["lines"]), (&json!(0.0), &json!([])));
}

#[tokio::test]
async fn preview_invoice_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid"]).await;
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn preview_invoice_prices_the_plan_of_the_next_period() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = change_plan::large(&app, json!({})).await;
    change_plan::change(&app, &account, large_id, "next_commit").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_eq!(body["plan_id"], 2);
    assert_eq!(body["next_plan_id"], large_id);
    assert_eq!(body["amount"], 31.0);
}

#[tokio::test]
async fn preview_invoice_of_a_period_on_two_plans_is_what_its_invoice_says() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let large_id = change_plan::large(&app, json!({})).await;
    change_plan::use_storage(
        &app,
        &account,
        &[("2026-01-15", 0, 5_100), ("2026-01-25", 12, 6_100)],
        &[("2026-01-25", 9, 500), ("2026-01-25", 10, 700)],
    )
    .await;
    change_plan::wait_until(&mut app, change_plan::CHANGE).await;
    change_plan::change(&app, &account, large_id, "now").await;
    change_plan::wait_until(&mut app, change_plan::CLOSING).await;
    let parameters = json!({ "s3uid": account.s3uid });
    let body = app.call("client", ACTION, parameters).await.ok();
    change_plan::close(&app, &account).await;
    let invoice = change_plan::latest_invoice(&app, &account).await;
    assert!(
        body["lines"].as_array().expect("a list").len() > 2,
        "{body}"
    );
    assert_eq!(body["lines"], invoice["lines"]);
}

#[tokio::test]
async fn preview_invoice_includes_what_accounts_before_it_left_of_the_months_allowances() {
    let mut app = TestApp::start_idle(&[]).await;
    let plan_id = free_allowances::plan(&app, 1, "7.44").await;
    let first = free_allowances::order(&app, "client", &plan_id, "first").await;
    free_allowances::move_on(&mut app, "2026-01-15T11:30:00Z").await;
    free_allowances::remove(&app, "client", &first).await;
    let second = free_allowances::order(&app, "client", &plan_id, "second").await;
    for (hour, accounts) in [
        ("2026-01-15T10:00:00Z", &[(&first, ALL_STORED, 0)][..]),
        (
            "2026-01-15T11:00:00Z",
            &[(&first, 0, ALL_SENT), (&second, ALL_STORED / 2, GB_BYTES)],
        ),
    ] {
        free_allowances::report(&app, hour, accounts).await;
    }
    let parameters = json!({ "s3uid": second.s3uid });
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_eq!(body["amount"], 75.4, "{body}");
}

#[tokio::test]
async fn preview_invoice_has_no_traffic_of_wharfages_own_calls() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    for search in [json!({}), json!({ "search": "nothing" })] {
        own_calls::get_files(&app, &account, search).await;
    }
    let file = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket", "filename": "none" });
    app.call("client", "delete_file", file).await.ok();
    own_calls::collect(&app).await;
    let parameters = json!({ "s3uid": account.s3uid });
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_eq!(body["usage"]["total_traffic_period_gb"], 0.0);
}
