//! What the core writes into the log beside events, and reads back at recovery. The store holds it unread.
//!
//! A note starts with its kind, which is its version, too: a note that changes gets a new kind, and [`Change`] grows at its
//! end only, since the numbers of its variants are their places. `tests/fixtures/notes.txt` has one of each, byte by byte.
//!
//! ```text
//! 0x01 flags [id: u16 session: u64] [moved from: u64] [will: u64]   an event; all little-endian
//! 0x02 postcard(Change)                                              a change of state
//! 0x03 place: u16 count: u16 flags …                                 as 0x01: one of several events that come of one publish
//! 0x04 until: u64 name: 16 bytes, 0x01 … or 0x03 …                   as those; repeats of the publish are known by that name until then
//! 0x05 flags …                                                       as 0x01: not for shared subscriptions
//! 0x06 ticket: u64 flags …                                           as 0x01: for one shared subscription, in the run that wrote it
//! 0x07 route: u32, 0x01 …, 0x03 …, 0x04 … or 0x05 …                  as those; the route that the event went by, if there was one
//! 0x08 route: u32 tenant: u32, 0x01 … to 0x05 …                      as those; of a tenant, by that route or by none (0)
//! ```
//!
//! Events that come of one publish stand behind each other. They count once the last of them is there: a crash may have cut
//! them off, and then nobody was told that they are kept.
//!
//! | bit of flags | meaning |
//! |---|---|
//! | 0–1 | guarantee of the publish |
//! | 2 | retain |
//! | 3 | subscribers that need no log had it already: only cursors are owed it |
//! | 4 | state only: nobody is owed it (a retained event that was moved, or whose delivery goes another way) |
//! | 5 | id and session of an exactly-once publish follow |
//! | 6 | a retained event, moved here from an older position that follows; valid if that is still the current one |
//! | 7 | the event of a will, or one that waited, whose number follows: that is over |

use bytes::{BufMut, Bytes, BytesMut};
use event::hub::SubscribeOptions;
use event::store::Position;
use event::{ClientId, Guarantee, Select, TopicFilter};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::held::Until;
use crate::ledger::End;
use crate::replay::{ReplayId, Step};
use crate::unique::Once;

const EVENT: u8 = 1;
const CHANGE: u8 = 2;
const PART: u8 = 3;
const APART: u8 = 5;
const FED: u8 = 6;
/// The kind of a note that begins with a route.
pub(crate) const ROUTE: u8 = 7;
/// The kind of a note that begins with a route and a tenant.
pub(crate) const TENANT: u8 = 8;

const RETAIN: u8 = 1 << 2;
const LIVE_DONE: u8 = 1 << 3;
const STATE_ONLY: u8 = 1 << 4;
const HAS_ID: u8 = 1 << 5;
const MOVED: u8 = 1 << 6;
const WILL: u8 = 1 << 7;

/// Notes without fields behind the flags.
static PLAIN: [[u8; 2]; 16] = [
    [EVENT, 0],
    [EVENT, 1],
    [EVENT, 2],
    [EVENT, 3],
    [EVENT, 4],
    [EVENT, 5],
    [EVENT, 6],
    [EVENT, 7],
    [EVENT, 8],
    [EVENT, 9],
    [EVENT, 10],
    [EVENT, 11],
    [EVENT, 12],
    [EVENT, 13],
    [EVENT, 14],
    [EVENT, 15],
];

/// How an event is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventNote {
    pub(crate) guarantee: Guarantee,
    pub(crate) retain: bool,
    /// Live subscribers had it: only sessions that keep all are owed it.
    pub(crate) live_done: bool,
    /// Nobody is owed it.
    pub(crate) state_only: bool,
    /// The publisher's id and session, for an exactly-once publish.
    pub(crate) id: Option<(u16, u64)>,
    /// Where this retained event stood before.
    pub(crate) moved: Option<Position>,
    /// The will, or the event that waited, that this event is.
    pub(crate) will: Option<u64>,
}

