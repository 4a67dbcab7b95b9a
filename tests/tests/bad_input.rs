//! Wrong input over MQTT, against the real program: each gets the standard's answer, memory stays bounded, and a pair
//! of well-behaved clients does not notice. (Over HTTP and WebSocket: `bad_requests.rs`.)

use std::time::Duration;

use tests::raw::Client;
use tests::weft::Setup;
use tests::wire::{self, Ack, Connect, Packet, Property, Publish, Version, packet};
use tests::{PATIENCE, Weft, Witness, eventually};

// Reason codes of DISCONNECT and SUBACK (MQTT 5 §2.4).
const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;
const TOPIC_INVALID: u8 = 0x90;
const FILTER_INVALID: u8 = 0x8f;
const TOO_LARGE: u8 = 0x95;
const NO_SHARED: u8 = 0x9e;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_packet_ends_the_connection_that_sent_it() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let text = |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
    let publish = |topic: &[u8]| [text(topic), b"\0data".to_vec()].concat();
    let cases: Vec<(&str, Vec<u8>, &[u8])> = vec![
        ("packet type 0", packet(0x00, b""), &[MALFORMED, PROTOCOL]),
        ("QoS 3", packet(0x36, &[&text(b"t")[..], b"\0\x01\0"].concat()), &[MALFORMED]),
        ("DUP at QoS 0", packet(0x38, &publish(b"t")), &[PROTOCOL, MALFORMED]),
        ("packet id 0", packet(0x32, &[&text(b"t")[..], b"\0\0\0"].concat()), &[PROTOCOL, MALFORMED]),
        ("wildcard + in a topic", packet(0x30, &publish(b"a/+")), &[TOPIC_INVALID, MALFORMED]),
        ("wildcard # in a topic", packet(0x30, &publish(b"a/#")), &[TOPIC_INVALID, MALFORMED]),
        ("empty topic", packet(0x30, &publish(b"")), &[PROTOCOL, TOPIC_INVALID]),
        ("topic is not UTF-8", packet(0x30, &publish(b"a\xff\xfe")), &[MALFORMED]),
        ("topic is an UTF-16 surrogate", packet(0x30, &publish(b"\xed\xa0\x80")), &[MALFORMED]),
        ("topic with U+0000", packet(0x30, &publish(b"a\0b")), &[MALFORMED]),
        ("topic longer than the packet", packet(0x30, b"\0\x09a"), &[MALFORMED]),
        ("publish without anything", packet(0x30, b""), &[MALFORMED]),
        ("length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01], &[MALFORMED]),
        ("reserved flags of SUBSCRIBE", packet(0x80, b"\0\x01\0\0\x01a\0"), &[MALFORMED]),
        ("SUBSCRIBE without filter", packet(0x82, b"\0\x01\0"), &[PROTOCOL, MALFORMED]),
        ("SUBSCRIBE with QoS 3", packet(0x82, b"\0\x01\0\0\x01a\x03"), &[PROTOCOL, MALFORMED]),
        ("SUBSCRIBE with packet id 0", packet(0x82, b"\0\0\0\0\x01a\0"), &[PROTOCOL, MALFORMED]),
        ("SUBSCRIBE cut short", packet(0x82, b"\0\x01\0\0\x05a"), &[MALFORMED]),
        ("UNSUBSCRIBE without filter", packet(0xa2, b"\0\x01\0"), &[PROTOCOL, MALFORMED]),
        ("reserved flags of PUBREL", packet(0x60, b"\0\x01"), &[MALFORMED]),
        ("reserved flags of PINGREQ", vec![0xc1, 0], &[MALFORMED]),
        ("PINGREQ with a body", packet(0xc0, b"x"), &[MALFORMED]),
        ("CONNACK from a client", packet(0x20, b"\0\0\0"), &[PROTOCOL, MALFORMED]),
        ("SUBACK from a client", packet(0x90, b"\0\x01\0\0"), &[PROTOCOL, MALFORMED]),
        ("a second CONNECT", Connect::v5("again").encode(), &[PROTOCOL]),
        ("a property that does not exist", packet(0x30, b"\0\x01t\x02\x7f\0"), &[MALFORMED]),
        ("a property of another packet", packet(0x30, b"\0\x01t\x03\x21\0\x01"), &[PROTOCOL, MALFORMED]),
        ("a property twice", packet(0x30, b"\0\x01t\x04\x01\x01\x01\x01"), &[PROTOCOL]),
        ("properties longer than the packet", packet(0x30, b"\0\x01t\x7f"), &[MALFORMED]),
        ("AUTH without a method", packet(0xf0, b""), &[PROTOCOL]),
        ("a topic alias of 0", packet(0x30, b"\0\x01t\x03\x23\0\0"), &[PROTOCOL, 0x94]),
        ("a topic alias without topic", packet(0x30, b"\0\0\x03\x23\0\x01"), &[PROTOCOL, 0x94]),
    ];
    for (name, bytes, codes) in cases {
        let (mut client, _) = Client::connect(weft.mqtt, &Connect::v5("wrong")).await.unwrap();
        client.send(&bytes).await.unwrap();
        let code = client.closed().await;
        assert!(
            code.is_some_and(|code| codes.contains(&code)),
            "{name}: DISCONNECT {code:x?}, not {codes:x?}"
        );
    }
    witness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_packet_of_3_1_1_closes_without_a_word() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("packet type 15", packet(0xf0, b"")),
        ("QoS 3", packet(0x36, b"\0\x01t\0\x01")),
        ("topic is not UTF-8", packet(0x30, b"\0\x02\xc3\x28")),
        ("topic with a wildcard", packet(0x30, b"\0\x03a/#")),
        ("empty topic", packet(0x30, b"\0\0")),
        ("SUBSCRIBE with QoS 3", packet(0x82, b"\0\x01\0\x01a\x03")),
        ("SUBSCRIBE without filter", packet(0x82, b"\0\x01")),
        ("a filter that is none", packet(0x82, b"\0\x01\0\x05a/#/b\0")),
        ("reserved flags of PUBREL", packet(0x60, b"\0\x01")),
        ("bytes behind DISCONNECT's end", packet(0xe0, b"\0")),
    ];
    for (name, bytes) in cases {
        let (mut client, _) = Client::connect(weft.mqtt, &Connect::v4("wrong")).await.unwrap();
        client.send(&bytes).await.unwrap();
        match client.recv().await {
            Ok(None) | Err(_) => {}
            // [MQTT-3.9.3]: a filter may also be refused by its code.
            Ok(Some(Packet::SubAck(_, codes))) if name.contains("filter that") => assert_eq!(codes, [0x80]),
            Ok(Some(other)) => panic!("{name}: {other:?}"),
        }
    }
    witness.finish().await;
}

