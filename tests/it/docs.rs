//! `GET /openapi.json` and `GET /docs`.

use http::{Method, Request};
use lambda_http::{Body, Response};
use serde_json::Value;
use tests::TestApp;

async fn get(app: &TestApp, method: Method, path: &str) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::Empty)
        .expect("a request");
    app.stack.invoke_http(request).await
}

fn text(response: &Response<Body>) -> &str {
    std::str::from_utf8(response.body()).expect("a text")
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().expect("a text"))
}

#[tokio::test]
async fn the_contract_is_served_to_everybody_as_the_documents_have_it() {
    let app = TestApp::start_idle(&[]).await;
    let response = get(&app, Method::GET, "/openapi.json").await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/json");
    let served: Value = serde_json::from_str(text(&response)).expect("JSON");
    let kept: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON");
    assert!(served == kept);
    for path in ["/openapi.json", "/docs"] {
        let response = get(&app, Method::POST, path).await;
        assert_eq!(response.status(), 405);
        assert_eq!(header(&response, "allow"), "GET, HEAD");
        assert_eq!(header(&response, "wharfage-reason"), "method_not_allowed");
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
}

#[tokio::test]
async fn the_page_has_every_action_and_every_reason_and_asks_nothing_of_others() {
    let app = TestApp::start_idle(&[]).await;
    let response = get(&app, Method::GET, "/docs").await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        header(&response, "content-type"),
        "text/html; charset=utf-8"
    );
    let policy = header(&response, "content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    let page = text(&response);
    for action in functions::ACTIONS {
        let place = format!("<h2 id=\"{}\">", action.name);
        assert_eq!(page.matches(&place).count(), 1, "{place}");
    }
    for place in [
        "authlogin",
        "authinfo",
        "authlogout",
        "eqcallbackcheck",
        "token_expired",
    ] {
        assert!(page.contains(&format!("id=\"{place}\"")), "{place}");
    }
    // Every place that is named is there.
    for link in page.split("href=\"#").skip(1) {
        let place = link.split('"').next().expect("it ends");
        assert!(page.contains(&format!("id=\"{place}\"")), "{place}");
    }
    for outside in ["<script", "src=", "http://", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}
