//! From file, environment and flags to a checked [`Config`].

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::place::{Document, Key, Mistake, Place, Step, line};
use crate::schema::Schema;
use crate::{Config, check};

/// Where settings come from, from weak to strong.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file that has to be there.
    pub file: Option<PathBuf>,
    /// Names and values of the environment. Read: `WEFT_{KEY}` for a key of the top level, and
    /// `WEFT_{TABLE}__{KEY}`; a name with one underscore that is no key belongs to somebody else.
    pub environment: Vec<(String, String)>,
    /// What was said on the command line.
    pub flags: Vec<Flag>,
}

/// A setting from the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it was written, such as `--mqtt`.
    pub name: &'static str,
    /// The key it sets, between dots.
    pub key: &'static str,
    /// Its value, as text.
    pub value: String,
}

/// Settings, read and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file they were read from, if any.
    pub file: Option<PathBuf>,
    written: Written,
}

impl Loaded {
    /// A mistake in the value of `key`, a name between dots, that only its use shows.
    pub fn mistake(&self, key: &str, what: impl Into<String>) -> Mistake {
        self.written.mistake(&Key::dotted(key), what, "")
    }
}

/// Reads and checks all settings.
///
/// # Errors
/// The first mistake, with its place.
pub fn load(sources: &Sources) -> Result<Loaded, Mistake> {
    let schema = Schema::new();
    let (mut table, document) = match &sources.file {
        None => (Table::new(), None),
        Some(path) => {
            let (table, document) = read_file(path, &schema)?;
            (table, Some(document))
        }
    };
    let mut overrides = from_environment(sources, &schema)?;
    overrides.extend(from_flags(sources));
    let below = table.clone();
    for (key, _, text) in &overrides {
        // A key that cannot be set stays unset here, and is blamed below.
        set(&mut table, &key.0, to_value(&schema, key, text)).unwrap_or(());
    }
    let config = read_table(&table).map_err(|what| blame(below, &overrides, &schema, what))?;
    let written = Written { document, overrides };
    check_ranges(&Key::default(), &Value::Table(table), &schema, &written)?;
    check::across(&config, &written)?;
    Ok(Loaded { config, file: sources.file.clone(), written })
}

/// Finds the override that spoils the settings below it.
fn blame(mut table: Table, overrides: &[Override], schema: &Schema, otherwise: String) -> Mistake {
    for (key, place, text) in overrides {
        let outcome =
            set(&mut table, &key.0, to_value(schema, key, text)).and_then(|()| read_table(&table).map(drop));
        if let Err(what) = outcome {
            let what = out_of_range(schema, key, text).unwrap_or(what);
            return mistake(place.clone(), key.setting(text), what, &hint(schema, key));
        }
    }
    mistake(Place::Default, String::new(), otherwise, "")
}

/// A key, where it was set over the file, and to what.
type Override = (Key, Place, String);

/// What was written where.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    document: Option<Document>,
    overrides: Vec<Override>,
}

impl Written {
    /// Where `key` is written, or else the table around it, and its value as written.
    fn find(&self, key: &Key) -> Option<(Place, String)> {
        if let Some((_, place, value)) = self.overrides.iter().rfind(|(other, ..)| other == key) {
            return Some((place.clone(), value.clone()));
        }
        if let Some(found) = self.document.as_ref().and_then(|document| document.find(key)) {
            return Some(found);
        }
        let table = key.parent();
        if table.0.is_empty() { None } else { self.find(&table).map(|(place, _)| (place, String::new())) }
    }

    /// A mistake in the value of `key`.
    pub(crate) fn mistake(&self, key: &Key, what: impl Into<String>, hint: impl Into<String>) -> Mistake {
        let (place, value) = self.find(key).unwrap_or((Place::Default, String::new()));
        Mistake { place, setting: key.setting(&value), what: what.into(), hint: hint.into() }
    }
}

