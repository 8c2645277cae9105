//! `create_order`.

use insta::assert_json_snapshot;
use jiff::ToSpan;
use jiff::civil::date;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, json_request, masked, text};
use tests::examples::{Attack, Example, GoodCall, NO_CLIENT_ID, Scene, with};
use wharfage::domain::account::S3Uid;
use wharfage::domain::credential::hash;
use wharfage::domain::event::Kind;
use wharfage::domain::ledger::Balances;
use wharfage::domain::money::Currency;
use wharfage::domain::plan::{Plan, PlanId};

const ACTION: &str = "create_order";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let order = prepare.order_parameters();
            Box::pin(async { GoodCall::by_client(order) })
        },
        on_orders,
    )
    .needs_the_cluster()
);

/// What a client tries with an order.
pub(crate) fn on_orders(scene: &Scene) -> Vec<Attack> {
    let order = json!({ "plan_id": 2, "bucket_name": "a-new-bucket" });
    vec![
        Attack::new(
            with(&order, json!({ "id": scene.others_client_id })),
            with(&order, json!({ "id": NO_CLIENT_ID })),
            404,
        ),
        // A plan that is not offered is not there either.
        Attack::new(
            with(&order, json!({ "plan_id": 4 })),
            with(&order, json!({ "plan_id": 444 })),
            404,
        ),
    ]
}

async fn balances(app: &TestApp, who: &str, currency: &str) -> Balances {
    let currency = Currency::from_code(currency).expect("a currency");
    let client_id = app.client_id(who);
    let balances = app.context().database.balances(client_id, currency).await;
    balances.expect("balances")
}

/// Every posting sums to zero, and together they are the balances.
async fn check_ledger(app: &TestApp, who: &str, currency: &str) {
    let postings = app.context().database.postings(app.client_id(who)).await;
    let mut rebuilt = Balances::default();
    for posting in postings.expect("postings") {
        assert_eq!(
            posting.amounts_minor.values().sum::<i64>(),
            0,
            "{posting:?}"
        );
        assert_eq!(posting.currency.code(), currency);
        rebuilt.apply(&posting);
    }
    let balances = balances(app, who, currency).await;
    rebuilt.invoices = balances.invoices;
    assert_eq!(rebuilt, balances);
    assert_eq!(balances.sum_minor(), 0);
}

async fn change_plan(app: &TestApp, plan_id: u64, change: impl FnOnce(&mut Plan)) {
    let database = &app.context().database;
    let mut plan = database
        .plan(PlanId(plan_id))
        .await
        .expect("an answer")
        .expect("a plan");
    plan.version += 1;
    change(&mut plan);
    let actor = wharfage::domain::history::Actor::system("test");
    let entity = wharfage::domain::history::Entity::Plan(plan.id);
    let entry = app
        .context()
        .entry(None, &entity, "create_plan", actor, serde_json::Value::Null);
    assert!(
        database
            .put_plan(&plan, &entry)
            .await
            .expect("the plan is written")
            .is_yes()
    );
}

#[tokio::test]
async fn create_order_makes_a_whole_account_and_charges_it_once() {
    let app = TestApp::start().await;
    let body = app
        .call(
            "client",
            ACTION,
            json!({ "plan_id": 2, "bucket_name": "my-bucket", "location": "NL" }),
        )
        .await
        .ok();
    assert_json_snapshot!("success", masked(&app, &body));
    let s3uid = body["s3uid"].as_str().expect("a text");
    assert!(s3uid.len() == 32 && s3uid.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(body["id"].is_u64() && body["invoice_id"].is_u64());
    assert!(
        body.get("message").is_none() && body.get("error").is_none() && body.get("code").is_none()
    );

    // The keys work, and the bucket is there.
    let account = tests::TestAccount {
        s3uid: S3Uid(s3uid.to_owned()),
        id: body["id"].as_u64().expect("a number"),
        location: "NL".into(),
        bucket_name: "my-bucket".into(),
    };
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "hello.txt", 5).await;

    // 15.00 EUR moved from credit to revenue, by way of what is held.
    let now = balances(&app, "client", "EUR").await;
    assert_eq!(
        (now.credit_minor, now.held_minor, now.revenue_minor),
        (18_500, 0, 1_500)
    );
    assert_eq!((now.receivable_minor, now.invoices), (0, 1));
    check_ledger(&app, "client", "EUR").await;
    let client_id = app.client_id("client");
    let postings = app
        .context()
        .database
        .postings(client_id)
        .await
        .expect("postings");
    let kinds: Vec<&str> = postings
        .iter()
        .filter_map(|posting| posting.id.split(':').next())
        .collect();
    assert_eq!(kinds, ["capture", "hold", "top_up"]);

    let invoices = app
        .context()
        .database
        .invoices(client_id)
        .await
        .expect("invoices");
    assert_eq!(invoices.len(), 1);
    let invoice = &invoices[0];
    assert_eq!(body["invoice_id"], invoice.invoice_id.0);
    assert_eq!(
        (invoice.amount_minor, invoice.paid_at),
        (1_500, Some(app.now()))
    );
    assert_eq!(invoice.due_on, date(2026, 1, 15));
    assert_eq!(invoice.lines.len(), 1);
    let line = &invoice.lines[0];
    assert_eq!(
        (line.from, line.to, line.amount_minor),
        (date(2026, 1, 15), date(2026, 2, 15), 1_500)
    );
}

