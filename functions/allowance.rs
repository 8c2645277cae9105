//! What a free account's predecessors used of a month's allowances, see [`wharfage::domain::allowance`].

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{Timestamp, ToSpan};
use wharfage::context::Context;
use wharfage::domain::account::Account;
use wharfage::domain::allowance::{
    FreeAccount, MOST_ENDED, OpenedAnew, Used, end_of_month, predecessors,
};
use wharfage::domain::client::ClientId;
use wharfage::domain::usage::Usage;
use wharfage::error::{Fault, Reason, Rejection};

/// Accounts read at once.
const AT_ONCE: usize = 8;

/// What was used before an account, by `until`, of the allowances of its running period; none of any but its first, and none where it
/// took no other's place. What it has used itself after the month of its order comes from `later`.
pub(crate) async fn opened_anew(
    context: &Context,
    account: &Account,
    until: Timestamp,
    later: impl FnOnce(Timestamp) -> Usage,
) -> Result<Option<OpenedAnew>, Fault> {
    // Whoever has changed its plan since may have been free when it was ordered.
    let was_free = account.is_free || !account.plan_changes.earlier.is_empty();
    if !was_free {
        return Ok(None);
    }
    let ordered_on = account.service.ordered_on;
    let accounts = context
        .database
        .free_accounts(account.client_id, ordered_on)
        .await?;
    let before = predecessors(&accounts, &account.s3uid, ordered_on);
    let before: Vec<FreeAccount> = before.into_iter().cloned().collect();
    if before.is_empty() {
        return Ok(None);
    }
    let used = before
        .into_iter()
        .map(|one| used(context, one, ordered_on, until));
    let used: Vec<Used> = stream::iter(used).buffered(AT_ONCE).try_collect().await?;
    Ok(Some(OpenedAnew {
        before: used.into_iter().fold(Used::default(), Used::and),
        later: (&later(end_of_month(ordered_on))).into(),
    }))
}

/// What an account that has ended used in the calendar month that `date` is in.
async fn used(
    context: &Context,
    account: FreeAccount,
    date: jiff::civil::Date,
    until: Timestamp,
) -> Result<Used, Fault> {
    let month = date.first_of_month();
    let end = end_of_month(month);
    let last = end.min(account.ended_at.unwrap_or(end)).min(until);
    let database = &context.database;
    let days = database.days(&account.s3uid, month, month.last_of_month());
    let stored_before = async {
        match account.ordered_on < month {
            true => database.stored_before(&account.s3uid, month).await,
            false => Ok(0),
        }
    };
    let (days, stored_before_bytes) = futures::try_join!(days, stored_before)?;
    Ok((&Usage::of(stored_before_bytes, &days, month, last)).into())
}

/// Refuses another account that costs nothing to a client who has ended too many of them this month.
///
/// # Errors
/// Says from when on one can be ordered.
pub(crate) async fn check_ended(
    context: &Context,
    client_id: ClientId,
) -> Result<Result<(), Rejection>, Fault> {
    let today = wharfage::domain::period::date_of(context.now());
    let accounts = context.database.free_accounts(client_id, today).await?;
    let ended = accounts.iter().filter(|account| account.ended_at.is_some());
    if ended.count() < MOST_ENDED {
        return Ok(Ok(()));
    }
    let next = today.first_of_month().saturating_add(1.month());
    Ok(Err(Rejection::new(
        Reason::FreeAccountLimitReached,
        format!(
            "{MOST_ENDED} free S3 accounts were removed this month: another can be ordered from {next} on"
        ),
    )))
}
