//! A TCP listener with limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use event::Bucket;
use metrics::Counter;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::arrival::Arrival;
use crate::crowd::{Crowd, TooMany};
use crate::handshakes::Handshakes;
use crate::network::{Network, any_contains};
use crate::options::{Entry, ProxyProtocol};
use crate::repeats::Repeats;
use crate::{Limits, Options, Stream, Tls};

/// How many connections may be open, and how they are set up. Cloning shares the count.
#[derive(Clone, Debug)]
pub struct Connections {
    room: Arc<Semaphore>,
    backlog: i32,
    keepalive: Option<TcpKeepalive>,
}

/// A bound TCP address.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    connections: Connections,
    /// How fast connections may come.
    connects: Option<Bucket>,
    /// How often accepting failed in a row.
    failures: u32,
}

/// What came in.
#[derive(Debug)]
pub enum Accepted {
    /// A connection that can be used.
    Ready(Stream),
    /// One that has to say more first: finish it in a task of its own.
    Arriving(Arrival),
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

/// An address cannot be listened on. Tells which, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {advice}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    advice: String,
    #[source]
    source: io::Error,
}

/// What the connections of one listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) proxy_protocol: ProxyProtocol,
    trusted_proxies: Vec<Network>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) handshake_limit: Duration,
    crowd: Option<Crowd>,
    open: AtomicU32,
    closed: Counter,
    accepted: Counter,
    pub(crate) reports: Repeats,
}

/// A connection's place in all counts. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) shared: Arc<Shared>,
    /// The client's, as far as it is known.
    pub(crate) address: SocketAddr,
    /// Whether it is counted for its address.
    in_crowd: bool,
    _room: OwnedSemaphorePermit,
}

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("transport.connections_max is reached")]
    Full,
    #[error("limits.connections is reached")]
    ListenerFull,
    #[error("limits.connects_per_second is reached")]
    Fast,
    #[error("limits.address_connections is reached")]
    AddressFull,
    #[error("limits.address_connects_per_second is reached")]
    AddressFast,
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

impl Listener {
    /// Binds `address`, port 0 for any free one. `name` is for logs and metrics. Needs a tokio runtime.
    pub fn bind(
        name: &str,
        address: SocketAddr,
        connections: &Connections,
        entry: Entry,
    ) -> Result<Self, BindError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // Else an address could not be bound for a minute after a stop. It allows no second listener.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(connections.backlog)?;
            TcpListener::from_std(socket.into())
        };
        let socket = bind().map_err(|source| BindError { address, advice: advice(&source), source })?;
        let address = socket.local_addr().unwrap_or(address);
        let connects = entry.limits.connects().map(|rate| Bucket::new(rate, Instant::now().into_std()));
        let shared = Arc::new(Shared::new(name, entry));
        Ok(Self { socket, address, shared, connections: connections.clone(), connects, failures: 0 })
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Connections above a limit are closed at once. Where the system has no descriptor or
    /// memory left, waits longer each time, up to a second: asking on would only burn the processor. Cancel-safe.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => {
                    self.failures = 0;
                    match self.admit(address) {
                        Ok(place) => return self.set_up(stream, place),
                        Err(refusal) => self.shared.refused(refusal, address),
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let name = &self.shared.name;
                    metrics::counter!("weft_transport_accept_errors_total", "listener" => Arc::clone(name))
                        .increment(1);
                    if self.failures == 0 {
                        let advice = "close connections, or raise the limit of open files (ulimit -n)";
                        tracing::warn!(listener = &**name, %error, advice, "cannot accept connections");
                    }
                    let pause = pause(self.failures);
                    self.failures = self.failures.saturating_add(1);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn admit(&self, address: SocketAddr) -> Result<Place, Refusal> {
        let room = Arc::clone(&self.connections.room).try_acquire_owned().map_err(|_| Refusal::Full)?;
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

    fn set_up(&self, stream: TcpStream, place: Place) -> Accepted {
        let set_up = || {
            stream.set_nodelay(true)?;
            self.connections
                .keepalive
                .as_ref()
                .map_or(Ok(()), |probe| SockRef::from(&stream).set_tcp_keepalive(probe))
        };
        // It fails only for a connection that is gone; the first read will tell.
        set_up().unwrap_or_default();
        if place.shared.tls.is_some() || place.shared.proxy_protocol == ProxyProtocol::Required {
            return Accepted::Arriving(Arrival::new(stream, place));
        }
        Accepted::Ready(Stream::plain(stream, place))
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

/// Errors of a connection that ended before it was accepted: the next one may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn pause(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(10)).min(Duration::from_secs(1))
}

fn advice(error: &io::Error) -> String {
    // std's own enum: it has more kinds than any caller can tell apart.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of std that grows")]
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another port or address".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "no network interface of this machine has that address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need the privilege CAP_NET_BIND_SERVICE, others do not"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn bind(address: SocketAddr, options: &Options) -> Result<Listener, BindError> {
        Listener::bind("test", address, &Connections::new(options), Entry::default())
    }

    fn listener(options: &Options) -> Listener {
        bind("127.0.0.1:0".parse().unwrap(), options).unwrap()
    }

    async fn accept(listener: &mut Listener) -> Stream {
        match listener.accept().await {
            Accepted::Ready(stream) => stream,
            Accepted::Arriving(arrival) => arrival.finish().await.unwrap(),
        }
    }

    #[tokio::test]
    async fn what_connects_is_accepted() {
        let mut listener = listener(&Options::default());
        let client = TcpStream::connect(listener.address()).await.unwrap();
        let stream = accept(&mut listener).await;
        assert_eq!(
            stream.peer(),
            Peer { address: client.local_addr().unwrap(), listener: "test".into(), certificate: None }
        );
        assert!(stream.tcp().nodelay().unwrap());
        assert!(SockRef::from(stream.tcp()).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_the_next_may_come() {
        let mut listener = listener(&Options { connections_max: 1, ..Options::default() });
        let _first = TcpStream::connect(listener.address()).await.unwrap();
        let held = accept(&mut listener).await;
        let mut second = TcpStream::connect(listener.address()).await.unwrap();
        let mut read = [0; 1];
        tokio::select! {
            _ = listener.accept() => panic!("there is no room"),
            closed = second.read(&mut read) => assert!(matches!(closed, Ok(0) | Err(_))),
        }
        drop(held);
        let third = TcpStream::connect(listener.address()).await.unwrap();
        assert_eq!(accept(&mut listener).await.peer().address, third.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let first = listener(&Options::default());
        let error = bind(first.address(), &Options::default()).unwrap_err().to_string();
        assert!(
            error.contains(&first.address().to_string()) && error.contains("choose another port"),
            "{error}"
        );
        let error = bind("203.0.113.1:0".parse().unwrap(), &Options::default()).unwrap_err();
        assert!(error.to_string().contains("no network interface"), "{error}");
    }

    #[tokio::test]
    async fn an_address_is_free_again_after_a_stop() {
        let mut stopped = listener(&Options::default());
        let address = stopped.address();
        let client = TcpStream::connect(address).await.unwrap();
        // The side that closes first keeps the address in TIME_WAIT.
        drop(stopped.accept().await);
        drop(stopped);
        drop(client);
        bind(address, &Options::default()).unwrap();
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        let all: Vec<u128> = [0, 1, 4, 5, u32::MAX].map(|failures| pause(failures).as_millis()).to_vec();
        assert_eq!(all, [50, 100, 800, 1000, 1000]);
    }
}
