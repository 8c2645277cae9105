//! `get_users`.

use insta::assert_json_snapshot;
use jiff::civil::{Date, date};
use jiff::{Span, ToSpan};
use serde_json::{Value, json};
use tests::contract::{Contract, NO_S3UID, masked, text};
use tests::examples::{
    Attack, Example, GoodCall, NO_ACCOUNT_ID, NO_BUCKET, NO_CLIENT_ID, Preparation, Scene,
};
use tests::usage::SetDay;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::S3Uid;
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::usage::{Day, Moved, Stored};

const ACTION: &str = "get_users";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(one_account(prepare)),
    on_filters,
));

async fn one_account(prepare: &Preparation<'_>) -> GoodCall {
    let account = prepare.order().await;
    GoodCall::by_client(json!({})).besides(json!({
        "s3uid": account.s3uid, "bucket_name": account.bucket_name, "plan_id": 2, "email": "client@example.com",
    }))
}

fn on_filters(scene: &Scene) -> Vec<Attack> {
    let (s3uid, id, client_id) = (&scene.others.s3uid, scene.others.id, scene.others_client_id);
    [
        (json!({ "s3uid": s3uid }), json!({ "s3uid": NO_S3UID })),
        (json!({ "id": id }), json!({ "id": NO_ACCOUNT_ID })),
        (json!({ "id": client_id }), json!({ "id": NO_CLIENT_ID })),
        (
            json!({ "account_id": id }),
            json!({ "account_id": NO_ACCOUNT_ID }),
        ),
        (
            json!({ "email": "client2@example.com" }),
            json!({ "email": "nobody@example.com" }),
        ),
        (
            json!({ "billing": "direct" }),
            json!({ "billing": "nobody" }),
        ),
        (
            json!({ "bucket_name": "others-bucket" }),
            json!({ "bucket_name": NO_BUCKET }),
        ),
        (
            json!({ "bucket_name": "others-bucket", "location": "NL" }),
            json!({ "bucket_name": NO_BUCKET, "location": "NL" }),
        ),
    ]
    .map(|(parameters, on_nothing)| Attack::finds_nothing(parameters, on_nothing, "s3_users"))
    .into()
}

fn rows(body: &Value) -> Vec<Value> {
    body["s3_users"].as_array().expect("a list").clone()
}

async fn ask(app: &TestApp, who: &str, parameters: Value) -> Vec<Value> {
    rows(&app.call(who, ACTION, parameters).await.ok())
}

fn ids(rows: &[Value]) -> Vec<u64> {
    rows.iter()
        .map(|row| row["id"].as_u64().expect("a number"))
        .collect()
}

fn merged(one: &Value, other: &Value) -> Value {
    let mut both = one.clone();
    both.as_object_mut()
        .expect("an object")
        .extend(other.as_object().expect("an object").clone());
    both
}

/// Accounts of two clients and an admin, on three plans, in two locations, of two billing groups. Their numbers are 1, 2, 3 …; the
/// clients' are 1, 2 and 3, so that one could be taken for the other.
async fn some_accounts(app: &TestApp) -> Vec<TestAccount> {
    let wanted = [
        ("client", 1, "NL"),
        ("client", 2, "NL"),
        ("client", 2, "DE"),
        ("client2", 1, "NL"),
        ("client2", 3, "DE"),
        ("client2", 2, "NL"),
        ("client", 3, "NL"),
        ("admin", 3, "DE"),
        ("client", 3, "DE"),
    ];
    let mut accounts = Vec::new();
    for (number, (who, plan_id, location)) in wanted.into_iter().enumerate() {
        let order = json!({ "plan_id": plan_id, "location": location, "bucket_name": format!("bucket-{number}") });
        let body = app.call(who, "create_account", order).await.ok();
        accounts.push(TestAccount {
            s3uid: S3Uid(body["s3uid"].as_str().expect("a text").to_owned()),
            id: body["id"].as_u64().expect("a number"),
            location: location.into(),
            bucket_name: format!("bucket-{number}"),
        });
    }
    accounts
}

