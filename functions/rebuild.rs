//! Totals recomputed from the segments: days, months and the accounts' figures.
//!
//! Safe to run beside the collection, and twice: the code that collects an hour writes the days. Afterwards everything is checked again,
//! until nothing differs.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::ToSpan;
use jiff::civil::Date;
use wharfage::context::Context;
use wharfage::database::MonthUsage;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::period::date_of;
use wharfage::domain::usage::Day;
use wharfage::error::Fault;
use wharfage::segments::shard_of;

use crate::days::{QuotaEvents, set_days};
use crate::differences::{Difference, differences};
use crate::metering::{Metered, SegmentTotals, read_segments};

/// Accounts looked at, or written, at once.
const ACCOUNTS_AT_ONCE: usize = 16;
/// How often what differs is set and looked at again: an hour that is collected meanwhile may change it.
const TRIES: usize = 4;

/// Whose totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// One account's.
    Account(S3Uid),
    /// Those of a shard of a location's accounts.
    Shard {
        /// The location.
        location: String,
        /// The block of account numbers.
        shard: u64,
    },
    /// Those of all accounts of a location.
    Location(String),
}

/// An account whose totals are not what the segments make them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The account.
    pub s3uid: S3Uid,
    /// What differs, or did.
    pub differences: Vec<Difference>,
}

/// What a rebuild looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Accounts looked at.
    pub accounts: u64,
    /// Those whose totals differed.
    pub differing: u64,
}

/// Why nothing, or not everything, was made again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no such account or location.
    #[error("{0}")]
    NotThere(String),
    /// Something outside cannot answer, or what is stored cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Makes the totals of the days from `from` to `to`, both included, of their months, and the accounts' figures, and sets those that
/// differ; with `is_dry`, only tells. One shard is in memory at a time.
///
/// Figures that `update_traffic_info` took from the cluster beside the segments differ, too: they become what the collection makes them.
///
/// # Errors
/// See [`RebuildError`].
pub async fn rebuild(
    context: &Context,
    whose: &Whose,
    (from, to): (Date, Date),
    is_dry: bool,
    mut tell: impl FnMut(Mended),
) -> Result<Rebuilt, RebuildError> {
    let to = to.min(date_of(context.now()));
    let size = context.rules.usage_shard_accounts;
    let (location, shards, only) = match whose {
        Whose::Account(s3uid) => {
            let account = context.database.account(s3uid).await?;
            let account = account
                .ok_or_else(|| RebuildError::NotThere(format!("there is no account {s3uid}")))?;
            let shard = shard_of(account.id, size);
            (account.location, shard..=shard, Some(s3uid))
        }
        Whose::Shard { location, shard } => (location.clone(), *shard..=*shard, None),
        Whose::Location(location) => {
            let last = shard_of(context.database.last_account_id().await?, size);
            (location.clone(), 0..=last, None)
        }
    };
    if context.clusters.of(&location).is_err() {
        let text = format!("there is no location {location}");
        return Err(RebuildError::NotThere(text));
    }
    let mut rebuilt = Rebuilt::default();
    for shard in shards {
        let shard = Shard {
            context,
            location: &location,
            shard,
            from,
            to,
        };
        let mut s3uids = only.map(|s3uid| BTreeSet::from([s3uid.to_owned()]));
        for round in 0.. {
            let (count, wrong) = shard.compare(s3uids.as_ref()).await?;
            if round == 0 {
                rebuilt.accounts += count;
                rebuilt.differing += wrong.len() as u64;
                for wrong in &wrong {
                    tell(Mended {
                        s3uid: wrong.account.s3uid.clone(),
                        differences: wrong.differences.clone(),
                    });
                }
            }
            if is_dry || wrong.is_empty() {
                break;
            }
            if round == TRIES {
                let fault =
                    Fault::retryable("rebuilding totals", "the collection keeps changing them");
                return Err(fault.into());
            }
            shard.set(&wrong).await?;
            s3uids = Some(wrong.into_iter().map(|wrong| wrong.account.s3uid).collect());
        }
    }
    Ok(rebuilt)
}

/// A shard, and the days of it that are made again.
struct Shard<'a> {
    context: &'a Context,
    location: &'a str,
    shard: u64,
    from: Date,
    to: Date,
}

/// An account with totals that are not what they should be, and what they should be.
struct Wrong {
    account: Account,
    days: Vec<Date>,
    figures: Option<Account>,
    months: Vec<(Date, MonthUsage)>,
    differences: Vec<Difference>,
}

