//! The format of notes, held byte by byte: a note that changes without a new kind fails here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use event::hub::{RetainedWanted, SubscribeOptions};
use event::store::Position;
use event::{ClientId, Guarantee, Language, Select, TopicFilter};

use crate::account::{Account, Tenant};
use crate::held::Until;
use crate::ledger::End;
use crate::notes::{Assignment, Change, EventNote, Note, Part, Wish};
use crate::replay::{ReplayId, Step};
use crate::unique::Once;

fn event_notes() -> Vec<Note> {
    let plain = EventNote::new(Guarantee::AtLeastOnce);
    let notes = [
        plain,
        EventNote { retain: true, live_done: true, ..EventNote::new(Guarantee::AtMostOnce) },
        EventNote { id: Some((0x0102, 0x0304_0506_0708_090a)), ..EventNote::new(Guarantee::ExactlyOnce) },
        EventNote { retain: true, state_only: true, moved: Some(Position(0x1122_3344)), ..plain },
        EventNote { will: Some(77), ..plain },
    ];
    notes.map(Note::Event).to_vec()
}

/// One of each kind, in the order of their numbers.
fn changes() -> Vec<Change> {
    let filter = |text: &str| TopicFilter::parse(text.to_owned()).unwrap();
    let client = ClientId::from("device 7");
    let options = SubscribeOptions {
        guarantee: Guarantee::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        retained: RetainedWanted::IfNew,
        id: 300,
    };
    let assignment =
        Assignment { position: Position(4096), guarantee: Guarantee::AtLeastOnce, retain: false };
    vec![
        Change::Open { session: 1, client: client.clone(), keep_s: 3600, keep_all: false, fresh: true },
        Change::Closed { session: 1, at_ms: 1_700_000_000_000, keep_s: u64::MAX },
        Change::Ended { session: 1 },
        Change::Subscribed { session: 1, ticket: 9, wanted: vec![(filter("$share/g/a/+"), options)] },
        Change::Unsubscribed { session: 1, ticket: 0, filters: vec![filter("a/#"), filter("b")] },
        Change::Acked { session: 1, sent: 200, ranges: vec![(3, 4), (100, 1)] },
        Change::Received { session: 1, numbers: vec![5, 6] },
        Change::Released { session: 1, ids: vec![1, 65535] },
        Change::Will {
            will: 8,
            session: Some(1),
            client,
            delay_ms: 5000,
            guarantee: Guarantee::AtLeastOnce,
            retain: true,
            moved: false,
        },
        Change::WillOff { will: 8 },
        Change::Assigned { session: 1, filter: filter("$share/g/a/+"), list: vec![assignment] },
        Change::Returned { session: 1, numbers: vec![7] },
        Change::Settled { filter: filter("$share/g/a/+"), positions: vec![Position(64), Position(1 << 40)] },
        Change::SubscribedFrom {
            session: 1,
            ticket: 9,
            wanted: vec![Wish { filter: filter("a/+"), options, start: Some(Position(64)) }],
        },
        Change::Replayed {
            session: 1,
            replay: ReplayId { as_of: Position(9000), start: Position(64), subscription: 300 },
            step: Step { from: Position(64), list: vec![assignment], up_to: Position(8000), last: true },
        },
        Change::SubscribedWith {
            session: 1,
            ticket: 9,
            wanted: vec![
                (Wish { filter: filter("a/+"), options, start: Some(Position(64)) }, None),
                (
                    Wish { filter: filter("b"), options, start: None },
                    Some(Select { language: Language::Cel, text: "data.x > 1".into() }),
                ),
            ],
        },
        Change::Held {
            held: 12,
            client: ClientId::from("device 7"),
            guarantee: Guarantee::ExactlyOnce,
            retain: false,
            id: Some((5, 1)),
            until: Until::Time(1_900_000_000_000),
            moved: false,
        },
        Change::Decided { held: 13, commit: true, id: None },
        Change::Over { session: 1, sent: 200, ranges: vec![(7, 1)], end: End::Expired },
    ]
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/notes.txt")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `notes.txt` has a line for each kind of note: its bytes, and what it says. New kinds get new lines; none may change.
#[test]
fn notes_are_written_and_read_as_ever() {
    let mut notes = event_notes();
    notes.extend(changes().into_iter().map(Note::Change));
    let last = EventNote { id: Some((1, 2)), ..EventNote::new(Guarantee::ExactlyOnce) };
    notes.push(Note::Part(Part { place: 258, count: 259 }, last));
    let mut text = String::new();
    for note in &notes {
        let bytes = match note {
            Note::Event(note) => note.encode(),
            Note::Change(change) => change.encode(),
            Note::Part(part, note) => part.mark(&note.encode()),
            Note::Apart(..) | Note::Fed(..) => unreachable!("below"),
        };
        assert_eq!(Note::decode(&bytes).as_ref(), Some(note));
        writeln!(text, "{} {note:?}", hex(&bytes)).unwrap();
    }
    let once: Once = postcard::from_bytes(&[&[0x1b; 16][..], &[0x80, 0x02]].concat()).unwrap();
    for bytes in [notes.first(), notes.last()].into_iter().flatten().map(|note| match note {
        Note::Event(note) => once.mark(&note.encode()),
        Note::Part(part, note) => part.mark(&once.mark(&note.encode())),
        Note::Change(_) | Note::Apart(_) | Note::Fed(..) => {
            unreachable!("no name stands before a change, or before what a remote store brings")
        }
    }) {
        let note = Note::decode(&bytes).unwrap();
        assert_eq!(Once::split(&bytes).0, Some(once));
        writeln!(text, "{} {once:?} {note:?}", hex(&bytes)).unwrap();
    }
    let plain = EventNote::new(Guarantee::AtLeastOnce);
    for (bytes, note) in
        [(plain.encode_apart(), Note::Apart(plain)), (last.encode_fed(0x0102), Note::Fed(0x0102, last))]
    {
        assert_eq!(Note::decode(&bytes).as_ref(), Some(&note));
        writeln!(text, "{} {note:?}", hex(&bytes)).unwrap();
    }
    let route: Account = postcard::from_bytes(&[0x84, 0x86, 0x88, 0x08]).unwrap();
    for (account, bytes) in [
        (route, once.mark(&last.encode())),
        (route, Part { place: 0, count: 2 }.mark(&last.encode())),
        (route.of(Tenant::named("acme")), once.mark(&last.encode())),
        (Account::NONE.of(Tenant::named("acme")), Change::WillOff { will: 8 }.encode()),
    ] {
        let note = Note::decode(&bytes).unwrap();
        let booked = account.mark(bytes);
        assert_eq!(Note::decode(&booked).as_ref(), Some(&note));
        let (account, once, _) = Note::read(&booked);
        writeln!(text, "{} {:?} {note:?}", hex(&booked), (account, once)).unwrap();
    }
    let part = Part { place: 0, count: 2 };
    let plain = last.encode();
    assert_eq!(part.mark(&route.mark(plain.clone())), route.mark(part.mark(&plain)));
    let have = std::fs::read_to_string(fixture()).unwrap_or_default();
    assert_eq!(text, have, "\nwritten by this version:\n{text}");
}
