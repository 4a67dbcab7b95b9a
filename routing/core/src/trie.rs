//! Subscriptions by filter. Finding those of a topic costs its depth and its matches, not their number. Sans-io.

use std::collections::HashMap;

use event::{TopicFilter, TopicName};
use foldhash::fast::RandomState;

/// Values under topic filters, at most one for each filter and key.
#[derive(Debug)]
pub(crate) struct Trie<V> {
    root: Node<V>,
    len: usize,
}

#[derive(Debug)]
struct Node<V> {
    levels: Levels<V>,
    one: Option<Box<Self>>,
    /// Values of filters that end here.
    here: Leaf<V>,
    /// Values of filters that end in `#` here.
    rest: Leaf<V>,
}

/// What is below a node, by the name of the level. Most nodes have one below them or none, and a map of one takes as much as
/// one of four.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "a node without a map has no room for one: there are a million of them"
)]
enum Levels<V> {
    None,
    One(Box<(Box<str>, Node<V>)>),
    Many(Box<HashMap<Box<str>, Node<V>, RandomState>>),
}

/// Sorted by key: keys mostly rise, so most inserts go to the end.
#[derive(Debug)]
struct Leaf<V>(Vec<(u64, V)>);

impl<V> Trie<V> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts `value` under `filter` and `key`; gives back what was there.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, key: u64, value: V) -> Option<V> {
        let mut node = &mut self.root;
        let mut leaf_is_rest = false;
        for level in filter.levels() {
            node = match level {
                "#" => {
                    leaf_is_rest = true;
                    break;
                }
                "+" => node.one.get_or_insert_with(Box::default),
                name => node.levels.get_or_insert(name),
            };
        }
        let leaf = if leaf_is_rest { &mut node.rest } else { &mut node.here };
        let old = leaf.insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the value under `filter` and `key` out, and nodes that hold nothing any more with it.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, key: u64) -> Option<V> {
        let levels: Vec<&str> = filter.levels().collect();
        let old = self.root.remove(&levels, key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// Shows every value whose filter matches `topic`. A value may come once for each of its filters.
    pub(crate) fn matches<'a>(&'a self, topic: &TopicName, found: &mut impl FnMut(u64, &'a V)) {
        let levels: Vec<&str> = topic.levels().collect();
        if topic.is_system() {
            if let Some((first, below)) = levels.split_first()
                && let Some(node) = self.root.levels.get(first)
            {
                node.matches(below, found);
            }
        } else {
            self.root.matches(&levels, found);
        }
    }
}

impl<V> Node<V> {
    fn matches<'a>(&'a self, levels: &[&str], found: &mut impl FnMut(u64, &'a V)) {
        self.rest.each(found);
        let Some((first, below)) = levels.split_first() else {
            self.here.each(found);
            return;
        };
        if let Some(node) = self.levels.get(first) {
            node.matches(below, found);
        }
        if let Some(node) = &self.one {
            node.matches(below, found);
        }
    }

    fn remove(&mut self, levels: &[&str], key: u64) -> Option<V> {
        let Some((first, below)) = levels.split_first() else { return self.here.remove(key) };
        match *first {
            "#" => self.rest.remove(key),
            "+" => {
                let node = self.one.as_mut()?;
                let old = node.remove(below, key);
                if node.is_empty() {
                    self.one = None;
                }
                old
            }
            name => {
                let node = self.levels.get_mut(name)?;
                let old = node.remove(below, key);
                if node.is_empty() {
                    self.levels.remove(name);
                }
                old
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.one.is_none() && self.here.0.is_empty() && self.rest.0.is_empty()
    }
}

impl<V> Levels<V> {
    fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::One(_) => false,
            Self::Many(map) => map.is_empty(),
        }
    }

    fn get(&self, name: &str) -> Option<&Node<V>> {
        match self {
            Self::None => None,
            Self::One(one) => (*one.0 == *name).then_some(&one.1),
            Self::Many(map) => map.get(name),
        }
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Node<V>> {
        match self {
            Self::None => None,
            Self::One(one) => (*one.0 == *name).then_some(&mut one.1),
            Self::Many(map) => map.get_mut(name),
        }
    }

    fn get_or_insert(&mut self, name: &str) -> &mut Node<V> {
        // A second one makes a map of what was alone.
        if matches!(self, Self::One(one) if *one.0 != *name)
            && let Self::One(one) = std::mem::replace(self, Self::Many(Box::default()))
            && let Self::Many(map) = self
        {
            let (known, node) = *one;
            map.insert(known, node);
        }
        loop {
            match self {
                Self::None => *self = Self::One(Box::new((Box::from(name), Node::default()))),
                Self::One(one) => return &mut one.1,
                Self::Many(map) => return map.entry(Box::from(name)).or_default(),
            }
        }
    }

    fn remove(&mut self, name: &str) {
        match self {
            Self::None => {}
            Self::One(one) if *one.0 == *name => *self = Self::None,
            Self::One(_) => {}
            Self::Many(map) => {
                map.remove(name);
                if map.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }
}

impl<V> Leaf<V> {
    fn insert(&mut self, key: u64, value: V) -> Option<V> {
        match self.0.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => self.0.get_mut(at).map(|slot| std::mem::replace(&mut slot.1, value)),
            Err(at) => {
                // Most filters have one subscriber, and there are many of them.
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(self.0.remove(at).1)
    }

    fn each<'a>(&'a self, found: &mut impl FnMut(u64, &'a V)) {
        for (key, value) in &self.0 {
            found(*key, value);
        }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { levels: Levels::None, one: None, here: Leaf(Vec::new()), rest: Leaf(Vec::new()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter() -> impl Strategy<Value = TopicFilter> {
        let level = prop_oneof![Just("a"), Just("b"), Just("+"), Just(""), Just("$s")];
        (proptest::collection::vec(level, 1..4), any::<bool>()).prop_filter_map(
            "a filter",
            |(levels, rest)| {
                let text = levels.join("/") + if rest { "/#" } else { "" };
                TopicFilter::parse(text).ok()
            },
        )
    }

    fn topic() -> impl Strategy<Value = TopicName> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$s")];
        proptest::collection::vec(level, 1..5)
            .prop_filter_map("a topic", |levels| TopicName::parse(levels.join("/")).ok())
    }

    proptest! {
        #[test]
        fn finds_what_matching_one_by_one_finds(
            steps in proptest::collection::vec((filter(), 0u64..4, any::<bool>()), 0..40),
            topics in proptest::collection::vec(topic(), 1..8),
        ) {
            let mut trie = Trie::default();
            let mut naive: Vec<(TopicFilter, u64)> = Vec::new();
            for (filter, key, add) in steps {
                let known = naive.iter().position(|(f, k)| *f == filter && *k == key);
                if add {
                    prop_assert_eq!(trie.insert(&filter, key, ()).is_some(), known.is_some());
                    if known.is_none() {
                        naive.push((filter, key));
                    }
                } else {
                    prop_assert_eq!(trie.remove(&filter, key).is_some(), known.is_some());
                    if let Some(at) = known {
                        naive.remove(at);
                    }
                }
                prop_assert_eq!(trie.len(), naive.len());
            }
            for topic in topics {
                let mut found = Vec::new();
                trie.matches(&topic, &mut |key, ()| found.push(key));
                let mut wanted: Vec<u64> = naive.iter().filter(|(f, _)| f.matches(&topic)).map(|(_, k)| *k).collect();
                found.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted);
            }
            for (filter, key) in naive {
                trie.remove(&filter, key);
            }
            prop_assert!(trie.root.is_empty());
        }
    }
}
