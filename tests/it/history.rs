//! `history`.

use insta::assert_json_snapshot;
use jiff::ToSpan;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, NO_S3UID, masked, text};
use tests::examples::{Attack, Example, GoodCall, NO_ACCOUNT_ID, Preparation, Scene};
use wharfage::domain::history::{Actor, Entry};

const ACTION: &str = "history";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(one_account(prepare)),
    on_accounts,
));

async fn one_account(prepare: &Preparation<'_>) -> GoodCall {
    let account = prepare.order().await;
    GoodCall::by_client(json!({})).besides(json!({ "s3uid": account.s3uid }))
}

fn on_accounts(scene: &Scene) -> Vec<Attack> {
    let (s3uid, id) = (&scene.others.s3uid, scene.others.id);
    [
        (json!({ "s3uid": s3uid }), json!({ "s3uid": NO_S3UID })),
        (json!({ "id": id }), json!({ "id": NO_ACCOUNT_ID })),
        (
            json!({ "account_id": id }),
            json!({ "account_id": NO_ACCOUNT_ID }),
        ),
    ]
    .map(|(parameters, on_nothing)| Attack::new(parameters, on_nothing, 404))
    .into()
}

fn actions(body: &Value) -> Vec<&str> {
    let entries = body["history"].as_array().expect("a list");
    entries
        .iter()
        .filter_map(|entry| entry["action"].as_str())
        .collect()
}

#[tokio::test]
async fn history_tells_who_did_what_newest_first() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let minute = async || {
        app.stack.advance(1.minute()).await.expect("time passes");
    };
    minute().await;
    let parameters = json!({ "s3uid": account.s3uid, "s3_key": "secret_key" });
    app.call("client", "show_key", parameters).await.ok();
    minute().await;
    app.call(
        "client",
        "create_bucket",
        json!({ "s3uid": account.s3uid, "bucket_name": "second" }),
    )
    .await
    .ok();
    minute().await;
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    app.call("admin", "delete_payment_account", by_admin.clone())
        .await
        .ok();
    minute().await;
    app.call("admin", "cancel_payment_account_deletion", by_admin)
        .await
        .ok();
    minute().await;
    app.call(
        "client",
        "delete_bucket",
        json!({ "s3uid": account.s3uid, "bucket_name": "second" }),
    )
    .await
    .ok();
    minute().await;
    app.call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await
        .ok();

    let body = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let wanted = [
        "get_buckets",
        "delete_bucket",
        "cancel_payment_account_deletion",
        "delete_payment_account",
        "create_bucket",
        "show_key",
        "create_order",
    ];
    assert_eq!(actions(&body), wanted);
    assert_json_snapshot!("success", masked(&app, &body));

    // By the account's number, by the client who did it all, by an admin.
    for (who, parameters) in [
        ("client", json!({ "id": account.id })),
        ("client", json!({ "account_id": account.id })),
        ("client", json!({})),
        ("admin", json!({ "s3uid": account.s3uid })),
        (
            "admin",
            json!({ "account_id": account.id, "id": app.client_id("client") }),
        ),
    ] {
        let same = app.call(who, ACTION, parameters.clone()).await.ok();
        assert_eq!(same["history"], body["history"], "{who} {parameters}");
    }
    // An admin's own history is not that of the accounts it looked after.
    assert_eq!(
        app.call("admin", ACTION, json!({})).await.ok()["history"],
        json!([])
    );
}

