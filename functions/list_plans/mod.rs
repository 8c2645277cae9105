//! `list_plans`: what can be ordered and what it costs.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, to_value};
use wharfage::context::Context;
use wharfage::domain::money::Currency;
use wharfage::domain::plan::{Plan, Prices};
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{Id, Number, Whole};

use crate::locations;

crate::action! {
    /// Lists what can be ordered and what it costs.
    "list_plans" of Everybody, about (), with plans,
        refuses [PlanNotFound]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// Only this plan, if an administrator asks. Published clients send it without need.
    id: Option<Id>,
    /// Only the plans that are offered there.
    location: Option<String>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The plans.
    plans: Vec<PlanShown>,
}

async fn plans(context: &Context, asked: &Asked) -> Result<(Option<String>, Vec<Plan>), Error> {
    let location = locations::known(context, asked.location.as_deref())?;
    Ok((location, context.database.plans().await?))
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    (location, mut plans): (Option<String>, Vec<Plan>),
) -> Result<Answered, Error> {
    let id = call.parameters.id.map(|Whole(id)| id);
    if call.caller.is_admin() {
        if let Some(id) = id {
            plans.retain(|plan| plan.id == id);
            if plans.is_empty() {
                return Err(Rejection::plan_not_found().into());
            }
        }
    } else if plans.iter().any(|plan| !plan.active) {
        let client = context.database.client(call.caller.client_id).await?;
        let tags = client.map(|client| client.tags).unwrap_or_default();
        plans.retain(|plan| plan.is_visible_to(&tags));
    }
    if let Some(location) = location {
        plans.retain(|plan| plan.locations.contains(&location));
    }
    Ok(Answered {
        plans: plans.iter().map(PlanShown::from).collect(),
    })
}

/// The currencies that the published API shows of every plan, sold in them or not.
const ALWAYS_NAMED: [&str; 3] = ["EUR", "RUB", "USD"];

/// A plan. Prices stand once per currency, those of the published API always, null where the plan is not sold in them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanShown {
    /// Its number.
    id: u64,
    /// What it is called.
    name: String,
    /// 1 if it can be ordered by everybody.
    active: u8,
    /// The storage that is included, in GB of 2^30 bytes.
    quota: u64,
    /// The kind of storage.
    storage_type: String,
    /// The codes of the locations where it is offered, with commas between.
    locations: String,
    #[serde(flatten)]
    monthly: Monthly,
    /// The traffic that is included in a period, in GB.
    bandwidth_limit: u64,
    /// 1 if the keys stop when the traffic is used up.
    stop_at_bandwidth_limit: u8,
    #[serde(flatten)]
    traffic_overage_price: TrafficOverage,
    #[serde(flatten)]
    storage_overage_price: StorageOverage,
    /// The price of a month by location and currency.
    price: Map<String, Value>,
    /// The most that can be stored, in GB; null where more is charged and not refused.
    storage_limit: Option<u64>,
    /// 1 if suspended accounts are charged; null for what the installation says.
    charge_suspended: Option<u8>,
    /// How often it was changed.
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
                let price = prices.map_or(Value::Null, |prices| number(of(prices)));
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
                    Some((currency.code().to_owned(), number(price)))
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
fn number(price: Decimal) -> Value {
    to_value(Number(price)).unwrap_or_default()
}

/// A plan in the history, as [`PlanShown`].
pub(crate) fn wire(plan: &Plan) -> Value {
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
