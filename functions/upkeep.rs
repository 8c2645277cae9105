//! Upkeep of what belongs to a client: its accounts' listing groups, and its ledger recounted.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::account::Group;
use wharfage::domain::credential::hash;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::ledger::Balances;
use wharfage::domain::money::Currency;
use wharfage::domain::period::date_of;
use wharfage::error::Fault;
use wharfage::telemetry::{self, Figure};

use crate::billing::TRIES;

/// Brings a client's accounts to its email and its billing group.
pub(crate) async fn regroup(context: &Context, client_id: u64) -> Result<(), Fault> {
    let Some(client) = context.database.client(client_id).await? else {
        return Ok(());
    };
    for listed in context.database.client_accounts(client_id).await? {
        let Some(account) = context.database.account(&listed.s3uid).await? else {
            continue;
        };
        let is_right = account.email == client.email && account.billing == client.billing;
        if is_right || account.group_key.is_none() {
            continue;
        }
        let group = Group {
            plan_id: account.plan_id,
            storage_type: account.storage_type.clone(),
            location: account.location.clone(),
            billing: client.billing.clone(),
        };
        context.database.put_group(&group).await?;
        if !context
            .database
            .regroup_account(&account, &client.email, &group)
            .await?
        {
            return Err(Fault::retryable(
                "regrouping accounts",
                "somebody else is changing one",
            ));
        }
    }
    Ok(())
}

/// Recounts a client's balances from its postings, and tells of the differences, by currency; none is as it should be.
pub(crate) async fn recount(context: &Context, client_id: u64) -> Result<(), Fault> {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let differences = differences(context, client_id).await?;
        if differences != seen {
            // Something may have been posted between the reading of the postings and of the balances: what is wrong stays so.
            seen = differences;
            continue;
        }
        telemetry::add(Figure::LedgerDifferences, differences.len() as u64);
        let now = context.now();
        for difference in differences {
            tracing::error!(%difference, "a ledger balance is not what its postings add up to");
            let event = Event {
                // Told once a day, however often it is found.
                event_id: hash(&format!("{} {difference}", date_of(now))),
                at: now,
                kind: Kind::LedgerDifference,
                client_id,
                s3uid: None,
                detail: difference,
            };
            context.database.put_event(&event).await?;
        }
        return Ok(());
    }
    Err(Fault::retryable(
        "recounting balances",
        format!("those of client {client_id} keep changing"),
    ))
}

async fn differences(context: &Context, client_id: u64) -> Result<Vec<Value>, Fault> {
    let (postings, balances) = futures::try_join!(
        context.database.postings(client_id),
        context.database.all_balances(client_id)
    )?;
    let mut counted: BTreeMap<Currency, Balances> = BTreeMap::new();
    for posting in &postings {
        counted.entry(posting.currency).or_default().apply(posting);
    }
    let mut differences = Vec::new();
    for (currency, stored) in &balances {
        let mut sum = counted.remove(currency).unwrap_or_default();
        sum.invoices = stored.invoices;
        if sum != *stored || stored.sum_minor() != 0 {
            differences.push(json!({ "client_id": client_id, "currency": currency, "stored": stored, "counted": sum }));
        }
    }
    for (currency, sum) in counted {
        differences.push(
            json!({ "client_id": client_id, "currency": currency, "stored": null, "counted": sum }),
        );
    }
    Ok(differences)
}
