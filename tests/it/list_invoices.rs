//! `list_invoices`.

use insta::assert_json_snapshot;
use jiff::ToSpan;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, NO_S3UID, masked, text};

use crate::add_credit::{open_account, spend_all};

const ACTION: &str = "list_invoices";

fn numbers(body: &Value) -> Vec<u64> {
    let invoices = body["invoices"].as_array().expect("a list");
    invoices
        .iter()
        .map(|invoice| invoice["invoice_id"].as_u64().expect("a number"))
        .collect()
}

#[tokio::test]
async fn list_invoices_shows_a_client_its_own_newest_first() {
    let app = TestApp::start().await;
    let none = app.call("client", ACTION, json!({})).await.ok();
    assert_eq!(
        none,
        json!({ "result": "OK", "action": ACTION, "invoices": [] })
    );
    let paid = app.order("client", "paid").await;
    app.order("client2", "others").await;
    app.stack.advance(1.minute()).await.expect("time passes");
    spend_all(&app).await;
    let open = open_account(&app, 2, "open").await;
    let body = app.call("client", ACTION, json!({})).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    let listed: Vec<&Value> = body["invoices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|invoice| &invoice["s3uid"])
        .collect();
    assert_eq!(listed, [&json!(open.s3uid), &json!(paid.s3uid)]);

    // An admin has to name the client, as everywhere; its own list is its own.
    let by_admin = json!({ "id": app.client_id("client") });
    assert_eq!(app.call("admin", ACTION, by_admin).await.ok(), body);
    let own = app.call("admin", ACTION, json!({})).await.ok();
    assert_eq!(own["invoices"], json!([]));
    let id = app.client_id("client");
    assert_eq!(
        app.call("client", ACTION, json!({ "id": id })).await.ok(),
        body
    );

    let filtered = async |filter: Value| numbers(&app.call("client", ACTION, filter).await.ok());
    let [newest, oldest] = numbers(&body)[..] else {
        panic!("not two: {body}");
    };
    assert_eq!(filtered(json!({ "status": "open" })).await, [newest]);
    assert_eq!(filtered(json!({ "status": "paid" })).await, [oldest]);
    assert_eq!(filtered(json!({ "s3uid": paid.s3uid })).await, [oldest]);
    assert_eq!(filtered(json!({ "s3uid": NO_S3UID })).await, [0; 0]);
    let neither = json!({ "s3uid": paid.s3uid, "status": "open" });
    assert_eq!(filtered(neither).await, [0; 0]);
}

#[tokio::test]
async fn list_invoices_comes_in_pages() {
    let app = TestApp::start().await;
    let mut accounts = Vec::new();
    for number in 0..5 {
        accounts.push(app.order("client", &format!("bucket-{number}")).await);
    }
    let all = numbers(&app.call("client", ACTION, json!({})).await.ok());
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by(|a, b| a > b), "{all:?}");
    for limit in [1, 2, 3, 5, 6, 500] {
        for filter in [json!({}), json!({ "s3uid": accounts[1].s3uid })] {
            let mut parameters = filter.clone();
            parameters["limit"] = limit.into();
            let mut seen = Vec::new();
            for page in 0.. {
                assert!(page < 7, "no end");
                let body = app.call("client", ACTION, parameters.clone()).await.ok();
                let numbers = numbers(&body);
                assert!(numbers.len() <= limit);
                seen.extend(numbers);
                let Some(next_token) = body.get("next_token") else {
                    break;
                };
                parameters["next_token"] = next_token.clone();
            }
            if filter == json!({}) {
                assert_eq!(seen, all, "by {limit}");
            } else {
                assert_eq!(seen, [all[3]], "by {limit}");
            }
        }
    }
}

#[tokio::test]
async fn list_invoices_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({}),
    };
    contract.takes_a_number("limit", 1, 500).await;
    contract
        .takes_a_number("next_token", 1, i64::MAX as u64)
        .await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    contract.takes_a_line("status").await;
    let values = ["Open", "due", "open,paid", "1"].map(Value::from);
    contract
        .refuses("status", "must be open or paid", &values)
        .await;
    let rule = "must be 32 characters of A-Z, a-z and 0-9";
    contract
        .refuses("s3uid", rule, &[json!("x"), json!(&NO_S3UID[1..])])
        .await;
    let theirs = json!({ "id": app.client_id("client2") });
    let reply = app.call("client", ACTION, theirs).await;
    let wanted = text(ACTION, "S3 account not found for this customer");
    assert_eq!(reply.refused(404), wanted);
    contract.refuses_bad_tokens().await;
}
