//! The local runner over HTTP: the product's API, and `/_local/…` to move time and run jobs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use jiff::{Span, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::engine::{Advanced, Engine};
use crate::error::Error;
use crate::gateway::{REQUEST_MAX_BYTES, refusal};
use crate::guard;

/// Serves until it is aborted.
pub(crate) async fn serve(listener: TcpListener, engine: Arc<Engine>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let router = axum::Router::new()
        .fallback(answer)
        .with_state(engine)
        .layer(axum::middleware::from_fn_with_state(port, guard::check))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.tap_io(|stream| {
        // Small answers would otherwise wait for the acknowledgement of the previous ones.
        let _ = stream.set_nodelay(true);
    });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the API stopped");
    }
}

async fn answer(
    State(engine): State<Arc<Engine>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_MAX_BYTES).await else {
        return respond(refusal(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let request = http::Request::from_parts(parts, body);
    // On a task of its own: a caller who hangs up does not stop a function, on Lambda as here.
    let answered = tokio::spawn(async move {
        match request.uri().path().strip_prefix("/_local/") {
            Some(path) => local(&engine, request.method(), path, request.body()).await,
            None => respond(engine.gateway.answer(request, peer.ip()).await),
        }
    });
    answered
        .await
        .unwrap_or_else(|_| respond(refusal(StatusCode::INTERNAL_SERVER_ERROR)))
}

fn respond(response: Response<lambda_http::Body>) -> Response<Body> {
    response.map(|body| match body {
        lambda_http::Body::Text(text) => Body::from(text),
        lambda_http::Body::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    })
}

async fn local(engine: &Engine, method: &Method, path: &str, body: &Bytes) -> Response<Body> {
    if method != Method::POST {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "POST only");
    }
    let done = match path.strip_prefix("run/") {
        Some(job) => run(engine, job).await,
        None if path == "clock" => move_clock(engine, body).await,
        None => {
            let known = "there are POST /_local/clock and POST /_local/run/{job}";
            return problem(StatusCode::NOT_FOUND, known);
        }
    };
    match done {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(Refusal::Request(text)) => problem(StatusCode::BAD_REQUEST, &text),
        Err(Refusal::Error(error)) => {
            let status = match error {
                Error::Past { .. } | Error::TooFar { .. } => StatusCode::BAD_REQUEST,
                Error::UnknownJob { .. } => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            problem(status, &error.to_string())
        }
    }
}

/// Why `/_local/…` does not do what it is asked.
enum Refusal {
    Request(String),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    advance: Option<String>,
    to: Option<String>,
}

async fn move_clock(engine: &Engine, body: &Bytes) -> Result<Value, Refusal> {
    let usage = |problem: &str| {
        Refusal::Request(format!(
            r#"{problem}: send {{"advance":"PT1H"}} or {{"to":"2026-02-01T00:00:00Z"}}"#
        ))
    };
    let wanted: Move = serde_json::from_slice(body).map_err(|error| usage(&error.to_string()))?;
    let advanced = match (wanted.advance, wanted.to) {
        (Some(span), None) => {
            let span: Span = span
                .parse()
                .map_err(|_| usage(&format!("{span:?} is not an ISO 8601 duration")))?;
            engine.advance(span).await?
        }
        (None, Some(to)) => {
            let to: Timestamp = to
                .parse()
                .map_err(|_| usage(&format!("{to:?} is not an instant")))?;
            engine.advance_to(to).await?
        }
        _ => return Err(usage("expected either advance or to")),
    };
    Ok(describe(&advanced))
}

/// How often each job ran, and which runs failed: a jump of a month has thousands.
fn describe(advanced: &Advanced) -> Value {
    let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &advanced.ran {
        *ran.entry(run.job).or_default() += 1;
    }
    let failed = advanced.ran.iter().filter_map(|run| {
        let error = run.result.as_ref().err()?;
        Some(json!({"at": run.at, "job": run.job, "error": error}))
    });
    json!({
        "now": advanced.now,
        "ran": ran,
        "failed": failed.collect::<Vec<Value>>(),
        "messages": {"handled": advanced.drained.handled, "failed": advanced.drained.failed},
    })
}

async fn run(engine: &Engine, job: &str) -> Result<Value, Refusal> {
    let result = engine.run_job(job).await?;
    Ok(json!({"at": wharfage::clock::Clock::now(&*engine.clock), "job": job, "result": result}))
}

fn problem(status: StatusCode, text: &str) -> Response<Body> {
    json_response(status, &json!({ "message": text }))
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
