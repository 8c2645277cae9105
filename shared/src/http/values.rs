//! Types of parameter values, each with its rule, its error text and its schema.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::money::Currency;
use crate::domain::{account, bucket_name};

/// Text to its last byte: JSON's, or a form's. Everything else that a parameter may be is read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawText(pub String);

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawText, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = RawText;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawText, E> {
                Ok(RawText(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<RawText, E> {
                Ok(RawText(text))
            }
        }
        deserializer.deserialize_byte_buf(Text)
    }
}

/// Gives a type its schema, which stands where it is used.
#[macro_export]
macro_rules! schema {
    ($kind:ty, $name:literal, $schema:tt) => {
        impl schemars::JsonSchema for $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

schema!(RawText, "RawText", { "type": "string", "maxLength": 65_536 });

/// A whole number in digits, from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Whole<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawText(text) = RawText::deserialize(deserializer)?;
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if is_plain && (MIN..=MAX).contains(&number) => Ok(Whole(number)),
            _ => Err(D::Error::custom(format!(
                "must be a whole number from {MIN} to {MAX}"
            ))),
        }
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("WholeFrom{MIN}To{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let example = if MAX == LARGEST_ID {
            EXAMPLE_ID
        } else {
            MIN.max(1)
        };
        json_schema!({
            "type": "integer",
            "minimum": MIN,
            "maximum": MAX,
            "examples": [example],
        })
    }
}

/// The largest identifier: they begin at 1 and fit into a signed 64-bit integer of any language.
const LARGEST_ID: u64 = i64::MAX as u64;

/// The identifier that examples have.
const EXAMPLE_ID: u64 = 17;

/// An identifier.
pub type Id = Whole<1, LARGEST_ID>;

/// Where a page ended, by the number of what stood last on it. It is text, as the answers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken(pub u64);

impl<'de> Deserialize<'de> for PageToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PageToken, D::Error> {
        Id::deserialize(deserializer).map(|Whole(number)| PageToken(number))
    }
}

schema!(PageToken, "PageToken", {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,17}$",
    "examples": ["17"],
});

/// How many at most, from 1 to `MAX`; `DEFAULT` for whoever does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit<const DEFAULT: u64, const MAX: u64>(pub u64);

impl<const DEFAULT: u64, const MAX: u64> Default for Limit<DEFAULT, MAX> {
    fn default() -> Self {
        Limit(DEFAULT)
    }
}

impl<const DEFAULT: u64, const MAX: u64> Limit<DEFAULT, MAX> {
    /// As a number of items in memory.
    #[must_use]
    pub fn items(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const DEFAULT: u64, const MAX: u64> Deserialize<'de> for Limit<DEFAULT, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = Option::<Whole<1, MAX>>::deserialize(deserializer)?;
        Ok(limit.map_or_else(Limit::default, |Whole(limit)| Limit(limit)))
    }
}

impl<const DEFAULT: u64, const MAX: u64> JsonSchema for Limit<DEFAULT, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Limit{DEFAULT}Of{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Whole::<1, MAX>::json_schema(generator)
    }
}

/// How many to skip, up to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Offset<const MAX: u64>(pub u64);

impl<const MAX: u64> Offset<MAX> {
    /// As a number of items in memory.
    #[must_use]
    pub fn items(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const MAX: u64> Deserialize<'de> for Offset<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offset = Option::<Whole<0, MAX>>::deserialize(deserializer)?;
        Ok(offset.map_or_else(Offset::default, |Whole(offset)| Offset(offset)))
    }
}

impl<const MAX: u64> JsonSchema for Offset<MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("OffsetTo{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Whole::<0, MAX>::json_schema(generator)
    }
}

