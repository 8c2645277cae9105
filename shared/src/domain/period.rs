//! Dates of a subscription. All dates are UTC and take effect at 00:00; periods are half-open, `[from, to)`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The calendar day of an instant, in UTC.
#[must_use]
pub fn date_of(instant: Timestamp) -> Date {
    instant.to_zoned(TimeZone::UTC).date()
}

/// 00:00 UTC of a day.
#[must_use]
pub fn start_of(date: Date) -> Timestamp {
    TimeZone::UTC
        .to_timestamp(date.at(0, 0, 0, 0))
        .unwrap_or(Timestamp::MAX)
}

/// The whole UTC hour an instant is in.
#[must_use]
pub fn hour_of(instant: Timestamp) -> Timestamp {
    let second = instant.as_second();
    Timestamp::from_second(second - second.rem_euclid(3600)).unwrap_or(instant)
}

/// The whole hours from one instant to another; none when that is not later.
#[must_use]
pub fn hours_between(from: Timestamp, to: Timestamp) -> u32 {
    u32::try_from((to.as_second() - from.as_second()) / 3600).unwrap_or(0)
}

/// The `months`-th anniversary of a day. It keeps the day of the month where the month has it and else takes the month's last:
/// from 31 January come 28 February and then 31 March.
#[must_use]
pub fn anniversary(anchor: Date, months: i32) -> Date {
    anchor.saturating_add(months.months())
}

/// The first anniversary of `anchor` after `date`.
#[must_use]
pub fn next_anniversary(anchor: Date, date: Date) -> Date {
    let mut months = (i32::from(date.year()) - i32::from(anchor.year())) * 12
        + i32::from(date.month())
        - i32::from(anchor.month());
    loop {
        let candidate = anniversary(anchor, months);
        if candidate > date || candidate == Date::MAX {
            return candidate;
        }
        months += 1;
    }
}

/// The last anniversary of `anchor` that is not after `date`, or `anchor` itself when `date` is before the first.
#[must_use]
pub fn last_anniversary(anchor: Date, date: Date) -> Date {
    let mut months = (i32::from(date.year()) - i32::from(anchor.year())) * 12
        + i32::from(date.month())
        - i32::from(anchor.month());
    loop {
        let candidate = anniversary(anchor, months);
        if candidate <= date || months <= 0 {
            return candidate.max(anchor);
        }
        months -= 1;
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_31st_comes_back_after_a_short_month() {
        let anchor = date(2026, 1, 31);
        assert_eq!(next_anniversary(anchor, anchor), date(2026, 2, 28));
        assert_eq!(
            next_anniversary(anchor, date(2026, 2, 28)),
            date(2026, 3, 31)
        );
        assert_eq!(
            next_anniversary(anchor, date(2028, 1, 31)),
            date(2028, 2, 29)
        );
        assert_eq!(
            last_anniversary(anchor, date(2026, 3, 30)),
            date(2026, 2, 28)
        );
    }

    #[test]
    fn an_account_ordered_on_the_15th_commits_on_the_15th() {
        let ordered_at: Timestamp = "2026-11-15T23:59:59Z".parse().expect("time");
        assert_eq!(
            next_anniversary(date_of(ordered_at), date_of(ordered_at)),
            date(2026, 12, 15)
        );
    }

    proptest! {
        #[test]
        fn anniversaries_tile_time(year in 2000i16..2100, month in 1i8..=12, day in 1i8..=31, days in 0i32..2000) {
            let Ok(anchor) = Date::new(year, month, day) else { return Ok(()) };
            let on = anchor.saturating_add(days.days());
            let from = last_anniversary(anchor, on);
            let to = next_anniversary(anchor, on);
            prop_assert!(from <= on && on < to);
            prop_assert_eq!(next_anniversary(anchor, from), to);
        }
    }
}
