//! Writes JSON. Sans-io.

use serde::Serialize;

use crate::data::{Node, Place};

/// A value of the data, without white space.
pub(crate) fn place(out: &mut Vec<u8>, place: Place<'_>) {
    // Reading bounds the depth: serde_json takes 128 levels.
    match place.node() {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Boolean(value) => boolean(out, *value),
        Node::Integer(value) => number(out, *value),
        Node::Unsigned(value) => number(out, *value),
        Node::Double(value) => number(out, *value),
        Node::Text(value) => text(out, value),
        Node::Escaped(value) => text(out, value),
        Node::Array { .. } => list(out, place.elements(), self::place),
        Node::Object { .. } => {
            object(out, place.members().map(|(key, value)| (key.text(), value)), self::place)
        }
    }
}

/// A list, each element written by `each`.
pub(crate) fn list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

/// An object, each value written by `each`.
pub(crate) fn object<'n, T>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (Option<&'n str>, T)>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'{');
    for (at, (name, value)) in members.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, name.unwrap_or_default());
        out.push(b':');
        each(out, value);
    }
    out.push(b'}');
}

pub(crate) fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// A number; one that JSON does not have is `null`.
pub(crate) fn number(out: &mut Vec<u8>, value: impl Serialize) {
    // Writing to memory has no way to fail.
    serde_json::to_writer(out, &value).unwrap_or_default();
}

pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).unwrap_or_default();
}
