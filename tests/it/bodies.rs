//! The forms in which published clients send their parameters, byte by byte as they send them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Method, Request};
use lambda_http::Body;
use local::{Options, Stack};
use serde_json::{Value, json};
use tests::{Reply, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FORM: &str = "application/x-www-form-urlencoded";
/// As curl writes it.
const PARTS: &str = "multipart/form-data; boundary=------------------------d74496d66958873e";

/// A part of a form, as `curl -F name=value` writes it.
fn part(name: &str, value: &str) -> String {
    format!(
        "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
    )
}

/// As `curl -F` and PHP's cURL with an array of fields send it.
async fn in_parts(app: &TestApp, path: &str, fields: &[(&str, &str)]) -> Reply {
    let parts: String = fields
        .iter()
        .map(|(name, value)| part(name, value))
        .collect();
    let body = format!("{parts}--------------------------d74496d66958873e--\r\n");
    app.post(path, PARTS, body).await
}

async fn send(app: &TestApp, method: Method, address: &str, form: String) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(address)
        .header("content-type", FORM)
        .body(Body::Text(form))
        .expect("a request");
    app.send(request).await
}

#[tokio::test]
async fn forms_in_parts_are_served_from_login_to_deletion() {
    let app = TestApp::start().await;
    let key = app.stack.seeded().api_key("client");
    let login = in_parts(&app, "/auth.php", &[("action", "login"), ("key", key)]).await;
    let token = login.body["result"]["token"].as_str().expect("a token");
    let call = async |action: &str, fields: &[(&str, &str)]| {
        let head = [("action", action), ("token", token)];
        in_parts(&app, "/s3.php", &[&head, fields].concat()).await
    };
    let plans = call("list_plans", &[]).await;
    assert_eq!(plans, app.call("client", "list_plans", json!({})).await);
    let order = [
        ("plan_id", "2"),
        ("bucket_name", "my-bucket"),
        ("location", "NL"),
    ];
    let ordered = call("create_order", &order).await.ok();
    assert_eq!(ordered["bucket_name"], "my-bucket");
    let s3uid = ordered["s3uid"].as_str().expect("a text");
    let listed = call("get_buckets", &[("s3uid", s3uid)]).await.ok();
    assert_eq!(listed["message"][0]["name"], "my-bucket");

    // As `curl -F reason=@why.txt` sends it, after the head that curl writes for a file.
    let file = "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"reason\"; filename=\"why.txt\"\r\n\
         Content-Type: text/plain\r\n\r\nzu groß\r\n--------------------------d74496d66958873e--\r\n";
    let parts = [("token", token), ("s3uid", s3uid)].map(|(name, value)| part(name, value));
    let body = parts.concat() + file;
    app.post("/s3/delete_account", PARTS, body).await.ok();
    let history = call("history", &[("s3uid", s3uid)]).await.ok();
    let entries = history["history"].as_array().expect("a list");
    let told = |entry: &Value| entry["details"]["reason"] == "zu groß";
    assert!(entries.iter().any(told), "{entries:#?}");
}

#[tokio::test]
async fn php_s_arrays_are_read_in_every_kind_of_form() {
    let app = TestApp::start_idle(&[]).await;
    let token = app.token("admin");
    let fields = [
        ("token", token),
        ("name", "Archive & more"),
        ("quota", "100"),
        ("locations", "NL,DE"),
        ("monthly_eur", "9.50"),
        ("price[NL][EUR]", "8.25"),
        ("price[DE][EUR]", "7.75"),
    ];
    // As `http_build_query(['price' => ['NL' => ['EUR' => 8.25], …]])` writes it.
    let line = format!(
        "token={token}&name=Archive+%26+more&quota=100&locations=NL%2CDE&monthly_eur=9.50\
         &price%5BNL%5D%5BEUR%5D=8.25&price%5BDE%5D%5BEUR%5D=7.75"
    );
    let path = "/s3/create_plan";
    let replies = [
        app.post(path, FORM, line).await,
        in_parts(&app, path, &fields).await,
    ];
    for reply in replies {
        let plan = reply.ok()["plan"].clone();
        assert_eq!(plan["name"], "Archive & more");
        assert_eq!(
            plan["price"],
            json!({ "NL": { "EUR": 8.25 }, "DE": { "EUR": 7.75 } })
        );
    }
    // Where a text is asked for, an array is none, however it is written.
    let rule = "s3/list_plans: invalid parameter id: must be a text";
    for name in ["id[]", "id[0]", "id[a]"] {
        let line = format!(
            "token={token}&{}=1",
            name.replace('[', "%5B").replace(']', "%5D")
        );
        let reply = app.post("/s3/list_plans", FORM, line).await;
        assert_eq!(reply.refused(400), rule, "{name}");
        let fields = [("token", token), (name, "1")];
        let reply = in_parts(&app, "/s3/list_plans", &fields).await;
        assert_eq!(reply.refused(400), rule, "{name}");
    }
}

