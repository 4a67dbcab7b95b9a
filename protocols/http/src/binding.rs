//! What a request to `/events` says (CE HTTP §3). Sans-io.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use event::hub::{Publish, Stamps, Subscribe, SubscribeOptions};
use event::json::{BATCH_TYPE, EVENT_TYPE, decode, decode_batch};
use event::replay::parse_filter;
use event::trace::{self, TRACEPARENT, TRACESTATE};
use event::{Draft, Event, Guarantee, Incoming, Meta, Parts, Select, Start, TopicName, Value};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};

use crate::Options;
use crate::problem::{Kind, Problem};

/// The name that events published over HTTP have as their publisher.
pub(crate) const PUBLISHER: &str = "http";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the query of a publish says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishQuery {
    topic: Option<String>,
    retain: bool,
    /// What the event is to ask for beside, as if it said so itself.
    asks: Vec<(ByteString, ByteString)>,
    /// The answer is the reply to the event, which may take so long.
    reply: Option<Duration>,
}

/// The longest wait for a reply, milliseconds.
const REPLY_MAX: u64 = 600_000;

/// What may stand in the query as well as in the event: a browser's form or curl has no attributes.
const ASKS: [&str; 4] = ["delayms", "deliverytime", "transaction", "transactionid"];

/// What a request for an event stream says.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    pub(crate) wanted: Vec<Subscribe>,
}

impl PublishQuery {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut query = Self::default();
        // A topic name has no `+`: it is a space, as HTML forms write it.
        for (name, value) in pairs(uri, true)? {
            match (&*name, &*value) {
                ("topic", _) if query.topic.is_none() => query.topic = Some(value),
                ("retain", "true" | "false") => query.retain = value == "true",
                ("reply_ms", _) if query.reply.is_none() => {
                    let ms = value.parse().ok().filter(|ms| (1..=REPLY_MAX).contains(ms));
                    let Some(ms) = ms else {
                        return Err(unknown(&name, &value, &format!("reply_ms=1..={REPLY_MAX}")));
                    };
                    query.reply = Some(Duration::from_millis(ms));
                }
                (ask, _) if ASKS.contains(&ask) => query.asks.push((name.into(), value.into())),
                _ => {
                    let known = "topic=TOPIC once, retain=true or retain=false, delayms=MILLISECONDS, deliverytime=TIME, \
                                 transaction=half, commit or rollback, transactionid=ID, reply_ms=MILLISECONDS";
                    return Err(unknown(&name, &value, known));
                }
            }
        }
        Ok(query)
    }

    /// How long to wait for the reply to the event, if that is the answer.
    pub(crate) fn reply(&self) -> Option<Duration> {
        self.reply
    }

    /// The event, asking for what the query asks for.
    fn asking(&self, event: Event) -> Event {
        if self.asks.is_empty() {
            return event;
        }
        let mut parts = event.parts().clone();
        parts.meta.get_or_insert_default().user.extend(self.asks.iter().cloned());
        Event::new(parts)
    }
}

