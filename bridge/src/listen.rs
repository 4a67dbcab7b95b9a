//! Listeners: one loop that accepts for each, one match from carrier and protocol to who serves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::{Extension, Router};
use config::{Carrier, Config};
use event::Source;
use event::access::Gate;
use event::hub::Hub;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use transport::{Connections, Listener, Peer, Stream};

use crate::tasks::Tasks;
use crate::upgrade::Next;

/// What is spoken on a listener.
#[derive(Clone)]
pub(crate) enum Protocol {
    /// MQTT on the bare connection.
    Mqtt { gate: Arc<dyn Gate>, hub: Arc<dyn Hub>, options: Arc<mqtt::Options> },
    /// HTTP, and over it CloudEvents, WebSocket and the admin pages.
    Http { router: Router, options: Arc<http_front::Options> },
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

/// What accepts, for each carrier.
enum Door {
    Tcp(Listener),
}

/// Binds all listeners of `config`.
pub(crate) fn bind(config: &Config) -> anyhow::Result<Vec<Bound>> {
    let connections = Connections::new(&config.transport);
    let bind = |(name, table): (&str, config::ListenerTable)| {
        let (door, address) = match table.carrier {
            Carrier::Tcp => {
                let listener = Listener::bind(name, table.listen.0, &connections);
                let listener = listener.with_context(|| format!("listener {name}"))?;
                let address = listener.address();
                (Door::Tcp(listener), address)
            }
        };
        let listening =
            Listening { name: name.to_owned(), address, protocol: table.protocol, carrier: table.carrier };
        Ok(Bound { listening, door })
    };
    config.listeners().map(bind).collect()
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
            Door::Tcp(listener) => parts.spawn(run(listener, protocol.clone(), stop.clone())),
        };
    }
}

impl Protocol {
    fn name(&self) -> &'static str {
        match self {
            Self::Mqtt { .. } => "mqtt",
            Self::Http { .. } => "http",
        }
    }

    fn serve(&self, stream: Stream, drain: watch::Receiver<bool>, tasks: &mut Tasks) {
        match self {
            Self::Mqtt { gate, hub, options } => {
                let source = source(stream.peer());
                let (gate, hub, options) = (Arc::clone(gate), Arc::clone(hub), Arc::clone(options));
                tasks.spawn(mqtt::serve(stream, source, gate, hub, options, drain));
            }
            Self::Http { router, options } => {
                let source = source(stream.peer());
                let next = Next::default();
                let router = router.clone().layer(Extension(next.clone())).layer(Extension(source));
                let options = Arc::clone(options);
                tasks.spawn(async move {
                    http_front::serve_connection(stream, router, &options, drain).await;
                    if let Some(work) = next.take() {
                        work.await;
                    }
                });
            }
        }
    }
}

/// The other end of a connection, as the gate knows it.
fn source(peer: Peer) -> Source {
    Source { address: peer.address, listener: peer.listener, certificate: None }
}

/// Accepts and serves until it is time to stop; then gives connections the time they have to finish.
async fn run(mut listener: Listener, protocol: Protocol, stop: Stop) {
    let Stop { mut drain, patience } = stop;
    let mut tasks = Tasks::new(protocol.name());
    let mut stop = drain.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            () = tasks.ended() => {}
            stream = listener.accept() => protocol.serve(stream, drain.clone(), &mut tasks),
        }
    }
    drop((listener, protocol));
    drain.mark_unchanged();
    tasks.finish(Instant::now() + patience).await;
}

/// Resolves when Weft stops. Cancel-safe.
pub(crate) async fn stopped(drain: &mut watch::Receiver<bool>) {
    // A sender that is gone is a stop, too.
    drain.wait_for(|stop| *stop).await.map(drop).unwrap_or(());
}
