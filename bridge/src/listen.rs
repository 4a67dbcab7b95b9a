//! Listeners: one loop that accepts, one match from protocol to `serve`.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use event::Source;
use event::access::Gate;
use event::hub::Hub;
use tokio::sync::watch;
use tokio::time::Instant;
use transport::{Listener, Peer, Stream};

use crate::tasks::Tasks;
use crate::upgrade::Next;

/// What is spoken on a listener.
pub(crate) enum Protocol {
    /// MQTT on the bare connection.
    Mqtt { gate: Arc<dyn Gate>, hub: Arc<dyn Hub>, options: Arc<mqtt::Options> },
    /// HTTP, and over it CloudEvents, WebSocket and the admin pages.
    Http { router: Router, options: Arc<http_front::Options> },
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
                let next = Next::new(stream.peer());
                let router =
                    router.clone().layer(Extension(next.clone())).layer(Extension(source(stream.peer())));
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
pub(crate) fn source(peer: Peer) -> Source {
    Source { address: peer.address, listener: Arc::from(peer.listener), certificate: None }
}

/// Accepts and serves until `drain` turns true; then gives connections `patience` to finish.
pub(crate) async fn run(
    mut listener: Listener,
    protocol: Protocol,
    mut drain: watch::Receiver<bool>,
    patience: Duration,
) {
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
