//! A small Secrets Manager: it serves the secrets it was started with.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::door::{self, Credentials, Door};
use crate::random::random_id;
use crate::server::{self, Server};

const REQUEST_MAX_BYTES: usize = 16 * 1024;
const ARN_PREFIX: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:";
/// What the real service puts behind a name in an ARN.
const ARN_SUFFIX: &str = "-local1";

/// A running Secrets Manager; it stops when it is dropped.
pub struct SecretsManager {
    secrets: Secrets,
    server: Server,
}

#[derive(Clone, Default)]
struct Secrets(Arc<Mutex<BTreeMap<String, Version>>>);

#[derive(Clone)]
struct Version {
    id: String,
    text: String,
}

/// Starts Secrets Manager on `listen`, with no secrets, for who signs with `credentials`.
///
/// # Errors
/// When the address cannot be bound.
pub fn start(listen: SocketAddr, credentials: &Credentials) -> io::Result<SecretsManager> {
    let secrets = Secrets::default();
    let (listener, address) = server::bind(listen)?;
    let served = secrets.clone();
    let door = Door::new("secretsmanager", REQUEST_MAX_BYTES, credentials);
    let serving = door::serve(listener, door, move |request| {
        std::future::ready(served.answer(&request))
    });
    let server = Server::spawn(address, serving);
    Ok(SecretsManager { secrets, server })
}

impl SecretsManager {
    /// Its endpoint, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// Sets a secret, as a new version where there is one.
    pub fn put(&self, name: &str, text: impl Into<String>) {
        let version = Version {
            id: random_id(),
            text: text.into(),
        };
        self.secrets.lock().insert(name.to_owned(), version);
    }

    /// Removes a secret.
    pub fn remove(&self, name: &str) {
        self.secrets.lock().remove(name);
    }
}

impl fmt::Debug for SecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManager")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
}

impl Secrets {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Version>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let target = request
            .headers()
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok());
        if target != Some("secretsmanager.GetSecretValue") {
            return refuse(
                "UnknownOperationException",
                "only GetSecretValue is known here",
            );
        }
        match serde_json::from_slice(request.body()) {
            Ok(asked) => self.get_secret_value(&asked),
            Err(error) => refuse("SerializationException", &error.to_string()),
        }
    }

    fn get_secret_value(&self, asked: &GetSecretValue) -> Response<Full<Bytes>> {
        let name = asked
            .secret_id
            .strip_prefix(ARN_PREFIX)
            .map_or(asked.secret_id.as_str(), |name| {
                name.strip_suffix(ARN_SUFFIX).unwrap_or(name)
            });
        let Some(version) = self.lock().get(name).cloned() else {
            return refuse(
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret.",
            );
        };
        respond(
            StatusCode::OK,
            &json!({
                "ARN": format!("{ARN_PREFIX}{name}{ARN_SUFFIX}"),
                "Name": name,
                "SecretString": version.text,
                "VersionId": version.id,
                "VersionStages": ["AWSCURRENT"],
            }),
        )
    }
}

fn refuse(code: &str, message: &str) -> Response<Full<Bytes>> {
    respond(
        StatusCode::BAD_REQUEST,
        &json!({ "__type": code, "message": message }),
    )
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    response
}
