//! `list_plans`: what can be ordered and what it costs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::plan::{Plan, PlanId};
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::{Id, Whole};

use crate::locations;
use crate::plans::PlanShown;

crate::action! {
    /// Lists the plans that can be ordered, with prices.
    "list_plans" of Everybody, about (), with plans,
        refuses [PlanNotFound]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// For administrators, one plan. Ignored for clients.
    id: Option<Id>,
    /// Filter: the location where a plan is offered.
    #[schemars(extend("examples" = ["NL"]))]
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
    let id = call.parameters.id.map(|Whole(id)| PlanId(id));
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
