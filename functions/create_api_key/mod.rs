//! `create_api_key`: a further API key for a client, shown this once. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::credential::{ApiKey, Maker, hash};
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::parameters::ID;
use wharfage::http::tokens::{authenticate_admin, token};

crate::s3_action!("create_api_key", takes[&["id", "name"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let client_id = call.parameters.required_number(&["id"], ID)?;
    let name = call
        .parameters
        .text(&["name"])?
        .unwrap_or_else(|| "API key".into());
    let client = async { Ok(context.database.client(client_id).await?) };
    let (caller, client) = futures::try_join!(authenticate_admin(context, call), client)?;
    client.ok_or_else(|| Rejection::not_found("customer not found"))?;
    let key = context.random.callback_key();
    let api_key_id = hash(&key);
    let api_key = ApiKey {
        client_id,
        name: name.clone(),
        created_at: context.now(),
        made_by: Some(Maker::from(&caller.actor())),
    };
    let details = json!({ "api_key_id": api_key_id, "name": name });
    let entry = context.entry(
        Some(client_id),
        &Entity::Client(client_id),
        NAME,
        caller.actor(),
        details,
    );
    let database = &context.database;
    if !database
        .make_api_key(&api_key_id, &api_key, &entry, &caller.access)
        .await?
        .is_yes()
    {
        caller.must_stand(context).await?;
        return Err(Fault::retryable("creating an API key", "it was not written").into());
    }
    Ok(Answer::ok(
        json!({ "client_id": client_id, "api_key": key, "api_key_id": api_key_id, "name": name }),
    ))
}
