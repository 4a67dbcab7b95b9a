//! What every store that can be read back has to do, as tests. A connector runs all of them: [`check`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "these are tests")]

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::hub::{Outcome, Receipt};
use crate::store::{Append, Committed, Entry, Feed, Position, Scanned, Store};
use crate::{Attributes, Durability, Event, Meta, Parts, TopicName, Value};

/// A store that the contract starts, stops and starts again over the same data.
pub trait Subject {
    /// Starts the store. It is not running.
    fn start(&mut self) -> (Store, Feed);
    /// Stops it in an orderly way. Handles of it may still be there, and the feed, with room in it.
    fn stop(&mut self);
}

impl Subject for super::MemoryStore {
    fn start(&mut self) -> (Store, Feed) {
        self.open()
    }
    fn stop(&mut self) {}
}

/// Runs all cases, each on a subject of its own. Panics with what a case found; needs a tokio runtime.
pub async fn check<S: Subject>(subject: impl Fn() -> S) {
    fed_in_order_and_kept(subject()).await;
    events_come_back_as_they_were(subject()).await;
    notes_and_events_share_a_record(subject()).await;
    nobody_waits_for_an_unanswered_append(subject()).await;
    reads_answer_each_position(subject()).await;
    scans_go_on_where_they_ended(subject()).await;
    a_position_from_outside_is_no_trap(subject()).await;
    a_time_is_found(subject()).await;
    the_last_checkpoint_is_loaded(subject()).await;
    positions_rise_over_a_restart(subject()).await;
    each_publisher_keeps_its_order(subject()).await;
    a_core_that_is_behind_holds_appends_back(subject()).await;
    the_feed_ends_after_the_last_handle(subject()).await;
}

/// Fed batches come in order, with receipts, and can be read once they are fed.
async fn fed_in_order_and_kept(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let mut last = Position(0);
    for n in 0..50_u64 {
        let durability = [Durability::Received, Durability::Written, Durability::Synced][n as usize % 3];
        let (append, receipt) = Append::new(vec![entry(2 * n), entry(2 * n + 1)], durability);
        store.append(append).await;
        let records = keep(&mut feed, receipt).await;
        assert_eq!(stamps(&records), [2 * n, 2 * n + 1]);
        for record in &records {
            assert!(record.position > last, "positions rise");
            last = record.position;
        }
        let read = store.read(records.iter().map(|record| record.position).collect()).await.unwrap();
        assert_eq!(
            read,
            records.iter().map(|record| record.event.clone()).collect::<Vec<_>>(),
            "read when fed"
        );
    }
    subject.stop();
}

async fn events_come_back_as_they_were(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let events = all_kinds_of_events();
    let entries =
        events.iter().map(|event| Entry { event: Some(event.clone()), note: Bytes::new() }).collect();
    let (append, receipt) = Append::new(entries, Durability::Synced);
    store.append(append).await;
    let positions: Vec<Position> =
        keep(&mut feed, receipt).await.iter().map(|record| record.position).collect();
    let check = |read: Vec<Option<Event>>| {
        let got: Vec<_> = read.iter().flatten().map(Event::parts).collect();
        assert_eq!(got, events.iter().map(Event::parts).collect::<Vec<_>>());
    };
    check(store.read(positions.clone()).await.unwrap());
    subject.stop();
    let (store, _feed) = subject.start();
    check(store.read(positions).await.unwrap());
    subject.stop();
}

async fn notes_and_events_share_a_record(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let note = |text: &'static str| Bytes::from_static(text.as_bytes());
    let entries = vec![
        Entry { event: Some(event(1)), note: note("both") },
        Entry { event: None, note: note("note alone") },
        Entry { event: Some(event(2)), note: Bytes::new() },
    ];
    let (append, receipt) = Append::new(entries.clone(), Durability::Synced);
    store.append(append).await;
    let fed = keep(&mut feed, receipt).await;
    let scanned = scan_all(&store, Position(0), 1 << 20).await;
    for records in [&fed, &scanned] {
        let got: Vec<_> = records.iter().map(|record| (record.event.clone(), record.note.clone())).collect();
        let wanted: Vec<_> = entries.iter().map(|entry| (entry.event.clone(), entry.note.clone())).collect();
        assert_eq!(got, wanted);
    }
    // An append of nothing is answered when all before it is kept.
    let (append, receipt) = Append::new(Vec::new(), Durability::Synced);
    store.append(append).await;
    assert!(keep(&mut feed, receipt).await.is_empty());
    subject.stop();
}

