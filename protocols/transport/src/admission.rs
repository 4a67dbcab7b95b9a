//! Which connections come in, whatever carries them: limits, counts, and the time of their handshakes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use event::Bucket;
use metrics::Counter;
use socket2::TcpKeepalive;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::crowd::{Crowd, TooMany};
use crate::handshakes::{Handshakes, Turn};
use crate::network::{Network, any_contains};
use crate::options::{Entry, ProxyProtocol};
use crate::proxy::ProxyError;
use crate::repeats::Repeats;
use crate::throttle::Throttle;
use crate::tls::reason_of;
use crate::{Limits, Options, Tls};

/// How many connections may be open, and how they are set up. Cloning shares the count.
#[derive(Clone, Debug)]
pub struct Connections {
    room: Arc<Semaphore>,
    pub(crate) backlog: i32,
    pub(crate) keepalive: Option<TcpKeepalive>,
}

/// Who comes in by one listener.
#[derive(Debug)]
pub struct Admission {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    /// How fast connections may come.
    connects: Option<Bucket>,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address: the one that a trusted proxy told, if there is one between.
    pub address: SocketAddr,
    /// The name of the listener it came by.
    pub listener: Arc<str>,
    /// The certificate it proved to own, in DER, verified against the listener's CAs.
    pub certificate: Option<Bytes>,
}

/// What the connections of one listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    limits: Limits,
    pub(crate) proxy_protocol: ProxyProtocol,
    trusted_proxies: Vec<Network>,
    pub(crate) tls: Option<Arc<Tls>>,
    handshakes: Arc<Handshakes>,
    handshake_limit: Duration,
    crowd: Option<Crowd>,
    open: AtomicU32,
    closed: Counter,
    accepted: Counter,
    reports: Repeats,
}

/// A connection's place in all counts. It ends when it is dropped, and the connection has to end with it.
#[derive(Debug)]
pub struct Place {
    pub(crate) shared: Arc<Shared>,
    /// The client's, as far as it is known.
    pub(crate) address: SocketAddr,
    /// Whether it is counted for its address.
    in_crowd: bool,
    _room: OwnedSemaphorePermit,
}

/// Why a connection is closed as soon as it is accepted: the limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Of all listeners together.
    #[error("transport.connections_max is reached")]
    Full,
    /// Of this listener.
    #[error("limits.connections is reached")]
    ListenerFull,
    /// New connections of this listener.
    #[error("limits.connects_per_second is reached")]
    Fast,
    /// Of this address.
    #[error("limits.address_connections is reached")]
    AddressFull,
    /// New connections of this address.
    #[error("limits.address_connects_per_second is reached")]
    AddressFast,
    /// It is no trusted proxy.
    #[error("it is none of trusted_proxies")]
    Untrusted,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Full => "connections_max",
            Self::ListenerFull => "connections",
            Self::Fast => "connects_per_second",
            Self::AddressFull => "address_connections",
            Self::AddressFast => "address_connects_per_second",
            Self::Untrusted => "untrusted_proxy",
        }
    }
}

/// Why a connection did not get through its handshake.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It took too long.
    #[error("not finished in time")]
    Timeout,
    /// More handshakes than allowed are under way.
    #[error("the oldest of too many handshakes")]
    Crowded,
    /// What the proxy said makes no sense.
    #[error("PROXY header: {0}")]
    Proxy(#[from] ProxyError),
    /// The client is known now, and too much.
    #[error("{0}")]
    Refused(Refusal),
    /// It went away.
    #[error("the client closed the connection")]
    Closed,
    /// What the socket, or TLS, says.
    #[error("{0}")]
    Io(io::Error),
    /// What another carrier says.
    #[error("{text}")]
    Carrier {
        /// A label with few values.
        reason: &'static str,
        /// For people.
        text: String,
    },
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Crowded => "crowded",
            Self::Proxy(_) => "proxy_header",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::Io(error) => reason_of(error),
            Self::Carrier { reason, .. } => reason,
        }
    }
}

impl Connections {
    /// No connection yet.
    pub fn new(options: &Options) -> Self {
        let most = usize::try_from(options.connections_max).unwrap_or(usize::MAX);
        let idle = Duration::from_secs(u64::from(options.keepalive_s));
        Self {
            room: Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))),
            backlog: i32::try_from(options.backlog).unwrap_or(i32::MAX),
            keepalive: (!idle.is_zero()).then(|| TcpKeepalive::new().with_time(idle)),
        }
    }
}

impl Admission {
    /// Nobody came in yet. `name` is for logs and metrics.
    pub fn new(name: &str, connections: &Connections, entry: Entry) -> Self {
        let connects = entry.limits.connects().map(|rate| Bucket::new(rate, Instant::now().into_std()));
        Self { shared: Arc::new(Shared::new(name, entry)), room: Arc::clone(&connections.room), connects }
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Whether one address may have, or make, only so many connections: its sender should be known then.
    pub fn counts_addresses(&self) -> bool {
        self.shared.crowd.is_some()
    }

    /// A place for a connection from `address`. `None`: a limit is reached, which is counted and told in the log.
    pub fn admit(&self, address: SocketAddr) -> Option<Place> {
        self.place(address).map_err(|refusal| self.shared.refused(refusal, address)).ok()
    }

    fn place(&self, address: SocketAddr) -> Result<Place, Refusal> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Refusal::Full)?;
        let now = Instant::now().into_std();
        if self.connects.as_ref().is_some_and(|connects| connects.try_charge(1, now).is_err()) {
            return Err(Refusal::Fast);
        }
        let by_proxy = self.shared.proxy_protocol == ProxyProtocol::Required;
        if by_proxy && !any_contains(&self.shared.trusted_proxies, address.ip()) {
            return Err(Refusal::Untrusted);
        }
        let place = Place::take(Arc::clone(&self.shared), address, room)?;
        if by_proxy { Ok(place) } else { place.of_client(address) }
    }
}

