//! Runs the operations of an expression (CESQL §3.4). Sans-io.
//!
//! The evaluation fails fast (§4.1): the first error ends it. The value beside it is what the operation yields that met it,
//! if that is the whole expression, else zero of the type of the expression (§3.2, §3.3).

use std::borrow::Cow;

use smallvec::SmallVec;

use super::parse::Type;
use super::program::{Constant, Op, Program};
use super::{Errors, Value};
use crate::fuel::Fuel;
use crate::view::{Attribute, EventView};

/// A value on the stack.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot<'a> {
    Boolean(bool),
    Integer(i32),
    Text(Cow<'a, str>),
}

pub(super) struct Machine<'a> {
    stack: SmallVec<[Slot<'a>; 8]>,
    pub(super) errors: Errors,
    pub(super) fuel: Fuel,
}

/// Runs `program`, which yields a `ty`, on an event. With what it cost.
pub(super) fn run<'a>(program: &'a Program, ty: Type, view: &'a EventView<'_>) -> (Value<'a>, Errors, usize) {
    let mut machine = Machine { stack: SmallVec::new(), errors: Errors::NONE, fuel: view.fuel() };
    let value = match machine.run(program, view) {
        Some(true) => machine.pop(),
        Some(false) => zero(ty),
        None => {
            machine.errors = Errors::GENERIC;
            zero(ty)
        }
    };
    let value = match value {
        Slot::Boolean(value) => Value::Boolean(value),
        Slot::Integer(value) => Value::Integer(value),
        Slot::Text(text) => Value::String(text),
    };
    (value, machine.errors, machine.fuel.taken())
}

/// Zero of a type. Where nothing says which type it is, it is Boolean (§3.2).
fn zero<'a>(ty: Type) -> Slot<'a> {
    match ty {
        Type::Boolean | Type::Any => Slot::Boolean(false),
        Type::Integer => Slot::Integer(0),
        Type::Text => Slot::Text(Cow::Borrowed("")),
    }
}

impl<'a> Machine<'a> {
    /// Whether it came to the end. `None`: too costly.
    fn run(&mut self, program: &'a Program, view: &'a EventView<'_>) -> Option<bool> {
        let mut at = 0;
        while let Some(op) = program.code.get(at) {
            self.fuel.take(1)?;
            at += 1;
            match *op {
                Op::AndLeft(end) => {
                    if !self.left(false) {
                        at = usize::from(end);
                    }
                }
                Op::OrLeft(end) => {
                    if !self.left(true) {
                        at = usize::from(end);
                    }
                }
                Op::Attribute(name) => {
                    let name = program.names.get(usize::from(name));
                    self.fuel.take(name.map_or(0, |name| view.steps_to(name)))?;
                    let found = name.and_then(|name| view.attribute(name));
                    let slot = match found {
                        Some(Attribute::Boolean(value)) => Slot::Boolean(value),
                        Some(Attribute::Integer(value)) => Slot::Integer(value),
                        Some(Attribute::Text(text)) => Slot::Text(Cow::Borrowed(text)),
                        None => {
                            self.errors |= Errors::MISSING_ATTRIBUTE;
                            Slot::Boolean(false)
                        }
                    };
                    self.stack.push(slot);
                }
                Op::Exists(name) => {
                    let name = program.names.get(usize::from(name));
                    self.fuel.take(name.map_or(0, |name| view.steps_to(name)))?;
                    let exists = name.is_some_and(|name| view.attribute(name).is_some());
                    self.stack.push(Slot::Boolean(exists));
                }
                Op::Text(text) => {
                    let text = program.texts.get(usize::from(text)).map_or("", |text| text);
                    self.stack.push(Slot::Text(Cow::Borrowed(text)));
                }
                Op::Like { pattern, negated } => {
                    let text = self.pop();
                    let text = self.text(Some(text));
                    let like = match program.patterns.get(usize::from(pattern)) {
                        Some(pattern) => pattern.matches(&text, &mut self.fuel)?,
                        None => false,
                    };
                    self.stack.push(Slot::Boolean(like != negated));
                }
                Op::InSet { set, negated } => {
                    let set = program.sets.get(usize::from(set)).map_or(&[][..], |set| set);
                    let value = self.pop();
                    let slot = self.is_in_set(&value, set, negated)?;
                    self.stack.push(slot);
                }
                op => self.step(op)?,
            }
            if !self.errors.is_empty() {
                return Some(at == program.code.len());
            }
        }
        Some(true)
    }

