//! From text to a tree (the CEL language definition, "Syntax" and "Macros"). Sans-io.

use event::event::is_attribute_name;

use super::expr::{Binary, Comprehension, Expr, Function, Literal, Macro};
use super::regex::{REGEX_BYTES, Regex};
use super::token::{self, Kind, Token};
use crate::error::{FilterError, shown};
use crate::view::Name;
use crate::{DEPTH_MAX, TEXT_MAX};

/// Levels of a tree. Chains such as `a + b + c` are a level each; `&&` and `||` are not.
const HEIGHT_MAX: usize = 64;

/// Compiles `text`.
pub(super) fn parse(text: &str) -> Result<Expr, FilterError> {
    if text.len() > TEXT_MAX {
        return Err(FilterError::new(text, TEXT_MAX, format!("longer than {TEXT_MAX} bytes")));
    }
    let (token, behind) = token::next(text, 0)?;
    let mut parser = Parser { text, token, behind, depth: 0, variables: Vec::new(), regex_left: REGEX_BYTES };
    let expr = parser.expression()?;
    if parser.token.kind != Kind::End {
        let message = format!("an operator or the end has to come here, not {}", parser.token.kind.name());
        return Err(parser.wrong(message));
    }
    if expr.height() > HEIGHT_MAX {
        return Err(FilterError::new(
            text,
            0,
            format!("more than {HEIGHT_MAX} operations within each other"),
        ));
    }
    Ok(expr)
}

struct Parser<'t> {
    text: &'t str,
    token: Token,
    behind: usize,
    depth: usize,
    /// Those of the macros that this place is in.
    variables: Vec<String>,
    /// What is left of [`REGEX_BYTES`].
    regex_left: usize,
}

