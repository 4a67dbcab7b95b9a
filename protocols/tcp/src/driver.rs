//! Drives one [`Connection`] over one stream: the only file that awaits.
//!
//! One task, one loop, no lock. Each turn does first what is ready at home, then writes, then reads: receipts, replies,
//! deliveries, what is held for the hub, actions, write, timer, read. The loop rests when a whole turn found nothing; by
//! then each of these has the waker.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use event::access::{Asking, Gate};
use event::audit::Wanted;
use event::hub::{Admission, Attached, Close, Delivery, Granted, Hub, Link, Outcome, Receipt};
use event::{Allowance, Event, Pending, Principal, Reject, Source};
use eventmesh::{Call, Clients, Order, Payload, Registered, Requester, Unanswered};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::codec::{self, Found};
use crate::connection::{Action, As, Connection, Now};
use crate::{Options, meters};

/// What connections need, the same for all of them. Cloning shares it.
#[derive(Clone)]
pub struct Parts {
    /// Who may come in.
    pub gate: Arc<dyn Gate>,
    /// The core.
    pub hub: Arc<dyn Hub>,
    /// Where requests wait for their replies.
    pub requester: Requester,
    /// Where operators see clients.
    pub clients: Clients,
    /// Settings of TCP.
    pub options: Arc<Options>,
    /// Settings that EventMesh's protocols share.
    pub common: Arc<eventmesh::Options>,
}

/// Serves one client over `stream` until it is gone, or `drain` turns true and what was taken is answered.
/// Not cancel-safe: dropped, the client is lost.
pub fn serve<S>(
    stream: S,
    source: Source,
    parts: Parts,
    mut drain: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // Made before the future, so that the future holds what it was made of only once.
    let mut driver = Driver::new(stream, source, parts);
    async move {
        let _connected = meters::Connected::new();
        {
            let mut timer = pin!(sleep_until(Instant::now()));
            let mut drained = pin!(async {
                // A sender that is gone says the same as true.
                drain.wait_for(|stop| *stop).await.map(|_| ()).unwrap_or(());
            });
            let mut draining = false;
            poll_fn(|cx| driver.poll(cx, timer.as_mut(), drained.as_mut(), &mut draining)).await;
        }
        driver.report();
        driver.finish().await;
    }
}

struct Driver<S> {
    stream: S,
    source: Source,
    parts: Parts,
    link: Option<Box<dyn Link>>,
    connection: Connection,
    frame_max: u32,

    /// What was read and is not handled yet.
    input: BytesMut,
    /// How much to read at once: grows while reads fill it.
    chunk: usize,
    /// When memory that a busy time left is given back.
    shrink_at: Option<Instant>,

    held: Held,
    /// How much the client may send.
    allowance: Allowance,
    /// The client sent more than it may: until then it is not read.
    paused_until: Option<Instant>,
    receipts: [VecDeque<Receipt>; 2],
    calls: FuturesUnordered<Asked>,
    deliveries: Vec<Delivery>,
    /// Its place among the clients that operators see, and their orders.
    registered: Option<Registered>,
    order: Option<Pin<Box<dyn Future<Output = Option<Order>> + Send>>>,

    /// When the timer fires.
    armed: Option<Instant>,
    /// Written, and not flushed yet.
    dirty: bool,
    failed: bool,
}

/// What the connection waits for before it takes the next frame.
enum Held {
    Nothing,
    Admit(Pending<Principal>),
    Attach(Box<Principal>, Pending<Attached>),
    Room(As, Pin<Box<dyn Future<Output = Receipt> + Send>>),
    Subscribe(Pending<Vec<Result<Granted, Reject>>>),
    Unsubscribe(Pending<Vec<bool>>),
}

/// A request on its way.
struct Asked {
    id: u64,
    call: Call,
}

