//! Orders: one purchase each, and its progress.
//!
//! An order begins with one transaction that records it, reserves its bucket name and holds its price. The cluster's steps follow, and one
//! transaction ends it, either way. Until then the order is open, and any process may continue it: forward, or back once a step was refused
//! for good.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::Display;

use crate::domain::account::{AccountId, S3Uid};
use crate::domain::bucket_name::BucketName;
use crate::domain::client::ClientId;
use crate::domain::history::Actor;
use crate::domain::invoice::InvoiceId;
use crate::domain::money::Currency;
use crate::domain::plan::PlanId;
use crate::domain::reason::Reason;

/// How an order is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Payment {
    /// From credit, held first and captured at the end: `create_order`.
    Credit,
    /// By an invoice left open: `create_account`.
    Invoice,
    /// Not at all: the plan costs nothing.
    Free,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// On its way to a whole account.
    Forward,
    /// On its way to nothing left.
    Undoing,
    /// Fulfilled.
    Fulfilled,
    /// Undone: nothing is left of it.
    Undone,
}

/// One request to buy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its identifier.
    pub order_id: String,
    /// Its status.
    pub state: State,
    /// The wire action that asked for it.
    pub action: String,
    /// Who asked.
    pub requested_by: Actor,
    /// Who pays.
    pub client_id: ClientId,
    /// The client's email.
    pub email: String,
    /// The client's billing group.
    pub billing: String,
    /// What is bought.
    pub plan_id: PlanId,
    /// In which version.
    pub plan_version: u32,
    /// The plan's name, for the invoice.
    pub plan_name: String,
    /// The plan's storage type.
    pub storage_type: String,
    /// The plan's quota.
    pub quota_gb: u64,
    /// What the cluster lets the account store; none for as much as it likes.
    pub storage_limit_bytes: Option<u64>,
    /// Where.
    pub location: String,
    /// The first bucket.
    pub bucket_name: BucketName,
    /// How it is paid.
    pub payment: Payment,
    /// In what.
    pub currency: Currency,
    /// How much.
    pub amount_minor: i64,
    /// Up to how much the client may owe, where its record said so.
    #[serde(default)]
    pub credit_limit_minor: Option<i64>,
    /// The account's name, chosen at the start.
    pub s3uid: S3Uid,
    /// The account's number.
    pub account_id: AccountId,
    /// The invoice's number, should there be one.
    pub invoice_id: InvoiceId,
    /// The account's access key, chosen at the start.
    pub access_key: String,
    /// Its secret key under KMS, base64.
    pub secret_key_ciphertext: String,
    /// The key its client gave to make a retry safe.
    pub idempotency_key: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Until when the process that works on it has it for itself.
    pub lease_until: Timestamp,
    /// How often it was taken up.
    pub attempts: u32,
    /// Why it is being undone, as its client is told.
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// The answer its client got, once fulfilled.
    #[serde(default)]
    pub answer: Option<Value>,
}

/// Why an order was undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The HTTP status of the answer.
    pub status: u16,
    /// Its reason. Orders that were undone by a version before have none.
    #[serde(
        default,
        deserialize_with = "Reason::stored",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<Reason>,
    /// Its text.
    pub text: String,
}

impl Order {
    /// The day the service begins: the order's, whenever it is fulfilled.
    #[must_use]
    pub fn ordered_on(&self) -> Date {
        crate::domain::period::date_of(self.created_at)
    }

    /// Whether it is still on its way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Forward | State::Undoing)
    }
}

/// What an idempotency key was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// The order it began.
    pub order_id: String,
    /// A hash of the request's parameters: the same key with others is an error.
    pub fingerprint: String,
}