/// A change of state, as one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A session was opened or taken up again. `fresh`: what it had before is gone.
    Open { session: u64, client: ClientId, keep_s: u64, keep_all: bool, fresh: bool },
    /// Its connection ended at this time, milliseconds since 1970.
    Closed { session: u64, at_ms: u64, keep_s: u64 },
    /// It is over.
    Ended { session: u64 },
    /// It subscribed. `ticket` finds the one who waits for the answer.
    Subscribed { session: u64, ticket: u32, wanted: Vec<(TopicFilter, SubscribeOptions)> },
    /// It unsubscribed; `ticket` 0: nobody waits for the answer.
    Unsubscribed { session: u64, ticket: u32, filters: Vec<TopicFilter> },
    /// These deliveries are done, as first number and count; numbers below `sent` may have been sent.
    Acked { session: u64, sent: u64, ranges: Vec<(u64, u32)> },
    /// The subscriber has these exactly-once deliveries.
    Received { session: u64, numbers: Vec<u64> },
    /// The publisher released these ids.
    Released { session: u64, ids: Vec<u16> },
    /// A client came with a will; its event is in the same record. `moved`: an older record of it stands further back.
    Will {
        will: u64,
        session: Option<u64>,
        client: ClientId,
        delay_ms: u64,
        guarantee: Guarantee,
        retain: bool,
        moved: bool,
    },
    /// A will was called off.
    WillOff { will: u64 },
    /// The session gets these events of a shared subscription, and its next numbers with them.
    Assigned { session: u64, filter: TopicFilter, list: Vec<Assignment> },
    /// The session gave these deliveries of shared subscriptions up: others may have them.
    Returned { session: u64, numbers: Vec<u64> },
    /// Members of the shared subscription that leave no records acknowledged these.
    Settled { filter: TopicFilter, positions: Vec<Position> },
    /// It subscribed, and some of it starts in the past.
    SubscribedFrom { session: u64, ticket: u32, wanted: Vec<Wish> },
    /// A replay of the session took a step.
    Replayed { session: u64, replay: ReplayId, step: Step },
    /// It subscribed, and some of it has filters.
    SubscribedWith { session: u64, ticket: u32, wanted: Vec<(Wish, Option<Select>)> },
    /// An event that waits; it is in the same record. `id`: the publisher's id of it, and the session that remembers it.
    /// `moved`: an older record of it stands further back.
    Held {
        held: u64,
        client: ClientId,
        guarantee: Guarantee,
        retain: bool,
        id: Option<(u16, u64)>,
        until: Until,
        moved: bool,
    },
    /// An event that waited is to be published, or forgotten. `id`: as for [`Self::Held`], of the publish that said so.
    Decided { held: u64, commit: bool, id: Option<(u16, u64)> },
    /// As [`Self::Acked`], of deliveries that ended otherwise.
    Over { session: u64, sent: u64, ranges: Vec<(u64, u32)>, end: End },
}

/// A subscription to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) filter: TopicFilter,
    pub(crate) options: SubscribeOptions,
    /// It starts behind this position, not now.
    pub(crate) start: Option<Position>,
}

impl From<(TopicFilter, SubscribeOptions)> for Wish {
    fn from((filter, options): (TopicFilter, SubscribeOptions)) -> Self {
        Self { filter, options, start: None }
    }
}

/// An event of a shared subscription, and how a member gets it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) position: Position,
    pub(crate) guarantee: Guarantee,
    pub(crate) retain: bool,
}

/// A note, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Note {
    Event(EventNote),
    Change(Change),
    Part(Part, EventNote),
    /// Members of shared subscriptions get it another way.
    Apart(EventNote),
    /// For the shared subscription that waits for this ticket. After a crash it is for nobody: its store brings it again.
    Fed(u64, EventNote),
}

/// Which of the events of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// From 0 on.
    pub(crate) place: u16,
    /// How many there are.
    pub(crate) count: u16,
}

impl Part {
    /// The note of an event, as that of a part.
    pub(crate) fn mark(self, note: &[u8]) -> Bytes {
        let prefix = note.len() - split(note).2.len();
        let (prefix, note) = note.split_at(prefix);
        let mut out = BytesMut::with_capacity(prefix.len() + note.len() + 4);
        out.put_slice(prefix);
        out.put_u8(PART);
        out.put_u16_le(self.place);
        out.put_u16_le(self.count);
        out.put_slice(note.get(1..).unwrap_or_default());
        out.freeze()
    }

    pub(crate) fn is_last(self) -> bool {
        self.place.checked_add(1) == Some(self.count)
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        Some(Self { place: u16::from_le_bytes(take(rest)?), count: u16::from_le_bytes(take(rest)?) })
    }
}

impl EventNote {
    pub(crate) fn new(guarantee: Guarantee) -> Self {
        Self {
            guarantee,
            retain: false,
            live_done: false,
            state_only: false,
            id: None,
            moved: None,
            will: None,
        }
    }

    /// The bytes; for most events one of a few constants, without an allocation.
    pub(crate) fn encode(&self) -> Bytes {
        let mut flags = match self.guarantee {
            Guarantee::AtMostOnce => 0,
            Guarantee::AtLeastOnce => 1,
            Guarantee::ExactlyOnce => 2,
        };
        for (set, bit) in [
            (self.retain, RETAIN),
            (self.live_done, LIVE_DONE),
            (self.state_only, STATE_ONLY),
            (self.id.is_some(), HAS_ID),
            (self.moved.is_some(), MOVED),
            (self.will.is_some(), WILL),
        ] {
            flags |= if set { bit } else { 0 };
        }
        if let Some(note) = PLAIN.get(usize::from(flags)) {
            return Bytes::from_static(note);
        }
        let mut out = BytesMut::with_capacity(28);
        out.put_slice(&[EVENT, flags]);
        if let Some((id, session)) = self.id {
            out.put_u16_le(id);
            out.put_u64_le(session);
        }
        if let Some(from) = self.moved {
            out.put_u64_le(from.0);
        }
        if let Some(will) = self.will {
            out.put_u64_le(will);
        }
        out.freeze()
    }

