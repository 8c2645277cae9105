//! `cargo run -p local -- demo`: the life of an account, from its order to the last byte, on a stack of its own.
//!
//! Everything in it is done as a client or an administrator does it: over the HTTP API, and over S3 with the account's keys. What is told is
//! what the system answered and what it put on its event bus.

mod print;

use std::io::Write;

use anstyle::AnsiColor;
use aws_credential_types::Credentials;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use form_urlencoded::Serializer;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use wharfage::clock::Clock;
use wharfage::domain::account::S3Uid;
use wharfage::domain::ledger::{Balances, LedgerAccount};
use wharfage::domain::money::Currency;

use self::print::{DayFigures, Plot, mib, money};
use crate::client;
use crate::error::Error;
use crate::events::words;
use crate::options::Options;
use crate::stack::Stack;

const START: &str = "2026-01-15T08:00:00Z";
const BUCKET: &str = "photos";
const MIB: usize = 1 << 20;
/// Shorter than the template's defaults, which would only make the story longer: days until an invoice is due, from then until an account
/// is suspended, and from an account's end until its data goes.
const PARAMETERS: [(&str, &str); 4] = [
    ("InvoiceDueDays", "5"),
    ("ReminderDays", "0,3"),
    ("SuspensionDays", "5"),
    ("RetentionDays", "2"),
];

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The stack failed.
    #[error(transparent)]
    Stack(#[from] Error),
    /// DynamoDB could not answer.
    #[error(transparent)]
    Fault(#[from] wharfage::error::Fault),
    /// What was to be shown could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
    /// Something came out otherwise than the story has it.
    #[error("the story does not come out as told: {0}")]
    Otherwise(String),
}

fn otherwise(what: impl Into<String>) -> Failure {
    Failure::Otherwise(what.into())
}

fn check(is_so: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if is_so {
        Ok(())
    } else {
        Err(otherwise(what()))
    }
}

/// The width where there is no terminal, and the most that is used of one.
const WIDTHS: (usize, usize) = (80, 100);

/// Tells the story on standard output: as wide as the terminal is, and in colour where it shows any and `NO_COLOR` is not set.
///
/// # Errors
/// When anything in it does not come out as told.
pub async fn run() -> Result<(), Failure> {
    let width = match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((width, _)) => usize::from(width.0).min(WIDTHS.1),
        None => WIDTHS.0,
    };
    tell(&mut anstream::stdout(), width).await
}

async fn tell(out: &mut dyn Write, width: usize) -> Result<(), Failure> {
    let start: Timestamp = START
        .parse()
        .map_err(|_| otherwise("the start is no time"))?;
    let stack = Stack::start(Options {
        clock: Some(start),
        parameters: PARAMETERS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Options::default()
    })
    .await?;
    Story {
        stack: &stack,
        http: wharfage::connectors::loopback_connector(),
        out,
        width,
        told: Vec::new(),
        events: 0,
        s3uid: S3Uid::default(),
    }
    .tell()
    .await
}

struct Story<'a> {
    stack: &'a Stack,
    http: SharedHttpConnector,
    out: &'a mut dyn Write,
    width: usize,
    /// What is to be printed once its time has passed.
    told: Vec<(Timestamp, String)>,
    /// Events told so far.
    events: usize,
    s3uid: S3Uid,
}

