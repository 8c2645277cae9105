//! What an invocation emits besides its answer: a span around its log lines, metrics for CloudWatch, and its trace.
//!
//! Metrics are counted where they occur and emitted once, at the end of the invocation, on Lambda only: one line in CloudWatch's embedded
//! metric format. None is a rate or a share, so they can be summed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use strum::{Display, EnumString};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::domain::account::S3Uid;
use crate::domain::client::ClientId;
use crate::error::Fault;

/// The CloudWatch namespace. Stacks are told apart by the dimension `Stack`.
pub const NAMESPACE: &str = "Wharfage";

tokio::task_local! {
    static INVOCATION: Arc<Invocation>;
    /// Of the message being worked on, if it came with one. Several of a batch are worked on at once, so it cannot stand in the invocation.
    static MESSAGE_TRACE: Option<String>;
}

/// Something counted in the course of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display, EnumString)]
pub enum Figure {
    /// Calls to AWS and the clusters, each try for itself.
    Calls,
    /// Requests refused: the caller's doing.
    Rejections,
    /// Faults of ours that another try may not meet.
    RetryableFaults,
    /// Faults of ours that stay until somebody mends something.
    PermanentFaults,
    /// What a cluster could not answer, after all tries: told to a caller, or left for later.
    ClusterUnavailable,
    /// Invoices that were told of on the event bus. One may be told of twice.
    InvoicesIssued,
    /// Hours since the last one of which all usage is collected, of the location where they are most.
    MeteringLagHours,
    /// Hours that should have been collected before the latest and are not, over all locations.
    MissedHours,
    /// Balances that are not what their postings add up to.
    LedgerDifferences,
}

impl Figure {
    /// Whether it is wanted for every action by itself. CloudWatch charges for each combination, so most are not.
    fn is_per_action(self) -> bool {
        self == Figure::Calls
    }
}

/// One run of a function.
#[derive(Debug)]
pub struct Invocation {
    function: &'static str,
    span: Span,
    /// As Lambda gave it, in the form of the header `X-Amzn-Trace-Id`.
    trace: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The action, where a function has several.
    action: &'static str,
    figures: BTreeMap<Figure, u64>,
}

impl Invocation {
    /// Begins one, with Lambda's id of it, as a part of the trace that this header names. A request has an id of its own, see
    /// [`set_request`].
    #[must_use]
    pub fn begin(
        function: &'static str,
        request_id: Option<&str>,
        trace: Option<String>,
    ) -> Arc<Invocation> {
        // At the level of errors, so that it is there whatever is logged.
        let span = tracing::error_span!(
            "invocation",
            function,
            request_id,
            trace_id = trace.as_deref().map(root_of),
            client_id = Empty,
            s3uid = Empty,
            location = Empty,
            hour = Empty,
            shard = Empty,
        );
        Arc::new(Invocation {
            function,
            span,
            trace,
            state: Mutex::new(State {
                action: function,
                figures: BTreeMap::new(),
            }),
        })
    }

    /// Does its work.
    pub async fn run<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        INVOCATION
            .scope(Arc::clone(self), work.instrument(self.span.clone()))
            .await
    }

    /// What it counted, as a document in CloudWatch's embedded metric format. Its members: Amazon CloudWatch user guide,
    /// "Specification: Embedded metric format".
    #[must_use]
    pub fn document(&self, stack: &str, ended_at: Timestamp, took: Duration) -> Value {
        let metric = |figure: &Figure| json!({ "Name": figure.to_string(), "Unit": "Count" });
        let state = self.lock();
        let (per_action, per_stack): (Vec<&Figure>, Vec<&Figure>) = state
            .figures
            .keys()
            .partition(|figure| figure.is_per_action());
        let mut of_action: Vec<Value> = vec![json!({ "Name": "Latency", "Unit": "Milliseconds" })];
        of_action.extend(per_action.into_iter().map(metric));
        let mut directives = vec![json!({
            "Namespace": NAMESPACE,
            "Dimensions": [["Stack", "Action"]],
            "Metrics": of_action,
        })];
        // A directive without metrics is none.
        if !per_stack.is_empty() {
            let of_stack: Vec<Value> = per_stack.into_iter().map(metric).collect();
            directives.push(json!({
                "Namespace": NAMESPACE,
                "Dimensions": [["Stack"]],
                "Metrics": of_stack,
            }));
        }
        let mut document = Map::new();
        document.insert(
            "_aws".into(),
            json!({ "Timestamp": ended_at.as_millisecond(), "CloudWatchMetrics": directives }),
        );
        document.insert("Stack".into(), stack.into());
        document.insert("Action".into(), state.action.into());
        document.insert("Function".into(), self.function.into());
        if let Some(trace) = &self.trace {
            document.insert("TraceId".into(), root_of(trace).into());
        }
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        document.insert("Latency".into(), milliseconds.into());
        for (figure, count) in &state.figures {
            document.insert(figure.to_string(), (*count).into());
        }
        Value::Object(document)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trace id alone: `1-5759e988-bd862e3fe1be46a994272793` of `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=…;Sampled=1`.
fn root_of(trace: &str) -> &str {
    trace
        .split(';')
        .find_map(|part| part.trim().strip_prefix("Root="))
        .unwrap_or(trace)
}

/// Does a function's work as an invocation of it. On Lambda one has begun, and this is it.
pub async fn invoked<T>(function: &'static str, work: impl Future<Output = T>) -> T {
    if INVOCATION.try_with(|_| ()).is_ok() {
        return work.await;
    }
    Invocation::begin(function, None, None).run(work).await
}

fn with<T>(look: impl FnOnce(&Invocation) -> T) -> Option<T> {
    INVOCATION.try_with(|invocation| look(invocation)).ok()
}

/// The function that is running, if one is.
#[must_use]
pub fn function() -> Option<&'static str> {
    with(|invocation| invocation.function)
}

