//! Sends what is in an [`Outbox`]: each lane one request at a time, all lanes side by side.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use remoting::code::response;
use remoting::sys_flag::COMPRESSED;
use remoting::{BatchEntry, Command};
use tokio::time::sleep_until;
use tracing::{debug, warn};

use super::client::{Client, code_error, locked, now_ms};
use crate::deflate::deflate;
use crate::error::{CallError, Unfit};
use crate::kind::choose_near;
use crate::outbox::{Item, LANES, Lane, Outbox};
use crate::route::{Queue, Route};
use crate::trace::Sent;
use crate::{Kind, Unconfirmed, request};

/// Sends messages and gives their tickets back.
pub(super) struct Sender<T> {
    client: Arc<Client>,
    /// For how long it offers again what is refused for a cause that may pass; `None`: until it is late.
    patience: Option<Duration>,
    outbox: Outbox<T>,
    flights: FuturesUnordered<Flight>,
    /// Topics of which no queue takes more: circuit break.
    full: BTreeSet<Arc<str>>,
    /// Topics in trouble, and when a send to them failed last.
    ailing: BTreeMap<Arc<str>, Instant>,
}

/// Which lanes of a topic; nothing in the one waits for the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lanes {
    /// What goes in order.
    InOrder,
    /// What goes ahead of that.
    Ahead,
}

/// What became of one message.
pub(super) type Done<T> = (T, Result<(), Failure>);

/// Why a message was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// RocketMQ can never take it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// RocketMQ refused it for too long.
    #[error("{0}")]
    Refused(String),
    /// It waited too long, because consumers are too far behind.
    #[error("consumers are too far behind, and no queue takes more (circuit break)")]
    Full,
    /// It waited too long.
    #[error("RocketMQ did not take it in time")]
    Late,
}

type Flight = Pin<Box<dyn Future<Output = (Lane, Verdict)> + Send>>;

/// What one request came to.
enum Verdict {
    Sent(usize),
    Again(CallError),
    /// The consumers of the queue are too far behind; and whether those of all others are, too.
    Full(bool),
    Illegal(String),
}

/// Before a topic is tried again of which no queue takes more. Brokers measure every 30 s.
const FULL_PAUSE: Duration = Duration::from_secs(2);
/// How long a topic stays in trouble to which nothing is sent any more: whoever looks at `/ready` before he sends would
/// never find out that it is well again.
const FADES: Duration = Duration::from_secs(5);
/// Messages that wait at most, beside the limit in bytes.
const COUNT_MAX: usize = 8192;

impl<T> Sender<T> {
    pub(super) fn new(client: Arc<Client>, patience: Option<Duration>) -> Self {
        let alone_above = client.options.compress_above.map_or(usize::MAX, |limit| limit.as_usize());
        let outbox = Outbox::new(client.options.batch_max.as_usize(), alone_above);
        Self {
            client,
            patience,
            outbox,
            flights: FuturesUnordered::new(),
            full: BTreeSet::new(),
            ailing: BTreeMap::new(),
        }
    }

    /// How many more bytes and messages it takes; 0 of either: none now.
    pub(super) fn room(&self) -> (usize, usize) {
        let bytes = self.client.options.waiting_max.as_usize().saturating_sub(self.outbox.bytes());
        (bytes, COUNT_MAX.saturating_sub(self.outbox.count()))
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.outbox.count() == 0
    }

    /// Puts a message in line for the RocketMQ topic `topic`, behind those with the same key in these lanes.
    pub(super) fn push(&mut self, topic: &Arc<str>, (lanes, key): (Lanes, &str), item: Item<T>) {
        let mut hash = DefaultHasher::new();
        key.hash(&mut hash);
        let first = match lanes {
            Lanes::InOrder => 0,
            Lanes::Ahead => LANES,
        };
        let lane = Lane { topic: Arc::clone(topic), number: first + hash.finish() % LANES };
        self.outbox.push(lane, item);
    }

    /// Sends until messages are done, and tells which. Waits for ever when nothing is in line. Cancel-safe: what it
    /// does is kept in `self`.
    pub(super) async fn progress(&mut self) -> Vec<Done<T>> {
        loop {
            let now = tokio::time::Instant::now().into_std();
            let late = self.outbox.take_late(now);
            if !late.is_empty() {
                let why = || if self.full.is_empty() { Failure::Late } else { Failure::Full };
                return late.into_iter().map(|ticket| (ticket, Err(why()))).collect();
            }
            while let Some((lane, messages)) = self.outbox.next_request(now) {
                self.flights.push(Box::pin(send(Arc::clone(&self.client), lane, messages)));
            }
            self.client.counters.waiting.set(self.outbox.bytes() as f64);
            self.forget_trouble(now);
            let fades = self.ailing.values().min().map(|at| *at + FADES);
            let timeout = self.outbox.next_timeout().filter(|at| *at > now).into_iter().chain(fades).min();
            tokio::select! {
                biased;
                Some((lane, verdict)) = self.flights.next() => {
                    let done = self.handle(&lane, verdict);
                    if !done.is_empty() {
                        return done;
                    }
                }
                () = self.client.recovered.notified() => self.outbox.end_pauses(),
                () = wait_until(timeout) => {}
            }
        }
    }