#[tokio::test]
async fn create_order_charges_the_price_of_the_location_in_the_client_s_currency() {
    let app = TestApp::start().await;
    let mut spent = [0, 0];
    let cases = [
        ("client", 2, None, 1_500),
        ("client", 2, Some("DE"), 1_400),
        ("client", 3, Some("NL"), 800),
        ("client", 3, Some("DE"), 750),
        ("client2", 2, Some("NL"), 1_650),
        ("client2", 2, Some("DE"), 1_550),
        ("client2", 3, Some("DE"), 825),
    ];
    for (number, (who, plan_id, location, price)) in cases.into_iter().enumerate() {
        let mut parameters =
            json!({ "plan_id": plan_id, "bucket_name": format!("bucket-{number}") });
        if let Some(location) = location {
            parameters["location"] = location.into();
        }
        let body = app.call(who, ACTION, parameters).await.ok();
        assert_eq!(body["location"], location.unwrap_or("NL"));
        let (whose, currency) = if who == "client" {
            (0, "EUR")
        } else {
            (1, "USD")
        };
        spent[whose] += price;
        let now = balances(&app, who, currency).await;
        assert_eq!(
            now.credit_minor,
            20_000 - spent[whose],
            "{who} {plan_id} {location:?}"
        );
        assert_eq!(now.revenue_minor, spent[whose]);
    }
    check_ledger(&app, "client", "EUR").await;
    check_ledger(&app, "client2", "USD").await;
    let invoices = app
        .context()
        .database
        .invoices(app.client_id("client"))
        .await
        .expect("invoices");
    let numbers: Vec<&str> = invoices
        .iter()
        .map(|invoice| invoice.number.as_str())
        .collect();
    assert_eq!(
        numbers,
        ["1-EUR-0001", "1-EUR-0002", "1-EUR-0003", "1-EUR-0004"]
    );
}

#[tokio::test]
async fn create_order_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "plan_id": 99, "bucket_name": "my-bucket", "location": "NL" }),
    };
    contract.refuses_bad_tokens().await;
    contract.refuses_missing(&["plan_id", "bucket_name"]).await;
    contract.takes_a_number("plan_id", 1, i64::MAX as u64).await;
    contract.takes_a_line("bucket_name").await;
    contract.takes_a_line("location").await;
    contract.takes_a_line("idempotency_key").await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    contract
        .refuses(
            "location",
            "must be DE or NL",
            &[json!("XX"), json!("N"), json!("NL ")],
        )
        .await;
    let rule = "must be at most 255 characters long";
    contract
        .refuses("idempotency_key", rule, &[json!("k".repeat(256))])
        .await;
    let names = [
        (
            "must be 3 to 63 characters long",
            vec![json!("ab"), json!("a".repeat(64)), json!(12)],
        ),
        (
            "may hold only a-z, 0-9, hyphens and dots",
            vec![
                json!("My-bucket"),
                json!("my_bucket"),
                json!("my bucket"),
                json!("bücket"),
                json!("a/b"),
            ],
        ),
        (
            "must begin and end with a letter or a digit",
            vec![json!("-abc"), json!("abc."), json!("...")],
        ),
        ("must not hold two dots in a row", vec![json!("a..b")]),
        (
            "must not look like an IP address",
            vec![json!("192.168.5.4")],
        ),
        (
            "begins with a reserved prefix",
            vec![
                json!("xn--abc"),
                json!("sthree-abc"),
                json!("amzn-s3-demo-abc"),
            ],
        ),
        (
            "ends with a reserved suffix",
            vec![
                json!("abc-s3alias"),
                json!("abc--ol-s3"),
                json!("abc.mrap"),
                json!("abc--x-s3"),
                json!("abc--table-s3"),
            ],
        ),
    ];
    for (rule, values) in names {
        contract.refuses("bucket_name", rule, &values).await;
    }
    // Nothing of all this was begun.
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 20_000);
}