/// Adds to a figure. A zero is worth telling: it says that somebody looked.
pub fn add(figure: Figure, count: u64) {
    with(|invocation| *invocation.lock().figures.entry(figure).or_default() += count);
}

/// Raises a figure to at least this.
pub fn raise(figure: Figure, to: u64) {
    with(|invocation| {
        let mut state = invocation.lock();
        let value = state.figures.entry(figure).or_default();
        *value = to.max(*value);
    });
}

/// Counts a fault by its kind.
pub fn add_fault(fault: &Fault) {
    let figure = if fault.retryable {
        Figure::RetryableFaults
    } else {
        Figure::PermanentFaults
    };
    add(figure, 1);
}

/// The action that a function with several was asked for.
pub fn set_action(action: &'static str) {
    with(|invocation| invocation.lock().action = action);
}

/// Has the log lines that follow carry the id of the request they belong to.
pub fn set_request(request_id: &str) {
    Span::current().record("request_id", request_id);
}

/// Has the log lines that follow carry whom they are about.
pub fn set_client(client_id: ClientId) {
    Span::current().record("client_id", client_id.0);
}

/// Has the log lines that follow carry which account they are about.
pub fn set_account(s3uid: &S3Uid) {
    Span::current().record("s3uid", s3uid.as_str());
}

/// Has the log lines that follow carry which hour of which accounts is collected.
pub fn set_shard(location: &str, hour: Timestamp, shard: u64) {
    let span = Span::current();
    span.record("location", location);
    span.record("hour", tracing::field::display(hour));
    span.record("shard", shard);
}

/// Works on a queue message, which belongs to the trace of whoever sent it.
pub async fn on_message<T>(
    message_id: &str,
    trace: Option<&str>,
    work: impl Future<Output = T>,
) -> T {
    let span = tracing::error_span!(
        "message",
        message_id,
        trace_id = trace.map(root_of),
        client_id = Empty,
        s3uid = Empty,
        location = Empty,
        hour = Empty,
        shard = Empty,
    );
    MESSAGE_TRACE
        .scope(trace.map(str::to_owned), work.instrument(span))
        .await
}

/// The trace that messages sent now belong to, as in the header `X-Amzn-Trace-Id`.
#[must_use]
pub fn trace() -> Option<String> {
    MESSAGE_TRACE
        .try_with(Clone::clone)
        .ok()
        .flatten()
        .or_else(|| with(|invocation| invocation.trace.clone()).flatten())
}

/// A connector whose calls are counted.
#[derive(Debug)]
struct Counted(SharedHttpConnector);

/// The same connector, its calls counted.
pub(crate) fn counted(connector: SharedHttpConnector) -> SharedHttpConnector {
    SharedHttpConnector::new(Counted(connector))
}

impl HttpConnector for Counted {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        add(Figure::Calls, 1);
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str =
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    fn at() -> Timestamp {
        Timestamp::from_second(1_760_000_000).expect("a time")
    }

