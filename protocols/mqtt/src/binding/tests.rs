//! The mapping in both directions: what comes in by MQTT goes out by MQTT as it was, CloudEvent or not.

use bytes::BytesMut;
use bytestring::ByteString;
use event::Guarantee;

use super::*;
use crate::codec::client;
use crate::codec::encode::{self, PublishHead};
use crate::codec::{Packet, decode};

use Version::{V5, V311};

/// A PUBLISH as a client sends it, read.
fn incoming(version: Version, properties: &[Property<'_>], payload: &[u8]) -> Result<Event, Unbound> {
    let mut out = BytesMut::new();
    let head =
        PublishHead { dup: false, guarantee: Guarantee::AtMostOnce, retain: false, topic: "t", id: None };
    assert!(client::publish(&mut out, version, head, properties, payload));
    let Ok(Some(Packet::Publish(publish))) = decode(&mut out.freeze(), Some(version)) else { panic!() };
    let publisher = Arc::from("me");
    let arrival = Arrival { publisher: &publisher, stamp: 1, now_ms: 1_000_000 };
    event(version, publish.topic.unwrap(), &publish.properties, publish.payload, arrival)
}

/// What a version 5 subscriber gets at `now_ms`, as text.
fn outgoing(event: &Event, now_ms: u64) -> Vec<String> {
    let mut shown = Vec::new();
    each_property(event, None, now_ms, &mut |property| shown.push(format!("{property:?}")));
    shown
}

fn shown(properties: &[Property<'_>]) -> Vec<String> {
    properties.iter().map(|property| format!("{property:?}")).collect()
}

const CLOUD_EVENT: [Property<'_>; 4] = [
    Property::User("specversion", "1.0"),
    Property::User("id", "1"),
    Property::User("source", "/s"),
    Property::User("type", "t"),
];

#[test]
fn a_bare_publish_has_no_meta() {
    for version in [V311, V5] {
        let event = incoming(version, &[], b"x").unwrap();
        assert_eq!(
            (event.meta(), event.data().as_ref(), event.publisher().as_ref()),
            (None, &b"x"[..], "me")
        );
        assert!(outgoing(&event, 0).is_empty());
    }
    assert_eq!(incoming(V5, &[Property::TopicAlias(1)], b"x").unwrap().meta(), None);
}

#[test]
fn mqtt_3_3_2_properties_of_a_plain_publish_are_forwarded_unaltered() {
    let properties = [
        Property::PayloadFormat(true),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("reply/here"),
        Property::CorrelationData(&[0, 255]),
        Property::User("b", "2"),
        Property::User("a", "1"),
        Property::User("b", "2"),
        Property::User("", ""),
    ];
    let event = incoming(V5, &properties, b"text").unwrap();
    assert!(event.attributes().is_none());
    assert_eq!(outgoing(&event, 0), shown(&properties));
    assert_eq!(payload(&event, V311), &b"text"[..]);
}

#[test]
fn mqtt_3_3_2_6_the_expiry_is_forwarded_less_the_time_it_waited() {
    let event = incoming(V5, &[Property::MessageExpiry(10)], b"x").unwrap();
    assert_eq!(event.meta(), None);
    for (after_ms, left) in [(0, 10), (1, 10), (1000, 9), (9_001, 1), (9_999, 1)] {
        assert_eq!(outgoing(&event, 1_000_000 + after_ms), [format!("MessageExpiry({left})")]);
    }
    assert!(!event.is_expired(1_009_999) && event.is_expired(1_010_000));
    let at_once = incoming(V5, &[Property::MessageExpiry(0)], b"x").unwrap();
    assert!(at_once.is_expired(1_000_000));
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    assert_eq!(incoming(V5, &[Property::PayloadFormat(true)], &[0xff]), Err(Unbound::Payload));
    let structured = Property::ContentType("application/cloudevents+json");
    assert_eq!(incoming(V5, &[structured], b"{}"), Err(Unbound::Payload));
    let wildcard = incoming(V5, &[Property::ResponseTopic("a/#")], b"");
    assert!(matches!(wildcard, Err(Unbound::Violation(Violation::Topic(_)))));
}

#[test]
fn binary_cloud_events_keep_attributes_and_what_came_beside_them() {
    let beside = [
        Property::User("traceparent", "x"),
        Property::User("Not An Attribute", "y"),
        Property::User("id", "again"),
    ];
    let properties = [&[Property::ContentType("application/xml")], &CLOUD_EVENT[..], &beside].concat();
    let event = incoming(V5, &properties, b"<a/>").unwrap();
    let attributes = event.attributes().unwrap();
    assert_eq!((&*attributes.id, &*attributes.source, &*attributes.ty), ("1", "/s", "t"));
    assert_eq!(event.data_content_type(), Some("application/xml"));
    assert_eq!(attributes.extensions, [(ByteString::from("traceparent"), Value::String("x".into()))]);
    assert_eq!(event.meta().unwrap().user.len(), 2);
    assert_eq!(outgoing(&event, 0), shown(&properties));
    let json = std::str::from_utf8(payload(&event, V311)).unwrap();
    assert!(json.contains(r#""id":"1""#) && json.contains("<a/>"), "{json}");
}

#[test]
fn binary_cloud_events_keep_what_mqtt_adds() {
    let mqtt = [Property::ResponseTopic("r"), Property::CorrelationData(b"c"), Property::MessageExpiry(5)];
    let event = incoming(V5, &[&CLOUD_EVENT[..], &mqtt].concat(), b"").unwrap();
    let out = outgoing(&event, 1_000_000);
    for property in mqtt {
        assert!(out.contains(&format!("{property:?}")), "{out:?}");
    }
}

#[test]
fn what_only_looks_like_a_cloud_event_is_a_plain_publish() {
    let version = Property::User("specversion", "2.0");
    for properties in [
        vec![version, CLOUD_EVENT[1], CLOUD_EVENT[2], CLOUD_EVENT[3]],
        CLOUD_EVENT[..3].to_vec(),
        [&CLOUD_EVENT[..], &[Property::User("time", "yesterday")]].concat(),
        [&CLOUD_EVENT[..3], &[Property::User("type", "")]].concat(),
    ] {
        let event = incoming(V5, &properties, b"x").unwrap();
        assert!(event.attributes().is_none());
        assert_eq!(outgoing(&event, 0), shown(&properties));
    }
}

const JSON: &[u8] = br#" {"specversion":"1.0","id":"7","source":"/s","type":"t","data":{"a":1}}"#;

#[test]
fn structured_cloud_events_come_from_both_versions() {
    let content_type = Property::ContentType("application/cloudevents+json; charset=utf-8");
    for (version, properties) in [(V5, &[content_type][..]), (V311, &[])] {
        let event = incoming(version, properties, JSON).unwrap();
        assert_eq!(&*event.attributes().unwrap().id, "7");
        assert_eq!(payload(&event, V5), &br#"{"a":1}"#[..]);
        assert_eq!(payload(&event, V311), JSON, "the bytes it came in with");
        assert_eq!(outgoing(&event, 0).last().unwrap(), r#"User("type", "t")"#);
    }
}

#[test]
fn a_structured_cloud_event_keeps_what_the_packet_says_beside_it() {
    let properties = [
        Property::PayloadFormat(true),
        Property::ContentType("application/cloudevents+json"),
        Property::ResponseTopic("r"),
        Property::User("K", "v"),
        Property::MessageExpiry(3),
    ];
    let json = br#"{"specversion":"1.0","id":"7","source":"/s","type":"t","data_base64":"/w=="}"#;
    let event = incoming(V5, &properties, json).unwrap();
    let out = outgoing(&event, 1_000_000);
    assert_eq!(out.first().unwrap(), "MessageExpiry(3)");
    assert!(
        out.contains(&r#"ResponseTopic("r")"#.to_owned()) && out.contains(&r#"User("K", "v")"#.to_owned())
    );
    assert!(!out.contains(&"PayloadFormat(true)".to_owned()), "it speaks of the envelope: {out:?}");
    assert_eq!(event.data().as_ref(), [0xff]);
}

#[test]
fn what_a_cloud_event_says_itself_goes_out_once() {
    let again = [
        Property::ContentType("application/cloudevents+json"),
        Property::User("id", "7"),
        Property::User("specversion", "1.0"),
        Property::User("subject", "not said by the payload"),
    ];
    let out = outgoing(&incoming(V5, &again, JSON).unwrap(), 0);
    assert_eq!(out.iter().filter(|one| one.starts_with(r#"User("id""#)).count(), 1, "{out:?}");
    assert_eq!(out.last().unwrap(), r#"User("subject", "not said by the payload")"#);

    // As in the example of §3.1.4: some readers look there alone, and readers of JSON need it once.
    for (said, shown) in [("text/plain", false), ("text/html", true)] {
        let own = [Property::ContentType("text/plain"), Property::User("datacontenttype", said)];
        let event = incoming(V5, &[&CLOUD_EVENT[..], &own].concat(), b"x").unwrap();
        let out = outgoing(&event, 0);
        assert!(out.iter().any(|one| one.contains("datacontenttype")), "{out:?}");
        assert_eq!(event.extensions().iter().any(|(name, _)| name == "userproperties"), shown);
    }
}

#[test]
fn other_json_of_3_1_1_is_plain() {
    for json in [
        &br#"{"a":1}"#[..],
        br#"{"specversion":"2.0","id":"1","source":"s","type":"t"}"#,
        br#"["specversion"]"#,
        b"{\"specversion\"",
    ] {
        let event = incoming(V311, &[], json).unwrap();
        assert_eq!((event.meta(), event.data().as_ref()), (None, json));
    }
}

#[test]
fn integers_and_booleans_go_out_as_text() {
    let json = br#"{"specversion":"1.0","id":"7","source":"/s","type":"t","n":-5,"b":true}"#;
    let event = incoming(V5, &[Property::ContentType("application/cloudevents+json")], json).unwrap();
    let out = outgoing(&event, 0);
    assert!(
        out.contains(&r#"User("n", "-5")"#.to_owned()) && out.contains(&r#"User("b", "true")"#.to_owned())
    );
}

#[test]
fn attributes_too_long_for_mqtt_do_not_break_the_packet() {
    let mut parts = incoming(V5, &[], b"x").unwrap().parts().clone();
    parts.meta =
        Some(Box::new(Meta { user: vec![("k".into(), "v".repeat(70_000).into())], ..Meta::default() }));
    let event = Event::new(parts);
    let mut out = BytesMut::new();
    let head =
        PublishHead { dup: false, guarantee: Guarantee::AtMostOnce, retain: false, topic: "t", id: None };
    let each = |visit: &mut Visit<'_>| each_property(&event, None, 0, visit);
    assert!(encode::publish(&mut out, V5, head, &each, 0, u32::MAX));
    assert!(matches!(client::decode_server(&mut out, V5), Ok(Some(client::ServerPacket::Publish(_)))));
}

#[test]
fn a_delay_may_stand_before_the_topic() {
    let topic = |text: &str| TopicName::parse(text.to_owned()).unwrap();
    assert_eq!(delayed(topic("a/b")), Ok((topic("a/b"), None)));
    assert_eq!(delayed(topic("$delayed/5/a/b")), Ok((topic("a/b"), Some(5000))));
    assert_eq!(delayed(topic("$delayed/0/$SYS/x")), Ok((topic("$SYS/x"), Some(0))));
    for wrong in
        ["$delayed/a/b", "$delayed/5", "$delayed/5/", "$delayed/-1/a", "$delayed/99999999999/a", "$delayed/"]
    {
        assert_eq!(delayed(topic(wrong)), Err(()), "{wrong}");
    }
}
