//! Secret keys at rest: under a KMS key, with the account as encryption context, so that one account's ciphertext is of no use in
//! another's place.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::account::S3Uid;
use crate::error::{Fault, without_answer};
use crate::outside::{OnFirstUse, Outside};

/// The name of the encryption context's one entry.
const CONTEXT: &str = "s3uid";

/// KMS, with the key that secret keys are kept under.
#[derive(Debug, Clone)]
pub struct Vault {
    client: OnFirstUse<Client>,
    key_id: String,
}

impl Vault {
    pub(crate) fn new(outside: &Outside<'_>) -> Vault {
        let sdk = outside.aws(outside.config.endpoints.kms.as_ref());
        Vault {
            client: OnFirstUse::new(move || Client::new(&sdk)),
            key_id: outside.config.kms_key_id.clone(),
        }
    }

    /// Encrypts an account's secret key; the result is base64.
    ///
    /// # Errors
    /// When KMS cannot answer.
    pub async fn encrypt(&self, s3uid: &S3Uid, secret: &SecretString) -> Result<String, Fault> {
        let answer = self
            .client
            .encrypt()
            .key_id(&self.key_id)
            .encryption_context(CONTEXT, s3uid.as_str())
            .plaintext(Blob::new(secret.expose_secret().as_bytes()))
            .send()
            .await
            .map_err(|e| Fault::retryable("KMS Encrypt", without_answer(&e)))?;
        let ciphertext = answer
            .ciphertext_blob
            .ok_or_else(|| Fault::permanent("KMS Encrypt", "it answered without a ciphertext"))?;
        Ok(STANDARD.encode(ciphertext))
    }

    /// Decrypts an account's secret key.
    ///
    /// # Errors
    /// When KMS cannot answer, or the ciphertext is not this account's.
    pub async fn decrypt(&self, s3uid: &S3Uid, ciphertext: &str) -> Result<SecretString, Fault> {
        let blob = STANDARD
            .decode(ciphertext)
            .map_err(|e| Fault::permanent("reading a ciphertext", e))?;
        let answer = self
            .client
            .decrypt()
            .key_id(&self.key_id)
            .encryption_context(CONTEXT, s3uid.as_str())
            .ciphertext_blob(Blob::new(blob))
            .send()
            .await
            .map_err(|e| Fault::retryable("KMS Decrypt", without_answer(&e)))?;
        let plaintext = answer
            .plaintext
            .ok_or_else(|| Fault::permanent("KMS Decrypt", "it answered without a plaintext"))?;
        String::from_utf8(plaintext.into_inner())
            .map(SecretString::from)
            .map_err(|_| Fault::permanent("KMS Decrypt", "the plaintext is not text"))
    }
}