    /// What the specification asks of a document.
    #[track_caller]
    fn is_well_formed(document: &Value) {
        let aws = &document["_aws"];
        assert!(aws["Timestamp"].is_u64(), "milliseconds since 1970");
        let directives = aws["CloudWatchMetrics"].as_array().expect("directives");
        assert!(!directives.is_empty());
        for directive in directives {
            let namespace = directive["Namespace"].as_str().expect("a namespace");
            assert!((1..=1024).contains(&namespace.len()));
            let sets = directive["Dimensions"].as_array().expect("dimension sets");
            assert!(!sets.is_empty());
            for set in sets {
                let set = set.as_array().expect("a dimension set");
                assert!((1..=30).contains(&set.len()));
                for key in set {
                    let key = key.as_str().expect("a key");
                    let target = document[key].as_str().expect("a text at the root");
                    assert!((1..=1024).contains(&target.len()), "{key}");
                }
            }
            let metrics = directive["Metrics"].as_array().expect("metrics");
            assert!((1..=100).contains(&metrics.len()));
            for metric in metrics {
                let name = metric["Name"].as_str().expect("a name");
                assert!(
                    document[name].is_number(),
                    "{name} has no value at the root"
                );
                assert!(
                    ["Count", "Milliseconds"].contains(&metric["Unit"].as_str().expect("a unit"))
                );
            }
        }
    }

    #[tokio::test]
    async fn a_document_has_every_member_that_the_specification_requires() {
        let invocation = Invocation::begin("s3_php", None, Some(TRACE.into()));
        let quiet = invocation.document("prod", at(), Duration::from_millis(3));
        is_well_formed(&quiet);
        assert_eq!(
            quiet["_aws"]["CloudWatchMetrics"][0]["Metrics"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        assert_eq!(
            quiet["_aws"]["CloudWatchMetrics"].as_array().map(Vec::len),
            Some(1)
        );

        invocation
            .run(async {
                set_action("create_order");
                add(Figure::Calls, 1);
                add(Figure::Calls, 1);
                add(Figure::MissedHours, 0);
                raise(Figure::MeteringLagHours, 4);
                raise(Figure::MeteringLagHours, 2);
                add_fault(&Fault::permanent("reading", "no"));
            })
            .await;
        let document = invocation.document("prod", at(), Duration::from_micros(1_999));
        is_well_formed(&document);
        assert_eq!(
            document,
            json!({
                "_aws": {
                    "Timestamp": 1_760_000_000_000_u64,
                    "CloudWatchMetrics": [
                        {
                            "Namespace": "Wharfage",
                            "Dimensions": [["Stack", "Action"]],
                            "Metrics": [
                                { "Name": "Latency", "Unit": "Milliseconds" },
                                { "Name": "Calls", "Unit": "Count" },
                            ],
                        },
                        {
                            "Namespace": "Wharfage",
                            "Dimensions": [["Stack"]],
                            "Metrics": [
                                { "Name": "PermanentFaults", "Unit": "Count" },
                                { "Name": "MeteringLagHours", "Unit": "Count" },
                                { "Name": "MissedHours", "Unit": "Count" },
                            ],
                        },
                    ],
                },
                "Stack": "prod",
                "Action": "create_order",
                "Function": "s3_php",
                "TraceId": "1-5759e988-bd862e3fe1be46a994272793",
                "Latency": 1,
                "Calls": 2,
                "PermanentFaults": 1,
                "MeteringLagHours": 4,
                "MissedHours": 0,
            })
        );
    }

    #[tokio::test]
    async fn an_invocation_begins_once_and_nothing_is_counted_outside() {
        add(Figure::Calls, 1);
        assert_eq!((function(), trace()), (None, None));
        let outer = Invocation::begin("create_order", None, Some(TRACE.into()));
        outer
            .run(async {
                let inner = invoked("create_order", async { trace() }).await;
                assert_eq!(inner.as_deref(), Some(TRACE));
            })
            .await;
        assert_eq!(
            invoked("billing", async { function() }).await,
            Some("billing")
        );
    }

    #[tokio::test]
    async fn messages_of_a_batch_each_carry_the_trace_of_their_sender_on() {
        let invocation = Invocation::begin("billing", None, Some("Root=1-own".into()));
        // Each looks when all of them have begun.
        let all = tokio::sync::Barrier::new(3);
        let look = async || {
            all.wait().await;
            trace()
        };
        let work = async {
            tokio::join!(
                on_message("one", Some(TRACE), look()),
                on_message("two", Some("Root=1-other"), look()),
                on_message("three", None, look()),
            )
        };
        let traces = invocation.run(work).await;
        let expected = [TRACE, "Root=1-other", "Root=1-own"].map(|trace| Some(trace.to_owned()));
        assert_eq!(<[_; 3]>::from(traces), expected);
        let document = invocation.document("prod", at(), Duration::ZERO);
        assert_eq!(document["TraceId"], "1-own");
    }
}
