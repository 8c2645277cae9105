//! Listings: pages of keys in byte order, folded at a delimiter.
//!
//! Each page is a walk along an index from where the last one ended, and a folded prefix is
//! jumped over, so a page costs the same in a bucket of any size.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, params};
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Response};

use super::access::caller;
use super::buckets::owner;
use super::checksums::{Algorithm, Kind, tell_checksums};
use super::fault::{Fault, invalid_argument};
use super::front::Front;
use super::multipart::{checksums_from, find_upload};
use super::records::{self, find_version, own_bucket, timestamp};

const PAGE_MAX: usize = 1000;
/// Before and after every version of a key.
const NEWEST: i64 = i64::MIN;
const OLDEST: i64 = i64::MAX;

/// Everything but what URLs leave alone, and the slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// How keys are written into the answer: as they are, or percent-encoded, which alone carries
/// every character through XML.
struct Encoding(bool);

impl Encoding {
    fn new(asked: Option<&EncodingType>) -> Result<Self, Fault> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(invalid_argument("Invalid Encoding Method specified in Request").into()),
        }
    }

    fn encode(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        if self.0 {
            utf8_percent_encode(&text, ENCODED).to_string()
        } else {
            text.into_owned()
        }
    }

    fn encode_opt(&self, text: &Option<String>) -> Option<String> {
        text.as_ref().map(|text| self.encode(text.as_bytes()))
    }

    fn prefixes(&self, prefixes: Vec<Vec<u8>>) -> Option<Vec<CommonPrefix>> {
        let prefixes: Vec<_> = prefixes
            .iter()
            .map(|prefix| CommonPrefix {
                prefix: Some(self.encode(prefix)),
            })
            .collect();
        Some(prefixes).filter(|prefixes| !prefixes.is_empty())
    }
}

/// A place between entries: after `key` and, among entries of that key, after `within`.
#[derive(Clone)]
struct Place<W> {
    key: Vec<u8>,
    within: W,
}

/// What is listed.
struct Scope<'a> {
    prefix: &'a [u8],
    delimiter: Option<&'a [u8]>,
    /// A folded prefix the last page ended with.
    seen_prefix: Option<&'a [u8]>,
    limit: usize,
}

impl Scope<'_> {
    /// The first key beyond every key with this prefix.
    fn end(&self) -> Vec<u8> {
        successor(self.prefix)
    }

    fn folded(&self, key: &[u8]) -> Option<Vec<u8>> {
        let delimiter = self.delimiter?;
        let rest = key.get(self.prefix.len()..)?;
        let at = rest
            .windows(delimiter.len())
            .position(|window| window == delimiter)?;
        Some(key[..self.prefix.len() + at + delimiter.len()].to_vec())
    }
}

struct Page<W, T> {
    items: Vec<(Vec<u8>, W, T)>,
    prefixes: Vec<Vec<u8>>,
    /// Where the next page begins, if there is one.
    next: Option<Place<W>>,
    /// The last entry given, for protocols that continue from it: a key or a folded prefix.
    last: Option<Vec<u8>>,
}

/// The smallest text greater than every text that begins with `prefix`. UTF-8 has no byte 0xff,
/// so the last byte can always be raised.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    match next.last_mut() {
        Some(last) => *last += 1,
        None => next.push(0xff),
    }
    next
}

