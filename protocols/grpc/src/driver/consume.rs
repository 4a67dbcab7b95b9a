//! Streams of events: a client subscribes, takes events, and replies, all on one stream.
//!
//! An event is done when the client has taken its bytes off the connection: when it answered a PING that was written behind
//! them ([`crate::wire`]). A stream that breaks earlier gives back what is not done, and its group's other members get it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use event::hub::{Attach, Closed, Delivery, Room, Subscribe, SubscribeOptions};
use event::{Guarantee, Principal};
use eventmesh::Order;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use prost::Message;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};
use webhook::{Refused, Wanted};

use crate::binding;
use crate::driver::body::Held;
use crate::driver::{Site, now_ms, publish};
use crate::error::{Answer, Code};
use crate::proto::CloudEvent;
use crate::registry::{Client, Member};
use crate::request::{self, Interest};

/// How one generation of the services writes what goes to a stream.
pub(super) trait Dialect: Send + 'static {
    /// What the client sends.
    type In: Message + Default + 'static;
    /// What it gets.
    type Out: Message + Default + 'static;
    /// A message of the client.
    fn read(site: &Site, message: Self::In) -> CloudEvent;
    /// An event for the client.
    fn event(delivery: &Delivery) -> Self::Out;
    /// What became of a message of the client: that message, marked.
    fn answer(marked: CloudEvent) -> Self::Out;
}

/// One stream.
pub(super) struct Reader<D: Dialect> {
    site: Site,
    headers: HeaderMap,
    held: Held,
    inbound: Streaming<D::In>,
    /// Its stream in HTTP/2, as [`crate::wire`] counts it.
    id: u32,
    /// A session for each group.
    members: Vec<(Arc<Member>, Principal)>,
    ready: VecDeque<Ready<D::Out>>,
    taken: Vec<Delivery>,
    /// Bytes that were given to the stream, and which deliveries end where.
    given: u64,
    out: VecDeque<(u64, usize, u64)>,
    /// When the client's proof of who it is ends.
    until: Option<Instant>,
    /// Operators' orders to the members.
    orders: FuturesUnordered<BoxFuture<'static, Option<Order>>>,
    ending: bool,
}

/// Something to send.
enum Ready<M> {
    Answer(M),
    /// A delivery, of the member at this place.
    Event(usize, Delivery),
}

/// What happened.
enum Turn<M> {
    Drain,
    Proof,
    Message(Result<Option<M>, Status>),
    Delivered(usize, Result<(), Closed>),
    Ordered(Option<Order>),
    Expired,
}

impl<D: Dialect> Reader<D> {
    pub(super) fn new(
        site: Site,
        id: u32,
        held: Held,
        headers: HeaderMap,
        inbound: Streaming<D::In>,
    ) -> Self {
        site.sent.with(|wire| wire.watch(id));
        metrics::counter!("weft_grpc_streams_opened_total").increment(1);
        Self {
            site,
            headers,
            held,
            inbound,
            id,
            members: Vec::new(),
            ready: VecDeque::new(),
            taken: Vec::new(),
            given: 0,
            out: VecDeque::new(),
            until: None,
            orders: FuturesUnordered::new(),
            ending: false,
        }
    }

    /// The next message for the client; `None`: the stream ends in order. Not cancel-safe: what was read is lost.
    pub(super) async fn next(&mut self) -> Option<Result<D::Out, Status>> {
        loop {
            self.acknowledge();
            if let Some(message) = self.take_ready() {
                return Some(Ok(message));
            }
            if self.ending {
                return None;
            }
            match self.turn().await {
                Turn::Drain => return Some(Err(Status::unavailable("weft is stopping"))),
                Turn::Expired => {
                    return Some(Err(Status::unauthenticated("the proof of who you are has expired")));
                }
                Turn::Proof => {}
                // The client is done, or gone.
                Turn::Message(Ok(None) | Err(_)) => return None,
                Turn::Message(Ok(Some(message))) => {
                    self.held.release();
                    let message = D::read(&self.site, message);
                    self.handle(message).await;
                }
                Turn::Delivered(at, Ok(())) => {
                    self.ready.extend(self.taken.drain(..).map(|d| Ready::Event(at, d)))
                }
                Turn::Delivered(_, Err(why)) => return Some(Err(closed(why))),
                Turn::Ordered(None) => {}
                Turn::Ordered(Some(order)) => return Some(Err(ordered(&order))),
            }
        }
    }

