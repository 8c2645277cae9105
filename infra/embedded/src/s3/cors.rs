//! What pages of other origins may do with a bucket (CORS), by the rules its owner gave it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode};
use rusqlite::{Connection, OptionalExtension, params};
use s3s::dto::*;
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use serde::{Deserialize, Serialize};

use super::access::caller;
use super::fault::{Fault, custom};
use super::front::Front;
use super::hosts::addressed;
use super::records::{find_bucket, own_bucket};
use super::store::Store;

const RULES_MAX: usize = 100;
const CONFIGURATION_MAX_BYTES: usize = 64 * 1024;
const ID_MAX_CHARS: usize = 255;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const VARIES_BY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// One rule, as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    expose: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<i32>,
}

impl Rule {
    fn checked(rule: CORSRule) -> Result<Self, Fault> {
        let rule = Self {
            id: rule.id,
            origins: rule.allowed_origins,
            methods: rule.allowed_methods,
            headers: rule.allowed_headers.unwrap_or_default(),
            expose: rule.expose_headers.unwrap_or_default(),
            max_age_seconds: rule.max_age_seconds,
        };
        let id_fits = rule
            .id
            .as_ref()
            .is_none_or(|id| id.chars().count() <= ID_MAX_CHARS);
        if rule.origins.is_empty() || rule.methods.is_empty() || !id_fits {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        for method in &rule.methods {
            if !METHODS.contains(&method.as_str()) {
                return Err(invalid(format!(
                    "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
                )));
            }
        }
        for (what, patterns) in [
            ("AllowedOrigin", &rule.origins),
            ("AllowedHeader", &rule.headers),
        ] {
            for pattern in patterns {
                if pattern.matches('*').count() > 1 {
                    return Err(invalid(format!(
                        "{what} \"{pattern}\" can not have more than one wildcard."
                    )));
                }
            }
        }
        for header in &rule.expose {
            if header.contains('*') {
                return Err(invalid(format!(
                    "ExposeHeader \"{header}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
                )));
            }
            if HeaderName::from_bytes(header.as_bytes()).is_err() {
                return Err(invalid(format!(
                    "ExposeHeader \"{header}\" is not a header's name."
                )));
            }
        }
        if rule.max_age_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(invalid("MaxAgeSeconds is negative.".to_owned()));
        }
        Ok(rule)
    }

    fn allows(&self, origin: &str, method: &str, headers: &[String]) -> bool {
        self.methods.iter().any(|allowed| allowed == method)
            && self.origins.iter().any(|pattern| fits(pattern, origin))
            && headers.iter().all(|header| {
                self.headers
                    .iter()
                    .any(|pattern| fits(&pattern.to_ascii_lowercase(), header))
            })
    }

    fn answer(&self, origin: &str, requested_headers: &[String]) -> HeaderMap {
        // Whoever is named may send credentials; whoever is not named may not.
        let names_origin = !self.origins.iter().any(|pattern| pattern == "*");
        let mut headers = HeaderMap::new();
        let mut insert = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        insert(
            ACCESS_CONTROL_ALLOW_ORIGIN,
            if names_origin { origin } else { "*" },
        );
        insert(ACCESS_CONTROL_ALLOW_METHODS, &self.methods.join(", "));
        if !requested_headers.is_empty() {
            insert(ACCESS_CONTROL_ALLOW_HEADERS, &requested_headers.join(", "));
        }
        if !self.expose.is_empty() {
            insert(ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose.join(", "));
        }
        if let Some(seconds) = self.max_age_seconds {
            insert(ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
        if names_origin {
            insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        insert(VARY, VARIES_BY);
        headers
    }
}

/// Whether `text` is what `pattern` says, with `*` for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => {
            text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end)
        }
    }
}

fn invalid(message: String) -> Fault {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message).into()
}

fn rules_of(c: &Connection, bucket_id: i64) -> Result<Option<Vec<Rule>>, Fault> {
    let stored = c
        .prepare_cached("SELECT rules FROM cors WHERE bucket_id = ?1")?
        .query_row(params![bucket_id], |row| row.get::<_, String>(0))
        .optional()?;
    Ok(stored
        .map(|rules| serde_json::from_str(&rules))
        .transpose()?)
}

pub(crate) async fn put(
    front: &Front,
    req: S3Request<PutBucketCorsInput>,
) -> Result<S3Response<PutBucketCorsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let input = req.input;
    let rules = input.cors_configuration.cors_rules;
    if rules.is_empty() {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    if rules.len() > RULES_MAX {
        return Err(invalid(format!(
            "The number of CORS rules should not exceed allowed limit of {RULES_MAX} rules."
        )));
    }
    let rules = rules
        .into_iter()
        .map(Rule::checked)
        .collect::<Result<Vec<_>, _>>()?;
    let rules = serde_json::to_string(&rules)?;
    if rules.len() > CONFIGURATION_MAX_BYTES {
        return Err(invalid("The CORS configuration is too large.".to_owned()));
    }
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &input.bucket)?;
            w.prepare_cached("INSERT OR REPLACE INTO cors (bucket_id, rules) VALUES (?1, ?2)")?
                .execute(params![bucket.id, rules])?;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub(crate) async fn get(
    front: &Front,
    req: S3Request<GetBucketCorsInput>,
) -> Result<S3Response<GetBucketCorsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    let rules = front
        .store
        .read(move |c| rules_of(c, own_bucket(c, &uid, &req.input.bucket)?.id))
        .await?
        .ok_or_else(|| {
            S3Error::with_message(
                S3ErrorCode::NoSuchCORSConfiguration,
                "The CORS configuration does not exist",
            )
        })?;
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    Ok(S3Response::new(GetBucketCorsOutput {
        cors_rules: Some(
            rules
                .into_iter()
                .map(|rule| CORSRule {
                    id: rule.id,
                    allowed_origins: rule.origins,
                    allowed_methods: rule.methods,
                    allowed_headers: some(rule.headers),
                    expose_headers: some(rule.expose),
                    max_age_seconds: rule.max_age_seconds,
                })
                .collect(),
        ),
    }))
}