#[tokio::test]
async fn create_order_refuses_a_taken_bucket_name() {
    let app = TestApp::start().await;
    app.order("client", "my-bucket").await;
    for who in ["client", "client2"] {
        let order = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
        let reply = app.call(who, ACTION, order).await;
        assert_eq!(
            reply.refused(409),
            text(ACTION, "bucket name is already taken")
        );
    }
    assert_eq!(balances(&app, "client2", "USD").await.credit_minor, 20_000);
    // A name is unique in its location only.
    let elsewhere = json!({ "plan_id": 2, "bucket_name": "my-bucket", "location": "DE" });
    app.call("client2", ACTION, elsewhere).await.ok();
    check_ledger(&app, "client2", "USD").await;
}

#[tokio::test]
async fn create_order_turns_back_when_the_cluster_has_the_name_already() {
    let app = TestApp::start().await;
    let account = app.order("client", "first-bucket").await;
    // Made past the product, so that only the cluster knows.
    let s3 = app.s3("client", &account).await;
    s3.create_bucket()
        .bucket("hidden-bucket")
        .send()
        .await
        .expect("the bucket is made");
    let before = balances(&app, "client2", "USD").await;
    let order = json!({ "plan_id": 2, "bucket_name": "hidden-bucket" });
    let reply = app.call("client2", ACTION, order).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "bucket name is already taken")
    );
    let after = balances(&app, "client2", "USD").await;
    assert_eq!(
        (after.credit_minor, after.held_minor),
        (before.credit_minor, 0)
    );
    check_ledger(&app, "client2", "USD").await;
    let users = app.call("client2", "get_users", json!({})).await.ok();
    assert_eq!(users["s3_users"], json!([]));
    let events = app.context().database.unsent_events(100).await;
    let events = events.expect("events");
    let undone = events.iter().find(|event| event.kind == Kind::OrderUndone);
    let detail = &undone.expect("the world is told").detail;
    assert_eq!(detail["reason"], "bucket name is already taken");
    // The owner still has it.
    app.put(&s3, "hidden-bucket", "x", 1).await;
}

#[tokio::test]
async fn create_order_refuses_what_the_credit_does_not_cover_and_makes_nothing() {
    let app = TestApp::start().await;
    change_plan(&app, 2, |plan| {
        plan.location_prices.clear();
        for prices in plan.prices.values_mut() {
            prices.monthly = Decimal::new(12_000, 2);
        }
    })
    .await;
    app.order("client", "first-bucket").await;
    let order = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
    let reply = app.call("client", ACTION, order.clone()).await;
    let wanted = "not enough credit: 120.00 EUR needed, 80.00 available";
    assert_eq!(reply.refused(402), text(ACTION, wanted));
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 8_000);
    check_ledger(&app, "client", "EUR").await;
    let users = app.call("client", "get_users", json!({})).await.ok();
    assert_eq!(users["s3_users"].as_array().map(Vec::len), Some(1));
    // The name was not taken by it.
    app.call("client2", ACTION, order).await.ok();
    // An admin has no credit of its own at all, but a client's order can be placed for it.
    let mut order = json!({ "plan_id": 3, "bucket_name": "other-bucket" });
    let reply = app.call("admin", ACTION, order.clone()).await;
    let wanted = "not enough credit: 8.00 EUR needed, 0.00 available";
    assert_eq!(reply.refused(402), text(ACTION, wanted));
    order["id"] = app.client_id("client").0.into();
    app.call("admin", ACTION, order).await.ok();
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 7_200);
}

