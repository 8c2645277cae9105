//! `update_traffic_info`: collects one account's figures now. For admins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::figures::gb;
use wharfage::error::Error;
use wharfage::http::subject::Call;

use crate::metering::{Metering, read_live_usage};

crate::action! {
    /// Reads one account's storage and traffic from its cluster now.
    "update_traffic_info" of Administrators, about Account,
        refuses [StorageRefused, StorageUnavailable]
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// Traffic sent in the current period, in GB of 2^30 bytes.
    traffic: f64,
    /// Storage now, in GB.
    storage_usage: f64,
    /// The figures of the current period.
    metering: Metering,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let account = read_live_usage(context, &call.about).await?.account;
    Ok(Answered {
        traffic: gb(account.period_bytes_sent),
        storage_usage: gb(account.stored_bytes),
        metering: Metering::from(&account),
        s3uid: account.s3uid,
    })
}
