//! `update_plan`: the next version of a plan. Accounts get it with their next period. For admins.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::history::Entity;
use wharfage::domain::plan::{Plan, PlanId};
use wharfage::error::{Error, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::Id;

use crate::plans::{self, OnePlan as Answered, Terms};

crate::action! {
    /// Creates the next version of a plan. It applies to accounts from their next period. Omitted parameters keep their values.
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
    /// Fixed for all versions of a plan: always rejected.
    storage_type: Option<String>,
}

async fn plan(context: &Context, asked: &Asked) -> Result<Option<Plan>, Error> {
    if asked.storage_type.is_some() {
        let rule = "is the same in all versions of a plan";
        return Err(Rejection::invalid("storage_type", rule).into());
    }
    Ok(context.database.plan(PlanId(asked.plan_id.0)).await?)
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
