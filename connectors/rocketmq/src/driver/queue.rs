//! One queue: pulled, published, and committed with the next pull when the hub has kept what came.

mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use defibus::Empty;
use remoting::code::response;
use remoting::sys_flag::COMPRESSED;
use remoting::{Command, StoredMessage, decode_messages};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::client::code_error;
use super::consumer::{Consumer, Key, LOOK};
use super::drained;
use crate::error::CallError;
use crate::inflate::inflate;
use crate::lease::Lease;
use crate::pop::Receipt;
use crate::request::{self, Place};
use crate::reset::Reset;
use crate::route::Queue;
use crate::subscription::{RETRY, Subscription};
use crate::{Kind, Start};

/// How long a broker holds a pull when there is nothing; an arrival ends it at once.
const HOLD_MS: i64 = 15_000;
/// Brokers look every 5 s whether a hold is over.
const PULL_LIMIT: Duration = Duration::from_secs(25);
/// After a pull that DeFiBus refused; its lock gives a queue up when its holder is silent for 100 ms.
const LOCKED_PAUSE: Duration = Duration::from_millis(200);
/// An answer without messages that is quicker was not held.
const QUICK: Duration = Duration::from_millis(500);
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How far one queue is consumed.
#[derive(Clone, Debug, Default)]
struct Cursor {
    /// The offset to pull next.
    next: Option<i64>,
    /// Everything before it is kept.
    kept: Option<i64>,
    /// What the broker was told last without a pull.
    committed: Option<i64>,
    /// The broker's id to pull from, as its last answer suggests: 0 is the master.
    from: i64,
    /// When the broker stored the last message that came, milliseconds since 1970; 0: none came yet.
    seen_ms: i64,
}

/// How long the broker is to hold a pull behind so many failures. Not at all if there are any: its answer says that the queue works
/// again.
fn hold_ms(failures: u32) -> i64 {
    if failures == 0 { HOLD_MS } else { 0 }
}

/// What a pull brought.
pub(super) struct Pulled {
    pub(super) messages: Vec<StoredMessage>,
    /// The broker that they can be given back to.
    pub(super) addr: Arc<str>,
    /// Its cluster, if it is known.
    pub(super) cluster: Option<Arc<str>>,
    /// Their receipts by their physical offsets, if they were popped.
    pub(super) receipts: BTreeMap<i64, Receipt>,
}

/// What became of one pull.
pub(super) enum Turn {
    Done,
    Stopped,
}

impl Consumer {
    /// Consumes one queue until `stop` turns true; then commits what is kept.
    pub(super) async fn consume(&self, key: Key, mut stop: watch::Receiver<bool>) -> Key {
        let Some(subscription) = self.client.identity.inward.get(key.0) else { return key };
        let topic = &*subscription.topic;
        let mut cursor = match self.group {
            Some(_) => self.consume_window(&key, subscription, &mut stop).await,
            None => self.consume_in_turn(&key, subscription, &mut stop).await,
        };
        let leave = async {
            self.commit(&key, topic, &mut cursor).await;
            if self.is_ordered(topic) {
                // Also if the lock was only asked for: its answer may be on the way.
                self.unlock(&key, topic).await;
            }
        };
        timeout(LOOK, leave).await.unwrap_or(());
        self.client.condition.no_trouble(&trouble(&key, topic));
        key
    }

    /// Pulls when all that came before is kept, until `stop` turns true. Gives how far it came.
    async fn consume_in_turn(
        &self,
        key: &Key,
        subscription: &Subscription,
        stop: &mut watch::Receiver<bool>,
    ) -> Cursor {
        let topic = &*subscription.topic;
        let (mut cursor, mut lease) = (Cursor::default(), Lease::default());
        let mut failures = 0;
        loop {
            if let Some(set) = self.cursor_set(key, topic) {
                cursor = set;
            }
            let hold_ms = hold_ms(failures);
            let turn = async {
                match self.manner.pop {
                    Some(invisible) => self.pop_turn((invisible, hold_ms), key, subscription, stop).await,
                    None => self.turn(hold_ms, key, subscription, &mut cursor, &mut lease, stop).await,
                }
            };
            match turn.await {
                Ok(Turn::Done) => {
                    failures = 0;
                    self.client.condition.no_trouble(&trouble(key, topic));
                }
                Ok(Turn::Stopped) => return cursor,
                Err(error) => {
                    cursor.from = 0;
                    tokio::select! {
                        () = drained(stop) => {}
                        () = self.pause_after(&error, key, topic, failures) => {}
                    }
                    failures += 1;
                }
            }
        }
    }

