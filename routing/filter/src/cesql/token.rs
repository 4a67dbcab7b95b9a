//! Words, literals and signs of CESQL. Sans-io.

use std::borrow::Cow;

use crate::error::{FilterError, shown};

/// One token and the byte it starts at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'t> {
    Open,
    Close,
    Comma,
    Star,
    Slash,
    Percent,
    Plus,
    Minus,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Xor,
    Not,
    Like,
    In,
    Exists,
    True,
    False,
    /// Digits, as written.
    Integer(&'t str),
    /// A string without its quotes.
    Text(Cow<'t, str>),
    /// An attribute or a function, as written.
    Word(&'t str),
    End,
}

impl Kind<'_> {
    /// How it is called in messages.
    pub(super) fn name(&self) -> String {
        let sign = match self {
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Star => "*",
            Self::Slash => "/",
            Self::Percent => "%",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::And => "AND",
            Self::Or => "OR",
            Self::Xor => "XOR",
            Self::Not => "NOT",
            Self::Like => "LIKE",
            Self::In => "IN",
            Self::Exists => "EXISTS",
            Self::True => "TRUE",
            Self::False => "FALSE",
            Self::Integer(text) | Self::Word(text) => return format!("\"{}\"", shown(text)),
            Self::Text(text) => return format!("the string '{}'", shown(text)),
            Self::End => return "the end".to_owned(),
        };
        format!("\"{sign}\"")
    }
}

/// Takes `text` apart from `at` on: the next token and the byte behind it.
pub(super) fn next(text: &str, from: usize) -> Result<(Token<'_>, usize), FilterError> {
    let bytes = text.as_bytes();
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let at = from + bytes.iter().skip(from).take_while(blank).count();
    let Some(first) = bytes.get(at).copied() else {
        return Ok((Token { kind: Kind::End, at: text.len() }, text.len()));
    };
    let second = bytes.get(at + 1).copied();
    let (kind, length) = match (first, second) {
        (b'(', _) => (Kind::Open, 1),
        (b')', _) => (Kind::Close, 1),
        (b',', _) => (Kind::Comma, 1),
        (b'*', _) => (Kind::Star, 1),
        (b'/', _) => (Kind::Slash, 1),
        (b'%', _) => (Kind::Percent, 1),
        (b'+', _) => (Kind::Plus, 1),
        (b'-', _) => (Kind::Minus, 1),
        (b'=', Some(b'=')) => return Err(FilterError::new(text, at, "\"==\" is written \"=\" in CESQL")),
        (b'=', _) => (Kind::Equal, 1),
        (b'!', Some(b'=')) | (b'<', Some(b'>')) => (Kind::NotEqual, 2),
        (b'<', Some(b'=')) => (Kind::LessEqual, 2),
        (b'<', _) => (Kind::Less, 1),
        (b'>', Some(b'=')) => (Kind::GreaterEqual, 2),
        (b'>', _) => (Kind::Greater, 1),
        (b'\'' | b'"', _) => return string(text, at, first),
        (byte, _) if byte.is_ascii_alphanumeric() => word(text, at),
        _ => {
            let unknown = text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default();
            return Err(FilterError::new(text, at, format!("{unknown:?} means nothing here")));
        }
    };
    Ok((Token { kind, at }, at + length))
}

/// A keyword in any case, digits, or a name.
fn word(text: &str, at: usize) -> (Kind<'_>, usize) {
    let rest = text.get(at..).unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let word = rest.get(..end).unwrap_or_default();
    let kind = KEYWORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let kind = match kind {
        Some((_, kind)) => kind.clone(),
        None if word.bytes().all(|byte| byte.is_ascii_digit()) => Kind::Integer(word),
        None => Kind::Word(word),
    };
    (kind, end)
}

const KEYWORDS: [(&str, Kind<'static>); 9] = [
    ("and", Kind::And),
    ("or", Kind::Or),
    ("xor", Kind::Xor),
    ("not", Kind::Not),
    ("like", Kind::Like),
    ("in", Kind::In),
    ("exists", Kind::Exists),
    ("true", Kind::True),
    ("false", Kind::False),
];

/// A string in `quote`s. `\` takes the meaning from a quote behind it and is gone then; before anything else it is itself.
fn string(text: &str, at: usize, quote: u8) -> Result<(Token<'_>, usize), FilterError> {
    let rest = text.get(at + 1..).unwrap_or_default();
    let bytes = rest.as_bytes();
    let mut value = Cow::Borrowed("");
    let (mut from, mut place) = (0, 0);
    loop {
        let Some(byte) = bytes.get(place).copied() else {
            return Err(FilterError::new(text, at, "this string has no end"));
        };
        if byte == b'\\' && bytes.get(place + 1) == Some(&quote) {
            value.to_mut().push_str(rest.get(from..place).unwrap_or_default());
            from = place + 1;
            place += 2;
        } else if byte == b'\\' && bytes.get(place + 1) == Some(&b'\\') {
            place += 2;
        } else if byte == quote {
            break;
        } else {
            place += 1;
        }
    }
    let last = rest.get(from..place).unwrap_or_default();
    let value = match value.is_empty() && from == 0 {
        true => Cow::Borrowed(last),
        false => value + last,
    };
    let end = at + 1 + place + 1;
    if bytes.get(place + 1) == Some(&quote) {
        let quote = char::from(quote);
        return Err(FilterError::new(text, end, format!("a quote in a string is written \\{quote}")));
    }
    Ok((Token { kind: Kind::Text(value), at }, end))
}
