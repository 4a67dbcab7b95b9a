//! Drives one [`Connection`] over one stream: the only file of the server side that awaits.
//!
//! One task, one loop, no lock. Each turn does first what is ready at home, then writes, then reads:
//! receipts, deliveries, what is held for the hub, actions, write, timer, read. The loop rests when a whole turn
//! found nothing; by then each of these has the waker.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use event::access::{Asking, Credentials, Exchange, Gate, Step};
use event::hub::{Admission, Attached, Closed, Delivery, Granted, Hub, Link, Receipt};
use event::{Allowance, ClientId, Pending, Principal, Reject, Source};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::codec::{decode, scan};
use crate::connection::{Action, Bound, Connection, Now};
use crate::output::Output;
use crate::{Options, Violation, meters};

mod lanes;

use lanes::Lanes;
pub use lanes::{Accept, DataStream};

/// Serves one client over `stream` until it is gone, or `drain` turns true and what was taken is answered.
/// Not cancel-safe: dropped, the client is lost, and its will is published.
pub fn serve<S>(
    stream: S,
    source: Source,
    gate: Arc<dyn Gate>,
    hub: Arc<dyn Hub>,
    options: Arc<Options>,
    drain: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    serve_many(stream, None, source, gate, hub, options, drain)
}

/// As [`serve`], for a client that may open data streams beside its control stream `stream`.
pub fn serve_many<S>(
    stream: S,
    data: Option<Accept>,
    source: Source,
    gate: Arc<dyn Gate>,
    hub: Arc<dyn Hub>,
    options: Arc<Options>,
    mut drain: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // Made before the future, so that the future holds what it was made of only once: idle connections are many.
    let mut driver = Driver::new(stream, source, gate, hub, options);
    driver.lanes = data.map(Lanes::new);
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
    gate: Arc<dyn Gate>,
    hub: Arc<dyn Hub>,
    link: Option<Box<dyn Link>>,
    connection: Connection,
    packet_max: u32,
    /// Where the carrier has further streams.
    lanes: Option<Box<Lanes>>,

    /// What was read and is not a complete packet yet.
    input: BytesMut,
    /// Complete packets.
    burst: Bytes,
    /// What is wrong behind them.
    bad: Option<Violation>,
    /// How much to read at once: grows while reads fill it.
    chunk: usize,
    /// When memory that a busy time left is given back.
    shrink_at: Option<Instant>,

    held: Held,
    proving: Option<Box<Proving>>,
    /// How much the client may send.
    allowance: Allowance,
    /// The client sent more than it may: until then it is not read.
    paused_until: Option<Instant>,
    /// How much is read of a client whose session another connection has.
    last_bytes: usize,
    publishes: VecDeque<Receipt>,
    releases: VecDeque<Receipt>,
    received: VecDeque<Receipt>,
    deliveries: Vec<Delivery>,

    /// When the timer fires.
    armed: Option<Instant>,
    /// Written, and not flushed yet.
    dirty: bool,
    failed: bool,
    bytes_in: usize,
    bytes_out: usize,
}

/// What the connection waits for before it takes the next packet.
enum Held {
    Nothing,
    Admit(Pending<Principal>),
    Attach(Pending<Attached>),
    Room(Pin<Box<dyn Future<Output = Receipt> + Send>>),
    Subscribe(Pending<Vec<Result<Granted, Reject>>>),
    Unsubscribe(Pending<Vec<bool>>),
}

