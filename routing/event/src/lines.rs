//! One event a line: how events leave a log as JSON Lines, and come back.
//!
//! A line is a CloudEvent in JSON (CE JSON §2) with the extensions [`TOPIC`] and, for an event that was retained,
//! [`RETAIN`]. It is as [`crate::json`] writes it, but that data which would lose white space around it, or break the line,
//! is `data_base64`. A plain publish is written with its derived attributes; a line whose attributes are just those that
//! Weft derives is read as the plain publish it was.
//!
//! | kept | not kept |
//! |---|---|
//! | topic, data byte for byte, all attributes and extensions, content type, expiry, reply topic, correlation data, user properties, retain | position; QoS of the publish |
//! | of a plain publish also: publisher, time, stamp | of a plain publish: whether it said the content type and that it is UTF-8 if that is what Weft finds by looking |
//! | | of a CloudEvent: publisher, stamp, and when Weft received it |

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{parse_rfc3339, rfc3339};
use crate::incoming::{InvalidEvent, RETAIN, TOPIC};
use crate::json::{self, Form};
use crate::{Event, Meta, Parts, TopicError};

/// An event that was read from a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The event.
    pub event: Event,
    /// It was the retained event of its topic.
    pub retain: bool,
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is no CloudEvent.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    /// It says no topic: neither the extension `wefttopic` nor `subject` nor `type` is one.
    #[error("its topic (wefttopic, else subject, else type) is none: {0}")]
    Topic(#[from] TopicError),
}

/// The event as a line, without its end.
pub fn encode(event: &Event, retain: bool) -> Bytes {
    let mut out = json::encode_exact(event);
    out.truncate(out.len().saturating_sub(1));
    json::member(&mut out, TOPIC, event.topic().as_str());
    if retain {
        json::key(&mut out, RETAIN);
        out.extend_from_slice(b"true");
    }
    out.push(b'}');
    out.into()
}

/// Reads a line. `stamp`, `now_ms` and `publisher` are for what is no plain publish.
pub fn decode(line: Bytes, stamp: u64, now_ms: u64, publisher: &Arc<str>) -> Result<Line, LineError> {
    let incoming = json::decode(line)?;
    let topic = incoming.topic(None)?;
    let retain = incoming.retain;
    let parts = incoming.into_parts(topic, stamp, now_ms, Arc::clone(publisher));
    let plain = as_plain(&parts, now_ms).map(Event::new);
    let event = Event::new(parts);
    let same = |plain: &Event| json::encode_exact(plain) == json::encode_exact(&event);
    Ok(Line { event: plain.filter(same).unwrap_or(event), retain })
}

/// The plain publish that would be shown with these attributes, as far as that can be told without writing it.
fn as_plain(parts: &Parts, now_ms: u64) -> Option<Parts> {
    let meta = parts.meta.as_deref()?;
    let attributes = meta.attributes.as_ref()?;
    if &*attributes.ty != crate::event::PLAIN_TYPE
        || !attributes.extensions.is_empty()
        || attributes.id.len() != 16
    {
        return None;
    }
    let stamp = u64::from_str_radix(&attributes.id, 16).ok()?;
    let received_ms = attributes.time.as_deref().and_then(parse_rfc3339)?;
    // A stamp of the future would be given out again when that comes.
    if stamp >> 20 > now_ms || rfc3339(received_ms) != attributes.time.as_deref()? {
        return None;
    }
    let publisher = unescape(attributes.source.strip_prefix("/clients/")?)?;
    let guess = Form::guess(&parts.data).media_type();
    let looked = meta.content_type.as_deref() == guess;
    let meta = Meta {
        attributes: None,
        content_type: meta.content_type.clone().filter(|_| !looked),
        utf8: meta.utf8 && !looked,
        ..meta.clone()
    };
    let meta = Some(Box::new(meta)).filter(|meta| **meta != Meta::default());
    Some(Parts { stamp, received_ms, publisher: Arc::from(publisher), meta, ..parts.clone() })
}

