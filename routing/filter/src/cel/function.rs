//! The functions of CEL that there are (the CEL language definition, "Standard definitions"). Sans-io.

use std::borrow::Cow;

use super::evaluate::{Evaluation, Outcome, TEXT_COST};
use super::expr::Function;
use super::value::Value;

impl<'a> Evaluation<'a, '_> {
    pub(super) fn call(
        &mut self,
        function: Function,
        mut arguments: impl Iterator<Item = Value<'a>>,
    ) -> Outcome<'a> {
        let first = arguments.next()?;
        let second = arguments.next();
        if let Value::Text(text) = &first {
            let read = matches!(function, Function::Int | Function::Uint | Function::Double);
            self.fuel.take(if read { text.len() } else { text.len() / 16 })?;
        }
        if matches!(function, Function::String) {
            self.fuel.take(NUMBER_COST)?;
        }
        match function {
            Function::Size => size(&first),
            Function::Int => int(first),
            Function::Uint => uint(first),
            Function::Double => double(first),
            Function::String => string(first),
            Function::Bool => boolean(&first),
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::LowerAscii
            | Function::UpperAscii => self.of_text(function, &first, second.as_ref()),
        }
    }

    fn of_text(&mut self, function: Function, first: &Value<'a>, second: Option<&Value<'a>>) -> Outcome<'a> {
        let Value::Text(text) = first else { return None };
        let part = match second {
            Some(Value::Text(part)) => &**part,
            Some(_) => return None,
            None => "",
        };
        Some(match function {
            Function::Contains => {
                self.fuel.take(text.len())?;
                Value::Boolean(text.contains(part))
            }
            Function::StartsWith => Value::Boolean(text.starts_with(part)),
            Function::EndsWith => Value::Boolean(text.ends_with(part)),
            _ => {
                self.fuel.take(TEXT_COST + text.len())?;
                Value::Text(Cow::Owned(match function {
                    Function::LowerAscii => text.to_ascii_lowercase(),
                    _ => text.to_ascii_uppercase(),
                }))
            }
        })
    }
}

/// What a text costs that is made of a number: a double may have three hundred digits.
const NUMBER_COST: usize = 100;

fn size<'a>(value: &Value<'a>) -> Outcome<'a> {
    let size = match value {
        Value::Text(text) => text.chars().count(),
        Value::List(list) => list.len(),
        Value::Json(place) => place.size(),
        _ => return None,
    };
    i64::try_from(size).ok().map(Value::Integer)
}

fn int(value: Value<'_>) -> Outcome<'_> {
    Some(Value::Integer(match value {
        Value::Integer(value) => value,
        Value::Unsigned(value) => i64::try_from(value).ok()?,
        Value::Double(value) => i64::try_from(whole(value)?).ok()?,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    }))
}

fn uint(value: Value<'_>) -> Outcome<'_> {
    Some(Value::Unsigned(match value {
        Value::Integer(value) => u64::try_from(value).ok()?,
        Value::Unsigned(value) => value,
        Value::Double(value) => u64::try_from(whole(value)?).ok()?,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    }))
}

/// A double without its fraction; `None` far outside of 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "the fraction is to go, and the range was looked at")]
fn whole(value: f64) -> Option<i128> {
    (value.abs() < 1e30).then(|| value.trunc() as i128)
}

#[expect(clippy::cast_precision_loss, reason = "a double is as near as it can be")]
fn double(value: Value<'_>) -> Outcome<'_> {
    Some(Value::Double(match value {
        Value::Integer(value) => value as f64,
        Value::Unsigned(value) => value as f64,
        Value::Double(value) => value,
        Value::Text(text) => text.parse().ok()?,
        _ => return None,
    }))
}

fn string(value: Value<'_>) -> Outcome<'_> {
    Some(Value::Text(match value {
        Value::Integer(value) => Cow::Owned(value.to_string()),
        Value::Unsigned(value) => Cow::Owned(value.to_string()),
        Value::Double(value) => Cow::Owned(value.to_string()),
        Value::Boolean(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        Value::Text(text) => text,
        _ => return None,
    }))
}

fn boolean<'a>(value: &Value<'a>) -> Outcome<'a> {
    Some(Value::Boolean(match value {
        Value::Boolean(value) => *value,
        Value::Text(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return None,
        },
        _ => return None,
    }))
}
