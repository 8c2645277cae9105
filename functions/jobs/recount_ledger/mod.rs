//! Queues the reconciliation of every client's books.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::error::Fault;

crate::job!("recount_ledger");

/// Clients recounted by one message.
const BLOCK: u64 = 50;

async fn run(context: &Context) -> Result<Value, Fault> {
    let last = context.database.last_client_id().await?;
    let work: Vec<BillingWork> = (1..=last)
        .step_by(usize::try_from(BLOCK).unwrap_or(1))
        .map(|from| BillingWork::Recount {
            from,
            to: last.min(from + BLOCK - 1),
        })
        .collect();
    context.queue.send_billing(&work).await?;
    Ok(json!({ "clients": last }))
}
