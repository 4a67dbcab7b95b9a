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
    /// Another one, or none, has its place.
    over: bool,
}

impl Condition {
    /// Down until something answers.
    pub(crate) fn new(part: String, health: Health, store: Option<Up>) -> Self {
        Self::begin(part, health, store, "not connected yet")
    }

    fn begin(part: String, health: Health, store: Option<Up>, reason: &str) -> Self {
        health.down(&part, reason);
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

/// What is shown of a bridge, whose settings change: they have a [`Condition`] each, and only the last one is heard.
pub(crate) struct Standing {
    part: String,
    health: Health,
    now: Mutex<Option<Condition>>,
}

impl Standing {
    /// That of the settings that are to hold; `None`: there is no such bridge.
    pub(crate) fn condition(&self) -> Option<Condition> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map(|now| Condition { board: Arc::clone(&now.board), of: None })
    }

    fn turn(&self, next: impl FnOnce() -> Option<Condition>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = &*now {
            before.board.change(|state| state.over = true);
        }
        *now = next();
    }
}

impl parts::Standing for Standing {
    fn new(name: &str, health: &Health) -> Self {
        Self { part: name.to_owned(), health: health.clone(), now: Mutex::default() }
    }

    fn begin(&self, reason: &str) {
        self.turn(|| Some(Condition::begin(self.part.clone(), self.health.clone(), None, reason)));
    }

    fn end(&self) {
        self.turn(|| {
            gauge!("weft_rocketmq_link_up", "part" => self.part.clone()).set(f64::NAN);
            self.health.gone(&self.part);
            None
        });
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
        if state.over {
            return;
        }
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

    #[test]
    fn only_the_last_settings_of_a_bridge_are_heard() {
        use parts::Standing as _;
        let health = Health::default();
        let standing = Standing::new("rocketmq/b", &health);
        assert!(standing.condition().is_none() && health.parts().is_empty());
        standing.begin("not yet");
        let old = standing.condition().unwrap();
        old.reached();
        assert_eq!(health.parts(), [("rocketmq/b".to_owned(), None)]);
        standing.begin("its new settings do not hold yet");
        old.unreached("late");
        old.reached();
        let new = standing.condition().unwrap();
        let shown = || health.parts().remove(0).1;
        assert_eq!(shown().as_deref(), Some("its new settings do not hold yet"));
        new.reached();
        assert_eq!(shown(), None);
        standing.end();
        new.unreached("late");
        assert!(health.parts().is_empty());
    }
}
