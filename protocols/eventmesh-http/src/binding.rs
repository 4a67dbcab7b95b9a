//! What publishers send, as events; events, as they are posted to webhooks. Sans-io.
//!
//! | asked | event |
//! |---|---|
//! | form, `protocoltype` `eventmeshmessage` | an `EventMeshMessage`: `content` is its body, `extFields` and what says who sent it are its properties |
//! | form, `protocoltype` `cloudevents` | the CloudEvent in JSON that `content` is, as it is; its topic is its subject |
//! | path | a CloudEvent with the body in JSON as data, marked by the extension `protocoltype` `http` |
//!
//! | event | `content` of a post |
//! |---|---|
//! | `EventMeshMessage`, or plain text of any protocol | the text |
//! | marked `http` | the data; each attribute is a header as well |
//! | any other | the CloudEvent in JSON |
//!
//! User name, password and token of a publisher are read by [`crate::request`] alone, and never get into an event.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use event::event::is_attribute_name;
use event::{Draft, Event, Value};
use eventmesh::{
    Arrival, EventMeshMessage, Kind, PROTOCOL_DESC, PROTOCOL_TYPE, PROTOCOL_VERSION, Payload,
    SubscriptionType, Unusable,
};
use http::HeaderMap;
use webhook::push::Push;

use crate::error::{Answer, Code};
use crate::request::{Caller, Fields, Item, as_text, text};

/// What EventMesh calls this protocol (`protocoldesc`), and the mark of events that came by a path (`protocoltype`).
pub const CARRIER: &str = "http";

/// What a form with the code 104, 101 or 107 publishes. `content`: the name of the field that holds it.
///
/// # Errors
/// Something is missing, or it is no event.
pub fn publish(
    headers: &HeaderMap,
    caller: &Caller,
    fields: &Fields,
    content: &'static str,
    arrival: Arrival<'_>,
) -> Result<Payload, Answer> {
    let (kind, version) = (text(headers, PROTOCOL_TYPE), text(headers, PROTOCOL_VERSION));
    fields.need("producergroup")?;
    let body = Bytes::copy_from_slice(fields.need(content)?.as_bytes());
    if Kind::parse(kind) != Some(Kind::EventMeshMessage) {
        // A version that the SDK leaves out with some kinds is not what is wrong with them.
        let payload = Payload::read(kind, version.or(Some("1.0")), body, arrival)?;
        return with_data(payload);
    }
    if let Some(version) = version.filter(|version| !["1.0", "0.3"].contains(version)) {
        return Err(Unusable::Version(version.to_owned()).into());
    }
    let topic = fields.need("topic")?;
    let mut properties = extensions(fields.get("extFields"))?;
    for name in ["bizseqno", "uniqueid"] {
        // A message of a batch has no unique id of its own.
        match fields.get(name) {
            Some(value) => set(&mut properties, name, value),
            None if name == "uniqueid" && content == BATCH_CONTENT => {}
            None => return Err(fields.need(name).err().unwrap_or_else(|| Answer::new(Code::Body, name))),
        }
    }
    for name in ["producergroup", "ttl", "tag"] {
        if let Some(value) = fields.get(name) {
            set(&mut properties, name, value);
        }
    }
    message(caller, topic, properties, body, arrival)
}

/// The field that holds what a message of a batch says.
pub const BATCH_CONTENT: &str = "msg";

/// What one message of a batch (102) publishes.
///
/// # Errors
/// It is no event.
pub fn publish_item(
    caller: &Caller,
    group: &str,
    item: Item,
    arrival: Arrival<'_>,
) -> Result<Payload, Answer> {
    let mut properties = Vec::new();
    set(&mut properties, "producergroup", group);
    for (name, value) in [("bizseqno", item.seq), ("tag", item.tag), ("ttl", item.ttl)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            set(&mut properties, name, &value);
        }
    }
    message(caller, &item.topic, properties, item.msg.into(), arrival)
}

