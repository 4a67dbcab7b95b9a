//! PUBLISH ⇄ event (CloudEvents MQTT binding 1.0.2; ARCHITECTURE.md, "Mapping"). Sans-io.
//!
//! A publish without properties becomes an event without [`Meta`]: nothing but the event itself is allocated.

use std::sync::Arc;

use bytes::Bytes;
use event::incoming::Draft;
use event::json::{self, EVENT_TYPE};
use event::{Attributes, Event, Meta, Parts, TopicName, Value};
use memchr::memmem;

use crate::Violation;
use crate::codec::{Properties, Property, Version, Visit};

/// Where and when a publish came in.
pub(crate) struct Arrival<'a> {
    pub(crate) publisher: &'a Arc<str>,
    pub(crate) stamp: u64,
    /// Milliseconds since 1970.
    pub(crate) now_ms: u64,
}

/// Why a publish has no event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// The packet breaks the standard.
    Violation(Violation),
    /// The payload is not what the packet says it is; only this publish is refused.
    Payload,
}

/// The event of a publish to `topic`.
pub(crate) fn event(
    version: Version,
    topic: TopicName,
    properties: &Properties,
    payload: Bytes,
    arrival: Arrival<'_>,
) -> Result<Event, Unbound> {
    match version {
        Version::V311 => Ok(event_311(topic, payload, arrival)),
        Version::V5 if properties.is_empty() => Ok(plain(topic, payload, None, 0, arrival)),
        Version::V5 => event_5(topic, properties, payload, arrival),
    }
}

/// `$delayed/SECONDS/TOPIC` is a publish to TOPIC that is delivered later, for clients without user properties (3.1.1): the
/// topic, and the delay in milliseconds. An error is a topic that begins like that and goes on otherwise.
pub(crate) fn delayed(topic: TopicName) -> Result<(TopicName, Option<u64>), ()> {
    let Some(rest) = topic.as_str().strip_prefix("$delayed/") else { return Ok((topic, None)) };
    let (seconds, topic) = rest.split_once('/').ok_or(())?;
    let seconds: u32 = seconds.parse().map_err(drop)?;
    Ok((TopicName::parse(topic).map_err(drop)?, Some(u64::from(seconds) * 1000)))
}

/// The event, to be delivered after `delay_ms`.
pub(crate) fn after(event: Event, delay_ms: Option<u64>) -> Event {
    let Some(delay_ms) = delay_ms else { return event };
    let mut parts = event.parts().clone();
    let asked = ("delayms".into(), delay_ms.to_string().into());
    parts.meta.get_or_insert_default().user.insert(0, asked);
    Event::new(parts)
}

fn plain(
    topic: TopicName,
    data: Bytes,
    meta: Option<Box<Meta>>,
    expires_ms: u64,
    arrival: Arrival<'_>,
) -> Event {
    Event::new(Parts {
        topic,
        data,
        stamp: arrival.stamp,
        received_ms: arrival.now_ms,
        expires_ms,
        publisher: Arc::clone(arrival.publisher),
        meta,
    })
}

/// 3.1.1 has no content type: a JSON object that is a CloudEvent is taken as one (CE MQTT §3.2 asks for structured mode).
fn event_311(topic: TopicName, payload: Bytes, arrival: Arrival<'_>) -> Event {
    let object = payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if object
        && memmem::find(&payload, b"\"specversion\"").is_some()
        && let Ok(incoming) = json::decode(payload.clone())
    {
        return incoming.into_event(topic, arrival.stamp, arrival.now_ms, Arc::clone(arrival.publisher));
    }
    plain(topic, payload, None, 0, arrival)
}

/// What the properties of a publish say, beside CloudEvents.
#[derive(Default)]
struct Found {
    meta: Meta,
    expires_ms: u64,
    alias_only: bool,
}

