//! The Lambda entry.
fn main() -> Result<(), wharfage::runtime::Stop> {
    wharfage::runtime::run(&functions::create_plan::FUNCTION)
}