/// What the story does to the bucket.
enum Deed {
    Put(&'static str, usize),
    Get(&'static str),
    Delete(&'static str),
}

const PLOTS: [Plot; 3] = [
    Plot {
        title: "Stored",
        legend: "the most that was stored at a time",
        colour: AnsiColor::Cyan,
        bytes_of: |day| day.peak_stored_bytes,
    },
    Plot {
        title: "Received",
        legend: "uploads, for which nothing is charged",
        colour: AnsiColor::Blue,
        bytes_of: |day| day.received_bytes,
    },
    Plot {
        title: "Sent",
        legend: "downloads, which are charged",
        colour: AnsiColor::Magenta,
        bytes_of: |day| day.sent_bytes,
    },
];

/// Each on its day, at noon. The first month's plan includes nothing; the second month's includes a GB of each.
const DEEDS: [(&str, Deed); 11] = [
    ("2026-01-16", Deed::Put("harbour.raw", 4 * MIB)),
    ("2026-01-19", Deed::Put("crane.raw", 3 * MIB)),
    ("2026-01-23", Deed::Get("harbour.raw")),
    ("2026-01-28", Deed::Put("dock.raw", 2 * MIB)),
    ("2026-02-02", Deed::Get("crane.raw")),
    ("2026-02-09", Deed::Delete("harbour.raw")),
    ("2026-02-18", Deed::Put("pier.raw", 3 * MIB)),
    ("2026-02-23", Deed::Get("pier.raw")),
    ("2026-03-02", Deed::Delete("crane.raw")),
    ("2026-03-06", Deed::Put("quay.raw", MIB)),
    ("2026-03-11", Deed::Get("quay.raw")),
];

impl Story<'_> {
    async fn tell(mut self) -> Result<(), Failure> {
        let intro = "The life of an account. Time is the stack's own and is moved; requests go over HTTP and S3 as anybody's do. \
             Amounts are real: megabytes, so the plan's prices per GB are high, and the first version of the plan includes no GB at all. \
             Dates are near: an invoice is due after 5 days, an unpaid account suspended 5 days later, and data goes 2 days after the end.";
        writeln!(self.out, "{}\n", print::paragraph(intro, self.width))?;
        let plan_id = self.pick_a_plan().await?;
        let s3 = self.order(plan_id).await?;
        for (date, deed) in DEEDS {
            // The second month is sold with more included.
            if date == "2026-02-18" {
                self.to("2026-02-15T06:00:00Z").await?;
                let invoices = self.invoices().await?;
                check(invoices.len() == 2 && invoices[1].lines.len() == 3, || {
                    format!("the first month's invoice is {:?}", invoices.get(1))
                })?;
            }
            if date == "2026-03-02" {
                self.owe_and_pay(&s3).await?;
            }
            self.to(&format!("{date}T12:00:00Z")).await?;
            self.do_deed(&s3, &deed).await?;
            if date == "2026-02-02" {
                self.include_more(plan_id).await?;
            }
        }
        self.leave(&s3).await
    }

    async fn pick_a_plan(&mut self) -> Result<u64, Failure> {
        let made = self
            .call(
                "admin",
                "create_plan",
                &[
                    ("name", "Small S3"),
                    ("quota", "0"),
                    ("bandwidth_limit", "0"),
                    ("locations", "NL"),
                    ("monthly_eur", "119"),
                    ("storage_overage_price_eur", "2000"),
                    ("traffic_overage_price_eur", "1500"),
                ],
            )
            .await?;
        let plan_id = made["plan"]["id"].as_u64();
        let plan_id = plan_id.ok_or_else(|| otherwise(format!("create_plan answers {made}")))?;
        self.note(format!(
            "plan {plan_id} \"Small S3\" is on sale: 119 EUR a month; 0 GB included, 2000 EUR per GB month, 1500 EUR per GB sent"
        ));
        Ok(plan_id)
    }

    async fn include_more(&mut self, plan_id: u64) -> Result<(), Failure> {
        let plan_id = plan_id.to_string();
        let plan = [
            ("plan_id", plan_id.as_str()),
            ("quota", "1"),
            ("bandwidth_limit", "1"),
        ];
        self.call("admin", "update_plan", &plan).await?;
        self.note(format!("plan {plan_id} is sold with 1 GB of storage and of traffic included from the next period on"));
        self.flush()
    }

    async fn order(&mut self, plan_id: u64) -> Result<aws_sdk_s3::Client, Failure> {
        let plan_id = plan_id.to_string();
        let ordered = self
            .call(
                "client",
                "create_order",
                &[("plan_id", &plan_id), ("bucket_name", BUCKET)],
            )
            .await?;
        self.s3uid = S3Uid(string(&ordered, "s3uid")?);
        self.note(format!(
            "the client orders plan {plan_id}: account {}, bucket {BUCKET}",
            self.s3uid
        ));
        let s3uid = self.s3uid.clone();
        let mut keys = Vec::new();
        for name in ["access_key", "secret_key"] {
            let shown = self
                .call(
                    "client",
                    "show_key",
                    &[("s3uid", s3uid.as_str()), ("s3_key", name)],
                )
                .await?;
            keys.push(string(&shown, name)?);
        }
        let location = string(&ordered, "location")?;
        let endpoint = &self.stack.locations()[&location];
        let credentials = Credentials::new(&keys[0], &keys[1], None, None, "demo");
        Ok(client::s3_as(endpoint, &client::plain_http(), credentials))
    }

    async fn do_deed(&mut self, s3: &aws_sdk_s3::Client, deed: &Deed) -> Result<(), Failure> {
        let done = match deed {
            Deed::Put(key, bytes) => {
                let body = ByteStream::from(vec![b'w'; *bytes]);
                s3.put_object()
                    .bucket(BUCKET)
                    .key(*key)
                    .body(body)
                    .send()
                    .await
                    .map_err(|error| otherwise(format!("S3 refuses the upload: {error:?}")))?;
                format!("S3: {key} is uploaded, {}", mib(*bytes as u64))
            }
            Deed::Get(key) => {
                let got = s3
                    .get_object()
                    .bucket(BUCKET)
                    .key(*key)
                    .send()
                    .await
                    .map_err(|error| otherwise(format!("S3 refuses the download: {error:?}")))?;
                let body = got
                    .body
                    .collect()
                    .await
                    .map_err(|error| otherwise(format!("the download breaks off: {error}")))?;
                format!(
                    "S3: {key} is downloaded, {}",
                    mib(body.into_bytes().len() as u64)
                )
            }
            Deed::Delete(key) => {
                s3.delete_object()
                    .bucket(BUCKET)
                    .key(*key)
                    .send()
                    .await
                    .map_err(|error| otherwise(format!("S3 refuses the deletion: {error:?}")))?;
                format!("S3: {key} is deleted")
            }
        };
        self.note(done);
        Ok(())
    }

    /// A download has to be refused, for this reason.
    async fn is_refused(&mut self, s3: &aws_sdk_s3::Client, reason: &str) -> Result<(), Failure> {
        let answer = s3.get_object().bucket(BUCKET).key("dock.raw").send().await;
        let refusal = answer.err().ok_or_else(|| otherwise("S3 still answers"))?;
        let status = refusal
            .raw_response()
            .map(|response| response.status().as_u16());
        let code = refusal.code().unwrap_or_default();
        check(status == Some(403) && code == reason, || {
            format!("S3 refuses with {status:?} {code}, not with 403 {reason}")
        })?;
        self.note(format!("S3: GET dock.raw is refused: 403 {code}"));
        Ok(())
    }

    /// The first month's overage finds too little credit; the account is suspended, and paid for.
    async fn owe_and_pay(&mut self, s3: &aws_sdk_s3::Client) -> Result<(), Failure> {
        self.to("2026-02-24T12:00:00Z").await?;
        let open = self
            .invoices()
            .await?
            .into_iter()
            .filter(|invoice| invoice.paid_at.is_none())
            .count();
        check(open == 1, || {
            format!("{open} invoices are open instead of one")
        })?;
        self.to("2026-02-25T12:00:00Z").await?;
        self.is_refused(s3, "UserSuspended").await?;
        let client_id = self.stack.seeded().client_ids["client"].to_string();
        self.to("2026-02-26T09:00:00Z").await?;
        self.call(
            "admin",
            "add_credit",
            &[
                ("id", &client_id),
                ("amount", "100"),
                ("reference", "bank transfer 4711"),
            ],
        )
        .await?;
        self.stack.drain().await?;
        self.to("2026-02-26T10:00:00Z").await?;
        check(
            self.invoices()
                .await?
                .iter()
                .all(|invoice| invoice.paid_at.is_some()),
            || "an invoice stays open after the payment".into(),
        )?;
        self.do_deed(s3, &Deed::Get("dock.raw")).await
    }

    async fn leave(&mut self, s3: &aws_sdk_s3::Client) -> Result<(), Failure> {
        self.to("2026-03-12T12:00:00Z").await?;
        let s3uid = self.s3uid.clone();
        let left = self
            .call(
                "client",
                "delete_payment_account",
                &[("s3uid", s3uid.as_str())],
            )
            .await?;
        let service = &left["service"];
        self.note(format!(
            "the client cancels: the service ends on {}, the data goes on {}",
            string(service, "cancellation_date")?,
            string(service, "termination_date")?
        ));
        self.to("2026-03-15T12:00:00Z").await?;
        self.is_refused(s3, "UserSuspended").await?;
        self.to("2026-03-16T12:00:00Z").await?;
        // An account that is gone is not shown any more.
        let from = &START[..10];
        let usage = self
            .call(
                "client",
                "get_usage",
                &[
                    ("s3uid", s3uid.as_str()),
                    ("by", "days"),
                    ("period_from", from),
                ],
            )
            .await?;
        self.to("2026-03-17T12:00:00Z").await?;
        self.is_refused(s3, "InvalidAccessKeyId").await?;
        let terminated = self
            .stack
            .events()
            .iter()
            .any(|event| event["detail-type"] == "account.terminated");
        check(terminated, || "no event tells of the account's end".into())?;
        self.flush()?;
        self.sum_up(&usage).await
    }

    async fn sum_up(&mut self, usage: &Value) -> Result<(), Failure> {
        let invoices = self.invoices().await?;
        writeln!(self.out)?;
        for invoice in &invoices {
            writeln!(self.out, "{}", print::invoice(invoice, self.width))?;
        }
        let days: Vec<DayFigures> = usage["usage"]
            .as_array()
            .into_iter()
            .flatten()
            .map(day)
            .collect();
        check(days.iter().any(|day| day.sent_bytes > 0), || {
            "no traffic was collected".into()
        })?;
        for plot in &PLOTS {
            writeln!(self.out, "{}", plot.draw(&days, self.width))?;
        }
        self.balance(&invoices).await
    }

    /// The ledger against itself and against the invoices.
    async fn balance(
        &mut self,
        invoices: &[wharfage::domain::invoice::Invoice],
    ) -> Result<(), Failure> {
        let client_id = self.stack.seeded().client_ids["client"];
        let database = &self.stack.context().database;
        let eur = Currency::from_code("EUR").ok_or_else(|| otherwise("EUR is no currency"))?;
        let balances = database.balances(client_id, eur).await?;
        let mut postings = database.postings(client_id).await?;
        // As they came; what is set aside for an order comes before it is spent.
        postings.sort_by_key(|posting| (posting.at, !posting.id.starts_with("hold:")));
        let mut recounted = Balances::default();
        for posting in &postings {
            recounted.apply(posting);
        }
        recounted.invoices = balances.invoices;
        check(recounted == balances && balances.sum_minor() == 0, || {
            format!("the balances are {balances:?}, the postings add up to {recounted:?}")
        })?;
        let invoiced: i64 = invoices.iter().map(|invoice| invoice.amount_minor).sum();
        let revenue: i64 = postings
            .iter()
            .filter_map(|posting| posting.amounts_minor.get(&LedgerAccount::Revenue))
            .sum();
        check(invoiced == revenue.abs(), || {
            format!("invoices are {invoiced}, revenue entries {revenue}")
        })?;
        writeln!(
            self.out,
            "{}\n{}\n{}\n{}",
            print::heading("The ledger (EUR)"),
            print::ledger(&postings, invoices, &balances, self.width),
            print::heading("Where the money came from, and where it went"),
            print::sources(&postings, invoices, &balances, eur),
        )?;
        let checked = format!(
            "Each of the {} postings sums to zero, and they add up to the balances, which together are {}. The {} invoices come to {}, and \
             so do the revenue entries.",
            postings.len(),
            money(balances.sum_minor(), eur),
            invoices.len(),
            money(invoiced, eur),
        );
        writeln!(self.out, "{}", print::paragraph(&checked, self.width))?;
        Ok(())
    }

    async fn invoices(&self) -> Result<Vec<wharfage::domain::invoice::Invoice>, Failure> {
        let client_id = self.stack.seeded().client_ids["client"];
        Ok(self.stack.context().database.invoices(client_id).await?)
    }

    /// Lets time pass until then, and tells what happened.
    async fn to(&mut self, then: &str) -> Result<(), Failure> {
        let then: Timestamp = then
            .parse()
            .map_err(|_| otherwise(format!("{then} is no time")))?;
        let advanced = self.stack.advance_to(then).await?;
        if let Some(failed) = advanced.ran.iter().find(|run| run.result.is_err()) {
            return Err(otherwise(format!("a scheduled run fails: {failed:?}")));
        }
        self.flush()
    }

    fn note(&mut self, text: String) {
        self.told.push((self.stack.clock().now(), text));
    }

    /// Prints what was noted, among the events that came meanwhile.
    fn flush(&mut self) -> Result<(), Failure> {
        let events = self.stack.events();
        for event in &events[self.events..] {
            let time = event["time"].as_str().and_then(|time| time.parse().ok());
            let kind = event["detail-type"].as_str().unwrap_or_default();
            let text = format!("{kind}: {}", words(event));
            self.told
                .push((time.unwrap_or_else(|| self.stack.clock().now()), text));
        }
        self.events = events.len();
        self.told.sort_by_key(|(time, text)| (*time, rank(text)));
        // What was done this hour waits for the hour's events.
        let before = self.stack.clock().now() - SignedDuration::from_mins(1);
        for (time, text) in std::mem::take(&mut self.told) {
            if time > before && !text.starts_with("S3: GET") {
                self.told.push((time, text));
                continue;
            }
            let time = format!("{time:.0}");
            let time = format!("{} {}", &time[..10], &time[11..16]);
            writeln!(self.out, "{}", print::timeline(&time, &text, self.width))?;
        }
        self.out.flush()?;
        Ok(())
    }

    /// Calls an action over HTTP, in a session of its own.
    async fn call(
        &self,
        who: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let key = self.stack.seeded().api_key(who);
        let login = self
            .post("auth.php", &[("action", "login"), ("key", key)])
            .await?;
        let token = string(&login["result"], "token")?;
        let fixed = [("action", action), ("token", &token)];
        self.post("s3.php", &[&fixed, parameters].concat()).await
    }

    async fn post(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, Failure> {
        let form = Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let mut request = HttpRequest::new(SdkBody::from(form));
        let set = request
            .set_method("POST")
            .and_then(|()| request.set_uri(format!("{}/{path}", self.stack.api())));
        set.map_err(|error| otherwise(error.to_string()))?;
        request
            .headers_mut()
            .insert("content-type", "application/x-www-form-urlencoded");
        let response = self
            .http
            .call(request)
            .await
            .map_err(|error| otherwise(format!("{path}: {error:?}")))?;
        let status = response.status().as_u16();
        let body = ByteStream::new(response.into_body()).collect().await;
        let body = body
            .map_err(|error| otherwise(format!("{path}: {error}")))?
            .into_bytes();
        check(status == 200, || {
            format!(
                "{path} answers {status}: {}",
                String::from_utf8_lossy(&body)
            )
        })?;
        serde_json::from_slice(&body).map_err(|error| otherwise(format!("{path}: {error}")))
    }
}

fn string(value: &Value, name: &str) -> Result<String, Failure> {
    let text = value[name].as_str().map(str::to_owned);
    text.ok_or_else(|| otherwise(format!("there is no {name} in {value}")))
}

/// What comes first of what happened at one instant: what was done, then what came of it.
fn rank(text: &str) -> usize {
    let kinds = [
        "credit.added",
        "order.fulfilled",
        "invoice.issued",
        "payment.received",
    ];
    match kinds.iter().position(|kind| text.starts_with(kind)) {
        Some(position) => 1 + position,
        None if text.starts_with("account.") || text.starts_with("invoice.") => kinds.len() + 1,
        None => 0,
    }
}

fn day(row: &Value) -> DayFigures {
    let bytes = |name: &str| row[name].as_u64().unwrap_or_default();
    DayFigures {
        date: row["from"]
            .as_str()
            .unwrap_or_default()
            .chars()
            .take(10)
            .collect(),
        peak_stored_bytes: bytes("peak_stored_bytes"),
        sent_bytes: bytes("bytes_sent"),
        received_bytes: bytes("bytes_received"),
    }
}
