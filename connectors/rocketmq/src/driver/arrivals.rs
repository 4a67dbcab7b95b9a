//! Messages that were pulled become events here; those that are refused go back to RocketMQ, to come again later or as
//! dead letters.

use std::collections::BTreeSet;
use std::sync::Arc;

use defibus::Asked;
use event::hub::{Admission, Outcome, Publish};
use event::{Event, Guarantee, Reject, RejectKind};
use remoting::StoredMessage;
use remoting::code::response;
use remoting::properties::parse;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::client::now_ms;
use super::consumer::{Consumer, Rule};
use super::drained;
use super::queue::{FIRST_PAUSE, LAST_PAUSE, Pulled};
use super::replier::Whence;
use crate::binding::{Arrival, from_message, is_own};
use crate::error::CallError;
use crate::request::{self, Returned};
use crate::subscription::{RETRY, Subscription, Wanted};
use crate::trace::{Consumed, Subject};
use crate::{Kind, rpc};

/// A message on its way into the hub.
struct Arrived {
    publish: Publish,
    message: Returned,
    /// How often it was refused for itself.
    refused: u16,
}

/// What came, for those who trace it.
struct Came {
    at_ms: u64,
    subjects: Vec<(Subject, i32)>,
}

impl Came {
    fn of(pulled: &Pulled) -> Self {
        let subject = |message: &StoredMessage| (Subject::of(&message.properties), message.reconsume_times);
        Self { at_ms: now_ms(), subjects: pulled.messages.iter().map(subject).collect() }
    }
}

/// What the hub made of a batch.
#[derive(Default)]
struct Sorted {
    kept: u64,
    /// Has to be published again.
    again: Vec<Arrived>,
    /// Is given back, and whether as a dead letter.
    back: Vec<(Returned, bool)>,
    /// Something is refused for itself and tried again here.
    slow: bool,
}

/// How often a broker may fail to find a message that is given back to it.
const NOT_FOUND_MOST: u32 = 5;

impl Consumer {
    /// Publishes messages and returns when each is kept here, or given back; false: `stop` turned true before that.
    pub(super) async fn publish(
        &self,
        pulled: Pulled,
        subscription: &Subscription,
        ordered: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let addr = Arc::clone(&pulled.addr);
        let came = self.client.tracer.is_some().then(|| Came::of(&pulled));
        let mut refused = BTreeSet::new();
        let (mut batch, dead) = self.arrived(pulled, subscription);
        for message in dead {
            refused.insert(message.id.clone());
            if !self.give_back(&addr, &message, true, stop).await {
                return false;
            }
        }
        let mut pause = FIRST_PAUSE;
        while !batch.is_empty() {
            let events: Vec<Publish> = batch.iter().map(|arrived| arrived.publish.clone()).collect();
            let outcome = self.offer(events).receipt().await.await;
            let Sorted { kept, again, back, slow } =
                if ordered { self.sort_in_order(batch, &outcome) } else { sort(batch, &outcome) };
            self.client.counters.received.increment(kept);
            for (message, dead) in back {
                refused.insert(message.id.clone());
                let worn_out = message.times >= i32::from(self.manner.retries);
                let dead = dead || (worn_out && message.receipt.is_some());
                if !self.give_back(&addr, &message, dead, stop).await {
                    return false;
                }
            }
            batch = again;
            if !batch.is_empty() {
                let wait = if slow { LAST_PAUSE } else { pause };
                if timeout(wait, drained(stop)).await.is_ok() {
                    return false;
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
        if let Some((tracer, came)) = self.client.tracer.as_ref().zip(came) {
            let cost_ms = now_ms().saturating_sub(came.at_ms);
            for (subject, times) in came.subjects {
                let request = subject.attempt(came.at_ms, times);
                let (group, at_ms) = (&self.client.identity.group, came.at_ms);
                let kept = !refused.contains(&subject.id);
                let consumed = Consumed { group, request: &request, times, at_ms, cost_ms, kept };
                tracer.tell(consumed.of(&subject));
            }
        }
        true
    }

    /// Gives events to all subscribers, or to the group that is fed.
    fn offer(&self, events: Vec<Publish>) -> Admission {
        match &self.group {
            None => self.hub.publish(&self.who, events),
            Some(group) => self.hub.feed(group, events),
        }
    }

    /// The events that messages are, and the messages that are none.
    fn arrived(&self, pulled: Pulled, subscription: &Subscription) -> (Vec<Arrived>, Vec<Returned>) {
        let mut stamps = self.hub.stamps();
        let (mut batch, mut dead) = (Vec::new(), Vec::new());
        let again = subscription.topic.starts_with(RETRY);
        for mut message in pulled.messages {
            let value = |message: &StoredMessage, wanted: &str| {
                parse(&message.properties).find(|(name, _)| name == wanted).map(|(_, value)| value)
            };
            if let Wanted::Tags(_) = &subscription.wanted
                && !subscription.wanted.takes(&value(&message, "TAGS").unwrap_or_default())
            {
                // Another tag with the same hash.
                continue;
            }
            let back = Returned {
                offset: message.physical_offset,
                id: value(&message, "UNIQ_KEY").unwrap_or_default(),
                topic: message.topic.clone(),
                times: message.reconsume_times,
                receipt: pulled.receipts.get(&message.physical_offset).cloned(),
            };
            // What a group gave back came from one of its topics.
            let from = value(&message, "RETRY_TOPIC").filter(|_| again);
            let from = from.unwrap_or_else(|| subscription.topic.as_str().into());
            let whence = Whence {
                addr: &pulled.addr,
                cluster: pulled.cluster.as_deref(),
                expires_ms: defibus::expires_ms(&message),
            };
            match self.event(&mut message, &from, stamps.take(), &whence) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    let publish =
                        Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None };
                    batch.push(Arrived { publish, message: back, refused: 0 });
                }
                Err(error) => {
                    self.client.counters.unusable.increment(1);
                    warn!(
                        topic = &*message.topic,
                        offset = message.queue_offset,
                        error,
                        "a message is no event"
                    );
                    dead.push(back);
                }
            }
        }
        (batch, dead)
    }

