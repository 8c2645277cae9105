//! A cluster of one's own, with a clock, accounts and the admin API.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::Builder;
use embedded::Now;
use embedded::s3::{Cluster, ClusterOptions};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const TOKEN: &str = "a token for the tests";

pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[derive(Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn at(text: &str) -> Self {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Self(Arc::new(AtomicI64::new(moment.as_second())))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn now(&self) -> Now {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || jiff::Timestamp::from_second(seconds.load(Ordering::Relaxed)).unwrap())
    }
}

pub struct Lab {
    cluster: Option<Cluster>,
    pub clock: Clock,
    folder: TempDir,
}

impl Lab {
    pub fn start() -> Self {
        let mut lab = Self {
            cluster: None,
            clock: Clock::at("2026-11-22T13:20:00Z"),
            folder: TempDir::new().unwrap(),
        };
        lab.restart();
        lab
    }

    pub fn restart(&mut self) {
        self.try_restart().unwrap();
    }

    pub fn stop(&mut self) {
        self.cluster = None;
    }

    pub fn try_restart(&mut self) -> std::io::Result<()> {
        self.stop();
        let options = ClusterOptions {
            listen: any_port(),
            data_dir: self.data_dir().to_owned(),
            region: "us-east-1".to_owned(),
            admin_token: TOKEN.to_owned(),
            now: self.clock.now(),
            ephemeral: true,
        };
        self.cluster = Some(Cluster::start(options)?);
        Ok(())
    }

    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().unwrap()
    }

    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// How many body files there are.
    pub fn files(&self) -> usize {
        let mut files = 0;
        for shard in std::fs::read_dir(self.data_dir().join("blobs")).unwrap() {
            files += std::fs::read_dir(shard.unwrap().path()).unwrap().count();
        }
        files
            + std::fs::read_dir(self.data_dir().join("staging"))
                .unwrap()
                .count()
    }

    pub async fn admin(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/_admin/v1/{path}"))
            .header("host", "cluster")
            .header("authorization", format!("Bearer {TOKEN}"));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = send(
            self.cluster().endpoint(),
            request.body(Full::from(body)).unwrap(),
        )
        .await;
        (
            response.status().as_u16(),
            serde_json::from_slice(response.body()).unwrap_or_default(),
        )
    }

    pub async fn quota(&self, uid: &str, quota_bytes: Value) {
        let (status, _) = self
            .admin(
                "PATCH",
                &format!("users/{uid}"),
                json!({"quota_bytes": quota_bytes}),
            )
            .await;
        assert_eq!(status, 200);
    }

    pub async fn bucket_figures(&self, bucket: &str) -> Value {
        self.admin("GET", &format!("buckets/{bucket}"), Value::Null)
            .await
            .1
    }

    /// Makes the account `uid` and gives a client with its keys.
    pub async fn user(&self, uid: &str) -> Client {
        let (access_key, secret_key) = keys(uid);
        let (status, body) = self
            .admin(
                "PUT",
                &format!("users/{uid}"),
                json!({"display_name": uid, "access_key": access_key, "secret_key": secret_key, "quota_bytes": null}),
            )
            .await;
        assert_eq!(status, 200, "{body}");
        self.client(&access_key, &secret_key)
    }

    /// [`Lab::user`] with a bucket.
    pub async fn user_with(&self, uid: &str, bucket: &str) -> Client {
        let client = self.user(uid).await;
        client.create_bucket().bucket(bucket).send().await.unwrap();
        client
    }

    pub fn client_of(&self, uid: &str) -> Client {
        let (access_key, secret_key) = keys(uid);
        self.client(&access_key, &secret_key)
    }

    pub fn client(&self, access_key: &str, secret_key: &str) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(self.cluster().endpoint())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
            .http_client(Builder::new().build_http())
            .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
            .force_path_style(true)
            .build();
        Client::from_conf(config)
    }
}

pub fn keys(uid: &str) -> (String, String) {
    (format!("AK{uid}"), format!("secret/of+{uid}"))
}

pub async fn send(endpoint: &str, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let address = endpoint.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    Response::from_parts(parts, body)
}

pub fn body(bytes: impl Into<Vec<u8>>) -> ByteStream {
    ByteStream::from(bytes.into())
}

pub async fn put(client: &Client, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) {
    client
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(body(bytes))
        .send()
        .await
        .unwrap();
}

pub async fn read(client: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let output = client
        .get_object()
        .bucket(bucket)
        .key(key)
        .send()
        .await
        .unwrap();
    output.body.collect().await.unwrap().to_vec()
}

/// The status and code of a refusal.
pub fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E>>,
) -> (u16, String) {
    let error = result.unwrap_err();
    let status = error
        .raw_response()
        .unwrap_or_else(|| panic!("no answer: {error:?}"))
        .status()
        .as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}

pub fn error(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Bytes that tell when they are in the wrong place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}
