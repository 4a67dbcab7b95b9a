//! Pulls the queues of topics and publishes what they hold here. A queue's offset is committed when the hub has kept
//! everything before it, together with the next pull.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Hub, Outcome, Publish};
use event::{Guarantee, Principal, RejectKind};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use remoting::code::response;
use remoting::sys_flag::COMPRESSED;
use remoting::{Command, StoredMessage, decode_messages};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::client::{Client, code_error, now_ms};
use super::drained;
use crate::binding::{Arrival, from_message};
use crate::error::CallError;
use crate::inflate::inflate;
use crate::request::{self, Place};
use crate::route::Queue;
use crate::template::Template;

/// Consumes topics on behalf of one bridge or store.
pub(super) struct Consumer {
    pub(super) client: Arc<Client>,
    pub(super) hub: Arc<dyn Hub>,
    /// Who publishes here.
    pub(super) who: Principal,
    /// What comes back is our own, through our store.
    pub(super) own: bool,
    /// Topics of RocketMQ, and what becomes of them.
    pub(super) rules: Vec<(String, Template)>,
}

/// How long a broker holds a pull when there is nothing; an arrival ends it at once.
const HOLD_MS: i64 = 15_000;
/// Brokers look every 5 s whether a hold is over.
const PULL_LIMIT: Duration = Duration::from_secs(25);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// How often new queues are looked for in the routes that are known.
const LOOK: Duration = Duration::from_millis(500);

/// A queue: rule, broker, number.
type Key = (usize, Arc<str>, i32);

