//! Segments: what the clusters reported, kept for ever in S3 as Parquet files, `docs/segments.md`.
//!
//! A segment is the samples of one location, hour and shard. It is written once: a later writer gets the first one's content, which is the
//! truth from then on, whatever the cluster reports later. So a segment that was read can be cached.

mod file;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::account::AccountId;
use crate::domain::period::{date_of, start_of};
use crate::domain::usage::Sample;
use crate::error::Fault;
use crate::outside::{OnFirstUse, Outside};

pub use file::{FileError, decode, encode};

/// What a process keeps of the segments it has read, in bytes of memory: a day of ten shards, or of a hundred that are not full.
const CACHE_BYTES: usize = 48 << 20;
/// Segments read at once.
const READ_AT_ONCE: usize = 8;
/// The hours of a day, UTC.
const HOURS_A_DAY: i64 = 24;

/// Which segment. Also what its collection is asked for by, as a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentKey {
    /// The location.
    pub location: String,
    /// The start of the hour, UTC.
    pub hour: Timestamp,
    /// The block of accounts, see [`shard_of`].
    pub shard: u64,
}

/// Its key in the bucket.
impl fmt::Display for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "usage/location={}/date={}/hour={:02}/part-{:04}.parquet",
            self.location,
            date_of(self.hour),
            self.hour.as_second().rem_euclid(86_400) / 3_600,
            self.shard
        )
    }
}

/// The shard of an account, by its number. `shard_accounts` must stay what it was when the first segment was written.
#[must_use]
pub fn shard_of(account_id: AccountId, shard_accounts: u64) -> u64 {
    account_id.0 / shard_accounts.max(1)
}

/// The usage bucket.
#[derive(Clone)]
pub struct Segments {
    client: OnFirstUse<Client>,
    bucket: String,
    cache: Arc<Mutex<Cache>>,
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Segments {
    pub(crate) fn new(outside: &Outside<'_>) -> Segments {
        let endpoint = &outside.config.endpoints.s3;
        let sdk = outside.aws(endpoint.as_ref());
        let config = aws_sdk_s3::config::Builder::from(&sdk)
            // A server that is not AWS's has no host name for every bucket.
            .force_path_style(endpoint.is_some())
            .build();
        Segments {
            client: OnFirstUse::new(move || Client::from_conf(config)),
            bucket: outside.config.usage_bucket.clone(),
            cache: Arc::default(),
        }
    }

    /// A segment's samples; `None` when it was not written yet.
    ///
    /// # Errors
    /// When S3 cannot answer, or what is stored is no segment.
    pub async fn get(&self, key: &SegmentKey) -> Result<Option<Arc<[Sample]>>, Fault> {
        let key = key.to_string();
        if let Some(samples) = self.cache().get(&key) {
            return Ok(Some(samples));
        }
        let sent = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(&key)
            .send()
            .await;
        let found = match sent {
            Ok(found) => found,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(fault("GetObject", &key, error)),
        };
        let file = found
            .body
            .collect()
            .await
            .map_err(|error| Fault::retryable(format!("S3 GetObject {key}"), error))?;
        let samples: Arc<[Sample]> = decode(file.into_bytes())
            .map_err(|error| Fault::permanent(format!("reading segment {key}"), error))?
            .into();
        self.cache().put(key, &samples);
        Ok(Some(samples))
    }

    /// Writes a segment, unless it was written before. What it holds from now on is the answer.
    ///
    /// # Errors
    /// When S3 cannot answer.
    pub async fn put(
        &self,
        key: &SegmentKey,
        samples: Vec<Sample>,
        collected_at: Timestamp,
    ) -> Result<Arc<[Sample]>, Fault> {
        let name = key.to_string();
        let file = encode(&samples, collected_at)
            .map_err(|error| Fault::permanent(format!("writing segment {name}"), error))?;
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&name)
            .if_none_match("*")
            .content_type("application/vnd.apache.parquet")
            .body(file.into())
            .send()
            .await;
        match sent {
            Ok(_) => {
                let samples: Arc<[Sample]> = samples.into();
                self.cache().put(name, &samples);
                Ok(samples)
            }
            // Another copy of the message was quicker, or this very call was, and its answer was lost.
            Err(error)
                if matches!(
                    error.code(),
                    Some("PreconditionFailed" | "ConditionalRequestConflict")
                ) =>
            {
                self.get(key).await?.ok_or_else(|| {
                    Fault::retryable(
                        format!("S3 PutObject {name}"),
                        "somebody else is writing it",
                    )
                })
            }
            Err(error) => Err(fault("PutObject", &name, error)),
        }
    }

