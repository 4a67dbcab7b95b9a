//! CloudEvents SQL 1.0: the whole language. Sans-io.
//!
//! What the specification leaves open is decided so:
//!
//! * Arithmetic that leaves 32 bits yields 0 and a math error (§3.3: zero of the type).
//! * The first error ends the evaluation (*fail fast mode*, §4.1): a filter passes nothing then, whatever else it says.
//! * `IN` compares with all elements, so that its errors do not depend on their order.
//! * A sign right before digits belongs to the literal where an operand may stand; elsewhere it is an operator.
//! * Names of attributes may be written in large letters (as the test cases do).

mod evaluate;
mod function;
mod like;
mod parse;
mod program;
mod token;

use std::borrow::Cow;
use std::ops::{BitOr, BitOrAssign};

use crate::FilterError;
use crate::view::EventView;
use parse::{Parsed, Type};
use program::Program;

/// An expression, compiled.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    ty: Type,
    doubts: Option<FilterError>,
}

/// What an expression yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `true` or `false`.
    Boolean(bool),
    /// 32 bits.
    Integer(i32),
    /// Text.
    String(Cow<'a, str>),
}

/// The errors of one evaluation: which kinds there were (§3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors(u8);

impl Expression {
    /// Reads an expression. It may be at most [`crate::TEXT_MAX`] bytes long and [`crate::DEPTH_MAX`] deep.
    ///
    /// # Errors
    /// A *ParseError* of the specification.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let Parsed { program, ty, doubts } = parse::parse(text)?;
        Ok(Self { program, ty, doubts })
    }

    /// The value of the expression for an event, and the error that ended its evaluation, if there was one.
    pub fn evaluate<'a>(&'a self, view: &'a EventView<'_>) -> (Value<'a>, Errors) {
        let (value, errors, _) = evaluate::run(&self.program, self.ty, view);
        (value, errors)
    }

    /// Whether its value for an event is true, and what that cost; `None`: it has none.
    pub(crate) fn is_true(&self, view: &EventView<'_>) -> (Option<bool>, usize) {
        let (value, errors, steps) = evaluate::run(&self.program, self.ty, view);
        (errors.is_empty().then_some(value == Value::Boolean(true)), steps)
    }

    /// As [`Self::parse`], for a filter: refuses what could never pass an event (§1.2), because its value is no Boolean, or
    /// a function of it is unknown.
    pub(crate) fn predicate(text: &str) -> Result<Self, FilterError> {
        let mut expression = Self::parse(text)?;
        if let Some(doubt) = expression.doubts.take() {
            return Err(doubt);
        }
        match expression.ty {
            Type::Boolean | Type::Any => Ok(expression),
            Type::Integer | Type::Text => Err(FilterError::new(
                text,
                0,
                "a filter is true or false; this expression yields something else",
            )),
        }
    }
}

impl Errors {
    /// No error.
    pub const NONE: Self = Self(0);
    /// *MathError*.
    pub const MATH: Self = Self(1);
    /// *CastError*.
    pub const CAST: Self = Self(2);
    /// *MissingAttributeError*.
    pub const MISSING_ATTRIBUTE: Self = Self(4);
    /// *MissingFunctionError*.
    pub const MISSING_FUNCTION: Self = Self(8);
    /// *FunctionEvaluationError*.
    pub const FUNCTION_EVALUATION: Self = Self(16);
    /// *GenericError*: the evaluation would cost more than it may.
    pub const GENERIC: Self = Self(32);

    /// Whether there was none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

impl BitOr for Errors {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Errors {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// String to Boolean (§3.7).
fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}