/// Sets what was last collected from the cluster, for the running period and for a day of it.
async fn set_figures(app: &TestApp, s3uid: &S3Uid, day: Date, sent_gb: u64, peak_gb: u64) {
    let database = &app.context().database;
    let mut account = database
        .account(s3uid)
        .await
        .expect("an answer")
        .expect("an account");
    account.period_bytes_sent = sent_gb * GB_BYTES;
    account.period_peak_stored_bytes = peak_gb * GB_BYTES;
    account.stored_bytes = peak_gb * GB_BYTES;
    database
        .set_account_figures(&account)
        .await
        .expect("written");
    // What is set here is to stay: nothing is collected for this account.
    app.leave_out_of_collection(s3uid).await;
    let stored = |hour, bytes| Stored { hour, bytes };
    let used = Day {
        stored: vec![stored(0, peak_gb * GB_BYTES), stored(1, 0)],
        moved: vec![Moved {
            hour: 0,
            bytes_sent: sent_gb * GB_BYTES,
            bytes_received: 0,
            requests: 1,
        }],
    };
    database.set_day(s3uid, day, &used).await.expect("written");
}

#[tokio::test]
async fn get_users_lists_accounts_with_their_figures_and_service() {
    let app = TestApp::start().await;
    assert_eq!(ask(&app, "client", json!({})).await, Vec::<Value>::new());
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 1 << 20).await;
    app.call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let body = app.call("client", ACTION, json!({})).await.ok();
    assert!(body.get("message").is_none());
    let row = &body["s3_users"][0];
    // The fields and types of the reference.
    assert_eq!(row["id"], account.id);
    assert_eq!(row["s3uid"], account.s3uid.as_str());
    assert_eq!(row["email"], "client@example.com");
    assert_eq!(row["billing"], "whmcs");
    assert_eq!(
        (&row["plan_id"], &row["location"], &row["storage_type"]),
        (&json!(2), &json!("NL"), &json!("Standard"))
    );
    assert_eq!(row["quota"], 5_000);
    assert_eq!(row["storage_usage"], 1.0 / 1024.0);
    assert!(row["traffic"].is_number());
    assert_eq!(row["service"]["next_commit_date"], "2026-02-15");
    let mut stable = body.clone();
    stable["s3_users"][0]["traffic"] = "[gb]".into();
    stable["s3_users"][0]["total_traffic_period_gb"] = "[gb]".into();
    assert_json_snapshot!("success", masked(&app, &stable));
}

#[tokio::test]
async fn get_users_narrows_by_every_filter_alone_and_with_every_other() {
    let app = TestApp::start().await;
    let accounts = some_accounts(&app).await;
    let all = ask(&app, "admin", json!({})).await;
    assert_eq!(ids(&all), (1..=9).collect::<Vec<u64>>());
    let of = |number: usize| &accounts[number];

    type Filter<'a> = (Value, Box<dyn Fn(&Value) -> bool + 'a>);
    let is = |name: &'static str, field: &'static str, value: Value| -> Filter<'_> {
        (
            json!({ name: value }),
            Box::new(move |row| row[field] == value),
        )
    };
    let bucket = |number: usize| -> Filter<'_> {
        let account = of(number);
        (
            json!({ "bucket_name": account.bucket_name }),
            Box::new(|row| row["s3uid"] == account.s3uid.as_str()),
        )
    };
    let filters: Vec<Filter<'_>> = vec![
        is("id", "client_id", json!(1)),
        is("id", "client_id", json!(2)),
        is("id", "client_id", json!(3)),
        is("account_id", "id", json!(2)),
        is("plan_id", "plan_id", json!(2)),
        is("plan_id", "plan_id", json!(3)),
        is("s3uid", "s3uid", json!(of(1).s3uid)),
        is("s3uid", "s3uid", json!(of(5).s3uid)),
        is("email", "email", json!("client2@example.com")),
        is("billing", "billing", json!("whmcs")),
        is("billing", "billing", json!("nobody")),
        bucket(1),
        bucket(5),
        is("storage_type", "storage_type", json!("Cold")),
        is("storage_type", "storage_type", json!("Standard")),
        is("location", "location", json!("DE")),
        is("location", "location", json!("NL")),
    ];
    for who in ["admin", "client", "client2"] {
        // Clients see their own.
        let seen: Vec<&Value> = match who {
            "admin" => all.iter().collect(),
            _ => all
                .iter()
                .filter(|row| row["client_id"] == app.client_id(who).0)
                .collect(),
        };
        for (first, one) in &filters {
            for (second, other) in &filters {
                let parameters = merged(first, second);
                // The same filter twice is the latter alone; a client's `id` has its own test.
                let is_one = first.as_object().map(|fields| {
                    fields
                        .keys()
                        .eq(second.as_object().expect("an object").keys())
                });
                if is_one == Some(true) && first != second
                    || who != "admin" && parameters.get("id").is_some()
                {
                    continue;
                }
                let wanted: Vec<u64> = seen
                    .iter()
                    .filter(|row| one(row) && other(row))
                    .map(|row| row["id"].as_u64().expect("a number"))
                    .collect();
                assert_eq!(
                    ids(&ask(&app, who, parameters.clone()).await),
                    wanted,
                    "{who}: {parameters}"
                );
            }
        }
    }
    // Emails are found in any case.
    assert_eq!(
        ask(&app, "admin", json!({ "email": "Client2@Example.COM" }))
            .await
            .len(),
        3
    );
    // The alias of bucket_name.
    assert_eq!(
        ids(&ask(&app, "client", json!({ "bucket": "bucket-2" })).await),
        [3]
    );
}

