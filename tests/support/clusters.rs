//! The clusters that the tests of every kind of cluster run on, and what of the real ones cannot be seen through the product.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use local::GivenCluster;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use wharfage::cluster::{Keys, StorageProvider};
use wharfage::config::Provider;
use wharfage::domain::account::S3Uid;
use wharfage::domain::bucket_name::BucketName;
use wharfage::random::Random;

use crate::TestApp;

/// A Ceph RGW, as `tests/clusters/start-rgw` describes it in the line it prints.
#[derive(Debug, Deserialize)]
pub struct Rgw {
    /// Where it listens.
    pub endpoint: String,
    /// The administrator's access key.
    pub access_key: String,
    /// The administrator's secret key.
    pub secret_key: String,
    /// Where its data and its `ceph.conf` are.
    pub dir: String,
    /// Whether it was started here, and goes with this.
    #[serde(skip)]
    is_own: bool,
}

impl Drop for Rgw {
    fn drop(&mut self) {
        if self.is_own {
            script("stop-rgw", &[&self.dir]);
            // Of a test that failed, the data are kept.
            if !std::thread::panicking() {
                std::fs::remove_dir_all(&self.dir).expect("its data are removed");
            }
        }
    }
}

impl Rgw {
    /// The one that `WHARFAGE_TEST_RGW` describes.
    ///
    /// # Panics
    /// When it describes none.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the tests learn of it"
    )]
    pub fn from_env() -> Rgw {
        let line = std::env::var("WHARFAGE_TEST_RGW")
            .expect("WHARFAGE_TEST_RGW is the line that tests/clusters/start-rgw prints");
        serde_json::from_str(&line).expect("WHARFAGE_TEST_RGW is one line of JSON")
    }

    /// Starts one in a new directory. It is stopped when this is dropped.
    pub fn start() -> Rgw {
        let mut rgw = Rgw::from_line(&script("start-rgw", &[]));
        rgw.is_own = true;
        rgw
    }

    /// Stops the gateway, and leaves the rest of the cluster running.
    pub fn stop_gateway(&self) {
        script("stop-rgw", &["--gateway", &self.dir]);
    }

    /// Starts again what was stopped.
    pub fn start_again(&self) {
        let again = Rgw::from_line(&script("start-rgw", &["--dir", &self.dir]));
        assert_eq!(again.endpoint, self.endpoint);
    }

    fn from_line(line: &str) -> Rgw {
        serde_json::from_str(line).expect("start-rgw prints one line of JSON")
    }

    /// As the location `NL`.
    pub fn given(&self) -> GivenCluster {
        let secret = json!({ "access_key": self.access_key, "secret_key": self.secret_key });
        GivenCluster {
            code: "NL".into(),
            provider: Provider::Rgw,
            admin_endpoint: self.endpoint.clone(),
            plain_http: false,
            s3_endpoint: self.endpoint.clone(),
            s3_region: "us-east-1".into(),
            secret: secret.to_string().into(),
        }
    }

    /// A system in the present with this cluster as its location `NL`; idle, or working by itself.
    pub async fn app(&self, parameters: &[(&str, &str)], background: bool) -> TestApp {
        TestApp::with(parameters)
            .over(self.given())
            .background(background)
            .start()
            .await
    }

    /// What Ceph's own tool says; nothing when it fails, as it does on what is not there.
    pub fn tool(&self, arguments: &[&str]) -> Option<Value> {
        let output = Command::new("radosgw-admin")
            .args(["-c", &format!("{}/ceph.conf", self.dir), "-n", "client.rgw"])
            .args(arguments)
            .output()
            .expect("radosgw-admin can be run");
        let is_silent = output.stdout.is_empty();
        output.status.success().then(|| match is_silent {
            true => Value::Null,
            false => serde_json::from_slice(&output.stdout).expect("it answers in JSON"),
        })
    }

    /// The names of objects in one of the cluster's pools.
    pub fn pool(&self, pool: &str) -> BTreeSet<String> {
        let output = Command::new("rados")
            .args(["-c", &format!("{}/ceph.conf", self.dir), "-n", "client.rgw"])
            .args(["-p", pool, "--all", "ls"])
            .output()
            .expect("rados can be run");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let names = String::from_utf8_lossy(&output.stdout);
        names.lines().map(str::to_owned).collect()
    }
}

/// A Garage, as `tests/clusters/start-garage` describes it in the line it prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Garage {
    /// Where it is administered.
    pub admin_endpoint: String,
    /// Where its S3 is.
    pub s3_endpoint: String,
    /// The region it answers for.
    pub s3_region: String,
    /// The token of its administration.
    pub token: String,
}

