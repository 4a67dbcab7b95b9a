//! The functions of CESQL (§3.5) and its casts (§3.7). Sans-io.

use std::borrow::Cow;

use super::evaluate::{Machine, Slot};
use super::parse::Type;
use super::{Errors, boolean};

/// A function that every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Length,
    Concat,
    ConcatWs,
    Lower,
    Upper,
    Trim,
    Left,
    Right,
    Substring,
    Abs,
    Int,
    Bool,
    String,
}

impl Function {
    /// The function of this name, in any case, with so many arguments; else why there is none.
    pub(super) fn find(name: &str, arguments: usize) -> Result<Self, String> {
        let known = ALL.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        let Some((known, function, least, most)) = known else {
            let names: Vec<&str> = ALL.iter().map(|(name, ..)| *name).collect();
            return Err(format!("there is no function {name}; there are {}", names.join(", ")));
        };
        if arguments < *least || arguments > *most {
            let wanted = match (least, most) {
                (least, most) if least == most => least.to_string(),
                (least, &usize::MAX) => format!("{least} or more"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(format!("{known} takes {wanted} arguments, not {arguments}"));
        }
        Ok(*function)
    }

    pub(super) fn result(self) -> Type {
        match self {
            Self::Length | Self::Abs | Self::Int => Type::Integer,
            Self::Bool => Type::Boolean,
            Self::Concat
            | Self::ConcatWs
            | Self::Lower
            | Self::Upper
            | Self::Trim
            | Self::Left
            | Self::Right
            | Self::Substring
            | Self::String => Type::Text,
        }
    }

    /// Calls it. `None`: too costly.
    pub(super) fn call<'a>(
        self,
        mut arguments: Arguments<'a>,
        machine: &mut Machine<'a>,
    ) -> Option<Slot<'a>> {
        Some(match self {
            Self::Concat => Slot::Text(join(&"".into(), arguments, machine)?),
            Self::ConcatWs => {
                let delimiter = machine.text(arguments.next());
                Slot::Text(join(&delimiter, arguments, machine)?)
            }
            Self::Abs => Slot::Integer(match machine.integer(arguments.next()) {
                i32::MIN => {
                    machine.errors |= Errors::MATH;
                    i32::MAX
                }
                value => value.abs(),
            }),
            Self::Int => Slot::Integer(machine.integer(arguments.next())),
            Self::Bool => Slot::Boolean(machine.boolean(arguments.next())),
            Self::String => Slot::Text(machine.text(arguments.next())),
            Self::Length
            | Self::Lower
            | Self::Upper
            | Self::Trim
            | Self::Left
            | Self::Right
            | Self::Substring => self.of_text(arguments, machine)?,
        })
    }

    /// Those whose first argument is a text.
    fn of_text<'a>(self, mut arguments: Arguments<'a>, machine: &mut Machine<'a>) -> Option<Slot<'a>> {
        let text = machine.text(arguments.next());
        machine.fuel.take(TEXT_COST + text.len())?;
        let text = match self {
            Self::Length => return Some(Slot::Integer(count(&text))),
            Self::Lower => Cow::Owned(text.to_lowercase()),
            Self::Upper => Cow::Owned(text.to_uppercase()),
            Self::Trim => {
                let start = text.len() - text.trim_start().len();
                let end = start + text.trim().len();
                slice(text, start, end)
            }
            Self::Left => match machine.count_of(arguments.next()) {
                Some(wanted) => {
                    let end = offset(&text, wanted);
                    slice(text, 0, end)
                }
                None => text,
            },
            Self::Right => match machine.count_of(arguments.next()) {
                Some(0) => Cow::Borrowed(""),
                Some(wanted) => {
                    let start = text.char_indices().nth_back(wanted - 1).map_or(0, |(at, _)| at);
                    let end = text.len();
                    slice(text, start, end)
                }
                None => text,
            },
            Self::Substring => {
                let position = machine.integer(arguments.next());
                let length = arguments.next().map(|length| machine.integer(Some(length)));
                substring(text, position, length, machine)
            }
            Self::Concat | Self::ConcatWs | Self::Abs | Self::Int | Self::Bool | Self::String => text,
        };
        Some(Slot::Text(text))
    }
}

/// What a part of a text costs that is put together, beside its bytes.
const ARGUMENT_COST: usize = 5;
/// What a text costs that is made, beside its bytes.
const TEXT_COST: usize = 20;

/// The arguments of a call, in order.
pub(super) type Arguments<'a> = smallvec::IntoIter<[Slot<'a>; 4]>;

