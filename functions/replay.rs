//! Invoices recomputed: usage from the segments alone, terms and dates as stored; then compared line by line with the stored invoice.
//!
//! Days in DynamoDB are not read. So later edits of them do not matter here, and errors in them at the closing show. The invoice of an
//! order is not replayed: it has no usage.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::civil::Date;
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, S3Uid, Service, Standing};
use wharfage::domain::allowance::{OpenedAnew, end_of_month};
use wharfage::domain::client::ClientId;
use wharfage::domain::closing::{ClosedPeriod, PlanVersion, close};
use wharfage::domain::invoice::{Basis, Invoice, Line};
use wharfage::domain::money::Currency;
use wharfage::domain::period::start_of;
use wharfage::domain::plan::Plan;
use wharfage::error::Fault;
use wharfage::segments::shard_of;

use crate::closing::parts;
use crate::differences::{Difference, differences};
use crate::metering::{Metered, read_segments, told_before};

/// Clients asked for their periods at once.
const CLIENTS_AT_ONCE: usize = 16;
/// Invoices read at once.
const INVOICES_AT_ONCE: usize = 16;

/// Which periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// An account's: the one that began on a day, or all that were closed.
    Account {
        /// The account.
        s3uid: S3Uid,
        /// The period's first day.
        from: Option<Date>,
    },
    /// Those of all accounts of a location that ended on one of these days, both included.
    Location {
        /// The location.
        location: String,
        /// The first day.
        from: Date,
        /// The last day.
        to: Date,
    },
}

/// A period that was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The period with its terms.
    pub closed: ClosedPeriod,
    /// What it comes to, in minor units.
    pub amount_minor: i64,
    /// Where that is not what is stored.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClosedPeriod {
            s3uid,
            from,
            to,
            currency,
            ..
        } = &self.closed;
        let word = match self.differences.is_empty() {
            true => "equal",
            false => "DIFFERS",
        };
        write!(f, "{word} {s3uid} {from}..{to} ")?;
        match self.closed.invoice_id {
            Some(invoice_id) => write!(f, "invoice {invoice_id}")?,
            None => write!(f, "no invoice")?,
        }
        write!(f, ", {} minor units of {currency}", self.amount_minor)?;
        self.differences
            .iter()
            .try_for_each(|difference| write!(f, "\n  {difference}"))
    }
}

/// Why nothing, or not everything, was made again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such account, location or closed period.
    #[error("{0}")]
    NotThere(String),
    /// Something outside cannot answer, or what is stored cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Makes periods again and tells of each. Of a location's accounts, the days of one shard are in memory at a time.
///
/// # Errors
/// See [`ReplayError`].
pub async fn replay(
    context: &Context,
    which: &Which,
    mut tell: impl FnMut(Replayed),
) -> Result<(), ReplayError> {
    match which {
        Which::Account { s3uid, from } => {
            let account = context.database.account(s3uid).await?;
            let account = account
                .ok_or_else(|| ReplayError::NotThere(format!("there is no account {s3uid}")))?;
            let client_id = account.client_id;
            let mut periods = context
                .database
                .closed_periods(client_id, Some(s3uid))
                .await?;
            if let Some(from) = from {
                periods.retain(|period| period.from == *from);
                if periods.is_empty() {
                    let text = format!("account {s3uid} has no closed period that began on {from}");
                    return Err(ReplayError::NotThere(text));
                }
            }
            let shard = shard_of(account.id, context.rules.usage_shard_accounts);
            let location = account.location.clone();
            let periods = vec![(account, periods)];
            replay_shard(context, &location, shard, periods, &mut tell).await?;
        }
        Which::Location { location, from, to } => {
            if context.clusters.of(location).is_err() {
                let text = format!("there is no location {location}");
                return Err(ReplayError::NotThere(text));
            }
            for (shard, mut periods) in location_periods(context, location, *from, *to).await? {
                let s3uids: Vec<&S3Uid> = periods.keys().collect();
                let accounts = context.database.accounts(&s3uids).await?;
                let periods = accounts
                    .into_iter()
                    .filter_map(|(s3uid, account)| Some((account, periods.remove(&s3uid)?)))
                    .collect();
                replay_shard(context, location, shard, periods, &mut tell).await?;
            }
        }
    }
    Ok(())
}

