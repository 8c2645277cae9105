//! Clean-ups end, whoever dies, and whether messages come twice, late, out of order or never.

use std::collections::BTreeMap;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::tap::Moment;
use tests::{TestAccount, TestApp};
use wharfage::domain::account::Status;
use wharfage::domain::history::Entity;
use wharfage::domain::task::Task;

/// Longer than a task may be silent.
const SILENCE_AND_MORE: SignedDuration = SignedDuration::from_secs(601);
/// More calls than any of this makes.
const FAR_TOO_MANY_CALLS: usize = 200;

async fn start(step_entries: &str) -> TestApp {
    let app = TestApp::start_idle(&[("CleanupStepEntries", step_entries)]).await;
    app.top_up("client", "for many orders", 100_000_000).await;
    app
}

/// An account with something of every kind in its first bucket, and a second bucket with an object.
async fn account_with_things(app: &TestApp, name: &str) -> TestAccount {
    let account = app.order("client", name).await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": format!("{name}-2") });
    app.call("client", "create_bucket", parameters).await.ok();
    let s3 = s3(app, &account).await;
    fill(app, &s3, name, 3, 2, 1, 2).await;
    app.put(&s3, &format!("{name}-2"), "object", 10).await;
    account
}

/// An S3 client with the account's keys, without a trace in history.
async fn s3(app: &TestApp, account: &TestAccount) -> aws_sdk_s3::Client {
    let kept = kept(app, account).await;
    let secret = app
        .context()
        .vault
        .decrypt(&account.s3uid, &kept.secret_key_ciphertext)
        .await;
    let secret = secret.expect("the key can be read");
    app.s3_with(
        "NL",
        &kept.access_key,
        secrecy::ExposeSecret::expose_secret(&secret),
    )
}

/// Fills a bucket with versions, delete markers and unfinished uploads.
async fn fill(
    app: &TestApp,
    s3: &aws_sdk_s3::Client,
    bucket_name: &str,
    objects: usize,
    old_versions: usize,
    delete_markers: usize,
    unfinished_uploads: usize,
) {
    let versioning = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let request = s3
        .put_bucket_versioning()
        .bucket(bucket_name)
        .versioning_configuration(versioning);
    request.send().await.expect("versioning is turned on");
    for number in 0..objects {
        app.put(s3, bucket_name, &format!("object {number}"), 10)
            .await;
    }
    for number in 0..old_versions {
        app.put(s3, bucket_name, &format!("object {number}"), 20)
            .await;
    }
    for number in 0..delete_markers {
        let request = s3
            .delete_object()
            .bucket(bucket_name)
            .key(format!("object {number}"));
        request.send().await.expect("the deletion succeeds");
    }
    for number in 0..unfinished_uploads {
        let key = format!("upload {number}");
        let upload = s3
            .create_multipart_upload()
            .bucket(bucket_name)
            .key(&key)
            .send()
            .await;
        let upload_id = upload.expect("the upload begins").upload_id.expect("an id");
        let part = s3
            .upload_part()
            .bucket(bucket_name)
            .key(&key)
            .upload_id(upload_id);
        let part = part.part_number(1).body(vec![b'p'; 30].into());
        part.send().await.expect("the part is uploaded");
    }
}

async fn kept(app: &TestApp, account: &TestAccount) -> wharfage::domain::account::Account {
    let kept = app.context().database.account(&account.s3uid).await;
    kept.expect("DynamoDB answers")
        .expect("the account is kept")
}

async fn task(app: &TestApp, task_id: &str) -> Option<Task> {
    app.context()
        .database
        .task(task_id)
        .await
        .expect("DynamoDB answers")
}

fn is_over(task: &Task) -> bool {
    task.answer_for(task.requested_at).is_some()
}

fn message(task_id: &str, step: u64) -> String {
    json!({ "task_id": task_id, "step": step }).to_string()
}

