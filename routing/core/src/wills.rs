//! Wills: events that are published for clients that are lost (MQTT 5 §3.1.2.5). Which ones there are, and when each is
//! due.
//!
//! A will is a record of the log before its client knows that it is connected. It ends with a second record: that it was
//! called off, or the event it became, which names it in its note. So a crash of Weft loses no will and repeats none: a
//! client that was connected is lost by it, and its will is due when Weft runs again and the delay is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Outcome, Publish, Will};
use event::store::{Append, Entry, Position};
use event::{ClientId, Event, Guarantee, Principal, RejectKind};

use crate::account::{Account, Tenant};
use crate::notes::Change;
use crate::publish::{Marks, Publisher};
use crate::shared::{Shared, now_ms};

/// All wills. Sans-io.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    all: BTreeMap<u64, Standing>,
    /// When, and which.
    due: BTreeSet<(u64, u64)>,
    /// Called off, and the store had no room for the record.
    unrecorded: Vec<u64>,
}

/// A will that was not called off and not published.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) who: Principal,
    pub(crate) tenant: Tenant,
    pub(crate) will: Will,
    /// The durable session it belongs to: taken up again in time, it calls the will off.
    pub(crate) session: Option<u64>,
    /// Its record, once the dispatcher passed it.
    pub(crate) position: Option<Position>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The client is connected.
    Waiting,
    /// The client is lost; milliseconds since 1970.
    Due(u64),
    /// On its way; the dispatcher ends it.
    Publishing,
}

/// A will that is due.
struct Due {
    id: u64,
    who: Principal,
    tenant: Tenant,
    publish: Publish,
}

/// Wills that are published together.
const BATCH: usize = 1024;

impl Wills {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds one. `position`: its record, if it is known.
    pub(crate) fn add(&mut self, id: u64, standing: Standing) {
        self.all.insert(id, standing);
    }

    /// All that have a record, with it.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (u64, Position, &Standing)> {
        self.all.iter().filter_map(|(id, standing)| Some((*id, standing.position?, standing)))
    }

    /// As [`Self::recorded`], with numbers above `after`.
    pub(crate) fn recorded_behind(&self, after: u64) -> impl Iterator<Item = (u64, Position, &Standing)> {
        let behind = self.all.range((Bound::Excluded(after), Bound::Unbounded));
        behind.filter_map(|(id, standing)| Some((*id, standing.position?, standing)))
    }

    /// The record of this will is at `position`. False: there is no such will any more.
    pub(crate) fn recorded_at(&mut self, id: u64, position: Position) -> bool {
        let standing = self.all.get_mut(&id);
        standing.map(|standing| standing.position = Some(position)).is_some()
    }

    /// When this will is due, if its client is lost.
    fn due_at(&self, id: u64) -> Option<u64> {
        match self.all.get(&id)?.state {
            State::Due(at_ms) => Some(at_ms),
            State::Waiting | State::Publishing => None,
        }
    }

    /// The delay that the client asked for; `None`: it is gone, or on its way.
    fn delay(&self, id: u64) -> Option<Duration> {
        let standing = self.all.get(&id)?;
        (standing.state != State::Publishing).then_some(standing.will.delay)
    }

    /// Publishes it at `at_ms`.
    fn set_due(&mut self, id: u64, at_ms: u64) {
        let Some(standing) = self.all.get_mut(&id) else { return };
        if let State::Due(before) = standing.state {
            self.due.remove(&(before, id));
        }
        standing.state = State::Due(at_ms);
        self.due.insert((at_ms, id));
    }

    /// It is over: published, or called off. Tells whether it was there.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let Some(standing) = self.all.remove(&id) else { return false };
        if let State::Due(at_ms) = standing.state {
            self.due.remove(&(at_ms, id));
        }
        true
    }

    /// When the next one is due.
    fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }

    /// What is due at `now_ms`, the oldest first, at most [`BATCH`].
    fn take_due(&mut self, now_ms: u64) -> Vec<Due> {
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some((at_ms, id)) = self.due.first().copied()
            && at_ms <= now_ms
        {
            self.due.remove(&(at_ms, id));
            if let Some(standing) = self.all.get_mut(&id) {
                standing.state = State::Publishing;
                let Standing { who, tenant, will, .. } = standing;
                taken.push(Due { id, who: who.clone(), tenant: *tenant, publish: will.publish.clone() });
            }
        }
        taken
    }
}

impl Standing {
    /// The will of a client that is connected.
    pub(crate) fn new(who: Principal, tenant: Tenant, will: Will, session: Option<u64>) -> Self {
        Self { who, tenant, will, session, position: None, state: State::Waiting }
    }

    /// A will that the log holds, of a client that was connected before a crash. It was allowed when the client came.
    pub(crate) fn recovered(
        (client, tenant): (ClientId, Tenant),
        session: Option<u64>,
        delay_ms: u64,
        (event, guarantee, retain): (Event, Guarantee, bool),
        position: Position,
    ) -> Self {
        let publish = Publish { event: event.detached(), guarantee, retain, id: None };
        let will = Will { publish, delay: Duration::from_millis(delay_ms) };
        Self {
            position: Some(position),
            ..Self::new(Principal { client, ..Principal::anonymous("") }, tenant, will, session)
        }
    }

    /// The record of it. `moved`: it only stands in for an older record.
    pub(crate) fn entry(&self, id: u64, moved: bool) -> Entry {
        let Publish { event, guarantee, retain, id: _ } = &self.will.publish;
        let change = Change::Will {
            will: id,
            session: self.session,
            client: self.who.client.clone(),
            delay_ms: u64::try_from(self.will.delay.as_millis()).unwrap_or(u64::MAX),
            guarantee: *guarantee,
            retain: *retain,
            moved,
        };
        let note = Account::NONE.of(self.tenant).mark(change.encode());
        Entry { event: Some(event.clone()), note }
    }
}

