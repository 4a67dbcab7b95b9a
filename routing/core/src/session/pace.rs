//! How fast a reader empties its live lane: whether it is worth waiting for. Sans-io.

use std::time::{Duration, Instant};

/// Counts what a reader takes, in spans of [`SPAN`].
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the current span began; `None` before the reader came.
    since: Option<Instant>,
    taken: usize,
    /// The span before this one was fast enough.
    kept_up: bool,
}

/// Long enough to see a reader past a pause of the scheduler, short enough to give up on one that stopped.
const SPAN: Duration = Duration::from_millis(250);

impl Pace {
    /// A new reader: it has one span to show its pace.
    pub(crate) fn start(&mut self, now: Instant) {
        *self = Self { since: Some(now), taken: 0, kept_up: true };
    }

    /// The reader took `bytes` at `now`; `enough` of them in a span are fast enough.
    pub(crate) fn took(&mut self, bytes: usize, enough: usize, now: Instant) {
        self.taken = self.taken.saturating_add(bytes);
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= SPAN {
            *self = Self { since: Some(now), taken: 0, kept_up: self.taken >= enough };
        }
    }

    /// Whether the reader is fast enough that its publishers wait for it.
    pub(crate) fn keeps_up(&self, enough: usize, now: Instant) -> bool {
        let Some(since) = self.since else { return false };
        match now.duration_since(since) {
            passed if passed < SPAN => self.kept_up || self.taken >= enough,
            passed => passed < 2 * SPAN && self.taken >= enough,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_keeps_up_as_long_as_each_span_brings_enough() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert!(!pace.keeps_up(100, at(0)));
        pace.start(at(0));
        assert!(pace.keeps_up(100, at(249)));
        assert!(!pace.keeps_up(100, at(250)), "it took nothing");
        pace.took(60, 100, at(10));
        pace.took(60, 100, at(260));
        assert!(pace.keeps_up(100, at(300)));
        pace.took(10, 100, at(520));
        assert!(!pace.keeps_up(100, at(530)), "10 in a span");
    }
}
