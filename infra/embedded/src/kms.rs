//! A small KMS: one AES-256-GCM key behind the service's JSON protocol.
//!
//! Any `KeyId` is accepted and names the same key, since there is one key only; answers carry its ARN.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::door::{self, Credentials, Door};
use crate::random::random_id;
use crate::server::{self, Server};

const KEY_ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-4000-8000-000000000001";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const BLOB_VERSION: u8 = 1;
/// What the real service takes at most.
const PLAINTEXT_MAX_BYTES: usize = 4096;
const REQUEST_MAX_BYTES: usize = 256 * 1024;

/// Starts KMS on `listen`, with the 32-byte key in `key_file`, or a random one that dies with it, for who signs with
/// `credentials`.
///
/// An absent file is made, with mode 0600.
///
/// # Errors
/// When the address cannot be bound, the file cannot be read or made, its mode lets others read
/// it, or its size is wrong.
pub fn start(
    listen: SocketAddr,
    credentials: &Credentials,
    key_file: Option<PathBuf>,
) -> io::Result<Server> {
    let key = match key_file {
        Some(path) => key_from(&path)?,
        None => Aes256Gcm::generate_key(OsRng).into(),
    };
    let kms = Kms(Arc::new(Aes256Gcm::new(&key.into())));
    let (listener, address) = server::bind(listen)?;
    let door = Door::new("kms", REQUEST_MAX_BYTES, credentials);
    let serving = door::serve(listener, door, move |request| {
        std::future::ready(kms.answer(&request))
    });
    Ok(Server::spawn(address, serving))
}

fn key_from(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if !path.try_exists()? {
        create_key(path)?;
    }
    let refused = |why: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the key file {} {why}", path.display()),
        )
    };
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(refused(format!(
            "has mode {mode:04o}, so others can reach it: it must be 0600"
        )));
    }
    let bytes = fs::read(path)?;
    let size_bytes = bytes.len();
    bytes
        .try_into()
        .map_err(|_| refused(format!("has {size_bytes} bytes instead of {KEY_BYTES}")))
}

/// Written under another name and linked when complete: a crash leaves no half a key, and of two
/// processes starting at once one key wins for both.
fn create_key(path: &Path) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", random_id()));
    let draft = PathBuf::from(draft);
    let key = Aes256Gcm::generate_key(OsRng);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(&key)?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&draft);
    made.and(removed)
}

#[derive(Clone)]
struct Kms(Arc<Aes256Gcm>);

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kms")
    }
}

struct Refusal(StatusCode, &'static str, &'static str);

const INVALID_CIPHERTEXT: Refusal = Refusal(
    StatusCode::BAD_REQUEST,
    "InvalidCiphertextException",
    "The ciphertext or its encryption context is not what was encrypted.",
);

