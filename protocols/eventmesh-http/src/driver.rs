//! Answers requests: nothing but this file and those below it awaits.

mod consume;
mod publish;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use event::access::{Asking, Gate};
use event::hub::Hub;
use event::{Budget, ClientId, Principal, Source};
use eventmesh::{Clients, Requester, TopicList};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::request::Parts as Head;
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout};
use webhook::Hooks;

use crate::Options;
use crate::error::{Answer, Code};
use crate::request::{Caller, Command, Fields, Place, text};

/// What the protocol is made of.
#[derive(Clone)]
pub struct Parts {
    /// Who may come in.
    pub gate: Arc<dyn Gate>,
    /// Where events go.
    pub hub: Arc<dyn Hub>,
    /// Where requests wait for their reply.
    pub requester: Requester,
    /// Where events are posted from.
    pub hooks: Hooks,
    /// What operators see.
    pub clients: Clients,
    /// Topics that somebody created.
    pub topics: TopicList,
    /// Its own settings.
    pub options: Options,
    /// Those of all protocols of EventMesh.
    pub common: Arc<eventmesh::Options>,
}

/// What all requests share.
struct Site {
    parts: Parts,
    bodies: Budget,
}

/// One request, read.
struct Asked {
    head: Head,
    body: Bytes,
    source: Source,
}

/// Answers all that is asked, on any path. Where a request comes from is its extension [`Source`].
pub fn router(parts: Parts) -> Router {
    let bodies = Budget::new(parts.options.bodies_bytes_max, u32::MAX);
    Router::new().fallback(answer).with_state(Arc::new(Site { parts, bodies }))
}

/// Cancel-safe: what was handed over stays so.
async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let code = request.headers().get("code").cloned();
    let answer = site.answer(request).await.unwrap_or_else(|answer| answer);
    metrics::counter!("weft_eventmesh_http_requests_total", "retcode" => answer.code.label()).increment(1);
    answer.into_response(code.as_ref(), now_ms(), &site.parts.common)
}

