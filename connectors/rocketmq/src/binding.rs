//! Events as RocketMQ messages and back. The body is the data; the rest is in properties, so that an event comes back
//! as it was, byte for byte.
//!
//! | property | holds |
//! |---|---|
//! | `UNIQ_KEY` | 32 hexadecimal digits of source and id: a repeat has the same |
//! | `KEYS` | the event's id (if RocketMQ can take it for one key), for look-ups |
//! | `TAGS`, `__SHARDINGKEY` | what a bridge's rule makes of the event |
//! | `CE_specversion`, `CE_id`, `CE_source`, … `CE_contenttype` | CloudEvents attributes, named as in the CloudEvents SDK for Java |
//! | `WEFT_EXTENSIONS` | names and types of extension attributes in their order: `seq:i,ok:b,note:s` |
//! | `WEFT_TOPIC` | the topic it was published to |
//! | `WEFT_PUBLISHER`, `WEFT_STAMP`, `WEFT_RECEIVED`, `WEFT_EXPIRES` | the rest of [`Parts`] |
//! | `WEFT_CONTENT_TYPE`, `WEFT_UTF8`, `WEFT_REPLY_TO`, `WEFT_CORRELATION`, `WEFT_USER` | [`Meta`]; user properties as a JSON array of pairs |
//! | any other name | a user property again, for other clients to read; left out where names clash or room is short |
//!
//! A message that has no `WEFT_TOPIC` comes from another client. With `CE_` properties, or CloudEvents JSON as its body,
//! it is a CloudEvent; else a plain event. Its own properties, `TAGS` and `KEYS` become user properties.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use event::incoming::{Draft, Incoming};
use event::{Attributes, Event, Meta, Parts, TopicName, Value, json};
use remoting::properties::{PROPERTIES_MAX, Properties, is_name, parse, unescape};
use remoting::{BatchEntry, StoredMessage};
use sha1::{Digest, Sha1};

use defibus::property;

use crate::error::{Unfit, Unusable};
use crate::inflate::inflate;
use crate::rpc::is_of_rpc;
use crate::template::{Template, Values};

/// What an event that arrives needs beside its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// Now, milliseconds since 1970.
    pub(crate) now_ms: u64,
    /// A stamp that no other event has.
    pub(crate) stamp: u64,
    /// Who publishes it here.
    pub(crate) publisher: &'a Arc<str>,
    /// It is one of our own, on its way through our store: publisher, stamp and time of receipt are those it had.
    pub(crate) own: bool,
}

/// What a message has beside its event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Labels<'a> {
    /// `TAGS`.
    pub(crate) tags: Option<&'a str>,
    /// `__SHARDINGKEY`: messages with the same keep their order.
    pub(crate) key: Option<&'a str>,
}

/// The message that carries `event`, at most `max` bytes, with `properties` before its own.
pub(crate) fn to_message(
    event: &Event,
    labels: Labels<'_>,
    mut properties: Properties,
    max: usize,
) -> Result<BatchEntry, Unfit> {
    let labels = [("TAGS", labels.tags), ("__SHARDINGKEY", labels.key)];
    for (name, value) in labels {
        if let Some(value) = value {
            properties.push(name, value);
        }
    }
    put_keys(&mut properties, event);
    put_parts(&mut properties, event.parts());
    if let Some(attributes) = event.attributes() {
        put_attributes(&mut properties, attributes);
    }
    if let Some(meta) = event.meta() {
        put_meta(&mut properties, meta);
        let exact = properties.len();
        put_copies(&mut properties, meta);
        if properties.len() > PROPERTIES_MAX {
            properties.truncate(exact);
        }
    }
    let message = BatchEntry { body: event.data().clone(), properties: properties.finish()? };
    let len = message.body.len() + message.properties.len();
    if len > max { Err(Unfit::TooLarge { len, max }) } else { Ok(message) }
}

