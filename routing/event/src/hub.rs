//! The in-port: what a protocol, or a bridge, may ask of the core.
//!
//! No method waits: each returns at once with a value, a future that owns what it needs, or `Poll`. So the traits are
//! object-safe, cheap to fake, and all of it is cancel-safe: dropping a future gives up the answer, not the work.
//! The unit of work is the batch: what one read of a socket brought goes down in one call, and one [`Receipt`] answers it.
//!
//! A session's deliveries come in two lanes. Events with guarantee [`Guarantee::AtMostOnce`] have no number, and are
//! dropped and counted when a reader is too slow. All others are numbered 0, 1, 2, … in the order in which the log
//! holds them, and are kept until [`Link::ack`]. Numbers are the same after a crash, so a protocol that derives its
//! packet id from the number repeats a delivery under the id it had before.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::store::Position;
use crate::{Audit, Event, Guarantee, Pending, Principal, Reject, RejectKind, Select, Start, TopicFilter};

/// What a protocol may ask of the core. Implemented by `routing::Core` and `testing::FakeHub`.
pub trait Hub: Send + Sync {
    /// Binds `who.client` to its session and takes it from an older connection, which sees [`Closed::TakenOver`].
    /// Resolves when the session is as durable as it has to be.
    fn attach(&self, who: Principal, request: Attach) -> Pending<Attached>;

    /// Publishes for someone without a session (HTTP, a connector's consumer).
    fn publish(&self, who: &Principal, batch: Vec<Publish>) -> Admission;

    /// Where unique stamps of events come from.
    fn stamps(&self) -> Stamps;

    /// The shared subscriptions that have a member with a connection here and may get events of the remote store `store`, by
    /// their whole filters; kept up to date. A store that feeds them publishes as [`Origin::Node`](crate::Origin::Node).
    fn groups(&self, store: &str) -> watch::Receiver<BTreeSet<TopicFilter>>;

    /// Events that a remote store brings for one shared subscription, in order. What that does not want is passed over. The
    /// receipt resolves when members acknowledged all others; those that the group gave up (its members are away) are refused
    /// as [`RejectKind::Unavailable`]. Whoever drops it takes back what no member has yet. After a crash nobody here has them:
    /// the store has to bring them again.
    fn feed(&self, group: &TopicFilter, batch: Vec<Publish>) -> Admission;

    /// Where to tell what those who watch over Weft should know; it tells nobody if there is nobody to tell.
    fn audit(&self) -> Audit {
        Audit::default()
    }
}

/// A connection's hold on its session. Dropped without [`Link::close`], the connection is lost: its will is published.
pub trait Link: Send {
    /// Publishes what one read brought, in order.
    fn publish(&mut self, batch: Vec<Publish>) -> Admission;

    /// Subscribes; granted when it is as durable as the session. Retained events, or those of a replay, follow as deliveries.
    /// A subscription with the same filter is replaced (MQTT 5 §3.8.4).
    fn subscribe(&mut self, wanted: Vec<Subscribe>) -> Pending<Vec<Result<Granted, Reject>>>;

    /// Ends subscriptions; tells for each whether it was there.
    fn unsubscribe(&mut self, filters: Vec<TopicFilter>) -> Pending<Vec<bool>>;

    /// Takes what is ready, at most `room`, and appends it to `out`. Ready when at least one delivery was taken, or when
    /// the session was taken from this connection. Call only with room left; what was taken once is not offered again
    /// to this connection.
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<(), Closed>>;

    /// These numbered deliveries are done: PUBACK, PUBCOMP, or the protocol's like. Unknown numbers are ignored.
    fn ack(&mut self, numbers: &[u64]);

    /// As [`Self::ack`], of deliveries that the subscriber could not take and of which a dead letter is kept: they are counted
    /// as such.
    fn dead_lettered(&mut self, numbers: &[u64]) {
        self.ack(numbers);
    }

    /// A part of what this connection sent is lost: offers numbered deliveries that are neither acked nor received once more,
    /// from the oldest on.
    fn rewind(&mut self);

