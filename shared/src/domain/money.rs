//! Amounts: integer minor units and a currency. Rates are exact decimals. Nothing here is floating point.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// By its code, for example `EUR`.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Currency> {
        let currency = iso_currency::Currency::from_code(code)?;
        // Gold, test codes and the like have no minor unit and cannot be billed in.
        currency.exponent().map(|_| Currency(currency))
    }

    /// `EUR`
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Decimal places of its minor unit: 2 for EUR, 0 for JPY (ISO 4217).
    #[must_use]
    pub fn exponent(self) -> u32 {
        u32::from(self.0.exponent().unwrap_or(2))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "examples": ["EUR"] })
    }
}

impl Ord for Currency {
    fn cmp(&self, other: &Currency) -> std::cmp::Ordering {
        self.code().cmp(other.code())
    }
}

impl PartialOrd for Currency {
    fn partial_cmp(&self, other: &Currency) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
        let code = String::deserialize(deserializer)?;
        Currency::from_code(&code)
            .ok_or_else(|| D::Error::custom(format!("{code:?} is not an ISO 4217 currency")))
    }
}

/// An amount does not fit into 64 bits of minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount is too large")]
pub struct AmountTooLarge;

/// An exact amount in major units as minor units, rounded once, half to even.
///
/// # Errors
/// When it does not fit into 64 bits.
pub fn to_minor(amount: Decimal, currency: Currency) -> Result<i64, AmountTooLarge> {
    Decimal::from(10u64.pow(currency.exponent()))
        .checked_mul(amount)
        .map(|minor| minor.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven))
        .and_then(|minor| minor.to_i64())
        .ok_or(AmountTooLarge)
}

/// Minor units as an exact amount in major units, with the currency's number of decimal places.
#[must_use]
pub fn to_major(amount_minor: i64, currency: Currency) -> Decimal {
    Decimal::new(amount_minor, currency.exponent())
}

/// An amount that depends on the currency, as an operator sets it: `250,RUB:25000,JPY:40000`. The one without a currency holds for all
/// others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amounts {
    general: Decimal,
    by_currency: BTreeMap<Currency, Decimal>,
}

impl Amounts {
    /// In minor units of a currency.
    #[must_use]
    pub fn in_minor(&self, currency: Currency) -> i64 {
        let amount = self.by_currency.get(&currency).unwrap_or(&self.general);
        to_minor(*amount, currency).unwrap_or(i64::MAX)
    }
}

impl FromStr for Amounts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Amounts, &'static str> {
        let mut amounts = Amounts {
            general: Decimal::ZERO,
            by_currency: BTreeMap::new(),
        };
        for part in text.split(',').map(str::trim) {
            let (code, amount) = part
                .split_once(':')
                .map_or((None, part), |(code, amount)| (Some(code), amount));
            let amount = Decimal::from_str_exact(amount.trim())
                .ok()
                .filter(|amount| !amount.is_sign_negative())
                .ok_or("has an amount that is not a number of at least 0")?;
            match code {
                None => amounts.general = amount,
                Some(code) => {
                    let currency = Currency::from_code(code.trim())
                        .ok_or("has a currency that is not in ISO 4217")?;
                    amounts.by_currency.insert(currency, amount);
                }
            }
        }
        Ok(amounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur() -> Currency {
        Currency::from_code("EUR").expect("EUR")
    }

    #[test]
    fn amounts_hold_for_their_currency_and_the_general_one_for_all_others() {
        let amounts: Amounts = "2.50, JPY:400".parse().expect("amounts");
        let jpy = Currency::from_code("JPY").expect("JPY");
        assert_eq!((amounts.in_minor(eur()), amounts.in_minor(jpy)), (250, 400));
        for wrong in ["", "x", "EUR:", "XXX:1", "-1", "1,EUR:-1"] {
            assert!(wrong.parse::<Amounts>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn halves_round_to_the_even_cent() {
        for (amount, minor) in [
            ("0.005", 0),
            ("0.015", 2),
            ("0.025", 2),
            ("-0.005", 0),
            ("16.5", 1650),
        ] {
            let amount: Decimal = amount.parse().expect("decimal");
            assert_eq!(to_minor(amount, eur()), Ok(minor), "{amount}");
        }
    }

    #[test]
    fn the_minor_unit_is_the_currency_s_own() {
        let yen = Currency::from_code("JPY").expect("JPY");
        assert_eq!(to_minor(Decimal::new(15005, 1), yen), Ok(1500));
        assert_eq!(to_major(1650, eur()).to_string(), "16.50");
    }

    #[test]
    fn an_amount_beyond_64_bits_is_an_error() {
        assert_eq!(to_minor(Decimal::MAX, eur()), Err(AmountTooLarge));
    }

    #[test]
    fn gold_is_not_a_currency_to_bill_in() {
        assert_eq!(Currency::from_code("XAU"), None);
        assert_eq!(Currency::from_code("eur"), None);
    }
}
