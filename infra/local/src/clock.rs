//! Time in the local runner: the machine's own, moved forward at will, or an instant that stands still.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use wharfage::clock::{Clock, ClockReading};

use crate::data::write_private_soon;
use crate::error::Error;

/// A clock that never goes backwards.
#[derive(Debug)]
pub struct VirtualClock {
    state: Mutex<State>,
    file: Option<PathBuf>,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// The latest instant anybody was told.
    last: Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Stands still until moved.
    Still,
    /// Goes as the system clock does, ahead of it by this much.
    Running { ahead: SignedDuration },
}

impl VirtualClock {
    /// Stands still at `start` when given; otherwise runs with the system clock.
    #[must_use]
    pub fn new(start: Option<Timestamp>) -> VirtualClock {
        VirtualClock {
            state: Mutex::new(match start {
                Some(start) => State {
                    pace: Pace::Still,
                    last: start,
                },
                None => State {
                    pace: Pace::Running {
                        ahead: SignedDuration::ZERO,
                    },
                    last: system_now(),
                },
            }),
            file: None,
        }
    }

    /// The same, but never before the instant that `file` remembers, and remembered there.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or cannot be written.
    pub fn kept(start: Option<Timestamp>, file: PathBuf) -> Result<VirtualClock, Error> {
        let mut clock = VirtualClock::new(start);
        if let Some(saved) = read(&file)? {
            let state = clock
                .state
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            if let Pace::Running { ahead } = &mut state.pace {
                let kept = saved.ahead.unwrap_or_default();
                // Data made while the clock stood still may be ahead of the system clock.
                *ahead = kept
                    .max(saved.at.duration_since(state.last))
                    .max(SignedDuration::ZERO);
                state.last = add(state.last, *ahead);
            }
            state.last = state.last.max(saved.at);
        }
        clock.file = Some(file);
        clock.save()?;
        Ok(clock)
    }

    /// Whether time passes by itself.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.lock().pace, Pace::Running { .. })
    }

    /// By how much it is ahead of the system clock; less than nothing where it stands still in the past.
    #[must_use]
    pub fn ahead(&self) -> SignedDuration {
        let now = self.now();
        let apart = now.duration_since(system_now());
        match self.lock().pace {
            Pace::Still => apart,
            // Or more, where the system clock was set back meanwhile.
            Pace::Running { ahead } => ahead.max(apart),
        }
    }

    /// Moves to `to`, which is not before now.
    ///
    /// # Errors
    /// [`Error::Past`], or when the new time cannot be kept.
    pub fn move_to(&self, to: Timestamp) -> Result<(), Error> {
        let now = self.now();
        if to < now {
            return Err(Error::Past { to, now });
        }
        self.move_up_to(to)
    }

    /// Moves to `to`, unless it is later already.
    pub(crate) fn move_up_to(&self, to: Timestamp) -> Result<(), Error> {
        {
            let mut state = self.lock();
            let now = state.now();
            if to <= now {
                return Ok(());
            }
            if let Pace::Running { ahead } = &mut state.pace {
                *ahead = to.duration_since(system_now());
            }
            state.last = to;
        }
        self.save()
    }

    /// Writes the present time to the file it is kept in, if any.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let saved = {
            let mut state = self.lock();
            let at = state.now();
            let ahead = match state.pace {
                Pace::Still => None,
                Pace::Running { ahead } => Some(ahead),
            };
            ClockReading { at, ahead }
        };
        let json = serde_json::to_vec(&saved).map_err(|error| Error::Data {
            path: file.clone(),
            problem: error.to_string(),
        })?;
        write_private_soon(file, &json)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.lock().now()
    }
}

impl State {
    fn now(&mut self) -> Timestamp {
        if let Pace::Running { ahead } = self.pace {
            // The system clock may be set back; this one is not.
            self.last = self.last.max(add(system_now(), ahead));
        }
        self.last
    }
}

fn add(instant: Timestamp, duration: SignedDuration) -> Timestamp {
    instant.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn read(file: &Path) -> Result<Option<ClockReading>, Error> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("cannot read {}", file.display()))(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Data {
            path: file.to_owned(),
            problem: error.to_string(),
        })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the local runner's one place where the system clock is read"
)]
fn system_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("timestamp")
    }

    #[test]
    fn a_still_clock_moves_only_forward() {
        let clock = VirtualClock::new(Some(at("2026-01-01T00:00:00Z")));
        assert!(!clock.is_running());
        clock.move_to(at("2026-01-02T00:00:00Z")).expect("moves");
        assert_eq!(clock.now(), at("2026-01-02T00:00:00Z"));
        let error = clock.move_to(at("2026-01-01T00:00:00Z")).expect_err("past");
        assert_eq!(
            error.to_string(),
            "2026-01-01T00:00:00Z is in the past: it is 2026-01-02T00:00:00Z here"
        );
    }

    #[test]
    fn a_running_clock_goes_on_from_where_it_was_moved() {
        let clock = VirtualClock::new(None);
        let later = add(clock.now(), SignedDuration::from_hours(1000));
        clock.move_to(later).expect("moves");
        let now = clock.now();
        assert!(now >= later && now < add(later, SignedDuration::from_mins(1)));
    }

    #[test]
    fn time_is_kept_and_never_goes_back() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("clock.json");
        let future = add(system_now(), SignedDuration::from_hours(1000));
        let clock = VirtualClock::kept(Some(future), file.clone()).expect("clock");
        drop(clock);
        // The same start again, an earlier one, and none.
        for start in [Some(future), Some(at("2026-01-01T00:00:00Z")), None] {
            let clock = VirtualClock::kept(start, file.clone()).expect("clock");
            assert!(clock.now() >= future, "{start:?}");
        }
        let later = add(future, SignedDuration::from_hours(1));
        let clock = VirtualClock::kept(Some(later), file.clone()).expect("clock");
        assert_eq!(clock.now(), later);
    }
}
