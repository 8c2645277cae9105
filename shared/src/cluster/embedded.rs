//! The local runner's own cluster: S3 with a small JSON administration beside it, under `/_admin/v1`.

use std::sync::Arc;

use ::http::StatusCode;
use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::http::{repeated, segment, send_json};
use super::secrets::{ClusterSecret, Secrets, Token};
use super::{Bucket, Capabilities, ClusterError, Keys, PurgeStep, StorageProvider};
use crate::config::Location;
use crate::domain::account::S3Uid;
use crate::domain::bucket_name::BucketName;
use crate::domain::task::LockedObject;
use crate::domain::usage::{RequestClasses, TrafficHour};
use crate::outside::Outside;

/// Accounts that the cluster takes in one question.
const UIDS_AT_ONCE: usize = 1_000;

pub(super) struct Embedded {
    connector: SharedHttpConnector,
    endpoint: String,
    secret: ClusterSecret<Token>,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct BucketList {
    buckets: Vec<BucketRow>,
}

#[derive(Deserialize)]
struct BucketRow {
    name: String,
    created_at: Timestamp,
    stored_bytes: u64,
    objects: u64,
    noncurrent_bytes: u64,
    multipart_bytes: u64,
    #[serde(default)]
    owner: Option<String>,
}

impl BucketRow {
    fn into_bucket(self) -> Bucket {
        Bucket {
            name: self.name.into(),
            created_at: self.created_at,
            stored_bytes: self.stored_bytes,
            objects: self.objects,
            noncurrent_bytes: Some(self.noncurrent_bytes),
            multipart_bytes: Some(self.multipart_bytes),
        }
    }
}

#[derive(Deserialize)]
struct Purged {
    deleted: u64,
    bytes: u64,
    empty: bool,
    #[serde(default)]
    locked: Option<Locked>,
}

/// A version that may not be deleted yet.
#[derive(Deserialize)]
struct Locked {
    key: String,
    version_id: String,
    until: Timestamp,
}

#[derive(Deserialize)]
struct Usage {
    entries: Vec<UsageEntry>,
}

#[derive(Deserialize)]
struct UsageEntry {
    uid: String,
    bucket: String,
    hour: Timestamp,
    bytes_sent: u64,
    bytes_received: u64,
    requests: u64,
    /// A cluster of an earlier version does not tell.
    #[serde(default)]
    requests_by_class: Option<RequestClasses>,
}

/// Where a user is.
fn user_path(s3uid: &S3Uid) -> String {
    format!("/users/{}", segment(s3uid.as_str()))
}

impl Embedded {
    pub(super) fn new(location: &Location, outside: &Outside<'_>, secrets: &Secrets) -> Embedded {
        Embedded {
            connector: outside.clusters.clone(),
            endpoint: location.admin_endpoint.trim_end_matches('/').to_owned(),
            secret: ClusterSecret::new(secrets, location, Token::FORM),
        }
    }

    /// One call; tried again while the cluster cannot answer, since every call may be repeated.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ClusterError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = repeated(|| {
            self.secret
                .authorize(|secret| self.call_once(method, path, body.clone(), secret))
        })
        .await?;
        serde_json::from_slice(&answer)
            .map_err(|e| ClusterError::Unavailable(format!("{method} {path}: {e}")))
    }

    async fn call_once(
        &self,
        method: &str,
        path: &str,
        body: String,
        secret: Arc<Token>,
    ) -> Result<Vec<u8>, ClusterError> {
        let unavailable =
            |problem: String| ClusterError::Unavailable(format!("{method} {path}: {problem}"));
        let uri = format!("{}/_admin/v1{path}", self.endpoint);
        let answer = send_json(&self.connector, method, &uri, &secret.token, body).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(refusal) if answer.status == StatusCode::UNAUTHORIZED => {
                Err(ClusterError::NoAccess(refusal.message))
            }
            Ok(refusal) if answer.status.is_client_error() => Err(ClusterError::Refused {
                code: refusal.code,
                message: refusal.message,
            }),
            _ => Err(unavailable(format!("HTTP {}", answer.status.as_u16()))),
        }
    }

    async fn check_owner(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        let row: BucketRow = self
            .call("GET", &format!("/buckets/{}", segment(bucket_name)), None)
            .await?;
        if row.owner.as_deref() == Some(s3uid.as_str()) {
            return Ok(());
        }
        Err(ClusterError::Refused {
            code: "NoSuchBucket".into(),
            message: "The specified bucket does not exist".into(),
        })
    }
}

