//! Invoices: numbered, immutable once issued, each line explained by the figures it was computed from.

use jiff::Timestamp;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::domain::account::S3Uid;
use crate::domain::client::ClientId;
use crate::domain::identifier::identifier;
use crate::domain::money::Currency;
use crate::domain::plan::PlanId;
use crate::domain::rating::{StorageOverage, TrafficOverage};

/// Where an invoice stands. Everything else about it never changes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum InvoiceStatus {
    /// To be paid.
    Open,
    /// Paid in full.
    Paid,
}

identifier! {
    /// What an invoice is known by, unique in the installation: a number, stored and shown as such.
    #[derive(Copy)]
    InvoiceId(u64)
}

/// An invoice as issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// What it is known by.
    pub invoice_id: InvoiceId,
    /// `<client>-<currency>-<n>`: a client's invoices in a currency are numbered without gaps.
    pub number: String,
    /// Who pays.
    pub client_id: ClientId,
    /// For which account.
    pub s3uid: S3Uid,
    /// What it is in.
    pub currency: Currency,
    /// The sum of the lines.
    pub amount_minor: i64,
    /// What is charged.
    pub lines: Vec<Line>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it is due.
    pub due_on: Date,
    /// When nothing was left of it to pay.
    pub paid_at: Option<Timestamp>,
    /// What was paid of it so far. Zero in invoices that an earlier version paid, too.
    #[serde(default)]
    pub paid_minor: i64,
    /// What credit notes took off it so far.
    #[serde(default)]
    pub credited_minor: i64,
    /// Of a credit note: what it took off which invoices. The rest of it became credit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_off: Vec<TakenOff>,
}

/// What a credit note takes off an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOff {
    /// Which invoice.
    pub invoice_id: InvoiceId,
    /// How much of it.
    pub amount_minor: i64,
}

impl Invoice {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> InvoiceStatus {
        if self.paid_at.is_some() {
            InvoiceStatus::Paid
        } else {
            InvoiceStatus::Open
        }
    }

    /// Its place in its series, from its number.
    #[must_use]
    pub fn place(&self) -> Option<u64> {
        self.number.rsplit('-').next()?.parse().ok()
    }

    /// What is left to pay.
    #[must_use]
    pub fn open_minor(&self) -> i64 {
        match self.paid_at {
            Some(_) => 0,
            None => self.amount_minor - self.paid_minor - self.credited_minor,
        }
    }
}

/// One charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What for, in words.
    pub text: String,
    /// The first day charged.
    pub from: Date,
    /// The day after the last one charged.
    pub to: Date,
    /// How much.
    pub amount_minor: i64,
    /// The plan it was priced by.
    pub plan_id: PlanId,
    /// In which version.
    pub plan_version: u32,
    /// What it was computed from.
    pub basis: Basis,
}

/// What a line was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "component", rename_all = "snake_case")]
pub enum Basis {
    /// The recurring price, in advance.
    Recurring,
    /// A share of a recurring price, charged or given back when the plan is changed within a period.
    Prorated {
        /// Hours charged or given back.
        hours: u32,
        /// The period's hours.
        hours_of_period: u32,
    },
    /// Storage above the quota, in arrears.
    Storage(StorageOverage),
    /// Traffic above what is included, in arrears.
    Traffic(TrafficOverage),
}
