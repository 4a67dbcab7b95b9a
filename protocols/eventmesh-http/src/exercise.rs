//! What a fuzz target, and the replay of its corpus, run. Sans-io.

#![expect(clippy::expect_used, reason = "this is how it tells that the binding is wrong")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use event::{Event, json};
use eventmesh::{Arrival, Kind, Payload, SubscriptionType};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::binding;
use crate::error::Answer;
use crate::request::{self, Caller, Command, Fields, Place, is_form, text};

/// Reads `data` as a request: a line with the path, lines with headers, an empty line, the body. What it publishes is posted
/// to a webhook, and read back from that. Panics only when the binding is wrong.
pub fn exercise(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (data.get(..at).unwrap_or_default(), data.get(at + 2..).unwrap_or_default()),
        None => (data, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let path = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(at);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    for payload in payloads(&path, &headers, body).unwrap_or_default() {
        check(&payload.into_event());
    }
}

/// What a request publishes.
fn payloads(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Payload>, Answer> {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let publisher: Arc<str> = Arc::from("p");
    let arrival = Arrival { publisher: &publisher, stamp: 7, now_ms: 1_700_000_000_000 };
    if let Some(place) = Place::parse(path) {
        let caller = Caller::with_defaults(headers, peer)?;
        let fields = Fields::of(headers, body)?;
        return match place {
            Place::Publish(topic) => {
                let topic = topic.map_or_else(|| fields.need("topic").map(str::to_owned), Ok)?;
                let data = if is_form(headers) { fields.to_json() } else { body.to_vec() };
                let payload = binding::publish_by_path(headers, &caller, &topic, data.into(), arrival)?;
                Ok(vec![payload])
            }
            Place::Subscribe | Place::Unsubscribe => request::interest(&fields).map(|_| Vec::new()),
            Place::Bridge | Place::Remote | Place::CreateTopics | Place::DeleteTopics | Place::Query => {
                Ok(Vec::new())
            }
        };
    }
    let fields = Fields::form(body)?;
    let command = Command::parse(text(headers, "code"))?;
    let caller = Caller::of(headers, peer)?;
    let one = |payload: Result<Payload, Answer>| payload.map(|payload| vec![payload]);
    match command {
        Command::Ask | Command::Publish => {
            one(binding::publish(headers, &caller, &fields, "content", arrival))
        }
        Command::BatchOne => {
            one(binding::publish(headers, &caller, &fields, binding::BATCH_CONTENT, arrival))
        }
        Command::Reply => one(binding::reply(&caller, &fields, arrival)),
        Command::Batch => {
            let items = request::batch(&fields, 16)?;
            items.into_iter().map(|item| binding::publish_item(&caller, "g", item, arrival)).collect()
        }
        Command::Subscribe | Command::Unsubscribe => request::interest(&fields).map(|_| Vec::new()),
        Command::Heartbeat => request::heartbeat(&fields).map(|_| Vec::new()),
    }
}

/// What is posted says what the event says.
fn check(event: &Event) {
    let post = binding::push(event, SubscriptionType::Async);
    assert_eq!(post.topic, event.topic().as_str());
    let mut names: Vec<&str> = post.extensions.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two.first() != two.get(1)), "a property is there twice: {names:?}");
    let body = post.body(1, 2);
    let read = Fields::form(&body).expect("what is posted is a form");
    for (name, value) in [("content", &post.content), ("topic", &post.topic), ("uniqueId", &post.unique_id)] {
        assert_eq!(read.get(name).unwrap_or_default(), if value.trim().is_empty() { "" } else { value });
    }
    let by_path = post.headers.iter().any(|(name, _)| name == "specversion");
    if Kind::of(event) == Kind::CloudEvents && !by_path {
        let again =
            json::decode(Bytes::copy_from_slice(post.content.as_bytes())).expect("it is a CloudEvent");
        assert_eq!((&*again.attributes.id, &*again.attributes.ty), (&*event.id(), event.ty()));
        assert_eq!(&again.data, event.data());
    } else if std::str::from_utf8(event.data()).is_ok() {
        assert_eq!(post.content.as_bytes(), &event.data()[..]);
    }
}