#[tokio::test]
async fn create_order_takes_exactly_the_whole_credit() {
    let app = TestApp::start().await;
    change_plan(&app, 3, |plan| {
        plan.location_prices.clear();
        for prices in plan.prices.values_mut() {
            prices.monthly = Decimal::new(20_000, 2);
        }
    })
    .await;
    let order = json!({ "plan_id": 3, "bucket_name": "my-bucket" });
    app.call("client", ACTION, order).await.ok();
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 0);
    // One cent more is too much.
    change_plan(&app, 3, |plan| {
        for prices in plan.prices.values_mut() {
            prices.monthly = Decimal::new(20_001, 2);
        }
    })
    .await;
    let order = json!({ "plan_id": 3, "bucket_name": "other-bucket" });
    let reply = app.call("client2", ACTION, order).await;
    let wanted = "not enough credit: 200.01 USD needed, 200.00 available";
    assert_eq!(reply.refused(402), text(ACTION, wanted));
}

#[tokio::test]
async fn create_order_knows_plans_by_who_may_see_them_and_where_they_are_offered() {
    let app = TestApp::start().await;
    let order = |plan_id: u64| json!({ "plan_id": plan_id, "bucket_name": "my-bucket" });
    // Plan 4 is inactive: for a client as if it were not there.
    for plan_id in [4, 99, i64::MAX as u64] {
        let reply = app.call("client", ACTION, order(plan_id)).await;
        assert_eq!(reply.refused(404), text(ACTION, "S3 plan not found"));
    }
    let mut elsewhere = order(4);
    elsewhere["location"] = "DE".into();
    elsewhere["id"] = app.client_id("client").0.into();
    let reply = app.call("admin", ACTION, elsewhere).await;
    let rule = "invalid parameter location: must be NL, where the plan is offered";
    assert_eq!(reply.refused(400), text(ACTION, rule));

    let mut for_nobody = order(2);
    for_nobody["id"] = 99.into();
    let reply = app.call("admin", ACTION, for_nobody).await;
    assert_eq!(reply.refused(404), text(ACTION, "customer not found"));
    let mut for_another = order(2);
    for_another["id"] = app.client_id("client2").0.into();
    let reply = app.call("client", ACTION, for_another).await;
    assert_eq!(
        reply.refused(404),
        text(ACTION, "S3 account not found for this customer")
    );

    change_plan(&app, 2, |plan| {
        plan.prices
            .remove(&Currency::from_code("USD").expect("USD"));
    })
    .await;
    let reply = app.call("client2", ACTION, order(2)).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "the plan is not sold in USD")
    );
}

#[tokio::test]
async fn create_order_sells_inactive_plans_to_clients_with_the_tag_s3_test() {
    let app = TestApp::start().await;
    let token = crate::list_plans::tagged_client(&app).await;
    // Without credit the order gets as far as its payment: the plan was found.
    let order = json!({ "token": token, "plan_id": 4, "bucket_name": "my-bucket" });
    let reply = app.post_form("/s3/create_order", &order).await;
    let wanted = "not enough credit: 9.90 EUR needed, 0.00 available";
    assert_eq!(reply.refused(402), text(ACTION, wanted));
    // Paid by invoice, it is fulfilled.
    let reply = app.post_form("/s3/create_account", &order).await;
    assert_eq!(reply.ok()["status"], "active");
}

