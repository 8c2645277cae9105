//! What the tests stand on: a whole Wharfage on loopback for each of them, and a tap on every call it makes.

mod alarms;
pub mod answers;
pub mod api;
pub mod calls;
pub mod clusters;
pub mod contract;
pub mod examples;
pub mod made;
pub mod permissions;
pub mod property;
pub mod proxy;
pub mod tap;
pub mod template;
pub mod usage;
pub mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use jiff::Timestamp;
use lambda_http::Body;
use local::{AdjustEnvironment, GivenCluster, Options, Stack};
use serde_json::{Value, json};
use wharfage::config::Config;
use wharfage::connectors::Connectors;
use wharfage::context::Context;
use wharfage::database::OpenInvoice;
use wharfage::domain::account::S3Uid;
use wharfage::domain::client::ClientId;
use wharfage::domain::invoice::Invoice;
use wharfage::random::Random;
use wharfage::runtime::Entry;

use crate::answers::Received;
use crate::proxy::Proxy;
use crate::tap::Tap;

/// When every test begins, unless it says otherwise.
pub const START: &str = "2026-01-15T10:30:00Z";

/// An answer as its caller sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// `Wharfage-Reason`.
    pub reason: Option<String>,
    /// `Allow`.
    pub allow: Option<String>,
}

impl Reply {
    /// The body of a success; fails the test on anything else.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{:#}", self.body);
        assert_eq!(self.body["result"], "OK", "{:#}", self.body);
        self.body
    }

    /// The text of a refused token, which is refused for this reason; fails the test on anything else.
    #[track_caller]
    pub fn refused_token(self, reason: &str) -> String {
        assert_eq!(self.reason.as_deref(), Some(reason), "{:#}", self.body);
        self.refused(401)
    }

    /// The text of a failure with this status; fails the test on anything else.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{:#}", self.body);
        let fields = self.body.as_object().expect("an object");
        assert_eq!(fields.len(), 2, "a failure has two fields: {:#}", self.body);
        assert_eq!(fields["code"], -1);
        fields["message"].as_str().expect("a text").to_owned()
    }
}

/// A running system with a client for everything in it.
pub struct TestApp {
    /// The system.
    pub stack: Stack,
    /// Every call the product makes to AWS and the clusters passes here.
    pub tap: Tap,
    tokens: BTreeMap<&'static str, String>,
}

/// An account that a test ordered.
#[derive(Debug, Clone)]
pub struct TestAccount {
    /// Its name.
    pub s3uid: S3Uid,
    /// Its number.
    pub id: u64,
    /// Its location.
    pub location: String,
    /// Its first bucket.
    pub bucket_name: String,
}

/// A system that is about to start.
pub struct Starting(Options);

impl Starting {
    /// With queues that are only worked on when the test says so.
    #[must_use]
    pub fn idle(self) -> Starting {
        self.background(false)
    }

    /// With queues that are polled and schedules that run by themselves, or idle.
    #[must_use]
    pub fn background(mut self, background: bool) -> Starting {
        self.0.background = background;
        self
    }

    /// In the present, which is where the clusters live that are not its own; its clock runs.
    #[must_use]
    pub fn over(mut self, cluster: GivenCluster) -> Starting {
        self.0.clock = None;
        self.0.clusters = vec![cluster];
        self
    }

    /// Idle, with each function a process of its own whose calls pass a proxy.
    #[must_use]
    pub fn processes(mut self, proxy: &Proxy) -> Starting {
        let proxy = proxy.clone();
        let adjust: AdjustEnvironment =
            Box::new(move |environment| proxy.lead_through(environment));
        self.0.adjust_environment = Some(adjust);
        self.0.processes = Some(binary());
        self.idle()
    }

    /// Of another template.
    #[must_use]
    pub fn template(mut self, template: &'static str) -> Starting {
        self.0.template = template;
        self
    }

    /// Starts it.
    pub async fn start(mut self) -> TestApp {
        // `RUST_LOG=debug cargo test … -- --nocapture` shows what happens.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let tap = Tap::new();
        self.0.connector = Some(tap.connector());
        let stack = Stack::start(self.0).await.expect("the stack starts");
        let mut app = TestApp {
            stack,
            tap,
            tokens: BTreeMap::new(),
        };
        app.log_in().await;
        app
    }
}

impl TestApp {
    /// A new system at [`START`], its clock standing still, its queues polled.
    pub async fn start() -> TestApp {
        TestApp::with(&[]).start().await
    }

    /// The same, with queues that are only worked on when the test says so, and other values for some of the template's parameters.
    pub async fn start_idle(parameters: &[(&str, &str)]) -> TestApp {
        TestApp::with(parameters).idle().start().await
    }

    /// A system with other values for some of the template's parameters; what else is other than usual is said next.
    #[must_use]
    pub fn with(parameters: &[(&str, &str)]) -> Starting {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Starting(Options {
            clock: Some(START.parse().expect("a time")),
            parameters: parameters.iter().map(owned).collect(),
            background: true,
            processes: wants_processes().then(binary),
            ..Options::default()
        })
    }

