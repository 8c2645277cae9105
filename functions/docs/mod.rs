//! `GET /openapi.json` and `GET /docs`: the contract, for programs and for people. Neither needs a token.

mod page;
pub mod rows;

use std::sync::LazyLock;

use lambda_http::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use lambda_http::http::{HeaderValue, Method};
use lambda_http::{Body, Request, RequestExt as _, Response};
use serde_json::Value;
use wharfage::error::Rejection;
use wharfage::http::refuse;

/// Its Lambda function.
pub const FUNCTION: wharfage::runtime::Function = wharfage::runtime::Function {
    name: "docs",
    entry: wharfage::runtime::Entry::Http(|_, request| {
        Box::pin(wharfage::telemetry::invoked("docs", async move {
            answer(&request)
        }))
    }),
};

/// As a test sees to it that it is what the actions say.
static CONTRACT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap_or_default()
});
static JSON: LazyLock<String> = LazyLock::new(|| CONTRACT.to_string());
static PAGE: LazyLock<String> = LazyLock::new(|| page::html(&CONTRACT));

fn answer(request: &Request) -> Response<Body> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return refuse(request, "docs", Rejection::method_not_allowed("GET, HEAD"));
    }
    let mut response = match request.raw_http_path() {
        "/docs" => {
            let mut response = with_type("text/html; charset=utf-8", &PAGE);
            let headers = response.headers_mut();
            headers.insert(CONTENT_SECURITY_POLICY, page::policy());
            response
        }
        _ => with_type("application/json", &JSON),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn with_type(kind: &'static str, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::Text(body.to_owned()));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