    fn ails(&mut self, topic: &Arc<str>, error: &CallError) {
        self.client.condition.trouble(topic, error.to_string());
        self.ailing.insert(Arc::clone(topic), tokio::time::Instant::now().into_std());
    }

    fn is_well(&mut self, topic: &Arc<str>) {
        self.client.condition.no_trouble(topic);
        self.ailing.remove(topic);
    }

    fn forget_trouble(&mut self, now: Instant) {
        let old = |at: &Instant| *at + FADES <= now;
        let topics: Vec<Arc<str>> =
            self.ailing.iter().filter(|(_, at)| old(at)).map(|(topic, _)| Arc::clone(topic)).collect();
        for topic in topics {
            self.is_well(&topic);
        }
    }

    fn handle(&mut self, lane: &Lane, verdict: Verdict) -> Vec<Done<T>> {
        match verdict {
            Verdict::Sent(count) => {
                self.client.counters.sent.increment(count as u64);
                self.client.counters.requests.increment(1);
                self.is_well(&lane.topic);
                self.full.remove(&lane.topic);
                self.outbox.sent(lane).into_iter().map(|ticket| (ticket, Ok(()))).collect()
            }
            Verdict::Again(error) => {
                debug!(topic = &*lane.topic, %error, "send failed");
                self.client.counters.retries.increment(1);
                if is_trouble(&error) {
                    self.ails(&lane.topic, &error);
                }
                self.client.doubt_route(&lane.topic);
                let now = tokio::time::Instant::now().into_std();
                match self.patience.filter(|_| is_refusal(&error)) {
                    Some(patience) => {
                        let (bytes, count) = self.room();
                        let given_up = self.outbox.put_off(lane, now, patience, bytes == 0 || count == 0);
                        if !given_up.is_empty() {
                            // What was given up is accounted for: the topic is in no trouble until it is used again.
                            self.is_well(&lane.topic);
                        }
                        let failed = |ticket| (ticket, Err(Failure::Refused(error.to_string())));
                        given_up.into_iter().map(failed).collect()
                    }
                    None => {
                        self.outbox.failed(lane, now, Duration::ZERO);
                        Vec::new()
                    }
                }
            }
            Verdict::Full(all) => {
                self.client.counters.circuit_breaks.increment(1);
                self.client.counters.retries.increment(1);
                if all {
                    let error = CallError::Full(lane.topic.to_string());
                    self.ails(&lane.topic, &error);
                    self.full.insert(Arc::clone(&lane.topic));
                }
                let least = if all { FULL_PAUSE } else { Duration::ZERO };
                self.outbox.failed(lane, tokio::time::Instant::now().into_std(), least);
                Vec::new()
            }
            Verdict::Illegal(reason) => {
                let refused = self.outbox.refused(lane);
                if refused.is_some() {
                    warn!(topic = &*lane.topic, reason, "RocketMQ refuses an event for good");
                }
                refused
                    .into_iter()
                    .map(|ticket| (ticket, Err(Unfit::Illegal(reason.clone()).into())))
                    .collect()
            }
        }
    }
}

/// One request.
async fn send(client: Arc<Client>, lane: Lane, messages: Vec<BatchEntry>) -> (Lane, Verdict) {
    let verdict = match try_send(&client, &lane, &messages).await {
        Ok(verdict) => verdict,
        Err(error) => Verdict::Again(error),
    };
    (lane, verdict)
}

