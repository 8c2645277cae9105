//! `update_client`: changes a client's email, billing group, currency, credit limit, tags or role. Its accounts follow through the billing queue. For
//! admins.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::domain::client::Client;
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;

use crate::clients::{self, OneClient as Answered, Terms, email_taken};

crate::action! {
    /// Changes a client. Omitted parameters keep their values.
    "update_client" of Administrators, about Client,
        refuses [EmailTaken, CurrencyInUse, OwnRole, ChangedMeanwhile]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    #[schemars(flatten)]
    terms: Terms,
}

async fn handle(context: &Context, call: Call<'_, Asked, Client>) -> Result<Answered, Error> {
    let (caller, before) = (call.caller, call.about);
    let client_id = before.client_id;
    let regroups = call.parameters.terms.regroups();
    let mut client = call.parameters.terms.apply(before.clone())?;
    if client.role != before.role {
        client.epoch += 1;
    }
    if client != before {
        if client.role != before.role && client_id == caller.client_id {
            let text = "administrators cannot change their own role";
            return Err(Rejection::new(Reason::OwnRole, text).into());
        }
        // Its accounts are billed in it, with what they owe and what was paid for them.
        if client.currency != before.currency && before.accounts > 0 {
            let text = "the currency can be changed only while the customer has no S3 accounts";
            return Err(Rejection::new(Reason::CurrencyInUse, text).into());
        }
        if client.currency != before.currency {
            let balances = context
                .database
                .balances(client_id, before.currency)
                .await?;
            if !balances.is_even() {
                let text = "the currency can be changed only while the customer has neither credit nor debts";
                return Err(Rejection::new(Reason::CurrencyInUse, text).into());
            }
        }
        let is_new_email = client.email != before.email;
        if is_new_email
            && context
                .database
                .client_id_by_email(&client.email)
                .await?
                .is_some()
        {
            return Err(email_taken().into());
        }
        let entry = context.entry(
            Some(client_id),
            &Entity::Client(client_id),
            NAME,
            caller.actor(),
            clients::client_json(&client),
        );
        if !context
            .database
            .update_client(&before, &client, &entry, &caller.access, None)
            .await?
            .is_yes()
        {
            caller.must_stand(context).await?;
            return Err(Rejection::changed_meanwhile("the client was changed meanwhile").into());
        }
    }
    // Sent again for a retry too: the first try may have died before it.
    if regroups {
        context
            .queue
            .send_billing(&[BillingWork::Regroup { client_id }])
            .await?;
    }
    Ok(Answered::from(&client))
}
