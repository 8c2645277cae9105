//! What the tests of all actions know about one. It stands beside the action's own tests, in `tests/it/ACTION.rs`, and is found there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use functions::ACTIONS;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use wharfage::domain::client::ClientId;
use wharfage::http::Action;

use crate::contract::NO_S3UID;
use crate::{TestAccount, TestApp};

/// The number of no account.
pub const NO_ACCOUNT_ID: u64 = 999_999;
/// The number of no client.
pub const NO_CLIENT_ID: u64 = 888_888;
/// The number of no invoice.
pub const NO_INVOICE_ID: u64 = 777_777;
/// The name of no bucket.
pub const NO_BUCKET: &str = "nobodys-bucket";

/// An action as the tests of all actions call it.
///
/// ```text
/// inventory::submit!(Example::new(
///     ACTION,
///     |prepare| Box::pin(prepare.with_account(json!({}))),
///     |scene| scene.on_accounts(json!({})),
/// ));
/// ```
#[derive(Clone, Copy)]
pub struct Example {
    action: &'static str,
    good: for<'a> fn(&'a Preparation<'a>) -> LocalBoxFuture<'a, GoodCall>,
    attacks: fn(&Scene) -> Vec<Attack>,
    on_own: Option<fn(&Scene) -> Value>,
    /// Whether it is refused, to be repeated later, while the cluster of its account is down.
    pub needs_the_cluster: bool,
    /// Whether its answer comes from a worker.
    pub waits_for_a_worker: bool,
}

inventory::collect!(Example);

impl Example {
    /// An example of an action: how a call of it succeeds, and what a client can try with it on what is another's.
    pub const fn new(
        action: &'static str,
        good: for<'a> fn(&'a Preparation<'a>) -> LocalBoxFuture<'a, GoodCall>,
        attacks: fn(&Scene) -> Vec<Attack>,
    ) -> Example {
        Example {
            action,
            good,
            attacks,
            on_own: None,
            needs_the_cluster: false,
            waits_for_a_worker: false,
        }
    }

    /// For what administrators alone may: what a client tries on what is its own.
    pub const fn on_own(mut self, on_own: fn(&Scene) -> Value) -> Example {
        self.on_own = Some(on_own);
        self
    }

    /// It is refused while the cluster of its account is down.
    pub const fn needs_the_cluster(mut self) -> Example {
        self.needs_the_cluster = true;
        self
    }

    /// Its answer comes from a worker.
    pub const fn waits_for_a_worker(mut self) -> Example {
        self.waits_for_a_worker = true;
        self
    }

    /// The example of an action.
    #[track_caller]
    pub fn of(action: &Action) -> &'static Example {
        let name = action.name;
        let mut found = inventory::iter::<Example>
            .into_iter()
            .filter(|example| example.action == name);
        let example = found
            .next()
            .unwrap_or_else(|| panic!("{name} has no example: say it in tests/it/{name}.rs"));
        assert!(found.next().is_none(), "{name} has two examples");
        example
    }

    /// The names of all actions that have one.
    pub fn names() -> BTreeSet<&'static str> {
        let examples = inventory::iter::<Example>.into_iter();
        examples.map(|example| example.action).collect()
    }

    /// Makes what has to be there for a good call. No two calls of one system are prepared under one name, which becomes that of a bucket.
    pub async fn prepare(&self, app: &TestApp, name: &str) -> GoodCall {
        self.prepare_at(app, name, None).await
    }

    /// The same, at a location.
    pub async fn prepare_at(&self, app: &TestApp, name: &str, location: Option<&str>) -> GoodCall {
        let preparation = Preparation {
            app,
            name,
            location,
        };
        (self.good)(&preparation).await
    }

    /// What a client can try with it on what is another's.
    pub fn attacks(&self, scene: &Scene) -> Vec<Attack> {
        (self.attacks)(scene)
    }

    /// What a client tries on its own, of an action that is for administrators.
    #[track_caller]
    pub fn tried_on_own(&self, scene: &Scene) -> Value {
        let on_own = self.on_own.unwrap_or_else(|| {
            panic!(
                "how would a client try {}? Its example does not say it: on_own",
                self.action
            )
        });
        on_own(scene)
    }
}

