//! `cargo bench -p tests --bench months`: months of an installation's life over the embedded services, hour by hour, with every schedule
//! and every queue: orders, traffic, collection, closings. Then whether all of it is right, and what it took. `docs/performance.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client as S3;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use clap::Parser;
use functions::rebuild::{Whose, rebuild};
use functions::replay::{Which, replay};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use lambda_http::Body;
use local::{Options, Stack};
use serde_json::{Value, json};
use tests::form_request;
use wharfage::database::{Guard, Written};
use wharfage::domain::account::S3Uid;
use wharfage::domain::client::{Client, ClientId, Role};
use wharfage::domain::credential::{ApiKey, hash};
use wharfage::domain::ledger::{Balances, Cause, Posting};
use wharfage::domain::money::Currency;
use wharfage::domain::period::{anniversary, date_of, start_of};

/// Everything is ordered in this hour.
const START: &str = "2026-10-01T00:10:00Z";
const LOCATION: &str = "NL";
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Accounts of one client.
const ACCOUNTS_PER_CLIENT: u64 = 10;
/// Of so many accounts one is ever busy.
const ACCOUNTS_PER_BUSY: usize = 20;
/// What a busy account uploads in an hour, and downloads.
const OBJECT_BYTES: usize = 1_024;
/// Requests under way at once.
const AT_ONCE: usize = 16;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Simulates months of an installation, checks them, and prints what they took.
#[derive(Parser)]
struct Arguments {
    /// Accounts
    #[arg(long, default_value_t = 10_000)]
    accounts: u64,
    /// Months
    #[arg(long, default_value_t = 3)]
    months: i32,
    /// Days instead of months: no period ends then
    #[arg(long)]
    days: Option<i32>,
    /// Hours of each day in which accounts change, from 08:00 on
    #[arg(long, default_value_t = 12)]
    hours_per_day: i8,
    /// Of a thousand accounts, those that change in such an hour
    #[arg(long, default_value_t = 5)]
    changes_per_mille: u64,
    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

/// Counts the product's calls.
#[derive(Clone)]
struct Counting {
    inner: SharedHttpConnector,
    calls: Arc<Mutex<BTreeMap<String, u64>>>,
}

type Calls = BTreeMap<String, u64>;

impl Counting {
    fn calls(&self) -> Calls {
        let calls = self.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl HttpConnector for Counting {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let name = tests::tap::name(&request);
        let calls = self.calls.lock();
        *calls
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default() += 1;
        self.inner.call(request)
    }
}

/// What a stage took.
#[derive(Default, Clone)]
struct Took {
    times: u64,
    time: Duration,
    calls: Calls,
}

/// The stages, by name, in their order.
struct Stages {
    counting: Counting,
    stages: Vec<(&'static str, Took)>,
}

impl Stages {
    async fn run<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        let (began, before) = (Instant::now(), self.counting.calls());
        let result = work.await?;
        if self.stages.iter().all(|(known, _)| *known != name) {
            self.stages.push((name, Took::default()));
        }
        let stage = self.stages.iter_mut().find(|(known, _)| *known == name);
        if let Some((_, took)) = stage {
            took.times += 1;
            took.time += began.elapsed();
            for (call, count) in self.counting.calls() {
                let new = count - before.get(&call).copied().unwrap_or(0);
                *took.calls.entry(call).or_default() += new;
            }
        }
        Ok(result)
    }

