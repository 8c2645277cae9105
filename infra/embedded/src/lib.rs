//! The services Wharfage needs, as real servers on loopback: an S3 cluster for many accounts,
//! DynamoDB, SQS, KMS, Secrets Manager and EventBridge.
//!
//! Each `start` binds the address it is given (port 0 picks a free one), must be called inside a
//! tokio runtime, and returns a handle with the endpoint; the service stops when the handle is
//! dropped. Nothing is global: a test may start a whole set of its own.
//!
//! These are for one machine, where others may be at work too: the endpoints speak plain HTTP, and take
//! no request that is not signed with the credentials the service was started with, that a web page
//! makes, or that comes by another name than the machine's own (see [`Credentials`]). The S3 cluster
//! has accounts, keys and rules for web pages of its own.

mod door;
pub mod dynamodb;
pub mod eventbridge;
mod files;
pub mod kms;
mod random;
pub mod s3;
pub mod secretsmanager;
mod server;
pub mod sqs;

use std::sync::Arc;

pub use door::{Credentials, is_loopback};
pub use server::Server;

/// The clock the services read: real time, or the virtual time of a test or a demonstration.
///
/// Signatures are the exception: their age is checked against real time, because the clients sign with it.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
