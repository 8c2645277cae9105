//! `list_invoices`.

use insta::assert_json_snapshot;
use jiff::ToSpan;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, NO_S3UID, masked, text};
use tests::examples::{Attack, Example, GoodCall, NO_ACCOUNT_ID, NO_CLIENT_ID, Preparation};

use crate::add_credit::{open_account, spend_all};

const ACTION: &str = "list_invoices";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(one_invoice(prepare)),
    |scene| {
        vec![
            Attack::new(
                json!({ "id": scene.others_client_id }),
                json!({ "id": NO_CLIENT_ID }),
                404,
            ),
            Attack::finds_nothing(
                json!({ "s3uid": scene.others.s3uid }),
                json!({ "s3uid": NO_S3UID }),
                "invoices",
            ),
            Attack::new(
                json!({ "account_id": scene.others.id }),
                json!({ "account_id": NO_ACCOUNT_ID }),
                404,
            ),
        ]
    },
));

async fn one_invoice(prepare: &Preparation<'_>) -> GoodCall {
    let account = prepare.order().await;
    GoodCall::by_client(json!({})).besides(json!({ "s3uid": account.s3uid }))
}

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

    // An admin names the client, or means everybody.
    let by_admin = json!({ "id": app.client_id("client") });
    assert_eq!(app.call("admin", ACTION, by_admin).await.ok(), body);
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

#[tokio::test]
async fn list_invoices_shows_staff_everybodys_newest_first_page_by_page() {
    let app = TestApp::start().await;
    let first = app.order("client", "first").await;
    app.order("client2", "second").await;
    spend_all(&app).await;
    let open = open_account(&app, 2, "third").await;
    app.order("client2", "fourth").await;
    let mut all = Vec::new();
    for who in ["client", "client2"] {
        let own = app.call(who, ACTION, json!({})).await.ok();
        all.extend(own["invoices"].as_array().expect("a list").clone());
    }
    all.sort_by_key(|invoice| std::cmp::Reverse(invoice["invoice_id"].as_u64()));
    assert_eq!(all.len(), 4);
    let whole = app.call("admin", ACTION, json!({})).await.ok();
    assert_eq!(whole["invoices"], json!(all));
    assert!(whole.get("next_token").is_none(), "{whole}");
    for limit in 1..=5 {
        let mut pages = Vec::new();
        let mut parameters = json!({ "limit": limit });
        for _ in 0..9 {
            let page = app.call("admin", ACTION, parameters.clone()).await.ok();
            let invoices = page["invoices"].as_array().expect("a list");
            assert!(invoices.len() <= limit, "{page}");
            pages.extend(invoices.clone());
            parameters["next_token"] = page["next_token"].clone();
            if page.get("next_token").is_none() {
                break;
            }
        }
        assert_eq!(parameters["next_token"], Value::Null, "it ends");
        assert_eq!(pages, all, "{limit} at a time");
    }
    let found = async |filter: Value| {
        let body = app.call("admin", ACTION, filter).await.ok();
        let invoices = body["invoices"].as_array().expect("a list").clone();
        let s3uids = invoices.iter().map(|invoice| invoice["s3uid"].clone());
        s3uids.collect::<Vec<Value>>()
    };
    assert_eq!(
        found(json!({ "status": "open" })).await,
        [json!(open.s3uid)]
    );
    for account in [&first, &open] {
        // An account is some client's, whom staff need not know.
        let wanted = [json!(account.s3uid)];
        assert_eq!(found(json!({ "s3uid": account.s3uid })).await, wanted);
        assert_eq!(found(json!({ "account_id": account.id })).await, wanted);
        let id = app.client_id("client");
        let by_both = json!({ "account_id": account.id, "id": id });
        assert_eq!(found(by_both).await, wanted);
    }
    let nobodys = [
        json!({ "s3uid": NO_S3UID }),
        json!({ "account_id": 999_999 }),
        json!({ "account_id": first.id, "id": app.client_id("client2") }),
    ];
    for nobodys in nobodys {
        let reply = app.call("admin", ACTION, nobodys).await;
        let wanted = text(ACTION, "S3 account not found for this customer");
        assert_eq!(reply.refused(404), wanted);
    }
    // Clients see their own, and no more.
    let own = json!({ "account_id": first.id });
    let own = app.call("client", ACTION, own).await.ok();
    assert_eq!(own["invoices"][0]["s3uid"], first.s3uid.as_str());
}
