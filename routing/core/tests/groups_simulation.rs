//! Seeds of random work on a shared subscription, with members that come, go and are taken over, and crashes, against a
//! model: each event ends with one member or as a dead letter, at no time do two have it, numbers mean the same event for ever.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Attached, Close, Hub as _, SubscribeOptions};
use event::testing::{Chance, MemoryStore};
use event::{ByteLimit, Guarantee, Principal, TopicFilter};
use routing::{Core, Options, RedeliveryOptions, SharedOptions, Strategy};
use support::*;

use Guarantee::{AtLeastOnce, ExactlyOnce};

const JOBS: &str = "$share/workers/jobs/#";
/// What a member may have unacknowledged.
const INFLIGHT: u32 = 3;
const STRATEGIES: [Strategy; 5] = [
    Strategy::RoundRobin,
    Strategy::LeastInflight,
    Strategy::Sticky,
    Strategy::HashClient,
    Strategy::HashTopic,
];

#[derive(Default)]
struct Member {
    /// Its session stays. The first two members are of this kind, and the first never leaves the group.
    durable: bool,
    link: Option<Attached>,
    subscribed: bool,
    /// Event by number, for one session.
    seen: BTreeMap<u64, usize>,
    /// What it has: number and event.
    open: Vec<(u64, usize)>,
    received: Vec<(u64, usize)>,
}

struct World {
    store: MemoryStore,
    core: Arc<Core>,
    options: Options,
    chance: Chance,
    members: Vec<Member>,
    guarantees: Vec<Guarantee>,
    /// Who has an event now.
    holder: BTreeMap<usize, usize>,
    /// Acknowledged, or ended with a member that may be the only one to have had it.
    done: BTreeSet<usize>,
    /// Exactly-once events that a member with a session received.
    once: BTreeSet<usize>,
}

impl Member {
    /// What its connection had is over, and without a session all else.
    fn disconnect(&mut self) {
        self.open.clear();
        if !self.durable {
            self.seen.clear();
            self.received.clear();
            self.subscribed = false;
        }
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let strategy = STRATEGIES[(seed % 5) as usize];
        let options = Options {
            checkpoint_bytes: ByteLimit(2000),
            queue_memory_bytes: ByteLimit(800),
            shared: SharedOptions { strategy, inflight: INFLIGHT, ..SharedOptions::default() },
            // With every other seed none becomes a dead letter.
            redelivery: RedeliveryOptions { limit: (seed % 2) as u32, ..RedeliveryOptions::default() },
            ..Options::default()
        };
        let store = MemoryStore::new();
        let (core, _) = start(&store, options.clone()).await;
        let members = (0..4).map(|at| Member { durable: at < 2, ..Member::default() }).collect();
        let chance = Chance(seed);
        let (holder, done, once) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut world =
            Self { store, core, options, chance, members, guarantees: Vec::new(), holder, done, once };
        world.join(0).await;
        world.subscribe(0).await;
        subscribe(&mut *world.undertaker().await.link, "$dead/#", SubscribeOptions::new(AtLeastOnce)).await;
        world
    }

    /// Who reads dead letters.
    async fn undertaker(&self) -> Attached {
        attach(&self.core, "undertaker", FOREVER).await
    }

    async fn step(&mut self) {
        let at = self.chance.below(4) as usize;
        match self.chance.below(20) {
            0..6 => self.publish().await,
            6..10 => self.take(at).await,
            10..13 => self.receive(at).await,
            13..15 => self.ack(at),
            15 => self.subscribe(at).await,
            16 => self.leave(at),
            17 if self.chance.below(3) == 0 => self.crash().await,
            18 if at != 0 => self.unsubscribe(at).await,
            _ => self.join(at).await,
        }
    }

    async fn publish(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..=self.chance.below(4) {
            let guarantee = if self.chance.below(2) == 0 { AtLeastOnce } else { ExactlyOnce };
            let topic = format!("jobs/{}", self.chance.below(3));
            batch.push(publish(event(&topic, &self.guarantees.len().to_string()), guarantee));
            self.guarantees.push(guarantee);
        }
        settle(self.core.publish(&Principal::anonymous("tester"), batch)).await.whole().unwrap();
    }

    async fn join(&mut self, at: usize) {
        let keep = if self.members[at].durable { FOREVER } else { Duration::ZERO };
        if !self.members[at].durable {
            self.gone(at);
        }
        let attached = attach(&self.core, &format!("m{at}"), keep).await;
        let member = &mut self.members[at];
        member.open.clear();
        // Who was taken over is told so, and its end changes nothing.
        member.link = Some(attached);
    }

    async fn subscribe(&mut self, at: usize) {
        let member = &mut self.members[at];
        if let Some(attached) = &mut member.link {
            subscribe(&mut *attached.link, JOBS, SubscribeOptions::new(ExactlyOnce)).await;
            member.subscribed = true;
        }
    }

