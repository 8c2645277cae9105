//! Finds the open invoices whose next step is due.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

crate::job!("chase_invoices");

/// Invoices handed over in one run; the next run goes on.
const AT_MOST: i32 = 1_000;

async fn run(context: &Context) -> Result<Value, Fault> {
    let invoices = context
        .database
        .overdue_invoices(date_of(context.now()), AT_MOST)
        .await?;
    let work: Vec<BillingWork> = invoices
        .into_iter()
        .map(|open| BillingWork::Chase {
            client_id: open.client_id,
            due_on: open.due_on,
            invoice_id: open.invoice_id,
        })
        .collect();
    context.queue.send_billing(&work).await?;
    Ok(json!({ "sent": work.len() }))
}