/// The event that `message` carries, published to what `to` makes of it.
pub(crate) fn from_message(
    message: &StoredMessage,
    to: &Template,
    arrival: Arrival<'_>,
) -> Result<Event, Unusable> {
    let body = inflate(message.sys_flag, message.body.clone())?;
    let found = Found(parse(&message.properties).collect());
    let origin = found.value(TOPIC);
    let values = Values {
        topic: &message.topic,
        tags: found.raw("TAGS").map_or("", |tags| tags),
        keys: found.raw("KEYS").map_or("", |keys| keys),
        origin: origin.as_deref().unwrap_or(&message.topic),
    };
    let topic = to.fill(&values)?;
    Ok(found.into_event(topic, body, arrival))
}

/// As [`from_message`], published to `topic`.
pub(crate) fn publish_as(
    message: &StoredMessage,
    topic: TopicName,
    arrival: Arrival<'_>,
) -> Result<Event, Unusable> {
    let body = inflate(message.sys_flag, message.body.clone())?;
    Ok(Found(parse(&message.properties).collect()).into_event(topic, body, arrival))
}

/// Whether a Weft sent it.
pub(crate) fn is_own(message: &StoredMessage) -> bool {
    parse(&message.properties).any(|(name, _)| name == TOPIC)
}

// ------------------------------------------------------------------ out

fn put_keys(properties: &mut Properties, event: &Event) {
    let id = event.id();
    let mut hash = Sha1::new();
    hash.update(event.source().as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let mut unique = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        write!(unique, "{byte:02X}").unwrap_or(());
    }
    // RocketMQ splits KEYS at blanks and looks each up by itself.
    let one_key = id.len() <= 256 && !id.contains(char::is_whitespace) && is_name(&id);
    properties.push("KEYS", if one_key { &id } else { &unique });
    properties.push("UNIQ_KEY", &unique);
}

fn put_parts(properties: &mut Properties, parts: &Parts) {
    properties.push(TOPIC, parts.topic.as_str());
    properties.push(PUBLISHER, &parts.publisher);
    properties.push(STAMP, &format!("{:016x}", parts.stamp));
    properties.push(RECEIVED, &parts.received_ms.to_string());
    if parts.expires_ms != 0 {
        properties.push(EXPIRES, &parts.expires_ms.to_string());
    }
}

fn put_attributes(properties: &mut Properties, attributes: &Attributes) {
    properties.push("CE_specversion", "1.0");
    properties.push("CE_id", &attributes.id);
    properties.push("CE_source", &attributes.source);
    properties.push("CE_type", &attributes.ty);
    let optional = [
        ("CE_subject", &attributes.subject),
        ("CE_time", &attributes.time),
        ("CE_dataschema", &attributes.dataschema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            properties.push(name, value);
        }
    }
    let mut kinds = String::new();
    for (name, value) in &attributes.extensions {
        let kind = match value {
            Value::Boolean(_) => 'b',
            Value::Integer(_) => 'i',
            Value::String(_) => 's',
        };
        let comma = if kinds.is_empty() { "" } else { "," };
        write!(kinds, "{comma}{name}:{kind}").unwrap_or(());
        properties.push(&format!("CE_{name}"), &value.as_text());
    }
    if !kinds.is_empty() {
        properties.push(EXTENSIONS, &kinds);
    }
}

fn put_meta(properties: &mut Properties, meta: &Meta) {
    if let Some(content_type) = &meta.content_type {
        // An extension may have the name that the SDK gives the content type.
        let free =
            |attributes: &Attributes| attributes.extensions.iter().all(|(name, _)| name != "contenttype");
        let sdk = meta.attributes.as_ref().is_some_and(free);
        properties.push(if sdk { CE_CONTENT_TYPE } else { CONTENT_TYPE }, content_type);
    }
    if meta.utf8 {
        properties.push(UTF8, "true");
    }
    if let Some(topic) = &meta.reply_to {
        properties.push(REPLY_TO, topic.as_str());
    }
    if let Some(data) = &meta.correlation {
        properties.push(CORRELATION, &STANDARD.encode(data));
    }
    if !meta.user.is_empty() {
        let pairs: Vec<(&str, &str)> = meta.user.iter().map(|(name, value)| (&**name, &**value)).collect();
        properties.push(USER, &serde_json::to_string(&pairs).unwrap_or_default());
    }
}

