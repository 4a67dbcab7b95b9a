//! The event: a CloudEvent 1.0 and the topic it was published to.
//!
//! An event that was published as a CloudEvent carries its [`Attributes`]. A plain publish (MQTT without
//! CloudEvents properties, HTTP without `ce-` headers) carries none, and pays for none: a reader that needs
//! CloudEvents attributes gets them derived, always the same for the same event.
//!
//! | attribute | derived for a plain publish |
//! |---|---|
//! | `id` | the stamp, 16 hexadecimal digits |
//! | `source` | `/clients/{publisher}`, percent-encoded |
//! | `type` | `weft.message` |
//! | `subject` | the topic |
//! | `time` | when Weft received it |
//! | `datacontenttype` | the content type; else found by looking at the data ([`Event::data_content_type`]) |
//!
//! What a publish carries beside its data (MQTT 5 user properties, response topic, correlation data) is kept in
//! [`Meta`] and shown to CloudEvents readers as the extensions of [`Event::extensions`].
//!
//! `traceparent` and `tracestate` among the user properties are attributes to these as well ([`crate::trace`]).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::TopicName;
use crate::store::Position;

/// An event. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Event(Arc<Inner>);

/// What an event is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Where it was published.
    pub topic: TopicName,
    /// Its data; empty is allowed.
    pub data: Bytes,
    /// Unique in the life of one data folder; see [`crate::hub::Stamps`].
    pub stamp: u64,
    /// When Weft received it, milliseconds since 1970.
    pub received_ms: u64,
    /// When it is of no use any more, milliseconds since 1970; 0 is never.
    pub expires_ms: u64,
    /// Who published it: a client id.
    pub publisher: Arc<str>,
    /// What came with it. `None` for a bare publish.
    pub meta: Option<Box<Meta>>,
}

/// What came with an event beside topic and data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// CloudEvents attributes, if it was published as a CloudEvent.
    pub attributes: Option<Attributes>,
    /// The media type of the data: `datacontenttype`, MQTT 5 Content Type, HTTP Content-Type.
    pub content_type: Option<ByteString>,
    /// The data is UTF-8 text (MQTT 5 Payload Format Indicator 1).
    pub utf8: bool,
    /// Where a reply is expected (MQTT 5 Response Topic).
    pub reply_to: Option<TopicName>,
    /// What a reply repeats (MQTT 5 Correlation Data).
    pub correlation: Option<Bytes>,
    /// Names and values in their order, repeats included (MQTT 5 User Property). CloudEvents attributes are not here.
    pub user: Vec<(ByteString, ByteString)>,
}

/// The CloudEvents 1.0 context attributes, `datacontenttype` apart (it is [`Meta::content_type`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes {
    /// `id`: with `source`, unique.
    pub id: ByteString,
    /// `source`: a URI reference.
    pub source: ByteString,
    /// `type`.
    pub ty: ByteString,
    /// `subject`.
    pub subject: Option<ByteString>,
    /// `time`: RFC 3339, kept letter by letter.
    pub time: Option<ByteString>,
    /// `dataschema`: a URI.
    pub dataschema: Option<ByteString>,
    /// Extension attributes: names of lower-case letters and digits, each once, in the order they came.
    pub extensions: Vec<(ByteString, Value)>,
}

/// The value of an extension attribute. The other CloudEvents types travel as their text form (CE §3.1).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Boolean.
    Boolean(bool),
    /// Integer, 32 bits.
    Integer(i32),
    /// String, Binary (base64), URI, URI-reference or Timestamp, as text.
    String(ByteString),
}

/// Gives a text bytes of its own.
fn detach(text: &mut ByteString) {
    *text = ByteString::from(&**text);
}

impl Meta {
    /// The extension attribute of this name, else the first user property, as text.
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let extensions = self.attributes.iter().flat_map(|attributes| &attributes.extensions);
        let extension = extensions.filter(|(known, _)| known == name).map(|(_, value)| value.as_text());
        let user = self.user.iter().filter(|(known, _)| known == name);
        extension.chain(user.map(|(_, value)| Cow::Borrowed(&**value))).next()
    }

    fn detach(&mut self) {
        let Self { attributes, content_type, utf8: _, reply_to, correlation, user } = self;
        attributes.iter_mut().for_each(Attributes::detach);
        content_type.iter_mut().for_each(detach);
        reply_to.iter_mut().for_each(|topic| *topic = topic.detached());
        correlation.iter_mut().for_each(|data| *data = Bytes::copy_from_slice(data));
        for (name, value) in user {
            detach(name);
            detach(value);
        }
    }

    fn weight(&self) -> usize {
        let user: usize = self.user.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        let correlation = self.correlation.as_ref().map_or(0, Bytes::len);
        user + correlation + self.attributes.as_ref().map_or(0, Attributes::weight) + 256
    }
}

