//! The storage behind the locations: one trait, and a file per kind of cluster.

pub mod doubt;
mod embedded;
pub mod files;
mod garage;
mod http;
mod rgw;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use self::secrets::Secrets;
use crate::config::{Location, Provider};
use crate::domain::account::S3Uid;
use crate::domain::bucket_name::BucketName;
use crate::domain::task::LockedObject;
use crate::domain::usage::TrafficHour;
use crate::error::{Error, Fault, Reason, Rejection};
use crate::outside::Outside;
use crate::telemetry::{self, Figure};

/// Why a cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It answered, and refused: another try will be refused too.
    #[error("{code}: {message}")]
    Refused {
        /// Its code, for example `BucketAlreadyExists`.
        code: String,
        /// Its words.
        message: String,
    },
    /// An object may not be removed yet.
    #[error("{0}")]
    Locked(LockedObject),
    /// It could not be reached, or could not answer.
    #[error("the cluster cannot answer: {0}")]
    Unavailable(String),
    /// It does not let us in: the secret with our credentials is missing, malformed or refused. Somebody has to mend that.
    #[error("the cluster cannot be administered: {0}")]
    NoAccess(String),
}

impl ClusterError {
    /// Whether it was refused with this code.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, ClusterError::Refused { code, .. } if code == wanted)
    }

    /// As a fault, for workers and jobs.
    #[must_use]
    pub fn into_fault(self, what: &str) -> Fault {
        match self {
            ClusterError::Unavailable(_) => {
                telemetry::add(Figure::ClusterUnavailable, 1);
                Fault::retryable(what, self)
            }
            ClusterError::Refused { .. } | ClusterError::Locked(_) | ClusterError::NoAccess(_) => {
                Fault::permanent(what, self)
            }
        }
    }
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Error {
        match error {
            ClusterError::Refused { message, .. } => {
                Rejection::new(Reason::StorageRefused, message).into()
            }
            ClusterError::Locked(locked) => {
                Rejection::new(Reason::StorageRefused, locked.to_string()).into()
            }
            ClusterError::Unavailable(reason) => {
                tracing::warn!(reason, "a cluster cannot answer");
                telemetry::add(Figure::ClusterUnavailable, 1);
                Rejection::storage_unavailable().into()
            }
            ClusterError::NoAccess(_) => error.into_fault("administering a cluster").into(),
        }
    }
}

/// What a cluster can do beyond storing objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it counts traffic. If not, [`StorageProvider::traffic`] is not asked, and nobody pays for traffic there.
    pub traffic: bool,
    /// Whether it can keep old versions of objects.
    pub versions: bool,
}

/// An account's S3 keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The access key id.
    pub access_key: String,
    /// The secret key.
    pub secret_key: SecretString,
}

/// A bucket as the cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// When it was made.
    pub created_at: Timestamp,
    /// All bytes it takes: current and old versions, and unfinished multipart uploads.
    pub stored_bytes: u64,
    /// Objects: the current ones, or where the cluster counts old versions and parts of uploads too, all of them.
    pub objects: u64,
    /// Of the bytes, those of old versions; none where the cluster does not tell them apart.
    pub noncurrent_bytes: Option<u64>,
    /// Of the bytes, those of unfinished multipart uploads; none where the cluster does not tell them apart.
    pub multipart_bytes: Option<u64>,
}

/// What one bounded step of emptying a bucket did.
#[derive(Debug, Default)]
pub struct PurgeStep {
    /// Versions, delete markers and uploads removed.
    pub entries_removed: u64,
    /// Bytes freed.
    pub bytes_removed: u64,
    /// Whether nothing is left in it.
    pub is_empty: bool,
    /// What it met on the way, whatever it has removed before and after that.
    pub obstacle: Option<ClusterError>,
}

impl PurgeStep {
    /// Counts removals, each with its bytes, and notes what the first met that failed; whether all of them succeeded.
    pub(crate) fn count(&mut self, removals: Vec<Result<u64, ClusterError>>) -> bool {
        for removal in removals {
            match removal {
                Ok(bytes) => {
                    self.entries_removed += 1;
                    self.bytes_removed += bytes;
                }
                Err(error) => {
                    self.obstacle.get_or_insert(error);
                }
            }
        }
        self.obstacle.is_none()
    }
}

/// What a cluster can be asked to do. Everything here may be repeated: what is done already is done.
#[async_trait]
pub trait StorageProvider: Send + Sync {
    /// What this kind of cluster can do. Of a location's cluster ask [`Cluster::capabilities`].
    fn capabilities(&self) -> Capabilities;