impl Shard<'_> {
    /// How many accounts there are, and those that differ: of all accounts that are metered or that the segments name, or of some.
    async fn compare(&self, only: Option<&BTreeSet<S3Uid>>) -> Result<(u64, Vec<Wrong>), Fault> {
        let Shard {
            context,
            location,
            shard,
            from,
            to,
        } = *self;
        let is_wanted = |s3uid: &S3Uid| only.is_none_or(|only| only.contains(s3uid));
        let after = to.saturating_add(1.day());
        let totals = read_segments(context, location, shard, is_wanted, from, after).await?;
        let s3uids: BTreeSet<S3Uid> = match only {
            Some(only) => only.clone(),
            None => {
                let size = context.rules.usage_shard_accounts;
                let first = shard.saturating_mul(size);
                let last = first.saturating_add(size - 1);
                let metered = context
                    .database
                    .metered_accounts(location, first, last)
                    .await?;
                let metered = metered.into_iter().map(|account| account.s3uid);
                totals.days.keys().cloned().chain(metered).collect()
            }
        };
        let s3uids: Vec<&S3Uid> = s3uids.iter().collect();
        let accounts = context.database.accounts(&s3uids).await?;
        let count = accounts.len() as u64;
        let accounts: BTreeMap<S3Uid, Account> = accounts.into_iter().collect();
        let looks: Vec<_> = accounts
            .into_values()
            .map(|account| self.compare_account(account, &totals))
            .collect();
        let wrong: Vec<Option<Wrong>> = stream::iter(looks)
            .buffered(ACCOUNTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok((count, wrong.into_iter().flatten().collect()))
    }

    /// Compares what is stored of an account with what the segments tell of it.
    async fn compare_account(
        &self,
        account: Account,
        totals: &SegmentTotals,
    ) -> Result<Option<Wrong>, Fault> {
        let database = &self.context.database;
        let now = self.context.now();
        let today = date_of(now);
        let month = self.from.first_of_month();
        let from = month.min(account.service.period_start(today));
        let (mut metered, stored_months) = futures::try_join!(
            Metered::read(self.context, &account, from, today),
            database.months(&account.s3uid, self.from, self.to),
        )?;
        let nothing = BTreeMap::new();
        let made_days = totals.days.get(&account.s3uid).unwrap_or(&nothing);
        let mut found = Vec::new();
        let mut days = Vec::new();
        let mut date = self.from;
        while date <= self.to {
            let stored = metered.days.remove(&date).unwrap_or_default();
            let made = made_days.get(&date).cloned().unwrap_or_default();
            if stored != made {
                found.extend(differences(&format!("day {date}"), &stored, &made));
                days.push(date);
            }
            if made != Day::default() {
                metered.days.insert(date, made);
            }
            date = date.saturating_add(1.day());
        }
        let mut months = Vec::new();
        let mut month = month;
        while month <= self.to {
            let next = month.saturating_add(1.month());
            let is_in = |date: &Date| (month..next).contains(date);
            // A month is there from its first sample on.
            let is_told = made_days.keys().chain(metered.days.keys()).any(is_in);
            let stored = stored_months.get(&month);
            if is_told || stored.is_some() {
                let made = metered.month(&account, month, now);
                if stored != Some(&made) {
                    let of = format!("month {}", month.strftime("%Y-%m"));
                    found.extend(differences(&of, &stored, &Some(&made)));
                    months.push((month, made));
                }
            }
            month = next;
        }
        // Who has ended has no figures any more.
        let figures = account.is_visible().then(|| {
            let buckets = totals.buckets.get(&account.s3uid);
            let buckets = buckets.and_then(|(date, count)| {
                let is_latest = metered.days.range(date..).all(|(later, _)| later == date);
                is_latest.then_some(*count)
            });
            metered.figures(&account, buckets, now)
        });
        let figures = figures.filter(|figures| *figures != account);
        if let Some(figures) = &figures {
            let stored = figures_of(&account);
            found.extend(differences("figures", &stored, &figures_of(figures)));
        }
        Ok((!found.is_empty()).then_some(Wrong {
            account,
            days,
            figures,
            months,
            differences: found,
        }))
    }

    /// Sets what differs: the days with all that follows from them, and where the days are right, what should have followed.
    async fn set(&self, wrong: &[Wrong]) -> Result<(), Fault> {
        let database = &self.context.database;
        let mut by_date: BTreeMap<Date, Vec<&S3Uid>> = BTreeMap::new();
        for wrong in wrong {
            for date in &wrong.days {
                by_date.entry(*date).or_default().push(&wrong.account.s3uid);
            }
        }
        for (date, s3uids) in by_date {
            let (location, shard) = (self.location, self.shard);
            set_days(
                self.context,
                location,
                shard,
                date,
                s3uids,
                QuotaEvents::Suppress,
            )
            .await?;
        }
        let others = wrong.iter().filter(|wrong| wrong.days.is_empty());
        let writes: Vec<_> = others
            .map(|wrong| async move {
                for (month, made) in &wrong.months {
                    database.set_month(*month, made).await?;
                }
                match &wrong.figures {
                    Some(figures) => database.set_account_figures(figures).await,
                    None => Ok(()),
                }
            })
            .collect();
        stream::iter(writes)
            .buffer_unordered(ACCOUNTS_AT_ONCE)
            .try_collect()
            .await
    }
}

/// The part of an account that is made from its days.
fn figures_of(account: &Account) -> serde_json::Value {
    serde_json::json!({
        "buckets": account.buckets,
        "stored_bytes": account.stored_bytes,
        "period_from": account.period_from,
        "period_bytes_sent": account.period_bytes_sent,
        "period_peak_stored_bytes": account.period_peak_stored_bytes,
    })
}