    async fn unsubscribe(&mut self, at: usize) {
        if let Some(attached) = &mut self.members[at].link {
            let filter = TopicFilter::parse(JOBS.to_owned()).unwrap();
            let known = attached.link.unsubscribe(vec![filter]).await.unwrap();
            assert_eq!(known, [self.members[at].subscribed]);
            self.members[at].subscribed = false;
        }
    }

    async fn take(&mut self, at: usize) {
        let Some(attached) = &mut self.members[at].link else { return };
        let got = ready(&mut *attached.link, 5).await;
        for delivery in got {
            let number = delivery.number.unwrap();
            let event: usize = texts(std::slice::from_ref(&delivery))[0].parse().unwrap();
            assert!(!self.done.contains(&event), "{event} is done and comes to {at}");
            let holder = *self.holder.entry(event).or_insert(at);
            assert_eq!(holder, at, "{event} is with {holder} and comes to {at}");
            let member = &mut self.members[at];
            let known = *member.seen.entry(number).or_insert(event);
            assert_eq!(known, event, "number {number} means another event now");
            assert!(member.received.iter().all(|(known, _)| *known != number), "{event} was received");
            member.open.push((number, event));
            let has = member.open.len() + member.received.len();
            assert!(has <= INFLIGHT as usize || !member.subscribed, "{at} has {has}");
        }
    }

    async fn receive(&mut self, at: usize) {
        let guarantees = &self.guarantees;
        let member = &mut self.members[at];
        let Some(attached) = &mut member.link else { return };
        let (once, acked): (Vec<_>, Vec<_>) =
            member.open.drain(..).partition(|(_, event)| guarantees[*event] == ExactlyOnce);
        let numbers: Vec<u64> = once.iter().map(|(number, _)| *number).collect();
        attached.link.received(&numbers).await.whole().unwrap();
        for (_, event) in &once {
            assert!(!member.durable || self.once.insert(*event), "{event} is received twice");
        }
        member.received.extend(once);
        attached.link.ack(&acked.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        self.done.extend(acked.iter().map(|(_, event)| *event));
    }

    fn ack(&mut self, at: usize) {
        let member = &mut self.members[at];
        if let Some(attached) = &mut member.link {
            let received: Vec<(u64, usize)> = member.received.drain(..).collect();
            attached.link.ack(&received.iter().map(|(number, _)| *number).collect::<Vec<_>>());
            self.done.extend(received.iter().map(|(_, event)| *event));
        }
    }

    fn leave(&mut self, at: usize) {
        if let Some(attached) = self.members[at].link.take() {
            match self.chance.below(2) {
                0 => attached.link.close(Close { will: false, keep: None }),
                _ => drop(attached),
            }
            self.gone(at);
        }
    }

    /// What the member has and did not acknowledge may go to others, but for what was sent and may arrive once only.
    fn gone(&mut self, at: usize) {
        let durable = self.members[at].durable;
        let guarantees = &self.guarantees;
        let done = &mut self.done;
        self.holder.retain(|event, holder| {
            let stays = *holder != at || done.contains(event) || guarantees[*event] == ExactlyOnce;
            if *holder == at && stays && !durable {
                done.insert(*event);
            }
            stays
        });
        self.members[at].disconnect();
    }

    async fn crash(&mut self) {
        for at in 0..self.members.len() {
            // A crash runs no destructor.
            std::mem::forget(self.members[at].link.take());
            let guarantees = &self.guarantees;
            let (durable, done) = (self.members[at].durable, &self.done);
            // What a member without records has comes again.
            self.holder.retain(|event, holder| {
                *holder != at || done.contains(event) || (durable && guarantees[*event] == ExactlyOnce)
            });
            self.members[at].disconnect();
        }
        self.store.free_below(self.store.needed());
        self.core = start(&self.store, self.options.clone()).await.0;
    }

    async fn finish(&mut self) {
        for _ in 0..self.guarantees.len() + 20 {
            for at in 0..self.members.len() {
                if self.members[at].link.is_none() {
                    self.join(at).await;
                }
                self.take(at).await;
                self.receive(at).await;
                self.ack(at);
            }
        }
        let (mut undertaker, mut dead) = (self.undertaker().await, BTreeSet::new());
        loop {
            let letters = ready(&mut *undertaker.link, u16::MAX).await;
            if letters.is_empty() {
                break;
            }
            dead.extend(texts(&letters).iter().map(|text| text.parse::<usize>().unwrap()));
        }
        assert!(dead.is_empty() || self.options.redelivery.limit > 0);
        assert!(dead.iter().all(|event| self.guarantees[*event] == AtLeastOnce), "{dead:?}");
        let over = |event: &usize| self.done.contains(event) || dead.contains(event);
        let missing: Vec<usize> = (0..self.guarantees.len()).filter(|event| !over(event)).collect();
        assert!(missing.is_empty(), "never done: {missing:?}");
    }
}

#[test]
fn each_event_of_a_group_ends_with_one_member() {
    seeds(120, |seed, steps| async move {
        let mut world = World::new(seed).await;
        for _ in 0..steps {
            world.step().await;
            world.core.check_ledger().unwrap();
        }
        world.finish().await;
    });
}
