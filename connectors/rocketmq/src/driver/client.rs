//! What the senders and consumers of one bridge or store share: connections, routes, heartbeats, and whether brokers
//! answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use defibus::Isolation;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parts::{File, FileError};
use remoting::code::response;
use remoting::{Command, DEFAULT_TOPIC};
use tokio::sync::{Notify, SetOnce, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::connection::{Connection, Signals};
use super::tracer::{Tracer, WAITING};
use crate::avoid::Avoid;
use crate::condition::Condition;
use crate::error::CallError;
use crate::metrics::Counters;
use crate::request::Member;
use crate::route::Route;
use crate::sign::Signer;
use crate::subscription::{RETRY, Subscription};
use crate::trace::Told;
use crate::{ClusterOptions, Kind, Start, request, tls};

/// How often brokers are asked whether they are there. With [`PROBE_LIMIT`] it makes an outage known within 1.5 s.
const PROBE: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// Heartbeats without an answer after which a connection is given up.
const MISSES: u32 = 4;
/// Between a lost connection and the next try, so that a peer that accepts and closes keeps nobody busy.
const BREATH: Duration = Duration::from_millis(50);
/// How old a route of a new topic may be at least.
const YOUNG: Duration = Duration::from_secs(1);
/// Replies that wait to be handed out.
const REPLIES: usize = 1024;
/// How often a name server is asked for all brokers, in probes.
const LOOK_FOR_OTHERS: u32 = 20;

/// Who a client is to brokers.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The name of the bridge or store, for metrics and health: `rocketmq/main`.
    pub(super) part: String,
    /// Group of what it sends.
    pub(super) producer: String,
    /// Group of what it consumes.
    pub(super) group: String,
    /// Topics it sends to.
    pub(super) out: BTreeSet<String>,
    /// What it consumes.
    pub(super) inward: Vec<Subscription>,
    /// It pops, and so is no member of its group.
    pub(super) pop: bool,
    /// Where its group begins if it is new.
    pub(super) start: Start,
    /// It sends requests, so any broker of the cluster may have a reply for it.
    pub(super) asks: bool,
}

/// How brokers know that they may believe it, and it them.
#[derive(Clone)]
pub(super) struct Keys {
    /// What they are made of: the secret key, the CAs.
    files: [Option<File>; 2],
    signer: Option<Signer>,
    tls: Option<TlsConnector>,
}

impl Keys {
    /// Reads the files that `options` name.
    pub(super) fn read(options: &ClusterOptions) -> Result<Self, FileError> {
        let secret_key = File::read("secret_key_file", options.secret_key_file.as_deref())?;
        let authorities = File::read("tls_ca_file", options.tls_ca_file.as_deref())?;
        let signer = options.access_key.as_ref().zip(secret_key.as_ref());
        let signer = signer.map(|(access_key, file)| Signer::of(access_key, file)).transpose()?;
        let tls = authorities.as_ref().map(tls::settings).transpose()?.map(TlsConnector::from);
        Ok(Self { files: [secret_key, authorities], signer, tls })
    }

