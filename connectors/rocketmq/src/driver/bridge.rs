//! The way out of a bridge: a durable session whose deliveries go to RocketMQ and are acked after SEND_OK.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{
    Attach, Close, Closed, Delivery, Hub, Link, Publish, RetainedWanted, Room, Subscribe, SubscribeOptions,
};
use event::{Bucket, Event, Guarantee, Principal, Rate, Reject, RejectKind, TopicFilter, dead_letter};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::client::{Client, now_ms};
use super::drained;
use super::live::Live;
use super::requester::Requester;
use super::sender::{Done, Failure, Lanes, Sender};
use crate::address::{Address, Target};
use crate::binding::{Labels, to_message};
use crate::error::Unfit;
use crate::outbox::Item;
use crate::share::{Ahead, Found};

/// Forwards what its rules match.
pub(super) struct Outlet {
    pub(super) client: Arc<Client>,
    pub(super) hub: Arc<dyn Hub>,
    /// The session.
    pub(super) who: Principal,
    pub(super) rules: Vec<Way>,
    /// How many events go out in a second.
    pub(super) rate: Option<Rate>,
    /// For how long an event is offered again that RocketMQ refuses.
    pub(super) patience: Duration,
    /// Where dead letters go, and the name of the bridge there.
    pub(super) dead_letters: (String, String),
    /// Sends what asks for a reply as a request.
    pub(super) requester: Option<Requester>,
    /// Percent of the turns that events have as they are published while there is a backlog.
    pub(super) live_share: u8,
}

/// Where events go.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) filter: TopicFilter,
    pub(super) address: Address,
    /// Those that name a topic for their reply go as requests.
    pub(super) requests: bool,
}

/// What comes back with a message: whose turn it was, and the event, if it becomes a dead letter.
type Ticket = (Turn, Event);

/// When an event goes.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// In the order of the log; the delivery's number.
    Own(Option<u64>),
    /// Ahead of a backlog.
    Ahead,
}

/// A dead letter on its way; gives the ticket back when it is kept, or can never be.
type Burial = Pin<Box<dyn Future<Output = Ticket> + Send>>;

/// Dead letters on their way at most; beyond it nothing more is taken.
const BURIALS: usize = 256;
/// Events of one turn while events that are published and a backlog take turns.
const SLICE: usize = 32;
/// RocketMQ topics that one bridge writes to at most.
const TOPICS: usize = 1000;
/// Between two tries to get the session.
const PAUSE: Duration = Duration::from_secs(1);
/// How long requests that are out may take when it ends. What is not acked then goes again when the next one begins.
const LEAVE: Duration = Duration::from_secs(2);

impl Outlet {
    /// Forwards until `drain` turns true. `subscribed`: what its session may have subscribed so far.
    pub(super) async fn run(&self, mut drain: watch::Receiver<bool>, subscribed: &mut Vec<TopicFilter>) {
        if self.requester.is_some() {
            // A request says who asks, which is known with the first connection.
            tokio::select! {
                biased;
                () = drained(&mut drain) => return,
                () = self.client.named() => {}
            }
        }
        loop {
            let attached = tokio::select! {
                biased;
                () = drained(&mut drain) => return,
                attached = self.attach(subscribed) => attached,
            };
            let link = match attached {
                Ok(link) => link,
                Err(reject) => {
                    warn!(session = %self.who.client, reason = %reject, "the bridge cannot have its session");
                    pause(&mut drain).await;
                    continue;
                }
            };
            match self.forward(link, &mut drain).await {
                Ok(()) | Err(Closed::Stopping) => return,
                Err(why @ (Closed::TakenOver | Closed::Ended | Closed::QueueFull)) => {
                    warn!(session = %self.who.client, ?why, "the bridge lost its session");
                    pause(&mut drain).await;
                }
            }
        }
    }

    /// Takes up the session, with the filters of the rules and no others. Cancel-safe: what `subscribed` names may be subscribed.
    async fn attach(&self, subscribed: &mut Vec<TopicFilter>) -> Result<Box<dyn Link>, Reject> {
        let protocol = self.client.kind.title();
        let request = Attach { keep: Duration::MAX, protocol, keep_all: true, ..Attach::default() };
        let mut attached = self.hub.attach(self.who.clone(), request).await?;
        attached.link.ack(&attached.unreleased);
        // RocketMQ repeats after a crash; more than at-least-once would promise what it cannot keep.
        let filters: Vec<TopicFilter> = self.rules.iter().map(|way| way.filter.clone()).collect();
        subscribed.retain(|filter| !filters.contains(filter));
        let old = subscribed.clone();
        subscribed.extend(filters.iter().cloned());
        let mut link = self.subscribe(attached.link, Guarantee::AtLeastOnce).await?;
        if !old.is_empty() {
            link.unsubscribe(old).await?;
        }
        *subscribed = filters;
        Ok(link)
    }

