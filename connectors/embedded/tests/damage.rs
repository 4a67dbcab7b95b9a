//! What a damaged disk costs, and what it must not cost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "these are tests")]

mod common;

use bytes::Bytes;
use common::*;
use embedded::sim::SimDisk;
use embedded::{OpenError, Opened, Options};
use event::Durability;
use event::store::{Committed, Position};
use event::testing::store_contract::{keep, scan_all, stamps};

/// A log of one segment: each record written and synced alone.
async fn one_segment(count: u64) -> (SimDisk, Vec<Committed>) {
    let disk = SimDisk::new();
    let Opened { store, mut feed, handle, .. } = open(&disk, &small());
    let records = append_each(&store, &mut feed, 0..count).await;
    handle.close();
    (disk, records)
}

/// A log of several segments, and the records.
async fn segments(count: u64) -> (SimDisk, Vec<Committed>) {
    let disk = SimDisk::new();
    let Opened { store, mut feed, handle, .. } = open(&disk, &small());
    let mut records = Vec::new();
    for stamp in 0..count {
        let receipt = send(&store, of(large(stamp, 10_000)), Durability::Synced).await;
        records.extend(keep(&mut feed, receipt).await);
    }
    handle.close();
    (disk, records)
}

#[tokio::test]
async fn any_damaged_byte_costs_its_own_record_or_the_last_sync() {
    let (disk, records) = one_segment(12).await;
    let path = &files(&disk, "log")[0];
    let content = disk.content(path).unwrap();
    let end = content.len();
    for at in 64..end {
        let hit = records.iter().rposition(|record| record.position.0 <= at as u64).unwrap() as u64;
        let mut bad = content.clone();
        bad[at] ^= 0xff;
        let disk = SimDisk::new();
        disk.put(path, bad);
        let Opened { store, report, handle, .. } = open(&disk, &small());
        // Nothing behind the last record tells that it was synced: taken for a torn tail.
        let is_tail = hit == 11;
        assert_eq!(all(&store).await, (0..12).filter(|stamp| *stamp != hit).collect::<Vec<_>>(), "byte {at}");
        assert_eq!(
            (report.damaged.len(), report.cut.is_some()),
            if is_tail { (0, true) } else { (1, false) }
        );
        let positions = records.iter().map(|record| record.position).collect();
        let read = store.read(positions).await.unwrap();
        let missing: Vec<_> = (0..12).filter(|n| read[*n as usize].is_none()).collect();
        assert_eq!(missing, [hit]);
        handle.close();
    }
}

#[tokio::test]
async fn a_log_cut_anywhere_keeps_what_is_before_and_goes_on() {
    let (disk, records) = one_segment(5).await;
    let path = &files(&disk, "log")[0];
    let content = disk.content(path).unwrap();
    for length in 64..content.len() {
        let disk = SimDisk::new();
        disk.put(path, content[..length].to_vec());
        let whole = records.iter().skip(1).filter(|record| record.position.0 <= length as u64).count() as u64;
        let Opened { store, mut feed, handle, .. } = open(&disk, &small());
        assert_eq!(all(&store).await, (0..whole).collect::<Vec<_>>(), "cut at {length}");
        append_each(&store, &mut feed, 100..102).await;
        assert_eq!(all(&store).await, (0..whole).chain(100..102).collect::<Vec<_>>());
        handle.close();
    }
}

#[tokio::test]
async fn damage_in_an_older_segment_does_not_hide_what_is_behind() {
    let (disk, records) = segments(30).await;
    let logs = files(&disk, "log");
    assert!(logs.len() > 3);
    // A record in the middle of the second segment, and then all of the third, its header too.
    let mut content = disk.content(&logs[1]).unwrap();
    content[25_000] ^= 1;
    disk.put(&logs[1], content);
    let length = disk.content(&logs[2]).unwrap().len();
    disk.put(&logs[2], vec![0xaa; length]);
    let base = |at: usize| logs[at].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let in_third = |record: &&Committed| (base(2)..base(3)).contains(&record.position.0);
    let hit = records.iter().rposition(|record| record.position.0 <= base(1) + 25_000).unwrap();
    let wanted: Vec<u64> = records
        .iter()
        .filter(|record| !in_third(record) && record.position != records[hit].position)
        .flat_map(|record| stamps(std::slice::from_ref(record)))
        .collect();
    let Opened { store, report, handle, .. } = open(&disk, &small());
    assert_eq!(all(&store).await, wanted);
    assert!(report.damaged.iter().any(|range| range.contains(&(base(1) + 25_000))));
    assert!(report.damaged.iter().any(|range| range.contains(&(base(2) + 30_000))));
    assert_eq!(report.cut, None);
    handle.close();
}

