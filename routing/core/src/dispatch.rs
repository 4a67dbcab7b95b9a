//! The dispatcher: walks what the store kept, in the order of the log, and hands it to its subscribers.
//!
//! Recovery walks the same records through the same code, so it comes to the same state.

use std::sync::Arc;

use event::Event;
use event::access::Rights;
use event::store::{Batch, Committed, Feed, Position};
use event::{Guarantee, Select, TopicFilter, TopicName};

use crate::account::{Account, Tenant};
use crate::checkpoint::Told;
use crate::group::{Group, by_group};
use crate::held;
use crate::ledger::End;
use crate::matching::{Matched, Matcher};
use crate::notes::{Assignment, Change, EventNote, Note, Part, Wish};
use crate::session::mailbox::{Item, Wanted};
use crate::session::{Reply, Session};
use crate::shared::{Asked, Shared};
use crate::wills::Standing;
use crate::{checkpoint, keeper};

/// An event of the log.
struct Came {
    position: Position,
    event: Option<Event>,
    note: EventNote,
    account: Account,
}

/// Applies records to the shared state.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    matcher: Matcher,
    /// Events of one topic that follow each other: their subscribers are locked once for all of them.
    run: Vec<Item>,
    run_of: Option<Arc<Matched>>,
    /// Events of a publish whose last one is still to come.
    parts: Vec<Came>,
    part: Option<Part>,
    /// At recovery: what a checkpoint has told already.
    told: Told,
    /// The highest stamp seen.
    pub(crate) stamp: u64,
}

