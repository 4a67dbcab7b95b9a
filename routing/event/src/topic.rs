//! Topic names and filters, parsed once at the edge (MQTT 5 §4.7).

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// Where replies to requests of Weft itself go: topics below this, each with a name that cannot be guessed. Who knows such a
/// name was asked, and may answer.
pub const REPLY_TOPICS: &str = "$reply/";

/// Why a topic name or filter is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// At least one character is needed.
    #[error("[MQTT-4.7.3-1] a topic has at least one character")]
    Empty,
    /// The null character is not allowed.
    #[error("[MQTT-4.7.3-2] a topic has no null character")]
    Null,
    /// Control characters and non-characters: a strict client closes on them, so one publisher could cut off others.
    #[error("[MQTT 5 §1.5.4] a topic has no control characters and no Unicode non-characters")]
    Control,
    /// Longer than 65,535 bytes.
    #[error("[MQTT-4.7.3-3] a topic has at most 65535 bytes")]
    TooLong,
    /// A topic name has no wildcard.
    #[error("[MQTT-3.3.2-2] a topic name has no wildcard '+' or '#'")]
    Wildcard,
    /// `#` or `+` stand alone in their level, `#` only in the last.
    #[error("[MQTT-4.7.1-1] '#' is the whole last level and '+' a whole level of a filter")]
    WildcardPlace,
    /// `$share/{group}/{filter}` with a group and a filter.
    #[error("[MQTT-4.8.2-1] a shared subscription is $share/group/filter, the group without '/', '+' or '#'")]
    Share,
    /// Not UTF-8.
    #[error("[MQTT-1.5.4-1] a topic is UTF-8")]
    NotUtf8,
}

/// The name an event is published to: levels between `/`, no wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "ByteString", into = "ByteString")]
pub struct TopicName(ByteString);

impl TopicName {
    /// Checks `text` and keeps it; a slice of a larger buffer stays a slice.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text)?;
        if text.as_bytes().iter().any(|b| matches!(b, b'+' | b'#')) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text))
    }

    /// The name with bytes of its own: one that is kept for long must not hold the read buffer it came in.
    pub fn detached(&self) -> Self {
        Self(ByteString::from(&*self.0))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole name, shared.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// The levels between `/`, empty ones included.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether the first level starts with `$`: no wildcard of a first level matches it \[MQTT-4.7.2-1\].
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether it belongs to Weft: nobody publishes to it (MQTT 5 §4.7.2). Other topics that start with `$` are for
    /// applications, as many clouds use them.
    pub fn is_reserved(&self) -> bool {
        self.is_system() && matches!(self.levels().next(), Some("$SYS" | "$share" | "$replay" | "$weft"))
    }
}

impl std::fmt::Display for TopicName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<ByteString> for TopicName {
    type Error = TopicError;
    fn try_from(text: ByteString) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

impl From<TopicName> for ByteString {
    fn from(name: TopicName) -> Self {
        name.0
    }
}

/// A pattern over topic names: `+` is one level, `#` the rest; `$share/group/` in front shares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "ByteString", into = "ByteString")]
pub struct TopicFilter {
    text: ByteString,
    /// Where the pattern starts in `text`: behind `$share/group/`, else 0.
    start: u16,
}

impl TopicFilter {
    /// Checks `text` and keeps it.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text)?;
        let start = match text.strip_prefix("$share/") {
            None => 0,
            Some(rest) => {
                let (group, filter) = rest.split_once('/').ok_or(TopicError::Share)?;
                if group.is_empty() || filter.is_empty() || group.contains(['+', '#']) {
                    return Err(TopicError::Share);
                }
                text.len() - filter.len()
            }
        };
        let start = u16::try_from(start).map_err(|_| TopicError::TooLong)?;
        let filter = Self { text, start };
        let mut levels = filter.pattern().split('/').peekable();
        while let Some(level) = levels.next() {
            let alone = level.len() == 1;
            let last = levels.peek().is_none();
            if (level.contains('#') && !(alone && last)) || (level.contains('+') && !alone) {
                return Err(TopicError::WildcardPlace);
            }
        }
        Ok(filter)
    }

    /// The filter with bytes of its own: one that is kept for long must not hold the read buffer it came in.
    pub fn detached(&self) -> Self {
        Self { text: ByteString::from(&*self.text), start: self.start }
    }

