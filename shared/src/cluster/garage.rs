//! Garage: its administration API v2, and S3 to empty buckets. Written against 2.5.
//!
//! Garage has keys and buckets, but no users. An account is represented by a **service key** with the id `wharfage.<s3uid>`:
//! - It has access to all of the account's buckets, so one call lists them, and a bucket shows its owner.
//! - Its name is a [`Record`]: the account's keys, its storage limit, and whether it is suspended.
//! - Only Garage knows its secret. Suspended keys have no access, so the service key also empties buckets.
//!
//! The account's own keys have the account's name for theirs. A key that the record names is the account's only if it has that name, too: the
//! record is written before the key is made. They may read and write, and not own: whoever owns a bucket could publish it as a website,
//! which stays open when the keys are suspended.
//!
//! Where Garage may surprise:
//! - The id of a deleted key can never be used again, so a removed account cannot be recreated.
//! - A bucket made over S3 has a name that only its key sees; so accounts' keys may not make any, and all buckets have a global name. The name
//!   that the service key alone sees is there because a bucket is made and allowed in one call only with one, and it is a new one each time:
//!   one that was in use before is refused.
//! - Quotas are per bucket: see [`shares`].
//! - A bucket whose uploads are unfinished counts as empty, and is removed with them; and so is the upload of an object that is removed.
//! - The offset of a list is inclusive.
//! - Nothing counts traffic, and there are no versions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ::http::StatusCode;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::{EncodingType, MultipartUpload};
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{decode, refusal, s3_client};
use super::http::{repeated, segment, send_json};
use super::secrets::{ClusterSecret, Secrets, Token};
use super::{Bucket, Capabilities, ClusterError, Keys, PurgeStep, StorageProvider};
use crate::config::Location;
use crate::domain::account::S3Uid;
use crate::domain::bucket_name::BucketName;
use crate::domain::usage::TrafficHour;
use crate::outside::Outside;
use crate::random::Random;

/// What the ids of service keys begin with. No account's own key has a point in its id.
const SERVICE_KEY: &str = "wharfage.";
/// Calls at once to one cluster, where many are needed. Each costs it some 60 ms of work: the token is checked with argon2.
const CALLS_AT_ONCE: usize = 4;
/// Removals at once in one bucket.
const REMOVALS_AT_ONCE: usize = 16;
/// Up to so many accounts are asked for one by one. More, and all buckets of the cluster are listed.
const FEW_ACCOUNTS: usize = 4;
/// Buckets in one page of a list.
const PAGE: usize = 1_000;
/// What S3 lists at once at most.
const LIST_AT_ONCE: u32 = 1_000;
/// When suspended keys expired.
const LONG_AGO: &str = "2000-01-01T00:00:00Z";

pub(super) struct Garage {
    connector: SharedHttpConnector,
    http: SharedHttpClient,
    location: Location,
    endpoint: String,
    secret: ClusterSecret<Token>,
    random: Random,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// What is kept of an account in the name of its service key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    /// The access key ids, of keys that may not be there yet or no more.
    keys: Vec<String>,
    /// What the account may store.
    limit_bytes: Option<u64>,
    is_suspended: bool,
}

