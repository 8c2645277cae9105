//! The clusters behind the locations: the runner's own, and such as are given to it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use embedded::s3::{Cluster, ClusterOptions};
use embedded::secretsmanager::SecretsManager;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use wharfage::clock::Clock;
use wharfage::config::{Provider, check_url, is_code, is_plain_http};
use wharfage::random::Random;

use crate::clock::VirtualClock;
use crate::data::Place;
use crate::error::Error;
use crate::template::REGION;

/// The locations of a local stack: code and name.
const LOCATIONS: [(&str, &str); 2] = [("NL", "Amsterdam"), ("DE", "Frankfurt")];
/// What the names of the clusters' secrets begin with.
const SECRETS_PREFIX: &str = "wharfage/clusters/";

/// A storage cluster of the stack's own.
pub struct LocalCluster {
    /// Its S3 endpoint.
    pub s3_endpoint: String,
    /// Where it is administered.
    pub admin_endpoint: String,
    /// The bearer token for that.
    pub admin_token: String,
    options: ClusterOptions,
    running: Mutex<Option<Cluster>>,
}

impl LocalCluster {
    /// Stops it, as if its machine were switched off. It can be started again.
    pub async fn stop(&self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Its tasks end when the runtime next gets to them.
        while tokio::net::TcpStream::connect(self.options.listen)
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    }

    /// Stops it once the requests under way have ended.
    pub(crate) async fn finish(&self) {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(cluster) = running {
            cluster.finish().await;
        }
    }

    /// Starts it again, at the same address and with what it held; `admin_token` is its bearer token from now on.
    ///
    /// # Errors
    /// When somebody else has its address by now.
    pub fn start(&self, admin_token: &str) -> Result<(), Error> {
        let options = ClusterOptions {
            admin_token: admin_token.to_owned(),
            ..self.options.clone()
        };
        let cluster = Cluster::start(options).map_err(Error::io("cannot start the cluster"))?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
        Ok(())
    }
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCluster")
            .field("s3_endpoint", &self.s3_endpoint)
            .finish_non_exhaustive()
    }
}

/// A cluster that runs elsewhere, behind a location in place of the stack's own or as a further one.
#[derive(Debug, Clone)]
pub struct GivenCluster {
    /// The location's code.
    pub code: String,
    /// What kind of cluster it is.
    pub provider: Provider,
    /// Where it is administered.
    pub admin_endpoint: String,
    /// Whether that may be over plain http to another host.
    pub plain_http: bool,
    /// Its S3 endpoint.
    pub s3_endpoint: String,
    /// The region that S3 signatures name.
    pub s3_region: String,
    /// The credentials of its administration, as JSON in the form that the provider takes.
    pub secret: SecretString,
}

impl GivenCluster {
    /// Reads `CODE=PROVIDER:ADMIN_URL[,S3_URL[,REGION]]`; the credentials come from `lookup`, by the names of variables.
    ///
    /// # Errors
    /// Names the part that is wrong, or the variable that is missing.
    pub fn parse(
        text: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<GivenCluster, String> {
        let (code, rest) = text.split_once('=').unwrap_or((text, ""));
        if !is_code(code) {
            return Err(format!(
                "{text}: CODE: {code:?} is not 1 to 16 characters of A-Z, 0-9 and -"
            ));
        }
        let wrong = |part: &str, problem: &str| format!("{code}: {part}: {problem}");
        let (provider, urls) = rest.split_once(':').unwrap_or((rest, ""));
        let provider: Provider = provider
            .parse()
            .map_err(|_| wrong("PROVIDER", &format!("{provider:?} is none of rgw, garage")))?;
        let mut parts = urls.splitn(3, ',');
        let admin_endpoint = parts.next().unwrap_or_default();
        check_url(admin_endpoint)
            .map_err(|rule| wrong("ADMIN_URL", &quoted(admin_endpoint, rule)))?;
        let s3_endpoint = match (parts.next(), provider) {
            (Some(s3_endpoint), _) => s3_endpoint,
            (None, Provider::Garage) => {
                return Err(wrong(
                    "S3_URL",
                    "a garage has its administration and its S3 at two addresses",
                ));
            }
            (None, _) => admin_endpoint,
        };
        check_url(s3_endpoint).map_err(|rule| wrong("S3_URL", &quoted(s3_endpoint, rule)))?;
        let s3_region = parts.next().unwrap_or(match provider {
            Provider::Garage => "garage",
            Provider::Embedded | Provider::Rgw => REGION,
        });
        if s3_region.is_empty() {
            return Err(wrong("REGION", "is empty"));
        }
        let secret = |name: &str| {
            let variable = format!("WHARFAGE_{}_{name}", code.replace('-', "_"));
            lookup(&variable)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| wrong("credentials", &format!("set {variable}")))
        };
        let secret = match provider {
            Provider::Rgw => {
                json!({ "access_key": secret("ACCESS_KEY")?, "secret_key": secret("SECRET_KEY")? })
            }
            Provider::Embedded | Provider::Garage => json!({ "token": secret("TOKEN")? }),
        };
        Ok(GivenCluster {
            code: code.to_owned(),
            provider,
            admin_endpoint: admin_endpoint.to_owned(),
            plain_http: false,
            s3_endpoint: s3_endpoint.to_owned(),
            s3_region: s3_region.to_owned(),
            secret: secret.to_string().into(),
        })
    }

