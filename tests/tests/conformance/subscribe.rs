//! SUBSCRIBE and SUBACK (MQTT 5 §3.8, §3.9; MQTT 3.1.1 §3.8, §3.9).

use tests::wire::{self, Property, Publish, packet};

use crate::peer::{BOTH, Peer, V4, V5, hello, name, own_weft, subscribe_with};

#[tokio::test]
async fn mqtt_3_8_3_2_a_subscribe_without_filter_closes() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.send(&wire::subscribe(version, 1, &[])).await;
        peer.closed(&[0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_3_3_no_local_keeps_own_messages_away() {
    let topic = name();
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 4).await;
    reader.kept(Publish::new(&topic, "own", 1)).await;
    let mut writer = Peer::new(V5).await;
    writer.publish(Publish::new(&topic, "other", 0)).await;
    reader.says(&format!("PUBLISH q0 {topic} other")).await;
    // Own retained messages are not sent either when the subscription is new.
    let topic = name();
    reader.kept(Publish::new(&topic, "own", 1).retained()).await;
    reader.subscribe(&topic, 0).await;
    reader.says(&format!("PUBLISH q0 retain {topic} own")).await;
}

#[tokio::test]
async fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_closes() {
    let mut peer = Peer::new(V5).await;
    peer.send(&wire::subscribe(V5, 1, &[("$share/g/a", 5)])).await;
    peer.closed(&[0x82]).await;
}

#[tokio::test]
async fn mqtt_3_8_3_5_reserved_bits_and_qos_3_close() {
    for (version, wrong) in
        [(V4, &[3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xff][..]), (V5, &[3, 0x30, 0x40, 0x80, 0xff][..])]
    {
        for options in wrong {
            let mut peer = Peer::new(version).await;
            peer.send(&wire::subscribe(version, 1, &[("a", *options)])).await;
            peer.closed(&[0x81, 0x82]).await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_8_4_1_subscribe_is_answered_before_its_messages() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        let publish = Publish::new(&topic, "x", 0).encode(version);
        peer.send(&[wire::subscribe(version, 77, &[(&topic, 2)]), publish].concat()).await;
        peer.says("SUBACK 77 [02]").await;
        peer.says(&format!("PUBLISH q0 {topic} x")).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_3_the_same_filter_replaces_the_subscription() {
    for version in BOTH {
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 2).await;
        reader.subscribe(&topic, 0).await;
        let mut writer = Peer::new(version).await;
        writer.kept(Publish::new(&topic, "x", 1)).await;
        reader.says(&format!("PUBLISH q0 {topic} x")).await;
        reader.ping().await;
        // One UNSUBSCRIBE is enough.
        reader.send(&wire::unsubscribe(version, 2, &[&topic])).await;
        reader.next().await;
        writer.kept(Publish::new(&topic, "y", 1)).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_3_a_new_identifier_replaces_the_old() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe_as(1, &topic, 0).await;
    peer.subscribe_as(2, &topic, 0).await;
    peer.publish(Publish::new(&topic, "x", 0)).await;
    assert_eq!(peer.message().await.properties, [Property::Variable(11, 2)]);
    peer.subscribe(&topic, 0).await;
    peer.publish(Publish::new(&topic, "x", 0)).await;
    assert_eq!(peer.message().await.properties, []);
}

#[tokio::test]
async fn mqtt_3_8_4_4_replacing_loses_nothing() {
    for version in BOTH {
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 1).await;
        let mut writer = Peer::new(version).await;
        for round in 0..50 {
            writer.publish(Publish { id: 1, ..Publish::new(&topic, round.to_string(), 1) }).await;
            reader.send(&wire::subscribe(version, 2, &[(&topic, 1)])).await;
            writer.says("PUBACK 1").await;
        }
        let mut next = 0;
        while next < 50 {
            let packet = reader.next().await;
            if packet.starts_with("PUBLISH") {
                assert_eq!(packet, format!("PUBLISH q1 {topic} {next}"));
                let id = reader.id;
                reader.ack(wire::Ack::PubAck, id).await;
                next += 1;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_3_8_4_5_each_filter_has_its_code_in_order() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        let filters = ["a", "b", "c"].map(|level| format!("{topic}/{level}"));
        let wanted = [(&*filters[0], 2), (&*filters[1], 0), (&*filters[2], 1)];
        peer.send(&wire::subscribe(version, 1, &wanted)).await;
        peer.says("SUBACK 1 [02, 00, 01]").await;
        for filter in &filters {
            peer.publish(Publish::new(filter, "x", 0)).await;
            peer.says(&format!("PUBLISH q0 {filter} x")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_9_3_1_a_filter_that_is_none_is_refused_in_its_place() {
    for (version, refused) in [(V4, "80"), (V5, "8f")] {
        let mut peer = Peer::new(version).await;
        let good = name();
        peer.send(&wire::subscribe(version, 1, &[(&good, 1), ("a/#/b", 1), (&good, 2)])).await;
        peer.says(&format!("SUBACK 1 [01, {refused}, 02]")).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_7_a_denied_subscription_is_refused_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl.toml");
    std::fs::write(&rules, "[[rule]]\nallow = \"all\"\ntopic = \"open/#\"\n").unwrap();
    let weft = own_weft(&format!("[access]\nacl_file = {:?}\n", rules.to_str().unwrap())).await;
    for (version, refused) in [(V4, "80"), (V5, "87")] {
        let (mut peer, _) = Peer::connect_at(weft.mqtt, &hello(version, "c")).await;
        peer.send(&wire::subscribe(version, 1, &[("closed", 2), ("open/a", 1)])).await;
        peer.says(&format!("SUBACK 1 [{refused}, 01]")).await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_8_messages_come_at_the_lower_of_both_qos() {
    for version in BOTH {
        for granted in 0..3 {
            let topic = name();
            let mut reader = Peer::new(version).await;
            reader.subscribe(&topic, granted).await;
            let mut writer = Peer::new(version).await;
            for published in 0..3 {
                writer
                    .publish(Publish { id: 1 + u16::from(published), ..Publish::new(&topic, "x", published) })
                    .await;
                if published > 0 {
                    writer.next().await;
                }
                reader.says(&format!("PUBLISH q{} {topic} x", granted.min(published))).await;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_3_8_2_a_subscription_identifier_is_neither_0_nor_twice() {
    for list in [vec![Property::Variable(11, 0)], vec![Property::Variable(11, 1), Property::Variable(11, 2)]]
    {
        let mut peer = Peer::new(V5).await;
        peer.send(&subscribe_with(&list, &[("a", 0)])).await;
        peer.closed(&[0x82]).await;
    }
    let mut peer = Peer::new(V5).await;
    peer.send(&packet(0x82, b"\0\x01\x05\x0b\xff\xff\xff\xff\0\x01a\0")).await;
    peer.closed(&[0x81, 0x82]).await;
}
