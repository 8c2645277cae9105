//! Allowances of free accounts: per client and calendar month, however often such an account is ordered again.
//!
//! A free account takes the **place** of one that ended before it in the same month, if any is left; of several, the one that ended first.
//! So each of two concurrent accounts has its own allowances, and a client that ends one and orders another continues with the remainder.
//! What its predecessors used in that month is subtracted from what the account's first period includes. The account's own usage on days of
//! that period in the next month does not count for this one.

use std::collections::VecDeque;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::domain::account::{AccountId, S3Uid};
use crate::domain::period::start_of;
use crate::domain::usage::Usage;

/// How many accounts that cost nothing a client may end in a calendar month and still open another. Each of them is read at the closing
/// of the one that takes its place; and whoever tries the service out has no need of more.
pub const MOST_ENDED: usize = 10;

/// An account that cost nothing, as its client's month knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeAccount {
    /// The account.
    pub s3uid: S3Uid,
    /// Its number.
    pub id: AccountId,
    /// The day of its order.
    pub ordered_on: Date,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended, if it did so in this month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// The first instant after the calendar month that a day is in.
#[must_use]
pub fn end_of_month(date: Date) -> Timestamp {
    start_of(date.first_of_month().saturating_add(1.month()))
}

/// The accounts that had the place of an account before it, in the month of its order; `accounts` are the client's of that month.
#[must_use]
pub fn predecessors<'a>(
    accounts: &'a [FreeAccount],
    s3uid: &S3Uid,
    ordered_on: Date,
) -> Vec<&'a FreeAccount> {
    let month = ordered_on.first_of_month();
    let mut steps: Vec<(Timestamp, bool, AccountId, usize)> = Vec::new();
    for (index, account) in accounts.iter().enumerate() {
        if let Some(ended_at) = account.ended_at {
            steps.push((ended_at, false, account.id, index));
        }
        if account.ordered_on.first_of_month() == month {
            steps.push((account.opened_at, true, account.id, index));
        }
    }
    steps.sort_unstable();
    // Places that are left, each with the accounts that had it.
    let mut left: VecDeque<Vec<usize>> = VecDeque::new();
    let mut taken: Vec<Vec<usize>> = vec![Vec::new(); accounts.len()];
    for (_, is_opened, _, index) in steps {
        if is_opened {
            taken[index] = left.pop_front().unwrap_or_default();
            if accounts[index].s3uid == *s3uid {
                return taken[index].iter().map(|index| &accounts[*index]).collect();
            }
        } else {
            let mut place = std::mem::take(&mut taken[index]);
            place.push(index);
            left.push_back(place);
        }
    }
    Vec::new()
}

/// What was used of allowances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Stored bytes, summed up hour by hour.
    #[serde(with = "crate::domain::figures::text")]
    pub stored_byte_hours: u128,
}

impl Used {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Used) -> Used {
        Used {
            bytes_sent: self.bytes_sent.saturating_add(other.bytes_sent),
            stored_byte_hours: self.stored_byte_hours + other.stored_byte_hours,
        }
    }
}

impl From<&Usage> for Used {
    fn from(usage: &Usage) -> Used {
        Used {
            bytes_sent: usage.bytes_sent,
            stored_byte_hours: usage.stored_byte_hours,
        }
    }
}

/// What a part of a period includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Whether its plan costs nothing.
    pub is_free: bool,
    /// Stored bytes, summed up hour by hour.
    pub byte_hours: u128,
    /// Bytes sent.
    pub traffic_bytes: u64,
}

/// The first period of an account that took another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedAnew {
    /// What those before it used in the month of its order.
    pub before: Used,
    /// What it has itself used in the period after that month.
    pub later: Used,
}

impl OpenedAnew {
    /// What is left of traffic that a period includes.
    #[must_use]
    pub fn traffic_left(&self, included_bytes: u64) -> u64 {
        let spent = self.before.bytes_sent.min(included_bytes);
        included_bytes - spent.saturating_sub(self.later.bytes_sent)
    }

