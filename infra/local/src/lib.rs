//! Runs `infra/template.yaml` on this machine, in one process or each function in processes of its own: its routes, queues,
//! schedules and tables, over embedded services on loopback, with two S3 clusters and a clock that can be moved.
//!
//! The template is the only wiring. A route that is missing there is missing here, and what the runner does not
//! understand in it keeps it from starting.

#![cfg_attr(
    test,
    allow(clippy::panic, reason = "a test that cannot go on fails by panicking")
)]

mod addresses;
mod ahead;
mod buckets;
mod client;
pub mod clock;
mod clusters;
mod data;
pub mod demo;
mod ending;
mod engine;
mod error;
pub mod events;
mod front;
mod gateway;
mod guard;
mod invoke;
mod options;
pub mod processes;
mod queues;
mod runner;
mod schedule;
mod seed;
mod stack;
mod tables;
mod template;
mod wiring;

pub use addresses::Listen;
pub use ahead::describe as clock_told;
pub use clusters::{GivenCluster, LocalCluster};
pub use data::Data;
pub use engine::{Advanced, Run};
pub use error::Error;
pub use gateway::SourceIp;
pub use options::{AdjustEnvironment, Options};
pub use queues::Drained;
pub use seed::Seeded;
pub use stack::Stack;
