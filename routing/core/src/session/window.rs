//! The numbered deliveries of a mailbox in their order: the first ones as they are, what waits behind them packed. Sans-io.
//!
//! A session that is away for a day must cost little: a packed delivery takes four to six bytes, since most have the
//! options of the one before, its weight, and a position not far behind. They are unpacked a chunk at a time, when the
//! subscriber gets there.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use event::Guarantee;
use event::store::Position;

use super::slot::{Slot, SlotState};
use crate::account::Account;
use crate::group::Group;

/// Deliveries that are never packed: a subscriber that keeps up has fewer.
const PLAIN: usize = 64;
/// Deliveries of a full chunk.
const CHUNK: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Window {
    plain: VecDeque<Slot>,
    /// Behind them. No chunk is empty.
    chunks: VecDeque<Chunk>,
    /// Slots of all chunks.
    packed: usize,
}

/// Slots without their events.
#[derive(Debug)]
struct Chunk {
    kinds: Vec<Kind>,
    /// For each slot, as varints: which kind; position and weight as zigzag steps from the slot before.
    bytes: Vec<u8>,
    count: usize,
    last: (Position, u32),
}

/// What many slots have in common.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    ids: Option<Arc<[u32]>>,
    pub(super) group: Option<Arc<Group>>,
    guarantee: Guarantee,
    retain: bool,
    pub(super) state: SlotState,
    account: Account,
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.packed
    }

    /// Whether the next slot may hold its event: packed ones are in front of none that do.
    pub(super) fn is_plain(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn push_back(&mut self, slot: Slot) {
        if self.chunks.is_empty() && (self.plain.len() < PLAIN || slot.event.is_some()) {
            self.plain.push_back(slot);
            return;
        }
        if self.chunks.back().is_none_or(|chunk| chunk.count >= CHUNK) {
            if let Some(full) = self.chunks.back_mut() {
                full.bytes.shrink_to_fit();
            }
            self.chunks.push_back(Chunk::new());
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push(&slot);
            self.packed += 1;
        }
    }

    /// The first slot, if it is not packed.
    pub(super) fn front(&self) -> Option<&Slot> {
        self.plain.front()
    }

    /// Takes out the first slot.
    pub(super) fn pop_front(&mut self) -> Option<Slot> {
        let slot = self.plain.pop_front();
        if self.plain.is_empty() {
            self.unpack();
        }
        if self.plain.is_empty() && self.plain.capacity() > 16 * PLAIN {
            self.plain = VecDeque::new();
        }
        slot
    }

    /// The slot at this place, unpacked.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Slot> {
        while at >= self.plain.len() && self.unpack() {}
        self.plain.get_mut(at)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Cow<'_, Slot>> {
        self.only(|_| true).map(|(_, slot)| slot)
    }

    /// With their places, those that may be of a kind: none that is of it is left out.
    pub(super) fn only(&self, kind: impl Fn(&Kind) -> bool) -> impl Iterator<Item = (usize, Cow<'_, Slot>)> {
        let plain = self.plain.iter().map(Cow::Borrowed).enumerate();
        let mut start = self.plain.len();
        let chunks = self.chunks.iter().filter_map(move |chunk| {
            let first = start;
            start += chunk.count;
            chunk.kinds.iter().any(&kind).then(|| (first..).zip(chunk.slots().map(Cow::Owned)))
        });
        plain.chain(chunks.flatten())
    }

    /// Forgets the events that slots hold.
    pub(super) fn forget_events(&mut self) {
        self.plain.iter_mut().for_each(|slot| slot.event = None);
    }

    /// Unpacks the next chunk; false if there is none.
    fn unpack(&mut self) -> bool {
        let Some(chunk) = self.chunks.pop_front() else { return false };
        self.packed -= chunk.count;
        self.plain.extend(chunk.slots());
        true
    }
}

impl Chunk {
    const fn new() -> Self {
        Self { kinds: Vec::new(), bytes: Vec::new(), count: 0, last: (Position(0), 0) }
    }

    fn push(&mut self, slot: &Slot) {
        let known = self.kinds.iter().rposition(|kind| kind.is_of(slot));
        let kind = known.unwrap_or_else(|| {
            self.kinds.push(Kind::of(slot));
            self.kinds.len() - 1
        });
        let (position, weight) = std::mem::replace(&mut self.last, (slot.position, slot.weight));
        put(&mut self.bytes, kind as u64);
        put_step(&mut self.bytes, position.0, slot.position.0);
        put_step(&mut self.bytes, weight.into(), slot.weight.into());
        self.count += 1;
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        let mut bytes = self.bytes.iter();
        let (mut position, mut weight) = (0, 0);
        std::iter::from_fn(move || {
            let kind = self.kinds.get(usize::try_from(take(&mut bytes)?).ok()?)?;
            position = take_step(&mut bytes, position)?;
            weight = take_step(&mut bytes, weight)?;
            let mut slot = Slot::new(Position(position), kind.guarantee, kind.retain, kind.state);
            slot.weight = u32::try_from(weight).ok()?;
            slot.ids.clone_from(&kind.ids);
            slot.group.clone_from(&kind.group);
            slot.account = kind.account;
            Some(slot)
        })
    }
}

