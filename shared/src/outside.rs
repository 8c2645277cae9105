//! The base of all clients of external services. A handler receives the clients through [`crate::context`].

use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector, http_client_fn};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;

use crate::clock::Clock;
use crate::config::Config;
use crate::connectors::Connectors;
use crate::telemetry;

/// Everything that a client of an outside service needs.
pub(crate) struct Outside<'a> {
    /// The connector to AWS.
    aws: SharedHttpConnector,
    /// The connector to the clusters.
    pub clusters: SharedHttpConnector,
    /// The function's role.
    credentials: SharedCredentialsProvider,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Endpoints, names, regions.
    pub config: &'a Config,
}

impl<'a> Outside<'a> {
    /// Calls nothing. What goes through the connectors is counted.
    pub(crate) fn new(
        config: &'a Config,
        clock: Arc<dyn Clock>,
        connectors: Connectors,
    ) -> Outside<'a> {
        Outside {
            aws: telemetry::counted(connectors.aws),
            clusters: telemetry::counted(connectors.clusters),
            credentials: SharedCredentialsProvider::new(config.credentials.clone()),
            clock,
            config,
        }
    }

    /// What a client of an AWS service is built from. `endpoint` is where the service is if not where AWS has it.
    pub(crate) fn aws(&self, endpoint: Option<&String>) -> SdkConfig {
        let mut sdk = sdk(
            &self.config.region,
            self.credentials.clone(),
            http_client(&self.aws),
        );
        sdk.set_endpoint_url(endpoint.cloned());
        sdk.build()
    }

    /// The connector to the clusters, as the SDK's clients take it.
    pub(crate) fn cluster_http(&self) -> SharedHttpClient {
        http_client(&self.clusters)
    }
}

/// What a client of a cluster's S3 is built from. `keys` are whose it is: access key and secret key.
pub(crate) fn cluster_s3(
    http: &SharedHttpClient,
    region: &str,
    endpoint: &str,
    keys: (&str, &str),
) -> SdkConfig {
    let (access_key, secret_key) = keys;
    let credentials = Credentials::new(access_key, secret_key, None, None, "cluster");
    sdk(
        region,
        SharedCredentialsProvider::new(credentials),
        http.clone(),
    )
    .endpoint_url(endpoint)
    .build()
}

/// What all clients have in common: the SDK's standard retry (three tries, exponential back-off with jitter), and a bound on every call,
/// so that no request outlives its function's own limit.
fn sdk(
    region: &str,
    credentials: SharedCredentialsProvider,
    http: SharedHttpClient,
) -> aws_types::sdk_config::Builder {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(8))
        .operation_timeout(Duration::from_secs(20))
        .build();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials)
        .http_client(http)
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts)
}

fn http_client(connector: &SharedHttpConnector) -> SharedHttpClient {
    let connector = connector.clone();
    http_client_fn(move |_, _| connector.clone())
}

/// A client that is made when it is first used. Making one takes a while, and most functions use DynamoDB's alone.
#[derive(Debug, Clone)]
pub(crate) struct OnFirstUse<C>(Arc<LazyLock<C, Box<dyn FnOnce() -> C + Send>>>);

impl<C> OnFirstUse<C> {
    pub(crate) fn new(make: impl FnOnce() -> C + Send + 'static) -> OnFirstUse<C> {
        OnFirstUse(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<C> Deref for OnFirstUse<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}