    /// Waits for the next thing to happen. Cancel-safe.
    async fn turn(&mut self) -> Turn<D::In> {
        let window = usize::from(self.site.shared.options.window.max(1));
        let numbered = u16::try_from(window.saturating_sub(self.out.len())).unwrap_or(u16::MAX);
        let room = Room { numbered, bytes: CHUNK_BYTES };
        let have = self.site.sent.with(|wire| wire.confirmed(self.id));
        let until = self.until;
        tokio::select! {
            biased;
            _ = self.site.drain.wait_for(|drain| *drain) => Turn::Drain,
            Some(order) = self.orders.next(), if !self.orders.is_empty() => Turn::Ordered(order),
            _ = self.site.sent.more_than(self.id, have), if !self.out.is_empty() => Turn::Proof,
            message = self.inbound.message() => Turn::Message(message),
            (at, taken) = poll_fn(|cx| {
                for (at, (member, _)) in self.members.iter().enumerate() {
                    let mut link = member.link.lock();
                    let Some(link) = link.as_mut() else { continue };
                    if let Poll::Ready(taken) = link.poll_deliveries(cx, room, &mut self.taken) {
                        return Poll::Ready((at, taken));
                    }
                }
                Poll::Pending
            }), if numbered > 0 => Turn::Delivered(at, taken),
            () = at(until) => Turn::Expired,
        }
    }

    /// The next message that is ready. What is not wanted any more stays without an ack, and goes to the others of the group.
    fn take_ready(&mut self) -> Option<D::Out> {
        while let Some(ready) = self.ready.pop_front() {
            let (message, of) = match ready {
                Ready::Answer(message) => (message, None),
                Ready::Event(at, delivery) => {
                    let wants =
                        self.members.get(at).is_some_and(|(member, _)| member.wants(delivery.event.topic()));
                    if !wants {
                        continue;
                    }
                    metrics::counter!("weft_grpc_events_sent_total").increment(1);
                    (D::event(&delivery), delivery.number.map(|number| (at, number)))
                }
            };
            self.given += PREFIX + message.encoded_len() as u64;
            if let Some((at, number)) = of {
                self.out.push_back((self.given, at, number));
            }
            return Some(message);
        }
        None
    }

    /// Acks what the client has.
    fn acknowledge(&mut self) {
        let confirmed = self.site.sent.with(|wire| wire.confirmed(self.id));
        let done = self.out.partition_point(|(end, ..)| *end <= confirmed);
        if done == 0 {
            return;
        }
        let done: Vec<_> = self.out.drain(..done).collect();
        for (at, (member, _)) in self.members.iter().enumerate() {
            let numbers: Vec<u64> =
                done.iter().filter(|(_, of, _)| *of == at).map(|(.., number)| *number).collect();
            if let Some(link) = member.link.lock().as_mut().filter(|_| !numbers.is_empty()) {
                link.ack(&numbers);
            }
        }
    }

    /// Does what the client asks. An error is told, and ends the stream.
    async fn handle(&mut self, message: CloudEvent) {
        let is_reply = request::is_reply(&message);
        let done = match is_reply {
            true => self.reply(message.clone()).await,
            false => self.subscribe(&message).await,
        };
        let answer = match done {
            // Nobody waits for an answer to a reply.
            Ok(()) if is_reply => return,
            Ok(()) => Answer::success(),
            Err(answer) => {
                self.ending = true;
                answer
            }
        };
        let mut marked = answer.mark(binding::without_secrets(message), now_ms());
        // Java's SDK tells answers from events by these two.
        marked.attributes.retain(|entry| entry.name != "seqnum" && entry.name != "uniqueid");
        self.ready.push_back(Ready::Answer(D::answer(marked)));
    }

    async fn reply(&mut self, message: CloudEvent) -> Result<(), Answer> {
        let (_, who) =
            self.members.first().ok_or_else(|| Answer::new(Code::Reply, "nothing is subscribed"))?;
        publish::reply(&self.site, who, message).await
    }