/// Names with the numbers of arguments they take.
const ALL: [(&str, Function, usize, usize); 13] = [
    ("LENGTH", Function::Length, 1, 1),
    ("CONCAT", Function::Concat, 0, usize::MAX),
    ("CONCAT_WS", Function::ConcatWs, 1, usize::MAX),
    ("LOWER", Function::Lower, 1, 1),
    ("UPPER", Function::Upper, 1, 1),
    ("TRIM", Function::Trim, 1, 1),
    ("LEFT", Function::Left, 2, 2),
    ("RIGHT", Function::Right, 2, 2),
    ("SUBSTRING", Function::Substring, 2, 3),
    ("ABS", Function::Abs, 1, 1),
    ("INT", Function::Int, 1, 1),
    ("BOOL", Function::Bool, 1, 1),
    ("STRING", Function::String, 1, 1),
];

fn join<'a>(
    delimiter: &Cow<'a, str>,
    arguments: Arguments<'a>,
    machine: &mut Machine<'a>,
) -> Option<Cow<'a, str>> {
    let mut joined: Option<Cow<'a, str>> = None;
    for argument in arguments {
        let text = machine.text(Some(argument));
        machine.fuel.take(ARGUMENT_COST + text.len() + delimiter.len())?;
        joined = Some(match joined {
            None => text,
            Some(mut joined) => {
                let whole = joined.to_mut();
                whole.push_str(delimiter);
                whole.push_str(&text);
                joined
            }
        });
    }
    Some(joined.unwrap_or_default())
}

/// `SUBSTRING`: characters from `position` on, counted from 1, or from the end if it is negative.
fn substring<'a>(
    text: Cow<'a, str>,
    position: i32,
    length: Option<i32>,
    machine: &mut Machine<'a>,
) -> Cow<'a, str> {
    let characters = count(&text);
    let outside = position > characters || position < -characters;
    if outside || length.is_some_and(|length| length < 0) {
        machine.errors |= Errors::FUNCTION_EVALUATION;
        return Cow::Borrowed("");
    }
    let from = match position {
        0 => return Cow::Borrowed(""),
        1.. => position - 1,
        ..0 => characters + position,
    };
    let start = offset(&text, usize::try_from(from).unwrap_or_default());
    let end = match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) => start + text.get(start..).map_or(0, |rest| offset(rest, length)),
        None => text.len(),
    };
    slice(text, start, end)
}

/// The characters of a text. Attributes have 64 KiB at most, and what is made of them costs fuel.
fn count(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX)
}

/// The byte behind the first so many characters.
fn offset(text: &str, characters: usize) -> usize {
    text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
}

/// A piece of a text, without a copy if it is borrowed.
fn slice(text: Cow<'_, str>, start: usize, end: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(start..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            text.drain(..start.min(end));
            Cow::Owned(text)
        }
    }
}

impl<'a> Machine<'a> {
    /// As Boolean (§3.7). What cannot be cast is false, and an error.
    pub(super) fn boolean(&mut self, value: Option<Slot<'a>>) -> bool {
        match value {
            Some(Slot::Boolean(value)) => value,
            Some(Slot::Integer(value)) => value != 0,
            Some(Slot::Text(text)) => boolean(&text).unwrap_or_else(|| self.cast_failed()),
            None => false,
        }
    }

    /// As Integer. What cannot be cast is 0, and an error.
    pub(super) fn integer(&mut self, value: Option<Slot<'a>>) -> i32 {
        match value {
            Some(Slot::Boolean(value)) => i32::from(value),
            Some(Slot::Integer(value)) => value,
            Some(Slot::Text(text)) => {
                self.fuel.burn(text.len());
                text.parse().unwrap_or_else(|_| self.cast_failed())
            }
            None => 0,
        }
    }

    /// As String.
    pub(super) fn text(&mut self, value: Option<Slot<'a>>) -> Cow<'a, str> {
        match value {
            Some(Slot::Boolean(true)) => Cow::Borrowed("true"),
            Some(Slot::Boolean(false)) => Cow::Borrowed("false"),
            Some(Slot::Integer(value)) => {
                self.fuel.burn(TEXT_COST);
                Cow::Owned(value.to_string())
            }
            Some(Slot::Text(text)) => text,
            None => Cow::Borrowed(""),
        }
    }

    /// A number of characters; `None`, and an error, if it is negative.
    fn count_of(&mut self, value: Option<Slot<'a>>) -> Option<usize> {
        let count = usize::try_from(self.integer(value)).ok();
        if count.is_none() {
            self.errors |= Errors::FUNCTION_EVALUATION;
        }
        count
    }

    fn cast_failed<T: Default>(&mut self) -> T {
        self.errors |= Errors::CAST;
        T::default()
    }
}
