//! What the product puts on its event bus: kept in a file, and shown.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use embedded::eventbridge::PutEvent;
use serde_json::{Value, json};

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
