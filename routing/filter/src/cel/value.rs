//! Values of CEL and what can be asked of two of them. Sans-io.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use super::evaluate::LIST_COST;
use crate::data::{Node, Place};
use crate::fuel::Fuel;
use crate::write;

/// A value. Those of the data stay where they are.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Double(f64),
    Text(Cow<'a, str>),
    List(Rc<Vec<Self>>),
    /// An array or an object of the data.
    Json(Place<'a>),
    /// The attributes.
    Event,
}

impl<'a> From<Place<'a>> for Value<'a> {
    fn from(place: Place<'a>) -> Self {
        match place.node() {
            Node::Null => Self::Null,
            Node::Boolean(value) => Self::Boolean(*value),
            Node::Integer(value) => Self::Integer(*value),
            Node::Unsigned(value) => Self::Unsigned(*value),
            Node::Double(value) => Self::Double(*value),
            Node::Text(text) => Self::Text(Cow::Borrowed(text)),
            Node::Escaped(text) => Self::Text(Cow::Borrowed(text)),
            Node::Array { .. } | Node::Object { .. } => Self::Json(place),
        }
    }
}

impl<'a> Value<'a> {
    /// The elements of a list, or the keys of an object; `None` if it is neither.
    pub(super) fn elements(&self) -> Option<Box<dyn Iterator<Item = Self> + 'a>> {
        match self {
            Self::List(list) => {
                let list = Rc::clone(list);
                Some(Box::new((0..list.len()).filter_map(move |at| list.get(at).cloned())))
            }
            Self::Json(place) => match place.node() {
                Node::Array { .. } => Some(Box::new(place.elements().map(Value::from))),
                _ => Some(Box::new(place.members().map(|(key, _)| Value::from(key)))),
            },
            Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::Unsigned(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Event => None,
        }
    }

    /// How many bytes it takes to copy it, beside a few that count for nothing: those of a text that was made.
    pub(super) fn copied(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.len(),
            Self::Text(Cow::Borrowed(_))
            | Self::Null
            | Self::Boolean(_)
            | Self::Integer(_)
            | Self::Unsigned(_)
            | Self::Double(_)
            | Self::List(_)
            | Self::Json(_)
            | Self::Event => 0,
        }
    }

    /// Writes it as JSON; `None`: JSON has no such value, or it is too costly.
    pub(super) fn write(&self, out: &mut Vec<u8>, fuel: &mut Fuel) -> Option<()> {
        fuel.take(1)?;
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(value) => write::boolean(out, *value),
            Self::Integer(value) => write::number(out, *value),
            Self::Unsigned(value) => write::number(out, *value),
            Self::Double(value) if value.is_finite() => write::number(out, *value),
            Self::Double(_) | Self::Event => return None,
            Self::Text(text) => {
                fuel.take(text.len() / 16)?;
                write::text(out, text);
            }
            Self::List(list) => {
                out.push(b'[');
                for (at, item) in list.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out, fuel)?;
                }
                out.push(b']');
            }
            // Once: a list of the same part many times over costs what it writes.
            Self::Json(place) => {
                let before = out.len();
                write::place(out, *place);
                fuel.take((out.len() - before) / 16)?;
            }
        }
        Some(())
    }

    /// Whether it is a list of either kind.
    pub(super) fn is_list(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Json(place) => matches!(place.node(), Node::Array { .. }),
            _ => false,
        }
    }

    /// Whether both are the same. Values of different kinds are not, but numbers of all kinds are compared by what they
    /// are. `None`: too costly.
    pub(super) fn equals(&self, other: &Self, fuel: &mut Fuel) -> Option<bool> {
        fuel.take(1)?;
        Some(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                fuel.take(a.len() / 16)?;
                a == b
            }
            (Self::Json(a), Self::Json(b)) if !self.is_list() && !other.is_list() => {
                objects_equal(*a, *b, fuel)?
            }
            _ if self.is_list() && other.is_list() => {
                fuel.take(2 * LIST_COST)?;
                let (mut a, mut b) = (self.elements()?, other.elements()?);
                loop {
                    match (a.next(), b.next()) {
                        (None, None) => break true,
                        (Some(a), Some(b)) => {
                            fuel.take(a.copied() + b.copied())?;
                            if !a.equals(&b, fuel)? {
                                break false;
                            }
                        }
                        _ => break false,
                    }
                }
            }
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        })
    }

    /// Which is less; `None` if they have no order.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            _ => self.compare_numbers(other),
        }
    }

    /// Whether both can be put in an order, though perhaps not these: NaN is before and behind nothing.
    pub(super) fn is_ordered_with(&self, other: &Self) -> bool {
        let number = |value: &Self| matches!(value, Self::Integer(_) | Self::Unsigned(_) | Self::Double(_));
        matches!((self, other), (Self::Text(_), Self::Text(_)) | (Self::Boolean(_), Self::Boolean(_)))
            || (number(self) && number(other))
    }

    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => compare_with_whole(*a, b.whole()?),
            (a, Self::Double(b)) => compare_with_whole(*b, a.whole()?).map(Ordering::reverse),
            (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Integer(value) => Some(i128::from(*value)),
            Self::Unsigned(value) => Some(i128::from(*value)),
            _ => None,
        }
    }
}

/// A double and an integer of 64 bits, without rounding either.
#[expect(clippy::cast_possible_truncation, reason = "within the range of i128, as was looked at before")]
fn compare_with_whole(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 1e30 {
        return Some(if double > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let floor = double.floor();
    let ordering = (floor as i128).cmp(&whole);
    Some(if ordering == Ordering::Equal && double > floor { Ordering::Greater } else { ordering })
}

fn objects_equal(a: Place<'_>, b: Place<'_>, fuel: &mut Fuel) -> Option<bool> {
    // A key that is there twice counts once: with its last value.
    for (one, other) in [(a, b), (b, a)] {
        for (key, _) in one.members() {
            let key = key.text().unwrap_or_default();
            fuel.take(other.steps_to(key) + one.steps_to(key))?;
            let (Some(x), Some(y)) = (one.member(key), other.member(key)) else { return Some(false) };
            if !Value::from(x).equals(&Value::from(y), fuel)? {
                return Some(false);
            }
        }
    }
    Some(true)
}
