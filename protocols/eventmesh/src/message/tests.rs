//! EventMeshMessages there and back, by way of every form that an event has in between.

use std::sync::Arc;

use bytes::Bytes;
use event::{Event, Meta, Parts, TopicName, json};
use serde_json::{Value as Json, json};

use super::*;

fn event(message: &Json) -> Event {
    let arrival = Arrival { publisher: &Arc::from("me"), stamp: 0xab, now_ms: 2 };
    let message = EventMeshMessage::parse(&message.to_string().into()).unwrap();
    message.into_payload(arrival).unwrap().into_event()
}

fn json_of(event: &Event) -> Json {
    serde_json::from_slice(&EventMeshMessage::of(event).to_json("tcp")).unwrap()
}

fn sample() -> Json {
    json!({
        "topic": "orders",
        "properties": {"ttl": "30000", "accprop": "v-1", "UPPER_case": "x", "id": "theirs", "type": "2"},
        "headers": {"datacontenttype": "application/json"},
        "body": "zażółć 🚀 \"q\" \n",
    })
}

/// With what tells how it travelled.
fn expected() -> Json {
    let mut message = sample();
    let properties = message["properties"].as_object_mut().unwrap();
    for (name, value) in
        [("protocoltype", "eventmeshmessage"), ("protocolversion", "1.0"), ("protocoldesc", "tcp")]
    {
        properties.insert(name.to_owned(), value.into());
    }
    message
}

#[test]
fn a_message_comes_back_as_it_was() {
    let event = event(&sample());
    assert_eq!(json_of(&event), expected());
    assert_eq!(
        (event.ty(), &*event.id(), event.subject()),
        ("eventmeshmessage", "00000000000000ab", Some("orders"))
    );
    assert_eq!(event.content_type(), Some("application/json"));
}

#[test]
fn a_message_comes_back_by_way_of_cloud_events_json() {
    let through = json::decode(event(&sample()).as_json().clone()).unwrap();
    let back = through.into_event(TopicName::parse("orders").unwrap(), 7, 8, Arc::from("other"));
    assert_eq!(json_of(&back), expected());
    assert_eq!(Kind::of(&back), Kind::EventMeshMessage);
}

#[test]
fn a_plain_publish_is_a_message_with_its_user_properties() {
    let parts = |data: &'static [u8]| Parts {
        topic: TopicName::parse("a/b").unwrap(),
        data: Bytes::from_static(data),
        stamp: 1,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: Some(Box::new(Meta { user: vec![("Room".into(), "1".into())], ..Meta::default() })),
    };
    let plain = Event::new(parts(b"21.5"));
    let got = json_of(&plain);
    assert_eq!(
        (&got["topic"], &got["body"], &got["properties"]["Room"]),
        (&"a/b".into(), &"21.5".into(), &"1".into())
    );
    let both: Json = serde_json::from_slice(&EventMeshMessage::both(&plain, "tcp")).unwrap();
    assert_eq!(
        (&both["body"], &both["data"], &both["specversion"]),
        (&"21.5".into(), &"21.5".into(), &"1.0".into())
    );
    assert_eq!((&both["subject"], &both["type"]), (&"a/b".into(), &"weft.message".into()));
    assert_eq!(
        (Kind::of(&plain), Kind::of(&Event::new(parts(b"\xff")))),
        (Kind::EventMeshMessage, Kind::CloudEvents)
    );
}

#[test]
fn bytes_that_are_no_text_travel_as_base64() {
    let parts = Parts { data: Bytes::from_static(b"\xff\x00"), ..event(&sample()).parts().clone() };
    let got = json_of(&Event::new(parts));
    assert_eq!((&got["body"], &got["properties"]["datacontentencoding"]), (&"/wA=".into(), &"base64".into()));
    let back = event(&got);
    assert_eq!(&back.data()[..], b"\xff\x00");
    assert_eq!(json_of(&back), got);
}

#[test]
fn java_is_met_half_way() {
    let message = EventMeshMessage::parse(&Bytes::from_static(
        br#"{"topic":"t","properties":{"n":1,"b":true,"z":null},"headers":null,"body":null,"extra":[1]}"#,
    ));
    let message = message.unwrap();
    assert_eq!(message.properties, [("b".into(), "true".into()), ("n".into(), "1".into())]);
    assert!(message.body.is_empty() && message.content_type.is_none());
}

#[test]
fn properties_that_nothing_carries_are_refused() {
    let arrival = Arrival { publisher: &Arc::from("me"), stamp: 1, now_ms: 2 };
    for (name, value) in [("", "x"), ("A\n", "x"), ("A", "\0"), ("a", "\n")] {
        let message = json!({"topic": "t", "properties": {name: value}, "body": "x"});
        let message = EventMeshMessage::parse(&message.to_string().into()).unwrap();
        assert!(message.into_payload(arrival).is_err(), "{name:?} {value:?}");
    }
}
