//! Edges of the codec, packet by packet. What the connection makes of them is tested over the stream.

use super::client::{self, Hello, ServerPacket, decode_server};
use super::encode::{self, AckKind, PublishHead};
use super::property::Place;
use super::reader::{Reader, varint, varint_len};
use super::write::write_varint;
use super::*;
use bytes::BytesMut;
use event::TopicError;

use Version::{V5, V311};

/// One complete packet of a client.
fn one(version: Version, bytes: &[u8]) -> Result<Packet, Violation> {
    let found = scan(bytes, 1 << 20, true);
    if let Some(violation) = found.violation {
        return Err(violation);
    }
    assert_eq!(found.complete, bytes.len(), "one whole packet");
    let mut input = Bytes::copy_from_slice(bytes);
    let packet = decode(&mut input, Some(version))?.expect("a whole packet");
    assert!(input.is_empty(), "all of it is taken");
    Ok(packet)
}

fn connect(bytes: &[u8]) -> Result<Connect, Violation> {
    let mut input = Bytes::copy_from_slice(bytes);
    match decode(&mut input, None)? {
        Some(Packet::Connect(connect)) => Ok(*connect),
        other => panic!("{other:?}"),
    }
}

/// `first` byte and `body`, with the length between them.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&[first][..]);
    write_varint(&mut out, u32::try_from(body.len()).unwrap());
    [&out, body].concat()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

#[test]
fn mqtt_1_5_5_lengths_have_one_to_four_bytes() {
    for (value, bytes) in [
        (0, &[0x00][..]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
    ] {
        let mut out = BytesMut::new();
        write_varint(&mut out, value);
        assert_eq!((&out[..], varint_len(value)), (bytes, bytes.len()));
        assert_eq!(varint(bytes), Ok(Some((value, bytes.len()))));
        assert_eq!(varint(&bytes[..bytes.len() - 1]), Ok(None));
    }
    assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff]), Err(Violation::Length));
    assert_eq!(Reader::new(&[0x80, 0x00]).varint(), Err(Violation::Length));
}

#[test]
fn mqtt_1_5_5_1_needless_bytes_in_the_remaining_length_are_refused_in_version_5_only() {
    let padded = [0xc0, 0x80, 0x00];
    assert_eq!(one(V5, &padded), Err(Violation::Length));
    assert_eq!(one(V311, &padded), Ok(Packet::PingReq));
}

#[test]
fn mqtt_2_1_3_reserved_flags_are_refused() {
    for kind in 1..=15u8 {
        for flags in 0..16u8 {
            let first = kind << 4 | flags;
            let wanted = match kind {
                kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => flags == 2,
                kind::PUBLISH => flags & 0b0110 != 0b0110 && flags & 0b1110 != 0b1000,
                _ => flags == 0,
            };
            assert_eq!(Header::read(&[first, 0]).is_ok(), wanted, "{first:#04x}");
        }
    }
    assert_eq!(Header::read(&[0x0f]).unwrap_err(), Violation::PacketType(0));
    assert_eq!(Header::read(&[0x36]).unwrap_err(), Violation::QosBits);
    assert_eq!(Header::read(&[0x38]).unwrap_err(), Violation::DupQos0);
}

#[test]
fn scan_finds_whole_packets_and_refuses_large_ones_before_their_body() {
    let ping = [0xc0, 0];
    let two = [&ping[..], &ping, &[0x30]].concat();
    assert_eq!(scan(&two, 1024, true), Scan { complete: 4, packets: 2, next: 0, violation: None });
    let cut = [&ping[..], &[0x30, 100, 0]].concat();
    assert_eq!(scan(&cut, 1024, true), Scan { complete: 2, packets: 1, next: 102, violation: None });
    let large = [&ping[..], &[0x30, 0xff, 0x07]].concat();
    let violation = Some(Violation::TooLarge { len: 1026, max: 1025 });
    assert_eq!(scan(&large, 1025, true), Scan { complete: 2, packets: 1, next: 0, violation });
    assert_eq!(scan(&large, 1026, true).violation, None);
    assert_eq!(scan(&ping, 1024, false).violation, Some(Violation::ConnectFirst));
    let flags = [&ping[..], &[0xc1]].concat();
    assert_eq!(scan(&flags, 1024, true).violation, Some(Violation::Flags(0xc1)));
}

