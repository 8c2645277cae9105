//! Multipart uploads. The parts' files become the object's as they are: completing copies nothing.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response};
use serde::{Deserialize, Serialize};

use super::access::caller;
use super::body::{Expected, Staged, receive};
use super::checksums::{Algorithm, Kind, checksums_of, of_upload, tell_checksums};
use super::fault::{Fault, invalid_argument, not_offered, quota_exceeded, refusal};
use super::front::Front;
use super::objects::{Source, length, meta_of, open_source, refuse_unsupported, told_version_id};
use super::records::{
    Bucket, Checksums, Meta, NewVersion, VersionPart, WriteCondition, add_version,
    add_version_part, check_quota, exceeds, known_user, newest, now_ms, own_bucket, timestamp,
};
use super::store::Writing;
use crate::random::random_id;

const PART_MIN_BYTES: i64 = 5 * 1024 * 1024;
const PARTS_MAX: i32 = 10_000;

pub(crate) struct Upload {
    pub id: String,
    meta: String,
}

impl Upload {
    pub(crate) fn meta(&self) -> Result<Meta, Fault> {
        Ok(serde_json::from_str(&self.meta)?)
    }
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
    let (algorithm, kind) = of_upload(
        input.checksum_algorithm.as_ref(),
        input.checksum_type.as_ref(),
    )?;
    let meta = serde_json::to_string(&Meta {
        checksum_algorithm: algorithm,
        checksum_kind: kind,
        ..meta_of!(input)
    })?;
    let upload_id = random_id();
    let output = CreateMultipartUploadOutput {
        checksum_algorithm: algorithm.map(Algorithm::as_dto),
        checksum_type: kind.map(Kind::as_dto),
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

    /// As for whole objects: refuses early, and says how many bytes the quota leaves. Says as well
    /// what the upload's parts are summed up with.
    async fn admit(
        &self,
        front: &Front,
        length_bytes: Option<u64>,
    ) -> Result<(Option<u64>, Option<Algorithm>), Fault> {
        self.check_number()?;
        let (uid, bucket, key) = (self.uid.clone(), self.bucket.clone(), self.key.clone());
        let (upload_id, number) = (self.upload_id.clone(), self.number);
        front
            .store
            .read(move |c| {
                let bucket = own_bucket(c, &uid, &bucket)?;
                let algorithm = own_upload(c, &bucket, &key, &upload_id)?
                    .meta()?
                    .checksum_algorithm;
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
                let allowed_bytes = user.quota_bytes.map(|quota_bytes| {
                    u64::try_from((quota_bytes - rest_bytes).max(replaced_bytes))
                        .unwrap_or_default()
                });
                Ok((allowed_bytes, algorithm))
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
                    "INSERT INTO parts (upload_id, number, bucket_id, blob_id, size_bytes, etag, modified_ms, checksums)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    upload.id,
                    self.number,
                    bucket.id,
                    blob,
                    staged.size_bytes,
                    etag,
                    modified_ms,
                    serde_json::to_string(&staged.checksums)?
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
    let mut input = req.input;
    if input.sse_customer_algorithm.is_some() {
        return Err(not_offered("Encryption is not offered."));
    }
    let length_bytes = length(input.content_length)?;
    let target = Target {
        uid,
        bucket: input.bucket,
        key: input.key,
        upload_id: input.upload_id,
        number: input.part_number,
    };
    let asked = Algorithm::asked_for_body(&req.headers, input.checksum_algorithm.as_ref())?;
    let (allowed_bytes, algorithm) = target.admit(front, length_bytes).await?;
    let expected = Expected {
        length_bytes,
        allowed_bytes,
        md5: input.content_md5,
        checksums: checksums_of!(input),
        algorithms: asked.into_iter().collect(),
        ..Expected::default()
    }
    .with_trailers(&req.headers, req.trailing_headers);
    let mut told = expected.wanted();
    match algorithm {
        Some(algorithm) => {
            expected.check_algorithm(algorithm)?;
            told = vec![algorithm];
        }
        None if told.is_empty() => told.push(Algorithm::Crc64nvme),
        None => {}
    }
    // Where the upload names none, the whole is summed up with CRC64NVME.
    let mut expected = expected;
    expected
        .algorithms
        .push(algorithm.unwrap_or(Algorithm::Crc64nvme));
    let staged = receive(&front.store, input.body, expected).await?;
    let checksums = staged.checksums.among(&told);
    let (tag, _) = target.commit(front, staged).await?;
    let mut output = UploadPartOutput {
        e_tag: Some(tag),
        ..UploadPartOutput::default()
    };
    tell_checksums!(output, checksums);
    Ok(S3Response::new(output))
}

pub(crate) async fn upload_part_copy(
    front: &Front,
    req: S3Request<UploadPartCopyInput>,
) -> Result<S3Response<UploadPartCopyOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    if input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some()
    {
        return Err(not_offered("Encryption is not offered."));
    }
    // Unlike a download's, it has both ends and does not reach beyond the source.
    let range = input
        .copy_source_range
        .as_deref()
        .map(|range| match Range::parse(range) {
            Ok(range @ Range::Int { last: Some(_), .. }) => Ok(range),
            _ => Err(invalid_argument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are \
                 the zero-based offsets of the first and last bytes to copy",
            )),
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
    let (allowed_bytes, algorithm) = target.admit(front, Some(opened.length_bytes)).await?;
    let expected = Expected {
        length_bytes: Some(opened.length_bytes),
        allowed_bytes,
        algorithms: algorithm.into_iter().collect(),
        ..Expected::default()
    };
    let staged = receive(&front.store, Some(opened.content), expected).await?;
    let mut result = CopyPartResult::default();
    tell_checksums!(result, staged.checksums.clone());
    let (tag, modified) = target.commit(front, staged).await?;
    result.e_tag = Some(tag);
    result.last_modified = Some(modified);
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
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
    /// Parts that an earlier release stored have none.
    checksums: Checksums,
}

/// The column of a part's checksums.
pub(crate) fn checksums_from(column: Option<String>) -> Checksums {
    column
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn parts_of(c: &Connection, upload_id: &str) -> rusqlite::Result<Vec<Stored>> {
    c.prepare_cached(
        "SELECT number, blob_id, size_bytes, etag, checksums FROM parts WHERE upload_id = ?1 ORDER BY number",
    )?
    .query_map(params![upload_id], |row| {
        Ok(Stored {
            number: row.get(0)?,
            blob: row.get(1)?,
            size_bytes: row.get(2)?,
            etag: row.get(3)?,
            checksums: checksums_from(row.get(4)?),
        })
    })?
    .collect()
}

/// What a completed upload was answered.
#[derive(Clone, Serialize, Deserialize)]
struct Completed {
    etag: String,
    #[serde(default)]
    version_id: Option<String>,
    #[serde(default)]
    checksums: Checksums,
    #[serde(default)]
    checksum_kind: Option<Kind>,
}

pub(crate) async fn complete(
    front: &Front,
    req: S3Request<CompleteMultipartUploadInput>,
) -> Result<S3Response<CompleteMultipartUploadOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let mut input = req.input;
    let mut wanted = input
        .multipart_upload
        .take()
        .and_then(|upload| upload.parts)
        .unwrap_or_default();
    if wanted.is_empty() {
        return Err(refusal(S3ErrorCode::MalformedXML).into());
    }
    let condition = WriteCondition {
        if_match: input.if_match.take(),
        if_none_match: input.if_none_match.take(),
    };
    let sent = checksums_of!(input);
    let asked_kind = Kind::asked(input.checksum_type.as_ref())?;
    let (bucket, key) = (input.bucket.clone(), input.key.clone());
    let now = Arc::clone(&front.now);
    let completed = front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &bucket)?;
            let Some(upload) = find_upload(w, &bucket, &key, &input.upload_id)? else {
                return repeated(w, &bucket, &key, &input.upload_id, &wanted);
            };
            condition.check(newest(w, &bucket, &key)?.as_ref())?;
            let user = known_user(w, &uid)?;
            let stored = parts_of(w, &upload.id)?;
            let chosen = choose(&stored, &mut wanted)?;
            let size_bytes: i64 = chosen.iter().map(|part| part.size_bytes).sum();
            if let Some(expected) = input.mpu_object_size
                && expected != size_bytes
            {
                return Err(S3Error::with_message(
                    S3ErrorCode::InvalidRequest,
                    format!(
                        "The provided 'x-amz-mp-object-size' header does not match what was computed: \
                         {size_bytes} bytes"
                    ),
                )
                .into());
            }
            let mut meta = upload.meta()?;
            (meta.checksums, meta.checksum_kind) = checksums_of_whole(&meta, &chosen, asked_kind, &sent)?;
            meta.checksum_algorithm = None;
            let mut completed = Completed {
                etag: joint_etag(chosen.iter().map(|part| part.etag.as_str())),
                version_id: None,
                checksums: meta.checksums.clone(),
                checksum_kind: meta.checksum_kind,
            };
            let new = NewVersion {
                etag: completed.etag.clone(),
                meta,
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
            let algorithms: Vec<_> = completed.checksums.algorithms().collect();
            for part in chosen {
                let part = VersionPart {
                    number: part.number,
                    size_bytes: part.size_bytes,
                    checksums: part.checksums.among(&algorithms),
                };
                add_version_part(w, &version, &part)?;
            }
            check_quota(w, &user)?;
            completed.version_id = told_version_id(&bucket, &version);
            remember(w, &bucket, &key, &upload.id, &completed, now_ms(&now))?;
            Ok(completed)
        })
        .await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(completed.etag)),
        version_id: completed.version_id,
        checksum_type: completed.checksum_kind.map(Kind::as_dto),
        ..CompleteMultipartUploadOutput::default()
    };
    tell_checksums!(output, completed.checksums);
    Ok(S3Response::new(output))
}

