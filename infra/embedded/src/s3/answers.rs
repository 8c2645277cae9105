//! What every answer of S3 has, whoever wrote it: a request's id, an error's words, and XML that carries
//! every character of a key.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use s3s::{Body, HttpResponse, S3ErrorCode};

use super::fault::words;
use crate::random::random_id;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// Completes an answer to a request for `resource`; `element` is one more element of an error.
pub(crate) fn finish(
    response: &mut HttpResponse,
    resource: &str,
    element: Option<(&'static str, String)>,
) {
    let request_id = random_id()[..16].to_ascii_uppercase();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let is_xml = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/xml"));
    // A download is a stream, and goes out as it is.
    let Some(body) = response.body().bytes().filter(|_| is_xml) else {
        return;
    };
    let Ok(mut text) = String::from_utf8(body.to_vec()) else {
        return;
    };
    if response.status() >= StatusCode::BAD_REQUEST {
        complete_error(&mut text, response.status(), resource, &request_id, element);
    }
    let text = referenced(text);
    if response.headers().contains_key(CONTENT_LENGTH)
        && let Ok(length) = HeaderValue::from_str(&text.len().to_string())
    {
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    *response.body_mut() = Body::from(Bytes::from(text));
}

fn complete_error(
    text: &mut String,
    status: StatusCode,
    resource: &str,
    request_id: &str,
    element: Option<(&'static str, String)>,
) {
    let Some(end) = text.rfind("</Error>") else {
        return;
    };
    let mut more = String::new();
    if let Some((name, content)) = element {
        more.push_str(&format!("<{name}>{}</{name}>", escaped(&content)));
    }
    if !text.contains("<Resource>") {
        more.push_str(&format!("<Resource>{}</Resource>", escaped(resource)));
    }
    if !text.contains("<RequestId>") {
        more.push_str(&format!("<RequestId>{request_id}</RequestId>"));
    }
    text.insert_str(end, &more);
    if !text.contains("<Message>")
        && let Some((_, rest)) = text.split_once("<Code>")
        && let Some((code, _)) = rest.split_once("</Code>")
    {
        let message = code
            .parse::<S3ErrorCode>()
            .ok()
            .and_then(|code| words(&code))
            .or_else(|| status.canonical_reason())
            .unwrap_or("The request was refused.");
        let message = format!("</Code><Message>{}</Message>", escaped(message));
        *text = text.replacen("</Code>", &message, 1);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Characters of keys that XML has no place for become references, which the SDKs understand; so does what
/// a parser would read as another: a carriage return is a line feed to it.
fn referenced(text: String) -> String {
    let needs_reference =
        |char: char| matches!(char, '\0'..='\x08' | '\x0b'..='\x1f' | '\u{fffe}' | '\u{ffff}');
    if !text.contains(needs_reference) {
        return text;
    }
    let mut referenced = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if needs_reference(char) {
            referenced.push_str(&format!("&#x{:X};", u32::from(char)));
        } else {
            referenced.push(char);
        }
    }
    referenced
}
