//! From a Lambda event to a handler and back. Handlers are function pointers, so this is compiled once for all of them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::future::{BoxFuture, join_all};
use http::Method;
use lambda_http::{Body, Request, RequestExt, Response};
use lambda_runtime::{LambdaEvent, service_fn};
use lambda_runtime_api_client::{PooledClient, build_request};
use serde_json::{Value, json};

use crate::clock::{Clock, FileClock, SystemClock};
use crate::config::{Config, ConfigError, Started};
use crate::connectors::Connectors;
use crate::context::Context;
use crate::error::Fault;
use crate::random::Random;
use crate::telemetry::{self, Invocation};

/// Answers one HTTP request. Never fails: what goes wrong becomes a response.
pub type HttpHandler = for<'a> fn(&'a Context, Request) -> BoxFuture<'a, Response<Body>>;
/// Handles one queue message, given by its body; a fault leaves it in the queue.
pub type QueueHandler = for<'a> fn(&'a Context, &'a str) -> BoxFuture<'a, Result<(), Fault>>;
/// Does what a schedule is for, once, and sums up what it did.
pub type ScheduleHandler = for<'a> fn(&'a Context) -> BoxFuture<'a, Result<Value, Fault>>;

/// A Lambda function: its name, and what starts it.
#[derive(Clone, Copy)]
pub struct Function {
    /// The name of its handler in the template.
    pub name: &'static str,
    /// What starts it.
    pub entry: Entry,
}

/// What starts a function.
#[derive(Clone, Copy)]
pub enum Entry {
    /// A route of the HTTP API.
    Http(HttpHandler),
    /// A queue.
    Queue(QueueHandler),
    /// A schedule.
    Schedule(ScheduleHandler),
}

/// How often a message is delivered before its queue sets it aside: `maxReceiveCount` of all queues in the template.
pub const DELIVERIES: u32 = 5;

/// Why a function's process ended.
type Stop = lambda_runtime::Error;

/// Runs the function that this process is asked to be, until the Lambda service ends it. It ends by itself when it is asked to be none of
/// these, when the environment is not complete or names a file of roots that cannot be used, and when there is no Runtime API to serve.
pub fn run(functions: &'static [Function]) -> ExitCode {
    match serve(functions, &Started::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("{stop}");
            ExitCode::FAILURE
        }
    }
}

/// The function that a process is asked to be.
fn choose(
    functions: &'static [Function],
    asked_for: Option<&str>,
) -> Result<&'static Function, ConfigError> {
    let found = functions
        .iter()
        .find(|function| asked_for == Some(function.name));
    found.ok_or_else(|| ConfigError::NoFunction {
        problem: match asked_for {
            Some(name) => format!("there is no function {name:?}"),
            None => "neither an argument nor _HANDLER names a function".into(),
        },
        known: functions.iter().map(|function| function.name).collect(),
    })
}

