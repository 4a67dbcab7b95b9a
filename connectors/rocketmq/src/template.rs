//! Templates of topics: what a rule makes of a message.

use event::{TopicError, TopicName};

/// A topic with places to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

/// What the places are filled with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Values<'a> {
    /// The RocketMQ topic.
    pub(crate) topic: &'a str,
    /// `TAGS`.
    pub(crate) tags: &'a str,
    /// `KEYS`.
    pub(crate) keys: &'a str,
    /// The topic in the Weft it comes from, else the RocketMQ topic.
    pub(crate) origin: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Tags,
    Keys,
    Origin,
}

/// A part of a text with places in braces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// As it stands there; perhaps empty.
    Text(&'a str),
    /// What stands in braces.
    Place(&'a str),
}

/// The parts of a text; `None`: a brace is not closed.
pub(crate) fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once('{') {
        let (place, behind) = behind.split_once('}')?;
        parts.extend([Part::Text(before), Part::Place(place)]);
        rest = behind;
    }
    parts.push(Part::Text(rest));
    Some(parts)
}

impl Template {
    /// The topic a message of a store has: the one it was published to.
    pub(crate) fn origin() -> Self {
        Self(vec![Piece::Origin])
    }

    /// Reads a template; `None`: an unknown place, an open brace, a wildcard, or nothing at all.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let piece = |part: Part<'_>| match part {
            Part::Text(text) => Some(Piece::Text(text.to_owned())),
            Part::Place("topic") => Some(Piece::Topic),
            Part::Place("tags") => Some(Piece::Tags),
            Part::Place("keys") => Some(Piece::Keys),
            Part::Place("origin") => Some(Piece::Origin),
            Part::Place(_) => None,
        };
        let pieces = parts(text)?.into_iter().map(piece).collect::<Option<Vec<_>>>()?;
        let clean = |piece: &Piece| match piece {
            Piece::Text(text) => !text.contains(['+', '#', '}', '\0']),
            Piece::Topic | Piece::Tags | Piece::Keys | Piece::Origin => true,
        };
        (!text.is_empty() && pieces.iter().all(clean)).then_some(Self(pieces))
    }

    /// The topic, filled. What is put in loses its wildcards.
    pub(crate) fn fill(&self, values: &Values<'_>) -> Result<TopicName, TopicError> {
        let mut topic = String::new();
        for piece in &self.0 {
            let value = match piece {
                Piece::Text(text) => text,
                Piece::Topic => values.topic,
                Piece::Tags => values.tags,
                Piece::Keys => values.keys,
                Piece::Origin => values.origin,
            };
            topic.extend(value.chars().map(|c| if matches!(c, '+' | '#' | '\0') { '_' } else { c }));
        }
        TopicName::parse(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let values = Values { topic: "T", tags: "a+b", keys: "k1 k2", origin: "x/y" };
        for (text, topic) in [
            ("plain/topic", "plain/topic"),
            ("commands/{tags}", "commands/a_b"),
            ("{topic}/{keys}/end", "T/k1 k2/end"),
            ("{origin}", "x/y"),
        ] {
            assert_eq!(Template::parse(text).unwrap().fill(&values).unwrap().as_str(), topic);
        }
        assert_eq!(Template::parse("{tags}").unwrap().fill(&Values::default()), Err(TopicError::Empty));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "a/{b", "a}", "{other}", "a/+", "#", "{}"] {
            assert_eq!(Template::parse(text), None, "{text:?}");
        }
    }
}
