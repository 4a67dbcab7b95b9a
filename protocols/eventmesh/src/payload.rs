//! A message of a publisher, on its way to an event.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use event::incoming::EXTENSIONS_MAX;
use event::{Event, InvalidEvent, Meta, Parts, TopicName, Value, has_control, json};

use crate::message::is_extension;
use crate::{EventMeshMessage, Kind, NameError, names};

/// Where and when a message came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The client that publishes it.
    pub publisher: &'a Arc<str>,
    /// The event's stamp.
    pub stamp: u64,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// What a publisher sent: an event that may still be changed.
#[derive(Clone, Debug)]
pub struct Payload {
    parts: Parts,
    /// The CloudEvent in JSON that it came as, while that tells all of it.
    json: Option<Bytes>,
}

/// Why a payload is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is no such kind.
    #[error("protocoltype {0:?} is not known; eventmeshmessage and cloudevents are")]
    Kind(String),
    /// No EventMesh takes it.
    #[error("event is null: protocoltype openmessage is not supported; send eventmeshmessage or cloudevents")]
    OpenMessage,
    /// A version that is not known.
    #[error("protocolversion {0:?} is not known; 1.0 and 0.3 are")]
    Version(String),
    /// No EventMeshMessage in JSON.
    #[error("the body is no EventMeshMessage: {0}")]
    Message(String),
    /// No CloudEvent, or a property that none can have.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    /// The topic is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A CloudEvent goes to the topic that its subject names.
    #[error("the event has no subject, which is its topic")]
    NoSubject,
    /// A property that nothing can carry.
    #[error("Abnormal propKey: {0:?} {1}")]
    Property(String, &'static str),
}

impl Payload {
    /// Reads what the client says is of kind `protocoltype` and of this `protocolversion`. Texts and data are slices of `body`
    /// where they can be.
    ///
    /// # Errors
    /// It is not what it is said to be, or cannot be published.
    pub fn read(
        protocoltype: Option<&str>,
        protocolversion: Option<&str>,
        body: Bytes,
        arrival: Arrival<'_>,
    ) -> Result<Self, Unusable> {
        let kind = Kind::parse(protocoltype)
            .ok_or_else(|| Unusable::Kind(protocoltype.unwrap_or_default().to_owned()))?;
        // SDKs that name no kind name no version.
        let version = protocolversion.or(if protocoltype.is_none() { Some("1.0") } else { None });
        if !matches!(version, Some("1.0" | "0.3")) {
            return Err(Unusable::Version(version.unwrap_or_default().to_owned()));
        }
        match kind {
            Kind::EventMeshMessage => EventMeshMessage::parse(&body)?.into_payload(arrival),
            Kind::CloudEvents => Self::read_cloud_event(body, arrival),
            Kind::OpenMessage => Err(Unusable::OpenMessage),
        }
    }

    /// Reads a CloudEvent in JSON, of version 1.0 or 0.3. Its topic is its subject.
    ///
    /// # Errors
    /// It is none, has no subject, or its subject is no topic.
    pub fn read_cloud_event(body: Bytes, arrival: Arrival<'_>) -> Result<Self, Unusable> {
        let mut incoming = match json::decode(body.clone()) {
            Err(InvalidEvent::Version(version)) if version == "0.3" => json::decode(upgrade(&body)?)?,
            other => other?,
        };
        let name = incoming.topic.as_ref().or(incoming.attributes.subject.as_ref());
        let topic = names::topic(name.ok_or(Unusable::NoSubject)?)?;
        let json = incoming.json.take();
        let publisher = Arc::clone(arrival.publisher);
        Ok(Self { parts: incoming.into_parts(topic, arrival.stamp, arrival.now_ms, publisher), json })
    }

    /// What is made of these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts, json: None }
    }

    /// Where it is to be published.
    pub fn topic(&self) -> &TopicName {
        &self.parts.topic
    }

    /// Its data.
    pub fn data(&self) -> &Bytes {
        &self.parts.data
    }

    /// The property, or extension attribute, of this name.
    pub fn property(&self, name: &str) -> Option<Cow<'_, str>> {
        property(self.parts.meta.as_deref()?, name)
    }

    /// Adds a property that came beside the payload, if the payload has none of that name and an event can have it.
    pub fn add_property(&mut self, name: &str, value: &ByteString) {
        if !is_extension(name) || has_control(value) || self.property(name).is_some() {
            return;
        }
        let attributes = self.parts_mut().meta.as_mut().and_then(|meta| meta.attributes.as_mut());
        if let Some(attributes) = attributes.filter(|have| have.extensions.len() < EXTENSIONS_MAX) {
            attributes.extensions.push((name.into(), text(value.clone())));
        }
    }

    /// Its parts, to be changed.
    pub fn parts_mut(&mut self) -> &mut Parts {
        self.json = None;
        &mut self.parts
    }

    /// The event.
    pub fn into_event(self) -> Event {
        match self.json {
            Some(json) => Event::with_json(self.parts, json),
            None => Event::new(self.parts),
        }
    }

    /// `event` as a CloudEvent in JSON for an EventMesh client, which looks for the topic in the subject: where that is another
    /// one, the extension `wefttopic` names the topic.
    pub fn cloud_event(event: &Event) -> Bytes {
        match event.subject() {
            Some(subject) if subject == event.topic().as_str() => event.as_json().clone(),
            _ => event.as_reader_json(None),
        }
    }
}