    /// Where somebody set the offset of the group, if that is news.
    fn cursor_set(&self, key: &Key, topic: &str) -> Option<Cursor> {
        let reset = Reset {
            group: self.client.identity.group.clone(),
            topic: topic.to_owned(),
            broker: key.1.to_string(),
            queue: key.2,
        };
        let offset = self.client.signals.take_offset(&reset)?;
        info!(topic, queue = key.2, offset, "somebody set the offset of the group");
        Some(Cursor { next: Some(offset), kept: Some(offset), ..Cursor::default() })
    }

    /// Tells of a pull that failed, the last of `failures` and one more, and waits a while.
    async fn pause_after(&self, error: &CallError, key: &Key, topic: &str, failures: u32) {
        debug!(topic, queue = key.2, %error, "pull failed");
        // A broker that has just started may not know us yet.
        if matches!(error, CallError::Code { .. } | CallError::BadAnswer { .. }) && failures >= 3 {
            self.client.condition.trouble(&trouble(key, topic), error.to_string());
        }
        if !matches!(error, CallError::Locked(_)) {
            self.client.doubt_route(topic);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE);
        tokio::select! {
            () = self.client.recovered.notified() => {}
            () = sleep(pause) => {}
        }
    }

    /// One pull, and what it brought kept.
    async fn turn(
        &self,
        hold_ms: i64,
        key: &Key,
        subscription: &Subscription,
        cursor: &mut Cursor,
        lease: &mut Lease,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Turn, CallError> {
        let topic = &*subscription.topic;
        let ordered = self.is_ordered(topic);
        let pull = async {
            self.room().await;
            if ordered {
                self.lock(key, topic, cursor, lease).await?;
            }
            self.pull(hold_ms, key, subscription, cursor).await
        };
        let pulled = tokio::select! {
            biased;
            () = drained(stop) => return Ok(Turn::Stopped),
            () = self.client.signals.reset.notified() => return Ok(Turn::Done),
            pulled = pull => pulled?,
        };
        if !pulled.messages.is_empty() {
            let _held = self.hold(&pulled.messages);
            tokio::select! {
                biased;
                whole = self.publish(pulled, subscription, ordered, stop) => if !whole {
                    return Ok(Turn::Stopped);
                },
                () = self.keep_lock(key, topic, lease), if ordered => {
                    *cursor = Cursor::default();
                    return Err(CallError::Locked(topic.to_owned()));
                }
            }
        }
        cursor.kept = cursor.next;
        Ok(Turn::Done)
    }

    /// One pull: the messages that came, and `cursor` at the offset behind them. Cancel-safe: `cursor` moves with the
    /// result only.
    async fn pull(
        &self,
        hold_ms: i64,
        key: &Key,
        subscription: &Subscription,
        cursor: &mut Cursor,
    ) -> Result<Pulled, CallError> {
        let topic = &*subscription.topic;
        let (queue, replica) = self.queue(key, topic, cursor.from).await?;
        let place = Place { group: &self.client.identity.group, topic, queue: &queue };
        let next = match cursor.next {
            Some(next) => next,
            None => self.start(&place).await?,
        };
        if replica.is_some() {
            // Replicas keep no offsets.
            self.commit(key, topic, cursor).await;
        }
        let wanted = (&subscription.wanted, self.client.sub_version);
        let mut pull = request::pull(&place, next, cursor.kept, hold_ms, wanted);
        if self.client.kind == Kind::Defibus {
            pull = pull.with("clientId", self.client.id());
        }
        let from = replica.as_ref().unwrap_or(&queue.addr);
        let asked = Instant::now();
        let answer = self.client.ask(from, pull, PULL_LIMIT).await?;
        let suggested = answer.number("suggestWhichBrokerId").unwrap_or_default();
        let moved = answer.number("nextBeginOffset").ok_or_else(|| bad(&queue, "no nextBeginOffset"));
        let (moved, messages) = match answer.code {
            response::SUCCESS => {
                let messages = decode(answer).await.map_err(|error| bad(&queue, error))?;
                cursor.seen_ms = messages.last().map_or(cursor.seen_ms, |message| message.store_ms);
                // A broker may hand out whole batches, with messages before the offset that was asked for.
                (moved?, messages.into_iter().filter(|message| message.queue_offset >= next).collect())
            }
            response::PULL_NOT_FOUND if self.client.kind == Kind::Defibus => {
                let empty = Empty::of(&answer);
                self.wait_after(empty, asked.elapsed(), key, topic).await;
                (if let Empty::Taken(offset) = empty { offset } else { next }, Vec::new())
            }
            response::PULL_NOT_FOUND => (next, Vec::new()),
            response::PULL_RETRY_IMMEDIATELY => (moved?, Vec::new()),
            response::PULL_OFFSET_MOVED => {
                let mut to = moved?;
                if to < next && self.began_anew(&place, cursor.seen_ms).await? {
                    // What came since then was never here: RocketMQ's own consumers skip it.
                    to = answer.number("minOffset").unwrap_or(to);
                }
                warn!(topic, queue = key.2, from = next, to, "the queue does not hold the offset any more");
                (to, Vec::new())
            }
            code => {
                if code == response::TOPIC_NOT_EXIST {
                    // Made again, its queues begin anew.
                    *cursor = Cursor { seen_ms: cursor.seen_ms, ..Cursor::default() };
                }
                return Err(code_error(from, &answer));
            }
        };
        cursor.next = Some(moved);
        cursor.from = suggested;
        let route = self.client.known_route(topic);
        let cluster = route.and_then(|route| route.cluster(&key.1).cloned());
        Ok(Pulled { messages, addr: queue.addr, cluster, receipts: BTreeMap::new() })
    }

    /// An answer that came at once stands for a refusal at DeFiBus: another member has the queue, or the broker does not know
    /// us. Who asks again at once would do so without end.
    async fn wait_after(&self, empty: Empty, took: Duration, key: &Key, topic: &str) {
        match empty {
            Empty::Locked => {
                self.client.counters.locked.increment(1);
                debug!(topic, queue = key.2, "another member has the queue");
                sleep(LOCKED_PAUSE).await;
            }
            Empty::Taken(offset) => debug!(topic, queue = key.2, offset, "has the queue now"),
            Empty::Nothing if took < QUICK => sleep(LOCKED_PAUSE).await,
            Empty::Nothing => {}
        }
    }

    /// Where the queue is now: a broker may come back under another address. And the address of its replica `from`, if
    /// it has one.
    async fn queue(&self, key: &Key, topic: &str, from: i64) -> Result<(Queue, Option<Arc<str>>), CallError> {
        let route = self.client.route(topic).await?;
        let queue = route.readable.iter().find(|queue| queue.broker == key.1 && queue.id == key.2);
        let queue = queue.ok_or_else(|| CallError::NoQueue(topic.to_owned()))?;
        let replica = route.replica(&key.1, from).filter(|addr| **addr != queue.addr);
        Ok((queue.clone(), replica.cloned()))
    }

    /// Where the group goes on; a new one where it is told to. What was given back is never passed over.
    async fn start(&self, place: &Place<'_>) -> Result<i64, CallError> {
        let addr = &place.queue.addr;
        let answer = self.client.ask(addr, request::committed(place), self.client.limit()).await?;
        let first = place.topic.starts_with(RETRY);
        let start = if first { Start::First } else { self.client.identity.start };
        let (answer, is_new) = match answer.code {
            response::SUCCESS => (answer, false),
            response::QUERY_NOT_FOUND => {
                (self.client.ask_well(addr, request::start(place, start)).await?, true)
            }
            _ => return Err(code_error(addr, &answer)),
        };
        let offset = answer.number("offset").ok_or_else(|| bad(place.queue, "no offset"))?;
        if is_new && self.group.is_some() {
            // Whoever has the queue next goes on from here.
            self.client.ask_well(addr, request::commit(place, offset)).await?;
        }
        Ok(offset)
    }

    /// Whether all that a queue holds came behind what was seen of it: its topic was deleted, and made again.
    async fn began_anew(&self, place: &Place<'_>, seen_ms: i64) -> Result<bool, CallError> {
        let answer = self.client.ask_well(&place.queue.addr, request::earliest(place)).await?;
        Ok(seen_ms > 0 && answer.number("timestamp").is_some_and(|first| first > seen_ms))
    }

    async fn commit(&self, key: &Key, topic: &str, cursor: &mut Cursor) {
        let Some(kept) = cursor.kept.filter(|kept| cursor.committed != Some(*kept)) else { return };
        let Ok((queue, _)) = self.queue(key, topic, 0).await else { return };
        let place = Place { group: &self.client.identity.group, topic, queue: &queue };
        match self.client.ask_well(&queue.addr, request::commit(&place, kept)).await {
            Ok(_) => cursor.committed = Some(kept),
            Err(error) => {
                debug!(topic, queue = key.2, %error, "commit failed: some messages will come again");
            }
        }
    }

    /// Waits until less than the limit is pulled and not kept.
    pub(super) async fn room(&self) {
        let max = self.client.options.pulled_max.as_usize();
        self.pulled.subscribe().wait_for(|pulled| *pulled < max).await.map(drop).unwrap_or(());
    }

    /// Counts messages as pulled until it is dropped.
    pub(super) fn hold(&self, messages: &[StoredMessage]) -> Held<'_> {
        let bytes = messages.iter().map(|message| message.body.len() + message.properties.len()).sum();
        self.pulled.send_modify(|pulled| *pulled += bytes);
        self.client.counters.pulled.increment(bytes as f64);
        Held { consumer: self, bytes }
    }

