//! `revoke_api_key`: ends an API key, and the sessions opened with it. For admins.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::history::Entity;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{authenticate_admin, token};

crate::s3_action!("revoke_api_key", takes[&["api_key_id"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    let api_key_id = call.parameters.required_text(&["api_key_id"])?;
    if api_key_id.len() != 64 || !api_key_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Rejection::invalid("api_key_id", "must be 64 hexadecimal digits").into());
    }
    let api_key = async { Ok(context.database.api_key(&api_key_id).await?) };
    let (caller, api_key) = futures::try_join!(authenticate_admin(context, call), api_key)?;
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
        caller.actor(),
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
    Ok(Answer::ok(
        json!({ "client_id": client_id, "api_key_id": api_key_id }),
    ))
}

fn not_found() -> Rejection {
    Rejection::not_found("API key not found")
}
