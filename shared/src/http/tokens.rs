//! Who calls, for whom, and about which account.

use crate::context::Context;
use crate::domain::account::Account;
use crate::domain::client::Role;
use crate::domain::credential::{Access, Session, hash};
use crate::domain::history::{Actor, Entry};
use crate::error::{Error, Fault, Reason, Rejection};
use crate::http::Call;
use crate::http::parameters::ID;
use crate::telemetry;

/// The name of a token.
pub const TOKEN: &[&str] = &["token"];
/// The names by which a call names an account: see [`account_name`] and [`Caller::client_named`].
pub const ACCOUNT: &[&str] = &["s3uid", "account_id", "id"];
/// The names of a bucket's name.
pub const BUCKET: &[&str] = &["bucket_name", "bucket"];

/// Somebody with a session.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its own client number.
    pub client_id: u64,
    /// What it may do.
    pub role: Role,
    /// Its email.
    pub email: String,
    /// What its session rests on.
    pub access: Access,
    /// Where it calls from.
    ip: Option<String>,
}

impl Caller {
    /// Whether it may act for any client.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Refuses everybody else.
    ///
    /// # Errors
    /// 403 for whoever is no administrator.
    pub fn must_be_admin(&self) -> Result<(), Rejection> {
        if self.is_admin() {
            return Ok(());
        }
        Err(Rejection::new(
            Reason::AdministratorsOnly,
            "allowed to administrators only",
        ))
    }

    /// Refuses whoever's access has ended meanwhile. For when a write that hangs on it did not take place.
    ///
    /// # Errors
    /// 401 then.
    pub async fn must_stand(&self, context: &Context) -> Result<(), Error> {
        if context.database.stands(&self.access).await? {
            return Ok(());
        }
        Err(Rejection::invalid_token().into())
    }

    /// As history names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::person(self.client_id, &self.email, self.role, self.ip.clone())
    }

    /// The client it acts for: an admin the one that `id` names, and without one himself; everybody else themselves. Another's number in a
    /// client's `id` is answered as an account that does not exist.
    ///
    /// # Errors
    /// When `id` is malformed or another's.
    pub fn acts_for(&self, call: &Call) -> Result<u64, Rejection> {
        Ok(self.client_named(call)?.unwrap_or(self.client_id))
    }

    /// Whose things a call is about: everybody but an admin is about their own. `None` for an admin who names nobody by `id`: then it is
    /// whoever has what the call names, or everybody.
    ///
    /// # Errors
    /// When `id` is malformed or another's.
    pub fn client_named(&self, call: &Call) -> Result<Option<u64>, Rejection> {
        self.client_of(call.parameters.number(&["id"], ID)?)
    }

    /// As [`Caller::client_named`], of the number that stood in `id`.
    ///
    /// # Errors
    /// When it is another's.
    pub fn client_of(&self, named: Option<u64>) -> Result<Option<u64>, Rejection> {
        match named {
            None if self.is_admin() => Ok(None),
            None => Ok(Some(self.client_id)),
            Some(client_id) if self.is_admin() || client_id == self.client_id => {
                Ok(Some(client_id))
            }
            Some(_) => Err(Rejection::account_not_found()),
        }
    }

    /// A history entry of what it does to an account.
    #[must_use]
    pub fn entry(
        &self,
        context: &Context,
        account: &Account,
        action: &str,
        details: serde_json::Value,
    ) -> Entry {
        context.account_entry(
            account.client_id,
            &account.s3uid,
            action,
            self.actor(),
            details,
        )
    }
}

/// The token a call carries.
///
/// # Errors
/// When it carries none.
pub fn token(call: &Call) -> Result<String, Rejection> {
    match call.parameters.raw_text(&["token"]) {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(Rejection::missing_token()),
        Err(_) => Err(Rejection::invalid_token()),
    }
}

/// The session that a token stands for. One of an administrator is held against the epoch; a client's ends with its API key alone, and
/// is deleted then, so that a client's request costs no further read.
///
/// # Errors
/// 401 when the token is wrong, expired, or bound to another address.
pub async fn session(context: &Context, call: &Call, token: &str) -> Result<Session, Error> {
    let database = &context.database;
    let session = database.session(&hash(token)).await?;
    // To whoever calls from another address, a token is wrong, and nothing else.
    let session = session.filter(|session| session.is_for(call.source_ip));
    match session {
        Some(session) if session.is_over(context.now()) => Err(Rejection::expired_token().into()),
        Some(session)
            if session.role != Role::Admin || database.is_of_this_epoch(&session).await? =>
        {
            Ok(session)
        }
        _ => Err(Rejection::invalid_token().into()),
    }
}

