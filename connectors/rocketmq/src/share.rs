//! What goes ahead of a backlog, sans-io: whose turn it is, and which events went before theirs.

use std::collections::{BTreeMap, VecDeque};

use event::Event;

/// Shares what is sent between events that are published now and a backlog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    percent: u32,
    credit: u32,
}

impl Share {
    /// `percent` of all turns are for events that are published now.
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent: percent.into(), credit: 0 }
    }

    /// Takes a turn; whether it is for events that are published now.
    pub(crate) fn take_turn(&mut self) -> bool {
        self.credit += self.percent;
        let live = self.credit >= 100;
        if live {
            self.credit -= 100;
        }
        live
    }
}

/// Events that were just published and wait to go ahead. Those that find no room go when it is their turn: the log has them.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    events: VecDeque<Event>,
    bytes: usize,
}

/// Events that wait to go ahead, and their bytes.
const FRESH: usize = 1024;
const FRESH_BYTES: usize = 4 << 20;

impl Fresh {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds one; the oldest make room for it.
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += event.data().len();
        self.events.push_back(event);
        while self.events.len() > FRESH || self.bytes > FRESH_BYTES {
            self.pop();
        }
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.data().len();
        Some(event)
    }
}

/// Events that went ahead, by their stamps, until the backlog comes to them.
#[derive(Debug, Default)]
pub(crate) struct Ahead(BTreeMap<u64, State>);

#[derive(Debug)]
enum State {
    /// It is under way; and the number to ack when it is done, once the backlog has come to it.
    Out(Option<u64>),
    Done,
}

/// What the backlog finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The event did not go ahead: it goes now.
    Nothing,
    /// It is under way, and acked when that is done.
    Out,
    /// It is done already.
    Done,
}

/// Some 10 MiB.
const AHEAD: usize = 1 << 18;

impl Ahead {
    /// Whether one more may go ahead.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < AHEAD
    }

    /// The event with this stamp goes ahead; false: it did so before.
    pub(crate) fn goes(&mut self, stamp: u64) -> bool {
        let before = self.0.len();
        self.0.entry(stamp).or_insert(State::Out(None));
        self.0.len() > before
    }

    /// It is done; the number to ack, if the backlog has come to it.
    pub(crate) fn done(&mut self, stamp: u64) -> Option<u64> {
        match self.0.insert(stamp, State::Done) {
            Some(State::Out(Some(number))) => {
                self.0.remove(&stamp);
                Some(number)
            }
            Some(State::Out(None) | State::Done) | None => None,
        }
    }

    /// The backlog comes to an event, as this number.
    pub(crate) fn found(&mut self, stamp: u64, number: Option<u64>) -> Found {
        match self.0.get_mut(&stamp) {
            None => Found::Nothing,
            Some(State::Done) => {
                self.0.remove(&stamp);
                Found::Done
            }
            Some(State::Out(waiting)) => {
                *waiting = number;
                Found::Out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_shared_as_told_and_evenly() {
        for (percent, turns) in [(0, "........"), (25, "...x...x"), (50, ".x.x.x.x"), (75, ".xxx.xxx")] {
            let mut share = Share::new(percent);
            let taken: String = (0..8).map(|_| if share.take_turn() { 'x' } else { '.' }).collect();
            assert_eq!(taken, turns, "{percent} %");
        }
    }

    #[test]
    fn what_went_ahead_is_sent_once_and_acked_when_it_is_done() {
        let mut ahead = Ahead::default();
        assert!(ahead.goes(1) && !ahead.goes(1) && ahead.goes(2));
        assert_eq!(ahead.found(3, Some(0)), Found::Nothing);
        // The backlog comes first.
        assert_eq!((ahead.found(1, Some(7)), ahead.done(1)), (Found::Out, Some(7)));
        // The answer comes first.
        assert_eq!((ahead.done(2), ahead.found(2, Some(8))), (None, Found::Done));
        assert!(ahead.0.is_empty());
    }
}
