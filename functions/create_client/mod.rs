//! `create_client`: a new client. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::client::{Client, Role};
use wharfage::domain::credential::Maker;
use wharfage::domain::history::Entity;
use wharfage::domain::money::Currency;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{authenticate_admin, token};

use crate::clients;

crate::s3_action!("create_client", takes[clients::NAMES]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    call.parameters.required_text(&["email"])?;
    let code = call.parameters.required_text(&["currency"])?;
    let currency = Currency::from_code(&code.to_uppercase())
        .ok_or_else(|| Rejection::invalid("currency", "must be an ISO 4217 currency"))?;
    let blank = Client {
        client_id: 0,
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
    let mut client = clients::with_parameters(call, blank)?;
    let email = client.email.clone();
    let known = async { Ok(context.database.client_id_by_email(&email).await?) };
    let (caller, known) = futures::try_join!(authenticate_admin(context, call), known)?;
    if known.is_some() {
        return Err(email_taken().into());
    }
    client.client_id = context.database.next_client_id().await?;
    client.made_by = Some(Maker::from(&caller.actor()));
    let entity = Entity::Client(client.client_id);
    let entry = context.entry(
        Some(client.client_id),
        &entity,
        NAME,
        caller.actor(),
        clients::wire(&client),
    );
    if !context
        .database
        .make_client(&client, &entry, &caller.access)
        .await?
        .is_yes()
    {
        caller.must_stand(context).await?;
        // The number is new, so it is the email that somebody else took meanwhile.
        return match context.database.client_id_by_email(&client.email).await? {
            Some(_) => Err(email_taken().into()),
            None => Err(Fault::retryable("creating a client", "it was not written").into()),
        };
    }
    Ok(Answer::ok(json!({ "client": clients::wire(&client) })))
}

/// The email is another client's.
pub(crate) fn email_taken() -> Rejection {
    Rejection::conflict("another client has this email")
}
