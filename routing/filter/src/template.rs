//! Templates: texts with places that an event fills. Sans-io.
//!
//! | place | filled with |
//! |---|---|
//! | `{topic}` | the topic |
//! | `{1}`, `{2}`, … | that level of the topic, from 1 on |
//! | `{2..}` | that level and all behind it |
//! | `{NAME}` | the attribute of this name, as filters see it |
//! | `{data}` | the data, if it is JSON |
//! | `{data.a.b}`, `{data.list[0]}`, `{data["a name"]}` | a part of it |
//!
//! `{{` and `}}` are braces.

use event::event::is_attribute_name;
use event::{TopicError, TopicName, Value};

use crate::data::{Node, Place};
use crate::error::{FilterError, shown};
use crate::view::{Attribute, EventView, Name};
use crate::write;

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Place(Reference),
}

/// What a place is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Topic,
    /// A level, from 0 on.
    Level(usize),
    /// This level and all behind it.
    From(usize),
    Attribute(Name),
    Data(Box<[Step]>),
}

/// A step into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Member(Box<str>),
    Element(usize),
}

/// What a reference finds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'v> {
    Attribute(Attribute<'v>),
    Json(Place<'v>),
}

/// The longest template, in bytes.
pub const TEMPLATE_MAX: usize = 16 << 10;
/// Levels of a topic and steps into JSON that a place can name.
const STEPS_MAX: usize = 128;

/// A text that is filled, and whether an event had something for every place of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled<T> {
    /// With nothing at the places for which there was nothing.
    pub value: T,
    /// There was something for each.
    pub whole: bool,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A place that is not closed or names nothing, a brace that closes none, more than [`TEMPLATE_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > TEMPLATE_MAX {
            return Err(FilterError::new(text, TEMPLATE_MAX, format!("longer than {TEMPLATE_MAX} bytes")));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(brace) = text.get(at..).and_then(|rest| rest.find(['{', '}'])) {
            let brace = at + brace;
            plain.push_str(text.get(at..brace).unwrap_or_default());
            let rest = text.get(brace..).unwrap_or_default();
            if let Some(double) = ["{{", "}}"].into_iter().find(|double| rest.starts_with(double)) {
                plain.push_str(double.get(1..).unwrap_or_default());
                at = brace + 2;
                continue;
            }
            if rest.starts_with('}') {
                return Err(FilterError::new(
                    text,
                    brace,
                    "\"}\" closes no place; a brace is written \"}}\"",
                ));
            }
            let Some(end) = rest.find('}') else {
                let message = "a place is closed with \"}\"; a brace is written \"{{\"";
                return Err(FilterError::new(text, brace, message));
            };
            let inner = rest.get(1..end).unwrap_or_default();
            let place = Reference::parse(inner).ok_or_else(|| {
                let message = format!(
                    "{:?} is no place: those are topic, a level such as 2 or 2.., an attribute, data and data.NAME",
                    shown(inner)
                );
                FilterError::new(text, brace + 1, message)
            })?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Place(place));
            at = brace + end + 1;
        }
        plain.push_str(text.get(at..).unwrap_or_default());
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces))
    }

    /// A template that makes topics. What an event puts into it may not change its levels, so `/`, `+` and `#` of a value
    /// become `_`; `{topic}` and `{2..}` keep their levels.
    ///
    /// # Errors
    /// As [`Self::parse`], and if no topic that a client may publish to can come of it.
    pub fn topic(text: &str) -> Result<Self, FilterError> {
        let template = Self::parse(text)?;
        let refuse = |message: String| Err(FilterError::new(text, 0, message));
        let reserved = "topics of $SYS, $share, $replay and $weft are Weft's own";
        let mut first = None;
        for (at, piece) in template.0.iter().enumerate() {
            let Piece::Text(text) = piece else { continue };
            if let Err(error) = TopicName::parse(&**text) {
                return refuse(error.to_string());
            }
            if at == 0 && (template.0.len() == 1 || text.contains('/')) {
                first = TopicName::parse(&**text).ok();
            }
        }
        if template.0.is_empty() {
            return refuse(TopicError::Empty.to_string());
        }
        match first.is_some_and(|first| first.is_reserved()) {
            true => refuse(reserved.to_owned()),
            false => Ok(template),
        }
    }

    /// The value of one attribute, whatever its name.
    pub fn attribute(name: &str) -> Self {
        Self(vec![Piece::Place(Reference::Attribute(Name::new(name)))])
    }

    /// Whether it is one place and nothing else.
    pub(crate) fn only(&self) -> Option<&Reference> {
        match &*self.0 {
            [Piece::Place(place)] => Some(place),
            _ => None,
        }
    }

    /// Fills it. Numbers, lists and objects are written as in JSON; `null` is as nothing.
    pub fn fill(&self, view: &EventView<'_>) -> Filled<String> {
        let mut value = String::new();
        let mut whole = true;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Place(place) => {
                    let found = place.find(view);
                    whole &= found.is_some_and(|found| found.write_text(&mut value));
                }
            }
        }
        Filled { value, whole }
    }

    /// Fills a template that [`Self::topic`] read. Whether a topic came of it, who asked for it has to see.
    pub fn fill_topic(&self, view: &EventView<'_>) -> Filled<String> {
        let mut value = String::new();
        let mut whole = true;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Place(place) => {
                    let from = value.len();
                    let found = place.find(view);
                    whole &= found.is_some_and(|found| found.write_text(&mut value)) && value.len() > from;
                    if !place.has_levels() && value.get(from..).is_some_and(|put| put.contains(LEVEL_SIGNS)) {
                        let put = value.split_off(from).replace(LEVEL_SIGNS, "_");
                        value.push_str(&put);
                    }
                }
            }
        }
        Filled { value, whole }
    }

    /// Fills it as the value of an attribute: a place that stands alone keeps its kind.
    pub fn fill_value(&self, view: &EventView<'_>) -> Filled<Value> {
        let typed = self.only().and_then(|place| place.find(view)).and_then(Found::typed);
        match typed {
            Some(value) => Filled { value, whole: true },
            None => {
                let Filled { value, whole } = self.fill(view);
                Filled { value: Value::String(value.into()), whole }
            }
        }
    }
}

