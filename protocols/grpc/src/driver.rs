//! Serves connections: HTTP/2, its calls, and the PINGs that tell what a client has. Nothing but this file and those
//! below it awaits.

mod body;
mod calls;
mod consume;
mod io;
mod publish;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event::access::{Asking, Credentials, Gate};
use event::hub::Hub;
use event::{Budget, ClientId, Principal, Source};
use eventmesh::{Clients, Requester};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use webhook::Hooks;

use self::body::{Held, RequestBody, respond};
use self::calls::Extra;
use self::io::{Sent, Watched};
use crate::Options;
use crate::error::{Answer, Code};
use crate::registry::Registry;

/// EventMesh's services. Cloning shares them.
#[derive(Clone)]
pub struct Services(Arc<Shared>);

struct Shared {
    hub: Arc<dyn Hub>,
    requester: Requester,
    hooks: Hooks,
    clients: Clients,
    options: Options,
    eventmesh: eventmesh::Options,
    registry: Registry,
    messages: Budget,
    extra: Extra,
}

impl Services {
    /// Services that publish to, and subscribe at, `hub`, ask with `requester`, and deliver to `hooks`. Operators see who has
    /// a stream among `clients`. Cancel-safe.
    pub async fn new(
        hub: Arc<dyn Hub>,
        requester: Requester,
        (hooks, clients): (Hooks, Clients),
        options: Options,
        eventmesh: eventmesh::Options,
    ) -> Self {
        let messages = Budget::new(options.messages_bytes_max, u32::MAX);
        let (registry, extra) = (Registry::default(), Extra::new().await);
        Self(Arc::new(Shared {
            hub,
            requester,
            hooks,
            clients,
            options,
            eventmesh,
            registry,
            messages,
            extra,
        }))
    }

    /// Serves one connection of `source` until the client leaves, does not answer any more, or `drain` turns true and the calls
    /// under way are answered. Not cancel-safe: calls under way are cut off.
    pub async fn serve<S>(&self, io: S, source: Source, gate: Arc<dyn Gate>, drain: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let options = &self.0.options;
        let sent = Sent::default();
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(options.calls_max.max(1))
            .max_header_list_size(HEADERS_MAX)
            .max_send_buffer_size(SEND_BUFFER);
        let patience = Duration::from_secs(u64::from(options.call_timeout_s.max(1)));
        let handshake = builder.handshake::<_, Bytes>(Watched::new(io, sent.clone()));
        let mut connection = match timeout(patience, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%error, "no HTTP/2 connection"),
            Err(_) => return tracing::debug!("no HTTP/2 preface in time"),
        };
        let Some(pings) = connection.ping_pong() else { return };
        metrics::counter!("weft_grpc_connections_opened_total").increment(1);
        let pinger = Pinger::new(pings, Duration::from_secs(u64::from(options.ping_s.max(1))));
        let site = Site { shared: Arc::clone(&self.0), gate, source, sent, drain };
        run(connection, pinger, site).await;
        metrics::counter!("weft_grpc_connections_closed_total").increment(1);
    }
}

/// Of a stream, what a client may send before it is read: a message that is larger comes in pieces.
const STREAM_WINDOW: u32 = 128 << 10;
/// The same of a connection: all its calls together.
const CONNECTION_WINDOW: u32 = 1 << 20;
const HEADERS_MAX: u32 = 16 << 10;
/// Of a stream, what may wait for the socket.
const SEND_BUFFER: usize = 64 << 10;

/// What the calls of one connection need.
#[derive(Clone)]
pub(crate) struct Site {
    shared: Arc<Shared>,
    gate: Arc<dyn Gate>,
    source: Source,
    sent: Sent,
    drain: watch::Receiver<bool>,
}

impl Site {
    /// Asks the gate about a call that goes by the name of `client`. What its headers show goes before what its message
    /// shows. Cancel-safe.
    async fn admit(
        &self,
        client: &str,
        headers: &HeaderMap,
        credentials: Credentials,
    ) -> Result<Principal, Answer> {
        let refused = |reject: event::Reject| Answer::of(&reject, Code::Acl);
        let credentials = match headers.get(http::header::AUTHORIZATION) {
            Some(value) => Credentials::of_request(Some(value.as_bytes()), None).map_err(refused)?,
            None => credentials,
        };
        let asking = Asking { client: ClientId::from(client), source: self.source.clone(), credentials };
        self.gate.admit(asking).await.map_err(refused)
    }

    /// How long a call may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.shared.options.call_timeout_s.max(1)))
    }
}

/// Not cancel-safe: calls are cut off.
async fn run<S>(mut connection: Connection<Watched<S>, Bytes>, mut pinger: Pinger, site: Site)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut calls = FuturesUnordered::new();
    let mut drain = site.drain.clone();
    let mut draining = false;
    loop {
        let wants_proof = site.sent.with(|wire| wire.wants_proof());
        let next = pinger.next(wants_proof);
        tokio::select! {
            biased;
            _ = drain.wait_for(|drain| *drain), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            Some(()) = calls.next(), if !calls.is_empty() => {}
            accepted = connection.accept() => match accepted {
                Some(Ok((request, answer))) => calls.push(call(site.clone(), request, answer)),
                Some(Err(error)) => {
                    tracing::debug!(%error, "connection ended");
                    return;
                }
                None => return,
            },
            answered = poll_fn(|cx| pinger.pings.poll_pong(cx)), if pinger.out.is_some() => match answered {
                Ok(_) => {
                    pinger.out = None;
                    site.sent.handle_pong();
                }
                Err(_) => return,
            },
            () = site.sent.wants_proof(), if !wants_proof => {}
            () = sleep_until(next) => {
                if pinger.is_dead() {
                    tracing::debug!("the client does not answer");
                    return;
                }
                pinger.ping();
            }
        }
    }
}

/// Answers one call. Not cancel-safe: its stream is reset.
async fn call(site: Site, request: Request<RecvStream>, answer: SendResponse<Bytes>) {
    let id = answer.stream_id().as_u32();
    let held = Held::default();
    let budget = site.shared.messages.clone();
    let request = request.map(|stream| RequestBody::new(stream, held.clone(), budget));
    let response = calls::answer(&site, id, held, request).await;
    // The client may have gone; there is no one to tell.
    respond(response, answer).await.unwrap_or(());
}

/// When to ping.
struct Pinger {
    pings: PingPong,
    period: Duration,
    /// When the last one left, and when the one left that is not answered.
    last: Instant,
    out: Option<Instant>,
}

impl Pinger {
    fn new(pings: PingPong, period: Duration) -> Self {
        Self { pings, period, last: Instant::now(), out: None }
    }

    /// When something is to be done next.
    fn next(&self, wants_proof: bool) -> Instant {
        match self.out {
            Some(out) => out + self.period,
            None if wants_proof => self.last + PROOF_INTERVAL,
            None => self.last + self.period,
        }
    }

    fn is_dead(&self) -> bool {
        self.out.is_some_and(|out| out.elapsed() >= self.period)
    }

    fn ping(&mut self) {
        if self.out.is_none() && self.pings.send_ping(Ping::opaque()).is_ok() {
            self.last = Instant::now();
            self.out = Some(self.last);
        }
    }
}

/// The least time between two PINGs that ask what the client has: one serves all events that left meanwhile.
const PROOF_INTERVAL: Duration = Duration::from_millis(5);

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