    /// The subscriber has these exactly-once deliveries (PUBREC): resolved when that is kept, so that PUBREL may leave
    /// and they are never sent again. Follow with [`Link::ack`] at PUBCOMP.
    fn received(&mut self, numbers: &[u64]) -> Receipt;

    /// The publisher released these ids of its exactly-once publishes (PUBREL): resolved when that is kept, so that
    /// PUBCOMP may leave and the ids may be used anew.
    fn release(&mut self, ids: &[u16]) -> Receipt;

    /// The client proved anew who it is (MQTT 5 §4.12.1): it has the rights of `who` from now on. `who` is the same client.
    fn renew(&mut self, who: Principal);

    /// Ends the connection in an orderly way.
    fn close(self: Box<Self>, how: Close);
}

/// How a client wants to be bound to its session.
#[derive(Clone, Debug, Default)]
pub struct Attach {
    /// Forget an older session of this client (Clean Start, MQTT 5 §3.1.2.4).
    pub clean: bool,
    /// How long the session stays after the connection ends; zero: it ends with it; [`Duration::MAX`]: for ever.
    pub keep: Duration,
    /// What is published when the connection is lost.
    pub will: Option<Will>,
    /// What the connection speaks, with its version, for people who look at sessions.
    pub protocol: &'static str,
    /// Which guarantee events of the lane without numbers have to meet to be kept for this session while it is slow or
    /// away: a bridge sets this to have QoS 0 events put into the log for it, and gets them as numbered deliveries.
    pub keep_all: bool,
}

/// An event that is published for a client that is lost (MQTT 5 §3.1.2.5).
#[derive(Clone, Debug)]
pub struct Will {
    /// The event, and how it is published.
    pub publish: Publish,
    /// How long to wait for the client to come back.
    pub delay: Duration,
}

/// A session, bound.
pub struct Attached {
    /// The hold on it.
    pub link: Box<dyn Link>,
    /// Whether an older session was taken up.
    pub present: bool,
    /// Ids of exactly-once publishes that are kept and not yet released: a repeat of one is answered, not published.
    pub received_ids: Vec<u16>,
    /// Numbers whose [`Link::received`] is kept but not their ack: send PUBREL again, in this order.
    pub unreleased: Vec<u64>,
}

/// One publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The event.
    pub event: Event,
    /// How surely it has to arrive.
    pub guarantee: Guarantee,
    /// Keep it as the last event of its topic; without data: forget that one (MQTT 5 §3.3.1.3).
    pub retain: bool,
    /// The publisher's id of an exactly-once publish, kept with the event in one record.
    pub id: Option<u16>,
}

/// The answer to a batch: admitted, or waiting for room. While it waits, stop reading from the peer.
pub enum Admission {
    /// Room was there.
    Admitted(Receipt),
    /// Resolves to the receipt when there is room. Dropping it takes the batch back unpublished.
    Waiting(Pin<Box<dyn Future<Output = Receipt> + Send>>),
}

impl Admission {
    /// The receipt, when there is room. Cancel-safe: dropped before that, the batch is taken back unpublished.
    pub async fn receipt(self) -> Receipt {
        match self {
            Self::Admitted(receipt) => receipt,
            Self::Waiting(admitted) => admitted.await,
        }
    }

    /// What became of the batch, for a publisher that waits until `over` and no longer.
    ///
    /// # Errors
    /// [`RejectKind::Busy`]: there was no room by then, and nothing is kept. [`RejectKind::Unavailable`]: nobody knows.
    pub async fn outcome_before(self, over: impl Future<Output = ()>) -> Result<Outcome, Reject> {
        let mut over = std::pin::pin!(over);
        let receipt = match self {
            Self::Admitted(receipt) => receipt,
            Self::Waiting(room) => tokio::select! {
                biased;
                receipt = room => receipt,
                () = &mut over => {
                    let reason = "the store had no room in time; nothing was kept";
                    return Err(Reject::new(RejectKind::Busy, reason));
                }
            },
        };
        tokio::select! {
            biased;
            outcome = receipt => Ok(outcome),
            () = &mut over => {
                let reason = "not known to be kept in time; it may be: send it again under the same id";
                Err(Reject::new(RejectKind::Unavailable, reason))
            }
        }
    }
}

