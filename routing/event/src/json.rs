//! CloudEvents JSON format, sans-io (CE JSON §2 to §4).
//!
//! | the data | is written as |
//! |---|---|
//! | media type JSON, or none on a CloudEvent; and it is JSON | `data`: the JSON value, byte for byte without white space around it |
//! | media type of text, or said to be UTF-8; and it is UTF-8 | `data`: a string |
//! | a plain publish without media type | by its look: as JSON, else as text, else as binary |
//! | anything else | `data_base64` |
//!
//! Reading reverses this, so no byte of data is lost on a way through.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use bytestring::ByteString;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::incoming::{self, Draft, Incoming, InvalidEvent, TWICE, wrong};
use crate::store::Position;
use crate::{Event, TopicName, Value};

/// The media type of one event in JSON.
pub const EVENT_TYPE: &str = "application/cloudevents+json";
/// The media type of a JSON array of events.
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// The event as a CloudEvent in JSON: attributes as published, or derived for a plain publish. Use
/// [`Event::as_json`], which shares it.
pub fn encode(event: &Event) -> Bytes {
    write(event, Form::of(event)).into()
}

/// As [`encode`], in one line: data that would lose white space around it, or has a line break, is `data_base64`.
pub(crate) fn encode_exact(event: &Event) -> Vec<u8> {
    let (content_type, form) = Form::of(event);
    let exact = match form {
        Form::Json(text) if text.len() < event.data().len() || text.contains(['\n', '\r']) => Form::Binary,
        Form::Empty | Form::Json(_) | Form::Text(_) | Form::Binary => form,
    };
    write(event, (content_type, exact))
}

fn write(event: &Event, (content_type, form): (Option<&str>, Form<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.data().len() + 512);
    out.extend_from_slice(b"{\"specversion\":\"1.0\"");
    member(&mut out, "id", &event.id());
    member(&mut out, "source", &event.source());
    member(&mut out, "type", event.ty());
    let time = event.time();
    let optional = [
        ("subject", event.subject()),
        ("time", time.as_deref()),
        ("datacontenttype", content_type),
        ("dataschema", event.dataschema()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            member(&mut out, name, value);
        }
    }
    for (name, value) in event.extensions() {
        match &*value {
            Value::String(text) => member(&mut out, &name, text),
            Value::Boolean(_) | Value::Integer(_) => {
                key(&mut out, &name);
                out.extend_from_slice(value.as_text().as_bytes());
            }
        }
    }
    match form {
        Form::Empty => {}
        Form::Json(text) => {
            key(&mut out, "data");
            out.extend_from_slice(text.as_bytes());
        }
        Form::Text(text) => member(&mut out, "data", text),
        Form::Binary => {
            member(&mut out, "data_base64", &base64::engine::general_purpose::STANDARD.encode(event.data()));
        }
    }
    out.push(b'}');
    out
}

/// `json`, an object with members, with the topic and the position added at its end.
pub(crate) fn for_reader(json: &[u8], topic: &TopicName, position: Option<Position>) -> Bytes {
    let json = json.trim_ascii_end();
    let mut out = Vec::with_capacity(json.len() + topic.as_str().len() + 64);
    out.extend_from_slice(json.strip_suffix(b"}").unwrap_or(json));
    member(&mut out, incoming::TOPIC, topic.as_str());
    if let Some(position) = position {
        // Text: a CloudEvents integer has 32 bits only (CE §3.1).
        member(&mut out, incoming::POSITION, &position.0.to_string());
    }
    out.push(b'}');
    out.into()
}

/// Reads one event. Texts and data are slices of `json` where they can be.
pub fn decode(json: Bytes) -> Result<Incoming, InvalidEvent> {
    let text = std::str::from_utf8(&json).map_err(not_json)?;
    let Members(members) = serde_json::from_str(text).map_err(not_json)?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    if let Some([name, _]) = names.array_windows::<2>().find(|[a, b]| a == b) {
        return Err(wrong(name, TWICE));
    }
    // The version decides how all else is read, so it is looked at first.
    if let Some((_, version)) = members.iter().find(|(name, _)| name == "specversion") {
        Draft::default().set("specversion".into(), value("specversion", version, &json)?)?;
    }
    let mut draft = Draft::default();
    let (mut plain, mut base64) = (None, None);
    let mut only_event = true;
    for (name, raw) in &members {
        match &**name {
            "data" => plain = Some(*raw),
            "data_base64" => base64 = Some(*raw).filter(|raw| raw.get() != "null"),
            _ if raw.get() == "null" => {}
            name => {
                only_event &= ![incoming::TOPIC, incoming::RETAIN, incoming::POSITION].contains(&name);
                draft.set(slice(&json, name), value(name, raw, &json)?)?;
            }
        }
    }
    let (data, utf8) = data(plain, base64, draft.content_type(), &json)?;
    let mut event = draft.finish(data, utf8)?;
    event.json = only_event.then_some(json);
    Ok(event)
}

/// Reads a batch (CE JSON §4): a result for each event. Each is copied, so that one that is kept does not hold the
/// memory of all.
pub fn decode_batch(json: &Bytes) -> Result<Vec<Result<Incoming, InvalidEvent>>, InvalidEvent> {
    let text = std::str::from_utf8(json).map_err(not_json)?;
    let events: Vec<&RawValue> = serde_json::from_str(text).map_err(not_json)?;
    Ok(events.into_iter().map(|raw| decode(Bytes::copy_from_slice(raw.get().as_bytes()))).collect())
}

