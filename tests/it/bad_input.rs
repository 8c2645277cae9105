//! Whatever is sent, to whatever action: a refusal in two fields, never a fault.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use http::{Method, Request};
use lambda_http::Body;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::contract::{NO_S3UID, NO_TOKEN};
use tests::examples::{Example, shown_values, with};
use tests::{Reply, TestApp};
use wharfage::http::Action;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const LIMIT_BYTES: usize = 64 * 1024;

/// Every path of the API, and how its refusals begin when the body could not be read.
fn paths() -> Vec<(String, String)> {
    let own = functions::ACTIONS.iter().map(|action| {
        (
            format!("/s3/{}", action.name),
            format!("s3/{}: ", action.speaks_as),
        )
    });
    let endpoints = [
        ("/s3.php", "s3: "),
        ("/auth.php", "auth: "),
        ("/eq_callback.php", "eq_callback: "),
    ]
    .map(|(path, prefix)| (path.to_owned(), prefix.to_owned()));
    own.chain(endpoints).collect()
}

/// Sends each body to every path, and sees it refused with these words.
async fn refused_everywhere(
    app: &TestApp,
    content_type: &str,
    bodies: Vec<Body>,
    status: u16,
    words: &str,
) {
    for (path, prefix) in paths() {
        for body in &bodies {
            let copy = match body {
                Body::Text(text) => Body::Text(text.clone()),
                Body::Binary(bytes) => Body::Binary(bytes.clone()),
                _ => Body::Empty,
            };
            let reply = app.post(&path, content_type, copy).await;
            let text = reply.refused(status);
            assert!(
                text == format!("{prefix}{words}") || words.is_empty() && text.starts_with(&prefix),
                "{path}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn bodies_over_64_kib_are_too_large() {
    let app = TestApp::start_idle(&[]).await;
    let words = "the body is larger than 64 KiB";
    let form = format!("x={}", "a".repeat(LIMIT_BYTES - 1));
    let as_json = format!("{{\"x\":\"{}\"}}", "a".repeat(LIMIT_BYTES - 7));
    assert_eq!(
        (form.len(), as_json.len()),
        (LIMIT_BYTES + 1, LIMIT_BYTES + 1)
    );
    refused_everywhere(&app, FORM, vec![form.into()], 413, words).await;
    refused_everywhere(&app, JSON, vec![as_json.into()], 413, words).await;
    let megabyte = vec![0xff_u8; 1 << 20];
    refused_everywhere(&app, FORM, vec![megabyte.into()], 413, words).await;
    // Exactly as much is read.
    for (path, _) in paths() {
        let form = format!("x={}", "a".repeat(LIMIT_BYTES - 2));
        let status = app.post(&path, FORM, form).await.status;
        assert!([400, 401].contains(&status), "{path}: {status}");
    }
}

#[tokio::test]
async fn bodies_that_are_not_utf_8_are_refused() {
    let app = TestApp::start_idle(&[]).await;
    let raw = |bytes: &[u8]| Body::Binary(bytes.to_vec());
    let not_utf_8 = "the body is not UTF-8";
    refused_everywhere(
        &app,
        FORM,
        vec![raw(b"token=\xff"), raw(b"\xc3"), raw(b"a=\xed\xa0\x80")],
        400,
        not_utf_8,
    )
    .await;
    refused_everywhere(
        &app,
        JSON,
        vec![raw(b"{\"token\":\"\xff\"}")],
        400,
        not_utf_8,
    )
    .await;
    let encoded = vec![
        "token=%ff".into(),
        "%c3=1".into(),
        "a=%ed%a0%80&token=x".into(),
    ];
    refused_everywhere(&app, FORM, encoded, 400, "the parameters are not UTF-8").await;
    // Half of a surrogate pair is no character either.
    refused_everywhere(&app, JSON, vec![r#"{"token":"\ud800"}"#.into()], 400, "").await;
}

#[tokio::test]
async fn other_content_types_are_refused() {
    let app = TestApp::start_idle(&[]).await;
    let words = "content type must be application/x-www-form-urlencoded, multipart/form-data or application/json";
    for content_type in [
        "text/plain",
        "text/xml",
        "multipart/mixed; boundary=x",
        "application/jsonx",
        "application/json,text/plain",
        "application/x-www-form-urlencoded2",
        "json",
        "*/*",
        ";",
    ] {
        refused_everywhere(
            &app,
            content_type,
            vec!["{}".into(), "action=x".into()],
            415,
            words,
        )
        .await;
    }
    for (path, prefix) in paths() {
        let request = Request::post(&path)
            .body(Body::Text("action=list_plans".into()))
            .expect("a request");
        assert_eq!(
            app.send(request).await.refused(415),
            format!("{prefix}{words}")
        );
    }
    // Written in other ways, the two are the same.
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json ;x=y",
    ] {
        let body = json!({ "action": "list_plans", "token": app.token("client") }).to_string();
        app.post("/s3.php", content_type, body).await.ok();
    }
    for content_type in [
        "application/x-www-form-urlencoded; charset=UTF-8",
        "APPLICATION/X-WWW-FORM-URLENCODED",
    ] {
        let body = format!("action=list_plans&token={}", app.token("client"));
        app.post("/s3.php", content_type, body).await.ok();
    }
}

#[tokio::test]
async fn parameters_may_stand_once() {
    let app = TestApp::start_idle(&[]).await;
    let twice = "a parameter stands twice";
    let forms = [
        "token=a&token=a",
        "token=a&x=1&to%6ben=b",
        "s3uid=a&s3uid=",
        "=1&=2",
        "action=a&action=b",
    ];
    refused_everywhere(&app, FORM, forms.map(Body::from).into(), 400, twice).await;
    let words = "the body is not a JSON object of parameters: a parameter stands twice";
    let jsons = [r#"{"token":"a","token":"a"}"#, r#"{"x":{},"\u0078":null}"#];
    refused_everywhere(&app, JSON, jsons.map(Body::from).into(), 400, words).await;
}

#[tokio::test]
async fn json_that_is_no_object_of_parameters_is_refused() {
    let app = TestApp::start_idle(&[]).await;
    let deep = "[".repeat(30_000);
    let deep_object = format!(
        "{{\"a\":{}1{}}}",
        "{\"a\":".repeat(5_000),
        "}".repeat(5_000)
    );
    let bodies = [
        "",
        " ",
        "[]",
        "[{}]",
        "\"x\"",
        "1",
        "null",
        "true",
        "{",
        "{}{}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":1e400}",
        "\u{feff}{}",
        "{\"a\":\"\n\"}",
        "{\"a\":NaN}",
        "<?xml?>",
        "action=list_plans",
        &deep,
        &deep_object,
    ];
    for (path, prefix) in paths() {
        for body in bodies {
            let text = app.post(&path, JSON, body.to_owned()).await.refused(400);
            let wanted = format!("{prefix}the body is not a JSON object of parameters: line ");
            assert!(text.starts_with(&wanted), "{path} {:.40}: {text}", body);
        }
    }
}

#[tokio::test]
async fn nothing_at_all_is_refused_for_what_is_missing_first() {
    let app = TestApp::start_idle(&[]).await;
    for action in functions::ACTIONS {
        let path = format!("/s3/{}", action.name);
        let wanted = format!("s3/{}: missing auth token", action.speaks_as);
        let bare = Request::post(&path).body(Body::Empty).expect("a request");
        assert_eq!(app.send(bare).await.refused(401), wanted);
        assert_eq!(app.post(&path, FORM, "").await.refused(401), wanted);
        assert_eq!(app.post(&path, JSON, "{}").await.refused(401), wanted);
        assert_eq!(app.post(&path, FORM, "&&token").await.refused(401), wanted);
    }
    for (path, wanted) in [
        ("/s3.php", "s3: missing parameter action"),
        ("/auth.php", "auth: missing parameter action"),
        ("/eq_callback.php", "eq_callback: missing parameter action"),
    ] {
        let bare = Request::post(path).body(Body::Empty).expect("a request");
        assert_eq!(app.send(bare).await.refused(400), wanted);
        assert_eq!(app.post(path, FORM, "").await.refused(400), wanted);
        assert_eq!(app.post(path, JSON, "{}").await.refused(400), wanted);
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let app = TestApp::start_idle(&[]).await;
    let token = app.token("client");
    for (path, prefix) in paths() {
        for method in [
            "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PURGE",
        ] {
            let has_get = ["/eq_callback.php", "/auth.php"].contains(&path.as_str());
            if has_get && method == "GET" {
                continue;
            }
            let request = Request::builder()
                .method(Method::from_bytes(method.as_bytes()).expect("a method"))
                .uri(format!("{path}?action=list_plans&token={token}"))
                .header("content-type", FORM)
                .body(Body::Text(format!("action=list_plans&token={token}")))
                .expect("a request");
            let reply = app.send(request).await;
            let allow = if has_get { "GET, POST" } else { "POST" };
            assert_eq!(reply.allow.as_deref(), Some(allow), "{method} {path}");
            assert_eq!(
                reply.refused(405),
                format!("{prefix}method not allowed"),
                "{method} {path}"
            );
        }
    }
}

/// All names that any action reads, those of `auth.php` and `eq_callback.php` too, and one that none does.
fn all_names() -> Vec<String> {
    let own = functions::ACTIONS
        .iter()
        .flat_map(|action| names_of(action));
    let others = ["action", "key", "ttl", "fix_ip"].map(str::to_owned);
    let names: BTreeSet<String> = own.chain(others).collect();
    names.into_iter().collect()
}

fn odd_values() -> Vec<Value> {
    let mut values: Vec<Value> = [
        "",
        " ",
        "0",
        "-1",
        "1.5",
        "1e3",
        "+1",
        "99999999999999999999",
        "-9223372036854775809",
        "NaN",
        "Infinity",
        "null",
        "true",
        "[]",
        "\u{0}",
        "\n",
        "\u{1b}[31m",
        "\u{202e}",
        "é",
        "👩‍👩‍👧",
        "\u{feff}",
        "\u{fffd}",
        "'; DROP TABLE accounts; --",
        "<script>",
        "{{7*7}}",
        "${jndi:x}",
        "../../etc/passwd",
        "..",
        "/",
        "a/b",
        "a#b",
        "CLIENT#1",
        "%",
        "%00",
        "%2e%2e",
        "arn:aws:s3:::x",
        "xn--a",
        "a..b",
        "1.2.3.4",
        "2026-02-30",
        "0000-01-01",
        "9999-12-31",
        "-999-01-01",
    ]
    .map(Value::from)
    .to_vec();
    values.extend([
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
        json!(["a", 1]),
        json!({ "a": { "b": [] } }),
        json!("x".repeat(1_024)),
        json!("é".repeat(512)),
        json!("x".repeat(1_025)),
        json!("x".repeat(20_000)),
        json!(NO_S3UID),
        json!(NO_TOKEN),
    ]);
    values
}

/// A success in the form of one, or a refusal in two fields: nothing else may come.
fn is_an_answer(reply: &Reply) -> Result<(), String> {
    let fields = reply.body.as_object().ok_or("no object")?;
    let is_right = match reply.status {
        200 | 202 => {
            fields.contains_key("result")
                && !fields.contains_key("code")
                && !fields.contains_key("error")
        }
        400..=499 => {
            fields.len() == 2
                && fields["code"] == -1
                && fields["message"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
        }
        _ => false,
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("{}: {:#}", reply.status, reply.body))
    }
}

/// The parameters an action takes, and one it does not.
fn names_of(action: &Action) -> Vec<String> {
    let taken = action.takes.all().into_iter();
    taken
        .flat_map(|name| match name.strip_suffix('*') {
            Some(prefix) => vec![prefix.to_owned(), format!("{prefix}eur")],
            None => vec![name.to_owned()],
        })
        .chain(["unknown".to_owned()])
        .collect()
}

#[tokio::test]
async fn no_value_of_any_parameter_of_any_action_is_a_fault() {
    for action in functions::ACTIONS {
        let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
        let call = Example::of(action).prepare(&app, "my-bucket").await;
        let path = format!("/s3/{}", action.name);
        for name in names_of(action) {
            let mut values = odd_values();
            values.extend(
                shown_values(action)
                    .get(&name)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            for values in values.chunks(4) {
                let sent = values.iter().map(|value| {
                    let mut parameters = call.full();
                    parameters["token"] = app.token(call.who).into();
                    parameters[name.as_str()] = value.clone();
                    let (app, path) = (&app, &path);
                    async move { (value, app.post_json(path, &parameters).await) }
                });
                for (value, reply) in futures::future::join_all(sent).await {
                    if let Err(problem) = is_an_answer(&reply) {
                        panic!("{} {name}={value}: {problem}", action.name);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn forms_of_any_shape_are_answered() {
    let app = TestApp::start_idle(&[]).await;
    let token = app.token("client");
    let forms = [
        "a[b][c][d][e][f]=1",
        "a[]=1&a[]=2",
        "a[0]=1&a[2]=2",
        "a[b=1",
        "a]b=1",
        "[]=1",
        "[a]=1",
        "a[b]=1&a=2",
        "a=1&a[b]=2",
        "a[b]=1&a[b]=2",
        "a[][]=1",
        "token[]=x",
        "token[a]=x",
        "s3uid[]=x&id[]=1",
        "=",
        "&",
        "a",
        "a=b=c",
        "%",
        "%zz=1",
        "a=%",
        "+=+",
        "%00=%00",
        "a%5B%5D=1",
    ];
    let many: String = (0..3_000)
        .map(|number| format!("p{number}={number}&"))
        .collect();
    let list: String = (0..3_000).map(|number| format!("a[]={number}&")).collect();
    let sparse = "a[4294967295]=1&a[18446744073709551615]=2".to_owned();
    let nested = format!("a{}=1", "[b]".repeat(10_000));
    let forms = forms
        .map(str::to_owned)
        .into_iter()
        .chain([many, list, sparse, nested]);
    for form in forms {
        for (path, _) in paths() {
            let body = format!("{form}&action=list_plans&token={token}");
            let reply = app.post(&path, FORM, body).await;
            if let Err(problem) = is_an_answer(&reply) {
                panic!("{path} {form:.60}: {problem}");
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Sent {
    /// A well-formed call of the action, with other values for some parameters, as JSON or as a form.
    Changed(Vec<(String, Value)>, bool),
    /// These parameters alone.
    Parameters(Vec<(String, Value)>, bool),
    /// Any bytes, under this content type.
    Bytes(&'static str, Vec<u8>),
}

/// A value out of what actions know: `$0`, `$1` … stand for the accounts of the system under test.
fn values() -> impl Strategy<Value = Value> + Clone {
    let shown = functions::ACTIONS
        .iter()
        .flat_map(|action| shown_values(action).values().flatten());
    let shown: Vec<Value> = shown.cloned().collect();
    prop_oneof![
        3 => prop::sample::select(vec!["$0", "$1", "$2", "$3"]).prop_map(Value::from),
        2 => prop::sample::select(vec!["bucket-0", "bucket-1", "no-bucket", "NL", "DE", "access_key", "secret_key", "ASC", "DESC", "Cold", "total_storage_peak_gb", "2026-01-15", "client@example.com", "whmcs"]).prop_map(Value::from),
        2 => prop::sample::select(shown),
        2 => (0_u64..6).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
        1 => "[a-z0-9.-]{1,70}".prop_map(Value::from),
        1 => "[A-Za-z0-9+/=]{0,80}".prop_map(Value::from),
        1 => prop::sample::select(odd_values()),
        1 => prop::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let name = prop_oneof![9 => prop::sample::select(all_names()), 1 => any::<String>()];
    let some = |most: usize| prop::collection::vec((name.clone(), values()), 0..most);
    prop_oneof![
        6 => (some(3), any::<bool>()).prop_map(|(parameters, as_json)| Sent::Changed(parameters, as_json)),
        3 => (some(9), any::<bool>()).prop_map(|(parameters, as_json)| Sent::Parameters(parameters, as_json)),
        1 => (prop::sample::select(vec![FORM, JSON]), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(content_type, bytes)| Sent::Bytes(content_type, bytes)),
    ]
}

#[test]
fn whatever_is_sent_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (app, accounts, good) = runtime.block_on(async {
        let app =
            TestApp::start_idle(&[("BucketListWaitMs", "0"), ("FreeAccountsPerClient", "4")]).await;
        app.top_up("client", "for many orders", 1_000_000).await;
        let mut accounts = Vec::new();
        for number in 0..4 {
            let order = json!({ "plan_id": 1, "bucket_name": format!("bucket-{number}") });
            accounts.push(app.order_with("client", order).await);
        }
        let mut good = BTreeMap::new();
        for action in functions::ACTIONS {
            let name = action.name.replace('_', "-");
            let call = Example::of(action).prepare(&app, &name).await;
            good.insert(action.name, call.full());
        }
        (app, accounts, good)
    });
    let paths: Vec<String> = paths().into_iter().map(|(path, _)| path).collect();
    let names: Vec<&str> = functions::ACTIONS
        .iter()
        .map(|action| action.name)
        .collect();
    let strategy = (
        prop_oneof![3 => prop::sample::select(paths), 2 => Just("/s3.php".to_owned())],
        prop::sample::select(names),
        prop::sample::select(vec!["client", "client", "client2", "admin", "nobody"]),
        sent(),
    );
    let known = |text: &str| match text
        .strip_prefix('$')
        .and_then(|number| number.parse::<usize>().ok())
    {
        Some(number) => accounts[number % accounts.len()].s3uid.to_string(),
        None => text.to_owned(),
    };
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let (calls, answered) = (Cell::new(0_usize), Cell::new(0_usize));
    let result = runner.run(&strategy, |(path, action, who, sent)| {
        calls.set(calls.get() + 1);
        let action = path.strip_prefix("/s3/").unwrap_or(action);
        let mut call = json!({
            "token": if who == "nobody" { NO_TOKEN } else { app.token(who) },
        });
        if path.ends_with(".php") {
            call["action"] = action.into();
        }
        let own = functions::ACTIONS.iter().find(|own| own.name == action);
        let takes = |name: &str| own.is_some_and(|own| own.takes.has(name));
        // What an action does not take is refused by its name alone: a few of these are enough.
        let is_sent = |name: &str| takes(name) || calls.get() % 8 == 0;
        let (parameters, as_json) = match sent {
            Sent::Changed(parameters, as_json) => {
                call = with(&good[action], call);
                if action.starts_with("create") && takes("bucket_name") {
                    call["bucket_name"] = format!("new-bucket-{}", calls.get()).into();
                }
                if who == "admin" && takes("id") {
                    call["id"] = app.client_id("client").0.into();
                }
                (parameters, as_json)
            }
            Sent::Parameters(parameters, as_json) => (parameters, as_json),
            Sent::Bytes(content_type, bytes) => {
                let reply = runtime.block_on(app.post(&path, content_type, bytes));
                return is_an_answer(&reply).map_err(TestCaseError::fail);
            }
        };
        for (name, value) in parameters {
            if !["token", "action"].contains(&name.as_str()) && is_sent(&name) {
                call[name] = value
                    .as_str()
                    .map_or(value.clone(), |text| known(text).into());
            }
        }
        let reply = runtime.block_on(async {
            if as_json {
                app.post_json(&path, &call).await
            } else {
                app.post_form(&path, &call).await
            }
        });
        if reply.status < 300 {
            answered.set(answered.get() + 1);
        }
        is_an_answer(&reply).map_err(TestCaseError::fail)
    });
    if let Err(problem) = result {
        panic!("{problem}");
    }
    // Not all were refused at the door.
    assert!(
        answered.get() * 20 > calls.get(),
        "{} of {}",
        answered.get(),
        calls.get()
    );
}
