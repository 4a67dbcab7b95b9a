//! How a part is, for `/ready`: whether its brokers answer, and whether a topic is in trouble.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use event::Health;
use event::store::Up;
use metrics::{Gauge, gauge};
use tracing::{info, warn};

/// The state of one bridge or store; writes it on the board whenever it changes.
pub(crate) struct Condition {
    board: Arc<Board>,
    /// What the names of its troubles begin with, if it is that of one group of the part.
    of: Option<String>,
}

struct Board {
    part: String,
    health: Health,
    /// 1 while it works.
    up: Gauge,
    /// For the core, if it is a store.
    store: Option<Up>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why brokers do not answer; `None` in `Some`: they do. `None`: not known yet.
    reach: Option<Option<String>>,
    /// What does not work though brokers answer, by its name.
    trouble: BTreeMap<String, String>,
    shown: Option<Option<String>>,
}

impl Condition {
    /// Down until something answers.
    pub(crate) fn new(part: String, health: Health, store: Option<Up>) -> Self {
        health.down(&part, "not connected yet");
        let up = gauge!("weft_rocketmq_link_up", "part" => part.clone());
        up.set(0.0);
        let board = Board { part, health, up, store, state: Mutex::default() };
        board.say(false);
        Self { board: Arc::new(board), of: None }
    }

    /// For a group that is consumed for the same part: its troubles are the part's, as long as it lives. Whether brokers answer
    /// is left to the part itself.
    pub(crate) fn of_group(&self, group: &str) -> Self {
        Self { board: Arc::clone(&self.board), of: Some(format!("group {group}: ")) }
    }

    /// All brokers answer.
    pub(crate) fn reached(&self) {
        if self.of.is_none() {
            self.board.change(|state| state.reach = Some(None));
        }
    }

    /// Brokers or name servers do not answer.
    pub(crate) fn unreached(&self, reason: impl Into<String>) {
        if self.of.is_none() {
            let reason = reason.into();
            self.board.change(|state| state.reach = Some(Some(reason)));
        }
    }

    /// Brokers answer, but `what` (a topic, a queue) does not work.
    pub(crate) fn trouble(&self, what: &str, reason: impl Into<String>) {
        let reason = reason.into();
        let what = self.name(what);
        self.board.change(|state| drop(state.trouble.insert(what, reason)));
    }

    /// `what` works.
    pub(crate) fn no_trouble(&self, what: &str) {
        let what = self.name(what);
        self.board.change(|state| drop(state.trouble.remove(&what)));
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}", self.of.as_deref().unwrap_or_default())
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            self.board.change(|state| state.trouble.retain(|what, _| !what.starts_with(of)));
        }
    }
}

impl Board {
    /// Before `/ready` says so: who reads there that it works finds that it does.
    fn say(&self, up: bool) {
        self.up.set(f64::from(u8::from(up)));
        if let Some(store) = &self.store {
            store.set(up);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let Some(reach) = state.reach.clone() else { return };
        let trouble = || state.trouble.iter().next().map(|(what, reason)| format!("{what}: {reason}"));
        let now = reach.or_else(trouble);
        if state.shown.as_ref() == Some(&now) {
            return;
        }
        self.say(now.is_none());
        match &now {
            None => {
                info!(part = self.part, "works");
                self.health.up(&self.part);
            }
            Some(reason) => {
                if state.shown.as_ref().is_none_or(Option::is_none) {
                    warn!(part = self.part, reason, "does not work");
                }
                self.health.down(&self.part, reason.clone());
            }
        }
        state.shown = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_shows_the_worst() {
        let health = Health::default();
        let condition = Condition::new("rocketmq/x".into(), health.clone(), None);
        let shown = || health.parts().remove(0).1;
        assert_eq!(shown().as_deref(), Some("not connected yet"));
        condition.trouble("T", "no permission");
        assert_eq!(shown().as_deref(), Some("not connected yet"));
        condition.reached();
        assert_eq!(shown().as_deref(), Some("T: no permission"));
        condition.unreached("refused");
        assert_eq!(shown().as_deref(), Some("refused"));
        condition.reached();
        condition.no_trouble("T");
        assert_eq!(shown(), None);
        let group = condition.of_group("g");
        group.unreached("that is for the part to say");
        assert_eq!(shown(), None);
        group.trouble("T", "no permission");
        condition.no_trouble("T");
        assert_eq!(shown().as_deref(), Some("group g: T: no permission"));
        drop(group);
        assert_eq!(shown(), None);
    }
}