#[async_trait]
impl StorageProvider for Embedded {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            traffic: true,
            versions: true,
        }
    }

    async fn create_user(
        &self,
        s3uid: &S3Uid,
        keys: &Keys,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        let body = json!({
            "display_name": s3uid,
            "access_key": keys.access_key,
            "secret_key": keys.secret_key.expose_secret(),
            "quota_bytes": storage_limit_bytes,
        });
        self.call::<Value>("PUT", &user_path(s3uid), Some(&body))
            .await?;
        Ok(())
    }

    async fn delete_user(&self, s3uid: &S3Uid) -> Result<(), ClusterError> {
        match self.call::<Value>("DELETE", &user_path(s3uid), None).await {
            Err(error) if !error.is("NoSuchUser") => Err(error),
            _ => Ok(()),
        }
    }

    async fn set_storage_limit(
        &self,
        s3uid: &S3Uid,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        let body = json!({ "quota_bytes": storage_limit_bytes });
        self.call::<Value>("PATCH", &user_path(s3uid), Some(&body))
            .await?;
        Ok(())
    }

    async fn add_key(&self, s3uid: &S3Uid, keys: &Keys) -> Result<(), ClusterError> {
        let body = json!({ "secret_key": keys.secret_key.expose_secret() });
        let path = format!("{}/keys/{}", user_path(s3uid), segment(&keys.access_key));
        self.call::<Value>("PUT", &path, Some(&body)).await?;
        Ok(())
    }

    async fn remove_key(&self, s3uid: &S3Uid, access_key: &str) -> Result<(), ClusterError> {
        let path = format!("{}/keys/{}", user_path(s3uid), segment(access_key));
        self.call::<Value>("DELETE", &path, None).await?;
        Ok(())
    }

    async fn set_suspended(&self, s3uid: &S3Uid, is_suspended: bool) -> Result<(), ClusterError> {
        let body = json!({ "suspended": is_suspended });
        self.call::<Value>("PATCH", &user_path(s3uid), Some(&body))
            .await?;
        Ok(())
    }

    async fn create_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        let path = format!("{}/buckets/{}", user_path(s3uid), segment(bucket_name));
        self.call::<Value>("PUT", &path, None).await?;
        Ok(())
    }

    async fn delete_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        self.check_owner(s3uid, bucket_name).await?;
        self.call::<Value>(
            "DELETE",
            &format!("/buckets/{}", segment(bucket_name)),
            None,
        )
        .await?;
        Ok(())
    }

    async fn buckets(&self, s3uid: &S3Uid) -> Result<Vec<Bucket>, ClusterError> {
        let list: BucketList = self
            .call("GET", &format!("{}/buckets", user_path(s3uid)), None)
            .await?;
        Ok(list
            .buckets
            .into_iter()
            .map(BucketRow::into_bucket)
            .collect())
    }

    async fn buckets_of(&self, s3uids: &[&S3Uid]) -> Result<Vec<(S3Uid, Bucket)>, ClusterError> {
        let mut buckets = Vec::new();
        for uids in s3uids.chunks(UIDS_AT_ONCE) {
            let list: BucketList = self
                .call("POST", "/stats", Some(&json!({ "uids": uids })))
                .await?;
            buckets.extend(list.buckets.into_iter().filter_map(|mut row| {
                let owner = row.owner.take()?;
                Some((S3Uid(owner), row.into_bucket()))
            }));
        }
        Ok(buckets)
    }

    async fn purge_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
        max_entries: u32,
    ) -> Result<PurgeStep, ClusterError> {
        self.check_owner(s3uid, bucket_name).await?;
        let body = json!({ "max_entries": max_entries });
        let path = format!("/buckets/{}/purge", segment(bucket_name));
        let purged: Purged = self.call("POST", &path, Some(&body)).await?;
        Ok(PurgeStep {
            entries_removed: purged.deleted,
            bytes_removed: purged.bytes,
            is_empty: purged.empty,
            obstacle: purged.locked.map(|locked| {
                ClusterError::Locked(LockedObject {
                    bucket_name: bucket_name.to_owned(),
                    key: locked.key,
                    version_id: Some(locked.version_id),
                    until: Some(locked.until),
                })
            }),
        })
    }

    async fn traffic(
        &self,
        s3uids: &[&S3Uid],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<TrafficHour>, ClusterError> {
        let mut hours = Vec::new();
        for uids in s3uids.chunks(UIDS_AT_ONCE) {
            let body = json!({ "from": from, "to": to, "uids": uids });
            let usage: Usage = self.call("POST", "/usage", Some(&body)).await?;
            hours.extend(usage.entries.into_iter().map(|entry| TrafficHour {
                s3uid: S3Uid(entry.uid),
                bucket_name: entry.bucket.into(),
                hour: entry.hour,
                bytes_sent: entry.bytes_sent,
                bytes_received: entry.bytes_received,
                requests: entry.requests,
                classes: entry.requests_by_class,
            }));
        }
        Ok(hours)
    }

    async fn forget_traffic(&self, s3uid: &S3Uid) -> Result<(), ClusterError> {
        self.call::<Value>("DELETE", &format!("{}/usage", user_path(s3uid)), None)
            .await?;
        Ok(())
    }
}
