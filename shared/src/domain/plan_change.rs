//! Changes of plan.
//!
//! - **With the next period**: recorded on the account, and applied when its period is closed. If the plan is no longer available by then,
//!   the account stays on its plan.
//! - **Now**: at the start of the current hour, UTC, which belongs to the new plan. The rest of the period is credited at the old plan's
//!   price and charged at the new plan's, prorated exactly by the hour, each line rounded once. The commit date stays. Usage is rated when
//!   the period is closed, each part by its own plan (see [`crate::domain::closing`]), so usage that is collected after the change is
//!   charged like any other.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::account::{Account, NotAllowed, Status};
use crate::domain::client::Client;
use crate::domain::invoice::{Basis, InvoiceId, Line};
use crate::domain::money::{AmountTooLarge, Currency, to_minor};
use crate::domain::period::{date_of, hours_between, start_of};
use crate::domain::plan::{Plan, PlanId};
use crate::domain::rating::Exact;

/// How many parts a period may have before its last one.
const MOST_EARLIER: usize = 24;

/// An account's changes of plan: those of the running period, and the one to come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanChanges {
    /// The plan of the next period, where it is to be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_plan_id: Option<PlanId>,
    /// The plans that the running period had before the present one, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierPlan>,
    /// The latest change in the running period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestChange>,
}

impl PlanChanges {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == PlanChanges::default()
    }
}

/// A plan that an account was on earlier in its running period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierPlan {
    /// Which.
    pub plan_id: PlanId,
    /// In which version.
    pub plan_version: u32,
    /// The whole hour, UTC, at which the next one took its place.
    pub until: Timestamp,
}

/// What a change within a period came to: a repeated request is answered with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestChange {
    /// The whole hour, UTC, from which on it holds.
    pub from: Timestamp,
    /// Its invoice; none where nothing was charged.
    pub invoice_id: Option<InvoiceId>,
    /// What was charged, or given back.
    pub amount_minor: i64,
    /// In what.
    pub currency: Currency,
}

/// Why an account cannot be put on a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is going, or cancelled.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// It is on that plan.
    #[error("S3 account is on this plan already")]
    SamePlan,
    /// The plan is not sold any more, or not yet.
    #[error("the plan is not active")]
    NotActive,
    /// The plan is not sold where the account is.
    #[error("the plan is not offered in {0}")]
    NotOffered(String),
    /// The plan is not sold in what the client is billed in.
    #[error("the plan is not sold in {0}")]
    NotSold(Currency),
    /// Data does not move from one kind of storage to another.
    #[error("the plan is for storage of type {plan}, the S3 account is on {account}")]
    StorageType {
        /// The plan's.
        plan: String,
        /// The account's.
        account: String,
    },
    /// The account stores more than the cluster would let it.
    #[error("the S3 account stores {stored_bytes} bytes, the plan allows {limit_bytes}")]
    TooMuchStored {
        /// When last looked.
        stored_bytes: u64,
        /// See [`Plan::storage_limit_bytes`].
        limit_bytes: u64,
    },
    /// The client has as many accounts that cost nothing as it may have.
    #[error("the limit of free S3 accounts is reached")]
    FreeLimit,
    /// The period has been divided often enough.
    #[error("the plan was changed {MOST_EARLIER} times in this period already")]
    TooManyChanges,
    /// A price does not fit.
    #[error(transparent)]
    AmountTooLarge(#[from] AmountTooLarge),
}

/// Whether an account can be put on another plan, in the version that is sold now. `free_limit` is how many accounts that cost nothing a
/// client may have.
///
/// # Errors
/// Why not.
pub fn check(
    account: &Account,
    client: &Client,
    plan: &Plan,
    free_limit: u32,
) -> Result<(), Refused> {
    match account.service.status() {
        Status::Active | Status::Suspended => {}
        Status::Cancelling => return Err(NotAllowed::AlreadyCancelling.into()),
        Status::Terminating | Status::Terminated => return Err(NotAllowed::Terminating.into()),
    }
    if plan.id == account.plan_id {
        return Err(Refused::SamePlan);
    }
    if !plan.is_visible_to(&client.tags) {
        return Err(Refused::NotActive);
    }
    if !plan.locations.contains(&account.location) {
        return Err(Refused::NotOffered(account.location.clone()));
    }
    let becomes_free = is_free_for(plan, &account.location, client.currency)?;
    if plan.storage_type != account.storage_type {
        return Err(Refused::StorageType {
            plan: plan.storage_type.clone(),
            account: account.storage_type.clone(),
        });
    }
    if let Some(limit_bytes) = plan.storage_limit_bytes()
        && account.stored_bytes > limit_bytes
    {
        return Err(Refused::TooMuchStored {
            stored_bytes: account.stored_bytes,
            limit_bytes,
        });
    }
    if becomes_free && !account.is_free && client.free_accounts >= free_limit {
        return Err(Refused::FreeLimit);
    }
    Ok(())
}