/// Collects a page. `fetch` gives up to so many entries after a place, in order.
fn walk<W: Clone, T>(
    scope: &Scope<'_>,
    start: Place<W>,
    first: W,
    mut fetch: impl FnMut(&Place<W>, usize) -> rusqlite::Result<Vec<(Vec<u8>, W, T)>>,
) -> rusqlite::Result<Page<W, T>> {
    let mut page = Page {
        items: Vec::new(),
        prefixes: Vec::new(),
        next: None,
        last: None,
    };
    if scope.limit == 0 {
        return Ok(page);
    }
    let mut place = start;
    if place.key.as_slice() < scope.prefix {
        place = Place {
            key: scope.prefix.to_vec(),
            within: first.clone(),
        };
    }
    'fetching: loop {
        // One more than fits tells whether there is another page.
        let wanted = scope.limit - page.items.len() - page.prefixes.len() + 1;
        let entries = fetch(&place, wanted)?;
        let is_last = entries.len() < wanted;
        for (key, within, item) in entries {
            let is_full = page.items.len() + page.prefixes.len() == scope.limit;
            let folded = scope.folded(&key);
            let is_seen = folded.is_some() && folded.as_deref() == scope.seen_prefix;
            if is_full && !is_seen {
                page.next = Some(place);
                return Ok(page);
            }
            if let Some(folded) = folded {
                place = Place {
                    key: successor(&folded),
                    within: first.clone(),
                };
                if !is_seen {
                    page.last = Some(folded.clone());
                    page.prefixes.push(folded);
                }
                continue 'fetching;
            }
            place = Place {
                key: key.clone(),
                within: within.clone(),
            };
            page.last = Some(key.clone());
            page.items.push((key, within, item));
        }
        if is_last {
            return Ok(page);
        }
    }
}

fn limit(asked: Option<i32>) -> Result<usize, Fault> {
    let asked = usize::try_from(asked.unwrap_or(PAGE_MAX as i32)).map_err(|_| {
        invalid_argument("Argument maxKeys must be an integer between 0 and 2147483647")
    })?;
    Ok(asked.min(PAGE_MAX))
}

/// An empty delimiter is none.
fn delimiter(asked: &Option<String>) -> Option<&[u8]> {
    asked
        .as_deref()
        .filter(|delimiter| !delimiter.is_empty())
        .map(str::as_bytes)
}

struct Listed {
    size_bytes: i64,
    etag: String,
    modified_ms: i64,
}

fn current_objects(
    c: &Connection,
    bucket: &records::Bucket,
    scope: &Scope<'_>,
    start: Place<i64>,
) -> rusqlite::Result<Page<i64, Listed>> {
    let end = scope.end();
    walk(scope, start, NEWEST, |place, wanted| {
        c.prepare_cached(
            "SELECT key, age, size_bytes, etag, modified_ms FROM versions INDEXED BY current_objects
             WHERE bucket_id = ?1 AND is_current = 1 AND delete_marker = 0
                AND key >= ?2 AND key < ?4 AND (key > ?2 OR age > ?3)
             ORDER BY key LIMIT ?5",
        )?
        .query_map(
            params![bucket.id, place.key, place.within, end, wanted as i64],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    Listed {
                        size_bytes: row.get(2)?,
                        etag: row.get(3)?,
                        modified_ms: row.get(4)?,
                    },
                ))
            },
        )?
        .collect()
    })
}

fn contents(
    items: Vec<(Vec<u8>, i64, Listed)>,
    encoding: &Encoding,
    uid: Option<&str>,
) -> Option<Vec<Object>> {
    let objects: Vec<_> = items
        .into_iter()
        .map(|(key, _, listed)| Object {
            key: Some(encoding.encode(&key)),
            size: Some(listed.size_bytes),
            e_tag: Some(ETag::Strong(listed.etag)),
            last_modified: Some(timestamp(listed.modified_ms)),
            storage_class: Some(ObjectStorageClass::from_static(
                ObjectStorageClass::STANDARD,
            )),
            owner: uid.map(owner),
            ..Object::default()
        })
        .collect();
    Some(objects).filter(|objects| !objects.is_empty())
}

/// A continuation token: whether it lies before or after the versions of a key, and the key.
fn token(place: &Place<i64>) -> String {
    let side = if place.within == NEWEST { b'<' } else { b'>' };
    URL_SAFE_NO_PAD.encode([&[side], place.key.as_slice()].concat())
}

fn place_of(token: &str) -> Result<Place<i64>, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    match bytes.split_first() {
        Some((b'<', key)) => Ok(Place {
            key: key.to_vec(),
            within: NEWEST,
        }),
        Some((b'>', key)) => Ok(Place {
            key: key.to_vec(),
            within: OLDEST,
        }),
        _ => Err(invalid_argument("The continuation token provided is incorrect").into()),
    }
}

