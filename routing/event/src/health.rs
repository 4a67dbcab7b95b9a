//! What is well and what is not, for `/ready`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A board on which each part that can fail writes how it is. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Health {
    /// `part` (such as `rocketmq/main`) works.
    pub fn up(&self, part: &str) {
        self.set(part, None);
    }

    /// `part` does not work, because of `reason`.
    pub fn down(&self, part: &str, reason: impl Into<String>) {
        self.set(part, Some(reason.into()));
    }

    /// There is no such part any more.
    pub fn gone(&self, part: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    /// Every part with the reason why it does not work, if it does not, by name.
    pub fn parts(&self) -> Vec<(String, Option<String>)> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.iter().map(|(part, reason)| (part.clone(), reason.clone())).collect()
    }

    fn set(&self, part: &str, reason: Option<String>) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.insert(part.to_owned(), reason);
    }
}