    pub(super) async fn subscribe(
        &self,
        mut link: Box<dyn Link>,
        guarantee: Guarantee,
    ) -> Result<Box<dyn Link>, Reject> {
        let options = SubscribeOptions {
            no_local: true,
            retained: RetainedWanted::Never,
            ..SubscribeOptions::new(guarantee)
        };
        let wanted = self.rules.iter().map(|way| Subscribe::new(way.filter.clone(), options)).collect();
        for granted in link.subscribe(wanted).await? {
            granted?;
        }
        Ok(link)
    }

    /// Forwards until the session is lost, or `drain` turns true (`Ok`).
    async fn forward(
        &self,
        mut link: Box<dyn Link>,
        drain: &mut watch::Receiver<bool>,
    ) -> Result<(), Closed> {
        let mut work = Work {
            sender: Sender::new(Arc::clone(&self.client), Some(self.patience)),
            burials: FuturesUnordered::new(),
            topics: BTreeSet::new(),
            ahead: Ahead::default(),
        };
        let mut live = Live::new(self.live_share);
        let bucket = self.rate.map(|rate| Bucket::new(rate, Instant::now().into_std()));
        let mut deliveries = Vec::new();
        loop {
            let (bytes, count) = work.sender.room();
            let most = if live.is_open() { count.min(SLICE) } else { count };
            let room = Room { numbered: u16::try_from(most).unwrap_or(u16::MAX), bytes };
            let debt = bucket.as_ref().map(|bucket| bucket.wait(Instant::now().into_std()));
            let debt = debt.filter(|debt| !debt.is_zero());
            let has_room = bytes > 0 && count > 0 && work.burials.len() < BURIALS && debt.is_none();
            let charge = |count: usize| {
                if let Some(bucket) = &bucket {
                    bucket.charge(count as u64, Instant::now().into_std());
                }
            };
            let may_go_ahead = has_room && live.waits() && work.ahead.has_room();
            if may_go_ahead && live.takes_turn() {
                let events = live.take(count.min(SLICE));
                charge(events.len());
                for event in events {
                    if work.ahead.goes(event.parts().stamp) {
                        self.push(&mut work, link.as_mut(), event, Turn::Ahead);
                    }
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(ticket) = work.burials.next() => link.dead_lettered(work.done(&ticket).as_slice()),
                done = work.sender.progress() => self.settle(&mut work, link.as_mut(), done),
                () = drained(drain) => break,
                () = sleep(debt.unwrap_or_default()), if debt.is_some() => {}
                () = live.listen(&self.who) => {}
                taken = poll_fn(|cx| link.poll_deliveries(cx, room, &mut deliveries)), if has_room => {
                    taken?;
                    charge(deliveries.len());
                    live.follow(self, deliveries.last()).await;
                    for Delivery { event, number, .. } in deliveries.drain(..) {
                        match work.ahead.found(event.parts().stamp, number) {
                            Found::Nothing => self.push(&mut work, link.as_mut(), event, Turn::Own(number)),
                            Found::Out => {}
                            Found::Done => link.ack(number.as_slice()),
                        }
                    }
                }
                // The backlog has nothing just now: its turn is over.
                () = std::future::ready(()), if may_go_ahead => {}
            }
        }
        self.finish(&mut work, link.as_mut()).await;
        link.close(Close { will: false, keep: None });
        Ok(())
    }

    /// Waits for what is out, but not for long.
    async fn finish(&self, work: &mut Work, link: &mut dyn Link) {
        let finish = async {
            while !(work.sender.is_empty() && work.burials.is_empty()) {
                tokio::select! {
                    Some(ticket) = work.burials.next() => link.dead_lettered(work.done(&ticket).as_slice()),
                    done = work.sender.progress() => self.settle(work, link, done),
                }
            }
        };
        if timeout(LEAVE, finish).await.is_err() {
            debug!(session = %self.who.client, "left with events that go again later");
        }
    }

    fn push(&self, work: &mut Work, link: &mut dyn Link, event: Event, turn: Turn) {
        let way = self.rules.iter().find(|way| way.filter.matches(event.topic()));
        let Some(Way { address, requests, .. }) = way else {
            // A rule that was taken out of the configuration.
            return link.ack(work.done(&(turn, event)).as_slice());
        };
        let target = match self.target(work, address, &event) {
            Ok(target) => target,
            Err(error) => return self.bury(work, link, (turn, event), &error.to_string()),
        };
        let labels = Labels { tags: target.tags.as_deref(), key: target.key.as_deref() };
        let key = target.key.as_deref().unwrap_or(event.topic().as_str());
        let lanes = match turn {
            Turn::Own(_) => Lanes::InOrder,
            Turn::Ahead => Lanes::Ahead,
        };
        let ticket = (turn, event.clone());
        let reply_to = event.meta().and_then(|meta| meta.reply_to.as_ref());
        if let Some((requester, reply_to)) = self.requester.as_ref().zip(reply_to).filter(|_| *requests) {
            match requester.request(&event, labels, reply_to) {
                Ok((message, ttl)) => {
                    // What was sent in a batch does not say where it lies, and cannot be answered.
                    let deadline = Some((Instant::now() + ttl).into_std());
                    let item = Item { message, ticket: Some(ticket), deadline, alone: true };
                    work.sender.push(&target.topic, (lanes, key), item);
                }
                Err(error) => {
                    // Who asked waits no longer than for any other: nobody wants a dead letter.
                    warn!(session = %self.who.client, %error, "a request is not sent");
                    link.ack(work.done(&ticket).as_slice());
                }
            }
            return;
        }
        let options = &self.client.options;
        let properties = self.client.kind.properties(&event, options.ttl_ms, now_ms());
        match to_message(&event, labels, properties, options.message_max.as_usize()) {
            Ok(message) => {
                let item = Item { message, ticket: Some(ticket), deadline: None, alone: false };
                work.sender.push(&target.topic, (lanes, key), item);
            }
            Err(error) => self.bury(work, link, ticket, &error.to_string()),
        }
    }

    fn target(&self, work: &mut Work, address: &Address, event: &Event) -> Result<Target, Unfit> {
        let options = &self.client.options;
        let target = address.of(event, |name| options.wrap(name))?;
        if address.fixed().is_none() && !work.topics.contains(&target.topic) {
            if work.topics.len() >= TOPICS {
                return Err(Unfit::Topics(TOPICS));
            }
            work.topics.insert(Arc::clone(&target.topic));
        }
        Ok(target)
    }

    /// What is sent is done; what RocketMQ refused becomes a dead letter first.
    fn settle(&self, work: &mut Work, link: &mut dyn Link, done: Vec<Done<Ticket>>) {
        let mut numbers = Vec::with_capacity(done.len());
        for (ticket, result) in done {
            match result {
                // Only requests have a deadline: who asked waits no more.
                Ok(()) | Err(Failure::Late | Failure::Full) => numbers.extend(work.done(&ticket)),
                Err(failure) => self.bury(work, link, ticket, &failure.to_string()),
            }
        }
        link.ack(&numbers);
    }

    fn bury(&self, work: &mut Work, link: &mut dyn Link, ticket: Ticket, reason: &str) {
        self.client.counters.refused.increment(1);
        warn!(session = %self.who.client, topic = %ticket.1.topic(), reason, "an event cannot go to RocketMQ");
        let (place, part) = &self.dead_letters;
        let Some(letter) = dead_letter(place, part, &ticket.1, reason) else {
            return link.ack(work.done(&ticket).as_slice());
        };
        let (hub, who, reason) = (Arc::clone(&self.hub), self.who.clone(), reason.to_owned());
        work.burials.push(Box::pin(async move {
            keep(hub.as_ref(), &who, letter.clone()).await;
            hub.audit().buried(&ticket.1, &letter, &reason, std::time::Instant::now());
            ticket
        }));
    }
}

/// What a connection of the session has under way.
struct Work {
    sender: Sender<Ticket>,
    burials: FuturesUnordered<Burial>,
    /// Topics that templates made.
    topics: BTreeSet<Arc<str>>,
    /// What went ahead of its turn.
    ahead: Ahead,
}

impl Work {
    /// An event is done; the number to ack, if there is one already.
    fn done(&mut self, (turn, event): &Ticket) -> Option<u64> {
        match turn {
            Turn::Own(number) => *number,
            Turn::Ahead => self.ahead.done(event.parts().stamp),
        }
    }
}

/// Publishes a dead letter; tries until it is kept, or can never be.
async fn keep(hub: &dyn Hub, who: &Principal, letter: Event) {
    loop {
        let publish =
            Publish { event: letter.clone(), guarantee: Guarantee::AtLeastOnce, retain: false, id: None };
        match hub.publish(who, vec![publish]).receipt().await.await.whole() {
            Ok(()) => return,
            Err(reject) => match reject.kind {
                RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied => {
                    warn!(topic = %letter.topic(), %reject, "a dead letter is lost");
                    return;
                }
                RejectKind::Busy | RejectKind::Unavailable | RejectKind::Closed => sleep(PAUSE).await,
            },
        }
    }
}

/// Waits before the next try, unless Weft stops.
async fn pause(drain: &mut watch::Receiver<bool>) {
    timeout(PAUSE, drained(drain)).await.unwrap_or(());
}
