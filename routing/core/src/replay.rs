//! Replays: a subscription that starts in the past walks the log until it meets the dispatcher, and is one like all
//! others from there on.
//!
//! A replay is a cursor. The connection of its session reads on from where it stands (`session/walk.rs`), and what it finds
//! goes into the mailbox as numbered deliveries, a few at a time, as the subscriber takes them. Meanwhile the subscription
//! stands in the trie as a replay: what is dispatched for it is left in the log, so that nothing comes before what is older,
//! and nothing waits in memory. Only the last [`RECENT`] of it are remembered, as positions: once the walk is that near, they
//! follow what it found, and the subscription goes live in the same moment, however much is published meanwhile.
//!
//! Events that need no log are put into it as long as a replay wants them.
//!
//! Each step for a durable session is a record ([`Change::Replayed`]) and done when the dispatcher passes that: which numbers
//! its deliveries have, and where it goes live, are functions of the log. So a replay goes on after a lost connection and
//! after a crash where it was.
//!
//! [`Change::Replayed`]: crate::notes::Change::Replayed

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event::hub::{Subscribe, SubscribeOptions};
use event::store::{Committed, Position};
use event::{ClientId, Event, Guarantee, Reject, Start, TopicFilter};
use filter::EventView;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::notes::{Assignment, Note, Wish};
use crate::select::{Allowance, Selection};
use crate::session::Session;
use crate::session::mailbox::Item;
use crate::session::slot::{Slot, SlotState};
use crate::shared::{Shared, Subscription, now_ms};
use crate::trie::Trie;

/// Dispatched events that a replay remembers.
const RECENT: usize = 1024;

/// What tells the replays of one session apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplayId {
    /// Where the log was when it was asked for.
    pub(crate) as_of: Position,
    /// Behind which it began.
    pub(crate) start: Position,
    /// The number that the subscriber gave its subscriptions; 0: none.
    pub(crate) subscription: u32,
}

/// Subscriptions of one session that were made together and start at the same place.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) id: ReplayId,
    /// The session's number.
    pub(crate) session: u64,
    client: ClientId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Empty: it is over.
    wanted: Vec<(TopicFilter, SubscribeOptions)>,
    trie: Trie<(SubscribeOptions, Option<Arc<Selection>>)>,
    /// Up to here all is in the mailbox.
    after: Position,
    /// What was dispatched and is wanted, behind `recent_from`.
    recent: VecDeque<Assignment>,
    recent_from: Position,
    /// Events of the step that is on its way to the dispatcher, so that they need not be read again.
    at_hand: Vec<(Position, Event)>,
}

/// What a walk found, on its way into the mailbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Where the replay stood. It does not count if that is not so any more.
    pub(crate) from: Position,
    /// What is wanted.
    pub(crate) list: Vec<Assignment>,
    /// All up to here was looked at.
    pub(crate) up_to: Position,
    /// That was all there is.
    pub(crate) last: bool,
}

/// A replay as a checkpoint holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReplayImage {
    id: ReplayId,
    wanted: Vec<(TopicFilter, SubscribeOptions)>,
    after: Position,
    recent: Vec<Assignment>,
    recent_from: Position,
}

impl Replay {
    fn new(id: ReplayId, session: u64, client: ClientId) -> Self {
        let state = State {
            wanted: Vec::new(),
            trie: Trie::default(),
            after: id.start,
            recent: VecDeque::new(),
            recent_from: id.as_of,
            at_hand: Vec::new(),
        };
        Self { id, session, client, state: Mutex::new(state) }
    }

    /// Up to here all is in the mailbox; `None` when it is over.
    pub(crate) fn after(&self) -> Option<Position> {
        let state = self.state.lock();
        (!state.wanted.is_empty()).then_some(state.after)
    }

    fn add(&self, filter: &TopicFilter, options: SubscribeOptions, selection: Option<Arc<Selection>>) {
        let mut state = self.state.lock();
        state.trie.insert(filter, 0, (options, selection));
        state.wanted.push((filter.detached(), options));
    }

