//! What pays what: a client never has credit and debt in one currency at the same time.
//!
//! Money and credit notes reduce the open invoices in order, the last in part. Only the rest becomes credit. A new invoice is paid by the
//! same rule: never before an older one.

use crate::domain::invoice::{InvoiceId, TakenOff};
use crate::domain::ledger::Balances;

/// What an amount takes off open invoices, given as their numbers and what is open of them, in the order in which they are paid; and what
/// is left of it. At most `most` invoices are touched.
#[must_use]
pub fn allocate(
    amount_minor: i64,
    open: impl IntoIterator<Item = (InvoiceId, i64)>,
    most: usize,
) -> (Vec<TakenOff>, i64) {
    let mut left = amount_minor;
    let mut taken_off = Vec::new();
    for (invoice_id, open_minor) in open {
        if left <= 0 || taken_off.len() == most {
            break;
        }
        let amount_minor = left.min(open_minor);
        if amount_minor > 0 {
            taken_off.push(TakenOff {
                invoice_id,
                amount_minor,
            });
            left -= amount_minor;
        }
    }
    (taken_off, left)
}

/// How an invoice is paid as it is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtIssue {
    /// Nothing is owed: so much of it is paid from credit at once, all of it or all the credit there is.
    Paid(i64),
    /// Nothing can be spent: it is left open.
    Open,
    /// There are both credit and debt: what is open is to be paid first.
    SettleFirst,
}

/// Decides how an invoice is paid as it is issued.
#[must_use]
pub fn at_issue(balances: &Balances, amount_minor: i64) -> AtIssue {
    let (credit_minor, owed_minor) = (balances.credit_minor, -balances.receivable_minor);
    if amount_minor <= 0 || (owed_minor <= 0 && credit_minor > 0) {
        AtIssue::Paid(credit_minor.clamp(0, amount_minor.max(0)))
    } else if credit_minor <= 0 {
        AtIssue::Open
    } else {
        AtIssue::SettleFirst
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_is_paid_first_and_the_last_in_part() {
        let taken = |invoice_id, amount_minor| TakenOff {
            invoice_id: InvoiceId(invoice_id),
            amount_minor,
        };
        let open = [(1, 500), (2, 700), (3, 100)].map(|(id, open)| (InvoiceId(id), open));
        assert_eq!(
            allocate(900, open, 9),
            (vec![taken(1, 500), taken(2, 400)], 0)
        );
        assert_eq!(allocate(900, open, 1), (vec![taken(1, 500)], 400));
        assert_eq!(allocate(1_500, open, 9).1, 200);
    }

    #[test]
    fn an_invoice_is_not_paid_while_an_older_one_is_open() {
        let balances = |credit_minor, receivable_minor| Balances {
            credit_minor,
            receivable_minor,
            ..Balances::default()
        };
        assert_eq!(at_issue(&balances(900, 0), 500), AtIssue::Paid(500));
        assert_eq!(at_issue(&balances(300, 0), 500), AtIssue::Paid(300));
        assert_eq!(at_issue(&balances(0, 0), 500), AtIssue::Open);
        assert_eq!(at_issue(&balances(0, -100), 500), AtIssue::Open);
        assert_eq!(at_issue(&balances(900, -100), 500), AtIssue::SettleFirst);
        assert_eq!(at_issue(&balances(0, -100), 0), AtIssue::Paid(0));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_overpays(
            amount_minor in 0i64..10_000,
            open in proptest::collection::vec(1i64..2_000, 0..8),
        ) {
            let open: Vec<(InvoiceId, i64)> = (1..).map(InvoiceId).zip(open).collect();
            let (taken_off, left) = allocate(amount_minor, open.iter().copied(), 100);
            let off: i64 = taken_off.iter().map(|taken| taken.amount_minor).sum();
            prop_assert_eq!(off + left, amount_minor);
            let owed: i64 = open.iter().map(|(_, open)| open).sum();
            prop_assert!(left == 0 || off == owed);
            for (index, taken) in taken_off.iter().enumerate() {
                prop_assert_eq!(taken.invoice_id, open[index].0);
                let is_last = index + 1 == taken_off.len();
                prop_assert!(taken.amount_minor == open[index].1 || (is_last && taken.amount_minor < open[index].1));
            }
        }
    }
}
