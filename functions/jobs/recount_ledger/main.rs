//! The Lambda entry.
fn main() -> Result<(), wharfage::runtime::Stop> {
    wharfage::runtime::run(&functions::jobs::recount_ledger::FUNCTION)
}
