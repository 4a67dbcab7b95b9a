//! Seeds of random work with a slow store, slow subscribers, floods, routes that change and crashes. After each step the
//! ledger is exact and memory within its budget, and at all times what one publisher says on a topic comes in its order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use event::admin::{Admin as _, LedgerView};
use event::hub::{
    Admission, Attach, Attached, Close, Hub as _, Outcome, Receipt, Room, Subscribe, SubscribeOptions,
};
use event::store::{Append, AppendQueue, Store};
use event::testing::{Chance, MemoryStore};
use event::{ByteLimit, Guarantee, Principal, Reject, RejectKind, TopicFilter};
use routing::{Core, Options, QueueFull, RouteOptions, TargetOptions};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const TOPICS: [&str; 3] = ["a/1", "a/2", "b/1"];
/// What all subscribers together may hold in memory.
const MEMORY: u64 = 4000;
/// What is read from the log for who takes it now stands beside that: six events at most for each of them.
const READS: u64 = 6 * 6 * 200;

/// Client, whether its session stays, and how it wants its events. The last one is of a group with the one before.
const SUBSCRIBERS: [(&str, bool, &str, Guarantee); 6] = [
    ("keeps", true, "#", ExactlyOnce),
    ("slow", true, "a/+", AtLeastOnce),
    ("passing", false, "#", AtLeastOnce),
    ("watching", false, "#", AtMostOnce),
    ("works", true, "$share/g/#", AtLeastOnce),
    ("helps", false, "$share/g/#", AtLeastOnce),
];

#[derive(Default)]
struct Subscriber {
    link: Option<Attached>,
    subscribed: bool,
    open: Vec<u64>,
    /// The last that came for the first time, by topic.
    last: BTreeMap<String, u64>,
}

/// Resolves when there is room.
type Waiting = Pin<Box<dyn Future<Output = Receipt> + Send>>;

/// A publisher waits for room before it goes on, and has batches of which it is not told yet.
#[derive(Default)]
struct Publisher {
    waiting: Option<(Waiting, usize)>,
    under_way: VecDeque<(Receipt, usize)>,
}

/// What the ledger has to say more than at the start of this life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    came: u64,
    under_way: u64,
    acked: u64,
    sent: u64,
}

struct World {
    store: MemoryStore,
    core: Arc<Core>,
    options: Options,
    remote: AppendQueue,
    /// Batches in the hands of the remote store.
    held: VecDeque<Append>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    chance: Chance,
    published: u64,
    began: Counts,
    counts: Counts,
}

fn options(seed: u64) -> Options {
    let policies = [QueueFull::DropNewest, QueueFull::DropOldest, QueueFull::Disconnect, QueueFull::Wait];
    let queue_full = policies[seed as usize % policies.len()];
    Options {
        checkpoint_bytes: ByteLimit(3000),
        queue_memory_bytes: ByteLimit(600),
        queue_events: 12,
        queue_full,
        live_bytes: ByteLimit(700),
        live_wait_ms: 0,
        memory_bytes: ByteLimit(MEMORY),
        ..Options::default()
    }
}

/// The tables that routes change between.
fn routes(which: u64) -> Vec<RouteOptions> {
    let of = |topic: &str| RouteOptions::new(TopicFilter::parse(topic.to_owned()).unwrap());
    let named = |name: &str, rule| RouteOptions { name: Some(name.to_owned()), ..rule };
    let far = TargetOptions { store: Some("far".to_owned()), ..TargetOptions::default() };
    let copy = TargetOptions { topic: Some("copies/{topic}".to_owned()), ..TargetOptions::default() };
    match which {
        0 => vec![named("as", of("a/#"))],
        1 => vec![RouteOptions { store: "far".to_owned(), ..named("as", of("a/1")) }],
        2 => vec![RouteOptions { to: vec![far, TargetOptions::default()], ..named("both", of("b/#")) }],
        _ => vec![RouteOptions { to: vec![copy], copy: true, ..named("copies", of("+/1")) }],
    }
}

fn far() -> (Vec<(String, Store)>, AppendQueue) {
    let (store, ends) = event::store::store(ByteLimit::kib(2), 4);
    (vec![("far".to_owned(), store)], ends.appends)
}

impl World {
    async fn new(seed: u64) -> Self {
        let (store, options) = (MemoryStore::new(), options(seed));
        let (remotes, remote) = far();
        let (handle, feed) = store.open();
        let core = Core::recover(options.clone(), &routes(0), handle, feed, remotes).await.unwrap().0;
        Self {
            store,
            core,
            options,
            remote,
            held: VecDeque::new(),
            publishers: (0..2).map(|_| Publisher::default()).collect(),
            subscribers: SUBSCRIBERS.iter().map(|_| Subscriber::default()).collect(),
            chance: Chance(seed),
            published: 0,
            began: Counts::default(),
            counts: Counts::default(),
        }
    }