/// The checksum of the object that parts become, compared with what the client sent of it.
fn checksums_of_whole(
    upload: &Meta,
    parts: &[&Stored],
    asked_kind: Option<Kind>,
    sent: &Checksums,
) -> Result<(Checksums, Option<Kind>), Fault> {
    // Without a word about it at the beginning, it is what every part has.
    let algorithm = upload
        .checksum_algorithm
        .or_else(|| sent.algorithms().next())
        .unwrap_or(Algorithm::Crc64nvme);
    let kind = match upload.checksum_kind {
        Some(kind) => kind,
        None => algorithm.kind(
            asked_kind
                .or(Some(Kind::FullObject))
                .filter(|_| algorithm.is_crc()),
        )?,
    };
    if asked_kind.is_some_and(|asked| asked != kind) {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            format!(
                "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
                kind.as_dto().as_str()
            ),
        )
        .into());
    }
    let found = algorithm.of_parts(
        kind,
        parts.iter().map(|part| (&part.checksums, part.size_bytes)),
    );
    let found = Checksums::only(algorithm, found);
    // Clients send checksums of checksums with and without the number of parts.
    if sent.algorithms().count() > 0 && *sent != found {
        sent.check(&found.without_counts())?;
    }
    let kind = (!found.is_none()).then_some(kind);
    Ok((found, kind))
}