    /// The segments of a shard that have been written in the hours `[from, until)`, by hour.
    ///
    /// # Errors
    /// When S3 cannot answer.
    pub async fn range(
        &self,
        location: &str,
        shard: u64,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Arc<[Sample]>>, Fault> {
        let hours = (until.as_second() - from.as_second()).max(0) / 3_600;
        let keys = (0..hours).map(|hour| SegmentKey {
            location: location.to_owned(),
            hour: from + SignedDuration::from_hours(hour),
            shard,
        });
        let found: Vec<Option<Arc<[Sample]>>> = stream::iter(keys)
            .map(|key| async move { self.get(&key).await })
            .buffered(READ_AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The segments of a shard that have been written on a day, by hour; hours that end after `now` are not asked for.
    ///
    /// # Errors
    /// When S3 cannot answer.
    pub async fn day(
        &self,
        location: &str,
        shard: u64,
        date: Date,
        now: Timestamp,
    ) -> Result<Vec<Arc<[Sample]>>, Fault> {
        let from = start_of(date);
        let until = (from + SignedDuration::from_hours(HOURS_A_DAY)).min(now);
        self.range(location, shard, from, until).await
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault<E, R>(operation: &str, key: &str, error: SdkError<E, R>) -> Fault
where
    E: std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    Fault::retryable(
        format!("S3 {operation} {key}"),
        DisplayErrorContext(error).to_string(),
    )
}

/// Segments that were read or written, the oldest given up first.
#[derive(Default)]
struct Cache {
    segments: HashMap<String, Arc<[Sample]>>,
    order: VecDeque<String>,
    bytes: usize,
}

impl Cache {
    fn get(&self, key: &str) -> Option<Arc<[Sample]>> {
        self.segments.get(key).cloned()
    }

    fn put(&mut self, key: String, samples: &Arc<[Sample]>) {
        let bytes = memory_bytes(&key, samples);
        if bytes > CACHE_BYTES || self.segments.contains_key(&key) {
            return;
        }
        self.bytes += bytes;
        self.order.push_back(key.clone());
        self.segments.insert(key, Arc::clone(samples));
        while self.bytes > CACHE_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(samples) = self.segments.remove(&oldest) {
                self.bytes -= memory_bytes(&oldest, &samples);
            }
        }
    }
}

fn memory_bytes(key: &str, samples: &[Sample]) -> usize {
    let texts: usize = samples
        .iter()
        .map(|sample| sample.s3uid.as_str().len() + sample.bucket_name.len())
        .sum();
    2 * key.len() + size_of_val(samples) + texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::S3Uid;

    #[test]
    fn keys_sort_by_location_day_and_hour() {
        let key = SegmentKey {
            location: "NL".into(),
            hour: "2026-11-22T03:00:00Z".parse().expect("time"),
            shard: shard_of(AccountId(7_999), 1_000),
        };
        assert_eq!(
            key.to_string(),
            "usage/location=NL/date=2026-11-22/hour=03/part-0007.parquet"
        );
    }

    #[test]
    fn the_cache_is_bounded_by_bytes() {
        let sample = Sample {
            s3uid: S3Uid("a".repeat(1_000_000)),
            ..Sample::default()
        };
        let mut cache = Cache::default();
        for number in 0..200 {
            cache.put(number.to_string(), &vec![sample.clone()].into());
            assert!(cache.bytes <= CACHE_BYTES);
        }
        assert!(cache.get("199").is_some() && cache.get("0").is_none());
        assert_eq!(cache.segments.len(), cache.order.len());
        assert_eq!(cache.segments.len(), 50);
    }
}