#[test]
fn every_cut_of_a_packet_is_incomplete_or_truncated() {
    let body = b"\0\x03a/b\0\x07\x0b\x03\0\x04text\x02\0\0\0\x09payload";
    let whole = packet(0x32, body);
    for cut in 0..whole.len() {
        let found = scan(&whole[..cut], 1024, true);
        assert_eq!((found.complete, found.violation), (0, None));
        let mut input = Bytes::copy_from_slice(&whole[..cut]);
        assert_eq!(decode(&mut input, Some(V5)), Ok(None));
    }
    for cut in 0..body.len() - b"payload".len() {
        assert!(one(V5, &packet(0x32, &body[..cut])).is_err(), "{cut}");
    }
}

#[test]
fn publish_shares_its_memory() {
    let whole = Bytes::from(packet(0x31, b"\0\x03a/bpayload"));
    let mut input = whole.clone();
    let Ok(Some(Packet::Publish(publish))) = decode(&mut input, Some(V311)) else { panic!() };
    assert_eq!(
        (publish.retain, publish.dup, publish.guarantee, publish.id),
        (true, false, Guarantee::AtMostOnce, None)
    );
    assert_eq!(publish.topic.unwrap().as_str().as_ptr(), whole[4..].as_ptr());
    assert_eq!(publish.payload.as_ptr(), whole[7..].as_ptr());
}

#[test]
fn publish_edges() {
    for (version, first, body, error) in [
        (V5, 0x30, &b"\0\x01a"[..], Violation::Truncated),
        (V5, 0x32, b"\0\x01a\0", Violation::Truncated),
        (V5, 0x32, b"\0\x01a\0\0\0", Violation::PacketIdZero),
        (V311, 0x34, b"\0\x01a\0\0", Violation::PacketIdZero),
        (V5, 0x30, b"\0\0\0", Violation::NoTopic),
        (V311, 0x30, b"\0\0", Violation::Topic(TopicError::Empty)),
        (V5, 0x30, b"\0\x02a+\0", Violation::Topic(TopicError::Wildcard)),
        (V5, 0x30, b"\0\x02a\0\0", Violation::Topic(TopicError::Null)),
        (V5, 0x30, b"\0\x02a\n\0", Violation::Topic(TopicError::Control)),
        (V311, 0x30, b"\0\x03\xef\xbf\xbe\0", Violation::Topic(TopicError::Control)),
        (V5, 0x30, b"\0\x01a\x07\x26\0\x01a\0\x01\x1b", Violation::Control),
        (V5, 0x82, b"\0\x01\0\0\x02a\x07\0", Violation::Control),
        (V5, 0x30, b"\0\x02\xc3\x28\0", Violation::Utf8),
        (V5, 0x30, b"\0\x03\xed\xa0\x80\0", Violation::Utf8),
        (V5, 0x30, b"\0\x01a\x02\x01\x02", Violation::PropertyValue(1)),
        (V5, 0x30, b"\0\x01a\x04\x01\0\x01\0", Violation::PropertyTwice(1)),
        (V5, 0x30, b"\0\x01a\x02\x0b\x01", Violation::SubscriptionId),
        (V5, 0x30, b"\0\x01a\x03\x21\0\x01", Violation::PropertyPlace(0x21)),
        (V5, 0x30, b"\0\x01a\x02\x04\x00", Violation::PropertyUnknown(4)),
        (V5, 0x30, b"\0\x01a\x02\x7f\x00", Violation::PropertyUnknown(0x7f)),
        (V5, 0x30, b"\0\x01a\x05\x02\0\0\0", Violation::Truncated),
        (V5, 0x30, b"\0\x01a\x04\x03\0\x05a", Violation::Truncated),
    ] {
        assert_eq!(one(version, &packet(first, body)), Err(error), "{body:02x?}");
    }
    let Ok(Packet::Publish(publish)) = one(V5, &packet(0x3c, b"\0\x03a/b\xff\xff\x05\x26\0\0\0\0")) else {
        panic!()
    };
    assert_eq!(
        (publish.dup, publish.guarantee, publish.id),
        (true, Guarantee::ExactlyOnce, Some(id(65_535)))
    );
    assert_eq!(publish.properties.iter().collect::<Vec<_>>(), [Property::User("", "")]);
    assert!(publish.payload.is_empty());
}

