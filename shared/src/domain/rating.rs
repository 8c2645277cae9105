//! Rating: what a period's usage costs. Exact to the end; each invoice line is rounded once, half to even.
//!
//! - **Storage** is rated in byte-hours. The quota includes `quota × hours of the period`; what is above that is charged per GB-month,
//!   where a month is the period's real length in hours. So twice the quota for half the period costs nothing extra, and a longer month
//!   does not cost more than a shorter one. (Hetzner Object Storage counts so: 1 TB included is 744 TB-hours in a month of 31 days. The
//!   GB-month is Hitachi Content Platform's chargeback formula: the sum of hourly GB over the hours of the month.)
//! - **Traffic** is rated on bytes sent above what the plan includes.

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::figures::GB_BYTES;
use crate::domain::money::{AmountTooLarge, Currency};

/// An exact amount of money: a fraction of minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exact {
    numerator: BigInt,
    denominator: BigInt,
}

impl Exact {
    /// `price × numerator / denominator`, where the price is in major units.
    #[must_use]
    pub fn share(price: Decimal, currency: Currency, numerator: u128, denominator: u128) -> Exact {
        let minor_units = BigInt::from(10u32).pow(currency.exponent());
        Exact {
            numerator: BigInt::from(price.mantissa()) * minor_units * BigInt::from(numerator),
            denominator: BigInt::from(10u32).pow(price.scale()) * BigInt::from(denominator.max(1)),
        }
    }

    /// In minor units, half to even.
    ///
    /// # Errors
    /// When it does not fit into 64 bits.
    pub fn round(&self) -> Result<i64, AmountTooLarge> {
        let (floor, rest) = self.numerator.div_mod_floor(&self.denominator);
        let twice: BigInt = rest * 2u32;
        let up = match twice.cmp(&self.denominator) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => floor.is_odd(),
            std::cmp::Ordering::Greater => true,
        };
        let rounded = if up { floor + 1u32 } else { floor };
        i64::try_from(rounded).map_err(|_| AmountTooLarge)
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.numerator.sign() == Sign::NoSign
    }
}

/// The storage of a period against its quota, as an invoice line explains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageOverage {
    /// What was stored, summed up hour by hour.
    #[serde(with = "crate::domain::figures::text")]
    pub stored_byte_hours: u128,
    /// What the quota includes.
    #[serde(with = "crate::domain::figures::text")]
    pub included_byte_hours: u128,
    /// What is above it.
    #[serde(with = "crate::domain::figures::text")]
    pub overage_byte_hours: u128,
    /// The period's length, also where a part of it is charged.
    pub hours: u32,
    /// Per 2^30 bytes stored for the whole period, in major units.
    pub price_per_gb_month: Decimal,
}

impl StorageOverage {
    /// The storage of `part_hours` of a period of `hours` against a quota.
    #[must_use]
    pub fn of(
        stored_byte_hours: u128,
        quota_bytes: u64,
        part_hours: u32,
        hours: u32,
        price_per_gb_month: Decimal,
    ) -> StorageOverage {
        let included_byte_hours = u128::from(quota_bytes) * u128::from(part_hours);
        StorageOverage::above(
            stored_byte_hours,
            included_byte_hours,
            hours,
            price_per_gb_month,
        )
    }

    /// The storage of a period of `hours`, or of a part of it, against what is included in that.
    #[must_use]
    pub fn above(
        stored_byte_hours: u128,
        included_byte_hours: u128,
        hours: u32,
        price_per_gb_month: Decimal,
    ) -> StorageOverage {
        StorageOverage {
            stored_byte_hours,
            included_byte_hours,
            overage_byte_hours: stored_byte_hours.saturating_sub(included_byte_hours),
            hours,
            price_per_gb_month,
        }
    }

    /// What it costs.
    #[must_use]
    pub fn amount(&self, currency: Currency) -> Exact {
        let gb_hours_of_month = u128::from(GB_BYTES) * u128::from(self.hours);
        Exact::share(
            self.price_per_gb_month,
            currency,
            self.overage_byte_hours,
            gb_hours_of_month,
        )
    }
}

/// The traffic of a period against what is included, as an invoice line explains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficOverage {
    /// Traffic sent.
    pub bytes_sent: u64,
    /// What the plan includes.
    pub included_bytes: u64,
    /// What is above it.
    pub overage_bytes: u64,
    /// Per 2^30 bytes, in major units.
    pub price_per_gb: Decimal,
}

impl TrafficOverage {
    /// What was sent in a period against what the plan includes.
    #[must_use]
    pub fn of(bytes_sent: u64, included_bytes: u64, price_per_gb: Decimal) -> TrafficOverage {
        TrafficOverage {
            bytes_sent,
            included_bytes,
            overage_bytes: bytes_sent.saturating_sub(included_bytes),
            price_per_gb,
        }
    }

