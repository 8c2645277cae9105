//! Changes of an account's service.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use wharfage::context::Context;
use wharfage::domain::account::{
    Account, NotAllowed, S3Uid, Service, Status, Suspension, TerminationReason,
};
use wharfage::domain::event::Kind;
use wharfage::domain::period::start_of;
use wharfage::error::{Error, Reason, Rejection};
use wharfage::http::subject::Call;
use wharfage::http::tokens::Caller;
use wharfage::tries::Tries;

/// The service of an account as it is, for an answer or an event.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServiceShown {
    /// The day on which its next period begins, in UTC.
    next_commit_date: Date,
    /// The day on which the service ends, once it was cancelled.
    cancellation_date: Option<Date>,
    /// The day on which the data is purged.
    termination_date: Option<Date>,
    /// The same, in seconds since 1970.
    termination_unix_date: Option<i64>,
    /// `cancellation_date`, in seconds since 1970.
    cancellation_unix_date: Option<i64>,
    /// The account's status.
    status: Status,
    /// Why it is suspended.
    suspension: Option<Suspension>,
    /// Why its data is purged.
    termination_reason: Option<TerminationReason>,
    /// The last day of the grace period that staff gave an account with overdue invoices.
    resumed_until: Option<Date>,
}

impl From<&Service> for ServiceShown {
    fn from(service: &Service) -> ServiceShown {
        let unix = |date| start_of(date).as_second();
        let termination = service.termination();
        ServiceShown {
            next_commit_date: service.next_commit_date,
            cancellation_date: service.cancellation_date,
            termination_date: termination.map(|(date, _)| date),
            termination_unix_date: termination.map(|(date, _)| unix(date)),
            cancellation_unix_date: service.cancellation_date.map(unix),
            status: service.status(),
            suspension: service.suspension(),
            termination_reason: termination.map(|(_, reason)| reason),
            resumed_until: service.resumed_until,
        }
    }
}

/// An account with its service as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AccountService {
    /// The account.
    s3uid: S3Uid,
    /// Its service.
    service: ServiceShown,
}

impl AccountService {
    /// Of an account whose service is this.
    pub(crate) fn new(account: &Account, service: &Service) -> AccountService {
        AccountService {
            s3uid: account.s3uid.clone(),
            service: service.into(),
        }
    }
}

/// Changes the service of the account that a call is about, and answers with the service as it is then.
pub(crate) async fn change<P>(
    context: &Context,
    call: Call<'_, P, Account>,
    action: &str,
    decide: impl Fn(&Service) -> Result<Service, NotAllowed>,
) -> Result<AccountService, Error> {
    let (caller, mut account) = (call.caller, call.about);
    // Somebody else may change the account between its reading and its writing: then decide again.
    let mut tries = Tries::of(5);
    loop {
        tries.once_more(|| Rejection::changed_meanwhile("S3 account is being changed"))?;
        let service = decide(&account.service).map_err(|refused| not_allowed(&refused))?;
        let event = context.account_event(
            Kind::AccountChanged,
            account.client_id,
            &account.s3uid,
            service_json(&service),
        );
        let entry = caller.entry(
            context,
            &account,
            action,
            json!({ "service": service_json(&service) }),
        );
        if context
            .database
            .change_service(&account, &service, &entry, &[event])
            .await?
            .is_yes()
        {
            return Ok(AccountService::new(&account, &service));
        }
        account = read_again(context, &caller, &account.s3uid).await?;
    }
}

/// An account that somebody else changed meanwhile, as it is now, for who still may decide about it again.
///
/// # Errors
/// 401, 404.
pub(crate) async fn read_again(
    context: &Context,
    caller: &Caller,
    s3uid: &S3Uid,
) -> Result<Account, Error> {
    caller.must_stand(context).await?;
    let account = context.database.account(s3uid).await?;
    let account = account.filter(Account::is_visible);
    Ok(account.ok_or_else(Rejection::account_not_found)?)
}

/// A service in an event or in the history, as [`ServiceShown`].
pub(crate) fn service_json(service: &Service) -> Value {
    serde_json::to_value(ServiceShown::from(service)).unwrap_or_default()
}

/// Refuses what a service does not allow.
pub(crate) fn not_allowed(refused: &NotAllowed) -> Rejection {
    let reason = match refused {
        NotAllowed::AlreadyCancelling => Reason::AccountCancelled,
        NotAllowed::NotCancelling => Reason::AccountNotCancelled,
        NotAllowed::NotSuspended => Reason::AccountNotSuspended,
        NotAllowed::Terminating => Reason::AccountTerminating,
    };
    Rejection::new(reason, refused.to_string())
}

/// Why an account is not in use.
pub(crate) const NOT_IN_USE: &[Reason] = &[
    Reason::AccountTerminating,
    Reason::AccountSuspended,
    Reason::AccountSuspendedUnpaid,
    Reason::AccountSuspendedTraffic,
];

/// Why the keys of a suspended account do not work.
pub(crate) fn suspended(account: &Account) -> Option<Reason> {
    let reason = match account.service.suspension()? {
        Suspension::Unpaid => Reason::AccountSuspendedUnpaid,
        Suspension::Traffic => Reason::AccountSuspendedTraffic,
        Suspension::Administrator => Reason::AccountSuspended,
    };
    Some(reason)
}

/// Refuses what an account takes only while it is in use.
pub(crate) fn check_in_use(account: &Account) -> Result<(), Rejection> {
    match account.service.status() {
        Status::Terminating | Status::Terminated => Err(not_allowed(&NotAllowed::Terminating)),
        _ if account.service.suspension() == Some(Suspension::Unpaid) => Err(Rejection::new(
            Reason::AccountSuspendedUnpaid,
            "S3 account is suspended: an invoice is overdue",
        )),
        _ if account.service.suspension() == Some(Suspension::Traffic) => Err(Rejection::new(
            Reason::AccountSuspendedTraffic,
            "S3 account is suspended: the traffic of its period is used up",
        )),
        _ if account.service.suspension().is_some() => Err(Rejection::new(
            Reason::AccountSuspended,
            "S3 account is suspended",
        )),
        Status::Active | Status::Cancelling | Status::Suspended => Ok(()),
    }
}