#[test]
fn acks_have_short_forms_in_version_5() {
    let ack = |code| Ack { id: id(5), code };
    for (body, code) in [
        (&b"\0\x05"[..], 0),
        (b"\0\x05\x10", 0x10),
        (b"\0\x05\0\0", 0),
        (b"\0\x05\x87\x05\x1f\0\x02no", 0x87),
    ] {
        assert_eq!(one(V5, &packet(0x40, body)), Ok(Packet::PubAck(ack(code))));
        assert_eq!(one(V5, &packet(0x50, body)), Ok(Packet::PubRec(ack(code))));
    }
    assert_eq!(one(V5, &packet(0x62, b"\0\x05\x92")), Ok(Packet::PubRel(ack(0x92))));
    assert_eq!(one(V5, &packet(0x70, b"\0\x05\x92\0")), Ok(Packet::PubComp(ack(0x92))));
    assert_eq!(one(V311, &packet(0x40, b"\0\x05")), Ok(Packet::PubAck(ack(0))));
    for (version, first, body, error) in [
        (V5, 0x40, &b"\0"[..], Violation::Truncated),
        (V5, 0x40, b"\0\0", Violation::PacketIdZero),
        (V5, 0x40, b"\0\x05\x92", Violation::ReasonCode(0x92)),
        (V5, 0x62, b"\0\x05\x80", Violation::ReasonCode(0x80)),
        (V5, 0x40, b"\0\x05\0\0\0", Violation::Trailing),
        (V5, 0x40, b"\0\x05\0\x05\x11\0\0\0\0", Violation::PropertyPlace(0x11)),
        (V311, 0x40, b"\0\x05\0", Violation::Trailing),
    ] {
        assert_eq!(one(version, &packet(first, body)), Err(error), "{body:02x?}");
    }
}

#[test]
fn subscribe_edges() {
    let Ok(Packet::Subscribe(subscribe)) =
        one(V5, &packet(0x82, b"\0\x09\x03\x0b\x80\x01\0\x01#\x2e\0\x01a\0"))
    else {
        panic!()
    };
    let options = |guarantee, no_local, retain_as_published, retain_handling| FilterOptions {
        guarantee,
        no_local,
        retain_as_published,
        retain_handling,
    };
    assert_eq!((subscribe.id, subscribe.subscription), (id(9), 128));
    assert_eq!(
        subscribe.filters,
        [
            ("#".into(), options(Guarantee::ExactlyOnce, true, true, 2)),
            ("a".into(), options(Guarantee::AtMostOnce, false, false, 0))
        ]
    );
    for (version, body, error) in [
        (V5, &b"\0\x01\0"[..], Violation::NoFilter),
        (V311, b"\0\x01", Violation::NoFilter),
        (V5, b"\0\0\0\0\x01a\0", Violation::PacketIdZero),
        (V5, b"\0\x01\0\0\x01a", Violation::Truncated),
        (V5, b"\0\x01\0\0\x01a\x03", Violation::SubscriptionOptions(3)),
        (V5, b"\0\x01\0\0\x01a\x30", Violation::SubscriptionOptions(0x30)),
        (V5, b"\0\x01\0\0\x01a\x40", Violation::SubscriptionOptions(0x40)),
        (V5, b"\0\x01\0\0\x01a\x80", Violation::SubscriptionOptions(0x80)),
        (V311, b"\0\x01\0\x01a\x04", Violation::SubscriptionOptions(4)),
        (V5, b"\0\x01\0\0\x0a$share/g/a\x04", Violation::NoLocalShared),
        (V5, b"\0\x01\x02\x0b\0\0\x01a\0", Violation::PropertyValue(0x0b)),
        (V5, b"\0\x01\x04\x0b\x01\x0b\x01\0\x01a\0", Violation::PropertyTwice(0x0b)),
        (V5, b"\0\x01\x03\x0b\x80\0\0\x01a\0", Violation::Length),
        (V5, b"\0\x01\0\0\x01\xff\0", Violation::Utf8),
        (V5, b"\0\x01\0\0\x01\0\0", Violation::Null),
    ] {
        assert_eq!(one(version, &packet(0x82, body)), Err(error), "{body:02x?}");
    }
}

#[test]
fn unsubscribe_edges() {
    let wanted = Unsubscribe { id: id(3), filters: vec!["a".into(), "".into()] };
    assert_eq!(one(V5, &packet(0xa2, b"\0\x03\0\0\x01a\0\0")), Ok(Packet::Unsubscribe(wanted.clone())));
    assert_eq!(one(V311, &packet(0xa2, b"\0\x03\0\x01a\0\0")), Ok(Packet::Unsubscribe(wanted)));
    assert_eq!(one(V5, &packet(0xa2, b"\0\x03\0")), Err(Violation::NoFilter));
    assert_eq!(one(V5, &packet(0xa2, b"\0\x03\x02\x0b\x01\0\x01a")), Err(Violation::PropertyPlace(0x0b)));
}

