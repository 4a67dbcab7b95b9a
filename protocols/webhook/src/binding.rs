//! CloudEvents over HTTP, outwards: how an event is posted (CE HTTP §3), and what the answer means (CloudEvents webhooks
//! §2.2). Sans-io.
//!
//! | answer | means |
//! |---|---|
//! | any 2xx | done |
//! | 408, 425, 429, any 5xx, any redirect, no answer | again, not before `Retry-After` |
//! | 410 | the webhook is no more |
//! | any other 4xx | refused: posting it again cannot help |

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use event::Event;
use event::incoming::{POSITION, TOPIC};
use event::json::EVENT_TYPE;
use event::store::Position;
use event::trace::{TRACEPARENT, TRACESTATE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All of it as JSON (CE HTTP §3.2).
    #[default]
    Structured,
    /// Attributes as headers, the data as the body (CE HTTP §3.1).
    Binary,
}

/// An event as it is posted.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What becomes of an event that was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The webhook has it.
    Done,
    /// Post it again, and nothing else before this time is over.
    Again(Option<Duration>),
    /// It will never take this one.
    Refused,
    /// It wants no events any more.
    Gone,
}

impl Mode {
    /// The event at `position` of the log, for a reader that knows nothing but what is posted.
    pub(crate) fn write(self, event: &Event, position: Option<Position>) -> Post {
        let (mut headers, body) = match self {
            Self::Structured => {
                let kind = HeaderValue::from_static(EVENT_TYPE);
                (HeaderMap::from_iter([(CONTENT_TYPE, kind)]), event.as_reader_json(position))
            }
            Self::Binary => (attributes(event, position), event.data().clone()),
        };
        // The trace that it belongs to, where services look for it (W3C Trace Context §3).
        for name in [TRACEPARENT, TRACESTATE] {
            let value = event.meta().and_then(|meta| meta.value(name));
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(&*value).ok()) {
                headers.insert(name, value);
            }
        }
        Post { headers, body }
    }
}

fn attributes(event: &Event, position: Option<Position>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Names of attributes are letters and digits, and encoded values visible ASCII: both fit.
    let mut set = |name: &str, value: &str| {
        let name = HeaderName::try_from(format!("ce-{name}"));
        let value = HeaderValue::try_from(utf8_percent_encode(value, ENCODED).to_string());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    };
    set("specversion", "1.0");
    set("id", &event.id());
    set("source", &event.source());
    set("type", event.ty());
    let time = event.time();
    let optional =
        [("subject", event.subject()), ("time", time.as_deref()), ("dataschema", event.dataschema())];
    for (name, value) in optional {
        value.into_iter().for_each(|value| set(name, value));
    }
    for (name, value) in event.extensions() {
        set(&name, &value.as_text());
    }
    set(TOPIC, event.topic().as_str());
    if let Some(Position(at)) = position {
        set(POSITION, &at.to_string());
    }
    let kind = event.data_content_type().and_then(|kind| HeaderValue::from_bytes(kind.as_bytes()).ok());
    headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    headers
}

/// What has to be encoded beside all that is not ASCII (CE HTTP §3.1.3.2).
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

impl Verdict {
    /// What an answer means that came at `now`. `retry_after`: the header of that name, seconds or a date (RFC 9110 §10.2.3).
    pub(crate) fn of(status: u16, retry_after: Option<&str>, now: SystemTime) -> Self {
        match status {
            200..=299 => Self::Done,
            410 => Self::Gone,
            408 | 425 | 429 => Self::Again(retry_after.and_then(|text| wait(text, now))),
            400..=499 => Self::Refused,
            _ => Self::Again(retry_after.and_then(|text| wait(text, now))),
        }
    }
}

fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let date = || httpdate::parse_http_date(text).ok()?.duration_since(now).ok();
    text.parse().ok().map(Duration::from_secs).or_else(date)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event::{Attributes, Meta, Parts, TopicName, Value};

    use super::*;

    fn event(meta: Option<Meta>) -> Event {
        Event::new(Parts {
            topic: TopicName::parse("ovens/3").unwrap(),
            data: Bytes::from_static(b"21.5"),
            stamp: 0xabc,
            received_ms: 1_700_000_000_000,
            expires_ms: 0,
            publisher: Arc::from("dev 1"),
            meta: meta.map(Box::new),
        })
    }

    fn headers(post: &Post) -> Vec<String> {
        let one = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        post.headers.iter().map(one).collect()
    }

    #[test]
    fn ce_http_3_1_attributes_are_headers() {
        let attributes = Attributes {
            id: "1".into(),
            source: "/a%20b".into(),
            ty: "t".into(),
            subject: Some("größe \"x\"".into()),
            time: Some("2018-04-05T17:31:00.123Z".into()),
            dataschema: None,
            extensions: vec![("level".into(), Value::Integer(3))],
        };
        let content_type = Some("text/plain".into());
        let meta = Meta { attributes: Some(attributes), content_type, ..Meta::default() };
        let post = Mode::Binary.write(&event(Some(meta)), Some(Position(7)));
        assert_eq!(
            headers(&post),
            [
                "ce-specversion: 1.0",
                "ce-id: 1",
                "ce-source: /a%2520b",
                "ce-type: t",
                "ce-subject: gr%C3%B6%C3%9Fe%20%22x%22",
                "ce-time: 2018-04-05T17:31:00.123Z",
                "ce-level: 3",
                "ce-wefttopic: ovens/3",
                "ce-weftposition: 7",
                "content-type: text/plain",
            ]
        );
        assert_eq!(post.body, "21.5");
    }

    #[test]
    fn ce_http_3_2_the_body_is_the_event() {
        let post = Mode::Structured.write(&event(None), None);
        assert_eq!(headers(&post), ["content-type: application/cloudevents+json"]);
        let shown: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!((&shown["data"], &shown["wefttopic"]), (&21.5.into(), &"ovens/3".into()));
    }

    #[test]
    fn a_trace_is_where_http_has_it() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let user = vec![("traceparent".into(), parent.into()), ("tracestate".into(), "a=b".into())];
        for mode in [Mode::Structured, Mode::Binary] {
            let post = mode.write(&event(Some(Meta { user: user.clone(), ..Meta::default() })), None);
            assert_eq!(post.headers["traceparent"], parent);
            assert_eq!(post.headers["tracestate"], "a=b");
        }
    }

    #[test]
    fn answers_mean_what_cloudevents_webhooks_say() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:07 GMT").unwrap();
        let again = |seconds| Verdict::Again(Some(Duration::from_secs(seconds)));
        for (status, header, want) in [
            (200, None, Verdict::Done),
            (201, None, Verdict::Done),
            (202, None, Verdict::Done),
            (204, None, Verdict::Done),
            (302, None, Verdict::Again(None)),
            (400, None, Verdict::Refused),
            (400, Some("1"), Verdict::Refused),
            (401, None, Verdict::Refused),
            (408, None, Verdict::Again(None)),
            (410, None, Verdict::Gone),
            (415, None, Verdict::Refused),
            (425, None, Verdict::Again(None)),
            (429, Some("3"), again(3)),
            (429, Some(" Sun, 06 Nov 1994 08:49:37 GMT"), again(30)),
            (429, Some("Sun, 06 Nov 1994 08:48:37 GMT"), Verdict::Again(None)),
            (429, Some("soon"), Verdict::Again(None)),
            (500, None, Verdict::Again(None)),
            (503, Some("2"), again(2)),
        ] {
            assert_eq!(Verdict::of(status, header, now), want, "{status} {header:?}");
        }
    }
}
