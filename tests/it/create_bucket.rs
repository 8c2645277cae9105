//! `create_bucket`.

use insta::assert_json_snapshot;
use serde_json::json;
use tests::TestApp;
use tests::contract::{Contract, masked, text};
use tests::examples::Example;
use wharfage::domain::account::{Service, Standing, Suspension};
use wharfage::domain::history::Actor;

const ACTION: &str = "create_bucket";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| {
            let bucket_name = format!("{}-2", prepare.name);
            Box::pin(prepare.with_account(json!({ "bucket_name": bucket_name })))
        },
        |scene| scene.on_accounts(json!({ "bucket_name": "a-new-bucket" })),
    )
    .needs_the_cluster()
);

#[tokio::test]
async fn create_bucket_makes_a_further_bucket_for_the_account_s_keys() {
    let app = TestApp::start().await;
    let account = app.order("client", "first-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "second-bucket" });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("success", masked(&app, &body));
    assert_eq!(body["s3uid"], account.s3uid.as_str());
    assert!(body.get("message").is_none());
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "second-bucket", "hello.txt", 7).await;

    // Making it again changes nothing.
    assert_eq!(app.call("client", ACTION, parameters).await.ok(), body);
    let list = app
        .call("client", "get_buckets", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let names: Vec<&str> = list["message"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|bucket| bucket["name"].as_str())
        .collect();
    assert_eq!(names, ["first-bucket", "second-bucket"]);
    assert_eq!(list["usage_storage"], 7);

    // By the account's number and the alias, and by an admin who names the client.
    for (who, parameters) in [
        (
            "client",
            json!({ "account_id": account.id, "bucket": "third-bucket" }),
        ),
        (
            "admin",
            json!({ "s3uid": account.s3uid, "id": app.client_id("client"), "bucket_name": "fourth-bucket" }),
        ),
        (
            "admin",
            json!({ "account_id": account.id, "id": app.client_id("client"), "bucket_name": "fifth-bucket" }),
        ),
    ] {
        assert_eq!(
            app.call(who, ACTION, parameters).await.ok()["s3uid"],
            account.s3uid.as_str()
        );
    }
    let users = app
        .call(
            "client",
            "get_users",
            json!({ "bucket_name": "fifth-bucket" }),
        )
        .await
        .ok();
    assert_eq!(users["s3_users"][0]["s3uid"], account.s3uid.as_str());
}

#[tokio::test]
async fn create_bucket_refuses_names_that_are_taken_in_the_location() {
    let app = TestApp::start().await;
    let account = app.order("client", "first-bucket").await;
    let other = app.order("client2", "other-bucket").await;
    let s3 = app.s3("client2", &other).await;
    s3.create_bucket()
        .bucket("hidden-bucket")
        .send()
        .await
        .expect("the bucket is made");
    // One that the product knows of, one that only the cluster does.
    for bucket_name in ["other-bucket", "hidden-bucket"] {
        let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
        let reply = app.call("client", ACTION, parameters).await;
        assert_eq!(
            reply.refused(409),
            text(ACTION, "bucket name is already taken")
        );
    }
    // The name that only the cluster knew of was not kept from its owner.
    let parameters = json!({ "s3uid": other.s3uid, "bucket_name": "hidden-bucket" });
    app.call("client2", ACTION, parameters).await.ok();
    // The same name elsewhere is free.
    let there = app
        .order_with(
            "client",
            json!({ "plan_id": 3, "bucket_name": "abc", "location": "DE" }),
        )
        .await;
    let parameters = json!({ "s3uid": there.s3uid, "bucket_name": "other-bucket" });
    app.call("client", ACTION, parameters).await.ok();
}

#[tokio::test]
async fn create_bucket_refuses_accounts_that_are_going() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.call(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "new-bucket" });
    let reply = app.call("client", ACTION, parameters).await;
    assert_eq!(
        reply.refused(409),
        text(ACTION, "S3 account is being deleted")
    );
}

#[tokio::test]
async fn create_bucket_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid, "bucket_name": "new-bucket" }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid", "bucket_name"]).await;
    contract.takes_a_line("bucket_name").await;
    let rule = "may hold only a-z, 0-9, hyphens and dots";
    contract
        .refuses(
            "bucket_name",
            rule,
            &[json!("New-bucket"), json!("new bucket"), json!("../x")],
        )
        .await;
    contract.refuses_bad_tokens().await;
}

#[tokio::test]
async fn create_bucket_asks_to_try_again_when_the_cluster_cannot_answer() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "new-bucket" });
    let call = app.call_directly("client", ACTION, parameters.clone());
    let reply = app
        .tap
        .without(|name| name.starts_with("cluster"), call)
        .await;
    assert_eq!(reply.retry_after, Some(30));
    let wanted = text(ACTION, "the storage cannot answer now, try again later");
    assert_eq!(reply.refused(503), wanted);
    app.call("client", ACTION, parameters).await.ok();
}

#[tokio::test]
async fn create_bucket_and_delete_bucket_refuse_suspended_accounts() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let database = &app.context().database;
    let stored = database
        .account(&account.s3uid)
        .await
        .expect("an answer")
        .expect("an account");
    let suspended = Service {
        standing: Standing::Suspended(Suspension::Administrator),
        ..stored.service.clone()
    };
    let entry = app.context().account_entry(
        stored.client_id,
        &stored.s3uid,
        "suspended",
        Actor::system("test"),
        json!({}),
    );
    assert!(
        database
            .change_service(&stored, &suspended, &entry, &[])
            .await
            .expect("written")
            .is_yes()
    );
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket" });
    for action in [ACTION, "delete_bucket"] {
        let reply = app.call("client", action, parameters.clone()).await;
        assert_eq!(reply.refused(403), text(action, "S3 account is suspended"));
    }
    let users = app.call("client", "get_users", json!({})).await.ok();
    assert_eq!(users["s3_users"][0]["service"]["status"], "suspended");
}