#[tokio::test]
async fn get_users_id_is_an_account_s_number_or_their_own_to_clients() {
    let app = TestApp::start().await;
    some_accounts(&app).await;
    // Client 2 has accounts 4, 5 and 6.
    assert_eq!(
        ids(&ask(&app, "client2", json!({ "id": 2 })).await),
        [4, 5, 6]
    );
    assert_eq!(ids(&ask(&app, "client2", json!({ "id": 5 })).await), [5]);
    assert_eq!(
        ids(&ask(&app, "client2", json!({ "id": 1 })).await),
        [] as [u64; 0]
    );
    assert_eq!(
        ids(&ask(&app, "client2", json!({ "id": 99 })).await),
        [] as [u64; 0]
    );
    // Nothing else shows another's either.
    for parameters in [
        json!({ "email": "client@example.com" }),
        json!({ "bucket_name": "bucket-0" }),
        json!({ "billing": "whmcs" }),
        json!({ "account_id": 1 }),
    ] {
        assert_eq!(ids(&ask(&app, "client2", parameters).await), [] as [u64; 0]);
    }
}

#[tokio::test]
async fn get_users_sorts_and_pages_many_accounts_without_gaps_or_repeats() {
    let app = TestApp::with(&[("FreeAccountsPerClient", "100")])
        .start()
        .await;
    // Three dozen accounts in six groups; many share a figure, and several have none.
    let mut orders = Vec::new();
    for number in 0..36_u64 {
        let who = if number % 3 == 0 { "client2" } else { "client" };
        let location = if number % 2 == 0 { "NL" } else { "DE" };
        let plan_id = if number % 4 == 3 { 3 } else { 1 };
        let order = json!({ "plan_id": plan_id, "location": location, "bucket_name": format!("bucket-{number}") });
        orders.push((who, order));
    }
    for chunk in orders.chunks(4) {
        let made = chunk
            .iter()
            .map(|(who, order)| app.call(who, "create_account", order.clone()));
        for reply in futures::future::join_all(made).await {
            reply.ok();
        }
    }
    let all = ask(&app, "admin", json!({ "limit": 500 })).await;
    assert_eq!(all.len(), 36);
    for row in &all {
        let number = row["id"].as_u64().expect("a number");
        let s3uid = S3Uid(row["s3uid"].as_str().expect("a text").to_owned());
        set_figures(
            &app,
            &s3uid,
            date(2026, 1, 15),
            (number * 7) % 11,
            (number * 5) % 8,
        )
        .await;
    }
    let figures = ["total_traffic_period_gb", "total_storage_peak_gb"];
    for (who, filter) in [
        ("admin", json!({})),
        ("admin", json!({ "plan_id": 1 })),
        ("admin", json!({ "id": 1 })),
        ("client", json!({})),
    ] {
        for order in [None, Some(figures[0]), Some(figures[1])] {
            for order_by in [None, Some("ASC"), Some("DESC"), Some("desc")] {
                let mut parameters = filter.clone();
                if let Some(order) = order {
                    parameters["order"] = order.into();
                }
                if let Some(order_by) = order_by {
                    parameters["order_by"] = order_by.into();
                }
                let whole = ask(&app, who, merged(&parameters, &json!({ "limit": 500 }))).await;
                let by = |row: &Value| row[order.unwrap_or("id")].as_f64().expect("a number");
                let is_descending =
                    order_by.is_some_and(|order_by| order_by.eq_ignore_ascii_case("DESC"));
                let is_sorted = whole.is_sorted_by(|a, b| {
                    if is_descending {
                        by(a) >= by(b)
                    } else {
                        by(a) <= by(b)
                    }
                });
                assert!(
                    is_sorted,
                    "{who} {parameters}: {:?}",
                    whole.iter().map(by).collect::<Vec<f64>>()
                );
                let mut distinct = ids(&whole);
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), whole.len());
                assert!(whole.len() >= 24);

                let limit = 7;
                let mut pages = Vec::new();
                for page in 0..=whole.len() / limit {
                    let part = json!({ "limit": limit, "offset": page * limit });
                    pages.extend(ask(&app, who, merged(&parameters, &part)).await);
                }
                assert_eq!(ids(&pages), ids(&whole), "{who} {parameters}");
            }
        }
    }
    assert_eq!(
        ask(&app, "admin", json!({ "offset": 36 })).await,
        Vec::<Value>::new()
    );
    assert_eq!(
        ask(&app, "admin", json!({ "offset": 35, "limit": 500 }))
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn get_users_sums_up_any_period_day_by_day() {
    let app = TestApp::start().await;
    let one = app.order("client", "one-bucket").await;
    let two = app.order("client", "two-bucket").await;
    for (account, day, sent_gb, peak_gb) in [
        (&one, date(2025, 12, 31), 100, 50),
        (&one, date(2026, 1, 1), 1, 5),
        (&one, date(2026, 1, 10), 2, 9),
        (&one, date(2026, 1, 15), 4, 7),
        (&two, date(2026, 1, 10), 3, 1),
    ] {
        set_figures(&app, &account.s3uid, day, sent_gb, peak_gb).await;
    }
    let figures = async |who: &str, parameters: Value| -> Vec<(u64, u64, u64)> {
        let rows = ask(&app, who, parameters).await;
        rows.iter()
            .map(|row| {
                let whole = |name: &str| row[name].as_f64().expect("a number") as u64;
                assert_eq!(row["traffic"], row["total_traffic_period_gb"]);
                (
                    row["id"].as_u64().expect("a number"),
                    whole("total_traffic_period_gb"),
                    whole("total_storage_peak_gb"),
                )
            })
            .collect()
    };
    for who in ["client", "admin"] {
        // Both days count.
        let january = json!({ "period_from": "2026-01-01", "period_to": "2026-01-31" });
        assert_eq!(figures(who, january).await, [(1, 7, 9), (2, 3, 1)]);
        let day = json!({ "period_from": "2026-01-10", "period_to": "2026-01-10" });
        assert_eq!(figures(who, day).await, [(1, 2, 9), (2, 3, 1)]);
        let december = json!({ "period_from": "2025-12-01", "period_to": "2025-12-31" });
        assert_eq!(figures(who, december).await, [(1, 100, 50), (2, 0, 0)]);
        // Without its end, until today; without its beginning, from the first of its month.
        assert_eq!(
            figures(who, json!({ "period_from": "2026-01-11" })).await,
            [(1, 4, 7), (2, 0, 0)]
        );
        assert_eq!(
            figures(who, json!({ "period_to": "2026-01-10" })).await,
            [(1, 3, 9), (2, 3, 1)]
        );
        let year = json!({ "period_from": "2025-01-15", "period_to": "2026-01-15" });
        assert_eq!(figures(who, year).await, [(1, 107, 50), (2, 3, 1)]);
        // Neither: the running period, as last collected.
        assert_eq!(figures(who, json!({})).await, [(1, 4, 7), (2, 3, 1)]);
    }
    // Sorted by the figures of the period, where the listing is narrowed to a client.
    for (who, narrowed) in [
        ("client", json!({})),
        ("admin", json!({ "id": app.client_id("client") })),
    ] {
        let by = json!({ "period_from": "2026-01-10", "period_to": "2026-01-10", "order": "total_traffic_period_gb" });
        assert_eq!(
            figures(who, merged(&narrowed, &by)).await,
            [(1, 2, 9), (2, 3, 1)]
        );
        let down = merged(&merged(&narrowed, &by), &json!({ "order_by": "DESC" }));
        assert_eq!(figures(who, down).await, [(2, 3, 1), (1, 2, 9)]);
    }
    let all = json!({ "period_from": "2026-01-10", "order": "total_traffic_period_gb" });
    let reply = app.call("admin", ACTION, all).await;
    let rule = "invalid parameter order: over a period takes a whole calendar month, as from 2026-01-01 to 2026-01-31, or one of id, email, s3uid, account_id and bucket_name with it";
    assert_eq!(reply.refused(400), text(ACTION, rule));
}

#[tokio::test]
async fn get_users_shows_no_traffic_of_a_period_that_has_ended() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    set_figures(&app, &account.s3uid, date(2026, 1, 15), 4, 7).await;
    let traffic = async |span: Span| {
        app.stack.advance(span).await.expect("time passes");
        let key = app.stack.seeded().api_key("client");
        let token = app.auth("login", json!({ "key": key })).await.body["result"]["token"].clone();
        let body = app
            .post_form("/s3/get_users", &json!({ "token": token }))
            .await
            .ok();
        (
            body["s3_users"][0]["traffic"].as_f64(),
            body["s3_users"][0]["total_storage_peak_gb"].as_f64(),
        )
    };
    assert_eq!(traffic(30.days()).await, (Some(4.0), Some(7.0)));
    // 15 February: a new period, in which so far only what is stored is known.
    assert_eq!(traffic(24.hours()).await, (Some(0.0), Some(7.0)));
}