#[tokio::test]
async fn filters_that_are_none_are_refused_one_by_one_in_mqtt_5() {
    let weft = Weft::start().await;
    let (mut client, _) = Client::connect(weft.mqtt, &Connect::v5("filters")).await.unwrap();
    for wrong in ["a/#/b", "a#", "+a/b", "$share//a", "$share/g"] {
        let filters = [("good/a", 1), (wrong, 1), ("good/b", 0)];
        client.send(&wire::subscribe(Version::V5, 1, &filters)).await.unwrap();
        match client.next().await {
            // A server without shared subscriptions says so before it looks at the rest.
            Packet::SubAck(1, codes) if wrong.starts_with("$share") && codes[1] == NO_SHARED => {}
            Packet::SubAck(1, codes) => assert_eq!(codes, [1, FILTER_INVALID, 0], "{wrong}"),
            Packet::Disconnect(FILTER_INVALID | MALFORMED) => {
                (client, _) = Client::connect(weft.mqtt, &Connect::v5("filters")).await.unwrap();
            }
            other => panic!("{wrong}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn connects_that_are_wrong_are_refused_as_the_standards_say() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let v4 = |name: &[u8], level: u8, flags: u8, rest: &[u8]| {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        packet(0x10, &[&length[..], name, &[level, flags, 0, 60], rest].concat())
    };
    // What is sent, and the code of the CONNACK that may come before the end.
    let cases: Vec<(&str, Vec<u8>, Option<u8>)> = vec![
        ("no MQTT at all", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), None),
        ("zeros", vec![0; 64], None),
        ("PUBLISH before CONNECT", packet(0x30, b"\0\x01tx"), None),
        ("another protocol name", v4(b"MQTX", 4, 2, b"\0\x01c"), None),
        ("level 3", v4(b"MQIsdp", 3, 2, b"\0\x01c"), Some(1)),
        ("level 9", v4(b"MQTT", 9, 2, b"\0\x01c"), Some(1)),
        ("reserved flag", v4(b"MQTT", 4, 3, b"\0\x01c"), None),
        ("will of QoS 3", v4(b"MQTT", 4, 0b0001_1110, b"\0\x01c\0\x01t\0\0"), None),
        ("will flags without will", v4(b"MQTT", 4, 0b0010_0010, b"\0\x01c"), None),
        ("client id is not UTF-8", v4(b"MQTT", 4, 2, b"\0\x01\xff"), None),
        ("no client id and no clean session", v4(b"MQTT", 4, 0, b"\0\0"), Some(2)),
        ("cut short", v4(b"MQTT", 4, 2, b"\0\x09c"), None),
        ("bytes behind it", v4(b"MQTT", 4, 2, b"\0\x01cmore"), None),
    ];
    for (name, bytes, expected) in cases {
        let mut client = Client::open(weft.mqtt, Version::V4).await.unwrap();
        client.send(&bytes).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, client_answer(&mut client)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{name}: neither answered nor closed"));
        assert!(
            answer.is_none_or(|code| code >= 0x80 || Some(code) == expected),
            "{name}: CONNACK {answer:?}"
        );
        assert!(expected.is_none() || answer.is_some(), "{name}: no CONNACK");
    }
    witness.finish().await;
}

/// The code of a CONNACK, read without the strictness of [`wire`]: a server may answer a version that it does not
/// know in MQTT 5.
async fn client_answer(client: &mut Client) -> Option<u8> {
    client.raw_to_end().await.get(3).copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_over_the_limit_is_refused_before_it_is_read() {
    let weft = Setup::new().config("[mqtt]\nmax_packet_bytes = \"64 KiB\"\n").start().await;
    let witness = Witness::start(weft.mqtt).await;
    let before = weft.memory();
    for version in [Version::V4, Version::V5] {
        for _ in 0..20 {
            let connect = Connect { version, ..Connect::v5("large") };
            let (mut client, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
            // 256 MB are announced; Weft must not wait for them.
            client.send(&[0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b't']).await.unwrap();
            let code = client.closed().await;
            assert_eq!(code, (version == Version::V5).then_some(TOO_LARGE));
        }
    }
    let (mut client, _) = Client::connect(weft.mqtt, &Connect::v5("fits")).await.unwrap();
    client.publish(Publish::new("t", vec![7; 60 * 1024], 1)).await.unwrap();
    assert!(weft.memory() < before + (32 << 20), "{} MiB", weft.memory() >> 20);
    witness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_clients_are_let_go() {
    let config = "[mqtt]\nconnect_timeout_ms = 1000\n";
    let weft = Setup::new().config(config).start().await;
    let witness = Witness::start(weft.mqtt).await;
    let mut silent = Vec::new();
    for number in 0..200u32 {
        let mut client = Client::open(weft.mqtt, Version::V5).await.unwrap();
        // Half of them stop in the middle of CONNECT.
        let connect = Connect::v5("half").encode();
        client.send(&connect[..if number.is_multiple_of(2) { 0 } else { 9 }]).await.unwrap();
        silent.push(client);
    }
    for mut client in silent {
        tokio::time::timeout(PATIENCE, client.closed()).await.expect("closed by connect_timeout_ms");
    }
    witness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_falls_silent_is_let_go_and_its_will_published() {
    let weft = Weft::start().await;
    let (mut watcher, _) = Client::connect(weft.mqtt, &Connect::v4("watcher")).await.unwrap();
    watcher.subscribe(&[("wills/+", 1)]).await;
    for (version, code) in [(Version::V4, None), (Version::V5, Some(0x8d))] {
        let will = Publish::new("wills/silent", "gone", 1);
        let connect = Connect { version, ..Connect::v5("silent") }.keep_alive(1).will(will);
        let (mut client, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
        let start = std::time::Instant::now();
        assert_eq!(client.closed().await, code);
        let took = start.elapsed();
        assert!(took > Duration::from_millis(1300), "closed after {took:?}");
        assert_eq!(watcher.message().await.unwrap().unwrap().payload, b"gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_bounded_memory_and_nobody_elses_time() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let mut slow = Vec::new();
    for number in 0..8 {
        let connect = Connect::v5(&format!("slow-{number}"));
        let (mut client, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
        client.subscribe(&[("flood", u8::from(number % 2 == 1))]).await;
        slow.push(client);
    }
    let before = weft.memory();
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    // 128 MiB that nobody reads, half of it for the log.
    let payload = vec![b'x'; 128 * 1024];
    for number in 0..1024u32 {
        let qos = u8::from(number.is_multiple_of(2));
        writer.publish(Publish::new("flood", payload.clone(), qos)).await.unwrap();
    }
    let grown = weft.memory().saturating_sub(before);
    assert!(grown < 128 << 20, "{} MiB more for readers that do not read", grown >> 20);
    witness.finish().await;
    // One of them starts to read: what was acknowledged is there for it.
    let mut reader = slow.remove(1);
    let mut numbered = 0;
    while numbered < 512 {
        let message = reader.message().await.unwrap().expect("a message");
        numbered += u32::from(message.qos == 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_open_publishes_are_a_fault_of_the_client() {
    let weft = Setup::new().config("[mqtt]\ninflight_max = 10\n").start().await;
    let mut client = Client::open(weft.mqtt, Version::V5).await.unwrap();
    client.send(&Connect::v5("greedy").encode()).await.unwrap();
    let Packet::ConnAck { code: 0, properties, .. } = client.next().await else { panic!("no CONNACK") };
    assert!(properties.contains(&Property::Two(wire::RECEIVE_MAXIMUM, 10)), "{properties:?}");
    // Without PUBREL the ids of QoS 2 stay open, whatever was answered.
    for id in 1..=11 {
        let publish = Publish { id, ..Publish::new("t", "x", 2) };
        client.send(&publish.encode(Version::V5)).await.unwrap();
    }
    assert_eq!(client.closed().await, Some(0x93), "Receive Maximum exceeded");
}

#[tokio::test]
async fn an_ack_that_nobody_waits_for_changes_nothing() {
    let weft = Weft::start().await;
    let (mut client, _) = Client::connect(weft.mqtt, &Connect::v4("acks")).await.unwrap();
    client.send(&wire::ack(Ack::PubAck, 4711)).await.unwrap();
    client.send(&wire::ack(Ack::PubComp, 4711)).await.unwrap();
    client.send(&wire::PINGREQ).await.unwrap();
    assert_eq!(client.next().await, Packet::PingResp);
    // [MQTT-4.3.3-13] and §4.4 of 3.1.1: PUBREL is always answered, so that a repeat after a lost PUBCOMP ends.
    client.send(&wire::ack(Ack::PubRel, 4711)).await.unwrap();
    assert_eq!(client.next().await, Packet::Ack(Ack::PubComp, 4711, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_off_anywhere_leave_nothing_behind() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let mut rng = tests::Rng::new(tests::seed(5));
    let mut conversation = Connect::v5("cut").encode();
    conversation.extend(wire::subscribe(Version::V5, 1, &[("cut/#", 2)]));
    for id in 2..20 {
        conversation.extend(Publish { id, ..Publish::new("cut/t", "data", 2) }.encode(Version::V5));
    }
    let open_before = open_files(&weft);
    for _ in 0..300 {
        let mut client = Client::open(weft.mqtt, Version::V5).await.unwrap();
        let end = usize::try_from(rng.within(0..conversation.len() as u64)).unwrap();
        client.send(&conversation[..end]).await.unwrap_or(());
    }
    eventually("all connections are gone", || async { (open_files(&weft) <= open_before + 2).then_some(()) })
        .await;
    witness.finish().await;
}

fn open_files(weft: &Weft) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", weft.id())).unwrap().count()
}
