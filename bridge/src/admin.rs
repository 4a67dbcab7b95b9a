//! `/live`, `/ready` and `/metrics`, on the HTTP listener from the first moment on; the protocols join when they can.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use access::Access;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use event::access::{Asking, Credentials, Gate};
use event::audit::Wanted;
use event::{Audit, ClientId, Health, Principal, Reject, RejectKind, Source};
use http::request::Parts;
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
/admin/sessions            what is connected (for administrators: weft sessions, subscriptions, retained)
";

/// What the admin pages show, and the door to the protocols behind them.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    access: Access,
    health: Health,
    metrics: PrometheusHandle,
    /// With who lets administrators in from then on.
    protocols: OnceLock<(Router, Doorman)>,
    drain: watch::Receiver<bool>,
}

impl Front {
    pub(crate) fn new(
        access: Access,
        health: Health,
        metrics: PrometheusHandle,
        drain: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Inner { access, health, metrics, protocols: OnceLock::new(), drain }))
    }

    /// Weft has started: requests that are not for the admin pages go to `protocols`.
    pub(crate) fn open(&self, protocols: Router, doorman: Doorman) {
        self.0.protocols.set((protocols.fallback(nothing), doorman)).unwrap_or(());
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

    fn doorman(&self) -> Doorman {
        let early = || Doorman { gate: Arc::new(self.0.access.clone()), audit: Audit::default() };
        self.0.protocols.get().map_or_else(early, |(_, doorman)| doorman.clone())
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

async fn metrics(State(front): State<Front>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    if front.0.access.metrics() == access::Metrics::Admin
        && let Err(refusal) = front.doorman().administrator(&head).await
    {
        return refusal;
    }
    let text = front.0.metrics.render() + &crate::process::render();
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// Who lets administrators in.
#[derive(Clone)]
pub(crate) struct Doorman {
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) audit: Audit,
}

impl Doorman {
    /// Who asks for a page of the administrators, or the refusal. Cancel-safe.
    pub(crate) async fn administrator(&self, head: &Parts) -> Result<Principal, Response> {
        let refuse = |reject: Reject| match reject.kind {
            RejectKind::Unproved | RejectKind::Malformed => {
                let mut response = problem(StatusCode::UNAUTHORIZED, "unproved", &reject.reason);
                for challenge in [r#"Basic realm="weft", charset="UTF-8""#, r#"Bearer realm="weft""#] {
                    let challenge = header::HeaderValue::from_static(challenge);
                    response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
            RejectKind::Denied => problem(StatusCode::FORBIDDEN, "denied", &reject.reason),
            RejectKind::Busy => problem(StatusCode::TOO_MANY_REQUESTS, "busy", &reject.reason),
            RejectKind::Unavailable | RejectKind::Closed => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &reject.reason)
            }
        };
        let authorization = head.headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
        let credentials = Credentials::of_request(authorization, None).map_err(refuse)?;
        let source = head.extensions.get::<Source>().cloned();
        let source = source.ok_or_else(|| refuse(Reject::new(RejectKind::Denied, "of unknown origin")))?;
        let asking = Asking { client: ClientId::from("$admin"), source, credentials };
        let who = self.gate.admit(asking).await.map_err(refuse)?;
        if who.rights.may_administer() {
            return Ok(who);
        }
        let reject = Reject::new(RejectKind::Denied, "this page is for administrators");
        self.audit.refused(&who, Wanted::Administer, Some(head.uri.path()), &reject, Instant::now());
        Err(refuse(reject))
    }
}

async fn protocols(State(front): State<Front>, request: Request) -> Response {
    match front.0.protocols.get() {
        Some((router, _)) => router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "closed", "weft is starting"),
    }
}

async fn nothing() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "not-found",
        "there is /events, /ws, /mqtt, /live, /ready, /metrics and /admin",
    )
}

/// A refusal (RFC 9457).
pub(crate) fn problem(code: StatusCode, kind: &str, detail: &str) -> Response {
    let title = code.canonical_reason();
    let kind = format!("urn:weft:problem:{kind}");
    let page = json!({ "type": kind, "title": title, "status": code.as_u16(), "detail": detail });
    answer(code, "application/problem+json", format!("{page}\n"))
}

/// A page, as JSON.
pub(crate) fn found(page: &Value) -> Response {
    answer(StatusCode::OK, "application/json", format!("{page}\n"))
}

pub(crate) fn answer(code: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