/// Enhanced authentication on its way. The client may go on meanwhile if it is connected.
struct Proving {
    exchange: Box<dyn Exchange>,
    /// The gate's answer; `None`: it is the client's turn.
    step: Option<Pending<Step>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    fn new(stream: S, source: Source, gate: Arc<dyn Gate>, hub: Arc<dyn Hub>, options: Arc<Options>) -> Self {
        let packet_max = options.max_packet();
        let connection = Connection::new(options, hub.stamps(), Instant::now().into_std());
        Self {
            stream,
            source,
            gate,
            hub,
            link: None,
            connection,
            packet_max,
            lanes: None,
            input: BytesMut::new(),
            burst: Bytes::new(),
            bad: None,
            chunk: CHUNK_MIN,
            shrink_at: None,
            held: Held::Nothing,
            proving: None,
            allowance: Allowance::unlimited(),
            paused_until: None,
            last_bytes: LINGER_BYTES,
            publishes: VecDeque::new(),
            releases: VecDeque::new(),
            received: VecDeque::new(),
            deliveries: Vec::new(),
            armed: None,
            dirty: false,
            failed: false,
            bytes_in: 0,
            bytes_out: 0,
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
        if self.paused_until.is_some() || !self.connection.wants_packets() {
            // What is not read cannot have come.
            self.connection.handle_input(now.instant);
        }
        loop {
            let mut moved = self.poll_receipts(cx, now);
            moved |= self.poll_deliveries(cx, now);
            moved |= self.poll_held(cx, now);
            moved |= self.poll_proof(cx, now);
            moved |= self.perform_actions();
            if self.connection.is_over() {
                self.count();
                return Poll::Ready(());
            }
            moved |= self.poll_write(cx, now);
            moved |= self.poll_timer(cx, timer.as_mut(), now);
            moved |= self.poll_read(cx, now);
            moved |= self.poll_lanes(cx, now);
            if !moved {
                self.count();
                return Poll::Pending;
            }
        }
    }

    fn count(&mut self) {
        let (bytes_in, bytes_out) = (std::mem::take(&mut self.bytes_in), std::mem::take(&mut self.bytes_out));
        meters::add(self.connection.take_tally(), bytes_in, bytes_out);
    }

    fn poll_receipts(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let mut moved = false;
        while let Some(outcome) = poll_first(&mut self.publishes, cx) {
            self.connection.handle_published(&outcome, now);
            moved = true;
        }
        while let Some(outcome) = poll_first(&mut self.releases, cx) {
            self.connection.handle_released(&outcome);
            moved = true;
        }
        while let Some(outcome) = poll_first(&mut self.received, cx) {
            self.connection.handle_kept(&outcome);
            moved = true;
        }
        moved
    }

    fn poll_deliveries(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        if self.connection.is_superseded() {
            return false;
        }
        let (Some(link), Some(room)) = (&mut self.link, self.connection.room()) else { return false };
        match link.poll_deliveries(cx, room, &mut self.deliveries) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.connection.handle_deliveries(&mut self.deliveries, now);
                true
            }
            Poll::Ready(Err(Closed::TakenOver)) => {
                self.connection.handle_superseded();
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
                self.connection.handle_admission(answer, now);
            }
            Held::Attach(attach) => {
                let Poll::Ready(answer) = attach.as_mut().poll(cx) else { return false };
                let answer = answer.map(|attached| {
                    let Attached { link, present, received_ids, unreleased } = attached;
                    self.link = Some(link);
                    Bound { present, received_ids, unreleased }
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
            Held::Room(admission) => {
                let Poll::Ready(receipt) = admission.as_mut().poll(cx) else { return false };
                self.publishes.push_back(receipt);
                self.connection.handle_admitted();
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

    fn poll_proof(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let Some(proving) = &mut self.proving else { return false };
        let Some(step) = &mut proving.step else { return false };
        let Poll::Ready(answer) = step.as_mut().poll(cx) else { return false };
        proving.step = None;
        if let Ok(Step::Done(who, _)) = &answer {
            self.allowance = who.allowance.clone();
        }
        if !matches!(answer, Ok(Step::More(_))) {
            self.proving = None;
        }
        self.connection.handle_step(answer, now);
        true
    }

    /// Starts a proof of several steps.
    fn prove(&mut self, client: ClientId, credentials: Credentials, method: &str, data: Bytes) {
        let asking = Asking { client, source: self.source.clone(), credentials };
        match self.gate.exchange(asking, method) {
            None => self.connection.handle_unknown_method(),
            Some(mut exchange) => {
                let step = Some(exchange.step(data));
                self.proving = Some(Box::new(Proving { exchange, step }));
            }
        }
    }

    fn perform_actions(&mut self) -> bool {
        let mut moved = false;
        while let Some(action) = self.connection.poll_action() {
            moved = true;
            match action {
                Action::Admit(client, credentials) => {
                    let asking = Asking { client, source: self.source.clone(), credentials };
                    self.held = Held::Admit(self.gate.admit(asking));
                }
                Action::Authenticate { client, credentials, method, data } => {
                    self.prove(client, credentials, &method, data);
                }
                Action::Step(data) => {
                    if let Some(proving) = &mut self.proving {
                        proving.step = Some(proving.exchange.step(data));
                    }
                }
                Action::Attach(who, attach) => self.held = Held::Attach(self.hub.attach(who, *attach)),
                Action::Close(close) => {
                    if let Some(link) = self.link.take() {
                        link.close(close);
                    }
                    break;
                }
                Action::Renew(_)
                | Action::Publish(_)
                | Action::Ack(_)
                | Action::Rewind
                | Action::Received(_)
                | Action::Release(_)
                | Action::Subscribe(_)
                | Action::Unsubscribe(_) => self.perform_in_session(action),
            }
        }
        moved
    }

    fn perform_in_session(&mut self, action: Action) {
        let Some(link) = &mut self.link else { return };
        match action {
            Action::Renew(who) => link.renew(who),
            Action::Publish(batch) => match link.publish(batch) {
                Admission::Admitted(receipt) => {
                    self.publishes.push_back(receipt);
                    self.connection.handle_admitted();
                }
                Admission::Waiting(room) => self.held = Held::Room(room),
            },
            Action::Ack(numbers) => link.ack(&numbers),
            Action::Rewind => link.rewind(),
            Action::Received(numbers) => self.received.push_back(link.received(&numbers)),
            Action::Release(ids) => self.releases.push_back(link.release(&ids)),
            Action::Subscribe(wanted) => self.held = Held::Subscribe(link.subscribe(wanted)),
            Action::Unsubscribe(filters) => self.held = Held::Unsubscribe(link.unsubscribe(filters)),
            Action::Admit(..)
            | Action::Authenticate { .. }
            | Action::Step(_)
            | Action::Attach(..)
            | Action::Close(_) => {}
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        if self.failed {
            return false;
        }
        let mut moved = false;
        while !self.connection.output().is_empty() {
            match poll_write_some(&mut self.stream, self.connection.output(), cx) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.connection.handle_written(written, now.instant);
                    self.bytes_out = self.bytes_out.saturating_add(written);
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
        if self.dirty {
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
        let next = [next, self.shrink_at, self.paused_until].into_iter().flatten().min();
        let Some(next) = next else { return false };
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
        if self.burst.is_empty() {
            self.burst = Bytes::new();
        }
        self.deliveries.shrink_to_fit();
        for queue in [&mut self.publishes, &mut self.releases, &mut self.received] {
            queue.shrink_to_fit();
        }
        self.connection.shrink();
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        if self.feed(now) {
            return true;
        }
        let paused = self.paused_until.is_some();
        let superseded = self.connection.is_superseded() && !matches!(self.held, Held::Room(_));
        if self.failed || paused || !self.burst.is_empty() || !self.connection.wants_packets() {
            return superseded && self.close_superseded();
        }
        let (room, read) = poll_input(&mut self.stream, &mut self.input, self.chunk, cx);
        match read {
            Poll::Pending => superseded && self.close_superseded(),
            Poll::Ready(Ok(read @ 1..)) if superseded && read > self.last_bytes => self.close_superseded(),
            Poll::Ready(Ok(read @ 1..)) => {
                self.bytes_in = self.bytes_in.saturating_add(read);
                self.last_bytes -= if superseded { read } else { 0 };
                self.connection.handle_input(now.instant);
                if read == room {
                    self.chunk = (self.chunk * 4).min(CHUNK_MAX);
                }
                self.shrink_at.get_or_insert(Instant::from_std(now.instant) + IDLE);
                self.split(read, now);
                true
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                self.fail();
                true
            }
        }
    }

    /// Ends the connection if it is open, once what had come before another one took its session is in the hub's hands.
    fn close_superseded(&mut self) -> bool {
        let open = self.connection.is_open();
        self.connection.handle_closed(Closed::TakenOver);
        open
    }

    /// Takes the complete packets off the input, of which `read` bytes came now, and gives them to the connection.
    fn split(&mut self, read: usize, now: Now) {
        let found = scan(&self.input, self.packet_max, self.connection.version().is_some());
        self.burst = self.input.split_to(found.complete).freeze();
        self.bad = found.violation;
        self.charge(found.packets, read, now);
        self.feed(now);
        if found.next > self.input.capacity() {
            // Memory follows what really came, so a length alone takes none.
            let missing = found.next.saturating_sub(self.input.len());
            self.input.reserve(missing.min(self.input.len().max(CHUNK_MAX)));
        }
    }

    /// Charges what one read brought.
    fn charge(&mut self, packets: u32, read: usize, now: Now) {
        if self.allowance.is_limited() {
            let bytes = u64::try_from(read).unwrap_or(u64::MAX);
            let wait = self.allowance.charge(u64::from(packets), bytes, now.instant);
            self.paused_until = (!wait.is_zero()).then(|| Instant::from_std(now.instant + wait));
        }
    }

    /// Gives packets to the connection while it wants them.
    fn feed(&mut self, now: Now) -> bool {
        let mut moved = false;
        while !self.burst.is_empty() && self.connection.wants_packets() {
            moved = true;
            let handled = match decode(&mut self.burst, self.connection.version()) {
                Ok(Some(packet)) => self.connection.handle_packet(packet, now),
                Ok(None) => break,
                Err(violation) => Err(violation),
            };
            if let Err(violation) = handled {
                self.connection.handle_violation(violation, &self.burst);
            }
        }
        if self.burst.is_empty()
            && self.connection.wants_packets()
            && let Some(violation) = self.bad.take()
        {
            self.connection.handle_violation(violation, &self.input);
            moved = true;
        }
        moved
    }

    /// Writes what is left, and closes. Bounded in time; not cancel-safe.
    async fn finish(&mut self) {
        // Receipts and futures of the hub are of no use any more; the hub goes on without them.
        self.publishes.clear();
        self.held = Held::Nothing;
        if self.failed {
            return;
        }
        let end = async {
            while !self.connection.output().is_empty() {
                let write = poll_fn(|cx| poll_write_some(&mut self.stream, self.connection.output(), cx));
                match write.await {
                    Ok(written @ 1..) => self.connection.handle_written(written, Instant::now().into_std()),
                    Ok(0) | Err(_) => return,
                }
            }
            if self.lanes.is_some() {
                Box::pin(self.finish_lanes()).await;
            }
            if self.stream.shutdown().await.is_err() {
                return;
            }
            // Closing with unread input would reset the stream and take the last packet away from the peer.
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
fn poll_first(receipts: &mut VecDeque<Receipt>, cx: &mut Context<'_>) -> Option<event::hub::Outcome> {
    let Poll::Ready(outcome) = Pin::new(receipts.front_mut()?).poll(cx) else { return None };
    receipts.pop_front();
    Some(outcome)
}

/// Reads into `input`, some `chunk` bytes; gives the room that there was. Who waits after a rest has no buffer: what comes
/// first comes by way of the stack.
fn poll_input(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    chunk: usize,
    cx: &mut Context<'_>,
) -> (usize, Poll<std::io::Result<usize>>) {
    if input.capacity() == 0 {
        let mut first = [MaybeUninit::uninit(); CHUNK_MIN];
        let mut first = ReadBuf::uninit(&mut first);
        let read = Pin::new(stream).poll_read(cx, &mut first);
        input.extend_from_slice(first.filled());
        return (CHUNK_MIN, read.map_ok(|()| first.filled().len()));
    }
    let spare = input.capacity() - input.len();
    if spare < chunk / 4 || spare < CHUNK_MIN / 4 {
        input.reserve(chunk);
    }
    let room = input.capacity() - input.len();
    (room, pin!(stream.read_buf(input)).poll(cx))
}

fn poll_write_some(
    stream: &mut (impl AsyncWrite + Unpin),
    output: &Output,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    if let Some(whole) = output.whole() {
        return Pin::new(stream).poll_write(cx, whole);
    }
    let mut slices = [IoSlice::new(&[]); Output::SLICES];
    let count = output.slices(&mut slices);
    Pin::new(stream).poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
}

fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now().into_std(), ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) }
}

/// The smallest read: holds a CONNECT and most single publishes, and is what an idle connection keeps.
const CHUNK_MIN: usize = 512;
/// The largest read.
const CHUNK_MAX: usize = 64 << 10;
/// How long after a read memory is given back.
const IDLE: Duration = Duration::from_secs(2);
/// How long the last bytes may take.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what a peer still sends is read after the end.
const LINGER_BYTES: usize = 1 << 20;