impl Future for Asked {
    type Output = (u64, Result<Event, Unanswered>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        Pin::new(&mut self.call).poll(cx).map(|reply| (id, reply))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    fn new(stream: S, source: Source, parts: Parts) -> Self {
        let frame_max = parts.options.max_frame();
        let (options, common) = (Arc::clone(&parts.options), Arc::clone(&parts.common));
        let now = Instant::now().into_std();
        let connection = Connection::new(options, common, parts.hub.stamps(), source.address, now);
        Self {
            stream,
            source,
            parts,
            link: None,
            connection,
            frame_max,
            input: BytesMut::new(),
            chunk: CHUNK_MIN,
            shrink_at: None,
            held: Held::Nothing,
            allowance: Allowance::unlimited(),
            paused_until: None,
            receipts: [VecDeque::new(), VecDeque::new()],
            calls: FuturesUnordered::new(),
            deliveries: Vec::new(),
            registered: None,
            order: None,
            armed: None,
            dirty: false,
            failed: false,
        }
    }

    /// Tells why the connection is over.
    fn report(&self) {
        let Self { connection, source, .. } = self;
        let (client, reason) = (connection.client(), connection.violation());
        if let Some(violation) = reason {
            meters::violation(violation);
        }
        let reason = reason.map(tracing::field::display);
        tracing::debug!(client, peer = %source.address, listener = %source.listener, reason, "disconnected");
    }

    /// Turns until nothing is ready. Ready when the connection is over.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        drained: Pin<&mut impl Future<Output = ()>>,
        draining: &mut bool,
    ) -> Poll<()> {
        let now = now();
        if !*draining && drained.poll(cx).is_ready() {
            *draining = true;
            self.connection.handle_drain(now.instant);
        }
        if self.paused_until.is_some() || !self.connection.wants_frames() {
            // What is not read cannot have come.
            self.connection.handle_input(0, now.instant);
        }
        loop {
            let mut moved = self.poll_receipts(cx);
            moved |= self.poll_calls(cx);
            moved |= self.poll_deliveries(cx, now);
            moved |= self.poll_held(cx, now);
            moved |= self.poll_order(cx, now);
            moved |= self.perform_actions(now);
            if self.connection.is_over() {
                meters::add(self.connection.take_tally());
                return Poll::Ready(());
            }
            moved |= self.poll_write(cx, now);
            moved |= self.poll_timer(cx, timer.as_mut(), now);
            moved |= self.poll_read(cx, now);
            if !moved {
                meters::add(self.connection.take_tally());
                return Poll::Pending;
            }
        }
    }

