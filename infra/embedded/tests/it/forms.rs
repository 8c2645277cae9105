//! Uploads from HTML forms.

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::support::{Lab, error, keys, pattern, read, send};

const DATE: &str = "20261122T132000Z";
const LATER: &str = "2099-01-01T00:00:00.000Z";

/// A form for alice's bucket, signed by `uid`.
struct Form {
    uid: &'static str,
    secret: String,
    expiration: &'static str,
    conditions: Vec<Value>,
    fields: Vec<(String, String)>,
    file_name: &'static str,
    file: Vec<u8>,
}

impl Form {
    fn new(key: &str) -> Self {
        Self {
            uid: "alice",
            secret: keys("alice").1,
            expiration: LATER,
            conditions: vec![
                json!({"bucket": "alices"}),
                json!(["starts-with", "$key", ""]),
            ],
            fields: vec![("key".into(), key.into())],
            file_name: "a.txt",
            file: b"content".to_vec(),
        }
    }

    /// Adds a field, and a condition that allows it.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.conditions
            .push(json!(["starts-with", format!("${name}"), ""]));
        self.fields.push((name.into(), value.into()));
        self
    }

    fn condition(mut self, condition: Value) -> Self {
        self.conditions.push(condition);
        self
    }

    fn file(mut self, name: &'static str, content: impl Into<Vec<u8>>) -> Self {
        (self.file_name, self.file) = (name, content.into());
        self
    }

    fn signed(mut self) -> Vec<(String, String)> {
        let credential = format!("{}/20261122/us-east-1/s3/aws4_request", keys(self.uid).0);
        for (name, value) in [
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", &credential),
            ("x-amz-date", DATE),
        ] {
            self.conditions.push(json!({name: value}));
            self.fields.push((name.into(), value.into()));
        }
        let policy = json!({"expiration": self.expiration, "conditions": self.conditions});
        let policy = STANDARD.encode(policy.to_string());
        let day: jiff::Timestamp = "2026-11-22T13:20:00Z".parse().unwrap();
        let key = generate_signing_key(&self.secret, day.into(), "us-east-1", "s3");
        let signature = calculate_signature(key, policy.as_bytes());
        self.fields.push(("policy".into(), policy));
        self.fields.push(("x-amz-signature".into(), signature));
        self.fields
    }

    async fn send(self, lab: &Lab) -> Response<Bytes> {
        let (file_name, file) = (self.file_name, self.file.clone());
        send_form(lab, &self.signed(), file_name, &file).await
    }
}

async fn send_form(
    lab: &Lab,
    fields: &[(String, String)],
    file_name: &str,
    file: &[u8],
) -> Response<Bytes> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(format!("{head}{value}\r\n").as_bytes());
    }
    let names = format!("name=\"file\"; filename=\"{file_name}\"");
    let head = format!("--b\r\nContent-Disposition: form-data; {names}\r\n\r\n");
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--b--\r\n");
    let request = Request::post("/alices")
        .header("host", "cluster.example")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(Full::from(body))
        .unwrap();
    send(lab.cluster().endpoint(), request).await
}

/// The status and code of a refusal.
fn refused(response: &Response<Bytes>) -> (u16, String) {
    let text = String::from_utf8_lossy(response.body());
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map_or("", |(code, _)| code);
    error(response.status().as_u16(), code)
}

#[tokio::test]
async fn a_form_makes_an_object_as_a_put_does() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let file = pattern(300_000);
    let tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let response = Form::new("in/${filename}")
        .with("Content-Type", "text/x")
        .with("x-amz-meta-who", "me: ${filename}")
        .with("tagging", tagging)
        .with("success_action_status", "201")
        .condition(json!(["content-length-range", 300_000, 300_000]))
        .file("C:\\pictures\\ü b.png", file.clone())
        .send(&lab)
        .await;
    assert_eq!(response.status(), 201, "{response:?}");
    let xml = String::from_utf8_lossy(response.body()).into_owned();
    let key = "in/ü b.png";
    let location = "http://cluster.example/alices/in/%C3%BC%20b.png";
    let answered =
        format!("<Location>{location}</Location><Bucket>alices</Bucket><Key>{key}</Key>");
    assert!(xml.contains(&answered), "{xml}");
    assert_eq!(response.headers()["location"], location);
    assert_eq!(read(&alice, "alices", key).await, file);
    let head = alice.head_object().bucket("alices").key(key);
    let head = head.send().await.unwrap();
    assert_eq!(head.content_type(), Some("text/x"));
    assert_eq!(response.headers()["etag"], head.e_tag().unwrap());
    assert!(head.metadata().unwrap().contains_key("who"));
    let tags = alice.get_object_tagging().bucket("alices").key(key);
    assert_eq!(tags.send().await.unwrap().tag_set()[0].value(), "b");
}

#[tokio::test]
async fn a_form_is_answered_as_it_asks() {
    let lab = Lab::start();
    lab.user_with("alice", "alices").await;
    let page = "https://app.example/done?a=1";
    let form = Form::new("a key").with("success_action_redirect", page);
    let response = form.send(&lab).await;
    assert_eq!(response.status(), 303);
    assert_eq!(
        response.headers()["location"],
        format!("{page}&bucket=alices&key=a+key&etag=%229a0364b9e99bb480dd25e1f0284c8555%22")
    );
    for (asked, status) in [("200", 200), ("204", 204), ("500", 204)] {
        let form = Form::new("k").with("success_action_status", asked);
        let response = form.send(&lab).await;
        assert_eq!(response.status(), status);
        assert!(response.body().is_empty());
    }
    let form = Form::new("k").with("success_action_redirect", "javascript:alert(1)");
    assert_eq!(form.send(&lab).await.status(), 204);
    assert_eq!(Form::new("k").send(&lab).await.status(), 204);
}

