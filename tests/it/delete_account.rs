//! `delete_account`.

use aws_sdk_s3::error::ProvideErrorMetadata;
use insta::assert_json_snapshot;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::TestApp;
use tests::contract::{Contract, NO_S3UID, masked, not_found};
use tests::examples::Example;
use tests::tap::Moment;

const ACTION: &str = "delete_account";

inventory::submit!(Example::new(
    ACTION,
    |prepare| Box::pin(prepare.with_account(json!({}))),
    |scene| scene.on_accounts(json!({})),
));

/// The code that the cluster refuses with.
async fn refusal(s3: &aws_sdk_s3::Client, bucket_name: &str) -> String {
    let refused = s3
        .list_objects_v2()
        .bucket(bucket_name)
        .send()
        .await
        .expect_err("a refusal");
    refused.code().expect("a code").to_owned()
}

#[tokio::test]
async fn delete_account_stops_the_keys_at_once_and_purges_everything() {
    let app = TestApp::start_idle(&[("CleanupStepEntries", "3")]).await;
    let account = app.order("client", "my-bucket").await;
    let sibling = app.order("client", "sibling-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "second-bucket" });
    app.call("client", "create_bucket", parameters).await.ok();
    let s3 = app.s3("client", &account).await;
    for number in 0..5 {
        app.put(&s3, "my-bucket", &format!("{number}"), 10).await;
    }
    app.put(&s3, "second-bucket", "x", 100).await;
    s3.create_multipart_upload()
        .bucket("my-bucket")
        .key("big")
        .send()
        .await
        .expect("an upload begins");

    let parameters = json!({ "s3uid": account.s3uid, "reason": "moved away" });
    let body = app.call("client", ACTION, parameters).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    let callback = body["callback"].as_str().expect("a key");

    // At once: the keys are refused, and the account says so.
    assert_eq!(refusal(&s3, "my-bucket").await, "UserSuspended");
    let users = app
        .call("client", "get_users", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(users["s3_users"][0]["service"]["status"], "terminating");
    assert_eq!(
        users["s3_users"][0]["service"]["termination_date"],
        "2026-01-15"
    );
    assert_eq!(
        app.check(callback).await.body,
        json!({ "result": "Not ready" })
    );
    // Deleting again joins what is under way.
    let again = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_ne!(again["callback"], body["callback"]);

    let drained = app.stack.drain().await.expect("the queues are emptied");
    assert!(drained.handled > 2 && drained.failed == 0, "{drained:?}");
    let done = app.check(callback).await.ok();
    assert_json_snapshot!("callback", masked(&app, &done));
    assert_eq!(app.check(callback).await.refused(404), "AsyncKey not found");
    app.check(again["callback"].as_str().expect("a key"))
        .await
        .ok();

    // Gone for its client and for admins, its keys for the cluster, its names for nobody.
    for action in ["get_buckets", "delete_payment_account", ACTION] {
        let reply = app
            .call("client", action, json!({ "s3uid": account.s3uid }))
            .await;
        assert_eq!(reply.refused(404), not_found(action));
    }
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    assert_eq!(
        app.call("admin", ACTION, by_admin).await.refused(404),
        not_found(ACTION)
    );
    let users = app.call("client", "get_users", json!({})).await.ok();
    assert_eq!(users["s3_users"].as_array().map(Vec::len), Some(1));
    assert_eq!(users["s3_users"][0]["s3uid"], sibling.s3uid.as_str());
    assert_eq!(refusal(&s3, "my-bucket").await, "InvalidAccessKeyId");
    let new = app.order("client2", "my-bucket").await;
    let taken = json!({ "s3uid": new.s3uid, "bucket_name": "second-bucket" });
    app.call("client2", "create_bucket", taken).await.ok();
    let s3 = app.s3("client2", &new).await;
    let list = s3
        .list_objects_v2()
        .bucket("my-bucket")
        .send()
        .await
        .expect("a list");
    assert_eq!(list.key_count(), Some(0));
    // The client's other account is untouched.
    let s3 = app.s3("client", &sibling).await;
    app.put(&s3, "sibling-bucket", "x", 1).await;
}

#[tokio::test]
async fn delete_account_leaves_a_complete_history_that_can_still_be_read() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 42).await;
    let parameters = json!({ "s3uid": account.s3uid, "reason": "Zu teuer, \"sorry\"", "id": app.client_id("client") });
    app.call("admin", ACTION, parameters).await.ok();
    app.stack.drain().await.expect("the queues are emptied");
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let did: Vec<(&str, &str)> = entries
        .iter()
        .filter_map(|entry| Some((entry["role"].as_str()?, entry["action"].as_str()?)))
        .collect();
    let mut sorted = did.clone();
    sorted.sort_unstable();
    let wanted = [
        ("admin", "delete_account"),
        ("client", "create_order"),
        ("client", "show_key"),
        ("client", "show_key"),
        ("system", "account_terminated"),
    ];
    assert_eq!(sorted, wanted, "{did:?}");
    let of = |action: &str| {
        entries
            .iter()
            .find(|entry| entry["action"] == action)
            .expect("an entry")
    };
    assert_eq!(of(ACTION)["details"]["reason"], "Zu teuer, \"sorry\"");
    assert_eq!(of(ACTION)["actor"], "admin@example.com");
    assert_eq!(of(ACTION)["ip"], "127.0.0.1");
    assert_eq!(
        of("account_terminated")["details"],
        json!({ "entries_removed": 1, "bytes_removed": 42 })
    );
    assert_eq!(of("account_terminated")["ip"], Value::Null);
    // To others it is as if it had never been.
    let reply = app
        .call("client2", "history", json!({ "s3uid": account.s3uid }))
        .await;
    assert_eq!(reply.refused(404), not_found("history"));
}

