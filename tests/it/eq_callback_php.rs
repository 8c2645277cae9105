//! `eq_callback_php`.
