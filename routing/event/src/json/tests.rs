//! What the JSON format promises: nothing is lost on a way through, and no text makes it panic.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{Attributes, Meta, Parts};

fn parts(topic: &str, data: &[u8], meta: Option<Meta>) -> Parts {
    Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::copy_from_slice(data),
        stamp: 0xabc,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: meta.map(Box::new),
    }
}

fn read(json: &str) -> Result<Incoming, InvalidEvent> {
    decode(Bytes::copy_from_slice(json.as_bytes()))
}

fn with(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#)
}

fn through(event: &Event) -> Event {
    let incoming = decode(event.as_reader_json(Some(Position(7)))).unwrap();
    let topic = incoming.topic(None).unwrap();
    let parts = event.parts();
    incoming.into_event(topic, parts.stamp, parts.received_ms, Arc::clone(&parts.publisher))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_plain_publish_is_written_with_derived_attributes() {
    let event = Event::new(parts("a/b", b"{\"t\": 21.5}", None));
    assert_eq!(
        text(event.as_json()),
        concat!(
            r#"{"specversion":"1.0","id":"0000000000000abc","source":"/clients/dev","type":"weft.message","subject":"a/b","#,
            r#""time":"2023-11-14T22:13:20Z","datacontenttype":"application/json","data":{"t": 21.5}}"#
        )
    );
    let tail = |position| {
        let json = event.as_reader_json(position);
        text(&json)[event.as_json().len() - 1..].to_owned()
    };
    assert_eq!(tail(Some(Position(9))), r#","wefttopic":"a/b","weftposition":"9"}"#);
    assert_eq!(tail(None), r#","wefttopic":"a/b"}"#);
}

#[test]
fn data_is_written_as_its_media_type_says() {
    let cases: &[(Option<&str>, bool, &[u8], &str)] = &[
        (None, false, b"", "}"),
        (None, false, b" [1] ", r#","data":[1]}"#),
        (None, false, b"\"x\"", r#","data":"x"}"#),
        (None, false, b"x", r#","data_base64":"eA=="}"#),
        (Some("application/json; charset=utf-8"), false, b"{}", r#","data":{}}"#),
        (Some("APPLICATION/geo+JSON"), false, b"1e5", r#","data":1e5}"#),
        (Some("application/json"), false, b"{", r#","data_base64":"ew=="}"#),
        (Some("application/json"), false, b"\"\xff\"", r#","data_base64":"Iv8i"}"#),
        (Some("text/plain"), false, b"{}", r#","data":"{}"}"#),
        (Some("text/plain; charset=latin1"), false, b"x", r#","data_base64":"eA=="}"#),
        (Some("image/svg+xml"), false, b"<a/>", r#","data":"<a/>"}"#),
        (Some("text/plain"), false, b"\xff", r#","data_base64":"/w=="}"#),
        (Some("application/cbor"), false, b"x", r#","data_base64":"eA=="}"#),
        (Some("application/x"), true, b"x", r#","data":"x"}"#),
    ];
    for (media_type, utf8, data, tail) in cases {
        let incoming = read(&with("")).unwrap();
        let meta = Meta {
            attributes: Some(incoming.attributes),
            content_type: media_type.map(ByteString::from),
            utf8: *utf8,
            ..Meta::default()
        };
        let event = Event::new(parts("a", data, Some(meta)));
        let json = text(event.as_json());
        assert!(json.ends_with(tail), "{media_type:?} {data:?} {json}");
        assert_eq!(through(&event).data(), &Bytes::copy_from_slice(data.trim_ascii()), "{media_type:?}");
    }
}

#[test]
fn ce_json_3_1_data_is_read_by_its_media_type() {
    let cases: &[(&str, &[u8])] = &[
        (r#","data":{"a" : 1}"#, br#"{"a" : 1}"#),
        (r#","data":"x""#, br#""x""#),
        (r#","data":null"#, b"null"),
        (r#","datacontenttype":"text/plain","data":null"#, b""),
        (r#","datacontenttype":"text/plain","data":"a\n\u00e9""#, "a\né".as_bytes()),
        (r#","datacontenttype":"text/plain","data":[1, 2]"#, b"[1, 2]"),
        (r#","data_base64":"AQI=""#, &[1, 2]),
        (r#","data_base64":"AQI""#, &[1, 2]),
        (r#","data_base64":null"#, b""),
        (r#","data":null,"data_base64":"AQI=""#, &[1, 2]),
    ];
    for (members, data) in cases {
        assert_eq!(read(&with(members)).unwrap().data, *data, "{members}");
    }
}

#[test]
fn what_is_no_cloud_event_is_refused_and_named() {
    let cases: &[(&str, &str)] = &[
        ("", "EOF"),
        ("[]", "JSON object"),
        ("{} x", "trailing"),
        ("\u{feff}{}", "expected value"),
        ("{}", "\"specversion\" is missing"),
        (r#"{"specversion":"0.3"}"#, "specversion is \"0.3\""),
        (r#"{"specversion":1}"#, "\"specversion\" is not a string"),
        (r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "\"id\" is missing"),
        (r#"{"specversion":"1.0","id":null,"source":"/s","type":"t"}"#, "\"id\" is missing"),
        (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "\"id\" is empty"),
        (&with(r#","id":"2""#), "\"id\" is there twice"),
        (&with(r#","i\u0064":"2""#), "\"id\" is there twice"),
        (&with(r#","data":1,"data":2"#), "\"data\" is there twice"),
        (&with(r#","myName":"x""#), "lower-case"),
        (&with(r#","my_name":"x""#), "lower-case"),
        (&with(r#","":"x""#), "lower-case"),
        (&with(r#","x":1.5"#), "32 bits"),
        (&with(r#","x":2147483648"#), "32 bits"),
        (&with(r#","x":{}"#), "object or an array"),
        (&with(r#","x":"a\u0000b""#), "control character"),
        (&with(r#","x":"a\u0085b""#), "control character"),
        (&with(r#","x":"a\ufffeb""#), "non-character"),
        (&with(r#","x":"\ud800""#), "hex escape"),
        (&with(r#","time":"noon""#), "RFC 3339"),
        (&with(r#","subject":"""#), "\"subject\" is empty"),
        (&with(r#","data":1,"data_base64":"AQI=""#), "both there"),
        (&with(r#","data_base64":1"#), "not a string"),
        (&with(r#","data_base64":"*""#), "not base64"),
        (&with(&format!(r#","x":"{}""#, "x".repeat(65_536))), "65535"),
        (&with(&(0..257).map(|n| format!(r#","x{n}":1"#)).collect::<String>()), "256"),
    ];
    for (json, reason) in cases {
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{json:.80}: {error}");
    }
    assert_eq!(read(r#"{"x":{},"specversion":"2.0"}"#), Err(InvalidEvent::Version("2.0".into())));
    assert!(decode(Bytes::from_static(b"{\"id\":\"\xff\"}")).is_err());
}

#[test]
fn null_attributes_are_absent_and_types_are_kept() {
    let event = read(&with(r#","subject":null,"n":-5,"b":false,"s":"5""#)).unwrap();
    assert_eq!(event.attributes.subject, None);
    let expected =
        [("n", Value::Integer(-5)), ("b", Value::Boolean(false)), ("s", Value::String("5".into()))];
    assert_eq!(event.attributes.extensions, expected.map(|(name, value)| (name.into(), value)));
}

#[test]
fn the_topic_is_the_first_that_is_given() {
    let topic =
        |members: &str, query| read(&with(members)).unwrap().topic(query).map(|topic| topic.to_string());
    let all = r#","wefttopic":"w","subject":"s""#;
    assert_eq!(topic(all, Some("q")).unwrap(), "q");
    assert_eq!(topic(all, None).unwrap(), "w");
    assert_eq!(topic(r#","subject":"s""#, None).unwrap(), "s");
    assert_eq!(topic("", None).unwrap(), "t");
    assert!(topic(r#","subject":"a#b""#, None).is_err());
    assert!(topic(all, Some("a/+")).is_err());
}

#[test]
fn json_that_says_it_all_is_kept_letter_by_letter() {
    let json = with(", \"x\" : 1, \"data\" : [ 1 ]");
    let event = read(&json).unwrap().into_event(TopicName::parse("a").unwrap(), 1, 2, Arc::from("p"));
    assert_eq!(text(event.as_json()), json);
    let shown = event.as_reader_json(None);
    assert_eq!(text(&shown), format!("{},\"wefttopic\":\"a\"}}", &json[..json.len() - 1]));
    assert_eq!(event.as_reader_json(None).as_ptr(), shown.as_ptr(), "made once");
}

#[test]
fn weft_s_own_extensions_are_not_part_of_the_event() {
    let event = read(&with(r#","wefttopic":"a","weftretain":true,"weftposition":"7""#)).unwrap();
    assert_eq!((event.topic.as_deref(), event.retain, event.json.is_none()), (Some("a"), true, true));
    assert!(event.attributes.extensions.is_empty());
    assert!(read(&with(r#","wefttopic":5"#)).is_err());
}

#[test]
fn extensions_go_back_to_where_they_came_from_only_if_nothing_changes() {
    let parts_of = |members: &str| {
        read(&with(members)).unwrap().into_parts(TopicName::parse("a").unwrap(), 1, 2, Arc::from("p"))
    };
    let count = |parts: &Parts| parts.meta.as_ref().unwrap().attributes.as_ref().unwrap().extensions.len();
    let taken = parts_of(
        r#","expirytime":"2030-01-01T00:00:00Z","replyto":"r","correlationdata":"AQI=","userproperties":"[[\"A b\",\"1\"]]""#,
    );
    assert_eq!((count(&taken), taken.expires_ms), (0, 1_893_456_000_000));
    let meta = taken.meta.unwrap();
    assert_eq!(meta.reply_to.unwrap().as_str(), "r");
    assert_eq!(meta.correlation.unwrap(), [1, 2].as_slice());
    assert_eq!(meta.user, [("A b".into(), "1".into())]);
    for left in [
        r#","expirytime":"2030-01-01T00:00:00.1234567Z""#,
        r#","expirytime":"soon""#,
        r#","expirytime":5"#,
        r#","replyto":"r/#""#,
        r#","correlationdata":"AQI""#,
        r#","userproperties":"[]""#,
        r#","userproperties":"[[\"id\",\"1\"]]""#,
        r#","userproperties":"[[\"A\", \"1\"]]""#,
    ] {
        assert_eq!(count(&parts_of(left)), 1, "{left}");
    }
    assert_eq!(parts_of(r#","expirytime":"2030-01-01T01:00:00+01:00""#).expires_ms, 1_893_456_000_000);
    assert_eq!(parts_of(r#","expirytime":"1960-01-01T00:00:00Z""#).expires_ms, 0);
}

#[test]
fn a_batch_has_a_result_for_each_event() {
    let batch = format!("[ {}, {{}} , {}]", with(""), with(r#","data":1"#));
    let results = decode_batch(&Bytes::from(batch)).unwrap();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert!(decode_batch(&Bytes::from_static(b"[]")).unwrap().is_empty());
    assert!(decode_batch(&Bytes::from_static(b"{}")).is_err());
}

fn any_text() -> impl Strategy<Value = ByteString> {
    r"[^\p{C}]{1,12}".prop_map(ByteString::from)
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Integer),
        r"[^\p{C}]{1,12}".prop_map(|text| Value::String(text.into())),
    ]
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let extensions = proptest::collection::btree_map("[a-z0-9]{1,4}x", any_value(), 0..4);
    let optional = || proptest::option::of(any_text());
    let time = proptest::option::of(Just(ByteString::from_static("2020-01-02T03:04:05.678+01:00")));
    (any_text(), any_text(), any_text(), optional(), time, optional(), extensions).prop_map(
        |(id, source, ty, subject, time, dataschema, extensions)| Attributes {
            id,
            source,
            ty,
            subject,
            time,
            dataschema,
            extensions: extensions.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        },
    )
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let media_type = proptest::option::of(prop_oneof![
        Just("application/json".into()),
        Just("text/plain".into()),
        Just("application/x".into()),
        any_text()
    ]);
    let reply_to =
        proptest::option::of(r"[^\p{C}+#]{1,12}".prop_map(|topic| TopicName::parse(topic).unwrap()));
    let correlation =
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from));
    let user = proptest::collection::vec(("[A-Z é\"]{0,6}".prop_map(ByteString::from), any_text()), 0..3);
    (any_attributes(), media_type, any::<bool>(), reply_to, correlation, user).prop_map(
        |(attributes, content_type, utf8, reply_to, correlation, user)| Meta {
            attributes: Some(attributes),
            content_type,
            utf8,
            reply_to,
            correlation,
            user,
        },
    )
}

fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        ".{0,20}".prop_map(String::into_bytes),
        Just(b"{\"a\":[1,\"x\\n\"]}".to_vec()),
        Just(b"\"text\"".to_vec()),
        Just(b"null".to_vec()),
    ]
}

/// A JSON value has no white space around it; all other data is kept as it is.
fn as_kept(data: &[u8], json: bool) -> &[u8] {
    let is_json = std::str::from_utf8(data).is_ok_and(|text| json_value(text).is_some());
    if json && is_json { data.trim_ascii() } else { data }
}

proptest! {
    #[test]
    fn a_cloud_event_comes_through_whole(
        topic in r"[^\p{C}+#]{1,12}", data in any_data(), meta in any_meta(), expires_ms in prop_oneof![Just(0), 1u64..4_000_000_000_000],
    ) {
        let mut parts = parts(&topic, &data, Some(meta));
        parts.expires_ms = expires_ms;
        let mut back = through(&Event::new(parts.clone())).parts().clone();
        let json = parts.meta.as_ref().unwrap().content_type.as_deref().is_none_or(is_json);
        parts.data = Bytes::copy_from_slice(as_kept(&data, json));
        // JSON tells more about text than its publisher did.
        back.meta.as_mut().unwrap().utf8 = parts.meta.as_ref().unwrap().utf8;
        prop_assert_eq!(back, parts);
    }

    #[test]
    fn a_plain_publish_comes_through_with_what_it_shows(topic in r"[^\p{C}+#]{1,12}", data in any_data()) {
        let event = Event::new(parts(&topic, &data, None));
        let back = through(&event);
        prop_assert_eq!(back.topic(), event.topic());
        prop_assert_eq!(&back.data()[..], as_kept(&data, true));
        prop_assert_eq!((back.id(), back.source(), back.ty()), (event.id(), event.source(), event.ty()));
        prop_assert_eq!((back.subject(), back.time()), (event.subject(), event.time()));
        prop_assert_eq!(back.data_content_type(), event.data_content_type());
    }

    #[test]
    fn no_text_makes_it_panic(json in ".{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        decode(Bytes::from(bytes)).unwrap_err();
        drop(read(&json));
        drop(read(&with(&format!(",{json}"))));
        drop(read(&with(&format!(r#","x":{json}"#))));
        drop(decode_batch(&Bytes::from(json)));
    }
}
