//! Checkpoints that are taken while events go on: whatever happens between two pieces, checkpoint and replay together come
//! to the state that Weft had.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use event::hub::{Attach, Attached, Close, Hub as _, Publish, Room, Subscribe, SubscribeOptions};
use event::store::{Append, Position};
use event::testing::{Chance, MemoryStore, seeds};
use event::{ByteLimit, Durability, Guarantee, Principal, TopicFilter};

use super::walk::Walk;
use crate::session::slot::SlotState;
use crate::testing::event;
use crate::{Core, Options};

/// The first one never leaves the shared subscription: a group without members forgets what it had.
const CLIENTS: [&str; 4] = ["a", "b", "c", "d"];
const FILTERS: [&str; 5] = ["t/1", "t/2", "t/#", "+/2", "$share/g/s/#"];
const TOPICS: [&str; 4] = ["t/1", "t/2", "u/2", SHARED];
/// Only the shared subscription has it.
const SHARED: &str = "s/1";

struct World {
    store: MemoryStore,
    core: Arc<Core>,
    links: BTreeMap<&'static str, (Attached, Vec<u64>)>,
    chance: Chance,
}

#[test]
fn a_checkpoint_of_many_moments_and_replay_come_to_the_state_that_was() {
    seeds(60, |seed, steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let store = MemoryStore::new();
            let core = start(&store).await;
            let mut world = World { store, core, links: BTreeMap::new(), chance: Chance(seed) };
            world.attach(CLIENTS[0], false).await;
            world.subscribe(CLIENTS[0], FILTERS[4], Guarantee::ExactlyOnce).await;
            world.steps(steps).await;
            let mut walk = Walk::new(&world.core.shared);
            // Sometimes one thing at a time, sometimes some.
            let most = 1 + usize::try_from(world.chance.below(3)).unwrap();
            while walk.step(&world.core.shared, most) {
                let steps = world.chance.below(4);
                world.steps(steps).await;
            }
            super::keep(&world.core.shared, walk).await.unwrap();
            let steps = world.chance.below(steps);
            world.steps(steps).await;
            world.crash_and_compare().await;
        });
    });
}

async fn start(store: &MemoryStore) -> Arc<Core> {
    let (handle, feed) = store.open();
    let options = Options { checkpoint_bytes: ByteLimit(u64::MAX), ..Options::default() };
    Core::recover(options, &[], handle, feed, Vec::new()).await.unwrap().0
}

impl World {
    async fn steps(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let client = CLIENTS[usize::try_from(self.chance.below(4)).unwrap()];
        let filter = FILTERS[usize::try_from(self.chance.below(5)).unwrap()];
        match self.chance.below(16) {
            0..6 => self.publish().await,
            6 | 7 => {
                let clean = self.chance.below(4) == 0;
                self.attach(client, clean && client != CLIENTS[0]).await;
            }
            8 | 9 => {
                let guarantee =
                    if self.chance.below(2) == 0 { Guarantee::AtLeastOnce } else { Guarantee::ExactlyOnce };
                self.subscribe(client, filter, guarantee).await;
            }
            10 if client != CLIENTS[0] => {
                if let Some((attached, _)) = self.links.get_mut(client) {
                    attached.link.unsubscribe(vec![TopicFilter::parse(filter).unwrap()]).await.unwrap();
                }
            }
            11 => {
                if let Some((attached, _)) = self.links.remove(client) {
                    attached.link.close(Close { will: false, keep: None });
                }
            }
            12 | 13 => self.take(client).await,
            _ => self.answer(client).await,
        }
    }

    async fn attach(&mut self, client: &'static str, clean: bool) {
        let attach = Attach { clean, keep: Duration::MAX, ..Attach::default() };
        let attached = self.core.attach(Principal::anonymous(client), attach).await.unwrap();
        self.links.insert(client, (attached, Vec::new()));
    }

    async fn subscribe(&mut self, client: &str, filter: &'static str, guarantee: Guarantee) {
        let filter = TopicFilter::parse(filter).unwrap();
        let wanted = Subscribe::new(filter, SubscribeOptions::new(guarantee));
        if let Some((attached, _)) = self.links.get_mut(client) {
            attached.link.subscribe(vec![wanted]).await.unwrap();
        }
    }

