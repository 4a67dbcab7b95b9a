//! How fast the log appends, beside a plain file with the same syncs: run by hand, released, on the disk in question.
//!
//! `cargo run --release -p weft-embedded --example append -- [FOLDER] [SECONDS] [PREWRITE]`
//!
//! Both write records of 256 bytes of data and sync after each 1, 10, 100, 200 or 1000 of them. The plain file is
//! the limit: prewritten, one buffer that is ready, one write and one `fdatasync` each. The log gets events, encodes and
//! sums them, feeds them back, and resolves a receipt; one publisher waits for each batch, then two do by turns, so
//! that a batch collects while another syncs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use embedded::{Opened, Options, RealDisk};
use event::store::{Append, Entry, Feed, Store};
use event::{Durability, Event, Health, Parts, TopicName};

const DATA: usize = 256;

struct Row {
    records: u64,
    time: Duration,
    cpu: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("weft-append-{}", std::process::id()));
    let time = Duration::from_secs(arguments.next().map_or(2, |seconds| seconds.parse().unwrap()));
    let mut options = Options::default();
    options.prewrite_bytes = arguments.next().map_or(options.prewrite_bytes, |size| size.parse().unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    println!(
        "{:>12}  {:>24}  {:>24}  {:>24}",
        "records/sync", "plain file", "log, 1 publisher", "log, 2 publishers"
    );
    for batch in [1, 10, 100, 200, 1000] {
        let plain = plain(&dir.join("plain"), batch, time);
        let one = log(&options, &dir.join("log"), batch, 1, time);
        let two = log(&options, &dir.join("log"), batch, 2, time);
        println!("{batch:>12}  {}  {}  {}", show(&plain), show(&one), show(&two));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn show(row: &Row) -> String {
    let rate = row.records as f64 / row.time.as_secs_f64();
    let cpu = row.cpu.as_secs_f64() * 1e6 / row.records as f64;
    format!("{rate:>9.0}/s {cpu:>5.2} us CPU")
}

fn plain(path: &Path, batch: u64, time: Duration) -> Row {
    const SIZE: u64 = 256 << 20;
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for at in 0..SIZE >> 20 {
        file.write_all_at(&zeros, at << 20).unwrap();
    }
    file.sync_all().unwrap();
    let bytes = vec![7; (DATA + 64) * batch as usize];
    let (mut at, mut records) = (0, 0);
    let (start, cpu) = (Instant::now(), cpu());
    while start.elapsed() < time {
        if at + bytes.len() as u64 > SIZE {
            at = 0;
        }
        file.write_all_at(&bytes, at).unwrap();
        file.sync_data().unwrap();
        at += bytes.len() as u64;
        records += batch;
    }
    let row = Row { records, time: start.elapsed(), cpu: self::cpu() - cpu };
    std::fs::remove_file(path).unwrap();
    row
}

fn log(options: &Options, dir: &Path, batch: u64, publishers: usize, time: Duration) -> Row {
    let Opened { store, feed, handle, .. } =
        embedded::open(options, dir, RealDisk, Health::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (start, cpu) = (Instant::now(), cpu());
    let records = runtime.block_on(async {
        let dispatch = tokio::spawn(dispatch(feed));
        let tasks: Vec<_> =
            (0..publishers).map(|_| tokio::spawn(publish(store.clone(), batch, start, time))).collect();
        let mut records = 0;
        for task in tasks {
            records += task.await.unwrap();
        }
        drop(store);
        dispatch.await.unwrap();
        records
    });
    handle.close();
    let row = Row { records, time: start.elapsed(), cpu: self::cpu() - cpu };
    std::fs::remove_dir_all(dir).unwrap();
    row
}

async fn publish(store: Store, batch: u64, start: Instant, time: Duration) -> u64 {
    let topic = TopicName::parse("bench/device/17/temperature").unwrap();
    let data = Bytes::from(vec![7; DATA]);
    let publisher: Arc<str> = Arc::from("device-17");
    let mut records = 0;
    while start.elapsed() < time {
        let entry = |stamp| {
            let (topic, data, publisher) = (topic.clone(), data.clone(), Arc::clone(&publisher));
            let parts = Parts { topic, data, stamp, received_ms: 1, expires_ms: 0, publisher, meta: None };
            Entry { event: Some(Event::new(parts)), note: Bytes::new() }
        };
        let (append, receipt) =
            Append::new((records..records + batch).map(entry).collect(), Durability::Synced);
        store.append(append).await;
        receipt.await.whole().unwrap();
        records += batch;
    }
    records
}

async fn dispatch(mut feed: Feed) {
    while let Some(batch) = feed.recv().await {
        batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
    }
}

/// CPU time of this process: user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse().unwrap())
        .collect();
    Duration::from_millis(ticks.iter().sum::<u64>() * 10)
}