/// Handles a task's messages one after the other until it is over, as the queue would, and returns how many there were.
async fn work_off(app: &TestApp, task_id: &str) -> usize {
    for messages in 0.. {
        let task = task(app, task_id).await.expect("the task is kept");
        if is_over(&task) {
            return messages;
        }
        let result = app
            .handle_directly("cleanup", &message(task_id, task.steps))
            .await;
        result.expect("the step succeeds");
        assert!(messages < 100, "it does not end");
    }
    unreachable!("it ended above")
}

/// What history says was done to an account, and how often.
async fn history(app: &TestApp, account: &TestAccount) -> BTreeMap<String, usize> {
    let history = app
        .context()
        .database
        .history(&Entity::Account(&account.s3uid), 100, 0, None)
        .await;
    let mut counts = BTreeMap::new();
    for entry in history.expect("history").entries {
        *counts.entry(entry.action).or_default() += 1;
    }
    counts
}

async fn name_is_free(app: &TestApp, bucket_name: &str) -> bool {
    let names = app
        .context()
        .database
        .bucket_owners(&["NL".into()], &bucket_name.into())
        .await;
    names.expect("names").is_empty()
}

/// Fails the test unless nothing of the account is left but its record and its history.
async fn assert_account_gone(
    app: &TestApp,
    account: &TestAccount,
    accounts_before: u32,
    when: &str,
) {
    assert_eq!(
        app.cluster_buckets("NL", &account.s3uid).await,
        None,
        "{when}: the user is left"
    );
    for bucket_name in [
        account.bucket_name.clone(),
        format!("{}-2", account.bucket_name),
    ] {
        assert_eq!(
            app.cluster_bucket_owner("NL", &bucket_name).await,
            None,
            "{when}: {bucket_name}"
        );
        assert!(
            name_is_free(app, &bucket_name).await,
            "{when}: the name {bucket_name}"
        );
    }
    let kept = kept(app, account).await;
    assert_eq!(kept.service.status(), Status::Terminated, "{when}");
    let item = app.account_item(&account.s3uid).await;
    let listed = (item.get("listed_for"), item.get("group_key"));
    assert_eq!(listed, (None, None), "{when}");
    assert_eq!(
        kept.secret_key_ciphertext, "",
        "{when}: the secret key is kept"
    );
    assert_eq!(
        app.client("client").await.accounts,
        accounts_before,
        "{when}"
    );
    let expected = [
        "account_terminated",
        "create_bucket",
        "create_order",
        "delete_account",
    ];
    let expected = expected.map(|action| (action.to_owned(), 1));
    assert_eq!(
        history(app, account).await,
        BTreeMap::from(expected),
        "{when}"
    );
    let silent = app
        .context()
        .database
        .silent_tasks(app.now(), 100)
        .await
        .expect("tasks");
    assert_eq!(silent.len(), 0, "{when}: {silent:?}");
}

/// Old messages that are still under way find nothing to do.
async fn assert_nothing_more_happens(app: &TestApp) {
    let before = app.world().await;
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(drained.failed, 0);
    app.world()
        .await
        .assert_unchanged_since(&before, "a message that is late");
}

#[tokio::test]
async fn delete_account_killed_anywhere_is_finished_by_the_job_or_never_was() {
    let app = start("5").await;
    for moment in [Moment::Before, Moment::After] {
        let (mut begun, mut not_begun) = (0, 0);
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let accounts_before = app.client("client").await.accounts;
            let account =
                account_with_things(&app, &format!("killed-{moment:?}-{index}").to_lowercase())
                    .await;
            let task_id = format!("remove_account:{}", account.s3uid);
            let when = format!("killed {moment:?} call {index}");
            let parameters = json!({ "s3uid": account.s3uid });
            let before = app.world().await;
            let deleting = app.call_directly("client", "delete_account", parameters.clone());
            let reply = app.tap.crash_at(index, moment, deleting).await;
            if task(&app, &task_id).await.is_some() {
                begun += 1;
            } else {
                not_begun += 1;
                app.world().await.assert_unchanged_since(&before, &when);
                app.call_directly("client", "delete_account", parameters)
                    .await
                    .ok();
            }
            app.let_pass(SILENCE_AND_MORE);
            // The message is not looked for: lost or not, the job sends another.
            let sent = app
                .run_directly("resume_tasks")
                .await
                .expect("the job succeeds");
            assert_eq!(sent["sent"], 1, "{when}");
            app.stack.drain().await.expect("the queues empty");
            assert_account_gone(&app, &account, accounts_before, &when).await;
            if reply.is_some() {
                break;
            }
        }
        assert!(begun >= 5 && not_begun >= 2, "{begun} {not_begun}");
    }
}

