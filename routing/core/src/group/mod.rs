//! Shared subscriptions: a group of sessions that share the events of one filter, each event going to one of them
//! (MQTT 5 §4.8.2).
//!
//! A group is a cursor of its own: what none of its members can take now waits in it, as positions of the log. What a
//! member has and does not acknowledge goes to another one when it leaves, but for exactly-once deliveries that were sent:
//! these may end with that member only \[MQTT-4.8.2-4, -5\].
//!
//! Which member gets an event is decided while Weft runs, by who is here and how busy it is. So that a durable member's
//! deliveries have the same numbers after a crash, what it gets is a record ([`Change::Assigned`]), and takes its numbers
//! when the dispatcher passes that. Members that end with their connection leave no number behind and need none; what
//! they did is recorded ([`Change::Settled`]) only if a durable member makes the group outlive them.
//!
//! [`Change::Assigned`]: crate::notes::Change::Assigned
//! [`Change::Settled`]: crate::notes::Change::Settled

mod give;
mod image;
mod pick;
mod queue;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event::hub::SubscribeOptions;
use event::store::Position;
use event::{Event, Guarantee, Select, TopicFilter};
use parking_lot::Mutex;

use crate::Options;
use crate::account::Account;
use crate::feed::Fed;
use crate::ledger::{Books, End, Kept};
use crate::notes::{Assignment, Change};
use crate::select::Selection;
use crate::session::Session;
use crate::session::mailbox::Wanted;
use crate::session::slot::{Left, Slot, SlotState};
use crate::shared::Shared;

pub(crate) use image::GroupImage;
use pick::Picker;
pub use pick::Strategy;
use queue::Queue;
pub(crate) use shared::other_filter;

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its number in the trie.
    pub(crate) key: u64,
    /// `$share/name/filter`.
    pub(crate) filter: TopicFilter,
    /// The record with which it began.
    since: Position,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In the order of the picker's seats.
    members: Vec<Member>,
    /// The filter that all of them have.
    selection: Option<Arc<Selection>>,
    picker: Picker,
    /// What no member has.
    waiting: Queue<Waiting>,
    /// What members have, or are about to get.
    out: Queue<Out>,
    /// What it owes is what waits, and what is on its way to members.
    books: Books,
    /// The walk of a checkpoint that took it last.
    walk: u64,
    /// With which members ended, and how many did.
    suspects: BTreeMap<Position, u32>,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    wanted: Wanted,
}

/// An event that waits for a member.
#[derive(Debug)]
struct Waiting {
    guarantee: Guarantee,
    retain: bool,
    /// What strategies that hash go by.
    key: u64,
    account: Account,
    /// Held only on its way to a member that takes it now; else it is read from the log.
    event: Option<Event>,
    /// A remote store brought it for this group, and is told when a member acknowledged it.
    fed: Option<Fed>,
}

#[derive(Debug)]
struct Out {
    session: u64,
    /// The session outlives Weft.
    durable: bool,
    waiting: Waiting,
    /// It is in the member's mailbox: for a durable one, its record was passed.
    given: bool,
}

/// Calls `each` with the deliveries of each group.
pub(crate) fn by_group(left: &[Left], mut each: impl FnMut(&Arc<Group>, &[Position])) {
    for same in left.chunk_by(|a, b| a.group.key == b.group.key) {
        let positions: Vec<Position> = same.iter().map(|left| left.position).collect();
        if let Some(first) = same.first() {
            each(&first.group, &positions);
        }
    }
}

impl Group {
    pub(crate) fn new(key: u64, filter: TopicFilter, since: Position, options: &Options) -> Self {
        let name = filter.share().unwrap_or_default();
        let shared = &options.shared;
        let picker = Picker::new(shared.strategy_of(name), shared.inflight.max(1), &shared.weights);
        let (waiting, out) = (Queue::default(), Queue::default());
        let (members, books) = (Vec::new(), Books::default());
        let suspects = BTreeMap::new();
        let state = State { members, selection: None, picker, waiting, out, books, walk: 0, suspects };
        Self { key, filter, since, state: Mutex::new(state) }
    }

    /// Whether a session that is about to join, or to join anew, has another filter than the members that are there. If
    /// `durable`, only those count that the log knows.
    pub(crate) fn differs(&self, session: u64, select: Option<&Select>, durable: bool) -> bool {
        let state = self.state.lock();
        let others = |member: &Member| member.session.key != session && (member.session.durable || !durable);
        state.members.iter().any(others) && state.select() != select
    }

    /// The members beside `session`.
    pub(crate) fn others(&self, session: u64) -> Vec<Arc<Session>> {
        let state = self.state.lock();
        let others = state.members.iter().filter(|member| member.session.key != session);
        others.map(|member| Arc::clone(&member.session)).collect()
    }

    /// The filter of the group, for a refusal.
    pub(crate) fn shown_filter(&self) -> String {
        match self.state.lock().select() {
            None => "no filter".to_owned(),
            Some(select) => format!("the {} filter {:?}", select.language, &*select.text),
        }
    }

