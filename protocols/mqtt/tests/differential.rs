//! The codec against two others, rmqtt-codec and mqtt-proto: what Weft writes they read as meant, and packets with a few
//! wrong bytes are taken or refused by all alike, but for differences that are named here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "test code"
)]

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use event::Guarantee;
use mqtt::codec::client::{self, Hello};
use mqtt::codec::encode::{self, PublishHead};
use mqtt::codec::{FilterOptions, Packet, PacketId, Property, Reason, Version, Visit, decode, scan};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokio_util::codec::Decoder as _;

use Version::{V5, V311};

/// What one codec says of a packet: the packet as text, or that it is refused.
type Verdict = Result<String, String>;

fn weft(version: Version, bytes: &[u8]) -> Verdict {
    let found = scan(bytes, u32::MAX, true);
    if let (0, Some(violation)) = (found.complete, found.violation) {
        return Err(violation.to_string());
    }
    let first = version_of(version, bytes);
    let mut input = Bytes::copy_from_slice(bytes);
    match decode(&mut input, first) {
        Ok(Some(packet)) => Ok(format!("{packet:?}")),
        Ok(None) => Err("incomplete".into()),
        Err(violation) => Err(violation.to_string()),
    }
}

fn version_of(version: Version, bytes: &[u8]) -> Option<Version> {
    if bytes.first().is_some_and(|first| first >> 4 == 1) { None } else { Some(version) }
}

fn rmqtt(version: Version, bytes: &[u8]) -> Verdict {
    let mut input = BytesMut::from(bytes);
    let found = match version {
        V311 => {
            let mut codec = rmqtt_codec::v3::Codec::new(0);
            codec.decode(&mut input).map(|found| found.map(|(packet, _)| format!("{packet:?}")))
        }
        V5 => {
            let mut codec = rmqtt_codec::v5::Codec::new(0, 0);
            codec.decode(&mut input).map(|found| found.map(|(packet, _)| format!("{packet:?}")))
        }
    };
    match found {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err("incomplete".into()),
        Err(error) => Err(format!("{error:?}")),
    }
}

fn proto(version: Version, bytes: &[u8]) -> Verdict {
    let found = match version {
        V311 => mqtt_proto::v3::Packet::decode(bytes)
            .map(|found| found.map(|packet| format!("{packet:?}")))
            .map_err(|error| format!("{error:?}")),
        V5 => mqtt_proto::v5::Packet::decode(bytes)
            .map(|found| found.map(|packet| format!("{packet:?}")))
            .map_err(|error| format!("{error:?}")),
    };
    found?.ok_or_else(|| "incomplete".into())
}

/// Right packets of a client.
fn right_packet() -> impl Strategy<Value = (Version, Vec<u8>)> {
    let version = prop_oneof![Just(V311), Just(V5)];
    (version, 0..6u8, any::<[u8; 4]>(), "[a-z/]{1,12}", prop::collection::vec(any::<u8>(), 0..20)).prop_map(
        |(version, kind, [a, b, c, d], topic, data)| {
            let mut out = BytesMut::new();
            let id = PacketId(NonZeroU16::new(u16::from_be_bytes([a, b])).unwrap_or(NonZeroU16::MIN));
            let guarantee =
                [Guarantee::AtMostOnce, Guarantee::AtLeastOnce, Guarantee::ExactlyOnce][usize::from(c % 3)];
            let properties = [
                Property::PayloadFormat(false),
                Property::MessageExpiry(u32::from(a) + 1),
                Property::ContentType(&topic),
                Property::CorrelationData(&data),
                Property::User("key", &topic),
                Property::User("key", "twice"),
            ];
            let some = properties.get(..usize::from(d % 7)).unwrap_or_default();
            match kind {
                0 => {
                    let id = (guarantee != Guarantee::AtMostOnce).then_some(id);
                    let dup = id.is_some() && d & 2 != 0;
                    let head = PublishHead { dup, guarantee, retain: d & 4 != 0, topic: &topic, id };
                    assert!(client::publish(&mut out, version, head, some, &data));
                }
                1 => {
                    let options = FilterOptions {
                        guarantee,
                        no_local: d & 1 != 0,
                        retain_as_published: d & 2 != 0,
                        retain_handling: d % 3,
                    };
                    client::subscribe(&mut out, version, id, &[(&topic, options), ("#", options)], &[]);
                }
                2 => client::unsubscribe(&mut out, version, id, &[&topic, "+"]),
                3 => {
                    let what = [
                        client::AckKind::PubAck,
                        client::AckKind::PubRec,
                        client::AckKind::PubRel,
                        client::AckKind::PubComp,
                    ];
                    client::ack(&mut out, version, what[usize::from(c % 4)], id, Reason::Success);
                }
                4 => client::disconnect(&mut out, version, [0, 4, 0x81][usize::from(c % 3)], &[]),
                _ => {
                    let hello = Hello {
                        client_id: &topic,
                        clean: d & 1 != 0,
                        keep_alive_s: u16::from(a),
                        will: (d & 2 != 0).then_some((&topic, &data, c % 3, d & 4 != 0)),
                        user: (d & 8 != 0).then_some("user"),
                        password: (d & 8 != 0).then_some(&data),
                        ..Hello::default()
                    };
                    client::connect(&mut out, version, &hello);
                }
            }
            (version, out.to_vec())
        },
    )
}

