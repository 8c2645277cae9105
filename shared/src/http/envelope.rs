//! Answers and errors as responses.

use std::str::FromStr;

use ::http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER, VARY};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use headers_accept::Accept;
use lambda_http::{Body, Response};
use mediatype::{MediaType, Name, ReadParams, names};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Fault, Reason, Rejection};

/// Seconds after which to repeat a request that met a passing fault of ours.
const RETRY_AFTER_FAULT_SECONDS: u32 = 5;

/// The header with a refusal's reason.
pub const REASON: &str = "wharfage-reason";

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Contents,
}

#[derive(Debug)]
enum Contents {
    /// Fields that follow `result` and `action`.
    Fields(Map<String, Value>),
    /// The whole body.
    Whole(Value),
}

impl Answer {
    /// 200, with `result`, `action` and these fields.
    #[must_use]
    pub fn ok(fields: Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            body: Contents::Fields(fields_of(fields)),
        }
    }

    /// 202: the answer is to be asked of eq_callback.
    #[must_use]
    pub fn later(callback_key: &str) -> Answer {
        Answer {
            status: StatusCode::ACCEPTED,
            body: Contents::Fields(fields_of(json!({ "callback": callback_key }))),
        }
    }

    /// 200, with exactly this body.
    #[must_use]
    pub fn whole(body: Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            body: Contents::Whole(body),
        }
    }

    /// As a response.
    #[must_use]
    pub fn into_response(self, action: &str) -> Response<Body> {
        let body = match self.body {
            Contents::Whole(body) => body,
            Contents::Fields(fields) => with_head(action, fields),
        };
        respond(self.status, &body)
    }
}

/// What an action answers: at once, or later by `eq_callback.php`.
#[derive(Debug)]
pub enum Outcome<A> {
    /// These fields.
    Now(A),
    /// Ask by this callback key.
    Later(String),
}

impl<A> From<A> for Outcome<A> {
    fn from(answered: A) -> Outcome<A> {
        Outcome::Now(answered)
    }
}

impl<A: Serialize> Outcome<A> {
    /// As an answer.
    ///
    /// # Errors
    /// When a field cannot be written as JSON.
    pub fn answer(self) -> Result<Answer, Error> {
        match self {
            Outcome::Now(answered) => match serde_json::to_value(answered) {
                Ok(fields) => Ok(Answer::ok(fields)),
                Err(error) => Err(Fault::permanent("writing an answer", error).into()),
            },
            Outcome::Later(callback_key) => Ok(Answer::later(&callback_key)),
        }
    }
}

fn fields_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// An action's fields behind `result` and `action`, as its caller sees them.
#[must_use]
pub fn with_head(action: &str, fields: Map<String, Value>) -> Value {
    let mut body = Map::new();
    body.insert("result".into(), "OK".into());
    body.insert("action".into(), action.into());
    body.extend(fields);
    Value::Object(body)
}

/// The media type of a problem document, RFC 9457.
const PROBLEM: MediaType<'_> = MediaType::from_parts(
    names::APPLICATION,
    Name::new_unchecked("problem"),
    Some(names::JSON),
    &[],
);

/// Whether a caller asks for failures as problem documents: by name, for `*/*` is what everybody sends.
fn asks_for_problems(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    accepted
        .filter_map(|header| header.to_str().ok())
        .any(|header| {
            Accept::from_str(header).is_ok_and(|accept| {
                accept.media_types().any(|media_type| {
                    let quality = media_type.get_param(names::Q);
                    let is_unwanted = quality.is_some_and(|q| q.as_str().parse() == Ok(0.0));
                    media_type.essence() == PROBLEM && !is_unwanted
                })
            })
        })
}

/// A failure as a response: `{"code": -1, "message": …}`, or a problem document where the caller asks for those. A fault shows nothing but
/// the request id, under which its log line is found.
pub(super) fn failure(
    module: &str,
    speaks_as: Option<&str>,
    error: &Error,
    request_id: &str,
    asked_by: &HeaderMap,
) -> Response<Body> {
    let rejection = match error {
        Error::Rejection(rejection) => rejection.clone(),
        Error::Fault(fault) => {
            tracing::error!(request_id, module, action = speaks_as, error = %fault, "a request failed");
            let text = format!("internal error, request {request_id}");
            if fault.retryable {
                Rejection::new(Reason::TemporarilyUnavailable, text)
                    .retry_after(RETRY_AFTER_FAULT_SECONDS)
            } else {
                Rejection::new(Reason::InternalError, text)
            }
        }
    };
    let message = match speaks_as {
        _ if rejection.bare => rejection.text.clone(),
        Some(action) => format!("{module}/{action}: {}", rejection.text),
        None => format!("{module}: {}", rejection.text),
    };
    let mut response = if asks_for_problems(asked_by) {
        let mut response = respond(rejection.status(), &problem(&rejection, &message));
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    } else {
        let body = json!({ "code": -1, "message": message });
        respond(rejection.status(), &body)
    };
    let headers = response.headers_mut();
    // What lies between here and the caller must not give one kind for the other.
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(REASON, HeaderValue::from_static(rejection.reason.name()));
    if let Some(seconds) = rejection.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = rejection.allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// A refusal as a problem document. Its type leads to what is said of the reason in the documents that are served.
fn problem(rejection: &Rejection, message: &str) -> Value {
    let mut problem = json!({
        "type": format!("/docs#{}", rejection.reason.name()),
        "title": rejection.reason.title(),
        "status": rejection.status().as_u16(),
        "detail": message,
        "reason": rejection.reason,
    });
    if let Some(parameter) = &rejection.parameter {
        problem["parameter"] = parameter.as_str().into();
    }
    problem
}

fn respond(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Text(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Answers carry keys: no cache between here and the caller may keep them.
    response
        .headers_mut()
        .insert("cache-control", HeaderValue::from_static("no-store"));
    response
}