#[tokio::test]
async fn a_segment_that_is_gone_is_reported_and_passed() {
    let (disk, records) = segments(30).await;
    let logs = files(&disk, "log");
    let other = SimDisk::new();
    for (at, path) in logs.iter().enumerate() {
        if at != 1 {
            other.put(path, disk.content(path).unwrap());
        }
    }
    let Opened { store, mut feed, report, handle, .. } = open(&other, &small());
    assert_eq!(report.damaged.len(), 1);
    let there: Vec<u64> = records
        .iter()
        .filter(|record| !report.damaged[0].contains(&record.position.0))
        .flat_map(|record| stamps(std::slice::from_ref(record)))
        .collect();
    assert!(there.len() < 30 && there.len() > 20);
    assert_eq!(all(&store).await, there);
    append_each(&store, &mut feed, 100..101).await;
    handle.close();
}

#[tokio::test]
async fn a_lost_end_is_reported_and_positions_still_rise() {
    let (disk, records) = segments(30).await;
    let Opened { store, handle, .. } = open(&disk, &small());
    store.checkpoint(records[29].position, Bytes::from_static(b"state")).await.unwrap();
    handle.close();
    let other = SimDisk::new();
    for path in files(&disk, "log").iter().take(2).chain(&files(&disk, "checkpoint")) {
        other.put(path, disk.content(path).unwrap());
    }
    let Opened { store, mut feed, report, handle, .. } = open(&other, &small());
    assert_eq!(report.checkpoint, Some(records[29].position));
    assert!(report.damaged.iter().any(|range| range.contains(&records[29].position.0)));
    let new = append_each(&store, &mut feed, 100..101).await;
    assert!(new[0].position > records[29].position);
    assert_eq!(stamps(&scan_all(&store, records[29].position, 1000).await), [100]);
    handle.close();
    let Opened { store, report, handle, .. } = open(&other, &small());
    assert_eq!((report.cut, report.end > new[0].position), (None, true));
    assert_eq!(stamps(&scan_all(&store, records[29].position, 1000).await), [100]);
    handle.close();
}

#[tokio::test]
async fn a_damaged_checkpoint_is_replaced_by_the_one_before_and_its_records() {
    let (disk, records) = segments(40).await;
    let options = Options { retain_bytes: event::ByteLimit(1), ..small() };
    let Opened { store, handle, .. } = open(&disk, &options);
    for at in [10, 25, 39] {
        store.checkpoint(records[at].position, Bytes::from(vec![at as u8; 300])).await.unwrap();
        store.hold(records[at].position, records[at].position);
    }
    // Answered behind the last hold.
    store.checkpoint(records[39].position, Bytes::from_static(b"last")).await.unwrap();
    handle.close();
    let checkpoints = files(&disk, "checkpoint");
    assert_eq!(checkpoints.len(), 2);
    for at in (0..disk.content(&checkpoints[1]).unwrap().len()).step_by(9) {
        let disk = copy(&disk);
        let mut content = disk.content(&checkpoints[1]).unwrap();
        content[at] ^= 0x10;
        disk.put(&checkpoints[1], content);
        let Opened { store, report, handle, .. } = open(&disk, &options);
        assert_eq!((report.checkpoints_damaged, report.checkpoint), (1, Some(records[25].position)));
        let (position, state) = store.load_checkpoint().await.unwrap().unwrap();
        assert_eq!((position, state), (records[25].position, Bytes::from(vec![25; 300])));
        let behind = stamps(&scan_all(&store, position, 1 << 20).await);
        assert_eq!(behind, (26..40).collect::<Vec<_>>(), "what the older one needs was not freed");
        handle.close();
    }
    for path in &checkpoints {
        disk.put(path, b"nothing".to_vec());
    }
    let error = try_open(&disk, &options).err().unwrap();
    assert!(matches!(error, OpenError::Checkpoint { .. }), "{error}");
}

#[tokio::test]
async fn files_of_another_make_are_left_alone() {
    let (disk, _) = one_segment(3).await;
    let path = &files(&disk, "log")[0];
    let good = disk.content(path).unwrap();
    // A format of the future, with a right sum.
    let mut newer = good.clone();
    newer[8] = 2;
    let sum = crc32fast::hash(&newer[..60]);
    newer[60..64].copy_from_slice(&sum.to_le_bytes());
    for (content, wanted) in [(newer, "format 2"), (vec![1; 5000], "no log of weft")] {
        let disk = SimDisk::new();
        disk.put(path, content.clone());
        let error = try_open(&disk, &small()).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(disk.content(path).unwrap(), content);
    }
    disk.put(&dir().join("notes.txt"), b"mine".to_vec());
    disk.put(&dir().join("123.log"), b"mine".to_vec());
    disk.put(path, good);
    let Opened { store, handle, .. } = open(&disk, &small());
    assert_eq!(all(&store).await, [0, 1, 2]);
    handle.close();
    assert_eq!(disk.content(&dir().join("123.log")).unwrap(), b"mine");
}

