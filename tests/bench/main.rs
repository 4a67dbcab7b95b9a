//! Weft, mosquitto, rumqttd and NATS under the same load, each alone, as a Markdown table.
//!
//! `cargo run -p weft-tests --example bench [-- FLAGS]`
//!
//! | flag | meaning |
//! |---|---|
//! | `--runs N` | how often each row runs; the run in the middle counts. Default 3 |
//! | `--only TEXT` | the rows whose name has it |
//! | `--brokers weft,mosquitto,rumqttd,nats` | these alone, in this order |
//! | `--quick` | a twentieth of the load, once: shows that everything works, not how fast |
//!
//! A peer that is not installed is named above and below the table, with what to do. Each run starts a broker anew.

mod brokers;
mod measure;
mod probe;
mod programs;
mod rows;

use crate::brokers::Broker;
use crate::programs::Programs;
use crate::rows::{ROWS, Row};

struct Options {
    runs: usize,
    only: String,
    brokers: Vec<Broker>,
    quick: bool,
}

#[tokio::main]
async fn main() {
    let options = options();
    let files = measure::raise_open_files();
    let (there, missing): (Vec<Broker>, Vec<Broker>) =
        options.brokers.iter().partition(|broker| broker.version().is_some());
    say_missing(&missing);
    let programs = Programs::build().await;
    println!("| run | broker | msgs/s | p50 ms | p99 ms | broker CPU µs/msg | peak RSS MiB | lost |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in ROWS.iter().filter(|row| row.name.contains(&options.only)) {
        let row = Row { load: row.load.fitting(files, options.quick), ..*row };
        for broker in &there {
            for line in measure::lines(&programs, *broker, &row, options.runs).await {
                println!("{line}");
            }
        }
    }
    println!();
    for broker in &there {
        println!("{}: {}", broker.name(), broker.version().unwrap_or_default());
    }
    say_missing(&missing);
}

/// On both outputs: who keeps only the table reads it there.
fn say_missing(missing: &[Broker]) {
    for broker in missing {
        let line = format!("not measured: {} is not installed ({})", broker.name(), broker.hint());
        eprintln!("{line}");
        println!("{line}\n");
    }
}

fn options() -> Options {
    let mut options = Options { runs: 3, only: String::new(), brokers: Broker::ALL.to_vec(), quick: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{flag} needs a value"));
        match flag.as_str() {
            "--runs" => options.runs = value().parse().expect("a number of runs"),
            "--only" => options.only = value(),
            "--brokers" => options.brokers = value().split(',').map(Broker::parse).collect(),
            "--quick" => (options.quick, options.runs) = (true, 1),
            other => panic!("no such flag: {other}; there are --runs, --only, --brokers and --quick"),
        }
    }
    options
}
