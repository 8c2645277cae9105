//! Authentication and authorization: the caller and the subject of a call, resolved and checked before the action does anything.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::Context;
use crate::domain::account::{Account, AccountId};
use crate::domain::client::{Client, ClientId};
use crate::error::{Error, Reason, Rejection};
use crate::http::tokens::{Caller, account_of, authenticate, token};
use crate::http::typed;
use crate::http::values::{Id, S3Uid, Whole};
use crate::telemetry;

/// Who may call an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever has what the call needs, which is no token.
    Anybody,
    /// Everybody with a token, about what is theirs; administrators about everything.
    Everybody,
    /// Administrators.
    Administrators,
}

impl Who {
    fn check(self, caller: &Caller) -> Result<(), Rejection> {
        match self {
            Who::Anybody | Who::Everybody => Ok(()),
            Who::Administrators => caller.must_be_admin(),
        }
    }
}

/// What a call is about.
pub trait Subject: Sized + Send {
    /// The parameters that name it.
    type Names: DeserializeOwned + JsonSchema + Send + Sync;

    /// Why it may not be found, beside a token that is none.
    const REFUSES: &'static [Reason];

    /// Refuses what names nothing, before anything is asked of AWS.
    ///
    /// # Errors
    /// 400.
    fn check(names: &Self::Names) -> Result<(), Rejection>;

    /// Finds it, and who calls, of whom it is told `who` may. What is somebody else's is answered as what does not exist.
    ///
    /// # Errors
    /// 401, 403, 404.
    fn find(
        context: &Context,
        call: &super::Call,
        names: &Self::Names,
        who: Who,
    ) -> impl Future<Output = Result<(Caller, Self), Error>> + Send;
}

/// A call before anybody knows whose it is.
#[derive(Debug)]
pub struct Asked<P, S: Subject> {
    /// What the action takes.
    pub parameters: P,
    names: S::Names,
}

/// A call by somebody who may, about something that is there.
#[derive(Debug)]
pub struct Call<'a, P, S = ()> {
    /// What the action takes.
    pub parameters: P,
    /// Who calls.
    pub caller: Caller,
    /// What it is about.
    pub about: S,
    /// As it came.
    pub raw: &'a super::Call,
}

impl<P: DeserializeOwned, S: Subject> Asked<P, S> {
    /// Reads what a call says: whether there is a token, what it is about, and what the action takes.
    ///
    /// # Errors
    /// 401 without a token, 400 for what is missing or malformed.
    pub fn read(call: &super::Call) -> Result<Asked<P, S>, Rejection> {
        token(call)?;
        let names = typed::read(&call.parameters)?;
        S::check(&names)?;
        Ok(Asked {
            parameters: typed::read(&call.parameters)?,
            names,
        })
    }

    /// Finds who calls, and what about.
    ///
    /// # Errors
    /// 401, 403, 404.
    pub async fn find(
        &self,
        context: &Context,
        call: &super::Call,
        who: Who,
    ) -> Result<(Caller, S), Error> {
        let (caller, about) = S::find(context, call, &self.names, who).await?;
        who.check(&caller)?;
        Ok((caller, about))
    }

    /// The call, with what was found.
    pub fn found(self, call: &super::Call, (caller, about): (Caller, S)) -> Call<'_, P, S> {
        Call {
            parameters: self.parameters,
            caller,
            about,
            raw: call,
        }
    }
}

/// Names nothing.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Nothing {}

impl Subject for () {
    type Names = Nothing;
    const REFUSES: &'static [Reason] = &[];

    fn check(_: &Nothing) -> Result<(), Rejection> {
        Ok(())
    }

    async fn find(
        context: &Context,
        call: &super::Call,
        _: &Nothing,
        _: Who,
    ) -> Result<(Caller, ()), Error> {
        Ok((authenticate(context, call).await?, ()))
    }
}

/// What holds where a parameter is there, and has a value.
fn is_given(name: &str, kind: &str) -> Value {
    json!({ "required": [name], "properties": { name: { "type": kind } } })
}

/// How a call names an account.
#[derive(Debug, Deserialize, JsonSchema)]
// As a condition, which validators hold to and generators of clients pass over: most of them make no type of an object with an `anyOf`.
#[schemars(extend("if" = is_given("s3uid", "string"), "else" = is_given("account_id", "integer")))]
pub struct NamesAccount {
    /// The account, by its permanent name. Either this or `account_id` is required.
    s3uid: Option<S3Uid>,
    /// The account, by its number.
    account_id: Option<Id>,
    /// The client who owns the account. Optional for administrators.
    id: Option<Id>,
}