    /// The bytes of [`Note::Apart`].
    pub(crate) fn encode_apart(&self) -> Bytes {
        let note = self.encode();
        let mut out = BytesMut::with_capacity(note.len());
        out.put_u8(APART);
        out.put_slice(note.get(1..).unwrap_or_default());
        out.freeze()
    }

    /// The bytes of [`Note::Fed`].
    pub(crate) fn encode_fed(&self, ticket: u64) -> Bytes {
        let note = self.encode();
        let mut out = BytesMut::with_capacity(note.len() + 8);
        out.put_u8(FED);
        out.put_u64_le(ticket);
        out.put_slice(note.get(1..).unwrap_or_default());
        out.freeze()
    }

    fn decode(mut rest: &[u8]) -> Option<Self> {
        let [flags] = take(&mut rest)?;
        let guarantee = match flags & 3 {
            0 => Guarantee::AtMostOnce,
            1 => Guarantee::AtLeastOnce,
            2 => Guarantee::ExactlyOnce,
            _ => return None,
        };
        let id = match flags & HAS_ID {
            0 => None,
            _ => Some((u16::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?))),
        };
        let moved = match flags & MOVED {
            0 => None,
            _ => Some(Position(u64::from_le_bytes(take(&mut rest)?))),
        };
        let will = match flags & WILL {
            0 => None,
            _ => Some(u64::from_le_bytes(take(&mut rest)?)),
        };
        Some(Self {
            guarantee,
            retain: flags & RETAIN != 0,
            live_done: flags & LIVE_DONE != 0,
            state_only: flags & STATE_ONLY != 0,
            id,
            moved,
            will,
        })
    }
}

impl Change {
    pub(crate) fn encode(&self) -> Bytes {
        match postcard::to_extend(self, vec![CHANGE]) {
            Ok(out) => Bytes::from(out),
            // No field of `Change` refuses to be written; if one ever does, recovery names the record.
            Err(error) => {
                tracing::error!(%error, "a change of state could not be written");
                Bytes::from_static(&[CHANGE])
            }
        }
    }
}

impl Note {
    /// Reads a note with what stands before it: its account, and its name if its repeats are to be known. The note is `None`
    /// when it is from a newer version or damaged.
    pub(crate) fn read(bytes: &[u8]) -> (Account, Option<Once>, Option<Self>) {
        let (account, once, note) = split(bytes);
        (account, once, Self::bare(note))
    }

    /// Reads a note, but for what is before it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).2
    }

    fn bare(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&EVENT, rest) => EventNote::decode(rest).map(Self::Event),
            (&CHANGE, rest) => postcard::from_bytes(rest).ok().map(Self::Change),
            (&PART, mut rest) => {
                let part = Part::decode(&mut rest)?;
                EventNote::decode(rest).map(|note| Self::Part(part, note))
            }
            (&APART, rest) => EventNote::decode(rest).map(Self::Apart),
            (&FED, mut rest) => {
                let ticket = u64::from_le_bytes(take(&mut rest)?);
                EventNote::decode(rest).map(|note| Self::Fed(ticket, note))
            }
            _ => None,
        }
    }
}

fn split(note: &[u8]) -> (Account, Option<Once>, &[u8]) {
    let (account, rest) = Account::split(note);
    let (once, rest) = Once::split(rest);
    (account, once, rest)
}

/// Numbers in rising order as first number and count.
pub(crate) fn ranges(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u32)> {
    let mut ranges: Vec<(u64, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == number => *count += 1,
            _ => ranges.push((number, 1)),
        }
    }
    ranges
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_notes_read_back() {
        for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
            for bits in 0..64u8 {
                let note = EventNote {
                    guarantee,
                    retain: bits & 1 != 0,
                    live_done: bits & 2 != 0,
                    state_only: bits & 4 != 0,
                    id: (bits & 8 != 0).then_some((7, u64::MAX)),
                    moved: (bits & 16 != 0).then_some(Position(99)),
                    will: (bits & 32 != 0).then_some(5),
                };
                assert_eq!(Note::decode(&note.encode()), Some(Note::Event(note)));
            }
        }
    }

    #[test]
    fn changes_read_back_and_nonsense_does_not() {
        let change = Change::Acked { session: 3, sent: 9, ranges: ranges([1, 2, 3, 7, 9, 10]) };
        assert_eq!(change, Change::Acked { session: 3, sent: 9, ranges: vec![(1, 3), (7, 1), (9, 2)] });
        assert_eq!(Note::decode(&change.encode()), Some(Note::Change(change)));
        for nonsense in
            [&[][..], &[9], &[1], &[1, 3], &[1, HAS_ID, 1], &[2, 99], &[3, 0, 0, 2], &[3, 0, 0, 2, 0]]
        {
            assert_eq!(Note::decode(nonsense), None);
        }
    }
}
