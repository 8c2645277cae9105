//! `s3_php`.
