//! `get_buckets`.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use insta::assert_json_snapshot;
use jiff::ToSpan;
use serde_json::{Value, json};
use tests::contract::{Contract, NO_S3UID, masked};
use tests::examples::Example;
use tests::tap::Moment;
use tests::{TestAccount, TestApp};

const ACTION: &str = "get_buckets";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(prepare.with_account(json!({}))),
        |scene| scene.on_accounts(json!({})),
    )
    .needs_the_cluster()
    .waits_for_a_worker()
);

async fn version_bucket(s3: &aws_sdk_s3::Client, bucket_name: &str) {
    let status = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    s3.put_bucket_versioning()
        .bucket(bucket_name)
        .versioning_configuration(status)
        .send()
        .await
        .expect("versions are kept");
}

#[tokio::test]
async fn get_buckets_lists_buckets_with_the_bytes_they_hold() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket-01").await;
    app.stack.advance(90.minutes()).await.expect("time passes");
    let second = json!({ "s3uid": account.s3uid, "bucket_name": "my-bucket-02" });
    app.call("client", "create_bucket", second).await.ok();
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket-01", "a", 1_000).await;
    app.put(&s3, "my-bucket-01", "b", 24).await;
    app.put(&s3, "my-bucket-02", "c", 512).await;
    let body = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await
        .ok();

    // The fields, types and texts of the reference.
    let buckets = body["message"].as_array().expect("a list");
    assert_eq!(buckets[0]["name"], "my-bucket-01");
    assert_eq!(buckets[0]["creation_date"], "2026-01-15T10:30:00Z");
    assert_eq!(buckets[0]["usage"], 1_024);
    assert_eq!(buckets[1]["creation_date"], "2026-01-15T12:00:00Z");
    assert_eq!(buckets[1]["usage"], 512);
    assert_eq!(body["usage_storage"], 1_536);
    assert_eq!(body["quota"], 5_000);
    assert_eq!(
        body["metering"]["total_storage_peak_gb"],
        1_536.0 / f64::from(1 << 30)
    );
    assert_eq!(body["endpoint"], app.stack.locations()["NL"]);
    let mut stable = body.clone();
    assert!(stable["metering"]["total_traffic_period_gb"].is_number());
    stable["metering"]["total_traffic_period_gb"] = "[gb]".into();
    assert_json_snapshot!("success", masked(&app, &stable));

    // The keys in it work.
    let [access_key, secret_key] =
        ["access_key", "secret_key"].map(|name| body[name].as_str().expect("a text"));
    let keys = app.s3_with("NL", access_key, secret_key);
    app.put(&keys, "my-bucket-02", "d", 1).await;

    // By the account's number, and by an admin who names the client.
    for (who, parameters) in [
        ("client", json!({ "account_id": account.id })),
        (
            "admin",
            json!({ "s3uid": account.s3uid, "id": app.client_id("client") }),
        ),
    ] {
        assert_eq!(
            app.call(who, ACTION, parameters).await.ok()["usage_storage"],
            1_537
        );
    }
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let looks = history["history"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["action"] == ACTION);
    assert_eq!(looks.count(), 3);
}

#[tokio::test]
async fn get_buckets_counts_old_versions_and_unfinished_uploads_and_shows_them() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    version_bucket(&s3, "my-bucket").await;
    app.put(&s3, "my-bucket", "a", 1_000).await;
    app.put(&s3, "my-bucket", "a", 10).await;
    app.put(&s3, "my-bucket", "gone", 200).await;
    s3.delete_object()
        .bucket("my-bucket")
        .key("gone")
        .send()
        .await
        .expect("deleted");
    let upload = s3
        .create_multipart_upload()
        .bucket("my-bucket")
        .key("big")
        .send()
        .await
        .expect("an upload begins");
    s3.upload_part()
        .bucket("my-bucket")
        .key("big")
        .upload_id(upload.upload_id().expect("an upload id"))
        .part_number(1)
        .body(vec![b'x'; 3_000].into())
        .send()
        .await
        .expect("a part");
    let body = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let bucket = &body["message"][0];
    assert_eq!(bucket["objects"], 1);
    assert_eq!(bucket["noncurrent_usage"], 1_200);
    assert_eq!(bucket["multipart_usage"], 3_000);
    assert_eq!(bucket["usage"], 4_210);
    assert_eq!(body["usage_storage"], 4_210);
}

