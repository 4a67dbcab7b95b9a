//! The driver over a stream in memory, against a hub that answers as the test says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "test code"
)]

mod common;

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use common::*;
use event::hub::{Attach, Close, Closed, Hub as _, Publish};
use event::testing::{Answer, Call};
use event::{ByteLimit, Principal, Reject, RejectKind};
use mqtt::codec::client::{AckKind, Hello};
use mqtt::codec::{FilterOptions, Property, Version};
use mqtt::{DeniedPublish, Options};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use Version::{V5, V311};

const BOTH: [Version; 2] = [V311, V5];

#[tokio::test(start_paused = true)]
async fn publishes_of_each_qos_reach_the_hub_and_are_acknowledged() {
    for version in BOTH {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        peer.publish("a/0", "zero", AtMostOnce, 0).await;
        peer.publish("a/1", "one", AtLeastOnce, 7).await;
        peer.publish("a/2", "two", ExactlyOnce, 8).await;
        assert_eq!(peer.take(2).await, ["PUBACK 7", "PUBREC 8"]);
        peer.ack(AckKind::PubRel, 8).await;
        assert_eq!(peer.next().await, "PUBCOMP 8");
        let shown: Vec<_> = world.hub.published().iter().map(show_publish).collect();
        assert_eq!(
            shown,
            ["AtMostOnce None a/0 zero", "AtLeastOnce None a/1 one", "ExactlyOnce Some(8) a/2 two"]
        );
        let released = world.hub.calls().into_iter().find_map(|call| match call {
            Call::Release { ids, .. } => Some(ids),
            _ => None,
        });
        assert_eq!(released, Some(vec![8]));
    }
}

fn show_publish(publish: &Publish) -> String {
    let event = &publish.event;
    let data = String::from_utf8_lossy(event.data());
    format!("{:?} {:?} {} {data}", publish.guarantee, publish.id, event.topic())
}

