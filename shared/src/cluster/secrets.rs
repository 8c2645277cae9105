//! The credentials that the clusters are administered with, from Secrets Manager.
//!
//! A secret is fetched at the first call to its cluster, cached in memory, and fetched again when it expires or the cluster rejects it. So
//! every process picks up a rotated secret, at the latest at its first rejection.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};

use super::ClusterError;
use crate::clock::Clock;
use crate::config::Location;
use crate::error::without_answer;
use crate::outside::{OnFirstUse, Outside};

/// A secret that is older is fetched again.
const MOST_AGE: SignedDuration = SignedDuration::from_mins(15);
/// A secret that the cluster refuses is fetched again no more often than this: it may stay wrong for long.
const LEAST_AGE_OF_A_RENEWAL: SignedDuration = SignedDuration::from_secs(10);

/// Secrets Manager.
#[derive(Clone)]
pub(super) struct Secrets {
    client: OnFirstUse<Client>,
    clock: Arc<dyn Clock>,
}

impl Secrets {
    pub(super) fn new(outside: &Outside<'_>) -> Secrets {
        let sdk = outside.aws(outside.config.endpoints.secretsmanager.as_ref());
        Secrets {
            client: OnFirstUse::new(move || Client::new(&sdk)),
            clock: Arc::clone(&outside.clock),
        }
    }
}

/// One cluster's credentials, of the form `T`.
pub(super) struct ClusterSecret<T> {
    secrets: Secrets,
    location: String,
    secret_id: String,
    /// Its form in words, for whoever has to mend it.
    form: &'static str,
    held: Mutex<Option<Held<T>>>,
}

