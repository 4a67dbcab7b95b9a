//! What becomes of requests, and of events on their way to a webhook.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use event::{Parts, TopicName};
use http::{HeaderName, HeaderValue};

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let own = [("idc", "FT"), ("pid", "4"), ("sys", "1"), ("username", "u"), ("passwd", "hidden")];
    let pairs = own.iter().chain(pairs);
    pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn form(pairs: &[(&str, &str)]) -> Fields {
    let mut text = form_urlencoded::Serializer::new(String::new());
    Fields::form(text.extend_pairs(pairs).finish().as_bytes()).unwrap()
}

fn caller() -> Caller {
    Caller::of(&headers(&[]), IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap()
}

fn read(kind: &[(&'static str, &'static str)], pairs: &[(&str, &str)]) -> Result<Event, Answer> {
    let arrival = Arrival { publisher: &Arc::from("p"), stamp: 7, now_ms: 2 };
    publish(&headers(kind), &caller(), &form(pairs), "content", arrival).map(Payload::into_event)
}

const MESSAGE: [(&str, &str); 6] = [
    ("topic", "orders"),
    ("content", "zażółć & \"=\" 🚀"),
    ("bizseqno", "b1"),
    ("uniqueid", "u1"),
    ("producergroup", "g"),
    ("ttl", "3000"),
];

fn extension(push: &Push, name: &str) -> Option<String> {
    let mut found = push.extensions.iter().filter(|(have, _)| have == name).map(|(_, value)| value.clone());
    let first = found.next();
    assert_eq!(found.next(), None, "{name} is there twice");
    first
}

#[test]
fn a_message_comes_out_as_it_went_in() {
    let more =
        [("extFields", r#"{"own":"v","UPPER":"x","ttl":"1","passwd":"hidden","n":1}"#), ("tag", "red")];
    let event = read(&[], &[&MESSAGE[..], &more].concat()).unwrap();
    assert_eq!((event.topic().as_str(), event.data()), ("orders", &Bytes::from(MESSAGE[1].1)));
    let post = push(&event, SubscriptionType::Sync);
    assert_eq!((&*post.content, &*post.topic), (MESSAGE[1].1, "orders"));
    assert_eq!((&*post.seq_num, &*post.unique_id), ("b1", "u1"));
    assert_eq!(post.headers, [("code".into(), "106".to_owned())]);
    for (name, value) in [
        ("protocoltype", "eventmeshmessage"),
        ("protocolversion", "1.0"),
        ("protocoldesc", "http"),
        ("bizseqno", "b1"),
        ("uniqueid", "u1"),
        ("producergroup", "g"),
        ("own", "v"),
        ("UPPER", "x"),
        ("n", "1"),
        ("ttl", "3000"),
        ("tag", "red"),
        ("idc", "FT"),
        ("pid", "4"),
        ("sys", "1"),
        ("ip", "127.0.0.1"),
    ] {
        assert_eq!(extension(&post, name).as_deref(), Some(value), "{name}");
    }
    assert!(!format!("{post:?}").contains("hidden"), "{post:?}");
}

#[test]
fn a_cloud_event_goes_on_byte_by_byte() {
    let json = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"orders","accext":"v","data":{"a":1}}"#;
    let event =
        read(&[("protocoltype", "cloudevents")], &[("content", json), ("producergroup", "g")]).unwrap();
    let post = push(&event, SubscriptionType::Async);
    assert_eq!((&*post.content, &*post.topic), (json, "orders"));
    assert_eq!(extension(&post, "protocoltype").as_deref(), Some("cloudevents"));
    assert_eq!(extension(&post, "accext").as_deref(), Some("v"));
    assert_eq!(post.seq_num.len(), 20);
}

#[test]
fn what_is_missing_or_wrong_has_its_code() {
    for name in ["topic", "content", "bizseqno", "uniqueid", "producergroup"] {
        let less: Vec<(&str, &str)> = MESSAGE.into_iter().filter(|(have, _)| *have != name).collect();
        let answer = read(&[], &less).unwrap_err();
        assert_eq!(answer.code, Code::Body, "{name}");
        assert!(answer.text.contains(name), "{}", answer.text);
    }
    let with = |more: (&'static str, &'static str)| {
        let mut all: Vec<(&str, &str)> = MESSAGE.into_iter().filter(|(have, _)| *have != more.0).collect();
        all.push(more);
        all
    };
    for (kind, fields, code) in [
        (("protocoltype", "nosuch"), with(("x", "")), Code::Body),
        (("protocoltype", "openmessage"), with(("x", "")), Code::Body),
        (("protocolversion", "9.9"), with(("x", "")), Code::Body),
        (("protocoltype", "cloudevents"), with(("x", "")), Code::Body),
        (
            ("protocoltype", "cloudevents"),
            with(("content", r#"{"specversion":"1.0","id":"1"}"#)),
            Code::Header,
        ),
        (
            ("protocoltype", "cloudevents"),
            with(("content", r#"{"specversion":"1.0","id":"1","source":"/","type":"t","data":1}"#)),
            Code::Header,
        ),
        (
            ("protocoltype", "cloudevents"),
            with(("content", r#"{"specversion":"1.0","id":"1","source":"/","type":"t","subject":"s"}"#)),
            Code::Body,
        ),
        (("x", ""), with(("topic", "$SYS/x")), Code::Body),
        (("x", ""), with(("extFields", "{broken")), Code::Body),
        (("x", ""), with(("extFields", "[]")), Code::Body),
    ] {
        assert_eq!(read(&[kind], &fields).unwrap_err().code, code, "{kind:?} {fields:?}");
    }
}

#[test]
fn what_a_path_published_is_posted_as_its_data_with_attributes_in_headers() {
    let headers = headers(&[("bizseqno", "b9"), ("source", "/shop"), ("host", "weft")]);
    let arrival = Arrival { publisher: &Arc::from("p"), stamp: 7, now_ms: 2 };
    let data = Bytes::from_static(br#"{"content": "x", "host": "y"}"#);
    let payload = publish_by_path(&headers, &caller(), "orders", data.clone(), arrival).unwrap();
    let event = payload.into_event();
    assert_eq!((event.ty(), event.data(), event.subject()), ("http_request", &data, Some("orders")));
    let post = push(&event, SubscriptionType::Async);
    assert_eq!(post.content.as_bytes(), &data[..]);
    let header = |name: &str| {
        post.headers.iter().filter(|(have, _)| have == name).map(|(_, value)| &**value).collect::<Vec<_>>()
    };
    for (name, value) in
        [("code", "105"), ("source", "/shop"), ("type", "http_request"), ("bizseqno", "b9"), ("idc", "FT")]
    {
        assert_eq!(header(name), [value], "{name}");
    }
    assert_eq!((header("host").len(), header("language").len(), header("passwd").len()), (0, 0, 0));
    assert_eq!(extension(&post, "protocoltype").as_deref(), Some("http"));
}

#[test]
fn events_of_other_protocols_are_posted_as_text_or_as_cloud_events() {
    let plain = |data: &'static [u8]| {
        let (topic, publisher) = (TopicName::parse("t").unwrap(), Arc::from("device"));
        let data = Bytes::from_static(data);
        Event::new(Parts { topic, data, stamp: 9, received_ms: 1, expires_ms: 0, publisher, meta: None })
    };
    let post = push(&plain(b"21.5"), SubscriptionType::Async);
    assert_eq!((&*post.content, &*post.seq_num), ("21.5", "00000000000000000009"));
    assert_eq!(extension(&post, "protocoltype").as_deref(), Some("eventmeshmessage"));
    let post = push(&plain(&[0xff, 0x00]), SubscriptionType::Async);
    let json: serde_json::Value = serde_json::from_str(&post.content).unwrap();
    assert_eq!((&json["data_base64"], &json["subject"]), (&"/wA=".into(), &"t".into()));
    assert_eq!(extension(&post, "datacontentencoding"), None);
}

#[test]
fn a_reply_is_what_the_sdk_reads() {
    let event = read(&[], &MESSAGE).unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer("asked", &event)).unwrap();
    assert_eq!((&json["topic"], &json["body"]), (&"orders".into(), &MESSAGE[1].1.into()));
    assert_eq!(json["properties"]["producergroup"], "g");
}