#[tokio::test]
async fn history_pages_by_offset_and_by_token_without_gaps_or_repeats() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "s3_key": "access_key" });
    for number in 0..60 {
        // Some within the same instant.
        if number % 3 == 0 {
            app.stack.advance(1.second()).await.expect("time passes");
        }
        app.call("client", "show_key", parameters.clone())
            .await
            .ok();
    }
    let ids = |body: &Value| -> Vec<String> {
        let entries = body["history"].as_array().expect("a list");
        entries
            .iter()
            .map(|entry| entry["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    for name in [json!({ "s3uid": account.s3uid }), json!({})] {
        let ask = async |fields: Value| {
            let mut parameters = name.clone();
            parameters
                .as_object_mut()
                .expect("an object")
                .extend(fields.as_object().expect("an object").clone());
            app.call("client", ACTION, parameters).await.ok()
        };
        let whole = ask(json!({ "limit": 500 })).await;
        assert_eq!(whole.get("next_token"), None);
        let all = ids(&whole);
        assert_eq!(all.len(), 61);
        let mut distinct = all.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 61);
        let mut dates: Vec<&str> = whole["history"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["date"].as_str())
            .collect();
        assert!(dates.is_sorted_by(|a, b| a >= b));
        dates.dedup();
        assert_eq!(dates.len(), 21);

        let first = ask(json!({})).await;
        assert_eq!(ids(&first), all[..50]);
        for limit in [1, 7, 60, 61] {
            let mut seen = Vec::new();
            let mut page = ask(json!({ "limit": limit })).await;
            loop {
                seen.extend(ids(&page));
                assert!(
                    page["history"]
                        .as_array()
                        .is_some_and(|entries| entries.len() <= limit)
                );
                let Some(next) = page.get("next_token").cloned() else {
                    break;
                };
                page = ask(json!({ "limit": limit, "next_token": next })).await;
            }
            assert_eq!(seen, all, "by {limit}");
        }
        for offset in [0, 1, 59, 60, 61, 10_000] {
            let body = ask(json!({ "limit": 10, "offset": offset })).await;
            assert_eq!(
                ids(&body),
                all[offset.min(61)..(offset + 10).min(61)],
                "from {offset}"
            );
        }
    }
}

#[tokio::test]
async fn history_of_a_plan_is_for_admins() {
    let app = TestApp::start().await;
    let body = app.call("admin", ACTION, json!({ "id": 2 })).await.ok();
    assert_eq!(actions(&body), ["create_plan"]);
    let entry = Entry {
        id: "a".repeat(20),
        at: app.now(),
        action: "plan_changed".into(),
        actor: Actor::system("test"),
        client_id: None,
        entity_kind: "plan".into(),
        entity_id: "2".into(),
        details: json!({ "version": 2 }),
    };
    app.context()
        .database
        .put_history(&entry)
        .await
        .expect("written");
    let body = app.call("admin", ACTION, json!({ "id": 2 })).await.ok();
    assert_eq!(actions(&body), ["plan_changed", "create_plan"]);
    assert_eq!(
        (
            &body["history"][0]["entity"],
            &body["history"][0]["entity_id"]
        ),
        (&json!("plan"), &json!("2"))
    );
    let other = app.call("admin", ACTION, json!({ "id": 3 })).await.ok();
    assert_eq!(actions(&other), ["create_plan"]);
    let reply = app.call("admin", ACTION, json!({ "id": 99 })).await;
    assert_eq!(reply.refused(404), text(ACTION, "S3 plan not found"));
    // To a client the same number names an account, and this one has none.
    let reply = app.call("client", ACTION, json!({ "id": 2 })).await;
    assert_eq!(
        reply.refused(404),
        text(ACTION, "S3 account not found for this customer")
    );
}

#[tokio::test]
async fn history_shows_no_client_another_s() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    for parameters in [
        json!({ "s3uid": account.s3uid }),
        json!({ "id": account.id }),
        json!({ "account_id": account.id }),
        json!({ "account_id": account.id, "id": app.client_id("client") }),
        json!({ "s3uid": NO_S3UID }),
    ] {
        let reply = app.call("client2", ACTION, parameters.clone()).await;
        let wanted = text(ACTION, "S3 account not found for this customer");
        assert_eq!(reply.refused(404), wanted, "{parameters}");
    }
    assert_eq!(
        app.call("client2", ACTION, json!({})).await.ok()["history"],
        json!([])
    );
    // An admin's account_id means an account, whoever's, and not a plan.
    let shown = app
        .call("admin", ACTION, json!({ "account_id": account.id }))
        .await
        .ok();
    assert_eq!(actions(&shown), ["create_order"]);
    let reply = app.call("admin", ACTION, json!({ "account_id": 99 })).await;
    assert_eq!(
        reply.refused(404),
        text(ACTION, "S3 account not found for this customer")
    );
}

