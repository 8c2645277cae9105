//! Operations on objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, StdError};

use super::access::caller;
use super::body::{self, Expected, Outgoing, Staged, receive, segments};
use super::checksums::{Algorithm, Kind, checksums_of, tell_checksums};
use super::fault::{Fault, custom, invalid_argument, not_offered, quota_exceeded, refusal, words};
use super::front::Front;
use super::records::{
    Bucket, Checksums, Meta, NULL_VERSION, NewVersion, Version, Versioning, WriteCondition,
    add_version, blobs_of, check_quota, delete_version, exceeds, find_version, known_user, matches,
    newest, own_bucket, promote, set_meta, timestamp, version_parts,
};
use super::store::{Store, Writing};

const DELETE_OBJECTS_MAX: usize = 1000;
const TAGS_MAX: usize = 10;
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";
/// An object deleted between being found and being opened was replaced, as a rule: worth another look.
const OPEN_ATTEMPTS: usize = 4;

/// The descriptive headers of an upload; the three kinds of upload name them alike.
macro_rules! meta_of {
    ($input:expr) => {
        Meta {
            content_type: $input.content_type.clone(),
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $crate::s3::objects::stored_encoding(
                $input.content_encoding.as_deref(),
            ),
            content_language: $input.content_language.clone(),
            expires: $input.expires.clone(),
            website_redirect_location: $input.website_redirect_location.clone(),
            user: $input.metadata.clone().unwrap_or_default(),
            tags: $crate::s3::objects::tags_from_header($input.tagging.as_deref())?,
            ..Meta::default()
        }
    };
}
pub(crate) use meta_of;

/// Refuses what would be silently ignored otherwise, to the caller's harm: encryption, locks, public access.
macro_rules! refuse_unsupported {
    ($input:expr) => {
        if $input.sse_customer_algorithm.is_some()
            || $input.server_side_encryption.is_some()
            || $input.object_lock_mode.is_some()
            || $input.object_lock_legal_hold_status.is_some()
        {
            return Err($crate::s3::fault::not_offered(
                "Encryption, legal holds and, but for a PUT, retention are not offered.",
            ));
        }
        $crate::s3::acl::check_canned($input.acl.as_ref().map(|acl| acl.as_str()))?;
        $crate::s3::acl::refuse_grants!(
            $input,
            grant_full_control,
            grant_read,
            grant_read_acp,
            grant_write_acp
        );
    };
}
pub(crate) use refuse_unsupported;

pub(crate) async fn put(
    front: &Front,
    req: S3Request<PutObjectInput>,
) -> Result<S3Response<PutObjectOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let mut input = req.input;
    let retain_until_ms = retention(
        input.object_lock_mode.take(),
        input.object_lock_retain_until_date.take(),
    )?;
    refuse_unsupported!(input);
    if input.write_offset_bytes.is_some() {
        return Err(not_offered("Appending to objects is not offered."));
    }
    let algorithms = Algorithm::asked_for_body(&req.headers, input.checksum_algorithm.as_ref())?;
    let mut meta = meta_of!(input);
    meta.retain_until_ms = retain_until_ms;
    let condition = WriteCondition {
        if_match: input.if_match.take(),
        if_none_match: input.if_none_match.take(),
    };
    let length_bytes = length(input.content_length)?;
    let target = Target::new(
        uid,
        std::mem::take(&mut input.bucket),
        std::mem::take(&mut input.key),
    );
    let allowed_bytes = target.admit(front, condition.clone(), length_bytes).await?;
    let expected = Expected {
        length_bytes,
        allowed_bytes,
        md5: input.content_md5.take(),
        checksums: checksums_of!(input),
        algorithms: algorithms.into_iter().collect(),
        ..Expected::default()
    }
    .with_trailers(&req.headers, req.trailing_headers);
    let staged = receive(&front.store, input.body.take(), expected).await?;
    let checksums = staged.checksums.clone();
    meta.checksums = checksums.clone();
    let (bucket, version) = target.commit(front, condition, staged, meta).await?;
    let mut output = PutObjectOutput {
        e_tag: Some(version.e_tag()),
        version_id: told_version_id(&bucket, &version),
        checksum_type: Some(Kind::FullObject.as_dto()),
        ..PutObjectOutput::default()
    };
    tell_checksums!(output, checksums);
    Ok(S3Response::new(output))
}

