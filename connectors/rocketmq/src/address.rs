//! What a rule of `out` makes of an event: its RocketMQ topic, its tags and its key.

use std::borrow::Cow;
use std::sync::Arc;

use event::Event;
use event::event::is_attribute_name;

use crate::error::Unfit;
use crate::template::{Part, parts};

/// A text with places to fill from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    /// A level of the topic, from 0 on.
    Level(usize),
    /// An attribute, or a user property.
    Named(String),
}

/// Where the events of one rule go.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    topic: Pattern,
    tags: Option<Pattern>,
    key: Option<Pattern>,
    /// Filled once, if all events have the same.
    fixed: Option<Arc<str>>,
}

/// Where one event goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) topic: Arc<str>,
    pub(crate) tags: Option<String>,
    pub(crate) key: Option<String>,
}

impl Pattern {
    /// Reads one; `None`: an open brace, an unknown place, or nothing at all.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let piece = |part: Part<'_>| match part {
            Part::Text(text) => Some(Piece::Text(text.to_owned())),
            Part::Place(place) => match place.parse::<usize>() {
                Ok(level) => level.checked_sub(1).map(Piece::Level),
                Err(_) if place == "topic" => Some(Piece::Topic),
                Err(_) => is_attribute_name(place).then(|| Piece::Named(place.to_owned())),
            },
        };
        let mut pieces = parts(text)?.into_iter().map(piece).collect::<Option<Vec<_>>>()?;
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        let clean = |piece: &Piece| !matches!(piece, Piece::Text(text) if text.contains('}'));
        (!pieces.is_empty() && pieces.iter().all(clean)).then_some(Self(pieces))
    }

    /// The text, if it is the same for all events.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether all that is fixed of it is made of characters that `allowed` allows.
    pub(crate) fn is_of(&self, allowed: impl Fn(char) -> bool) -> bool {
        self.0.iter().all(|piece| !matches!(piece, Piece::Text(text) if !text.chars().all(&allowed)))
    }

    /// The text for `event`; what is put in and is not `allowed` becomes '_'.
    fn fill(&self, event: &Event, allowed: impl Fn(char) -> bool) -> Result<String, Unfit> {
        let mut filled = String::new();
        for piece in &self.0 {
            let value = match piece {
                Piece::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Piece::Topic => Cow::Borrowed(event.topic().as_str()),
                Piece::Level(at) => {
                    let level = event.topic().levels().nth(*at);
                    Cow::Borrowed(
                        level.ok_or_else(|| Unfit::Lacks(format!("level {} of its topic", at + 1)))?,
                    )
                }
                Piece::Named(name) => named(event, name).ok_or_else(|| Unfit::Lacks(name.clone()))?,
            };
            filled.extend(value.chars().map(|c| if allowed(c) { c } else { '_' }));
        }
        Ok(filled)
    }
}

/// An attribute by its name, else a user property.
fn named<'a>(event: &'a Event, name: &str) -> Option<Cow<'a, str>> {
    match name {
        "id" => Some(event.id()),
        "source" => Some(event.source()),
        "type" => Some(Cow::Borrowed(event.ty())),
        "subject" => event.subject().map(Cow::Borrowed),
        _ => event.meta()?.value(name),
    }
}

impl Address {
    /// `wrap` says what brokers call a topic.
    pub(crate) fn new(
        topic: Pattern,
        tags: Option<Pattern>,
        key: Option<Pattern>,
        wrap: impl Fn(&str) -> String,
    ) -> Self {
        let fixed = topic.fixed().map(|text| Arc::from(wrap(text)));
        Self { topic, tags, key, fixed }
    }

    /// The topic, if all events have the same.
    pub(crate) fn fixed(&self) -> Option<&Arc<str>> {
        self.fixed.as_ref()
    }

    /// Where `event` goes.
    pub(crate) fn of(&self, event: &Event, wrap: impl Fn(&str) -> String) -> Result<Target, Unfit> {
        let topic = match &self.fixed {
            Some(topic) => Arc::clone(topic),
            None => {
                let filled = self.topic.fill(event, is_topic_char)?;
                if filled.is_empty() || filled.len() > crate::options::TOPIC_MAX {
                    return Err(Unfit::Topic(filled));
                }
                Arc::from(wrap(&filled))
            }
        };
        let text = |pattern: &Option<Pattern>| {
            pattern.as_ref().map(|pattern| pattern.fill(event, |c| !c.is_control())).transpose()
        };
        Ok(Target { topic, tags: text(&self.tags)?, key: text(&self.key)? })
    }
}

/// What topics and groups of RocketMQ are made of.
pub(crate) fn is_topic_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '|' | '%')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use event::{Meta, Parts, TopicName};

    use super::*;

    fn event(topic: &str) -> Event {
        let user = vec![("region".into(), "eu west".into())];
        Event::new(Parts {
            topic: TopicName::parse(topic.to_owned()).unwrap(),
            data: Bytes::new(),
            stamp: 1,
            received_ms: 1,
            expires_ms: 0,
            publisher: "p".into(),
            meta: Some(Box::new(Meta { user, ..Meta::default() })),
        })
    }

    fn address(topic: &str, tags: Option<&str>, key: Option<&str>) -> Address {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        Address::new(pattern(topic), tags.map(pattern), key.map(pattern), |name| format!("ns%{name}"))
    }

    fn target(address: &Address, topic: &str) -> Result<(String, Option<String>, Option<String>), String> {
        let found =
            address.of(&event(topic), |name| format!("ns%{name}")).map_err(|error| error.to_string())?;
        Ok((found.topic.to_string(), found.tags, found.key))
    }

    #[test]
    fn places_are_filled_from_the_event() {
        let some = |text: &str| Some(text.to_owned());
        let made = address("Plant-{2}", Some("{region}"), Some("{type}/{3}"));
        assert_eq!(
            target(&made, "plant/a.1/t"),
            Ok(("ns%Plant-a_1".into(), some("eu west"), some("weft.message/t")))
        );
        assert_eq!(target(&address("{topic}", None, None), "a/b c"), Ok(("ns%a_b_c".into(), None, None)));
        assert_eq!(address("Fixed", None, None).fixed().map(|topic| &**topic), Some("ns%Fixed"));
    }

    #[test]
    fn what_is_missing_or_no_topic_is_named() {
        assert!(target(&address("{4}", None, None), "a/b").unwrap_err().contains("level 4"));
        assert!(target(&address("T", Some("{colour}"), None), "a").unwrap_err().contains("colour"));
        assert!(target(&address("{topic}", None, None), &"x".repeat(128)).unwrap_err().contains("xxx"));
        for wrong in ["", "{", "{0}", "a}", "{A}", "{}", "{a-b}"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong:?}");
        }
    }
}