#[tokio::test]
async fn a_form_is_held_to_its_policy() {
    let lab = Lab::start();
    lab.user_with("alice", "alices").await;
    let denied = || error(403, "AccessDenied");
    let condition = |condition: Value| Form::new("k").condition(condition);
    let mut expired = Form::new("k");
    expired.expiration = "2020-01-01T00:00:00Z";
    let mut without_key = Form::new("k");
    without_key.fields.clear();
    let mut wrong_secret = Form::new("k");
    wrong_secret.secret = "wrong".into();
    let mut nobody = Form::new("k");
    nobody.uid = "nobody";
    let cases = [
        (expired, denied()),
        (condition(json!(["starts-with", "$key", "own/"])), denied()),
        (condition(json!(["eq", "$key", "other"])), denied()),
        (condition(json!({"bucket": "others"})), denied()),
        (condition(json!({"acl": "private"})), denied()),
        (
            condition(json!(["content-length-range", 8, 100])),
            error(400, "EntityTooSmall"),
        ),
        (
            condition(json!(["content-length-range", 0, 6])),
            error(400, "EntityTooLarge"),
        ),
        (
            condition(json!(["like", "$key", "k"])),
            error(400, "InvalidPolicyDocument"),
        ),
        (
            Form::new("k").with("x-amz-server-side-encryption", "AES256"),
            error(501, "NotImplemented"),
        ),
        (without_key, error(400, "InvalidArgument")),
        (wrong_secret, error(403, "SignatureDoesNotMatch")),
        (nobody, error(403, "InvalidAccessKeyId")),
    ];
    for (at, (form, wanted)) in cases.into_iter().enumerate() {
        let response = form.send(&lab).await;
        assert_eq!(refused(&response), wanted, "case {at}: {response:?}");
    }
    assert_eq!(lab.files(), 0);
    // A field that the policy does not name.
    let mut fields = Form::new("k").signed();
    fields.push(("x-amz-meta-more".into(), "x".into()));
    assert_eq!(
        refused(&send_form(&lab, &fields, "a", b"x").await),
        denied()
    );
    fields.last_mut().unwrap().0 = "x-ignore-more".into();
    assert_eq!(send_form(&lab, &fields, "a", b"x").await.status(), 204);
    // Another key with the same signature.
    let mut fields = condition(json!({"key": "k"})).signed();
    fields[0].1 = "other".into();
    assert_eq!(
        refused(&send_form(&lab, &fields, "a", b"x").await),
        denied()
    );
    let unsigned = [("key".to_owned(), "k".to_owned())];
    assert_eq!(
        refused(&send_form(&lab, &unsigned, "a", b"x").await),
        denied()
    );
    assert_eq!(lab.files(), 1);
}

#[tokio::test]
async fn forms_of_strangers_and_of_suspended_accounts_are_refused() {
    let lab = Lab::start();
    lab.user_with("alice", "alices").await;
    lab.user_with("bob", "bobs").await;
    let mut form = Form::new("k");
    (form.uid, form.secret) = ("bob", keys("bob").1);
    assert_eq!(refused(&form.send(&lab).await), error(403, "AccessDenied"));
    lab.admin("PATCH", "users/alice", json!({"suspended": true}))
        .await;
    let response = Form::new("k").send(&lab).await;
    assert_eq!(refused(&response), error(403, "UserSuspended"));
}

#[tokio::test]
async fn forms_count_against_the_quota_and_as_traffic() {
    let lab = Lab::start();
    lab.user_with("alice", "alices").await;
    lab.quota("alice", json!(1000)).await;
    let form = |key: &str, size_bytes: usize| Form::new(key).file("a", pattern(size_bytes));
    let exceeded = error(403, "QuotaExceeded");
    assert_eq!(refused(&form("k", 200_000).send(&lab).await), exceeded);
    assert_eq!(form("k", 900).send(&lab).await.status(), 204);
    assert_eq!(refused(&form("l", 200).send(&lab).await), exceeded);
    assert_eq!(lab.bucket_figures("alices").await["stored_bytes"], 900);
    assert_eq!(lab.files(), 1);
    let day = "usage?from=2026-11-22T00:00:00Z&to=2026-11-23T00:00:00Z";
    let (_, usage) = lab.admin("GET", day, Value::Null).await;
    let entry = &usage["entries"][0];
    assert_eq!(entry["requests_by_class"]["put"], 3, "{entry}");
    assert!(entry["bytes_received"].as_u64() > Some(201_100), "{entry}");
}

#[tokio::test]
async fn a_policy_signed_the_older_way_is_accepted() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let policy = "eyJleHBpcmF0aW9uIjogIjIwOTktMDEtMDFUMDA6MDA6MDBaIiwgImNvbmRpdGlvbnMiOiBbeyJidWNrZXQiOiAiYWxpY2VzIn0sIHsia2V5IjogInYyIn1dfQ==";
    let fields = |signature: &str| {
        [
            ("key", "v2"),
            ("AWSAccessKeyId", "AKalice"),
            ("policy", policy),
            ("signature", signature),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let done = send_form(&lab, &fields("ApUdz8hLYuUMFtkXIJUTVsZOzFE="), "a", b"x").await;
    assert_eq!(done.status(), 204, "{done:?}");
    assert_eq!(read(&alice, "alices", "v2").await, b"x");
    let response = send_form(&lab, &fields("AAAA"), "a", b"x").await;
    assert_eq!(refused(&response), error(403, "SignatureDoesNotMatch"));
}
