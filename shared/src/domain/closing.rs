//! Closing a period: the past one's overage, in arrears, and the next one's price, in advance, as the lines of one invoice.

use jiff::civil::Date;

use crate::domain::account::{Account, Service, Status};
use crate::domain::figures::GB_BYTES;
use crate::domain::invoice::{Basis, Line};
use crate::domain::money::{AmountTooLarge, Currency, to_minor};
use crate::domain::period::next_anniversary;
use crate::domain::plan::Plan;
use crate::domain::rating::{StorageOverage, TrafficOverage};
use crate::domain::usage::Usage;

/// What closing a period comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The invoice's lines; none when there is nothing to charge.
    pub lines: Vec<Line>,
    /// The service afterwards.
    pub service: Service,
    /// The version of the plan that the next period is on.
    pub plan_version: u32,
    /// Whether another period follows.
    pub is_renewed: bool,
}

impl Closing {
    /// The sum of the lines.
    #[must_use]
    pub fn amount_minor(&self) -> i64 {
        self.lines.iter().map(|line| line.amount_minor).sum()
    }
}

/// Closes the period `[from, to)` of an account, where `to` is its commit date. `rated_by` is the plan in the version the period was
/// sold in, `sold_now` the one that the next period is sold in.
///
/// # Errors
/// When an amount does not fit into 64 bits of minor units.
pub fn close(
    account: &Account,
    from: Date,
    to: Date,
    usage: &Usage,
    rated_by: &Plan,
    sold_now: &Plan,
    currency: Currency,
) -> Result<Closing, AmountTooLarge> {
    let mut lines = overage_lines(account, from, to, usage, rated_by, currency)?;
    let is_renewed = match account.service.status {
        Status::Active | Status::Suspended => true,
        Status::Cancelling => account
            .service
            .cancellation_date
            .is_some_and(|date| date > to),
        Status::Terminating | Status::Terminated => false,
    };
    let mut service = account.service.clone();
    let mut plan_version = account.plan_version;
    if is_renewed {
        let next = next_anniversary(account.service.ordered_on, to);
        service.next_commit_date = next;
        // A plan that is not sold in the client's currency any more goes on at its last price in it.
        let plan = if sold_now.prices.contains_key(&currency) {
            sold_now
        } else {
            rated_by
        };
        plan_version = plan.version;
        lines.extend(recurring_line(plan, &account.location, currency, to, next)?);
    }
    if lines.iter().all(|line| line.amount_minor == 0) {
        lines.clear();
    }
    Ok(Closing {
        lines,
        service,
        plan_version,
        is_renewed,
    })
}

/// What is charged for usage above the plan's quota and included traffic. For a period under way, `usage` is what was used so far and the
/// quota is counted for so long.
///
/// # Errors
/// When an amount does not fit into 64 bits of minor units.
pub fn overage_lines(
    account: &Account,
    from: Date,
    to: Date,
    usage: &Usage,
    plan: &Plan,
    currency: Currency,
) -> Result<Vec<Line>, AmountTooLarge> {
    let Some(prices) = plan.prices.get(&currency) else {
        return Ok(Vec::new());
    };
    let line = |text: &str, amount_minor: i64, basis: Basis| Line {
        text: format!("{}, {}: {text}", plan.name, account.location),
        from,
        to,
        amount_minor,
        plan_id: plan.id,
        plan_version: plan.version,
        basis,
    };
    let mut lines = Vec::new();
    let storage = StorageOverage::of(
        usage.stored_byte_hours,
        plan.quota_bytes(),
        usage.hours,
        prices.storage_overage_per_gb_month,
    );
    let amount = storage.amount(currency);
    if !amount.is_zero() {
        lines.push(line(
            "storage above the quota",
            amount.round()?,
            Basis::Storage(storage),
        ));
    }
    let included_bytes = plan.included_traffic_gb.saturating_mul(GB_BYTES);
    let traffic = TrafficOverage::of(
        usage.bytes_sent,
        included_bytes,
        prices.traffic_overage_per_gb,
    );
    let amount = traffic.amount(currency);
    if !amount.is_zero() {
        lines.push(line(
            "traffic above what is included",
            amount.round()?,
            Basis::Traffic(traffic),
        ));
    }
    Ok(lines)
}