    /// Operations that need nothing but the stack.
    fn step(&mut self, op: Op) -> Option<()> {
        let slot = match op {
            Op::Boolean(value) => Slot::Boolean(value),
            Op::Integer(value) => Slot::Integer(value),
            Op::Not => {
                let value = self.pop();
                Slot::Boolean(!self.boolean(Some(value)))
            }
            Op::Negate => {
                let value = self.pop();
                let negated = self.integer(Some(value)).checked_neg();
                self.counted(negated)
            }
            Op::ToBoolean => {
                let value = self.pop();
                Slot::Boolean(self.boolean(Some(value)))
            }
            Op::Multiply | Op::Divide | Op::Modulo | Op::Add | Op::Subtract => self.arithmetic(op),
            Op::Equal
            | Op::NotEqual
            | Op::Less
            | Op::LessEqual
            | Op::Greater
            | Op::GreaterEqual
            | Op::Xor => self.comparison(op)?,
            Op::In { count, negated } => self.is_in(usize::from(count), negated)?,
            Op::Call { function, arguments } => {
                self.fuel.take(usize::from(arguments))?;
                let arguments = self.take(usize::from(arguments));
                function.call(arguments.into_iter(), self)?
            }
            Op::NoFunction { arguments } => {
                self.take(usize::from(arguments));
                self.errors |= Errors::MISSING_FUNCTION;
                Slot::Boolean(false)
            }
            // These look at more than the stack.
            Op::Text(_)
            | Op::Attribute(_)
            | Op::Exists(_)
            | Op::AndLeft(_)
            | Op::OrLeft(_)
            | Op::Like { .. }
            | Op::InSet { .. } => return Some(()),
        };
        self.stack.push(slot);
        Some(())
    }

    /// The left side of AND or OR, which decides the whole unless it is the other of `decides`; whether the right side is
    /// wanted. What decides stays on the stack.
    fn left(&mut self, decides: bool) -> bool {
        let slot = self.pop();
        let value = self.boolean(Some(slot));
        if value == decides {
            self.stack.push(Slot::Boolean(value));
        }
        value != decides
    }

    fn arithmetic(&mut self, op: Op) -> Slot<'a> {
        let (y, x) = (self.pop(), self.pop());
        let (x, y) = (self.integer(Some(x)), self.integer(Some(y)));
        let result = match op {
            Op::Multiply => x.checked_mul(y),
            Op::Divide => x.checked_div(y),
            // The lowest integer has no remainder with -1, whatever the machine says of it.
            Op::Modulo if y == -1 => Some(0),
            Op::Modulo => x.checked_rem(y),
            Op::Add => x.checked_add(y),
            _ => x.checked_sub(y),
        };
        self.counted(result)
    }

    /// The result of arithmetic; what is no integer of 32 bits is 0, and an error.
    fn counted(&mut self, result: Option<i32>) -> Slot<'a> {
        if result.is_none() {
            self.errors |= Errors::MATH;
        }
        Slot::Integer(result.unwrap_or(0))
    }

    fn comparison(&mut self, op: Op) -> Option<Slot<'a>> {
        let (y, x) = (self.pop(), self.pop());
        Some(Slot::Boolean(match op {
            Op::Equal => self.equal(x, &y)?,
            Op::NotEqual => !self.equal(x, &y)?,
            Op::Xor => self.boolean(Some(x)) != self.boolean(Some(y)),
            _ => {
                let (x, y) = (self.integer(Some(x)), self.integer(Some(y)));
                match op {
                    Op::Less => x < y,
                    Op::LessEqual => x <= y,
                    Op::Greater => x > y,
                    _ => x >= y,
                }
            }
        }))
    }

    /// Whether `x`, cast to the type of `y`, is `y` (§3.7).
    fn equal(&mut self, x: Slot<'a>, y: &Slot<'a>) -> Option<bool> {
        Some(match y {
            Slot::Boolean(y) => self.boolean(Some(x)) == *y,
            Slot::Integer(y) => self.integer(Some(x)) == *y,
            Slot::Text(y) => {
                self.fuel.take(y.len() / 16)?;
                self.text(Some(x)) == *y
            }
        })
    }

    /// The elements are cast to the type of what is looked for (§3.4.5).
    fn is_in(&mut self, count: usize, negated: bool) -> Option<Slot<'a>> {
        let elements = self.take(count);
        let value = self.pop();
        let mut found = false;
        for element in elements {
            found |= self.equal(element, &value)?;
        }
        Some(Slot::Boolean(found != negated))
    }

    fn is_in_set(&mut self, value: &Slot<'a>, set: &[Constant], negated: bool) -> Option<Slot<'a>> {
        self.fuel.take(set.len())?;
        let mut found = false;
        for constant in set {
            let (same, cast) = match value {
                Slot::Boolean(value) => {
                    (constant.boolean.unwrap_or(false) == *value, constant.boolean.is_some())
                }
                Slot::Integer(value) => (constant.integer.unwrap_or(0) == *value, constant.integer.is_some()),
                Slot::Text(value) => (*constant.text == **value, true),
            };
            found |= same;
            if !cast {
                self.errors |= Errors::CAST;
            }
        }
        Some(Slot::Boolean(found != negated))
    }

    fn pop(&mut self) -> Slot<'a> {
        self.stack.pop().unwrap_or(Slot::Boolean(false))
    }

    /// The last so many values, in their order.
    fn take(&mut self, count: usize) -> SmallVec<[Slot<'a>; 4]> {
        let start = self.stack.len().saturating_sub(count);
        self.stack.drain(start..).collect()
    }
}
