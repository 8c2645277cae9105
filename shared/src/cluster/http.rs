//! Calls of the clusters' administrations: HTTP over the clusters' connector.

use std::future::Future;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use backon::{ExponentialBuilder, Retryable};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

use super::{ClusterError, doubt};

/// A cluster that has not answered within this cannot answer. An action that asks twice must still end within its function's time-out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that took this long to fail is not made again: who waits for it is told instead.
const RETRY_WITHIN: Duration = Duration::from_secs(2);

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Sends a request, once.
pub(super) async fn send(
    connector: &SharedHttpConnector,
    request: http::Request<SdkBody>,
) -> Result<Answer, ClusterError> {
    let method = request.method().to_string();
    let what = format!("{method} {}", request.uri().path());
    let unavailable = |problem: String| ClusterError::Unavailable(format!("{what}: {problem}"));
    let request = HttpRequest::try_from(request).map_err(|e| unavailable(e.to_string()))?;
    let answering = async {
        let response = connector
            .call(request)
            .await
            .map_err(|e| unavailable(format!("{e:?}")))?;
        let status = StatusCode::from_u16(response.status().as_u16())
            .map_err(|e| unavailable(e.to_string()))?;
        let body = ByteStream::new(response.into_body())
            .collect()
            .await
            .map_err(|e| unavailable(e.to_string()))?
            .to_vec();
        Ok(Answer { status, body })
    };
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, answering).await {
        Ok(answer) => answer,
        Err(_) => Err(unavailable("no answer in time".into())),
    };
    // Who answers for a server that cannot does not know what that did.
    if !matches!(&answer, Ok(answer) if !answer.status.is_server_error()) {
        doubt::unanswered(&method);
    }
    answer
}

/// Sends a request of JSON with a bearer token, once. An answer without a body says `null`.
pub(super) async fn send_json(
    connector: &SharedHttpConnector,
    method: &str,
    uri: &str,
    token: &SecretString,
    body: String,
) -> Result<Answer, ClusterError> {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", format!("Bearer {}", token.expose_secret()))
        .header("content-type", "application/json")
        .body(SdkBody::from(body))
        .map_err(|e| ClusterError::Unavailable(format!("{method}: {e}")))?;
    let mut answer = send(connector, request).await?;
    if answer.body.is_empty() {
        answer.body = b"null".to_vec();
    }
    Ok(answer)
}

/// Makes a call up to three times while the cluster cannot answer. For calls that may be repeated.
pub(super) async fn repeated<A, F>(call: impl FnMut() -> F) -> Result<A, ClusterError>
where
    F: Future<Output = Result<A, ClusterError>>,
{
    let begun = tokio::time::Instant::now();
    call.retry(
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(50))
            .with_max_times(2),
    )
    .when(|error| matches!(error, ClusterError::Unavailable(_)) && begun.elapsed() < RETRY_WITHIN)
    .await
}

/// A name as a segment of a path, or as a value of a query.
pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder;

    use super::*;

    #[test]
    fn tries_of_several_do_not_keep_step() {
        let delays = || -> Vec<Duration> {
            let delays = ExponentialBuilder::default().with_jitter();
            delays.with_max_times(5).build().collect()
        };
        assert_ne!(delays(), delays());
    }
}
