//! `rotate_key`.

use futures::future::join_all;
use insta::assert_json_snapshot;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::contract::{Contract, masked, text};
use tests::examples::Example;
use tests::tap::Moment;
use tests::{TestAccount, TestApp};

const ACTION: &str = "rotate_key";

inventory::submit!(
    Example::new(
        ACTION,
        |prepare| Box::pin(prepare.with_account(json!({}))),
        |scene| {
            [json!({}), json!({ "confirm": 1 })]
                .map(|rest| scene.on_accounts(rest))
                .concat()
        },
    )
    .needs_the_cluster()
);

/// Whether a pair of keys can write.
async fn works(app: &TestApp, account: &TestAccount, keys: &Value) -> bool {
    let [access_key, secret_key] =
        ["access_key", "secret_key"].map(|name| keys[name].as_str().expect("a key"));
    let s3 = app.s3_with(&account.location, access_key, secret_key);
    let put = s3.put_object().bucket(&account.bucket_name).key("x");
    put.body(vec![b'x'].into()).send().await.is_ok()
}

/// The keys as `show_key` has them.
async fn shown(app: &TestApp, account: &TestAccount) -> Value {
    let mut keys = json!({});
    for s3_key in ["access_key", "secret_key"] {
        let parameters = json!({ "s3uid": account.s3uid, "s3_key": s3_key });
        let body = app.call("client", "show_key", parameters).await.ok();
        keys[s3_key] = body[s3_key].clone();
    }
    keys
}

fn pair(body: &Value) -> Value {
    json!({ "access_key": body["access_key"], "secret_key": body["secret_key"] })
}

#[tokio::test]
async fn rotate_key_gives_a_second_key_that_takes_the_first_ones_place_when_confirmed() {
    let app = TestApp::start().await;
    let account = app.order("client", "my-bucket").await;
    let first = shown(&app, &account).await;
    let parameters = json!({ "s3uid": account.s3uid });
    let body = app.call("client", ACTION, parameters.clone()).await.ok();
    assert_json_snapshot!("begun", masked(&app, &body));
    assert_eq!(body["previous_access_key"], first["access_key"]);
    let second = pair(&body);
    assert_ne!(second, first);
    // Both work, and the first is still the one that is shown.
    assert!(works(&app, &account, &first).await);
    assert!(works(&app, &account, &second).await);
    assert_eq!(shown(&app, &account).await, first);
    // Asked again, it is the same one.
    let again = json!({ "account_id": account.id, "confirm": 0 });
    assert_eq!(app.call("client", ACTION, again).await.ok(), body);

    let confirm = json!({ "s3uid": account.s3uid, "confirm": 1 });
    let confirmed = app.call("client", ACTION, confirm.clone()).await.ok();
    assert_json_snapshot!("confirmed", masked(&app, &confirmed));
    assert_eq!(confirmed["access_key"], second["access_key"]);
    assert!(
        !works(&app, &account, &first).await,
        "the first still works"
    );
    assert!(works(&app, &account, &second).await);
    assert_eq!(shown(&app, &account).await, second);
    let list = app
        .call("client", "get_buckets", parameters.clone())
        .await
        .ok();
    assert_eq!(pair(&list), second);
    // Confirmed again, it is answered as before.
    let before = app.world().await;
    let again = app.call("client", ACTION, confirm.clone()).await.ok();
    assert_eq!(again, confirmed);
    app.world().await.assert_unchanged_since(&before, ACTION);

    // And once more, by an admin.
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    let third = pair(&app.call("admin", ACTION, by_admin).await.ok());
    app.call("client", ACTION, confirm).await.ok();
    assert!(!works(&app, &account, &second).await);
    assert!(works(&app, &account, &third).await);

    // History has each step, and no secret.
    let history = app.call("client", "history", parameters).await.ok();
    let steps: Vec<&str> = history["history"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["action"].as_str())
        .filter(|action| action.ends_with("_key") && *action != "show_key")
        .collect();
    let count = |name: &str| steps.iter().filter(|step| **step == name).count();
    assert_eq!((count(ACTION), count("confirm_key")), (3, 2), "{steps:?}");
    for keys in [first, second, third] {
        let secret_key = keys["secret_key"].as_str().expect("a key");
        assert!(!history.to_string().contains(secret_key));
    }
}