impl Site {
    async fn answer(&self, request: Request) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        let is_get = head.method == Method::GET;
        if !is_get && head.method != Method::POST {
            let reason = format!("{} is neither GET nor POST", head.method);
            return Err(Answer::new(Code::Command, reason).with_status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let source = head.extensions.get::<Source>().cloned().unwrap_or_else(nowhere);
        let place = Place::parse(head.uri.path());
        let room = self.room(&head)?;
        let body = self.read(body).await?;
        let asked = Asked { head, body, source };
        let answer = match place {
            Some(place) => self.go(&asked, place).await,
            None => self.obey(&asked, is_get).await,
        };
        drop(room);
        answer
    }

    /// What a path asks.
    async fn go(&self, asked: &Asked, place: Place) -> Result<Answer, Answer> {
        let headers = &asked.head.headers;
        let caller = Caller::with_defaults(headers, asked.address())?;
        match place {
            Place::Publish(topic) => self.publish_by_path(asked, &caller, topic).await,
            Place::Bridge => self.publish_content(asked, &caller).await,
            Place::Subscribe => self.subscribe(asked, &caller, &Fields::of(headers, &asked.body)?).await,
            Place::Unsubscribe => self.unsubscribe(asked, &caller, &Fields::of(headers, &asked.body)?).await,
            Place::Remote => {
                let reason = "Weft does not subscribe at other meshes; a [bridge] of its configuration connects stores";
                Err(Answer::new(Code::Operation, reason))
            }
            Place::CreateTopics | Place::DeleteTopics => {
                let fields = Fields::of(headers, &asked.body)?;
                self.topics(asked, &caller, fields.need("topic")?, place == Place::CreateTopics).await
            }
            Place::Query => self.query(asked, &caller).await,
        }
    }

    /// What a code asks.
    async fn obey(&self, asked: &Asked, is_get: bool) -> Result<Answer, Answer> {
        let headers = &asked.head.headers;
        if !matches!(text(headers, "version"), None | Some("1.0" | "2.0")) {
            let reason = "header version is neither 1.0 nor 2.0";
            return Err(Answer::new(Code::Header, reason).with_status(StatusCode::BAD_REQUEST));
        }
        let fields = match is_get {
            true => Fields::form(asked.head.uri.query().unwrap_or_default().as_bytes())?,
            false => Fields::form(&asked.body)?,
        };
        let code = text(headers, "code").or_else(|| fields.get("code").filter(|_| is_get));
        let command = Command::parse(code)?;
        let caller = Caller::of(headers, asked.address())?;
        match command {
            Command::Ask => self.ask(asked, &caller, &fields).await,
            Command::Publish => self.publish(asked, &caller, &fields).await,
            Command::BatchOne => self.publish_one_of_batch(asked, &caller, &fields).await,
            Command::Batch => self.batch(asked, &caller, &fields).await,
            Command::Reply => self.reply(asked, &caller, &fields).await,
            Command::Subscribe => self.subscribe(asked, &caller, &fields).await,
            Command::Unsubscribe => self.unsubscribe(asked, &caller, &fields).await,
            Command::Heartbeat => self.heartbeat(asked, &caller, &fields).await,
        }
    }

    /// Room for the body of a request, while it is received and what it asks is done.
    fn room(&self, head: &Head) -> Result<impl Sized + use<>, Answer> {
        let limit = self.parts.options.body_bytes_max.as_usize();
        let announced = head.headers.get(CONTENT_LENGTH).and_then(length);
        if announced.is_some_and(|length| length > limit) {
            return Err(self.too_large());
        }
        let announced = announced.unwrap_or(if head.method == Method::GET { 0 } else { limit });
        let room = self.bodies.try_take(announced, 1);
        room.ok_or_else(|| Answer::new(Code::Overload, "too many bodies are on their way"))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Answer> {
        let limit = self.parts.options.body_bytes_max.as_usize();
        let read = timeout(self.patience(), axum::body::to_bytes(body, limit)).await;
        let late = |_| {
            let reason = format!("no whole body within {} s", self.patience().as_secs());
            Answer::new(Code::Body, reason).with_status(StatusCode::REQUEST_TIMEOUT)
        };
        read.map_err(late)?.map_err(|error| match std::error::Error::source(&error) {
            Some(source) if source.is::<http_body_util::LengthLimitError>() => self.too_large(),
            _ => {
                Answer::new(Code::Body, "the body did not arrive whole").with_status(StatusCode::BAD_REQUEST)
            }
        })
    }

    fn too_large(&self) -> Answer {
        let reason = format!("a body has at most {}", self.parts.options.body_bytes_max);
        Answer::new(Code::TooLarge, reason).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// Asks the gate about a request that goes by the name of `client`. Cancel-safe.
    async fn admit(&self, asked: &Asked, caller: &Caller, client: &str) -> Result<Principal, Answer> {
        let (source, credentials) = (asked.source.clone(), caller.credentials.clone());
        let asking = Asking { client: ClientId::from(client), source, credentials };
        self.parts.gate.admit(asking).await.map_err(|reject| Answer::of(&reject, Code::Acl))
    }

    /// The same for a publisher of so many events, of so many bytes, who may be too fast.
    async fn admit_publisher(
        &self,
        asked: &Asked,
        caller: &Caller,
        events: usize,
    ) -> Result<Principal, Answer> {
        let who = self.admit(asked, caller, CLIENT).await?;
        let now = Instant::now().into_std();
        let wait = who.allowance.wait(now);
        if !wait.is_zero() {
            return Err(Answer::new(Code::Rate, format!("try again in {} ms", wait.as_millis())));
        }
        who.allowance.charge(events as u64, asked.body.len() as u64, now);
        Ok(who)
    }

    /// How long a body may take to come, and events to be kept.
    fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.parts.options.publish_timeout_s.max(1)))
    }
}

impl Asked {
    fn address(&self) -> IpAddr {
        self.source.address.ip()
    }
}

/// What requests without a session are called. Clients cannot take names that begin with `$`.
const CLIENT: &str = "$eventmesh/http";

fn length(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.trim().parse().ok()
}

/// A request that does not say where it comes from comes from no place that is trusted.
fn nowhere() -> Source {
    let address = (Ipv4Addr::UNSPECIFIED, 0).into();
    Source { address, listener: Arc::from("eventmesh-http"), certificate: None }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
