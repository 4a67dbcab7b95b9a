//! Filters over events, in two languages: CloudEvents SQL 1.0 ([`cesql`]), which sees attributes, and CEL (`cel`), which
//! sees attributes and JSON data. And what makes new texts and data of an event: [`Template`] and [`Build`].
//!
//! A filter is compiled once and refused then if anything about it is wrong; what it costs to run is bounded. Nothing here
//! knows a socket, a file or a clock: whether an event passes is a function of the event.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a place takes a few of the many tokens, operations and kinds of values, and refuses the others alike"
)]

mod build;
mod cel;
pub mod cesql;
mod data;
mod error;
mod fuel;
mod template;
mod view;
mod write;

use event::{Language, Select};

pub use build::{BUILT_MAX, Build, NotBuilt};
pub use error::FilterError;
pub use template::{Filled, TEMPLATE_MAX, Template};
pub use view::EventView;

/// The longest text of a filter, in bytes.
pub const TEXT_MAX: usize = 4096;
/// How deep the parts of an expression may be nested.
pub const DEPTH_MAX: usize = 32;

/// A filter, compiled.
#[derive(Debug)]
pub struct Filter(Compiled);

#[derive(Debug)]
enum Compiled {
    Cesql(cesql::Expression),
    Cel(cel::Expression),
}

/// Whether an event passes a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Passes,
    /// It does not.
    Fails,
    /// It does not, because the filter could not be evaluated for it: something it names is not there or of another
    /// kind, or it cost too much.
    Error,
}

/// What a filter says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the event passes.
    pub verdict: Verdict,
    /// What it cost, in steps of some nanoseconds. A function of filter and event.
    pub steps: usize,
}

impl Filter {
    /// Compiles `text`.
    ///
    /// # Errors
    /// With what is wrong and where, for whatever could be found out without an event.
    pub fn compile(language: Language, text: &str) -> Result<Self, FilterError> {
        Ok(Self(match language {
            Language::Cesql => Compiled::Cesql(cesql::Expression::predicate(text)?),
            Language::Cel => Compiled::Cel(cel::Expression::predicate(text)?),
        }))
    }

    /// Compiles what a subscriber selects by.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn of(select: &Select) -> Result<Self, FilterError> {
        Self::compile(select.language, &select.text)
    }

    /// Whether the event passes. Costs at most [`EventView::steps_max`], and the reading of its data, once for all filters.
    pub fn judge(&self, view: &EventView<'_>) -> Judgement {
        let (passes, steps) = match &self.0 {
            Compiled::Cesql(expression) => expression.is_true(view),
            Compiled::Cel(expression) => expression.is_true(view),
        };
        let verdict = match passes {
            Some(true) => Verdict::Passes,
            Some(false) => Verdict::Fails,
            None => Verdict::Error,
        };
        Judgement { verdict, steps }
    }

    /// Whether the event passes; one for which the filter cannot be evaluated does not.
    pub fn matches(&self, view: &EventView<'_>) -> bool {
        self.judge(view).verdict == Verdict::Passes
    }
}
