//! What a CEL expression is compiled to: a tree, whose names are looked up already.

use super::regex::Regex;
use crate::view::Name;

#[derive(Debug)]
pub(super) enum Expr {
    Literal(Literal),
    List(Box<[Self]>),
    /// `event`.
    Event,
    /// `event.NAME`.
    Attribute(Name),
    /// `data`.
    Data,
    /// `topic`.
    Topic,
    /// The variable of the comprehension that is so many levels out, counted from the outermost.
    Variable(usize),
    Member(Box<Self>, Box<str>),
    Index(Box<Self>, Box<Self>),
    /// `has(event.NAME)`.
    HasAttribute(Name),
    HasMember(Box<Self>, Box<str>),
    Not(Box<Self>),
    Negate(Box<Self>),
    Binary(Binary, Box<Self>, Box<Self>),
    /// `a && b && …`.
    All(Box<[Self]>),
    /// `a || b || …`.
    Any(Box<[Self]>),
    If(Box<[Self; 3]>),
    Call(Function, Box<[Self]>),
    Matches(Box<Self>, Box<Regex>),
    Comprehension(Box<Comprehension>),
}

#[derive(Debug)]
pub(super) enum Literal {
    Null,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Double(f64),
    Text(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// A function; the receiver is its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Int,
    Uint,
    Double,
    String,
    Bool,
}

/// A macro over the elements of a list, or the keys of an object.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub(super) kind: Macro,
    pub(super) range: Expr,
    /// Which elements, or the only expression of those that have one.
    pub(super) predicate: Option<Expr>,
    /// What `map` makes of an element.
    pub(super) transform: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Expr {
    /// How many levels it has.
    pub(super) fn height(&self) -> usize {
        let all = |list: &[Self]| list.iter().map(Self::height).max().unwrap_or(0);
        1 + match self {
            Self::Literal(_)
            | Self::Event
            | Self::Attribute(_)
            | Self::Data
            | Self::Topic
            | Self::Variable(_)
            | Self::HasAttribute(_) => 0,
            Self::List(list) | Self::All(list) | Self::Any(list) | Self::Call(_, list) => all(list),
            Self::If(parts) => all(&**parts),
            Self::Member(of, _)
            | Self::HasMember(of, _)
            | Self::Not(of)
            | Self::Negate(of)
            | Self::Matches(of, _) => of.height(),
            Self::Index(a, b) | Self::Binary(_, a, b) => a.height().max(b.height()),
            Self::Comprehension(comprehension) => {
                let Comprehension { range, predicate, transform, .. } = &**comprehension;
                let inner = [predicate, transform].into_iter().flatten().map(Self::height).max();
                range.height().max(inner.unwrap_or(0))
            }
        }
    }

    /// Whether its value may be `true` or `false`, as far as the text tells.
    pub(super) fn may_be_boolean(&self) -> bool {
        match self {
            Self::Literal(literal) => matches!(literal, Literal::Boolean(_)),
            Self::List(_) | Self::Event | Self::Topic | Self::Negate(_) => false,
            Self::Attribute(name) => matches!(name, Name::Extension(_)),
            Self::Data | Self::Variable(_) | Self::Member(..) | Self::Index(..) => true,
            Self::HasAttribute(_)
            | Self::HasMember(..)
            | Self::Not(_)
            | Self::All(_)
            | Self::Any(_)
            | Self::Matches(..) => true,
            Self::Binary(op, ..) => op.is_comparison(),
            Self::If(parts) => {
                let [_, yes, no] = &**parts;
                yes.may_be_boolean() || no.may_be_boolean()
            }
            Self::Call(function, _) => matches!(
                function,
                Function::Contains | Function::StartsWith | Function::EndsWith | Function::Bool
            ),
            Self::Comprehension(comprehension) => {
                matches!(comprehension.kind, Macro::All | Macro::Exists | Macro::ExistsOne)
            }
        }
    }
}

impl Binary {
    fn is_comparison(self) -> bool {
        match self {
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::LessEqual
            | Self::Greater
            | Self::GreaterEqual
            | Self::In => true,
            Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo => false,
        }
    }
}

impl Function {
    /// The function of this name with so many arguments, the receiver among them if it is called on one; else why there
    /// is none.
    pub(super) fn find(name: &str, arguments: usize, on_receiver: bool) -> Result<Self, String> {
        let known = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        let Some((_, function, wanted, style)) = known else {
            let names: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).chain(MACROS).collect();
            return Err(format!("there is no function {name}; there are {}", names.join(", ")));
        };
        let fits = match style {
            Style::Either => true,
            Style::Receiver => on_receiver,
            Style::Global => !on_receiver,
        };
        if !fits {
            let way = if on_receiver { format!("{name}(x)") } else { format!("x.{name}(…)") };
            return Err(format!("{name} is called as {way}"));
        }
        match arguments == *wanted {
            true => Ok(*function),
            false => {
                let receiver = usize::from(on_receiver);
                let wanted = wanted - receiver;
                Err(format!("{name} takes {wanted} arguments, not {}", arguments - receiver))
            }
        }
    }
}

/// How a function is called.
#[derive(Clone, Copy)]
enum Style {
    Global,
    Receiver,
    Either,
}

const FUNCTIONS: [(&str, Function, usize, Style); 11] = [
    ("size", Function::Size, 1, Style::Either),
    ("contains", Function::Contains, 2, Style::Receiver),
    ("startsWith", Function::StartsWith, 2, Style::Receiver),
    ("endsWith", Function::EndsWith, 2, Style::Receiver),
    ("lowerAscii", Function::LowerAscii, 1, Style::Receiver),
    ("upperAscii", Function::UpperAscii, 1, Style::Receiver),
    ("int", Function::Int, 1, Style::Global),
    ("uint", Function::Uint, 1, Style::Global),
    ("double", Function::Double, 1, Style::Global),
    ("string", Function::String, 1, Style::Global),
    ("bool", Function::Bool, 1, Style::Global),
];

/// For messages.
const MACROS: [&str; 7] = ["matches", "has", "all", "exists", "exists_one", "filter", "map"];
