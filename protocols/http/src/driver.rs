//! Serves `/events`: the only file here that awaits.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use event::access::{Asking, Credentials, Gate};
use event::hub::{Attach, Close, Delivery, Hub, Link, Outcome, Room};
use event::{Budget, ClientId, Principal, Reject, RejectKind, Source};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, sleep, timeout};
use tower::Service as _;

mod ask;

use crate::Options;
use crate::binding::{PublishQuery, StreamRequest, publishes};
use crate::origin::From;
use crate::problem::{Kind, Problem, Refused};
use crate::sse;

struct Front {
    gate: Arc<dyn Gate>,
    hub: Arc<dyn Hub>,
    options: Arc<Options>,
    drain: watch::Receiver<bool>,
    bodies: Budget,
}

/// `/events`, to be merged with other routes. `gate` is asked about each request; where it comes from is its extension
/// [`Source`]. `drain` turning true ends the event streams.
pub fn router(
    gate: Arc<dyn Gate>,
    hub: Arc<dyn Hub>,
    options: Arc<Options>,
    drain: watch::Receiver<bool>,
) -> Router {
    let bodies = Budget::new(options.bodies_bytes_max, u32::MAX);
    let front = Front { gate, hub, options, drain, bodies };
    Router::new().route("/events", any(events)).with_state(Arc::new(front))
}

/// Serves `router` on one connection, HTTP/1.1 or HTTP/2 with prior knowledge, upgrades included, until the peer
/// leaves, is silent for too long between requests, or `drain` turns true and the requests under way are answered.
/// An upgraded connection lives on with who took it. Not cancel-safe: requests under way are cut off.
pub async fn serve_connection<S>(
    stream: S,
    router: Router,
    options: &Options,
    mut drain: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head_timeout = Duration::from_secs(u64::from(options.head_timeout_s));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(head_timeout).max_concurrent_streams(100);
    let spoke = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoke);
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        heard.store(true, Ordering::Relaxed);
        router.clone().call(request)
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // hyper's own timer starts with the first byte.
    let mut silence = std::pin::pin!(sleep(head_timeout));
    let (mut draining, mut silent) = (false, true);
    loop {
        tokio::select! {
            biased;
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            _ = drain.wait_for(|drain| *drain), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = silence.as_mut(), if silent => {
                if !spoke.load(Ordering::Relaxed) {
                    tracing::debug!("no request in time");
                    return;
                }
                silent = false;
            }
        }
    }
}

/// Answers a request to `/events`. Cancel-safe: events that were handed over stay so.
async fn events(State(front): State<Arc<Front>>, request: Request) -> Response {
    let origin = From::of(request.headers(), request.uri(), &front.options.origins);
    let method = request.method().clone();
    let answer = match method {
        _ if origin == From::Elsewhere => {
            let detail = "add the page's origin to http.origins if it may publish and read";
            Err(Problem::new(Kind::Origin, detail))
        }
        Method::POST => publish(&front, request).await,
        Method::GET => {
            // Only the head: a body cannot be shared between threads.
            let (head, _) = request.into_parts();
            stream(&front, &head).await
        }
        Method::HEAD => {
            let (head, _) = request.into_parts();
            would_stream(&front, &head).await
        }
        Method::OPTIONS => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(Problem::new(Kind::Method, format!("{method} is not among {METHODS}"))),
    };
    let mut response = answer.unwrap_or_else(Problem::into_response);
    if method == Method::OPTIONS || response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
    }
    if let From::Allowed(origin) = origin {
        allow(&mut response, origin, method == Method::OPTIONS);
    }
    let labels = [("method", method_label(&method)), ("status", status_label(response.status()))];
    metrics::counter!("weft_http_requests_total", &labels).increment(1);
    response
}

/// What requests without a session are called. Clients cannot take names that begin with `$`.
const CLIENT: &str = "$http";

const METHODS: &str = "GET, HEAD, POST, OPTIONS";

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        2 => "2xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// CORS headers for a page of an allowed `origin` (Fetch §3.3).
fn allow(response: &mut Response, origin: HeaderValue, preflight: bool) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    }
}

