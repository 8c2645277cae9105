//! The rules: what an account, a plan, an order, an amount of money is, and what may happen to it.
//!
//! Pure: functions here take times, identifiers and figures; they read no clock and make no call.

pub mod account;
pub mod allowance;
pub mod billing;
pub mod bucket_name;
pub mod client;
pub mod closing;
pub mod credential;
pub mod dunning;
pub mod event;
pub mod figures;
pub mod history;
mod identifier;
pub mod invoice;
pub mod ledger;
pub mod money;
pub mod order;
pub mod period;
pub mod plan;
pub mod plan_change;
pub mod quota;
pub mod rating;
pub mod reason;
pub mod recount;
pub mod settling;
pub mod task;
pub mod usage;
