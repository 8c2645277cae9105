//! `get_usage`: an account's usage by hours, days or usage periods.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::figures::gb;
use wharfage::domain::period::{anniversary, date_of, start_of};
use wharfage::domain::usage::Usage;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, account_name, caller_and_account, token};

crate::s3_action!("get_usage", takes [ACCOUNT, &["by", "period_from", "period_to"]]);

/// The longest range, by what it is divided into: an answer has at most so many days, whatever the account's age.
const MOST_DAYS: [(&str, i32); 3] = [("hours", 31), ("days", 366), ("periods", 1_100)];

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let parameters = &call.parameters;
    let by = parameters.text(&["by"])?.unwrap_or_else(|| "days".into());
    let (_, most_days) = MOST_DAYS
        .into_iter()
        .find(|(name, _)| *name == by)
        .ok_or_else(|| Rejection::invalid("by", "must be hours, days or periods"))?;
    let period_from = parameters.date("period_from")?;
    let period_to = parameters.date("period_to")?;
    let (_, account) = caller_and_account(context, call).await?;
    let now = context.now();
    let to = period_to.unwrap_or_else(|| date_of(now)).min(date_of(now));
    let earliest = to.saturating_sub((most_days - 1).days());
    let from = period_from
        .unwrap_or_else(|| account.service.period_start(to).max(earliest))
        .max(account.service.ordered_on);
    if from > to {
        return Ok(Answer::ok(
            json!({ "s3uid": account.s3uid, "by": by, "usage": [] }),
        ));
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
    let mut rows: Vec<Value> = Vec::new();
    let mut stored_bytes = stored_before_bytes;
    for (part_from, part_to) in parts(&by, account.service.ordered_on, from, to) {
        if by == "hours" {
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
                rows.push(row(start, until, &usage, counts_traffic));
                day = so_far;
            }
            stored_bytes = day.stored_bytes;
        } else {
            let usage = Usage::of(stored_bytes, &days, date_of(part_from), part_to.min(end));
            stored_bytes = usage.stored_bytes;
            rows.push(row(part_from, part_to.min(end), &usage, counts_traffic));
        }
    }
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, "by": by, "usage": rows }),
    ))
}

/// The parts of a range of days, both included: its days, or the usage periods that it touches.
fn parts(by: &str, ordered_on: Date, from: Date, to: Date) -> Vec<(Timestamp, Timestamp)> {
    let mut parts = Vec::new();
    let mut start = from;
    let mut months = 0;
    while start <= to {
        let next = if by == "periods" {
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

/// A part of the range. What nobody counts is null.
fn row(from: Timestamp, to: Timestamp, usage: &Usage, counts_traffic: bool) -> Value {
    let moved = |figure: u64| counts_traffic.then_some(figure);
    json!({
        "from": format!("{from:.0}"),
        "to": format!("{to:.0}"),
        "hours": usage.hours,
        "stored_byte_hours": usage.stored_byte_hours.to_string(),
        "stored_bytes": usage.stored_bytes,
        "peak_stored_bytes": usage.peak_stored_bytes,
        "bytes_sent": moved(usage.bytes_sent),
        "bytes_received": moved(usage.bytes_received),
        "requests": moved(usage.requests),
        "traffic": moved(usage.bytes_sent).map(gb),
        "total_storage_peak_gb": gb(usage.peak_stored_bytes),
    })
}