fn serve(functions: &'static [Function], started: &Started) -> Result<(), Stop> {
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let prepared = choose(functions, started.function.as_deref()).and_then(|function| {
        let config = Config::from_env()?;
        let connectors = Connectors::over_tls(config.ca_bundle.as_deref())?;
        match started.has_runtime_api {
            true => Ok((function, config, connectors)),
            false => Err(ConfigError::Missing("AWS_LAMBDA_RUNTIME_API")),
        }
    });
    let (function, config, connectors) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            if started.has_runtime_api {
                tracing::error!(%error, "cannot start");
                runtime.block_on(report(&error))?;
            }
            return Err(error.into());
        }
    };
    let stack = config.stack_name.clone();
    let clock: Arc<dyn Clock> = match &config.clock_file {
        Some(file) => Arc::new(FileClock::new(file.clone())),
        None => Arc::new(SystemClock),
    };
    runtime.block_on(async move {
        let context = Context::new(config, clock, Random::from_os(), connectors);
        let on = Lambda {
            function,
            context: &context,
            stack: &stack,
        };
        let on = &on;
        match function.entry {
            Entry::Http(handler) => {
                lambda_http::run(service_fn(move |request: Request| async move {
                    let trace = request
                        .lambda_context_ref()
                        .and_then(|lambda| lambda.xray_trace_id.clone());
                    let work = handler(on.context, request);
                    let response = on.invoke(None, trace, work).await;
                    Ok::<_, lambda_runtime::Error>(response)
                }))
                .await
            }
            Entry::Queue(handler) => {
                lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
                    let batch = handle_batch(on.context, handler, event.payload);
                    let lambda = event.context;
                    let response = on
                        .invoke(Some(&lambda.request_id), lambda.xray_trace_id, batch)
                        .await;
                    Ok::<_, lambda_runtime::Error>(response)
                }))
                .await
            }
            Entry::Schedule(handler) => {
                lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
                    let work = async {
                        let result = handler(on.context).await;
                        if let Err(fault) = &result {
                            if fault.retryable {
                                tracing::warn!(error = %fault, "a scheduled run failed; the next one takes up what it left");
                            } else {
                                tracing::error!(error = %fault, "a scheduled run failed");
                            }
                            telemetry::add_fault(fault);
                        }
                        result
                    };
                    let lambda = event.context;
                    let result = on
                        .invoke(Some(&lambda.request_id), lambda.xray_trace_id, work)
                        .await;
                    result.map_err(lambda_runtime::Error::from)
                }))
                .await
            }
        }
    })
}

/// Tells Lambda why the process cannot start. It would know only that it ended, otherwise.
async fn report(error: &ConfigError) -> Result<(), Stop> {
    const TYPE: &str = "Runtime.ConfigInvalid";
    let report = json!({ "errorType": TYPE, "errorMessage": error.to_string() });
    let request = build_request()
        .method(Method::POST)
        .uri("/2018-06-01/runtime/init/error")
        .header("lambda-runtime-function-error-type", TYPE)
        .body(report.to_string().into())?;
    PooledClient::builder().build().call(request).await?;
    Ok(())
}

/// A function on Lambda.
struct Lambda<'a> {
    function: &'static Function,
    context: &'a Context,
    stack: &'a str,
}

impl Lambda<'_> {
    /// Does an invocation's work, then writes down what it counted, where CloudWatch finds it.
    async fn invoke<T>(
        &self,
        request_id: Option<&str>,
        trace: Option<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let invocation = Invocation::begin(self.function.name, request_id, trace);
        let began = Instant::now();
        let result = invocation.run(work).await;
        let document = invocation.document(self.stack, self.context.now(), began.elapsed());
        println!("{document}");
        result
    }
}

/// Hands the messages of a batch to the handler, all at once, and names those that are to come again. One that waits for a cluster
/// keeps no other waiting.
pub async fn handle_batch(
    context: &Context,
    handler: QueueHandler,
    event: SqsEvent,
) -> SqsBatchResponse {
    let handled = event.records.into_iter().map(|message| async move {
        let id = message.message_id.unwrap_or_default();
        let trace = message.attributes.get("AWSTraceHeader").map(String::as_str);
        let body = message.body.unwrap_or_default();
        let delivery = message.attributes.get("ApproximateReceiveCount");
        // Where nobody counts them, any may be the last.
        let is_last = delivery
            .and_then(|count| count.parse().ok())
            .is_none_or(|count: u32| count >= DELIVERIES);
        let work = async {
            let result = handler(context, &body).await;
            if let Err(fault) = &result {
                // Two that change the same thing at once are nobody's mistake: the next delivery of the one that came second goes through.
                if fault.retryable && !is_last {
                    tracing::warn!(message_id = %id, error = %fault, "a queue message is tried again");
                } else {
                    tracing::error!(message_id = %id, error = %fault, "a queue message failed");
                }
                telemetry::add_fault(fault);
            }
            result
        };
        telemetry::on_message(&id, trace, work).await.err()?;
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        Some(failure)
    });
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = join_all(handled).await.into_iter().flatten().collect();
    response
}
