//! A session's bounded outbox: a lane of live events, and a window of numbered ones. Sans-io.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use event::hub::{Closed, Delivery, Room, SubscribeOptions};
use event::store::Position;
use event::{ClientId, Event, Guarantee};
use metrics::Counter;

use super::pace::Pace;
use super::slot::{Left, Over, Queued, Slot, SlotState};
use super::suspects::Suspects;
use super::window::Window;
use crate::account::Account;
use crate::ledger::{Books, End};
use crate::metrics::Metrics;
use crate::{Options, QueueFull, RedeliveryOptions};

/// What all mailboxes hold together, and drop.
#[derive(Debug)]
pub(crate) struct Totals {
    /// Weight of events in memory.
    pub(crate) memory: AtomicUsize,
    /// Numbered deliveries.
    pub(crate) backlog: AtomicUsize,
    /// Sessions that have a connection.
    pub(crate) attached: AtomicUsize,
    /// Numbered deliveries dropped: a queue was full.
    pub(crate) queue_full: Counter,
    /// Live ones dropped: a lane was full.
    pub(crate) slow_reader: Counter,
}

impl Totals {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            memory: AtomicUsize::new(0),
            backlog: AtomicUsize::new(0),
            attached: AtomicUsize::new(0),
            queue_full: metrics.dropped_queue.clone(),
            slow_reader: metrics.dropped_live.clone(),
        }
    }
}

/// An event on its way to subscribers.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) guarantee: Guarantee,
    pub(crate) retain: bool,
    /// Its record; `None` on the way past the log.
    pub(crate) position: Option<Position>,
    /// Live subscribers had it.
    pub(crate) live_done: bool,
    /// Members of shared subscriptions get it another way.
    pub(crate) apart: bool,
    /// The way it went.
    pub(crate) account: Account,
}

/// How one session wants the events of one topic: its subscriptions, taken together.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) guarantee: Guarantee,
    pub(crate) retain_as_published: bool,
    pub(crate) ids: Option<Arc<[u32]>>,
}

impl From<SubscribeOptions> for Wanted {
    fn from(options: SubscribeOptions) -> Self {
        Self {
            guarantee: options.guarantee,
            retain_as_published: options.retain_as_published,
            ids: (options.id != 0).then(|| Arc::from([options.id])),
        }
    }
}

/// The outbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The connection that holds the session; an older one has a lower number.
    pub(crate) holder: u64,
    pub(crate) attached: bool,
    pub(crate) closed: Option<Closed>,
    pub(crate) reader: Option<Waker>,
    /// Numbered queue has no limit but the disk; and takes every event numbered.
    keep_all: bool,
    live: VecDeque<Live>,
    live_bytes: usize,
    window: Window,
    /// Number of the first slot of `window`.
    first: u64,
    /// Next number to offer to the connection that holds the session.
    cursor: u64,
    /// Numbers below may have been sent.
    sent: u64,
    /// Weight of events held by slots.
    cached: usize,
    /// Slots that are not done.
    queued: Queued,
    /// No slot below was left to drop: the next search starts here.
    oldest: u64,
    /// Events that found no room.
    dropped: u64,
    /// What became of all that was put in.
    pub(crate) books: Books,
    /// A group had something for it that found no room.
    turned_away: bool,
    /// Deliveries with which connections ended.
    pub(crate) suspects: Suspects,
    /// How fast the reader empties the live lane.
    pub(crate) pace: Pace,
}

#[derive(Debug)]
struct Live {
    event: Event,
    retain: bool,
    ids: Option<Arc<[u32]>>,
    account: Account,
}

/// What a mailbox holds, for people who look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) inflight: usize,
    pub(crate) queued: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) dropped: u64,
}

/// Whether the next events of a replay may be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayRoom {
    /// So many.
    Some(usize),
    /// When the subscriber took, or acknowledged, what it has.
    None,
    /// When other sessions took what they have.
    Later,
}