    async fn subscribe(&mut self, message: &CloudEvent) -> Result<(), Answer> {
        let interest = request::interest(message)?;
        let has = |topic: &str| {
            self.members.iter().any(|(member, _)| member.group == interest.group && member.has(topic))
        };
        let new = interest.items.iter().filter(|item| !has(&item.topic)).count();
        let topics: usize = self.members.iter().map(|(member, _)| member.topics()).sum();
        let most = usize::try_from(self.site.shared.options.subscriptions_max).unwrap_or(usize::MAX);
        if topics + new > most {
            return Err(Answer::new(
                Code::Body,
                format!("at most {most} subscriptions are taken on one stream"),
            ));
        }
        let member = self.member(&interest).await?;
        let mut wanted = Vec::with_capacity(interest.items.len());
        for item in &interest.items {
            let filter = eventmesh::filter(&interest.group, &item.topic, item.mode)
                .map_err(|error| Answer::new(Code::Body, format!("topic {:?}: {error}", item.topic)))?;
            let select = item.select.clone();
            wanted.push(Subscribe {
                select,
                ..Subscribe::new(filter, SubscribeOptions::new(Guarantee::AtLeastOnce))
            });
        }
        // Noted first, so that what comes at once is wanted.
        let mut old = Vec::new();
        for (item, subscribe) in interest.items.iter().zip(&wanted) {
            old.extend(member.add(&item.topic, subscribe.filter.clone()));
        }
        let granted = {
            let mut link = member.link.lock();
            link.as_mut()
                .map(|link| (link.subscribe(wanted), (!old.is_empty()).then(|| link.unsubscribe(old))))
        };
        let Some((granted, dropped)) = granted else {
            return Err(Answer::new(Code::Subscribe, "the stream is over"));
        };
        if let Some(dropped) = dropped {
            dropped.await.map_err(failed)?;
        }
        let granted = granted.await.map_err(failed)?;
        for (item, granted) in interest.items.iter().zip(granted) {
            if let Err(reject) = granted {
                member.remove(&item.topic);
                return Err(failed(reject));
            }
            if let Some(older) = self.site.shared.registry.enter(&member, &item.topic) {
                give_up(&older, &item.topic).await;
            }
        }
        Ok(())
    }

    /// The session for the group, made if it is not there.
    async fn member(&mut self, interest: &Interest) -> Result<Arc<Member>, Answer> {
        if let Some((member, _)) = self.members.iter().find(|(member, _)| member.group == interest.group) {
            return Ok(Arc::clone(member));
        }
        if self.members.len() == GROUPS_MAX {
            return Err(Answer::new(
                Code::Body,
                format!("at most {GROUPS_MAX} groups are taken on one stream"),
            ));
        }
        let Interest { caller, group, .. } = interest;
        let stamp = self.site.shared.hub.stamps().take();
        let name = format!("$grpc/{group}/{}:{}/{stamp:x}", caller.ip, caller.pid);
        let who = self.site.admit(&name, &self.headers, caller.credentials.clone()).await?;
        if let Some(until_ms) = who.until_ms {
            let end = Instant::now() + Duration::from_millis(until_ms.saturating_sub(now_ms()));
            self.until = Some(self.until.map_or(end, |until| until.min(end)));
        }
        let request = Attach { protocol: "gRPC", ..Attach::default() };
        let attached = self.site.shared.hub.attach(who.clone(), request).await.map_err(failed)?;
        let (agent, peer) = (caller.agent(group), self.site.source.address);
        let shown = eventmesh::Client { agent, peer, protocol: PROTOCOL, url: None, topics: Vec::new() };
        let (registered, mut orders) = self.site.shared.clients.register(shown);
        self.orders.push(Box::pin(async move {
            orders.wait_for(Option::is_some).await.ok().and_then(|order| order.clone())
        }));
        let client = Client::new(caller, who.user.clone());
        let member = Member::new(group.clone(), client, attached.link, registered);
        self.members.push((Arc::clone(&member), who));
        Ok(member)
    }
}

/// The stream is over, however it came: its groups know at once.
impl<D: Dialect> Drop for Reader<D> {
    fn drop(&mut self) {
        self.acknowledge();
        self.members.iter().for_each(|(member, _)| self.site.shared.registry.end(member));
        self.site.sent.with(|wire| wire.forget(self.id));
        metrics::counter!("weft_grpc_streams_closed_total").increment(1);
    }
}

/// Subscribes a webhook. Not cancel-safe: dropped, some topics may be subscribed.
pub(super) async fn subscribe_webhook(site: &Site, headers: &HeaderMap, message: &CloudEvent) -> Answer {
    let done = async {
        let interest = request::interest(message)?;
        let url = interest.url.as_deref();
        let url = url.ok_or_else(|| {
            Answer::new(Code::Body, "attribute url is missing: it says where to send events")
        })?;
        let hooks = &site.shared.hooks;
        let name = hooks.session_name(&interest.group);
        let who = site.admit(&name, headers, interest.caller.credentials.clone()).await?;
        let wanted = Wanted {
            group: &interest.group,
            url,
            client: &interest.caller.name(),
            items: &interest.items,
            watched: true,
            write: binding::push,
            shown: (interest.caller.agent(&interest.group), site.source.address, PROTOCOL),
        };
        hooks.subscribe(who, wanted).await.map_err(|refused| match refused {
            Refused::Url(_) | Refused::Consent(..) | Refused::Name(_) => {
                Answer::new(Code::Body, refused.to_string())
            }
            Refused::Rejected(reject) => failed(reject),
        })
    };
    let done: Result<(), Answer> = done.await;
    done.map_or_else(|answer| answer, |()| Answer::new(Code::Success, "subscribe success"))
}

