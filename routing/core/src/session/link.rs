//! A connection's hold on its session.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event::hub::{
    Admission, Close, Closed, Delivery, Granted, Link, Outcome, Publish, Receipt, Room, Subscribe,
};
use event::store::Position;
use event::{Durability, Event, Pending, Principal, Reject, Select, TopicFilter};
use tokio::time::{Sleep, sleep_until};

use super::slot::{Left, Over};
use super::walk::Walks;
use super::{Reply, Session};
use crate::group::by_group;
use crate::keeper;
use crate::ledger::End;
use crate::notes::{Change, Wish, ranges};
use crate::publish::{Marks, Publisher};
use crate::quota::Held;
use crate::redelivery::{Burials, Dead};
use crate::rights;
use crate::shared::{Asked, Shared, now_ms};
use crate::wills;

/// Numbers, and the events that are being read for them.
type Loading = (Vec<u64>, Pending<Vec<Option<Event>>>);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The hold of one connection. Dropped without `close`, the connection is lost.
pub(crate) struct SessionLink {
    shared: Arc<Shared>,
    session: Arc<Session>,
    who: Principal,
    /// What it takes of quotas.
    held: Held,
    /// The number of this connection; the session knows the one that holds it.
    holder: u64,
    publisher: Publisher,
    /// Events on their way from the log, by number.
    loading: Option<Loading>,
    load: Vec<(u64, Position)>,
    walks: Walks,
    burials: Burials,
    /// Rings when a delivery with which a connection ended may go out again.
    waiting: Option<Pin<Box<Sleep>>>,
    /// What is over and has no record yet: the store had no room.
    unrecorded: Vec<(u64, End)>,
    /// The client knows that it is connected.
    pub(crate) accepted: bool,
    ended: bool,
    /// Of the rights when subscriptions were compared with them.
    revision: u64,
    /// Subscriptions of this session were ended by rules: what waits for it may not be allowed any more.
    revoked: bool,
}

impl SessionLink {
    pub(crate) fn new(
        shared: Arc<Shared>,
        session: Arc<Session>,
        (who, held): (Principal, Held),
        holder: u64,
    ) -> Self {
        Self {
            revision: who.rights.revision(),
            shared,
            session,
            who,
            held,
            holder,
            publisher: Publisher::default(),
            loading: None,
            load: Vec::new(),
            walks: Walks::default(),
            burials: Burials::default(),
            waiting: None,
            unrecorded: Vec::new(),
            accepted: false,
            ended: false,
            revoked: false,
        }
    }

    /// Ends subscriptions that are not allowed.
    pub(crate) fn revoke(&mut self) {
        self.revision = self.who.rights.revision();
        self.revoked |= rights::revoke(&self.shared, &self.session, &self.who.rights);
    }

    /// Leaves out of what was taken, from place `start` on, what is not allowed any more.
    fn leave_out(&mut self, start: usize, taken: &mut Vec<Delivery>) {
        if self.revoked {
            let numbers = rights::leave_out(&self.session, &self.who.rights, taken, start);
            self.over(&numbers, End::Forbidden);
        }
    }

    /// Takes out of what was taken, from place `start` on, with what too many connections ended: it becomes a dead letter.
    fn bury(&mut self, mut start: usize, taken: &mut Vec<Delivery>) {
        let mut mailbox = self.session.mailbox.lock();
        if !mailbox.suspects.has_overdue() {
            return;
        }
        while let Some(delivery) = taken.get(start) {
            let part = delivery.number.and_then(|number| mailbox.overdue(number, &self.session.client));
            match part.and_then(|part| Dead::of(&self.shared, delivery, &part)) {
                Some(dead) => self.burials.add(&self.shared, taken.remove(start), dead),
                None => start += 1,
            }
        }
    }

    /// The subscriber is done with these.
    fn over(&mut self, numbers: &[u64], end: End) {
        let mut left = Vec::new();
        let (over, takes_again) = {
            let mut mailbox = self.session.mailbox.lock();
            let over = mailbox.end(numbers, end, &self.shared.totals, &mut left);
            let takes_again = !over.is_empty() && mailbox.takes_again();
            (over, takes_again)
        };
        if end == End::Acked {
            self.shared.metrics.acked.increment(over.len() as u64);
        }
        self.settled(&left, over.into_iter().map(|number| (number, end)).collect());
        if takes_again {
            self.shared.give_again(&self.session);
        }
    }

