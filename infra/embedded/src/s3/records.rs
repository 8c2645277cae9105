//! The rows of the metadata, and the few ways they change.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Row, params};
use s3s::S3ErrorCode;
use s3s::dto::{ETag, ETagCondition, Timestamp};
use serde::{Deserialize, Serialize};

use super::checksums::{Algorithm, Kind};
use super::fault::{Fault, custom, invalid_argument, no_such_user, quota_exceeded};
use super::store::Writing;
use crate::Now;
use crate::random::random_id;

/// The version id of what is written while versioning is off.
pub(crate) const NULL_VERSION: &str = "null";

pub(crate) fn now_ms(now: &Now) -> i64 {
    now().as_millisecond()
}

/// S3's date for milliseconds since 1970.
pub(crate) fn timestamp(ms: i64) -> Timestamp {
    let since = Duration::from_millis(ms.unsigned_abs());
    let moment = if ms < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(since)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since)
    };
    Timestamp::from(moment.unwrap_or(SystemTime::UNIX_EPOCH))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Versioning {
    Never = 0,
    Enabled = 1,
    Suspended = 2,
}

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub id: i64,
    pub name: String,
    pub uid: String,
    pub created_ms: i64,
    pub versioning: Versioning,
    pub stored_bytes: i64,
    pub objects: i64,
    pub versions: i64,
    pub noncurrent_bytes: i64,
    pub multipart_bytes: i64,
}

const BUCKET_COLUMNS: &str = "id, name, uid, created_ms, versioning, stored_bytes, objects, versions, \
     noncurrent_bytes, multipart_bytes";

fn bucket_from(row: &Row<'_>) -> rusqlite::Result<Bucket> {
    Ok(Bucket {
        id: row.get(0)?,
        name: row.get(1)?,
        uid: row.get(2)?,
        created_ms: row.get(3)?,
        versioning: match row.get(4)? {
            1 => Versioning::Enabled,
            2 => Versioning::Suspended,
            _ => Versioning::Never,
        },
        stored_bytes: row.get(5)?,
        objects: row.get(6)?,
        versions: row.get(7)?,
        noncurrent_bytes: row.get(8)?,
        multipart_bytes: row.get(9)?,
    })
}

pub(crate) fn find_bucket(c: &Connection, name: &str) -> rusqlite::Result<Option<Bucket>> {
    c.prepare_cached(&format!(
        "SELECT {BUCKET_COLUMNS} FROM buckets WHERE name = ?1"
    ))?
    .query_row(params![name], bucket_from)
    .optional()
}

/// The bucket, if it is this account's. Asked again inside every transaction: between the access
/// check and now it may have been deleted, and its name taken by somebody else.
pub(crate) fn own_bucket(c: &Connection, uid: &str, name: &str) -> Result<Bucket, Fault> {
    let bucket = find_bucket(c, name)?.ok_or(S3ErrorCode::NoSuchBucket)?;
    if bucket.uid != uid {
        return Err(S3ErrorCode::AccessDenied.into());
    }
    Ok(bucket)
}

/// The account's buckets by name, from after `after` on.
pub(crate) fn buckets_of(
    c: &Connection,
    uid: &str,
    after: &str,
    limit: i64,
) -> rusqlite::Result<Vec<Bucket>> {
    c.prepare_cached(&format!(
        "SELECT {BUCKET_COLUMNS} FROM buckets WHERE uid = ?1 AND name > ?2 ORDER BY name LIMIT ?3"
    ))?
    .query_map(params![uid, after, limit], bucket_from)?
    .collect()
}

