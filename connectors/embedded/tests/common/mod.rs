//! Logs on a simulated disk, for all tests here.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use embedded::sim::SimDisk;
use embedded::{OpenError, Opened, Options};
use event::hub::{Outcome, Receipt};
use event::store::{Append, Committed, Entry, Feed, Position, Store};
use event::testing::store_contract::{entry, event, keep, scan_all, stamps};
use event::{ByteLimit, Durability, Event, Health, Parts};

/// Small segments without prewritten space: a few records each.
pub(crate) fn small() -> Options {
    Options { segment_bytes: ByteLimit::kib(64), prewrite_bytes: ByteLimit(0), ..Options::default() }
}

pub(crate) fn dir() -> &'static Path {
    Path::new("/data")
}

pub(crate) fn try_open(disk: &SimDisk, options: &Options) -> Result<Opened, OpenError> {
    embedded::open(options, dir(), disk.clone(), Health::default())
}

pub(crate) fn open(disk: &SimDisk, options: &Options) -> Opened {
    try_open(disk, options).unwrap()
}

/// The segments and checkpoints, by name.
pub(crate) fn files(disk: &SimDisk, extension: &str) -> Vec<PathBuf> {
    let mut files = embedded::files(disk, dir()).unwrap();
    files.retain(|path| path.extension().is_some_and(|other| other == extension));
    files
}

/// A copy of a disk, as it is now.
pub(crate) fn copy(disk: &SimDisk) -> SimDisk {
    let other = SimDisk::new();
    for path in embedded::files(disk, dir()).unwrap() {
        other.put(&path, disk.content(&path).unwrap());
    }
    other
}

/// An event with so much data.
pub(crate) fn large(stamp: u64, size: usize) -> Event {
    Event::new(Parts { data: Bytes::from(vec![stamp as u8; size]), ..event(stamp).parts().clone() })
}

pub(crate) fn of(event: Event) -> Vec<Entry> {
    vec![Entry { event: Some(event), note: Bytes::new() }]
}

pub(crate) async fn send(store: &Store, entries: Vec<Entry>, durability: Durability) -> Receipt {
    let (append, receipt) = Append::new(entries, durability);
    store.append(append).await;
    receipt
}

/// What becomes of an append, while somebody reads the feed.
pub(crate) async fn outcome(store: &Store, feed: &mut Feed, entries: Vec<Entry>) -> Outcome {
    let receipt = send(store, entries, Durability::Synced).await;
    let mut receipt = std::pin::pin!(receipt);
    loop {
        tokio::select! {
            outcome = &mut receipt => return outcome,
            Some(batch) = feed.recv() => {
                batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
            }
        }
    }
}

/// Appends one record a write, synced, so that each tells that those before it are durable.
pub(crate) async fn append_each(
    store: &Store,
    feed: &mut Feed,
    wanted: std::ops::Range<u64>,
) -> Vec<Committed> {
    let mut records = Vec::new();
    for stamp in wanted {
        let receipt = send(store, vec![entry(stamp)], Durability::Synced).await;
        records.extend(keep(feed, receipt).await);
    }
    records
}

pub(crate) async fn all(store: &Store) -> Vec<u64> {
    stamps(&scan_all(store, Position(0), 1 << 16).await)
}
