//! SQS: rustack's queues, in memory, with what senders say of a message: its trace, and in a standard queue its group.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rustack_sqs_core::config::SqsConfig;
use rustack_sqs_core::handler::RustackSqsHandler;
use rustack_sqs_core::provider::RustackSqs;
use rustack_sqs_http::body::SqsResponseBody;
use rustack_sqs_http::dispatch::SqsHandler;
use rustack_sqs_http::response::{error_to_response, json_response};
use rustack_sqs_http::router::resolve_operation;
use rustack_sqs_model::error::SqsError;
use rustack_sqs_model::input::{
    GetQueueAttributesInput, ReceiveMessageInput, SendMessageBatchInput, SendMessageInput,
};
use rustack_sqs_model::operations::SqsOperation;
use rustack_sqs_model::types::{MessageAttributeValue, MessageSystemAttributeValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::door::{self, Credentials, Door};
use crate::random::random_id;
use crate::server;

/// What the real service takes at most, in one request.
const REQUEST_MAX_BYTES: usize = 1024 * 1024;

const VISIBLE: &str = "ApproximateNumberOfMessages";
const HIDDEN: &str = "ApproximateNumberOfMessagesNotVisible";
/// The system attribute that says which trace a message belongs to.
const TRACE: &str = "AWSTraceHeader";
/// The system attribute that says which group a message belongs to.
const GROUP: &str = "MessageGroupId";
/// What is kept among a message's own attributes.
const KEPT: [&str; 2] = [TRACE, GROUP];

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

/// Starts SQS on `listen`, for who signs with `credentials`. A restart loses the messages, as it loses the queues.
///
/// # Errors
/// When the address cannot be bound.
pub fn start(listen: SocketAddr, credentials: &Credentials) -> io::Result<Server> {
    let (listener, address) = server::bind(listen)?;
    // Queue URLs carry the host and port, so these are known only now.
    let provider = Arc::new(RustackSqs::new(SqsConfig {
        host: door::name_of(address.ip()),
        port: address.port(),
        ..SqsConfig::default()
    }));
    let handler = Arc::new(Kept {
        handler: RustackSqsHandler::new(Arc::clone(&provider)),
        provider: Arc::clone(&provider),
    });
    let door = Door::new("sqs", REQUEST_MAX_BYTES, credentials);
    let serving = door::serve(listener, door, move |request| {
        answer(Arc::clone(&handler), request)
    });
    Ok(Server {
        server: crate::Server::spawn(address, serving),
        provider,
    })
}

/// Rustack's own service would check no signature's age, and tell every page that it may read the answer.
async fn answer(handler: Arc<Kept>, request: Request<Bytes>) -> Response<Full<Bytes>> {
    let answered = match resolve_operation(request.headers()) {
        Ok(operation) => {
            handler
                .handle_operation(operation, request.into_body())
                .await
        }
        Err(error) => Err(error),
    };
    let response = answered.unwrap_or_else(|error| error_to_response(&error, &random_id()));
    response.map(|body| match body {
        SqsResponseBody::Buffered(body) => body,
        SqsResponseBody::Empty => Full::default(),
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

/// Rustack forgets what senders say of a message's trace, and takes a group in FIFO queues only. Both are kept among the message's own
/// attributes, which receivers are not shown.
struct Kept {
    handler: RustackSqsHandler,
    provider: Arc<RustackSqs>,
}

type Answer = Result<Response<SqsResponseBody>, SqsError>;

impl SqsHandler for Kept {
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
                    is_standard(&input.queue_url).then_some(&mut input.message_group_id),
                );
            }),
            SqsOperation::SendMessageBatch => {
                rewritten(&body, |input: &mut SendMessageBatchInput| {
                    let is_standard = is_standard(&input.queue_url);
                    for entry in &mut input.entries {
                        keep(
                            &mut entry.message_attributes,
                            &mut entry.message_system_attributes,
                            is_standard.then_some(&mut entry.message_group_id),
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

fn is_standard(queue_url: &str) -> bool {
    !queue_url.ends_with(".fifo")
}

fn keep(
    attributes: &mut HashMap<String, MessageAttributeValue>,
    system_attributes: &mut HashMap<String, MessageSystemAttributeValue>,
    group: Option<&mut Option<String>>,
) {
    let trace = system_attributes
        .remove(TRACE)
        .map(|trace| (TRACE, trace.data_type, trace.string_value));
    let group = group
        .and_then(Option::take)
        .map(|group| (GROUP, "String".to_owned(), Some(group)));
    for (name, data_type, string_value) in trace.into_iter().chain(group) {
        let kept = MessageAttributeValue {
            data_type,
            string_value,
            binary_value: None,
        };
        attributes.insert(name.to_owned(), kept);
    }
}

async fn receive(provider: &RustackSqs, body: &[u8]) -> Answer {
    let mut input: ReceiveMessageInput = read(body)?;
    let asked_for: Vec<&str> = input
        .attribute_names
        .iter()
        .chain(&input.message_system_attribute_names)
        .map(String::as_str)
        .collect();
    let is_asked_for = KEPT.map(|name| asked_for.contains(&"All") || asked_for.contains(&name));
    for (name, is_asked_for) in KEPT.iter().zip(is_asked_for) {
        if is_asked_for {
            input.message_attribute_names.push((*name).to_owned());
        }
    }
    let mut output = provider.receive_message(input).await?;
    for message in &mut output.messages {
        for (name, is_asked_for) in KEPT.iter().zip(is_asked_for) {
            let kept = message.message_attributes.remove(*name);
            if is_asked_for && let Some(value) = kept.and_then(|kept| kept.string_value) {
                message.attributes.insert((*name).to_owned(), value);
            }
        }
    }
    // Nobody asks for the id of a request for messages.
    Ok(json_response(written(&output)?, "local"))
}