/// What a form uploads: a PUT, but for the size that its policy asks for.
pub(crate) async fn put_form<S>(
    front: &Front,
    uid: String,
    input: PutObjectInput,
    file: S,
    size_range: (u64, u64),
) -> Result<(Bucket, Version), Fault>
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin,
{
    refuse_unsupported!(input);
    let mut meta = meta_of!(input);
    let (least_bytes, most_bytes) = size_range;
    let condition = WriteCondition::default();
    let target = Target::new(uid, input.bucket, input.key);
    let expected = Expected {
        allowed_bytes: target.admit(front, condition.clone(), None).await?,
        most_bytes: Some(most_bytes),
        md5: input.content_md5,
        checksums: Checksums {
            crc32: input.checksum_crc32,
            crc32c: input.checksum_crc32c,
            crc64nvme: input.checksum_crc64nvme,
            sha1: input.checksum_sha1,
            sha256: input.checksum_sha256,
        },
        ..Expected::default()
    };
    let staged = receive(&front.store, Some(file), expected).await?;
    if (staged.size_bytes as u64) < least_bytes {
        return Err(S3ErrorCode::EntityTooSmall.into());
    }
    meta.checksums = staged.checksums.clone();
    target.commit(front, condition, staged, meta).await
}

/// Until when a version is kept. Both modes are one here: nobody may delete it sooner.
fn retention(mode: Option<ObjectLockMode>, until: Option<Timestamp>) -> Result<Option<i64>, Fault> {
    match (mode, until) {
        (None, None) => Ok(None),
        (Some(_), Some(until)) => {
            let mut text = Vec::new();
            until
                .format(TimestampFormat::EpochSeconds, &mut text)
                .map_err(|_| invalid_argument("The retain until date cannot be read"))?;
            let text = String::from_utf8_lossy(&text);
            let seconds: i64 = text
                .split('.')
                .next()
                .and_then(|seconds| seconds.parse().ok())
                .ok_or_else(|| invalid_argument("The retain until date cannot be read"))?;
            Ok(Some(seconds.saturating_mul(1_000)))
        }
        _ => Err(invalid_argument(
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        )
        .into()),
    }
}

/// Where an object is about to be written.
struct Target {
    uid: String,
    bucket: String,
    key: String,
}

impl Target {
    fn new(uid: String, bucket: String, key: String) -> Self {
        Self { uid, bucket, key }
    }

    /// Refuses early what is bound to be refused, before the body crosses the wire, and says how
    /// many bytes the quota leaves for it.
    async fn admit(
        &self,
        front: &Front,
        condition: WriteCondition,
        length_bytes: Option<u64>,
    ) -> Result<Option<u64>, Fault> {
        let (uid, bucket, key) = (self.uid.clone(), self.bucket.clone(), self.key.clone());
        front
            .store
            .read(move |c| {
                let bucket = own_bucket(c, &uid, &bucket)?;
                condition.check(newest(c, &bucket, &key)?.as_ref())?;
                let user = known_user(c, &uid)?;
                let replaced_bytes = match bucket.versioning {
                    Versioning::Enabled => 0,
                    _ => find_version(c, &bucket, &key, NULL_VERSION)?
                        .map_or(0, |version| version.size_bytes),
                };
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
                    // What shrinks the account is allowed above the quota too.
                    let most = (quota_bytes - rest_bytes).max(replaced_bytes);
                    u64::try_from(most).unwrap_or_default()
                }))
            })
            .await
    }

    async fn commit(
        self,
        front: &Front,
        condition: WriteCondition,
        staged: Staged,
        meta: Meta,
    ) -> Result<(Bucket, Version), Fault> {
        let now = Arc::clone(&front.now);
        front
            .store
            .write(move |w| {
                let bucket = own_bucket(w, &self.uid, &self.bucket)?;
                if meta.retain_until_ms.is_some() && bucket.versioning != Versioning::Enabled {
                    return Err(custom(
                        StatusCode::BAD_REQUEST,
                        "InvalidRequest",
                        "Bucket is missing Object Lock Configuration",
                    )
                    .into());
                }
                condition.check(newest(w, &bucket, &self.key)?.as_ref())?;
                let user = known_user(w, &self.uid)?;
                let blob = staged.blob();
                if let Some((blob, _)) = blob {
                    w.adopt(blob)?;
                }
                let new = NewVersion {
                    etag: staged.etag(),
                    meta,
                    delete_marker: false,
                    blobs: blob.into_iter().collect(),
                };
                let version = add_version(w, &bucket, &self.key, new, &now)?;
                check_quota(w, &user)?;
                Ok((bucket, version))
            })
            .await
    }
}

