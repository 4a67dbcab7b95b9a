//! How events reach a group, and from there its members.

use std::sync::Arc;

use event::store::Position;
use event::{Event, Guarantee};
use parking_lot::MutexGuard;

use super::{Group, Out, State, Waiting};
use crate::feed::Fed;
use crate::ledger::End;
use crate::notes::{Assignment, Change};
use crate::select::Selection;
use crate::session::Session;
use crate::session::mailbox::{Item, Wanted};
use crate::shared::Shared;

/// How many waiting events are looked at for members with room; more only matter to strategies that hash.
const LOOK: usize = 1024;

impl Group {
    /// What selects among the events of its topics.
    pub(crate) fn selection(&self) -> Option<Arc<Selection>> {
        self.state.lock().selection.clone()
    }

    /// Puts in events of the log that pass its filter, in order, and gives out what members can take. At recovery all members are away.
    pub(crate) fn offer(self: &Arc<Self>, items: &[&Item], shared: &Shared) {
        let mut state = self.state.lock();
        state.picker.try_again(None);
        let mut dropped = 0;
        for item in items {
            let Some(position) = item.position else { continue };
            let Item { event, guarantee, retain, account, .. } = *item;
            state.books.owe(*account);
            if state.waiting.len() >= shared.options.queue_events as usize {
                state.books.end(*account, End::QueueFull);
                dropped += 1;
                continue;
            }
            let (key, event) = (state.picker.key_of(event), Some(event.clone()));
            let (guarantee, retain, account) = (*guarantee, *retain, *account);
            let waiting = Waiting { guarantee, retain, key, account, event, fed: None };
            state.wait(position, waiting, shared);
        }
        if dropped > 0 {
            shared.metrics.dropped_queue.increment(dropped);
        }
        self.distribute(state, shared);
    }

    /// Puts in an event that a remote store brought for this group alone. How much of that waits here, the store limits.
    pub(crate) fn offer_fed(self: &Arc<Self>, item: &Item, fed: Fed, shared: &Shared) {
        let mut state = self.state.lock();
        let Some(position) = item.position.filter(|_| state.picker.is_anyone_here()) else { return };
        if !state.passes(&item.event) {
            return fed.done();
        }
        let Item { event, guarantee, retain, account, .. } = item;
        let (key, event) = (state.picker.key_of(event), Some(event.clone()));
        let (guarantee, retain, account) = (*guarantee, *retain, *account);
        let waiting = Waiting { guarantee, retain, key, account, event, fed: Some(fed) };
        state.books.owe(account);
        state.wait(position, waiting, shared);
        self.distribute(state, shared);
    }

