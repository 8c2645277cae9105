//! Closing a period: the past one's overage, in arrears, and the next one's price, in advance, as the lines of one invoice.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::account::{Account, S3Uid, Service, Status, Suspension};
use crate::domain::allowance::{Allowance, OpenedAnew, Used};
use crate::domain::figures::GB_BYTES;
use crate::domain::invoice::{Basis, InvoiceId, Line};
use crate::domain::money::{Currency, to_minor};
use crate::domain::period::{date_of, hours_between, next_anniversary, start_of};
use crate::domain::plan::{Plan, PlanId, PriceError};
use crate::domain::plan_change::EarlierPlan;
use crate::domain::rating::{StorageOverage, TrafficOverage, included_share};
use crate::domain::usage::Usage;

/// What closing a period comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosingOutcome {
    /// The invoice's lines; none when there is nothing to charge.
    pub lines: Vec<Line>,
    /// The service afterwards.
    pub service: Service,
    /// Whether another period follows.
    pub is_renewed: bool,
}

/// Whether the period that follows is charged: nothing is, where the operator wants it so, for one that begins while a member of staff has
/// the account suspended.
#[must_use]
pub fn is_next_charged(account: &Account, sold: &Plan, charge_suspended: bool) -> bool {
    sold.charge_suspended.unwrap_or(charge_suspended)
        || account.service.suspension() != Some(Suspension::Administrator)
}

impl ClosingOutcome {
    /// The sum of the lines.
    #[must_use]
    pub fn amount_minor(&self) -> i64 {
        self.lines.iter().map(|line| line.amount_minor).sum()
    }
}

/// A part of a period that was on one version of a plan: all of it, unless the plan was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSpan {
    /// Its first hour.
    pub from: Timestamp,
    /// The hour after its last one.
    pub to: Timestamp,
    /// The plan in the version the part was sold in.
    pub plan: Plan,
    /// What was used in it. Of a part under way: so far.
    pub usage: Usage,
}

/// A plan in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanVersion {
    /// The plan.
    pub plan_id: PlanId,
    /// The version.
    pub version: u32,
}

impl From<&Plan> for PlanVersion {
    fn from(plan: &Plan) -> PlanVersion {
        PlanVersion {
            plan_id: plan.id,
            version: plan.version,
        }
    }
}

impl From<&EarlierPlan> for PlanVersion {
    fn from(earlier: &EarlierPlan) -> PlanVersion {
        PlanVersion {
            plan_id: earlier.plan_id,
            version: earlier.plan_version,
        }
    }
}

/// A period that was closed, and on what terms: all that it takes to close it again, but for the usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPeriod {
    /// Whose.
    pub s3uid: S3Uid,
    /// Its first day.
    pub from: Date,
    /// Its end.
    pub to: Date,
    /// The plans it was on at first, where the plan was changed within it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierPlan>,
    /// The plan it ended on, as it was sold.
    pub rated_by: PlanVersion,
    /// What the next period was sold in; absent where none followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PlanVersion>,
    /// What the client was billed in.
    pub currency: Currency,
    /// Whether nothing was charged for it, see [`is_next_charged`].
    #[serde(default)]
    pub is_uncharged: bool,
    /// Whether nothing is charged for the one that follows.
    #[serde(default)]
    pub is_next_uncharged: bool,
    /// What accounts that cost nothing, and that this one took the place of, had used of its month's allowances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_before: Option<Used>,
    /// The invoice; absent where nothing was charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_id: Option<InvoiceId>,
}

/// Closes the period `[from, to)` of an account, where `to` is its commit date. `sold` is the plan that the next period is on;
/// `is_next_charged`, whether that is charged; `opened_anew`, what was used of the period's allowances before it.
///
/// # Errors
/// When a plan is not sold in the currency, or an amount does not fit into 64 bits of minor units.
pub fn close(
    account: &Account,
    (from, to): (Date, Date),
    parts: &[PlanSpan],
    opened_anew: Option<&OpenedAnew>,
    sold: &Plan,
    is_next_charged: bool,
    currency: Currency,
) -> Result<ClosingOutcome, PriceError> {
    let mut lines = overage_lines(account, (from, to), parts, opened_anew, currency)?;
    let is_renewed = match account.service.status() {
        Status::Active | Status::Suspended => true,
        Status::Cancelling => account
            .service
            .cancellation_date
            .is_some_and(|date| date > to),
        Status::Terminating | Status::Terminated => false,
    };
    let mut service = account.service.clone();
    if is_renewed {
        let next = next_anniversary(account.service.ordered_on, to);
        // The next period may have used up its own by now.
        if service.traffic_spent_in.is_some_and(|from| from < to) {
            service = service.traffic_again();
        }
        service.next_commit_date = next;
        service.uncharged_from = (!is_next_charged).then_some(to);
        if is_next_charged {
            lines.extend(recurring_line(sold, &account.location, currency, to, next)?);
        }
    }
    if lines.iter().all(|line| line.amount_minor == 0) {
        lines.clear();
    }
    Ok(ClosingOutcome {
        lines,
        service,
        is_renewed,
    })
}

