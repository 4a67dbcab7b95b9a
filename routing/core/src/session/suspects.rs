//! Deliveries with which connections ended: how long each waits, and which are too many times there. Sans-io.

use std::time::{Duration, Instant};

use crate::RedeliveryOptions;

/// Those of one session. Mostly none.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// The delivery with which the last connections of the session ended, and how many did.
    fell_over: Option<(u64, u32)>,
    /// That one, and what came by shared subscriptions from members that ended with it.
    all: Vec<Suspect>,
}

#[derive(Debug)]
struct Suspect {
    number: u64,
    /// They were too many.
    overdue: bool,
    /// How long it waits once it is next; `None`: not any more.
    waits: Option<Duration>,
    until: Option<Instant>,
}

impl Suspects {
    /// A connection of the session ended with this delivery.
    pub(super) fn ended_with(&mut self, number: Option<u64>, limits: &RedeliveryOptions) {
        let known = self.fell_over.filter(|(known, _)| Some(*known) == number);
        let times = known.map_or(0, |(_, times)| times) + 1;
        self.fell_over = number.map(|number| (number, times));
        if let Some(number) = number {
            self.add(number, times, limits);
        }
    }

    /// So many connections ended with this delivery.
    pub(super) fn add(&mut self, number: u64, times: u32, limits: &RedeliveryOptions) {
        self.forget(&[number]);
        let delay = limits.delay(times);
        let waits = delay.filter(|delay| !delay.is_zero());
        self.all.push(Suspect { number, overdue: delay.is_none(), waits, until: None });
    }

    /// These are done, or go to others.
    pub(super) fn forget(&mut self, numbers: &[u64]) {
        if !self.all.is_empty() {
            self.all.retain(|suspect| !numbers.contains(&suspect.number));
        }
    }

    pub(super) fn has_to_wait(&self, number: u64) -> bool {
        self.all.iter().any(|suspect| suspect.number == number && suspect.waits.is_some())
    }

    /// Until when this one, which is next, has to wait, if it does. Its time begins now, if it did not before.
    pub(super) fn wait(&mut self, number: u64, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let next = self.all.iter_mut().find(|suspect| suspect.number == number)?;
        let waits = next.waits?;
        Some(*next.until.get_or_insert_with(|| now() + waits))
    }

    /// What has waited long enough may go out.
    pub(crate) fn release(&mut self, now: impl FnOnce() -> Instant) {
        if self.all.is_empty() {
            return;
        }
        let now = now();
        let over = |suspect: &&mut Suspect| suspect.until.is_some_and(|until| until <= now);
        self.all.iter_mut().filter(over).for_each(|suspect| suspect.waits = None);
    }

    /// Whether too many connections ended with one of them.
    pub(crate) fn has_overdue(&self) -> bool {
        self.all.iter().any(|suspect| suspect.overdue)
    }

    /// Whether too many connections ended with this one.
    pub(super) fn is_overdue(&self, number: u64) -> bool {
        self.all.iter().any(|suspect| suspect.overdue && suspect.number == number)
    }
}