    // -------------------------------------------------------------- locks

    /// Whether the queues of a topic are consumed under locks. What is given back has no order.
    fn is_ordered(&self, topic: &str) -> bool {
        self.manner.ordered && !topic.starts_with(RETRY)
    }

    /// Has the queue's lock, old enough to last over a pull. If another member has it, so has the queue: what the group
    /// consumed is looked up anew.
    async fn lock(
        &self,
        key: &Key,
        topic: &str,
        cursor: &mut Cursor,
        lease: &mut Lease,
    ) -> Result<(), CallError> {
        if lease.renew_at().is_some_and(|at| at > Instant::now().into_std()) {
            return Ok(());
        }
        if !self.ask_for_lock(key, topic, lease).await? {
            *cursor = Cursor::default();
            return Err(CallError::Locked(topic.to_owned()));
        }
        Ok(())
    }

    /// Renews the lock; returns when it is lost.
    async fn keep_lock(&self, key: &Key, topic: &str, lease: &mut Lease) {
        while let Some(renew) = lease.renew_at() {
            sleep_until(renew.into()).await;
            match self.ask_for_lock(key, topic, lease).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) if lease.holds(Instant::now().into_std()) => sleep(LAST_PAUSE).await,
                Err(_) => return,
            }
        }
    }

    async fn ask_for_lock(&self, key: &Key, topic: &str, lease: &mut Lease) -> Result<bool, CallError> {
        let (queue, _) = self.queue(key, topic, 0).await?;
        let place = Place { group: &self.client.identity.group, topic, queue: &queue };
        let asked = Instant::now().into_std();
        let answer = self.client.ask_well(&queue.addr, request::lock(self.client.id(), &place)).await?;
        let given =
            request::is_locked(&answer.body, &place).map_err(|error| bad(&queue, error.to_string()))?;
        if given {
            lease.given(asked)
        } else {
            lease.gone()
        }
        Ok(given)
    }

    async fn unlock(&self, key: &Key, topic: &str) {
        let Ok((queue, _)) = self.queue(key, topic, 0).await else { return };
        let place = Place { group: &self.client.identity.group, topic, queue: &queue };
        if let Err(error) = self.client.ask_well(&queue.addr, request::unlock(self.client.id(), &place)).await
        {
            debug!(topic, queue = key.2, %error, "the lock ends by itself");
        }
    }
}