pub(crate) async fn list_v2(
    front: &Front,
    req: S3Request<ListObjectsV2Input>,
) -> Result<S3Response<ListObjectsV2Output>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let start = match &input.continuation_token {
        Some(token) => place_of(token)?,
        None => Place {
            key: input.start_after.clone().unwrap_or_default().into_bytes(),
            within: OLDEST,
        },
    };
    let output = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let seen_prefix = match input.continuation_token {
                Some(_) => None,
                None => input.start_after.as_deref().map(str::as_bytes),
            };
            let scope = Scope {
                prefix: input.prefix.as_deref().unwrap_or_default().as_bytes(),
                delimiter: delimiter(&input.delimiter),
                seen_prefix,
                limit,
            };
            let page = current_objects(c, &bucket, &scope, start)?;
            let listed_owner = (input.fetch_owner == Some(true)).then_some(uid.as_str());
            Ok(ListObjectsV2Output {
                key_count: Some((page.items.len() + page.prefixes.len()) as i32),
                is_truncated: Some(page.next.is_some()),
                next_continuation_token: page.next.as_ref().map(token),
                contents: contents(page.items, &encoding, listed_owner),
                common_prefixes: encoding.prefixes(page.prefixes),
                max_keys: Some(limit as i32),
                prefix: Some(encoding.encode(scope.prefix)),
                delimiter: encoding.encode_opt(&input.delimiter),
                start_after: encoding.encode_opt(&input.start_after),
                encoding_type: input.encoding_type,
                continuation_token: input.continuation_token,
                name: Some(input.bucket),
                ..ListObjectsV2Output::default()
            })
        })
        .await?;
    Ok(S3Response::new(output))
}

pub(crate) async fn list_v1(
    front: &Front,
    req: S3Request<ListObjectsInput>,
) -> Result<S3Response<ListObjectsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let output = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let marker = input.marker.clone().unwrap_or_default();
            let scope = Scope {
                prefix: input.prefix.as_deref().unwrap_or_default().as_bytes(),
                delimiter: delimiter(&input.delimiter),
                seen_prefix: Some(marker.as_bytes()),
                limit,
            };
            let start = Place {
                key: marker.clone().into_bytes(),
                within: OLDEST,
            };
            let page = current_objects(c, &bucket, &scope, start)?;
            let next_marker = page.next.as_ref().and(page.last.as_deref());
            Ok(ListObjectsOutput {
                is_truncated: Some(page.next.is_some()),
                next_marker: next_marker.map(|key| encoding.encode(key)),
                contents: contents(page.items, &encoding, Some(&uid)),
                common_prefixes: encoding.prefixes(page.prefixes),
                max_keys: Some(limit as i32),
                prefix: Some(encoding.encode(scope.prefix)),
                marker: Some(encoding.encode(marker.as_bytes())),
                delimiter: encoding.encode_opt(&input.delimiter),
                encoding_type: input.encoding_type,
                name: Some(input.bucket),
                ..ListObjectsOutput::default()
            })
        })
        .await?;
    Ok(S3Response::new(output))
}

struct ListedVersion {
    version_id: String,
    is_current: bool,
    delete_marker: bool,
    object: Listed,
}

