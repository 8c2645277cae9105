//! Where randomness comes from: identifiers, keys and tokens. The only file that uses a generator.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LETTERS_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LOWER_AND_DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A cryptographically secure generator, seeded by the operating system, or by a test.
pub struct Random(Mutex<StdRng>);

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    /// Seeded by the operating system.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where randomness enters"
    )]
    pub fn from_os() -> Random {
        Random(Mutex::new(rand::make_rng()))
    }

    /// Repeatable, for tests.
    #[must_use]
    pub fn from_seed(seed: u64) -> Random {
        Random(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    fn pick(&self, alphabet: &[u8], length: usize) -> String {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (0..length)
            .map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())]))
            .collect()
    }

    /// 32 characters of `A-Za-z0-9`: the name of an account (190 bits).
    #[must_use]
    pub fn s3uid(&self) -> String {
        self.pick(LETTERS_AND_DIGITS, 32)
    }

    /// An S3 access key id: 20 characters of `A-Z0-9`, beginning with `WH`.
    #[must_use]
    pub fn access_key(&self) -> String {
        format!("WH{}", self.pick(UPPER_AND_DIGITS, 18))
    }

    /// An S3 secret key: 40 characters of `A-Za-z0-9` (238 bits).
    #[must_use]
    pub fn secret_key(&self) -> String {
        self.pick(LETTERS_AND_DIGITS, 40)
    }

    /// A session token: 32 hexadecimal characters (128 bits).
    #[must_use]
    pub fn token(&self) -> String {
        self.pick(b"0123456789abcdef", 32)
    }

    /// A callback key: 32 characters of `a-z0-9`.
    #[must_use]
    pub fn callback_key(&self) -> String {
        self.pick(LOWER_AND_DIGITS, 32)
    }

    /// An identifier for orders and entries: 20 characters of `a-z0-9` (103 bits).
    #[must_use]
    pub fn id(&self) -> String {
        self.pick(LOWER_AND_DIGITS, 20)
    }
}
