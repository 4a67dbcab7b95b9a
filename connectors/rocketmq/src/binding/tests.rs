//! Round trips, and messages of other clients.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOW_MS: u64 = 1_700_000_000_000;

fn parts(data: &'static [u8], meta: Option<Meta>) -> Parts {
    Parts {
        topic: TopicName::parse("sensors/1/temp").unwrap(),
        data: Bytes::from_static(data),
        stamp: (NOW_MS - 5) << 20,
        received_ms: NOW_MS - 5,
        expires_ms: 0,
        publisher: Arc::from("dev 1"),
        meta: meta.map(Box::new),
    }
}

/// A message of queue 0, from its first place.
pub(crate) fn stored(topic: &str, body: Bytes, properties: ByteString) -> StoredMessage {
    let host: SocketAddr = "127.0.0.1:1".parse().unwrap();
    StoredMessage {
        topic: topic.into(),
        queue: 0,
        queue_offset: 0,
        physical_offset: 0,
        flag: 0,
        sys_flag: 0,
        born_ms: 0,
        born_host: host,
        store_ms: 0,
        store_host: host,
        reconsume_times: 0,
        body,
        properties,
    }
}

fn java(pairs: &[(&str, &str)], body: &'static [u8]) -> StoredMessage {
    let text: String = pairs.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect();
    stored("Commands", Bytes::from_static(body), text.into())
}

fn arrive(message: &StoredMessage, to: &str, own: bool) -> Result<Event, Unusable> {
    let publisher = Arc::from("$bridge/rocketmq/x");
    let arrival = Arrival { now_ms: NOW_MS, stamp: 7, publisher: &publisher, own };
    from_message(message, &Template::parse(to).unwrap(), arrival)
}

fn through_the_store(event: &Event) -> Event {
    let message = to_message(event, Labels::default(), Properties::default(), usize::MAX).unwrap();
    arrive(&stored("Weft", message.body, message.properties), "{origin}", true).unwrap()
}

fn cloud_event() -> Attributes {
    Attributes {
        id: "a b".into(),
        source: "/s".into(),
        ty: "t".into(),
        subject: Some("sub".into()),
        time: Some("2026-11-24T03:00:00.000Z".into()),
        dataschema: None,
        extensions: vec![
            ("zeta".into(), Value::Integer(-3)),
            ("alpha".into(), Value::Boolean(true)),
            ("contenttype".into(), Value::String("mine".into())),
            ("text".into(), Value::String("é 5%\u{200b}".into())),
            ("traceparent".into(), Value::String(TRACE.into())),
        ],
    }
}

#[test]
fn a_plain_event_comes_back_as_it_was() {
    let event = Event::new(parts(b"21.5", None));
    assert_eq!(through_the_store(&event), event);
    let mut expiring = parts(b"", None);
    expiring.expires_ms = NOW_MS + 9;
    let expiring = Event::new(expiring);
    assert_eq!(through_the_store(&expiring), expiring);
}

#[test]
fn a_cloud_event_comes_back_as_it_was() {
    let meta = Meta {
        attributes: Some(cloud_event()),
        content_type: Some("application/json".into()),
        utf8: true,
        reply_to: Some(TopicName::parse("reply/here").unwrap()),
        correlation: Some(Bytes::from_static(&[0, 1, 2])),
        user: vec![("B".into(), "".into()), ("a b".into(), "\u{1a}".into()), ("a b".into(), "2".into())],
    };
    let event = Event::new(parts(b"{}", Some(meta)));
    assert_eq!(through_the_store(&event), event);
}

#[test]
fn other_clients_find_what_they_look_for() {
    let mut attributes = cloud_event();
    attributes.extensions.retain(|(name, _)| name != "contenttype");
    let meta = Meta {
        attributes: Some(attributes),
        content_type: Some("text/plain".into()),
        user: vec![
            ("City".into(), "Rome".into()),
            ("WAIT".into(), "x".into()),
            ("City".into(), "again".into()),
        ],
        ..Meta::default()
    };
    let message = to_message(
        &Event::new(parts(b"x", Some(meta))),
        Labels::default(),
        Properties::default(),
        usize::MAX,
    )
    .unwrap();
    let all: BTreeMap<ByteString, ByteString> = parse(&message.properties).collect();
    let show = |name: &str| all.get(name).map(|value| &**value);
    assert_eq!(show("CE_id"), Some("a b"));
    assert_eq!(show("CE_contenttype"), Some("text/plain"));
    assert_eq!((show("CE_zeta"), show("CE_alpha")), (Some("-3"), Some("true")));
    assert_eq!(show("CE_traceparent"), Some(TRACE));
    assert_eq!((show("City"), show("WAIT")), (Some("Rome"), None));
    assert_eq!(show("WEFT_TOPIC"), Some("sensors/1/temp"));
    // "a b" would be two keys.
    assert_eq!((show("KEYS"), show("UNIQ_KEY").map(str::len)), (show("UNIQ_KEY"), Some(32)));
}

#[test]
fn a_repeat_has_the_same_unique_key_and_another_event_does_not() {
    let key = |parts: Parts| {
        let message =
            to_message(&Event::new(parts), Labels::default(), Properties::default(), usize::MAX).unwrap();
        parse(&message.properties).find(|(name, _)| name == "UNIQ_KEY").unwrap().1
    };
    let mut other = parts(b"x", None);
    other.stamp += 1;
    assert_eq!(key(parts(b"x", None)), key(parts(b"x", None)));
    assert_ne!(key(parts(b"x", None)), key(other));
}

