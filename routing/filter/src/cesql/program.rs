//! What an expression is compiled to: a list of operations on a stack, and what they name.

use event::event::is_attribute_name;

use super::function::Function;
use super::like::Pattern;
use crate::view::Name;

/// A compiled expression. No operation jumps back, so each runs at most once.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) code: Vec<Op>,
    pub(super) texts: Vec<Box<str>>,
    pub(super) names: Vec<Name>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) sets: Vec<Box<[Constant]>>,
}

/// One operation. Operands are taken from the stack, the last on top; the result goes there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
    Boolean(bool),
    Integer(i32),
    Text(u16),
    Attribute(u16),
    Exists(u16),
    Not,
    Negate,
    Multiply,
    Divide,
    Modulo,
    Add,
    Subtract,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// The left side of AND: if it is false, that is the result, and the right side is passed over, to this place.
    AndLeft(u16),
    /// The left side of OR, likewise.
    OrLeft(u16),
    /// The right side of both.
    ToBoolean,
    Xor,
    Like {
        pattern: u16,
        negated: bool,
    },
    /// So many elements lie on what is looked for.
    In {
        count: u16,
        negated: bool,
    },
    /// The elements are literals.
    InSet {
        set: u16,
        negated: bool,
    },
    Call {
        function: Function,
        arguments: u16,
    },
    /// A call of a function that there is not.
    NoFunction {
        arguments: u16,
    },
}

/// A literal in a set, in each type that it can be cast to.
#[derive(Debug)]
pub(super) struct Constant {
    pub(super) text: Box<str>,
    pub(super) integer: Option<i32>,
    pub(super) boolean: Option<bool>,
}

impl Program {
    /// The place of an attribute. The name is one already.
    pub(super) fn name(&mut self, name: &str) -> u16 {
        debug_assert!(is_attribute_name(name) || name == "data");
        let name = Name::new(name);
        let known = self.names.iter().position(|known| *known == name);
        place(known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        }))
    }

    pub(super) fn text(&mut self, text: &str) -> u16 {
        self.texts.push(text.into());
        place(self.texts.len() - 1)
    }

    pub(super) fn pattern(&mut self, pattern: &str) -> u16 {
        self.patterns.push(Pattern::parse(pattern));
        place(self.patterns.len() - 1)
    }

    /// Makes a set of the operations from `start` on, if all of them are literals.
    pub(super) fn take_set(&mut self, start: usize) -> Option<u16> {
        let constant = |op: &Op| match op {
            Op::Boolean(value) => Some(Constant::boolean(*value)),
            Op::Integer(value) => Some(Constant::integer(*value)),
            Op::Text(at) => self.texts.get(usize::from(*at)).map(|text| Constant::text(text)),
            _ => None,
        };
        let set: Option<Vec<Constant>> = self.code.get(start..)?.iter().map(constant).collect();
        self.sets.push(set?.into());
        self.code.truncate(start);
        Some(place(self.sets.len() - 1))
    }
}

impl Constant {
    fn boolean(value: bool) -> Self {
        let text = if value { "true" } else { "false" };
        Self { text: text.into(), integer: Some(i32::from(value)), boolean: Some(value) }
    }

    fn integer(value: i32) -> Self {
        Self { text: value.to_string().into(), integer: Some(value), boolean: Some(value != 0) }
    }

    fn text(text: &str) -> Self {
        Self { text: text.into(), integer: text.parse().ok(), boolean: super::boolean(text) }
    }
}

/// An index. A text has at most 4096 bytes, and nothing has more parts than its text has bytes.
pub(super) fn place(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
