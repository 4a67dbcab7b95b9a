//! Posts to the webhooks that the configuration names: each is a durable session, acked when the webhook took an event.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use event::hub::{Attach, Closed, Delivery, Hub, Link, RetainedWanted, Room, Subscribe, SubscribeOptions};
use event::{Breaker, Bucket, Event, Guarantee, Principal, Rate, Reject, TopicFilter, dead_letter};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use parts::Place;
use reqwest::Method;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::plan::Plan;
use super::poster::{self, Answer};
use super::standing::Standing;
use super::{bury, close, now_ms, turned};
use crate::binding::{Post, Verdict};
use crate::keys::{Keys, key};
use crate::named::HookOptions;
use crate::push::REQUEST_ORIGIN;

/// One webhook, as long as its plan holds.
pub(super) struct Named {
    name: String,
    who: Principal,
    hub: Arc<dyn Hub>,
    plan: Arc<Plan>,
    standing: Arc<Standing>,
    over: watch::Receiver<bool>,
    breaker: Breaker,
    /// Nothing is posted before: the webhook said so.
    not_before: Mutex<Option<Instant>>,
    /// What it allows in a minute, if it was asked.
    rate: OnceLock<Bucket>,
    /// Told when the breaker closes.
    closes: watch::Sender<()>,
}

/// What became of a delivery.
enum Fate {
    /// It is done: ack this number, and so many bytes are free.
    Done(Option<u64>, usize),
    /// As that, by way of a dead letter.
    Dead(Option<u64>, usize),
    /// Weft stops.
    Left,
    /// The webhook wants nothing any more.
    Gone,
}

/// Why a session is not served any more.
enum End {
    Stopping,
    Lost(Closed),
    Gone,
}

impl Named {
    pub(super) fn new(plan: Arc<Plan>, place: Place<Standing>) -> Self {
        let options = &plan.options;
        let Place { name, who, hub, standing, over } = place;
        Self {
            name: name.to_string(),
            who,
            hub,
            standing,
            over,
            breaker: Breaker::new(options.failures_max.max(1).into(), millis(options.pause_ms)),
            not_before: Mutex::default(),
            rate: OnceLock::new(),
            closes: watch::Sender::default(),
            plan,
        }
    }

    fn options(&self) -> &HookOptions {
        &self.plan.options
    }

    /// Posts until its plan is over. `subscribed`: what its session may have subscribed so far. Not cancel-safe: events that
    /// are out go again.
    pub(super) async fn run(&self, subscribed: &mut Vec<TopicFilter>) {
        let mut drain = self.over.clone();
        let mut to_ask = self.options().origin.as_deref();
        loop {
            let attached = tokio::select! {
                biased;
                () = turned(&mut drain) => return,
                attached = self.attach(subscribed) => attached,
            };
            // From here on it is owed what is published, whether it may be posted already or not.
            let link = match attached {
                Ok(link) => link,
                Err(reject) => {
                    self.standing.down(format!("its session cannot be had: {reject}"));
                    pause(&mut drain).await;
                    continue;
                }
            };
            if let Some(origin) = to_ask {
                tokio::select! {
                    biased;
                    () = turned(&mut drain) => return close(Some(link)),
                    () = self.consent(origin) => to_ask = None,
                }
            }
            if !self.breaker.is_open() {
                self.standing.up();
            }
            match self.serve(link, &mut drain).await {
                End::Stopping | End::Lost(Closed::Stopping) => return,
                End::Gone => {
                    self.standing.down(GONE);
                    return turned(&mut drain).await;
                }
                End::Lost(why @ (Closed::TakenOver | Closed::Ended | Closed::QueueFull)) => {
                    tracing::warn!(hook = self.name, ?why, "a webhook has lost its session");
                    pause(&mut drain).await;
                }
            }
        }
    }

    /// Asks until the webhook lets us post. Cancel-safe.
    async fn consent(&self, origin: &str) {
        self.standing.down("it has not said yet whether we may post");
        for times in 1.. {
            let asking = self.plan.client.request(Method::OPTIONS, self.plan.target.url().clone());
            let reason = match poster::ask(asking, origin).await {
                Ok(consent) if consent.consents == Some(true) => {
                    // A rate is for a minute, so a post costs sixty.
                    let rate = consent.per_minute.and_then(Rate::per_second);
                    let bucket = |rate: Rate| Bucket::new(rate, Instant::now().into_std());
                    let known =
                        rate.map(|rate| self.rate.set(bucket(Rate { burst: rate.burst.max(POST), ..rate })));
                    return known.transpose().map(drop).unwrap_or(());
                }
                Ok(_) => format!("it answers OPTIONS without a WebHook-Allowed-Origin for {origin}"),
                Err(reason) => format!("it does not answer OPTIONS: {reason}"),
            };
            self.standing.down(reason);
            sleep(self.options().pause(times, chance())).await;
        }
    }