pub(crate) async fn delete(
    front: &Front,
    req: S3Request<DeleteBucketCorsInput>,
) -> Result<S3Response<DeleteBucketCorsOutput>, Fault> {
    let uid = caller(&req)?.uid;
    front
        .store
        .write(move |w| {
            let bucket = own_bucket(w, &uid, &req.input.bucket)?;
            w.prepare_cached("DELETE FROM cors WHERE bucket_id = ?1")?
                .execute(params![bucket.id])?;
            Ok(())
        })
        .await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}

/// What the bucket that is addressed says to anybody: it need not be the caller's.
async fn rules_for(store: &Arc<Store>, bucket: String) -> Result<Found, Fault> {
    store
        .read(move |c| match find_bucket(c, &bucket)? {
            None => Ok(Found::NoBucket),
            Some(bucket) => Ok(rules_of(c, bucket.id)?.map_or(Found::NoRules, Found::Rules)),
        })
        .await
}

enum Found {
    NoBucket,
    NoRules,
    Rules(Vec<Rule>),
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The headers to add to the answer of a request that a page made: none unless a rule allows it.
pub(crate) async fn headers<B>(store: &Arc<Store>, request: &Request<B>) -> HeaderMap {
    let Some(origin) = text(request.headers(), ORIGIN).map(str::to_owned) else {
        return HeaderMap::new();
    };
    let Some(bucket) = addressed(request.uri(), request.headers()).bucket else {
        return HeaderMap::new();
    };
    let method = request.method().clone();
    match rules_for(store, bucket).await {
        Ok(Found::Rules(rules)) => rules
            .iter()
            .find(|rule| rule.allows(&origin, method.as_str(), &[]))
            .map(|rule| rule.answer(&origin, &[]))
            .unwrap_or_default(),
        Ok(_) => HeaderMap::new(),
        Err(fault) => {
            tracing::error!(error = %fault, "CORS rules were not read");
            HeaderMap::new()
        }
    }
}

/// Answers what a browser asks before a page's request. Nobody signs such questions.
pub(crate) async fn preflight<B>(
    store: &Arc<Store>,
    request: &Request<B>,
) -> S3Result<HttpResponse> {
    match allowed(store, request).await {
        Ok(headers) => {
            let mut response = http::Response::new(Body::empty());
            *response.headers_mut() = headers;
            Ok(response)
        }
        Err(fault) => S3Error::from(fault).to_http_response(),
    }
}

async fn allowed<B>(store: &Arc<Store>, request: &Request<B>) -> Result<HeaderMap, Fault> {
    let bad_request = |message: String| custom(StatusCode::BAD_REQUEST, "BadRequest", message);
    let forbidden =
        |message: &'static str| custom(StatusCode::FORBIDDEN, "AccessForbidden", message);
    let origin = text(request.headers(), ORIGIN)
        .filter(|origin| !origin.is_empty())
        .ok_or_else(|| {
            bad_request("Insufficient information. Origin request header needed.".to_owned())
        })?
        .to_owned();
    let method = text(request.headers(), ACCESS_CONTROL_REQUEST_METHOD).unwrap_or("null");
    if !METHODS.contains(&method) {
        return Err(bad_request(format!("Invalid Access-Control-Request-Method: {method}")).into());
    }
    let headers: Vec<String> = request
        .headers()
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let method = method.to_owned();
    let found = match addressed(request.uri(), request.headers()).bucket {
        Some(bucket) => rules_for(store, bucket).await?,
        None => Found::NoRules,
    };
    let rules = match found {
        Found::Rules(rules) => rules,
        Found::NoRules => {
            return Err(forbidden("CORSResponse: CORS is not enabled for this bucket.").into());
        }
        Found::NoBucket => return Err(forbidden("CORSResponse: Bucket not found").into()),
    };
    rules
        .iter()
        .find(|rule| rule.allows(&origin, &method, &headers))
        .map(|rule| rule.answer(&origin, &headers))
        .ok_or_else(|| {
            forbidden(
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not \
                 whitelisted by the resource's CORS spec.",
            )
            .into()
        })
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_wildcard_stands_for_anything_once() {
        assert!(fits("*", "https://example.com"));
        assert!(fits("https://*.example.com", "https://a.example.com"));
        assert!(fits("http://localhost:*", "http://localhost:8080"));
        assert!(!fits("https://*.example.com", "https://example.com"));
        assert!(!fits(
            "https://*.example.com",
            "https://a.example.com.evil.org"
        ));
        assert!(!fits("ab*bc", "abc"));
        assert!(!fits("https://example.com", "http://example.com"));
    }
}
