//! Events and their protobuf form (CE Protobuf §3), both ways. Sans-io.
//!
//! | protobuf | event |
//! |---|---|
//! | `subject` | the topic; an event that has another subject tells its topic in the attribute `wefttopic` |
//! | attribute of type Boolean, Integer, String | the same |
//! | Bytes, URI, URI-reference, Timestamp | its text (CE §3.1), Bytes in base64 |
//! | attribute with a name that is none (CE §3), in an EventMeshMessage | user property (MQTT 5) |
//! | `username`, `passwd`, `token` | left out: secrets of the publisher are nobody's business |
//! | `protocoltype`, `protocolversion`, `protocoldesc` | left out, and written for each reader |
//! | `text_data`, `binary_data` | the data |
//! | `proto_data` | the data: the bytes of the `Any`, as the Java SDK of CloudEvents has it |
//!
//! On the way out the media type decides: text, JSON and XML are `text_data` if they are UTF-8, `application/protobuf` is
//! `proto_data` if it is an `Any`, all else is `binary_data`.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;
use event::event::is_attribute_name;
use event::incoming::{TEXT_MAX, TOPIC};
use event::{Draft, Event, InvalidEvent, Parts, Value, has_control};
use eventmesh::{Arrival, Kind, PROTOCOL_DESC, PROTOCOL_TYPE, PROTOCOL_VERSION, SubscriptionType, Unusable};
use prost::Message as _;
use prost_types::{Any, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use webhook::push::Push;

use crate::proto::{Attr, CloudEvent, Data};

/// Attributes that are for Weft alone.
const SECRETS: [&str; 3] = ["username", "passwd", "token"];

/// Attributes of the protobuf form that are no attributes of the event.
const OF_THE_CALL: [&str; 3] = ["statuscode", "responsemessage", "submessagetype"];

/// Attributes that say how a message travels.
const OF_THE_WAY: [&str; 3] = [PROTOCOL_TYPE, PROTOCOL_VERSION, PROTOCOL_DESC];

/// What EventMesh calls this protocol (`protocoldesc`).
pub(crate) const CARRIER: &str = "grpc-cloud-event";

/// What is to be published: the event in `message`, to the topic that is its subject.
///
/// # Errors
/// It is no CloudEvent 1.0, or its subject is no topic.
pub fn decode(message: CloudEvent, arrival: Arrival<'_>) -> Result<Parts, Unusable> {
    let topic = eventmesh::topic(message.text("subject").ok_or(Unusable::NoSubject)?)?;
    let is_message = Kind::parse(message.text(PROTOCOL_TYPE)) == Some(Kind::EventMeshMessage);
    let CloudEvent { id, source, spec_version, ty, attributes, data } = message;
    let mut draft = Draft::default();
    let mut user = Vec::new();
    for (name, text) in [("specversion", spec_version), ("id", id), ("source", source), ("type", ty)] {
        if text.is_empty() {
            return Err(wrong(name, "is missing").into());
        }
        draft.set(name.into(), Value::String(text.into()))?;
    }
    // Of a name that is there twice the last counts: that is how a map is read.
    let mut entries = attributes.into_iter().rev().collect::<Vec<_>>();
    let mut seen: Vec<String> = Vec::with_capacity(entries.len());
    entries.retain(|entry| {
        let is_first = !seen.contains(&entry.name);
        if is_first {
            seen.push(entry.name.clone());
        }
        is_first
    });
    for entry in entries.into_iter().rev() {
        let name = entry.name;
        if SECRETS.contains(&&*name) || OF_THE_CALL.contains(&&*name) || OF_THE_WAY.contains(&&*name) {
            continue;
        }
        let Some(attr) = entry.value.and_then(|value| value.attr) else { continue };
        let is_core = ["subject", "time", "dataschema", "datacontenttype", TOPIC].contains(&&*name);
        let value = value(attr, &name)?;
        // What is empty is not there, as Java's clients mean it.
        if is_core && value.as_text().is_empty() {
            continue;
        }
        match is_message && !is_attribute_name(&name) {
            true => user.push(property(name, &value)?),
            false => draft.set(name.into(), value)?,
        }
    }
    let (data, utf8) = match data {
        None => (Bytes::new(), false),
        Some(Data::Binary(data)) => (data, false),
        Some(Data::Text(text)) => (Bytes::from(text), true),
        Some(Data::Proto(any)) => (Bytes::from(any.encode_to_vec()), false),
    };
    let incoming = draft.finish(data, utf8)?;
    let mut parts = incoming.into_parts(topic, arrival.stamp, arrival.now_ms, Arc::clone(arrival.publisher));
    if let Some(meta) = &mut parts.meta {
        meta.user.extend(user);
    }
    Ok(parts)
}

/// A property of an EventMeshMessage whose name no extension can have, as a user property.
fn property(name: String, value: &Value) -> Result<(ByteString, ByteString), InvalidEvent> {
    let value = ByteString::from(&*value.as_text());
    let wrong = |problem| Err(wrong(&name, problem));
    if name.is_empty() || name.len() > TEXT_MAX || value.len() > TEXT_MAX {
        return wrong("is empty, or it or its value is longer than 65535 bytes");
    }
    if has_control(&name) || has_control(&value) {
        return wrong("has a control character, or its value has");
    }
    Ok((name.into(), value))
}

fn value(attr: Attr, name: &str) -> Result<Value, InvalidEvent> {
    Ok(match attr {
        Attr::Boolean(value) => Value::Boolean(value),
        Attr::Integer(value) => Value::Integer(value),
        Attr::String(text) | Attr::Uri(text) | Attr::UriRef(text) => Value::String(text.into()),
        Attr::Bytes(data) => Value::String(base64::engine::general_purpose::STANDARD.encode(data).into()),
        Attr::Timestamp(at) => {
            let text = rfc3339(&at).ok_or_else(|| wrong(name, "is no time of the years 1 to 9999"))?;
            Value::String(text.into())
        }
    })
}

/// `event` for a reader.
pub fn encode(event: &Event) -> CloudEvent {
    let topic = event.topic().as_str();
    let extensions = event.extensions();
    let mut message = CloudEvent {
        id: event.id().into_owned(),
        source: event.source().into_owned(),
        spec_version: "1.0".to_owned(),
        ty: event.ty().to_owned(),
        attributes: Vec::with_capacity(extensions.len() + 8),
        data: None,
    };
    let subject = event.subject().unwrap_or(topic);
    message.push_text("subject", subject);
    if subject != topic {
        message.push_text(TOPIC, topic);
    }
    let media_type = event.data_content_type().map(str::to_owned);
    if let Some(media_type) = &media_type {
        message.push_text("datacontenttype", media_type.as_str());
    }
    if let Some(time) = event.time() {
        message.push("time", parsed(&time).map_or_else(|| Attr::String(time.into_owned()), Attr::Timestamp));
    }
    if let Some(schema) = event.dataschema() {
        message.push("dataschema", Attr::Uri(schema.to_owned()));
    }
    for (name, value) in extensions.iter().filter(|(name, _)| !OF_THE_WAY.contains(&&**name)) {
        message.push(
            name,
            match &**value {
                Value::Boolean(value) => Attr::Boolean(*value),
                Value::Integer(value) => Attr::Integer(*value),
                Value::String(text) => Attr::String(text.to_string()),
            },
        );
    }
    message.data = data(event.data(), media_type.as_deref());
    for (name, value) in
        [(PROTOCOL_TYPE, Kind::of(event).as_str()), (PROTOCOL_VERSION, "1.0"), (PROTOCOL_DESC, CARRIER)]
    {
        message.push_text(name, value);
    }
    supply(&mut message, event.parts().stamp);
    message
}

/// `event` as the reply to a request: where it went is the business of Weft alone.
pub fn encode_reply(event: &Event) -> CloudEvent {
    let mut message = encode(event);
    message.attributes.retain(|entry| entry.name != TOPIC);
    message
}

/// `event` as it is posted to a webhook.
pub fn push(event: &Event, _kind: SubscriptionType) -> Push {
    let message = encode(event);
    let text = |name: &str| message.text(name).unwrap_or_default().to_owned();
    let headers = vec![
        ("code".into(), "105".to_owned()),
        (PROTOCOL_TYPE.into(), text(PROTOCOL_TYPE)),
        (PROTOCOL_DESC.into(), text(PROTOCOL_DESC)),
        (PROTOCOL_VERSION.into(), text(PROTOCOL_VERSION)),
        ("contenttype".into(), text("datacontenttype")),
    ];
    let mut extensions: Vec<(String, String)> = Vec::with_capacity(message.attributes.len() + 1);
    for entry in &message.attributes {
        let Some(attr) = entry.value.as_ref().and_then(|value| value.attr.clone()) else { continue };
        if let Ok(value) = value(attr, &entry.name) {
            extensions.push((entry.name.clone(), value.as_text().into_owned()));
        }
    }
    let content = match std::str::from_utf8(event.data()) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            extensions.push(("datacontentencoding".to_owned(), "base64".to_owned()));
            base64::engine::general_purpose::STANDARD.encode(event.data())
        }
    };
    let (seq_num, unique_id) = (text("seqnum"), text("uniqueid"));
    Push { headers, content, seq_num, unique_id, topic: event.topic().as_str().to_owned(), extensions }
}

