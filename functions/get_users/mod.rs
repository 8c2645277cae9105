//! `get_users`: accounts, with their traffic, storage and service; filtered, sorted and paged.
//!
//! Nothing here reads more than a bounded number of accounts. A filter that names a client, an account, an email or a bucket leaves few.
//! Every other filter is by plan, location, billing group or storage type, of which the listing groups consist. An order by the figures of
//! a calendar month uses that month's rankings, as far as usage has been collected.

use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wharfage::context::Context;
use wharfage::database::{AccountOrder, MonthUsage, Page};
use wharfage::domain::account::{self, Account, AccountId, Group, Status, Suspension};
use wharfage::domain::client::ClientId;
use wharfage::domain::figures::gb;
use wharfage::domain::period::{date_of, start_of};
use wharfage::domain::plan::PlanId;
use wharfage::domain::usage::Usage;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::Caller;
use wharfage::http::values::{Day, Id, Limit, Offset, PageToken, S3Uid, Whole};
use wharfage::{from_line, schema};

use crate::locations;
use crate::services::ServiceShown;

crate::action! {
    /// Lists accounts with traffic, storage and service; with filters, sorting and paging.
    ///
    /// Clients see their own. Administrators who filter by `status` or `suspension` go on by `next_token`; a page may be short.
    "get_users" of Everybody, about (), with query,
        refuses [ClientNotFound]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The first day of the reported period; by default the first of the month of `period_to`.
    period_from: Option<Day>,
    /// The last day of the reported period; by default today. Without both, each account's current period.
    period_to: Option<Day>,
    /// The sort key; by default the account's number.
    order: Option<Order>,
    /// `ASC` or `DESC`.
    #[schemars(extend("default" = "ASC"))]
    order_by: Option<Direction>,
    /// Accounts per page.
    #[serde(default)]
    limit: Limit<50, 500>,
    /// Accounts to skip. Skipping costs as much as reading: prefer filters.
    #[serde(default)]
    offset: Offset<10_000>,
    /// Filter: the client. For clients, also an account's number.
    id: Option<Id>,
    /// Filter: the account, by its number.
    account_id: Option<Id>,
    /// Filter: the plan.
    plan_id: Option<Id>,
    /// Filter: the account, by its permanent name.
    s3uid: Option<S3Uid>,
    /// Filter: the client's email.
    #[schemars(extend("examples" = ["jane@example.com"]))]
    email: Option<String>,
    /// Filter: the billing group.
    #[schemars(extend("examples" = ["main"]))]
    billing: Option<String>,
    /// Filter: a bucket's name.
    #[schemars(extend("examples" = ["my-first-bucket"]))]
    bucket_name: Option<String>,
    /// Filter: the storage type.
    #[schemars(extend("examples" = ["Standard"]))]
    storage_type: Option<String>,
    /// Filter: the location.
    #[schemars(extend("examples" = ["NL"]))]
    location: Option<String>,
    /// Filter: the status.
    status: Option<Shown>,
    /// Filter: the reason of the suspension.
    suspension: Option<Stopped>,
    /// The `next_token` of the page before.
    next_token: Option<PageToken>,
}

/// What accounts are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Traffic sent.
    TotalTrafficPeriodGb,
    /// The most that was stored at a time.
    TotalStoragePeakGb,
}

/// Which way accounts are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

from_line!(Direction, |text| {
    match text.to_ascii_uppercase().as_str() {
        "ASC" => Ok(Direction::Ascending),
        "DESC" => Ok(Direction::Descending),
        _ => Err("must be ASC or DESC"),
    }
});
schema!(Direction, "Direction", { "type": "string", "enum": ["ASC", "DESC", "asc", "desc"] });

/// Where accounts stand that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown(Status);

from_line!(Shown, |text| match text.parse() {
    Ok(status) if status != Status::Terminated => Ok(Shown(status)),
    _ => Err("must be active or cancelling or suspended or terminating"),
});
schema!(Shown, "ListedStatus", {
    "type": "string",
    "enum": ["active", "cancelling", "suspended", "terminating"],
});

/// Why keys are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stopped(Suspension);

from_line!(Stopped, |text| match text.parse() {
    Ok(suspension) => Ok(Stopped(suspension)),
    Err(_) => Err("must be unpaid or administrator or traffic"),
});
schema!(Stopped, "ListedSuspension", {
    "type": "string",
    "enum": ["unpaid", "administrator", "traffic"],
});

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The accounts.
    s3_users: Vec<AccountShown>,
    /// Pass it with the same parameters to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// An account with its figures.
