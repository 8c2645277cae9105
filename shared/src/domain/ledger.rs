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
//!
//! What may be posted, and what moves then, is the table in [`Cause`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter};

use crate::domain::client::ClientId;
use crate::domain::invoice::{InvoiceId, TakenOff};
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
    pub client_id: ClientId,
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

/// What causes a posting.
///
/// | cause | moves |
/// |---|---|
/// | money comes in | `funding` → `credit` |
/// | an order sets its price aside | `credit` → `held` |
/// | an order that comes to nothing gives it back | `held` → `credit` |
/// | an order that is fulfilled is paid | `held` → `revenue` |
/// | an invoice is issued and paid at once | `credit` → `revenue` |
/// | an invoice is issued, and open | `receivable` → `revenue` |
/// | open invoices are paid from credit | `credit` → `receivable` |
/// | a credit note is issued | `revenue` → `credit` |
///
/// Where money comes in, or an invoice or a credit note is issued, what is taken off invoices is so much less credit and so much less owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause<'a> {
    /// Money comes in, under a reference.
    TopUp(&'a str),
    /// An order sets its price aside.
    Hold(&'a str),
    /// An order that comes to nothing gives it back.
    Release(&'a str),
    /// An order that is fulfilled is paid.
    Capture(&'a str),
    /// An invoice is issued and paid at once.
    Pay(InvoiceId),
    /// An invoice is issued, and open, maybe in part.
    Owe(InvoiceId),
    /// Open invoices are paid from credit, in full or in part.
    Settle {
        /// The first of them.
        first: InvoiceId,
        /// How often something was taken off it before.
        before: u32,
    },
    /// A credit note takes something off open invoices; the rest was paid, and is given back.
    Refund(InvoiceId),
}

impl Cause<'_> {
    /// The id of its posting.
    #[must_use]
    pub fn id(self) -> String {
        match self {
            Cause::TopUp(reference) => format!("top_up:{reference}"),
            Cause::Hold(order_id) => format!("hold:{order_id}"),
            Cause::Release(order_id) => format!("release:{order_id}"),
            Cause::Capture(order_id) => format!("capture:{order_id}"),
            Cause::Pay(invoice_id) => format!("pay:{invoice_id}"),
            Cause::Owe(invoice_id) => format!("owe:{invoice_id}"),
            Cause::Settle { first, before } => format!("settle:{first}:{before}"),
            Cause::Refund(invoice_id) => format!("refund:{invoice_id}"),
        }
    }

    /// From where and to where its amount moves, and whether what is taken off invoices is so much less credit and so much less owed.
    fn moves(self) -> (LedgerAccount, LedgerAccount, bool) {
        use crate::domain::ledger::LedgerAccount::{Credit, Funding, Held, Receivable, Revenue};
        match self {
            Cause::TopUp(_) => (Funding, Credit, true),
            Cause::Hold(_) => (Credit, Held, false),
            Cause::Release(_) => (Held, Credit, false),
            Cause::Capture(_) => (Held, Revenue, false),
            Cause::Pay(_) => (Credit, Revenue, false),
            Cause::Owe(_) => (Receivable, Revenue, true),
            Cause::Settle { .. } => (Credit, Receivable, false),
            Cause::Refund(_) => (Revenue, Credit, true),
        }
    }
}

impl Posting {
    /// What a cause moves, and takes off which invoices.
    #[must_use]
    pub fn new(
        cause: Cause<'_>,
        (client_id, currency): (ClientId, Currency),
        at: Timestamp,
        amount_minor: i64,
        taken_off: Vec<TakenOff>,
    ) -> Posting {
        let (from, to, lowers) = cause.moves();
        let mut amounts_minor = BTreeMap::from([(from, -amount_minor), (to, amount_minor)]);
        let off_minor: i64 = taken_off.iter().map(|taken| taken.amount_minor).sum();
        if lowers && off_minor > 0 {
            *amounts_minor.entry(LedgerAccount::Credit).or_default() -= off_minor;
            *amounts_minor.entry(LedgerAccount::Receivable).or_default() += off_minor;
            amounts_minor.retain(|_, amount_minor| *amount_minor != 0);
        }
        Posting {
            id: cause.id(),
            client_id,
            currency,
            at,
            amounts_minor,
            taken_off,
        }
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
            let payer = (ClientId(1), Currency::from_code("EUR").expect("EUR"));
            let at = Timestamp::UNIX_EPOCH;
            let part = amount_minor / 100 * share;
            let off = match part {
                0 => Vec::new(),
                amount_minor => vec![TakenOff { invoice_id: InvoiceId(1), amount_minor }],
            };
            let all = vec![TakenOff { invoice_id: InvoiceId(1), amount_minor }];
            let (cause, taken_off) = match kind {
                0 => (Cause::TopUp("x"), off),
                1 => (Cause::Hold("x"), Vec::new()),
                2 => (Cause::Release("x"), Vec::new()),
                3 => (Cause::Capture("x"), all),
                4 => (Cause::Owe(InvoiceId(1)), off),
                5 => (Cause::Pay(InvoiceId(1)), all),
                6 => (Cause::Refund(InvoiceId(1)), off),
                _ => (Cause::Settle { first: InvoiceId(1), before: 0 }, all),
            };
            let posting = Posting::new(cause, payer, at, amount_minor, taken_off);
            prop_assert_eq!(posting.amounts_minor.values().sum::<i64>(), 0);
            prop_assert!((2..=3).contains(&posting.amounts_minor.len()));
            let mut balances = Balances::default();
            balances.apply(&posting);
            prop_assert_eq!(balances.sum_minor(), 0);
        }
    }

    #[test]
    fn what_pays_invoices_is_less_credit_and_less_owed() {
        use crate::domain::ledger::LedgerAccount::{Credit, Funding, Receivable, Revenue};
        let payer = (ClientId(1), Currency::from_code("EUR").expect("EUR"));
        let moved = |cause, amount_minor| {
            let taken_off = vec![TakenOff {
                invoice_id: InvoiceId(1),
                amount_minor: 30,
            }];
            let at = Timestamp::UNIX_EPOCH;
            let posting = Posting::new(cause, payer, at, amount_minor, taken_off);
            Vec::from_iter(posting.amounts_minor)
        };
        assert_eq!(
            moved(Cause::TopUp("x"), 100),
            [(Credit, 70), (Receivable, 30), (Funding, -100)]
        );
        assert_eq!(
            moved(Cause::TopUp("x"), 30),
            [(Receivable, 30), (Funding, -30)]
        );
        assert_eq!(
            moved(Cause::Owe(InvoiceId(1)), 100),
            [(Credit, -30), (Receivable, -70), (Revenue, 100)]
        );
        assert_eq!(
            moved(Cause::Refund(InvoiceId(2)), 100),
            [(Credit, 70), (Receivable, 30), (Revenue, -100)]
        );
        let settle = Cause::Settle {
            first: InvoiceId(1),
            before: 0,
        };
        assert_eq!(moved(settle, 30), [(Credit, -30), (Receivable, 30)]);
        assert_eq!(
            moved(Cause::Pay(InvoiceId(1)), 30),
            [(Credit, -30), (Revenue, 30)]
        );
    }
}
