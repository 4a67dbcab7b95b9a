//! Listeners: one loop that accepts for each, one match from carrier and protocol to who serves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::{Extension, Router};
use config::{Carrier, Config, ListenerTable};
use event::access::Gate;
use event::hub::Hub;
use event::{Health, Rate, Source};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use transport::{Accepted, Arrival, Connections, Entry, Listener, Network, Peer, Stream, Tls, TlsError};

use crate::metered::{meter, metered};
use crate::requests::prepared;
use crate::tasks::Tasks;
use crate::upgrade::Next;

/// What is spoken on a listener.
#[derive(Clone)]
pub(crate) enum Protocol {
    /// MQTT on the bare connection.
    Mqtt(Mqtt),
    /// HTTP, and over it CloudEvents, WebSocket and the admin pages; or EventMesh, or its pages for operators.
    Http(Http),
    /// EventMesh over gRPC.
    Grpc(Grpc),
    /// EventMesh over TCP.
    EventmeshTcp(tcp::Parts),
}

/// What MQTT needs.
#[derive(Clone)]
pub(crate) struct Mqtt {
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) hub: Arc<dyn Hub>,
    pub(crate) options: Arc<mqtt::Options>,
}

/// What HTTP needs.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) router: Router,
    pub(crate) options: Arc<http_front::Options>,
}

/// What gRPC needs.
#[derive(Clone)]
pub(crate) struct Grpc {
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) services: grpc::Services,
}

/// A listener that is bound, for all to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Its name: "mqtt", "http", or that of its table.
    pub name: String,
    /// Where it listens, with its real port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: config::Protocol,
    /// What carries it.
    pub carrier: Carrier,
}

/// A listener that is bound and not served yet.
pub(crate) struct Bound {
    pub(crate) listening: Listening,
    door: Door,
}

impl Bound {
    /// Its certificates, if it has any.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        match &self.door {
            Door::Tcp { tls, .. } => tls.clone(),
            Door::Quic { tls, .. } => Some(Arc::clone(tls)),
        }
    }
}

/// What accepts, for each carrier.
enum Door {
    Tcp { listener: Listener, tls: Option<Arc<Tls>>, shaping: Shaping },
    Quic { listener: Box<quic::Listener>, tls: Arc<Tls>, shaping: Shaping },
}

/// What is done to connections of a listener above the stream.
#[derive(Clone)]
pub(crate) struct Shaping {
    packets: Option<Rate>,
    trusted_proxies: Arc<[Network]>,
}

/// Binds all listeners of `config`.
pub(crate) fn bind(config: &Config, health: &Health) -> anyhow::Result<Vec<Bound>> {
    let connections = Connections::new(&config.transport);
    let bind = |(name, table): (&str, ListenerTable)| {
        let door = match table.carrier {
            Carrier::Tcp | Carrier::Tls => bind_tcp(name, &table, &connections, health),
            Carrier::Quic => bind_quic(name, &table, &connections, health),
        };
        let (door, address) = door.with_context(|| format!("listener {name}"))?;
        let listening =
            Listening { name: name.to_owned(), address, protocol: table.protocol, carrier: table.carrier };
        Ok(Bound { listening, door })
    };
    config.listeners().map(bind).collect()
}

fn bind_tcp(
    name: &str,
    table: &ListenerTable,
    connections: &Connections,
    health: &Health,
) -> anyhow::Result<(Door, SocketAddr)> {
    let tls = open_tls(name, table, health)?;
    let listener = Listener::bind(name, table.listen.0, connections, entry(table, tls.clone()))?;
    let address = listener.address();
    Ok((Door::Tcp { listener, tls, shaping: shaping(table) }, address))
}

fn bind_quic(
    name: &str,
    table: &ListenerTable,
    connections: &Connections,
    health: &Health,
) -> anyhow::Result<(Door, SocketAddr)> {
    let tls = open_tls(name, table, health)?.context("QUIC needs certificates")?;
    let entry = entry(table, Some(Arc::clone(&tls)));
    let listener =
        quic::Listener::bind(name, table.listen.0, connections, entry, Arc::clone(&tls), &table.quic)?;
    let address = listener.address();
    Ok((Door::Quic { listener: Box::new(listener), tls, shaping: shaping(table) }, address))
}

fn entry(table: &ListenerTable, tls: Option<Arc<Tls>>) -> Entry {
    Entry {
        limits: table.limits.clone(),
        proxy_protocol: table.proxy_protocol,
        trusted_proxies: table.trusted_proxies.clone(),
        tls,
    }
}

