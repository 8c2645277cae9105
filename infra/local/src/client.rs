//! The runner's own clients for its embedded services, apart from the product's.

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::template::REGION;

/// Plain HTTP, for loopback: reads no certificates, which takes most of a client's set-up time.
pub(crate) fn plain_http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

fn provided(credentials: &embedded::Credentials) -> Credentials {
    Credentials::new(
        &credentials.access_key_id,
        &credentials.secret_access_key,
        None,
        None,
        "local runner",
    )
}

fn sleep() -> SharedAsyncSleep {
    SharedAsyncSleep::new(TokioSleep::new())
}

pub(crate) fn dynamodb(
    endpoint: &str,
    credentials: &embedded::Credentials,
    http: &SharedHttpClient,
) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(provided(credentials))
            .http_client(http.clone())
            .sleep_impl(sleep())
            .endpoint_url(endpoint)
            .build(),
    )
}

pub(crate) fn sqs(
    endpoint: &str,
    credentials: &embedded::Credentials,
    http: &SharedHttpClient,
) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(aws_sdk_sqs::config::Region::new(REGION))
            .credentials_provider(provided(credentials))
            .http_client(http.clone())
            .sleep_impl(sleep())
            .endpoint_url(endpoint)
            .build(),
    )
}

pub(crate) fn s3(
    endpoint: &str,
    credentials: &embedded::Credentials,
    http: &SharedHttpClient,
) -> aws_sdk_s3::Client {
    s3_as(endpoint, http, provided(credentials))
}

/// The same with keys of one's own, as a client of a cluster has them.
pub(crate) fn s3_as(
    endpoint: &str,
    http: &SharedHttpClient,
    credentials: Credentials,
) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new(REGION))
            .credentials_provider(credentials)
            .http_client(http.clone())
            .sleep_impl(sleep())
            .endpoint_url(endpoint)
            .force_path_style(true)
            .build(),
    )
}