/// Bytes of messages that are not kept yet.
pub(super) struct Held<'a> {
    consumer: &'a Consumer,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.consumer.pulled.send_modify(|pulled| *pulled -= self.bytes);
        self.consumer.client.counters.pulled.decrement(self.bytes as f64);
    }
}

/// As [`inflated`], on a thread for such work if it is compressed.
pub(super) async fn inflate_aside(message: StoredMessage) -> StoredMessage {
    if message.sys_flag & COMPRESSED == 0 {
        return message;
    }
    let as_it_is = message.clone();
    tokio::task::spawn_blocking(move || inflated(message)).await.unwrap_or(as_it_is)
}

/// The messages of an answer; compressed bodies are inflated on a thread for such work.
pub(super) async fn decode(answer: Command) -> Result<Vec<StoredMessage>, String> {
    let messages = decode_messages(answer.body).map_err(|error| error.to_string())?;
    if messages.iter().all(|message| message.sys_flag & COMPRESSED == 0) {
        return Ok(messages);
    }
    let inflate = move || messages.into_iter().map(inflated).collect();
    tokio::task::spawn_blocking(inflate).await.map_err(|error| error.to_string())
}

/// As it is, if it cannot be inflated: the binding will say so.
fn inflated(mut message: StoredMessage) -> StoredMessage {
    if let Ok(body) = inflate(message.sys_flag, message.body.clone()) {
        message.body = body;
        message.sys_flag &= !COMPRESSED;
    }
    message
}

/// The name of what is wrong with a queue.
fn trouble(key: &Key, topic: &str) -> String {
    format!("queue {} of {topic} at {}", key.2, key.1)
}

pub(super) fn bad(queue: &Queue, reason: impl Into<String>) -> CallError {
    CallError::BadAnswer { addr: queue.addr.to_string(), reason: reason.into() }
}
