//! Wharfage: the control plane a hosting company puts in front of its S3 clusters.
//!
//! Dependencies point inward: [`http`], [`database`], [`cluster`], [`queue`] and [`vault`] may use [`domain`]; [`domain`] uses none of
//! them, reads no clock and makes no call.

pub mod bus;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connectors;
pub mod context;
pub mod database;
pub mod domain;
pub mod error;
pub mod http;
mod outside;
pub mod queue;
pub mod random;
pub mod runtime;
pub mod segments;
pub mod telemetry;
pub mod tries;
pub mod vault;
