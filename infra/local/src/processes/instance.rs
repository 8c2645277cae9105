//! One process of a function, and the Runtime API that it is served.
//!
//! The protocol is the documented one, version 2018-06-01: the process asks for its next event and waits; it posts the
//! response or an error under the event's request id; before its first question it can post an error of its start.
//! https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use wharfage::random::Random;

use super::lock;
use crate::invoke::Crash;
use crate::template::{ACCOUNT_ID, REGION};

/// How long a process may take until it asks for its first event. Lambda would start it once more after that.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a response may have at most, base64 and JSON counted: Lambda's 6 MB are a hundred bytes more than that.
const RESPONSE_MAX_BYTES: usize = 6 * 1024 * 1024 + 100;

/// An event on its way to a process.
struct Invocation {
    request_id: String,
    /// As in the header `X-Amzn-Trace-Id`.
    trace: String,
    event: Bytes,
    deadline_ms: u128,
    answer: oneshot::Sender<Result<Bytes, Crash>>,
}

impl Invocation {
    /// An event that has to be answered within `timeout` from now, and where the answer will come.
    fn new(
        request_id: &str,
        trace: &str,
        event: Bytes,
        timeout: Duration,
    ) -> (Invocation, oneshot::Receiver<Result<Bytes, Crash>>) {
        let (answer, answered) = oneshot::channel();
        let invocation = Invocation {
            request_id: request_id.to_owned(),
            trace: trace.to_owned(),
            event,
            deadline_ms: (since_epoch() + timeout).as_millis(),
            answer,
        };
        (invocation, answered)
    }
}

/// An event that the process has.
struct Handed {
    request_id: String,
    answer: oneshot::Sender<Result<Bytes, Crash>>,
}

struct Api {
    function: &'static str,
    events: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    handed: Mutex<Option<Handed>>,
    /// Fulfilled by the first question for an event, or by the report that the start failed.
    ready: Mutex<Option<oneshot::Sender<Result<(), Crash>>>>,
}

/// A running process that waits for its next event.
pub(super) struct Instance {
    child: Child,
    events: mpsc::Sender<Invocation>,
    server: AbortHandle,
    ready: Option<oneshot::Receiver<Result<(), Crash>>>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What a process posts as an error.
#[derive(Deserialize)]
struct Report {
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(rename = "errorMessage", default)]
    error_message: String,
}

impl Instance {
    /// Starts a process; it need not be ready yet.
    pub(super) async fn start(
        function: &'static str,
        binary: &Path,
        memory_mb: u64,
        environment: &BTreeMap<String, String>,
        logs: &Path,
    ) -> std::io::Result<Instance> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        std::fs::create_dir_all(logs)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_file(logs, function))?;
        let child = Command::new(binary)
            .env_clear()
            .envs(environment)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", function)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb.to_string())
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "local")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", function)
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_DEFAULT_REGION", REGION)
            .env("_HANDLER", function)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal is for the runner: what is under way here is ended first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (events, receiver) = mpsc::channel(1);
        let (ready_sender, ready) = oneshot::channel();
        let api = Arc::new(Api {
            function,
            events: tokio::sync::Mutex::new(receiver),
            handed: Mutex::default(),
            ready: Mutex::new(Some(ready_sender)),
        });
        let router = router(api);
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Instance {
            child,
            events,
            server: server.abort_handle(),
            ready: Some(ready),
        })
    }

    /// The process id; 0 once it has ended.
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Itself, as long as the process runs.
    pub(super) fn if_alive(mut self) -> Option<Instance> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// Hands the process an event and waits for its answer. After anything but an answer or a reported error, the instance is of
    /// no more use.
    pub(super) async fn invoke(
        &mut self,
        event: Bytes,
        request_id: &str,
        trace: &str,
        timeout: Duration,
    ) -> Result<Bytes, Crash> {
        self.be_ready(INIT_TIMEOUT).await?;
        let (invocation, answered) = Invocation::new(request_id, trace, event, timeout);
        if self.events.send(invocation).await.is_err() {
            return Err(Crash::Stopped);
        }
        tokio::select! {
            // What it posted counts, also if it ended right after.
            biased;
            answered = answered => answered.unwrap_or(Err(Crash::Stopped)),
            status = self.child.wait() => Err(exited(status)),
            () = tokio::time::sleep(timeout) => {
                let _ = self.child.kill().await;
                Err(Crash::TimedOut(timeout))
            }
        }
    }

    /// Waits for the end of a cold start. Its time is not counted towards the function's.
    async fn be_ready(&mut self, timeout: Duration) -> Result<(), Crash> {
        let Some(ready) = self.ready.take() else {
            return Ok(());
        };
        tokio::select! {
            // An error that it posted says more than that it ended.
            biased;
            ready = ready => ready.unwrap_or(Err(Crash::Stopped)),
            status = self.child.wait() => Err(exited(status)),
            () = tokio::time::sleep(timeout) => {
                let _ = self.child.kill().await;
                Err(Crash::Init(format!("not ready after {} s", timeout.as_secs_f64())))
            }
        }
    }
}

