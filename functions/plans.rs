//! Plans as administrators write them, and as everybody is shown them, under the same names.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, to_value};
use wharfage::context::Context;
use wharfage::domain::money::{Currency, to_minor};
use wharfage::domain::plan::{Plan, PlanId, Prices};
use wharfage::error::{Reason, Rejection};
use wharfage::http::typed::{Given, Object, PerCurrency};
use wharfage::http::values::{Number, Whole};

use crate::locations;

/// Prices per unit are finer than cents, but not endlessly so.
const MOST_DECIMAL_PLACES: u32 = 9;
const LARGEST_GB: u64 = 1 << 40;

/// What a call may say of a plan. What it does not name stays as it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Terms {
    /// The plan's name.
    #[schemars(extend("examples" = ["Archive 5 TB"]))]
    name: Option<String>,
    /// 1 if every client can order it, 0 if only clients with a matching tag can. A new plan has 1.
    active: Option<Whole<0, 1>>,
    /// The included storage, in GB of 2^30 bytes.
    quota: Option<Whole<0, LARGEST_GB>>,
    /// The storage limit in GB; empty for none beyond what the prices imply.
    #[serde(default)]
    storage_limit: Given<Whole<0, LARGEST_GB>>,
    /// 1 if suspended accounts are charged, 0 if not; empty for the installation's default.
    #[serde(default)]
    charge_suspended: Given<Whole<0, 1>>,
    /// The traffic included in a period, in GB. A new plan has 0.
    bandwidth_limit: Option<Whole<0, LARGEST_GB>>,
    /// 1 if the keys stop working when the included traffic is used up.
    stop_at_bandwidth_limit: Option<Whole<0, 1>>,
    /// The codes of the locations where it is offered, comma-separated. A new plan is offered everywhere.
    #[schemars(extend("examples" = ["NL,DE"]))]
    locations: Option<String>,
    /// The monthly price, per currency that the plan is sold in. A new plan needs at least one.
    #[serde(rename = "monthly_*")]
    monthly: PerCurrency,
    /// The price of a GB of traffic beyond what is included.
    #[serde(rename = "traffic_overage_price_*")]
    traffic_overage_price: PerCurrency,
    /// The price of a GB stored for a month beyond the quota.
    #[serde(rename = "storage_overage_price_*")]
    storage_overage_price: PerCurrency,
    /// Other prices of a month at single locations: `{"NL": {"EUR": 15.0}}`, or as a form `price[NL][EUR]=15.0`. Null or nothing takes a
    /// location's own price away.
    price: Option<Object>,
}

impl Terms {
    /// The name and the quota of a plan that is to be made.
    ///
    /// # Errors
    /// When one of them is missing.
    pub(crate) fn required(&self) -> Result<(String, u64), Rejection> {
        match (&self.name, self.quota) {
            (None, _) => Err(Rejection::missing("name")),
            (_, None) => Err(Rejection::missing("quota")),
            (Some(name), Some(Whole(quota_gb))) => Ok((name.clone(), quota_gb)),
        }
    }

