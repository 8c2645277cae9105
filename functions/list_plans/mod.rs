//! `list_plans`: what can be ordered and what it costs.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use wharfage::context::Context;
use wharfage::domain::money::Currency;
use wharfage::domain::plan::{Plan, Prices};
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate, token};

use crate::locations::location;
use crate::plans::number;

crate::s3_action!("list_plans", takes[&["id", "location"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let id = call.parameters.number(&["id"], ID)?;
    let location = location(context, call)?;
    let plans = async { Ok(context.database.plans().await?) };
    let (caller, mut plans) = futures::try_join!(authenticate(context, call), plans)?;
    if caller.is_admin() {
        if let Some(id) = id {
            plans.retain(|plan| plan.id == id);
            if plans.is_empty() {
                return Err(Rejection::not_found("S3 plan not found").into());
            }
        }
    } else if plans.iter().any(|plan| !plan.active) {
        let client = context.database.client(caller.client_id).await?;
        let tags = client.map(|client| client.tags).unwrap_or_default();
        plans.retain(|plan| plan.is_visible_to(&tags));
    }
    if let Some(location) = location {
        plans.retain(|plan| plan.locations.contains(&location));
    }
    let plans: Vec<Value> = plans.iter().map(wire).collect();
    Ok(Answer::ok(json!({ "plans": plans })))
}

/// The currencies that the published API shows of every plan, sold in them or not.
const ALWAYS_NAMED: [&str; 3] = ["EUR", "RUB", "USD"];

/// A plan as the wire shows it.
pub(crate) fn wire(plan: &Plan) -> Value {
    let mut fields = Map::new();
    fields.insert("id".into(), plan.id.into());
    fields.insert("name".into(), plan.name.clone().into());
    fields.insert("active".into(), u8::from(plan.active).into());
    fields.insert("quota".into(), plan.quota_gb.into());
    fields.insert("storage_type".into(), plan.storage_type.clone().into());
    fields.insert("locations".into(), plan.locations.join(",").into());
    let sold_in = plan.prices.keys().map(|currency| currency.code());
    let codes: BTreeSet<&str> = ALWAYS_NAMED.into_iter().chain(sold_in).collect();
    let prices = |prefix: &str, of: fn(&Prices) -> Decimal| -> Vec<(String, Value)> {
        let named = codes.iter().map(|code| {
            let prices = Currency::from_code(code).and_then(|currency| plan.prices.get(&currency));
            let price = prices.map_or(Value::Null, |prices| number(of(prices)));
            (format!("{prefix}_{}", code.to_lowercase()), price)
        });
        named.collect()
    };
    fields.extend(prices("monthly", |prices| prices.monthly));
    fields.insert("bandwidth_limit".into(), plan.included_traffic_gb.into());
    let stops = u8::from(plan.stop_at_bandwidth_limit);
    fields.insert("stop_at_bandwidth_limit".into(), stops.into());
    fields.extend(prices("traffic_overage_price", |prices| {
        prices.traffic_overage_per_gb
    }));
    fields.extend(prices("storage_overage_price", |prices| {
        prices.storage_overage_per_gb_month
    }));
    let price: Map<String, Value> = plan
        .locations
        .iter()
        .map(|location| {
            let by_currency: Map<String, Value> = plan
                .prices
                .keys()
                .filter_map(|currency| {
                    let price = plan.monthly_price(location, *currency).ok()?;
                    Some((currency.code().to_owned(), number(price)))
                })
                .collect();
            (location.clone(), by_currency.into())
        })
        .collect();
    fields.insert("price".into(), price.into());
    fields.insert("storage_limit".into(), plan.enforced_limit_gb().into());
    fields.insert(
        "charge_suspended".into(),
        plan.charge_suspended.map(u8::from).into(),
    );
    fields.insert("version".into(), plan.version.into());
    fields.into()
}
