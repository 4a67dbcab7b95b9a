//! Seeds of random work with replays, lost connections and crashes, against a model: a subscriber that started in the past has
//! all that was published from there on, in the order of the log, each once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Attached, Close, Hub, Publish, Subscribe, SubscribeOptions};
use event::store::Position;
use event::testing::{Chance, MemoryStore};
use event::{ByteLimit, Guarantee, Principal, Start};
use routing::{Core, Options};
use support::*;

/// One subscriber: the first is durable, the second ends with its connection.
#[derive(Default)]
struct Reader {
    link: Option<Attached>,
    /// The events it is owed, by their place in what was published; `None`: it did not subscribe.
    owed_from: Option<usize>,
    /// Where the log was then.
    as_of: Position,
    got: Vec<usize>,
    /// What a number means.
    numbers: BTreeMap<u64, usize>,
}

struct World {
    store: MemoryStore,
    core: Arc<Core>,
    readers: [Reader; 2],
    chance: Chance,
    published: usize,
    /// What retention took, by place in what was published.
    freed: BTreeMap<usize, Position>,
    guarantee: Guarantee,
}

fn tight() -> Options {
    Options { checkpoint_bytes: ByteLimit(3000), queue_memory_bytes: ByteLimit(2000), ..Options::default() }
}

impl World {
    async fn new(seed: u64) -> Self {
        let store = MemoryStore::new();
        let (core, _) = start(&store, tight()).await;
        let mut chance = Chance(seed);
        let guarantee = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce][chance.below(2) as usize];
        let mut world = Self {
            store,
            core,
            readers: Default::default(),
            chance,
            published: 0,
            freed: BTreeMap::new(),
            guarantee,
        };
        for _ in 0..world.chance.below(40) {
            world.publish().await;
        }
        world
    }

    async fn step(&mut self) {
        let at = self.chance.below(2) as usize;
        match self.chance.below(20) {
            0..8 => self.publish().await,
            8..13 => self.take(at).await,
            13..15 => self.subscribe(at).await,
            15 => self.leave(at),
            16 => self.crash().await,
            _ => self.join(at).await,
        }
    }

    /// Events on two topics that are wanted, and on one that is not.
    async fn publish(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..=self.chance.below(20) {
            let text = self.published.to_string();
            self.published += 1;
            let topic = ["a/1", "a/2"][self.chance.below(2) as usize];
            batch.push(publish(event(topic, &text), Guarantee::ExactlyOnce));
            if self.chance.below(3) == 0 {
                batch.push(Publish { ..publish(event("other", "x"), Guarantee::AtLeastOnce) });
            }
        }
        settle(self.core.publish(&Principal::anonymous("tester"), batch)).await.whole().unwrap();
    }

    async fn join(&mut self, at: usize) {
        let keep = [FOREVER, Duration::ZERO][at];
        let attached = attach(&self.core, ["durable", "passing"][at], keep).await;
        let reader = &mut self.readers[at];
        if !attached.present {
            *reader = Reader::default();
        }
        reader.link = Some(attached);
    }

    /// The wanted events that the log holds.
    fn events(&self) -> Vec<(Position, usize)> {
        let records = self.store.records();
        let events = records.iter().filter_map(|record| Some((record.position, record.event.as_ref()?)));
        let wanted = events.filter(|(_, event)| event.topic().as_str() != "other");
        wanted
            .map(|(position, event)| (position, String::from_utf8_lossy(event.data()).parse().unwrap()))
            .collect()
    }

    /// Starts at the beginning, or behind an event that lies somewhere in the log.
    async fn subscribe(&mut self, at: usize) {
        let events = self.events();
        let (from, start) = match self.chance.below(3) {
            0 => (events.first().map_or(self.published, |(_, number)| *number), Start::All),
            _ if events.is_empty() => (self.published, Start::All),
            _ => {
                let (position, number) = events[self.chance.below(events.len() as u64) as usize];
                (number + 1, Start::Behind(position))
            }
        };
        let reader = &mut self.readers[at];
        let Some(attached) = reader.link.as_mut().filter(|_| reader.owed_from.is_none()) else { return };
        let wish = |text| Subscribe {
            replay: Some(start),
            ..Subscribe::new(filter(text), SubscribeOptions::new(self.guarantee))
        };
        for granted in attached.link.subscribe(vec![wish("a/1"), wish("+/2")]).await.unwrap() {
            reader.as_of = granted.unwrap().as_of;
        }
        reader.owed_from = Some(from);
    }

    async fn take(&mut self, at: usize) {
        let most = 1 + self.chance.below(30) as u16;
        let keeps = self.chance.below(4) == 0;
        let reader = &mut self.readers[at];
        let Some(attached) = &mut reader.link else { return };
        let got = ready(&mut *attached.link, most).await;
        for delivery in &got {
            let text: usize = String::from_utf8_lossy(delivery.event.data()).parse().unwrap();
            match reader.numbers.insert(delivery.number.unwrap(), text) {
                Some(known) => assert_eq!(known, text, "a number means another event now"),
                None => reader.got.push(text),
            }
        }
        // Some are left open: they come again in the next connection, under their numbers.
        let numbers = numbers(&got);
        attached.link.ack(&numbers[..numbers.len() - usize::from(keeps && !numbers.is_empty())]);
    }

    fn leave(&mut self, at: usize) {
        if let Some(attached) = self.readers[at].link.take() {
            attached.link.close(Close { will: false, keep: None });
        }
    }

    async fn crash(&mut self) {
        for reader in &mut self.readers {
            // A crash runs no destructor.
            std::mem::forget(reader.link.take());
        }
        // Retention takes all that is not needed: of the past of a replay as well, but nothing that came since it was asked for.
        let needed = self.store.needed();
        let freed = self.events().into_iter().filter(|(position, _)| *position < needed);
        self.freed.extend(freed.map(|(position, number)| (number, position)));
        self.store.free_below(needed);
        self.core = start(&self.store, tight()).await.0;
    }

    async fn finish(&mut self) {
        for at in 0..2 {
            if at == 0 || self.readers[at].link.is_none() {
                self.join(at).await;
            }
            let rounds = self.published;
            for _ in 0..rounds {
                self.take(at).await;
            }
            let reader = &self.readers[at];
            let owed = reader.owed_from.into_iter().flat_map(|from| from..self.published);
            let may_miss = |number: &usize| {
                self.freed.get(number).is_some_and(|position| *position <= reader.as_of)
                    && !reader.got.contains(number)
            };
            let owed: Vec<usize> = owed.filter(|number| !may_miss(number)).collect();
            assert_eq!(reader.got, owed, "reader {at}");
        }
    }
}

#[test]
fn a_replay_has_no_gap_no_repeat_and_the_order_of_the_log() {
    seeds(60, |seed, steps| async move {
        let mut world = World::new(seed).await;
        for _ in 0..steps {
            world.step().await;
            world.core.check_ledger().unwrap();
        }
        world.finish().await;
    });
}
