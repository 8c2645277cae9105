//! From a Lambda event to a handler and back. Handlers are function pointers, so this is compiled once for all of them.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::context::Context;
use crate::error::Fault;
use crate::random::Random;

/// Answers one HTTP request. Never fails: what goes wrong becomes a response.
pub type HttpHandler = for<'a> fn(&'a Context, Request) -> BoxFuture<'a, Response<Body>>;
/// Handles one queue message, given by its body; a fault leaves it in the queue.
pub type QueueHandler = for<'a> fn(&'a Context, &'a str) -> BoxFuture<'a, Result<(), Fault>>;
/// Does what a schedule is for, once, and sums up what it did.
pub type ScheduleHandler = for<'a> fn(&'a Context) -> BoxFuture<'a, Result<Value, Fault>>;

/// A Lambda function: its name, which is its binary's, and what starts it.
#[derive(Clone, Copy)]
pub struct Function {
    /// The binary's name in the template.
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

/// Why a function's process ended.
pub type Stop = lambda_runtime::Error;

/// Runs a function until the Lambda service ends the process.
///
/// # Errors
/// When the environment is not complete, or the Runtime API cannot be reached.
pub fn run(function: &'static Function) -> Result<(), Stop> {
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_target(false)
        .init();
    let config = Config::from_env()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let context = Context::new(
            config,
            std::sync::Arc::new(SystemClock),
            Random::from_os(),
            crate::context::connector(),
        );
        let context = &context;
        match function.entry {
            Entry::Http(handler) => {
                lambda_http::run(service_fn(move |request: Request| async move {
                    Ok::<_, lambda_runtime::Error>(handler(context, request).await)
                }))
                .await
            }
            Entry::Queue(handler) => {
                lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
                    Ok::<_, lambda_runtime::Error>(
                        handle_batch(context, handler, event.payload).await,
                    )
                }))
                .await
            }
            Entry::Schedule(handler) => {
                lambda_runtime::run(service_fn(move |_: LambdaEvent<Value>| async move {
                    handler(context).await.map_err(lambda_runtime::Error::from)
                }))
                .await
            }
        }
    })
}

/// Hands the messages of a batch to the handler one by one, and names those that are to come again.
pub async fn handle_batch(
    context: &Context,
    handler: QueueHandler,
    event: SqsEvent,
) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for message in event.records {
        let id = message.message_id.unwrap_or_default();
        if let Err(fault) = handler(context, message.body.as_deref().unwrap_or_default()).await {
            tracing::error!(message_id = %id, error = %fault, "a queue message failed");
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        }
    }
    response
}
