//! A request as API Gateway hands it to a function: payload format 2.0.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, HeaderMap, USER_AGENT};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use url::Url;

use crate::template::ACCOUNT_ID;

/// The bytes that count towards the limit on a request's head.
pub(super) fn head_bytes(request: &Request<Bytes>) -> usize {
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    request.method().as_str().len() + target + headers
}

/// Whether a request names a host, if it names one, in a form that there is: a function makes an address of it.
pub(super) fn names_a_host(request: &Request<Bytes>) -> bool {
    let Some(host) = request.headers().get(HOST) else {
        return true;
    };
    let address = host.to_str().map(|host| format!("https://{host}/"));
    address.is_ok_and(|address| Url::parse(&address).is_ok_and(|url| url.path() == "/"))
}

/// The event.
pub(super) fn payload(
    request: &Request<Bytes>,
    route_key: &str,
    source_ip: IpAddr,
    request_id: &str,
    now: Timestamp,
) -> Value {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let mut headers = headers(request.headers(), source_ip, request.body().len());
    headers.entry("host".into()).or_insert_with(|| {
        let authority = request.uri().authority();
        authority
            .map_or("localhost", |authority| authority.as_str())
            .to_owned()
    });
    let host = headers.get("host").cloned().unwrap_or_default();
    let user_agent = request
        .headers()
        .get(USER_AGENT)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": "local",
            "domainName": host.split(':').next().unwrap_or_default(),
            "domainPrefix": host.split(['.', ':']).next().unwrap_or_default(),
            "http": {
                "method": request.method().as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version()),
                "sourceIp": source_ip.to_string(),
                "userAgent": user_agent,
            },
            "requestId": request_id,
            "routeKey": route_key,
            "stage": "$default",
            "time": now.to_zoned(TimeZone::UTC).strftime("%d/%b/%Y:%H:%M:%S %z").to_string(),
            "timeEpoch": now.as_millisecond(),
        },
        "isBase64Encoded": false,
    });
    if let Value::Object(event) = &mut event {
        add_query(event, query);
        add_cookies(event, request.headers());
        add_body(event, request);
    }
    event
}

/// Names in lower case, several values joined by commas, cookies apart, and what the proxies on the way add.
fn headers(given: &HeaderMap, source_ip: IpAddr, body_bytes: usize) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in given {
        if name == COOKIE {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    headers
        .entry("x-forwarded-for".into())
        .and_modify(|hops| hops.push_str(&format!(", {source_ip}")))
        .or_insert_with(|| source_ip.to_string());
    headers.insert("x-forwarded-proto".into(), "http".into());
    headers
        .entry("content-length".into())
        .or_insert_with(|| body_bytes.to_string());
    headers
}

fn add_query(event: &mut Map<String, Value>, query: &str) {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name.into_owned())
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    if !parameters.is_empty() {
        event.insert("queryStringParameters".into(), json!(parameters));
    }
}

fn add_cookies(event: &mut Map<String, Value>, headers: &HeaderMap) {
    let cookies: Vec<String> = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .split("; ")
                .map(str::to_owned)
                .collect::<Vec<String>>()
        })
        .collect();
    if !cookies.is_empty() {
        event.insert("cookies".into(), json!(cookies));
    }
}

/// Forms come base64-encoded, as from API Gateway: only text, JSON, XML and JavaScript do not.
fn add_body(event: &mut Map<String, Value>, request: &Request<Bytes>) {
    let body = request.body();
    if body.is_empty() {
        return;
    }
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|_| is_text(request.headers()));
    match text {
        Some(text) => event.insert("body".into(), json!(text)),
        None => {
            event.insert("isBase64Encoded".into(), json!(true));
            event.insert("body".into(), json!(STANDARD.encode(body)))
        }
    };
}

fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(CONTENT_ENCODING) {
        return false;
    }
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || [
            "application/json",
            "application/xml",
            "application/javascript",
        ]
        .contains(&kind)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lambda_http::{Body, RequestExt};

    use super::*;

    fn event(request: http::request::Builder, body: &'static [u8]) -> Value {
        let request = request.body(Bytes::from_static(body)).expect("request");
        payload(
            &request,
            "ANY /s3.php",
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            "the-id",
            "2026-03-12T19:03:58Z".parse().expect("timestamp"),
        )
    }

    #[test]
    fn the_event_is_payload_2_0() {
        let request = Request::post("/s3.php?a=1&a=2&b=%20x")
            .header("Host", "api.example.com:8780")
            .header("Cookie", "one=1; two=2")
            .header("X-Many", "1")
            .header("X-Many", "2")
            .header("User-Agent", "test")
            .header("Content-Type", "application/json; charset=utf-8");
        let event = event(request, b"{}");
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["rawQueryString"], "a=1&a=2&b=%20x");
        assert_eq!(
            event["queryStringParameters"],
            json!({"a": "1,2", "b": " x"})
        );
        assert_eq!(event["cookies"], json!(["one=1", "two=2"]));
        assert_eq!(event["headers"]["x-many"], "1,2");
        assert_eq!(event["headers"].get("cookie"), None);
        assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
        assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");
        assert_eq!(event["requestContext"]["http"]["protocol"], "HTTP/1.1");
        assert_eq!(event["requestContext"]["http"]["userAgent"], "test");
        assert_eq!(
            event["requestContext"]["time"],
            "12/Mar/2026:19:03:58 +0000"
        );
        assert_eq!(event["body"], "{}");
        assert_eq!(event["isBase64Encoded"], false);
    }

    #[test]
    fn lambda_http_reads_it() {
        let request = Request::post("/s3.php?a=%26&b[]=1&b[]=2")
            .header("Host", "127.0.0.1:8780")
            .header("Content-Type", "application/x-www-form-urlencoded");
        let event = event(request, b"action=x&k[]=1");
        assert_eq!(event["isBase64Encoded"], true);
        let request = lambda_http::request::from_str(&event.to_string()).expect("request");
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().path(), "/s3.php");
        assert_eq!(request.uri().query(), Some("a=%26&b[]=1&b[]=2"));
        assert_eq!(request.body(), &Body::Binary(b"action=x&k[]=1".to_vec()));
        assert_eq!(request.query_string_parameters().first("a"), Some("&"));
        let lambda_http::request::RequestContext::ApiGatewayV2(context) = request.request_context()
        else {
            panic!("another context");
        };
        assert_eq!(context.request_id.as_deref(), Some("the-id"));
        assert_eq!(context.http.source_ip.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn a_request_without_a_body_has_none() {
        let event = event(Request::get("/s3/history"), b"");
        assert_eq!(event.get("body"), None);
        let request = lambda_http::request::from_str(&event.to_string()).expect("request");
        assert_eq!(request.uri().path(), "/s3/history");
    }
}