/// `*` is every header but `Authorization`; older browsers know only names.
const REQUEST_HEADERS: &str = "*, authorization, content-type, last-event-id, ce-specversion, ce-id, ce-source, ce-type, ce-subject, \
                               ce-time, ce-dataschema, ce-wefttopic";

/// Asks the gate about a request that goes by the name of `client`. Cancel-safe.
async fn admit(front: &Front, head: &http::request::Parts, client: &str) -> Result<Principal, Problem> {
    let header = head.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let query = head.uri.query().filter(|_| head.method != Method::POST);
    let credentials = Credentials::of_request(header, query)?;
    let source = head.extensions.get::<Source>().cloned().unwrap_or_else(nowhere);
    let who = front.gate.admit(Asking { client: ClientId::from(client), source, credentials }).await?;
    let wait = who.allowance.wait(Instant::now().into_std());
    if wait.is_zero() { Ok(who) } else { Err(Problem::too_fast(wait)) }
}

/// A request that does not say where it comes from comes from no place that is trusted.
fn nowhere() -> Source {
    Source { address: (Ipv4Addr::UNSPECIFIED, 0).into(), listener: Arc::from("http"), certificate: None }
}

/// Answers when all events are kept, or says which are not.
async fn publish(front: &Front, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let query = PublishQuery::parse(&head.uri)?;
    let who = admit(front, &head, CLIENT).await?;
    let limit = front.options.body_bytes_max.as_usize();
    let announced =
        head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large(limit));
    }
    let Some(_room) = front.bodies.try_take(announced.unwrap_or(limit), 1) else {
        return Err(Reject::new(RejectKind::Busy, "too many bodies are on their way").into());
    };
    let patience = Duration::from_secs(u64::from(front.options.publish_timeout_s));
    let body = match timeout(patience, axum::body::to_bytes(body, limit)).await {
        Err(_) => return Err(Problem::new(Kind::Timeout, format!("no whole body within {patience:?}"))),
        Ok(body) => body.map_err(|error| match std::error::Error::source(&error) {
            Some(source) if source.is::<http_body_util::LengthLimitError>() => too_large(limit),
            _ => Problem::new(Kind::Event, "the body did not arrive whole"),
        })?,
    };
    let body_bytes = body.len() as u64;
    let mut batch =
        publishes(&head.headers, body, &query, &front.options, &mut front.hub.stamps(), now_ms())?;
    who.allowance.charge(batch.len().max(1) as u64, body_bytes, Instant::now().into_std());
    let ids: Vec<String> = batch.iter().map(|publish| publish.event.id().into_owned()).collect();
    if let Some(wait) = query.reply() {
        let (Some(publish), true) = (batch.pop(), batch.is_empty()) else {
            return Err(Problem::new(Kind::Query, "reply_ms is for one event, not for a batch"));
        };
        metrics::counter!("weft_http_events_received_total").increment(1);
        return ask::ask(front, &who, publish, wait, &head.headers).await;
    }
    if !batch.is_empty() {
        let outcome = front.hub.publish(&who, batch).outcome_before(sleep(patience)).await?;
        refusals(outcome, &ids)?;
    }
    metrics::counter!("weft_http_events_received_total").increment(ids.len() as u64);
    let body = serde_json::to_vec(&serde_json::json!({ "ids": ids })).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `Ok` if everything is kept.
