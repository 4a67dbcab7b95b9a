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

/// What is done to a fixture.
enum Harm {
    Flip(usize),
    Cut(usize),
    Fill(usize, usize),
    Append(&'static [u8]),
    Gone,
}

/// Damaged copies of version 1: what opening them tells, and which records are left, as text in `damaged.txt`.
#[tokio::test]
async fn damage_to_format_1_is_told_as_ever() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let (first, last) = ("00000000000000000000.log", "00000000000000061059.log");
    let checkpoint = "00000000000000000217.checkpoint";
    let harms = [
        ("a bit of an event", first, Harm::Flip(950)),
        ("the length of a record", first, Harm::Flip(879)),
        ("the header of the first segment", first, Harm::Flip(20)),
        ("the header of the last segment", last, Harm::Flip(9)),
        ("the end of the first segment", first, Harm::Cut(50_000)),
        ("a block of zeros", first, Harm::Fill(4096, 4096)),
        ("the first segment is gone", first, Harm::Gone),
        ("the last segment is gone", last, Harm::Gone),
        ("a torn tail", last, Harm::Append(b"torn, and never confirmed")),
        ("the last record is torn", last, Harm::Cut(20_200)),
        ("the state of the checkpoint", checkpoint, Harm::Flip(50)),
        ("the checkpoint is gone", checkpoint, Harm::Gone),
    ];
    let mut text = String::new();
    for (name, file, harm) in harms {
        let disk = SimDisk::new();
        for path in [first, last, checkpoint] {
            let mut content = fs::read(folder.join(path)).unwrap();
            match &harm {
                _ if path != file => {}
                Harm::Flip(at) => content[*at] ^= 4,
                Harm::Cut(length) => content.truncate(*length),
                Harm::Fill(from, length) => content[*from..from + length].fill(0),
                Harm::Append(bytes) => content.extend_from_slice(bytes),
                Harm::Gone => continue,
            }
            disk.put(&dir().join(path), content);
        }
        match try_open(&disk, &small()) {
            Err(error) => writeln!(text, "{name}: {error}").unwrap(),
            Ok(Opened { store, report, handle, .. }) => {
                let left = scan_all(&store, Position(0), 1 << 20).await;
                handle.close();
                let checkpoint = report.checkpoint.map(|position| position.0);
                writeln!(
                    text,
                    "{name}: checkpoint {checkpoint:?}, damaged {:?}, cut {:?}, {} records",
                    report.damaged,
                    report.cut,
                    left.len()
                )
                .unwrap();
            }
        }
    }
    assert_eq!(text, fs::read_to_string(folder.join("damaged.txt")).unwrap(), "\n{text}");
}
