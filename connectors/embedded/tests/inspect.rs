//! What somebody who only looks sees of a log: of one at rest, of one that is written, and of damaged ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use common::*;
use embedded::inspect::{Checkpoint, Damage, DamageKind, Found, Log, Record};
use embedded::{Opened, Options, RealDisk};
use event::store::{Committed, Position};
use event::testing::store_contract::keep;
use event::{ByteLimit, Durability, Health};
use tempfile::TempDir;

fn open_real(dir: &Path, options: &Options) -> Opened {
    embedded::open(options, dir, RealDisk, Health::default()).unwrap()
}

/// A log of several segments with a checkpoint, closed; its records.
async fn segments(count: u64) -> (TempDir, Vec<Committed>) {
    let folder = tempfile::tempdir().unwrap();
    let Opened { store, mut feed, handle, .. } = open_real(folder.path(), &small());
    let mut records = Vec::new();
    for stamp in 0..count {
        let receipt = send(&store, of(large(stamp, 10_000)), Durability::Synced).await;
        records.extend(keep(&mut feed, receipt).await);
    }
    store.checkpoint(records[count as usize / 2].position, Bytes::from_static(b"state")).await.unwrap();
    handle.close();
    (folder, records)
}

fn walk(dir: &Path, from: u64) -> Vec<Found> {
    Log::open(dir).unwrap().walk(Position(from)).map(|found| found.unwrap()).collect()
}

fn records(found: &[Found]) -> Vec<(u64, u64)> {
    let record = |found: &Found| match found {
        Found::Record(Record { position, event, .. }) => {
            Some((position.0, event.as_ref().map_or(0, |event| event.parts().stamp)))
        }
        Found::Segment(_) | Found::Damage(_) | Found::Tail(_) => None,
    };
    found.iter().filter_map(record).collect()
}

fn damage(found: &[Found]) -> Vec<Damage> {
    let damage = |found: &Found| match found {
        Found::Damage(damage) => Some(damage.clone()),
        Found::Segment(_) | Found::Record(_) | Found::Tail(_) => None,
    };
    found.iter().filter_map(damage).collect()
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Name, content and time of change of all that is in a folder.
fn state(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let look = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        (path.clone(), (fs::read(path).unwrap(), changed))
    };
    entries.map(look).collect()
}

#[tokio::test]
async fn a_walk_sees_all_and_changes_nothing() {
    let (folder, written) = segments(40).await;
    let before = state(folder.path());
    let log = Log::open(folder.path()).unwrap();
    let wanted: Vec<(u64, u64)> =
        written.iter().zip(0..).map(|(record, stamp)| (record.position.0, stamp)).collect();
    let position = written[20].position;
    let path = folder.path().join(format!("{:020}.checkpoint", position.0));
    assert_eq!(log.checkpoints(), [Checkpoint { position, bytes: 49, whole: true, path }]);
    let found = walk(folder.path(), 0);
    assert_eq!(records(&found), wanted);
    assert!(!found.iter().any(|found| matches!(found, Found::Damage(_) | Found::Tail(_))));
    let bases = found.iter().filter_map(|found| match found {
        Found::Segment(segment) => Some((segment.base, segment.next, segment.created_ms.is_some())),
        Found::Record(_) | Found::Damage(_) | Found::Tail(_) => None,
    });
    let bases: Vec<_> = bases.collect();
    assert!(bases.len() > 5 && bases.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)) && bases[0].2);
    for (at, (position, _)) in wanted.iter().enumerate() {
        assert_eq!(records(&walk(folder.path(), *position)), wanted[at..]);
        assert_eq!(records(&walk(folder.path(), *position + 1)), wanted[at + 1..], "from within a record");
    }
    let mut walk = log.walk(Position(0));
    while walk.next().is_some() {}
    assert_eq!(walk.progress().0, walk.progress().1, "all of it is behind");
    assert_eq!(log.before(0).unwrap(), Position(0));
    assert!(log.before(u64::MAX).unwrap() > written[30].position, "the last segment");
    assert!(state(folder.path()) == before, "looking changed the folder");
}