/// Proof of append for one batch: resolves when every event is as safe as its route promises, and has been handed to
/// the subscribers that are here.
pub struct Receipt(ReceiptState);

enum ReceiptState {
    Ready(Option<Outcome>),
    Waiting(oneshot::Receiver<Outcome>),
    Joined(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All of it is kept.
    Kept,
    /// These were refused, by their place in the batch; the others are kept.
    Partly(Vec<(usize, Reject)>),
    /// None of it is kept.
    Refused(Reject),
}

impl Outcome {
    /// What became of the event at `place` of the batch.
    pub fn of(&self, place: usize) -> Result<(), &Reject> {
        match self {
            Self::Kept => Ok(()),
            Self::Refused(reject) => Err(reject),
            Self::Partly(list) => match list.iter().find(|(at, _)| *at == place) {
                Some((_, reject)) => Err(reject),
                None => Ok(()),
            },
        }
    }

    /// One result for the whole batch: the first refusal, if there is one.
    pub fn whole(self) -> Result<(), Reject> {
        match self {
            Self::Kept => Ok(()),
            Self::Refused(reject) => Err(reject),
            Self::Partly(list) => list.into_iter().next().map_or(Ok(()), |(_, reject)| Err(reject)),
        }
    }
}

/// Resolves one [`Receipt`]. Dropped unresolved, the receipt says [`Reject::closed`].
#[derive(Debug)]
pub struct ReceiptSender(oneshot::Sender<Outcome>);

impl Receipt {
    /// A receipt and the end that resolves it.
    pub fn pair() -> (ReceiptSender, Self) {
        let (sender, receiver) = oneshot::channel();
        (ReceiptSender(sender), Self(ReceiptState::Waiting(receiver)))
    }

    /// A receipt that is resolved already.
    pub fn ready(outcome: Outcome) -> Self {
        Self(ReceiptState::Ready(Some(outcome)))
    }

    /// What it says, if that is known already.
    pub fn known(&self) -> Option<&Outcome> {
        match &self.0 {
            ReceiptState::Ready(outcome) => outcome.as_ref(),
            ReceiptState::Waiting(_) | ReceiptState::Joined(_) => None,
        }
    }

    /// The same, and `watch` sees what it says: at once, if that is known.
    #[must_use]
    pub fn watched(self, watch: impl FnOnce(&Outcome) + Send + 'static) -> Self {
        if let Some(outcome) = self.known() {
            watch(outcome);
            return self;
        }
        Self::joined(async move {
            let outcome = self.await;
            watch(&outcome);
            outcome
        })
    }

    /// A receipt that resolves with `future`.
    pub fn joined(future: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self(ReceiptState::Joined(Box::pin(future)))
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.0 {
            ReceiptState::Ready(outcome) => {
                Poll::Ready(outcome.take().unwrap_or_else(|| Outcome::Refused(Reject::closed())))
            }
            ReceiptState::Waiting(receiver) => Pin::new(receiver)
                .poll(cx)
                .map(|answer| answer.unwrap_or_else(|_| Outcome::Refused(Reject::closed()))),
            ReceiptState::Joined(future) => future.as_mut().poll(cx),
        }
    }
}

impl ReceiptSender {
    /// Tells the publisher. Nobody listening is fine: the connection may be gone.
    pub fn resolve(self, outcome: Outcome) {
        self.0.send(outcome).unwrap_or(());
    }
}

/// A wish to get the events of a filter.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Which events.
    pub filter: TopicFilter,
    /// How, and which of them.
    pub options: SubscribeOptions,
    /// Events that the log holds come first, from here on, and then, without gap or repeat, those that follow. Retained
    /// events are not sent: they are among them. A shared subscription has no replay.
    pub replay: Option<Start>,
    /// Only those of its events that pass this filter. One that is wrong refuses the subscription as
    /// [`RejectKind::Malformed`], and so is one of a shared subscription whose group has members with another filter.
    pub select: Option<Select>,
}

