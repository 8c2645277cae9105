//! The days of a shard's accounts, made from its segments, and what is made from the days: figures and months.
//!
//! - A day is made from all segments of the day there are, and replaces the one that was read *before* the segments were. So of several
//!   runs at once the last to write its segment sees all of them, and no other can undo what it set.
//! - An account's figures are made from all of its days, so they are made again when another day was set on the way.
//! - The day is written after everything that is made from it: as long as it is missing, all of that is made again.
//! - Whose traffic reaches what its plan includes, where more is not for sale, is told of it once a period: by an event that is written with a
//!   note of the period.
//! - Who crosses a threshold of the quota is told of it by an event that is written with the level it tells, if the level told before is
//!   still the one that was read.

use std::collections::{HashMap, HashSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::civil::Date;
use wharfage::context::Context;
use wharfage::database::AccountUsage;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::period::date_of;
use wharfage::domain::plan::PlanId;
use wharfage::domain::usage::{Day, Sample};
use wharfage::error::Fault;
use wharfage::tries::Tries;

use crate::allowance::opened_anew;
use crate::metering::{Metered, buckets, quota_event};
use crate::suspension::{TrafficLimit, traffic_used_up};

/// Accounts written at once.
const ACCOUNTS_AT_ONCE: usize = 16;
/// How often the days are made again that another run of the same shard has set meanwhile.
const TRIES: usize = 4;

/// Who is told when an account crosses a threshold of its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuotaEvents {
    /// Whoever listens to events.
    Emit,
    /// Nobody: while totals are made again an account passes through figures that it never had.
    Suppress,
}

/// Sets a day of these accounts of a shard, with what is made from it, where that changes.
pub(crate) async fn set_days(
    context: &Context,
    location: &str,
    shard: u64,
    date: Date,
    mut s3uids: Vec<&S3Uid>,
    quota_events: QuotaEvents,
) -> Result<(), Fault> {
    if s3uids.is_empty() {
        return Ok(());
    }
    let mut is_first = true;
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            Fault::retryable(
                "setting days",
                "other hours of the shard keep changing them",
            )
        })?;
        // Read before the segments: see above.
        let mut stored = context.database.usage_on(&s3uids, date).await?;
        let segments = context
            .segments
            .day(location, shard, date, context.now())
            .await?;
        let mut samples: HashMap<&S3Uid, Vec<&Sample>> = HashMap::new();
        for sample in segments.iter().flat_map(|segment| segment.iter()) {
            samples.entry(&sample.s3uid).or_default().push(sample);
        }
        let mut changed: Vec<(&S3Uid, Change<'_>)> = Vec::new();
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
        let names: Vec<&S3Uid> = changed.iter().map(|(s3uid, _)| *s3uid).collect();
        let accounts = context.database.accounts(&names).await?;
        let sending = changed.iter().filter(|(_, change)| change.has_sent());
        let sending = sending.filter_map(|(s3uid, _)| accounts.get(*s3uid));
        let limits = match quota_events {
            QuotaEvents::Emit => traffic_limits(context, sending).await?,
            QuotaEvents::Suppress => HashMap::new(),
        };
        let writes: Vec<_> = changed
            .into_iter()
            .map(|(s3uid, change)| {
                let account = accounts.get(s3uid);
                let limit = account.and_then(|account| limits.get(&sold(account)).copied());
                async move {
                    let is_set = match account {
                        Some(account) => {
                            change.write(context, account, quota_events, limit).await?
                        }
                        None => true,
                    };
                    Ok::<_, Fault>((!is_set).then_some(s3uid))
                }
            })
            .collect();
        let outrun: Vec<Option<&S3Uid>> = stream::iter(writes)
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
}

/// What an account is sold.
fn sold(account: &Account) -> (PlanId, u32) {
    (account.plan_id, account.plan_version)
}

/// What may be sent in a period where more is not for sale, by what accounts are sold.
async fn traffic_limits(
    context: &Context,
    accounts: impl Iterator<Item = &Account>,
) -> Result<HashMap<(PlanId, u32), TrafficLimit>, Fault> {
    let sold: HashSet<(PlanId, u32)> = accounts.map(sold).collect();
    let mut limits = HashMap::new();
    for (plan_id, version) in sold {
        let plan = context.database.plan_version(plan_id, version).await?;
        let limit = plan.and_then(|plan| {
            let plan_bytes = plan.traffic_limit_bytes()?;
            Some(TrafficLimit {
                plan_bytes,
                left_bytes: plan_bytes,
                stops: plan.stop_at_bandwidth_limit,
            })
        });
        if let Some(limit) = limit {
            limits.insert((plan_id, version), limit);
        }
    }
    Ok(limits)
}

