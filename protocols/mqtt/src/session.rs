//! Packet ids of both directions. Sans-io.
//!
//! A delivery's packet id follows from its number: `number mod 65535 + 1`. So the way back needs only the window of
//! deliveries that are out, which is shorter than 65,535.

use std::collections::VecDeque;

use event::Guarantee;

use crate::codec::PacketId;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// QoS 1, sent: PUBACK comes next.
    Sent1,
    /// QoS 2, sent: PUBREC comes next.
    Sent2,
    /// PUBREC came, and is being kept: PUBREL leaves next.
    Keeping,
    /// PUBREL left: PUBCOMP comes next.
    Released,
    /// Over; waits for those before it.
    Done,
}

/// Deliveries that are out, by number.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    window: VecDeque<(u64, Stage)>,
    open: u16,
}

/// The packet id of delivery `number`.
pub(crate) fn packet_id(number: u64) -> PacketId {
    let id = u16::try_from(number % u64::from(u16::MAX)).unwrap_or(0);
    PacketId(std::num::NonZeroU16::MIN.saturating_add(id))
}

impl Deliveries {
    /// How many are out.
    pub(crate) fn open(&self) -> u16 {
        self.open
    }

    /// Gives memory back when nothing is out.
    pub(crate) fn shrink(&mut self) {
        if self.window.is_empty() {
            self.window = VecDeque::new();
        }
    }

    /// Where `number` stands, if it was sent.
    pub(crate) fn stage(&self, number: u64) -> Option<Stage> {
        self.window.get(self.search(number)?).map(|(_, stage)| *stage)
    }

    /// `number` was sent.
    pub(crate) fn sent(&mut self, number: u64, guarantee: Guarantee) {
        let stage = if guarantee == Guarantee::ExactlyOnce { Stage::Sent2 } else { Stage::Sent1 };
        self.insert(number, stage);
    }

    /// PUBREL of `number` was sent again, in a new connection.
    pub(crate) fn resumed(&mut self, number: u64) {
        self.insert(number, Stage::Released);
    }

    fn insert(&mut self, number: u64, stage: Stage) {
        let place = match self.window.back() {
            Some((last, _)) if *last >= number => self.window.partition_point(|(have, _)| *have < number),
            _ => self.window.len(),
        };
        match self.window.get_mut(place) {
            Some(slot) if slot.0 == number => {
                if slot.1 == Stage::Done {
                    self.open = self.open.saturating_add(1);
                }
                slot.1 = stage;
            }
            _ => {
                self.window.insert(place, (number, stage));
                self.open = self.open.saturating_add(1);
            }
        }
    }

    /// The delivery with packet id `id`, and where it stands.
    pub(crate) fn find(&self, id: PacketId) -> Option<(u64, Stage)> {
        let (place, number) = self.place(id)?;
        self.window.get(place).map(|(_, stage)| (number, *stage)).filter(|(_, stage)| *stage != Stage::Done)
    }

    /// Moves `number` on to `stage`.
    pub(crate) fn advance(&mut self, number: u64, stage: Stage) {
        let Some(place) = self.search(number) else { return };
        let Some(slot) = self.window.get_mut(place) else { return };
        if stage == Stage::Done && slot.1 != Stage::Done {
            self.open = self.open.saturating_sub(1);
        }
        slot.1 = stage;
        while self.window.front().is_some_and(|(_, stage)| *stage == Stage::Done) {
            self.window.pop_front();
        }
    }

    fn place(&self, id: PacketId) -> Option<(usize, u64)> {
        let modulus = u64::from(u16::MAX);
        let (first, _) = self.window.front()?;
        let wanted = u64::from(id.get()) - 1;
        let ahead = (wanted + modulus - first % modulus) % modulus;
        let number = first + ahead;
        Some((self.search(number)?, number))
    }

    fn search(&self, number: u64) -> Option<usize> {
        // Numbers have hardly any gaps, so the place is mostly the distance from the first.
        let (first, _) = self.window.front()?;
        let guess = usize::try_from(number.checked_sub(*first)?).ok()?;
        match self.window.get(guess) {
            Some((have, _)) if *have == number => Some(guess),
            _ => self.window.binary_search_by_key(&number, |(have, _)| *have).ok(),
        }
    }