/// Text without its percent-encoding (RFC 3986 §2.1).
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use proptest::prelude::*;

    use super::*;
    use crate::{Attributes, TopicName, Value};

    const NOW: u64 = 1_800_000_000_000;

    fn parts(data: &[u8], meta: Option<Meta>) -> Parts {
        Parts {
            topic: TopicName::parse("plant/ü").unwrap(),
            data: Bytes::copy_from_slice(data),
            stamp: (1_700_000_000_000 << 20) + 5,
            received_ms: 1_700_000_000_123,
            expires_ms: 0,
            publisher: Arc::from("oven 3/%ü"),
            meta: meta.map(Box::new),
        }
    }

    fn cloud_event() -> Attributes {
        Attributes {
            id: "i-1".into(),
            source: "/ovens".into(),
            ty: "oven.hot".into(),
            subject: None,
            time: Some("2026-11-24T04:00:00.123456789+05:30".into()),
            dataschema: Some("https://example.org/s".into()),
            extensions: vec![("n".into(), Value::Integer(-5)), ("b".into(), Value::Boolean(true))],
        }
    }

    fn read(line: &Bytes) -> Result<Line, LineError> {
        decode(line.clone(), 7, NOW, &Arc::from("import"))
    }

    /// Writes, reads, writes: the lines are the same, and neither has a line break.
    fn through(event: &Event, retain: bool) -> Event {
        let line = encode(event, retain);
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        let read = read(&line).unwrap();
        assert_eq!((read.retain, read.event.data()), (retain, event.data()));
        assert_eq!(encode(&read.event, retain), line);
        read.event
    }

    #[test]
    fn a_plain_publish_comes_back_as_it_was() {
        for data in
            [&b""[..], b"21.5", b" {\"t\":\n 1}\r\n", b"text", b"\xff\x00", b"\"s\"", "ü\n".as_bytes()]
        {
            for retain in [false, true] {
                let event = Event::new(parts(data, None));
                assert_eq!(through(&event, retain), event, "{data:?}");
            }
            let meta = Meta {
                content_type: Some("application/x-thing".into()),
                reply_to: Some(TopicName::parse("re/ply").unwrap()),
                correlation: Some(Bytes::from_static(b"\x00\xff")),
                user: vec![("A name".into(), "1".into()), ("A name".into(), "2".into())],
                ..Meta::default()
            };
            let mut full = parts(data, Some(meta));
            full.expires_ms = NOW + 500;
            let event = Event::new(full);
            assert_eq!(through(&event, false), event, "{data:?}");
        }
    }

    #[test]
    fn a_cloud_event_stays_one() {
        let meta = Meta {
            attributes: Some(cloud_event()),
            content_type: Some("application/json".into()),
            ..Meta::default()
        };
        let event = Event::new(parts(b"{ }\n", Some(meta)));
        let back = through(&event, true);
        assert_eq!(back.attributes(), event.attributes());
        assert_eq!((&**back.publisher(), back.parts().received_ms), ("import", NOW));
    }

    #[test]
    fn attributes_that_only_look_derived_are_kept() {
        let event = Event::new(parts(b"1", None));
        let line = String::from_utf8(encode(&event, false).to_vec()).unwrap();
        for (from, to) in [
            ("00:13:20.123Z", "00:13:20.1230Z"),
            ("plant/ü\",\"time", "other\",\"time"),
            ("/clients/oven%203", "/clients/oven 3"),
            ("\"id\":\"", "\"id\":\"f"),
            ("\"data\":", "\"ext\":1,\"data\":"),
            (",\"data\":", ",\"dataschema\":\"x:y\",\"data\":"),
        ] {
            let line = Bytes::from(line.replace("22:13:20", "00:13:20").replacen(from, to, 1));
            let read = read(&line).unwrap();
            assert!(read.event.attributes().is_some() || from.starts_with("00:"), "{from}");
            assert_eq!(encode(&read.event, false), line, "{from}");
        }
        let future = Bytes::from(line.replace("\"id\":\"18", "\"id\":\"f8"));
        assert_ne!(future, line);
        assert_eq!(read(&future).unwrap().event.parts().stamp, 7, "a stamp of the future is not taken");
    }

    #[test]
    fn what_is_no_event_says_why() {
        let error = |line: &str| read(&Bytes::copy_from_slice(line.as_bytes())).unwrap_err().to_string();
        assert!(error("").contains("not a CloudEvent in JSON"));
        assert!(
            error("{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"}").contains("\"type\" is missing")
        );
        let wild =
            "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"wefttopic\":\"a/#\"}";
        assert!(error(wild).contains("[MQTT-3.3.2-2]"));
    }

    proptest! {
        #[test]
        fn any_data_and_media_type_pass(
            data in prop::collection::vec(any::<u8>(), 0..40),
            text in "\\PC{0,30}",
            as_text in any::<bool>(),
            kind in 0usize..6,
            is_cloud_event in any::<bool>(),
            utf8 in any::<bool>(),
        ) {
            let data = if as_text { text.into_bytes() } else { data };
            let types = [None, Some("application/json"), Some("text/plain"), Some("application/cbor"), Some("text/xml; charset=latin1"), Some("x/y+json")];
            let meta = Meta {
                attributes: is_cloud_event.then(cloud_event),
                content_type: types[kind].map(ByteString::from),
                utf8: utf8 && std::str::from_utf8(&data).is_ok(),
                ..Meta::default()
            };
            through(&Event::new(parts(&data, Some(meta))), false);
        }
    }
}