impl Kind {
    fn of(slot: &Slot) -> Self {
        let &Slot { guarantee, retain, state, account, .. } = slot;
        Self { ids: slot.ids.clone(), group: slot.group.clone(), guarantee, retain, state, account }
    }

    fn is_of(&self, slot: &Slot) -> bool {
        let same_group = match (&self.group, &slot.group) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same = (self.guarantee, self.retain, self.state) == (slot.guarantee, slot.retain, slot.state);
        same && self.account == slot.account && same_group && self.ids == slot.ids
    }
}

/// Seven bits in each byte, the lowest first; the eighth says that more follow.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A step from one value to the next, small whichever way it goes.
fn put_step(out: &mut Vec<u8>, from: u64, to: u64) {
    let step = to.wrapping_sub(from).cast_signed();
    put(out, (step << 1 ^ step >> 63).cast_unsigned());
}

fn take_step<'a>(bytes: &mut impl Iterator<Item = &'a u8>, from: u64) -> Option<u64> {
    let step = take(bytes)?;
    Some(from.wrapping_add(step >> 1 ^ (step & 1).wrapping_neg()))
}

#[cfg(test)]
mod tests {
    use event::testing::Chance;

    use super::*;

    fn slot(chance: &mut Chance, before: u64) -> Slot {
        // Mostly a little further on; deliveries of a shared subscription may go far back.
        let position = match chance.below(8) {
            0 => chance.below(u64::MAX),
            _ => before.wrapping_add(chance.below(1000)),
        };
        let guarantee =
            [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce, Guarantee::AtMostOnce][chance.below(3) as usize];
        let state = [SlotState::Open, SlotState::Received, SlotState::Done][chance.below(3) as usize];
        let mut slot = Slot::new(Position(position), guarantee, chance.below(2) == 0, state);
        slot.weight = [0, 300, 301, u32::MAX][chance.below(4) as usize];
        slot.account = [Account::NONE, Account::FED][chance.below(2) as usize];
        slot.ids = [None, Some(Arc::from([7])), Some(Arc::from([1, 2]))][chance.below(3) as usize].clone();
        slot
    }

    fn same(a: &Slot, b: &Slot) -> bool {
        let of =
            |slot: &Slot| (slot.position, slot.weight, slot.guarantee, slot.retain, slot.state, slot.account);
        of(a) == of(b) && a.ids == b.ids
    }

    #[test]
    fn it_does_what_a_plain_queue_does() {
        event::testing::seeds(64, |seed, steps| {
            let mut chance = Chance(seed);
            let (mut window, mut plain) = (Window::default(), VecDeque::<Slot>::new());
            for _ in 0..steps * 4 {
                match chance.below(10) {
                    0..6 => {
                        let last = plain.back().map_or(0, |slot| slot.position.0);
                        let slot = slot(&mut chance, last);
                        window.push_back(slot.clone());
                        plain.push_back(slot);
                    }
                    6..8 => {
                        let (one, other) = (window.pop_front(), plain.pop_front());
                        assert_eq!(one.is_some(), other.is_some());
                        assert!(one.iter().zip(&other).all(|(one, other)| same(one, other)));
                    }
                    8 if !plain.is_empty() => {
                        // Acknowledgements come for what is near the front.
                        let at = chance.below((plain.len() as u64).min(100)) as usize;
                        window.get_mut(at).unwrap().state = SlotState::Done;
                        plain[at].state = SlotState::Done;
                    }
                    _ => {
                        assert_eq!(window.len(), plain.len());
                        assert!(window.front().is_some() || plain.is_empty());
                        assert!(window.iter().zip(&plain).all(|(one, other)| same(&one, other)));
                        let received = |slot: &Slot| slot.state == SlotState::Received;
                        let some = window.only(|kind| kind.state == SlotState::Received);
                        let some: Vec<usize> =
                            some.filter(|(_, slot)| received(slot)).map(|(at, _)| at).collect();
                        let all = plain.iter().enumerate().filter(|(_, slot)| received(slot));
                        assert_eq!(some, all.map(|(at, _)| at).collect::<Vec<_>>());
                    }
                }
            }
            assert_eq!(window.iter().count(), plain.len());
        });
    }

    #[test]
    fn what_waits_takes_a_few_bytes() {
        let mut window = Window::default();
        for number in 0..100_000_u64 {
            let mut slot = Slot::new(Position(number * 330), Guarantee::AtLeastOnce, false, SlotState::Open);
            slot.weight = 330;
            window.push_back(slot);
        }
        let packed = |chunk: &Chunk| {
            size_of::<Chunk>() + chunk.bytes.capacity() + chunk.kinds.capacity() * size_of::<Kind>()
        };
        let bytes: usize = window.chunks.iter().map(packed).sum();
        assert!(bytes < 600_000, "{bytes} B for 100,000 deliveries");
    }
}