#[test]
fn a_message_of_a_java_producer_is_a_plain_event() {
    let message = java(
        &[
            ("KEYS", "k1 k2"),
            ("TAGS", "stop"),
            ("UNIQ_KEY", "AB"),
            ("WAIT", "true"),
            ("city", "Köln"),
            ("CLUSTER", "C"),
        ],
        b"go",
    );
    let event = arrive(&message, "commands/{tags}", false).unwrap();
    assert_eq!(
        (event.topic().as_str(), &event.data()[..], event.parts().stamp),
        ("commands/stop", &b"go"[..], 7)
    );
    assert_eq!(&**event.publisher(), "$bridge/rocketmq/x");
    let user: Vec<_> = event.meta().unwrap().user.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(
        (event.attributes(), user),
        (None, vec!["KEYS=k1 k2".into(), "TAGS=stop".into(), "city=Köln".into()])
    );
    assert!(matches!(arrive(&java(&[], b""), "{tags}", false), Err(Unusable::Topic(_))));
}

#[test]
fn a_message_of_the_cloud_events_sdk_is_a_cloud_event() {
    let message = java(
        &[
            ("CE_specversion", "1.0"),
            ("CE_id", "1"),
            ("CE_source", "/s"),
            ("CE_type", "t"),
            ("CE_contenttype", "text/plain"),
        ],
        b"hi",
    );
    let event = arrive(&message, "in", false).unwrap();
    assert_eq!((event.id().as_ref(), event.source().as_ref(), event.ty()), ("1", "/s", "t"));
    assert_eq!(event.content_type(), Some("text/plain"));

    let json = br#"{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"a":1}}"#;
    let event =
        arrive(&java(&[("CE_contenttype", "application/cloudevents+json")], json), "in", false).unwrap();
    assert_eq!((event.id().as_ref(), &event.data()[..]), ("2", &br#"{"a":1}"#[..]));

    let broken = java(&[("CE_specversion", "1.0"), ("CE_id", "1")], b"hi");
    assert_eq!(arrive(&broken, "in", false).unwrap().attributes(), None);
}

#[test]
fn a_bridge_keeps_the_event_but_not_its_publisher() {
    let event = Event::new(parts(b"21.5", None));
    let message = to_message(&event, Labels::default(), Properties::default(), usize::MAX).unwrap();
    let message = stored("Sensors", message.body, message.properties);
    let here = arrive(&message, "from/{origin}", false).unwrap();
    assert_eq!(here.topic().as_str(), "from/sensors/1/temp");
    assert_eq!((&**here.publisher(), here.parts().stamp), ("$bridge/rocketmq/x", 7));
}

#[test]
fn a_forged_stamp_is_not_taken() {
    let message = java(&[("WEFT_TOPIC", "a"), ("WEFT_STAMP", "ffffffffffffffff")], b"");
    assert_eq!(arrive(&message, "{origin}", true).unwrap().parts().stamp, 7);
}

#[test]
fn what_no_message_can_carry_is_refused() {
    let user = |len: usize| Meta { user: vec![("a".into(), "x".repeat(len).into())], ..Meta::default() };
    let event = Event::new(parts(b"", Some(user(20_000))));
    assert_eq!(through_the_store(&event), event, "the copies are left out");
    let event = Event::new(parts(b"", Some(user(33_000))));
    assert!(matches!(
        to_message(&event, Labels::default(), Properties::default(), usize::MAX),
        Err(Unfit::Properties(_))
    ));
    let event = Event::new(parts(b"0123456789", None));
    assert!(matches!(
        to_message(&event, Labels::default(), Properties::default(), 100),
        Err(Unfit::TooLarge { max: 100, .. })
    ));
}

fn text() -> impl Strategy<Value = ByteString> {
    "[\u{1}\u{2}\u{1a}ABZE%é /+a-z]{0,12}".prop_map(ByteString::from)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Integer),
        r"[^\p{C}]{1,9}".prop_map(|text| Value::String(text.into())),
    ]
}

prop_compose! {
    fn any_event()(
        attributes in proptest::option::of((r"[^\p{C}]{1,9}", r"[^\p{C}]{1,9}", "[a-z.]{1,9}",
            proptest::option::of(r"[^\p{C}]{1,9}"), proptest::collection::btree_map("ext[a-z0-9]{1,6}", value(), 0..5))),
        content_type in proptest::option::of("[a-z/]{1,9}"),
        reply_to in proptest::option::of("[a-z/]{1,9}"),
        correlation in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        user in proptest::collection::vec((text(), text()), 0..5),
        data in proptest::collection::vec(any::<u8>(), 0..100),
        (utf8, expires_ms) in (any::<bool>(), 0..u64::MAX),
    ) -> Event {
        let attributes = attributes.map(|(id, source, ty, subject, extensions)| Attributes {
            id: id.into(), source: source.into(), ty: ty.into(),
            subject: subject.map(ByteString::from), time: None, dataschema: None,
            extensions: extensions.into_iter().rev().map(|(name, value)| (name.into(), value)).collect(),
        });
        let reply_to = reply_to.map(|topic| TopicName::parse(topic).unwrap());
        let meta = Meta { attributes, content_type: content_type.map(ByteString::from), utf8, reply_to,
            correlation: correlation.map(Bytes::from), user };
        let mut parts = parts(b"", (meta != Meta::default()).then_some(meta));
        parts.data = data.into();
        parts.expires_ms = expires_ms;
        Event::new(parts)
    }
}

proptest! {
    #[test]
    fn any_event_comes_back_as_it_was(event in any_event()) {
        prop_assert_eq!(through_the_store(&event), event);
    }
}
