//! Subscribes webhooks of EventMesh clients and posts to them; those of the configuration are in `driver/named.rs`. Nothing
//! else here awaits.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::hub::{
    Attach, Close, Closed, Delivery, Hub, Link, Outcome, Publish, Room, Subscribe, SubscribeOptions,
};
use event::{Event, Guarantee, Principal, Reject, RejectKind, dead_letter};
use eventmesh::{Clients, NameError, Subscription, SubscriptionType, UserAgent};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use parts::{File, FileError};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::hooks::{Hook, Key, Registry, Write};
use crate::push::{self, CONTENT_TYPE, HEADERS, Push, Secret, Verdict};
use crate::target::{self, BadUrl, Target};
use crate::{HookOptions, Options};

mod named;
mod plan;
mod poster;
mod set;
mod standing;

pub use set::{NamedHooks, Plans, SESSIONS};

/// Looks whether these could be the settings of a webhook. Reads the files that they name.
///
/// # Errors
/// A setting or a file cannot be used: says which, and why.
pub fn check(options: &HookOptions) -> Result<(), String> {
    let files = plan::Files::read(options).map_err(|error| error.to_string())?;
    plan::Plan::new(options, files).map(drop)
}

/// Looks whether the files that the settings of clients' webhooks name can be used.
///
/// # Errors
/// One cannot.
pub fn check_files(options: &Options) -> Result<(), FileError> {
    secret(options).map(drop)
}

/// The secret that posts to webhooks of clients are signed with, if there is one. Reads its file.
fn secret(options: &Options) -> Result<Option<Secret>, FileError> {
    let path = Some(options.secret_file.as_path()).filter(|file| !file.as_os_str().is_empty());
    File::read("secret_file", path)?.as_ref().map(poster::secret).transpose()
}

/// All webhooks. Cloning shares them.
#[derive(Clone)]
pub struct Hooks(Arc<Shared>);

struct Shared {
    hub: Arc<dyn Hub>,
    clients: Clients,
    options: Options,
    secret: Option<Secret>,
    /// Headers that all posts have.
    headers: Vec<(&'static str, String)>,
    origin: String,
    client: reqwest::Client,
    registry: Mutex<Registry>,
    /// To the task that serves them.
    new: mpsc::Sender<(Key, Arc<Hook>)>,
}

/// A wish to have events posted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// For which group.
    pub group: &'a str,
    /// Where to.
    pub url: &'a str,
    /// Who wants it: a name that its heartbeats repeat.
    pub client: &'a str,
    /// Which events.
    pub items: &'a [Subscription],
    /// Whether the client sends heartbeats from the start; one that sends any later is watched from then on.
    pub watched: bool,
    /// How the client's protocol writes an event.
    pub write: fn(&Event, SubscriptionType) -> Push,
    /// What operators see of the client: what it says of itself, its address, what it speaks ("HTTP", "GRPC").
    pub shown: (UserAgent, SocketAddr, &'static str),
}

/// Why a webhook is not subscribed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The URL cannot be one.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// It does not want to get events from here.
    #[error("unauthorized webhook URL: {0} answers OPTIONS with a WebHook-Allowed-Origin that is not {1}")]
    Consent(String, String),
    /// A topic or the group cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The core, or a limit.
    #[error(transparent)]
    Rejected(#[from] Reject),
}

impl Hooks {
    /// Webhooks for sessions of `hub`, and what has to run to serve them: it ends when `drain` turns true and what is under way
    /// is answered, which takes no longer than one answer may take. Operators see who has them among `clients`; `common` has
    /// what Weft calls itself.
    ///
    /// # Errors
    /// The HTTP client cannot be made, or `secret_file` not be used.
    pub fn new(
        hub: Arc<dyn Hub>,
        clients: Clients,
        options: Options,
        common: &eventmesh::Options,
        drain: watch::Receiver<bool>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), Reject> {
        let resolver = Arc::new(Checked { loopback: options.loopback });
        let builder = poster::builder(options.timeout_ms).dns_resolver(resolver);
        let failed =
            |error: reqwest::Error| Reject::new(RejectKind::Unavailable, format!("webhooks: {error}"));
        let (new, news) = mpsc::channel(64);
        let client = builder.build().map_err(failed)?;
        let wrong = |error| Reject::new(RejectKind::Unavailable, format!("webhook.{error}"));
        let secret = secret(&options).map_err(wrong)?;
        let (registry, origin) = (Mutex::default(), common.webhook_origin.clone());
        let own = [(push::REQUEST_ORIGIN, &*origin)];
        let headers = HEADERS.iter().copied().chain(common.headers()).chain(own);
        let headers = headers.map(|(name, value)| (name, value.to_owned())).collect();
        let shared =
            Arc::new(Shared { hub, clients, options, secret, headers, origin, client, registry, new });
        Ok((Self(Arc::clone(&shared)), run(shared, news, drain)))
    }

