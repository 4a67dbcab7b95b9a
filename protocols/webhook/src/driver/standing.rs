//! How a named webhook is, for `/ready` and `/metrics`.

use event::Health;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;

/// What is shown of one webhook.
pub(super) struct Standing {
    name: String,
    part: String,
    health: Health,
    up: Gauge,
    /// Why it is down, as it was said last; `None` in `Some`: it is up. `None`: there is no such webhook.
    said: Mutex<Option<Option<String>>>,
}

impl parts::Standing for Standing {
    fn new(name: &str, health: &Health) -> Self {
        let up = gauge!("weft_hook_up", "hook" => name.to_owned());
        let (name, part) = (name.to_owned(), format!("hook/{name}"));
        Self { name, part, health: health.clone(), up, said: Mutex::default() }
    }

    /// It is down until it has its session: what is published before that, it never gets.
    fn begin(&self, reason: &str) {
        *self.said.lock() = Some(Some(reason.to_owned()));
        self.up.set(0.0);
        self.health.down(&self.part, reason);
    }

    fn end(&self) {
        *self.said.lock() = None;
        self.up.set(f64::NAN);
        self.health.gone(&self.part);
    }
}

impl Standing {
    /// It takes events, as far as is known.
    pub(super) fn up(&self) {
        if self.says(None) {
            tracing::info!(hook = self.name, "a webhook takes events");
            self.up.set(1.0);
            self.health.up(&self.part);
        }
    }

    /// It does not, because of `reason`.
    pub(super) fn down(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.says(Some(reason.clone())) {
            tracing::warn!(hook = self.name, reason, "a webhook takes no events");
            self.up.set(0.0);
            self.health.down(&self.part, reason);
        }
    }

    /// Whether that is news.
    fn says(&self, what: Option<String>) -> bool {
        match &mut *self.said.lock() {
            Some(said) if *said != what => {
                *said = what;
                true
            }
            Some(_) | None => false,
        }
    }
}