/// Ends subscriptions of a stream, or a webhook, of the client that asks. Not cancel-safe: dropped, some may be ended.
pub(super) async fn unsubscribe(site: &Site, headers: &HeaderMap, message: &CloudEvent) -> Answer {
    let done = async {
        let interest = request::interest(message)?;
        let who = site.admit("$grpc", headers, interest.caller.credentials.clone()).await?;
        let topics = interest.items.iter().map(|item| item.topic.as_str());
        // What is not there needs no ending.
        if let Some(url) = &interest.url {
            let client = interest.caller.name();
            site.shared.hooks.unsubscribe(&interest.group, url, who.user, Some(&client), topics).await;
            return Ok(());
        }
        let client = Client::new(&interest.caller, who.user);
        for topic in topics {
            if let Some(member) = site.shared.registry.find(&interest.group, &client, topic) {
                site.shared.registry.leave(&member, topic);
                give_up(&member, topic).await;
            }
        }
        Ok(())
    };
    let done: Result<(), Answer> = done.await;
    done.map_or_else(|answer| answer, |()| Answer::new(Code::Success, "unsubscribe success"))
}

/// Takes a sign of life; tells a client that is not known as it believes to be that it has to subscribe again. Cancel-safe.
pub(super) async fn heartbeat(site: &Site, headers: &HeaderMap, message: &CloudEvent) -> Answer {
    let done = async {
        let heartbeat = request::heartbeat(message)?;
        let who = site.admit("$grpc", headers, heartbeat.caller.credentials.clone()).await?;
        let (name, client) = (heartbeat.caller.name(), Client::new(&heartbeat.caller, who.user));
        let mut unknown = None;
        for item in &heartbeat.items {
            let by_stream = site.shared.registry.find(&heartbeat.group, &client, &item.topic).is_some();
            let by_webhook = site.shared.hooks.touch(&heartbeat.group, &name, &item.topic);
            if !by_stream && !by_webhook {
                unknown = Some(&item.topic);
            }
        }
        match unknown {
            None => Ok(()),
            Some(topic) => Err(Answer::new(Code::Resubscribe, format!("topic {topic:?} is not subscribed"))),
        }
    };
    let done: Result<(), Answer> = done.await;
    done.map_or_else(|answer| answer, |()| Answer::success())
}

/// `member` gets no more events of `topic`.
async fn give_up(member: &Member, topic: &str) {
    let Some(filter) = member.remove(topic) else { return };
    let ended = member.link.lock().as_mut().map(|link| link.unsubscribe(vec![filter]));
    if let Some(ended) = ended {
        // The session is going if this fails, and its subscriptions with it.
        ended.await.map(drop).unwrap_or(());
    }
}

fn failed(reject: event::Reject) -> Answer {
    Answer::of(&reject, Code::Subscribe)
}

fn closed(why: Closed) -> Status {
    match why {
        Closed::TakenOver => Status::aborted("a newer stream has the session"),
        Closed::Ended => Status::aborted("an operator ended the session"),
        Closed::QueueFull => Status::resource_exhausted("the queue of the session is full"),
        Closed::Stopping => Status::unavailable("weft is stopping"),
    }
}

/// How a stream ends that an operator ended. gRPC has no redirect: whoever reads the text may follow it.
fn ordered(order: &Order) -> Status {
    match order {
        Order::Leave => Status::aborted("an operator ended the stream"),
        Order::Redirect { ip, port } => {
            Status::unavailable(format!("an operator asks to go on at {ip}, port {port}"))
        }
    }
}

/// What operators call this protocol.
const PROTOCOL: &str = "GRPC";

/// Resolves at `when`. Cancel-safe.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// What one look takes from a mailbox: a client that does not read holds no more than this.
const CHUNK_BYTES: usize = 64 << 10;

/// gRPC's length prefix of a message.
const PREFIX: u64 = 5;

/// Groups of one stream.
const GROUPS_MAX: usize = 16;
