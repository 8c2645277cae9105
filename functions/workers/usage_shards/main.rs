//! The Lambda entry.
fn main() -> Result<(), wharfage::runtime::Stop> {
    wharfage::runtime::run(&functions::workers::usage_shards::FUNCTION)
}
