//! What waits to be sent, sans-io. A lane is a share of one RocketMQ topic: events of one topic are always in the same
//! lane, and one request of a lane is out at a time, so their order holds whatever fails. While it is out, what comes
//! in joins the next one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remoting::BatchEntry;

/// Lanes of one topic. More than queues of most topics, so that all queues get something.
pub(crate) const LANES: u64 = 16;

/// Messages of one request: an answer names each of them.
const BATCH_MESSAGES: usize = 128;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after failures: what a broker that is back may cost at most.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Messages that wait, with what the caller wants back when they are done.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    lanes: BTreeMap<Lane, Queue<T>>,
    batch_bytes: usize,
    alone_above: usize,
    bytes: usize,
    count: usize,
}

/// Names a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    /// The RocketMQ topic.
    pub(crate) topic: Arc<str>,
    /// Which of its lanes.
    pub(crate) number: u64,
}

/// A message and what its sender wants back.
#[derive(Debug)]
pub(crate) struct Item<T> {
    /// The message.
    pub(crate) message: BatchEntry,
    /// Given back when it is sent, refused or late; `None`: it was late while its request was out, which may still be carried out.
    pub(crate) ticket: Option<T>,
    /// When it is late, if ever.
    pub(crate) deadline: Option<Instant>,
    /// It goes in a request of its own.
    pub(crate) alone: bool,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<Item<T>>,
    /// How many at the front are in the request that is out.
    out: usize,
    /// How many at the front have to go one by one, to find the one that is refused.
    single: usize,
    failures: u32,
    ready_at: Option<Instant>,
    /// Since when RocketMQ refuses the lane for a cause that may pass.
    refused_since: Option<Instant>,
}

impl<T> Outbox<T> {
    /// With requests of at most `batch_bytes`; a larger message goes alone, and so does one with a body above
    /// `alone_above`.
    pub(crate) fn new(batch_bytes: usize, alone_above: usize) -> Self {
        Self { lanes: BTreeMap::new(), batch_bytes, alone_above, bytes: 0, count: 0 }
    }

