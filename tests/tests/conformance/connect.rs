//! CONNECT (MQTT 5 §3.1, MQTT 3.1.1 §3.1).

use std::time::{Duration, Instant};

use tests::raw::Client;
use tests::wire::{self, Connect, Property, Publish, SESSION_EXPIRY, packet};

use crate::peer::{BOTH, Peer, V4, V5, connect_of, hello, name, own_weft, text, weft};

#[tokio::test]
async fn mqtt_3_1_0_1_the_first_packet_is_connect() {
    for version in BOTH {
        for bytes in [Publish::new("t", "x", 0).encode(version), wire::PINGREQ.to_vec(), packet(0xe0, b"")] {
            let mut peer = Peer::open(version).await;
            peer.send(&bytes).await;
            peer.says("END").await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_0_2_a_second_connect_closes() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.send(&hello(version, &name()).encode()).await;
        peer.closed(&[0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_1_another_protocol_name_closes() {
    for wrong in [&b"MQTX"[..], b"mqtt", b"MQTT5", b""] {
        let bytes = packet(0x10, &[&text(wrong)[..], b"\x04\x02\0\x3c\0\x01c"].concat());
        let mut client = Client::open(weft().mqtt, V4).await.unwrap();
        client.send(&bytes).await.unwrap();
        let answer = client.raw_to_end().await;
        assert!(answer.is_empty() || answer[3] == 0x84, "{answer:02x?}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_2_another_version_is_refused_by_its_code() {
    for (level, code) in [(3, 0x01), (0, 0x01), (6, 0x84), (255, 0x84)] {
        let bytes = packet(0x10, &[b"\0\x04MQTT", &[level, 2, 0, 60][..], b"\0\x01c"].concat());
        let mut client = Client::open(weft().mqtt, V4).await.unwrap();
        client.send(&bytes).await.unwrap();
        let answer = client.raw_to_end().await;
        assert_eq!((answer[0], answer[2], answer[3]), (0x20, 0, code), "level {level}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_3_the_reserved_flag_closes() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        let will = [&text(b"c")[..], none, &text(b"t"), &text(b"x")].concat();
        let cases = [
            (0x03, text(b"c")),
            // Will QoS 3; will QoS, and will retain, without will.
            (0x1e, will),
            (0x0a, text(b"c")),
            (0x22, text(b"c")),
        ];
        for (flags, payload) in cases {
            let mut peer = Peer::open(version).await;
            peer.send(&connect_of(version, flags, &payload)).await;
            if version == V5 {
                peer.says("CONNACK 0x81").await;
            }
            peer.says("END").await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_2_9_what_the_flags_say_is_there_and_no_more() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        let id = text(name().as_bytes());
        let cases = [
            // Will without its fields; user name and password that are not there; fields without flag.
            (0x06, id.clone()),
            (0x06, [&id[..], none, &text(b"t")].concat()),
            (0x82, id.clone()),
            (0xc2, [&id[..], &text(b"user")].concat()),
            (0x02, [&id[..], &text(b"user")].concat()),
            (0x82, [&id[..], &text(b"user"), &text(b"password")].concat()),
            (0x02, Vec::new()),
        ];
        for (flags, payload) in cases {
            let mut peer = Peer::open(version).await;
            peer.send(&connect_of(version, flags, &payload)).await;
            if version == V5 {
                peer.says("CONNACK 0x81").await;
            }
            peer.says("END").await;
        }
        let all = [&id[..], none, &text(b"t"), &text(b"x"), &text(b"user"), &text(b"password")].concat();
        let mut peer = Peer::open(version).await;
        peer.send(&connect_of(version, 0xc6, &all)).await;
        let answer = peer.next().await;
        assert!(["CONNACK 0x00", "CONNACK 0x86", "CONNACK 0x04"].contains(&&*answer), "{answer}");
    }
}

#[tokio::test]
async fn mqtt_3_1_2_22_of_3_1_1_a_password_needs_a_user_name() {
    let mut peer = Peer::open(V4).await;
    peer.send(&connect_of(V4, 0x42, &[text(name().as_bytes()), text(b"secret")].concat())).await;
    peer.says("END").await;
}

#[tokio::test]
async fn mqtt_3_1_2_22_a_silent_client_is_closed_after_one_and_a_half_times_its_keep_alive() {
    for version in BOTH {
        let start = Instant::now();
        let mut peer = Peer::connect(&hello(version, &name()).keep_alive(1)).await;
        peer.closed(&[0x8d]).await;
        assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn mqtt_3_1_3_5_client_ids_of_letters_and_digits_are_taken() {
    for version in BOTH {
        for id in ["0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"] {
            Peer::connect(&hello(version, id)).await;
        }
        Peer::connect(&hello(version, &"long".repeat(60))).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_6_an_empty_client_id_gets_a_name_of_its_own() {
    for version in BOTH {
        let connect = hello(version, "");
        let (mut one, mut two) = (Peer::connect(&connect).await, Peer::connect(&connect).await);
        one.ping().await;
        two.ping().await;
        if version == V5 {
            let assigned =
                |peer: &Peer| peer.properties.iter().find(|p| matches!(p, Property::Text(18, _))).cloned();
            assert!(assigned(&one).is_some() && assigned(&one) != assigned(&two));
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_3_7_the_assigned_name_is_the_name_of_the_session() {
    let connect = Connect { clean: false, ..hello(V5, "") }.with(Property::Four(SESSION_EXPIRY, 60));
    let peer = Peer::connect(&connect).await;
    let name = peer.properties.iter().find_map(|p| match p {
        Property::Text(18, name) => Some(name.clone()),
        _ => None,
    });
    drop(peer);
    let again = Connect { clean: false, ..hello(V5, &name.unwrap()) };
    assert_eq!(Peer::answer(&again).await, "CONNACK 0x00 present");
}

#[tokio::test]
async fn mqtt_3_1_3_8_a_client_id_that_is_not_taken_is_refused_by_its_code() {
    let mut peer = Peer::open(V4).await;
    peer.send(&Connect { clean: false, ..hello(V4, "") }.encode()).await;
    peer.says("CONNACK 0x02").await;
    peer.says("END").await;
    for (version, answer) in [(V4, "CONNACK 0x02"), (V5, "CONNACK 0x85")] {
        let mut peer = Peer::open(version).await;
        peer.send(&hello(version, "$of-weft").encode()).await;
        peer.says(answer).await;
        peer.says("END").await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_2_a_wrong_connect_is_closed_without_success() {
    for version in BOTH {
        let mut peer = Peer::open(version).await;
        peer.send(&[connect_of(version, 0x02, b"\0\x01c\0"), wire::PINGREQ.to_vec()].concat()).await;
        if version == V5 {
            peer.says("CONNACK 0x81").await;
        }
        peer.says("END").await;
    }
}

#[tokio::test]
async fn mqtt_3_1_4_3_a_newer_connection_of_the_client_ends_the_older() {
    for version in BOTH {
        for newer in BOTH {
            let id = name();
            let mut old = Peer::connect(&hello(version, &id)).await;
            let mut new = Peer::connect(&hello(newer, &id)).await;
            old.closed(&[0x8e]).await;
            new.ping().await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_4_5_a_right_connect_is_answered_with_success() {
    for version in BOTH {
        assert_eq!(Peer::answer(&hello(version, &name())).await, "CONNACK 0x00");
    }
}

#[tokio::test]
async fn mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_processed() {
    let weft = own_weft("[access]\nanonymous = \"never\"\n").await;
    for version in BOTH {
        let mut peer = Peer::open_at(weft.mqtt, version).await;
        let subscribe = wire::subscribe(version, 1, &[("a", 1)]);
        let publish = Publish { id: 1, ..Publish::new("a", "x", 1) }.encode(version);
        peer.send(&[hello(version, "nobody").encode(), subscribe, publish].concat()).await;
        let answer = peer.next().await;
        assert!(
            ["CONNACK 0x04", "CONNACK 0x05", "CONNACK 0x86", "CONNACK 0x87"].contains(&&*answer),
            "{answer}"
        );
        peer.says("END").await;
    }
    assert_eq!(weft.metric("weft_core_events_in_total").await, Some(0.0));
}