    /// A name for the session of a webhook of `group`, to ask the gate about.
    pub fn session_name(&self, group: &str) -> String {
        format!("$webhook/{group}/{:x}", self.0.hub.stamps().take())
    }

    /// Subscribes a webhook for `who`. Not cancel-safe: dropped, some of the topics may be subscribed.
    ///
    /// # Errors
    /// The URL, a topic, or the group cannot be used; a limit is reached; the core refuses.
    pub async fn subscribe(&self, who: Principal, wanted: Wanted<'_>) -> Result<(), Refused> {
        let shared = &self.0;
        let target = Target::parse(wanted.url, shared.options.loopback)?;
        let mut subscribes = Vec::with_capacity(wanted.items.len());
        for item in wanted.items {
            let filter = eventmesh::filter(wanted.group, &item.topic, item.mode)?;
            let select = item.select.clone();
            subscribes.push(Subscribe {
                select,
                ..Subscribe::new(filter, SubscribeOptions::new(Guarantee::AtLeastOnce))
            });
        }
        resolves(&target, shared.options.loopback).await?;
        let key = (wanted.group.to_owned(), target.url().to_string(), who.user.clone());
        let is_new = shared.registry.lock().find(&key).is_none();
        if is_new && !consents(&shared.client, &target, &shared.origin).await {
            return Err(Refused::Consent(wanted.url.to_owned(), shared.origin.clone()));
        }
        let hook = shared.hook(&key, target, who, wanted.write).await?;
        let most = usize::try_from(shared.options.topics_max).unwrap_or(usize::MAX);
        let new = wanted.items.iter().filter(|item| !hook.has(&item.topic)).count();
        if hook.topics() + new > most {
            shared.end_if_idle(&key, &hook);
            let reason = format!("at most {most} topics are taken for one webhook");
            return Err(Reject::new(RejectKind::Busy, reason).into());
        }
        if !hook.takes_client(wanted.client, CLIENTS_MAX) {
            let reason = format!("{CLIENTS_MAX} clients subscribed this webhook, which is the limit");
            return Err(Reject::new(RejectKind::Busy, reason).into());
        }
        let seen = wanted.watched.then(|| Instant::now().into_std());
        let mut old = Vec::new();
        for (item, subscribe) in wanted.items.iter().zip(&subscribes) {
            old.extend(hook.add(&item.topic, (&subscribe.filter, item.kind), wanted.client, seen));
        }
        let (agent, peer, protocol) = wanted.shown;
        let url = Some(wanted.url.to_owned());
        let shown = eventmesh::Client { agent, peer, protocol, url, topics: Vec::new() };
        hook.show(wanted.client, shown, &shared.clients);
        let granted = hook.link.lock().as_mut().map(|link| {
            let granted = link.subscribe(subscribes);
            let ended = (!old.is_empty()).then(|| link.unsubscribe(old));
            (granted, ended)
        });
        let (granted, ended) = granted.ok_or_else(Reject::closed)?;
        if let Some(ended) = ended {
            ended.await?;
        }
        for (item, granted) in wanted.items.iter().zip(granted.await?) {
            if let Err(reject) = granted {
                hook.remove(&item.topic, Some(wanted.client));
                shared.end_if_idle(&key, &hook);
                return Err(reject.into());
            }
        }
        Ok(())
    }

