//! `/admin/…`: sessions, subscriptions and retained events, as JSON in pages; the ledger; routes, and traces. Who asks has
//! to be an administrator.

#![expect(clippy::result_large_err, reason = "a refusal is the answer itself, and made once for a request")]

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use event::admin::{Admin, Ending, LedgerView, RetainedView, SessionView, SubscriptionView};
use event::{ClientId, Guarantee, RejectKind, TopicFilter, TopicName};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Doorman, found, problem};
use crate::reload::Reload;
use crate::traces::Traces;

/// Sessions and retained events of one page, if the request does not say.
const PAGE: usize = 100;
/// The most that one request gets, or looks at.
const PAGE_MAX: usize = 1000;

type Core = Arc<dyn Admin>;

/// The pages, for administrators only, with those of `reload` and `traces`.
pub(crate) fn router(doorman: Doorman, core: Core, reload: Arc<Reload>, traces: Traces) -> Router {
    Router::new()
        .route("/admin/sessions", get(sessions))
        .route("/admin/sessions/{client}", get(session).delete(end))
        .route("/admin/subscriptions", get(subscriptions))
        .route("/admin/ledger", get(ledger))
        .route("/admin/retained", get(retained).delete(forget))
        .with_state(core)
        .merge(reload.router())
        .merge(traces.router())
        .layer(from_fn_with_state(doorman, guard))
}

async fn guard(State(doorman): State<Doorman>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match doorman.administrator(&head).await {
        Ok(_) => next.run(Request::from_parts(head, body)).await,
        Err(refusal) => refusal,
    }
}

/// What the query of any of these pages may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    after: Option<String>,
    limit: Option<usize>,
    client: Option<String>,
    filter: Option<String>,
    topic: Option<String>,
    tenant: Option<String>,
    forget: bool,
}

impl Asked {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }

    fn after(&self) -> Option<ClientId> {
        self.after.as_deref().map(ClientId::from)
    }

    fn topic(&self) -> Result<Option<TopicName>, Response> {
        topic_of(self.topic.as_deref())
    }

    fn filter(&self) -> Result<Option<TopicFilter>, Response> {
        self.filter.as_deref().map(|text| TopicFilter::parse(text.to_owned()).map_err(wrong)).transpose()
    }
}

fn topic_of(text: Option<&str>) -> Result<Option<TopicName>, Response> {
    text.map(|text| TopicName::parse(text.to_owned()).map_err(wrong)).transpose()
}

type Asking = Result<Query<Asked>, axum::extract::rejection::QueryRejection>;

async fn sessions(State(core): State<Core>, asked: Asking) -> Result<Response, Response> {
    let asked = query(asked)?;
    let page = core.sessions(asked.after().as_ref(), asked.limit());
    let next = page.last().filter(|_| page.len() == asked.limit()).map(|last| last.client.to_string());
    Ok(found(&json!({ "sessions": page.iter().map(of_session).collect::<Vec<_>>(), "next": next })))
}

async fn session(State(core): State<Core>, Path(client): Path<String>) -> Result<Response, Response> {
    let id = ClientId::from(&*client);
    let view = core.session(&id).ok_or_else(|| no_session(&client))?;
    let mut page = of_session(&view);
    if let Some(map) = page.as_object_mut() {
        let all = core.subscriptions(&id).unwrap_or_default();
        map.insert("subscribed".to_owned(), all.iter().map(|one| of_subscription(None, one)).collect());
    }
    Ok(found(&page))
}

async fn end(
    State(core): State<Core>,
    Path(client): Path<String>,
    asked: Asking,
) -> Result<Response, Response> {
    let forget = query(asked)?.forget;
    match core.end(&ClientId::from(&*client), forget) {
        Ending::Ended => Ok(found(&json!({ "client": client, "ended": true, "forgotten": forget }))),
        Ending::Unknown => Err(no_session(&client)),
        Ending::Away => {
            let detail = format!("client {client:?} is not connected; forget=true ends its session as well");
            Err(problem(StatusCode::CONFLICT, "away", &detail))
        }
        Ending::Ours => {
            let detail = format!("{client:?} is a part of Weft; take it out of the configuration instead");
            Err(problem(StatusCode::FORBIDDEN, "denied", &detail))
        }
    }
}

