//! Runs `infra/template.yaml` on this machine, in one process: its routes, queues, schedules and tables, over embedded
//! services on loopback, with two S3 clusters and a clock that can be moved.
//!
//! The template is the only wiring. A route that is missing there is missing here, and what the runner does not
//! understand in it keeps it from starting.

#![cfg_attr(
    test,
    allow(clippy::panic, reason = "a test that cannot go on fails by panicking")
)]

mod buckets;
mod client;
pub mod clock;
mod data;
mod engine;
mod error;
mod events;
mod front;
mod gateway;
mod invoke;
mod options;
mod queues;
mod schedule;
mod seed;
mod stack;
mod tables;
mod template;
mod wiring;

pub use data::Data;
pub use engine::{Advanced, Run};
pub use error::Error;
pub use gateway::SourceIp;
pub use options::Options;
pub use queues::Drained;
pub use seed::Seeded;
pub use stack::{LocalCluster, Stack};
