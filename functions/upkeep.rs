//! Maintenance of a client's data: its accounts' listing groups, and the reconciliation of its ledger.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::database::Place;
use wharfage::domain::account::{Account, Group, S3Uid};
use wharfage::domain::client::{Client, ClientId};
use wharfage::domain::credential::hash;
use wharfage::domain::event::{Event, Kind};
use wharfage::domain::invoice::Invoice;
use wharfage::domain::order::Order;
use wharfage::domain::period::date_of;
use wharfage::domain::recount::{self, Books, OpenSide};
use wharfage::error::Fault;
use wharfage::telemetry::{self, Figure};
use wharfage::tries::Tries;

use crate::billing::TRIES;
use crate::payments::pay_open;

/// Brings a client's accounts to its email and its billing group.
pub(crate) async fn regroup(context: &Context, client_id: ClientId) -> Result<(), Fault> {
    let Some(client) = context.database.client(client_id).await? else {
        return Ok(());
    };
    for listed in context.database.client_accounts(client_id).await? {
        let Some(account) = context.database.account(&listed.s3uid).await? else {
            continue;
        };
        let is_right = account.email == client.email && account.billing == client.billing;
        if is_right || !account.is_visible() {
            continue;
        }
        let group = Group {
            plan_id: account.plan_id,
            storage_type: account.storage_type.clone(),
            location: account.location.clone(),
            billing: client.billing.clone(),
        };
        context.database.put_group(&group).await?;
        if !context
            .database
            .regroup_account(&account, &client.email, &group)
            .await?
            .is_yes()
        {
            return Err(Fault::retryable(
                "regrouping accounts",
                "somebody else is changing one",
            ));
        }
    }
    Ok(())
}

/// How long a place in a series may be taken before whoever took it is thought to have died: longer than any message is tried.
const PLACE_TAKEN_FOR: SignedDuration = SignedDuration::from_hours(6);

/// Holds a client's books against each other, and tells of the differences; none is as it should be. Then brings to an end what somebody
/// left half done: credit that stands beside debts pays them, places in the series that nobody uses are given to the next invoices, and
/// a counter that was set back is set to the highest number given.
pub(crate) async fn recount(context: &Context, client_id: ClientId) -> Result<(), Fault> {
    let paid = pay_open(context, client_id).await;
    let mut seen = Vec::new();
    let mut tries = Tries::of(TRIES);
    loop {
        tries.once_more(|| {
            Fault::keeps_changing(
                "recounting balances",
                format_args!("what client {client_id} has"),
            )
        })?;
        let (books, found) = differences(context, client_id).await?;
        if found != seen {
            // Something may have been posted between the reading of the one and the other: what is wrong stays so.
            seen = found;
            continue;
        }
        telemetry::add(Figure::LedgerDifferences, found.len() as u64);
        if let Err(fault) = paid {
            // An open side that cannot be paid, for example, because its invoice is missing. That is told, and keeps no other client.
            if found.is_empty() {
                return Err(fault);
            }
            tracing::warn!(error = %fault, "what is open cannot be paid from credit");
        }
        let now = context.now();
        for difference in found {
            tracing::error!(%difference, "two records of a client's money do not agree");
            let event = Event {
                // Told once a day, however often it is found.
                event_id: hash(&format!("{} {difference}", date_of(now))),
                at: now,
                kind: Kind::LedgerDifference,
                client_id,
                s3uid: None,
                detail: difference,
            };
            context.database.put_event(&event).await?;
        }
        return mend_series(context, client_id, &books).await;
    }
}

async fn mend_series(context: &Context, client_id: ClientId, books: &Books) -> Result<(), Fault> {
    let database = &context.database;
    for (currency, balances) in &books.balances {
        let numbers = books
            .invoices
            .iter()
            .filter(|invoice| invoice.currency == *currency)
            .filter_map(Invoice::place);
        let waiting = books.waiting.get(currency).into_iter().flatten().copied();
        let highest = numbers.chain(waiting).max().unwrap_or_default();
        if balances.invoices < highest {
            database.raise_series(client_id, *currency, highest).await?;
        }
        if !books.waiting.contains_key(currency) {
            continue;
        }
        let abandoned = context.now() - PLACE_TAKEN_FOR;
        for (cause, taken) in database.series(client_id, *currency).await?.taken {
            if taken.since.is_none_or(|since| since < abandoned) {
                let place = Place {
                    cause,
                    number: taken.number,
                };
                database.return_place(client_id, *currency, &place).await?;
            }
        }
    }
    Ok(())
}

async fn differences(context: &Context, client_id: ClientId) -> Result<(Books, Vec<Value>), Fault> {
    let database = &context.database;
    let (postings, balances, invoices, open, periods, client) = futures::try_join!(
        database.postings(client_id),
        database.all_balances(client_id),
        database.invoices(client_id),
        database.open_invoices(client_id),
        database.closed_periods(client_id, None),
        database.client(client_id),
    )?;
    let holds = recount::outstanding_holds(&postings);
    let orders = holds.keys().map(|order_id| database.order(order_id));
    let orders = futures::future::try_join_all(orders).await?;
    let orders = orders.into_iter().flatten().filter(Order::is_open);
    let orders = orders.map(|order| order.order_id).collect();
    let mut waiting = BTreeMap::new();
    for (currency, stored) in &balances {
        let of_currency = invoices
            .iter()
            .filter(|invoice| invoice.currency == *currency);
        if of_currency.count() as u64 != stored.invoices {
            let series = database.series(client_id, *currency).await?;
            let taken = series.taken.values().map(|taken| taken.number);
            let places: BTreeSet<u64> = taken.chain(series.returned).collect();
            if !places.is_empty() {
                waiting.insert(*currency, places);
            }
        }
    }
    let open = open.iter().map(|open| OpenSide {
        invoice_id: open.invoice_id,
        currency: open.currency,
        open_minor: open.open_minor(),
    });
    let books = Books {
        postings,
        balances,
        invoices,
        open: open.collect(),
        periods,
        orders,
        waiting,
    };
    let mut found = recount::differences(client_id, &books);
    let has_books =
        !books.balances.is_empty() || !books.postings.is_empty() || !books.invoices.is_empty();
    match client {
        None if has_books => found
            .push(json!({ "client_id": client_id, "of": "books of a client that is not there" })),
        None => {}
        Some(client) => found.extend(counts(context, &client).await?),
    }
    Ok((books, found))
}

/// How many accounts a client has by its own record, against the accounts themselves. Orders under way are counted by the record alone.
async fn counts(context: &Context, client: &Client) -> Result<Option<Value>, Fault> {
    let listed = context.database.client_accounts(client.client_id).await?;
    let is_short = |accounts: &[Account]| {
        let free = accounts.iter().filter(|account| account.is_free).count();
        (client.accounts as usize) < accounts.len() || (client.free_accounts as usize) < free
    };
    if !is_short(&listed) {
        return Ok(None);
    }
    // The index may show accounts that have ended since.
    let s3uids: Vec<&S3Uid> = listed.iter().map(|account| &account.s3uid).collect();
    let accounts = context.database.accounts(&s3uids).await?.into_values();
    let accounts: Vec<Account> = accounts.filter(Account::is_visible).collect();
    Ok(is_short(&accounts).then(|| {
        let free = accounts.iter().filter(|account| account.is_free).count();
        json!({
            "client_id": client.client_id,
            "of": "number of accounts",
            "stored": { "accounts": client.accounts, "free_accounts": client.free_accounts },
            "counted": { "accounts": accounts.len(), "free_accounts": free },
        })
    }))
}