/// What is charged for usage above the quota and the included traffic of the plans of a period, each for its part of it. For a part under
/// way, the quota is counted for as long as its usage is. Of a period that was opened anew, plans that cost nothing include what
/// [`OpenedAnew`] leaves of it.
///
/// # Errors
/// When a plan is not sold in the currency, or an amount does not fit into 64 bits of minor units.
pub fn overage_lines(
    account: &Account,
    (from, to): (Date, Date),
    parts: &[PlanSpan],
    opened_anew: Option<&OpenedAnew>,
    currency: Currency,
) -> Result<Vec<Line>, PriceError> {
    let (begin, end) = (start_of(from), start_of(to));
    let hours = hours_between(begin, end);
    let mut lines = Vec::new();
    if account.service.uncharged_from == Some(from) {
        return Ok(lines);
    }
    let allowances = parts.iter().map(|part| {
        let price = part.plan.monthly_price(&account.location, currency)?;
        Ok(Allowance {
            is_free: to_minor(price, currency)? == 0,
            byte_hours: u128::from(part.plan.quota_bytes())
                * u128::from(hours_between(part.from, part.to)),
            traffic_bytes: included_share(
                part.plan.included_traffic_gb.saturating_mul(GB_BYTES),
                hours_between(begin, part.from),
                hours_between(begin, part.to),
                hours,
            ),
        })
    });
    let mut allowances = allowances.collect::<Result<Vec<_>, PriceError>>()?;
    if let Some(opened_anew) = opened_anew {
        opened_anew.lower(&mut allowances);
    }
    for (part, allowance) in parts.iter().zip(allowances) {
        let (plan, usage) = (&part.plan, &part.usage);
        let prices = plan.prices_in(currency)?;
        let when = match (part.from, part.to) == (begin, end) {
            true => String::new(),
            false => format!(", {:.0} to {:.0}", part.from, part.to),
        };
        let last_day = date_of(part.to - jiff::SignedDuration::from_secs(1));
        let line = |text: &str, amount_minor: i64, basis: Basis| Line {
            text: format!("{}, {}: {text}{when}", plan.name, account.location),
            from: date_of(part.from),
            to: last_day.tomorrow().unwrap_or(last_day),
            amount_minor,
            plan_id: plan.id,
            plan_version: plan.version,
            basis,
        };
        let so_far = u128::from(plan.quota_bytes()) * u128::from(usage.hours);
        let storage = StorageOverage::above(
            usage.stored_byte_hours,
            so_far.min(allowance.byte_hours),
            hours,
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
        let traffic = TrafficOverage::of(
            usage.bytes_sent,
            allowance.traffic_bytes,
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
    }
    Ok(lines)
}

/// The recurring price of a period; none for a plan that costs nothing.
///
/// # Errors
/// When the plan is not sold in the currency, or the amount does not fit into 64 bits of minor units.
pub fn recurring_line(
    plan: &Plan,
    location: &str,
    currency: Currency,
    from: Date,
    to: Date,
) -> Result<Option<Line>, PriceError> {
    let amount_minor = to_minor(plan.monthly_price(location, currency)?, currency)?;
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
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;
    use jiff::civil::date;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;
    use crate::domain::account::AccountId;
    use crate::domain::client::ClientId;
    use crate::domain::plan::Prices;
    use crate::domain::plan_change::PlanChanges;
    use crate::domain::quota::QuotaLevel;

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
            id: PlanId(2),
            version,
            name: "Standard S3".into(),
            active: true,
            quota_gb: 10,
            storage_limit_gb: None,
            charge_suspended: None,
            stop_at_bandwidth_limit: false,
            storage_type: "Standard".into(),
            locations: vec!["NL".into()],
            included_traffic_gb: 1,
            prices: BTreeMap::from([(eur(), prices)]),
            location_prices: BTreeMap::new(),
        }
    }

    pub(crate) fn account(ordered_on: Date) -> Account {
        Account {
            s3uid: S3Uid("a".repeat(32)),
            id: AccountId(1),
            client_id: ClientId(1),
            email: "a@example.com".into(),
            billing: "direct".into(),
            plan_id: PlanId(2),
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
            commits_on: None,
            plan_changes: PlanChanges::default(),
            quota_told: QuotaLevel::default(),
            unsettled: None,
            key_confirmed_at: None,
            revision: 0,
        }
    }

    /// The whole of a period as its only part.
    fn whole((from, to): (Date, Date), plan: Plan, usage: Usage) -> [PlanSpan; 1] {
        let (from, to) = (start_of(from), start_of(to));
        [PlanSpan {
            from,
            to,
            plan,
            usage,
        }]
    }

    fn amounts(lines: &[Line]) -> Vec<i64> {
        lines.iter().map(|line| line.amount_minor).collect()
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
        let period = (date(2026, 1, 31), date(2026, 2, 28));
        let parts = whole(period, plan(1, 1500), usage);
        let closing =
            close(&account, period, &parts, None, &plan(2, 1700), true, eur()).expect("closing");
        // 2 GB-months at 0.10, 2 GB at 0.50, and the next month at its new price
        assert_eq!(amounts(&closing.lines), [20, 100, 1700]);
        assert_eq!(
            closing.lines[0].text,
            "Standard S3, NL: storage above the quota"
        );
        assert_eq!(closing.lines[2].to, date(2026, 3, 31));
        assert_eq!(closing.service.next_commit_date, date(2026, 3, 31));
        assert_eq!(
            (closing.lines[2].plan_version, closing.is_renewed),
            (2, true)
        );
    }

    #[test]
    fn a_cancelled_account_is_charged_its_overage_and_no_more() {
        let mut account = account(date(2026, 1, 15));
        account.service = account
            .service
            .cancel(date(2026, 1, 20), 30)
            .expect("cancel");
        let period = (date(2026, 1, 15), date(2026, 2, 15));
        let parts = whole(period, plan(1, 1500), Usage::default());
        let nothing =
            close(&account, period, &parts, None, &plan(1, 1500), true, eur()).expect("closing");
        assert_eq!((nothing.lines.len(), nothing.is_renewed), (0, false));
    }

    #[test]
    fn each_part_of_a_period_is_rated_by_its_own_plan() {
        let account = account(date(2026, 1, 15));
        let period = (date(2026, 1, 15), date(2026, 2, 15));
        let (begin, end) = (start_of(period.0), start_of(period.1));
        // 10 days and 10 hours of 31 days.
        let change = begin + SignedDuration::from_hours(250);
        let mut larger = plan(1, 3000);
        (larger.id, larger.name) = (PlanId(3), "Large S3".into());
        (larger.quota_gb, larger.included_traffic_gb) = (20, 744);
        let part = |from, to, plan: Plan, sent_gb: u64| PlanSpan {
            from,
            to,
            plan,
            usage: Usage {
                hours: hours_between(from, to),
                stored_byte_hours: u128::from(25 * GB_BYTES) * u128::from(hours_between(from, to)),
                bytes_sent: sent_gb * GB_BYTES,
                ..Usage::default()
            },
        };
        let parts = [
            part(begin, change, plan(1, 1500), 1),
            part(change, end, larger, 500),
        ];
        let lines = overage_lines(&account, period, &parts, None, eur()).expect("lines");
        // 15 GB for 250 of 744 hours at 0.10: 50.4; 1 GB less 250/744 of 1 GB, at 0.50: 33.2; 5 GB for 494 hours: 33.2; 500 - 494 GB: 3.00
        assert_eq!(amounts(&lines), [50, 33, 33, 300]);
        assert_eq!(
            lines[0].text,
            "Standard S3, NL: storage above the quota, 2026-01-15T00:00:00Z to 2026-01-25T10:00:00Z"
        );
        assert_eq!(
            (lines[0].from, lines[0].to, lines[2].from, lines[2].to),
            (
                date(2026, 1, 15),
                date(2026, 1, 26),
                date(2026, 1, 25),
                date(2026, 2, 15)
            )
        );
    }

    proptest! {
        /// Divided between a plan and itself, a period that is above quota and included traffic in each of its parts costs what it costs whole,
        /// but for the rounding of its lines.
        #[test]
        fn a_period_divided_costs_what_it_costs_whole(
            hour in 1u32..743,
            above_gb in 0u64..100,
            sent_gb in proptest::array::uniform2(1u64..1_000),
        ) {
            let account = account(date(2026, 1, 15));
            let period = (date(2026, 1, 15), date(2026, 2, 15));
            let (begin, end) = (start_of(period.0), start_of(period.1));
            let change = begin + SignedDuration::from_hours(hour.into());
            let usage = |from, to, sent_gb: u64| {
                let hours = hours_between(from, to);
                Usage {
                    hours,
                    stored_byte_hours: u128::from((10 + above_gb) * GB_BYTES) * u128::from(hours),
                    bytes_sent: sent_gb * GB_BYTES,
                    ..Usage::default()
                }
            };
            let part = |from, to, sent_gb| PlanSpan { from, to, plan: plan(1, 1500), usage: usage(from, to, sent_gb) };
            let parts = [part(begin, change, sent_gb[0]), part(change, end, sent_gb[1])];
            let divided = overage_lines(&account, period, &parts, None, eur()).expect("lines");
            let whole = overage_lines(&account, period, &[part(begin, end, sent_gb[0] + sent_gb[1])], None, eur()).expect("lines");
            let sum = |lines: &[Line]| amounts(lines).iter().sum::<i64>();
            prop_assert!((sum(&divided) - sum(&whole)).abs() <= 2, "{divided:?} {whole:?}");
            let included = |lines: &[Line]| lines.iter().map(|line| match &line.basis {
                Basis::Storage(storage) => storage.included_byte_hours,
                Basis::Traffic(traffic) => traffic.included_bytes.into(),
                _ => 0,
            }).sum::<u128>();
            prop_assert_eq!(included(&divided), included(&whole));
        }
    }
}
