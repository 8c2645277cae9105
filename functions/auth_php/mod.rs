//! `/auth.php`: sessions. `login` opens one with an API key, `info` describes it, `logout` ends it. `info` works by GET; `login` does only
//! if the operator allows it, because keys do not belong in URLs.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::to_value;
use wharfage::context::Context;
use wharfage::domain::client::{ClientId, Role};
use wharfage::domain::credential::{Session, hash};
use wharfage::error::{Error, Fault, Reason, Rejection};
use wharfage::http::envelope::Answer;
use wharfage::http::subject::Who;
use wharfage::http::takes::Takes;
use wharfage::http::tokens::{self, token};
use wharfage::http::typed;
use wharfage::http::values::{RawText, Whole};
use wharfage::http::{Action, AnswerSchema, Call, Contract, Get};
use wharfage::schema;

use crate::ACTIONS;

crate::endpoint!("auth_php", "/auth.php", SESSIONS);

/// What it does.
pub(crate) const SESSIONS: &[&Action] = &[
    &Action {
        module: "auth",
        name: "login",
        speaks_as: "login",
        get: Get::Where(|rules| rules.allows_login_by_get),
        takes: Takes {
            token: false,
            typed: &[|| crate::action!(@names Login)],
            unused: &[],
        },
        contract: Contract {
            docs: &["Opens a session with an API key."],
            who: Who::Anybody,
            parameters: &[Login::json_schema],
            answer: AnswerSchema::Whole(Opened::json_schema),
            refuses: &[&[Reason::KeyInvalid]],
        },
        handler: |context, call| Box::pin(login(context, call)),
    },
    &Action {
        module: "auth",
        name: "info",
        speaks_as: "info",
        get: Get::Always,
        takes: Takes {
            token: true,
            typed: &[],
            unused: &[],
        },
        contract: Contract {
            docs: &["Returns the token's session."],
            who: Who::Everybody,
            parameters: &[],
            answer: AnswerSchema::Whole(Opened::json_schema),
            refuses: &[],
        },
        handler: |context, call| Box::pin(info(context, call)),
    },
    &Action {
        module: "auth",
        name: "logout",
        speaks_as: "logout",
        get: Get::Never,
        takes: Takes {
            token: true,
            typed: &[],
            unused: &[],
        },
        contract: Contract {
            docs: &["Ends the token's session."],
            who: Who::Everybody,
            parameters: &[],
            answer: AnswerSchema::Whole(Ended::json_schema),
            refuses: &[],
        },
        handler: |context, call| Box::pin(logout(context, call)),
    },
];

const DEFAULT_TTL_SECONDS: u64 = 3_600;

/// What `login` takes.
#[derive(Deserialize, JsonSchema)]
struct Login {
    /// The API key.
    #[schemars(extend("examples" = ["fpvdym82zhxwc82xd9ofes2rs9ikij66"]))]
    key: RawText,
    /// The session's lifetime in seconds, clamped to 60 to 86400.
    ttl: Option<Ttl>,
    /// 1 to bind the session to the caller's address.
    fix_ip: Option<Whole<0, 1>>,
}

/// How long a session lasts, in seconds.
#[derive(Debug, Clone, Copy)]
struct Ttl(u64);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ttl, D::Error> {
        let RawText(text) = RawText::deserialize(deserializer)?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(D::Error::custom("must be a whole number"));
        }
        let seconds = match text.starts_with('-') {
            true => 0,
            false => digits.parse().unwrap_or(u64::MAX),
        };
        Ok(Ttl(seconds.clamp(60, 86_400)))
    }
}

schema!(Ttl, "Ttl", { "type": "integer", "default": 3600, "examples": [3600] });

/// What `login` and `info` answer.
#[derive(Serialize, JsonSchema)]
struct Opened {
    /// The session.
    result: SessionShown,
}

/// A session.
#[derive(Serialize, JsonSchema)]
struct SessionShown {
    /// The token for all other calls.
    token: String,
    /// Its role.
    role: Role,
    /// Its owner.
    customer_id: ClientId,
    /// Their email.
    email: String,
    /// When it ends, in seconds since 1970.
    token_expire: i64,
    /// The actions that it allows.
    permissions: Vec<String>,
}

/// What `logout` answers.
#[derive(Serialize, JsonSchema)]
struct Ended {
    /// `OK`.
    result: &'static str,
}

/// Whether only administrators may call an action.
#[must_use]
pub fn is_for_administrators(action: &Action) -> bool {
    action.contract.who == Who::Administrators
}

async fn login(context: &Context, call: &Call) -> Result<Answer, Error> {
    if call.in_address.contains("key") && !context.rules.allows_login_by_get {
        return Err(Rejection::invalid("key", "must not stand in the address").into());
    }
    let Login { key, ttl, fix_ip } = typed::read(&call.parameters)?;
    let RawText(key) = key;
    let ttl_seconds = ttl.map_or(DEFAULT_TTL_SECONDS, |Ttl(seconds)| seconds);
    let is_ip_fixed = fix_ip == Some(Whole(1));
    let api_key_hash = hash(&key);
    let api_key = context
        .database
        .api_key(&api_key_hash)
        .await?
        .ok_or_else(Rejection::invalid_key)?;
    let client = context
        .database
        .client(api_key.client_id)
        .await?
        .ok_or_else(Rejection::invalid_key)?;
    let token = context.random.token();
    let ttl = SignedDuration::from_secs(i64::try_from(ttl_seconds).unwrap_or(i64::MAX));
    let session = Session {
        client_id: client.client_id,
        role: client.role,
        email: client.email,
        fixed_ip: call.source_ip.filter(|_| is_ip_fixed),
        expires_at: context.now() + ttl,
        api_key_hash,
        epoch: Some(client.epoch),
    };
    let token_hash = hash(&token);
    context.database.put_session(&token_hash, &session).await?;
    // A key revoked meanwhile has had its sessions ended, maybe before this one was there. Nobody has its token yet.
    let api_key = context.database.api_key(&session.api_key_hash).await?;
    if api_key.is_none() {
        context.database.delete_session(&token_hash).await?;
        return Err(Rejection::invalid_key().into());
    }
    whole(&Opened {
        result: shown(token, &session),
    })
}

async fn info(context: &Context, call: &Call) -> Result<Answer, Error> {
    let token = token(call)?;
    let session = tokens::session(context, call, &token).await?;
    whole(&Opened {
        result: shown(token, &session),
    })
}

async fn logout(context: &Context, call: &Call) -> Result<Answer, Error> {
    let token = token(call)?;
    tokens::session(context, call, &token).await?;
    context.database.delete_session(&hash(&token)).await?;
    whole(&Ended { result: "OK" })
}

fn shown(token: String, session: &Session) -> SessionShown {
    let permissions = ACTIONS
        .iter()
        .filter(|action| session.role == Role::Admin || !is_for_administrators(action))
        .map(|action| format!("{}/{}", action.module, action.name));
    SessionShown {
        token,
        role: session.role,
        customer_id: session.client_id,
        email: session.email.clone(),
        token_expire: session.expires_at.as_second(),
        permissions: permissions.collect(),
    }
}

fn whole(body: &impl Serialize) -> Result<Answer, Error> {
    let body = to_value(body).map_err(|e| Fault::permanent("writing an answer", e))?;
    Ok(Answer::whole(body))
}
