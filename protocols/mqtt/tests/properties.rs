//! What a client asks for in CONNECT and what it is told: aliases, sizes, reasons (MQTT 5 §3.1.2.11, §3.2.2.3).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "test code")]

mod common;

use std::num::NonZeroU32;

use bytes::BytesMut;
use common::*;
use event::testing::Answer;
use event::{Reject, RejectKind};
use mqtt::Options;
use mqtt::codec::client::{self, AckKind, Hello};
use mqtt::codec::{PacketId, Property, Version};
use tokio::io::AsyncReadExt;

use Version::V5;

async fn connect(world: &World, properties: &[Property<'_>]) -> (Scripted, String) {
    let mut peer = world.open(V5);
    peer.hello(&Hello { client_id: "c", clean: true, properties, ..Hello::default() }).await;
    let connack = peer.next().await;
    (peer, connack)
}

fn max(bytes: u32) -> Property<'static> {
    Property::MaximumPacketSize(NonZeroU32::new(bytes).unwrap())
}

/// What comes next, as it is on the wire.
async fn raw(peer: &mut Scripted) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let read = peer.stream.read(&mut bytes).await.unwrap();
    bytes.truncate(read);
    bytes
}

fn says(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_26_and_27_aliases_are_sent_up_to_the_clients_maximum() {
    let world = World::new();
    let (mut peer, _) = connect(&world, &[Property::TopicAliasMaximum(1)]).await;
    for (topic, sent) in [
        ("room/1", "PUBLISH q0 room/1 \"x\" TopicAlias(1)"),
        ("room/1", "PUBLISH q0 - \"x\" TopicAlias(1)"),
        ("room/2", "PUBLISH q0 room/2 \"x\""),
        ("room/1", "PUBLISH q0 - \"x\" TopicAlias(1)"),
        ("room/2", "PUBLISH q0 room/2 \"x\" TopicAlias(1)"),
        ("room/2", "PUBLISH q0 - \"x\" TopicAlias(1)"),
    ] {
        world.hub.deliver("c", event(topic, b"x"), AtMostOnce);
        assert_eq!(peer.next().await, sent);
    }
    for properties in [&[][..], &[Property::TopicAliasMaximum(0)]] {
        let world = World::new();
        let (mut peer, _) = connect(&world, properties).await;
        for _ in 0..2 {
            world.hub.deliver("c", event("room/1", b"x"), AtMostOnce);
            assert_eq!(peer.next().await, "PUBLISH q0 room/1 \"x\"");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_an_alias_makes_too_large_is_sent_without() {
    let world = World::new();
    let (mut peer, connack) = connect(&world, &[Property::TopicAliasMaximum(5), max(60)]).await;
    assert!(connack.starts_with("CONNACK 0x00"));
    // 2 + 2 + 6 + 1 + 49 bytes.
    world.hub.deliver("c", event("room/1", &[b'x'; 49]), AtMostOnce);
    assert!(peer.next().await.ends_with("x\""));
    world.hub.deliver("c", event("room/1", &[b'x'; 50]), AtMostOnce);
    world.hub.deliver("c", event("room/1", b"x"), AtMostOnce);
    assert_eq!(peer.next().await, "PUBLISH q0 room/1 \"x\" TopicAlias(1)");
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_24_no_packet_is_larger_than_the_client_takes() {
    let world = World::new();
    for (bytes, told) in [(1, "END"), (4, "END"), (5, "CONNACK 0x95"), (12, "CONNACK 0x95")] {
        let (_, connack) = connect(&world, &[max(bytes)]).await;
        assert_eq!(connack, told, "{bytes}");
    }
    // What only helps is left out first.
    let wanted = [Property::RequestResponseInformation(true), max(24)];
    let (mut peer, connack) = connect(&world, &wanted).await;
    assert!(connack.starts_with("CONNACK 0x00") && !connack.contains("ResponseInformation"), "{connack}");
    peer.publish("$SYS/x", "x", AtLeastOnce, 1).await;
    assert_eq!(raw(&mut peer).await, [0x40, 3, 0, 1, 0x90]);
    peer.subscribe(2, "a/#/b", AtMostOnce).await;
    assert_eq!(raw(&mut peer).await, [0x90, 4, 0, 2, 0, 0x8f]);
    let many = vec![("a", options(AtMostOnce)); 30];
    peer.send(&subscribe(V5, 3, &many, &[])).await;
    assert_eq!(peer.take(2).await, ["DISCONNECT 0x95", "END"]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_29_reasons_are_told_unless_the_client_wants_none() {
    for (wanted, properties) in [(true, &[][..]), (false, &[Property::RequestProblemInformation(false)])] {
        let world = World::new();
        let (mut peer, _) = connect(&world, properties).await;
        world.hub.answer(Answer::Refused(Reject::new(RejectKind::Denied, "no rule allows it")));
        peer.publish("t", "x", AtLeastOnce, 1).await;
        assert_eq!(says(&raw(&mut peer).await, "no rule allows it"), wanted);
        peer.publish("t", "x", ExactlyOnce, 2).await;
        assert_eq!(says(&raw(&mut peer).await, "no rule allows it"), wanted);
        peer.publish("$SYS/x", "x", AtLeastOnce, 3).await;
        assert_eq!(says(&raw(&mut peer).await, "begin with $"), wanted);
        peer.ack(AckKind::PubRel, 9).await;
        let pubcomp = raw(&mut peer).await;
        assert_eq!((pubcomp[0], pubcomp[4]), (0x70, 0x92));
        assert_eq!(says(&pubcomp, "nothing is open"), wanted);
        peer.subscribe(4, "a/#/b", AtMostOnce).await;
        assert_eq!(says(&raw(&mut peer).await, "'#' is the whole last level"), wanted);
        world.hub.refuse_subscribe(Some(Reject::new(RejectKind::Denied, "not for you")));
        peer.subscribe(5, "a", AtMostOnce).await;
        assert_eq!(says(&raw(&mut peer).await, "not for you"), wanted);
        let mut out = BytesMut::new();
        client::unsubscribe(&mut out, V5, PacketId::new(6).unwrap(), &["a#"]);
        peer.send(&out).await;
        assert_eq!(says(&raw(&mut peer).await, "'#' is the whole last level"), wanted);
        // DISCONNECT may always say why.
        peer.send(&[0x36, 0]).await;
        assert!(says(&raw(&mut peer).await, "QoS bits"));
    }
}

#[tokio::test(start_paused = true)]
async fn why_a_client_is_not_let_in_is_told() {
    let world = World::new();
    world.gate.admit_as(Err(Reject::new(RejectKind::Unproved, "credentials are missing or wrong")));
    let mut peer = world.open(V5);
    peer.hello(&Hello { client_id: "c", clean: true, ..Hello::default() }).await;
    let connack = raw(&mut peer).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0x86));
    assert!(says(&connack, "credentials are missing or wrong"));
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_28_response_information_is_told_only_if_asked_for() {
    let ask = [Property::RequestResponseInformation(true)];
    let world = World::new();
    assert!(connect(&world, &ask).await.1.contains("ResponseInformation(\"response/c\")"));
    assert!(!connect(&world, &[]).await.1.contains("ResponseInformation"));
    assert!(!connect(&world, &[Property::RequestResponseInformation(false)]).await.1.contains("ResponseInf"));
    let world = World::with(Options { response_information: "r/{client}/in/".into(), ..Options::default() });
    assert!(connect(&world, &ask).await.1.contains("ResponseInformation(\"r/c/in/\")"));
    let world = World::with(Options { response_information: String::new(), ..Options::default() });
    assert!(!connect(&world, &ask).await.1.contains("ResponseInformation"));
}

#[tokio::test(start_paused = true)]
async fn mqtt_2_2_1_2_an_id_that_is_in_use_is_not_taken_for_a_subscribe() {
    let world = World::new();
    let (mut peer, _) = connect(&world, &[]).await;
    peer.publish("t", "x", ExactlyOnce, 1).await;
    assert_eq!(peer.next().await, "PUBREC 1");
    peer.subscribe(1, "t", AtMostOnce).await;
    assert_eq!(peer.next().await, "SUBACK 1 [91]");
    peer.ack(AckKind::PubRel, 1).await;
    assert_eq!(peer.next().await, "PUBCOMP 1");
    peer.subscribe(1, "t", AtMostOnce).await;
    assert_eq!(peer.next().await, "SUBACK 1 [00]");
}
