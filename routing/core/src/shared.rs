//! What all parts of the core share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use event::audit::Told;
use event::hub::{Granted, RetainedWanted, Stamps, SubscribeOptions};
use event::store::{Position, Store};
use event::{Audit, Event, Guarantee, Reject, RejectKind, TopicFilter};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};

use crate::Options;
use crate::account::Account;
use crate::breaker::Remote;
use crate::feed::Feeds;
use crate::group::Group;
use crate::held::{self, Held};
use crate::intake::Intake;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::notes::Wish;
use crate::quota::Quotas;
use crate::replay::Replay;
use crate::retained::{Kept, Retained};
use crate::select::{Selection, Selections};
use crate::session::Session;
use crate::session::mailbox::Totals;
use crate::session::registry::Registry;
use crate::session::slot::{Slot, SlotState};
use crate::system::System;
use crate::table::RouteTable;
use crate::trie::Trie;
use crate::turns::Turns;
use crate::unique::{Once, Unique};
use crate::wills::Wills;

/// A subscription in the trie.
#[derive(Debug)]
pub(crate) enum Subscription {
    /// One session gets every event.
    Session { session: Arc<Session>, options: SubscribeOptions },
    /// One session gets every event that passes a filter.
    Selective(Arc<Selective>),
    /// One session of a group gets each event.
    Group(Arc<Group>),
    /// One session will find it in the log.
    Replay(Arc<Replay>),
}

/// A subscription with a filter.
#[derive(Debug)]
pub(crate) struct Selective {
    pub(crate) session: Arc<Session>,
    pub(crate) options: SubscribeOptions,
    pub(crate) selection: Arc<Selection>,
}

/// A subscription that is about to be.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) wish: Wish,
    pub(crate) selection: Option<Arc<Selection>>,
}

impl From<Wish> for Asked {
    fn from(wish: Wish) -> Self {
        Self { wish, selection: None }
    }
}

/// Sessions that read what waits for them from the log at the same time.
const READERS: usize = 4;

/// Groups have keys from here on, sessions below.
pub(crate) const GROUP_KEYS: u64 = 1 << 63;

/// Locks are taken in the order in which they stand here, and never held over an await.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) audit: Audit,
    pub(crate) quotas: ArcSwap<Quotas>,
    pub(crate) store: Store,
    /// Remote stores, in the order of the route table. They grow at the end only.
    pub(crate) remotes: ArcSwap<Vec<Arc<Remote>>>,
    pub(crate) table: ArcSwap<RouteTable>,
    /// Held while a batch is dispatched; the position up to which that was done. Who holds it sees no half of a batch.
    pub(crate) dispatched: Mutex<Position>,
    pub(crate) registry: Mutex<Registry>,
    /// Remote stores that feed shared subscriptions.
    pub(crate) feeds: Feeds,
    /// Shared subscriptions by their whole filter.
    pub(crate) groups: Mutex<BTreeMap<TopicFilter, Arc<Group>>>,
    pub(crate) next_group: AtomicU64,
    /// Replays that are not at their end.
    pub(crate) replays: AtomicUsize,
    /// Those of replays to read the log.
    pub(crate) replay_turns: Turns,
    /// Those of sessions that have more waiting than memory holds.
    pub(crate) read_turns: Turns,
    pub(crate) trie: RwLock<Trie<Subscription>>,
    pub(crate) selections: Selections,
    /// Rises with every change of trie or table: what was matched before may be wrong.
    pub(crate) generation: AtomicU64,
    pub(crate) retained: RwLock<Retained>,
    /// What is said under `$SYS/`.
    pub(crate) system: RwLock<System>,
    pub(crate) totals: Totals,
    pub(crate) stamps: Stamps,
    pub(crate) wills: Mutex<Wills>,
    /// Rung when a will is due at another time.
    pub(crate) wills_changed: Notify,
    pub(crate) held: Mutex<Held>,
    /// Rung when something else of it is due.
    pub(crate) held_changed: Notify,
    /// Publishes whose repeats are known.
    pub(crate) unique: Mutex<Unique>,
    /// The books of what is over.
    pub(crate) ledger: Mutex<Ledger>,
    /// What became of publishes.
    pub(crate) intake: Intake,
    pub(crate) stopping: AtomicBool,
    pub(crate) metrics: Metrics,
}