    /// Takes one of its subscriptions out; whether others are left.
    fn remove(&self, filter: &TopicFilter) -> bool {
        let mut state = self.state.lock();
        state.trie.remove(filter, 0);
        state.wanted.retain(|(known, _)| known != filter);
        !state.wanted.is_empty()
    }

    /// The dispatcher passed these events, which are in the log.
    pub(crate) fn passed(&self, items: &[Item]) {
        let mut state = self.state.lock();
        for item in items {
            let Some(position) = item.position.filter(|position| *position > state.after) else { continue };
            let Some(wanted) = state.wants(&self.client, &item.event, item.guarantee, item.retain, position)
            else {
                continue;
            };
            if state.recent.len() == RECENT
                && let Some(oldest) = state.recent.pop_front()
            {
                state.recent_from = oldest.position;
            }
            state.recent.push_back(wanted);
        }
    }

    /// Looks through `records`, which lie behind `at`, and takes what is wanted of them, up to and with `until`, at most
    /// `most`; `end` if that is all there is. Gives the step, and its events beside it.
    pub(crate) fn look(
        &self,
        records: Vec<Committed>,
        at: Position,
        until: Position,
        most: usize,
        end: bool,
        now_ms: u64,
    ) -> (Step, Vec<(Position, Event)>) {
        let state = self.state.lock();
        let mut step = Step { from: state.after, list: Vec::new(), up_to: at, last: end };
        let mut events = Vec::new();
        for Committed { position, event, note } in records {
            if position > until {
                step.last = true;
                break;
            }
            if step.list.len() == most {
                step.last = false;
                break;
            }
            step.up_to = position;
            let (Some(event), Some(Note::Event(note) | Note::Part(_, note) | Note::Apart(note))) =
                (event, Note::decode(&note))
            else {
                continue;
            };
            // Without a promise it was kept for others, or since the replay began, for it.
            let shown = note.guarantee != Guarantee::AtMostOnce || position > self.id.as_of;
            if note.state_only || !shown || event.is_expired(now_ms) {
                continue;
            }
            if let Some(wanted) = state.wants(&self.client, &event, note.guarantee, note.retain, position) {
                step.list.push(wanted);
                events.push((position, event.detached()));
            }
        }
        if step.last {
            step.up_to = step.up_to.max(until);
        }
        (step, events)
    }

    /// Keeps the events of a step beside it until it is done.
    pub(crate) fn keep_at_hand(&self, events: Vec<(Position, Event)>) {
        self.state.lock().at_hand = events;
    }

    /// The strongest guarantee that is wanted.
    pub(crate) fn guarantee(&self) -> Guarantee {
        let state = self.state.lock();
        state.wanted.iter().map(|(_, options)| options.guarantee).max().unwrap_or(Guarantee::AtMostOnce)
    }

    /// The lowest position that has to stay in the log for it.
    pub(crate) fn needs(&self, dispatched: Position, most: u64) -> Position {
        // What was there before may go, as it may for all others; what came since it was asked for is owed, within limits.
        let owed = self.state.lock().after.max(self.id.as_of);
        owed.max(Position(dispatched.0.saturating_sub(most)))
    }

    pub(crate) fn image(&self) -> ReplayImage {
        let state = self.state.lock();
        ReplayImage {
            id: self.id,
            wanted: state.wanted.clone(),
            after: state.after,
            recent: state.recent.iter().copied().collect(),
            recent_from: state.recent_from,
        }
    }
}

