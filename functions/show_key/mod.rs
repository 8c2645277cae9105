//! `show_key`: reveals one of an account's keys, and records that in the history.

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::error::Error;
use wharfage::http::subject::Call;

crate::action! {
    /// Returns one of an account's keys, and records that in the history.
    "show_key" of Everybody, about Account
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// Which key.
    s3_key: Key,
}

/// A key of an account.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Key {
    /// What the account is called in signatures.
    AccessKey,
    /// What it signs with.
    SecretKey,
}

/// What it answers: the key under its name.
#[derive(Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The access key, if it was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key: Option<String>,
    /// The secret key, if it was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let (account, s3_key) = (call.about, call.parameters.s3_key);
    let entry = call
        .caller
        .entry(context, &account, NAME, json!({ "s3_key": s3_key }));
    let noted = context.database.put_history(&entry);
    let (access_key, secret_key) = match s3_key {
        Key::AccessKey => {
            noted.await?;
            (Some(account.access_key), None)
        }
        Key::SecretKey => {
            let secret = context
                .vault
                .decrypt(&account.s3uid, &account.secret_key_ciphertext);
            let ((), secret) = futures::try_join!(noted, secret)?;
            (None, Some(secret.expose_secret().to_owned()))
        }
    };
    Ok(Answered {
        s3uid: account.s3uid,
        access_key,
        secret_key,
    })
}