/// How long a completed upload is remembered.
const COMPLETED_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

fn remember(
    w: &Writing<'_>,
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
    completed: &Completed,
    now_ms: i64,
) -> Result<(), Fault> {
    w.prepare_cached("DELETE FROM completed_uploads WHERE completed_ms < ?1")?
        .execute(params![now_ms - COMPLETED_KEPT_MS])?;
    w.prepare_cached(
        "INSERT INTO completed_uploads (id, bucket_id, key, completed_ms, answer) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        upload_id,
        bucket.id,
        key.as_bytes(),
        now_ms,
        serde_json::to_string(completed)?
    ])?;
    Ok(())
}

/// The answer once more, for whoever completes the same parts again: the first one may not have arrived.
fn repeated(
    c: &Connection,
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
    wanted: &[CompletedPart],
) -> Result<Completed, Fault> {
    let answer: String = c
        .prepare_cached(
            "SELECT answer FROM completed_uploads WHERE id = ?1 AND bucket_id = ?2 AND key = ?3",
        )?
        .query_row(params![upload_id, bucket.id, key.as_bytes()], |row| {
            row.get(0)
        })
        .optional()?
        .ok_or(S3ErrorCode::NoSuchUpload)?;
    let completed: Completed = serde_json::from_str(&answer)?;
    let tags = wanted
        .iter()
        .map(|part| part.e_tag.as_ref().map_or("", |tag| tag.value()));
    if joint_etag(tags) != completed.etag {
        return Err(S3ErrorCode::NoSuchUpload.into());
    }
    Ok(completed)
}

/// The stored parts the client names, which must be in order, complete and big enough.
fn choose<'a>(
    stored: &'a [Stored],
    wanted: &mut [CompletedPart],
) -> Result<Vec<&'a Stored>, Fault> {
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
        if !found.checksums.is_none() && checksums_of!(part).check(&found.checksums).is_err() {
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
fn joint_etag<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut digest = Md5::new();
    let mut count = 0;
    for etag in parts {
        digest.update(&hex::decode(etag).unwrap_or_default());
        count += 1;
    }
    format!("{}-{count}", hex::encode(digest.finalize()))
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