    /// The event that a message is; `None`: its time is over, or it is a request for which there is no room.
    fn event(
        &self,
        message: &mut StoredMessage,
        from: &str,
        stamp: u64,
        whence: &Whence<'_>,
    ) -> Result<Option<Event>, String> {
        let Rule { topic, to } =
            self.rules.get(from).ok_or_else(|| format!("no rule has the topic {from}"))?;
        message.topic = topic.clone();
        let publisher = &self.who.client.0;
        let arrival = Arrival { now_ms: now_ms(), stamp, publisher, own: self.manner.own };
        let event = from_message(message, to, arrival).map_err(|error| error.to_string())?;
        match self.client.kind {
            Kind::Defibus | Kind::RocketMq if self.manner.own => Ok(Some(event)),
            Kind::Defibus => Ok(self.event_of_defibus(message, event, whence)),
            Kind::RocketMq => Ok(Some(self.event_of_rocketmq(message, event, whence))),
        }
    }

    /// A request in time can be answered; any other is an event like all, as it is to RocketMQ's own consumers.
    fn event_of_rocketmq(&self, message: &StoredMessage, event: Event, whence: &Whence<'_>) -> Event {
        let in_time = whence.expires_ms.is_none_or(|at| at > now_ms());
        let asked = rpc::asked(message).filter(|_| in_time);
        let opened =
            asked.zip(self.replier.as_ref()).and_then(|(asked, replier)| replier.open(&event, asked, whence));
        opened.unwrap_or(event)
    }

    /// Brokers of DeFiBus hand out what has expired, and requests.
    fn event_of_defibus(&self, message: &StoredMessage, event: Event, whence: &Whence<'_>) -> Option<Event> {
        let asked = Asked::of(message);
        let Some(expires_ms) = whence.expires_ms.filter(|_| asked.is_some() || !is_own(message)) else {
            // Another Weft says by itself when its event expires; it has a TTL because it has to.
            return match (asked, &self.replier) {
                (Some(asked), Some(replier)) => replier.open(&event, asked, whence),
                _ => Some(event),
            };
        };
        if expires_ms <= now_ms() {
            self.client.counters.expired.increment(1);
            return None;
        }
        if let (Some(asked), Some(replier)) = (asked, &self.replier) {
            return replier.open(&event, asked, whence);
        }
        let mut parts = event.parts().clone();
        parts.expires_ms = expires_ms;
        Some(Event::new(parts))
    }

