//! Plans: price lists and limits.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::identifier::identifier;
use crate::domain::money::{AmountTooLarge, Currency};

identifier! {
    /// What a plan is known by, in all its versions: a number, stored and shown as such.
    #[derive(Copy)]
    PlanId(u64)
}

/// A plan, in one of its versions. Prices change by a new version; an account keeps the one it pays for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its number.
    pub id: PlanId,
    /// 1, 2, 3 … : which version of it this is.
    pub version: u32,
    /// Shown to people.
    pub name: String,
    /// Whether it can be ordered by everybody.
    pub active: bool,
    /// What an account may store without extra charge, in units of 2^30 bytes.
    pub quota_gb: u64,
    /// What an account may store at all, in units of 2^30 bytes: above it the cluster refuses. See [`Plan::enforced_limit_gb`].
    #[serde(default)]
    pub storage_limit_gb: Option<u64>,
    /// Whether periods that begin while a member of staff has the account suspended are charged, where it is not as the stack's parameter
    /// says.
    #[serde(default)]
    pub charge_suspended: Option<bool>,
    /// For example `Standard` or `Cold`. The same in all versions.
    pub storage_type: String,
    /// Codes of the locations where it is offered.
    pub locations: Vec<String>,
    /// What may be sent in a period without charge, in units of 2^30 bytes.
    pub included_traffic_gb: u64,
    /// Whether the keys of an account that has sent all of that stop until its period ends. See [`Plan::traffic_limit_bytes`].
    #[serde(default)]
    pub stop_at_bandwidth_limit: bool,
    /// What it costs, per currency it is sold in.
    pub prices: BTreeMap<Currency, Prices>,
    /// Recurring prices that differ from [`Prices::monthly`], per location and currency.
    #[serde(default)]
    pub location_prices: BTreeMap<String, BTreeMap<Currency, Decimal>>,
}

/// What a plan costs in one currency, in major units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Per month, in advance.
    pub monthly: Decimal,
    /// Per 2^30 bytes sent above what is included.
    pub traffic_overage_per_gb: Decimal,
    /// Per 2^30 bytes stored above the quota for a whole period.
    pub storage_overage_per_gb_month: Decimal,
}

/// A plan's price that cannot be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// There is none in the currency. What was used is not free for that.
    #[error("plan {plan_id} is not sold in {currency}")]
    NotSold {
        /// The plan.
        plan_id: PlanId,
        /// What it is not sold in.
        currency: Currency,
    },
    /// It does not fit into 64 bits of minor units.
    #[error(transparent)]
    AmountTooLarge(#[from] AmountTooLarge),
}

impl Plan {
    /// What it costs in a currency.
    ///
    /// # Errors
    /// When it is not sold in it.
    pub fn prices_in(&self, currency: Currency) -> Result<&Prices, PriceError> {
        self.prices.get(&currency).ok_or(PriceError::NotSold {
            plan_id: self.id,
            currency,
        })
    }

    /// The recurring price at a location: its own where it has one.
    ///
    /// # Errors
    /// When it is not sold in the currency.
    pub fn monthly_price(&self, location: &str, currency: Currency) -> Result<Decimal, PriceError> {
        let general = self.prices_in(currency)?.monthly;
        let own = self.location_prices.get(location);
        Ok(own
            .and_then(|prices| prices.get(&currency))
            .copied()
            .unwrap_or(general))
    }

    /// The currencies in which it charges for traffic.
    pub fn traffic_currencies(&self) -> impl Iterator<Item = Currency> {
        let prices = self.prices.iter();
        prices
            .filter(|(_, prices)| !prices.traffic_overage_per_gb.is_zero())
            .map(|(currency, _)| *currency)
    }

    /// What an account may send in a period where more is not for sale: the traffic that a plan includes which charges for none in any
    /// currency.
    #[must_use]
    pub fn traffic_limit_bytes(&self) -> Option<u64> {
        let is_sold = self.traffic_currencies().next().is_some();
        (self.included_traffic_gb > 0 && !is_sold).then(|| {
            self.included_traffic_gb
                .saturating_mul(crate::domain::figures::GB_BYTES)
        })
    }

    /// Whether a client may see and order it: an inactive one takes the tag `s3_test`.
    #[must_use]
    pub fn is_visible_to(&self, tags: &[String]) -> bool {
        self.active || tags.iter().any(|tag| tag == "s3_test")
    }

    /// What the cluster lets an account store: the plan's limit, or else the quota of a plan that sells no storage above it. `None` means
    /// as much as it likes, at the price of overage.
    #[must_use]
    pub fn enforced_limit_gb(&self) -> Option<u64> {
        let sells_overage = self
            .prices
            .values()
            .any(|prices| !prices.storage_overage_per_gb_month.is_zero());
        match self.storage_limit_gb {
            Some(limit_gb) => Some(limit_gb.max(self.quota_gb)),
            None if sells_overage => None,
            None => Some(self.quota_gb),
        }
    }

    /// [`Plan::enforced_limit_gb`] in bytes.
    #[must_use]
    pub fn storage_limit_bytes(&self) -> Option<u64> {
        let limit_gb = self.enforced_limit_gb()?;
        Some(limit_gb.saturating_mul(crate::domain::figures::GB_BYTES))
    }

    /// The quota in bytes.
    #[must_use]
    pub fn quota_bytes(&self) -> u64 {
        self.quota_gb
            .saturating_mul(crate::domain::figures::GB_BYTES)
    }
}