    /// The whole text, `$share/group/` included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern that topics are matched with, without `$share/group/`.
    pub fn pattern(&self) -> &str {
        self.text.get(usize::from(self.start)..).unwrap_or_default()
    }

    /// The group of a shared subscription.
    pub fn share(&self) -> Option<&str> {
        self.text.strip_prefix("$share/")?.split('/').next()
    }

    /// The levels of the pattern.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.pattern().split('/')
    }

    /// Whether some topic may match both patterns. May say yes where it is no: that `+` and `#` leave out topics that begin
    /// with `$` plays no part.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
                (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
                _ => return false,
            }
        }
    }

    /// Whether the pattern has a wildcard.
    pub fn has_wildcard(&self) -> bool {
        self.pattern().contains(['+', '#'])
    }

    /// Whether `topic` is matched (MQTT 5 §4.7.1, §4.7.2).
    pub fn matches(&self, topic: &TopicName) -> bool {
        if topic.is_system() && self.pattern().starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            if level == "#" {
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

impl std::fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<ByteString> for TopicFilter {
    type Error = TopicError;
    fn try_from(text: ByteString) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

impl From<TopicFilter> for ByteString {
    fn from(filter: TopicFilter) -> Self {
        filter.text
    }
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > usize::from(u16::MAX) {
        return Err(TopicError::TooLong);
    }
    if text.as_bytes().contains(&0) {
        return Err(TopicError::Null);
    }
    if has_control(text) {
        return Err(TopicError::Control);
    }
    Ok(())
}

/// Whether `text` has a code point that MQTT 5 §1.5.4 says should not be there: a control character (U+0000 to U+001F,
/// U+007F to U+009F) or a non-character (U+FDD0 to U+FDEF, and the last two of each plane).
pub fn has_control(text: &str) -> bool {
    // Nearly all texts are this plain.
    if text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return false;
    }
    let is_noncharacter =
        |c: char| matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe;
    text.chars().any(|c| c.is_control() || is_noncharacter(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::parse(filter).unwrap().matches(&TopicName::parse(topic).unwrap())
    }

    #[test]
    fn mqtt_4_7_1_filters_match_by_level() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("#", "a/b"),
            ("+", "a"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("$SYS/#", "$SYS/a"),
            ("$share/g/a/+", "a/b"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("+", "/finance"),
            ("sport/+", "sport"),
            ("sport/+", "sport/a/b"),
            ("a/b", "a"),
            ("a", "a/b"),
            ("A", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn mqtt_4_7_2_1_wildcards_do_not_match_system_topics() {
        assert!(!matches("#", "$SYS/a"));
        assert!(!matches("+/a", "$SYS/a"));
    }

    #[test]
    fn wrong_topics_are_named() {
        // A byte order mark is a character like others [MQTT-1.5.4-3].
        assert!(TopicName::parse("a/é/\u{a0}/\u{feff}/\u{fffd}/😀").is_ok());
        for (text, error) in [
            ("", TopicError::Empty),
            ("a\0", TopicError::Null),
            ("a\n", TopicError::Control),
            ("a\u{7f}", TopicError::Control),
            ("é\u{9f}", TopicError::Control),
            ("\u{fdd0}", TopicError::Control),
            ("\u{1ffff}", TopicError::Control),
            ("a/#/b", TopicError::WildcardPlace),
            ("a#", TopicError::WildcardPlace),
            ("a/b+", TopicError::WildcardPlace),
            ("$share/g", TopicError::Share),
            ("$share//a", TopicError::Share),
            ("$share/g/", TopicError::Share),
            ("$share/g+/a", TopicError::Share),
        ] {
            assert_eq!(TopicFilter::parse(text).unwrap_err(), error, "{text:?}");
        }
        assert_eq!(TopicName::parse("a/+").unwrap_err(), TopicError::Wildcard);
        assert_eq!(TopicName::parse("x".repeat(65_536)).unwrap_err(), TopicError::TooLong);
    }

    #[test]
    fn the_group_of_a_shared_filter_is_not_part_of_the_pattern() {
        let filter = TopicFilter::parse("$share/g/a/#").unwrap();
        assert_eq!((filter.share(), filter.pattern()), (Some("g"), "a/#"));
    }
}