pub(crate) async fn list_versions(
    front: &Front,
    req: S3Request<ListObjectVersionsInput>,
) -> Result<S3Response<ListObjectVersionsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let output = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let key_marker = input.key_marker.clone().unwrap_or_default();
            let version_marker = input
                .version_id_marker
                .as_deref()
                .filter(|version_id| !version_id.is_empty());
            let within = match version_marker {
                None => OLDEST,
                // A version deleted since: its key once more from the newest on, rather than a gap.
                Some(version_id) => find_version(c, &bucket, &key_marker, version_id)?
                    .map_or(NEWEST, |version| version.age),
            };
            let scope = Scope {
                prefix: input.prefix.as_deref().unwrap_or_default().as_bytes(),
                delimiter: delimiter(&input.delimiter),
                seen_prefix: Some(key_marker.as_bytes()),
                limit,
            };
            let start = Place {
                key: key_marker.clone().into_bytes(),
                within,
            };
            let page = all_versions(c, &bucket, &scope, start)?;
            let next_key_marker = page.next.as_ref().and(page.last.as_deref());
            let next_version_id_marker = page
                .next
                .as_ref()
                .and(page.items.last())
                .filter(|(key, ..)| page.last.as_ref() == Some(key))
                .map(|(_, _, version)| version.version_id.clone());
            let next_key_marker = next_key_marker.map(|key| encoding.encode(key));
            let is_truncated = page.next.is_some();
            let (markers, versions): (Vec<_>, Vec<_>) = page
                .items
                .into_iter()
                .partition(|(_, _, version)| version.delete_marker);
            Ok(ListObjectVersionsOutput {
                is_truncated: Some(is_truncated),
                next_key_marker,
                next_version_id_marker,
                versions: Some(
                    versions
                        .into_iter()
                        .map(|(key, _, version)| ObjectVersion {
                            key: Some(encoding.encode(&key)),
                            version_id: Some(version.version_id),
                            is_latest: Some(version.is_current),
                            size: Some(version.object.size_bytes),
                            e_tag: Some(ETag::Strong(version.object.etag)),
                            last_modified: Some(timestamp(version.object.modified_ms)),
                            storage_class: Some(ObjectVersionStorageClass::from_static(
                                ObjectVersionStorageClass::STANDARD,
                            )),
                            owner: Some(owner(&uid)),
                            ..ObjectVersion::default()
                        })
                        .collect(),
                ),
                delete_markers: Some(
                    markers
                        .into_iter()
                        .map(|(key, _, marker)| DeleteMarkerEntry {
                            key: Some(encoding.encode(&key)),
                            version_id: Some(marker.version_id),
                            is_latest: Some(marker.is_current),
                            last_modified: Some(timestamp(marker.object.modified_ms)),
                            owner: Some(owner(&uid)),
                        })
                        .collect(),
                ),
                common_prefixes: encoding.prefixes(page.prefixes),
                max_keys: Some(limit as i32),
                prefix: Some(encoding.encode(scope.prefix)),
                key_marker: Some(encoding.encode(key_marker.as_bytes())),
                version_id_marker: Some(input.version_id_marker.clone().unwrap_or_default()),
                delimiter: encoding.encode_opt(&input.delimiter),
                encoding_type: input.encoding_type,
                name: Some(input.bucket),
                ..ListObjectVersionsOutput::default()
            })
        })
        .await?;
    Ok(S3Response::new(output))
}

fn all_versions(
    c: &Connection,
    bucket: &records::Bucket,
    scope: &Scope<'_>,
    start: Place<i64>,
) -> rusqlite::Result<Page<i64, ListedVersion>> {
    let end = scope.end();
    walk(scope, start, NEWEST, |place, wanted| {
        c.prepare_cached(
            "SELECT key, age, version_id, is_current, delete_marker, size_bytes, etag, modified_ms FROM versions
             WHERE bucket_id = ?1 AND (key, age) > (?2, ?3) AND key < ?4
             ORDER BY key, age LIMIT ?5",
        )?
        .query_map(
            params![bucket.id, place.key, place.within, end, wanted as i64],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    ListedVersion {
                        version_id: row.get(2)?,
                        is_current: row.get(3)?,
                        delete_marker: row.get(4)?,
                        object: Listed {
                            size_bytes: row.get(5)?,
                            etag: row.get(6)?,
                            modified_ms: row.get(7)?,
                        },
                    },
                ))
            },
        )?
        .collect()
    })
}

