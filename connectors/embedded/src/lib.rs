//! The embedded durable log: one sequence of records on the local disk, written once, read by position.
//!
//! # What it promises
//!
//! * A receipt that says `Kept` for [`event::Durability::Synced`] means that `fdatasync` returned after the records were
//!   written: they survive a power cut. `Written` and `Received` records survive a crash of the process once they are
//!   fed, and a power cut after `sync_idle_ms`.
//! * Records are fed, scanned and read only after the promise of their append holds, in the order of the log.
//! * Waiting appends of all connections share one write and one sync: while a sync runs, the next batch collects.
//! * A record is one entry: an event, a note of the core, or both. It is there as a whole or not at all. An append of
//!   several entries may lose its end in a power cut, if it was not confirmed.
//! * Damage is reported and passed, never taken for the end of the log, and costs no more than the records it hit.
//!   `recovery.rs` says how a torn tail is told from damage.
//! * After a failed write or sync the log takes nothing more, and [`event::Health`] has the reason at
//!   `store/embedded`. A full disk is no such failure: the write is taken back, and later ones are tried again.
//!
//! # On disk
//!
//! One folder, owned by one process (`lock` is locked). All numbers are little-endian.
//!
//! | file | what | format |
//! |---|---|---|
//! | `{base:020}.log` | a segment: 64 bytes of header, then records, then zeros | `segment.rs` |
//! | `{position:020}.checkpoint` | the core's state as of a record; the last two are kept | `checkpoint.rs` |
//! | `checkpoint.tmp` | a checkpoint that is being written | |
//! | `lock` | locked by the process that has the folder; a copy of the salt | `lockfile.rs` |
//!
//! ```text
//! segment   "weft log" | u32 version 1 | u32 0 | u64 base | u64 salt | u64 created, ms | 20 × 0 | u32 crc
//! record    u32 length | u32 mark | u32 crc | body                            (length 0: the log ends here)
//! body      u8 flags | [u64 synced] | note | [event: stamp, received, [expires], topic, publisher, [meta], data]
//! ```
//!
//! A record's [`event::store::Position`] is the segment's base plus its offset in the file, so that it is found without
//! an index, positions rise, and none is 0. The formats of record and body are in `record.rs` and `body.rs`, byte by byte;
//! [`mod@format`] has an example, and what holds when a format changes.
//!
//! The writer fills the file with zeros some way ahead, so that most syncs write no metadata; a segment is cut to its
//! length when the next one starts. Whole segments are freed from the old end, by age and size, and only below what
//! the core still needs and below the older checkpoint.
//!
//! # Inside
//!
//! `driver.rs` has the threads; `writer.rs` and `reader.rs` do the work and block on nothing but the disk, so tests
//! run them without threads; `shared.rs` is what both know. `record.rs` and `body.rs` are sans-io. All disk access is
//! behind [`disk::Disk`]; `sim::SimDisk` is a disk that loses what was not synced.

mod body;
mod checkpoint;
#[cfg(test)]
mod crash_tests;
pub mod disk;
mod driver;
mod error;
#[cfg(feature = "testing")]
mod exercise;
mod find;
pub mod format;
pub mod inspect;
mod lockfile;
mod meters;
mod options;
mod read_only;
mod reader;
mod record;
mod recovery;
pub mod repair;
mod retain;
mod segment;
mod shared;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
mod walk;
mod window;
mod writer;

use std::path::Path;

use event::Health;
use event::store::{Ends, Feed, Store};

use disk::Disk;
pub use disk::RealDisk;
pub use driver::Handle;
pub use error::OpenError;
#[cfg(feature = "testing")]
pub use exercise::exercise;
pub use options::{Options, Retain};
pub use recovery::Recovery;
#[cfg(any(test, feature = "testing"))]
pub use recovery::files;

/// An open log.
pub struct Opened {
    /// The core's handle.
    pub store: Store,
    /// Every kept batch, in order. Read it or drop it: the log waits for it.
    pub feed: Feed,
    /// Stops the log.
    pub handle: Handle,
    /// What was found.
    pub report: Recovery,
}

/// Opens the log in `dir`, makes it if it is not there, and starts its threads. Blocks while the records behind the last
/// checkpoint are checked. Needs no runtime. The log stops when all handles of the store are dropped, or at
/// [`Handle::close`].
pub fn open(options: &Options, dir: &Path, disk: impl Disk, health: Health) -> Result<Opened, OpenError> {
    options.check()?;
    let (shared, writer, report) = recovery::recover(disk, dir, options, health.clone(), driver::now_ms())?;
    let (store, Ends { appends, requests, feed_sender, feed }) =
        event::store::store(options.queue_bytes, options.queue_batches);
    let handle = driver::start(writer, &shared, health, appends, requests, feed_sender)
        .map_err(|error| OpenError::io("start the threads of", dir, error))?;
    Ok(Opened { store, feed, handle, report })
}