/// The conditions of a read.
struct ReadCondition {
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

enum Unmet {
    PreconditionFailed,
    NotModified,
}

impl ReadCondition {
    /// In HTTP's order: a tag, where given, outranks the date of the same direction.
    fn check(&self, version: &Version) -> Result<(), Unmet> {
        // HTTP dates have no milliseconds.
        let modified = timestamp(version.modified_ms.div_euclid(1000) * 1000);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(tag), _) if !matches(tag, &version.etag) => {
                return Err(Unmet::PreconditionFailed);
            }
            (None, Some(since)) if modified > *since => return Err(Unmet::PreconditionFailed),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(tag), _) if matches(tag, &version.etag) => Err(Unmet::NotModified),
            (None, Some(since)) if modified <= *since => Err(Unmet::NotModified),
            _ => Ok(()),
        }
    }

    fn check_read(&self, bucket: &Bucket, version: &Version) -> Result<(), Fault> {
        match self.check(version) {
            Ok(()) => Ok(()),
            Err(Unmet::PreconditionFailed) => Err(S3ErrorCode::PreconditionFailed.into()),
            Err(Unmet::NotModified) => {
                let mut error = S3Error::with_message(S3ErrorCode::NotModified, "Not Modified");
                let mut headers = HeaderMap::new();
                insert(&mut headers, "etag", &format!("\"{}\"", version.etag));
                if let Some(version_id) = told_version_id(bucket, version) {
                    insert(&mut headers, "x-amz-version-id", &version_id);
                }
                error.set_headers(headers);
                Err(error.into())
            }
        }
    }

    /// The source of a copy knows no "not modified".
    fn check_copy(&self, version: &Version) -> Result<(), Fault> {
        self.check(version)
            .map_err(|_| S3ErrorCode::PreconditionFailed.into())
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What is asked of an object: all of it, a range, or a part.
struct Extent {
    range: Option<Range>,
    part_number: Option<i32>,
}

struct Located {
    bucket: Bucket,
    version: Version,
    meta: Meta,
    blobs: Vec<(i64, i64)>,
    from: u64,
    to: u64,
    is_partial: bool,
    parts_count: Option<i32>,
}

impl Located {
    fn size_bytes(&self) -> u64 {
        self.version.size_bytes as u64
    }

    fn content_range(&self) -> Option<String> {
        self.is_partial
            .then(|| format!("bytes {}-{}/{}", self.from, self.to - 1, self.size_bytes()))
    }
}

async fn locate(
    front: &Front,
    uid: String,
    bucket: String,
    key: String,
    version_id: Option<String>,
    condition: ReadCondition,
    extent: Extent,
) -> Result<Located, Fault> {
    front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &bucket)?;
            let version = existing(c, &bucket, &key, version_id.as_deref())?;
            condition.check_read(&bucket, &version)?;
            let blobs = blobs_of(c, &version)?;
            let size_bytes = version.size_bytes as u64;
            let mut located = Located {
                meta: version.meta()?,
                blobs,
                from: 0,
                to: size_bytes,
                is_partial: false,
                parts_count: None,
                bucket,
                version,
            };
            if let Some(number) = extent.part_number {
                located.select_part(number)?;
            } else if let Some(range) = extent.range {
                let range = range
                    .check(size_bytes)
                    .map_err(|_| refusal(S3ErrorCode::InvalidRange))?;
                located.is_partial = !range.is_empty();
                (located.from, located.to) = (range.start, range.end);
            }
            Ok(located)
        })
        .await
}

impl Located {
    /// The checksums, which are those of the whole.
    fn told_checksums(&self, are_wanted: bool) -> (Checksums, Option<ChecksumType>) {
        if !are_wanted || self.is_partial || self.meta.checksums.is_none() {
            return (Checksums::default(), None);
        }
        let kind = self.meta.checksum_kind.unwrap_or(Kind::FullObject);
        (self.meta.checksums.clone(), Some(kind.as_dto()))
    }

