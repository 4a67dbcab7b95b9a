//! Session state (MQTT 5 §3.1.2.4, §3.1.2.11.2, §4.1; MQTT 3.1.1 §3.1.2.4, §4.1).

use tests::wire::{self, Connect, Property, Publish, SESSION_EXPIRY, packet};

use crate::peer::{BOTH, Peer, V4, V5, hello, name, own_weft};

/// Not clean, with a session that stays for `seconds`.
fn keep(id: &str, seconds: u32) -> Connect {
    Connect { clean: false, ..hello(V5, id) }.with(Property::Four(SESSION_EXPIRY, seconds))
}

#[tokio::test]
async fn mqtt_3_1_2_4_a_clean_start_forgets_the_session() {
    for version in BOTH {
        let (topic, id) = (name(), name());
        let persistent = hello(version, &id).persistent();
        let mut reader = Peer::connect(&persistent).await;
        reader.subscribe(&topic, 1).await;
        let mut writer = Peer::new(version).await;
        writer.kept(Publish::new(&topic, "unread", 1)).await;
        reader.says(&format!("PUBLISH q1 {topic} unread")).await;
        drop(reader);
        let mut clean = Peer::connect(&hello(version, &id)).await;
        writer.kept(Publish::new(&topic, "after", 1)).await;
        clean.ping().await;
        drop(clean);
        let mut again = Peer::open(version).await;
        again.send(&persistent.encode()).await;
        again.says("CONNACK 0x00").await;
        again.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_5_a_session_is_taken_up() {
    for version in BOTH {
        let topic = name();
        let connect = hello(version, &name()).persistent();
        let mut reader = Peer::connect(&connect).await;
        reader.subscribe(&topic, 1).await;
        drop(reader);
        let mut reader = Peer::open(version).await;
        reader.send(&connect.encode()).await;
        reader.says("CONNACK 0x00 present").await;
        let mut writer = Peer::new(version).await;
        writer.kept(Publish::new(&topic, "x", 1)).await;
        reader.says(&format!("PUBLISH q1 {topic} x")).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_23_a_session_outlives_its_connection_and_a_crash() {
    for version in BOTH {
        let mut weft = own_weft("").await;
        let connect = hello(version, "reader").persistent();
        let (mut reader, _) = Peer::connect_at(weft.mqtt, &connect).await;
        reader.subscribe("t/#", 2).await;
        reader.send(&wire::DISCONNECT).await;
        reader.says("END").await;
        let (mut writer, _) = Peer::connect_at(weft.mqtt, &hello(version, "writer")).await;
        writer.kept(Publish::new("t/1", "waiting", 1)).await;
        weft.kill().await;
        weft.restart().await;
        let (mut reader, answer) = Peer::connect_at(weft.mqtt, &connect).await;
        assert_eq!(answer, "CONNACK 0x00 present");
        reader.says("PUBLISH q1 t/1 waiting").await;
    }
}

#[tokio::test]
async fn mqtt_4_1_0_2_a_session_ends_when_its_time_is_over() {
    let connect = keep(&name(), 1);
    drop(Peer::connect(&connect).await);
    assert_eq!(Peer::answer(&connect).await, "CONNACK 0x00 present");
    // That connection is closed as well; a second and a bit later the session is gone.
    let start = std::time::Instant::now();
    tests::eventually("the session ends", || async { (start.elapsed().as_millis() > 1500).then_some(()) })
        .await;
    assert_eq!(Peer::answer(&connect).await, "CONNACK 0x00");
}

#[tokio::test]
async fn mqtt_4_1_0_2_without_expiry_the_session_ends_with_its_connection() {
    let connect = keep(&name(), 0);
    let mut peer = Peer::connect(&connect).await;
    peer.send(&wire::DISCONNECT).await;
    peer.says("END").await;
    assert_eq!(Peer::answer(&connect).await, "CONNACK 0x00");
}

#[tokio::test]
async fn mqtt_4_1_0_1_a_session_stays_while_it_is_connected() {
    let topic = name();
    let mut reader = Peer::connect(&keep(&name(), 1)).await;
    reader.subscribe(&topic, 1).await;
    reader.quiet_for(1500).await;
    reader.kept(Publish::new(&topic, "x", 1)).await;
    reader.says(&format!("PUBLISH q1 {topic} x")).await;
}

#[tokio::test]
async fn mqtt_3_14_2_2_disconnect_may_change_the_expiry() {
    let expiry = |seconds: u32| packet(0xe0, &[&[0, 5, SESSION_EXPIRY][..], &seconds.to_be_bytes()].concat());
    let id = name();
    let mut peer = Peer::connect(&keep(&id, 100)).await;
    peer.send(&expiry(0)).await;
    peer.says("END").await;
    let mut peer = Peer::open(V5).await;
    peer.send(&keep(&id, 0).encode()).await;
    peer.says("CONNACK 0x00").await;
    // From 0 there is no way up (§3.14.2.2.2).
    peer.send(&expiry(5)).await;
    peer.closed(&[0x82]).await;
}

#[tokio::test]
async fn mqtt_3_1_2_6_of_3_1_1_a_clean_session_leaves_nothing() {
    let (topic, id) = (name(), name());
    let mut reader = Peer::connect(&hello(V4, &id)).await;
    reader.subscribe(&topic, 1).await;
    drop(reader);
    let mut reader = Peer::open(V4).await;
    reader.send(&hello(V4, &id).persistent().encode()).await;
    reader.says("CONNACK 0x00").await;
    let mut writer = Peer::new(V4).await;
    writer.kept(Publish::new(&topic, "x", 1)).await;
    reader.ping().await;
}

#[tokio::test]
async fn mqtt_3_1_3_2_sessions_are_told_apart_by_the_client_id() {
    for version in BOTH {
        let topic = name();
        let (one, two) = (hello(version, &name()).persistent(), hello(version, &name()).persistent());
        let mut first = Peer::connect(&one).await;
        first.subscribe(&topic, 1).await;
        let mut second = Peer::connect(&two).await;
        second.kept(Publish::new(&topic, "x", 1)).await;
        first.says(&format!("PUBLISH q1 {topic} x")).await;
        second.ping().await;
    }
}
