//! Uploads in parts. The parts' files become the object's as they are: completing copies nothing.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response};

use super::access::caller;
use super::body::{Expected, Staged, receive};
use super::fault::{Fault, invalid_argument, quota_exceeded, refusal};
use super::front::Front;
use super::objects::{Source, length, meta_of, open_source, refuse_unsupported, told_version_id};
use super::records::{
    Bucket, Checksums, Meta, NewVersion, WriteCondition, add_version, check_quota, exceeds,
    known_user, newest, now_ms, own_bucket, timestamp,
};
use super::store::Writing;
use crate::random::random_id;

const PART_MIN_BYTES: i64 = 5 * 1024 * 1024;
const PARTS_MAX: i32 = 10_000;

pub(crate) struct Upload {
    pub id: String,
    meta: String,
}

pub(crate) fn find_upload(
    c: &Connection,
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
) -> rusqlite::Result<Option<Upload>> {
    c.prepare_cached("SELECT id, meta FROM uploads WHERE id = ?1 AND bucket_id = ?2 AND key = ?3")?
        .query_row(params![upload_id, bucket.id, key.as_bytes()], |row| {
            Ok(Upload {
                id: row.get(0)?,
                meta: row.get(1)?,
            })
        })
        .optional()
}

fn own_upload(
    c: &Connection,
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
) -> Result<Upload, Fault> {
    find_upload(c, bucket, key, upload_id)?.ok_or_else(|| S3ErrorCode::NoSuchUpload.into())
}

pub(crate) async fn create(
    front: &Front,
    req: S3Request<CreateMultipartUploadInput>,
) -> Result<S3Response<CreateMultipartUploadOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    refuse_unsupported!(input);
    let meta = serde_json::to_string(&meta_of!(input))?;
    let upload_id = random_id();
    let output = CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(upload_id.clone()),
        ..CreateMultipartUploadOutput::default()
    };
    let now = Arc::clone(&front.now);
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &input.bucket)?;
            w.prepare_cached("INSERT INTO uploads (id, bucket_id, key, created_ms, meta) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![upload_id, bucket.id, input.key.as_bytes(), now_ms(&now), meta])?;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(output))
}

/// Where a part is about to be written.
struct Target {
    uid: String,
    bucket: String,
    key: String,
    upload_id: String,
    number: i32,
}

impl Target {
    fn check_number(&self) -> Result<(), Fault> {
        if (1..=PARTS_MAX).contains(&self.number) {
            return Ok(());
        }
        Err(
            invalid_argument("Part number must be an integer between 1 and 10000, inclusive")
                .into(),
        )
    }

    /// As for whole objects: refuses early, and says how many bytes the quota leaves.
    async fn admit(&self, front: &Front, length_bytes: Option<u64>) -> Result<Option<u64>, Fault> {
        self.check_number()?;
        let (uid, bucket, key) = (self.uid.clone(), self.bucket.clone(), self.key.clone());
        let (upload_id, number) = (self.upload_id.clone(), self.number);
        front
            .store
            .read(move |c| {
                let bucket = own_bucket(c, &uid, &bucket)?;
                own_upload(c, &bucket, &key, &upload_id)?;
                let user = known_user(c, &uid)?;
                let replaced_bytes: i64 = c
                    .prepare_cached(
                        "SELECT size_bytes FROM parts WHERE upload_id = ?1 AND number = ?2",
                    )?
                    .query_row(params![upload_id, number], |row| row.get(0))
                    .optional()?
                    .unwrap_or_default();
                let rest_bytes = user.stored_bytes - replaced_bytes;
                if let Some(length_bytes) = length_bytes
                    && exceeds(
                        &user.quota_bytes,
                        user.stored_bytes,
                        rest_bytes.saturating_add_unsigned(length_bytes),
                    )
                {
                    return Err(quota_exceeded().into());
                }
                Ok(user.quota_bytes.map(|quota_bytes| {
                    u64::try_from((quota_bytes - rest_bytes).max(replaced_bytes))
                        .unwrap_or_default()
                }))
            })
            .await
    }