async fn subscriptions(State(core): State<Core>, asked: Asking) -> Result<Response, Response> {
    let asked = query(asked)?;
    let topic = asked.topic()?;
    let wanted = |filter: &TopicFilter| {
        asked.filter.as_deref().is_none_or(|text| text == filter.as_str())
            && topic.as_ref().is_none_or(|topic| filter.matches(topic))
    };
    if let Some(client) = &asked.client {
        let all = core.subscriptions(&ClientId::from(&**client)).ok_or_else(|| no_session(client))?;
        let page = all.iter().filter(|one| wanted(&one.filter));
        let page: Vec<Value> = page.map(|one| of_subscription(Some(client), one)).collect();
        return Ok(found(&json!({ "subscriptions": page, "next": null })));
    }
    let mut page = Vec::new();
    // A page looks at so many sessions, whatever it finds in them; an empty page with `next` is not the end.
    let sessions = core.sessions(asked.after().as_ref(), PAGE_MAX);
    let mut next = sessions.last().filter(|_| sessions.len() == PAGE_MAX).map(|last| last.client.clone());
    for view in sessions.iter().filter(|view| view.subscriptions > 0) {
        let all = core.subscriptions(&view.client).unwrap_or_default();
        let client = Some(view.client.as_str());
        let some = all.iter().filter(|one| wanted(&one.filter));
        page.extend(some.map(|one| of_subscription(client, one)));
        if page.len() >= asked.limit() && sessions.last().is_some_and(|last| last.client != view.client) {
            next = Some(view.client.clone());
            break;
        }
    }
    Ok(found(&json!({ "subscriptions": page, "next": next.map(|client| client.to_string()) })))
}

async fn retained(State(core): State<Core>, asked: Asking) -> Result<Response, Response> {
    let asked = query(asked)?;
    if let Some(topic) = asked.topic()? {
        return Ok(found(&of_retained(&retained_of(&core, &topic).await?, true)));
    }
    let (page, next) = retained_page(&core, &asked).await?;
    let page: Vec<Value> = page.iter().map(|view| of_retained(view, false)).collect();
    Ok(found(&json!({ "retained": page, "next": next })))
}

async fn retained_of(core: &Core, topic: &TopicName) -> Result<RetainedView, Response> {
    let filter = TopicFilter::parse(topic.text().clone()).map_err(wrong)?;
    let page = core.retained(&filter, None, 1).await.map_err(refused)?;
    page.into_iter().next().ok_or_else(|| no_event(topic.as_str()))
}

async fn retained_page(core: &Core, asked: &Asked) -> Result<(Vec<RetainedView>, Option<String>), Response> {
    let all = TopicFilter::parse("#").map_err(wrong)?;
    let filter = asked.filter()?.unwrap_or(all);
    let after = topic_of(asked.after.as_deref())?;
    let page = core.retained(&filter, after.as_ref(), asked.limit()).await.map_err(refused)?;
    let next = page.last().filter(|_| page.len() == asked.limit());
    let next = next.map(|last| last.event.topic().to_string());
    Ok((page, next))
}

async fn forget(State(core): State<Core>, asked: Asking) -> Result<Response, Response> {
    let asked = query(asked)?;
    let (topics, next) = match (asked.topic()?, &asked.filter) {
        (Some(topic), None) => {
            retained_of(&core, &topic).await?;
            (vec![topic], None)
        }
        (None, Some(_)) => {
            let (page, next) = retained_page(&core, &asked).await?;
            (page.into_iter().map(|view| view.event.topic().clone()).collect(), next)
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(problem(StatusCode::BAD_REQUEST, "query", "say topic=TOPIC or filter=FILTER"));
        }
    };
    let count = topics.len();
    core.forget(topics).await.map_err(refused)?;
    Ok(found(&json!({ "forgotten": count, "next": next })))
}

async fn ledger(State(core): State<Core>, asked: Asking) -> Result<Response, Response> {
    let tenant = query(asked)?.tenant;
    let mut ledger = core.ledger();
    ledger.retain(|view| tenant.as_ref().is_none_or(|tenant| view.tenant == *tenant));
    let publishes = |view: &LedgerView| {
        let row = json!({ "route": view.route, "tenant": view.tenant, "in": view.came, "under_way": view.under_way });
        with_counts(row, &view.fates)
    };
    let deliveries = |view: &LedgerView| {
        let row =
            json!({ "route": view.route, "tenant": view.tenant, "owed": view.owed, "queued": view.queued });
        with_counts(row, &view.ends)
    };
    Ok(found(&json!({
        "publishes": ledger.iter().map(publishes).collect::<Vec<_>>(),
        "deliveries": ledger.iter().map(deliveries).collect::<Vec<_>>(),
        "next": null,
    })))
}

