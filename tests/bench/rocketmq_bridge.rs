//! Weft in front of a real RocketMQ, as Markdown tables: how fast a bridge sends a backlog, and how long an event takes from an
//! MQTT publisher through RocketMQ to an MQTT subscriber.
//!
//!     cargo build --release && WEFT_BIN=target/release/weft RMQ_TIER=4 \
//!         cargo run --release -p weft-tests --example bench_rocketmq_bridge [-- BACKLOG [RATE [SECONDS]]]
//!
//! Needs java, javac and mvn, and the jars of `tests/rocketmq/fetch.sh 5.3.3`.

use std::time::{Duration, Instant};

use tests::raw::Client;
use tests::real::RocketMq;
use tests::weft::Setup;
use tests::wire::{Connect, Publish, Version};
use tests::{Weft, eventually};
use tokio::time::{MissedTickBehavior, interval};

/// Bytes of an event's data.
const SIZE: usize = 256;
/// Connections that publish the backlog.
const PUBLISHERS: u64 = 4;
/// Topics that take turns.
const TOPICS: u64 = 16;

#[tokio::main]
async fn main() {
    let given: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let value = |at: usize, default| given.get(at).copied().unwrap_or(default);
    let rocketmq = RocketMq::start_with("5.3.3", &[]).await;
    let config = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\n[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n\
         [bridge.up]\ncluster = \"main\"\n[[bridge.up.out]]\nfilter = \"meters/#\"\ntopic = \"Meters\"\n\
         [bridge.round]\ncluster = \"main\"\n[[bridge.round.out]]\nfilter = \"round/#\"\ntopic = \"Round\"\n\
         [[bridge.round.in]]\ntopic = \"Round\"\nto = \"back/{{origin}}\"\n",
        rocketmq.name_server
    );
    let weft = Setup::new().config(config).start().await;
    println!(
        "| {} events/s for {} s, {SIZE} B, QoS 1 | p50 ms | p99 ms | longest ms |",
        value(1, 500),
        value(2, 20)
    );
    println!("|---|---|---|---|");
    for (name, topic, filter) in [("route", "stored", "stored/#"), ("bridge out and in", "round", "back/#")] {
        latency(&weft, topic, filter, value(1, 500), 3).await;
        let mut times = latency(&weft, topic, filter, value(1, 500), value(2, 20)).await;
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        println!("| MQTT to RocketMQ to MQTT, {name} | {:.2} | {:.2} | {:.2} |", at(50), at(99), at(100));
    }
    drain(&rocketmq, &weft, value(0, 1_000_000)).await;
}

/// Publishes at a rate; how long each took to the subscriber.
async fn latency(weft: &Weft, topic: &str, filter: &str, rate: u64, seconds: u64) -> Vec<Duration> {
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader")).await.unwrap();
    reader.subscribe(&[(filter, 1)]).await;
    let (writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    let (stream, _) = writer.into_stream();
    let (mut answers, mut writer) = stream.into_split();
    let (start, count) = (Instant::now(), rate * seconds);
    let topic = topic.to_owned();
    let writing = async {
        let mut tick = interval(Duration::from_nanos(1_000_000_000 / rate));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for n in 0..count {
            tick.tick().await;
            let mut data = start.elapsed().as_nanos().to_be_bytes().to_vec();
            data.resize(SIZE, b'x');
            let id = (n % 65_535) as u16 + 1;
            let publish = Publish { id, ..Publish::new(&format!("{topic}/{}", n % TOPICS), data, 1) };
            tokio::io::AsyncWriteExt::write_all(&mut writer, &publish.encode(Version::V5)).await.unwrap();
        }
    };
    let reading = async {
        let mut times = Vec::new();
        while times.len() < count as usize {
            let message = reader.message().await.unwrap().expect("a message");
            let sent = u128::from_be_bytes(message.payload[..16].try_into().unwrap());
            times.push(start.elapsed() - Duration::from_nanos(sent as u64));
        }
        times
    };
    let mut sink = tokio::io::sink();
    let ignoring = tokio::io::copy(&mut answers, &mut sink);
    tokio::select! {
        ((), times) = async { tokio::join!(writing, reading) } => times,
        _ = async { ignoring.await.unwrap(); std::future::pending::<()>().await } => unreachable!(),
    }
}

/// Lets a backlog come up while the broker is away, and times how it goes.
async fn drain(rocketmq: &RocketMq, weft: &Weft, backlog: u64) {
    rocketmq.kill_broker().await;
    weft.until_ready_says(503, "rocketmq/up").await;
    let before = sent(weft).await;
    let start = Instant::now();
    let publishers = (0..PUBLISHERS).map(|number| fill(weft, number, backlog / PUBLISHERS));
    futures_util::future::join_all(publishers).await;
    let filled = start.elapsed();
    rocketmq.restart_broker().await;
    let cpu = weft.cpu();
    let start =
        eventually("the bridge sends", || async { (sent(weft).await > before).then(Instant::now) }).await;
    eventually("the backlog is gone", || async {
        (sent(weft).await >= before + backlog as f64).then_some(())
    })
    .await;
    let took = start.elapsed();
    let rate = |took: Duration| backlog as f64 / took.as_secs_f64();
    println!("\n| backlog of {backlog} events, {SIZE} B | events/s | s | Weft's CPU µs/event | RSS MiB |");
    println!("|---|---|---|---|---|");
    println!(
        "| published while the broker is away | {:.0} | {:.1} | | |",
        rate(filled),
        filled.as_secs_f64()
    );
    let cost = (weft.cpu() - cpu).as_secs_f64() * 1e6 / backlog as f64;
    let memory = weft.memory() >> 20;
    println!(
        "| drained when it is back | {:.0} | {:.1} | {cost:.1} | {memory} |",
        rate(took),
        took.as_secs_f64()
    );
}

/// Publishes `count` events, many at a time.
async fn fill(weft: &Weft, number: u64, count: u64) {
    let (mut client, _) = Client::connect(weft.mqtt, &Connect::v5(&format!("fill-{number}"))).await.unwrap();
    let make = |n| Publish::new(&format!("meters/{number}/{}", n % TOPICS), vec![b'x'; SIZE], 1);
    client.publish_many(count, make).await;
}

/// Events that RocketMQ has from the bridge.
async fn sent(weft: &Weft) -> f64 {
    let (_, text) = weft.get("/metrics").await.expect("metrics");
    let series = "weft_rocketmq_sent_events_total{part=\"rocketmq/up\"} ";
    text.lines().find_map(|line| line.strip_prefix(series)).map_or(0.0, |value| value.parse().unwrap())
}
