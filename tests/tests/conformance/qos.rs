//! The delivery protocols and their repeats (MQTT 5 §4.3 to §4.6, MQTT 3.1.1 §4.3 to §4.6).

use tests::wire::{self, Ack, Publish, Version};

use crate::peer::{BOTH, Peer, V4, V5, hello, name, own_weft};

/// A persistent reader of a new topic, its CONNECT, and a writer.
async fn trio(version: Version) -> (Peer, wire::Connect, Peer, String) {
    let topic = name();
    let connect = hello(version, &name()).persistent();
    let mut reader = Peer::connect(&connect).await;
    reader.subscribe(&topic, 2).await;
    (reader, connect, Peer::new(version).await, topic)
}

/// PUBACK or PUBREC of MQTT 5 with a reason code.
fn ack_with(kind: Ack, id: u16, code: u8) -> Vec<u8> {
    wire::packet((kind as u8) << 4, &[&id.to_be_bytes()[..], &[code]].concat())
}

#[tokio::test]
async fn mqtt_4_3_1_1_qos_0_comes_once_without_dup() {
    for version in BOTH {
        let (mut reader, connect, mut writer, topic) = trio(version).await;
        writer.publish(Publish::new(&topic, "x", 0)).await;
        reader.says(&format!("PUBLISH q0 {topic} x")).await;
        drop(reader);
        let mut reader = Peer::connect(&connect).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_4_3_2_3_qos_1_is_repeated_until_its_puback() {
    for version in BOTH {
        let (mut reader, connect, mut writer, topic) = trio(version).await;
        writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 1) }).await;
        reader.says(&format!("PUBLISH q1 {topic} x")).await;
        let id = reader.id;
        drop(reader);
        let mut reader = Peer::connect(&connect).await;
        reader.says(&format!("PUBLISH q1 dup {topic} x")).await;
        assert_eq!(reader.id, id, "the original packet id [MQTT-4.4.0-1]");
        reader.ack(Ack::PubAck, id).await;
        reader.ping().await;
        drop(reader);
        let mut reader = Peer::connect(&connect).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_4_3_2_5_after_puback_the_id_is_new_whatever_dup_says() {
    for version in BOTH {
        let (mut reader, _, mut writer, topic) = trio(version).await;
        for (dup, payload) in [(false, "a"), (true, "b"), (true, "c")] {
            writer.publish(Publish { id: 5, dup, ..Publish::new(&topic, payload, 1) }).await;
            writer.says("PUBACK 5").await;
            reader.says(&format!("PUBLISH q1 {topic} {payload}")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_4_3_3_4_pubrec_is_answered_with_pubrel() {
    for version in BOTH {
        let (mut reader, _, mut writer, topic) = trio(version).await;
        writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 2) }).await;
        reader.says(&format!("PUBLISH q2 {topic} x")).await;
        let id = reader.id;
        for _ in 0..2 {
            // A repeat of PUBREC gets PUBREL again.
            reader.ack(Ack::PubRec, id).await;
            reader.says(&format!("PUBREL {id}")).await;
        }
        reader.ack(Ack::PubComp, id).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_4_3_3_4_a_pubrec_with_an_error_ends_the_delivery() {
    let (mut reader, connect, mut writer, topic) = trio(V5).await;
    writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 2) }).await;
    reader.says(&format!("PUBLISH q2 {topic} x")).await;
    let id = reader.id;
    reader.send(&ack_with(Ack::PubRec, id, 0x80)).await;
    reader.ping().await;
    drop(reader);
    let mut reader = Peer::connect(&connect).await;
    reader.ping().await;
}

#[tokio::test]
async fn mqtt_4_4_0_2_a_puback_with_an_error_is_an_ack() {
    let (mut reader, connect, mut writer, topic) = trio(V5).await;
    writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 1) }).await;
    reader.says(&format!("PUBLISH q1 {topic} x")).await;
    let id = reader.id;
    reader.send(&ack_with(Ack::PubAck, id, 0x97)).await;
    reader.ping().await;
    drop(reader);
    let mut reader = Peer::connect(&connect).await;
    reader.ping().await;
}

