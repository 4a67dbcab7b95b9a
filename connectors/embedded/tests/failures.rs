//! Disks that fail, folders that cannot be used, logs that are stopped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

mod common;

use std::path::Path;

use bytes::Bytes;
use common::*;
use embedded::sim::{Fault, SimDisk};
use embedded::{OpenError, Opened, Options, RealDisk};
use event::hub::Outcome;
use event::store::Position;
use event::testing::store_contract::{entry, keep, stamps};
use event::{Durability, Health, RejectKind};

#[tokio::test]
async fn after_a_failed_write_or_sync_nothing_is_taken_and_all_that_was_kept_is_there() {
    for fault in [Fault::Write, Fault::Sync] {
        let disk = SimDisk::new();
        let health = Health::default();
        let Opened { store, mut feed, handle, .. } =
            embedded::open(&small(), dir(), disk.clone(), health.clone()).unwrap();
        let kept = append_each(&store, &mut feed, 0..10).await;
        disk.fail_after(0, fault);
        if fault == Fault::Sync {
            disk.fail_after(1, fault);
        }
        for stamp in 10..15 {
            // The disk works again at once. That proves nothing: no second try.
            let Outcome::Refused(reject) = outcome(&store, &mut feed, vec![entry(stamp)]).await else {
                panic!()
            };
            assert_eq!(reject.kind, RejectKind::Unavailable);
            assert!(reject.reason.contains("simulated failure"), "{reject}");
        }
        assert!(health.parts()[0].1.as_ref().unwrap().contains("restart weft"));
        assert_eq!(all(&store).await, (0..10).collect::<Vec<_>>(), "reading goes on");
        assert!(
            store.checkpoint(kept[9].position, Bytes::new()).await.is_ok(),
            "what is durable may be built on"
        );
        handle.close();
        disk.crash(7);
        let Opened { store, mut feed, handle, .. } = open(&disk, &small());
        let there = all(&store).await;
        assert_eq!(there[..10], (0..10).collect::<Vec<_>>());
        assert!(there.len() <= 11, "only what was handed over may be there");
        append_each(&store, &mut feed, 20..21).await;
        handle.close();
    }
}

#[tokio::test]
async fn a_locked_folder_says_so_until_its_owner_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let open = || embedded::open(&Options::default(), folder.path(), RealDisk, Health::default());
    let first = open().unwrap();
    let error = open().err().unwrap();
    assert!(matches!(&error, OpenError::Locked { dir } if dir == folder.path()));
    assert!(error.to_string().contains(&folder.path().display().to_string()));
    assert!(error.to_string().contains("--data"));
    // Stopped while a handle of the store is still there.
    first.handle.close();
    let receipt = send(&first.store, vec![entry(1)], Durability::Synced).await;
    assert!(matches!(receipt.await, Outcome::Refused(reject) if reject.kind == RejectKind::Closed));
    assert_eq!(first.store.read(vec![Position(64)]).await.unwrap_err().kind, RejectKind::Closed);
    open().unwrap().handle.close();
}

#[test]
fn a_folder_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = |dir: &Path| {
        let error = embedded::open(&Options::default(), dir, RealDisk, Health::default()).err().unwrap();
        (error.to_string(), matches!(error, OpenError::Io { .. }))
    };
    for dir in [file.join("below"), file.clone()] {
        let (message, is_io) = error(&dir);
        assert!(
            is_io && message.contains("in the place of a folder") && message.contains("file"),
            "{message}"
        );
    }
    // Root may do anything, so there this shows only that nothing worse comes.
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) != 0) {
        let closed = folder.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        let mut mode = std::fs::metadata(&closed).unwrap().permissions();
        mode.set_readonly(true);
        std::fs::set_permissions(&closed, mode).unwrap();
        let (message, is_io) = error(&closed);
        assert!(is_io && message.contains("has to own the data folder"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_folder_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    embedded::open(&Options::default(), &dir, RealDisk, Health::default()).unwrap().handle.close();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("00000000000000000000.log")), 0o600);
}

#[tokio::test]
async fn a_stop_writes_what_waits_and_syncs_it() {
    let disk = SimDisk::new();
    let Opened { store, feed, handle, .. } = open(&disk, &small());
    drop(feed);
    for stamp in 0..200 {
        assert!(store.try_append(event::store::Append::unanswered(vec![entry(stamp)])).is_ok());
    }
    handle.close();
    disk.crash(3);
    let Opened { store, handle, .. } = open(&disk, &small());
    assert_eq!(all(&store).await, (0..200).collect::<Vec<_>>());
    handle.close();
}

/// What needs no sync for its answer is synced soon all the same, and what is kept before a sync survives a kill.
#[tokio::test]
async fn an_unsynced_tail_is_synced_when_nothing_else_comes() {
    let disk = SimDisk::new();
    let options = Options { sync_idle_ms: 10, ..small() };
    let Opened { store, mut feed, handle, .. } = open(&disk, &options);
    let receipt = send(&store, vec![entry(1)], Durability::Written).await;
    assert_eq!(stamps(&keep(&mut feed, receipt).await), [1]);
    let written = disk.operations();
    let wait = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        // The sync is one more operation. Nothing tells when it comes: look again and again.
        while disk.operations() == written {
            tokio::task::yield_now().await;
        }
    });
    wait.await.unwrap();
    let idle = disk.operations();
    disk.crash(0);
    drop((store, feed));
    handle.close();
    assert_eq!(disk.operations(), idle, "an idle log does nothing");
    let Opened { store, handle, .. } = open(&disk, &options);
    assert_eq!(all(&store).await, [1]);
    handle.close();
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_that_was_fed() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let opened = embedded::open(&small(), folder.path(), RealDisk, Health::default()).unwrap();
    let mut feed = opened.feed;
    for stamp in 0..100 {
        let receipt = send(&opened.store, vec![entry(stamp)], Durability::Received).await;
        keep(&mut feed, receipt).await;
        if stamp % 25 == 24 {
            // What another process would find if this one were gone now.
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let path = file.unwrap().path();
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
            let other = embedded::open(&small(), copy.path(), RealDisk, Health::default()).unwrap();
            assert_eq!(all(&other.store).await, (0..=stamp).collect::<Vec<_>>());
            assert_eq!((other.report.cut, other.report.damaged), (None, Vec::new()));
            other.handle.close();
        }
    }
    opened.handle.close();
}
