//! Events for EventBridge. Each is written in the transaction that it reports and sent from that outbox, so none is lost. Delivery is at
//! least once: a duplicate has the same id.

use crate::domain::account::S3Uid;
use crate::domain::client::ClientId;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{Display, EnumMessage, VariantArray};

/// What happened. The text is the event's `detail-type`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    Display,
    JsonSchema,
    VariantArray,
    EnumMessage,
)]
pub enum Kind {
    /// An order came to an account.
    #[serde(rename = "order.fulfilled")]
    #[strum(serialize = "order.fulfilled")]
    OrderFulfilled,
    /// An order came to nothing.
    #[serde(rename = "order.undone")]
    #[strum(serialize = "order.undone")]
    OrderUndone,
    /// An account's service changed: cancelled, undone, ended, suspended, resumed.
    #[serde(rename = "account.changed")]
    #[strum(serialize = "account.changed")]
    AccountChanged,
    /// An account is on another plan.
    #[serde(rename = "account.plan_changed")]
    #[strum(serialize = "account.plan_changed")]
    AccountPlanChanged,
    /// An account's keys were stopped.
    #[serde(rename = "account.suspended")]
    #[strum(serialize = "account.suspended")]
    AccountSuspended,
    /// An account's keys work again.
    #[serde(rename = "account.resumed")]
    #[strum(serialize = "account.resumed")]
    AccountResumed,
    /// An account and its data are gone.
    #[serde(rename = "account.terminated")]
    #[strum(serialize = "account.terminated")]
    AccountTerminated,
    /// An invoice was issued.
    #[serde(rename = "invoice.issued")]
    #[strum(serialize = "invoice.issued")]
    InvoiceIssued,
    /// An invoice is due, or overdue.
    #[serde(rename = "invoice.reminder")]
    #[strum(serialize = "invoice.reminder")]
    InvoiceReminder,
    /// An invoice was paid.
    #[serde(rename = "payment.received")]
    #[strum(serialize = "payment.received")]
    PaymentReceived,
    /// A client's credit was topped up.
    #[serde(rename = "credit.added")]
    #[strum(serialize = "credit.added")]
    CreditAdded,
    /// Storage crossed 80 % or 100 % of the quota, or fell below 80 % again.
    #[serde(rename = "quota.threshold")]
    #[strum(serialize = "quota.threshold")]
    QuotaThreshold,
    /// What was sent in a period reached all of what the plan includes, and more is not for sale.
    #[serde(rename = "traffic.limit_reached")]
    #[strum(serialize = "traffic.limit_reached")]
    TrafficLimitReached,
    /// A ledger balance is not what its postings add up to.
    #[serde(rename = "ledger.difference")]
    #[strum(serialize = "ledger.difference")]
    LedgerDifference,
}

impl Kind {
    /// What happened, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Unique; the same when it is sent twice.
    pub event_id: String,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: Kind,
    /// To which client.
    pub client_id: ClientId,
    /// To which account.
    pub s3uid: Option<S3Uid>,
    /// What else is worth knowing; never a secret.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub detail: Value,
}