#[tokio::test]
async fn forms_in_parts_that_are_none_are_refused() {
    let app = TestApp::start_idle(&[]).await;
    let token = app.token("client");
    let end = "--------------------------d74496d66958873e--\r\n";
    let whole = format!("{}{end}", part("token", token));
    let refused = async |content_type: &str, body: Body, status: u16, words: &str| {
        for (path, prefix) in [("/s3.php", "s3"), ("/s3/list_plans", "s3/list_plans")] {
            let copy = match &body {
                Body::Text(text) => Body::Text(text.clone()),
                Body::Binary(bytes) => Body::Binary(bytes.clone()),
                _ => Body::Empty,
            };
            let reply = app.post(path, content_type, copy).await;
            assert_eq!(reply.refused(status), format!("{prefix}: {words}"));
        }
    };
    let none = "the body is not a form in parts";
    for content_type in ["multipart/form-data", "multipart/form-data; boundary=other"] {
        refused(content_type, whole.clone().into(), 400, none).await;
    }
    let without_name = whole.replace(" name=\"token\"", "");
    let without_head = whole.replace("Content-Disposition: form-data; name=\"token\"", "");
    let without_end = whole.replace(end, "");
    for body in ["", "token=x", &without_name, &without_head, &without_end] {
        refused(PARTS, body.into(), 400, none).await;
    }
    let binary = [
        part("token", "").as_bytes(),
        b"\xff\xd8\xff",
        end.as_bytes(),
    ]
    .concat();
    refused(PARTS, binary.into(), 400, "the body is not UTF-8").await;
    let twice = format!("{}{}{end}", part("token", token), part("token", token));
    refused(PARTS, twice.into(), 400, "a parameter stands twice").await;
    let large = format!("{}{end}", part("token", &"x".repeat(64 * 1024)));
    refused(PARTS, large.into(), 413, "the body is larger than 64 KiB").await;
    app.post("/s3/list_plans", PARTS, whole).await.ok();
}

#[tokio::test]
async fn the_action_may_stand_in_the_address_and_the_rest_in_the_body() {
    let app = TestApp::start().await;
    let token = app.token("client");
    let plans = app.call("client", "list_plans", json!({})).await;
    // As a published module for resellers sends it.
    let rest = format!("token={token}");
    let by_post = send(
        &app,
        Method::POST,
        "/s3.php?action=list_plans",
        rest.clone(),
    )
    .await;
    assert_eq!(by_post, plans);
    // So may all else.
    let whole = format!("/s3.php?action=create_order&token={token}&plan_id=2&location=DE");
    let order = "bucket_name=my-bucket&location=NL".to_owned();
    let ordered = send(&app, Method::POST, &whole, order).await.ok();
    // Of what stands in both, the body's counts, be it empty.
    assert_eq!(ordered["location"], "NL");
    let address = "/s3.php?action=get_users";
    let both = format!("action=list_plans&{rest}");
    assert_eq!(send(&app, Method::POST, address, both).await, plans);
    let empty = format!("action=&{rest}");
    assert_eq!(
        send(&app, Method::POST, address, empty).await.refused(400),
        "s3: missing parameter action"
    );
    let as_json = json!({ "token": token }).to_string();
    let address = "/s3.php?action=list_plans";
    let reply = app.post(address, "application/json", as_json).await;
    assert_eq!(reply, plans);
    // A path of its own says it already.
    let address = "/s3/list_plans?action=list_plans";
    assert_eq!(send(&app, Method::POST, address, rest.clone()).await, plans);
    let address = "/s3/list_plans?action=get_users";
    assert_eq!(
        send(&app, Method::POST, address, rest.clone())
            .await
            .refused(400),
        "s3/list_plans: invalid parameter action: is not the one the path names"
    );
    for (query, words) in [
        (
            "action=list_plans&action=get_users",
            "a parameter stands twice",
        ),
        ("action=%ff", "the parameters are not UTF-8"),
    ] {
        let reply = send(
            &app,
            Method::POST,
            &format!("/s3.php?{query}"),
            rest.clone(),
        )
        .await;
        assert_eq!(reply.refused(400), format!("s3: {words}"));
    }
}