impl State {
    /// How an event is delivered, if it is wanted: as overlapping subscriptions are \[MQTT-3.3.4-2\].
    fn wants(
        &self,
        client: &ClientId,
        event: &Event,
        guarantee: Guarantee,
        retain: bool,
        position: Position,
    ) -> Option<Assignment> {
        let own = client.as_str() == &**event.publisher();
        let mut found: Option<(Guarantee, bool)> = None;
        let view = EventView::new(event);
        let mut allowance = Allowance::new(&view);
        self.trie.matches(event.topic(), &mut |_, (options, selection)| {
            let mut passes =
                || selection.as_ref().is_none_or(|selection| allowance.passes(selection, &view, &mut None));
            if !(own && options.no_local) && passes() {
                let (strongest, as_published) = found.unwrap_or((Guarantee::AtMostOnce, false));
                let as_published = as_published || options.retain_as_published;
                found = Some((strongest.max(options.guarantee), as_published));
            }
        });
        let (strongest, as_published) = found?;
        Some(Assignment { position, guarantee: guarantee.min(strongest), retain: retain && as_published })
    }

    /// All up to here is told.
    fn advance(&mut self, up_to: Position) {
        self.after = up_to;
        while self.recent.front().is_some_and(|first| first.position <= up_to) {
            self.recent.pop_front();
        }
        self.recent_from = self.recent_from.max(up_to);
    }

    fn event_at_hand(&mut self, position: Position) -> Option<Event> {
        let at = self.at_hand.iter().position(|(at, _)| *at == position)?;
        // They are asked for in the order they stand in.
        self.at_hand.drain(..=at).next_back().map(|(_, event)| event)
    }
}

impl Shared {
    /// Finds where in the log each wish starts. Cancel-safe.
    pub(crate) async fn resolve(&self, wanted: Vec<Subscribe>) -> Result<Vec<Wish>, Reject> {
        let mut wishes = Vec::with_capacity(wanted.len());
        let mut known: Option<(Start, Position)> = None;
        for Subscribe { filter, options, replay, select: _ } in wanted {
            let start = match (replay, known) {
                (None, _) => None,
                (Some(start), Some((same, position))) if start == same => Some(position),
                (Some(start), _) => {
                    let position = match start {
                        Start::All => Position(0),
                        Start::Behind(position) => position,
                        Start::Since(since_ms) => self.store.find(since_ms).await?,
                        Start::Ago(ago) => {
                            let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                            self.store.find(now_ms().saturating_sub(ago_ms)).await?
                        }
                    };
                    known = Some((start, position));
                    Some(position)
                }
            };
            wishes.push(Wish { filter, options, start });
        }
        Ok(wishes)
    }

    /// Lets a subscription start behind `start`. The caller holds `dispatched`, at `as_of`.
    pub(crate) fn start_replay(
        &self,
        session: &Arc<Session>,
        filter: &TopicFilter,
        options: SubscribeOptions,
        selection: Option<Arc<Selection>>,
        start: Position,
        as_of: Position,
    ) {
        let id = ReplayId { as_of, start: start.min(as_of), subscription: options.id };
        let replay = {
            let mut state = session.state.lock();
            let known = state.replays.iter().find(|replay| replay.id == id).cloned();
            known.unwrap_or_else(|| {
                let replay = Arc::new(Replay::new(id, session.key, session.client.clone()));
                state.replays.push(Arc::clone(&replay));
                self.replays.fetch_add(1, Ordering::Relaxed);
                session.replaying.store(state.replays.len(), Ordering::Release);
                replay
            })
        };
        replay.add(filter, options, selection);
        self.plant_replay(session, filter, &replay);
        session.fill(|_| ());
    }

