//! Topic names and filters (MQTT 5 §4.7, MQTT 3.1.1 §4.7).

use tests::wire::{self, Publish};

use crate::peer::{BOTH, Peer, V4, V5, name};

#[tokio::test]
async fn mqtt_4_7_1_1_a_number_sign_is_the_whole_last_level() {
    refused(&["a#", "a/b#", "#/a", "a/#/b", "##", "a/##"]).await;
}

#[tokio::test]
async fn mqtt_4_7_1_2_a_plus_is_a_whole_level() {
    refused(&["a+", "+a", "a/b+/c", "++", "a/+b"]).await;
    granted(&["+", "+/+", "/+", "+/a/+", "a/+/#"]).await;
}

async fn refused(filters: &[&str]) {
    for (version, code) in [(V4, "80"), (V5, "8f")] {
        for filter in filters {
            let mut peer = Peer::new(version).await;
            peer.send(&wire::subscribe(version, 1, &[(filter, 0)])).await;
            peer.says(&format!("SUBACK 1 [{code}]")).await;
        }
    }
}

async fn granted(filters: &[&str]) {
    for version in BOTH {
        for filter in filters {
            let mut peer = Peer::new(version).await;
            peer.send(&wire::subscribe(version, 1, &[(filter, 0)])).await;
            // Retained messages of other tests may follow.
            peer.says("SUBACK 1 [00]").await;
        }
    }
}

#[tokio::test]
async fn mqtt_4_7_1_2_what_filters_match() {
    let matches = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "sport/tennis", true),
        ("sport", "sport/", false),
        ("sport//+", "sport//a", true),
        ("sport/+/a", "sport//a", true),
    ];
    for (filter, topic, expected) in matches {
        let root = name();
        let mut peer = Peer::new(V5).await;
        peer.subscribe(&format!("{root}/{filter}"), 0).await;
        peer.subscribe(&format!("{root}-end"), 0).await;
        peer.publish(Publish::new(&format!("{root}/{topic}"), "x", 0)).await;
        peer.publish(Publish::new(&format!("{root}-end"), "end", 0)).await;
        let first = peer.next().await;
        let found = first == format!("PUBLISH q0 {root}/{topic} x");
        assert_eq!(found, expected, "{filter} and {topic}: {first}");
    }
}

#[tokio::test]
async fn mqtt_4_7_2_1_wildcards_do_not_match_dollar_topics() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        for filter in ["#", "+/#", "+/broker/#"] {
            peer.send(&wire::subscribe(version, 1, &[(filter, 0)])).await;
        }
        // Who names the first level gets it.
        let topic = format!("${}/a", name());
        let mut named = Peer::new(version).await;
        named.subscribe(&topic.replace("/a", "/#"), 1).await;
        let mut writer = Peer::new(version).await;
        writer.kept(Publish::new(&topic, "x", 1)).await;
        named.says(&format!("PUBLISH q1 {topic} x")).await;
        let own = name();
        writer.kept(Publish::new(&own, "end", 1)).await;
        loop {
            let packet = peer.next().await;
            assert!(!packet.contains(" $"), "{packet}");
            if packet.contains(&own) {
                break;
            }
        }
        // What belongs to the server is refused, and nobody is harmed by trying.
        let answer = if version == V4 { "PUBACK 1" } else { "PUBACK 1 0x90" };
        writer.publish(Publish { id: 1, ..Publish::new("$SYS/a", "x", 1) }).await;
        writer.says(answer).await;
    }
}

#[tokio::test]
async fn mqtt_4_7_3_1_filters_have_at_least_one_character() {
    for version in BOTH {
        let mut peer = Peer::new(version).await;
        peer.send(&wire::subscribe(version, 1, &[("", 0)])).await;
        let answer = peer.next().await;
        let expected = ["SUBACK 1 [80]", "SUBACK 1 [8f]", "DISCONNECT 0x82", "DISCONNECT 0x81", "END"];
        assert!(expected.contains(&&*answer), "{answer}");
    }
    granted(&["/", " ", "a//b"]).await;
}

#[tokio::test]
async fn mqtt_4_7_3_3_topics_of_65_535_bytes_work() {
    let mut weft = crate::peer::own_weft("[mqtt]\nmax_packet_bytes = \"1 MiB\"\n").await;
    for version in BOTH {
        let topic = "x".repeat(65_535);
        let (mut peer, _) = Peer::connect_at(weft.mqtt, &crate::peer::hello(version, "long")).await;
        peer.subscribe(&topic, 0).await;
        peer.publish(Publish::new(&topic, "data", 0)).await;
        assert_eq!(peer.message().await.topic, topic);
    }
    assert!(weft.ended().is_none());
}

#[tokio::test]
async fn mqtt_4_7_3_4_topics_are_compared_byte_for_byte() {
    for version in BOTH {
        let root = name();
        let mut peer = Peer::new(version).await;
        // Composed and decomposed ü; upper and lower case; trailing space and slash.
        peer.subscribe(&format!("{root}/\u{fc}"), 0).await;
        for other in ["u\u{308}", "\u{dc}", "\u{fc} ", "\u{fc}/", "/\u{fc}"] {
            peer.publish(Publish::new(&format!("{root}/{other}"), "no", 0)).await;
        }
        peer.publish(Publish::new(&format!("{root}/\u{fc}"), "yes", 0)).await;
        peer.says(&format!("PUBLISH q0 {root}/\u{fc} yes")).await;
    }
}
