//! Bucket names, and the rules for them after "General purpose bucket naming rules" in the Amazon S3 User Guide.

use crate::domain::client::ClientId;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A bucket's name, stored and shown as the text that it is. Clusters hold buckets of other makers, so it need not keep to the rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BucketName(String);

impl Deref for BucketName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<String> for BucketName {
    fn from(name: String) -> BucketName {
        BucketName(name)
    }
}

impl From<&str> for BucketName {
    fn from(name: &str) -> BucketName {
        BucketName(name.into())
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> String {
        name.0
    }
}

impl From<&BucketName> for String {
    fn from(name: &BucketName) -> String {
        name.0.clone()
    }
}

impl PartialEq<str> for BucketName {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for BucketName {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Which rule a name breaks, in words for its sender.
///
/// # Errors
/// The rule that is broken.
pub fn check(name: &str) -> Result<(), &'static str> {
    if !(3..=63).contains(&name.len()) {
        return Err("must be 3 to 63 characters long");
    }
    let is_letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name
        .bytes()
        .all(|byte| is_letter_or_digit(byte) || byte == b'-' || byte == b'.')
    {
        return Err("may hold only a-z, 0-9, hyphens and dots");
    }
    let ends = [name.as_bytes()[0], name.as_bytes()[name.len() - 1]];
    if !ends.into_iter().all(is_letter_or_digit) {
        return Err("must begin and end with a letter or a digit");
    }
    if name.contains("..") {
        return Err("must not hold two dots in a row");
    }
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err("must not look like an IP address");
    }
    if RESERVED_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
    {
        return Err("begins with a reserved prefix");
    }
    if RESERVED_SUFFIXES
        .iter()
        .any(|suffix| name.ends_with(suffix))
    {
        return Err("ends with a reserved suffix");
    }
    Ok(())
}

/// A name for whoever gave none: whose bucket it is, and `random`, of a-z and 0-9, that nobody else has.
#[must_use]
pub fn made_up(client_id: ClientId, random: &str) -> BucketName {
    BucketName(format!("client-{client_id}-{random}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_made_up_are_good_ones() {
        for client_id in [1, 42, u64::MAX] {
            let name = made_up(ClientId(client_id), "0a1b2c3d4e5f6g7h8i9j");
            assert_eq!(check(&name), Ok(()), "{name}");
        }
    }

    #[test]
    fn good_names_pass() {
        for name in [
            "abc",
            "my-bucket-01",
            "a.b.c",
            "0-0",
            &"a".repeat(63),
            "1.2.3",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn each_rule_is_checked() {
        let too_long = "a".repeat(64);
        for name in [
            "",
            "ab",
            &too_long,
            "Abc",
            "a_b",
            "-abc",
            "abc-",
            ".abc",
            "abc.",
            "a..b",
            "192.168.5.4",
            "xn--abc",
            "sthree-abc",
            "amzn-s3-demo-x",
            "abc-s3alias",
            "abc--ol-s3",
            "abc.mrap",
            "abc--x-s3",
            "abc--table-s3",
            "a b",
            "bücket",
            "a\u{0}b",
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
