//! Which queues are consumed here: all of them, or this member's share of its group, worked out anew whenever members or
//! queues change. A queue that is given up is committed before it is let go; one that is taken begins where the group is.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use event::hub::Hub;
use event::{Principal, TopicFilter};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use super::client::Client;
use super::drained;
use super::replier::Replier;
use crate::error::CallError;
use crate::template::Template;

/// Consumes topics on behalf of one bridge or store.
pub(super) struct Consumer {
    pub(super) client: Arc<Client>,
    pub(super) hub: Arc<dyn Hub>,
    /// Who publishes here.
    pub(super) who: Principal,
    /// What becomes of messages, by their topics as brokers call them.
    pub(super) rules: BTreeMap<String, Rule>,
    pub(super) manner: Manner,
    /// The shared subscription that gets all of it; none: all subscribers.
    pub(super) group: Option<TopicFilter>,
    /// Where requests from DeFiBus wait for their answer.
    pub(super) replier: Option<Replier>,
    /// Bytes that were pulled and are not kept yet, of all queues.
    pub(super) pulled: watch::Sender<usize>,
    /// How often in a row a broker did not say who is in the group.
    pub(super) refusals: AtomicU32,
}

/// What becomes of the messages of a topic.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The topic as the configuration calls it, without a namespace.
    pub(super) topic: ByteString,
    /// The topic here.
    pub(super) to: Template,
}

/// How topics are consumed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// What comes back is our own, through our store.
    pub(super) own: bool,
    /// All queues are ours: nobody else should be in the group.
    pub(super) alone: bool,
    /// Messages are popped, from any queue, and are invisible to others for so long: nothing is shared out.
    pub(super) pop: Option<Duration>,
    /// Queues are consumed under locks.
    pub(super) ordered: bool,
    /// How often what is refused here comes again.
    pub(super) retries: u16,
}

/// A queue: place of its subscription, broker, number.
pub(super) type Key = (usize, Arc<str>, i32);

/// Pops side by side at each broker of a topic; they stand for queues.
const POPS: i32 = 4;
/// How often queues are looked for in the routes that are known.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// How often brokers are asked for members, beside when they say that those changed.
const ASK: Duration = Duration::from_secs(20);
/// Refusals to say it, each [`LOOK`] apart, after which it is told.
const REFUSALS: u32 = 2;

impl Consumer {
    /// Consumes the queues that are ours until `drain` turns true.
    pub(super) async fn run(&self, mut drain: watch::Receiver<bool>) {
        if self.group.is_some() {
            tokio::select! {
                biased;
                () = drained(&mut drain) => return,
                () = self.mark_start() => {}
            }
        }
        let (ours, mut wanted) = watch::channel(BTreeSet::new());
        let mut balance = pin!(self.balance(&ours));
        let mut held: BTreeMap<Key, watch::Sender<bool>> = BTreeMap::new();
        let mut queues = FuturesUnordered::new();
        loop {
            let before = held.len();
            tokio::select! {
                biased;
                () = drained(&mut drain) => break,
                Some(key) = queues.next() => drop(held.remove(&key)),
                changed = wanted.changed() => changed.unwrap_or(()),
                () = &mut balance => {}
            }
            let wanted: BTreeSet<Key> = wanted.borrow_and_update().clone();
            for (_, stop) in held.iter().filter(|(key, _)| !wanted.contains(key)) {
                stop.send_replace(true);
            }
            for key in wanted {
                held.entry(key).or_insert_with_key(|key| {
                    let (stop, stopped) = watch::channel(false);
                    queues.push(self.consume(key.clone(), stopped));
                    stop
                });
            }
            // Several groups may be counted together.
            self.client.counters.queues.increment(held.len() as f64 - before as f64);
        }
        for stop in held.values() {
            stop.send_replace(true);
        }
        while queues.next().await.is_some() {}
        self.client.counters.queues.decrement(held.len() as f64);
    }