impl Record {
    fn as_name(&self) -> String {
        // Strings and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyInfo {
    name: String,
    #[serde(default)]
    secret_access_key: Option<SecretString>,
    buckets: Vec<KeyBucket>,
}

#[derive(Deserialize)]
struct KeyBucket {
    id: String,
}

/// An account, as its service key tells.
struct User {
    s3uid: S3Uid,
    record: Record,
    service_secret: SecretString,
    bucket_ids: Vec<String>,
}

impl User {
    fn service_key(&self) -> String {
        service_key(&self.s3uid)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BucketInfo {
    id: String,
    created: Timestamp,
    global_aliases: Vec<String>,
    keys: Vec<BucketKey>,
    objects: i64,
    bytes: i64,
    unfinished_uploads: i64,
    unfinished_multipart_upload_bytes: i64,
    quotas: Quotas,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BucketKey {
    access_key_id: String,
    name: String,
    bucket_local_aliases: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quotas {
    max_size: Option<u64>,
    max_objects: Option<u64>,
}

impl BucketInfo {
    /// Whose it is, and the name of that service key.
    fn owner(&self) -> Option<(&str, &str)> {
        self.keys.iter().find_map(|key| {
            let s3uid = key.access_key_id.strip_prefix(SERVICE_KEY)?;
            Some((s3uid, key.name.as_str()))
        })
    }

    /// Its global name; where somebody took that away, a name that one of its keys sees, or its id, by which S3 finds it too.
    fn name(&self) -> &str {
        let local = self
            .keys
            .iter()
            .filter(|key| !key.access_key_id.starts_with(SERVICE_KEY))
            .flat_map(|key| &key.bucket_local_aliases);
        self.global_aliases
            .iter()
            .chain(local)
            .next()
            .unwrap_or(&self.id)
    }

    fn stored_bytes(&self) -> u64 {
        count(self.bytes) + count(self.unfinished_multipart_upload_bytes)
    }

    fn to_bucket(&self) -> Bucket {
        Bucket {
            name: self.name().into(),
            created_at: self.created,
            stored_bytes: self.stored_bytes(),
            objects: count(self.objects),
            noncurrent_bytes: Some(0),
            multipart_bytes: Some(count(self.unfinished_multipart_upload_bytes)),
        }
    }
}

/// Garage's counters are sums of differences, and may be below zero for an instant.
fn count(counter: i64) -> u64 {
    u64::try_from(counter).unwrap_or(0)
}

fn service_key(s3uid: &S3Uid) -> String {
    format!("{SERVICE_KEY}{s3uid}")
}

fn refused(code: &str, message: &str) -> ClusterError {
    ClusterError::Refused {
        code: code.into(),
        message: message.into(),
    }
}

fn no_such_user() -> ClusterError {
    refused("NoSuchUser", "The specified user does not exist")
}

fn no_such_bucket() -> ClusterError {
    refused("NoSuchBucket", "The specified bucket does not exist")
}

/// What each of an account's buckets may hold, so that together they hold what the account may store: the limit, less what is in the others.
/// One bucket keeps to it exactly. Of several, each may take all that is left until this is made again, which metering does every hour: in
/// between an account with `n` buckets comes to at most `(n - 1) × (limit - stored)` above its limit.
fn shares(stored_bytes: &[u64], limit_bytes: Option<u64>) -> Vec<Option<u64>> {
    let total: u64 = stored_bytes.iter().sum();
    stored_bytes
        .iter()
        .map(|own| limit_bytes.map(|limit| limit.saturating_sub(total - own)))
        .collect()
}

impl Garage {
    pub(super) fn new(location: &Location, outside: &Outside<'_>, secrets: &Secrets) -> Garage {
        Garage {
            connector: outside.clusters.clone(),
            http: outside.cluster_http(),
            endpoint: location.admin_endpoint.trim_end_matches('/').to_owned(),
            location: location.clone(),
            secret: ClusterSecret::new(secrets, location, Token::FORM),
            random: Random::from_os(),
        }
    }

    /// One call; tried again while the cluster cannot answer, since every call may be repeated.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        operation: &str,
        body: Option<&Value>,
    ) -> Result<T, ClusterError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = repeated(|| {
            self.secret
                .authorize(|secret| self.call_once(method, operation, body.clone(), secret))
        })
        .await?;
        serde_json::from_slice(&answer)
            .map_err(|e| ClusterError::Unavailable(format!("{}: {e}", name_of(operation))))
    }

    async fn call_once(
        &self,
        method: &str,
        operation: &str,
        body: String,
        secret: Arc<Token>,
    ) -> Result<Vec<u8>, ClusterError> {
        let name = name_of(operation);
        let unavailable = |problem: String| ClusterError::Unavailable(format!("{name}: {problem}"));
        let uri = format!("{}/v2/{operation}", self.endpoint);
        let answer = send_json(&self.connector, method, &uri, &secret.token, body).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(refusal) if answer.status == StatusCode::FORBIDDEN => {
                Err(ClusterError::NoAccess(format!("{name}: {}", refusal.code)))
            }
            Ok(refusal) if answer.status.is_client_error() => {
                Err(refused(&refusal.code, &refusal.message))
            }
            _ => Err(unavailable(format!("HTTP {}", answer.status.as_u16()))),
        }
    }

    async fn get<T: DeserializeOwned>(&self, operation: &str) -> Result<T, ClusterError> {
        self.call("GET", operation, None).await
    }

    async fn post(&self, operation: &str, body: &Value) -> Result<(), ClusterError> {
        self.call::<Value>("POST", operation, Some(body))
            .await
            .map(|_| ())
    }

    /// A key with its secret; `None` when there is none, or no more.
    async fn key(&self, access_key: &str) -> Result<Option<KeyInfo>, ClusterError> {
        let operation = format!("GetKeyInfo?id={}&showSecretKey=true", segment(access_key));
        match self.get(&operation).await {
            Err(error) if error.is("NoSuchAccessKey") => Ok(None),
            info => info.map(Some),
        }
    }

    async fn user(&self, s3uid: &S3Uid) -> Result<User, ClusterError> {
        let service_key = service_key(s3uid);
        let info = self.key(&service_key).await?.ok_or_else(no_such_user)?;
        let unreadable = |what: &str| {
            ClusterError::Unavailable(format!("key {service_key}: its {what} cannot be read"))
        };
        Ok(User {
            s3uid: s3uid.to_owned(),
            record: serde_json::from_str(&info.name).map_err(|_| unreadable("name"))?,
            service_secret: info.secret_access_key.ok_or_else(|| unreadable("secret"))?,
            bucket_ids: info.buckets.into_iter().map(|bucket| bucket.id).collect(),
        })
    }

    /// Those of the record's keys that are there, and the account's.
    async fn own_keys(&self, user: &User) -> Result<Vec<String>, ClusterError> {
        let mut own = Vec::new();
        for access_key in &user.record.keys {
            let key = self.key(access_key).await?;
            if key.is_some_and(|key| key.name == user.s3uid.as_str()) {
                own.push(access_key.clone());
            }
        }
        Ok(own)
    }

    async fn record(&self, user: &User) -> Result<(), ClusterError> {
        self.update_key(
            &user.service_key(),
            json!({ "name": user.record.as_name() }),
        )
        .await
    }

    async fn update_key(&self, access_key: &str, change: Value) -> Result<(), ClusterError> {
        self.post(&format!("UpdateKey?id={}", segment(access_key)), &change)
            .await
    }

    async fn suspend_key(&self, access_key: &str, is_suspended: bool) -> Result<(), ClusterError> {
        let change = match is_suspended {
            true => json!({ "expiration": LONG_AGO }),
            false => json!({ "neverExpires": true }),
        };
        self.update_key(access_key, change).await
    }

    async fn delete_key(&self, access_key: &str) -> Result<(), ClusterError> {
        match self
            .post(
                &format!("DeleteKey?id={}", segment(access_key)),
                &Value::Null,
            )
            .await
        {
            Err(error) if !error.is("NoSuchAccessKey") => Err(error),
            _ => Ok(()),
        }
    }

    async fn import(
        &self,
        access_key: &str,
        secret_key: &str,
        name: &str,
    ) -> Result<(), ClusterError> {
        let key = json!({ "accessKeyId": access_key, "secretAccessKey": secret_key, "name": name });
        self.post("ImportKey", &key).await
    }

    /// Makes one of the account's own keys, if it is not there already.
    async fn import_own(&self, s3uid: &S3Uid, keys: &Keys) -> Result<(), ClusterError> {
        let secret_key = keys.secret_key.expose_secret();
        match self
            .import(&keys.access_key, secret_key, s3uid.as_str())
            .await
        {
            Err(error) if error.is("KeyAlreadyExists") => {}
            imported => return imported,
        }
        let is_the_same = |key: KeyInfo| {
            key.name == s3uid.as_str()
                && key
                    .secret_access_key
                    .is_some_and(|secret| secret.expose_secret() == secret_key)
        };
        match self.key(&keys.access_key).await?.is_some_and(is_the_same) {
            true => Ok(()),
            false => Err(refused("KeyExists", "The access key is in use, or was")),
        }
    }

    async fn allow(&self, bucket_id: &str, access_key: &str) -> Result<(), ClusterError> {
        let permissions = json!({ "read": true, "write": true, "owner": false });
        let allowed = json!({
            "bucketId": bucket_id, "accessKeyId": access_key, "permissions": permissions,
        });
        self.post("AllowBucketKey", &allowed).await
    }

    /// An account's buckets, in no order.
    async fn infos(&self, user: &User) -> Result<Vec<BucketInfo>, ClusterError> {
        let asked = user.bucket_ids.iter().map(|id| async move {
            match self.get(&format!("GetBucketInfo?id={}", segment(id))).await {
                // Deleted since.
                Err(error) if error.is("NoSuchBucket") => Ok(None),
                info => info.map(Some),
            }
        });
        let infos: Vec<Option<BucketInfo>> = stream::iter(asked.collect::<Vec<_>>())
            .buffer_unordered(CALLS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(infos.into_iter().flatten().collect())
    }

    /// Has the cluster keep an account's buckets to its limit; calls for those only whose share has changed.
    async fn set_shares(
        &self,
        infos: &[&BucketInfo],
        limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        let stored: Vec<u64> = infos.iter().map(|info| info.stored_bytes()).collect();
        let changes = infos
            .iter()
            .zip(shares(&stored, limit_bytes))
            .filter(|(info, share)| info.quotas.max_size != *share)
            .map(|(info, share)| async move {
                let max_objects = info.quotas.max_objects;
                let quotas = json!({ "maxSize": share, "maxObjects": max_objects });
                let operation = format!("UpdateBucket?id={}", segment(&info.id));
                self.post(&operation, &json!({ "quotas": quotas })).await
            });
        stream::iter(changes.collect::<Vec<_>>())
            .buffer_unordered(CALLS_AT_ONCE)
            .try_collect()
            .await
    }

    /// The same for accounts that were only looked at. Where it fails, the next look makes it good.
    async fn refresh_shares(&self, infos: &[&BucketInfo], record: &Record) {
        if infos.len() < 2 || record.limit_bytes.is_none() {
            return;
        }
        if let Err(error) = self.set_shares(infos, record.limit_bytes).await {
            let location = self.location.code.as_str();
            tracing::warn!(location, %error, "the limits of an account's buckets are of before");
        }
    }

    /// A bucket of this account; anybody else's is none.
    async fn own_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<BucketInfo, ClusterError> {
        let is_own = |info: &BucketInfo| {
            info.owner()
                .is_some_and(|(owner, _)| owner == s3uid.as_str())
        };
        let operation = format!("GetBucketInfo?globalAlias={}", segment(bucket_name));
        match self.get::<BucketInfo>(&operation).await {
            Ok(info) if is_own(&info) => return Ok(info),
            Err(error) if !error.is("NoSuchBucket") => return Err(error),
            _ => {}
        }
        let user = match self.user(s3uid).await {
            Err(error) if error.is("NoSuchUser") => return Err(no_such_bucket()),
            user => user?,
        };
        let infos = self.infos(&user).await?;
        let named = infos.into_iter().find(|info| *bucket_name == *info.name());
        named.ok_or_else(no_such_bucket)
    }

    /// Every bucket of the cluster.
    async fn all_buckets(&self) -> Result<Vec<BucketInfo>, ClusterError> {
        let mut all: Vec<BucketInfo> = Vec::new();
        loop {
            let offset = all.last().map(|last| last.id.clone());
            let mut operation = format!("ListBucketsInfo?limit={PAGE}");
            if let Some(offset) = &offset {
                operation.push_str(&format!("&offset={}", segment(offset)));
            }
            let page: Vec<BucketInfo> = match self.get(&operation).await {
                // One of them was deleted while they were being listed.
                Err(error) if error.is("NoSuchBucket") => {
                    return Err(ClusterError::Unavailable(error.to_string()));
                }
                page => page?,
            };
            let is_last = page.len() < PAGE;
            all.extend(
                page.into_iter()
                    .filter(|info| Some(&info.id) != offset.as_ref()),
            );
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// The operation without its query.
fn name_of(operation: &str) -> &str {
    operation.split('?').next().unwrap_or(operation)
}

/// What is removed of an upload that nobody completed: its parts' bytes.
async fn abort(s3: &Client, bucket: &str, upload: &MultipartUpload) -> Result<u64, ClusterError> {
    let (key, id) = (
        decode(upload.key().unwrap_or_default()),
        upload.upload_id().unwrap_or_default(),
    );
    let mut pages = s3
        .list_parts()
        .bucket(bucket)
        .key(&key)
        .upload_id(id)
        .into_paginator()
        .send();
    let mut bytes = 0;
    while let Some(page) = pages.next().await {
        let page = page.map_err(refusal)?;
        let sizes = page.parts().iter().filter_map(|part| part.size());
        bytes += sizes.map(count).sum::<u64>();
    }
    s3.abort_multipart_upload()
        .bucket(bucket)
        .key(key)
        .upload_id(id)
        .send()
        .await
        .map_err(refusal)?;
    Ok(bytes)
}

#[async_trait]
impl StorageProvider for Garage {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            traffic: false,
            versions: false,
        }
    }

    async fn create_user(
        &self,
        s3uid: &S3Uid,
        keys: &Keys,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        let record = Record {
            keys: vec![keys.access_key.clone()],
            limit_bytes: storage_limit_bytes,
            is_suspended: false,
        };
        let (service_key, secret_key) = (service_key(s3uid), self.random.secret_key());
        let name = record.as_name();
        match self.import(&service_key, &secret_key, &name).await {
            Err(error) if error.is("KeyAlreadyExists") => {
                let mut user = match self.user(s3uid).await {
                    Err(error) if error.is("NoSuchUser") => {
                        let words = "The user was deleted, and cannot be made again";
                        return Err(refused("UserAlreadyExists", words));
                    }
                    user => user?,
                };
                if !user.record.keys.contains(&keys.access_key) {
                    if !self.own_keys(&user).await?.is_empty() {
                        return Err(refused("UserAlreadyExists", "The user has other keys"));
                    }
                    user.record = record;
                    self.record(&user).await?;
                }
            }
            made => made?,
        }
        self.import_own(s3uid, keys).await
    }

    async fn set_storage_limit(
        &self,
        s3uid: &S3Uid,
        storage_limit_bytes: Option<u64>,
    ) -> Result<(), ClusterError> {
        let mut user = self.user(s3uid).await?;
        user.record.limit_bytes = storage_limit_bytes;
        self.record(&user).await?;
        let infos = self.infos(&user).await?;
        self.set_shares(&infos.iter().collect::<Vec<_>>(), storage_limit_bytes)
            .await
    }

    async fn add_key(&self, s3uid: &S3Uid, keys: &Keys) -> Result<(), ClusterError> {
        let mut user = self.user(s3uid).await?;
        if !user.record.keys.contains(&keys.access_key) {
            user.record.keys.push(keys.access_key.clone());
            self.record(&user).await?;
        }
        self.import_own(s3uid, keys).await?;
        if user.record.is_suspended {
            self.suspend_key(&keys.access_key, true).await?;
        }
        for bucket_id in &user.bucket_ids {
            self.allow(bucket_id, &keys.access_key).await?;
        }
        Ok(())
    }

    async fn remove_key(&self, s3uid: &S3Uid, access_key: &str) -> Result<(), ClusterError> {
        let mut user = match self.user(s3uid).await {
            Err(error) if error.is("NoSuchUser") => return Ok(()),
            user => user?,
        };
        let key = self.key(access_key).await?;
        if key.is_some_and(|key| key.name == s3uid.as_str()) {
            self.delete_key(access_key).await?;
        }
        if user.record.keys.iter().any(|key| key == access_key) {
            user.record.keys.retain(|key| key != access_key);
            self.record(&user).await?;
        }
        Ok(())
    }

    async fn delete_user(&self, s3uid: &S3Uid) -> Result<(), ClusterError> {
        let user = match self.user(s3uid).await {
            Err(error) if error.is("NoSuchUser") => return Ok(()),
            user => user?,
        };
        if !user.bucket_ids.is_empty() {
            return Err(refused("UserNotEmpty", "The user still has buckets"));
        }
        for access_key in self.own_keys(&user).await? {
            self.delete_key(&access_key).await?;
        }
        // Last: as long as it is there, the others are found.
        self.delete_key(&user.service_key()).await
    }

    async fn set_suspended(&self, s3uid: &S3Uid, is_suspended: bool) -> Result<(), ClusterError> {
        let mut user = self.user(s3uid).await?;
        if user.record.is_suspended != is_suspended {
            user.record.is_suspended = is_suspended;
            self.record(&user).await?;
        }
        for access_key in self.own_keys(&user).await? {
            self.suspend_key(&access_key, is_suspended).await?;
        }
        Ok(())
    }

    async fn create_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        let mut user = self.user(s3uid).await?;
        let bucket = json!({
            "globalAlias": bucket_name,
            "localAlias": {
                "accessKeyId": user.service_key(),
                "alias": format!("wharfage-{}", self.random.id()),
                "allow": { "read": true, "write": true, "owner": true },
            },
        });
        let made: Result<BucketInfo, _> = self.call("POST", "CreateBucket", Some(&bucket)).await;
        let info = match made {
            Err(error) if error.is("BucketAlreadyExists") => {
                match self.own_bucket(s3uid, bucket_name).await {
                    Err(other) if other.is("NoSuchBucket") => return Err(error),
                    own => own?,
                }
            }
            made => made?,
        };
        if !user.bucket_ids.contains(&info.id) {
            user.bucket_ids.push(info.id.clone());
        }
        // Its limit first: what cannot be reached yet cannot be filled.
        if user.record.limit_bytes.is_some() {
            let infos = self.infos(&user).await?;
            self.set_shares(&infos.iter().collect::<Vec<_>>(), user.record.limit_bytes)
                .await?;
        }
        for access_key in self.own_keys(&user).await? {
            self.allow(&info.id, &access_key).await?;
        }
        Ok(())
    }

    async fn delete_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
    ) -> Result<(), ClusterError> {
        let info = self.own_bucket(s3uid, bucket_name).await?;
        if info.unfinished_uploads > 0 {
            let words = "The bucket you tried to delete has unfinished uploads";
            return Err(refused("BucketNotEmpty", words));
        }
        let operation = format!("DeleteBucket?id={}", segment(&info.id));
        self.post(&operation, &Value::Null).await
    }

    async fn buckets(&self, s3uid: &S3Uid) -> Result<Vec<Bucket>, ClusterError> {
        let user = self.user(s3uid).await?;
        let infos = self.infos(&user).await?;
        self.refresh_shares(&infos.iter().collect::<Vec<_>>(), &user.record)
            .await;
        let mut buckets: Vec<Bucket> = infos.iter().map(BucketInfo::to_bucket).collect();
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(buckets)
    }

    async fn buckets_of(&self, s3uids: &[&S3Uid]) -> Result<Vec<(S3Uid, Bucket)>, ClusterError> {
        let mut buckets = Vec::new();
        if s3uids.len() <= FEW_ACCOUNTS {
            for s3uid in s3uids {
                match self.buckets(s3uid).await {
                    Err(error) if error.is("NoSuchUser") => {}
                    own => buckets.extend(own?.into_iter().map(|b| ((*s3uid).to_owned(), b))),
                }
            }
            return Ok(buckets);
        }
        let wanted: HashSet<&str> = s3uids.iter().map(|s3uid| s3uid.as_str()).collect();
        let all = self.all_buckets().await?;
        let mut by_owner: BTreeMap<&str, (&str, Vec<&BucketInfo>)> = BTreeMap::new();
        for info in &all {
            if let Some((owner, record)) = info.owner()
                && wanted.contains(owner)
            {
                let of_owner = by_owner.entry(owner).or_insert((record, Vec::new()));
                of_owner.1.push(info);
            }
        }
        for (owner, (record, infos)) in by_owner {
            if let Ok(record) = serde_json::from_str(record) {
                self.refresh_shares(&infos, &record).await;
            }
            buckets.extend(
                infos
                    .iter()
                    .map(|info| (S3Uid(owner.to_owned()), info.to_bucket())),
            );
        }
        Ok(buckets)
    }

    async fn purge_bucket(
        &self,
        s3uid: &S3Uid,
        bucket_name: &BucketName,
        max_entries: u32,
    ) -> Result<PurgeStep, ClusterError> {
        let info = self.own_bucket(s3uid, bucket_name).await?;
        let user = self.user(s3uid).await?;
        let access_key = user.service_key();
        let s3 = s3_client(
            &self.http,
            &self.location,
            &access_key,
            &user.service_secret,
        );
        // Names that a single key sees are none for the service key.
        let bucket = info.global_aliases.first().unwrap_or(&info.id);
        let mut step = PurgeStep::default();
        let mut left = max_entries;
        // Uploads first: those of an object's name go with the object, and nobody would know.
        while left > 0 {
            let page = s3
                .list_multipart_uploads()
                .bucket(bucket)
                .max_uploads(i32::try_from(left.min(LIST_AT_ONCE)).unwrap_or(i32::MAX))
                .encoding_type(EncodingType::Url)
                .send()
                .await
                .map_err(refusal)?;
            let uploads = page.uploads();
            let aborts = uploads.iter().map(|upload| abort(&s3, bucket, upload));
            let aborted: Vec<Result<u64, ClusterError>> = stream::iter(aborts.collect::<Vec<_>>())
                .buffer_unordered(REMOVALS_AT_ONCE)
                .collect()
                .await;
            if !step.count(aborted) {
                return Ok(step);
            }
            left = left.saturating_sub(u32::try_from(uploads.len()).unwrap_or(left));
            if !page.is_truncated().unwrap_or(false) {
                break;
            }
        }
        while left > 0 {
            let page = s3
                .list_objects_v2()
                .bucket(bucket)
                .max_keys(i32::try_from(left.min(LIST_AT_ONCE)).unwrap_or(i32::MAX))
                .encoding_type(EncodingType::Url)
                .send()
                .await
                .map_err(refusal)?;
            let objects = page.contents();
            let removals = objects.iter().map(|object| {
                let key = decode(object.key().unwrap_or_default());
                let bytes = object.size().map_or(0, count);
                let removal = s3.delete_object().bucket(bucket).key(key).send();
                async move { removal.await.map_err(refusal).map(|_| bytes) }
            });
            let removed: Vec<Result<u64, ClusterError>> =
                stream::iter(removals.collect::<Vec<_>>())
                    .buffer_unordered(REMOVALS_AT_ONCE)
                    .collect()
                    .await;
            if !step.count(removed) {
                return Ok(step);
            }
            left = left.saturating_sub(u32::try_from(objects.len()).unwrap_or(left));
            if !page.is_truncated().unwrap_or(false) {
                step.is_empty = true;
                break;
            }
        }
        // Uploads in one piece that broke off are no one's to list.
        if step.is_empty {
            let everything = json!({ "bucketId": info.id, "olderThanSecs": 0 });
            self.post("CleanupIncompleteUploads", &everything).await?;
        }
        Ok(step)
    }

    async fn traffic(
        &self,
        _s3uids: &[&S3Uid],
        _from: Timestamp,
        _to: Timestamp,
    ) -> Result<Vec<TrafficHour>, ClusterError> {
        Err(refused("NotImplemented", "Garage counts no traffic"))
    }

    async fn forget_traffic(&self, _s3uid: &S3Uid) -> Result<(), ClusterError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_limit_wherever_one_bucket_fills_up() {
        assert_eq!(shares(&[7], Some(10)), [Some(10)]);
        assert_eq!(shares(&[3, 4], Some(10)), [Some(6), Some(7)]);
        // Above the limit nothing more comes in anywhere.
        assert_eq!(shares(&[30, 4], Some(10)), [Some(6), Some(0)]);
        assert_eq!(shares(&[3, 4], None), [None, None]);
        assert_eq!(shares(&[], Some(10)), []);
    }

    #[test]
    fn a_bucket_tells_whose_it_is_and_what_it_is_called() {
        let info = |global: &[&str], local: &[&str]| -> BucketInfo {
            let keys = json!([
                { "accessKeyId": "WH1", "name": "a", "bucketLocalAliases": local },
                { "accessKeyId": "wharfage.a", "name": "{}", "bucketLocalAliases": ["wharfage-1"] },
            ]);
            serde_json::from_value(json!({
                "id": "00ff", "created": "2026-01-01T00:00:00Z", "globalAliases": global,
                "keys": keys, "objects": 1, "bytes": 5, "unfinishedUploads": 1,
                "unfinishedMultipartUploadBytes": -1, "quotas": { "maxSize": null, "maxObjects": null },
            }))
            .expect("a bucket")
        };
        assert_eq!(info(&["b"], &[]).owner(), Some(("a", "{}")));
        assert_eq!(info(&["b"], &["own"]).name(), "b");
        assert_eq!(info(&[], &["own"]).name(), "own");
        assert_eq!(info(&[], &[]).name(), "00ff");
        assert_eq!(info(&["b"], &[]).stored_bytes(), 5);
    }
}
