//! Builds new data from an event: JSON, or text. Sans-io.

use serde::de::IgnoredAny;

use crate::cel;
use crate::data::{DATA_MAX, Node, Place, Tape};
use crate::error::{FilterError, shown};
use crate::template::{Filled, TEMPLATE_MAX, Template};
use crate::view::EventView;
use crate::write;

/// How data is built; compiled.
#[derive(Debug)]
pub struct Build(Kind);

#[derive(Debug)]
enum Kind {
    Json(Shape),
    Cel(cel::Expression),
    Text(Template),
}

/// A JSON value whose texts are templates.
#[derive(Debug)]
enum Shape {
    /// Written as it is.
    Fixed(Box<[u8]>),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(Box<str>, Self)>),
}

/// The most that [`Build::make`] makes, in bytes.
pub const BUILT_MAX: usize = DATA_MAX;

/// Why there is no new data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBuilt {
    /// The expression has no value for this event, none that JSON can say, or cost too much.
    NoValue,
    /// More than [`BUILT_MAX`] bytes.
    TooLarge,
}

impl Build {
    /// Compiles `json: TEMPLATE`, `cel: EXPRESSION` or `text: TEMPLATE`. In a JSON template every text is a template; one that
    /// is a single place becomes what it is filled with, of whatever kind.
    ///
    /// # Errors
    /// What is wrong and where, from the beginning of the template or the expression.
    pub fn compile(text: &str) -> Result<Self, FilterError> {
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let rest = rest.trim();
        Ok(Self(match kind.trim() {
            "json" => Kind::Json(Shape::parse(rest)?),
            "cel" => Kind::Cel(cel::Expression::value(rest)?),
            "text" => Kind::Text(Template::parse(rest)?),
            _ => {
                let message = "data is written \"json: TEMPLATE\", \"cel: EXPRESSION\" or \"text: TEMPLATE\"";
                return Err(FilterError::new(text, 0, message));
            }
        }))
    }

    /// The media type of what it makes.
    pub fn media_type(&self) -> &'static str {
        match self.0 {
            Kind::Json(_) | Kind::Cel(_) => "application/json",
            Kind::Text(_) => "text/plain",
        }
    }

    /// The new data. What is not there is `null` in JSON, and nothing in a text.
    ///
    /// # Errors
    /// There is none.
    pub fn make(&self, view: &EventView<'_>) -> Result<Filled<Vec<u8>>, NotBuilt> {
        let mut made = Made { out: Vec::new(), whole: true, full: false };
        match &self.0 {
            Kind::Json(shape) => shape.write(view, &mut made),
            Kind::Cel(expression) => expression.write(view, &mut made.out).ok_or(NotBuilt::NoValue)?,
            Kind::Text(template) => {
                let filled = template.fill(view);
                made.whole = filled.whole;
                made.out = filled.value.into_bytes();
            }
        }
        match made.full || made.out.len() > BUILT_MAX {
            true => Err(NotBuilt::TooLarge),
            false => Ok(Filled { value: made.out, whole: made.whole }),
        }
    }
}

struct Made {
    out: Vec<u8>,
    whole: bool,
    /// Writing went on no further.
    full: bool,
}

impl Shape {
    fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > TEMPLATE_MAX {
            return Err(FilterError::new(text, TEMPLATE_MAX, format!("longer than {TEMPLATE_MAX} bytes")));
        }
        if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
            let start: usize =
                text.lines().take(error.line().saturating_sub(1)).map(|line| line.len() + 1).sum();
            let offset = (start + error.column().saturating_sub(1)).min(text.len());
            return Err(FilterError::new(text, offset, format!("no JSON: {error}")));
        }
        let tape = Tape::read(text.as_bytes());
        let tape = tape.ok_or_else(|| FilterError::new(text, 0, "too many values"))?;
        Self::of(text, tape.root())
    }

    fn of(whole: &str, place: Place<'_>) -> Result<Self, FilterError> {
        if let Some(text) = place.text() {
            let template = Template::parse(text).map_err(|error| {
                let offset = whole.find(text).unwrap_or_default();
                FilterError::new(whole, offset, format!("in {:?}, {error}", shown(text)))
            })?;
            return Ok(Self::Text(template));
        }
        match place.node() {
            Node::Array { .. } => {
                place.elements().map(|item| Self::of(whole, item)).collect::<Result<_, _>>().map(Self::List)
            }
            Node::Object { .. } => {
                let member = |(key, value): (Place<'_>, Place<'_>)| {
                    Ok((Box::from(key.text().unwrap_or_default()), Self::of(whole, value)?))
                };
                place.members().map(member).collect::<Result<_, _>>().map(Self::Object)
            }
            _ => {
                let mut fixed = Vec::new();
                write::place(&mut fixed, place);
                Ok(Self::Fixed(fixed.into()))
            }
        }
    }

    fn write(&self, view: &EventView<'_>, made: &mut Made) {
        if made.out.len() > BUILT_MAX {
            made.full = true;
            return;
        }
        match self {
            Self::Fixed(json) => made.out.extend_from_slice(json),
            Self::Text(template) => match template.only() {
                Some(place) => match place.find(view) {
                    Some(found) => found.write_json(&mut made.out),
                    None => {
                        made.whole = false;
                        made.out.extend_from_slice(b"null");
                    }
                },
                None => {
                    let filled = template.fill(view);
                    made.whole &= filled.whole;
                    write::text(&mut made.out, &filled.value);
                }
            },
            Self::List(list) => {
                made.out.push(b'[');
                for (at, item) in list.iter().enumerate() {
                    made.comma(at);
                    item.write(view, made);
                }
                made.out.push(b']');
            }
            Self::Object(members) => {
                made.out.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    made.comma(at);
                    write::text(&mut made.out, name);
                    made.out.push(b':');
                    value.write(view, made);
                }
                made.out.push(b'}');
            }
        }
    }
}

impl Made {
    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.out.push(b',');
        }
    }
}
