//! Invoices as the wire shows them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use wharfage::context::Context;
use wharfage::domain::figures::gb;
use wharfage::domain::invoice::{Basis, Invoice, Line};
use wharfage::domain::money::{Currency, to_major};
use wharfage::error::Fault;

use crate::plans::number;

/// The currencies that there can be invoices in: a plan that was ever sold in one still is.
pub(crate) async fn currencies(context: &Context) -> Result<Vec<Currency>, Fault> {
    let plans = context.database.plans().await?;
    let codes: BTreeSet<Currency> = plans
        .iter()
        .flat_map(|plan| plan.prices.keys().copied())
        .collect();
    Ok(codes.into_iter().collect())
}

/// An invoice without its lines.
pub(crate) fn summary(invoice: &Invoice) -> Map<String, Value> {
    let fields = json!({
        "invoice_id": invoice.invoice_id,
        "number": invoice.number,
        "client_id": invoice.client_id,
        "s3uid": invoice.s3uid,
        "currency": invoice.currency,
        "amount": number(to_major(invoice.amount_minor, invoice.currency)),
        "open": number(to_major(invoice.open_minor(), invoice.currency)),
        "status": invoice.status(),
        "issued_at": format!("{:.0}", invoice.issued_at),
        "due_on": invoice.due_on,
        "paid_at": invoice.paid_at.map(|at| format!("{at:.0}")),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A line, with the figures it was computed from.
pub(crate) fn line(line: &Line, currency: Currency) -> Value {
    let basis = match &line.basis {
        Basis::Recurring => json!({ "component": "recurring" }),
        Basis::Prorated {
            hours,
            hours_of_period,
        } => {
            json!({ "component": "prorated", "hours": hours, "hours_of_period": hours_of_period })
        }
        Basis::Storage(storage) => json!({
            "component": "storage",
            "hours": storage.hours,
            "stored_byte_hours": storage.stored_byte_hours.to_string(),
            "included_byte_hours": storage.included_byte_hours.to_string(),
            "overage_byte_hours": storage.overage_byte_hours.to_string(),
            "price_per_gb_month": number(storage.price_per_gb_month),
        }),
        Basis::Traffic(traffic) => json!({
            "component": "traffic",
            "bytes_sent": traffic.bytes_sent,
            "included_bytes": traffic.included_bytes,
            "overage_bytes": traffic.overage_bytes,
            "overage_gb": gb(traffic.overage_bytes),
            "price_per_gb": number(traffic.price_per_gb),
        }),
    };
    json!({
        "text": line.text,
        "from": line.from,
        "to": line.to,
        "amount": number(to_major(line.amount_minor, currency)),
        "plan_id": line.plan_id,
        "plan_version": line.plan_version,
        "basis": basis,
    })
}
