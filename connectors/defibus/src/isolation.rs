//! Queues that take no more for a while, and which queue takes what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a queue is avoided after it refused a message, as DeFiBus' own client does. Brokers measure again every 30 s.
const ISOLATED: Duration = Duration::from_secs(60);

/// Queues that refused messages: circuit break.
#[derive(Debug, Default)]
pub struct Isolation {
    until: BTreeMap<(Arc<str>, i32), Instant>,
}

impl Isolation {
    /// The queue `id` of `broker` takes no more.
    pub fn isolate(&mut self, broker: &Arc<str>, id: i32, now: Instant) {
        self.until.retain(|_, until| *until > now);
        self.until.insert((Arc::clone(broker), id), now + ISOLATED);
    }

    /// The queue took a message: it is used again. Tells whether it was avoided.
    pub fn release(&mut self, broker: &Arc<str>, id: i32) -> bool {
        !self.until.is_empty() && self.until.remove(&(Arc::clone(broker), id)).is_some()
    }

    /// Whether the queue is to be avoided.
    pub fn is_isolated(&self, broker: &Arc<str>, id: i32, now: Instant) -> bool {
        !self.until.is_empty() && self.until.get(&(Arc::clone(broker), id)).is_some_and(|until| *until > now)
    }
}

/// What is known of a queue when one has to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// It is in our own IDC.
    pub near: bool,
    /// It took no more lately.
    pub isolated: bool,
}

/// Which of `queues` takes what belongs at `place`, the same for the same place as long as queues stay as they are. Queues
/// of our own IDC come first, whole ones before isolated ones. `None`: there is no queue.
pub fn choose(queues: &[Candidate], place: usize) -> Option<usize> {
    let wishes: [fn(&Candidate) -> bool; 4] =
        [|q| q.near && !q.isolated, |q| !q.isolated, |q| q.near, |_| true];
    wishes.into_iter().find_map(|wish| {
        let fit: Vec<usize> = (0..queues.len()).filter(|at| queues.get(*at).is_some_and(wish)).collect();
        fit.get(place.checked_rem(fit.len())?).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_open_queues_come_first() {
        let queue = |near, isolated| Candidate { near, isolated };
        let all = [queue(false, false), queue(true, false), queue(true, false)];
        assert_eq!([0, 1, 2].map(|place| choose(&all, place)), [1, 2, 1].map(Some));
        let broken = [queue(false, false), queue(true, true), queue(true, false)];
        assert_eq!([0, 1].map(|place| choose(&broken, place)), [2, 2].map(Some));
        let far = [queue(false, false), queue(true, true), queue(true, true)];
        assert_eq!(choose(&far, 7), Some(0));
        assert_eq!(choose(&[queue(false, true), queue(true, true)], 0), Some(1));
        assert_eq!(choose(&[], 0), None);
    }

    #[test]
    fn a_queue_is_avoided_for_a_minute() {
        let (now, broker, mut isolation) = (Instant::now(), Arc::from("a"), Isolation::default());
        isolation.isolate(&broker, 1, now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!([0, 59, 60].map(|s| isolation.is_isolated(&broker, 1, at(s))), [true, true, false]);
        assert!(!isolation.is_isolated(&broker, 0, now));
        assert_eq!((isolation.release(&broker, 1), isolation.release(&broker, 1)), (true, false));
        assert!(!isolation.is_isolated(&broker, 1, now));
    }
}
