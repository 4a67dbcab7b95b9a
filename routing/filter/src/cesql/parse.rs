//! From text to operations, in one pass (CESQL §2, precedence §3.6). Sans-io.
//!
//! Operators of equal precedence go from left to right, as §3.6 says; AND, OR and XOR are equal.

use event::event::is_attribute_name;

use super::function::Function;
use super::program::{Op, Program, place};
use super::token::{self, Kind, Token};
use crate::error::{FilterError, shown};
use crate::{DEPTH_MAX, TEXT_MAX};

/// What an expression yields, as far as its text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    Integer,
    Text,
    /// An attribute.
    Any,
}

/// What was found beside the operations.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) program: Program,
    pub(super) ty: Type,
    /// Why it would make no filter although it is an expression, and where.
    pub(super) doubts: Option<FilterError>,
}

/// Compiles `text`.
pub(super) fn parse(text: &str) -> Result<Parsed, FilterError> {
    if text.len() > TEXT_MAX {
        return Err(FilterError::new(text, TEXT_MAX, format!("longer than {TEXT_MAX} bytes")));
    }
    let (token, behind) = token::next(text, 0)?;
    let mut parser = Parser { text, token, behind, depth: 0, program: Program::default(), doubts: None };
    let ty = parser.expression(Level::Logic)?;
    match parser.token.kind {
        Kind::End => Ok(Parsed { program: parser.program, ty, doubts: parser.doubts }),
        ref kind => {
            Err(parser.wrong(format!("an operator or the end has to come here, not {}", kind.name())))
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    /// The next token.
    token: Token<'t>,
    /// The byte behind it.
    behind: usize,
    depth: usize,
    program: Program,
    doubts: Option<FilterError>,
}

/// How strongly an operator binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Logic,
    Comparison,
    Additive,
    Multiplicative,
    /// LIKE and IN.
    Postfix,
    /// Nothing binds stronger.
    Unary,
}

impl Level {
    fn next(self) -> Self {
        match self {
            Self::Logic => Self::Comparison,
            Self::Comparison => Self::Additive,
            Self::Additive => Self::Multiplicative,
            Self::Multiplicative => Self::Postfix,
            Self::Postfix | Self::Unary => Self::Unary,
        }
    }
}

impl<'t> Parser<'t> {
    /// An expression of operators that bind at least as strongly as `level`.
    fn expression(&mut self, level: Level) -> Result<Type, FilterError> {
        let mut ty = self.operand()?;
        loop {
            let Some((binds, op)) = infix(&self.token.kind).filter(|(binds, _)| *binds >= level) else {
                return Ok(ty);
            };
            ty = match op {
                Infix::Postfix => self.postfix()?,
                Infix::Op(op, result) => {
                    self.advance()?;
                    self.expression(binds.next())?;
                    self.program.code.push(op);
                    result
                }
                Infix::And | Infix::Or => {
                    self.advance()?;
                    let left = self.program.code.len();
                    self.program.code.push(Op::ToBoolean);
                    self.expression(binds.next())?;
                    self.program.code.push(Op::ToBoolean);
                    let end = place(self.program.code.len());
                    let jump = if matches!(op, Infix::And) { Op::AndLeft(end) } else { Op::OrLeft(end) };
                    if let Some(place) = self.program.code.get_mut(left) {
                        *place = jump;
                    }
                    Type::Boolean
                }
            };
        }
    }

    /// `[NOT] LIKE pattern` or `[NOT] IN (set)`.
    fn postfix(&mut self) -> Result<Type, FilterError> {
        let negated = self.token.kind == Kind::Not;
        if negated {
            self.advance()?;
        }
        match self.advance()?.kind {
            Kind::Like => {
                let Kind::Text(pattern) = &self.token.kind else {
                    return Err(self.wrong(format!(
                        "LIKE wants a pattern in quotes, such as 'com.example.%', not {}",
                        self.token.kind.name()
                    )));
                };
                let pattern = self.program.pattern(pattern);
                self.advance()?;
                self.program.code.push(Op::Like { pattern, negated });
            }
            Kind::In => {
                let start = self.program.code.len();
                self.expect(Kind::Open)?;
                let count = self.list(Kind::Close)?;
                if count == 0 {
                    return Err(self.wrong("a set has at least one element".to_owned()));
                }
                self.expect(Kind::Close)?;
                let op = match self.program.take_set(start) {
                    Some(set) => Op::InSet { set, negated },
                    None => Op::In { count: place(count), negated },
                };
                self.program.code.push(op);
            }
            other => {
                let message = format!("LIKE or IN has to come behind this NOT, not {}", other.name());
                return Err(self.wrong(message));
            }
        }
        Ok(Type::Boolean)
    }

    /// Expressions with commas between them, up to `end`, which is not taken.
    fn list(&mut self, end: Kind<'static>) -> Result<usize, FilterError> {
        if self.token.kind == end {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            self.nested(Level::Logic)?;
            count += 1;
            if self.token.kind != Kind::Comma {
                return Ok(count);
            }
            self.advance()?;
        }
    }

    /// An expression within another.
    fn nested(&mut self, level: Level) -> Result<Type, FilterError> {
        if self.depth == DEPTH_MAX {
            return Err(self.wrong(format!("nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let ty = self.expression(level);
        self.depth -= 1;
        ty
    }

    fn operand(&mut self) -> Result<Type, FilterError> {
        let Token { kind, at } = self.advance()?;
        let (op, ty) = match kind {
            Kind::True => (Op::Boolean(true), Type::Boolean),
            Kind::False => (Op::Boolean(false), Type::Boolean),
            Kind::Integer(digits) => (self.integer(digits, at)?, Type::Integer),
            Kind::Text(text) => (Op::Text(self.program.text(&text)), Type::Text),
            // A sign right before digits belongs to them, so that the lowest integer can be written.
            Kind::Plus | Kind::Minus if self.is_number_behind(at) => {
                let digits = self.text.get(at..self.behind).unwrap_or_default();
                self.advance()?;
                (self.integer(digits, at)?, Type::Integer)
            }
            Kind::Minus => {
                self.nested(Level::Unary)?;
                (Op::Negate, Type::Integer)
            }
            Kind::Not => {
                self.nested(Level::Unary)?;
                (Op::Not, Type::Boolean)
            }
            Kind::Exists => {
                let Token { kind, at } = self.advance()?;
                let Kind::Word(name) = kind else {
                    return Err(self.wrong_at(at, format!("EXISTS wants an attribute, not {}", kind.name())));
                };
                (Op::Exists(self.attribute(name, at)?), Type::Boolean)
            }
            Kind::Open => {
                let ty = self.nested(Level::Logic)?;
                self.expect(Kind::Close)?;
                return Ok(ty);
            }
            Kind::Word(name) if self.token.kind == Kind::Open => return self.call(name, at),
            Kind::Word(name) => (Op::Attribute(self.attribute(name, at)?), Type::Any),
            other => {
                let message =
                    format!("an attribute, a literal or a function has to come here, not {}", other.name());
                return Err(self.wrong_at(at, message));
            }
        };
        self.program.code.push(op);
        Ok(ty)
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Type, FilterError> {
        let letters = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        if !name.bytes().all(letters) || name.starts_with('_') {
            let message = format!("{:?} is no name of a function: those have letters and _", shown(name));
            return Err(self.wrong_at(at, message));
        }
        self.expect(Kind::Open)?;
        let arguments = self.list(Kind::Close)?;
        if self.token.kind != Kind::Close {
            let message = format!("\",\" or \")\" has to come here, not {}", self.token.kind.name());
            return Err(self.wrong(message));
        }
        self.advance()?;
        let (op, ty) = match Function::find(name, arguments) {
            Ok(function) => (Op::Call { function, arguments: place(arguments) }, function.result()),
            Err(reason) => {
                self.doubt(at, reason);
                (Op::NoFunction { arguments: place(arguments) }, Type::Boolean)
            }
        };
        self.program.code.push(op);
        Ok(ty)
    }

    /// The place of an attribute. Names may be written in large letters; they are small ones (CE §3).
    fn attribute(&mut self, name: &str, at: usize) -> Result<u16, FilterError> {
        let name = name.to_ascii_lowercase();
        if name == "data" {
            self.doubt(at, "CESQL sees attributes, not data; CEL sees both".to_owned());
        } else if !is_attribute_name(&name) {
            let message = format!("{:?} is no attribute: those have letters and digits only", shown(&name));
            return Err(self.wrong_at(at, message));
        }
        Ok(self.program.name(&name))
    }

    fn integer(&self, digits: &str, at: usize) -> Result<Op, FilterError> {
        let range =
            || self.wrong_at(at, format!("{} is not within -2147483648 to 2147483647", shown(digits)));
        digits.parse().map(Op::Integer).map_err(|_| range())
    }

    /// Whether the next token is a number that begins right behind the sign at `sign`.
    fn is_number_behind(&self, sign: usize) -> bool {
        matches!(self.token.kind, Kind::Integer(_)) && self.token.at == sign + 1
    }

    fn advance(&mut self) -> Result<Token<'t>, FilterError> {
        let (token, behind) = token::next(self.text, self.behind)?;
        self.behind = behind;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn expect(&mut self, kind: Kind<'static>) -> Result<(), FilterError> {
        if self.token.kind != kind {
            let (wanted, found) = (kind.name(), self.token.kind.name());
            return Err(self.wrong(format!("{wanted} has to come here, not {found}")));
        }
        self.advance().map(|_| ())
    }

    fn doubt(&mut self, at: usize, message: String) {
        let doubt = self.wrong_at(at, message);
        self.doubts.get_or_insert(doubt);
    }

    fn wrong(&self, message: String) -> FilterError {
        self.wrong_at(self.token.at, message)
    }

    fn wrong_at(&self, at: usize, message: String) -> FilterError {
        FilterError::new(self.text, at, message)
    }
}

enum Infix {
    Op(Op, Type),
    And,
    Or,
    Postfix,
}

/// What a token is between operands.
fn infix(kind: &Kind<'_>) -> Option<(Level, Infix)> {
    let op = |level, op| {
        let ty =
            if level == Level::Comparison || level == Level::Logic { Type::Boolean } else { Type::Integer };
        Some((level, Infix::Op(op, ty)))
    };
    match kind {
        Kind::And => Some((Level::Logic, Infix::And)),
        Kind::Or => Some((Level::Logic, Infix::Or)),
        Kind::Xor => op(Level::Logic, Op::Xor),
        Kind::Equal => op(Level::Comparison, Op::Equal),
        Kind::NotEqual => op(Level::Comparison, Op::NotEqual),
        Kind::Less => op(Level::Comparison, Op::Less),
        Kind::LessEqual => op(Level::Comparison, Op::LessEqual),
        Kind::Greater => op(Level::Comparison, Op::Greater),
        Kind::GreaterEqual => op(Level::Comparison, Op::GreaterEqual),
        Kind::Plus => op(Level::Additive, Op::Add),
        Kind::Minus => op(Level::Additive, Op::Subtract),
        Kind::Star => op(Level::Multiplicative, Op::Multiply),
        Kind::Slash => op(Level::Multiplicative, Op::Divide),
        Kind::Percent => op(Level::Multiplicative, Op::Modulo),
        Kind::Not | Kind::Like | Kind::In => Some((Level::Postfix, Infix::Postfix)),
        Kind::Open
        | Kind::Close
        | Kind::Comma
        | Kind::Exists
        | Kind::True
        | Kind::False
        | Kind::Integer(_)
        | Kind::Text(_)
        | Kind::Word(_)
        | Kind::End => None,
    }
}
