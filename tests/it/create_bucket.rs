//! `create_bucket`.
