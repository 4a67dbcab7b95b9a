//! PUBLISH (MQTT 5 §3.3, MQTT 3.1.1 §3.3).

use tests::wire::{Ack, Property, Publish, packet};

use crate::peer::{BOTH, Peer, V4, V5, hello, name, own_weft, text};

#[tokio::test]
async fn mqtt_3_3_1_1_a_repeat_has_dup_set() {
    for version in BOTH {
        let topic = name();
        let connect = hello(version, &name()).persistent();
        let mut reader = Peer::connect(&connect).await;
        reader.subscribe(&topic, 2).await;
        let mut writer = Peer::new(version).await;
        for qos in [1, 2] {
            writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", qos) }).await;
            reader.says(&format!("PUBLISH q{qos} {topic} x")).await;
        }
        drop(reader);
        let mut reader = Peer::connect(&connect).await;
        reader.says(&format!("PUBLISH q1 dup {topic} x")).await;
        reader.says(&format!("PUBLISH q2 dup {topic} x")).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_2_dup_at_qos_0_closes() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.publish(Publish { dup: true, ..Publish::new("t", "x", 0) }).await;
        peer.closed(&[0x81, 0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_3_dup_of_the_publisher_is_not_passed_on() {
    for version in BOTH {
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 2).await;
        let mut writer = Peer::new(version).await;
        for qos in [1, 2] {
            writer.publish(Publish { dup: true, id: 9, ..Publish::new(&topic, "x", qos) }).await;
            reader.says(&format!("PUBLISH q{qos} {topic} x")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_1_4_qos_3_closes() {
    for version in BOTH {
        let none: &[u8] = if version == V5 { b"\0" } else { b"" };
        let mut peer = Peer::new(version).await;
        peer.send(&packet(0x36, &[&text(b"t")[..], b"\0\x01", none].concat())).await;
        peer.closed(&[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_1_a_publish_needs_a_topic() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.publish(Publish::new("", "x", 0)).await;
        peer.closed(&[0x82, 0x90]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_2_wildcards_in_a_topic_close() {
    for version in BOTH {
        for wrong in ["a/#", "+", "a/+/b", "#", "a+"] {
            for qos in 0..3 {
                let mut peer = Peer::new(version).await;
                peer.publish(Publish { id: 1, ..Publish::new(wrong, "x", qos) }).await;
                peer.closed(&[0x90, 0x81]).await;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_2_3_the_topic_comes_as_it_was_published() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        peer.subscribe(&format!("{topic}/+/c/#"), 0).await;
        for rest in ["b/c", "b/c/d/e", "/c", " /c/ü"] {
            peer.publish(Publish::new(&format!("{topic}/{rest}"), "x", 0)).await;
            peer.says(&format!("PUBLISH q0 {topic}/{rest} x")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_4_1_each_qos_has_its_answer() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        peer.publish(Publish::new(&topic, "x", 0)).await;
        peer.ping().await;
        peer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 1) }).await;
        peer.says("PUBACK 1").await;
        peer.publish(Publish { id: 2, ..Publish::new(&topic, "x", 2) }).await;
        peer.says("PUBREC 2").await;
        peer.ack(Ack::PubRel, 2).await;
        peer.says("PUBCOMP 2").await;
    }
}

#[tokio::test]
async fn mqtt_3_3_4_2_overlapping_subscriptions_get_the_highest_qos() {
    for version in BOTH {
        for (first, second) in [(0, 2), (2, 0), (1, 2)] {
            let topic = name();
            let mut reader = Peer::new(version).await;
            reader.subscribe(&format!("{topic}/#"), first).await;
            reader.subscribe(&format!("{topic}/+"), second).await;
            let mut writer = Peer::new(version).await;
            writer.publish(Publish { id: 1, ..Publish::new(&format!("{topic}/a"), "x", 2) }).await;
            writer.says("PUBREC 1").await;
            reader.says(&format!("PUBLISH q2 {topic}/a x")).await;
            reader.ping().await;
        }
    }
}

#[tokio::test]
async fn mqtt_3_3_4_4_one_copy_names_all_subscriptions() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe_as(7, &format!("{topic}/#"), 1).await;
    peer.subscribe_as(268_435_455, &format!("{topic}/+"), 0).await;
    peer.subscribe(&format!("{topic}/a"), 0).await;
    peer.publish(Publish::new(&format!("{topic}/a"), "x", 0)).await;
    let mut ids = peer.message().await.properties;
    ids.sort_by_key(|id| format!("{id:?}"));
    assert_eq!(ids, [Property::Variable(11, 268_435_455), Property::Variable(11, 7)]);
    peer.publish(Publish::new(&format!("{topic}/a/b"), "x", 0)).await;
    assert_eq!(peer.message().await.properties, [Property::Variable(11, 7)]);
}

#[tokio::test]
async fn mqtt_3_3_4_6_a_subscription_identifier_of_a_client_closes() {
    let mut peer = Peer::new(V5).await;
    peer.publish(Publish::new("t", "x", 0).with(Property::Variable(11, 1))).await;
    peer.closed(&[0x82]).await;
}

#[tokio::test]
async fn mqtt_3_3_5_2_of_3_1_1_a_denied_publish_is_not_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl.toml");
    let allowed =
        "[[rule]]\nallow = \"all\"\ntopic = \"open/#\"\n[[rule]]\nallow = \"subscribe\"\ntopic = \"#\"\n";
    std::fs::write(&rules, allowed).unwrap();
    let weft = own_weft(&format!("[access]\nacl_file = {:?}\n", rules.to_str().unwrap())).await;
    let (mut reader, _) = Peer::connect_at(weft.mqtt, &hello(V5, "reader")).await;
    reader.subscribe("#", 0).await;
    let (mut old, _) = Peer::connect_at(weft.mqtt, &hello(V4, "old")).await;
    old.publish(Publish { id: 1, ..Publish::new("closed/a", "x", 1) }).await;
    old.says("END").await;
    let (mut new, _) = Peer::connect_at(weft.mqtt, &hello(V5, "new")).await;
    new.publish(Publish { id: 1, ..Publish::new("closed/a", "x", 1) }).await;
    new.says("PUBACK 1 0x87").await;
    new.publish(Publish { id: 2, ..Publish::new("closed/a", "x", 2) }).await;
    new.says("PUBREC 2 0x87").await;
    // An id that was refused is free again [MQTT-4.3.3-9].
    new.publish(Publish { id: 2, ..Publish::new("open/a", "y", 2) }).await;
    new.says("PUBREC 2").await;
    reader.says("PUBLISH q0 open/a y").await;
}
