//! Seeds of random work with crashes, against a model: what was answered is delivered, once where once was promised, in
//! order, under the same number, whatever happens between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use event::hub::{Attached, Close, Delivery, Publish, Room, SubscribeOptions};
use event::testing::MemoryStore;
use event::{ByteLimit, Guarantee};
use routing::Options;
use support::*;

/// What one subscriber is owed and has.
#[derive(Default)]
struct Subscriber {
    link: Option<Attached>,
    subscribed: bool,
    owed: Vec<String>,
    /// Text by number: a number means the same event for ever.
    seen: BTreeMap<u64, String>,
    open: Vec<u64>,
    received: Vec<u64>,
}

struct World {
    store: MemoryStore,
    core: std::sync::Arc<routing::Core>,
    subscribers: Vec<Subscriber>,
    random: Random,
    published: usize,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn tight() -> Options {
    Options { checkpoint_bytes: ByteLimit(2000), queue_memory_bytes: ByteLimit(800), ..Options::default() }
}

impl World {
    async fn new(seed: u64) -> Self {
        let store = MemoryStore::new();
        let (core, _) = start(&store, tight()).await;
        let subscribers = (0..3).map(|_| Subscriber::default()).collect();
        Self { store, core, subscribers, random: Random(seed * 2 + 1), published: 0 }
    }

    async fn step(&mut self) {
        let at = self.random.below(3) as usize;
        match self.random.below(20) {
            0..7 => self.publish().await,
            7..11 => self.take(at, 5).await,
            11..13 => self.receive(at).await,
            13..15 => self.ack(at),
            15 => self.subscribe(at).await,
            16 => self.leave(at),
            17 => self.crash().await,
            _ => self.join(at).await,
        }
    }

    async fn publish(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..=self.random.below(4) {
            let text = self.published.to_string();
            self.published += 1;
            batch.push(Publish { retain: false, ..publish(event("a/b", &text), Guarantee::ExactlyOnce) });
            for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.subscribed) {
                subscriber.owed.push(text.clone());
            }
        }
        let who = event::Principal::anonymous("tester");
        settle(event::hub::Hub::publish(&*self.core, &who, batch)).await.whole().unwrap();
    }

    async fn join(&mut self, at: usize) {
        let attached = attach(&self.core, &format!("s{at}"), FOREVER).await;
        let subscriber = &mut self.subscribers[at];
        assert_eq!(attached.present, subscriber.subscribed || attached.present);
        let mut unreleased = attached.unreleased.clone();
        unreleased.retain(|number| !subscriber.received.contains(number));
        // Acked before the crash, and the ack was not kept: it may be released once more.
        assert!(unreleased.iter().all(|number| subscriber.seen.contains_key(number)));
        subscriber.open.clear();
        subscriber.link = Some(attached);
    }

    async fn subscribe(&mut self, at: usize) {
        let subscriber = &mut self.subscribers[at];
        if let Some(attached) = &mut subscriber.link {
            subscribe(&mut *attached.link, "a/+", SubscribeOptions::new(Guarantee::ExactlyOnce)).await;
            subscriber.subscribed = true;
        }
    }

    async fn take(&mut self, at: usize, most: u16) {
        let subscriber = &mut self.subscribers[at];
        let Some(attached) = &mut subscriber.link else { return };
        // What is there, without waiting for more: the mailbox may read from the log first.
        let mut got: Vec<Delivery> = Vec::new();
        for _ in 0..20 {
            let room = Room { numbered: most, bytes: 1 << 20 };
            let ready = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(attached.link.poll_deliveries(cx, room, &mut got).is_ready())
            });
            if ready.await {
                break;
            }
            tokio::task::yield_now().await;
        }
        for delivery in got {
            let number = delivery.number.unwrap();
            let text = String::from_utf8_lossy(delivery.event.data()).into_owned();
            assert!(!subscriber.received.contains(&number), "number {number} was received and is sent again");
            match subscriber.seen.get(&number) {
                Some(known) => assert_eq!(*known, text, "number {number} means another event now"),
                None => {
                    assert!(
                        subscriber.seen.keys().all(|known| *known < number),
                        "number {number} comes too late"
                    );
                    subscriber.seen.insert(number, text);
                }
            }
            subscriber.open.push(number);
        }
    }

    async fn receive(&mut self, at: usize) {
        let subscriber = &mut self.subscribers[at];
        let Some(attached) = &mut subscriber.link else { return };
        let numbers: Vec<u64> = subscriber.open.drain(..).collect();
        attached.link.received(&numbers).await.whole().unwrap();
        subscriber.received.extend(numbers);
    }

    fn ack(&mut self, at: usize) {
        let subscriber = &mut self.subscribers[at];
        if let Some(attached) = &mut subscriber.link {
            attached.link.ack(&subscriber.received);
        }
    }

    fn leave(&mut self, at: usize) {
        let subscriber = &mut self.subscribers[at];
        subscriber.open.clear();
        if let Some(attached) = subscriber.link.take() {
            attached.link.close(Close { will: false, keep: None });
        }
    }

    async fn crash(&mut self) {
        for subscriber in &mut self.subscribers {
            // A crash runs no destructor.
            std::mem::forget(subscriber.link.take());
            subscriber.open.clear();
        }
        // Retention frees what nobody needs any more.
        self.store.free_below(self.store.needed());
        self.core = start(&self.store, tight()).await.0;
    }

    async fn finish(&mut self) {
        for at in 0..self.subscribers.len() {
            self.join(at).await;
            for _ in 0..self.published {
                self.take(at, 100).await;
                self.receive(at).await;
            }
            let subscriber = &self.subscribers[at];
            let seen: Vec<&String> = subscriber.seen.values().collect();
            assert_eq!(seen, subscriber.owed.iter().collect::<Vec<_>>(), "subscriber {at}");
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("WEFT_SIM_SEED").unwrap_or(1);
    let count = number("WEFT_SIM_SEEDS").unwrap_or(256);
    let steps = number("WEFT_SIM_STEPS").unwrap_or(120);
    for seed in first..first + count {
        let run = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut world = World::new(seed).await;
                for _ in 0..steps {
                    world.step().await;
                }
                world.finish().await;
            });
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("failed with WEFT_SIM_SEED={seed} WEFT_SIM_SEEDS=1 WEFT_SIM_STEPS={steps}");
            std::panic::resume_unwind(panic);
        }
    }
}
