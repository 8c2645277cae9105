//! History: who did what to which entity, when and from where. Append-only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::account::S3Uid;
use crate::domain::client::{ClientId, Role};
use crate::domain::plan::PlanId;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// An email, or the name of a job.
    pub name: String,
    /// `client`, `admin`, or `system` for jobs and workers.
    pub role: String,
    /// Where the request came from.
    pub ip: Option<String>,
    /// The client's number; none for the system, nor in entries that are older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}

impl Actor {
    /// The system itself: a job or a worker.
    #[must_use]
    pub fn system(name: &str) -> Actor {
        Actor {
            name: name.into(),
            role: "system".into(),
            ip: None,
            client_id: None,
        }
    }

    /// Somebody with a session.
    #[must_use]
    pub fn person(client_id: ClientId, email: &str, role: Role, ip: Option<String>) -> Actor {
        Actor {
            name: email.into(),
            role: role.to_string(),
            ip,
            client_id: Some(client_id),
        }
    }
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity<'a> {
    /// An account, by its s3uid.
    Account(&'a S3Uid),
    /// A plan, by its number.
    Plan(PlanId),
    /// A client, by its number.
    Client(ClientId),
}

impl Entity<'_> {
    /// `account`, `plan`, `client`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Entity::Account(_) => "account",
            Entity::Plan(_) => "plan",
            Entity::Client(_) => "client",
        }
    }

    /// Its identifier among its kind.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Entity::Account(s3uid) => s3uid.to_string(),
            Entity::Plan(id) => id.to_string(),
            Entity::Client(id) => id.to_string(),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique among the entity's entries.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// What was done: the name of an action, or what a job did.
    pub action: String,
    /// Who did it.
    pub actor: Actor,
    /// Whose history it is part of; none for plans.
    pub client_id: Option<ClientId>,
    /// `account`, `plan`, `client`.
    pub entity_kind: String,
    /// Which one.
    pub entity_id: String,
    /// What else is worth knowing; never a secret.
    #[serde(default)]
    pub details: Value,
}