impl Shared {
    /// As it is before anything happened, and where audit events come out.
    pub(crate) fn new(
        options: Options,
        store: Store,
        table: RouteTable,
        remotes: Vec<Arc<Remote>>,
    ) -> (Self, mpsc::Receiver<Told>) {
        let (audit, notices) = Audit::new(options.audit_per_second, Instant::now());
        let metrics = Metrics::new();
        let shared = Self {
            audit,
            quotas: ArcSwap::default(),
            store,
            remotes: ArcSwap::from_pointee(remotes),
            table: ArcSwap::from_pointee(table),
            dispatched: Mutex::default(),
            registry: Mutex::default(),
            trie: RwLock::new(Trie::default()),
            selections: Selections::default(),
            feeds: Feeds::default(),
            groups: Mutex::default(),
            replays: AtomicUsize::new(0),
            replay_turns: Turns::new(usize::try_from(options.replay.running).unwrap_or(usize::MAX)),
            read_turns: Turns::new(READERS),
            next_group: AtomicU64::new(GROUP_KEYS),
            generation: AtomicU64::new(1),
            retained: RwLock::new(Retained::default()),
            system: RwLock::default(),
            totals: Totals::new(&metrics),
            stamps: Stamps::starting_at(now_ms()),
            wills: Mutex::default(),
            wills_changed: Notify::new(),
            held: Mutex::default(),
            held_changed: Notify::new(),
            unique: Mutex::default(),
            ledger: Mutex::default(),
            intake: Intake::default(),
            stopping: AtomicBool::new(false),
            metrics,
            options,
        };
        (shared, notices)
    }

    /// An event that waits is in the log.
    pub(crate) fn hold(&self, id: u64, standing: held::Standing) {
        let check_at = now_ms().saturating_add(u64::from(self.options.held.check_s) * 1000);
        self.held.lock().add(id, standing, check_at);
        self.held_changed.notify_one();
    }

    /// An event whose repeats are to be known is kept.
    pub(crate) fn known(&self, once: Once) {
        let mut unique = self.unique.lock();
        let forgotten = unique.kept(once, self.options.unique_events as usize);
        self.metrics.unique.set(unique.count() as f64);
        if forgotten > 0 {
            self.metrics.unique_forgotten.increment(forgotten);
        }
    }

    /// The decision about an event that waits is in the log. `again`: it was counted in an earlier run.
    pub(crate) fn decided(&self, id: u64, commit: bool, again: bool) {
        if self.held.lock().decided(id, commit, now_ms()) && !again {
            self.metrics.transactions(Some(commit));
        }
        self.held_changed.notify_one();
    }

    /// Adds or replaces subscriptions of `session` and gives it the retained events they ask for. The caller holds
    /// `dispatched`, at `as_of`.
    pub(crate) fn subscribe(
        &self,
        session: &Arc<Session>,
        wanted: &[Asked],
        as_of: Position,
    ) -> Vec<Result<Granted, Reject>> {
        let mut grants = Vec::with_capacity(wanted.len());
        for Asked { wish: Wish { filter, options, start }, selection } in wanted {
            if let Err(reject) = self.join_as_all(session, filter, selection.as_deref()) {
                grants.push(Err(reject));
                continue;
            }
            let known = {
                let mut state = session.state.lock();
                let known = state.subscriptions.contains(filter);
                if !known && state.subscriptions.len() >= self.options.subscriptions as usize {
                    let reason =
                        format!("{} subscriptions, the limit of a session", self.options.subscriptions);
                    grants.push(Err(Reject::new(RejectKind::Busy, reason)));
                    continue;
                }
                state.subscriptions.insert(filter, *options, selection.clone());
                known
            };
            if known {
                self.stop_replay(session, filter);
            }
            grants.push(Ok(Granted { guarantee: options.guarantee, as_of }));
            if let Some(start) = start {
                self.start_replay(session, filter, *options, selection.clone(), *start, as_of);
                continue;
            }
            self.plant(session, filter, *options, selection.clone(), as_of);
            let selection = selection.as_deref();
            match options.retained {
                // A shared subscription gets no retained events (MQTT 5 §4.8.2).
                _ if filter.share().is_some() => {}
                RetainedWanted::Always => self.send_retained(session, filter, options, selection),
                RetainedWanted::IfNew if !known => self.send_retained(session, filter, options, selection),
                RetainedWanted::IfNew | RetainedWanted::Never => {}
            }
        }
        grants
    }

