//! What a handler is given: the world outside, behind the SDKs, with time and randomness.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;
use serde_json::Value;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::cluster::Clusters;
use crate::config::{Config, Rules};
use crate::connectors::Connectors;
use crate::database::Database;
use crate::domain::event::{Event, Kind};
use crate::domain::history::{Actor, Entity, Entry};
use crate::queue::Queue;
use crate::random::Random;
use crate::segments::Segments;
use crate::telemetry;
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
    /// EventBridge.
    pub bus: Bus,
    /// What the clusters reported.
    pub segments: Segments,
    /// Secret keys at rest.
    pub vault: Vault,
    /// The storage behind the locations.
    pub clusters: Clusters,
    /// What the operator set.
    pub rules: Rules,
    /// Counts the history entries of this process.
    entries: AtomicU64,
}

impl Context {
    /// Calls nothing. All clients of AWS share one connector, so its connections and its TLS set-up.
    #[must_use]
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        random: Random,
        connectors: Connectors,
    ) -> Context {
        let outside = Outside {
            aws: telemetry::counted(connectors.aws),
            clusters: telemetry::counted(connectors.clusters),
            credentials: SharedCredentialsProvider::new(config.credentials.clone()),
            clock: Arc::clone(&clock),
            config: &config,
        };
        Context {
            database: Database::new(&outside),
            queue: Queue::new(&outside),
            bus: Bus::new(&outside),
            segments: Segments::new(&outside),
            vault: Vault::new(&outside),
            clusters: Clusters::new(&outside),
            rules: config.rules.clone(),
            clock,
            random,
            entries: AtomicU64::new(0),
        }
    }

    /// A history entry of what is done to an account, now. Entries of one instant and one process sort as they were made.
    #[must_use]
    pub fn account_entry(
        &self,
        client_id: u64,
        s3uid: &str,
        action: &str,
        actor: Actor,
        details: Value,
    ) -> Entry {
        self.entry(
            Some(client_id),
            &Entity::Account(s3uid),
            action,
            actor,
            details,
        )
    }

    /// A history entry of what is done to anything, now. `client_id` says whose history it is part of.
    #[must_use]
    pub fn entry(
        &self,
        client_id: Option<u64>,
        entity: &Entity<'_>,
        action: &str,
        actor: Actor,
        details: Value,
    ) -> Entry {
        let position = self.entries.fetch_add(1, Ordering::Relaxed);
        Entry {
            id: format!("{position:08x}{}", self.random.id()),
            at: self.now(),
            action: action.into(),
            actor,
            client_id,
            entity_kind: entity.kind().into(),
            entity_id: entity.id(),
            details,
        }
    }

    /// An event about an account, now.
    #[must_use]
    pub fn account_event(&self, kind: Kind, client_id: u64, s3uid: &str, detail: Value) -> Event {
        Event {
            event_id: self.random.id(),
            at: self.now(),
            kind,
            client_id,
            s3uid: Some(s3uid.into()),
            detail,
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
    /// The connector to AWS.
    pub aws: SharedHttpConnector,
    /// The connector to the clusters.
    pub clusters: SharedHttpConnector,
    /// The function's role.
    pub credentials: SharedCredentialsProvider,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Endpoints, names, regions.
    pub config: &'a Config,
}

impl Outside<'_> {
    /// The connector to AWS, as the SDK's clients take it.
    pub(crate) fn aws_http(&self) -> SharedHttpClient {
        let connector = self.aws.clone();
        http_client_fn(move |_, _| connector.clone())
    }

    /// The connector to the clusters, as the SDK's clients take it.
    pub(crate) fn cluster_http(&self) -> SharedHttpClient {
        let connector = self.clusters.clone();
        http_client_fn(move |_, _| connector.clone())
    }

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
            .operation_attempt_timeout(Duration::from_secs(8))
            .operation_timeout(Duration::from_secs(20))
            .build()
    }
}

/// A client that is made when it is first used. Making one takes a while, and most functions use DynamoDB's alone.
#[derive(Debug, Clone)]
pub(crate) struct OnFirstUse<C>(Arc<LazyLock<C, Box<dyn FnOnce() -> C + Send>>>);

impl<C> OnFirstUse<C> {
    pub(crate) fn new(make: impl FnOnce() -> C + Send + 'static) -> OnFirstUse<C> {
        OnFirstUse(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<C> Deref for OnFirstUse<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}