    /// Whether members want the event, as far as topics and filters go.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let topic = event.topic();
        !topic.is_reserved() && self.filter.matches(topic) && self.state.lock().passes(event)
    }

    /// Gives events that pass its filter, on their way past the log, to members that are here, one each; nobody waits for who is away. `behind`
    /// gets those that are slow and worth waiting for.
    pub(crate) fn offer_live(&self, items: &[&Item], shared: &Shared, behind: &mut Vec<Arc<Session>>) {
        let mut state = self.state.lock();
        let State { picker, members, .. } = &mut *state;
        let mut shares: Vec<Vec<&Item>> = vec![Vec::new(); members.len()];
        for item in items {
            let key = picker.key_of(&item.event);
            if let Some(share) = picker.pick_live(key).and_then(|at| shares.get_mut(at)) {
                share.push(item);
            }
        }
        for (member, share) in members.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
            if member.session.offer_live(share.into_iter(), &member.wanted, shared) {
                behind.push(Arc::clone(&member.session));
            }
        }
    }

    /// The member's queue had no room for what it was given. Others may have it, and itself when the queue has room.
    pub(crate) fn turned_away(&self, session: u64) {
        self.state.lock().picker.set_full(session);
    }

    /// The member's queue may have room again.
    pub(crate) fn give_again(self: &Arc<Self>, session: u64, shared: &Shared) {
        let mut state = self.state.lock();
        state.picker.try_again(Some(session));
        self.distribute(state, shared);
    }

    /// Gives out what waits.
    pub(crate) fn give(self: &Arc<Self>, shared: &Shared) {
        self.distribute(self.state.lock(), shared);
    }

    pub(super) fn distribute(self: &Arc<Self>, mut state: MutexGuard<'_, State>, shared: &Shared) {
        if !state.waiting.is_empty() && !state.picker.is_full() {
            let mut shares: Vec<Vec<Position>> = vec![Vec::new(); state.members.len()];
            let State { picker, waiting, .. } = &mut *state;
            picker.begin();
            let mut given_up = Vec::new();
            for (position, event) in waiting.iter().take(LOOK) {
                if picker.is_full() {
                    break;
                }
                if event.fed.as_ref().is_some_and(Fed::is_given_up) {
                    given_up.push(position);
                    continue;
                }
                if let Some(share) = picker.pick(event.key).and_then(|at| shares.get_mut(at)) {
                    share.push(position);
                }
            }
            for position in given_up {
                state.give_back(position, shared);
            }
            for (at, positions) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
                let Some(member) = state.members.get(at) else { continue };
                let (session, wanted) = (Arc::clone(&member.session), member.wanted.clone());
                match session.durable {
                    true => self.assign(&mut state, &session, &wanted, positions, shared),
                    false => self.hand_out(&mut state, &session, &wanted, positions, shared),
                }
            }
        }
        state.release_events();
    }

    /// Writes down what a durable member gets. It gets it when the record is passed.
    fn assign(
        &self,
        state: &mut State,
        session: &Session,
        wanted: &Wanted,
        positions: Vec<Position>,
        shared: &Shared,
    ) {
        let assignment =
            |position: &Position| Some(state.waiting.get(*position)?.assignment(*position, wanted));
        let list = positions.iter().filter_map(assignment).collect();
        let change = Change::Assigned { session: session.key, filter: self.filter.clone(), list };
        let kept = shared.append_unanswered(&change);
        for position in positions {
            if kept {
                if let Some(waiting) = state.unwait(position, shared) {
                    state
                        .out
                        .insert(position, Out { session: session.key, durable: true, waiting, given: false });
                }
            } else if let Some(key) = state.waiting.get(position).map(|waiting| waiting.key) {
                // The store has no room: the next event or acknowledgement tries again.
                state.picker.uncount(session.key, key);
            }
        }
    }

    /// Puts events into the mailbox of a member that ends with its connection.
    fn hand_out(
        self: &Arc<Self>,
        state: &mut State,
        session: &Session,
        wanted: &Wanted,
        positions: Vec<Position>,
        shared: &Shared,
    ) {
        session.fill(|mailbox| {
            for position in positions {
                let Some(mut waiting) = state.unwait(position, shared) else { continue };
                let event = waiting.event.take();
                let mut slot = waiting.assignment(position, wanted).slot(self, wanted.ids.clone());
                (slot.account, slot.ended) = (waiting.account, state.ended_with(position));
                if mailbox.try_push_slot(slot, event.as_ref(), &shared.options, &shared.totals) {
                    state.books.pass_on(waiting.account);
                    let out = Out { session: session.key, durable: false, waiting, given: true };
                    state.out.insert(position, out);
                } else {
                    // Its own queue is full of other events.
                    state.picker.uncount(session.key, waiting.key);
                    state.picker.set_full(session.key);
                    state.wait(position, waiting, shared);
                }
            }
        });
    }
}

impl State {
    fn passes(&self, event: &Event) -> bool {
        self.selection.as_ref().is_none_or(|selection| selection.passes_event(event))
    }

    /// What still waits is read from the log later; memory is for what moves.
    fn release_events(&mut self) {
        for waiting in self.waiting.values_back_mut() {
            if waiting.event.take().is_none() {
                break;
            }
        }
    }
}

impl Waiting {
    fn assignment(&self, position: Position, wanted: &Wanted) -> Assignment {
        let guarantee: Guarantee = self.guarantee.min(wanted.guarantee);
        Assignment { position, guarantee, retain: self.retain && wanted.retain_as_published }
    }
}
