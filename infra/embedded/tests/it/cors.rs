//! Pages of other origins (CORS).

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_bucket_cors::PutBucketCorsError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{CorsConfiguration, CorsRule};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};

use crate::support::{Lab, error, put, refusal, send};

fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> CorsRule {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    CorsRule::builder()
        .set_allowed_origins(Some(owned(origins)))
        .set_allowed_methods(Some(owned(methods)))
        .set_allowed_headers((!headers.is_empty()).then(|| owned(headers)))
        .build()
        .unwrap()
}

async fn set(client: &Client, rules: Vec<CorsRule>) -> Result<(), SdkError<PutBucketCorsError>> {
    let configuration = CorsConfiguration::builder()
        .set_cors_rules(Some(rules))
        .build()
        .unwrap();
    client
        .put_bucket_cors()
        .bucket("alices")
        .cors_configuration(configuration)
        .send()
        .await
        .map(drop)
}

async fn refused_get(client: &Client) -> (u16, String) {
    refusal(client.get_bucket_cors().bucket("alices").send().await)
}

/// A browser's question: may a page of `origin` do `method` with these headers?
async fn ask(lab: &Lab, path: &str, origin: &str, method: &str, headers: &str) -> Response<Bytes> {
    let mut request = Request::options(path)
        .header("host", "x")
        .header("origin", origin)
        .header("access-control-request-method", method);
    if !headers.is_empty() {
        request = request.header("access-control-request-headers", headers);
    }
    let request = request.body(Full::default()).unwrap();
    send(lab.cluster().endpoint(), request).await
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

#[tokio::test]
async fn rules_are_kept_until_they_are_deleted() {
    let mut lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let missing = error(404, "NoSuchCORSConfiguration");
    assert_eq!(refused_get(&alice).await, missing);
    let full = CorsRule::builder()
        .id("one")
        .allowed_origins("https://*.example.com")
        .allowed_methods("GET")
        .allowed_headers("x-amz-*")
        .expose_headers("ETag")
        .max_age_seconds(600)
        .build()
        .unwrap();
    let rules = vec![full, rule(&["*"], &["HEAD"], &[])];
    set(&alice, rules.clone()).await.unwrap();
    lab.restart();
    let alice = lab.client_of("alice");
    let kept = alice.get_bucket_cors().bucket("alices");
    assert_eq!(kept.send().await.unwrap().cors_rules(), rules);
    let bob = lab.user("bob").await;
    assert_eq!(refused_get(&bob).await, error(403, "AccessDenied"));
    let delete = alice.delete_bucket_cors().bucket("alices");
    delete.send().await.unwrap();
    assert_eq!(refused_get(&alice).await, missing);
    // A bucket made anew knows nothing of the one before.
    set(&alice, rules).await.unwrap();
    let delete = alice.delete_bucket().bucket("alices");
    delete.send().await.unwrap();
    bob.create_bucket().bucket("alices").send().await.unwrap();
    assert_eq!(refused_get(&bob).await, missing);
}

#[tokio::test]
async fn rules_that_say_nothing_or_too_much_are_refused() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let invalid = error(400, "InvalidRequest");
    for refused in [
        rule(&["*"], &["PATCH"], &[]),
        rule(&["*"], &["get"], &[]),
        rule(&["https://*.*.example.com"], &["GET"], &[]),
        rule(&["*"], &["GET"], &["x-*-*"]),
    ] {
        assert_eq!(refusal(set(&alice, vec![refused]).await), invalid);
    }
    let exposed = CorsRule::builder()
        .allowed_origins("*")
        .allowed_methods("GET")
        .expose_headers("x-*")
        .build()
        .unwrap();
    assert_eq!(refusal(set(&alice, vec![exposed]).await), invalid);
    let malformed = error(400, "MalformedXML");
    let nothing = rule(&["*"], &[], &[]);
    assert_eq!(refusal(set(&alice, vec![nothing]).await), malformed);
    assert_eq!(refusal(set(&alice, vec![]).await), malformed);
    let one = rule(&["*"], &["GET"], &[]);
    set(&alice, vec![one.clone(); 100]).await.unwrap();
    assert_eq!(refusal(set(&alice, vec![one; 101]).await), invalid);
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_first_rule_that_fits() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    let a = "https://a.example.com";
    let answer = ask(&lab, "/alices/k", a, "PUT", "").await;
    assert_eq!(answer.status(), 403);
    let told = text(&answer);
    assert!(told.contains("<Code>AccessForbidden</Code>"), "{told}");
    assert!(told.contains("CORSResponse: CORS is not enabled for this bucket."));

    let writes = CorsRule::builder()
        .allowed_origins("https://*.example.com")
        .allowed_methods("PUT")
        .allowed_methods("POST")
        .allowed_headers("Content-Type")
        .allowed_headers("x-amz-*")
        .expose_headers("ETag")
        .expose_headers("x-amz-version-id")
        .max_age_seconds(600)
        .build()
        .unwrap();
    let reads = rule(&["*"], &["GET"], &[]);
    set(&alice, vec![writes, reads]).await.unwrap();

    let asked = "content-type, X-Amz-Date";
    let answer = ask(&lab, "/alices/a%20key", a, "PUT", asked).await;
    assert_eq!(answer.status(), 200, "{}", text(&answer));
    for (name, value) in [
        ("access-control-allow-origin", a),
        ("access-control-allow-methods", "PUT, POST"),
        ("access-control-allow-headers", "content-type, x-amz-date"),
        ("access-control-expose-headers", "ETag, x-amz-version-id"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", "true"),
        (
            "vary",
            "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
        ),
    ] {
        assert_eq!(header(&answer, name), value, "{name}");
    }
    let answer = ask(&lab, "/alices", "https://elsewhere.org", "GET", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "access-control-allow-origin"), "*");
    assert_eq!(header(&answer, "access-control-allow-credentials"), "");

    for (origin, method, headers) in [
        ("https://elsewhere.org", "PUT", ""),
        ("https://example.com", "PUT", ""),
        (a, "DELETE", ""),
        (a, "PUT", "authorization"),
        (a, "GET", "x-amz-date"),
    ] {
        let answer = ask(&lab, "/alices/k", origin, method, headers).await;
        assert_eq!(answer.status(), 403, "{origin} {method} {headers}");
        assert!(text(&answer).contains("CORSResponse: This CORS request is not allowed."));
        assert_eq!(header(&answer, "access-control-allow-origin"), "");
    }
    let answer = ask(&lab, "/alices/k", a, "PATCH", "").await;
    assert_eq!(answer.status(), 400);
    let answer = ask(&lab, "/nobodys/k", a, "GET", "").await;
    assert_eq!(answer.status(), 403);
    let without_origin = Request::options("/alices/k").header("host", "x");
    let without_origin = without_origin.body(Full::default()).unwrap();
    let answer = send(lab.cluster().endpoint(), without_origin).await;
    assert_eq!(answer.status(), 400);
    assert!(text(&answer).contains("Origin request header needed"));
}