async fn nobody_waits_for_an_unanswered_append(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    assert!(store.try_append(Append::unanswered(vec![entry(1)])).is_ok());
    let batch = feed.recv().await.unwrap();
    assert_eq!(stamps(&batch.entries), [1]);
    assert!(batch.receipts.is_empty());
    subject.stop();
}

async fn reads_answer_each_position(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let records = append(&store, &mut feed, 0..100).await;
    let wanted: Vec<Position> = records.iter().step_by(7).map(|record| record.position).collect();
    let events = store.read(wanted.clone()).await.unwrap();
    let got: Vec<u64> = events.iter().flatten().map(|event| event.parts().stamp).collect();
    assert_eq!(got, (0..100).step_by(7).collect::<Vec<_>>());
    let last = records.last().unwrap().position;
    let strange = vec![Position(0), records[3].position, Position(last.0 + 1), Position(u64::MAX)];
    let events = store.read(strange).await.unwrap();
    assert_eq!(events.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, false]);
    assert!(store.read(Vec::new()).await.unwrap().is_empty());
    subject.stop();
}

async fn scans_go_on_where_they_ended(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let empty = store.scan(Position(0), 1000).await.unwrap();
    assert!(empty.end && empty.records.is_empty());
    let records = append(&store, &mut feed, 0..200).await;
    for bytes in [0, 1, 500, 3000, 1 << 20] {
        assert_eq!(stamps(&scan_all(&store, Position(0), bytes).await), (0..200).collect::<Vec<_>>());
    }
    let Scanned { records: one, end } = store.scan(Position(0), 0).await.unwrap();
    assert_eq!((one.len(), end), (1, false), "at least one record, and not the end");
    let tail = scan_all(&store, records[149].position, 1000).await;
    assert_eq!(stamps(&tail), (150..200).collect::<Vec<_>>());
    assert_eq!(tail[0].position, records[150].position);
    let none = store.scan(records[199].position, 1000).await.unwrap();
    assert!(none.end && none.records.is_empty());
    subject.stop();
}

/// A client may send any number as the place where it wants to go on.
async fn a_position_from_outside_is_no_trap(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let records = append(&store, &mut feed, 0..20).await;
    let wanted = records[10].position;
    for after in [wanted.0 - 1, wanted.0 + 1, u64::MAX - 1, u64::MAX] {
        let got = scan_all(&store, Position(after), 1 << 20).await;
        let behind: Vec<_> = records.iter().filter(|record| record.position.0 > after).cloned().collect();
        assert_eq!(stamps(&got), stamps(&behind), "after {after}");
    }
    subject.stop();
}

async fn a_time_is_found(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let behind = async |since_ms| {
        let found = store.find(since_ms).await.unwrap();
        stamps(&scan_all(&store, found, 1 << 20).await)
    };
    assert_eq!(behind(0).await, [0_u64; 0]);
    for n in 0..400_u64 {
        // Two of each time, and notes between them.
        let parts = Parts { received_ms: 1000 + n / 2 * 10, ..event(n).parts().clone() };
        let note = Entry { event: None, note: Bytes::from_static(b"note") };
        let entries = vec![note, Entry { event: Some(Event::new(parts)), note: Bytes::new() }];
        let (append, receipt) = Append::new(entries, Durability::Received);
        store.append(append).await;
        keep(&mut feed, receipt).await;
    }
    for (since_ms, first) in [(0, 0), (1000, 0), (1001, 2), (1010, 2), (1995, 200), (2990, 398), (2991, 400)]
    {
        assert_eq!(behind(since_ms).await, (first..400).collect::<Vec<_>>(), "since {since_ms}");
    }
    let end = store.find(u64::MAX).await.unwrap();
    let records = append(&store, &mut feed, 400..410).await;
    assert_eq!(stamps(&scan_all(&store, end, 1 << 20).await), stamps(&records), "what came after is behind");
    subject.stop();
}

