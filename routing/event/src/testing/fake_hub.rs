//! A hub in memory, for tests of protocols: it routes as a real one does, writes down what it is asked, and answers
//! as the test says. Knows no clock: sessions do not expire, and a will with a delay is never published. A replay is
//! delivered at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::hub::{
    Admission, Attach, Attached, Close, Closed, Delivery, Granted, Hub, Link, Outcome, Publish, Receipt,
    ReceiptSender, RetainedWanted, Room, Stamps, Subscribe, SubscribeOptions, Will,
};
use crate::store::Position;
use crate::{Event, Guarantee, Pending, Principal, Reject, Start, TopicFilter, TopicName};

/// A hub in memory. Cloning shares it.
#[derive(Clone, Debug)]
pub struct FakeHub {
    state: Arc<Mutex<State>>,
    /// Counts changes, so that [`FakeHub::until`] wakes.
    changed: watch::Sender<u64>,
    stamps: Stamps,
    groups: watch::Sender<BTreeSet<TopicFilter>>,
}

/// How a batch is answered.
#[derive(Clone, Debug, Default)]
pub enum Answer {
    /// Kept at once.
    #[default]
    Kept,
    /// When the test calls [`FakeHub::release_late`]; it is routed then.
    Late,
    /// Refused at once.
    Refused(Reject),
    /// These are refused at once, by their place in the batch, and the others kept.
    Partly(Vec<(usize, Reject)>),
    /// Never; the receipt stays open.
    Never,
    /// It waits for room until the test calls [`FakeHub::make_room`], and is kept then.
    NoRoom,
}

/// What the hub was asked.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of the methods and their arguments")]
pub enum Call {
    Attach {
        who: Principal,
        request: Attach,
    },
    /// By a session, or by someone without one.
    Publish {
        client: String,
        batch: Vec<Publish>,
    },
    Subscribe {
        client: String,
        wanted: Vec<Subscribe>,
    },
    Unsubscribe {
        client: String,
        filters: Vec<TopicFilter>,
    },
    Ack {
        client: String,
        numbers: Vec<u64>,
    },
    Received {
        client: String,
        numbers: Vec<u64>,
    },
    Release {
        client: String,
        ids: Vec<u16>,
    },
    Renew {
        who: Principal,
    },
    Close {
        client: String,
        how: Close,
    },
    /// A link was dropped without [`Link::close`].
    Lost {
        client: String,
    },
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    next_answers: VecDeque<Answer>,
    answer: Answer,
    answer_states: Answer,
    refuse_attach: Option<Reject>,
    refuse_subscribe: Option<Reject>,
    late: Vec<(ReceiptSender, String, Vec<Publish>)>,
    never: Vec<ReceiptSender>,
    no_room: Vec<oneshot::Sender<()>>,
    log: Vec<(Position, Event)>,
    retained: BTreeMap<TopicName, (Option<Position>, Publish)>,
    sessions: BTreeMap<String, Session>,
    connections: u64,
}

#[derive(Debug, Default)]
struct Session {
    subscriptions: Vec<Subscribe>,
    unnumbered: VecDeque<Delivery>,
    numbered: BTreeMap<u64, Held>,
    next_number: u64,
    received_ids: BTreeSet<u16>,
    keep: Duration,
    keep_all: bool,
    will: Option<Will>,
    /// Who holds it; 0: nobody.
    connection: u64,
    /// Connections that lost it.
    closed: BTreeMap<u64, Closed>,
    wakers: Vec<Waker>,
}

/// A numbered delivery that is not acked.
#[derive(Debug)]
struct Held {
    delivery: Delivery,
    /// It was given to this connection.
    taken_by: u64,
    received: bool,
}