#[test]
fn disconnect_has_short_forms_in_version_5() {
    let gone = |code, session_expiry| Ok(Packet::Disconnect(Disconnect { code, session_expiry }));
    assert_eq!(one(V5, &[0xe0, 0]), gone(0, None));
    assert_eq!(one(V5, &[0xe0, 1, 4]), gone(4, None));
    assert_eq!(one(V5, &[0xe0, 2, 4, 0]), gone(4, None));
    assert_eq!(one(V5, &packet(0xe0, b"\0\x05\x11\0\0\0\x07")), gone(0, Some(7)));
    assert_eq!(one(V311, &[0xe0, 0]), gone(0, None));
    assert_eq!(one(V311, &[0xe0, 1, 4]), Err(Violation::Trailing));
    assert_eq!(one(V5, &[0xe0, 1, 1]), Err(Violation::ReasonCode(1)));
    assert_eq!(one(V5, &packet(0xe0, b"\0\x03\x21\0\x07")), Err(Violation::PropertyPlace(0x21)));
}

#[test]
fn packets_without_body_and_of_the_other_direction() {
    assert_eq!(one(V5, &[0xc0, 0]), Ok(Packet::PingReq));
    assert_eq!(one(V5, &[0xc0, 1, 0]), Err(Violation::Trailing));
    for first in [0x20, 0x90, 0xb0, 0xd0] {
        assert_eq!(one(V5, &[first, 2, 0, 1]), Err(Violation::WrongDirection));
    }
    let auth = |code, method: &str, data: &'static [u8]| {
        Ok(Packet::Auth(Auth { code, method: method.into(), data: Bytes::from_static(data) }))
    };
    assert_eq!(one(V5, &[0xf0, 0]), auth(0, "", b""));
    assert_eq!(one(V5, &packet(0xf0, b"\x18\x09\x15\0\x02ab\x16\0\x01c")), auth(0x18, "ab", b"c"));
    assert_eq!(one(V5, &packet(0xf0, b"\x01\0")), Err(Violation::ReasonCode(1)));
    assert_eq!(one(V311, &[0xf0, 0]), Err(Violation::PacketType(15)));
    assert_eq!(one(V311, &packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\0")), Err(Violation::ConnectTwice));
    let mut ping = Bytes::from_static(&[0xc0, 0]);
    assert_eq!(decode(&mut ping, None), Err(Violation::ConnectFirst));
}

#[test]
fn connect_is_read_whole() {
    let mut out = BytesMut::new();
    let properties = [
        Property::SessionExpiry(10),
        Property::ReceiveMaximum(NonZeroU16::new(3).unwrap()),
        Property::MaximumPacketSize(500.try_into().unwrap()),
        Property::RequestProblemInformation(false),
        Property::User("a", "b"),
        Property::User("a", "b"),
    ];
    let hello = Hello {
        client_id: "me",
        clean: true,
        keep_alive_s: 60,
        will: Some(("w/t", b"gone", 2, true)),
        will_properties: &[Property::WillDelay(9), Property::ContentType("text/plain")],
        user: Some("user"),
        password: Some(&[0xff]),
        properties: &properties,
    };
    client::connect(&mut out, V5, &hello);
    let got = connect(&out).unwrap();
    let will = got.will.as_ref().unwrap();
    assert_eq!((got.version, got.clean, got.keep_alive_s, &*got.client_id), (V5, true, 60, "me"));
    assert_eq!(
        (will.topic.as_str(), &will.payload[..], will.delay_s, will.retain),
        ("w/t", &b"gone"[..], 9, true)
    );
    assert_eq!(will.guarantee, Guarantee::ExactlyOnce);
    assert_eq!((got.user.as_deref(), got.password.as_deref()), (Some("user"), Some(&[0xff][..])));
    assert_eq!((got.session_expiry_s, got.receive_max.get()), (10, 3));
    assert_eq!((got.max_packet_bytes.unwrap().get(), got.problem_information), (500, false));
    out.clear();
    client::connect(&mut out, V311, &hello);
    let old = connect(&out).unwrap();
    assert_eq!((old.version, old.will.unwrap().delay_s, old.session_expiry_s), (V311, 0, 0));
}

#[test]
fn connect_edges() {
    let five =
        |flags: u8, rest: &[u8]| packet(0x10, &[&b"\0\x04MQTT\x05"[..], &[flags, 0, 0], rest].concat());
    let four =
        |flags: u8, rest: &[u8]| packet(0x10, &[&b"\0\x04MQTT\x04"[..], &[flags, 0, 0], rest].concat());
    let wrong_flags = |flags| Violation::ConnectFlags(flags);
    for (bytes, error) in [
        (packet(0x10, b"\0\x04MQTT\x03\x02\0\0\0\0"), Violation::ProtocolLevel(3)),
        (packet(0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\0"), Violation::ProtocolLevel(3)),
        (packet(0x10, b"\0\x04mqtt\x04\x02\0\0\0\0"), Violation::ProtocolName),
        (packet(0x10, b"\0\x04MQ"), Violation::Truncated),
        (four(0x03, b"\0\0"), wrong_flags(0x03)),
        (four(0x0a, b"\0\0"), wrong_flags(0x0a)),
        (four(0x22, b"\0\0"), wrong_flags(0x22)),
        (four(0x1e, b"\0\0\0\x01w\0\0"), wrong_flags(0x1e)),
        (four(0x42, b"\0\0\0\x01p"), wrong_flags(0x42)),
        (four(0x02, b"\0\x01\xff"), Violation::Utf8),
        (four(0x02, b"\0\x01\0"), Violation::Null),
        (four(0x02, b"\0\0x"), Violation::Trailing),
        (four(0x82, b"\0\0"), Violation::Truncated),
        (four(0x06, b"\0\0\0\x01#\0\0"), Violation::Topic(TopicError::Wildcard)),
        (five(0x02, b"\x03\x21\0\0\0\0"), Violation::PropertyValue(0x21)),
        (five(0x02, b"\x05\x27\0\0\0\0\0\0"), Violation::PropertyValue(0x27)),
        (five(0x02, b"\x02\x17\x02\0\0"), Violation::PropertyValue(0x17)),
        (five(0x02, b"\x04\x16\0\x01a\0\0"), Violation::AuthenticationData),
        (five(0x02, b"\x05\x18\0\0\0\0\0\0"), Violation::PropertyPlace(0x18)),
        (five(0x06, b"\0\0\0\x05\x11\0\0\0\0\0\x01w\0\0"), Violation::PropertyPlace(0x11)),
    ] {
        assert_eq!(connect(&bytes), Err(error), "{bytes:02x?}");
    }
    // A password without a user name came with version 5.
    assert_eq!(connect(&five(0x42, b"\0\0\0\0\x01p")).unwrap().password.as_deref(), Some(&b"p"[..]));
    assert!(claims_version_5(&five(0x03, b"")));
    assert!(!claims_version_5(&four(0x02, b"")));
}

#[test]
fn each_property_is_allowed_where_the_standard_says_and_written_as_read() {
    let all = [
        Property::PayloadFormat(true),
        Property::MessageExpiry(1),
        Property::ContentType("c"),
        Property::ResponseTopic("r"),
        Property::CorrelationData(b"d"),
        Property::SubscriptionId(268_435_455),
        Property::SessionExpiry(2),
        Property::AssignedClientId("i"),
        Property::ServerKeepAlive(3),
        Property::AuthenticationMethod("m"),
        Property::AuthenticationData(b"a"),
        Property::RequestProblemInformation(true),
        Property::WillDelay(4),
        Property::RequestResponseInformation(true),
        Property::ResponseInformation("ri"),
        Property::ServerReference("s"),
        Property::ReasonString("rs"),
        Property::ReceiveMaximum(NonZeroU16::MIN),
        Property::TopicAliasMaximum(5),
        Property::TopicAlias(6),
        Property::MaximumQos(false),
        Property::RetainAvailable(false),
        Property::User("k", "v"),
        Property::MaximumPacketSize(7.try_into().unwrap()),
        Property::WildcardAvailable(false),
        Property::SubscriptionIdAvailable(false),
        Property::SharedAvailable(false),
    ];
    // Table 2-4 of the standard, one letter for each place it names.
    let places = [
        "PW",
        "PW",
        "PW",
        "PW",
        "PW",
        "DS",
        "CcX",
        "c",
        "c",
        "CcA",
        "CcA",
        "C",
        "W",
        "C",
        "c",
        "cX",
        "ckXA",
        "Cc",
        "Cc",
        "P",
        "c",
        "c",
        "CWcPkSUXA",
        "Cc",
        "c",
        "c",
        "c",
    ];
    let letters = [
        ('C', Place::CONNECT),
        ('W', Place::WILL),
        ('c', Place::CONNACK),
        ('P', Place::PUBLISH),
        ('D', Place::DELIVERY),
        ('k', Place::ACK),
        ('S', Place::SUBSCRIBE),
        ('U', Place::UNSUBSCRIBE),
        ('X', Place::DISCONNECT),
        ('A', Place::AUTH),
    ];
    for (property, allowed) in all.into_iter().zip(places) {
        let mut block = BytesMut::new();
        encode::write_properties(&mut block, &[property]);
        let block = block.freeze();
        for (letter, place) in letters {
            let read = Properties::read(&mut Reader::new(&block), &block, place);
            // What a client may publish with, a server may deliver with.
            let wanted = allowed.contains(letter) || (letter == 'D' && allowed.contains('P'));
            match read {
                Ok(properties) => {
                    assert!(wanted, "{property:?} {letter}");
                    assert_eq!(properties.iter().collect::<Vec<_>>(), [property]);
                }
                Err(violation) => assert!(!wanted, "{property:?} {letter} {violation}"),
            }
        }
    }
}

#[test]
fn subscription_ids_repeat_in_deliveries() {
    let ids = [Property::SubscriptionId(1), Property::SubscriptionId(2)];
    let mut block = BytesMut::new();
    encode::write_properties(&mut block, &ids);
    let block = block.freeze();
    let read = Properties::read(&mut Reader::new(&block), &block, Place::DELIVERY).unwrap();
    assert_eq!(read.iter().collect::<Vec<_>>(), ids);
}

#[test]
fn texts_too_long_for_a_property_are_left_out() {
    let long = "x".repeat(65_536);
    let mut block = BytesMut::new();
    encode::write_properties(&mut block, &[Property::User("k", &long), Property::ContentType("c")]);
    assert_eq!(&block[..], [4, 0x03, 0, 1, b'c']);
}

#[test]
fn server_packets_are_read_back() {
    let read = |version, write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        let packet = decode_server(&mut out, version).unwrap().unwrap();
        assert!(out.is_empty());
        packet
    };
    let ack = |number, code| Ack { id: id(number), code };
    for version in [V5, V311] {
        let success = |out: &mut BytesMut| encode::ack(out, version, AckKind::PubRel, id(7), Reason::Success);
        assert_eq!(read(version, &success), ServerPacket::PubRel(ack(7, 0)));
        let suback = |out: &mut BytesMut| {
            encode::suback(out, version, id(7), &[Reason::GrantedQos2, Reason::NotAuthorized], None);
        };
        let refused = if version == V5 { 0x87 } else { 0x80 };
        assert_eq!(read(version, &suback), ServerPacket::SubAck(id(7), vec![2, refused]));
        assert_eq!(read(version, &encode::pingresp), ServerPacket::PingResp);
    }
    let refused = |out: &mut BytesMut| encode::ack(out, V5, AckKind::PubRec, id(7), Reason::QuotaExceeded);
    assert_eq!(read(V5, &refused), ServerPacket::PubRec(ack(7, 0x97)));
    let unsuback = |out: &mut BytesMut| encode::unsuback(out, V311, id(7), &[Reason::Success], None);
    assert_eq!(read(V311, &unsuback), ServerPacket::UnsubAck(id(7), vec![]));
    let bye = |out: &mut BytesMut| {
        encode::disconnect(out, Reason::ServerShuttingDown, &[Property::ReasonString("x")])
    };
    assert_eq!(read(V5, &bye), ServerPacket::Disconnect(0x8b));
    let connack = |out: &mut BytesMut| encode::connack_311(out, true, 0);
    let properties = Properties::default();
    assert_eq!(read(V311, &connack), ServerPacket::ConnAck { session_present: true, code: 0, properties });
}

#[test]
fn a_publish_above_the_limit_is_not_written() {
    let head = PublishHead {
        dup: false,
        guarantee: Guarantee::AtLeastOnce,
        retain: false,
        topic: "a/b",
        id: Some(id(1)),
    };
    let none = |_: &mut Visit<'_>| {};
    let mut out = BytesMut::new();
    // First byte, length, topic, packet id, property length.
    let total = 1 + 1 + 5 + 2 + 1 + 100;
    assert!(!encode::publish(&mut out, V5, head, &none, 100, total - 1));
    assert!(out.is_empty());
    assert!(encode::publish(&mut out, V5, head, &none, 100, total));
    assert_eq!(u32::try_from(out.len()).unwrap(), total - 100);
}