#[tokio::test]
async fn get_buckets_sees_buckets_that_clients_make_and_remove_at_the_cluster() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let s3 = app.s3("client", &account).await;
    s3.create_bucket()
        .bucket("direct-bucket")
        .send()
        .await
        .expect("made");
    s3.delete_bucket()
        .bucket("my-bucket")
        .send()
        .await
        .expect("removed");
    let body = app
        .call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    assert_eq!(body["message"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["message"][0]["name"], "direct-bucket");
    // From then on the names are known: the one is found and kept, the other free.
    let found = app
        .call(
            "client",
            "get_users",
            json!({ "bucket_name": "direct-bucket" }),
        )
        .await
        .ok();
    assert_eq!(found["s3_users"][0]["s3uid"], account.s3uid.as_str());
    let taken = json!({ "plan_id": 2, "bucket_name": "direct-bucket" });
    app.call("client2", "create_order", taken)
        .await
        .refused(409);
    app.order("client2", "my-bucket").await;
}

#[tokio::test]
async fn get_buckets_shows_each_account_its_own() {
    let app = TestApp::start().await;
    let one = app.order("client", "one-bucket").await;
    let two = app
        .order_with(
            "client",
            json!({ "plan_id": 3, "bucket_name": "two-bucket", "location": "DE" }),
        )
        .await;
    let list = async |account: &TestAccount| {
        app.call("client", ACTION, json!({ "s3uid": account.s3uid }))
            .await
            .ok()
    };
    let (one, two) = futures::join!(list(&one), list(&two));
    assert_eq!(
        (&one["message"][0]["name"], &two["message"][0]["name"]),
        (&json!("one-bucket"), &json!("two-bucket"))
    );
    assert_eq!(
        (&one["quota"], &two["quota"]),
        (&json!(5_000), &json!(10_000))
    );
    assert_eq!(two["endpoint"], app.stack.locations()["DE"]);
    assert_ne!(one["secret_key"], two["secret_key"]);
}

#[tokio::test]
async fn get_buckets_answers_a_slow_cluster_s_list_through_a_callback() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let reply = app.call("client", ACTION, parameters.clone()).await;
    assert_eq!(reply.status, 202);
    assert_json_snapshot!("later", masked(&app, &reply.body));
    let callback = reply.body["callback"].as_str().expect("a key").to_owned();
    for _ in 0..2 {
        let not_yet = app.check(&callback).await;
        assert_eq!(
            (not_yet.status, not_yet.body),
            (200, json!({ "result": "Not ready" }))
        );
    }
    app.stack.drain().await.expect("the queues are emptied");
    let mut done = app.check(&callback).await.ok();
    assert_eq!(done["scope"]["message"][0]["name"], "my-bucket");
    done["scope"]["metering"]["total_traffic_period_gb"] = "[gb]".into();
    assert_json_snapshot!("later_done", masked(&app, &done));
    let used_up = app.check(&callback).await;
    assert_eq!(used_up.status, 404);
    assert_eq!(
        used_up.body,
        json!({ "code": -1, "message": "AsyncKey not found" })
    );
}

#[tokio::test]
async fn get_buckets_shares_one_task_among_concurrent_requests() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let actions = [ACTION, "get_buckets_rmq", ACTION, "get_buckets_rmq", ACTION];
    let replies = futures::future::join_all(
        actions.map(|action| app.call("client", action, json!({ "s3uid": account.s3uid }))),
    )
    .await;
    let drained = app.stack.drain().await.expect("the queues are emptied");
    assert_eq!((drained.handled, drained.failed), (1, 0));
    let mut keys = Vec::new();
    for (action, reply) in actions.into_iter().zip(replies) {
        assert_eq!(reply.status, 202);
        let key = reply.body["callback"].as_str().expect("a key").to_owned();
        let scope = &app.check(&key).await.ok()["scope"];
        // Each in the shape of the action that asked.
        assert_eq!(scope["action"], action);
        let created = if action == ACTION {
            "creation_date"
        } else {
            "created"
        };
        assert_eq!(scope["message"][0][created], "2026-01-15T10:30:00Z");
        keys.push(key);
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), actions.len());
    // Asked again, it is a new question.
    app.call("client", ACTION, json!({ "s3uid": account.s3uid }))
        .await;
    assert_eq!(app.stack.drain().await.expect("emptied").handled, 1);
}

