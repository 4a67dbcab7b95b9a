//! The will (MQTT 5 §3.1.2.5, MQTT 3.1.1 §3.1.2.5).

use tests::wire::{self, Connect, Property, Publish, SESSION_EXPIRY, Version};

use crate::peer::{BOTH, Peer, V4, V5, hello, name};

const WILL_DELAY: u8 = 24;

/// A client with a will on `topic`, and a reader of it.
async fn pair(version: Version, will: Publish) -> (Peer, Peer) {
    let mut reader = Peer::new(version).await;
    reader.subscribe(&will.topic, 2).await;
    let client = Peer::connect(&hello(version, &name()).will(will)).await;
    (client, reader)
}

/// DISCONNECT of MQTT 5 with a reason code.
fn disconnect(code: u8) -> Vec<u8> {
    wire::packet(0xe0, &[code])
}

#[tokio::test]
async fn mqtt_3_1_2_8_the_will_of_a_lost_client_is_published() {
    for version in BOTH {
        for qos in 0..3 {
            let topic = name();
            let (client, mut reader) = pair(version, Publish::new(&topic, "gone", qos)).await;
            drop(client);
            reader.says(&format!("PUBLISH q{qos} {topic} gone")).await;
        }
        // A client that breaks the protocol, or falls silent, is lost as well.
        let topic = name();
        let (mut client, mut reader) = pair(version, Publish::new(&topic, "wrong", 0)).await;
        client.send(&[0x36, 0]).await;
        reader.says(&format!("PUBLISH q0 {topic} wrong")).await;
        let topic = name();
        let silent = hello(version, &name()).keep_alive(1).will(Publish::new(&topic, "silent", 0));
        reader.subscribe(&topic, 0).await;
        let _client = Peer::connect(&silent).await;
        reader.says(&format!("PUBLISH q0 {topic} silent")).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_10_a_will_that_was_published_is_gone() {
    for version in BOTH {
        let (topic, id) = (name(), name());
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 0).await;
        drop(Peer::connect(&hello(version, &id).will(Publish::new(&topic, "once", 0))).await);
        reader.says(&format!("PUBLISH q0 {topic} once")).await;
        drop(Peer::connect(&hello(version, &id)).await);
        let mut last = Peer::new(version).await;
        last.publish(Publish::new(&topic, "last", 0)).await;
        reader.says(&format!("PUBLISH q0 {topic} last")).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_4_3_disconnect_discards_the_will() {
    for version in BOTH {
        let topic = name();
        let (mut client, mut reader) = pair(version, Publish::new(&topic, "never", 0)).await;
        client.send(&wire::DISCONNECT).await;
        client.says("END").await;
        let mut last = Peer::new(version).await;
        last.publish(Publish::new(&topic, "last", 0)).await;
        reader.says(&format!("PUBLISH q0 {topic} last")).await;
    }
}

#[tokio::test]
async fn mqtt_3_14_4_3_only_a_normal_disconnect_discards_the_will() {
    for code in [0x04, 0x80, 0x82] {
        let topic = name();
        let (mut client, mut reader) = pair(V5, Publish::new(&topic, "asked for", 0)).await;
        client.send(&disconnect(code)).await;
        reader.says(&format!("PUBLISH q0 {topic} asked for")).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_12_of_3_1_1_without_will_flag_nothing_is_published() {
    let id = name();
    let mut reader = Peer::new(V4).await;
    reader.subscribe(&id, 0).await;
    drop(Peer::new(V4).await);
    let mut last = Peer::new(V4).await;
    last.publish(Publish::new(&id, "last", 0)).await;
    reader.says(&format!("PUBLISH q0 {id} last")).await;
}

#[tokio::test]
async fn mqtt_3_1_2_14_a_will_without_retain_is_not_retained() {
    for version in BOTH {
        let topic = name();
        let (client, mut reader) = pair(version, Publish::new(&topic, "will", 1)).await;
        drop(client);
        reader.says(&format!("PUBLISH q1 {topic} will")).await;
        let mut late = Peer::new(version).await;
        late.subscribe(&topic, 0).await;
        late.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_15_a_will_with_retain_is_retained() {
    for version in BOTH {
        let topic = name();
        let (client, mut reader) = pair(version, Publish::new(&topic, "will", 1).retained()).await;
        drop(client);
        reader.says(&format!("PUBLISH q1 {topic} will")).await;
        let mut late = Peer::new(version).await;
        late.subscribe(&topic, 1).await;
        late.says(&format!("PUBLISH q1 retain {topic} will")).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_9_a_client_that_is_back_within_the_delay_has_no_will() {
    let (topic, id) = (name(), name());
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0).await;
    let mut connect = hello(V5, &id).persistent().will(Publish::new(&topic, "too late", 0));
    connect.will_properties.push(Property::Four(WILL_DELAY, 1));
    drop(Peer::connect(&connect).await);
    let mut back = Peer::connect(&hello(V5, &id).persistent()).await;
    reader.quiet_for(1500).await;
    back.publish(Publish::new(&topic, "last", 0)).await;
    reader.says(&format!("PUBLISH q0 {topic} last")).await;
}

#[tokio::test]
async fn mqtt_3_1_3_9_the_will_comes_after_its_delay() {
    let topic = name();
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0).await;
    let mut connect = hello(V5, &name()).persistent().will(Publish::new(&topic, "delayed", 0));
    connect.will_properties.push(Property::Four(WILL_DELAY, 1));
    let start = std::time::Instant::now();
    drop(Peer::connect(&connect).await);
    reader.says(&format!("PUBLISH q0 {topic} delayed")).await;
    assert!(start.elapsed().as_millis() >= 950);
}

#[tokio::test]
async fn mqtt_3_1_2_8_the_end_of_the_session_ends_the_delay() {
    let topic = name();
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0).await;
    let mut connect = hello(V5, &name()).will(Publish::new(&topic, "at once", 0));
    connect.will_properties.push(Property::Four(WILL_DELAY, 3600));
    drop(Peer::connect(&connect).await);
    reader.says(&format!("PUBLISH q0 {topic} at once")).await;
    // Clean Start ends an older session.
    let topic = name();
    reader.subscribe(&topic, 0).await;
    let id = name();
    let mut connect = hello(V5, &id).with(Property::Four(SESSION_EXPIRY, 3600));
    connect = connect.will(Publish::new(&topic, "cleaned", 0));
    connect.will_properties.push(Property::Four(WILL_DELAY, 3600));
    drop(Peer::connect(&connect).await);
    let _new = Peer::connect(&hello(V5, &id)).await;
    reader.says(&format!("PUBLISH q0 {topic} cleaned")).await;
}

#[tokio::test]
async fn mqtt_3_1_2_8_a_session_that_is_taken_over_publishes_its_will() {
    for version in BOTH {
        let (topic, id) = (name(), name());
        let mut reader = Peer::new(version).await;
        reader.subscribe(&topic, 0).await;
        let connect = hello(version, &id).persistent().will(Publish::new(&topic, "taken over", 0));
        let mut old = Peer::connect(&connect).await;
        let _new = Peer::connect(&hello(version, &id).persistent()).await;
        old.closed(&[0x8e]).await;
        reader.says(&format!("PUBLISH q0 {topic} taken over")).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_3_10_the_properties_of_the_will_arrive_in_order() {
    let topic = name();
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0).await;
    let mut connect: Connect = hello(V5, &name()).will(Publish::new(&topic, "x", 0));
    let pair = |name: &str, value: &str| Property::Pair(name.into(), value.into());
    let all = vec![
        Property::Byte(1, 1),
        Property::Text(3, "text/plain".into()),
        Property::Text(8, "answer/to".into()),
        Property::Data(9, b"\0\xff".to_vec()),
        pair("b", "1"),
        pair("a", "2"),
        pair("b", "1"),
    ];
    connect.will_properties = all.clone();
    drop(Peer::connect(&connect).await);
    let have = reader.message().await.properties;
    assert_eq!(sorted(&have), sorted(&all));
    let pairs = |list: &[Property]| -> Vec<_> {
        list.iter().filter(|p| matches!(p, Property::Pair(..))).cloned().collect()
    };
    assert_eq!(pairs(&have), pairs(&all));
}

fn sorted(list: &[Property]) -> Vec<String> {
    let mut list: Vec<_> = list.iter().map(|property| format!("{property:?}")).collect();
    list.sort();
    list
}
