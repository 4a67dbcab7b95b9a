//! Filters against evaluators that are written to be plain, over random expressions and events: no compilation, no
//! sharing, no short cuts but those that the languages ask for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails that way")]
#![expect(clippy::wildcard_enum_match_arm, reason = "of the kinds of JSON an operator takes a few")]

mod support;

use std::collections::BTreeMap;

use event::Language;
use filter::cesql::{Errors, Expression, Value};
use filter::{EventView, Filter, Verdict};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A CESQL expression as its meaning, not as its text.
#[derive(Clone, Debug)]
enum Sql {
    Bool(bool),
    Int(i32),
    Text(String),
    Attribute(&'static str),
    Exists(&'static str),
    Not(Box<Self>),
    Negate(Box<Self>),
    Binary(&'static str, Box<Self>, Box<Self>),
    Like(Box<Self>, bool, String),
    In(Box<Self>, bool, Vec<Self>),
    Call(&'static str, Vec<Self>),
}

const ATTRIBUTES: [&str; 6] = ["type", "n", "m", "yes", "word", "none"];

fn sql() -> impl Strategy<Value = Sql> {
    let text = "[ab%_\\\\'1-3]{0,4}|true|FALSE|-?[0-9]{1,3}|2147483647";
    let attribute = proptest::sample::select(&ATTRIBUTES[..]);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Sql::Bool),
        prop_oneof![-3..4i32, Just(i32::MIN), Just(i32::MAX)].prop_map(Sql::Int),
        text.prop_map(Sql::Text),
        attribute.clone().prop_map(Sql::Attribute),
        attribute.prop_map(Sql::Exists),
    ];
    let binary = proptest::sample::select(
        &["AND", "OR", "XOR", "=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%"][..],
    );
    let call = proptest::sample::select(
        &[
            "LENGTH",
            "CONCAT",
            "CONCAT_WS",
            "LOWER",
            "UPPER",
            "TRIM",
            "LEFT",
            "RIGHT",
            "SUBSTRING",
            "ABS",
            "INT",
            "BOOL",
            "STRING",
            "NONE",
        ][..],
    );
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            inner.clone().prop_map(|x| Sql::Not(x.into())),
            inner.clone().prop_map(|x| Sql::Negate(x.into())),
            (binary.clone(), inner.clone(), inner.clone()).prop_map(|(op, x, y)| Sql::Binary(
                op,
                x.into(),
                y.into()
            )),
            (inner.clone(), any::<bool>(), "[ab%_\\\\1]{0,4}").prop_map(|(x, not, p)| Sql::Like(
                x.into(),
                not,
                p
            )),
            (inner.clone(), any::<bool>(), proptest::collection::vec(inner.clone(), 1..4))
                .prop_map(|(x, not, set)| Sql::In(x.into(), not, set)),
            (call.clone(), proptest::collection::vec(inner, 0..4))
                .prop_map(|(name, list)| Sql::Call(name, list)),
        ]
    })
}

