//! Answers and errors as responses.

use ::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Fault, Rejection};

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

/// A failure as a response: `{"code": -1, "message": …}`. A fault shows nothing but the request id, under which its log line is found.
pub(super) fn failure(
    module: &str,
    speaks_as: Option<&str>,
    error: &Error,
    request_id: &str,
) -> Response<Body> {
    let rejection = match error {
        Error::Rejection(rejection) => rejection.clone(),
        Error::Fault(fault) => {
            tracing::error!(request_id, module, action = speaks_as, error = %fault, "a request failed");
            let text = format!("internal error, request {request_id}");
            if fault.retryable {
                Rejection::unavailable(text, RETRY_AFTER_FAULT_SECONDS)
            } else {
                Rejection {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    ..Rejection::bad_request(text)
                }
            }
        }
    };
    let message = match speaks_as {
        _ if rejection.bare => rejection.text,
        Some(action) => format!("{module}/{action}: {}", rejection.text),
        None => format!("{module}: {}", rejection.text),
    };
    let mut response = respond(rejection.status, &json!({ "code": -1, "message": message }));
    if let Some(seconds) = rejection.retry_after_seconds {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(reason) = rejection.reason {
        response
            .headers_mut()
            .insert(REASON, HeaderValue::from_static(reason.into()));
    }
    if let Some(methods) = rejection.allow {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
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
