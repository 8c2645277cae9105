//! The Lambda entry.
fn main() -> Result<(), wharfage::runtime::Stop> {
    wharfage::runtime::run(&functions::revoke_api_key::FUNCTION)
}