impl Sql {
    /// Its text, with all parentheses.
    fn text(&self) -> String {
        let list = |list: &[Self]| list.iter().map(Self::text).collect::<Vec<_>>().join(",");
        let not = |not: bool| if not { "NOT " } else { "" };
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Text(text) => quoted(text),
            Self::Attribute(name) => (*name).to_owned(),
            Self::Exists(name) => format!("exists {name}"),
            Self::Not(x) => format!("NOT ({})", x.text()),
            Self::Negate(x) => format!("-({})", x.text()),
            Self::Binary(op, x, y) => format!("({}) {op} ({})", x.text(), y.text()),
            Self::Like(x, negated, pattern) => {
                format!("({}) {}LIKE {}", x.text(), not(*negated), quoted(pattern))
            }
            Self::In(x, negated, set) => format!("({}) {}IN ({})", x.text(), not(*negated), list(set)),
            Self::Call(name, arguments) => format!("{name}({})", list(arguments)),
        }
    }

    /// The specification, as it is written: a value, or an error with a value.
    fn naive(&self, event: &BTreeMap<&str, Plain>) -> Result<Plain, (Plain, Errors)> {
        let inner = |x: &Self, zero: Plain| x.naive(event).map_err(|(_, error)| (zero, error));
        let (no, nought) = (Plain::Bool(false), Plain::Int(0));
        match self {
            Self::Bool(value) => Ok(Plain::Bool(*value)),
            Self::Int(value) => Ok(Plain::Int(*value)),
            Self::Text(text) => Ok(Plain::Text(unquoted(text))),
            Self::Attribute(name) => {
                event.get(name).cloned().ok_or((Plain::Bool(false), Errors::MISSING_ATTRIBUTE))
            }
            Self::Exists(name) => Ok(Plain::Bool(event.contains_key(name))),
            Self::Not(x) => {
                Ok(Plain::Bool(!inner(x, no.clone())?.bool().map_err(|e| (Plain::Bool(true), e))?))
            }
            Self::Negate(x) => {
                let x = inner(x, nought.clone())?.int().map_err(|e| (nought.clone(), e))?;
                x.checked_neg().map(Plain::Int).ok_or((nought, Errors::MATH))
            }
            Self::Binary(op, x, y) => binary(op, x, y, event),
            Self::Like(x, negated, pattern) => {
                let text = inner(x, no)?.text();
                let text: Vec<char> = text.chars().collect();
                Ok(Plain::Bool(like(&text, &unquoted(pattern).chars().collect::<Vec<_>>()) != *negated))
            }
            Self::In(x, negated, set) => {
                let x = inner(x, no.clone())?;
                let set: Result<Vec<Plain>, _> = set.iter().map(|y| inner(y, no.clone())).collect();
                let (mut found, mut failed) = (false, Errors::NONE);
                for y in set? {
                    match y.same(&x) {
                        Ok(same) => found |= same,
                        Err((same, error)) => (found, failed) = (found | same, error),
                    }
                }
                let value = Plain::Bool(found != *negated);
                if failed.is_empty() { Ok(value) } else { Err((value, failed)) }
            }
            Self::Call(name, arguments) => call(name, arguments, event),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Bool(bool),
    Int(i32),
    Text(String),
}

impl Plain {
    fn bool(&self) -> Result<bool, Errors> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Int(value) => Ok(*value != 0),
            Self::Text(text) => text.to_lowercase().parse().map_err(|_| Errors::CAST),
        }
    }

    fn int(&self) -> Result<i32, Errors> {
        match self {
            Self::Bool(value) => Ok(i32::from(*value)),
            Self::Int(value) => Ok(*value),
            Self::Text(text) => text.parse().map_err(|_| Errors::CAST),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// Whether it is `other` once it is cast to its type; on an error, whether zero would be.
    fn same(&self, other: &Self) -> Result<bool, (bool, Errors)> {
        match other {
            Self::Bool(y) => self.bool().map(|x| x == *y).map_err(|e| (!*y, e)),
            Self::Int(y) => self.int().map(|x| x == *y).map_err(|e| (0 == *y, e)),
            Self::Text(y) => Ok(self.text() == *y),
        }
    }
}

fn binary(op: &str, x: &Sql, y: &Sql, event: &BTreeMap<&str, Plain>) -> Result<Plain, (Plain, Errors)> {
    let arithmetic = "+-*/%".contains(op);
    let zero = if arithmetic { Plain::Int(0) } else { Plain::Bool(false) };
    let failed = |error: Errors| (zero.clone(), error);
    let value = |x: &Sql| x.naive(event).map_err(|(_, error)| failed(error));
    let x = value(x)?;
    if op == "AND" || op == "OR" {
        let left = x.bool().map_err(failed)?;
        if left == (op == "OR") {
            return Ok(Plain::Bool(left));
        }
        return Ok(Plain::Bool(value(y)?.bool().map_err(failed)?));
    }
    let y = value(y)?;
    let bools = || Ok((x.bool().map_err(failed)?, y.bool().map_err(failed)?));
    let ints = || Ok((x.int().map_err(failed)?, y.int().map_err(failed)?));
    Ok(match op {
        "XOR" => bools().map(|(x, y)| Plain::Bool(x != y))?,
        "=" => Plain::Bool(x.same(&y).map_err(|(_, e)| failed(e))?),
        "!=" | "<>" => Plain::Bool(!x.same(&y).map_err(|(_, e)| failed(e))?),
        "<" => ints().map(|(x, y)| Plain::Bool(x < y))?,
        "<=" => ints().map(|(x, y)| Plain::Bool(x <= y))?,
        ">" => ints().map(|(x, y)| Plain::Bool(x > y))?,
        ">=" => ints().map(|(x, y)| Plain::Bool(x >= y))?,
        _ => {
            let (x, y) = ints().map(|(x, y)| (i64::from(x), i64::from(y)))?;
            let result = match op {
                "+" => Some(x + y),
                "-" => Some(x - y),
                "*" => Some(x * y),
                "/" => x.checked_div(y),
                _ => x.checked_rem(y),
            };
            let result = result.and_then(|result| i32::try_from(result).ok());
            Plain::Int(result.ok_or_else(|| failed(Errors::MATH))?)
        }
    })
}

fn call(name: &str, arguments: &[Sql], event: &BTreeMap<&str, Plain>) -> Result<Plain, (Plain, Errors)> {
    let zero = match name {
        "LENGTH" | "ABS" | "INT" => Plain::Int(0),
        "BOOL" => Plain::Bool(false),
        _ => Plain::Text(String::new()),
    };
    let counts = match name {
        "CONCAT" => 0..=9,
        "CONCAT_WS" => 1..=9,
        "LEFT" | "RIGHT" => 2..=2,
        "SUBSTRING" => 2..=3,
        "NONE" => 9..=9,
        _ => 1..=1,
    };
    let values: Result<Vec<Plain>, _> =
        arguments.iter().map(|x| x.naive(event).map_err(|(_, e)| (zero.clone(), e))).collect();
    let values = values.map_err(|(value, e)| match counts.contains(&arguments.len()) {
        true => (value, e),
        false => (Plain::Bool(false), e),
    })?;
    if !counts.contains(&arguments.len()) {
        return Err((Plain::Bool(false), Errors::MISSING_FUNCTION));
    }
    let text = |at: usize| values[at].text();
    let chars = |at: usize| text(at).chars().collect::<Vec<char>>();
    let int = |at: usize| values[at].int().map_err(|e| (zero.clone(), e));
    let made = |chars: &[char]| Plain::Text(chars.iter().collect());
    Ok(match name {
        "LENGTH" => Plain::Int(i32::try_from(chars(0).len()).unwrap()),
        "CONCAT" => Plain::Text(values.iter().map(Plain::text).collect()),
        "CONCAT_WS" => Plain::Text(values[1..].iter().map(Plain::text).collect::<Vec<_>>().join(&text(0))),
        "LOWER" => Plain::Text(text(0).to_lowercase()),
        "UPPER" => Plain::Text(text(0).to_uppercase()),
        "TRIM" => Plain::Text(text(0).trim().to_owned()),
        "ABS" => int(0)?.checked_abs().map(Plain::Int).ok_or((Plain::Int(i32::MAX), Errors::MATH))?,
        "INT" => Plain::Int(int(0)?),
        "BOOL" => Plain::Bool(values[0].bool().map_err(|e| (zero.clone(), e))?),
        "STRING" => values[0].text().pipe(Plain::Text),
        "LEFT" | "RIGHT" => {
            let all = chars(0);
            // The value that goes with a cast that failed is that of no characters.
            let count = values[1].int().map_err(|e| (made(&[]), e))?;
            let Ok(count) = usize::try_from(count) else {
                return Err((made(&all), Errors::FUNCTION_EVALUATION));
            };
            let count = count.min(all.len());
            made(if name == "LEFT" { &all[..count] } else { &all[all.len() - count..] })
        }
        _ => {
            let all = chars(0);
            let length = i32::try_from(all.len()).unwrap();
            let position = int(1)?;
            let count = if values.len() == 3 { int(2)? } else { i32::MAX };
            if position > length || position < -length || count < 0 {
                return Err((zero, Errors::FUNCTION_EVALUATION));
            }
            let from = match position {
                0 => return Ok(zero),
                1.. => position - 1,
                _ => length + position,
            };
            let rest = &all[usize::try_from(from).unwrap()..];
            made(&rest[..rest.len().min(usize::try_from(count).unwrap())])
        }
    })
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}

impl Pipe for String {}

/// LIKE by the book: exponential, on few characters.
fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|at| like(&text[at..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        ['\\', c @ ('%' | '_'), rest @ ..] | [c, rest @ ..] => {
            text.first() == Some(c) && like(&text[1..], rest)
        }
    }
}

/// As CESQL writes a text: a backslash stays itself, but before a quote. A text that ends with one cannot be written.
fn quoted(text: &str) -> String {
    format!("'{}'", unquoted(text).replace('\'', "\\'"))
}

/// A text that can be written: without backslashes where they would take the meaning of what follows.
fn unquoted(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("\\'") {
        text = text.replace("\\'", "'");
    }
    text.trim_end_matches('\\').to_owned()
}

fn event_of(n: i32, m: &str, word: &str) -> (event::Event, BTreeMap<&'static str, Plain>) {
    let mut json =
        json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "ab1", "n": n, "yes": true });
    let mut plain = BTreeMap::from([
        ("type", Plain::Text("ab1".into())),
        ("n", Plain::Int(n)),
        ("yes", Plain::Bool(true)),
    ]);
    for (name, value) in [("m", m), ("word", word)] {
        if !value.is_empty() {
            json[name] = json!(value);
            plain.insert(name, Plain::Text(value.to_owned()));
        }
    }
    (support::cloud_event(&json), plain)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cesql_is_what_the_specification_says(
        sql in sql(), n in -3..4i32, m in "[0-9-]{0,2}", word in "[ab1]{0,3}",
    ) {
        let text = sql.text();
        prop_assume!(text.len() <= filter::TEXT_MAX);
        let Ok(expression) = Expression::parse(&text) else {
            return Err(TestCaseError::fail(format!("{text}: {}", Expression::parse(&text).unwrap_err())));
        };
        let (event, plain) = event_of(n, &m, &word);
        let view = EventView::new(&event);
        let (value, errors) = expression.evaluate(&view);
        let value = match value {
            Value::Boolean(value) => Plain::Bool(value),
            Value::Integer(value) => Plain::Int(value),
            Value::String(text) => Plain::Text(text.into_owned()),
        };
        let (wanted, wanted_errors) = match sql.naive(&plain) {
            Ok(wanted) => (wanted, Errors::NONE),
            Err((wanted, errors)) => (wanted, errors),
        };
        // An operator may find more than one thing wrong; the plain one stops at the first.
        prop_assert_eq!(errors.is_empty(), wanted_errors.is_empty(), "{}: {:?}", &text, errors);
        prop_assert_eq!(errors | wanted_errors, errors, "{}", &text);
        // Beside an error of a cast the value may be that of the operand's zero, or of the operator's.
        if errors | Errors::CAST != errors {
            prop_assert_eq!(value, wanted, "{}", &text);
        }
        if let Ok(filter) = Filter::compile(Language::Cesql, &text) {
            let passes = sql.naive(&plain) == Ok(Plain::Bool(true));
            prop_assert_eq!(filter.matches(&view), passes, "{}", &text);
        }
    }

    #[test]
    fn cel_is_what_a_plain_walk_says(cel in cel(), data in data()) {
        let text = cel.text();
        prop_assume!(text.len() <= filter::TEXT_MAX);
        let event = support::with_data(&data.to_string());
        match Filter::compile(Language::Cel, &text) {
            Ok(filter) => {
                let wanted = match cel.naive(&data, &mut Vec::new()) {
                    Some(Json::Bool(true)) => Verdict::Passes,
                    Some(Json::Bool(false)) => Verdict::Fails,
                    _ => Verdict::Error,
                };
                prop_assert_eq!(filter.judge(&EventView::new(&event)).verdict, wanted, "{} on {}", &text, &data);
            }
            Err(error) => {
                prop_assert!(error.message.contains("yields something else"), "{}: {}", &text, error);
                let is_bool = matches!(cel.naive(&data, &mut Vec::new()), Some(Json::Bool(_)));
                prop_assert!(!is_bool, "{} was refused: {}", &text, error);
            }
        }
    }
}

