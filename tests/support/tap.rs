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
    /// The answers that are lost.
    loss: Option<Loss>,
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

/// Which answers of clusters to changes are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The first, counted from 0 over all changes that clusters are asked for.
    pub from: usize,
    /// How many, from that one on.
    pub count: usize,
    /// Whether the cluster has done it by then, or does it when it is told to: see [`Tap::losing`].
    pub is_late: bool,
}

#[derive(Default)]
struct State {
    /// Changes that clusters were asked for.
    changes: usize,
    /// Those that they have yet to make.
    late: Vec<HttpRequest>,
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

    /// Runs `work` and loses these answers on the way: whoever asked is told that the connection broke. Its result, whether there was
    /// anything to lose, and the changes that are still to be made.
    pub async fn losing<T>(
        &self,
        loss: Loss,
        work: impl Future<Output = T>,
    ) -> (T, bool, Vec<HttpRequest>) {
        let scope = Arc::new(Scope {
            loss: Some(loss),
            ..Scope::default()
        });
        let result = SCOPE.scope(Arc::clone(&scope), work).await;
        let mut state = scope.lock();
        let late = std::mem::take(&mut state.late);
        (result, state.changes > loss.from, late)
    }

    /// Makes changes that clusters were asked for a while ago, whatever they answer now.
    pub async fn make_late(&self, changes: Vec<HttpRequest>) {
        for change in changes {
            self.inner.call(change).await.expect("the cluster answers");
        }
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
            let loss = scope.loss_of(&name);
            if loss.is_some_and(|loss| loss.is_late) {
                scope.lock().late.push(request);
                return Err(ConnectorError::io("the test cut this connection".into()));
            }
            let result = permitted(told, inner.call(request).await);
            if loss.is_some() {
                return Err(ConnectorError::io("the test lost this answer".into()));
            }
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
    /// Whether the answer to this call is lost.
    fn loss_of(&self, name: &str) -> Option<Loss> {
        let loss = self.loss?;
        let is_change = name.starts_with("cluster ")
            && !name.starts_with("cluster GET")
            && !name.starts_with("cluster POST stats")
            && !name.starts_with("cluster POST usage");
        if !is_change {
            return None;
        }
        let mut state = self.lock();
        let number = state.changes;
        state.changes += 1;
        let is_lost = number >= loss.from && number - loss.from < loss.count;
        is_lost.then_some(loss)
    }

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
