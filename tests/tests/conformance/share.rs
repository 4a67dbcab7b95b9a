//! Shared subscriptions (MQTT 5 §4.8.2). Clients of MQTT 3.1.1 may use them as well.

use tests::wire::{self, Ack, Publish};

use crate::peer::{BOTH, Peer, V4, V5, hello, name};

/// The filter of a share of `topic` for tests with one share.
fn share(topic: &str) -> String {
    format!("$share/{topic}/{topic}")
}

#[tokio::test]
async fn mqtt_4_8_2_1_and_2_a_share_has_a_name_without_wildcards_and_a_filter() {
    let mut peer = Peer::new(V5).await;
    for wrong in [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/g#/a",
        "$share/g+/a",
    ] {
        peer.send(&wire::subscribe(V5, 1, &[(wrong, 0)])).await;
        let answer = peer.next().await;
        let refused = ["SUBACK 1 [8f]", "DISCONNECT 0x82", "DISCONNECT 0x8f"].contains(&&*answer);
        // "$share" alone is a filter like any other that begins with "$".
        assert!(refused || (wrong == "$share" && answer == "SUBACK 1 [00]"), "{wrong}: {answer}");
    }
    let topic = name();
    peer.send(&wire::subscribe(V5, 1, &[(&format!("$share/{topic}/+/#"), 1)])).await;
    peer.says("SUBACK 1 [01]").await;
}

#[tokio::test]
async fn each_message_goes_to_one_member_and_to_each_share() {
    for version in BOTH {
        let topic = name();
        let (one, two) = (format!("$share/{topic}-1/{topic}"), format!("$share/{topic}-2/+/#"));
        let mut members = [Peer::new(version).await, Peer::new(version).await];
        for member in &mut members {
            member.subscribe(&one, 0).await;
        }
        let mut other = Peer::new(version).await;
        other.subscribe(&two.replace("+/#", &topic), 0).await;
        let mut plain = Peer::new(version).await;
        plain.subscribe(&topic, 0).await;
        let mut writer = Peer::new(version).await;
        for n in ["0", "1", "2", "3"] {
            writer.kept(Publish::new(&topic, n, 1)).await;
            plain.says(&format!("PUBLISH q0 {topic} {n}")).await;
            other.says(&format!("PUBLISH q0 {topic} {n}")).await;
        }
        for (member, mine) in members.iter_mut().zip([["0", "2"], ["1", "3"]]) {
            for n in mine {
                member.says(&format!("PUBLISH q0 {topic} {n}")).await;
            }
            member.ping().await;
        }
    }
}

#[tokio::test]
async fn a_client_may_have_a_share_and_a_subscription_of_its_own() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.subscribe_as(3, &topic, 0).await;
    peer.subscribe_as(4, &share(&topic), 0).await;
    peer.kept(Publish::new(&topic, "x", 1)).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        peer.says(&format!("PUBLISH q0 {topic} x")).await;
        ids.extend(peer.properties.iter().map(|property| format!("{property:?}")));
    }
    ids.sort();
    assert_eq!(ids, ["Variable(11, 3)", "Variable(11, 4)"]);
    peer.send(&wire::unsubscribe(V5, 2, &[&share(&topic), &share(&topic)])).await;
    peer.says("UNSUBACK 2 [00, 11]").await;
    peer.kept(Publish::new(&topic, "y", 1)).await;
    peer.says(&format!("PUBLISH q0 {topic} y")).await;
    peer.ping().await;
}

#[tokio::test]
async fn retained_messages_do_not_come_with_a_share() {
    let topic = name();
    let mut peer = Peer::new(V5).await;
    peer.kept(Publish::new(&topic, "old", 1).retained()).await;
    peer.subscribe(&share(&topic), 1).await;
    peer.ping().await;
}

#[tokio::test]
async fn mqtt_4_8_2_3_the_granted_qos_holds_in_a_share() {
    for granted in 0..3u8 {
        for published in 0..3u8 {
            let topic = name();
            let mut member = Peer::new(V5).await;
            member.subscribe(&share(&topic), granted).await;
            let mut writer = Peer::new(V5).await;
            writer.publish(Publish { id: 1, ..Publish::new(&topic, "x", published) }).await;
            member.says(&format!("PUBLISH q{} {topic} x", granted.min(published))).await;
        }
    }
}