    /// Starts to read what the mailbox asks for from the log.
    fn start_loading(&mut self) {
        let mut wanted = std::mem::take(&mut self.load);
        wanted.sort_unstable_by_key(|(_, position)| *position);
        let (numbers, positions) = wanted.into_iter().unzip();
        self.loading = Some((numbers, self.shared.read_turns.read(self.shared.store.read(positions))));
    }

    /// Puts events that were read into the mailbox. True when there is something new to take.
    fn poll_loading(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((numbers, reading)) = &mut self.loading else { return false };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return false };
        let numbers = std::mem::take(numbers);
        self.loading = None;
        match read {
            Ok(events) => {
                let events = numbers.into_iter().zip(events).collect();
                let mut over = Over::default();
                let lost = self.session.mailbox.lock().loaded(events, &mut over, &self.shared.totals);
                self.finish(over);
                if lost > 0 {
                    tracing::warn!(client_id = %self.session.client, lost, "events of a session are gone from the log");
                    self.shared.metrics.dropped_lost.increment(lost as u64);
                }
                true
            }
            Err(reject) => {
                tracing::warn!(client_id = %self.session.client, %reject, "the log cannot be read");
                false
            }
        }
    }

    /// Ready at `until`, if that is ever.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> Poll<()> {
        let Some(until) = until.map(tokio::time::Instant::from_std) else {
            self.waiting = None;
            return Poll::Pending;
        };
        let sleep = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx)
    }

    /// Lets replays go on, as long as this connection has the session.
    fn poll_replays(&mut self, cx: &mut Context<'_>) {
        if self.session.replaying() > 0 && self.session.mailbox.lock().holder == self.holder {
            self.walks.poll(cx, &self.shared, &self.session);
        }
    }

    /// Deliveries are over that nobody acknowledges.
    fn finish(&mut self, over: Over) {
        self.settled(&over.shared, over.numbers);
    }

    /// Tells groups that deliveries of theirs are done, and the log.
    fn settled(&mut self, shared: &[Left], numbers: Vec<(u64, End)>) {
        by_group(shared, |group, positions| group.settle(&self.session, positions, &self.shared));
        if self.session.durable && !numbers.is_empty() {
            self.unrecorded.extend(numbers);
            self.record_acks();
        }
    }

    /// Subscribes to what has filters, or starts in the past: looks up where, first.
    fn subscribe_from(
        &self,
        wanted: Vec<Subscribe>,
        refused: Vec<(usize, Reject)>,
    ) -> Pending<Vec<Result<Granted, Reject>>> {
        let (shared, session, holder) = (Arc::clone(&self.shared), Arc::clone(&self.session), self.holder);
        Box::pin(async move {
            let selects: Vec<Option<Select>> = wanted.iter().map(|one| one.select.clone()).collect();
            let wanted = shared.resolve(wanted).await?;
            if !session.durable {
                let dispatched = shared.dispatched.lock();
                // The session may have ended meanwhile.
                let registry = shared.registry.lock();
                let here = registry.key(session.key).is_some() && session.mailbox.lock().holder == holder;
                drop(registry);
                if !here {
                    return Err(Reject::closed());
                }
                let selection = |select: &Select| shared.selections.of(select, &shared.metrics);
                let asked = |(wish, select): (Wish, Option<Select>)| {
                    let selection = select.as_ref().map(selection).transpose()?;
                    Ok(Asked { wish, selection })
                };
                let wanted: Result<Vec<Asked>, Reject> = wanted.into_iter().zip(selects).map(asked).collect();
                let granted = shared.subscribe(&session, &wanted?, *dispatched);
                return Ok(rights::answers(granted, refused));
            }
            let ticket = session.take_ticket();
            let change = if selects.iter().any(Option::is_some) {
                let wanted = wanted.into_iter().zip(selects).collect();
                Change::SubscribedWith { session: session.key, ticket, wanted }
            } else {
                Change::SubscribedFrom { session: session.key, ticket, wanted }
            };
            shared.append(&change, Durability::Synced).await.whole()?;
            Ok(rights::answers(session.granted(ticket)?, refused))
        })
    }

    fn append(&self, change: &Change) -> Receipt {
        self.shared.append(change, Durability::Synced)
    }

    fn end(&mut self, lost: bool, keep: Option<Duration>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let session = Arc::clone(&self.session);
        let mut registry = shared.registry.lock();
        if session.mailbox.lock().holder != self.holder {
            // A newer connection has the session and has dealt with the will.
            return;
        }
        self.record_acks();
        let (keep, will) = {
            let mut state = session.state.lock();
            state.keep = keep.unwrap_or(state.keep);
            state.detached_ms = Some(now_ms());
            (state.keep, state.will)
        };
        let stays = session.durable && !keep.is_zero();
        if stays {
            let unseen = session.mailbox.lock().detach(&shared.totals);
            shared.metrics.dropped_live.increment(unseen as u64);
            shared.set_here(&session, false);
            shared.return_shared(&session);
            let keep_s = keeper::keep_s(keep);
            shared.append_unanswered(&Change::Closed { session: session.key, at_ms: now_ms(), keep_s });
        } else {
            shared.end(&mut registry, &session);
            if session.durable {
                shared.append_unanswered(&Change::Ended { session: session.key });
            }
        }
        drop(registry);
        match will {
            Some(will) if lost && self.accepted => {
                wills::lost(&shared, will, if stays { keep } else { Duration::ZERO });
            }
            Some(will) => wills::call_off(&shared, will),
            None => {}
        }
    }

    fn record_acks(&mut self) {
        if self.unrecorded.is_empty() {
            return;
        }
        let (session, sent) = (self.session.key, self.session.mailbox.lock().sent());
        while let Some((_, end)) = self.unrecorded.first().copied() {
            let same = self.unrecorded.iter().filter(|(_, of)| *of == end).map(|(number, _)| *number);
            let ranges = ranges(same);
            let change = if end == End::Acked {
                Change::Acked { session, sent, ranges }
            } else {
                Change::Over { session, sent, ranges, end }
            };
            if !self.shared.append_unanswered(&change) {
                return;
            }
            self.unrecorded.retain(|(_, of)| *of != end);
        }
    }
}

