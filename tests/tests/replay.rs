//! Subscriptions that start in the past, as clients of each protocol see them, and over a crash.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tests::PATIENCE;
use tests::Weft;
use tests::raw::Client;
use tests::real::{Tool, needs};
use tests::socket::Socket;
use tests::weft::{Setup, program};
use tests::wire::{self, Connect, Packet, Property, Publish, Version};
use tokio::process::Command;

/// Publishes these numbers under `past/N`.
async fn publish(weft: &Weft, numbers: std::ops::Range<usize>) {
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for number in numbers {
        let topic = format!("past/{}", number % 3);
        writer.publish(Publish::new(&topic, number.to_string(), 2)).await.unwrap();
    }
    writer.disconnect().await;
}

fn number(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// The next messages of a client.
async fn messages(client: &mut Client, count: usize) -> Vec<usize> {
    let mut got = Vec::new();
    while got.len() < count {
        got.push(number(&client.message().await.unwrap().unwrap().payload));
    }
    got
}

/// SUBSCRIBE of MQTT 5 with the user property `replay-from`.
fn subscribe_from(id: u16, filter: &str, qos: u8, from: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    let list = wire::properties(&[Property::Pair("replay-from".to_owned(), from.to_owned())]);
    body.extend(list);
    body.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(qos);
    wire::packet(0x82, &body)
}

/// The first events of a stream: their data, and `weftposition` and `time` of the last.
async fn stream(weft: &Weft, query: &str, last: Option<&str>, count: usize) -> (Vec<usize>, Value) {
    let mut request = reqwest::Client::new().get(format!("http://{}/events?{query}", weft.http));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{query}");
    let (mut text, mut got, mut event) = (String::new(), Vec::new(), Value::Null);
    while got.len() < count {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await;
        text.push_str(std::str::from_utf8(&chunk.expect("events").unwrap().unwrap()).unwrap());
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: "))
                && got.len() < count
            {
                event = serde_json::from_str(data).unwrap();
                got.push(usize::try_from(event["data"].as_u64().unwrap()).unwrap());
            }
        }
    }
    (got, event)
}

