//! One client's token never reaches what is another's: to it, that does not exist, and trying changes nothing.

use functions::ACTIONS;
use functions::auth_php::is_for_administrators;
use serde_json::{Value, json};
use tests::{Reply, TestAccount, TestApp};
use wharfage::domain::credential::hash;

/// Well-formed, and nobody's.
const NO_S3UID: &str = "NoSuchAccount0000000000000000000";
const NO_ACCOUNT_ID: u64 = 999_999;
const NO_CLIENT_ID: u64 = 888_888;
const NO_INVOICE_ID: u64 = 777_777;
const NO_BUCKET: &str = "nobodys-bucket";

/// Something a client tries on another's, and the same on what does not exist.
struct Attack {
    /// On what is another's.
    parameters: Value,
    /// On what is not there.
    on_nothing: Value,
    /// The status of both answers.
    status: u16,
}

/// Two clients with an account each; `client` is the one who tries.
struct Scene {
    app: TestApp,
    own: TestAccount,
    others: TestAccount,
    others_client_id: u64,
    others_invoice_id: u64,
}

impl Scene {
    async fn new() -> Scene {
        let app = TestApp::start().await;
        let own = app.order("client", "own-bucket").await;
        let others = app.order("client2", "others-bucket").await;
        let s3 = app.s3("client2", &others).await;
        app.put(&s3, "others-bucket", "secret.txt", 10).await;
        let others_client_id = app.client_id("client2");
        let invoices = app.call("client2", "list_invoices", json!({})).await.ok();
        let others_invoice_id = invoices["invoices"][0]["invoice_id"]
            .as_u64()
            .expect("a number");
        Scene {
            app,
            own,
            others,
            others_client_id,
            others_invoice_id,
        }
    }