#[tokio::test]
async fn get_users_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    // The reference: "s3/get_users: customer not found".
    for parameters in [
        json!({ "id": 99 }),
        json!({ "email": "nobody@example.com" }),
    ] {
        let reply = app.call("admin", ACTION, parameters).await;
        assert_eq!(reply.refused(404), "s3/get_users: customer not found");
    }
    for who in ["client", "admin"] {
        let contract = Contract {
            app: &app,
            who,
            action: ACTION,
            parameters: json!({}),
        };
        for name in ["id", "account_id", "plan_id"] {
            contract.takes_a_number(name, 1, i64::MAX as u64).await;
        }
        contract.takes_a_number("limit", 1, 500).await;
        contract.takes_a_number("offset", 0, 10_000).await;
        for name in [
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
        ] {
            contract.takes_a_line(name).await;
        }
        let rule = "must be total_traffic_period_gb or total_storage_peak_gb";
        contract
            .refuses(
                "order",
                rule,
                &[
                    json!("id"),
                    json!("traffic"),
                    json!("Total_traffic_period_gb"),
                ],
            )
            .await;
        contract
            .refuses(
                "order_by",
                "must be ASC or DESC",
                &[json!("up"), json!("ASC ")],
            )
            .await;
        let dates = [
            json!("2026-1-31"),
            json!("2026-02-30"),
            json!("31.01.2026"),
            json!("2026-01-31T00:00:00Z"),
            json!("20260131"),
            json!("today"),
            json!(20_260_131),
        ];
        for name in ["period_from", "period_to"] {
            contract
                .refuses(name, "must be a date as 2026-01-31", &dates)
                .await;
        }
        contract
            .refuses(
                "period_from",
                "must not be after period_to",
                &[json!("2026-01-16")],
            )
            .await;
        contract
            .refuses(
                "period_from",
                "must be at most 366 days before period_to",
                &[json!("2025-01-13"), json!("0001-01-01")],
            )
            .await;
        contract.refuses_bad_tokens().await;
    }
}

