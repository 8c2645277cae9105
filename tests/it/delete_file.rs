//! `delete_file`.