    async fn publish(&mut self) {
        let topic = TOPICS[usize::try_from(self.chance.below(4)).unwrap()];
        let data = if self.chance.below(4) == 0 { "" } else { "data" };
        let retain = self.chance.below(3) == 0;
        let publish =
            Publish { event: event(topic, data), guarantee: Guarantee::ExactlyOnce, retain, id: None };
        let who = Principal::anonymous("tester");
        self.core.publish(&who, vec![publish]).receipt().await.await.whole().unwrap();
    }

    async fn take(&mut self, client: &str) {
        let Some((attached, open)) = self.links.get_mut(client) else { return };
        let mut out = Vec::new();
        for _ in 0..4 {
            let room = Room { numbered: 3, bytes: 1 << 20 };
            let polled = poll_fn(|cx| Poll::Ready(attached.link.poll_deliveries(cx, room, &mut out)));
            if polled.await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        open.extend(out.iter().filter_map(|delivery| delivery.number));
    }

    async fn answer(&mut self, client: &str) {
        let Some((attached, open)) = self.links.get_mut(client) else { return };
        if self.chance.below(3) == 0 {
            attached.link.received(open).await.whole().unwrap();
        } else if !open.is_empty() {
            let at = usize::try_from(self.chance.below(open.len() as u64)).unwrap();
            attached.link.ack(&[open.swap_remove(at)]);
        }
    }

    async fn crash_and_compare(mut self) {
        let (append, receipt) = Append::new(Vec::new(), Durability::Synced);
        self.core.shared.store.append(append).await;
        receipt.await.whole().unwrap();
        let (before, shared_before) = picture(&self.core, &self.store);
        // A lost process says no goodbye.
        self.links.into_values().for_each(|(attached, _)| std::mem::forget(attached));
        self.core = start(&self.store).await;
        let (after, shared) = picture(&self.core, &self.store);
        assert_eq!(before, after);
        // Who had what of a group when it went down is not always known, so some may come again; nothing is lost.
        let lost: Vec<_> = shared_before.iter().filter(|position| !shared.contains(position)).collect();
        assert!(lost.is_empty(), "lost to the group: {lost:?} of {shared_before:?}, has {shared:?}");
    }
}

/// Number, position, guarantee, retain, state.
type SlotSeen = (u64, Position, Guarantee, bool, SlotState);

#[derive(Debug, PartialEq)]
struct Picture {
    sessions: BTreeMap<String, (u64, Vec<String>, Vec<SlotSeen>, u64)>,
    retained: Vec<(String, Position)>,
}

/// What has to be the same after a crash, and the positions that the members of a group and itself have together.
fn picture(core: &Core, store: &MemoryStore) -> (Picture, BTreeSet<Position>) {
    let records = store.records();
    let of_group = records.iter().filter(|r| r.event.as_ref().is_some_and(|e| e.topic().as_str() == SHARED));
    let of_group: BTreeSet<Position> = of_group.map(|record| record.position).collect();
    let (mut sessions, mut shared, mut retained) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for session in core.shared.registry.lock().sessions() {
        let state = session.state.lock();
        let mailbox = session.mailbox.lock();
        let (first, _, slots) = mailbox.image();
        let mut seen = Vec::new();
        for (slot, number) in slots.zip(first..) {
            match slot.state {
                SlotState::Done => {}
                _ if of_group.contains(&slot.position) => {
                    shared.insert(slot.position);
                }
                state @ (SlotState::Open | SlotState::Received) => {
                    seen.push((number, slot.position, slot.guarantee, slot.retain, state))
                }
            }
        }
        let filters = state.subscriptions.iter().map(|(filter, _)| filter.to_string()).collect();
        sessions.insert(session.client.to_string(), (session.key, filters, seen, mailbox.next()));
    }
    for group in core.shared.groups.lock().values() {
        shared.extend(group.unassigned());
    }
    core.shared.retained.read().each(&mut |kept| {
        retained.push((kept.event.topic().to_string(), kept.position));
    });
    (Picture { sessions, retained }, shared)
}
