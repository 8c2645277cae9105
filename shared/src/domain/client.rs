//! Clients: who pays.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::domain::credential::Maker;
use crate::domain::identifier::identifier;
use crate::domain::money::Currency;

identifier! {
    /// What a client is known by, unique in the installation: a number, stored and shown as such.
    #[derive(Copy)]
    ClientId(u64)
}

/// What a client's credentials allow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    /// Its own accounts.
    Client,
    /// Any client's accounts, named by `id`.
    Admin,
}

/// The customer who pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its number.
    pub client_id: ClientId,
    /// Unique, in lower case.
    pub email: String,
    /// What its credentials allow.
    pub role: Role,
    /// The billing group, for example `whmcs`.
    pub billing: String,
    /// What it is billed in.
    pub currency: Currency,
    /// Marks of an operator's choice; `s3_test` shows inactive plans.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Accounts it has or has on order, kept below a limit.
    #[serde(default)]
    pub accounts: u32,
    /// Those of them on plans that cost nothing.
    #[serde(default)]
    pub free_accounts: u32,
    /// Raised with every change of role, and when its access is ended: sessions of another epoch are over.
    #[serde(default)]
    pub epoch: u64,
    /// Who made it; nobody knows of those that are older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Maker>,
    /// Up to how much it may owe, in minor units of its currency, where staff have said so; else the stack's parameter says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_limit_minor: Option<i64>,
}
