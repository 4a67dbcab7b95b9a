//! Sessions: one owner for each client id, what it subscribed, what it is owed.

pub(crate) mod link;
pub(crate) mod mailbox;
mod pace;
pub(crate) mod registry;
pub(crate) mod slot;
mod subscriptions;
mod suspects;
mod walk;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event::admin::ConnectionView;
use event::hub::Granted;
use event::store::Position;
use event::{ClientId, Reject};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ledger::Kept;
use crate::replay::Replay;
use crate::shared::Shared;
use mailbox::{Item, Mailbox, Wanted};
pub(crate) use subscriptions::Subscriptions;

/// What outlives a connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number in records and in the trie.
    pub(crate) key: u64,
    pub(crate) client: ClientId,
    /// It stays when its connection ends, and leaves records.
    pub(crate) durable: bool,
    pub(crate) keep_all: bool,
    pub(crate) mailbox: Mutex<Mailbox>,
    pub(crate) state: Mutex<State>,
    /// How many of its replays are not at their end.
    pub(crate) replaying: AtomicUsize,
    /// Rung when the live lane was read down: publishers wait for it.
    pub(crate) drained: Notify,
    /// The record with which it began, once the dispatcher passed that.
    since: AtomicU64,
    /// The walk of a checkpoint that took it last.
    walk: AtomicU64,
}

/// The part of a session that changes rarely.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) subscriptions: Subscriptions,
    /// Those of its subscriptions that have not met the present yet.
    pub(crate) replays: Vec<Arc<Replay>>,
    /// Exactly-once publishes that are kept and not released.
    pub(crate) received_ids: BTreeSet<u16>,
    pub(crate) keep: Duration,
    /// Who holds it, or held it last.
    pub(crate) connection: Option<Arc<ConnectionView>>,
    /// When its connection ended, milliseconds since 1970; `None` while it has one.
    pub(crate) detached_ms: Option<u64>,
    /// The will of the connection that holds it, or held it last.
    pub(crate) will: Option<u64>,
    /// Answers of the dispatcher to changes of subscriptions, by ticket.
    pub(crate) replies: BTreeMap<u32, Reply>,
    pub(crate) next_ticket: u32,
}

/// What became of a change of subscriptions.
#[derive(Debug)]
pub(crate) enum Reply {
    Granted(Vec<Result<Granted, Reject>>),
    Ended(Vec<bool>),
}

impl Session {
    pub(crate) fn new(key: u64, client: ClientId, durable: bool, keep_all: bool) -> Self {
        Self {
            key,
            client,
            durable,
            keep_all,
            mailbox: Mutex::new(Mailbox::new(keep_all)),
            state: Mutex::default(),
            replaying: AtomicUsize::new(0),
            drained: Notify::new(),
            since: AtomicU64::new(u64::MAX),
            walk: AtomicU64::new(0),
        }
    }

    /// A connection holds it from now on, with this will. Gives how many subscriptions there are.
    pub(crate) fn begin(&self, keep: Duration, view: ConnectionView, will: Option<u64>) -> usize {
        let mut state = self.state.lock();
        state.keep = keep;
        state.detached_ms = None;
        state.connection = Some(Arc::new(view));
        state.will = will;
        state.replies.clear();
        state.subscriptions.len()
    }

    /// The record with which it begins stands at `position`.
    pub(crate) fn begins(&self, position: Position) {
        self.since.store(position.0, Ordering::Relaxed);
    }

    /// A checkpoint has it, as it is now.
    pub(crate) fn taken(&self, walk: u64) {
        self.walk.store(walk, Ordering::Relaxed);
    }

    /// Which checkpoints know its books.
    pub(crate) fn kept(&self) -> Kept {
        let since = self.durable.then(|| Position(self.since.load(Ordering::Relaxed)));
        Kept { since, walk: self.walk.load(Ordering::Relaxed) }
    }

    /// How many of its replays are not at their end.
    pub(crate) fn replaying(&self) -> usize {
        self.replaying.load(Ordering::Acquire)
    }

    /// Changes the mailbox, and wakes the connection that waits for it.
    pub(crate) fn fill<T>(&self, change: impl FnOnce(&mut Mailbox) -> T) -> T {
        let mut mailbox = self.mailbox.lock();
        let done = change(&mut mailbox);
        let reader = mailbox.reader.take();
        drop(mailbox);
        if let Some(reader) = reader {
            reader.wake();
        }
        done
    }

    /// Puts in what of `items` it wants, and wakes its connection. The mailbox is locked once for all of them.
    pub(crate) fn offer(&self, items: &[Item], wanted: &Wanted, shared: &Shared) {
        self.fill(|mailbox| mailbox.offer(items.iter(), wanted, &shared.options, &shared.totals));
    }

    /// Gives events on their way past the log to its connection; tells whether that is behind and worth waiting for.
    pub(crate) fn offer_live<'a>(
        &self,
        items: impl Iterator<Item = &'a Item>,
        wanted: &Wanted,
        shared: &Shared,
    ) -> bool {
        let limit = shared.options.live_bytes.as_usize();
        self.fill(|mailbox| {
            mailbox.offer(items, wanted, &shared.options, &shared.totals);
            let full = mailbox.live_bytes() > limit / 2;
            full && mailbox.pace.keeps_up(limit / 4, Instant::now())
        })
    }

    /// When it is over if nobody comes back, milliseconds since 1970.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        let state = self.state.lock();
        let keep_ms = u64::try_from(state.keep.as_millis()).unwrap_or(u64::MAX);
        state.detached_ms?.checked_add(keep_ms)
    }
}