impl Default for FakeHub {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeHub {
    /// A hub that keeps all at once.
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::channel(0).0,
            stamps: Stamps::starting_at(1),
            groups: watch::Sender::default(),
        }
    }

    /// The shared subscriptions that have members, from now on.
    pub fn set_groups(&self, filters: BTreeSet<TopicFilter>) {
        self.groups.send_replace(filters);
    }

    /// How publishes are answered from now on.
    pub fn answer(&self, answer: Answer) {
        self.lock().answer = answer;
    }

    /// How the next batch is answered; call again for the one after it.
    pub fn answer_next(&self, answer: Answer) {
        self.lock().next_answers.push_back(answer);
    }

    /// How [`Link::received`] and [`Link::release`] are answered from now on.
    pub fn answer_states(&self, answer: Answer) {
        self.lock().answer_states = answer;
    }

    /// From now on attaching is refused; `None`: accepted again.
    pub fn refuse_attach(&self, refusal: Option<Reject>) {
        self.lock().refuse_attach = refusal;
    }

    /// From now on subscribing is refused; `None`: accepted again.
    pub fn refuse_subscribe(&self, refusal: Option<Reject>) {
        self.lock().refuse_subscribe = refusal;
    }

    /// Resolves what was answered [`Answer::Late`], in order. Returns how many batches.
    pub fn release_late(&self) -> usize {
        let mut state = self.lock();
        let late = std::mem::take(&mut state.late);
        let count = late.len();
        for (sender, client, batch) in late {
            state.route(&client, batch);
            sender.resolve(Outcome::Kept);
        }
        count
    }

    /// Lets in what waits for room.
    pub fn make_room(&self) {
        for waiting in std::mem::take(&mut self.lock().no_room) {
            waiting.send(()).unwrap_or(());
        }
    }

    /// What the hub was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Waits until `find` finds something in what the hub was asked. Cancel-safe.
    pub async fn until<T>(&self, mut find: impl FnMut(&[Call]) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = find(&self.lock().calls) {
                return found;
            }
            // The sender is in `self`, so this only ends with a change.
            changes.changed().await.unwrap_or(());
        }
    }

    /// Everything that was published, in order, refused or not.
    pub fn published(&self) -> Vec<Publish> {
        let mut all = Vec::new();
        for call in self.calls() {
            if let Call::Publish { batch, .. } = call {
                all.extend(batch);
            }
        }
        all
    }

    /// The numbers that `client` acked, in order.
    pub fn acked(&self, client: &str) -> Vec<u64> {
        let mut all = Vec::new();
        for call in self.calls() {
            if let Call::Ack { client: who, numbers } = call
                && who == client
            {
                all.extend(numbers);
            }
        }
        all
    }

    /// What the log holds.
    pub fn log(&self) -> Vec<(Position, Event)> {
        self.lock().log.clone()
    }

    /// The clients that have a session.
    pub fn sessions(&self) -> Vec<String> {
        self.lock().sessions.keys().cloned().collect()
    }

    /// Publishes `publish` as `client`, without writing it down as a call.
    pub fn inject(&self, client: &str, publish: Publish) {
        self.lock().route(client, vec![publish]);
    }

    /// Puts a delivery into `client`'s mailbox, subscribed or not, and returns its number. Nothing happens if there
    /// is no such session.
    pub fn deliver(&self, client: &str, event: Event, guarantee: Guarantee) -> Option<u64> {
        let mut state = self.lock();
        let position = (guarantee != Guarantee::AtMostOnce).then(|| state.append(&event));
        let session = state.sessions.get_mut(client)?;
        session.offer(event, guarantee, false, position, None)
    }

    /// Ends the connection of `client`.
    pub fn end(&self, client: &str, why: Closed) {
        if let Some(session) = self.lock().sessions.get_mut(client) {
            session.cut(why);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: Call) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.calls.push(call);
        self.changed.send_modify(|count| *count += 1);
        state
    }

    fn admit(&self, client: &str, batch: Vec<Publish>) -> Admission {
        let mut state = self.note(Call::Publish { client: client.to_owned(), batch: batch.clone() });
        let answer = state.next_answers.pop_front().unwrap_or_else(|| state.answer.clone());
        let ready = |outcome| Admission::Admitted(Receipt::ready(outcome));
        match answer {
            Answer::Kept => {
                state.route(client, batch);
                ready(Outcome::Kept)
            }
            Answer::Refused(reject) => ready(Outcome::Refused(reject)),
            Answer::Partly(list) => {
                let refused = |place: &usize| list.iter().any(|(at, _)| at == place);
                let kept = batch.into_iter().enumerate().filter(|(place, _)| !refused(place));
                state.route(client, kept.map(|(_, publish)| publish).collect());
                ready(Outcome::Partly(list))
            }
            Answer::Late => {
                let (sender, receipt) = Receipt::pair();
                state.late.push((sender, client.to_owned(), batch));
                Admission::Admitted(receipt)
            }
            Answer::Never => Admission::Admitted(state.never()),
            Answer::NoRoom => {
                let (room, waiting) = oneshot::channel();
                state.no_room.push(room);
                let (hub, client) = (self.clone(), client.to_owned());
                #[expect(
                    clippy::async_yields_async,
                    reason = "room comes first, the receipt is awaited later"
                )]
                Admission::Waiting(Box::pin(async move {
                    waiting.await.unwrap_or(());
                    hub.lock().route(&client, batch);
                    Receipt::ready(Outcome::Kept)
                }))
            }
        }
    }
}

