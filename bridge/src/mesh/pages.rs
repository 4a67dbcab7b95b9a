//! EventMesh's pages for operators (its admin port). Who asks has to be an administrator, as for Weft's own pages.

#![expect(clippy::result_large_err, reason = "a refusal is the answer itself, and made once for a request")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get};
use bytes::Bytes;
use event::hub::{Hub, Outcome, Publish};
use event::{Guarantee, Principal, RejectKind};
use eventmesh::{Arrival, Clients, Payload, TopicList};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::clients::{self, Asked};
use super::figures::Figures;
use crate::admin::{Doorman, answer, found, problem};

/// What the pages show.
#[derive(Clone)]
pub(super) struct Board {
    pub(super) doorman: Doorman,
    pub(super) hub: Arc<dyn Hub>,
    pub(super) clients: Clients,
    pub(super) topics: TopicList,
    pub(super) figures: Figures,
    pub(super) configuration: Arc<Value>,
}

/// The pages, for administrators only.
pub(super) fn router(board: Board) -> Router {
    Router::new()
        .route("/client/{protocol}", get(list_clients).delete(send_away))
        .route("/clientManage/{name}", any(manage))
        .route("/metrics", get(figures))
        .route("/configuration", get(configuration))
        .route("/v2/configuration", get(configuration))
        .route("/topic", get(list_topics).post(create_topic).delete(delete_topic))
        .route("/event", get(no_events).post(publish))
        .route("/meta", get(no_registry))
        .route("/registry", get(no_registry))
        .route("/eventMesh/recommend", get(no_recommendation))
        .fallback(nothing)
        .with_state(board.clone())
        .layer(from_fn_with_state(board.doorman, guard))
}

async fn guard(State(doorman): State<Doorman>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    match doorman.administrator(&head).await {
        Ok(who) => {
            head.extensions.insert(Arc::new(who));
            next.run(Request::from_parts(head, body)).await
        }
        Err(refusal) => refusal,
    }
}

async fn list_clients(
    State(board): State<Board>,
    Path(protocol): Path<String>,
) -> Result<Response, Response> {
    Ok(found(&clients::list(&board.clients, of_path(&protocol)?)))
}

async fn send_away(
    State(board): State<Board>,
    Path(protocol): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let protocol = of_path(&protocol)?;
    let wanted = asked(request).await?;
    let gone = clients::send_away(&board.clients, protocol, &wanted);
    let gone = gone.ok_or_else(|| wrong("say \"host\" and \"port\", or \"url\""))?;
    tracing::info!(protocol, gone, "an operator sent clients away");
    Ok(found(&json!({ "rejected": gone })))
}

/// The name in the register of what a path calls `tcp`, `http` or `grpc`.
fn of_path(protocol: &str) -> Result<&'static str, Response> {
    match protocol {
        "tcp" => Ok("TCP"),
        "http" => Ok("HTTP"),
        "grpc" => Ok("GRPC"),
        _ => Err(problem(StatusCode::NOT_FOUND, "not-found", "there are clients of tcp, http and grpc")),
    }
}

async fn manage(
    State(board): State<Board>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    if ![Method::GET, Method::POST].contains(request.method()) {
        return Err(problem(StatusCode::METHOD_NOT_ALLOWED, "method", "GET and POST are taken"));
    }
    let asked = asked(request).await?;
    let said = clients::manage(&board.clients, &name, &asked);
    let said = said.ok_or_else(|| problem(StatusCode::NOT_FOUND, "not-found", "there is no such page"))?;
    tracing::info!(page = name, "an operator manages clients");
    Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", said))
}

async fn figures(State(board): State<Board>) -> Response {
    found(&board.figures.page(&board.clients))
}

async fn configuration(State(board): State<Board>) -> Response {
    found(&board.configuration)
}

/// Topics that were created, and those that clients listen to. EventMesh has the number of messages beside each; Weft's log
/// does not count by topics.
async fn list_topics(State(board): State<Board>) -> Response {
    let mut names: BTreeSet<String> = board.topics.all().into_iter().collect();
    names.extend(board.clients.list(|_| true, TOPICS_MAX).into_iter().flat_map(|client| client.topics));
    let page: Vec<Value> = names.iter().take(TOPICS_MAX).map(|name| json!({ "name": name })).collect();
    found(&page.into())
}