#[derive(Debug, Serialize, JsonSchema)]
struct AccountShown {
    /// Its number.
    id: AccountId,
    /// Its permanent name.
    s3uid: account::S3Uid,
    /// Its owner.
    client_id: ClientId,
    /// The owner's email.
    email: String,
    /// The owner's billing group.
    billing: String,
    /// Its plan.
    plan_id: PlanId,
    /// Its location.
    location: String,
    /// The storage type.
    storage_type: String,
    /// The included storage, in GB of 2^30 bytes.
    quota: u64,
    /// Traffic sent, in GB.
    traffic: f64,
    /// Storage now, in GB.
    storage_usage: f64,
    /// Traffic sent, in GB.
    total_traffic_period_gb: f64,
    /// Peak storage, in GB.
    total_storage_peak_gb: f64,
    /// Its number of buckets.
    buckets: u64,
    /// Its service.
    service: ServiceShown,
}

/// So many accounts are looked at, in steps, for those of a status, before a short page is answered: `next_token` goes on from there.
const LOOK_AT: usize = 5_000;
const LOOK_AT_ONCE: usize = 1_000;
/// How many accounts' days are read at once.
const DAYS_AT_ONCE: usize = 25;

/// What is asked for.
struct Query {
    id: Option<u64>,
    account_id: Option<AccountId>,
    plan_id: Option<PlanId>,
    s3uid: Option<account::S3Uid>,
    email: Option<String>,
    billing: Option<String>,
    bucket_name: Option<String>,
    storage_type: Option<String>,
    location: Option<String>,
    status: Option<Status>,
    suspension: Option<Suspension>,
    /// The number of the account that a page before ended at.
    after: Option<AccountId>,
    /// Both days included.
    period: Option<(Date, Date)>,
    page: Page,
}

/// An account with its figures over the period asked for.
struct Row {
    account: Account,
    bytes_sent: u64,
    peak_stored_bytes: u64,
}

async fn handle(context: &Context, call: Call<'_, Asked>, query: Query) -> Result<Answered, Error> {
    let caller = call.caller;
    let rows = match candidates(context, &caller, &query).await? {
        Some(accounts) => {
            let accounts = accounts
                .into_iter()
                .filter(|account| matches(&caller, &query, account))
                .collect();
            let mut rows = rows(context, &query, accounts).await?;
            let rank = |row: &Row| match query.page.order {
                AccountOrder::Number => (row.account.id.0, row.account.id),
                AccountOrder::Traffic => (row.bytes_sent, row.account.id),
                AccountOrder::PeakStorage => (row.peak_stored_bytes, row.account.id),
            };
            rows.sort_by_key(rank);
            if query.page.descending {
                rows.reverse();
            }
            rows.into_iter()
                .skip(query.page.offset)
                .take(query.page.limit)
                .collect()
        }
        None if query.status.is_some() || query.suspension.is_some() || query.after.is_some() => {
            let (accounts, next) = page_of(context, &query).await?;
            let rows = rows(context, &query, accounts).await?;
            return Ok(Answered {
                s3_users: rows.iter().map(AccountShown::from).collect(),
                next_token: next.map(|next| next.to_string()),
            });
        }
        None => {
            let ranked_month = match query.period {
                Some(period) if query.page.order != AccountOrder::Number => {
                    let rule = "over a period takes a whole calendar month, as from 2026-01-01 to 2026-01-31, or one of id, email, s3uid, account_id and bucket_name with it";
                    Some(month(context, period).ok_or_else(|| Rejection::invalid("order", rule))?)
                }
                _ => None,
            };
            let groups = groups(context, &query).await?;
            match ranked_month {
                Some(month) => ranked(context, &groups, month, query.page).await?,
                None => {
                    let accounts = context.database.group_accounts(&groups, query.page).await?;
                    rows(context, &query, accounts).await?
                }
            }
        }
    };
    Ok(Answered {
        s3_users: rows.iter().map(AccountShown::from).collect(),
        next_token: None,
    })
}

/// The groups that the filters pick.
async fn groups(context: &Context, query: &Query) -> Result<Vec<Group>, Fault> {
    let mut groups = context.database.groups().await?;
    groups.retain(|group| {
        let is = |wanted: &Option<String>, is: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == is)
        };
        query.plan_id.is_none_or(|plan_id| plan_id == group.plan_id)
            && is(&query.location, &group.location)
            && is(&query.billing, &group.billing)
            && is(&query.storage_type, &group.storage_type)
    });
    Ok(groups)
}

