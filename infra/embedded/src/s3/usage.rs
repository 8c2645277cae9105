//! What was sent and received, per bucket and hour, as it passed the HTTP layer.
//!
//! Bytes are added up in memory as they pass and written to the database when their request ends;
//! whoever reads the figures has everything written first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rusqlite::params;
use tokio::sync::Notify;

use super::fault::Fault;
use super::store::{Writing, lock};
use crate::Now;

/// One account's bucket. The owner is part of it: the name may belong to another account later.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    uid: Arc<str>,
    bucket: Arc<str>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    bytes_sent: u64,
    bytes_received: u64,
    requests: u64,
    requests_get: u64,
    requests_put: u64,
    requests_list: u64,
    requests_delete: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.requests += other.requests;
        self.requests_get += other.requests_get;
        self.requests_put += other.requests_put;
        self.requests_list += other.requests_list;
        self.requests_delete += other.requests_delete;
    }
}

pub(crate) struct Usage {
    now: Now,
    /// What the database does not have yet, by bucket and hour.
    pending: Mutex<HashMap<(Target, i64), Counts>>,
    /// A request ended, so there is something worth writing.
    pub(crate) request_ended: Notify,
}

impl Usage {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            now,
            pending: Mutex::new(HashMap::new()),
            request_ended: Notify::new(),
        }
    }

    fn add(&self, target: &Target, counts: Counts) {
        let hour = (self.now)().as_second().div_euclid(3600);
        lock(&self.pending)
            .entry((target.clone(), hour))
            .or_default()
            .add(counts);
    }

    /// Writes what is pending. Taken and written under the database's write lock, so that a reader
    /// after this sees all of it, whichever thread wrote.
    pub(crate) fn flush(&self, w: &Writing<'_>) -> Result<(), Fault> {
        let taken = std::mem::take(&mut *lock(&self.pending));
        let written = write(w, &taken);
        if written.is_err() {
            let mut pending = lock(&self.pending);
            for (key, counts) in taken {
                pending.entry(key).or_default().add(counts);
            }
        }
        written.map_err(Fault::from)
    }
}

fn write(w: &Writing<'_>, counts: &HashMap<(Target, i64), Counts>) -> rusqlite::Result<()> {
    let mut statement = w.prepare_cached(
        "INSERT INTO usage (uid, bucket, hour, bytes_sent, bytes_received, requests,
             requests_get, requests_put, requests_list, requests_delete)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET bytes_sent = bytes_sent + excluded.bytes_sent,
             bytes_received = bytes_received + excluded.bytes_received, requests = requests + excluded.requests,
             requests_get = requests_get + excluded.requests_get, requests_put = requests_put + excluded.requests_put,
             requests_list = requests_list + excluded.requests_list,
             requests_delete = requests_delete + excluded.requests_delete",
    )?;
    for ((target, hour), counts) in counts {
        statement.execute(params![
            target.uid,
            target.bucket,
            hour,
            counts.bytes_sent,
            counts.bytes_received,
            counts.requests,
            counts.requests_get,
            counts.requests_put,
            counts.requests_list,
            counts.requests_delete,
        ])?;
    }
    Ok(())
}

/// The counters of one request.
///
/// A request counts for a bucket only once its caller was found to be the bucket's owner: what
/// strangers try, and are refused, is not the owner's traffic.
pub(crate) struct Meter {
    usage: Arc<Usage>,
    target: OnceLock<Target>,
    /// Received before the owner was known.
    early_bytes: AtomicU64,
}

impl Meter {
    pub(crate) fn new(usage: Arc<Usage>) -> Self {
        Self {
            usage,
            target: OnceLock::new(),
            early_bytes: AtomicU64::new(0),
        }
    }

    /// Says whose request it is, and which operation; the first word holds.
    pub(crate) fn attribute(&self, uid: &str, bucket: &str, operation: &str) {
        let target = Target {
            uid: uid.into(),
            bucket: bucket.into(),
        };
        let mut counts = Counts {
            bytes_received: self.early_bytes.swap(0, Ordering::Relaxed),
            requests: 1,
            ..Counts::default()
        };
        // The names that s3s gives them, which are those of Amazon's API.
        match operation {
            "GetObject" | "HeadObject" | "GetObjectAttributes" => counts.requests_get = 1,
            "PutObject"
            | "CopyObject"
            | "PostObject"
            | "CreateMultipartUpload"
            | "UploadPart"
            | "UploadPartCopy"
            | "CompleteMultipartUpload" => counts.requests_put = 1,
            "DeleteObject" | "DeleteObjects" | "AbortMultipartUpload" => counts.requests_delete = 1,
            list if list.starts_with("List") => counts.requests_list = 1,
            _ => {}
        }
        if self.target.set(target.clone()).is_ok() {
            self.usage.add(&target, counts);
        }
    }

    pub(crate) fn received(&self, bytes_received: u64) {
        match self.target.get() {
            Some(target) => self.usage.add(
                target,
                Counts {
                    bytes_received,
                    ..Counts::default()
                },
            ),
            None => {
                self.early_bytes
                    .fetch_add(bytes_received, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn sent(&self, bytes_sent: u64) {
        if let Some(target) = self.target.get() {
            self.usage.add(
                target,
                Counts {
                    bytes_sent,
                    ..Counts::default()
                },
            );
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.target.get().is_some() {
            self.usage.request_ended.notify_one();
        }
    }
}
