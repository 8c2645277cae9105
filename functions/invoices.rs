//! Invoices as the wire shows them.

use std::collections::BTreeSet;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;
use wharfage::context::Context;
use wharfage::domain::account::S3Uid;
use wharfage::domain::client::ClientId;
use wharfage::domain::figures::gb;
use wharfage::domain::invoice::{Basis, Invoice, InvoiceId, InvoiceStatus, Line};
use wharfage::domain::money::{Currency, to_major};
use wharfage::domain::plan::PlanId;
use wharfage::error::Fault;
use wharfage::http::values::{ByteHours, Number, Second};

/// The currencies that there can be invoices in: a plan that was ever sold in one still is.
pub(crate) async fn currencies(context: &Context) -> Result<Vec<Currency>, Fault> {
    let plans = context.database.plans().await?;
    let codes: BTreeSet<Currency> = plans
        .iter()
        .flat_map(|plan| plan.prices.keys().copied())
        .collect();
    Ok(codes.into_iter().collect())
}

/// An invoice, without its lines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InvoiceShown {
    /// Its number in the API.
    invoice_id: InvoiceId,
    /// The number printed on it.
    number: String,
    /// Its owner.
    client_id: ClientId,
    /// The account it is about.
    s3uid: S3Uid,
    /// The currency of its amounts.
    currency: Currency,
    /// Its amount; negative for a credit note.
    amount: Number,
    /// The amount that is not paid yet.
    open: Number,
    /// Its status.
    status: InvoiceStatus,
    /// When it was issued.
    issued_at: Second,
    /// Its due date.
    due_on: Date,
    /// When it was paid in full.
    paid_at: Option<Second>,
}

impl From<&Invoice> for InvoiceShown {
    fn from(invoice: &Invoice) -> InvoiceShown {
        InvoiceShown {
            invoice_id: invoice.invoice_id,
            number: invoice.number.clone(),
            client_id: invoice.client_id,
            s3uid: invoice.s3uid.clone(),
            currency: invoice.currency,
            amount: Number(to_major(invoice.amount_minor, invoice.currency)),
            open: Number(to_major(invoice.open_minor(), invoice.currency)),
            status: invoice.status(),
            issued_at: Second(invoice.issued_at),
            due_on: invoice.due_on,
            paid_at: invoice.paid_at.map(Second),
        }
    }
}

/// A line of an invoice, with the figures it was computed from.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LineShown {
    /// Its purpose.
    text: String,
    /// The first day that it is for, in UTC.
    from: Date,
    /// The day after the last one.
    to: Date,
    /// Its amount.
    amount: Number,
    /// The plan.
    plan_id: PlanId,
    /// The version of the plan whose prices apply.
    plan_version: u32,
    /// The figures.
    basis: BasisShown,
}

/// What a line was computed from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "component", rename_all = "lowercase")]
enum BasisShown {
    /// The price of a period, in advance.
    Recurring,
    /// A part of the price of a period, by the hour.
    Prorated {
        /// The hours that are charged or credited.
        hours: u32,
        /// The hours of the whole period.
        hours_of_period: u32,
    },
    /// Storage above the quota.
    Storage {
        /// The hours it was counted over.
        hours: u32,
        /// Storage.
        stored_byte_hours: ByteHours,
        /// What the plan includes.
        included_byte_hours: ByteHours,
        /// Storage beyond that.
        overage_byte_hours: ByteHours,
        /// The price of a GB of 2^30 bytes for a month.
        price_per_gb_month: Number,
    },
    /// Traffic above what is included.
    Traffic {
        /// Traffic sent.
        bytes_sent: u64,
        /// What the plan includes.
        included_bytes: u64,
        /// Traffic beyond that.
        overage_bytes: u64,
        /// The same in GB of 2^30 bytes.
        overage_gb: f64,
        /// The price of a GB.
        price_per_gb: Number,
    },
}

impl LineShown {
    /// A line whose amount is in this currency.
    pub(crate) fn new(line: &Line, currency: Currency) -> LineShown {
        let basis = match &line.basis {
            Basis::Recurring => BasisShown::Recurring,
            Basis::Prorated {
                hours,
                hours_of_period,
            } => BasisShown::Prorated {
                hours: *hours,
                hours_of_period: *hours_of_period,
            },
            Basis::Storage(storage) => BasisShown::Storage {
                hours: storage.hours,
                stored_byte_hours: ByteHours(storage.stored_byte_hours),
                included_byte_hours: ByteHours(storage.included_byte_hours),
                overage_byte_hours: ByteHours(storage.overage_byte_hours),
                price_per_gb_month: Number(storage.price_per_gb_month),
            },
            Basis::Traffic(traffic) => BasisShown::Traffic {
                bytes_sent: traffic.bytes_sent,
                included_bytes: traffic.included_bytes,
                overage_bytes: traffic.overage_bytes,
                overage_gb: gb(traffic.overage_bytes),
                price_per_gb: Number(traffic.price_per_gb),
            },
        };
        LineShown {
            text: line.text.clone(),
            from: line.from,
            to: line.to,
            amount: Number(to_major(line.amount_minor, currency)),
            plan_id: line.plan_id,
            plan_version: line.plan_version,
            basis,
        }
    }
}
