//! One account's usage, as its cluster counts it.

use jiff::SignedDuration;
use serde_json::{Value, json};
use wharfage::cluster::{Bucket, ClusterError};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::figures::gb;
use wharfage::domain::period::{date_of, hour_of, start_of};
use wharfage::domain::usage::{Usage, days_of_traffic};
use wharfage::error::{Error, Fault};

use crate::provisioning::bucket_row;

/// What was found.
pub(crate) struct Seen {
    /// The account with its new figures.
    pub account: Account,
    /// Its buckets, by name.
    pub buckets: Vec<Bucket>,
}

/// Why nothing was found.
pub(crate) enum LookError {
    Cluster(ClusterError),
    Fault(Fault),
}

impl From<ClusterError> for LookError {
    fn from(error: ClusterError) -> LookError {
        LookError::Cluster(error)
    }
}

impl From<Fault> for LookError {
    fn from(fault: Fault) -> LookError {
        LookError::Fault(fault)
    }
}

impl From<LookError> for Error {
    fn from(error: LookError) -> Error {
        match error {
            LookError::Cluster(error) => error.into(),
            LookError::Fault(fault) => fault.into(),
        }
    }
}

/// How far back a live look asks the cluster for traffic: what is older has been collected.
const LIVE_HOURS: i64 = 48;

/// Asks the cluster for an account's buckets and its latest traffic, and sets the account's figures and its bucket names. Hours that
/// were collected count as collected; what the cluster says of the others is added for the look only, and collected in its turn.
pub(crate) async fn look(context: &Context, account: &Account) -> Result<Seen, LookError> {
    let now = context.now();
    let today = date_of(now);
    let period_from = account.service.period_start(today);
    let provider = &context.clusters.of(&account.location)?.provider;
    let next_hour = hour_of(now) + SignedDuration::from_hours(1);
    let live_from = start_of(period_from).max(next_hour - SignedDuration::from_hours(LIVE_HOURS));
    let s3uids = [account.s3uid.as_str()];
    let (seen, known) = futures::join!(
        async {
            futures::try_join!(
                provider.buckets(&account.s3uid),
                provider.traffic(&s3uids, live_from, next_hour),
            )
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
    for (date, live) in days_of_traffic(&traffic) {
        let day = days.entry(date).or_default();
        for moved in live {
            if day
                .moved
                .iter()
                .all(|collected| collected.hour != moved.hour)
            {
                day.moved.push(moved);
            }
        }
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
    Ok(Seen { account, buckets })
}

/// The running period's figures as the wire shows them.
pub(crate) fn metering(account: &Account) -> Value {
    json!({
        "total_traffic_period_gb": gb(account.period_bytes_sent),
        "total_storage_peak_gb": gb(account.period_peak_stored_bytes),
    })
}