    /// Whether the files said the same.
    pub(super) fn are(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

/// A client of one cluster. Its tasks end with it.
pub(super) struct Client {
    pub(super) kind: Kind,
    pub(super) options: ClusterOptions,
    pub(super) identity: Identity,
    pub(super) condition: Condition,
    pub(super) counters: Counters,
    /// Changes with each start: a broker keeps the newest subscription of a group.
    pub(super) sub_version: u64,
    /// Told when brokers answer again.
    pub(super) recovered: Notify,
    /// What connections tell.
    pub(super) signals: Arc<Signals>,
    /// Replies that connections bring; whoever hands them out takes it.
    pub(super) replies: Mutex<Option<mpsc::Receiver<Command>>>,
    /// Tells of messages, if they are traced.
    pub(super) tracer: Option<Tracer>,
    /// What is told; who sends it takes it.
    pub(super) traces: Mutex<Option<mpsc::Receiver<Told>>>,
    /// Queues that took no more.
    pub(super) isolation: Mutex<Isolation>,
    /// Its name at brokers; no other client has it. DeFiBus wants our address in it, so it is made with the first connection.
    id: SetOnce<String>,
    /// Brokers of the cluster that no topic of ours is at, but that may push replies.
    others: Mutex<BTreeSet<Arc<str>>>,
    /// Probes so far.
    probes: AtomicU32,
    signer: Option<Signer>,
    tls: Option<TlsConnector>,
    avoid: Mutex<Avoid>,
    /// The place of the name server that is asked first: the one that answered last.
    name_server: AtomicUsize,
    connections: Mutex<BTreeMap<Arc<str>, Arc<Slot>>>,
    routes: Mutex<BTreeMap<String, Known>>,
    tasks: Mutex<JoinSet<()>>,
}

/// The place of a connection; who holds the lock is making it, and others wait for the same one.
#[derive(Default)]
struct Slot {
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// Heartbeats in a row that got no answer.
    misses: AtomicU32,
}

#[derive(Clone)]
struct Known {
    route: Arc<Route>,
    at: Instant,
    /// Since when the topic is known.
    since: Instant,
    doubted: bool,
}

impl Known {
    /// Whether it need not be asked for anew. Brokers make a new topic one after the other, so a young route may lack some:
    /// it is asked for after one second, then ever more seldom.
    fn is_fresh(&self, oldest: Duration) -> bool {
        let age = (self.since.elapsed() / 2).clamp(YOUNG, oldest.max(YOUNG));
        !self.doubted && !self.route.to_be_created && self.at.elapsed() < age
    }
}

impl Client {
    /// A client that has no connection yet.
    pub(super) fn new(
        kind: Kind,
        options: ClusterOptions,
        keys: Keys,
        identity: Identity,
        condition: Condition,
    ) -> Self {
        let now_ms = now_ms();
        let (sender, replies) = mpsc::channel(REPLIES);
        let (tracer, traces) = mpsc::channel(WAITING);
        Self {
            kind,
            signer: keys.signer,
            tls: keys.tls,
            avoid: Mutex::default(),
            name_server: AtomicUsize::new(0),
            replies: Mutex::new(Some(replies)),
            tracer: options.trace.then(|| Tracer(tracer)),
            traces: Mutex::new(Some(traces).filter(|_| options.trace)),
            isolation: Mutex::default(),
            id: SetOnce::new(),
            others: Mutex::default(),
            probes: AtomicU32::new(0),
            counters: Counters::of(&identity.part, kind),
            options,
            identity,
            condition,
            sub_version: now_ms,
            recovered: Notify::new(),
            signals: Arc::new(Signals::new(sender)),
            connections: Mutex::default(),
            routes: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Its name at brokers; empty before the first connection.
    pub(super) fn id(&self) -> &str {
        self.id.get().map_or("", String::as_str)
    }

    /// Returns when it has its name. Cancel-safe.
    pub(super) async fn named(&self) {
        self.id.wait().await;
    }

    /// The usual limit of a request.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.options.request_ms.into())
    }

    /// Which brokers are better not sent to for a while.
    pub(super) fn avoided(&self) -> MutexGuard<'_, Avoid> {
        locked(&self.avoid)
    }

    /// Asks a broker; the answer may have any code. After a time-out the connection is given up. Cancel-safe.
    pub(super) async fn ask(
        &self,
        addr: &Arc<str>,
        command: Command,
        limit: Duration,
    ) -> Result<Command, CallError> {
        let connection = self.connection(addr, Peer::Broker).await?;
        let answer = connection.call(self.signed(command), limit).await;
        if matches!(answer, Err(CallError::TimedOut { .. })) {
            connection.close();
        }
        answer
    }

    /// As [`Self::ask`], but an answer that is not success is an error.
    pub(super) async fn ask_well(&self, addr: &Arc<str>, command: Command) -> Result<Command, CallError> {
        well(addr, self.ask(addr, command, self.limit()).await?)
    }

    /// The route of `topic`, from memory if it is there. A topic that does not exist yet has the route in whose image
    /// brokers will create it. Cancel-safe.
    pub(super) async fn route(&self, topic: &str) -> Result<Arc<Route>, CallError> {
        match self.known_route(topic) {
            Some(route) => Ok(route),
            None => self.refresh_route(topic).await,
        }
    }

    /// The route of `topic`, if it exists and was asked for before.
    pub(super) fn known_route(&self, topic: &str) -> Option<Arc<Route>> {
        let known = locked(&self.routes).get(topic).map(|known| Arc::clone(&known.route));
        known.filter(|route| !route.to_be_created)
    }

    /// Something about `topic` went wrong: its route is asked for anew.
    pub(super) fn doubt_route(&self, topic: &str) {
        if let Some(known) = locked(&self.routes).get_mut(topic) {
            known.doubted = true;
        }
    }

    /// Who consumes as our group, as a broker of `topic` knows it. Cancel-safe.
    pub(super) async fn members(&self, topic: &str) -> Result<Vec<String>, CallError> {
        let route = self.route(topic).await?;
        let none = || CallError::NoTopic(topic.to_owned());
        let addr = &route.readable.first().ok_or_else(none)?.addr;
        let answer = self.ask_well(addr, self.kind.members(&self.identity.group, topic)).await?;
        let bad = |error: serde_json::Error| CallError::BadAnswer {
            addr: addr.to_string(),
            reason: error.to_string(),
        };
        defibus::parse_members(&answer.body).map_err(bad)
    }

    /// Keeps routes fresh and brokers aware of this client, and writes down whether they answer. Never ends.
    pub(super) async fn watch(&self) {
        let mut tick = interval(PROBE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reached = false;
        loop {
            match self.probe().await {
                Ok(()) => {
                    self.condition.reached();
                    if !std::mem::replace(&mut reached, true) {
                        self.recovered.notify_waiters();
                    }
                }
                Err(error) => {
                    self.condition.unreached(error.to_string());
                    reached = false;
                }
            }
            tokio::select! {
                biased;
                () = self.signals.lost.notified() => sleep(BREATH).await,
                () = self.signals.topics.notified() => {
                    for topic in std::mem::take(&mut *locked(&self.signals.changed)) {
                        self.doubt_route(&topic);
                    }
                }
                _ = tick.tick() => {}
            }
        }
    }

    /// Says goodbye to brokers, so that they forget this client at once. Takes at most half a second.
    pub(super) async fn leave(&self) {
        let Identity { producer, group, .. } = &self.identity;
        let slots: Vec<Arc<Slot>> = locked(&self.connections).values().cloned().collect();
        let open = slots.iter().filter_map(|slot| slot.connection.try_lock().ok()?.clone());
        let goodbye = |connection: Connection| {
            let command = self.signed(request::goodbye(self.id(), producer, group));
            async move { connection.call(command, PROBE).await.map(drop).unwrap_or(()) }
        };
        open.map(goodbye).collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    /// One heartbeat to every known broker, a look at routes that are old, and one at name servers: without them nobody hears
    /// where a broker has gone. The first failure, if there is one.
    async fn probe(&self) -> Result<(), CallError> {
        let known: BTreeSet<Arc<str>> = locked(&self.routes)
            .values()
            .flat_map(|known| known.route.addrs().cloned().collect::<Vec<_>>())
            .collect();
        let beats = async {
            let mut beats: FuturesUnordered<_> = known.iter().map(|addr| self.beat(addr)).collect();
            let mut result = Ok(());
            while let Some(beat) = beats.next().await {
                result = result.and(beat);
            }
            result
        };
        let any = request::route(DEFAULT_TOPIC);
        let name_servers = self.in_time(self.ask_name_servers(&any));
        let (beats, routes, others) = (beats, self.refresh_routes(), self.beat_others(&known));
        let (beats, routes, (), name_servers) = tokio::join!(beats, routes, others, name_servers);
        beats.and(routes).and(name_servers.map(drop))
    }

    /// Heartbeats to brokers that hold no topic of ours: any broker of the cluster may be given the reply to a request, and
    /// can push it only to whom it knows. What fails here is no outage of ours.
    async fn beat_others(&self, known: &BTreeSet<Arc<str>>) {
        if !self.identity.asks {
            return;
        }
        let due = self.probes.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_FOR_OTHERS);
        if due && let Ok((_, answer)) = self.ask_name_servers(&defibus::request::cluster_info()).await {
            match defibus::request::brokers(&answer.body) {
                Ok(addrs) => *locked(&self.others) = addrs.into_iter().map(Arc::from).collect(),
                Err(error) => debug!(%error, "brokers of the cluster are not known"),
            }
        }
        let others: Vec<Arc<str>> = locked(&self.others).difference(known).cloned().collect();
        let beats: FuturesUnordered<_> = others.iter().map(|addr| self.beat(addr)).collect();
        beats.for_each(|_| std::future::ready(())).await;
    }

    /// Asks for routes that are old, doubted or not known. Only a topic without any route is a failure; the retry topic of a
    /// group is made by brokers when they hear of the group.
    async fn refresh_routes(&self) -> Result<(), CallError> {
        let mut result = Ok(());
        let inward = self.identity.inward.iter().map(|subscription| &subscription.topic);
        let named: BTreeSet<String> = self.identity.out.iter().chain(inward).cloned().collect();
        let met: Vec<String> = locked(&self.routes).keys().cloned().collect();
        for topic in named.iter().chain(met.iter().filter(|topic| !named.contains(*topic))) {
            let fresh = |known: &Known| known.is_fresh(self.kind.route_age());
            if locked(&self.routes).get(topic).is_some_and(fresh) {
                continue;
            }
            match self.in_time(self.refresh_route(topic)).await {
                Err(CallError::NoTopic(_)) if topic.starts_with(RETRY) || !named.contains(topic) => {}
                found => result = result.and(found.map(drop)),
            }
        }
        result
    }

    /// What name servers are asked, with a limit.
    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let late = || CallError::TimedOut {
            addr: self.options.name_servers.join(", "),
            ms: PROBE_LIMIT.as_millis(),
        };
        timeout(PROBE_LIMIT, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks for the route of `topic`. If it cannot be had, the one that was known is used on: name servers forget a
    /// broker that is down, and its queues are there again when it is back.
    async fn refresh_route(&self, topic: &str) -> Result<Arc<Route>, CallError> {
        let found = match self.fetch_route(topic).await {
            Ok(Some(route)) => Ok(route),
            Ok(None) if !self.kind.creates_topics() => Err(self.no_topic(topic).await),
            Ok(None) => match self.fetch_route(DEFAULT_TOPIC).await {
                Ok(Some(route)) => Ok(route.of_new_topic()),
                Ok(None) => Err(self.no_topic(topic).await),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if !matches!(found, Ok(Route { to_be_created: false, .. }))
            && let Some(route) = self.known_route(topic)
        {
            return Ok(route);
        }
        let route = Arc::new(found?);
        let now = Instant::now();
        let mut routes = locked(&self.routes);
        let before = routes.get(topic).filter(|known| !known.route.to_be_created);
        let since = before.map_or(now, |known| known.since);
        routes.insert(topic.to_owned(), Known { route: Arc::clone(&route), at: now, since, doubted: false });
        drop(routes);
        Ok(route)
    }

    /// Why nobody has a topic: name servers forget what brokers had that are gone. If all are, that is an outage, and no refusal.
    async fn no_topic(&self, topic: &str) -> CallError {
        let asked = self.ask_name_servers(&defibus::request::cluster_info()).await;
        let brokers = asked.ok().and_then(|(_, answer)| defibus::request::brokers(&answer.body).ok());
        if brokers.is_some_and(|brokers| brokers.is_empty()) {
            let addr = self.options.name_servers.join(", ");
            return CallError::Connect { addr, reason: "it knows no broker".to_owned() };
        }
        CallError::NoTopic(topic.to_owned())
    }

    /// One heartbeat. A connection on which several in a row get no answer is given up: the peer may be gone without a
    /// word. So is one whose peer does not want us any more.
    async fn beat(&self, addr: &Arc<str>) -> Result<(), CallError> {
        let late = || CallError::TimedOut { addr: addr.to_string(), ms: PROBE_LIMIT.as_millis() };
        let beat = async {
            let connection = self.connection(addr, Peer::Broker).await?;
            let answer = connection.call(self.signed(self.heartbeat()), PROBE_LIMIT).await?;
            well(addr, answer).map(drop)
        };
        let result = timeout(PROBE_LIMIT, beat).await.unwrap_or_else(|_| Err(late()));
        let slot = self.slot(addr);
        let give_up = || {
            if let Some(connection) = slot.connection.try_lock().ok().and_then(|place| place.clone()) {
                connection.close();
            }
        };
        match &result {
            Err(CallError::TimedOut { .. }) if slot.misses.fetch_add(1, Ordering::Relaxed) >= MISSES => {
                give_up()
            }
            Err(CallError::Code { code: response::NO_PERMISSION, .. }) => give_up(),
            Err(CallError::TimedOut { .. }) => {}
            _ => slot.misses.store(0, Ordering::Relaxed),
        }
        result
    }

    fn heartbeat(&self) -> Command {
        let Identity { producer, group, inward, start, pop, .. } = &self.identity;
        request::heartbeat(&Member {
            client: self.id(),
            producer,
            group,
            subscriptions: if *pop { &[] } else { inward },
            version: self.sub_version,
            start: *start,
        })
    }

    /// `Ok(None)`: name servers answer that there is no such topic.
    async fn fetch_route(&self, topic: &str) -> Result<Option<Route>, CallError> {
        let (addr, answer) = self.ask_name_servers(&request::route(topic)).await?;
        if answer.code == response::TOPIC_NOT_EXIST {
            return Ok(None);
        }
        let bad = |error: serde_json::Error| CallError::BadAnswer { addr, reason: error.to_string() };
        Route::parse(&answer.body).map(Some).map_err(bad)
    }

    /// The first name server that answers, and its answer: success, or that there is no such topic.
    async fn ask_name_servers(&self, command: &Command) -> Result<(String, Command), CallError> {
        let mut failure = None;
        let servers = &self.options.name_servers;
        let first = self.name_server.load(Ordering::Relaxed);
        for place in (first..first.saturating_add(servers.len())).map(|place| place % servers.len()) {
            let Some(addr) = servers.get(place) else { continue };
            let addr: Arc<str> = Arc::from(&**addr);
            // Whoever gives up waiting for this one begins with the next.
            self.name_server.store(place + 1, Ordering::Relaxed);
            let asked = async {
                let connection = self.connection(&addr, Peer::NameServer).await?;
                let mut command = command.clone();
                self.kind.sign_as(&mut command);
                let answer = connection.call(command, PROBE_LIMIT).await;
                if matches!(answer, Err(CallError::TimedOut { .. })) {
                    connection.close();
                }
                answer
            };
            let asked = asked.await;
            if asked.is_ok() {
                self.name_server.store(place, Ordering::Relaxed);
            }
            match asked {
                Ok(answer) if [response::SUCCESS, response::TOPIC_NOT_EXIST].contains(&answer.code) => {
                    return Ok((addr.to_string(), answer));
                }
                Ok(answer) => failure = Some(code_error(&addr, &answer)),
                Err(error) => failure = Some(error),
            }
        }
        // There is at least one: options were checked.
        Err(failure.unwrap_or_else(|| CallError::Lost { addr: String::new() }))
    }

    /// The connection to `addr`, made if need be. A broker gets a heartbeat before anything else, so that it knows our
    /// subscriptions when the first pull comes. Cancel-safe.
    async fn connection(&self, addr: &Arc<str>, peer: Peer) -> Result<Connection, CallError> {
        let slot = self.slot(addr);
        let mut place = slot.connection.lock().await;
        if let Some(connection) = place.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        *place = None;
        let limit = Duration::from_millis(self.options.connect_ms.into());
        let (connection, work) =
            Connection::open(addr, limit, self.tls.as_ref(), Arc::clone(&self.signals)).await?;
        {
            let mut tasks = locked(&self.tasks);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(work);
        }
        if self.id.get().is_none() {
            let id = self.kind.client_id(&self.identity.part, &self.options, connection.local());
            // Two connections may be made at once: the first name stays.
            self.id.set(id).unwrap_or(());
        }
        if peer == Peer::Broker {
            // A broker that does not want us at all, for our keys say, is out of reach: that is no refusal of what is sent.
            let reason = |refusal: CallError| CallError::Connect {
                addr: addr.to_string(),
                reason: refusal.to_string(),
            };
            let answer = connection.call(self.signed(self.heartbeat()), PROBE_LIMIT).await?;
            well(addr, answer).map_err(reason)?;
        }
        *place = Some(connection.clone());
        Ok(connection)
    }

    fn slot(&self, addr: &Arc<str>) -> Arc<Slot> {
        Arc::clone(locked(&self.connections).entry(Arc::clone(addr)).or_default())
    }

    fn signed(&self, mut command: Command) -> Command {
        self.kind.sign_as(&mut command);
        if let Some(signer) = &self.signer {
            signer.sign(&mut command);
        }
        command
    }
}

/// Whom a connection is to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    NameServer,
    Broker,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that is not success as an error.
pub(super) fn well(addr: &str, answer: Command) -> Result<Command, CallError> {
    if answer.code == response::SUCCESS {
        return Ok(answer);
    }
    Err(code_error(addr, &answer))
}

/// What an answer that is not success says.
pub(super) fn code_error(addr: &str, answer: &Command) -> CallError {
    let remark = answer.remark.as_deref().unwrap_or_default();
    // Java puts a stack trace or a help page behind the first line.
    let remark = remark.lines().next().unwrap_or_default().chars().take(200).collect();
    CallError::Code { addr: addr.to_owned(), code: answer.code, remark }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
