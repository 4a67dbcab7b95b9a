//! What a repair does to damaged folders: the log opens afterwards, and no whole record is gone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::*;
use embedded::inspect::{Found, Log};
use embedded::repair::Repair;
use embedded::{OpenError, Opened, RealDisk};
use event::store::{Committed, Position};
use event::testing::store_contract::keep;
use event::{Durability, Health};
use tempfile::TempDir;

/// A log of several segments with two checkpoints, closed; its records.
async fn segments() -> (TempDir, Vec<Committed>) {
    let folder = tempfile::tempdir().unwrap();
    let Opened { store, mut feed, handle, .. } = open_real(folder.path()).unwrap();
    let mut records = Vec::new();
    for stamp in 0..40 {
        let receipt = send(&store, of(large(stamp, 10_000)), Durability::Synced).await;
        records.extend(keep(&mut feed, receipt).await);
    }
    for at in [20, 30] {
        store.checkpoint(records[at].position, Bytes::from_static(b"state")).await.unwrap();
    }
    handle.close();
    (folder, records)
}

fn open_real(dir: &Path) -> Result<Opened, OpenError> {
    embedded::open(&small(), dir, RealDisk, Health::default())
}

fn paths(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths = embedded::files(&RealDisk, dir).unwrap();
    paths.retain(|path| path.extension().is_some_and(|other| other == extension));
    paths
}

fn change(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 0x40;
    fs::write(path, content).unwrap();
}

fn positions(dir: &Path) -> Vec<u64> {
    let log = Log::open(dir).unwrap();
    let position = |found| match found {
        Ok(Found::Record(record)) => Some(record.position.0),
        _ => None,
    };
    log.walk(Position(0)).filter_map(position).collect()
}

fn plan(dir: &Path) -> Vec<String> {
    Repair::plan(dir).unwrap().actions().iter().map(ToString::to_string).collect()
}

/// What a walk says that is no record and no segment.
fn complaints(dir: &Path) -> Vec<String> {
    let log = Log::open(dir).unwrap();
    let found = log.walk(Position(0)).map(|found| found.unwrap());
    let broken = log.checkpoints().iter().filter(|checkpoint| !checkpoint.whole).count();
    let bad = found.filter(|found| matches!(found, Found::Damage(_) | Found::Tail(_)));
    bad.map(|found| format!("{found:?}")).chain((broken > 0).then(|| "checkpoint".to_owned())).collect()
}

#[tokio::test]
async fn a_whole_log_needs_none() {
    let (folder, _) = segments().await;
    let before: Vec<_> = paths(folder.path(), "log").iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(plan(folder.path()).is_empty());
    let repair = Repair::plan(folder.path()).unwrap();
    assert!(matches!(Repair::plan(folder.path()), Err(OpenError::Locked { .. })), "it has the lock");
    assert_eq!(repair.carry_out().unwrap().aside, None);
    let after: Vec<_> = paths(folder.path(), "log").iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after);
}

#[tokio::test]
async fn damaged_headers_checkpoints_and_tails_are_put_right() {
    let (folder, written) = segments().await;
    let dir = folder.path();
    let logs = paths(dir, "log");
    let (middle, last) = (&logs[2], logs.last().unwrap());
    change(middle, 20);
    let old = fs::read(middle).unwrap()[..64].to_vec();
    change(&paths(dir, "checkpoint")[1], 45);
    let torn = [fs::read(last).unwrap(), vec![9; 33]].concat();
    fs::write(last, &torn).unwrap();
    assert_eq!(complaints(dir).len(), 3);
    let actions = plan(dir);
    assert!(actions[0].contains("checkpoint aside: the checkpoint is not whole"), "{actions:?}");
    assert!(actions[1].starts_with("write the header of 0000"), "{actions:?}");
    assert!(actions[2].starts_with("cut 33 B behind the end of"), "{actions:?}");
    assert!(complaints(dir).len() == 3 && fs::read(last).unwrap() == torn, "a plan changes nothing");
    let done = Repair::plan(dir).unwrap().carry_out().unwrap();
    let aside = dir.join("damaged-1");
    assert_eq!(done.aside.as_ref(), Some(&aside));
    let name = format!("{}.header", middle.file_name().unwrap().to_str().unwrap());
    assert_eq!(fs::read(aside.join(name)).unwrap(), old);
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 2);
    assert_eq!(complaints(dir), [""; 0]);
    assert_eq!(positions(dir), written.iter().map(|record| record.position.0).collect::<Vec<_>>());
    let Opened { report, handle, .. } = open_real(dir).unwrap();
    handle.close();
    assert_eq!((report.damaged.len(), report.cut, report.checkpoints_damaged), (0, None, 0));
    assert_eq!(report.checkpoint, Some(written[20].position), "the one before");
}

