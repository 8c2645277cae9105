//! SQS: rustack's queues, in memory, with the one system attribute that senders set.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use rustack_sqs_core::config::SqsConfig;
use rustack_sqs_core::handler::RustackSqsHandler;
use rustack_sqs_core::provider::RustackSqs;
use rustack_sqs_http::body::SqsResponseBody;
use rustack_sqs_http::dispatch::SqsHandler;
use rustack_sqs_http::response::json_response;
use rustack_sqs_http::service::{SqsHttpConfig, SqsHttpService};
use rustack_sqs_model::error::SqsError;
use rustack_sqs_model::input::{
    GetQueueAttributesInput, ReceiveMessageInput, SendMessageBatchInput, SendMessageInput,
};
use rustack_sqs_model::operations::SqsOperation;
use rustack_sqs_model::types::{MessageAttributeValue, MessageSystemAttributeValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::server;

const VISIBLE: &str = "ApproximateNumberOfMessages";
const HIDDEN: &str = "ApproximateNumberOfMessagesNotVisible";
/// The system attribute that says which trace a message belongs to.
const TRACE: &str = "AWSTraceHeader";

/// A running SQS. It stops when dropped.
pub struct Server {
    server: crate::Server,
    provider: Arc<RustackSqs>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

/// How many messages a queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: usize,
    /// Received and not deleted yet.
    pub hidden: usize,
}

/// Starts SQS on `listen`. A restart loses the messages, as it loses the queues.
///
/// # Errors
/// When the address cannot be bound.
pub fn start(listen: SocketAddr) -> io::Result<Server> {
    let (listener, address) = server::bind(listen)?;
    // Queue URLs carry the host and port, so these are known only now.
    let ip = address.ip();
    let host = match ip {
        _ if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    };
    let provider = Arc::new(RustackSqs::new(SqsConfig {
        host,
        port: address.port(),
        ..SqsConfig::default()
    }));
    let handler = Traced {
        handler: RustackSqsHandler::new(Arc::clone(&provider)),
        provider: Arc::clone(&provider),
    };
    let service = SqsHttpService::new(Arc::new(handler), SqsHttpConfig::default());
    Ok(Server {
        server: crate::Server::spawn(address, server::serve(listener, service)),
        provider,
    })
}

impl Server {
    /// Where clients reach it.
    pub fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// What `GetQueueAttributes` says of a queue, without a request: whoever waits for queues to become empty asks often.
    ///
    /// # Errors
    /// When there is no such queue.
    pub async fn depth(&self, queue_url: &str) -> io::Result<Depth> {
        let input = GetQueueAttributesInput {
            queue_url: queue_url.to_owned(),
            attribute_names: vec![VISIBLE.to_owned(), HIDDEN.to_owned()],
        };
        let attributes = self
            .provider
            .get_queue_attributes(input)
            .await
            .map_err(io::Error::other)?
            .attributes;
        let number = |name: &str| {
            attributes
                .get(name)
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| io::Error::other(format!("{queue_url} has no {name}")))
        };
        Ok(Depth {
            visible: number(VISIBLE)?,
            hidden: number(HIDDEN)?,
        })
    }
}

/// Rustack forgets what senders say of a message's trace. It is kept among the message's own attributes, which receivers are not shown.
struct Traced {
    handler: RustackSqsHandler,
    provider: Arc<RustackSqs>,
}

type Answer = Result<Response<SqsResponseBody>, SqsError>;

impl SqsHandler for Traced {
    fn handle_operation(
        &self,
        op: SqsOperation,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let kept = match op {
            SqsOperation::SendMessage => rewritten(&body, |input: &mut SendMessageInput| {
                keep(
                    &mut input.message_attributes,
                    &mut input.message_system_attributes,
                );
            }),
            SqsOperation::SendMessageBatch => {
                rewritten(&body, |input: &mut SendMessageBatchInput| {
                    for entry in &mut input.entries {
                        keep(
                            &mut entry.message_attributes,
                            &mut entry.message_system_attributes,
                        );
                    }
                })
            }
            SqsOperation::ReceiveMessage => {
                let provider = Arc::clone(&self.provider);
                return Box::pin(async move { receive(&provider, &body).await });
            }
            _ => Ok(body),
        };
        match kept {
            Ok(body) => self.handler.handle_operation(op, body),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    serde_json::from_slice(body).map_err(|e| SqsError::invalid_parameter_value(e.to_string()))
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, SqsError> {
    serde_json::to_vec(value).map_err(|e| SqsError::internal_error(e.to_string()))
}

fn rewritten<T: DeserializeOwned + Serialize>(
    body: &[u8],
    change: impl FnOnce(&mut T),
) -> Result<Bytes, SqsError> {
    let mut input = read(body)?;
    change(&mut input);
    Ok(written(&input)?.into())
}

fn keep(
    attributes: &mut HashMap<String, MessageAttributeValue>,
    system_attributes: &mut HashMap<String, MessageSystemAttributeValue>,
) {
    if let Some(trace) = system_attributes.remove(TRACE) {
        let kept = MessageAttributeValue {
            data_type: trace.data_type,
            string_value: trace.string_value,
            binary_value: None,
        };
        attributes.insert(TRACE.to_owned(), kept);
    }
}

async fn receive(provider: &RustackSqs, body: &[u8]) -> Answer {
    let mut input: ReceiveMessageInput = read(body)?;
    let mut asked_for = input
        .attribute_names
        .iter()
        .chain(&input.message_system_attribute_names);
    let is_asked_for = asked_for.any(|name| name == "All" || name == TRACE);
    if is_asked_for {
        input.message_attribute_names.push(TRACE.to_owned());
    }
    let mut output = provider.receive_message(input).await?;
    for message in &mut output.messages {
        let kept = message.message_attributes.remove(TRACE);
        if is_asked_for && let Some(trace) = kept.and_then(|kept| kept.string_value) {
            message.attributes.insert(TRACE.to_owned(), trace);
        }
    }
    // Nobody asks for the id of a request for messages.
    Ok(json_response(written(&output)?, "local"))
}
