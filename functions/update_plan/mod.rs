//! `update_plan`: the next version of a plan. Accounts get it with their next period. For admins.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::history::Entity;
use wharfage::domain::plan::Plan;
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::Id;

use crate::plans::{self, OnePlan as Answered, Terms};

crate::action! {
    /// Makes the next version of a plan. Accounts pay it from their next period on. What is not named stays as it is.
    "update_plan" of Administrators, about (), with plan,
        refuses [PlanNotFound, ChangedMeanwhile]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The plan.
    plan_id: Id,
    #[schemars(flatten)]
    terms: Terms,
    /// The same in all versions of a plan: it is refused.
    storage_type: Option<String>,
}

async fn plan(context: &Context, asked: &Asked) -> Result<Option<Plan>, Error> {
    if asked.storage_type.is_some() {
        let rule = "is the same in all versions of a plan";
        return Err(Rejection::invalid("storage_type", rule).into());
    }
    Ok(context.database.plan(asked.plan_id.0).await?)
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    plan: Option<Plan>,
) -> Result<Answered, Error> {
    let before = plan.ok_or_else(Rejection::plan_not_found)?;
    let mut plan = call.parameters.terms.apply(context, before.clone())?;
    if plan == before {
        return Ok(Answered::from(&plan));
    }
    plan.version += 1;
    let entry = context.entry(
        None,
        &Entity::Plan(plan.id),
        NAME,
        call.caller.actor(),
        plans::plan_json(&plan),
    );
    if !context.database.put_plan(&plan, &entry).await?.is_yes() {
        return Err(Rejection::changed_meanwhile("the plan was changed meanwhile").into());
    }
    Ok(Answered::from(&plan))
}
