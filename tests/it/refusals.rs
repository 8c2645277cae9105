//! Why a call is refused, for programs: a header, and a problem document for whoever asks for one.

use http::{Method, Request};
use lambda_http::{Body, Response};
use serde_json::{Value, json};
use tests::TestApp;
use tests::answers::Received;
use wharfage::error::Reason;

const PROBLEM: &str = "application/problem+json";

async fn send(app: &TestApp, accept: &[&str], parameters: &Value) -> Response<Body> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/s3/create_bucket")
        .header("content-type", "application/json");
    for accept in accept {
        request = request.header("accept", *accept);
    }
    let request = request.body(parameters.to_string().into());
    app.stack.invoke_http(request.expect("a request")).await
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    let value = response.headers().get(name)?;
    Some(value.to_str().expect("a text"))
}

fn body(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).expect("JSON")
}

#[tokio::test]
async fn a_refusal_is_a_problem_document_for_whoever_accepts_one_by_name() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    app.order("client2", "taken-bucket").await;
    let taken = json!({
        "token": app.token("client"), "s3uid": account.s3uid, "bucket_name": "taken-bucket",
    });
    let message = "s3/create_bucket: bucket name is already taken";
    for accept in [
        &[PROBLEM][..],
        &["application/json, application/problem+json;q=0.5"],
        &["Application/Problem+JSON; charset=utf-8"],
        &["text/html", "application/problem+json"],
    ] {
        let response = send(&app, accept, &taken).await;
        assert_eq!(response.status(), 409);
        assert_eq!(
            header(&response, "content-type"),
            Some(PROBLEM),
            "{accept:?}"
        );
        assert_eq!(
            header(&response, "wharfage-reason"),
            Some("bucket_name_taken")
        );
        assert_eq!(
            body(&response),
            json!({
                "type": "/docs#bucket_name_taken",
                "title": "The name of the bucket is taken",
                "status": 409,
                "detail": message,
                "reason": "bucket_name_taken",
            })
        );
        let received = Received {
            path: "/s3/create_bucket",
            method: &Method::POST,
            status: 409,
            reason: Some("bucket_name_taken"),
            kind: PROBLEM,
            body: &body(&response),
        };
        assert_eq!(received.is_as_the_contract_says(), Ok(()));
    }
    for accept in [
        &[][..],
        &["*/*"],
        &["application/*"],
        &["application/json"],
        &["application/problem+xml"],
        &["application/problem+json;q=0"],
        &["application/problem+json;q=0.000"],
        &["nonsense;;"],
    ] {
        let response = send(&app, accept, &taken).await;
        assert_eq!(
            header(&response, "content-type"),
            Some("application/json"),
            "{accept:?}"
        );
        assert_eq!(
            header(&response, "wharfage-reason"),
            Some("bucket_name_taken")
        );
        assert_eq!(body(&response), json!({ "code": -1, "message": message }));
    }
}

#[tokio::test]
async fn a_problem_document_names_the_parameter_unless_it_may_be_a_secret() {
    let app = TestApp::start_idle(&[]).await;
    let account = app.order("client", "my-bucket").await;
    let good = json!({
        "token": app.token("client"), "s3uid": account.s3uid, "bucket_name": "another-bucket",
    });
    let with = |name: &str, value: Value| {
        let mut parameters = good.clone();
        parameters[name] = value;
        parameters
    };
    for (parameters, reason, parameter) in [
        (
            with("bucket_name", json!("")),
            "parameter_missing",
            json!("bucket_name"),
        ),
        (
            with("bucket_name", json!("_")),
            "parameter_invalid",
            json!("bucket_name"),
        ),
        (
            with("colour", json!("red")),
            "parameter_unknown",
            json!("colour"),
        ),
        (
            with(app.token("client"), json!(1)),
            "parameter_unknown",
            Value::Null,
        ),
    ] {
        let problem = body(&send(&app, &[PROBLEM], &parameters).await);
        assert_eq!(
            (&problem["reason"], &problem["parameter"]),
            (&json!(reason), &parameter)
        );
        assert_eq!(problem["status"], 400);
        assert!(!problem.to_string().contains(app.token("client")));
    }
}

#[test]
fn every_reason_is_one_that_some_call_may_be_refused_for() {
    use strum::VariantArray as _;
    let document = functions::contract::document(&functions::contract::Examples::new());
    let responses =
        document["paths"].to_string() + &document["components"]["responses"].to_string();
    for reason in Reason::VARIANTS {
        // The answer of an address that is none.
        let is_said =
            *reason == Reason::PathUnknown || responses.contains(&format!("\"{}\"", reason.name()));
        assert!(is_said, "{reason:?}");
        assert!((400..600).contains(&reason.status()));
    }
}