impl StreamRequest {
    pub(crate) fn parse(uri: &Uri, headers: &HeaderMap, options: &Options) -> Result<Self, Problem> {
        let mut wanted = Vec::new();
        let last = headers.get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let mut last = last.filter(|id| !id.is_empty());
        let mut select: Option<Select> = None;
        // `+` is a wildcard: people type it as it is, and URLSearchParams writes it as %2B. In filters it is a space.
        for ((name, value), (_, spaced)) in pairs(uri, false)?.into_iter().zip(pairs(uri, true)?) {
            if let Some(language) = Select::language_of(&name) {
                if select.replace(Select::new(language, spaced)).is_some() {
                    return Err(Problem::new(Kind::Query, "one filter-cesql or filter-cel is taken"));
                }
                continue;
            }
            match &*name {
                "topic" => wanted.push(wish(&value)?),
                // A browser sends the header when it reconnects: that is later than the query, so it wins.
                "from" | "last-event-id" => last = last.or(Some(value).filter(|value| !value.is_empty())),
                // For the gate.
                "access_token" => {}
                _ => {
                    return Err(unknown(
                        &name,
                        &value,
                        "topic=FILTER, from=START, filter-cesql=EXPRESSION, filter-cel=EXPRESSION",
                    ));
                }
            }
        }
        if wanted.is_empty() {
            return Err(Problem::new(
                Kind::Query,
                "say which events: ?topic=FILTER, such as ?topic=sensors/%23",
            ));
        }
        if wanted.len() > usize::from(options.filters_max) {
            let detail = format!("{} filters, at most {} are taken", wanted.len(), options.filters_max);
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        if let Some(start) = last {
            let start = Start::parse(&start).map_err(|error| Problem::new(Kind::Query, error.to_string()))?;
            wanted.iter_mut().for_each(|wish| wish.replay = Some(start));
        }
        wanted.iter_mut().for_each(|wish| wish.select.clone_from(&select));
        Ok(Self { wanted })
    }
}

fn wish(text: &str) -> Result<Subscribe, Problem> {
    let wrong = |error| Problem::new(Kind::Topic, format!("{text:?}: {error}"));
    let (filter, replay) = parse_filter(text).map_err(wrong)?;
    if filter.share().is_some() {
        let detail = "an event stream cannot be shared, because it has no acks: use MQTT or WebSocket";
        return Err(Problem::new(Kind::Topic, detail));
    }
    let options = SubscribeOptions::new(Guarantee::AtLeastOnce);
    Ok(Subscribe { replay, ..Subscribe::new(filter, options) })
}

fn unknown(name: &str, value: &str, known: &str) -> Problem {
    Problem::new(Kind::Query, format!("{name}={value} is not known or there twice; known: {known}"))
}

/// The events of a publish: structured, batched or binary by the content type and `ce-` headers (CE HTTP §3), or a
/// plain body for the query's topic.
pub(crate) fn publishes(
    headers: &HeaderMap,
    body: Bytes,
    query: &PublishQuery,
    options: &Options,
    stamps: &mut Stamps,
    now_ms: u64,
) -> Result<Vec<Publish>, Problem> {
    let content_type = content_type(headers)?;
    let media_type =
        content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let events = match media_type.as_deref() {
        Some(EVENT_TYPE) => vec![decode(body)?],
        Some(BATCH_TYPE) => batch(&body, options)?,
        Some(other) if other.starts_with("application/cloudevents") => {
            let detail = format!("{other} is not known; known are {EVENT_TYPE} and {BATCH_TYPE}");
            return Err(Problem::new(Kind::MediaType, detail));
        }
        _ if headers.keys().any(|name| name.as_str().starts_with("ce-")) => {
            vec![binary(headers, content_type, body)?]
        }
        _ => {
            let mut publish = plain(content_type, body, query, stamps, now_ms)?;
            publish.event = traced(publish.event, headers);
            return Ok(vec![publish]);
        }
    };
    let publisher: Arc<str> = Arc::from(PUBLISHER);
    let mut all = Vec::with_capacity(events.len());
    for (index, incoming) in events.into_iter().enumerate() {
        let retain = query.retain || incoming.retain;
        let topic = incoming.topic(query.topic.as_deref()).map_err(|error| {
            let hint = "give one with ?topic=, or as wefttopic, subject or type";
            Problem::new(Kind::Topic, format!("event {index}: {error}; {hint}"))
        })?;
        let event = query.asking(incoming.into_event(topic, stamps.take(), now_ms, Arc::clone(&publisher)));
        let event = traced(event, headers);
        all.push(Publish { event, guarantee: Guarantee::AtLeastOnce, retain, id: None });
    }
    Ok(all)
}

/// The event, in the trace that the request belongs to (W3C Trace Context) if it has none of its own.
fn traced(event: Event, headers: &HeaderMap) -> Event {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(parent) = text(TRACEPARENT) else { return event };
    let mut parts = event.parts().clone();
    trace::adopt(&mut parts, Some(parent), text(TRACESTATE));
    Event::new(parts)
}

fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| Problem::new(Kind::MediaType, "Content-Type is not ASCII"))
}

fn batch(body: &Bytes, options: &Options) -> Result<Vec<Incoming>, Problem> {
    let results = decode_batch(body)?;
    if results.len() > usize::try_from(options.batch_events_max).unwrap_or(usize::MAX) {
        let detail =
            format!("a batch of {} events, at most {} are taken", results.len(), options.batch_events_max);
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let mut events = Vec::with_capacity(results.len());
    for (index, result) in results.into_iter().enumerate() {
        events.push(result.map_err(|error| Problem::from(error).of_event(index))?);
    }
    Ok(events)
}

/// One event in binary mode (CE HTTP §3.1).
fn binary(headers: &HeaderMap, content_type: Option<&str>, body: Bytes) -> Result<Incoming, Problem> {
    let mut draft = Draft::default();
    // The version decides how all else is read, so it is looked at first.
    if let Some(version) = headers.get("ce-specversion") {
        Draft::default()
            .set("specversion".into(), Value::String(header_text("specversion", version)?.into()))?;
    }
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("ce-") {
            draft.set(name.into(), Value::String(header_text(name, value)?.into()))?;
        }
    }
    if let Some(content_type) = content_type {
        draft.set("datacontenttype".into(), Value::String(content_type.into()))?;
    }
    Ok(draft.finish(body, false)?)
}

/// A body that is no CloudEvent.
fn plain(
    content_type: Option<&str>,
    data: Bytes,
    query: &PublishQuery,
    stamps: &mut Stamps,
    now_ms: u64,
) -> Result<Publish, Problem> {
    let Some(topic) = query.topic.as_deref() else {
        let detail = "neither a CloudEvent (no ce-specversion header, no content type of CloudEvents) nor a plain body \
                      for a topic (no ?topic=)";
        return Err(Problem::new(Kind::Event, detail));
    };
    let topic = TopicName::parse(topic).map_err(|e| Problem::new(Kind::Topic, format!("{topic:?}: {e}")))?;
    let meta = content_type.map(|text| Box::new(Meta { content_type: Some(text.into()), ..Meta::default() }));
    let publisher = Arc::from(PUBLISHER);
    let parts =
        Parts { topic, data, stamp: stamps.take(), received_ms: now_ms, expires_ms: 0, publisher, meta };
    Ok(Publish {
        event: query.asking(Event::new(parts)),
        guarantee: Guarantee::AtLeastOnce,
        retain: query.retain,
        id: None,
    })
}

