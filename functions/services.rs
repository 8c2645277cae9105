//! Changes of an account's service.

use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::account::{Account, NotAllowed, Service, Status, Suspension};
use wharfage::domain::event::Kind;
use wharfage::error::{Error, Rejection};
use wharfage::http::Call;
use wharfage::http::envelope::Answer;
use wharfage::http::tokens::caller_and_account;
use wharfage::tries::Tries;

/// Changes the service of the account a call names, and answers with the service as it is then.
pub(crate) async fn change(
    context: &Context,
    call: &Call,
    action: &str,
    decide: impl Fn(&Service) -> Result<Service, NotAllowed>,
) -> Result<Answer, Error> {
    // Somebody else may change the account between its reading and its writing: then decide again.
    let mut tries = Tries::of(5);
    loop {
        tries.once_more(|| Rejection::changed_meanwhile("S3 account is being changed"))?;
        let (caller, account) = caller_and_account(context, call).await?;
        let service =
            decide(&account.service).map_err(|reason| Rejection::conflict(reason.to_string()))?;
        let event = context.account_event(
            Kind::AccountChanged,
            account.client_id,
            &account.s3uid,
            wire(&service),
        );
        let entry = caller.entry(
            context,
            &account,
            action,
            json!({ "service": wire(&service) }),
        );
        if context
            .database
            .change_service(&account, &service, &entry, &[event])
            .await?
            .is_yes()
        {
            return Ok(Answer::ok(
                json!({ "s3uid": account.s3uid, "service": wire(&service) }),
            ));
        }
    }
}

/// A service as the wire shows it.
pub(crate) fn wire(service: &Service) -> Value {
    let unix = |date| wharfage::domain::period::start_of(date).as_second();
    let termination = service.termination();
    json!({
        "next_commit_date": service.next_commit_date,
        "cancellation_date": service.cancellation_date,
        "termination_date": termination.map(|(date, _)| date),
        "termination_unix_date": termination.map(|(date, _)| unix(date)),
        "cancellation_unix_date": service.cancellation_date.map(unix),
        "status": service.status,
        "suspension": service.suspension,
        "termination_reason": termination.map(|(_, reason)| reason),
        "resumed_until": service.resumed_until,
    })
}

/// Refuses what an account takes only while it is in use.
pub(crate) fn check_in_use(account: &Account) -> Result<(), Rejection> {
    match account.service.status {
        Status::Terminating | Status::Terminated => {
            Err(Rejection::conflict(NotAllowed::Terminating.to_string()))
        }
        _ if account.service.suspension == Some(Suspension::Unpaid) => Err(Rejection::forbidden(
            "S3 account is suspended: an invoice is overdue",
        )),
        _ if account.service.suspension == Some(Suspension::Traffic) => Err(Rejection::forbidden(
            "S3 account is suspended: the traffic of its period is used up",
        )),
        _ if account.service.suspension.is_some() => {
            Err(Rejection::forbidden("S3 account is suspended"))
        }
        Status::Active | Status::Cancelling | Status::Suspended => Ok(()),
    }
}
