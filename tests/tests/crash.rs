//! `kill -9`, with clients that keep to MQTT: what was acknowledged arrives, QoS 2 once, in order; and what a client
//! left half done goes on where it stood.

use std::time::Duration;

use tests::actors::{self, Actor, Publishing, Subscribing};
use tests::cloud::CloudEvent;
use tests::raw::Client;
use tests::sse::{Parser, ServerSentEvent};
use tests::wire::{self, Ack, Connect, Packet, Property, Publish, Version};
use tests::{Ledger, PATIENCE, Promise, Rng, Weft, pause, seed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_twelve_kills() {
    let mut rng = Rng::new(seed(1));
    let mut weft = Weft::start().await;
    let ledger = Ledger::new();
    let readers = [
        ("steady-q2", Version::V5, 2, None),
        ("steady-q1", Version::V4, 1, None),
        ("flapping-q2", Version::V4, 2, Some(rng.draw())),
        ("flapping-q1", Version::V5, 1, Some(rng.draw())),
    ];
    let mut subscribers = Vec::new();
    for (name, version, qos, flap) in readers {
        let plan = Subscribing {
            connect: Connect { version, ..Connect::v5(name) }.persistent(),
            filter: "crash/#".to_owned(),
            qos,
            above: 0,
            flap: flap.map(Rng::new),
        };
        let mut subscriber = actors::subscribe(weft.mqtt, plan, ledger.clone());
        subscriber.ready().await;
        subscribers.push(subscriber);
    }
    let publishers: Vec<Actor> = (0..6).map(|number| publisher(&weft, number, &ledger)).collect();
    for round in 0..12 {
        // Kills come at any moment, and yet there is something to lose.
        ledger.more_acknowledged(if round % 2 == 0 { 90 } else { 0 }).await;
        pause(rng.millis(50, 1500)).await;
        weft.kill().await;
        weft.restart().await;
    }
    for publisher in publishers {
        publisher.finish().await;
    }
    for (name, ..) in readers {
        ledger.complete(name, |_| true).await;
    }
    for subscriber in subscribers {
        subscriber.finish().await;
    }
    assert!(ledger.acknowledged() > 500, "only {} acknowledged: too few to tell", ledger.acknowledged());
    for (name, _, qos, _) in readers {
        let once = |topic: &str| qos == 2 && topic.ends_with("q2");
        ledger
            .check(name, |topic| Some(if once(topic) { Promise::ExactlyOnce } else { Promise::AtLeastOnce }));
    }
}

fn publisher(weft: &Weft, number: u32, ledger: &Ledger) -> Actor {
    let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V4 };
    let plan = Publishing {
        connect: Connect { version, ..Connect::v5(&format!("publisher-{number}")) }.persistent(),
        topics: vec![
            (format!("crash/{number}/q1"), 1),
            (format!("crash/{number}/q2"), 2),
            ("crash/all/q2".to_owned(), 2),
        ],
        window: 20,
        every: Duration::from_millis(4),
    };
    actors::publish(weft.mqtt, plan, ledger.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_away_finds_everything_in_order() {
    let mut weft = Weft::start().await;
    let away = Connect::v4("away").persistent();
    let (mut reader, present) = Client::connect(weft.mqtt, &away).await.unwrap();
    assert!(!present);
    assert_eq!(reader.subscribe(&[("away/+", 2)]).await, [2]);
    reader.disconnect().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..600u32 {
        if n == 300 {
            weft.kill().await;
            weft.restart().await;
            writer = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap().0;
        }
        let qos = 1 + u8::try_from(n % 2).unwrap();
        writer.publish(Publish::new("away/t", n.to_string(), qos)).await.unwrap();
    }
    weft.kill().await;
    weft.restart().await;
    let (mut reader, present) = Client::connect(weft.mqtt, &away).await.unwrap();
    assert!(present, "the session was lost");
    for n in 0..600u32 {
        let message = reader.message().await.unwrap().expect("a message");
        assert_eq!(String::from_utf8(message.payload).unwrap(), n.to_string());
        assert_eq!(message.qos, 1 + u8::try_from(n % 2).unwrap());
    }
    assert!(reader.is_quiet(Duration::from_millis(300)).await, "more than was published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wills_survive_a_kill_and_come_once() {
    let mut weft = Weft::start().await;
    let watcher = Connect::v5("watcher").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &watcher).await.unwrap();
    reader.subscribe(&[("wills/+", 2)]).await;
    let will = |name: &str| Connect::v5(name).will(Publish::new(&format!("wills/{name}"), name, 2));
    let delayed = |name: &str, delay_s: u32| Connect {
        will_properties: vec![Property::Four(0x18, delay_s)],
        ..will(name).persistent()
    };
    let (_lost, _) = Client::connect(weft.mqtt, &will("lost")).await.unwrap();
    let (mut left, _) = Client::connect(weft.mqtt, &will("left")).await.unwrap();
    left.send(&wire::DISCONNECT).await.unwrap();
    assert_eq!(left.closed().await, None);
    let (_late, _) = Client::connect(weft.mqtt, &delayed("late", 2)).await.unwrap();
    let (_back, _) = Client::connect(weft.mqtt, &delayed("back", 600)).await.unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        weft.kill().await;
        weft.restart().await;
        let (_back, present) = Client::connect(weft.mqtt, &delayed("back", 600)).await.unwrap();
        assert!(present);
        (reader, _) = Client::connect(weft.mqtt, &watcher).await.unwrap();
        while got.len() < 2 {
            let message = reader.message().await.unwrap().expect("a will");
            got.push(String::from_utf8(message.payload).unwrap());
        }
        assert!(reader.is_quiet(Duration::from_millis(500)).await, "a will came twice, or one called off");
    }
    assert_eq!(got, ["lost", "late"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_survive_a_kill() {
    let mut weft = Weft::start().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..60u32 {
        let qos = u8::try_from(n % 3).unwrap();
        writer.publish(Publish::new(&format!("kept/{n}"), "old", 1).retained()).await.unwrap();
        writer.publish(Publish::new(&format!("kept/{n}"), format!("new {n}"), qos).retained()).await.unwrap();
    }
    for n in 0..20u32 {
        writer.publish(Publish::new(&format!("kept/{n}"), "", 1).retained()).await.unwrap();
    }
    weft.kill().await;
    weft.restart().await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v4("reader")).await.unwrap();
    reader.send(&wire::subscribe(Version::V4, 1, &[("kept/+", 1)])).await.unwrap();
    let mut found = std::collections::BTreeMap::new();
    while found.len() < 40 {
        let message = reader.message().await.unwrap().expect("a message");
        assert!(message.retain, "retained messages of a new subscription have the flag [MQTT-3.3.1-8]");
        found.insert(message.topic, String::from_utf8(message.payload).unwrap());
    }
    for n in 20..60 {
        assert_eq!(found[&format!("kept/{n}")], format!("new {n}"));
    }
    assert!(reader.is_quiet(Duration::from_millis(300)).await, "a cleared message came back");
}

/// What was answered with 200 is in the stream that is read from the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http_answered_survives_a_kill() {
    let mut rng = Rng::new(seed(4));
    let mut weft = Weft::start().await;
    let ledger = Ledger::new();
    for round in 0..5u64 {
        let publishers: Vec<_> =
            (0..4u64).map(|number| tokio::spawn(post(&weft, number, round, &ledger))).collect();
        ledger.more_acknowledged(25).await;
        pause(rng.millis(0, 500)).await;
        weft.kill().await;
        for publisher in publishers {
            publisher.await.unwrap();
        }
        weft.restart().await;
    }
    let mut stream =
        reqwest::get(format!("http://{}/events?topic=posted/%23&from=0", weft.http)).await.unwrap();
    let sink = ledger.clone();
    let mut parser = Parser::new(move |event: ServerSentEvent| {
        let event = CloudEvent::from_json(event.data.as_bytes());
        sink.received("stream", event.get("wefttopic").unwrap(), &event.data);
    });
    while !ledger.missing("stream", |_| true).is_empty() {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("missing: {:?}", ledger.missing("stream", |_| true)));
        parser.bytes(&chunk.unwrap().expect("the stream goes on"));
    }
    assert!(ledger.acknowledged() > 100, "only {} were answered", ledger.acknowledged());
    ledger.check("stream", |_| Some(Promise::ExactlyOnce));
}

/// Posts one event after the other until Weft is gone.
fn post(weft: &Weft, number: u64, round: u64, ledger: &Ledger) -> impl Future<Output = ()> + Send + use<> {
    let (topic, publisher) = (format!("posted/{number}"), format!("http-{number}"));
    let (url, ledger) = (format!("http://{}/events?topic={topic}", weft.http), ledger.clone());
    async move {
        let client = reqwest::Client::new();
        for n in round * 1_000_000.. {
            let data = ledger.sent(&topic, &publisher, n);
            let answer = client.post(&url).header("content-type", "application/json").body(data).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => ledger.acked(&topic, &publisher, n),
                _ => return,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_of_qos_2_that_is_repeated_after_a_kill_is_not_a_new_one() {
    let mut weft = Weft::start().await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap();
    reader.subscribe(&[("half", 2)]).await;
    let connect = Connect::v4("writer").persistent();
    let (mut writer, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    let mut publish = Publish { id: 9, ..Publish::new("half", "one", 2) };
    writer.send(&publish.encode(Version::V4)).await.unwrap();
    assert_eq!(writer.next().await, Packet::Ack(Ack::PubRec, 9, 0));
    weft.kill().await;
    weft.restart().await;
    let (mut writer, present) = Client::connect(weft.mqtt, &connect).await.unwrap();
    assert!(present);
    publish.dup = true;
    writer.send(&publish.encode(Version::V4)).await.unwrap();
    assert_eq!(writer.next().await, Packet::Ack(Ack::PubRec, 9, 0));
    writer.send(&wire::ack(Ack::PubRel, 9)).await.unwrap();
    assert_eq!(writer.next().await, Packet::Ack(Ack::PubComp, 9, 0));
    weft.kill().await;
    weft.restart().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    let anew = Publish { id: 9, ..Publish::new("half", "two", 2) };
    writer.send(&anew.encode(Version::V4)).await.unwrap();
    assert_eq!(writer.next().await, Packet::Ack(Ack::PubRec, 9, 0));
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap();
    for expected in ["one", "two"] {
        assert_eq!(reader.message().await.unwrap().unwrap().payload, expected.as_bytes());
    }
    assert!(reader.is_quiet(Duration::from_millis(300)).await, "a repeat was taken for a new publish");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_of_qos_2_go_on_where_they_stood() {
    let mut weft = Weft::start().await;
    let connect = Connect::v5("reader").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    reader.subscribe(&[("half", 2)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for text in ["received", "sent", "waiting"] {
        writer.publish(Publish::new("half", text, 2)).await.unwrap();
    }
    let mut ids = Vec::new();
    for text in ["received", "sent", "waiting"] {
        let Packet::Publish(publish) = reader.next().await else { panic!("no PUBLISH") };
        assert_eq!((publish.payload.as_slice(), publish.dup), (text.as_bytes(), false));
        ids.push(publish.id);
    }
    reader.send(&wire::ack(Ack::PubRec, ids[0])).await.unwrap();
    assert_eq!(reader.next().await, Packet::Ack(Ack::PubRel, ids[0], 0));
    weft.kill().await;
    weft.restart().await;
    let (mut reader, present) = Client::connect(weft.mqtt, &connect).await.unwrap();
    assert!(present);
    // [MQTT-4.4.0-1]: the first was received, so it is PUBREL that is repeated; the others under their old ids.
    assert_eq!(reader.next().await, Packet::Ack(Ack::PubRel, ids[0], 0));
    for (id, text) in [(ids[1], "sent"), (ids[2], "waiting")] {
        let Packet::Publish(publish) = reader.next().await else { panic!("no PUBLISH") };
        // DUP may be either: nothing is written before a PUBLISH leaves, so after a kill Weft cannot know whether it did.
        assert_eq!((publish.id, publish.payload.as_slice()), (id, text.as_bytes()));
    }
    reader.send(&wire::ack(Ack::PubComp, ids[0])).await.unwrap();
    for id in &ids[1..] {
        reader.send(&wire::ack(Ack::PubRec, *id)).await.unwrap();
        assert_eq!(reader.next().await, Packet::Ack(Ack::PubRel, *id, 0));
        reader.send(&wire::ack(Ack::PubComp, *id)).await.unwrap();
    }
    assert!(reader.is_quiet(Duration::from_millis(300)).await, "a delivery was repeated after PUBCOMP");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_log_costs_nothing_that_was_acknowledged() {
    let mut weft = Weft::start().await;
    let connect = Connect::v5("reader").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    reader.subscribe(&[("torn", 1)]).await;
    reader.disconnect().await;
    let mut rng = Rng::new(seed(3));
    let mut sent = 0u32;
    for torn in [1u64, 7, 64, 4096, 100_000] {
        let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
        for _ in 0..20 {
            writer.publish(Publish::new("torn", sent.to_string(), 1)).await.unwrap();
            sent += 1;
        }
        weft.kill().await;
        let garbage: Vec<u8> = (0..torn).map(|_| rng.draw().to_le_bytes()[0]).collect();
        tear(&weft, &garbage);
        weft.restart().await;
    }
    let (mut reader, present) = Client::connect(weft.mqtt, &connect).await.unwrap();
    assert!(present);
    for n in 0..sent {
        let message = reader.message().await.unwrap().expect("a message");
        assert_eq!(String::from_utf8(message.payload).unwrap(), n.to_string());
    }
}

/// What a crash in the middle of a write leaves behind: bytes that are no record, behind the last one. A segment is
/// filled with zeros ahead of its records.
fn tear(weft: &Weft, garbage: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let files = walk(&weft.data());
    let segments =
        files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let newest = segments.max().expect("the log has a segment");
    let bytes = std::fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let file = std::fs::OpenOptions::new().write(true).open(newest).unwrap();
    file.write_all_at(garbage, end as u64).unwrap();
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