/// The text of a `ce-` header: quoted strings are unquoted, then one round of percent-decoding (CE HTTP §3.1.3.2).
fn header_text(name: &str, value: &HeaderValue) -> Result<String, Problem> {
    let bytes = value.as_bytes();
    let unquoted = if bytes.contains(&b'"') { Cow::Owned(unquote(bytes)) } else { Cow::Borrowed(bytes) };
    String::from_utf8(percent_decode(&unquoted, false))
        .map_err(|_| Problem::new(Kind::Event, format!("header ce-{name} is not UTF-8")))
}

/// Takes away the quotes of quoted strings, and the backslashes in them (RFC 9110 §5.6.4).
fn unquote(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut quoted = false;
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => out.extend(rest.next()),
            other => out.push(*other),
        }
    }
    out
}

/// A `%` that no two hexadecimal digits follow stays as it is.
fn percent_decode(bytes: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high << 4 | low));
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _, _) if plus_is_space => out.push(b' '),
            (other, _, _) => out.push(*other),
        }
    }
    out
}

/// The names and values of a query.
fn pairs(uri: &Uri, plus_is_space: bool) -> Result<Vec<(String, String)>, Problem> {
    let decode = |text: &str| {
        let bytes = percent_decode(text.as_bytes(), plus_is_space);
        String::from_utf8(bytes).map_err(|_| Problem::new(Kind::Query, "the query is not UTF-8"))
    };
    let mut pairs = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use event::store::Position;

    use super::*;

    #[test]
    fn ce_http_3_1_3_2_header_values_are_unquoted_and_decoded_once() {
        for (header, text) in [
            ("plain", "plain"),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("100%", "100%"),
            ("%2520", "%20"),
            (r#""a \"b\" c""#, "a \"b\" c"),
            (r#"a" b "c"#, "a b c"),
            ("%41%zz%4", "A%zz%4"),
        ] {
            let value = HeaderValue::from_bytes(header.as_bytes()).unwrap();
            assert_eq!(header_text("x", &value).unwrap(), text, "{header}");
        }
        header_text("x", &HeaderValue::from_static("%ff")).unwrap_err();
    }

    #[test]
    fn a_plus_is_a_wildcard_of_filters_and_a_space_of_topics() {
        let uri: Uri = "/events?topic=a/+/%23&topic=b%2B%20c&from=7".parse().unwrap();
        // `b+ c` is no filter: `+` has to be a whole level.
        StreamRequest::parse(&uri, &HeaderMap::new(), &Options::default()).unwrap_err();
        let uri: Uri = "/events?topic=a/+/%23&from=7".parse().unwrap();
        let request = StreamRequest::parse(&uri, &HeaderMap::new(), &Options::default()).unwrap();
        assert_eq!(request.wanted.len(), 1);
        assert_eq!(request.wanted[0].filter.as_str(), "a/+/#");
        assert_eq!(request.wanted[0].replay, Some(Start::Behind(Position(7))));
        let uri: Uri = "/events?topic=a+b%2Fc&retain=true".parse().unwrap();
        let query = PublishQuery::parse(&uri).unwrap();
        assert_eq!(
            query,
            PublishQuery { topic: Some("a b/c".to_owned()), retain: true, ..PublishQuery::default() }
        );
    }

    #[test]
    fn the_header_of_a_reconnect_wins_over_the_query() {
        let uri: Uri = "/events?topic=a&filter-cel=data.t+%3E+1%2B1&topic=b".parse().unwrap();
        let request = StreamRequest::parse(&uri, &HeaderMap::new(), &Options::default()).unwrap();
        let select = Some(Select::new(event::Language::Cel, "data.t > 1+1"));
        assert!(request.wanted.iter().all(|wish| wish.select == select), "{:?}", request.wanted);
        let uri: Uri = "/events?topic=a&filter-cel=x&filter-cesql=y".parse().unwrap();
        assert!(StreamRequest::parse(&uri, &HeaderMap::new(), &Options::default()).is_err());
        let uri: Uri = "/events?topic=a&from=7".parse().unwrap();
        let after = |id: &'static str| {
            let headers = HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static(id))]);
            StreamRequest::parse(&uri, &headers, &Options::default()).map(|request| request.wanted[0].replay)
        };
        assert_eq!(after("9").unwrap(), Some(Start::Behind(Position(9))));
        assert_eq!(after("").unwrap(), Some(Start::Behind(Position(7))), "an empty id is none (HTML §9.2.6)");
        after("x").unwrap_err();
    }
}
