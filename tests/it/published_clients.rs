//! Calls as published clients of this API send them: their names, their forms, and in their order.

use serde_json::{Value, json};
use tests::{Reply, TestApp};
use wharfage::domain::account::S3Uid;

/// A session as these clients have one: everything is a form to the one endpoint.
struct Client<'a> {
    app: &'a TestApp,
    token: String,
}

impl<'a> Client<'a> {
    async fn log_in(app: &'a TestApp, who: &str) -> Client<'a> {
        let login = json!({
            "action": "login", "key": app.stack.seeded().api_key(who), "fix_ip": 0, "ttl": 7_200,
        });
        let reply = app.post_form("/auth.php", &login).await;
        let token = reply.body["result"]["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        Client { app, token }
    }

    async fn send(&self, action: &str, mut parameters: Value) -> Reply {
        parameters["action"] = action.into();
        parameters["token"] = self.token.clone().into();
        self.app.post_form("/s3.php", &parameters).await
    }

    async fn call(&self, action: &str, parameters: Value) -> Value {
        self.send(action, parameters).await.ok()
    }

    /// With all that they send, needed or not.
    async fn check(&self, callback: &Value) -> Reply {
        let parameters = json!({
            "action": "check", "token": self.token, "key": callback, "status": "", "stage": "1", "id": 7,
        });
        self.app.post_form("/eq_callback.php", &parameters).await
    }
}

fn ids(body: &Value, rows: &str) -> Vec<u64> {
    let rows = body[rows].as_array().expect("a list");
    rows.iter().filter_map(|row| row["id"].as_u64()).collect()
}

fn keys(body: &Value) -> Vec<&str> {
    let files = body["files"]["files"].as_array().expect("a list");
    files
        .iter()
        .filter_map(|file| file["key"].as_str())
        .collect()
}

#[tokio::test]
async fn a_client_orders_fills_lists_and_leaves() {
    let app = TestApp::start().await;
    let staff = Client::log_in(&app, "admin").await;
    let plan = json!({
        "name": "Dutch", "quota": 10, "monthly_eur": "1.50", "monthly_usd": 2, "locations": "nl", "price[nl][EUR]": "1.25",
    });
    let made = staff.call("create_plan", plan).await;
    assert_eq!(made["plan"]["locations"], "NL");
    let client = Client::log_in(&app, "client").await;
    client.call("get_available_locations", json!({})).await;
    let everywhere = ids(&client.call("list_plans", json!({})).await, "plans");
    let there = client.call("list_plans", json!({ "location": "DE" })).await;
    assert!(everywhere.iter().any(|id| *id == made["plan"]["id"]));
    assert!(ids(&there, "plans").len() < everywhere.len(), "{there}");
    for plan in there["plans"].as_array().expect("a list") {
        let locations = plan["locations"].as_str().expect("a text");
        assert!(locations.split(',').any(|code| code == "DE"), "{plan}");
    }
    let order =
        json!({ "plan_id": ids(&there, "plans")[0], "bucket": "my-bucket", "location": "de" });
    let ordered = client.call("create_order", order).await;
    assert_eq!(ordered["location"], "DE");
    let account = json!({ "account_id": ordered["id"] });
    let with = |more: Value| {
        let mut all = account.clone();
        let fields = all.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        all
    };

    let buckets = client.call("get_buckets", account.clone()).await;
    assert_eq!(buckets["message"][0]["name"], "my-bucket");
    client.call("get_buckets_rmq", account.clone()).await;
    let shown = client
        .call("show_key", with(json!({ "key_type": "access_key" })))
        .await;
    assert_eq!(shown["access_key"], buckets["access_key"]);
    let bucket = json!({ "bucket": "second-bucket" });
    client.call("create_bucket", with(bucket.clone())).await;

    let owned = tests::TestAccount {
        s3uid: S3Uid(ordered["s3uid"].as_str().expect("a name").to_owned()),
        id: ordered["id"].as_u64().expect("a number"),
        bucket_name: "my-bucket".into(),
        location: "DE".into(),
    };
    let s3 = app.s3("client", &owned).await;
    for number in 0..23 {
        app.put(&s3, "my-bucket", &format!("{number:02}.txt"), 1)
            .await;
    }
    let mut listed = Vec::new();
    for page in 1..=4 {
        let asked = with(json!({ "bucket": "my-bucket", "page": page, "limit": 10 }));
        let body = client.call("get_files", asked).await;
        listed.push(keys(&body).len());
        assert_eq!(
            keys(&body).first().copied(),
            ["00.txt", "10.txt", "20.txt"].get(page - 1).copied()
        );
    }
    assert_eq!(listed, [10, 10, 3, 0]);
    let file = with(json!({ "bucket": "my-bucket", "file": "00.txt" }));
    client.call("delete_file", file).await;
    client.call("delete_bucket", with(bucket)).await;
    client.call("history", account.clone()).await;
    client.call("get_users", json!({ "location": "DE" })).await;

    client.call("delete_payment_account", account.clone()).await;
    client
        .call("cancel_payment_account_deletion", account.clone())
        .await;
    let deleted = client
        .call("delete_account", with(json!({ "reason": "finished" })))
        .await;
    app.stack.drain().await.expect("the queues empty");
    assert_eq!(
        client.check(&deleted["callback"]).await.ok()["result"],
        "OK"
    );
    let parameters = json!({ "action": "logout", "token": client.token });
    app.post_form("/auth.php", &parameters).await.ok();
}

#[tokio::test]
async fn staff_name_an_account_alone_whosever_it_is() {
    let app = TestApp::start().await;
    let staff = Client::log_in(&app, "admin").await;
    let account = app.order("client", "my-bucket").await;
    let other = app.order("client2", "others-bucket").await;
    for name in [
        json!({ "account_id": account.id }),
        json!({ "s3uid": account.s3uid }),
    ] {
        for (action, more) in [
            ("get_buckets", json!({})),
            ("get_buckets_rmq", json!({})),
            ("show_key", json!({ "key_type": "access_key" })),
            ("create_bucket", json!({ "bucket": "second-bucket" })),
            ("get_files", json!({ "bucket": "my-bucket", "page": 2 })),
            ("delete_file", json!({ "bucket": "my-bucket", "file": "x" })),
            ("delete_bucket", json!({ "bucket": "second-bucket" })),
            ("update_traffic_info", json!({})),
            ("get_usage", json!({})),
            ("history", json!({})),
            ("list_invoices", json!({})),
            ("rotate_key", json!({})),
            ("suspend_account", json!({})),
            ("resume_account", json!({})),
            ("change_plan", json!({ "plan_id": 2 })),
            ("delete_payment_account", json!({})),
            ("cancel_payment_account_deletion", json!({})),
        ] {
            let mut parameters = name.clone();
            let fields = parameters.as_object_mut().expect("an object");
            fields.extend(more.as_object().expect("an object").clone());
            let body = staff.call(action, parameters).await;
            if let Some(s3uid) = body.get("s3uid") {
                assert_eq!(*s3uid, json!(account.s3uid), "{action} {name}");
            }
        }
        let listed = staff.call("get_users", name.clone()).await;
        assert_eq!(ids(&listed, "s3_users"), [account.id]);
    }
    let listed = staff.call("get_users", json!({ "location": "nl" })).await;
    assert_eq!(ids(&listed, "s3_users"), [account.id, other.id]);
    let listed = staff.call("get_users", json!({ "location": "de" })).await;
    assert_eq!(ids(&listed, "s3_users"), [0; 0]);
    let gone = staff
        .call("delete_account", json!({ "account_id": account.id }))
        .await;
    app.stack.drain().await.expect("the queues empty");
    assert_eq!(staff.check(&gone["callback"]).await.ok()["result"], "OK");
    let listed = staff.call("get_users", json!({})).await;
    assert_eq!(ids(&listed, "s3_users"), [other.id]);
}

#[tokio::test]
async fn what_is_missing_is_named_by_all_its_names_and_a_wrong_location_by_the_right_ones() {
    let app = TestApp::start_idle(&[]).await;
    for who in ["client", "admin"] {
        let session = Client::log_in(&app, who).await;
        for action in [
            "get_buckets",
            "get_files",
            "delete_account",
            "show_key",
            "get_usage",
        ] {
            let text = session.send(action, json!({})).await.refused(400);
            assert_eq!(
                text,
                format!("s3/{action}: missing parameter s3uid or account_id")
            );
        }
        for action in ["list_plans", "get_users", "create_order"] {
            let parameters = match action {
                "create_order" => {
                    json!({ "plan_id": 2, "bucket_name": "my-bucket", "location": "FR" })
                }
                _ => json!({ "location": "FR" }),
            };
            let text = session.send(action, parameters).await.refused(400);
            assert_eq!(
                text,
                format!("s3/{action}: invalid parameter location: must be DE or NL")
            );
        }
    }
}

/// The reference's names of each action's parameters.
const REFERENCE: [(&str, &[&str]); 15] = [
    ("cancel_payment_account_deletion", &["id", "s3uid"]),
    ("create_account", &["plan_id", "bucket_name", "location"]),
    ("create_bucket", &["s3uid", "bucket_name"]),
    ("create_order", &["plan_id", "bucket_name", "location"]),
    ("delete_account", &["id", "s3uid", "reason"]),
    ("delete_bucket", &["s3uid", "bucket_name", "id"]),
    ("delete_file", &["s3uid", "bucket_name", "filename"]),
    ("delete_payment_account", &["s3uid", "id"]),
    ("get_buckets", &["s3uid", "id"]),
    ("get_buckets_rmq", &["s3uid", "id"]),
    (
        "get_files",
        &[
            "s3uid",
            "bucket_name",
            "continuation_token",
            "max_keys",
            "search",
        ],
    ),
    (
        "get_users",
        &[
            "id",
            "plan_id",
            "s3uid",
            "email",
            "billing",
            "bucket_name",
            "storage_type",
            "location",
            "period_from",
            "period_to",
            "order",
            "order_by",
            "limit",
            "offset",
        ],
    ),
    ("history", &["id"]),
    ("list_plans", &["id"]),
    ("show_key", &["s3uid", "s3_key"]),
];

#[test]
fn every_name_of_the_reference_is_taken() {
    for (name, parameters) in REFERENCE {
        let action = functions::ACTIONS
            .iter()
            .find(|action| action.name == name)
            .expect("an action");
        for parameter in ["action", "token"].iter().chain(parameters) {
            assert!(action.takes.has(parameter), "{name} {parameter}");
        }
    }
}