    /// Records the part, in place of an earlier one of its number; gives its tag and date.
    async fn commit(self, front: &Front, staged: Staged) -> Result<(ETag, Timestamp), Fault> {
        let modified_ms = now_ms(&front.now);
        let etag = staged.etag();
        let tag = ETag::Strong(etag.clone());
        front
            .store
            .write(move |w| {
                let bucket = own_bucket(w, &self.uid, &self.bucket)?;
                let upload = own_upload(w, &bucket, &self.key, &self.upload_id)?;
                let user = known_user(w, &self.uid)?;
                let replaced: Option<Option<i64>> = w
                    .prepare_cached("DELETE FROM parts WHERE upload_id = ?1 AND number = ?2 RETURNING blob_id")?
                    .query_row(params![upload.id, self.number], |row| row.get(0))
                    .optional()?;
                if let Some(blob) = replaced.flatten() {
                    w.discard(blob);
                }
                let blob = staged.blob().map(|(blob, _)| blob);
                if let Some(blob) = blob {
                    w.adopt(blob)?;
                }
                w.prepare_cached(
                    "INSERT INTO parts (upload_id, number, bucket_id, blob_id, size_bytes, etag, modified_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    upload.id,
                    self.number,
                    bucket.id,
                    blob,
                    staged.size_bytes,
                    etag,
                    modified_ms
                ])?;
                check_quota(w, &user)
            })
            .await?;
        Ok((tag, timestamp(modified_ms)))
    }
}

pub(crate) async fn upload_part(
    front: &Front,
    req: S3Request<UploadPartInput>,
) -> Result<S3Response<UploadPartOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    if input.sse_customer_algorithm.is_some() {
        return Err(S3ErrorCode::NotImplemented.into());
    }
    let length_bytes = length(input.content_length)?;
    let target = Target {
        uid,
        bucket: input.bucket,
        key: input.key,
        upload_id: input.upload_id,
        number: input.part_number,
    };
    let allowed_bytes = target.admit(front, length_bytes).await?;
    let expected = Expected {
        length_bytes,
        allowed_bytes,
        md5: input.content_md5,
        checksums: Checksums {
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
            sha1: input.checksum_sha1,
            sha256: input.checksum_sha256,
        },
        ..Expected::default()
    }
    .with_trailers(&req.headers, req.trailing_headers);
    let staged = receive(&front.store, input.body, expected).await?;
    let checksums = staged.checksums.clone();
    let (tag, _) = target.commit(front, staged).await?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(tag),
        checksum_crc32: checksums.crc32,
        checksum_crc32c: checksums.crc32c,
        checksum_crc64nvme: checksums.crc64nvme,
        checksum_sha1: checksums.sha1,
        checksum_sha256: checksums.sha256,
        ..UploadPartOutput::default()
    }))
}

pub(crate) async fn upload_part_copy(
    front: &Front,
    req: S3Request<UploadPartCopyInput>,
) -> Result<S3Response<UploadPartCopyOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    if input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some()
    {
        return Err(S3ErrorCode::NotImplemented.into());
    }
    let range = input
        .copy_source_range
        .as_deref()
        .map(|range| {
            Range::parse(range)
                .map_err(|_| invalid_argument("The x-amz-copy-source-range value is not valid"))
        })
        .transpose()?;
    let source = Source::new(&input.copy_source)?;
    let target = Target {
        uid: uid.clone(),
        bucket: input.bucket,
        key: input.key,
        upload_id: input.upload_id,
        number: input.part_number,
    };
    let opened = open_source(
        front,
        &uid,
        &source,
        input.copy_source_if_match,
        input.copy_source_if_none_match,
        input.copy_source_if_modified_since,
        input.copy_source_if_unmodified_since,
        range,
    )
    .await?;
    let allowed_bytes = target.admit(front, Some(opened.length_bytes)).await?;
    let expected = Expected {
        length_bytes: Some(opened.length_bytes),
        allowed_bytes,
        ..Expected::default()
    };
    let staged = receive(&front.store, Some(opened.content), expected).await?;
    let (tag, modified) = target.commit(front, staged).await?;
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(CopyPartResult {
            e_tag: Some(tag),
            last_modified: Some(modified),
            ..CopyPartResult::default()
        }),
        copy_source_version_id: opened.version_id,
        ..UploadPartCopyOutput::default()
    }))
}

/// A part as it is stored.
struct Stored {
    number: i32,
    blob: Option<i64>,
    size_bytes: i64,
    etag: String,
}

fn parts_of(c: &Connection, upload_id: &str) -> rusqlite::Result<Vec<Stored>> {
    c.prepare_cached(
        "SELECT number, blob_id, size_bytes, etag FROM parts WHERE upload_id = ?1 ORDER BY number",
    )?
    .query_map(params![upload_id], |row| {
        Ok(Stored {
            number: row.get(0)?,
            blob: row.get(1)?,
            size_bytes: row.get(2)?,
            etag: row.get(3)?,
        })
    })?
    .collect()
}

