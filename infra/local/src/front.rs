//! The local runner over HTTP: the product's API, and `/_local/…` to move time and run jobs.

mod clock;
mod doors;

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::LengthLimitError;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::doors::{Doors, Limits, Peer};
use crate::ahead;
use crate::engine::Engine;
use crate::error::Error;
use crate::gateway::{REQUEST_MAX_BYTES, refusal};
use crate::guard;

/// What is the runner's own, and no part of the product.
const LOCAL: &str = "/_local/";

/// What requests are answered with.
#[derive(Clone)]
pub(crate) struct Front {
    engine: Arc<Engine>,
    limits: Arc<Limits>,
    listening: SocketAddr,
    /// How long a request's body may take to come.
    body_timeout: Duration,
}

impl Front {
    /// For a process that may open this many files.
    pub(crate) fn new(
        engine: Arc<Engine>,
        listening: SocketAddr,
        files: u64,
        body_timeout: Duration,
    ) -> Front {
        Front {
            engine,
            limits: Arc::new(Limits::new(files)),
            listening,
            body_timeout,
        }
    }

    /// Requests that are worked on.
    pub(crate) fn under_way(&self) -> usize {
        self.limits.under_way()
    }

    /// Serves until `stop`: then nobody is let in any more, and this ends with the last request under way.
    pub(crate) async fn serve(self, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let doors = Doors::new(listeners, &self.limits);
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(self)
            .into_make_service_with_connect_info::<Peer>();
        let served = axum::serve(doors, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the API stopped");
        }
    }
}

async fn answer(
    State(front): State<Front>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
) -> Response<Body> {
    let Front {
        engine,
        limits,
        listening,
        body_timeout,
    } = front;
    let (parts, body) = request.into_parts();
    if parts.uri.path().starts_with(LOCAL)
        && let Err((status, text)) = guard::check(&parts, peer, listening)
    {
        return problem(status, text);
    }
    let body = to_bytes(body, REQUEST_MAX_BYTES);
    let body = match tokio::time::timeout(body_timeout, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if is_too_large(&error) => {
            return respond(refusal(StatusCode::PAYLOAD_TOO_LARGE));
        }
        // It ended before its length.
        Ok(Err(_)) => return respond(refusal(StatusCode::BAD_REQUEST)),
        Err(_) => {
            let mut response = respond(refusal(StatusCode::REQUEST_TIMEOUT));
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            return response;
        }
    };
    let request = http::Request::from_parts(parts, body);
    // On a task of its own: a caller who hangs up does not stop a function, on Lambda as here.
    let places = Arc::clone(&limits);
    let answered = tokio::spawn(async move {
        let _turn = limits.turn().await;
        match request.uri().path().strip_prefix(LOCAL) {
            Some(path) => local(&engine, &request, path).await,
            None => respond(engine.gateway.answer(request, peer.ip()).await),
        }
    });
    let mut response = answered
        .await
        .unwrap_or_else(|_| respond(refusal(StatusCode::INTERNAL_SERVER_ERROR)));
    if places.are_scarce() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn respond(response: Response<lambda_http::Body>) -> Response<Body> {
    response.map(|body| match body {
        lambda_http::Body::Text(text) => Body::from(text),
        lambda_http::Body::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    })
}

async fn local(engine: &Arc<Engine>, request: &http::Request<Bytes>, path: &str) -> Response<Body> {
    let done = match (request.method(), path, path.strip_prefix("run/")) {
        (&Method::GET, "clock", _) => Ok(json_response(
            StatusCode::OK,
            &ahead::describe(&engine.clock),
        )),
        (&Method::POST, "clock", _) => {
            clock::post(engine, request.headers(), request.body(), clock::PACE).await
        }
        (&Method::POST, _, Some(job)) => run(engine, job)
            .await
            .map(|value| json_response(StatusCode::OK, &value)),
        (_, "clock", _) => return problem(StatusCode::METHOD_NOT_ALLOWED, "GET or POST only"),
        (_, _, Some(_)) => return problem(StatusCode::METHOD_NOT_ALLOWED, "POST only"),
        _ => {
            let known = "there are GET and POST /_local/clock, and POST /_local/run/{job}";
            return problem(StatusCode::NOT_FOUND, known);
        }
    };
    done.unwrap_or_else(|refusal| {
        let (status, value) = refusal_response(&refusal);
        json_response(status, &value)
    })
}

/// Why `/_local/…` does not do what it is asked.
enum Refusal {
    Request(String),
    Error(Error),
    Crashed,
    /// Somebody else moves time already.
    Moving,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

/// How a caller is told why.
fn refusal_response(refusal: &Refusal) -> (StatusCode, Value) {
    let (status, text) = match refusal {
        Refusal::Request(text) => (StatusCode::BAD_REQUEST, text.clone()),
        Refusal::Moving => (
            StatusCode::CONFLICT,
            "time is being moved already: ask again when that has ended".into(),
        ),
        Refusal::Crashed => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal Server Error".into(),
        ),
        Refusal::Error(error) => {
            let status = match error {
                Error::Past { .. } | Error::TooFar { .. } => StatusCode::BAD_REQUEST,
                Error::UnknownJob { .. } => StatusCode::NOT_FOUND,
                Error::RealClusters { .. } => StatusCode::CONFLICT,
                Error::Stopping { .. } => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, error.to_string())
        }
    };
    (status, json!({ "message": text }))
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
