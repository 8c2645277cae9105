//! One binary of tests: a file per action, per job and per property.

mod create_order;