/// Dispatches what the feed brings until the store is gone. Not cancel-safe: a batch is lost with the future.
/// The last checkpoint stands at `checkpoint`.
pub(crate) async fn run(mut dispatcher: Dispatcher, mut feed: Feed, checkpoint: Position) {
    let shared = Arc::clone(&dispatcher.shared);
    let mut checkpoints = checkpoint::Schedule::new(checkpoint);
    while let Some(batch) = feed.recv().await {
        let up_to = dispatcher.dispatch(batch);
        checkpoints.after(&shared, up_to);
    }
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>, told: Told) -> Self {
        Self {
            shared,
            matcher: Matcher::default(),
            run: Vec::new(),
            run_of: None,
            parts: Vec::new(),
            part: None,
            told,
            stamp: 0,
        }
    }

    /// Dispatches a batch and resolves its receipts. Gives the position up to which all is done.
    fn dispatch(&mut self, batch: Batch) -> Position {
        let shared = Arc::clone(&self.shared);
        let mut dispatched = shared.dispatched.lock();
        for record in batch.entries {
            let position = record.position;
            self.apply(record, false);
            *dispatched = (*dispatched).max(position);
        }
        self.flush();
        let up_to = *dispatched;
        drop(dispatched);
        for (receipt, outcome) in batch.receipts {
            receipt.resolve(outcome);
        }
        up_to
    }

    /// Whether some of the events of a publish are still to come: none of them is dispatched yet.
    pub(crate) fn is_in_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Applies records at recovery.
    pub(crate) fn replay(&mut self, records: Vec<Committed>) {
        let shared = Arc::clone(&self.shared);
        for record in records {
            let position = record.position;
            self.apply(record, true);
            if position <= self.told.highest {
                // Who has seen a record is asked for each one.
                self.flush();
            }
            let mut dispatched = shared.dispatched.lock();
            *dispatched = position.max(*dispatched);
        }
        self.flush();
    }

    fn apply(&mut self, record: Committed, replay: bool) {
        let Committed { position, event, note } = record;
        let (account, once, note) = Note::read(&note);
        if !matches!(note, Some(Note::Part(..))) {
            self.parts.clear();
        }
        match note {
            Some(Note::Part(part, note)) => self.part(part, Came { position, event, note, account }),
            Some(Note::Event(note)) => self.event(Came { position, event, note, account }, false),
            Some(Note::Apart(note)) => self.event(Came { position, event, note, account }, true),
            Some(Note::Fed(ticket, note)) => self.fed(position, event, note, ticket),
            Some(Note::Change(change)) => {
                self.flush();
                self.change(position, event, (change, account.tenant()), replay);
            }
            None => {
                tracing::error!(position = position.0, "a record has a note that cannot be read; skipped")
            }
        }
        if let Some(once) = once {
            self.shared.known(once);
        }
    }

    /// Takes one of the events of a publish, and all of them with the last one. A log that ends before that, and goes on with
    /// other records after a crash, never had it: the publisher was not answered, and repeats them all. One that lost an earlier
    /// one to rot has the others.
    fn part(&mut self, part: Part, came: Came) {
        let goes_on = self.part.is_some_and(|known| known.count == part.count && known.place < part.place);
        if !goes_on {
            self.parts.clear();
        }
        self.part = Some(part);
        self.parts.push(came);
        if part.is_last() {
            for came in std::mem::take(&mut self.parts) {
                let position = came.position;
                self.event(came, false);
                if position <= self.told.highest {
                    // Who has seen a record is asked for each one.
                    self.flush();
                }
            }
        }
    }

    fn event(&mut self, Came { position, event, note, account }: Came, apart: bool) {
        self.received(note.id);
        if let Some(will) = note.will
            && !self.shared.wills.lock().remove(will)
        {
            self.shared.held.lock().remove(will);
        }
        let Some(event) = event else { return };
        self.stamp = self.stamp.max(event.parts().stamp);
        if let Some(from) = note.moved {
            self.shared.retained.write().moved(event.topic(), from, position);
            return;
        }
        if note.retain {
            self.shared.retained.write().set(&event, note.guarantee, position);
        }
        if note.state_only {
            return;
        }
        let matched = self.matched(event.topic());
        if !self.run_of.as_ref().is_some_and(|known| Arc::ptr_eq(known, &matched)) {
            self.flush();
            self.run_of = Some(matched);
        }
        let EventNote { guarantee, retain, live_done, .. } = note;
        let position = Some(position);
        self.run.push(Item { event, guarantee, retain, position, live_done, apart, account });
    }

    /// Hands an event to the shared subscription that a remote store brought it for. At recovery none waits for it.
    fn fed(&mut self, position: Position, event: Option<Event>, note: EventNote, ticket: u64) {
        self.flush();
        let Some(event) = event else { return };
        self.stamp = self.stamp.max(event.parts().stamp);
        let Some((filter, fed)) = self.shared.feeds.take(ticket) else { return };
        let EventNote { guarantee, retain, live_done, .. } = note;
        let (position, account) = (Some(position), Account::FED);
        let item = Item { event, guarantee, retain, position, live_done, apart: false, account };
        if let Some(group) = self.shared.group(&filter) {
            group.offer_fed(&item, fed, &self.shared);
        }
    }

    /// The publisher's id of an exactly-once publish is in use.
    fn received(&self, id: Option<(u16, u64)>) {
        if let Some((id, key)) = id
            && let Some(session) = self.session(key)
        {
            session.state.lock().received_ids.insert(id);
        }
    }

    fn matched(&mut self, topic: &TopicName) -> Arc<Matched> {
        // What is in the log was allowed.
        self.matcher.find(&self.shared, &Rights::all(), topic).0
    }

    /// Hands the run to its subscribers.
    fn flush(&mut self) {
        let Some(matched) = self.run_of.take() else { return };
        let Self { shared, told, .. } = &*self;
        // As long as a checkpoint may have told of it, each run is one record.
        let position = self.run.first().and_then(|item| item.position).unwrap_or_default();
        for same in self.run.chunk_by(|a, b| a.event.publisher() == b.event.publisher()) {
            let Some(first) = same.first() else { continue };
            let owed = |session: &Session, wanted: &Wanted, items: &[Item]| {
                let had = !session.durable
                    && wanted.guarantee == Guarantee::AtMostOnce
                    && items.iter().all(|item| item.live_done);
                !had && !told.knows(session.key, position)
            };
            matched.each(first.event.publisher(), |session, wanted| {
                if owed(session, wanted, same) {
                    session.offer(same, wanted, shared);
                }
            });
            matched.each_selective(same, |session, wanted, item| {
                if owed(session, wanted, std::slice::from_ref(item)) {
                    session.offer(std::slice::from_ref(item), wanted, shared);
                }
            });
        }
        let asks = |group: &Group| !told.knows(group.key, position);
        let fits = |item: &Item| !item.live_done && !item.apart;
        matched.each_group(&self.run, asks, fits, |group, items| group.offer(items, shared));
        for replay in matched.replays.iter().filter(|replay| !told.knows(replay.session, position)) {
            replay.passed(&self.run);
        }
        self.run.clear();
    }

    fn change(
        &mut self,
        position: Position,
        event: Option<Event>,
        (change, tenant): (Change, Tenant),
        replay: bool,
    ) {
        match change {
            Change::Will { will, session, client, delay_ms, guarantee, retain, moved } => {
                self.stamp = self.stamp.max(will);
                let again = self.shared.wills.lock().recorded_at(will, position);
                // One that was called off or published while it was moved does not come back.
                if let Some(event) = event.filter(|_| !again && replay && !moved) {
                    let (whose, publish) = ((client, tenant), (event, guarantee, retain));
                    let standing = Standing::recovered(whose, session, delay_ms, publish, position);
                    self.shared.wills.lock().add(will, standing);
                }
            }
            Change::WillOff { will } => {
                self.shared.wills.lock().remove(will);
            }
            Change::Held { held, moved: true, .. } => {
                self.shared.held.lock().moved(held, position);
            }
            Change::Held { held, client, guarantee, retain, id, until, moved: false } => {
                self.stamp = self.stamp.max(held);
                self.received(id);
                let Some(event) = event else { return };
                let (whose, how) = ((client, tenant), (guarantee, retain));
                let standing = held::Standing::new(whose, how, until, position, event.weight());
                self.shared.hold(held, standing);
            }
            Change::Decided { held, commit, id } => {
                self.received(id);
                self.shared.decided(held, commit, replay);
            }
            Change::Subscribed { session, ticket, wanted } => {
                let wanted = wanted.into_iter().map(|one| Wish::from(one).into()).collect();
                self.subscribed(session, ticket, wanted, position, replay);
            }
            Change::SubscribedFrom { session, ticket, wanted } => {
                let wanted = wanted.into_iter().map(Asked::from).collect();
                self.subscribed(session, ticket, wanted, position, replay);
            }
            Change::SubscribedWith { session, ticket, wanted } => {
                let wanted = wanted.into_iter().map(|one| self.asked(one)).collect();
                self.subscribed(session, ticket, wanted, position, replay);
            }
            Change::Replayed { session, replay, step } => {
                let Some(session) = self.session_before(session, position) else { return };
                let known = session.state.lock().replays.iter().find(|known| known.id == replay).cloned();
                if let Some(known) = known {
                    self.shared.advance(&session, &known, step);
                }
            }
            Change::Unsubscribed { session, ticket, filters } => {
                let Some(session) = self.session_before(session, position) else { return };
                let ended = self.shared.unsubscribe(&session, &filters, replay);
                self.reply(&session, ticket, Reply::Ended(ended), replay);
            }
            Change::Assigned { session, .. } if self.told.knows(session, position) => {}
            Change::Assigned { session, filter, list } => self.assigned(session, &filter, &list, replay),
            // While Weft runs, the connection that appended these did them already.
            change @ (Change::Open { .. }
            | Change::Closed { .. }
            | Change::Ended { .. }
            | Change::Acked { .. }
            | Change::Over { .. }
            | Change::Received { .. }
            | Change::Released { .. }
            | Change::Returned { .. }
            | Change::Settled { .. }) => match replay {
                true => self.recovered(change, position),
                false => self.passed(&change, position),
            },
        }
    }

    /// A change that was done when its record was appended.
    fn passed(&self, change: &Change, position: Position) {
        if let Change::Open { session, fresh: true, .. } = change
            && let Some(session) = self.session(*session)
        {
            session.begins(position);
        }
    }

    fn asked(&self, (wish, select): (Wish, Option<Select>)) -> Asked {
        let selection = |select: Select| self.shared.selections.recorded(&select, &self.shared.metrics);
        Asked { wish, selection: select.map(selection) }
    }

    fn subscribed(&self, session: u64, ticket: u32, wanted: Vec<Asked>, position: Position, replay: bool) {
        let Some(session) = self.session_before(session, position) else { return };
        let granted = self.shared.subscribe(&session, &wanted, position);
        self.reply(&session, ticket, Reply::Granted(granted), replay);
    }

    fn recovered(&self, change: Change, position: Position) {
        let shared = &self.shared;
        match change {
            Change::Open { session: key, client, keep_s, keep_all, fresh } => {
                let mut registry = shared.registry.lock();
                let older = registry.client(&client).cloned();
                if older.as_ref().is_some_and(|older| self.told.knows(older.key, position)) {
                    // The session that the client has in the checkpoint is this one, or came later.
                    return;
                }
                if let Some(older) = older.filter(|older| fresh || older.key != key) {
                    shared.end(&mut registry, &older);
                }
                let session = registry.key(key).cloned().unwrap_or_else(|| {
                    let session = Arc::new(Session::new(key, client, true, keep_all));
                    session.begins(position);
                    registry.insert(Arc::clone(&session));
                    session
                });
                let mut state = session.state.lock();
                state.keep = keeper::keep_of(keep_s);
                state.detached_ms = None;
            }
            Change::Closed { session, at_ms, keep_s } => {
                if let Some(session) = self.session_before(session, position) {
                    let mut state = session.state.lock();
                    state.keep = keeper::keep_of(keep_s);
                    state.detached_ms = Some(at_ms);
                }
            }
            Change::Ended { session } => {
                let mut registry = shared.registry.lock();
                if let Some(session) = registry.key(session).cloned() {
                    shared.end(&mut registry, &session);
                }
            }
            Change::Acked { session, sent, ranges } => self.over(session, sent, &ranges, End::Acked),
            Change::Over { session, sent, ranges, end } => self.over(session, sent, &ranges, end),
            Change::Returned { session, numbers } => {
                if let Some(session) = self.session(session) {
                    let mut left = Vec::new();
                    session.mailbox.lock().give_up(&numbers, &shared.totals, &mut left);
                    by_group(&left, |group, positions| group.put_back(session.key, positions, shared));
                }
            }
            Change::Settled { filter, positions } => {
                if let Some(group) = shared.group(&filter) {
                    group.settled(&positions, shared);
                }
            }
            Change::Received { session, numbers } => {
                if let Some(session) = self.session(session) {
                    session.mailbox.lock().receive(&numbers);
                }
            }
            Change::Released { session, ids } => {
                if let Some(session) = self.session(session) {
                    let mut state = session.state.lock();
                    for id in ids {
                        state.received_ids.remove(&id);
                    }
                }
            }
            Change::Subscribed { .. }
            | Change::SubscribedFrom { .. }
            | Change::SubscribedWith { .. }
            | Change::Replayed { .. }
            | Change::Unsubscribed { .. }
            | Change::Will { .. }
            | Change::WillOff { .. }
            | Change::Assigned { .. }
            | Change::Held { .. }
            | Change::Decided { .. } => {}
        }
    }

    fn over(&self, session: u64, sent: u64, ranges: &[(u64, u32)], end: End) {
        let Some(session) = self.session(session) else { return };
        let numbers = ranges.iter().flat_map(|(first, count)| *first..*first + u64::from(*count));
        let numbers: Vec<u64> = numbers.collect();
        let mut left = Vec::new();
        let mut mailbox = session.mailbox.lock();
        mailbox.set_sent(sent);
        mailbox.end(&numbers, end, &self.shared.totals, &mut left);
        drop(mailbox);
        by_group(&left, |group, positions| group.forget(&session, positions, &self.shared));
    }

    /// The session takes the events of a shared subscription, with its next numbers: these are taken whatever became of
    /// the group since the record was appended.
    fn assigned(&self, key: u64, filter: &TopicFilter, list: &[Assignment], replay: bool) {
        let shared = &self.shared;
        let group = shared.group(filter);
        let mut refused: Vec<Position> = Vec::new();
        if let Some(session) = self.session(key) {
            let slots = match &group {
                Some(group) => group.assigned(key, list, shared),
                None => list.iter().map(|assignment| (assignment.numbered_only(), None)).collect(),
            };
            let away = session.fill(|mailbox| {
                for (slot, event) in slots {
                    let position = slot.position;
                    if !mailbox.try_push_slot(slot, event.as_ref(), &shared.options, &shared.totals) {
                        refused.push(position);
                    }
                }
                !mailbox.attached
            });
            if away && !replay {
                shared.return_shared(&session);
            }
        } else {
            refused.extend(list.iter().map(|assignment| assignment.position));
        }
        if let Some(group) = group.filter(|_| !refused.is_empty()) {
            group.put_back(key, &refused, shared);
            if !replay {
                group.turned_away(key);
                group.give(shared);
            }
        }
    }

    fn reply(&self, session: &Session, ticket: u32, reply: Reply, replay: bool) {
        if !replay && ticket != 0 {
            session.state.lock().replies.insert(ticket, reply);
        }
    }

    /// The session, if it has not seen the record at `position`.
    fn session_before(&self, key: u64, position: Position) -> Option<Arc<Session>> {
        if self.told.knows(key, position) { None } else { self.session(key) }
    }

    fn session(&self, key: u64) -> Option<Arc<Session>> {
        self.shared.registry.lock().key(key).cloned()
    }
}
