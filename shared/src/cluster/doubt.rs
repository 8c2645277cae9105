//! Changes whose outcome nobody knows.
//!
//! A call that got no answer may have taken effect, and may still take effect: a gateway that lost another does what it was asked half a
//! minute later, when its caller has given up long ago and has asked for something else. So it is not enough that the last call of several
//! succeeded, as it is when a call is tried again until it does.

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
