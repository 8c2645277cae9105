//! Collects one hour of a shard of accounts: into a segment, and from the segments of the day into the accounts' days, figures and months.
//!
//! Messages come twice, late and in any order, and a run can end anywhere. What makes that harmless:
//! - The segment is written once; whoever comes later works with what it says.
//! - Days, and what is made from them, are set as `days.rs` says.
//! - An hour like the one before it changes no day: an account that was the same and moved nothing is not even looked up. What the hour
//!   before had to say of it is the business of that hour's own run, which is not over before it is set.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use wharfage::cluster::Bucket;
use wharfage::context::Context;
use wharfage::database::MeteredAccount;
use wharfage::domain::account::{AccountId, S3Uid};
use wharfage::domain::bucket_name::BucketName;
use wharfage::domain::client::ClientId;
use wharfage::domain::period::{date_of, hour_of};
use wharfage::domain::usage::{Sample, TrafficHour};
use wharfage::error::Fault;
use wharfage::segments::SegmentKey;
use wharfage::telemetry;

use crate::days::{QuotaEvents, set_days};
use crate::metering::names;

crate::worker!("usage_shards");

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn handle(context: &Context, body: &str) -> Result<(), Fault> {
    let key: SegmentKey =
        serde_json::from_str(body).map_err(|e| Fault::permanent("reading a queue message", e))?;
    telemetry::set_shard(&key.location, key.hour, key.shard);
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
        let date = date_of(key.hour);
        let names = names_with_news(context, &key, &segment).await?;
        set_days(
            context,
            &key.location,
            key.shard,
            date,
            names,
            QuotaEvents::Emit,
        )
        .await?;
    }
    let hour = context
        .database
        .shard_collected(&key.location, key.hour, key.shard)
        .await?;
    if hour.is_some_and(|hour| hour.is_complete()) {
        context.database.settle_hours(&key.location, None).await?;
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
        let provider = &context.clusters.of(&key.location)?.provider;
        let complete_until = context.database.collected_until(&key.location).await?;
        let is_over = |until: Timestamp| {
            complete_until.is_some_and(|complete| complete >= hour_of(until) + HOUR)
        };
        for account in accounts
            .iter()
            .filter(|account| account.metered_until.is_some_and(is_over))
        {
            // All of it lies in segments by now, and clusters keep what they counted until they are told not to.
            match provider.forget_traffic(&account.s3uid).await {
                Ok(()) => context.database.stop_metering(&account.s3uid).await?,
                // The next hour tries again.
                Err(error) => {
                    tracing::warn!(s3uid = %account.s3uid, %error, "traffic could not be forgotten");
                }
            }
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
    let cluster = context.clusters.of(&key.location)?;
    let (provider, counts_traffic) = (&cluster.provider, cluster.capabilities().traffic);
    let s3uids: Vec<&S3Uid> = accounts.iter().map(|account| &account.s3uid).collect();
    let is_in_time = now < key.hour + HOUR + HOUR;
    let (buckets, traffic) = futures::try_join!(
        async {
            match is_in_time {
                true => provider.buckets_of(&s3uids).await.map(Some),
                false => Ok(None),
            }
        },
        async {
            match counts_traffic {
                true => provider
                    .traffic(&s3uids, key.hour, key.hour + HOUR)
                    .await
                    .map(Some),
                false => Ok(None),
            }
        },
    )
    .map_err(|error| error.into_fault("collecting usage"))?;
    let has_moved = |moved: &TrafficHour| moved.requests > 0;
    let own = match traffic.iter().flatten().any(has_moved) {
        true => {
            let database = &context.database;
            database
                .own_calls(&key.location, key.shard, key.hour)
                .await?
        }
        // What the cluster did not count need not be told apart.
        false => HashMap::new(),
    };
    let numbers: HashMap<&S3Uid, AccountId> = accounts
        .iter()
        .map(|account| (&account.s3uid, account.id))
        .collect();
    let clients = clients(context, key, &s3uids).await?;
    let mut samples = samples(key.hour, &s3uids, buckets, traffic);
    for sample in &mut samples {
        sample.account_id = numbers.get(&sample.s3uid).copied();
        sample.client_id = clients.get(&sample.s3uid).copied();
        let of = (sample.s3uid.clone(), sample.bucket_name.clone());
        sample.own = own.get(&of).copied();
    }
    // However late it is: an account that ended in the hour had nothing stored at its end.
    let ended: HashSet<&S3Uid> = accounts
        .iter()
        .filter(|account| {
            account
                .metered_until
                .is_some_and(|until| until < key.hour + HOUR)
        })
        .map(|account| &account.s3uid)
        .collect();
    for sample in samples
        .iter_mut()
        .filter(|sample| ended.contains(&sample.s3uid))
    {
        sample.stored_bytes = Some(0);
    }
    context.segments.put(key, samples, now).await
}

/// Whose the accounts are. That never changes: the hour before tells of most of them, and only those that it does not know are read.
async fn clients(
    context: &Context,
    key: &SegmentKey,
    s3uids: &[&S3Uid],
) -> Result<HashMap<S3Uid, ClientId>, Fault> {
    let before = context.segments.get(&hour_before(key)).await?;
    let mut clients: HashMap<S3Uid, ClientId> = before
        .iter()
        .flat_map(|segment| segment.iter())
        .filter_map(|sample| Some((sample.s3uid.clone(), sample.client_id?)))
        .collect();
    let unknown: Vec<&S3Uid> = s3uids
        .iter()
        .copied()
        .filter(|s3uid| !clients.contains_key(*s3uid))
        .collect();
    if !unknown.is_empty() {
        let accounts = context.database.accounts(&unknown).await?;
        clients.extend(
            accounts
                .into_iter()
                .map(|(s3uid, account)| (s3uid, account.client_id)),
        );
    }
    Ok(clients)
}

fn hour_before(key: &SegmentKey) -> SegmentKey {
    SegmentKey {
        hour: key.hour - HOUR,
        ..key.clone()
    }
}

/// The rows of a segment: by account in the given order, and by bucket. Without `buckets`, nobody can tell any more what was stored;
/// without `traffic`, what moved.
fn samples(
    hour: Timestamp,
    s3uids: &[&S3Uid],
    buckets: Option<Vec<(S3Uid, Bucket)>>,
    traffic: Option<Vec<TrafficHour>>,
) -> Vec<Sample> {
    let is_in_time = buckets.is_some();
    let nothing_moved = traffic.is_some().then_some(0);
    let mut rows: HashMap<S3Uid, BTreeMap<BucketName, Sample>> = HashMap::new();
    let empty = |s3uid: &S3Uid, bucket_name: &str| Sample {
        s3uid: s3uid.clone(),
        bucket_name: bucket_name.to_owned(),
        hour,
        stored_bytes: is_in_time.then_some(0),
        objects: None,
        noncurrent_bytes: None,
        multipart_bytes: None,
        bytes_sent: nothing_moved,
        bytes_received: nothing_moved,
        requests: nothing_moved,
        ..Sample::default()
    };
    for (s3uid, bucket) in buckets.into_iter().flatten() {
        let sample = Sample {
            stored_bytes: Some(bucket.stored_bytes),
            objects: Some(bucket.objects),
            noncurrent_bytes: bucket.noncurrent_bytes,
            multipart_bytes: bucket.multipart_bytes,
            ..empty(&s3uid, &bucket.name)
        };
        rows.entry(s3uid).or_default().insert(bucket.name, sample);
    }
    let traffic = traffic.into_iter().flatten();
    for moved in traffic.filter(|moved| moved.hour == hour) {
        let sample = rows
            .entry(moved.s3uid.clone())
            .or_default()
            .entry(moved.bucket_name.clone())
            .or_insert_with(|| empty(&moved.s3uid, &moved.bucket_name));
        for (figure, more) in [
            (&mut sample.bytes_sent, moved.bytes_sent),
            (&mut sample.bytes_received, moved.bytes_received),
            (&mut sample.requests, moved.requests),
        ] {
            *figure = Some(figure.unwrap_or(0) + more);
        }
        if let Some(classes) = moved.classes {
            sample.classes = Some(sample.classes.unwrap_or_default().and(classes));
        }
    }
    s3uids
        .iter()
        .flat_map(|s3uid| match rows.remove(*s3uid) {
            Some(rows) => rows.into_values().collect(),
            None => vec![empty(s3uid, "")],
        })
        .collect()
}

/// The accounts of a segment whose day it may change: in the first hour of a day, all; later, those that are not as they were in the
/// hour before.
async fn names_with_news<'a>(
    context: &Context,
    key: &SegmentKey,
    segment: &'a [Sample],
) -> Result<Vec<&'a S3Uid>, Fault> {
    let mut names = names(segment);
    let before = hour_before(key);
    if date_of(before.hour) == date_of(key.hour)
        && let Some(segment_before) = context.segments.get(&before).await?
    {
        let (hours, hours_before) = (hours(segment), hours(&segment_before));
        names.retain(|s3uid| match (hours.get(s3uid), hours_before.get(s3uid)) {
            (Some(hour), Some(hour_before)) => !hour.adds_nothing_after(*hour_before),
            _ => true,
        });
    }
    Ok(names)
}