/// Makes the bucket, or finds it made by the same account; says whether it is new.
pub(crate) fn create_bucket(
    w: &Writing<'_>,
    uid: &str,
    name: &str,
    now: &Now,
) -> Result<(Bucket, bool), Fault> {
    if !s3s::path::check_bucket_name(name) {
        return Err(S3ErrorCode::InvalidBucketName.into());
    }
    if let Some(bucket) = find_bucket(w, name)? {
        if bucket.uid != uid {
            return Err(S3ErrorCode::BucketAlreadyExists.into());
        }
        return Ok((bucket, false));
    }
    if find_user(w, uid)?.is_none() {
        return Err(no_such_user().into());
    }
    w.prepare_cached("INSERT INTO buckets (name, uid, created_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![name, uid, now_ms(now)])?;
    let bucket = find_bucket(w, name)?.ok_or(S3ErrorCode::NoSuchBucket)?;
    Ok((bucket, true))
}

/// Deletes the bucket if no version and no delete marker is in it; unfinished uploads go with it.
pub(crate) fn delete_bucket(w: &mut Writing<'_>, bucket: &Bucket) -> Result<(), Fault> {
    let has_versions: bool = w
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM versions WHERE bucket_id = ?1)")?
        .query_row(params![bucket.id], |row| row.get(0))?;
    if has_versions {
        return Err(S3ErrorCode::BucketNotEmpty.into());
    }
    let blobs: Vec<Option<i64>> = w
        .prepare_cached(
            "DELETE FROM parts WHERE upload_id IN (SELECT id FROM uploads WHERE bucket_id = ?1) RETURNING blob_id",
        )?
        .query_map(params![bucket.id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for blob in blobs.into_iter().flatten() {
        w.discard(blob);
    }
    w.prepare_cached("DELETE FROM uploads WHERE bucket_id = ?1")?
        .execute(params![bucket.id])?;
    // The bucket's id may be given again.
    w.prepare_cached("DELETE FROM completed_uploads WHERE bucket_id = ?1")?
        .execute(params![bucket.id])?;
    w.prepare_cached("DELETE FROM buckets WHERE id = ?1")?
        .execute(params![bucket.id])?;
    Ok(())
}

pub(crate) fn is_empty(c: &Connection, bucket: &Bucket) -> rusqlite::Result<bool> {
    c.prepare_cached(
        "SELECT NOT EXISTS (SELECT 1 FROM versions WHERE bucket_id = ?1)
            AND NOT EXISTS (SELECT 1 FROM uploads WHERE bucket_id = ?1)",
    )?
    .query_row(params![bucket.id], |row| row.get(0))
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub uid: String,
    pub display_name: String,
    pub suspended: bool,
    pub quota_bytes: Option<i64>,
    pub stored_bytes: i64,
    pub objects: i64,
}

pub(crate) fn find_user(c: &Connection, uid: &str) -> rusqlite::Result<Option<User>> {
    c.prepare_cached(
        "SELECT uid, display_name, suspended, quota_bytes, stored_bytes, objects FROM users WHERE uid = ?1",
    )?
    .query_row(params![uid], |row| {
        Ok(User {
            uid: row.get(0)?,
            display_name: row.get(1)?,
            suspended: row.get(2)?,
            quota_bytes: row.get(3)?,
            stored_bytes: row.get(4)?,
            objects: row.get(5)?,
        })
    })
    .optional()
}

pub(crate) fn known_user(c: &Connection, uid: &str) -> Result<User, Fault> {
    find_user(c, uid)?.ok_or_else(|| no_such_user().into())
}

/// The rule of the quota: no write may leave the account above it, unless it leaves the account
/// with less than before. Everything stored counts: old versions and unfinished uploads too.
pub(crate) fn check_quota(c: &Connection, before: &User) -> Result<(), Fault> {
    let after = known_user(c, &before.uid)?;
    if exceeds(&before.quota_bytes, before.stored_bytes, after.stored_bytes) {
        return Err(quota_exceeded().into());
    }
    Ok(())
}

pub(crate) fn exceeds(quota_bytes: &Option<i64>, before_bytes: i64, after_bytes: i64) -> bool {
    quota_bytes.is_some_and(|quota| after_bytes > quota && after_bytes >= before_bytes)
}

/// What a version carries besides its content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website_redirect_location: Option<String>,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub user: HashMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Checksums::is_none")]
    pub checksums: Checksums,
    /// What the checksums are of: the content, unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_kind: Option<Kind>,
    /// Of an upload: what its parts are summed up with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_algorithm: Option<Algorithm>,
    /// Until then this version cannot be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_until_ms: Option<i64>,
}

/// Base64, as the cluster computed and clients are told them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checksums {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc32: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crc64nvme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Checksums {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One version of an object, or a delete marker.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub age: i64,
    pub version_id: String,
    pub delete_marker: bool,
    pub size_bytes: i64,
    pub etag: String,
    pub modified_ms: i64,
    meta: String,
}

impl Version {
    pub(crate) fn meta(&self) -> Result<Meta, Fault> {
        Ok(serde_json::from_str(&self.meta)?)
    }

    /// Refuses to have it deleted before its retention ends.
    pub(crate) fn check_lock(&self, now: &Now) -> Result<(), Fault> {
        match self.meta()?.retain_until_ms {
            Some(until_ms) if until_ms > now_ms(now) => Err(custom(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
            )
            .into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn modified(&self) -> Timestamp {
        timestamp(self.modified_ms)
    }

    pub(crate) fn e_tag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }

    /// How many parts it was uploaded in, if it was.
    pub(crate) fn parts_count(&self) -> Option<i32> {
        self.etag.split_once('-')?.1.parse().ok()
    }
}

const VERSION_COLUMNS: &str = "age, version_id, delete_marker, size_bytes, etag, modified_ms, meta";

fn version_from(row: &Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        age: row.get(0)?,
        version_id: row.get(1)?,
        delete_marker: row.get(2)?,
        size_bytes: row.get(3)?,
        etag: row.get(4)?,
        modified_ms: row.get(5)?,
        meta: row.get(6)?,
    })
}