impl Attributes {
    fn detach(&mut self) {
        let Self { id, source, ty, subject, time, dataschema, extensions } = self;
        let optional = [subject, time, dataschema].into_iter().flatten();
        [id, source, ty].into_iter().chain(optional).for_each(detach);
        for (name, value) in extensions {
            detach(name);
            match value {
                Value::String(text) => detach(text),
                Value::Boolean(_) | Value::Integer(_) => {}
            }
        }
    }

    fn weight(&self) -> usize {
        let optional = [&self.subject, &self.time, &self.dataschema];
        let optional: usize = optional.into_iter().flatten().map(|text| text.len()).sum();
        let extensions: usize =
            self.extensions.iter().map(|(name, value)| name.len() + value.as_text().len() + 64).sum();
        self.id.len() + self.source.len() + self.ty.len() + optional + extensions
    }
}

impl Value {
    /// The canonical text form (CE §3.1).
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::Integer(n) => Cow::Owned(n.to_string()),
            Self::String(text) => Cow::Borrowed(text),
        }
    }
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    /// As published or as encoded; nothing of Weft's in it.
    json: OnceLock<Bytes>,
    /// `json` with topic and position.
    reader_json: OnceLock<(Option<Position>, Bytes)>,
}

impl Event {
    /// An event of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, json: OnceLock::new(), reader_json: OnceLock::new() }))
    }

    /// An event of these parts that came in as the CloudEvent `json`: [`Self::as_json`] gives these very bytes, as long
    /// as the event is in memory (a log keeps the parts). `json` says all that `parts` says and has no extension of
    /// Weft's, as [`crate::Incoming::json`] promises.
    pub fn with_json(parts: Parts, json: Bytes) -> Self {
        Self(Arc::new(Inner { parts, json: OnceLock::from(json), reader_json: OnceLock::new() }))
    }

    /// The event with bytes of its own: one that is kept for long must not hold what it came in, a read buffer or a piece
    /// of the log.
    pub fn detached(&self) -> Self {
        let mut parts = self.parts().clone();
        parts.data = Bytes::copy_from_slice(&parts.data);
        parts.topic = parts.topic.detached();
        parts.meta.iter_mut().for_each(|meta| meta.detach());
        Self::new(parts)
    }

    /// Where it was published.
    pub fn topic(&self) -> &TopicName {
        &self.0.parts.topic
    }

    /// Its data.
    pub fn data(&self) -> &Bytes {
        &self.0.parts.data
    }

    /// What it was made of.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// What came with it.
    pub fn meta(&self) -> Option<&Meta> {
        self.0.parts.meta.as_deref()
    }

    /// The CloudEvents attributes it was published with; `None` for a plain publish.
    pub fn attributes(&self) -> Option<&Attributes> {
        self.meta()?.attributes.as_ref()
    }

    /// Who published it: a client id.
    pub fn publisher(&self) -> &Arc<str> {
        &self.0.parts.publisher
    }

    /// Whether its time is over at `now_ms` (milliseconds since 1970).
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.0.parts.expires_ms != 0 && self.0.parts.expires_ms <= now_ms
    }

    /// What it takes of a byte budget: data, texts, and a flat sum for the rest. JSON forms are not counted.
    pub fn weight(&self) -> usize {
        let parts = &self.0.parts;
        parts.data.len()
            + parts.topic.as_str().len()
            + parts.meta.as_ref().map_or(0, |meta| meta.weight())
            + 128
    }

    /// `id`.
    pub fn id(&self) -> Cow<'_, str> {
        match self.attributes() {
            Some(attributes) => Cow::Borrowed(&attributes.id),
            None => Cow::Owned(format!("{:016x}", self.0.parts.stamp)),
        }
    }

    /// `source`.
    pub fn source(&self) -> Cow<'_, str> {
        match self.attributes() {
            Some(attributes) => Cow::Borrowed(&attributes.source),
            None => Cow::Owned(client_source(&self.0.parts.publisher)),
        }
    }

    /// `type`.
    pub fn ty(&self) -> &str {
        self.attributes().map_or(PLAIN_TYPE, |attributes| &attributes.ty)
    }

    /// `subject`.
    pub fn subject(&self) -> Option<&str> {
        match self.attributes() {
            Some(attributes) => attributes.subject.as_deref(),
            None => Some(self.topic().as_str()),
        }
    }

    /// `time`.
    pub fn time(&self) -> Option<Cow<'_, str>> {
        match self.attributes() {
            Some(attributes) => attributes.time.as_deref().map(Cow::Borrowed),
            None => Some(Cow::Owned(rfc3339(self.0.parts.received_ms))),
        }
    }

    /// `dataschema`.
    pub fn dataschema(&self) -> Option<&str> {
        self.attributes()?.dataschema.as_deref()
    }

    /// The media type that came with the data.
    pub fn content_type(&self) -> Option<&str> {
        self.meta()?.content_type.as_deref()
    }

    /// `datacontenttype`: what came with the data; for a plain publish without one, `application/json` if the data
    /// is JSON, `text/plain` if it is other UTF-8, else `application/octet-stream`.
    pub fn data_content_type(&self) -> Option<&str> {
        if let Some(given) = self.content_type() {
            return Some(given);
        }
        if self.attributes().is_some() {
            return None;
        }
        crate::json::Form::guess(self.data()).media_type()
    }

    /// The extension attributes: those it was published with, then what [`Meta`] holds beside them:
    /// `expirytime`, `replyto`, `correlationdata` (base64), `traceparent`, `tracestate`, and `userproperties` (a JSON array of
    /// pairs: the other ones).
    pub fn extensions(&self) -> Vec<(Cow<'_, str>, Cow<'_, Value>)> {
        let mut list: Vec<(Cow<'_, str>, Cow<'_, Value>)> = Vec::new();
        if let Some(attributes) = self.attributes() {
            let own = attributes.extensions.iter();
            list.extend(own.map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(value))));
        }
        let mut derived = |name: &'static str, value: String| {
            if !list.iter().any(|(have, _)| have == name) {
                list.push((Cow::Borrowed(name), Cow::Owned(Value::String(value.into()))));
            }
        };
        if self.0.parts.expires_ms != 0 {
            derived(EXPIRY_TIME, rfc3339(self.0.parts.expires_ms));
        }
        if let Some(meta) = self.meta() {
            if let Some(topic) = &meta.reply_to {
                derived(REPLY_TO, topic.as_str().to_owned());
            }
            if let Some(data) = &meta.correlation {
                derived(CORRELATION_DATA, base64::engine::general_purpose::STANDARD.encode(data));
            }
            // `datacontenttype` may stand among them as well (CE MQTT §3.1.4, example): the Content Type has said it.
            let said = |name: &str, value: &str| {
                let own = name == "datacontenttype" && self.content_type() == Some(value);
                own && self.attributes().is_some()
            };
            let trace: Vec<(&'static str, &str)> = meta.carried_trace().collect();
            for (name, value) in &trace {
                derived(name, (*value).to_owned());
            }
            let said = |name: &str, value: &str| said(name, value) || trace.contains(&(name, value));
            let mut more = meta.user.iter().filter(|(name, value)| !said(name, value)).peekable();
            if more.peek().is_some() {
                derived(USER_PROPERTIES, user_properties(more));
            }
        }
        list
    }

    /// The CloudEvents JSON form (CE JSON §2) for readers that have the topic beside it (MQTT 3.1.1): as it was
    /// published, or made once and shared by all.
    pub fn as_json(&self) -> &Bytes {
        self.0.json.get_or_init(|| crate::json::encode(self))
    }

    /// The CloudEvents JSON form for readers that have nothing beside it (WebSocket, server-sent events):
    /// [`Self::as_json`] with the extensions [`crate::incoming::TOPIC`] and, if the log holds the event,
    /// [`crate::incoming::POSITION`]. Made once and shared, since an event has one position.
    pub fn as_reader_json(&self, position: Option<Position>) -> Bytes {
        let make = || crate::json::for_reader(self.as_json(), self.topic(), position);
        let (made_for, json) = self.0.reader_json.get_or_init(|| (position, make()));
        if *made_for == position { json.clone() } else { make() }
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.0.parts == other.0.parts
    }
}

