//! What is lost on the way through, and what is refused.

use event::{Meta, TopicName};

use super::*;

/// What a subscriber gets of `sent`.
fn through(sent: CloudEvent) -> Result<Event, Unusable> {
    let publisher = Arc::from("p");
    decode(sent, Arrival { stamp: 7, now_ms: 1_700_000_000_000, publisher: &publisher }).map(Event::new)
}

fn message(data: Data, media_type: &str) -> CloudEvent {
    let mut message = CloudEvent {
        id: "1".to_owned(),
        source: "/s".to_owned(),
        spec_version: "1.0".to_owned(),
        ty: "t".to_owned(),
        attributes: Vec::new(),
        data: Some(data),
    };
    message.push_text("subject", "a/b");
    message.push_text("datacontenttype", media_type);
    message.push("time", Attr::Timestamp(Timestamp { seconds: 1, nanos: 5_000 }));
    message.push("dataschema", Attr::Uri("http://s".to_owned()));
    message.push("bool", Attr::Boolean(true));
    message.push("int", Attr::Integer(-7));
    message.push_text("text", "ąę");
    message.push_text("seqnum", "s1");
    message.push_text("uniqueid", "u1");
    message.push_text(PROTOCOL_TYPE, "cloudevents");
    message.push_text(PROTOCOL_VERSION, "1.0");
    message.push_text(PROTOCOL_DESC, CARRIER);
    message
}

#[test]
fn an_event_comes_back_as_it_went() {
    let any = Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: vec![1, 2] };
    for (data, media_type) in [
        (Data::Text("{\"a\":1}".to_owned()), "application/json"),
        (Data::Text("ąę 事".to_owned()), "text/plain; charset=utf-8"),
        (Data::Text("<a/>".to_owned()), "application/soap+xml"),
        (Data::Binary(Bytes::from_static(&[0, 255, 7])), "application/octet-stream"),
        (Data::Binary(Bytes::from_static(&[0xff])), "text/plain"),
        (Data::Proto(any), "application/protobuf"),
    ] {
        let sent = message(data, media_type);
        let event = through(sent.clone()).unwrap();
        assert_eq!(event.topic().as_str(), "a/b");
        assert_eq!(encode(&event), sent, "{media_type}");
    }
}

#[test]
fn types_that_events_do_not_have_are_text() {
    let mut sent = message(Data::Text("x".to_owned()), "text/plain");
    sent.push("bin", Attr::Bytes(Bytes::from_static(&[1, 2, 3])));
    sent.push("uri", Attr::Uri("http://a".to_owned()));
    sent.push("ref", Attr::UriRef("/a".to_owned()));
    sent.push("when", Attr::Timestamp(Timestamp { seconds: 0, nanos: 0 }));
    let got = encode(&through(sent).unwrap());
    for (name, text) in
        [("bin", "AQID"), ("uri", "http://a"), ("ref", "/a"), ("when", "1970-01-01T00:00:00Z")]
    {
        assert_eq!(got.text(name), Some(text));
    }
}

#[test]
fn secrets_and_marks_of_answers_go_no_further() {
    let mut sent = message(Data::Text("x".to_owned()), "text/plain");
    for name in ["username", "passwd", "token", "statuscode", "responsemessage", "submessagetype"] {
        sent.push_text(name, "secret");
    }
    let event = through(sent).unwrap();
    assert!(!format!("{event:?}").contains("secret"));
}

#[test]
fn of_a_name_that_is_there_twice_the_last_counts() {
    let mut sent = message(Data::Text("x".to_owned()), "text/plain");
    sent.push_text("text", "second");
    assert_eq!(encode(&through(sent).unwrap()).text("text"), Some("second"));
}

#[test]
fn what_is_no_cloudevent_is_refused_by_name() {
    let broken = |change: fn(&mut CloudEvent)| {
        let mut sent = message(Data::Text("x".to_owned()), "text/plain");
        change(&mut sent);
        through(sent).unwrap_err().to_string()
    };
    assert!(broken(|sent| sent.id.clear()).contains("\"id\""));
    assert!(broken(|sent| sent.spec_version = "0.3".to_owned()).contains("0.3"));
    assert!(broken(|sent| sent.push_text("Bad-Name", "x")).contains("Bad-Name"));
    assert!(broken(|sent| sent.push_text("ctl", "a\u{1}")).contains("ctl"));
    assert!(broken(|sent| sent.set("subject", Attr::String("a/+".to_owned()))).contains("wildcard"));
    let far = Timestamp { seconds: i64::MAX, nanos: 0 };
    assert!(
        broken(|sent| sent.set("time", Attr::Timestamp(Timestamp { seconds: i64::MIN, nanos: -1 })))
            .contains("time")
    );
    assert!(rfc3339(&far).is_none());
}

#[test]
fn a_plain_publish_has_all_that_a_java_client_needs() {
    let parts = Parts {
        topic: TopicName::parse("t").unwrap(),
        data: Bytes::from_static(b"21.5 C"),
        stamp: 0xabc,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("device"),
        meta: Some(Box::new(Meta { correlation: Some(Bytes::from_static(b"c")), ..Meta::default() })),
    };
    let got = encode(&Event::new(parts));
    assert_eq!((got.text("subject"), got.text("datacontenttype")), (Some("t"), Some("text/plain")));
    assert_eq!(got.data, Some(Data::Text("21.5 C".to_owned())));
    assert_eq!(got.text("seqnum").map(str::len), Some(30));
    assert_eq!(got.text("uniqueid").map(str::len), Some(30));
    assert_eq!(got.text("correlationdata"), Some("Yw=="));
    assert!(matches!(got.value("time"), Some(Attr::Timestamp(_))));
}

#[test]
fn another_subject_than_the_topic_keeps_both() {
    let mut sent = message(Data::Text("x".to_owned()), "text/plain");
    sent.set("subject", Attr::String("device-1".to_owned()));
    let mut parts = through(sent).unwrap().parts().clone();
    parts.topic = TopicName::parse("plant/a").unwrap();
    let got = encode(&Event::new(parts));
    assert_eq!((got.text("subject"), got.text(TOPIC)), (Some("device-1"), Some("plant/a")));
}

#[test]
fn properties_of_a_message_that_are_no_attributes_become_user_properties() {
    let mut sent = message(Data::Text("x".to_owned()), "text/plain");
    sent.set(PROTOCOL_TYPE, Attr::String("eventmeshmessage".to_owned()));
    (sent.ty, sent.source) = ("org.apache.eventmesh".to_owned(), "/".to_owned());
    sent.push_text("My-Prop", "v");
    let event = through(sent).unwrap();
    assert_eq!(event.meta().unwrap().user, [("My-Prop".into(), "v".into())]);
    let got = encode(&event);
    assert_eq!(got.text("userproperties"), Some(r#"[["My-Prop","v"]]"#));
    assert_eq!(got.text(PROTOCOL_TYPE), Some("eventmeshmessage"));
    assert!(
        got.attributes.iter().all(|entry| is_attribute_name(&entry.name)),
        "Java's SDK breaks on other names"
    );
}