    /// Keeps `ours` at the queues that are this member's. Never ends.
    async fn balance(&self, ours: &watch::Sender<BTreeSet<Key>>) {
        let topics = self.client.identity.inward.len();
        let mut members: Vec<Option<Vec<String>>> = vec![None; topics];
        let mut asked: Option<Instant> = None;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = asked.is_none_or(|at| at.elapsed() >= ASK) || self.lacks_some(&members);
            if due && self.manner.pop.is_none() {
                asked = self.ask_for_members(&mut members).await.then(Instant::now);
            }
            let now = self.ours(&members);
            ours.send_if_modified(|before| {
                let changed = *before != now;
                if changed {
                    info!(
                        part = self.client.identity.part,
                        group = self.client.identity.group,
                        queues = now.len(),
                        "has queues to consume"
                    );
                    *before = now;
                }
                changed
            });
            tokio::select! {
                biased;
                () = self.client.signals.members.notified() => asked = None,
                () = self.client.recovered.notified() => asked = None,
                _ = look.tick() => {}
            }
        }
    }

    /// Whether there is a topic with a route whose members are not known.
    fn lacks_some(&self, members: &[Option<Vec<String>>]) -> bool {
        let mut pairs = self.client.identity.inward.iter().zip(members);
        pairs.any(|(subscription, known)| {
            known.is_none() && self.client.known_route(&subscription.topic).is_some()
        })
    }

    /// Asks a broker of each topic who is in the group; what cannot be had stays as it was. Whether all was had.
    async fn ask_for_members(&self, members: &mut [Option<Vec<String>>]) -> bool {
        let mut whole = true;
        let mut refused = None;
        for (subscription, known) in self.client.identity.inward.iter().zip(&mut *members) {
            if self.client.known_route(&subscription.topic).is_none() {
                continue;
            }
            match self.client.members(&subscription.topic).await {
                Ok(list) => {
                    // A broker that has just started learns of us with the next heartbeat.
                    whole &= list.iter().any(|member| member == self.client.id());
                    *known = Some(list);
                }
                Err(error) => {
                    debug!(topic = subscription.topic, %error, "who is in the group is not known");
                    whole = false;
                    refused = Some(error).filter(|error| matches!(error, CallError::Code { .. })).or(refused);
                }
            }
        }
        if self.manner.alone {
            self.check_that_nobody_else_is_here(members);
        } else {
            self.tell(refused);
        }
        whole
    }

    /// Without its members, no share of a group is known. A broker that has just started may not know them yet.
    fn tell(&self, refused: Option<CallError>) {
        let Some(error) = refused else {
            self.refusals.store(0, Ordering::Relaxed);
            return self.client.condition.no_trouble("group");
        };
        if self.refusals.fetch_add(1, Ordering::Relaxed) >= REFUSALS {
            self.client.condition.trouble("group", error.to_string());
        }
    }

    fn check_that_nobody_else_is_here(&self, members: &[Option<Vec<String>>]) {
        let me = self.client.id();
        let stranger = members.iter().flatten().flatten().find(|member| *member != me);
        let group = &self.client.identity.group;
        match stranger {
            Some(stranger) => self.client.condition.trouble(
                "group",
                format!(
                    "{stranger} consumes as {group}, too; every Weft on the cluster needs a node of its own"
                ),
            ),
            None => self.client.condition.no_trouble("group"),
        }
    }

    fn ours(&self, members: &[Option<Vec<String>>]) -> BTreeSet<Key> {
        let mut ours = BTreeSet::new();
        for (place, (subscription, members)) in self.client.identity.inward.iter().zip(members).enumerate() {
            let Some(route) = self.client.known_route(&subscription.topic) else { continue };
            if self.manner.pop.is_some() {
                for queue in &route.readable {
                    ours.extend((0..POPS).map(|n| (place, Arc::clone(&queue.broker), n)));
                }
                continue;
            }
            let share = match members {
                _ if self.manner.alone => route.readable.clone(),
                Some(members) => self.client.kind.share(&route, members, self.client.id()),
                None => Vec::new(),
            };
            ours.extend(share.iter().map(|queue| (place, Arc::clone(&queue.broker), queue.id)));
        }
        ours
    }
}
