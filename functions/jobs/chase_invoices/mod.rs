//! Finds the open invoices whose next dunning step is due.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::OpenInvoice;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;

use crate::billing::hand_over;

crate::job!("chase_invoices");

async fn run(context: &Context) -> Result<Value, Fault> {
    let today = date_of(context.now());
    let find = |limit, after| context.database.overdue_invoices(today, limit, after);
    let chase = |open: OpenInvoice| {
        let work = BillingWork::Chase {
            client_id: open.client_id,
            due_on: open.due_on,
            invoice_id: open.invoice_id,
        };
        (work.group(), work)
    };
    Ok(json!({ "sent": hand_over(context, find, chase).await? }))
}