/// Whether `media_type` says JSON: `*/json` or `*+json`, whatever its parameters (CE JSON §3.1).
pub fn is_json(media_type: &str) -> bool {
    let subtype = essence(media_type).split_once('/').map_or("", |(_, subtype)| subtype);
    ends_with(subtype, "+json") || subtype.eq_ignore_ascii_case("json")
}

/// Whether `media_type` is of text that is UTF-8 as far as it tells.
fn is_text(media_type: &str) -> bool {
    let (ty, subtype) = essence(media_type).split_once('/').unwrap_or_default();
    let text =
        ty.eq_ignore_ascii_case("text") || subtype.eq_ignore_ascii_case("xml") || ends_with(subtype, "+xml");
    let charset = media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    text && charset
        .is_none_or(|name| name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii"))
}

fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn ends_with(text: &str, end: &str) -> bool {
    text.len()
        .checked_sub(end.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// How data is written.
pub(crate) enum Form<'a> {
    Empty,
    Json(&'a str),
    Text(&'a str),
    Binary,
}

impl<'a> Form<'a> {
    /// By the look of the data alone.
    pub(crate) fn guess(data: &'a [u8]) -> Self {
        match std::str::from_utf8(data) {
            Ok("") => Self::Empty,
            Ok(text) => json_value(text).map_or(Self::Text(text), Self::Json),
            Err(_) => Self::Binary,
        }
    }

    /// The media type that is shown for data that came without one.
    pub(crate) fn media_type(&self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Json(_) => Some("application/json"),
            Self::Text(_) => Some("text/plain"),
            Self::Binary => Some("application/octet-stream"),
        }
    }

    /// The media type to show for `event`, and how its data is written.
    fn of(event: &'a Event) -> (Option<&'a str>, Self) {
        let media_type = event.content_type();
        if media_type.is_none() && event.attributes().is_none() {
            let form = Self::guess(event.data());
            return (form.media_type(), form);
        }
        let text = std::str::from_utf8(event.data()).ok();
        let form = if event.data().is_empty() {
            Self::Empty
        } else if media_type.is_none_or(is_json) {
            text.and_then(json_value).map_or(Self::Binary, Self::Json)
        } else if media_type.is_some_and(is_text) || event.meta().is_some_and(|meta| meta.utf8) {
            text.map_or(Self::Binary, Self::Text)
        } else {
            Self::Binary
        };
        (media_type, form)
    }
}

/// `text` without white space around it, if it is one JSON value.
fn json_value(text: &str) -> Option<&str> {
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
}

/// `,"name":`
pub(crate) fn key(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    string(out, name);
    out.push(b':');
}

pub(crate) fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory has no way to fail.
    serde_json::to_writer(out, text).unwrap_or_default();
}

/// The members of an object in their order, repeats included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a CloudEvent, which is a JSON object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(12);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The value of an attribute (CE JSON §2.2). `raw` is not null.
fn value(name: &str, raw: &RawValue, json: &Bytes) -> Result<Value, InvalidEvent> {
    match raw.get() {
        "true" => Ok(Value::Boolean(true)),
        "false" => Ok(Value::Boolean(false)),
        text if text.starts_with('"') => string_value(raw, json).map(Value::String),
        text if text.starts_with(['{', '[']) => Err(wrong(name, "is an object or an array")),
        text => text.parse().map(Value::Integer).map_err(|_| wrong(name, "is not an integer of 32 bits")),
    }
}

/// The data, and whether it is known to be UTF-8.
fn data(
    plain: Option<&RawValue>,
    base64: Option<&RawValue>,
    media_type: Option<&str>,
    json: &Bytes,
) -> Result<(Bytes, bool), InvalidEvent> {
    let null = plain.is_some_and(|raw| raw.get() == "null");
    match (plain, base64) {
        (None, None) => Ok((Bytes::new(), false)),
        (Some(_), Some(_)) if !null => Err(InvalidEvent::Data("data and data_base64 are both there")),
        (_, Some(raw)) => {
            if !raw.get().starts_with('"') {
                return Err(InvalidEvent::Data("data_base64 is not a string"));
            }
            let text = string_value(raw, json)?;
            let data = BASE64
                .decode(text.as_bytes())
                .map_err(|_| InvalidEvent::Data("data_base64 is not base64"))?;
            Ok((data.into(), false))
        }
        (Some(raw), None) if media_type.is_none_or(is_json) => {
            Ok((json.slice_ref(raw.get().as_bytes()), true))
        }
        (Some(_), None) if null => Ok((Bytes::new(), false)),
        (Some(raw), None) if raw.get().starts_with('"') => Ok((string_value(raw, json)?.into_bytes(), true)),
        (Some(raw), None) => Ok((json.slice_ref(raw.get().as_bytes()), true)),
    }
}

fn string_value(raw: &RawValue, json: &Bytes) -> Result<ByteString, InvalidEvent> {
    let inner = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
    if inner.contains('\\') {
        return serde_json::from_str::<String>(raw.get()).map(ByteString::from).map_err(not_json);
    }
    Ok(slice(json, inner))
}

/// `text` as a slice of `json` if it lies in it.
fn slice(json: &Bytes, text: &str) -> ByteString {
    let inside = json.as_ptr_range().contains(&text.as_ptr());
    if inside && !text.is_empty() {
        ByteString::try_from(json.slice_ref(text.as_bytes())).unwrap_or_default()
    } else {
        ByteString::from(text)
    }
}

fn not_json(error: impl std::fmt::Display) -> InvalidEvent {
    InvalidEvent::Json(format!("not a CloudEvent in JSON: {error}"))
}

/// Padding is optional: some writers leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
