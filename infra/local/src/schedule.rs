//! When a schedule is due: `rate(…)` and `cron(…)` as EventBridge Scheduler takes them, in UTC.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use jiff::{SignedDuration, Timestamp};

/// Schedules that come more often than this are collapsed when time jumps; see [`Schedule::next_due`].
pub(crate) const FREQUENT: SignedDuration = SignedDuration::from_hours(1);

/// When something is due.
#[derive(Debug, Clone)]
pub(crate) enum Schedule {
    /// At every multiple of a period since 1970, so that a restart changes nothing.
    Rate(SignedDuration),
    /// At the instants of a cron expression. Boxed: it is large.
    Cron(Box<cron::Schedule>),
}

impl Schedule {
    /// Reads a schedule expression.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn parse(expression: &str) -> Result<Schedule, String> {
        let (kind, argument) = expression
            .strip_suffix(')')
            .and_then(|rest| rest.split_once('('))
            .ok_or_else(|| format!("{expression:?} is neither rate(…) nor cron(…)"))?;
        match kind {
            "rate" => rate(argument),
            "cron" => cron(argument),
            _ => Err(format!("{expression:?} is neither rate(…) nor cron(…)")),
        }
        .map_err(|problem| format!("{expression:?}: {problem}"))
    }

    /// The first instant after `after` at which it is due; `None` when there is none any more.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Rate(period) => {
                let period_seconds = period.as_secs();
                let next = (after.as_second().div_euclid(period_seconds) + 1) * period_seconds;
                Timestamp::from_second(next).ok()
            }
            Schedule::Cron(schedule) => {
                let after = DateTime::<Utc>::from_timestamp(after.as_second(), 0)?;
                let next = schedule.after(&after).next()?;
                Timestamp::from_second(next.timestamp()).ok()
            }
        }
    }

    /// Whether it comes more than once an hour.
    pub(crate) fn is_frequent(&self) -> bool {
        match self {
            Schedule::Rate(period) => *period < FREQUENT,
            Schedule::Cron(_) => {
                let first = self.next_after(Timestamp::UNIX_EPOCH);
                let second = first.and_then(|first| self.next_after(first));
                first
                    .zip(second)
                    .is_some_and(|(first, second)| second.duration_since(first) < FREQUENT)
            }
        }
    }

    /// The next instant to run it at, when time moves from `after` to `until`; `None` when it is not due until then.
    ///
    /// A schedule that comes more than once an hour runs at most once per hour of a jump, at the last instant it is
    /// due in that hour: between two of its runs nothing changes but by what other schedules do, and the last run
    /// leaves everything settled at `until`. So a month's jump runs a schedule of one minute 720 times instead of
    /// 43,200.
    pub(crate) fn next_due(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        if !self.is_frequent() {
            return Some(first);
        }
        let end = after
            .checked_add(FREQUENT)
            .map_or(until, |end| end.min(until));
        Some(self.last_until(first, end))
    }

    /// The last instant it is due at until `end`, from one at which it is.
    fn last_until(&self, from: Timestamp, end: Timestamp) -> Timestamp {
        match self {
            Schedule::Rate(period) => {
                let period_seconds = period.as_secs();
                let last = end.as_second().div_euclid(period_seconds) * period_seconds;
                Timestamp::from_second(last).map_or(from, |last| last.max(from))
            }
            Schedule::Cron(_) => {
                let mut last = from;
                while let Some(next) = self.next_after(last).filter(|next| *next <= end) {
                    last = next;
                }
                last
            }
        }
    }
}

fn rate(argument: &str) -> Result<Schedule, String> {
    let (count, unit) = argument
        .split_once(' ')
        .ok_or("it has no number and unit")?;
    let count: i64 = count
        .parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or("its number is not a positive whole number")?;
    let unit_seconds = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        _ => return Err("its unit is not minutes, hours or days".into()),
    };
    let seconds = count
        .checked_mul(unit_seconds)
        .ok_or("its number is too large")?;
    Ok(Schedule::Rate(SignedDuration::from_secs(seconds)))
}

