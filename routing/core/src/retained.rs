//! The last event of each topic, for those who subscribe later (MQTT 5 §3.3.1.3). Looking up a filter walks the levels
//! it names, not all topics. Sans-io.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

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
        let event = event.detached();
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

    /// Shows retained events that `filter` matches, in the order of their topics, behind `after`, until `found` took
    /// `limit` of them. Walks what lies before the page not at all, but for its path.
    pub(crate) fn page(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
        found: &mut impl FnMut(&Kept) -> bool,
    ) {
        let levels: Vec<&str> = filter.levels().collect();
        self.some(&levels, after, true, limit, found);
    }

    /// Shows retained events in the order of their topics, behind `after`, at most `limit` of them.
    pub(crate) fn piece(&self, after: Option<&TopicName>, limit: usize, found: &mut impl FnMut(&Kept)) {
        self.some(&["#"], after, false, limit, &mut |kept| {
            found(kept);
            true
        });
    }

    /// `hide_system`: no wildcard of a first level matches a `$` topic.
    fn some(
        &self,
        levels: &[&str],
        after: Option<&TopicName>,
        hide_system: bool,
        limit: usize,
        found: &mut impl FnMut(&Kept) -> bool,
    ) {
        let after: Option<Vec<&str>> = after.map(|topic| topic.levels().collect());
        let mut left = limit;
        let mut take = |kept: &Kept| {
            left -= usize::from(left > 0 && found(kept));
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if limit > 0 {
            // That it ended early or not makes no difference here.
            let (ControlFlow::Continue(()) | ControlFlow::Break(())) =
                self.root.page(levels, after.as_deref(), hide_system, &mut take);
        }
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

    /// `after`: what is left of the topic behind which the page begins; `None`: all of this node lies behind it.
    fn page(
        &self,
        levels: &[&str],
        after: Option<&[&str]>,
        first: bool,
        found: &mut impl FnMut(&Kept) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let rest = levels.first() == Some(&"#");
        if (levels.is_empty() || rest)
            && after.is_none()
            && let Some(kept) = &self.kept
        {
            found(kept)?;
        }
        let Some((level, below)) = levels.split_first() else { return ControlFlow::Continue(()) };
        let below = if rest { levels } else { below };
        let (start, path) = match after.and_then(<[&str]>::split_first) {
            Some((start, path)) => (Some(*start), path),
            // All levels lie behind the topic that ends here.
            None => (None, &[][..]),
        };
        let from = start.map_or(Bound::Unbounded, Bound::Included);
        let names = match *level {
            "#" | "+" => (from, Bound::Unbounded),
            name if start.is_some_and(|start| name < start) => return ControlFlow::Continue(()),
            name => (Bound::Included(name), Bound::Included(name)),
        };
        for (name, node) in self.levels.range::<str, _>(names) {
            // [MQTT-4.7.2-1]: no wildcard of a first level matches a `$` topic.
            if first && matches!(*level, "#" | "+") && name.starts_with('$') {
                continue;
            }
            let after = start.filter(|start| **start == **name).map(|_| path);
            node.page(below, after, false, found)?;
        }
        ControlFlow::Continue(())
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
    fn pages_join_to_what_the_filter_matches() {
        let mut retained = Retained::default();
        for topic in ["a", "a/b", "a/b/c", "a/c", "a/c/", "a0", "b", "$SYS/a", "/x", "b/b", "b/d/e/f"] {
            retained.set(&event(topic, "1"), Guarantee::AtLeastOnce, Position(1));
        }
        for filter in ["#", "a/#", "a/+", "+/+", "+/b/#", "a", "a/b/c", "$SYS/#", "+", "none/#", "+/+/#"] {
            for limit in 1..4 {
                let parsed = TopicFilter::parse(filter).unwrap();
                let mut pages: Vec<TopicName> = Vec::new();
                loop {
                    let before = pages.len();
                    let after = pages.last().cloned();
                    retained.page(&parsed, after.as_ref(), limit, &mut |kept| {
                        pages.push(kept.event.topic().clone());
                        true
                    });
                    assert!(pages.len() - before <= limit);
                    if pages.len() - before < limit {
                        break;
                    }
                }
                let pages: Vec<String> = pages.iter().map(ToString::to_string).collect();
                assert_eq!(pages, found(&retained, filter), "{filter} by {limit}");
            }
        }
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