    /// What it costs.
    #[must_use]
    pub fn amount(&self, currency: Currency) -> Exact {
        Exact::share(
            self.price_per_gb,
            currency,
            u128::from(self.overage_bytes),
            u128::from(GB_BYTES),
        )
    }
}

/// What a part of a period has of the traffic that the plan includes: the hours `[first_hour, end_hour)` of the period's `hours`. In
/// whole bytes, and so that the parts of a period add up to exactly what is included in the whole.
#[must_use]
pub fn included_share(included_bytes: u64, first_hour: u32, end_hour: u32, hours: u32) -> u64 {
    let until =
        |hour: u32| u128::from(included_bytes) * u128::from(hour) / u128::from(hours.max(1));
    let share = until(end_hour).saturating_sub(until(first_hour));
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TB: u64 = 1 << 40;

    fn eur() -> Currency {
        Currency::from_code("EUR").expect("EUR")
    }

    /// Hetzner Object Storage, "Pricing": 1 TB of storage is included, which is 744 TB-hours in a month of 31 days.
    #[test]
    fn the_quota_for_the_whole_month_is_no_overage_and_twice_the_quota_is_as_much_again() {
        let hours = 744;
        let once = StorageOverage::of(u128::from(TB) * 744, TB, hours, hours, Decimal::new(5, 3));
        assert_eq!(once.overage_byte_hours, 0);
        let twice = StorageOverage::of(
            2 * u128::from(TB) * 744,
            TB,
            hours,
            hours,
            Decimal::new(5, 3),
        );
        assert_eq!(twice.overage_byte_hours, 744 * u128::from(TB));
        // 1,024 GB-months at 0.005
        assert_eq!(twice.amount(eur()).round(), Ok(512));
    }

    /// Hitachi Content Platform, "Chargeback report" example: in March, 100 GB for 15 days and then 100 TB for 16 days are 52,900 GB-months.
    #[test]
    fn a_month_of_two_halves_is_the_sum_of_its_hours() {
        let gb = u128::from(GB_BYTES);
        let byte_hours = 100 * gb * 15 * 24 + 100 * u128::from(TB) * 16 * 24;
        let storage = StorageOverage::of(byte_hours, 0, 744, 744, Decimal::ONE);
        assert_eq!(storage.amount(eur()).round(), Ok(5_290_000));
    }

    #[test]
    fn a_gb_month_costs_the_same_in_every_month() {
        for days in [28u32, 29, 30, 31] {
            let hours = days * 24;
            let storage = StorageOverage::of(
                u128::from(GB_BYTES) * u128::from(hours) * 10,
                0,
                hours,
                hours,
                Decimal::new(1, 1),
            );
            assert_eq!(storage.amount(eur()).round(), Ok(100), "{days} days");
        }
    }

    #[test]
    fn halves_of_a_cent_round_to_the_even_one() {
        let cents = |tenths: u128| Exact::share(Decimal::new(1, 3), eur(), tenths, 1).round();
        assert_eq!(cents(5), Ok(0));
        assert_eq!(cents(15), Ok(2));
        assert_eq!(cents(25), Ok(2));
        assert_eq!(cents(26), Ok(3));
    }

    #[test]
    fn traffic_is_charged_from_the_first_byte_above() {
        let included = 1000 * GB_BYTES;
        assert!(
            TrafficOverage::of(included, included, Decimal::new(5, 1))
                .amount(eur())
                .is_zero()
        );
        let above = TrafficOverage::of(included + GB_BYTES / 2, included, Decimal::new(5, 1));
        assert_eq!(above.overage_bytes, GB_BYTES / 2);
        assert_eq!(above.amount(eur()).round(), Ok(25));
    }

    proptest! {
        #[test]
        fn the_parts_of_a_period_include_what_the_whole_does(included in any::<u64>(), a in 0u32..=744, b in 0u32..=744) {
            let (a, b) = (a.min(b), a.max(b));
            let shares = [(0, a), (a, b), (b, 744)].map(|(from, to)| u128::from(included_share(included, from, to, 744)));
            prop_assert_eq!(shares.iter().sum::<u128>(), u128::from(included));
        }

        #[test]
        fn rating_never_overflows_nor_falls_below_zero(stored in any::<u64>(), hours in 1u32..=744, quota in any::<u64>(), mantissa in 0i64..1_000_000_000, scale in 0u32..10) {
            let storage = StorageOverage::of(u128::from(stored) * u128::from(hours), quota, hours, hours, Decimal::new(mantissa, scale));
            let amount = storage.amount(eur());
            prop_assert!(amount.round().is_ok_and(|minor| minor >= 0) || amount.round().is_err());
        }
    }
}
