//! CEL, the Common Expression Language of Google, as far as filters need it. Sans-io.
//!
//! `event.NAME` is an attribute, `data` the data if it is JSON, `topic` the topic. There are: literals of all kinds but bytes
//! and maps; lists; `?:`, `||`, `&&`, `!`, comparisons, `in`, arithmetic; members and indices; `has`, `all`, `exists`, `exists_one`,
//! `filter`, `map`; `size`, `contains`, `startsWith`, `endsWith`, `matches` (with a literal pattern), `lowerAscii`, `upperAscii`, and the
//! conversions `int`, `uint`, `double`, `string`, `bool`. Whatever else CEL has is refused when a filter is compiled.
//!
//! JSON numbers without fraction are integers, others doubles; they are compared by what they are, and arithmetic wants two
//! of one kind, as everywhere in CEL.

mod evaluate;
mod expr;
mod function;
mod parse;
mod regex;
mod token;
mod value;

use crate::FilterError;
use crate::fuel::Fuel;
use crate::view::EventView;
use evaluate::Evaluation;
use expr::Expr;

/// An expression, compiled.
#[derive(Debug)]
pub(crate) struct Expression(Expr);

impl Expression {
    /// Reads an expression that is true or false.
    pub(crate) fn predicate(text: &str) -> Result<Self, FilterError> {
        let expr = parse::parse(text)?;
        match expr.may_be_boolean() {
            true => Ok(Self(expr)),
            false => Err(FilterError::new(
                text,
                0,
                "a filter is true or false; this expression yields something else",
            )),
        }
    }

    /// Reads an expression of any value.
    pub(crate) fn value(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }

    /// Writes its value for an event as JSON; `None`: there is none, JSON cannot say it, or it cost too much.
    pub(crate) fn write(&self, view: &EventView<'_>, out: &mut Vec<u8>) -> Option<()> {
        let mut evaluation = Evaluation::new(view, Fuel::PLENTY);
        let value = evaluation.value(&self.0)?;
        value.write(out, &mut evaluation.fuel)
    }

    /// Its value for an event, and what that cost; `None`: there is none, or it is neither true nor false.
    pub(crate) fn is_true(&self, view: &EventView<'_>) -> (Option<bool>, usize) {
        let mut evaluation = Evaluation::new(view, view.fuel());
        let value = evaluation.boolean(&self.0);
        (value, evaluation.fuel.taken())
    }
}
