//! `get_usage`: an account's usage by hours, days or usage periods.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::figures::gb;
use wharfage::domain::period::{anniversary, date_of, start_of};
use wharfage::domain::usage::Usage;
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{ByteHours, Day, Second};

crate::action! {
    /// Returns an account's usage by hour, day or usage period.
    "get_usage" of Everybody, about Account
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// What the range is divided into.
    #[schemars(extend("default" = "days"))]
    by: Option<Interval>,
    /// The first day of the range; by default the first day of the current usage period.
    period_from: Option<Day>,
    /// The last day of the range; by default today.
    period_to: Option<Day>,
}

/// What a range is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Interval {
    /// Its hours: a range of at most 31 days.
    Hours,
    /// Its days: at most 366.
    Days,
    /// The usage periods that it touches: at most 1,100 days.
    Periods,
}

impl Interval {
    /// The longest range: an answer has at most so many days, whatever the account's age.
    fn most_days(self) -> i32 {
        match self {
            Interval::Hours => 31,
            Interval::Days => 366,
            Interval::Periods => 1_100,
        }
    }
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// What the range is divided into.
    by: Interval,
    /// The parts of the range.
    usage: Vec<UsageRow>,
}

/// A part of the range. What nobody counts is null.
#[derive(Debug, Serialize, JsonSchema)]
struct UsageRow {
    /// Its start.
    from: Second,
    /// Its end, which is not part of it.
    to: Second,
    /// The hours of it that have begun.
    hours: u32,
    /// Storage.
    stored_byte_hours: ByteHours,
    /// Storage at its end, in bytes.
    stored_bytes: u64,
    /// Peak storage, in bytes.
    peak_stored_bytes: u64,
    /// Traffic sent, in bytes.
    bytes_sent: Option<u64>,
    /// Traffic received, in bytes.
    bytes_received: Option<u64>,
    /// The number of requests.
    requests: Option<u64>,
    /// Traffic sent, in GB of 2^30 bytes.
    traffic: Option<f64>,
    /// Peak storage, in GB.
    total_storage_peak_gb: f64,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let account = call.about;
    let by = call.parameters.by.unwrap_or(Interval::Days);
    let most_days = by.most_days();
    let day = |day: Option<Day>| day.map(|Day(date)| date);
    let (period_from, period_to) = (
        day(call.parameters.period_from),
        day(call.parameters.period_to),
    );
    let answered = |usage| Answered {
        s3uid: account.s3uid.clone(),
        by,
        usage,
    };
    let now = context.now();
    let to = period_to.unwrap_or_else(|| date_of(now)).min(date_of(now));
    let earliest = to.saturating_sub((most_days - 1).days());
    let from = period_from
        .unwrap_or_else(|| account.service.period_start(to).max(earliest))
        .max(account.service.ordered_on);
    if from > to {
        return Ok(answered(Vec::new()));
    }
    if from < earliest {
        return Err(Rejection::invalid(
            "period_from",
            &format!("must be at most {most_days} days before period_to"),
        )
        .into());
    }
    let (days, stored_before_bytes) = futures::try_join!(
        context.database.days(&account.s3uid, from, to),
        context.database.stored_before(&account.s3uid, from),
    )?;
    let end = start_of(to.saturating_add(1.day())).min(now);
    let counts_traffic = context
        .clusters
        .get(&account.location)
        .is_none_or(|cluster| cluster.capabilities().traffic);
    let mut rows: Vec<UsageRow> = Vec::new();
    let mut stored_bytes = stored_before_bytes;
    for (part_from, part_to) in parts(by, account.service.ordered_on, from, to) {
        if by == Interval::Hours {
            let mut day = Usage::default();
            for hour in 0..24 {
                let start = part_from + jiff::SignedDuration::from_hours(hour);
                // An hour that has begun counts, as in a day.
                if start >= end {
                    break;
                }
                let until = start + jiff::SignedDuration::from_hours(1);
                let so_far = Usage::of(stored_bytes, &days, date_of(part_from), until);
                let usage = difference(&so_far, &day);
                rows.push(UsageRow::new(start, until, &usage, counts_traffic));
                day = so_far;
            }
            stored_bytes = day.stored_bytes;
        } else {
            let usage = Usage::of(stored_bytes, &days, date_of(part_from), part_to.min(end));
            stored_bytes = usage.stored_bytes;
            rows.push(UsageRow::new(
                part_from,
                part_to.min(end),
                &usage,
                counts_traffic,
            ));
        }
    }
    Ok(answered(rows))
}

/// The parts of a range of days, both included: its days, or the usage periods that it touches.
fn parts(by: Interval, ordered_on: Date, from: Date, to: Date) -> Vec<(Timestamp, Timestamp)> {
    let mut parts = Vec::new();
    let mut start = from;
    let mut months = 0;
    while start <= to {
        let next = if by == Interval::Periods {
            loop {
                months += 1;
                let next = anniversary(ordered_on, months);
                if next > start || next == Date::MAX {
                    break next.min(to.saturating_add(1.day()));
                }
            }
        } else {
            start.saturating_add(1.day())
        };
        parts.push((start_of(start), start_of(next)));
        start = next;
    }
    parts
}

/// What the last hour of a day added to the hours before it.
fn difference(so_far: &Usage, before: &Usage) -> Usage {
    Usage {
        hours: so_far.hours - before.hours,
        stored_byte_hours: so_far.stored_byte_hours - before.stored_byte_hours,
        peak_stored_bytes: so_far.stored_bytes,
        stored_bytes: so_far.stored_bytes,
        bytes_sent: so_far.bytes_sent - before.bytes_sent,
        bytes_received: so_far.bytes_received - before.bytes_received,
        requests: so_far.requests - before.requests,
    }
}

impl UsageRow {
    fn new(from: Timestamp, to: Timestamp, usage: &Usage, counts_traffic: bool) -> UsageRow {
        let moved = |figure: u64| counts_traffic.then_some(figure);
        UsageRow {
            from: Second(from),
            to: Second(to),
            hours: usage.hours,
            stored_byte_hours: ByteHours(usage.stored_byte_hours),
            stored_bytes: usage.stored_bytes,
            peak_stored_bytes: usage.peak_stored_bytes,
            bytes_sent: moved(usage.bytes_sent),
            bytes_received: moved(usage.bytes_received),
            requests: moved(usage.requests),
            traffic: moved(usage.bytes_sent).map(gb),
            total_storage_peak_gb: gb(usage.peak_stored_bytes),
        }
    }
}