pub(crate) async fn complete(
    front: &Front,
    req: S3Request<CompleteMultipartUploadInput>,
) -> Result<S3Response<CompleteMultipartUploadOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let wanted = input
        .multipart_upload
        .and_then(|upload| upload.parts)
        .unwrap_or_default();
    if wanted.is_empty() {
        return Err(refusal(S3ErrorCode::MalformedXML).into());
    }
    let condition = WriteCondition {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    let (bucket, key) = (input.bucket.clone(), input.key.clone());
    let now = Arc::clone(&front.now);
    let (bucket, version) = front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &bucket)?;
            let upload = own_upload(w, &bucket, &key, &input.upload_id)?;
            condition.check(newest(w, &bucket, &key)?.as_ref())?;
            let user = known_user(w, &uid)?;
            let stored = parts_of(w, &upload.id)?;
            let chosen = choose(&stored, &wanted)?;
            let size_bytes: i64 = chosen.iter().map(|part| part.size_bytes).sum();
            if input
                .mpu_object_size
                .is_some_and(|expected| expected != size_bytes)
            {
                return Err(S3ErrorCode::InvalidRequest.into());
            }
            let new = NewVersion {
                etag: joint_etag(&chosen),
                meta: serde_json::from_str::<Meta>(&upload.meta)?,
                delete_marker: false,
                blobs: chosen
                    .iter()
                    .filter_map(|part| Some((part.blob?, part.size_bytes)))
                    .collect(),
            };
            let kept: HashSet<_> = chosen.iter().filter_map(|part| part.blob).collect();
            for part in &stored {
                if let Some(blob) = part.blob
                    && !kept.contains(&blob)
                {
                    w.discard(blob);
                }
            }
            forget(w, &upload.id)?;
            let version = add_version(w, &bucket, &key, new, &now)?;
            check_quota(w, &user)?;
            Ok((bucket, version))
        })
        .await?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(version.e_tag()),
        version_id: told_version_id(&bucket, &version),
        ..CompleteMultipartUploadOutput::default()
    }))
}

/// The stored parts the client names, which must be in order, complete and big enough.
fn choose<'a>(stored: &'a [Stored], wanted: &[CompletedPart]) -> Result<Vec<&'a Stored>, Fault> {
    let mut chosen: Vec<&Stored> = Vec::with_capacity(wanted.len());
    for part in wanted {
        let number = part.part_number.ok_or(S3ErrorCode::MalformedXML)?;
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(S3ErrorCode::InvalidPartOrder.into());
        }
        let found = stored
            .binary_search_by_key(&number, |part| part.number)
            .map_err(|_| S3ErrorCode::InvalidPart)?;
        let found = &stored[found];
        if part
            .e_tag
            .as_ref()
            .is_none_or(|tag| tag.value() != found.etag)
        {
            return Err(S3ErrorCode::InvalidPart.into());
        }
        chosen.push(found);
    }
    if let Some((_, all_but_last)) = chosen.split_last()
        && all_but_last
            .iter()
            .any(|part| part.size_bytes < PART_MIN_BYTES)
    {
        return Err(S3ErrorCode::EntityTooSmall.into());
    }
    Ok(chosen)
}

/// The MD5 of the parts' MD5s, and how many there are.
fn joint_etag(parts: &[&Stored]) -> String {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(&hex::decode(&part.etag).unwrap_or_default());
    }
    format!("{}-{}", hex::encode(digest.finalize()), parts.len())
}

/// Removes the upload and its parts from the metadata; the files are the caller's to keep or discard.
fn forget(w: &Writing<'_>, upload_id: &str) -> Result<(), Fault> {
    w.prepare_cached("DELETE FROM parts WHERE upload_id = ?1")?
        .execute(params![upload_id])?;
    w.prepare_cached("DELETE FROM uploads WHERE id = ?1")?
        .execute(params![upload_id])?;
    Ok(())
}

pub(crate) async fn abort(
    front: &Front,
    req: S3Request<AbortMultipartUploadInput>,
) -> Result<S3Response<AbortMultipartUploadOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &input.bucket)?;
            let upload = own_upload(w, &bucket, &input.key, &input.upload_id)?;
            for part in parts_of(w, &upload.id)? {
                if let Some(blob) = part.blob {
                    w.discard(blob);
                }
            }
            forget(w, &upload.id)
        })
        .await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}
