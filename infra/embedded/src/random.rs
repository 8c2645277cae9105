//! The crate's only randomness besides keys and nonces: ids that must not collide.

/// 128 bits as hexadecimal.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the embedded services' one place for it, and they depend on nothing of wharfage's"
)]
pub(crate) fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