impl Subject for Account {
    type Names = NamesAccount;
    const REFUSES: &'static [Reason] = &[Reason::AccountNotFound];

    fn check(names: &NamesAccount) -> Result<(), Rejection> {
        match (&names.s3uid, names.account_id) {
            (None, None) => Err(Rejection::missing("s3uid or account_id")),
            _ => Ok(()),
        }
    }

    async fn find(
        context: &Context,
        call: &super::Call,
        names: &NamesAccount,
        who: Who,
    ) -> Result<(Caller, Account), Error> {
        let (caller, AnyAccount(account)) = AnyAccount::find(context, call, names, who).await?;
        match account.is_visible() {
            true => Ok((caller, account)),
            false => Err(Rejection::account_not_found().into()),
        }
    }
}

/// An account; that there is none is told without the action's name, as the published API does in some actions.
#[derive(Debug)]
pub struct BareAccount(pub Account);

impl Subject for BareAccount {
    type Names = NamesAccount;
    const REFUSES: &'static [Reason] = &[Reason::AccountNotFound];

    fn check(names: &NamesAccount) -> Result<(), Rejection> {
        Account::check(names)
    }

    async fn find(
        context: &Context,
        call: &super::Call,
        names: &NamesAccount,
        who: Who,
    ) -> Result<(Caller, BareAccount), Error> {
        match Account::find(context, call, names, who).await {
            Ok((caller, account)) => Ok((caller, BareAccount(account))),
            Err(Error::Rejection(rejection)) if rejection == Rejection::account_not_found() => {
                Err(rejection.bare().into())
            }
            Err(error) => Err(error),
        }
    }
}

/// An account, be it terminated: its history can still be read.
#[derive(Debug)]
pub struct AnyAccount(pub Account);

impl Subject for AnyAccount {
    type Names = NamesAccount;
    const REFUSES: &'static [Reason] = &[Reason::AccountNotFound];

    fn check(names: &NamesAccount) -> Result<(), Rejection> {
        Account::check(names)
    }

    /// Caller and account are looked up at once where the account is named by its s3uid.
    async fn find(
        context: &Context,
        call: &super::Call,
        names: &NamesAccount,
        _: Who,
    ) -> Result<(Caller, AnyAccount), Error> {
        let named = names.id.map(|Whole(id)| ClientId(id));
        let (caller, account, client_id) = match (&names.s3uid, names.account_id) {
            (Some(S3Uid(s3uid)), _) => {
                let account = async { Ok(context.database.account(s3uid).await?) };
                let (caller, account) = futures::try_join!(authenticate(context, call), account)?;
                let client_id = caller.client_of(named)?;
                (caller, account, client_id)
            }
            (None, Some(Whole(id))) => {
                let caller = authenticate(context, call).await?;
                let client_id = caller.client_of(named)?;
                let account = account_of(context, client_id, AccountId(id)).await?;
                (caller, account, client_id)
            }
            (None, None) => return Err(Rejection::missing("s3uid or account_id").into()),
        };
        match account {
            Some(account) if client_id.is_none_or(|client_id| client_id == account.client_id) => {
                telemetry::set_account(&account.s3uid);
                Ok((caller, AnyAccount(account)))
            }
            _ => Err(Rejection::account_not_found().into()),
        }
    }
}

/// How a call names a client.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NamesClient {
    /// The client.
    id: Id,
}

impl Subject for Client {
    type Names = NamesClient;
    const REFUSES: &'static [Reason] = &[Reason::ClientNotFound];

    fn check(_: &NamesClient) -> Result<(), Rejection> {
        Ok(())
    }

    /// Caller and client are looked up at once. Whoever may not call is not told which clients there are.
    async fn find(
        context: &Context,
        call: &super::Call,
        names: &NamesClient,
        who: Who,
    ) -> Result<(Caller, Client), Error> {
        let client = async { Ok(context.database.client(ClientId(names.id.0)).await?) };
        let (caller, client) = futures::try_join!(authenticate(context, call), client)?;
        who.check(&caller)?;
        let client = client.ok_or_else(Rejection::client_not_found)?;
        Ok((caller, client))
    }
}