fn read_file(path: &Path, schema: &Schema) -> Result<(Table, Document), Mistake> {
    let whole = |what: String| mistake(Place::File(path.to_owned(), 0), String::new(), what, "");
    let text = std::fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let syntax = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| line(&text, span.start));
        let setting = text.lines().nth(at.saturating_sub(1)).unwrap_or_default().trim();
        mistake(Place::File(path.to_owned(), at), setting.to_owned(), error.message().replace('\n', ", "), "")
    };
    let document = Document::new(path, &text).map_err(syntax)?;
    let table: Table = toml::from_str(&text).map_err(syntax)?;
    match toml::from_str::<Config>(&text) {
        Ok(_) => Ok((table, document)),
        Err(error) => Err(in_document(&document, &error, schema)),
    }
}

/// Puts what serde says into words, at the key where it says it.
fn in_document(document: &Document, error: &toml::de::Error, schema: &Schema) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let (key, value) = document.key_at(&span);
    let place = document.place(span.start);
    if error.message().starts_with("unknown field") {
        return mistake(place, key.to_string(), "there is no such key".to_owned(), &schema.nearest(&key));
    }
    let what = out_of_range(schema, &key, &value).unwrap_or_else(|| error.message().replace('\n', ", "));
    mistake(place, key.setting(&value), what, &hint(schema, &key))
}

fn mistake(place: Place, setting: String, what: String, hint: &str) -> Mistake {
    Mistake { place, setting, what, hint: hint.to_owned() }
}

/// The documentation of a value's key.
fn hint(schema: &Schema, key: &Key) -> String {
    schema.at(key).filter(|node| !node.is_table()).map(|node| node.documentation()).unwrap_or_default()
}

fn out_of_range(schema: &Schema, key: &Key, value: &str) -> Option<String> {
    let (low, high) = schema.at(key)?.range()?;
    let number: f64 = value.trim().replace('_', "").parse().ok()?;
    (number < low || number > high).then(|| format!("out of range {low}..={high}"))
}

fn check_ranges(key: &Key, value: &Value, schema: &Schema, written: &Written) -> Result<(), Mistake> {
    match value {
        Value::Table(table) => {
            table.iter().try_for_each(|(name, value)| check_ranges(&key.name(name), value, schema, written))
        }
        Value::Array(list) => {
            let mut items = list.iter().enumerate();
            items.try_for_each(|(index, value)| check_ranges(&key.index(index), value, schema, written))
        }
        Value::Integer(number) => match out_of_range(schema, key, &number.to_string()) {
            Some(what) => Err(written.mistake(key, what, hint(schema, key))),
            None => Ok(()),
        },
        Value::String(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => Ok(()),
    }
}

fn read_table(table: &Table) -> Result<Config, String> {
    Config::deserialize(table.clone()).map_err(|error| error.message().replace('\n', ", "))
}

fn from_environment(sources: &Sources, schema: &Schema) -> Result<Vec<Override>, Mistake> {
    let mut list = Vec::new();
    for (name, value) in &sources.environment {
        let Some(rest) = name.strip_prefix("WEFT_") else { continue };
        let key = Key(rest.split("__").map(|part| Step::Name(part.to_ascii_lowercase())).collect());
        let place = Place::Variable(name.clone());
        match schema.at(&key) {
            Some(_) => list.push((key, place, value.clone())),
            None if key.0.len() > 1 => {
                let hint = schema.nearest(&key);
                return Err(mistake(place, key.to_string(), "there is no such key".to_owned(), &hint));
            }
            None => {}
        }
    }
    list.sort_by_key(|(key, ..)| key.to_string());
    Ok(list)
}

fn from_flags(sources: &Sources) -> impl Iterator<Item = Override> {
    let flags = sources.flags.iter();
    flags.map(|flag| (Key::dotted(flag.key), Place::Flag(flag.name.to_owned()), flag.value.clone()))
}

/// Text as it is where text belongs; elsewhere what TOML reads from it.
fn to_value(schema: &Schema, key: &Key, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    if schema.at(key).is_some_and(|node| node.is_text()) {
        return as_text();
    }
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    parsed.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(as_text)
}

fn set(table: &mut Table, steps: &[Step], value: Value) -> Result<(), String> {
    match steps {
        [Step::Name(name)] => {
            table.insert(name.clone(), value);
            Ok(())
        }
        [Step::Name(name), rest @ ..] => {
            match table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(inner) => set(inner, rest, value),
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => Err(format!("{name} is not a table")),
            }
        }
        [] | [Step::Index(_), ..] => Err("is not a key".to_owned()),
    }
}