/// The writer fills zeros ahead, rotates and frees segments; whoever looks sees every record once, and no damage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_written_is_seen_whole_up_to_some_end() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        prewrite_bytes: ByteLimit::kib(32),
        retain_bytes: ByteLimit::kib(300),
        max_bytes: ByteLimit::mib(64),
        ..small()
    };
    let Opened { store, mut feed, handle, .. } = open_real(folder.path(), &options);
    let dir = folder.path().to_owned();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let looking = tokio::task::spawn_blocking(move || {
        let (mut looks, mut most) = (0, 0);
        while matches!(stopped.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty)) {
            let found = match Log::open(&dir) {
                Ok(log) => log.walk(Position(0)).map(|found| found.unwrap()).collect::<Vec<_>>(),
                Err(error) => panic!("{error}"),
            };
            let stamps: Vec<u64> = records(&found).iter().map(|(_, stamp)| *stamp).collect();
            assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "out of order");
            assert_eq!(damage(&found), []);
            most = most.max(stamps.len());
            looks += 1;
        }
        (looks, most)
    });
    for stamp in 1..6000 {
        let durability = if stamp % 16 == 0 { Durability::Synced } else { Durability::Written };
        let receipt = send(&store, of(large(stamp, (stamp % 700) as usize)), durability).await;
        let kept = keep(&mut feed, receipt).await;
        if stamp % 500 == 0 {
            let position = kept[0].position;
            store.checkpoint(position, Bytes::from(vec![7; 4000])).await.unwrap();
            store.hold(position, position);
        }
    }
    stop.send(()).unwrap();
    let (looks, most) = looking.await.unwrap();
    assert!(looks > 3 && most > 100, "{looks} looks, {most} records");
    handle.close();
    let stamps: Vec<u64> = records(&walk(folder.path(), 0)).iter().map(|(_, stamp)| *stamp).collect();
    assert!(stamps[0] > 1, "segments were freed");
    assert_eq!(stamps, (stamps[0]..6000).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_is_told_by_what_it_is() {
    let (folder, written) = segments(40).await;
    let dir = folder.path();
    let paths = logs(dir);
    // A record in the second segment; the header of the third; the fourth is gone; the fifth is short.
    let base = |at: usize| paths[at].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let hit = written.iter().find(|record| record.position.0 > base(1) + 64).unwrap().position.0;
    let behind = written.iter().find(|record| record.position.0 > hit).unwrap().position.0;
    let flip = |path: &Path, at: u64| {
        let mut content = fs::read(path).unwrap();
        content[at as usize] ^= 0x40;
        fs::write(path, content).unwrap();
    };
    flip(&paths[1], hit - base(1) + 30);
    flip(&paths[2], 17);
    fs::remove_file(&paths[3]).unwrap();
    let short = fs::metadata(&paths[4]).unwrap().len() - 100;
    fs::File::options().write(true).open(&paths[4]).unwrap().set_len(short).unwrap();
    let found = walk(dir, 0);
    let damage = damage(&found);
    let kinds: Vec<_> = damage.iter().map(|damage| (damage.kind, damage.positions.start)).collect();
    assert_eq!(kinds[0], (DamageKind::Records, hit));
    assert_eq!(damage[0].positions.end, behind);
    assert_eq!(kinds[1], (DamageKind::Header, base(2)));
    assert_eq!(kinds[2], (DamageKind::Missing, base(3)));
    assert_eq!(damage[2].positions.end, base(4));
    // The last record of the short one, of which some is there.
    assert_eq!((kinds[3].0, damage.last().unwrap().positions.end), (DamageKind::Records, base(5)));
    let lost = |position: u64| damage.iter().any(|damage| damage.positions.contains(&position));
    let wanted: Vec<_> = written.iter().map(|record| record.position.0).filter(|at| !lost(*at)).collect();
    let seen: Vec<_> = records(&found).iter().map(|(position, _)| *position).collect();
    assert_eq!(seen, wanted);
    // The same as who opens it finds.
    let Opened { report, handle, .. } = open_real(dir, &small());
    handle.close();
    assert!(report.damaged.iter().all(|range| {
        damage.iter().any(|damage| damage.positions.start <= range.start && range.end <= damage.positions.end)
    }));
}

#[tokio::test]
async fn a_torn_tail_is_no_damage_and_a_lost_end_is() {
    let (folder, written) = segments(40).await;
    let dir = folder.path();
    let last = logs(dir).pop().unwrap();
    let content = fs::read(&last).unwrap();
    let torn = [&content[..], &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[0; 50]].concat();
    fs::write(&last, &torn).unwrap();
    let found = walk(dir, 0);
    let Some(Found::Tail(tail)) = found.last() else { panic!("{:?}", found.last()) };
    assert_eq!((tail.end - tail.start, records(&found).len()), (9, 40));
    assert_eq!(damage(&found), []);
    fs::write(&last, content).unwrap();
    for path in logs(dir).iter().skip(2) {
        fs::remove_file(path).unwrap();
    }
    let found = walk(dir, 0);
    let damage = damage(&found);
    assert_eq!((damage.len(), damage[0].kind), (1, DamageKind::Missing));
    assert_eq!(damage[0].positions.end, written[20].position.0 + 1, "up to what the checkpoint knows");
}

#[tokio::test]
async fn other_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let error = |dir: &Path| Log::open(dir).unwrap_err().to_string();
    assert!(error(&dir.join("nowhere")).contains("name the data folder with --data"));
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    assert!(error(dir).contains("holds no log of weft"));
    let path = dir.join("00000000000000000000.log");
    fs::write(&path, vec![7; 500]).unwrap();
    assert!(error(dir).contains("no log of weft, or its header is damaged"));
    fs::write(&path, vec![0; 64]).unwrap();
    assert_eq!(walk(dir, 0).len(), 0, "a segment that is being made");
    fs::remove_file(&path).unwrap();
    let (log, _) = segments(3).await;
    let newer = |path: &Path, end: usize| {
        let mut content = fs::read(path).unwrap();
        content[8] = 2;
        let sum = match end {
            60 => crc32fast::hash(&content[..60]),
            _ => crc32fast::hash(&[&content[..40], &content[44..]].concat()),
        };
        content[end..end + 4].copy_from_slice(&sum.to_le_bytes());
        fs::write(path, content).unwrap();
    };
    let open =
        || embedded::open(&small(), log.path(), RealDisk, Health::default()).err().unwrap().to_string();
    let checkpoint = embedded::files(&RealDisk, log.path()).unwrap();
    let checkpoint = checkpoint.iter().find(|path| path.extension() == Some("checkpoint".as_ref())).unwrap();
    newer(checkpoint, 40);
    assert!(error(log.path()).contains("checkpoint has format 2, this weft knows up to 1"));
    assert!(open().contains("start the newer weft"), "a checkpoint of the future is not called damaged");
    fs::remove_file(checkpoint).unwrap();
    newer(&logs(log.path())[0], 60);
    assert!(error(log.path()).contains("log has format 2"));
}
