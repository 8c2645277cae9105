//! `get_files`.
