//! `preview_invoice`: the cost of an account's current period so far, and of its next one.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid};
use wharfage::domain::closing::{close, is_next_charged, overage_lines};
use wharfage::domain::figures::gb;
use wharfage::domain::money::{Currency, to_major};
use wharfage::domain::period::date_of;
use wharfage::domain::plan::PlanId;
use wharfage::error::{Error, Fault};
use wharfage::http::subject::Call;
use wharfage::http::values::{ByteHours, Number};

use crate::closing;
use crate::invoices::LineShown;

crate::action! {
    /// Previews an account's next invoice: usage so far in the current period, and the price of the next.
    "preview_invoice" of Everybody, about Account
}

/// It takes nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The first day of the current period, in UTC.
    period_from: Date,
    /// The day after its last one, when the invoice is issued.
    period_to: Date,
    /// The day up to which usage is counted.
    as_of: Date,
    /// The currency of the amounts.
    currency: Currency,
    /// The plan of the account.
    plan_id: PlanId,
    /// The scheduled plan of the next period, if it differs.
    next_plan_id: Option<PlanId>,
    /// The sum of the lines.
    amount: Number,
    /// The lines of the invoice.
    lines: Vec<LineShown>,
    /// Usage of the current period so far.
    usage: UsageShown,
}

/// Usage of a period so far.
#[derive(Debug, Serialize, JsonSchema)]
struct UsageShown {
    /// The hours that have passed.
    hours: u32,
    /// Storage.
    stored_byte_hours: ByteHours,
    /// Peak storage, in GB of 2^30 bytes.
    total_storage_peak_gb: f64,
    /// Traffic sent, in GB.
    total_traffic_period_gb: f64,
}

async fn handle(context: &Context, call: Call<'_, Asked, Account>) -> Result<Answered, Error> {
    let account = call.about;
    let now = context.now();
    let period = closing::period(context, &account, now).await?;
    let fault = |e| Fault::permanent("previewing an invoice", e);
    let dates = (period.from, period.to);
    let so_far = overage_lines(
        &account,
        dates,
        &period.parts,
        period.opened_anew.as_ref(),
        period.currency,
    )
    .map_err(fault)?;
    let (sold, _) = period.renewed_on(context, &account);
    let is_next_charged = is_next_charged(&account, sold, context.rules.charge_suspended);
    let closing = close(
        &account,
        dates,
        &[],
        None,
        sold,
        is_next_charged,
        period.currency,
    )
    .map_err(fault)?;
    let lines: Vec<_> = so_far.into_iter().chain(closing.lines).collect();
    let amount_minor: i64 = lines.iter().map(|line| line.amount_minor).sum();
    Ok(Answered {
        period_from: period.from,
        period_to: period.to,
        as_of: date_of(now),
        currency: period.currency,
        plan_id: account.plan_id,
        next_plan_id: account.plan_changes.next_plan_id,
        amount: Number(to_major(amount_minor, period.currency)),
        lines: lines
            .iter()
            .map(|line| LineShown::new(line, period.currency))
            .collect(),
        usage: UsageShown {
            hours: period.usage.hours,
            stored_byte_hours: ByteHours(period.usage.stored_byte_hours),
            total_storage_peak_gb: gb(period.usage.peak_stored_bytes),
            total_traffic_period_gb: gb(period.usage.bytes_sent),
        },
        s3uid: account.s3uid,
    })
}