/// Whether a plan costs nothing a month where it is sold in a currency.
///
/// # Errors
/// When it is not sold in it.
pub fn is_free_for(plan: &Plan, location: &str, currency: Currency) -> Result<bool, Refused> {
    let price = plan
        .monthly_price(location, currency)
        .map_err(|_| Refused::NotSold(currency))?;
    Ok(to_minor(price, currency)? == 0)
}

/// The plan that an account's next period is on, and why it is not the one that was asked for. `rated_by` is the plan as the account has
/// it, `sold_now` the same as it is sold now, `next` the one that was asked for.
#[must_use]
pub fn renewed_on<'a>(
    account: &Account,
    client: &Client,
    rated_by: &'a Plan,
    sold_now: &'a Plan,
    next: Option<&'a Plan>,
    free_limit: u32,
) -> (&'a Plan, Option<Refused>) {
    let refused = match next.map(|next| (next, check(account, client, next, free_limit))) {
        Some((next, Ok(()))) => return (next, None),
        Some((_, Err(refused))) => Some(refused),
        None => None,
    };
    // A plan that is not sold in the client's currency any more goes on at its last price in it.
    let is_sold = sold_now.prices.contains_key(&client.currency);
    (if is_sold { sold_now } else { rated_by }, refused)
}

/// The parts of the running period before the present one, once an account is put on `plan` at the hour `at`. Plans that would have no
/// hour leave no part; so going there and back within an hour changes nothing.
///
/// # Errors
/// When they would be too many.
pub fn earlier_after(
    account: &Account,
    period_from: Date,
    plan: &Plan,
    at: Timestamp,
) -> Result<Vec<EarlierPlan>, Refused> {
    let mut earlier = account.plan_changes.earlier.clone();
    let since = earlier
        .last()
        .map_or(start_of(period_from), |last| last.until);
    if since < at {
        earlier.push(EarlierPlan {
            plan_id: account.plan_id,
            plan_version: account.plan_version,
            until: at,
        });
    }
    earlier.pop_if(|last| (last.plan_id, last.plan_version) == (plan.id, plan.version));
    if earlier.len() > MOST_EARLIER {
        return Err(Refused::TooManyChanges);
    }
    Ok(earlier)
}

