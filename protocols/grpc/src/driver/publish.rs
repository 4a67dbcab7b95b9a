//! Calls that publish: one event, a batch, a request that waits for its reply.

use std::sync::Arc;

use event::hub::{Outcome, Publish};
use event::{Event, Guarantee, Parts, Principal, Reject, trace};
use eventmesh::{Arrival, Responder, Unanswered, Unusable, address_reply};
use http::HeaderMap;
use tokio::time::{Instant, sleep};

use crate::binding;
use crate::driver::{Site, now_ms};
use crate::error::{Answer, Code};
use crate::proto::CloudEvent;
use crate::request::{self, Caller};

/// What calls without a session are called. Clients cannot take names that begin with `$`.
const CLIENT: &str = "$grpc";

/// Publishes one event; answers when it is kept. Cancel-safe: what was handed over stays so.
pub(super) async fn publish(site: &Site, headers: &HeaderMap, message: CloudEvent) -> Answer {
    let published = async {
        let caller = request::caller(&message)?;
        request::check_event(&message)?;
        let who = admit(site, headers, caller, 1).await?;
        let parts = traced(decode(site, message)?, headers);
        keep_one(site, &who, parts).await
    };
    published.await.map_or_else(|answer| answer, |()| Answer::success())
}

/// Publishes a batch; answers when all is kept. Nothing is published if one event is wrong. Cancel-safe: what was handed over
/// stays so.
pub(super) async fn batch(site: &Site, headers: &HeaderMap, messages: Vec<CloudEvent>) -> Answer {
    let published = async {
        let first = messages.first().ok_or_else(|| Answer::new(Code::Header, "the batch is empty"))?;
        let most = usize::try_from(site.shared.options.batch_events_max).unwrap_or(usize::MAX);
        if messages.len() > most {
            let reason = format!("a batch of {} events, at most {most} are taken", messages.len());
            return Err(Answer::new(Code::Body, reason));
        }
        let caller = request::caller(first)?;
        let of = |at: usize| {
            move |answer: Answer| Answer { reason: format!("event {at}: {}", answer.reason), ..answer }
        };
        for (at, message) in messages.iter().enumerate() {
            request::caller(message).map_err(of(at))?;
        }
        for (at, message) in messages.iter().enumerate() {
            request::check_event(message).map_err(of(at))?;
        }
        let who = admit(site, headers, caller, messages.len() as u64).await?;
        let mut publishes = Vec::with_capacity(messages.len());
        for (at, message) in messages.into_iter().enumerate() {
            publishes.push(one(traced(decode(site, message).map_err(of(at))?, headers)));
        }
        let outcome = keep(site, &who, publishes).await.map_err(|reject| Answer::of(&reject, Code::Batch))?;
        partly(outcome)
    };
    published.await.map_or_else(|answer| answer, |()| Answer::success())
}

/// Publishes a request and waits for its reply. Without one, the request comes back with a status code. Cancel-safe: the request
/// may be answered, and nobody hears it.
pub(super) async fn request(site: &Site, headers: &HeaderMap, message: CloudEvent) -> CloudEvent {
    let asked = async {
        let caller = request::caller(&message)?;
        request::check_event(&message)?;
        let ttl = site.shared.eventmesh.request_ttl(message.text("ttl"));
        let ttl = ttl.ok_or_else(|| Answer::new(Code::Body, "attribute ttl is no number of milliseconds"))?;
        let who = admit(site, headers, caller, 1).await?;
        let mut parts = traced(decode(site, message.clone())?, headers);
        let call =
            site.shared.requester.call(ttl).map_err(|reject| Answer::of(&reject, Code::RequestReply))?;
        call.address(&mut parts, now_ms());
        keep_one(site, &who, parts).await?;
        let reply = call.await.map_err(|unanswered| {
            let code = match unanswered {
                Unanswered::Late(_) => Code::RequestReply,
                Unanswered::Stopping => Code::Stopping,
            };
            Answer::new(code, unanswered.to_string())
        })?;
        Ok(binding::encode_reply(&reply))
    };
    let asked: Result<CloudEvent, Answer> = asked.await;
    asked.unwrap_or_else(|answer| answer.mark(binding::without_secrets(message), now_ms()))
}

