//! `rotate_key`: gives an account a second key, valid beside the first. With `confirm=1` the second takes the first one's place.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use wharfage::cluster::Keys;
use wharfage::context::Context;
use wharfage::domain::account::{Account, NextKey};
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{Caller, account_name, caller_and_account, token};

use crate::services::check_in_use;

crate::s3_action!("rotate_key");

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let is_confirmed = call.parameters.number(&["confirm"], 0..=1)? == Some(1);
    let (caller, account) = caller_and_account(context, call).await?;
    check_in_use(&account)?;
    if is_confirmed {
        confirm(context, &caller, &account).await
    } else {
        begin(context, &caller, &account).await
    }
}

/// The second key is recorded before the cluster has it, so that a retry makes the same one work rather than a third.
async fn begin(context: &Context, caller: &Caller, account: &Account) -> Result<Answer, Error> {
    let (next, secret_key) = match &account.next_key {
        Some(next) => {
            let secret_key = context
                .vault
                .decrypt(&account.s3uid, &next.secret_key_ciphertext)
                .await?;
            let entry = caller.entry(
                context,
                account,
                NAME,
                json!({ "access_key": next.access_key }),
            );
            context.database.put_history(&entry).await?;
            (next.clone(), secret_key)
        }
        None => {
            let secret_key = SecretString::from(context.random.secret_key());
            let next = NextKey {
                access_key: context.random.access_key(),
                secret_key_ciphertext: context.vault.encrypt(&account.s3uid, &secret_key).await?,
            };
            let entry = caller.entry(
                context,
                account,
                NAME,
                json!({ "access_key": next.access_key }),
            );
            if !context
                .database
                .set_next_key(account, &next, &entry)
                .await?
            {
                return Err(changed().into());
            }
            (next, secret_key)
        }
    };
    let keys = Keys {
        access_key: next.access_key.clone(),
        secret_key: secret_key.clone(),
    };
    let provider = &context.clusters.of(&account.location)?.provider;
    provider.add_key(&account.s3uid, &keys).await?;
    Ok(Answer::ok(json!({
        "s3uid": account.s3uid,
        "access_key": next.access_key,
        "secret_key": secret_key.expose_secret(),
        "previous_access_key": account.access_key,
        "confirmed": 0,
    })))
}

/// The old key goes before that is recorded: a retry after a crash finds the key still waiting and does the rest.
async fn confirm(context: &Context, caller: &Caller, account: &Account) -> Result<Answer, Error> {
    let provider = &context.clusters.of(&account.location)?.provider;
    let Some(next) = &account.next_key else {
        return Err(Rejection::conflict("no key is waiting to be confirmed").into());
    };
    // Whether or not the cluster heard of it before.
    let keys = Keys {
        access_key: next.access_key.clone(),
        secret_key: context
            .vault
            .decrypt(&account.s3uid, &next.secret_key_ciphertext)
            .await?,
    };
    provider.add_key(&account.s3uid, &keys).await?;
    provider
        .remove_key(&account.s3uid, &account.access_key)
        .await?;
    let details =
        json!({ "access_key": next.access_key, "removed_access_key": account.access_key });
    let entry = caller.entry(context, account, "confirm_key", details);
    if !context
        .database
        .take_next_key(account, next, &entry)
        .await?
    {
        return Err(changed().into());
    }
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, "access_key": next.access_key, "confirmed": 1 }),
    ))
}

fn changed() -> Rejection {
    Rejection::conflict("S3 account is being changed, try again").retry_after(1)
}
