//! A location whose cluster counts no traffic.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::usage::AccountSamples;
use tests::{TestAccount, TestApp};
use wharfage::context::Context;
use wharfage::domain::account::S3Uid;
use wharfage::runtime::Entry;

fn uncounted(app: &TestApp) -> Context {
    let locations = app.locations_with("DE", "counts_traffic", json!(false));
    app.context_with(&[("LOCATIONS", locations)])
}

fn flat() -> Value {
    json!({ "name": "Flat", "quota": 100, "monthly_eur": 5, "storage_overage_price_eur": "0.1" })
}

async fn call(app: &TestApp, context: &Context, who: &str, action: &str, what: Value) -> Value {
    app.call_in(context, who, action, what).await.ok()
}

/// A plan without charges for traffic, and an account on it at `DE`.
async fn account(app: &TestApp, context: &Context) -> TestAccount {
    let plan = call(app, context, "admin", "create_plan", flat()).await;
    let order = json!({
        "plan_id": plan["plan"]["id"], "bucket_name": "my-bucket", "location": "DE",
    });
    let body = call(app, context, "client", "create_order", order).await;
    TestAccount {
        s3uid: S3Uid(body["s3uid"].as_str().expect("s3uid").to_owned()),
        id: body["id"].as_u64().expect("id"),
        location: "DE".into(),
        bucket_name: "my-bucket".into(),
    }
}

#[tokio::test]
async fn plans_that_charge_for_traffic_are_not_offered_there() {
    let app = TestApp::start_idle(&[]).await;
    let context = uncounted(&app);
    let mut charging = flat();
    charging["traffic_overage_price_eur"] = "0.5".into();
    let wanted = "invalid parameter traffic_overage_price_eur: must be 0 for a plan offered at DE, which counts no traffic";
    let refused = app.call_in(&context, "admin", "create_plan", charging.clone());
    assert_eq!(
        refused.await.refused(400),
        format!("s3/create_plan: {wanted}")
    );
    charging["locations"] = "NL".into();
    let plan = call(&app, &context, "admin", "create_plan", charging).await;
    let plan_id = &plan["plan"]["id"];
    let more = json!({ "plan_id": plan_id, "locations": "NL,DE" });
    let refused = app.call_in(&context, "admin", "update_plan", more.clone());
    assert_eq!(
        refused.await.refused(400),
        format!("s3/update_plan: {wanted}")
    );
    // Where it is counted, the same is in order.
    app.call("admin", "update_plan", more).await.ok();
    // And by whoever has not heard of that, it is not ordered there.
    let order = json!({ "plan_id": plan_id, "bucket_name": "my-bucket", "location": "DE" });
    let refused = app.call_in(&context, "client", "create_order", order.clone());
    assert_eq!(
        refused.await.refused(409),
        "s3/create_order: the plan charges for traffic, and location DE counts none"
    );
    // Nor is an account put on it.
    let there = account(&app, &context).await;
    let change = json!({
        "s3uid": there.s3uid, "id": app.client_id("client"), "plan_id": plan_id, "when": "now",
    });
    let refused = app.call_in(&context, "admin", "change_plan", change);
    assert_eq!(
        refused.await.refused(409),
        "s3/change_plan: the plan charges for traffic, and location DE counts none"
    );
    let at_nl = json!({ "plan_id": plan_id, "bucket_name": "my-bucket", "location": "NL" });
    call(&app, &context, "client", "create_order", at_nl).await;
    let locations = json!({});
    let list = call(
        &app,
        &context,
        "client",
        "get_available_locations",
        locations,
    )
    .await;
    assert_eq!(
        list["locations"][0]["capabilities"],
        json!({ "traffic": false, "versions": true })
    );
}

#[tokio::test]
async fn its_traffic_is_unknown_and_nothing_else_is_missing() {
    let app = TestApp::start_idle(&[]).await;
    let context = uncounted(&app);
    let account = account(&app, &context).await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "a", 1_000).await;
    app.let_pass(SignedDuration::from_mins(50));

    let hour: Timestamp = "2026-01-15T10:00:00Z".parse().expect("a time");
    let message = json!({ "location": "DE", "hour": hour, "shard": 0 }).to_string();
    let Entry::Queue(collect) = tests::function("usage_shards").entry else {
        panic!("a worker");
    };
    let (collected, noted) = app.tap.scope(collect(&context, &message)).await;
    collected.expect("collected");
    assert!(noted.iter().all(|call| call.name != "cluster POST usage"));
    let samples = context
        .segments
        .account_samples(
            "DE",
            0,
            &account.s3uid,
            hour,
            hour + SignedDuration::from_hours(1),
        )
        .await
        .expect("samples");
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].stored_bytes, Some(1_000));
    assert_eq!(
        (
            samples[0].bytes_sent,
            samples[0].bytes_received,
            samples[0].requests
        ),
        (None, None, None)
    );

    let own = json!({ "s3uid": account.s3uid });
    let usage = call(&app, &context, "client", "get_usage", own.clone()).await;
    let row = &usage["usage"][0];
    assert_eq!(row["stored_bytes"], 1_000);
    for name in ["bytes_sent", "bytes_received", "requests", "traffic"] {
        assert_eq!(row[name], Value::Null, "{name}");
    }
    let mut named = own.clone();
    named["id"] = app.client_id("client").0.into();
    let (reply, noted) = app
        .tap
        .scope(app.call_in(&context, "admin", "update_traffic_info", named))
        .await;
    assert_eq!(reply.ok()["traffic"], 0.0);
    assert!(noted.iter().all(|call| call.name != "cluster POST usage"));
    let users = call(&app, &context, "client", "get_users", own).await;
    let gb = f64::from(1 << 30);
    assert_eq!(users["s3_users"][0]["total_storage_peak_gb"], 1_000.0 / gb);
    assert_eq!(users["s3_users"][0]["traffic"], 0.0);
}
