//! Invokes functions: in this process, or each in processes of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_http::aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_http::{Body, RequestExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wharfage::context::Context;
use wharfage::random::Random;

use crate::gateway::refusal;
use crate::invoke::{self, Crash, Life};
use crate::processes::{Fleet, new_trace};
use crate::wiring::{Job, Source, Target};

/// What runs the functions of a stack.
#[derive(Clone)]
pub(crate) struct Runner {
    place: Place,
    life: Life,
    random: Arc<Random>,
}

#[derive(Clone)]
enum Place {
    Here(Arc<Context>),
    Processes(Arc<Fleet>),
}

impl Runner {
    /// Runs them in this process.
    pub(crate) fn here(context: Arc<Context>, life: Life) -> Runner {
        Runner {
            place: Place::Here(context),
            life,
            random: Arc::new(Random::from_os()),
        }
    }

    /// Runs them as processes.
    pub(crate) fn processes(fleet: Arc<Fleet>, life: Life) -> Runner {
        Runner {
            place: Place::Processes(fleet),
            life,
            random: Arc::new(Random::from_os()),
        }
    }

    /// Invokes the function behind a route with an event of API Gateway's.
    ///
    /// # Errors
    /// When it ends without an answer, or fails.
    pub(crate) async fn answer(
        &self,
        target: &Target,
        event: String,
        request_id: &str,
    ) -> Result<Response<Body>, Crash> {
        match &self.place {
            Place::Here(context) => {
                let timeout = target.timeout.min(target.route_timeout);
                let context = Arc::clone(context);
                let handler = target.handler;
                let mut lambda = lambda_http::Context::default();
                lambda.request_id = request_id.to_owned();
                invoke::run(timeout, self.life.clone(), async move {
                    // The event is read inside: what breaks lambda_http breaks the function, not the gateway.
                    match lambda_http::request::from_str(&event) {
                        Ok(request) => handler(&context, request.with_lambda_context(lambda)).await,
                        Err(error) => {
                            tracing::error!(%error, "an event cannot be read");
                            refusal(StatusCode::BAD_REQUEST)
                        }
                    }
                })
                .await
            }
            Place::Processes(fleet) => {
                let invocation = self.invoke(fleet, target.function, event.into(), target.timeout);
                // The function goes on, as on Lambda.
                let answer = tokio::time::timeout(target.route_timeout, invocation)
                    .await
                    .unwrap_or(Err(Crash::TimedOut(target.route_timeout)))?;
                response(read(&answer)?)
            }
        }
    }

    /// Invokes the function behind a queue with a batch of messages.
    ///
    /// # Errors
    /// When it ends without an answer, or fails.
    pub(crate) async fn handle(
        &self,
        source: &Source,
        event: SqsEvent,
    ) -> Result<SqsBatchResponse, Crash> {
        match &self.place {
            Place::Here(context) => {
                let context = Arc::clone(context);
                let handler = source.handler;
                invoke::run(source.timeout, self.life.clone(), async move {
                    wharfage::runtime::handle_batch(&context, handler, event).await
                })
                .await
            }
            Place::Processes(fleet) => {
                let event = written(&event)?;
                let answer = self
                    .invoke(fleet, source.function, event, source.timeout)
                    .await?;
                read(&answer)
            }
        }
    }

    /// Invokes the function behind a schedule.
    ///
    /// # Errors
    /// When it ends without an answer, or fails.
    pub(crate) async fn run(&self, job: &Job) -> Result<Value, Crash> {
        match &self.place {
            Place::Here(context) => {
                let context = Arc::clone(context);
                let handler = job.handler;
                invoke::run(job.timeout, self.life.clone(), async move {
                    handler(&context).await
                })
                .await?
                .map_err(|fault| match fault.retryable {
                    true => Crash::Deferred(fault.to_string()),
                    false => Crash::Failed(fault.to_string()),
                })
            }
            Place::Processes(fleet) => {
                let event = Bytes::from_static(b"{}");
                let answer = self.invoke(fleet, job.function, event, job.timeout).await?;
                read(&answer)
            }
        }
    }

    /// Invokes a function whose process goes on also if nobody waits for its answer any more.
    async fn invoke(
        &self,
        fleet: &Arc<Fleet>,
        function: &'static str,
        event: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Crash> {
        let request_id = self.random.id();
        let trace = new_trace(&self.random);
        let fleet = Arc::clone(fleet);
        let life = self.life.clone();
        let invocation = tokio::spawn(async move {
            tokio::select! {
                answer = fleet.invoke(function, event, &request_id, &trace, timeout) => answer,
                () = life.ended() => Err(Crash::Stopped),
            }
        });
        invocation.await.unwrap_or(Err(Crash::Stopped))
    }
}

fn written(event: &impl Serialize) -> Result<Bytes, Crash> {
    serde_json::to_vec(event)
        .map(Bytes::from)
        .map_err(|error| Crash::Failed(format!("its event cannot be written: {error}")))
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Crash> {
    serde_json::from_slice(answer)
        .map_err(|error| Crash::Failed(format!("its answer cannot be read: {error}")))
}

/// An answer in payload format 2.0, as the HTTP API turns it into a response.
fn response(answer: ApiGatewayV2httpResponse) -> Result<Response<Body>, Crash> {
    let status = u16::try_from(answer.status_code)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| Crash::Failed(format!("it answered status {}", answer.status_code)))?;
    let body = match answer.body {
        Some(Body::Text(text)) if answer.is_base64_encoded => {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| Crash::Failed(format!("its body is not base64: {error}")))?;
            Body::Binary(bytes)
        }
        Some(body) => body,
        None => Body::Empty,
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.extend(answer.headers);
    for (name, value) in &answer.multi_value_headers {
        if !headers.contains_key(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    Ok(response)
}
