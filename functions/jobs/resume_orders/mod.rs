//! Resumes orders whose process died, and those that wait for a cluster.

use futures::future::join_all;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::order::State;
use wharfage::error::Fault;

use crate::provisioning;

crate::job!("resume_orders");

/// Orders taken up in one run; the next run goes on.
const AT_MOST: i32 = 50;

async fn run(context: &Context) -> Result<Value, Fault> {
    let orders = context
        .database
        .abandoned_orders(context.now(), AT_MOST)
        .await?;
    // At once: those that wait for a cluster keep no others waiting.
    let resumed = join_all(
        orders
            .iter()
            .map(|order| provisioning::resume(context, &order.order_id)),
    )
    .await;
    let (mut fulfilled, mut undone, mut waiting) = (0u32, 0u32, 0u32);
    for (order, resumed) in orders.iter().zip(resumed) {
        match resumed {
            Ok(Some(State::Fulfilled)) => fulfilled += 1,
            Ok(Some(_)) => undone += 1,
            Ok(None) => {}
            Err(fault) => {
                // One order that cannot go on must not keep the others waiting.
                if fault.retryable {
                    tracing::warn!(order_id = %order.order_id, error = %fault, "an order is carried on later");
                } else {
                    tracing::error!(order_id = %order.order_id, error = %fault, "an order could not be carried on");
                }
                waiting += 1;
            }
        }
    }
    Ok(json!({ "fulfilled": fulfilled, "undone": undone, "waiting": waiting }))
}
