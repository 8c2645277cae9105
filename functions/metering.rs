//! Accounts' usage: from their cluster, from their segments, and as computed from their days.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};
use wharfage::cluster::{Bucket, ClusterError};
use wharfage::context::Context;
use wharfage::database::MonthUsage;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::figures::gb;
use wharfage::domain::period::{date_of, hour_of, start_of};
use wharfage::domain::usage::{Day, Sample, TrafficHour, Usage, days_of_traffic};
use wharfage::error::{Error, Fault};
use wharfage::segments::shard_of;

use crate::buckets::bucket_row;

/// What was found.
pub(crate) struct LiveUsage {
    /// The account with its new figures.
    pub account: Account,
    /// Its buckets, by name.
    pub buckets: Vec<Bucket>,
}

/// Why nothing was found.
pub(crate) enum LiveUsageError {
    Cluster(ClusterError),
    Fault(Fault),
}

impl From<ClusterError> for LiveUsageError {
    fn from(error: ClusterError) -> LiveUsageError {
        LiveUsageError::Cluster(error)
    }
}

impl From<Fault> for LiveUsageError {
    fn from(fault: Fault) -> LiveUsageError {
        LiveUsageError::Fault(fault)
    }
}

impl From<LiveUsageError> for Error {
    fn from(error: LiveUsageError) -> Error {
        match error {
            LiveUsageError::Cluster(error) => error.into(),
            LiveUsageError::Fault(fault) => fault.into(),
        }
    }
}

/// How far back a live look asks the cluster for traffic: what is older has been collected.
const LIVE_HOURS: i64 = 48;

/// Asks the cluster for an account's buckets and its latest traffic, and sets the account's figures and its bucket names. Hours that
/// were collected count as collected; what the cluster says of the others is added for the look only, and collected in its turn.
pub(crate) async fn read_live_usage(
    context: &Context,
    account: &Account,
) -> Result<LiveUsage, LiveUsageError> {
    let now = context.now();
    let today = date_of(now);
    let period_from = account.service.period_start(today);
    let cluster = context.clusters.of(&account.location)?;
    let (provider, counts_traffic) = (&cluster.provider, cluster.capabilities().traffic);
    let next_hour = hour_of(now) + SignedDuration::from_hours(1);
    let live_from = start_of(period_from).max(next_hour - SignedDuration::from_hours(LIVE_HOURS));
    let s3uids = [&account.s3uid];
    let (seen, known) = futures::join!(
        async {
            futures::try_join!(provider.buckets(&account.s3uid), async {
                match counts_traffic {
                    true => provider.traffic(&s3uids, live_from, next_hour).await,
                    false => Ok(Vec::new()),
                }
            },)
        },
        async {
            futures::try_join!(
                context.database.days(&account.s3uid, period_from, today),
                context.database.stored_before(&account.s3uid, period_from),
                context.database.account_buckets(&account.s3uid),
            )
        }
    );
    let ((buckets, traffic), (mut days, stored_before_bytes, known_buckets)) = (seen?, known?);
    let stored_bytes: u64 = buckets.iter().map(|bucket| bucket.stored_bytes).sum();
    let is_collected = |moved: &TrafficHour| {
        let day = days.get(&date_of(moved.hour));
        day.is_some_and(|day| day.has_moved_in(moved.hour))
    };
    let live = traffic.into_iter().filter(|moved| !is_collected(moved));
    let shard = shard_of(account.id, context.rules.usage_shard_accounts);
    let live = context
        .database
        .without_own_calls(&account.location, shard, live.collect())
        .await?;
    for (date, live) in days_of_traffic(&live) {
        days.entry(date).or_default().moved.extend(live);
    }
    let period = Usage::of(stored_before_bytes, &days, period_from, now);
    // What an earlier look saw between two samples was stored all the same.
    let seen_before_bytes = if account.period_from == period_from {
        account.period_peak_stored_bytes
    } else {
        0
    };
    let account = Account {
        buckets: buckets.len() as u64,
        stored_bytes,
        period_from,
        period_bytes_sent: period.bytes_sent,
        period_peak_stored_bytes: period
            .peak_stored_bytes
            .max(stored_bytes)
            .max(seen_before_bytes),
        ..account.clone()
    };
    let new_names = buckets
        .iter()
        .filter(|bucket| {
            known_buckets
                .iter()
                .all(|row| row.bucket_name != bucket.name)
        })
        .map(|bucket| bucket_row(&account, &bucket.name));
    let old_names = known_buckets
        .iter()
        .filter(|row| buckets.iter().all(|bucket| bucket.name != row.bucket_name));
    futures::try_join!(
        futures::future::try_join_all(
            new_names.map(|row| async move { context.database.take_bucket_name(&row).await })
        ),
        futures::future::try_join_all(
            old_names.map(|row| context.database.give_bucket_name_back(row))
        ),
        context.database.set_account_figures(&account),
    )?;
    Ok(LiveUsage { account, buckets })
}

