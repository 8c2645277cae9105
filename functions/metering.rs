//! One account's usage, as its cluster counts it.

use jiff::SignedDuration;
use serde_json::{Value, json};
use wharfage::cluster::{Bucket, ClusterError};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::figures::gb;
use wharfage::domain::period::{date_of, hour_of, start_of};
use wharfage::domain::usage::{Totals, by_day};
use wharfage::error::{Error, Fault};

use crate::provisioning::bucket_row;

/// What was found.
pub(crate) struct Collected {
    /// The account with its new figures.
    pub account: Account,
    /// Its buckets, by name.
    pub buckets: Vec<Bucket>,
}

/// Why nothing was found.
pub(crate) enum CollectError {
    Cluster(ClusterError),
    Fault(Fault),
}

impl From<ClusterError> for CollectError {
    fn from(error: ClusterError) -> CollectError {
        CollectError::Cluster(error)
    }
}

impl From<Fault> for CollectError {
    fn from(fault: Fault) -> CollectError {
        CollectError::Fault(fault)
    }
}

impl From<CollectError> for Error {
    fn from(error: CollectError) -> Error {
        match error {
            CollectError::Cluster(error) => error.into(),
            CollectError::Fault(fault) => fault.into(),
        }
    }
}

/// Asks the cluster for an account's buckets and its traffic in the running period, and sets what the database says of them: the days
/// that changed, the account's figures, its bucket names. Everything is set, nothing is added to, so repeating it changes nothing.
pub(crate) async fn collect(
    context: &Context,
    account: &Account,
) -> Result<Collected, CollectError> {
    let now = context.now();
    let today = date_of(now);
    let period_from = account.service.period_start(today);
    let provider = &context.clusters.of(&account.location)?.provider;
    let next_hour = hour_of(now) + SignedDuration::from_hours(1);
    let s3uids = [account.s3uid.as_str()];
    let (seen, known) = futures::join!(
        async {
            futures::try_join!(
                provider.buckets(&account.s3uid),
                provider.traffic(&s3uids, start_of(period_from), next_hour),
            )
        },
        async {
            futures::try_join!(
                context.database.days(&account.s3uid, period_from, today),
                context.database.account_buckets(&account.s3uid),
            )
        }
    );
    let ((buckets, traffic), (known_days, known_buckets)) = (seen?, known?);
    let stored_bytes = buckets.iter().map(|bucket| bucket.stored_bytes).sum();

    let mut days = by_day(&traffic);
    days.entry(today).or_default().peak_stored_bytes = stored_bytes;
    let mut period = Totals::default();
    let mut changed = Vec::new();
    for (date, totals) in &mut days {
        let known = known_days.get(date);
        totals.peak_stored_bytes = totals
            .peak_stored_bytes
            .max(known.map_or(0, |known| known.peak_stored_bytes));
        if known != Some(totals) {
            changed.push((*date, totals.clone()));
        }
    }
    // A cluster may have forgotten what was collected from it before.
    for (date, totals) in &known_days {
        days.entry(*date).or_insert_with(|| totals.clone());
    }
    days.values().for_each(|totals| period.absorb(totals));

    let account = Account {
        buckets: buckets.len() as u64,
        stored_bytes,
        period_from,
        period_bytes_sent: period.bytes_sent,
        period_peak_stored_bytes: period.peak_stored_bytes,
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
            changed
                .iter()
                .map(|(date, totals)| context.database.set_day(&account.s3uid, *date, totals)),
        ),
        futures::future::try_join_all(
            new_names.map(|row| async move { context.database.take_bucket_name(&row).await })
        ),
        futures::future::try_join_all(
            old_names.map(|row| context.database.give_bucket_name_back(row))
        ),
        context.database.set_account_figures(&account),
    )?;
    Ok(Collected { account, buckets })
}

/// The running period's figures as the wire shows them.
pub(crate) fn metering(account: &Account) -> Value {
    json!({
        "total_traffic_period_gb": gb(account.period_bytes_sent),
        "total_storage_peak_gb": gb(account.period_peak_stored_bytes),
    })
}
