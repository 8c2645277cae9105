//! Emptying a bucket a bounded step at a time, however full it is.

use rusqlite::{OptionalExtension, params};
use s3s::S3ErrorCode;

use super::fault::Fault;
use super::records::{Bucket, delete_blobs, find_bucket, is_empty};
use super::store::Writing;

/// What a step did.
#[derive(Default)]
pub(crate) struct Purged {
    /// Versions, delete markers, uploads and parts.
    pub deleted: u64,
    pub bytes: i64,
    pub empty: bool,
    /// A version that stays, because its retention has not ended.
    pub locked: Option<Locked>,
}

pub(crate) struct Locked {
    pub key: Vec<u8>,
    pub version_id: String,
    pub until_ms: i64,
}

/// Deletes at most `max_entries` of what the bucket holds and no retention keeps at `now_ms`.
pub(crate) fn purge(
    w: &mut Writing<'_>,
    name: &str,
    max_entries: u64,
    now_ms: i64,
) -> Result<Purged, Fault> {
    let bucket = find_bucket(w, name)?.ok_or(S3ErrorCode::NoSuchBucket)?;
    let mut purged = Purged::default();
    purge_versions(w, &bucket, max_entries, now_ms, &mut purged)?;
    purge_parts(w, &bucket, max_entries, &mut purged)?;
    let uploads = w
        .prepare_cached(
            "DELETE FROM uploads WHERE id IN (
                SELECT id FROM uploads WHERE bucket_id = ?1
                    AND NOT EXISTS (SELECT 1 FROM parts WHERE upload_id = uploads.id)
                LIMIT ?2)",
        )?
        .execute(params![bucket.id, max_entries - purged.deleted])?;
    purged.deleted += uploads as u64;
    purged.empty = is_empty(w, &bucket)?;
    Ok(purged)
}

/// Until when a version is kept, in SQL.
const RETAINED: &str = "COALESCE(json_extract(meta, '$.retain_until_ms'), 0)";

/// From the end: the old versions of a key go before its current one, so what is left between two
/// steps is as consistent as any bucket.
fn purge_versions(
    w: &mut Writing<'_>,
    bucket: &Bucket,
    max_entries: u64,
    now_ms: i64,
    purged: &mut Purged,
) -> Result<(), Fault> {
    purged.locked = w
        .prepare_cached(&format!(
            "SELECT key, version_id, {RETAINED} FROM versions WHERE bucket_id = ?1 AND {RETAINED} > ?2
             ORDER BY key, age LIMIT 1"
        ))?
        .query_row(params![bucket.id, now_ms], |row| {
            Ok(Locked {
                key: row.get(0)?,
                version_id: row.get(1)?,
                until_ms: row.get(2)?,
            })
        })
        .optional()?;
    let last: Vec<(Vec<u8>, i64, i64)> = w
        .prepare_cached(&format!(
            "SELECT key, age, size_bytes FROM versions WHERE bucket_id = ?1 AND {RETAINED} <= ?3
             ORDER BY key DESC, age DESC LIMIT ?2"
        ))?
        .query_map(params![bucket.id, max_entries, now_ms], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (key, age, size_bytes) in last {
        w.prepare_cached("DELETE FROM versions WHERE bucket_id = ?1 AND key = ?2 AND age = ?3")?
            .execute(params![bucket.id, key, age])?;
        delete_blobs(w, age)?;
        purged.deleted += 1;
        purged.bytes += size_bytes;
    }
    Ok(())
}

fn purge_parts(
    w: &mut Writing<'_>,
    bucket: &Bucket,
    max_entries: u64,
    purged: &mut Purged,
) -> Result<(), Fault> {
    while purged.deleted < max_entries {
        let part: Option<(String, i32, Option<i64>, i64)> = w
            .prepare_cached(
                "SELECT parts.upload_id, parts.number, parts.blob_id, parts.size_bytes FROM uploads
                 JOIN parts ON parts.upload_id = uploads.id WHERE uploads.bucket_id = ?1 LIMIT 1",
            )?
            .query_row(params![bucket.id], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((upload_id, number, blob, size_bytes)) = part else {
            return Ok(());
        };
        w.prepare_cached("DELETE FROM parts WHERE upload_id = ?1 AND number = ?2")?
            .execute(params![upload_id, number])?;
        if let Some(blob) = blob {
            w.discard(blob);
        }
        // An upload goes with its last part, or the search for the next would pass it every time.
        purged.deleted += 1;
        purged.bytes += size_bytes;
        if purged.deleted < max_entries {
            purged.deleted += w
                .prepare_cached(
                    "DELETE FROM uploads WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM parts WHERE upload_id = ?1)",
                )?
                .execute(params![upload_id])? as u64;
        }
    }
    Ok(())
}
