//! Runs a row against a broker, some times, and makes lines of the table of it.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tests::Process;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::brokers::{Broker, Running};
use crate::probe::probe;
use crate::programs::Programs;
use crate::rows::{Load, Row};

/// Takes as many file descriptors as the system allows, for this process and those that it starts; how many that are.
pub(crate) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

/// The lines of a row for one broker.
pub(crate) async fn lines(programs: &Programs, broker: Broker, row: &Row, runs: usize) -> Vec<String> {
    let (name, who) = (row.name, broker.name());
    match row.load {
        Load::Traffic { flags, count } => {
            let flags = format!("{flags} --count {count}");
            let result = middle(programs, broker, runs, "msgs_per_s", &Work::Mqload { flags, slow: 0 }).await;
            vec![result.map_or_else(|why| refused(name, who, &why), |result| traffic(name, who, &result))]
        }
        Load::Storm { flags, count, slow } => {
            let work = |slow| Work::Mqload { flags: format!("{flags} --prefix storm --count {count}"), slow };
            let alone = middle(programs, broker, runs, "p99_us", &work(0)).await;
            let beside = middle(programs, broker, runs, "p99_us", &work(slow)).await;
            let (alone, beside) = match (alone, beside) {
                (Ok(alone), Ok(beside)) => (alone, beside),
                (Err(why), _) | (_, Err(why)) => return vec![refused(name, who, &why)],
            };
            let change = (number(&beside, "p99_us") / number(&alone, "p99_us").max(1.0) - 1.0) * 100.0;
            let with = format!("{name}, beside {slow} slow readers: p99 {change:+.0} %");
            vec![traffic(name, who, &alone), traffic(&with, who, &beside)]
        }
        Load::Connect { count } => {
            let result = middle(programs, broker, runs, "msgs_per_s", &Work::Connect { count }).await;
            vec![result.map_or_else(|why| refused(name, who, &why), |result| traffic(name, who, &result))]
        }
        Load::Idle { count, wanted } => {
            let flags = format!("--mode idle --subs {count}");
            let key = "rss_per_connection_bytes";
            let result = middle(programs, broker, runs, key, &Work::Mqload { flags, slow: 0 }).await;
            let why = format!(" ({count}: `ulimit -Hn` allows no more)");
            let fewer = if count < wanted { why } else { String::new() };
            let name = format!("{name}{fewer}");
            let line = |result: Value| {
                format!("| {name} | {who} | {} B each | | | | {} | |", result[key], result["rss_mib"])
            };
            vec![result.map_or_else(|why| refused(&name, who, &why), line)]
        }
    }
}

/// What is run against a broker.
enum Work {
    Mqload { flags: String, slow: u32 },
    Connect { count: u32 },
}

/// The run in the middle, ordered by `key`; why there is none if one failed: the next would fail as well.
async fn middle(
    programs: &Programs,
    broker: Broker,
    runs: usize,
    key: &str,
    work: &Work,
) -> Result<Value, String> {
    let mut results = Vec::new();
    for _ in 0..runs {
        let mut running = broker.start(programs).await;
        let result = run(programs, &running, work).await;
        running.process.kill().await;
        let result = result?;
        eprintln!("{}: {result}", broker.name());
        results.push(result);
    }
    results.sort_by(|one, other| number(one, key).total_cmp(&number(other, key)));
    let at = results.len() / 2;
    results.into_iter().nth(at).ok_or_else(|| "no run".to_owned())
}

async fn run(programs: &Programs, running: &Running, work: &Work) -> Result<Value, String> {
    let pid = running.process.id().ok_or("the broker has ended")?.to_string();
    let (mut load, mut slow_readers) = match work {
        Work::Mqload { flags, slow } => {
            let address = if flags.contains("--v5") { running.v5 } else { running.v4 };
            probe(address, flags).await.map_err(|why| format!("refused: {why}"))?;
            let slow_readers =
                if *slow > 0 { Some(slow_readers(programs, running, flags, *slow).await) } else { None };
            let mut load = Command::new(&programs.mqload);
            load.args(["--addr", &address.to_string(), "--pid", &pid]).args(flags.split(' '));
            (load, slow_readers)
        }
        Work::Connect { count } => {
            let mut load = Command::new(&programs.clients);
            load.args(["connect", &running.v4.to_string(), &pid, &count.to_string()]);
            (load, None)
        }
    };
    load.stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, load.output()).await;
    if let Some(readers) = &mut slow_readers {
        readers.kill().await;
    }
    let output = output.map_err(|_| format!("failed: not done in {LIMIT:?}"))?.expect("the load runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    eprint!("{complaint}");
    let mut result = serde_json::from_slice::<Value>(&output.stdout)
        .map_err(|_| format!("failed: {}", complaint.lines().next().unwrap_or("no result")))?;
    result["p99_us"] = result["latency_us"]["p99"].clone();
    Ok(result)
}

/// Subscribers to what mqload will publish, who are there when this returns.
async fn slow_readers(programs: &Programs, running: &Running, flags: &str, count: u32) -> Process {
    let qos = if flags.contains("--qos 1") { "1" } else { "0" };
    let mut command = Command::new(&programs.clients);
    command.args(["slow", &running.v4.to_string(), qos, "storm/+", &count.to_string()]);
    let (say, mut said) = mpsc::channel(1);
    let process =
        Process::start("slow readers", command, move |line| say.try_send(line.to_owned()).unwrap_or(()));
    let ready = tokio::time::timeout(Duration::from_secs(20), said.recv()).await;
    assert_eq!(ready.ok().flatten().as_deref(), Some("ready"), "the slow readers subscribe");
    process
}

/// Twice what the slowest of the brokers that get there takes.
const LIMIT: Duration = Duration::from_secs(60);

fn number(result: &Value, key: &str) -> f64 {
    result[key].as_f64().unwrap_or(0.0)
}

fn refused(name: &str, who: &str, why: &str) -> String {
    format!("| {name} | {who} | {why} | | | | | |")
}

fn traffic(name: &str, who: &str, result: &Value) -> String {
    let ms = |quantile: &str| result["latency_us"][quantile].as_f64().unwrap_or(0.0) / 1000.0;
    format!(
        "| {name} | {who} | {} | {:.2} | {:.2} | {:.1} | {} | {} |",
        result["msgs_per_s"],
        ms("p50"),
        ms("p99"),
        number(result, "broker_cpu_us_per_msg"),
        result["broker_peak_rss_mib"],
        result["lost"],
    )
}