/// Where a function's processes print to.
pub(super) fn log_file(logs: &Path, function: &str) -> PathBuf {
    logs.join(format!("{function}.log"))
}

fn exited(status: std::io::Result<std::process::ExitStatus>) -> Crash {
    Crash::Exited(match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "a process compares its deadline with the machine's own clock"
)]
fn since_epoch() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The trace of an invocation, as Lambda begins one that is not sampled. Messages that start an invocation have another, of whoever sent
/// them.
pub(crate) fn new_trace(random: &Random) -> String {
    let (root, parent) = (random.token(), random.token());
    let seconds = since_epoch().as_secs();
    format!(
        "Root=1-{seconds:08x}-{};Parent={};Sampled=0",
        &root[..24],
        &parent[..16]
    )
}

/// The Runtime API of one process.
fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route(
            "/2018-06-01/runtime/invocation/{request_id}/response",
            post(response).layer(DefaultBodyLimit::max(RESPONSE_MAX_BYTES)),
        )
        .route(
            "/2018-06-01/runtime/invocation/{request_id}/error",
            post(error),
        )
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .with_state(api)
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    if let Some(ready) = lock(&api.ready).take() {
        let _ = ready.send(Ok(()));
    }
    let Some(invocation) = api.events.lock().await.recv().await else {
        return status(StatusCode::GONE);
    };
    let arn = format!(
        "arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{}",
        api.function
    );
    let response = Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .header("lambda-runtime-aws-request-id", &invocation.request_id)
        .header("lambda-runtime-trace-id", &invocation.trace)
        .header(
            "lambda-runtime-deadline-ms",
            invocation.deadline_ms.to_string(),
        )
        .header("lambda-runtime-invoked-function-arn", arn)
        .body(invocation.event.into());
    *lock(&api.handed) = Some(Handed {
        request_id: invocation.request_id,
        answer: invocation.answer,
    });
    response.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
}

async fn response(
    State(api): State<Arc<Api>>,
    UrlPath(request_id): UrlPath<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match body {
        Ok(body) => finish(&api, &request_id, Ok(body)),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let large =
                format!("Function.ResponseSizeTooLarge: more than {RESPONSE_MAX_BYTES} bytes");
            finish(&api, &request_id, Err(Crash::Failed(large)));
            status(StatusCode::PAYLOAD_TOO_LARGE)
        }
        // It ended while it was posting; that is told by its end.
        Err(rejection) => status(rejection.status()),
    }
}

async fn error(
    State(api): State<Arc<Api>>,
    UrlPath(request_id): UrlPath<String>,
    body: Bytes,
) -> Response {
    finish(&api, &request_id, Err(Crash::Failed(reported(&body))))
}

async fn init_error(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    if let Some(ready) = lock(&api.ready).take() {
        let _ = ready.send(Err(Crash::Init(reported(&body))));
    }
    accepted()
}

fn reported(body: &[u8]) -> String {
    match serde_json::from_slice::<Report>(body) {
        Ok(report) => format!("{}: {}", report.error_type, report.error_message),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// Gives the answer to whoever invoked; one under another request id is refused, as Lambda does.
fn finish(api: &Api, request_id: &str, answer: Result<Bytes, Crash>) -> Response {
    let mut handed = lock(&api.handed);
    match handed.take() {
        Some(now) if now.request_id == request_id => {
            let _ = now.answer.send(answer);
            accepted()
        }
        other => {
            *handed = other;
            status(StatusCode::BAD_REQUEST)
        }
    }
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "status": "OK" }))).into_response()
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
