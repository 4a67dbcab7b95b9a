//! The test cases of the CloudEvents SQL specification.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails that way"
)]

mod support;

use filter::EventView;
use filter::cesql::{Errors, Expression, Value};
use serde_json::{Value as Json, json};

#[test]
fn every_case_of_the_specification_holds() {
    let mut wrong = Vec::new();
    let lines = include_str!("cesql_tck.jsonl").lines().filter(|line| !line.starts_with('#'));
    let cases: Vec<Json> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 275);
    for case in cases {
        if let Err(found) = check(&case) {
            wrong.push(format!("{case}\n    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(case: &Json) -> Result<(), String> {
    let expected = case["error"].as_str();
    let expression = match Expression::parse(case["expression"].as_str().unwrap()) {
        Ok(_) if expected == Some("parse") => return Err("it was parsed".to_owned()),
        Ok(expression) => expression,
        Err(_) if expected == Some("parse") => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let mut event =
        json!({ "specversion": "1.0", "id": "1", "source": "http://localhost/source", "type": "t" });
    if let Some(given) = case["event"].as_object() {
        event = Json::Object(given.clone());
    }
    for (name, value) in case["overrides"].as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    let event = support::cloud_event(&event);
    let view = EventView::new(&event);
    let (value, errors) = expression.evaluate(&view);
    let found = match &value {
        Value::Boolean(value) => json!(value),
        Value::Integer(value) => json!(value),
        Value::String(text) => json!(text),
    };
    let wanted = match expected {
        None => Errors::NONE,
        Some("math") => Errors::MATH,
        Some("cast") => Errors::CAST,
        Some("missingAttribute") => Errors::MISSING_ATTRIBUTE,
        Some("missingFunction") => Errors::MISSING_FUNCTION,
        Some("functionEvaluation") => Errors::FUNCTION_EVALUATION,
        Some(other) => panic!("an error {other}"),
    };
    match case.get("result").is_none_or(|result| *result == found) && errors == wanted {
        true => Ok(()),
        false => Err(format!("yields {value:?}, {errors:?}")),
    }
}