    /// What can be tried with an action. Every action must be told of here.
    fn attacks(&self, action: &str) -> Vec<Attack> {
        match action {
            "cancel_payment_account_deletion"
            | "delete_account"
            | "delete_payment_account"
            | "get_buckets"
            | "get_buckets_rmq"
            | "get_usage"
            | "preview_invoice"
            | "resume_account"
            | "suspend_account"
            | "update_traffic_info" => self.on_accounts(&json!({})),
            "rotate_key" => [json!({}), json!({ "confirm": 1 })]
                .iter()
                .flat_map(|rest| self.on_accounts(rest))
                .collect(),
            "change_plan" => [
                json!({ "plan_id": 1 }),
                json!({ "plan_id": 1, "when": "now" }),
            ]
            .iter()
            .flat_map(|rest| self.on_accounts(rest))
            .collect(),
            // Whoever is no administrator is told so, whether or not there is what it names.
            "add_credit" => {
                let rest = json!({ "amount": 1, "reference": "x" });
                self.for_admins(
                    with(&rest, json!({ "id": self.others_client_id })),
                    with(&rest, json!({ "id": NO_CLIENT_ID })),
                )
            }
            "list_cleanups" => self.for_admins(json!({}), json!({ "limit": 1 })),
            "create_api_key" => self.for_admins(
                json!({ "id": self.others_client_id }),
                json!({ "id": NO_CLIENT_ID }),
            ),
            "end_access" => self.for_admins(
                json!({ "id": self.others_client_id }),
                json!({ "id": NO_CLIENT_ID }),
            ),
            "update_client" => self.for_admins(
                json!({ "id": self.others_client_id, "billing": "mine" }),
                json!({ "id": NO_CLIENT_ID, "billing": "mine" }),
            ),
            "revoke_api_key" => {
                let id = |key: &str| json!({ "api_key_id": hash(key) });
                self.for_admins(
                    id(self.app.stack.seeded().api_key("client2")),
                    id("nobody's"),
                )
            }
            "create_client" => self.for_admins(
                json!({ "email": "client2@example.com", "currency": "EUR" }),
                json!({ "email": "nobody@example.com", "currency": "EUR" }),
            ),
            "create_plan" => {
                let plan = json!({ "name": "Mine", "quota": 1, "monthly_eur": 0 });
                self.for_admins(plan.clone(), plan)
            }
            "update_plan" => self.for_admins(
                json!({ "plan_id": 4, "active": 1 }),
                json!({ "plan_id": 444, "active": 1 }),
            ),
            "list_invoices" => vec![
                Attack {
                    parameters: json!({ "id": self.others_client_id }),
                    on_nothing: json!({ "id": NO_CLIENT_ID }),
                    status: 404,
                },
                Attack {
                    parameters: json!({ "s3uid": self.others.s3uid }),
                    on_nothing: json!({ "s3uid": NO_S3UID }),
                    status: 200,
                },
                Attack {
                    parameters: json!({ "account_id": self.others.id }),
                    on_nothing: json!({ "account_id": NO_ACCOUNT_ID }),
                    status: 404,
                },
            ],
            "get_invoice" => vec![
                Attack {
                    parameters: json!({ "invoice_id": self.others_invoice_id }),
                    on_nothing: json!({ "invoice_id": NO_INVOICE_ID }),
                    status: 404,
                },
                Attack {
                    parameters: json!({
                        "invoice_id": self.others_invoice_id, "id": self.others_client_id,
                    }),
                    on_nothing: json!({ "invoice_id": NO_INVOICE_ID, "id": NO_CLIENT_ID }),
                    status: 404,
                },
            ],
            "show_key" => [
                json!({ "s3_key": "secret_key" }),
                json!({ "s3_key": "access_key" }),
            ]
            .iter()
            .flat_map(|rest| self.on_accounts(rest))
            .collect(),
            "create_bucket" => self.on_accounts(&json!({ "bucket_name": "a-new-bucket" })),
            "delete_bucket" => self.on_buckets(&json!({}), 404),
            "get_files" => self.on_buckets(&json!({}), 403),
            "delete_file" => self.on_buckets(&json!({ "filename": "secret.txt" }), 403),
            "create_account" | "create_order" => {
                let order = json!({ "plan_id": 2, "bucket_name": "a-new-bucket" });
                vec![
                    Attack {
                        parameters: with(&order, json!({ "id": self.others_client_id })),
                        on_nothing: with(&order, json!({ "id": NO_CLIENT_ID })),
                        status: 404,
                    },
                    // A plan that is not offered is not there either.
                    Attack {
                        parameters: with(&order, json!({ "plan_id": 4 })),
                        on_nothing: with(&order, json!({ "plan_id": 444 })),
                        status: 404,
                    },
                ]
            }
            "get_users" => [
                (
                    json!({ "s3uid": self.others.s3uid }),
                    json!({ "s3uid": NO_S3UID }),
                ),
                (
                    json!({ "id": self.others.id }),
                    json!({ "id": NO_ACCOUNT_ID }),
                ),
                (
                    json!({ "id": self.others_client_id }),
                    json!({ "id": NO_CLIENT_ID }),
                ),
                (
                    json!({ "account_id": self.others.id }),
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
            .into_iter()
            .map(|(parameters, on_nothing)| Attack {
                parameters,
                on_nothing,
                status: 200,
            })
            .collect(),
            "history" => [
                (
                    json!({ "s3uid": self.others.s3uid }),
                    json!({ "s3uid": NO_S3UID }),
                ),
                (
                    json!({ "id": self.others.id }),
                    json!({ "id": NO_ACCOUNT_ID }),
                ),
                (
                    json!({ "account_id": self.others.id }),
                    json!({ "account_id": NO_ACCOUNT_ID }),
                ),
            ]
            .into_iter()
            .map(|(parameters, on_nothing)| Attack {
                parameters,
                on_nothing,
                status: 404,
            })
            .collect(),
            // These name nobody; a client that says `id` is told what it would have been told without.
            "list_plans" => vec![Attack {
                parameters: json!({ "id": 4 }),
                on_nothing: json!({}),
                status: 200,
            }],
            "get_available_locations" => vec![Attack {
                parameters: json!({}),
                on_nothing: json!({}),
                status: 200,
            }],
            _ => panic!("what can a client try on another's account with {action}? Say it here"),
        }
    }

    /// Every way to name an account that is another's, or to act as another.
    fn on_accounts(&self, rest: &Value) -> Vec<Attack> {
        let (s3uid, id) = (&self.others.s3uid, self.others.id);
        let client_id = self.others_client_id;
        [
            (json!({ "s3uid": s3uid }), json!({ "s3uid": NO_S3UID })),
            (
                json!({ "account_id": id }),
                json!({ "account_id": NO_ACCOUNT_ID }),
            ),
            (
                json!({ "s3uid": s3uid, "id": client_id }),
                json!({ "s3uid": NO_S3UID, "id": NO_CLIENT_ID }),
            ),
            (
                json!({ "account_id": id, "id": client_id }),
                json!({ "account_id": NO_ACCOUNT_ID, "id": NO_CLIENT_ID }),
            ),
            (
                json!({ "s3uid": self.own.s3uid, "id": client_id }),
                json!({ "s3uid": self.own.s3uid, "id": NO_CLIENT_ID }),
            ),
            (
                json!({ "account_id": self.own.id, "id": client_id }),
                json!({ "account_id": self.own.id, "id": NO_CLIENT_ID }),
            ),
            // Its own number does not help.
            (
                json!({ "s3uid": s3uid, "id": self.app.client_id("client") }),
                json!({ "s3uid": NO_S3UID, "id": self.app.client_id("client") }),
            ),
        ]
        .into_iter()
        .map(|(parameters, on_nothing)| Attack {
            parameters: with(rest, parameters),
            on_nothing: with(rest, on_nothing),
            status: 404,
        })
        .collect()
    }

    /// What is for administrators, tried on what is there and on what is not.
    fn for_admins(&self, parameters: Value, on_nothing: Value) -> Vec<Attack> {
        vec![Attack {
            parameters,
            on_nothing,
            status: 403,
        }]
    }

    /// The same, with the other's bucket; and that bucket through the client's own account.
    fn on_buckets(&self, rest: &Value, status: u16) -> Vec<Attack> {
        let others = with(rest, json!({ "bucket_name": self.others.bucket_name }));
        let mut attacks = self.on_accounts(&others);
        for own in [
            json!({ "s3uid": self.own.s3uid }),
            json!({ "account_id": self.own.id }),
        ] {
            attacks.push(Attack {
                parameters: with(&others, own.clone()),
                on_nothing: with(&with(rest, json!({ "bucket_name": NO_BUCKET })), own),
                status,
            });
        }
        attacks
    }

    async fn try_it(&self, path: &str, action: &str, token: &str, parameters: &Value) -> Reply {
        let parameters = with(parameters, json!({ "token": token, "action": action }));
        self.app.post_form(path, &parameters).await
    }
}

fn with(parameters: &Value, more: Value) -> Value {
    let mut all = parameters.clone();
    for (name, value) in more.as_object().expect("an object") {
        all[name] = value.clone();
    }
    all
}

#[tokio::test]
async fn what_is_anothers_is_answered_as_what_is_not_there_and_stays_as_it_is() {
    let scene = Scene::new().await;
    let before = scene.app.world().await;
    for action in ACTIONS {
        let name = action.name;
        for path in [format!("/s3/{name}"), "/s3.php".to_owned()] {
            for attack in scene.attacks(name) {
                let token = scene.app.token("client");
                let answer = scene.try_it(&path, name, token, &attack.parameters).await;
                let nothing = scene.try_it(&path, name, token, &attack.on_nothing).await;
                let what = format!("{path} {}", attack.parameters);
                assert_eq!(
                    answer, nothing,
                    "{what}: answered otherwise than {}",
                    attack.on_nothing
                );
                assert_eq!(answer.status, attack.status, "{what}: {}", answer.body);
                if attack.status != 200 {
                    answer.refused(attack.status);
                } else if name == "get_users" {
                    assert_eq!(answer.ok()["s3_users"], json!([]), "{what}");
                } else if name == "list_invoices" {
                    assert_eq!(answer.ok()["invoices"], json!([]), "{what}");
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
        for attack in scene.attacks(name) {
            let path = format!("/s3/{name}");
            let wrong = scene
                .try_it(
                    &path,
                    name,
                    "0123456789abcdef0123456789abcdef",
                    &attack.parameters,
                )
                .await;
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
    let id = scene.app.client_id("client");
    let own = json!({ "s3uid": scene.own.s3uid });
    let key = scene.app.stack.seeded().api_key("client");
    let actions = functions::ACTIONS.iter();
    for action in actions
        .filter(|action| is_for_administrators(action))
        .map(|action| action.name)
    {
        let parameters = match action {
            "update_traffic_info" | "suspend_account" | "resume_account" => own.clone(),
            "change_plan" => with(&own, json!({ "plan_id": 1 })),
            "add_credit" => json!({ "id": id, "amount": 1, "reference": "x" }),
            "create_api_key" | "end_access" => json!({ "id": id }),
            "list_cleanups" => json!({}),
            "revoke_api_key" => json!({ "api_key_id": hash(key) }),
            "create_client" => json!({ "email": "mine@example.com", "currency": "EUR" }),
            "update_client" => json!({ "id": id, "role": "admin" }),
            "create_plan" => json!({ "name": "Mine", "quota": 1, "monthly_eur": 0 }),
            "update_plan" => json!({ "plan_id": 2, "monthly_eur": 0 }),
            other => panic!("say here how a client would try {other}"),
        };
        let reply = scene.app.call("client", action, parameters).await;
        assert_eq!(
            reply.refused(403),
            format!("s3/{action}: allowed to administrators only")
        );
        scene
            .app
            .world()
            .await
            .assert_unchanged_since(&before, action);
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
    assert_eq!(users["s3_users"][0]["s3uid"], scene.own.s3uid);
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
    scene.app.call("admin", "show_key", key(id)).await.ok();
    let not_found = "s3/show_key: S3 account not found for this customer";
    for other in [scene.app.client_id("client"), NO_CLIENT_ID] {
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