    /// The plan with what was said of it.
    ///
    /// # Errors
    /// Names the parameter that is wrong or missing.
    pub(crate) fn apply(self, context: &Context, mut plan: Plan) -> Result<Plan, Rejection> {
        let sold_before: BTreeSet<Currency> = plan.prices.keys().copied().collect();
        if let Some(locations) = &self.locations {
            plan.locations = locations
                .split(',')
                .map(|named| locations::code(context, named.trim()).map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    let codes = locations::codes(context).join(", ");
                    let rule = format!("must be of {codes}, with commas between");
                    Rejection::invalid("locations", &rule)
                })?;
        }
        let monthly_given = self.set_prices(&mut plan)?;
        if let Some(name) = self.name {
            plan.name = name;
        }
        if let Some(Whole(active)) = self.active {
            plan.active = active == 1;
        }
        if let Some(Whole(quota_gb)) = self.quota {
            plan.quota_gb = quota_gb;
        }
        self.storage_limit
            .apply(|limit| plan.storage_limit_gb = limit.map(|Whole(limit_gb)| limit_gb));
        self.charge_suspended
            .apply(|charged| plan.charge_suspended = charged.map(|Whole(charged)| charged == 1));
        if let Some(Whole(included_gb)) = self.bandwidth_limit {
            plan.included_traffic_gb = included_gb;
        }
        if let Some(Whole(stops)) = self.stop_at_bandwidth_limit {
            plan.stop_at_bandwidth_limit = stops == 1;
        }
        if let Some(by_location) = &self.price {
            set_location_prices(context, &mut plan, by_location)?;
        }
        let locations = &plan.locations;
        plan.location_prices
            .retain(|location, _| locations.contains(location));
        check(context, &plan, &sold_before, &monthly_given)?;
        Ok(plan)
    }

    /// Sets the prices that stand once per currency. The currencies whose price of a month was among them.
    fn set_prices(&self, plan: &mut Plan) -> Result<BTreeSet<Currency>, Rejection> {
        let mut monthly_given = BTreeSet::new();
        let kinds: [(&PerCurrency, &str, SetPrice); 3] = [
            (&self.monthly, MONTHLY, |prices, price| {
                prices.monthly = price
            }),
            (
                &self.traffic_overage_price,
                TRAFFIC_OVERAGE,
                |prices, price| prices.traffic_overage_per_gb = price,
            ),
            (
                &self.storage_overage_price,
                STORAGE_OVERAGE,
                |prices, price| prices.storage_overage_per_gb_month = price,
            ),
        ];
        for (PerCurrency(texts), prefix, set) in kinds {
            for (name, text) in texts {
                let price = price(name, text)?;
                let code = name.trim_start_matches(prefix).to_uppercase();
                let currency = currency(name, &code)?;
                set(plan.prices.entry(currency).or_insert_with(free), price);
                if prefix == MONTHLY {
                    monthly_given.insert(currency);
                }
            }
        }
        Ok(monthly_given)
    }
}

/// Checks what a plan says as a whole.
fn check(
    context: &Context,
    plan: &Plan,
    sold_before: &BTreeSet<Currency>,
    monthly_given: &BTreeSet<Currency>,
) -> Result<(), Rejection> {
    if plan.prices.is_empty() {
        return Err(Rejection::missing("monthly_eur"));
    }
    // A price that is left out is not a price of nothing.
    let mut sold = plan.prices.keys();
    if let Some(currency) =
        sold.find(|currency| !sold_before.contains(currency) && !monthly_given.contains(currency))
    {
        return Err(Rejection::missing(&price_name(MONTHLY, *currency)));
    }
    // Where storage above the quota costs something the cluster lets it be stored, whatever the client is billed in.
    let charges = |prices: &Prices| !prices.storage_overage_per_gb_month.is_zero();
    let free_of_charge = plan.prices.iter().find(|(_, prices)| !charges(prices));
    if let Some((currency, _)) = free_of_charge
        && plan.prices.values().any(charges)
    {
        return Err(Rejection::invalid(
            &price_name(STORAGE_OVERAGE, *currency),
            "must be above 0, as it is in another currency",
        ));
    }
    if plan.stop_at_bandwidth_limit && plan.traffic_limit_bytes().is_none() {
        return Err(Rejection::invalid(
            "stop_at_bandwidth_limit",
            "must be 0 for a plan that charges for traffic or has no bandwidth_limit",
        ));
    }
    for (currency, prices) in &plan.prices {
        if to_minor(prices.monthly, *currency).is_err() {
            return Err(Rejection::invalid("monthly", "is too large"));
        }
    }
    let mut by_location = plan.location_prices.values().flatten();
    if by_location.any(|(currency, price)| to_minor(*price, *currency).is_err()) {
        return Err(Rejection::invalid("price", "is too large"));
    }
    if let Some(currency) = plan.traffic_currencies().next()
        && let Some(location) = uncounted(context, plan).next()
    {
        let name = price_name(TRAFFIC_OVERAGE, currency);
        let rule = format!("must be 0 for a plan offered at {location}, which counts no traffic");
        return Err(Rejection::invalid(&name, &rule));
    }
    Ok(())
}