    /// Opens new sessions for everybody: they last a day, and time may have been moved further.
    pub async fn log_in(&mut self) {
        for name in ["admin", "client", "client2"] {
            let key = self.stack.seeded().api_key(name).to_owned();
            let login = self
                .auth("login", json!({ "key": key, "ttl": 86_400 }))
                .await;
            let token = login.body["result"]["token"]
                .as_str()
                .expect("a token")
                .to_owned();
            self.tokens.insert(name, token);
        }
    }

    /// The product's view of the world.
    pub fn context(&self) -> &Arc<Context> {
        self.stack.context()
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.context().now()
    }

    /// The token of `admin`, `client` or `client2`.
    #[track_caller]
    pub fn token(&self, who: &str) -> &str {
        self.tokens.get(who).expect("admin, client or client2")
    }

    /// The number of `client` or `client2`.
    #[track_caller]
    pub fn client_id(&self, who: &str) -> ClientId {
        self.stack.seeded().client_ids[who]
    }

    /// Calls an action as somebody, with its parameters as a form, through the action's own route.
    pub async fn call(&self, who: &str, action: &str, parameters: Value) -> Reply {
        let mut parameters = parameters;
        parameters["token"] = self.token(who).into();
        self.post_form(&format!("/s3/{action}"), &parameters).await
    }

    /// The invoices of a client, the oldest first.
    pub async fn invoices(&self, who: &str) -> Vec<Invoice> {
        let database = &self.context().database;
        let invoices = database.invoices(self.client_id(who)).await;
        invoices.expect("the invoices are read")
    }

    /// What of them is open.
    pub async fn open_invoices(&self, who: &str) -> Vec<OpenInvoice> {
        let database = &self.context().database;
        let open = database.open_invoices(self.client_id(who)).await;
        open.expect("the open invoices are read")
    }

    /// Calls `auth.php`.
    pub async fn auth(&self, action: &str, mut parameters: Value) -> Reply {
        parameters["action"] = action.into();
        self.post_form("/auth.php", &parameters).await
    }

    /// Asks for a task's answer.
    pub async fn check(&self, callback_key: &str) -> Reply {
        self.post_form(
            "/eq_callback.php",
            &json!({ "action": "check", "key": callback_key }),
        )
        .await
    }

    /// Sends parameters as a form, in the order they stand.
    pub async fn post_form(&self, path: &str, parameters: &Value) -> Reply {
        self.send(form_request(path, parameters)).await
    }

    /// Sends parameters as JSON.
    pub async fn post_json(&self, path: &str, parameters: &Value) -> Reply {
        self.post(path, "application/json", parameters.to_string())
            .await
    }