impl Garage {
    /// The one that `WHARFAGE_TEST_GARAGE` describes.
    ///
    /// # Panics
    /// When it describes none.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the tests learn of it"
    )]
    pub fn from_env() -> Garage {
        let line = std::env::var("WHARFAGE_TEST_GARAGE")
            .expect("WHARFAGE_TEST_GARAGE is the line that tests/clusters/start-garage prints");
        serde_json::from_str(&line).expect("WHARFAGE_TEST_GARAGE is one line of JSON")
    }

    /// As the location `NL`.
    pub fn given(&self) -> GivenCluster {
        GivenCluster {
            code: "NL".into(),
            provider: Provider::Garage,
            admin_endpoint: self.admin_endpoint.clone(),
            plain_http: false,
            s3_endpoint: self.s3_endpoint.clone(),
            s3_region: self.s3_region.clone(),
            secret: json!({ "token": self.token }).to_string().into(),
        }
    }

    /// A system in the present with this cluster as its location `NL`; idle, or working by itself.
    pub async fn app(&self, parameters: &[(&str, &str)], background: bool) -> TestApp {
        TestApp::with(parameters)
            .over(self.given())
            .background(background)
            .start()
            .await
    }
}

fn script(name: &str, arguments: &[&str]) -> String {
    let path = format!("{}/clusters/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(path)
        .args(arguments)
        .output()
        .expect("the script can be run");
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The codes that a kind of cluster's S3 refuses with.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// An upload above the account's limit.
    pub full: &'static str,
    /// A suspended account.
    pub suspended: &'static str,
    /// A key that nobody has.
    pub no_key: &'static str,
}

/// A cluster of some kind, at location `NL` of a system of its own. The cluster itself may be others' too.
pub struct Subject {
    /// The system.
    pub app: TestApp,
    /// Whether it tells the bytes of old versions and unfinished uploads apart.
    pub tells_bytes_apart: bool,
    /// Whether an account's limit holds over all of its buckets at every instant.
    pub keeps_limits_at_once: bool,
    /// Whether an account and keys that were removed can be made again.
    pub takes_names_again: bool,
    /// The codes that S3 refuses with.
    pub words: Words,
    /// In the names of this test's users and buckets.
    run: String,
}

impl Subject {
    /// The local runner's own.
    pub async fn embedded() -> Subject {
        let app = TestApp::start_idle(&[]).await;
        Subject::new(app)
    }

    /// A Ceph RGW.
    pub async fn rgw() -> Subject {
        let app = Rgw::from_env().app(&[], false).await;
        Subject {
            tells_bytes_apart: false,
            ..Subject::new(app)
        }
    }

    /// A Garage.
    pub async fn garage() -> Subject {
        let app = Garage::from_env().app(&[], false).await;
        Subject {
            keeps_limits_at_once: false,
            takes_names_again: false,
            words: Words {
                full: "AccessDenied",
                suspended: "AccessDenied",
                no_key: "AccessDenied",
            },
            ..Subject::new(app)
        }
    }

    fn new(app: TestApp) -> Subject {
        let run = Random::from_os().access_key().to_lowercase();
        Subject {
            app,
            tells_bytes_apart: true,
            keeps_limits_at_once: true,
            takes_names_again: true,
            words: Words {
                full: "QuotaExceeded",
                suspended: "UserSuspended",
                no_key: "InvalidAccessKeyId",
            },
            run,
        }
    }

    /// Its administration.
    pub fn provider(&self) -> &dyn StorageProvider {
        let cluster = self.app.context().clusters.get("NL").expect("NL");
        cluster.provider.as_ref()
    }

    /// The administration of a cluster of this kind at another address.
    pub fn provider_at(&self, endpoint: &str) -> Arc<dyn StorageProvider> {
        let mut locations: Value =
            serde_json::from_str(&self.app.stack.environment()["LOCATIONS"]).expect("a list");
        for location in locations.as_array_mut().expect("a list") {
            if location["code"] == "NL" {
                location["admin_endpoint"] = endpoint.into();
                location["s3_endpoint"] = endpoint.into();
            }
        }
        let changes = [("LOCATIONS", locations.to_string())];
        let context = self.app.context_with(&changes);
        Arc::clone(&context.clusters.get("NL").expect("NL").provider)
    }

    /// A bucket's name that is nobody's yet.
    pub fn bucket_name(&self, name: &str) -> BucketName {
        self.name(name).into()
    }

    /// A name that nobody else has, for a user or a bucket.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    /// Makes a user of this name with keys of its own.
    pub async fn user(&self, name: &str, storage_limit_bytes: Option<u64>) -> (S3Uid, Keys) {
        let (s3uid, keys) = (S3Uid(self.name(name)), new_keys());
        self.provider()
            .create_user(&s3uid, &keys, storage_limit_bytes)
            .await
            .expect("the user is made");
        (s3uid, keys)
    }

    /// S3 with these keys.
    pub fn s3(&self, keys: &Keys) -> aws_sdk_s3::Client {
        use secrecy::ExposeSecret;
        self.app
            .s3_with("NL", &keys.access_key, keys.secret_key.expose_secret())
    }
}

/// Keys that nobody has.
pub fn new_keys() -> Keys {
    let random = Random::from_os();
    Keys {
        access_key: random.access_key(),
        secret_key: SecretString::from(random.secret_key()),
    }
}

/// The code that S3 refused with; fails the test when it did not.
#[track_caller]
pub fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E>>,
) -> String {
    let error = result.expect_err("S3 refuses");
    error.code().unwrap_or("none").to_owned()
}
