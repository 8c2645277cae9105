//! What a handler receives: external services behind the SDKs, time and randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::Value;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::cluster::Clusters;
use crate::config::{Config, Rules};
use crate::connectors::Connectors;
use crate::database::Database;
use crate::domain::account::S3Uid;
use crate::domain::client::ClientId;
use crate::domain::event::{Event, Kind};
use crate::domain::history::{Actor, Entity, Entry};
use crate::outside::Outside;
use crate::queue::Queue;
use crate::random::Random;
use crate::segments::Segments;
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
        let outside = Outside::new(&config, Arc::clone(&clock), connectors);
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
        client_id: ClientId,
        s3uid: &S3Uid,
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
        client_id: Option<ClientId>,
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
    pub fn account_event(
        &self,
        kind: Kind,
        client_id: ClientId,
        s3uid: &S3Uid,
        detail: Value,
    ) -> Event {
        Event {
            event_id: self.random.id(),
            at: self.now(),
            kind,
            client_id,
            s3uid: Some(s3uid.clone()),
            detail,
        }
    }

    /// The current instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
