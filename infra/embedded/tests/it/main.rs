//! The embedded services as their clients see them.

mod access;
mod admin;
mod cors;
mod durability;
mod forms;
mod listing;
mod multipart;
mod objects;
mod services;
mod support;
mod usage;
mod versions;
