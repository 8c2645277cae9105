//! What a new stack begins with: plans to order, clients who order, and keys to log in with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use futures::future::{try_join_all, try_join3};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wharfage::context::Context;
use wharfage::database::Guard;
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::credential::{ApiKey, hash};
use wharfage::domain::history::{Actor, Entity};
use wharfage::domain::ledger::{Cause, Posting};
use wharfage::domain::money::{Currency, to_minor};
use wharfage::domain::plan::{Plan, PlanId, Prices};
use wharfage::error::Fault;

use crate::data::write_private;
use crate::error::Error;

/// Who can log in to a new stack, and with what.
#[derive(Clone, Serialize, Deserialize)]
pub struct Seeded {
    /// API keys by name: `admin`, `client`, `client2`.
    pub api_keys: BTreeMap<String, String>,
    /// Client numbers by name: `client`, `client2`.
    pub client_ids: BTreeMap<String, ClientId>,
    /// Whether everything was written.
    done: bool,
}

impl Seeded {
    /// An API key by the name of its owner; empty when there is none.
    #[must_use]
    pub fn api_key(&self, name: &str) -> &str {
        self.api_keys
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    }
}

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seeded")
            .field("client_ids", &self.client_ids)
            .finish_non_exhaustive()
    }
}

/// What each client has to spend at first, in its currency.
const CREDIT: Decimal = Decimal::from_parts(20_000, 0, 0, false, 2);

struct Person {
    /// In [`Seeded`].
    name: &'static str,
    client_id: ClientId,
    email: &'static str,
    role: Role,
    billing: &'static str,
    currency: &'static str,
    credit: Option<Decimal>,
}

const PEOPLE: [Person; 3] = [
    Person {
        name: "client",
        client_id: ClientId(1),
        email: "client@example.com",
        role: Role::Client,
        billing: "whmcs",
        currency: "EUR",
        credit: Some(CREDIT),
    },
    Person {
        name: "client2",
        client_id: ClientId(2),
        email: "client2@example.com",
        role: Role::Client,
        billing: "direct",
        currency: "USD",
        credit: Some(CREDIT),
    },
    Person {
        name: "admin",
        client_id: ClientId(3),
        email: "admin@example.com",
        role: Role::Admin,
        billing: "direct",
        currency: "EUR",
        credit: None,
    },
];

/// Monthly, traffic overage, storage overage, in one currency.
type PriceRow = (&'static str, &'static str, &'static str, &'static str);

struct PlanRow {
    id: PlanId,
    name: &'static str,
    active: bool,
    quota_gb: u64,
    storage_type: &'static str,
    locations: &'static [&'static str],
    included_traffic_gb: u64,
    prices: [PriceRow; 3],
    /// Location, currency, monthly.
    location_prices: &'static [(&'static str, &'static str, &'static str)],
}

const PLANS: [PlanRow; 4] = [
    PlanRow {
        id: PlanId(1),
        name: "Free",
        active: true,
        quota_gb: 5,
        storage_type: "Standard",
        locations: &["NL", "DE"],
        included_traffic_gb: 10,
        prices: [
            ("EUR", "0", "0", "0"),
            ("USD", "0", "0", "0"),
            ("RUB", "0", "0", "0"),
        ],
        location_prices: &[],
    },
    PlanRow {
        id: PlanId(2),
        name: "Standard S3",
        active: true,
        quota_gb: 5000,
        storage_type: "Standard",
        locations: &["NL", "DE"],
        included_traffic_gb: 1000,
        prices: [
            ("EUR", "15.00", "0.5", "0.1"),
            ("USD", "16.50", "0.55", "0.11"),
            ("RUB", "1500", "50", "10"),
        ],
        location_prices: &[
            ("NL", "EUR", "15.0"),
            ("NL", "USD", "16.5"),
            ("DE", "EUR", "14.0"),
            ("DE", "USD", "15.5"),
        ],
    },
    PlanRow {
        id: PlanId(3),
        name: "Cold S3",
        active: true,
        quota_gb: 10_000,
        storage_type: "Cold",
        locations: &["NL", "DE"],
        included_traffic_gb: 500,
        prices: [
            ("EUR", "8.00", "0.8", "0.05"),
            ("USD", "8.80", "0.88", "0.055"),
            ("RUB", "800", "80", "5"),
        ],
        location_prices: &[("DE", "EUR", "7.5"), ("DE", "USD", "8.25")],
    },
    PlanRow {
        id: PlanId(4),
        name: "Legacy S3",
        active: false,
        quota_gb: 1000,
        storage_type: "Standard",
        locations: &["NL"],
        included_traffic_gb: 500,
        prices: [
            ("EUR", "9.90", "0.6", "0.12"),
            ("USD", "10.90", "0.66", "0.13"),
            ("RUB", "990", "60", "12"),
        ],
        location_prices: &[],
    },
];

