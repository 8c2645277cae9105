//! Files in a bucket: plain S3, the same for every kind of cluster, by the account's own keys.
//!
//! The cluster counts these calls as the account's traffic, so they are counted here too: [`Counter`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{Cluster, ClusterError, Keys};
use crate::config::Location;
use crate::domain::bucket_name::BucketName;
use crate::domain::usage::OwnCalls;
use crate::outside::{Outside, cluster_s3};

/// S3 as an account sees it.
#[derive(Clone)]
pub struct Files {
    http: SharedHttpClient,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written.
    pub last_modified: Timestamp,
    /// In its quotes.
    pub etag: String,
}

/// Objects in the order of their keys.
#[derive(Debug)]
pub struct FilePage {
    /// The objects.
    pub files: Vec<File>,
    /// Whether there are more after them.
    pub has_more: bool,
}

/// What calls have moved that succeeded. A refusal is no traffic worth telling apart, and may be about a bucket that is another's.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes_sent: AtomicU64,
    requests: AtomicU64,
}

impl Counter {
    /// So far.
    #[must_use]
    pub fn counted(&self) -> OwnCalls {
        OwnCalls {
            bytes_sent: self.0.bytes_sent.load(Ordering::Relaxed),
            requests: self.0.requests.load(Ordering::Relaxed),
        }
    }
}

#[dyn_dispatch_hint]
impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "Counter"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _runtime_components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if !context.response().status().is_success() {
            return Ok(());
        }
        // Bytes of the body, as clusters count them. It is in memory by now.
        let body = context.response().body().bytes().unwrap_or_default();
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        self.0.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Files {
    pub(super) fn new(outside: &Outside<'_>) -> Files {
        Files {
            http: outside.cluster_http(),
        }
    }

    fn client(&self, cluster: &Cluster, keys: &Keys) -> Client {
        s3_client(
            &self.http,
            &cluster.location,
            &keys.access_key,
            &keys.secret_key,
        )
    }

    /// Up to `limit` (at most 1,000) objects with keys after `start_after`. `counter` has what that moved.
    ///
    /// # Errors
    /// What the storage answers.
    pub async fn list(
        &self,
        cluster: &Cluster,
        keys: &Keys,
        bucket_name: &BucketName,
        start_after: Option<&str>,
        limit: i32,
        counter: &Counter,
    ) -> Result<FilePage, ClusterError> {
        // Keys may hold characters that XML cannot: have them encoded.
        let page = self
            .client(cluster, keys)
            .list_objects_v2()
            .bucket(bucket_name)
            .set_start_after(start_after.map(str::to_owned))
            .max_keys(limit)
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(counter.clone())
            .send()
            .await
            .map_err(refusal)?;
        let is_encoded = page.encoding_type == Some(EncodingType::Url);
        let files = page
            .contents
            .unwrap_or_default()
            .into_iter()
            .map(|object| {
                let key = object.key.unwrap_or_default();
                File {
                    key: if is_encoded { decode(&key) } else { key },
                    size_bytes: object
                        .size
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or(0),
                    last_modified: object
                        .last_modified
                        .and_then(|at| {
                            Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or(0))
                                .ok()
                        })
                        .unwrap_or(Timestamp::UNIX_EPOCH),
                    etag: object.e_tag.unwrap_or_default(),
                }
            })
            .collect();
        Ok(FilePage {
            files,
            has_more: page.is_truncated.unwrap_or(false),
        })
    }

    /// Deletes an object. One that is not there is deleted. `counter` has what that moved.
    ///
    /// # Errors
    /// What the storage answers.
    pub async fn delete(
        &self,
        cluster: &Cluster,
        keys: &Keys,
        bucket_name: &BucketName,
        key: &str,
        counter: &Counter,
    ) -> Result<(), ClusterError> {
        self.client(cluster, keys)
            .delete_object()
            .bucket(bucket_name)
            .key(key)
            .customize()
            .interceptor(counter.clone())
            .send()
            .await
            .map_err(refusal)?;
        Ok(())
    }
}

/// S3 at a location, with these keys.
pub(super) fn s3_client(
    http: &SharedHttpClient,
    location: &Location,
    access_key: &str,
    secret_key: &SecretString,
) -> Client {
    let keys = (access_key, secret_key.expose_secret());
    let sdk = cluster_s3(http, &location.s3_region, &location.s3_endpoint, keys);
    let config = aws_sdk_s3::config::Builder::from(&sdk)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

/// A key as `encoding-type=url` writes it: percent-encoded, a space as `+` or `%20` by the server's taste, a plus sign always `%2B`.
pub(super) fn decode(encoded: &str) -> String {
    percent_encoding::percent_decode_str(&encoded.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

pub(super) fn refusal<E, R>(error: SdkError<E, R>) -> ClusterError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let service_error = match &error {
        SdkError::ServiceError(service) => Some(service.err()),
        _ => None,
    };
    match service_error.and_then(|e| e.code().map(|code| (code, e.message()))) {
        Some((code, message))
            if !matches!(code, "InternalError" | "ServiceUnavailable" | "SlowDown") =>
        {
            ClusterError::Refused {
                code: code.to_owned(),
                // Some clusters answer a code alone: then in Amazon's words.
                message: match message {
                    Some(message) if !message.is_empty() => message.to_owned(),
                    _ if code == "AccessDenied" => "Access Denied".to_owned(),
                    _ => code.to_owned(),
                },
            }
        }
        _ => ClusterError::Unavailable(DisplayErrorContext(error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_whichever_way_spaces_are_written() {
        assert_eq!(decode("a+b%20c%2Bd%25%C3%BC%01"), "a b c+d%ü\u{1}");
    }
}
