//! Runs a function in this process as Lambda does: with a timeout, and isolated from others when it panics.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How an invocation ended without an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// It panicked, with this text.
    Panicked(String),
    /// It took longer than it may.
    TimedOut(Duration),
    /// It ended by itself, with an error.
    Failed(String),
    /// The same, with an error that another try may not meet.
    Deferred(String),
    /// Its process could not be started, or was not ready in time.
    Init(String),
    /// Its process ended, with this status.
    Exited(String),
    /// The stack is being stopped.
    Stopped,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crash::Panicked(text) => write!(f, "panicked: {text}"),
            // As Lambda says it.
            Crash::TimedOut(timeout) => {
                write!(
                    f,
                    "Task timed out after {:.2} seconds",
                    timeout.as_secs_f64()
                )
            }
            Crash::Failed(text) | Crash::Deferred(text) => f.write_str(text),
            Crash::Init(text) => write!(f, "did not start: {text}"),
            Crash::Exited(status) => write!(f, "its process ended: {status}"),
            Crash::Stopped => f.write_str("stopped with the local runner"),
        }
    }
}

/// Tells invocations that the stack they belong to is no more.
#[derive(Clone)]
pub(crate) struct Life(watch::Receiver<()>);

/// Ends the lives made from it when dropped.
pub(crate) struct LifeHolder(watch::Sender<()>);

impl LifeHolder {
    pub(crate) fn new() -> LifeHolder {
        LifeHolder(watch::channel(()).0)
    }

    pub(crate) fn life(&self) -> Life {
        Life(self.0.subscribe())
    }
}

impl Life {
    /// Waits until the stack stops.
    pub(crate) async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Ends a task with the future that waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `work` on a task of its own.
///
/// # Errors
/// Says how it ended, when not by itself.
pub(crate) async fn run<T: Send + 'static>(
    timeout: Duration,
    life: Life,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Crash> {
    let mut task = AbortOnDrop(tokio::spawn(work));
    tokio::select! {
        ended = &mut task.0 => ended.map_err(|error| match error.try_into_panic() {
            Ok(panic) => Crash::Panicked(panic_text(panic.as_ref())),
            Err(_) => Crash::Stopped,
        }),
        () = tokio::time::sleep(timeout) => Err(Crash::TimedOut(timeout)),
        () = life.ended() => Err(Crash::Stopped),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "for an unknown reason".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn answers_panics_and_time_outs_are_told_apart() {
        let holder = LifeHolder::new();
        assert_eq!(run(SECOND, holder.life(), async { 1 }).await, Ok(1));
        let crash = run(SECOND, holder.life(), async {
            if holder_is_odd() {
                panic!("no {}", "luck");
            }
        });
        assert_eq!(crash.await, Err(Crash::Panicked("no luck".into())));
        let short = Duration::from_millis(1);
        let endless = run(short, holder.life(), std::future::pending::<()>());
        assert_eq!(endless.await, Err(Crash::TimedOut(short)));
    }

    #[test]
    fn a_time_out_is_told_in_lambda_s_words() {
        let told = Crash::TimedOut(SECOND * 29).to_string();
        assert_eq!(told, "Task timed out after 29.00 seconds");
    }

    fn holder_is_odd() -> bool {
        true
    }

    #[tokio::test]
    async fn a_dropped_stack_stops_what_runs() {
        let holder = LifeHolder::new();
        let endless = run(SECOND, holder.life(), std::future::pending::<()>());
        drop(holder);
        assert_eq!(endless.await, Err(Crash::Stopped));
    }
}
