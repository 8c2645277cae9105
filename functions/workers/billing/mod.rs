//! Carries out what the billing jobs found, one piece of work per message.

use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::ClientId;
use wharfage::error::Fault;
use wharfage::telemetry;

use crate::{chasing, closing, ending, suspension, upkeep};

crate::worker!("billing");

async fn handle(context: &Context, body: &str) -> Result<(), Fault> {
    let work: BillingWork =
        serde_json::from_str(body).map_err(|e| Fault::permanent("reading a queue message", e))?;
    match &work {
        BillingWork::Close { s3uid, .. }
        | BillingWork::UpdateCluster { s3uid }
        | BillingWork::End { s3uid } => {
            telemetry::set_account(s3uid);
        }
        BillingWork::Chase { client_id, .. }
        | BillingWork::Settle { client_id }
        | BillingWork::Regroup { client_id } => telemetry::set_client(*client_id),
        BillingWork::Recount { .. } => {}
    }
    match work {
        BillingWork::Close { s3uid, commits_on } => {
            closing::close_period(context, &s3uid, commits_on).await
        }
        BillingWork::UpdateCluster { s3uid } => suspension::take_up(context, &s3uid).await,
        BillingWork::End { s3uid } => ending::end_service(context, &s3uid).await,
        BillingWork::Chase {
            client_id,
            due_on,
            invoice_id,
        } => chasing::chase(context, client_id, due_on, invoice_id).await,
        BillingWork::Settle { client_id } => chasing::settle(context, client_id).await?.1,
        BillingWork::Regroup { client_id } => upkeep::regroup(context, client_id).await,
        BillingWork::Recount { from, to } => {
            for client_id in (from..=to).map(ClientId) {
                telemetry::set_client(client_id);
                upkeep::recount(context, client_id).await?;
            }
            Ok(())
        }
    }
}
