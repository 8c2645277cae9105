//! SQS: rustack's queues, in memory.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustack_sqs_core::config::SqsConfig;
use rustack_sqs_core::handler::RustackSqsHandler;
use rustack_sqs_core::provider::RustackSqs;
use rustack_sqs_http::service::{SqsHttpConfig, SqsHttpService};
use rustack_sqs_model::input::GetQueueAttributesInput;

use crate::server;

const VISIBLE: &str = "ApproximateNumberOfMessages";
const HIDDEN: &str = "ApproximateNumberOfMessagesNotVisible";

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
    let handler = RustackSqsHandler::new(Arc::clone(&provider));
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
