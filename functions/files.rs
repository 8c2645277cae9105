//! What the actions on files share.

use wharfage::cluster::{ClusterError, Keys};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::bucket_name;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::Call;

/// The bucket a call names. What cannot be a bucket's name is refused here: an S3 client takes some of it for other addresses, such as
/// `arn:…` or `name/key`, and finds no cluster behind them.
pub(crate) fn bucket_name(call: &Call) -> Result<String, Rejection> {
    let name = call.parameters.required_text(&["bucket_name", "bucket"])?;
    bucket_name::check(&name).map_err(|rule| Rejection::invalid("bucket_name", rule))?;
    Ok(name)
}

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