/// A CEL expression over JSON, as its meaning.
#[derive(Clone, Debug)]
enum Cel {
    Literal(Json),
    Data,
    /// The variable of the innermost macro; `data` outside of all.
    Variable,
    Member(Box<Self>, &'static str),
    Index(Box<Self>, Box<Self>),
    Has(Box<Self>, &'static str),
    Not(Box<Self>),
    Binary(&'static str, Box<Self>, Box<Self>),
    If(Box<[Self; 3]>),
    Size(Box<Self>),
    Macro(&'static str, Box<Self>, Box<Self>),
    List(Vec<Self>),
}

fn data() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-3..4i64).prop_map(Json::from),
        "[ab]{0,2}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn cel() -> impl Strategy<Value = Cel> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|value| Cel::Literal(json!(value))),
        (-3..4i64).prop_map(|value| Cel::Literal(json!(value))),
        "[ab]{0,2}".prop_map(|value| Cel::Literal(json!(value))),
        Just(Cel::Literal(Json::Null)),
        Just(Cel::Data),
        Just(Cel::Variable),
    ];
    let name = proptest::sample::select(&["a", "b", "c"][..]);
    let binary = proptest::sample::select(
        &["&&", "||", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"][..],
    );
    let macros = proptest::sample::select(&["all", "exists", "exists_one", "filter", "map"][..]);
    leaf.prop_recursive(5, 40, 3, move |inner| {
        prop_oneof![
            (inner.clone(), name.clone()).prop_map(|(of, name)| Cel::Member(of.into(), name)),
            (inner.clone(), inner.clone()).prop_map(|(of, at)| Cel::Index(of.into(), at.into())),
            (inner.clone(), name.clone()).prop_map(|(of, name)| Cel::Has(of.into(), name)),
            inner.clone().prop_map(|x| Cel::Not(x.into())),
            (binary.clone(), inner.clone(), inner.clone()).prop_map(|(op, x, y)| Cel::Binary(
                op,
                x.into(),
                y.into()
            )),
            [inner.clone(), inner.clone(), inner.clone()].prop_map(|parts| Cel::If(parts.into())),
            inner.clone().prop_map(|x| Cel::Size(x.into())),
            (macros.clone(), inner.clone(), inner.clone()).prop_map(|(m, x, y)| Cel::Macro(
                m,
                x.into(),
                y.into()
            )),
            proptest::collection::vec(inner, 0..3).prop_map(Cel::List),
        ]
    })
}

impl Cel {
    fn text(&self) -> String {
        self.text_in(0)
    }

    fn text_in(&self, depth: usize) -> String {
        let inner = |x: &Self| format!("({})", x.text_in(depth));
        match self {
            Self::Literal(json) => json.to_string(),
            Self::Data => "data".to_owned(),
            Self::Variable if depth == 0 => "data".to_owned(),
            Self::Variable => format!("v{depth}"),
            Self::Member(of, name) => format!("{}.{name}", inner(of)),
            Self::Index(of, at) => format!("{}[{}]", inner(of), at.text_in(depth)),
            Self::Has(of, name) => format!("has({}.{name})", inner(of)),
            Self::Not(x) => format!("!{}", inner(x)),
            Self::Binary(op, x, y) => format!("{} {op} {}", inner(x), inner(y)),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                format!("{} ? {} : {}", inner(condition), inner(yes), inner(no))
            }
            Self::Size(x) => format!("size({})", x.text_in(depth)),
            Self::Macro(name, of, x) => {
                format!("{}.{name}(v{}, {})", inner(of), depth + 1, x.text_in(depth + 1))
            }
            Self::List(list) => {
                let list: Vec<String> = list.iter().map(|x| x.text_in(depth)).collect();
                format!("[{}]", list.join(", "))
            }
        }
    }

    fn naive(&self, data: &Json, variables: &mut Vec<Json>) -> Option<Json> {
        match self {
            Self::Literal(json) => Some(json.clone()),
            Self::Data => Some(data.clone()),
            Self::Variable => Some(variables.last().unwrap_or(data).clone()),
            Self::Member(of, name) => of.naive(data, variables)?.as_object()?.get(*name).cloned(),
            Self::Index(of, at) => {
                let (of, at) = (of.naive(data, variables)?, at.naive(data, variables)?);
                match (&of, &at) {
                    (Json::Object(map), Json::String(name)) => map.get(name).cloned(),
                    (Json::Array(list), Json::Number(at)) => {
                        list.get(usize::try_from(at.as_i64()?).ok()?).cloned()
                    }
                    _ => None,
                }
            }
            Self::Has(of, name) => Some(json!(of.naive(data, variables)?.as_object()?.contains_key(*name))),
            Self::Not(x) => Some(json!(!x.naive(data, variables)?.as_bool()?)),
            Self::Binary(op @ ("&&" | "||"), x, y) => {
                let decides = *op == "||";
                let mut one = |x: &Self| x.naive(data, variables).and_then(|x| x.as_bool());
                match (one(x), one(y)) {
                    (Some(x), _) if x == decides => Some(json!(decides)),
                    (_, Some(y)) if y == decides => Some(json!(decides)),
                    (Some(_), Some(_)) => Some(json!(!decides)),
                    _ => None,
                }
            }
            Self::Binary(op, x, y) => {
                let (x, y) = (x.naive(data, variables)?, y.naive(data, variables)?);
                operate(op, &x, &y)
            }
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                match condition.naive(data, variables)?.as_bool()? {
                    true => yes.naive(data, variables),
                    false => no.naive(data, variables),
                }
            }
            Self::Size(x) => match x.naive(data, variables)? {
                Json::String(text) => Some(json!(text.chars().count())),
                Json::Array(list) => Some(json!(list.len())),
                Json::Object(map) => Some(json!(map.len())),
                _ => None,
            },
            Self::Macro(name, of, x) => {
                let elements: Vec<Json> = match of.naive(data, variables)? {
                    Json::Array(list) => list,
                    Json::Object(map) => map.into_iter().map(|(key, _)| Json::from(key)).collect(),
                    _ => return None,
                };
                let results: Vec<Option<Json>> = elements
                    .iter()
                    .map(|element| {
                        variables.push(element.clone());
                        let result = x.naive(data, variables);
                        variables.pop();
                        result
                    })
                    .collect();
                macros(name, elements, results)
            }
            Self::List(list) => {
                let list: Option<Vec<Json>> = list.iter().map(|x| x.naive(data, variables)).collect();
                list.map(Json::from)
            }
        }
    }
}

