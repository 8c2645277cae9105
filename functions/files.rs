//! What the actions on files share.

use wharfage::cluster::{ClusterError, Keys};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::error::{Error, Fault, Rejection};

/// An account's own keys.
pub(crate) async fn keys_of(context: &Context, account: &Account) -> Result<Keys, Fault> {
    Ok(Keys {
        access_key: account.access_key.clone(),
        secret_key: context
            .vault
            .decrypt(&account.s3uid, &account.secret_key_ciphertext)
            .await?,
    })
}

/// What the storage refuses, passed on in its words. A bucket that is not there and one that is another account's look alike, as all
/// that is another's does.
pub(crate) fn refusal(doing: &str, error: ClusterError) -> Error {
    let ClusterError::Refused { code, message } = error else {
        return error.into();
    };
    let words = if code == "NoSuchBucket" {
        "Access Denied"
    } else {
        message.trim_end_matches('.')
    };
    let text = format!("{doing} error: {words}.");
    match code.as_str() {
        "InvalidArgument" | "KeyTooLongError" | "InvalidURI" => Rejection::bad_request(text),
        _ => Rejection::forbidden(text),
    }
    .into()
}