    /// Makes an account's user, with these keys and this limit on what it may store.
    async fn create_user(
        &self,
        s3uid: &S3Uid,
        keys: &Keys,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError>;

    /// Sets what an account may store; none for as much as it likes.
    async fn set_storage_limit(
        &self,
        s3uid: &S3Uid,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError>;

    /// Gives an account a further key.
    async fn add_key(&self, s3uid: &S3Uid, keys: &Keys) -> Result<(), ClusterError>;

    /// Takes a key from an account.
    async fn remove_key(&self, s3uid: &S3Uid, access_key: &str) -> Result<(), ClusterError>;

    /// Removes an account's user. It must have no buckets.
    async fn delete_user(&self, s3uid: &S3Uid) -> Result<(), ClusterError>;

    /// Stops an account's keys, or lets them work again.
    async fn set_suspended(&self, s3uid: &S3Uid, is_suspended: bool) -> Result<(), ClusterError>;

    /// Makes a bucket. A name that another account has is refused with `BucketAlreadyExists`.
    async fn create_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError>;

    /// Removes an empty bucket of an account. One with anything in it is refused with `BucketNotEmpty`; one that is not there, or
    /// another account's, with `NoSuchBucket`.
    async fn delete_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError>;

    /// An account's buckets, by name.
    async fn buckets(&self, s3uid: &S3Uid) -> Result<Vec<Bucket>, ClusterError>;

    /// The buckets of several accounts, each with its account, in any order. Accounts that are not there have none.
    async fn buckets_of(&self, s3uids: &[&S3Uid]) -> Result<Vec<(S3Uid, Bucket)>, ClusterError>;

    /// Removes up to `max_entries` of what is in a bucket: versions and unfinished uploads too. A bucket that is not there, or another
    /// account's, is refused with `NoSuchBucket`. Objects under a lock stay, and the others go.
    async fn purge_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
        max_entries: u32,
    ) -> Result<PurgeStep, ClusterError>;

    /// What was counted for some accounts' buckets in the hours `[from, to)`. Refused by clusters that do not count.
    async fn traffic(
        &self,
        s3uids: &[&S3Uid],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<TrafficHour>, ClusterError>;

    /// Forgets what was counted for an account that is gone. What was counted outlives the account, and is asked for until all of it has
    /// been collected.
    async fn forget_traffic(&self, s3uid: &S3Uid) -> Result<(), ClusterError>;
}

/// A location with its cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The location as configured.
    pub location: Location,
    /// Its administration.
    pub provider: Arc<dyn StorageProvider>,
}

impl Cluster {
    /// What it can do: what its provider can, and was not switched off there.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let capabilities = self.provider.capabilities();
        Capabilities {
            traffic: capabilities.traffic && self.location.counts_traffic,
            ..capabilities
        }
    }
}

/// The clusters, by location.
#[derive(Clone)]
pub struct Clusters {
    by_location: BTreeMap<String, Cluster>,
    files: files::Files,
}

impl Clusters {
    pub(crate) fn new(outside: &Outside<'_>) -> Clusters {
        let secrets = Secrets::new(outside);
        let by_location = outside
            .config
            .locations
            .iter()
            .map(|location| {
                let provider: Arc<dyn StorageProvider> = match location.provider {
                    Provider::Embedded => {
                        Arc::new(embedded::Embedded::new(location, outside, &secrets))
                    }
                    Provider::Garage => Arc::new(garage::Garage::new(location, outside, &secrets)),
                    Provider::Rgw => Arc::new(rgw::Rgw::new(location, outside, &secrets)),
                };
                let cluster = Cluster {
                    location: location.clone(),
                    provider,
                };
                (location.code.clone(), cluster)
            })
            .collect();
        Clusters {
            by_location,
            files: files::Files::new(outside),
        }
    }

    /// A location's cluster; `None` for a location that is not configured.
    #[must_use]
    pub fn get(&self, location: &str) -> Option<&Cluster> {
        self.by_location.get(location)
    }

    /// A location's cluster, where an account says it is.
    ///
    /// # Errors
    /// When the location is not configured any more.
    pub fn of(&self, location: &str) -> Result<&Cluster, Fault> {
        self.get(location).ok_or_else(|| {
            Fault::permanent(
                "finding a cluster",
                format!("location {location} is not configured"),
            )
        })
    }

    /// All of them, by location code.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.by_location.values()
    }

    /// An account's files, by its own keys.
    #[must_use]
    pub fn files(&self) -> &files::Files {
        &self.files
    }
}
