//! HTTP connectors for outgoing calls: hyper, with rustls for `https`.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::ConfigError;

/// A host that does not take a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than any call of ours takes; the SDK's own limits are shorter.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// The roots of AWS's own endpoints. The platform has some 150, and reading them is most of a cold start.
const AMAZON_ROOTS: &[u8] = include_bytes!("../certificates/amazon.pem");

/// Two connectors, since AWS and the clusters are trusted by different roots.
#[derive(Debug, Clone)]
pub struct Connectors {
    /// To AWS.
    pub aws: SharedHttpConnector,
    /// To the clusters.
    pub clusters: SharedHttpConnector,
}

impl Connectors {
    /// Connectors that speak `https`, and `http` where an endpoint says so. AWS is trusted by Amazon's roots, or by those in `ca_bundle`,
    /// a PEM file. The clusters are trusted by the platform's, which are read at the first call to one.
    ///
    /// # Errors
    /// When `ca_bundle` cannot be read, or is not made of certificates.
    pub fn over_tls(ca_bundle: Option<&Path>) -> Result<Connectors, ConfigError> {
        let roots = match ca_bundle {
            Some(file) => read_bundle(file)?,
            None => AMAZON_ROOTS.to_owned(),
        };
        let roots = TrustStore::empty().with_pem_certificate(roots);
        let context = TlsContext::builder().with_trust_store(roots).build();
        let context = context.map_err(|error| invalid(error.to_string()))?;
        // The default roots are the platform's.
        let clusters = Lazy(LazyLock::new(|| tls_connector(TlsContext::default())));
        Ok(Connectors {
            aws: tls_connector(context),
            clusters: SharedHttpConnector::new(clusters),
        })
    }

    /// One connector to both.
    #[must_use]
    pub fn one(connector: SharedHttpConnector) -> Connectors {
        Connectors {
            aws: connector.clone(),
            clusters: connector,
        }
    }
}

/// A connector that is made at its first call.
#[derive(Debug)]
struct Lazy(LazyLock<SharedHttpConnector>);

impl HttpConnector for Lazy {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.0.call(request)
    }
}

/// The connector for services on loopback: it speaks `http` only, and loads no certificates.
#[must_use]
pub fn loopback_connector() -> SharedHttpConnector {
    SharedHttpConnector::new(settled(Connector::builder()).build_http())
}

fn tls_connector(context: TlsContext) -> SharedHttpConnector {
    let builder = Connector::builder().tls_provider(Provider::rustls(CryptoMode::Ring));
    SharedHttpConnector::new(settled(builder.tls_context(context)).build())
}

/// The certificates in a file, each of which has been read once: the connector panics at one that cannot be.
fn read_bundle(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let read = || {
        let pem = fs::read(file).map_err(|error| error.to_string())?;
        match count_roots(&pem)? {
            0 => Err("has no certificate".to_owned()),
            _ => Ok(pem),
        }
    };
    read().map_err(|problem| invalid(format!("{}: {problem}", file.display())))
}

fn invalid(problem: String) -> ConfigError {
    ConfigError::Invalid {
        name: "AWS_CA_BUNDLE",
        problem,
    }
}

fn count_roots(pem: &[u8]) -> Result<usize, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots.len())
}

fn settled<Tls>(builder: ConnectorBuilder<Tls>) -> ConnectorBuilder<Tls> {
    let settings = HttpConnectorSettings::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build();
    builder
        .connector_settings(settings)
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        // Requests are small and answered one by one: waiting to fill a packet only delays them.
        .enable_tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazon_has_five_roots_and_a_connector_takes_them() {
        assert_eq!(count_roots(AMAZON_ROOTS), Ok(5));
        Connectors::over_tls(None).expect("connectors");
    }

    #[test]
    fn a_bundle_without_usable_certificates_is_refused_by_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = |base64: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
        };
        let cases = [
            ("missing.pem", None, "No such file"),
            ("empty.pem", Some(String::new()), "has no certificate"),
            ("text.pem", Some("roots".into()), "has no certificate"),
            ("broken.pem", Some(text("%")), "base64"),
            ("other.pem", Some(text("AAAA")), "certificate"),
        ];
        for (name, content, problem) in cases {
            let file = directory.path().join(name);
            if let Some(content) = content {
                fs::write(&file, content).expect("written");
            }
            let error = Connectors::over_tls(Some(&file)).expect_err("it is refused");
            let text = error.to_string();
            let begin = format!("environment variable AWS_CA_BUNDLE: {}: ", file.display());
            assert!(text.starts_with(&begin) && text.contains(problem), "{text}");
        }
    }

    #[test]
    fn a_bundle_takes_the_place_of_amazons_roots() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("bundle.pem");
        fs::write(&file, AMAZON_ROOTS).expect("written");
        assert_eq!(read_bundle(&file).expect("a bundle"), AMAZON_ROOTS);
        Connectors::over_tls(Some(&file)).expect("connectors");
    }
}
