//! Where time comes from. This is the only file that asks the operating system for it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A source of the current time. Domain code never holds one: it takes times as arguments.
pub trait Clock: Send + Sync {
    /// The current instant, UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the system clock is read"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Time as a file tells it: what the local runner writes, so that functions in processes of their own live in its time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ClockReading {
    /// The instant when it was written.
    pub at: Timestamp,
    /// How far time is ahead of the machine's clock; none when it stands still.
    #[serde(default)]
    pub ahead: Option<SignedDuration>,
}

/// Follows a file with a [`ClockReading`].
#[derive(Debug)]
pub struct FileClock {
    file: PathBuf,
    /// The latest instant told: time never goes backwards, nor stops for a file that is gone.
    last: Mutex<Timestamp>,
}

impl FileClock {
    /// Reads the time from this file whenever it is asked.
    #[must_use]
    pub fn new(file: PathBuf) -> FileClock {
        FileClock {
            file,
            last: Mutex::new(Timestamp::MIN),
        }
    }
}

impl Clock for FileClock {
    fn now(&self) -> Timestamp {
        let told = std::fs::read(&self.file)
            .ok()
            .and_then(|text| serde_json::from_slice::<ClockReading>(&text).ok());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = told {
            let now = match told.ahead {
                Some(ahead) => SystemClock.now().checked_add(ahead).unwrap_or(told.at),
                None => told.at,
            };
            *last = now.max(*last);
        }
        *last
    }
}