/// The plan's locations whose clusters count no traffic.
fn uncounted<'a>(context: &'a Context, plan: &'a Plan) -> impl Iterator<Item = &'a str> {
    let counts_traffic = |code: &str| {
        let cluster = context.clusters.get(code);
        cluster.is_none_or(|cluster| cluster.capabilities().traffic)
    };
    let locations = plan.locations.iter().map(String::as_str);
    locations.filter(move |code| !counts_traffic(code))
}

/// Checks that what a plan charges for can be told at a location. Plans are checked when they are written; but what a location counts is
/// its operator's to change.
///
/// # Errors
/// Names the location.
pub(crate) fn check_counted(
    context: &Context,
    plan: &Plan,
    location: &str,
) -> Result<(), Rejection> {
    let is_charged = plan.traffic_currencies().next().is_some();
    if is_charged && uncounted(context, plan).any(|code| code == location) {
        return Err(Rejection::new(
            Reason::PlanNotAvailable,
            format!("the plan charges for traffic, and location {location} counts none"),
        ));
    }
    Ok(())
}

const MONTHLY: &str = "monthly_";
const TRAFFIC_OVERAGE: &str = "traffic_overage_price_";
const STORAGE_OVERAGE: &str = "storage_overage_price_";

/// A price's name on the wire.
fn price_name(prefix: &str, currency: Currency) -> String {
    format!("{prefix}{}", currency.code().to_lowercase())
}

/// How a price is set.
type SetPrice = fn(&mut Prices, Decimal);

fn free() -> Prices {
    Prices {
        monthly: Decimal::ZERO,
        traffic_overage_per_gb: Decimal::ZERO,
        storage_overage_per_gb_month: Decimal::ZERO,
    }
}

/// A decimal number in digits and at most one point, not negative.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

fn price(name: &str, text: &str) -> Result<Decimal, Rejection> {
    match decimal(text) {
        Some(price) if price.scale() <= MOST_DECIMAL_PLACES => Ok(price),
        _ => Err(Rejection::invalid(
            name,
            "must be a decimal number, not negative, with at most 9 places",
        )),
    }
}

fn currency(name: &str, code: &str) -> Result<Currency, Rejection> {
    Currency::from_code(code)
        .ok_or_else(|| Rejection::invalid(name, "does not name an ISO 4217 currency"))
}

/// `{"NL": {"EUR": 15.0}}`, or as a form `price[NL][EUR]=15.0`. Null, or nothing, takes a location's own price away.
fn set_location_prices(
    context: &Context,
    plan: &mut Plan,
    by_location: &serde_json::Map<String, Value>,
) -> Result<(), Rejection> {
    let rule = "must hold a price per currency for locations of the plan";
    for (named, by_currency) in by_location {
        let by_currency = by_currency
            .as_object()
            .ok_or_else(|| Rejection::invalid("price", rule))?;
        // A location that is not configured any more is known by its plan alone.
        let location = locations::code(context, named).unwrap_or(named);
        if !plan.locations.iter().any(|code| code == location) {
            return Err(Rejection::invalid("price", rule));
        }
        let prices = plan.location_prices.entry(location.to_owned()).or_default();
        for (code, value) in by_currency {
            let currency = currency("price", code)?;
            if value.is_null() || value == "" {
                prices.remove(&currency);
                continue;
            }
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            prices.insert(currency, price("price", &text)?);
        }
    }
    plan.location_prices.retain(|_, prices| !prices.is_empty());
    Ok(())
}

/// The currencies that the published API shows of every plan, sold in them or not.
const ALWAYS_NAMED: [&str; 3] = ["EUR", "RUB", "USD"];

