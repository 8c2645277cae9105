//! `create_client`: a new client. For admins.

use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::credential::Maker;
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Fault};
use wharfage::http::subject::Call;

use crate::clients::{self, OneClient as Answered, Terms, email_taken};

crate::action! {
    /// Creates a client.
    "create_client" of Administrators, about (), with load,
        refuses [EmailTaken]
}

/// What it takes. `email` and `currency` are needed.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["email", "currency"]))]
pub struct Asked {
    #[schemars(flatten)]
    terms: Terms,
}

/// The client as it will be, but for its number, and the number of one that has its email already.
async fn load(context: &Context, asked: &Asked) -> Result<(Client, Option<ClientId>), Error> {
    let currency = asked.terms.required()?;
    let blank = Client {
        client_id: ClientId(0),
        email: String::new(),
        role: Role::Client,
        billing: "direct".into(),
        currency,
        tags: Vec::new(),
        accounts: 0,
        free_accounts: 0,
        epoch: 0,
        made_by: None,
        credit_limit_minor: None,
    };
    let client = asked.terms.clone().apply(blank)?;
    let known = context.database.client_id_by_email(&client.email).await?;
    Ok((client, known))
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    (mut client, known): (Client, Option<ClientId>),
) -> Result<Answered, Error> {
    if known.is_some() {
        return Err(email_taken().into());
    }
    client.client_id = context.database.next_client_id().await?;
    client.made_by = Some(Maker::from(&call.caller.actor()));
    let entity = Entity::Client(client.client_id);
    let entry = context.entry(
        Some(client.client_id),
        &entity,
        NAME,
        call.caller.actor(),
        clients::client_json(&client),
    );
    if !context
        .database
        .make_client(&client, &entry, &call.caller.access)
        .await?
        .is_yes()
    {
        call.caller.must_stand(context).await?;
        // The number is new, so it is the email that somebody else took meanwhile.
        return match context.database.client_id_by_email(&client.email).await? {
            Some(_) => Err(email_taken().into()),
            None => Err(Fault::retryable("creating a client", "it was not written").into()),
        };
    }
    Ok(Answered::from(&client))
}
