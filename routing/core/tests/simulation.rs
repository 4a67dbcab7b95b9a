//! Seeds of random work with crashes, against a model: what was answered is delivered, once where once was promised, in
//! order, under the same number, whatever happens between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use event::admin::Admin as _;
use event::hub::{Attached, Close, Publish, SubscribeOptions};
use event::testing::{Chance, MemoryStore};
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
    chance: Chance,
    published: usize,
}

fn tight() -> Options {
    Options { checkpoint_bytes: ByteLimit(2000), queue_memory_bytes: ByteLimit(800), ..Options::default() }
}

impl World {
    async fn new(seed: u64) -> Self {
        let store = MemoryStore::new();
        let (core, _) = start(&store, tight()).await;
        let subscribers = (0..3).map(|_| Subscriber::default()).collect();
        Self { store, core, subscribers, chance: Chance(seed), published: 0 }
    }

    async fn step(&mut self) {
        let at = self.chance.below(3) as usize;
        match self.chance.below(20) {
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
        for _ in 0..=self.chance.below(4) {
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
        let got = ready(&mut *attached.link, most).await;
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

    /// What the ledger says after each step, also after a crash.
    fn check_ledger(&self) {
        self.core.check_ledger().unwrap();
        let owed: usize = self.subscribers.iter().map(|subscriber| subscriber.owed.len()).sum();
        let ledger = self.core.ledger();
        let book = ledger.iter().find(|view| view.route == "(none)");
        assert_eq!(book.map_or(0, |book| book.owed), owed as u64, "{ledger:?}");
        let ended = book.map_or(0, |book| book.ends.iter().map(|(_, count)| count).sum());
        let acked = book.map_or(0, |book| book.ends.iter().find(|(how, _)| *how == "acked").unwrap().1);
        assert_eq!(acked, ended, "{ledger:?}");
        // All that came is kept. What came since the last checkpoint is forgotten with a crash.
        let came = book.map_or(0, |book| book.came);
        let kept = book.map_or(0, |book| book.fates.iter().find(|(how, _)| *how == "kept").unwrap().1);
        let known =
            kept + book.map_or(0, |book| book.fates.iter().find(|(how, _)| *how == "unanswered").unwrap().1);
        assert!(came == known && came <= self.published as u64, "{ledger:?}");
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
    seeds(120, |seed, steps| async move {
        let mut world = World::new(seed).await;
        for _ in 0..steps {
            world.step().await;
            world.check_ledger();
        }
        world.finish().await;
    });
}