    /// Takes up the session, with the topics of the plan and no others. Cancel-safe: what `subscribed` names may be subscribed.
    async fn attach(&self, subscribed: &mut Vec<TopicFilter>) -> Result<Box<dyn Link>, Reject> {
        let request = Attach { keep: Duration::MAX, protocol: PROTOCOL, keep_all: true, ..Attach::default() };
        let mut link = self.hub.attach(self.who.clone(), request).await?.link;
        let options = SubscribeOptions {
            no_local: true,
            retained: RetainedWanted::Never,
            ..SubscribeOptions::new(Guarantee::AtLeastOnce)
        };
        let subscribe = |topic: &TopicFilter| Subscribe {
            select: self.plan.select.clone(),
            ..Subscribe::new(topic.clone(), options)
        };
        let topics = &self.options().topics;
        subscribed.retain(|topic| !topics.contains(topic));
        let old = subscribed.clone();
        subscribed.extend(topics.iter().cloned());
        for granted in link.subscribe(topics.iter().map(subscribe).collect()).await? {
            granted?;
        }
        if !old.is_empty() {
            link.unsubscribe(old).await?;
        }
        subscribed.clone_from(topics);
        Ok(link)
    }

    /// Posts what comes. Not cancel-safe: events that are out go again.
    async fn serve(&self, mut link: Box<dyn Link>, drain: &mut watch::Receiver<bool>) -> End {
        let mut posts = FuturesUnordered::new();
        let mut taken: Vec<Delivery> = Vec::new();
        let (most, most_bytes) =
            (usize::from(self.options().in_flight.max(1)), self.options().in_flight_bytes.as_usize());
        let (mut held, mut keys) = (0_usize, Keys::default());
        let over = drain.clone();
        let end = loop {
            let numbered =
                u16::try_from(most.saturating_sub(posts.len() + keys.waiting())).unwrap_or(u16::MAX);
            let room = Room { numbered, bytes: most_bytes.saturating_sub(held) };
            let has_room = numbered > 0 && (held == 0 || room.bytes > 0);
            tokio::select! {
                biased;
                () = turned(drain) => break End::Stopping,
                Some((key, fate)) = posts.next(), if !posts.is_empty() => {
                    match fate {
                        Fate::Done(number, bytes) => {
                            held = held.saturating_sub(bytes);
                            link.ack(number.as_slice());
                        }
                        Fate::Dead(number, bytes) => {
                            held = held.saturating_sub(bytes);
                            link.dead_lettered(number.as_slice());
                        }
                        // Its plan is over: nothing goes any more.
                        Fate::Left => continue,
                        Fate::Gone => break End::Gone,
                    }
                    posts.extend(keys.leave(Option::<Box<str>>::as_deref(&key)).map(|next| self.keyed(next, over.clone())));
                }
                open = poll_fn(|cx| link.poll_deliveries(cx, room, &mut taken)), if has_room => {
                    for delivery in taken.drain(..) {
                        held += delivery.event.weight();
                        posts.extend(keys.enter(delivery).map(|first| self.keyed(first, over.clone())));
                    }
                    if let Err(closed) = open {
                        break End::Lost(closed);
                    }
                }
            }
        };
        if matches!(end, End::Stopping) {
            // What waits to be posted gives up at once; what is just being posted is heard out, for `timeout_ms` at most.
            while let Some((_, fate)) = posts.next().await {
                match fate {
                    Fate::Done(number, _) => link.ack(number.as_slice()),
                    Fate::Dead(number, _) => link.dead_lettered(number.as_slice()),
                    Fate::Left | Fate::Gone => {}
                }
            }
        }
        close(Some(link));
        end
    }

    /// As [`Self::deliver`]; gives the key with it.
    async fn keyed(&self, delivery: Delivery, over: watch::Receiver<bool>) -> (Option<Box<str>>, Fate) {
        let key = key(&delivery.event);
        (key, self.deliver(delivery, over).await)
    }

    /// Posts one event until it is taken, or a dead letter of it is kept.
    async fn deliver(&self, delivery: Delivery, mut over: watch::Receiver<bool>) -> Fate {
        let Delivery { event, number, position, .. } = delivery;
        let done = Fate::Done(number, event.weight());
        let dead = match self.options().dead_letters.is_empty() {
            true => Fate::Done(number, event.weight()),
            false => Fate::Dead(number, event.weight()),
        };
        if !self.options().topics.iter().any(|topic| topic.matches(event.topic())) {
            // A topic that was taken out of the configuration.
            return done;
        }
        let post = self.options().mode.write(&event, position);
        let (mut times, mut failed) = (0_u32, None::<(Instant, String)>);
        let mut closes = self.closes.subscribe();
        loop {
            if event.is_expired(now_ms()) {
                self.count("expired");
                return done;
            }
            let left = failed.as_ref().map(|(since, _)| self.time_left(*since));
            if let Some((_, reason)) = failed.as_ref().filter(|_| left == Some(Duration::ZERO)) {
                return if self.bury(&event, reason, &mut over).await { dead } else { Fate::Left };
            }
            closes.mark_unchanged();
            if let Err(wait) = self.may_post() {
                tokio::select! {
                    biased;
                    () = turned(&mut over) => return Fate::Left,
                    // Its sender is ours.
                    Ok(()) = closes.changed() => {}
                    () = sleep(wait.min(left.unwrap_or(wait))) => {}
                }
                continue;
            }
            let reason = match self.post(&post, event.parts().stamp).await {
                Ok((Verdict::Done, _)) => {
                    self.count("delivered");
                    return done;
                }
                Ok((Verdict::Gone, _)) => return Fate::Gone,
                Ok((Verdict::Refused, status)) => {
                    let reason = format!("the webhook answered {status}");
                    return if self.bury(&event, &reason, &mut over).await { dead } else { Fate::Left };
                }
                Ok((Verdict::Again(_), status)) => format!("the webhook answered {status}"),
                Err(reason) => format!("the webhook did not answer: {reason}"),
            };
            self.count("again");
            times = times.saturating_add(1);
            let since = failed.map_or_else(Instant::now, |(since, _)| since);
            let pause = self.options().pause(times, chance()).min(self.time_left(since));
            failed = Some((since, reason));
            tokio::select! {
                biased;
                () = turned(&mut over) => return Fate::Left,
                () = sleep(pause) => {}
            }
        }
    }

