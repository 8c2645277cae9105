//! `get_buckets_rmq`.