/// The newest entry of a key; it is the current one.
pub(crate) fn newest(
    c: &Connection,
    bucket: &Bucket,
    key: &str,
) -> rusqlite::Result<Option<Version>> {
    c.prepare_cached(&format!(
        "SELECT {VERSION_COLUMNS} FROM versions WHERE bucket_id = ?1 AND key = ?2 ORDER BY age LIMIT 1"
    ))?
    .query_row(params![bucket.id, key.as_bytes()], version_from)
    .optional()
}

pub(crate) fn find_version(
    c: &Connection,
    bucket: &Bucket,
    key: &str,
    version_id: &str,
) -> Result<Option<Version>, Fault> {
    if version_id == NULL_VERSION {
        return Ok(c
            .prepare_cached(&format!(
                "SELECT {VERSION_COLUMNS} FROM versions
                 WHERE bucket_id = ?1 AND key = ?2 AND version_id = 'null' LIMIT 1"
            ))?
            .query_row(params![bucket.id, key.as_bytes()], version_from)
            .optional()?);
    }
    let age = age_of(version_id).ok_or_else(|| invalid_argument("Invalid version id specified"))?;
    Ok(c.prepare_cached(&format!(
        "SELECT {VERSION_COLUMNS} FROM versions
         WHERE bucket_id = ?1 AND key = ?2 AND age = ?3 AND version_id = ?4"
    ))?
    .query_row(
        params![bucket.id, key.as_bytes(), age, version_id],
        version_from,
    )
    .optional()?)
}

/// A version id begins with the number of its write, which finds the row without an index more.
fn age_of(version_id: &str) -> Option<i64> {
    if version_id.len() != 32 || !version_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(&version_id[..16], 16)
        .ok()?
        .checked_neg()
}

/// What a version is made of.
pub(crate) struct NewVersion {
    pub etag: String,
    pub meta: Meta,
    pub delete_marker: bool,
    /// File and size, in order.
    pub blobs: Vec<(i64, i64)>,
}

impl NewVersion {
    pub(crate) fn delete_marker() -> Self {
        Self {
            etag: String::new(),
            meta: Meta::default(),
            delete_marker: true,
            blobs: Vec::new(),
        }
    }
}

/// Puts a version on top of the key's others, in place of the null version when versioning is off.
pub(crate) fn add_version(
    w: &mut Writing<'_>,
    bucket: &Bucket,
    key: &str,
    new: NewVersion,
    now: &Now,
) -> Result<Version, Fault> {
    let replaces_null = bucket.versioning != Versioning::Enabled;
    if replaces_null && let Some(replaced) = find_version(w, bucket, key, NULL_VERSION)? {
        delete_version(w, bucket, key, &replaced)?;
    }
    w.prepare_cached(
        "UPDATE versions SET is_current = 0 WHERE bucket_id = ?1 AND key = ?2 AND is_current = 1
            AND age = (SELECT age FROM versions WHERE bucket_id = ?1 AND key = ?2 ORDER BY age LIMIT 1)",
    )?
    .execute(params![bucket.id, key.as_bytes()])?;
    let sequence = w.next_sequence();
    let version = Version {
        age: -sequence,
        version_id: if replaces_null {
            NULL_VERSION.to_owned()
        } else {
            format!("{sequence:016x}{}", &random_id()[..16])
        },
        delete_marker: new.delete_marker,
        size_bytes: new.blobs.iter().map(|(_, size_bytes)| size_bytes).sum(),
        etag: new.etag,
        modified_ms: now_ms(now),
        meta: serde_json::to_string(&new.meta)?,
    };
    w.prepare_cached(
        "INSERT INTO versions (bucket_id, key, age, version_id, is_current, delete_marker, size_bytes, etag, modified_ms, meta)
         VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        bucket.id,
        key.as_bytes(),
        version.age,
        version.version_id,
        version.delete_marker,
        version.size_bytes,
        version.etag,
        version.modified_ms,
        version.meta
    ])?;
    let mut insert = w.prepare_cached(
        "INSERT INTO blobs (id, sequence, position, size_bytes) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (position, (blob, size_bytes)) in new.blobs.iter().enumerate() {
        insert.execute(params![blob, sequence, position as i64, size_bytes])?;
    }
    Ok(version)
}