/// The recurring price of a period; none for a plan that costs nothing.
///
/// # Errors
/// When the amount does not fit into 64 bits of minor units.
pub fn recurring_line(
    plan: &Plan,
    location: &str,
    currency: Currency,
    from: Date,
    to: Date,
) -> Result<Option<Line>, AmountTooLarge> {
    let Some(price) = plan.monthly_price(location, currency) else {
        return Ok(None);
    };
    let amount_minor = to_minor(price, currency)?;
    Ok((amount_minor != 0).then(|| Line {
        text: format!("{}, {location}", plan.name),
        from,
        to,
        amount_minor,
        plan_id: plan.id,
        plan_version: plan.version,
        basis: Basis::Recurring,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use jiff::civil::date;
    use rust_decimal::Decimal;

    use super::*;
    use crate::domain::plan::Prices;

    fn eur() -> Currency {
        Currency::from_code("EUR").expect("EUR")
    }

    fn plan(version: u32, monthly: i64) -> Plan {
        let prices = Prices {
            monthly: Decimal::new(monthly, 2),
            traffic_overage_per_gb: Decimal::new(5, 1),
            storage_overage_per_gb_month: Decimal::new(1, 1),
        };
        Plan {
            id: 2,
            version,
            name: "Standard S3".into(),
            active: true,
            quota_gb: 10,
            storage_limit_gb: None,
            storage_type: "Standard".into(),
            locations: vec!["NL".into()],
            included_traffic_gb: 1,
            prices: BTreeMap::from([(eur(), prices)]),
            location_prices: BTreeMap::new(),
        }
    }

    fn account(ordered_on: Date) -> Account {
        Account {
            s3uid: "a".repeat(32),
            id: 1,
            client_id: 1,
            email: "a@example.com".into(),
            billing: "direct".into(),
            plan_id: 2,
            plan_version: 1,
            is_free: false,
            location: "NL".into(),
            storage_type: "Standard".into(),
            quota_gb: 10,
            service: Service::ordered(ordered_on),
            access_key: "WH".into(),
            secret_key_ciphertext: String::new(),
            next_key: None,
            created_at: Timestamp::UNIX_EPOCH,
            buckets: 0,
            stored_bytes: 0,
            period_from: ordered_on,
            period_bytes_sent: 0,
            period_peak_stored_bytes: 0,
            listed_for: None,
            group_key: None,
            metered_at: None,
            commits_on: None,
            ending: None,
            ends_on: None,
            revision: 0,
        }
    }

    #[test]
    fn past_overage_and_the_next_price_are_one_invoice() {
        let account = account(date(2026, 1, 31));
        let usage = Usage {
            hours: 28 * 24,
            stored_byte_hours: u128::from(12 * GB_BYTES) * 28 * 24,
            bytes_sent: 3 * GB_BYTES,
            ..Usage::default()
        };
        let (from, to) = (date(2026, 1, 31), date(2026, 2, 28));
        let closing = close(
            &account,
            from,
            to,
            &usage,
            &plan(1, 1500),
            &plan(2, 1700),
            eur(),
        )
        .expect("closing");
        let amounts: Vec<i64> = closing.lines.iter().map(|line| line.amount_minor).collect();
        // 2 GB-months at 0.10, 2 GB at 0.50, and the next month at its new price
        assert_eq!(amounts, [20, 100, 1700]);
        assert_eq!(closing.lines[2].to, date(2026, 3, 31));
        assert_eq!(closing.service.next_commit_date, date(2026, 3, 31));
        assert_eq!((closing.plan_version, closing.is_renewed), (2, true));
    }

    #[test]
    fn a_cancelled_account_is_charged_its_overage_and_no_more() {
        let mut account = account(date(2026, 1, 15));
        account.service = account
            .service
            .cancel(date(2026, 1, 20), 30)
            .expect("cancel");
        let to = date(2026, 2, 15);
        let nothing = close(
            &account,
            date(2026, 1, 15),
            to,
            &Usage::default(),
            &plan(1, 1500),
            &plan(1, 1500),
            eur(),
        );
        let nothing = nothing.expect("closing");
        assert_eq!((nothing.lines.len(), nothing.is_renewed), (0, false));
    }

    #[test]
    fn a_plan_no_longer_sold_in_the_currency_goes_on_at_its_last_price() {
        let account = account(date(2026, 1, 15));
        let mut gone = plan(2, 9900);
        gone.prices.clear();
        let (from, to) = (date(2026, 1, 15), date(2026, 2, 15));
        let closing = close(
            &account,
            from,
            to,
            &Usage::default(),
            &plan(1, 1500),
            &gone,
            eur(),
        )
        .expect("closing");
        assert_eq!((closing.amount_minor(), closing.plan_version), (1500, 1));
    }
}