fn macros(name: &str, elements: Vec<Json>, results: Vec<Option<Json>>) -> Option<Json> {
    let truths = || results.iter().map(|result| result.as_ref()?.as_bool());
    match name {
        "all" if truths().any(|truth| truth == Some(false)) => Some(json!(false)),
        "all" => truths().all(|truth| truth == Some(true)).then_some(Json::Bool(true)),
        "exists" if truths().any(|truth| truth == Some(true)) => Some(json!(true)),
        "exists" => truths().all(|truth| truth == Some(false)).then_some(Json::Bool(false)),
        "exists_one" => {
            let truths: Option<Vec<bool>> = truths().collect();
            Some(json!(truths?.into_iter().filter(|truth| *truth).count() == 1))
        }
        "filter" => {
            let truths: Option<Vec<bool>> = truths().collect();
            let kept = elements.into_iter().zip(truths?).filter(|(_, truth)| *truth);
            Some(kept.map(|(element, _)| element).collect())
        }
        _ => results.into_iter().collect::<Option<Vec<Json>>>().map(Json::from),
    }
}

fn operate(op: &str, x: &Json, y: &Json) -> Option<Json> {
    let order = || match (x, y) {
        (Json::Number(x), Json::Number(y)) => Some(x.as_i64()?.cmp(&y.as_i64()?)),
        (Json::String(x), Json::String(y)) => Some(x.cmp(y)),
        (Json::Bool(x), Json::Bool(y)) => Some(x.cmp(y)),
        _ => None,
    };
    Some(match op {
        "==" => json!(x == y),
        "!=" => json!(x != y),
        "<" => json!(order()?.is_lt()),
        "<=" => json!(order()?.is_le()),
        ">" => json!(order()?.is_gt()),
        ">=" => json!(order()?.is_ge()),
        "in" => match y {
            Json::Array(list) => json!(list.contains(x)),
            Json::Object(map) => json!(x.as_str().is_some_and(|name| map.contains_key(name))),
            _ => return None,
        },
        "+" if x.is_string() && y.is_string() => json!(format!("{}{}", x.as_str()?, y.as_str()?)),
        "+" if x.is_array() && y.is_array() => x.as_array()?.iter().chain(y.as_array()?).cloned().collect(),
        _ => {
            let (x, y) = (x.as_i64()?, y.as_i64()?);
            json!(match op {
                "+" => x.checked_add(y)?,
                "-" => x.checked_sub(y)?,
                "*" => x.checked_mul(y)?,
                "/" => x.checked_div(y)?,
                _ => x.checked_rem(y)?,
            })
        }
    })
}
