//! Asks, and waits for replies: the only file that awaits.
//!
//! One session of the core subscribes one topic with a name that cannot be guessed, and gets the replies to all requests.
//! Each request has correlation data that cannot be guessed either: who answered one cannot answer another.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use event::hub::{Attach, Closed, Delivery, Hub, Link, Room, Subscribe, SubscribeOptions};
use event::{Event, Guarantee, Parts, Principal, Reject, RejectKind, TopicFilter, TopicName};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Sleep, sleep};

use crate::{Options, REPLY_TOPICS};

/// Where requests wait for their reply. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Requester(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reply_to: TopicName,
    who: Principal,
    requests_max: usize,
    /// Never walked, so its order does not matter. `None`: Weft stops.
    waiting: Mutex<Option<HashMap<Correlation, oneshot::Sender<Event>>>>,
}

type Correlation = [u8; 16];

/// A request that waits. Dropped, it is given up.
#[derive(Debug)]
pub struct Call {
    shared: Arc<Shared>,
    correlation: Correlation,
    ttl: Duration,
    deadline: Pin<Box<Sleep>>,
    answer: oneshot::Receiver<Event>,
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Its time is over.
    #[error("nobody answered within {} ms", .0.as_millis())]
    Late(Duration),
    /// Weft stops.
    #[error("weft is stopping")]
    Stopping,
}

impl Requester {
    /// One that takes its replies from `hub`, and what has to run for that: it ends when `drain` turns true. Cancel-safe.
    ///
    /// # Errors
    /// The hub gives no session, or the system no random numbers.
    pub async fn start(
        hub: Arc<dyn Hub>,
        options: &Options,
        drain: watch::Receiver<bool>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), Reject> {
        let name: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let no_topic = |_| Reject::new(RejectKind::Malformed, "no topic for replies");
        let shared = Arc::new(Shared {
            reply_to: TopicName::parse(format!("{REPLY_TOPICS}{name}")).map_err(no_topic)?,
            who: Principal::anonymous("$eventmesh/requests"),
            requests_max: usize::try_from(options.requests_max).unwrap_or(usize::MAX),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let link = attach(&*hub, &shared).await?;
        Ok((Self(Arc::clone(&shared)), run(hub, shared, link, drain)))
    }

    /// Opens a request that waits `ttl` for its reply. Next: [`Call::address`] the event, publish it, await the call.
    ///
    /// # Errors
    /// [`RejectKind::Busy`] when too many requests wait, [`RejectKind::Closed`] when Weft stops.
    pub fn call(&self, ttl: Duration) -> Result<Call, Reject> {
        let correlation = random()?;
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.0.waiting.lock();
        let waiting = waiting.as_mut().ok_or_else(Reject::closed)?;
        if waiting.len() >= self.0.requests_max {
            count("refused");
            let reason = format!("{} requests wait for their reply, which is the limit", waiting.len());
            return Err(Reject::new(RejectKind::Busy, reason));
        }
        waiting.insert(correlation, sender);
        Ok(Call { shared: Arc::clone(&self.0), correlation, ttl, deadline: Box::pin(sleep(ttl)), answer })
    }

    /// As whom replies are published that [`crate::Responder::Weft`] publishes.
    pub fn replier(&self) -> &Principal {
        &self.0.who
    }
}

impl Call {
    /// Writes into a request where its reply goes, and until when it is of use.
    pub fn address(&self, parts: &mut Parts, now_ms: u64) {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        parts.expires_ms = now_ms.saturating_add(ttl).max(1);
        let meta = parts.meta.get_or_insert_default();
        meta.reply_to = Some(self.shared.reply_to.clone());
        meta.correlation = Some(Bytes::copy_from_slice(&self.correlation));
    }
}

/// The reply, without what tied it to the request. Cancel-safe.
impl Future for Call {
    type Output = Result<Event, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            count(if answer.is_ok() { "answered" } else { "unanswered" });
            return Poll::Ready(answer.map_err(|_| Unanswered::Stopping));
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            count("unanswered");
            return Poll::Ready(Err(Unanswered::Late(self.ttl)));
        }
        Poll::Pending
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(waiting) = self.shared.waiting.lock().as_mut() {
            waiting.remove(&self.correlation);
        }
    }
}

/// Hands out replies until Weft stops. Cancel-safe: dropped, requests wait until their time is over.
async fn run(
    hub: Arc<dyn Hub>,
    shared: Arc<Shared>,
    mut link: Box<dyn Link>,
    mut drain: watch::Receiver<bool>,
) {
    let mut taken = Vec::new();
    loop {
        let took = tokio::select! {
            biased;
            // A sender that is gone says the same as true.
            _ = drain.wait_for(|stop| *stop) => break,
            took = poll_fn(|cx| link.poll_deliveries(cx, ROOM, &mut taken)) => took,
        };
        let numbers: Vec<u64> = taken.iter().filter_map(|delivery: &Delivery| delivery.number).collect();
        if !numbers.is_empty() {
            link.ack(&numbers);
        }
        for delivery in taken.drain(..) {
            hand_out(&shared, &delivery.event);
        }
        match took {
            Ok(()) => {}
            Err(Closed::Stopping) => break,
            Err(why) => {
                tracing::warn!(?why, "the session that takes replies ended; making a new one");
                match attach(&*hub, &shared).await {
                    Ok(new) => link = new,
                    Err(error) => {
                        tracing::warn!(%error, "no session to take replies with");
                        sleep(RETRY).await;
                    }
                }
            }
        }
    }
    // Whoever waits learns that now.
    shared.waiting.lock().take();
}

async fn attach(hub: &dyn Hub, shared: &Shared) -> Result<Box<dyn Link>, Reject> {
    let request = Attach { clean: true, protocol: "EventMesh", ..Attach::default() };
    let mut link = hub.attach(shared.who.clone(), request).await?.link;
    let no_filter = |_| Reject::new(RejectKind::Malformed, "no filter for replies");
    let filter = TopicFilter::parse(shared.reply_to.as_str()).map_err(no_filter)?;
    // Replies do not outlive their requests: no log has to hold them.
    let options = SubscribeOptions::new(Guarantee::AtMostOnce);
    for granted in link.subscribe(vec![Subscribe::new(filter, options)]).await? {
        granted?;
    }
    Ok(link)
}

fn hand_out(shared: &Shared, event: &Event) {
    let mut parts = event.parts().clone();
    let correlation = parts.meta.as_mut().and_then(|meta| meta.correlation.take());
    let correlation = correlation.and_then(|bytes| Correlation::try_from(&bytes[..]).ok());
    let mut waiting = shared.waiting.lock();
    let waiter = correlation.and_then(|correlation| waiting.as_mut()?.remove(&correlation));
    drop(waiting);
    if waiter.is_none_or(|waiter| waiter.send(Event::new(parts)).is_err()) {
        metrics::counter!("weft_eventmesh_replies_late_total").increment(1);
    }
}

fn random() -> Result<Correlation, Reject> {
    let mut bytes = Correlation::default();
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Reject::new(RejectKind::Unavailable, "the system has no random numbers"))?;
    Ok(bytes)
}

fn count(outcome: &'static str) {
    metrics::counter!("weft_eventmesh_requests_total", "outcome" => outcome).increment(1);
}

const ROOM: Room = Room { numbered: 1024, bytes: 256 << 10 };

/// How long to wait before the next try to get a session.
const RETRY: Duration = Duration::from_secs(1);