/// Reads a type from a line of text by a function that answers with the rule that is broken.
#[macro_export]
macro_rules! from_line {
    ($kind:ty, $read:expr) => {
        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                let read: fn(String) -> Result<Self, &'static str> = $read;
                read(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The name of an account for the life of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Uid(pub account::S3Uid);

from_line!(S3Uid, |text| {
    let is_well_formed = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match is_well_formed {
        true => Ok(S3Uid(account::S3Uid(text))),
        false => Err("must be 32 characters of A-Z, a-z and 0-9"),
    }
});
schema!(S3Uid, "S3uid", {
    "type": "string",
    "pattern": "^[A-Za-z0-9]{32}$",
    "examples": ["0uJP5PLs2GVtM426nWM0WpwxpbUVHg2c"],
});

/// A bucket name as S3 takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketName(pub bucket_name::BucketName);

from_line!(BucketName, |text| {
    bucket_name::check(&text)?;
    Ok(BucketName(text.into()))
});
schema!(BucketName, "BucketName", {
    "type": "string",
    "minLength": 3,
    "maxLength": 63,
    "pattern": "^[a-z0-9][a-z0-9.-]*[a-z0-9]$",
    "examples": ["my-first-bucket"],
});

/// Longest object key, in bytes of UTF-8 (Amazon S3 User Guide, "Naming Amazon S3 objects").
const OBJECT_KEY_LIMIT_BYTES: usize = 1_024;

/// The key of an object. It may hold any character, control characters too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectKey(pub String);

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ObjectKey, D::Error> {
        let RawText(text) = RawText::deserialize(deserializer)?;
        if text.len() > OBJECT_KEY_LIMIT_BYTES {
            return Err(D::Error::custom("must be at most 1024 bytes long"));
        }
        // A key as good as any, but the S3 client sends none of spaces alone.
        if text.trim().is_empty() {
            return Err(D::Error::custom("must not be blank"));
        }
        Ok(ObjectKey(text))
    }
}

schema!(ObjectKey, "ObjectKey", {
    "type": "string",
    "minLength": 1,
    "maxLength": 1024,
    "description": "At most 1024 bytes of UTF-8.",
    "examples": ["docs/LICENSE"],
});

/// The hash of an API key, by which it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHash(pub String);

from_line!(KeyHash, |text| {
    let is_well_formed = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_well_formed {
        true => Ok(KeyHash(text)),
        false => Err("must be 64 hexadecimal digits"),
    }
});
schema!(KeyHash, "KeyHash", {
    "type": "string",
    "pattern": "^[0-9a-fA-F]{64}$",
    "examples": ["98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"],
});

/// A currency by its code, in letters of either size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrencyCode(pub Currency);

from_line!(CurrencyCode, |text| {
    Currency::from_code(&text.to_uppercase())
        .map(CurrencyCode)
        .ok_or("must be an ISO 4217 currency")
});
schema!(CurrencyCode, "CurrencyCode", {
    "type": "string",
    "pattern": "^[A-Za-z]{3}$",
    "examples": ["EUR"],
});

/// A day of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(pub Date);

from_line!(Day, |text| match text.parse::<Date>() {
    Ok(date) if text.len() == 10 => Ok(Day(date)),
    _ => Err("must be a date as 2026-01-31"),
});
schema!(Day, "Day", { "type": "string", "format": "date", "examples": ["2026-01-31"] });

/// An instant to the second, in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second(pub Timestamp);

impl Serialize for Second {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.0}", self.0))
    }
}

schema!(Second, "Second", {
    "type": "string",
    "format": "date-time",
    "examples": ["2026-01-15T10:30:00Z"],
});

/// A price or an amount in an answer: a JSON number as the operator wrote it, 1500 as 1500 and 15.0 as 15.0. Prices have few digits, so that
/// the nearest 64-bit float prints as the price itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub Decimal);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Number(price) = self;
        match (price.scale(), price.to_i64(), price.to_f64()) {
            (0, Some(whole), _) => serializer.serialize_i64(whole),
            (1.., _, Some(float)) => serializer.serialize_f64(float),
            _ => serializer.serialize_none(),
        }
    }
}

schema!(Number, "Number", { "type": "number", "examples": [15.0] });

/// A number of bytes times hours, in digits: it may be larger than what JSON's readers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteHours(pub u128);

impl Serialize for ByteHours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

schema!(ByteHours, "ByteHours", {
    "type": "string",
    "pattern": "^[0-9]+$",
    "examples": ["1520418422784"],
});
