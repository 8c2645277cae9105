//! Where time comes from. This is the only file that asks the operating system for it.

use jiff::Timestamp;

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