#[tokio::test]
async fn get_users_takes_the_longest_filters_it_allows() {
    let app = TestApp::start().await;
    let long = "x".repeat(1_024);
    for who in ["client", "admin"] {
        for names in [
            vec!["bucket_name"],
            vec!["bucket_name", "location"],
            vec!["billing", "location", "storage_type"],
        ] {
            let parameters: Value = names
                .iter()
                .map(|name| match *name {
                    "location" => ("location".to_owned(), json!("NL")),
                    name => (name.to_owned(), json!(long)),
                })
                .collect::<serde_json::Map<_, _>>()
                .into();
            assert_eq!(
                ask(&app, who, parameters).await,
                Vec::<Value>::new(),
                "{who} {names:?}"
            );
        }
    }
}

#[tokio::test]
async fn get_users_filters_by_status_and_by_what_stopped_the_keys() {
    let app = TestApp::start().await;
    let mut accounts = Vec::new();
    for number in 0..6 {
        let who = ["client", "client2"][number % 2];
        let parameters =
            json!({ "plan_id": 2 + number / 3, "bucket_name": format!("bucket-{number}") });
        accounts.push(app.order_with(who, parameters).await);
    }
    for number in [0, 2, 5] {
        let account = json!({ "s3uid": accounts[number].s3uid });
        app.call("admin", "suspend_account", account).await.ok();
    }
    let cancelled = json!({ "s3uid": accounts[4].s3uid });
    app.call("client", "delete_payment_account", cancelled)
        .await
        .ok();
    let found = async |who: &str, filter: Value| -> Vec<usize> {
        let rows = ask(&app, who, filter).await;
        let number = |row: &Value| accounts.iter().position(|account| row["id"] == account.id);
        rows.iter().filter_map(number).collect()
    };
    for (filter, wanted) in [
        (json!({ "status": "suspended" }), vec![0, 2, 5]),
        (json!({ "suspension": "administrator" }), vec![0, 2, 5]),
        (json!({ "suspension": "unpaid" }), vec![]),
        (json!({ "status": "cancelling" }), vec![4]),
        (json!({ "status": "active" }), vec![1, 3]),
        (json!({ "status": "terminating" }), vec![]),
        (
            json!({ "status": "active", "suspension": "administrator" }),
            vec![],
        ),
        (json!({ "status": "suspended", "plan_id": 2 }), vec![0, 2]),
        (
            json!({ "status": "suspended", "location": "nl", "order_by": "desc" }),
            vec![5, 2, 0],
        ),
        (
            json!({ "status": "suspended", "id": app.client_id("client") }),
            vec![0, 2],
        ),
        (
            json!({ "status": "suspended", "email": "client2@example.com" }),
            vec![5],
        ),
        (
            json!({ "status": "active", "s3uid": accounts[0].s3uid }),
            vec![],
        ),
        (
            json!({ "status": "suspended", "period_from": "2026-01-15" }),
            vec![0, 2, 5],
        ),
    ] {
        assert_eq!(found("admin", filter.clone()).await, wanted, "{filter}");
    }
    assert_eq!(
        found("client", json!({ "status": "suspended" })).await,
        [0, 2]
    );
    assert_eq!(
        found("client2", json!({ "status": "active" })).await,
        [1, 3]
    );

    // Everybody's, page by page, in both directions.
    for (order_by, wanted) in [("ASC", [0, 2, 5]), ("DESC", [5, 2, 0])] {
        for limit in 1..=4 {
            let mut parameters =
                json!({ "status": "suspended", "limit": limit, "order_by": order_by });
            let mut pages = Vec::new();
            for _ in 0..9 {
                pages.extend(found("admin", parameters.clone()).await);
                let body = app.call("admin", ACTION, parameters.clone()).await.ok();
                parameters["next_token"] = body["next_token"].clone();
                if body.get("next_token").is_none() {
                    break;
                }
            }
            assert_eq!(parameters["next_token"], Value::Null, "it ends");
            assert_eq!(pages, wanted, "{limit} at a time");
        }
    }
    for (name, parameters) in [
        ("order", json!({ "order": "total_storage_peak_gb" })),
        ("offset", json!({ "offset": 1 })),
    ] {
        let mut parameters = parameters;
        parameters["status"] = "active".into();
        let reply = app.call("admin", ACTION, parameters.clone()).await;
        let rule = format!(
            "invalid parameter {name}: goes with status, suspension and next_token only beside one of id, email, s3uid, account_id and bucket_name"
        );
        assert_eq!(reply.refused(400), text(ACTION, &rule));
        // Of one client's it is a page as any.
        parameters["id"] = app.client_id("client2").0.into();
        app.call("admin", ACTION, parameters).await.ok();
    }
    let contract = Contract {
        app: &app,
        who: "admin",
        action: ACTION,
        parameters: json!({}),
    };
    let rule = "must be active or cancelling or suspended or terminating";
    let values = ["Active", "open", "terminated"].map(Value::from);
    contract.refuses("status", rule, &values).await;
    let rule = "must be unpaid or administrator or traffic";
    contract.refuses("suspension", rule, &["none".into()]).await;
    contract
        .refuses("location", "must be DE or NL", &["XX".into()])
        .await;
    contract
        .takes_a_number("next_token", 1, i64::MAX as u64)
        .await;
}