    async fn step(&mut self) {
        let at = self.chance.below(SUBSCRIBERS.len() as u64) as usize;
        let publisher = self.chance.below(2) as usize;
        match self.chance.below(32) {
            0..8 => self.publish(publisher, 4),
            // A flood.
            8 => self.publish(publisher, 60),
            9..12 => self.answer_far(),
            12..18 => self.take(at).await,
            18..22 => self.ack(at),
            22 => self.leave(at),
            23 => self.unsubscribe(at).await,
            24 => {
                self.core.set_routes(&routes(self.chance.below(4)), |_| unreachable!("it is open")).unwrap()
            }
            25 if self.chance.below(4) == 0 => self.crash().await,
            26 if self.chance.below(2) == 0 => self.store.refuse(Some(Reject::new(RejectKind::Busy, "full"))),
            26 | 27 => self.store.refuse(None),
            _ => self.join(at).await,
        }
        self.poll_publishers().await;
    }

    fn publish(&mut self, at: usize, most: u64) {
        if self.publishers[at].waiting.is_some() {
            return;
        }
        let count = 1 + self.chance.below(most);
        let guarantee = [AtMostOnce, AtLeastOnce, ExactlyOnce][self.chance.below(3) as usize];
        let who = format!("p{at}");
        let batch: Vec<_> = (0..count)
            .map(|_| {
                let topic = TOPICS[self.chance.below(3) as usize];
                self.published += 1;
                publish(event_by(&who, topic, &self.published.to_string()), guarantee)
            })
            .collect();
        self.counts.came += count;
        match self.core.publish(&Principal::anonymous(who.as_str()), batch) {
            Admission::Admitted(receipt) => {
                self.publishers[at].under_way.push_back((receipt, count as usize));
            }
            Admission::Waiting(room) => self.publishers[at].waiting = Some((room, count as usize)),
        }
    }

    /// Lets publishers see what became of their batches, as far as that is known.
    async fn poll_publishers(&mut self) {
        for _ in 0..3 {
            for publisher in &mut self.publishers {
                if let Some((room, count)) = &mut publisher.waiting
                    && let Poll::Ready(receipt) = poll_fn(|cx| Poll::Ready(room.as_mut().poll(cx))).await
                {
                    let count = *count;
                    publisher.waiting = None;
                    publisher.under_way.push_back((receipt, count));
                }
                let mut waits = VecDeque::new();
                for (mut receipt, count) in publisher.under_way.drain(..) {
                    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut receipt).poll(cx))).await;
                    if polled.is_pending() {
                        waits.push_back((receipt, count));
                    }
                }
                publisher.under_way = waits;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The remote store takes what came, and answers some of it.
    fn answer_far(&mut self) {
        let mut came = Vec::new();
        self.remote.take_ready(&mut came, 8);
        self.held.extend(came);
        for _ in 0..self.chance.below(4) {
            let Some(append) = self.held.pop_front() else { return };
            let outcome = match self.chance.below(4) {
                0 => Outcome::Refused(Reject::new(RejectKind::Unavailable, "away")),
                _ => Outcome::Kept,
            };
            if let Some(receipt) = append.receipt {
                receipt.resolve(outcome);
            }
        }
    }

    async fn join(&mut self, at: usize) {
        let (client, durable, filter, guarantee) = SUBSCRIBERS[at];
        let keep = if durable { FOREVER } else { Duration::ZERO };
        let request = Attach { keep, ..Attach::default() };
        let attached = self.core.attach(Principal::anonymous(client), request).await;
        let subscriber = &mut self.subscribers[at];
        subscriber.open.clear();
        subscriber.subscribed &= durable;
        // The store may have no room for the record.
        subscriber.link = attached.ok();
        let Some(attached) = &mut subscriber.link else { return };
        if !subscriber.subscribed && self.chance.below(4) > 0 {
            let wanted = Subscribe::new(
                TopicFilter::parse(filter.to_owned()).unwrap(),
                SubscribeOptions::new(guarantee),
            );
            subscriber.subscribed = attached.link.subscribe(vec![wanted]).await.is_ok();
        }
    }

    async fn unsubscribe(&mut self, at: usize) {
        let (.., filter, _) = SUBSCRIBERS[at];
        let subscriber = &mut self.subscribers[at];
        if let Some(attached) = &mut subscriber.link {
            let filter = TopicFilter::parse(filter.to_owned()).unwrap();
            subscriber.subscribed &= attached.link.unsubscribe(vec![filter]).await.is_err();
        }
    }

