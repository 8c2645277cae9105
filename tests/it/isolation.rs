//! One client's token never reaches what is another's: to it, that does not exist, and trying changes nothing.

use functions::ACTIONS;
use functions::auth_php::is_for_administrators;
use serde_json::{Value, json};
use tests::contract::NO_TOKEN;
use tests::examples::{Example, NO_CLIENT_ID, Scene, with};
use tests::{Reply, TestApp};
use wharfage::domain::account::S3Uid;
use wharfage::http::Action;
use wharfage::http::typed::ALIASES;

async fn try_it(scene: &Scene, path: &str, action: &Action, parameters: &Value) -> Reply {
    let token = scene.app.token("client");
    let parameters = with(parameters, json!({ "token": token, "action": action.name }));
    scene.app.post_form(path, &parameters).await
}

#[tokio::test]
async fn what_is_anothers_is_answered_as_what_is_not_there_and_stays_as_it_is() {
    let scene = Scene::new().await;
    let before = scene.app.world().await;
    for action in ACTIONS {
        let name = action.name;
        let attacks = Example::of(action).attacks(&scene);
        assert!(!attacks.is_empty(), "{name}: nothing is tried");
        for path in [format!("/s3/{name}"), "/s3.php".to_owned()] {
            for attack in &attacks {
                let answer = try_it(&scene, &path, action, &attack.parameters).await;
                let nothing = try_it(&scene, &path, action, &attack.on_nothing).await;
                let what = format!("{path} {}", attack.parameters);
                assert_eq!(
                    answer, nothing,
                    "{what}: answered otherwise than {}",
                    attack.on_nothing
                );
                assert_eq!(answer.status, attack.status, "{what}: {}", answer.body);
                if attack.status != 200 {
                    answer.refused(attack.status);
                } else if let Some(list) = attack.empty {
                    assert_eq!(answer.ok()[list], json!([]), "{what}");
                }
            }
        }
        let drained = scene.app.stack.drain().await.expect("the queues empty");
        assert_eq!(
            (drained.handled, drained.failed),
            (0, 0),
            "{name} sent a message"
        );
        scene
            .app
            .world()
            .await
            .assert_unchanged_since(&before, name);
    }
}

#[tokio::test]
async fn without_a_session_nothing_is_told_and_nothing_changes() {
    let scene = Scene::new().await;
    let before = scene.app.world().await;
    for action in ACTIONS {
        let name = action.name;
        for attack in Example::of(action).attacks(&scene) {
            let path = format!("/s3/{name}");
            let wrong = with(&attack.parameters, json!({ "token": NO_TOKEN }));
            let wrong = scene.app.post_form(&path, &wrong).await;
            assert_eq!(
                wrong.refused(401),
                format!("s3/{}: invalid token", action.speaks_as)
            );
            let absent = scene.app.post_form(&path, &attack.parameters).await;
            assert_eq!(
                absent.refused(401),
                format!("s3/{}: missing auth token", action.speaks_as)
            );
        }
        scene
            .app
            .world()
            .await
            .assert_unchanged_since(&before, name);
    }
}

#[tokio::test]
async fn a_client_may_not_do_what_is_for_admins_on_its_own_account_either() {
    let scene = Scene::new().await;
    let before = scene.app.world().await;
    for action in ACTIONS
        .iter()
        .filter(|action| is_for_administrators(action))
    {
        let parameters = Example::of(action).tried_on_own(&scene);
        let reply = scene.app.call("client", action.name, parameters).await;
        assert_eq!(
            reply.refused(403),
            format!("s3/{}: allowed to administrators only", action.name)
        );
        scene
            .app
            .world()
            .await
            .assert_unchanged_since(&before, action.name);
    }
    // An admin's view of a plan that is not sold is for admins.
    let plans = scene
        .app
        .call("client", "list_plans", json!({ "id": 4 }))
        .await
        .ok();
    let ids: Vec<&Value> = plans["plans"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|plan| &plan["id"])
        .collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(3)]);
    // An unfiltered listing is the client's own.
    let users = scene.app.call("client", "get_users", json!({})).await.ok();
    assert_eq!(users["s3_users"].as_array().expect("a list").len(), 1);
    assert_eq!(users["s3_users"][0]["s3uid"], scene.own.s3uid.as_str());
}

#[tokio::test]
async fn a_bucket_name_that_is_anothers_cannot_be_taken() {
    let scene = Scene::new().await;
    let before = scene.app.world().await;
    let name = json!({ "s3uid": scene.own.s3uid, "bucket_name": "others-bucket" });
    let text = scene
        .app
        .call("client", "create_bucket", name)
        .await
        .refused(409);
    assert_eq!(text, "s3/create_bucket: bucket name is already taken");
    scene
        .app
        .world()
        .await
        .assert_unchanged_since(&before, "create_bucket");
}

#[tokio::test]
async fn an_admin_reaches_an_account_only_as_the_client_it_belongs_to() {
    let scene = Scene::new().await;
    let (s3uid, id) = (&scene.others.s3uid, scene.others_client_id);
    let key = |id: u64| json!({ "s3uid": s3uid, "s3_key": "access_key", "id": id });
    scene.app.call("admin", "show_key", key(id.0)).await.ok();
    let not_found = "s3/show_key: S3 account not found for this customer";
    for other in [scene.app.client_id("client").0, NO_CLIENT_ID] {
        assert_eq!(
            scene
                .app
                .call("admin", "show_key", key(other))
                .await
                .refused(404),
            not_found
        );
    }
}

/// Staff need not say whose an account is, and may use every name that parameters have.
#[tokio::test]
async fn an_admin_reaches_any_account_by_its_name_or_number_alone() {
    let app = TestApp::start().await;
    app.top_up("client", "for many orders", 1_000_000).await;
    for action in ACTIONS {
        for by_number in [false, true] {
            let name = format!("{}-{by_number}", action.name.replace('_', "-"));
            let call = Example::of(action).prepare(&app, &name).await;
            let mut parameters = call.full();
            let fields = parameters.as_object_mut().expect("an object");
            let Some(s3uid) = fields.get("s3uid").cloned() else {
                continue;
            };
            // Elsewhere `id` is no client's.
            fields.remove("id");
            if by_number {
                fields.remove("s3uid");
                let s3uid = S3Uid(s3uid.as_str().expect("a text").to_owned());
                let account = app.context().database.account(&s3uid);
                let account = account.await.expect("an answer").expect("the account");
                fields.insert("account_id".into(), account.id.0.into());
                for (alias, name) in ALIASES {
                    if action.takes.has(alias)
                        && let Some(value) = fields.remove(name)
                    {
                        fields.insert(alias.into(), value);
                    }
                }
            }
            let what = format!("{} {parameters}", action.name);
            let reply = app.call("admin", action.name, parameters).await;
            assert_eq!(reply.status, 200, "{what}: {:#}", reply.body);
            if let Some(told) = reply.ok().get("s3uid") {
                assert_eq!(*told, s3uid, "{what}");
            }
        }
    }
}