/// AWS's six fields (minutes hours day-of-month month day-of-week year) are the `cron` crate's without its seconds,
/// which come first; days of the week count from Sunday = 1 in both.
fn cron(argument: &str) -> Result<Schedule, String> {
    let fields = argument.split_whitespace().count();
    if fields != 6 {
        return Err(format!("it has {fields} fields instead of 6"));
    }
    let schedule = cron::Schedule::from_str(&format!("0 {argument}"))
        .map_err(|error| format!("the local runner cannot read it: {error}"))?;
    Ok(Schedule::Cron(Box::new(schedule)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    fn schedule(expression: &str) -> Schedule {
        Schedule::parse(expression).expect("schedule")
    }

    #[test]
    fn rates_are_anchored_at_the_epoch() {
        let five = schedule("rate(5 minutes)");
        assert_eq!(
            five.next_after(at("2026-01-01T00:00:00Z")),
            Some(at("2026-01-01T00:05:00Z"))
        );
        assert_eq!(
            five.next_after(at("2026-01-01T00:04:59.5Z")),
            Some(at("2026-01-01T00:05:00Z"))
        );
        assert!(five.is_frequent());
        assert!(!schedule("rate(1 hour)").is_frequent());
    }

    #[test]
    fn crons_have_six_fields_and_sunday_is_1() {
        let daily = schedule("cron(15 2 * * ? *)");
        assert_eq!(
            daily.next_after(at("2026-01-01T02:15:00Z")),
            Some(at("2026-01-02T02:15:00Z"))
        );
        // 2026-01-04 is a Sunday.
        let sundays = schedule("cron(0 0 ? * 1 *)");
        assert_eq!(
            sundays.next_after(at("2026-01-01T00:00:00Z")),
            Some(at("2026-01-04T00:00:00Z"))
        );
        let names = schedule("cron(0/15 8 ? * MON-FRI *)");
        assert_eq!(
            names.next_after(at("2026-01-02T08:45:00Z")),
            Some(at("2026-01-05T08:00:00Z"))
        );
        assert!(names.is_frequent());
        assert!(!daily.is_frequent());
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for expression in [
            "rate(0 minutes)",
            "rate(1 fortnight)",
            "rate(minute)",
            "cron(0 0 * * *)",
            "cron(x 0 * * ? *)",
            "at(2026-01-01T00:00:00)",
            "1 minute",
        ] {
            assert!(Schedule::parse(expression).is_err(), "{expression}");
        }
    }

    fn runs(expression: &str, from: &str, until: &str) -> Vec<String> {
        let schedule = schedule(expression);
        let until = at(until);
        let mut after = at(from);
        let mut runs = Vec::new();
        while let Some(due) = schedule.next_due(after, until) {
            assert!(due > after && due <= until);
            runs.push(due.to_string());
            after = due;
        }
        runs
    }

    #[test]
    fn frequent_schedules_run_once_an_hour_of_a_jump() {
        assert_eq!(
            runs(
                "rate(1 minute)",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:01:30Z"
            ),
            ["2026-01-01T00:01:00Z"]
        );
        assert_eq!(
            runs(
                "rate(1 minute)",
                "2026-01-01T00:00:00Z",
                "2026-01-01T02:30:10Z"
            ),
            [
                "2026-01-01T01:00:00Z",
                "2026-01-01T02:00:00Z",
                "2026-01-01T02:30:00Z"
            ]
        );
        assert_eq!(
            runs(
                "cron(0/10 * * * ? *)",
                "2026-01-01T00:00:00Z",
                "2026-01-01T01:15:00Z"
            ),
            ["2026-01-01T01:00:00Z", "2026-01-01T01:10:00Z"]
        );
        assert_eq!(
            runs(
                "rate(1 hour)",
                "2026-01-01T00:30:00Z",
                "2026-01-01T03:00:00Z"
            )
            .len(),
            3
        );
    }
}