    /// Takes from what the parts of the period include on plans that cost nothing, the first parts first.
    pub fn lower(&self, allowances: &mut [Allowance]) {
        let free = || allowances.iter().filter(|allowance| allowance.is_free);
        let byte_hours: u128 = free().map(|allowance| allowance.byte_hours).sum();
        let traffic_bytes = free().fold(0u64, |sum, one| sum.saturating_add(one.traffic_bytes));
        let stored = self.before.stored_byte_hours.min(byte_hours);
        let mut stored = stored.saturating_sub(self.later.stored_byte_hours);
        let mut sent = traffic_bytes - self.traffic_left(traffic_bytes);
        for allowance in allowances.iter_mut().filter(|one| one.is_free) {
            let taken = stored.min(allowance.byte_hours);
            allowance.byte_hours -= taken;
            stored -= taken;
            let taken = sent.min(allowance.traffic_bytes);
            allowance.traffic_bytes -= taken;
            sent -= taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn at(hour: i64) -> Timestamp {
        start_of(date(2026, 1, 1)) + SignedDuration::from_hours(hour)
    }

    fn free(id: u64, opened: i64, ended: Option<i64>) -> FreeAccount {
        FreeAccount {
            s3uid: S3Uid(id.to_string()),
            id: AccountId(id),
            ordered_on: crate::domain::period::date_of(at(opened)),
            opened_at: at(opened),
            ended_at: ended.map(at),
        }
    }

    fn before(accounts: &[FreeAccount], id: u64) -> Vec<u64> {
        let account = accounts.iter().find(|account| account.id == AccountId(id));
        let ordered_on = account.map_or(date(2026, 1, 1), |account| account.ordered_on);
        let found = predecessors(accounts, &S3Uid(id.to_string()), ordered_on);
        found.into_iter().map(|account| account.id.0).collect()
    }

    #[test]
    fn whoever_opens_anew_takes_the_place_that_was_left_first() {
        let accounts = [
            free(1, -50, Some(10)),
            free(2, 5, Some(12)),
            free(3, 11, Some(20)),
            // Two at once: what the second of them has is not the first's.
            free(4, 15, None),
            free(5, 25, Some(30)),
            free(6, 35, None),
            free(7, 36, None),
        ];
        assert_eq!(before(&accounts, 2), [0; 0]);
        assert_eq!(before(&accounts, 3), [1]);
        assert_eq!(before(&accounts, 4), [2]);
        assert_eq!(before(&accounts, 5), [1, 3]);
        assert_eq!(before(&accounts, 6), [1, 3, 5]);
        assert_eq!(before(&accounts, 7), [0; 0]);
        assert_eq!(before(&accounts, 8), [0; 0]);
    }

    #[test]
    fn what_is_used_after_the_month_is_not_used_twice() {
        let left = |before, later| {
            let used = |bytes_sent| Used {
                bytes_sent,
                ..Used::default()
            };
            let opened_anew = OpenedAnew {
                before: used(before),
                later: used(later),
            };
            opened_anew.traffic_left(100)
        };
        assert_eq!(left(30, 0), 70);
        assert_eq!(left(300, 0), 0);
        assert_eq!(left(300, 40), 40);
        assert_eq!(left(30, 40), 100);
    }

    proptest! {
        /// However a month's traffic is spread over accounts that follow each other, all that is above one allowance is charged.
        #[test]
        fn a_month_has_one_allowance(sent in proptest::collection::vec(0u64..200, 1..8), included in 0u64..300) {
            let mut before = Used::default();
            let mut charged = 0;
            for bytes_sent in &sent {
                let left = OpenedAnew { before, later: Used::default() }.traffic_left(included);
                charged += bytes_sent.saturating_sub(left);
                before = before.and(Used { bytes_sent: *bytes_sent, stored_byte_hours: 0 });
            }
            prop_assert_eq!(charged, sent.iter().sum::<u64>().saturating_sub(included));
        }
    }
}
