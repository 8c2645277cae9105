//! The ledger: a double-entry journal in integer minor units.
//!
//! Each client has five ledger accounts per currency. Every posting moves amounts among them and sums to zero, so the five balances
//! of a client always sum to zero too. Corrections are new postings; balances can be rebuilt from the journal.
//!
//! | ledger account | holds | sign |
//! |---|---|---|
//! | `credit` | what the client has paid in and may spend | positive, never below zero |
//! | `held` | what is set aside for an order under way | positive, never below zero |
//! | `receivable` | what the client owes on open invoices | negative |
//! | `revenue` | what was invoiced | positive |
//! | `funding` | what came in from outside | negative |

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter};

use crate::domain::money::Currency;

/// One of a client's ledger accounts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LedgerAccount {
    /// What the client may spend.
    Credit,
    /// What is set aside.
    Held,
    /// What the client owes.
    Receivable,
    /// What was invoiced.
    Revenue,
    /// What came in from outside.
    Funding,
}

/// A journal entry: amounts that move among a client's ledger accounts, and sum to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Made from what caused it, so that the same cause cannot be posted twice.
    pub id: String,
    /// Whose.
    pub client_id: u64,
    /// In what.
    pub currency: Currency,
    /// When.
    pub at: Timestamp,
    /// Amounts by ledger account.
    pub amounts_minor: BTreeMap<LedgerAccount, i64>,
}

impl Posting {
    fn transfer(
        id: String,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
        from: LedgerAccount,
        to: LedgerAccount,
    ) -> Posting {
        Posting {
            id,
            client_id,
            currency,
            at,
            amounts_minor: BTreeMap::from([(from, -amount_minor), (to, amount_minor)]),
        }
    }

    /// Money comes in: `funding` → `credit`.
    #[must_use]
    pub fn top_up(
        id: &str,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("top_up:{id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Funding,
            LedgerAccount::Credit,
        )
    }

    /// An order sets its price aside: `credit` → `held`.
    #[must_use]
    pub fn hold(
        order_id: &str,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("hold:{order_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Credit,
            LedgerAccount::Held,
        )
    }

    /// An order that comes to nothing gives it back: `held` → `credit`.
    #[must_use]
    pub fn release(
        order_id: &str,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("release:{order_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Held,
            LedgerAccount::Credit,
        )
    }

    /// An order that is fulfilled is paid: `held` → `revenue`.
    #[must_use]
    pub fn capture(
        order_id: &str,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("capture:{order_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Held,
            LedgerAccount::Revenue,
        )
    }

    /// An invoice is paid from credit as it is issued: `credit` → `revenue`.
    #[must_use]
    pub fn pay(
        invoice_id: u64,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("pay:{invoice_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Credit,
            LedgerAccount::Revenue,
        )
    }

    /// An open invoice is paid from credit: `credit` → `receivable`.
    #[must_use]
    pub fn settle(
        invoice_id: u64,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("settle:{invoice_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Credit,
            LedgerAccount::Receivable,
        )
    }

    /// A credit note gives money back: `revenue` → `credit`.
    #[must_use]
    pub fn refund(
        invoice_id: u64,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("refund:{invoice_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Revenue,
            LedgerAccount::Credit,
        )
    }

    /// An invoice is left open: `receivable` → `revenue`.
    #[must_use]
    pub fn owe(
        invoice_id: u64,
        client_id: u64,
        currency: Currency,
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("owe:{invoice_id}");
        Posting::transfer(
            id,
            client_id,
            currency,
            at,
            amount_minor,
            LedgerAccount::Receivable,
            LedgerAccount::Revenue,
        )
    }
}

/// A client's balances in one currency: what its postings add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    /// See [`LedgerAccount::Credit`].
    #[serde(default)]
    pub credit_minor: i64,
    /// See [`LedgerAccount::Held`].
    #[serde(default)]
    pub held_minor: i64,
    /// See [`LedgerAccount::Receivable`].
    #[serde(default)]
    pub receivable_minor: i64,
    /// See [`LedgerAccount::Revenue`].
    #[serde(default)]
    pub revenue_minor: i64,
    /// See [`LedgerAccount::Funding`].
    #[serde(default)]
    pub funding_minor: i64,
    /// Invoices issued so far: the last one's place in the client's series.
    #[serde(default)]
    pub invoices: u64,
}

impl Balances {
    /// What one posting does to them.
    pub fn apply(&mut self, posting: &Posting) {
        for (ledger_account, amount_minor) in &posting.amounts_minor {
            *self.balance_mut(*ledger_account) += amount_minor;
        }
    }

    fn balance_mut(&mut self, ledger_account: LedgerAccount) -> &mut i64 {
        match ledger_account {
            LedgerAccount::Credit => &mut self.credit_minor,
            LedgerAccount::Held => &mut self.held_minor,
            LedgerAccount::Receivable => &mut self.receivable_minor,
            LedgerAccount::Revenue => &mut self.revenue_minor,
            LedgerAccount::Funding => &mut self.funding_minor,
        }
    }

    /// All five together: zero, or the ledger is broken.
    #[must_use]
    pub fn sum_minor(&self) -> i64 {
        self.credit_minor
            + self.held_minor
            + self.receivable_minor
            + self.revenue_minor
            + self.funding_minor
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_posting_sums_to_zero(amount_minor in 0i64..1_000_000_000, kind in 0u8..8) {
            let currency = Currency::from_code("EUR").expect("EUR");
            let at = Timestamp::UNIX_EPOCH;
            let posting = match kind {
                0 => Posting::top_up("x", 1, currency, at, amount_minor),
                1 => Posting::hold("x", 1, currency, at, amount_minor),
                2 => Posting::release("x", 1, currency, at, amount_minor),
                3 => Posting::capture("x", 1, currency, at, amount_minor),
                4 => Posting::pay(1, 1, currency, at, amount_minor),
                5 => Posting::settle(1, 1, currency, at, amount_minor),
                6 => Posting::refund(1, 1, currency, at, amount_minor),
                _ => Posting::owe(1, 1, currency, at, amount_minor),
            };
            prop_assert_eq!(posting.amounts_minor.values().sum::<i64>(), 0);
            prop_assert_eq!(posting.amounts_minor.len(), 2);
            let mut balances = Balances::default();
            balances.apply(&posting);
            prop_assert_eq!(balances.sum_minor(), 0);
        }
    }
}
