//! What must hold for any bytes. Run on the corpus by `corpus.rs`, and on new bytes by the fuzz target.
//!
//! ```text
//! expression [0x00 data of the event]
//! ```

use std::sync::Arc;

use bytes::Bytes;
use event::{Attributes, Event, Language, Meta, Parts, TopicName, Value};
use filter::{EventView, Filter};

/// Compiles the expression in both languages and runs it on events, with and without attributes; panics where the result
/// depends on anything but the two, or an error points outside of the text.
pub(crate) fn check(input: &[u8]) {
    let (text, data) = match input.iter().position(|byte| *byte == 0) {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &b"{\"a\":[1,\"x\",{\"b\":null}]}"[..]),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    for language in [Language::Cesql, Language::Cel] {
        match Filter::compile(language, text) {
            Ok(filter) => {
                for attributes in [None, Some(attributes())] {
                    let event = event(attributes, data);
                    let view = EventView::new(&event);
                    let judgement = filter.judge(&view);
                    assert!(judgement.steps <= view.steps_max(), "too costly");
                    assert_eq!(judgement, filter.judge(&view), "asked again");
                    let again = Filter::compile(language, text).expect("it was one");
                    assert_eq!(judgement, again.judge(&EventView::new(&event)), "compiled again");
                }
            }
            Err(error) => {
                assert!((1..=text.chars().count() + 1).contains(&error.at), "{error}");
                assert!(error.message.len() < 512, "{error}");
            }
        }
    }
}

fn attributes() -> Attributes {
    Attributes {
        id: "1".into(),
        source: "/sensors".into(),
        ty: "com.example.made".into(),
        subject: None,
        time: Some("2026-01-01T12:00:00Z".into()),
        dataschema: None,
        extensions: vec![
            ("n".into(), Value::Integer(-7)),
            ("yes".into(), Value::Boolean(true)),
            ("word".into(), Value::String("äbc%_\\".into())),
        ],
    }
}

fn event(attributes: Option<Attributes>, data: &[u8]) -> Event {
    Event::new(Parts {
        topic: TopicName::parse("a/b").expect("a topic"),
        data: Bytes::copy_from_slice(data),
        stamp: 1,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("c"),
        meta: attributes.map(|attributes| Box::new(Meta { attributes: Some(attributes), ..Meta::default() })),
    })
}