    /// Takes subscriptions of `session` away.
    pub(crate) fn unsubscribe(&self, session: &Session, filters: &[TopicFilter], replay: bool) -> Vec<bool> {
        let remove = |filter: &TopicFilter| {
            let known = session.state.lock().subscriptions.remove(filter);
            if known {
                if let Some(group) = self.group(filter).filter(|_| !replay) {
                    group.set_here(session.key, false, self);
                    // What was sent is finished with this session [MQTT-3.10.4-3].
                    self.return_numbers(session, |slot, sent| !sent && slot.is_of(&group));
                }
                self.stop_replay(session, filter);
                self.uproot(session, filter);
            }
            known
        };
        filters.iter().map(remove).collect()
    }

    fn send_retained(
        &self,
        session: &Arc<Session>,
        filter: &TopicFilter,
        options: &SubscribeOptions,
        selection: Option<&Selection>,
    ) {
        let retained = self.retained.read();
        let now_ms = now_ms();
        let passes = |event: &Event| selection.is_none_or(|selection| selection.passes_event(event));
        let ids: Option<Arc<[u32]>> = (options.id != 0).then(|| Arc::from([options.id]));
        session.fill(|mailbox| {
            let account = Account::RETAINED;
            retained.matches(filter, &mut |kept: &Kept| {
                if kept.event.is_expired(now_ms) || !passes(&kept.event) {
                    return;
                }
                let guarantee = kept.guarantee.min(options.guarantee);
                if guarantee == Guarantee::AtMostOnce && !session.keep_all {
                    mailbox.push_live(&kept.event, true, ids.clone(), account, &self.options, &self.totals);
                } else {
                    let guarantee = guarantee.max(Guarantee::AtLeastOnce);
                    let mut slot = Slot::new(kept.position, guarantee, true, SlotState::Open);
                    slot.ids.clone_from(&ids);
                    slot.account = account;
                    mailbox.push_slot(slot, Some(&kept.event), &self.options, &self.totals);
                }
            });
            self.system.read().matches(filter, &mut |event| {
                if !session.keep_all && passes(event) {
                    mailbox.push_live(event, true, ids.clone(), Account::SYSTEM, &self.options, &self.totals);
                }
            });
        });
    }

    /// Puts back a subscription that a checkpoint holds.
    pub(crate) fn restore_subscription(
        &self,
        session: &Arc<Session>,
        filter: TopicFilter,
        options: SubscribeOptions,
        selection: Option<Arc<Selection>>,
    ) {
        self.plant(session, &filter, options, selection.clone(), Position(0));
        session.state.lock().subscriptions.insert(&filter, options, selection);
    }

    /// Ends a session: its subscriptions, its backlog, its place in the registry.
    pub(crate) fn end(&self, registry: &mut Registry, session: &Session) {
        registry.remove(session.key);
        self.leave_groups(session);
        self.end_replays(session);
        let subscriptions = std::mem::take(&mut session.state.lock().subscriptions);
        for (filter, _) in subscriptions.iter() {
            self.uproot(session, filter);
        }
        let books = session.mailbox.lock().clear(&self.totals);
        self.ledger.lock().over(&books, session.kept());
    }

    /// Whether a retained event of this weight may be added.
    pub(crate) fn has_room_to_retain(&self, event: &Event) -> bool {
        let retained = self.retained.read();
        let fits = retained.bytes() + event.weight() <= self.options.retained_bytes.as_usize();
        let counts = retained.count() < self.options.retained_events as usize;
        event.data().is_empty() || (fits && (counts || retained.contains(event.topic())))
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Milliseconds since 1970. The core's one look at the clock of the day.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
