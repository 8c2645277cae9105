//! `create_plan`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, text};
use tests::examples::{Example, GoodCall, Scene};

const ACTION: &str = "create_plan";
const LARGEST_GB: u64 = 1 << 40;

inventory::submit!(
    Example::new(
        ACTION,
        |_| {
            let parameters = json!({ "name": "New", "quota": 1, "monthly_eur": 1 });
            Box::pin(async { GoodCall::by_admin(parameters) })
        },
        |_| {
            let plan = json!({ "name": "Mine", "quota": 1, "monthly_eur": 0 });
            Scene::for_admins(plan.clone(), plan)
        },
    )
    .on_own(|_| json!({ "name": "Mine", "quota": 1, "monthly_eur": 0 }))
);

/// What a plan needs.
fn small() -> Value {
    json!({ "name": "Small", "quota": 100, "monthly_eur": "3.50" })
}

#[tokio::test]
async fn create_plan_makes_a_plan_that_can_be_ordered() {
    let app = TestApp::start().await;
    let parameters = json!({
        "name": "Archive",
        "quota": 100,
        "storage_limit": 200,
        "storage_type": "Cold",
        "locations": "NL, DE",
        "bandwidth_limit": 50,
        "monthly_eur": "9.50",
        "monthly_usd": 10,
        "traffic_overage_price_eur": "0.01",
        "storage_overage_price_eur": "0.000000001",
        "storage_overage_price_usd": "0.000000001",
        "price[NL][EUR]": "8.25",
    });
    let body = app.call("admin", ACTION, parameters).await.ok();
    assert_json_snapshot!("success", body);
    let plan_id = body["plan"]["id"].as_u64().expect("a number");

    // Clients are shown the same, and pay the price of their location.
    let plans = app.call("client", "list_plans", json!({})).await.ok();
    let plans = plans["plans"].as_array().expect("a list");
    assert!(plans.contains(&body["plan"]), "{plans:#?}");
    for (bucket_name, location, amount) in [("in-nl", "NL", 8.25), ("in-de", "DE", 9.5)] {
        let order = json!({ "plan_id": plan_id, "bucket_name": bucket_name, "location": location });
        let account = app.order_with("client", order).await;
        let invoices = app
            .call("client", "list_invoices", json!({ "s3uid": account.s3uid }))
            .await
            .ok();
        assert_eq!(invoices["invoices"][0]["amount"], amount, "{location}");
    }

    // History has who made it, and as what.
    let history = app
        .call("admin", "history", json!({ "id": plan_id }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["action"], ACTION);
    assert_eq!(entries[0]["actor"], "admin@example.com");
    assert_eq!(entries[0]["details"], body["plan"]);
}

#[tokio::test]
async fn create_plan_offers_what_is_not_named_everywhere_and_includes_no_traffic() {
    let app = TestApp::start().await;
    let first = app.call("admin", ACTION, small()).await.ok();
    let plan = &first["plan"];
    assert_eq!(plan["active"], 1);
    assert_eq!(plan["locations"], "DE,NL");
    assert_eq!(plan["storage_type"], "Standard");
    assert_eq!(plan["bandwidth_limit"], 0);
    assert_eq!(plan["storage_overage_price_eur"], 0);
    assert_eq!(plan["version"], 1);
    // Another of the same name is another plan.
    let second = app.call("admin", ACTION, small()).await.ok();
    assert_ne!(second["plan"]["id"], plan["id"]);

    // One that is not active is not offered.
    let mut parameters = small();
    parameters["active"] = 0.into();
    let hidden = app.call("admin", ACTION, parameters).await.ok();
    let plans = app.call("client", "list_plans", json!({})).await.ok();
    let ids: Vec<&Value> = plans["plans"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|plan| &plan["id"])
        .collect();
    assert!(ids.contains(&&plan["id"]) && !ids.contains(&&hidden["plan"]["id"]));
}

#[tokio::test]
async fn a_plan_shows_the_storage_limit_that_the_cluster_keeps_to() {
    let app = TestApp::start().await;
    let overage = json!("0.01");
    for (limit, price, shown) in [
        // Without a price for more, the quota is the limit.
        (Value::Null, json!(0), json!(100)),
        (Value::Null, overage.clone(), Value::Null),
        (json!(200), overage.clone(), json!(200)),
        // Never less than what is sold.
        (json!(50), overage, json!(100)),
        (json!(50), json!(0), json!(100)),
    ] {
        let mut parameters = small();
        parameters["quota"] = 100.into();
        parameters["storage_overage_price_eur"] = price;
        if limit.is_number() {
            parameters["storage_limit"] = limit;
        }
        let body = app.call("admin", ACTION, parameters).await.ok();
        assert_eq!(body["plan"]["storage_limit"], shown, "{:#}", body["plan"]);
        let plan_id = body["plan"]["id"].as_u64().expect("a number");
        let order = json!({ "plan_id": plan_id, "bucket_name": format!("bucket-{plan_id}") });
        let account = app.order_with("client", order).await;
        let path = format!("users/{}", account.s3uid);
        let (_, user) = app.admin("NL", "GET", &path, None).await;
        let enforced = user["quota_bytes"].as_u64().map(|bytes| bytes >> 30);
        assert_eq!(json!(enforced), shown, "{user:#}");
    }
}

#[tokio::test]
async fn create_plan_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: small(),
    };
    contract.is_for_admins_only().await;
    let before = app.world().await;
    contract
        .refuses_missing(&["name", "quota", "monthly_eur"])
        .await;
    contract.takes_a_line("name").await;
    contract.takes_a_line("storage_type").await;
    contract.takes_a_number("quota", 0, LARGEST_GB).await;
    contract
        .takes_a_number("storage_limit", 0, LARGEST_GB)
        .await;
    contract
        .takes_a_number("bandwidth_limit", 0, LARGEST_GB)
        .await;
    contract.takes_a_number("active", 0, 1).await;
    let rule = "must be a decimal number, not negative, with at most 9 places";
    let values = [
        json!(-1),
        json!("-0.5"),
        json!("x"),
        json!("1.0000000001"),
        json!("1,5"),
        json!("1_0"),
        json!("+1"),
        json!(" 1"),
        json!("NaN"),
        json!(1e300),
        json!("9".repeat(40)),
    ];
    for name in [
        "monthly_eur",
        "traffic_overage_price_eur",
        "storage_overage_price_usd",
    ] {
        contract.refuses(name, rule, &values).await;
    }
    contract.takes_a_text("monthly_eur").await;
    for name in ["monthly_", "monthly_euro", "monthly_e1", "monthly_zzz"] {
        contract
            .refuses(name, "does not name an ISO 4217 currency", &[json!(1)])
            .await;
    }
    let large = json!("79228162514264337593543950335");
    for (parameters, wanted) in [
        (
            json!({ "traffic_overage_price_usd": 1 }),
            "missing parameter monthly_usd",
        ),
        (
            json!({ "monthly_usd": 1, "storage_overage_price_eur": "0.1" }),
            "invalid parameter storage_overage_price_usd: must be above 0, as it is in another currency",
        ),
    ] {
        let mut all = json!({ "name": "Small", "quota": 1, "monthly_eur": 1 });
        for (name, value) in parameters.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let reply = app.call("admin", "create_plan", all).await;
        assert_eq!(reply.refused(400), text("create_plan", wanted));
    }
    for parameters in [
        json!({ "monthly_eur": large }),
        json!({ "price": { "NL": { "EUR": large } } }),
    ] {
        let mut all = json!({ "name": "Small", "quota": 1, "monthly_eur": 1 });
        all["token"] = app.token("admin").into();
        for (name, value) in parameters.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let reply = app.post_json("/s3/create_plan", &all).await;
        let text = reply.refused(400);
        assert!(text.ends_with(": is too large"), "{text}");
    }
    let rule = "must be of DE, NL, with commas between";
    let values = ["XX", "NL,", ",", "NL,XX", "NL;DE", "N"].map(Value::from);
    contract.refuses("locations", rule, &values).await;
    contract
        .refuses(
            "price",
            "must be an object",
            &[json!([]), json!("x"), json!(1)],
        )
        .await;
    let rule = "must hold a price per currency for locations of the plan";
    let values = [json!({ "XX": { "EUR": 1 } }), json!({ "NL": 1 })];
    contract.refuses("price", rule, &values).await;
    app.world()
        .await
        .assert_unchanged_since(&before, "what was refused");
    contract.refuses_bad_tokens().await;
}
