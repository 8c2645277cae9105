//! `create_plan`: a new plan. For admins.

use std::collections::BTreeMap;

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::history::Entity;
use wharfage::domain::plan::Plan;
use wharfage::error::{Error, Fault};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{authenticate_admin, token};

use crate::{list_plans, plans};

crate::s3_action!("create_plan", takes [plans::NAMES, &["storage_type"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let blank = Plan {
        id: 0,
        version: 1,
        name: call.parameters.required_text(&["name"])?,
        active: true,
        quota_gb: call
            .parameters
            .required_number(&["quota"], 0..=plans::LARGEST_GB)?,
        storage_limit_gb: None,
        charge_suspended: None,
        stop_at_bandwidth_limit: false,
        storage_type: call
            .parameters
            .text(&["storage_type"])?
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
    let mut plan = plans::with_parameters(context, call, blank)?;
    let caller = authenticate_admin(context, call).await?;
    plan.id = context.database.next_plan_id().await?;
    let entry = context.entry(
        None,
        &Entity::Plan(plan.id),
        NAME,
        caller.actor(),
        list_plans::wire(&plan),
    );
    if !context.database.put_plan(&plan, &entry).await?.is_yes() {
        return Err(Fault::permanent(
            "creating a plan",
            format!("plan {} is there already", plan.id),
        )
        .into());
    }
    Ok(Answer::ok(json!({ "plan": list_plans::wire(&plan) })))
}