fn shaping(table: &ListenerTable) -> Shaping {
    Shaping { packets: table.limits.packets(), trusted_proxies: Arc::from(table.trusted_proxies.as_slice()) }
}

/// Reads the TLS files of a listener that has any.
pub(crate) fn open_tls(
    name: &str,
    table: &ListenerTable,
    health: &Health,
) -> Result<Option<Arc<Tls>>, TlsError> {
    let alpn: &[&[u8]] = match table.protocol {
        config::Protocol::Mqtt => &[b"mqtt"],
        config::Protocol::Http | config::Protocol::EventmeshHttp | config::Protocol::EventmeshAdmin => {
            &[b"h2", b"http/1.1"]
        }
        config::Protocol::Grpc => &[b"h2"],
        config::Protocol::EventmeshTcp => &[],
    };
    match table.carrier {
        Carrier::Tcp => Ok(None),
        Carrier::Tls | Carrier::Quic => Tls::open(name, &table.tls, alpn, health.clone()).map(Some),
    }
}

/// When to stop, and how long that may take.
#[derive(Clone)]
pub(crate) struct Stop {
    pub(crate) drain: watch::Receiver<bool>,
    pub(crate) patience: Duration,
}

/// Serves the listeners among `bound` that speak `kind`, each in a task of its own; the others stay.
pub(crate) fn serve(
    bound: &mut Vec<Bound>,
    kind: config::Protocol,
    protocol: &Protocol,
    stop: &Stop,
    parts: &mut JoinSet<()>,
) {
    for Bound { listening: _, door } in bound.extract_if(.., |bound| bound.listening.protocol == kind) {
        match door {
            Door::Tcp { listener, tls, shaping } => {
                if let Some(tls) = tls {
                    parts.spawn(tls.watch(stop.drain.clone()));
                }
                parts.spawn(run(listener, shaping, protocol.clone(), stop.clone()));
            }
            Door::Quic { listener, tls, shaping } => {
                // Settings let it carry nothing else.
                let Protocol::Mqtt(mqtt) = protocol else { continue };
                parts.spawn(tls.watch(stop.drain.clone()));
                parts.spawn(run_quic(listener, shaping, mqtt.clone(), stop.clone()));
            }
        }
    }
}

impl Protocol {
    fn name(&self) -> &'static str {
        match self {
            Self::Mqtt(_) => "mqtt",
            Self::Http(_) => "http",
            Self::Grpc(_) => "grpc",
            Self::EventmeshTcp(_) => "eventmesh-tcp",
        }
    }

    /// Serves what came in, in a task of its own.
    fn serve(&self, accepted: Accepted, shaping: &Shaping, drain: watch::Receiver<bool>, tasks: &mut Tasks) {
        match (accepted, self) {
            (Accepted::Ready(stream), Self::Mqtt(mqtt)) => {
                tasks.spawn(mqtt.serve(stream, None, shaping, drain))
            }
            (Accepted::Ready(stream), Self::Http(http)) => tasks.spawn(http.serve(stream, shaping, drain)),
            (Accepted::Ready(stream), Self::Grpc(grpc)) => tasks.spawn(grpc.serve(stream, shaping, drain)),
            (Accepted::Ready(stream), Self::EventmeshTcp(parts)) => {
                tasks.spawn(serve_tcp(stream, parts.clone(), shaping, drain));
            }
            (Accepted::Arriving(arrival), _) => {
                tasks.spawn(arrive(arrival, self.clone(), shaping.clone(), drain));
            }
        }
    }
}

/// Not cancel-safe: dropped, the client is lost.
async fn arrive(arrival: Arrival, protocol: Protocol, shaping: Shaping, mut drain: watch::Receiver<bool>) {
    // On the heap, so that it takes nothing from connections that have arrived.
    let arrived = tokio::select! {
        biased;
        () = stopped(&mut drain) => None,
        arrived = Box::pin(arrival.finish()) => arrived,
    };
    let Some(stream) = arrived else { return };
    drain.mark_unchanged();
    match protocol {
        Protocol::Mqtt(mqtt) => Box::pin(mqtt.serve(stream, None, &shaping, drain)).await,
        Protocol::Http(http) => Box::pin(http.serve(stream, &shaping, drain)).await,
        Protocol::Grpc(grpc) => Box::pin(grpc.serve(stream, &shaping, drain)).await,
        Protocol::EventmeshTcp(parts) => Box::pin(serve_tcp(stream, parts, &shaping, drain)).await,
    }
}

