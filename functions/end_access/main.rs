//! The Lambda entry.
fn main() -> Result<(), wharfage::runtime::Stop> {
    wharfage::runtime::run(&functions::end_access::FUNCTION)
}
