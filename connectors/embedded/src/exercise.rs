//! Any bytes as what a disk holds: for the fuzz target `log_read` and its corpus.

use std::path::Path;

use bytes::{Buf as _, Bytes};
use event::store::{Append, Committed, Entry, Position, Request};
use event::{ByteLimit, Health};
use tokio::sync::oneshot;

use crate::body;
use crate::options::Options;
use crate::reader::Reader;
use crate::record::{self, Salt};
use crate::recovery::recover;
use crate::segment::{self, Header};
use crate::sim::SimDisk;

const SALT: Salt = Salt(0x5eed);
const NAME: &str = "00000000000000000000";

/// Reads `data` as the first byte says. Panics when a promise does not hold.
///
/// | first byte | the rest |
/// |---|---|
/// | 0 | the body of a record |
/// | 1 | bodies, each behind two bytes with its length, which are put into frames and into a segment; then a tail |
/// | 2 | a segment, header included |
/// | 3 | a checkpoint, beside an empty segment |
pub fn exercise(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        0 => a_body(Bytes::copy_from_slice(rest)),
        1 => a_folder(&[(".log", framed(rest))]),
        2 => a_folder(&[(".log", rest.to_vec())]),
        3 => a_folder(&[(".log", header()), (".checkpoint", rest.to_vec())]),
        _ => {}
    }
}

/// What is read is written again and read as the same.
fn a_body(bytes: Bytes) {
    let Some(read) = body::decode(bytes.clone()) else { return };
    assert_eq!(body::synced(&bytes), read.synced);
    let entry = Entry { event: read.event.clone(), note: read.note.clone() };
    let mut again = Vec::new();
    body::encode(&mut again, &entry, read.synced);
    assert_eq!(body::decode(again.into()), Some(read));
}

fn header() -> Vec<u8> {
    Header { version: segment::VERSION, base: 0, salt: SALT, created_ms: 0 }.encode()
}

fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut log = header();
    while let Ok(length) = data.try_get_u16() {
        let (body, rest) = data.split_at(usize::from(length).min(data.len()));
        let position = log.len() as u64;
        // What is too long for a frame cannot be had from two bytes of length.
        record::frame(&mut log, SALT, position, |out| out.extend_from_slice(body)).unwrap_or(());
        data = rest;
    }
    log.extend_from_slice(data);
    log
}

/// A folder with these files opens or says why not. If it opens, the log goes on: what is there stays there.
fn a_folder(files: &[(&str, Vec<u8>)]) {
    let dir = Path::new("/data");
    let disk = SimDisk::new();
    for (extension, content) in files {
        disk.put(&dir.join(format!("{NAME}{extension}")), content.clone());
    }
    let options = Options { prewrite_bytes: ByteLimit::kib(4), ..Options::default() };
    let open = || recover(disk.clone(), dir, &options, Health::default(), 1);
    let Ok((shared, mut writer, _)) = open() else { return };
    let before = scan(&Reader::new(shared));
    assert!(before.is_sorted_by(|a, b| a.position < b.position));
    let note = Bytes::from_static(b"goes on");
    let batch = writer.append(&mut vec![Append::unanswered(vec![Entry { event: None, note }])], 1);
    assert_eq!(batch.entries.len(), 1);
    let synced = writer.sync();
    assert!(synced.is_ok(), "{synced:?}");
    drop(writer);
    disk.crash(1);
    let opened = open();
    assert!(opened.is_ok(), "{:?}", opened.err());
    let Ok((shared, _, report)) = opened else { return };
    assert_eq!(report.cut, None);
    let after = scan(&Reader::new(shared));
    let same =
        |a: &Committed, b: &Committed| a.position == b.position && a.event == b.event && a.note == b.note;
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.iter().zip(before.iter().chain(&batch.entries)).all(|(a, b)| same(a, b)));
}

fn scan(reader: &Reader<SimDisk>) -> Vec<Committed> {
    let mut records: Vec<Committed> = Vec::new();
    loop {
        let after = records.last().map_or(Position(0), |record| record.position);
        let (reply, mut answer) = oneshot::channel();
        reader.answer(Request::Scan { after, bytes: 1000, reply }, 1);
        let Ok(Ok(scanned)) = answer.try_recv() else { return records };
        records.extend(scanned.records);
        if scanned.end {
            return records;
        }
    }
}