/// What a form with the code 301 publishes, before it is known where to: the properties of the request say that.
///
/// # Errors
/// Something is missing, or it is no event.
pub fn reply(caller: &Caller, fields: &Fields, arrival: Arrival<'_>) -> Result<Payload, Answer> {
    let topic = fields.need("origtopic")?;
    let mut properties = extensions(Some(fields.need("extFields")?))?;
    for name in ["bizseqno", "uniqueid", "producergroup"] {
        set(&mut properties, name, fields.need(name)?);
    }
    let body = Bytes::copy_from_slice(fields.need("content")?.as_bytes());
    message(caller, topic, properties, body, arrival)
}

/// What a path publishes: `data` in JSON, to `topic`.
///
/// # Errors
/// A header is none that an attribute can be, or the topic is none.
pub fn publish_by_path(
    headers: &HeaderMap,
    caller: &Caller,
    topic: &str,
    data: Bytes,
    arrival: Arrival<'_>,
) -> Result<Payload, Answer> {
    let name = eventmesh::topic(topic).map_err(Unusable::from)?;
    let mut draft = Draft::default();
    let header = |name: &str, default: &str| text(headers, name).unwrap_or(default).to_owned();
    let id = header("id", &format!("{:016x}", arrival.stamp));
    let group = header("producergroup", "em-http-producer");
    let mut all: Vec<(&str, Cow<'_, str>)> = vec![
        ("specversion", "1.0".into()),
        ("id", id.into()),
        ("source", header("source", "/").into()),
        ("type", header("type", "http_request").into()),
        ("subject", topic.into()),
        ("datacontenttype", "application/json".into()),
        (PROTOCOL_TYPE, CARRIER.into()),
        ("producergroup", group.into()),
    ];
    let named = ["bizseqno", "uniqueid", "ttl", "tag"];
    all.extend(named.into_iter().filter_map(|name| Some((name, text(headers, name)?.into()))));
    all.extend(of_caller(caller).map(|(name, value)| (name, value.into())));
    for (name, value) in all {
        let value = Value::String(ByteString::from(&*value));
        draft.set(name.into(), value).map_err(Unusable::from)?;
    }
    let incoming = draft.finish(data, true).map_err(Unusable::from)?;
    let publisher = std::sync::Arc::clone(arrival.publisher);
    Ok(Payload::new(incoming.into_parts(name, arrival.stamp, arrival.now_ms, publisher)))
}

/// The answer to a request (101): `{"topic", "body", "properties"}` in JSON, from the reply to what was sent to `topic`.
pub fn answer(topic: &str, reply: &Event) -> String {
    let message = EventMeshMessage::of(reply);
    let topic = reply.subject().unwrap_or(topic);
    let body = std::str::from_utf8(&message.body).unwrap_or_default();
    let properties: serde_json::Map<String, serde_json::Value> =
        message.properties.iter().map(|(name, value)| (name.to_string(), (&**value).into())).collect();
    serde_json::json!({ "topic": topic, "body": body, "properties": properties }).to_string()
}

/// `event` as it is posted to a webhook that subscribed it in this way.
pub fn push(event: &Event, kind: SubscriptionType) -> Push {
    let message = EventMeshMessage::of(event);
    let property = |name: &str| {
        let found = message.properties.iter().find(|(have, value)| have == name && !value.is_empty());
        found.map(|(_, value)| value.to_string())
    };
    let by_path = property(PROTOCOL_TYPE).as_deref() == Some(CARRIER);
    let (protocol, content, is_event) = match Kind::of(event) {
        _ if by_path => (CARRIER, message.body.clone(), false),
        Kind::EventMeshMessage => (Kind::EventMeshMessage.as_str(), message.body.clone(), false),
        Kind::CloudEvents | Kind::OpenMessage => {
            (Kind::CloudEvents.as_str(), Payload::cloud_event(event), true)
        }
    };
    let number = || format!("{:020}", event.parts().stamp);
    let seq_num = property("bizseqno").or_else(|| property("seqnum")).unwrap_or_else(number);
    let unique_id = property("uniqueid").unwrap_or_else(number);
    let mut extensions: Vec<(String, String)> = message
        .properties
        .iter()
        // It is about a body that is not what is posted.
        .filter(|(name, _)| !(is_event && name == "datacontentencoding"))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    for (name, value) in [
        (PROTOCOL_TYPE, protocol),
        (PROTOCOL_VERSION, "1.0"),
        (PROTOCOL_DESC, CARRIER),
        ("bizseqno", &seq_num),
        ("uniqueid", &unique_id),
    ] {
        extensions.retain(|(have, _)| have != name);
        extensions.push((name.to_owned(), value.to_owned()));
    }
    let mut headers = vec![("code".into(), code(kind).to_owned())];
    if by_path {
        headers.extend(attribute_headers(event));
    }
    let content = String::from_utf8_lossy(&content).into_owned();
    let topic = event.topic().as_str().to_owned();
    Push { headers, content, seq_num, unique_id, topic, extensions }
}