impl Hub for FakeHub {
    fn attach(&self, who: Principal, request: Attach) -> Pending<Attached> {
        let client = who.client.as_str().to_owned();
        let mut state = self.note(Call::Attach { who, request: request.clone() });
        if let Some(reject) = state.refuse_attach.clone() {
            return Box::pin(async { Err(reject) });
        }
        state.connections += 1;
        let connection = state.connections;
        if let Some(old) = state.sessions.get_mut(&client) {
            old.cut(Closed::TakenOver);
            if request.clean || old.keep.is_zero() {
                let fresh = Session { closed: std::mem::take(&mut old.closed), ..Session::default() };
                state.sessions.insert(client.clone(), fresh);
            }
        }
        let present = state.sessions.get(&client).is_some_and(|session| session.keep > Duration::ZERO);
        let session = state.sessions.entry(client.clone()).or_default();
        session.connection = connection;
        session.keep = request.keep;
        session.keep_all = request.keep_all;
        session.will = request.will;
        let received_ids = session.received_ids.iter().copied().collect();
        let unreleased =
            session.numbered.iter().filter(|(_, held)| held.received).map(|(number, _)| *number).collect();
        let link = FakeLink { hub: self.clone(), client, connection, closed: false };
        Box::pin(async move { Ok(Attached { link: Box::new(link), present, received_ids, unreleased }) })
    }

    fn publish(&self, who: &Principal, batch: Vec<Publish>) -> Admission {
        self.admit(who.client.as_str(), batch)
    }

    fn stamps(&self) -> Stamps {
        self.stamps.clone()
    }

    fn groups(&self, _store: &str) -> watch::Receiver<BTreeSet<TopicFilter>> {
        self.groups.subscribe()
    }

    /// As a publish by a client with the name of the group.
    fn feed(&self, group: &TopicFilter, batch: Vec<Publish>) -> Admission {
        self.admit(group.as_str(), batch)
    }
}

/// A hold on a session of a [`FakeHub`].
struct FakeLink {
    hub: FakeHub,
    client: String,
    connection: u64,
    closed: bool,
}

impl FakeLink {
    /// Lets the session go, if this connection still has it.
    fn let_go(&mut self, state: &mut State, will: bool, keep: Option<Duration>) {
        self.closed = true;
        let Some(session) = state.sessions.get_mut(&self.client) else { return };
        session.closed.remove(&self.connection);
        if session.connection != self.connection {
            if session.connection == 0 && session.keep.is_zero() {
                state.sessions.remove(&self.client);
            }
            return;
        }
        session.connection = 0;
        session.keep = keep.unwrap_or(session.keep);
        let due = session.will.take().filter(|due| will && due.delay.is_zero());
        if session.keep.is_zero() {
            state.sessions.remove(&self.client);
        }
        if let Some(due) = due {
            state.route(&self.client, vec![due.publish]);
        }
    }
}

