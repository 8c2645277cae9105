//! Usage: what a cluster reported hour by hour, and what it adds up to.
//!
//! A *sample* is what was reported for a bucket in an hour. Samples are kept for ever in immutable segments; everything else here is
//! computed from them and can be computed again. A *day* of an account is made from that day's samples alone. A *period* is made from
//! its days, carrying the stored bytes over hours and days that have no sample: a missing hour means the same bytes, and no traffic.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::domain::account::{AccountId, S3Uid};
use crate::domain::bucket_name::BucketName;
use crate::domain::client::ClientId;
use crate::domain::period::{date_of, start_of};

/// Requests by what they did, where a cluster tells them apart. Together they are all requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestClasses {
    /// Read an object, or looked at it.
    pub get: u64,
    /// Wrote an object or a part of one.
    pub put: u64,
    /// Listed objects, uploads or buckets.
    pub list: u64,
    /// Removed objects, or gave an upload up.
    pub delete: u64,
    /// Everything else, such as making buckets and setting them up.
    pub other: u64,
}

/// One of [`RequestClasses`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestClass {
    /// See [`RequestClasses::get`].
    Get,
    /// See [`RequestClasses::put`].
    Put,
    /// See [`RequestClasses::list`].
    List,
    /// See [`RequestClasses::delete`].
    Delete,
    /// See [`RequestClasses::other`].
    Other,
}

impl RequestClasses {
    /// Counts requests of a class.
    pub fn add(&mut self, class: RequestClass, requests: u64) {
        *match class {
            RequestClass::Get => &mut self.get,
            RequestClass::Put => &mut self.put,
            RequestClass::List => &mut self.list,
            RequestClass::Delete => &mut self.delete,
            RequestClass::Other => &mut self.other,
        } += requests;
    }

    /// Both together.
    #[must_use]
    pub fn and(self, more: RequestClasses) -> RequestClasses {
        RequestClasses {
            get: self.get + more.get,
            put: self.put + more.put,
            list: self.list + more.list,
            delete: self.delete + more.delete,
            other: self.other + more.other,
        }
    }
}

/// What Wharfage itself called in a bucket with its account's keys, to list and search files: no traffic of the client's, though the
/// cluster counts it as such.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCalls {
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// Requests answered.
    pub requests: u64,
}

/// What a cluster counted for one bucket in one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficHour {
    /// Whose bucket.
    pub s3uid: S3Uid,
    /// Which bucket.
    pub bucket_name: BucketName,
    /// The start of the hour, UTC.
    pub hour: Timestamp,
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// Bytes of requests.
    pub bytes_received: u64,
    /// Requests answered.
    pub requests: u64,
    /// The same by class; none where the cluster does not tell them apart.
    #[serde(default)]
    pub classes: Option<RequestClasses>,
}

impl TrafficHour {
    /// The same without what Wharfage called itself. What the cluster did not count in this hour of this bucket is taken from nothing else:
    /// nobody's traffic falls below zero, and nobody's calls make other traffic free.
    #[must_use]
    pub fn without(self, own: OwnCalls) -> TrafficHour {
        TrafficHour {
            bytes_sent: self.bytes_sent.saturating_sub(own.bytes_sent),
            requests: self.requests.saturating_sub(own.requests),
            ..self
        }
    }
}

/// What was reported for one bucket in one hour: a row of a segment. An account without buckets has a row with no bucket name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Whose bucket.
    pub s3uid: S3Uid,
    /// The account's number; none in old segments.
    pub account_id: Option<AccountId>,
    /// The client that has the account; none in old segments.
    pub client_id: Option<ClientId>,
    /// Which bucket; empty for an account that has none.
    pub bucket_name: String,
    /// The start of the hour, UTC.
    pub hour: Timestamp,
    /// All bytes stored at the end of the hour, old versions and unfinished uploads included; none when the hour was collected too late
    /// to tell.
    pub stored_bytes: Option<u64>,
    /// Current objects.
    pub objects: Option<u64>,
    /// Of the bytes, those of old versions.
    pub noncurrent_bytes: Option<u64>,
    /// Of the bytes, those of unfinished multipart uploads.
    pub multipart_bytes: Option<u64>,
    /// Bytes of answers; none, like the two below, when the cluster counts no traffic.
    pub bytes_sent: Option<u64>,
    /// Bytes of requests.
    pub bytes_received: Option<u64>,
    /// Requests answered.
    pub requests: Option<u64>,
    /// The same by class; none where the cluster does not tell them apart, and in old segments.
    pub classes: Option<RequestClasses>,
    /// Of bytes and requests, those of Wharfage's own calls; none where it made none, and in old segments.
    pub own: Option<OwnCalls>,
    /// Whether a counter of the cluster was seen to go backwards.
    pub is_reset: bool,
}