fn with_counts(mut row: Value, counts: &[(&str, u64)]) -> Value {
    if let Some(map) = row.as_object_mut() {
        map.extend(counts.iter().map(|(how, count)| ((*how).to_owned(), (*count).into())));
    }
    row
}

fn of_session(view: &SessionView) -> Value {
    let connection = view.connection.as_deref();
    let peer = connection.and_then(|connection| connection.peer.as_ref());
    let keep_s = view.keep.as_secs();
    json!({
        "client": view.client.as_str(),
        "connected": connection.is_some(),
        "user": connection.and_then(|connection| connection.user.as_deref()),
        "address": peer.map(|(address, _)| address.to_string()),
        "listener": peer.map(|(_, listener)| &**listener),
        "protocol": connection.map(|connection| connection.protocol),
        "since_ms": connection.map(|connection| connection.since_ms),
        "away_since_ms": view.away_since_ms,
        "durable": view.durable,
        // What MQTT calls for ever, and more.
        "expiry_s": if keep_s >= u64::from(u32::MAX) { Value::Null } else { keep_s.into() },
        "subscriptions": view.subscriptions,
        "inflight": view.inflight,
        "queued": view.queued,
        "queued_bytes": view.queued_bytes,
        "dropped": view.dropped,
    })
}

fn of_subscription(client: Option<&str>, view: &SubscriptionView) -> Value {
    let SubscriptionView { filter, options, select } = view;
    let mut value = json!({
        "filter": filter.as_str(),
        "qos": qos(options.guarantee),
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "id": (options.id != 0).then_some(options.id),
        "selects": select.as_ref().map(ToString::to_string),
    });
    if let (Some(map), Some(client)) = (value.as_object_mut(), client) {
        map.insert("client".to_owned(), client.into());
    }
    value
}

fn of_retained(view: &RetainedView, with_data: bool) -> Value {
    let parts = view.event.parts();
    let mut value = json!({
        "topic": parts.topic.as_str(),
        "qos": qos(view.guarantee),
        "bytes": parts.data.len(),
        "publisher": &*parts.publisher,
        "received_ms": parts.received_ms,
        "expires_ms": (parts.expires_ms != 0).then_some(parts.expires_ms),
        "position": view.position.0,
    });
    if let Some(map) = value.as_object_mut().filter(|_| with_data) {
        match std::str::from_utf8(&parts.data) {
            Ok(text) => map.insert("data".to_owned(), text.into()),
            Err(_) => {
                let text = base64::engine::general_purpose::STANDARD.encode(&parts.data);
                map.insert("data_base64".to_owned(), text.into())
            }
        };
    }
    value
}

fn qos(guarantee: Guarantee) -> u8 {
    match guarantee {
        Guarantee::AtMostOnce => 0,
        Guarantee::AtLeastOnce => 1,
        Guarantee::ExactlyOnce => 2,
    }
}

fn query(asked: Asking) -> Result<Asked, Response> {
    let asked = asked.map_err(|error| problem(StatusCode::BAD_REQUEST, "query", &error.body_text()))?;
    Ok(asked.0)
}

fn wrong(error: event::TopicError) -> Response {
    problem(StatusCode::BAD_REQUEST, "topic", &error.to_string())
}

fn no_session(client: &str) -> Response {
    problem(StatusCode::NOT_FOUND, "not-found", &format!("there is no session of client {client:?}"))
}

fn no_event(topic: &str) -> Response {
    problem(StatusCode::NOT_FOUND, "not-found", &format!("there is no retained event of topic {topic:?}"))
}

fn refused(reject: event::Reject) -> Response {
    let (code, kind) = match reject.kind {
        RejectKind::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
        RejectKind::Unproved => (StatusCode::UNAUTHORIZED, "unproved"),
        RejectKind::Denied => (StatusCode::FORBIDDEN, "denied"),
        RejectKind::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        RejectKind::Unavailable | RejectKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    problem(code, kind, &reject.reason)
}
