//! Sets of topics, as filters write them: which topics are in one, and which sets lie in, or meet, each other. Sans-io.
//!
//! No wildcard of a first level matches a topic that begins with `$` \[MQTT-4.7.2-1\], and `#` is also the level above it
//! (MQTT 5 §4.7.1.2).

use std::borrow::Cow;

/// A level of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// This text.
    Text(Box<str>),
    /// `+`.
    One,
    /// `#`.
    Rest,
}

/// The levels of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Box<[Level]>);

impl Pattern {
    /// The set of a valid filter, without `$share/group/`.
    pub(crate) fn new(filter: &str) -> Self {
        let level = |text: &str| match text {
            "+" => Level::One,
            "#" => Level::Rest,
            text => Level::Text(text.into()),
        };
        // A topic has a first level, so that `#` and `+/#` are the same.
        let filter = if filter == "#" { Cow::Borrowed("+/#") } else { Cow::Borrowed(filter) };
        Self(filter.split('/').map(level).collect())
    }

    /// Whether a topic of these levels is in the set.
    pub(crate) fn has(&self, topic: &[&str]) -> bool {
        let mut levels = topic.iter();
        for (at, own) in self.0.iter().enumerate() {
            match (own, levels.next()) {
                (Level::Rest, _) => return true,
                (Level::Text(text), Some(level)) if **text == **level => {}
                (Level::One, Some(level)) if at > 0 || !level.starts_with('$') => {}
                (Level::Text(_) | Level::One, _) => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic of `other` is in this set, too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.0.iter();
        for (at, own) in self.0.iter().enumerate() {
            match (own, theirs.next()) {
                (Level::Rest, _) => return true,
                (Level::One, Some(Level::One)) => {}
                (Level::One, Some(Level::Text(text))) if at > 0 || !text.starts_with('$') => {}
                (Level::Text(text), Some(Level::Text(other))) if text == other => {}
                (Level::One | Level::Text(_), _) => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether some topic is in both sets.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.iter(), other.0.iter());
        for at in 0.. {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(Level::Rest), _) | (_, Some(Level::Rest)) => return true,
                (Some(Level::Text(one)), Some(Level::Text(two))) if one == two => {}
                (Some(Level::One), Some(Level::One)) => {}
                (Some(Level::Text(text)), Some(Level::One)) | (Some(Level::One), Some(Level::Text(text)))
                    if at > 0 || !text.starts_with('$') => {}
                (Some(Level::Text(_) | Level::One), _) | (None, Some(_)) => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every topic of one to four levels out of these: patterns use all but `z`, which stands for any other text.
    const TEXTS: [&str; 5] = ["a", "b", "", "$s", "z"];

    fn topics() -> Vec<Vec<&'static str>> {
        let mut all: Vec<Vec<&str>> = TEXTS.iter().map(|text| vec![*text]).collect();
        let mut from = 0;
        for _ in 1..4 {
            let to = all.len();
            for at in from..to {
                for text in TEXTS {
                    let mut longer = all[at].clone();
                    longer.push(text);
                    all.push(longer);
                }
            }
            from = to;
        }
        all
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$s"), Just("+")];
        (prop::collection::vec(level, 0..=3), any::<bool>()).prop_filter_map("empty", |(mut levels, rest)| {
            levels.extend(rest.then_some("#"));
            let text = levels.join("/");
            (!text.is_empty()).then_some(text)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn sets_of_topics_are_what_counting_them_says(one in filter(), two in filter()) {
            let topics = topics();
            let (first, second) = (Pattern::new(&one), Pattern::new(&two));
            let naive = |text: &str, topic: &[&str]| {
                let filter = event::TopicFilter::parse(text).unwrap();
                // The empty text is no topic for MQTT; as one level without text it is in these.
                match event::TopicName::parse(topic.join("/")) {
                    Ok(topic) => filter.matches(&topic),
                    Err(_) => ["+", "#", "+/#", "/#"].contains(&text),
                }
            };
            for topic in &topics {
                prop_assert_eq!(first.has(topic), naive(&one, topic), "{} {:?}", one, topic);
            }
            let covers = topics.iter().all(|topic| !naive(&two, topic) || naive(&one, topic));
            prop_assert_eq!(first.covers(&second), covers, "{} covers {}", one, two);
            let meets = topics.iter().any(|topic| naive(&one, topic) && naive(&two, topic));
            prop_assert_eq!(first.meets(&second), meets, "{} meets {}", one, two);
        }
    }
}
