//! Authorization: an account reaches its own buckets and nothing else.

use std::sync::Arc;

use http::{Extensions, HeaderValue};
use rusqlite::{Connection, OptionalExtension, params};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Request, S3Result};

use super::fault::{Fault, refusal, user_suspended};
use super::records::{find_bucket, known_user};
use super::store::Store;
use super::usage::Meter;

/// The account behind an accepted request.
#[derive(Clone)]
pub(crate) struct Caller {
    pub uid: String,
}

/// The caller, as the access check left it with the request.
pub(crate) fn caller<T>(request: &S3Request<T>) -> Result<Caller, Fault> {
    request
        .extensions
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| S3ErrorCode::AccessDenied.into())
}

pub(crate) struct Keys(pub(crate) Arc<Store>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let access_key = access_key.to_owned();
        let secret = self
            .0
            .read(move |c| {
                Ok(
                    c.prepare_cached("SELECT secret_key FROM access_keys WHERE access_key = ?1")?
                        .query_row(params![access_key], |row| row.get::<_, String>(0))
                        .optional()?,
                )
            })
            .await?;
        secret
            .map(SecretKey::from)
            .ok_or_else(|| refusal(S3ErrorCode::InvalidAccessKeyId))
    }
}

/// The account of a key, unless it is suspended.
pub(crate) fn active_user(c: &Connection, access_key: &str) -> Result<String, Fault> {
    let uid = c
        .prepare_cached("SELECT uid FROM access_keys WHERE access_key = ?1")?
        .query_row(params![access_key], |row| row.get::<_, String>(0))
        .optional()?
        .ok_or(S3ErrorCode::InvalidAccessKeyId)?;
    if known_user(c, &uid)?.suspended {
        return Err(user_suspended().into());
    }
    Ok(uid)
}

pub(crate) struct Owners(pub(crate) Arc<Store>);

#[async_trait::async_trait]
impl S3Access for Owners {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = cx.credentials() else {
            return Err(refusal(S3ErrorCode::AccessDenied));
        };
        let access_key = credentials.access_key.clone();
        let bucket = cx.s3_path().get_bucket_name().map(str::to_owned);
        let operation = cx.s3_op().name().to_owned();
        let expected_owner = cx.headers().get("x-amz-expected-bucket-owner").cloned();
        admit(
            &self.0,
            access_key,
            bucket,
            &operation,
            expected_owner,
            cx.extensions_mut(),
        )
        .await
    }
}

/// Lets an account reach its own bucket, and leaves with the request who it is.
pub(crate) async fn admit(
    store: &Arc<Store>,
    access_key: String,
    bucket: Option<String>,
    operation: &str,
    expected_owner: Option<HeaderValue>,
    extensions: &mut Extensions,
) -> S3Result<()> {
    let creates = operation == "CreateBucket";
    let (uid, bucket) = store
        .read(move |c| {
            let uid = active_user(c, &access_key)?;
            // A bucket about to be made is nobody's yet.
            let Some(name) = bucket.filter(|_| !creates) else {
                return Ok((uid, None));
            };
            let found = find_bucket(c, &name)?.ok_or(S3ErrorCode::NoSuchBucket)?;
            if found.uid != uid || expected_owner.is_some_and(|expected| expected != *uid) {
                return Err(S3ErrorCode::AccessDenied.into());
            }
            Ok((uid, Some(name)))
        })
        .await?;
    if let (Some(bucket), Some(meter)) = (bucket, extensions.get::<Arc<Meter>>()) {
        meter.attribute(&uid, &bucket, operation);
    }
    extensions.insert(Caller { uid });
    Ok(())
}
