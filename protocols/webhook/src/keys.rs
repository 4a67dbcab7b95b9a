//! Which of the events that a webhook may have at once have to wait for another with the same key. Sans-io.

use std::collections::{BTreeMap, VecDeque};

use event::Event;
use event::hub::Delivery;

/// What is on its way, by key, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    waiting: BTreeMap<Box<str>, VecDeque<Delivery>>,
    /// Of all keys.
    count: usize,
}

/// The attribute `partitionkey` (CloudEvents extension Partitioning), or a user property of that name.
pub(crate) fn key(event: &Event) -> Option<Box<str>> {
    Some(event.meta()?.value("partitionkey")?.as_ref().into())
}

impl Keys {
    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.count
    }

    /// `delivery`, if it may go now: nothing with its key is on its way. Else it waits. One without a key waits for nothing.
    pub(crate) fn enter(&mut self, delivery: Delivery) -> Option<Delivery> {
        let Some(key) = key(&delivery.event) else { return Some(delivery) };
        match self.waiting.get_mut(&key) {
            Some(waiting) => {
                waiting.push_back(delivery);
                self.count += 1;
                None
            }
            None => {
                self.waiting.insert(key, VecDeque::new());
                Some(delivery)
            }
        }
    }

    /// One with this key is done: the next, which goes now.
    pub(crate) fn leave(&mut self, key: Option<&str>) -> Option<Delivery> {
        let key = key?;
        let next = self.waiting.get_mut(key)?.pop_front();
        match next {
            Some(_) => self.count -= 1,
            None => drop(self.waiting.remove(key)),
        }
        next
    }
}
