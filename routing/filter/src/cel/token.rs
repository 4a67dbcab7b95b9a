//! Words, literals and signs of CEL. Sans-io.

use crate::error::{FilterError, shown};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The byte it starts at.
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A sign, or the word `in`.
    Sign(&'static str),
    /// Decimal or hexadecimal digits of an integer.
    Integer {
        digits: String,
        radix: u32,
    },
    Unsigned(u64),
    Double(f64),
    Text(String),
    Word(String),
    End,
}

impl Kind {
    /// How it is called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Sign(sign) => format!("\"{sign}\""),
            Self::Integer { digits, .. } => format!("\"{}\"", shown(digits)),
            Self::Unsigned(value) => format!("\"{value}u\""),
            Self::Double(value) => format!("\"{value}\""),
            Self::Text(text) => format!("the string {:?}", shown(text)),
            Self::Word(word) => format!("{:?}", shown(word)),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[", "]",
    "{", "}", ",", ".",
];

/// The next token at or behind `from`, and the byte behind it.
pub(super) fn next(text: &str, from: usize) -> Result<(Token, usize), FilterError> {
    let at = skip_blank(text, from);
    let rest = text.get(at..).unwrap_or_default();
    let bytes = rest.as_bytes();
    let Some(first) = bytes.first().copied() else {
        return Ok((Token { kind: Kind::End, at: text.len() }, text.len()));
    };
    let fraction = first == b'.' && bytes.get(1).is_some_and(u8::is_ascii_digit);
    let (kind, length) = if first.is_ascii_digit() || fraction {
        number(text, at)?
    } else if let Some((raw, quote, start)) = string_start(rest) {
        let (value, end) = string(text, at + start, quote, raw)?;
        return Ok((Token { kind: Kind::Text(value), at }, end));
    } else if first.is_ascii_alphabetic() || first == b'_' {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        if matches!(word, "b" | "B" | "br" | "BR" | "rb")
            && rest.get(end..).is_some_and(|r| r.starts_with(['"', '\'']))
        {
            return Err(FilterError::new(text, at, "bytes literals are not known here"));
        }
        (if word == "in" { Kind::Sign("in") } else { Kind::Word(word.to_owned()) }, end)
    } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(*sign)) {
        (Kind::Sign(sign), sign.len())
    } else {
        let unknown = rest.chars().next().unwrap_or_default();
        let message = match unknown {
            '=' => "\"=\" is written \"==\" in CEL".to_owned(),
            '&' | '|' => format!("\"{unknown}\" is written \"{unknown}{unknown}\" in CEL"),
            other => format!("{other:?} means nothing here"),
        };
        return Err(FilterError::new(text, at, message));
    };
    Ok((Token { kind, at }, at + length))
}

/// Passes over white space and comments.
fn skip_blank(text: &str, mut at: usize) -> usize {
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\x0c']).len();
        at += blank;
        let rest = text.get(at..).unwrap_or_default();
        if !rest.starts_with("//") {
            return at;
        }
        at += rest.find('\n').unwrap_or(rest.len());
    }
}

fn number(text: &str, at: usize) -> Result<(Kind, usize), FilterError> {
    let rest = text.get(at..).unwrap_or_default();
    let digits_from = |from: usize| rest.bytes().skip(from).take_while(u8::is_ascii_digit).count();
    let wrong = |message: &str| FilterError::new(text, at, message);
    let unsigned = |end: usize| matches!(rest.as_bytes().get(end), Some(b'u' | b'U'));
    let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
    let (start, radix, mut end) = if is_hex {
        (2, 16, 2 + rest.bytes().skip(2).take_while(u8::is_ascii_hexdigit).count())
    } else {
        (0, 10, digits_from(0))
    };
    let mut double = false;
    if !is_hex {
        let more = digits_from(end + 1);
        if rest.as_bytes().get(end) == Some(&b'.') && more > 0 {
            end += 1 + more;
            double = true;
        }
        if matches!(rest.as_bytes().get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.as_bytes().get(end + 1), Some(b'+' | b'-')));
            let exponent = digits_from(end + 1 + sign);
            if exponent == 0 {
                return Err(wrong("this number has no exponent"));
            }
            end += 1 + sign + exponent;
            double = true;
        }
    }
    let digits = rest.get(start..end).unwrap_or_default();
    let (kind, end) = if double {
        (Kind::Double(digits.parse().map_err(|_| wrong("this is no number"))?), end)
    } else if unsigned(end) {
        let value =
            u64::from_str_radix(digits, radix).map_err(|_| wrong("not within 0 to 18446744073709551615"))?;
        (Kind::Unsigned(value), end + 1)
    } else {
        (Kind::Integer { digits: digits.to_owned(), radix }, end)
    };
    match rest.as_bytes().get(end) {
        Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => Err(wrong("this is no number")),
        _ if digits.is_empty() => Err(wrong("this is no number")),
        _ => Ok((kind, end)),
    }
}

/// Whether a string starts here: raw or not, its quotes, and where they are.
fn string_start(rest: &str) -> Option<(bool, &'static str, usize)> {
    let raw = rest.starts_with(['r', 'R']);
    let start = usize::from(raw);
    let quotes = rest.get(start..)?;
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| quotes.starts_with(*quote))?;
    Some((raw, quote, start))
}

/// The text between the quotes at `at`, and the byte behind them.
fn string(text: &str, at: usize, quote: &str, raw: bool) -> Result<(String, usize), FilterError> {
    let mut value = String::new();
    let mut place = at + quote.len();
    loop {
        let rest = text.get(place..).unwrap_or_default();
        if rest.starts_with(quote) {
            return Ok((value, place + quote.len()));
        }
        let Some(c) = rest.chars().next().filter(|c| quote.len() == 3 || !matches!(c, '\n' | '\r')) else {
            return Err(FilterError::new(text, at, "this string has no end"));
        };
        if c != '\\' || raw {
            value.push(c);
            place += c.len_utf8();
            continue;
        }
        let escaped = escape(rest).ok_or_else(|| {
            FilterError::new(text, place, "no such escape; a backslash is written \\\\, or the string r'…'")
        })?;
        value.push(escaped.0);
        place += escaped.1;
    }
}

/// The character that the escape at the start of `rest` stands for, and its length.
fn escape(rest: &str) -> Option<(char, usize)> {
    let kind = rest.chars().nth(1)?;
    let simple = match kind {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '\'' | '"' | '`' | '?' => kind,
        'x' | 'X' => return coded(rest, 2, 2, 16),
        'u' => return coded(rest, 2, 4, 16),
        'U' => return coded(rest, 2, 8, 16),
        '0'..='3' => return coded(rest, 1, 3, 8),
        _ => return None,
    };
    Some((simple, 2))
}

fn coded(rest: &str, start: usize, digits: usize, radix: u32) -> Option<(char, usize)> {
    let code = rest.get(start..start + digits)?;
    if code.starts_with('+') {
        return None;
    }
    Some((char::from_u32(u32::from_str_radix(code, radix).ok()?)?, start + digits))
}