    fn poll_receipts(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for (receipts, publisher) in self.receipts.iter_mut().zip([As::Client, As::Weft]) {
            while let Some(outcome) = poll_first(receipts, cx) {
                self.connection.handle_published(publisher, &outcome);
                moved = true;
            }
        }
        moved
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some((id, reply))) = self.calls.poll_next_unpin(cx) {
            self.connection.handle_reply(id, reply);
            moved = true;
        }
        moved
    }

    fn poll_deliveries(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let (Some(link), Some(room)) = (&mut self.link, self.connection.room()) else { return false };
        match link.poll_deliveries(cx, room, &mut self.deliveries) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.connection.handle_deliveries(&mut self.deliveries, now);
                true
            }
            Poll::Ready(Err(why)) => {
                self.connection.handle_closed(why);
                true
            }
        }
    }

    fn poll_held(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        match &mut self.held {
            Held::Nothing => return false,
            Held::Admit(admit) => {
                let Poll::Ready(answer) = admit.as_mut().poll(cx) else { return false };
                if let Ok(who) = &answer {
                    self.allowance = who.allowance.clone();
                }
                self.connection.handle_admission(answer);
            }
            Held::Attach(who, attach) => {
                let Poll::Ready(answer) = attach.as_mut().poll(cx) else { return false };
                let who = (**who).clone();
                let answer = answer.map(|attached| {
                    self.link = Some(attached.link);
                    who
                });
                self.connection.handle_attached(answer, now);
                let source = &self.source;
                tracing::info!(
                    client = self.connection.client(),
                    peer = %source.address,
                    listener = %source.listener,
                    accepted = self.link.is_some(),
                    "connect"
                );
            }
            Held::Room(publisher, admission) => {
                let Poll::Ready(receipt) = admission.as_mut().poll(cx) else { return false };
                let publisher = *publisher;
                self.held = Held::Nothing;
                self.admitted(publisher, receipt);
                return true;
            }
            Held::Subscribe(subscribe) => {
                let Poll::Ready(answer) = subscribe.as_mut().poll(cx) else { return false };
                self.connection.handle_subscribed(answer);
            }
            Held::Unsubscribe(unsubscribe) => {
                let Poll::Ready(answer) = unsubscribe.as_mut().poll(cx) else { return false };
                self.connection.handle_unsubscribed(answer);
            }
        }
        self.held = Held::Nothing;
        true
    }

    fn poll_order(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let Some(order) = &mut self.order else { return false };
        let Poll::Ready(order) = order.as_mut().poll(cx) else { return false };
        self.order = None;
        if let Some(order) = order {
            self.connection.handle_order(&order, now.instant);
        }
        true
    }

    /// Performs what the connection wants, as long as it does not wait for an answer.
    fn perform_actions(&mut self, now: Now) -> bool {
        let mut moved = false;
        while matches!(self.held, Held::Nothing)
            && let Some(action) = self.connection.poll_action()
        {
            moved = true;
            self.perform(action, now);
        }
        moved
    }

    fn perform(&mut self, action: Action, now: Now) {
        match action {
            Action::Admit(client, credentials) => {
                let asking = Asking { client, source: self.source.clone(), credentials };
                self.held = Held::Admit(self.parts.gate.admit(asking));
            }
            Action::Attach(who, attach) => {
                let attach = self.parts.hub.attach((*who).clone(), attach);
                self.held = Held::Attach(who, attach);
            }
            Action::Register(client) => {
                let (registered, mut orders) = self.parts.clients.register(*client);
                self.registered = Some(registered);
                self.order = Some(Box::pin(async move {
                    orders.wait_for(Option::is_some).await.ok().and_then(|order| order.clone())
                }));
            }
            Action::Listens(topics) => {
                if let Some(registered) = &self.registered {
                    registered.listens(topics);
                }
            }
            Action::Ask { id, payload, ttl } => self.ask(id, *payload, ttl, now),
            Action::Publish(publisher, batch) => {
                let admission = match (publisher, &mut self.link) {
                    (As::Weft, _) => self.parts.hub.publish(self.parts.requester.replier(), batch),
                    (As::Client, Some(link)) => link.publish(batch),
                    (As::Client, None) => return,
                };
                match admission {
                    Admission::Admitted(receipt) => self.admitted(publisher, receipt),
                    Admission::Waiting(room) => self.held = Held::Room(publisher, room),
                }
            }
            Action::Subscribe(_) | Action::Unsubscribe(_) | Action::Ack(_) => self.perform_in_session(action),
            Action::Denied(denied) => {
                let (who, filter, reject) = *denied;
                let audit = self.parts.hub.audit();
                audit.refused(&who, Wanted::Subscribe, Some(filter.as_str()), &reject, now.instant);
            }
        }
    }

    fn perform_in_session(&mut self, action: Action) {
        let Some(link) = &mut self.link else { return };
        match action {
            Action::Subscribe(wanted) => self.held = Held::Subscribe(link.subscribe(wanted)),
            Action::Unsubscribe(filters) => self.held = Held::Unsubscribe(link.unsubscribe(filters)),
            Action::Ack(numbers) => link.ack(&numbers),
            Action::Admit(..)
            | Action::Attach(..)
            | Action::Register(_)
            | Action::Listens(_)
            | Action::Publish(..)
            | Action::Denied(_)
            | Action::Ask { .. } => {}
        }
    }

    fn admitted(&mut self, publisher: As, receipt: Receipt) {
        let [client, weft] = &mut self.receipts;
        match publisher {
            As::Client => client.push_back(receipt),
            As::Weft => weft.push_back(receipt),
        }
        self.connection.handle_admitted();
    }

    fn ask(&mut self, id: u64, mut payload: Payload, ttl: Duration, now: Now) {
        let asked = self.parts.requester.call(ttl).map(|call| {
            call.address(payload.parts_mut(), now.ms);
            self.calls.push(Asked { id, call });
            payload.into_event()
        });
        self.connection.handle_asked(id, asked);
        self.connection.flush();
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let mut moved = false;
        while !self.failed && !self.connection.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.connection.output()) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.connection.handle_written(written, now.instant);
                    self.dirty = true;
                    moved = true;
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.fail();
                    return true;
                }
                Poll::Pending => {
                    self.connection.handle_written(0, now.instant);
                    break;
                }
            }
        }
        if self.dirty && !self.failed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(_)) => {
                    self.fail();
                    return true;
                }
                Poll::Pending => {}
            }
        }
        moved
    }

    fn fail(&mut self) {
        self.failed = true;
        self.connection.handle_eof();
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, now: Now) -> bool {
        let next = self.connection.poll_timeout().map(Instant::from_std);
        let Some(next) = [next, self.shrink_at, self.paused_until].into_iter().flatten().min() else {
            return false;
        };
        // A timer that fires early costs less than moving it each time something comes.
        if self.armed.is_none_or(|armed| armed > next) {
            timer.as_mut().reset(next);
            self.armed = Some(next);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.armed = None;
        // The timer may be ahead of the `now` of this turn.
        let now = now.instant.max(Instant::now().into_std());
        self.connection.handle_timeout(now);
        if self.shrink_at.is_some_and(|at| at.into_std() <= now) {
            self.shrink();
        }
        self.paused_until.take_if(|until| until.into_std() <= now);
        true
    }

    /// An idle connection keeps as little as one that has just come.
    fn shrink(&mut self) {
        self.shrink_at = None;
        self.chunk = CHUNK_MIN;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.deliveries.shrink_to_fit();
        self.receipts.iter_mut().for_each(VecDeque::shrink_to_fit);
        self.connection.shrink();
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        if self.feed(0, now) {
            return true;
        }
        let open = matches!(self.held, Held::Nothing) && self.connection.wants_frames();
        if self.failed || self.paused_until.is_some() || !open {
            return false;
        }
        if self.input.capacity() - self.input.len() < self.chunk / 4 {
            self.input.reserve(self.chunk);
        }
        let room = self.input.capacity() - self.input.len();
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(read @ 1..)) => {
                self.connection.handle_input(read, now.instant);
                if read == room {
                    self.chunk = (self.chunk * 4).min(CHUNK_MAX);
                }
                self.shrink_at.get_or_insert(Instant::from_std(now.instant) + IDLE);
                self.feed(read, now);
                true
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                self.fail();
                true
            }
        }
    }

    /// Gives whole frames to the connection while it wants them. `read`: bytes that came now.
    fn feed(&mut self, read: usize, now: Now) -> bool {
        let mut frames = 0;
        while !self.input.is_empty() && matches!(self.held, Held::Nothing) && self.connection.wants_frames() {
            match codec::find(&self.input, self.connection.dialect(), self.frame_max) {
                Ok(Found::Whole(dialect, end)) => {
                    frames += 1;
                    match codec::read(self.input.split_to(end).freeze()) {
                        Ok(frame) => self.connection.handle_frame(frame, dialect, now),
                        Err(violation) => self.connection.handle_violation(violation),
                    }
                    self.perform_actions(now);
                }
                Ok(Found::Need(end)) => {
                    // Memory follows what really came, so a length alone takes none.
                    let missing = end.saturating_sub(self.input.len());
                    if end > self.input.capacity() {
                        self.input.reserve(missing.min(self.input.len().max(CHUNK_MAX)));
                    }
                    break;
                }
                Err(violation) => {
                    self.connection.handle_violation(violation);
                    frames += 1;
                }
            }
        }
        if frames > 0 || read > 0 {
            self.connection.flush();
            self.charge(frames, read, now);
        }
        frames > 0
    }

    /// Charges what came.
    fn charge(&mut self, frames: u64, read: usize, now: Now) {
        if self.allowance.is_limited() {
            let bytes = u64::try_from(read).unwrap_or(u64::MAX);
            let wait = self.allowance.charge(frames, bytes, now.instant);
            if !wait.is_zero() {
                self.paused_until = Some(Instant::from_std(now.instant + wait));
            }
        }
    }

    /// Writes what is left, and closes. Bounded in time; not cancel-safe.
    async fn finish(&mut self) {
        // Receipts and futures of the hub are of no use any more; the hub goes on without them.
        self.receipts.iter_mut().for_each(VecDeque::clear);
        self.calls.clear();
        self.registered = None;
        if let Some(link) = self.link.take() {
            link.close(Close { will: false, keep: None });
        }
        if self.failed {
            return;
        }
        let end = async {
            let rest = self.connection.output().clone();
            if self.stream.write_all(&rest).await.is_err() || self.stream.shutdown().await.is_err() {
                return;
            }
            // Closing with unread input would reset the stream and take the last frame away from the peer.
            let mut left = LINGER_BYTES;
            while left > 0 {
                self.input.clear();
                self.input.reserve(CHUNK_MIN);
                match self.stream.read_buf(&mut self.input).await {
                    Ok(read @ 1..) => left = left.saturating_sub(read),
                    Ok(0) | Err(_) => return,
                }
            }
        };
        timeout(LINGER, end).await.unwrap_or(());
    }
}

/// The outcome of the first receipt, if it is there.
fn poll_first(receipts: &mut VecDeque<Receipt>, cx: &mut Context<'_>) -> Option<Outcome> {
    let Poll::Ready(outcome) = Pin::new(receipts.front_mut()?).poll(cx) else { return None };
    receipts.pop_front();
    Some(outcome)
}

fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now().into_std(), ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) }
}

/// The smallest read: holds a heartbeat and most single publishes.
const CHUNK_MIN: usize = 2 << 10;
/// The largest read.
const CHUNK_MAX: usize = 64 << 10;
/// How long after a read memory is given back.
const IDLE: Duration = Duration::from_secs(2);
/// How long the last bytes may take.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what a peer still sends is read after the end.
const LINGER_BYTES: usize = 1 << 20;
