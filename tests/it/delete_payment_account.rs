//! `delete_payment_account`.
