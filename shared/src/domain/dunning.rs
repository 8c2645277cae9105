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

    /// The next step of an invoice that has seen `taken` of them, and was cause to suspend its account on `suspended_on`.
    ///
    /// Nobody's data goes without a suspension before it, and as long before it as the calendar has them apart, however late that was.
    #[must_use]
    pub fn next(&self, due_on: Date, taken: u32, suspended_on: Option<Date>) -> Option<NextStep> {
        let index = usize::try_from(taken).ok()?;
        let (days, step) = self.steps().into_iter().nth(index)?;
        let after = |date: Date, days: u16| date.saturating_add(i64::from(days).days());
        let on = after(due_on, days);
        Some(match (step, suspended_on) {
            // The calendar was another when the earlier steps were taken.
            (Step::Terminate, None) => NextStep {
                step: Step::Suspend,
                on: after(due_on, self.suspension_days),
                taken,
            },
            (Step::Terminate, Some(suspended_on)) => NextStep {
                step,
                on: on.max(after(
                    suspended_on,
                    days.saturating_sub(self.suspension_days),
                )),
                taken: taken + 1,
            },
            _ => NextStep {
                step,
                on,
                taken: taken + 1,
            },
        })
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
        let mut suspended_on = None;
        let mut taken = 0;
        let mut steps = Vec::new();
        while let Some(next) = calendar.next(due_on, taken, suspended_on) {
            if next.step == Step::Suspend {
                suspended_on = Some(next.on);
            }
            steps.push((next.on, next.step));
            taken = next.taken;
        }
        assert_eq!(
            steps,
            [
                (date(2026, 1, 31), Step::Remind),
                (date(2026, 2, 7), Step::Remind),
                (date(2026, 2, 7), Step::Suspend),
                (date(2026, 3, 2), Step::Terminate),
            ]
        );
    }

    #[test]
    fn a_termination_keeps_its_distance_from_a_late_suspension() {
        let calendar = Calendar {
            reminder_days: vec![0],
            suspension_days: 7,
            termination_days: 30,
        };
        let late = Some(date(2026, 5, 1));
        let next = calendar.next(date(2026, 1, 31), 2, late).expect("a step");
        assert_eq!((next.step, next.on), (Step::Terminate, date(2026, 5, 24)));
    }

    #[test]
    fn what_was_never_suspended_is_suspended_before_it_is_terminated() {
        // Three reminders were taken when the calendar still had them.
        let calendar = Calendar {
            reminder_days: vec![0, 7],
            suspension_days: 14,
            termination_days: 44,
        };
        let due_on = date(2026, 1, 1);
        let next = calendar.next(due_on, 3, None).expect("a step");
        assert_eq!((next.step, next.taken), (Step::Suspend, 3));
        let suspended_on = Some(date(2026, 2, 1));
        let next = calendar.next(due_on, 3, suspended_on).expect("a step");
        assert_eq!((next.step, next.on), (Step::Terminate, date(2026, 3, 3)));
        assert_eq!(calendar.next(due_on, next.taken, suspended_on), None);
    }
}