impl Link for SessionLink {
    fn publish(&mut self, batch: Vec<Publish>) -> Admission {
        self.publisher.publish(
            &self.shared,
            &self.who,
            Marks { session: Some(&self.session), ..Marks::default() },
            batch,
        )
    }

    fn subscribe(&mut self, mut wanted: Vec<Subscribe>) -> Pending<Vec<Result<Granted, Reject>>> {
        let refused = rights::refuse(&self.shared, (&self.who, &mut self.held), &self.session, &mut wanted);
        if wanted.iter().any(|one| one.replay.is_some() || one.select.is_some()) {
            return self.subscribe_from(wanted, refused);
        }
        if !self.session.durable || wanted.is_empty() {
            let wanted: Vec<Asked> =
                wanted.into_iter().map(|one| Wish::from((one.filter, one.options)).into()).collect();
            let dispatched = self.shared.dispatched.lock();
            let granted = self.shared.subscribe(&self.session, &wanted, *dispatched);
            return Box::pin(std::future::ready(Ok(rights::answers(granted, refused))));
        }
        let ticket = self.session.take_ticket();
        let wanted = wanted.into_iter().map(|one| (one.filter, one.options)).collect();
        let receipt = self.append(&Change::Subscribed { session: self.session.key, ticket, wanted });
        let session = Arc::clone(&self.session);
        Box::pin(async move {
            receipt.await.whole()?;
            Ok(rights::answers(session.granted(ticket)?, refused))
        })
    }