#[tokio::test]
async fn get_buckets_asks_anew_when_a_question_got_lost() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let first = app.call("client", ACTION, parameters.clone()).await.body;
    app.stack.drain().await.expect("the queues are emptied");
    // An answer of before will not do for a later question.
    app.stack.advance(2.seconds()).await.expect("time passes");
    let s3 = app.s3("client", &account).await;
    app.put(&s3, "my-bucket", "x", 9).await;
    let second = app.call("client", ACTION, parameters).await.body;
    let check = async |body: &Value| app.check(body["callback"].as_str().expect("a key")).await;
    assert_eq!(check(&second).await.body, json!({ "result": "Not ready" }));
    app.stack.drain().await.expect("the queues are emptied");
    assert_eq!(check(&second).await.ok()["scope"]["usage_storage"], 9);
    // And neither will one of later for the question of before.
    assert_eq!(check(&first).await.ok()["scope"]["usage_storage"], 0);
}

/// A bucket that its owner makes, and another that its owner removes, past the product: the worker has something to write.
async fn replace_bucket(s3: &aws_sdk_s3::Client, old: &str, new: &str) {
    let made = s3.create_bucket().bucket(new).send().await;
    made.expect("a bucket is made");
    let removed = s3.delete_bucket().bucket(old).send().await;
    removed.expect("a bucket is removed");
}

#[tokio::test]
async fn get_buckets_has_its_answer_whatever_call_its_worker_dies_at() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "extra-0").await;
    let s3 = app.s3("client", &account).await;
    let message = json!({ "task_id": format!("list_buckets:{}", account.s3uid), "step": 0 });
    let message = message.to_string();
    let work = || app.handle_directly("storage_tasks", &message);
    let mut deaths = 0;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < 40, "no end");
            let when = format!("{moment:?} {index}");
            let (old, new) = (format!("extra-{deaths}"), format!("extra-{}", deaths + 1));
            replace_bucket(&s3, &old, &new).await;
            app.put(&s3, &new, "file", 9).await;
            app.let_pass(jiff::SignedDuration::from_secs(2));
            let asked = json!({ "s3uid": account.s3uid });
            let asked = app.call("client", ACTION, asked).await.body;
            let ended = app.tap.crash_at(index, moment, work()).await;
            let is_whole = ended.is_some();
            // It comes again, also when it was done.
            for _ in 0..2 {
                work()
                    .await
                    .unwrap_or_else(|fault| panic!("{when}: {fault}"));
            }
            let answer = app.check(asked["callback"].as_str().expect("a key"));
            let scope = &answer.await.ok()["scope"];
            let list = scope["message"].as_array().expect("a list");
            assert_eq!(list.len(), 1, "{when}");
            assert_eq!(
                (&list[0]["name"], &scope["usage_storage"]),
                (&json!(new), &json!(9))
            );
            let database = &app.context().database;
            let rows = database.account_buckets(&account.s3uid).await;
            let rows = rows.expect("DynamoDB answers");
            let names: Vec<&str> = rows.iter().map(|row| &*row.bucket_name).collect();
            assert_eq!(names, [new.as_str()], "{when}");
            let kept = database.account(&account.s3uid).await;
            let kept = kept.expect("DynamoDB answers").expect("the account");
            assert_eq!((kept.buckets, kept.stored_bytes), (1, 9), "{when}");
            let emptied = s3.delete_object().bucket(&new).key("file").send();
            emptied.await.expect("the file is removed");
            deaths += 1;
            if is_whole {
                break;
            }
        }
    }
    assert!(deaths > 16, "{deaths} deaths are too few to have been all");
    let drained = app.stack.drain().await.expect("the queues are emptied");
    assert_eq!(drained.failed, 0);
}

/// The reference shows this text without the action's name.
#[tokio::test]
async fn get_buckets_refuses_bad_tokens_and_parameters() {
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
    contract.refuses_bad_tokens().await;
}
