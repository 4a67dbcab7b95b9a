//! Limits of flow and size, and topic aliases (MQTT 5 §3.1.2.11, §3.3.2.3.4, §4.9).

use tests::wire::{self, Ack, Property, Publish, RECEIVE_MAXIMUM, packet};

use crate::peer::{BOTH, Peer, V4, V5, hello, name, weft};

/// `inflight_max`, `topic_alias_max` and `max_packet_bytes` of the shared Weft.
const INFLIGHT: u16 = 20;
const ALIASES: u16 = 8;
const PACKET: usize = 65_536;

const TOPIC_ALIAS: u8 = 35;
const MAXIMUM_PACKET_SIZE: u8 = 39;

#[tokio::test]
async fn mqtt_3_3_4_7_more_open_publishes_than_receive_maximum_close() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    for id in 1..=INFLIGHT {
        peer.publish(Publish { id, ..Publish::new(&topic, "x", 2) }).await;
        peer.says(&format!("PUBREC {id}")).await;
    }
    // One is finished, so one more is within the limit; the next is not.
    peer.ack(Ack::PubRel, 1).await;
    peer.says("PUBCOMP 1").await;
    peer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 1) }).await;
    peer.says("PUBACK 1").await;
    for id in 100..102 {
        peer.publish(Publish { id, ..Publish::new(&topic, "x", 2) }).await;
    }
    peer.closed(&[0x93]).await;
}