fn event_5(
    topic: TopicName,
    properties: &Properties,
    payload: Bytes,
    arrival: Arrival<'_>,
) -> Result<Event, Unbound> {
    let found = read(properties, arrival.now_ms)?;
    if found.meta.utf8 && std::str::from_utf8(&payload).is_err() {
        return Err(Unbound::Payload);
    }
    if found.alias_only {
        return Ok(plain(topic, payload, None, 0, arrival));
    }
    if found.meta.content_type.as_deref().is_some_and(is_structured) {
        return structured(topic, found, payload, arrival);
    }
    if names_cloud_event(&found.meta) {
        return Ok(binary(topic, found, payload, arrival));
    }
    let meta = (found.meta != Meta::default()).then(|| Box::new(found.meta));
    Ok(plain(topic, payload, meta, found.expires_ms, arrival))
}

fn read(properties: &Properties, now_ms: u64) -> Result<Found, Unbound> {
    let mut found = Found { alias_only: true, ..Found::default() };
    for property in properties.iter() {
        if let Property::TopicAlias(_) = property {
            continue;
        }
        found.alias_only = false;
        let meta = &mut found.meta;
        if let Property::User(name, value) = property {
            meta.user.push((properties.share(name), properties.share(value)));
        } else if let Property::ContentType(text) = property {
            meta.content_type = Some(properties.share(text));
        } else if let Property::PayloadFormat(utf8) = property {
            meta.utf8 = utf8;
        } else if let Property::ResponseTopic(text) = property {
            let topic = TopicName::parse(properties.share(text));
            meta.reply_to = Some(topic.map_err(|error| Unbound::Violation(Violation::Topic(error)))?);
        } else if let Property::CorrelationData(data) = property {
            meta.correlation = Some(properties.share_data(data));
        } else if let Property::MessageExpiry(seconds) = property {
            found.expires_ms = now_ms.saturating_add(u64::from(seconds) * 1000).max(1);
        }
    }
    Ok(found)
}

/// `application/cloudevents+json`, perhaps with parameters (CE MQTT §3.2.1).
fn is_structured(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(EVENT_TYPE)
}

/// Whether the user properties name a CloudEvent of version 1.0.
fn names_cloud_event(meta: &Meta) -> bool {
    let has = |name: &str| meta.user.iter().any(|(have, _)| &**have == name);
    meta.user.len() <= CLOUD_EVENT_PROPERTIES_MAX
        && meta.user.iter().any(|(name, value)| &**name == "specversion" && &**value == "1.0")
        && has("id")
        && has("source")
        && has("type")
}

/// Structured mode: the payload is all of the event; what the packet says beside it is kept.
fn structured(
    topic: TopicName,
    found: Found,
    payload: Bytes,
    arrival: Arrival<'_>,
) -> Result<Event, Unbound> {
    let incoming = json::decode(payload).map_err(|_| Unbound::Payload)?;
    let Found { meta, expires_ms, .. } = found;
    let publisher = Arc::clone(arrival.publisher);
    let beside =
        expires_ms != 0 || meta.reply_to.is_some() || meta.correlation.is_some() || !meta.user.is_empty();
    if !beside {
        return Ok(incoming.into_event(topic, arrival.stamp, arrival.now_ms, publisher));
    }
    let parts = incoming.into_parts(topic, arrival.stamp, arrival.now_ms, publisher);
    // Content type and format indicator of the packet speak of the envelope, not of the data in it.
    let mut meta = Meta { content_type: None, utf8: false, ..meta };
    // The packet may say again what the payload says (CE MQTT §3.2.3): nobody shall get it twice.
    if meta.user.len() <= CLOUD_EVENT_PROPERTIES_MAX
        && let Some(event) = &parts.meta
    {
        meta.user.retain(|(name, _)| !has_attribute(event, name));
    }
    Ok(Event::new(with_properties(parts, meta, expires_ms)))
}

/// Whether a CloudEvent has the attribute of this name.
fn has_attribute(event: &Meta, name: &str) -> bool {
    let Some(attributes) = &event.attributes else { return false };
    match name {
        "specversion" | "id" | "source" | "type" => true,
        "subject" => attributes.subject.is_some(),
        "time" => attributes.time.is_some(),
        "dataschema" => attributes.dataschema.is_some(),
        "datacontenttype" => event.content_type.is_some(),
        _ => attributes.extensions.iter().any(|(have, _)| &**have == name),
    }
}