#[tokio::test]
async fn the_removal_of_an_account_killed_anywhere_goes_on_where_it_was() {
    let app = start("4").await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let accounts_before = app.client("client").await.accounts;
            let account =
                account_with_things(&app, &format!("killed-{moment:?}-{index}").to_lowercase())
                    .await;
            let task_id = format!("remove_account:{}", account.s3uid);
            let when = format!("killed {moment:?} call {index}");
            let reply = app
                .call_directly(
                    "client",
                    "delete_account",
                    json!({ "s3uid": account.s3uid }),
                )
                .await;
            let callback = reply.ok()["callback"]
                .as_str()
                .expect("a callback")
                .to_owned();
            let messages = app
                .tap
                .crash_at(index, moment, work_off(&app, &task_id))
                .await;
            // Its message comes back.
            work_off(&app, &task_id).await;
            assert_account_gone(&app, &account, accounts_before, &when).await;
            assert_eq!(
                app.check(&callback).await.ok()["scope"]["status"],
                "terminated",
                "{when}"
            );
            if let Some(messages) = messages {
                assert!(
                    messages >= 3,
                    "{messages} messages are too few to test with"
                );
                assert!(index >= 25, "{index} calls are too few to have been all");
                break;
            }
        }
    }
    assert_nothing_more_happens(&app).await;
}

