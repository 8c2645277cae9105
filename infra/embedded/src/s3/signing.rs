//! Signature checks beyond those of s3s: unsigned additions to a signed request, the maximum age of
//! a presigned URL, and regions not spelt like Amazon's.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::auth::S3Auth;
use s3s::crypto::{Checksum, Sha256};
use s3s::{S3Error, S3ErrorCode};

use super::access::Keys;
use super::admin::digest;
use super::fault::{Fault, custom, invalid_argument};
use super::forms::hmac;
use super::store::Store;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A week.
const EXPIRES_MAX_SECONDS: i64 = 7 * 24 * 60 * 60;
/// What a signature is made with when the client's region cannot be named to s3s.
const PLAIN_REGION: &str = "us-east-1";
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');

/// The parameters that make a signature, and are no headers.
const SIGNATURE_PARAMETERS: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];
/// Signed addresses carry no checksums: the JavaScript SDK puts that of an empty body there.
const CHECKSUM_PARAMETERS: [&str; 6] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-sdk-checksum-algorithm",
];

/// Why a request is not looked at any further.
pub(crate) struct Refused {
    pub fault: Fault,
    /// An element that the answer has besides, with its content.
    pub element: Option<(&'static str, String)>,
}

impl<E: Into<Fault>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self {
            fault: error.into(),
            element: None,
        }
    }
}

/// Where a signature of version 4 is. Version 2 signs all that begins with `x-amz-`.
enum Place {
    Header,
    Query,
}

struct Signed {
    place: Place,
    credential: String,
    headers: Vec<String>,
    signature: String,
}

impl Signed {
    fn find(head: &Parts, query: &[(String, String)]) -> Result<Option<Self>, Refused> {
        let in_query = |named: &str| {
            query
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(named))
        };
        let is_version_4 = ["x-amz-algorithm", "x-amz-credential", "x-amz-signature"]
            .into_iter()
            .any(in_query);
        let headers = head.headers.get_all(AUTHORIZATION).iter().count();
        // Whichever of them s3s looked at, what is checked here has to be about the same.
        if headers + usize::from(is_version_4) + usize::from(in_query("Signature")) > 1 {
            return Err(invalid_argument(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter \
                 or the Authorization header should be specified",
            )
            .into());
        }
        if headers > 0 {
            return Ok(text(&head.headers, AUTHORIZATION.as_str()).and_then(Self::in_header));
        }
        if !is_version_4 {
            return Ok(None);
        }
        Self::in_query(query).map(Some)
    }

    fn in_header(header: &str) -> Option<Self> {
        let part = |name: &str| {
            let (_, rest) = header.split_once(name)?;
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            Some(rest[..end].to_owned())
        };
        Some(Self {
            place: Place::Header,
            credential: part("Credential=")?,
            headers: names(&part("SignedHeaders=").unwrap_or_default()),
            signature: part("Signature=").unwrap_or_default(),
        })
    }

    fn in_query(query: &[(String, String)]) -> Result<Self, Refused> {
        let only = |name: &str| {
            let mut values = query.iter().filter(|(found, _)| found == name);
            match (values.next(), values.next()) {
                (Some((_, value)), None) => Ok(value.clone()),
                _ => Err(bad_parameters(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                     X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                )),
            }
        };
        for name in ["X-Amz-Algorithm", "X-Amz-Date"] {
            only(name)?;
        }
        let expires = only("X-Amz-Expires")?;
        let is_plain = !expires.starts_with('+');
        let expires: i64 = match expires.parse() {
            Ok(_) if !is_plain => return Err(bad_parameters("X-Amz-Expires should be a number")),
            Ok(seconds) => seconds,
            // Digits that do not fit are a number all the same.
            Err(_) if !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit()) => {
                i64::MAX
            }
            Err(_) => return Err(bad_parameters("X-Amz-Expires should be a number")),
        };
        if expires < 1 {
            return Err(bad_parameters("X-Amz-Expires must be at least 1 second"));
        }
        if expires > EXPIRES_MAX_SECONDS {
            return Err(bad_parameters(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be \
                 less than 604800 seconds",
            ));
        }
        Ok(Self {
            place: Place::Query,
            credential: only("X-Amz-Credential")?,
            headers: names(&only("X-Amz-SignedHeaders")?),
            signature: only("X-Amz-Signature")?,
        })
    }

    /// Refuses headers that the signature does not cover and that mean something.
    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let is_covered = |name: &str| match name {
            // The first is part of what is signed and the second is checked against the body, in any case.
            "x-amz-date" => matches!(self.place, Place::Header),
            "x-amz-content-sha256" => true,
            _ => false,
        };
        let mut unsigned: Vec<&str> = headers
            .keys()
            .map(HeaderName::as_str)
            // The host may say the bucket.
            .filter(|name| name.starts_with("x-amz-") || *name == "host")
            .filter(|name| !is_covered(name) && !self.headers.iter().any(|signed| signed == name))
            .collect();
        if unsigned.is_empty() {
            return Ok(());
        }
        unsigned.sort_unstable();
        Err(Refused {
            fault: S3Error::with_message(
                S3ErrorCode::AccessDenied,
                "There were headers present in the request which were not signed",
            )
            .into(),
            element: Some(("HeadersNotSigned", unsigned.join(", "))),
        })
    }
}

