//! The last event of each topic, for those who subscribe later (MQTT 5 §3.3.1.3). Looking up a filter walks the levels
//! it names, not all topics. Sans-io.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use event::store::Position;
use event::{Event, Guarantee, TopicFilter, TopicName};

/// A retained event.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) event: Event,
    pub(crate) guarantee: Guarantee,
    /// Its record in the log.
    pub(crate) position: Position,
}

/// All retained events.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    root: Node,
    count: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Node {
    levels: BTreeMap<Box<str>, Self>,
    kept: Option<Kept>,
}

impl Retained {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// What they weigh.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `event` as the last of its topic; without data, forgets that one.
    pub(crate) fn set(&mut self, event: &Event, guarantee: Guarantee, position: Position) {
        let mut node = &mut self.root;
        if event.data().is_empty() {
            let levels: Vec<&str> = event.topic().levels().collect();
            if let Some(old) = node.remove(&levels) {
                self.count -= 1;
                self.bytes -= old.event.weight();
            }
            return;
        }
        for level in event.topic().levels() {
            node = node.levels.entry(Box::from(level)).or_default();
        }
        let event = on_its_own(event);
        self.bytes += event.weight();
        match node.kept.replace(Kept { event, guarantee, position }) {
            Some(old) => self.bytes -= old.event.weight(),
            None => self.count += 1,
        }
    }

    /// The retained event of `topic` now stands at `to`, if it stood at `from`.
    pub(crate) fn moved(&mut self, topic: &TopicName, from: Position, to: Position) {
        let mut node = Some(&mut self.root);
        for level in topic.levels() {
            node = node.and_then(|node| node.levels.get_mut(level));
        }
        if let Some(kept) = node.and_then(|node| node.kept.as_mut())
            && kept.position == from
        {
            kept.position = to;
        }
    }

    /// Whether `topic` has one.
    pub(crate) fn contains(&self, topic: &TopicName) -> bool {
        let mut node = Some(&self.root);
        for level in topic.levels() {
            node = node.and_then(|node| node.levels.get(level));
        }
        node.is_some_and(|node| node.kept.is_some())
    }

    /// Shows every retained event that `filter` matches, in the order of their topics.
    pub(crate) fn matches(&self, filter: &TopicFilter, found: &mut impl FnMut(&Kept)) {
        let levels: Vec<&str> = filter.levels().collect();
        self.root.matches(&levels, true, found);
    }

    /// Shows every retained event.
    pub(crate) fn each(&self, found: &mut impl FnMut(&Kept)) {
        self.root.each(false, found);
    }
}

impl Node {
    fn matches(&self, levels: &[&str], first: bool, found: &mut impl FnMut(&Kept)) {
        let Some((level, below)) = levels.split_first() else {
            if let Some(kept) = &self.kept {
                found(kept);
            }
            return;
        };
        match *level {
            "#" => self.each(first, found),
            "+" => {
                for (name, node) in &self.levels {
                    // [MQTT-4.7.2-1]: no wildcard of a first level matches a `$` topic.
                    if !(first && name.starts_with('$')) {
                        node.matches(below, false, found);
                    }
                }
            }
            name => {
                if let Some(node) = self.levels.get(name) {
                    node.matches(below, false, found);
                }
            }
        }
    }

    fn each(&self, hide_system: bool, found: &mut impl FnMut(&Kept)) {
        if let Some(kept) = &self.kept {
            found(kept);
        }
        for (name, node) in &self.levels {
            if !(hide_system && name.starts_with('$')) {
                node.each(false, found);
            }
        }
    }

    fn remove(&mut self, levels: &[&str]) -> Option<Kept> {
        let Some((level, below)) = levels.split_first() else { return self.kept.take() };
        let node = self.levels.get_mut(*level)?;
        let old = node.remove(below);
        if node.kept.is_none() && node.levels.is_empty() {
            self.levels.remove(*level);
        }
        old
    }
}

/// The event with bytes of its own: one that is kept for long must not hold the read buffer it came in.
fn on_its_own(event: &Event) -> Event {
    let mut parts = event.parts().clone();
    parts.data = Bytes::copy_from_slice(&parts.data);
    let topic = ByteString::from(parts.topic.as_str());
    if let Ok(topic) = TopicName::parse(topic) {
        parts.topic = topic;
    }
    parts.publisher = Arc::clone(&parts.publisher);
    Event::new(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn found(retained: &Retained, filter: &str) -> Vec<String> {
        let mut topics = Vec::new();
        let filter = TopicFilter::parse(filter).unwrap();
        retained.matches(&filter, &mut |kept| topics.push(kept.event.topic().to_string()));
        topics
    }

    #[test]
    fn filters_find_what_they_match() {
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "a/b/c", "a/c", "$SYS/a", "/x"] {
            retained.set(&event(topic, "1"), Guarantee::AtLeastOnce, Position(1));
        }
        assert_eq!(found(&retained, "#"), ["/x", "a", "a/b", "a/b/c", "a/c"]);
        assert_eq!(found(&retained, "a/+"), ["a/b", "a/c"]);
        assert_eq!(found(&retained, "a/#"), ["a", "a/b", "a/b/c", "a/c"]);
        assert_eq!(found(&retained, "+/+"), ["/x", "a/b", "a/c"]);
        assert_eq!(found(&retained, "$SYS/#"), ["$SYS/a"]);
        assert_eq!(found(&retained, "a/x"), [""; 0]);
    }

    #[test]
    fn an_event_without_data_forgets_and_sums_return_to_zero() {
        let mut retained = Retained::default();
        retained.set(&event("a/b", "1"), Guarantee::AtLeastOnce, Position(1));
        retained.set(&event("a/b", "22"), Guarantee::AtLeastOnce, Position(2));
        assert_eq!(retained.count(), 1);
        retained.set(&event("a/b", ""), Guarantee::AtLeastOnce, Position(3));
        assert_eq!((retained.count(), retained.bytes()), (0, 0));
        assert!(retained.root.levels.is_empty());
    }

    #[test]
    fn a_move_counts_only_for_the_event_it_meant() {
        let mut retained = Retained::default();
        let topic = TopicName::parse("a").unwrap();
        retained.set(&event("a", "1"), Guarantee::AtLeastOnce, Position(5));
        retained.moved(&topic, Position(4), Position(9));
        retained.each(&mut |kept| assert_eq!(kept.position, Position(5)));
        retained.moved(&topic, Position(5), Position(9));
        retained.each(&mut |kept| assert_eq!(kept.position, Position(9)));
    }
}
