//! Topic aliases towards the client (MQTT 5 §3.3.2.3.4): the first topics that are sent get one. When all are given out,
//! a topic that is sent again soon takes the one that was not used for longest, so that topics which are sent once
//! cost nothing.

/// The aliases of one connection.
#[derive(Debug)]
pub(super) struct Aliases {
    max: u16,
    slots: Vec<Slot>,
    /// Counts uses.
    clock: u64,
    /// Hashes of the last topics that had no alias.
    lately: [u32; LATELY],
}

#[derive(Debug)]
struct Slot {
    topic: Box<str>,
    used: u64,
}

/// How a topic is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Without alias.
    Plain,
    /// With this alias, to be known from then on: call [`Aliases::set`] when it was sent.
    New(u16),
    /// As this alias alone.
    Known(u16),
}

/// An alias takes three bytes of property: shorter topics are not worth it.
const SHORTEST: usize = 4;
/// Longer topics are rare, and would take too much memory for each connection.
const LONGEST: usize = 512;
const LATELY: usize = 8;

impl Aliases {
    /// At most `max` aliases; `None` when the client takes none.
    pub(super) fn new(max: u16) -> Option<Box<Self>> {
        (max > 0).then(|| Box::new(Self { max, slots: Vec::new(), clock: 0, lately: [0; LATELY] }))
    }

    pub(super) fn choose(&mut self, topic: &str) -> Choice {
        if !(SHORTEST..=LONGEST).contains(&topic.len()) {
            return Choice::Plain;
        }
        self.clock += 1;
        if let Some(place) = self.slots.iter().position(|slot| &*slot.topic == topic) {
            if let Some(slot) = self.slots.get_mut(place) {
                slot.used = self.clock;
            }
            return Choice::Known(alias(place));
        }
        if self.slots.len() < usize::from(self.max) {
            return Choice::New(alias(self.slots.len()));
        }
        let hash = hash(topic);
        if !self.lately.contains(&hash) {
            self.lately.rotate_right(1);
            self.lately[0] = hash;
            return Choice::Plain;
        }
        let oldest = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.used);
        oldest.map_or(Choice::Plain, |(place, _)| Choice::New(alias(place)))
    }

    /// `alias` stands for `topic` from now on.
    pub(super) fn set(&mut self, alias: u16, topic: &str) {
        let slot = Slot { topic: topic.into(), used: self.clock };
        match self.slots.get_mut(usize::from(alias) - 1) {
            Some(taken) => *taken = slot,
            None => self.slots.push(slot),
        }
    }
}

fn alias(place: usize) -> u16 {
    u16::try_from(place + 1).unwrap_or(u16::MAX)
}

/// FNV-1a; never 0, which is an empty place.
fn hash(topic: &str) -> u32 {
    topic.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that topics take on the wire.
    fn send(aliases: &mut Aliases, topic: &str) -> usize {
        match aliases.choose(topic) {
            Choice::Plain => topic.len(),
            Choice::Known(_) => 3,
            Choice::New(alias) => {
                aliases.set(alias, topic);
                topic.len() + 3
            }
        }
    }

    #[test]
    fn the_first_topics_get_an_alias_and_later_ones_when_they_come_again() {
        let mut aliases = Aliases::new(2).unwrap();
        let mut sent = |topic| send(&mut aliases, topic);
        assert_eq!([sent("first"), sent("first"), sent("other"), sent("other")], [8, 3, 8, 3]);
        // The third is sent plain, then takes the place of "first", which is older.
        assert_eq!([sent("third"), sent("third"), sent("third")], [5, 8, 3]);
        assert_eq!([sent("other"), sent("first"), sent("first")], [3, 5, 8]);
        assert_eq!([sent("abc"), sent("abc")], [3, 3], "too short to gain");
    }

    #[test]
    fn topics_that_come_once_cost_nothing_and_take_no_memory() {
        let mut aliases = Aliases::new(16).unwrap();
        for at in 0..1000 {
            let topic = format!("device/{at:04}/state");
            let most = topic.len() + if at < 16 { 3 } else { 0 };
            assert_eq!(send(&mut aliases, &topic), most);
        }
        assert_eq!(aliases.slots.len(), 16);
        assert_eq!(send(&mut aliases, &"x".repeat(LONGEST + 1)), LONGEST + 1);
        assert!(Aliases::new(0).is_none());
    }
}