    /// Sends a body of any type.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, content_type)
            .body(body.into())
            .expect("a request");
        self.send(request).await
    }

    /// Sends a request through the HTTP API, as from outside.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        reply(&method, &path, self.stack.invoke_http(request).await)
    }

    /// The product over the same services with some of its environment changed, its memory empty.
    pub fn context_with(&self, changes: &[(&str, String)]) -> Context {
        let mut environment = self.stack.environment().clone();
        for (name, value) in changes {
            environment.insert((*name).to_owned(), value.clone());
        }
        let config = Config::from_lookup(|name| environment.get(name).cloned());
        self.context_from(config.expect("a configuration"), self.tap.connector())
    }

    /// The same, its calls made by another connector.
    pub fn context_over(&self, connector: SharedHttpConnector) -> Context {
        let environment = self.stack.environment();
        let config = Config::from_lookup(|name| environment.get(name).cloned());
        self.context_from(config.expect("a configuration"), connector)
    }

    fn context_from(&self, config: Config, connector: SharedHttpConnector) -> Context {
        let clock = Arc::clone(&self.context().clock);
        Context::new(config, clock, Random::from_os(), Connectors::one(connector))
    }

    /// `LOCATIONS` with one field of one location set to something else.
    pub fn locations_with(&self, code: &str, field: &str, value: Value) -> String {
        let mut locations: Value =
            serde_json::from_str(&self.stack.environment()["LOCATIONS"]).expect("a list");
        let location = locations
            .as_array_mut()
            .expect("a list")
            .iter_mut()
            .find(|location| location["code"] == code)
            .expect("a location");
        location[field] = value;
        locations.to_string()
    }

    /// Calls an action by its handler, of a product that is given.
    pub async fn call_in(
        &self,
        context: &Context,
        who: &str,
        action: &str,
        parameters: Value,
    ) -> Reply {
        with_token(context, self.token(who), action, parameters).await
    }

    /// Calls an action by its handler with any token, on this very task.
    pub async fn call_as(&self, token: &str, action: &str, parameters: Value) -> Reply {
        with_token(self.context(), token, action, parameters).await
    }

    /// Calls an action by its handler, on this very task, so that the tap can tell its calls from others'.
    pub async fn call_directly(&self, who: &str, action: &str, parameters: Value) -> Reply {
        self.call_in(self.context(), who, action, parameters).await
    }

    /// Runs a scheduled job by its handler, on this very task.
    pub async fn run_directly(&self, job: &str) -> Result<Value, wharfage::error::Fault> {
        match function(job).entry {
            Entry::Schedule(handler) => handler(self.context()).await,
            _ => panic!("{job} is not a job"),
        }
    }

    /// Handles a queue message by its handler, on this very task.
    pub async fn handle_directly(
        &self,
        worker: &str,
        body: &str,
    ) -> Result<(), wharfage::error::Fault> {
        match function(worker).entry {
            Entry::Queue(handler) => handler(self.context(), body).await,
            _ => panic!("{worker} is not a worker"),
        }
    }

    /// Orders an account on the paid plan 2 at `NL`.
    #[track_caller]
    pub fn order<'a>(
        &'a self,
        who: &'a str,
        bucket_name: &'a str,
    ) -> impl Future<Output = TestAccount> + 'a {
        self.order_with(who, json!({ "plan_id": 2, "bucket_name": bucket_name }))
    }

    /// Orders an account with these parameters.
    pub async fn order_with(&self, who: &str, parameters: Value) -> TestAccount {
        let body = self.call(who, "create_order", parameters).await.ok();
        TestAccount {
            s3uid: S3Uid(body["s3uid"].as_str().expect("s3uid").to_owned()),
            id: body["id"].as_u64().expect("id"),
            location: body["location"].as_str().expect("location").to_owned(),
            bucket_name: body["bucket_name"]
                .as_str()
                .expect("bucket_name")
                .to_owned(),
        }
    }

    /// An S3 client with an account's own keys, as `show_key` reveals them.
    pub async fn s3(&self, who: &str, account: &TestAccount) -> aws_sdk_s3::Client {
        let mut keys = Vec::new();
        for s3_key in ["access_key", "secret_key"] {
            let parameters = json!({ "s3uid": account.s3uid, "s3_key": s3_key });
            let body = self.call(who, "show_key", parameters).await.ok();
            keys.push(body[s3_key].as_str().expect("a key").to_owned());
        }
        self.s3_with(&account.location, &keys[0], &keys[1])
    }

    /// A location as the product knows it.
    #[track_caller]
    pub fn location(&self, code: &str) -> &wharfage::config::Location {
        let cluster = self.context().clusters.get(code);
        &cluster.expect("a configured location").location
    }

    /// An S3 client with any keys.
    pub fn s3_with(
        &self,
        location: &str,
        access_key: &str,
        secret_key: &str,
    ) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.location(location).s3_region.clone()))
            .endpoint_url(&self.location(location).s3_endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Puts an object.
    pub async fn put(&self, s3: &aws_sdk_s3::Client, bucket_name: &str, key: &str, bytes: usize) {
        s3.put_object()
            .bucket(bucket_name)
            .key(key)
            .body(vec![b'x'; bytes].into())
            .send()
            .await
            .expect("the upload succeeds");
    }
}

/// Whether all tests are to run each function as processes of its own: with `WHARFAGE_PROCESSES` set. What passes the tap is then
/// only what the tests call themselves.
#[allow(
    clippy::disallowed_methods,
    reason = "it decides how the tests run, not what the product does"
)]
fn wants_processes() -> bool {
    std::env::var_os("WHARFAGE_PROCESSES").is_some()
}

/// The functions' binary, built once.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = || local::processes::build("dev").expect("the binary is built");
    BUILT.get_or_init(built).clone()
}

/// A function by its name.
#[track_caller]
pub fn function(name: &str) -> &'static wharfage::runtime::Function {
    functions::FUNCTIONS
        .iter()
        .find(|function| function.name == name)
        .unwrap_or_else(|| panic!("no function {name}"))
}

async fn with_token(context: &Context, token: &str, action: &str, mut parameters: Value) -> Reply {
    parameters["token"] = token.into();
    let path = format!("/s3/{action}");
    let request = form_request(&path, &parameters);
    match function(action).entry {
        Entry::Http(handler) => reply(&Method::POST, &path, handler(context, request).await),
        _ => panic!("{action} is not an action"),
    }
}

/// A POST with parameters as a form, in the order they stand.
pub fn form_request(path: &str, parameters: &Value) -> Request<Body> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters.as_object().expect("an object of parameters") {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        form.append_pair(name, &text);
    }
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::Text(form.finish()))
        .expect("a request")
}

/// A response as its caller sees it, which is as the contract says.
fn reply(method: &Method, path: &str, response: http::Response<Body>) -> Reply {
    let status = response.status().as_u16();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().expect("a text").to_owned())
    };
    let retry_after = header("retry-after").and_then(|value| value.parse().ok());
    let bytes: &[u8] = match response.body() {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => b"null",
    };
    let body: Value = serde_json::from_slice(bytes).expect("every answer is JSON");
    let reason = header("wharfage-reason");
    // What the gateway answers by itself has a form of its own.
    if status < 400 || body["code"] == -1 || reason.is_some() {
        let received = Received {
            path,
            method,
            status,
            reason: reason.as_deref(),
            kind: &header("content-type").unwrap_or_default(),
            body: &body,
        };
        received
            .is_as_the_contract_says()
            .unwrap_or_else(|why| panic!("{why}"));
    }
    Reply {
        status,
        body,
        retry_after,
        reason,
        allow: header("allow"),
    }
}
