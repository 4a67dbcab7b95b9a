//! The webhooks of the configuration: which there are, and how they change while Weft runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Attach, Close, Hub};
use event::{Health, Principal, RejectKind, TopicFilter};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::named::{LAST_WORD, Named, PROTOCOL, SESSION_PAUSE};
use super::plan::{Files, Plan};
use super::standing::Standing;
use crate::named::HookOptions;

/// The webhooks that the configuration names. Each is the session `$hook/NAME` and the part `hook/NAME` of the health, in the
/// hands of one task, which goes from one plan to the next: so two never post for the same session.
pub struct NamedHooks {
    hub: Arc<dyn Hub>,
    health: Health,
    /// Sessions of an earlier run, and what they subscribed, until it is said which webhooks there are.
    past: BTreeMap<String, Vec<TopicFilter>>,
    places: BTreeMap<String, Place>,
    tasks: JoinSet<()>,
}

/// What became of a name.
struct Place {
    /// How it is posted to; `None`: it was taken out. Gone with Weft.
    wish: watch::Sender<Option<Arc<Plan>>>,
    standing: Arc<Standing>,
}

/// Webhooks that are known to be right. By name; `None`: that one stays as it is.
pub struct Plans(BTreeMap<String, Option<Plan>>);

impl NamedHooks {
    /// None so far. `past`: the names of those that an earlier run left sessions of, with what these subscribed.
    pub fn new(hub: Arc<dyn Hub>, health: Health, past: BTreeMap<String, Vec<TopicFilter>>) -> Self {
        Self { hub, health, past, places: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Looks whether these could be the webhooks from now on. Reads the files that they name; changes nothing.
    ///
    /// # Errors
    /// A setting or a file cannot be used: says which, of which webhook, and why.
    pub fn plan(&self, hooks: &BTreeMap<String, HookOptions>) -> Result<Plans, String> {
        let plan = |(name, options): (&String, &HookOptions)| {
            let wrong = |reason| format!("hook.{name}: {reason}");
            let files = Files::read(options).map_err(wrong)?;
            let stays = self.plan_of(name).is_some_and(|plan| plan.is_of(options, &files));
            let plan = (!stays).then(|| Plan::new(options, files)).transpose().map_err(wrong)?;
            Ok((name.clone(), plan))
        };
        hooks.iter().map(plan).collect::<Result<_, String>>().map(Plans)
    }

    /// These are the webhooks from now on. One that changed first hears out what it is posting, and gives back what waits; then
    /// the next takes up its session. One that is not among them ends with its session and all that waits there. Has to be
    /// called within a runtime.
    pub fn follow(&mut self, plans: Plans) {
        let past = std::mem::take(&mut self.past);
        let known: Vec<String> = self.places.keys().chain(past.keys()).cloned().collect();
        for name in known.into_iter().filter(|name| !plans.0.contains_key(name)) {
            self.turn(&name, None, &past);
        }
        for (name, plan) in plans.0 {
            if let Some(plan) = plan {
                self.turn(&name, Some(Arc::new(plan)), &past);
            }
        }
    }

    /// Lets posts under way come to an end, for some seconds, and until `deadline` at most. Not cancel-safe: dropped, all are
    /// cut off.
    pub async fn finish(mut self, deadline: Instant) {
        for name in self.places.keys() {
            if let Some(plan) = self.plan_of(name) {
                plan.over.send_replace(true);
            }
        }
        self.places.clear();
        let deadline = deadline.min(Instant::now() + LAST_WORD);
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next()).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a webhook failed");
            }
        }
        self.tasks.shutdown().await;
    }

    fn plan_of(&self, name: &str) -> Option<Arc<Plan>> {
        self.places.get(name)?.wish.borrow().clone()
    }

    fn turn(&mut self, name: &str, plan: Option<Arc<Plan>>, past: &BTreeMap<String, Vec<TopicFilter>>) {
        let before = self.plan_of(name);
        if let Some(before) = &before {
            before.over.send_replace(true);
        }
        let place = self.places.entry(name.to_owned()).or_insert_with(|| {
            let standing = Arc::new(Standing::new(name, &self.health));
            let (wish, wishes) = watch::channel(None);
            let keeper = Keeper {
                name: name.to_owned(),
                who: Principal::anonymous(&*format!("{SESSIONS}{name}")),
                hub: Arc::clone(&self.hub),
                standing: Arc::clone(&standing),
                subscribed: past.get(name).cloned().unwrap_or_default(),
                has_session: past.contains_key(name),
            };
            self.tasks.spawn(keeper.run(wishes));
            Place { wish, standing }
        });
        match (&plan, before) {
            (Some(_), None) => place.standing.begin("no session yet"),
            (Some(_), Some(_)) => place.standing.begin("its new settings do not hold yet"),
            (None, _) => place.standing.end(),
        }
        place.wish.send_replace(plan);
    }
}

/// Who does what is wished for one name.
struct Keeper {
    name: String,
    who: Principal,
    hub: Arc<dyn Hub>,
    standing: Arc<Standing>,
    /// What the session may have subscribed.
    subscribed: Vec<TopicFilter>,
    has_session: bool,
}

impl Keeper {
    /// Until the wishes end. Not cancel-safe: events that are out go again.
    async fn run(mut self, mut wishes: watch::Receiver<Option<Arc<Plan>>>) {
        // The first one is none.
        while wishes.changed().await.is_ok() {
            let wish = wishes.borrow_and_update().clone();
            if let Some(plan) = wish {
                self.has_session = true;
                let (hub, standing) = (Arc::clone(&self.hub), Arc::clone(&self.standing));
                let named = Named::new(&self.name, self.who.clone(), plan, hub, standing);
                named.run(&mut self.subscribed).await;
            } else if self.has_session {
                self.end_session().await;
                self.has_session = false;
                self.subscribed.clear();
            }
        }
    }

    /// Ends the session, whoever has it. Cancel-safe.
    async fn end_session(&self) {
        let request = Attach { clean: true, protocol: PROTOCOL, ..Attach::default() };
        loop {
            let refused = match self.hub.attach(self.who.clone(), request.clone()).await {
                Ok(attached) => {
                    attached.link.close(Close { will: false, keep: Some(Duration::ZERO) });
                    tracing::info!(hook = self.name, "a webhook was taken out, and its session has ended");
                    return;
                }
                Err(refused) => refused,
            };
            if refused.kind == RejectKind::Closed {
                // The next start finds it.
                return;
            }
            tracing::warn!(hook = self.name, %refused, "the session of a webhook that was taken out does not end");
            sleep(SESSION_PAUSE).await;
        }
    }
}

/// What the sessions of webhooks begin with; the name follows.
pub const SESSIONS: &str = "$hook/";