/// The plan for locations that count no traffic.
const UNCOUNTED_PLAN_ID: PlanId = PlanId(5);

/// The keys of a stack whose data is kept in `file`, or of one that keeps nothing; made at the first start.
///
/// # Errors
/// When the file cannot be used.
pub(crate) fn keys(context: &Context, file: Option<&Path>) -> Result<Seeded, Error> {
    let kept = match file.map(std::fs::read) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
        Some(Err(error)) => return Err(Error::io("cannot read the API keys")(error)),
    };
    if let (Some(text), Some(file)) = (kept, file) {
        return serde_json::from_slice(&text).map_err(|error| Error::Data {
            path: file.to_owned(),
            problem: error.to_string(),
        });
    }
    let seeded = Seeded {
        api_keys: PEOPLE
            .iter()
            // API keys are of the same kind as callback keys: 32 characters of a-z0-9.
            .map(|person| (person.name.to_owned(), context.random.callback_key()))
            .collect(),
        client_ids: PEOPLE
            .iter()
            .filter(|person| person.role == Role::Client)
            .map(|person| (person.name.to_owned(), person.client_id))
            .collect(),
        done: false,
    };
    keep(&seeded, file)?;
    Ok(seeded)
}

fn keep(seeded: &Seeded, file: Option<&Path>) -> Result<(), Error> {
    let Some(file) = file else {
        return Ok(());
    };
    let json = serde_json::to_vec_pretty(seeded).map_err(|error| Error::Data {
        path: file.to_owned(),
        problem: error.to_string(),
    })?;
    write_private(file, &json)
}

/// Writes the first data, unless that was done. A start that broke off goes on where it stopped: every write is one that
/// does nothing the second time.
///
/// # Errors
/// When DynamoDB cannot answer, or the keys cannot be kept.
pub(crate) async fn write(
    context: &Context,
    seeded: &mut Seeded,
    file: Option<&Path>,
) -> Result<bool, Error> {
    if seeded.done {
        return Ok(false);
    }
    let plans = plans(context)?;
    let last_plan = plans.iter().map(|plan| plan.id).max().unwrap_or(PlanId(0));
    let plans = plans.into_iter().map(|plan| async move {
        let actor = Actor::system("first start");
        let entry = context.entry(
            None,
            &Entity::Plan(plan.id),
            "create_plan",
            actor,
            Value::Null,
        );
        context.database.put_plan(&plan, &entry).await.map(|_| ())
    });
    let last = PEOPLE
        .iter()
        .map(|person| person.client_id)
        .max()
        .unwrap_or(ClientId(0));
    context.database.reserve_numbers(last, last_plan).await?;
    let people = PEOPLE.iter().map(|person| write_person(context, person));
    let keys = PEOPLE.iter().map(|person| {
        let api_key = ApiKey {
            client_id: person.client_id,
            name: "first key".into(),
            created_at: context.now(),
            made_by: None,
        };
        let key_hash = hash(seeded.api_key(person.name));
        async move { context.database.put_api_key(&key_hash, &api_key).await }
    });
    try_join3(
        try_join_all(plans),
        try_join_all(people),
        try_join_all(keys),
    )
    .await?;
    seeded.done = true;
    keep(seeded, file)?;
    Ok(true)
}

async fn write_person(context: &Context, person: &Person) -> Result<(), Fault> {
    let currency = currency(person.currency)?;
    let client = Client {
        client_id: person.client_id,
        email: person.email.into(),
        role: person.role,
        billing: person.billing.into(),
        currency,
        tags: Vec::new(),
        accounts: 0,
        free_accounts: 0,
        epoch: 0,
        made_by: None,
        credit_limit_minor: None,
    };
    let _there_already = context.database.insert_client(&client, None).await?;
    if let Some(credit) = person.credit {
        let credit_minor = to_minor(credit, currency)
            .map_err(|error| Fault::permanent("the first credit", error))?;
        let posting = Posting::new(
            Cause::TopUp("first credit"),
            (person.client_id, currency),
            context.now(),
            credit_minor,
            Vec::new(),
        );
        // A start that is repeated finds it made.
        let _ = context
            .database
            .post(&posting, &[], Guard::default(), &[], &[])
            .await?;
    }
    Ok(())
}