impl Sample {
    /// What the client moved: what the cluster counted without Wharfage's own calls.
    #[must_use]
    pub fn moved(&self) -> Moved {
        let own = self.own.unwrap_or_default();
        let counted = |figure: Option<u64>| figure.unwrap_or(0);
        Moved {
            hour: hour_of_day(self.hour),
            bytes_sent: counted(self.bytes_sent).saturating_sub(own.bytes_sent),
            bytes_received: counted(self.bytes_received),
            requests: counted(self.requests).saturating_sub(own.requests),
        }
    }
}

/// What was stored from an hour of a day on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// 0 to 23, UTC.
    pub hour: u8,
    /// In all of the account's buckets.
    pub bytes: u64,
}

/// What moved in an hour of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// 0 to 23, UTC.
    pub hour: u8,
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// Bytes of requests.
    pub bytes_received: u64,
    /// Requests answered.
    pub requests: u64,
}

/// A day of an account, UTC: what its samples of that day say. Set absolutely, so that collecting twice changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Stored bytes, at the first hour that tells and wherever they change.
    #[serde(default)]
    pub stored: Vec<Stored>,
    /// Traffic, in the hours that are known to have had any.
    #[serde(default)]
    pub moved: Vec<Moved>,
}

impl Day {
    /// Whether traffic is known of an hour, which is one of this day.
    #[must_use]
    pub fn has_moved_in(&self, hour: Timestamp) -> bool {
        let hour = hour_of_day(hour);
        self.moved.iter().any(|moved| moved.hour == hour)
    }

    /// A day of one account from its samples of that day, in any order. An hour's samples are those of one segment, so none stands twice.
    #[must_use]
    pub fn from_samples<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Day {
        let mut stored: BTreeMap<u8, u64> = BTreeMap::new();
        let mut moved: BTreeMap<u8, Moved> = BTreeMap::new();
        for sample in samples {
            let hour = hour_of_day(sample.hour);
            if let Some(bytes) = sample.stored_bytes {
                *stored.entry(hour).or_default() += bytes;
            }
            let more = sample.moved();
            let moved = moved.entry(hour).or_insert(Moved {
                hour,
                bytes_sent: 0,
                bytes_received: 0,
                requests: 0,
            });
            moved.bytes_sent += more.bytes_sent;
            moved.bytes_received += more.bytes_received;
            moved.requests += more.requests;
        }
        let mut changes: Vec<Stored> = Vec::new();
        for (hour, bytes) in stored {
            if changes.last().is_none_or(|last| last.bytes != bytes) {
                changes.push(Stored { hour, bytes });
            }
        }
        Day {
            stored: changes,
            moved: moved
                .into_values()
                .filter(|moved| moved.bytes_sent + moved.bytes_received + moved.requests > 0)
                .collect(),
        }
    }
}

fn hour_of_day(hour: Timestamp) -> u8 {
    u8::try_from(hour.to_zoned(TimeZone::UTC).hour()).unwrap_or(0)
}

/// What an account used from one instant to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The length, in hours.
    pub hours: u32,
    /// Stored bytes, summed up hour by hour.
    #[serde(with = "crate::domain::figures::text")]
    pub stored_byte_hours: u128,
    /// The most that was stored at any hour.
    pub peak_stored_bytes: u64,
    /// What was stored in the last hour.
    pub stored_bytes: u64,
    /// Bytes of answers.
    pub bytes_sent: u64,
    /// Bytes of requests.
    pub bytes_received: u64,
    /// Requests answered.
    pub requests: u64,
}

impl Usage {
    /// What an account used from 00:00 of `from` until `until`, given its days and what it had stored before them.
    #[must_use]
    pub fn of(
        stored_before_bytes: u64,
        days: &BTreeMap<Date, Day>,
        from: Date,
        until: Timestamp,
    ) -> Usage {
        Usage::part(stored_before_bytes, days, from, start_of(from), until)
    }

    /// What an account used from the whole hour `since` until `until`, given its days from 00:00 of `from` on and what it had stored
    /// before them.
    #[must_use]
    pub fn part(
        stored_before_bytes: u64,
        days: &BTreeMap<Date, Day>,
        from: Date,
        since: Timestamp,
        until: Timestamp,
    ) -> Usage {
        let mut usage = Usage {
            stored_bytes: stored_before_bytes,
            ..Usage::default()
        };
        let mut date = from;
        while start_of(date) < until {
            usage.add_day(days.get(&date), date, since, until);
            let Ok(next) = date.checked_add(1.day()) else {
                break;
            };
            date = next;
        }
        usage
    }

