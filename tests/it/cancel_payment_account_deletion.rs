//! `cancel_payment_account_deletion`.