impl Consumer {
    /// Consumes all queues until `drain` turns true.
    pub(super) async fn run(&self, drain: watch::Receiver<bool>) {
        let mut known: BTreeSet<Key> = BTreeSet::new();
        let mut queues = FuturesUnordered::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drained(&mut stop) => break,
                Some(key) = queues.next() => drop(known.remove(&key)),
                _ = look.tick() => {}
            }
            for (rule, (topic, _)) in self.rules.iter().enumerate() {
                let Some(route) = self.client.known_route(topic) else { continue };
                for queue in &route.readable {
                    let key = (rule, Arc::clone(&queue.broker), queue.id);
                    if known.insert(key.clone()) {
                        queues.push(self.consume(key, drain.clone()));
                    }
                }
            }
        }
        while queues.next().await.is_some() {}
    }

    /// Consumes one queue until it is gone or `drain` turns true; then commits what is kept.
    async fn consume(&self, key: Key, mut drain: watch::Receiver<bool>) -> Key {
        let Some((topic, to)) = self.rules.get(key.0) else { return key };
        let trouble = format!("queue {} of {topic}", key.2);
        let mut cursor = Cursor::default();
        let mut failures = 0_u32;
        loop {
            let pulled = tokio::select! {
                biased;
                () = drained(&mut drain) => break,
                pulled = self.pull(&key, topic, &mut cursor) => pulled,
            };
            let error = match pulled {
                Ok(Some(messages)) => {
                    if !messages.is_empty() && !self.publish(messages, to, &mut drain).await {
                        break;
                    }
                    cursor.kept = cursor.next;
                    failures = 0;
                    self.client.condition.no_trouble(&trouble);
                    continue;
                }
                Ok(None) => return key,
                Err(error) => error,
            };
            debug!(topic, queue = key.2, %error, "pull failed");
            // A broker that has just started may not know us yet.
            if matches!(error, CallError::Code { .. } | CallError::BadAnswer { .. }) && failures >= 3 {
                self.client.condition.trouble(&trouble, error.to_string());
            }
            self.client.doubt_route(topic);
            let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE);
            failures += 1;
            tokio::select! {
                () = drained(&mut drain) => {}
                () = self.client.recovered.notified() => {}
                () = sleep(pause) => {}
            }
        }
        timeout(LOOK, self.commit(&key, &cursor)).await.unwrap_or(());
        key
    }

    /// One pull: the messages that came, and `cursor` at the offset behind them; `None`: the queue is gone.
    /// Cancel-safe: `cursor` moves with the result only.
    async fn pull(
        &self,
        key: &Key,
        topic: &str,
        cursor: &mut Cursor,
    ) -> Result<Option<Vec<StoredMessage>>, CallError> {
        let Some(queue) = self.queue(key, topic).await? else { return Ok(None) };
        let place = Place { group: &self.client.identity.group, topic, queue: &queue };
        let next = match cursor.next {
            Some(next) => next,
            None => self.start(&place).await?,
        };
        let pull = request::pull(&place, next, cursor.kept, HOLD_MS, self.client.sub_version);
        let answer = self.client.ask(&queue.addr, pull, PULL_LIMIT).await?;
        let moved = answer.number("nextBeginOffset").ok_or_else(|| bad(&queue, "no nextBeginOffset"));
        let (moved, messages) = match answer.code {
            response::SUCCESS => {
                let messages = decode(answer).await.map_err(|error| bad(&queue, error))?;
                // A broker may hand out whole batches, with messages before the offset that was asked for.
                (moved?, messages.into_iter().filter(|message| message.queue_offset >= next).collect())
            }
            response::PULL_NOT_FOUND => (next, Vec::new()),
            response::PULL_RETRY_IMMEDIATELY => (moved?, Vec::new()),
            response::PULL_OFFSET_MOVED => {
                let moved = moved?;
                warn!(
                    topic,
                    queue = key.2,
                    from = next,
                    to = moved,
                    "the queue does not hold the offset any more"
                );
                (moved, Vec::new())
            }
            _ => return Err(code_error(&queue.addr, &answer)),
        };
        cursor.next = Some(moved);
        Ok(Some(messages))
    }

    /// Where the queue is now: a broker may come back under another address.
    async fn queue(&self, key: &Key, topic: &str) -> Result<Option<Queue>, CallError> {
        let route = self.client.route(topic).await?;
        Ok(route.readable.iter().find(|queue| queue.broker == key.1 && queue.id == key.2).cloned())
    }

    /// Where the group goes on; a new one at the start of the queue.
    async fn start(&self, place: &Place<'_>) -> Result<i64, CallError> {
        let addr = &place.queue.addr;
        let answer = self.client.ask(addr, request::committed(place), self.client.limit()).await?;
        let answer = match answer.code {
            response::SUCCESS => answer,
            response::QUERY_NOT_FOUND => self.client.ask_well(addr, request::first(place)).await?,
            _ => return Err(code_error(addr, &answer)),
        };
        answer.number("offset").ok_or_else(|| bad(place.queue, "no offset"))
    }

    async fn commit(&self, key: &Key, cursor: &Cursor) {
        let (Some(kept), Some((topic, _))) = (cursor.kept, self.rules.get(key.0)) else { return };
        let Ok(Some(queue)) = self.queue(key, topic).await else { return };
        let place = Place { group: &self.client.identity.group, topic, queue: &queue };
        if let Err(error) = self.client.ask_well(&queue.addr, request::commit(&place, kept)).await {
            debug!(topic, queue = key.2, %error, "commit failed: some messages will come again");
        }
    }

    /// Publishes messages and returns when the hub has kept all that can be kept; false: Weft stops before that.
    async fn publish(
        &self,
        messages: Vec<StoredMessage>,
        to: &Template,
        drain: &mut watch::Receiver<bool>,
    ) -> bool {
        let counters = &self.client.counters;
        let mut stamps = self.hub.stamps();
        let mut batch = Vec::new();
        for message in messages {
            let arrival = Arrival {
                now_ms: now_ms(),
                stamp: stamps.take(),
                publisher: &self.who.client.0,
                own: self.own,
            };
            match from_message(&message, to, arrival) {
                Ok(event) => {
                    batch.push(Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None })
                }
                Err(error) => {
                    counters.unusable.increment(1);
                    warn!(topic = &*message.topic, offset = message.queue_offset, %error, "a message is no event");
                }
            }
        }
        let mut pause = FIRST_PAUSE;
        while !batch.is_empty() {
            let outcome = self.hub.publish(&self.who, batch.clone()).receipt().await.await;
            let (kept, again) = self.sort(batch, &outcome);
            counters.received.increment(kept);
            batch = again;
            if !batch.is_empty() {
                if timeout(pause, drained(drain)).await.is_ok() {
                    return false;
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
        true
    }

    /// How many are kept, and what has to be published again. What the hub will never take is counted and left out.
    fn sort(&self, batch: Vec<Publish>, outcome: &Outcome) -> (u64, Vec<Publish>) {
        let (mut kept, mut again) = (0, Vec::new());
        for (place, publish) in batch.into_iter().enumerate() {
            match outcome.of(place) {
                Ok(()) => kept += 1,
                Err(reject) => match reject.kind {
                    RejectKind::Busy | RejectKind::Unavailable | RejectKind::Closed => again.push(publish),
                    RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied => {
                        self.client.counters.unusable.increment(1);
                        warn!(reason = %reject, "a message from RocketMQ is refused for good");
                    }
                },
            }
        }
        (kept, again)
    }
}

/// How far one queue is consumed.
#[derive(Debug, Default)]
struct Cursor {
    /// The offset to pull next.
    next: Option<i64>,
    /// Everything before it is kept.
    kept: Option<i64>,
}

/// The messages of an answer; compressed bodies are inflated on a thread for such work.
async fn decode(answer: Command) -> Result<Vec<StoredMessage>, String> {
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

fn bad(queue: &Queue, reason: impl Into<String>) -> CallError {
    CallError::BadAnswer { addr: queue.addr.to_string(), reason: reason.into() }
}