    fn select_part(&mut self, number: i32) -> Result<(), Fault> {
        let out_of_range = || {
            Fault::from(custom(
                http::StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidPartNumber",
                "The requested partnumber is not satisfiable",
            ))
        };
        let index = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1))
            .ok_or_else(out_of_range)?;
        self.parts_count = self.version.parts_count();
        match self.parts_count {
            None if index == 0 => Ok(()),
            // A last part without content has no file.
            Some(_) if index < self.blobs.len() => {
                let before: i64 = self.blobs[..index]
                    .iter()
                    .map(|(_, size_bytes)| size_bytes)
                    .sum();
                self.from = before as u64;
                self.to = (before + self.blobs[index].1) as u64;
                self.is_partial = true;
                Ok(())
            }
            _ => Err(out_of_range()),
        }
    }
}

/// The version asked for, or the current one; a delete marker is told as what it is.
pub(crate) fn existing(
    c: &rusqlite::Connection,
    bucket: &Bucket,
    key: &str,
    version_id: Option<&str>,
) -> Result<Version, Fault> {
    let version = match version_id {
        None => newest(c, bucket, key)?.ok_or(S3ErrorCode::NoSuchKey)?,
        Some(version_id) => {
            find_version(c, bucket, key, version_id)?.ok_or(S3ErrorCode::NoSuchVersion)?
        }
    };
    if !version.delete_marker {
        return Ok(version);
    }
    let mut error = refusal(match version_id {
        None => S3ErrorCode::NoSuchKey,
        Some(_) => S3ErrorCode::MethodNotAllowed,
    });
    let mut headers = HeaderMap::new();
    insert(&mut headers, "content-type", "application/xml");
    insert(&mut headers, "x-amz-delete-marker", "true");
    insert(&mut headers, "x-amz-version-id", &version.version_id);
    error.set_headers(headers);
    Err(error.into())
}

pub(crate) async fn get(
    front: &Front,
    req: S3Request<GetObjectInput>,
) -> Result<S3Response<GetObjectOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let mut attempts = 0;
    let (located, content) = loop {
        let located = locate(
            front,
            uid.clone(),
            input.bucket.clone(),
            input.key.clone(),
            input.version_id.clone(),
            ReadCondition {
                if_match: input.if_match.clone(),
                if_none_match: input.if_none_match.clone(),
                if_modified_since: input.if_modified_since.clone(),
                if_unmodified_since: input.if_unmodified_since.clone(),
            },
            Extent {
                range: input.range,
                part_number: input.part_number,
            },
        )
        .await?;
        attempts += 1;
        match open(&front.store, &located).await {
            Err(Fault::File(error))
                if error.kind() == std::io::ErrorKind::NotFound && attempts < OPEN_ATTEMPTS => {}
            opened => break (located, opened?),
        }
    };
    let (checksums, checksum_type) = located.told_checksums(input.checksum_mode.is_some());
    let content_range = located.content_range();
    let Located {
        bucket,
        version,
        meta,
        ..
    } = located;
    let mut output = GetObjectOutput {
        checksum_type,
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some((located.to - located.from) as i64),
        content_range,
        body: Some(StreamingBlob::from(content)),
        e_tag: Some(version.e_tag()),
        last_modified: Some(version.modified()),
        version_id: told_version_id(&bucket, &version),
        parts_count: located.parts_count,
        tag_count: tag_count(&meta),
        content_type: Some(
            meta.content_type
                .unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()),
        ),
        cache_control: meta.cache_control,
        content_disposition: meta.content_disposition,
        content_encoding: meta.content_encoding,
        content_language: meta.content_language,
        expires: meta.expires,
        website_redirect_location: meta.website_redirect_location,
        metadata: Some(meta.user),
        ..GetObjectOutput::default()
    };
    tell_checksums!(output, checksums);
    Ok(S3Response::new(output))
}

async fn open(store: &Arc<Store>, located: &Located) -> Result<Outgoing, Fault> {
    body::open(store, segments(&located.blobs, located.from, located.to)).await
}

