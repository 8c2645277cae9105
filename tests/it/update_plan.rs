//! `update_plan`.

use std::collections::BTreeSet;

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, text};
use tests::examples::{Example, GoodCall, Scene};
use tests::usage::SetDay;
use wharfage::domain::account::S3Uid;
use wharfage::domain::plan::PlanId;
use wharfage::domain::usage::{Day, Stored};

const ACTION: &str = "update_plan";

inventory::submit!(
    Example::new(
        ACTION,
        |_| {
            let call = GoodCall::by_admin(json!({ "plan_id": 3, "quota": 1 }));
            Box::pin(async { call.besides(json!({ "name": "x", "monthly_eur": 1 })) })
        },
        |_| {
            Scene::for_admins(
                json!({ "plan_id": 4, "active": 1 }),
                json!({ "plan_id": 444, "active": 1 }),
            )
        },
    )
    .on_own(|_| json!({ "plan_id": 2, "monthly_eur": 0 }))
);

#[tokio::test]
async fn update_plan_makes_the_next_version() {
    let app = TestApp::start().await;
    let parameters = json!({ "plan_id": 2, "monthly_eur": 20, "name": "Standard S3 v2" });
    let body = app.call("admin", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", body);
    assert_eq!(body["plan"]["version"], 2);
    // What is so already makes no version.
    let again = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(again, body);
    let parameters = json!({ "plan_id": 2, "quota": 6000 });
    let third = app.call("admin", ACTION, parameters).await.ok();
    assert_eq!(third["plan"]["version"], 3);
    assert_eq!(third["plan"]["monthly_eur"], 20);
    let plans = app.call("client", "list_plans", json!({})).await.ok();
    assert_eq!(plans["plans"][1], third["plan"]);

    let history = app.call("admin", "history", json!({ "id": 2 })).await.ok();
    let entries = history["history"].as_array().expect("a list");
    let versions: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["action"] == ACTION)
        .map(|entry| {
            assert_eq!(
                (&entry["entity"], &entry["entity_id"]),
                (&json!("plan"), &json!("2"))
            );
            assert_eq!(entry["actor"], "admin@example.com");
            &entry["details"]["version"]
        })
        .collect();
    // Both in one second: in either order.
    let versions: BTreeSet<u64> = versions
        .iter()
        .filter_map(|version| version.as_u64())
        .collect();
    assert_eq!(versions, BTreeSet::from([2, 3]));
}

#[tokio::test]
async fn update_plan_is_paid_from_the_next_period_on() {
    let mut app = TestApp::start().await;
    let account = app
        .order_with(
            "client",
            json!({ "plan_id": 2, "bucket_name": "old", "location": "DE" }),
        )
        .await;
    // A thousand GB above the quota of the first version, all the time.
    let day = Day {
        stored: vec![Stored {
            hour: 0,
            bytes: 6_000 << 30,
        }],
        moved: vec![],
    };
    let database = &app.context().database;
    // What is set here is to stay: nothing is collected for this account.
    app.leave_out_of_collection(&account.s3uid).await;
    let ordered_on = "2026-01-15".parse().expect("a date");
    database
        .set_day(&account.s3uid, ordered_on, &day)
        .await
        .expect("written");
    let parameters = json!({
        "plan_id": 2,
        "price[DE][EUR]": 20,
        "storage_overage_price_eur": "0.001",
        "quota": 6000,
    });
    app.call("admin", ACTION, parameters).await.ok();

    // Whoever orders now pays the new price.
    let new = json!({ "plan_id": 2, "bucket_name": "new", "location": "DE" });
    let new = app.order_with("client", new).await;
    let paid = async |app: &TestApp, s3uid: &S3Uid| -> Vec<Value> {
        let list = app
            .call("client", "list_invoices", json!({ "s3uid": s3uid }))
            .await
            .ok();
        let mut shown = Vec::new();
        for invoice in list["invoices"].as_array().expect("a list") {
            let parameters = json!({ "invoice_id": invoice["invoice_id"] });
            let body = app.call("client", "get_invoice", parameters).await.ok();
            for line in body["invoice"]["lines"].as_array().expect("a list") {
                shown.push(json!([
                    line["basis"]["component"],
                    line["amount"],
                    line["plan_version"]
                ]));
            }
        }
        shown
    };
    assert_eq!(
        paid(&app, &new.s3uid).await,
        [json!(["recurring", 20.0, 2])]
    );
    assert_eq!(
        paid(&app, &account.s3uid).await,
        [json!(["recurring", 14.0, 1])]
    );

    app.stack
        .advance_to("2026-02-15T06:00:00Z".parse().expect("a time"))
        .await
        .expect("time passes");
    app.log_in().await;
    // The old period by the old version, the new one by the new.
    assert_eq!(
        paid(&app, &account.s3uid).await,
        [
            json!(["storage", 100.0, 1]),
            json!(["recurring", 20.0, 2]),
            json!(["recurring", 14.0, 1])
        ]
    );
    app.assert_ledger_is_sound("client").await;
}