    /// As [`sort`], but nothing passes what is refused: it is published again with all that is behind it.
    fn sort_in_order(&self, batch: Vec<Arrived>, outcome: &Outcome) -> Sorted {
        let mut sorted = Sorted::default();
        for (place, mut arrived) in batch.into_iter().enumerate() {
            let result = outcome.of(place);
            match result {
                Ok(()) if sorted.again.is_empty() => sorted.kept += 1,
                Err(reject) if fate(reject) != Fate::Again => {
                    arrived.refused += 1;
                    if arrived.refused > self.manner.retries || fate(reject) == Fate::Dead {
                        told(reject, "is a dead letter");
                        sorted.back.push((arrived.message, true));
                    } else {
                        sorted.slow = true;
                        sorted.again.push(arrived);
                    }
                }
                Ok(()) | Err(_) => sorted.again.push(arrived),
            }
        }
        sorted
    }

    /// Gives a message back; false: `stop` turned true before the broker had it.
    async fn give_back(
        &self,
        addr: &Arc<str>,
        message: &Returned,
        dead: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        if !self.client.kind.takes_back() {
            // CONSUMER_SEND_MSG_BACK fails there for every message, and nobody gets what is in a retry topic.
            self.client.counters.unusable.increment(1);
            return true;
        }
        let trouble = format!("giving back to {addr}");
        let (mut pause, mut not_found) = (FIRST_PAUSE, 0);
        loop {
            let group = &self.client.identity.group;
            let command = match &message.receipt {
                Some(receipt) if !dead => receipt.put_off(group, &message.topic, put_off_ms(message.times)),
                Some(_) | None => request::give_back(group, message, self.manner.retries, dead),
            };
            let Err(error) = self.client.ask_well(addr, command).await else {
                self.client.counters.returned.increment(1);
                self.client.condition.no_trouble(&trouble);
                return true;
            };
            debug!(topic = &*message.topic, %error, "a message could not be given back");
            if let CallError::Code { code, .. } = &error {
                self.client.condition.trouble(&trouble, error.to_string());
                not_found += u32::from(*code == response::SYSTEM_ERROR);
                if not_found > NOT_FOUND_MOST {
                    warn!(topic = &*message.topic, %error, "a message that was refused here is lost to its broker, too");
                    self.client.counters.unusable.increment(1);
                    self.client.condition.no_trouble(&trouble);
                    return true;
                }
            }
            if timeout(pause, drained(stop)).await.is_ok() {
                return false;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// In how many milliseconds a message comes again that was popped and refused `times` times before: as those that are given back.
fn put_off_ms(times: i32) -> i64 {
    const SECONDS: [i64; 16] =
        [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
    let place = usize::try_from(times).unwrap_or_default().min(SECONDS.len() - 1);
    SECONDS.get(place).map_or(10_000, |seconds| seconds * 1000)
}

/// What has to happen with what a hub refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Weft is not able to take it now: it waits here, and so does its queue.
    Again,
    /// It is refused for what it is, or for whom it goes to; that may change.
    Back,
    /// It will never pass.
    Dead,
}

fn fate(reject: &Reject) -> Fate {
    match reject.kind {
        RejectKind::Busy | RejectKind::Unavailable | RejectKind::Closed => Fate::Again,
        RejectKind::Denied | RejectKind::Unproved => Fate::Back,
        RejectKind::Malformed => Fate::Dead,
    }
}

fn sort(batch: Vec<Arrived>, outcome: &Outcome) -> Sorted {
    let mut sorted = Sorted::default();
    for (place, arrived) in batch.into_iter().enumerate() {
        let Err(reject) = outcome.of(place) else {
            sorted.kept += 1;
            continue;
        };
        match fate(reject) {
            Fate::Again => sorted.again.push(arrived),
            Fate::Back => {
                told(reject, "goes back to RocketMQ");
                sorted.back.push((arrived.message, false));
            }
            Fate::Dead => {
                told(reject, "is a dead letter");
                sorted.back.push((arrived.message, true));
            }
        }
    }
    sorted
}

fn told(reject: &Reject, fate: &str) {
    warn!(reason = %reject, "a message from RocketMQ is refused and {fate}");
}