fn invalid(message: &'static str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "ValidationException", message)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptRequest {
    plaintext: String,
    #[serde(default)]
    encryption_context: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DecryptRequest {
    ciphertext_blob: String,
    #[serde(default)]
    encryption_context: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DataKeyRequest {
    key_spec: Option<String>,
    number_of_bytes: Option<usize>,
    #[serde(default)]
    encryption_context: BTreeMap<String, String>,
}

impl Kms {
    fn answer(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        let (status, kind, body) = match self.perform(request) {
            Ok(body) => (StatusCode::OK, None, body),
            Err(Refusal(status, kind, message)) => (
                status,
                Some(kind),
                json!({"__type": kind, "message": message}),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/x-amz-json-1.1"),
        );
        if let Some(kind) = kind {
            headers.insert("x-amzn-errortype", http::HeaderValue::from_static(kind));
        }
        response
    }

    fn perform(&self, request: &Request<Bytes>) -> Result<Value, Refusal> {
        let unknown = Refusal(
            StatusCode::BAD_REQUEST,
            "UnknownOperationException",
            "This operation is not offered.",
        );
        if request.method() != Method::POST {
            return Err(unknown);
        }
        let target = request
            .headers()
            .get("x-amz-target")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("TrentService."))
            .unwrap_or_default();
        let body = request.body();
        match target {
            "Encrypt" => self.encrypt(&parse(body)?),
            "Decrypt" => self.decrypt(&parse(body)?),
            "GenerateDataKey" => self.generate_data_key(&parse(body)?),
            "DescribeKey" => Ok(describe_key()),
            _ => Err(unknown),
        }
    }

    fn encrypt(&self, request: &EncryptRequest) -> Result<Value, Refusal> {
        let plaintext = STANDARD
            .decode(&request.plaintext)
            .map_err(|_| invalid("Plaintext is not base64."))?;
        if plaintext.is_empty() || plaintext.len() > PLAINTEXT_MAX_BYTES {
            return Err(invalid("Plaintext must have 1 to 4096 bytes."));
        }
        let blob = self.seal(&plaintext, &request.encryption_context)?;
        Ok(json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "KeyId": KEY_ARN,
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }))
    }

    fn decrypt(&self, request: &DecryptRequest) -> Result<Value, Refusal> {
        let blob = STANDARD
            .decode(&request.ciphertext_blob)
            .map_err(|_| INVALID_CIPHERTEXT)?;
        let (&version, rest) = blob.split_first().ok_or(INVALID_CIPHERTEXT)?;
        let (nonce, sealed) = rest
            .split_at_checked(NONCE_BYTES)
            .ok_or(INVALID_CIPHERTEXT)?;
        if version != BLOB_VERSION {
            return Err(INVALID_CIPHERTEXT);
        }
        let aad = canonical(&request.encryption_context);
        let payload = Payload {
            msg: sealed,
            aad: &aad,
        };
        let plaintext = self
            .0
            .decrypt(Nonce::from_slice(nonce), payload)
            .map_err(|_| INVALID_CIPHERTEXT)?;
        Ok(json!({
            "KeyId": KEY_ARN,
            "Plaintext": STANDARD.encode(plaintext),
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }))
    }

    fn generate_data_key(&self, request: &DataKeyRequest) -> Result<Value, Refusal> {
        let size_bytes = match (request.key_spec.as_deref(), request.number_of_bytes) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(size_bytes @ 1..=1024)) => size_bytes,
            _ => {
                return Err(invalid(
                    "Give either KeySpec (AES_256, AES_128) or NumberOfBytes (1 to 1024).",
                ));
            }
        };
        let mut plaintext = vec![0; size_bytes];
        aes_gcm::aead::rand_core::RngCore::fill_bytes(&mut OsRng, &mut plaintext);
        let blob = self.seal(&plaintext, &request.encryption_context)?;
        Ok(json!({
            "CiphertextBlob": STANDARD.encode(blob),
            "Plaintext": STANDARD.encode(plaintext),
            "KeyId": KEY_ARN,
        }))
    }

    /// Version byte, nonce, ciphertext and tag.
    fn seal(
        &self,
        plaintext: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, Refusal> {
        let nonce = Aes256Gcm::generate_nonce(&mut OsRng);
        let aad = canonical(context);
        let payload = Payload {
            msg: plaintext,
            aad: &aad,
        };
        let sealed = self
            .0
            .encrypt(&nonce, payload)
            .map_err(|_| invalid("Plaintext could not be encrypted."))?;
        Ok([&[BLOB_VERSION], nonce.as_slice(), &sealed].concat())
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // The parser's own message could quote a plaintext, so it is not passed on.
    serde_json::from_slice(body).map_err(|_| {
        Refusal(
            StatusCode::BAD_REQUEST,
            "SerializationException",
            "The request is not the JSON of this operation.",
        )
    })
}

/// The context as bytes that no other context yields: sorted by name, every text preceded by its length.
fn canonical(context: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = vec![BLOB_VERSION];
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn describe_key() -> Value {
    json!({"KeyMetadata": {
        "KeyId": KEY_ARN.rsplit('/').next(),
        "Arn": KEY_ARN,
        "AWSAccountId": "000000000000",
        "Enabled": true,
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "KeyManager": "CUSTOMER",
        "Origin": "AWS_KMS",
        "MultiRegion": false,
        "Description": "The key of the embedded KMS",
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_that_concatenate_alike_differ() {
        let context = |pairs: &[(&str, &str)]| {
            canonical(
                &pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            )
        };
        assert_ne!(context(&[("ab", "c")]), context(&[("a", "bc")]));
        assert_ne!(context(&[("a", "b"), ("c", "d")]), context(&[("a", "bcd")]));
        assert_eq!(
            context(&[("a", "b"), ("c", "d")]),
            context(&[("c", "d"), ("a", "b")])
        );
    }
}