/// A plan. Prices stand once per currency, those of the published API always, null where the plan is not sold in them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanShown {
    /// Its number.
    id: PlanId,
    /// Its name.
    name: String,
    /// 1 if every client can order it.
    active: u8,
    /// The included storage, in GB of 2^30 bytes.
    quota: u64,
    /// The storage type.
    storage_type: String,
    /// The codes of the locations where it is offered, comma-separated.
    locations: String,
    #[serde(flatten)]
    monthly: Monthly,
    /// The traffic included in a period, in GB.
    bandwidth_limit: u64,
    /// 1 if the keys stop working when the included traffic is used up.
    stop_at_bandwidth_limit: u8,
    #[serde(flatten)]
    traffic_overage_price: TrafficOverage,
    #[serde(flatten)]
    storage_overage_price: StorageOverage,
    /// The monthly price by location and currency.
    price: Map<String, Value>,
    /// The storage limit in GB; null if storage above the quota is charged instead of refused.
    storage_limit: Option<u64>,
    /// 1 if suspended accounts are charged; null for the installation's default.
    charge_suspended: Option<u8>,
    /// Its version.
    version: u32,
}

/// A price per currency, under names that begin alike.
macro_rules! prices {
    ($kind:ident, $pattern:literal, $docs:literal) => {
        #[doc = $docs]
        #[derive(Debug, Serialize)]
        struct $kind(Map<String, Value>);

        impl JsonSchema for $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($kind).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schemars::json_schema!({
                    "type": "object",
                    "patternProperties": { $pattern: { "type": ["number", "null"], "description": $docs } },
                })
            }
        }
    };
}
prices!(Monthly, "^monthly_[a-z]{3}$", "The price of a month.");
prices!(
    TrafficOverage,
    "^traffic_overage_price_[a-z]{3}$",
    "The price of a GB sent above what is included."
);
prices!(
    StorageOverage,
    "^storage_overage_price_[a-z]{3}$",
    "The price of a GB stored for a month above the quota."
);

impl From<&Plan> for PlanShown {
    fn from(plan: &Plan) -> PlanShown {
        let sold_in = plan.prices.keys().map(|currency| currency.code());
        let codes: BTreeSet<&str> = ALWAYS_NAMED.into_iter().chain(sold_in).collect();
        let prices = |prefix: &str, of: fn(&Prices) -> Decimal| -> Map<String, Value> {
            let named = codes.iter().map(|code| {
                let prices =
                    Currency::from_code(code).and_then(|currency| plan.prices.get(&currency));
                let price = prices.map_or(Value::Null, |prices| price_json(of(prices)));
                (format!("{prefix}_{}", code.to_lowercase()), price)
            });
            named.collect()
        };
        let price = plan.locations.iter().map(|location| {
            let by_currency: Map<String, Value> = plan
                .prices
                .keys()
                .filter_map(|currency| {
                    let price = plan.monthly_price(location, *currency).ok()?;
                    Some((currency.code().to_owned(), price_json(price)))
                })
                .collect();
            (location.clone(), by_currency.into())
        });
        PlanShown {
            id: plan.id,
            name: plan.name.clone(),
            active: plan.active.into(),
            quota: plan.quota_gb,
            storage_type: plan.storage_type.clone(),
            locations: plan.locations.join(","),
            monthly: Monthly(prices("monthly", |prices| prices.monthly)),
            bandwidth_limit: plan.included_traffic_gb,
            stop_at_bandwidth_limit: plan.stop_at_bandwidth_limit.into(),
            traffic_overage_price: TrafficOverage(prices("traffic_overage_price", |prices| {
                prices.traffic_overage_per_gb
            })),
            storage_overage_price: StorageOverage(prices("storage_overage_price", |prices| {
                prices.storage_overage_per_gb_month
            })),
            price: price.collect(),
            storage_limit: plan.enforced_limit_gb(),
            charge_suspended: plan.charge_suspended.map(u8::from),
            version: plan.version,
        }
    }
}

/// A price in an answer.
fn price_json(price: Decimal) -> Value {
    to_value(Number(price)).unwrap_or_default()
}

/// A plan in the history, as [`PlanShown`].
pub(crate) fn plan_json(plan: &Plan) -> Value {
    to_value(PlanShown::from(plan)).unwrap_or_default()
}

/// What `create_plan` and `update_plan` answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OnePlan {
    /// The plan.
    plan: PlanShown,
}

impl From<&Plan> for OnePlan {
    fn from(plan: &Plan) -> OnePlan {
        OnePlan { plan: plan.into() }
    }
}