fn serve_tcp(
    stream: Stream,
    parts: tcp::Parts,
    shaping: &Shaping,
    drain: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<> {
    let source = source(stream.peer());
    let gate = metered(parts.gate, meter(shaping.packets));
    tcp::serve(stream, source, tcp::Parts { gate, ..parts }, drain)
}

impl Mqtt {
    fn serve(
        &self,
        stream: Stream,
        data: Option<mqtt::Accept>,
        shaping: &Shaping,
        drain: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let source = source(stream.peer());
        let gate = metered(Arc::clone(&self.gate), meter(shaping.packets));
        mqtt::serve_many(stream, data, source, gate, Arc::clone(&self.hub), Arc::clone(&self.options), drain)
    }
}

impl Http {
    fn serve(
        &self,
        stream: Stream,
        shaping: &Shaping,
        drain: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let source = source(stream.peer());
        let meter = meter(shaping.packets);
        let next = Next::new(meter.clone());
        let router = prepared(self.router.clone(), &shaping.trusted_proxies, meter);
        let router = router.layer(Extension(next.clone())).layer(Extension(source));
        let options = Arc::clone(&self.options);
        async move {
            http_front::serve_connection(stream, router, &options, drain).await;
            if let Some(work) = next.take() {
                work.await;
            }
        }
    }
}

impl Grpc {
    fn serve(
        &self,
        stream: Stream,
        shaping: &Shaping,
        drain: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let source = source(stream.peer());
        let gate = metered(Arc::clone(&self.gate), meter(shaping.packets));
        let services = self.services.clone();
        async move { services.serve(stream, source, gate, drain).await }
    }
}

/// The other end of a connection, as the gate knows it.
fn source(peer: Peer) -> Source {
    Source { address: peer.address, listener: peer.listener, certificate: peer.certificate }
}

/// Accepts and serves until it is time to stop; then gives connections the time they have to finish.
async fn run(mut listener: Listener, shaping: Shaping, protocol: Protocol, stop: Stop) {
    let Stop { mut drain, patience } = stop;
    let mut tasks = Tasks::new(protocol.name());
    let mut stop = drain.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            () = tasks.ended() => {}
            accepted = listener.accept() => protocol.serve(accepted, &shaping, drain.clone(), &mut tasks),
        }
    }
    drop((listener, protocol));
    drain.mark_unchanged();
    tasks.finish(Instant::now() + patience).await;
}

/// As [`run`], for QUIC. Its connections share one socket, which stays until all clients were told.
async fn run_quic(mut listener: Box<quic::Listener>, shaping: Shaping, mqtt: Mqtt, stop: Stop) {
    let Stop { mut drain, patience } = stop;
    let mut tasks = Tasks::new("quic");
    let mut stop = drain.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            () = tasks.ended() => {}
            arrival = listener.accept() => match arrival {
                Some(arrival) => tasks.spawn(arrive_quic(arrival, mqtt.clone(), shaping.clone(), drain.clone())),
                None => return tracing::error!(address = %listener.address(), "the socket failed"),
            },
        }
    }
    listener.refuse();
    drain.mark_unchanged();
    let deadline = Instant::now() + patience;
    tasks.finish(deadline).await;
    timeout_at(deadline + CLOSING, listener.idle()).await.unwrap_or(());
}

/// How long clients may take to learn that their connection is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// Not cancel-safe: dropped, the client is lost.
async fn arrive_quic(arrival: quic::Arrival, mqtt: Mqtt, shaping: Shaping, mut drain: watch::Receiver<bool>) {
    let arrived = tokio::select! {
        biased;
        () = stopped(&mut drain) => None,
        arrived = Box::pin(arrival.finish()) => arrived,
    };
    let Some(quic::Client { control, mut data }) = arrived else { return };
    drain.mark_unchanged();
    let accept: mqtt::Accept =
        Box::new(move |cx| data.poll_accept(cx).map(|stream| Box::new(stream) as Box<dyn mqtt::DataStream>));
    Box::pin(mqtt.serve(control, Some(accept), &shaping, drain)).await;
}

/// Resolves when Weft stops. Cancel-safe.
pub(crate) async fn stopped(drain: &mut watch::Receiver<bool>) {
    // A sender that is gone is a stop, too.
    drain.wait_for(|stop| *stop).await.map(drop).unwrap_or(());
}