/// `message` without what proves who sent it, to go back to its sender.
pub fn without_secrets(mut message: CloudEvent) -> CloudEvent {
    message.attributes.retain(|entry| !SECRETS.contains(&&*entry.name));
    message
}

/// The data in the form that fits its media type.
fn data(data: &Bytes, media_type: Option<&str>) -> Option<Data> {
    if data.is_empty() {
        return None;
    }
    if media_type.is_none_or(is_text)
        && let Ok(text) = std::str::from_utf8(data)
    {
        return Some(Data::Text(text.to_owned()));
    }
    if media_type.is_some_and(is_protobuf)
        && let Ok(any) = Any::decode(data.clone())
        && !any.type_url.is_empty()
    {
        return Some(Data::Proto(any));
    }
    Some(Data::Binary(data.clone()))
}

/// Java's clients take an event without these for the answer to a subscription.
fn supply(message: &mut CloudEvent, stamp: u64) {
    for name in ["seqnum", "uniqueid"] {
        if message.text(name).is_none_or(str::is_empty) {
            message.set(name, Attr::String(format!("{stamp:030}")));
        }
    }
}

/// Whether data of this media type is text (EventMesh: text, JSON, XML).
pub(crate) fn is_text(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || matches!(&*essence, "application/json" | "application/xml")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
}

fn is_protobuf(media_type: &str) -> bool {
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/protobuf")
}

fn rfc3339(at: &Timestamp) -> Option<String> {
    let nanos = u32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let time = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?.replace_nanosecond(nanos).ok()?;
    time.format(&Rfc3339).ok()
}

fn parsed(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let nanos = i32::try_from(time.nanosecond()).ok()?;
    Some(Timestamp { seconds: time.unix_timestamp(), nanos })
}

fn wrong(name: &str, problem: &'static str) -> InvalidEvent {
    InvalidEvent::Attribute { name: name.to_owned(), problem }
}

#[cfg(test)]
mod tests;