/// What is left to an account of the traffic of its running period: all of it, unless it took the place of one that has used some.
async fn limit_left(
    context: &Context,
    figures: &Account,
    metered: &Metered,
    limit_bytes: u64,
    now: Timestamp,
) -> Result<u64, Fault> {
    let from = figures.period_from;
    if from != figures.service.ordered_on {
        return Ok(limit_bytes);
    }
    let later = |since| metered.part(from, since, now);
    let opened_anew = opened_anew(context, figures, now, later).await?;
    Ok(opened_anew.map_or(limit_bytes, |opened_anew| {
        opened_anew.traffic_left(limit_bytes)
    }))
}

/// An account's day as it is to be.
struct Change<'a> {
    date: Date,
    day: Day,
    stored: AccountUsage,
    samples: Vec<&'a Sample>,
}

impl Change<'_> {
    /// Sets the account's figures and its month, and then the day; `false` when somebody else has set a day meanwhile, or told of the
    /// account's quota.
    async fn write(
        self,
        context: &Context,
        account: &Account,
        quota_events: QuotaEvents,
        limit: Option<TrafficLimit>,
    ) -> Result<bool, Fault> {
        let database = &context.database;
        let now = context.now();
        let today = date_of(now);
        let month = self.date.first_of_month();
        if self.is_as_before(account, today) {
            let written = database
                .replace_day(&account.s3uid, self.date, None, &self.day)
                .await?;
            return Ok(written.is_yes());
        }
        let from = month.min(account.service.period_start(today));
        let mut metered = Metered::read(context, account, from, today).await?;
        let is_latest = metered
            .days
            .range(self.date..)
            .all(|(date, _)| *date == self.date);
        metered.days.insert(self.date, self.day.clone());
        let buckets = buckets(self.samples.iter().copied()).filter(|_| is_latest);
        let figures = metered.figures(account, buckets, now);
        let new_month = metered.month(account, month, now);
        if let Some(limit) = limit
            && account.is_visible()
            && let left_bytes =
                limit_left(context, &figures, &metered, limit.plan_bytes, now).await?
            && figures.period_bytes_sent >= left_bytes
        {
            let limit = TrafficLimit {
                left_bytes,
                ..limit
            };
            traffic_used_up(context, &figures, limit).await?;
        }
        let told = match quota_events {
            QuotaEvents::Emit if account.is_visible() => account
                .quota_told
                .next(figures.stored_bytes, account.quota_bytes()),
            _ => None,
        };
        let (is_told, ()) = futures::try_join!(
            async {
                match told {
                    Some(quota_told) => {
                        let after = Account {
                            quota_told,
                            ..figures
                        };
                        let event = quota_event(context, &after);
                        let told = database.tell_quota_level(account, &after, &event);
                        told.await.map(|written| written.is_yes())
                    }
                    None if figures == *account => Ok(true),
                    None => database.set_account_figures(&figures).await.map(|()| true),
                }
            },
            async {
                match self.stored.month.as_ref() == Some(&new_month) {
                    true => Ok(()),
                    false => database.set_month(month, &new_month).await,
                }
            },
        )?;
        if !is_told {
            return Ok(false);
        }
        let before = self.stored.day.as_ref();
        let is_set = before.cloned().unwrap_or_default() == self.day
            || database
                .replace_day(&account.s3uid, self.date, before, &self.day)
                .await?
                .is_yes();
        if !is_set {
            return Ok(false);
        }
        // The figures are made from other days too: whoever sets a day last sees all of them.
        let mut days_after = database.days(&account.s3uid, from, today).await?;
        days_after.insert(self.date, self.day);
        Ok(days_after == metered.days)
    }

    fn has_sent(&self) -> bool {
        self.day.moved.iter().any(|moved| moved.bytes_sent > 0)
    }

    /// Whether this is the first hour told of today and nothing has moved in it, nor changed before: then the account's figures and its
    /// month are right without its days being read.
    fn is_as_before(&self, account: &Account, today: Date) -> bool {
        let (Some(month), None) = (&self.stored.month, &self.stored.day) else {
            return false;
        };
        let bytes = account.stored_bytes;
        // Of a day in the past a later one may be known, and carry something else.
        self.date == today
            && self.day.moved.is_empty()
            && self.day.stored.iter().all(|stored| stored.bytes == bytes)
            && account.period_from == account.service.period_start(today)
            && account.period_peak_stored_bytes >= bytes
            && month.peak_stored_bytes >= bytes
            && month.stands_in(account.listed_group().as_ref(), self.date)
            && buckets(self.samples.iter().copied()).is_none_or(|count| count == account.buckets)
    }
}
