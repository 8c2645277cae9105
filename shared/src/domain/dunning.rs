//! Dunning: what happens to an invoice that is not paid, each step on its day.

use jiff::ToSpan;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// What is done about an overdue invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The client is reminded.
    Remind,
    /// The account's keys stop working, and the day is told on which its data goes.
    Suspend,
    /// The account goes, with its data. It is the account's own step, on the day that was told.
    Terminate,
}

/// The next step of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextStep {
    /// What is done.
    pub step: Step,
    /// The day from which on it is done.
    pub on: Date,
    /// Steps taken once it is done.
    pub taken: u32,
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
    /// All steps of an invoice in order of their days. Suspension comes after a reminder of the same day.
    #[must_use]
    pub fn steps(&self) -> Vec<(u16, Step)> {
        let reminders = self.reminder_days.iter();
        let mut steps: Vec<(u16, Step)> = reminders.map(|days| (*days, Step::Remind)).collect();
        steps.push((self.suspension_days, Step::Suspend));
        steps.sort_by_key(|(days, step)| (*days, *step as u8));
        steps
    }

    /// The next step of an invoice that has seen `taken` of them.
    #[must_use]
    pub fn next(&self, due_on: Date, taken: u32) -> Option<NextStep> {
        let index = usize::try_from(taken).ok()?;
        let (days, step) = self.steps().into_iter().nth(index)?;
        Some(NextStep {
            step,
            on: after(due_on, days),
            taken: taken + 1,
        })
    }

    /// Whether the day has come on which an account is suspended for an invoice.
    #[must_use]
    pub fn is_suspension_due(&self, due_on: Date, today: Date) -> bool {
        after(due_on, self.suspension_days) <= today
    }

    /// The day on which the data of an account goes that is suspended `today`: as long after it as the calendar has them apart, however
    /// late the suspension is.
    #[must_use]
    pub fn purge_on(&self, today: Date) -> Date {
        after(
            today,
            self.termination_days.saturating_sub(self.suspension_days),
        )
    }

    /// How long an account that staff let work again has when they do not say: as long as an invoice has from its due date.
    #[must_use]
    pub fn given_until(&self, today: Date) -> Date {
        after(today, self.suspension_days.max(1))
    }
}

fn after(date: Date, days: u16) -> Date {
    date.saturating_add(i64::from(days).days())
}

/// Whether something that is due on a day is overdue: once that day is over.
#[must_use]
pub fn is_overdue(due_on: Date, today: Date) -> bool {
    due_on < today
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn calendar() -> Calendar {
        Calendar {
            reminder_days: vec![7, 0],
            suspension_days: 7,
            termination_days: 30,
        }
    }

    #[test]
    fn steps_come_on_their_days_and_in_order() {
        let calendar = calendar();
        let due_on = date(2026, 1, 31);
        let mut taken = 0;
        let mut steps = Vec::new();
        while let Some(next) = calendar.next(due_on, taken) {
            steps.push((next.on, next.step));
            taken = next.taken;
        }
        assert_eq!(
            steps,
            [
                (date(2026, 1, 31), Step::Remind),
                (date(2026, 2, 7), Step::Remind),
                (date(2026, 2, 7), Step::Suspend),
            ]
        );
        assert_eq!(calendar.purge_on(date(2026, 2, 7)), date(2026, 3, 2));
    }

    #[test]
    fn data_goes_as_long_after_a_late_suspension_as_after_one_in_time() {
        assert_eq!(calendar().purge_on(date(2026, 5, 1)), date(2026, 5, 24));
    }

    #[test]
    fn an_invoice_is_overdue_once_its_due_date_is_over() {
        let due_on = date(2026, 1, 31);
        assert!(!is_overdue(due_on, due_on));
        assert!(is_overdue(due_on, date(2026, 2, 1)));
    }
}