/// A page of anybody's accounts of a status, by number, and the number after which the next page begins. No index has the status: so
/// many are looked at as one request may, and a page may be short.
async fn page_of(
    context: &Context,
    query: &Query,
) -> Result<(Vec<Account>, Option<AccountId>), Error> {
    let rule = "goes with status, suspension and next_token only beside one of id, email, s3uid, account_id and bucket_name";
    if query.page.order != AccountOrder::Number {
        return Err(Rejection::invalid("order", rule).into());
    }
    if query.page.offset > 0 {
        return Err(Rejection::invalid("offset", rule).into());
    }
    let groups = groups(context, query).await?;
    let mut found = Vec::new();
    let mut after = query.after;
    for _ in 0..LOOK_AT / LOOK_AT_ONCE {
        let page = Page {
            limit: LOOK_AT_ONCE,
            ..query.page
        };
        let accounts = context
            .database
            .group_accounts_after(&groups, after, page)
            .await?;
        let is_end = accounts.len() < LOOK_AT_ONCE;
        let mut accounts = accounts.into_iter();
        for account in accounts.by_ref() {
            after = Some(account.id);
            if has_status(query, &account) {
                found.push(account);
            }
            if found.len() == query.page.limit {
                break;
            }
        }
        if is_end && accounts.len() == 0 {
            return Ok((found, None));
        }
        if found.len() == query.page.limit {
            break;
        }
    }
    Ok((found, after))
}

/// Whether an account's service stands where it is asked for.
fn has_status(query: &Query, account: &Account) -> bool {
    let service = &account.service;
    query.status.is_none_or(|status| status == service.status())
        && query
            .suspension
            .is_none_or(|suspension| Some(suspension) == service.suspension())
}

async fn query(context: &Context, asked: &Asked) -> Result<Query, Error> {
    let day = |day: Option<Day>| day.map(|Day(date)| date);
    let period = match (day(asked.period_from), day(asked.period_to)) {
        (None, None) => None,
        (from, to) => {
            let to = to.unwrap_or_else(|| date_of(context.now()));
            let from = from.unwrap_or_else(|| to.first_of_month());
            if from > to {
                let rule = "must not be after period_to";
                return Err(Rejection::invalid("period_from", rule).into());
            }
            if (to - from).get_days() > 366 {
                let rule = "must be at most 366 days before period_to";
                return Err(Rejection::invalid("period_from", rule).into());
            }
            Some((from, to))
        }
    };
    let number = |id: Option<Id>| id.map(|Whole(id)| id);
    Ok(Query {
        id: number(asked.id),
        account_id: number(asked.account_id).map(AccountId),
        plan_id: number(asked.plan_id).map(PlanId),
        s3uid: asked.s3uid.clone().map(|S3Uid(s3uid)| s3uid),
        email: asked.email.as_ref().map(|email| email.to_lowercase()),
        billing: asked.billing.clone(),
        bucket_name: asked.bucket_name.clone(),
        storage_type: asked.storage_type.clone(),
        location: locations::known(context, asked.location.as_deref())?,
        status: asked.status.map(|Shown(status)| status),
        suspension: asked.suspension.map(|Stopped(suspension)| suspension),
        after: asked.next_token.map(|PageToken(number)| AccountId(number)),
        period,
        page: Page {
            order: match asked.order {
                None => AccountOrder::Number,
                Some(Order::TotalTrafficPeriodGb) => AccountOrder::Traffic,
                Some(Order::TotalStoragePeakGb) => AccountOrder::PeakStorage,
            },
            descending: asked.order_by == Some(Direction::Descending),
            offset: asked.offset.items(),
            limit: asked.limit.items(),
        },
    })
}

/// The accounts that the narrowest filter leaves, when there is one that leaves few. Clients see their own.
async fn candidates(
    context: &Context,
    caller: &Caller,
    query: &Query,
) -> Result<Option<Vec<Account>>, Error> {
    let database = &context.database;
    if let Some(bucket_name) = &query.bucket_name {
        let locations: Vec<String> = context
            .clusters
            .iter()
            .map(|cluster| cluster.location.code.clone())
            .filter(|code| query.location.as_ref().is_none_or(|wanted| wanted == code))
            .collect();
        let owners = database
            .bucket_owners(&locations, &bucket_name.as_str().into())
            .await?;
        let accounts =
            try_join_all(owners.iter().map(|row| database.account(&row.bucket_owner))).await?;
        let is_seen =
            |account: &Account| caller.is_admin() || account.client_id == caller.client_id;
        return Ok(Some(
            accounts.into_iter().flatten().filter(is_seen).collect(),
        ));
    }
    if !caller.is_admin() {
        return Ok(Some(database.client_accounts(caller.client_id).await?));
    }
    if let Some(s3uid) = &query.s3uid {
        return Ok(Some(database.account(s3uid).await?.into_iter().collect()));
    }
    let not_found = Rejection::client_not_found;
    let client_id = match (query.id, &query.email) {
        (Some(client_id), _) => Some(
            database
                .client(ClientId(client_id))
                .await?
                .ok_or_else(not_found)?
                .client_id,
        ),
        (None, Some(email)) => Some(
            database
                .client_id_by_email(email)
                .await?
                .ok_or_else(not_found)?,
        ),
        (None, None) => None,
    };
    match (client_id, query.account_id) {
        (Some(client_id), _) => Ok(Some(database.client_accounts(client_id).await?)),
        (None, Some(id)) => Ok(Some(
            database
                .anybodys_account_by_number(id)
                .await?
                .into_iter()
                .collect(),
        )),
        (None, None) => Ok(None),
    }
}

