//! One binary of tests: a file per action, per job and per property.

mod calls;
mod cleanup;
mod create_order;
mod flow;
mod isolation;
mod order_crashes;
mod races;
mod template;