    pub(crate) fn debug_assert_invariants(&self) {
        debug_assert!(
            usize::from(self.open) == self.window.iter().filter(|(_, stage)| *stage != Stage::Done).count(),
            "open counts what is not done"
        );
    }
}

/// Where a QoS 2 publish of the client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Handed on; PUBREC leaves when it is kept.
    Open,
    /// PUBREC left, now or in an older connection: PUBREL comes next.
    Kept,
    /// PUBREL came; PUBCOMP leaves when that is kept.
    Releasing,
}

/// QoS 2 publishes of the client, by packet id. Ids mostly rise and go in order, so both ends are cheap.
#[derive(Debug, Default)]
pub(crate) struct Received {
    ids: VecDeque<(u16, Receiving)>,
}

impl Received {
    /// Where `id` stands, if it is in use.
    pub(crate) fn find(&self, id: PacketId) -> Option<Receiving> {
        let place = self.ids.binary_search_by_key(&id.get(), |(have, _)| *have).ok()?;
        self.ids.get(place).map(|(_, stage)| *stage)
    }

    /// Sets where `id` stands.
    pub(crate) fn set(&mut self, id: PacketId, stage: Receiving) {
        match self.ids.binary_search_by_key(&id.get(), |(have, _)| *have) {
            Ok(place) => {
                if let Some(slot) = self.ids.get_mut(place) {
                    slot.1 = stage;
                }
            }
            Err(place) => self.ids.insert(place, (id.get(), stage)),
        }
    }

    /// `id` is free again.
    pub(crate) fn remove(&mut self, id: PacketId) {
        if let Ok(place) = self.ids.binary_search_by_key(&id.get(), |(have, _)| *have) {
            self.ids.remove(place);
        }
    }

    /// Gives memory back when no id is in use.
    pub(crate) fn shrink(&mut self) {
        if self.ids.is_empty() {
            self.ids = VecDeque::new();
        }
    }

    /// Whether no id is in use.
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_follow_numbers_and_are_never_0() {
        for (number, id) in [(0, 1), (1, 2), (65_534, 65_535), (65_535, 1), (u64::from(u16::MAX) * 7 + 3, 4)]
        {
            assert_eq!(packet_id(number).get(), id);
        }
    }

    #[test]
    fn acks_in_any_order_find_their_delivery_across_the_wrap() {
        let mut deliveries = Deliveries::default();
        let numbers: Vec<u64> = (65_500..65_600).filter(|n| n % 7 != 0).collect();
        for &number in &numbers {
            deliveries.sent(number, Guarantee::AtLeastOnce);
        }
        for &number in numbers.iter().rev() {
            assert_eq!(deliveries.find(packet_id(number)), Some((number, Stage::Sent1)));
            deliveries.advance(number, Stage::Done);
            assert_eq!(deliveries.find(packet_id(number)), None);
            deliveries.debug_assert_invariants();
        }
        assert_eq!((deliveries.open(), deliveries.window.len()), (0, 0));
    }

    #[test]
    fn a_delivery_between_resumed_ones_finds_its_place() {
        let mut deliveries = Deliveries::default();
        deliveries.resumed(3);
        deliveries.resumed(5);
        deliveries.sent(4, Guarantee::ExactlyOnce);
        assert_eq!(deliveries.find(packet_id(4)), Some((4, Stage::Sent2)));
        assert_eq!(deliveries.find(packet_id(5)), Some((5, Stage::Released)));
        assert_eq!(deliveries.find(packet_id(6)), None);
        assert_eq!(deliveries.open(), 3);
    }

    #[test]
    fn received_ids_are_in_use_until_removed() {
        let id = |n| PacketId::new(n).unwrap();
        let mut received = Received::default();
        for n in [5, 1, 65_535] {
            received.set(id(n), Receiving::Open);
        }
        received.set(id(5), Receiving::Kept);
        assert_eq!((received.find(id(5)), received.find(id(2))), (Some(Receiving::Kept), None));
        for n in [1, 5, 65_535] {
            received.remove(id(n));
        }
        assert!(received.is_empty());
    }
}