#[tokio::test]
async fn delete_account_in_the_time_that_the_data_is_kept_is_in_the_history() {
    let mut app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3uid = json!({ "s3uid": account.s3uid });
    app.call("client", "delete_payment_account", s3uid.clone())
        .await
        .ok();
    app.stack
        .advance_to("2026-02-16T12:00:00Z".parse().expect("a time"))
        .await
        .expect("advance");
    app.log_in().await;
    let users = app.call("client", "get_users", s3uid.clone()).await.ok();
    assert_eq!(users["s3_users"][0]["service"]["status"], "terminating");
    let parameters = json!({ "s3uid": account.s3uid, "reason": "at once, please" });
    for _ in 0..2 {
        app.call("client", ACTION, parameters.clone()).await.ok();
    }
    app.stack.drain().await.expect("the queues are emptied");
    let history = app.call("client", "history", s3uid).await.ok();
    let entries = history["history"].as_array().expect("a list").iter();
    let own: Vec<_> = entries.filter(|entry| entry["action"] == ACTION).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(own[0]["actor"], "client@example.com");
    assert_eq!(own[0]["details"]["reason"], "at once, please");
}

#[tokio::test]
async fn delete_account_that_dies_anywhere_keeps_its_reason() {
    let app = TestApp::start_idle(&[]).await;
    for index in 0.. {
        let account = app.order("client", &format!("doomed-{index}")).await;
        let parameters = json!({ "s3uid": account.s3uid, "reason": "moved away" });
        let call = app.call_directly("client", ACTION, parameters.clone());
        let whole = app.tap.crash_at(index, Moment::After, call).await;
        app.let_pass(SignedDuration::from_mins(11));
        app.run_directly("resume_tasks").await.expect("a run");
        app.stack.drain().await.expect("the queues are emptied");
        let s3uid = json!({ "s3uid": account.s3uid });
        let history = app.call("client", "history", s3uid).await.ok();
        let entries = history["history"].as_array().expect("a list").iter();
        let own: Vec<_> = entries.filter(|entry| entry["action"] == ACTION).collect();
        let details = own.iter().map(|entry| &entry["details"]["reason"]);
        match index {
            // It died before anything was written.
            0 | 1 => assert_eq!(details.count(), 0, "{index}"),
            _ => assert_eq!(details.collect::<Vec<_>>(), ["moved away"], "{index}"),
        }
        if whole.is_some() {
            return;
        }
    }
}

#[tokio::test]
async fn delete_account_takes_the_account_by_its_number_and_from_any_state() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.call(
        "client",
        "delete_payment_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    let body = app
        .call("client", ACTION, json!({ "account_id": account.id }))
        .await
        .ok();
    assert_eq!(body["s3uid"], account.s3uid.as_str());
    app.stack.drain().await.expect("the queues are emptied");
    let done = app
        .check(body["callback"].as_str().expect("a key"))
        .await
        .ok();
    assert_eq!(done["scope"]["status"], "terminated");
}

/// The reference shows this text without the action's name.
#[tokio::test]
async fn delete_account_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let reply = app
        .call("client", ACTION, json!({ "s3uid": NO_S3UID }))
        .await;
    assert_eq!(reply.refused(404), "S3 account not found for this customer");
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid"]).await;
    contract.takes_a_line("reason").await;
    contract
        .refuses(
            "reason",
            "must be at most 500 characters long",
            &[json!("é".repeat(501))],
        )
        .await;
    // Nothing of all this touched it.
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 1).await;
    let contract = Contract {
        parameters: json!({ "s3uid": NO_S3UID }),
        ..contract
    };
    contract.refuses_bad_tokens().await;
}
