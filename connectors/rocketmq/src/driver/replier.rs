//! Requests from RocketMQ or DeFiBus: each is published here with a topic for its reply and correlation data that cannot be guessed.
//! The first answer with that correlation goes to the broker that stored the request, which pushes it to the requester.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use defibus::{Asked, Waiting};
use event::hub::{
    Attach, Close, Closed, Delivery, Hub, Link, RetainedWanted, Room, Subscribe, SubscribeOptions,
};
use event::{Event, Guarantee, Principal, Reject, RejectKind, TopicFilter, TopicName};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use remoting::properties::Properties;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::client::{Client, now_ms};
use super::{drained, hex, random};
use crate::binding::{Labels, to_message};
use crate::error::CallError;

/// Answers for whoever replies here.
pub(super) struct Replier {
    client: Arc<Client>,
    hub: Arc<dyn Hub>,
    /// The session that gets the answers.
    who: Principal,
    /// Where they are published.
    topic: TopicName,
    open: Mutex<Waiting<Open>>,
}

/// A request without an answer.
struct Open {
    asked: Asked,
    /// The broker that stored it.
    addr: Arc<str>,
    /// Its cluster.
    cluster: String,
    /// Where it was published here.
    topic: TopicName,
}

/// Where a request came from.
pub(super) struct Whence<'a> {
    /// The broker that stored it.
    pub(super) addr: &'a Arc<str>,
    /// The cluster of that broker, if the route says so.
    pub(super) cluster: Option<&'a str>,
    /// When it is of no use any more, milliseconds since 1970; `None`: it did not say.
    pub(super) expires_ms: Option<u64>,
}

/// Answers taken at a time; so many are sent side by side.
const ROOM: Room = Room { numbered: 0, bytes: 1 << 20 };
const FLIGHTS: usize = 64;
/// Between two tries to get the session.
const PAUSE: Duration = Duration::from_secs(1);
/// How often requests are looked at whose time may be over.
const SWEEP: Duration = Duration::from_millis(250);
/// Tries to send an answer, and the pause between them.
const TRIES: u32 = 3;
const RETRY: Duration = Duration::from_millis(200);
/// How long answers that are out may take when Weft stops.
const LEAVE: Duration = Duration::from_secs(2);

/// A topic for answers that cannot be guessed. `None`: the system gives no random numbers.
pub(super) fn replies() -> Option<TopicName> {
    TopicName::parse(format!("{}{}", event::REPLY_TOPICS, hex(&random()?))).ok()
}

impl Replier {
    /// One for the bridge of this session, by the topic [`replies`] made.
    pub(super) fn new(client: Arc<Client>, hub: Arc<dyn Hub>, bridge: &Principal, topic: TopicName) -> Self {
        let most = usize::try_from(client.options.requests_max).unwrap_or(usize::MAX);
        let who = Principal::anonymous(&*format!("{}/replies", bridge.client));
        Self { client, hub, who, topic, open: Mutex::new(Waiting::new(most)) }
    }

    /// Makes `event`, the request `asked`, one that can be answered here. `None`: it is too old, or too many are open.
    pub(super) fn open(&self, event: &Event, asked: Asked, whence: &Whence<'_>) -> Option<Event> {
        let counters = &self.client.counters;
        let now_ms = now_ms();
        let expires_ms =
            whence.expires_ms.unwrap_or(now_ms.saturating_add(self.client.options.reply_ms.into()));
        let cluster = asked.cluster.as_deref().or(whence.cluster);
        let (Some(name), Some(cluster)) = (random(), cluster) else {
            counters.answers_refused.increment(1);
            return None;
        };
        let correlation = hex(&name);
        let open = Open {
            cluster: cluster.to_owned(),
            asked,
            addr: Arc::clone(whence.addr),
            topic: event.topic().clone(),
        };
        if let Err(full) = self.waiting().insert(correlation.as_str().into(), expires_ms, open) {
            counters.answers_refused.increment(1);
            warn!(part = self.client.identity.part, %full, "a request is dropped");
            return None;
        }
        let mut parts = event.parts().clone();
        parts.expires_ms = expires_ms;
        let meta = parts.meta.get_or_insert_default();
        meta.reply_to = Some(self.topic.clone());
        meta.correlation = Some(Bytes::from(correlation));
        Some(Event::new(parts))
    }

