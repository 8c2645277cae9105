//! A tap on the product's connector: it notes every call to AWS and the clusters, and can let the process "die" at one.
//!
//! Calls are noted only within [`Tap::scope`], on the task that runs it: a worker in the background does not disturb the count.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::Notify;

use crate::permissions::{self, Permission};

tokio::task_local! {
    static SCOPE: Arc<Scope>;
}

/// When the process dies: before a call is sent, or after it was answered and before anybody learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call is never sent.
    Before,
    /// The call takes effect; its answer is lost.
    After,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// For example `DynamoDB GetItem`, `SQS SendMessage`, `KMS Decrypt`, `cluster PUT /users`, `S3 GET`.
    pub name: String,
    /// How many calls, this one included, had to come one after the other until its end.
    pub depth: usize,
    /// The trace that the messages it sends belong to.
    pub trace: Option<String>,
}

/// What happens within one [`Tap::scope`].
#[derive(Default)]
struct Scope {
    state: Mutex<State>,
    /// Where to die.
    crash: Option<(usize, Moment)>,
    /// A call to fail rather than to die at.
    unreachable: Option<fn(&str) -> bool>,
    died: Notify,
    goes_on: Notify,
}

/// A process that stands still, and may be thought dead.
pub struct Stalled<'a, T> {
    work: Pin<Box<dyn Future<Output = T> + 'a>>,
    scope: Arc<Scope>,
}

impl<T> Stalled<'_, T> {
    /// It was not: it goes on where it stood.
    pub async fn go_on(self) -> T {
        self.scope.goes_on.notify_one();
        self.work.await
    }
}

#[derive(Default)]
struct State {
    started: usize,
    /// The longest chain among the calls that have ended.
    ended_depth: usize,
    calls: Vec<Noted>,
}

/// The tap.
#[derive(Clone)]
pub struct Tap {
    inner: SharedHttpConnector,
}

impl Tap {
    /// A tap on a connector to loopback.
    #[allow(
        clippy::new_without_default,
        reason = "it opens connections: that is to be seen"
    )]
    pub fn new() -> Tap {
        Tap {
            inner: wharfage::connectors::loopback_connector(),
        }
    }

    /// The connector for the product.
    pub fn connector(&self) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }

    /// Runs `work` and notes its calls.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Noted>) {
        let scope = Arc::new(Scope::default());
        let result = SCOPE.scope(Arc::clone(&scope), work).await;
        let calls = scope.lock().calls.clone();
        (result, calls)
    }

    /// Runs `work` until the `index`-th call (from 0) begins or ends, and no further, as if the process had died there. `None` when it
    /// died, its result when it made fewer calls.
    pub async fn crash_at<T>(
        &self,
        index: usize,
        moment: Moment,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let scope = Arc::new(Scope {
            crash: Some((index, moment)),
            ..Scope::default()
        });
        tokio::select! {
            biased;
            () = scope.died.notified() => None,
            result = SCOPE.scope(Arc::clone(&scope), work) => Some(result),
        }
    }

    /// Runs `work` until the `index`-th call begins or ends, and there leaves it standing. Its result when it made fewer calls.
    ///
    /// # Errors
    /// The stalled work, which can go on.
    pub async fn stall_at<'a, T>(
        &self,
        index: usize,
        moment: Moment,
        work: impl Future<Output = T> + 'a,
    ) -> Result<T, Stalled<'a, T>> {
        let scope = Arc::new(Scope {
            crash: Some((index, moment)),
            ..Scope::default()
        });
        let mut work: Pin<Box<dyn Future<Output = T> + 'a>> =
            Box::pin(SCOPE.scope(Arc::clone(&scope), work));
        tokio::select! {
            biased;
            () = scope.died.notified() => {}
            result = &mut work => return Ok(result),
        }
        Err(Stalled { work, scope })
    }

    /// Runs `work` while the calls that `is_unreachable` picks by name cannot be made.
    pub async fn without<T>(
        &self,
        is_unreachable: fn(&str) -> bool,
        work: impl Future<Output = T>,
    ) -> T {
        let scope = Arc::new(Scope {
            unreachable: Some(is_unreachable),
            ..Scope::default()
        });
        SCOPE.scope(scope, work).await
    }
}

impl Scope {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl HttpConnector for Tap {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let needed = permissions::needed(&request);
        let told = needed.clone();
        if let Err(problem) = permissions::check(needed) {
            eprintln!("{problem}");
            return HttpConnectorFuture::ready(Err(ConnectorError::user(problem.into())));
        }
        let inner = self.inner.clone();
        let Ok(scope) = SCOPE.try_with(Arc::clone) else {
            return HttpConnectorFuture::new(
                async move { permitted(told, inner.call(request).await) },
            );
        };
        let name = name(&request);
        let trace = trace(&request);
        HttpConnectorFuture::new(async move {
            let (index, depth) = {
                let mut state = scope.lock();
                let index = state.started;
                state.started += 1;
                (index, state.ended_depth + 1)
            };
            if scope
                .unreachable
                .is_some_and(|is_unreachable| is_unreachable(&name))
            {
                return Err(ConnectorError::io("the test cut this connection".into()));
            }
            if scope.crash == Some((index, Moment::Before)) {
                scope.die().await;
            }
            let result = permitted(told, inner.call(request).await);
            if scope.crash == Some((index, Moment::After)) {
                scope.die().await;
            }
            let mut state = scope.lock();
            state.ended_depth = state.ended_depth.max(depth);
            state.calls.push(Noted { name, depth, trace });
            result
        })
    }
}

impl Scope {
    /// Stands still, for good unless somebody has it go on.
    async fn die(&self) {
        self.died.notify_one();
        self.goes_on.notified().await;
    }
}

/// The answer, if the function may see it.
fn permitted(
    needed: Vec<Permission>,
    answer: Result<HttpResponse, ConnectorError>,
) -> Result<HttpResponse, ConnectorError> {
    if let Ok(response) = &answer {
        let besides = permissions::needed_to_be_told(&needed, response.status().as_u16());
        permissions::check(besides).map_err(|problem| ConnectorError::user(problem.into()))?;
    }
    answer
}

fn trace(request: &HttpRequest) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(request.body().bytes()?).ok()?;
    let message = body["Entries"].get(0).unwrap_or(&body);
    let header = &message["MessageSystemAttributes"]["AWSTraceHeader"];
    header["StringValue"].as_str().map(str::to_owned)
}

/// The service and the operation, from what every SDK puts into its requests.
pub fn name(request: &HttpRequest) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        let operation = target.rsplit('.').next().unwrap_or_default();
        let service = match target {
            _ if target.starts_with("DynamoDB_") => "DynamoDB",
            _ if target.starts_with("AmazonSQS") => "SQS",
            _ if target.starts_with("TrentService") => "KMS",
            _ if target.starts_with("secretsmanager") => "SecretsManager",
            _ => "AWS",
        };
        return format!("{service} {operation}");
    }
    let path = http::Uri::try_from(request.uri())
        .map(|uri| uri.path().to_owned())
        .unwrap_or_default();
    if let Some(resource) = path.strip_prefix("/admin/") {
        return format!("cluster {} {resource}", request.method());
    }
    match path.strip_prefix("/_admin/v1/") {
        // What is being administered, without anybody's name.
        Some(path) => {
            let nouns: Vec<&str> = path.split('/').step_by(2).collect();
            format!("cluster {} {}", request.method(), nouns.join("/"))
        }
        None => format!("S3 {}", request.method()),
    }
}
