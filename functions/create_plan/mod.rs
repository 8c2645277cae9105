//! `create_plan`: a new plan. For admins.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::history::Entity;
use wharfage::domain::plan::{Plan, PlanId};
use wharfage::error::{Error, Fault};
use wharfage::http::subject::Call;

use crate::plans::{self, OnePlan as Answered, Terms};

crate::action! {
    /// Creates a plan.
    "create_plan" of Administrators, about (), with plan
}

/// What it takes. `name` and `quota` are needed, and a price of a month in one currency.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["name", "quota"]))]
pub struct Asked {
    #[schemars(flatten)]
    terms: Terms,
    /// The storage type, a label to filter accounts by.
    #[schemars(extend("default" = "Standard"))]
    #[schemars(extend("examples" = ["Standard"]))]
    storage_type: Option<String>,
}

/// The plan as it will be, but for its number.
async fn plan(context: &Context, asked: &Asked) -> Result<Plan, Error> {
    let (name, quota_gb) = asked.terms.required()?;
    let blank = Plan {
        id: PlanId(0),
        version: 1,
        name,
        active: true,
        quota_gb,
        storage_limit_gb: None,
        charge_suspended: None,
        stop_at_bandwidth_limit: false,
        storage_type: asked
            .storage_type
            .clone()
            .unwrap_or_else(|| "Standard".into()),
        locations: context
            .clusters
            .iter()
            .map(|cluster| cluster.location.code.clone())
            .collect(),
        included_traffic_gb: 0,
        prices: BTreeMap::new(),
        location_prices: BTreeMap::new(),
    };
    Ok(asked.terms.clone().apply(context, blank)?)
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    mut plan: Plan,
) -> Result<Answered, Error> {
    plan.id = context.database.next_plan_id().await?;
    let entry = context.entry(
        None,
        &Entity::Plan(plan.id),
        NAME,
        call.caller.actor(),
        plans::plan_json(&plan),
    );
    if !context.database.put_plan(&plan, &entry).await?.is_yes() {
        return Err(Fault::permanent(
            "creating a plan",
            format!("plan {} is there already", plan.id),
        )
        .into());
    }
    Ok(Answered::from(&plan))
}