/// The code of a post: whether an answer is expected.
fn code(kind: SubscriptionType) -> &'static str {
    match kind {
        SubscriptionType::Async => "105",
        SubscriptionType::Sync => "106",
    }
}

/// Attributes as headers, but for those that would mean something else there.
fn attribute_headers(event: &Event) -> Vec<(Cow<'static, str>, String)> {
    const HTTP: [&str; 24] = [
        "accept",
        "age",
        "allow",
        "authorization",
        "code",
        "connection",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "from",
        "host",
        "language",
        "link",
        "origin",
        "pragma",
        "range",
        "referer",
        "server",
        "te",
        "trailer",
        "upgrade",
        "version",
        "via",
    ];
    let mut all: Vec<(Cow<'static, str>, String)> = vec![
        ("id".into(), event.id().into_owned()),
        ("source".into(), event.source().into_owned()),
        ("specversion".into(), "1.0".to_owned()),
        ("type".into(), event.ty().to_owned()),
        ("subject".into(), event.subject().unwrap_or(event.topic().as_str()).to_owned()),
        ("datacontenttype".into(), event.data_content_type().unwrap_or("application/json").to_owned()),
    ];
    for (name, value) in event.extensions() {
        let is_plain = is_attribute_name(&name) && !HTTP.contains(&&*name) && !name.starts_with("eventmesh");
        if is_plain {
            all.push((name.into_owned().into(), value.as_text().into_owned()));
        }
    }
    all
}

fn message(
    caller: &Caller,
    topic: &str,
    mut properties: Vec<(ByteString, ByteString)>,
    body: Bytes,
    arrival: Arrival<'_>,
) -> Result<Payload, Answer> {
    for (name, value) in of_caller(caller) {
        set(&mut properties, name, value);
    }
    let message = EventMeshMessage { id: None, topic: topic.into(), properties, content_type: None, body };
    with_data(message.into_payload(arrival)?)
}

/// What EventMesh tells subscribers of the publisher.
fn of_caller(caller: &Caller) -> impl Iterator<Item = (&'static str, &str)> {
    let Caller { env, idc, ip, pid, sys, language, credentials: _ } = caller;
    [("env", env), ("idc", idc), ("ip", ip), ("pid", pid), ("sys", sys), ("language", language)]
        .into_iter()
        .map(|(name, value)| (name, value.as_str()))
}

/// The properties in a JSON object of texts, without what would say that the message travels otherwise.
fn extensions(json: Option<&str>) -> Result<Vec<(ByteString, ByteString)>, Answer> {
    let Some(json) = json else { return Ok(Vec::new()) };
    let wrong = |error: serde_json::Error| {
        Answer::new(Code::Body, format!("extFields is not the JSON object that is needed: {error}"))
    };
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(wrong)?;
    let all = members.into_iter().filter(|(name, _)| !SECRETS.contains(&&**name));
    Ok(all.filter_map(|(name, value)| Some((name.into(), as_text(value)?.into()))).collect())
}

/// What EventMesh itself puts among the extensions, and Weft shows nobody.
const SECRETS: [&str; 3] = ["username", "passwd", "token"];

fn set(properties: &mut Vec<(ByteString, ByteString)>, name: &str, value: &str) {
    properties.retain(|(have, _)| have != name);
    properties.push((name.into(), value.into()));
}

fn with_data(payload: Payload) -> Result<Payload, Answer> {
    match payload.data().is_empty() {
        true => Err(Answer::new(Code::Body, "the event has no data")),
        false => Ok(payload),
    }
}

#[cfg(test)]
mod tests;
