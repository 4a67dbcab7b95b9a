//! Requests to services behind RocketMQ or DeFiBus: an event that names a topic for its reply goes out as a request, and the reply that
//! a broker pushes is published to that topic, with the correlation data that the event had.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use defibus::{Pushed, Waiting};
use event::hub::{Hub, Publish};
use event::{Event, Guarantee, Principal, TopicName};
use remoting::properties::Properties;
use remoting::{BatchEntry, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::client::{Client, now_ms};
use super::queue::inflate_aside;
use super::{drained, random};
use crate::binding::{Arrival, Labels, publish_as, to_message};
use crate::error::Unfit;
use crate::kind::lifetime;

/// Asks, and hands out replies.
pub(super) struct Requester {
    client: Arc<Client>,
    hub: Arc<dyn Hub>,
    /// Who publishes replies.
    who: Principal,
    waiting: Mutex<Waiting<Expected>>,
}

/// Where a reply goes.
struct Expected {
    topic: TopicName,
    correlation: Option<Bytes>,
}

/// Why an event is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRequest {
    /// It can never be a message.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The reply would go where this bridge publishes none.
    #[error("its reply topic {0} is not among reply_topics")]
    Topic(TopicName),
    /// Its time is over.
    #[error("it expired before it was sent")]
    Late,
    /// As many wait as may.
    #[error(transparent)]
    Full(#[from] defibus::Full),
    /// The system gives no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// How often requests are looked at whose time may be over.
const SWEEP: Duration = Duration::from_millis(250);
/// Replies that are published together.
const BATCH: usize = 64;

impl Requester {
    pub(super) fn new(client: Arc<Client>, hub: Arc<dyn Hub>, who: Principal) -> Self {
        let most = usize::try_from(client.options.requests_max).unwrap_or(usize::MAX);
        Self { client, hub, who, waiting: Mutex::new(Waiting::new(most)) }
    }

    /// The request that `event` is, and for how long; `reply_to` is where its reply goes. From now on it waits for it.
    pub(super) fn request(
        &self,
        event: &Event,
        labels: Labels<'_>,
        reply_to: &TopicName,
    ) -> Result<(BatchEntry, Duration), NoRequest> {
        let options = &self.client.options;
        if !options.reply_topics.iter().any(|filter| filter.matches(reply_to))
            && !reply_to.as_str().starts_with(event::REPLY_TOPICS)
        {
            self.client.counters.requests_refused.increment(1);
            return Err(NoRequest::Topic(reply_to.clone()));
        }
        let now_ms = now_ms();
        // Who asked has been waiting since then.
        let waited_ms = now_ms.saturating_sub(event.parts().received_ms);
        let ttl_ms = lifetime(event, u64::from(options.reply_ms).saturating_sub(waited_ms), now_ms);
        if ttl_ms == 0 {
            self.client.counters.requests_unanswered.increment(1);
            return Err(NoRequest::Late);
        }
        let id = unique_id().ok_or(NoRequest::Random)?;
        let mut properties = Properties::default();
        self.client.kind.mark_request(&mut properties, &id, self.client.id(), ttl_ms);
        // Where the reply goes here is nobody else's business: who knows the topic could answer in its place.
        let mut parts = event.parts().clone();
        let correlation = parts.meta.as_mut().and_then(|meta| {
            meta.reply_to = None;
            meta.correlation.take()
        });
        let message = to_message(&Event::new(parts), labels, properties, options.message_max.as_usize());
        let message = message.inspect_err(|_| self.client.counters.requests_refused.increment(1))?;
        let expected = Expected { topic: reply_to.clone(), correlation };
        if let Err(full) = self.waiting().insert(id.into(), now_ms.saturating_add(ttl_ms), expected) {
            self.client.counters.requests_refused.increment(1);
            return Err(full.into());
        }
        Ok((message, Duration::from_millis(ttl_ms)))
    }

    /// Publishes the replies among `pushes`, until `drain` turns true or nothing pushes any more. Cancel-safe.
    pub(super) async fn run(&self, mut pushes: mpsc::Receiver<Command>, mut drain: watch::Receiver<bool>) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drained(&mut drain) => return,
                push = pushes.recv() => {
                    let Some(first) = push else { return };
                    let mut batch = vec![first];
                    while batch.len() < BATCH && let Ok(push) = pushes.try_recv() {
                        batch.push(push);
                    }
                    self.publish(batch).await;
                }
                _ = sweep.tick() => {
                    let late = self.waiting().expired(now_ms()).len();
                    self.client.counters.requests_unanswered.increment(late as u64);
                }
            }
        }
    }

    async fn publish(&self, pushes: Vec<Command>) {
        let mut batch = Vec::new();
        for push in pushes {
            let Some(Pushed { id, message }) = self.client.kind.pushed(&push) else { continue };
            let Some(expected) = self.waiting().take(&id) else {
                self.client.counters.replies_late.increment(1);
                continue;
            };
            let message = inflate_aside(message).await;
            let stamp = self.hub.stamps().take();
            let publisher = &self.who.client.0;
            let arrival = Arrival { now_ms: now_ms(), stamp, publisher, own: false };
            match publish_as(&message, expected.topic, arrival) {
                Ok(event) => batch.push(reply(&event, expected.correlation)),
                Err(error) => {
                    self.client.counters.unusable.increment(1);
                    warn!(part = self.client.identity.part, %error, "a reply is no event");
                }
            }
        }
        let count = batch.len();
        if count == 0 {
            return;
        }
        let outcome = self.hub.publish(&self.who, batch).receipt().await.await;
        let refused = (0..count).filter_map(|place| outcome.of(place).err()).collect::<Vec<_>>();
        if let Some(reason) = refused.first() {
            warn!(part = self.client.identity.part, %reason, "a reply is refused");
        }
        self.client.counters.requests_refused.increment(refused.len() as u64);
        self.client.counters.requests_answered.increment(count.saturating_sub(refused.len()) as u64);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Expected>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reply, as its requester waits for it.
fn reply(event: &Event, correlation: Option<Bytes>) -> Publish {
    let mut parts = event.parts().clone();
    if correlation.is_some() || parts.meta.is_some() {
        let meta = parts.meta.get_or_insert_default();
        meta.correlation = correlation;
        meta.reply_to = None;
    }
    // Requests that Weft itself makes for its clients do not outlive their connection: no log has to hold their replies.
    let live = parts.topic.as_str().starts_with(event::REPLY_TOPICS);
    let guarantee = if live { Guarantee::AtMostOnce } else { Guarantee::AtLeastOnce };
    Publish { event: Event::new(parts), guarantee, retain: false, id: None }
}

/// `w/` and a random UUID, as DeFiBus' own client has it.
fn unique_id() -> Option<String> {
    let mut bytes = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = super::hex(&bytes);
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    Some(format!("w/{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)))
}