impl Link for FakeLink {
    fn publish(&mut self, batch: Vec<Publish>) -> Admission {
        self.hub.admit(&self.client, batch)
    }

    fn subscribe(&mut self, wanted: Vec<Subscribe>) -> Pending<Vec<Result<Granted, Reject>>> {
        let mut state =
            self.hub.note(Call::Subscribe { client: self.client.clone(), wanted: wanted.clone() });
        if let Some(reject) = &state.refuse_subscribe {
            let refused = wanted.iter().map(|_| Err(reject.clone())).collect();
            return Box::pin(async { Ok(refused) });
        }
        let as_of = state.log.last().map_or(Position(0), |(at, _)| *at);
        let granted =
            wanted.iter().map(|one| Ok(Granted { guarantee: one.options.guarantee, as_of })).collect();
        for one in wanted {
            state.subscribe(&self.client, one);
        }
        Box::pin(async { Ok(granted) })
    }

    fn unsubscribe(&mut self, filters: Vec<TopicFilter>) -> Pending<Vec<bool>> {
        let mut state =
            self.hub.note(Call::Unsubscribe { client: self.client.clone(), filters: filters.clone() });
        let mut remove = |filter| {
            let Some(session) = state.sessions.get_mut(&self.client) else { return false };
            let before = session.subscriptions.len();
            session.subscriptions.retain(|have| have.filter != filter);
            session.subscriptions.len() < before
        };
        let there = filters.into_iter().map(&mut remove).collect();
        Box::pin(async { Ok(there) })
    }

    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.hub.lock();
        let Some(session) = state.sessions.get_mut(&self.client) else {
            return Poll::Ready(Err(Closed::Ended));
        };
        if session.connection != self.connection {
            let why = session.closed.get(&self.connection).copied();
            return Poll::Ready(Err(why.unwrap_or(Closed::TakenOver)));
        }
        if session.take(room, out) > 0 {
            return Poll::Ready(Ok(()));
        }
        session.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn ack(&mut self, numbers: &[u64]) {
        let mut state = self.hub.note(Call::Ack { client: self.client.clone(), numbers: numbers.to_vec() });
        if let Some(session) = state.sessions.get_mut(&self.client) {
            session.numbered.retain(|number, _| !numbers.contains(number));
        }
    }

    fn rewind(&mut self) {
        let mut state = self.hub.lock();
        let Some(session) = state.sessions.get_mut(&self.client) else { return };
        for held in session.numbered.values_mut().filter(|held| held.taken_by == self.connection) {
            // As if another connection had it.
            held.taken_by = u64::MAX;
        }
    }

    fn received(&mut self, numbers: &[u64]) -> Receipt {
        let mut state =
            self.hub.note(Call::Received { client: self.client.clone(), numbers: numbers.to_vec() });
        if let Some(session) = state.sessions.get_mut(&self.client) {
            let theirs = session.numbered.iter_mut().filter(|(number, _)| numbers.contains(number));
            theirs.for_each(|(_, held)| held.received = true);
        }
        state.answer_state()
    }

    fn release(&mut self, ids: &[u16]) -> Receipt {
        let mut state = self.hub.note(Call::Release { client: self.client.clone(), ids: ids.to_vec() });
        if let Some(session) = state.sessions.get_mut(&self.client) {
            session.received_ids.retain(|id| !ids.contains(id));
        }
        state.answer_state()
    }

    fn renew(&mut self, who: Principal) {
        drop(self.hub.note(Call::Renew { who }));
    }

