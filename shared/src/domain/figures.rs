//! Units of the figures on the wire.

/// `gb` on the wire: 2^30 bytes. The reference's own figures say so: 1,610,612,736 bytes are its 1.5.
pub const GB_BYTES: u64 = 1 << 30;

/// Bytes in units of 2^30. Exact below 2^53 bytes (8 PiB), since dividing by a power of two only moves the binary point.
#[must_use]
pub fn gb(bytes: u64) -> f64 {
    bytes as f64 / GB_BYTES as f64
}

/// Whole numbers beyond 64 bits, kept as text: neither JSON's numbers nor all of serde's data model hold them.
pub mod text {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As decimal digits.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    /// From decimal digits.
    ///
    /// # Errors
    /// When it is not a number of 128 bits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_s_figures_agree() {
        assert_eq!(gb(1_610_612_736), 1.5);
        assert_eq!(gb(1), 2f64.powi(-30));
    }
}