    /// Sends answers until `drain` turns true.
    pub(super) async fn run(&self, mut drain: watch::Receiver<bool>) {
        loop {
            let attached = tokio::select! {
                biased;
                () = drained(&mut drain) => return,
                attached = self.attach() => attached,
            };
            let lost = match attached {
                Ok(link) => match self.work(link, &mut drain).await {
                    Ok(()) | Err(Closed::Stopping) => return,
                    Err(why) => format!("{why:?}"),
                },
                Err(reject) => reject.to_string(),
            };
            warn!(session = %self.who.client, lost, "no session for answers");
            timeout(PAUSE, drained(&mut drain)).await.unwrap_or(());
        }
    }

    async fn attach(&self) -> Result<Box<dyn Link>, Reject> {
        let request = Attach { clean: true, protocol: self.client.kind.title(), ..Attach::default() };
        let mut link = self.hub.attach(self.who.clone(), request).await?.link;
        let no_filter = |_| Reject::new(RejectKind::Malformed, "no filter for answers");
        let filter = TopicFilter::parse(self.topic.as_str()).map_err(no_filter)?;
        // An answer does not outlive its request: no log has to hold it.
        let options = SubscribeOptions {
            retained: RetainedWanted::Never,
            ..SubscribeOptions::new(Guarantee::AtMostOnce)
        };
        for granted in link.subscribe(vec![Subscribe::new(filter, options)]).await? {
            granted?;
        }
        Ok(link)
    }

    /// Sends answers until the session is lost, or `drain` turns true (`Ok`).
    async fn work(&self, mut link: Box<dyn Link>, drain: &mut watch::Receiver<bool>) -> Result<(), Closed> {
        let mut taken: Vec<Delivery> = Vec::new();
        let mut flights = FuturesUnordered::new();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = flights.len() < FLIGHTS;
            tokio::select! {
                biased;
                Some(()) = flights.next() => {}
                () = drained(drain) => break,
                took = poll_fn(|cx| link.poll_deliveries(cx, ROOM, &mut taken)), if has_room => {
                    took?;
                    for delivery in taken.drain(..) {
                        match self.take(&delivery.event) {
                            Some(open) => flights.push(self.answer(open, delivery.event)),
                            None => self.client.counters.answers_late.increment(1),
                        }
                    }
                }
                _ = sweep.tick() => {
                    let late = self.waiting().expired(now_ms()).len();
                    self.client.counters.answers_missing.increment(late as u64);
                }
            }
        }
        timeout(LEAVE, async { while flights.next().await.is_some() {} }).await.unwrap_or(());
        link.close(Close { will: false, keep: None });
        Ok(())
    }

    /// The request that `event` answers, if it is the first that does.
    fn take(&self, event: &Event) -> Option<Open> {
        let correlation = event.meta()?.correlation.as_ref()?;
        self.waiting().take(std::str::from_utf8(correlation).ok()?)
    }

    /// Sends one answer.
    async fn answer(&self, open: Open, event: Event) {
        let counters = &self.client.counters;
        for n in 1..=TRIES {
            let error = match self.send(&open, &event).await {
                Ok(()) => return counters.answers_sent.increment(1),
                Err(error) => error,
            };
            debug!(part = self.client.identity.part, error, "an answer could not be sent");
            if n == TRIES {
                warn!(part = self.client.identity.part, error, "an answer is lost");
            } else {
                sleep(RETRY).await;
            }
        }
        counters.answers_failed.increment(1);
    }

    async fn send(&self, open: &Open, event: &Event) -> Result<(), String> {
        let mut properties = Properties::default();
        self.client.kind.mark_reply(&open.asked, &mut properties);
        // Who answers, and where, is nobody's business there: the topic cannot be guessed.
        let mut parts = event.parts().clone();
        parts.topic = open.topic.clone();
        if let Some(meta) = &mut parts.meta {
            meta.correlation = None;
            meta.reply_to = None;
        }
        let max = self.client.options.message_max.as_usize();
        let message = to_message(&Event::new(parts), Labels::default(), properties, max)
            .map_err(|error| error.to_string())?;
        let group = &self.client.identity.producer;
        let reply = self.client.kind.reply(group, &open.cluster, now_ms(), message);
        let answer = self.client.ask_well(&open.addr, reply).await;
        answer.map(drop).map_err(|error: CallError| error.to_string())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
