//! `get_buckets`.
