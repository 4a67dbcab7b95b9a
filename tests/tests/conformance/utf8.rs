//! Data representation (MQTT 5 §1.5, MQTT 3.1.1 §1.5).

use tests::wire::{Property, Publish, packet};

use crate::peer::{BOTH, Peer, V5, connect_of, hello, name, subscribe_with, text};

/// Bytes that are no string: cut, overlong, a surrogate, above U+10FFFF.
const NOT_UTF8: [&[u8]; 5] = [b"a\xff", b"\xc3\x28", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"];

#[tokio::test]
async fn mqtt_1_5_4_1_strings_that_are_not_utf8_close() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        for wrong in NOT_UTF8 {
            let wrong = text(wrong);
            let cases = [
                packet(0x30, &[&wrong[..], none, b"x"].concat()),
                packet(0x82, &[b"\0\x01", none, &wrong, b"\0"].concat()),
                packet(0xa2, &[b"\0\x01", none, &wrong].concat()),
            ];
            for bytes in cases {
                let mut peer = Peer::new(version).await;
                peer.send(&bytes).await;
                peer.closed(&[0x81]).await;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_3_4_client_id_will_topic_and_user_name_are_utf8() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        for wrong in NOT_UTF8 {
            let (wrong, id, data) = (text(wrong), text(name().as_bytes()), text(b"x"));
            let cases = [
                connect_of(version, 0x02, &wrong),
                connect_of(version, 0x06, &[&id[..], none, &wrong, &data].concat()),
                connect_of(version, 0x82, &[&id[..], &wrong].concat()),
            ];
            for bytes in cases {
                let mut peer = Peer::open(version).await;
                peer.send(&bytes).await;
                if version == V5 {
                    peer.says("CONNACK 0x81").await;
                }
                peer.says("END").await;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_1_5_4_2_the_null_character_closes() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.publish(Publish::new("a\0b", "x", 0)).await;
        peer.closed(&[0x81]).await;
        let mut peer = Peer::open(version).await;
        peer.send(&hello(version, "a\0b").encode()).await;
        if version == V5 {
            peer.says("CONNACK 0x81").await;
        }
        peer.says("END").await;
    }
}

#[tokio::test]
async fn mqtt_1_5_4_3_a_byte_order_mark_is_a_character() {
    for version in BOTH {
        let plain = name();
        let marked = format!("\u{feff}{plain}");
        let mut peer = Peer::new(version).await;
        peer.subscribe(&marked, 0).await;
        peer.publish(Publish::new(&plain, "without", 0)).await;
        peer.publish(Publish::new(&marked, "with", 0)).await;
        peer.says(&format!("PUBLISH q0 {marked} with")).await;
    }
}

#[tokio::test]
async fn mqtt_1_5_5_1_lengths_have_no_needless_bytes() {
    let mut peer = Peer::new(V5).await;
    peer.send(&[0xc0, 0x80, 0x00]).await;
    peer.closed(&[0x81]).await;
    // Five bytes are no length in any version.
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.send(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]).await;
        peer.closed(&[0x81]).await;
    }
    // A property length, and a subscription identifier.
    for body in [&b"\0\x01\x80\0\0\x01a\0"[..], b"\0\x01\x03\x0b\x81\0\0\x01a\0"] {
        let mut peer = Peer::new(V5).await;
        peer.send(&packet(0x82, body)).await;
        peer.closed(&[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_1_5_7_1_both_strings_of_a_pair_are_utf8() {
    for pair in [b"\x26\0\x02a\xff\0\x01b", b"\x26\0\x01a\0\x02b\xff", b"\x26\0\x01a\0\x02\0b"] {
        let mut peer = Peer::new(V5).await;
        peer.send(&packet(0x30, &[&text(b"t")[..], &[8], pair].concat())).await;
        peer.closed(&[0x81]).await;
    }
    let mut peer = Peer::new(V5).await;
    let topic = name();
    let pair = Property::Pair("ключ".into(), "значение".into());
    peer.send(&subscribe_with(std::slice::from_ref(&pair), &[(&topic, 0)])).await;
    peer.says("SUBACK 1 [00]").await;
    peer.publish(Publish::new(&topic, "x", 0).with(pair.clone())).await;
    assert_eq!(peer.message().await.properties, [pair]);
}
