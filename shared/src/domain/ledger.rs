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

use crate::domain::invoice::TakenOff;
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
    /// What it takes off which invoices, by paying them or by a credit note.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_off: Vec<TakenOff>,
}

impl Posting {
    fn transfer(
        id: String,
        payer: (u64, Currency),
        at: Timestamp,
        amount_minor: i64,
        from: LedgerAccount,
        to: LedgerAccount,
    ) -> Posting {
        let (client_id, currency) = payer;
        Posting {
            id,
            client_id,
            currency,
            at,
            amounts_minor: BTreeMap::from([(from, -amount_minor), (to, amount_minor)]),
            taken_off: Vec::new(),
        }
    }

    /// The id of the posting of money that came in under a reference.
    #[must_use]
    pub fn top_up_id(reference: &str) -> String {
        format!("top_up:{reference}")
    }

    /// Money comes in: `funding` → `credit`, and what pays open invoices at once `funding` → `receivable`.
    #[must_use]
    pub fn top_up(
        reference: &str,
        payer: (u64, Currency),
        at: Timestamp,
        amount_minor: i64,
        taken_off: Vec<TakenOff>,
    ) -> Posting {
        let id = Posting::top_up_id(reference);
        let (from, to) = (LedgerAccount::Funding, LedgerAccount::Credit);
        Posting::transfer(id, payer, at, amount_minor, from, to).less(to, taken_off)
    }

    /// An order sets its price aside: `credit` → `held`.
    #[must_use]
    pub fn hold(
        order_id: &str,
        payer: (u64, Currency),
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("hold:{order_id}");
        let (from, to) = (LedgerAccount::Credit, LedgerAccount::Held);
        Posting::transfer(id, payer, at, amount_minor, from, to)
    }

    /// An order that comes to nothing gives it back: `held` → `credit`.
    #[must_use]
    pub fn release(
        order_id: &str,
        payer: (u64, Currency),
        at: Timestamp,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("release:{order_id}");
        let (from, to) = (LedgerAccount::Held, LedgerAccount::Credit);
        Posting::transfer(id, payer, at, amount_minor, from, to)
    }

    /// An order that is fulfilled is paid: `held` → `revenue`.
    #[must_use]
    pub fn capture(
        order_id: &str,
        payer: (u64, Currency),
        at: Timestamp,
        invoice_id: u64,
        amount_minor: i64,
    ) -> Posting {
        let id = format!("capture:{order_id}");
        let (from, to) = (LedgerAccount::Held, LedgerAccount::Revenue);
        Posting {
            taken_off: vec![TakenOff {
                invoice_id,
                amount_minor,
            }],
            ..Posting::transfer(id, payer, at, amount_minor, from, to)
        }
    }

    /// An invoice is issued: `receivable` → `revenue`, and what is paid of it at once `credit` → `revenue`.
    #[must_use]
    pub fn issue(
        invoice_id: u64,
        payer: (u64, Currency),
        at: Timestamp,
        amount_minor: i64,
        paid_minor: i64,
    ) -> Posting {
        let (credit, receivable) = (LedgerAccount::Credit, LedgerAccount::Receivable);
        if paid_minor == amount_minor {
            let id = format!("pay:{invoice_id}");
            return Posting {
                taken_off: vec![TakenOff {
                    invoice_id,
                    amount_minor,
                }],
                ..Posting::transfer(id, payer, at, amount_minor, credit, LedgerAccount::Revenue)
            };
        }
        let id = format!("owe:{invoice_id}");
        let mut posting = Posting::transfer(
            id,
            payer,
            at,
            amount_minor,
            receivable,
            LedgerAccount::Revenue,
        );
        if paid_minor > 0 {
            posting.amounts_minor.insert(credit, -paid_minor);
            posting
                .amounts_minor
                .insert(receivable, paid_minor - amount_minor);
            posting.taken_off = vec![TakenOff {
                invoice_id,
                amount_minor: paid_minor,
            }];
        }
        posting
    }

    /// Open invoices are paid from credit, in full or in part: `credit` → `receivable`. The id is made of the first one and how often
    /// something was taken off it before.
    #[must_use]
    pub fn settle(
        payer: (u64, Currency),
        at: Timestamp,
        before: u32,
        taken_off: Vec<TakenOff>,
    ) -> Posting {
        let first = taken_off.first().map_or(0, |taken| taken.invoice_id);
        let id = format!("settle:{first}:{before}");
        let amount_minor = taken_off.iter().map(|taken| taken.amount_minor).sum();
        let (from, to) = (LedgerAccount::Credit, LedgerAccount::Receivable);
        Posting {
            taken_off,
            ..Posting::transfer(id, payer, at, amount_minor, from, to)
        }
    }

    /// A credit note takes something off open invoices: `revenue` → `receivable`; the rest was paid, and is given back: `revenue` →
    /// `credit`.
    #[must_use]
    pub fn refund(
        invoice_id: u64,
        payer: (u64, Currency),
        at: Timestamp,
        amount_minor: i64,
        taken_off: Vec<TakenOff>,
    ) -> Posting {
        let id = format!("refund:{invoice_id}");
        let (from, to) = (LedgerAccount::Revenue, LedgerAccount::Credit);
        Posting::transfer(id, payer, at, amount_minor, from, to).less(to, taken_off)
    }

    /// The same, with what is taken off invoices not credited to `account` but to what is owed.
    fn less(mut self, account: LedgerAccount, taken_off: Vec<TakenOff>) -> Posting {
        let off: i64 = taken_off.iter().map(|taken| taken.amount_minor).sum();
        if off > 0 {
            *self.amounts_minor.entry(account).or_default() -= off;
            self.amounts_minor.insert(LedgerAccount::Receivable, off);
            self.amounts_minor
                .retain(|_, amount_minor| *amount_minor != 0);
        }
        self.taken_off = taken_off;
        self
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
    /// Places given so far in the client's series of invoices.
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

    /// Whether there is nothing to spend, nothing held and nothing owed.
    #[must_use]
    pub fn is_even(&self) -> bool {
        (self.credit_minor, self.held_minor, self.receivable_minor) == (0, 0, 0)
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
        fn every_posting_sums_to_zero(amount_minor in 1i64..1_000_000_000, share in 0i64..=100, kind in 0u8..8) {
            let payer = (1, Currency::from_code("EUR").expect("EUR"));
            let at = Timestamp::UNIX_EPOCH;
            let part = amount_minor / 100 * share;
            let off = match part {
                0 => Vec::new(),
                amount_minor => vec![TakenOff { invoice_id: 1, amount_minor }],
            };
            let posting = match kind {
                0 => Posting::top_up("x", payer, at, amount_minor, off),
                1 => Posting::hold("x", payer, at, amount_minor),
                2 => Posting::release("x", payer, at, amount_minor),
                3 => Posting::capture("x", payer, at, 1, amount_minor),
                4 => Posting::issue(1, payer, at, amount_minor, part),
                5 => Posting::issue(1, payer, at, amount_minor, amount_minor),
                6 => Posting::refund(1, payer, at, amount_minor, off),
                _ => Posting::settle(payer, at, 0, vec![TakenOff { invoice_id: 1, amount_minor }]),
            };
            prop_assert_eq!(posting.amounts_minor.values().sum::<i64>(), 0);
            prop_assert!((2..=3).contains(&posting.amounts_minor.len()));
            let mut balances = Balances::default();
            balances.apply(&posting);
            prop_assert_eq!(balances.sum_minor(), 0);
        }
    }
}
