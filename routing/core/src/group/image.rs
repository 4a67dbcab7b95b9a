//! What a checkpoint holds of a group.

use std::collections::BTreeSet;

use event::store::Position;
use event::{Guarantee, TopicFilter};
use serde::{Deserialize, Serialize};

use super::{Group, Out, Waiting};
use crate::account::Account;
use crate::ledger::Books;
use crate::session::slot::Slot;
use crate::shared::Shared;

/// A group that a durable member makes outlive Weft.
#[derive(Serialize, Deserialize)]
pub(crate) struct GroupImage {
    pub(crate) filter: TopicFilter,
    /// What waits, what members have that do not outlive Weft, and what durable ones get by records that are still to be
    /// passed; in order.
    waiting: Vec<WaitingImage>,
    /// What durable members have, with what strategies that hash go by. What a remote store feeds is not there.
    keys: Vec<(Position, u64)>,
    /// In a part of their own, before this one.
    #[serde(skip)]
    pub(crate) books: Books,
    /// Of all in `waiting`; in that part as well.
    #[serde(skip)]
    pub(crate) accounts: Vec<Account>,
}

#[derive(Serialize, Deserialize)]
struct WaitingImage {
    position: Position,
    guarantee: Guarantee,
    retain: bool,
    key: u64,
}

impl GroupImage {
    /// The lowest position that the log has to keep for it.
    pub(crate) fn lowest(&self) -> Option<Position> {
        self.waiting.first().map(|first| first.position)
    }
}

impl Group {
    /// Durable sessions that are members, or have something of it.
    pub(crate) fn related(&self) -> Vec<u64> {
        let state = self.state.lock();
        let members = state.members.iter().filter(|member| member.session.durable);
        let out = state.out.iter().filter(|(_, out)| out.durable);
        members.map(|member| member.session.key).chain(out.map(|(_, out)| out.session)).collect()
    }

    /// The lowest position of what a remote store feeds: it is here for this run only, but the log has to keep it meanwhile.
    pub(crate) fn lowest_fed(&self) -> Option<Position> {
        let state = self.state.lock();
        let waiting = state.waiting.iter().find(|(_, waiting)| waiting.fed.is_some());
        let out = state.out.iter().find(|(_, out)| out.waiting.fed.is_some());
        [waiting.map(|(at, _)| at), out.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// What is in no mailbox, or on its way to one.
    pub(crate) fn unassigned(&self) -> Vec<Position> {
        let state = self.state.lock();
        let out = state.out.iter().filter(|(_, out)| !out.given);
        state.waiting.iter().map(|(at, _)| at).chain(out.map(|(at, _)| at)).collect()
    }

    /// `None`: all its members end with their connections.
    pub(crate) fn image(&self, walk: u64) -> Option<GroupImage> {
        let mut state = self.state.lock();
        if !state.is_durable() {
            return None;
        }
        state.walk = walk;
        let (kept, out): (Vec<_>, Vec<_>) = state.out.iter().partition(|(_, out)| out.given && out.durable);
        let out = out.into_iter().map(|(position, out)| (position, &out.waiting));
        // What a remote store feeds, it brings again.
        let all = state.waiting.iter().chain(out).filter(|(_, waiting)| waiting.fed.is_none());
        let mut waiting: Vec<(Position, &Waiting)> = all.collect();
        waiting.sort_unstable_by_key(|(position, _)| *position);
        let accounts = waiting.iter().map(|(_, waiting)| waiting.account).collect();
        let waiting = waiting.into_iter().map(WaitingImage::new).collect();
        let kept = kept.into_iter().filter(|(_, out)| out.waiting.fed.is_none());
        let keys = kept.map(|(position, out)| (position, out.waiting.key)).collect();
        Some(GroupImage { filter: self.filter.clone(), waiting, keys, books: state.books.clone(), accounts })
    }

    /// Takes up what a checkpoint holds, after what it holds of the members.
    pub(crate) fn restore(&self, image: GroupImage, shared: &Shared) {
        let mut state = self.state.lock();
        state.books = image.books.settled();
        let accounts = image.accounts.into_iter().chain(std::iter::repeat(Account::NONE));
        for (image, account) in image.waiting.into_iter().zip(accounts) {
            let WaitingImage { position, guarantee, retain, key } = image;
            state.books.owe(account);
            state.wait(position, Waiting { guarantee, retain, key, account, event: None, fed: None }, shared);
        }
        let known: BTreeSet<Position> = image.keys.iter().map(|(position, _)| *position).collect();
        state.forget_out(|position| !known.contains(&position));
        for (position, key) in image.keys {
            let Some(out) = state.out.get_mut(position) else { continue };
            let (session, old) = (out.session, std::mem::replace(&mut out.waiting.key, key));
            state.picker.uncount(session, old);
            state.picker.count(session, key);
        }
    }

    /// Takes up a slot that a checkpoint holds for a member.
    pub(crate) fn restore_out(&self, session: u64, slot: &Slot) {
        let mut state = self.state.lock();
        let &Slot { guarantee, retain, account, .. } = slot;
        let waiting = Waiting { guarantee, retain, key: 0, account, event: None, fed: None };
        state.picker.count(session, waiting.key);
        state.out.insert(slot.position, Out { session, durable: true, waiting, given: true });
    }
}

impl WaitingImage {
    fn new((position, waiting): (Position, &Waiting)) -> Self {
        Self { position, guarantee: waiting.guarantee, retain: waiting.retain, key: waiting.key }
    }
}
