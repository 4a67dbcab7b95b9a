//! Templates and what is built of them.

use std::sync::Arc;

use bytes::Bytes;
use event::{Attributes, Event, Meta, Parts};

use super::*;
use crate::{Build, NotBuilt};

const DATA: &str =
    r#"{"id":7,"total":12.50,"who":{"name":"A \"B\"/c","tags":["x","y"]},"ok":true,"none":null,"a name":1}"#;

fn event(topic: &str, data: &str) -> Event {
    let attributes = Attributes {
        id: "e1".into(),
        source: "/plant/3".into(),
        ty: "com.example.order".into(),
        subject: None,
        time: None,
        dataschema: None,
        extensions: vec![("level".into(), Value::Integer(3)), ("hot".into(), Value::Boolean(true))],
    };
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        stamp: 1,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from("tester"),
        meta: Some(Box::new(Meta { attributes: Some(attributes), ..Meta::default() })),
    })
}

fn fill(template: &str) -> (String, bool) {
    let event = event("plant/3/order", DATA);
    let filled = Template::parse(template).unwrap().fill(&EventView::new(&event));
    (filled.value, filled.whole)
}

#[test]
fn places_are_filled_with_what_the_event_has() {
    for (template, text) in [
        ("plain", "plain"),
        ("{topic}!", "plant/3/order!"),
        ("{1}-{3}", "plant-order"),
        ("{2..}", "3/order"),
        ("{1..}", "plant/3/order"),
        ("{id} {source} {type} {level} {hot}", "e1 /plant/3 com.example.order 3 true"),
        ("{data.id}:{data.total}:{data.ok}", "7:12.5:true"),
        ("{data.who.name}", "A \"B\"/c"),
        ("{data.who.tags[1]}{data[\"a name\"]}", "y1"),
        ("{data.who.tags}", r#"["x","y"]"#),
        ("{{{id}}}", "{e1}"),
    ] {
        assert_eq!(fill(template), (text.to_owned(), true), "{template}");
    }
}

#[test]
fn what_is_not_there_is_nothing_and_told() {
    for (template, text) in [
        ("a{data.x}b", "ab"),
        ("{data.none}", ""),
        ("{4}", ""),
        ("{4..}", ""),
        ("{subject}", ""),
        ("{data.who.tags[2]}", ""),
        ("{data.id.x}", ""),
    ] {
        assert_eq!(fill(template), (text.to_owned(), false), "{template}");
    }
    let event = event("a", "no json");
    assert!(!Template::parse("{data}").unwrap().fill(&EventView::new(&event)).whole);
}

#[test]
fn wrong_templates_are_refused_with_their_place() {
    for (template, message) in [
        ("a{b", "at character 2: a place is closed"),
        ("a}b", "at character 2: \"}\" closes no place"),
        ("{}", "at character 2: \"\" is no place"),
        ("{0}", "\"0\" is no place"),
        ("{Data}", "\"Data\" is no place"),
        ("{data.}", "\"data.\" is no place"),
        ("{data[x]}", "\"data[x]\" is no place"),
        ("{999}", "\"999\" is no place"),
    ] {
        let error = Template::parse(template).unwrap_err().to_string();
        assert!(error.contains(message), "{template}: {error}");
    }
    assert!(Template::parse(&"x".repeat(TEMPLATE_MAX + 1)).is_err());
}

#[test]
fn a_value_fills_one_level_of_a_topic() {
    let event = event("plant/3/order", DATA);
    let view = EventView::new(&event);
    let topic = |text: &str| Template::topic(text).unwrap().fill_topic(&view);
    assert_eq!(topic("by/{source}/{data.who.name}").value, "by/_plant_3/A \"B\"_c");
    assert_eq!(topic("copy/{topic}").value, "copy/plant/3/order");
    assert_eq!(topic("{2..}").value, "3/order");
    assert_eq!(topic("x/{data.gone}"), Filled { value: "x/".to_owned(), whole: false });
    for (text, message) in [
        ("", "at least one character"),
        ("a/+", "no wildcard"),
        ("a/#/{id}", "no wildcard"),
        ("$SYS/x", "Weft's own"),
        ("$weft/{id}", "Weft's own"),
        ("a\u{0}", "no null"),
    ] {
        let error = Template::topic(text).unwrap_err().to_string();
        assert!(error.contains(message), "{text:?}: {error}");
    }
    assert!(Template::topic("$SYSTEM/{id}").is_ok() && Template::topic("$aws/x").is_ok());
}

#[test]
fn attributes_keep_the_kind_of_a_single_place() {
    let event = event("plant/3/order", DATA);
    let view = EventView::new(&event);
    let value = |text: &str| Template::parse(text).unwrap().fill_value(&view).value;
    assert_eq!(value("{data.id}"), Value::Integer(7));
    assert_eq!(value("{data.ok}"), Value::Boolean(true));
    assert_eq!(value("{level}"), Value::Integer(3));
    assert_eq!(value("n{data.id}"), Value::String("n7".into()));
    assert_eq!(value("{data.total}"), Value::String("12.5".into()));
}

fn build(text: &str) -> Result<(String, bool), NotBuilt> {
    let event = event("plant/3/order", DATA);
    let made = Build::compile(text).unwrap().make(&EventView::new(&event))?;
    Ok((String::from_utf8(made.value).unwrap(), made.whole))
}

#[test]
fn data_is_built_from_templates_and_expressions() {
    for (text, data) in [
        (
            r#"json: {"z":"{data.id}","a":["{id}","no {data.id}",1.5,null,true],"who":"{data.who}"}"#,
            r#"{"z":7,"a":["e1","no 7",1.5,null,true],"who":{"name":"A \"B\"/c","tags":["x","y"]}}"#,
        ),
        ("json: \"{data}\"", &DATA.replace("12.50", "12.5")),
        ("cel: data.who.tags", r#"["x","y"]"#),
        ("cel: [data.id * 2, event.source, null]", r#"[14,"/plant/3",null]"#),
        ("cel: data.total > 10.0 ? 'much' : 'little'", r#""much""#),
        ("text: {data.id} of {1}", "7 of plant"),
    ] {
        assert_eq!(build(text), Ok((data.to_owned(), true)), "{text}");
    }
    assert_eq!(
        build(r#"json: {"a":"{data.gone}","b":"x{data.gone}"}"#),
        Ok((r#"{"a":null,"b":"x"}"#.to_owned(), false))
    );
    assert_eq!(build("cel: data.gone"), Err(NotBuilt::NoValue));
    assert_eq!(build("cel: event"), Err(NotBuilt::NoValue));
}

#[test]
fn what_is_built_is_bounded() {
    let event = event("a", &format!("\"{}\"", "x".repeat(600_000)));
    let view = EventView::new(&event);
    for text in ["text: {data}{data}", r#"json: ["{data}","{data}","{data}"]"#] {
        assert_eq!(Build::compile(text).unwrap().make(&view), Err(NotBuilt::TooLarge), "{text}");
    }
    let doubled = "cel: [data,data,data,data].map(x, [x,x,x,x,x,x,x,x])";
    assert!(Build::compile(doubled).unwrap().make(&view).is_err());
}

#[test]
fn wrong_data_is_refused_with_its_place() {
    for (text, message) in [
        ("yaml: a", "data is written"),
        ("json: {\"a\":}", "at character 6: no JSON"),
        ("json: {\"a\":\"{b\"}", "in \"{b\", at character 1"),
        ("cel: data.", "at character"),
        ("text: {", "a place is closed"),
    ] {
        let error = Build::compile(text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}
