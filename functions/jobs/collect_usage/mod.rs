//! Starts the collection of every hour that has ended, shard by shard, and backfills missed hours.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use wharfage::context::Context;
use wharfage::database::{Collection, HourUnderWay};
use wharfage::domain::account::AccountId;
use wharfage::domain::period::hour_of;
use wharfage::error::Fault;
use wharfage::segments::{SegmentKey, shard_of};
use wharfage::telemetry::{self, Figure};

crate::job!("collect_usage");

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Hours of a location sent in one run; the next run goes on.
const HOURS_AT_MOST: usize = 24;

async fn run(context: &Context) -> Result<Value, Fault> {
    let shards = match context.database.last_account_id().await? {
        AccountId(0) => 0,
        last => shard_of(last, context.rules.usage_shard_accounts) + 1,
    };
    let locations: Vec<&str> = context
        .clusters
        .iter()
        .map(|cluster| cluster.location.code.as_str())
        .collect();
    let runs = join_all(
        locations
            .iter()
            .map(|location| collect(context, location, shards)),
    )
    .await;
    let mut report = Map::new();
    let mut failed = None;
    for (location, run) in locations.into_iter().zip(runs) {
        match run {
            Ok(sent) => {
                report.insert(location.to_owned(), sent);
            }
            Err(fault) => {
                // One location that fails must not keep the others waiting.
                if fault.retryable {
                    tracing::warn!(location, error = %fault, "usage is asked for by the next run");
                } else {
                    tracing::error!(location, error = %fault, "usage could not be asked for");
                }
                failed = Some(fault);
            }
        }
    }
    failed.map_or(Ok(Value::Object(report)), Err)
}

/// Asks for what is missing of a location's hours.
async fn collect(context: &Context, location: &str, shards: u64) -> Result<Value, Fault> {
    let database = &context.database;
    let running = hour_of(context.now());
    let Collection {
        complete_until: begin,
        hours,
    } = database.begin_collection(location, running - HOUR).await?;
    // Where nobody is, there is nothing to ask for, and no hour to keep a record of.
    if hours.is_empty() && begin == running - HOUR && !database.is_anybody_metered(location).await?
    {
        database.pass_hours(location, begin, running).await?;
        return Ok(json!({ "sent": 0, "complete_until": running }));
    }
    let mut under_way: BTreeMap<Timestamp, HourUnderWay> =
        hours.into_iter().map(|hour| (hour.hour, hour)).collect();
    let mut sent = 0u64;
    for hour in due(begin, running) {
        let record = match under_way.get(&hour) {
            Some(record) => record.clone(),
            None => {
                let record = HourUnderWay {
                    hour,
                    shards,
                    done: Default::default(),
                };
                database.begin_hour(location, &record).await?;
                under_way.insert(hour, record.clone());
                record
            }
        };
        let missing: Vec<SegmentKey> = record
            .missing()
            .map(|shard| SegmentKey {
                location: location.to_owned(),
                hour,
                shard,
            })
            .collect();
        context.queue.send_segments(&missing).await?;
        sent += missing.len() as u64;
    }
    telemetry::add(Figure::MissedHours, hours_between(begin, running - HOUR));
    // Whoever collected the last shard of an hour may have died before saying so.
    let seen = Collection {
        complete_until: begin,
        hours: under_way.into_values().collect(),
    };
    let complete_until = database.settle_hours(location, Some(seen)).await?;
    let lag = hours_between(complete_until.unwrap_or(begin), running);
    telemetry::raise(Figure::MeteringLagHours, lag);
    Ok(json!({ "sent": sent, "complete_until": complete_until }))
}

fn hours_between(from: Timestamp, until: Timestamp) -> u64 {
    u64::try_from(until.duration_since(from).as_hours()).unwrap_or(0)
}

/// The hours to ask for. The one that has just ended comes first, since only now its stored bytes can be told; then the oldest, so that
/// the time until which all is complete moves on.
fn due(begin: Timestamp, running: Timestamp) -> Vec<Timestamp> {
    let latest = running - HOUR;
    let mut hours = Vec::new();
    if latest >= begin {
        hours.push(latest);
    }
    let mut hour = begin;
    while hour < latest && hours.len() < HOURS_AT_MOST {
        hours.push(hour);
        hour += HOUR;
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).expect("time")
    }

    #[test]
    fn the_latest_hour_comes_first_and_a_long_backlog_in_parts() {
        assert_eq!(due(at(10), at(10)), []);
        assert_eq!(due(at(10), at(11)), [at(10)]);
        assert_eq!(due(at(10), at(13)), [at(12), at(10), at(11)]);
        let long = due(at(10), at(1_000));
        assert_eq!(
            (long.len(), long[0], long[1]),
            (HOURS_AT_MOST, at(999), at(10))
        );
    }
}
