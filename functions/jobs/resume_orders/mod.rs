//! Takes up orders whose process died, and those that wait for a cluster.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::order::State;
use wharfage::error::Fault;
use wharfage::runtime::{Entry, Function};

use crate::provisioning;

/// Its Lambda function.
pub const FUNCTION: Function = Function {
    name: "resume_orders",
    entry: Entry::Schedule(|context| Box::pin(run(context))),
};

/// Orders taken up in one run; the next run goes on.
const AT_MOST: i32 = 50;

async fn run(context: &Context) -> Result<Value, Fault> {
    let (mut fulfilled, mut undone, mut waiting) = (0u32, 0u32, 0u32);
    for order in context
        .database
        .abandoned_orders(context.now(), AT_MOST)
        .await?
    {
        match provisioning::resume(context, &order.order_id).await {
            Ok(Some(State::Fulfilled)) => fulfilled += 1,
            Ok(Some(_)) => undone += 1,
            Ok(None) => {}
            Err(fault) => {
                // One order that cannot go on must not keep the others waiting.
                tracing::error!(order_id = %order.order_id, error = %fault, "an order could not be carried on");
                waiting += 1;
            }
        }
    }
    Ok(json!({ "fulfilled": fulfilled, "undone": undone, "waiting": waiting }))
}