/// An account's hour, in all of its buckets, as its day knows it.
#[derive(Clone, Copy, Default)]
struct AccountHour {
    /// None when nobody could tell.
    stored_bytes: Option<u64>,
    has_moved: bool,
}

impl AccountHour {
    fn adds_nothing_after(self, before: AccountHour) -> bool {
        !self.has_moved && (self.stored_bytes.is_none() || self.stored_bytes == before.stored_bytes)
    }
}

/// The accounts of a segment.
fn hours(segment: &[Sample]) -> HashMap<&S3Uid, AccountHour> {
    let mut hours: HashMap<&S3Uid, AccountHour> = HashMap::new();
    for sample in segment {
        let hour = hours.entry(&sample.s3uid).or_default();
        if let Some(bytes) = sample.stored_bytes {
            *hour.stored_bytes.get_or_insert(0) += bytes;
        }
        let moved = sample.moved();
        hour.has_moved |= moved.bytes_sent + moved.bytes_received + moved.requests > 0;
    }
    hours
}

#[cfg(test)]
mod tests {
    use wharfage::domain::usage::Day;

    use super::*;
    use crate::metering;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).expect("time")
    }

    fn uid(s3uid: &str) -> S3Uid {
        S3Uid(s3uid.into())
    }

    fn bucket(s3uid: &str, name: &str, stored_bytes: u64) -> (S3Uid, Bucket) {
        let bucket = Bucket {
            name: name.into(),
            created_at: at(0),
            stored_bytes,
            objects: 1,
            noncurrent_bytes: Some(0),
            multipart_bytes: Some(0),
        };
        (uid(s3uid), bucket)
    }

    fn moved(s3uid: &str, bucket_name: &str, hour: i64, bytes_sent: u64) -> TrafficHour {
        TrafficHour {
            s3uid: uid(s3uid),
            bucket_name: bucket_name.into(),
            hour: at(hour),
            bytes_sent,
            bytes_received: 0,
            requests: 1,
            classes: None,
        }
    }

    /// Account, bucket, stored bytes, bytes sent.
    type Row<'a> = (&'a str, &'a str, Option<u64>, Option<u64>);

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
        let samples = samples(at(3), &[&uid("b"), &uid("a")], Some(buckets), Some(traffic));
        let expected: [Row<'_>; 4] = [
            ("b", "", Some(0), Some(0)),
            ("a", "gone", Some(0), Some(20)),
            ("a", "x", Some(7), Some(10)),
            ("a", "y", Some(5), Some(0)),
        ];
        assert_eq!(rows(&samples), expected);
        let of_a: Vec<&Sample> = samples
            .iter()
            .filter(|sample| sample.s3uid.as_str() == "a")
            .collect();
        assert_eq!(metering::buckets(of_a), Some(2));
    }

    #[test]
    fn an_hour_collected_late_tells_traffic_only() {
        let traffic = vec![moved("a", "x", 3, 10)];
        let samples = samples(at(3), &[&uid("a"), &uid("b")], None, Some(traffic));
        let expected = [("a", "x", None, Some(10)), ("b", "", None, Some(0))];
        assert_eq!(rows(&samples), expected);
        assert_eq!(metering::buckets(&samples), None);
    }

    #[test]
    fn where_traffic_is_not_counted_it_is_unknown_rather_than_none() {
        let in_time = samples(
            at(3),
            &[&uid("a"), &uid("b")],
            Some(vec![bucket("a", "x", 7)]),
            None,
        );
        let expected = [("a", "x", Some(7), None), ("b", "", Some(0), None)];
        assert_eq!(rows(&in_time), expected);
        let late = samples(at(3), &[&uid("a")], None, None);
        assert_eq!(rows(&late), [("a", "", None, None)]);
    }

    #[test]
    fn an_hour_that_adds_nothing_after_the_one_before_changes_no_day_whatever_follows() {
        let told = [None, Some(0), Some(5)];
        let one_of = |state: usize, hour: i64| Sample {
            stored_bytes: told[state % 3],
            requests: Some(u64::from(state >= 3)),
            ..samples(at(hour), &[&uid("a")], None, None).remove(0)
        };
        let mut left_out = 0;
        for states in 0..6_usize.pow(4) {
            let day: Vec<Sample> = (0..4)
                .map(|hour| one_of(states / 6_usize.pow(hour) % 6, i64::from(hour)))
                .collect();
            for hour in 1..4 {
                let before = hours(&day[hour - 1..hour])[&uid("a")];
                if !hours(&day[hour..=hour])[&uid("a")].adds_nothing_after(before) {
                    continue;
                }
                left_out += 1;
                let others = day.iter().filter(|sample| sample.hour != at(hour as i64));
                assert_eq!(
                    Day::from_samples(others),
                    Day::from_samples(&day),
                    "{day:?}"
                );
            }
        }
        assert!(left_out > 1_000, "{left_out}");
    }
}