/// The only segment has lost its header, or has another file in its place: there is a second copy of the salt.
#[tokio::test]
async fn a_header_that_is_lost_costs_no_record() {
    let (disk, _) = one_segment(3).await;
    let path = &files(&disk, "log")[0];
    let good = disk.content(path).unwrap();
    let mut headless = good.clone();
    headless[20] ^= 1;
    for (content, wanted) in [(headless, vec![0, 1, 2]), (vec![1; 5000], vec![])] {
        let (lock, whole) = (dir().join("lock"), &disk);
        let disk = copy(whole);
        disk.put(&lock, whole.content(&lock).unwrap());
        disk.put(path, content.clone());
        let Opened { store, mut feed, report, handle, .. } = open(&disk, &small());
        assert!(report.damaged.contains(&(0..64)) && report.cut.is_none(), "{report:?}");
        assert_eq!(all(&store).await, wanted);
        append_each(&store, &mut feed, 10..12).await;
        handle.close();
        assert_eq!(disk.content(path).unwrap(), content, "it is left as it is");
        let Opened { store, handle, .. } = open(&disk, &small());
        assert_eq!(all(&store).await, wanted.into_iter().chain(10..12).collect::<Vec<_>>());
        handle.close();
    }
}

/// A disk that gives an I/O error for some blocks: what is in them is lost, all else is served.
#[tokio::test]
async fn blocks_that_cannot_be_read_cost_what_is_in_them() {
    let (disk, records) = segments(30).await;
    let logs = files(&disk, "log");
    let Opened { store, handle, .. } = open(&disk, &small());
    for at in [5, 10] {
        store.checkpoint(records[at].position, Bytes::from(vec![7; 5000])).await.unwrap();
    }
    handle.close();
    disk.lose_block(&logs[1], 20_000);
    disk.lose_block(&logs[2], 0);
    disk.lose_block(&files(&disk, "checkpoint")[1], 4096);
    let base = |at: usize| logs[at].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let lost = [base(1) + 16_384..base(1) + 20_480, base(2)..base(2) + 4096];
    // Less a header, which may stand between two records.
    let ends = records.iter().skip(1).map(|record| record.position.0 - 64).chain([u64::MAX]);
    let hit = |start: u64, end: u64| lost.iter().any(|lost| lost.start < end && start < lost.end);
    let wanted: Vec<u64> = records
        .iter()
        .zip(ends)
        .filter(|(record, end)| !hit(record.position.0, *end))
        .flat_map(|(record, _)| stamps(std::slice::from_ref(record)))
        .collect();
    assert!(wanted.len() > 24);
    let Opened { store, mut feed, report, handle, .. } = open(&disk, &small());
    assert_eq!((report.checkpoints_damaged, report.checkpoint), (1, Some(records[5].position)));
    assert_eq!((report.cut.clone(), report.damaged.len() >= 2), (None, true), "{report:?}");
    assert_eq!(all(&store).await, wanted);
    let positions = records.iter().map(|record| record.position).collect();
    let read = store.read(positions).await.unwrap();
    assert_eq!(read.iter().flatten().count(), wanted.len());
    append_each(&store, &mut feed, 100..101).await;
    handle.close();
}

/// A publisher sends bytes of the log as data. Behind damage they must not be found as records.
#[tokio::test]
async fn published_bytes_are_no_records() {
    let (other, _) = one_segment(8).await;
    let forged = other.content(&files(&other, "log")[0]).unwrap();
    let disk = SimDisk::new();
    let Opened { store, mut feed, handle, .. } = open(&disk, &small());
    let mut event = large(0, 0).parts().clone();
    event.data = forged.into();
    let receipt = send(&store, of(event::Event::new(event)), Durability::Synced).await;
    let record = keep(&mut feed, receipt).await.remove(0);
    append_each(&store, &mut feed, 50..53).await;
    handle.close();
    let path = &files(&disk, "log")[0];
    let mut content = disk.content(path).unwrap();
    content[record.position.0 as usize] ^= 1;
    disk.put(path, content);
    let Opened { store, report, handle, .. } = open(&disk, &small());
    assert_eq!(all(&store).await, [50, 51, 52]);
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(store.read(vec![record.position]).await.unwrap(), [None]);
    assert!(store.scan(Position(record.position.0 + 1), 10).await.unwrap().records.len() == 1);
    handle.close();
}