/// The property of this name, among CloudEvents extensions and user properties.
pub(crate) fn property<'a>(meta: &'a Meta, name: &str) -> Option<Cow<'a, str>> {
    let extensions = meta.attributes.iter().flat_map(|attributes| &attributes.extensions);
    let found = extensions.filter(|(have, _)| &**have == name).map(|(_, value)| value.as_text()).next();
    found.or_else(|| {
        let mut user = meta.user.iter().filter(|(have, _)| &**have == name);
        user.next().map(|(_, value)| Cow::Borrowed(&**value))
    })
}

/// A CloudEvent of version 0.3 as one of 1.0: `schemaurl` is `dataschema` by now, and base64 has a member of its own.
fn upgrade(body: &[u8]) -> Result<Bytes, InvalidEvent> {
    let not_json = |error: serde_json::Error| InvalidEvent::Json(error.to_string());
    let mut members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(not_json)?;
    members.insert("specversion".to_owned(), "1.0".into());
    if let Some(schema) = members.remove("schemaurl") {
        members.insert("dataschema".to_owned(), schema);
    }
    let encoding = members.remove("datacontentencoding");
    if encoding.is_some_and(|encoding| encoding.as_str() == Some("base64"))
        && let Some(data) = members.remove("data")
    {
        members.insert("data_base64".to_owned(), data);
    }
    serde_json::to_vec(&members).map(Bytes::from).map_err(not_json)
}

/// A text attribute.
pub(crate) fn text(text: impl Into<ByteString>) -> Value {
    Value::String(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Option<&str>, version: Option<&str>, body: &str) -> Result<Event, Unusable> {
        let arrival = Arrival { publisher: &Arc::from("me"), stamp: 1, now_ms: 2 };
        Payload::read(kind, version, Bytes::copy_from_slice(body.as_bytes()), arrival)
            .map(Payload::into_event)
    }

    const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"orders","accext":"v","data":{"a":1}}"#;

    #[test]
    fn a_cloud_event_goes_to_its_subject_and_keeps_its_bytes() {
        let event = read(Some("cloudevents"), Some("1.0"), EVENT).unwrap();
        assert_eq!(event.topic().as_str(), "orders");
        assert_eq!(Payload::cloud_event(&event), EVENT);
    }

    #[test]
    fn a_cloud_event_of_0_3_is_one_of_1_0() {
        let old = r#"{"specversion":"0.3","id":"1","source":"/s","type":"t","subject":"o","schemaurl":"http://x/y","datacontentencoding":"base64","data":"AQI="}"#;
        let event = read(Some("cloudevents"), Some("0.3"), old).unwrap();
        assert_eq!((event.dataschema(), &event.data()[..]), (Some("http://x/y"), &[1, 2][..]));
    }

    #[test]
    fn what_is_no_payload_is_told() {
        let no_subject = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        for (kind, version, body, want) in [
            (Some("nosuch"), Some("1.0"), "{}", "protocoltype \"nosuch\" is not known"),
            (Some("openmessage"), Some("1.0"), "{}", "event is null"),
            (Some("eventmeshmessage"), Some("9.9"), "{}", "protocolversion \"9.9\" is not known"),
            (Some("eventmeshmessage"), None, "{}", "protocolversion \"\" is not known"),
            (Some("cloudevents"), Some("1.0"), "not json", "expected"),
            (Some("cloudevents"), Some("1.0"), r#"{"not":"an event"}"#, "specversion"),
            (Some("cloudevents"), Some("1.0"), no_subject, "no subject"),
            (Some("eventmeshmessage"), Some("1.0"), "not json", "no EventMeshMessage"),
            (None, None, r#"{"body":"x"}"#, "topic"),
            (None, None, r#"{"topic":"$SYS/x","body":"x"}"#, "'$'"),
        ] {
            let error = read(kind, version, body).unwrap_err().to_string();
            assert!(error.contains(want), "{body}: {error}");
        }
    }
}
