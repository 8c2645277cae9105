//! `create_api_key`: another API key for a client, shown only once. For admins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::client::{Client, ClientId};
use wharfage::domain::credential::{ApiKey, Maker, hash};
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Fault};
use wharfage::http::subject::Call;

crate::action! {
    /// Creates an API key for a client. The key is shown only here.
    "create_api_key" of Administrators, about Client
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// A description of the key.
    #[serde(default)]
    #[schemars(extend("default" = "API key"))]
    #[schemars(extend("examples" = ["Portal"]))]
    name: Option<String>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The client.
    client_id: ClientId,
    /// The key.
    api_key: String,
    /// Its identifier for `revoke_api_key`.
    api_key_id: String,
    /// Its purpose.
    name: String,
}

async fn handle(context: &Context, call: Call<'_, Asked, Client>) -> Result<Answered, Error> {
    let (caller, client_id) = (call.caller, call.about.client_id);
    let name = call.parameters.name.unwrap_or_else(|| "API key".into());
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
    Ok(Answered {
        client_id,
        api_key: key,
        api_key_id,
        name,
    })
}
