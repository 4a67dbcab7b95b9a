//! Subscriptions with filters, as clients of each protocol see them, and over a crash.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tests::PATIENCE;
use tests::Weft;
use tests::raw::Client;
use tests::socket::Socket;
use tests::weft::program;
use tests::wire::{self, Connect, Packet, Property, Publish};
use tokio::process::Command;

const CEL: &str = "data.t > 20 && topic != 'room/attic'";
const CESQL: &str = "type = 'com.example.alarm' AND level IN ('high', 'severe')";

/// Measurements, and two CloudEvents. Of the first `CEL` wants those that are above 20, of the others `CESQL` wants one.
async fn publish(weft: &Weft, qos: u8) {
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for (topic, data) in [
        ("room/hall", r#"{"t":19}"#),
        ("room/attic", r#"{"t":30}"#),
        ("room/hall", r#"{"t":21.5}"#),
        ("room/hall", "broken"),
    ] {
        writer.publish(Publish::new(topic, data, qos)).await.unwrap();
    }
    for level in ["low", "severe"] {
        let mut alarm = Publish::new("room/alarm", level, qos);
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", level),
            ("source", "/room"),
            ("type", "com.example.alarm"),
            ("level", level),
        ] {
            alarm = alarm.with(Property::Pair(name.to_owned(), value.to_owned()));
        }
        writer.publish(alarm).await.unwrap();
    }
    writer.publish(Publish::new("room/end", r#"{"t":99}"#, qos)).await.unwrap();
    writer.disconnect().await;
}

/// SUBSCRIBE of MQTT 5 with these user properties.
fn subscribe(id: u16, filter: &str, qos: u8, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    let pairs = pairs.iter().map(|(name, value)| Property::Pair((*name).to_owned(), (*value).to_owned()));
    body.extend(wire::properties(&pairs.collect::<Vec<_>>()));
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(qos);
    wire::packet(0x82, &body)
}

async fn get(weft: &Weft, query: &[(&str, &str)]) -> reqwest::Response {
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let url = format!("http://{}/events?{}", weft.http, pairs.join("&"));
    reqwest::Client::new().get(url).send().await.unwrap()
}

/// `t` in the data of the next events of a stream.
async fn events(stream: &mut reqwest::Response, count: usize) -> Vec<Value> {
    let mut text = String::new();
    loop {
        let data =
            text.split("\n\n").filter_map(|block| block.lines().find_map(|line| line.strip_prefix("data: ")));
        let found: Vec<Value> = data.filter_map(|data| serde_json::from_str::<Value>(data).ok()).collect();
        if found.len() == count {
            return found.iter().map(|event| event["data"]["t"].clone()).collect();
        }
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await;
        text.push_str(std::str::from_utf8(&chunk.expect("events").unwrap().unwrap()).unwrap());
    }
}

async fn answer(response: reqwest::Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn texts(client: &mut Client, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        let message = client.message().await.unwrap().expect("a message");
        got.push(String::from_utf8(message.payload).unwrap());
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_takes_filters() {
    let weft = Weft::start().await;
    let (mut five, _) = Client::connect(weft.mqtt, &Connect::v5("five")).await.unwrap();
    five.send(&subscribe(1, "room/#", 1, &[("filter-cel", CEL)])).await.unwrap();
    let (mut alarms, _) = Client::connect(weft.mqtt, &Connect::v5("alarms")).await.unwrap();
    alarms.send(&subscribe(1, "#", 2, &[("filter-cesql", CESQL)])).await.unwrap();
    for client in [&mut five, &mut alarms] {
        assert!(matches!(client.next().await, Packet::SubAck(_, codes) if codes[0] < 3));
    }
    let mut socket = Socket::connect(weft.http, "").await.unwrap();
    socket.ask("weft.subscribe", json!({"topic": "room/+", "filter": {"cel": CEL}})).await;
    let answer: Value = serde_json::from_str(&socket.text().await).unwrap();
    assert_eq!(answer["data"]["topics"][0]["guarantee"], 1, "{answer}");
    let mut stream = get(&weft, &[("topic", "room/#"), ("filter-cel", CEL)]).await;
    assert_eq!(stream.status(), 200);
    let shell = Command::new(program())
        .args([
            "sub",
            "room/#",
            "--filter-cel",
            CEL,
            "--from",
            "all",
            "--count",
            "4",
            "--addr",
            &weft.mqtt.to_string(),
        ])
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for qos in [1, 0] {
        publish(&weft, qos).await;
        let wanted = [r#"{"t":21.5}"#, r#"{"t":99}"#];
        assert_eq!(texts(&mut five, 2).await, wanted, "MQTT 5, QoS {qos}");
        assert_eq!(texts(&mut alarms, 1).await, ["severe"], "CESQL, QoS {qos}");
        for wanted in [json!(21.5), json!(99)] {
            let event: Value = serde_json::from_str(&socket.text().await).unwrap();
            assert_eq!(event["data"]["t"], wanted, "WebSocket, QoS {qos}");
        }
        assert_eq!(events(&mut stream, 2).await, [json!(21.5), json!(99)], "HTTP, QoS {qos}");
        if qos == 1 {
            publish(&weft, 1).await;
            texts(&mut five, 2).await;
            texts(&mut alarms, 1).await;
            for _ in 0..2 {
                socket.text().await;
            }
            events(&mut stream, 2).await;
        }
    }
    let output = shell.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [r#"{"t":21.5}"#, r#"{"t":99}"#, r#"{"t":21.5}"#, r#"{"t":99}"#]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_filter_is_refused_in_the_words_of_the_protocol() {
    let weft = Weft::start().await;
    let (mut five, _) = Client::connect(weft.mqtt, &Connect::v5("five")).await.unwrap();
    for (id, pairs, reason) in [
        (1, &[("filter-cesql", "type == 'x'")][..], "at character 6: \"==\" is written \"=\" in CESQL"),
        (2, &[("filter-cel", "event.type = 'x'")], "at character 12: \"=\" is written \"==\" in CEL"),
        (
            3,
            &[("filter-cel", "true"), ("filter-cesql", "TRUE")],
            "one filter-cesql or filter-cel for each SUBSCRIBE",
        ),
    ] {
        five.send(&subscribe(id, "room/#", 1, pairs)).await.unwrap();
        // The reason string stands before the codes.
        let frame = five.frame().await;
        assert_eq!((frame[0], frame.last()), (0x90, Some(&0x8f)));
        assert!(String::from_utf8_lossy(&frame).contains(reason), "{}", String::from_utf8_lossy(&frame));
    }
    let (status, problem) =
        answer(get(&weft, &[("topic", "a"), ("filter-cel", "event.type = 'x'")]).await).await;
    assert!(status == 400 && problem.contains("at character 12"), "{status} {problem}");
    let (status, problem) =
        answer(get(&weft, &[("topic", "a"), ("filter-cel", "true"), ("filter-cel", "true")]).await).await;
    assert!(status == 400 && problem.contains("one filter-cesql or filter-cel"), "{status} {problem}");
    let mut socket = Socket::connect(weft.http, "").await.unwrap();
    socket.ask("weft.subscribe", json!({"topic": ["a", "b"], "filter": {"cesql": "LEN(type) = 1"}})).await;
    let answer: Value = serde_json::from_str(&socket.text().await).unwrap();
    for topic in answer["data"]["topics"].as_array().unwrap() {
        assert_eq!(topic["kind"], "malformed", "{answer}");
        assert!(topic["reason"].as_str().unwrap().contains("there is no function LEN"), "{answer}");
    }
    // Nothing was subscribed, and the connections go on.
    publish(&weft, 1).await;
    assert!(five.is_quiet(Duration::from_millis(100)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_keeps_its_filters_over_crashes_and_checkpoints() {
    let mut weft = Weft::start().await;
    let stays = Connect::v5("stays").persistent();
    let (mut client, _) = Client::connect(weft.mqtt, &stays).await.unwrap();
    client.send(&subscribe(1, "room/#", 2, &[("filter-cel", CEL)])).await.unwrap();
    assert!(matches!(client.next().await, Packet::SubAck(..)));
    client.disconnect().await;
    publish(&weft, 2).await;
    weft.kill().await;
    weft.restart().await;
    publish(&weft, 2).await;
    // A stop keeps a checkpoint; the log is not replayed from before it.
    assert!(weft.terminate().await.0.success());
    weft.restart().await;
    publish(&weft, 2).await;
    weft.kill().await;
    weft.restart().await;
    let (mut client, present) = Client::connect(weft.mqtt, &stays).await.unwrap();
    assert!(present);
    let wanted = [r#"{"t":21.5}"#, r#"{"t":99}"#];
    for round in 0..3 {
        assert_eq!(texts(&mut client, 2).await, wanted, "round {round}");
    }
    publish(&weft, 2).await;
    assert_eq!(texts(&mut client, 2).await, wanted);
    assert!(client.is_quiet(Duration::from_millis(100)).await);
}
