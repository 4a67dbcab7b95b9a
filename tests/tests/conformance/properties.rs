//! Properties (MQTT 5 §2.2.2, §3.3.2.3): carried unaltered, and refused where they do not belong.

use tests::wire::{self, Property, Publish, packet};

use crate::peer::{Peer, V5, hello, name, subscribe_with};

#[tokio::test]
async fn mqtt_3_3_2_4_what_a_publish_carries_arrives_unaltered() {
    let cases = [
        Property::Byte(1, 1),
        Property::Text(3, "text/plain; charset=utf-8".into()),
        Property::Text(8, "answer/to/ü".into()),
        Property::Data(9, vec![0, 255, 1, 254]),
        Property::Data(9, Vec::new()),
        Property::Pair("name".into(), "value".into()),
        Property::Pair(String::new(), String::new()),
    ];
    for qos in 0..3 {
        let topic = name();
        let mut reader = Peer::new(V5).await;
        reader.subscribe(&topic, 2).await;
        let mut writer = Peer::new(V5).await;
        for (number, property) in (1..).zip(&cases) {
            writer
                .publish(Publish { id: number, ..Publish::new(&topic, "x", qos) }.with(property.clone()))
                .await;
            assert_eq!(reader.message().await.properties, std::slice::from_ref(property), "QoS {qos}");
        }
        // Format 0 is the same as none (§3.3.2.3.2), so either may arrive.
        writer.publish(Publish { id: 19, ..Publish::new(&topic, "x", qos) }.with(Property::Byte(1, 0))).await;
        let format = reader.message().await.properties;
        assert!(format.is_empty() || format == [Property::Byte(1, 0)], "{format:?}");
    }
}

#[tokio::test]
async fn mqtt_3_3_2_18_user_properties_keep_their_order_and_repeats() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe(&topic, 0).await;
    let pair = |name: &str, value: &str| Property::Pair(name.into(), value.into());
    let all = [pair("z", "1"), pair("a", "2"), pair("z", "1"), pair("a", "0"), pair("", "x")];
    let publish = all.iter().cloned().fold(Publish::new(&topic, "x", 0), Publish::with);
    peer.publish(publish).await;
    assert_eq!(peer.message().await.properties, all);
}

#[tokio::test]
async fn mqtt_3_3_2_4_retained_messages_keep_their_properties() {
    let topic = name();
    let mut writer = Peer::new(V5).await;
    let pair = Property::Pair("a".into(), "b".into());
    writer.kept(Publish::new(&topic, "x", 1).retained().with(Property::Byte(1, 1)).with(pair.clone())).await;
    let mut reader = Peer::new(V5).await;
    reader.subscribe(&topic, 0).await;
    let mut have = reader.message().await.properties;
    have.sort_by_key(|property| format!("{property:?}"));
    assert_eq!(have, [Property::Byte(1, 1), pair]);
}

#[tokio::test]
async fn mqtt_3_3_2_5_an_expired_message_is_not_delivered() {
    let topic = name();
    let connect = hello(V5, &name()).persistent();
    let mut reader = Peer::connect(&connect).await;
    reader.subscribe(&topic, 1).await;
    drop(reader);
    let mut writer = Peer::new(V5).await;
    writer.kept(Publish::new(&topic, "short", 1).with(Property::Four(2, 1))).await;
    writer.kept(Publish::new(&topic, "long", 1).with(Property::Four(2, 600))).await;
    writer.kept(Publish::new(&topic, "kept short", 1).retained().with(Property::Four(2, 1))).await;
    writer.quiet_for(1600).await;
    let mut reader = Peer::connect(&connect).await;
    let message = reader.message().await;
    assert_eq!(message.payload, b"long");
    // The rest of its time comes with it [MQTT-3.3.2-6].
    let left = match message.properties[..] {
        [Property::Four(2, left)] => left,
        ref other => panic!("{other:?}"),
    };
    assert!((590..600).contains(&left), "{left}");
    reader.ping().await;
    let mut late = Peer::new(V5).await;
    late.subscribe(&topic, 0).await;
    late.ping().await;
}

