//! The webhooks of the configuration: which there are, and how they change while Weft runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::hub::Hub;
use event::{Health, TopicFilter};
use parts::{Part, Parts, Place};
use tokio::time::{Duration, Instant};

use super::named::{LAST_WORD, Named};
use super::plan::{Files, Plan};
use super::standing::Standing;
use crate::named::HookOptions;

/// The webhooks that the configuration names. Each is the session `$hook/NAME` and the part `hook/NAME` of the health.
pub struct NamedHooks(Parts<Plan>);

/// Webhooks that are known to be right.
pub struct Plans(parts::Plans<Plan>);

impl NamedHooks {
    /// None so far. `past`: the names of those that an earlier run left sessions of, with what these subscribed.
    pub fn new(hub: Arc<dyn Hub>, health: Health, past: BTreeMap<String, Vec<TopicFilter>>) -> Self {
        Self(Parts::new(hub, health, past))
    }

    /// Looks whether these could be the webhooks from now on. Reads the files that they name; changes nothing.
    ///
    /// # Errors
    /// A setting or a file cannot be used: says which, of which webhook, and why.
    pub fn plan(&self, hooks: &BTreeMap<String, HookOptions>) -> Result<Plans, String> {
        let plan = |(name, options): (&String, &HookOptions)| {
            let wrong = |reason| format!("hook.{name}: {reason}");
            let files = Files::read(options).map_err(|error| wrong(error.to_string()))?;
            let stays = self.0.plan_of(name).is_some_and(|plan| plan.is_of(options, &files));
            let plan = (!stays).then(|| Plan::new(options, files)).transpose().map_err(wrong)?;
            Ok((name.clone(), plan))
        };
        hooks.iter().map(plan).collect::<Result<_, String>>().map(Plans)
    }

    /// These are the webhooks from now on. One that changed first hears out what it is posting, and gives back what waits; then
    /// the next takes up its session. One that is not among them ends with its session and all that waits there. Has to be
    /// called within a runtime.
    pub fn follow(&mut self, plans: Plans) {
        self.0.follow(plans.0);
    }

    /// Lets posts under way come to an end, for some seconds, and until `deadline` at most. Not cancel-safe: dropped, all are
    /// cut off.
    pub async fn finish(self, deadline: Instant) {
        self.0.finish(deadline).await;
    }
}

impl Part for Plan {
    type Standing = Standing;
    const SESSIONS: &'static str = SESSIONS;
    const LAST_WORD: Duration = LAST_WORD;

    fn has_session(&self) -> bool {
        true
    }

    async fn run(self: Arc<Self>, place: Place<Standing>, subscribed: &mut Vec<TopicFilter>) {
        Named::new(self, place).run(subscribed).await;
    }
}

/// What the sessions of webhooks begin with; the name follows.
pub const SESSIONS: &str = "$hook/";