#[tokio::test]
async fn create_order_keeps_to_the_limits_of_free_and_of_all_accounts() {
    let app = TestApp::with(&[("FreeAccountsPerClient", "2"), ("AccountsPerClient", "3")])
        .start()
        .await;
    let order = |plan_id: u64, number: u64| json!({ "plan_id": plan_id, "bucket_name": format!("bucket-{number}") });
    let free = app.call("client", ACTION, order(1, 0)).await.ok();
    assert_eq!(free["invoice_id"], Value::Null);
    app.call("client", "create_account", order(1, 1)).await.ok();
    let reply = app.call("client", ACTION, order(1, 2)).await;
    assert_eq!(
        reply.refused(403),
        text(ACTION, "the limit of free S3 accounts is reached")
    );
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 20_000);
    app.call("client", ACTION, order(2, 2)).await.ok();
    let reply = app.call("client", ACTION, order(2, 3)).await;
    assert_eq!(
        reply.refused(403),
        text(ACTION, "the limit of S3 accounts is reached")
    );
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 18_500);
    // Limits are each client's own.
    app.call("client2", ACTION, order(1, 4)).await.ok();
    // What is deleted makes room.
    app.call(
        "client",
        "delete_account",
        json!({ "s3uid": free["s3uid"] }),
    )
    .await
    .ok();
    app.stack.drain().await.expect("the queues are emptied");
    app.call("client", ACTION, order(1, 3)).await.ok();
}

#[tokio::test]
async fn create_order_answers_a_repeated_idempotency_key_without_charging_again() {
    let app = TestApp::start().await;
    let token = app.token("client").to_owned();
    let order = json!({ "token": token, "plan_id": 2, "bucket_name": "my-bucket", "idempotency_key": "k-1" });
    let first = app.post_form("/s3/create_order", &order).await.ok();
    assert_eq!(app.post_form("/s3/create_order", &order).await.ok(), first);
    // As JSON with numbers, through the single endpoint, and with the key as a header: the same request.
    let as_json = json!({ "plan_id": 2, "action": "create_order", "bucket_name": "my-bucket", "token": token, "idempotency_key": "k-1" });
    assert_eq!(app.post_json("/s3.php", &as_json).await.ok(), first);
    let plain = json!({ "token": token, "plan_id": "2", "bucket_name": "my-bucket" });
    let with_header = |key: &str, parameters: &Value| {
        let mut request = json_request("/s3/create_order", parameters);
        request
            .headers_mut()
            .insert("Idempotency-Key", key.parse().expect("a header"));
        request
    };
    assert_eq!(app.send(with_header("k-1", &plain)).await.ok(), first);
    // Both may say it, as long as they say the same.
    assert_eq!(app.send(with_header("k-1", &order)).await.ok(), first);
    for (header, parameter) in [("k-1", "other"), ("other", "k-1")] {
        let mut both = order.clone();
        both["idempotency_key"] = parameter.into();
        let reply = app.send(with_header(header, &both)).await;
        let rule = "invalid parameter idempotency_key: is not what the header Idempotency-Key says";
        assert_eq!(reply.refused(400), text(ACTION, rule));
    }
    // However the same order is written.
    for (name, value) in [
        ("location", "NL"),
        ("plan_id", "02"),
        ("bucket", "my-bucket"),
    ] {
        let mut same = order.clone();
        same[name] = value.into();
        if name == "bucket" {
            same["bucket_name"] = Value::Null;
        }
        let reply = app.post_json("/s3/create_order", &same).await;
        assert_eq!(reply.ok(), first, "{name}");
    }
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 18_500);
    check_ledger(&app, "client", "EUR").await;

    let used = text(ACTION, "idempotency key was used with other parameters");
    for (name, value) in [
        ("plan_id", json!(3)),
        ("bucket_name", json!("other")),
        ("location", json!("DE")),
    ] {
        let mut other = order.clone();
        other[name] = value;
        assert_eq!(
            app.post_form("/s3/create_order", &other).await.refused(422),
            used
        );
    }
    assert_eq!(
        app.post_form("/s3/create_account", &order)
            .await
            .refused(422),
        used
    );
    // Another client's key is another key.
    let mut others = order.clone();
    others["token"] = app.token("client2").into();
    others["bucket_name"] = "other".into();
    app.post_form("/s3/create_order", &others).await.ok();

    let too_long = app.send(with_header(&"k".repeat(256), &plain)).await;
    let rule = "invalid parameter idempotency_key: must be at most 255 characters long";
    assert_eq!(too_long.refused(400), text(ACTION, rule));
    let not_ascii = app.send(with_header("schlüssel", &plain)).await;
    let rule = "invalid parameter Idempotency-Key: must be plain ASCII";
    assert_eq!(not_ascii.refused(400), text(ACTION, rule));
}