#[tokio::test(start_paused = true)]
async fn one_read_is_one_batch_and_acks_wait_for_its_receipt_in_publish_order() {
    for version in BOTH {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        world.hub.answer_next(Answer::Late);
        let mut burst = Vec::new();
        for (id, guarantee) in [(3, AtLeastOnce), (1, ExactlyOnce), (2, AtLeastOnce), (9, AtLeastOnce)] {
            burst.extend_from_slice(&publish(version, "t", b"x", guarantee, id, false, &[]));
        }
        peer.send(&burst).await;
        settle().await;
        peer.publish("t", "y", AtLeastOnce, 4).await;
        // The second batch is kept at once, and still waits for the first.
        peer.silent().await;
        assert_eq!(world.hub.release_late(), 1);
        let acks = peer.take(5).await;
        assert_eq!(acks, ["PUBACK 3", "PUBREC 1", "PUBACK 2", "PUBACK 9", "PUBACK 4"]);
        let batches = world.hub.calls().iter().filter(|call| matches!(call, Call::Publish { .. })).count();
        assert_eq!(batches, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_whose_receipt_never_comes() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    world.hub.answer(Answer::Never);
    peer.publish("t", "x", AtLeastOnce, 1).await;
    peer.publish("t", "x", ExactlyOnce, 2).await;
    peer.silent().await;
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_each_qos_are_sent_and_acknowledged() {
    for version in BOTH {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        peer.subscribe(5, "t/#", ExactlyOnce).await;
        assert_eq!(peer.next().await, "SUBACK 5 [02]");
        let mut other = world.connect(version, "other").await;
        other.publish("t/0", "zero", AtMostOnce, 0).await;
        assert_eq!(peer.next().await, "PUBLISH q0 t/0 \"zero\"");
        other.publish("t/1", "one", AtLeastOnce, 1).await;
        other.publish("t/2", "two", ExactlyOnce, 2).await;
        assert_eq!(peer.take(2).await, ["PUBLISH q1 id=1 t/1 \"one\"", "PUBLISH q2 id=2 t/2 \"two\""]);
        peer.ack(AckKind::PubRec, 2).await;
        assert_eq!(peer.next().await, "PUBREL 2");
        assert_eq!(world.hub.acked("c"), Vec::<u64>::new());
        peer.ack(AckKind::PubComp, 2).await;
        peer.ack(AckKind::PubAck, 1).await;
        peer.ping().await;
        assert_eq!(world.hub.acked("c"), [1, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn pubrel_waits_until_pubrec_is_kept() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    world.hub.deliver("c", event("t", b"x"), ExactlyOnce);
    assert_eq!(peer.next().await, "PUBLISH q2 id=1 t \"x\"");
    world.hub.answer_states(Answer::Late);
    peer.ack(AckKind::PubRec, 1).await;
    peer.silent().await;
    world.hub.release_late();
    assert_eq!(peer.next().await, "PUBREL 1");
}

#[tokio::test(start_paused = true)]
async fn pubcomp_waits_until_pubrel_is_kept() {
    let world = World::new();
    let mut peer = world.connect(V311, "c").await;
    peer.publish("t", "x", ExactlyOnce, 1).await;
    assert_eq!(peer.next().await, "PUBREC 1");
    world.hub.answer_states(Answer::Late);
    peer.ack(AckKind::PubRel, 1).await;
    peer.ack(AckKind::PubRel, 1).await;
    peer.silent().await;
    world.hub.release_late();
    assert_eq!(peer.next().await, "PUBCOMP 1");
    peer.silent().await;
}

#[tokio::test(start_paused = true)]
async fn retained_events_come_behind_suback() {
    for version in BOTH {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        let mut burst = publish(version, "t", b"kept", AtLeastOnce, 1, true, &[]);
        burst.unsplit(subscribe(version, 2, &[("t", options(AtLeastOnce))], &[]));
        peer.send(&burst).await;
        assert_eq!(peer.take(3).await, ["PUBACK 1", "SUBACK 2 [01]", "PUBLISH q1 id=1 retain t \"kept\""]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscribe_waits_for_publishes_before_it_and_holds_back_those_behind_it() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    world.hub.answer_next(Answer::Late);
    let mut burst = publish(V5, "t", b"before", AtMostOnce, 0, false, &[]);
    burst.unsplit(subscribe(V5, 2, &[("t", options(AtMostOnce))], &[]));
    burst.unsplit(publish(V5, "t", b"behind", AtMostOnce, 0, false, &[]));
    peer.send(&burst).await;
    settle().await;
    assert!(!world.hub.calls().iter().any(|call| matches!(call, Call::Subscribe { .. })));
    world.hub.release_late();
    assert_eq!(peer.take(2).await, ["SUBACK 2 [00]", "PUBLISH q0 t \"behind\""]);
}

#[tokio::test(start_paused = true)]
async fn reading_stops_while_a_batch_waits_for_room_and_deliveries_go_on() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    world.hub.answer_next(Answer::NoRoom);
    peer.publish("t", "x", AtLeastOnce, 1).await;
    settle().await;
    peer.publish("t", "y", AtLeastOnce, 2).await;
    world.hub.deliver("c", event("d", b"z"), AtMostOnce);
    assert_eq!(peer.next().await, "PUBLISH q0 d \"z\"");
    assert_eq!(world.hub.published().len(), 1);
    world.hub.make_room();
    assert_eq!(peer.take(2).await, ["PUBACK 1", "PUBACK 2"]);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_refusal_has_its_answer() {
    use RejectKind::{Busy, Closed, Denied, Malformed, Unavailable};
    for (kind, v5, v311) in [
        (Malformed, "PUBACK 1 0x99", "END"),
        (Denied, "PUBACK 1 0x87", "END"),
        (Busy, "PUBACK 1 0x97", "END"),
        (Unavailable, "PUBACK 1 0x83", "END"),
        (Closed, "DISCONNECT 0x8b", "END"),
    ] {
        for (version, expected) in [(V5, v5), (V311, v311)] {
            let world = World::new();
            let mut peer = world.connect(version, "c").await;
            world.hub.answer(Answer::Refused(Reject::new(kind, "no")));
            let asked = Instant::now();
            peer.publish("t", "x", AtLeastOnce, 1).await;
            assert_eq!(peer.next().await, expected, "{kind:?} {version:?}");
            let waited = asked.elapsed() >= Duration::from_secs(1);
            assert_eq!(waited, kind == Busy && version == V311, "{kind:?} {version:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_qos_2_publish_frees_its_id() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    world.hub.answer_next(Answer::Refused(Reject::new(RejectKind::Denied, "no")));
    peer.publish("t", "x", ExactlyOnce, 1).await;
    assert_eq!(peer.next().await, "PUBREC 1 0x87");
    peer.publish("t", "x", ExactlyOnce, 1).await;
    assert_eq!(peer.next().await, "PUBREC 1");
}

#[tokio::test(start_paused = true)]
async fn a_denied_publish_of_3_1_1_is_dropped_if_so_chosen() {
    let world = World::with(Options { denied_publish: DeniedPublish::Drop, ..Options::default() });
    let mut peer = world.connect(V311, "c").await;
    world.hub.answer(Answer::Refused(Reject::new(RejectKind::Denied, "no")));
    peer.publish("t", "x", AtLeastOnce, 1).await;
    assert_eq!(peer.next().await, "PUBACK 1");
}

#[tokio::test(start_paused = true)]
async fn system_topics_are_not_for_clients() {
    for (version, acks) in [(V5, ["PUBACK 1 0x90", "PUBREC 2 0x90"]), (V311, ["PUBACK 1", "PUBREC 2"])] {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        peer.publish("$SYS/x", "x", AtMostOnce, 0).await;
        peer.publish("$SYS/x", "x", AtLeastOnce, 1).await;
        peer.publish("$SYS/x", "x", ExactlyOnce, 2).await;
        assert_eq!(peer.take(2).await, acks, "whatever the hub says");
        assert_eq!(world.hub.published().len(), 3, "the hub refuses them, and tells of it");
    }
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_granted_or_refused_one_by_one() {
    for (version, codes) in [(V5, "[01, 01, 8f, 02]"), (V311, "[01, 01, 80, 02]")] {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        let filters = [
            ("a/+", options(AtLeastOnce)),
            ("$share/g/a", options(AtLeastOnce)),
            ("a/#/b", options(AtLeastOnce)),
            ("b", options(ExactlyOnce)),
        ];
        peer.send(&subscribe(version, 9, &filters, &[])).await;
        assert_eq!(peer.next().await, format!("SUBACK 9 {codes}"));
        world.hub.refuse_subscribe(Some(Reject::new(RejectKind::Denied, "no")));
        peer.subscribe(11, "c", AtMostOnce).await;
        let refused = if version == V5 { "SUBACK 11 [87]" } else { "SUBACK 11 [80]" };
        assert_eq!(peer.next().await, refused);
    }
}

#[tokio::test(start_paused = true)]
async fn unsubscribe_ends_a_subscription() {
    for (version, first, second) in
        [(V5, "UNSUBACK 2 [00, 11]", "UNSUBACK 3 [8f]"), (V311, "UNSUBACK 2 []", "UNSUBACK 3 []")]
    {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        peer.subscribe(1, "t", AtMostOnce).await;
        peer.next().await;
        let mut out = bytes::BytesMut::new();
        let id = mqtt::codec::PacketId::new;
        mqtt::codec::client::unsubscribe(&mut out, version, id(2).unwrap(), &["t", "never"]);
        mqtt::codec::client::unsubscribe(&mut out, version, id(3).unwrap(), &["a#"]);
        peer.send(&out).await;
        assert_eq!(peer.take(2).await, [first, second]);
        peer.publish("t", "x", AtMostOnce, 0).await;
        peer.silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn subscription_options_and_ids_are_passed_on() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    let wish = FilterOptions {
        guarantee: AtMostOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: 2,
    };
    peer.send(&subscribe(V5, 1, &[("t", wish)], &[Property::SubscriptionId(300)])).await;
    peer.next().await;
    peer.publish("t", "own", AtMostOnce, 0).await;
    let mut other = world.connect(V5, "other").await;
    other.send(&publish(V5, "t", b"theirs", AtMostOnce, 0, true, &[])).await;
    assert_eq!(peer.next().await, "PUBLISH q0 retain t \"theirs\" SubscriptionId(300)");
}

#[tokio::test(start_paused = true)]
async fn connack_tells_what_was_agreed() {
    let options = Options {
        keep_alive_max_s: 60,
        session_expiry_max_s: 100,
        inflight_max: NonZeroU16::new(5).unwrap(),
        ..Options::default()
    };
    let world = World::with(options);
    let mut peer = world.open(V5);
    let properties = [Property::SessionExpiry(1000)];
    peer.hello(&Hello { clean: true, properties: &properties, ..Hello::default() }).await;
    let connack = peer.next().await;
    assert!(connack.starts_with("CONNACK 0x00 ReceiveMaximum(5) TopicAliasMaximum(16)"));
    assert!(
        connack.contains("MaximumPacketSize(1048576) SessionExpiry(100) ServerKeepAlive(60)"),
        "{connack}"
    );
    assert!(connack.contains("AssignedClientId(\"auto-"), "{connack}");
}

#[tokio::test(start_paused = true)]
async fn client_ids_that_are_not_allowed_are_refused() {
    for (version, id, clean, expected) in [
        (V311, "", false, "CONNACK 0x02"),
        (V311, "", true, "CONNACK 0x00"),
        (V311, "$bridge/x", true, "CONNACK 0x02"),
        (V5, "$bridge/x", true, "CONNACK 0x85"),
    ] {
        let world = World::new();
        let mut peer = world.open(version);
        peer.hello(&Hello { client_id: id, clean, ..Hello::default() }).await;
        assert_eq!(peer.next().await, expected, "{version:?} {id:?}");
        if expected != "CONNACK 0x00" {
            assert_eq!(peer.next().await, "END");
        }
    }
}

/// As of programs that connect, publish, leave, and connect again under the same name.
#[tokio::test(start_paused = true)]
async fn what_came_before_a_newer_connection_is_published() {
    for version in BOTH {
        let world = World::new();
        let mut older = world.connect(version, "c").await;
        let mut burst = publish(version, "t/0", b"zero", AtMostOnce, 0, false, &[]);
        burst.unsplit(publish(version, "t/1", b"one", AtLeastOnce, 1, false, &[]));
        burst.unsplit(subscribe(version, 2, &[("t", options(AtLeastOnce))], &[]));
        burst.unsplit(publish(version, "t/2", b"two", AtMostOnce, 0, false, &[]));
        older.send(&burst).await;
        // Before the driver has seen a byte.
        let newer = world.hub.attach(Principal::anonymous("c"), Attach::default()).await.unwrap();
        let last = older.next().await;
        assert_eq!(last, if version == V5 { "DISCONNECT 0x8e" } else { "END" });
        let published = world.hub.published();
        let shown: Vec<_> = published.iter().map(|publish| publish.event.topic().as_str()).collect();
        assert_eq!(shown, ["t/0", "t/2"], "the rest is for the newer connection");
        assert!(!world.hub.calls().iter().any(|call| matches!(call, Call::Subscribe { .. })));
        drop(newer);
    }
}

/// A client that sends without end does not keep its connection by that.
#[tokio::test(start_paused = true)]
async fn a_flood_does_not_outlast_a_newer_connection() {
    let world = World::new();
    let mut older = world.connect(V5, "c").await;
    let _newer = world.hub.attach(Principal::anonymous("c"), Attach::default()).await.unwrap();
    let burst = publish(V5, "t", &[0; 50_000], AtMostOnce, 0, false, &[]);
    let flood = async { while older.stream.write_all(&burst).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), flood).await.expect("the stream is closed");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_refuses_to_attach_is_told_in_connack() {
    use RejectKind::{Busy, Closed, Denied, Malformed, Unavailable};
    for (kind, v5, v311) in [
        (Malformed, "CONNACK 0x83", "CONNACK 0x03"),
        (Denied, "CONNACK 0x87", "CONNACK 0x05"),
        (Busy, "CONNACK 0x89", "CONNACK 0x03"),
        (Unavailable, "CONNACK 0x88", "CONNACK 0x03"),
        (Closed, "CONNACK 0x88", "CONNACK 0x03"),
    ] {
        for (version, expected) in [(V5, v5), (V311, v311)] {
            let world = World::new();
            world.hub.refuse_attach(Some(Reject::new(kind, "no")));
            let mut peer = world.open(version);
            peer.hello(&Hello { client_id: "c", clean: true, ..Hello::default() }).await;
            assert_eq!(peer.take(2).await, [expected, "END"], "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn packets_behind_connect_are_taken_without_waiting_for_connack() {
    let world = World::new();
    let mut peer = world.open(V311);
    let mut burst = bytes::BytesMut::new();
    mqtt::codec::client::connect(
        &mut burst,
        V311,
        &Hello { client_id: "c", clean: true, ..Hello::default() },
    );
    burst.unsplit(publish(V311, "t", b"x", AtLeastOnce, 1, false, &[]));
    peer.send(&burst).await;
    assert_eq!(peer.take(2).await, ["CONNACK 0x00", "PUBACK 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_with_both_halves_of_qos_2() {
    for version in BOTH {
        let world = World::new();
        let long = [Property::SessionExpiry(100)];
        let hello = Hello { client_id: "c", properties: &long, ..Hello::default() };
        let mut peer = world.open(version);
        peer.hello(&hello).await;
        assert!(peer.next().await.starts_with("CONNACK 0x00"));
        peer.publish("t", "in", ExactlyOnce, 5).await;
        assert_eq!(peer.next().await, "PUBREC 5");
        for data in [b"a", b"b"] {
            world.hub.deliver("c", event("d", data), ExactlyOnce);
        }
        assert_eq!(peer.take(2).await, ["PUBLISH q2 id=1 d \"a\"", "PUBLISH q2 id=2 d \"b\""]);
        peer.ack(AckKind::PubRec, 1).await;
        assert_eq!(peer.next().await, "PUBREL 1");
        drop(peer);

        let mut peer = world.open(version);
        peer.hello(&hello).await;
        assert!(peer.next().await.starts_with("CONNACK 0x00 present"));
        assert_eq!(peer.take(2).await, ["PUBREL 1", "PUBLISH q2 id=2 dup d \"b\""]);
        peer.publish("t", "in", ExactlyOnce, 5).await;
        assert_eq!(peer.next().await, "PUBREC 5");
        peer.ack(AckKind::PubRel, 5).await;
        peer.ack(AckKind::PubComp, 1).await;
        assert_eq!(peer.next().await, "PUBCOMP 5");
        peer.ping().await;
        assert_eq!(world.hub.published().len(), 1, "the repeat is not published");
        assert_eq!(world.hub.acked("c"), [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_connection_takes_over() {
    for (version, told) in [(V5, vec!["DISCONNECT 0x8e", "END"]), (V311, vec!["END"])] {
        let world = World::new();
        let mut old = world.connect(version, "c").await;
        let mut new = world.connect(version, "c").await;
        assert_eq!(old.take(told.len()).await, told);
        new.ping().await;
    }
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    world.hub.end("c", Closed::Ended);
    assert_eq!(peer.next().await, "DISCONNECT 0x98");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    for version in BOTH {
        let world = World::new();
        let mut peer = world.open(version);
        peer.hello(&Hello { client_id: "c", clean: true, keep_alive_s: 10, ..Hello::default() }).await;
        peer.next().await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(14)).await;
            peer.ping().await;
        }
        let silent = Instant::now();
        if version == V5 {
            assert_eq!(peer.next().await, "DISCONNECT 0x8d");
        }
        assert_eq!(peer.next().await, "END");
        let waited = silent.elapsed();
        assert!(waited >= Duration::from_secs(15) && waited < Duration::from_secs(16), "{waited:?}");
        world
            .hub
            .until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(()))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_is_not_silent() {
    let world = World::new();
    let mut peer = world.open(V5);
    peer.hello(&Hello { client_id: "c", clean: true, keep_alive_s: 10, ..Hello::default() }).await;
    peer.next().await;
    world.hub.answer_next(Answer::NoRoom);
    peer.publish("t", "x", AtLeastOnce, 1).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    world.hub.make_room();
    assert_eq!(peer.next().await, "PUBACK 1");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_connect_is_closed_in_time() {
    for start in [&b""[..], &[0x10], &[0x10, 50, 0, 4, b'M']] {
        let world = World::new();
        let mut peer = world.open(V5);
        peer.send(start).await;
        let opened = Instant::now();
        assert_eq!(peer.next().await, "END");
        assert_eq!(opened.elapsed().as_secs(), 10);
        assert!(world.hub.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_packets_end_the_connection_with_the_reason() {
    let large = [0x30, 0xff, 0xff, 0xff, 0x7f];
    for (packet, reason) in [
        (&[0x36, 5, 0, 1, b'a', 0, 1][..], 0x81),
        (&[0x38, 4, 0, 1, b'a', 0], 0x82),
        (&[0x32, 6, 0, 1, b'a', 0, 0, 0], 0x82),
        (&[0x30, 4, 0, 1, 0xff, 0], 0x81),
        (&[0x30, 4, 0, 1, 0, 0], 0x81),
        (&[0x30, 4, 0, 1, b'#', 0], 0x90),
        (&[0x30, 3, 0, 0, 0], 0x82),
        (&[0x30, 6, 0, 0, 3, 0x23, 0, 1], 0x94),
        (&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0], 0x94),
        (&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 17], 0x94),
        (&large, 0x95),
        (&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], 0x81),
        (&[0x30, 0x84, 0x00, 0, 1, b'a', 0], 0x81),
        (&[0x80, 5, 0, 1, 0, 0, 1], 0x81),
        (&[0x82, 3, 0, 1, 0], 0x82),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 3], 0x82),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0xc0], 0x81),
        (&[0x30, 6, 0, 1, b'a', 2, 0x0b, 1], 0x82),
        (&[0x30, 7, 0, 1, b'a', 3, 0x21, 0, 1], 0x81),
        (&[0x00, 0], 0x81),
        (&[0x20, 2, 0, 0], 0x82),
        (&[0xf0, 0], 0x82),
        (&[0x60, 2, 0, 1], 0x81),
        (&[0x40, 3, 0, 1, 0x55], 0x81),
        (&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 1], 0x82),
    ] {
        let world = World::new();
        let mut healthy = world.connect(V5, "healthy").await;
        let mut peer = world.connect(V5, "c").await;
        peer.publish("t", "before", AtMostOnce, 0).await;
        peer.send(packet).await;
        assert_eq!(peer.take(2).await, [format!("DISCONNECT {reason:#04x}"), "END".into()], "{packet:02x?}");
        assert_eq!(world.hub.published().len(), 1, "what came before is published");
        healthy.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_packets_of_3_1_1_close_the_connection() {
    for packet in [
        &[0x36, 5, 0, 1, b'a', 0, 1][..],
        &[0x30, 3, 0, 1, 0xff],
        &[0x30, 3, 0, 1, b'+'],
        &[0x30, 2, 0, 0],
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x82, 2, 0, 1],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0x04],
        &[0xe0, 1, 0],
        &[0xf0, 0],
        &[0x40, 3, 0, 1, 0],
        &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0],
    ] {
        let world = World::new();
        let mut healthy = world.connect(V311, "healthy").await;
        let mut peer = world.connect(V311, "c").await;
        peer.send(packet).await;
        assert_eq!(peer.next().await, "END", "{packet:02x?}");
        healthy.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_connects_get_what_their_version_has() {
    let v5 = |rest: &[u8]| [&[0x10, 6 + 1 + rest.len() as u8, 0, 4][..], b"MQTT", &[5], rest].concat();
    for (packet, told) in [
        (v5(&[0x01, 0, 0, 0, 0, 0]), vec!["CONNACK 0x81", "END"]),
        (v5(&[0x02, 0, 0, 3, 0x21, 0, 0, 0, 0]), vec!["CONNACK 0x82", "END"]),
        (v5(&[0x02, 0, 0, 5, 0x15, 0, 2, b'S', b'C', 0, 0]), vec!["CONNACK 0x8c", "END"]),
        (v5(&[0x02, 0, 0, 0, 0, 1, 0xff]), vec!["CONNACK 0x81", "END"]),
        ([&[0x10, 12, 0, 4][..], b"MQTT", &[6, 2, 0, 0, 0, 0]].concat(), vec!["CONNACK 0x84", "END"]),
        ([&[0x10, 12, 0, 4][..], b"HTTP", &[4, 2, 0, 0, 0, 0]].concat(), vec!["END"]),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec!["END"]),
        (vec![0xc0, 0], vec!["END"]),
        (vec![0x20, 2, 0, 0], vec!["END"]),
    ] {
        let world = World::new();
        let mut peer = world.open(V5);
        peer.send(&packet).await;
        assert_eq!(peer.take(told.len()).await, told, "{packet:02x?}");
        assert!(world.hub.calls().is_empty());
    }
    let world = World::new();
    let mut peer = world.open(V311);
    peer.send(&[&[0x10, 14, 0, 6][..], b"MQIsdp", &[3, 2, 0, 0, 0, 0]].concat()).await;
    assert_eq!(peer.take(2).await, ["CONNACK 0x01", "END"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_above_the_receive_maximum_is_disconnected() {
    let options = Options { inflight_max: NonZeroU16::new(2).unwrap(), ..Options::default() };
    let world = World::with(options.clone());
    let mut peer = world.connect(V5, "c").await;
    world.hub.answer(Answer::Never);
    for id in 1..=3 {
        peer.publish("t", "x", AtLeastOnce, id).await;
    }
    assert_eq!(peer.next().await, "DISCONNECT 0x93");

    // 3.1.1 has no such limit: the client is read more slowly.
    let world = World::with(options);
    let mut peer = world.connect(V311, "c").await;
    world.hub.answer_next(Answer::Late);
    for id in 1..=3 {
        peer.publish("t", "x", AtLeastOnce, id).await;
    }
    settle().await;
    assert_eq!(world.hub.published().len(), 2);
    world.hub.release_late();
    assert_eq!(peer.take(3).await, ["PUBACK 1", "PUBACK 2", "PUBACK 3"]);
    for id in 1..=5 {
        peer.publish("t", "x", ExactlyOnce, id).await;
    }
    let recs = peer.take(5).await;
    assert_eq!(recs.last().unwrap(), "PUBREC 5", "PUBREL has to be read, so its publishes do not count");
}

#[tokio::test(start_paused = true)]
async fn the_receive_maximum_of_the_client_is_kept() {
    let world = World::new();
    let mut peer = world.open(V5);
    let properties = [Property::ReceiveMaximum(NonZeroU16::new(2).unwrap())];
    peer.hello(&Hello { client_id: "c", clean: true, properties: &properties, ..Hello::default() }).await;
    peer.next().await;
    for data in [b"a", b"b", b"c"] {
        world.hub.deliver("c", event("d", data), AtLeastOnce);
    }
    assert_eq!(peer.take(2).await, ["PUBLISH q1 id=1 d \"a\"", "PUBLISH q1 id=2 d \"b\""]);
    world.hub.deliver("c", event("d", b"0"), AtMostOnce);
    assert_eq!(peer.next().await, "PUBLISH q0 d \"0\"");
    peer.ack(AckKind::PubAck, 2).await;
    assert_eq!(peer.next().await, "PUBLISH q1 id=3 d \"c\"");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_or_too_old_for_a_client_is_left_out_and_done() {
    let world = World::new();
    let mut peer = world.open(V5);
    let properties = [Property::MaximumPacketSize(NonZeroU32::new(64).unwrap())];
    peer.hello(&Hello { client_id: "c", clean: true, properties: &properties, ..Hello::default() }).await;
    peer.next().await;
    world.hub.deliver("c", event("d", &[b'x'; 64]), AtLeastOnce);
    let mut old = event("d", b"old").parts().clone();
    old.expires_ms = 2;
    world.hub.deliver("c", event::Event::new(old), AtLeastOnce);
    world.hub.deliver("c", event("d", b"fits"), AtLeastOnce);
    assert_eq!(peer.next().await, "PUBLISH q1 id=3 d \"fits\"");
    peer.ping().await;
    assert_eq!(world.hub.acked("c"), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn aliases_stand_for_topics() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    let alias = [Property::TopicAlias(3)];
    peer.send(&publish(V5, "long/topic", b"1", AtMostOnce, 0, false, &alias)).await;
    peer.send(&publish(V5, "", b"2", AtMostOnce, 0, false, &alias)).await;
    peer.send(&publish(V5, "other", b"3", AtMostOnce, 0, false, &alias)).await;
    peer.send(&publish(V5, "", b"4", AtMostOnce, 0, false, &alias)).await;
    peer.ping().await;
    let topics: Vec<_> = world.hub.published().iter().map(|one| one.event.topic().to_string()).collect();
    assert_eq!(topics, ["long/topic", "long/topic", "other", "other"]);
    assert!(world.hub.published().iter().all(|one| one.event.meta().is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_will_is_published_unless_the_client_says_goodbye() {
    for version in BOTH {
        for (goodbye, published) in [(None, true), (Some(0), false), (Some(4), version == V5)] {
            let world = World::new();
            let mut peer = world.open(version);
            let will = Some(("last/word", &b"gone"[..], 1, true));
            peer.hello(&Hello { client_id: "c", clean: true, will, ..Hello::default() }).await;
            peer.next().await;
            if let Some(code) = goodbye {
                let mut out = bytes::BytesMut::new();
                mqtt::codec::client::disconnect(&mut out, version, code, &[]);
                peer.send(&out).await;
            }
            peer.stream.shutdown().await.unwrap();
            assert_eq!(peer.next().await, "END");
            let close = world.hub.until(|calls| {
                calls.iter().find_map(|call| match call {
                    Call::Close { how, .. } => Some(*how),
                    _ => None,
                })
            });
            let Close { will, keep } = close.await;
            assert_eq!((will, keep), (published, None), "{version:?} {goodbye:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn publishes_before_a_goodbye_are_published_even_if_there_is_no_room_yet() {
    let world = World::new();
    let mut peer = world.connect(V311, "c").await;
    world.hub.answer_next(Answer::NoRoom);
    let mut burst = publish(V311, "t", b"x", AtMostOnce, 0, false, &[]).to_vec();
    burst.extend_from_slice(&[0xe0, 0]);
    peer.send(&burst).await;
    settle().await;
    assert_eq!(world.hub.log().len(), 0);
    world.hub.deliver("c", event("d", b""), AtMostOnce);
    world.hub.make_room();
    assert_eq!(peer.next().await, "END");
    let calls = world.hub.calls();
    assert!(matches!(calls.last(), Some(Call::Close { how: Close { will: false, .. }, .. })), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn disconnect_can_change_the_session_expiry() {
    let world = World::new();
    let mut peer = world.open(V5);
    let properties = [Property::SessionExpiry(10)];
    peer.hello(&Hello { client_id: "c", properties: &properties, ..Hello::default() }).await;
    peer.next().await;
    let mut out = bytes::BytesMut::new();
    mqtt::codec::client::disconnect(&mut out, V5, 0, &[Property::SessionExpiry(77)]);
    peer.send(&out).await;
    assert_eq!(peer.next().await, "END");
    let calls = world.hub.calls();
    let Some(Call::Close { how, .. }) = calls.last() else { panic!("{calls:?}") };
    assert_eq!((how.will, how.keep), (false, Some(Duration::from_secs(77))));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_takes_little_memory_and_is_closed_in_the_end() {
    let options = Options { output_bytes: ByteLimit::kib(16), ..Options::default() };
    let world = World::with(options);
    let mut peer = world.open_with(V5, 1024);
    peer.hello(&Hello { client_id: "slow", clean: true, ..Hello::default() }).await;
    peer.next().await;
    let mut healthy = world.connect(V5, "healthy").await;
    let started = Instant::now();
    for _ in 0..1000 {
        world.hub.deliver("slow", event("d", &[0; 1000]), AtLeastOnce);
    }
    settle().await;
    healthy.ping().await;
    world.hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
    assert_eq!(started.elapsed().as_secs(), 30);
    // It was given what fits into the output, and no more.
    peer.task.await.unwrap();
    let mut got = peer.input.len();
    while let Ok(read @ 1..) = tokio::io::AsyncReadExt::read_buf(&mut peer.stream, &mut peer.input).await {
        got += read;
    }
    assert!(got <= 1024, "{got}");
    healthy.ping().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_is_open() {
    for (version, told) in [(V5, vec!["PUBACK 1", "DISCONNECT 0x8b", "END"]), (V311, vec!["PUBACK 1", "END"])]
    {
        let world = World::new();
        let mut peer = world.connect(version, "c").await;
        world.hub.answer_next(Answer::Late);
        peer.publish("t", "x", AtLeastOnce, 1).await;
        settle().await;
        world.drain();
        settle().await;
        world.hub.release_late();
        assert_eq!(peer.take(told.len()).await, told);
        peer.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_ever() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    let mut half_open = world.open(V5);
    world.hub.answer(Answer::Never);
    peer.publish("t", "x", AtLeastOnce, 1).await;
    settle().await;
    world.drain();
    assert_eq!(half_open.next().await, "END");
    let asked = Instant::now();
    assert_eq!(peer.take(2).await, ["DISCONNECT 0x8b", "END"]);
    assert_eq!(asked.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn large_payloads_pass_whole() {
    for version in BOTH {
        let world = World::new();
        let mut reader = world.connect(version, "reader").await;
        reader.subscribe(1, "big/#", AtLeastOnce).await;
        reader.next().await;
        let mut writer = world.connect(version, "writer").await;
        for (id, len) in [(1u16, 8_191usize), (2, 8_192), (3, 65_536), (4, 900_000)] {
            let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            writer.send(&publish(version, "big/one", &payload, AtLeastOnce, id, false, &[])).await;
            assert_eq!(writer.next().await, format!("PUBACK {id}"));
            let Some(mqtt::codec::client::ServerPacket::Publish(got)) = reader.packet().await else {
                panic!()
            };
            assert!(got.payload == payload, "{len} bytes");
            reader.ack(AckKind::PubAck, id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_small_publishes_are_few_batches_and_come_in_order() {
    let world = World::new();
    let mut reader = world.connect(V5, "reader").await;
    reader.subscribe(1, "t", AtLeastOnce).await;
    reader.next().await;
    let mut writer = world.connect(V5, "writer").await;
    for round in 0..20u16 {
        let mut burst = Vec::new();
        for id in 1..=100u16 {
            let text = (round * 100 + id - 1).to_string();
            burst.extend_from_slice(&publish(V5, "t", text.as_bytes(), AtLeastOnce, id, false, &[]));
        }
        writer.send(&burst).await;
        for id in 1..=100u16 {
            assert_eq!(writer.next().await, format!("PUBACK {id}"));
            let number = round * 100 + id;
            assert_eq!(reader.next().await, format!("PUBLISH q1 id={number} t \"{}\"", number - 1));
            reader.ack(AckKind::PubAck, number).await;
        }
    }
    let batches = world.hub.calls().iter().filter(|call| matches!(call, Call::Publish { .. })).count();
    assert!(batches < 200, "{batches} batches");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_come_one_by_one_are_the_same_packets() {
    let world = World::new();
    let mut peer = world.connect(V5, "c").await;
    let bytes = publish(V5, "a/b", b"payload", AtLeastOnce, 7, false, &[Property::User("k", "v")]);
    for byte in bytes {
        peer.send(&[byte]).await;
        settle().await;
    }
    assert_eq!(peer.next().await, "PUBACK 7");
}

#[tokio::test(start_paused = true)]
async fn acks_out_of_their_order_are_violations_and_unknown_ones_are_not() {
    for (packets, told) in [
        (vec![(AckKind::PubAck, 9)], "PINGRESP"),
        (vec![(AckKind::PubComp, 9)], "PINGRESP"),
        (vec![(AckKind::PubRec, 9)], "PUBREL 9 0x92"),
        (vec![(AckKind::PubRel, 9)], "PUBCOMP 9 0x92"),
        (vec![(AckKind::PubRec, 1)], "DISCONNECT 0x82"),
        (vec![(AckKind::PubAck, 2)], "DISCONNECT 0x82"),
        (vec![(AckKind::PubComp, 2)], "DISCONNECT 0x82"),
    ] {
        let world = World::new();
        let mut peer = world.connect(V5, "c").await;
        world.hub.deliver("c", event("d", b"1"), AtLeastOnce);
        world.hub.deliver("c", event("d", b"2"), ExactlyOnce);
        peer.take(2).await;
        for (what, id) in &packets {
            peer.ack(*what, *id).await;
        }
        peer.send(&[0xc0, 0]).await;
        assert_eq!(peer.next().await, told, "{packets:?}");
    }
}

#[tokio::test]
async fn the_future_of_a_connection_is_small() {
    let world = World::new();
    let (_near, far) = tokio::io::duplex(64);
    let drain = tokio::sync::watch::channel(false).1;
    let hub = std::sync::Arc::new(world.hub.clone());
    let gate = std::sync::Arc::new(event::access::OpenGate);
    let future = mqtt::serve(far, source(), gate, hub, std::sync::Arc::new(Options::default()), drain);
    let size = size_of_val(&future);
    assert!(size <= 2048, "{size} bytes");
}