/// User properties under their own names, where a name is free and means nothing to RocketMQ.
fn put_copies(properties: &mut Properties, meta: &Meta) {
    let mut copies: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in &meta.user {
        let system = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let taken = is_ours(name) || property::is_of_defibus(name);
        if is_name(name) && !system && !taken && !name.starts_with("__") {
            copies.entry(name).or_insert(value);
        }
    }
    for (name, value) in copies {
        properties.push(name, value);
    }
}

// ------------------------------------------------------------------- in

/// The properties of a message that arrived.
struct Found(Vec<(ByteString, ByteString)>);

impl Found {
    fn raw(&self, name: &str) -> Option<&ByteString> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    fn value(&self, name: &str) -> Option<ByteString> {
        self.raw(name).map(unescape)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.raw(name)?.parse().ok()
    }

    fn into_event(self, topic: TopicName, body: Bytes, arrival: Arrival<'_>) -> Event {
        match self.raw(TOPIC) {
            Some(_) => self.into_own(topic, body, arrival),
            None => self.into_foreign(topic, body, arrival),
        }
    }

    /// An event that Weft sent.
    fn into_own(self, topic: TopicName, body: Bytes, arrival: Arrival<'_>) -> Event {
        let incoming = self.incoming(&body);
        let in_sdk_name = || self.raw(CE_CONTENT_TYPE).filter(|_| incoming.is_some()).map(unescape);
        let user: Option<Vec<(ByteString, ByteString)>> =
            self.value(USER).and_then(|text| serde_json::from_str(&text).ok());
        let meta = Meta {
            content_type: self.value(CONTENT_TYPE).or_else(in_sdk_name),
            utf8: self.raw(UTF8).is_some(),
            reply_to: self.value(REPLY_TO).and_then(|topic| TopicName::parse(topic).ok()),
            correlation: self.value(CORRELATION).and_then(|text| base64(&text)),
            user: user.unwrap_or_default(),
            attributes: incoming.map(|incoming| incoming.attributes),
        };
        let mut parts = self.parts(topic, body, arrival);
        parts.meta = (meta != Meta::default()).then(|| Box::new(meta));
        Event::new(parts)
    }

    /// An event that another client sent.
    fn into_foreign(self, topic: TopicName, body: Bytes, arrival: Arrival<'_>) -> Event {
        let structured = self.value(CE_CONTENT_TYPE).is_some_and(|kind| kind.starts_with(json::EVENT_TYPE));
        let binary = self.incoming(&body);
        let incoming = binary.or_else(|| json::decode(body.clone()).ok().filter(|_| structured));
        let user = self.user();
        let Some(incoming) = incoming else {
            let mut parts = self.parts(topic, body, arrival);
            parts.meta = (!user.is_empty()).then(|| Box::new(Meta { user, ..Meta::default() }));
            return Event::new(parts);
        };
        let mut parts =
            incoming.into_parts(topic, arrival.stamp, arrival.now_ms, Arc::clone(arrival.publisher));
        if let Some(meta) = &mut parts.meta {
            // Behind a CloudEvent, names of attributes belong to attributes.
            meta.user.extend(user.into_iter().filter(|(name, _)| !event::event::is_attribute_name(name)));
        }
        Event::new(parts)
    }