pub(crate) async fn list_uploads(
    front: &Front,
    req: S3Request<ListMultipartUploadsInput>,
) -> Result<S3Response<ListMultipartUploadsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let encoding = Encoding::new(input.encoding_type.as_ref())?;
    let limit = limit(input.max_uploads)?;
    let output = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let key_marker = input.key_marker.clone().unwrap_or_default();
            let scope = Scope {
                prefix: input.prefix.as_deref().unwrap_or_default().as_bytes(),
                delimiter: delimiter(&input.delimiter),
                seen_prefix: Some(key_marker.as_bytes()),
                limit,
            };
            let start = Place {
                key: key_marker.clone().into_bytes(),
                // Ids are hexadecimal, so a tilde comes after all of them.
                within: input
                    .upload_id_marker
                    .clone()
                    .filter(|id| !id.is_empty())
                    .unwrap_or_else(|| "~".to_owned()),
            };
            let end = scope.end();
            let page = walk(&scope, start, String::new(), |place, wanted| {
                c.prepare_cached(
                    "SELECT key, id, created_ms FROM uploads
                     WHERE bucket_id = ?1 AND (key, id) > (?2, ?3) AND key < ?4
                     ORDER BY key, id LIMIT ?5",
                )?
                .query_map(
                    params![bucket.id, place.key, place.within, end, wanted as i64],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)),
                )?
                .collect()
            })?;
            let is_truncated = page.next.is_some();
            let next_key_marker = page.next.as_ref().and(page.last.as_deref());
            let next_upload_id_marker = page
                .next
                .as_ref()
                .and(page.items.last())
                .filter(|(key, ..)| page.last.as_ref() == Some(key))
                .map(|(_, id, _)| id.clone());
            Ok(ListMultipartUploadsOutput {
                is_truncated: Some(is_truncated),
                next_key_marker: next_key_marker.map(|key| encoding.encode(key)),
                next_upload_id_marker,
                uploads: Some(
                    page.items
                        .into_iter()
                        .map(|(key, id, created_ms)| MultipartUpload {
                            key: Some(encoding.encode(&key)),
                            upload_id: Some(id),
                            initiated: Some(timestamp(created_ms)),
                            initiator: Some(Initiator {
                                display_name: Some(uid.clone()),
                                id: Some(uid.clone()),
                            }),
                            owner: Some(owner(&uid)),
                            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                            ..MultipartUpload::default()
                        })
                        .collect(),
                ),
                common_prefixes: encoding.prefixes(page.prefixes),
                max_uploads: Some(limit as i32),
                prefix: Some(encoding.encode(scope.prefix)),
                key_marker: Some(encoding.encode(key_marker.as_bytes())),
                upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
                delimiter: encoding.encode_opt(&input.delimiter),
                encoding_type: input.encoding_type,
                bucket: Some(input.bucket),
                ..ListMultipartUploadsOutput::default()
            })
        })
        .await?;
    Ok(S3Response::new(output))
}

pub(crate) async fn list_parts(
    front: &Front,
    req: S3Request<ListPartsInput>,
) -> Result<S3Response<ListPartsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let limit = limit(input.max_parts)?;
    let output = front
        .store
        .read(move |c| {
            let bucket = own_bucket(c, &uid, &input.bucket)?;
            let upload = find_upload(c, &bucket, &input.key, &input.upload_id)?
                .ok_or(S3ErrorCode::NoSuchUpload)?
                .meta()?;
            let after = input.part_number_marker.unwrap_or_default();
            let mut parts: Vec<Part> = c
                .prepare_cached(
                    "SELECT number, size_bytes, etag, modified_ms, checksums FROM parts
                     WHERE upload_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
                )?
                .query_map(params![input.upload_id, after, limit as i64 + 1], |row| {
                    let mut part = Part {
                        part_number: row.get(0)?,
                        size: row.get(1)?,
                        e_tag: Some(ETag::Strong(row.get(2)?)),
                        last_modified: Some(timestamp(row.get(3)?)),
                        ..Part::default()
                    };
                    tell_checksums!(part, checksums_from(row.get(4)?));
                    Ok(part)
                })?
                .collect::<rusqlite::Result<_>>()?;
            let is_truncated = limit > 0 && parts.len() > limit;
            parts.truncate(limit);
            Ok(ListPartsOutput {
                checksum_algorithm: upload.checksum_algorithm.map(Algorithm::as_dto),
                checksum_type: upload.checksum_kind.map(Kind::as_dto),
                next_part_number_marker: parts.last().and_then(|part| part.part_number),
                is_truncated: Some(is_truncated),
                parts: Some(parts),
                max_parts: Some(limit as i32),
                part_number_marker: Some(after),
                initiator: Some(Initiator {
                    display_name: Some(uid.clone()),
                    id: Some(uid.clone()),
                }),
                owner: Some(owner(&uid)),
                storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                bucket: Some(input.bucket),
                key: Some(input.key),
                upload_id: Some(input.upload_id),
                ..ListPartsOutput::default()
            })
        })
        .await?;
    Ok(S3Response::new(output))
}