async fn the_last_checkpoint_is_loaded(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    assert_eq!(store.load_checkpoint().await.unwrap(), None);
    let records = append(&store, &mut feed, 0..9).await;
    let states =
        [Bytes::from_static(b"first"), Bytes::new(), Bytes::from(vec![7; 3 << 20]), Bytes::from_static(b"4")];
    for (at, state) in states.iter().enumerate() {
        let position = records[2 * at].position;
        store.checkpoint(position, state.clone()).await.unwrap();
        assert_eq!(store.load_checkpoint().await.unwrap(), Some((position, state.clone())));
    }
    subject.stop();
    let (store, _feed) = subject.start();
    let (position, state) = store.load_checkpoint().await.unwrap().unwrap();
    assert_eq!((position, state), (records[6].position, Bytes::from_static(b"4")));
    assert_eq!(stamps(&scan_all(&store, position, 1 << 20).await), [7, 8], "the records behind it are there");
    subject.stop();
}

async fn positions_rise_over_a_restart(mut subject: impl Subject) {
    let mut last = Position(0);
    for round in 0..4_u64 {
        let (store, mut feed) = subject.start();
        let before = scan_all(&store, Position(0), 4096).await;
        assert_eq!(stamps(&before), (0..round * 25).collect::<Vec<_>>());
        let records = append(&store, &mut feed, round * 25..(round + 1) * 25).await;
        assert!(records[0].position > last);
        last = records[24].position;
        subject.stop();
    }
}