    fn parts(&self, topic: TopicName, data: Bytes, arrival: Arrival<'_>) -> Parts {
        let mut parts = Parts {
            topic,
            data,
            stamp: arrival.stamp,
            received_ms: arrival.now_ms,
            expires_ms: self.number(EXPIRES).unwrap_or_default(),
            publisher: Arc::clone(arrival.publisher),
            meta: None,
        };
        if arrival.own {
            let stamp = self.raw(STAMP).and_then(|text| u64::from_str_radix(text, 16).ok());
            // Stamps rise with time. One from the far future is forged, and would spoil those to come.
            let latest = arrival.now_ms.saturating_add(DAY_MS) << 20;
            parts.stamp = stamp.filter(|stamp| *stamp <= latest).unwrap_or(parts.stamp);
            parts.received_ms = self.number(RECEIVED).unwrap_or(parts.received_ms);
            if let Some(publisher) = self.value(PUBLISHER) {
                parts.publisher = Arc::from(&*publisher);
            }
        }
        parts
    }

    /// The CloudEvent in the `CE_` properties, if they are one.
    fn incoming(&self, body: &Bytes) -> Option<Incoming> {
        self.raw("CE_specversion")?;
        let kinds = self.value(EXTENSIONS).unwrap_or_default();
        let listed = kinds.split(',').filter_map(|pair| pair.split_once(':'));
        let kinds: Vec<(&str, &str)> = listed.collect();
        let listed = |name: &str| kinds.iter().any(|(have, _)| *have == name);
        let mut draft = Draft::default();
        for (name, value) in &self.0 {
            match name.strip_prefix("CE_") {
                Some("contenttype") if !listed("contenttype") => {
                    draft
                        .set(ByteString::from_static("datacontenttype"), Value::String(unescape(value)))
                        .ok()?;
                }
                Some(name) if !listed(name) => draft.set(name.into(), Value::String(unescape(value))).ok()?,
                Some(_) | None => {}
            }
        }
        for (name, kind) in kinds {
            let text = self.value(&format!("CE_{name}"))?;
            let value = match kind {
                "b" => Value::Boolean(&*text == "true"),
                "i" => Value::Integer(text.parse().ok()?),
                _ => Value::String(text),
            };
            draft.set(name.into(), value).ok()?;
        }
        draft.finish(body.clone(), false).ok()
    }

    /// What another client put there for its readers. A message with both `TTL` and `BROKER`, or that is a request or a reply
    /// there, is of DeFiBus, whose names mean nothing elsewhere.
    fn user(&self) -> Vec<(ByteString, ByteString)> {
        let has = |name: &str| self.raw(name).is_some();
        let defibus = (has(property::TTL) && has(property::BROKER)) || has(property::REQUEST_ID);
        let system = |name: &str| {
            name.starts_with("__")
                || SYSTEM.contains(&name)
                || is_of_rpc(name)
                || (defibus && property::is_of_defibus(name))
        };
        let theirs = |name: &str| !is_ours(name) && !system(name);
        self.0.iter().filter(|(name, _)| theirs(name)).cloned().collect()
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("CE_") || name.starts_with("WEFT_")
}

fn base64(text: &str) -> Option<Bytes> {
    STANDARD.decode(text).ok().map(Bytes::from)
}

const TOPIC: &str = "WEFT_TOPIC";
const PUBLISHER: &str = "WEFT_PUBLISHER";
const STAMP: &str = "WEFT_STAMP";
const RECEIVED: &str = "WEFT_RECEIVED";
const EXPIRES: &str = "WEFT_EXPIRES";
const EXTENSIONS: &str = "WEFT_EXTENSIONS";
const CONTENT_TYPE: &str = "WEFT_CONTENT_TYPE";
const UTF8: &str = "WEFT_UTF8";
const REPLY_TO: &str = "WEFT_REPLY_TO";
const CORRELATION: &str = "WEFT_CORRELATION";
const USER: &str = "WEFT_USER";
const CE_CONTENT_TYPE: &str = "CE_contenttype";

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Properties that RocketMQ puts there for itself. `TAGS` and `KEYS` are the application's.
const SYSTEM: [&str; 34] = [
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "INNER_NUM",
    "INSTANCE_ID",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "RETRY_TOPIC",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TRACE_ON",
    "TRAN_MSG",
    "TRANSFER_FLAG",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
];

#[cfg(test)]
pub(crate) mod tests;