/// The client of this will is lost: publishes it after its delay, at most `wait`.
pub(crate) fn lost(shared: &Shared, id: u64, wait: Duration) {
    let mut wills = shared.wills.lock();
    if let Some(delay) = wills.delay(id) {
        wills.set_due(id, after(now_ms(), delay.min(wait)));
        shared.wills_changed.notify_one();
    }
}

/// Calls a will off: the client left in an orderly way, or came back in time.
pub(crate) fn call_off(shared: &Shared, id: u64) {
    let mut wills = shared.wills.lock();
    if wills.remove(id) {
        wills.unrecorded.push(id);
        drop(wills);
        record(shared);
    }
}

/// A newer connection takes the session of this will's client; `present`: the session goes on.
pub(crate) fn taken_over(shared: &Shared, id: u64, present: bool) {
    let (delay, due_at) = {
        let wills = shared.wills.lock();
        (wills.delay(id), wills.due_at(id))
    };
    // [MQTT-3.1.3-9]: a will whose delay is not over is not sent when the session goes on.
    let in_time = match due_at {
        Some(at_ms) => at_ms > now_ms(),
        None => delay.is_some_and(|delay| !delay.is_zero()),
    };
    match present && in_time {
        true => call_off(shared, id),
        // The session of the will ends here, or there is nothing to wait for.
        false => lost(shared, id, Duration::ZERO),
    }
}

/// Wills that were recovered: their clients were lost at the latest when Weft went down.
pub(crate) fn after_crash(shared: &Shared) {
    let all: Vec<(u64, Option<u64>, Duration)> = {
        let wills = shared.wills.lock();
        wills.all.iter().map(|(id, standing)| (*id, standing.session, standing.will.delay)).collect()
    };
    let registry = shared.registry.lock();
    for (id, key, delay) in all {
        let session = key.and_then(|key| registry.key(key));
        let at_ms = session.map_or_else(now_ms, |session| {
            let mut state = session.state.lock();
            state.will = Some(id);
            after(state.detached_ms.unwrap_or_else(now_ms), delay.min(state.keep))
        });
        shared.wills.lock().set_due(id, at_ms);
    }
}

/// Resolves when a will is due, and whenever that may have changed. Cancel-safe.
pub(crate) async fn wait(shared: &Shared) {
    let next = shared.wills.lock().next_due();
    let changed = shared.wills_changed.notified();
    match next.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms()))) {
        None => changed.await,
        // The clock of the day may be set: looked at again at least once a second.
        Some(wait) => tokio::time::timeout(wait.min(Duration::from_secs(1)), changed).await.unwrap_or(()),
    }
}

/// Publishes what is due. Not cancel-safe: what is on its way is published after the next start only.
pub(crate) async fn publish_due(shared: &Arc<Shared>) {
    loop {
        let due = shared.wills.lock().take_due(now_ms());
        if due.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(due.len());
        for Due { id, who, tenant, publish } in due {
            let publish = Publish { event: as_of(&publish.event, now_ms()), ..publish };
            let marks = Marks { will: Some((id, tenant)), ..Marks::default() };
            let admission = Publisher::default().publish(shared, &who, marks, vec![publish]);
            answers.push((id, who.client, admission.receipt().await));
        }
        for (id, client, receipt) in answers {
            settle(shared, id, &client, receipt.await);
        }
    }
}

/// What becomes of a will that was handed to the store.
fn settle(shared: &Shared, id: u64, client: &ClientId, outcome: Outcome) {
    let Err(reject) = outcome.whole() else {
        // The dispatcher passed it.
        tracing::debug!(client_id = %client, "will published");
        return;
    };
    match reject.kind {
        RejectKind::Denied | RejectKind::Unproved | RejectKind::Malformed => {
            tracing::info!(client_id = %client, %reject, "will refused");
            call_off(shared, id);
        }
        RejectKind::Busy | RejectKind::Unavailable => {
            shared.wills.lock().set_due(id, after(now_ms(), RETRY));
        }
        // The log has it; it is published after the next start.
        RejectKind::Closed => {}
    }
}

/// How long a will waits that the store could not take.
const RETRY: Duration = Duration::from_secs(1);

/// Writes down which wills were called off, as far as the store has room.
pub(crate) fn record(shared: &Shared) {
    let mut wills = shared.wills.lock();
    while let Some(id) = wills.unrecorded.pop() {
        if !shared.append_unanswered(&Change::WillOff { will: id }) {
            wills.unrecorded.push(id);
            return;
        }
    }
}

/// Appends wills that stand below `old` again, so that the log can free what is before them.
pub(crate) async fn move_old(shared: &Shared, old: Position) {
    let mut entries: Vec<Entry> = {
        let wills = shared.wills.lock();
        let old = wills.recorded().filter(|(_, position, _)| *position < old);
        old.map(|(id, _, standing)| standing.entry(id, true)).collect()
    };
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(256));
        shared.store.append(Append::unanswered(std::mem::replace(&mut entries, rest))).await;
    }
}

/// The event of a will, made when the client came, as if made now: its life begins when it is published (MQTT 5 §3.1.3.2.4).
fn as_of(event: &Event, now_ms: u64) -> Event {
    let mut parts = event.parts().clone();
    if parts.expires_ms != 0 {
        parts.expires_ms = now_ms.saturating_add(parts.expires_ms.saturating_sub(parts.received_ms));
    }
    parts.received_ms = now_ms;
    Event::new(parts)
}

fn after(ms: u64, delay: Duration) -> u64 {
    ms.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}