/// Sends these bytes to the API over TCP, and reads what comes until the other side closes.
async fn over_tcp(stack: &Stack, bytes: &str) -> String {
    let address = stack.api();
    let address: SocketAddr = address
        .strip_prefix("http://")
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn a_get_may_carry_a_form() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    let listing = app.call("client", "get_buckets", own).await.body;
    let key = listing["callback"].as_str().expect("a key");
    // As `curl -X GET --data action=check --data token=… --data key=…` sends it.
    let form = format!("action=check&token={}&key={key}", app.token("client"));
    let request = format!(
        "GET /eq_callback.php HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\
         Content-Length: {}\r\nContent-Type: {FORM}\r\nConnection: close\r\n\r\n{form}",
        form.len()
    );
    let answer = over_tcp(&app.stack, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"result":"Not ready"}"#), "{answer}");
    app.stack.drain().await.expect("the queues are emptied");
    // A part of it may stand in the address, and the form may be in parts.
    let address = "/eq_callback.php?action=check";
    let reply = send(&app, Method::GET, address, format!("key={key}")).await;
    assert_eq!(reply.ok()["scope"]["action"], "get_buckets");
    let token = app.token("client");
    let body = format!(
        "{}--------------------------d74496d66958873e--\r\n",
        part("token", token)
    );
    let request = Request::get("/auth.php?action=info")
        .header("content-type", PARTS)
        .body(Body::Text(body))
        .expect("a request");
    let info = app.send(request).await;
    assert_eq!(info, app.auth("info", json!({ "token": token })).await);
    // Clients that name a type without sending anything.
    for content_type in [FORM, "application/json", PARTS, "text/plain"] {
        let request = Request::get(format!("/auth.php?action=info&token={token}"))
            .header("content-type", content_type)
            .body(Body::Empty)
            .expect("a request");
        assert_eq!(app.send(request).await, info, "{content_type}");
    }
}

#[tokio::test]
async fn a_token_does_not_change_what_a_callback_key_yields() {
    let app = TestApp::start_idle(&[("BucketListWaitMs", "0")]).await;
    let account = app.order("client", "my-bucket").await;
    let own = json!({ "s3uid": account.s3uid });
    for token in [app.token("client"), app.token("client2"), "x", ""] {
        let listing = app.call("client", "get_buckets", own.clone()).await.body;
        app.stack.drain().await.expect("the queues are emptied");
        let check = json!({ "action": "check", "key": listing["callback"], "token": token });
        let answer = app.post_form("/eq_callback.php", &check).await.ok();
        assert_eq!(answer["scope"]["message"][0]["name"], "my-bucket");
        assert_eq!(answer["scope"]["secret_key"], Value::Null);
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_holds_no_connection() {
    let stack = Stack::start(Options {
        body_timeout: Duration::from_millis(200),
        seed: false,
        ..Options::default()
    });
    let stack = stack.await.expect("the stack starts");
    let begun = Instant::now();
    for body in ["", "action=list_plans"] {
        let request = format!(
            "POST /s3.php HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 1000\r\n\r\n{body}"
        );
        // It ends, because the other side closes.
        let answer = over_tcp(&stack, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(
            answer.ends_with(r#"{"message":"Request Timeout"}"#),
            "{answer}"
        );
    }
    assert!(begun.elapsed() >= Duration::from_millis(400));
}