/// What makes levels and wildcards of a topic.
const LEVEL_SIGNS: [char; 3] = ['/', '+', '#'];

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        let level = |text: &str| {
            let number: usize =
                text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))?;
            number.checked_sub(1).filter(|level| *level < STEPS_MAX)
        };
        if let Some(from) = text.strip_suffix("..") {
            return level(from).map(Self::From);
        }
        if let Some(at) = level(text) {
            return Some(Self::Level(at));
        }
        match text {
            "topic" => return Some(Self::Topic),
            "data" => return Some(Self::Data(Box::default())),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("data") {
            // An attribute may begin with these letters as well.
            if path.starts_with(['.', '[']) {
                return steps(path).map(Self::Data);
            }
        }
        let named = is_attribute_name(text) && !text.bytes().all(|byte| byte.is_ascii_digit());
        named.then(|| Self::Attribute(Name::new(text)))
    }

    fn has_levels(&self) -> bool {
        match self {
            Self::Topic | Self::From(_) => true,
            Self::Level(_) | Self::Attribute(_) | Self::Data(_) => false,
        }
    }

    /// What an event has for it.
    pub(crate) fn find<'v>(&self, view: &'v EventView<'_>) -> Option<Found<'v>> {
        let topic = view.event().topic();
        let text = |text: &'v str| Found::Attribute(Attribute::Text(text));
        match self {
            Self::Topic => Some(text(topic.as_str())),
            Self::Level(at) => topic.levels().nth(*at).map(text),
            Self::From(at) => {
                let whole = topic.as_str();
                let start = match at.checked_sub(1) {
                    None => 0,
                    Some(slash) => whole.match_indices('/').nth(slash)?.0 + 1,
                };
                whole.get(start..).map(text)
            }
            Self::Attribute(name) => view.attribute(name).map(Found::Attribute),
            Self::Data(steps) => {
                let step = |place: Place<'v>, step: &Step| match step {
                    Step::Member(name) => place.member(name),
                    Step::Element(at) => place.elements().nth(*at),
                };
                steps.iter().try_fold(view.data()?.root(), step).map(Found::Json)
            }
        }
    }
}

impl Found<'_> {
    /// Writes it as text; false if it is nothing.
    fn write_text(self, out: &mut String) -> bool {
        match self {
            Self::Attribute(Attribute::Text(text)) => out.push_str(text),
            Self::Attribute(Attribute::Boolean(value)) => out.push_str(if value { "true" } else { "false" }),
            Self::Attribute(Attribute::Integer(value)) => out.push_str(&value.to_string()),
            Self::Json(place) => match (place.text(), place.node()) {
                (Some(text), _) => out.push_str(text),
                (None, Node::Null) => return false,
                (None, _) => {
                    let mut json = Vec::new();
                    write::place(&mut json, place);
                    out.push_str(std::str::from_utf8(&json).unwrap_or_default());
                }
            },
        }
        true
    }

    /// As the value of an attribute, if it is a truth value or an integer that one can hold.
    fn typed(self) -> Option<Value> {
        match self {
            Self::Attribute(Attribute::Boolean(value)) => Some(Value::Boolean(value)),
            Self::Attribute(Attribute::Integer(value)) => Some(Value::Integer(value)),
            Self::Attribute(Attribute::Text(_)) => None,
            Self::Json(place) => match place.node() {
                Node::Boolean(value) => Some(Value::Boolean(*value)),
                Node::Integer(value) => i32::try_from(*value).ok().map(Value::Integer),
                _ => None,
            },
        }
    }

    /// Writes it as JSON.
    pub(crate) fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::Attribute(Attribute::Text(text)) => write::text(out, text),
            Self::Attribute(Attribute::Boolean(value)) => write::boolean(out, value),
            Self::Attribute(Attribute::Integer(value)) => write::number(out, value),
            Self::Json(place) => write::place(out, place),
        }
    }
}

/// `.name`, `[0]` and `["a name"]`, one behind the other.
fn steps(mut rest: &str) -> Option<Box<[Step]>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == STEPS_MAX {
            return None;
        }
        if let Some(behind) = rest.strip_prefix('.') {
            let end = behind.find(['.', '[']).unwrap_or(behind.len());
            let (name, behind) = behind.split_at_checked(end)?;
            if name.is_empty() || name.contains([' ', ']', '"']) {
                return None;
            }
            steps.push(Step::Member(name.into()));
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("[\"") {
            let (name, behind) = behind.split_once("\"]")?;
            steps.push(Step::Member(name.into()));
            rest = behind;
        } else {
            let (at, behind) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Element(at.parse().ok()?));
            rest = behind;
        }
    }
    Some(steps.into())
}

#[cfg(test)]
mod tests;
