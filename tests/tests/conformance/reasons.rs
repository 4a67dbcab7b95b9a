//! Reason strings of answers keep within the client's Maximum Packet Size (MQTT 5 §3.1.2.11.4).

use tests::Weft;
use tests::weft::Setup;
use tests::wire::{self, Ack, Property, Publish};

use crate::peer::{Peer, V5, hello, name, own_weft};

const MAXIMUM_PACKET_SIZE: u8 = 39;
/// Holds CONNACK and every answer to one request, and no reason string.
const SMALL: u32 = 20;

/// A Weft where topics below `no/` are not allowed.
async fn strict(folder: &tempfile::TempDir) -> Weft {
    let rules = folder.path().join("acl.toml");
    std::fs::write(&rules, "[[rule]]\ndeny = 'all'\ntopic = 'no/#'\n[[rule]]\nallow = 'all'\ntopic = '#'\n")
        .unwrap();
    Setup::new().config(format!("[access]\nacl_file = {rules:?}\n")).start().await
}

/// The answer to `request`, for a client without a limit and for one with a small one.
async fn answers(weft: &Weft, request: &[u8]) -> [Vec<u8>; 2] {
    let mut frames = [Vec::new(), Vec::new()];
    for (frame, limit) in frames.iter_mut().zip([None, Some(SMALL)]) {
        let mut connect = hello(V5, &name());
        if let Some(limit) = limit {
            connect = connect.with(Property::Four(MAXIMUM_PACKET_SIZE, limit));
        }
        let mut peer = Peer::connect_at(weft.mqtt, &connect).await.0;
        peer.send(request).await;
        *frame = peer.client.frame().await;
    }
    frames
}

/// The first answer has a Reason String, the second is the same without it.
async fn is_left_out(weft: &Weft, request: &[u8], short: &[u8]) {
    let [long, limited] = answers(weft, request).await;
    assert!(long.len() > SMALL as usize && long.contains(&31), "a reason: {long:02x?}");
    assert_eq!(limited, short);
}

#[tokio::test]
async fn mqtt_3_4_2_2_and_3_5_2_2_reason_strings_of_puback_and_pubrec_keep_within_the_packet_size() {
    let folder = tempfile::tempdir().unwrap();
    let weft = strict(&folder).await;
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        let publish = Publish { id: 7, ..Publish::new("no/x", "x", qos) }.encode(V5);
        is_left_out(&weft, &publish, &[first, 3, 0, 7, 0x87]).await;
    }
}

#[tokio::test]
async fn mqtt_3_9_2_1_reason_strings_of_suback_keep_within_the_packet_size() {
    let folder = tempfile::tempdir().unwrap();
    let weft = strict(&folder).await;
    let subscribe = wire::subscribe(V5, 7, &[("no/x", 0)]);
    is_left_out(&weft, &subscribe, &[0x90, 4, 0, 7, 0, 0x87]).await;
}

#[tokio::test]
async fn mqtt_3_11_2_1_reason_strings_of_unsuback_keep_within_the_packet_size() {
    let weft = own_weft("").await;
    let unsubscribe = wire::unsubscribe(V5, 7, &["a#"]);
    let [long, limited] = answers(&weft, &unsubscribe).await;
    assert_eq!((long[0], long.last()), (0xb0, Some(&0x8f)));
    assert_eq!(limited, [0xb0, 4, 0, 7, 0, 0x8f]);
}

#[tokio::test]
async fn mqtt_3_6_2_2_and_3_7_2_2_pubrel_and_pubcomp_keep_within_the_packet_size() {
    let weft = own_weft("").await;
    // Answers to ids that are not known have a reason.
    for (kind, first) in [(Ack::PubRec, 0x62), (Ack::PubRel, 0x70)] {
        is_left_out(&weft, &wire::ack(kind, 7), &[first, 3, 0, 7, 0x92]).await;
    }
}