    /// Adds a member, or changes its options. Its filter is that of the group from now on; what waits stays as it is.
    pub(crate) fn join(
        &self,
        session: &Arc<Session>,
        options: SubscribeOptions,
        selection: Option<Arc<Selection>>,
    ) {
        let wanted = Wanted::from(options);
        let mut state = self.state.lock();
        state.selection = selection;
        let here = session.mailbox.lock().attached;
        if let Some(member) = state.members.iter_mut().find(|member| member.session.key == session.key) {
            member.wanted = wanted;
            state.picker.set_here(session.key, here);
        } else {
            // What was sent before it left stays with it.
            let has = state.out.iter().filter(|(_, out)| out.session == session.key).count();
            let has = u32::try_from(has).unwrap_or(u32::MAX);
            state.picker.sit(session.key, &session.client.0, here, has);
            state.members.push(Member { session: Arc::clone(session), wanted });
        }
    }

    /// Takes a member away; true when none is left.
    pub(crate) fn leave(&self, session: u64, shared: &Shared) -> bool {
        let mut state = self.state.lock();
        if let Some(at) = state.members.iter().position(|member| member.session.key == session) {
            state.members.remove(at);
            state.picker.rise(at);
        }
        let empty = state.members.is_empty();
        if empty {
            shared.totals.backlog.fetch_sub(state.waiting.len(), Ordering::Relaxed);
            state.waiting = Queue::default();
            state.suspects.clear();
        }
        empty
    }

    /// The last member left it. Gives its books.
    pub(crate) fn close(&self) -> (Books, Kept) {
        let mut state = self.state.lock();
        state.books.end_all(End::Left);
        let on_their_way = state.out.iter().filter(|(_, out)| !out.given);
        for position in on_their_way.map(|(position, _)| position).collect::<Vec<_>>() {
            state.out.remove(position);
        }
        (std::mem::take(&mut state.books), self.kept(&state))
    }

    /// Its books, and which checkpoints know them.
    pub(crate) fn books(&self) -> (Books, Kept) {
        let state = self.state.lock();
        (state.books.clone(), self.kept(&state))
    }

    /// How many deliveries of each route it holds, for no member yet.
    pub(crate) fn held(&self) -> BTreeMap<Account, u64> {
        let state = self.state.lock();
        let on_their_way = state.out.iter().filter(|(_, out)| !out.given).map(|(_, out)| &out.waiting);
        let mut held = BTreeMap::new();
        for waiting in state.waiting.iter().map(|(_, waiting)| waiting).chain(on_their_way) {
            *held.entry(waiting.account).or_default() += 1;
        }
        held
    }

    fn kept(&self, state: &State) -> Kept {
        Kept { since: Some(self.since), walk: state.walk }
    }

    /// A member came, or is away: only who is here gets anything.
    pub(crate) fn set_here(&self, session: u64, here: bool, shared: &Shared) {
        let mut state = self.state.lock();
        state.picker.set_here(session, here);
        if !state.picker.is_anyone_here() {
            // Members at other nodes get it.
            let fed = state.waiting.iter().filter(|(_, waiting)| waiting.fed.is_some());
            for position in fed.map(|(position, _)| position).collect::<Vec<_>>() {
                state.give_back(position, shared);
            }
        }
    }

    /// Whether a member has a connection.
    pub(crate) fn is_here(&self) -> bool {
        self.state.lock().picker.is_anyone_here()
    }

    /// What stays with a member that is away is this node's from now on: its store is told that it is done.
    pub(crate) fn take_over(&self, session: u64) {
        let mut state = self.state.lock();
        for fed in state.out.values_back_mut().filter(|out| out.session == session) {
            if let Some(fed) = fed.waiting.fed.take() {
                fed.done();
            }
        }
    }

    /// The member acknowledged these; it has room for more.
    pub(crate) fn settle(self: &Arc<Self>, session: &Session, positions: &[Position], shared: &Shared) {
        let mut state = self.state.lock();
        self.done(&mut state, session, positions, shared);
        self.distribute(state, shared);
    }

    /// The member ends, and nobody else may have these.
    pub(crate) fn forget(&self, session: &Session, positions: &[Position], shared: &Shared) {
        self.done(&mut self.state.lock(), session, positions, shared);
    }

    fn done(&self, state: &mut State, session: &Session, positions: &[Position], shared: &Shared) {
        let mut local = Vec::with_capacity(positions.len());
        for position in positions {
            state.suspects.remove(position);
            match state.take_back(*position, session.key).and_then(|out| out.waiting.fed) {
                Some(fed) => fed.done(),
                None => local.push(*position),
            }
        }
        if !session.durable && state.is_durable() && !local.is_empty() {
            let change = Change::Settled { filter: self.filter.clone(), positions: local };
            // Without room for the record an event comes again after a crash.
            shared.append_unanswered(&change);
        }
    }

    /// A record says that members that were gone with their connection had acknowledged these.
    pub(crate) fn settled(&self, positions: &[Position], shared: &Shared) {
        let mut state = self.state.lock();
        for position in positions {
            if let Some(waiting) = state.unwait(*position, shared) {
                state.books.end(waiting.account, End::Acked);
            }
        }
    }