async fn create_topic(State(board): State<Board>, request: Request) -> Result<Response, Response> {
    let asked = asked(request).await?;
    let name = named(&asked)?;
    board.topics.create(name).map_err(|error| wrong(&format!("{name:?}: {error}")))?;
    Ok(done())
}

async fn delete_topic(State(board): State<Board>, request: Request) -> Result<Response, Response> {
    let asked = asked(request).await?;
    board.topics.delete(named(&asked)?);
    Ok(done())
}

fn named(asked: &Asked) -> Result<&str, Response> {
    let name = asked.get("name").map(String::as_str).filter(|name| !name.is_empty());
    name.ok_or_else(|| wrong("say \"name\""))
}

/// Publishes a CloudEvent in JSON to its subject; answers when it is kept.
async fn publish(State(board): State<Board>, request: Request) -> Result<Response, Response> {
    let who = request.extensions().get::<Arc<Principal>>().cloned();
    let who = who.ok_or_else(|| problem(StatusCode::FORBIDDEN, "denied", "of unknown origin"))?;
    let body = body(request).await?;
    let publisher: Arc<str> = Arc::from("$eventmesh/admin");
    let arrival = Arrival { publisher: &publisher, stamp: board.hub.stamps().take(), now_ms: now_ms() };
    let payload = Payload::read_cloud_event(body, arrival).map_err(|error| wrong(&error.to_string()))?;
    let event = payload.into_event();
    let publish = Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None };
    let outcome = board.hub.publish(&who, vec![publish]).outcome_before(sleep(PATIENCE)).await;
    outcome.and_then(Outcome::whole).map_err(|reject| match reject.kind {
        RejectKind::Malformed => wrong(&reject.reason),
        RejectKind::Unproved | RejectKind::Denied => problem(StatusCode::FORBIDDEN, "denied", &reject.reason),
        RejectKind::Busy => problem(StatusCode::TOO_MANY_REQUESTS, "busy", &reject.reason),
        RejectKind::Unavailable | RejectKind::Closed => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &reject.reason)
        }
    })?;
    Ok(done())
}

async fn no_events() -> Response {
    let detail = "events are read from the log by GET /events?topic=TOPIC&from=all on Weft's own HTTP port";
    problem(StatusCode::NOT_IMPLEMENTED, "not-implemented", detail)
}

/// Weft has no registry, so no EventMesh is registered there.
async fn no_registry() -> Response {
    found(&json!([]))
}

async fn no_recommendation() -> Response {
    let text = "registry enable config is false, not support";
    answer(StatusCode::OK, "text/plain; charset=utf-8", text.to_owned())
}

async fn nothing() -> Response {
    let detail = "there is /client/tcp, /client/http, /client/grpc, /clientManage/…, /metrics, /configuration, /topic and /event";
    problem(StatusCode::NOT_FOUND, "not-found", detail)
}

/// What a request asks: its query, and its body, which is a JSON object or a form.
async fn asked(request: Request) -> Result<Asked, Response> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = body(request).await?;
    let pairs = |text: &[u8]| form_urlencoded::parse(text).into_owned().take(FIELDS_MAX).collect::<Vec<_>>();
    let mut all: Asked = pairs(query.as_bytes()).into_iter().collect();
    if body.trim_ascii_start().starts_with(b"{") {
        let members: serde_json::Map<String, Value> =
            serde_json::from_slice(&body).map_err(|error| wrong(&format!("the body is no JSON: {error}")))?;
        all.extend(members.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
            let text = value.as_str().map(str::to_owned);
            (name, text.unwrap_or_else(|| value.to_string()))
        }));
    } else {
        all.extend(pairs(&body));
    }
    Ok(all)
}

async fn body(request: Request) -> Result<Bytes, Response> {
    let reading = axum::body::to_bytes(request.into_body(), BODY_MAX);
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let read = read.map_err(|_| problem(StatusCode::REQUEST_TIMEOUT, "timeout", "no whole body in time"))?;
    read.map_err(|_| {
        let detail = format!("the body has more than {BODY_MAX} bytes, or did not arrive whole");
        problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &detail)
    })
}

fn done() -> Response {
    answer(StatusCode::OK, "text/plain; charset=utf-8", String::new())
}

fn wrong(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "malformed", detail)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How long a request may take to arrive, and an event to be kept.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest body.
const BODY_MAX: usize = 1 << 20;
/// Parameters of one request.
const FIELDS_MAX: usize = 64;
/// Topics that one page shows.
const TOPICS_MAX: usize = 10_000;
