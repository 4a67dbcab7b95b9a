//! One task for each name, which goes from one plan to the next: so two never work for the same session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Attach, Close, Hub};
use event::{Health, Principal, RejectKind, TopicFilter};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Part, Place, Plans, Standing};

/// The parts of one kind. Each is the session [`Part::SESSIONS`] and its name, in the hands of one task.
pub struct Parts<P: Part> {
    hub: Arc<dyn Hub>,
    health: Health,
    /// Sessions of an earlier run, and what they subscribed, until it is said which parts there are.
    past: BTreeMap<String, Vec<TopicFilter>>,
    spots: BTreeMap<String, Spot<P>>,
    tasks: JoinSet<()>,
}

/// What became of a name.
struct Spot<P: Part> {
    /// What holds; `None`: it was taken out. Gone with Weft.
    wish: watch::Sender<Option<Wish<P>>>,
    standing: Arc<P::Standing>,
}

struct Wish<P> {
    plan: Arc<P>,
    /// Turns true when it does not hold any more.
    over: watch::Sender<bool>,
}

impl<P> Clone for Wish<P> {
    fn clone(&self) -> Self {
        Self { plan: Arc::clone(&self.plan), over: self.over.clone() }
    }
}

impl<P: Part> Parts<P> {
    /// None so far. `past`: the names of those that an earlier run left sessions of, with what these subscribed.
    pub fn new(hub: Arc<dyn Hub>, health: Health, past: BTreeMap<String, Vec<TopicFilter>>) -> Self {
        Self { hub, health, past, spots: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// What holds for `name`, if there is such a part.
    pub fn plan_of(&self, name: &str) -> Option<Arc<P>> {
        self.wish_of(name).map(|wish| wish.plan)
    }

    /// These are the parts from now on. One that changed first comes to an end with what is under way, and gives back what
    /// waits; then the next takes up its session. One that is not among them ends with its session and all that waits there. Has
    /// to be called within a runtime.
    pub fn follow(&mut self, plans: Plans<P>) {
        let past = std::mem::take(&mut self.past);
        let known: Vec<String> = self.spots.keys().chain(past.keys()).cloned().collect();
        for name in known.into_iter().filter(|name| !plans.contains_key(name)) {
            self.turn(&name, None, &past);
        }
        for (name, plan) in plans {
            if let Some(plan) = plan {
                self.turn(&name, Some(plan), &past);
            }
        }
    }

    /// Lets what is under way come to an end, for [`Part::LAST_WORD`], and until `deadline` at most. Not cancel-safe: dropped, all
    /// are cut off.
    pub async fn finish(mut self, deadline: Instant) {
        for wish in self.spots.keys().filter_map(|name| self.wish_of(name)) {
            wish.over.send_replace(true);
        }
        self.spots.clear();
        let deadline = deadline.min(Instant::now() + P::LAST_WORD);
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next()).await {
            if let Err(error) = ended {
                tracing::error!(%error, sessions = P::SESSIONS, "a part failed");
            }
        }
        if !self.tasks.is_empty() {
            tracing::warn!(
                sessions = P::SESSIONS,
                count = self.tasks.len(),
                "cut off what did not finish in time"
            );
        }
        self.tasks.shutdown().await;
    }

    fn wish_of(&self, name: &str) -> Option<Wish<P>> {
        self.spots.get(name)?.wish.borrow().clone()
    }

    fn turn(&mut self, name: &str, plan: Option<P>, past: &BTreeMap<String, Vec<TopicFilter>>) {
        let before = self.wish_of(name);
        if let Some(before) = &before {
            before.over.send_replace(true);
        }
        let spot = self.spots.entry(name.to_owned()).or_insert_with(|| {
            let standing = Arc::new(P::Standing::new(name, &self.health));
            let (wish, wishes) = watch::channel(None);
            let keeper = Keeper {
                name: Arc::from(name),
                who: Principal::anonymous(&*format!("{}{name}", P::SESSIONS)),
                hub: Arc::clone(&self.hub),
                standing: Arc::clone(&standing),
                subscribed: past.get(name).cloned().unwrap_or_default(),
                has_session: past.contains_key(name),
            };
            self.tasks.spawn(keeper.run(wishes));
            Spot { wish, standing }
        });
        match (&plan, before) {
            (Some(_), None) => spot.standing.begin("it has not begun yet"),
            (Some(_), Some(_)) => spot.standing.begin("its new settings do not hold yet"),
            (None, _) => spot.standing.end(),
        }
        let wish = plan.map(|plan| Wish { plan: Arc::new(plan), over: watch::Sender::new(false) });
        spot.wish.send_replace(wish);
    }
}

/// Who does what is wished for one name.
struct Keeper<S> {
    name: Arc<str>,
    who: Principal,
    hub: Arc<dyn Hub>,
    standing: Arc<S>,
    /// What the session may have subscribed.
    subscribed: Vec<TopicFilter>,
    has_session: bool,
}

impl<S: Standing> Keeper<S> {
    /// Until the wishes end. Not cancel-safe: events that are out go again.
    async fn run<P: Part<Standing = S>>(mut self, mut wishes: watch::Receiver<Option<Wish<P>>>) {
        // The first one is none.
        while wishes.changed().await.is_ok() {
            let wish = wishes.borrow_and_update().clone();
            let keeps = wish.as_ref().is_some_and(|wish| wish.plan.has_session());
            if self.has_session && !keeps {
                self.end_session().await;
                self.subscribed.clear();
            }
            self.has_session = keeps;
            if let Some(Wish { plan, over }) = wish {
                let place = Place {
                    name: Arc::clone(&self.name),
                    who: self.who.clone(),
                    hub: Arc::clone(&self.hub),
                    standing: Arc::clone(&self.standing),
                    over: over.subscribe(),
                };
                plan.run(place, &mut self.subscribed).await;
            }
        }
    }

    /// Ends the session, whoever has it. Cancel-safe.
    async fn end_session(&self) {
        let session = &self.who.client;
        let request = Attach { clean: true, ..Attach::default() };
        loop {
            let refused = match self.hub.attach(self.who.clone(), request.clone()).await {
                Ok(attached) => {
                    attached.link.close(Close { will: false, keep: Some(Duration::ZERO) });
                    tracing::info!(%session, "taken out of the configuration: its session has ended");
                    return;
                }
                Err(refused) => refused,
            };
            if refused.kind == RejectKind::Closed {
                // The next start finds it.
                return;
            }
            tracing::warn!(%session, %refused, "taken out of the configuration, but its session does not end");
            sleep(PAUSE).await;
        }
    }
}

/// Between two tries to end a session.
const PAUSE: Duration = Duration::from_secs(1);