/// Whether a packet that Weft refuses and both others take is refused for a reason they leave to others.
fn stricter(why: &str) -> bool {
    [
        // A publish without topic and alias is left to the session by both.
        "[MQTT-3.3.2-1]",
        // Codes and properties that only some packets may have.
        "[MQTT 5 §2.4]",
        "[MQTT 5 §2.2.2]",
        // Others read both directions with one decoder.
        "[MQTT 5 §2.1.2] a packet that only the server sends",
        // U+0000 in texts other than topics.
        "[MQTT-1.5.4-2]",
        // Control characters and non-characters: the standard leaves it to the server.
        "[MQTT 5 §1.5.4]",
        // Will QoS and Will Retain without a will.
        "[MQTT-3.1.2-3]",
        // The shortest form of a length.
        "[MQTT-1.5.5-1]",
        "[MQTT-3.3.1-2]",
        "[MQTT-3.8.3-4]",
        "[MQTT-4.13.1-1]",
    ]
    .iter()
    .any(|clause| why.starts_with(clause))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn right_packets_are_right_to_all((version, bytes) in right_packet()) {
        for (name, verdict) in [
            ("weft", weft(version, &bytes)),
            ("rmqtt-codec", rmqtt(version, &bytes)),
            ("mqtt-proto", proto(version, &bytes)),
        ] {
            prop_assert!(verdict.is_ok(), "{name} {version:?} {bytes:02x?}: {verdict:?}");
        }
    }

    #[test]
    fn wrong_packets_are_wrong_to_all(
        (version, bytes) in right_packet(),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes;
        for (place, byte) in wrong {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let [ours, rmqtt, proto] = [weft(version, &bytes), rmqtt(version, &bytes), proto(version, &bytes)];
        if ours.is_ok() {
            prop_assert!(rmqtt.is_ok() || proto.is_ok(), "only weft takes {version:?} {bytes:02x?} {ours:?} {rmqtt:?} {proto:?}");
        } else if rmqtt.is_ok() && proto.is_ok() {
            let why = ours.unwrap_err();
            prop_assert!(stricter(&why), "only weft refuses {version:?} {bytes:02x?}: {why} {rmqtt:?} {proto:?}");
        }
    }

    #[test]
    fn publishes_of_the_server_are_read_as_meant(
        topic in "[a-z/]{1,40}",
        payload in prop::collection::vec(any::<u8>(), 0..300),
        pairs in prop::collection::vec(("[a-z]{0,8}", r"[^\p{C}]{0,8}"), 0..5),
        expiry in proptest::option::of(1u32..),
        ids in prop::collection::vec(1u32..268_435_455, 0..3),
        number in 1u16..,
        dup: bool,
        retain: bool,
    ) {
        let id = PacketId::new(number).unwrap();
        let head = PublishHead { dup, guarantee: Guarantee::ExactlyOnce, retain, topic: &topic, id: Some(id) };
        let each = |visit: &mut Visit<'_>| {
            expiry.into_iter().for_each(|seconds| visit(Property::MessageExpiry(seconds)));
            ids.iter().for_each(|id| visit(Property::SubscriptionId(*id)));
            pairs.iter().for_each(|(name, value)| visit(Property::User(name, value)));
        };
        let mut out = BytesMut::new();
        prop_assert!(encode::publish(&mut out, V5, head, &each, payload.len(), u32::MAX));
        out.extend_from_slice(&payload);
        let found = rmqtt_codec::v5::Codec::new(0, 0).decode(&mut out).unwrap().unwrap();
        let rmqtt_codec::v5::Packet::Publish(found) = found.0 else { panic!("{found:?}") };
        prop_assert_eq!((&*found.topic, &found.payload[..]), (&*topic, &payload[..]));
        prop_assert_eq!((found.dup, found.retain, found.packet_id), (dup, retain, NonZeroU16::new(number)));
        let properties = found.properties.unwrap_or_default();
        prop_assert_eq!(properties.message_expiry_interval.map(|seconds| seconds.get()), expiry);
        let theirs: Vec<u32> = properties.subscription_ids.iter().map(|id| id.get()).collect();
        prop_assert_eq!(theirs, ids);
        let theirs: Vec<_> = properties.user_properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        prop_assert_eq!(theirs, pairs);
    }
}

