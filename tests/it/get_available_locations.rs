//! `get_available_locations`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked};
use tests::examples::{Attack, Example, GoodCall};

const ACTION: &str = "get_available_locations";

inventory::submit!(Example::new(
    ACTION,
    |prepare| {
        Box::pin(async {
            prepare.order().await;
            GoodCall::by_client(json!({}))
        })
    },
    // It names nobody.
    |_| vec![Attack::new(json!({}), json!({}), 200)],
));

#[tokio::test]
async fn get_available_locations_names_every_location_and_its_endpoint() {
    let app = TestApp::start().await;
    for who in ["client", "admin"] {
        let body = app.call(who, ACTION, json!({})).await.ok();
        assert_json_snapshot!("success", masked(&app, &body));
    }
}

#[tokio::test]
async fn get_available_locations_marks_the_operator_s_default() {
    let app = TestApp::with(&[("DefaultLocation", "DE")]).start().await;
    let body = app.call("client", ACTION, json!({})).await.ok();
    let default: Vec<&serde_json::Value> = body["locations"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|location| location["is_default"] == true)
        .collect();
    assert_eq!(default.len(), 1);
    assert_eq!(default[0]["code"], "DE");
    let account = app.order("client", "my-bucket").await;
    assert_eq!(account.location, "DE");
}

#[tokio::test]
async fn get_available_locations_refuses_bad_tokens() {
    let app = TestApp::start().await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({}),
    };
    contract.refuses_bad_tokens().await;
}
