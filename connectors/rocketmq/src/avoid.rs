//! Which broker a request goes to, sans-io: one that failed, or took very long, is avoided for a while, as RocketMQ's
//! own clients do (MQFaultStrategy).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::route::Queue;

/// What is known of brokers.
#[derive(Debug, Default)]
pub(crate) struct Avoid {
    until: BTreeMap<Arc<str>, Instant>,
}

/// How long an answer took at least, and how long its broker is avoided then, in milliseconds: the table of the Java
/// client 5.3.
const TABLE: [(u64, u64); 5] =
    [(15_000, 30_000), (5_000, 10_000), (3_000, 6_000), (1_800, 5_000), (550, 2_000)];
/// How long a broker that failed is avoided.
const FAILED: Duration = Duration::from_secs(10);

impl Avoid {
    /// A broker answered after `took`.
    pub(crate) fn answered(&mut self, broker: &Arc<str>, took: Duration, now: Instant) {
        let row = TABLE.iter().find(|(least, _)| took >= Duration::from_millis(*least));
        match row {
            Some((_, ms)) => drop(self.until.insert(Arc::clone(broker), now + Duration::from_millis(*ms))),
            None => drop(self.until.remove(broker)),
        }
    }

    /// A broker did not take a request.
    pub(crate) fn failed(&mut self, broker: &Arc<str>, now: Instant) {
        self.until.insert(Arc::clone(broker), now + FAILED);
    }

    /// Whether a broker is avoided.
    pub(crate) fn avoids(&self, broker: &Arc<str>, now: Instant) -> bool {
        self.until.get(broker).is_some_and(|until| *until > now)
    }

    /// The queue of `queues` for a lane: its own, if the broker is not avoided; else the next one at another broker. If
    /// all are avoided, its own.
    pub(crate) fn choose<'a>(&self, queues: &'a [Queue], lane: u64, now: Instant) -> Option<&'a Queue> {
        let own = usize::try_from(lane).ok()?.checked_rem(queues.len())?;
        let (before, behind) = queues.split_at_checked(own)?;
        let free = |queue: &&Queue| !self.avoids(&queue.broker, now);
        behind.iter().chain(before).find(free).or_else(|| queues.get(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(broker: &str, id: i32) -> Queue {
        Queue { broker: Arc::from(broker), id, addr: Arc::from("x") }
    }

    #[test]
    fn the_next_broker_takes_over_until_the_first_is_back() {
        let queues = [queue("a", 0), queue("a", 1), queue("b", 0), queue("b", 1)];
        let (now, mut avoid) = (Instant::now(), Avoid::default());
        let chosen = |avoid: &Avoid, lane, at| {
            let queue = avoid.choose(&queues, lane, at).unwrap();
            format!("{}{}", queue.broker, queue.id)
        };
        assert_eq!([0, 1, 2, 7].map(|lane| chosen(&avoid, lane, now)), ["a0", "a1", "b0", "b1"]);
        avoid.failed(&queues[0].broker, now);
        assert_eq!([0, 1, 2].map(|lane| chosen(&avoid, lane, now)), ["b0", "b0", "b0"]);
        avoid.failed(&queues[2].broker, now);
        assert_eq!(chosen(&avoid, 1, now), "a1", "all are avoided: its own");
        assert_eq!(chosen(&avoid, 1, now + FAILED), "a1");
        avoid.answered(&queues[0].broker, Duration::from_millis(10), now);
        assert_eq!([0, 2].map(|lane| chosen(&avoid, lane, now)), ["a0", "a0"]);
        assert!(avoid.choose(&[], 0, now).is_none());
    }

    #[test]
    fn a_slow_broker_is_avoided_for_longer_the_slower_it_is() {
        let queues = [queue("a", 0), queue("b", 0)];
        for (took, avoided) in [(100, 0), (600, 2_000), (2_000, 5_000), (4_000, 6_000), (60_000, 30_000)] {
            let (now, mut avoid) = (Instant::now(), Avoid::default());
            avoid.answered(&queues[0].broker, Duration::from_millis(took), now);
            let at = |ms| &*avoid.choose(&queues, 0, now + Duration::from_millis(ms)).unwrap().broker == "a";
            assert!(at(avoided) && (avoided == 0 || !at(avoided - 1)), "{took} ms");
        }
    }
}