struct Held<T> {
    value: Arc<T>,
    version_id: String,
    fetched_at: Timestamp,
    /// Whether it was fetched because the cluster refused what was held before.
    is_renewal: bool,
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Held<T> {
        Held {
            value: Arc::clone(&self.value),
            version_id: self.version_id.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for ClusterSecret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecret")
            .field("location", &self.location)
            .field("secret_id", &self.secret_id)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> ClusterSecret<T> {
    /// The secret of a location. Nothing is fetched yet.
    pub(super) fn new(
        secrets: &Secrets,
        location: &Location,
        form: &'static str,
    ) -> ClusterSecret<T> {
        ClusterSecret {
            secrets: secrets.clone(),
            location: location.code.clone(),
            secret_id: location.admin_secret_id.clone(),
            form,
            held: Mutex::new(None),
        }
    }

    /// Holds a value already, for tests of what uses it. Nothing newer is to be had.
    #[cfg(test)]
    pub(super) fn known(value: T) -> ClusterSecret<T> {
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(aws_sdk_secretsmanager::config::BehaviorVersion::latest())
            .build();
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        ClusterSecret {
            held: Mutex::new(Some(Held {
                value: Arc::new(value),
                version_id: String::new(),
                fetched_at: clock.now(),
                is_renewal: true,
            })),
            secrets: Secrets {
                client: OnFirstUse::new(move || Client::from_conf(config)),
                clock,
            },
            location: "NL".into(),
            secret_id: "test".into(),
            form: "",
        }
    }

    /// Makes a call with the credentials; once more when it ends with [`ClusterError::NoAccess`] and there are newer ones.
    pub(super) async fn authorize<A, F>(
        &self,
        call: impl Fn(Arc<T>) -> F,
    ) -> Result<A, ClusterError>
    where
        F: Future<Output = Result<A, ClusterError>>,
    {
        let held = self.current().await?;
        match call(Arc::clone(&held.value)).await {
            Err(ClusterError::NoAccess(problem)) => match self.newer(&held).await? {
                Some(newer) => match call(newer.value).await {
                    Err(ClusterError::NoAccess(problem)) => Err(self.refused(&problem)),
                    answer => answer,
                },
                None => Err(self.refused(&problem)),
            },
            answer => answer,
        }
    }

    /// The credentials as they are held, for calls of another kind after one that was authorized.
    pub(super) async fn get(&self) -> Result<Arc<T>, ClusterError> {
        Ok(self.current().await?.value)
    }

    async fn current(&self) -> Result<Held<T>, ClusterError> {
        let now = self.secrets.clock.now();
        let old = match self.lock().as_mut() {
            None => None,
            Some(held) if now.duration_since(held.fetched_at) < MOST_AGE => {
                return Ok(held.clone());
            }
            Some(held) => {
                let old = held.clone();
                // Who comes while it is fetched need not fetch it, too.
                held.fetched_at = now;
                Some(old)
            }
        };
        match (self.fetch(false).await, old) {
            // It worked until now, and while nobody can tell whether it was changed it is the best there is.
            (Err(ClusterError::Unavailable(reason)), Some(old)) => {
                tracing::warn!(location = self.location, reason, "an old secret is used on");
                Ok(old)
            }
            (Err(error), _) => {
                *self.lock() = None;
                Err(error)
            }
            (Ok(fetched), _) => Ok(fetched),
        }
    }

    /// What is to be tried after these were refused; `None` when there is nothing else.
    async fn newer(&self, refused: &Held<T>) -> Result<Option<Held<T>>, ClusterError> {
        let now = self.secrets.clock.now();
        if let Some(held) = self.held() {
            if held.version_id != refused.version_id {
                return Ok(Some(held));
            }
            if held.is_renewal && now.duration_since(held.fetched_at) < LEAST_AGE_OF_A_RENEWAL {
                return Ok(None);
            }
        }
        let fetched = self.fetch(true).await?;
        Ok((fetched.version_id != refused.version_id).then_some(fetched))
    }

    fn held(&self) -> Option<Held<T>> {
        self.lock().clone()
    }

    /// Never held over a call: a request that is given up must not keep the others waiting.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held<T>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, is_renewal: bool) -> Result<Held<T>, ClusterError> {
        let answer = self
            .secrets
            .client
            .get_secret_value()
            .secret_id(&self.secret_id)
            .send()
            .await
            .map_err(|error| match error.code() {
                // What another try will not change. The service's messages name the secret, never its value.
                Some(
                    code @ ("ResourceNotFoundException"
                    | "AccessDeniedException"
                    | "DecryptionFailure"
                    | "InvalidRequestException"
                    | "InvalidParameterException"),
                ) => {
                    let message = error.message().unwrap_or_default();
                    self.no_access(&format!("cannot be read: {code}: {message}"))
                }
                _ => ClusterError::Unavailable(format!(
                    "location {}: secret {}: {}",
                    self.location,
                    self.secret_id,
                    without_answer(&error)
                )),
            })?;
        // The parser's own words may quote the value.
        let value = answer
            .secret_string()
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| self.no_access(&format!("is not of the form {}", self.form)))?;
        let held = Held {
            value: Arc::new(value),
            version_id: answer.version_id.unwrap_or_default(),
            fetched_at: self.secrets.clock.now(),
            is_renewal,
        };
        *self.lock() = Some(held.clone());
        Ok(held)
    }

    fn refused(&self, problem: &str) -> ClusterError {
        self.no_access(&format!("was refused by the cluster: {problem}"))
    }

    fn no_access(&self, problem: &str) -> ClusterError {
        ClusterError::NoAccess(format!(
            "location {}: secret {} {problem}",
            self.location, self.secret_id
        ))
    }
}

/// A bearer token: `{"token": "…"}`.
#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(deserialize_with = "visible")]
    pub(super) token: SecretString,
}

impl Token {
    /// Its form in words.
    pub(super) const FORM: &'static str = r#"{"token": "…"}"#;
}

/// A text that can stand in a header. Secrets are pasted by hand, line breaks and all.
pub(super) fn visible<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SecretString, D::Error> {
    let text = String::deserialize(deserializer)?;
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err(D::Error::custom("not one line of visible ASCII")),
    }
}