pub(crate) async fn head(
    front: &Front,
    req: S3Request<HeadObjectInput>,
) -> Result<S3Response<HeadObjectOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let wants_checksums = input.checksum_mode.is_some();
    let located = locate(
        front,
        uid,
        input.bucket,
        input.key,
        input.version_id,
        ReadCondition {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        },
        Extent {
            range: input.range,
            part_number: input.part_number,
        },
    )
    .await?;
    let (checksums, checksum_type) = located.told_checksums(wants_checksums);
    let content_range = located.content_range();
    let Located {
        bucket,
        version,
        meta,
        ..
    } = located;
    let mut output = HeadObjectOutput {
        checksum_type,
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some((located.to - located.from) as i64),
        content_range,
        e_tag: Some(version.e_tag()),
        last_modified: Some(version.modified()),
        version_id: told_version_id(&bucket, &version),
        parts_count: located.parts_count,
        content_type: Some(
            meta.content_type
                .unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()),
        ),
        cache_control: meta.cache_control,
        content_disposition: meta.content_disposition,
        content_encoding: meta.content_encoding,
        content_language: meta.content_language,
        expires: meta.expires,
        website_redirect_location: meta.website_redirect_location,
        metadata: Some(meta.user),
        ..HeadObjectOutput::default()
    };
    tell_checksums!(output, checksums);
    Ok(S3Response::new(output))
}

/// What a deletion did: a marker was made, or a version (perhaps itself a marker) removed.
struct Deleted {
    delete_marker: bool,
    version_id: Option<String>,
}

fn delete_one(
    w: &mut Writing<'_>,
    front_now: &crate::Now,
    bucket: &Bucket,
    key: &str,
    version_id: Option<&str>,
) -> Result<Deleted, Fault> {
    if let Some(version_id) = version_id {
        let found = find_version(w, bucket, key, version_id)?;
        if let Some(version) = &found {
            version.check_lock(front_now)?;
            delete_version(w, bucket, key, version)?;
            promote(w, bucket, key)?;
        }
        return Ok(Deleted {
            delete_marker: found.is_some_and(|version| version.delete_marker),
            version_id: Some(version_id.to_owned()),
        });
    }
    if bucket.versioning == Versioning::Never {
        if let Some(version) = find_version(w, bucket, key, NULL_VERSION)? {
            delete_version(w, bucket, key, &version)?;
        }
        return Ok(Deleted {
            delete_marker: false,
            version_id: None,
        });
    }
    let marker = add_version(w, bucket, key, NewVersion::delete_marker(), front_now)?;
    Ok(Deleted {
        delete_marker: true,
        version_id: Some(marker.version_id),
    })
}

pub(crate) async fn delete(
    front: &Front,
    req: S3Request<DeleteObjectInput>,
) -> Result<S3Response<DeleteObjectOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    if input.mfa.is_some()
        || input.if_match_last_modified_time.is_some()
        || input.if_match_size.is_some()
    {
        return Err(S3ErrorCode::NotImplemented.into());
    }
    let now = Arc::clone(&front.now);
    let deleted = front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &input.bucket)?;
            if input.if_match.is_some() {
                let condition = WriteCondition {
                    if_match: input.if_match,
                    if_none_match: None,
                };
                condition.check(newest(w, &bucket, &input.key)?.as_ref())?;
            }
            delete_one(w, &now, &bucket, &input.key, input.version_id.as_deref())
        })
        .await?;
    Ok(S3Response::new(DeleteObjectOutput {
        delete_marker: deleted.delete_marker.then_some(true),
        version_id: deleted.version_id,
        ..DeleteObjectOutput::default()
    }))
}