/// Who calls.
///
/// # Errors
/// 401 without a token, or with one that is wrong, expired, or bound to another address.
pub async fn authenticate(context: &Context, call: &Call) -> Result<Caller, Error> {
    let session = session(context, call, &token(call)?).await?;
    telemetry::set_client(session.client_id);
    Ok(Caller {
        client_id: session.client_id,
        role: session.role,
        access: session.access(),
        email: session.email,
        ip: call.source_ip.map(|ip| ip.to_string()),
    })
}

/// Who calls, if it is an administrator.
///
/// # Errors
/// 401 as for [`authenticate`], 403 for everybody else.
pub async fn authenticate_admin(context: &Context, call: &Call) -> Result<Caller, Error> {
    let caller = authenticate(context, call).await?;
    caller.must_be_admin()?;
    Ok(caller)
}

/// How a call names an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountName {
    /// By `s3uid`.
    S3uid(String),
    /// By the number that `get_users` shows: published clients send `account_id`.
    Number(u64),
}

/// The account a call names.
///
/// # Errors
/// When it names none, or malformed.
pub fn account_name(call: &Call) -> Result<AccountName, Rejection> {
    if let Some(s3uid) = s3uid(call)? {
        return Ok(AccountName::S3uid(s3uid));
    }
    match call.parameters.number(&["account_id"], ID)? {
        Some(id) => Ok(AccountName::Number(id)),
        None => Err(Rejection::missing("s3uid or account_id")),
    }
}

/// The parameter `s3uid`, if it is there.
///
/// # Errors
/// When it is malformed.
pub fn s3uid(call: &Call) -> Result<Option<String>, Rejection> {
    let s3uid = call.parameters.text(&["s3uid"])?;
    let is_well_formed = |s3uid: &String| {
        s3uid.len() == 32 && s3uid.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    match s3uid {
        Some(s3uid) if !is_well_formed(&s3uid) => Err(Rejection::invalid(
            "s3uid",
            "must be 32 characters of A-Z, a-z and 0-9",
        )),
        s3uid => Ok(s3uid),
    }
}

/// Who calls, and the account the call names, if it is one the caller may act on; else the answer is that of an account that does
/// not exist. The two are looked up at once where the account is named by its s3uid.
///
/// # Errors
/// 400, 401 or 404.
pub async fn caller_and_account(
    context: &Context,
    call: &Call,
) -> Result<(Caller, Account), Error> {
    let (caller, account) = caller_and_any_account(context, call).await?;
    if !account.is_visible() {
        return Err(Rejection::account_not_found().into());
    }
    Ok((caller, account))
}

/// As [`caller_and_account`], terminated accounts included: their history can still be read.
///
/// # Errors
/// 400, 401 or 404.
pub async fn caller_and_any_account(
    context: &Context,
    call: &Call,
) -> Result<(Caller, Account), Error> {
    token(call)?;
    let name = account_name(call)?;
    let (caller, account) = match name {
        AccountName::S3uid(s3uid) => {
            let account = async { Ok(context.database.account(&s3uid).await?) };
            futures::try_join!(authenticate(context, call), account)?
        }
        AccountName::Number(id) => {
            let caller = authenticate(context, call).await?;
            let client_id = caller.client_named(call)?;
            (caller, account_of(context, client_id, id).await?)
        }
    };
    let client_id = caller.client_named(call)?;
    match account {
        Some(account) if client_id.is_none_or(|client_id| client_id == account.client_id) => {
            telemetry::set_account(&account.s3uid);
            Ok((caller, account))
        }
        _ => Err(Rejection::account_not_found().into()),
    }
}

/// An account by its number: a client's, or whosever it is.
///
/// # Errors
/// When DynamoDB cannot answer.
pub async fn account_of(
    context: &Context,
    client_id: Option<u64>,
    id: u64,
) -> Result<Option<Account>, Fault> {
    match client_id {
        Some(client_id) => context.database.account_by_number(client_id, id).await,
        None => context.database.anybodys_account_by_number(id).await,
    }
}