    fn plant_replay(&self, session: &Session, filter: &TopicFilter, replay: &Arc<Replay>) {
        self.trie.write().insert(filter, session.key, Subscription::Replay(Arc::clone(replay)));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A subscription ends or is replaced: so does its replay.
    pub(crate) fn stop_replay(&self, session: &Session, filter: &TopicFilter) {
        if session.replaying() > 0 {
            self.keep_replays(session, |replay| replay.remove(filter));
        }
    }

    /// The session is over.
    pub(crate) fn end_replays(&self, session: &Session) {
        self.keep_replays(session, |_| false);
    }

    fn keep_replays(&self, session: &Session, keep: impl Fn(&Replay) -> bool) {
        let mut state = session.state.lock();
        let before = state.replays.len();
        state.replays.retain(|replay| keep(replay));
        self.replays.fetch_sub(before - state.replays.len(), Ordering::Relaxed);
        session.replaying.store(state.replays.len(), Ordering::Release);
    }

    /// Puts what a walk found into the mailbox, and lets the subscriptions go live if it met the dispatcher. The caller holds
    /// `dispatched`.
    pub(crate) fn advance(&self, session: &Arc<Session>, replay: &Arc<Replay>, step: Step) {
        let mut state = replay.state.lock();
        if state.after != step.from || state.wanted.is_empty() {
            return;
        }
        let meets = step.last && state.recent_from <= step.up_to;
        state.advance(step.up_to);
        let mut list = step.list;
        if meets {
            list.extend(state.recent.drain(..));
        }
        let id = replay.id.subscription;
        let ids: Option<Arc<[u32]>> = (id != 0).then(|| Arc::from([id]));
        let mut bytes = 0;
        session.fill(|mailbox| {
            for Assignment { position, guarantee, retain } in &list {
                let mut slot = Slot::new(*position, *guarantee, *retain, SlotState::Open);
                slot.ids.clone_from(&ids);
                slot.account = Account::REPLAY;
                let event = state.event_at_hand(*position);
                bytes += event.as_ref().map_or(0, |event| event.data().len());
                mailbox.push_slot(slot, event.as_ref(), &self.options, &self.totals);
            }
        });
        state.at_hand = Vec::new();
        let wanted = if meets { std::mem::take(&mut state.wanted) } else { Vec::new() };
        drop(state);
        self.metrics.replayed(list.len(), bytes);
        if meets {
            self.keep_replays(session, |other| !std::ptr::eq(other, &**replay));
            for (filter, options) in wanted {
                let selection = session.state.lock().subscriptions.selection(&filter).cloned();
                self.plant(session, &filter, options, selection, step.up_to);
            }
            tracing::debug!(client_id = %session.client, up_to = step.up_to.0, "a replay met the present");
        }
    }

    /// Takes up a replay that a checkpoint holds. Its subscriptions are planted as live ones.
    pub(crate) fn restore_replay(&self, session: &Session, image: ReplayImage) {
        let ReplayImage { id, wanted, after, recent, recent_from } = image;
        let replay = Arc::new(Replay::new(id, session.key, session.client.clone()));
        for (filter, options) in &wanted {
            let selection = session.state.lock().subscriptions.selection(filter).cloned();
            replay.add(filter, *options, selection);
            self.plant_replay(session, filter, &replay);
        }
        {
            let mut state = replay.state.lock();
            (state.after, state.recent, state.recent_from) = (after, recent.into(), recent_from);
        }
        let mut state = session.state.lock();
        state.replays.push(replay);
        self.replays.fetch_add(1, Ordering::Relaxed);
        session.replaying.store(state.replays.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn item(position: u64) -> Item {
        Item {
            event: event("a", "x"),
            guarantee: Guarantee::AtLeastOnce,
            retain: false,
            position: Some(Position(position)),
            live_done: false,
            apart: false,
            account: Account::NONE,
        }
    }

    #[test]
    fn only_the_last_events_are_remembered() {
        let id = ReplayId { as_of: Position(10), start: Position(0), subscription: 0 };
        let replay = Replay::new(id, 1, ClientId::from("c"));
        replay.add(&TopicFilter::parse("a").unwrap(), SubscribeOptions::new(Guarantee::ExactlyOnce), None);
        let remembered = || {
            let state = replay.state.lock();
            (state.recent_from.0, state.recent.len())
        };
        replay.passed(&[item(11), item(12)]);
        assert_eq!(remembered(), (10, 2));
        let more: Vec<Item> = (13..13 + RECENT as u64).map(item).collect();
        replay.passed(&more);
        assert_eq!(remembered(), (12, RECENT), "what is not remembered is in the log");
        replay.state.lock().advance(Position(20));
        assert_eq!(remembered(), (20, RECENT - 8));
        replay.passed(&[item(19)]);
        assert_eq!(remembered(), (20, RECENT - 8), "that was told");
    }
}
