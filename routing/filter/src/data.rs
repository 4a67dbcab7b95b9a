//! The data of an event as JSON: one flat list, read once for all filters, whose texts are slices of the data.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value, its parts behind it in the order of the text.
#[derive(Debug)]
pub(crate) struct Tape<'e>(Vec<Node<'e>>);

/// One value. The members of an object are a text and a value each.
#[derive(Debug)]
pub(crate) enum Node<'e> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Above what [`Node::Integer`] can hold.
    Unsigned(u64),
    Double(f64),
    Text(&'e str),
    /// A text with escapes in it.
    Escaped(Box<str>),
    /// `end`: the place behind its last element.
    Array {
        count: usize,
        end: usize,
    },
    Object {
        count: usize,
        end: usize,
    },
}

/// A value in a tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'t> {
    nodes: &'t [Node<'t>],
    at: usize,
}

/// Larger data is not looked at: reading it would hold up all others for milliseconds.
pub(crate) const DATA_MAX: usize = 1 << 20;
/// Values in data that is looked at; 24 bytes each.
const NODES_MAX: usize = 1 << 16;

impl<'e> Tape<'e> {
    /// Reads `data`; `None` if it is not JSON, or too much.
    pub(crate) fn read(data: &'e [u8]) -> Option<Self> {
        if data.is_empty() || data.len() > DATA_MAX {
            return None;
        }
        let mut tape = Self(Vec::with_capacity((data.len() / 8).clamp(4, 256)));
        let mut json = serde_json::Deserializer::from_slice(data);
        Reader(&mut tape).deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(tape)
    }

    /// The whole.
    pub(crate) fn root(&self) -> Place<'_> {
        Place { nodes: &self.0, at: 0 }
    }
}

impl<'t> Place<'t> {
    /// The value here.
    pub(crate) fn node(self) -> &'t Node<'t> {
        self.nodes.get(self.at).unwrap_or(&Node::Null)
    }

    /// The text here, if it is one.
    pub(crate) fn text(self) -> Option<&'t str> {
        match self.node() {
            Node::Text(text) => Some(text),
            Node::Escaped(text) => Some(text),
            Node::Null
            | Node::Boolean(_)
            | Node::Integer(_)
            | Node::Unsigned(_)
            | Node::Double(_)
            | Node::Array { .. }
            | Node::Object { .. } => None,
        }
    }

    /// The member `name`, the last if there are several; `None` also if this is no object.
    pub(crate) fn member(self, name: &str) -> Option<Self> {
        let mut found = None;
        for (key, value) in self.members() {
            if key.text() == Some(name) {
                found = Some(value);
            }
        }
        found
    }

    /// The members of an object: key and value.
    pub(crate) fn members(self) -> impl Iterator<Item = (Self, Self)> {
        let end = match self.node() {
            Node::Object { end, .. } => *end,
            _ => 0,
        };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (key, value) = (Self { at, ..self }, Self { at: at + 1, ..self });
            at = value.behind();
            Some((key, value))
        })
    }

    /// The elements of an array.
    pub(crate) fn elements(self) -> impl Iterator<Item = Self> {
        let end = match self.node() {
            Node::Array { end, .. } => *end,
            _ => 0,
        };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let element = Self { at, ..self };
            at = element.behind();
            Some(element)
        })
    }

    fn behind(self) -> usize {
        match self.node() {
            Node::Array { end, .. } | Node::Object { end, .. } => *end,
            _ => self.at + 1,
        }
    }
}

/// Puts the next value of a JSON text at the end of a tape.
struct Reader<'a, 'e>(&'a mut Tape<'e>);

impl<'e> Reader<'_, 'e> {
    fn push<E: Error>(self, node: Node<'e>) -> Result<(), E> {
        if self.0.0.len() == NODES_MAX {
            return Err(E::custom("too many values"));
        }
        self.0.0.push(node);
        Ok(())
    }

    fn close(&mut self, at: usize, node: Node<'e>) {
        if let Some(open) = self.0.0.get_mut(at) {
            *open = node;
        }
    }
}

impl<'e> DeserializeSeed<'e> for Reader<'_, 'e> {
    type Value = ();

    fn deserialize<D: Deserializer<'e>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'e> Visitor<'e> for Reader<'_, 'e> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.push(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(Node::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(Node::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(i64::try_from(value).map_or(Node::Unsigned(value), Node::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(Node::Double(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'e str) -> Result<(), E> {
        self.push(Node::Text(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.push(Node::Escaped(value.into()))
    }

    fn visit_seq<A: SeqAccess<'e>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let at = self.0.0.len();
        Reader(self.0).push(Node::Null)?;
        let mut count = 0;
        while elements.next_element_seed(Reader(self.0))?.is_some() {
            count += 1;
        }
        let end = self.0.0.len();
        self.close(at, Node::Array { count, end });
        Ok(())
    }

    fn visit_map<A: MapAccess<'e>>(mut self, mut members: A) -> Result<(), A::Error> {
        let at = self.0.0.len();
        Reader(self.0).push(Node::Null)?;
        let mut count = 0;
        while members.next_key_seed(Reader(self.0))?.is_some() {
            members.next_value_seed(Reader(self.0))?;
            count += 1;
        }
        let end = self.0.0.len();
        self.close(at, Node::Object { count, end });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_names() {
        let tape =
            Tape::read(br#" {"a":{"b":[1,{"c":"x"},-2.5]},"d":"q\"","a2":null,"d":18446744073709551615} "#);
        let tape = tape.unwrap();
        let list = tape.root().member("a").unwrap().member("b").unwrap();
        let elements: Vec<Place<'_>> = list.elements().collect();
        assert!(matches!(list.node(), Node::Array { count: 3, .. }));
        assert!(matches!(elements[0].node(), Node::Integer(1)));
        assert_eq!(elements[1].member("c").unwrap().text(), Some("x"));
        assert!(matches!(elements[2].node(), Node::Double(value) if *value == -2.5));
        assert!(matches!(tape.root().member("a2").unwrap().node(), Node::Null));
        assert!(matches!(tape.root().member("d").unwrap().node(), Node::Unsigned(u64::MAX)), "the last one");
        assert!(tape.root().member("x").is_none() && list.member("b").is_none());
        assert_eq!(tape.root().members().count(), 4);
    }

    #[test]
    fn what_is_no_json_or_too_much_is_not_read() {
        for data in ["", "{", "[1,]", "{} {}", "nul", "\u{feff}{}"] {
            assert!(Tape::read(data.as_bytes()).is_none(), "{data}");
        }
        assert!(Tape::read(b"\"\xff\"").is_none());
        assert!(Tape::read("[".repeat(200).as_bytes()).is_none(), "too deep");
        let wide = format!("[{}0]", "0,".repeat(NODES_MAX));
        assert!(Tape::read(wide.as_bytes()).is_none());
        let long = format!("\"{}\"", "x".repeat(DATA_MAX));
        assert!(Tape::read(long.as_bytes()).is_none());
    }
}