#[tokio::test]
async fn answers_to_pages_say_so_and_other_answers_do_not() {
    let lab = Lab::start();
    let alice = lab.user_with("alice", "alices").await;
    put(&alice, "alices", "k", "v").await;
    let hour = PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let signed = alice.get_object().bucket("alices").key("k");
    let signed = signed.presigned(hour).await.unwrap();
    let address = signed.uri().split_once("://").unwrap().1;
    let (host, path) = address.split_at(address.find('/').unwrap());
    let get = async |origin: &str, path: &str| {
        let mut request = Request::get(path).header("host", host);
        if !origin.is_empty() {
            request = request.header("origin", origin);
        }
        let request = request.body(Full::default()).unwrap();
        send(lab.cluster().endpoint(), request).await
    };
    let cors = |response: &Response<Bytes>| {
        let names = response.headers().keys().map(|name| name.as_str());
        names
            .filter(|name| name.starts_with("access-control-") || *name == "vary")
            .count()
    };
    let a = "https://a.example.com";
    assert_eq!(cors(&get(a, path).await), 0, "without rules");
    set(&alice, vec![rule(&[a], &["GET"], &[])]).await.unwrap();
    assert_eq!(cors(&get("", path).await), 0, "without an origin");
    let other = get("https://b.example.com", path).await;
    assert_eq!(cors(&other), 0, "without a rule for it");
    let answer = get(a, path).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(&answer.body()[..], b"v");
    assert_eq!(header(&answer, "access-control-allow-origin"), a);
    assert_eq!(header(&answer, "access-control-allow-methods"), "GET");
    assert!(header(&answer, "vary").contains("Origin"));
    // A page may read why it was refused, too.
    let answer = get(a, "/alices/k").await;
    assert_eq!(answer.status(), 403);
    assert_eq!(header(&answer, "access-control-allow-origin"), a);
}