#[tokio::test]
async fn rotate_key_again_does_what_a_crash_left() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    for confirm in [0, 1] {
        let parameters = json!({ "s3uid": account.s3uid, "confirm": confirm });
        for moment in [Moment::Before, Moment::After] {
            for index in 0.. {
                assert!(index < 20, "no end");
                // From the same beginning each time: one key, or one and another waiting.
                let begin = json!({ "s3uid": account.s3uid });
                let before = shown(&app, &account).await;
                if confirm == 1 {
                    app.call("client", ACTION, begin.clone()).await.ok();
                }
                let call = app.call_directly("client", ACTION, parameters.clone());
                let whole = app.tap.crash_at(index, moment, call).await;
                // The first goes only when the second is there to be asked for.
                let second = if confirm == 0 {
                    let second = pair(&app.call("client", ACTION, begin).await.ok());
                    assert!(works(&app, &account, &before).await, "{moment:?} {index}");
                    second
                } else {
                    Value::Null
                };
                let confirm = json!({ "s3uid": account.s3uid, "confirm": 1 });
                app.call("client", ACTION, confirm).await.ok();
                bring_to_the_cluster(&app).await;
                let now = shown(&app, &account).await;
                assert!(works(&app, &account, &now).await, "{moment:?} {index}");
                assert!(!works(&app, &account, &before).await, "{moment:?} {index}");
                assert!(second.is_null() || second == now, "{moment:?} {index}");
                if whole.is_some() {
                    break;
                }
            }
        }
    }
}

/// What nobody tells the cluster any more, the job does.
async fn bring_to_the_cluster(app: &TestApp) {
    app.let_pass(SignedDuration::from_mins(4));
    app.run_directly("resume_tasks").await.expect("it is run");
    app.stack.drain().await.expect("the queues empty");
}

#[tokio::test]
async fn rotate_key_confirms_only_what_was_begun() {
    let mut app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let begin = json!({ "s3uid": account.s3uid });
    let confirm = json!({ "s3uid": account.s3uid, "confirm": 1 });
    let wanted = text(ACTION, "no key is waiting to be confirmed");
    let reply = app.call("client", ACTION, confirm.clone()).await;
    assert_eq!(reply.refused(409), wanted);
    app.call("client", ACTION, begin).await.ok();
    app.call("client", ACTION, confirm.clone()).await.ok();
    // A day later it is no repetition any more.
    app.let_pass(SignedDuration::from_hours(24));
    app.log_in().await;
    let reply = app.call("client", ACTION, confirm).await;
    assert_eq!(reply.refused(409), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotate_key_confirmed_by_many_at_once_is_confirmed_once_for_all_of_them() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    for _ in 0..3 {
        let first = shown(&app, &account).await;
        let begin = json!({ "s3uid": account.s3uid });
        let second = pair(&app.call("client", ACTION, begin).await.ok());
        let confirm = json!({ "s3uid": account.s3uid, "confirm": 1 });
        let calls = (0..8).map(|_| app.call("client", ACTION, confirm.clone()));
        for reply in join_all(calls).await {
            assert_eq!(reply.ok()["access_key"], second["access_key"]);
        }
        bring_to_the_cluster(&app).await;
        assert!(works(&app, &account, &second).await);
        assert!(!works(&app, &account, &first).await);
    }
    let history = app
        .call("client", "history", json!({ "s3uid": account.s3uid }))
        .await
        .ok();
    let entries = history["history"].as_array().expect("a list");
    let confirmed = entries.iter().filter(|e| e["action"] == "confirm_key");
    assert_eq!(confirmed.count(), 3);
}

/// One confirmation is left standing before or after each of its calls, another one is made whole, and then the first goes on. Round after
/// round, so that the mark of one is there still when the next is begun.
#[tokio::test]
async fn rotate_key_confirmed_by_two_at_once_leaves_a_key_that_works() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let begin = json!({ "s3uid": account.s3uid });
    let confirm = json!({ "s3uid": account.s3uid, "confirm": 1 });
    for moment in [Moment::Before, Moment::After] {
        for index in 0.. {
            assert!(index < 40, "no end");
            let when = format!("{moment:?} {index}");
            let first = shown(&app, &account).await;
            let reply = app.call_directly("client", ACTION, begin.clone()).await;
            let second = pair(&reply.ok());
            let slow = app.call_directly("client", ACTION, confirm.clone());
            let stalled = app.tap.stall_at(index, moment, slow).await;
            let quick = app.call_directly("client", ACTION, confirm.clone()).await;
            assert_eq!(quick.ok()["access_key"], second["access_key"], "{when}");
            let is_whole = stalled.is_ok();
            let slow = match stalled {
                Ok(reply) => reply,
                Err(stalled) => stalled.go_on().await,
            };
            assert_eq!(slow.ok()["access_key"], second["access_key"], "{when}");
            assert_eq!(shown(&app, &account).await, second, "{when}");
            assert!(works(&app, &account, &second).await, "{when}");
            // What a slow one may have brought back goes when all is quiet; every few rounds, as marks are to pile up, too.
            if is_whole || index % 4 == 3 {
                bring_to_the_cluster(&app).await;
                assert!(works(&app, &account, &second).await, "{when}");
                assert!(!works(&app, &account, &first).await, "{when}");
            }
            if is_whole {
                break;
            }
        }
    }
    let stored = app.context().database.account(&account.s3uid).await;
    let stored = stored.expect("DynamoDB answers").expect("the account");
    assert_eq!(stored.unsettled, None);
}

