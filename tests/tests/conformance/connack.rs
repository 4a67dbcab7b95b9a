//! CONNACK (MQTT 5 §3.2, MQTT 3.1.1 §3.2).

use tests::wire::{Connect, Property, RECEIVE_MAXIMUM, SESSION_EXPIRY};

use crate::peer::{BOTH, Peer, V4, V5, hello, name, own_weft};

#[tokio::test]
async fn mqtt_3_2_0_1_connack_comes_first() {
    for version in BOTH {
        // A session that has something to send says CONNACK before that.
        let id = name();
        let persistent = hello(version, &id).persistent();
        let mut reader = Peer::connect(&persistent).await;
        reader.subscribe(&id, 1).await;
        drop(reader);
        let mut writer = Peer::new(version).await;
        writer.kept(tests::wire::Publish::new(&id, "waiting", 1)).await;
        let mut reader = Peer::open(version).await;
        reader.send(&persistent.encode()).await;
        reader.says("CONNACK 0x00 present").await;
        reader.says(&format!("PUBLISH q1 {id} waiting")).await;
    }
}

#[tokio::test]
async fn mqtt_3_2_0_2_connack_comes_once() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.ping().await;
        peer.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_2_2_2_a_clean_start_has_no_session() {
    for version in BOTH {
        let id = name();
        drop(Peer::connect(&hello(version, &id).persistent()).await);
        assert_eq!(Peer::answer(&hello(version, &id)).await, "CONNACK 0x00");
    }
}

#[tokio::test]
async fn mqtt_3_2_2_3_session_present_tells_whether_there_was_one() {
    for version in BOTH {
        let connect = hello(version, &name()).persistent();
        assert_eq!(Peer::answer(&connect).await, "CONNACK 0x00");
        assert_eq!(Peer::answer(&connect).await, "CONNACK 0x00 present");
    }
}

#[tokio::test]
async fn mqtt_3_2_2_6_a_refusal_has_no_session_present_and_ends() {
    for (version, answer) in [(V4, "CONNACK 0x02"), (V5, "CONNACK 0x85")] {
        let mut peer = Peer::open(version).await;
        peer.send(&Connect { clean: false, ..hello(version, "$no") }.encode()).await;
        // The judge of `wire` sees to the other bits of the flags [MQTT-3.2.2-1].
        peer.says(answer).await;
        peer.says("END").await;
    }
}

#[tokio::test]
async fn mqtt_3_2_2_6_of_3_1_1_what_has_no_code_closes_without_connack() {
    let mut peer = Peer::open(V4).await;
    peer.send(&crate::peer::connect_of(V4, 0x03, b"\0\x01c")).await;
    peer.says("END").await;
}

#[tokio::test]
async fn mqtt_3_2_2_9_all_of_qos_retain_and_wildcards_is_there() {
    let peer = Peer::new(V5).await;
    for absent in [36, 37, 40, 41] {
        let said = peer.properties.iter().find(|p| matches!(p, Property::Byte(id, _) if *id == absent));
        assert!(said.is_none_or(|said| *said == Property::Byte(absent, 1)), "{said:?}");
    }
}

#[tokio::test]
async fn mqtt_3_2_2_21_a_keep_alive_that_is_too_long_is_replaced() {
    let weft = own_weft("[mqtt]\nkeep_alive_max_s = 1\nsession_expiry_max_s = 100\n").await;
    let connect = hello(V5, "c").keep_alive(600).with(Property::Four(SESSION_EXPIRY, 1000));
    let (mut peer, _) = Peer::connect_at(weft.mqtt, &connect).await;
    assert!(peer.properties.contains(&Property::Two(19, 1)), "{:?}", peer.properties);
    assert!(peer.properties.contains(&Property::Four(SESSION_EXPIRY, 100)), "{:?}", peer.properties);
    peer.closed(&[0x8d]).await;
    let (peer, _) = Peer::connect_at(weft.mqtt, &hello(V5, "d").keep_alive(1)).await;
    assert!(!peer.properties.iter().any(|p| matches!(p, Property::Two(19, _))), "{:?}", peer.properties);
}

#[tokio::test]
async fn mqtt_3_2_2_22_without_server_keep_alive_the_clients_holds() {
    let mut peer = Peer::connect(&hello(V5, &name()).keep_alive(1)).await;
    assert!(!peer.properties.iter().any(|p| matches!(p, Property::Two(19, _))));
    peer.closed(&[0x8d]).await;
}

#[tokio::test]
async fn mqtt_3_2_2_15_the_limits_are_told() {
    let peer = Peer::new(V5).await;
    for limit in [Property::Four(39, 65_536), Property::Two(RECEIVE_MAXIMUM, 20), Property::Two(34, 8)] {
        assert!(peer.properties.contains(&limit), "{limit:?} is not in {:?}", peer.properties);
    }
}

#[tokio::test]
async fn mqtt_3_2_2_19_reason_strings_keep_within_the_clients_packet_size() {
    // Too small for any reason string, large enough for the packets without.
    let small = hello(V5, "$no").with(Property::Four(39, 10));
    let mut peer = Peer::open(V5).await;
    peer.send(&small.encode()).await;
    peer.says("CONNACK 0x85").await;
    assert_eq!(peer.properties, []);
    peer.says("END").await;
}
