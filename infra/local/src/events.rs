//! What the product puts on its event bus: kept in a file, shown, and put into words.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use embedded::eventbridge::PutEvent;
use serde_json::{Value, json};
use wharfage::domain::money::{Currency, to_major};

use crate::error::Error;

/// How many events are remembered beside the file.
const REMEMBERED: usize = 10_000;

/// The events of a stack, the latest ones at hand.
#[derive(Clone)]
pub(crate) struct Events(Arc<Mutex<Kept>>);

struct Kept {
    latest: VecDeque<Value>,
    file: Option<File>,
    show: fn(&Value),
}

impl Events {
    /// Events that are appended to a file, if there is one, and shown.
    pub(crate) fn new(file: Option<&Path>, show: fn(&Value)) -> Result<Events, Error> {
        let file = file
            .map(|path| {
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(Error::io(format!("cannot write {}", path.display())))
            })
            .transpose()?;
        Ok(Events(Arc::new(Mutex::new(Kept {
            latest: VecDeque::new(),
            file,
            show,
        }))))
    }

    /// Where EventBridge hands them to.
    pub(crate) fn sink(&self) -> embedded::eventbridge::Sink {
        let events = self.clone();
        Arc::new(move |event| events.take(event))
    }

    fn take(&self, event: PutEvent) {
        let time = event
            .time_epoch
            .and_then(|epoch| jiff::Timestamp::from_millisecond((epoch * 1_000.0) as i64).ok());
        let event = json!({
            "time": time,
            "source": event.source,
            "detail-type": event.detail_type,
            "detail": event.detail,
        });
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut kept.file
            && let Err(error) = writeln!(file, "{event}")
        {
            tracing::warn!(%error, "an event was not written down");
        }
        (kept.show)(&event);
        if kept.latest.len() == REMEMBERED {
            kept.latest.pop_front();
        }
        kept.latest.push_back(event);
    }

    /// The latest events, oldest first.
    pub(crate) fn latest(&self) -> Vec<Value> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest.iter().cloned().collect()
    }
}

/// An event as one line: when, what kind, about whom, and what it says in plain words.
#[must_use]
pub fn line(event: &Value) -> String {
    let detail = &event["detail"];
    let whom = match detail["s3uid"].as_str() {
        Some(s3uid) => format!("account {s3uid}"),
        None => format!("client {}", detail["client_id"]),
    };
    let time = text(&event["time"]);
    let kind = text(&event["detail-type"]);
    format!("{time} {kind} {whom}: {}", words(event))
}

/// What an event says, in plain words.
#[must_use]
pub fn words(event: &Value) -> String {
    let detail = &event["detail"]["detail"];
    let get = |name: &str| text(&detail[name]);
    match event["detail-type"].as_str().unwrap_or_default() {
        "order.fulfilled" => "the order is fulfilled".into(),
        "order.undone" => "the order is undone, nothing is charged".into(),
        "invoice.issued" => format!(
            "invoice {} over {} is issued: {}, due on {}",
            get("number"),
            amount(detail),
            get("status"),
            get("due_on")
        ),
        "payment.received" => format!(
            "{} received for invoice {}",
            amount(detail),
            get("invoice_id")
        ),
        "invoice.reminder" => {
            let next = &detail["next_step"];
            let next = match next["on"].as_str() {
                Some(on) => format!("{} on {on}", text(&next["step"])),
                None => "none".into(),
            };
            format!(
                "invoice {} over {}, due on {}: {} (next step: {next})",
                get("invoice_id"),
                amount(detail),
                get("due_on"),
                get("step")
            )
        }
        "credit.added" => format!("{} of credit added ({})", amount(detail), get("reference")),
        "account.suspended" => format!("the keys are stopped: {}", get("reason")),
        "account.resumed" if detail["reason"].is_null() => {
            "the keys work again: an administrator resumed the account".into()
        }
        "account.resumed" => format!(
            "the keys work again, they were stopped for: {}",
            get("reason")
        ),
        "account.changed"
            if detail["status"].is_null() && detail["termination_date"].is_string() =>
        {
            format!(
                "the service has ended, its data goes on {}",
                get("termination_date")
            )
        }
        "account.terminated" => "the account and its data are gone".into(),
        _ => fields(detail),
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// What is there, as `name value`, leaving out what is repeated as Unix time.
fn fields(detail: &Value) -> String {
    let fields = detail.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| !value.is_null() && !name.contains("unix"))
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), text(value)))
        .collect::<Vec<String>>()
        .join(", ")
}

fn amount(detail: &Value) -> String {
    let currency = detail["currency"].as_str().and_then(Currency::from_code);
    match (detail["amount_minor"].as_i64(), currency) {
        (Some(amount_minor), Some(currency)) => {
            format!(
                "{} {}",
                to_major(amount_minor, currency),
                text(&detail["currency"])
            )
        }
        _ => "an unknown amount".into(),
    }
}
