//! A CloudEvent on its way in: its attributes are checked here, whatever binding carried them.
//!
//! A binding (JSON, HTTP headers, MQTT 5 user properties) feeds a [`Draft`] with what it reads and gets an
//! [`Incoming`], which becomes [`Parts`] once the topic is known. What [`Event::extensions`] shows of [`Meta`] is
//! taken back into it here, and only if showing it again yields the same text: so nothing changes on a way through.
//!
//! Three extension names say how an event travels and are not part of it: [`TOPIC`], [`RETAIN`] and [`POSITION`].

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;

use crate::event::{
    CORRELATION_DATA, EXPIRY_TIME, REPLY_TO, USER_PROPERTIES, is_attribute_name, parse_rfc3339, rfc3339,
    user_properties,
};
use crate::{Attributes, Event, Meta, Parts, TopicError, TopicName, Value, has_control};

/// Extension: the topic an event was, or is to be, published to.
pub const TOPIC: &str = "wefttopic";
/// Extension of a publish: keep the event as the last of its topic. Boolean, or `true` as text.
pub const RETAIN: &str = "weftretain";
/// Extension of a delivery: where the log holds the event, in decimal digits. Without meaning on the way in.
pub const POSITION: &str = "weftposition";

/// The longest text of an attribute, in bytes: what an MQTT user property can carry (MQTT 5 §1.5.4).
pub const TEXT_MAX: usize = 65_535;

/// The most extensions an event can have.
pub const EXTENSIONS_MAX: usize = 256;

/// Why something is not a CloudEvent that Weft takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The JSON text itself is wrong, or not an object (CE JSON §2), or not an array of objects (CE JSON §4).
    #[error("{0}")]
    Json(String),
    /// A version of CloudEvents that this Weft does not know.
    #[error("specversion is {0:?}, only \"1.0\" is known")]
    Version(String),
    /// An attribute is missing, doubled, or has a wrong name or value (CE §3).
    #[error("attribute {name:?} {problem}")]
    Attribute {
        /// Which.
        name: String,
        /// What is wrong, as the end of a sentence.
        problem: &'static str,
    },
    /// `data` or `data_base64` is wrong (CE JSON §3.1).
    #[error("{0}")]
    Data(&'static str),
}

/// Collects the attributes of one CloudEvent, in any order.
#[derive(Debug, Default)]
pub struct Draft {
    version: bool,
    id: Option<ByteString>,
    source: Option<ByteString>,
    ty: Option<ByteString>,
    subject: Option<ByteString>,
    time: Option<ByteString>,
    dataschema: Option<ByteString>,
    content_type: Option<ByteString>,
    extensions: Vec<(ByteString, Value)>,
    topic: Option<ByteString>,
    retain: bool,
}

/// A CloudEvent, checked, that has no topic yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Its attributes.
    pub attributes: Attributes,
    /// `datacontenttype`.
    pub content_type: Option<ByteString>,
    /// Its data.
    pub data: Bytes,
    /// The data is known to be UTF-8 text.
    pub utf8: bool,
    /// The extension [`TOPIC`], not checked yet.
    pub topic: Option<ByteString>,
    /// The extension [`RETAIN`].
    pub retain: bool,
    /// The JSON it came in as, if that tells all of it and nothing else.
    pub json: Option<Bytes>,
}

impl Draft {
    /// Takes the attribute `name`. Refuses what CloudEvents forbids (CE §2, §3), and text that is longer than
    /// [`TEXT_MAX`], because no MQTT packet could carry it, or has characters that none should: strict clients would close.
    pub fn set(&mut self, name: ByteString, value: Value) -> Result<(), InvalidEvent> {
        if !is_attribute_name(&name) {
            return Err(wrong(
                &name,
                "is no attribute name: those are lower-case letters and digits, and not \"data\"",
            ));
        }
        if let Value::String(text) = &value {
            if text.len() > TEXT_MAX && &*name != USER_PROPERTIES {
                return Err(wrong(&name, "is longer than 65535 bytes"));
            }
            if has_control(text) {
                return Err(wrong(&name, "has a control character, or a Unicode non-character (CE §3.1)"));
            }
        }
        let place = match &*name {
            "specversion" => {
                let version = text(&name, value)?;
                if &*version != "1.0" {
                    return Err(InvalidEvent::Version(version.to_string()));
                }
                return match std::mem::replace(&mut self.version, true) {
                    true => Err(wrong(&name, TWICE)),
                    false => Ok(()),
                };
            }
            RETAIN => {
                self.retain = value.as_text() == "true";
                return Ok(());
            }
            POSITION => return Ok(()),
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.ty,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "dataschema" => &mut self.dataschema,
            "datacontenttype" => &mut self.content_type,
            TOPIC => &mut self.topic,
            _ => {
                if self.extensions.iter().any(|(have, _)| *have == name) {
                    return Err(wrong(&name, TWICE));
                }
                if self.extensions.len() == EXTENSIONS_MAX {
                    return Err(wrong(&name, "is one extension too many: 256 are taken"));
                }
                self.extensions.push((name, value));
                return Ok(());
            }
        };
        if place.is_some() {
            return Err(wrong(&name, TWICE));
        }
        let value = text(&name, value)?;
        if value.is_empty() {
            return Err(wrong(&name, "is empty"));
        }
        if &*name == "time" && !is_rfc3339(&value) {
            return Err(wrong(&name, "is not an RFC 3339 time"));
        }
        *place = Some(value);
        Ok(())
    }