    fn close(mut self: Box<Self>, how: Close) {
        let hub = self.hub.clone();
        let mut state = hub.note(Call::Close { client: self.client.clone(), how });
        self.let_go(&mut state, how.will, how.keep);
    }
}

impl Drop for FakeLink {
    fn drop(&mut self) {
        if !self.closed {
            let hub = self.hub.clone();
            let mut state = hub.note(Call::Lost { client: self.client.clone() });
            self.let_go(&mut state, true, None);
        }
    }
}

impl State {
    fn never(&mut self) -> Receipt {
        let (sender, receipt) = Receipt::pair();
        self.never.push(sender);
        receipt
    }

    fn answer_state(&mut self) -> Receipt {
        match self.answer_states.clone() {
            Answer::Kept | Answer::NoRoom => Receipt::ready(Outcome::Kept),
            Answer::Refused(reject) => Receipt::ready(Outcome::Refused(reject)),
            Answer::Partly(list) => Receipt::ready(Outcome::Partly(list)),
            Answer::Never => self.never(),
            Answer::Late => {
                let (sender, receipt) = Receipt::pair();
                self.late.push((sender, String::new(), Vec::new()));
                receipt
            }
        }
    }

    /// Positions have gaps, as those of a real log.
    fn append(&mut self, event: &Event) -> Position {
        let position = Position(self.log.last().map_or(0, |(at, _)| at.0) + 100);
        self.log.push((position, event.clone()));
        position
    }

    fn route(&mut self, client: &str, batch: Vec<Publish>) {
        for publish in batch {
            let kept_for_one =
                self.sessions.values().any(|s| s.keep_all && s.matching(&publish.event, None).is_some());
            let kept = publish.guarantee != Guarantee::AtMostOnce || kept_for_one;
            let position = kept.then(|| self.append(&publish.event));
            if let (Some(id), Some(session)) = (publish.id, self.sessions.get_mut(client)) {
                session.received_ids.insert(id);
            }
            for (name, session) in &mut self.sessions {
                let from = (name == client).then_some(client);
                let Some((options, ids)) = session.matching(&publish.event, from) else { continue };
                let mut guarantee = options.guarantee.min(publish.guarantee);
                if session.keep_all {
                    guarantee = guarantee.max(Guarantee::AtLeastOnce);
                }
                let retain = publish.retain && options.retain_as_published;
                session.offer(publish.event.clone(), guarantee, retain, position, ids);
            }
            if publish.retain && publish.event.data().is_empty() {
                self.retained.remove(publish.event.topic());
            } else if publish.retain {
                self.retained.insert(publish.event.topic().clone(), (position, publish));
            }
        }
    }

    fn subscribe(&mut self, client: &str, wanted: Subscribe) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let old = session.subscriptions.iter().position(|have| have.filter == wanted.filter);
        let send = match wanted.options.retained {
            _ if wanted.replay.is_some() => false,
            RetainedWanted::Always => true,
            RetainedWanted::IfNew => old.is_none(),
            RetainedWanted::Never => false,
        };
        let ids: Option<Arc<[u32]>> = (wanted.options.id != 0).then(|| Arc::from([wanted.options.id]));
        for (position, event) in &self.log {
            let wants = wanted.replay.is_some_and(|start| is_behind(start, *position, event));
            if wants && wanted.filter.matches(event.topic()) {
                session.offer(event.clone(), wanted.options.guarantee, false, Some(*position), ids.clone());
            }
        }
        if send && wanted.filter.share().is_none() {
            for (topic, (position, publish)) in &self.retained {
                if wanted.filter.matches(topic) {
                    let guarantee = wanted.options.guarantee.min(publish.guarantee);
                    session.offer(publish.event.clone(), guarantee, true, *position, ids.clone());
                }
            }
        }
        match old.and_then(|at| session.subscriptions.get_mut(at)) {
            Some(place) => *place = wanted,
            None => session.subscriptions.push(wanted),
        }
    }
}

