//! Which member of a group gets an event. Sans-io.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;

use event::Event;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// How shared subscriptions choose the member that gets an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One after the other, passing over who has no room.
    #[default]
    RoundRobin,
    /// Who has the fewest unacknowledged events of the group.
    LeastInflight,
    /// One member gets all, until it leaves.
    Sticky,
    /// By publisher: the events of one client go to one member, in order.
    HashClient,
    /// By topic: the events of one topic go to one member, in order.
    HashTopic,
    /// By the attribute `partitionkey` (CloudEvents extension Partitioning; a user property of that name), else by topic: the
    /// events of one key go to one member, in order.
    HashKey,
}

/// What shares members get, by client id; a name may end with `*`.
pub(crate) type Weights = BTreeMap<String, u8>;

/// A member's place.
#[derive(Debug)]
struct Seat {
    session: u64,
    /// It has a connection.
    here: bool,
    /// What it was given last found no room in its queue.
    full: bool,
    /// What it has and did not acknowledge.
    out: u32,
    /// Its share, beside those of the others.
    weight: u8,
    /// What it is short of its share: who is shortest is next.
    credit: i64,
}

/// Chooses among seats.
#[derive(Debug)]
pub(super) struct Picker {
    strategy: Strategy,
    /// What one member may have unacknowledged.
    most: u32,
    weights: Weights,
    seats: Vec<Seat>,
    next: usize,
    /// With a strategy that hashes: who has unacknowledged events of a key, and how many. The key stays there while that
    /// member is here, so that its events keep their order while members come and go.
    pins: HashMap<u64, (u64, u32), RandomState>,
    /// Keys of which an event waits: the next ones wait behind it.
    blocked: HashSet<u64, RandomState>,
}

impl Picker {
    pub(super) fn new(strategy: Strategy, most: u32, weights: &Weights) -> Self {
        Self {
            strategy,
            most,
            weights: weights.clone(),
            seats: Vec::new(),
            next: 0,
            pins: HashMap::default(),
            blocked: HashSet::default(),
        }
    }