    /// Lets the clusters of these locations be administered over plain http; others with such an address are refused.
    ///
    /// # Errors
    /// Names the cluster that is refused, or the location that has no given cluster.
    pub fn allow_plain_http(clusters: &mut [GivenCluster], codes: &[String]) -> Result<(), String> {
        for code in codes {
            let cluster = clusters
                .iter_mut()
                .find(|cluster| cluster.code == *code)
                .ok_or_else(|| format!("--plain-http {code}: there is no --cluster {code}=…"))?;
            cluster.plain_http = true;
        }
        match clusters
            .iter()
            .find(|cluster| !cluster.plain_http && is_plain_http(&cluster.admin_endpoint))
        {
            Some(cluster) => Err(format!(
                "{code}: ADMIN_URL: {:?} is http, and secret keys would be readable on their way: give one with https, or --plain-http {code}",
                cluster.admin_endpoint,
                code = cluster.code,
            )),
            None => Ok(()),
        }
    }
}

/// An address with what is wrong with it, unless there may be a password in it.
fn quoted(url: &str, rule: &str) -> String {
    match url.contains('@') {
        true => format!("it {rule}"),
        false => format!("{url:?} {rule}"),
    }
}

/// Starts the stack's own clusters: at the ports after the API's where they can be had. A location with a given cluster has none.
///
/// # Errors
/// When one cannot be started.
pub(crate) fn start(
    listen: SocketAddr,
    place: &Place,
    clock: &Arc<VirtualClock>,
    random: &Random,
    given: &[GivenCluster],
    progress: fn(&str),
) -> Result<BTreeMap<String, LocalCluster>, Error> {
    let mut clusters = BTreeMap::new();
    for (position, (code, _)) in (1..).zip(LOCATIONS) {
        if given.iter().any(|cluster| cluster.code == code) {
            continue;
        }
        let clock = Arc::clone(clock);
        let admin_token = random.secret_key();
        let mut options = ClusterOptions {
            listen: SocketAddr::new(listen.ip(), 0),
            data_dir: place.directory().join("clusters").join(code),
            region: REGION.into(),
            admin_token: admin_token.clone(),
            now: Arc::new(move || clock.now()),
            ephemeral: place.is_temporary(),
        };
        // The same address at every start, as long as nobody else has it.
        let wanted = match listen.port() {
            0 => None,
            port => port.checked_add(position),
        };
        let at_wanted = wanted.and_then(|port| {
            let listen = SocketAddr::new(listen.ip(), port);
            Cluster::start(ClusterOptions {
                listen,
                ..options.clone()
            })
            .ok()
        });
        let running = at_wanted
            .map_or_else(|| Cluster::start(options.clone()), Ok)
            .map_err(|error| {
                Error::service(format!("cannot start the cluster of {code}"), error)
            })?;
        options.listen = running.address();
        if let Some(port) = wanted.filter(|port| *port != options.listen.port()) {
            progress(&format!(
                "port {port} is taken: S3 in {code} is at {}",
                options.listen
            ));
        }
        let endpoint = running.endpoint().to_owned();
        let cluster = LocalCluster {
            s3_endpoint: endpoint.clone(),
            admin_endpoint: endpoint,
            admin_token,
            options,
            running: Mutex::new(Some(running)),
        };
        clusters.insert(code.to_owned(), cluster);
    }
    Ok(clusters)
}

