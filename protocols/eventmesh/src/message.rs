//! EventMesh's own message: `{"topic", "properties", "headers", "body"}`.
//!
//! | EventMeshMessage | event |
//! |---|---|
//! | topic | topic, `subject` |
//! | body | data; base64 under the property `datacontentencoding`, where it is no text |
//! | properties with names of CloudEvents extensions | extensions |
//! | other properties | user properties (MQTT 5) |
//! | header `datacontenttype` | `datacontenttype`; `text/plain` without it |
//! | – | `type` `eventmeshmessage`, `source` `/`, an `id` of Weft's |
//!
//! The properties `protocoltype`, `protocolversion` and `protocoldesc` say how a message travels, and are not part of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use event::event::{USER_PROPERTIES, is_attribute_name};
use event::incoming::{Draft, POSITION, RETAIN, TEXT_MAX, TOPIC};
use event::{Event, Value, has_control};
use serde::{Deserialize, Serialize};

use crate::kind::{PROTOCOL_DESC, PROTOCOL_TYPE, PROTOCOL_VERSION};
use crate::payload::text;
use crate::{Arrival, Kind, Payload, Unusable, names};

/// A message of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventMeshMessage {
    /// What the event is known by; `None`: Weft gives it an id.
    pub id: Option<ByteString>,
    /// Where it is published.
    pub topic: ByteString,
    /// Names and values.
    pub properties: Vec<(ByteString, ByteString)>,
    /// The media type of the body.
    pub content_type: Option<ByteString>,
    /// The text.
    pub body: Bytes,
}

impl EventMeshMessage {
    /// Reads one in JSON. The body is a slice of `json` where it can be.
    ///
    /// # Errors
    /// It is no JSON object, or has no topic.
    pub fn parse(json: &Bytes) -> Result<Self, Unusable> {
        let wrong = |reason: String| Unusable::Message(reason);
        let read: Read<'_> = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        let topic = read.topic.filter(|topic| !topic.trim().is_empty());
        let topic = topic.ok_or_else(|| wrong("it has no topic".to_owned()))?;
        let body = match read.body {
            None => Bytes::new(),
            Some(Cow::Borrowed(text)) => json.slice_ref(text.as_bytes()),
            Some(Cow::Owned(text)) => Bytes::from(text),
        };
        let texts = |map: BTreeMap<String, Scalar>| {
            map.into_iter().filter_map(|(name, value)| Some((name.into(), value.into_text()?)))
        };
        let mut headers = read.headers.into_iter().flat_map(texts);
        Ok(Self {
            id: None,
            topic: topic.into(),
            properties: read.properties.into_iter().flat_map(texts).collect(),
            content_type: headers.find(|(name, _)| name == "datacontenttype").map(|(_, value)| value),
            body,
        })
    }

    /// What is to be published.
    ///
    /// # Errors
    /// The topic is none, or a property is one that nothing can carry.
    pub fn into_payload(self, arrival: Arrival<'_>) -> Result<Payload, Unusable> {
        let topic = names::topic(&self.topic)?;
        let mut draft = Draft::default();
        let id = self.id.unwrap_or_else(|| format!("{:016x}", arrival.stamp).into());
        let content_type = self.content_type.unwrap_or(ByteString::from_static("text/plain"));
        for (name, value) in [
            ("specversion", ByteString::from_static("1.0")),
            ("id", id),
            ("source", ByteString::from_static("/")),
            ("type", ByteString::from_static(Kind::MESSAGE_TYPE)),
            ("subject", self.topic),
            ("datacontenttype", content_type),
        ] {
            draft.set(name.into(), text(value))?;
        }
        let mut user = Vec::new();
        let mut data = self.body;
        for (name, value) in self.properties {
            match &*name {
                PROTOCOL_TYPE | PROTOCOL_VERSION | PROTOCOL_DESC => {}
                ENCODING if value.eq_ignore_ascii_case("base64") => {
                    let bytes = STANDARD.decode(&data).map_err(|_| {
                        Unusable::Message(format!("{ENCODING} is base64, and the body is not"))
                    })?;
                    data = bytes.into();
                }
                _ if is_extension(&name) => draft.set(name, text(value))?,
                _ => user.push(carried(name, value)?),
            }
        }
        let incoming = draft.finish(data, true)?;
        let publisher = Arc::clone(arrival.publisher);
        let mut parts = incoming.into_parts(topic, arrival.stamp, arrival.now_ms, publisher);
        if let Some(meta) = &mut parts.meta {
            meta.utf8 = std::str::from_utf8(&parts.data).is_ok();
            meta.user.extend(user);
        }
        Ok(Payload::new(parts))
    }