    /// The media type that was given, if it was given already.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The event, with its data. Refuses one that lacks a required attribute (CE §3.1). `utf8`: the data is known to
    /// be text.
    pub fn finish(self, data: Bytes, utf8: bool) -> Result<Incoming, InvalidEvent> {
        let need = |name: &str, value: Option<ByteString>| value.ok_or_else(|| wrong(name, "is missing"));
        if !self.version {
            return Err(wrong("specversion", "is missing"));
        }
        Ok(Incoming {
            attributes: Attributes {
                id: need("id", self.id)?,
                source: need("source", self.source)?,
                ty: need("type", self.ty)?,
                subject: self.subject,
                time: self.time,
                dataschema: self.dataschema,
                extensions: self.extensions,
            },
            content_type: self.content_type,
            data,
            utf8,
            topic: self.topic,
            retain: self.retain,
            json: None,
        })
    }
}

impl Incoming {
    /// Where to publish it if its carrier has no topic of its own: `query` if given, else the extension [`TOPIC`], else
    /// `subject`, else `type`. The first that is there has to be a topic; there is no falling back from a wrong one.
    pub fn topic(&self, query: Option<&str>) -> Result<TopicName, TopicError> {
        if let Some(query) = query {
            return TopicName::parse(query);
        }
        let own = self.topic.as_ref().or(self.attributes.subject.as_ref());
        TopicName::parse(own.unwrap_or(&self.attributes.ty).clone())
    }

    /// The event, published to `topic`. Keeps the JSON it came in as for readers of structured events.
    pub fn into_event(
        mut self,
        topic: TopicName,
        stamp: u64,
        received_ms: u64,
        publisher: Arc<str>,
    ) -> Event {
        let json = self.json.take();
        let parts = self.into_parts(topic, stamp, received_ms, publisher);
        match json {
            Some(json) => Event::with_json(parts, json),
            None => Event::new(parts),
        }
    }

    /// What the event is made of, if published to `topic`. Extensions that are [`Meta`]'s are taken into it: the exact
    /// reverse of [`Event::extensions`].
    pub fn into_parts(self, topic: TopicName, stamp: u64, received_ms: u64, publisher: Arc<str>) -> Parts {
        let mut meta = Meta {
            attributes: None,
            content_type: self.content_type,
            utf8: self.utf8,
            reply_to: None,
            correlation: None,
            user: Vec::new(),
        };
        let mut expires_ms = 0;
        let mut attributes = self.attributes;
        attributes.extensions.retain(|(name, value)| {
            let Value::String(value) = value else { return true };
            let taken = match &**name {
                EXPIRY_TIME => take_expiry(value, &mut expires_ms),
                REPLY_TO => take_reply_to(value, &mut meta),
                CORRELATION_DATA => take_correlation(value, &mut meta),
                USER_PROPERTIES => take_user(value, &mut meta),
                _ => false,
            };
            !taken
        });
        meta.attributes = Some(attributes);
        Parts {
            topic,
            data: self.data,
            stamp,
            received_ms,
            expires_ms,
            publisher,
            meta: Some(Box::new(meta)),
        }
    }
}

fn take_expiry(text: &str, expires_ms: &mut u64) -> bool {
    let Some(ms) = parse_rfc3339(text) else { return false };
    *expires_ms = ms.max(1);
    rfc3339(*expires_ms) == text
}

fn take_reply_to(text: &ByteString, meta: &mut Meta) -> bool {
    meta.reply_to = TopicName::parse(text.clone()).ok();
    meta.reply_to.is_some()
}

fn take_correlation(text: &str, meta: &mut Meta) -> bool {
    // The standard engine takes canonical text only.
    let data = base64::engine::general_purpose::STANDARD.decode(text).ok();
    meta.correlation = data.filter(|data| data.len() <= TEXT_MAX).map(Bytes::from);
    meta.correlation.is_some()
}

/// A property whose name is that of an attribute stays in the extension: as a property it would become one.
fn take_user(text: &str, meta: &mut Meta) -> bool {
    let Ok(pairs) = serde_json::from_str::<Vec<(String, String)>>(text) else { return false };
    let carried = |text: &str| text.len() <= TEXT_MAX && !has_control(text);
    if pairs.is_empty() || !pairs.iter().all(|(n, v)| carried(n) && carried(v) && !is_attribute_name(n)) {
        return false;
    }
    let user: Vec<_> = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let same = user_properties(user.iter()) == text;
    if same {
        meta.user = user;
    }
    same
}

fn is_rfc3339(text: &str) -> bool {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

fn text(name: &str, value: Value) -> Result<ByteString, InvalidEvent> {
    match value {
        Value::String(text) => Ok(text),
        Value::Boolean(_) | Value::Integer(_) => Err(wrong(name, "is not a string")),
    }
}

pub(crate) fn wrong(name: &str, problem: &'static str) -> InvalidEvent {
    InvalidEvent::Attribute { name: name.to_owned(), problem }
}

pub(crate) const TWICE: &str = "is there twice";