#[tokio::test]
async fn create_order_makes_a_bucket_name_up_where_the_operator_wants_it() {
    let app = TestApp::with(&[("GenerateBucketNames", "yes")])
        .start()
        .await;
    let id = app.client_id("client");
    let mut names = std::collections::BTreeSet::new();
    let orders = [
        ("/s3/create_order", json!({ "plan_id": 2 })),
        (
            "/s3/create_order",
            json!({ "plan_id": 2, "bucket_name": "" }),
        ),
        ("/s3/create_account", json!({ "plan_id": 1 })),
        ("/s3.php", json!({ "action": "create_order", "plan_id": 2 })),
    ];
    for (path, mut order) in orders {
        order["token"] = app.token("client").into();
        let answer = app.post_form(path, &order).await.ok();
        let name = answer["bucket_name"].as_str().expect("a name").to_owned();
        let random = name.strip_prefix(&format!("client-{id}-"));
        assert!(random.is_some_and(|random| random.len() == 20), "{name}");
        assert_eq!(wharfage::domain::bucket_name::check(&name), Ok(()));
        // The bucket is there.
        let own = json!({ "s3uid": answer["s3uid"] });
        let listed = app.call("client", "get_buckets", own).await.ok();
        assert_eq!(listed["message"][0]["name"], name.as_str());
        assert!(names.insert(name));
    }
    // An administrator's order for a client has the client's number.
    let order = json!({ "plan_id": 2, "id": id });
    let answer = app.call("admin", ACTION, order).await.ok();
    let name = answer["bucket_name"].as_str().expect("a name");
    assert!(name.starts_with(&format!("client-{id}-")), "{name}");
    // A name that is given is taken, or refused.
    let account = app.order("client", "my-bucket").await;
    assert_eq!(account.bucket_name, "my-bucket");
    let bad = json!({ "plan_id": 2, "bucket_name": "No" });
    let wanted = text(
        ACTION,
        "invalid parameter bucket_name: must be 3 to 63 characters long",
    );
    assert_eq!(app.call("client", ACTION, bad).await.refused(400), wanted);
}

#[tokio::test]
async fn create_order_repeats_the_name_it_made_up() {
    let app = TestApp::with(&[("GenerateBucketNames", "yes")])
        .start()
        .await;
    let order = json!({ "plan_id": 2, "idempotency_key": "k-1" });
    let first = app.call("client", ACTION, order.clone()).await.ok();
    for _ in 0..2 {
        let again = app.call("client", ACTION, order.clone()).await.ok();
        assert_eq!(again, first);
    }
    // With a name it is another order, also with that one.
    for name in [first["bucket_name"].clone(), json!("my-bucket")] {
        let mut named = order.clone();
        named["bucket_name"] = name;
        assert_eq!(
            app.call("client", ACTION, named).await.refused(422),
            text(ACTION, "idempotency key was used with other parameters")
        );
    }
    check_ledger(&app, "client", "EUR").await;
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 18_500);
}

/// As the version before kept them: of the text.
#[tokio::test]
async fn create_order_knows_an_idempotency_key_that_was_kept_by_the_text_of_its_request() {
    let app = TestApp::start().await;
    let order = json!({ "plan_id": "2", "bucket_name": "my-bucket", "idempotency_key": "k-1" });
    let first = app.call("client", ACTION, order.clone()).await.ok();
    let client_id = app.client_id("client");
    let database = &app.context().database;
    let kept = database.idempotency_record(client_id, "k-1", app.now());
    let kept = kept.await.expect("DynamoDB answers").expect("a record");
    let rewrite = async |fingerprint: &str| {
        let key = format!("IDEMPOTENCY#{client_id}#{}", hash("k-1"));
        let later = (app.now().as_second() + 1_000).to_string();
        let row = [
            ("pk", &*key),
            ("order_id", &*kept.order_id),
            ("fingerprint", fingerprint),
        ];
        app.put_item_with("ORDERS_TABLE", &row, ("expires_at_epoch", &later))
            .await;
    };
    let text_of_it = r#"[["bucket_name","my-bucket"],["plan_id","2"]]"#;
    rewrite(&hash(&format!("{ACTION}\n{text_of_it}"))).await;
    let again = app.call("client", ACTION, order.clone()).await.ok();
    assert_eq!(again, first);
    rewrite(&hash("of another order")).await;
    app.call("client", ACTION, order).await.refused(422);
}

