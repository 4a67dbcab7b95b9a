//! A data folder byte by byte, by example, and how its formats may change.
//!
//! All numbers are little-endian, whatever the machine; nothing depends on the size of its addresses. The parts are told in
//! `segment.rs`, `record.rs`, `body.rs`, `checkpoint.rs` and `lockfile.rs`. This is a folder with one plain publish and one
//! note, and a checkpoint of both, field by field; a test writes it and compares.
//!
//! ```text
//! 00000000000000000000.log
//! 0000  77 65 66 74 20 6c 6f 67                          "weft log"
//! 0008  01 00 00 00                                      version of the format: 1
//! 000c  00 00 00 00
//! 0010  00 00 00 00 00 00 00 00                          base: 0
//! 0018  ef cd ab 89 67 45 23 01                          salt of the data folder
//! 0020  00 68 e5 cf 8b 01 00 00                          made: 1700000000000 ms since 1970
//! 0028  00 × 20
//! 003c  8c 68 a4 a3                                      CRC-32 of these 60 bytes
//! 0040  3c 00 00 00                                      length of the record: 60
//! 0044  bc 03 c9 2b                                      mark of salt, position 64 and length
//! 0048  15 c5 4e e0                                      CRC-32 of the body, begun with the mark
//! 004c  01                                               flags: an event
//! 004d  02                                               length of the note: 2
//! 004e  01 01                                            note: an event, at least once
//! 0050  01 00 00 00 00 00 00 00                          stamp of the event: 1
//! 0058  00 68 e5 cf 8b 01 00 00                          received: 1700000000000 ms since 1970
//! 0060  03                                               length of the topic: 3
//! 0061  61 2f 62                                         topic: "a/b"
//! 0064  03                                               length of the publisher: 3
//! 0065  64 65 76                                         publisher: "dev"
//! 0068  32 31 2e 35 20 64 65 67 72 65 65 73 20 43 65 6c 73 69 75 73  data: "21.5 degrees Celsius"
//! 007c  18 00 00 00                                      length of the record: 24
//! 0080  c2 c2 fb a1                                      mark of salt, position 124 and length
//! 0084  15 61 1e 78                                      CRC-32 of the body, begun with the mark
//! 0088  08                                               flags: synced, no event
//! 0089  7c 00 00 00 00 00 00 00                          the log was durable up to 124
//! 0091  02                                               length of the note: 2
//! 0092  02 07                                            note: the core's business
//! 0094  00 × 16                                          zeros, written ahead: a length of 0 is the end
//! 00000000000000000124.checkpoint
//! 0000  77 65 66 74 20 63 68 6b                          "weft chk"
//! 0008  01 00 00 00                                      version of the format: 1
//! 000c  00 00 00 00
//! 0010  7c 00 00 00 00 00 00 00                          position of the record whose state this is: 124
//! 0018  ef cd ab 89 67 45 23 01                          salt of the data folder
//! 0020  05 00 00 00 00 00 00 00                          length of the state: 5
//! 0028  c5 35 8c 71                                      CRC-32 of the 40 bytes before, then of the state
//! 002c  73 74 61 74 65                                   state: the core's business
//! lock
//! 0000  77 65 66 74 20 6c 63 6b                          "weft lck"
//! 0008  ef cd ab 89 67 45 23 01                          salt of the data folder
//! 0010  ff 6b cf 36                                      CRC-32 of these 16 bytes
//! ```
//!
//! # Versions
//!
//! | what | where its version is | known |
//! |---|---|---|
//! | segments, with the records and bodies in them | offset 8 of each segment | 1 |
//! | checkpoints | offset 8 of each checkpoint | 1 |
//! | the core's state in a checkpoint | its first number, `VERSION` in `routing/core/src/checkpoint.rs`; opaque here | |
//! | the core's notes | their first byte, the kind, in `routing/core/src/notes.rs`; opaque here | |
//! | `lock` | none: another format gets another beginning | |
//!
//! A version that is not known stops the start with a word on which Weft wrote it, and changes nothing. Whoever changes a
//! format raises its version, goes on reading the older ones, and adds a folder to `tests/fixtures` that the new one has
//! written; older folders stay as they are. A test reads all of them, and another one writes the newest again and fails if a
//! single byte differs.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use bytes::Bytes;
    use event::store::{Entry, Position};
    use event::{Event, Parts, TopicName};

    use crate::disk::Disk as _;
    use crate::read_only::ReadOnly;
    use crate::record::{self, FRAME, Salt};
    use crate::segment::{self, HEADER, Header};
    use crate::walk::Piece;
    use crate::window::Look;
    use crate::{body, checkpoint, lockfile};

    const SALT: Salt = Salt(0x0123_4567_89ab_cdef);
    const TIME: u64 = 1_700_000_000_000;

    /// The fields of a file: how many bytes, and what they are.
    type Fields<'a> = &'a [(usize, &'a str)];

    fn dump(out: &mut String, name: &str, bytes: &[u8], fields: Fields<'_>) {
        writeln!(out, "//! {name}").unwrap();
        let mut at = 0;
        for (length, meaning) in fields {
            let field = &bytes[at..at + length];
            let hex = match field {
                [first, ..] if field.len() > 8 && field.iter().all(|byte| byte == first) => {
                    format!("{first:02x} × {}", field.len())
                }
                _ => field.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
            };
            writeln!(out, "{}", format!("//! {at:04x}  {hex:<47}  {meaning}").trim_end()).unwrap();
            at += length;
        }
        assert_eq!(at, bytes.len(), "{name}: every byte is told");
    }

    const SEGMENT: Fields<'_> = &[
        (8, "\"weft log\""),
        (4, "version of the format: 1"),
        (4, ""),
        (8, "base: 0"),
        (8, "salt of the data folder"),
        (8, "made: 1700000000000 ms since 1970"),
        (20, ""),
        (4, "CRC-32 of these 60 bytes"),
        (4, "length of the record: 60"),
        (4, "mark of salt, position 64 and length"),
        (4, "CRC-32 of the body, begun with the mark"),
        (1, "flags: an event"),
        (1, "length of the note: 2"),
        (2, "note: an event, at least once"),
        (8, "stamp of the event: 1"),
        (8, "received: 1700000000000 ms since 1970"),
        (1, "length of the topic: 3"),
        (3, "topic: \"a/b\""),
        (1, "length of the publisher: 3"),
        (3, "publisher: \"dev\""),
        (20, "data: \"21.5 degrees Celsius\""),
        (4, "length of the record: 24"),
        (4, "mark of salt, position 124 and length"),
        (4, "CRC-32 of the body, begun with the mark"),
        (1, "flags: synced, no event"),
        (8, "the log was durable up to 124"),
        (1, "length of the note: 2"),
        (2, "note: the core's business"),
        (16, "zeros, written ahead: a length of 0 is the end"),
    ];
    const CHECKPOINT: Fields<'_> = &[
        (8, "\"weft chk\""),
        (4, "version of the format: 1"),
        (4, ""),
        (8, "position of the record whose state this is: 124"),
        (8, "salt of the data folder"),
        (8, "length of the state: 5"),
        (4, "CRC-32 of the 40 bytes before, then of the state"),
        (5, "state: the core's business"),
    ];
    const LOCK: Fields<'_> =
        &[(8, "\"weft lck\""), (8, "salt of the data folder"), (4, "CRC-32 of these 16 bytes")];

    fn example() -> String {
        let mut log = Header { version: segment::VERSION, base: 0, salt: SALT, created_ms: TIME }.encode();
        let event = Event::new(Parts {
            topic: TopicName::parse("a/b").unwrap(),
            data: Bytes::from_static(b"21.5 degrees Celsius"),
            stamp: 1,
            received_ms: TIME,
            expires_ms: 0,
            publisher: Arc::from("dev"),
            meta: None,
        });
        let entry = Entry { event: Some(event), note: Bytes::from_static(&[1, 1]) };
        record::encode(&mut log, SALT, 64, &entry, None).unwrap();
        let position = log.len() as u64;
        let entry = Entry { event: None, note: Bytes::from_static(&[2, 7]) };
        record::encode(&mut log, SALT, position, &entry, Some(position)).unwrap();
        log.extend_from_slice(&[0; 16]);
        let mut out = String::new();
        dump(&mut out, "00000000000000000000.log", &log, SEGMENT);
        let state = checkpoint::encode(Position(position), SALT, b"state");
        dump(&mut out, &format!("{position:020}.checkpoint"), &state, CHECKPOINT);
        dump(&mut out, lockfile::NAME, &lockfile::encode(SALT), LOCK);
        out
    }

    #[test]
    fn the_example_is_what_is_written() {
        let (wanted, text) = (example(), include_str!("format.rs"));
        assert!(text.contains(&wanted), "the example is now:\n{wanted}");
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    /// A change of a format without a new version shows here: what stands in the newest fixture would be written otherwise.
    #[test]
    fn the_newest_fixture_would_be_written_byte_for_byte() {
        let dir = fixture(&format!("v{}", segment::VERSION));
        let (mut records, mut checkpoints) = (0, 0);
        for name in ReadOnly.list(&dir).unwrap() {
            let bytes = std::fs::read(dir.join(&name)).unwrap();
            if let Some(base) = segment::number_of(&name, ".log") {
                let piece = Piece::open(&ReadOnly, &dir, base).unwrap();
                let header = piece.header.unwrap();
                assert_eq!(header.encode(), bytes[..HEADER as usize]);
                let mut window = piece.records(header.salt, None);
                let mut at = base + HEADER;
                while let Look::Record(record) = window.look(at).unwrap() {
                    let body = body::decode(Bytes::copy_from_slice(&record[FRAME..])).unwrap();
                    let entry = Entry { event: body.event, note: body.note };
                    let mut again = Vec::new();
                    record::encode(&mut again, header.salt, at, &entry, body.synced).unwrap();
                    assert_eq!(again, record, "the record at {at}: raise segment::VERSION and add a fixture");
                    at += record.len() as u64;
                    records += 1;
                }
            } else if let Some(position) = segment::number_of(&name, checkpoint::EXTENSION).map(Position) {
                let read = checkpoint::read(&ReadOnly, &dir, position).unwrap().unwrap();
                let again = checkpoint::encode(position, read.salt, &read.state);
                assert_eq!(again, bytes, "raise checkpoint::VERSION and add a fixture");
                checkpoints += 1;
            }
        }
        assert!(records > 10 && checkpoints > 0, "{records} records, {checkpoints} checkpoints");
    }
}