/// A call that succeeds.
#[derive(Debug, Clone)]
pub struct GoodCall {
    /// Who calls.
    pub who: &'static str,
    /// With what, but for the token.
    pub parameters: Value,
    /// What else the call takes, all of it at once: so that more of the action is reached when one parameter is wrong.
    pub besides: Value,
}

impl GoodCall {
    /// A call of a client.
    pub fn by_client(parameters: Value) -> GoodCall {
        GoodCall {
            who: "client",
            parameters,
            besides: json!({}),
        }
    }

    /// A call of an administrator.
    pub fn by_admin(parameters: Value) -> GoodCall {
        GoodCall {
            who: "admin",
            ..GoodCall::by_client(parameters)
        }
    }

    /// With what else it takes.
    pub fn besides(self, besides: Value) -> GoodCall {
        GoodCall { besides, ..self }
    }

    /// All that it takes.
    pub fn full(&self) -> Value {
        with(&self.parameters, self.besides.clone())
    }
}

/// Where a good call is prepared.
pub struct Preparation<'a> {
    /// The system.
    pub app: &'a TestApp,
    /// A bucket name that nobody has.
    pub name: &'a str,
    /// Where accounts are to be, if not at the default location.
    pub location: Option<&'a str>,
}

impl Preparation<'_> {
    /// The parameters of an order on the paid plan 2.
    pub fn order_parameters(&self) -> Value {
        let mut order = json!({ "plan_id": 2, "bucket_name": self.name });
        if let Some(location) = self.location {
            order["location"] = location.into();
        }
        order
    }

    /// Orders an account for the client.
    pub async fn order(&self) -> TestAccount {
        let order = self.order_parameters();
        self.app.order_with("client", order).await
    }

    /// A client's call about a new account.
    pub async fn with_account(&self, rest: Value) -> GoodCall {
        let account = self.order().await;
        GoodCall::by_client(with(&rest, json!({ "s3uid": account.s3uid })))
    }

    /// A client's call about the bucket of a new account.
    pub async fn with_bucket(&self, rest: Value) -> GoodCall {
        let bucket = json!({ "bucket_name": self.name });
        self.with_account(with(&rest, bucket)).await
    }

    /// An administrator's call about a new account of the client.
    pub async fn with_account_for_admin(&self, rest: Value) -> GoodCall {
        let client = json!({ "id": self.app.client_id("client") });
        let call = self.with_account(with(&rest, client)).await;
        GoodCall::by_admin(call.parameters)
    }
}

/// Something a client tries on another's, and the same on what does not exist.
#[derive(Debug, Clone)]
pub struct Attack {
    /// On what is another's.
    pub parameters: Value,
    /// On what is not there.
    pub on_nothing: Value,
    /// The status of both answers.
    pub status: u16,
    /// The list that is empty in both answers.
    pub empty: Option<&'static str>,
}

impl Attack {
    /// One that is answered with this status.
    pub fn new(parameters: Value, on_nothing: Value, status: u16) -> Attack {
        Attack {
            parameters,
            on_nothing,
            status,
            empty: None,
        }
    }

    /// One that is answered with an empty list of this name.
    pub fn finds_nothing(parameters: Value, on_nothing: Value, list: &'static str) -> Attack {
        Attack {
            empty: Some(list),
            ..Attack::new(parameters, on_nothing, 200)
        }
    }
}

/// Two clients with an account each; `client` is the one who tries.
pub struct Scene {
    /// The system.
    pub app: TestApp,
    /// The account of who tries.
    pub own: TestAccount,
    /// The account of the other.
    pub others: TestAccount,
    /// The number of who tries.
    pub own_client_id: ClientId,
    /// The number of the other.
    pub others_client_id: ClientId,
    /// An invoice of the other.
    pub others_invoice_id: u64,
}

