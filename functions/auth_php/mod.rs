//! `/auth.php`: sessions. `login` opens one with an API key, `info` tells of it, `logout` ends it. By GET there is `info`, and `login`
//! only where the operator allows it: keys do not belong in addresses.

use jiff::SignedDuration;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::client::Role;
use wharfage::domain::credential::{Session, hash};
use wharfage::error::{Error, Rejection};
use wharfage::http::envelope::Answer;
use wharfage::http::takes::Takes;
use wharfage::http::tokens::{self, TOKEN, token};
use wharfage::http::{Action, Call};

use crate::ACTIONS;

crate::endpoint!("auth_php", "/auth.php", SESSIONS);

/// What it does.
const SESSIONS: &[&Action] = &[
    &Action {
        module: "auth",
        name: "login",
        speaks_as: "login",
        allows_get: |rules| rules.allows_login_by_get,
        takes: Takes {
            names: &[&["key", "ttl", "fix_ip"]],
            typed: &[],
            unused: &[],
        },
        contract: None,
        handler: |context, call| Box::pin(login(context, call)),
    },
    &Action {
        module: "auth",
        name: "info",
        speaks_as: "info",
        allows_get: |_| true,
        takes: Takes {
            names: &[TOKEN],
            typed: &[],
            unused: &[],
        },
        contract: None,
        handler: |context, call| Box::pin(info(context, call)),
    },
    &Action {
        module: "auth",
        name: "logout",
        speaks_as: "logout",
        allows_get: |_| false,
        takes: Takes {
            names: &[TOKEN],
            typed: &[],
            unused: &[],
        },
        contract: None,
        handler: |context, call| Box::pin(logout(context, call)),
    },
];

const DEFAULT_TTL_SECONDS: u64 = 3_600;

/// What only administrators may do.
pub const ADMIN_ACTIONS: [&str; 13] = [
    "add_credit",
    "change_plan",
    "create_api_key",
    "create_client",
    "create_plan",
    "end_access",
    "list_cleanups",
    "resume_account",
    "revoke_api_key",
    "suspend_account",
    "update_client",
    "update_plan",
    "update_traffic_info",
];

async fn login(context: &Context, call: &Call) -> Result<Answer, Error> {
    if call.in_address.contains("key") && !context.rules.allows_login_by_get {
        return Err(Rejection::invalid("key", "must not stand in the address").into());
    }
    let key = call
        .parameters
        .raw_text(&["key"])?
        .ok_or_else(|| Rejection::missing("key"))?;
    let ttl_seconds = call
        .parameters
        .nearest_number(&["ttl"], 60..=86_400)?
        .unwrap_or(DEFAULT_TTL_SECONDS);
    let is_ip_fixed = call.parameters.number(&["fix_ip"], 0..=1)? == Some(1);
    let api_key_hash = hash(&key);
    let api_key = context
        .database
        .api_key(&api_key_hash)
        .await?
        .ok_or_else(Rejection::invalid_key)?;
    let client = context
        .database
        .client(api_key.client_id)
        .await?
        .ok_or_else(Rejection::invalid_key)?;
    let token = context.random.token();
    let ttl = SignedDuration::from_secs(i64::try_from(ttl_seconds).unwrap_or(i64::MAX));
    let session = Session {
        client_id: client.client_id,
        role: client.role,
        email: client.email,
        fixed_ip: call.source_ip.filter(|_| is_ip_fixed),
        expires_at: context.now() + ttl,
        api_key_hash,
        epoch: Some(client.epoch),
    };
    let token_hash = hash(&token);
    context.database.put_session(&token_hash, &session).await?;
    // A key revoked meanwhile has had its sessions ended, maybe before this one was there. Nobody has its token yet.
    let api_key = context.database.api_key(&session.api_key_hash).await?;
    if api_key.is_none() {
        context.database.delete_session(&token_hash).await?;
        return Err(Rejection::invalid_key().into());
    }
    Ok(Answer::whole(json!({ "result": wire(&token, &session) })))
}

async fn info(context: &Context, call: &Call) -> Result<Answer, Error> {
    let token = token(call)?;
    let session = tokens::session(context, call, &token).await?;
    Ok(Answer::whole(json!({ "result": wire(&token, &session) })))
}

async fn logout(context: &Context, call: &Call) -> Result<Answer, Error> {
    let token = token(call)?;
    tokens::session(context, call, &token).await?;
    context.database.delete_session(&hash(&token)).await?;
    Ok(Answer::whole(json!({ "result": "OK" })))
}

fn wire(token: &str, session: &Session) -> Value {
    let permissions: Vec<String> = ACTIONS
        .iter()
        .filter(|action| session.role == Role::Admin || !ADMIN_ACTIONS.contains(&action.name))
        .map(|action| format!("{}/{}", action.module, action.name))
        .collect();
    json!({
        "token": token,
        "role": session.role,
        "customer_id": session.client_id,
        "email": session.email,
        "token_expire": session.expires_at.as_second(),
        "permissions": permissions,
    })
}
