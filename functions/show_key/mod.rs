//! `show_key`: reveals one of an account's keys, and notes that it did.

use secrecy::ExposeSecret;
use serde_json::json;
use wharfage::context::Context;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, account_name, caller_and_account, token};

crate::s3_action!("show_key", takes [ACCOUNT, &["s3_key", "key_type"]]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let s3_key = call.parameters.required_text(&["s3_key", "key_type"])?;
    if !matches!(s3_key.as_str(), "access_key" | "secret_key") {
        return Err(Rejection::invalid("s3_key", "must be access_key or secret_key").into());
    }
    let (caller, account) = caller_and_account(context, call).await?;
    let entry = caller.entry(context, &account, NAME, json!({ "s3_key": s3_key }));
    let noted = context.database.put_history(&entry);
    let value = if s3_key == "access_key" {
        noted.await?;
        account.access_key
    } else {
        let secret = context
            .vault
            .decrypt(&account.s3uid, &account.secret_key_ciphertext);
        let ((), secret) = futures::try_join!(noted, secret)?;
        secret.expose_secret().to_owned()
    };
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, (s3_key): value }),
    ))
}