/// The locations as the template's parameter takes them, the given ones and the stack's own. Their secrets are put where the functions
/// will look for them.
pub(crate) fn locations_json(
    own: &BTreeMap<String, LocalCluster>,
    given: &[GivenCluster],
    secrets: &SecretsManager,
) -> String {
    let own = own.iter().map(|(code, cluster)| GivenCluster {
        code: code.clone(),
        provider: Provider::Embedded,
        admin_endpoint: cluster.admin_endpoint.clone(),
        // It is on this machine, also where it listens on an address that others reach.
        plain_http: is_plain_http(&cluster.admin_endpoint),
        s3_endpoint: cluster.s3_endpoint.clone(),
        s3_region: REGION.into(),
        secret: json!({ "token": cluster.admin_token }).to_string().into(),
    });
    let locations: Vec<Value> = own
        .chain(given.iter().cloned())
        .map(|cluster| {
            let code = &cluster.code;
            let secret_id = format!("{SECRETS_PREFIX}{code}");
            secrets.put(&secret_id, cluster.secret.expose_secret());
            let known = LOCATIONS.iter().find(|(known, _)| known == code);
            json!({
                "code": code,
                "name": known.map_or(code.as_str(), |(_, name)| name),
                "provider": cluster.provider.to_string(),
                "s3_endpoint": cluster.s3_endpoint,
                "s3_region": cluster.s3_region,
                "admin_endpoint": cluster.admin_endpoint,
                "admin_secret_id": secret_id,
                "plain_http": cluster.plain_http,
            })
        })
        .collect();
    Value::Array(locations).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GivenCluster, String> {
        GivenCluster::parse(text, |name| match name {
            "WHARFAGE_NL_2_ACCESS_KEY" => Some("AK".into()),
            "WHARFAGE_NL_2_SECRET_KEY" | "WHARFAGE_DE_TOKEN" => Some("secret".into()),
            _ => None,
        })
    }

    #[test]
    fn a_given_cluster_reads() {
        let rgw = parse("NL-2=rgw:http://127.0.0.1:8000").expect("a cluster");
        assert_eq!((rgw.code.as_str(), rgw.provider), ("NL-2", Provider::Rgw));
        assert_eq!(rgw.s3_endpoint, rgw.admin_endpoint);
        assert_eq!(rgw.s3_region, "us-east-1");
        let secret = rgw.secret.expose_secret();
        assert_eq!(secret, r#"{"access_key":"AK","secret_key":"secret"}"#);
        let garage = parse("DE=garage:http://[::1]:3903,http://[::1]:3900").expect("a cluster");
        assert_eq!(garage.s3_endpoint, "http://[::1]:3900");
        assert_eq!(garage.s3_region, "garage");
        assert_eq!(garage.secret.expose_secret(), r#"{"token":"secret"}"#);
        assert!(!format!("{garage:?}").contains("secret\""));
        let elsewhere = parse("DE=garage:http://a,http://b,home").expect("a cluster");
        assert_eq!(elsewhere.s3_region, "home");
    }

    #[test]
    fn a_given_cluster_is_administered_over_plain_http_only_where_its_code_is_named() {
        let given = || {
            vec![
                parse("NL-2=rgw:http://127.0.0.1:8000").expect("a cluster"),
                parse("DE=garage:http://10.0.0.7:3903,http://10.0.0.7:3900").expect("a cluster"),
            ]
        };
        let refused = GivenCluster::allow_plain_http(&mut given(), &[]).expect_err("refused");
        assert!(
            refused.starts_with("DE: ADMIN_URL: \"http://10.0.0.7:3903\" is http")
                && refused.ends_with("--plain-http DE"),
            "{refused}"
        );
        let mut clusters = given();
        GivenCluster::allow_plain_http(&mut clusters, &["DE".into()]).expect("taken");
        assert!(!clusters[0].plain_http && clusters[1].plain_http);
        let unknown = GivenCluster::allow_plain_http(&mut given(), &["FR".into()]);
        let unknown = unknown.expect_err("refused");
        assert!(unknown.starts_with("--plain-http FR: "), "{unknown}");
    }

    #[test]
    fn what_is_wrong_with_a_given_cluster_is_told_by_its_part() {
        let cases = [
            (
                "nl=rgw:http://a",
                "nl=rgw:http://a: CODE: \"nl\" is not 1 to 16",
            ),
            ("NL", "NL: PROVIDER: \"\" is none of rgw, garage"),
            (
                "NL=tape:http://a",
                "NL: PROVIDER: \"tape\" is none of rgw, garage",
            ),
            (
                "NL=rgw:localhost",
                "NL: ADMIN_URL: \"localhost\" is not a URL",
            ),
            ("NL=rgw:http://u:pw@a", "NL: ADMIN_URL: it has credentials"),
            ("NL=rgw:http://a,b", "NL: S3_URL: \"b\" is not a URL"),
            (
                "DE=garage:http://a",
                "DE: S3_URL: a garage has its administration",
            ),
            ("DE=garage:http://a,http://b,", "DE: REGION: is empty"),
            (
                "NL=rgw:http://a",
                "NL: credentials: set WHARFAGE_NL_ACCESS_KEY",
            ),
            (
                "NL=garage:http://a,http://b",
                "NL: credentials: set WHARFAGE_NL_TOKEN",
            ),
        ];
        for (text, wanted) in cases {
            let problem = parse(text).expect_err(text);
            assert!(problem.starts_with(wanted), "{text}: {problem}");
            assert!(
                !problem.contains('\n') && !problem.contains("pw"),
                "{problem}"
            );
        }
    }
}
