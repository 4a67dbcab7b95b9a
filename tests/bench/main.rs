//! Weft, mosquitto and rumqttd under the same load, each alone, as a Markdown table.
//!
//! `cargo run -p weft-tests --example bench [-- [--runs N] [--only ROW] [--brokers weft,mosquitto,rumqttd]]`
//!
//! Builds Weft and rumqttd in release, and the load from `../shared/bench/mqload` (or `MQLOAD`, a program). Each row
//! starts a broker anew; of N runs (default 3) the one with the middle rate counts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tests::util::free_address;
use tests::weft::root;
use tests::{Process, eventually};
use tokio::net::TcpStream;
use tokio::process::Command;

/// A line of the table: its name and the flags of mqload.
const ROWS: [(&str, &str); 8] = [
    ("QoS 0", "--mode pair --qos 0 --count 100000"),
    ("QoS 1", "--mode pair --qos 1 --count 100000"),
    ("QoS 2", "--mode pair --qos 2 --count 20000"),
    ("QoS 1, MQTT 5", "--mode pair --qos 1 --v5 --count 100000"),
    ("fan-out 1 to 50", "--mode fan --pubs 1 --subs 50 --count 20000"),
    ("fan-out 1 to 50, QoS 1", "--mode fan --pubs 1 --subs 50 --qos 1 --count 10000"),
    ("calm: 10 × 200/s, QoS 1", "--mode pair --pubs 10 --rate 200 --qos 1 --count 600"),
    ("5000 idle connections", "--mode idle --subs 5000"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Broker {
    Weft,
    Mosquitto,
    Rumqttd,
}

struct Programs {
    mqload: PathBuf,
    weft: PathBuf,
    rumqttd: PathBuf,
}

struct Options {
    runs: usize,
    only: String,
    brokers: Vec<Broker>,
}

#[tokio::main]
async fn main() {
    let options = options();
    let (weft, rumqttd) = brokers().await;
    let programs = Programs { mqload: mqload().await, weft, rumqttd };
    println!("| run | broker | msgs/s | p50 ms | p99 ms | broker CPU µs/msg | peak RSS MiB | lost |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, flags) in ROWS.iter().filter(|(name, _)| name.contains(&options.only)) {
        for broker in &options.brokers {
            println!("{}", row(&programs, *broker, name, flags, options.runs).await);
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        runs: 3,
        only: String::new(),
        brokers: vec![Broker::Weft, Broker::Mosquitto, Broker::Rumqttd],
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| panic!("{flag} needs a value"));
        match flag.as_str() {
            "--runs" => options.runs = value.parse().expect("a number of runs"),
            "--only" => options.only = value,
            "--brokers" => options.brokers = value.split(',').map(Broker::parse).collect(),
            other => panic!("no such flag: {other}; there are --runs, --only and --brokers"),
        }
    }
    options
}

impl Broker {
    fn parse(name: &str) -> Self {
        match name {
            "weft" => Self::Weft,
            "mosquitto" => Self::Mosquitto,
            "rumqttd" => Self::Rumqttd,
            other => panic!("no such broker: {other}; there are weft, mosquitto and rumqttd"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Weft => "Weft, synced to disk",
            Self::Mosquitto => "mosquitto, in memory",
            Self::Rumqttd => "rumqttd, in memory",
        }
    }

    /// Starts it; where it listens for MQTT 3.1.1 and for MQTT 5.
    async fn start(self, programs: &Programs, folder: &Path) -> (Process, SocketAddr, SocketAddr) {
        let (v4, other) = (free_address(), free_address());
        let (command, v5) = match self {
            Self::Weft => {
                let mut command = Command::new(&programs.weft);
                command.arg("--data").arg(folder.join("data"));
                command.args(["--mqtt", &v4.to_string(), "--http", &other.to_string()]);
                (command, v4)
            }
            Self::Mosquitto => {
                let file = folder.join("mosquitto.conf");
                let listener = format!("listener {} {}", v4.port(), v4.ip());
                let conf = "allow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type none\n\
                    max_queued_messages 0\nmax_inflight_messages 0\n";
                std::fs::write(&file, format!("{listener}\n{conf}")).unwrap();
                let mut command = Command::new("mosquitto");
                command.arg("-c").arg(file);
                (command, v4)
            }
            Self::Rumqttd => {
                let mut command = Command::new(&programs.rumqttd);
                command.args([v4.to_string(), other.to_string()]);
                (command, other)
            }
        };
        let process = Process::start(self.name(), command, |_| ());
        for address in [v4, v5] {
            let what = format!("{} listens", self.name());
            let connected = || async { TcpStream::connect(address).await.ok() };
            eventually(Duration::from_secs(20), &what, connected).await;
        }
        (process, v4, v5)
    }
}

async fn row(programs: &Programs, broker: Broker, name: &str, flags: &str, runs: usize) -> String {
    let mut results = Vec::new();
    for _ in 0..runs {
        // On the disk of the checkout: /tmp may be memory, where a sync costs nothing.
        let folder = tempfile::tempdir_in(root().join("target")).unwrap();
        let (mut process, v4, v5) = broker.start(programs, folder.path()).await;
        let address = if flags.contains("--v5") { v5 } else { v4 };
        let mut load = Command::new(&programs.mqload);
        load.args(["--addr", &address.to_string(), "--pid", &process.id().unwrap().to_string()]);
        load.args(flags.split(' ')).stderr(Stdio::inherit());
        let output = load.output().await.expect("mqload runs");
        process.kill().await;
        if let Ok(result) = serde_json::from_slice::<Value>(&output.stdout) {
            eprintln!("{name}: {}: {result}", broker.name());
            results.push(result);
        }
    }
    results.sort_by_key(|result| result["msgs_per_s"].as_u64());
    let Some(result) = results.get(results.len() / 2) else {
        return format!("| {name} | {} | failed | | | | | |", broker.name());
    };
    if let Some(bytes) = result["rss_per_connection_bytes"].as_u64() {
        let rss = &result["rss_mib"];
        return format!("| {name} | {} | {bytes} B each | | | | {rss} | |", broker.name());
    }
    let ms = |quantile: &str| result["latency_us"][quantile].as_f64().unwrap_or(0.0) / 1000.0;
    format!(
        "| {name} | {} | {} | {:.2} | {:.2} | {:.1} | {} | {} |",
        broker.name(),
        result["msgs_per_s"],
        ms("p50"),
        ms("p99"),
        result["broker_cpu_us_per_msg"].as_f64().unwrap_or(0.0),
        result["broker_peak_rss_mib"],
        result["lost"],
    )
}

/// The load: `MQLOAD`, or built from the folder beside the checkout.
async fn mqload() -> PathBuf {
    if let Some(program) = std::env::var_os("MQLOAD") {
        return PathBuf::from(program);
    }
    let source = root().join("../shared/bench/mqload");
    let target = root().join("target/mqload");
    if !source.join("Cargo.toml").exists() {
        eprintln!("mqload is not in {}: set MQLOAD to the program", source.display());
        std::process::exit(1);
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--manifest-path"]).arg(source.join("Cargo.toml"));
    cargo.env("CARGO_TARGET_DIR", &target);
    assert!(cargo.status().await.unwrap().success(), "mqload does not build");
    target.join("release/mqload")
}

/// Weft and rumqttd, from one build.
async fn brokers() -> (PathBuf, PathBuf) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--message-format", "json", "-p", "weft-bridge", "--bin", "weft"]);
    cargo.args(["-p", "weft-tests", "--features", "weft-tests/peers", "--example", "rumqttd_peer"]);
    let output = cargo.current_dir(root()).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(output.status.success(), "the brokers do not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs: Vec<PathBuf> =
        lines.filter_map(|line| Some(PathBuf::from(line["executable"].as_str()?))).collect();
    let named = |name: &str| {
        let program = programs.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name));
        program.expect("cargo names the program").clone()
    };
    (named("weft"), named("rumqttd_peer"))
}