/// What a change at the hour `at` of the period `[from, to)` gives back of the old plan's price, and charges of the new one's.
///
/// # Errors
/// When a plan is not sold in the currency, or an amount does not fit.
pub fn prorated_lines(
    location: &str,
    (from, to): (Date, Date),
    at: Timestamp,
    old: &Plan,
    new: &Plan,
    currency: Currency,
) -> Result<Vec<Line>, Refused> {
    let hours_of_period = hours_between(start_of(from), start_of(to));
    let hours = hours_between(at, start_of(to)).min(hours_of_period);
    let mut lines = Vec::new();
    for (plan, sign, what) in [(old, -1, "given back"), (new, 1, "charged")] {
        let price = plan
            .monthly_price(location, currency)
            .map_err(|_| Refused::NotSold(currency))?;
        let share = Exact::share(price, currency, hours.into(), hours_of_period.into());
        if share.is_zero() {
            continue;
        }
        lines.push(Line {
            text: format!("{}, {location}: {what} from {at:.0}", plan.name),
            from: date_of(at),
            to,
            amount_minor: sign * share.round()?,
            plan_id: plan.id,
            plan_version: plan.version,
            basis: Basis::Prorated {
                hours,
                hours_of_period,
            },
        });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;
    use jiff::civil::date;
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;
    use crate::domain::client::{ClientId, Role};
    use crate::domain::closing::tests::account;
    use crate::domain::plan::Prices;

    const FROM: Date = date(2026, 1, 15);
    const TO: Date = date(2026, 2, 15);
    const HOURS: i64 = 31 * 24;

    fn eur() -> Currency {
        Currency::from_code("EUR").expect("EUR")
    }

    fn plan(id: u64, monthly_minor: i64) -> Plan {
        let prices = Prices {
            monthly: Decimal::new(monthly_minor, 2),
            traffic_overage_per_gb: Decimal::ZERO,
            storage_overage_per_gb_month: Decimal::ZERO,
        };
        Plan {
            charge_suspended: None,
            stop_at_bandwidth_limit: false,
            id: PlanId(id),
            version: 1,
            name: format!("Plan {id}"),
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

    fn client() -> Client {
        Client {
            client_id: ClientId(1),
            email: "a@example.com".into(),
            role: Role::Client,
            billing: "direct".into(),
            currency: eur(),
            tags: Vec::new(),
            accounts: 1,
            free_accounts: 0,
            epoch: 0,
            made_by: None,
            credit_limit_minor: None,
        }
    }

    fn at(hour: i64) -> Timestamp {
        start_of(FROM) + SignedDuration::from_hours(hour)
    }

    fn amounts(hour: i64, old: &Plan, new: &Plan) -> Vec<i64> {
        let lines = prorated_lines("NL", (FROM, TO), at(hour), old, new, eur()).expect("lines");
        lines.iter().map(|line| line.amount_minor).collect()
    }

    fn amount(hour: i64, old: &Plan, new: &Plan) -> i64 {
        amounts(hour, old, new).iter().sum()
    }

    /// The account after a change at an hour.
    fn changed(account: &Account, plan: &Plan, hour: i64) -> Account {
        let mut after = account.clone();
        after.plan_changes.earlier = earlier_after(account, FROM, plan, at(hour)).expect("parts");
        (after.plan_id, after.plan_version) = (plan.id, plan.version);
        after
    }

    #[test]
    fn what_is_left_of_the_period_is_given_back_and_charged_by_the_hour() {
        let (old, new) = (plan(2, 1500), plan(3, 3100));
        assert_eq!(amounts(0, &old, &new), [-1500, 3100]);
        // 10 days and 1 hour of 31 days have passed: 503 of 744 hours are left.
        assert_eq!(amounts(241, &old, &new), [-1014, 2096]);
        assert_eq!(amounts(HOURS - 1, &old, &new), [-2, 4]);
        assert_eq!(amounts(100, &plan(1, 0), &plan(4, 0)), Vec::<i64>::new());
        assert_eq!(amounts(372, &plan(1, 0), &old), [750]);
        assert_eq!(amounts(372, &old, &plan(1, 0)), [-750]);
    }

    #[test]
    fn a_plan_without_an_hour_leaves_no_part() {
        let (a, b, c) = (plan(2, 0), plan(3, 0), plan(4, 0));
        let on_a = account(FROM);
        let on_b = changed(&on_a, &b, 5);
        let part = |plan_id, hour| EarlierPlan {
            plan_id: PlanId(plan_id),
            plan_version: 1,
            until: at(hour),
        };
        assert_eq!(on_b.plan_changes.earlier, [part(2, 5)]);
        assert_eq!(changed(&on_b, &c, 5).plan_changes.earlier, [part(2, 5)]);
        assert_eq!(
            changed(&on_b, &c, 6).plan_changes.earlier,
            [part(2, 5), part(3, 6)]
        );
        assert_eq!(
            changed(&on_b, &a, 6).plan_changes.earlier,
            [part(2, 5), part(3, 6)]
        );
        assert_eq!(changed(&on_b, &a, 5), on_a);
        assert_eq!(changed(&on_a, &b, 0).plan_changes.earlier, []);
    }

    #[test]
    fn a_period_is_divided_only_so_often() {
        let mut account = account(FROM);
        let plans = [plan(3, 0), plan(2, 0)];
        for hour in 1..=i64::try_from(MOST_EARLIER).expect("few") {
            account = changed(&account, &plans[usize::from(hour % 2 == 0)], hour);
        }
        let next = if account.plan_id == PlanId(2) { 0 } else { 1 };
        let refused = earlier_after(&account, FROM, &plans[next], at(700));
        assert_eq!(refused, Err(Refused::TooManyChanges));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_its_reason() {
        let (account, client, sold) = (account(FROM), client(), plan(3, 100));
        assert_eq!(check(&account, &client, &sold, 1), Ok(()));
        let refused = |account: &Account, plan: Plan| {
            let refused = check(account, &client, &plan, 1).expect_err("refused");
            let (kept, why) = renewed_on(account, &client, &sold, &sold, Some(&plan), 1);
            assert_eq!((kept, why.as_ref()), (&sold, Some(&refused)));
            refused.to_string()
        };
        let mut inactive = sold.clone();
        inactive.active = false;
        assert_eq!(refused(&account, inactive), "the plan is not active");
        let mut elsewhere = sold.clone();
        elsewhere.locations = vec!["DE".into()];
        assert_eq!(
            refused(&account, elsewhere),
            "the plan is not offered in NL"
        );
        let mut dear = sold.clone();
        dear.prices.clear();
        assert_eq!(refused(&account, dear), "the plan is not sold in EUR");
        let mut cold = sold.clone();
        cold.storage_type = "Cold".into();
        assert_eq!(
            refused(&account, cold),
            "the plan is for storage of type Cold, the S3 account is on Standard"
        );
        let mut full = account.clone();
        full.stored_bytes = (10 << 30) + 1;
        assert_eq!(
            refused(&full, sold.clone()),
            "the S3 account stores 10737418241 bytes, the plan allows 10737418240"
        );
        let mut cancelled = account.clone();
        cancelled.service = account.service.cancel(FROM, 30).expect("cancelled");
        assert_eq!(
            refused(&cancelled, sold.clone()),
            "S3 account is already being cancelled"
        );
        cancelled.service = cancelled.service.end();
        assert_eq!(
            refused(&cancelled, sold.clone()),
            "S3 account is being deleted"
        );
        let free = plan(4, 0);
        assert_eq!(check(&account, &client, &free, 1), Ok(()));
        assert_eq!(check(&account, &client, &free, 0), Err(Refused::FreeLimit));
        let mut on_free = account.clone();
        on_free.is_free = true;
        assert_eq!(check(&on_free, &client, &free, 0), Ok(()));
        let same = check(&account, &client, &plan(2, 1), 1);
        assert_eq!(same, Err(Refused::SamePlan));
    }

    #[test]
    fn a_plan_no_longer_sold_in_the_currency_goes_on_at_its_last_price() {
        let (account, client, last) = (account(FROM), client(), plan(2, 1500));
        let mut sold_now = plan(2, 9900);
        let renewed = renewed_on(&account, &client, &last, &sold_now, None, 1);
        assert_eq!(renewed, (&sold_now, None));
        sold_now.prices.clear();
        let renewed = renewed_on(&account, &client, &last, &sold_now, None, 1);
        assert_eq!(renewed, (&last, None));
    }

    proptest! {
        #[test]
        fn from_a_plan_to_itself_costs_nothing(price in 0i64..10_000_000, hour in 0..HOURS) {
            prop_assert_eq!(amount(hour, &plan(2, price), &plan(3, price)), 0);
        }

        #[test]
        fn two_changes_within_an_hour_are_one(
            prices in proptest::array::uniform3(0i64..10_000_000),
            hours in proptest::array::uniform2(0..HOURS),
        ) {
            let [a, b, c] = [plan(2, prices[0]), plan(3, prices[1]), plan(4, prices[2])];
            let (first, hour) = (hours[0].min(hours[1]), hours[0].max(hours[1]));
            prop_assert_eq!(amount(hour, &a, &b) + amount(hour, &b, &c), amount(hour, &a, &c));
            // Whatever went before in the period.
            let before = changed(&account(FROM), &c, first);
            let through = changed(&changed(&before, &b, hour), &a, hour);
            prop_assert_eq!(through, changed(&before, &a, hour));
            let back = changed(&changed(&before, &b, hour), &c, hour);
            prop_assert_eq!(back, before);
        }

        #[test]
        fn every_hour_is_paid_at_the_price_of_its_plan(
            prices in proptest::array::uniform3(0i64..10_000_000),
            hours in proptest::array::uniform2(0..HOURS),
        ) {
            let [a, b, c] = [plan(2, prices[0]), plan(3, prices[1]), plan(4, prices[2])];
            let (first, second) = (hours[0].min(hours[1]), hours[0].max(hours[1]));
            let paid = prices[0] + amount(first, &a, &b) + amount(second, &b, &c);
            let exact = i128::from(prices[0]) * i128::from(first)
                + i128::from(prices[1]) * i128::from(second - first)
                + i128::from(prices[2]) * i128::from(HOURS - second);
            // Four lines, each off by half a cent at most.
            let off = i128::from(paid) * i128::from(HOURS) - exact;
            prop_assert!(off.abs() <= 2 * i128::from(HOURS), "{off}");
        }
    }
}