/// Takes a version away. The caller makes the next one current ([`promote`]) unless it adds one.
pub(crate) fn delete_version(
    w: &mut Writing<'_>,
    bucket: &Bucket,
    key: &str,
    version: &Version,
) -> Result<(), Fault> {
    w.prepare_cached("DELETE FROM versions WHERE bucket_id = ?1 AND key = ?2 AND age = ?3")?
        .execute(params![bucket.id, key.as_bytes(), version.age])?;
    delete_blobs(w, version.age)
}

/// Forgets the files of a version that is gone, and has them deleted.
pub(crate) fn delete_blobs(w: &mut Writing<'_>, age: i64) -> Result<(), Fault> {
    let blobs: Vec<i64> = w
        .prepare_cached("DELETE FROM blobs WHERE sequence = ?1 RETURNING id")?
        .query_map(params![-age], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for blob in blobs {
        w.discard(blob);
    }
    w.prepare_cached("DELETE FROM version_parts WHERE sequence = ?1")?
        .execute(params![-age])?;
    Ok(())
}

/// A part of a version that was uploaded in parts.
pub(crate) struct VersionPart {
    pub number: i32,
    pub size_bytes: i64,
    pub checksums: Checksums,
}

pub(crate) fn add_version_part(
    w: &Writing<'_>,
    version: &Version,
    part: &VersionPart,
) -> Result<(), Fault> {
    w.prepare_cached(
        "INSERT INTO version_parts (sequence, number, size_bytes, checksums) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![
        -version.age,
        part.number,
        part.size_bytes,
        serde_json::to_string(&part.checksums)?
    ])?;
    Ok(())
}

/// The parts of a version after number `after`. Versions of earlier releases have none.
pub(crate) fn version_parts(
    c: &Connection,
    version: &Version,
    after: i32,
    limit: i64,
) -> Result<Vec<VersionPart>, Fault> {
    let rows: Vec<(i32, i64, String)> = c
        .prepare_cached(
            "SELECT number, size_bytes, checksums FROM version_parts
             WHERE sequence = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
        )?
        .query_map(params![-version.age, after, limit], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    rows.into_iter()
        .map(|(number, size_bytes, checksums)| {
            Ok(VersionPart {
                number,
                size_bytes,
                checksums: serde_json::from_str(&checksums)?,
            })
        })
        .collect()
}

/// Makes the newest of what is left of a key its current version.
pub(crate) fn promote(w: &Writing<'_>, bucket: &Bucket, key: &str) -> Result<(), Fault> {
    w.prepare_cached(
        "UPDATE versions SET is_current = 1 WHERE bucket_id = ?1 AND key = ?2 AND is_current = 0
            AND age = (SELECT age FROM versions WHERE bucket_id = ?1 AND key = ?2 ORDER BY age LIMIT 1)",
    )?
    .execute(params![bucket.id, key.as_bytes()])?;
    Ok(())
}

pub(crate) fn set_meta(
    w: &Writing<'_>,
    bucket: &Bucket,
    key: &str,
    version: &Version,
    meta: &Meta,
) -> Result<(), Fault> {
    w.prepare_cached(
        "UPDATE versions SET meta = ?4 WHERE bucket_id = ?1 AND key = ?2 AND age = ?3",
    )?
    .execute(params![
        bucket.id,
        key.as_bytes(),
        version.age,
        serde_json::to_string(meta)?
    ])?;
    Ok(())
}

/// The files of a version with their sizes, in order.
pub(crate) fn blobs_of(c: &Connection, version: &Version) -> rusqlite::Result<Vec<(i64, i64)>> {
    c.prepare_cached("SELECT id, size_bytes FROM blobs WHERE sequence = ?1 ORDER BY position")?
        .query_map(params![-version.age], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The conditions of a write, on what is current when it happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteCondition {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
}

impl WriteCondition {
    pub(crate) fn check(&self, current: Option<&Version>) -> Result<(), Fault> {
        let current = current.filter(|version| !version.delete_marker);
        if let Some(condition) = &self.if_none_match
            && current.is_some_and(|version| matches(condition, &version.etag))
        {
            return Err(S3ErrorCode::PreconditionFailed.into());
        }
        if let Some(condition) = &self.if_match {
            let version = current.ok_or(S3ErrorCode::NoSuchKey)?;
            if !matches(condition, &version.etag) {
                return Err(S3ErrorCode::PreconditionFailed.into());
            }
        }
        Ok(())
    }
}

pub(crate) fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}
