//! Access to the embedded AWS services: requests signed with their credentials, under a name of
//! this machine, and no web page.
//!
//! Any user of the machine can reach ports on loopback, and so can every page in its browsers. The
//! `Origin` gives away a page of another origin; the `Host`, one whose own name resolves to
//! 127.0.0.1. Neither has the credentials, and no answer allows pages to read it.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rustack_auth::{AuthError, StaticCredentialProvider, hash_payload, verify_sigv4};
use serde_json::json;
use tokio::net::TcpListener;

use crate::server;

/// How far a signature's time may be from this machine's.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(15);

/// What the callers of the services sign with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public part.
    pub access_key_id: String,
    /// The secret one.
    pub secret_access_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What a service looks at before it looks at a request.
#[derive(Clone)]
pub(crate) struct Door {
    /// As signatures name the service.
    service: &'static str,
    body_max_bytes: usize,
    credentials: Arc<StaticCredentialProvider>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// A refusal: the error's type as AWS names it, and why.
#[derive(Debug)]
struct Refused(StatusCode, &'static str, String);

fn refused(kind: &'static str, why: impl Into<String>) -> Refused {
    Refused(StatusCode::FORBIDDEN, kind, why.into())
}

impl Door {
    pub(crate) fn new(
        service: &'static str,
        body_max_bytes: usize,
        credentials: &Credentials,
    ) -> Door {
        let Credentials {
            access_key_id,
            secret_access_key,
        } = credentials.clone();
        Door {
            service,
            body_max_bytes,
            credentials: Arc::new(StaticCredentialProvider::new([(
                access_key_id,
                secret_access_key,
            )])),
        }
    }

    /// The request with its whole body, if it may come in.
    async fn admit(&self, request: Request<Incoming>) -> Result<Request<Bytes>, Refused> {
        let (head, body) = request.into_parts();
        check_head(&head.headers)?;
        let body = Limited::new(body, self.body_max_bytes)
            .collect()
            .await
            .map_err(|_| {
                Refused(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "ValidationException",
                    "the request is too large, or broke off".into(),
                )
            })?
            .to_bytes();
        self.check_signature(&head, &body, real_now())?;
        Ok(Request::from_parts(head, body))
    }

    fn check_signature(&self, head: &Parts, body: &Bytes, now: Timestamp) -> Result<(), Refused> {
        check_covered(&head.headers)?;
        let signed = verify_sigv4(head, &hash_payload(body), &*self.credentials)
            .map_err(|error| refused(kind(&error), error.to_string()))?;
        if signed.service != self.service {
            return Err(refused(
                "InvalidSignatureException",
                format!(
                    "the signature is for {:?}, not for {}",
                    signed.service, self.service
                ),
            ));
        }
        let time = signed_at(&head.headers).ok_or_else(|| {
            refused(
                "InvalidSignatureException",
                "x-amz-date is no time such as 20260131T235959Z",
            )
        })?;
        if time.duration_since(now).abs() > SKEW_MAX {
            return Err(refused(
                "InvalidSignatureException",
                format!("the signature is of {time}, and it is {now} here"),
            ));
        }
        Ok(())
    }
}

/// What can be said before the body is read.
fn check_head(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(ORIGIN) {
        return Err(refused(
            "AccessDeniedException",
            "web pages cannot call this service",
        ));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_loopback) {
        return Err(refused(
            "AccessDeniedException",
            "the Host is not this machine's: call 127.0.0.1, [::1] or localhost",
        ));
    }
    if !headers.contains_key(AUTHORIZATION) {
        return Err(refused(
            "MissingAuthenticationTokenException",
            "the request is not signed: see the credentials in the environment of the functions",
        ));
    }
    Ok(())
}

/// What says which request this is stands once, and is signed.
fn check_covered(headers: &HeaderMap) -> Result<(), Refused> {
    let authorization = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let signed: Vec<&str> = authorization
        .and_then(|value| value.split_once("SignedHeaders="))
        .map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or_default())
        .map(|names| names.split(';').collect())
        .unwrap_or_default();
    for name in ["authorization", "host", "x-amz-date", "x-amz-target"] {
        let number = headers.get_all(name).iter().count();
        let is_covered = name == "authorization" || number == 0 || signed.contains(&name);
        if number > 1 || !is_covered {
            return Err(refused(
                "InvalidSignatureException",
                format!("the header {name} has to stand once, and to be signed"),
            ));
        }
    }
    Ok(())
}

/// Whether a `Host` (or the host of an address, with or without a port) is this machine by loopback, whatever names lead to it.
pub fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    // No user: browsers send none.
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

fn kind(error: &AuthError) -> &'static str {
    match error {
        AuthError::AccessKeyNotFound(_) => "UnrecognizedClientException",
        AuthError::MissingAuthHeader => "MissingAuthenticationTokenException",
        AuthError::InvalidAuthHeader
        | AuthError::InvalidCredential
        | AuthError::UnsupportedAlgorithm(_)
        | AuthError::MissingHeader(_) => "IncompleteSignatureException",
        _ => "InvalidSignatureException",
    }
}

fn signed_at(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("x-amz-date")?.to_str().ok()?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Serves a service behind its door until the task is aborted.
pub(crate) async fn serve<F, A>(listener: TcpListener, door: Door, answer: F)
where
    F: Fn(Request<Bytes>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let (door, answer) = (door.clone(), answer.clone());
        async move {
            let response = match door.admit(request).await {
                Ok(request) => answer(request).await,
                Err(refused) => refused.answer(),
            };
            Ok::<_, Box<dyn Error + Send + Sync>>(response)
        }
    });
    server::serve(listener, service).await;
}

impl Refused {
    fn answer(self) -> Response<Full<Bytes>> {
        let Refused(status, kind, message) = self;
        let body = json!({ "__type": kind, "message": message }).to_string();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-amz-json-1.1"),
        );
        headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
        // The body may not have been read.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// The address that names this machine in answers which have to name it, such as a queue's.
pub(crate) fn name_of(ip: IpAddr) -> String {
    match ip {
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "clients sign with real time, whatever the clock of the product says"
)]
fn real_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8780",
            "127.8.9.1:1",
            "localhost:8780",
            "LocalHost",
            "[::1]:8780",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8780",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8780",
            "evil@127.0.0.1:8780",
            "192.168.1.1:8780",
            "0.0.0.0:8780",
            "[::]:8780",
            "127.0.0.1:8780, evil.example",
            "2130706433",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
