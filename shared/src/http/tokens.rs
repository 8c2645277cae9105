//! Who calls, and for whom.

use crate::context::Context;
use crate::domain::account::{Account, AccountId};
use crate::domain::client::{ClientId, Role};
use crate::domain::credential::{Access, Session, hash};
use crate::domain::history::{Actor, Entry};
use crate::error::{Error, Fault, Reason, Rejection};
use crate::http::Call;
use crate::http::takes::TOKEN;
use crate::telemetry;

/// Somebody with a session.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its own client number.
    pub client_id: ClientId,
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

    /// Whose things a call is about, by the number that stood in `id`: everybody but an admin is about their own. `None` for an admin who
    /// names nobody: then it is whoever has what the call names, or everybody.
    ///
    /// # Errors
    /// When it is another's: as an account that does not exist.
    pub fn client_of(&self, named: Option<ClientId>) -> Result<Option<ClientId>, Rejection> {
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
    match call.parameters.raw_text(TOKEN) {
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

/// An account by its number: a client's, or whosever it is.
pub async fn account_of(
    context: &Context,
    client_id: Option<ClientId>,
    id: AccountId,
) -> Result<Option<Account>, Fault> {
    match client_id {
        Some(client_id) => context.database.account_by_number(client_id, id).await,
        None => context.database.anybodys_account_by_number(id).await,
    }
}