impl Scene {
    /// A new one. There is a file, `secret.txt`, in the other's bucket.
    pub async fn new() -> Scene {
        let app = TestApp::start().await;
        let own = app.order("client", "own-bucket").await;
        let others = app.order("client2", "others-bucket").await;
        let s3 = app.s3("client2", &others).await;
        app.put(&s3, "others-bucket", "secret.txt", 10).await;
        let invoices = app.call("client2", "list_invoices", json!({})).await.ok();
        let others_invoice_id = invoices["invoices"][0]["invoice_id"].as_u64();
        Scene {
            own,
            others,
            own_client_id: app.client_id("client"),
            others_client_id: app.client_id("client2"),
            others_invoice_id: others_invoice_id.expect("a number"),
            app,
        }
    }

    /// Every way to name an account that is another's, or to act as another.
    pub fn on_accounts(&self, rest: Value) -> Vec<Attack> {
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
                json!({ "s3uid": s3uid, "id": self.own_client_id }),
                json!({ "s3uid": NO_S3UID, "id": self.own_client_id }),
            ),
        ]
        .into_iter()
        .map(|(parameters, on_nothing)| {
            Attack::new(with(&rest, parameters), with(&rest, on_nothing), 404)
        })
        .collect()
    }

    /// The same, with the other's bucket; and that bucket through the client's own account.
    pub fn on_buckets(&self, rest: Value, status: u16) -> Vec<Attack> {
        let others = with(&rest, json!({ "bucket_name": self.others.bucket_name }));
        let nobodys = with(&rest, json!({ "bucket_name": NO_BUCKET }));
        let mut attacks = self.on_accounts(others.clone());
        for own in [
            json!({ "s3uid": self.own.s3uid }),
            json!({ "account_id": self.own.id }),
        ] {
            attacks.push(Attack::new(
                with(&others, own.clone()),
                with(&nobodys, own),
                status,
            ));
        }
        attacks
    }

    /// What is for administrators, tried on another client and on one that is not there. Whoever is no administrator is told so, whether or
    /// not there is what it names.
    pub fn on_clients_for_admins(&self, rest: Value) -> Vec<Attack> {
        Scene::for_admins(
            with(&rest, json!({ "id": self.others_client_id })),
            with(&rest, json!({ "id": NO_CLIENT_ID })),
        )
    }

    /// What is for administrators, tried on what is there and on what is not.
    pub fn for_admins(parameters: Value, on_nothing: Value) -> Vec<Attack> {
        vec![Attack::new(parameters, on_nothing, 403)]
    }
}

/// Parameters with more of them, or others.
pub fn with(parameters: &Value, more: Value) -> Value {
    let mut all = parameters.clone();
    for (name, value) in more.as_object().expect("an object") {
        all[name] = value.clone();
    }
    all
}

/// The values that the contract shows of each parameter of an action: the examples of its type, or all there are of a few.
pub fn shown_values(action: &Action) -> &'static BTreeMap<String, Vec<Value>> {
    static VALUES: LazyLock<BTreeMap<&str, BTreeMap<String, Vec<Value>>>> = LazyLock::new(|| {
        let document = functions::contract::document(&functions::contract::Examples::new());
        let of = |action: &&Action| {
            let path = format!("/s3/{}", action.name);
            let body = &document["paths"][path]["post"]["requestBody"];
            let schema = &body["content"]["application/json"]["schema"];
            let schema = referred(&document, schema);
            let properties = schema["properties"].as_object().expect("properties");
            let values = properties.iter().map(|(name, schema)| {
                let mut values = Vec::new();
                collect_values(&document, schema, &mut values);
                (name.clone(), values)
            });
            (action.name, values.collect())
        };
        ACTIONS.iter().map(of).collect()
    });
    &VALUES[action.name]
}

fn referred<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .expect("what is referred to"),
        None => schema,
    }
}

fn collect_values(document: &Value, schema: &Value, values: &mut Vec<Value>) {
    let schema = referred(document, schema);
    for list in ["examples", "enum"] {
        let listed = schema[list].as_array().into_iter().flatten();
        values.extend(listed.filter(|value| !value.is_null()).cloned());
    }
    values.extend(schema.get("const").cloned());
    for list in ["anyOf", "oneOf"] {
        for schema in schema[list].as_array().into_iter().flatten() {
            collect_values(document, schema, values);
        }
    }
}