/// Binary mode: user properties with names of attributes are attributes (CE MQTT §3.1.3). A publish that only looks like
/// one, with an attribute that CloudEvents forbids, is taken as the plain publish that it also is.
fn binary(topic: TopicName, found: Found, payload: Bytes, arrival: Arrival<'_>) -> Event {
    let Found { mut meta, expires_ms, .. } = found;
    let mut draft = Draft::default();
    let mut rest = Vec::new();
    let mut taken: Vec<&str> = Vec::new();
    let mut valid = true;
    for (name, value) in &meta.user {
        let attribute = event::event::is_attribute_name(name) && &**name != "datacontenttype";
        if attribute && !taken.contains(&&**name) {
            taken.push(name);
            valid &= draft.set(name.clone(), Value::String(value.clone())).is_ok();
        } else {
            rest.push((name.clone(), value.clone()));
        }
    }
    let incoming = draft.finish(payload.clone(), meta.utf8).ok().filter(|_| valid);
    let Some(incoming) = incoming else {
        return plain(topic, payload, Some(Box::new(meta)), expires_ms, arrival);
    };
    meta.user = rest;
    let parts = incoming.into_parts(topic, arrival.stamp, arrival.now_ms, Arc::clone(arrival.publisher));
    Event::new(with_properties(parts, meta, expires_ms))
}

/// `parts` with what the packet said beside the CloudEvent. What the CloudEvent says itself is left alone where the
/// packet says nothing.
fn with_properties(mut parts: Parts, said: Meta, expires_ms: u64) -> Parts {
    let meta = parts.meta.get_or_insert_default();
    meta.utf8 |= said.utf8;
    meta.content_type = said.content_type.or(meta.content_type.take());
    meta.reply_to = said.reply_to.or(meta.reply_to.take());
    meta.correlation = said.correlation.or(meta.correlation.take());
    meta.user.extend(said.user);
    if expires_ms != 0 {
        parts.expires_ms = expires_ms;
    }
    parts
}

/// User properties above which nobody looks for a CloudEvent among them: it takes time that grows with their number.
const CLOUD_EVENT_PROPERTIES_MAX: usize = 1024;

/// What a subscriber of `version` gets as payload.
pub(crate) fn payload(event: &Event, version: Version) -> &Bytes {
    match version {
        Version::V311 if event.attributes().is_some() => event.as_json(),
        Version::V311 | Version::V5 => event.data(),
    }
}

/// Calls `visit` for each property that a version 5 subscriber gets, at `now_ms`.
pub(crate) fn each_property(
    event: &Event,
    subscriptions: Option<&[u32]>,
    now_ms: u64,
    visit: &mut Visit<'_>,
) {
    let expires_ms = event.parts().expires_ms;
    if expires_ms != 0 {
        let left = expires_ms.saturating_sub(now_ms).div_ceil(1000);
        visit(Property::MessageExpiry(u32::try_from(left).unwrap_or(u32::MAX)));
    }
    for id in subscriptions.unwrap_or_default() {
        visit(Property::SubscriptionId(*id));
    }
    let Some(meta) = event.meta() else { return };
    if meta.utf8 {
        visit(Property::PayloadFormat(true));
    }
    if let Some(text) = &meta.content_type {
        visit(Property::ContentType(text));
    }
    if let Some(topic) = &meta.reply_to {
        visit(Property::ResponseTopic(topic.as_str()));
    }
    if let Some(data) = &meta.correlation {
        visit(Property::CorrelationData(data));
    }
    if let Some(attributes) = &meta.attributes {
        each_attribute(attributes, visit);
    }
    for (name, value) in &meta.user {
        visit(Property::User(name, value));
    }
}

fn each_attribute(attributes: &Attributes, visit: &mut Visit<'_>) {
    visit(Property::User("specversion", "1.0"));
    visit(Property::User("id", &attributes.id));
    visit(Property::User("source", &attributes.source));
    visit(Property::User("type", &attributes.ty));
    let optional = [
        ("subject", &attributes.subject),
        ("time", &attributes.time),
        ("dataschema", &attributes.dataschema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            visit(Property::User(name, value));
        }
    }
    for (name, value) in &attributes.extensions {
        visit(Property::User(name, &value.as_text()));
    }
}

#[cfg(test)]
mod tests;