    /// Appends to a lane.
    pub(crate) fn push(&mut self, lane: Lane, item: Item<T>) {
        self.bytes += item.message.len();
        self.count += 1;
        let queue = self.lanes.entry(lane).or_insert_with(|| Queue {
            items: VecDeque::new(),
            out: 0,
            single: 0,
            failures: 0,
            ready_at: None,
            refused_since: None,
        });
        queue.items.push_back(item);
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages wait.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The next request: a lane whose turn it is, and its messages. It is out until [`Self::sent`], [`Self::failed`] or
    /// [`Self::refused`].
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<(Lane, Vec<BatchEntry>)> {
        let (batch_bytes, alone_above) = (self.batch_bytes, self.alone_above);
        let ready = |queue: &Queue<T>| queue.out == 0 && queue.ready_at.is_none_or(|at| at <= now);
        let (lane, queue) = self.lanes.iter_mut().find(|(_, queue)| ready(queue))?;
        let most = if queue.single > 0 { 1 } else { BATCH_MESSAGES };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for item in queue.items.iter().take(most) {
            bytes += item.message.len();
            let alone = item.alone || item.message.body.len() > alone_above;
            if !messages.is_empty() && (alone || bytes > batch_bytes) {
                break;
            }
            messages.push(item.message.clone());
            if alone {
                break;
            }
        }
        queue.out = messages.len();
        Some((lane.clone(), messages))
    }

    /// The request of `lane` is done. Gives the tickets of its messages, in order.
    pub(crate) fn sent(&mut self, lane: &Lane) -> Vec<T> {
        let Some(queue) = self.lanes.get_mut(lane) else { return Vec::new() };
        queue.failures = 0;
        queue.ready_at = None;
        queue.refused_since = None;
        let out = std::mem::take(&mut queue.out);
        queue.single = queue.single.saturating_sub(out);
        let done: Vec<Item<T>> = queue.items.drain(..out).collect();
        self.forget(lane, done)
    }

    /// The request of `lane` failed: it is its turn again after a pause of at least `least`.
    pub(crate) fn failed(&mut self, lane: &Lane, now: Instant, least: Duration) {
        let Some(queue) = self.lanes.get_mut(lane) else { return };
        queue.out = 0;
        let (late, left): (Vec<_>, Vec<_>) = queue.items.drain(..).partition(|item| item.ticket.is_none());
        queue.items = left.into();
        let pause = FIRST_PAUSE.saturating_mul(1 << queue.failures.min(10)).min(LAST_PAUSE).max(least);
        queue.failures += 1;
        queue.ready_at = Some(now + pause);
        self.forget(lane, late);
    }

    /// The request of `lane` failed as RocketMQ refuses it for a cause that may pass. Gives the tickets of its messages if
    /// that lasts for `patience`, or if they take room that others need (`crowded`); else it is its turn again after a pause.
    pub(crate) fn put_off(&mut self, lane: &Lane, now: Instant, patience: Duration, crowded: bool) -> Vec<T> {
        self.failed(lane, now, Duration::ZERO);
        let Some(queue) = self.lanes.get_mut(lane) else { return Vec::new() };
        let since = *queue.refused_since.get_or_insert(now);
        if now - since < patience && !crowded {
            return Vec::new();
        }
        queue.single = 0;
        let given_up: Vec<Item<T>> = queue.items.drain(..).collect();
        self.forget(lane, given_up)
    }

    /// The broker refuses the request of `lane` for what is in it. Gives the ticket of the message if it was a single
    /// one; else its messages go one by one.
    pub(crate) fn refused(&mut self, lane: &Lane) -> Option<T> {
        let queue = self.lanes.get_mut(lane)?;
        if queue.out > 1 {
            queue.single = std::mem::take(&mut queue.out);
            return None;
        }
        self.sent(lane).pop()
    }

    /// Takes back what is late. What is out stays in its request, but nobody waits for it any more.
    pub(crate) fn take_late(&mut self, now: Instant) -> Vec<T> {
        let is_late = |item: &Item<T>| item.deadline.is_some_and(|deadline| deadline <= now);
        let (mut tickets, mut late) = (Vec::new(), Vec::new());
        for queue in self.lanes.values_mut() {
            let out = queue.items.iter_mut().take(queue.out).filter(|item| is_late(item));
            tickets.extend(out.filter_map(|item| item.ticket.take()));
            let mut at = queue.out;
            while let Some(item) = queue.items.get(at) {
                if is_late(item) {
                    late.extend(queue.items.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        tickets.extend(self.count_off(late));
        self.lanes.retain(|_, queue| !queue.items.is_empty());
        tickets
    }

    /// No lane pauses any more: brokers are back.
    pub(crate) fn end_pauses(&mut self) {
        for queue in self.lanes.values_mut() {
            queue.ready_at = None;
        }
    }

    /// When a pause ends or something is late, whichever is first.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let first = |queue: &Queue<T>| queue.items.iter().find(|item| item.ticket.is_some())?.deadline;
        let ready = |queue: &Queue<T>| queue.ready_at.filter(|_| queue.out == 0);
        self.lanes.values().flat_map(|queue| [ready(queue), first(queue)]).flatten().min()
    }

    fn forget(&mut self, lane: &Lane, done: Vec<Item<T>>) -> Vec<T> {
        if self.lanes.get(lane).is_some_and(|queue| queue.items.is_empty()) {
            self.lanes.remove(lane);
        }
        self.count_off(done)
    }

    fn count_off(&mut self, done: Vec<Item<T>>) -> Vec<T> {
        self.count -= done.len();
        self.bytes -= done.iter().map(|item| item.message.len()).sum::<usize>();
        done.into_iter().filter_map(|item| item.ticket).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn lane(number: u64) -> Lane {
        Lane { topic: Arc::from("T"), number }
    }

    fn item(ticket: u32, deadline: Option<Instant>) -> Item<u32> {
        let message = BatchEntry { body: Bytes::from(ticket.to_string()), properties: "".into() };
        Item { message, ticket: Some(ticket), deadline, alone: false }
    }

    fn bodies(messages: &[BatchEntry]) -> Vec<u32> {
        messages.iter().map(|message| std::str::from_utf8(&message.body).unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn one_request_of_a_lane_is_out_and_the_rest_joins_the_next() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(1000, usize::MAX));
        outbox.push(lane(0), item(1, None));
        assert_eq!(bodies(&outbox.next_request(now).unwrap().1), [1]);
        outbox.push(lane(0), item(2, None));
        outbox.push(lane(0), item(3, None));
        assert!(outbox.next_request(now).is_none());
        outbox.push(lane(1), item(4, None));
        assert_eq!(bodies(&outbox.next_request(now).unwrap().1), [4]);
        assert_eq!(outbox.sent(&lane(0)), [1]);
        assert_eq!(bodies(&outbox.next_request(now).unwrap().1), [2, 3]);
        assert_eq!((outbox.sent(&lane(0)), outbox.sent(&lane(1))), (vec![2, 3], vec![4]));
        assert_eq!((outbox.count(), outbox.bytes(), outbox.lanes.len()), (0, 0, 0));
    }

    #[test]
    fn requests_have_a_limit_and_a_large_message_goes_alone() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(50, usize::MAX));
        for ticket in 1..=3 {
            outbox.push(lane(0), item(ticket, None));
        }
        assert_eq!(bodies(&outbox.next_request(now).unwrap().1), [1, 2]);
        outbox.sent(&lane(0));
        let large = BatchEntry { body: Bytes::from(vec![b'0'; 100]), properties: "".into() };
        outbox.push(lane(1), Item { message: large, ticket: Some(9), deadline: None, alone: false });
        outbox.next_request(now).unwrap();
        assert_eq!(outbox.next_request(now).unwrap().1.len(), 1);
    }

    #[test]
    fn what_goes_alone_keeps_its_place() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(1000, usize::MAX));
        for (ticket, alone) in [(1, false), (2, false), (3, true), (4, true), (5, false)] {
            outbox.push(lane(0), Item { alone, ..item(ticket, None) });
        }
        let mut requests = Vec::new();
        while let Some((lane, messages)) = outbox.next_request(now) {
            requests.push(bodies(&messages));
            outbox.sent(&lane);
        }
        assert_eq!(requests, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn what_failed_goes_again_before_what_is_behind_it() {
        let (mut now, mut outbox) = (Instant::now(), Outbox::new(1000, usize::MAX));
        outbox.push(lane(0), item(1, None));
        outbox.next_request(now).unwrap();
        outbox.push(lane(0), item(2, None));
        for pause_ms in [50, 100, 200, 400, 800, 1000, 1000] {
            outbox.failed(&lane(0), now, Duration::ZERO);
            assert_eq!(outbox.next_timeout(), Some(now + Duration::from_millis(pause_ms)));
            assert!(outbox.next_request(now).is_none());
            now += Duration::from_millis(pause_ms);
            assert_eq!(bodies(&outbox.next_request(now).unwrap().1), [1, 2]);
        }
        outbox.failed(&lane(0), now, Duration::ZERO);
        outbox.end_pauses();
        assert!(outbox.next_request(now).is_some());
    }

    #[test]
    fn what_is_to_be_compressed_goes_alone() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(1000, 1));
        for ticket in [1, 2, 33, 4, 5] {
            outbox.push(lane(0), item(ticket, None));
        }
        let mut requests = Vec::new();
        while let Some((lane, messages)) = outbox.next_request(now) {
            requests.push(bodies(&messages));
            outbox.sent(&lane);
        }
        assert_eq!(requests, [vec![1, 2], vec![33], vec![4, 5]]);
    }

    #[test]
    fn a_refused_message_is_found_and_nothing_else_is_lost() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(1000, usize::MAX));
        for ticket in 1..=4 {
            outbox.push(lane(0), item(ticket, None));
        }
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        while let Some((lane, messages)) = outbox.next_request(now) {
            if bodies(&messages).contains(&2) {
                refused.extend(outbox.refused(&lane));
            } else {
                sent.extend(outbox.sent(&lane));
            }
        }
        assert_eq!((sent, refused), (vec![1, 3, 4], vec![2]));
    }

    #[test]
    fn what_is_refused_for_long_or_is_in_the_way_is_given_up() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(1000, usize::MAX));
        let patience = Duration::from_secs(60);
        outbox.push(lane(0), item(1, None));
        outbox.next_request(now).unwrap();
        outbox.push(lane(0), item(2, None));
        assert_eq!(outbox.put_off(&lane(0), now, patience, false), [0_u32; 0]);
        let later = now + patience;
        assert_eq!(bodies(&outbox.next_request(later).unwrap().1), [1, 2]);
        assert_eq!(outbox.put_off(&lane(0), later, patience, false), [1, 2]);
        assert_eq!((outbox.count(), outbox.lanes.len()), (0, 0));
        outbox.push(lane(0), item(3, None));
        outbox.next_request(later).unwrap();
        assert_eq!(outbox.put_off(&lane(0), later, patience, false), [0_u32; 0], "its patience is its own");
        outbox.end_pauses();
        outbox.next_request(later).unwrap();
        assert_eq!(outbox.put_off(&lane(0), later, patience, true), [3]);
    }

    #[test]
    fn what_is_late_is_given_back_and_not_sent_again() {
        let (now, mut outbox) = (Instant::now(), Outbox::new(25, usize::MAX));
        let soon = now + Duration::from_millis(10);
        for (number, fails) in [(0, true), (1, false)] {
            outbox.push(lane(number), item(1, Some(soon)));
            outbox.push(lane(number), item(2, Some(soon)));
            outbox.push(lane(number), item(3, None));
            outbox.next_request(now).unwrap();
            assert_eq!((outbox.next_timeout(), outbox.take_late(now)), (Some(soon), vec![]));
            assert_eq!(outbox.take_late(soon), [1, 2], "also that which is out");
            assert_eq!((outbox.take_late(soon), outbox.next_timeout()), (vec![], None));
            assert_eq!(outbox.count(), 2, "the request that is out takes its room");
            if fails {
                outbox.failed(&lane(number), now, Duration::ZERO);
                outbox.end_pauses();
            } else {
                assert_eq!(outbox.sent(&lane(number)), [0_u32; 0]);
            }
            assert_eq!(bodies(&outbox.next_request(now).unwrap().1), [3]);
            assert_eq!((outbox.sent(&lane(number)), outbox.count(), outbox.bytes()), (vec![3], 0, 0));
        }
    }

    proptest! {
        /// Whatever fails, each lane's messages are done once and in order.
        #[test]
        fn order_holds(steps in proptest::collection::vec((0..6_u8, 0..3_u64), 1..300)) {
            let (mut now, mut outbox) = (Instant::now(), Outbox::new(100, usize::MAX));
            let mut next = 0;
            let mut done: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            let mut out: Vec<Lane> = Vec::new();
            for (step, number) in steps {
                match step {
                    0 | 1 => { next += 1; outbox.push(lane(number), item(next, None)); }
                    2 => out.extend(outbox.next_request(now).map(|(lane, _)| lane)),
                    3 if !out.is_empty() => outbox.failed(&out.remove(0), now, Duration::ZERO),
                    4 if !out.is_empty() => {
                        let lane = out.remove(0);
                        let sent = outbox.sent(&lane);
                        done.entry(lane.number).or_default().extend(sent);
                    }
                    _ => now += Duration::from_millis(500),
                }
            }
            for lane in out { outbox.failed(&lane, now, Duration::ZERO); }
            outbox.end_pauses();
            while let Some((lane, _)) = outbox.next_request(now) {
                let sent = outbox.sent(&lane);
                done.entry(lane.number).or_default().extend(sent);
            }
            prop_assert!(done.values().all(|tickets| tickets.is_sorted()));
            prop_assert_eq!(done.values().map(Vec::len).sum::<usize>() as u32, next);
            prop_assert_eq!((outbox.count(), outbox.bytes()), (0, 0));
        }
    }
}
