//! Log lines that strangers can cause: one a second, and how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<(Option<Instant>, u64)>);

impl Repeats {
    /// How many lines were left out since the last one, if it is time for one.
    pub(crate) fn may_say(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *unsaid = unsaid.saturating_add(1);
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_and_the_rest_is_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let repeats = Repeats::default();
        assert_eq!(repeats.may_say(at(0)), Some(0));
        assert_eq!((repeats.may_say(at(1)), repeats.may_say(at(999))), (None, None));
        assert_eq!(repeats.may_say(at(1000)), Some(2));
        assert_eq!(repeats.may_say(at(2000)), Some(0));
    }
}
