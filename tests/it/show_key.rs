//! `show_key`.