#[test]
fn acks_of_the_server_are_read_by_others() {
    let id = PacketId::new(513).unwrap();
    let mut out = BytesMut::new();
    encode::connack(
        &mut out,
        true,
        Reason::Success,
        &[Property::TopicAliasMaximum(3), Property::SharedAvailable(false)],
    );
    encode::suback(&mut out, V5, id, &[Reason::GrantedQos1, Reason::NotAuthorized], None);
    encode::unsuback(&mut out, V5, id, &[Reason::NoSubscriptionExisted], Some("why"));
    encode::ack(&mut out, V5, client::AckKind::PubAck, id, Reason::QuotaExceeded);
    encode::ack(&mut out, V5, client::AckKind::PubComp, id, Reason::PacketIdNotFound);
    encode::pingresp(&mut out);
    encode::disconnect(&mut out, Reason::SessionTakenOver, &[Property::ReasonString("because")]);
    let mut codec = rmqtt_codec::v5::Codec::new(0, 0);
    let mut rest = &out.clone()[..];
    for _ in 0..7 {
        let (packet, _) = codec.decode(&mut out).unwrap().unwrap();
        let text = format!("{packet:?}");
        let other = mqtt_proto::v5::Packet::decode(rest).unwrap().unwrap();
        rest = &rest[other.encode_len().unwrap()..];
        assert!(!text.is_empty());
    }
    assert!(out.is_empty() && rest.is_empty());
}

#[test]
fn a_publish_is_read_with_the_same_fields() {
    let properties =
        [Property::ContentType("text/plain"), Property::User("k", "v"), Property::User("k", "w")];
    let head = PublishHead {
        dup: false,
        guarantee: Guarantee::AtLeastOnce,
        retain: true,
        topic: "a/b",
        id: PacketId::new(9).ok(),
    };
    let mut out = BytesMut::new();
    client::publish(&mut out, V5, head, &properties, b"data");
    let (theirs, _) = rmqtt_codec::v5::Codec::new(0, 0).decode(&mut out.clone()).unwrap().unwrap();
    let rmqtt_codec::v5::Packet::Publish(theirs) = theirs else { panic!() };
    let Ok(Some(Packet::Publish(ours))) = decode(&mut out.freeze(), Some(V5)) else { panic!() };
    assert_eq!(ours.topic.unwrap().as_str(), &*theirs.topic);
    assert_eq!(
        (ours.payload, ours.retain, ours.id.map(|id| id.0)),
        (theirs.payload.clone(), theirs.retain, theirs.packet_id)
    );
    let theirs = theirs.properties.unwrap_or_default();
    let pairs = ours.properties.iter().filter_map(|property| match property {
        Property::User(name, value) => Some((name.to_owned(), value.to_owned())),
        _ => None,
    });
    let theirs: Vec<_> = theirs.user_properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert_eq!(pairs.collect::<Vec<_>>(), theirs);
}
