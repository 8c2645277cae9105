//! How old the crates are that this workspace depends on itself. No advisories can be read where the checks run, so what is kept up to date
//! stands in for them. `.ci/look-at-releases` asks the registry and writes `releases.txt`; the tests ask nobody.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use wharfage::clock::{Clock, SystemClock};

/// As long as a version may be behind the newest, and as long as the record may be left alone.
const MOST_DAYS: i32 = 365;

/// Crates that are further behind, and why.
const EXCEPTIONS: [(&str, &str); 2] = [
    (
        "aes-gcm",
        "the local runner's KMS alone has it, and 0.10 was the newest until June 2026",
    ),
    (
        "rusqlite",
        "dynoxide-rs is built with 0.36, and only one SQLite can be linked",
    ),
];

/// A line of the record.
struct Release<'a> {
    name: &'a str,
    version: &'a str,
    released: Date,
    newest: &'a str,
    newest_released: Date,
}

impl Release<'_> {
    fn days_behind(&self) -> i32 {
        days(self.released, self.newest_released)
    }
}

fn days(from: Date, to: Date) -> i32 {
    from.until(to).expect("dates of our time").get_days()
}

/// The day the record is of, and its lines.
fn record() -> (Date, Vec<Release<'static>>) {
    let mut lines = include_str!("releases.txt").lines();
    let looked_at = lines.next().expect("a day").parse().expect("a date");
    let releases = lines.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, version, released, newest, newest_released] = words[..] else {
            panic!("releases.txt: {line}");
        };
        let date = |text: &str| -> Date { text.parse().expect("a date") };
        Release {
            name,
            version,
            released: date(released),
            newest,
            newest_released: date(newest_released),
        }
    });
    (looked_at, releases.collect())
}

/// What the workspace's own packages name, in the versions of the lock file.
fn direct_dependencies() -> BTreeSet<(String, String)> {
    let lock: toml::Table = include_str!("../../Cargo.lock").parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages
        .iter()
        .filter(|package| package.get("source").is_some())
    {
        let text = |key: &str| package[key].as_str().expect("a text");
        versions
            .entry(text("name"))
            .or_default()
            .push(text("version"));
    }
    let ours = packages
        .iter()
        .filter(|package| package.get("source").is_none());
    ours.flat_map(|package| package["dependencies"].as_array().expect("dependencies"))
        .filter_map(|dependency| {
            let mut words = dependency.as_str().expect("a text").split(' ');
            let name = words.next().expect("a name");
            // The version stands there only where there are several.
            let known = versions.get(name)?;
            let version = words.next().unwrap_or_else(|| known[0]);
            Some((name.to_owned(), version.to_owned()))
        })
        .collect()
}

#[test]
fn the_record_of_releases_has_every_dependency_in_the_version_that_is_locked() {
    let recorded: BTreeSet<(String, String)> = record()
        .1
        .iter()
        .map(|release| (release.name.to_owned(), release.version.to_owned()))
        .collect();
    let locked = direct_dependencies();
    assert!(locked.len() > 50, "{}", locked.len());
    let differing: Vec<_> = locked.symmetric_difference(&recorded).collect();
    assert!(
        differing.is_empty(),
        "run .ci/look-at-releases, which writes releases.txt anew: {differing:?}"
    );
}

#[test]
fn no_dependency_is_more_than_a_year_behind_its_newest_release() {
    let (_, releases) = record();
    let behind: BTreeMap<&str, &Release<'_>> = releases
        .iter()
        .filter(|release| release.days_behind() > MOST_DAYS)
        .map(|release| (release.name, release))
        .collect();
    let excepted = BTreeMap::from(EXCEPTIONS);
    for (name, release) in &behind {
        assert!(
            excepted.contains_key(name),
            "{name} {} is {} days older than {}: take that, or say in EXCEPTIONS why not",
            release.version,
            release.days_behind(),
            release.newest
        );
    }
    for name in excepted.keys() {
        assert!(behind.contains_key(name), "{name} needs no exception");
    }
}

/// By the machine's clock: what was newest long ago says nothing.
#[test]
fn somebody_has_looked_for_newer_releases_within_a_year() {
    let (looked_at, releases) = record();
    let today = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let age = days(looked_at, today);
    assert!(
        age <= MOST_DAYS,
        "releases.txt is {age} days old: run .ci/look-at-releases"
    );
    for release in releases {
        assert!(
            release.released <= looked_at && release.newest_released <= looked_at,
            "{} was not released by {looked_at}",
            release.name
        );
    }
}

#[test]
fn days_behind_are_those_between_two_releases() {
    let date = |text: &str| -> Date { text.parse().expect("a date") };
    assert_eq!(days(date("2025-11-26"), date("2026-11-26")), 365);
    assert_eq!(days(date("2026-11-26"), date("2026-11-26")), 0);
    // A fix of an older line of versions can come after the newest.
    assert_eq!(days(date("2026-03-01"), date("2026-02-28")), -1);
}
