//! `auth_php`.