    fn get(&self, name: &str) -> Took {
        let stage = self.stages.iter().find(|(known, _)| *known == name);
        stage.map(|(_, took)| took.clone()).unwrap_or_default()
    }
}

/// An account with traffic.
struct Busy {
    bucket_name: String,
    s3: S3,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Outcome<()> {
    let counting = Counting {
        inner: wharfage::connectors::loopback_connector(),
        calls: Arc::default(),
    };
    let stack = Stack::start(Options {
        clock: Some(START.parse()?),
        connector: Some(SharedHttpConnector::new(counting.clone())),
        ..Options::default()
    })
    .await?;
    let mut stages = Stages {
        counting,
        stages: Vec::new(),
    };
    let wall = Instant::now();
    let tokens = stages
        .run("clients", clients(&stack, arguments.accounts))
        .await?;
    let plan_id = plan(&stack).await?;
    let orders = orders(&stack, &tokens, plan_id, arguments.accounts);
    let s3uids = stages.run("orders", orders).await?;
    let busy = busy(&stack, &s3uids).await?;

    let begin: Timestamp = START.parse()?;
    let first = date_of(begin);
    let end = match arguments.days {
        Some(days) => first.saturating_add(days.days()),
        None => anniversary(first, arguments.months),
    };
    // Those of the first day count for themselves, as its hours do.
    let (mut turn, mut first_changes, mut changes) = (0, 0, 0);
    let mut hour = start_of(first);
    while hour < start_of(end) {
        let of_day = hour.as_second().rem_euclid(86_400) / 3_600;
        let active = 8..8 + i64::from(arguments.hours_per_day.clamp(0, 16));
        let is_active = active.contains(&of_day);
        if is_active {
            let count = arguments.accounts * arguments.changes_per_mille / 1_000;
            let traffic = traffic(&busy, &mut turn, usize::try_from(count)?.min(busy.len()));
            let count = stages.run("traffic over S3", traffic).await?;
            *(if date_of(hour) == first {
                &mut first_changes
            } else {
                &mut changes
            }) += count;
        }
        // Collected at five past, and what else there is to do in an hour after that.
        hour += HOUR;
        let name = match (is_active, of_day) {
            // Its figures are the first of every account, and the orders' events are still being sent.
            _ if date_of(hour - HOUR) == first => "collection, day of the orders",
            (true, _) => "collection, hours with changes",
            (false, 0) => "collection, first hour of a day",
            (false, _) => "collection, quiet hours",
        };
        let collected = advance(&stack, hour + SignedDuration::from_mins(6));
        stages.run(name, collected).await?;
        // Periods are closed once their last hour is collected, at the twentieth minute of the commit date.
        let is_commit_date = date_of(hour) > first && date_of(hour).day() == first.day();
        let name = match is_commit_date && hour == start_of(date_of(hour)) {
            true => "closing periods",
            false => "other schedules",
        };
        let others = advance(&stack, hour + SignedDuration::from_mins(59));
        stages.run(name, others).await?;
        if of_day == 23 && date_of(hour).day() % 5 == 1 {
            eprintln!("{} after {:.0?}", date_of(hour), wall.elapsed());
        }
    }
    let hours = (start_of(end).as_second() - start_of(first).as_second()) / 3_600;

    let checked = checked(&stack, &s3uids, end, arguments.months, arguments.days);
    let invoices = stages.run("check: one invoice a period", checked).await?;
    let sound = recounted(&stack);
    let postings = stages.run("check: ledger recounted", sound).await?;
    let replayed = stages
        .run("check: replay", replayed(&stack, first, end))
        .await?;
    let (rebuilt, differing) = stages
        .run("check: rebuild --dry-run", rebuilt(&stack, first, end))
        .await?;
    let (segments, segment_bytes) = segments(&stack).await?;

    let accounts = arguments.accounts;
    let months = hours as f64 / 720.0;
    println!("\n| figure | |\n|---|---|");
    println!(
        "| accounts | {accounts}, of them {} ever busy |",
        busy.len()
    );
    println!("| simulated hours | {hours} |");
    println!(
        "| changes of an account in an hour | {} |",
        first_changes + changes
    );
    println!("| segments | {segments}, {segment_bytes} bytes |");
    println!("| invoices | {invoices}, each period of each account once |");
    println!("| postings recounted | {postings}, no difference |");
    println!("| periods replayed | {replayed}, all equal |");
    println!("| accounts whose totals were made again | {rebuilt}, {differing} differing |");
    println!("| wall time | {:.0?} |", wall.elapsed());
    println!("\n| stage | times | wall time | each | calls | a time |\n|---|---|---|---|---|---|");
    for (name, took) in &stages.stages {
        let calls: u64 = took.calls.values().sum();
        println!(
            "| {name} | {} | {:.1?} | {:.1?} | {calls} | {:.1} |",
            took.times,
            took.time,
            took.time / u32::try_from(took.times)?.max(1),
            calls as f64 / took.times as f64,
        );
    }
    println!("\nCalls per account and 30 days, from the first hour to the last closing:\n");
    println!("| call | per account-month |\n|---|---|");
    let mut living = Calls::new();
    for (_, took) in stages.stages.iter().filter(|(name, _)| {
        !name.starts_with("check") && !["clients", "orders", "traffic over S3"].contains(name)
    }) {
        for (call, count) in &took.calls {
            *living.entry(call.clone()).or_default() += count;
        }
    }
    for (call, count) in living.iter().filter(|(_, count)| **count > 0) {
        println!(
            "| {call} | {:.3} |",
            *count as f64 / accounts as f64 / months
        );
    }
    let sum: u64 = living.values().sum();
    println!("| all | {:.3} |", sum as f64 / accounts as f64 / months);
    println!("\nOne account in one hour:\n\n| | calls | DynamoDB writes |\n|---|---|---|");
    let each = |name: &str, of: fn(&Calls) -> u64| {
        let took = stages.get(name);
        of(&took.calls) as f64 / took.times.max(1) as f64
    };
    let per_change = |of: fn(&Calls) -> u64| {
        let more = each("collection, hours with changes", of) - each("collection, quiet hours", of);
        let active = stages.get("collection, hours with changes").times;
        more * active as f64 / f64::from(u32::try_from(changes).unwrap_or(u32::MAX)).max(1.0)
    };
    for (what, calls, writes) in [
        (
            "unchanged",
            each("collection, quiet hours", all) / accounts as f64,
            each("collection, quiet hours", all_writes) / accounts as f64,
        ),
        (
            "unchanged, the first hour of a day",
            each("collection, first hour of a day", all) / accounts as f64,
            each("collection, first hour of a day", all_writes) / accounts as f64,
        ),
        ("changed", per_change(all), per_change(all_writes)),
    ] {
        println!("| {what} | {calls:.4} | {writes:.4} |");
    }
    Ok(())
}

fn all(calls: &Calls) -> u64 {
    calls.values().sum()
}

fn all_writes(calls: &Calls) -> u64 {
    let is_write = |call: &str| {
        ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"]
            .iter()
            .any(|name| call == format!("DynamoDB {name}"))
    };
    let writes = calls.iter().filter(|(call, _)| is_write(call));
    writes.map(|(_, count)| count).sum()
}

fn eur() -> Outcome<Currency> {
    Ok(Currency::from_code("EUR").ok_or("no EUR")?)
}

/// Moves time, and has everything done that falls due on the way.
async fn advance(stack: &Stack, to: Timestamp) -> Outcome<()> {
    let advanced = stack.advance_to(to).await?;
    if advanced.drained.failed > 0 {
        return Err(format!("{} messages failed", advanced.drained.failed).into());
    }
    for run in advanced.ran {
        run.result
            .map_err(|problem| format!("{} at {}: {problem}", run.job, run.at))?;
    }
    Ok(())
}

async fn call(stack: &Stack, path: &str, parameters: Value) -> Outcome<Value> {
    let response = stack.invoke_http(form_request(path, &parameters)).await;
    let body: Value = match response.body() {
        Body::Text(text) => serde_json::from_str(text)?,
        Body::Binary(bytes) => serde_json::from_slice(bytes)?,
        _ => Value::Null,
    };
    match body["result"] {
        Value::Null => Err(format!("{path}: {body}").into()),
        _ => Ok(body),
    }
}

async fn log_in(stack: &Stack, api_key: &str) -> Outcome<String> {
    let parameters = json!({ "action": "login", "key": api_key, "ttl": 86_400 });
    let body = call(stack, "/auth.php", parameters).await?;
    let token = body["result"]["token"].as_str().ok_or("no token")?;
    Ok(token.to_owned())
}

/// Clients with more credit than they need, each with a session.
async fn clients(stack: &Stack, accounts: u64) -> Outcome<Vec<String>> {
    let context = stack.context();
    let eur = eur()?;
    stream::iter(0..accounts.div_ceil(ACCOUNTS_PER_CLIENT))
        .map(|_| async move {
            let database = &context.database;
            let client_id = database.next_client_id().await?;
            let client = Client {
                client_id,
                email: format!("{client_id}@example.com"),
                role: Role::Client,
                billing: "direct".into(),
                currency: eur,
                tags: Vec::new(),
                accounts: 0,
                free_accounts: 0,
                epoch: 0,
                made_by: None,
                credit_limit_minor: None,
            };
            let _new = database.insert_client(&client, None).await?;
            let now = context.now();
            let payer = (client_id, eur);
            let credit = Posting::new(
                Cause::TopUp("credit"),
                payer,
                now,
                1_000_000_000,
                Vec::new(),
            );
            let posted = database.post(&credit, &[], Guard::default(), &[], &[]);
            assert_eq!(posted.await?, Written::Yes, "the client is new");
            let secret = context.random.callback_key();
            let api_key = ApiKey {
                client_id,
                name: "key".into(),
                created_at: now,
                made_by: None,
            };
            database.put_api_key(&hash(&secret), &api_key).await?;
            log_in(stack, &secret).await
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// A plan on which a kilobyte is worth charging for.
async fn plan(stack: &Stack) -> Outcome<u64> {
    let token = log_in(stack, stack.seeded().api_key("admin")).await?;
    let parameters = json!({
        "token": token,
        "name": "By the byte",
        "quota": 0,
        "storage_limit": 100,
        "monthly_eur": "15",
        "storage_overage_price_eur": "1000000",
        "traffic_overage_price_eur": "500000",
    });
    let body = call(stack, "/s3/create_plan", parameters).await?;
    Ok(body["plan"]["id"].as_u64().ok_or("no plan")?)
}

async fn orders(
    stack: &Stack,
    tokens: &[String],
    plan_id: u64,
    accounts: u64,
) -> Outcome<Vec<(S3Uid, String)>> {
    // A client's orders come one after the other: each is the next in its series of invoices.
    let clients: Vec<Vec<(S3Uid, String)>> = stream::iter(tokens.iter().enumerate())
        .map(|(index, token)| async move {
            let first = index as u64 * ACCOUNTS_PER_CLIENT;
            let mut ordered = Vec::new();
            for number in first..accounts.min(first + ACCOUNTS_PER_CLIENT) {
                let parameters = json!({
                    "token": token,
                    "plan_id": plan_id,
                    "location": LOCATION,
                    "bucket_name": format!("bucket-{number}"),
                });
                let body = call(stack, "/s3/create_order", parameters).await?;
                let s3uid = body["s3uid"].as_str().ok_or("no s3uid")?;
                ordered.push((S3Uid(s3uid.to_owned()), token.clone()));
            }
            Ok::<_, Box<dyn Error>>(ordered)
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(clients.into_iter().flatten().collect())
}

fn s3(endpoint: &str, access_key: &str, secret_key: &str, http: &SharedHttpClient) -> S3 {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .credentials_provider(Credentials::new(
            access_key, secret_key, None, None, "bench",
        ))
        .http_client(http.clone())
        .build();
    S3::from_conf(config)
}

/// S3 clients of the accounts that are ever busy.
async fn busy(stack: &Stack, s3uids: &[(S3Uid, String)]) -> Outcome<Vec<Busy>> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let http = &http;
    let endpoint = &stack.locations()[LOCATION];
    let chosen = s3uids.iter().enumerate().step_by(ACCOUNTS_PER_BUSY);
    stream::iter(chosen)
        .map(|(number, (s3uid, token))| async move {
            let mut keys = Vec::new();
            for s3_key in ["access_key", "secret_key"] {
                let parameters = json!({ "token": token, "s3uid": s3uid, "s3_key": s3_key });
                let body = call(stack, "/s3/show_key", parameters).await?;
                keys.push(body[s3_key].as_str().ok_or("no key")?.to_owned());
            }
            Ok(Busy {
                bucket_name: format!("bucket-{number}"),
                s3: s3(endpoint, &keys[0], &keys[1], http),
            })
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Some accounts upload something and download it, one after the other in turn. How many.
async fn traffic(busy: &[Busy], turn: &mut usize, count: usize) -> Outcome<u64> {
    let first = *turn;
    *turn += count;
    let object = |number: usize| format!("object-{}", number / busy.len().max(1));
    stream::iter(first..first + count)
        .map(|number| async move {
            let account = &busy[number % busy.len()];
            let put = account.s3.put_object().bucket(&account.bucket_name);
            let body = vec![b'x'; OBJECT_BYTES];
            put.key(object(number)).body(body.into()).send().await?;
            let get = account.s3.get_object().bucket(&account.bucket_name);
            let got = get.key(object(number)).send().await?;
            got.body.collect().await?;
            Ok::<_, Box<dyn Error>>(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(count as u64)
}

/// Every period of every account has ended in one closing, with one invoice of its own; and so many there are, with those of the orders.
async fn checked(
    stack: &Stack,
    s3uids: &[(S3Uid, String)],
    end: Date,
    months: i32,
    days: Option<i32>,
) -> Outcome<usize> {
    let database = &stack.context().database;
    let mut closed = BTreeMap::<S3Uid, BTreeSet<Date>>::new();
    let (mut invoices, mut ids, mut invoiced) = (0, BTreeSet::new(), 0);
    for client_id in (1..=database.last_client_id().await?).map(ClientId) {
        for period in database.closed_periods(client_id, None).await? {
            closed.entry(period.s3uid).or_default().insert(period.to);
            let id = period.invoice_id.ok_or("a period without an invoice")?;
            if !ids.insert(id) {
                return Err(format!("invoice {id} is of two periods").into());
            }
        }
        let of_client = database.invoices(client_id).await?;
        invoiced += of_client
            .iter()
            .filter(|i| ids.contains(&i.invoice_id))
            .count();
        invoices += of_client.len();
    }
    let months = if days.is_some() {
        0
    } else {
        usize::try_from(months)?
    };
    let expected = s3uids.len() * (months + 1);
    if invoices != expected || invoiced != ids.len() || ids.len() + s3uids.len() != expected {
        return Err(format!(
            "{invoices} invoices, {} of periods, {expected} expected",
            ids.len()
        )
        .into());
    }
    for (s3uid, _) in s3uids.iter().filter(|_| months > 0) {
        let dates = closed
            .get(s3uid)
            .ok_or("an account without a closed period")?;
        if dates.len() != months || dates.last() != Some(&end) {
            return Err(format!("{s3uid} has the periods {dates:?}").into());
        }
    }
    Ok(invoices)
}

/// Every posting sums to zero, and all of a client's add up to its balances. How many there are.
async fn recounted(stack: &Stack) -> Outcome<usize> {
    let database = &stack.context().database;
    let mut count = 0;
    for client_id in (1..=database.last_client_id().await?).map(ClientId) {
        let mut sums: BTreeMap<Currency, Balances> = BTreeMap::new();
        for posting in database.postings(client_id).await? {
            if posting.amounts_minor.values().sum::<i64>() != 0 {
                return Err(format!("{posting:?} does not sum to zero").into());
            }
            sums.entry(posting.currency).or_default().apply(&posting);
            count += 1;
        }
        for (currency, kept) in database.all_balances(client_id).await? {
            let mut sum = sums.remove(&currency).unwrap_or_default();
            sum.invoices = kept.invoices;
            if sum != kept || kept.sum_minor() != 0 {
                return Err(format!("client {client_id}: kept {kept:?}, counted {sum:?}").into());
            }
        }
    }
    Ok(count)
}

async fn replayed(stack: &Stack, from: Date, to: Date) -> Outcome<usize> {
    let location = LOCATION.to_owned();
    let which = Which::Location { location, from, to };
    let (mut count, mut differing) = (0, None);
    replay(stack.context(), &which, |replayed| {
        count += 1;
        if !replayed.differences.is_empty() {
            differing = Some(replayed);
        }
    })
    .await?;
    match differing {
        Some(replayed) => Err(replayed.to_string().into()),
        None => Ok(count),
    }
}

async fn rebuilt(stack: &Stack, from: Date, to: Date) -> Outcome<(u64, u64)> {
    let whose = Whose::Location(LOCATION.to_owned());
    let mut first = None;
    let rebuilt = rebuild(stack.context(), &whose, (from, to), true, |mended| {
        first.get_or_insert(mended);
    })
    .await?;
    match first {
        Some(mended) => Err(format!("{} {}", mended.s3uid, mended.differences[0]).into()),
        None => Ok((rebuilt.accounts, rebuilt.differing)),
    }
}

/// How many segments there are, and their bytes.
async fn segments(stack: &Stack) -> Outcome<(u64, i64)> {
    let environment = stack.environment();
    let client = s3(
        &environment["AWS_ENDPOINT_URL_S3"],
        &environment["AWS_ACCESS_KEY_ID"],
        &environment["AWS_SECRET_ACCESS_KEY"],
        &aws_smithy_http_client::Builder::new().build_http(),
    );
    let mut pages = client
        .list_objects_v2()
        .bucket(&environment["USAGE_BUCKET"])
        .into_paginator()
        .send();
    let (mut count, mut bytes) = (0, 0);
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            count += 1;
            bytes += object.size().unwrap_or(0);
        }
    }
    Ok((count, bytes))
}
