//! What can go wrong, told apart by whose it is: a [`Rejection`] is the caller's and is told to the caller,
//! a [`Fault`] is ours and is only ever logged.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use http::StatusCode;

/// Seconds after which to ask again for what a cluster could not answer.
const STORAGE_RETRY_AFTER_SECONDS: u32 = 30;

/// A request refused, with the status and the text its sender sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status.
    pub status: StatusCode,
    /// The text, without the action's name in front.
    pub text: String,
    /// Whether the answer's text is `text` alone, without `s3/<action>: ` in front.
    pub bare: bool,
    /// Seconds after which to try again, sent as `Retry-After`.
    pub retry_after_seconds: Option<u32>,
    /// Why, for programs: sent as `Wharfage-Reason`.
    pub reason: Option<Reason>,
    /// The methods there are, sent as `Allow`.
    pub allow: Option<&'static str>,
}

/// Why a request is refused, where its status and its text leave that open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// There is no token.
    TokenMissing,
    /// The token is wrong, revoked, or used from another address.
    TokenInvalid,
    /// The token was right, and its time is over.
    TokenExpired,
}

impl Rejection {
    fn new(status: StatusCode, text: impl Into<String>) -> Rejection {
        Rejection {
            status,
            text: text.into(),
            bare: false,
            retry_after_seconds: None,
            reason: None,
            allow: None,
        }
    }

    /// 400: a parameter is missing.
    #[must_use]
    pub fn missing(parameter: &str) -> Rejection {
        Rejection::new(
            StatusCode::BAD_REQUEST,
            format!("missing parameter {parameter}"),
        )
    }

    /// 400: a parameter is not what it must be; `rule` says what that is.
    #[must_use]
    pub fn invalid(parameter: &str, rule: &str) -> Rejection {
        Rejection::new(
            StatusCode::BAD_REQUEST,
            format!("invalid parameter {parameter}: {rule}"),
        )
    }

    /// 400: a parameter that the action does not take, by its name, unless that is not to be repeated, and with the one that was meant,
    /// perhaps.
    #[must_use]
    pub fn unknown(parameter: Option<&str>, meant: Option<&str>) -> Rejection {
        let mut text = String::from("unknown parameter");
        match parameter {
            Some(parameter) => text.extend([": ", parameter]),
            None => text.push_str(", and not one that can be shown"),
        }
        if let Some(meant) = meant {
            text.extend([" (did you mean ", meant, "?)"]);
        }
        Rejection::new(StatusCode::BAD_REQUEST, text)
    }

    /// 400: the request as a whole cannot be read.
    #[must_use]
    pub fn bad_request(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::BAD_REQUEST, text)
    }

    /// 401: no token.
    #[must_use]
    pub fn missing_token() -> Rejection {
        Rejection {
            reason: Some(Reason::TokenMissing),
            ..Rejection::new(StatusCode::UNAUTHORIZED, "missing auth token")
        }
    }

    /// 401: a token that is wrong, revoked, or used from another address.
    #[must_use]
    pub fn invalid_token() -> Rejection {
        Rejection {
            reason: Some(Reason::TokenInvalid),
            ..Rejection::new(StatusCode::UNAUTHORIZED, "invalid token")
        }
    }

    /// 401: a token whose time is over. It is told as one that is wrong, but for its reason.
    #[must_use]
    pub fn expired_token() -> Rejection {
        Rejection {
            reason: Some(Reason::TokenExpired),
            ..Rejection::invalid_token()
        }
    }

    /// 401: an API key that is wrong or revoked.
    #[must_use]
    pub fn invalid_key() -> Rejection {
        Rejection::new(StatusCode::UNAUTHORIZED, "invalid key")
    }

    /// 402: not enough credit, or none of the kind needed.
    #[must_use]
    pub fn payment_required(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::PAYMENT_REQUIRED, text)
    }

    /// 403: known, and not allowed.
    #[must_use]
    pub fn forbidden(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::FORBIDDEN, text)
    }

    /// 404: not there, or not the caller's.
    #[must_use]
    pub fn not_found(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::NOT_FOUND, text)
    }

    /// 404: the account does not exist, or is somebody else's: the two look alike.
    #[must_use]
    pub fn account_not_found() -> Rejection {
        Rejection::not_found("S3 account not found for this customer")
    }

    /// 405: `allow` names the methods there are.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Rejection {
        Rejection {
            allow: Some(allow),
            ..Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
    }

    /// 409: the present state does not allow it.
    #[must_use]
    pub fn conflict(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::CONFLICT, text)
    }

    /// 413.
    #[must_use]
    pub fn too_large(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    }

    /// 422: an idempotency key used before with other parameters.
    #[must_use]
    pub fn unprocessable(text: impl Into<String>) -> Rejection {
        Rejection::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }

    /// 429: nothing was begun, for others are before it.
    #[must_use]
    pub fn too_many(text: impl Into<String>, retry_after_seconds: u32) -> Rejection {
        Rejection::new(StatusCode::TOO_MANY_REQUESTS, text).retry_after(retry_after_seconds)
    }

    /// 503: a cluster or a queue cannot answer now; worth trying again.
    #[must_use]
    pub fn unavailable(text: impl Into<String>, retry_after_seconds: u32) -> Rejection {
        Rejection::new(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(retry_after_seconds)
    }

    /// 503: the cluster behind the account cannot answer now.
    #[must_use]
    pub fn storage_unavailable() -> Rejection {
        Rejection::unavailable(
            "the storage cannot answer now, try again later",
            STORAGE_RETRY_AFTER_SECONDS,
        )
    }

    /// The same rejection, with a `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Rejection {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The same rejection, its text shown without the action's name.
    #[must_use]
    pub fn bare(mut self) -> Rejection {
        self.bare = true;
        self
    }
}

/// Something of ours failed: a call to AWS, a stored item that cannot be read. Never shown to a caller.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct Fault {
    /// What was being done.
    pub what: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Fault {
    /// A fault that another try may not meet: a time-out, a throttled call, a broken connection.
    pub fn retryable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Fault {
        Fault {
            what: what.into(),
            retryable: true,
            source: source.into(),
        }
    }

    /// A fault that stays until somebody mends something: a malformed item, a missing table.
    pub fn permanent(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Fault {
        Fault {
            what: what.into(),
            retryable: false,
            source: source.into(),
        }
    }
}

/// Of an answer that came, and told nothing.
const UNREADABLE: &str = "its answer cannot be read";

/// Why a call failed whose answer holds a secret. One that cannot be parsed may hold it all the same, so no answer is told as it came.
pub(crate) fn without_answer<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(refused) => {
            let (refusal, status) = (refused.err(), refused.raw().status());
            if status.is_success() {
                return UNREADABLE.into();
            }
            format!(
                "HTTP {}: {}: {}",
                status.as_u16(),
                refusal.code().unwrap_or("no code"),
                refusal.message().unwrap_or("no message")
            )
        }
        SdkError::ConstructionFailure(_)
        | SdkError::DispatchFailure(_)
        | SdkError::TimeoutError(_) => DisplayErrorContext(error).to_string(),
        _ => UNREADABLE.into(),
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Error {
    /// The caller's doing.
    Rejection(Rejection),
    /// Ours.
    Fault(Fault),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Error {
        Error::Rejection(rejection)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Fault(fault)
    }
}
