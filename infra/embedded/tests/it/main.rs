//! The embedded services as their clients see them.

mod access;
mod admin;
mod characters;
mod checksums;
mod connections;
mod cors;
mod door;
mod durability;
mod forms;
mod listing;
mod multipart;
mod objects;
mod raw;
mod services;
mod signing;
mod support;
mod usage;
mod versions;
