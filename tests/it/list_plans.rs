//! `list_plans`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, text};
use tests::examples::{Attack, Example, GoodCall};
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::credential::{ApiKey, hash};
use wharfage::domain::money::Currency;

const ACTION: &str = "list_plans";

inventory::submit!(Example::new(
    ACTION,
    |prepare| {
        Box::pin(async {
            prepare.order().await;
            GoodCall::by_client(json!({}))
        })
    },
    // It names nobody; a client that says `id` is told what it would have been told without.
    |_| vec![Attack::new(json!({ "id": 4 }), json!({}), 200)],
));

/// The token of a further client: one with the tag `s3_test`, billed in EUR, without credit.
pub async fn tagged_client(app: &TestApp) -> String {
    let client = Client {
        client_id: ClientId(77),
        email: "tester@example.com".into(),
        role: Role::Client,
        billing: "whmcs".into(),
        currency: Currency::from_code("EUR").expect("EUR"),
        tags: vec!["vip".into(), "s3_test".into()],
        accounts: 0,
        free_accounts: 0,
        epoch: 0,
        made_by: None,
        credit_limit_minor: None,
    };
    let database = &app.context().database;
    assert!(
        database
            .insert_client(&client, None)
            .await
            .expect("the client is written")
            .is_yes()
    );
    let api_key = ApiKey {
        client_id: ClientId(77),
        name: "first key".into(),
        created_at: app.now(),
        made_by: None,
    };
    let key = "tester0key0tester0key0tester0key";
    database
        .put_api_key(&hash(key), &api_key)
        .await
        .expect("the key is written");
    let body = app.auth("login", json!({ "key": key })).await.body;
    body["result"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

fn ids(body: &Value) -> Vec<u64> {
    let plans = body["plans"].as_array().expect("a list");
    plans
        .iter()
        .filter_map(|plan| plan["id"].as_u64())
        .collect()
}

#[tokio::test]
async fn list_plans_shows_active_plans_with_their_prices() {
    let app = TestApp::start().await;
    let body = app.call("client", ACTION, json!({})).await.ok();
    assert_json_snapshot!("success", body);
    assert_eq!(ids(&body), [1, 2, 3]);
    // The fields and types of the reference.
    for plan in body["plans"].as_array().expect("a list") {
        for name in ["name", "storage_type", "locations"] {
            assert!(plan[name].is_string(), "{name}");
        }
        for name in ["id", "active", "quota", "bandwidth_limit"] {
            assert!(plan[name].is_u64(), "{name}");
        }
        for prefix in ["monthly", "traffic_overage_price", "storage_overage_price"] {
            for currency in ["rub", "eur", "usd"] {
                assert!(plan[format!("{prefix}_{currency}")].is_number());
            }
        }
        let locations = plan["locations"].as_str().expect("a text").split(',');
        for location in locations {
            assert!(
                plan["price"][location]["EUR"].is_number()
                    && plan["price"][location]["USD"].is_number()
            );
        }
    }
    // The reference's own example.
    let standard = &body["plans"][1];
    assert_eq!(standard["price"]["NL"]["EUR"], 15.0);
    assert_eq!(standard["price"]["NL"]["USD"], 16.5);
    assert_eq!(standard["price"]["DE"]["EUR"], 14.0);
    assert_eq!(standard["monthly_rub"], 1500);
    assert_eq!(standard["traffic_overage_price_rub"], 50);
    assert_eq!(standard["storage_overage_price_rub"], 10);
    assert_eq!(standard["traffic_overage_price_usd"], 0.55);
    assert_eq!(standard["storage_overage_price_usd"], 0.11);
    assert_eq!(standard["bandwidth_limit"], 1000);
    // Where a location has no price of its own, it is the plan's.
    assert_eq!(body["plans"][2]["price"]["NL"]["EUR"], 8.0);
    assert_eq!(body["plans"][2]["price"]["DE"]["EUR"], 7.5);
}

#[tokio::test]
async fn list_plans_hides_inactive_plans_from_clients_without_the_tag_s3_test() {
    let app = TestApp::start().await;
    assert_eq!(
        ids(&app.call("client2", ACTION, json!({})).await.ok()),
        [1, 2, 3]
    );
    // A client cannot ask for one by its number either.
    assert_eq!(
        ids(&app.call("client2", ACTION, json!({ "id": 4 })).await.ok()),
        [1, 2, 3]
    );
    let token = tagged_client(&app).await;
    let body = app
        .post_form("/s3/list_plans", &json!({ "token": token }))
        .await
        .ok();
    assert_eq!(ids(&body), [1, 2, 3, 4]);
    assert_eq!(body["plans"][3]["active"], 0);
}

#[tokio::test]
async fn list_plans_shows_admins_all_plans_or_the_one_they_name() {
    let app = TestApp::start().await;
    assert_eq!(
        ids(&app.call("admin", ACTION, json!({})).await.ok()),
        [1, 2, 3, 4]
    );
    let body = app.call("admin", ACTION, json!({ "id": 4 })).await.ok();
    assert_eq!(ids(&body), [4]);
    assert_eq!(body["plans"][0]["name"], "Legacy S3");
    let reply = app.call("admin", ACTION, json!({ "id": 99 })).await;
    assert_eq!(reply.refused(404), text(ACTION, "S3 plan not found"));
}

#[tokio::test]
async fn list_plans_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let reply = app.post_form("/s3/list_plans", &json!({})).await;
    assert_eq!(reply.refused(401), "s3/list_plans: missing auth token");
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({}),
    };
    contract.refuses_bad_tokens().await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
}
