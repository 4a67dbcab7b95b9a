//! UNSUBSCRIBE and UNSUBACK (MQTT 5 §3.10, §3.11; MQTT 3.1.1 §3.10).

use tests::wire::{self, Ack, Publish};

use crate::peer::{BOTH, Peer, V4, V5, name};

#[tokio::test]
async fn mqtt_3_10_3_2_an_unsubscribe_without_filter_closes() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.send(&wire::unsubscribe(version, 1, &[])).await;
        peer.closed(&[0x82]).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_4_1_filters_are_compared_character_by_character() {
    for version in BOTH {
        let topic = name();
        let filter = format!("{topic}/+");
        let mut peer = Peer::new(version).await;
        peer.subscribe(&filter, 0).await;
        let others =
            [format!("{topic}/a"), format!("{topic}/#"), format!("{topic}/+/"), filter.to_uppercase()];
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        peer.send(&wire::unsubscribe(version, 2, &others)).await;
        peer.says(if version == V4 { "UNSUBACK 2 []" } else { "UNSUBACK 2 [11, 11, 11, 11]" }).await;
        peer.publish(Publish::new(&format!("{topic}/a"), "x", 0)).await;
        peer.says(&format!("PUBLISH q0 {topic}/a x")).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_4_2_nothing_new_comes_behind_unsuback() {
    for version in BOTH {
        let topic = name();
        let mut peer = Peer::new(version).await;
        peer.subscribe(&topic, 1).await;
        peer.send(&wire::unsubscribe(version, 2, &[&topic])).await;
        peer.says(if version == V4 { "UNSUBACK 2 []" } else { "UNSUBACK 2 [00]" }).await;
        peer.kept(Publish::new(&topic, "x", 1)).await;
        peer.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_10_4_3_deliveries_that_began_are_finished() {
    for version in BOTH {
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 2).await;
        let mut writer = Peer::new(version).await;
        writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", 2) }).await;
        reader.says(&format!("PUBLISH q2 {topic} x")).await;
        reader.send(&wire::unsubscribe(version, 2, &[&topic])).await;
        assert!(reader.next().await.starts_with("UNSUBACK 2"));
        let id = reader.id;
        reader.ack(Ack::PubRec, id).await;
        reader.says(&format!("PUBREL {id}")).await;
        reader.ack(Ack::PubComp, id).await;
        reader.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_10_4_5_what_was_not_subscribed_is_answered_too() {
    for (version, answer) in [(V4, "UNSUBACK 99 []"), (V5, "UNSUBACK 99 [11]")] {
        let mut peer = Peer::new(version).await;
        peer.send(&wire::unsubscribe(version, 99, &[&name()])).await;
        peer.says(answer).await;
    }
}

#[tokio::test]
async fn mqtt_3_10_4_6_each_filter_is_unsubscribed_and_answered_in_order() {
    for version in BOTH {
        let (a, b, c) = (name(), name(), name());
        let mut peer = Peer::new(version).await;
        peer.subscribe(&a, 0).await;
        peer.subscribe(&c, 0).await;
        peer.send(&wire::unsubscribe(version, 3, &[&a, &b, &c, &a])).await;
        peer.says(if version == V4 { "UNSUBACK 3 []" } else { "UNSUBACK 3 [00, 11, 00, 11]" }).await;
        for topic in [&a, &b, &c] {
            peer.kept(Publish::new(topic, "x", 1)).await;
        }
        peer.ping().await;
    }
}
