//! What targets make of events.

use std::sync::Arc;

use super::*;

fn plain(data: &'static str) -> Event {
    crate::testing::event("plant/3", data)
}

fn cloud_event(data: &'static str) -> Event {
    let mut parts = plain(data).parts().clone();
    parts.expires_ms = 1_700_000_000_000;
    parts.meta = Some(Box::new(Meta {
        attributes: Some(Attributes {
            id: "1".into(),
            source: "/s".into(),
            ty: "t".into(),
            subject: Some("sub".into()),
            time: None,
            dataschema: None,
            extensions: vec![
                ("level".into(), Value::Integer(3)),
                ("secret".into(), Value::String("x".into())),
            ],
        }),
        content_type: Some("application/json".into()),
        reply_to: Some(TopicName::parse("r").unwrap()),
        user: vec![("A".into(), "1".into())],
        ..Meta::default()
    }));
    Event::new(parts)
}

fn options(toml: &str) -> TargetOptions {
    let table: serde_json::Value = serde_json::from_str(toml).unwrap();
    serde_json::from_value(table).unwrap()
}

fn make(text: &str, event: &Event) -> Result<Event, Unmade> {
    let recipe = Recipe::compile(&options(text)).unwrap().unwrap();
    recipe.make(&EventView::new(event), false)
}

fn shown(event: &Event) -> String {
    let json: serde_json::Value = serde_json::from_slice(event.as_json()).unwrap();
    json.to_string()
}

#[test]
fn attributes_are_dropped_renamed_and_set() {
    let made = make(
        r#"{"drop":["secret","replyto","userproperties","expirytime"],"rename":{"level":"severity","gone":"x"},
            "set":{"type":"t2","region":"eu","n":"{data.n}","was":"{level}","none":"{data.none}"}}"#,
        &cloud_event(r#"{"n":7}"#),
    );
    assert_eq!(
        shown(&made.unwrap()),
        r#"{"data":{"n":7},"datacontenttype":"application/json","id":"1","n":7,"region":"eu","severity":3,"source":"/s","specversion":"1.0","subject":"sub","type":"t2","was":3}"#
    );
}

#[test]
fn a_plain_publish_becomes_what_it_was_shown_as() {
    let event = plain(r#"{"n":7}"#);
    let made = make(r#"{"set":{"region":"eu"},"topic":"x/{2}"}"#, &event).unwrap();
    assert_eq!(made.topic().as_str(), "x/3");
    let mut parts = event.parts().clone();
    as_cloud_event(&mut parts, &event);
    let before: serde_json::Value = serde_json::from_slice(event.as_json()).unwrap();
    let mut after: serde_json::Value = serde_json::from_slice(made.as_json()).unwrap();
    assert_eq!(after.as_object_mut().unwrap().remove("region").unwrap(), "eu");
    assert_eq!(after, before);
}

#[test]
fn a_trace_among_user_properties_is_an_attribute() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut parts = plain("x").parts().clone();
    let user = [("A", "1"), ("tracestate", "a=1"), ("traceparent", PARENT)];
    let user: Vec<_> = user.map(|(name, value)| (name.into(), value.into())).into();
    parts.meta = Some(Box::new(Meta { user, ..Meta::default() }));
    let event = Event::new(parts);
    for (recipe, trace, others) in [
        (r#"{"set":{"x":"y"}}"#, Some(PARENT), Some(r#"[["A","1"]]"#)),
        (r#"{"drop":["userproperties"]}"#, Some(PARENT), None),
        (r#"{"drop":["traceparent","tracestate"]}"#, None, Some(r#"[["A","1"]]"#)),
        (r#"{"drop":["traceparent","tracestate"],"set":{"x":"y"}}"#, None, Some(r#"[["A","1"]]"#)),
        (r#"{"set":{"traceparent":"mine"}}"#, Some("mine"), Some(r#"[["A","1"]]"#)),
    ] {
        let made = make(recipe, &event).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(made.as_json()).unwrap();
        let text = |name: &str| shown.get(name).and_then(|value| value.as_str());
        assert_eq!((text("traceparent"), text("userproperties")), (trace, others), "{recipe}");
        assert_eq!(text("tracestate"), trace.map(|_| "a=1"), "{recipe}");
    }
    let renamed = make(r#"{"rename":{"traceparent":"parent"}}"#, &event).unwrap();
    assert_eq!(renamed.meta().unwrap().value("parent").as_deref(), Some(PARENT));
    assert_eq!(renamed.meta().unwrap().value("traceparent"), None);
}

#[test]
fn what_only_moves_stays_a_plain_publish() {
    let made =
        make(r#"{"topic":"x","drop":["level"],"data":"json: {\"v\":\"{data.n}\"}"}"#, &plain(r#"{"n":7}"#))
            .unwrap();
    assert!(made.meta().is_none());
    assert_eq!(&**made.data(), br#"{"v":7}"#);
    assert_eq!((made.parts().stamp, made.publisher()), (1, &Arc::from("tester")));
}

#[test]
fn data_is_built_and_says_what_it_is() {
    for (build, data, media_type) in [
        ("cel: data.n", "7", "application/json"),
        ("json: [\\\"{id}\\\"]", "[\"1\"]", "application/json"),
        ("text: n is {data.n}", "n is 7", "text/plain"),
        ("cel: data.gone", "null", "application/json"),
    ] {
        let made = make(&format!(r#"{{"data":"{build}"}}"#), &cloud_event(r#"{"n":7}"#)).unwrap();
        assert_eq!((&**made.data(), made.content_type()), (data.as_bytes(), Some(media_type)));
    }
    let clears = Recipe::compile(&options(r#"{"data":"text: x"}"#)).unwrap().unwrap();
    let made = clears.make(&EventView::new(&plain("")), true).unwrap();
    assert!(made.data().is_empty(), "a retained event is forgotten, not replaced");
}

#[test]
fn what_cloudevents_forbids_is_never_made() {
    for set in
        [r#""time":"yesterday""#, r#""x":"{data.bad}""#, r#""expirytime":"soon""#, r#""replyto":"a/+""#]
    {
        let event = cloud_event(r#"{"bad":"line\nbreak"}"#);
        let skipped = make(&format!(r#"{{"set":{{{set}}}}}"#), &event).unwrap_err();
        assert!(matches!(skipped, Unmade::Skipped(Reason::Attribute)), "{set}");
        let refused = make(&format!(r#"{{"set":{{{set}}},"missing":"refuse"}}"#), &event).unwrap_err();
        assert!(matches!(refused, Unmade::Refused(reject) if reject.kind == RejectKind::Malformed), "{set}");
    }
}

#[test]
fn what_changes_nothing_needs_no_recipe() {
    assert!(Recipe::compile(&options(r#"{"store":"main","durability":"written"}"#)).unwrap().is_none());
}
