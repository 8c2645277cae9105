//! `delete_account`: stops an account at once and purges it through the clean-up queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wharfage::context::Context;
use wharfage::domain::account::{ClusterScope, S3Uid};
use wharfage::domain::event::Kind;
use wharfage::domain::task::Work;
use wharfage::error::{Error, Fault};
use wharfage::http::subject::{BareAccount, Call};
use wharfage::{from_line, schema};

use crate::asking::ask;
use crate::suspension;

crate::action! {
    /// Deletes an account with all of its data. Its keys stop working at once.
    ///
    /// The answer has a callback key for `eq_callback.php`, which tells when everything is gone.
    "delete_account" of Everybody, about BareAccount
}

const REASON_LIMIT_CHARACTERS: usize = 500;

/// Why somebody does something, in words.
#[derive(Debug, Clone)]
struct Reason(String);

from_line!(Reason, |text| match text.chars().count() {
    0..=REASON_LIMIT_CHARACTERS => Ok(Reason(text)),
    _ => Err("must be at most 500 characters long"),
});
schema!(Reason, "Reason", { "type": "string", "maxLength": 500, "examples": ["finished"] });

/// What it takes.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// Why, for the history.
    reason: Option<Reason>,
}

/// What it answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The account.
    s3uid: S3Uid,
    /// The key for `eq_callback.php`.
    callback: String,
}

/// The task's record comes first: from then on the account goes, whoever dies. What follows only makes it quicker, and the task's own
/// steps do all of it again.
async fn handle(context: &Context, call: Call<'_, Asked, BareAccount>) -> Result<Answered, Error> {
    let (caller, BareAccount(account)) = (call.caller, call.about);
    let reason = call.parameters.reason.map(|Reason(reason)| reason);
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
        let service = suspension::stopped(context, &account);
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
                let settled = suspension::settle(context, stopped, ClusterScope::SUSPENSION).await;
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
    Ok(Answered {
        s3uid: account.s3uid,
        callback: callback_key,
    })
}
