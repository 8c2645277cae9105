//! Retries after a write conflict: somebody else wrote between the read and the write.

use crate::error::{Fault, Reason, Rejection};

/// A bound on how often something is decided again. A loop asks for one more at its head.
#[derive(Debug)]
pub struct Tries {
    made: usize,
    most: usize,
}

impl Tries {
    /// At most so many, the first included.
    #[must_use]
    pub fn of(most: usize) -> Tries {
        Tries { made: 0, most }
    }

    /// One more: how many were made before it.
    ///
    /// # Errors
    /// What `otherwise` makes, when all were made.
    pub fn once_more<E>(&mut self, otherwise: impl FnOnce() -> E) -> Result<usize, E> {
        let before = self.made;
        if before >= self.most {
            return Err(otherwise());
        }
        self.made += 1;
        Ok(before)
    }
}

impl Fault {
    /// All tries were made, and each time somebody else wrote `whose` first. Later it may succeed.
    #[must_use]
    pub fn keeps_changing(what: &str, whose: impl std::fmt::Display) -> Fault {
        Fault::retryable(what, format!("{whose} keeps changing"))
    }
}

impl Rejection {
    /// 409: somebody else is writing the same; `text` says what. The caller may ask again at once.
    #[must_use]
    pub fn changed_meanwhile(text: &str) -> Rejection {
        Rejection::new(Reason::ChangedMeanwhile, format!("{text}, try again")).retry_after(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_tries_as_were_said_and_then_the_error() {
        let mut tries = Tries::of(2);
        assert_eq!(tries.once_more(|| "enough"), Ok(0));
        assert_eq!(tries.once_more(|| "enough"), Ok(1));
        assert_eq!(tries.once_more(|| "enough"), Err("enough"));
    }
}