/// The `type` of a plain publish.
pub(crate) const PLAIN_TYPE: &str = "weft.message";
/// Extension: when the event is of no use any more (CloudEvents extension "Expiry Time").
pub const EXPIRY_TIME: &str = "expirytime";
/// Extension: where a reply is expected.
pub const REPLY_TO: &str = "replyto";
/// Extension: what a reply repeats, base64.
pub const CORRELATION_DATA: &str = "correlationdata";
/// Extension: MQTT 5 user properties that are no CloudEvents attributes, as a JSON array of pairs.
pub const USER_PROPERTIES: &str = "userproperties";

/// User properties as the text of the extension [`USER_PROPERTIES`].
pub(crate) fn user_properties<'a>(user: impl Iterator<Item = &'a (ByteString, ByteString)>) -> String {
    let pairs: Vec<(&str, &str)> = user.map(|(name, value)| (&**name, &**value)).collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

/// Whether `name` is a CloudEvents attribute name: lower-case letters and digits, at least one, and not `data` (CE §3).
pub fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name != "data" && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// RFC 3339 text as milliseconds since 1970, if it is one and not before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The `source` of what a client publishes: a URI reference (RFC 3986 §3.3).
fn client_source(client: &str) -> String {
    let mut source = String::from("/clients/");
    for byte in client.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                source.push(char::from(byte))
            }
            other => write!(source, "%{other:02X}").unwrap_or(()),
        }
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(data: &'static [u8]) -> Parts {
        Parts {
            topic: TopicName::parse("a/b").unwrap(),
            data: Bytes::from_static(data),
            stamp: 0xabc,
            received_ms: 1_700_000_000_000,
            expires_ms: 0,
            publisher: Arc::from("dev 1"),
            meta: None,
        }
    }

    #[test]
    fn a_plain_publish_shows_derived_attributes() {
        let event = Event::new(plain(b"21.5"));
        assert_eq!(event.id(), "0000000000000abc");
        assert_eq!(event.source(), "/clients/dev%201");
        assert_eq!(event.ty(), "weft.message");
        assert_eq!(event.subject(), Some("a/b"));
        assert_eq!(event.time().unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(event.data_content_type(), Some("application/json"));
        assert_eq!(Event::new(plain(b"21.5 C")).data_content_type(), Some("text/plain"));
        assert_eq!(Event::new(plain(b"\xff")).data_content_type(), Some("application/octet-stream"));
    }

    #[test]
    fn what_came_with_a_publish_is_shown_as_extensions() {
        let mut parts = plain(b"");
        parts.expires_ms = 1_700_000_001_000;
        parts.meta = Some(Box::new(Meta {
            reply_to: Some(TopicName::parse("r").unwrap()),
            correlation: Some(Bytes::from_static(&[1, 2])),
            user: vec![("A b".into(), "1".into()), ("A b".into(), "2".into())],
            ..Meta::default()
        }));
        let event = Event::new(parts);
        let shown: Vec<_> = event.extensions().iter().map(|(n, v)| format!("{n}={}", v.as_text())).collect();
        assert_eq!(
            shown,
            [
                "expirytime=2023-11-14T22:13:21Z",
                "replyto=r",
                "correlationdata=AQI=",
                r#"userproperties=[["A b","1"],["A b","2"]]"#
            ]
        );
    }

    #[test]
    fn a_trace_among_the_user_properties_is_shown_as_attributes() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let shown = |user: &[(&str, &str)]| {
            let user = user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let mut parts = plain(b"");
            parts.meta = Some(Box::new(Meta { user, ..Meta::default() }));
            let event = Event::new(parts);
            let extensions = event.extensions();
            extensions.iter().map(|(n, v)| format!("{n}={}", v.as_text())).collect::<Vec<_>>()
        };
        let parent = format!("traceparent={PARENT}");
        assert_eq!(shown(&[("traceparent", PARENT)]), [&*parent]);
        assert_eq!(
            shown(&[("A", "1"), ("tracestate", "a=1"), ("traceparent", PARENT)]),
            [&*parent, "tracestate=a=1", r#"userproperties=[["A","1"]]"#]
        );
        // A name alone makes no trace, and a state is one of a trace.
        for user in [("traceparent", "x"), ("tracestate", "a=1")] {
            let (name, value) = user;
            assert_eq!(shown(&[user]), [format!("userproperties=[[{name:?},{value:?}]]")]);
        }
    }

    #[test]
    fn times_read_back() {
        assert_eq!(parse_rfc3339(&rfc3339(1_700_000_000_123)), Some(1_700_000_000_123));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