/// The reference: "s3/history: missing auth token".
#[tokio::test]
async fn history_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let reply = app.post_form("/s3/history", &json!({})).await;
    assert_eq!(reply.refused(401), "s3/history: missing auth token");
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({}),
    };
    contract.refuses_bad_tokens().await;
    contract.takes_a_number("id", 1, i64::MAX as u64).await;
    contract
        .takes_a_number("account_id", 1, i64::MAX as u64)
        .await;
    contract.takes_a_number("limit", 1, 500).await;
    contract.takes_a_number("offset", 0, 10_000).await;
    contract.takes_a_line("s3uid").await;
    contract.takes_a_line("next_token").await;
    let values = [json!("%"), json!("a"), json!("=="), json!("_w")];
    contract
        .refuses("next_token", "is not one that history gave", &values)
        .await;
}

#[tokio::test]
async fn history_of_a_client_is_for_it_and_for_admins() {
    let app = TestApp::start().await;
    let id = app.client_id("client");
    let tagged = json!({ "id": id, "tags": "vip" });
    app.call("admin", "update_client", tagged).await.ok();
    let client_id = json!({ "client_id": id });
    let by_admin = app.call("admin", "history", client_id.clone()).await.ok();
    assert_eq!(by_admin["history"][0]["action"], "update_client");
    let own = app.call("client", "history", client_id.clone()).await.ok();
    assert_eq!(own["history"], by_admin["history"]);
    let reply = app.call("client2", "history", client_id).await;
    let wanted = text("history", "allowed to administrators only");
    assert_eq!(reply.refused(403), wanted);
}

#[tokio::test]
async fn history_tells_administrators_what_somebody_did_wherever_it_was() {
    let app = TestApp::start().await;
    let info = json!({ "token": app.token("admin") });
    let info = app.auth("info", info).await;
    let admin = info.body["result"]["customer_id"].clone();
    let account = app.order("client", "my-bucket").await;
    let both = [app.client_id("client"), app.client_id("client2")];
    for id in both {
        let credit = json!({ "id": id, "amount": 1, "reference": id });
        app.call("admin", "add_credit", credit).await.ok();
        app.stack.advance(1.minute()).await.expect("time passes");
    }
    let plan = json!({ "plan_id": 3, "quota": 1 });
    app.call("admin", "update_plan", plan).await.ok();
    let by = async |parameters: Value| app.call("admin", ACTION, parameters).await.ok();
    let body = by(json!({ "actor_id": admin })).await;
    assert_eq!(actions(&body), ["update_plan", "add_credit", "add_credit"]);
    assert_eq!(body["history"][1]["entity_id"], both[1].to_string());
    // A page at a time.
    let first = by(json!({ "actor_id": admin, "limit": 2 })).await;
    let rest = by(json!({ "actor_id": admin, "next_token": first["next_token"] })).await;
    assert_eq!(
        (actions(&first).len(), actions(&rest)),
        (2, vec!["add_credit"])
    );
    let clients = by(json!({ "actor_id": both[0] })).await;
    assert_eq!(clients["history"][0]["entity_id"], account.s3uid.as_str());
    let own = json!({ "actor_id": both[0] });
    let reply = app.call("client", ACTION, own).await;
    let wanted = text(ACTION, "allowed to administrators only");
    assert_eq!(reply.refused(403), wanted);
}