    /// `event` as such a message. Its properties are the extensions and user properties of the event.
    pub fn of(event: &Event) -> Self {
        let mut properties: Vec<(ByteString, ByteString)> = Vec::new();
        for (name, value) in event.extensions() {
            match (&*name, user_properties(&value)) {
                (USER_PROPERTIES, Some(pairs)) => properties.extend(pairs),
                _ => properties.push((ByteString::from(&*name), ByteString::from(&*value.as_text()))),
            }
        }
        let body = if std::str::from_utf8(event.data()).is_ok() {
            event.data().clone()
        } else {
            properties.push((ENCODING.into(), "base64".into()));
            STANDARD.encode(event.data()).into()
        };
        Self {
            id: Some(ByteString::from(&*event.id())),
            topic: event.topic().text().clone(),
            properties,
            content_type: event.content_type().map(Into::into),
            body,
        }
    }

    /// In JSON, with properties that say that `carrier` brought it (`protocoldesc`).
    pub fn to_json(&self, carrier: &str) -> Vec<u8> {
        self.write(carrier, None)
    }

    /// `event` in JSON for a client of which is not known whether it reads this kind or CloudEvents: each finds its own members,
    /// and overlooks the others.
    pub fn both(event: &Event, carrier: &str) -> Vec<u8> {
        let (id, source, time) = (event.id(), event.source(), event.time());
        let message = Self::of(event);
        let data_content_type = event.data_content_type();
        let data = std::str::from_utf8(&message.body).unwrap_or_default();
        let attributes = Attributes {
            specversion: "1.0",
            id: &id,
            source: &source,
            ty: event.ty(),
            subject: event.topic().as_str(),
            time: time.as_deref(),
            datacontenttype: data_content_type
                .filter(|name| name.starts_with("text/"))
                .unwrap_or("text/plain"),
            data,
        };
        message.write(carrier, Some(attributes))
    }

    fn write(&self, carrier: &str, event: Option<Attributes<'_>>) -> Vec<u8> {
        let mut properties: BTreeMap<&str, &str> =
            self.properties.iter().map(|(name, value)| (&**name, &**value)).collect();
        properties.insert(PROTOCOL_TYPE, Kind::EventMeshMessage.as_str());
        properties.insert(PROTOCOL_VERSION, "1.0");
        properties.insert(PROTOCOL_DESC, carrier);
        let headers = self.content_type.iter().map(|value| ("datacontenttype", &**value)).collect();
        let body = std::str::from_utf8(&self.body).unwrap_or_default();
        let written = Written { topic: &self.topic, properties, headers, body, event };
        // Maps of texts: there is nothing in it that JSON cannot say.
        serde_json::to_vec(&written).unwrap_or_default()
    }
}

/// Property: how bytes that are no text are written in the body; `base64`.
const ENCODING: &str = "datacontentencoding";

/// What a property of this name can be: an extension, and not an attribute of the event itself.
pub(crate) fn is_extension(name: &str) -> bool {
    let own = ["specversion", "id", "source", "type", "subject", "time", "dataschema", "datacontenttype"];
    is_attribute_name(name) && !own.contains(&name) && ![TOPIC, RETAIN, POSITION].contains(&name)
}

/// A user property, if MQTT 5 can carry it.
fn carried(name: ByteString, value: ByteString) -> Result<(ByteString, ByteString), Unusable> {
    let wrong = |problem| Err(Unusable::Property(name.to_string(), problem));
    if name.is_empty() {
        return wrong("is empty");
    }
    if name.len() > TEXT_MAX || value.len() > TEXT_MAX {
        return wrong("is longer than 65535 bytes, or its value is");
    }
    if has_control(&name) || has_control(&value) {
        return wrong("has a control character, or its value has");
    }
    Ok((name, value))
}

/// The pairs that the extension `userproperties` holds.
fn user_properties(value: &Value) -> Option<Vec<(ByteString, ByteString)>> {
    let Value::String(json) = value else { return None };
    let pairs: Vec<(String, String)> = serde_json::from_str(json).ok()?;
    Some(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
}

#[derive(Deserialize)]
struct Read<'a> {
    topic: Option<String>,
    properties: Option<BTreeMap<String, Scalar>>,
    headers: Option<BTreeMap<String, Scalar>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
}

/// Texts, and what Java turns into one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Other(serde_json::Value),
}

impl Scalar {
    fn into_text(self) -> Option<ByteString> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Other(serde_json::Value::Null) => None,
            Self::Other(other) => Some(other.to_string().into()),
        }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    properties: BTreeMap<&'a str, &'a str>,
    headers: BTreeMap<&'a str, &'a str>,
    body: &'a str,
    #[serde(flatten)]
    event: Option<Attributes<'a>>,
}

#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    ty: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'a str,
    data: &'a str,
}

#[cfg(test)]
mod tests;