#[tokio::test]
async fn create_order_forgets_an_idempotency_key_after_a_day() {
    let app = TestApp::start().await;
    let login = async || {
        let key = app.stack.seeded().api_key("client");
        let body = app.auth("login", json!({ "key": key })).await.body;
        body["result"]["token"].clone()
    };
    let order = async |bucket_name: &str| {
        let parameters = json!({ "token": login().await, "plan_id": 2, "bucket_name": bucket_name, "idempotency_key": "k-1" });
        app.post_form("/s3/create_order", &parameters).await
    };
    let first = order("my-bucket").await.ok();
    app.stack
        .advance(86_399.seconds())
        .await
        .expect("time passes");
    assert_eq!(order("my-bucket").await.ok(), first);
    app.stack.advance(1.second()).await.expect("time passes");
    let second = order("other-bucket").await.ok();
    assert_ne!(second["s3uid"], first["s3uid"]);
}

#[tokio::test]
async fn create_order_lets_a_refused_request_try_again_with_its_idempotency_key() {
    let app = TestApp::start().await;
    let account = app.order("client2", "taken-bucket").await;
    let order = json!({ "plan_id": 2, "bucket_name": "taken-bucket", "idempotency_key": "k-1" });
    app.call("client", ACTION, order.clone()).await.refused(409);
    app.call(
        "client2",
        "delete_bucket",
        json!({ "s3uid": account.s3uid, "bucket_name": "taken-bucket" }),
    )
    .await
    .ok();
    app.call("client", ACTION, order).await.ok();
    assert_eq!(balances(&app, "client", "EUR").await.credit_minor, 18_500);
}

#[tokio::test]
async fn create_order_gives_one_name_and_one_key_to_one_of_many_at_once() {
    let app = TestApp::start().await;
    let order = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
    let replies = futures::future::join_all((0..6).map(|number| {
        let who = if number % 2 == 0 { "client" } else { "client2" };
        app.call(who, ACTION, order.clone())
    }))
    .await;
    let won = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(won, 1);
    for reply in replies.into_iter().filter(|reply| reply.status != 200) {
        assert_eq!(
            reply.refused(409),
            text(ACTION, "bucket name is already taken")
        );
    }
    let order = json!({ "plan_id": 2, "bucket_name": "other-bucket", "idempotency_key": "k-1" });
    let replies =
        futures::future::join_all((0..6).map(|_| app.call("client", ACTION, order.clone()))).await;
    let mut answers = Vec::new();
    for reply in replies {
        if reply.status == 200 {
            answers.push(reply.ok());
        } else {
            assert_eq!(reply.retry_after, Some(5));
            let wanted = text(
                ACTION,
                "the first request with this idempotency key is still under way",
            );
            assert_eq!(reply.refused(409), wanted);
        }
    }
    assert!(!answers.is_empty() && answers.iter().all(|answer| *answer == answers[0]));
    check_ledger(&app, "client", "EUR").await;
    check_ledger(&app, "client2", "USD").await;
    let charged = balances(&app, "client", "EUR").await.revenue_minor
        + balances(&app, "client2", "USD").await.revenue_minor;
    assert!(
        [1_500 + 1_500, 1_650 + 1_500].contains(&charged),
        "{charged}"
    );
}

#[tokio::test]
async fn create_order_holds_nothing_back_when_the_cluster_cannot_answer() {
    let app = TestApp::start_idle(&[]).await;
    let order = json!({ "plan_id": 2, "bucket_name": "my-bucket" });
    let cannot = |name: &str| name.starts_with("cluster PUT");
    let call = app.call_directly("client", ACTION, order.clone());
    let reply = app.tap.without(cannot, call).await;
    assert_eq!(reply.retry_after, Some(5));
    let wanted = text(ACTION, "the storage cannot answer now, try again later");
    assert_eq!(reply.refused(503), wanted);
    let now = balances(&app, "client", "EUR").await;
    assert_eq!((now.credit_minor, now.held_minor), (20_000, 0));
    check_ledger(&app, "client", "EUR").await;
    // The name is free for the next try.
    app.call("client", ACTION, order).await.ok();
}
