//! Dunning: what happens to an invoice that is not paid, each step on its day.

use jiff::ToSpan;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// A step, and how many days after the due date it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The client is reminded.
    Remind,
    /// The account's keys stop working.
    Suspend,
    /// The account goes, with its data.
    Terminate,
}

/// The days on which steps are taken, counted from the due date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Reminders.
    pub reminder_days: Vec<u16>,
    /// Suspension.
    pub suspension_days: u16,
    /// Termination.
    pub termination_days: u16,
}

impl Calendar {
    /// All steps in order of their days. Suspension comes after a reminder of the same day, termination after suspension.
    #[must_use]
    pub fn steps(&self) -> Vec<(u16, Step)> {
        let mut steps: Vec<(u16, Step)> = self
            .reminder_days
            .iter()
            .map(|days| (*days, Step::Remind))
            .collect();
        steps.push((self.suspension_days, Step::Suspend));
        steps.push((
            self.termination_days.max(self.suspension_days),
            Step::Terminate,
        ));
        steps.sort_by_key(|(days, step)| (*days, *step as u8));
        steps
    }

    /// The next step of an invoice that has seen `taken` of them, and its day.
    #[must_use]
    pub fn next(&self, due_on: Date, taken: u32) -> Option<(Date, Step)> {
        let index = usize::try_from(taken).ok()?;
        let (days, step) = self.steps().into_iter().nth(index)?;
        Some((due_on.saturating_add(i64::from(days).days()), step))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn steps_come_on_their_days_and_in_order() {
        let calendar = Calendar {
            reminder_days: vec![7, 0],
            suspension_days: 7,
            termination_days: 30,
        };
        let due_on = date(2026, 1, 31);
        let taken: Vec<_> = (0..5).map(|taken| calendar.next(due_on, taken)).collect();
        assert_eq!(
            taken,
            [
                Some((date(2026, 1, 31), Step::Remind)),
                Some((date(2026, 2, 7), Step::Remind)),
                Some((date(2026, 2, 7), Step::Suspend)),
                Some((date(2026, 3, 2), Step::Terminate)),
                None,
            ]
        );
    }
}
