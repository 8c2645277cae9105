//! `get_users`.