    fn add_day(&mut self, day: Option<&Day>, date: Date, since: Timestamp, until: Timestamp) {
        // An hour that has begun counts: its sample, when there is one, is of its end.
        let hours_until = |instant: Timestamp| {
            let seconds = instant.as_second() - start_of(date).as_second();
            u8::try_from(((seconds + 3_599) / 3_600).clamp(0, 24)).unwrap_or(24)
        };
        let (first, end) = (hours_until(since), hours_until(until));
        for hour in 0..end {
            if let Some(stored) =
                day.and_then(|day| day.stored.iter().find(|stored| stored.hour == hour))
            {
                self.stored_bytes = stored.bytes;
            }
            if hour < first {
                continue;
            }
            if let Some(moved) =
                day.and_then(|day| day.moved.iter().find(|moved| moved.hour == hour))
            {
                self.bytes_sent += moved.bytes_sent;
                self.bytes_received += moved.bytes_received;
                self.requests += moved.requests;
            }
            self.peak_stored_bytes = self.peak_stored_bytes.max(self.stored_bytes);
            self.stored_byte_hours += u128::from(self.stored_bytes);
        }
        self.hours += u32::from(end.saturating_sub(first));
    }
}

/// One account's samples as its days.
#[must_use]
pub fn days_of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> BTreeMap<Date, Day> {
    let mut by_date: BTreeMap<Date, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_date
            .entry(date_of(sample.hour))
            .or_default()
            .push(sample);
    }
    by_date
        .into_iter()
        .map(|(date, samples)| (date, Day::from_samples(samples)))
        .collect()
}

