//! Enhanced authentication (MQTT 5 §4.12), proofs that end, and what a client may send, over a stream in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use common::*;
use event::access::Step;
use event::testing::Call;
use event::{Allowance, Bucket, Meter, Principal, Rate, Reject, RejectKind};
use mqtt::codec::client::{self, Hello};
use mqtt::codec::{Property, Reason, Version};
use tokio::time::Instant;

use Version::{V5, V311};

const METHODS: [Property<'_>; 2] =
    [Property::AuthenticationMethod(METHOD), Property::AuthenticationData(b"one")];

fn auth(reason: Reason, method: &str, data: &str) -> BytesMut {
    let mut out = BytesMut::new();
    let properties = [Property::AuthenticationMethod(method), Property::AuthenticationData(data.as_bytes())];
    client::auth(&mut out, reason, &properties);
    out
}

fn more(data: &'static str) -> Result<Step, Reject> {
    Ok(Step::More(Bytes::from_static(data.as_bytes())))
}

fn done(who: Principal, data: &'static str) -> Result<Step, Reject> {
    Ok(Step::Done(who, Bytes::from_static(data.as_bytes())))
}

fn alice() -> Principal {
    Principal { user: Some("alice".into()), ..Principal::anonymous("c") }
}

/// Connected after two steps.
async fn proved(world: &World) -> Scripted {
    world.gate.step_next(more("two"));
    world.gate.step_next(done(alice(), "four"));
    let mut peer = world.open(V5);
    peer.hello(&Hello { client_id: "c", clean: true, properties: &METHODS, ..Hello::default() }).await;
    assert_eq!(peer.next().await, "AUTH 0x18 TEST \"two\"");
    peer.send(&auth(Reason::ContinueAuthentication, METHOD, "three")).await;
    let connack = peer.next().await;
    assert!(connack.starts_with("CONNACK 0x00"), "{connack}");
    let told = "AuthenticationMethod(\"TEST\") AuthenticationData([102, 111, 117, 114])";
    assert!(connack.contains(told), "{connack}");
    peer
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_0_1_to_5_an_exchange_of_several_steps_comes_before_connack() {
    let world = World::new();
    let mut peer = proved(&world).await;
    assert_eq!(world.gate.heard(), [Bytes::from_static(b"one"), Bytes::from_static(b"three")]);
    assert!(
        matches!(&world.hub.calls()[..], [Call::Attach { who, .. }] if who.user.as_deref() == Some("alice"))
    );
    peer.ping().await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_0_1_an_unknown_method_is_bad() {
    let world = World::new();
    let mut peer = world.open(V5);
    let properties = [Property::AuthenticationMethod("OTHER")];
    peer.hello(&Hello { client_id: "c", clean: true, properties: &properties, ..Hello::default() }).await;
    assert_eq!(peer.take(2).await, ["CONNACK 0x8c", "END"]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_0_4_a_failed_exchange_is_told_in_connack() {
    for (kind, code) in [
        (RejectKind::Unproved, "CONNACK 0x87"),
        (RejectKind::Denied, "CONNACK 0x87"),
        (RejectKind::Busy, "CONNACK 0x89"),
        (RejectKind::Unavailable, "CONNACK 0x88"),
    ] {
        let world = World::new();
        world.gate.step_next(more("two"));
        world.gate.step_next(Err(Reject::new(kind, "no")));
        let mut peer = world.open(V5);
        peer.hello(&Hello { client_id: "c", clean: true, properties: &METHODS, ..Hello::default() }).await;
        peer.next().await;
        peer.send(&auth(Reason::ContinueAuthentication, METHOD, "wrong")).await;
        assert_eq!(peer.take(2).await, [code, "END"]);
        assert!(world.hub.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_30_only_auth_and_disconnect_may_come_before_connack() {
    let ping = &[0xc0, 0][..];
    for (packet, told) in [
        (ping, "CONNACK 0x82"),
        (&publish(V5, "t", b"x", AtMostOnce, 0, false, &[]), "CONNACK 0x82"),
        (&auth(Reason::ContinueAuthentication, "OTHER", "x"), "CONNACK 0x82"),
        (&auth(Reason::ReAuthenticate, METHOD, "x"), "CONNACK 0x82"),
        (&auth(Reason::Success, METHOD, "x"), "CONNACK 0x82"),
        (&[0xf0, 0], "CONNACK 0x82"),
        (&[0xf0, 2, 0x17, 0], "CONNACK 0x81"),
        (&[0xe0, 0], "END"),
    ] {
        let world = World::new();
        world.gate.step_next(more("two"));
        let mut peer = world.open(V5);
        peer.hello(&Hello { client_id: "c", clean: true, properties: &METHODS, ..Hello::default() }).await;
        peer.next().await;
        peer.send(packet).await;
        assert_eq!(peer.next().await, told, "{packet:02x?}");
        assert!(world.hub.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_go_on_is_closed_in_time() {
    let world = World::new();
    world.gate.step_next(more("two"));
    let mut peer = world.open(V5);
    let asked = Instant::now();
    peer.hello(&Hello { client_id: "c", clean: true, properties: &METHODS, ..Hello::default() }).await;
    peer.next().await;
    assert_eq!(peer.take(2).await, ["CONNACK 0x82", "END"]);
    assert!(asked.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_0_7_auth_without_a_method_is_a_protocol_error() {
    for (version, told) in [(V5, "DISCONNECT 0x82"), (V311, "END")] {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        peer.send(&auth(Reason::ReAuthenticate, METHOD, "x")).await;
        assert_eq!(peer.next().await, told);
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_1_a_client_proves_anew_and_goes_on_meanwhile() {
    let world = World::new();
    let mut peer = proved(&world).await;
    world.gate.step_next(more("six"));
    world.gate.step_next(done(alice(), "eight"));
    peer.send(&auth(Reason::ReAuthenticate, METHOD, "five")).await;
    assert_eq!(peer.next().await, "AUTH 0x18 TEST \"six\"");
    peer.publish("t", "meanwhile", AtLeastOnce, 1).await;
    assert_eq!(peer.next().await, "PUBACK 1");
    peer.send(&auth(Reason::ContinueAuthentication, METHOD, "seven")).await;
    assert_eq!(peer.next().await, "AUTH 0x00 TEST \"eight\"");
    peer.ping().await;
    let renewed = |call: &Call| matches!(call, Call::Renew { who } if who.user == alice().user);
    assert_eq!(world.hub.calls().iter().filter(|call| renewed(call)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_1_2_a_failed_new_proof_ends_the_connection() {
    let bob = Principal { user: Some("bob".into()), ..alice() };
    let busy = Err(Reject::new(RejectKind::Busy, "later"));
    for (answer, told) in [
        (Err(Reject::new(RejectKind::Unproved, "no")), "DISCONNECT 0x87"),
        (busy, "DISCONNECT 0x89"),
        (done(bob, ""), "DISCONNECT 0x87"),
    ] {
        let world = World::new();
        let mut peer = proved(&world).await;
        world.gate.step_next(answer);
        peer.send(&auth(Reason::ReAuthenticate, METHOD, "five")).await;
        assert_eq!(peer.take(2).await, [told, "END"]);
        assert!(!world.hub.calls().iter().any(|call| matches!(call, Call::Renew { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_12_1_auth_out_of_place_is_a_protocol_error() {
    for packet in [
        auth(Reason::ContinueAuthentication, METHOD, "x"),
        auth(Reason::ReAuthenticate, "OTHER", "x"),
        auth(Reason::Success, METHOD, "x"),
    ] {
        let world = World::new();
        let mut peer = proved(&world).await;
        peer.send(&packet).await;
        assert_eq!(peer.take(2).await, ["DISCONNECT 0x82", "END"]);
    }
    let world = World::new();
    let mut peer = proved(&world).await;
    world.gate.step_next(more("six"));
    peer.send(&auth(Reason::ReAuthenticate, METHOD, "five")).await;
    peer.next().await;
    peer.send(&auth(Reason::ReAuthenticate, METHOD, "five")).await;
    assert_eq!(peer.take(2).await, ["DISCONNECT 0x82", "END"]);
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_ends_ends_the_connection() {
    let soon = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() + 60_000;
    let until_ms = Some(u64::try_from(soon).unwrap());
    for (version, told) in [(V5, "DISCONNECT 0xa0"), (V311, "END")] {
        let world = World::new();
        world.gate.admit_as(Ok(Principal { until_ms, ..alice() }));
        let mut peer = world.connect(version, "c").await;
        let asked = Instant::now();
        assert_eq!(peer.next().await, told);
        // The clock of the wall runs on while the test's stands.
        assert!((50..=60).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_above_its_rate_is_served_and_read_later() {
    let rate = Rate::per_second(10).unwrap();
    let meter = Meter { packets: Some(Bucket::new(rate, Instant::now().into_std())), bytes: None };
    let world = World::new();
    world.gate.admit_as(Ok(Principal { allowance: Allowance::of(vec![Arc::new(meter)]), ..alice() }));
    let mut peer = world.open(V311);
    peer.hello(&Hello { client_id: "c", clean: true, keep_alive_s: 1, ..Hello::default() }).await;
    peer.next().await;
    let asked = Instant::now();
    let mut burst = BytesMut::new();
    for id in 1..=40 {
        burst.unsplit(publish(V311, "t", b"x", AtLeastOnce, id, false, &[]));
    }
    peer.send(&burst).await;
    assert_eq!(peer.take(40).await.last().unwrap(), "PUBACK 40");
    assert!(asked.elapsed() < Duration::from_secs(1), "what was read is served");
    // Three seconds of debt, which are longer than the keep alive.
    peer.ping().await;
    let waited = asked.elapsed().as_millis();
    assert!((2900..3200).contains(&waited), "{waited}");
}