/// What the world is told of an account whose quota level is another by now.
pub(crate) fn quota_event(context: &Context, account: &Account) -> Event {
    let detail = json!({
        "level": account.quota_told,
        "stored_bytes": account.stored_bytes,
        "quota_bytes": account.quota_bytes(),
        "plan_id": account.plan_id,
    });
    context.account_event(
        Kind::QuotaThreshold,
        account.client_id,
        &account.s3uid,
        detail,
    )
}

/// What the world is told of an account whose period has no traffic left.
pub(crate) fn traffic_event(context: &Context, account: &Account, limit_bytes: u64) -> Event {
    let detail = json!({
        "bytes_sent": account.period_bytes_sent,
        "limit_bytes": limit_bytes,
        "period_from": account.period_from,
        "plan_id": account.plan_id,
    });
    context.account_event(
        Kind::TrafficLimitReached,
        account.client_id,
        &account.s3uid,
        detail,
    )
}

/// The figures of an account's running period, with their digits: they are kept with answers that are asked for later.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Metering {
    /// Traffic sent, in GB of 2^30 bytes.
    total_traffic_period_gb: Number,
    /// Peak storage, in GB.
    total_storage_peak_gb: Number,
}

impl From<&Account> for Metering {
    fn from(account: &Account) -> Metering {
        // A quotient of two whole numbers is finite.
        let number = |gb: f64| Number::from_f64(gb).unwrap_or_else(|| 0.into());
        Metering {
            total_traffic_period_gb: number(gb(account.period_bytes_sent)),
            total_storage_peak_gb: number(gb(account.period_peak_stored_bytes)),
        }
    }
}

/// An account's days from a day on, and what was stored before them.
pub(crate) struct Metered {
    /// The first day.
    pub from: Date,
    /// What was stored before it, where that matters.
    pub before_bytes: u64,
    /// The days that say something.
    pub days: BTreeMap<Date, Day>,
}

impl Metered {
    /// The days as they are stored.
    pub(crate) async fn read(
        context: &Context,
        account: &Account,
        from: Date,
        to: Date,
    ) -> Result<Metered, Fault> {
        let database = &context.database;
        let days = database.days(&account.s3uid, from, to).await?;
        let first = days.get(&from).and_then(|day| day.stored.first());
        // Where the first hour is told, it does not matter what was before; nor is there anything before an account's own first day.
        let is_told = first.is_some_and(|stored| stored.hour == 0);
        let before_bytes = match is_told || from <= date_of(account.created_at) {
            true => 0,
            false => database.stored_before(&account.s3uid, from).await?,
        };
        Ok(Metered {
            from,
            before_bytes,
            days,
        })
    }

    /// What was used from 00:00 of a day, which is not before the first, until an instant.
    pub(crate) fn usage(&self, from: Date, until: Timestamp) -> Usage {
        let carried = Usage::of(self.before_bytes, &self.days, self.from, start_of(from));
        Usage::of(carried.stored_bytes, &self.days, from, until)
    }

    /// What was used in a part of the period that begins on `from`: from one whole hour until another.
    pub(crate) fn part(&self, from: Date, since: Timestamp, until: Timestamp) -> Usage {
        let carried = Usage::of(self.before_bytes, &self.days, self.from, start_of(from));
        Usage::part(carried.stored_bytes, &self.days, from, since, until)
    }

    /// The account with its figures now. The days reach back to the start of its running period.
    pub(crate) fn figures(
        &self,
        account: &Account,
        buckets: Option<u64>,
        now: Timestamp,
    ) -> Account {
        let period_from = account.service.period_start(date_of(now));
        let of_period = self.usage(period_from, now);
        Account {
            buckets: buckets.unwrap_or(account.buckets),
            stored_bytes: of_period.stored_bytes,
            period_from,
            period_bytes_sent: of_period.bytes_sent,
            period_peak_stored_bytes: of_period.peak_stored_bytes,
            ..account.clone()
        }
    }

