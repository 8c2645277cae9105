//! `get_invoice`.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::{Attack, Example, GoodCall, NO_CLIENT_ID, NO_INVOICE_ID, Preparation};
use tests::usage::SetDay;
use wharfage::domain::usage::{Day, Moved, Stored};

const ACTION: &str = "get_invoice";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(first_invoice(prepare)),
    |scene| {
        let (invoice_id, id) = (scene.others_invoice_id, scene.others_client_id);
        vec![
            Attack::new(
                json!({ "invoice_id": invoice_id }),
                json!({ "invoice_id": NO_INVOICE_ID }),
                404,
            ),
            Attack::new(
                json!({ "invoice_id": invoice_id, "id": id }),
                json!({ "invoice_id": NO_INVOICE_ID, "id": NO_CLIENT_ID }),
                404,
            ),
        ]
    },
));

async fn first_invoice(prepare: &Preparation<'_>) -> GoodCall {
    prepare.order().await;
    let list = prepare
        .app
        .call("client", "list_invoices", json!({}))
        .await
        .ok();
    GoodCall::by_client(json!({ "invoice_id": list["invoices"][0]["invoice_id"] }))
}

async fn newest(app: &TestApp, who: &str) -> Value {
    let list = app.call(who, "list_invoices", json!({})).await.ok();
    list["invoices"][0].clone()
}

#[tokio::test]
async fn get_invoice_shows_each_line_with_what_it_was_computed_from() {
    let mut app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    // What is set here is to stay: nothing is collected for this account.
    app.leave_out_of_collection(&account.s3uid).await;
    let first = newest(&app, "client").await;
    // Half as much again as is included, all the time; and twice the traffic.
    let day = Day {
        stored: vec![Stored {
            hour: 0,
            bytes: 7_500 << 30,
        }],
        moved: vec![Moved {
            hour: 5,
            bytes_sent: 2_000 << 30,
            bytes_received: 7,
            requests: 3,
        }],
    };
    let ordered_on = "2026-01-15".parse().expect("a date");
    app.context()
        .database
        .set_day(&account.s3uid, ordered_on, &day)
        .await
        .expect("written");
    app.stack
        .advance_to("2026-02-15T06:00:00Z".parse().expect("a time"))
        .await
        .expect("time passes");
    app.log_in().await;
    let second = newest(&app, "client").await;
    let parameters = json!({ "invoice_id": second["invoice_id"] });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    // 2500 GB-months at 0.10, 1000 GB at 0.50, and the next month.
    assert_eq!(body["invoice"]["amount"], 765.0);
    assert_eq!(body["invoice"]["status"], "open");
    assert_json_snapshot!("success", masked(&app, &body));
    let sum: f64 = body["invoice"]["lines"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line["amount"].as_f64())
        .sum();
    assert_eq!(json!(sum), body["invoice"]["amount"]);
    // Beside its lines it is as the list has it.
    let mut head = body["invoice"].clone();
    head.as_object_mut().expect("an object").remove("lines");
    assert_eq!(head, second);

    // Once issued, only being paid changes it.
    let by_admin = json!({ "invoice_id": first["invoice_id"], "id": app.client_id("client") });
    let old = app.call("admin", ACTION, by_admin).await.ok();
    assert_eq!(old["invoice"]["paid_at"], first["paid_at"]);
    let credit = json!({ "id": app.client_id("client"), "amount": 1_000, "reference": "x" });
    app.call("admin", "add_credit", credit).await.ok();
    app.stack.drain().await.expect("the queues empty");
    let mut paid = app.call("client", ACTION, parameters).await.ok();
    assert_eq!(paid["invoice"]["status"], "paid");
    assert_eq!(paid["invoice"]["paid_at"], "2026-02-15T06:00:00Z");
    paid["invoice"]["status"] = "open".into();
    paid["invoice"]["paid_at"] = Value::Null;
    assert_eq!(paid["invoice"]["open"], 0.0);
    paid["invoice"]["open"] = body["invoice"]["open"].clone();
    assert_eq!(paid, body);
}

#[tokio::test]
async fn get_invoice_hides_what_is_another_clients() {
    let app = TestApp::start().await;
    app.order("client", "my-bucket").await;
    app.order("client2", "others-bucket").await;
    let theirs = newest(&app, "client2").await["invoice_id"].clone();
    let absent = text(ACTION, "invoice not found");
    for (who, parameters) in [
        ("client", json!({ "invoice_id": theirs })),
        ("client", json!({ "invoice_id": 444_444 })),
        (
            "client",
            json!({ "invoice_id": theirs, "id": app.client_id("client") }),
        ),
        (
            "client",
            json!({ "invoice_id": theirs, "id": app.client_id("client2") }),
        ),
        ("admin", json!({ "invoice_id": 444_444 })),
        (
            "admin",
            json!({ "invoice_id": theirs, "id": app.client_id("client") }),
        ),
        ("admin", json!({ "invoice_id": theirs, "id": 888_888 })),
    ] {
        let reply = app.call(who, ACTION, parameters.clone()).await;
        assert_eq!(reply.refused(404), absent, "{who} {parameters}");
    }
}

#[tokio::test]
async fn get_invoice_shows_staff_an_invoice_whosever_it_is() {
    let app = TestApp::start().await;
    for (who, bucket_name) in [("client", "my-bucket"), ("client2", "others-bucket")] {
        app.order(who, bucket_name).await;
        let parameters = json!({ "invoice_id": newest(&app, who).await["invoice_id"] });
        let own = app.call(who, ACTION, parameters.clone()).await.ok();
        assert_eq!(
            app.call("admin", ACTION, parameters.clone()).await.ok(),
            own
        );
        let mut named = parameters;
        named["id"] = app.client_id(who).0.into();
        assert_eq!(app.call("admin", ACTION, named).await.ok(), own);
    }
}

#[tokio::test]
async fn get_invoice_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "invoice_id": newest(&app, "client").await["invoice_id"] }),
    };
    contract.refuses_missing(&["invoice_id"]).await;
    contract
        .takes_a_number("invoice_id", 1, i64::MAX as u64)
        .await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    contract.refuses_bad_tokens().await;
}
