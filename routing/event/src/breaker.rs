//! A circuit breaker: who failed too often in a row is left alone for a while, then tried once. The time comes in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts failures in a row, and says when one may ask again.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Left alone until then; while one tries, nobody else does.
    until: Option<Instant>,
}

impl Breaker {
    /// One that leaves alone for `pause` who failed `failures_max` times in a row.
    pub fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, state: Mutex::default() }
    }

    /// Whether one may ask now. Who may tells how it went, or another may try after a pause.
    ///
    /// # Errors
    /// How long until one may, if nothing changes before.
    pub fn may_ask(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        match state.until {
            None => Ok(()),
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                state.until = Some(now + self.pause);
                Ok(())
            }
        }
    }

    /// It answered. True when this is what closed the circuit.
    pub fn answered(&self) -> bool {
        std::mem::take(&mut *self.state()).until.is_some()
    }

    /// It did not. True when this is what opened the circuit.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures < self.failures_max {
            return false;
        }
        let first = state.until.is_none();
        state.until = Some(now + self.pause);
        first
    }

    /// Whether it is left alone.
    pub fn is_open(&self) -> bool {
        self.state().until.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_tries_each_pause() {
        let pause = Duration::from_secs(5);
        let breaker = Breaker::new(2, pause);
        let now = Instant::now();
        assert!(!breaker.failed(now) && breaker.may_ask(now).is_ok());
        assert!(!breaker.answered(), "it was not open");
        assert!(!breaker.failed(now));
        assert!(breaker.failed(now) && breaker.is_open());
        assert_eq!(breaker.may_ask(now + Duration::from_secs(2)), Err(Duration::from_secs(3)));
        let later = now + pause;
        assert!(breaker.may_ask(later).is_ok());
        assert_eq!(breaker.may_ask(later), Err(pause), "only one");
        assert!(!breaker.failed(later) && breaker.may_ask(later).is_err());
        assert!(breaker.may_ask(later + pause).is_ok());
        assert!(breaker.answered() && !breaker.is_open());
        assert!(breaker.may_ask(later).is_ok() && breaker.may_ask(later).is_ok());
    }
}