fn bad_parameters(message: &'static str) -> Refused {
    custom(
        StatusCode::BAD_REQUEST,
        "AuthorizationQueryParametersError",
        message,
    )
    .into()
}

fn names(list: &str) -> Vec<String> {
    list.split(';').map(str::to_ascii_lowercase).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn pairs(uri: &Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

/// Checks what s3s does not, and brings the request into a form that it understands. The signature itself
/// is left for it to check.
pub(crate) async fn prepare(store: &Arc<Store>, head: &mut Parts) -> Result<(), Refused> {
    let query = pairs(&head.uri);
    let Some(signed) = Signed::find(head, &query)? else {
        // An address of version 2 has headers among its parameters, and signs them as headers.
        if query.iter().any(|(name, _)| name == "Signature") {
            hoist(head, &query, |name| {
                name.starts_with("x-amz-") || matches!(name, "content-type" | "content-md5")
            })?;
        }
        return Ok(());
    };
    signed.check_headers(&head.headers)?;
    rename_region(store, head, &query, &signed).await?;
    if matches!(signed.place, Place::Query) {
        hoist(head, &query, |name| {
            name.starts_with("x-amz-")
                && !SIGNATURE_PARAMETERS.contains(&name)
                && !CHECKSUM_PARAMETERS.contains(&name)
        })?;
    }
    Ok(())
}

/// SDKs move headers into the addresses they sign: these come back.
fn hoist(
    head: &mut Parts,
    query: &[(String, String)],
    is_header: impl Fn(&str) -> bool,
) -> Result<(), Refused> {
    for (name, value) in query {
        let name = name.to_ascii_lowercase();
        if !is_header(&name) || head.headers.contains_key(&name) {
            continue;
        }
        let header = HeaderName::try_from(&name)
            .ok()
            .zip(HeaderValue::try_from(value).ok())
            .ok_or_else(|| invalid_argument(format!("The parameter {name} is not a header")))?;
        head.headers.insert(header.0, header.1);
    }
    Ok(())
}

/// s3s knows regions of small letters, digits and dashes only, and old clients sign with `US`. Such a
/// signature is checked here, and made again with another region.
async fn rename_region(
    store: &Arc<Store>,
    head: &mut Parts,
    query: &[(String, String)],
    signed: &Signed,
) -> Result<(), Refused> {
    let scope: Vec<&str> = signed.credential.rsplitn(5, '/').collect();
    let [terminator, service, region, day, access_key] = scope[..] else {
        // Malformed, as s3s will say.
        return Ok(());
    };
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.bytes().all(is_plain) {
        return Ok(());
    }
    let (date, payload) = match signed.place {
        Place::Header => (
            text(&head.headers, "x-amz-date")
                .unwrap_or_default()
                .to_owned(),
            text(&head.headers, "x-amz-content-sha256")
                .unwrap_or_default()
                .to_owned(),
        ),
        Place::Query => (
            value_of(query, "X-Amz-Date").unwrap_or_default().to_owned(),
            "UNSIGNED-PAYLOAD".to_owned(),
        ),
    };
    if payload.starts_with("STREAMING-AWS4-") {
        // Every chunk has a signature with the region in it.
        return Err(custom(
            StatusCode::BAD_REQUEST,
            "AuthorizationHeaderMalformed",
            format!(
                "The authorization header is malformed; the region '{region}' is wrong; expecting '{PLAIN_REGION}' \
                 where chunks are signed"
            ),
        )
        .into());
    }
    let secret = Keys(Arc::clone(store)).get_secret_key(access_key).await?;
    let sign = |region: &str, query: &[(String, String)]| {
        let canonical = canonical(head, query, &signed.headers, &payload);
        let to_sign = format!(
            "{ALGORITHM}\n{date}\n{day}/{region}/{service}/{terminator}\n{}",
            hex::encode(Sha256::checksum(canonical.as_bytes()))
        );
        let mut key = format!("AWS4{}", secret.expose()).into_bytes();
        for part in [day, region, service, terminator] {
            key = hmac::<Sha256>(&key, part.as_bytes());
        }
        hex::encode(hmac::<Sha256>(&key, to_sign.as_bytes()))
    };
    // Digests are compared, so the time it takes tells nothing of the signature.
    let right = sign(region, query);
    if digest(right.as_bytes()) != digest(signed.signature.as_bytes()) {
        return Err(S3ErrorCode::SignatureDoesNotMatch.into());
    }
    let credential = format!("{access_key}/{day}/{PLAIN_REGION}/{service}/{terminator}");
    match signed.place {
        Place::Header => {
            let header = format!(
                "{ALGORITHM} Credential={credential}, SignedHeaders={}, Signature={}",
                signed.headers.join(";"),
                sign(PLAIN_REGION, query)
            );
            let header =
                HeaderValue::try_from(header).map_err(|_| S3ErrorCode::SignatureDoesNotMatch)?;
            head.headers.insert(AUTHORIZATION, header);
        }
        Place::Query => {
            let mut query = query.to_vec();
            set(&mut query, "X-Amz-Credential", credential);
            let signature = sign(PLAIN_REGION, &query);
            set(&mut query, "X-Amz-Signature", signature);
            let encoded: Vec<_> = query
                .iter()
                .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
                .collect();
            let target = format!("{}?{}", head.uri.path(), encoded.join("&"));
            head.uri = target.parse().map_err(|_| S3ErrorCode::InvalidURI)?;
        }
    }
    Ok(())
}

fn value_of<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = query.iter().find(|(found, _)| found == name)?;
    Some(value)
}

fn set(query: &mut [(String, String)], name: &str, value: String) {
    if let Some((_, old)) = query.iter_mut().find(|(found, _)| found == name) {
        *old = value;
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}

/// What version 4 signs of a request.
fn canonical(
    head: &Parts,
    query: &[(String, String)],
    signed_headers: &[String],
    payload: &str,
) -> String {
    let path = percent_decode_str(head.uri.path()).decode_utf8_lossy();
    let path = utf8_percent_encode(&path, IN_PATH);
    let mut parameters: Vec<_> = query
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    parameters.sort();
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut names: Vec<&str> = signed_headers
        .iter()
        .map(String::as_str)
        .filter(|name| head.headers.contains_key(*name))
        .collect();
    names.sort_unstable();
    let headers: String = names
        .iter()
        .map(|name| {
            let values: Vec<_> = head
                .headers
                .get_all(*name)
                .iter()
                .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
                .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            format!("{name}:{}\n", values.join(","))
        })
        .collect();
    format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{payload}",
        head.method,
        parameters.join("&"),
        names.join(";")
    )
}