pub(crate) async fn delete_many(
    front: &Front,
    req: S3Request<DeleteObjectsInput>,
) -> Result<S3Response<DeleteObjectsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let objects = input.delete.objects;
    if objects.is_empty() || objects.len() > DELETE_OBJECTS_MAX {
        return Err(refusal(S3ErrorCode::MalformedXML).into());
    }
    let is_quiet = input.delete.quiet == Some(true);
    let now = Arc::clone(&front.now);
    let (deleted, errors) = front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &input.bucket)?;
            let mut deleted = Vec::new();
            let mut errors = Vec::new();
            for object in objects {
                let condition = WriteCondition {
                    if_match: object.e_tag.clone().map(ETagCondition::ETag),
                    if_none_match: None,
                };
                let done = condition
                    .check(newest(w, &bucket, &object.key)?.as_ref())
                    .and_then(|()| {
                        delete_one(w, &now, &bucket, &object.key, object.version_id.as_deref())
                    });
                match done {
                    Ok(_) if is_quiet => {}
                    Ok(done) => deleted.push(DeletedObject {
                        delete_marker: done.delete_marker.then_some(true),
                        delete_marker_version_id: done.version_id.filter(|_| done.delete_marker),
                        key: Some(object.key),
                        version_id: object.version_id,
                    }),
                    // One key's refusal is not the others'; a failure of ours undoes all of them.
                    Err(Fault::Refused(refused)) => errors.push(Error {
                        code: Some(refused.code().as_str().to_owned()),
                        message: refused
                            .message()
                            .or_else(|| words(refused.code()))
                            .map(str::to_owned),
                        key: Some(object.key),
                        version_id: object.version_id,
                    }),
                    Err(fault) => return Err(fault),
                }
            }
            Ok((deleted, errors))
        })
        .await?;
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}

/// The object a copy reads from.
pub(crate) struct Source {
    pub bucket: String,
    pub key: String,
    pub version_id: Option<String>,
}

impl Source {
    pub(crate) fn new(source: &CopySource) -> Result<Self, Fault> {
        match source {
            CopySource::Bucket {
                bucket,
                key,
                version_id,
            } => Ok(Self {
                bucket: bucket.to_string(),
                key: key.to_string(),
                version_id: version_id.as_deref().map(str::to_owned),
            }),
            _ => Err(S3ErrorCode::NotImplemented.into()),
        }
    }
}

/// A source found and opened, with how much it has.
pub(crate) struct OpenedSource {
    pub version_id: Option<String>,
    pub meta: Meta,
    pub content: Outgoing,
    pub length_bytes: u64,
}

/// Opens the source of a copy, which must be the caller's as well.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn open_source(
    front: &Front,
    uid: &str,
    source: &Source,
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
    range: Option<Range>,
) -> Result<OpenedSource, Fault> {
    let none = || ReadCondition {
        if_match: None,
        if_none_match: None,
        if_modified_since: None,
        if_unmodified_since: None,
    };
    let located = locate(
        front,
        uid.to_owned(),
        source.bucket.clone(),
        source.key.clone(),
        source.version_id.clone(),
        none(),
        Extent {
            range,
            part_number: None,
        },
    )
    .await?;
    ReadCondition {
        if_match,
        if_none_match,
        if_modified_since,
        if_unmodified_since,
    }
    .check_copy(&located.version)?;
    // A download's range ends where the object does; a copy's would leave a hole without a word.
    if let Some(Range::Int {
        last: Some(last), ..
    }) = range
        && last >= located.size_bytes()
    {
        return Err(invalid_argument(format!(
            "Range specified is not valid for source object of size: {}",
            located.size_bytes()
        ))
        .into());
    }
    let content = open(&front.store, &located).await?;
    Ok(OpenedSource {
        version_id: told_version_id(&located.bucket, &located.version),
        length_bytes: located.to - located.from,
        meta: located.meta,
        content,
    })
}

