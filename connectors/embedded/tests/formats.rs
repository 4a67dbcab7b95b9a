//! Bytes that are on somebody's disk: the corpus of the fuzz target, and data folders of every format that was shipped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use common::*;
use embedded::Opened;
use embedded::sim::SimDisk;
use event::store::Position;
use event::testing::Chance;
use event::testing::store_contract::scan_all;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpora/log_read");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn the_corpus_of_log_read() {
    let corpus = corpus();
    assert!(corpus.len() >= 20, "{}", corpus.len());
    corpus.iter().for_each(|data| embedded::exercise(data));
}

/// A fuzz target of the poor: each file with some bytes changed, cut, doubled.
#[test]
fn the_corpus_of_log_read_a_little_changed() {
    let mut chance = Chance(1);
    for data in corpus() {
        for _ in 0..60 {
            let mut data = data.clone();
            for _ in 0..=chance.below(3) {
                let at = 1 + chance.below(data.len() as u64) as usize;
                match chance.below(4) {
                    0 => data.truncate(at),
                    1 => data.extend_from_within(at.min(data.len())..),
                    _ if at < data.len() => data[at] = chance.number() as u8,
                    _ => data.push(chance.number() as u8),
                }
            }
            embedded::exercise(&data);
        }
    }
}

/// Data folders of version 1, with what they hold as text. New versions add a folder; this one stays as it is.
#[tokio::test]
async fn format_1_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let disk = SimDisk::new();
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        disk.put(&dir().join(path.file_name().unwrap()), fs::read(path).unwrap());
    }
    let Opened { store, report, handle, .. } = open(&disk, &small());
    assert_eq!((report.cut, report.damaged.len(), report.segments), (None, 0, 2));
    let mut text = format!("checkpoint {:?}\n", store.load_checkpoint().await.unwrap());
    for record in scan_all(&store, Position(0), 1 << 20).await {
        let event = format!("{:?}", record.event.map(|event| event.parts().clone()));
        let start: String = event.chars().take(900).collect();
        writeln!(text, "{} {:?} {start}", record.position.0, record.note).unwrap();
    }
    handle.close();
    assert_eq!(text, fs::read_to_string(folder.join("expected.txt")).unwrap());
}