#[tokio::test]
async fn rotate_key_of_a_suspended_account_is_for_administrators() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let first = shown(&app, &account).await;
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    app.call("admin", "suspend_account", by_admin.clone())
        .await
        .ok();
    let own = json!({ "s3uid": account.s3uid });
    let refused = app.call("client", ACTION, own).await.refused(403);
    assert_eq!(refused, text(ACTION, "S3 account is suspended"));
    let second = pair(&app.call("admin", ACTION, by_admin.clone()).await.ok());
    let mut confirm = by_admin.clone();
    confirm["confirm"] = 1.into();
    app.call("admin", ACTION, confirm).await.ok();
    // The keys stay stopped until the account is resumed; then the new one works alone.
    assert!(!works(&app, &account, &second).await);
    app.call("admin", "resume_account", by_admin).await.ok();
    assert!(works(&app, &account, &second).await);
    assert!(!works(&app, &account, &first).await);
    assert_eq!(shown(&app, &account).await, second);
}

#[tokio::test]
async fn rotate_key_refuses_accounts_that_are_not_in_use() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let parameters = json!({ "s3uid": account.s3uid });
    let by_admin = json!({ "s3uid": account.s3uid, "id": app.client_id("client") });
    app.call("admin", "suspend_account", by_admin).await.ok();
    let reply = app.call("client", ACTION, parameters.clone()).await;
    assert_eq!(reply.refused(403), text(ACTION, "S3 account is suspended"));
    app.call("client", "delete_account", parameters.clone())
        .await
        .ok();
    let reply = app.call("client", ACTION, parameters).await;
    let wanted = text(ACTION, "S3 account is being deleted");
    assert_eq!(reply.refused(409), wanted);
}

#[tokio::test]
async fn rotate_key_refuses_bad_tokens_and_parameters() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let contract = Contract {
        app: &app,
        who: "client",
        action: ACTION,
        parameters: json!({ "s3uid": account.s3uid }),
    };
    contract.hides_the_account_from_others(&account).await;
    contract.refuses_missing(&["s3uid"]).await;
    contract.takes_a_number("confirm", 0, 1).await;
    contract.refuses_bad_tokens().await;
}