    /// A new member sits last. It may have events already.
    pub(super) fn sit(&mut self, session: u64, client: &str, here: bool, out: u32) {
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => client.starts_with(start),
            None => client == *pattern,
        };
        // The name itself stands before those that end with `*`: the longest counts.
        let known = self.weights.iter().filter(|(pattern, _)| named(pattern));
        let weight = known.max_by_key(|(pattern, _)| pattern.len()).map_or(1, |(_, weight)| *weight);
        self.seats.push(Seat { session, here, full: false, out, weight: weight.max(1), credit: 0 });
    }

    /// The member at `at` leaves; those behind it move up.
    pub(super) fn rise(&mut self, at: usize) {
        if at < self.seats.len() {
            self.seats.remove(at);
        }
    }

    /// The member has a connection, or has none.
    pub(super) fn set_here(&mut self, session: u64, here: bool) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.session == session) {
            (seat.here, seat.full) = (here, false);
        }
    }

    /// The member's own queue has no room: it gets nothing until that may have changed.
    pub(super) fn set_full(&mut self, session: u64) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.session == session) {
            seat.full = true;
        }
    }

    /// Queues may have room again: that of this member, or of any.
    pub(super) fn try_again(&mut self, session: Option<u64>) {
        let seats =
            self.seats.iter_mut().filter(|seat| session.is_none_or(|session| seat.session == session));
        seats.for_each(|seat| seat.full = false);
    }

    /// Whether a member has a connection.
    pub(super) fn is_anyone_here(&self) -> bool {
        self.seats.iter().any(|seat| seat.here)
    }

    /// What an event is hashed by.
    pub(super) fn key_of(&self, event: &Event) -> u64 {
        match self.strategy {
            Strategy::RoundRobin | Strategy::LeastInflight | Strategy::Sticky => 0,
            Strategy::HashClient => FixedState::default().hash_one(&**event.publisher()),
            Strategy::HashTopic => FixedState::default().hash_one(event.topic().as_str()),
            Strategy::HashKey => match event.meta().and_then(|meta| meta.value("partitionkey")) {
                Some(key) => FixedState::default().hash_one(&*key),
                None => FixedState::default().hash_one(event.topic().as_str()),
            },
        }
    }

    /// A walk over what waits begins.
    pub(super) fn begin(&mut self) {
        self.blocked.clear();
    }

    /// Whether nobody could take anything.
    pub(super) fn is_full(&self) -> bool {
        !self.seats.iter().any(|seat| self.has_room(seat))
    }

    /// Chooses a member with room, and counts the event there.
    pub(super) fn pick(&mut self, key: u64) -> Option<usize> {
        if self.blocked.contains(&key) {
            return None;
        }
        let Some(at) = self.choose(key, Self::has_room) else {
            if self.hashes() {
                self.blocked.insert(key);
            }
            return None;
        };
        let session = self.seats.get(at)?.session;
        self.count(session, key);
        Some(at)
    }

    /// Chooses a member that is here, for an event that nobody acknowledges.
    pub(super) fn pick_live(&mut self, key: u64) -> Option<usize> {
        self.choose(key, |_, seat| seat.here)
    }

    /// The member has one more event.
    pub(super) fn count(&mut self, session: u64, key: u64) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.session == session) {
            seat.out += 1;
        }
        if self.hashes() {
            let pin = self.pins.entry(key).or_insert((session, 0));
            *pin = (session, if pin.0 == session { pin.1 + 1 } else { 1 });
        }
    }

    /// The member has one event less.
    pub(super) fn uncount(&mut self, session: u64, key: u64) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.session == session) {
            seat.out = seat.out.saturating_sub(1);
        }
        if let Some(pin) = self.pins.get_mut(&key).filter(|pin| pin.0 == session) {
            pin.1 = pin.1.saturating_sub(1);
            if pin.1 == 0 {
                self.pins.remove(&key);
            }
        }
    }

    fn choose(&mut self, key: u64, fits: impl Fn(&Self, &Seat) -> bool) -> Option<usize> {
        let fitting = |at: &usize| self.seats.get(*at).is_some_and(|seat| fits(self, seat));
        let here = |at: &usize| self.seats.get(*at).is_some_and(|seat| seat.here);
        let places = 0..self.seats.len();
        match self.strategy {
            Strategy::RoundRobin if self.is_weighted() => {
                let places: SmallVec<[usize; 16]> = places.filter(fitting).collect();
                self.shortest(&places)
            }
            Strategy::RoundRobin => {
                let first = if self.next < self.seats.len() { self.next } else { 0 };
                let at = (first..self.seats.len()).chain(0..first).find(fitting)?;
                self.next = at + 1;
                Some(at)
            }
            Strategy::LeastInflight => {
                let load = |seat: &Seat| u64::from(seat.out) * 1000 / u64::from(seat.weight);
                let load = |at: &usize| self.seats.get(*at).map_or(u64::MAX, load);
                places.filter(fitting).min_by_key(load)
            }
            // Members sit in the order in which they came: the first that is here has it all.
            Strategy::Sticky => places.clone().find(here).filter(fitting),
            Strategy::HashClient | Strategy::HashTopic | Strategy::HashKey => {
                if let Some((session, _)) = self.pins.get(&key)
                    && let Some(at) = places.clone().find(|at| self.sits(*at, *session)).filter(here)
                {
                    return Some(at).filter(fitting);
                }
                let score = |at: &usize| self.seats.get(*at).map_or(f64::MIN, |seat| seat.score(key));
                places.filter(here).max_by(|a, b| score(a).total_cmp(&score(b))).filter(fitting)
            }
        }
    }

    /// Whose credit is highest, once each of them got its share of the next event: over time each gets as many events as its
    /// weight says, and they are spread evenly.
    fn shortest(&mut self, places: &[usize]) -> Option<usize> {
        let (mut chosen, mut highest, mut all) = (None, i64::MIN, 0);
        for at in places {
            let Some(seat) = self.seats.get_mut(*at) else { continue };
            seat.credit += i64::from(seat.weight);
            all += i64::from(seat.weight);
            if seat.credit > highest {
                (chosen, highest) = (Some(*at), seat.credit);
            }
        }
        self.seats.get_mut(chosen?)?.credit -= all;
        chosen
    }

    fn is_weighted(&self) -> bool {
        !self.weights.is_empty()
    }

    fn sits(&self, at: usize, session: u64) -> bool {
        self.seats.get(at).is_some_and(|seat| seat.session == session)
    }

    fn has_room(&self, seat: &Seat) -> bool {
        seat.here && !seat.full && seat.out < self.most
    }

    fn hashes(&self) -> bool {
        matches!(self.strategy, Strategy::HashClient | Strategy::HashTopic | Strategy::HashKey)
    }
}

