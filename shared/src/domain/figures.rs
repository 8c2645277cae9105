//! Units of the figures on the wire.

/// `gb` on the wire: 2^30 bytes. The reference's own figures say so: 1,610,612,736 bytes are its 1.5.
pub const GB_BYTES: u64 = 1 << 30;

/// Bytes in units of 2^30. Exact below 2^53 bytes (8 PiB), since dividing by a power of two only moves the binary point.
#[must_use]
pub fn gb(bytes: u64) -> f64 {
    bytes as f64 / GB_BYTES as f64
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
