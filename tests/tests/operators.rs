//! What an operator sees of a running Weft: the topics `$SYS/broker/…`.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::raw::Client;
use tests::weft::Setup;
use tests::wire::{Connect, Publish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_topics_say_what_the_metrics_say() {
    let weft = Setup::new().config("[core]\nsys_interval_s = 1\n").start().await;
    let away = Connect::v5("away").persistent();
    let (mut gone, _) = Client::connect(weft.mqtt, &away).await.unwrap();
    gone.subscribe(&[("a", 1)]).await;
    gone.disconnect().await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..10 {
        writer.publish(Publish::new("a", n.to_string(), 1).retained()).await.unwrap();
    }
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v4("reader")).await.unwrap();
    reader.subscribe(&[("$SYS/broker/#", 0)]).await;
    let mut values = BTreeMap::new();
    let wanted = [
        ("clients/connected", "2"),
        ("clients/disconnected", "1"),
        ("clients/total", "3"),
        ("publish/messages/received", "10"),
        ("publish/bytes/received", "10"),
        ("retained messages/count", "1"),
        ("messages/stored", "11"),
        ("subscriptions/count", "2"),
    ];
    let there = |values: &BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(name, value)| values.get(&format!("$SYS/broker/{name}")).is_some_and(|v| v == value))
    };
    let follow = async {
        while !there(&values) {
            let message = reader.message().await.unwrap().expect("a value");
            assert_eq!(message.qos, 0);
            values.insert(message.topic, String::from_utf8(message.payload).unwrap());
        }
    };
    let followed = tokio::time::timeout(Duration::from_secs(10), follow).await;
    assert!(followed.is_ok(), "{values:#?}");
    for name in ["version", "uptime", "bytes/received", "heap/current", "load/messages/received/15min"] {
        assert!(values.contains_key(&format!("$SYS/broker/{name}")), "{name} is not in {values:#?}");
    }
    assert_eq!(weft.metric("weft_core_sessions_away").await, Some(1.0));
}
