//! `history`.
