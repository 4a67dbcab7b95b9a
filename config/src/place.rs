//! Keys, where they were written, and how a mistake is told.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a setting: one line that names the place, the key, the value and a way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// Where it was written.
    pub place: Place,
    /// The key and its value as written, such as `mqtt.listen = "x"`; empty if the place says enough.
    pub setting: String,
    /// What is wrong.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, from 1 on; 0: the file as a whole.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A command line flag.
    Flag(String),
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        f.write_str(&self.what)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, 0) => write!(f, "{}", path.display()),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The way to a value: keys, and places in arrays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Name(String),
    Index(usize),
}

impl Key {
    /// A key of names, between dots.
    pub(crate) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(|name| Step::Name(name.to_owned())).collect())
    }

    pub(crate) fn name(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Name(name.to_owned()));
        Self(steps)
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The table it is in.
    pub(crate) fn parent(&self) -> Self {
        Self(self.0.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default())
    }

    /// The last name.
    pub(crate) fn last(&self) -> &str {
        match self.0.last() {
            Some(Step::Name(name)) => name,
            Some(Step::Index(_)) | None => "",
        }
    }

    /// The key as it is shown with `value`; a secret is not shown.
    pub(crate) fn setting(&self, value: &str) -> String {
        let name = self.last();
        let secret = (name.contains("secret") || name.contains("password")) && !name.contains("file");
        match value.lines().next() {
            Some(line) if !secret && !line.is_empty() => format!("{self} = {line}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if at == 0 => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where the keys of a file are.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    path: PathBuf,
    text: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    name: Range<usize>,
    value: Range<usize>,
}

impl Document {
    pub(crate) fn new(path: &Path, text: &str) -> Result<Self, toml::de::Error> {
        let table = DeTable::parse(text)?;
        let mut entries = Vec::new();
        collect(&Key::default(), table.get_ref(), &mut entries);
        Ok(Self { path: path.to_owned(), text: text.to_owned(), entries })
    }

    /// The key at `span`, or the table around it, with its value as written.
    pub(crate) fn key_at(&self, span: &Range<usize>) -> (Key, String) {
        let holds = |range: &Range<usize>| range.start <= span.start && span.start < range.end;
        let width = |entry: &&Entry| entry.value.end.saturating_sub(entry.name.start);
        match self.entries.iter().filter(|e| holds(&e.name) || holds(&e.value)).min_by_key(width) {
            Some(entry) => (entry.key.clone(), self.value(entry)),
            None => (Key::default(), String::new()),
        }
    }

    /// Where `key` is written, and its value as written.
    pub(crate) fn find(&self, key: &Key) -> Option<(Place, String)> {
        let entry = self.entries.iter().find(|entry| entry.key == *key)?;
        Some((self.place(entry.name.start), self.value(entry)))
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        Place::File(self.path.clone(), line(&self.text, offset))
    }

    fn value(&self, entry: &Entry) -> String {
        let text = self.text.get(entry.value.clone()).unwrap_or_default();
        // The span of a `[table]` is its header: that is no value.
        if entry.value.start <= entry.name.start { String::new() } else { text.to_owned() }
    }
}

/// The line of `offset`, from 1 on.
pub(crate) fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn collect(prefix: &Key, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = prefix.name(name.get_ref());
        entries.push(Entry { key: key.clone(), name: name.span(), value: value.span() });
        collect_value(&key, value, entries);
    }
}

fn collect_value(key: &Key, value: &Spanned<DeValue<'_>>, entries: &mut Vec<Entry>) {
    if let DeValue::Table(table) = value.get_ref() {
        collect(key, table, entries);
    }
    if let DeValue::Array(items) = value.get_ref() {
        for (index, item) in items.iter().enumerate() {
            let key = key.index(index);
            entries.push(Entry { key: key.clone(), name: item.span(), value: item.span() });
            collect_value(&key, item, entries);
        }
    }
}