/// Whether an account passes all filters. `id` is a client's number; to clients it is an account's too, of their own.
fn matches(caller: &Caller, query: &Query, account: &Account) -> bool {
    let is_meant = |id: u64| {
        ClientId(id) == account.client_id || !caller.is_admin() && AccountId(id) == account.id
    };
    let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
    account.is_visible()
        && query.id.is_none_or(is_meant)
        && query.account_id.is_none_or(|id| id == account.id)
        && query
            .plan_id
            .is_none_or(|plan_id| plan_id == account.plan_id)
        && query
            .s3uid
            .as_ref()
            .is_none_or(|s3uid| *s3uid == account.s3uid)
        && is(&query.email, &account.email)
        && is(&query.billing, &account.billing)
        && is(&query.storage_type, &account.storage_type)
        && is(&query.location, &account.location)
        && has_status(query, account)
        && query.after.is_none_or(|after| match query.page.descending {
            true => account.id < after,
            false => account.id > after,
        })
}

/// The figures that belong to the accounts: of the running period, or of the one asked for.
async fn rows(context: &Context, query: &Query, accounts: Vec<Account>) -> Result<Vec<Row>, Fault> {
    let today = date_of(context.now());
    stream::iter(accounts)
        .map(|account| async {
            let Some((from, to)) = query.period else {
                // Figures of a period that has ended say nothing of the one that runs.
                let is_current = account.period_from == account.service.period_start(today);
                return Ok(Row {
                    bytes_sent: if is_current {
                        account.period_bytes_sent
                    } else {
                        0
                    },
                    peak_stored_bytes: if is_current {
                        account.period_peak_stored_bytes
                    } else {
                        account.stored_bytes
                    },
                    account,
                });
            };
            let (days, stored_before_bytes) = futures::try_join!(
                context.database.days(&account.s3uid, from, to),
                context.database.stored_before(&account.s3uid, from),
            )?;
            let until = start_of(to.tomorrow().unwrap_or(to)).min(context.now());
            let usage = Usage::of(stored_before_bytes, &days, from, until);
            Ok(Row {
                account,
                bytes_sent: usage.bytes_sent,
                peak_stored_bytes: usage.peak_stored_bytes,
            })
        })
        .buffered(DAYS_AT_ONCE)
        .try_collect()
        .await
}

/// The first day of the calendar month that a period is, if it is one: the running month is whole when it goes until today.
fn month(context: &Context, (from, to): (Date, Date)) -> Option<Date> {
    let first = from.first_of_month();
    let is_whole = to == from.last_of_month()
        || (to == date_of(context.now()) && to.first_of_month() == first);
    (from == first && is_whole).then_some(first)
}

/// A page of a month's ranking.
async fn ranked(
    context: &Context,
    groups: &[Group],
    month: Date,
    page: Page,
) -> Result<Vec<Row>, Fault> {
    let ranking = context.database.month_ranking(groups, month, page).await?;
    let s3uids: Vec<&account::S3Uid> = ranking.iter().map(|usage| &usage.s3uid).collect();
    let mut accounts = context.database.accounts(&s3uids).await?;
    let row = |usage: MonthUsage| {
        // One that is being removed at this moment stands in no listing any more.
        let account = accounts
            .remove(&usage.s3uid)
            .filter(|account| account.is_visible())?;
        Some(Row {
            account,
            bytes_sent: usage.bytes_sent,
            peak_stored_bytes: usage.peak_stored_bytes,
        })
    };
    Ok(ranking.into_iter().filter_map(row).collect())
}

impl From<&Row> for AccountShown {
    fn from(row: &Row) -> AccountShown {
        let account = &row.account;
        AccountShown {
            id: account.id,
            s3uid: account.s3uid.clone(),
            client_id: account.client_id,
            email: account.email.clone(),
            billing: account.billing.clone(),
            plan_id: account.plan_id,
            location: account.location.clone(),
            storage_type: account.storage_type.clone(),
            quota: account.quota_gb,
            traffic: gb(row.bytes_sent),
            storage_usage: gb(account.stored_bytes),
            total_traffic_period_gb: gb(row.bytes_sent),
            total_storage_peak_gb: gb(row.peak_stored_bytes),
            buckets: account.buckets,
            service: ServiceShown::from(&account.service),
        }
    }
}
