//! The format of packets (MQTT 5 §2, MQTT 3.1.1 §2).

use std::collections::BTreeSet;

use tests::wire::{Ack, Publish, packet};

use crate::peer::{BOTH, Peer, V4, V5, name};

#[tokio::test]
async fn mqtt_2_1_3_1_reserved_flags_close() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        let subscribe = [b"\0\x01", none, b"\0\x01a\0"].concat();
        let unsubscribe = [b"\0\x01", none, b"\0\x01a"].concat();
        let mut cases = vec![
            packet(0x41, b"\0\x01"),
            packet(0x52, b"\0\x01"),
            packet(0x60, b"\0\x01"),
            packet(0x63, b"\0\x01"),
            packet(0x74, b"\0\x01"),
            packet(0x80, &subscribe),
            packet(0x8a, &subscribe),
            packet(0xa0, &unsubscribe),
            packet(0xaf, &unsubscribe),
            packet(0xc1, b""),
            packet(0xe8, b""),
            packet(0x00, b""),
        ];
        if version == V5 {
            cases.push(packet(0xf1, b""));
        } else {
            cases.push(packet(0xf0, b""));
        }
        for bytes in cases {
            let mut peer = Peer::new(version).await;
            peer.send(&bytes).await;
            peer.closed(&[0x81]).await;
        }
    }
}

#[tokio::test]
async fn mqtt_2_2_1_2_qos_0_has_no_packet_id() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        peer.subscribe(&topic, 2).await;
        // What looks like a packet id is payload.
        peer.publish(Publish::new(&topic, b"\0\x07x".to_vec(), 0)).await;
        let message = peer.message().await;
        assert_eq!((message.qos, message.payload), (0, b"\0\x07x".to_vec()));
    }
}

#[tokio::test]
async fn mqtt_2_2_1_3_packet_id_0_closes() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        let cases = [
            packet(0x32, &[b"\0\x01t\0\0", none, b"x"].concat()),
            packet(0x34, &[b"\0\x01t\0\0", none, b"x"].concat()),
            packet(0x82, &[b"\0\0", none, b"\0\x01a\0"].concat()),
            packet(0xa2, &[b"\0\0", none, b"\0\x01a"].concat()),
            packet(0x62, b"\0\0"),
        ];
        for bytes in cases {
            let mut peer = Peer::new(version).await;
            peer.send(&bytes).await;
            peer.closed(&[0x81, 0x82]).await;
        }
    }
}

#[tokio::test]
async fn mqtt_2_2_1_4_open_deliveries_have_ids_of_their_own() {
    for version in BOTH {
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 2).await;
        let mut writer = Peer::new(version).await;
        for qos in [1, 2, 1, 2] {
            writer.publish(Publish { id: 1 + u16::from(qos), ..Publish::new(&topic, "x", qos) }).await;
            let answer = if qos == 1 { "PUBACK 2" } else { "PUBREC 3" };
            writer.says(answer).await;
            if qos == 2 {
                writer.ack(Ack::PubRel, 3).await;
                writer.says("PUBCOMP 3").await;
            }
        }
        let mut ids = BTreeSet::new();
        for _ in 0..4 {
            ids.insert(reader.message().await.id);
        }
        assert!(ids.len() == 4 && !ids.contains(&0), "{ids:?}");
    }
}

#[tokio::test]
async fn mqtt_2_2_1_5_acks_have_the_id_of_the_publish() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        peer.publish(Publish { id: 65_535, ..Publish::new(&topic, "x", 1) }).await;
        peer.says("PUBACK 65535").await;
        peer.publish(Publish { id: 4711, ..Publish::new(&topic, "x", 2) }).await;
        peer.says("PUBREC 4711").await;
        peer.ack(Ack::PubRel, 4711).await;
        peer.says("PUBCOMP 4711").await;
        peer.subscribe(&topic, 2).await;
        peer.publish(Publish { id: 300, ..Publish::new(&topic, "y", 2) }).await;
        let mut id = 0;
        for _ in 0..2 {
            let packet = peer.next().await;
            if packet.starts_with("PUBLISH") {
                id = peer.id;
            } else {
                assert_eq!(packet, "PUBREC 300");
            }
        }
        peer.ack(Ack::PubRec, id).await;
        peer.says(&format!("PUBREL {id}")).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_1_6_suback_and_unsuback_have_the_id_of_the_request() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        peer.send(&tests::wire::subscribe(version, 513, &[(&topic, 1)])).await;
        peer.says("SUBACK 513 [01]").await;
        peer.send(&tests::wire::unsubscribe(version, 65_280, &[&topic])).await;
        peer.says(if version == V4 { "UNSUBACK 65280 []" } else { "UNSUBACK 65280 [00]" }).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_2_1_no_properties_are_a_length_of_0() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe(&topic, 0).await;
    let publish = Publish::new(&topic, "x", 0);
    peer.publish(publish.clone()).await;
    assert_eq!(peer.message().await, publish);
    // And a packet that leaves the length out is cut short.
    peer.send(&packet(0x82, b"\0\x01")).await;
    peer.closed(&[0x81, 0x82]).await;
}

#[tokio::test]
async fn mqtt_4_13_1_1_what_is_cut_short_or_too_long_closes() {
    for version in BOTH {
        let cases = [
            packet(0x30, b"\0\x09a"),
            packet(0x30, b""),
            packet(0x40, b"\0"),
            packet(0x62, b""),
            packet(0x82, b"\0\x01\0\0\x05a"),
            packet(0xa2, b"\0\x01\0\0\x05a"),
            packet(0xc0, b"x"),
            packet(0x20, b"\0\0"),
            packet(0xd0, b""),
            packet(0x90, b"\0\x01\0"),
            packet(0xb0, b"\0\x01"),
        ];
        for bytes in cases {
            let mut peer = Peer::new(version).await;
            peer.send(&bytes).await;
            peer.closed(&[0x81, 0x82]).await;
        }
    }
}
