//! What the log does when space ends, and how it frees space.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

mod common;

use bytes::Bytes;
use common::*;
use embedded::sim::SimDisk;
use embedded::{OpenError, Opened, Options};
use event::hub::Outcome;
use event::store::{Append, Entry, Feed, Position, Store, WhenFull};
use event::testing::store_contract::{keep, scan_all, stamps};
use event::{ByteLimit, Durability, Health, RejectKind};

fn refusal(outcome: Outcome) -> (RejectKind, String) {
    match outcome {
        Outcome::Refused(reject) => (reject.kind, reject.reason.into_owned()),
        Outcome::Kept | Outcome::Partly(_) => panic!("{outcome:?}"),
    }
}

fn down(health: &Health) -> Option<String> {
    health.parts().into_iter().find(|(part, _)| part == "store/embedded").unwrap().1
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    for prewrite in [0, 16] {
        let disk = SimDisk::new();
        let health = Health::default();
        let options = Options { prewrite_bytes: ByteLimit::kib(prewrite), ..small() };
        let Opened { store, mut feed, handle, .. } =
            embedded::open(&options, dir(), disk.clone(), health.clone()).unwrap();
        assert!(matches!(outcome(&store, &mut feed, of(large(0, 1000))).await, Outcome::Kept));
        disk.set_capacity(Some(disk.used() + 700));
        let mut kept = vec![0];
        let mut refused = 0;
        for stamp in 1..40 {
            match outcome(&store, &mut feed, of(large(stamp, 1000))).await {
                Outcome::Kept => kept.push(stamp),
                other @ (Outcome::Refused(_) | Outcome::Partly(_)) => {
                    let (kind, reason) = refusal(other);
                    assert_eq!(kind, RejectKind::Busy);
                    assert!(reason.contains("full") && reason.contains("free some space"), "{reason}");
                    assert_eq!(down(&health), Some(reason));
                    refused += 1;
                }
            }
        }
        assert!(refused > 10, "{refused}");
        disk.set_capacity(None);
        for stamp in 40..60 {
            assert!(matches!(outcome(&store, &mut feed, of(large(stamp, 1000))).await, Outcome::Kept));
            kept.push(stamp);
        }
        assert_eq!(down(&health), None);
        assert_eq!(all(&store).await, kept);
        handle.close();
        disk.crash(1);
        let Opened { store, handle, .. } = open(&disk, &options);
        assert_eq!(all(&store).await, kept, "what was refused is not there, what was kept is");
        handle.close();
    }
}

#[tokio::test]
async fn a_full_disk_in_the_middle_of_many_appends_harms_the_others_not() {
    let disk = SimDisk::new();
    let Opened { store, mut feed, handle, .. } = open(&disk, &small());
    outcome(&store, &mut feed, of(large(0, 10))).await;
    disk.set_capacity(Some(disk.used() + 5000));
    let mut waiting = Vec::new();
    for stamp in 1..30 {
        waiting.push((
            stamp,
            send(&store, of(large(stamp, if stamp % 2 == 0 { 30_000 } else { 10 })), Durability::Synced)
                .await,
        ));
    }
    drop(store);
    while let Some(batch) = feed.recv().await {
        batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
    }
    let mut kept = vec![0];
    for (stamp, receipt) in waiting {
        if matches!(receipt.await, Outcome::Kept) {
            kept.push(stamp);
        }
    }
    handle.close();
    let Opened { store, handle, .. } = open(&disk, &small());
    assert_eq!(all(&store).await, kept);
    handle.close();
}

async fn fill(store: &Store, feed: &mut Feed, from: u64) -> Vec<Position> {
    let mut positions = Vec::new();
    for stamp in from.. {
        let receipt = send(store, of(large(stamp, 10_000)), Durability::Synced).await;
        let mut receipt = std::pin::pin!(receipt);
        tokio::select! {
            biased;
            outcome = &mut receipt => {
                let (kind, reason) = refusal(outcome);
                assert_eq!(kind, RejectKind::Busy);
                assert!(reason.contains("max_bytes"), "{reason}");
                return positions;
            }
            Some(batch) = feed.recv() => {
                positions.extend(batch.entries.iter().map(|record| record.position));
                batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
            }
        }
    }
    positions
}