    async fn take(&mut self, at: usize) {
        let (client, _, filter, _) = SUBSCRIBERS[at];
        let subscriber = &mut self.subscribers[at];
        let Some(attached) = &mut subscriber.link else { return };
        let most = 1 + self.chance.below(6) as u16;
        let mut out = Vec::new();
        for _ in 0..4 {
            let room = Room { numbered: most, bytes: 300 };
            let polled = poll_fn(|cx| Poll::Ready(attached.link.poll_deliveries(cx, room, &mut out))).await;
            match polled {
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(_)) => {
                    // Its queue was full: it is told to go.
                    subscriber.link = None;
                    subscriber.open.clear();
                    break;
                }
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        for delivery in out {
            match delivery.number {
                Some(number) => subscriber.open.push(number),
                None => self.counts.sent += 1,
            }
            let number: u64 = texts(std::slice::from_ref(&delivery))[0].parse().unwrap();
            let publisher = delivery.event.publisher();
            let lane = if delivery.number.is_some() { "numbered" } else { "live" };
            let key = format!("{lane} {publisher} {}", delivery.event.topic());
            // Others of the group may have had what is in between, and give it back.
            if !delivery.again && !filter.starts_with("$share") {
                let last = subscriber.last.insert(key.clone(), number).unwrap_or(0);
                assert!(last < number, "{client}: {number} after {last} ({key})");
            }
        }
    }

    fn ack(&mut self, at: usize) {
        let subscriber = &mut self.subscribers[at];
        let Some(attached) = &mut subscriber.link else { return };
        let most = self.chance.below(4) as usize;
        let numbers: Vec<u64> = subscriber.open.drain(..most.min(subscriber.open.len())).collect();
        attached.link.ack(&numbers);
        self.counts.acked += numbers.len() as u64;
    }

    fn leave(&mut self, at: usize) {
        if let Some(attached) = self.subscribers[at].link.take() {
            attached.link.close(Close { will: false, keep: None });
            self.subscribers[at].open.clear();
            self.subscribers[at].subscribed &= SUBSCRIBERS[at].1;
        }
    }

    async fn crash(&mut self) {
        for (subscriber, (_, durable, ..)) in self.subscribers.iter_mut().zip(SUBSCRIBERS) {
            // A crash runs no destructor.
            std::mem::forget(subscriber.link.take());
            subscriber.open.clear();
            subscriber.subscribed &= durable;
            // What comes again after it may be told as new.
            subscriber.last.clear();
        }
        for publisher in &mut self.publishers {
            std::mem::forget(std::mem::take(publisher));
        }
        self.held.clear();
        self.store.refuse(None);
        self.store.free_below(self.store.needed());
        let (remotes, remote) = far();
        let (handle, feed) = self.store.open();
        let which = self.chance.below(4);
        let core = Core::recover(self.options.clone(), &routes(which), handle, feed, remotes).await;
        (self.core, self.remote) = (core.unwrap().0, remote);
        self.began = self.ledger();
        self.counts = Counts::default();
    }

    /// What the ledger says, of all routes together.
    fn ledger(&self) -> Counts {
        let mut sum = Counts::default();
        for LedgerView { came, under_way, ends, .. } in self.core.ledger() {
            let of = |name: &str| ends.iter().find(|(end, _)| *end == name).map_or(0, |(_, count)| *count);
            sum.came += came;
            sum.under_way += under_way;
            sum.acked += of("acked");
            sum.sent += of("sent");
        }
        sum
    }

    /// The ledger is exact, and memory within its budget.
    fn check(&self) {
        self.core.check_ledger().unwrap();
        let now = self.ledger();
        // Who waits for slow readers may have an answer to come.
        let waiting = self.publishers.iter().filter_map(|publisher| publisher.waiting.as_ref());
        let waiting: usize = waiting.map(|(_, count)| count).sum();
        let told = self.publishers.iter().flat_map(|publisher| &publisher.under_way);
        let told: usize = told.map(|(_, count)| count).sum();
        assert!((told..=told + waiting).contains(&(now.under_way as usize)), "{:?}", self.core.ledger());
        let expected = Counts {
            came: self.began.came + self.counts.came,
            under_way: now.under_way,
            acked: self.began.acked + self.counts.acked,
            sent: self.began.sent + self.counts.sent,
        };
        assert_eq!(now, expected, "{:?}", self.core.ledger());
        let memory = self.core.memory_bytes() as u64;
        assert!(memory <= MEMORY + READS, "{memory} B");
    }
}

#[test]
fn the_ledger_is_exact_and_memory_bounded_whatever_happens() {
    seeds(160, |seed, steps| async move {
        let mut world = World::new(seed).await;
        for _ in 0..steps {
            world.step().await;
            world.check();
        }
    });
}
