//! API keys and session tokens. Only their hashes are kept.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::client::{ClientId, Role};
use crate::domain::history::Actor;

/// SHA-256 of a key or token, in hexadecimal. Both are random and long, so no salt is needed.
#[must_use]
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// An API key: lasts until it is revoked, and logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its owner.
    pub client_id: ClientId,
    /// Shown to people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it; nobody knows of those that are older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Maker>,
}

/// Who made a key or a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// Its number; none for the system.
    pub client_id: Option<ClientId>,
    /// `client`, `admin` or `system`.
    pub kind: String,
}

impl From<&Actor> for Maker {
    fn from(actor: &Actor) -> Maker {
        Maker {
            client_id: actor.client_id,
            kind: actor.role.clone(),
        }
    }
}

/// What a session rests on: it ends with its key, and when the client's epoch is raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Its owner.
    pub client_id: ClientId,
    /// The client's epoch when the session was opened.
    pub epoch: u64,
    /// The API key that it was opened with, by its hash.
    pub api_key_hash: String,
}

/// A session: what a token stands for until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its owner.
    pub client_id: ClientId,
    /// Its role.
    pub role: Role,
    /// The client's email.
    pub email: String,
    /// The only address it may be used from.
    pub fixed_ip: Option<IpAddr>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The API key it was opened with, by its hash: revoking that ends the session.
    pub api_key_hash: String,
    /// The client's epoch when it was opened. A session that is older than epochs has none, and counts as of epoch 0.
    #[serde(default)]
    pub epoch: Option<u64>,
}

impl Session {
    /// What it rests on.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            client_id: self.client_id,
            epoch: self.epoch.unwrap_or(0),
            api_key_hash: self.api_key_hash.clone(),
        }
    }

    /// Whether it may be used from `source_ip`, as long as it lasts.
    #[must_use]
    pub fn is_for(&self, source_ip: Option<IpAddr>) -> bool {
        self.fixed_ip.is_none_or(|ip| Some(ip) == source_ip)
    }

    /// Whether its time is over at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_its_second_and_keeps_to_its_address() {
        let at = |second| Timestamp::from_second(second).expect("time");
        let mut session = Session {
            client_id: ClientId(1),
            role: Role::Client,
            email: "a@example.com".into(),
            fixed_ip: None,
            expires_at: at(100),
            api_key_hash: String::new(),
            epoch: Some(0),
        };
        let home: IpAddr = [192, 0, 2, 1].into();
        assert!(!session.is_over(at(99)));
        assert!(session.is_over(at(100)));
        assert!(session.is_for(None));
        assert!(session.is_for(Some(home)));
        session.fixed_ip = Some(home);
        assert!(session.is_for(Some(home)));
        assert!(!session.is_for(Some([192, 0, 2, 2].into())));
        assert!(!session.is_for(None));
    }
}
