//! Collects one hour of a shard of accounts: into a segment, and from the segments of the day into the accounts' days, figures and months.
//!
//! Messages come twice, late and in any order, and a run can end anywhere. What makes that harmless:
//! - The segment is written once; whoever comes later works with what it says.
//! - A day is made from all segments of the day there are, and replaces the one that was read *before* the segments were. So of several
//!   runs at once the last to write its segment sees all of them, and no other can undo what it set.
//! - The day is written after everything that is made from it: as long as it is missing, all of that is made again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use wharfage::cluster::Bucket;
use wharfage::context::Context;
use wharfage::database::{AccountUsage, MeteredAccount, MonthUsage};
use wharfage::domain::account::Account;
use wharfage::domain::period::{date_of, hour_of, start_of};
use wharfage::domain::usage::{Day, Sample, TrafficHour, Usage};
use wharfage::error::Fault;
use wharfage::runtime::{Entry, Function};
use wharfage::segments::SegmentKey;

/// Its Lambda function.
pub const FUNCTION: Function = Function {
    name: "usage_shards",
    entry: Entry::Queue(|context, body| Box::pin(handle(context, body))),
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Accounts written at once.
const ACCOUNTS_AT_ONCE: usize = 16;
/// How often the days are made again that another run of the same shard has set meanwhile.
const TRIES: usize = 4;

async fn handle(context: &Context, body: &str) -> Result<(), Fault> {
    let key: SegmentKey =
        serde_json::from_str(body).map_err(|e| Fault::permanent("reading a queue message", e))?;
    if key.hour != hour_of(key.hour) || key.hour + HOUR > context.now() {
        return Err(Fault::permanent(
            "reading a queue message",
            "its hour has not ended, or is none",
        ));
    }
    let (written, accounts) =
        futures::try_join!(context.segments.get(&key), metered_accounts(context, &key))?;
    let segment = match written {
        Some(segment) => Some(segment),
        None if accounts.is_empty() => None,
        None => Some(collect(context, &key, &accounts).await?),
    };
    if let Some(segment) = segment {
        set_days(context, &key, &segment).await?;
    }
    let hour = context
        .database
        .shard_collected(&key.location, key.hour, key.shard)
        .await?;
    if hour.is_some_and(|hour| hour.is_complete()) {
        context.database.settle_hours(&key.location).await?;
    }
    Ok(())
}

/// The accounts of the shard that lived in the hour. Those that ended before an hour that is complete are taken out for good.
async fn metered_accounts(
    context: &Context,
    key: &SegmentKey,
) -> Result<Vec<MeteredAccount>, Fault> {
    let size = context.rules.usage_shard_accounts;
    let first = key.shard.saturating_mul(size);
    let last = first.saturating_add(size - 1);
    let mut accounts = context
        .database
        .metered_accounts(&key.location, first, last)
        .await?;
    accounts.retain(|account| account.created_at < key.hour + HOUR);
    let has_ended =
        |account: &MeteredAccount| account.metered_until.is_some_and(|until| until <= key.hour);
    if accounts.iter().any(has_ended) {
        let complete_until = context.database.collected_until(&key.location).await?;
        let is_over = |until: Timestamp| {
            complete_until.is_some_and(|complete| complete >= hour_of(until) + HOUR)
        };
        for account in accounts
            .iter()
            .filter(|account| account.metered_until.is_some_and(is_over))
        {
            context.database.stop_metering(&account.s3uid).await?;
        }
        accounts.retain(|account| !has_ended(account));
    }
    Ok(accounts)
}

/// Asks the cluster and writes the segment.
async fn collect(
    context: &Context,
    key: &SegmentKey,
    accounts: &[MeteredAccount],
) -> Result<Arc<[Sample]>, Fault> {
    let now = context.now();
    let provider = &context.clusters.of(&key.location)?.provider;
    let s3uids: Vec<&str> = accounts
        .iter()
        .map(|account| account.s3uid.as_str())
        .collect();
    let is_in_time = now < key.hour + HOUR + HOUR;
    let (buckets, traffic) = futures::try_join!(
        async {
            match is_in_time {
                true => provider.buckets_of(&s3uids).await.map(Some),
                false => Ok(None),
            }
        },
        provider.traffic(&s3uids, key.hour, key.hour + HOUR),
    )
    .map_err(|error| error.into_fault("collecting usage"))?;
    let samples = samples(key.hour, &s3uids, buckets, traffic);
    context.segments.put(key, samples, now).await
}

/// The rows of a segment: by account in the given order, and by bucket. Without `buckets`, nobody can tell any more what was stored.
fn samples(
    hour: Timestamp,
    s3uids: &[&str],
    buckets: Option<Vec<(String, Bucket)>>,
    traffic: Vec<TrafficHour>,
) -> Vec<Sample> {
    let is_in_time = buckets.is_some();
    let mut rows: HashMap<String, BTreeMap<String, Sample>> = HashMap::new();
    let empty = |s3uid: &str, bucket_name: &str| Sample {
        s3uid: s3uid.to_owned(),
        bucket_name: bucket_name.to_owned(),
        hour,
        stored_bytes: is_in_time.then_some(0),
        objects: None,
        noncurrent_bytes: None,
        multipart_bytes: None,
        bytes_sent: 0,
        bytes_received: 0,
        requests: 0,
        is_reset: false,
    };
    for (s3uid, bucket) in buckets.into_iter().flatten() {
        let sample = Sample {
            stored_bytes: Some(bucket.stored_bytes),
            objects: Some(bucket.objects),
            noncurrent_bytes: Some(bucket.noncurrent_bytes),
            multipart_bytes: Some(bucket.multipart_bytes),
            ..empty(&s3uid, &bucket.name)
        };
        rows.entry(s3uid).or_default().insert(bucket.name, sample);
    }
    for moved in traffic.into_iter().filter(|moved| moved.hour == hour) {
        let sample = rows
            .entry(moved.s3uid.clone())
            .or_default()
            .entry(moved.bucket_name.clone())
            .or_insert_with(|| empty(&moved.s3uid, &moved.bucket_name));
        sample.bytes_sent += moved.bytes_sent;
        sample.bytes_received += moved.bytes_received;
        sample.requests += moved.requests;
    }
    s3uids
        .iter()
        .flat_map(|s3uid| match rows.remove(*s3uid) {
            Some(rows) => rows.into_values().collect(),
            None => vec![empty(s3uid, "")],
        })
        .collect()
}

/// Sets the day of every account of the segment, with what is made from it, where that changes.
async fn set_days(context: &Context, key: &SegmentKey, segment: &[Sample]) -> Result<(), Fault> {
    let date = date_of(key.hour);
    let mut seen = HashSet::new();
    let mut s3uids: Vec<&str> = segment.iter().map(|sample| sample.s3uid.as_str()).collect();
    s3uids.retain(|s3uid| seen.insert(*s3uid));
    let mut is_first = true;
    for _ in 0..TRIES {
        // Read before the segments: see above.
        let mut stored = context.database.usage_on(&s3uids, date).await?;
        let segments = context
            .segments
            .day(&key.location, key.shard, date, context.now())
            .await?;
        let mut samples: HashMap<&str, Vec<&Sample>> = HashMap::new();
        for sample in segments.iter().flat_map(|segment| segment.iter()) {
            samples.entry(&sample.s3uid).or_default().push(sample);
        }
        let mut changed: Vec<(&str, Change<'_>)> = Vec::new();
        for s3uid in s3uids {
            let samples = samples.remove(s3uid).unwrap_or_default();
            let stored = stored.remove(s3uid).unwrap_or_default();
            let day = Day::from_samples(samples.iter().copied());
            if !is_first || stored.month.is_none() || stored.day.clone().unwrap_or_default() != day
            {
                changed.push((
                    s3uid,
                    Change {
                        date,
                        day,
                        stored,
                        samples,
                    },
                ));
            }
        }
        let names: Vec<&str> = changed.iter().map(|(s3uid, _)| *s3uid).collect();
        let accounts = context.database.accounts(&names).await?;
        let writes: Vec<_> = changed
            .into_iter()
            .map(|(s3uid, change)| {
                let account = accounts.get(s3uid);
                async move {
                    let is_set = match account {
                        Some(account) => change.write(context, account).await?,
                        None => true,
                    };
                    Ok::<_, Fault>((!is_set).then_some(s3uid))
                }
            })
            .collect();
        let outrun: Vec<Option<&str>> = stream::iter(writes)
            .buffer_unordered(ACCOUNTS_AT_ONCE)
            .try_collect()
            .await?;
        s3uids = outrun.into_iter().flatten().collect();
        if s3uids.is_empty() {
            return Ok(());
        }
        // What was made from a day that somebody else has set is made again, even if the day is right by now.
        is_first = false;
    }
    Err(Fault::retryable(
        "setting days",
        "other hours of the shard keep changing them",
    ))
}

/// An account's day as it is to be.
struct Change<'a> {
    date: Date,
    day: Day,
    stored: AccountUsage,
    samples: Vec<&'a Sample>,
}

impl Change<'_> {
    /// Sets the account's figures and its month, and then the day; `false` when somebody else has set the day meanwhile.
    async fn write(self, context: &Context, account: &Account) -> Result<bool, Fault> {
        let database = &context.database;
        let now = context.now();
        let today = date_of(now);
        let month = self.date.first_of_month();
        let period_from = account.service.period_start(today);
        let from = month.min(period_from);
        let (mut days, before_bytes) =
            futures::try_join!(database.days(&account.s3uid, from, today), async {
                match from <= date_of(account.created_at) {
                    true => Ok(0),
                    false => database.stored_before(&account.s3uid, from).await,
                }
            },)?;
        let is_latest = days.range(self.date..).all(|(date, _)| *date == self.date);
        days.insert(self.date, self.day.clone());
        let usage = |from_date: Date, until: Timestamp| {
            let carried = Usage::of(before_bytes, &days, from, start_of(from_date));
            Usage::of(carried.stored_bytes, &days, from_date, until)
        };
        let next_month = start_of(month.saturating_add(1.month()));
        let of_month = usage(month, next_month.min(now));
        let of_period = usage(period_from, now);
        let figures = Account {
            buckets: match buckets(&self.samples) {
                Some(buckets) if is_latest => buckets,
                _ => account.buckets,
            },
            stored_bytes: of_period.stored_bytes,
            period_from,
            period_bytes_sent: of_period.bytes_sent,
            period_peak_stored_bytes: of_period.peak_stored_bytes,
            ..account.clone()
        };
        let new_month = MonthUsage::new(
            &account.s3uid,
            account.id,
            account.group_key.as_deref(),
            month,
            (of_month.bytes_sent, of_month.peak_stored_bytes),
        );
        futures::try_join!(
            async {
                match figures == *account {
                    true => Ok(()),
                    false => database.set_account_figures(&figures).await,
                }
            },
            async {
                match self.stored.month.as_ref() == Some(&new_month) {
                    true => Ok(()),
                    false => database.set_month(month, &new_month).await,
                }
            },
        )?;
        let before = self.stored.day.as_ref();
        if before.cloned().unwrap_or_default() == self.day {
            return Ok(true);
        }
        database
            .replace_day(&account.s3uid, self.date, before, &self.day)
            .await
    }
}