#[tokio::test]
async fn mqtt_4_8_2_4_what_was_sent_to_a_qos_2_member_is_finished_with_it() {
    let (topic, client) = (name(), name());
    let mut member = Peer::connect(&hello(V5, &client).persistent()).await;
    member.subscribe(&share(&topic), 2).await;
    let mut writer = Peer::new(V5).await;
    for n in 1..=2 {
        writer.publish(Publish { id: n, ..Publish::new(&topic, n.to_string(), 2) }).await;
        writer.says(&format!("PUBREC {n}")).await;
        member.says(&format!("PUBLISH q2 {topic} {n}")).await;
        if n == 1 {
            let id = member.id;
            member.ack(Ack::PubRec, id).await;
            member.says(&format!("PUBREL {id}")).await;
        }
    }
    let mut other = Peer::new(V5).await;
    other.subscribe(&share(&topic), 2).await;
    drop(member);
    let mut member = Peer::connect(&hello(V5, &client).persistent()).await;
    let again = [member.next().await, member.next().await];
    assert!(again[0].starts_with("PUBREL ") && again[1] == format!("PUBLISH q2 dup {topic} 2"), "{again:?}");
    other.ping().await;
}

#[tokio::test]
async fn mqtt_4_8_2_5_and_goes_to_nobody_else_when_its_session_ends() {
    let topic = name();
    let mut member = Peer::new(V5).await;
    member.subscribe(&share(&topic), 2).await;
    let mut writer = Peer::new(V5).await;
    writer.publish(Publish { id: 1, ..Publish::new(&topic, "sent", 2) }).await;
    writer.says("PUBREC 1").await;
    member.says(&format!("PUBLISH q2 {topic} sent")).await;
    let mut other = Peer::new(V5).await;
    other.subscribe(&share(&topic), 2).await;
    drop(member);
    // The end of the member is seen when the next message passes it by.
    for n in 2..6 {
        writer.kept(Publish::new(&topic, n.to_string(), 1)).await;
    }
    let mut got = Vec::new();
    while !got.iter().any(|text: &String| text.ends_with(" 5")) {
        got.push(other.next().await);
    }
    assert!(!got.iter().any(|text| text.ends_with("sent")), "{got:?}");
}

#[tokio::test]
async fn mqtt_4_8_2_6_what_a_member_refuses_goes_to_nobody_else() {
    let topic = name();
    let mut member = Peer::new(V5).await;
    member.subscribe(&share(&topic), 2).await;
    let mut writer = Peer::new(V5).await;
    for (qos, kind) in [(1, 0x40), (2, 0x50)] {
        writer.publish(Publish { id: 1, ..Publish::new(&topic, "bad", qos) }).await;
        member.says(&format!("PUBLISH q{qos} {topic} bad")).await;
        let [high, low] = member.id.to_be_bytes();
        member.send(&wire::packet(kind, &[high, low, 0x83])).await;
        member.ping().await;
    }
    let mut other = Peer::new(V5).await;
    other.subscribe(&share(&topic), 2).await;
    drop(member);
    other.quiet_for(100).await;
}

#[tokio::test]
async fn what_a_member_that_leaves_did_not_acknowledge_goes_to_another() {
    for version in BOTH {
        let topic = name();
        let mut leaver = Peer::new(version).await;
        leaver.subscribe(&share(&topic), 1).await;
        let mut writer = Peer::new(V4).await;
        for n in ["1", "2", "3"] {
            writer.kept(Publish::new(&topic, n, 1)).await;
            leaver.says(&format!("PUBLISH q1 {topic} {n}")).await;
            if n == "1" {
                let id = leaver.id;
                leaver.ack(Ack::PubAck, id).await;
            }
        }
        leaver.ping().await;
        let mut other = Peer::new(version).await;
        other.subscribe(&share(&topic), 1).await;
        drop(leaver);
        for n in ["2", "3"] {
            other.says(&format!("PUBLISH q1 {topic} {n}")).await;
        }
    }
}