#[tokio::test]
async fn mqtt_3_3_2_14_a_response_topic_with_wildcards_closes() {
    for wrong in ["a/#", "+/a", "#"] {
        let mut peer = Peer::new(V5).await;
        peer.publish(Publish::new("t", "x", 0).with(Property::Text(8, wrong.into()))).await;
        peer.closed(&[0x82, 0x81, 0x90]).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_2_13_strings_in_properties_are_utf8() {
    for id in [3u8, 8] {
        let mut peer = Peer::new(V5).await;
        peer.send(&packet(0x30, &[b"\0\x01t\x05", &[id][..], b"\0\x02a\xff"].concat())).await;
        peer.closed(&[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_2_2_a_property_that_does_not_belong_closes() {
    let wrong_in_publish = [
        Property::Four(17, 1),
        Property::Two(33, 1),
        Property::Byte(23, 1),
        Property::Text(31, "why".into()),
        Property::Four(39, 100),
        Property::Byte(41, 1),
    ];
    for wrong in wrong_in_publish {
        let mut peer = Peer::new(V5).await;
        peer.publish(Publish::new("t", "x", 0).with(wrong)).await;
        peer.closed(&[0x81, 0x82]).await;
        // And none of these in SUBSCRIBE.
        let mut peer = Peer::new(V5).await;
        peer.send(&subscribe_with(&[Property::Four(2, 1)], &[("a", 0)])).await;
        peer.closed(&[0x81, 0x82]).await;
    }
    for unknown in [0u8, 4, 0x7f] {
        let mut peer = Peer::new(V5).await;
        peer.send(&packet(0x30, &[b"\0\x01t\x02", &[unknown, 0][..]].concat())).await;
        peer.closed(&[0x81]).await;
    }
}

#[tokio::test]
async fn mqtt_2_2_2_2_a_property_that_comes_twice_closes() {
    let twice = [
        Property::Byte(1, 1),
        Property::Four(2, 9),
        Property::Text(3, "a".into()),
        Property::Text(8, "a".into()),
        Property::Data(9, vec![1]),
        Property::Two(35, 1),
    ];
    for property in twice {
        let mut peer = Peer::new(V5).await;
        peer.publish(Publish::new("t", "x", 0).with(property.clone()).with(property)).await;
        peer.closed(&[0x82, 0x81]).await;
    }
    for property in
        [Property::Four(17, 1), Property::Two(33, 1), Property::Four(39, 100), Property::Two(34, 1)]
    {
        let connect = hello(V5, &name()).with(property.clone()).with(property);
        let mut peer = Peer::open(V5).await;
        peer.send(&connect.encode()).await;
        let answer = peer.next().await;
        assert!(["CONNACK 0x82", "CONNACK 0x81"].contains(&&*answer), "{answer}");
        peer.says("END").await;
    }
}

#[tokio::test]
async fn mqtt_2_2_2_2_a_value_out_of_its_range_closes() {
    let mut peer = Peer::new(V5).await;
    peer.publish(Publish::new("t", "x", 0).with(Property::Byte(1, 2))).await;
    peer.closed(&[0x82, 0x81]).await;
    for wrong in [Property::Two(33, 0), Property::Four(39, 0), Property::Byte(23, 2), Property::Byte(25, 2)] {
        let mut peer = Peer::open(V5).await;
        peer.send(&hello(V5, &name()).with(wrong).encode()).await;
        let answer = peer.next().await;
        assert!(["CONNACK 0x82", "CONNACK 0x81"].contains(&&*answer), "{answer}");
        peer.says("END").await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_28_response_information_comes_only_if_it_is_asked_for() {
    let information = |peer: &Peer| peer.properties.iter().any(|p| matches!(p, Property::Text(26, _)));
    assert!(!information(&Peer::new(V5).await));
    let refused = hello(V5, &name()).with(Property::Byte(25, 0));
    assert!(!information(&Peer::connect(&refused).await));
}

#[tokio::test]
async fn mqtt_3_1_2_29_without_problem_information_acks_carry_no_reasons() {
    let connect = hello(V5, &name()).with(Property::Byte(23, 0));
    let mut peer = Peer::connect(&connect).await;
    // The shortest form of each ack says that there are no properties.
    peer.send(&wire::subscribe(V5, 1, &[("a/#/b", 0)])).await;
    peer.send(&wire::unsubscribe(V5, 2, &["a/#/b"])).await;
    peer.send(&wire::ack(wire::Ack::PubRel, 9)).await;
    peer.send(&packet(0x00, b"")).await;
    let bytes = peer.client.raw_to_end().await;
    let acks = [&[0x90, 4, 0, 1, 0, 0x8f][..], &[0xb0, 4, 0, 2, 0, 0x8f], &[0x70, 3, 0, 9, 0x92]].concat();
    assert_eq!(bytes[..acks.len()], acks, "{bytes:02x?}");
}