/// The span of numbers that may be out: packet ids, which follow from numbers, must not meet.
const SPAN: u64 = 65_000;
/// How far a replay goes ahead of its subscriber, events.
const AHEAD: usize = 512;
/// How many events are read from the log at a time.
const LOAD: usize = 128;

impl Mailbox {
    pub(crate) fn new(keep_all: bool) -> Self {
        Self {
            holder: 0,
            attached: false,
            closed: None,
            reader: None,
            keep_all,
            live: VecDeque::new(),
            live_bytes: 0,
            window: Window::default(),
            first: 0,
            cursor: 0,
            sent: 0,
            cached: 0,
            queued: Queued::default(),
            oldest: 0,
            dropped: 0,
            books: Books::default(),
            turned_away: false,
            suspects: Suspects::default(),
            pace: Pace::default(),
        }
    }

    /// Puts in what of `items` the session wants. `durable`: it is owed numbered events while it is away.
    pub(crate) fn offer<'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item>,
        wanted: &Wanted,
        limits: &Options,
        totals: &Totals,
    ) {
        for item in items {
            let retain = item.retain && wanted.retain_as_published;
            let guarantee = item.guarantee.min(wanted.guarantee);
            match item.position {
                Some(position) if self.keep_all || guarantee != Guarantee::AtMostOnce => {
                    if item.live_done && !self.keep_all {
                        continue;
                    }
                    let guarantee = guarantee.max(Guarantee::AtLeastOnce);
                    let ids = wanted.ids.clone();
                    let mut slot = Slot::new(position, guarantee, retain, SlotState::Open);
                    (slot.ids, slot.account) = (ids, item.account);
                    self.push_slot(slot, Some(&item.event), limits, totals);
                }
                // On its way past the log it reaches a session that keeps all by way of the log as well.
                _ if self.keep_all || item.live_done || !self.attached => {}
                _ => {
                    let ids = wanted.ids.clone();
                    self.push_live(&item.event, retain, ids, item.account, limits, totals);
                }
            }
        }
    }

    /// Puts in an event of the live lane, if it has room.
    pub(crate) fn push_live(
        &mut self,
        event: &Event,
        retain: bool,
        ids: Option<Arc<[u32]>>,
        account: Account,
        limits: &Options,
        totals: &Totals,
    ) {
        let weight = event.weight();
        self.books.owe(account);
        let full = self.live_bytes + weight > limits.live_bytes.as_usize() && !self.live.is_empty();
        if full || totals.memory.load(Ordering::Relaxed) > limits.memory_bytes.as_usize() {
            self.dropped += 1;
            totals.slow_reader.increment(1);
            self.books.end(account, End::SlowReader);
            return;
        }
        self.live_bytes += weight;
        totals.memory.fetch_add(weight, Ordering::Relaxed);
        self.live.push_back(Live { event: event.clone(), retain, ids, account });
    }

    /// How many events of a replay may be put in: some ahead of the subscriber, and none that would find no room.
    pub(crate) fn replay_room(&self, limits: &Options, totals: &Totals) -> ReplayRoom {
        let counts = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let offered = usize::try_from(self.cursor - self.first).unwrap_or(usize::MAX);
        let unsent = self.window.len().saturating_sub(offered);
        let most = (counts(limits.queue_events) / 2).max(1);
        let full = self.queued.count >= most || self.queued.bytes > limits.queue_bytes.0 / 2;
        if unsent > AHEAD / 2 || (full && self.queued.count > 0) {
            ReplayRoom::None
        } else if totals.backlog.load(Ordering::Relaxed) >= counts(limits.backlog_events) {
            ReplayRoom::Later
        } else {
            ReplayRoom::Some(AHEAD.min(most))
        }
    }

    /// Puts in a numbered delivery. It takes its number even if it is dropped: numbers follow from the log.
    pub(crate) fn push_slot(&mut self, slot: Slot, event: Option<&Event>, limits: &Options, totals: &Totals) {
        let account = slot.account;
        if !self.try_push_slot(slot, event, limits, totals) {
            self.books.owe(account);
            self.drop_numbered(account, totals);
        }
    }

    fn drop_numbered(&mut self, account: Account, totals: &Totals) {
        self.books.end(account, End::QueueFull);
        self.dropped += 1;
        totals.queue_full.increment(1);
    }

    /// As [`Self::push_slot`], of one that still waits for somebody else if it finds no room here.
    pub(crate) fn try_push_slot(
        &mut self,
        mut slot: Slot,
        event: Option<&Event>,
        limits: &Options,
        totals: &Totals,
    ) -> bool {
        if let Some(event) = event {
            slot.weight = u32::try_from(event.weight()).unwrap_or(u32::MAX);
        }
        if slot.state == SlotState::Done {
            // Only its number counts.
        } else if !self.has_room(slot.weight, limits, totals) {
            self.turned_away |= slot.group.is_some();
            slot.state = SlotState::Done;
            if limits.queue_full == QueueFull::Disconnect && self.attached {
                self.closed.get_or_insert(Closed::QueueFull);
            }
        } else {
            self.books.owe(slot.account);
            self.queued.add(slot.weight);
            self.hold(&mut slot, event, limits, totals);
            if slot.ended > 0 {
                self.suspects.add(self.next(), slot.ended, &limits.redelivery);
            }
        }
        totals.backlog.fetch_add(1, Ordering::Relaxed);
        let kept = slot.state != SlotState::Done;
        self.window.push_back(slot);
        if !kept {
            self.shift(totals);
        }
        kept
    }

    /// Keeps the event beside its number while memory allows and nothing before it is packed.
    fn hold(&mut self, slot: &mut Slot, event: Option<&Event>, limits: &Options, totals: &Totals) {
        if let Some(event) = event
            && self.attached
            && self.window.is_plain()
            && self.cached < limits.queue_memory_bytes.as_usize()
            && totals.memory.load(Ordering::Relaxed) < limits.memory_bytes.as_usize()
        {
            let weight = event.weight();
            self.cached += weight;
            totals.memory.fetch_add(weight, Ordering::Relaxed);
            slot.event = Some(event.clone());
        }
    }

    /// Whether there is room for one more, if need be by dropping what waits longest and was not sent.
    fn has_room(&mut self, weight: u32, limits: &Options, totals: &Totals) -> bool {
        let counts = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let most = counts(limits.queue_events);
        if self.keep_all {
            return true;
        }
        if totals.backlog.load(Ordering::Relaxed) >= counts(limits.backlog_events) {
            return false;
        }
        if limits.queue_full == QueueFull::Wait {
            return true;
        }
        let fits = |queued: &Queued| {
            queued.count < most
                && (queued.bytes + u64::from(weight) <= limits.queue_bytes.0 || queued.count == 0)
        };
        if fits(&self.queued) {
            return true;
        }
        // What is done stands in the window until all before it is: a subscriber that acknowledges nothing ends this.
        let done_max = usize::try_from(SPAN).unwrap_or(usize::MAX);
        if limits.queue_full != QueueFull::DropOldest || self.window.len() >= most.saturating_add(done_max) {
            return false;
        }
        self.oldest = self.oldest.max(self.sent).max(if self.attached { self.cursor } else { self.first });
        while !fits(&self.queued) {
            let at = usize::try_from(self.oldest - self.first).unwrap_or(usize::MAX);
            let Some(slot) = self.window.get_mut(at) else { return false };
            self.oldest += 1;
            if slot.state != SlotState::Open || slot.group.is_some() {
                continue;
            }
            slot.set_done(&mut self.queued);
            let account = slot.account;
            if let Some(event) = slot.event.take() {
                self.cached -= event.weight();
                totals.memory.fetch_sub(event.weight(), Ordering::Relaxed);
            }
            self.drop_numbered(account, totals);
            self.shift(totals);
        }
        true
    }

    /// Takes what `room` allows into `out`. Numbered events that have to be read from the log first go to `load`.
    pub(crate) fn take(
        &mut self,
        mut room: Room,
        now_ms: u64,
        out: &mut Vec<Delivery>,
        load: &mut Vec<(u64, Position)>,
        over: &mut Over,
        totals: &Totals,
    ) -> usize {
        let expired = self.take_numbered(&mut room, now_ms, out, load, over, totals);
        expired + self.take_live(&mut room, now_ms, out, totals)
    }

    fn take_numbered(
        &mut self,
        room: &mut Room,
        now_ms: u64,
        out: &mut Vec<Delivery>,
        load: &mut Vec<(u64, Position)>,
        over: &mut Over,
        totals: &Totals,
    ) -> usize {
        let mut expired = 0;
        let mut released = 0;
        let before = out.len();
        while room.numbered > 0 && room.bytes > 0 && self.cursor < self.first + SPAN {
            let number = self.cursor;
            // What becomes a dead letter comes alone, so that what is behind it can wait for that.
            let overdue = self.suspects.is_overdue(number);
            if self.suspects.has_to_wait(number) || (overdue && out.len() > before) {
                break;
            }
            let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            let Some(slot) = self.window.get_mut(at) else { break };
            if slot.state == SlotState::Open {
                let Some(event) = slot.event.take() else {
                    let missing = self.window.iter().skip(at).take(LOAD.min(usize::from(room.numbered)));
                    let missing = missing.zip(number..).take_while(|(slot, _)| slot.event.is_none());
                    let missing = missing.filter(|(slot, _)| slot.state == SlotState::Open);
                    load.extend(missing.map(|(slot, number)| (number, slot.position)));
                    break;
                };
                let weight = event.weight();
                released += weight;
                let is_expired = event.is_expired(now_ms);
                let acknowledged = slot.guarantee != Guarantee::AtMostOnce;
                if is_expired || !acknowledged {
                    let end = if is_expired { End::Expired } else { End::Sent };
                    slot.finish(number, end, &mut self.queued, over);
                    self.books.end(slot.account, end);
                }
                if is_expired {
                    expired += 1;
                } else {
                    room.numbered -= 1;
                    room.bytes = room.bytes.saturating_sub(weight);
                    out.push(Delivery {
                        event,
                        guarantee: slot.guarantee,
                        retain: slot.retain,
                        again: acknowledged && number < self.sent,
                        number: acknowledged.then_some(number),
                        position: Some(slot.position),
                        subscriptions: slot.ids.clone(),
                    });
                    self.sent = self.sent.max(number + 1);
                }
            }
            self.cursor += 1;
            if overdue {
                break;
            }
        }
        self.cached -= released;
        totals.memory.fetch_sub(released, Ordering::Relaxed);
        if !over.numbers.is_empty() {
            self.shift(totals);
        }
        expired
    }

    fn take_live(&mut self, room: &mut Room, now_ms: u64, out: &mut Vec<Delivery>, totals: &Totals) -> usize {
        let mut expired = 0;
        let mut released = 0;
        while room.bytes > 0
            && let Some(Live { event, retain, ids, account }) = self.live.pop_front()
        {
            let weight = event.weight();
            released += weight;
            if event.is_expired(now_ms) {
                self.books.end(account, End::Expired);
                expired += 1;
                continue;
            }
            self.books.end(account, End::Sent);
            room.bytes = room.bytes.saturating_sub(weight);
            out.push(Delivery {
                event,
                guarantee: Guarantee::AtMostOnce,
                retain,
                again: false,
                number: None,
                position: None,
                subscriptions: ids,
            });
        }
        self.live_bytes -= released;
        totals.memory.fetch_sub(released, Ordering::Relaxed);
        if self.live.is_empty() && self.live.capacity() > 1024 {
            self.live = VecDeque::new();
        }
        expired
    }

    /// Puts events that were read from the log beside their numbers; one that is gone is done. Gives the number lost.
    pub(crate) fn loaded(
        &mut self,
        events: Vec<(u64, Option<Event>)>,
        over: &mut Over,
        totals: &Totals,
    ) -> usize {
        let mut lost = 0;
        for (number, event) in events {
            let Some(at) = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else {
                continue;
            };
            let Some(slot) = self.window.get_mut(at) else { continue };
            if slot.state != SlotState::Open || slot.event.is_some() {
                continue;
            }
            match event {
                Some(event) => {
                    self.cached += event.weight();
                    totals.memory.fetch_add(event.weight(), Ordering::Relaxed);
                    slot.event = Some(event);
                }
                None => {
                    slot.finish(number, End::RecordGone, &mut self.queued, over);
                    self.books.end(slot.account, End::RecordGone);
                    lost += 1;
                }
            }
        }
        self.shift(totals);
        lost
    }

    /// Marks deliveries done. Gives those that were open, for the record; `shared` gets those of shared subscriptions.
    pub(crate) fn end(
        &mut self,
        numbers: &[u64],
        end: End,
        totals: &Totals,
        shared: &mut Vec<Left>,
    ) -> Vec<u64> {
        self.done(numbers, totals, shared, |books, account| books.end(account, end))
    }

    /// Whether there may be room now for what a group had for it in vain; asked once.
    pub(crate) fn takes_again(&mut self) -> bool {
        std::mem::take(&mut self.turned_away)
    }

    /// Takes out deliveries that go on to others.
    pub(crate) fn give_up(&mut self, numbers: &[u64], totals: &Totals, shared: &mut Vec<Left>) {
        self.done(numbers, totals, shared, Books::pass_on);
    }

    fn done(
        &mut self,
        numbers: &[u64],
        totals: &Totals,
        shared: &mut Vec<Left>,
        book: impl Fn(&mut Books, Account),
    ) -> Vec<u64> {
        self.suspects.forget(numbers);
        let mut known = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let Some(slot) = self.mark(number, SlotState::Done) else { continue };
            let (account, left) = (slot.account, slot.left());
            book(&mut self.books, account);
            shared.extend(left);
            known.push(number);
        }
        self.shift(totals);
        known
    }

    /// Numbers of open deliveries of shared subscriptions that `may` go to another member; it is told whether they were
    /// sent.
    pub(crate) fn returnable(&self, may: impl Fn(&Slot, bool) -> bool) -> Vec<u64> {
        let open = self.shared().filter(|(_, slot)| slot.state == SlotState::Open);
        open.filter(|(number, slot)| may(slot, *number < self.sent)).map(|(number, _)| number).collect()
    }

    /// Whether it has deliveries of shared subscriptions that are not done.
    pub(crate) fn has_shared(&self) -> bool {
        self.shared().any(|(_, slot)| slot.state != SlotState::Done)
    }

    /// Numbers of all deliveries of shared subscriptions that are not done: those that another member may have, and those
    /// that end here only.
    pub(crate) fn all_shared(&self) -> (Vec<u64>, Vec<u64>) {
        let open = self.shared().filter(|(_, slot)| slot.state != SlotState::Done);
        let (free, bound): (Vec<_>, Vec<_>) = open.partition(|(number, slot)| {
            let once = slot.guarantee == Guarantee::ExactlyOnce;
            !(once && (*number < self.sent || slot.state == SlotState::Received))
        });
        let numbers = |some: Vec<(u64, _)>| some.into_iter().map(|(number, _)| number).collect();
        (numbers(free), numbers(bound))
    }

    /// Deliveries of shared subscriptions, with their numbers.
    fn shared(&self) -> impl Iterator<Item = (u64, Cow<'_, Slot>)> {
        let slots = self.window.only(|kind| kind.group.is_some());
        slots.filter(|(_, slot)| slot.group.is_some()).map(|(at, slot)| (self.first + at as u64, slot))
    }

    /// Marks deliveries as received by the subscriber. Gives those that were open.
    pub(crate) fn receive(&mut self, numbers: &[u64]) -> Vec<u64> {
        numbers.iter().copied().filter(|number| self.mark(*number, SlotState::Received).is_some()).collect()
    }

    /// Brings a delivery into another state. Gives it if that is new.
    fn mark(&mut self, number: u64, state: SlotState) -> Option<&Slot> {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let slot = self.window.get_mut(at?)?;
        let changes = slot.state != SlotState::Done && slot.state != state;
        match state {
            _ if !changes => return None,
            SlotState::Done => slot.set_done(&mut self.queued),
            SlotState::Open | SlotState::Received => slot.state = state,
        }
        Some(slot)
    }

    /// Drops what is done from the front of the window.
    fn shift(&mut self, totals: &Totals) {
        let mut gone = 0;
        while self.window.front().is_some_and(|slot| slot.state == SlotState::Done) {
            if let Some(event) = self.window.pop_front().and_then(|slot| slot.event) {
                self.cached -= event.weight();
                totals.memory.fetch_sub(event.weight(), Ordering::Relaxed);
            }
            gone += 1;
        }
        self.first += gone;
        self.cursor = self.cursor.max(self.first);
        self.sent = self.sent.max(self.first);
        totals.backlog.fetch_sub(usize::try_from(gone).unwrap_or(0), Ordering::Relaxed);
    }

    /// A new connection holds the session: everything open is offered again. Gives the numbers that wait for release. `limits`:
    /// for deliveries with which connections end, if there are some.
    pub(crate) fn attach(
        &mut self,
        holder: u64,
        limits: Option<&RedeliveryOptions>,
        totals: &Totals,
    ) -> Vec<u64> {
        self.holder = holder;
        if let Some(limits) = limits {
            self.suspect(limits);
        }
        if !std::mem::replace(&mut self.attached, true) {
            totals.attached.fetch_add(1, Ordering::Relaxed);
        }
        self.closed = None;
        self.cursor = self.first;
        let slots = self.window.only(|kind| kind.state == SlotState::Received);
        let received = slots.filter(|(_, slot)| slot.state == SlotState::Received);
        received.map(|(at, _)| self.first + at as u64).collect()
    }

    /// The connection of before ended. The oldest delivery that it had may be why.
    fn suspect(&mut self, limits: &RedeliveryOptions) {
        let had = usize::try_from(self.cursor - self.first).unwrap_or(usize::MAX);
        let open = |slot: &Slot| {
            slot.state == SlotState::Open && slot.group.is_none() && slot.guarantee == Guarantee::AtLeastOnce
        };
        let oldest = self.window.iter().take(had).position(|slot| open(&slot));
        self.suspects.ended_with(oldest.map(|at| self.first + at as u64), limits);
    }

    /// Until when the delivery that is next has to wait, if it does.
    pub(crate) fn wait(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.suspects.wait(self.cursor, now)
    }

    /// The oldest of these numbers, if the connection had it.
    pub(crate) fn had(&self, numbers: &[u64]) -> Option<u64> {
        numbers.first().copied().filter(|number| *number < self.cursor)
    }

    /// If too many connections ended with this one: who did not take it, `client` or the shared subscription that it came by.
    pub(crate) fn overdue(&mut self, number: u64, client: &ClientId) -> Option<String> {
        let at = number.checked_sub(self.first).filter(|_| self.suspects.is_overdue(number))?;
        let slot = self.window.get_mut(usize::try_from(at).ok()?)?;
        let share = slot.group.as_ref().and_then(|group| group.filter.share());
        Some(share.unwrap_or(client.as_str()).to_owned())
    }

    /// Everything open is offered to the connection once more.
    pub(crate) fn rewind(&mut self) {
        self.cursor = self.first;
    }

    /// No connection holds the session: live events are of no use, the others stay in the log.
    pub(crate) fn detach(&mut self, totals: &Totals) -> usize {
        if std::mem::replace(&mut self.attached, false) {
            totals.attached.fetch_sub(1, Ordering::Relaxed);
        }
        self.reader = None;
        let unseen = self.live.len();
        for live in std::mem::take(&mut self.live) {
            self.books.end(live.account, End::Left);
        }
        self.window.forget_events();
        totals.memory.fetch_sub(self.cached + self.live_bytes, Ordering::Relaxed);
        self.cached = 0;
        self.live_bytes = 0;
        unseen
    }

    /// The session is over. Gives its books.
    pub(crate) fn clear(&mut self, totals: &Totals) -> Books {
        self.detach(totals);
        totals.backlog.fetch_sub(self.window.len(), Ordering::Relaxed);
        self.first += self.window.len() as u64;
        self.window = Window::default();
        self.cursor = self.first;
        self.suspects = Suspects::default();
        self.queued = Queued::default();
        self.books.end_all(End::Left);
        std::mem::take(&mut self.books)
    }

    /// What its books will be if Weft goes down now and the session with it: its shared subscriptions keep what they gave it.
    pub(crate) fn books_if_lost(&self) -> Books {
        let mut books = self.books.clone();
        for (_, slot) in self.shared().filter(|(_, slot)| slot.state != SlotState::Done) {
            books.pass_on(slot.account);
        }
        books.end_all(End::Left);
        books
    }

    /// How many deliveries of each route it holds.
    pub(crate) fn held(&self) -> BTreeMap<Account, u64> {
        let mut held = BTreeMap::new();
        let open = self.window.iter().filter(|slot| slot.state != SlotState::Done);
        for account in open.map(|slot| slot.account).chain(self.live.iter().map(|live| live.account)) {
            *held.entry(account).or_default() += 1;
        }
        held
    }

    /// Weight of the live lane.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// What is in it.
    pub(crate) fn counts(&self) -> Counts {
        let offered = usize::try_from(self.cursor - self.first).unwrap_or(usize::MAX);
        let offered = if self.attached { offered } else { 0 };
        let inflight = self.window.iter().take(offered).filter(|slot| slot.state != SlotState::Done).count();
        Counts {
            inflight,
            queued: self.window.len().saturating_sub(offered) + self.live.len(),
            queued_bytes: usize::try_from(self.queued.bytes)
                .unwrap_or(usize::MAX)
                .saturating_add(self.live_bytes),
            dropped: self.dropped,
        }
    }

    /// First number, numbers that may have been sent, and the slots: what a checkpoint holds.
    pub(crate) fn image(&self) -> (u64, u64, impl Iterator<Item = Cow<'_, Slot>>) {
        (self.first, self.sent, self.window.iter())
    }

    /// Numbers below may have been sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The number of the next delivery.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.window.len() as u64
    }

    /// A record of the log says so, or nobody knows.
    pub(crate) fn set_sent(&mut self, sent: u64) {
        self.sent = self.sent.max(sent);
    }

    /// Takes up what a checkpoint holds.
    pub(crate) fn restore(
        &mut self,
        first: u64,
        sent: u64,
        slots: impl Iterator<Item = Slot>,
        books: Books,
        totals: &Totals,
    ) {
        self.books = books.settled();
        self.first = first;
        self.cursor = first;
        self.sent = sent;
        for slot in slots {
            if slot.state != SlotState::Done {
                self.queued.add(slot.weight);
                self.books.owe(slot.account);
            }
            self.window.push_back(slot);
        }
        totals.backlog.fetch_add(self.window.len(), Ordering::Relaxed);
    }
}
