//! What the billing jobs and the billing worker share.

use wharfage::context::Context;
use wharfage::domain::billing::BillingWork;
use wharfage::error::Fault;

/// Rows found by one query.
pub(crate) const PAGE: i32 = 1_000;
/// Rows handed over in one run; the next run goes on. Far more than can wait for a location that does not answer: they come first again
/// and again, and must not keep the others waiting.
pub(crate) const AT_MOST: usize = 50_000;

/// Hands what is due to the billing queue, page after page. `find` is given how many to find and where to begin, and says where the next
/// page begins; `work` says in which group each is. How many were handed over.
///
/// # Errors
/// When what is due cannot be found, or the queue cannot take it.
pub(crate) async fn hand_over<T, C, F>(
    context: &Context,
    find: impl Fn(i32, Option<C>) -> F,
    work: impl Fn(T) -> (String, BillingWork),
) -> Result<usize, Fault>
where
    F: Future<Output = Result<(Vec<T>, Option<C>), Fault>>,
{
    let (mut sent, mut after) = (0, None);
    loop {
        let (due, next) = find(PAGE, after).await?;
        let work: Vec<(String, BillingWork)> = due.into_iter().map(&work).collect();
        context.queue.send_billing_in(&work).await?;
        sent += work.len();
        after = next;
        if after.is_none() || sent >= AT_MOST {
            return Ok(sent);
        }
    }
}

/// How often a transaction is tried again because somebody else was quicker.
pub(crate) const TRIES: usize = 10;