pub(crate) async fn copy(
    front: &Front,
    req: S3Request<CopyObjectInput>,
) -> Result<S3Response<CopyObjectOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    refuse_unsupported!(input);
    if input.copy_source_sse_customer_algorithm.is_some() {
        return Err(S3ErrorCode::NotImplemented.into());
    }
    let source = Source::new(&input.copy_source)?;
    let algorithm = Algorithm::asked(input.checksum_algorithm.as_ref())?;
    let replaces_meta = input
        .metadata_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    let replaces_tags = input
        .tagging_directive
        .as_ref()
        .is_some_and(|directive| directive.as_str() == TaggingDirective::REPLACE);
    let onto_itself =
        source.bucket == input.bucket && source.key == input.key && source.version_id.is_none();
    if onto_itself && !replaces_meta && !replaces_tags {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing \
             the object's metadata.",
        )
        .into());
    }
    let given = meta_of!(input);
    let opened = open_source(
        front,
        &uid,
        &source,
        input.copy_source_if_match,
        input.copy_source_if_none_match,
        input.copy_source_if_modified_since,
        input.copy_source_if_unmodified_since,
        None,
    )
    .await?;
    let mut meta = if replaces_meta {
        Meta {
            tags: opened.meta.tags.clone(),
            ..given.clone()
        }
    } else {
        opened.meta.clone()
    };
    if replaces_tags {
        meta.tags = given.tags;
    }
    let target = Target::new(uid, input.bucket, input.key);
    let condition = WriteCondition::default();
    let allowed_bytes = target
        .admit(front, condition.clone(), Some(opened.length_bytes))
        .await?;
    let expected = Expected {
        length_bytes: Some(opened.length_bytes),
        allowed_bytes,
        algorithms: match algorithm {
            Some(algorithm) => vec![algorithm],
            None => opened.meta.checksums.algorithms().collect(),
        },
        ..Expected::default()
    };
    // What was uploaded in parts is one piece from here on, and so are its checksums.
    let staged = receive(&front.store, Some(opened.content), expected).await?;
    meta.checksums = staged.checksums.clone();
    meta.checksum_kind = None;
    let mut result = CopyObjectResult {
        checksum_type: Some(Kind::FullObject.as_dto()),
        ..CopyObjectResult::default()
    };
    tell_checksums!(result, staged.checksums.clone());
    let (bucket, version) = target.commit(front, condition, staged, meta).await?;
    result.e_tag = Some(version.e_tag());
    result.last_modified = Some(version.modified());
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: opened.version_id,
        version_id: told_version_id(&bucket, &version),
        ..CopyObjectOutput::default()
    }))
}

/// What `x-amz-object-attributes` may name.
const ATTRIBUTES: [&str; 5] = [
    ObjectAttributes::CHECKSUM,
    ObjectAttributes::ETAG,
    ObjectAttributes::OBJECT_PARTS,
    ObjectAttributes::OBJECT_SIZE,
    ObjectAttributes::STORAGE_CLASS,
];
const LISTED_PARTS_MAX: i32 = 1000;

pub(crate) async fn get_attributes(
    front: &Front,
    req: S3Request<GetObjectAttributesInput>,
) -> Result<S3Response<GetObjectAttributesOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    if input.sse_customer_algorithm.is_some() {
        return Err(not_offered("Encryption is not offered."));
    }
    // The SDKs send one header for all names.
    let asked: Vec<&str> = input
        .object_attributes
        .iter()
        .flat_map(|names| names.as_str().split(','))
        .map(str::trim)
        .collect();
    if asked.is_empty() || asked.iter().any(|name| !ATTRIBUTES.contains(name)) {
        return Err(invalid_argument("Invalid attribute name specified.").into());
    }
    let [checksum, etag, parts, size, class] = ATTRIBUTES.map(|name| asked.contains(&name));
    let max_parts = input.max_parts.unwrap_or(LISTED_PARTS_MAX);
    let after = input.part_number_marker.unwrap_or_default();
    if max_parts < 0 || after < 0 {
        return Err(invalid_argument("Part numbers and their count cannot be negative").into());
    }
    let max_parts = max_parts.min(LISTED_PARTS_MAX);
    let output = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let version = existing(c, &bucket, &input.key, input.version_id.as_deref())?;
            let meta = version.meta()?;
            let object_parts = match version.parts_count().filter(|_| parts) {
                None => None,
                Some(total) => {
                    let mut found = version_parts(c, &version, after, i64::from(max_parts) + 1)?;
                    let is_truncated = found.len() > max_parts as usize;
                    found.truncate(max_parts as usize);
                    Some(GetObjectAttributesParts {
                        is_truncated: Some(is_truncated),
                        max_parts: Some(max_parts),
                        next_part_number_marker: found.last().map(|part| part.number),
                        part_number_marker: Some(after),
                        total_parts_count: Some(total),
                        parts: Some(
                            found
                                .into_iter()
                                .map(|part| {
                                    let mut told = ObjectPart {
                                        part_number: Some(part.number),
                                        size: Some(part.size_bytes),
                                        ..ObjectPart::default()
                                    };
                                    tell_checksums!(told, part.checksums);
                                    told
                                })
                                .collect(),
                        ),
                    })
                }
            };
            let checksum = (checksum && !meta.checksums.is_none()).then(|| {
                let kind = meta.checksum_kind.unwrap_or(Kind::FullObject);
                let mut told = Checksum {
                    checksum_type: Some(kind.as_dto()),
                    ..Checksum::default()
                };
                tell_checksums!(told, meta.checksums.without_counts());
                told
            });
            Ok(GetObjectAttributesOutput {
                checksum,
                object_parts,
                e_tag: etag.then(|| version.e_tag()),
                object_size: size.then_some(version.size_bytes),
                storage_class: class.then(|| StorageClass::from_static(StorageClass::STANDARD)),
                last_modified: Some(version.modified()),
                version_id: told_version_id(&bucket, &version),
                ..GetObjectAttributesOutput::default()
            })
        })
        .await?;
    Ok(S3Response::new(output))
}