/// Publishes a reply that came on a stream of `who`. Cancel-safe: what was handed over stays so.
pub(super) async fn reply(site: &Site, who: &Principal, message: CloudEvent) -> Result<(), Answer> {
    let mut parts = decode(site, message).map_err(|answer| Answer { code: Code::Body, ..answer })?;
    who.allowance.charge(1, parts.data.len() as u64, Instant::now().into_std());
    let responder = address_reply(&mut parts).map_err(|error| Answer::new(Code::Reply, error.to_string()))?;
    let replier = match responder {
        Responder::Weft => site.shared.requester.replier(),
        Responder::Client => who,
    };
    let outcome = keep(site, replier, vec![one(parts)]).await;
    outcome.and_then(Outcome::whole).map_err(|reject| Answer::of(&reject, Code::Reply))
}

/// Asks the gate, and charges `events`.
async fn admit(site: &Site, headers: &HeaderMap, caller: Caller, events: u64) -> Result<Principal, Answer> {
    let who = site.admit(CLIENT, headers, caller.credentials).await?;
    let now = Instant::now().into_std();
    let wait = who.allowance.wait(now);
    if !wait.is_zero() {
        return Err(Answer::new(Code::Rate, format!("try again in {} ms", wait.as_millis())));
    }
    who.allowance.charge(events, 0, now);
    Ok(who)
}

fn decode(site: &Site, message: CloudEvent) -> Result<Parts, Answer> {
    let publisher: Arc<str> = Arc::from(message.text("producergroup").unwrap_or(CLIENT));
    let stamp = site.shared.hub.stamps().take();
    let arrival = Arrival { publisher: &publisher, stamp, now_ms: now_ms() };
    binding::decode(message, arrival).map_err(|error: Unusable| Answer::new(Code::Body, error.to_string()))
}

/// The event, in the trace that the call belongs to (W3C Trace Context) if it has none of its own.
fn traced(mut parts: Parts, headers: &HeaderMap) -> Parts {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    trace::adopt(&mut parts, text(trace::TRACEPARENT), text(trace::TRACESTATE));
    parts
}

fn one(parts: Parts) -> Publish {
    Publish { event: Event::new(parts), guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}

async fn keep_one(site: &Site, who: &Principal, parts: Parts) -> Result<(), Answer> {
    let outcome = keep(site, who, vec![one(parts)]).await;
    outcome.and_then(Outcome::whole).map_err(|reject| Answer::of(&reject, Code::Send))
}

/// Hands `batch` to the core and waits until it is kept.
async fn keep(site: &Site, who: &Principal, batch: Vec<Publish>) -> Result<Outcome, Reject> {
    metrics::counter!("weft_grpc_events_received_total").increment(batch.len() as u64);
    site.shared.hub.publish(who, batch).outcome_before(sleep(site.patience())).await
}

/// `Ok` if everything is kept; else which events are not, and why the first is not.
fn partly(outcome: Outcome) -> Result<(), Answer> {
    let list = match outcome {
        Outcome::Kept => return Ok(()),
        Outcome::Refused(reject) => return Err(Answer::of(&reject, Code::Batch)),
        Outcome::Partly(list) => list,
    };
    let Some((_, first)) = list.first() else { return Ok(()) };
    let places: Vec<String> = list.iter().take(PLACES).map(|(at, _)| at.to_string()).collect();
    let more = if list.len() > PLACES { " and more" } else { "" };
    let reason = format!("{first}; not kept: events {}{more}; the others are", places.join(", "));
    Err(Answer::new(Code::of(first.kind, Code::Batch), reason))
}

/// How many places of a batch an answer names.
const PLACES: usize = 20;