#[tokio::test]
async fn messages_that_come_twice_late_or_at_once_change_nothing() {
    let app = start("3").await;
    let account = account_with_things(&app, "again").await;
    let task_id = format!("remove_account:{}", account.s3uid);
    app.call_directly(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    while let Some(task) = task(&app, &task_id).await.filter(|task| !is_over(task)) {
        // Three copies at once, of which at least one succeeds; the others may be told to come again.
        let now = message(&task_id, task.steps);
        let (first, second, third) = futures::join!(
            app.handle_directly("cleanup", &now),
            app.handle_directly("cleanup", &now),
            app.handle_directly("cleanup", &now),
        );
        assert!(first.is_ok() || second.is_ok() || third.is_ok());
        // And all the messages there ever were.
        for step in 0..=task.steps {
            app.handle_directly("cleanup", &message(&task_id, step))
                .await
                .expect("an old message is dropped");
        }
    }
    assert_account_gone(&app, &account, 0, "after copies").await;
    // However many copies there were, each step sent one message for the next: copies do not multiply.
    let steps = task(&app, &task_id).await.expect("the task").steps;
    let before = app.world().await;
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!((drained.handled as u64, drained.failed), (steps + 1, 0));
    app.world()
        .await
        .assert_unchanged_since(&before, "messages that are late");
}

#[tokio::test]
async fn messages_of_earlier_steps_do_no_work() {
    let app = start("3").await;
    let account = account_with_things(&app, "late").await;
    let task_id = format!("remove_account:{}", account.s3uid);
    app.call_directly(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    while let Some(task) = task(&app, &task_id).await.filter(|task| !is_over(task)) {
        for step in 0..=task.steps {
            let body = message(&task_id, step);
            let (handled, calls) = app.tap.scope(app.handle_directly("cleanup", &body)).await;
            handled.expect("an old message is dropped");
            if step < task.steps {
                let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
                assert_eq!(
                    names,
                    ["DynamoDB GetItem"],
                    "step {step} after {}",
                    task.steps
                );
            }
        }
    }
    assert_account_gone(&app, &account, 0, "after late messages").await;
}

#[tokio::test]
async fn a_worker_that_was_only_slow_brings_nothing_back() {
    let app = start("4").await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let accounts_before = app.client("client").await.accounts;
            let name = format!("slow-{moment:?}-{index}").to_lowercase();
            let account = account_with_things(&app, &name).await;
            let task_id = format!("remove_account:{}", account.s3uid);
            let when = format!("stalled {moment:?} call {index}");
            app.call_directly(
                "client",
                "delete_account",
                json!({ "s3uid": account.s3uid }),
            )
            .await
            .ok();
            let slow = async {
                // It may be told to try again, as any copy.
                while !task(&app, &task_id)
                    .await
                    .is_some_and(|task| is_over(&task))
                {
                    let step = task(&app, &task_id).await.expect("the task").steps;
                    let _ = app
                        .handle_directly("cleanup", &message(&task_id, step))
                        .await;
                }
            };
            let stalled = app.tap.stall_at(index, moment, slow).await;
            let is_over = stalled.is_ok();
            if let Err(stalled) = stalled {
                work_off(&app, &task_id).await;
                stalled.go_on().await;
            }
            assert_account_gone(&app, &account, accounts_before, &when).await;
            if is_over {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_account_that_only_its_task_knows_to_be_going_is_stopped_by_the_first_step() {
    let app = start("1").await;
    let account = account_with_things(&app, "unstopped").await;
    let task_id = format!("remove_account:{}", account.s3uid);
    // The process dies when the task is recorded, and before anything else is.
    for index in 0.. {
        assert!(index < FAR_TOO_MANY_CALLS);
        let deleting = app.call_directly(
            "client",
            "delete_account",
            json!({ "s3uid": account.s3uid }),
        );
        let reply = app.tap.crash_at(index, Moment::After, deleting).await;
        assert!(reply.is_none());
        if task(&app, &task_id).await.is_some() {
            break;
        }
    }
    assert_eq!(kept(&app, &account).await.service.status(), Status::Active);
    app.handle_directly("cleanup", &message(&task_id, 0))
        .await
        .expect("the step succeeds");
    let refused = s3(&app, &account).await.list_buckets().send().await;
    let refused = refused.expect_err("the keys are stopped");
    assert_eq!(refused.code(), Some("UserSuspended"));
    app.stack.drain().await.expect("the queues empty");
    work_off(&app, &task_id).await;
    assert_account_gone(&app, &account, 0, "never stopped").await;
}

#[tokio::test]
async fn a_bucket_that_the_cluster_refuses_leaves_its_name_free() {
    let app = start("3").await;
    let account = app.order("client", "refused").await;
    // Somebody removed the user at the cluster, past the product.
    for path in [
        "buckets/refused".to_owned(),
        format!("users/{}", account.s3uid),
    ] {
        let (status, body) = app.admin("NL", "DELETE", &path, None).await;
        assert!(status < 300, "{body}");
    }
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "refused-2" });
    app.call("client", "create_bucket", parameters)
        .await
        .refused(409);
    assert!(name_is_free(&app, "refused-2").await);
}

#[tokio::test]
async fn a_message_that_is_lost_is_sent_again_after_ten_minutes_of_silence() {
    let app = start("3").await;
    let account = account_with_things(&app, "lost").await;
    let task_id = format!("remove_account:{}", account.s3uid);
    app.call_directly(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    )
    .await
    .ok();
    // Every step's message is lost: nothing but the job moves it on.
    let mut runs = 0;
    while let Some(task) = task(&app, &task_id).await.filter(|task| !is_over(task)) {
        app.let_pass(SignedDuration::from_secs(590));
        let sent = app
            .run_directly("resume_tasks")
            .await
            .expect("the job succeeds");
        assert_eq!(sent["sent"], 0, "it has not been silent for long");
        app.let_pass(SignedDuration::from_secs(11));
        let sent = app
            .run_directly("resume_tasks")
            .await
            .expect("the job succeeds");
        assert_eq!(sent["sent"], 1);
        app.handle_directly("cleanup", &message(&task_id, task.steps))
            .await
            .expect("the step succeeds");
        runs += 1;
        assert!(runs < 50);
    }
    assert!(runs >= 3);
    assert_account_gone(&app, &account, 0, "after lost messages").await;
    assert_nothing_more_happens(&app).await;
}

#[tokio::test]
async fn the_removal_of_an_account_waits_for_its_cluster() {
    let app = start("3").await;
    let account = account_with_things(&app, "cut-off").await;
    let task_id = format!("remove_account:{}", account.s3uid);
    let is_cut: fn(&str) -> bool = |name| name.starts_with("cluster ");
    let deleting = app.call_directly(
        "client",
        "delete_account",
        json!({ "s3uid": account.s3uid }),
    );
    app.tap.without(is_cut, deleting).await.ok();
    assert_eq!(
        kept(&app, &account).await.service.status(),
        Status::Terminating
    );
    let body = message(&task_id, 0);
    let fault = app
        .tap
        .without(is_cut, app.handle_directly("cleanup", &body))
        .await;
    assert!(fault.expect_err("the cluster is cut off").retryable);
    app.stack.drain().await.expect("the queues empty");
    assert_account_gone(&app, &account, 0, "the cluster is back").await;
}

#[tokio::test]
async fn steps_are_bounded_and_as_many_as_it_takes() {
    let app = start("50").await;
    let account = app.order("client", "big").await;
    let parameters = json!({ "s3uid": account.s3uid, "bucket_name": "big-2" });
    app.call("client", "create_bucket", parameters).await.ok();
    let s3 = s3(&app, &account).await;
    // An upload is an entry, and its part another: 120 entries here and 60 there.
    fill(&app, &s3, "big", 60, 30, 10, 10).await;
    fill(&app, &s3, "big-2", 40, 10, 0, 5).await;
    let reply = app
        .call(
            "client",
            "delete_account",
            json!({ "s3uid": account.s3uid }),
        )
        .await;
    let callback = reply.ok()["callback"]
        .as_str()
        .expect("a callback")
        .to_owned();
    let drained = app.stack.drain().await.expect("the queues empty");
    assert_eq!(
        (drained.handled, drained.failed),
        (4, 0),
        "180 entries, 50 a step"
    );
    let answer = app.check(&callback).await.ok();
    assert_eq!(
        answer["scope"],
        json!({
            "result": "OK",
            "action": "delete_account",
            "s3uid": account.s3uid,
            "entries_removed": 180,
            "bytes_removed": 60 * 10 + 30 * 20 + 10 * 30 + 40 * 10 + 10 * 20 + 5 * 30,
            "status": "terminated",
        })
    );
    assert_account_gone(&app, &account, 0, "after a big one").await;
}

/// Fails the test unless the bucket is gone and the account is as well as before.
async fn assert_bucket_gone(app: &TestApp, account: &TestAccount, bucket_name: &str, when: &str) {
    assert_eq!(
        app.cluster_bucket_owner("NL", bucket_name).await,
        None,
        "{when}: the bucket is left"
    );
    assert!(
        name_is_free(app, bucket_name).await,
        "{when}: the name is not free"
    );
    assert_eq!(
        kept(app, account).await.service.status(),
        Status::Active,
        "{when}"
    );
    let other = format!("{}-2", account.bucket_name);
    assert_eq!(
        app.cluster_bucket_owner("NL", &other).await.as_deref(),
        Some(account.s3uid.as_str()),
        "{when}: another bucket is gone"
    );
    assert!(
        !name_is_free(app, &other).await,
        "{when}: another name is free"
    );
    let expected =
        ["create_bucket", "create_order", "delete_bucket"].map(|action| (action.to_owned(), 1));
    assert_eq!(
        history(app, account).await,
        BTreeMap::from(expected),
        "{when}"
    );
}

#[tokio::test]
async fn delete_bucket_of_a_full_bucket_killed_anywhere_is_finished_by_the_job_or_never_was() {
    let app = start("3").await;
    for moment in [Moment::Before, Moment::After] {
        let (mut begun, mut not_begun) = (0, 0);
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let account =
                account_with_things(&app, &format!("killed-{moment:?}-{index}").to_lowercase())
                    .await;
            let bucket_name = &account.bucket_name;
            let task_id = format!("remove_bucket:{}:{bucket_name}", account.s3uid);
            let when = format!("killed {moment:?} call {index}");
            let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
            let before = app.world().await;
            let deleting = app.call_directly("client", "delete_bucket", parameters.clone());
            let reply = app.tap.crash_at(index, moment, deleting).await;
            if task(&app, &task_id).await.is_some() {
                begun += 1;
            } else {
                not_begun += 1;
                app.world().await.assert_unchanged_since(&before, &when);
                app.call_directly("client", "delete_bucket", parameters)
                    .await
                    .ok();
            }
            app.let_pass(SILENCE_AND_MORE);
            let sent = app
                .run_directly("resume_tasks")
                .await
                .expect("the job succeeds");
            assert_eq!(sent["sent"], 1, "{when}");
            app.stack.drain().await.expect("the queues empty");
            assert_bucket_gone(&app, &account, bucket_name, &when).await;
            if reply.is_some() {
                break;
            }
        }
        assert!(begun >= 3 && not_begun >= 3, "{begun} {not_begun}");
    }
}

#[tokio::test]
async fn delete_bucket_of_an_empty_bucket_killed_anywhere_is_finished_by_a_retry() {
    let app = start("3").await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let name = format!("empty-{moment:?}-{index}").to_lowercase();
            let account = app.order("client", &name).await;
            let parameters = json!({ "s3uid": account.s3uid, "bucket_name": format!("{name}-2") });
            app.call("client", "create_bucket", parameters).await.ok();
            let when = format!("killed {moment:?} call {index}");
            let parameters = json!({ "s3uid": account.s3uid, "bucket_name": name });
            let deleting = app.call_directly("client", "delete_bucket", parameters.clone());
            let reply = app.tap.crash_at(index, moment, deleting).await;
            let is_over = reply.map(|reply| reply.ok()).is_some();
            let again = app
                .call_directly("client", "delete_bucket", parameters)
                .await;
            // The second is the first to do it, or is told that it is done.
            if again.status != 200 {
                assert_eq!(
                    again.refused(404),
                    "s3/delete_bucket: S3 bucket not found for this account",
                    "{when}"
                );
            }
            assert_bucket_gone(&app, &account, &name, &when).await;
            if is_over {
                assert!(index >= 5, "{index} calls are too few to have been all");
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_removal_of_a_bucket_killed_anywhere_goes_on_where_it_was() {
    let app = start("3").await;
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < FAR_TOO_MANY_CALLS);
            let account =
                account_with_things(&app, &format!("killed-{moment:?}-{index}").to_lowercase())
                    .await;
            let bucket_name = &account.bucket_name;
            let task_id = format!("remove_bucket:{}:{bucket_name}", account.s3uid);
            let when = format!("killed {moment:?} call {index}");
            let parameters = json!({ "s3uid": account.s3uid, "bucket_name": bucket_name });
            let reply = app
                .call_directly("client", "delete_bucket", parameters)
                .await
                .ok();
            let callback = reply["callback"].as_str().expect("a callback").to_owned();
            let messages = app
                .tap
                .crash_at(index, moment, work_off(&app, &task_id))
                .await;
            work_off(&app, &task_id).await;
            // A message of an earlier step that is late.
            app.handle_directly("cleanup", &message(&task_id, 0))
                .await
                .expect("it is dropped");
            assert_bucket_gone(&app, &account, bucket_name, &when).await;
            let answer: Value = app.check(&callback).await.ok();
            assert_eq!(
                answer["scope"]["bucket_name"],
                bucket_name.as_str(),
                "{when}"
            );
            if let Some(messages) = messages {
                assert!(
                    messages >= 3,
                    "{messages} messages are too few to test with"
                );
                assert!(index >= 15, "{index} calls are too few to have been all");
                break;
            }
        }
    }
    assert_nothing_more_happens(&app).await;
}
