//! `resume_account`: re-enables an account's keys, whoever stopped them. For admins.
//!
//! Grants time to an unpaid account: on the day `until` it is suspended again if something is still overdue. This also works before the
//! suspension, and again with another day.

use jiff::ToSpan;
use schemars::JsonSchema;
use serde::Deserialize;
use wharfage::context::Context;
use wharfage::domain::account::{Account, ClusterScope};
use wharfage::domain::period::date_of;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::values::Day;

use crate::services::AccountService as Answered;
use crate::{chasing, suspension};

crate::action! {
    /// Resumes an account, whatever suspended it.
    ///
    /// An account with overdue invoices is suspended again on the day `until` if they are still unpaid.
    "resume_account" of Administrators, about Account, with check,
        refuses [AccountNotSuspended, AccountNotOverdue, StorageRefused, StorageUnavailable]
}

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The grace period's last day for an account with overdue invoices: after today, at most a year ahead.
    until: Option<Day>,
}

/// Nobody means more, but a slip of the hand does.
const MOST_TIME_DAYS: i64 = 366;

async fn check(context: &Context, asked: &Asked) -> Result<(), Error> {
    let today = date_of(context.now());
    let last = today.saturating_add(MOST_TIME_DAYS.days());
    match asked.until {
        Some(Day(until)) if until <= today || until > last => {
            let rule = "must be a day after today, and at most a year ahead";
            Err(Rejection::invalid("until", rule).into())
        }
        _ => Ok(()),
    }
}

async fn handle(
    context: &Context,
    call: Call<'_, Asked, Account>,
    (): (),
) -> Result<Answered, Error> {
    let today = date_of(context.now());
    let until = call.parameters.until.map(|Day(until)| until);
    let (caller, account) = (call.caller, call.about);
    let open = context.database.open_invoices(account.client_id).await?;
    let is_unpaid =
        account.service.is_unpaid() || chasing::has_overdue(context, &open, &account.s3uid);
    let (s3uid, actor) = (&account.s3uid, caller.actor());
    let resumed = match (account.service.suspension(), until) {
        (_, Some(_)) if !is_unpaid => {
            let text =
                "nothing is overdue on the S3 account: until is for one that is not paid for";
            return Err(Rejection::new(Reason::AccountNotOverdue, text).into());
        }
        (None, None) => return not_suspended(context, account).await,
        (None, Some(until)) => suspension::give_time(context, s3uid, until, actor).await?,
        (Some(_), until) => {
            let until = until.unwrap_or_else(|| context.rules.dunning.given_until(today));
            let until = is_unpaid.then_some(until);
            suspension::resume_by_staff(context, s3uid, until, actor).await?
        }
    };
    let account = resumed.ok_or_else(|| {
        Rejection::new(
            Reason::AccountNotSuspended,
            "S3 account is not suspended, or being deleted",
        )
    })?;
    Ok(answer(&account))
}

/// The record says that the keys work. Whoever resumed the account may not have heard the answer, or its keys may be stopped all the same
/// for a reason that nobody recorded: its cluster is told in any case.
async fn not_suspended(context: &Context, account: Account) -> Result<Answered, Error> {
    let refused = Rejection::new(Reason::AccountNotSuspended, "S3 account is not suspended");
    if account.are_keys_stopped() {
        return Err(refused.into());
    }
    let is_under_way = account.unsettled.is_some();
    let account = suspension::settle_again(context, account, ClusterScope::SUSPENSION).await?;
    match is_under_way && !account.are_keys_stopped() {
        true => Ok(answer(&account)),
        false => Err(refused.into()),
    }
}

fn answer(account: &Account) -> Answered {
    Answered::new(account, &account.service)
}