impl Seat {
    /// Rendezvous hashing: a key goes where this is highest. Who comes or leaves moves only keys of its own share.
    fn score(&self, key: u64) -> f64 {
        // The upper 53 bits, between 0 and 1 and never either of them.
        let hash = FixedState::default().hash_one((key, self.session)) >> 11;
        let part = (hash as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(self.weight) / part.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picker(strategy: Strategy, members: u64) -> Picker {
        let mut picker = Picker::new(strategy, 2, &Weights::new());
        (1..=members).for_each(|session| picker.sit(session, "client", true, 0));
        picker
    }

    /// How many of `count` events each gets that acknowledges at once.
    fn shares(strategy: Strategy, clients: &[&str], count: u64) -> Vec<u64> {
        let weights = [("big-*", 3), ("big-2", 2)].map(|(name, weight)| (name.to_owned(), weight));
        let mut picker = Picker::new(strategy, 100, &Weights::from(weights));
        for (session, client) in (1..).zip(clients) {
            picker.sit(session, client, true, 0);
        }
        let mut got = vec![0; clients.len()];
        for key in 0..count {
            let at = picker.pick(key).unwrap();
            got[at] += 1;
            if strategy != Strategy::LeastInflight {
                picker.uncount(1 + at as u64, key);
            }
        }
        got
    }

    #[test]
    fn weights_are_shares() {
        let clients = ["small", "big-1", "big-2"];
        assert_eq!(shares(Strategy::RoundRobin, &clients, 60), [10, 30, 20]);
        assert_eq!(shares(Strategy::LeastInflight, &clients, 60), [10, 30, 20]);
        let hashed = shares(Strategy::HashKey, &clients, 6000);
        for (got, wanted) in hashed.iter().zip([1000, 3000, 2000_u64]) {
            assert!(got.abs_diff(wanted) < 200, "{hashed:?}");
        }
    }

    #[test]
    fn who_leaves_moves_its_own_keys_only() {
        let mut picker = picker(Strategy::HashTopic, 5);
        let before: Vec<_> = (0..500).map(|key| picker.pick_live(key).unwrap()).collect();
        picker.rise(4);
        let mut moved = Vec::new();
        for (key, at) in (0..).zip(&before) {
            if picker.pick_live(key) != Some(*at) {
                moved.push(*at);
            }
        }
        assert!(!moved.is_empty() && moved.iter().all(|at| *at == 4), "{moved:?}");
    }

    #[test]
    fn round_robin_passes_over_who_is_full_or_away() {
        let mut picker = picker(Strategy::RoundRobin, 3);
        picker.set_here(2, false);
        let places: Vec<_> = (0..5).map(|_| picker.pick(0)).collect();
        assert_eq!(places, [Some(0), Some(2), Some(0), Some(2), None]);
        assert!(picker.is_full());
        picker.uncount(3, 0);
        assert_eq!(picker.pick(0), Some(2));
    }

    #[test]
    fn least_inflight_goes_where_least_is() {
        let mut picker = picker(Strategy::LeastInflight, 2);
        assert_eq!((picker.pick(0), picker.pick(0), picker.pick(0)), (Some(0), Some(1), Some(0)));
        picker.uncount(1, 0);
        picker.uncount(1, 0);
        assert_eq!(picker.pick(0), Some(0));
    }

    #[test]
    fn sticky_stays_until_the_member_leaves() {
        let mut picker = picker(Strategy::Sticky, 2);
        assert_eq!((picker.pick(0), picker.pick(0), picker.pick(0)), (Some(0), Some(0), None));
        picker.rise(0);
        assert_eq!(picker.pick(0), Some(0));
    }

    #[test]
    fn a_key_stays_where_it_is_unacknowledged_while_members_come() {
        for key in 0..64 {
            let mut picker = picker(Strategy::HashTopic, 1);
            assert_eq!(picker.pick(key), Some(0));
            (2..9).for_each(|session| picker.sit(session, "client", true, 0));
            assert_eq!(picker.pick(key), Some(0), "one is not acknowledged yet");
            assert_eq!(picker.pick(key), None, "full");
            picker.uncount(1, key);
            assert_eq!(picker.pick(key), None, "in order behind the one that waits");
            picker.begin();
            assert_eq!(picker.pick(key), Some(0));
        }
    }

    #[test]
    fn keys_spread_over_members() {
        let mut picker = picker(Strategy::HashClient, 4);
        let mut got = [0; 4];
        for key in 0..400 {
            let at = picker.pick_live(key).unwrap();
            got[at] += 1;
        }
        assert!(got.iter().all(|count| *count > 50), "{got:?}");
    }
}
