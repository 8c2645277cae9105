//! Errors by responsibility: a [`Rejection`] is the caller's and is shown to the caller; a [`Fault`] is ours and is only ever logged.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use http::StatusCode;

use crate::domain::order::Refusal;
pub use crate::domain::reason::Reason;

/// Seconds after which to ask again for what a cluster could not answer.
const STORAGE_RETRY_AFTER_SECONDS: u32 = 30;

/// A request refused, with the reason, the status and the text its sender sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why, for programs: it says the HTTP status, and is sent as `Wharfage-Reason`.
    pub reason: Reason,
    /// The text, without the action's name in front.
    pub text: String,
    /// Whether the answer's text is `text` alone, without `s3/<action>: ` in front.
    pub bare: bool,
    /// Seconds after which to try again, sent as `Retry-After`.
    pub retry_after_seconds: Option<u32>,
    /// The parameter that is missing, unknown or wrong, where its name can be shown.
    pub parameter: Option<String>,
    /// The methods there are, sent as `Allow`.
    pub allow: Option<&'static str>,
}

impl Rejection {
    /// Refuses for a reason; `text` says it to people.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Rejection {
        Rejection {
            reason,
            text: text.into(),
            bare: false,
            retry_after_seconds: None,
            parameter: None,
            allow: None,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// 400: a parameter is missing.
    #[must_use]
    pub fn missing(parameter: &str) -> Rejection {
        let text = format!("missing parameter {parameter}");
        Rejection::new(Reason::ParameterMissing, text).about(parameter)
    }

    /// 400: a parameter is not what it must be; `rule` says what that is.
    #[must_use]
    pub fn invalid(parameter: &str, rule: &str) -> Rejection {
        let text = format!("invalid parameter {parameter}: {rule}");
        Rejection::new(Reason::ParameterInvalid, text).about(parameter)
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
        let rejection = Rejection::new(Reason::ParameterUnknown, text);
        match parameter {
            Some(parameter) => rejection.about(parameter),
            None => rejection,
        }
    }

    /// 400: the request as a whole cannot be read.
    #[must_use]
    pub fn unreadable(text: impl Into<String>) -> Rejection {
        Rejection::new(Reason::RequestUnreadable, text)
    }

    /// 401: no token.
    #[must_use]
    pub fn missing_token() -> Rejection {
        Rejection::new(Reason::TokenMissing, "missing auth token")
    }

    /// 401: a token that is wrong, revoked, or used from another address.
    #[must_use]
    pub fn invalid_token() -> Rejection {
        Rejection::new(Reason::TokenInvalid, "invalid token")
    }

    /// 401: a token whose time is over. It is told as one that is wrong, but for its reason.
    #[must_use]
    pub fn expired_token() -> Rejection {
        Rejection::new(Reason::TokenExpired, "invalid token")
    }

    /// 401: an API key that is wrong or revoked.
    #[must_use]
    pub fn invalid_key() -> Rejection {
        Rejection::new(Reason::KeyInvalid, "invalid key")
    }

    /// 404: the account does not exist, or is somebody else's: the two look alike.
    #[must_use]
    pub fn account_not_found() -> Rejection {
        let text = "S3 account not found for this customer";
        Rejection::new(Reason::AccountNotFound, text)
    }

    /// 404: there is no such client.
    #[must_use]
    pub fn client_not_found() -> Rejection {
        Rejection::new(Reason::ClientNotFound, "customer not found")
    }

    /// 404: the plan does not exist, or is not for this client.
    #[must_use]
    pub fn plan_not_found() -> Rejection {
        Rejection::new(Reason::PlanNotFound, "S3 plan not found")
    }

    /// 405: `allow` names the methods there are.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Rejection {
        Rejection {
            allow: Some(allow),
            ..Rejection::new(Reason::MethodNotAllowed, "method not allowed")
        }
    }

    /// 409: the bucket's name is somebody's, on whatever cluster.
    #[must_use]
    pub fn bucket_name_taken() -> Rejection {
        let text = "bucket name is already taken";
        Rejection::new(Reason::BucketNameTaken, text)
    }

    /// 503: the cluster behind the account cannot answer now.
    #[must_use]
    pub fn storage_unavailable() -> Rejection {
        let text = "the storage cannot answer now, try again later";
        Rejection::new(Reason::StorageUnavailable, text).retry_after(STORAGE_RETRY_AFTER_SECONDS)
    }

    /// The same rejection, of a parameter. A choice of several, as in `s3uid or account_id`, is none.
    #[must_use]
    fn about(mut self, parameter: &str) -> Rejection {
        self.parameter = (!parameter.contains(' ')).then(|| parameter.to_owned());
        self
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

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        Refusal {
            status: rejection.reason.status(),
            reason: Some(rejection.reason),
            text: rejection.text,
        }
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
