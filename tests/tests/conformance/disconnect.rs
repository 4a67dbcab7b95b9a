//! DISCONNECT and errors (MQTT 5 §3.14, §4.13; MQTT 3.1.1 §3.14, §4.8).

use tests::wire::{self, Publish, packet};

use crate::peer::{BOTH, Peer, V5, hello, name, own_weft};

#[tokio::test]
async fn mqtt_3_14_4_2_a_disconnect_ends_the_connection() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        // What comes behind it is not read.
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 0).await;
        let behind = Publish::new(&topic, "behind", 0).encode(version);
        peer.send(&[wire::DISCONNECT.to_vec(), behind].concat()).await;
        peer.says("END").await;
        reader.kept(Publish::new(&topic, "last", 1)).await;
        reader.says(&format!("PUBLISH q0 {topic} last")).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_4_1_nothing_comes_behind_disconnect() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe(&topic, 0).await;
    let behind = [Publish::new(&topic, "x", 0).encode(V5), wire::PINGREQ.to_vec()].concat();
    peer.send(&[packet(0x36, b""), behind].concat()).await;
    peer.says("DISCONNECT 0x81").await;
    peer.says("END").await;
}

#[tokio::test]
async fn mqtt_3_14_1_1_reserved_bits_of_disconnect_close() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.send(&[0xe1, 0]).await;
        peer.closed(&[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_2_1_reason_codes_that_are_none_close() {
    for bytes in [
        packet(0xe0, &[0x01]),
        packet(0xe0, &[0x8a, 0]),
        packet(0x40, &[0, 1, 0x01]),
        packet(0x50, &[0, 1, 0x92]),
        packet(0x62, &[0, 1, 0x10]),
        packet(0x70, &[0, 1, 0xff]),
    ] {
        let mut peer = Peer::new(V5).await;
        peer.send(&bytes).await;
        peer.closed(&[0x81, 0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_0_1_before_connack_there_is_no_disconnect() {
    for wrong in [packet(0x10, b"\0\x04MQTT\x05\x03\0\0\0\0\x01c"), packet(0x30, b"\0\x01t\0")] {
        let mut peer = Peer::open(V5).await;
        peer.send(&wrong).await;
        let answer = peer.next().await;
        assert!(answer == "END" || answer.starts_with("CONNACK 0x8"), "{answer}");
    }
}

#[tokio::test]
async fn mqtt_4_13_2_1_a_server_that_stops_says_so_and_closes() {
    for version in BOTH {
        let mut weft = own_weft("").await;
        let (mut peer, _) = Peer::connect_at(weft.mqtt, &hello(version, "c")).await;
        let (_, ()) = tokio::join!(weft.terminate(), peer.closed(&[0x8b]));
    }
}

#[tokio::test]
async fn mqtt_3_14_2_3_reason_strings_keep_within_the_clients_packet_size() {
    let connect = hello(V5, &name()).with(wire::Property::Four(39, 20));
    let mut peer = Peer::connect(&connect).await;
    peer.send(&packet(0x36, b"")).await;
    let bytes = peer.client.raw_to_end().await;
    assert!(bytes.len() <= 20 && bytes[0] == 0xe0 && bytes[2] == 0x81, "{bytes:02x?}");
}
