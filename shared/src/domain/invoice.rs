//! Invoices: numbered, immutable once issued, each line explained.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::money::Currency;

/// An invoice as issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Unique in the installation.
    pub invoice_id: u64,
    /// `<client>-<n>`: a client's invoices are numbered without gaps.
    pub number: String,
    /// Who pays.
    pub client_id: u64,
    /// For which account.
    pub s3uid: String,
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
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
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
}