impl Shared {
    fn new(name: &str, entry: Entry) -> Self {
        let Entry { limits, proxy_protocol, trusted_proxies, tls } = entry;
        let name: Arc<str> = name.into();
        let crowd = Crowd::new(limits.address_connections, limits.address_connects());
        let (handshakes_max, handshake_s) =
            tls.as_ref().map_or((HANDSHAKES_MAX, HANDSHAKE_S), |tls| tls.handshake_limits());
        Self {
            crowd,
            limits,
            proxy_protocol,
            trusted_proxies,
            tls,
            handshakes: Handshakes::new(handshakes_max),
            handshake_limit: Duration::from_secs(u64::from(handshake_s)),
            open: AtomicU32::new(0),
            closed: metrics::counter!("weft_transport_connections_closed_total", "listener" => Arc::clone(&name)),
            accepted: metrics::counter!("weft_transport_connections_accepted_total", "listener" => Arc::clone(&name)),
            reports: Repeats::default(),
            name,
        }
    }

    /// Waits for a handshake, within the limits of time and count. What fails is counted and told in the log. Not
    /// cancel-safe: dropped, the connection is closed.
    pub(crate) async fn shake<T>(
        &self,
        address: SocketAddr,
        mut turn: Turn,
        shaking: impl Future<Output = Result<T, Failure>>,
    ) -> Option<T> {
        let outcome = tokio::select! {
            biased;
            outcome = timeout(self.handshake_limit, shaking) => outcome.unwrap_or(Err(Failure::Timeout)),
            () = turn.over() => Err(Failure::Crowded),
        };
        let failure = match outcome {
            Ok(done) => return Some(done),
            Err(failure) => failure,
        };
        if let Failure::Refused(refusal) = failure {
            self.refused(refusal, address);
            return None;
        }
        let reason = failure.reason();
        let labels =
            [("listener", metrics::SharedString::from(Arc::clone(&self.name))), ("reason", reason.into())];
        metrics::counter!("weft_transport_handshakes_failed_total", &labels).increment(1);
        if let Some(unsaid) = self.reports.may_say(Instant::now().into_std()) {
            tracing::warn!(listener = &*self.name, peer = %address, reason, unsaid, "handshake failed: {failure}");
        }
        None
    }

    pub(crate) fn refused(&self, refusal: Refusal, address: SocketAddr) {
        let labels = [
            ("listener", metrics::SharedString::from(Arc::clone(&self.name))),
            ("reason", refusal.reason().into()),
        ];
        metrics::counter!("weft_transport_connections_refused_total", &labels).increment(1);
        if let Some(unsaid) = self.reports.may_say(Instant::now().into_std()) {
            tracing::warn!(listener = &*self.name, peer = %address, unsaid, "connection closed: {refusal}");
        }
    }
}

/// For listeners that ask for a PROXY header and speak no TLS.
const HANDSHAKES_MAX: u32 = 1000;
const HANDSHAKE_S: u16 = 10;

impl Place {
    /// The client's address, as far as it is known.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handshake begins: call it when the connection is accepted, so that handshakes are as old as their connections.
    pub fn turn(&self) -> Turn {
        self.shared.handshakes.begin()
    }

    /// Waits for the handshake of a connection that came in, within the limits of its listener; `None`: it failed, which is
    /// counted and told in the log. Not cancel-safe: dropped, the connection is closed.
    pub async fn shake<T>(&self, turn: Turn, shaking: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        self.shared.shake(self.address, turn, shaking).await
    }

    /// How fast the connection is read, if that is limited.
    pub fn throttle(&self) -> Option<Throttle> {
        self.shared.limits.bytes().map(Throttle::new)
    }

    fn take(shared: Arc<Shared>, address: SocketAddr, room: OwnedSemaphorePermit) -> Result<Self, Refusal> {
        let before = shared.open.fetch_add(1, Ordering::Relaxed);
        let most = shared.limits.connections;
        shared.accepted.increment(1);
        let place = Self { shared, address, in_crowd: false, _room: room };
        if most > 0 && before >= most { Err(Refusal::ListenerFull) } else { Ok(place) }
    }

    /// The client is known: counts it for its address.
    pub(crate) fn of_client(mut self, address: SocketAddr) -> Result<Self, Refusal> {
        self.address = address;
        if let Some(crowd) = &self.shared.crowd {
            let entered = crowd.enter(address.ip(), Instant::now().into_std());
            entered.map_err(|many| match many {
                TooMany::Open => Refusal::AddressFull,
                TooMany::Fast => Refusal::AddressFast,
            })?;
            self.in_crowd = true;
        }
        Ok(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.closed.increment(1);
        if let Some(crowd) = self.shared.crowd.as_ref().filter(|_| self.in_crowd) {
            crowd.leave(self.address.ip());
        }
    }
}
