//! `delete_bucket`.