/// Whether a replay that starts there has an event. Without a clock, all events were received long ago.
fn is_behind(start: Start, position: Position, event: &Event) -> bool {
    match start {
        Start::All => true,
        Start::Behind(place) => position > place,
        Start::Since(since_ms) => event.parts().received_ms >= since_ms,
        Start::Ago(ago) => ago == Duration::MAX,
    }
}

impl Session {
    /// The strongest of the subscriptions that match, and the ids of all. `from`: the session published it itself.
    fn matching(&self, event: &Event, from: Option<&str>) -> Option<(SubscribeOptions, Option<Arc<[u32]>>)> {
        let wants =
            |one: &&Subscribe| one.filter.matches(event.topic()) && !(one.options.no_local && from.is_some());
        let matching: Vec<SubscribeOptions> =
            self.subscriptions.iter().filter(wants).map(|one| one.options).collect();
        let strongest = matching.iter().copied().max_by_key(|options| options.guarantee)?;
        let ids: Vec<u32> = matching.iter().map(|options| options.id).filter(|id| *id != 0).collect();
        Some((strongest, (!ids.is_empty()).then(|| ids.into())))
    }

    fn offer(
        &mut self,
        event: Event,
        guarantee: Guarantee,
        retain: bool,
        position: Option<Position>,
        subscriptions: Option<Arc<[u32]>>,
    ) -> Option<u64> {
        let number = (guarantee != Guarantee::AtMostOnce).then_some(self.next_number);
        let delivery = Delivery { event, guarantee, retain, again: false, number, position, subscriptions };
        match number {
            Some(number) => {
                self.next_number += 1;
                self.numbered.insert(number, Held { delivery, taken_by: 0, received: false });
            }
            None if self.connection != 0 => self.unnumbered.push_back(delivery),
            None => {}
        }
        self.wake();
        number
    }

    /// Takes what is ready; returns how many.
    fn take(&mut self, room: Room, out: &mut Vec<Delivery>) -> usize {
        let before = out.len();
        let mut bytes = room.bytes;
        let mut fits = |delivery: &Delivery, first: bool| {
            let fits = first || delivery.event.weight() <= bytes;
            bytes = bytes.saturating_sub(delivery.event.weight());
            fits
        };
        while let Some(delivery) = self.unnumbered.pop_front() {
            if !fits(&delivery, out.len() == before) {
                self.unnumbered.push_front(delivery);
                return out.len() - before;
            }
            out.push(delivery);
        }
        let connection = self.connection;
        let open = self.numbered.values_mut().filter(|held| held.taken_by != connection && !held.received);
        for held in open.take(usize::from(room.numbered)) {
            if !fits(&held.delivery, out.len() == before) {
                break;
            }
            held.delivery.again = held.taken_by != 0;
            held.taken_by = connection;
            out.push(held.delivery.clone());
        }
        out.len() - before
    }

    fn cut(&mut self, why: Closed) {
        if self.connection != 0 {
            self.closed.insert(self.connection, why);
            self.connection = 0;
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Takes deliveries from `link` until there are `count`; no more numbered ones than that. Cancel-safe: what was taken
/// stays in `out`.
pub async fn take_deliveries(
    link: &mut dyn Link,
    count: usize,
    out: &mut Vec<Delivery>,
) -> Result<(), Closed> {
    while let Some(left @ 1..) = count.checked_sub(out.len()) {
        let numbered = u16::try_from(left).unwrap_or(u16::MAX);
        next_deliveries(link, Room { numbered, bytes: 1 << 20 }, out).await?;
    }
    Ok(())
}

/// [`Link::poll_deliveries`] as a future. Cancel-safe.
pub fn next_deliveries<'a>(
    link: &'a mut dyn Link,
    room: Room,
    out: &'a mut Vec<Delivery>,
) -> impl Future<Output = Result<(), Closed>> + 'a {
    std::future::poll_fn(move |cx| link.poll_deliveries(cx, room, out))
}