#[tokio::test]
async fn the_budget_holds_and_what_nobody_needs_makes_room() {
    let disk = SimDisk::new();
    let options = Options {
        max_bytes: ByteLimit::kib(512),
        retain_bytes: ByteLimit(0),
        retain_age_s: 0,
        prewrite_bytes: ByteLimit::kib(16),
        ..small()
    };
    let Opened { store, mut feed, handle, .. } = open(&disk, &options);
    let first = fill(&store, &mut feed, 0).await;
    assert!(disk.used() <= 512 << 10 && first.len() > 40);
    // Acknowledgements still pass, so that somebody can finish and free something.
    let note = Entry { event: None, note: Bytes::from_static(b"ack") };
    assert!(matches!(outcome(&store, &mut feed, vec![note]).await, Outcome::Kept));

    // Needed by a cursor, or by the checkpoint: not freed.
    let last = *first.last().unwrap();
    store.hold(last, last);
    assert!(fill(&store, &mut feed, 1000).await.is_empty());
    store.checkpoint(last, Bytes::new()).await.unwrap();
    let second = fill(&store, &mut feed, 1000).await;
    assert!(second.len() > 30, "{}", second.len());
    assert!(disk.used() <= 512 << 10);
    let events = store.read(vec![first[0], last, second[0]]).await.unwrap();
    assert_eq!(events.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
    let scanned = scan_all(&store, Position(0), 100_000).await;
    assert!(scanned[0].position > first[0], "a scan from a freed place starts at the oldest");
    assert_eq!(scan_all(&store, first[0], 100_000).await.len(), scanned.len());
    handle.close();
}

/// Sends what may take the place of the oldest events, and tells what became of it.
async fn overwrite(store: &Store, feed: &mut Feed, stamp: u64) -> Outcome {
    let (append, receipt) = Append::new(of(large(stamp, 10_000)), Durability::Synced);
    store.append(append.when_full(WhenFull::DropOldest)).await;
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

#[tokio::test]
async fn who_may_drops_the_oldest_at_the_budget_but_nothing_that_the_state_needs() {
    let disk = SimDisk::new();
    let options = Options { max_bytes: ByteLimit::kib(512), prewrite_bytes: ByteLimit::kib(16), ..small() };
    let Opened { store, mut feed, handle, .. } = open(&disk, &options);
    let first = fill(&store, &mut feed, 0).await;
    let (oldest, last) = (first[0], *first.last().unwrap());
    // A cursor waits for the first event. Nothing tells yet what the state needs.
    let (kind, _) = refusal(overwrite(&store, &mut feed, 1000).await);
    assert_eq!(kind, RejectKind::Busy);
    store.hold(oldest, last);
    store.checkpoint(last, Bytes::new()).await.unwrap();
    for stamp in 1000..1030 {
        assert!(matches!(overwrite(&store, &mut feed, stamp).await, Outcome::Kept), "{stamp}");
        assert!(disk.used() <= 512 << 10, "{}", disk.used());
    }
    let there = all(&store).await;
    assert!(there[0] > 10, "the oldest went: {}", there[0]);
    assert!(there.ends_with(&(1000..1030).collect::<Vec<_>>()));
    assert_eq!(store.read(vec![oldest, last]).await.unwrap().iter().flatten().count(), 1);
    // Now it would be the state's turn.
    let mut kept = 0;
    while matches!(overwrite(&store, &mut feed, 2000 + kept).await, Outcome::Kept) {
        kept += 1;
    }
    assert_eq!(store.read(vec![last]).await.unwrap().iter().flatten().count(), 1);
    // Who does not want this is refused, as ever.
    assert!(fill(&store, &mut feed, 5000).await.is_empty());
    handle.close();
}

#[tokio::test]
async fn space_is_freed_by_size_below_what_is_needed() {
    let disk = SimDisk::new();
    let options = Options { retain_bytes: ByteLimit::kib(150), retain_age_s: 0, ..small() };
    let Opened { store, mut feed, handle, .. } = open(&disk, &options);
    let mut records = Vec::new();
    for stamp in 0..60 {
        let receipt = send(&store, of(large(stamp, 10_000)), Durability::Synced).await;
        records.extend(keep(&mut feed, receipt).await);
    }
    assert!(disk.used() > 600_000, "nobody said what is not needed");
    let last = records[59].position;
    store.hold(records[40].position, records[40].position);
    store.checkpoint(last, Bytes::new()).await.unwrap();
    let kept = stamps(&scan_all(&store, Position(0), 1 << 20).await);
    assert!(kept[0] > 30 && kept[0] <= 40, "needed ones stay: {}", kept[0]);
    assert_eq!(kept, (kept[0]..60).collect::<Vec<_>>());
    store.hold(last, last);
    store.checkpoint(last, Bytes::new()).await.unwrap();
    let kept = stamps(&scan_all(&store, Position(0), 1 << 20).await);
    assert!(disk.used() <= 150 << 10 && kept[0] > 40 && kept.len() > 5, "{} B, {kept:?}", disk.used());
    handle.close();
    // And after a restart.
    let Opened { store, handle, .. } = open(&disk, &options);
    assert_eq!(all(&store).await, kept);
    handle.close();
}

#[test]
fn settings_out_of_range_are_named() {
    let wrong = [
        (Options { segment_bytes: ByteLimit(100), ..Options::default() }, "segment_bytes is 100"),
        (Options { queue_batches: 0, ..Options::default() }, "queue_batches is 0"),
        (Options { max_bytes: ByteLimit::mib(100), ..Options::default() }, "max_bytes is 104857600"),
        (Options { sync_idle_ms: 0, ..Options::default() }, "sync_idle_ms is 0"),
    ];
    for (options, message) in wrong {
        let error = try_open(&SimDisk::new(), &options).err().unwrap();
        assert!(matches!(error, OpenError::Option { .. }) && error.to_string().contains(message), "{error}");
    }
    assert!(Options::default().check().is_ok());
}

#[tokio::test]
async fn an_append_that_finds_no_room_waits_and_is_given_back() {
    let disk = SimDisk::new();
    let options = Options { queue_batches: 1, ..small() };
    let Opened { store, feed, handle, .. } = open(&disk, &options);
    drop(feed);
    let mut accepted = 0;
    let refused = loop {
        match store.try_append(Append::unanswered(of(large(accepted, 10)))) {
            Ok(()) => accepted += 1,
            Err(append) => break append,
        }
    };
    assert_eq!(refused.entries.len(), 1);
    store.append(refused).await;
    handle.close();
    let Opened { store, handle, .. } = open(&disk, &options);
    assert_eq!(all(&store).await, (0..=accepted).collect::<Vec<_>>());
    handle.close();
}
