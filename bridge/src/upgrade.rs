//! What a connection goes on with after HTTP: WebSocket, and over it MQTT or CloudEvents. The connection's own task
//! serves it, so that it is counted, drained and cut off as one connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use event::access::Gate;
use event::hub::Hub;
use event::{Meter, Protocol, Source};
use tokio::sync::watch;

use crate::metered::{metered, speaking};

/// Where a request leaves what its connection goes on with.
#[derive(Clone)]
pub(crate) struct Next {
    work: Arc<Mutex<Option<Work>>>,
    meter: Option<Arc<Meter>>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Next {
    /// For a connection with this meter.
    pub(crate) fn new(meter: Option<Arc<Meter>>) -> Self {
        Self { work: Arc::default(), meter }
    }

    /// What follows, if a request asked for something.
    pub(crate) fn take(&self) -> Option<Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, work: impl Future<Output = ()> + Send + 'static) {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(work));
    }
}

/// What the handshakes need.
#[derive(Clone)]
pub(crate) struct Upgrades {
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) hub: Arc<dyn Hub>,
    pub(crate) websocket: Arc<websocket::Options>,
    pub(crate) mqtt: Arc<mqtt::Options>,
    pub(crate) drain: watch::Receiver<bool>,
}

/// `/ws` and `/mqtt`.
pub(crate) fn router(upgrades: Upgrades) -> Router {
    Router::new().route("/ws", any(events)).route("/mqtt", any(packets)).with_state(upgrades)
}

async fn events(
    State(upgrades): State<Upgrades>,
    Extension(next): Extension<Next>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Response {
    let Upgrades { gate, hub, websocket: options, mqtt: _, drain } = upgrades;
    let gate = speaking(metered(gate, next.meter.clone()), Protocol::WebSocket);
    let accepted = websocket::accept_events(request, source, gate, hub, options, drain).await;
    if let Some(work) = accepted.then {
        next.set(work);
    }
    answer(accepted.response)
}

async fn packets(
    State(upgrades): State<Upgrades>,
    Extension(next): Extension<Next>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Response {
    let Upgrades { gate, hub, websocket: options, mqtt, drain } = upgrades;
    let accepted = websocket::accept_mqtt(request, &options);
    if let Some(carrier) = accepted.then {
        let gate = speaking(metered(gate, next.meter.clone()), Protocol::Mqtt);
        next.set(async move {
            match carrier.await {
                Ok(stream) => mqtt::serve(stream, source, gate, hub, mqtt, drain).await,
                Err(error) => tracing::debug!(%error, "handshake not finished"),
            }
        });
    }
    answer(accepted.response)
}

fn answer(response: http::Response<String>) -> Response {
    response.map(Body::from).into_response()
}