#[tokio::test]
async fn mqtt_4_3_3_5_pubrel_is_repeated_until_its_pubcomp() {
    for version in BOTH {
        let (mut reader, connect, mut writer, topic) = trio(version).await;
        writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 2) }).await;
        reader.says(&format!("PUBLISH q2 {topic} x")).await;
        let id = reader.id;
        reader.ack(Ack::PubRec, id).await;
        reader.says(&format!("PUBREL {id}")).await;
        drop(reader);
        // PUBREL comes again, the publish does not [MQTT-4.3.3-6].
        let mut reader = Peer::connect(&connect).await;
        reader.says(&format!("PUBREL {id}")).await;
        reader.ack(Ack::PubComp, id).await;
        reader.ping().await;
        drop(reader);
        let mut reader = Peer::connect(&connect).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_4_3_3_10_a_repeat_before_pubrel_is_not_delivered_twice() {
    for version in BOTH {
        let (mut reader, _, _, topic) = trio(version).await;
        let connect = hello(version, &name()).persistent();
        let mut writer = Peer::connect(&connect).await;
        let publish = Publish { id: 8, ..Publish::new(&topic, "x", 2) };
        writer.publish(publish.clone()).await;
        writer.says("PUBREC 8").await;
        writer.publish(Publish { dup: true, ..publish.clone() }).await;
        writer.says("PUBREC 8").await;
        drop(writer);
        let mut writer = Peer::connect(&connect).await;
        writer.publish(Publish { dup: true, ..publish }).await;
        writer.says("PUBREC 8").await;
        writer.ack(Ack::PubRel, 8).await;
        writer.says("PUBCOMP 8").await;
        writer.publish(Publish::new(&topic, "last", 0)).await;
        reader.says(&format!("PUBLISH q2 {topic} x")).await;
        reader.says(&format!("PUBLISH q0 {topic} last")).await;
    }
}

#[tokio::test]
async fn mqtt_4_3_3_11_pubrel_is_answered_with_pubcomp() {
    for (version, unknown) in [(V4, "PUBCOMP 77"), (V5, "PUBCOMP 77 0x92")] {
        let mut peer = Peer::new(version).await;
        peer.publish(Publish { id: 3, ..Publish::new(&name(), "x", 2) }).await;
        peer.says("PUBREC 3").await;
        peer.ack(Ack::PubRel, 3).await;
        peer.says("PUBCOMP 3").await;
        // One that Weft does not know as well: a repeat after a lost PUBCOMP has to end.
        peer.ack(Ack::PubRel, 77).await;
        peer.says(unknown).await;
    }
}

