//! A circuit breaker: who failed too often in a row is left alone for a while, then tried once. The time comes in.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
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
    pub(crate) fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, state: Mutex::default() }
    }

    /// Whether one may ask now. Who gets a yes tells how it went, or another may try after a pause.
    pub(crate) fn may_ask(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        match state.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.until = Some(now + self.pause);
                true
            }
        }
    }

    /// It answered.
    pub(crate) fn answered(&self) {
        *self.state.lock() = State::default();
    }

    /// It did not. True when this is what opened the circuit.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < self.failures_max {
            return false;
        }
        let first = state.until.is_none();
        state.until = Some(now + self.pause);
        first
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
        assert!(!breaker.failed(now) && breaker.may_ask(now));
        breaker.answered();
        assert!(!breaker.failed(now));
        assert!(breaker.failed(now) && !breaker.may_ask(now));
        let later = now + pause;
        assert!(breaker.may_ask(later) && !breaker.may_ask(later), "only one");
        assert!(!breaker.failed(later) && !breaker.may_ask(later));
        assert!(breaker.may_ask(later + pause));
        breaker.answered();
        assert!(breaker.may_ask(later) && breaker.may_ask(later));
    }
}
