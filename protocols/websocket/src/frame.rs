//! The events that a client and Weft say to each other about the connection, as JSON. Sans-io.

use bytes::Bytes;
use event::replay::{parse_filter, plain_filter};
use event::store::Position;
use event::{Guarantee, Language, Reject, RejectKind, Select, Start, TopicFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Types that start with this are between a client and Weft.
pub(crate) const PREFIX: &str = "weft.";
/// The type that plain publishes are shown with: an event as others.
pub(crate) const PLAIN: &str = "weft.message";

/// What a client asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Subscribe { filters: Vec<(TopicFilter, Option<Start>)>, guarantee: Guarantee, select: Option<Select> },
    Unsubscribe { filters: Vec<TopicFilter> },
    Ack(Acked),
}

/// What a client has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acked {
    These(Vec<Position>),
    UpTo(Position),
}

impl Ask {
    /// Reads an event of type `ty` with `data`.
    pub(crate) fn parse(ty: &str, data: &[u8], filters_max: u16) -> Result<Self, Reject> {
        match ty {
            "weft.subscribe" => {
                let SubscribeData { topic, guarantee, from, filter } = read(data)?;
                let select = filter.map(|filter| match filter {
                    Filter::Cesql(text) => Select::new(Language::Cesql, text),
                    Filter::Cel(text) => Select::new(Language::Cel, text),
                });
                let mut filters = filters(topic, filters_max, parse_filter)?;
                if let Some(from) = from.map(Digits::start).transpose()? {
                    filters.iter_mut().for_each(|(_, start)| *start = Some(from));
                }
                let guarantee = match guarantee.unwrap_or(1) {
                    0 => Guarantee::AtMostOnce,
                    1 => Guarantee::AtLeastOnce,
                    2 => Guarantee::ExactlyOnce,
                    other => return Err(malformed(format!("guarantee is 0, 1 or 2, not {other}"))),
                };
                Ok(Self::Subscribe { filters, guarantee, select })
            }
            "weft.unsubscribe" => {
                let UnsubscribeData { topic } = read(data)?;
                Ok(Self::Unsubscribe { filters: filters(topic, filters_max, plain_filter)? })
            }
            "weft.ack" => match read(data)? {
                AckData { positions: Some(list), upto: None } => {
                    let positions: Result<_, _> = list.into_iter().map(Digits::position).collect();
                    Ok(Self::Ack(Acked::These(positions?)))
                }
                AckData { positions: None, upto: Some(upto) } => Ok(Self::Ack(Acked::UpTo(upto.position()?))),
                AckData { .. } => Err(malformed("weft.ack has either \"positions\" or \"upto\"")),
            },
            other => Err(malformed(format!("{other} is none of weft.subscribe, weft.unsubscribe, weft.ack"))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeData {
    topic: Topics,
    guarantee: Option<u8>,
    from: Option<Digits>,
    filter: Option<Filter>,
}

/// An expression under the name of its language.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Filter {
    Cesql(String),
    Cel(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnsubscribeData {
    topic: Topics,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckData {
    positions: Option<Vec<Digits>>,
    upto: Option<Digits>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Topics {
    One(String),
    Many(Vec<String>),
}

/// A position: JavaScript's numbers end at 2^53, so text is taken too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Digits {
    Number(u64),
    Text(String),
}

impl Digits {
    /// Where a replay starts: behind a position, or as a text says.
    fn start(self) -> Result<Start, Reject> {
        match self {
            Self::Number(number) => Ok(Start::Behind(Position(number))),
            Self::Text(text) => Start::parse(&text).map_err(|error| malformed(error.to_string())),
        }
    }

    fn position(self) -> Result<Position, Reject> {
        match self {
            Self::Number(number) => Ok(Position(number)),
            Self::Text(text) => text
                .parse()
                .map(Position)
                .map_err(|_| malformed(format!("{text:?} is no position: those are digits"))),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, Reject> {
    serde_json::from_slice(data).map_err(|error| malformed(format!("data: {error}")))
}

fn filters<F, E: std::fmt::Display>(
    topics: Topics,
    most: u16,
    parse: impl Fn(String) -> Result<F, E>,
) -> Result<Vec<F>, Reject> {
    let texts = match topics {
        Topics::One(text) => vec![text],
        Topics::Many(list) => list,
    };
    if texts.is_empty() || texts.len() > usize::from(most) {
        return Err(malformed(format!("{} topics, 1 to {most} are taken", texts.len())));
    }
    let parse = |text: String| parse(text.clone()).map_err(|error| malformed(format!("{text:?}: {error}")));
    texts.into_iter().map(parse).collect()
}

fn malformed(reason: impl Into<String>) -> Reject {
    Reject::new(RejectKind::Malformed, reason.into())
}

/// An answer: an event of Weft's own, with the number `id` of this connection.
pub(crate) fn answer(id: u64, ty: &str, data: &impl Serialize) -> Bytes {
    let event =
        json!({"specversion": "1.0", "id": id.to_string(), "source": "/weft", "type": ty, "data": data});
    serde_json::to_vec(&event).unwrap_or_default().into()
}

/// The data of `weft.error`.
#[derive(Serialize)]
pub(crate) struct ErrorData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<&'a str>,
    kind: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
}

impl<'a> ErrorData<'a> {
    pub(crate) fn new(of: Option<&'a str>, reject: &'a Reject) -> Self {
        let retry_after_ms = match reject.kind {
            RejectKind::Busy => Some(1000),
            RejectKind::Unavailable | RejectKind::Closed => Some(5000),
            RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied => None,
        };
        Self { of, kind: reject.kind.as_str(), reason: &reject.reason, retry_after_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_are_read() {
        let parse = |ty: &str, data: &str| Ask::parse(ty, data.as_bytes(), 2);
        let filter = |text: &str| TopicFilter::parse(text).unwrap();
        let subscribe = |data| parse("weft.subscribe", data).unwrap();
        let from = Some(Start::Behind(Position(7)));
        let filters = vec![(filter("a/+"), from), (filter("b"), from)];
        assert_eq!(
            subscribe(r#"{"topic":["a/+","b"],"guarantee":0,"from":"7"}"#),
            Ask::Subscribe { filters, guarantee: Guarantee::AtMostOnce, select: None }
        );
        let expected = |filters| Ask::Subscribe { filters, guarantee: Guarantee::AtLeastOnce, select: None };
        let shared = vec![(filter("$share/g/a"), None)];
        assert_eq!(subscribe(r#"{"topic":"$share/g/a"}"#), expected(shared));
        let replays = vec![(filter("a"), Some(Start::All)), (filter("b"), None)];
        assert_eq!(subscribe(r#"{"topic":["$replay/all/a","b"]}"#), expected(replays));
        let since = vec![(filter("a"), Some(Start::Since(0)))];
        assert_eq!(subscribe(r#"{"topic":"a","from":"1970-01-01T00:00:00Z"}"#), expected(since));
        let select = Some(Select::new(Language::Cel, "data.t > 20"));
        let filters = vec![(filter("a"), None)];
        assert_eq!(
            subscribe(r#"{"topic":"a","filter":{"cel":"data.t > 20"}}"#),
            Ask::Subscribe { filters, guarantee: Guarantee::AtLeastOnce, select }
        );
        let ended = Ask::Unsubscribe { filters: vec![filter("a")] };
        assert_eq!(parse("weft.unsubscribe", r#"{"topic":"$replay/all/a"}"#).unwrap(), ended);
        let acked = parse("weft.ack", r#"{"positions":[7,"9"]}"#).unwrap();
        assert_eq!(acked, Ask::Ack(Acked::These(vec![Position(7), Position(9)])));
        assert_eq!(parse("weft.ack", r#"{"upto":7}"#).unwrap(), Ask::Ack(Acked::UpTo(Position(7))));
        for (ty, data, word) in [
            ("weft.subscribe", "", "EOF"),
            ("weft.subscribe", "{}", "topic"),
            ("weft.subscribe", r#"{"topic":[]}"#, "0 topics"),
            ("weft.subscribe", r#"{"topic":["a","b","c"]}"#, "3 topics"),
            ("weft.subscribe", r#"{"topic":"a/#/b"}"#, "last level"),
            ("weft.subscribe", r#"{"topic":"a","guarantee":3}"#, "not 3"),
            ("weft.subscribe", r#"{"topic":"a","from":"x"}"#, "digits"),
            ("weft.subscribe", r#"{"topic":"$replay/x/a"}"#, "a replay starts"),
            ("weft.subscribe", r#"{"topic":"a","qos":1}"#, "qos"),
            ("weft.subscribe", r#"{"topic":"a","filter":{"sql":"x"}}"#, "cesql"),
            ("weft.subscribe", r#"{"topic":"a","filter":{"cel":"x","cesql":"x"}}"#, "expected"),
            ("weft.ack", "{}", "either"),
            ("weft.ack", r#"{"upto":1,"positions":[]}"#, "either"),
            ("weft.subscrive", "{}", "none of"),
        ] {
            let reject = parse(ty, data).unwrap_err();
            assert!(reject.kind == RejectKind::Malformed && reject.reason.contains(word), "{data} {reject}");
        }
    }
}
