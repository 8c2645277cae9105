//! `update_plan`: the next version of a plan. Accounts pay it from their next period on. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate_admin, token};

use crate::{list_plans, plans};

crate::s3_action!("update_plan", takes [&["plan_id"], plans::NAMES, &["storage_type"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let plan_id = call.parameters.required_number(&["plan_id"], ID)?;
    if call.parameters.text(&["storage_type"])?.is_some() {
        let rule = "is the same in all versions of a plan";
        return Err(Rejection::invalid("storage_type", rule).into());
    }
    let plan = async { Ok(context.database.plan(plan_id).await?) };
    let (caller, plan) = futures::try_join!(authenticate_admin(context, call), plan)?;
    let before = plan.ok_or_else(|| Rejection::not_found("S3 plan not found"))?;
    let mut plan = plans::with_parameters(context, call, before.clone())?;
    if plan == before {
        return Ok(Answer::ok(json!({ "plan": list_plans::wire(&plan) })));
    }
    plan.version += 1;
    let entry = context.entry(
        None,
        &Entity::Plan(plan.id),
        NAME,
        caller.actor(),
        list_plans::wire(&plan),
    );
    if !context.database.put_plan(&plan, &entry).await?.is_yes() {
        return Err(Rejection::changed_meanwhile("the plan was changed meanwhile").into());
    }
    Ok(Answer::ok(json!({ "plan": list_plans::wire(&plan) })))
}