/// Traffic hours of one account, by day.
#[must_use]
pub fn days_of_traffic(hours: &[TrafficHour]) -> BTreeMap<Date, Vec<Moved>> {
    let mut days: BTreeMap<Date, BTreeMap<u8, Moved>> = BTreeMap::new();
    for traffic in hours {
        let hour = hour_of_day(traffic.hour);
        let moved = days
            .entry(date_of(traffic.hour))
            .or_default()
            .entry(hour)
            .or_insert(Moved {
                hour,
                bytes_sent: 0,
                bytes_received: 0,
                requests: 0,
            });
        moved.bytes_sent += traffic.bytes_sent;
        moved.bytes_received += traffic.bytes_received;
        moved.requests += traffic.requests;
    }
    days.into_iter()
        .map(|(date, hours)| (date, hours.into_values().collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn sample(hour: &str, stored_bytes: Option<u64>, bytes_sent: u64) -> Sample {
        Sample {
            s3uid: S3Uid("a".into()),
            bucket_name: "b".into(),
            hour: hour.parse().expect("time"),
            stored_bytes,
            objects: None,
            noncurrent_bytes: None,
            multipart_bytes: None,
            bytes_sent: Some(bytes_sent),
            bytes_received: Some(0),
            requests: Some(u64::from(bytes_sent > 0)),
            ..Sample::default()
        }
    }

    fn until(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    #[test]
    fn a_missing_hour_carries_the_stored_bytes_and_no_traffic() {
        let samples = [
            sample("2026-03-01T01:00:00Z", Some(100), 7),
            // hour 2 is missing; hour 3 was collected late: traffic only
            sample("2026-03-01T03:00:00Z", None, 5),
            sample("2026-03-01T04:00:00Z", Some(50), 0),
        ];
        let days = days_of(&samples);
        let usage = Usage::of(10, &days, date(2026, 3, 1), until("2026-03-01T06:00:00Z"));
        // hour 0: 10 from before; 1, 2, 3: 100; 4, 5: 50
        assert_eq!(usage.stored_byte_hours, 10 + 300 + 100);
        assert_eq!((usage.bytes_sent, usage.requests), (12, 2));
        assert_eq!(
            (usage.peak_stored_bytes, usage.stored_bytes, usage.hours),
            (100, 50, 6)
        );
    }

    #[test]
    fn own_calls_are_nobody_s_traffic_and_take_nothing_from_other_buckets_or_hours() {
        let own = |bytes_sent, requests| {
            Some(OwnCalls {
                bytes_sent,
                requests,
            })
        };
        let of = |hour, bucket_name: &str, bytes_sent, own| Sample {
            bucket_name: bucket_name.into(),
            own,
            ..sample(hour, None, bytes_sent)
        };
        let (first, second) = ("2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z");
        let day = Day::from_samples(&[
            of(first, "a", 100, own(60, 1)),
            // More than the cluster counted there.
            of(first, "b", 10, own(500, 7)),
            of(second, "a", 30, None),
        ]);
        let moved = |hour, bytes_sent, requests| Moved {
            hour,
            bytes_sent,
            bytes_received: 0,
            requests,
        };
        assert_eq!(day.moved, [moved(1, 40, 0), moved(2, 30, 1)]);
    }

    #[test]
    fn stored_bytes_carry_over_days_without_samples() {
        let days = days_of(&[sample("2026-03-01T22:00:00Z", Some(8), 0)]);
        let usage = Usage::of(0, &days, date(2026, 3, 1), until("2026-03-04T00:00:00Z"));
        assert_eq!(usage.hours, 72);
        assert_eq!(usage.stored_byte_hours, 8 * 50);
    }

    /// Clocks in Amsterdam skip an hour on 29 March 2026; the day has 24 hours in UTC all the same.
    #[test]
    fn a_change_of_the_operator_s_clocks_changes_nothing() {
        let days = days_of(&[sample("2026-03-28T00:00:00Z", Some(1), 0)]);
        let usage = Usage::of(0, &days, date(2026, 3, 1), until("2026-04-01T00:00:00Z"));
        assert_eq!(usage.hours, 744);
    }

    #[test]
    fn a_leap_february_has_696_hours() {
        let usage = Usage::of(
            3,
            &BTreeMap::new(),
            date(2028, 2, 1),
            until("2028-03-01T00:00:00Z"),
        );
        assert_eq!((usage.hours, usage.stored_byte_hours), (696, 3 * 696));
    }

    proptest! {
        #[test]
        fn the_order_of_samples_does_not_matter(
            hours in proptest::collection::btree_map(0i64..72, (proptest::option::of(0u64..1000), 0u64..1000), 0..72),
            seed in any::<u64>(),
        ) {
            let first = until("2026-03-01T00:00:00Z").as_second();
            let samples: Vec<Sample> = hours.iter().map(|(hour, (stored, sent))| {
                let at = Timestamp::from_second(first + hour * 3600).expect("time");
                sample(&at.to_string(), *stored, *sent)
            }).collect();
            let mut shuffled = samples.clone();
            let length = shuffled.len().max(1) as u64;
            for index in 0..shuffled.len() {
                shuffled.swap(index, ((seed.wrapping_mul(index as u64 + 1)) % length) as usize);
            }
            prop_assert_eq!(days_of(&samples), days_of(&shuffled));
            let end = until("2026-03-04T00:00:00Z");
            let usage = Usage::of(0, &days_of(&samples), date(2026, 3, 1), end);
            prop_assert_eq!(usage.bytes_sent, hours.values().map(|(_, sent)| sent).sum::<u64>());
            prop_assert!(usage.stored_byte_hours <= u128::from(usage.peak_stored_bytes) * 72);
        }

        #[test]
        fn parts_add_up_to_the_whole(
            hours in proptest::collection::btree_map(0i64..72, (proptest::option::of(0u64..1000), 0u64..1000), 0..72),
            before in 0u64..1000,
            split in 0i64..=72,
        ) {
            let first = until("2026-03-01T00:00:00Z");
            let at = |hour: i64| first + jiff::SignedDuration::from_hours(hour);
            let samples: Vec<Sample> = hours.iter().map(|(hour, (stored, sent))| {
                sample(&at(*hour).to_string(), *stored, *sent)
            }).collect();
            let days = days_of(&samples);
            let from = date(2026, 3, 1);
            let whole = Usage::of(before, &days, from, at(72));
            let early = Usage::part(before, &days, from, first, at(split));
            let late = Usage::part(before, &days, from, at(split), at(72));
            prop_assert_eq!(&early, &Usage::of(before, &days, from, at(split)));
            prop_assert_eq!(early.hours + late.hours, whole.hours);
            prop_assert_eq!(early.stored_byte_hours + late.stored_byte_hours, whole.stored_byte_hours);
            prop_assert_eq!(early.bytes_sent + late.bytes_sent, whole.bytes_sent);
            prop_assert_eq!(early.requests + late.requests, whole.requests);
            prop_assert_eq!(late.stored_bytes, whole.stored_bytes);
            prop_assert_eq!(early.peak_stored_bytes.max(late.peak_stored_bytes), whole.peak_stored_bytes);
        }
    }
}