async fn over_web_socket(weft: &Weft, from: Value, count: usize) -> Vec<usize> {
    let mut socket = Socket::connect(weft.http, "").await.unwrap();
    socket.ask("weft.subscribe", json!({"topic": "past/#", "from": from})).await;
    let mut got = Vec::new();
    while got.len() < count {
        let event: Value = serde_json::from_str(&socket.text().await).unwrap();
        match event["type"].as_str() {
            Some("weft.subscribed") => assert!(event["data"]["topics"][0]["guarantee"] == 1, "{event}"),
            _ => got.push(usize::try_from(event["data"].as_u64().expect("a number")).unwrap()),
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_starts_in_the_past_and_goes_on_live() {
    let weft = Weft::start().await;
    publish(&weft, 0..100).await;
    let (got, hundredth) = stream(&weft, "topic=past/%23&from=all", None, 100).await;
    assert_eq!(got, (0..100).collect::<Vec<_>>());
    // Times have milliseconds: the events behind it have a later one.
    tests::util::pause(Duration::from_millis(20)).await;
    publish(&weft, 100..200).await;
    let (_, next) = stream(&weft, "topic=past/%23&from=all", None, 101).await;
    let position = hundredth["weftposition"].as_str().unwrap().to_owned();
    let time = next["time"].as_str().unwrap().to_owned();
    let starts = [("all".to_owned(), 0), (position.clone(), 100), (time, 100), ("-1h".to_owned(), 0)];
    for (round, (start, first)) in starts.into_iter().enumerate() {
        let past = 200 + round;
        let expected: Vec<usize> = (first..=past).collect();
        let (mut four, _) = Client::connect(weft.mqtt, &Connect::v4("four")).await.unwrap();
        four.send(&wire::subscribe(Version::V4, 1, &[(&format!("$replay/{start}/past/#"), 1)]))
            .await
            .unwrap();
        let (mut five, _) = Client::connect(weft.mqtt, &Connect::v5("five")).await.unwrap();
        five.send(&subscribe_from(1, "past/#", 2, &start)).await.unwrap();
        assert_eq!(messages(&mut four, past - first).await, expected[..past - first], "3.1.1 from {start}");
        assert_eq!(messages(&mut five, past - first).await, expected[..past - first], "5 from {start}");
        publish(&weft, past..past + 1).await;
        assert_eq!(messages(&mut four, 1).await, [past]);
        assert_eq!(messages(&mut five, 1).await, [past]);
        let query = format!("topic=past/%23&from={start}");
        assert_eq!(stream(&weft, &query, None, expected.len()).await.0, expected, "HTTP from {start}");
        let got = over_web_socket(&weft, json!(start), expected.len()).await;
        assert_eq!(got, expected, "WebSocket from {start}");
        let shell = Command::new(program())
            .args(["sub", "past/#", "--from", &start, "--addr", &weft.mqtt.to_string()])
            .args(["--count", &expected.len().to_string()])
            .stderr(Stdio::null())
            .output();
        let text = String::from_utf8(shell.await.unwrap().stdout).unwrap();
        assert_eq!(
            text.lines().map(|line| number(line.as_bytes())).collect::<Vec<_>>(),
            expected,
            "weft sub"
        );
    }
    let resumed = stream(&weft, "topic=past/%23&from=all", Some(&position), 104).await.0;
    assert_eq!(resumed, (100..204).collect::<Vec<_>>(), "Last-Event-ID counts more than the query");
    let replayed = weft.metric("weft_core_replayed_events_total").await.unwrap();
    assert!(replayed > 2000.0, "{replayed} events were replayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_start_is_refused_with_its_reason_and_the_filter_rules() {
    let weft = Weft::start().await;
    let (mut five, _) = Client::connect(weft.mqtt, &Connect::v5("five")).await.unwrap();
    let wrong = [("$replay/yesterday/a", 1), ("$replay/all", 1), ("$replay/all/$share/g/a", 1), ("a", 1)];
    assert_eq!(five.subscribe(&wrong).await, [0x8f, 0x8f, 0x8f, 1]);
    five.send(&subscribe_from(7, "a", 1, "tomorrow")).await.unwrap();
    let bytes = five.frame().await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("a replay starts at") && text.contains("tomorrow"), "{text}");
    assert_eq!(bytes.last(), Some(&0x8f));
    let (mut four, _) = Client::connect(weft.mqtt, &Connect::v4("four")).await.unwrap();
    assert_eq!(four.subscribe(&[("$replay/x/a", 1), ("$replay/all/a", 1)]).await, [0x80, 1]);
    four.send(&wire::unsubscribe(Version::V4, 9, &["$replay/all/a"])).await.unwrap();
    assert!(matches!(four.next().await, Packet::UnsubAck(9, _)));
    publish(&weft, 0..1).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("other")).await.unwrap();
    writer.publish(Publish::new("a", "x", 1)).await.unwrap();
    assert!(four.is_quiet(Duration::from_millis(300)).await, "the subscription ended");
    let answer = reqwest::get(format!("http://{}/events?topic=a&from=soon", weft.http)).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("a replay starts at"));
}

/// Exactly once, in order, however often Weft is killed on the way, and while others publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_with_its_replay_after_each_crash() {
    let slow = "[core.replay]\nbytes_per_second = \"30 KiB\"\n";
    let mut weft = Setup::new().config(slow).start().await;
    let mut published = 1000;
    publish(&weft, 0..published).await;
    let connect = Connect::v5("reader").persistent();
    let (mut reader, _) = Client::connect(weft.mqtt, &connect).await.unwrap();
    reader.send(&subscribe_from(1, "past/#", 2, "all")).await.unwrap();
    let mut got = messages(&mut reader, 50).await;
    for _ in 0..4 {
        weft.kill().await;
        let receiver = reader.receiver();
        weft.restart().await;
        publish(&weft, published..published + 30).await;
        published += 30;
        let (again, present) = Client::connect(weft.mqtt, &connect).await.unwrap();
        assert!(present);
        reader = again.with_receiver(receiver);
        got.extend(messages(&mut reader, 150).await);
    }
    let left = published - got.len();
    got.extend(messages(&mut reader, left).await);
    let wrong = got.iter().enumerate().find(|(at, number)| at != *number);
    assert_eq!(wrong, None, "place and number, of {}", got.len());
    publish(&weft, published..published + 1).await;
    assert_eq!(messages(&mut reader, 1).await, [published]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_sub_reads_the_past() {
    if !needs(&[Tool::Mosquitto]) {
        return;
    }
    let weft = Weft::start().await;
    publish(&weft, 0..500).await;
    let port = weft.mqtt.port().to_string();
    for arguments in [
        vec!["-q", "1", "-t", "$replay/all/past/#"],
        vec!["-V", "5", "-q", "2", "-t", "past/#", "-D", "subscribe", "user-property", "replay-from", "-1h"],
    ] {
        let shell = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-C", "500", "-W", "20"])
            .args(&arguments)
            .output();
        let text = String::from_utf8(shell.await.unwrap().stdout).unwrap();
        let got: Vec<usize> = text.lines().map(|line| number(line.as_bytes())).collect();
        assert_eq!(got, (0..500).collect::<Vec<_>>(), "{arguments:?}");
    }
}