async fn try_send(client: &Client, lane: &Lane, messages: &[BatchEntry]) -> Result<Verdict, CallError> {
    let route = client.route(&lane.topic).await?;
    let begun = tokio::time::Instant::now();
    let choice = choose(client, &route, lane.number, begun.into_std());
    let (queue, all_full) = choice.ok_or_else(|| CallError::NoQueue(lane.topic.to_string()))?;
    let small = compressed(client, messages).await;
    let payload = match &small {
        Some(small) => (COMPRESSED, std::slice::from_ref(small)),
        None => (0, messages),
    };
    let command = request::send(&client.identity.producer, &lane.topic, &queue, now_ms(), payload);
    let answer = client.ask(&queue.addr, command, client.limit()).await;
    let now = tokio::time::Instant::now();
    if client.kind == Kind::Defibus
        && let Ok(answer) = &answer
    {
        let mut isolation = locked(&client.isolation);
        if answer.code == defibus::code::response::CIRCUIT_BREAK {
            isolation.isolate(&queue.broker, queue.id, now.into_std());
            return Ok(Verdict::Full(all_full));
        }
        if answer.code == response::SUCCESS {
            isolation.release(&queue.broker, queue.id);
        }
    }
    if let Some((tracer, answer)) = client.tracer.as_ref().zip(answer.as_ref().ok())
        && answer.code == response::SUCCESS
    {
        let cost_ms = u64::try_from((now - begun).as_millis()).unwrap_or(u64::MAX);
        let at_ms = now_ms().saturating_sub(cost_ms);
        let mut ids = answer.field("msgId").unwrap_or_default().split(',');
        for message in messages {
            let (group, offset_id) = (&client.identity.producer, ids.next().unwrap_or_default());
            let sent = Sent { group, topic: &lane.topic, host: &queue.addr, at_ms, cost_ms, offset_id };
            tracer.tell(sent.of(message));
        }
    }
    match verdict(client, &queue, messages.len(), answer) {
        Ok(verdict) => {
            client.avoided().answered(&queue.broker, now - begun, now.into_std());
            Ok(verdict)
        }
        Err(error) => {
            client.avoided().failed(&queue.broker, now.into_std());
            Err(error)
        }
    }
}

/// The queue for a lane: one of a broker that is not avoided, if there is one. At DeFiBus one of our own data centre comes
/// first, and one that took messages lately; and whether none did.
fn choose(client: &Client, route: &Route, lane: u64, now: Instant) -> Option<(Queue, bool)> {
    match client.kind {
        Kind::RocketMq => Some((client.avoided().choose(&route.writable, lane, now)?.clone(), false)),
        Kind::Defibus => {
            let (isolation, avoided) = (locked(&client.isolation), client.avoided());
            let shunned = |queue: &Queue| {
                isolation.is_isolated(&queue.broker, queue.id, now) || avoided.avoids(&queue.broker, now)
            };
            let queue = choose_near(route, lane, client.options.idc.as_deref(), shunned)?;
            let full = isolation.is_isolated(&queue.broker, queue.id, now);
            Some((queue.clone(), full))
        }
    }
}

fn verdict(
    client: &Client,
    queue: &Queue,
    count: usize,
    answer: Result<Command, CallError>,
) -> Result<Verdict, CallError> {
    let answer = answer?;
    match answer.code {
        response::SUCCESS => Ok(Verdict::Sent(count)),
        response::FLUSH_DISK_TIMEOUT | response::SLAVE_NOT_AVAILABLE | response::FLUSH_SLAVE_TIMEOUT
            if client.options.unconfirmed == Unconfirmed::Accept =>
        {
            Ok(Verdict::Sent(count))
        }
        response::MESSAGE_ILLEGAL => Ok(Verdict::Illegal(code_error(&queue.addr, &answer).to_string())),
        _ => Err(code_error(&queue.addr, &answer)),
    }
}

/// A single message above the limit, compressed, if that makes it shorter.
async fn compressed(client: &Client, messages: &[BatchEntry]) -> Option<BatchEntry> {
    let limit = client.options.compress_above?.as_usize();
    let [BatchEntry { body, properties }] = messages else { return None };
    if body.len() <= limit {
        return None;
    }
    let plain = body.clone();
    let small = tokio::task::spawn_blocking(move || deflate(&plain)).await.ok()??;
    Some(BatchEntry { body: small, properties: properties.clone() })
}

/// Whether somebody has to do something about it. A busy broker comes round by itself; one that does not answer is seen
/// by its heartbeats.
fn is_trouble(error: &CallError) -> bool {
    match error {
        CallError::Code { code, .. } => ![response::SYSTEM_BUSY, response::FLOW_CONTROL].contains(code),
        CallError::NoTopic(_) | CallError::NoQueue(_) | CallError::Full(_) | CallError::Encode(_) => true,
        CallError::Connect { .. }
        | CallError::Lost { .. }
        | CallError::TimedOut { .. }
        | CallError::Locked(_)
        | CallError::BadAnswer { .. } => false,
    }
}

/// Whether brokers are there and say no, to whatever is sent to that topic.
fn is_refusal(error: &CallError) -> bool {
    match error {
        CallError::Code { code, .. } => [response::NO_PERMISSION, response::TOPIC_NOT_EXIST].contains(code),
        CallError::NoTopic(_) | CallError::NoQueue(_) => true,
        CallError::Encode(_)
        | CallError::Full(_)
        | CallError::Connect { .. }
        | CallError::Lost { .. }
        | CallError::TimedOut { .. }
        | CallError::Locked(_)
        | CallError::BadAnswer { .. } => false,
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
