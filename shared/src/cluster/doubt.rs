//! Changes whose outcome is unknown.
//!
//! A call without an answer may have taken effect, and may still take effect. A gateway that lost contact with another carries it out half
//! a minute later, when the caller has long given up and made another call. So it is not enough that the last of several calls succeeded,
//! as it is for a plain retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tokio::task_local! {
    static DOUBT: Arc<AtomicBool>;
}

/// Runs `work`; its result, and whether the outcome of every change that it asked a cluster for is known.
pub async fn watched<T>(work: impl Future<Output = T>) -> (T, bool) {
    let doubt = Arc::new(AtomicBool::new(false));
    let result = DOUBT.scope(Arc::clone(&doubt), work).await;
    (result, !doubt.load(Ordering::Relaxed))
}

/// Notes that a call got no answer, or none of the cluster's own. Reading changes nothing.
pub(super) fn unanswered(method: &str) {
    if method != "GET" {
        // Where nobody watches, nobody wants to know.
        let _ = DOUBT.try_with(|doubt| doubt.store(true, Ordering::Relaxed));
    }
}