/// The plans, offered where what they charge for is counted: one that charges for no traffic is for the other locations.
fn plans(context: &Context) -> Result<Vec<Plan>, Fault> {
    let (counted, uncounted): (Vec<_>, Vec<_>) = context
        .clusters
        .iter()
        .partition(|cluster| cluster.capabilities().traffic);
    let codes = |clusters: Vec<&wharfage::cluster::Cluster>| -> Vec<String> {
        let codes = clusters.iter().map(|cluster| cluster.location.code.clone());
        codes.collect()
    };
    let (counted, uncounted) = (codes(counted), codes(uncounted));
    let is_known = |code: &String| PLANS[0].locations.contains(&code.as_str());
    let mut plans = Vec::new();
    for row in &PLANS {
        let mut plan = plan(row)?;
        // Locations that were given to this runner have what all others have.
        if plan.active {
            let given = counted
                .iter()
                .chain(&uncounted)
                .filter(|code| !is_known(code));
            plan.locations.extend(given.cloned());
        }
        if plan.traffic_currencies().next().is_some() {
            plan.locations.retain(|code| counted.contains(code));
            plan.location_prices
                .retain(|code, _| counted.contains(code));
        }
        if !plan.locations.is_empty() {
            plans.push(plan);
        }
    }
    if !uncounted.is_empty() {
        let mut flat = plan(&PLANS[1])?;
        flat.id = UNCOUNTED_PLAN_ID;
        flat.name = "Standard S3, traffic included".into();
        for prices in flat.prices.values_mut() {
            prices.traffic_overage_per_gb = Decimal::ZERO;
        }
        flat.location_prices
            .retain(|code, _| uncounted.contains(code));
        flat.locations = uncounted;
        plans.push(flat);
    }
    Ok(plans)
}

fn plan(row: &PlanRow) -> Result<Plan, Fault> {
    let mut prices = BTreeMap::new();
    for (code, monthly, traffic, storage) in row.prices {
        prices.insert(
            currency(code)?,
            Prices {
                monthly: decimal(monthly)?,
                traffic_overage_per_gb: decimal(traffic)?,
                storage_overage_per_gb_month: decimal(storage)?,
            },
        );
    }
    let mut location_prices: BTreeMap<String, BTreeMap<Currency, Decimal>> = BTreeMap::new();
    for (location, code, monthly) in row.location_prices {
        location_prices
            .entry((*location).to_owned())
            .or_default()
            .insert(currency(code)?, decimal(monthly)?);
    }
    Ok(Plan {
        charge_suspended: None,
        stop_at_bandwidth_limit: false,
        id: row.id,
        version: 1,
        name: row.name.into(),
        active: row.active,
        quota_gb: row.quota_gb,
        storage_limit_gb: None,
        storage_type: row.storage_type.into(),
        locations: row
            .locations
            .iter()
            .map(|code| (*code).to_owned())
            .collect(),
        included_traffic_gb: row.included_traffic_gb,
        prices,
        location_prices,
    })
}

fn currency(code: &str) -> Result<Currency, Fault> {
    Currency::from_code(code)
        .ok_or_else(|| Fault::permanent("the first data", format!("{code} is no currency")))
}

fn decimal(text: &str) -> Result<Decimal, Fault> {
    text.parse()
        .map_err(|error: rust_decimal::Error| Fault::permanent("the first data", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_can_be_read() {
        let plans: Vec<Plan> = PLANS.iter().map(|row| plan(row).expect("plan")).collect();
        let eur = currency("EUR").expect("EUR");
        let monthly = |plan: &Plan| plan.monthly_price("NL", eur).expect("a price");
        assert_eq!(monthly(&plans[0]), Decimal::ZERO);
        assert!(plans[1..].iter().all(|plan| monthly(plan) > Decimal::ZERO));
        assert_eq!(plans[1].monthly_price("DE", eur), Ok(Decimal::new(140, 1)));
        assert_eq!(plans[2].monthly_price("NL", eur), Ok(Decimal::new(800, 2)));
        assert_eq!(CREDIT.to_string(), "200.00");
    }
}