#[tokio::test]
async fn update_plan_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({ "plan_id": 2, "monthly_eur": 20 }),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract.refuses_missing(&["plan_id"]).await;
    contract.takes_a_number("plan_id", 1, i64::MAX as u64).await;
    contract.takes_a_line("name").await;
    contract.takes_a_number("quota", 0, 1 << 40).await;
    contract.takes_a_number("active", 0, 1).await;
    contract
        .refuses(
            "storage_type",
            "is the same in all versions of a plan",
            &[json!("Cold"), json!("Standard")],
        )
        .await;
    let absent = json!({ "plan_id": 444, "monthly_eur": 20 });
    let reply = app.call("admin", ACTION, absent).await;
    assert_eq!(reply.refused(404), text(ACTION, "S3 plan not found"));
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn update_plan_by_two_at_once_makes_two_versions_or_refuses_one() {
    let app = TestApp::start().await;
    let change = |quota: u64| app.call("admin", ACTION, json!({ "plan_id": 2, "quota": quota }));
    let replies = futures::future::join_all((1..=4).map(change)).await;
    let mut made = BTreeSet::new();
    for reply in replies {
        if reply.status == 200 {
            let version = reply.body["plan"]["version"].as_u64().expect("a number");
            assert!(made.insert(version), "version {version} was given twice");
        } else {
            assert_eq!(reply.retry_after, Some(1));
            let wanted = text(ACTION, "the plan was changed meanwhile, try again");
            assert_eq!(reply.refused(409), wanted);
        }
    }
    let newest = 1 + u64::try_from(made.len()).expect("few");
    assert_eq!(made, (2..=newest).collect());
    let plan = app
        .context()
        .database
        .plan(PlanId(2))
        .await
        .expect("DynamoDB answers");
    assert_eq!(u64::from(plan.expect("plan 2").version), newest);
}

#[tokio::test]
async fn update_plan_leaves_the_prices_of_other_locations() {
    let app = TestApp::start().await;
    let update = async |price: Value| {
        let parameters = json!({ "token": app.token("admin"), "plan_id": 2, "price": price });
        let reply = app.post_json("/s3/update_plan", &parameters).await;
        reply.ok()["plan"]["price"].clone()
    };
    let before = update(json!({})).await;
    let after = update(json!({ "DE": { "EUR": 20 } })).await;
    assert_eq!(after["DE"]["EUR"], 20);
    assert_eq!(after["DE"]["USD"], before["DE"]["USD"]);
    assert_eq!(after["NL"], before["NL"]);
    // Taken away, the plan's general price holds.
    let general = update(json!({ "DE": { "EUR": null, "USD": "" } })).await;
    assert_eq!(
        general["DE"],
        json!({ "EUR": 15.0, "RUB": 1500, "USD": 16.5 })
    );
}
