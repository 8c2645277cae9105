//! What a handler is given: the world outside, behind the SDKs, with time and randomness.

use std::sync::Arc;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::cluster::Clusters;
use crate::config::{Config, Rules};
use crate::database::Database;
use crate::queue::Queue;
use crate::random::Random;
use crate::vault::Vault;

/// The world outside, as a handler sees it. One for all requests of a process.
pub struct Context {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Identifiers, keys, tokens.
    pub random: Random,
    /// DynamoDB.
    pub database: Database,
    /// SQS.
    pub queue: Queue,
    /// Secret keys at rest.
    pub vault: Vault,
    /// The storage behind the locations.
    pub clusters: Clusters,
    /// What the operator set.
    pub rules: Rules,
}

impl Context {
    /// Makes the clients; calls nothing. They all share one HTTP client, so its connections and its TLS set-up.
    #[must_use]
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        random: Random,
        http: SharedHttpClient,
    ) -> Context {
        let outside = Outside {
            http,
            credentials: SharedCredentialsProvider::new(config.credentials.clone()),
            config: &config,
        };
        Context {
            database: Database::new(&outside),
            queue: Queue::new(&outside),
            vault: Vault::new(&outside),
            clusters: Clusters::new(&outside),
            rules: config.rules.clone(),
            clock,
            random,
        }
    }

    /// The current instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// What clients of outside services are made of.
pub(crate) struct Outside<'a> {
    /// The one HTTP client.
    pub http: SharedHttpClient,
    /// The function's role.
    pub credentials: SharedCredentialsProvider,
    /// Endpoints, names, regions.
    pub config: &'a Config,
}

impl Outside<'_> {
    pub(crate) fn sleep() -> SharedAsyncSleep {
        SharedAsyncSleep::new(TokioSleep::new())
    }

    /// The SDK's standard retry: three tries, exponential back-off with jitter.
    pub(crate) fn retries() -> RetryConfig {
        RetryConfig::standard()
    }

    /// Bounds every call, so that no request outlives its function's own limit.
    pub(crate) fn timeouts() -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(std::time::Duration::from_secs(3))
            .operation_attempt_timeout(std::time::Duration::from_secs(8))
            .operation_timeout(std::time::Duration::from_secs(20))
            .build()
    }
}

/// The HTTP client for AWS and the clusters: hyper, with rustls for `https`.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https()
}
