//! Shared subscriptions that remote stores feed: which ones have members here, and what becomes of the events that a store
//! brings for one of them.
//!
//! Such an event is a record of the log that only the group gets. It is there for this run: what members did not acknowledge
//! when Weft goes down, the store brings again, here or at another node.

#![expect(clippy::async_yields_async, reason = "an admission resolves to a receipt, which is awaited later")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use event::hub::{Admission, Outcome, Publish, Receipt, ReceiptSender};
use event::store::{Append, Entry};
use event::{Durability, Reject, RejectKind, TopicFilter};
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::notes::EventNote;
use crate::shared::Shared;

/// What remote stores feed.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// By the names of the stores that asked: the groups that have a member here.
    stores: Mutex<BTreeMap<String, watch::Sender<BTreeSet<TopicFilter>>>>,
    /// Events that are on their way through the log, and the groups that they are for.
    tickets: Mutex<HashMap<u64, (TopicFilter, Fed), RandomState>>,
    next: AtomicU64,
}

impl Feeds {
    /// The event of this ticket has come out of the log.
    pub(crate) fn take(&self, ticket: u64) -> Option<(TopicFilter, Fed)> {
        self.tickets.lock().remove(&ticket)
    }
}

/// An event in the hands of a group. Dropped before it is done, its store is told that no member has it.
#[derive(Debug)]
pub(crate) struct Fed {
    batch: Arc<Batch>,
    place: usize,
    done: bool,
}

/// The events of one call.
#[derive(Debug)]
struct Batch {
    state: Mutex<BatchState>,
    /// The store does not wait for it any more.
    given_up: AtomicBool,
}

#[derive(Debug)]
struct BatchState {
    left: usize,
    lost: Vec<usize>,
    sender: Option<ReceiptSender>,
}

impl Fed {
    /// A member acknowledged it, or nobody wants it.
    pub(crate) fn done(mut self) {
        self.done = true;
    }

    /// The store does not wait for it any more: no member has to get it from here.
    pub(crate) fn is_given_up(&self) -> bool {
        self.batch.given_up.load(Ordering::Relaxed)
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let mut state = self.batch.state.lock();
        state.left -= 1;
        if !self.done {
            state.lost.push(self.place);
        }
        if state.left > 0 {
            return;
        }
        let mut lost = std::mem::take(&mut state.lost);
        lost.sort_unstable();
        let refused = |place| (place, Reject::new(RejectKind::Unavailable, "no member of the group is here"));
        let outcome = match lost.is_empty() {
            true => Outcome::Kept,
            false => Outcome::Partly(lost.into_iter().map(refused).collect()),
        };
        if let Some(sender) = state.sender.take() {
            sender.resolve(outcome);
        }
    }
}

/// Ends with the future that waits for a batch: then what no member has is taken back.
struct Waiter {
    shared: Arc<Shared>,
    batch: Arc<Batch>,
    tickets: Vec<u64>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.batch.given_up.store(true, Ordering::Relaxed);
        let taken: Vec<_> = {
            let mut tickets = self.shared.feeds.tickets.lock();
            self.tickets.iter().filter_map(|ticket| tickets.remove(ticket)).collect()
        };
        drop(taken);
    }
}

/// Feeds a group; see [`event::hub::Hub::feed`].
pub(crate) fn feed(shared: &Arc<Shared>, filter: &TopicFilter, publishes: Vec<Publish>) -> Admission {
    let answer = |outcome| Admission::Admitted(Receipt::ready(outcome));
    let refused = |reject| answer(Outcome::Refused(reject));
    if shared.is_stopping() {
        return refused(Reject::closed());
    }
    if publishes.is_empty() {
        return answer(Outcome::Kept);
    }
    let Some(group) = shared.group(filter).filter(|group| group.is_here()) else {
        return refused(Reject::new(RejectKind::Unavailable, "no member of the group is here"));
    };
    let (sender, receipt) = Receipt::pair();
    let state = BatchState { left: publishes.len(), lost: Vec::new(), sender: Some(sender) };
    let batch = Arc::new(Batch { state: Mutex::new(state), given_up: AtomicBool::new(false) });
    let mut waiter = Waiter { shared: Arc::clone(shared), batch: Arc::clone(&batch), tickets: Vec::new() };
    let mut entries = Vec::with_capacity(publishes.len());
    for (place, Publish { event, guarantee, .. }) in publishes.into_iter().enumerate() {
        let fed = Fed { batch: Arc::clone(&batch), place, done: false };
        if !group.wants(&event) {
            fed.done();
            continue;
        }
        let ticket = shared.feeds.next.fetch_add(1, Ordering::Relaxed);
        shared.feeds.tickets.lock().insert(ticket, (filter.clone(), fed));
        waiter.tickets.push(ticket);
        entries.push(Entry { event: Some(event), note: EventNote::new(guarantee).encode_fed(ticket) });
    }
    if entries.is_empty() {
        return Admission::Admitted(receipt);
    }
    // The remote store has it until it is acknowledged: no disk has to.
    let (append, kept) = Append::new(entries, Durability::Received);
    let store = shared.store.clone();
    Admission::Waiting(Box::pin(async move {
        store.append(append).await;
        Receipt::joined(async move {
            let _waiter = waiter;
            match kept.await.whole() {
                Ok(()) => receipt.await,
                Err(reject) => Outcome::Refused(reject),
            }
        })
    }))
}

impl Shared {
    /// The groups with a member here that may get events of a remote store.
    pub(crate) fn groups_for(&self, store: &str) -> watch::Receiver<BTreeSet<TopicFilter>> {
        let mut stores = self.feeds.stores.lock();
        let sender = stores.entry(store.to_owned()).or_insert_with(|| {
            let filters: Vec<TopicFilter> = self.groups.lock().keys().cloned().collect();
            let wanted = filters.into_iter().filter(|filter| self.is_fed(store, filter));
            watch::Sender::new(wanted.collect())
        });
        sender.subscribe()
    }

    /// The group has a member here for the first time, or none any more. Call it without locks that come behind those of
    /// groups.
    pub(crate) fn group_changed(&self, filter: &TopicFilter) {
        // Held until it is told: else an older look could be told behind a newer one.
        let stores = self.feeds.stores.lock();
        for (store, sender) in &*stores {
            let wanted = self.is_fed(store, filter);
            sender.send_if_modified(|known| match wanted {
                true => known.insert(filter.clone()),
                false => known.remove(filter),
            });
        }
    }

    /// Other stores may have the events of a group now.
    pub(crate) fn routes_changed(&self) {
        let filters: Vec<TopicFilter> = self.groups.lock().keys().cloned().collect();
        filters.iter().for_each(|filter| self.group_changed(filter));
    }

    fn is_fed(&self, store: &str, filter: &TopicFilter) -> bool {
        let remote = self.remotes.load().iter().position(|remote| remote.name == store);
        let may = remote.is_some_and(|remote| self.table.load().may_send(remote, filter));
        may && self.group(filter).is_some_and(|group| group.is_here())
    }
}
