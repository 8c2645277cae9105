//! API keys and session tokens. Only their hashes are kept.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::client::Role;

/// SHA-256 of a key or token, in hexadecimal. Both are random and long, so no salt is needed.
#[must_use]
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// An API key: lasts until it is revoked, and logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Whose it is.
    pub client_id: u64,
    /// Shown to people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A session: what a token stands for until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose it is.
    pub client_id: u64,
    /// What it allows.
    pub role: Role,
    /// The client's email.
    pub email: String,
    /// The only address it may be used from.
    pub fixed_ip: Option<IpAddr>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The API key it was opened with, by its hash: revoking that ends the session.
    pub api_key_hash: String,
}

impl Session {
    /// Whether it may be used at `now` from `source_ip`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp, source_ip: Option<IpAddr>) -> bool {
        now < self.expires_at && self.fixed_ip.is_none_or(|ip| Some(ip) == source_ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_its_second_and_keeps_to_its_address() {
        let at = |second| Timestamp::from_second(second).expect("time");
        let mut session = Session {
            client_id: 1,
            role: Role::Client,
            email: "a@example.com".into(),
            fixed_ip: None,
            expires_at: at(100),
            api_key_hash: String::new(),
        };
        let home: IpAddr = [192, 0, 2, 1].into();
        assert!(session.is_valid(at(99), None));
        assert!(!session.is_valid(at(100), None));
        session.fixed_ip = Some(home);
        assert!(session.is_valid(at(99), Some(home)));
        assert!(!session.is_valid(at(99), Some([192, 0, 2, 2].into())));
        assert!(!session.is_valid(at(99), None));
    }
}