    /// A member ended with this one.
    pub(crate) fn suspect(&self, position: Position) {
        *self.state.lock().suspects.entry(position).or_default() += 1;
    }

    /// The member gave these up: they wait for another one, in their old order. Call [`Self::give`] after it.
    pub(crate) fn put_back(&self, session: u64, positions: &[Position], shared: &Shared) {
        let mut state = self.state.lock();
        for position in positions {
            let Some(Out { waiting, given, .. }) = state.take_back(*position, session) else { continue };
            let account = waiting.account;
            if state.members.is_empty() {
                shared.ledger.lock().left(account);
                continue;
            }
            if given {
                state.books.owe(account);
            }
            match waiting.fed.is_none() || state.picker.is_anyone_here() {
                true => state.wait(*position, waiting, shared),
                false => state.books.end(account, End::Returned),
            }
        }
    }

    /// A record says what the member gets: gives the slots for its mailbox, with their events where they are at hand. One
    /// that unsubscribed meanwhile gets nothing more \[MQTT-3.10.4-2\]: its slots only count.
    pub(crate) fn assigned(
        self: &Arc<Self>,
        session: u64,
        list: &[Assignment],
        shared: &Shared,
    ) -> Vec<(Slot, Option<Event>)> {
        let mut state = self.state.lock();
        let member = state.members.iter().find(|member| member.session.key == session);
        let Some(ids) = member.map(|member| member.wanted.ids.clone()) else {
            for assignment in list {
                // A store that feeds the group brings it again.
                state.take_back_fed(assignment.position, session);
            }
            return list.iter().map(|assignment| (assignment.numbered_only(), None)).collect();
        };
        let mut slot = |assignment: &Assignment| {
            let position = assignment.position;
            if let Some(mut waiting) = state.unwait(position, shared) {
                // At recovery: while Weft runs it was taken out when the record was appended.
                waiting.event = None;
                state.picker.count(session, waiting.key);
                state.out.insert(position, Out { session, durable: true, waiting, given: false });
            }
            let mut slot = assignment.slot(self, ids.clone());
            slot.ended = state.ended_with(position);
            let Some(out) = state.out.get_mut(position) else { return (slot, None) };
            let (event, account) = (out.waiting.event.take(), out.waiting.account);
            slot.account = account;
            if !std::mem::replace(&mut out.given, true) {
                state.books.pass_on(account);
            }
            (slot, event)
        };
        list.iter().map(&mut slot).collect()
    }
}

impl State {
    fn select(&self) -> Option<&Select> {
        self.selection.as_deref().map(Selection::select)
    }

    /// How many members ended with it.
    fn ended_with(&self, position: Position) -> u32 {
        self.suspects.get(&position).copied().unwrap_or(0)
    }

    fn is_durable(&self) -> bool {
        self.members.iter().any(|member| member.session.durable)
    }

    fn wait(&mut self, position: Position, waiting: Waiting, shared: &Shared) {
        if self.waiting.insert(position, waiting) {
            shared.totals.backlog.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn unwait(&mut self, position: Position, shared: &Shared) -> Option<Waiting> {
        let waiting = self.waiting.remove(position)?;
        shared.totals.backlog.fetch_sub(1, Ordering::Relaxed);
        Some(waiting)
    }

    /// What waits here no more, as the remote store that fed it has it again.
    fn give_back(&mut self, position: Position, shared: &Shared) {
        if let Some(waiting) = self.unwait(position, shared) {
            self.books.end(waiting.account, End::Returned);
        }
    }

    /// As [`Self::take_back`], but only what a remote store feeds; that is told that nobody has it.
    fn take_back_fed(&mut self, position: Position, session: u64) {
        if self.out.get(position).is_some_and(|out| out.waiting.fed.is_some())
            && let Some(Out { waiting, .. }) = self.take_back(position, session)
        {
            self.books.end(waiting.account, End::Returned);
        }
    }

    /// Forgets what members have at these positions.
    fn forget_out(&mut self, which: impl Fn(Position) -> bool) {
        let gone = self.out.iter().filter(|(position, _)| which(*position));
        for (position, session) in gone.map(|(at, out)| (at, out.session)).collect::<Vec<_>>() {
            self.take_back(position, session);
        }
    }

    /// Takes back what the member has, if it is the one that has it.
    fn take_back(&mut self, position: Position, session: u64) -> Option<Out> {
        if self.out.get_mut(position)?.session != session {
            return None;
        }
        let out = self.out.remove(position)?;
        self.picker.uncount(session, out.waiting.key);
        Some(out)
    }
}

impl Assignment {
    /// The slot of a member that takes it.
    fn slot(&self, group: &Arc<Group>, ids: Option<Arc<[u32]>>) -> Slot {
        let mut slot = Slot::new(self.position, self.guarantee, self.retain, SlotState::Open);
        slot.ids = ids;
        slot.group = Some(Arc::clone(group));
        slot
    }

    /// A slot that takes its number, and nothing else.
    pub(crate) fn numbered_only(&self) -> Slot {
        Slot::new(self.position, self.guarantee, self.retain, SlotState::Done)
    }
}
