//! What can go wrong: a refusal the caller should read, or a failure it should not.

use std::borrow::Cow;
use std::io;

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};

/// An operation's failure, before it is told to the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The caller's: told as it is, in XML by S3 and in JSON by the admin API.
    #[error("{0}")]
    Refused(S3Error),
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("file: {0}")]
    File(#[from] io::Error),
    #[error("stored metadata: {0}")]
    Metadata(#[from] serde_json::Error),
    #[error("task: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<S3Error> for Fault {
    fn from(error: S3Error) -> Self {
        Self::Refused(error)
    }
}

impl From<S3ErrorCode> for Fault {
    fn from(code: S3ErrorCode) -> Self {
        Self::Refused(refusal(code))
    }
}

impl From<Fault> for S3Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            ours => {
                tracing::error!(error = %ours, "the S3 cluster failed");
                let mut error = S3Error::with_message(
                    S3ErrorCode::InternalError,
                    "We encountered an internal error. Please try again.",
                );
                error.set_source(Box::new(ours));
                error
            }
        }
    }
}

/// A standard refusal with the words clients know it by.
pub(crate) fn refusal(code: S3ErrorCode) -> S3Error {
    match words(&code) {
        Some(message) => S3Error::with_message(code, message),
        None => S3Error::new(code),
    }
}

/// The words of a standard refusal.
pub(crate) fn words(code: &S3ErrorCode) -> Option<&'static str> {
    Some(match code {
        S3ErrorCode::AccessDenied => "Access Denied",
        S3ErrorCode::NoSuchBucket => "The specified bucket does not exist",
        S3ErrorCode::NoSuchKey => "The specified key does not exist.",
        S3ErrorCode::NoSuchVersion => "The specified version does not exist.",
        S3ErrorCode::NoSuchUpload => {
            "The specified multipart upload does not exist. The upload ID may be invalid, \
             or the upload may have been aborted or completed."
        }
        S3ErrorCode::BucketNotEmpty => {
            "The bucket you tried to delete is not empty: it has objects, old versions or delete markers"
        }
        S3ErrorCode::BucketAlreadyExists => "The requested bucket name is not available.",
        S3ErrorCode::BucketAlreadyOwnedByYou => {
            "Your previous request to create the named bucket succeeded and you already own it."
        }
        S3ErrorCode::InvalidBucketName => "The specified bucket is not valid.",
        S3ErrorCode::PreconditionFailed => {
            "At least one of the pre-conditions you specified did not hold"
        }
        S3ErrorCode::InvalidRange => "The requested range is not satisfiable",
        S3ErrorCode::InvalidPart => {
            "One or more of the specified parts could not be found. The part may not have been uploaded, \
             or the specified entity tag may not match the part's entity tag."
        }
        S3ErrorCode::InvalidPartOrder => {
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        }
        S3ErrorCode::EntityTooSmall => {
            "Your proposed upload is smaller than the minimum allowed size"
        }
        S3ErrorCode::EntityTooLarge => "Your proposed upload exceeds the maximum allowed size",
        S3ErrorCode::IncompleteBody => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        }
        S3ErrorCode::BadDigest => {
            "The Content-MD5 or checksum value you specified did not match what was received."
        }
        S3ErrorCode::InvalidDigest => "The Content-MD5 you specified is not valid.",
        S3ErrorCode::InvalidAccessKeyId => {
            "The AWS Access Key Id you provided does not exist in our records."
        }
        S3ErrorCode::MethodNotAllowed => {
            "The specified method is not allowed against this resource."
        }
        S3ErrorCode::NotImplemented => "A header or operation you asked for is not implemented.",
        S3ErrorCode::SignatureDoesNotMatch => {
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method."
        }
        S3ErrorCode::MalformedXML => {
            "The XML you provided was not well-formed or did not validate against our published schema"
        }
        S3ErrorCode::InvalidURI => "Couldn't parse the specified URI.",
        S3ErrorCode::KeyTooLongError => "Your key is too long",
        S3ErrorCode::InvalidTag => "The tag provided was not a valid tag.",
        S3ErrorCode::InvalidRequest => "The request is not valid.",
        S3ErrorCode::InvalidArgument => "An argument is not valid.",
        S3ErrorCode::MissingContentLength => "You must provide the Content-Length HTTP header.",
        S3ErrorCode::MissingRequestBodyError => "Request body is empty.",
        S3ErrorCode::MaxMessageLengthExceeded => "Your request was too big.",
        S3ErrorCode::RequestTimeTooSkewed => {
            "The difference between the request time and the current time is too large."
        }
        S3ErrorCode::InternalError => "We encountered an internal error. Please try again.",
        _ => return None,
    })
}

/// A refusal the AWS documentation does not know.
pub(crate) fn custom(
    status: StatusCode,
    code: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

pub(crate) fn invalid_argument(message: impl Into<Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}

pub(crate) fn bad_digest(algorithm: &str) -> Fault {
    S3Error::with_message(
        S3ErrorCode::BadDigest,
        format!("The {algorithm} you specified did not match the calculated checksum."),
    )
    .into()
}

/// What is asked for by a name and is not there to be had.
pub(crate) fn not_offered(what: impl Into<Cow<'static, str>>) -> Fault {
    S3Error::with_message(S3ErrorCode::NotImplemented, what).into()
}

pub(crate) fn quota_exceeded() -> S3Error {
    custom(
        StatusCode::FORBIDDEN,
        "QuotaExceeded",
        "The account's storage quota does not allow this write.",
    )
}

pub(crate) fn user_suspended() -> S3Error {
    custom(
        StatusCode::FORBIDDEN,
        "UserSuspended",
        "The account is suspended.",
    )
}

pub(crate) fn no_such_user() -> S3Error {
    custom(
        StatusCode::NOT_FOUND,
        "NoSuchUser",
        "The specified user does not exist.",
    )
}