#[tokio::test]
async fn a_segment_of_which_nothing_can_be_read_goes_aside_and_costs_nothing_else() {
    let (folder, written) = segments().await;
    let dir = folder.path();
    let logs = paths(dir, "log");
    let length = fs::metadata(&logs[1]).unwrap().len() as usize;
    fs::write(&logs[1], vec![0xaa; length]).unwrap();
    let hit = positions(dir);
    let repair = Repair::plan(dir).unwrap();
    assert!(repair.actions()[0].to_string().ends_with("aside: nothing in it can be read"));
    assert_eq!(repair.losses().len(), 1);
    let aside = repair.carry_out().unwrap().aside.unwrap();
    assert_eq!(fs::read(aside.join(logs[1].file_name().unwrap())).unwrap(), vec![0xaa; length]);
    assert_eq!(positions(dir), hit);
    assert!(hit.len() < written.len() && hit.len() > 30);
    let Opened { store, mut feed, handle, .. } = open_real(dir).unwrap();
    append_each(&store, &mut feed, 100..101).await;
    handle.close();
    assert_eq!(positions(dir).len(), hit.len() + 1);
}

#[tokio::test]
async fn a_log_that_did_not_open_opens() {
    let (folder, written) = segments().await;
    let dir = folder.path();
    for path in paths(dir, "checkpoint") {
        fs::write(path, "nothing").unwrap();
    }
    assert!(matches!(open_real(dir), Err(OpenError::Checkpoint { .. })));
    assert_eq!(Repair::plan(dir).unwrap().carry_out().unwrap().aside, Some(dir.join("damaged-1")));
    let Opened { report, handle, .. } = open_real(dir).unwrap();
    handle.close();
    assert_eq!((report.checkpoint, report.records), (None, 40));
    assert_eq!(positions(dir).len(), written.len());
    // Nothing is left that tells what is a record.
    for path in paths(dir, "log") {
        change(&path, 3);
    }
    fs::remove_file(dir.join("lock")).unwrap();
    assert!(open_real(dir).is_err());
    let done = Repair::plan(dir).unwrap().carry_out().unwrap();
    assert_eq!((done.aside, done.segments), (Some(dir.join("damaged-2")), 1));
    assert_eq!(positions(dir), [0; 0]);
}

#[tokio::test]
async fn a_folder_without_a_log_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Repair::plan(folder.path()), Err(OpenError::NoLog { .. })));
    assert!(matches!(Repair::plan(&folder.path().join("nowhere")), Err(OpenError::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no lock either");
}

/// The lock's file has a copy of the salt, so even the only header can be written again.
#[tokio::test]
async fn the_only_header_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let Opened { store, mut feed, handle, .. } = open_real(dir).unwrap();
    append_each(&store, &mut feed, 0..5).await;
    handle.close();
    let path = paths(dir, "log").remove(0);
    let before = fs::read(&path).unwrap();
    change(&path, 20);
    assert_eq!(positions(dir).len(), 5);
    Repair::plan(dir).unwrap().carry_out().unwrap();
    let after = fs::read(&path).unwrap();
    // But for when it was made, which nobody knows any more, and the sum.
    assert!(after[..32] == before[..32] && after[64..] == before[64..]);
    assert_eq!((positions(dir).len(), complaints(dir)), (5, vec![]));
}
