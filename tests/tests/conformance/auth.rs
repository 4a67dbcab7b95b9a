//! Enhanced authentication (MQTT 5 §3.15, §4.12).

use tests::wire::{Property, packet};

use crate::peer::{Peer, V5, hello, name};

const METHOD: u8 = 21;
const DATA: u8 = 22;

#[tokio::test]
async fn mqtt_4_12_0_1_a_method_that_is_not_there_is_refused() {
    let mut peer = Peer::open(V5).await;
    let connect = hello(V5, &name()).with(Property::Text(METHOD, "no such method".into()));
    peer.send(&connect.encode()).await;
    peer.says("CONNACK 0x8c").await;
    peer.says("END").await;
}

#[tokio::test]
async fn mqtt_4_12_0_6_without_method_connack_names_none() {
    let peer = Peer::new(V5).await;
    assert!(
        !peer.properties.iter().any(|p| matches!(p, Property::Text(METHOD, _) | Property::Data(DATA, _)))
    );
}

#[tokio::test]
async fn mqtt_4_12_0_7_auth_without_method_closes() {
    for bytes in [
        packet(0xf0, b""),
        packet(0xf0, &[0x19]),
        packet(0xf0, b"\x19\x05\x15\0\x02ab"),
        packet(0xf0, b"\x18\x05\x15\0\x02ab"),
    ] {
        let mut peer = Peer::new(V5).await;
        peer.send(&bytes).await;
        peer.closed(&[0x82, 0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_3_15_1_1_reserved_bits_of_auth_close() {
    for flags in [1, 2, 4, 8] {
        let mut peer = Peer::new(V5).await;
        peer.send(&packet(0xf0 | flags, &[0x19])).await;
        peer.closed(&[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_3_15_2_1_other_reason_codes_of_auth_close() {
    let mut peer = Peer::new(V5).await;
    peer.send(&packet(0xf0, b"\x01\x05\x15\0\x02ab")).await;
    peer.closed(&[0x81, 0x82]).await;
}

#[tokio::test]
async fn mqtt_3_1_2_11_10_data_without_method_is_refused() {
    let mut peer = Peer::open(V5).await;
    peer.send(&hello(V5, &name()).with(Property::Data(DATA, vec![1])).encode()).await;
    peer.says("CONNACK 0x82").await;
    peer.says("END").await;
}
