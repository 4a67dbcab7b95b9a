//! Sends to a real RocketMQ: Weft's connector as the store of a route, and the official Java client, with as many events
//! under way, in turns on one broker, as a Markdown table.
//!
//!     cargo run --release -p weft-tests --example bench_rocketmq [-- COUNT [WINDOW]]
//!
//! Needs java, javac and mvn, and the jars of `tests/rocketmq/fetch.sh 5.3.3`. Weft's figures include that its consumer
//! gets every event back, as it does for the subscribers of such a route; the Java client only sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::store::{Append, Entry, Store};
use event::testing::FakeHub;
use event::{ByteLimit, Durability, Event, Health, Parts, TopicName};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rocketmq::{ClusterOptions, Kind, StoreOptions, spawn_store};
use tests::real::RocketMq;
use tokio::sync::watch;

/// Seconds of the wall and of the CPU, for one round.
struct Took {
    wall: f64,
    cpu: f64,
    failed: u64,
}

#[tokio::main]
async fn main() {
    let given: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let (count, window) = (given.first().copied().unwrap_or(100_000), given.get(1).copied().unwrap_or(64));
    let rocketmq = RocketMq::start_with("5.3.3", &[]).await;
    println!("| {count} events, {window} under way | client | events/s | client CPU µs/event | failed |");
    println!("|---|---|---|---|---|");
    for size in [256, 1024] {
        for _ in 0..3 {
            row(size, "Weft", count, &weft(&rocketmq, count, size, window).await);
            row(size, "Java 5.3.3", count, &java(&rocketmq, count, size, window).await);
        }
    }
}

fn row(size: usize, who: &str, count: usize, took: &Took) {
    let (rate, cost) = (count as f64 / took.wall, took.cpu * 1e6 / count as f64);
    println!("| {size} B | {who} | {rate:.0} | {cost:.1} | {} |", took.failed);
}

async fn java(rocketmq: &RocketMq, count: usize, size: usize, window: usize) -> Took {
    let mut command = rocketmq.java("RmqBench");
    command.arg(&rocketmq.name_server).arg("BenchJava");
    let output = command.args([count, size, window].map(|n| n.to_string())).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT ")).expect("a result");
    let figures: Vec<f64> = result.split(' ').map(|figure| figure.parse().unwrap()).collect();
    Took { wall: figures[0], cpu: figures[1], failed: figures[2] as u64 }
}

async fn weft(rocketmq: &RocketMq, count: usize, size: usize, window: usize) -> Took {
    let cluster = ClusterOptions {
        name_servers: vec![rocketmq.name_server.clone()],
        store: StoreOptions { topic: "BenchWeft".into(), ..StoreOptions::default() },
        ..ClusterOptions::default()
    };
    let (store, ends) = event::store::store(ByteLimit::mib(8), 1024);
    let (stop, drain) = watch::channel(false);
    let hub = Arc::new(FakeHub::new());
    let task =
        spawn_store(Kind::RocketMq, "bench", &cluster, ends.appends, hub, &Health::default(), drain).unwrap();
    // To get warm: connections, routes, the topic.
    round(&store, count / 10, size, window).await;
    let (cpu, start) = (cpu(), Instant::now());
    let failed = round(&store, count, size, window).await;
    let took = Took { wall: start.elapsed().as_secs_f64(), cpu: (self::cpu() - cpu).as_secs_f64(), failed };
    stop.send(true).unwrap();
    task.await.unwrap();
    took
}

async fn round(store: &Store, count: usize, size: usize, window: usize) -> u64 {
    let data = Bytes::from(vec![b'x'; size]);
    let (mut open, mut failed) = (FuturesUnordered::new(), 0);
    for number in 0..count {
        if open.len() == window {
            failed += open.next().await.map_or(0, u64::from);
        }
        let event = Event::new(Parts {
            topic: TopicName::parse(format!("bench/{}", number % 64)).unwrap(),
            data: data.clone(),
            stamp: number as u64 + 1,
            received_ms: 1_700_000_000_000,
            expires_ms: 0,
            publisher: "bench".into(),
            meta: None,
        });
        let entry = Entry { event: Some(event), note: Bytes::new() };
        let (append, receipt) = Append::new(vec![entry], Durability::Remote);
        store.append(append).await;
        open.push(async move { receipt.await.whole().is_err() });
    }
    while let Some(wrong) = open.next().await {
        failed += u64::from(wrong);
    }
    failed
}

/// What this process used so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind = stat.rsplit_once(") ").unwrap().1;
    let ticks: u64 = behind.split(' ').skip(11).take(2).map(|figure| figure.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
