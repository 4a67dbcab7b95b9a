//! How long it takes to find a time in a large log: run by hand, released, on the disk in question.
//!
//! `cargo run --release -p weft-embedded --example find -- [FOLDER] [GIB]`
//!
//! Makes a log of 10 GiB (or as said) of events with 256 bytes to 4 KiB of data, a thousand at a time, each thousand with the time it came,
//! and looks up times all over it:
//! first with the log's files out of the page cache as far as the system lets it, then with what the look-ups before left in it.
//! Removes the log at the end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use embedded::{Opened, Options, RealDisk};
use event::store::{Append, Entry, Store};
use event::{ByteLimit, Durability, Event, Health, Parts, TopicName};

const LOOKS: usize = 200;
const THOUSAND: u64 = 1000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("weft-find-{}", std::process::id()));
    let gib: u64 = arguments.next().map_or(10, |gib| gib.parse().unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    let folder = Folder(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&folder.0, gib));
}

/// Removed at the end, also of a run that failed because the disk is full.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or(());
    }
}

async fn measure(dir: &Path, gib: u64) {
    let options = Options {
        retain_bytes: ByteLimit(0),
        retain_age_s: 0,
        max_bytes: ByteLimit::gib(gib + 4),
        ..Options::default()
    };
    let Opened { store, mut feed, handle, .. } =
        embedded::open(&options, dir, RealDisk, Health::default()).unwrap();
    let reader = tokio::spawn(async move {
        while let Some(batch) = feed.recv().await {
            batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
        }
    });
    let begin = Instant::now();
    let mut bytes = 0;
    // When each thousand was received. Segments say when they were begun, so these have to be times of the same clock.
    let mut times: Vec<u64> = Vec::new();
    while bytes < gib << 30 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let received_ms = now.max(times.last().map_or(0, |last| last + 1));
        let count = times.len() as u64 * THOUSAND;
        let batch: Vec<Entry> = (count..count + THOUSAND).map(|number| entry(number, received_ms)).collect();
        bytes += batch.iter().map(|entry| entry.weight() as u64).sum::<u64>();
        times.push(received_ms);
        let (append, receipt) = Append::new(batch, Durability::Written);
        store.append(append).await;
        receipt.await.whole().unwrap();
    }
    let (count, seconds) = (times.len() as u64 * THOUSAND, begin.elapsed().as_secs_f64());
    println!("{gib} GiB, {count} events, written in {seconds:.0} s");
    drop_cache(dir);
    for name in ["not in the page cache", "again"] {
        let mut took: Vec<Duration> = Vec::new();
        for look in 0..LOOKS {
            let thousand = look * times.len() / LOOKS;
            took.push(find(&store, times[thousand], thousand as u64 * THOUSAND).await);
        }
        took.sort();
        let ms = |at: usize| took[at].as_secs_f64() * 1e3;
        println!(
            "{name}: median {:.2} ms, 99th of 100 {:.2} ms, longest {:.2} ms",
            ms(took.len() / 2),
            ms(took.len() * 99 / 100),
            ms(took.len() - 1)
        );
    }
    drop(store);
    handle.close();
    reader.await.unwrap();
}

/// Looks up a time, and checks that the first event of it, which has this number, was found.
async fn find(store: &Store, since_ms: u64, number: u64) -> Duration {
    let begin = Instant::now();
    let found = store.find(since_ms).await.unwrap();
    let took = begin.elapsed();
    let scanned = store.scan(found, 1).await.unwrap();
    assert_eq!(scanned.records[0].event.as_ref().unwrap().parts().stamp, number);
    took
}

fn entry(number: u64, received_ms: u64) -> Entry {
    let size = 256 << (number % 5);
    let parts = Parts {
        topic: TopicName::parse("find").unwrap(),
        data: Bytes::from(vec![number as u8; size]),
        stamp: number,
        received_ms,
        expires_ms: 0,
        publisher: "find".into(),
        meta: None,
    };
    Entry { event: Some(Event::new(parts)), note: Bytes::from_static(&[1, 1]) }
}

/// Asks the system to forget what it holds of the files: `sync`, then `dd` with the flag for it, as users may.
fn drop_cache(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let input = format!("if={}", path.display());
        let asked = std::process::Command::new("dd")
            .args([&*input, "iflag=nocache", "count=0", "status=none"])
            .status();
        assert!(asked.is_ok_and(|status| status.success()), "dd");
    }
}
