//! The string in which a message carries its properties: `name U+0001 value U+0002`, repeated, at most 32,767 bytes.
//!
//! RocketMQ has no escape for its two separators and drops empty values, so neither can be carried as they are.
//! [`escape`] carries them: U+001A and a letter stand for what may not be there. Text without such characters stays as
//! it is, and other clients read it.
//!
//! | text | carried as |
//! |---|---|
//! | U+0001 | U+001A `A` |
//! | U+0002 | U+001A `B` |
//! | U+001A | U+001A `Z` |
//! | the empty text | U+001A `E` |

use std::borrow::Cow;

use bytestring::ByteString;

/// The most bytes of a property string: its length is an i16 on the wire.
pub const PROPERTIES_MAX: usize = i16::MAX as usize;

const BETWEEN: char = '\u{1}';
const END: char = '\u{2}';
const ESCAPE: char = '\u{1a}';

/// A property string in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(String);

/// The properties are more than a message can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("properties of {len} B, limit {PROPERTIES_MAX} B")]
pub struct TooLong {
    /// How long they are.
    pub len: usize,
}

impl Properties {
    /// Appends a property; its value is escaped. The name has to be one of the caller's own choice: not empty and
    /// without control characters.
    pub fn push(&mut self, name: &str, value: &str) {
        debug_assert!(is_name(name), "{name:?}");
        self.0.push_str(name);
        self.0.push(BETWEEN);
        self.0.push_str(&escape(value));
        self.0.push(END);
    }

    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no property.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what is behind the first `len` bytes, a length that was seen before.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The property string.
    pub fn finish(self) -> Result<ByteString, TooLong> {
        if self.0.len() > PROPERTIES_MAX {
            return Err(TooLong { len: self.0.len() });
        }
        Ok(self.0.into())
    }
}

/// Whether `name` can be the name of a property as it is.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains([BETWEEN, END, ESCAPE])
}

/// The properties of a property string, in their order. What has no name or no value is left out.
pub fn parse(text: &ByteString) -> impl Iterator<Item = (ByteString, ByteString)> {
    text.split(END).filter_map(|property| {
        let (name, value) = property.split_once(BETWEEN)?;
        (!name.is_empty()).then(|| (text.slice_ref(name), text.slice_ref(value)))
    })
}

/// `text` as it may stand in a property value.
pub fn escape(text: &str) -> Cow<'_, str> {
    if is_name(text) {
        return Cow::Borrowed(text);
    }
    if text.is_empty() {
        return Cow::Borrowed("\u{1a}E");
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            BETWEEN => out.push_str("\u{1a}A"),
            END => out.push_str("\u{1a}B"),
            ESCAPE => out.push_str("\u{1a}Z"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// What [`escape`] was given. Text that no [`escape`] made is kept as it is where it makes no sense.
pub fn unescape(text: &ByteString) -> ByteString {
    if !text.contains(ESCAPE) {
        return text.clone();
    }
    if &**text == "\u{1a}E" {
        return ByteString::new();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match (c, chars.as_str().chars().next()) {
            (ESCAPE, Some('A')) => BETWEEN,
            (ESCAPE, Some('B')) => END,
            (ESCAPE, Some('Z')) => ESCAPE,
            (other, _) => {
                out.push(other);
                continue;
            }
        };
        chars.next();
        out.push(plain);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_property_string_as_java_writes_it() {
        let text = ByteString::from_static("KEYS\u{1}k1 k2\u{2}TAGS\u{1}t\u{2}UNIQ_KEY\u{1}AB");
        let pairs: Vec<_> = parse(&text).map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(pairs, ["KEYS=k1 k2", "TAGS=t", "UNIQ_KEY=AB"]);
    }

    #[test]
    fn broken_properties_are_left_out() {
        let text = ByteString::from_static("\u{2}no value\u{2}\u{1}no name\u{2}a\u{1}1\u{1}2\u{2}");
        let pairs: Vec<_> = parse(&text).map(|(n, v)| format!("{n}={v:?}")).collect();
        assert_eq!(pairs, [r#"a="1\u{1}2""#]);
    }

    #[test]
    fn too_many_properties_are_refused() {
        let mut properties = Properties::default();
        properties.push("a", &"x".repeat(PROPERTIES_MAX - 3));
        assert_eq!(properties.clone().finish().unwrap().len(), PROPERTIES_MAX);
        properties.push("b", "y");
        assert_eq!(properties.finish(), Err(TooLong { len: PROPERTIES_MAX + 4 }));
    }

    proptest! {
        #[test]
        fn values_survive(values in proptest::collection::vec("[\u{0}-\u{3}\u{19}-\u{1c}ABEZ%é]{0,8}", 0..6)) {
            let mut properties = Properties::default();
            for value in &values {
                properties.push("n", value);
            }
            let text = properties.finish().unwrap();
            let back: Vec<String> = parse(&text).map(|(_, value)| unescape(&value).to_string()).collect();
            prop_assert_eq!(back, values);
        }
    }
}
