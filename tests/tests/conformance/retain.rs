//! Retained messages (MQTT 5 §3.3.1.3, §3.8.3.1; MQTT 3.1.1 §3.3.1.3).

use tests::wire::{Connect, Publish};

use crate::peer::{BOTH, Peer, V5, hello, name};

const RETAIN_AS_PUBLISHED: u8 = 8;

/// A client that has published `payload` as the retained message of a new topic.
async fn retained(version: tests::wire::Version, payload: &str) -> (Peer, String) {
    let topic = name();
    let mut writer = Peer::new(version).await;
    writer.kept(Publish::new(&topic, payload, 1).retained()).await;
    (writer, topic)
}

#[tokio::test]
async fn mqtt_3_3_1_5_a_retained_message_replaces_the_one_before() {
    for version in BOTH {
        let (mut writer, topic) = retained(version, "first").await;
        writer.kept(Publish::new(&topic, "second", 1).retained()).await;
        let mut reader = Peer::new(version).await;
        reader.subscribe(&format!("{topic}/#"), 1).await;
        reader.says(&format!("PUBLISH q1 retain {topic} second")).await;
        // At QoS 0 as well.
        writer.publish(Publish::new(&topic, "third", 0).retained()).await;
        writer.ping().await;
        reader.says(&format!("PUBLISH q0 {topic} third")).await;
        let mut late = Peer::new(version).await;
        late.subscribe(&topic, 1).await;
        late.says(&format!("PUBLISH q0 retain {topic} third")).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_6_an_empty_payload_removes_the_retained_message() {
    for version in BOTH {
        let (mut writer, topic) = retained(version, "first").await;
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 0).await;
        reader.says(&format!("PUBLISH q0 retain {topic} first")).await;
        writer.kept(Publish::new(&topic, "", 1).retained()).await;
        reader.says(&format!("PUBLISH q0 {topic} ")).await;
        let mut late = Peer::new(version).await;
        late.subscribe(&topic, 0).await;
        late.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_7_an_empty_retained_message_is_not_stored() {
    for version in BOTH {
        let (_writer, topic) = retained(version, "").await;
        let mut late = Peer::new(version).await;
        late.subscribe(&topic, 0).await;
        late.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_8_without_retain_nothing_is_stored_or_removed() {
    for version in BOTH {
        let (mut writer, topic) = retained(version, "kept").await;
        writer.kept(Publish::new(&topic, "passing", 1)).await;
        writer.kept(Publish::new(&topic, "", 1)).await;
        let mut late = Peer::new(version).await;
        late.subscribe(&topic, 0).await;
        late.says(&format!("PUBLISH q0 retain {topic} kept")).await;
        let other = name();
        writer.kept(Publish::new(&other, "passing", 1)).await;
        late.subscribe(&other, 0).await;
        late.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_9_a_subscription_begins_with_the_retained_messages() {
    for version in BOTH {
        let (_writer, topic) = retained(version, "kept").await;
        let mut reader = Peer::new(version).await;
        for _ in 0..2 {
            reader.subscribe(&topic, 1).await;
            reader.says(&format!("PUBLISH q1 retain {topic} kept")).await;
        }
        reader.subscribe(&format!("{topic}/#"), 0).await;
        reader.says(&format!("PUBLISH q0 retain {topic} kept")).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_10_retain_handling_1_sends_them_to_new_subscriptions() {
    let (_writer, topic) = retained(V5, "kept").await;
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0x10).await;
    reader.says(&format!("PUBLISH q0 retain {topic} kept")).await;
    reader.subscribe(&topic, 0x10).await;
    reader.ping().await;
}

#[tokio::test]
async fn mqtt_3_3_1_11_retain_handling_2_sends_none() {
    let (mut writer, topic) = retained(V5, "kept").await;
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0x20).await;
    writer.publish(Publish::new(&topic, "now", 0)).await;
    reader.says(&format!("PUBLISH q0 {topic} now")).await;
}

#[tokio::test]
async fn mqtt_3_3_1_12_retain_is_cleared_for_subscriptions_that_are_there() {
    for version in BOTH {
        let topic = name();
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 1).await;
        let mut writer = Peer::new(version).await;
        writer.kept(Publish::new(&topic, "x", 1).retained()).await;
        reader.says(&format!("PUBLISH q1 {topic} x")).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_13_retain_as_published_keeps_the_flag() {
    let topic = name();
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, RETAIN_AS_PUBLISHED).await;
    let mut writer = Peer::new(V5).await;
    writer.publish(Publish::new(&topic, "x", 0).retained()).await;
    reader.says(&format!("PUBLISH q0 retain {topic} x")).await;
    writer.publish(Publish::new(&topic, "y", 0)).await;
    reader.says(&format!("PUBLISH q0 {topic} y")).await;
}

#[tokio::test]
async fn mqtt_3_1_2_7_of_3_1_1_retained_messages_outlive_the_session() {
    for version in BOTH {
        let topic = name();
        let connect: Connect = hello(version, &name());
        let mut writer = Peer::connect(&connect).await;
        writer.kept(Publish::new(&topic, "kept", 1).retained()).await;
        drop(writer);
        drop(Peer::connect(&connect).await);
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 0).await;
        reader.says(&format!("PUBLISH q0 retain {topic} kept")).await;
    }
}