#[tokio::test]
async fn mqtt_3_3_4_9_the_clients_receive_maximum_is_kept() {
    for qos in [1, 2] {
        let topic = name();
        let connect = hello(V5, &name()).with(Property::Two(RECEIVE_MAXIMUM, 2));
        let mut reader = Peer::connect(&connect).await;
        reader.subscribe(&topic, 2).await;
        let mut writer = Peer::new(V5).await;
        for id in 1..=4 {
            writer.publish(Publish { id, ..Publish::new(&topic, id.to_string(), qos) }).await;
            writer.next().await;
        }
        reader.says(&format!("PUBLISH q{qos} {topic} 1")).await;
        let first = reader.id;
        reader.says(&format!("PUBLISH q{qos} {topic} 2")).await;
        // QoS 0 and all other packets are not held back [MQTT-3.3.4-10], [MQTT-4.9.0-3].
        writer.publish(Publish::new(&topic, "at once", 0)).await;
        reader.says(&format!("PUBLISH q0 {topic} at once")).await;
        reader.ping().await;
        if qos == 1 {
            reader.ack(Ack::PubAck, first).await;
        } else {
            reader.ack(Ack::PubRec, first).await;
            reader.says(&format!("PUBREL {first}")).await;
            // PUBREC alone gives no room [MQTT-4.9.0-2].
            reader.ping().await;
            reader.ack(Ack::PubComp, first).await;
        }
        reader.says(&format!("PUBLISH q{qos} {topic} 3")).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_4_9_0_2_a_pubrec_with_an_error_gives_room() {
    let topic = name();
    let connect = hello(V5, &name()).with(Property::Two(RECEIVE_MAXIMUM, 1));
    let mut reader = Peer::connect(&connect).await;
    reader.subscribe(&topic, 2).await;
    let mut writer = Peer::new(V5).await;
    for id in 1..=2 {
        writer.publish(Publish { id, ..Publish::new(&topic, id.to_string(), 2) }).await;
        writer.next().await;
    }
    reader.says(&format!("PUBLISH q2 {topic} 1")).await;
    let body = [&reader.id.to_be_bytes()[..], &[0x80]].concat();
    reader.send(&packet(0x50, &body)).await;
    reader.says(&format!("PUBLISH q2 {topic} 2")).await;
}

#[tokio::test]
async fn mqtt_3_1_2_24_what_is_too_large_for_the_client_is_left_out() {
    for qos in 0..3 {
        let topic = name();
        let connect = hello(V5, &name()).with(Property::Four(MAXIMUM_PACKET_SIZE, 100));
        let mut reader = Peer::connect(&connect).await;
        reader.subscribe(&topic, 2).await;
        let mut other = Peer::new(V5).await;
        other.subscribe(&topic, 0).await;
        let mut writer = Peer::new(V5).await;
        // As if it had been sent [MQTT-3.1.2-25]: what follows comes, with the room of both.
        writer.publish(Publish { id: 1, ..Publish::new(&topic, vec![b'x'; 101], qos) }).await;
        writer.publish(Publish { id: 2, ..Publish::new(&topic, "fits", qos) }).await;
        assert_eq!(other.message().await.payload.len(), 101);
        reader.says(&format!("PUBLISH q{qos} {topic} fits")).await;
    }
}

#[tokio::test]
async fn mqtt_3_2_2_15_a_packet_over_the_servers_limit_closes() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        let topic = name();
        let room = PACKET - 4 - 2 - topic.len() - usize::from(version == V5);
        peer.subscribe(&topic, 0).await;
        peer.publish(Publish::new(&topic, vec![b'x'; room], 0)).await;
        assert_eq!(peer.message().await.payload.len(), room);
        peer.publish(Publish::new(&topic, vec![b'x'; room + 1], 0)).await;
        peer.closed(&[0x95]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_12_all_aliases_up_to_the_maximum_work() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe(&format!("{topic}/#"), 0).await;
    let alias = |topic: &str, alias| Publish::new(topic, "x", 0).with(Property::Two(TOPIC_ALIAS, alias));
    for number in 1..=ALIASES {
        peer.publish(alias(&format!("{topic}/{number}"), number)).await;
        peer.says(&format!("PUBLISH q0 {topic}/{number} x")).await;
    }
    for number in (1..=ALIASES).rev() {
        peer.publish(alias("", number)).await;
        peer.says(&format!("PUBLISH q0 {topic}/{number} x")).await;
        // The alias of the publisher is its own.
        assert_eq!(peer.properties, []);
    }
    // An alias can be given to another topic.
    peer.publish(alias(&format!("{topic}/other"), 1)).await;
    peer.says(&format!("PUBLISH q0 {topic}/other x")).await;
    peer.publish(alias("", 1)).await;
    peer.says(&format!("PUBLISH q0 {topic}/other x")).await;
}

#[tokio::test]
async fn mqtt_3_3_2_8_a_wrong_alias_closes() {
    for (topic, alias) in [("t", 0), ("", 0), ("t", ALIASES + 1), ("t", 65_535), ("", 1)] {
        let mut peer = Peer::new(V5).await;
        peer.publish(Publish::new(topic, "x", 0).with(Property::Two(TOPIC_ALIAS, alias))).await;
        peer.closed(&[0x94, 0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_7_aliases_end_with_the_connection() {
    let connect = hello(V5, &name()).persistent();
    let mut peer = Peer::connect(&connect).await;
    peer.kept(Publish::new(&name(), "x", 1).with(Property::Two(TOPIC_ALIAS, 1))).await;
    drop(peer);
    let mut peer = Peer::connect(&connect).await;
    peer.publish(Publish::new("", "x", 0).with(Property::Two(TOPIC_ALIAS, 1))).await;
    peer.closed(&[0x94, 0x82]).await;
}

#[tokio::test]
async fn mqtt_3_1_2_26_aliases_towards_the_client_stay_below_its_maximum() {
    for most in [None, Some(0), Some(2)] {
        let topic = name();
        let mut connect = hello(V5, &name());
        connect.properties.extend(most.map(|most| Property::Two(34, most)));
        let mut reader = Peer::connect(&connect).await;
        reader.subscribe(&format!("{topic}/#"), 0).await;
        let mut writer = Peer::new(V5).await;
        let mut names: Vec<Option<String>> = vec![None; 3];
        for round in 0..3 {
            for number in 0..5 {
                let full = format!("{topic}/{number}");
                writer.publish(Publish::new(&full, round.to_string(), 0)).await;
                let message = reader.message().await;
                let alias = message.properties.iter().find_map(|p| match p {
                    Property::Two(TOPIC_ALIAS, alias) => Some(usize::from(*alias)),
                    _ => None,
                });
                let have = match alias {
                    None => message.topic,
                    Some(alias) => {
                        assert!(alias > 0 && alias <= usize::from(most.unwrap_or(0)), "alias {alias}");
                        if !message.topic.is_empty() {
                            names[alias] = Some(message.topic);
                        }
                        names[alias].clone().expect("an alias that was given a topic")
                    }
                };
                assert_eq!(have, full);
            }
        }
    }
}

#[tokio::test]
async fn mqtt_3_12_4_1_pings_are_answered() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.ping().await;
        peer.send(&wire::PINGREQ.repeat(3)).await;
        for _ in 0..3 {
            peer.says("PINGRESP").await;
        }
    }
}

#[tokio::test]
async fn mqtt_4_2_packets_may_come_in_any_pieces() {
    for version in [V4, V5] {
        let topic = name();
        let mut peer = Peer::open_at(weft().mqtt, version).await;
        let connect = hello(version, &name()).encode();
        let subscribe = wire::subscribe(version, 1, &[(&topic, 1)]);
        let publish = Publish::new(&topic, "x", 0).encode(version);
        for byte in [connect, subscribe, publish].concat() {
            peer.send(&[byte]).await;
        }
        peer.says("CONNACK 0x00").await;
        peer.says("SUBACK 1 [01]").await;
        peer.says(&format!("PUBLISH q0 {topic} x")).await;
    }
}