async fn each_publisher_keeps_its_order(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let publish = |publisher: u64| {
        let store = store.clone();
        async move {
            for n in 0..100 {
                let durability = if n % 5 == 0 { Durability::Synced } else { Durability::Received };
                let (append, _receipt) = Append::new(vec![entry(publisher << 32 | n)], durability);
                store.append(append).await;
            }
        }
    };
    let publishers: Vec<_> = (0..4).map(|publisher| tokio::spawn(publish(publisher))).collect();
    let mut next = [0; 4];
    while next.iter().sum::<u64>() < 400 {
        for stamp in stamps(&feed.recv().await.unwrap().entries) {
            let publisher = (stamp >> 32) as usize;
            assert_eq!(stamp & 0xffff_ffff, next[publisher]);
            next[publisher] += 1;
        }
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    subject.stop();
}

/// Nobody takes from the feed: in the end appends wait. Then somebody does: all are kept, none is lost.
async fn a_core_that_is_behind_holds_appends_back(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let mut waiting = Vec::new();
    let refused = loop {
        let n = waiting.len() as u64;
        let data = Bytes::from(vec![0; 1 << 20]);
        let large = Event::new(Parts { data, ..event(n).parts().clone() });
        let (append, receipt) =
            Append::new(vec![Entry { event: Some(large), note: Bytes::new() }], Durability::Received);
        match store.try_append(append) {
            Ok(()) => waiting.push(receipt),
            Err(refused) => break refused,
        }
        assert!(n < 100_000, "nothing holds appends back");
    };
    assert_eq!(refused.entries[0].event.as_ref().unwrap().parts().stamp, waiting.len() as u64, "given back");
    let mut kept = Vec::new();
    while kept.len() < waiting.len() {
        let batch = feed.recv().await.unwrap();
        kept.extend(stamps(&batch.entries));
        batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
    }
    assert_eq!(kept, (0..waiting.len() as u64).collect::<Vec<_>>());
    for receipt in waiting {
        assert!(matches!(receipt.await, Outcome::Kept));
    }
    subject.stop();
}

async fn the_feed_ends_after_the_last_handle(mut subject: impl Subject) {
    let (store, mut feed) = subject.start();
    let (append, _receipt) = Append::new(vec![entry(1)], Durability::Synced);
    store.append(append).await;
    drop(store);
    assert_eq!(stamps(&feed.recv().await.unwrap().entries), [1]);
    assert!(feed.recv().await.is_none());
    subject.stop();
}

/// Takes from the feed until `receipt` is due, resolves what comes, and gives back what was fed.
pub async fn keep(feed: &mut Feed, receipt: Receipt) -> Vec<Committed> {
    let mut receipt = pin!(receipt);
    let mut records = Vec::new();
    loop {
        tokio::select! {
            biased;
            outcome = &mut receipt => {
                assert!(matches!(outcome, Outcome::Kept), "{outcome:?}");
                return records;
            }
            batch = feed.recv() => {
                let batch = batch.expect("the store is there");
                records.extend(batch.entries);
                batch.receipts.into_iter().for_each(|(sender, outcome)| sender.resolve(outcome));
            }
        }
    }
}

/// Appends one event for each stamp, some at a time, and waits until they are kept.
pub async fn append(store: &Store, feed: &mut Feed, wanted: std::ops::Range<u64>) -> Vec<Committed> {
    let mut records = Vec::new();
    for start in wanted.clone().step_by(10) {
        let end = wanted.end.min(start + 10);
        let (append, receipt) = Append::new((start..end).map(entry).collect(), Durability::Synced);
        store.append(append).await;
        records.extend(keep(feed, receipt).await);
    }
    records
}

/// Scans to the end in pieces of `bytes`.
pub async fn scan_all(store: &Store, after: Position, bytes: usize) -> Vec<Committed> {
    let mut records: Vec<Committed> = Vec::new();
    loop {
        let from = records.last().map_or(after, |record| record.position);
        let scanned = store.scan(from, bytes).await.unwrap();
        assert!(scanned.end || !scanned.records.is_empty(), "a scan gets on");
        records.extend(scanned.records);
        if scanned.end {
            return records;
        }
    }
}

/// The stamps of the events of `records`.
pub fn stamps(records: &[Committed]) -> Vec<u64> {
    records.iter().filter_map(|record| record.event.as_ref()).map(|event| event.parts().stamp).collect()
}

/// An entry with [`event`].
pub fn entry(stamp: u64) -> Entry {
    Entry { event: Some(event(stamp)), note: Bytes::from(stamp.to_le_bytes().to_vec()) }
}

/// An event that says its stamp in topic and data; some are longer than others.
pub fn event(stamp: u64) -> Event {
    let topic = TopicName::parse(format!("contract/{stamp}")).unwrap();
    let data = format!("{stamp} ").repeat(stamp as usize % 17).into();
    let publisher = Arc::from("contract");
    Event::new(Parts {
        topic,
        data,
        stamp,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher,
        meta: None,
    })
}

/// One event of each kind: everything there, everything absent, everything empty, and large ones.
pub fn all_kinds_of_events() -> Vec<Event> {
    let text = ByteString::from_static;
    let bare = event(1).parts().clone();
    let with = |meta: Meta| Parts { meta: Some(Box::new(meta)), ..bare.clone() };
    let attributes = Attributes {
        id: text("i-1"),
        source: text("/s?a=b#c"),
        ty: text("org.example.ü"),
        subject: None,
        time: None,
        dataschema: None,
        extensions: Vec::new(),
    };
    let full = Attributes {
        subject: Some(text("")),
        time: Some(text("2026-11-24T04:00:00.123456789+05:30")),
        dataschema: Some(text("https://example.org/schema")),
        extensions: vec![
            (text("yes"), Value::Boolean(true)),
            (text("no"), Value::Boolean(false)),
            (text("least"), Value::Integer(i32::MIN)),
            (text("most"), Value::Integer(i32::MAX)),
            (text("text"), Value::String(text("\u{10ffff} \0 \"x\""))),
            (text("empty"), Value::String(text(""))),
        ],
        ..attributes.clone()
    };
    let rich = Meta {
        attributes: Some(full),
        content_type: Some(text("application/json; charset=utf-8")),
        utf8: true,
        reply_to: Some(TopicName::parse("reply/to").unwrap()),
        correlation: Some(Bytes::from_static(&[0, 255, 128])),
        user: vec![(text("k"), text("1")), (text("k"), text("2")), (text(""), text(""))],
    };
    let long = ByteString::from("x".repeat(70_000));
    let parts = [
        bare.clone(),
        Parts { expires_ms: u64::MAX, stamp: u64::MAX, received_ms: 0, ..bare.clone() },
        Parts { publisher: Arc::from(""), data: Bytes::new(), ..bare.clone() },
        Parts { data: (0..=255).collect::<Vec<u8>>().repeat(4096).into(), ..bare.clone() },
        with(Meta::default()),
        with(Meta { correlation: Some(Bytes::new()), ..Meta::default() }),
        with(Meta { attributes: Some(attributes), ..Meta::default() }),
        with(Meta { user: vec![(long.clone(), long)], ..Meta::default() }),
        with(rich),
    ];
    parts.into_iter().map(Event::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_in_memory_passes() {
        check(super::super::MemoryStore::new).await;
    }
}