impl Subscribe {
    /// All of them, from now on.
    pub fn new(filter: TopicFilter, options: SubscribeOptions) -> Self {
        Self { filter, options, replay: None, select: None }
    }
}

/// How a subscription wants its events (MQTT 5 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubscribeOptions {
    /// The strongest guarantee to deliver with.
    pub guarantee: Guarantee,
    /// Leave out what this same client publishes.
    pub no_local: bool,
    /// Pass the publisher's retain flag on instead of clearing it.
    pub retain_as_published: bool,
    /// Which retained events to send at once.
    pub retained: RetainedWanted,
    /// The number the subscriber gave this subscription; 0: none.
    pub id: u32,
}

impl SubscribeOptions {
    /// Plain options with this guarantee: retained events are sent, own ones are not left out.
    pub fn new(guarantee: Guarantee) -> Self {
        Self {
            guarantee,
            no_local: false,
            retain_as_published: false,
            retained: RetainedWanted::Always,
            id: 0,
        }
    }
}

/// Which retained events a subscription gets when it is made (Retain Handling, MQTT 5 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RetainedWanted {
    /// All that match.
    Always,
    /// All that match, if the subscription is new.
    IfNew,
    /// None.
    Never,
}

/// A subscription, granted.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// What it delivers with at most.
    pub guarantee: Guarantee,
    /// Events up to and with this position were before the subscription; it gets those behind it.
    pub as_of: Position,
}

/// How much a reader can take now.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Numbered deliveries: what is left of the receive maximum. 0 is allowed.
    pub numbered: u16,
    /// Bytes of data, about: at least one event is given.
    pub bytes: usize,
}

/// An event in one subscriber's hands.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// How it is delivered: the weaker of publish and subscription. Numbered if not [`Guarantee::AtMostOnce`].
    pub guarantee: Guarantee,
    /// The retain flag to show.
    pub retain: bool,
    /// It may have been sent before, in an older connection of this session.
    pub again: bool,
    /// Its number, if it has to be acked. Numbers of one session rise and leave no gap but for dropped ones; the
    /// span of numbers that are out and not acked is below 65,535.
    pub number: Option<u64>,
    /// Where the log holds it, if it does.
    pub position: Option<Position>,
    /// The numbers of the subscriptions it matched, if they have any.
    pub subscriptions: Option<Arc<[u32]>>,
}

/// Why a connection lost its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A newer connection of the same client has it.
    TakenOver,
    /// An operator ended it.
    Ended,
    /// Its queue is full, and the policy is to say so.
    QueueFull,
    /// Weft is stopping.
    Stopping,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// Publish the will (after its delay) or forget it.
    pub will: bool,
    /// A new [`Attach::keep`], if the client gave one.
    pub keep: Option<Duration>,
}

/// Gives out numbers that no other event of this data folder has: they start at the time of start and count up.
/// A clone takes blocks of its own, so connections do not meet at one counter for each event.
#[derive(Debug)]
pub struct Stamps {
    shared: Arc<AtomicU64>,
    next: u64,
    end: u64,
}

impl Stamps {
    const BLOCK: u64 = 256;

    /// Stamps from `now_ms` (milliseconds since 1970) on: a million for each millisecond, more than anyone publishes.
    pub fn starting_at(now_ms: u64) -> Self {
        Self { shared: Arc::new(AtomicU64::new(now_ms << 20)), next: 0, end: 0 }
    }

    /// A stamp of its own.
    pub fn take(&mut self) -> u64 {
        if self.next == self.end {
            self.next = self.shared.fetch_add(Self::BLOCK, Ordering::Relaxed);
            self.end = self.next + Self::BLOCK;
        }
        self.next += 1;
        self.next - 1
    }
}

impl Clone for Stamps {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), next: 0, end: 0 }
    }
}
