//! Delayed events and transactions, as clients of each protocol ask for them, and over a crash.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::Weft;
use tests::eventmesh_grpc::{GrpcEvent, GrpcPeer};
use tests::raw::Client;
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Property, Publish};

fn asking(topic: &str, data: &str, asks: &[(&str, &str)]) -> Publish {
    let pairs = asks.iter().map(|(name, value)| Property::Pair((*name).to_owned(), (*value).to_owned()));
    pairs.fold(Publish::new(topic, data, 1), Publish::with)
}

async fn post(weft: &Weft, query: &str, data: &str) -> (u16, String) {
    let url = format!("http://{}/events?{query}", weft.http);
    let response = reqwest::Client::new().post(url).body(data.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn reader(weft: &Weft, filter: &str) -> Client {
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap();
    reader.subscribe(&[(filter, 1)]).await;
    reader
}

async fn next(reader: &mut Client) -> (String, String) {
    let message = reader.message().await.unwrap().expect("a message");
    assert!(
        !message.properties.iter().any(|one| matches!(one, Property::Pair(name, _) if name == "delayms")),
        "it asks for nothing any more: {message:?}"
    );
    (message.topic, String::from_utf8(message.payload).unwrap())
}

#[tokio::test]
async fn each_protocol_may_ask_for_a_delay() {
    let weft = Weft::start().await;
    let mut reader = reader(&weft, "later/#").await;
    let (mut five, _) = Client::connect(weft.mqtt, &Connect::v5("five")).await.unwrap();
    let (mut three, _) = Client::connect(weft.mqtt, &Connect::v4("three")).await.unwrap();
    let start = Instant::now();
    three.publish(Publish::new("$delayed/3/later/3", "by topic", 1)).await.unwrap();
    five.publish(asking("later/5", "by property", &[("delayms", "2900")])).await.unwrap();
    assert!(matches!(post(&weft, "topic=later/http&delayms=2800", "by query").await.0, 200..300));
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": "by attribute", "delayms": 2700,
    });
    let url = format!("http://{}/events?topic=later/cloud", weft.http);
    let request = reqwest::Client::new().post(url).header("content-type", "application/cloudevents+json");
    assert!(request.body(event.to_string()).send().await.unwrap().status().is_success());
    five.publish(Publish::new("later/now", "now", 1)).await.unwrap();
    assert_eq!(next(&mut reader).await, ("later/now".into(), "now".into()));
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(next(&mut reader).await);
        assert!(start.elapsed() >= Duration::from_millis(2700), "{got:?} after {:?}", start.elapsed());
    }
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    // Between two of them a busy machine takes longer than their delays differ.
    got.sort();
    let shown: Vec<_> = got.iter().map(|(topic, data)| (topic.as_str(), data.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("later/3", "by topic"),
            ("later/5", "by property"),
            ("later/cloud", "\"by attribute\""),
            ("later/http", "by query"),
        ]
    );
    // Each says in its own way that this is no delay.
    let (status, text) = post(&weft, "topic=later/x&delayms=soon", "x").await;
    assert_eq!((status, text.contains("milliseconds")), (400, true), "{text}");
    let refused = five.publish(asking("later/x", "x", &[("delayms", "soon")])).await.unwrap_err();
    assert!(refused.to_string().contains("153"), "PUBACK 0x99: {refused}");
    let refused = five.publish(Publish::new("$delayed/soon/later/x", "x", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("144"), "PUBACK 0x90: {refused}");
}

#[tokio::test]
async fn a_transaction_goes_on_over_a_crash_and_is_decided_by_any_protocol() {
    let grpc = free_address();
    let config =
        format!("[core.held]\ncheck_s = 1\n[listener.mesh]\nlisten = \"{grpc}\"\nprotocol = \"grpc\"\n");
    let mut weft = Setup::new().config(config).start().await;
    let reader = reader(&weft, "orders/#").await;
    let (mut producer, _) = Client::connect(weft.mqtt, &Connect::v5("producer")).await.unwrap();
    for (topic, data, id) in
        [("orders/a", "first", "t1"), ("orders/b", "second", "t2"), ("orders/c", "third", "t3")]
    {
        let half = asking(topic, data, &[("transaction", "half"), ("transactionid", id)]);
        producer.publish(half).await.unwrap();
    }
    weft.kill().await;
    weft.restart().await;
    drop(reader);
    let mut reader = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap().0;
    // Who began them is asked.
    let (mut producer, _) = Client::connect(weft.mqtt, &Connect::v5("producer")).await.unwrap();
    producer.subscribe(&[("$weft/transactions/orders/#", 1)]).await;
    let question = producer.message().await.unwrap().expect("a question");
    assert!(question.topic.starts_with("$weft/transactions/orders/"), "{question:?}");
    let named = |name: &str| {
        question.properties.iter().any(|one| matches!(one, Property::Pair(known, _) if known == name))
    };
    assert!(named("transactionid") && named("type"), "{question:?}");
    drop(producer);

    assert!(matches!(
        post(&weft, "topic=orders/a&transaction=commit&transactionid=t1", "").await.0,
        200..300
    ));
    assert_eq!(next(&mut reader).await, ("orders/a".into(), "first".into()));
    let mut mesh = GrpcPeer::connect(grpc).await;
    let commit = [
        ("producergroup", "shop"),
        ("uniqueid", "1"),
        ("seqnum", "1"),
        ("ttl", "4000"),
        ("subject", "orders/b"),
        ("transaction", "commit"),
        ("transactionid", "t2"),
    ];
    mesh.publish(&GrpcEvent::from("1", &commit, "decided")).await;
    assert_eq!(next(&mut reader).await, ("orders/b".into(), "second".into()));
    let (mut device, _) = Client::connect(weft.mqtt, &Connect::v5("device")).await.unwrap();
    let rollback = asking("orders/c", "", &[("transaction", "rollback"), ("transactionid", "t3")]);
    device.publish(rollback.clone()).await.unwrap();
    device.publish(rollback).await.unwrap();
    let (status, text) = post(&weft, "topic=orders/c&transaction=commit&transactionid=t3", "").await;
    assert_eq!((status, text.contains("was rolled back")), (400, true), "{text}");
    device.publish(Publish::new("orders/end", "end", 1)).await.unwrap();
    assert_eq!(next(&mut reader).await, ("orders/end".into(), "end".into()));
}