fn refusals(outcome: Outcome, ids: &[String]) -> Result<(), Problem> {
    let list = match outcome {
        Outcome::Kept => return Ok(()),
        Outcome::Refused(reject) => return Err(reject.into()),
        Outcome::Partly(list) => list,
    };
    let Some((_, first)) = list.first() else { return Ok(()) };
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for (index, id) in ids.iter().enumerate() {
        match list.iter().find(|(place, _)| *place == index) {
            None => kept.push(id.clone()),
            Some((_, reject)) => refused.push(Refused::new(index, id.clone(), reject)),
        }
    }
    Err(Problem::partly(first, kept, refused))
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body has more than {limit} bytes"))
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Subscribes, and sends what comes.
async fn stream(front: &Front, head: &http::request::Parts) -> Result<Response, Problem> {
    let StreamRequest { wanted } = StreamRequest::parse(&head.uri, &head.headers, &front.options)?;
    let client = format!("$sse/{:016x}", front.hub.stamps().take());
    let who = admit(front, head, &client).await?;
    who.allowance.charge(1, 0, Instant::now().into_std());
    let end =
        who.until_ms.map(|until| Instant::now() + Duration::from_millis(until.saturating_sub(now_ms())));
    let attached = front.hub.attach(who, Attach { protocol: "HTTP", ..Attach::default() }).await?;
    let mut stream = EventStream {
        link: Some(attached.link),
        phase: Phase::Greeting(front.options.reconnect_ms),
        taken: Vec::new(),
        acks: Vec::new(),
        heartbeat: tokio::time::interval(Duration::from_secs(u64::from(front.options.heartbeat_s).max(1))),
        drain: front.drain.clone(),
        end,
    };
    metrics::counter!("weft_http_streams_opened_total").increment(1);
    for granted in stream.link.as_mut().ok_or_else(Reject::closed)?.subscribe(wanted).await? {
        granted.map_err(|reject| match reject.kind {
            // A filter that is none.
            RejectKind::Malformed => Problem::new(Kind::Query, reject.reason),
            RejectKind::Unproved
            | RejectKind::Denied
            | RejectKind::Busy
            | RejectKind::Unavailable
            | RejectKind::Closed => Problem::from(reject),
        })?;
    }
    let next = |mut stream: EventStream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    };
    Ok(stream_of(Body::from_stream(futures_util::stream::unfold(stream, next))))
}

/// What a stream would be answered with, without one.
async fn would_stream(front: &Front, head: &http::request::Parts) -> Result<Response, Problem> {
    StreamRequest::parse(&head.uri, &head.headers, &front.options)?;
    admit(front, head, CLIENT).await?;
    Ok(stream_of(Body::empty()))
}

fn stream_of(body: Body) -> Response {
    const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (X_ACCEL_BUFFERING, "no"),
    ];
    (headers, body).into_response()
}

/// One reader's stream of events.
struct EventStream {
    /// There until it is dropped.
    link: Option<Box<dyn Link>>,
    phase: Phase,
    /// Kept for its room.
    taken: Vec<Delivery>,
    /// Numbers of what the last chunk held: acked when the connection asks for the next.
    acks: Vec<u64>,
    heartbeat: Interval,
    drain: watch::Receiver<bool>,
    /// When the reader's proof of who it is ends.
    end: Option<Instant>,
}

enum Phase {
    Greeting(u32),
    Events,
}

/// How much one chunk takes from the mailbox: a slow reader holds no more than this beside its socket's buffer.
const CHUNK: Room = Room { numbered: 256, bytes: 64 << 10 };

impl EventStream {
    /// The next piece of text; `None` at the end. Cancel-safe.
    async fn next(&mut self) -> Option<Bytes> {
        if let Phase::Greeting(reconnect_ms) = self.phase {
            self.phase = Phase::Events;
            self.heartbeat.reset();
            return Some(sse::greeting(reconnect_ms));
        }
        let mut out = Vec::new();
        while out.is_empty() {
            self.take(&mut out).await?;
        }
        self.heartbeat.reset();
        Some(out.into())
    }

    async fn take(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let link = self.link.as_mut()?;
        if !self.acks.is_empty() {
            link.ack(&self.acks);
            self.acks.clear();
        }
        tokio::select! {
            biased;
            _ = self.drain.wait_for(|drain| *drain) => return None,
            () = ended(self.end) => return None,
            open = poll_fn(|cx| link.poll_deliveries(cx, CHUNK, &mut self.taken)) => open.ok()?,
            _ = self.heartbeat.tick() => out.extend_from_slice(&sse::HEARTBEAT),
        }
        metrics::counter!("weft_http_events_sent_total").increment(self.taken.len() as u64);
        for delivery in self.taken.drain(..) {
            self.acks.extend(delivery.number);
            sse::write(out, sse::id_of(&delivery), &delivery.event.as_reader_json(delivery.position));
        }
        Some(())
    }
}

/// Resolves at `end`. Cancel-safe.
async fn ended(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        metrics::counter!("weft_http_streams_closed_total").increment(1);
        if let Some(link) = self.link.take() {
            link.close(Close { will: false, keep: None });
        }
    }
}