    /// Ends subscriptions of `topics` that `client` made for `url` (any client if none is named); tells whether there was one.
    /// Not cancel-safe: dropped, some may be ended.
    pub async fn unsubscribe(
        &self,
        group: &str,
        url: &str,
        user: Option<Arc<str>>,
        client: Option<&str>,
        topics: impl Iterator<Item = &str> + Send,
    ) -> bool {
        let Ok(target) = Target::parse(url, true) else { return false };
        let key = (group.to_owned(), target.url().to_string(), user);
        let Some(hook) = self.0.registry.lock().find(&key) else { return false };
        let filters: Vec<_> = topics.filter_map(|topic| hook.remove(topic, client)).collect();
        let found = !filters.is_empty();
        self.0.give_up(&key, &hook, filters).await;
        found
    }

    /// A sign of life of `client`; whether it is known to have a webhook for `topic` in `group`.
    pub fn touch(&self, group: &str, client: &str, topic: &str) -> bool {
        let now = Instant::now().into_std();
        let registry = self.0.registry.lock();
        // All of them, however many there are.
        registry.of_group(group).filter(|hook| hook.touch(topic, client, now)).count() > 0
    }
}

impl Shared {
    /// The webhook of that key, made if it is not there.
    async fn hook(
        &self,
        key: &Key,
        target: Target,
        who: Principal,
        write: Write,
    ) -> Result<Arc<Hook>, Reject> {
        if let Some(hook) = self.registry.lock().find(key) {
            return Ok(hook);
        }
        let most = usize::try_from(self.options.webhooks_max).unwrap_or(usize::MAX);
        if self.registry.lock().len() >= most {
            return Err(Reject::new(
                RejectKind::Busy,
                format!("there are {most} webhooks, which is the limit"),
            ));
        }
        let until_ms = who.until_ms;
        let attached = self.hub.attach(who, Attach { protocol: "webhook", ..Attach::default() }).await?;
        let hook = Hook::new(target, write, attached.link, until_ms);
        let older = {
            let mut registry = self.registry.lock();
            let older = registry.find(key);
            if older.is_none() {
                registry.insert(key.clone(), Arc::clone(&hook));
            }
            older
        };
        if let Some(older) = older {
            // Somebody was faster.
            close(hook.link.lock().take());
            return Ok(older);
        }
        self.new.send((key.clone(), Arc::clone(&hook))).await.map_err(|_| Reject::closed())?;
        Ok(hook)
    }

    async fn give_up(&self, key: &Key, hook: &Arc<Hook>, filters: Vec<event::TopicFilter>) {
        let ended = match filters.is_empty() {
            true => None,
            false => hook.link.lock().as_mut().map(|link| link.unsubscribe(filters)),
        };
        if let Some(ended) = ended {
            // If this fails the session is going, and its subscriptions with it.
            ended.await.map(drop).unwrap_or(());
        }
        self.end_if_idle(key, hook);
    }

    /// Ends what `over` tells of each webhook.
    async fn give_up_all(&self, why: &'static str, over: impl Fn(&Hook) -> Vec<event::TopicFilter>) {
        let all = self.registry.lock().all();
        for (key, hook) in all {
            let filters = over(&hook);
            if !filters.is_empty() {
                tracing::debug!(group = key.0, why, "a webhook's client is gone");
                self.give_up(&key, &hook, filters).await;
            }
        }
    }