pub(crate) async fn get_tagging(
    front: &Front,
    req: S3Request<GetObjectTaggingInput>,
) -> Result<S3Response<GetObjectTaggingOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let (version_id, meta) = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let version = existing(c, &bucket, &input.key, input.version_id.as_deref())?;
            Ok((told_version_id(&bucket, &version), version.meta()?))
        })
        .await?;
    let tag_set = meta
        .tags
        .into_iter()
        .map(|(key, value)| Tag {
            key: Some(key),
            value: Some(value),
        })
        .collect();
    Ok(S3Response::new(GetObjectTaggingOutput {
        tag_set,
        version_id,
    }))
}

pub(crate) async fn put_tagging(
    front: &Front,
    req: S3Request<PutObjectTaggingInput>,
) -> Result<S3Response<PutObjectTaggingOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let tags = input
        .tagging
        .tag_set
        .into_iter()
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    let tags = checked_tags(tags)?;
    let version_id =
        change_tags(front, uid, input.bucket, input.key, input.version_id, tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(crate) async fn delete_tagging(
    front: &Front,
    req: S3Request<DeleteObjectTaggingInput>,
) -> Result<S3Response<DeleteObjectTaggingOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let version_id = change_tags(
        front,
        uid,
        input.bucket,
        input.key,
        input.version_id,
        BTreeMap::new(),
    )
    .await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

async fn change_tags(
    front: &Front,
    uid: String,
    bucket: String,
    key: String,
    version_id: Option<String>,
    tags: BTreeMap<String, String>,
) -> Result<Option<String>, Fault> {
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &bucket)?;
            let version = existing(w, &bucket, &key, version_id.as_deref())?;
            let meta = Meta {
                tags,
                ..version.meta()?
            };
            set_meta(w, &bucket, &key, &version, &meta)?;
            Ok(told_version_id(&bucket, &version))
        })
        .await
}

fn tag_count(meta: &Meta) -> Option<i32> {
    i32::try_from(meta.tags.len())
        .ok()
        .filter(|count| *count > 0)
}

fn checked_tags(
    tags: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut checked = BTreeMap::new();
    for (key, value) in tags {
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        if !fits || checked.insert(key, value).is_some() || checked.len() > TAGS_MAX {
            return Err(S3ErrorCode::InvalidTag.into());
        }
    }
    Ok(checked)
}

pub(crate) fn tags_from_header(header: Option<&str>) -> Result<BTreeMap<String, String>, Fault> {
    checked_tags(form_urlencoded::parse(header.unwrap_or_default().as_bytes()).into_owned())
}

/// `aws-chunked` tells how the body crossed the wire, not what it is.
pub(crate) fn stored_encoding(header: Option<&str>) -> Option<String> {
    let encodings: Vec<_> = header?
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!encodings.is_empty()).then(|| encodings.join(","))
}

/// Buckets that never had versioning do not speak of versions.
pub(crate) fn told_version_id(bucket: &Bucket, version: &Version) -> Option<String> {
    (bucket.versioning != Versioning::Never).then(|| version.version_id.clone())
}

pub(crate) fn length(content_length: Option<i64>) -> Result<Option<u64>, Fault> {
    content_length
        .map(|bytes| {
            u64::try_from(bytes).map_err(|_| invalid_argument("Content-Length is negative").into())
        })
        .transpose()
}
