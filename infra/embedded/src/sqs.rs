//! SQS: rustack's queues, in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustack_sqs_core::config::SqsConfig;
use rustack_sqs_core::handler::RustackSqsHandler;
use rustack_sqs_core::provider::RustackSqs;
use rustack_sqs_http::service::{SqsHttpConfig, SqsHttpService};

use crate::server::{self, Server};

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
    let provider = RustackSqs::new(SqsConfig {
        host,
        port: address.port(),
        ..SqsConfig::default()
    });
    let handler = RustackSqsHandler::new(Arc::new(provider));
    let service = SqsHttpService::new(Arc::new(handler), SqsHttpConfig::default());
    Ok(Server::spawn(address, server::serve(listener, service)))
}
