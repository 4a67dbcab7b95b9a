//! Walks the tree of an expression (the CEL language definition, "Evaluation"). Sans-io.
//!
//! An error ends the evaluation, but for `&&`, `||`, `all` and `exists`: these are decided by an operand that decides, whatever
//! error another one is.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use smallvec::SmallVec;

use super::expr::{Binary, Comprehension, Expr, Literal, Macro};
use super::value::Value;
use crate::data::Node;
use crate::fuel::Fuel;
use crate::view::{Attribute, EventView, Name};

/// A value; `None` is an error.
pub(super) type Outcome<'a> = Option<Value<'a>>;

pub(super) struct Evaluation<'a, 'e> {
    view: &'a EventView<'e>,
    variables: SmallVec<[Value<'a>; 2]>,
    pub(super) fuel: Fuel,
}

impl<'a, 'e> Evaluation<'a, 'e> {
    pub(super) fn new(view: &'a EventView<'e>, fuel: Fuel) -> Self {
        Self { view, variables: SmallVec::new(), fuel }
    }

    pub(super) fn value(&mut self, expr: &'a Expr) -> Outcome<'a> {
        self.fuel.take(1)?;
        match expr {
            Expr::Literal(literal) => Some(of_literal(literal)),
            Expr::List(list) => {
                self.fuel.take(LIST_COST)?;
                let list: Option<Vec<Value<'a>>> = list.iter().map(|expr| self.value(expr)).collect();
                Some(Value::List(Rc::new(list?)))
            }
            Expr::Event => Some(Value::Event),
            Expr::Attribute(name) => self.attribute(name).map(of_attribute),
            Expr::Data => Some(Value::from(self.view.data()?.root())),
            Expr::Topic => Some(Value::Text(Cow::Borrowed(self.view.event().topic().as_str()))),
            Expr::Variable(at) => {
                let value = self.variables.get(*at)?;
                self.fuel.take(value.copied())?;
                Some(value.clone())
            }
            Expr::Member(of, name) => {
                let of = self.value(of)?;
                self.member(&of, name)
            }
            Expr::Index(of, index) => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                self.index(&of, &index)
            }
            Expr::HasAttribute(name) => Some(Value::Boolean(self.attribute(name).is_some())),
            Expr::HasMember(of, name) => {
                let of = self.value(of)?;
                match &of {
                    Value::Event => Some(Value::Boolean(self.member(&of, name).is_some())),
                    Value::Json(place) if !of.is_list() => {
                        self.fuel.take(place.steps_to(name))?;
                        Some(Value::Boolean(place.member(name).is_some()))
                    }
                    _ => None,
                }
            }
            Expr::Not(of) => Some(Value::Boolean(!self.boolean(of)?)),
            Expr::Negate(of) => match self.value(of)? {
                Value::Integer(value) => value.checked_neg().map(Value::Integer),
                Value::Double(value) => Some(Value::Double(-value)),
                _ => None,
            },
            Expr::Binary(op, a, b) => self.binary(*op, a, b),
            Expr::All(list) => self.decide(list.iter(), false),
            Expr::Any(list) => self.decide(list.iter(), true),
            Expr::If(parts) => {
                let [condition, yes, no] = &**parts;
                if self.boolean(condition)? { self.value(yes) } else { self.value(no) }
            }
            Expr::Call(function, arguments) => {
                let arguments: Option<SmallVec<[Value<'a>; 2]>> =
                    arguments.iter().map(|expr| self.value(expr)).collect();
                self.call(*function, arguments?.into_iter())
            }
            Expr::Matches(of, regex) => match self.value(of)? {
                Value::Text(text) => {
                    self.fuel.take(REGEX_COST + text.len())?;
                    Some(Value::Boolean(regex.is_match(&text)))
                }
                _ => None,
            },
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    pub(super) fn boolean(&mut self, expr: &'a Expr) -> Option<bool> {
        match self.value(expr)? {
            Value::Boolean(value) => Some(value),
            _ => None,
        }
    }

    /// `&&` (decided by `false`) and `||` (by `true`): the first operand that decides, else an error if there was one.
    fn decide(&mut self, list: impl Iterator<Item = &'a Expr>, decides: bool) -> Outcome<'a> {
        let mut failed = false;
        for expr in list {
            match self.boolean(expr) {
                Some(value) if value == decides => return Some(Value::Boolean(decides)),
                Some(_) => {}
                None => failed = true,
            }
        }
        (!failed).then_some(Value::Boolean(!decides))
    }

    fn member(&mut self, of: &Value<'a>, name: &str) -> Outcome<'a> {
        match of {
            Value::Json(place) => {
                self.fuel.take(place.steps_to(name))?;
                place.member(name).map(Value::from)
            }
            Value::Event => {
                self.fuel.take(TEXT_COST + name.len() / 16)?;
                self.attribute(&Name::new(name)).map(of_attribute)
            }
            _ => None,
        }
    }

    fn attribute(&mut self, name: &Name) -> Option<Attribute<'a>> {
        self.fuel.take(self.view.steps_to(name))?;
        self.view.attribute(name)
    }

    fn index(&mut self, of: &Value<'a>, index: &Value<'a>) -> Outcome<'a> {
        match (of, index) {
            (_, Value::Text(name)) => self.member(of, name),
            (Value::List(_) | Value::Json(_), index) => {
                let at = match index {
                    Value::Integer(at) => usize::try_from(*at).ok()?,
                    Value::Unsigned(at) => usize::try_from(*at).ok()?,
                    // A double that is a whole number is one.
                    Value::Double(at) => near(*at)?,
                    _ => return None,
                };
                match of {
                    Value::List(list) => {
                        let value = list.get(at)?;
                        self.fuel.take(value.copied())?;
                        Some(value.clone())
                    }
                    Value::Json(place) if of.is_list() => {
                        self.fuel.take(at.min(place.size()))?;
                        place.elements().nth(at).map(Value::from)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn binary(&mut self, op: Binary, a: &'a Expr, b: &'a Expr) -> Outcome<'a> {
        // Lists that stand in the text are not made for it.
        if let (Binary::In, Expr::List(list)) = (op, b) {
            let wanted = self.value(a)?;
            let mut found = false;
            for expr in list {
                let value = self.value(expr)?;
                found |= wanted.equals(&value, &mut self.fuel)?;
            }
            return Some(Value::Boolean(found));
        }
        let (a, b) = (self.value(a)?, self.value(b)?);
        let orders = matches!(op, Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual);
        if let (true, Value::Text(a), Value::Text(b)) = (orders, &a, &b) {
            self.fuel.take(a.len().min(b.len()) / 16)?;
        }
        let ordered = |fits: fn(Ordering) -> bool| {
            a.is_ordered_with(&b).then(|| Value::Boolean(a.compare(&b).is_some_and(fits)))
        };
        match op {
            Binary::Equal => Some(Value::Boolean(a.equals(&b, &mut self.fuel)?)),
            Binary::NotEqual => Some(Value::Boolean(!a.equals(&b, &mut self.fuel)?)),
            Binary::Less => ordered(Ordering::is_lt),
            Binary::LessEqual => ordered(Ordering::is_le),
            Binary::Greater => ordered(Ordering::is_gt),
            Binary::GreaterEqual => ordered(Ordering::is_ge),
            Binary::In => self.is_in(&a, &b),
            Binary::Add => self.add(a, b),
            Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo => arithmetic(op, &a, &b),
        }
    }

    fn is_in(&mut self, value: &Value<'a>, range: &Value<'a>) -> Outcome<'a> {
        if range.is_list() {
            self.fuel.take(LIST_COST)?;
            for element in range.elements()? {
                self.fuel.take(element.copied())?;
                if value.equals(&element, &mut self.fuel)? {
                    return Some(Value::Boolean(true));
                }
            }
            return Some(Value::Boolean(false));
        }
        match (range, value) {
            (Value::Json(place), Value::Text(name)) => {
                self.fuel.take(place.steps_to(name))?;
                Some(Value::Boolean(place.member(name).is_some()))
            }
            (Value::Json(_), _) => Some(Value::Boolean(false)),
            (Value::Event, Value::Text(name)) => Some(Value::Boolean(self.member(range, name).is_some())),
            _ => None,
        }
    }

    fn add(&mut self, a: Value<'a>, b: Value<'a>) -> Outcome<'a> {
        match (a, b) {
            (Value::Text(a), Value::Text(b)) => {
                self.fuel.take(TEXT_COST + a.len() + b.len())?;
                Some(Value::Text(a + b))
            }
            (a, b) if a.is_list() && b.is_list() => {
                self.fuel.take(2 * LIST_COST)?;
                let mut list = Vec::new();
                for element in a.elements()?.chain(b.elements()?) {
                    self.fuel.take(LIST_COST + element.copied())?;
                    list.push(element);
                }
                Some(Value::List(Rc::new(list)))
            }
            (a, b) => arithmetic(Binary::Add, &a, &b),
        }
    }

    fn comprehension(&mut self, comprehension: &'a Comprehension) -> Outcome<'a> {
        let Comprehension { kind, range, predicate, transform } = comprehension;
        let elements = self.value(range)?.elements()?;
        self.fuel.take(LIST_COST)?;
        let (mut failed, mut count) = (false, 0_usize);
        let mut list = Vec::new();
        for element in elements {
            // It is copied out of its list, and perhaps kept.
            let cost = if matches!(kind, Macro::Filter | Macro::Map) { LIST_COST } else { LOOK_COST };
            self.fuel.take(cost + 2 * element.copied())?;
            let kept = matches!(kind, Macro::Filter).then(|| element.clone());
            self.variables.push(element);
            let wanted = match predicate {
                Some(predicate) => self.boolean(predicate),
                None => Some(true),
            };
            let made = match (transform, wanted) {
                (Some(transform), Some(true)) => Some(self.value(transform)),
                _ => None,
            };
            self.variables.pop();
            match (kind, wanted) {
                (Macro::All, Some(false)) => return Some(Value::Boolean(false)),
                (Macro::Exists, Some(true)) => return Some(Value::Boolean(true)),
                (Macro::All | Macro::Exists, None) => failed = true,
                (Macro::All | Macro::Exists, Some(_)) => {}
                (Macro::ExistsOne, wanted) => count += usize::from(wanted?),
                (Macro::Filter, wanted) => list.extend(kept.filter(|_| wanted == Some(true))),
                (Macro::Map, _) => {}
            }
            if matches!(kind, Macro::Filter | Macro::Map) {
                wanted?;
            }
            if let Some(made) = made {
                list.push(made?);
            }
        }
        match kind {
            Macro::All => (!failed).then_some(Value::Boolean(true)),
            Macro::Exists => (!failed).then_some(Value::Boolean(false)),
            Macro::ExistsOne => Some(Value::Boolean(count == 1)),
            Macro::Filter | Macro::Map => Some(Value::List(Rc::new(list))),
        }
    }
}

/// What a list costs that is made, or looked through, and each element that is made.
pub(super) const LIST_COST: usize = 20;
/// What an element costs that is looked at.
const LOOK_COST: usize = 8;
/// What a text costs that is made, beside its bytes.
pub(super) const TEXT_COST: usize = 20;
/// What a match costs, beside a step for each byte.
const REGEX_COST: usize = 10;
/// The index that a double is, if it is a whole number; up to 1024.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was looked at")]
fn near(double: f64) -> Option<usize> {
    (double.fract() == 0.0 && (0.0..=1024.0).contains(&double)).then_some(double as usize)
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Boolean(value) => Value::Boolean(*value),
        Literal::Integer(value) => Value::Integer(*value),
        Literal::Unsigned(value) => Value::Unsigned(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
    }
}

fn of_attribute(attribute: Attribute<'_>) -> Value<'_> {
    match attribute {
        Attribute::Boolean(value) => Value::Boolean(value),
        Attribute::Integer(value) => Value::Integer(i64::from(value)),
        Attribute::Text(text) => Value::Text(Cow::Borrowed(text)),
    }
}

/// Arithmetic of two numbers of one kind. Overflow and division by zero are errors, but for doubles.
fn arithmetic<'a>(op: Binary, a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => {
            let (a, b) = (*a, *b);
            let result = match op {
                Binary::Add => a.checked_add(b),
                Binary::Subtract => a.checked_sub(b),
                Binary::Multiply => a.checked_mul(b),
                Binary::Divide => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            result.map(Value::Integer)
        }
        (Value::Unsigned(a), Value::Unsigned(b)) => {
            let (a, b) = (*a, *b);
            let result = match op {
                Binary::Add => a.checked_add(b),
                Binary::Subtract => a.checked_sub(b),
                Binary::Multiply => a.checked_mul(b),
                Binary::Divide => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            result.map(Value::Unsigned)
        }
        (Value::Double(a), Value::Double(b)) => match op {
            Binary::Add => Some(Value::Double(a + b)),
            Binary::Subtract => Some(Value::Double(a - b)),
            Binary::Multiply => Some(Value::Double(a * b)),
            Binary::Divide => Some(Value::Double(a / b)),
            _ => None,
        },
        _ => None,
    }
}

impl crate::data::Place<'_> {
    /// How many members or elements it has.
    pub(super) fn size(&self) -> usize {
        match self.node() {
            Node::Array { count, .. } | Node::Object { count, .. } => *count,
            _ => 0,
        }
    }

    /// Steps to look for a member: each name of that length may have to be read.
    pub(super) fn steps_to(&self, name: &str) -> usize {
        self.size().saturating_mul(1 + name.len() / 32)
    }
}
