//! The stack's time beside the machine's: how it is told, and that it stays the same where clusters run elsewhere.

use jiff::{SignedDuration, SpanRound, Unit};
use serde_json::{Value, json};
use wharfage::clock::Clock;
use wharfage::cluster::Clusters;
use wharfage::config::Provider;

use crate::clock::VirtualClock;
use crate::clusters::GivenCluster;
use crate::error::Error;

/// What a clock may be ahead without anybody being told: a system clock that was set right is not a move.
const UNNOTICED: SignedDuration = SignedDuration::from_mins(1);

/// A duration in days, hours and so on: to the second as ISO 8601 has it (`P31DT2H`), and to the minute as people do (`31d 2h`).
fn spelled(duration: SignedDuration) -> (String, String) {
    let to = |smallest| {
        let round = SpanRound::new().largest(Unit::Day).smallest(smallest);
        let span = jiff::Span::try_from(duration)?;
        span.round(round.days_are_24_hours())
    };
    match (to(Unit::Second), to(Unit::Minute)) {
        (Ok(exact), Ok(rough)) => (exact.to_string(), format!("{rough:#}")),
        _ => (duration.to_string(), format!("{duration:#}")),
    }
}

/// What `GET /_local/clock` answers: the time, whether it passes by itself, and how far it is ahead of the machine's.
#[must_use]
pub fn describe(clock: &VirtualClock) -> Value {
    // Time goes on between the two looks that this takes.
    let ahead = clock.ahead();
    let ahead = ahead.round(Unit::Second).unwrap_or(ahead);
    json!({
        "now": clock.now(),
        "is_running": clock.is_running(),
        "ahead": spelled(ahead).0,
        "ahead_seconds": ahead.as_secs(),
    })
}

/// What whoever starts the stack should know of its time, unless it is the machine's.
pub(crate) fn notice(clock: &VirtualClock) -> Option<String> {
    let now = clock.now();
    let ahead = clock.ahead();
    let apart = || spelled(ahead.abs()).1;
    let beside = match () {
        () if ahead > UNNOTICED => format!("{} ahead of this machine's clock", apart()),
        () if ahead < -UNNOTICED => format!("{} behind this machine's clock", apart()),
        () if clock.is_running() => return None,
        () => "this machine's time".into(),
    };
    Some(match clock.is_running() {
        true => format!("time here is {now:.0}, {beside}: it was moved, and goes on from there"),
        false => format!("time here stands still at {now:.0}, {beside}"),
    })
}

/// Refuses a stack whose time is not that of its clusters that run elsewhere.
///
/// # Errors
/// [`Error::RealClusters`].
pub(crate) fn check_start(clock: &VirtualClock, given: &[GivenCluster]) -> Result<(), Error> {
    if given.is_empty() {
        return Ok(());
    }
    let what = match clock.is_running() {
        false => "--clock cannot be used with --cluster".into(),
        true if clock.ahead() <= UNNOTICED => return Ok(()),
        true => format!(
            "the time kept with the data is {} ahead of this machine's clock, so --cluster needs another --data-dir",
            spelled(clock.ahead()).1
        ),
    };
    let locations = given.iter().map(|cluster| cluster.code.clone()).collect();
    Err(Error::RealClusters { what, locations })
}

/// Refuses to move time where clusters run elsewhere.
///
/// # Errors
/// [`Error::RealClusters`].
pub(crate) fn check_move(clusters: &Clusters) -> Result<(), Error> {
    let locations: Vec<String> = clusters
        .iter()
        .map(|cluster| &cluster.location)
        .filter(|location| location.provider != Provider::Embedded)
        .map(|location| location.code.clone())
        .collect();
    if locations.is_empty() {
        return Ok(());
    }
    let what = "the clock is not moved".into();
    Err(Error::RealClusters { what, locations })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn durations_are_told_in_days() {
        let days = SignedDuration::from_hours(31 * 24 + 2);
        assert_eq!(spelled(days), ("P31DT2H".into(), "31d 2h".into()));
        assert_eq!(spelled(SignedDuration::ZERO).0, "PT0S");
        let millis = SignedDuration::from_millis(86_399_999);
        assert_eq!(spelled(millis).1, "1d");
    }

    #[test]
    fn only_time_that_is_not_the_machine_s_is_worth_a_word() {
        let clock = VirtualClock::new(None);
        assert_eq!(notice(&clock), None);
        assert_eq!(describe(&clock)["ahead"], "PT0S");
        let then = clock.now() + SignedDuration::from_hours(50);
        clock.move_to(then).expect("moves");
        let told = notice(&clock).expect("a notice");
        assert!(
            told.contains("2d 2h ahead of this machine's clock"),
            "{told}"
        );
        assert_eq!(describe(&clock)["ahead"], "P2DT2H");
        assert_eq!(describe(&clock)["ahead_seconds"], 180_000);
        let past: Timestamp = "2020-01-01T00:00:00Z".parse().expect("timestamp");
        let told = notice(&VirtualClock::new(Some(past))).expect("a notice");
        assert!(told.starts_with("time here stands still at 2020-01-01T00:00:00Z, "));
        assert!(told.ends_with("behind this machine's clock"), "{told}");
    }

    #[test]
    fn a_clock_that_is_not_the_machine_s_does_not_start_over_clusters_elsewhere() {
        let cluster = GivenCluster::parse("NL=rgw:http://127.0.0.1:1", |_| Some("x".into()));
        let given = [cluster.expect("a cluster")];
        let clock = VirtualClock::new(None);
        check_start(&clock, &given).expect("the machine's time");
        clock
            .move_to(clock.now() + SignedDuration::from_hours(49))
            .expect("moves");
        check_start(&clock, &[]).expect("the runner's own clusters");
        let refused = check_start(&clock, &given).expect_err("ahead").to_string();
        assert!(refused.contains("2d 1h ahead"), "{refused}");
        assert!(refused.contains("NL counts traffic by a clock of its own"));
        let still = VirtualClock::new(Some(Timestamp::UNIX_EPOCH));
        let refused = check_start(&still, &given).expect_err("still").to_string();
        assert!(refused.starts_with("--clock cannot be used with --cluster: NL"));
    }
}
