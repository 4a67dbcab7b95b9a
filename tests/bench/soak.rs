//! A long run under load with `kill -9` every so often: what was acknowledged arrives, QoS 2 once, in order, and memory stays flat.
//!
//! `cargo run --release -p weft-tests --example soak [-- FLAGS]`
//!
//! | flag | meaning |
//! |---|---|
//! | `--minutes N` | how long. Default 30 |
//! | `--kill-seconds N` | time between two kills. Default 20 |
//! | `--publishers N` | each sends up to 1,000 events a second, 20 unanswered. Default 12 |
//!
//! The books are checked every six kills, for all that was sent since. `WEFT_BIN` names the program; without it the debug
//! build is run.

use std::time::{Duration, Instant};

use tests::actors::{self, Actor, Publishing, Subscribing};
use tests::wire::{Connect, Version};
use tests::{Ledger, Promise, Weft, pause};

const KILLS_A_ROUND: u32 = 6;
const READERS: [(&str, Version, u8); 2] = [("reader-q2", Version::V5, 2), ("reader-q1", Version::V4, 1)];

#[tokio::main]
async fn main() {
    let minutes = flag("--minutes", 30);
    let every = Duration::from_secs(flag("--kill-seconds", 20));
    let publishers = flag("--publishers", 12);
    let start = Instant::now();
    let mut weft = Weft::start().await;
    println!(
        "| minute | kills | acknowledged | arrivals | resident MiB before the last kill | log MiB | ready after a kill, ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (mut round, mut kills, mut acknowledged, mut arrivals) = (0, 0, 0, 0);
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        round += 1;
        let ledger = Ledger::new();
        let mut readers = Vec::new();
        for (name, version, qos) in READERS {
            let connect = Connect { version, ..Connect::v5(name) }.persistent();
            let plan = Subscribing { connect, filter: "soak/#".to_owned(), qos, above: 0, flap: None };
            let mut reader = actors::subscribe(weft.mqtt, plan, ledger.clone());
            reader.ready().await;
            readers.push(reader);
        }
        let writers: Vec<Actor> =
            (0..publishers).map(|number| publisher(&weft, round, number, &ledger)).collect();
        let (mut memory, mut slowest) = (0, Duration::ZERO);
        for _ in 0..KILLS_A_ROUND {
            pause(every).await;
            memory = weft.memory();
            weft.kill().await;
            let down = Instant::now();
            weft.restart().await;
            slowest = slowest.max(down.elapsed());
            kills += 1;
        }
        for writer in writers {
            writer.finish().await;
        }
        for (name, _, qos) in READERS {
            ledger.complete(name, |_| true).await;
            let once = |topic: &str| qos == 2 && topic.ends_with("q2");
            let promise = |topic: &str| if once(topic) { Promise::ExactlyOnce } else { Promise::AtLeastOnce };
            ledger.check(name, |topic| Some(promise(topic)));
            arrivals += ledger.arrivals(name);
        }
        for reader in readers {
            reader.finish().await;
        }
        acknowledged += ledger.acknowledged();
        let log = weft.metric("weft_store_disk_bytes").await.unwrap_or_default();
        println!(
            "| {} | {kills} | {acknowledged} | {arrivals} | {:.1} | {:.0} | {} |",
            start.elapsed().as_secs() / 60,
            memory as f64 / 1048576.0,
            log / 1048576.0,
            slowest.as_millis()
        );
    }
    println!("\nNothing that was acknowledged is lost, QoS 2 came once, all in order.");
}

fn publisher(weft: &Weft, round: u32, number: u64, ledger: &Ledger) -> Actor {
    let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V4 };
    let plan = Publishing {
        connect: Connect { version, ..Connect::v5(&format!("publisher-{number}")) }.persistent(),
        topics: vec![(format!("soak/{round}/{number}/q1"), 1), (format!("soak/{round}/all/q2"), 2)],
        window: 20,
        every: Duration::from_millis(1),
    };
    actors::publish(weft.mqtt, plan, ledger.clone())
}

fn flag(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name).skip(1);
    words.next().map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}
