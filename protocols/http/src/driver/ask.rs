//! A request that is answered with the reply to its event.
//!
//! The event names a topic that cannot be guessed as where its reply is expected, and correlation data: what MQTT 5 calls
//! Response Topic and Correlation Data, so whoever gets the event may answer.

use std::future::poll_fn;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use event::hub::{Attach, Link, Publish, Room, Subscribe, SubscribeOptions};
use event::json::EVENT_TYPE;
use event::{Event, Guarantee, Principal, REPLY_TOPICS, Reject, RejectKind, TopicFilter, TopicName};
use http::{HeaderMap, StatusCode, header};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Front, now_ms, refusals};
use crate::problem::{Kind, Problem};

/// Replies are small and few: the first one that fits ends the request.
const ROOM: Room = Room { numbered: 16, bytes: 64 << 10 };

/// Publishes one event and waits for its reply, together `wait` at most. Cancel-safe: dropped, nobody waits for the reply.
pub(super) async fn ask(
    front: &Front,
    who: &Principal,
    publish: Publish,
    wait: Duration,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let deadline = Instant::now() + wait;
    let late = || Problem::new(Kind::Unanswered, format!("nobody answered within {} ms", wait.as_millis()));
    let (name, correlation) = (random()?, Bytes::from(random()?));
    let mut link = timeout_at(deadline, listen(front, &name)).await.map_err(|_| late())??;

    let mut parts = publish.event.parts().clone();
    let ttl = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    parts.expires_ms = now_ms().saturating_add(ttl);
    let meta = parts.meta.get_or_insert_default();
    meta.reply_to = Some(topic(&name)?);
    meta.correlation = Some(correlation.clone());
    let ids = [publish.event.id().into_owned()];
    let request = Publish { event: Event::new(parts), ..publish };
    let outcome = front.hub.publish(who, vec![request]).outcome_before(sleep_until(deadline)).await?;
    refusals(outcome, &ids)?;

    let reply = async {
        let mut taken = Vec::new();
        loop {
            poll_fn(|cx| link.poll_deliveries(cx, ROOM, &mut taken)).await.map_err(|_| Reject::closed())?;
            let fits =
                |event: &Event| event.meta().and_then(|meta| meta.correlation.as_ref()) == Some(&correlation);
            if let Some(delivery) = taken.drain(..).find(|delivery| fits(&delivery.event)) {
                return Ok::<Event, Problem>(delivery.event);
            }
        }
    };
    let reply = timeout_at(deadline, reply).await.map_err(|_| late())??;
    Ok(response(&reply, headers))
}

/// A session of its own: it takes what comes to the topic, and ends with the request.
async fn listen(front: &Front, name: &str) -> Result<Box<dyn Link>, Problem> {
    let who = Principal::anonymous(&*format!("$http/{name}"));
    let request = Attach { clean: true, protocol: "HTTP", ..Attach::default() };
    let mut link = front.hub.attach(who, request).await?.link;
    let filter = TopicFilter::parse(topic(name)?.as_str()).map_err(|_| Reject::closed())?;
    // A reply does not outlive its request: no log has to hold it.
    let wanted = Subscribe::new(filter, SubscribeOptions::new(Guarantee::AtMostOnce));
    for granted in link.subscribe(vec![wanted]).await? {
        granted?;
    }
    Ok(link)
}

fn topic(name: &str) -> Result<TopicName, Reject> {
    TopicName::parse(format!("{REPLY_TOPICS}{name}")).map_err(|_| Reject::closed())
}

/// The reply's data under its content type; the whole event to who asks for CloudEvents.
fn response(reply: &Event, headers: &HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let structured =
        accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with(EVENT_TYPE));
    let (kind, body) = match structured {
        true => (Some(EVENT_TYPE), reply.as_json().clone()),
        false => (reply.data_content_type(), reply.data().clone()),
    };
    let mut response = Response::new(Body::from(body));
    let value = kind.and_then(|kind| http::HeaderValue::from_str(kind).ok());
    response.headers_mut().extend(value.map(|value| (header::CONTENT_TYPE, value)));
    *response.status_mut() = StatusCode::OK;
    response
}

fn random() -> Result<String, Reject> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Reject::new(RejectKind::Unavailable, "the system has no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