    /// Whether one event may be posted now; else how long to wait before asking again.
    fn may_post(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let until = self.not_before.lock().map(|until| until.saturating_duration_since(now));
        let debt = self.rate.get().map(|rate| rate.wait(now.into_std()));
        let wait = until.unwrap_or_default().max(debt.unwrap_or_default());
        if !wait.is_zero() {
            return Err(wait);
        }
        self.breaker.may_ask(now.into_std())?;
        if let Some(rate) = self.rate.get() {
            rate.charge(POST, now.into_std());
        }
        Ok(())
    }

    /// Posts once; what the answer means, and its status.
    async fn post(&self, post: &Post, stamp: u64) -> Result<(Verdict, u16), String> {
        let mut request = self.plan.client.post(self.plan.target.url().clone()).headers(post.headers.clone());
        if let Some(origin) = &self.options().origin {
            request = request.header(REQUEST_ORIGIN, origin);
        }
        if let Some(secret) = &self.plan.secret {
            for (name, value) in secret.sign(stamp, now_ms() / 1000, &post.body) {
                request = request.header(name, value);
            }
        }
        let answer = poster::post(request.body(post.body.clone())).await;
        let judged = answer.map(|Answer { status, retry_after, .. }| {
            (Verdict::of(status, retry_after.as_deref(), SystemTime::now()), status)
        });
        let now = Instant::now();
        if let Ok((Verdict::Again(Some(wait)), _)) = &judged {
            *self.not_before.lock() = Some(now + (*wait).min(RETRY_AFTER_MAX));
        }
        match &judged {
            Ok((Verdict::Again(_), 500..)) => self.failed(now, "it answers with errors"),
            Err(reason) => self.failed(now, reason),
            // It works, whatever it thinks of this event.
            Ok(_) => {
                if self.breaker.answered() {
                    self.standing.up();
                    self.closes.send_replace(());
                }
            }
        }
        judged
    }

    fn failed(&self, now: Instant, reason: &str) {
        if self.breaker.failed(now.into_std()) {
            self.standing.down(format!("{} posts in a row failed: {reason}", self.options().failures_max));
        }
    }

    /// How long an event is still posted that failed first at `since`.
    fn time_left(&self, since: Instant) -> Duration {
        match self.options().give_up_s {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds.into()).saturating_sub(since.elapsed()),
        }
    }

    /// Makes a dead letter; whether it is kept, or can never be.
    async fn bury(&self, event: &Event, reason: &str, over: &mut watch::Receiver<bool>) -> bool {
        tracing::warn!(hook = self.name, topic = %event.topic(), reason, "a webhook does not take an event");
        let letter = dead_letter(&self.options().dead_letters, &self.name, event, reason);
        let buried = match letter {
            Some(letter) => bury(self.hub.as_ref(), &self.who, (event, reason), letter, over).await,
            None => true,
        };
        if buried {
            self.count("dead");
        }
        buried
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!("weft_hook_events_total", "hook" => self.name.clone(), "outcome" => outcome)
            .increment(1);
    }
}

/// Waits before the next try to get the session, unless Weft stops.
async fn pause(drain: &mut watch::Receiver<bool>) {
    timeout(SESSION_PAUSE, turned(drain)).await.unwrap_or(());
}

/// A number that others do not have.
fn chance() -> u32 {
    let mut bytes = [0; 4];
    // Without it all wait the longest time, which is no harm.
    aws_lc_rs::rand::fill(&mut bytes).unwrap_or(());
    u32::from_ne_bytes(bytes)
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.max(1).into())
}

/// What `/ready` says of one that is no more.
const GONE: &str = "it answered 410 Gone: nothing is posted until its settings change or Weft starts; take it out of the configuration";
/// What operators see that its session speaks.
const PROTOCOL: &str = "webhook";
/// What a post costs of a rate for a minute.
const POST: u64 = 60;
/// The longest that a webhook can put us off.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Between two tries to get the session.
const SESSION_PAUSE: Duration = Duration::from_secs(1);
/// How long posts under way may take when Weft stops. What is not acked then goes again after the next start.
pub(super) const LAST_WORD: Duration = Duration::from_secs(5);
