//! `delete_account`: stops an account at once and purges it through the clean-up queue.

use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{Account, Parts, Service, TerminationReason};
use wharfage::domain::event::Kind;
use wharfage::domain::period::date_of;
use wharfage::domain::task::Work;
use wharfage::error::{Error, Fault, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::{ACCOUNT, account_name, caller_and_account, token};

use crate::asking::ask;
use crate::suspension;

crate::s3_action!("delete_account", takes [ACCOUNT, &["reason"]]);

const REASON_LIMIT_CHARACTERS: usize = 500;

/// The service of an account that goes now.
pub(crate) fn stopped(context: &Context, account: &Account) -> Service {
    let today = date_of(context.now());
    account.service.remove(today, TerminationReason::Removed)
}

/// The task's record comes first: from then on the account goes, whoever dies. What follows only makes it quicker, and the task's own
/// steps do all of it again.
async fn handle(context: &Context, call: &Call) -> Result<Answer, Error> {
    token(call)?;
    account_name(call)?;
    let reason = call.parameters.text(&["reason"])?;
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > REASON_LIMIT_CHARACTERS)
    {
        return Err(Rejection::invalid("reason", "must be at most 500 characters long").into());
    }
    let (caller, account) = caller_and_account(context, call)
        .await
        .map_err(bare_not_found)?;
    let work = Work::RemoveAccount {
        s3uid: account.s3uid.clone(),
        reason: reason.clone(),
    };
    let details = json!({ "reason": reason });
    let entry = caller.entry(context, &account, NAME, details.clone());
    // An account that has ended already is not stopped any more: that its data goes now is noted with the task.
    let is_going = account.is_going();
    let noted = is_going.then_some(&entry);
    let asked = ask(context, &caller, &account, work, noted).await?;
    let stop = async {
        if is_going {
            return Ok(None);
        }
        let event = context.account_event(
            Kind::AccountChanged,
            account.client_id,
            &account.s3uid,
            details,
        );
        let service = stopped(context, &account);
        let is_changed = context
            .database
            .change_service(&account, &service, &entry, &[event])
            .await?
            .is_yes();
        Ok(is_changed.then(|| account.with_service(&service, entry.at)))
    };
    let callback_key = asked.callback_key(context, &caller, NAME);
    let (callback_key, stopped) = futures::try_join!(callback_key, stop)?;
    let told = async {
        match stopped {
            Some(stopped) if stopped.unsettled.is_some() => {
                let settled = suspension::settle(context, stopped, Parts::SUSPENSION).await;
                settled.map(|_| ()).map_err(Fault::from)
            }
            _ => Ok(()),
        }
    };
    let (told, sent) = futures::join!(told, asked.send(context));
    if let Err(error) = told {
        tracing::warn!(s3uid = %account.s3uid, %error, "the clean-up has yet to stop the keys");
    }
    if let Err(fault) = sent {
        tracing::warn!(s3uid = %account.s3uid, error = %fault, "the clean-up has yet to be sent");
    }
    Ok(Answer::ok(
        json!({ "s3uid": account.s3uid, "callback": callback_key }),
    ))
}

/// The reference shows this text without the action's name.
pub(crate) fn bare_not_found(error: Error) -> Error {
    match error {
        Error::Rejection(rejection) if rejection == Rejection::account_not_found() => {
            rejection.bare().into()
        }
        error => error,
    }
}
