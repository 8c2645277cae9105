//! `revoke_api_key`: ends an API key, and the sessions opened with it. For admins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::client::ClientId;
use wharfage::domain::credential::ApiKey;
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::KeyHash;

crate::action! {
    /// Revokes an API key and ends its sessions.
    "revoke_api_key" of Administrators, about (), with api_key,
        refuses [ApiKeyNotFound]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The key, by the `api_key_id` of `create_api_key`.
    api_key_id: KeyHash,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The key's owner.
    client_id: ClientId,
    /// The key.
    api_key_id: String,
}

async fn api_key(context: &Context, asked: &Asked) -> Result<Option<ApiKey>, Error> {
    Ok(context.database.api_key(&asked.api_key_id.0).await?)
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked>,
    api_key: Option<ApiKey>,
) -> Result<Answered, Error> {
    let KeyHash(api_key_id) = call.parameters.api_key_id;
    let Some(api_key) = api_key else {
        // Whoever revoked it may have died before its sessions had ended.
        context.database.delete_sessions_of(&api_key_id).await?;
        return Err(not_found().into());
    };
    let client_id = api_key.client_id;
    let details = json!({ "api_key_id": api_key_id, "name": api_key.name });
    let entry = context.entry(
        Some(client_id),
        &Entity::Client(client_id),
        NAME,
        call.caller.actor(),
        details,
    );
    // The key goes first, so that no further session is opened, however long it takes to end those that are.
    let is_revoked = context
        .database
        .delete_api_key(&api_key_id, &api_key, &entry)
        .await?
        .is_yes();
    context.database.delete_sessions_of(&api_key_id).await?;
    if !is_revoked {
        return Err(not_found().into());
    }
    Ok(Answered {
        client_id,
        api_key_id,
    })
}

fn not_found() -> Rejection {
    Rejection::new(Reason::ApiKeyNotFound, "API key not found")
}