/// Closed periods, by account.
type Periods = BTreeMap<S3Uid, Vec<ClosedPeriod>>;

/// The periods of a location's accounts that ended on one of these days, by shard. They are found by the clients' own lists, so that an
/// account that has ended, or that no segment names, is not passed over.
async fn location_periods(
    context: &Context,
    location: &str,
    from: Date,
    to: Date,
) -> Result<BTreeMap<u64, Periods>, Fault> {
    let database = &context.database;
    let clients = 1..=database.last_client_id().await?;
    let mut found = stream::iter(clients)
        .map(|client_id| async move {
            let mut periods = database.closed_periods(ClientId(client_id), None).await?;
            periods.retain(|period| (from..=to).contains(&period.to));
            let mut s3uids: Vec<&S3Uid> = periods.iter().map(|p| &p.s3uid).collect();
            s3uids.dedup();
            let accounts = database.accounts(&s3uids).await?;
            Ok::<_, Fault>((periods, accounts))
        })
        .buffer_unordered(CLIENTS_AT_ONCE);
    let mut shards: BTreeMap<u64, Periods> = BTreeMap::new();
    while let Some((periods, accounts)) = found.try_next().await? {
        for period in periods {
            let account = accounts
                .get(&period.s3uid)
                .ok_or_else(|| missing(&format!("account {}", period.s3uid)))?;
            if account.location == location {
                let shard = shard_of(account.id, context.rules.usage_shard_accounts);
                let shard = shards.entry(shard).or_default();
                shard.entry(period.s3uid.clone()).or_default().push(period);
            }
        }
    }
    Ok(shards)
}

fn missing(what: &str) -> Fault {
    Fault::permanent("replaying", format!("{what} is missing"))
}

/// Makes periods of accounts of one shard again.
async fn replay_shard(
    context: &Context,
    location: &str,
    shard: u64,
    periods: Vec<(Account, Vec<ClosedPeriod>)>,
    tell: &mut impl FnMut(Replayed),
) -> Result<(), Fault> {
    let all = || periods.iter().flat_map(|(_, periods)| periods);
    let (Some(first), Some(end)) = (all().map(|p| p.from).min(), all().map(|p| p.to).max()) else {
        return Ok(());
    };
    let by_name: HashMap<&S3Uid, &Account> = periods
        .iter()
        .map(|(account, _)| (&account.s3uid, account))
        .collect();
    let is_wanted = |s3uid: &S3Uid| by_name.contains_key(s3uid);
    let accounts: Vec<&Account> = by_name.values().copied().collect();
    let mut totals = read_segments(context, location, shard, is_wanted, first, end).await?;
    let before = told_before(context, location, shard, &accounts, first).await?;
    let plans = plans(context, all()).await?;
    let metered = |s3uid: &S3Uid, days| Metered {
        from: first,
        before_bytes: before.get(s3uid).copied().unwrap_or(0),
        days,
    };
    let work = periods.iter().flat_map(|(account, closed)| {
        let days = totals.days.remove(&account.s3uid).unwrap_or_default();
        let metered = metered(&account.s3uid, days);
        let plans = &plans;
        closed
            .iter()
            .map(move |closed| (account, closed, remake(account, closed, &metered, plans)))
            .collect::<Vec<_>>()
    });
    let mut made = stream::iter(work)
        .map(|(account, closed, lines)| async move {
            let stored = match closed.invoice_id {
                Some(id) => context.database.invoice(account.client_id, id).await?,
                None => None,
            };
            Ok::<_, Fault>(compared(closed, stored, lines?))
        })
        .buffered(INVOICES_AT_ONCE);
    while let Some(replayed) = made.try_next().await? {
        tell(replayed);
    }
    Ok(())
}

