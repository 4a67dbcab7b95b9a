//! Groups as the rest of the core reaches them: by filter, by session.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use event::hub::SubscribeOptions;
use event::store::Position;
use event::{Guarantee, Reject, RejectKind, TopicFilter};

use super::{Group, by_group};
use crate::ledger::End;
use crate::notes::Change;
use crate::redelivery;
use crate::select::Selection;
use crate::session::Session;
use crate::session::slot::{Left, Slot};
use crate::shared::{Selective, Shared, Subscription};

/// A refusal for who has another filter than the members of a group.
pub(crate) fn other_filter(group: &Group) -> Reject {
    let reason =
        format!("the members of this group have {}; all of them have the same", group.shown_filter());
    Reject::new(RejectKind::Malformed, reason)
}

impl Shared {
    /// The group of a shared subscription's filter.
    pub(crate) fn group(&self, filter: &TopicFilter) -> Option<Arc<Group>> {
        filter.share()?;
        self.groups.lock().get(filter).cloned()
    }

    /// Puts a subscription of the record at `as_of` where events find it.
    pub(crate) fn plant(
        &self,
        session: &Arc<Session>,
        filter: &TopicFilter,
        options: SubscribeOptions,
        selection: Option<Arc<Selection>>,
        as_of: Position,
    ) {
        if filter.share().is_none() {
            let session_key = session.key;
            let session = Arc::clone(session);
            let subscription = match selection {
                None => Subscription::Session { session, options },
                Some(selection) => {
                    Subscription::Selective(Arc::new(Selective { session, options, selection }))
                }
            };
            self.trie.write().insert(filter, session_key, subscription);
        } else {
            let mut groups = self.groups.lock();
            let group = groups.entry(filter.detached()).or_insert_with_key(|filter| {
                let key = self.next_group.fetch_add(1, Ordering::Relaxed);
                let group = Arc::new(Group::new(key, filter.clone(), as_of, &self.options));
                self.trie.write().insert(filter, key, Subscription::Group(Arc::clone(&group)));
                group
            });
            let group = Arc::clone(group);
            group.join(session, options, selection);
            drop(groups);
            group.give(self);
            self.group_changed(filter);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Why a session cannot be a member of a group: all members of one have the same filter. Members that end with their
    /// connection give way to a durable one, whose record says that it is a member: after a crash it will be, too. That can be only
    /// where both came at the same time.
    pub(crate) fn join_as_all(
        &self,
        session: &Session,
        filter: &TopicFilter,
        selection: Option<&Selection>,
    ) -> Result<(), Reject> {
        let Some(group) = self.group(filter) else { return Ok(()) };
        let select = selection.map(Selection::select);
        if group.differs(session.key, select, session.durable) {
            return Err(other_filter(&group));
        }
        if group.differs(session.key, select, false) {
            for other in group.others(session.key) {
                tracing::warn!(client_id = %other.client, "a durable member of its group has another filter; its subscription ended");
                self.unsubscribe(&other, std::slice::from_ref(filter), false);
            }
        }
        Ok(())
    }

    /// Takes a subscription away from there.
    pub(crate) fn uproot(&self, session: &Session, filter: &TopicFilter) {
        if filter.share().is_none() {
            self.trie.write().remove(filter, session.key);
        } else {
            let mut groups = self.groups.lock();
            let Some(group) = groups.get(filter).cloned() else { return };
            if group.leave(session.key, self) {
                groups.remove(filter);
                self.trie.write().remove(filter, group.key);
                let (books, kept) = group.close();
                self.ledger.lock().over(&books, kept);
            }
            drop(groups);
            group.give(self);
            self.group_changed(filter);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A member of groups came, or is away.
    pub(crate) fn set_here(&self, session: &Session, here: bool) {
        for group in self.groups_of(session) {
            group.set_here(session.key, here, self);
            group.give(self);
            self.group_changed(&group.filter);
        }
    }

    /// The queue of a member of groups may have room again.
    pub(crate) fn give_again(&self, session: &Session) {
        for group in self.groups_of(session) {
            group.give_again(session.key, self);
        }
    }

    /// Gives what a session that is away has of shared subscriptions to other members.
    pub(crate) fn return_shared(&self, session: &Session) {
        self.return_numbers(session, |slot, sent| !(sent && slot.guarantee == Guarantee::ExactlyOnce));
        let (sent, stays) = {
            let mailbox = session.mailbox.lock();
            (mailbox.sent(), mailbox.has_shared())
        };
        if stays && session.durable {
            // What was sent may end here only; recovery has to know what that is.
            self.append_unanswered(&Change::Acked { session: session.key, sent, ranges: Vec::new() });
            // Nobody else may have it, so no store has to wait for this session.
            for group in self.groups_of(session) {
                group.take_over(session.key);
            }
        }
    }

    /// As [`Self::return_shared`], for one that was connected when Weft went down: nobody knows what of its exactly-once
    /// deliveries was sent, so all count as sent.
    pub(crate) fn return_after_crash(&self, session: &Session) {
        self.return_numbers(session, |slot, _| slot.guarantee != Guarantee::ExactlyOnce);
        let mut mailbox = session.mailbox.lock();
        if mailbox.has_shared() {
            let next = mailbox.next();
            mailbox.set_sent(next);
        }
    }

    /// Takes what `may` go to other members out of a session's mailbox. The session is away, or leaves the group.
    pub(crate) fn return_numbers(&self, session: &Session, may: impl Fn(&Slot, bool) -> bool) {
        let mut mailbox = session.mailbox.lock();
        let numbers = mailbox.returnable(may);
        if numbers.is_empty() {
            return;
        }
        let change = Change::Returned { session: session.key, numbers: numbers.clone() };
        if session.durable && !self.append_unanswered(&change) {
            // Without the record they would be there twice after a crash: they wait for the session.
            return;
        }
        let mut left = Vec::new();
        let suspect = mailbox.had(&numbers);
        mailbox.give_up(&numbers, &self.totals, &mut left);
        drop(mailbox);
        self.suspect(session, suspect.and(left.first()));
        by_group(&left, |group, positions| {
            group.put_back(session.key, positions, self);
            group.give(self);
        });
    }

    /// Takes a session that is over out of its groups: others get what they may.
    pub(crate) fn leave_groups(&self, session: &Session) {
        for group in self.groups_of(session) {
            group.set_here(session.key, false, self);
        }
        let (mut free, mut bound) = (Vec::new(), Vec::new());
        {
            let mut mailbox = session.mailbox.lock();
            let (others, own) = mailbox.all_shared();
            let suspect = mailbox.had(&others);
            mailbox.give_up(&others, &self.totals, &mut free);
            mailbox.end(&own, End::Left, &self.totals, &mut bound);
            drop(mailbox);
            self.suspect(session, suspect.and(free.first()));
        }
        by_group(&bound, |group, positions| group.forget(session, positions, self));
        by_group(&free, |group, positions| {
            group.put_back(session.key, positions, self);
            group.give(self);
        });
    }

    /// A member ended with a delivery that it had.
    fn suspect(&self, session: &Session, left: Option<&Left>) {
        let Some(Left { group, position }) = left.filter(|_| redelivery::limits(self, session).is_some())
        else {
            return;
        };
        group.suspect(*position);
    }

    fn groups_of(&self, session: &Session) -> Vec<Arc<Group>> {
        let state = session.state.lock();
        let shared = state.subscriptions.iter().filter(|(filter, _)| filter.share().is_some());
        let filters: Vec<TopicFilter> = shared.map(|(filter, _)| filter.clone()).collect();
        drop(state);
        filters.iter().filter_map(|filter| self.group(filter)).collect()
    }
}