    /// The account's totals for the calendar month that begins on `month`. The days reach back to there.
    pub(crate) fn month(&self, account: &Account, month: Date, now: Timestamp) -> MonthUsage {
        let next_month = start_of(month.saturating_add(1.month()));
        let of_month = self.usage(month, next_month.min(now));
        MonthUsage::new(
            &account.s3uid,
            account.id,
            account.listed_group().as_ref(),
            month,
            (of_month.bytes_sent, of_month.peak_stored_bytes),
        )
    }
}

/// The accounts of a segment, in its order.
pub(crate) fn names(segment: &[Sample]) -> Vec<&S3Uid> {
    let mut seen = HashSet::new();
    let names = segment.iter().map(|sample| &sample.s3uid);
    names.filter(|s3uid| seen.insert(*s3uid)).collect()
}

/// How many buckets an account had in the latest of these hours that can tell. A bucket that was gone at the hour's end has no count of
/// objects.
pub(crate) fn buckets<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Option<u64> {
    let mut latest: Option<(Timestamp, u64)> = None;
    for sample in samples.into_iter().filter(|s| s.stored_bytes.is_some()) {
        let (hour, count) = latest.get_or_insert((sample.hour, 0));
        if sample.hour > *hour {
            (*hour, *count) = (sample.hour, 0);
        }
        if sample.hour == *hour {
            *count += u64::from(sample.objects.is_some());
        }
    }
    latest.map(|(_, count)| count)
}

/// What the segments of a shard tell of its accounts.
#[derive(Default)]
pub(crate) struct SegmentTotals {
    /// Days that have a sample, by account.
    pub days: HashMap<S3Uid, BTreeMap<Date, Day>>,
    /// Buckets in the last hour that can tell, with its day, by account.
    pub buckets: HashMap<S3Uid, (Date, u64)>,
}

/// What the segments of a shard tell of the days `[from, to)` of the accounts that `is_wanted`. A day of segments is in memory at a time.
///
/// # Errors
/// When S3 cannot answer.
pub(crate) async fn read_segments(
    context: &Context,
    location: &str,
    shard: u64,
    is_wanted: impl Fn(&S3Uid) -> bool,
    from: Date,
    to: Date,
) -> Result<SegmentTotals, Fault> {
    let mut totals = SegmentTotals::default();
    let mut date = from;
    while date < to {
        let next = date.saturating_add(1.day());
        let segments = context
            .segments
            .range(location, shard, start_of(date), start_of(next))
            .await?;
        let mut samples: HashMap<&S3Uid, Vec<&Sample>> = HashMap::new();
        for sample in segments.iter().flat_map(|segment| segment.iter()) {
            if is_wanted(&sample.s3uid) {
                samples.entry(&sample.s3uid).or_default().push(sample);
            }
        }
        for (s3uid, samples) in samples {
            if let Some(count) = buckets(samples.iter().copied()) {
                totals.buckets.insert(s3uid.clone(), (date, count));
            }
            let days = totals.days.entry(s3uid.clone()).or_default();
            days.insert(date, Day::from_samples(samples));
        }
        date = next;
    }
    Ok(totals)
}

/// What accounts of a shard had stored before a day, by the last hour that tells, as far back as their first. Accounts that nothing is
/// told of are absent. One segment answers for all that were there in the hour before; more are read only for the others.
///
/// # Errors
/// When S3 cannot answer.
pub(crate) async fn told_before(
    context: &Context,
    location: &str,
    shard: u64,
    accounts: &[&Account],
    date: Date,
) -> Result<HashMap<S3Uid, u64>, Fault> {
    let mut until = start_of(date);
    let mut unknown: HashMap<&S3Uid, Timestamp> = accounts
        .iter()
        .map(|account| (&account.s3uid, hour_of(account.created_at)))
        .collect();
    let mut before = HashMap::new();
    let mut hours = 1;
    loop {
        unknown.retain(|_, created_at| *created_at < until);
        let Some(first) = unknown.values().min() else {
            return Ok(before);
        };
        let from = (until - SignedDuration::from_hours(hours)).max(*first);
        let segments = context.segments.range(location, shard, from, until).await?;
        for segment in segments.iter().rev() {
            let mut stored: HashMap<&S3Uid, u64> = HashMap::new();
            for sample in segment.iter() {
                if let Some(bytes) = sample.stored_bytes
                    && unknown.contains_key(&sample.s3uid)
                {
                    *stored.entry(&sample.s3uid).or_default() += bytes;
                }
            }
            for (s3uid, bytes) in stored {
                unknown.remove(s3uid);
                before.insert(s3uid.clone(), bytes);
            }
        }
        until = from;
        hours = 24;
    }
}
