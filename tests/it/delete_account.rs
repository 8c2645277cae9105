//! `delete_account`.