    fn unsubscribe(&mut self, filters: Vec<TopicFilter>) -> Pending<Vec<bool>> {
        if !self.held.is_empty() {
            let state = self.session.state.lock();
            // A filter may be there twice.
            let over: BTreeSet<&TopicFilter> =
                filters.iter().filter(|filter| state.subscriptions.contains(filter)).collect();
            self.held.set_subscriptions(state.subscriptions.len() - over.len());
        }
        if !self.session.durable {
            let ended = self.shared.unsubscribe(&self.session, &filters, false);
            return Box::pin(std::future::ready(Ok(ended)));
        }
        let ticket = self.session.take_ticket();
        let receipt = self.append(&Change::Unsubscribed { session: self.session.key, ticket, filters });
        let session = Arc::clone(&self.session);
        Box::pin(async move {
            receipt.await.whole()?;
            match session.state.lock().replies.remove(&ticket) {
                Some(Reply::Ended(ended)) => Ok(ended),
                Some(Reply::Granted(_)) | None => Err(Reject::closed()),
            }
        })
    }

    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<(), Closed>> {
        let before = out.len();
        if self.who.rights.revision() != self.revision {
            self.revoke();
        }
        loop {
            self.poll_loading(cx);
            self.poll_replays(cx);
            let buried = self.burials.poll(cx);
            if !buried.is_empty() {
                self.over(&buried, End::DeadLettered);
            }
            let shared = &self.shared;
            let mut mailbox = self.session.mailbox.lock();
            if mailbox.holder != self.holder {
                return Poll::Ready(Err(Closed::TakenOver));
            }
            mailbox.suspects.release(now);
            if let Some(closed) = mailbox.closed {
                return Poll::Ready(Err(closed));
            }
            // A client that falls over what is behind a dead letter must not end the connection before that is kept.
            let numbered = if self.burials.is_empty() { room.numbered } else { 0 };
            self.load.clear();
            let behind = mailbox.live_bytes();
            let mut over = Over::default();
            let room = Room { numbered, ..room };
            let expired = mailbox.take(room, now_ms(), out, &mut self.load, &mut over, &shared.totals);
            shared.metrics.expired.increment(expired as u64);
            if out.len() > before {
                let low = shared.options.live_bytes.as_usize() / 4;
                let left = mailbox.live_bytes();
                if behind > left {
                    mailbox.pace.took(behind - left, low, Instant::now());
                }
                let drained = behind > low && left <= low;
                drop(mailbox);
                if drained {
                    self.session.drained.notify_waiters();
                }
                self.finish(over);
                self.leave_out(before, out);
                self.bury(before, out);
                if out.len() == before {
                    continue;
                }
                let taken = out.iter().skip(before);
                let bytes: usize = taken.map(|delivery| delivery.event.data().len()).sum();
                self.shared.metrics.delivered.increment((out.len() - before) as u64);
                self.shared.metrics.delivered_bytes.increment(bytes as u64);
                return Poll::Ready(Ok(()));
            }
            if !over.numbers.is_empty() {
                drop(mailbox);
                self.finish(over);
                continue;
            }
            if !self.load.is_empty() && self.loading.is_none() {
                drop(mailbox);
                self.start_loading();
                continue;
            }
            if !mailbox.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                mailbox.reader = Some(cx.waker().clone());
            }
            let until = mailbox.wait(now);
            drop(mailbox);
            if self.poll_waiting(cx, until).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn ack(&mut self, numbers: &[u64]) {
        self.over(numbers, End::Acked);
    }

    fn dead_lettered(&mut self, numbers: &[u64]) {
        self.over(numbers, End::DeadLettered);
    }

    fn rewind(&mut self) {
        let mut mailbox = self.session.mailbox.lock();
        if mailbox.holder == self.holder {
            mailbox.rewind();
        }
    }

    fn received(&mut self, numbers: &[u64]) -> Receipt {
        let numbers = self.session.mailbox.lock().receive(numbers);
        if !self.session.durable || numbers.is_empty() {
            return Receipt::ready(Outcome::Kept);
        }
        self.append(&Change::Received { session: self.session.key, numbers })
    }

    fn release(&mut self, ids: &[u16]) -> Receipt {
        if !self.session.durable {
            return Receipt::ready(Outcome::Kept);
        }
        let mut state = self.session.state.lock();
        for id in ids {
            state.received_ids.remove(id);
        }
        drop(state);
        self.append(&Change::Released { session: self.session.key, ids: ids.to_vec() })
    }

    fn renew(&mut self, who: Principal) {
        self.who = who;
        // It remembers what the principal before might do.
        self.publisher = Publisher::default();
        self.revoke();
    }

    fn close(mut self: Box<Self>, how: Close) {
        self.end(how.will, how.keep);
    }
}

impl Drop for SessionLink {
    fn drop(&mut self) {
        self.end(true, None);
    }
}

impl Session {
    /// What the dispatcher granted under this ticket.
    fn granted(&self, ticket: u32) -> Result<Vec<Result<Granted, Reject>>, Reject> {
        match self.state.lock().replies.remove(&ticket) {
            Some(Reply::Granted(granted)) => Ok(granted),
            Some(Reply::Ended(_)) | None => Err(Reject::closed()),
        }
    }

    fn take_ticket(&self) -> u32 {
        let mut state = self.state.lock();
        // 0 is for changes that nobody waits for.
        state.next_ticket = state.next_ticket.checked_add(1).unwrap_or(1);
        state.next_ticket
    }
}