/// How many buckets the latest hour shows that can tell. A bucket that was gone at the hour's end has no count of objects.
fn buckets(samples: &[&Sample]) -> Option<u64> {
    let latest = samples
        .iter()
        .filter(|sample| sample.stored_bytes.is_some())
        .map(|sample| sample.hour)
        .max()?;
    let there = samples
        .iter()
        .filter(|sample| sample.hour == latest && sample.objects.is_some());
    Some(there.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).expect("time")
    }

    fn bucket(s3uid: &str, name: &str, stored_bytes: u64) -> (String, Bucket) {
        let bucket = Bucket {
            name: name.into(),
            created_at: at(0),
            stored_bytes,
            objects: 1,
            noncurrent_bytes: 0,
            multipart_bytes: 0,
        };
        (s3uid.into(), bucket)
    }

    fn moved(s3uid: &str, bucket_name: &str, hour: i64, bytes_sent: u64) -> TrafficHour {
        TrafficHour {
            s3uid: s3uid.into(),
            bucket_name: bucket_name.into(),
            hour: at(hour),
            bytes_sent,
            bytes_received: 0,
            requests: 1,
        }
    }

    /// Account, bucket, stored bytes, bytes sent.
    type Row<'a> = (&'a str, &'a str, Option<u64>, u64);

    fn rows<'a>(samples: &'a [Sample]) -> Vec<Row<'a>> {
        let row = |sample: &'a Sample| {
            (
                sample.s3uid.as_str(),
                sample.bucket_name.as_str(),
                sample.stored_bytes,
                sample.bytes_sent,
            )
        };
        samples.iter().map(row).collect()
    }

    #[test]
    fn every_account_has_a_row_and_every_bucket_that_was_there_or_moved_something() {
        let buckets = vec![
            bucket("a", "y", 5),
            bucket("a", "x", 7),
            bucket("stranger", "z", 9),
        ];
        let traffic = vec![
            moved("a", "x", 3, 10),
            moved("a", "gone", 3, 20),
            moved("a", "x", 4, 99),
        ];
        let samples = samples(at(3), &["b", "a"], Some(buckets), traffic);
        let expected: [Row<'_>; 4] = [
            ("b", "", Some(0), 0),
            ("a", "gone", Some(0), 20),
            ("a", "x", Some(7), 10),
            ("a", "y", Some(5), 0),
        ];
        assert_eq!(rows(&samples), expected);
        let of_a: Vec<&Sample> = samples
            .iter()
            .filter(|sample| sample.s3uid == "a")
            .collect();
        assert_eq!(super::buckets(&of_a), Some(2));
    }

    #[test]
    fn an_hour_collected_late_tells_traffic_only() {
        let samples = samples(at(3), &["a", "b"], None, vec![moved("a", "x", 3, 10)]);
        assert_eq!(rows(&samples), [("a", "x", None, 10), ("b", "", None, 0)]);
        assert_eq!(super::buckets(&samples.iter().collect::<Vec<_>>()), None);
    }
}
