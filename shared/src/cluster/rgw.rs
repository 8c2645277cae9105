//! Ceph RGW: the Admin Ops API under `/admin`, and S3 where that has no call for it. Written against 16.2 and 18.2.
//!
//! Where RGW may surprise:
//! - No call creates a bucket for another user. Buckets are created over S3 with the account's own keys, which the Admin Ops API returns.
//! - Only a *system* user can open a suspended account's buckets, so the administrator must be one. Its S3 requests are in nobody's usage.
//! - A user that still has buckets is refused with `BucketAlreadyExists`. A key that is not there is refused with 403 by 16.2, and with 400
//!   by 18.2. An access key that the user has already gets another secret without a word. A bucket with unfinished uploads alone counts as
//!   empty and is removed with them. An unknown user has no buckets, and no usage.
//! - **A date that cannot be read is no error**: then 16.2 tells, or removes, the usage of all times. So dates are written here and nowhere
//!   else, and what is outside of the hours that were asked for is dropped. Without a uid 16.2 removes everybody's usage.
//! - Concurrent writes to one user's record may answer 500 `UnknownError`, and succeed when retried.
//! - 16.2 writes some truth values as strings, 18.2 as truth values: none of those is read here.
//! - A quota counts every object in full 4 KiB, unless `check_on_raw` is set, for which only the body of the request has a place.
//! - Statistics count old versions and parts of unfinished uploads as objects, and do not report their bytes separately.
//! - A secret key travels in the query, so the gateway's access log has it (`docs/ceph-rgw.md`).
//!
//! # What an account's traffic is
//!
//! All that RGW counts under its user: requests to its buckets whoever sends them, with keys, presigned or anonymous, refused ones too; and
//! what belongs to no bucket. That stands under `""` (listing the buckets) and `-` (no such object), and is told here as one bucket without
//! a name. Usage is written in the background, half a minute late at the defaults: an hour is collected five minutes after its end. Requests
//! of nobody that lead nowhere stand under a user `anonymous`, which is no account. Its categories are names of operations: [`class_of`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    Delete, EncodingType, MultipartUpload, ObjectIdentifier, ObjectLockLegalHoldStatus,
};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_async::time::{SystemTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::files::{decode, refusal, s3_client};
use super::secrets::{ClusterSecret, Secrets, visible};
use super::{Bucket, Capabilities, ClusterError, Keys, PurgeStep, StorageProvider, doubt};
use crate::config::Location;
use crate::domain::account::S3Uid;
use crate::domain::bucket_name::BucketName;
use crate::domain::task::LockedObject;
use crate::domain::usage::{RequestClass, RequestClasses, TrafficHour};
use crate::outside::Outside;

/// Bounds every call, its answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one account or bucket.
const ANSWER_MAX_BYTES: usize = 16 << 20;
/// Calls at once to one cluster, where many are needed.
const CALLS_AT_ONCE: usize = 8;
/// Accounts from which on the question about everybody is tried.
const MANY_ACCOUNTS: usize = 8;
/// What an answer about everybody may take, per account asked for. Measured on 16.2: an account takes 0.3 ms and 1.3 kB of an answer about
/// everybody's usage, and 3.5 ms when asked for alone (buckets: 1.0 ms and 1.6 kB, against 9 ms). So asking about everybody pays until the
/// cluster has some ten times as many users as are asked for.
const EVERYBODY_BYTES_PER_ACCOUNT: usize = 16 << 10;
/// What a listing shows and a removal takes at most.
const LIST_AT_ONCE: u32 = 1_000;
/// Objects removed by one call: RGW removes them one after the other while the caller waits.
const DELETE_AT_ONCE: usize = 100;

/// What a key is refused with that is not there.
const NO_SUCH_KEY: &str = "InvalidAccessKeyId";

/// In a query, what SigV4 leaves as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The keys of the cluster's administrator, as the location's secret has them.
#[derive(Deserialize)]
struct AdminKeys {
    access_key: String,
    #[serde(deserialize_with = "visible")]
    secret_key: SecretString,
}

impl AdminKeys {
    /// Their form in words.
    const FORM: &'static str = r#"{"access_key": "…", "secret_key": "…"}"#;
}

pub(super) struct Rgw {
    connector: SharedHttpConnector,
    http: SharedHttpClient,
    location: Location,
    admin_endpoint: String,
    secret: ClusterSecret<AdminKeys>,
    /// Accounts from which on the question about everybody is known to pay, or not yet known not to.
    everybody_from: AtomicUsize,
}

/// Why a single try of a call brought nothing.
enum Failure {
    Cluster(ClusterError),
    /// The answer is larger than it may be, or takes longer.
    TooMuch,
    /// RGW came upon something that it has no code for, as when others write the same user's record at that moment; which call that was.
    Unknown(String),
}

impl From<Failure> for ClusterError {
    fn from(failure: Failure) -> ClusterError {
        match failure {
            Failure::Cluster(error) => error,
            Failure::TooMuch => {
                ClusterError::Unavailable("the answer is too large, or takes too long".into())
            }
            Failure::Unknown(call) => ClusterError::Unavailable(format!("{call}: UnknownError")),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    code: String,
}

#[derive(Deserialize)]
struct User {
    keys: Vec<UserKey>,
    user_quota: Quota,
}

#[derive(Deserialize)]
struct UserKey {
    access_key: String,
    secret_key: SecretString,
}

#[derive(Deserialize)]
struct Quota {
    enabled: bool,
}

#[derive(Deserialize)]
struct BucketStats {
    bucket: String,
    owner: String,
    creation_time: Timestamp,
    /// By category; empty for a bucket that never had anything.
    #[serde(default)]
    usage: HashMap<String, CategoryStats>,
}

#[derive(Deserialize, Clone, Copy)]
struct CategoryStats {
    #[serde(default)]
    size: u64,
    #[serde(default)]
    num_objects: u64,
}

impl BucketStats {
    /// The category of unfinished uploads; their parts are with the objects.
    const UPLOADS: &'static str = "rgw.multimeta";

    fn unfinished_uploads(&self) -> u64 {
        self.usage.get(Self::UPLOADS).map_or(0, |u| u.num_objects)
    }

    fn into_bucket(self) -> Bucket {
        let objects = self
            .usage
            .iter()
            .filter(|(category, _)| *category != Self::UPLOADS);
        Bucket {
            name: self.bucket.into(),
            created_at: self.creation_time,
            stored_bytes: self.usage.values().map(|category| category.size).sum(),
            objects: objects.map(|(_, category)| category.num_objects).sum(),
            noncurrent_bytes: None,
            multipart_bytes: None,
        }
    }
}

#[derive(Deserialize, Default)]
struct Usage {
    #[serde(default)]
    entries: Vec<UsageEntry>,
}

#[derive(Deserialize)]
struct UsageEntry {
    user: String,
    buckets: Vec<UsageBucket>,
}

#[derive(Deserialize)]
struct UsageBucket {
    bucket: String,
    /// The start of the hour, in seconds since 1970.
    epoch: i64,
    categories: Vec<UsageCategory>,
}

#[derive(Deserialize)]
struct UsageCategory {
    #[serde(default)]
    category: String,
    bytes_sent: u64,
    bytes_received: u64,
    ops: u64,
}

/// A query of the Admin Ops API, by name and value.
type Query<'a> = &'a [(&'a str, &'a str)];

impl Rgw {
    pub(super) fn new(location: &Location, outside: &Outside<'_>, secrets: &Secrets) -> Rgw {
        Rgw {
            connector: outside.clusters.clone(),
            http: outside.cluster_http(),
            admin_endpoint: location.admin_endpoint.trim_end_matches('/').to_owned(),
            location: location.clone(),
            secret: ClusterSecret::new(secrets, location, AdminKeys::FORM),
            everybody_from: AtomicUsize::new(MANY_ACCOUNTS),
        }
    }

    /// One call; tried again while the cluster cannot answer, since every call may be repeated.
    async fn call(
        &self,
        method: &str,
        resource: &str,
        query: Query<'_>,
    ) -> Result<Vec<u8>, ClusterError> {
        self.bounded_call(method, resource, query, None, ANSWER_MAX_BYTES)
            .await
            .map_err(ClusterError::from)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        resource: &str,
        query: Query<'_>,
    ) -> Result<T, ClusterError> {
        parse(resource, &self.call("GET", resource, query).await?)
    }

    async fn bounded_call(
        &self,
        method: &str,
        resource: &str,
        query: Query<'_>,
        body: Option<&Value>,
        max_bytes: usize,
    ) -> Result<Vec<u8>, Failure> {
        let once = || self.call_once(method, resource, query, body, max_bytes);
        let attempt = || async {
            let attempts = once
                .retry(
                    ConstantBuilder::default()
                        .with_jitter()
                        .with_delay(Duration::from_millis(20))
                        .with_max_times(5),
                )
                .when(|failure| matches!(failure, Failure::Unknown(_)));
            tokio::time::timeout(CALL_TIMEOUT, attempts)
                .await
                .unwrap_or_else(|_| {
                    doubt::unanswered(method);
                    Err(Failure::TooMuch)
                })
        };
        attempt
            .retry(
                ExponentialBuilder::default()
                    .with_jitter()
                    .with_min_delay(Duration::from_millis(50))
                    .with_max_times(2),
            )
            .when(|failure| matches!(failure, Failure::Cluster(ClusterError::Unavailable(_))))
            .await
    }

    async fn call_once(
        &self,
        method: &str,
        resource: &str,
        query: Query<'_>,
        body: Option<&Value>,
        max_bytes: usize,
    ) -> Result<Vec<u8>, Failure> {
        let answer = self.secret.authorize(|keys| async move {
            match self
                .call_with(&keys, method, resource, query, body, max_bytes)
                .await
            {
                Err(Failure::Cluster(error)) => Err(error),
                answer => Ok(answer),
            }
        });
        answer.await.map_err(Failure::Cluster)?
    }

    async fn call_with(
        &self,
        keys: &AdminKeys,
        method: &str,
        resource: &str,
        query: Query<'_>,
        body: Option<&Value>,
        max_bytes: usize,
    ) -> Result<Vec<u8>, Failure> {
        // The query may hold a secret: it is not told.
        let unavailable = |problem: String| {
            Failure::Cluster(ClusterError::Unavailable(format!(
                "{method} {resource}: {problem}"
            )))
        };
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| {
                let value = utf8_percent_encode(value, QUERY);
                format!("{}={value}", utf8_percent_encode(name, QUERY))
            })
            .collect();
        let mut request = ::http::Request::builder()
            .method(method)
            .uri(format!(
                "{}/admin/{resource}?{}",
                self.admin_endpoint,
                query.join("&")
            ))
            .body(body.map_or_else(SdkBody::empty, |body| SdkBody::from(body.to_string())))
            .map_err(|_| unavailable("no request can be made of it".into()))?;
        // Signatures carry the real time, as the SDK's do: the cluster compares it with its own.
        let now = SystemTimeSource::new().now();
        sign_request(&mut request, keys, &self.location.s3_region, now)
            .map_err(|_| unavailable("it cannot be signed".into()))?;
        let request = HttpRequest::try_from(request)
            .map_err(|_| unavailable("no request can be made of it".into()))?;
        let unanswered = |problem: String| {
            doubt::unanswered(method);
            unavailable(problem)
        };
        let response = self
            .connector
            .call(request)
            .await
            .map_err(|e| unanswered(format!("{e:?}")))?;
        let status = response.status();
        let mut stream = ByteStream::new(response.into_body());
        let mut body = Vec::new();
        while let Some(bytes) = stream
            .try_next()
            .await
            .map_err(|e| unanswered(e.to_string()))?
        {
            if body.len() + bytes.len() > max_bytes {
                return Err(Failure::TooMuch);
            }
            body.extend_from_slice(&bytes);
        }
        if status.is_success() {
            return Ok(body);
        }
        let code = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.code);
        match (status.as_u16(), code) {
            // The key that is to go may be meant, or the administrator's: whoever asked looks.
            (403, Ok(code)) if method == "DELETE" && code == NO_SUCH_KEY => {
                Err(Failure::Cluster(refused(&code)))
            }
            // Not the account is refused, but the administrator: his keys, his clock or what he may do.
            (401 | 403, Ok(code)) => Err(Failure::Cluster(ClusterError::NoAccess(format!(
                "{method} {resource}: the administrator is refused: {code}"
            )))),
            (400 | 404 | 409, Ok(code)) => Err(Failure::Cluster(refused(&code))),
            (500, Ok(code)) if code == "UnknownError" => {
                Err(Failure::Unknown(format!("{method} {resource}")))
            }
            (status @ 500.., _) => Err(unanswered(format!("HTTP {status}"))),
            (status, _) => Err(unavailable(format!("HTTP {status}"))),
        }
    }

    async fn user(&self, s3uid: &S3Uid) -> Result<User, ClusterError> {
        self.ask("user", &[("uid", s3uid.as_str())]).await
    }

    async fn enable_quota(
        &self,
        s3uid: &S3Uid,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        let quota = json!({
            "enabled": storage_limit_bytes.is_some(),
            "max_size": storage_limit_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            "max_objects": -1,
            "check_on_raw": true,
        });
        let query = [
            ("quota", ""),
            ("quota-type", "user"),
            ("uid", s3uid.as_str()),
        ];
        self.bounded_call("PUT", "user", &query, Some(&quota), ANSWER_MAX_BYTES)
            .await?;
        Ok(())
    }

    /// A bucket of this account; anybody else's is none.
    async fn own_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<BucketStats, ClusterError> {
        let bucket: BucketStats = self.ask("bucket", &[("bucket", bucket_name)]).await?;
        if bucket.owner == s3uid.as_str() {
            return Ok(bucket);
        }
        Err(refused("NoSuchBucket"))
    }

    /// Asks for several accounts: in one question about everybody where that pays, else in one for each. `uid` joins the query of each.
    async fn of_several<T, I>(
        &self,
        resource: &str,
        query: Query<'_>,
        s3uids: &[&S3Uid],
        keep: impl Fn(T) -> Vec<I>,
    ) -> Result<Vec<I>, ClusterError>
    where
        T: DeserializeOwned,
    {
        if s3uids.len() >= self.everybody_from.load(Ordering::Relaxed) {
            let max_bytes = s3uids.len() * EVERYBODY_BYTES_PER_ACCOUNT;
            match self
                .bounded_call("GET", resource, query, None, max_bytes)
                .await
            {
                Ok(answer) => return Ok(keep(parse(resource, &answer)?)),
                Err(Failure::TooMuch) => {
                    // Too many strangers. Only shards that are much larger try again.
                    self.everybody_from
                        .fetch_max(s3uids.len().saturating_mul(2), Ordering::Relaxed);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let keep = &keep;
        let calls: Vec<_> = s3uids
            .iter()
            .map(|s3uid| async move {
                let mut query = query.to_vec();
                query.push(("uid", s3uid.as_str()));
                self.ask(resource, &query).await.map(keep)
            })
            .collect();
        let answers: Vec<Vec<I>> = stream::iter(calls)
            .buffer_unordered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Removes these versions; of each its bytes, or why it was not removed.
    async fn remove_versions(
        &self,
        s3: &Client,
        bucket_name: &BucketName,
        versions: Vec<Version>,
    ) -> Vec<Result<u64, ClusterError>> {
        // XML has no way to write some characters: those keys go into a path, one by one.
        let (in_xml, in_path): (Vec<Version>, Vec<Version>) = versions
            .into_iter()
            .partition(|version| version.key.chars().all(is_in_xml));
        let together: Vec<_> = in_xml
            .chunks(DELETE_AT_ONCE)
            .map(|chunk| remove_together(s3, bucket_name, chunk))
            .collect();
        let alone: Vec<_> = in_path
            .iter()
            .map(|version| remove_alone(s3, bucket_name, version))
            .collect();
        let mut removals: Vec<Result<u64, ClusterError>> = stream::iter(together)
            .buffer_unordered(CALLS_AT_ONCE)
            .flat_map(stream::iter)
            .collect()
            .await;
        let mut alone: Vec<_> = stream::iter(alone)
            .buffer_unordered(CALLS_AT_ONCE)
            .collect()
            .await;
        removals.append(&mut alone);
        removals
    }
}

/// One version of an object, or one delete marker.
struct Version {
    key: String,
    id: String,
    bytes: u64,
}

/// Where a list of versions goes on.
type Marker = Option<(Option<String>, Option<String>)>;

/// A page of a bucket's versions, and where the next one begins.
async fn versions(
    s3: &Client,
    bucket_name: &BucketName,
    after: Marker,
    limit: u32,
) -> Result<(Vec<Version>, Marker), ClusterError> {
    let (key_marker, version_id_marker) = after.unwrap_or_default();
    let page = s3
        .list_object_versions()
        .bucket(bucket_name)
        .set_key_marker(key_marker)
        .set_version_id_marker(version_id_marker)
        .max_keys(i32::try_from(limit).unwrap_or(i32::MAX))
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .map_err(by_the_administrator)?;
    let version = |key: Option<String>, id: Option<String>, bytes: Option<i64>| Version {
        key: decode(&key.unwrap_or_default()),
        id: id.unwrap_or_else(|| "null".into()),
        bytes: bytes.and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
    };
    let next = page.is_truncated.unwrap_or(false).then(|| {
        let key = page.next_key_marker.as_deref().map(decode);
        (key, page.next_version_id_marker.clone())
    });
    let data = page.versions.unwrap_or_default().into_iter();
    let markers = page.delete_markers.unwrap_or_default().into_iter();
    let all = data
        .map(|v| version(v.key, v.version_id, v.size))
        .chain(markers.map(|m| version(m.key, m.version_id, None)))
        .collect();
    Ok((all, next))
}

/// Removes these versions by one call; of each its bytes, or why it was not removed.
async fn remove_together(
    s3: &Client,
    bucket_name: &BucketName,
    versions: &[Version],
) -> Vec<Result<u64, ClusterError>> {
    let answer = async {
        let mut delete = Delete::builder().quiet(true);
        for version in versions {
            let object = ObjectIdentifier::builder()
                .key(&version.key)
                .version_id(&version.id)
                .build()
                .map_err(|e| ClusterError::Unavailable(e.to_string()))?;
            delete = delete.objects(object);
        }
        let delete = delete
            .build()
            .map_err(|e| ClusterError::Unavailable(e.to_string()))?;
        s3.delete_objects()
            .bucket(bucket_name)
            .delete(delete)
            .send()
            .await
            .map_err(by_the_administrator)
    };
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) => return vec![Err(error)],
    };
    let mut removals = Vec::new();
    for version in versions {
        // 16.2 does not name the version.
        let error = answer.errors().iter().find(|error| {
            let is_version = |id: &str| id.is_empty() || id == version.id;
            error.key() == Some(&version.key) && error.version_id().is_none_or(is_version)
        });
        removals.push(match error {
            None => Ok(version.bytes),
            Some(error) => Err(match error.code().unwrap_or("InternalError") {
                code @ ("InternalError" | "ServiceUnavailable" | "SlowDown") => {
                    ClusterError::Unavailable(format!("an object was not removed: {code}"))
                }
                "AccessDenied" => locked(s3, bucket_name, version).await,
                code => refused(code),
            }),
        });
    }
    // One that was not asked for: what is left is told all the same, and the next try begins with it.
    if let (true, Some(error)) = (removals.iter().all(Result::is_ok), answer.errors().first()) {
        return vec![Err(refused(error.code().unwrap_or("InternalError")))];
    }
    removals
}

async fn remove_alone(
    s3: &Client,
    bucket_name: &BucketName,
    version: &Version,
) -> Result<u64, ClusterError> {
    let removed = s3
        .delete_object()
        .bucket(bucket_name)
        .key(&version.key)
        .version_id(&version.id)
        .send()
        .await;
    match removed.map_err(refusal) {
        Ok(_) => Ok(version.bytes),
        Err(error) if error.is("AccessDenied") => Err(locked(s3, bucket_name, version).await),
        Err(error) => Err(of_the_administrator(error)),
    }
}

/// Why the administrator may not remove a version: as a rule it is locked.
async fn locked(s3: &Client, bucket_name: &BucketName, version: &Version) -> ClusterError {
    let retention = s3
        .get_object_retention()
        .bucket(bucket_name)
        .key(&version.key)
        .version_id(&version.id)
        .send();
    let hold = s3
        .get_object_legal_hold()
        .bucket(bucket_name)
        .key(&version.key)
        .version_id(&version.id)
        .send();
    let (retention, hold) = futures::join!(retention, hold);
    let is_held = hold.is_ok_and(|hold| {
        let status = hold.legal_hold.and_then(|hold| hold.status);
        status == Some(ObjectLockLegalHoldStatus::On)
    });
    let until = retention.ok().and_then(|retention| {
        let until = retention.retention?.retain_until_date?;
        Timestamp::from_second(until.secs()).ok()
    });
    if !is_held && until.is_none() {
        return of_the_administrator(refused("AccessDenied"));
    }
    ClusterError::Locked(LockedObject {
        bucket_name: bucket_name.to_owned(),
        key: version.key.clone(),
        version_id: Some(version.id.clone()),
        until: until.filter(|_| !is_held),
    })
}

/// A page of a bucket's unfinished uploads from the beginning, and whether it is all there is.
async fn uploads(
    s3: &Client,
    bucket_name: &BucketName,
    limit: u32,
) -> Result<(Vec<MultipartUpload>, bool), ClusterError> {
    let page = s3
        .list_multipart_uploads()
        .bucket(bucket_name)
        .max_uploads(i32::try_from(limit).unwrap_or(i32::MAX))
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .map_err(by_the_administrator)?;
    let is_all = !page.is_truncated.unwrap_or(false);
    Ok((page.uploads.unwrap_or_default(), is_all))
}

/// Aborts an upload; its bytes.
async fn abort(
    s3: &Client,
    bucket_name: &BucketName,
    upload: MultipartUpload,
) -> Result<u64, ClusterError> {
    // RGW encodes the keys as asked, without saying so.
    let key = decode(upload.key().unwrap_or_default());
    let id = upload.upload_id().unwrap_or_default();
    let mut parts = s3
        .list_parts()
        .bucket(bucket_name)
        .key(&key)
        .upload_id(id)
        .into_paginator()
        .items()
        .send();
    let mut bytes = 0;
    while let Some(part) = parts.next().await {
        match part.map_err(by_the_administrator) {
            Ok(part) => bytes += part.size.and_then(|b| u64::try_from(b).ok()).unwrap_or(0),
            Err(error) if error.is("NoSuchUpload") => return Ok(bytes),
            Err(error) => return Err(error),
        }
    }
    match s3
        .abort_multipart_upload()
        .bucket(bucket_name)
        .key(&key)
        .upload_id(id)
        .send()
        .await
        .map_err(by_the_administrator)
    {
        Err(error) if !error.is("NoSuchUpload") => Err(error),
        _ => Ok(bytes),
    }
}

/// What S3 answers to the administrator. That he may not is nothing that concerns an account.
fn by_the_administrator<E, R>(error: aws_sdk_s3::error::SdkError<E, R>) -> ClusterError
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    of_the_administrator(refusal(error))
}

fn of_the_administrator(error: ClusterError) -> ClusterError {
    match error {
        ClusterError::Refused { code, .. }
            if matches!(
                code.as_str(),
                "AccessDenied" | "UserSuspended" | "InvalidAccessKeyId" | "SignatureDoesNotMatch"
            ) =>
        {
            ClusterError::Unavailable(format!(
                "the administrator is refused over S3, is it a system user? {code}"
            ))
        }
        error => error,
    }
}

fn is_in_xml(character: char) -> bool {
    !matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

/// RGW refuses with a code alone: here are the words.
fn refused(code: &str) -> ClusterError {
    let message = match code {
        "BucketAlreadyExists" => "The requested bucket name is not available",
        "BucketNotEmpty" => "The bucket you tried to delete is not empty",
        "KeyExists" => "The access key is taken, or has another secret",
        "NoSuchBucket" => "The specified bucket does not exist",
        "NoSuchUser" => "The user does not exist",
        "UserAlreadyExists" => "The user exists, with other keys",
        "UserNotEmpty" => "The user has buckets",
        code => code,
    };
    ClusterError::Refused {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn parse<T: DeserializeOwned>(resource: &str, answer: &[u8]) -> Result<T, ClusterError> {
    // Only the place of the mistake is told: the text may hold a secret key.
    serde_json::from_slice(answer).map_err(|e| {
        ClusterError::Unavailable(format!(
            "{resource}: the answer cannot be read (line {}, column {})",
            e.line(),
            e.column()
        ))
    })
}

fn sign_request(
    request: &mut ::http::Request<SdkBody>,
    keys: &AdminKeys,
    region: &str,
    at: SystemTime,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let identity: Identity = Credentials::new(
        &keys.access_key,
        keys.secret_key.expose_secret(),
        None,
        None,
        "rgw",
    )
    .into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(at)
        .settings(settings)
        .build()?
        .into();
    let uri = request.uri().to_string();
    let body = match request.body().bytes() {
        Some([]) => SignableBody::Bytes(&[]),
        // RGW does not implement a signature over the body here, and answers with 501.
        _ => SignableBody::UnsignedPayload,
    };
    let signable = SignableRequest::new(request.method().as_str(), uri, std::iter::empty(), body)?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}

/// A time as the usage log takes it, UTC.
fn usage_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// What a category of the usage log did. Looking at an object (HEAD) has the category of reading it.
fn class_of(category: &str) -> RequestClass {
    match category {
        "get_obj" | "stat_obj" => RequestClass::Get,
        "put_obj" | "post_obj" | "copy_obj" | "append_obj" | "bulk_upload" | "init_multipart"
        | "complete_multipart" => RequestClass::Put,
        "list_buckets" | "list_bucket" | "list_bucket_multiparts" | "list_multipart" => {
            RequestClass::List
        }
        "delete_obj" | "multi_object_delete" | "bulk_delete" | "abort_multipart" => {
            RequestClass::Delete
        }
        // Buckets made, removed and looked at, their settings and those of objects, and what a later version may tell apart.
        _ => RequestClass::Other,
    }
}

/// What an answer says of these accounts in these hours, per bucket.
fn traffic_of(
    usage: Usage,
    s3uids: &HashSet<&str>,
    from: Timestamp,
    to: Timestamp,
) -> Vec<TrafficHour> {
    let mut hours: BTreeMap<(String, String, Timestamp), TrafficHour> = BTreeMap::new();
    for entry in usage.entries {
        if !s3uids.contains(entry.user.as_str()) {
            continue;
        }
        for row in entry.buckets {
            let Ok(hour) = Timestamp::from_second(row.epoch) else {
                continue;
            };
            if hour < from || hour >= to {
                continue;
            }
            let bucket_name = match row.bucket.as_str() {
                "-" => String::new(),
                name => name.to_owned(),
            };
            let total = hours
                .entry((entry.user.clone(), bucket_name.clone(), hour))
                .or_insert_with(|| TrafficHour {
                    s3uid: S3Uid(entry.user.clone()),
                    bucket_name: bucket_name.into(),
                    hour,
                    bytes_sent: 0,
                    bytes_received: 0,
                    requests: 0,
                    classes: Some(RequestClasses::default()),
                });
            for category in row.categories {
                if let Some(classes) = &mut total.classes {
                    classes.add(class_of(&category.category), category.ops);
                }
                total.bytes_sent += category.bytes_sent;
                total.bytes_received += category.bytes_received;
                total.requests += category.ops;
            }
        }
    }
    hours.into_values().collect()
}

#[async_trait]
impl StorageProvider for Rgw {
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
        let query = [
            ("uid", s3uid.as_str()),
            ("display-name", s3uid.as_str()),
            ("access-key", keys.access_key.as_str()),
            ("secret-key", keys.secret_key.expose_secret()),
        ];
        let has_quota = match self.call("PUT", "user", &query).await {
            Ok(_) => false,
            Err(error) if error.is("UserAlreadyExists") || error.is("KeyExists") => {
                let user = match self.user(s3uid).await {
                    Err(missing) if missing.is("NoSuchUser") => return Err(error),
                    user => user?,
                };
                if !user.keys.iter().any(|key| key.is(keys)) {
                    return Err(error);
                }
                // A retry changes nothing, not even what was changed since.
                user.user_quota.enabled
            }
            Err(error) => return Err(error),
        };
        if storage_limit_bytes.is_some() && !has_quota {
            self.enable_quota(s3uid, storage_limit_bytes).await?;
        }
        Ok(())
    }

    async fn set_storage_limit(
        &self,
        s3uid: &S3Uid,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        if storage_limit_bytes.is_some() {
            // The quota is compared with the user's statistics, which stand still until they are brought up to date.
            let query = [("uid", s3uid.as_str()), ("stats", "True"), ("sync", "True")];
            self.call("GET", "user", &query).await?;
        }
        self.enable_quota(s3uid, storage_limit_bytes).await
    }

    async fn add_key(&self, s3uid: &S3Uid, keys: &Keys) -> Result<(), ClusterError> {
        let user = self.user(s3uid).await?;
        if let Some(key) = user.keys.iter().find(|k| k.access_key == keys.access_key) {
            return if key.is(keys) {
                Ok(())
            } else {
                Err(refused("KeyExists"))
            };
        }
        let query = [
            ("key", ""),
            ("uid", s3uid.as_str()),
            ("access-key", keys.access_key.as_str()),
            ("secret-key", keys.secret_key.expose_secret()),
        ];
        self.call("PUT", "user", &query).await?;
        Ok(())
    }

    async fn remove_key(&self, s3uid: &S3Uid, access_key: &str) -> Result<(), ClusterError> {
        let user = match self.user(s3uid).await {
            Err(error) if error.is("NoSuchUser") => return Ok(()),
            user => user?,
        };
        // Asked to remove a key that is not there, each version refuses in its own way, and 16.2 as it would refuse the administrator.
        if !user.keys.iter().any(|key| key.access_key == access_key) {
            return Ok(());
        }
        let query = [
            ("key", ""),
            ("uid", s3uid.as_str()),
            ("access-key", access_key),
        ];
        let Err(error) = self.call("DELETE", "user", &query).await else {
            return Ok(());
        };
        if !matches!(error, ClusterError::Refused { .. }) {
            return Err(error);
        }
        // Somebody else was quicker, or a try whose answer was lost.
        match self.user(s3uid).await {
            Err(missing) if missing.is("NoSuchUser") => Ok(()),
            Ok(user) if user.keys.iter().all(|key| key.access_key != access_key) => Ok(()),
            Ok(_) => Err(error),
            Err(error) => Err(error),
        }
    }

    async fn delete_user(&self, s3uid: &S3Uid) -> Result<(), ClusterError> {
        match self
            .call("DELETE", "user", &[("uid", s3uid.as_str())])
            .await
        {
            Err(error) if error.is("NoSuchUser") => Ok(()),
            Err(error) if error.is("BucketAlreadyExists") => Err(refused("UserNotEmpty")),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    async fn set_suspended(&self, s3uid: &S3Uid, is_suspended: bool) -> Result<(), ClusterError> {
        let suspended = if is_suspended { "1" } else { "0" };
        self.call(
            "POST",
            "user",
            &[("uid", s3uid.as_str()), ("suspended", suspended)],
        )
        .await?;
        Ok(())
    }

    async fn create_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        let user = self.user(s3uid).await?;
        let Some(key) = user.keys.first() else {
            return Err(ClusterError::Unavailable(
                "the account has no key to make a bucket with".into(),
            ));
        };
        let created = s3_client(&self.http, &self.location, &key.access_key, &key.secret_key)
            .create_bucket()
            .bucket(bucket_name)
            .send()
            .await;
        match created.map_err(refusal) {
            Err(error) if error.is("BucketAlreadyOwnedByYou") => Ok(()),
            Err(ClusterError::Refused { code, .. }) => Err(refused(&code)),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    async fn delete_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        if self
            .own_bucket(s3uid, bucket_name)
            .await?
            .unfinished_uploads()
            > 0
        {
            return Err(refused("BucketNotEmpty"));
        }
        self.call("DELETE", "bucket", &[("bucket", bucket_name)])
            .await?;
        Ok(())
    }

    async fn buckets(&self, s3uid: &S3Uid) -> Result<Vec<Bucket>, ClusterError> {
        let stats: Vec<BucketStats> = self
            .ask("bucket", &[("uid", s3uid.as_str()), ("stats", "True")])
            .await?;
        if stats.is_empty() {
            // Nobody's buckets are listed as those of somebody who has none.
            self.user(s3uid).await?;
        }
        let mut buckets: Vec<Bucket> = stats.into_iter().map(BucketStats::into_bucket).collect();
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(buckets)
    }

    async fn buckets_of(&self, s3uids: &[&S3Uid]) -> Result<Vec<(S3Uid, Bucket)>, ClusterError> {
        let wanted: HashSet<&str> = s3uids.iter().map(|s3uid| s3uid.as_str()).collect();
        self.of_several("bucket", &[("stats", "True")], s3uids, |stats| {
            let stats: Vec<BucketStats> = stats;
            stats
                .into_iter()
                .filter(|bucket| wanted.contains(bucket.owner.as_str()))
                .map(|bucket| (S3Uid(bucket.owner.clone()), bucket.into_bucket()))
                .collect()
        })
        .await
    }

    async fn purge_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
        max_entries: u32,
    ) -> Result<PurgeStep, ClusterError> {
        self.own_bucket(s3uid, bucket_name).await?;
        let keys = self.secret.get().await?;
        let s3 = s3_client(
            &self.http,
            &self.location,
            &keys.access_key,
            &keys.secret_key,
        );
        let mut step = PurgeStep::default();
        let mut left = max_entries;
        let mut after = None;
        loop {
            let limit = left.min(LIST_AT_ONCE);
            let (page, next) = match versions(&s3, bucket_name, after, limit).await {
                // What was removed before that is told.
                Err(error) if step.entries_removed > 0 => {
                    step.obstacle.get_or_insert(error);
                    return Ok(step);
                }
                page => page?,
            };
            left -= u32::try_from(page.len()).unwrap_or(left).min(left);
            let is_none = page.is_empty();
            step.count(self.remove_versions(&s3, bucket_name, page).await);
            let is_locked = matches!(step.obstacle, Some(ClusterError::Locked(_)));
            if step.obstacle.is_some() && !is_locked {
                return Ok(step);
            }
            let is_all = next.is_none();
            // What is locked stays where it is: the others are behind it.
            after = next.filter(|_| is_locked);
            if is_all {
                break;
            }
            if left == 0 || is_none {
                return Ok(step);
            }
        }
        while left > 0 {
            let (page, is_all) = match uploads(&s3, bucket_name, left.min(LIST_AT_ONCE)).await {
                Err(error) if step.entries_removed > 0 => {
                    step.obstacle.get_or_insert(error);
                    return Ok(step);
                }
                page => page?,
            };
            left -= u32::try_from(page.len()).unwrap_or(left).min(left);
            let aborted: Vec<Result<u64, ClusterError>> = stream::iter(page)
                .map(|upload| abort(&s3, bucket_name, upload))
                .buffer_unordered(CALLS_AT_ONCE)
                .collect()
                .await;
            let has_failed = aborted.iter().any(Result::is_err);
            step.count(aborted);
            if has_failed {
                break;
            }
            if is_all {
                step.is_empty = step.obstacle.is_none();
                break;
            }
        }
        Ok(step)
    }

    async fn traffic(
        &self,
        s3uids: &[&S3Uid],
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<TrafficHour>, ClusterError> {
        let (start, end) = (usage_time(from), usage_time(to));
        let wanted: HashSet<&str> = s3uids.iter().map(|s3uid| s3uid.as_str()).collect();
        let query = [
            ("start", start.as_str()),
            ("end", end.as_str()),
            ("show-entries", "True"),
            ("show-summary", "False"),
        ];
        self.of_several("usage", &query, s3uids, |usage| {
            traffic_of(usage, &wanted, from, to)
        })
        .await
    }

    async fn forget_traffic(&self, s3uid: &S3Uid) -> Result<(), ClusterError> {
        // Without a uid it would be everybody's.
        if s3uid.as_str().is_empty() {
            return Ok(());
        }
        self.call("DELETE", "usage", &[("uid", s3uid.as_str())])
            .await?;
        Ok(())
    }
}

impl UserKey {
    fn is(&self, keys: &Keys) -> bool {
        self.access_key == keys.access_key
            && self.secret_key.expose_secret() == keys.secret_key.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::client::http::{HttpConnectorFuture, http_client_fn};
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

    use super::*;

    /// Answers a request, by its method and address, with a status and a body.
    type Script = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

    /// A cluster that follows a script, and notes what it is asked.
    #[derive(Clone)]
    struct Scripted {
        script: Arc<Script>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl std::fmt::Debug for Scripted {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Scripted")
        }
    }

    impl HttpConnector for Scripted {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            assert!(request.headers().get("authorization").is_some());
            let (status, body) = (self.script)(request.method(), request.uri());
            self.asked.lock().expect("lock").push(format!(
                "{} {}",
                request.method(),
                request.uri()
            ));
            let status = status.try_into().expect("a status");
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, body.into())))
        }
    }

    impl Scripted {
        fn new(
            script: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
        ) -> (Scripted, Rgw) {
            let scripted = Scripted {
                script: Arc::new(script),
                asked: Arc::default(),
            };
            let connector = SharedHttpConnector::new(scripted.clone());
            let http = connector.clone();
            let location = json!({
                "code": "NL",
                "provider": "rgw",
                "s3_endpoint": "http://rgw",
                "admin_endpoint": "http://rgw",
                "admin_secret_id": "test",
            });
            let rgw = Rgw {
                connector,
                secret: ClusterSecret::known(AdminKeys {
                    access_key: "ADMIN".into(),
                    secret_key: "hidden".into(),
                }),
                http: http_client_fn(move |_, _| http.clone()),
                location: serde_json::from_value(location).expect("a location"),
                admin_endpoint: "http://rgw".into(),
                everybody_from: AtomicUsize::new(MANY_ACCOUNTS),
            };
            (scripted, rgw)
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().expect("lock"))
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    const USAGE: &str = r#"{"entries":[
        {"user":"a","buckets":[
            {"bucket":"","time":"2026-11-22T18:00:00.000000Z","epoch":1795370400,"owner":"a","categories":[
                {"category":"list_buckets","bytes_sent":415,"bytes_received":0,"ops":1,"successful_ops":1}]},
            {"bucket":"-","time":"2026-11-22T18:00:00.000000Z","epoch":1795370400,"owner":"a","categories":[
                {"category":"get_obj","bytes_sent":231,"bytes_received":0,"ops":2,"successful_ops":0}]},
            {"bucket":"b","time":"2026-11-22T18:00:00.000000Z","epoch":1795370400,"owner":"a","categories":[
                {"category":"get_obj","bytes_sent":7,"bytes_received":0,"ops":3,"successful_ops":3},
                {"category":"put_obj","bytes_sent":0,"bytes_received":5,"ops":4,"successful_ops":4}]},
            {"bucket":"b","time":"2026-11-22T19:00:00.000000Z","epoch":1795374000,"owner":"a","categories":[
                {"category":"get_obj","bytes_sent":1000,"bytes_received":0,"ops":1,"successful_ops":1}]}]},
        {"user":"anonymous","buckets":[
            {"bucket":"","time":"2026-11-22T18:00:00.000000Z","epoch":1795370400,"owner":"anonymous","categories":[
                {"category":"list_buckets","bytes_sent":99,"bytes_received":0,"ops":1,"successful_ops":1}]}]}]}"#;

    #[test]
    fn traffic_is_the_accounts_own_in_the_hours_asked_for() {
        let usage: Usage = serde_json::from_str(USAGE).expect("usage");
        let hour = at(1_795_370_400);
        let hours = traffic_of(usage, &HashSet::from(["a", "b"]), hour, at(1_795_374_000));
        let row = |bucket_name: &str, bytes_sent, bytes_received, requests, classes| TrafficHour {
            s3uid: S3Uid("a".into()),
            bucket_name: bucket_name.into(),
            hour,
            bytes_sent,
            bytes_received,
            requests,
            classes: Some(classes),
        };
        let nowhere = RequestClasses {
            get: 2,
            list: 1,
            ..RequestClasses::default()
        };
        let in_bucket = RequestClasses {
            get: 3,
            put: 4,
            ..RequestClasses::default()
        };
        assert_eq!(
            hours,
            [row("", 646, 0, 3, nowhere), row("b", 7, 5, 7, in_bucket)]
        );
        // Whoever is unknown has nothing at all.
        for none in ["{}", r#"{"entries":[]}"#] {
            let usage: Usage = serde_json::from_str(none).expect("usage");
            assert_eq!(traffic_of(usage, &HashSet::from(["a"]), at(0), hour), []);
        }
        assert_eq!(usage_time(hour), "2026-11-22 18:00:00");
    }

    #[test]
    fn every_category_of_the_usage_log_has_a_class() {
        for (category, class) in [
            ("get_obj", RequestClass::Get),
            ("put_obj", RequestClass::Put),
            ("copy_obj", RequestClass::Put),
            ("complete_multipart", RequestClass::Put),
            ("list_bucket", RequestClass::List),
            ("list_buckets", RequestClass::List),
            ("delete_obj", RequestClass::Delete),
            ("multi_object_delete", RequestClass::Delete),
            ("create_bucket", RequestClass::Other),
            ("stat_bucket", RequestClass::Other),
            ("", RequestClass::Other),
        ] {
            assert_eq!(class_of(category), class, "{category}");
        }
    }

    #[test]
    fn statistics_are_read_of_empty_and_of_full_buckets() {
        let bucket = |usage: Value| {
            let stats = json!({
                "bucket": "b", "owner": "a", "creation_time": "2026-11-22T18:18:41.824206Z", "usage": usage,
            });
            serde_json::from_value::<BucketStats>(stats).expect("stats")
        };
        let empty = bucket(json!({}));
        assert_eq!(empty.unfinished_uploads(), 0);
        assert_eq!(empty.into_bucket().stored_bytes, 0);
        let full = bucket(json!({
            "rgw.main": { "size": 11_010, "size_utilized": 11_010, "num_objects": 5 },
            "rgw.multimeta": { "size": 0, "size_utilized": 27, "num_objects": 1 },
        }));
        assert_eq!(full.unfinished_uploads(), 1);
        let full = full.into_bucket();
        assert_eq!((full.stored_bytes, full.objects), (11_010, 5));
    }

    /// A cluster where an account takes so many bytes, whoever asks, and there are so many.
    fn crowd(accounts: usize, bytes_each: usize) -> (Scripted, Rgw) {
        Scripted::new(move |_, uri| {
            let is_everybody = !uri.contains("uid=");
            let count = if is_everybody { accounts } else { 1 };
            let padding = " ".repeat(count * bytes_each);
            (200, format!(r#"{{"entries":[]{padding}}}"#))
        })
    }

    async fn ask_for(rgw: &Rgw, accounts: usize) {
        let names: Vec<S3Uid> = (0..accounts)
            .map(|number| S3Uid(format!("a{number}")))
            .collect();
        let names: Vec<&S3Uid> = names.iter().collect();
        let hours = rgw.traffic(&names, at(0), at(3_600)).await;
        assert_eq!(hours.expect("traffic"), []);
    }

    #[tokio::test]
    async fn many_accounts_are_asked_for_at_once_until_strangers_outnumber_them() {
        let (cluster, rgw) = crowd(100, 1_300);
        ask_for(&rgw, 50).await;
        let asked = cluster.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(asked[0].contains("start=1970-01-01%2000%3A00%3A00&end=1970-01-01%2001%3A00%3A00"));
        ask_for(&rgw, MANY_ACCOUNTS - 1).await;
        assert_eq!(cluster.asked().len(), MANY_ACCOUNTS - 1);

        let (cluster, rgw) = crowd(1_000, 1_300);
        ask_for(&rgw, 50).await;
        assert_eq!(cluster.asked().len(), 1 + 50);
        // That is remembered, but of shards that are much larger.
        ask_for(&rgw, 50).await;
        assert_eq!(cluster.asked().len(), 50);
        ask_for(&rgw, 100).await;
        assert_eq!(cluster.asked().len(), 1);
    }

    #[tokio::test]
    async fn what_concerns_the_administrator_is_no_refusal_of_the_account() {
        let keys = Keys {
            access_key: "AK".into(),
            secret_key: "never shown".into(),
        };
        for (status, code) in [
            (403, "AccessDenied"),
            (403, "SignatureDoesNotMatch"),
            (500, "UnknownError"),
            (503, "SlowDown"),
            (404, ""),
        ] {
            let body = match code {
                "" => "<html>never shown</html>".into(),
                code => format!(r#"{{"Code":"{code}","Message":"","RequestId":"x","HostId":"y"}}"#),
            };
            let (cluster, rgw) = Scripted::new(move |_, _| (status, body.clone()));
            let error = rgw
                .create_user(&S3Uid("a".into()), &keys, None)
                .await
                .expect_err("an error");
            // What another try will not change is asked once.
            let tries = match (&error, status) {
                (ClusterError::NoAccess(_), 403) => 1,
                (ClusterError::Unavailable(_), 500) => 6,
                (ClusterError::Unavailable(_), 404 | 503) => 3,
                _ => panic!("{status} {code}: {error:?}"),
            };
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("never") && !text.contains("hidden"),
                "{text}"
            );
            assert_eq!(cluster.asked().len(), tries);
        }
    }

    #[tokio::test]
    async fn a_key_that_somebody_else_removed_first_is_removed() {
        // 16.2 refuses as it would refuse the administrator, 18.2 does not.
        for (status, is_gone) in [(403, true), (400, true), (403, false)] {
            let deleted = Arc::new(Mutex::new(false));
            let (cluster, rgw) = Scripted::new(move |method, _| {
                let mut deleted = deleted.lock().expect("lock");
                if method == "DELETE" {
                    *deleted = is_gone;
                    let code = match status {
                        403 => "InvalidAccessKeyId",
                        _ => "InvalidArgument",
                    };
                    return (status, format!(r#"{{"Code":"{code}"}}"#));
                }
                let keys = match *deleted {
                    true => "[]",
                    false => r#"[{"access_key":"AK","secret_key":"hidden"}]"#,
                };
                let quota = r#"{"enabled":false}"#;
                (200, format!(r#"{{"keys":{keys},"user_quota":{quota}}}"#))
            });
            let removed = rgw.remove_key(&S3Uid("a".into()), "AK").await;
            assert_eq!(removed.is_ok(), is_gone, "{removed:?}");
            // It is not the administrator who was refused.
            assert!(!matches!(removed, Err(ClusterError::NoAccess(_))));
            assert_eq!(cluster.asked().len(), 3);
        }
    }

    #[tokio::test]
    async fn the_outcome_of_a_change_without_an_answer_is_unknown() {
        for (status, is_known) in [(200, true), (404, true), (500, true), (502, false)] {
            let (_, rgw) = Scripted::new(move |_, _| {
                let code = match status {
                    500 => "UnknownError",
                    _ => "NoSuchUser",
                };
                (status, format!(r#"{{"Code":"{code}"}}"#))
            });
            let (_, was_known) = doubt::watched(rgw.set_suspended(&S3Uid("a".into()), true)).await;
            assert_eq!(was_known, is_known, "{status}");
            let (_, was_known) = doubt::watched(rgw.buckets(&S3Uid("a".into()))).await;
            assert!(was_known, "{status}");
        }
    }

    #[tokio::test]
    async fn nobodys_usage_is_never_trimmed() {
        let (cluster, rgw) = Scripted::new(|_, _| (200, String::new()));
        rgw.forget_traffic(&S3Uid("".into()))
            .await
            .expect("nothing");
        assert_eq!(cluster.asked(), [""; 0]);
        rgw.forget_traffic(&S3Uid("a b".into()))
            .await
            .expect("trimmed");
        assert_eq!(cluster.asked(), ["DELETE http://rgw/admin/usage?uid=a%20b"]);
    }
}
