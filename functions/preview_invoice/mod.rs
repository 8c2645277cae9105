//! `preview_invoice`: what an account's running period comes to so far, and what its next one will cost.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::closing::{close, is_next_charged, overage_lines};
use wharfage::domain::figures::gb;
use wharfage::domain::money::to_major;
use wharfage::domain::period::date_of;
use wharfage::error::{Error, Fault};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, caller_and_account};

use crate::plans::number;
use crate::{closing, invoices};

crate::s3_action!("preview_invoice", takes[ACCOUNT]);

async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    let (_, account) = caller_and_account(context, call).await?;
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
    let shown: Vec<Value> = lines
        .iter()
        .map(|line| invoices::line(line, period.currency))
        .collect();
    Ok(Answer::ok(json!({
        "s3uid": account.s3uid,
        "period_from": period.from,
        "period_to": period.to,
        "as_of": date_of(now),
        "currency": period.currency,
        "plan_id": account.plan_id,
        "next_plan_id": account.plan_changes.next_plan_id,
        "amount": number(to_major(amount_minor, period.currency)),
        "lines": shown,
        "usage": {
            "hours": period.usage.hours,
            "stored_byte_hours": period.usage.stored_byte_hours.to_string(),
            "total_storage_peak_gb": gb(period.usage.peak_stored_bytes),
            "total_traffic_period_gb": gb(period.usage.bytes_sent),
        },
    })))
}