/// The plans of these periods, in their versions.
async fn plans<'a>(
    context: &Context,
    periods: impl Iterator<Item = &'a ClosedPeriod>,
) -> Result<BTreeMap<PlanVersion, Plan>, Fault> {
    let mut plans = BTreeMap::new();
    let wanted = periods.flat_map(|period| {
        let earlier = period.earlier.iter().map(PlanVersion::from);
        earlier.chain([period.rated_by]).chain(period.next)
    });
    for wanted in wanted {
        if let Entry::Vacant(place) = plans.entry(wanted) {
            let PlanVersion { plan_id, version } = wanted;
            let plan = context.database.plan_version(plan_id, version).await?;
            let plan =
                plan.ok_or_else(|| missing(&format!("version {version} of plan {plan_id}")))?;
            place.insert(plan);
        }
    }
    Ok(plans)
}

/// The lines of a period's invoice, made from what the segments tell.
fn remake(
    account: &Account,
    closed: &ClosedPeriod,
    metered: &Metered,
    plans: &BTreeMap<PlanVersion, Plan>,
) -> Result<Vec<Line>, Fault> {
    let plan = |wanted: PlanVersion| {
        let plan = plans.get(&wanted).cloned();
        plan.ok_or_else(|| missing("a plan"))
    };
    let mut earlier = Vec::new();
    for before in &closed.earlier {
        earlier.push((plan(before.into())?, before.until));
    }
    let dates = (closed.from, closed.to);
    let parts = parts(dates, earlier, plan(closed.rated_by)?, |since, until| {
        metered.part(closed.from, since, until)
    });
    let sold = plan(closed.next.unwrap_or(closed.rated_by))?;
    // As it was when the period was closed, as far as that decides what is charged.
    let account = Account {
        plan_id: closed.rated_by.plan_id,
        plan_version: closed.rated_by.version,
        service: Service {
            standing: match closed.next {
                Some(_) => Standing::Active,
                None => Standing::Terminated(None),
            },
            next_commit_date: closed.to,
            uncharged_from: closed.is_uncharged.then_some(closed.from),
            ..account.service.clone()
        },
        ..account.clone()
    };
    let opened_anew = closed.used_before.map(|before| OpenedAnew {
        before,
        later: (&metered.part(closed.from, end_of_month(closed.from), start_of(closed.to))).into(),
    });
    let is_next_charged = !closed.is_next_uncharged;
    let closing = close(
        &account,
        dates,
        &parts,
        opened_anew.as_ref(),
        &sold,
        is_next_charged,
        closed.currency,
    )
    .map_err(|e| Fault::permanent(format!("closing a period of {}", account.s3uid), e))?;
    Ok(closing.lines)
}

/// What a period was made to be against what is stored of it.
fn compared(closed: &ClosedPeriod, stored: Option<Invoice>, made: Vec<Line>) -> Replayed {
    let amount_minor: i64 = made.iter().map(|line| line.amount_minor).sum();
    let mut found = Vec::new();
    if stored.is_some() || closed.invoice_id.is_some() {
        let head = |s3uid: &S3Uid, currency: Currency, amount_minor: i64| json!({ "s3uid": s3uid, "currency": currency, "amount_minor": amount_minor });
        let stored = stored
            .as_ref()
            .map(|stored| head(&stored.s3uid, stored.currency, stored.amount_minor));
        let made = head(&closed.s3uid, closed.currency, amount_minor);
        found.extend(differences("invoice", &stored, &Some(made)));
    }
    let mut unmatched = made;
    for (number, line) in (1..).zip(stored.iter().flat_map(|stored| &stored.lines)) {
        let place = unmatched.iter().position(|made| is_same(line, made));
        let made = place.map(|place| unmatched.remove(place));
        let of = format!("line {number}");
        found.extend(differences(&of, &Some(line), &made.as_ref()));
    }
    for made in &unmatched {
        found.extend(differences("missing line", &None, &Some(made)));
    }
    Replayed {
        closed: closed.clone(),
        amount_minor,
        differences: found,
    }
}

/// Whether two lines are for the same thing, whatever they come to.
fn is_same(one: &Line, other: &Line) -> bool {
    let kind = |line: &Line| std::mem::discriminant::<Basis>(&line.basis);
    (kind(one), one.from, one.to) == (kind(other), other.from, other.to)
}
