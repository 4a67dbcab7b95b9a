//! What the schema of [`Config`] knows of a key: its documentation, range, kind and neighbours.

use serde_json::Value;

use crate::Config;
use crate::place::{Key, Step};

/// The JSON Schema of the configuration.
#[derive(Debug)]
pub(crate) struct Schema(Value);

/// The part of the schema that describes one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    /// As the field has it: with the documentation.
    field: &'a Value,
    /// With references followed.
    target: &'a Value,
}

impl Schema {
    pub(crate) fn new() -> Self {
        Self(schemars::schema_for!(Config).to_value())
    }

    /// The description of `key`, if there is such a key.
    pub(crate) fn at(&self, key: &Key) -> Option<Node<'_>> {
        let mut node = Node { field: &self.0, target: &self.0 };
        for step in &key.0 {
            let field = match step {
                Step::Name(name) => {
                    // A table in a list of tables may be named without its place: `[[route.to]]`.
                    let list = node.target.get("items").map(|items| self.follow(items));
                    let table = list.unwrap_or(node.target);
                    let named = table.get("properties").and_then(|list| list.get(name));
                    named.or_else(|| table.get("additionalProperties").filter(|value| value.is_object()))?
                }
                Step::Index(_) => node.target.get("items")?,
            };
            node = Node { field, target: self.follow(field) };
        }
        Some(node)
    }

    /// The names in the table `key`.
    pub(crate) fn names(&self, key: &Key) -> Vec<&str> {
        let properties =
            self.at(key).and_then(|node| node.target.get("properties")).and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    /// What an unknown key was meant to be, as a hint.
    pub(crate) fn nearest(&self, key: &Key) -> String {
        let table = key.parent();
        let wrong = key.last();
        let names = self.names(&table);
        let elsewhere = self.names(&Key::default()).into_iter().map(|name| Key::default().name(name));
        if let Some(other) = elsewhere.map(|other| other.name(wrong)).find(|other| self.is_property(other)) {
            return format!("did you mean {other}?");
        }
        let near = names.iter().map(|name| (distance(name, wrong), *name)).min();
        if let Some((far, name)) = near
            && far <= 1 + wrong.len() / 3
        {
            return format!("did you mean {}?", table.name(name));
        }
        match names.is_empty() {
            true => String::new(),
            false => format!("known here: {}", names.join(", ")),
        }
    }

    fn is_property(&self, key: &Key) -> bool {
        self.names(&key.parent()).contains(&key.last())
    }

    /// Follows references, and takes the one real choice of an optional value.
    fn follow<'a>(&'a self, mut field: &'a Value) -> &'a Value {
        loop {
            let reference = field.get("$ref").and_then(Value::as_str);
            let choice = || {
                let list = field.get("anyOf")?.as_array()?;
                list.iter().find(|choice| choice.get("type").is_none_or(|kind| kind != "null"))
            };
            let next = match reference {
                Some(path) => path.strip_prefix('#').and_then(|path| self.0.pointer(path)),
                None => choice(),
            };
            match next {
                Some(next) => field = next,
                None => return field,
            }
        }
    }
}

impl<'a> Node<'a> {
    /// The documentation, on one line.
    pub(crate) fn documentation(self) -> String {
        let text = |value: &'a Value| value.get("description").and_then(Value::as_str);
        let text = text(self.field).or_else(|| text(self.target)).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The range of a number.
    pub(crate) fn range(self) -> Option<(f64, f64)> {
        let number = |name| {
            let written = self.field.get(name).or_else(|| self.target.get(name));
            written.and_then(Value::as_f64)
        };
        let kind = self.target.get("format").and_then(Value::as_str).unwrap_or_default();
        let widest = match kind {
            "uint8" => (0.0, f64::from(u8::MAX)),
            "uint16" => (0.0, f64::from(u16::MAX)),
            "uint32" => (0.0, f64::from(u32::MAX)),
            "uint" | "uint64" => (0.0, 9_223_372_036_854_775_807.0),
            _ => return None,
        };
        Some((number("minimum").unwrap_or(widest.0), number("maximum").unwrap_or(widest.1)))
    }

    /// Whether a text belongs here, so that an environment variable need not be quoted.
    pub(crate) fn is_text(self) -> bool {
        let is_string = |value: &Value| {
            value.get("type").is_some_and(|kind| {
                kind == "string"
                    || kind.as_array().is_some_and(|list| list.iter().any(|kind| kind == "string"))
            }) || value.get("enum").is_some()
        };
        let variants = self.target.get("oneOf").and_then(Value::as_array);
        is_string(self.target)
            || variants.is_some_and(|list| list.iter().all(|v| is_string(v) || v.get("const").is_some()))
    }

    /// Whether it is `[[name]]`.
    pub(crate) fn is_list_of_tables(self) -> bool {
        let items = self.target.get("items");
        items.is_some_and(|items| items.get("$ref").is_some() || items.get("properties").is_some())
    }

    /// Whether it has keys of its own.
    pub(crate) fn is_table(self) -> bool {
        self.target.get("properties").is_some()
            || self.target.get("additionalProperties").is_some_and(Value::is_object)
    }
}

/// How many letters differ: insertions, deletions, replacements (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((other, above), corner) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((corner + usize::from(letter != *other)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
