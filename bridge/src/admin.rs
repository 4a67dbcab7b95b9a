//! `/live`, `/ready` and `/metrics`, on the HTTP listener from the first moment on; the protocols join when they can.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use event::Health;
use http::{StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

/// For a person who opens the address in a browser.
const HOME: &str = "\
Weft runs here.

POST /events               publish CloudEvents, or any body with ?topic=TOPIC
GET  /events?topic=FILTER  server-sent events
/ws                        CloudEvents over WebSocket
/mqtt                      MQTT over WebSocket
/live /ready /metrics      how Weft is
";

/// What the admin pages show, and the door to the protocols behind them.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    health: Health,
    metrics: PrometheusHandle,
    protocols: OnceLock<Router>,
    drain: watch::Receiver<bool>,
}

impl Front {
    pub(crate) fn new(health: Health, metrics: PrometheusHandle, drain: watch::Receiver<bool>) -> Self {
        Self(Arc::new(Inner { health, metrics, protocols: OnceLock::new(), drain }))
    }

    /// Weft has started: requests that are not for the admin pages go to `protocols`.
    pub(crate) fn open(&self, protocols: Router) {
        self.0.protocols.set(protocols.fallback(nothing)).unwrap_or(());
    }

    /// All that the HTTP listener serves.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/", get(|| async { HOME }))
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .fallback(protocols)
            .with_state(self.clone())
    }

    fn readiness(&self) -> (StatusCode, Value) {
        let parts = self.0.health.parts();
        let status = match (*self.0.drain.borrow(), self.0.protocols.get()) {
            (true, _) => "stopping",
            (false, None) => "starting",
            (false, Some(_)) if parts.iter().any(|(_, reason)| reason.is_some()) => "unready",
            (false, Some(_)) => "ready",
        };
        let part = |(name, reason): (String, Option<String>)| match reason {
            None => (name, json!({ "ok": true })),
            Some(reason) => (name, json!({ "ok": false, "reason": reason })),
        };
        let parts: Map<String, Value> = parts.into_iter().map(part).collect();
        let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, json!({ "status": status, "parts": parts }))
    }
}

async fn ready(State(front): State<Front>) -> Response {
    let (code, page) = front.readiness();
    answer(code, "application/json", format!("{page}\n"))
}

async fn metrics(State(front): State<Front>) -> Response {
    let text = front.0.metrics.render() + &crate::process::render();
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

async fn protocols(State(front): State<Front>, request: Request) -> Response {
    match front.0.protocols.get() {
        Some(router) => router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "closed", "weft is starting"),
    }
}

async fn nothing() -> Response {
    problem(StatusCode::NOT_FOUND, "not-found", "there is /events, /ws, /mqtt, /live, /ready and /metrics")
}

/// A refusal (RFC 9457).
fn problem(code: StatusCode, kind: &str, detail: &str) -> Response {
    let title = code.canonical_reason();
    let kind = format!("urn:weft:problem:{kind}");
    let page = json!({ "type": kind, "title": title, "status": code.as_u16(), "detail": detail });
    answer(code, "application/problem+json", format!("{page}\n"))
}

fn answer(code: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