#[tokio::test]
async fn mqtt_4_3_3_12_after_pubcomp_the_id_is_new() {
    for version in BOTH {
        let (mut reader, _, mut writer, topic) = trio(version).await;
        for payload in ["a", "b"] {
            writer.publish(Publish { id: 3, dup: payload == "b", ..Publish::new(&topic, payload, 2) }).await;
            writer.says("PUBREC 3").await;
            writer.ack(Ack::PubRel, 3).await;
            writer.says("PUBCOMP 3").await;
            reader.says(&format!("PUBLISH q2 {topic} {payload}")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_4_3_3_13_the_handshake_goes_on_after_expiry() {
    let (mut reader, connect, mut writer, topic) = trio(V5).await;
    let publish = Publish { id: 1, ..Publish::new(&topic, "x", 2) };
    writer.publish(publish.with(wire::Property::Four(2, 1))).await;
    writer.says("PUBREC 1").await;
    assert_eq!(reader.message().await.payload, b"x");
    let id = reader.id;
    // Over its time, the delivery that began goes on [MQTT-4.3.3-7], towards the publisher as well.
    reader.quiet_for(1200).await;
    reader.ack(Ack::PubRec, id).await;
    reader.says(&format!("PUBREL {id}")).await;
    reader.ack(Ack::PubComp, id).await;
    reader.ping().await;
    writer.ack(Ack::PubRel, 1).await;
    writer.says("PUBCOMP 1").await;
    drop(reader);
    Peer::connect(&connect).await.ping().await;
}

#[tokio::test]
async fn mqtt_4_4_0_1_all_that_is_open_is_repeated_in_its_order() {
    for version in BOTH {
        let (mut reader, connect, mut writer, topic) = trio(version).await;
        let mut ids = Vec::new();
        for number in 1..=6u16 {
            let qos = 1 + u8::from(number % 2 == 0);
            let payload = number.to_string();
            writer.publish(Publish { id: number, ..Publish::new(&topic, payload, qos) }).await;
            reader.says(&format!("PUBLISH q{qos} {topic} {number}")).await;
            ids.push(reader.id);
        }
        // The third is acknowledged; the fourth is at PUBREL.
        reader.ack(Ack::PubAck, ids[2]).await;
        reader.ack(Ack::PubRec, ids[3]).await;
        reader.says(&format!("PUBREL {}", ids[3])).await;
        drop(reader);
        let mut reader = Peer::connect(&connect).await;
        reader.says(&format!("PUBREL {}", ids[3])).await;
        for number in [1, 2, 5, 6] {
            let qos = 1 + u8::from(number % 2 == 0);
            reader.says(&format!("PUBLISH q{qos} dup {topic} {number}")).await;
            assert_eq!(reader.id, ids[number - 1]);
        }
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_4_4_0_1_nothing_is_repeated_while_connected() {
    let (mut reader, _, mut writer, topic) = trio(V5).await;
    writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 1) }).await;
    reader.says(&format!("PUBLISH q1 {topic} x")).await;
    reader.quiet_for(1500).await;
    reader.ping().await;
}

#[tokio::test]
async fn mqtt_4_5_0_1_a_session_that_is_away_gets_what_it_subscribed() {
    for version in BOTH {
        let (reader, connect, mut writer, topic) = trio(version).await;
        drop(reader);
        for qos in [1, 2] {
            writer.publish(Publish { id: 1 + u16::from(qos), ..Publish::new(&topic, "x", qos) }).await;
            writer.next().await;
        }
        let mut reader = Peer::connect(&connect).await;
        reader.says(&format!("PUBLISH q1 {topic} x")).await;
        reader.says(&format!("PUBLISH q2 {topic} x")).await;
    }
}

#[tokio::test]
async fn mqtt_4_6_0_5_messages_of_a_publisher_keep_their_order() {
    for version in BOTH {
        for qos in 0..3 {
            let (mut reader, _, mut writer, topic) = trio(version).await;
            let mut burst = Vec::new();
            for number in 1..=20u16 {
                burst.extend(
                    Publish { id: number, ..Publish::new(&topic, number.to_string(), qos) }.encode(version),
                );
            }
            writer.send(&burst).await;
            for number in 1..=20 {
                reader.says(&format!("PUBLISH q{qos} {topic} {number}")).await;
            }
            // Acks come in the order of the publishes as well [MQTT-4.6.0-2].
            for number in (1..=20).take(if qos == 0 { 0 } else { 20 }) {
                let answer = if qos == 1 { "PUBACK" } else { "PUBREC" };
                writer.says(&format!("{answer} {number}")).await;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_4_6_0_4_pubrels_keep_the_order_of_the_pubrecs() {
    for version in BOTH {
        let (mut reader, _, mut writer, topic) = trio(version).await;
        let mut ids = Vec::new();
        for number in 1..=5 {
            writer.publish(Publish { id: number, ..Publish::new(&topic, "x", 2) }).await;
            reader.says(&format!("PUBLISH q2 {topic} x")).await;
            ids.push(reader.id);
        }
        let recs: Vec<u8> = ids.iter().flat_map(|id| wire::ack(Ack::PubRec, *id)).collect();
        reader.send(&recs).await;
        for id in ids {
            reader.says(&format!("PUBREL {id}")).await;
        }
    }
}

#[tokio::test]
async fn mqtt_4_3_3_10_the_state_of_qos_2_outlives_a_crash() {
    for version in BOTH {
        let mut weft = own_weft("").await;
        let (reads, writes) = (hello(version, "reader").persistent(), hello(version, "writer").persistent());
        let (mut reader, _) = Peer::connect_at(weft.mqtt, &reads).await;
        reader.subscribe("t", 2).await;
        let (mut writer, _) = Peer::connect_at(weft.mqtt, &writes).await;
        let publish = Publish { id: 8, ..Publish::new("t", "x", 2) };
        writer.publish(publish.clone()).await;
        writer.says("PUBREC 8").await;
        reader.says("PUBLISH q2 t x").await;
        let id = reader.id;
        reader.ack(Ack::PubRec, id).await;
        reader.says(&format!("PUBREL {id}")).await;
        weft.kill().await;
        weft.restart().await;
        let (mut writer, answer) = Peer::connect_at(weft.mqtt, &writes).await;
        assert_eq!(answer, "CONNACK 0x00 present");
        writer.publish(Publish { dup: true, ..publish }).await;
        writer.says("PUBREC 8").await;
        writer.ack(Ack::PubRel, 8).await;
        writer.says("PUBCOMP 8").await;
        let (mut reader, _) = Peer::connect_at(weft.mqtt, &reads).await;
        reader.says(&format!("PUBREL {id}")).await;
        reader.ack(Ack::PubComp, id).await;
        writer.kept(Publish::new("t", "last", 1)).await;
        reader.says("PUBLISH q1 t last").await;
    }
}
