//! Usage: what a cluster counted, hour by hour, and what it adds up to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::period::date_of;

/// What a cluster counted for one bucket in one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficHour {
    /// Whose bucket.
    pub s3uid: String,
    /// Which bucket.
    pub bucket_name: String,
    /// The start of the hour, UTC.
    pub hour: Timestamp,
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// Bytes of requests.
    pub bytes_received: u64,
    /// Requests answered.
    pub requests: u64,
}

/// An account's totals for a day, UTC. Set absolutely, so collecting twice changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// Bytes of requests.
    pub bytes_received: u64,
    /// Requests answered.
    pub requests: u64,
    /// The most that was seen stored at a collection.
    pub peak_stored_bytes: u64,
}

impl Totals {
    /// These and those: traffic adds up, peaks do not.
    pub fn absorb(&mut self, other: &Totals) {
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.requests += other.requests;
        self.peak_stored_bytes = self.peak_stored_bytes.max(other.peak_stored_bytes);
    }
}

/// Traffic hours of one account as totals per day.
#[must_use]
pub fn by_day(hours: &[TrafficHour]) -> BTreeMap<Date, Totals> {
    let mut days: BTreeMap<Date, Totals> = BTreeMap::new();
    for hour in hours {
        days.entry(date_of(hour.hour)).or_default().absorb(&Totals {
            bytes_sent: hour.bytes_sent,
            bytes_received: hour.bytes_received,
            requests: hour.requests,
            peak_stored_bytes: 0,
        });
    }
    days
}
