//! The topics that somebody created.
//!
//! Every topic is there as soon as it is used: nothing has to be created. Operators and programs of EventMesh create topics
//! all the same, and look for them in lists. What is created is remembered until Weft stops.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{NameError, names};

/// Topics by name. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct TopicList(Arc<Mutex<BTreeSet<String>>>);

/// Why a topic is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTopic {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Longer than a name that is only remembered should be.
    #[error("it has more than {NAME_MAX} bytes")]
    Long,
    /// There are too many.
    #[error("there are {TOPICS_MAX} topics, which is the limit")]
    Full,
}

impl TopicList {
    /// Notes that a topic was created, perhaps once more.
    ///
    /// # Errors
    /// The name is no topic, or too long, or there are too many.
    pub fn create(&self, name: &str) -> Result<(), NoTopic> {
        names::topic(name)?;
        if name.len() > NAME_MAX {
            return Err(NoTopic::Long);
        }
        let mut topics = self.0.lock();
        if topics.len() >= TOPICS_MAX && !topics.contains(name) {
            return Err(NoTopic::Full);
        }
        topics.insert(name.to_owned());
        Ok(())
    }

    /// Forgets one; whether it was there. Its events stay, and so do its subscribers.
    pub fn delete(&self, name: &str) -> bool {
        self.0.lock().remove(name)
    }

    /// All, in the order of their names.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

/// So many are remembered.
const TOPICS_MAX: usize = 10_000;

/// The longest of them, bytes.
const NAME_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_created_is_listed_until_it_is_deleted() {
        let topics = TopicList::default();
        for name in ["b", "a", "b"] {
            topics.create(name).unwrap();
        }
        assert_eq!(topics.clone().all(), ["a", "b"]);
        assert!(topics.delete("a") && !topics.delete("a"));
        assert!(matches!(topics.create("a/+"), Err(NoTopic::Name(_))));
        assert_eq!(topics.create(&"x".repeat(NAME_MAX + 1)), Err(NoTopic::Long));
        for n in 1..TOPICS_MAX {
            topics.create(&format!("t{n}")).unwrap();
        }
        assert_eq!(topics.create("more"), Err(NoTopic::Full));
        assert_eq!(topics.create("b"), Ok(()));
    }
}
