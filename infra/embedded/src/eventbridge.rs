//! A small EventBridge: it takes events and hands each to whoever started it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::door::{self, Credentials, Door};
use crate::random::random_id;
use crate::server::{self, Server};

/// What the real service takes at most, in one request.
const REQUEST_MAX_BYTES: usize = 256 * 1024;
const ENTRIES_MAX: usize = 10;

/// An event as it was put.
#[derive(Debug, Clone, PartialEq)]
pub struct PutEvent {
    /// The bus it was put on.
    pub bus: String,
    /// Who put it.
    pub source: String,
    /// Its kind.
    pub detail_type: String,
    /// What it says.
    pub detail: Value,
    /// When it happened, as seconds since the Unix epoch, if it says so.
    pub time_epoch: Option<f64>,
}

/// Told of every event, in order.
pub type Sink = Arc<dyn Fn(PutEvent) + Send + Sync>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    event_bus_name: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    detail_type: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    time: Option<f64>,
}

/// Starts EventBridge on `listen`, for who signs with `credentials`.
///
/// # Errors
/// When the address cannot be bound.
pub fn start(listen: SocketAddr, credentials: &Credentials, sink: Sink) -> io::Result<Server> {
    let (listener, address) = server::bind(listen)?;
    let door = Door::new("events", REQUEST_MAX_BYTES, credentials);
    let serving = door::serve(listener, door, move |request| {
        std::future::ready(answer(&request, &sink))
    });
    Ok(Server::spawn(address, serving))
}

fn answer(request: &Request<Bytes>, sink: &Sink) -> Response<Full<Bytes>> {
    let target = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    if target != Some("AWSEvents.PutEvents") {
        return refuse("UnknownOperationException", "only PutEvents is known here");
    }
    let put: PutEvents = match serde_json::from_slice(request.body()) {
        Ok(put) => put,
        Err(error) => return refuse("SerializationException", &error.to_string()),
    };
    if put.entries.is_empty() || put.entries.len() > ENTRIES_MAX {
        return refuse("ValidationException", "a request takes 1 to 10 entries");
    }
    let mut failed = 0;
    let entries: Vec<Value> = put.entries.into_iter().map(|entry| {
        let detail: Value = match serde_json::from_str(&entry.detail) {
            Ok(detail @ Value::Object(_)) if !entry.source.is_empty() && !entry.detail_type.is_empty() => detail,
            _ => {
                failed += 1;
                return json!({ "ErrorCode": "MalformedDetail", "ErrorMessage": "source, detail-type and a JSON object are needed" });
            }
        };
        sink(PutEvent {
            bus: entry.event_bus_name,
            source: entry.source,
            detail_type: entry.detail_type,
            detail,
            time_epoch: entry.time,
        });
        json!({ "EventId": random_id() })
    }).collect();
    respond(
        StatusCode::OK,
        &json!({ "FailedEntryCount": failed, "Entries": entries }),
    )
}

fn refuse(code: &str, message: &str) -> Response<Full<Bytes>> {
    respond(
        StatusCode::BAD_REQUEST,
        &json!({ "__type": code, "message": message }),
    )
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    response
}
