//! Quota thresholds: events about an account's stored bytes against its quota.
//!
//! There is an event on the way up at 80 % and at 100 %, and one when usage is below 80 % again. Going up and down around 100 % causes
//! none.

use serde::{Deserialize, Serialize};

/// What was last told of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaLevel {
    /// Nothing, or that it is over.
    #[default]
    Below80,
    /// That it stores 80 % of its quota.
    From80,
    /// That it stores its whole quota.
    From100,
}

impl QuotaLevel {
    /// What is to be told now: none when that was told, and for a plan without a quota.
    #[must_use]
    pub fn next(self, stored_bytes: u64, quota_bytes: u64) -> Option<QuotaLevel> {
        let (stored, quota) = (u128::from(stored_bytes), u128::from(quota_bytes));
        let level = if quota == 0 || stored * 5 < quota * 4 {
            QuotaLevel::Below80
        } else if stored < quota {
            self.max(QuotaLevel::From80)
        } else {
            QuotaLevel::From100
        };
        (level != self).then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::QuotaLevel::{Below80, From80, From100};
    use super::*;

    fn told(quota_bytes: u64, series: &[u64]) -> Vec<QuotaLevel> {
        let mut level = Below80;
        series
            .iter()
            .filter_map(|stored_bytes| {
                let told = level.next(*stored_bytes, quota_bytes)?;
                level = told;
                Some(told)
            })
            .collect()
    }

    #[test]
    fn both_thresholds_are_told_on_the_way_up_and_the_end_once() {
        assert_eq!(
            told(100, &[79, 80, 99, 100, 101, 99, 100, 80, 79, 10]),
            [From80, From100, Below80]
        );
        assert_eq!(told(100, &[100, 0, 100]), [From100, Below80, From100]);
        assert_eq!(told(u64::MAX, &[u64::MAX - 1, u64::MAX]), [From80, From100]);
    }

    #[test]
    fn a_plan_without_a_quota_has_no_thresholds() {
        assert_eq!(told(0, &[0, 1, u64::MAX]), []);
    }

    /// The same bytes against another quota, as after a change of plan.
    #[test]
    fn a_quota_that_moves_is_told_of_too() {
        assert_eq!(Below80.next(50, 60), Some(From80));
        assert_eq!(From80.next(50, 50), Some(From100));
        assert_eq!(From100.next(50, 100), Some(Below80));
        assert_eq!(From100.next(50, 0), Some(Below80));
    }

    proptest! {
        #[test]
        fn nothing_is_told_twice_and_nothing_is_over_that_was_not_told(
            quota_bytes in 0u64..200,
            series in proptest::collection::vec(0u64..300, 0..100),
        ) {
            let mut level = Below80;
            for stored_bytes in series {
                let told = level.next(stored_bytes, quota_bytes);
                prop_assert_ne!(told, Some(level));
                match told {
                    Some(Below80) => prop_assert!(stored_bytes * 5 < quota_bytes * 4),
                    // Between the two, only who had heard nothing hears of 80 %.
                    Some(From80) => prop_assert_eq!(level, Below80),
                    Some(From100) => prop_assert!(stored_bytes >= quota_bytes),
                    None => {}
                }
                level = told.unwrap_or(level);
                // What was told last fits what is stored: only 100 % may outlast its bytes, down to 80 %.
                prop_assert_eq!(level == Below80, quota_bytes == 0 || stored_bytes * 5 < quota_bytes * 4);
                prop_assert!(level == From100 || quota_bytes == 0 || stored_bytes < quota_bytes);
                prop_assert_eq!(level.next(stored_bytes, quota_bytes), None);
            }
        }
    }
}