impl Parser<'_> {
    /// `condition [? a : b]`.
    fn expression(&mut self) -> Result<Expr, FilterError> {
        if self.depth == DEPTH_MAX {
            return Err(self.wrong(format!("nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let mut expr = self.any()?;
        if self.take("?")? {
            let yes = self.any()?;
            self.expect(":")?;
            let no = self.expression()?;
            expr = Expr::If(Box::new([expr, yes, no]));
        }
        self.depth -= 1;
        Ok(expr)
    }

    fn any(&mut self) -> Result<Expr, FilterError> {
        let first = self.all()?;
        let list = self.chain(first, "||", Self::all)?;
        Ok(alone(list).unwrap_or_else(|list| Expr::Any(list.into())))
    }

    fn all(&mut self) -> Result<Expr, FilterError> {
        let first = self.relation()?;
        let list = self.chain(first, "&&", Self::relation)?;
        Ok(alone(list).unwrap_or_else(|list| Expr::All(list.into())))
    }

    fn chain(
        &mut self,
        first: Expr,
        sign: &str,
        operand: fn(&mut Self) -> Result<Expr, FilterError>,
    ) -> Result<Vec<Expr>, FilterError> {
        let mut list = vec![first];
        while self.take(sign)? {
            list.push(operand(self)?);
        }
        Ok(list)
    }

    fn relation(&mut self) -> Result<Expr, FilterError> {
        self.binary(&RELATIONS, Self::sum)
    }

    fn sum(&mut self) -> Result<Expr, FilterError> {
        self.binary(&SUMS, Self::product)
    }

    fn product(&mut self) -> Result<Expr, FilterError> {
        self.binary(&PRODUCTS, Self::unary)
    }

    /// Operators of one level, from left to right.
    fn binary(
        &mut self,
        signs: &[(&'static str, Binary)],
        operand: fn(&mut Self) -> Result<Expr, FilterError>,
    ) -> Result<Expr, FilterError> {
        let mut left = operand(self)?;
        loop {
            let op = signs.iter().find(|(sign, _)| self.token.kind == Kind::Sign(sign));
            let Some((_, op)) = op else { return Ok(left) };
            self.advance()?;
            left = Expr::Binary(*op, Box::new(left), Box::new(operand(self)?));
        }
    }

    fn unary(&mut self) -> Result<Expr, FilterError> {
        let at = self.token.at;
        if self.token.kind == Kind::Sign("!") || self.token.kind == Kind::Sign("-") {
            if self.depth == DEPTH_MAX {
                return Err(self.wrong(format!("nested deeper than {DEPTH_MAX}")));
            }
            let Token { kind: sign, .. } = self.advance()?;
            // The lowest integer has to be writable.
            if let (Kind::Sign("-"), Kind::Integer { digits, radix }) = (&sign, self.token.kind.clone()) {
                self.advance()?;
                let value = self.integer(&format!("-{digits}"), radix, at)?;
                return self.postfix(value);
            }
            self.depth += 1;
            let operand = Box::new(self.unary()?);
            self.depth -= 1;
            return Ok(if sign == Kind::Sign("!") { Expr::Not(operand) } else { Expr::Negate(operand) });
        }
        let primary = self.primary()?;
        self.postfix(primary)
    }

    /// Members, indices and calls behind an operand.
    fn postfix(&mut self, mut expr: Expr) -> Result<Expr, FilterError> {
        loop {
            if self.take("[")? {
                let index = self.expression()?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(index));
            } else if self.take(".")? {
                let Token { kind, at } = self.advance()?;
                let Kind::Word(name) = kind else {
                    let message = format!("a name has to come behind \".\", not {}", kind.name());
                    return Err(self.wrong_at(at, message));
                };
                expr = match self.take("(")? {
                    true => self.method(expr, &name, at)?,
                    false => self.member(expr, &name, at)?,
                };
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, FilterError> {
        let Token { kind, at } = self.advance()?;
        let literal = match kind {
            Kind::Integer { digits, radix } => return self.integer(&digits, radix, at),
            Kind::Unsigned(value) => Literal::Unsigned(value),
            Kind::Double(value) => Literal::Double(value),
            Kind::Text(text) => Literal::Text(text.into()),
            Kind::Sign("(") => {
                let expr = self.expression()?;
                self.expect(")")?;
                return Ok(expr);
            }
            Kind::Sign("[") => return Ok(Expr::List(self.list("]")?.into())),
            Kind::Sign("{") => return Err(self.wrong_at(at, "map literals are not known here".to_owned())),
            Kind::Word(name) if self.token.kind == Kind::Sign("(") => {
                self.advance()?;
                return self.global(&name, at);
            }
            Kind::Word(name) => return self.name(&name, at),
            other => {
                let message = format!("a name, a literal or \"(\" has to come here, not {}", other.name());
                return Err(self.wrong_at(at, message));
            }
        };
        Ok(Expr::Literal(literal))
    }

    fn name(&mut self, name: &str, at: usize) -> Result<Expr, FilterError> {
        if let Some(place) = self.variables.iter().rposition(|known| known == name) {
            return Ok(Expr::Variable(place));
        }
        Ok(match name {
            "true" => Expr::Literal(Literal::Boolean(true)),
            "false" => Expr::Literal(Literal::Boolean(false)),
            "null" => Expr::Literal(Literal::Null),
            "event" => Expr::Event,
            "data" => Expr::Data,
            "topic" => Expr::Topic,
            _ => {
                let message =
                    format!("{:?} is not known; there are event.ATTRIBUTE, data and topic", shown(name));
                return Err(self.wrong_at(at, message));
            }
        })
    }

    fn member(&self, of: Expr, name: &str, at: usize) -> Result<Expr, FilterError> {
        match of {
            Expr::Event => Ok(Expr::Attribute(self.attribute(name, at)?)),
            of => Ok(Expr::Member(Box::new(of), name.into())),
        }
    }

    fn attribute(&self, name: &str, at: usize) -> Result<Name, FilterError> {
        if name == "data" {
            return Err(self.wrong_at(at, "the data of the event is \"data\", without \"event.\"".to_owned()));
        }
        if !is_attribute_name(name) {
            let message =
                format!("{:?} is no attribute: those have small letters and digits only", shown(name));
            return Err(self.wrong_at(at, message));
        }
        Ok(Name::new(name))
    }

    /// A call that is not on a receiver; `(` was taken.
    fn global(&mut self, name: &str, at: usize) -> Result<Expr, FilterError> {
        let mut arguments = self.list(")")?;
        if name == "has" {
            let tested = match (arguments.pop(), arguments.is_empty()) {
                (Some(Expr::Attribute(name)), true) => Some(Expr::HasAttribute(name)),
                (Some(Expr::Member(of, name)), true) => Some(Expr::HasMember(of, name)),
                _ => None,
            };
            let reason = || self.wrong_at(at, "has takes one member, as in has(data.x)".to_owned());
            return tested.ok_or_else(reason);
        }
        if name == "matches" && arguments.len() == 2 {
            return self.matches(arguments, at);
        }
        let function = Function::find(name, arguments.len(), false);
        let function = function.map_err(|reason| self.wrong_at(at, reason))?;
        Ok(Expr::Call(function, arguments.into()))
    }

    /// A call on `receiver`; `(` was taken.
    fn method(&mut self, receiver: Expr, name: &str, at: usize) -> Result<Expr, FilterError> {
        let kind = match name {
            "all" => Some(Macro::All),
            "exists" => Some(Macro::Exists),
            "exists_one" => Some(Macro::ExistsOne),
            "filter" => Some(Macro::Filter),
            "map" => Some(Macro::Map),
            _ => None,
        };
        if let Some(kind) = kind {
            return self.comprehension(kind, receiver, name, at);
        }
        let mut arguments = vec![receiver];
        arguments.extend(self.list(")")?);
        if name == "matches" && arguments.len() == 2 {
            return self.matches(arguments, at);
        }
        let function = Function::find(name, arguments.len(), true);
        let function = function.map_err(|reason| self.wrong_at(at, reason))?;
        Ok(Expr::Call(function, arguments.into()))
    }

    /// `range.NAME(variable, expression [, expression])`.
    fn comprehension(
        &mut self,
        kind: Macro,
        range: Expr,
        name: &str,
        at: usize,
    ) -> Result<Expr, FilterError> {
        let Token { kind: variable, at: place } = self.advance()?;
        let Kind::Word(variable) = variable else {
            return Err(
                self.wrong_at(place, format!("{name} wants a variable first, as in x.{name}(e, e > 1)"))
            );
        };
        self.expect(",")?;
        self.variables.push(variable);
        let mut list = self.list(")")?;
        self.variables.pop();
        let last = list.pop();
        let (predicate, transform) = match (kind, list.pop(), last) {
            (Macro::Map, predicate, Some(transform)) if list.is_empty() => (predicate, Some(transform)),
            (Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter, None, Some(predicate)) => {
                (Some(predicate), None)
            }
            _ => return Err(self.wrong_at(at, format!("{name} takes a variable and an expression"))),
        };
        Ok(Expr::Comprehension(Box::new(Comprehension { kind, range, predicate, transform })))
    }

    fn matches(&mut self, mut arguments: Vec<Expr>, at: usize) -> Result<Expr, FilterError> {
        let (Some(Expr::Literal(Literal::Text(pattern))), Some(text)) = (arguments.pop(), arguments.pop())
        else {
            let message = "the regular expression of matches has to be a literal".to_owned();
            return Err(self.wrong_at(at, message));
        };
        let regex = Regex::compile(&pattern, self.regex_left).map_err(|reason| self.wrong_at(at, reason))?;
        self.regex_left = self.regex_left.saturating_sub(regex.size());
        Ok(Expr::Matches(Box::new(text), Box::new(regex)))
    }

    /// Expressions up to `end`, which is taken.
    fn list(&mut self, end: &'static str) -> Result<Vec<Expr>, FilterError> {
        let mut list = Vec::new();
        while !self.take(end)? {
            if !list.is_empty() && !self.take(",")? {
                let message = format!("\",\" or \"{end}\" has to come here, not {}", self.token.kind.name());
                return Err(self.wrong(message));
            }
            list.push(self.expression()?);
        }
        Ok(list)
    }

    fn integer(&self, digits: &str, radix: u32, at: usize) -> Result<Expr, FilterError> {
        let value = i64::from_str_radix(digits, radix);
        let range = || self.wrong_at(at, format!("{} is not an integer of 64 bits", shown(digits)));
        Ok(Expr::Literal(Literal::Integer(value.map_err(|_| range())?)))
    }

    fn advance(&mut self) -> Result<Token, FilterError> {
        let (token, behind) = token::next(self.text, self.behind)?;
        self.behind = behind;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn take(&mut self, sign: &str) -> Result<bool, FilterError> {
        let found = matches!(&self.token.kind, Kind::Sign(known) if *known == sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), FilterError> {
        match self.take(sign)? {
            true => Ok(()),
            false => Err(self.wrong(format!("\"{sign}\" has to come here, not {}", self.token.kind.name()))),
        }
    }

    fn wrong(&self, message: String) -> FilterError {
        self.wrong_at(self.token.at, message)
    }

    fn wrong_at(&self, at: usize, message: String) -> FilterError {
        FilterError::new(self.text, at, message)
    }
}

/// The only one of a list; else the list.
fn alone(mut list: Vec<Expr>) -> Result<Expr, Vec<Expr>> {
    match (list.len(), list.pop()) {
        (1, Some(only)) => Ok(only),
        (_, last) => {
            list.extend(last);
            Err(list)
        }
    }
}

const RELATIONS: [(&str, Binary); 7] = [
    ("==", Binary::Equal),
    ("!=", Binary::NotEqual),
    ("<=", Binary::LessEqual),
    (">=", Binary::GreaterEqual),
    ("<", Binary::Less),
    (">", Binary::Greater),
    ("in", Binary::In),
];
const SUMS: [(&str, Binary); 2] = [("+", Binary::Add), ("-", Binary::Subtract)];
const PRODUCTS: [(&str, Binary); 3] = [("*", Binary::Multiply), ("/", Binary::Divide), ("%", Binary::Modulo)];