    fn end_if_idle(&self, key: &Key, hook: &Arc<Hook>) {
        if hook.topics() == 0 {
            self.registry.lock().remove(key, hook);
            hook.over.send_replace(true);
        }
    }
}

/// Serves all webhooks until Weft stops. Not cancel-safe: what is under way is cut off, and stays without an ack.
async fn run(
    shared: Arc<Shared>,
    mut news: mpsc::Receiver<(Key, Arc<Hook>)>,
    mut drain: watch::Receiver<bool>,
) {
    let mut hooks = FuturesUnordered::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut ordered = shared.clients.ordered();
    let draining = drain.clone();
    loop {
        tokio::select! {
            biased;
            () = turned(&mut drain) => break,
            Some(()) = hooks.next(), if !hooks.is_empty() => {}
            Some((key, hook)) = news.recv() => hooks.push(serve(Arc::clone(&shared), key, hook, draining.clone())),
            // Its sender lives as long as the clients.
            Ok(()) = ordered.changed() => shared.give_up_all("is sent away", Hook::send_away).await,
            _ = sweep.tick() => {
                let silence = Duration::from_secs(u64::from(shared.options.silence_s.max(1)));
                let now = Instant::now().into_std();
                shared.give_up_all("is silent", |hook| hook.sweep(now, silence)).await;
            }
        }
    }
    while hooks.next().await.is_some() {}
}

/// Posts what comes for one webhook.
async fn serve(shared: Arc<Shared>, key: Key, hook: Arc<Hook>, mut drain: watch::Receiver<bool>) {
    let mut over = hook.over.subscribe();
    let mut posts = FuturesUnordered::new();
    let mut taken: Vec<Delivery> = Vec::new();
    let most = usize::from(shared.options.in_flight.max(1));
    let end =
        hook.until_ms.map(|until| Instant::now() + Duration::from_millis(until.saturating_sub(now_ms())));
    loop {
        let numbered = u16::try_from(most.saturating_sub(posts.len())).unwrap_or(u16::MAX);
        let room = Room { numbered, bytes: CHUNK_BYTES };
        tokio::select! {
            biased;
            () = turned(&mut drain) => break,
            () = turned(&mut over) => break,
            () = at(end) => break,
            Some(number) = posts.next(), if !posts.is_empty() => ack(&hook, number),
            open = poll_fn(|cx| match hook.link.lock().as_mut() {
                Some(link) => link.poll_deliveries(cx, room, &mut taken),
                None => Poll::Ready(Err(Closed::Ended)),
            }), if numbered > 0 => {
                posts.extend(taken.drain(..).map(|delivery| deliver(&shared, &key.0, &hook, delivery)));
                if open.is_err() {
                    break;
                }
            }
        }
    }
    shared.registry.lock().remove(&key, &hook);
    // What waits to be posted again goes to others; what is just being posted is heard out.
    hook.over.send_replace(true);
    let last = async {
        while let Some(number) = posts.next().await {
            ack(&hook, number);
        }
    };
    let patience = Duration::from_millis(u64::from(shared.options.timeout_ms)).min(LAST_WORD);
    timeout(patience, last).await.unwrap_or(());
    close(hook.link.lock().take());
}

fn ack(hook: &Hook, number: Option<u64>) {
    if let (Some(number), Some(link)) = (number, hook.link.lock().as_mut()) {
        link.ack(&[number]);
    }
}

fn close(link: Option<Box<dyn Link>>) {
    if let Some(link) = link {
        link.close(Close { will: false, keep: None });
    }
}

/// Posts one event until a webhook takes it, or no more tries are left; its number, to be acked. None if the webhook it was
/// taken for is over.
async fn deliver(shared: &Shared, group: &str, hook: &Arc<Hook>, delivery: Delivery) -> Option<u64> {
    let event = &delivery.event;
    let mut to = Arc::clone(hook);
    let mut over = hook.over.subscribe();
    let mut wait = Duration::from_millis(u64::from(shared.options.retry_ms.max(1)));
    for attempt in 0..=shared.options.retries {
        if event.is_expired(now_ms()) {
            count("expired");
            return delivery.number;
        }
        let kind = to.wants(event.topic()).unwrap_or_default();
        let verdict = post(shared, &to, (to.write)(event, kind), event.parts().stamp).await;
        let after = match verdict {
            Verdict::Done => {
                count("done");
                return delivery.number;
            }
            Verdict::GivenUp => break,
            Verdict::Again(after) => after,
        };
        if attempt < shared.options.retries {
            count("again");
            tokio::select! {
                biased;
                () = turned(&mut over) => return None,
                () = sleep(after.unwrap_or(wait).min(WAIT_MAX)) => {}
            }
            wait = wait.saturating_mul(2);
            to = shared.registry.lock().next(group, &to, event.topic());
        }
    }
    count("dead");
    tracing::debug!(group, "a webhook did not take an event");
    let part = eventmesh::level(group);
    let reason = "no webhook of the group took it";
    let buried = match dead_letter(&shared.options.dead_letters, &part, event, reason) {
        Some(letter) => {
            let who = Principal::anonymous("$webhook/dead");
            bury(shared.hub.as_ref(), &who, (event, reason), letter, &mut over).await
        }
        None => true,
    };
    delivery.number.filter(|_| buried)
}

/// Publishes a dead letter for `who`; whether it is kept, or can never be. It is tried until `over`.
async fn bury(
    hub: &dyn Hub,
    who: &Principal,
    (event, reason): (&Event, &str),
    letter: Event,
    over: &mut watch::Receiver<bool>,
) -> bool {
    loop {
        let publish =
            Publish { event: letter.clone(), guarantee: Guarantee::AtLeastOnce, retain: false, id: None };
        let outcome = hub.publish(who, vec![publish]).outcome_before(sleep(BURIAL)).await;
        let Err(reject) = outcome.and_then(Outcome::whole) else {
            hub.audit().buried(event, &letter, reason, std::time::Instant::now());
            return true;
        };
        match reject.kind {
            RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied => {
                tracing::warn!(%reject, "a dead letter of a webhook is lost");
                return true;
            }
            RejectKind::Busy | RejectKind::Unavailable | RejectKind::Closed => {}
        }
        tokio::select! {
            biased;
            () = turned(over) => return false,
            () = sleep(BURIAL_PAUSE) => {}
        }
    }
}

/// Asks a webhook whether it wants to get events (CloudEvents webhooks §4). One that does not answer is taken to: EventMesh's
/// webhooks need not know of this.
async fn consents(client: &reqwest::Client, target: &Target, origin: &str) -> bool {
    let asking = client.request(reqwest::Method::OPTIONS, target.url().clone()).timeout(poster::CONNECT);
    let consent = poster::ask(asking, origin).await.map(|answer| answer.consents);
    consent.ok().flatten().unwrap_or(true)
}

/// Posts once. `stamp`: that of the event.
async fn post(shared: &Shared, hook: &Hook, push: Push, stamp: u64) -> Verdict {
    let random = u16::try_from(now_ms() % 9973).unwrap_or_default();
    let body = push.body(now_ms(), random);
    let url = hook.target.url().clone();
    let mut request = shared.client.post(url).header(reqwest::header::CONTENT_TYPE, CONTENT_TYPE);
    for (name, value) in &shared.headers {
        request = request.header(*name, value);
    }
    for (name, value) in &push.headers {
        // A value that no header can have is left out; it is in the form as well.
        if let Ok(value) = reqwest::header::HeaderValue::from_str(value) {
            request = request.header(&**name, value);
        }
    }
    if let Some(secret) = &shared.secret {
        for (name, value) in secret.sign(stamp, now_ms() / 1000, &body) {
            request = request.header(name, value);
        }
    }
    match poster::post(request.body(body)).await {
        Ok(answer) => Verdict::of(answer.status, answer.retry_after.as_deref(), &answer.body),
        Err(reason) => {
            tracing::debug!(reason, "a webhook did not answer");
            Verdict::Again(None)
        }
    }
}

/// Whether all addresses of `target` may be posted to.
async fn resolves(target: &Target, loopback: bool) -> Result<(), BadUrl> {
    let unknown = || BadUrl::Unknown(target.host().to_owned());
    let found = timeout(poster::CONNECT, lookup_host((target.host(), target.port()))).await;
    let mut any = false;
    for address in found.map_err(|_| unknown())?.map_err(|_| unknown())? {
        target::check(address.ip(), loopback)?;
        any = true;
    }
    any.then_some(()).ok_or_else(unknown)
}

/// Asks the system for addresses, and gives out those that may be posted to.
struct Checked {
    loopback: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let loopback = self.loopback;
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let all: Vec<SocketAddr> = found.collect();
            for address in &all {
                target::check(address.ip(), loopback)?;
            }
            Ok(Box::new(all.into_iter()) as Addrs)
        })
    }
}

/// Resolves when `signal` is true, or its sender gone. Cancel-safe.
async fn turned(signal: &mut watch::Receiver<bool>) {
    signal.wait_for(|signal| *signal).await.map(drop).unwrap_or(());
}

/// Resolves at `when`. Cancel-safe.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("weft_webhook_posts_total", "outcome" => outcome).increment(1);
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How often silent clients are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Clients that subscribed one webhook: each is remembered.
const CLIENTS_MAX: usize = 256;
/// What one look takes from a mailbox.
const CHUNK_BYTES: usize = 64 << 10;
/// How long the core may take to keep a dead letter, and how long it is left alone if it does not.
const BURIAL: Duration = Duration::from_secs(15);
const BURIAL_PAUSE: Duration = Duration::from_secs(1);
/// The longest that a webhook can put an event off.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How long posts under way may take when a webhook is over.
const LAST_WORD: Duration = Duration::from_secs(5);
